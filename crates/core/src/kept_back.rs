//! Files that a run left and that nobody gets: what the log keeps of them, and how people are told.

use serde::{Deserialize, Serialize};

use crate::Lang;

/// Names that are told. Of the others only the number is.
const NAMES: usize = 5;
/// Characters of a name.
const NAME_CHARS: usize = 60;

/// A file that is not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// As it is called in its folder, fit to be shown.
    pub name: String,
    /// Why, by the end of a key in the locales: `too_large`, `link`.
    pub why: String,
}

impl KeptFile {
    /// Why, in a language. Of a reason that only a newer Salon knows, its name is left.
    pub fn why_in(&self, lang: Lang) -> String {
        lang.find(&format!("kept_back.{}", self.why), &[]).unwrap_or_else(|| self.why.clone())
    }
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptBack {
    pub files: Vec<KeptFile>,
    /// How many there are besides.
    pub more: i64,
}

impl KeptBack {
    pub fn add(&mut self, files: &[KeptFile], more: i64) {
        self.files.extend_from_slice(files);
        self.more = self.more.saturating_add(more.max(0));
    }

    /// All of it in one line for people; nothing if there is nothing.
    pub fn told(&self, lang: Lang) -> Option<String> {
        if self.files.is_empty() && self.more == 0 {
            return None;
        }
        let named = self.files.iter().take(NAMES).map(|file| {
            let mut name: String = file.name.chars().take(NAME_CHARS).collect();
            if name.len() < file.name.len() {
                name.push('…');
            }
            format!("{name} ({})", file.why_in(lang))
        });
        let mut told: Vec<String> = named.collect();
        let unnamed = self.files.len().saturating_sub(NAMES) as i64;
        let more = self.more.saturating_add(unnamed);
        if more > 0 {
            told.push(lang.say("reply.kept_back.more", &[("count", &more.to_string())]));
        }
        Some(lang.say("reply.kept_back", &[("files", &told.join(", "))]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reasons that there are.
    const REASONS: [&str; 11] = [
        "outside",
        "hidden",
        "missing",
        "link",
        "not_a_file",
        "second_name",
        "too_large",
        "too_many",
        "unreadable",
        "not_stored",
        "not_taken",
    ];

    fn kept(names: &[&str], why: &str, more: i64) -> KeptBack {
        let files = names.iter().map(|name| KeptFile { name: (*name).to_owned(), why: why.to_owned() });
        KeptBack { files: files.collect(), more }
    }

    #[test]
    fn it_is_one_line_in_the_language_of_who_reads() {
        assert_eq!(KeptBack::default().told(Lang::En), None);
        let one = kept(&["film.mp4"], "too_large", 0);
        assert_eq!(one.told(Lang::En).as_deref(), Some("📎 Not delivered: film.mp4 (it is too large)"));
        for lang in Lang::PEOPLE {
            for why in REASONS {
                let kept = kept(&["1.2"], why, 3);
                assert_ne!(kept.files[0].why_in(lang), why);
                let told = kept.told(lang).expect("a line");
                let letters = told.chars().any(|c| c.is_ascii_alphabetic() && lang != Lang::En);
                assert!(!letters && !told.contains('\n'), "{told}");
                assert!(told.contains("1.2 (") && told.contains('3'), "{told}");
            }
        }
        assert!(kept(&["a"], "from_the_future", 0).told(Lang::Ru).is_some_and(|told| told.contains("from_the_future")));
    }

    #[test]
    fn of_many_there_is_a_number_and_of_long_names_the_beginning() {
        let long = "x".repeat(200);
        let told = kept(&["a", "b", "c", "d", &long, "f", "g"], "link", 40).told(Lang::En).expect("a line");
        assert!(told.contains(&format!("{}…", "x".repeat(NAME_CHARS))) && told.ends_with(", 42 more"), "{told}");
        assert!(!told.contains("f (") && told.chars().count() < 300, "{told}");
    }
}
