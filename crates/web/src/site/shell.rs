//! What every page has around it: its language, who looks, and where they are.

use std::borrow::Borrow;

use askama::Template;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use salon::logins::Visit;
use salon_core::limit::Zone;
use salon_core::people::Role;
use salon_core::{Lang, Micros, Time};

use super::assets;
use super::visitor::{Guest, language};
use crate::{Web, error};

/// Where a page stands in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Outside,
    Home,
    Dialogs,
    Panels,
    Keys,
    Usage,
    Account,
    Desk(&'static str),
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Outside => "",
            Place::Home => "home",
            Place::Dialogs => "dialogs",
            Place::Panels => "panels",
            Place::Keys => "keys",
            Place::Usage => "usage",
            Place::Account => "account",
            Place::Desk(name) => name,
        }
    }
}

/// The frame of a page.
#[derive(Clone, Debug)]
pub(crate) struct Shell {
    pub lang: Lang,
    pub place: Place,
    /// Empty where nobody came in.
    pub name: String,
    pub role: Role,
    pub seal: String,
    pub zone: Zone,
    pub now: Time,
    /// What just happened, in a sentence.
    pub notice: Option<String>,
    /// The other organisation that is looked after at the desk.
    pub tending: Option<String>,
    /// Whether they look after the whole house.
    pub wide: bool,
    /// Whether they see, at the desk, what belongs to the whole house.
    pub of_house: bool,
}

impl Shell {
    pub fn of(visit: &Visit, place: Place, lang: Lang, now: Time) -> Shell {
        Shell {
            lang,
            place,
            name: visit.account.user.name.clone(),
            role: visit.account.role(),
            seal: visit.seal.clone(),
            zone: visit.caller.zone.clone(),
            now,
            notice: None,
            tending: None,
            wide: false,
            of_house: false,
        }
    }

    /// The frame for somebody who came in to the pages of everybody, in their language.
    pub fn visiting(web: &Web, visit: &Visit, headers: &HeaderMap, place: Place) -> Shell {
        let lang = language(headers, visit.account.taste.lang.as_deref());
        Shell::of(visit, place, lang, web.salon.clock.now())
    }

    pub fn outside(guest: &Guest, now: Time) -> Shell {
        match &guest.visit {
            Some(visit) => Shell::of(visit, Place::Outside, guest.lang, now),
            None => Shell {
                lang: guest.lang,
                place: Place::Outside,
                name: String::new(),
                role: Role::User,
                seal: String::new(),
                zone: Zone::utc(),
                now,
                notice: None,
                tending: None,
                wide: false,
                of_house: false,
            },
        }
    }

    /// Says what just happened, by the word that a page before this one left in the address.
    pub fn noticing(mut self, done: Option<&str>) -> Shell {
        let known = done.filter(|word| word.len() < 40 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        self.notice = known.and_then(|word| self.lang.find(&format!("page.done.{word}"), &[]));
        self
    }

    /// A sentence of this page.
    pub fn t(&self, key: &str) -> String {
        self.lang.say(&format!("page.{key}"), &[])
    }

    /// The same, if there is such a sentence.
    pub fn find(&self, key: &str) -> Option<String> {
        self.lang.find(&format!("page.{key}"), &[])
    }

    /// The same with one hole.
    pub fn t1(&self, key: &str, hole: &str, value: impl ToString) -> String {
        self.lang.say(&format!("page.{key}"), &[(hole, &value.to_string())])
    }

    /// The same with two.
    pub fn t2(&self, key: &str, one: &(&str, &str), two: &(&str, &str)) -> String {
        self.lang.say(&format!("page.{key}"), &[*one, *two])
    }

    /// A word that the log has, in the reader's language; unknown ones as they stand.
    pub fn word(&self, family: &str, word: &str) -> String {
        self.lang.find(&format!("page.{family}.{word}"), &[]).unwrap_or_else(|| word.to_owned())
    }

    /// Why something was refused, in a sentence.
    pub fn wrong(&self, code: &str) -> String {
        self.lang.find(&format!("page.wrong.{code}"), &[]).unwrap_or_else(|| self.t("wrong.other"))
    }

    pub fn css(&self) -> &'static str {
        &assets::STYLE.path
    }

    pub fn icon(&self) -> &'static str {
        &assets::ICON.path
    }

    pub fn js(&self) -> &'static str {
        &assets::SCRIPT.path
    }

    /// Whether this is the page that the navigation calls so.
    pub fn at(&self, name: &str) -> bool {
        self.place.name() == name
    }

    /// The pages of the desk, as far as there are any for who looks.
    pub fn desk_places(&self) -> Vec<&'static str> {
        // For everybody there, for those of the house, for administrators, for those who look after the whole house.
        const ALL: [(&str, u8); 14] = [
            ("overview", 0),
            ("users", 0),
            ("logs", 0),
            ("stats", 0),
            ("limits", 0),
            ("plans", 0),
            ("held", 0),
            ("keys", 0),
            ("models", 1),
            ("bots", 1),
            ("commands", 1),
            ("audit", 2),
            ("orgs", 3),
            ("settings", 0),
        ];
        let there = |of: u8| match of {
            0 => true,
            1 => self.of_house,
            2 => self.is_admin(),
            _ => self.wide,
        };
        ALL.iter().filter(|(_, of)| there(*of)).map(|(name, _)| *name).collect()
    }

    pub fn desk_path(&self, name: &str) -> String {
        if name == "overview" { "/admin".to_owned() } else { format!("/admin/{name}") }
    }

    pub fn is_desk(&self) -> bool {
        matches!(self.place, Place::Desk(_))
    }

    pub fn is_manager(&self) -> bool {
        self.role >= Role::Manager
    }

    pub fn is_admin(&self) -> bool {
        self.role >= Role::Admin
    }

    /// A moment as people of this zone read it.
    pub fn stamp(&self, at: impl Borrow<Time>) -> String {
        self.zone.stamp(*at.borrow())
    }

    /// A moment as machines read it.
    pub fn iso(&self, at: impl Borrow<Time>) -> String {
        Zone::utc().stamp(*at.borrow()).replace(' ', "T") + "Z"
    }

    pub fn money(&self, micros: impl Borrow<i64>) -> String {
        format!("${}", Micros(*micros.borrow()))
    }

    /// A count with thin spaces between thousands.
    pub fn count(&self, number: impl Borrow<i64>) -> String {
        grouped(*number.borrow())
    }
}

/// Digits in threes, with a narrow space that does not break.
pub(crate) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    if number < 0 { format!("-{out}") } else { out }
}

/// A page as it is sent.
pub(crate) fn page(template: &impl Template) -> Response {
    page_as(StatusCode::OK, template)
}

pub(crate) fn page_as(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => {
            let mut response = (status, Html(html)).into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
            response
        }
        Err(error) => error::fault(&error),
    }
}

/// Our own scripts, styles and pictures, and nothing else. What becomes HTML in a script passes one named gate.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
     frame-src 'self'; form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types salon",
);

/// A field of a form, with what was entered and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Field {
    pub value: String,
    pub wrong: Option<String>,
}

impl Field {
    pub fn of(value: impl Into<String>) -> Field {
        Field { value: value.into(), wrong: None }
    }

    pub fn is_wrong(&self) -> bool {
        self.wrong.is_some()
    }

    pub fn why(&self) -> &str {
        self.wrong.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(-1000), "-1\u{202f}000");
    }
}
