//! Walks over a JSON text once, from its first byte to its last, and says what stands where.
//!
//! It accepts what the grammar accepts and decodes nothing. Strings are most of a request, so they are what is fast.

use super::{BadAsk, MAX_DEPTH};
use crate::wire::run;

/// A part of the text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::wire) struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub(in crate::wire) fn of(self, text: &[u8]) -> &[u8] {
        &text[self.start..self.end]
    }

    pub(in crate::wire) fn len(self) -> usize {
        self.end - self.start
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// An array or object that is open.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::wire) struct Level {
    pub is_object: bool,
    /// The key whose value is being read, without its quotes. Empty in arrays.
    pub key: Span,
    /// How many values it has so far.
    pub count: usize,
    start: usize,
}

/// Who is told what was found.
pub(in crate::wire) trait Visit {
    /// A key of the outermost object, before its value. An error ends the walk.
    fn field(&mut self, key: &[u8]) -> Result<(), BadAsk>;
    /// A value that has ended. `levels` are those around it, from the outermost; `count` is how many values it has.
    fn value(&mut self, levels: &[Level], kind: Kind, span: Span, count: usize) -> Result<(), BadAsk>;
}

/// What a look at every byte tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::wire) struct Census {
    /// Bytes of characters beyond ASCII.
    pub high: usize,
    /// Characters of four bytes: emoji, most of all.
    pub wide: usize,
    /// Characters that are written as `\u1234`.
    pub escaped: usize,
}

/// Walks over the text.
pub(in crate::wire) fn walk(text: &[u8], visit: &mut impl Visit) -> Result<Census, BadAsk> {
    let (Census { high, wide, .. }, has_controls) = count(text);
    // Plain ASCII is valid without looking.
    if high > 0
        && let Err(error) = std::str::from_utf8(text)
    {
        return Err(BadAsk::NotJson("it is not UTF-8", error.valid_up_to()));
    }
    let mut walk = Walk { text, at: 0, has_controls, escaped: 0 };
    walk.all(visit)?;
    Ok(Census { high, wide, escaped: walk.escaped })
}

/// Counts the bytes beyond ASCII, and sees whether there are control characters. In a compact text there are none, which
/// spares looking for them in each string.
fn count(text: &[u8]) -> (Census, bool) {
    let (mut census, mut has_controls) = (Census::default(), false);
    // In pieces whose counts fit a byte, so that many are added at once.
    for piece in text.chunks(128) {
        let (mut high, mut wide, mut low) = (0_u8, 0_u8, 0_u8);
        for byte in piece {
            high += byte >> 7;
            wide += u8::from(*byte >= 0xf0);
            low |= u8::from(*byte < 0x20);
        }
        census.high += usize::from(high);
        census.wide += usize::from(wide);
        has_controls |= low > 0;
    }
    (census, has_controls)
}

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    has_controls: bool,
    escaped: usize,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    /// A comma, or the end of what is open.
    Comma,
}

impl Walk<'_> {
    fn all(&mut self, visit: &mut impl Visit) -> Result<(), BadAsk> {
        let mut levels = [Level::default(); MAX_DEPTH];
        let mut depth = 0;
        let mut next = Next::Value;
        loop {
            let byte = self.skip_space()?;
            let start = self.at;
            let (kind, count) = match (next, byte) {
                (Next::KeyOrEnd | Next::Comma, b'}') if levels[depth - 1].is_object => {
                    self.at += 1;
                    depth -= 1;
                    (Kind::Object, levels[depth].count)
                }
                (Next::ValueOrEnd | Next::Comma, b']') if !levels[depth - 1].is_object => {
                    self.at += 1;
                    depth -= 1;
                    (Kind::Array, levels[depth].count)
                }
                (Next::Comma, b',') => {
                    self.at += 1;
                    next = if levels[depth - 1].is_object { Next::Key } else { Next::Value };
                    continue;
                }
                (Next::Key | Next::KeyOrEnd, b'"') => {
                    self.string()?;
                    let key = Span { start: start + 1, end: self.at - 1 };
                    levels[depth - 1].key = key;
                    if depth == 1 {
                        visit.field(key.of(self.text))?;
                    }
                    if self.skip_space()? != b':' {
                        return Err(self.bad("a colon is missing"));
                    }
                    self.at += 1;
                    next = Next::Value;
                    continue;
                }
                (Next::Value | Next::ValueOrEnd, b'{' | b'[') => {
                    if depth == MAX_DEPTH {
                        return Err(BadAsk::TooDeep);
                    }
                    let is_object = byte == b'{';
                    levels[depth] = Level { is_object, key: Span::default(), count: 0, start };
                    depth += 1;
                    self.at += 1;
                    next = if is_object { Next::KeyOrEnd } else { Next::ValueOrEnd };
                    continue;
                }
                (Next::Value | Next::ValueOrEnd, _) => (self.scalar(byte)?, 0),
                (Next::Key | Next::KeyOrEnd, _) => return Err(self.bad("a key is missing")),
                (Next::Comma, _) => return Err(self.bad("a comma is missing")),
            };
            // A value has ended: a scalar, or what was open at this depth.
            let start = if matches!(kind, Kind::Array | Kind::Object) { levels[depth].start } else { start };
            visit.value(&levels[..depth], kind, Span { start, end: self.at }, count)?;
            if depth == 0 {
                return self.end();
            }
            levels[depth - 1].count += 1;
            next = Next::Comma;
        }
    }

    fn end(&mut self) -> Result<(), BadAsk> {
        let rest = self.text[self.at..].iter().position(|byte| !is_space(*byte));
        match rest {
            None => Ok(()),
            Some(rest) => Err(BadAsk::NotJson("there is something after its end", self.at + rest)),
        }
    }

    fn bad(&self, what: &'static str) -> BadAsk {
        if self.at >= self.text.len() {
            BadAsk::NotJson("it breaks off", self.at)
        } else {
            BadAsk::NotJson(what, self.at)
        }
    }

    fn skip_space(&mut self) -> Result<u8, BadAsk> {
        while let Some(byte) = self.text.get(self.at) {
            if !is_space(*byte) {
                return Ok(*byte);
            }
            self.at += 1;
        }
        Err(self.bad("it breaks off"))
    }

    fn scalar(&mut self, first: u8) -> Result<Kind, BadAsk> {
        match first {
            b'"' => self.string().map(|()| Kind::String),
            b'-' | b'0'..=b'9' => self.number().map(|()| Kind::Number),
            b't' => self.word(b"true", Kind::Bool),
            b'f' => self.word(b"false", Kind::Bool),
            b'n' => self.word(b"null", Kind::Null),
            _ => Err(self.bad("a value is missing")),
        }
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<Kind, BadAsk> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.bad("there is an unknown word"));
        }
        self.at += word.len();
        Ok(kind)
    }

    fn number(&mut self) -> Result<(), BadAsk> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        // A digit here follows a leading zero.
        if self.peek().is_some_and(|byte| byte.is_ascii_digit()) { Err(self.bad("a number is wrong")) } else { Ok(()) }
    }

    /// One digit at least.
    fn digits(&mut self) -> Result<(), BadAsk> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.bad("a number is wrong")) } else { Ok(()) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// From the opening quote to behind the closing one.
    fn string(&mut self) -> Result<(), BadAsk> {
        self.at += 1;
        loop {
            let from = self.at;
            self.at = run::end(self.text, from);
            if self.has_controls
                && let Some(control) = self.text[from..self.at].iter().position(|byte| *byte < 0x20)
            {
                self.at = from + control;
                return Err(self.bad("a control character stands in a string"));
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => self.escape()?,
                None => return Err(self.bad("it breaks off")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), BadAsk> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                let digits = self.text.get(self.at..self.at + 4).unwrap_or_default();
                if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(self.bad("an escape is wrong"));
                }
                self.at += 4;
                self.escaped += 1;
            }
            _ => return Err(self.bad("an escape is wrong")),
        }
        Ok(())
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fuzz;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    /// Takes part in nothing.
    struct Deaf;

    impl Visit for Deaf {
        fn field(&mut self, _: &[u8]) -> Result<(), BadAsk> {
            Ok(())
        }

        fn value(&mut self, _: &[Level], _: Kind, _: Span, _: usize) -> Result<(), BadAsk> {
            Ok(())
        }
    }

    fn verdict(text: &[u8]) -> Result<(), BadAsk> {
        walk(text, &mut Deaf).map(drop)
    }

    /// Whether the grammar accepts it. Values that only some machines can hold, such as `1e400`, are grammatical.
    fn is_json(text: &[u8]) -> bool {
        std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
    }

    #[track_caller]
    fn check(text: &[u8]) {
        match verdict(text) {
            Ok(()) => assert!(is_json(text), "accepted: {}", text.escape_ascii()),
            Err(BadAsk::TooDeep) => assert!(text.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() > MAX_DEPTH),
            Err(error) => assert!(!is_json(text), "{error}: {}", text.escape_ascii()),
        }
    }

    #[test]
    fn what_is_json_is_accepted_and_nothing_else() {
        for text in [
            "{}",
            " {} ",
            "[]",
            "[[],{}]",
            "0",
            "-0",
            "-",
            "01",
            "-01",
            "1.",
            ".1",
            "1.0",
            "1e",
            "1e5",
            "1e+5",
            "1E-",
            "+1",
            "0x1",
            "\"\"",
            "\"",
            "\"\\\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\u1234\"",
            "\"\\x\"",
            "\"\u{7f}\"",
            "\"\n\"",
            "\"\u{0}\"",
            "true",
            "tru",
            "truee",
            "nul",
            "null",
            "NaN",
            "Infinity",
            "",
            " ",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":1,\"a\":2}",
            "{a:1}",
            "{1:1}",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1]]",
            "[1}",
            "{\"a\":1]",
            "[",
            "{",
            "[1",
            "{\"a\"",
            "{\"a\":",
            "[1,2] x",
            "[1] [2]",
            "\u{feff}{}",
            "\"é한🦜\"",
            "\"\\ud83e\"",
            "'a'",
            "// x\n1",
            "1 /**/",
            "[\"\u{1f}\"]",
            "{\"\t\":1}",
            "\u{b}1",
            "\u{a0}1",
            "[1e400]",
            "{\"a\":1}\0",
            "-1-1",
            "1e5.5",
            "--1",
            "[0]\n\r\t ",
        ] {
            check(text.as_bytes());
        }
        for text in [b"\"\xff\"".as_slice(), b"\"\xed\x95\"", b"\xff", b"\"\xed\xa0\x80\"", b"[\"\xc0\x80\"]"] {
            check(text);
        }
    }

    #[test]
    fn what_nests_too_deep_is_refused_and_not_a_level_earlier() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert_eq!(verdict(nested(MAX_DEPTH).as_bytes()), Ok(()));
        assert_eq!(verdict(nested(MAX_DEPTH + 1).as_bytes()), Err(BadAsk::TooDeep));
        assert_eq!(verdict("{\"a\":".repeat(100_000).as_bytes()), Err(BadAsk::TooDeep));
    }

    #[test]
    fn errors_say_where_they_are() {
        for (text, error) in [
            ("{\"a\":1,}", BadAsk::NotJson("a key is missing", 7)),
            ("{\"a\" 1}", BadAsk::NotJson("a colon is missing", 5)),
            ("[1 2]", BadAsk::NotJson("a comma is missing", 3)),
            ("[1", BadAsk::NotJson("it breaks off", 2)),
            ("{} x", BadAsk::NotJson("there is something after its end", 3)),
            ("[\"a\nb\"]", BadAsk::NotJson("a control character stands in a string", 3)),
        ] {
            assert_eq!(verdict(text.as_bytes()), Err(error), "{text}");
        }
        assert_eq!(verdict(b"[\"a\xff\"]"), Err(BadAsk::NotJson("it is not UTF-8", 3)));
    }

    #[test]
    fn bytes_and_escapes_are_counted() {
        let text = format!("[\"{}\", \"\\u00e9\\n\\u1234\"]", "é🦜".repeat(500));
        assert_eq!(walk(text.as_bytes(), &mut Deaf), Ok(Census { high: 3_000, wide: 500, escaped: 2 }));
    }

    proptest! {
        #![proptest_config(fuzz::config(100_000))]

        #[test]
        fn the_verdict_on_a_damaged_request_is_that_of_a_parser((_, text) in fuzz::damaged(fuzz::REQUESTS)) {
            check(&text);
        }
    }

    proptest! {
        #![proptest_config(fuzz::config(20_000))]

        #[test]
        fn the_verdict_on_any_text_is_that_of_a_parser(text in fuzz::json(), damage in any::<Option<(u8, prop::sample::Index)>>()) {
            let mut text = text.into_bytes();
            check(&text);
            if let Some((byte, at)) = damage {
                let at = at.index(text.len());
                text[at] = byte;
                check(&text);
            }
        }
    }
}
