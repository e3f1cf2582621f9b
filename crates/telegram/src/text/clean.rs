//! The characters that Telegram would change or refuse, and what becomes of them.

/// What a tab becomes. Telegram would make one space of it and flatten code.
const TAB: &str = "    ";
/// How far the end of a terminal sequence is looked for. A longer one is text with a stray escape in it.
const CSI_CHARS: usize = 64;
const STRING_CHARS: usize = 2048;

/// Text that Telegram will keep as it is, but for white space at its ends.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned = strip(text, TAB);
    settle_marks(&mut cleaned);
    cleaned
}

/// Cleaned text that still has its tabs, for the Markdown parser gives them a meaning.
pub(super) fn clean_source(text: &str) -> String {
    strip(text, "\t")
}

/// Of several direction marks in a row all but the last become U+200C, which has the same length in UTF-8
/// and UTF-16.
pub(super) fn settle_marks(text: &mut String) {
    let is_mark = |c: char| matches!(c, '\u{200e}' | '\u{200f}');
    let mut pairs = text.chars().zip(text.chars().skip(1));
    if pairs.any(|(a, b)| is_mark(a) && is_mark(b)) {
        let mut chars = text.chars().peekable();
        let mut settled = String::with_capacity(text.len());
        while let Some(c) = chars.next() {
            let is_followed = is_mark(c) && chars.peek().is_some_and(|&next| is_mark(next));
            settled.push(if is_followed { '\u{200c}' } else { c });
        }
        *text = settled;
    }
}

/// Whether the character shows nothing at all. Telegram's own list is shorter; a message that consists of the
/// others would arrive as an empty bubble.
pub(super) fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffc}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Whether Telegram drops the character wherever it stands.
pub(super) fn is_dropped(c: char) -> bool {
    (c.is_control() && c != '\n') || matches!(c, '\u{2028}'..='\u{202e}' | '\u{30a}' | '\u{333}' | '\u{33f}')
}

fn strip(text: &str, tab: &str) -> String {
    let mut stripped = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\u{2028}' | '\u{2029}' => stripped.push('\n'),
            '\t' => stripped.push_str(tab),
            // The line ends with the last of several.
            '\r' if rest.as_str().starts_with(['\r', '\n']) => {}
            '\r' => stripped.push('\n'),
            '\u{1b}' => rest = after_escape(rest.as_str()).chars(),
            '\u{9b}' => rest = after_csi(rest.as_str()).chars(),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => rest = after_string(rest.as_str()).chars(),
            c if is_dropped(c) => {}
            c => stripped.push(c),
        }
    }
    stripped
}

/// What follows an escape character and the sequence that it begins.
fn after_escape(text: &str) -> &str {
    let mut chars = text.chars();
    match chars.next() {
        Some('[') => after_csi(chars.as_str()),
        Some(']' | 'P' | 'X' | '^' | '_') => after_string(chars.as_str()),
        // Choices of a character set and the like have one character more.
        Some('(' | ')' | '*' | '+' | '#' | '%') => match chars.next() {
            Some('0'..='9' | 'A'..='Z' | '@') => chars.as_str(),
            _ => text,
        },
        Some('7' | '8' | '=' | '>' | '\\' | 'c' | 'D' | 'E' | 'H' | 'M') => chars.as_str(),
        _ => text,
    }
}

/// Skips a control sequence: parameters and one final character, such as `31m`.
fn after_csi(text: &str) -> &str {
    for (at, c) in text.char_indices().take(CSI_CHARS) {
        match c {
            ' '..='?' => {}
            '@'..='~' => return &text[at + 1..],
            _ => break,
        }
    }
    text
}

/// Skips a string for the terminal, such as a window title, up to its terminator in the same line.
fn after_string(text: &str) -> &str {
    for (at, c) in text.char_indices().take(STRING_CHARS) {
        match c {
            '\u{7}' | '\u{9c}' => return &text[at + c.len_utf8()..],
            '\u{1b}' if text[at + 1..].starts_with('\\') => return &text[at + 2..],
            '\u{1b}' | '\n' => break,
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, expected: &str) {
        assert_eq!(clean(input), expected, "{input:?}");
    }

    #[test]
    fn colours_and_titles_of_a_terminal_go() {
        check("\u{1b}[1;31mred\u{1b}[0m", "red");
        check("\u{9b}2Jclear", "clear");
        check("\u{1b}]0;title\u{7}text", "text");
        check("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link");
        check("\u{1b}(Bplain\u{1b}7", "plain");
    }

    #[test]
    fn an_unfinished_sequence_takes_no_text_with_it() {
        check("\u{1b}]0;never ended", "0;never ended");
        check("\u{1b}[31", "31");
        check("\u{1b}한국어", "한국어");
        check("end\u{1b}", "end");
        check("end\u{1b}(", "end(");
    }

    #[test]
    fn every_kind_of_line_break_is_one() {
        check("a\r\nb\rc\u{2028}d\u{2029}e\r\r\nf", "a\nb\nc\nd\ne\nf");
    }

    #[test]
    fn control_characters_go_and_tabs_become_spaces() {
        check("a\u{0}b\u{7}c\u{7f}d\u{85}e\u{b}f\tg", "abcdef    g");
    }

    #[test]
    fn overrides_go_and_marks_stay() {
        check("\u{202e}evil\u{202c}", "evil");
        check("a\u{200f}b", "a\u{200f}b");
        check("a\u{200f}\u{200e}\u{200f}b", "a\u{200c}\u{200c}\u{200f}b");
        check("n\u{333}o\u{33f}", "no");
    }
}
