//! What somebody could ask next, as a model suggests it: what it is shown, and what of its words may be shown.

/// Suggestions that are shown, and the longest of them, in characters.
const MOST: usize = 3;
const LONGEST: usize = 120;
/// Characters of the question and of the answer that a model is shown.
const QUESTION: usize = 2_000;
const ANSWER: usize = 4_000;

/// What a model is shown: what was asked and answered last.
pub fn shown(question: &str, answer: &str) -> String {
    let short = |text: &str, most: usize| text.trim().chars().take(most).collect::<String>();
    format!("# Question\n\n{}\n\n# Answer\n\n{}", short(question, QUESTION), short(answer, ANSWER))
}

/// The suggestions in what a model said: each line is one, without what lists put before it and around it. A line that is
/// too long is none, because half a question asks something else; nor is one that announces the others.
pub fn suggestions(said: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in said.lines() {
        let line = plain(line);
        let is_one = line.chars().any(char::is_alphanumeric) && !line.ends_with([':', '：']);
        if is_one && line.chars().count() <= LONGEST && !found.contains(&line) {
            found.push(line);
        }
        if found.len() == MOST {
            break;
        }
    }
    found
}

/// A line without its markers, as one line of plain text.
fn plain(line: &str) -> String {
    // A block of code is fenced by such a line, and its language is no question.
    if line.trim_start().starts_with("```") {
        return String::new();
    }
    let seen: String = line.chars().filter(|c| !is_hidden(*c)).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut text = seen.trim();
    // A list may be in a list, as "- 1. **What?**".
    loop {
        let bare = unnumbered(text.trim_start_matches(is_marker).trim_start());
        let bare =
            bare.trim_end_matches(|c: char| is_quote(c) || matches!(c, '*' | '_' | ',' | ']') || c.is_whitespace());
        if bare == text {
            break;
        }
        text = bare;
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Takes a number off that stands before something: `1.`, `2)`.
fn unnumbered(text: &str) -> &str {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.len() - rest.len();
    let behind = rest.strip_prefix(['.', ')', ':']).filter(|_| (1..=2).contains(&digits));
    // "3.5 or 4?" begins with no number of a list.
    behind.filter(|behind| !behind.starts_with(|c: char| c.is_ascii_digit())).map_or(text, str::trim_start)
}

fn is_marker(c: char) -> bool {
    matches!(c, '-' | '*' | '+' | '•' | '·' | '–' | '—' | '#' | '>' | '[' | '_') || is_quote(c) || c.is_whitespace()
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '“' | '”' | '„' | '«' | '»' | '‘' | '’' | '「' | '」')
}

/// What turns a text's direction round, or is not seen.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lists_put_around_a_line_is_no_part_of_it() {
        for said in [
            "Why south?\nHow far?\nWho leads?",
            "1. Why south?\n2. How far?\n3. Who leads?",
            "- Why south?\n* How far?\n• Who leads?",
            "Here are three questions:\n\n- 1) **Why south?**\n- 2) \"How far?\"\n- 3) `Who leads?`",
            "```json\n[\"Why south?\",\n \"How far?\",\n \"Who leads?\"]\n```",
            "> “Why south?”\n\n> «How far?»\n\n> #Who leads?\nAnd a fourth?",
            "Why south?\nWhy south?\nHow far?\nWho leads?",
        ] {
            assert_eq!(suggestions(said), ["Why south?", "How far?", "Who leads?"], "{said}");
        }
    }

    #[test]
    fn what_cannot_be_a_question_is_none() {
        for said in ["", "\n\n", "```", "[", "---", "1.", "…", "Gladly:", "질문：", &"x".repeat(LONGEST + 1)] {
            assert_eq!(suggestions(said), [] as [&str; 0], "{said}");
        }
        assert_eq!(suggestions(&"x".repeat(LONGEST)), ["x".repeat(LONGEST)]);
    }

    #[test]
    fn a_suggestion_is_one_line_of_what_is_seen() {
        assert_eq!(suggestions("a\u{202e}b\u{0}\tc   d?"), ["ab c d?"]);
        assert_eq!(suggestions("<b>Why</b>?"), ["<b>Why</b>?"], "it is shown as it stands, as everything");
        assert_eq!(suggestions("3.5 or 4?\n2024: why?\n7 swans?"), ["3.5 or 4?", "2024: why?", "7 swans?"]);
    }

    #[test]
    fn a_model_is_shown_the_beginning_of_both() {
        let shown = shown(&" q".repeat(9_000), "a");
        assert!(shown.starts_with("# Question\n\nq q") && shown.ends_with("# Answer\n\na"));
        assert!(shown.len() < QUESTION + 100);
    }
}
