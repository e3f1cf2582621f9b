//! What an error means that came where an answer should be.

use serde_json::Value;

use crate::upstream::Fault;

/// Sorts an error object of any wire: by its number, or by its words. Nothing of it gets any further.
pub(in crate::wire) fn sort(error: &Value) -> Fault {
    let words = error.to_string().to_lowercase();
    let says = |needles: &[&str]| needles.iter().any(|needle| words.contains(needle));
    let number = |code: &Value| match code {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let status = ["code", "status"].iter().find_map(|name| error.get(name).and_then(number));
    if says(&["insufficient_quota", "billing_error", "credit balance"]) {
        return Fault::Spent;
    }
    if says(&["context_length", "context length", "prompt is too long"]) {
        return Fault::TooLong;
    }
    match status {
        Some(401 | 403) => Fault::Auth,
        Some(402) => Fault::Spent,
        Some(404) => Fault::NotFound,
        Some(429) => Fault::Limit,
        Some(400..=499) => Fault::Refused,
        Some(500..=599) => Fault::Busy,
        _ if says(&["rate_limit", "rate limit", "resource_exhausted"]) => Fault::Limit,
        _ if says(&["overloaded", "unavailable"]) => Fault::Busy,
        _ if says(&["invalid_api_key", "authentication", "permission", "unauthenticated"]) => Fault::Auth,
        _ if says(&["content_filter", "content_policy"]) => Fault::Filtered,
        _ if says(&["timeout", "deadline_exceeded"]) => Fault::Timeout,
        _ if says(&["not_found"]) => Fault::NotFound,
        _ if says(&["invalid_request", "invalid_argument", "invalid_prompt"]) => Fault::Refused,
        _ => Fault::Busy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_of_every_wire_are_sorted() {
        for (error, fault) in [
            (json!({ "type": "overloaded_error", "message": "Overloaded" }), Fault::Busy),
            (json!({ "type": "rate_limit_error", "message": "…" }), Fault::Limit),
            (json!({ "type": "authentication_error", "message": "…" }), Fault::Auth),
            (json!({ "type": "invalid_request_error", "message": "prompt is too long: 9 > 8" }), Fault::TooLong),
            (json!({ "type": "billing_error", "message": "…" }), Fault::Spent),
            (json!({ "code": 503, "message": "…", "status": "UNAVAILABLE" }), Fault::Busy),
            (json!({ "code": 429, "status": "RESOURCE_EXHAUSTED" }), Fault::Limit),
            (json!({ "code": "server_error", "message": "…" }), Fault::Busy),
            (json!({ "code": "rate_limit_exceeded" }), Fault::Limit),
            (json!({ "code": "context_length_exceeded" }), Fault::TooLong),
            (json!({ "code": "insufficient_quota" }), Fault::Spent),
            (json!({ "code": "invalid_prompt" }), Fault::Refused),
            (json!("unexpectedly stopped"), Fault::Busy),
            (json!(null), Fault::Busy),
        ] {
            assert_eq!(sort(&error), fault, "{error}");
        }
    }
}
