//! Reads what an answer cost out of its bytes while they pass, and counts along where it does not say.
//!
//! Nothing is held up, changed or collected: the bytes are walked over once, a few values are kept, and the text that
//! passes is weighed. So the memory of a tap does not grow with the answer, and no bytes can make it fail.

mod heard;
mod skim;
#[cfg(test)]
mod tests;

use salon_core::{Tier, Tokens};

use self::heard::Heard;
use self::skim::{Skim, UNIT};
use super::Wire;
use crate::upstream::Fault;

/// Listens to one answer, streamed or whole: it hears which.
///
/// It has to hear what the upstream means, so the answer must not be compressed.
#[derive(Debug)]
pub struct Tap {
    form: Form,
    skim: Skim,
    heard: Heard,
    line: Line,
    /// The last byte was CR, so an LF that comes next belongs to it.
    after_cr: bool,
    /// The last line was empty, or there was none.
    is_line_empty: bool,
    /// An empty line has ended an event.
    had_event: bool,
}

/// What was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tapped {
    /// What the upstream says that it cost.
    pub tokens: Option<Tokens>,
    /// What was written by our own count of the text that passed, thoughts included. Nothing about what was read: the
    /// request knows.
    pub estimated: Tokens,
    /// How soon it was served, if the upstream says so.
    pub tier: Option<Tier>,
    /// The model that answered, by its own name.
    pub model: Option<String>,
    pub response_id: Option<String>,
    /// The number of the last event, on the one wire that numbers them.
    pub sequence: Option<i64>,
    /// How many texts the array of them had so far, if it is one: Gemini streams it where it is not asked for events.
    pub elements: Option<usize>,
    /// Whether it broke off within an event, or within an element of the array.
    pub in_event: bool,
    /// Whether the answer came to its end, whatever the end was.
    pub finished: bool,
    /// What the upstream says went wrong, where an answer should have been.
    pub error: Option<Fault>,
    /// It is one whole object and neither an answer in this protocol nor an error: what every answer has is not in it.
    pub is_none: bool,
}

impl Tapped {
    /// What the upstream says went wrong, if it says nothing else: neither a word of an answer nor what it would cost.
    pub fn failed_without_a_word(&self) -> Option<Fault> {
        self.error.filter(|_| self.tokens.is_none() && self.estimated.written() == 0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Nothing but white space has come yet.
    Unknown,
    Json,
    Events,
}

/// Where in a line of an event stream we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// So much of `data:` is there, and nothing else.
    Field(usize),
    Data,
    Other,
}

const DATA: &[u8] = b"data:";

/// How an answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// With white space, so far.
    Blank,
    Object,
    Array,
    Events,
}

/// How an answer begins whose first bytes these are; `None` if nothing that begins like this is one, such as a page for
/// people that stands in the way of it.
pub fn beginning(bytes: &[u8]) -> Option<Beginning> {
    const FIELDS: [&[u8]; 5] = [DATA, b"event:", b"id:", b"retry:", b":"];
    let Some(start) = bytes.iter().position(|byte| !is_blank(*byte)) else { return Some(Beginning::Blank) };
    let bytes = &bytes[start..];
    match bytes[0] {
        b'{' => Some(Beginning::Object),
        b'[' => Some(Beginning::Array),
        _ => {
            let fits = |field: &&[u8]| field.iter().zip(bytes).all(|(expected, byte)| expected == byte);
            FIELDS.iter().any(fits).then_some(Beginning::Events)
        }
    }
}

/// White space, and the byte order mark that may stand before everything.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf)
}

impl Tap {
    pub fn new(wire: Wire) -> Tap {
        Tap {
            form: Form::Unknown,
            skim: Skim::new(),
            heard: Heard::new(wire),
            line: Line::Field(0),
            after_cr: false,
            is_line_empty: true,
            had_event: false,
        }
    }

    /// Takes note of what the answer's head says of how soon it was served. What the answer itself says counts more.
    pub fn served(&mut self, tier: &str) {
        self.heard.served(tier);
    }

    /// Listens to the next bytes, wherever they were cut.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.form == Form::Unknown {
            let Some(start) = bytes.iter().position(|byte| !is_blank(*byte)) else { return };
            bytes = &bytes[start..];
            let is_json = matches!(bytes[0], b'{' | b'[');
            self.form = if is_json { Form::Json } else { Form::Events };
            self.heard.is_whole = is_json;
        }
        match self.form {
            Form::Json => self.skim.push(bytes, &mut self.heard),
            Form::Events | Form::Unknown => self.events(bytes),
        }
    }

    /// Whether the upstream has said that something went wrong.
    pub fn has_failed(&self) -> bool {
        self.heard.has_failed()
    }

    /// Whether the first event of the stream has not ended, or the first element of the array.
    pub fn is_in_first(&self) -> bool {
        match self.form {
            Form::Unknown => false,
            Form::Json => self.heard.is_before_element(),
            Form::Events => !self.had_event && self.in_event(),
        }
    }

    /// What was heard so far.
    pub fn so_far(&self) -> Tapped {
        Tapped { in_event: self.in_event(), ..self.heard.tapped() }
    }

    pub fn finish(mut self) -> Tapped {
        let in_event = self.in_event();
        self.skim.reset(&mut self.heard);
        Tapped { in_event, ..self.heard.tapped() }
    }

    /// Whether nothing of ours could follow upon the bytes so far without getting mixed up with them.
    fn in_event(&self) -> bool {
        match self.form {
            Form::Unknown => false,
            Form::Json => !self.skim.is_outside(),
            Form::Events => !(self.line == Line::Field(0) && self.is_line_empty),
        }
    }

    fn events(&mut self, mut bytes: &[u8]) {
        while !self.heard.is_done && !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            match self.line {
                Line::Field(0) if matches!(bytes[0], b'\r' | b'\n') => {
                    // An empty line ends the event, and with it whatever is half said.
                    self.skim.reset(&mut self.heard);
                    self.end_line(bytes[0], true);
                    bytes = &bytes[1..];
                }
                Line::Field(seen) => {
                    let expected = &DATA[seen..];
                    let same = expected.iter().zip(bytes).take_while(|(expected, byte)| expected == byte).count();
                    bytes = &bytes[same..];
                    self.line = if same == expected.len() {
                        Line::Data
                    } else if bytes.is_empty() {
                        Line::Field(seen + same)
                    } else {
                        Line::Other
                    };
                }
                Line::Data | Line::Other => {
                    let end = memchr::memchr2(b'\r', b'\n', bytes);
                    let part = &bytes[..end.unwrap_or(bytes.len())];
                    if self.line == Line::Data {
                        self.skim.push(part, &mut self.heard);
                    }
                    bytes = &bytes[part.len()..];
                    if let Some((last, rest)) = bytes.split_first() {
                        self.heard.end_word();
                        self.end_line(*last, false);
                        bytes = rest;
                    }
                }
            }
        }
    }

    fn end_line(&mut self, last: u8, is_empty: bool) {
        self.line = Line::Field(0);
        self.is_line_empty = is_empty;
        self.had_event |= is_empty;
        self.after_cr = last == b'\r';
    }
}
