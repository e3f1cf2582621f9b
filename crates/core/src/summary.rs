//! The rolling summary: what a dialog remembers when its turns no longer fit.

/// Characters of one flattened question or answer.
const EXCERPT_CHARS: usize = 300;
/// Command notes of one turn.
const COMMANDS: usize = 10;
/// Characters of the whole summary.
pub const SUMMARY_CHARS: usize = 4000;

const PREVIOUS: &str = "## Previous Summary";

/// What happened in the turn that is added.
#[derive(Clone, Copy, Debug)]
pub struct Happened<'a> {
    pub question: &'a str,
    pub answer: &'a str,
    pub error: Option<&'a str>,
    pub commands: &'a [String],
}

/// Adds a turn to the rolling summary. When it grows too long the *oldest* lines go: the newest turn is always whole.
pub fn roll(previous: &str, happened: Happened<'_>) -> String {
    let mut newest = String::from("## Goal\n- ");
    newest.push_str(&excerpt(happened.question));
    newest.push_str("\n## Decisions\n- ");
    newest.push_str(&excerpt(happened.answer));
    if let Some(error) = happened.error {
        newest.push_str("\n## Open Issues\n- ");
        newest.push_str(&excerpt(error));
    }
    if !happened.commands.is_empty() {
        newest.push_str("\n## Key Artifacts");
        for command in happened.commands.iter().take(COMMANDS) {
            newest.push_str("\n- ");
            newest.push_str(&excerpt(command));
        }
    }
    let older = previous.strip_prefix(PREVIOUS).unwrap_or(previous).trim();
    if older.is_empty() {
        return newest;
    }
    let room = SUMMARY_CHARS.saturating_sub(newest.chars().count() + PREVIOUS.len() + 4);
    let older = tail(older, room);
    format!("{PREVIOUS}\n{older}\n\n{newest}")
}

/// The last `chars` characters, cut at a line break where there is one, and marked when something was cut.
fn tail(text: &str, chars: usize) -> String {
    const MARK: &str = "[truncated]\n";
    let count = text.chars().count();
    if count <= chars {
        return text.to_owned();
    }
    let keep = chars.saturating_sub(MARK.len());
    let start = text.char_indices().nth(count - keep).map_or(text.len(), |(at, _)| at);
    let kept = &text[start..];
    let kept = kept.find('\n').map_or(kept, |at| &kept[at + 1..]);
    format!("{MARK}{kept}")
}

/// One line of at most `EXCERPT_CHARS` characters.
fn excerpt(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match flat.char_indices().nth(EXCERPT_CHARS) {
        Some((at, _)) => format!("{}…", &flat[..at]),
        None => flat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happened<'a>(question: &'a str, answer: &'a str) -> Happened<'a> {
        Happened { question, answer, error: None, commands: &[] }
    }

    #[test]
    fn after_a_hundred_turns_the_newest_is_still_recorded() {
        let mut summary = String::new();
        for n in 1..=100 {
            let question = format!("question {n} {}", "long ".repeat(100));
            summary = roll(&summary, happened(&question, &format!("answer {n}")));
            assert!(summary.chars().count() <= SUMMARY_CHARS, "{} characters", summary.chars().count());
            assert!(summary.contains(&format!("answer {n}")));
        }
        assert!(summary.contains("[truncated]"));
        assert!(!summary.contains("question 1 "));
    }

    #[test]
    fn a_first_summary_has_no_previous_part() {
        assert_eq!(roll("", happened("a\n b", "c")), "## Goal\n- a b\n## Decisions\n- c");
    }

    #[test]
    fn korean_is_cut_between_characters() {
        let summary = roll("", happened(&"가".repeat(1000), "답"));
        assert!(summary.contains(&format!("{}…", "가".repeat(300))));
    }
}
