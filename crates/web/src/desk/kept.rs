//! A form that waits until whoever sent it has shown that it is them. It waits in the browser, as text of another form, and
//! comes back to be looked at and sent: nothing is done by the proof itself.
//!
//! What is secret is left out, and entered once more.

use serde_json::json;

use crate::site::shell::Shell;
use crate::site::visitor::serde_form;

/// Names of fields that are never kept, and one place where one of them is no secret but a word.
const SECRETS: [&str; 5] = ["password", "token", "key", "code", "secret"];
const NO_SECRET: (&str, &str) = ("/admin/models/upstream", "key");
/// More than any form of the desk has, and no longer than any.
const MOST_FIELDS: usize = 64;
const LONGEST: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Where it was sent to.
    pub path: String,
    fields: Vec<(String, Value)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Secret,
}

/// How a field is shown when the form comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Line,
    Lines,
    Tick,
    Secret,
}

pub(super) struct Field<'k> {
    pub name: &'k str,
    pub label: String,
    pub value: &'k str,
    pub shape: Shape,
}

impl Kept {
    /// What of a form can be kept.
    pub fn of(path: &str, body: &[u8]) -> Kept {
        Kept::without_secrets(path, serde_form(body).unwrap_or_default())
    }

    fn without_secrets(path: &str, fields: Vec<(String, String)>) -> Kept {
        let is_secret = |name: &str| SECRETS.contains(&name) && NO_SECRET != (path, name);
        let fields = fields.into_iter().filter(|(name, _)| name != "seal").take(MOST_FIELDS);
        let fields = fields.map(|(name, value)| {
            let value = if is_secret(&name) { Value::Secret } else { Value::Text(value) };
            (name, value)
        });
        Kept { path: path.to_owned(), fields: fields.collect() }
    }

    /// The fields as one text, to wait in another form.
    pub fn text(&self) -> String {
        let fields = self.fields.iter().map(|(name, value)| match value {
            Value::Text(value) => json!([name, value]),
            Value::Secret => json!([name, ""]),
        });
        serde_json::Value::Array(fields.collect()).to_string()
    }

    /// What waited. `None` if it was sent to no place of the desk.
    pub fn read(path: &str, text: &str) -> Option<Kept> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
        let ours = path.strip_prefix("/admin/").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(plain));
        if !ours || path.contains("..") || text.len() > LONGEST {
            return None;
        }
        Some(Kept::without_secrets(path, serde_json::from_str(text).ok()?))
    }

    /// The fields to be looked at and sent.
    pub fn fields(&self, shell: &Shell) -> Vec<Field<'_>> {
        let shown = self.fields.iter().map(|(name, value)| {
            let (value, shape) = match value {
                Value::Secret => ("", Shape::Secret),
                Value::Text(value) if value == "on" => (value.as_str(), Shape::Tick),
                Value::Text(value) if value.contains(['\r', '\n']) => (value.as_str(), Shape::Lines),
                Value::Text(value) => (value.as_str(), Shape::Line),
            };
            Field { name, label: label(shell, name), value, shape }
        });
        shown.collect()
    }
}

/// What a field is called on the page it came from.
fn label(shell: &Shell, name: &str) -> String {
    let own = match name {
        "name" => "register.name",
        "email" => "login.email",
        "provider" => "keys.provider",
        "base_url" => "keys.base_url",
        "key" => "keys.key",
        "engine" => "chat.engine",
        "model" => "usage.model",
        "valid_from" => "desk.models.from",
        "password" => "desk.users.password",
        "bot_pause_message" => "desk.settings.pause",
        "default_engine" => "desk.settings.engine",
        "hidden" => "desk.models.hide",
        _ => "",
    };
    let family = ["models", "bots", "users", "settings", "orgs"].map(|family| format!("desk.{family}.{name}"));
    let keys = [own.to_owned()].into_iter().chain(family);
    let word = keys.into_iter().find_map(|key| shell.find(&key));
    word.unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_waits_nowhere() {
        let body = b"seal=abc&id=heron&token=1001%3Acanary&everyone=on&text=two%0Alines&password=canary";
        let kept = Kept::of("/admin/bots", body);
        assert!(!kept.text().contains("canary") && !kept.text().contains("seal"), "{}", kept.text());
        let back = Kept::read("/admin/bots", &kept.text()).expect("it comes back");
        assert_eq!(back, kept);
        assert_eq!(back.fields[1], ("token".to_owned(), Value::Secret));
        // Whose key is shown is a word there, and a key elsewhere.
        let word = Kept::of("/admin/models/upstream", b"key=vault");
        assert_eq!(word.fields, [("key".to_owned(), Value::Text("vault".to_owned()))]);
        assert_eq!(Kept::of("/admin/keys", b"key=sk-canary").fields, [("key".to_owned(), Value::Secret)]);
    }

    #[test]
    fn what_waits_goes_to_the_desk_alone() {
        for path in ["/admin/users/01ARZ3NDEKTSV4RRFFQ69G5FAV/remove", "/admin/models/model", "/admin/bots/a-b.c"] {
            assert!(Kept::read(path, "[]").is_some(), "{path}");
        }
        for path in ["", "/admin", "/admin/", "/account", "//evil.example/admin/", "/admin/../login", "/admin/x?y=1"] {
            assert_eq!(Kept::read(path, "[]"), None, "{path}");
        }
        assert_eq!(Kept::read("/admin/x", "no list"), None);
        assert_eq!(Kept::read("/admin/x", &format!("[]{}", " ".repeat(LONGEST))), None);
    }
}
