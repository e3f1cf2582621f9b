//! OpenAI's chat completions, and the completions before them.

use serde_json::{Value, json};

use super::{Told, data, refusal};
use crate::upstream::body::Frames;
use crate::upstream::question::Wire;
use crate::upstream::said::{Finish, Said};

const CREATED: i64 = 1_767_225_600;

fn finish(said: &Said) -> &'static str {
    match said.finish {
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
    let mut whole = json!({
        "id": format!("chatcmpl-{}", told.said.id), "object": "chat.completion", "created": CREATED,
        "model": told.question.model, "choices": told.choices().map(choice).collect::<Value>(),
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

fn choice((index, said): (usize, &Said)) -> Value {
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
    json!({ "index": index, "message": message, "logprobs": null, "finish_reason": finish(said) })
}

pub(super) fn frames(told: &Told) -> Frames {
    let chunk = |index: usize, delta: Value, finish: Value| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", told.said.id), "object": "chat.completion.chunk", "created": CREATED,
            "model": told.question.model, "system_fingerprint": "fp_mock",
            "choices": [{ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish }],
        });
        if let Some(tier) = &told.question.tier {
            chunk["service_tier"] = json!(tier);
        }
        if told.question.wants_usage {
            chunk["usage"] = Value::Null;
        }
        data(&chunk)
    };
    let mut frames = Frames::default();
    let mut spoken = Vec::new();
    for (index, said) in told.choices() {
        frames.head.push(chunk(index, json!({ "role": "assistant", "content": "" }), Value::Null));
        spoken.push(deltas(said).into_iter().map(|delta| chunk(index, delta, Value::Null)).collect());
        frames.tail.push(chunk(index, json!({}), json!(finish(said))));
    }
    frames.pieces = in_turn(spoken);
    if told.question.wants_usage && told.tells_usage() {
        frames.tail.push(data(&json!({
            "id": format!("chatcmpl-{}", told.said.id), "object": "chat.completion.chunk", "created": CREATED,
            "model": told.question.model, "choices": [], "usage": usage(told),
        })));
    }
    frames.done = Some("data: [DONE]\n\n".to_owned());
    frames.error = data(&refusal(Wire::Chat, 500, "trouble was ordered"));
    frames
}

fn deltas(said: &Said) -> Vec<Value> {
    let mut deltas: Vec<Value> = said.thoughts.iter().map(|text| json!({ "reasoning_content": text })).collect();
    deltas.extend(said.pieces.iter().map(|text| json!({ "content": text })));
    for (at, one) in said.calls.iter().enumerate() {
        let mut begun = call(at, one, true);
        begun["function"]["arguments"] = json!("");
        deltas.push(json!({ "tool_calls": [begun] }));
        let parts = halves(&one.arguments).into_iter();
        deltas.extend(parts.map(|part| json!({ "tool_calls": [{ "index": at, "function": { "arguments": part } }] })));
    }
    deltas
}

/// The pieces of several answers as a server tells them that writes all at once: a piece of each in turn.
fn in_turn(mut spoken: Vec<Vec<String>>) -> Vec<String> {
    let longest = spoken.iter().map(Vec::len).max().unwrap_or(0);
    let mut pieces = Vec::new();
    for at in 0..longest {
        pieces.extend(spoken.iter_mut().filter_map(|answer| answer.get_mut(at)).map(std::mem::take));
    }
    pieces
}

/// A text in two parts, as arguments are streamed.
pub(super) fn halves(text: &str) -> Vec<&str> {
    let middle = (text.len() / 2..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let (first, second) = text.split_at(middle);
    [first, second].into_iter().filter(|part| !part.is_empty()).collect()
}

pub(super) fn whole_completion(told: &Told) -> Value {
    let mut whole = json!({
        "id": format!("cmpl-{}", told.said.id), "object": "text_completion", "created": CREATED,
        "model": told.question.model,
        "choices": told.choices().map(|(index, said)| text(index, &said.text(), json!(finish(said)))).collect::<Value>(),
    });
    if let Some(tier) = &told.question.tier {
        whole["service_tier"] = json!(tier);
    }
    if told.tells_usage() {
        whole["usage"] = usage(told);
    }
    whole
}

fn text(index: usize, text: &str, finish: Value) -> Value {
    json!({ "index": index, "text": text, "logprobs": null, "finish_reason": finish })
}

pub(super) fn completion_frames(told: &Told) -> Frames {
    let chunk = |index: usize, said: &str, finish: Value| {
        let mut chunk = json!({
            "id": format!("cmpl-{}", told.said.id), "object": "text_completion", "created": CREATED,
            "model": told.question.model,
            "choices": [text(index, said, finish)],
        });
        if let Some(tier) = &told.question.tier {
            chunk["service_tier"] = json!(tier);
        }
        data(&chunk)
    };
    let mut frames = Frames::default();
    let spoken =
        told.choices().map(|(index, said)| said.pieces.iter().map(|piece| chunk(index, piece, Value::Null)).collect());
    frames.pieces = in_turn(spoken.collect());
    frames.tail.extend(told.choices().map(|(index, said)| chunk(index, "", json!(finish(said)))));
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
