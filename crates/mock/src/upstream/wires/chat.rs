//! OpenAI's chat completions, and the completions before them.

use serde_json::{Value, json};

use super::{Told, data, refusal};
use crate::upstream::body::Frames;
use crate::upstream::question::Wire;
use crate::upstream::said::Finish;

const CREATED: i64 = 1_767_225_600;

fn finish(told: &Told) -> &'static str {
    match told.said.finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Calls => "tool_calls",
    }
}

fn usage(told: &Told) -> Value {
    let usage = told.said.usage;
    json!({
        "prompt_tokens": told.count(usage.input),
        "completion_tokens": told.count(usage.output),
        "total_tokens": told.count(usage.input + usage.output),
        "prompt_tokens_details": { "cached_tokens": usage.cached, "audio_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning, "audio_tokens": 0 },
    })
}

fn call(at: usize, call: &crate::upstream::said::Call, with_index: bool) -> Value {
    let mut shown =
        json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } });
    if with_index {
        shown["index"] = json!(at);
    }
    shown
}

pub(super) fn whole(told: &Told) -> Value {
    let said = &told.said;
    let mut message = json!({ "role": "assistant", "content": said.text(), "refusal": null });
    if !said.thoughts.is_empty() {
        message["reasoning_content"] = json!(said.thoughts.concat());
    }
    if !said.calls.is_empty() {
        message["tool_calls"] = said.calls.iter().enumerate().map(|(at, one)| call(at, one, false)).collect();
        if said.pieces.is_empty() {
            message["content"] = Value::Null;
        }
    }
    let mut whole = json!({
        "id": format!("chatcmpl-{}", said.id), "object": "chat.completion", "created": CREATED, "model": told.question.model,
        "choices": [{ "index": 0, "message": message, "logprobs": null, "finish_reason": finish(told) }],
        "system_fingerprint": "fp_mock", "x_unknown_field": { "kept": true },
    });
    if let Some(tier) = &told.question.tier {
        whole["service_tier"] = json!(tier);
    }
    if told.tells_usage() {
        whole["usage"] = usage(told);
    }
    whole
}

pub(super) fn frames(told: &Told) -> Frames {
    let said = &told.said;
    let chunk = |delta: Value, finish: Value| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", said.id), "object": "chat.completion.chunk", "created": CREATED,
            "model": told.question.model, "system_fingerprint": "fp_mock",
            "choices": [{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }],
        });
        if let Some(tier) = &told.question.tier {
            chunk["service_tier"] = json!(tier);
        }
        if told.question.wants_usage {
            chunk["usage"] = Value::Null;
        }
        data(&chunk)
    };
    let mut frames =
        Frames { head: vec![chunk(json!({ "role": "assistant", "content": "" }), Value::Null)], ..Frames::default() };
    let thoughts = said.thoughts.iter().map(|text| chunk(json!({ "reasoning_content": text }), Value::Null));
    frames.pieces.extend(thoughts);
    frames.pieces.extend(said.pieces.iter().map(|text| chunk(json!({ "content": text }), Value::Null)));
    for (at, one) in said.calls.iter().enumerate() {
        let mut begun = call(at, one, true);
        begun["function"]["arguments"] = json!("");
        frames.pieces.push(chunk(json!({ "tool_calls": [begun] }), Value::Null));
        for part in halves(&one.arguments) {
            let delta = json!({ "tool_calls": [{ "index": at, "function": { "arguments": part } }] });
            frames.pieces.push(chunk(delta, Value::Null));
        }
    }
    frames.tail.push(chunk(json!({}), json!(finish(told))));
    if told.question.wants_usage && told.tells_usage() {
        frames.tail.push(data(&json!({
            "id": format!("chatcmpl-{}", said.id), "object": "chat.completion.chunk", "created": CREATED,
            "model": told.question.model, "choices": [], "usage": usage(told),
        })));
    }
    frames.done = Some("data: [DONE]\n\n".to_owned());
    frames.error = data(&refusal(Wire::Chat, 500, "trouble was ordered"));
    frames
}

/// A text in two parts, as arguments are streamed.
pub(super) fn halves(text: &str) -> Vec<&str> {
    let middle = (text.len() / 2..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let (first, second) = text.split_at(middle);
    [first, second].into_iter().filter(|part| !part.is_empty()).collect()
}

pub(super) fn whole_completion(told: &Told) -> Value {
    let mut whole = json!({
        "id": format!("cmpl-{}", told.said.id), "object": "text_completion", "created": CREATED, "model": told.question.model,
        "choices": [{ "index": 0, "text": told.said.text(), "logprobs": null, "finish_reason": finish(told) }],
    });
    if let Some(tier) = &told.question.tier {
        whole["service_tier"] = json!(tier);
    }
    if told.tells_usage() {
        whole["usage"] = usage(told);
    }
    whole
}

pub(super) fn completion_frames(told: &Told) -> Frames {
    let chunk = |text: &str, finish: Value| {
        let mut chunk = json!({
            "id": format!("cmpl-{}", told.said.id), "object": "text_completion", "created": CREATED,
            "model": told.question.model,
            "choices": [{ "index": 0, "text": text, "logprobs": null, "finish_reason": finish }],
        });
        if let Some(tier) = &told.question.tier {
            chunk["service_tier"] = json!(tier);
        }
        data(&chunk)
    };
    let mut frames = Frames::default();
    frames.pieces.extend(told.said.pieces.iter().map(|text| chunk(text, Value::Null)));
    frames.tail.push(chunk("", json!(finish(told))));
    if told.question.wants_usage && told.tells_usage() {
        frames.tail.push(data(&json!({
            "id": format!("cmpl-{}", told.said.id), "object": "text_completion", "created": CREATED,
            "model": told.question.model, "choices": [], "usage": usage(told),
        })));
    }
    frames.done = Some("data: [DONE]\n\n".to_owned());
    frames.error = data(&refusal(Wire::Chat, 500, "trouble was ordered"));
    frames
}
