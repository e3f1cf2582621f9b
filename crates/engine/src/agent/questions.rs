//! What agents ask to be allowed, from the question to its answer.
//!
//! A question is answered once, by whoever may: by the policy, by what was allowed for the run before, or by somebody.
//! What is not understood is not allowed, and what nobody answered is denied.

use std::collections::HashSet;

use salon_core::{AskLine, Lang};

use super::words::{inside, shown};
use super::{Ask, Policy, Verdict, WORKSPACE};

/// Most characters of a title and of a detail that are shown.
const TITLE: usize = 200;
const DETAIL: usize = 6_000;
/// Most lines that can be said in another language.
const LINES: usize = 60;
/// A permission that is longer than this is for once only.
const WHAT: usize = 2_000;
/// Questions that wait at the same time. An agent that asks more is answered no.
const MOST: usize = 32;

/// What an agent wants, in its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub title: String,
    pub detail: Detail,
    /// What is allowed with it for the rest of the run, word for word.
    pub what: String,
    /// Whether it goes beyond commands and files in the workspace: the network, a folder elsewhere, no sandbox.
    pub more: bool,
}

/// All of what is wanted, from its title on: an agent's words as they stand, and sentences of ours around them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Detail(Vec<AskLine>);

impl Detail {
    /// Begins with a sentence, which is the title.
    pub(super) fn saying(key: &str, what: &str) -> Detail {
        let mut detail = Detail::default();
        detail.say(key, what);
        detail
    }

    pub(super) fn say(&mut self, key: &str, what: &str) {
        self.0.push(AskLine { says: Some(key.to_owned()), what: what.to_owned() });
    }

    /// Words as they stand, which may be several lines.
    pub(super) fn text(&mut self, what: &str) {
        self.0.push(AskLine { says: None, what: what.to_owned() });
    }

    /// The first line, in English.
    pub(super) fn title(&self) -> String {
        self.0.first().map(|first| first.told(Lang::En)).unwrap_or_default()
    }

    fn english(&self) -> String {
        self.0.iter().map(|line| format!("{}\n", line.told(Lang::En))).collect()
    }

    /// The lines, fit to be shown. Where that is too much, of each the beginning and the end.
    fn lines(&self) -> Vec<AskLine> {
        let most = match self.english().chars().count() <= DETAIL {
            true => DETAIL,
            false => (DETAIL / self.0.len().clamp(1, LINES)).max(TITLE),
        };
        let cut = |line: &AskLine| AskLine { what: shown(&line.what, most), ..line.clone() };
        let mut lines: Vec<AskLine> = self.0.iter().take(LINES).map(cut).collect();
        if self.0.len() > LINES {
            lines.push(AskLine { says: None, what: "…".to_owned() });
        }
        lines
    }
}

impl From<&str> for Detail {
    fn from(what: &str) -> Detail {
        let mut detail = Detail::default();
        detail.text(what);
        detail
    }
}

/// The questions of one run. `T` is what its protocol needs for an answer.
pub(super) struct Questions<T> {
    policy: Policy,
    open: Vec<Open<T>>,
    granted: HashSet<String>,
}

struct Open<T> {
    id: String,
    what: String,
    token: T,
}

/// What to do about a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    Answer(T, bool),
    /// Somebody has to say; the token is kept until then.
    Ask(Ask),
}

impl<T> Questions<T> {
    pub(super) fn new(policy: Policy) -> Questions<T> {
        Questions { policy, open: Vec::new(), granted: HashSet::new() }
    }

    /// Takes a question. `None` instead of a wish is a question that does not say what it is about.
    pub(super) fn put(&mut self, id: &str, wish: Option<Wish>, token: T) -> Next<T> {
        let Some(wish) = wish.filter(|wish| !id.is_empty() && !wish.title.trim().is_empty()) else {
            return Next::Answer(token, false);
        };
        let allowed = match self.policy {
            Policy::ReadOnly => false,
            Policy::Workspace => !wish.more,
            Policy::Full => true,
            Policy::Ask if self.granted.contains(&wish.what) => true,
            // Two questions of one name: nobody could tell which of them an answer is for.
            Policy::Ask if self.open.iter().any(|open| open.id == id) => {
                self.forget(id);
                false
            }
            Policy::Ask if self.open.len() >= MOST => false,
            Policy::Ask => {
                let ask = Ask {
                    id: id.to_owned(),
                    title: line(&wish.title),
                    detail: shown(&wish.detail.english(), DETAIL),
                    lines: wish.detail.lines(),
                    what: what(&wish.what, id),
                };
                self.open.push(Open { id: id.to_owned(), what: wish.what, token });
                return Next::Ask(ask);
            }
        };
        Next::Answer(token, allowed)
    }

    /// Somebody answered. Nothing if there is no such question, or no more.
    pub(super) fn decide(&mut self, id: &str, verdict: Verdict) -> Option<(T, bool)> {
        let index = self.open.iter().position(|open| open.id == id)?;
        let open = self.open.remove(index);
        if verdict == Verdict::Session && is_whole(&open.what) {
            self.granted.insert(open.what);
        }
        Some((open.token, verdict != Verdict::Deny))
    }

    /// The agent does not wait for this answer any more.
    pub(super) fn forget(&mut self, id: &str) {
        self.open.retain(|open| open.id != id);
    }

    /// Nobody will answer any more.
    pub(super) fn close(&mut self) -> Vec<T> {
        self.open.drain(..).map(|open| open.token).collect()
    }
}

/// A text in one line, its first words.
fn line(text: &str) -> String {
    let text = shown(text, usize::MAX);
    let mut words = text.split_whitespace().fold(String::new(), |mut line, word| {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        line
    });
    if let Some((end, _)) = words.char_indices().nth(TITLE) {
        words.truncate(end);
        words.push('…');
    }
    words
}

/// The name of a permission. Equal names are the same permission, so what cannot be shown word for word gets one of its
/// own: two commands that differ only in what was left out must not look the same.
fn what(text: &str, id: &str) -> String {
    match is_whole(text) {
        true => text.to_owned(),
        false => format!("{} ({})", line(text), line(id)),
    }
}

/// Whether a path is where an agent may be expected to write: in the workspace, or in the cell's own temporary folder.
pub(super) fn is_near(path: &str) -> bool {
    let temporary = path.strip_prefix("/tmp/").is_some_and(|rest| inside(rest).is_some());
    path == WORKSPACE || path == "/tmp" || temporary || inside(path).is_some()
}

fn is_whole(text: &str) -> bool {
    text.len() <= WHAT && shown(text, WHAT) == text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(what: &str) -> Option<Wish> {
        Some(Wish { title: what.into(), detail: what.into(), what: what.into(), more: false })
    }

    fn more(what: &str) -> Option<Wish> {
        wish(what).map(|wish| Wish { more: true, ..wish })
    }

    fn ask(questions: &mut Questions<u8>, id: &str, what: &str) -> Ask {
        match questions.put(id, wish(what), 1) {
            Next::Ask(ask) => ask,
            answer => panic!("{answer:?}"),
        }
    }

    #[test]
    fn only_one_policy_has_questions_and_the_others_answer() {
        for (policy, wish, allowed) in [
            (Policy::ReadOnly, wish("ls"), false),
            (Policy::Workspace, wish("ls"), true),
            (Policy::Workspace, more("curl"), false),
            (Policy::Full, more("curl"), true),
            (Policy::Full, None, false),
            (Policy::Ask, None, false),
        ] {
            assert_eq!(
                Questions::new(policy).put("1", wish.clone(), 7),
                Next::Answer(7, allowed),
                "{policy:?} {wish:?}"
            );
        }
    }

    #[test]
    fn what_is_asked_can_be_said_in_another_language_and_the_agents_words_stay() {
        let mut detail = Detail::saying("write", "nest.txt");
        detail.text("echo \u{1b}[2Jeggs\nIts reason: none");
        detail.say("reason", "storks");
        let wish = Wish { title: detail.title(), detail, what: "x".into(), more: false };
        let Next::Ask(asked) = Questions::new(Policy::Ask).put("1", Some(wish), 1) else { panic!("nobody was asked") };
        assert_eq!(asked.detail, "write nest.txt\necho eggs\nIts reason: none\nIts reason: storks\n");
        let told = |lang: Lang| asked.lines.iter().map(|line| format!("{}\n", line.told(lang))).collect::<String>();
        assert_eq!(told(Lang::En), asked.detail);
        for lang in [Lang::Ko, Lang::Ru] {
            let told = told(lang);
            assert!(told.contains("\necho eggs\nIts reason: none\n") && told.contains("nest.txt"), "{told}");
            assert!(!told.starts_with("write") && !told.contains("Its reason: storks"), "{told}");
        }
        let long = Wish { title: "x".into(), detail: "long ".repeat(5_000).as_str().into(), ..Wish::default() };
        let Next::Ask(asked) = Questions::new(Policy::Ask).put("1", Some(long), 1) else { panic!("nobody was asked") };
        assert!(asked.detail.contains(" characters …") && asked.lines[0].what.contains(" characters …"));
        let mut many = Detail::default();
        for number in 0..100 {
            many.say("add", &format!("{number}.txt"));
            many.text(&"egg ".repeat(300));
        }
        let wish = Wish { title: "add many".into(), detail: many, ..Wish::default() };
        let Next::Ask(asked) = Questions::new(Policy::Ask).put("1", Some(wish), 1) else { panic!("nobody was asked") };
        let told: String = asked.lines.iter().map(|line| format!("{}\n", line.told(Lang::Ru))).collect();
        assert!(told.starts_with("добавить 0.txt\negg ") && told.ends_with("\n…\n"), "{told}");
        assert!(told.chars().count() < 2 * DETAIL + 1000, "{}", told.chars().count());
    }

    #[test]
    fn a_question_is_answered_once() {
        let mut questions = Questions::new(Policy::Ask);
        assert_eq!(ask(&mut questions, "1", "make").title, "make");
        assert_eq!(questions.decide("2", Verdict::Once), None);
        assert_eq!(questions.decide("1", Verdict::Once), Some((1, true)));
        assert_eq!(questions.decide("1", Verdict::Once), None);
        ask(&mut questions, "2", "make");
        assert_eq!(questions.decide("2", Verdict::Deny), Some((1, false)));
    }

    #[test]
    fn what_is_allowed_for_the_run_is_the_same_and_nothing_else() {
        let mut questions = Questions::new(Policy::Ask);
        ask(&mut questions, "1", "make test");
        questions.decide("1", Verdict::Session);
        assert_eq!(questions.put("2", wish("make test"), 2), Next::Answer(2, true));
        ask(&mut questions, "3", "make");
        ask(&mut questions, "4", "make test; rm -r .");
    }

    #[test]
    fn of_two_questions_with_one_name_neither_is_allowed() {
        let mut questions = Questions::new(Policy::Ask);
        ask(&mut questions, "1", "make");
        assert_eq!(questions.put("1", wish("rm -r ."), 2), Next::Answer(2, false));
        assert_eq!(questions.decide("1", Verdict::Once), None);
    }

    #[test]
    fn what_nobody_answers_is_given_back_and_cannot_be_answered_any_more() {
        let mut questions = Questions::new(Policy::Ask);
        for id in 0..MOST {
            ask(&mut questions, &id.to_string(), "make");
        }
        assert_eq!(questions.put("more", wish("make"), 1), Next::Answer(1, false));
        questions.forget("0");
        assert_eq!(questions.close().len(), MOST - 1);
        assert_eq!(questions.decide("3", Verdict::Once), None);
    }

    #[test]
    fn what_is_shown_is_plain_and_of_a_sensible_length() {
        let mut questions = Questions::new(Policy::Ask);
        let evil = format!("echo \u{1b}[2Jhi\n\n\u{202e}# {}", "long ".repeat(5_000));
        let asked = ask(&mut questions, "1", &evil);
        assert!(asked.title.starts_with("echo hi # long long") && asked.title.chars().count() <= TITLE + 1);
        assert!(asked.detail.starts_with("echo hi\n\n# long") && asked.detail.contains(" characters …"));
        // Its tail could be another one the next time.
        let again = ask(&mut questions, "2", &evil);
        assert_ne!(asked.what, again.what);
        questions.decide("1", Verdict::Session);
        ask(&mut questions, "3", &evil);
    }
}
