//! An answer, read: bytes of any wire become pieces.

use serde_json::Value;

use crate::sse::{Frame, Parser};
use crate::upstream::Fault;
use crate::wire::talk::Piece;
use crate::wire::tap::{Beginning, beginning};
use crate::wire::{Wire, chat, generate, messages, midm, responses};

/// The largest answer that is not a stream, in bytes.
const MAX_ANSWER: usize = 32 << 20;

/// One wire's way of answering. What comes after the end, or after an error, is not passed on to it.
pub(in crate::wire) trait Hear: Send {
    /// The data of one frame.
    fn frame(&mut self, event: Option<&str>, data: Value, out: &mut Vec<Piece>) -> Result<(), Fault>;

    /// An answer that came whole.
    fn whole(&mut self, body: Value, out: &mut Vec<Piece>) -> Result<(), Fault>;

    /// The stream is over. Says the end if the wire has no frame that does, or an error if one is missing.
    fn end(&mut self, out: &mut Vec<Piece>) -> Result<(), Fault>;
}

/// Reads an answer, however its bytes are cut.
pub struct Reader {
    hear: Box<dyn Hear>,
    stream: bool,
    /// Nothing but white space has come yet.
    blank: bool,
    sse: Parser,
    frames: Vec<Frame>,
    body: Vec<u8>,
    over: bool,
}

impl Reader {
    /// `id` names the call: where a wire gives the calls of tools no ids, they are made of it.
    pub fn new(wire: Wire, stream: bool, id: &str) -> Reader {
        let hear: Box<dyn Hear> = match wire {
            Wire::Chat => Box::new(chat::Answer::new(id)),
            Wire::Responses => Box::new(responses::Answer::new(id)),
            Wire::Messages => Box::new(messages::Answer::new(id)),
            Wire::Generate => Box::new(generate::Answer::new(id)),
            Wire::Midm => Box::new(midm::Answer::default()),
            // Nobody is asked in these words on somebody else's behalf.
            Wire::Completions | Wire::Embeddings => Box::new(Nothing),
        };
        Reader { hear, stream, blank: true, sse: Parser::new(), frames: Vec::new(), body: Vec::new(), over: false }
    }

    /// Appends the pieces that these bytes complete. After [`Piece::End`] or [`Piece::Broken`] there are no more.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Piece>) {
        if self.over {
            return;
        }
        if self.blank {
            let begins = beginning(bytes);
            self.blank = begins == Some(Beginning::Blank);
            // Some answer whole whatever they are asked.
            self.stream &= begins != Some(Beginning::Object);
        }
        if !self.stream {
            if self.body.len() + bytes.len() > MAX_ANSWER {
                return self.note(Err(Fault::Garbled), out.len(), out);
            }
            return self.body.extend_from_slice(bytes);
        }
        let mut frames = std::mem::take(&mut self.frames);
        let read = self.sse.push(bytes, &mut frames).map_err(|_| Fault::Garbled);
        for frame in frames.drain(..) {
            self.frame(&frame, out);
        }
        self.frames = frames;
        if !self.over {
            self.note(read, out.len(), out);
        }
    }

    /// There are no more bytes. An answer that has no end by now is broken.
    pub fn end(&mut self, out: &mut Vec<Piece>) {
        if self.over {
            return;
        }
        let before = out.len();
        if !self.stream {
            let body = std::mem::take(&mut self.body);
            let heard = serde_json::from_slice(&body)
                .map_err(|_| if body.is_empty() { Fault::Silent } else { Fault::Garbled })
                .and_then(|body| self.hear.whole(body, out));
            self.note(heard, before, out);
        } else {
            // Half a frame is no reason to call the whole answer garbled: it was cut off, which `hear` knows.
            if let Some(frame) = self.sse.finish().filter(|frame| serde_json::from_str::<Value>(&frame.data).is_ok()) {
                self.frame(&frame, out);
            }
            if !self.over {
                let heard = self.hear.end(out);
                self.note(heard, before, out);
            }
        }
        if !self.over {
            self.note(Err(Fault::Cut), before, out);
        }
    }

    fn frame(&mut self, frame: &Frame, out: &mut Vec<Piece>) {
        if self.over {
            return;
        }
        let before = out.len();
        let event = frame.event.as_deref();
        let heard = match serde_json::from_str(&frame.data) {
            Ok(data) => self.hear.frame(event, data, out),
            Err(_) if frame.data.trim() == "[DONE]" => self.hear.end(out),
            Err(_) => lines(&frame.data).and_then(|lines| {
                lines.into_iter().try_for_each(|line| match line {
                    Some(data) => self.hear.frame(event, data, out),
                    None => self.hear.end(out),
                })
            }),
        };
        self.note(heard, before, out);
    }

    /// Sees whether that was the end. What stood in `out` before is not looked at.
    fn note(&mut self, heard: Result<(), Fault>, before: usize, out: &mut Vec<Piece>) {
        if let Err(fault) = heard {
            out.push(Piece::Broken(fault));
        }
        // Whatever a wire may say in the same breath after its end does not count.
        let is_end = |piece: &Piece| matches!(piece, Piece::End { .. } | Piece::Broken(_));
        if let Some(end) = out[before..].iter().position(is_end) {
            out.truncate(before + end + 1);
            self.over = true;
        }
    }
}

/// The JSON texts of a frame whose server forgets the blank lines between its events. `None` is `[DONE]`.
fn lines(data: &str) -> Result<Vec<Option<Value>>, Fault> {
    let lines: Vec<&str> = data.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() < 2 {
        return Err(Fault::Garbled);
    }
    let read = |line: &str| match line {
        "[DONE]" => Ok(None),
        line => serde_json::from_str(line).map(Some).map_err(|_| Fault::Garbled),
    };
    lines.into_iter().map(read).collect()
}

/// A wire whose answers are not carried.
struct Nothing;

impl Hear for Nothing {
    fn frame(&mut self, _: Option<&str>, _: Value, _: &mut Vec<Piece>) -> Result<(), Fault> {
        Err(Fault::Garbled)
    }

    fn whole(&mut self, _: Value, _: &mut Vec<Piece>) -> Result<(), Fault> {
        Err(Fault::Garbled)
    }

    fn end(&mut self, _: &mut Vec<Piece>) -> Result<(), Fault> {
        Err(Fault::Garbled)
    }
}
