//! A chat answer, written.

use salon_core::Tokens;
use serde_json::{Map, Value, json};

use crate::upstream::Fault;
use crate::wire::Wire;
use crate::wire::carry::writer::{Tell, Whole};
use crate::wire::carry::{Door, frames, tools};
use crate::wire::talk::{Call, Finish, Part, Piece};

/// The answer as one object.
pub(in crate::wire) fn answer(door: &Door, whole: Whole) -> Result<Value, Fault> {
    let mut message = Map::new();
    message.insert("role".into(), "assistant".into());
    let refusal = whole.refusal();
    let calls: Vec<Value> = whole
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Call(call) => Some(write_call(door, call)),
            _ => None,
        })
        .collect();
    let text = whole.text();
    let nothing = || (refusal.is_none() && calls.is_empty()).then(String::new);
    message.insert("content".into(), json!(text.or_else(nothing)));
    message.insert("refusal".into(), json!(refusal));
    if let Some(thought) = whole.thought() {
        message.insert("reasoning_content".into(), thought.into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".into(), calls.into());
    }
    let mut body = json!({
        "id": format!("chatcmpl-{}", door.id),
        "object": "chat.completion",
        "created": door.seconds(),
        "model": door.model,
        "choices": [{
            "index": 0,
            "message": message,
            "logprobs": null,
            "finish_reason": reason(&whole.finish, refusal.is_some()),
        }],
    });
    if let Some(tokens) = &whole.tokens {
        body["usage"] = usage(tokens);
    }
    Ok(body)
}

fn write_call(door: &Door, call: &Call) -> Value {
    let shown = tools::show(door, call);
    match shown.input {
        Some(input) => json!({ "id": call.id, "type": "custom", "custom": { "name": shown.name, "input": input } }),
        None => json!({
            "id": call.id,
            "type": "function",
            "function": { "name": shown.name, "arguments": call.arguments },
        }),
    }
}

fn reason(finish: &Finish, refused: bool) -> &'static str {
    match finish {
        Finish::Stop | Finish::Sequence(_) => "stop",
        // A refusal in words is an answer like others; one without any is a filter's work.
        Finish::Refused if refused => "stop",
        Finish::Length => "length",
        Finish::Calls => "tool_calls",
        Finish::Filtered | Finish::Refused => "content_filter",
    }
}

/// Usage as OpenAI's older wires nest it.
pub(in crate::wire) fn usage(tokens: &Tokens) -> Value {
    json!({
        "prompt_tokens": tokens.read(),
        "completion_tokens": tokens.written(),
        "total_tokens": tokens.total(),
        "prompt_tokens_details": {
            "cached_tokens": tokens.cache_read,
            "cache_write_tokens": tokens.cache_write_5m.saturating_add(tokens.cache_write_1h),
            "audio_tokens": tokens.audio_in,
        },
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning,
            "audio_tokens": tokens.audio_out,
        },
    })
}

/// The answer in chunks.
pub(in crate::wire) struct Stream {
    door: Door,
    /// Everything of a chunk up to its delta, which is the same all along.
    head: Vec<u8>,
    calls: usize,
    /// A call whose tool takes free text: it is told when it is whole.
    disguised: Option<Call>,
    refused: bool,
}

impl Stream {
    pub(in crate::wire) fn new(door: Door) -> Stream {
        let mut head = b"data: {\"id\":".to_vec();
        frames::quoted(&mut head, &format!("chatcmpl-{}", door.id));
        head.extend_from_slice(
            format!(",\"object\":\"chat.completion.chunk\",\"created\":{}", door.seconds()).as_bytes(),
        );
        head.extend_from_slice(b",\"model\":");
        frames::quoted(&mut head, &door.model);
        Stream { door, head, calls: 0, disguised: None, refused: false }
    }

    /// A chunk with one text in its delta: most of a stream.
    fn text(&self, name: &str, text: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":{\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        frames::quoted(out, text);
        self.tail(b"},\"finish_reason\":null}]", out);
    }

    fn delta(&self, delta: &Value, finish: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":");
        frames::json(out, delta);
        out.extend_from_slice(b",\"finish_reason\":");
        frames::json(out, &json!(finish));
        self.tail(b"}]", out);
    }

    fn tail(&self, close: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(close);
        // Whoever asked for usage gets the field in every chunk, empty until the last.
        out.extend_from_slice(if self.door.usage_asked { b",\"usage\":null}\n\n" } else { b"}\n\n" });
    }

    fn index(&self) -> usize {
        self.calls.saturating_sub(1)
    }
}

impl Tell for Stream {
    fn tell(&mut self, piece: Piece, out: &mut Vec<u8>) -> Result<(), Fault> {
        match piece {
            Piece::Begin { .. } => self.delta(&json!({ "role": "assistant", "content": "" }), None, out),
            Piece::Text(text) => self.text("content", &text, out),
            Piece::Thought(text) => self.text("reasoning_content", &text, out),
            Piece::Refusal(text) => {
                self.refused = true;
                self.text("refusal", &text, out);
            }
            Piece::Call { id, name, .. } => {
                self.calls += 1;
                let call = Call { id, name, arguments: String::new() };
                if self.door.disguise(&call.name).is_some_and(|disguise| disguise.custom) {
                    self.disguised = Some(call);
                } else {
                    let name = tools::show(&self.door, &call).name;
                    let function = json!({ "name": name, "arguments": "" });
                    let told =
                        json!({ "index": self.index(), "id": call.id, "type": "function", "function": function });
                    self.delta(&json!({ "tool_calls": [told] }), None, out);
                }
            }
            Piece::Arguments { json: more, .. } => match &mut self.disguised {
                Some(call) => call.arguments.push_str(&more),
                None => {
                    let told = json!({ "index": self.index(), "function": { "arguments": more } });
                    self.delta(&json!({ "tool_calls": [told] }), None, out);
                }
            },
            Piece::CallDone { .. } => {
                if let Some(call) = self.disguised.take() {
                    let mut told = write_call(&self.door, &call);
                    told["index"] = self.index().into();
                    self.delta(&json!({ "tool_calls": [told] }), None, out);
                }
            }
            Piece::End { finish, tokens } => {
                self.delta(&json!({}), Some(reason(&finish, self.refused)), out);
                if let Some(tokens) = tokens.filter(|_| self.door.usage_asked) {
                    out.extend_from_slice(&self.head);
                    out.extend_from_slice(b",\"choices\":[],\"usage\":");
                    frames::json(out, &usage(&tokens));
                    out.extend_from_slice(b"}\n\n");
                }
                frames::done(out);
            }
            Piece::Broken(fault) => {
                // Without `[DONE]`: readers take that for a good end.
                frames::refusal(out, Wire::Chat, &self.door.id, fault);
            }
        }
        Ok(())
    }
}
