//! An answer in Gemini's words, written.

use salon_core::Tokens;
use serde_json::{Value, json};

use crate::upstream::{Fault, Trouble};
use crate::wire::Wire;
use crate::wire::carry::writer::{Tell, Whole};
use crate::wire::carry::{Door, frames, tools};
use crate::wire::refusal::Refused;
use crate::wire::talk::{Call, Finish, Part, Piece};

/// The answer as one object.
pub(in crate::wire) fn answer(door: &Door, whole: Whole) -> Result<Value, Fault> {
    let mut parts = Vec::with_capacity(whole.parts.len());
    let mut end = End::default();
    for part in &whole.parts {
        match part {
            Part::Text(text) => parts.push(json!({ "text": text })),
            Part::Refusal(text) => {
                end.refused = true;
                parts.push(json!({ "text": text }));
            }
            Part::Thought(text) => parts.push(json!({ "text": text, "thought": true })),
            Part::Call(call) => match write_call(door, call) {
                Some(call) => parts.push(call),
                None => end.malformed = true,
            },
            Part::Media(_) | Part::Outcome(_) => {}
        }
    }
    if parts.is_empty() {
        parts.push(json!({ "text": "" }));
    }
    let reason = end.reason(&whole.finish);
    Ok(chunk(door, parts, Some(reason), whole.tokens.as_ref()))
}

fn chunk(door: &Door, parts: Vec<Value>, reason: Option<&str>, tokens: Option<&Tokens>) -> Value {
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" } });
    if let Some(reason) = reason {
        candidate["finishReason"] = reason.into();
    }
    candidate["index"] = 0.into();
    let mut chunk = json!({ "candidates": [candidate] });
    if let Some(tokens) = tokens {
        chunk["usageMetadata"] = usage(tokens);
    }
    chunk["modelVersion"] = door.model.as_str().into();
    chunk["responseId"] = door.id.as_str().into();
    chunk
}

/// `None` if its arguments are no object: half a call is none.
fn write_call(door: &Door, call: &Call) -> Option<Value> {
    let args = frames::arguments(&call.arguments)?;
    let name = tools::show(door, call).name;
    Some(json!({ "functionCall": { "id": call.id, "name": name, "args": args } }))
}

/// What the reason to end depends on, besides the reason.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    /// It said in words that it would not answer.
    refused: bool,
    /// A call could not be told.
    malformed: bool,
}

impl End {
    fn reason(self, finish: &Finish) -> &'static str {
        match finish {
            Finish::Length => "MAX_TOKENS",
            Finish::Filtered => "SAFETY",
            Finish::Refused if !self.refused => "SAFETY",
            _ if self.malformed => "MALFORMED_FUNCTION_CALL",
            Finish::Stop | Finish::Sequence(_) | Finish::Calls | Finish::Refused => "STOP",
        }
    }
}

/// Usage as Gemini has it: what a cache gave is part of the prompt, thoughts stand beside the answer.
fn usage(tokens: &Tokens) -> Value {
    let mut usage = json!({
        "promptTokenCount": tokens.read(),
        "candidatesTokenCount": tokens.output.saturating_add(tokens.audio_out),
        "totalTokenCount": tokens.total(),
    });
    if tokens.cache_read > 0 {
        usage["cachedContentTokenCount"] = tokens.cache_read.into();
    }
    if tokens.reasoning > 0 {
        usage["thoughtsTokenCount"] = tokens.reasoning.into();
    }
    usage
}

/// The answer in chunks: events, or the elements of an array.
pub(in crate::wire) struct Stream {
    door: Door,
    /// How many chunks there were.
    chunks: usize,
    /// A call is told when it is whole.
    call: Option<Call>,
    end: End,
}

impl Stream {
    pub(in crate::wire) fn new(door: Door) -> Stream {
        Stream { door, chunks: 0, call: None, end: End::default() }
    }

    fn part(&mut self, part: Value, out: &mut Vec<u8>) {
        let chunk = chunk(&self.door, vec![part], None, None);
        self.chunk(out, &chunk);
    }

    /// Lines end here as Google's servers end them.
    fn chunk(&mut self, out: &mut Vec<u8>, data: &Value) {
        self.open(out);
        frames::json(out, data);
        if !self.door.array {
            out.extend_from_slice(b"\r\n\r\n");
        }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(match (self.door.array, self.chunks) {
            (false, _) => b"data: ",
            (true, 0) => b"[",
            (true, _) => b",\r\n",
        });
        self.chunks += 1;
    }
}

impl Tell for Stream {
    fn tell(&mut self, piece: Piece, out: &mut Vec<u8>) -> Result<(), Fault> {
        match piece {
            Piece::Begin { .. } => {}
            Piece::Text(text) => self.part(json!({ "text": text }), out),
            Piece::Refusal(text) => {
                self.end.refused = true;
                self.part(json!({ "text": text }), out);
            }
            Piece::Thought(text) => self.part(json!({ "text": text, "thought": true }), out),
            Piece::Call { id, name, .. } => self.call = Some(Call { id, name, arguments: String::new() }),
            Piece::Arguments { json, .. } => {
                if let Some(call) = &mut self.call {
                    call.arguments.push_str(&json);
                }
            }
            Piece::CallDone { .. } => {
                if let Some(call) = self.call.take() {
                    match write_call(&self.door, &call) {
                        Some(call) => self.part(call, out),
                        None => self.end.malformed = true,
                    }
                }
            }
            Piece::End { finish, tokens } => {
                let parts = vec![json!({ "text": "" })];
                let last = chunk(&self.door, parts, Some(self.end.reason(&finish)), tokens.as_ref());
                self.chunk(out, &last);
                if self.door.array {
                    out.push(b']');
                }
            }
            Piece::Broken(fault) if self.door.array => {
                self.open(out);
                out.extend_from_slice(&Refused::from(Trouble::from(fault)).body(Wire::Generate, &self.door.id));
                out.push(b']');
            }
            Piece::Broken(fault) => frames::refusal(out, Wire::Generate, &self.door.id, fault),
        }
        Ok(())
    }
}
