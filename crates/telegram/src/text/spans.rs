//! Stretches of text on their way to entities, and what makes a set of them lawful.

use std::ops::Range;

use super::clean::is_dropped;
use crate::types::{Entity, EntityKind, User};

/// Bytes of an address that may be linked.
const LONGEST_URL: usize = 2048;

/// An entity that still counts in bytes.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub range: Range<usize>,
    pub kind: EntityKind,
    pub url: Option<String>,
    pub language: Option<String>,
    pub user: Option<User>,
}

impl Span {
    pub fn new(kind: EntityKind, range: Range<usize>) -> Self {
        Span { range, kind, url: None, language: None, user: None }
    }
}

/// The entities of a text. Whatever Telegram would refuse, move or drop is mended here: white space at the
/// ends, styles that run through code, quotes in quotes, code in links, and anything that still crosses.
pub(super) fn entities(text: &str, spans: Vec<Span>) -> Vec<Entity> {
    let mut spans: Vec<Span> = spans.into_iter().filter_map(mended).filter_map(|span| trimmed(text, span)).collect();
    sort(&mut spans);
    let mut kept: Vec<Span> = Vec::with_capacity(spans.len());
    let (styles, solid): (Vec<Span>, Vec<Span>) = spans.into_iter().partition(|span| is_style(span.kind));
    let solid = nested_only(solid);
    let codes: Vec<Range<usize>> =
        solid.iter().filter(|span| is_code(span.kind)).map(|span| span.range.clone()).collect();
    for style in outermost(styles) {
        let pieces = without(&style.range, &codes);
        kept.extend(pieces.into_iter().filter_map(|range| trimmed(text, Span { range, ..style.clone() })));
    }
    kept.extend(solid);
    sort(&mut kept);
    to_entities(text, nested_only(kept))
}

/// The spans of entities. Those that lie outside the text or inside a character are left out.
pub(super) fn from_entities(text: &str, entities: &[Entity]) -> Vec<Span> {
    if entities.is_empty() {
        return Vec::new();
    }
    let mut starts = Vec::with_capacity(text.len() + 1);
    for (byte, c) in text.char_indices() {
        starts.push(Some(byte));
        if c.len_utf16() == 2 {
            starts.push(None);
        }
    }
    starts.push(Some(text.len()));
    let byte_of = |unit: i64| usize::try_from(unit).ok().and_then(|unit| starts.get(unit).copied().flatten());
    let span_of = |entity: &Entity| {
        let range = byte_of(entity.offset)?..byte_of(entity.offset.checked_add(entity.length)?)?;
        Some(Span {
            range,
            kind: entity.kind,
            url: entity.url.clone(),
            language: entity.language.clone(),
            user: entity.user.clone(),
        })
    };
    entities.iter().filter_map(span_of).collect()
}

pub(super) fn is_code(kind: EntityKind) -> bool {
    matches!(kind, EntityKind::Code | EntityKind::Pre)
}

pub(super) fn is_quote(kind: EntityKind) -> bool {
    matches!(kind, EntityKind::Blockquote | EntityKind::ExpandableBlockquote)
}

/// Styles may contain each other and all but code. Everything else may contain styles only, quotes apart.
pub(super) fn is_style(kind: EntityKind) -> bool {
    use EntityKind::*;
    matches!(kind, Bold | Italic | Underline | Strikethrough | Spoiler)
}

/// Whether Telegram lets the one stand inside the other.
pub(super) fn may_contain(outer: EntityKind, inner: EntityKind) -> bool {
    if is_code(outer) {
        false
    } else if is_style(outer) {
        !is_code(inner) && outer != inner
    } else if is_quote(outer) {
        !is_quote(inner)
    } else {
        is_style(inner)
    }
}

/// Whether the address may be linked.
pub(super) fn is_web(url: &str) -> bool {
    let is_clean = url.len() <= LONGEST_URL && !url.chars().any(|c| c.is_whitespace() || is_dropped(c));
    is_clean && reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// The span with what belongs to its kind, and only if that is there.
fn mended(span: Span) -> Option<Span> {
    let kind = span.kind;
    let url = span.url.filter(|url| kind == EntityKind::TextLink && is_web(url));
    let language = span.language.filter(|_| kind == EntityKind::Pre);
    let user = span.user.filter(|_| kind == EntityKind::TextMention);
    let is_whole = match kind {
        EntityKind::TextLink => url.is_some(),
        EntityKind::TextMention => user.is_some(),
        // We know no emoji's number and nothing of the other.
        EntityKind::CustomEmoji | EntityKind::Other => false,
        _ => true,
    };
    is_whole.then_some(Span { url, language, user, ..span })
}

/// The span without white space at its ends. A code block keeps the indentation of its first line.
fn trimmed(text: &str, span: Span) -> Option<Span> {
    let Range { start, end } = span.range;
    let body = text.get(start..end)?.trim_end();
    let rest = match span.kind {
        EntityKind::Pre => body.trim_start_matches('\n'),
        _ => body.trim_start(),
    };
    (!super::is_blank(rest)).then(|| Span { range: start + body.len() - rest.len()..start + body.len(), ..span })
}

/// Outer before inner; of two that cover the same, quotes first and code last.
fn sort(spans: &mut [Span]) {
    let rank = |kind: EntityKind| (is_code(kind), !is_quote(kind), !is_style(kind), kind);
    spans.sort_by(|a, b| (a.range.start, b.range.end, rank(a.kind)).cmp(&(b.range.start, a.range.end, rank(b.kind))));
}

/// Of each kind of style, those that lie in no other of their kind. `styles` are sorted.
fn outermost(styles: Vec<Span>) -> Vec<Span> {
    let mut ends: Vec<(EntityKind, usize)> = Vec::new();
    let mut kept = Vec::with_capacity(styles.len());
    for style in styles {
        let end = match ends.iter_mut().find(|(kind, _)| *kind == style.kind) {
            Some((_, end)) => end,
            None => {
                ends.push((style.kind, 0));
                &mut ends.last_mut().expect("just pushed").1
            }
        };
        if style.range.start >= *end {
            *end = style.range.end;
            kept.push(style);
        }
    }
    kept
}

/// What is left of a range when others are taken out of it. `holes` are sorted and apart.
fn without(range: &Range<usize>, holes: &[Range<usize>]) -> Vec<Range<usize>> {
    let first = holes.partition_point(|hole| hole.end <= range.start);
    let mut pieces = Vec::new();
    let mut at = range.start;
    for hole in holes[first..].iter().take_while(|hole| hole.start < range.end) {
        if hole.start > at {
            pieces.push(at..hole.start);
        }
        at = at.max(hole.end);
    }
    if at < range.end {
        pieces.push(at..range.end);
    }
    pieces
}

/// Leaves out what crosses a span before it or must not stand inside it. `spans` are sorted.
fn nested_only(spans: Vec<Span>) -> Vec<Span> {
    let mut open: Vec<(usize, EntityKind)> = Vec::new();
    let mut kept = Vec::with_capacity(spans.len());
    for span in spans {
        while open.last().is_some_and(|&(end, _)| end <= span.range.start) {
            open.pop();
        }
        if open.iter().all(|&(end, kind)| span.range.end <= end && may_contain(kind, span.kind)) {
            open.push((span.range.end, span.kind));
            kept.push(span);
        }
    }
    kept
}

/// Counts in UTF-16. `spans` are sorted by where they begin.
fn to_entities(text: &str, spans: Vec<Span>) -> Vec<Entity> {
    let mut bounds: Vec<usize> = spans.iter().flat_map(|span| [span.range.start, span.range.end]).collect();
    bounds.sort_unstable();
    bounds.dedup();
    let (mut byte, mut unit) = (0, 0);
    let units: Vec<usize> = bounds
        .iter()
        .map(|&bound| {
            unit += super::len_utf16(&text[byte..bound]);
            byte = bound;
            unit
        })
        .collect();
    let unit_of = |byte: usize| units[bounds.binary_search(&byte).expect("every bound was collected")] as i64;
    spans
        .into_iter()
        .map(|span| {
            let offset = unit_of(span.range.start);
            Entity {
                kind: span.kind,
                offset,
                length: unit_of(span.range.end) - offset,
                url: span.url,
                language: span.language,
                user: span.user,
            }
        })
        .collect()
}
