//! Anthropic's messages.

use serde_json::{Value, json};

use super::chat::halves;
use super::{Told, event, refusal};
use crate::upstream::body::Frames;
use crate::upstream::question::Wire;
use crate::upstream::said::Finish;

/// What a thought is signed with; a gateway that rewrites thoughts breaks it.
const SIGNATURE: &str = "RXJyb3I6IHRoaXMgaXMgYSBtb2NrIHNpZ25hdHVyZQ==";

fn reason(told: &Told) -> &'static str {
    match told.said.finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Calls => "tool_use",
    }
}

fn usage(told: &Told, output: i64) -> Value {
    let usage = told.said.usage;
    let mut stated = json!({
        "input_tokens": told.count(usage.input - usage.cached), "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "cache_creation": { "ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0 },
        "output_tokens": told.count(output), "service_tier": "standard",
    });
    if let Some(tier) = &told.question.tier {
        stated["speed"] = json!(tier);
    }
    stated
}

fn arguments(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!({ "input": text }))
}

fn message(told: &Told, content: Vec<Value>, stop: Value, usage: Value) -> Value {
    let mut message = json!({
        "id": format!("msg_{}", told.said.id), "type": "message", "role": "assistant", "model": told.question.model,
        "content": content, "stop_reason": stop, "stop_sequence": null,
    });
    if told.tells_usage() {
        message["usage"] = usage;
    }
    message
}

pub(super) fn whole(told: &Told) -> Value {
    let said = &told.said;
    let mut content = Vec::new();
    if !said.thoughts.is_empty() {
        content.push(json!({ "type": "thinking", "thinking": said.thoughts.concat(), "signature": SIGNATURE }));
    }
    if !said.pieces.is_empty() {
        content.push(json!({ "type": "text", "text": said.text() }));
    }
    content.extend(said.calls.iter().map(|call| {
        json!({ "type": "tool_use", "id": call.id.replace("call_", "toolu_"), "name": call.name, "input": arguments(&call.arguments) })
    }));
    message(told, content, json!(reason(told)), usage(told, said.usage.output))
}

pub(super) fn frames(told: &Told) -> Frames {
    let said = &told.said;
    let start = json!({ "type": "message_start", "message": message(told, Vec::new(), Value::Null, usage(told, 1)) });
    let mut frames = Frames { head: vec![event(&start), event(&json!({ "type": "ping" }))], ..Frames::default() };
    let mut index = 0;
    let mut block = |frames: &mut Frames, begun: Value, deltas: Vec<Value>| {
        let mut begun = event(&json!({ "type": "content_block_start", "index": index, "content_block": begun }));
        for delta in deltas {
            // What begins a block belongs to the block's first piece.
            let delta = event(&json!({ "type": "content_block_delta", "index": index, "delta": delta }));
            frames.pieces.push(std::mem::take(&mut begun) + &delta);
        }
        let stop = event(&json!({ "type": "content_block_stop", "index": index }));
        match frames.pieces.last_mut().filter(|_| begun.is_empty()) {
            Some(last) => last.push_str(&stop),
            None => frames.pieces.push(begun + &stop),
        }
        index += 1;
    };
    if !said.thoughts.is_empty() {
        let thoughts = said.thoughts.iter().map(|text| json!({ "type": "thinking_delta", "thinking": text }));
        let signed = thoughts.chain([json!({ "type": "signature_delta", "signature": SIGNATURE })]).collect();
        block(&mut frames, json!({ "type": "thinking", "thinking": "", "signature": "" }), signed);
    }
    if !said.pieces.is_empty() {
        let texts = said.pieces.iter().map(|text| json!({ "type": "text_delta", "text": text })).collect();
        block(&mut frames, json!({ "type": "text", "text": "" }), texts);
    }
    for call in &said.calls {
        let text = arguments(&call.arguments).to_string();
        // Where there are no arguments, nothing is said of them.
        let texts = if text == "{}" { vec![""] } else { halves(&text) };
        let parts = texts.into_iter().map(|part| json!({ "type": "input_json_delta", "partial_json": part })).collect();
        let begun =
            json!({ "type": "tool_use", "id": call.id.replace("call_", "toolu_"), "name": call.name, "input": {} });
        block(&mut frames, begun, parts);
    }
    let mut delta = json!({ "type": "message_delta", "delta": { "stop_reason": reason(told), "stop_sequence": null } });
    if told.tells_usage() {
        delta["usage"] = usage(told, said.usage.output);
    }
    frames.tail.push(event(&delta));
    frames.done = Some(event(&json!({ "type": "message_stop" })));
    frames.error = event(&refusal(Wire::Messages, 529, "trouble was ordered"));
    frames
}
