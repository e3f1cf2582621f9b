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

#[test]
fn rules_are_lines() {
    shows("a\n\n---\n\nb", "a\n\n──────────\n\nb");
    shows("a\n***\nb", "a\n──────────\nb");
}

#[test]
fn lines_above_dashes_do_not_turn_bold() {
    shows("a\nb\n---\nc", "a\nb\n──────────\nc");
    shows("things:\n-", "things:\n-");
    shows("Title\n===\ntext", "[bold:Title]\ntext");
}

#[test]
fn links_are_web_links_or_none() {
    shows("[so](https://a.b/c?d=e)", "[text_link=https://a.b/c?d=e:so]");
    shows("<https://a.b>", "[text_link=https://a.b:https://a.b]");
    shows("[code](src/main.rs) x", "code ([code:src/main.rs]) x");
    shows("[me](tg://user?id=1)", "me ([code:tg://user?id=1])");
    shows("[x](javascript:alert(1))", "x ([code:javascript:alert(1)])");
    shows("[x](<http://a b>)", "x ([code:http://a b])");
    shows("[a.rs](a.rs) <x@y.zz> [x@y.zz](mailto:x@y.zz)", "a.rs x@y.zz x@y.zz");
    shows("[**b** `c`](http://a.b)", "[text_link=http://a.b:[bold:b] c]");
    shows("[](http://a.b)", "[text_link=http://a.b:http://a.b]");
    shows("[text]() [open](http", "text [open](http");
}

#[test]
fn images_are_links_to_be_pressed() {
    shows("![alt](http://a/b.png?d=1)", "[text_link=http://a/b.png?d=1:alt]");
    shows("![](http://a/b.png)", "[text_link=http://a/b.png:http://a/b.png]");
    shows("![alt](file.png)", "alt ([code:file.png])");
    shows("[![badge](http://a/b.svg)](http://c.d) x", "[text_link=http://c.d:badge] x");
    shows("![a][r] x\n\n[r]: http://e.f/g", "[text_link=http://e.f/g:a] x");
}

#[test]
fn tables_line_up_in_every_script() {
    shows(
        "| a | b |\n|---|--:|\n| long one | 1 |\n| 한국 | 10 |",
        "[pre:a        |  b\n---------+---\nlong one |  1\n한국     | 10]",
    );
    shows(
        "|a|\n|:-:|\n|**bbb**|\n|[x](http://y)|",
        "[pre:      a\n--------------\n     bbb\nx (http://y)]"
            .replace("--------------", "------------")
            .replace("      a", "     a")
            .replace("     bbb", "    bbb")
            .as_str(),
    );
    shows("text\n\n| a |\n|---|\n\nend", "text\n\n[pre:a]\n\nend");
}

#[test]
fn one_long_cell_does_not_push_the_others_away() {
    let long = "x".repeat(500);
    let formatted = markdown(&format!("|a|b|\n|-|-|\n|{long}|1|\n|c|2|"));
    let lines: Vec<&str> = formatted.text.lines().collect();
    assert_eq!(lines[2], format!("{long} | 1"));
    assert_eq!(lines[3], format!("{:40} | 2", "c"));
}

#[test]
fn html_is_shown_as_it_stands() {
    shows("a<br>b <b>c</b>", "a<br>b <b>c</b>");
    shows("<div>\n**x**\n</div>\n\ny", "<div>\n**x**\n</div>\n\ny");
    shows("<!-- hidden -->", "<!-- hidden -->");
    shows("&lt;b&gt; &amp; &#x202e;x", "<b> & x");
}

#[test]
fn line_breaks_are_the_authors() {
    shows("a\nb\n\nc  \nd", "a\nb\n\nc\nd");
    shows("a\n\n\n\n\nb", "a\n\nb");
}

#[test]
fn bold_works_beside_korean_particles() {
    shows("**\"인용\"**은 **서울(Seoul)**의", "[bold:\"인용\"]은 [bold:서울(Seoul)]의");
    shows("은**(가)** 나", "은[bold:(가)] 나");
    shows("**A(b)**는 **C**이다", "[bold:A(b)]는 [bold:C]이다");
    shows("`**(x)**는` \\**(x)**는", "[code:**(x)**는] **(x)**는");
    shows("f(**kw), g(**kw)", "f(**kw), g(**kw)");
    shows("😀 **(가)**는 *나*", "😀 [bold:(가)]는 [italic:나]");
}

#[test]
fn a_single_tilde_is_a_range() {
    shows("3~5개, 7~9개 ~~취소~~", "3~5개, 7~9개 [strikethrough:취소]");
}

#[test]
fn unfinished_markdown_renders_while_it_streams() {
    shows("```rust\nfn main() {", "[pre=rust:fn main() {]");
    shows("say:\n```", "say:");
    shows("**bold", "**bold");
    shows("`code", "`code");
    shows("[link](http://", "[link](http://");
    shows("| a | b |", "| a | b |");
    shows("- ", "•");
    shows("> ", ">");
}

#[test]
fn what_can_be_seen_in_the_source_can_be_seen() {
    for source in ["```", "#", "[a]: http://b", "![]()", "```\n```", "[]()", ">"] {
        assert_eq!(markdown(source), plain(source), "{source:?}");
        assert!(!plain(source).is_blank(), "{source:?}");
    }
    assert!(markdown(" \n\u{200b}\u{feff}").is_blank());
    assert!(pages(&markdown(" \n"), MESSAGE_UNITS).is_empty());
}

/// The texts of the pages.
fn cut(formatted: &Formatted, limit: usize) -> Vec<String> {
    let pages = pages(formatted, limit);
    for page in &pages {
        check(page, limit).expect("lawful");
    }
    pages.iter().map(marked).collect()
}

#[test]
fn pages_end_where_a_reader_would_end_them() {
    assert_eq!(cut(&plain("one one\n\ntwo two\nthree"), 13), ["one one", "two two\nthree"]);
    assert_eq!(cut(&plain("one one\ntwo two three"), 12), ["one one", "two two", "three"]);
    assert_eq!(cut(&plain("One. Two six"), 7), ["One.", "Two six"]);
    assert_eq!(cut(&plain("one two three"), 9), ["one two", "three"]);
    assert_eq!(cut(&plain("첫 문장입니다.\n둘째 문장"), 11), ["첫 문장입니다.", "둘째 문장"]);
    assert_eq!(cut(&plain("一二三。四五六七"), 6), ["一二三。", "四五六七"]);
    assert_eq!(cut(&plain("aaaaaaaaaa"), 4), ["aaaa", "aaaa", "aa"]);
}

#[test]
fn pages_never_cut_a_grapheme() {
    let family = "👨‍👩‍👧‍👦";
    assert_eq!(cut(&plain(&family.repeat(3)), 25), [family.repeat(2), family.to_owned()]);
    assert_eq!(cut(&plain("e\u{301}e\u{301}e\u{301}"), 3), ["e\u{301}"; 3]);
    // Unless one is longer than a page.
    assert_eq!(cut(&plain("a\u{301}\u{301}\u{301}"), 2).len(), 2);
}

#[test]
fn entities_go_on_over_pages() {
    assert_eq!(cut(&markdown("**one two three** four"), 9), ["[bold:one two]", "[bold:three]", "four"]);
    assert_eq!(
        cut(&markdown("```py\n  a = 1\n  b = 2\n\n  c = 3\n```"), 16),
        ["[pre=py:  a = 1\n  b = 2]", "[pre=py:  c = 3]"]
    );
    assert_eq!(cut(&markdown("> **one two** three"), 9), ["[blockquote:[bold:one two]]", "[blockquote:three]"]);
}

#[test]
fn a_code_block_moves_to_the_next_page_as_a_whole() {
    assert_eq!(cut(&markdown("intro\n\n```\nab\ncd\nef\n```\nend"), 12), ["intro", "[pre:ab\ncd\nef]\nend"]);
}

#[test]
fn a_page_has_at_most_a_hundred_entities() {
    let formatted = markdown(&"`a` ".repeat(250));
    let counts: Vec<usize> = pages(&formatted, MESSAGE_UNITS).iter().map(|page| page.entities.len()).collect();
    assert_eq!(counts, [100, 100, 50]);
}

#[test]
fn what_was_put_together_by_hand_is_made_lawful() {
    let mut formatted = Formatted::default();
    formatted.push(EntityKind::Bold, " Error: ");
    formatted.push_str("disk\tfull ");
    formatted.append(&markdown("`df`"));
    assert_eq!(cut(&formatted, 99), ["[bold:Error:] disk    full [code:df]"]);

    let entity = |kind, offset, length| Entity::new(kind, offset, length);
    let crossing = Formatted {
        text: "a\tbold\r\n and code\u{1b}[0m  ".into(),
        entities: vec![
            entity(EntityKind::Bold, 2, 9),
            entity(EntityKind::Code, 8, 9),
            entity(EntityKind::Italic, 500, 2),
            entity(EntityKind::Italic, -1, 2),
            entity(EntityKind::Italic, 1, 0),
            entity(EntityKind::Other, 0, 1),
            entity(EntityKind::TextLink, 0, 1),
        ],
    };
    assert_eq!(cut(&crossing, 99), ["a    [bold:bold]\n [code:and code]"]);
}

#[test]
fn utf16_offsets_and_bytes_agree() {
    assert_eq!(len_utf16("a가😀"), 4);
    assert_eq!(byte_of_utf16("a가😀b", 2), Some(4));
    assert_eq!(byte_of_utf16("a가😀b", 3), None);
    assert_eq!(byte_of_utf16("a가😀b", 5), Some(9));
    assert_eq!(byte_of_utf16("a", 2), None);
    assert_eq!(utf16_of_byte("a가😀b", 8), 4);
}

#[test]
fn the_validator_refuses_what_telegram_would() {
    #[track_caller]
    fn refused(text: &str, entities: Vec<Entity>, why: &str) {
        let said = check(&Formatted { text: text.into(), entities }, 10).expect_err("unlawful");
        assert!(said.contains(why), "{said:?} is not {why:?}");
    }
    let entity = |kind, offset, length| Entity::new(kind, offset, length);
    refused("", vec![], "blank");
    refused("\u{200b}\u{3164}", vec![], "blank");
    refused("elevenchars", vec![], "11 units");
    refused(" a", vec![], "begins with white space");
    refused("a\n", vec![], "ends with white space");
    refused("a\u{202e}b", vec![], "dropped");
    refused("a\tb", vec![], "dropped");
    refused("a\u{200e}\u{200e}b", vec![], "changed");
    refused("ab", vec![entity(EntityKind::Bold, 1, 2)], "outside");
    refused("😀", vec![entity(EntityKind::Bold, 1, 1)], "inside a character");
    refused("a b", vec![entity(EntityKind::Bold, 0, 2)], "white space at its ends");
    refused("a b", vec![entity(EntityKind::Bold, 1, 1)], "covers nothing");
    refused("ab", vec![entity(EntityKind::Other, 0, 1)], "no kind");
    refused("ab", vec![entity(EntityKind::TextLink, 0, 1)], "web address");
    let mut link = entity(EntityKind::TextLink, 0, 1);
    link.url = Some("tg://user?id=1".into());
    refused("ab", vec![link], "web address");
    let mut bold = entity(EntityKind::Bold, 0, 1);
    bold.language = Some("rust".into());
    refused("ab", vec![bold], "only a code block");
    refused("abc", vec![entity(EntityKind::Bold, 1, 1), entity(EntityKind::Italic, 0, 1)], "not sorted");
    refused("abc", vec![entity(EntityKind::Bold, 0, 2), entity(EntityKind::Italic, 1, 2)], "crosses");
    refused("abc", vec![entity(EntityKind::Pre, 0, 2), entity(EntityKind::Bold, 0, 1)], "must not stand inside");
    refused("abc", vec![entity(EntityKind::Bold, 0, 3), entity(EntityKind::Code, 1, 1)], "must not stand inside");
    refused(
        "abc",
        vec![entity(EntityKind::Blockquote, 0, 3), entity(EntityKind::Blockquote, 1, 1)],
        "must not stand inside",
    );
    let many = (0..5).flat_map(|at| std::iter::repeat_n(entity(EntityKind::Bold, at, 1), 25)).collect();
    refused("abcde", many, "125 entities");
}

/// Texts that make parsers slow, long enough that a quadratic one would not come back.
#[test]
fn hostile_texts_come_to_an_end() {
    let pieces = [
        ">",
        "- ",
        "* ",
        "1. ",
        "[",
        "![",
        "](",
        "*",
        "**",
        "_a",
        "~~",
        "`",
        "``a",
        "<",
        "<!--",
        "&#",
        "|",
        "|-|\n",
        "> - ",
        "\u{1b}]",
        "\u{9b}",
        "**a ",
        "`a` ",
        "**(가)**는",
        "[a](b)",
        "[a](http://b)\n",
        "\u{200e}",
        "e\u{301}",
        "\u{301}",
        "👩\u{200d}",
        "🇰",
        " ",
        "\n",
        "\t",
        "    ",
        "a",
        "- a\n ",
        "#",
        "---\n",
        "|a|b|\n|-|-|\n",
        "```\n",
        "\\*",
        "> `a`\n",
    ];
    for piece in pieces {
        let source = piece.repeat(40_000 / piece.len());
        for formatted in [plain(&source), markdown(&source)] {
            for page in pages(&formatted, MESSAGE_UNITS) {
                check(&page, MESSAGE_UNITS).unwrap_or_else(|why| panic!("{piece:?}: {why}"));
            }
            assert!(formatted.text.len() < 20 * source.len(), "{piece:?} grew to {}", formatted.text.len());
        }
    }
}

/// An answer as it might stream, with everything in it.
const ANSWER: &str = "# 요약\n\n**\"결과\"**는 좋습니다. 자세한 내용은 [문서](docs/a.md)에 있습니다.\nSecond line of it.\n\n\
    1. first `item`\n   - inner\n2. second\n\nNow the code:\n\n```rust\nfn main() {\n    let x = 1;\n\n    println!(\"{x}\");\n    \
    // one more line\n    // and another\n    let y = x + 1;\n    println!(\"{y}\");\n}\n```\n\nAnd a bit more.\n\n> quoted 👩‍🔬 \
    words\n> go on\n\n---\n\nSee <https://a.b>. The end is *near*, and 3~5 more words, 7~9 of them.\n";

#[test]
fn full_pages_stay_while_an_answer_streams() {
    for limit in [70, 90, 120, 200] {
        let full = pages(&markdown(ANSWER), limit);
        assert!(full.len() > 2);
        for (end, _) in ANSWER.char_indices() {
            let so_far = pages(&markdown(&ANSWER[..end]), limit);
            let done = so_far.len().saturating_sub(1);
            assert_eq!(so_far[..done], full[..done], "{limit}: {:?}", &ANSWER[..end]);
        }
    }
}
