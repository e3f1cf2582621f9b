//! What we say to people, in every language.
//!
//! The texts live in `locales/*.toml`, and those of pages in `locales/pages/*.toml`, flat: a key, and a sentence with
//! `{holes}`. English is complete by definition
//! and a test holds the others to it; what an engine says of its server is English already, and has sentences in the
//! other languages only. [`Lang::Bridge`] is no language of people: it is the exact wording that programs
//! match, used wherever a bot shows the `events` view, and it falls back to English.

use std::collections::BTreeMap;
use std::sync::OnceLock;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lang {
    #[default]
    En,
    Ko,
    Ru,
    Bridge,
}

type Table = BTreeMap<String, String>;

impl Lang {
    pub const PEOPLE: [Lang; 3] = [Lang::En, Lang::Ko, Lang::Ru];

    /// Reads an IETF tag such as `ko-KR`; anything unknown is English.
    pub fn from_tag(tag: Option<&str>) -> Lang {
        let primary = tag.unwrap_or_default().split(['-', '_']).next().unwrap_or_default();
        match primary.to_ascii_lowercase().as_str() {
            "ko" => Lang::Ko,
            "ru" => Lang::Ru,
            _ => Lang::En,
        }
    }

    pub fn tag(self) -> &'static str {
        match self {
            Lang::En | Lang::Bridge => "en",
            Lang::Ko => "ko",
            Lang::Ru => "ru",
        }
    }

    /// The sentence under `key`, its holes filled in one pass: values are never read for holes again.
    ///
    /// An unknown key is a mistake in our code; people see the key, and the tests fail.
    pub fn say(self, key: &str, holes: &[(&str, &str)]) -> String {
        let said = self.find(key, holes);
        debug_assert!(said.is_some(), "no sentence for {key}");
        said.unwrap_or_else(|| key.to_owned())
    }

    /// The sentence under a key that may not exist, such as one made of an error code.
    pub fn find(self, key: &str, holes: &[(&str, &str)]) -> Option<String> {
        let text = self.table().get(key).or_else(|| Lang::En.table().get(key))?;
        Some(fill(text, holes))
    }

    fn table(self) -> &'static Table {
        static TABLES: OnceLock<[Table; 4]> = OnceLock::new();
        let [en, ko, ru, bridge] = TABLES.get_or_init(|| {
            [
                [include_str!("../../../locales/en.toml"), include_str!("../../../locales/pages/en.toml")],
                [include_str!("../../../locales/ko.toml"), include_str!("../../../locales/pages/ko.toml")],
                [include_str!("../../../locales/ru.toml"), include_str!("../../../locales/pages/ru.toml")],
                [include_str!("../../../locales/bridge.toml"), ""],
            ]
            .map(|texts| {
                let tables =
                    texts.map(|text| toml::from_str::<Table>(text).expect("locale files are tables of strings"));
                tables.into_iter().flatten().collect()
            })
        });
        match self {
            Lang::En => en,
            Lang::Ko => ko,
            Lang::Ru => ru,
            Lang::Bridge => bridge,
        }
    }
}

fn fill(text: &str, holes: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let Some(close) = rest[open..].find('}').map(|at| open + at) else { break };
        let name = &rest[open + 1..close];
        match holes.iter().find(|(hole, _)| *hole == name) {
            Some((_, value)) => {
                out.push_str(&rest[..open]);
                out.push_str(value);
            }
            None => out.push_str(&rest[..=close]),
        }
        rest = &rest[close + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holes(text: &str) -> Vec<&str> {
        let mut names: Vec<_> =
            text.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    #[test]
    fn every_language_says_everything_with_the_same_holes() {
        let english = Lang::En.table();
        for lang in [Lang::Ko, Lang::Ru] {
            let table = lang.table();
            let keys = |t: &Table| t.keys().filter(|key| !told_by_engines(key)).cloned().collect::<Vec<_>>();
            assert_eq!(keys(table), keys(english), "{lang:?} has other keys than English");
            for (key, text) in table.iter().filter(|(key, _)| !told_by_engines(key)) {
                assert_eq!(holes(text), holes(&english[key]), "{lang:?} {key}");
            }
        }
        for (key, text) in Lang::Bridge.table() {
            let english = english.get(key).unwrap_or_else(|| panic!("bridge has {key}, English does not"));
            let known = holes(english);
            assert!(holes(text).iter().all(|hole| known.contains(hole)), "bridge {key}");
        }
    }

    fn told_by_engines(key: &str) -> bool {
        key.starts_with("failure.upstream_")
    }

    #[test]
    fn what_engines_tell_in_english_is_told_in_every_other_language() {
        let told = |lang: Lang| lang.table().keys().filter(|key| told_by_engines(key)).collect::<Vec<_>>();
        assert!(told(Lang::En).is_empty(), "nobody would ever read these");
        assert_eq!(told(Lang::Ko), told(Lang::Ru));
        assert!(!told(Lang::Ko).is_empty());
        assert!(told(Lang::Ko).iter().all(|key| holes(&Lang::Ko.table()[*key]).is_empty()));
    }

    #[test]
    fn a_value_is_not_read_for_holes_again() {
        assert_eq!(fill("{a} and {b}", &[("a", "{b}"), ("b", "x")]), "{b} and x");
        assert_eq!(fill("{ open", &[]), "{ open");
    }

    #[test]
    fn tags_choose_a_language() {
        assert_eq!(Lang::from_tag(Some("ko-KR")), Lang::Ko);
        assert_eq!(Lang::from_tag(Some("RU")), Lang::Ru);
        assert_eq!(Lang::from_tag(Some("de")), Lang::En);
        assert_eq!(Lang::from_tag(None), Lang::En);
    }
}
