//! Bold beside Korean, Chinese and Japanese letters.
//!
//! Markdown closes bold only where a word may end, and it takes `)**는` for the middle of one, because a
//! bracket stands before the stars and a letter behind. In languages that put particles to the word, this is
//! what most models write, so such stars are paired here after the parser has left them alone.

use super::spans::{Span, is_code};
use crate::types::EntityKind;

const STARS: &str = "**";

/// Makes bold of what stands between left-over pairs of two stars in one line. `literal` are the places of
/// stars that the author meant as such, in order.
pub(super) fn embolden(text: &mut String, spans: &mut Vec<Span>, literal: &[usize]) {
    if !text.contains(STARS) {
        return;
    }
    let mut codes: Vec<_> = spans.iter().filter(|span| is_code(span.kind)).map(|span| span.range.clone()).collect();
    codes.sort_by_key(|code| code.start);
    let is_in_code = |at: usize| {
        let next = codes.partition_point(|code| code.start <= at);
        next > 0 && at < codes[next - 1].end
    };
    let mut cuts = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let mut opened: Option<Stars> = None;
        let runs = line.match_indices(STARS).map(|(at, _)| Stars::new(line, at));
        for stars in runs.filter(|stars| stars.is_two) {
            if literal.binary_search(&(start + stars.at)).is_ok() || is_in_code(start + stars.at) {
                continue;
            }
            match opened.take() {
                Some(open) if stars.closes && (open.beside_letter || stars.beside_letter) && stars.at > open.at + 2 => {
                    cuts.extend([start + open.at, start + stars.at]);
                }
                _ if stars.opens => opened = Some(stars),
                earlier => opened = earlier,
            }
        }
        start += line.len();
    }
    if cuts.is_empty() {
        return;
    }
    spans.extend(cuts.chunks(2).map(|pair| Span::new(EntityKind::Bold, pair[0] + STARS.len()..pair[1])));
    let moved = |byte: usize| byte - STARS.len() * cuts.partition_point(|&cut| cut < byte);
    for span in spans.iter_mut() {
        span.range = moved(span.range.start)..moved(span.range.end);
    }
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    for &cut in &cuts {
        kept.push_str(&text[at..cut]);
        at = cut + STARS.len();
    }
    kept.push_str(&text[at..]);
    *text = kept;
}

/// Two stars that the parser left in the text.
struct Stars {
    at: usize,
    /// Not part of a longer row of stars.
    is_two: bool,
    opens: bool,
    closes: bool,
    /// Whether they would not do it but for the letter beside them.
    beside_letter: bool,
}

impl Stars {
    fn new(line: &str, at: usize) -> Self {
        let before = line[..at].chars().next_back();
        let after = line[at + STARS.len()..].chars().next();
        let is_two = before != Some('*') && after != Some('*');
        let (Some(before), Some(after)) = (before, after.filter(|&c| c != '\n')) else {
            let (opens, closes) = (before.is_none() && after.is_some(), before.is_some());
            return Stars { at, is_two, opens, closes, beside_letter: false };
        };
        let is_mark = |c: char| !c.is_alphanumeric() && !c.is_whitespace();
        let opens_late = is_cjk(before) && is_mark(after);
        let closes_early = is_mark(before) && is_cjk(after);
        Stars {
            at,
            is_two,
            opens: opens_late || !after.is_whitespace() && (!is_mark(after) || !before.is_alphanumeric()),
            closes: closes_early || !before.is_whitespace() && (!is_mark(before) || !after.is_alphanumeric()),
            beside_letter: opens_late || closes_early,
        }
    }
}

/// Letters of the scripts that write particles, or everything, without a space between.
fn is_cjk(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{11ff}' | '\u{3040}'..='\u{30ff}' | '\u{3130}'..='\u{318f}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}
