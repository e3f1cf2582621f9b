//! An answer in Anthropic's words, written.

use salon_core::Tokens;
use serde_json::{Value, json};

use crate::upstream::Fault;
use crate::wire::Wire;
use crate::wire::carry::writer::{Tell, Whole};
use crate::wire::carry::{Door, frames, tools};
use crate::wire::talk::{Finish, Part, Piece};

/// The answer as one object.
pub(in crate::wire) fn answer(door: &Door, whole: Whole) -> Result<Value, Fault> {
    let mut content = Vec::with_capacity(whole.parts.len());
    let finish = whole.finish;
    for part in &whole.parts {
        match part {
            Part::Text(text) | Part::Refusal(text) => content.push(json!({ "type": "text", "text": text })),
            Part::Thought(text) => content.push(json!({ "type": "thinking", "thinking": text, "signature": "" })),
            Part::Call(call) => match frames::arguments(&call.arguments) {
                Some(input) => {
                    let name = tools::show(door, call).name;
                    content.push(json!({ "type": "tool_use", "id": call.id, "name": name, "input": input }));
                }
                // The limit fell in the midst of it; half a call is none.
                None if finish == Finish::Length => {}
                None => return Err(Fault::Garbled),
            },
            Part::Media(_) | Part::Outcome(_) => {}
        }
    }
    Ok(json!({
        "id": id(door),
        "type": "message",
        "role": "assistant",
        "model": door.model,
        "content": content,
        "stop_reason": reason(&finish),
        "stop_sequence": sequence(&finish),
        "usage": usage(&whole.tokens.unwrap_or_default()),
    }))
}

fn id(door: &Door) -> String {
    format!("msg_{}", door.id)
}

fn reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Sequence(None) => "end_turn",
        Finish::Sequence(Some(_)) => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::Calls => "tool_use",
        Finish::Filtered | Finish::Refused => "refusal",
    }
}

fn sequence(finish: &Finish) -> Option<&str> {
    if let Finish::Sequence(sequence) = finish { sequence.as_deref() } else { None }
}

/// Usage as Anthropic has it: what a cache gave stands beside the input, thoughts are part of the output.
fn usage(tokens: &Tokens) -> Value {
    let written = tokens.cache_write_5m.saturating_add(tokens.cache_write_1h);
    let mut usage = json!({
        "input_tokens": tokens.input.saturating_add(tokens.audio_in),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": tokens.cache_read,
        "output_tokens": tokens.written(),
    });
    if written > 0 {
        usage["cache_creation"] = json!({
            "ephemeral_5m_input_tokens": tokens.cache_write_5m,
            "ephemeral_1h_input_tokens": tokens.cache_write_1h,
        });
    }
    if tokens.reasoning > 0 {
        usage["output_tokens_details"] = json!({ "thinking_tokens": tokens.reasoning });
    }
    usage
}

/// The answer in events.
pub(in crate::wire) struct Stream {
    door: Door,
    /// How many blocks there are so far, the open one among them.
    blocks: usize,
    open: Option<Block>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
    Call,
}

impl Stream {
    pub(in crate::wire) fn new(door: Door) -> Stream {
        Stream { door, blocks: 0, open: None }
    }

    /// Makes the open block one of this kind.
    fn open(&mut self, kind: Block, block: &Value, out: &mut Vec<u8>) {
        if self.open == Some(kind) && kind != Block::Call {
            return;
        }
        self.close(out);
        let index = self.blocks;
        frames::named(
            out,
            "content_block_start",
            &json!({ "type": "content_block_start", "index": index, "content_block": block }),
        );
        self.blocks += 1;
        self.open = Some(kind);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            let index = self.blocks - 1;
            frames::named(out, "content_block_stop", &json!({ "type": "content_block_stop", "index": index }));
        }
    }

    /// A piece of the open block: most of a stream.
    fn delta(&self, kind: &str, field: &str, text: &str, out: &mut Vec<u8>) {
        let index = self.blocks.saturating_sub(1);
        let head = format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\
             \"delta\":{{\"type\":\"{kind}\",\"{field}\":"
        );
        out.extend_from_slice(head.as_bytes());
        frames::quoted(out, text);
        out.extend_from_slice(b"}}\n\n");
    }
}

impl Tell for Stream {
    fn tell(&mut self, piece: Piece, out: &mut Vec<u8>) -> Result<(), Fault> {
        match piece {
            Piece::Begin { tokens } => {
                let message = json!({
                    "id": id(&self.door),
                    "type": "message",
                    "role": "assistant",
                    "model": self.door.model,
                    "content": [],
                    "stop_reason": null,
                    "stop_sequence": null,
                    "usage": usage(&tokens.unwrap_or_default()),
                });
                frames::named(out, "message_start", &json!({ "type": "message_start", "message": message }));
            }
            Piece::Text(text) | Piece::Refusal(text) => {
                self.open(Block::Text, &json!({ "type": "text", "text": "" }), out);
                self.delta("text_delta", "text", &text, out);
            }
            Piece::Thought(text) => {
                self.open(Block::Thinking, &json!({ "type": "thinking", "thinking": "", "signature": "" }), out);
                self.delta("thinking_delta", "thinking", &text, out);
            }
            Piece::Call { id, name, .. } => {
                let name = self.door.disguise(&name).map_or(name.as_str(), |disguise| &disguise.name);
                let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
                self.open(Block::Call, &block, out);
            }
            Piece::Arguments { json, .. } => self.delta("input_json_delta", "partial_json", &json, out),
            Piece::CallDone { .. } => self.close(out),
            Piece::End { finish, tokens } => {
                self.close(out);
                let told = json!({
                    "type": "message_delta",
                    "delta": { "stop_reason": reason(&finish), "stop_sequence": sequence(&finish) },
                    "usage": usage(&tokens.unwrap_or_default()),
                });
                frames::named(out, "message_delta", &told);
                frames::named(out, "message_stop", &json!({ "type": "message_stop" }));
            }
            Piece::Broken(fault) => {
                out.extend_from_slice(b"event: error\n");
                frames::refusal(out, Wire::Messages, &self.door.id, fault);
            }
        }
        Ok(())
    }
}
