//! Expected texts: words that must be there, and holes for what is different each time.

use std::collections::BTreeMap;

/// What named holes have held so far in this story.
pub type Bound = BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub struct Pattern {
    pub text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Words(String),
    /// Anything, also nothing and also lines.
    Any,
    /// `HH:MM:SS`
    Time,
    Number,
    /// An id; the name, if it must be the same one wherever it stands.
    Id(Option<String>),
}

impl Pattern {
    pub fn new(text: &str) -> Pattern {
        let mut pieces = Vec::new();
        let mut words = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let hole = rest[at + 1..].split_once('}').and_then(|(name, after)| Some((hole(name)?, after)));
            match hole {
                Some((piece, after)) => {
                    words.push_str(&rest[..at]);
                    if !words.is_empty() {
                        pieces.push(Piece::Words(std::mem::take(&mut words)));
                    }
                    pieces.push(piece);
                    rest = after;
                }
                None => {
                    words.push_str(&rest[..=at]);
                    rest = &rest[at + 1..];
                }
            }
        }
        words.push_str(rest);
        if !words.is_empty() {
            pieces.push(Piece::Words(words));
        }
        Pattern { text: text.to_owned(), pieces }
    }

    /// Whether `text` is what was expected; what its named holes hold is added to `bound`.
    pub fn fits(&self, text: &str, bound: &mut Bound) -> bool {
        match fit(&self.pieces, text, bound) {
            Some(now_bound) => {
                *bound = now_bound;
                true
            }
            None => false,
        }
    }
}

/// Braces around anything else, such as JSON, are words.
fn hole(name: &str) -> Option<Piece> {
    match name {
        "any" => Some(Piece::Any),
        "time" => Some(Piece::Time),
        "number" => Some(Piece::Number),
        "id" => Some(Piece::Id(None)),
        name if !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ' ') => {
            Some(Piece::Id(Some(name.to_owned())))
        }
        _ => None,
    }
}

fn fit(pieces: &[Piece], text: &str, bound: &Bound) -> Option<Bound> {
    let Some((first, others)) = pieces.split_first() else { return text.is_empty().then(|| bound.clone()) };
    let of_an_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match first {
        Piece::Words(words) => fit(others, text.strip_prefix(words.as_str())?, bound),
        Piece::Any => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().find_map(|at| fit(others, &text[at..], bound))
        }
        Piece::Time => {
            let time = text.get(..8)?;
            let right = time.char_indices().all(|(at, c)| if at % 3 == 2 { c == ':' } else { c.is_ascii_digit() });
            if right { fit(others, &text[8..], bound) } else { None }
        }
        Piece::Number => {
            let length = text.chars().take_while(char::is_ascii_digit).count();
            if length > 0 { fit(others, &text[length..], bound) } else { None }
        }
        Piece::Id(name) => {
            let length = text.chars().take_while(|c| of_an_id(*c)).count();
            let id = &text[..length];
            match name {
                _ if length < 10 => None,
                None => fit(others, &text[length..], bound),
                Some(name) if bound.get(name).is_some_and(|known| known != id) => None,
                Some(name) => {
                    let mut bound = bound.clone();
                    bound.insert(name.clone(), id.to_owned());
                    fit(others, &text[length..], &bound)
                }
            }
        }
    }
}
