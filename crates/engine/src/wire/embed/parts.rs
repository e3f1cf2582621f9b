//! Where the vectors of an answer stand, found without reading them.

use crate::wire::head::BadAsk;
use crate::wire::head::scan::{self, Kind, Level, Span, Visit};

/// An answer in its parts.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The fields of the answer and their values, in their order.
    fields: Vec<(Span, Span)>,
    /// The elements of the list.
    pub vectors: Vec<Vector>,
}

/// One element of the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vector {
    pub span: Span,
    is_object: bool,
    /// Its number, where it has one.
    index: Option<Span>,
}

impl Parts {
    /// Reads an answer whose vectors stand under `list`, once. `None` if it is no such answer.
    pub(super) fn read(answer: &[u8], list: &'static [u8]) -> Option<Parts> {
        let mut finder = Finder { answer, list, parts: Parts::default(), index: None, is_object: false, lists: 0 };
        scan::walk(answer, &mut finder).ok()?;
        (finder.is_object && finder.lists == 1).then_some(finder.parts)
    }

    pub(super) fn value(&self, answer: &[u8], name: &[u8]) -> Option<Span> {
        self.fields.iter().find(|(key, _)| key.of(answer) == name).map(|(_, value)| *value)
    }

    /// The vectors by their numbers, which have to be all those from zero; or as they stand, if none has one.
    pub(super) fn in_order(&self, answer: &[u8]) -> Option<Vec<Vector>> {
        if self.vectors.iter().any(|vector| !vector.is_object) {
            return None;
        }
        if self.vectors.iter().all(|vector| vector.index.is_none()) {
            return Some(self.vectors.clone());
        }
        let mut places = vec![None; self.vectors.len()];
        for vector in &self.vectors {
            let number = std::str::from_utf8(vector.index?.of(answer)).ok()?.parse::<usize>().ok()?;
            if places.get_mut(number)?.replace(*vector).is_some() {
                return None;
            }
        }
        places.into_iter().collect()
    }

    /// The same answer with some of its vectors, numbered from zero, and so many tokens used.
    pub(super) fn with(&self, answer: &[u8], vectors: &[Vector], tokens: Option<i64>) -> Vec<u8> {
        let length: usize = vectors.iter().map(|vector| vector.span.len() + 8).sum();
        let mut told = Vec::with_capacity(length + 256);
        told.push(b'{');
        for (at, (key, value)) in self.fields.iter().enumerate() {
            if at > 0 {
                told.push(b',');
            }
            told.push(b'"');
            told.extend_from_slice(key.of(answer));
            told.extend_from_slice(b"\":");
            match (key.of(answer), tokens) {
                (b"data", _) => list(answer, vectors, &mut told),
                (b"usage", Some(tokens)) => {
                    told.extend_from_slice(
                        format!("{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}").as_bytes(),
                    );
                }
                _ => told.extend_from_slice(value.of(answer)),
            }
        }
        told.push(b'}');
        told
    }
}

fn list(answer: &[u8], vectors: &[Vector], told: &mut Vec<u8>) {
    told.push(b'[');
    for (number, vector) in vectors.iter().enumerate() {
        if number > 0 {
            told.push(b',');
        }
        match vector.index {
            Some(index) => {
                told.extend_from_slice(&answer[vector.span.start..index.start]);
                told.extend_from_slice(number.to_string().as_bytes());
                told.extend_from_slice(&answer[index.end..vector.span.end]);
            }
            None => told.extend_from_slice(vector.span.of(answer)),
        }
    }
    told.push(b']');
}

struct Finder<'a> {
    answer: &'a [u8],
    list: &'static [u8],
    parts: Parts,
    /// The number in the element that is being read.
    index: Option<Span>,
    is_object: bool,
    /// How often the list stands there; two would leave it to chance which one is meant.
    lists: usize,
}

impl Visit for Finder<'_> {
    fn field(&mut self, key: &[u8]) -> Result<(), BadAsk> {
        self.lists += usize::from(key == self.list);
        Ok(())
    }

    fn value(&mut self, levels: &[Level], kind: Kind, span: Span, _: usize) -> Result<(), BadAsk> {
        let is_list = |level: &Level| level.is_object && level.key.of(self.answer) == self.list;
        match levels {
            [] => self.is_object = kind == Kind::Object,
            [outer] if outer.is_object => self.parts.fields.push((outer.key, span)),
            [outer, inner] if is_list(outer) && !inner.is_object => {
                let vector = Vector { span, is_object: kind == Kind::Object, index: self.index.take() };
                self.parts.vectors.push(vector);
            }
            [outer, inner, element]
                if is_list(outer)
                    && !inner.is_object
                    && element.is_object
                    && element.key.of(self.answer) == b"index" =>
            {
                self.index = Some(span).filter(|_| kind == Kind::Number);
            }
            _ => {}
        }
        Ok(())
    }
}
