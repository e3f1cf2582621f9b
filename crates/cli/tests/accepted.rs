//! Whatever a model writes, the strict mock takes it: a hundred thousand random answers, rendered, cut into pages, and
//! judged by rules that were written down elsewhere and by somebody else.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use salon_telegram::text::{Formatted, MESSAGE_UNITS, markdown, pages, plain};

/// Answers of each kind.
const CASES: u32 = 25_000;

fn refused(page: &Formatted) -> Option<String> {
    let entities = serde_json::to_value(&page.entities).expect("entities are JSON");
    match salon_mock::shown(&page.text, &entities) {
        // What is shown must be what was sent: otherwise offsets and comparisons would be wrong.
        Ok(shown) if shown == page.text => None,
        Ok(shown) => Some(format!("sent {:?}, shown {shown:?}", page.text)),
        Err(description) => Some(format!("{description}: {:?} {entities}", page.text)),
    }
}

fn all_accepted(body: &Formatted, limit: usize) -> Result<(), TestCaseError> {
    for page in pages(body, limit) {
        prop_assert_eq!(refused(&page), None);
    }
    Ok(())
}

const PIECES: &[&str] = &[
    "**",
    "*",
    "_",
    "__",
    "~~",
    "`",
    "```",
    "```rust\n",
    "\n",
    "\n\n",
    "> ",
    "- ",
    "  - ",
    "1. ",
    "# ",
    "### ",
    "| a | b |\n",
    "|---|--:|\n",
    "[x](https://a.test)",
    "[y](javascript:1)",
    "![i](http://b.test/i.png)",
    "<br>",
    "<b>",
    "</b>",
    "&lt;",
    "\\*",
    "---\n",
    "- [x] ",
    " ",
    "  ",
    "word",
    "한국어 ",
    "слово ",
    "👩‍👩‍👧‍👦",
    "🇰🇷",
    "e\u{301}",
    "\u{202e}",
    "\u{200b}",
    "\t",
    "\u{7}",
    "http://c.test ",
    "@name ",
    "/cmd ",
    "#tag ",
    "!",
    ".",
    "(",
    ")",
    "[",
    "]",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn any_characters(text in vec(any::<char>(), 0..60)) {
        let text: String = text.into_iter().collect();
        all_accepted(&markdown(&text), MESSAGE_UNITS)?;
        all_accepted(&plain(&text), MESSAGE_UNITS)?;
    }

    #[test]
    fn markdown_in_no_order(pieces in vec(select(PIECES), 0..40)) {
        all_accepted(&markdown(&pieces.concat()), MESSAGE_UNITS)?;
    }

    #[test]
    fn an_answer_while_it_streams(pieces in vec(select(PIECES), 1..12), cut in any::<prop::sample::Index>()) {
        let text = pieces.concat();
        let cut = (0..=cut.index(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        all_accepted(&markdown(&text[..cut]), MESSAGE_UNITS)?;
    }

    #[test]
    fn many_small_pages(pieces in vec(select(PIECES), 0..40), limit in 40..200usize) {
        all_accepted(&markdown(&pieces.concat()), limit)?;
    }
}
