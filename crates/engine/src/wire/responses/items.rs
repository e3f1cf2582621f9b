//! The objects that a Responses answer is made of.

use salon_core::Tokens;
use serde_json::{Value, json};

use crate::upstream::{Fault, Trouble};
use crate::wire::carry::{Door, tools};
use crate::wire::refusal::Refused;
use crate::wire::talk::{Call, Finish};

/// The whole object. `status` is `in_progress` until it is known how it ended.
pub(super) fn response(door: &Door, status: &str, output: Value, tokens: Option<&Tokens>) -> Value {
    let mut response = json!({
        "id": format!("resp_{}", door.id),
        "object": "response",
        "created_at": door.seconds(),
        "status": status,
        "error": null,
        "incomplete_details": null,
        "model": door.model,
        "output": output,
        "usage": tokens.map(usage),
    });
    if let Value::Object(map) = &mut response {
        for (name, value) in &door.echo {
            map.entry(name.clone()).or_insert_with(|| value.clone());
        }
        // An answer to what was asked in another wire's words has nothing to repeat, and still needs these.
        for (name, value) in
            [("parallel_tool_calls", json!(true)), ("tool_choice", json!("auto")), ("tools", json!([]))]
        {
            map.entry(name).or_insert(value);
        }
    }
    response
}

/// How it ended: its status and why it is incomplete. `refused` is whether it said in words that it would not answer.
pub(super) fn ending(finish: &Finish, refused: bool) -> (&'static str, Value) {
    match finish {
        Finish::Length => ("incomplete", json!({ "reason": "max_output_tokens" })),
        Finish::Filtered => ("incomplete", json!({ "reason": "content_filter" })),
        // Without words it is a filter's work.
        Finish::Refused if !refused => ("incomplete", json!({ "reason": "content_filter" })),
        Finish::Stop | Finish::Sequence(_) | Finish::Calls | Finish::Refused => ("completed", Value::Null),
    }
}

pub(super) fn failure(fault: Fault) -> Value {
    let refused = Refused::from(Trouble::from(fault));
    json!({ "code": refused.code, "message": refused.message })
}

pub(super) fn message(id: &str, status: &str, content: &[Value]) -> Value {
    json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content })
}

pub(super) fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

pub(super) fn refusal_part(text: &str) -> Value {
    json!({ "type": "refusal", "refusal": text })
}

pub(super) fn reasoning(id: &str, summary: Option<&str>) -> Value {
    let summary: Vec<Value> = summary.into_iter().map(summary_part).collect();
    json!({ "id": id, "type": "reasoning", "summary": summary, "encrypted_content": null })
}

pub(super) fn summary_part(text: &str) -> Value {
    json!({ "type": "summary_text", "text": text })
}

/// A call, in the words of whoever offered the tool.
pub(super) fn call(door: &Door, number: usize, call: &Call, status: &str) -> Value {
    let shown = tools::show(door, call);
    let mut item = match &shown.input {
        None => json!({
            "id": call_id(door, number, false),
            "type": "function_call",
            "status": status,
            "arguments": call.arguments,
            "call_id": call.id,
            "name": shown.name,
        }),
        Some(input) => json!({
            "id": call_id(door, number, true),
            "type": "custom_tool_call",
            "status": status,
            "input": input,
            "call_id": call.id,
            "name": shown.name,
        }),
    };
    if let Some(namespace) = shown.namespace {
        item["namespace"] = namespace.into();
    }
    item
}

pub(super) fn call_id(door: &Door, number: usize, custom: bool) -> String {
    item_id(if custom { "ctc" } else { "fc" }, door, number)
}

pub(super) fn item_id(kind: &str, door: &Door, number: usize) -> String {
    format!("{kind}_{}_{number}", door.id)
}

fn usage(tokens: &Tokens) -> Value {
    json!({
        "input_tokens": tokens.read(),
        "input_tokens_details": {
            "cached_tokens": tokens.cache_read,
            "cache_write_tokens": tokens.cache_write_5m.saturating_add(tokens.cache_write_1h),
        },
        "output_tokens": tokens.written(),
        "output_tokens_details": { "reasoning_tokens": tokens.reasoning },
        "total_tokens": tokens.total(),
    })
}
