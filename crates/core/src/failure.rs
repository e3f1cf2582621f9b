//! How an agent's run failed, as the log of its turn keeps it: one English sentence, in which there may be a reason. It is
//! written and read here, so that whoever shows the turn can say it in another language.
//!
//! Reasons are an agent's own words, or ours. What an agent said stays as it is in any language.

use crate::Lang;

/// The reasons that are ours, by the ends of their keys in the locales. Each may have one hole.
const REASONS: [&str; 14] = [
    "timed_out",
    "idle",
    "flood",
    "memory",
    "disk",
    "lost",
    "exit",
    "signal",
    "stopped",
    "too_long",
    "too_many_calls",
    "refuses",
    "no_thread",
    "protocol",
];

/// The English sentence for a failure of this code, with the reason if there is one.
pub fn written(code: &str, reason: &str) -> String {
    match reason.is_empty() {
        true => Lang::En.say(&format!("failure.{code}"), &[]),
        false => Lang::En.say(&format!("failure.{code}.why"), &[("why", reason)]),
    }
}

/// What is said of a failure in a language. Where there is no sentence for the code, the engine's own English one is all
/// there is.
pub fn said(lang: Lang, code: &str, message: &str) -> String {
    let why = format!("failure.{code}.why");
    if let Some(reason) = Lang::En.find(&why, &[("why", HOLE)]).and_then(|known| filling(&known, message)) {
        return lang.say(&why, &[("why", &reason_in(lang, reason))]);
    }
    told_again(lang, &format!("failure.{code}.told"), message)
        .or_else(|| lang.find(&format!("failure.{code}"), &[]))
        .unwrap_or_else(|| message.to_owned())
}

/// A sentence with several holes in another language, if it was made of the English one.
fn told_again(lang: Lang, key: &str, message: &str) -> Option<String> {
    let known = Lang::En.find(key, &HOLES.map(|name| (name, HOLE)))?;
    let mut parts = known.split(HOLE);
    let mut rest = message.strip_prefix(parts.next()?)?;
    let mut holes = Vec::new();
    for (name, part) in HOLES.into_iter().zip(parts) {
        let (what, behind) = if part.is_empty() { (rest, "") } else { rest.split_once(part)? };
        holes.push((name, what));
        rest = behind;
    }
    rest.is_empty().then(|| lang.say(key, &holes))
}

/// A reason in a language, if it is one of ours.
fn reason_in(lang: Lang, reason: &str) -> String {
    for name in REASONS {
        let key = format!("reason.{name}");
        let Some(known) = Lang::En.find(&key, &[("what", HOLE)]) else { continue };
        if known == reason {
            return lang.say(&key, &[]);
        }
        if let Some(what) = filling(&known, reason) {
            return lang.say(&key, &[("what", what)]);
        }
    }
    reason.to_owned()
}

/// The holes of such a sentence, in the order of the English one.
const HOLES: [&str; 3] = ["panel", "least", "most"];

/// Stands where a hole was. Nobody's words have it: control characters are taken out of them.
const HOLE: &str = "\u{0}";

/// What fills the hole of a sentence in a text that was made of it.
fn filling<'a>(known: &str, text: &'a str) -> Option<&'a str> {
    let (before, behind) = known.split_once(HOLE)?;
    text.strip_prefix(before)?.strip_suffix(behind).filter(|what| !what.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_a_sentence_of_ours_that_is_translated() {
        let holes = [("panel", "council"), ("least", "0.02"), ("most", "0.01")];
        let written = Lang::En.say("failure.over_ceiling.told", &holes);
        assert_eq!(said(Lang::En, "over_ceiling", &written), written);
        for lang in [Lang::Ko, Lang::Ru] {
            let told = said(lang, "over_ceiling", &written);
            assert_eq!(told, lang.say("failure.over_ceiling.told", &holes));
            assert!(
                told.contains("council") && told.contains("0.02") && told.contains("0.01") && told != written,
                "{told}"
            );
        }
        assert_eq!(said(Lang::Ru, "over_ceiling", "Something else."), "Something else.");
    }

    #[test]
    fn what_an_agent_said_stays_and_what_we_say_around_it_is_translated() {
        let written = written("agent_failed", "error: unexpected argument '--json' found");
        assert_eq!(written, "The agent failed: error: unexpected argument '--json' found");
        assert_eq!(said(Lang::En, "agent_failed", &written), written);
        for lang in [Lang::Ko, Lang::Ru] {
            let told = said(lang, "agent_failed", &written);
            assert!(
                told.ends_with("error: unexpected argument '--json' found") && !told.contains("The agent"),
                "{told}"
            );
            assert!(!said(lang, "agent_failed", "The agent failed.").contains("agent"));
        }
        assert_eq!(said(Lang::Ru, "tired", "I am tired."), "I am tired.");
    }

    #[test]
    fn reasons_of_ours_are_said_in_the_language_too() {
        for name in REASONS {
            let reason = Lang::En.say(&format!("reason.{name}"), &[("what", "9")]);
            let written = written("agent_ended", &reason);
            assert_eq!(said(Lang::En, "agent_ended", &written), written, "{name}");
            for lang in [Lang::Ko, Lang::Ru] {
                let told = said(lang, "agent_ended", &written);
                assert!(!told.chars().any(|c| c.is_ascii_alphabetic()), "{name}: {told}");
                assert_eq!(told.contains('9'), reason.contains('9'), "{name}: {told}");
            }
        }
    }

    #[test]
    fn a_sentence_of_another_code_is_not_taken_apart() {
        assert_eq!(said(Lang::En, "agent_cut", "The agent failed: x"), "The agent ended before it had finished.");
    }
}
