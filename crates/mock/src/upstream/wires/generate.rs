//! Gemini's generateContent.

use serde_json::{Value, json};

use super::{Told, data, refusal};
use crate::upstream::body::Frames;
use crate::upstream::question::Wire;
use crate::upstream::said::Finish;

fn reason(told: &Told) -> &'static str {
    match told.said.finish {
        Finish::Stop | Finish::Calls => "STOP",
        Finish::Length => "MAX_TOKENS",
    }
}

fn usage(told: &Told) -> Value {
    let usage = told.said.usage;
    let mut stated = json!({
        "promptTokenCount": told.count(usage.input),
        "cachedContentTokenCount": usage.cached,
        "candidatesTokenCount": told.count(usage.output - usage.reasoning),
        "thoughtsTokenCount": usage.reasoning,
        "totalTokenCount": told.count(usage.input + usage.output),
    });
    if let Some(tier) = &told.question.tier {
        stated["serviceTier"] = json!(tier);
    }
    stated
}

fn thought(text: &str) -> Value {
    json!({ "text": text, "thought": true })
}

fn call(call: &crate::upstream::said::Call) -> Value {
    let args: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({ "input": call.arguments }));
    json!({ "functionCall": { "name": call.name, "args": args }, "thoughtSignature": "bW9jayBzaWduYXR1cmU=" })
}

fn response(told: &Told, parts: Vec<Value>, finish: Option<&str>, with_usage: bool) -> Value {
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
    if let Some(finish) = finish {
        candidate["finishReason"] = json!(finish);
    }
    let mut response = json!({
        "candidates": [candidate], "modelVersion": told.question.model, "responseId": format!("mock-{}", told.said.id),
    });
    if with_usage && told.tells_usage() {
        response["usageMetadata"] = usage(told);
    }
    response
}

pub(super) fn whole(told: &Told) -> Value {
    let said = &told.said;
    let mut parts = Vec::new();
    if !said.thoughts.is_empty() {
        parts.push(thought(&said.thoughts.concat()));
    }
    if !said.pieces.is_empty() {
        parts.push(json!({ "text": said.text() }));
    }
    parts.extend(said.calls.iter().map(call));
    response(told, parts, Some(reason(told)), true)
}

pub(super) fn frames(told: &Told) -> Frames {
    let said = &told.said;
    let mut parts: Vec<Value> = said.thoughts.iter().map(|text| thought(text)).collect();
    parts.extend(said.pieces.iter().map(|text| json!({ "text": text })));
    parts.extend(said.calls.iter().map(call));
    let last = parts.pop().unwrap_or(json!({ "text": "" }));
    let mut chunks: Vec<Value> = parts.into_iter().map(|part| response(told, vec![part], None, false)).collect();
    chunks.push(response(told, vec![last], Some(reason(told)), true));
    let error = refusal(Wire::Generate, 503, "trouble was ordered");
    if told.question.array {
        let element = |(at, chunk): (usize, Value)| format!("{}{chunk}", if at == 0 { "[" } else { ",\r\n" });
        let mut pieces: Vec<String> = chunks.into_iter().enumerate().map(element).collect();
        let tail = pieces.split_off(pieces.len() - 1);
        return Frames {
            pieces,
            tail,
            done: Some("]".to_owned()),
            error: format!(",\r\n{error}]"),
            ..Frames::default()
        };
    }
    let mut pieces: Vec<String> = chunks.iter().map(data).collect();
    let tail = pieces.split_off(pieces.len() - 1);
    Frames { pieces, tail, error: data(&error), ..Frames::default() }
}
