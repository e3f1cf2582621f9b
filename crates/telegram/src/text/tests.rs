use super::*;

/// Renders Markdown and marks each entity in the text: `[bold:so]`, `[text_link=http://x:so]`.
#[track_caller]
fn shows(source: &str, expected: &str) {
    let formatted = markdown(source);
    check(&formatted, MESSAGE_UNITS).expect("lawful");
    assert_eq!(marked(&formatted), expected, "{source:?}");
}

fn marked(formatted: &Formatted) -> String {
    let mut marked = String::new();
    let mut open: Vec<i64> = Vec::new();
    let mut entities = formatted.entities.iter().peekable();
    let mut unit = 0;
    for c in formatted.text.chars().map(Some).chain([None]) {
        while open.last() == Some(&unit) {
            marked.push(']');
            open.pop();
        }
        while let Some(entity) = entities.next_if(|entity| entity.offset == unit) {
            let kind = serde_json::to_value(entity.kind).expect("a kind is a word");
            let more =
                entity.url.as_ref().or(entity.language.as_ref()).map_or(String::new(), |more| format!("={more}"));
            marked.push_str(&format!("[{}{more}:", kind.as_str().expect("a kind is a word")));
            open.push(entity.offset + entity.length);
        }
        if let Some(c) = c {
            marked.push(c);
            unit += c.len_utf16() as i64;
        }
    }
    marked
}

#[test]
fn emphasis_becomes_entities() {
    shows("**so** *it* ~~goes~~ `code`", "[bold:so] [italic:it] [strikethrough:goes] [code:code]");
    shows("***both***", "[bold:[italic:both]]");
    shows("**bold with `code` in it**", "[bold:bold with] [code:code] [bold:in it]");
    shows("😀 **굵게**", "😀 [bold:굵게]");
}

#[test]
fn headings_are_bold_lines() {
    shows("# One\ntext\n\n## Two", "[bold:One]\ntext\n\n[bold:Two]");
    shows("# A **b** c", "[bold:A b c]");
    shows("# Use `x` now", "[bold:Use] [code:x] [bold:now]");
}

#[test]
fn lists_are_indented() {
    shows("- a\n- b\n  - c\n    more\n- d", "• a\n• b\n    • c\n      more\n• d");
    shows("3. a\n4. b\n   - c", "3. a\n4. b\n    • c");
    shows("- [ ] open\n- [x] done", "☐ open\n☑ done");
    shows("intro:\n- a\n\n- b\n\nend", "intro:\n• a\n\n• b\n\nend");
    shows("1. a\n\n   b\n\n2. c", "1. a\n\n   b\n\n2. c");
    shows("- a\n  ```sh\n  ls\n  ```\n- b", "• a\n[pre=sh:ls]\n• b");
}

#[test]
fn code_blocks_keep_their_language_and_indentation() {
    shows("```rust\n  fn x() {\n\n  }\n```\nend", "[pre=rust:  fn x() {\n\n  }]\nend");
    shows("a\n\n```\n**x**\n```", "a\n\n[pre:**x**]");
    shows("```go\n\tx\n```", "[pre=go:    x]");
    shows("``` a\"b\nx\n```", "[pre:x]");
}

#[test]
fn quotes_are_quotes() {
    shows("> a\n> **b**\n\nc", "[blockquote:a\n[bold:b]]\n\nc");
    shows("> a\n>> b\n\n> c", "[blockquote:a\nb]\n\n[blockquote:c]");
    shows("> ```\n> x\n> ```", "[blockquote:[pre:x]]");
    shows("- > a", "• \n  [blockquote:a]");
}
