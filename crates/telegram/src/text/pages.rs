//! Cutting a long text into messages.
//!
//! Where a page ends depends on the text up to there and a little after, never on how the text goes on. So
//! the pages that are full stay as they are while an answer grows.

use std::ops::Range;

use unicode_segmentation::GraphemeCursor;

use super::spans::Span;
use super::{ENTITIES, Formatted, clean, is_blank, spans};
use crate::types::EntityKind;

/// Cuts the text into pages of at most `limit` UTF-16 units and 100 entities, in order. A page ends where a
/// paragraph, a line, a sentence or a word ends, the best of these that leaves it at least half full, and
/// never inside a grapheme (unless that alone is longer than a page). A code block that does not fit on the
/// rest of a page begins on the next one; one that is cut goes on as a code block. White space between pages
/// is dropped. No page is blank; a blank text has no pages.
///
/// A `limit` below two cannot hold every character and counts as two.
pub fn pages(formatted: &Formatted, limit: usize) -> Vec<Formatted> {
    let limit = limit.max(2);
    let (text, spans) = cleaned(formatted);
    let len = text.trim_end().len();
    let mut pages = Vec::new();
    let mut start = 0;
    let mut spans = &*spans;
    loop {
        // What has ended concerns no later page.
        spans = &spans[spans.iter().take_while(|span| span.range.end <= start).count()..];
        start = skip_space(&text[..len], start, spans);
        if start >= len {
            return pages;
        }
        let end = page_end(&text[..len], start, spans, limit);
        let mut page = slice(&text, start..end, spans);
        // Only if more than a hundred begin at one place.
        page.entities.truncate(ENTITIES);
        if !page.is_blank() {
            pages.push(page);
        }
        start = end;
    }
}

/// The text trimmed, with the entities that Telegram would accept.
pub(super) fn finish(text: &str, mut spans: Vec<Span>) -> Formatted {
    let text = text.trim_end();
    spans.sort_by_key(|span| span.range.start);
    let start = skip_space(text, 0, &spans);
    slice(text, start..text.len(), &spans)
}

/// The text as Telegram would keep it, and its entities in bytes. Ours is clean already; one that was put
/// together by hand may not be.
fn cleaned(formatted: &Formatted) -> (String, Vec<Span>) {
    let mut spans = spans::from_entities(&formatted.text, &formatted.entities);
    let mut text = clean::clean(&formatted.text);
    if text != formatted.text {
        // Clean the stretches between the bounds of entities one by one, to know where the bounds go.
        let mut bounds: Vec<usize> = spans.iter().flat_map(|span| [span.range.start, span.range.end]).collect();
        bounds.push(formatted.text.len());
        bounds.sort_unstable();
        bounds.dedup();
        text.clear();
        let mut at = 0;
        let moved: Vec<usize> = bounds
            .iter()
            .map(|&bound| {
                text.push_str(&clean::clean(&formatted.text[at..bound]));
                at = bound;
                text.len()
            })
            .collect();
        let moved_to = |byte: usize| moved[bounds.binary_search(&byte).expect("every bound was collected")];
        for span in &mut spans {
            span.range = moved_to(span.range.start)..moved_to(span.range.end);
        }
        clean::settle_marks(&mut text);
    }
    let entities = spans::entities(&text, spans);
    let spans = spans::from_entities(&text, &entities);
    (text, spans)
}

/// Where the next page begins: behind white space, but with the indentation of the code that it begins with.
fn skip_space(text: &str, start: usize, spans: &[Span]) -> usize {
    let visible = text.len() - text[start..].trim_start().len();
    let code = spans
        .iter()
        .take_while(|span| span.range.start <= visible)
        .find(|span| span.kind == EntityKind::Pre && visible < span.range.end);
    let Some(code) = code else { return visible };
    let from = code.range.start.max(start);
    match text[from..visible].rfind('\n') {
        Some(at) => from + at + 1,
        None if from == code.range.start || text[..from].ends_with('\n') => from,
        None => visible,
    }
}

fn slice(text: &str, range: Range<usize>, spans: &[Span]) -> Formatted {
    let body = text[range.clone()].trim_end();
    let end = range.start + body.len();
    let within = spans
        .iter()
        .take_while(|span| span.range.start < end)
        .filter(|span| span.range.end > range.start)
        .map(|span| Span {
            range: span.range.start.max(range.start) - range.start..span.range.end.min(end) - range.start,
            ..span.clone()
        })
        .collect();
    Formatted { text: body.to_owned(), entities: spans::entities(body, within) }
}

/// Where the page that begins at `start` ends. `text` ends with something visible.
fn page_end(text: &str, start: usize, spans: &[Span], limit: usize) -> usize {
    let mut most = fitting(text, start, limit);
    let goes_on = |span: &&Span| span.range.end > start;
    if let Some(span) = spans.iter().filter(goes_on).nth(ENTITIES)
        && span.range.start > start
    {
        most = most.min(span.range.start);
    }
    if most >= text.len() {
        return text.len();
    }
    let cut_code = spans
        .iter()
        .take_while(|span| span.range.start < most)
        .find(|span| span.kind == EntityKind::Pre && span.range.start > start && span.range.end > most);
    if let Some(code) = cut_code
        && !is_blank(&text[start..code.range.start])
    {
        return code.range.start;
    }
    best_break(text, start..most, spans).unwrap_or_else(|| grapheme_break(text, start, most))
}

/// The end of as many characters as fit.
fn fitting(text: &str, start: usize, limit: usize) -> usize {
    let mut units = 0;
    for (at, c) in text[start..].char_indices() {
        units += c.len_utf16();
        if units > limit {
            return start + at;
        }
    }
    text.len()
}

/// How good a place is for a cut; the best is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Break {
    Word,
    Sentence,
    Line,
    Paragraph,
}

/// The last of the best breaks in the second half of the range.
fn best_break(text: &str, range: Range<usize>, spans: &[Span]) -> Option<usize> {
    let codes: Vec<&Range<usize>> = spans
        .iter()
        .take_while(|span| span.range.start < range.end)
        .filter(|span| span.kind == EntityKind::Pre && span.range.end > range.start)
        .map(|span| &span.range)
        .collect();
    let half = range.start + (range.end - range.start) / 2;
    let mut best: Option<(Break, usize)> = None;
    let mut before = text[..range.start].chars().next_back();
    let mut at = range.start;
    while at <= range.end && at < text.len() {
        let rest = &text[at..];
        let c = rest.chars().next().expect("there is text left");
        if c.is_whitespace() {
            let run = &rest[..rest.len() - rest.trim_start().len()];
            let in_code = codes.iter().any(|code| code.start < at && at < code.end);
            let found = match run.bytes().filter(|&b| b == b'\n').count() {
                0 if !in_code && before.is_some_and(|c| ends_sentence(&text[..at], c)) => Break::Sentence,
                0 => Break::Word,
                1 => Break::Line,
                _ if in_code => Break::Line,
                _ => Break::Paragraph,
            };
            consider(&mut best, found, at, half, text);
            before = run.chars().next_back();
            at += run.len();
            continue;
        }
        if before.is_some_and(|c| matches!(c, '。' | '！' | '？')) {
            consider(&mut best, Break::Sentence, at, half, text);
        }
        before = Some(c);
        at += c.len_utf8();
    }
    best.map(|(_, at)| at)
}

fn consider(best: &mut Option<(Break, usize)>, found: Break, at: usize, half: usize, text: &str) {
    if at > half && best.is_none_or(|(kind, _)| found >= kind) && is_grapheme_boundary(text, at) {
        *best = Some((found, at));
    }
}

/// Whether a sentence ends with `last`, which may be a bracket or a quotation mark behind the full stop.
fn ends_sentence(text: &str, last: char) -> bool {
    let is_end = |c: char| matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？');
    let is_closing = |c: char| matches!(c, ')' | ']' | '"' | '\'' | '”' | '’' | '»');
    is_end(last) || is_closing(last) && text.chars().rev().take(4).find(|&c| !is_closing(c)).is_some_and(is_end)
}

fn is_grapheme_boundary(text: &str, at: usize) -> bool {
    GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0).unwrap_or(true)
}

/// The last grapheme boundary up to `most`; `most` itself if the grapheme is longer than the page.
fn grapheme_break(text: &str, start: usize, most: usize) -> usize {
    if is_grapheme_boundary(text, most) {
        return most;
    }
    match GraphemeCursor::new(most, text.len(), true).prev_boundary(text, 0) {
        Ok(Some(at)) if at > start => at,
        _ => most,
    }
}
