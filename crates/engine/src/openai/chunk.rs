//! What one JSON object of an answer says. Pure, so that each server's manner is a line in a test.

use serde_json::Value;

use super::usage::Claim;
use crate::upstream::Fault;

/// What a chunk of a stream, or a whole answer, contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    pub text: String,
    pub reasoning: String,
    pub finish: Option<Finish>,
    pub usage: Option<Claim>,
}

/// Why a model ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// It was done, or had used up its tokens; either way the answer is what there is.
    Stop,
    Filtered,
    Failed,
}

/// The JSON texts in the data of a frame: one, except where a server forgets the blank lines between its events.
pub(super) fn split(data: &str) -> Vec<&str> {
    let lines = || data.lines().map(str::trim).filter(|line| !line.is_empty());
    let each_is_whole = || lines().all(|line| line == "[DONE]" || (line.starts_with('{') && line.ends_with('}')));
    if data.contains('\n') && each_is_whole() { lines().collect() } else { vec![data] }
}

/// Reads a chunk. `event` is the type of its frame.
///
/// Fields of unexpected types are taken for absent: another server's extension is no reason to lose an answer.
pub(super) fn read(value: &Value, event: Option<&str>) -> Result<Chunk, Fault> {
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return Err(fault_in(error));
    }
    if event == Some("error") {
        return Err(fault_in(value));
    }
    let Value::Object(object) = value else { return Err(Fault::Garbled) };
    let mut chunk = Chunk { usage: object.get("usage").and_then(Claim::read), ..Chunk::default() };
    let choices = object.get("choices").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // We ask for one answer; a server that gives several is heard on its first.
    let Some(choice) = choices.iter().find(|choice| choice["index"].as_u64().unwrap_or(0) == 0) else {
        return Ok(chunk);
    };
    let said = [&choice["delta"], &choice["message"]].into_iter().find(|said| said.is_object()).unwrap_or(&Value::Null);
    add_content(&said["content"], &mut chunk);
    // A refusal is the answer, in the model's own words.
    chunk.text.push_str(said["refusal"].as_str().unwrap_or_default());
    // Some servers send their thoughts under both names.
    let thought = [&said["reasoning_content"], &said["reasoning"]].into_iter().find_map(Value::as_str);
    chunk.reasoning.push_str(thought.unwrap_or_default());
    chunk.finish = choice["finish_reason"].as_str().filter(|reason| !reason.is_empty()).map(|reason| match reason {
        "content_filter" => Finish::Filtered,
        "error" => Finish::Failed,
        _ => Finish::Stop,
    });
    Ok(chunk)
}

/// Content is text, or a list of parts of which some are text and some are thoughts.
fn add_content(content: &Value, chunk: &mut Chunk) {
    match content {
        Value::String(text) => chunk.text.push_str(text),
        Value::Array(parts) => {
            for part in parts {
                match &part["thinking"] {
                    Value::Array(thoughts) => {
                        thoughts.iter().filter_map(|t| t["text"].as_str()).for_each(|t| chunk.reasoning.push_str(t));
                    }
                    Value::String(thought) => chunk.reasoning.push_str(thought),
                    _ => chunk.text.push_str(part["text"].as_str().unwrap_or_default()),
                }
            }
        }
        _ => {}
    }
}

/// Sorts an error that came where an answer should be: by its number, or by its words.
fn fault_in(error: &Value) -> Fault {
    let words = error.to_string().to_lowercase();
    let says = |needles: &[&str]| needles.iter().any(|needle| words.contains(needle));
    let status = [&error["code"], &error["status"]].into_iter().find_map(|code| match code {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    });
    if says(&["insufficient_quota"]) {
        return Fault::Spent;
    }
    if says(&["context_length", "context length"]) {
        return Fault::TooLong;
    }
    match status {
        Some(401 | 403) => Fault::Auth,
        Some(402) => Fault::Spent,
        Some(429) => Fault::Limit,
        Some(400..=499) => Fault::Refused,
        Some(_) => Fault::Busy,
        None if says(&["rate_limit", "rate limit"]) => Fault::Limit,
        None if says(&["invalid_api_key", "authentication"]) => Fault::Auth,
        None if says(&["content_filter"]) => Fault::Filtered,
        None if says(&["invalid_request"]) => Fault::Refused,
        None => Fault::Busy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn delta(delta: Value) -> Value {
        json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
    }

    #[track_caller]
    fn check(value: Value, text: &str, reasoning: &str) {
        let chunk = read(&value, None).expect("readable");
        assert_eq!((chunk.text.as_str(), chunk.reasoning.as_str()), (text, reasoning), "{value}");
    }

    #[test]
    fn text_is_found_wherever_a_server_puts_it() {
        check(delta(json!({ "role": "assistant", "content": "" })), "", "");
        check(delta(json!({ "content": null })), "", "");
        check(delta(json!({ "content": "hi" })), "hi", "");
        check(delta(json!({ "refusal": "I cannot help with that." })), "I cannot help with that.", "");
        check(
            delta(json!({ "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] })),
            "ab",
            "",
        );
        check(json!({ "choices": [{ "message": { "role": "assistant", "content": "whole" } }] }), "whole", "");
        check(json!({ "choices": [] }), "", "");
        check(json!({ "id": "x" }), "", "");
        check(json!({ "choices": [{ "index": 0, "delta": null }] }), "", "");
        check(json!({ "choices": [{ "index": 1, "delta": { "content": "other" } }] }), "", "");
        check(delta(json!({ "content": 7, "tool_calls": [{ "index": 0 }] })), "", "");
    }

    #[test]
    fn thoughts_are_found_under_each_of_their_names() {
        check(delta(json!({ "content": null, "reasoning_content": "hm" })), "", "hm");
        check(delta(json!({ "content": "", "reasoning": "hm" })), "", "hm");
        check(delta(json!({ "reasoning_content": "hm", "reasoning": "hm" })), "", "hm");
        check(delta(json!({ "reasoning_content": null, "reasoning": "hm" })), "", "hm");
        let parts = json!([{ "type": "thinking", "thinking": [{ "type": "text", "text": "hm" }] }, { "text": "so" }]);
        check(delta(json!({ "content": parts })), "so", "hm");
    }

    #[test]
    fn the_reason_to_end_is_read() {
        for (reason, finish) in [
            (json!("stop"), Some(Finish::Stop)),
            (json!("length"), Some(Finish::Stop)),
            (json!("tool_calls"), Some(Finish::Stop)),
            (json!("content_filter"), Some(Finish::Filtered)),
            (json!("error"), Some(Finish::Failed)),
            (json!(null), None),
            (json!(""), None),
        ] {
            let value = json!({ "choices": [{ "delta": {}, "finish_reason": reason }] });
            assert_eq!(read(&value, None).expect("readable").finish, finish, "{value}");
        }
    }

    #[test]
    fn errors_are_sorted_by_number_or_by_words() {
        for (error, fault) in [
            (json!({ "message": "Provider returned error", "code": 502 }), Fault::Busy),
            (json!({ "message": "Rate limit exceeded", "code": 429 }), Fault::Limit),
            (json!({ "message": "slow down", "type": "rate_limit_exceeded", "code": null }), Fault::Limit),
            (json!({ "code": "insufficient_quota", "message": "…" }), Fault::Spent),
            (json!({ "code": "context_length_exceeded" }), Fault::TooLong),
            (json!({ "code": "401", "message": "…" }), Fault::Auth),
            (json!({ "type": "invalid_request_error", "message": "…" }), Fault::Refused),
            (json!("model runner has unexpectedly stopped"), Fault::Busy),
            (json!({ "object": "error", "message": "…", "code": 40303 }), Fault::Busy),
        ] {
            assert_eq!(read(&json!({ "error": error }), None), Err(fault), "{error}");
        }
        assert_eq!(read(&json!({ "error": null, "choices": [] }), None), Ok(Chunk::default()));
        assert_eq!(read(&json!({ "message": "overloaded" }), Some("error")), Err(Fault::Busy));
        assert_eq!(read(&json!("rate limit reached"), Some("error")), Err(Fault::Limit));
    }

    #[test]
    fn what_is_no_object_is_garbled() {
        for value in [json!([]), json!("text"), json!(7), json!(null)] {
            assert_eq!(read(&value, None), Err(Fault::Garbled));
        }
    }

    #[test]
    fn a_server_that_forgets_blank_lines_is_read_line_by_line() {
        assert_eq!(split("{\"a\":1}\n{\"a\":2}\n[DONE]"), ["{\"a\":1}", "{\"a\":2}", "[DONE]"]);
        assert_eq!(split("{\n\"a\":1\n}"), ["{\n\"a\":1\n}"]);
        assert_eq!(split("{\"a\":1}"), ["{\"a\":1}"]);
    }
}
