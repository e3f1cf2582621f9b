//! What holds for every text. A hundred thousand of them in sum, over the tests of this file.

use proptest::{collection::vec, prelude::*, sample::select};
use unicode_segmentation::UnicodeSegmentation;

use super::*;

/// Texts of each of the five kinds, which run side by side.
const CASES: u32 = 18_000;
/// The rest of the hundred thousand: a tenth of them huge, the others growing.
const LONG_CASES: u32 = 10_000;

/// Any characters at all.
fn any_text() -> impl Strategy<Value = String> {
    vec(prop_oneof![any::<char>(), proptest::char::range(' ', '~'), proptest::char::range('\0', '\u{ff}')], 0..40)
        .prop_map(|chars| chars.into_iter().collect())
}

fn words(words: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    vec(select(words), 0..most).prop_map(|words| words.concat())
}

/// Everything that means something in Markdown, in no order.
const SOUP: &[&str] = &[
    "*",
    "**",
    "***",
    "_",
    "__",
    "~",
    "~~",
    "[",
    "]",
    "(",
    ")",
    "](",
    "![",
    "<",
    ">",
    "#",
    "# ",
    "## ",
    "-",
    "- ",
    "1. ",
    "+ ",
    "|",
    "||",
    "|-",
    "|:-:|",
    "`",
    "``",
    "```",
    "~~~",
    "\\",
    "&amp;",
    "&#9;",
    "&#x202e;",
    "&nbsp;",
    ":",
    "http://a.b",
    "https://c.d/e?f=g",
    "tg://user?id=1",
    "javascript:x",
    "\n",
    "\n\n",
    "    ",
    "  ",
    " ",
    "\t",
    "a",
    "b c",
    "word",
    "- [ ] ",
    "[x]",
    "---",
    "===",
    "!",
    "\"",
    "'",
    "<b>",
    "</b>",
    "<!--",
    "<a@b.c>",
    "가",
    "😀",
];

/// Marks of direction and joining, emoji of many parts, combining characters, terminal sequences.
const MARKS: &[&str] = &[
    "\u{200e}",
    "\u{200f}",
    "\u{200c}",
    "\u{200d}",
    "\u{202a}",
    "\u{202e}",
    "\u{2066}",
    "\u{2069}",
    "\u{61c}",
    "\u{feff}",
    "\u{200b}",
    "\u{a0}",
    "\u{3000}",
    "\u{2028}",
    "\u{301}",
    "\u{30a}",
    "\u{333}",
    "\u{20e3}",
    "\u{fe0f}",
    "\u{600}",
    "👨‍👩‍👧‍👦",
    "🏳️‍🌈",
    "👍🏽",
    "🇰🇷",
    "🇷",
    "e\u{301}",
    "שלום",
    "مرحبا",
    "नमस्ते",
    "\u{1b}[31m",
    "\u{1b}]0;",
    "\u{7}",
    "\u{9b}",
    "\r",
    "\r\n",
    "\n",
    " ",
    "a",
    "**",
    "`",
    "```\n",
    "[",
    "](http://x)",
    "> ",
];

/// Korean as it is written, with what models put around it.
const KOREAN: &[&str] = &[
    "안녕하세요",
    "**굵게**",
    "**\"인용\"**은",
    "3~5개",
    "30~40대",
    "입니다. ",
    "니다.\n",
    "`코드`",
    "를 ",
    "<br>",
    "</br>",
    "ㅋㅋㅋ",
    "각",
    "한글",
    "\n| 이름 | 값 |\n|---|---:|\n| 가나 | 1 |\n",
    "\n- 항목 ",
    "\n1. 하나",
    "\n> 인용",
    "\n```py\n",
    "\n```\n",
    "\n\n",
    "[링크](https://예.한국)",
    "[문서](docs/a.md)",
    "、",
    "。",
    "！",
    "(",
    ")",
    " ",
];

/// Lines that are blocks, so that blocks stand in blocks.
const BLOCKS: &[&str] = &[
    "# Head\n",
    "text\n",
    "**bold\n",
    "tail**\n",
    "\n",
    "- item\n",
    "  - inner\n",
    "    - deep\n",
    "1. one\n",
    "   - in\n",
    "> quote\n",
    ">> inner\n",
    "> - item\n",
    "> ```\n",
    "```rust\n",
    "```\n",
    "~~~\n",
    "    code\n",
    "\tcode\n",
    "| a | b |\n",
    "|---|:-:|\n",
    "| *c* | [d](http://e) |\n",
    "---\n",
    "===\n",
    "<div>\n",
    "</div>\n",
    "<!-- x\n",
    "![alt](http://i/j.png)\n",
    "[l](x/y.rs)\n",
    "[r]: http://ref\n",
    "[r]\n",
    "- [x] done\n",
    "line one  \nline two\n",
    "fn main() { println!(\"hello, world\"); }\n",
    "A sentence. Another one! A third?\n",
];

/// Pages of both renderings are lawful, and pages of plain text leave out nothing but white space.
fn hold(source: &str, limit: usize) -> Result<(), TestCaseError> {
    for formatted in [plain(source), markdown(source)] {
        if formatted.is_blank() {
            prop_assert!(is_blank(&clean::clean(source)), "nothing is left of {source:?}");
            continue;
        }
        prop_assert_eq!(check(&formatted, usize::MAX).err().filter(|why| !why.contains("are allowed")), None);
        for page in pages(&formatted, limit) {
            prop_assert_eq!(check(&page, limit), Ok(()), "{:?}", page);
        }
    }
    follow(&plain(source).text, &pages(&plain(source), limit), limit)
}

/// Walks through the text along its pages.
fn follow(text: &str, pages: &[Formatted], limit: usize) -> Result<(), TestCaseError> {
    let mut bounds: Vec<usize> = text.grapheme_indices(true).map(|(start, _)| start).collect();
    bounds.push(text.len());
    let fits = text.graphemes(true).all(|grapheme| len_utf16(grapheme) <= limit);
    let is_boundary = |at: usize| !fits || bounds.binary_search(&at).is_ok();
    let mut end = 0;
    for page in pages {
        let gap = text[end..].find(&*page.text);
        prop_assert!(gap.is_some_and(|gap| is_blank(&text[end..end + gap])), "{page:?} does not follow in {text:?}");
        let start = end + gap.unwrap_or_default();
        end = start + page.text.len();
        // White space has to go even where it is half a grapheme.
        let begins_well = is_boundary(start) || text[..start].ends_with(char::is_whitespace);
        let ends_well = is_boundary(end) || text[end..].starts_with(char::is_whitespace);
        prop_assert!(begins_well && ends_well, "{page:?} cuts a grapheme of {text:?}");
    }
    prop_assert!(is_blank(&text[end..]), "{:?} is on no page", &text[end..]);
    Ok(())
}

/// The pages before the last stay when something is added to the text, as far as what was there stays.
fn stay(before: &Formatted, after: &Formatted, limit: usize) -> Result<(), TestCaseError> {
    let is_new = |entity: &Entity| entity.offset >= before.len_utf16() as i64;
    let stays = after.text.starts_with(&before.text) && after.entities.starts_with(&before.entities);
    if stays && after.entities[before.entities.len()..].iter().all(is_new) {
        let (before, after) = (pages(before, limit), pages(after, limit));
        let full = before.len().saturating_sub(1);
        prop_assert_eq!(&before[..full], &after[..full]);
    }
    Ok(())
}

/// Small pages for small texts, so that there is something to cut.
fn any_limit() -> impl Strategy<Value = usize> {
    prop_oneof![2..12usize, 12..80usize, Just(MESSAGE_UNITS)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn any_characters_make_lawful_pages(text in any_text(), limit in any_limit()) {
        hold(&text, limit)?;
    }

    #[test]
    fn markdown_soup_makes_lawful_pages(text in words(SOUP, 30), limit in any_limit()) {
        hold(&text, limit)?;
    }

    #[test]
    fn marks_and_emoji_make_lawful_pages(text in words(MARKS, 30), limit in any_limit()) {
        hold(&text, limit)?;
    }

    #[test]
    fn korean_makes_lawful_pages(text in words(KOREAN, 24), limit in any_limit()) {
        hold(&text, limit)?;
    }

    #[test]
    fn blocks_in_blocks_make_lawful_pages(text in words(BLOCKS, 16), limit in any_limit()) {
        hold(&text, limit)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(LONG_CASES / 10))]

    #[test]
    fn huge_lines_make_lawful_pages(
        text in prop_oneof![words(SOUP, 30), words(MARKS, 30), words(KOREAN, 30), any_text()],
        times in 1..150usize,
        limit in prop_oneof![Just(MESSAGE_UNITS), 100..900usize],
    ) {
        hold(&text.repeat(times), limit)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases((LONG_CASES - LONG_CASES / 10) / 2))]

    #[test]
    fn full_pages_stay_while_the_text_grows(
        text in prop_oneof![words(MARKS, 30), words(KOREAN, 30), any_text()],
        more in prop_oneof![words(MARKS, 10), words(KOREAN, 10), any_text()],
        limit in 2..40usize,
    ) {
        // A terminal sequence that ends later would take back what it began with.
        let text = clean::clean(&text);
        stay(&plain(&text), &plain(&format!("{text}{more}")), limit)?;
    }

    #[test]
    fn full_pages_stay_while_the_markdown_grows(
        text in prop_oneof![words(BLOCKS, 12), words(KOREAN, 20)],
        more in prop_oneof![words(BLOCKS, 6), words(KOREAN, 10)],
        limit in 2..80usize,
    ) {
        stay(&markdown(&text), &markdown(&format!("{text}{more}")), limit)?;
    }
}
