//! Agents that speak the Agent Client Protocol, whoever made them: JSON-RPC in lines, with the agent as the server.
//!
//! What is particular to one of them is an [`Entry`], so another one is a matter of configuration. They are offered
//! neither our files nor a terminal: they have their own, in their cell.

mod talk;
mod tools;

use std::path::PathBuf;

use super::{Errand, Launch, Maker, Policy, Talk, gemini, names};
use crate::EngineError;

/// How one such agent is started. In arguments, environment and files `{url}` is the door to the models, in the last two
/// `{model}` is the model that is asked for; `{key}`, the door's key, is for the environment alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub args: Vec<String>,
    /// Added where a model is asked for.
    pub model_args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Files in its home.
    pub files: Vec<(PathBuf, String)>,
    /// The way to prove itself that is chosen, for agents that want one to be chosen.
    pub auth: Option<String>,
    /// Its mode where it may only look, by the name that it has for it. What it asks is denied in any mode.
    pub read_only: Option<String>,
    /// Its mode where it must ask. It is not run where it has none of that name: many begin in one in which they ask
    /// little. Where nothing is said it is the one that most call `default`, if it has that.
    pub ask: Option<String>,
    /// Whether it does what it wants without asking anybody.
    pub silent: bool,
    /// What is put before the name of a thread to go on with.
    pub thread_prefix: String,
}

/// What many agents call their mode in which they ask.
const USUAL_MODE: &str = "default";

/// A mode that an agent is put into.
#[derive(Clone, Debug)]
struct Mode {
    name: String,
    /// Whether it is not run without.
    is_needed: bool,
}

pub struct Acp {
    entry: Entry,
}

impl Acp {
    pub fn new(entry: Entry) -> Acp {
        Acp { entry }
    }

    /// Gemini's CLI (0.61).
    ///
    /// When it goes on with a thread it first begins a file of the thread's name, and minute, and then looks for the
    /// thread: within the minute in which the thread began, it finds its own new file and knows no such thread. It takes
    /// the name without blanks around it, but names the file with them.
    pub fn gemini() -> Acp {
        let env = [
            ("GOOGLE_GEMINI_BASE_URL", "{url}"),
            ("GEMINI_API_KEY", "{key}"),
            ("GEMINI_CLI_NO_RELAUNCH", "true"),
            ("GEMINI_TELEMETRY_ENABLED", "false"),
            ("NO_COLOR", "1"),
        ];
        Acp::new(Entry {
            args: words(&["--acp", "--skip-trust", "--approval-mode", "default"]),
            model_args: words(&["-m", "{model}"]),
            env: pairs(&env),
            files: vec![(".gemini/settings.json".into(), gemini::SETTINGS.to_owned())],
            auth: None,
            read_only: Some("plan".into()),
            ask: None,
            silent: false,
            thread_prefix: " ".into(),
        })
    }

    /// OpenCode. By itself it allows everything, so it is told to ask.
    pub fn opencode() -> Acp {
        let config = r#"{
  "autoupdate": false,
  "share": "disabled",
  "model": "salon/{model}",
  "permission": { "*": "ask", "read": "allow", "list": "allow", "glob": "allow", "grep": "allow" },
  "provider": {
    "salon": {
      "npm": "@ai-sdk/openai-compatible",
      "options": { "baseURL": "{url}/v1", "apiKey": "{env:SALON_DOOR_KEY}" },
      "models": { "{model}": {} }
    }
  }
}
"#;
        let env =
            [("SALON_DOOR_KEY", "{key}"), ("OPENCODE_DISABLE_AUTOUPDATE", "1"), ("OPENCODE_DISABLE_MODELS_FETCH", "1")];
        Acp::new(Entry {
            args: words(&["acp"]),
            env: pairs(&env),
            files: vec![(".config/opencode/opencode.json".into(), config.into())],
            read_only: Some("plan".into()),
            ..Entry::default()
        })
    }

    /// Qwen Code.
    pub fn qwen() -> Acp {
        let env = [("OPENAI_BASE_URL", "{url}/v1"), ("OPENAI_API_KEY", "{key}"), ("OPENAI_MODEL", "{model}")];
        let settings = r#"{
  "security": { "auth": { "selectedType": "openai" } },
  "privacy": { "usageStatisticsEnabled": false },
  "general": { "disableAutoUpdate": true }
}
"#;
        Acp::new(Entry {
            args: words(&["--acp", "--auth-type", "openai", "--approval-mode", "default"]),
            env: pairs(&env),
            files: vec![(".qwen/settings.json".into(), settings.into())],
            read_only: Some("plan".into()),
            ..Entry::default()
        })
    }

    /// Goose. It asks in its mode `approve`.
    pub fn goose() -> Acp {
        let env = [
            ("GOOSE_PROVIDER", "openai"),
            ("GOOSE_MODEL", "{model}"),
            ("OPENAI_HOST", "{url}"),
            ("OPENAI_API_KEY", "{key}"),
            ("GOOSE_MODE", "approve"),
            ("GOOSE_DISABLE_KEYRING", "1"),
        ];
        Acp::new(Entry { args: words(&["acp"]), env: pairs(&env), ..Entry::default() })
    }
}

impl Maker for Acp {
    fn launch(&self, errand: &Errand) -> Result<Launch, EngineError> {
        let model = names::model(errand)?;
        names::thread(errand)?;
        let Entry { args, model_args, env, files, .. } = &self.entry;
        let mut texts = env.iter().map(|(_, value)| value).chain(files.iter().map(|(_, text)| text));
        if model.is_none() && texts.any(|text| text.contains("{model}")) {
            return Err(names::refused("agent_needs_model"));
        }
        let url = format!("http://127.0.0.1:{}", errand.door.port);
        let mut all: Vec<String> = args.iter().map(|arg| arg.replace("{url}", &url)).collect();
        if let Some(model) = model {
            all.extend(model_args.iter().map(|arg| arg.replace("{model}", model)));
        }
        // The names of models are letters, digits and marks that mean nothing within a string of JSON.
        let filled = |text: &String| text.replace("{url}", &url).replace("{model}", model.unwrap_or_default());
        let key = errand.door.key.expose();
        Ok(Launch {
            args: all,
            env: env.iter().map(|(name, value)| (name.clone(), filled(value).replace("{key}", key))).collect(),
            files: files.iter().map(|(path, text)| (path.clone(), filled(text))).collect(),
        })
    }

    fn talk(&self, errand: &Errand) -> Box<dyn Talk> {
        let named = |name: &Option<String>| name.clone().map(|name| Mode { name, is_needed: false });
        let mode = match (errand.policy, &self.entry.ask) {
            (Policy::ReadOnly, _) => named(&self.entry.read_only),
            (Policy::Ask, Some(ask)) => Some(Mode { name: ask.clone(), is_needed: true }),
            (Policy::Ask, None) => named(&Some(USUAL_MODE.to_owned())),
            (Policy::Workspace | Policy::Full, _) => None,
        };
        Box::new(talk::AcpTalk::new(errand, &self.entry, mode))
    }

    fn asks(&self) -> bool {
        !self.entry.silent
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests;
