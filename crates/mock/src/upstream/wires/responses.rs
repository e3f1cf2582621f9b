//! OpenAI's responses.

use serde_json::{Value, json};

use super::chat::halves;
use super::{Told, event};
use crate::upstream::body::Frames;
use crate::upstream::said::{Call, Finish};

const CREATED: i64 = 1_767_225_600;

fn usage(told: &Told) -> Value {
    let usage = told.said.usage;
    json!({
        "input_tokens": told.count(usage.input),
        "input_tokens_details": { "cached_tokens": usage.cached },
        "output_tokens": told.count(usage.output),
        "output_tokens_details": { "reasoning_tokens": usage.reasoning },
        "total_tokens": told.count(usage.input + usage.output),
    })
}

fn thought(told: &Told, id: &str) -> Value {
    let summary = json!([{ "type": "summary_text", "text": told.said.thoughts.concat() }]);
    json!({ "type": "reasoning", "id": id, "summary": summary, "encrypted_content": "bW9jaw==" })
}

fn message(id: &str, status: &str, content: Value) -> Value {
    json!({ "type": "message", "id": id, "status": status, "role": "assistant", "content": content })
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn call(call: &Call, id: &str, status: &str, arguments: &str) -> Value {
    let (kind, field) = if call.custom { ("custom_tool_call", "input") } else { ("function_call", "arguments") };
    let mut item = json!({ "type": kind, "id": id, "call_id": call.id, "name": call.name, "status": status });
    item[field] = json!(arguments);
    item
}

fn output(told: &Told) -> Vec<Value> {
    let said = &told.said;
    let mut output = Vec::new();
    if !said.thoughts.is_empty() {
        output.push(thought(told, &format!("rs_{}", said.id)));
    }
    if !said.pieces.is_empty() {
        output.push(message(&format!("msg_{}", said.id), "completed", json!([part(&said.text())])));
    }
    let calls = said.calls.iter().enumerate();
    output.extend(calls.map(|(at, one)| call(one, &format!("fc_{}_{at}", said.id), "completed", &one.arguments)));
    output
}

fn response(told: &Told, status: &str, output: Vec<Value>) -> Value {
    let mut response = json!({
        "id": format!("resp_{}", told.said.id), "object": "response", "created_at": CREATED, "status": status,
        "error": null, "incomplete_details": null, "instructions": null, "model": told.question.model, "output": output,
        "parallel_tool_calls": true, "tool_choice": "auto", "tools": [], "metadata": {}, "temperature": 1.0, "top_p": 1.0,
    });
    if let Some(tier) = &told.question.tier {
        response["service_tier"] = json!(tier);
    }
    if status == "incomplete" {
        response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
    }
    if matches!(status, "completed" | "incomplete") && told.tells_usage() {
        response["usage"] = usage(told);
    }
    response
}

fn ended(told: &Told) -> &'static str {
    if told.said.finish == Finish::Length { "incomplete" } else { "completed" }
}

pub(super) fn whole(told: &Told) -> Value {
    response(told, ended(told), output(told))
}

/// Frames with their running number.
struct Numbered {
    next: u64,
}

impl Numbered {
    fn frame(&mut self, mut value: Value) -> String {
        value["sequence_number"] = json!(self.next);
        self.next += 1;
        event(&value)
    }
}

pub(super) fn frames(told: &Told) -> Frames {
    let said = &told.said;
    let mut numbered = Numbered { next: 0 };
    let mut frames = Frames::default();
    for kind in ["response.created", "response.in_progress"] {
        frames
            .head
            .push(numbered.frame(json!({ "type": kind, "response": response(told, "in_progress", Vec::new()) })));
    }
    let mut at = 0;
    if !said.thoughts.is_empty() {
        let id = format!("rs_{}", said.id);
        let mut begun = numbered.frame(json!({
            "type": "response.output_item.added", "output_index": at, "item": { "type": "reasoning", "id": id, "summary": [] },
        }));
        begun += &numbered.frame(json!({
            "type": "response.reasoning_summary_part.added", "item_id": id, "output_index": at, "summary_index": 0,
            "part": { "type": "summary_text", "text": "" },
        }));
        for text in &said.thoughts {
            let delta = numbered.frame(json!({
                "type": "response.reasoning_summary_text.delta", "item_id": id, "output_index": at, "summary_index": 0, "delta": text,
            }));
            frames.pieces.push(std::mem::take(&mut begun) + &delta);
        }
        let text = said.thoughts.concat();
        let mut done = numbered.frame(json!({
            "type": "response.reasoning_summary_text.done", "item_id": id, "output_index": at, "summary_index": 0, "text": text,
        }));
        done += &numbered.frame(json!({
            "type": "response.reasoning_summary_part.done", "item_id": id, "output_index": at, "summary_index": 0,
            "part": { "type": "summary_text", "text": text },
        }));
        done += &numbered
            .frame(json!({ "type": "response.output_item.done", "output_index": at, "item": thought(told, &id) }));
        frames.pieces.push(done);
        at += 1;
    }
    if !said.pieces.is_empty() {
        let id = format!("msg_{}", said.id);
        let place = json!({ "item_id": id, "output_index": at, "content_index": 0 });
        let placed = |kind: &str, field: &str, value: Value| {
            let mut frame = json!({ "type": kind });
            for (key, inner) in place.as_object().into_iter().flatten() {
                frame[key] = inner.clone();
            }
            frame[field] = value;
            frame
        };
        let mut begun = numbered.frame(json!({
            "type": "response.output_item.added", "output_index": at, "item": message(&id, "in_progress", json!([])),
        }));
        begun += &numbered.frame(placed("response.content_part.added", "part", part("")));
        for text in &said.pieces {
            let delta = numbered.frame(placed("response.output_text.delta", "delta", json!(text)));
            frames.pieces.push(std::mem::take(&mut begun) + &delta);
        }
        let mut done = numbered.frame(placed("response.output_text.done", "text", json!(said.text())));
        done += &numbered.frame(placed("response.content_part.done", "part", part(&said.text())));
        let item = message(&id, "completed", json!([part(&said.text())]));
        done += &numbered.frame(json!({ "type": "response.output_item.done", "output_index": at, "item": item }));
        frames.pieces.push(done);
        at += 1;
    }
    for (number, one) in said.calls.iter().enumerate() {
        let id = format!("fc_{}_{number}", said.id);
        let (kind, field) = match one.custom {
            true => ("response.custom_tool_call_input", "input"),
            false => ("response.function_call_arguments", "arguments"),
        };
        let mut begun = numbered.frame(json!({
            "type": "response.output_item.added", "output_index": at, "item": call(one, &id, "in_progress", ""),
        }));
        for half in halves(&one.arguments) {
            let delta = numbered
                .frame(json!({ "type": format!("{kind}.delta"), "item_id": id, "output_index": at, "delta": half }));
            frames.pieces.push(std::mem::take(&mut begun) + &delta);
        }
        let mut last = json!({ "type": format!("{kind}.done"), "item_id": id, "output_index": at });
        last[field] = json!(one.arguments);
        let mut done = begun + &numbered.frame(last);
        let item = call(one, &id, "completed", &one.arguments);
        done += &numbered.frame(json!({ "type": "response.output_item.done", "output_index": at, "item": item }));
        frames.pieces.push(done);
        at += 1;
    }
    let kind = format!("response.{}", ended(told));
    frames.tail.push(numbered.frame(json!({ "type": kind, "response": response(told, ended(told), output(told)) })));
    let mut failed = response(told, "failed", Vec::new());
    failed["error"] = json!({ "code": "server_error", "message": "trouble was ordered" });
    frames.error = numbered.frame(json!({ "type": "response.failed", "response": failed }));
    frames
}
