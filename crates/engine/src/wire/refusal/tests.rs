use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Secret;
use crate::wire::fuzz;

const WIRES: [Wire; 7] =
    [Wire::Chat, Wire::Completions, Wire::Responses, Wire::Embeddings, Wire::Messages, Wire::Generate, Wire::Midm];

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn body(refused: &Refused, wire: Wire) -> Value {
    parsed(&refused.body(wire, "req_7"))
}

#[test]
fn each_wire_has_its_envelope() {
    let refused =
        Refused::unknown_model("gtp-5", &["gpt-5".to_owned()]).with_retry_after(Some(Duration::from_millis(1_500)));
    let message = "There is no model named `gtp-5` here, or it is not open to you. Did you mean `gpt-5`?";
    for wire in [Wire::Chat, Wire::Completions, Wire::Responses, Wire::Embeddings] {
        assert_eq!(
            body(&refused, wire),
            json!({ "error": {
                "message": message, "type": "invalid_request_error", "param": "model", "code": "model_not_found",
            } }),
        );
    }
    assert_eq!(
        body(&refused, Wire::Messages),
        json!({ "type": "error", "error": { "type": "not_found_error", "message": message }, "request_id": "req_7" }),
    );
    assert_eq!(
        body(&refused, Wire::Generate),
        json!({ "error": { "code": 404, "message": message, "status": "NOT_FOUND", "details": [
            { "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "MODEL_NOT_FOUND", "domain": "salon" },
            { "@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "req_7" },
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{ "field": "model", "description": message }],
            },
            { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s" },
        ] } }),
    );
    assert_eq!(body(&refused, Wire::Midm), json!({ "detail": message }));
}

#[test]
fn kinds_are_known_by_status_type_and_code() {
    for (kind, status, openai, anthropic, google, code) in [
        (
            Kind::InvalidRequest,
            400,
            "invalid_request_error",
            "invalid_request_error",
            "INVALID_ARGUMENT",
            "invalid_request",
        ),
        (
            Kind::Authentication,
            401,
            "invalid_request_error",
            "authentication_error",
            "UNAUTHENTICATED",
            "invalid_api_key",
        ),
        (Kind::Unpaid, 402, "insufficient_quota", "billing_error", "FAILED_PRECONDITION", "budget_exhausted"),
        (Kind::Permission, 403, "invalid_request_error", "permission_error", "PERMISSION_DENIED", "permission_denied"),
        (Kind::NotFound, 404, "invalid_request_error", "not_found_error", "NOT_FOUND", "not_found"),
        (Kind::Conflict, 409, "invalid_request_error", "invalid_request_error", "ABORTED", "conflict"),
        (Kind::TooLarge, 413, "invalid_request_error", "request_too_large", "INVALID_ARGUMENT", "request_too_large"),
        (Kind::RateLimit, 429, "rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED", "rate_limit_exceeded"),
        (Kind::OverBudget, 429, "insufficient_quota", "rate_limit_error", "RESOURCE_EXHAUSTED", "budget_exceeded"),
        (Kind::Internal, 500, "server_error", "api_error", "INTERNAL", "internal_error"),
        (Kind::Upstream, 502, "server_error", "api_error", "UNAVAILABLE", "upstream_error"),
        (Kind::Overloaded, 503, "server_error", "overloaded_error", "UNAVAILABLE", "overloaded"),
        (Kind::Timeout, 504, "server_error", "timeout_error", "DEADLINE_EXCEEDED", "timeout"),
    ] {
        let refused = Refused::new(kind, "No.");
        assert_eq!(refused.status, status);
        let (chat, messages) = (body(&refused, Wire::Chat), body(&refused, Wire::Messages));
        let generate = body(&refused, Wire::Generate);
        assert_eq!((&chat["error"]["type"], &chat["error"]["code"]), (&json!(openai), &json!(code)));
        assert_eq!(messages["error"]["type"], anthropic);
        assert_eq!((&generate["error"]["status"], &generate["error"]["code"]), (&json!(google), &json!(status)));
        let own = if kind == Kind::Overloaded { 529 } else { status };
        assert_eq!((refused.status_on(Wire::Messages), refused.status_on(Wire::Chat)), (own, status));
    }
}

#[test]
fn headers_say_when_to_come_again_and_when_not_to() {
    let after = |kind, ms| Refused::new(kind, "No.").with_retry_after(Some(Duration::from_millis(ms))).headers();
    assert_eq!(after(Kind::RateLimit, 0), [("retry-after", "1".to_owned())]);
    assert_eq!(after(Kind::RateLimit, 7_001), [("retry-after", "8".to_owned())]);
    assert_eq!(
        after(Kind::OverBudget, 86_400_000),
        [("retry-after", "86400".to_owned()), ("x-should-retry", "false".to_owned())],
    );
    assert_eq!(Refused::new(Kind::Unpaid, "No.").headers(), [("x-should-retry", "false".to_owned())]);
    assert_eq!(Refused::new(Kind::Internal, "No.").headers(), []);
}

#[test]
fn names_that_were_perhaps_meant_are_listed() {
    let names = |count: usize| (0..count).map(|n| format!("m{n}")).collect::<Vec<_>>();
    let told = |count| Refused::unknown_model("x", &names(count)).message;
    assert_eq!(told(0), "There is no model named `x` here, or it is not open to you.");
    assert!(told(2).ends_with("Did you mean `m0` or `m1`?"));
    assert!(told(9).ends_with("Did you mean `m0`, `m1`, `m2`, `m3` or `m4`?"));
    let evil = Refused::unknown_model(&format!("\u{1b}[2J{}", "é".repeat(500)), &[]).message;
    assert!(evil.len() < 400 && !evil.contains('\u{1b}') && evil.contains('…'), "{evil}");
}

#[test]
fn a_bad_request_names_its_field() {
    let refused = Refused::from(BadAsk::Wrong("stream", "true or false"));
    assert_eq!(
        body(&refused, Wire::Chat),
        json!({ "error": {
            "message": "`stream` has to be true or false.", "type": "invalid_request_error", "param": "stream",
            "code": "invalid_value",
        } }),
    );
    assert_eq!(body(&Refused::from(BadAsk::NotObject), Wire::Chat)["error"]["param"], Value::Null);
}

#[test]
fn a_fault_says_only_its_own_sentence() {
    let trouble = Trouble { fault: Fault::Auth, retry_after: None };
    let refused = Refused::from(trouble);
    assert_eq!((refused.status, &*refused.code, &*refused.message), (502, "upstream_auth", Fault::Auth.sentence()));
    let long = Refused::from(Trouble::from(Fault::TooLong));
    assert_eq!((long.status, &*long.code), (400, "context_length_exceeded"));
    let quoted = Refused::quoted(422, Fault::Refused, Some("`seed` is too small".to_owned()));
    assert_eq!((quoted.status, &*quoted.message), (422, "`seed` is too small"));
}

/// The data of the only event, and its type.
fn event(frame: &[u8]) -> (Option<String>, Value) {
    let mut frames = Vec::new();
    crate::sse::Parser::new().push(frame, &mut frames).expect("readable");
    let [frame] = frames.as_slice() else { panic!("one event, not {frames:?}") };
    (frame.event.clone(), parsed(frame.data.as_bytes()))
}

#[test]
fn a_stream_that_has_begun_ends_with_an_event_of_its_wire() {
    let refused = Refused::from(Trouble::from(Fault::Cut));
    let so_far =
        Tapped { response_id: Some("resp_1".into()), sequence: Some(41), model: Some("m".into()), ..Tapped::default() };
    for wire in [Wire::Chat, Wire::Completions, Wire::Generate] {
        assert_eq!(event(&refused.frame(wire, "req_7", &so_far)), (None, body(&refused, wire)));
    }
    let messages = event(&refused.frame(Wire::Messages, "req_7", &so_far));
    assert_eq!(messages, (Some("error".to_owned()), body(&refused, Wire::Messages)));
    let (name, failed) = event(&refused.frame(Wire::Responses, "req_7", &so_far));
    assert_eq!(name.as_deref(), Some("response.failed"));
    assert_eq!((&failed["type"], &failed["sequence_number"]), (&json!("response.failed"), &json!(42)));
    assert_eq!((&failed["response"]["id"], &failed["response"]["status"]), (&json!("resp_1"), &json!("failed")));
    assert_eq!(failed["response"]["error"], json!({ "code": "upstream_cut", "message": Fault::Cut.sentence() }));
    let midm = event(&refused.frame(Wire::Midm, "req_7", &so_far));
    assert_eq!(midm, (None, json!({ "type": "error", "message": Fault::Cut.sentence() })));
}

#[test]
fn a_tap_hears_our_own_endings_as_failures() {
    let refused = Refused::from(Trouble::from(Fault::Busy));
    for wire in [Wire::Chat, Wire::Completions, Wire::Responses, Wire::Messages, Wire::Generate, Wire::Midm] {
        let mut tap = crate::wire::Tap::new(wire);
        tap.push(&refused.frame(wire, "req_7", &Tapped::default()));
        assert_eq!(tap.finish().error, Some(Fault::Busy), "{wire:?}");
    }
}

#[test]
fn an_array_ends_as_an_array() {
    let refused = Refused::new(Kind::Timeout, "Too slow.");
    for (before, elements) in [("[", 0), ("[{\"a\":1}", 1), ("[{\"a\":1},{}", 2)] {
        let mut tap = crate::wire::Tap::new(Wire::Generate);
        tap.push(before.as_bytes());
        let text = [before.as_bytes(), &refused.frame(Wire::Generate, "req_7", &tap.finish())].concat();
        let list = parsed(&text);
        assert_eq!(list.as_array().map(Vec::len), Some(elements + 1));
        assert_eq!(list[elements], body(&refused, Wire::Generate));
    }
    let mut tap = crate::wire::Tap::new(Wire::Generate);
    tap.push(b"[{\"a\":");
    assert_eq!(refused.frame(Wire::Generate, "req_7", &tap.finish()), b"");
}

#[test]
fn an_event_that_was_cut_in_half_is_ended_first() {
    let refused = Refused::from(Trouble::from(Fault::Cut));
    for half in ["event: content_blo", "event: ping\n", "event: ping\r\ndata: {}", "event: ping\ndata: {}\n"] {
        let mut tap = crate::wire::Tap::new(Wire::Messages);
        tap.push(half.as_bytes());
        let stream = [half.as_bytes(), &refused.frame(Wire::Messages, "req_7", &tap.finish())].concat();
        let mut frames = Vec::new();
        crate::sse::Parser::new().push(&stream, &mut frames).expect("readable");
        let last = frames.last().expect("ours");
        assert_eq!(
            (last.event.as_deref(), parsed(last.data.as_bytes())),
            (Some("error"), body(&refused, Wire::Messages))
        );
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("a value"))).collect()
}

#[track_caller]
fn judge(wire: Wire, status: u16, body: &Value) -> Verdict {
    judge_refusal(wire, status, &headers(&[("retry-after", "7")]), body.to_string().as_bytes())
}

#[test]
fn what_is_about_the_clients_request_is_passed_on_in_the_upstreams_words() {
    for (wire, status, said, message, fault) in [
        (
            Wire::Chat,
            400,
            json!({ "error": { "message": "max_tokens is too large: 9.", "type": "invalid_request_error", "code": "invalid_value" } }),
            "max_tokens is too large: 9.",
            Fault::Refused,
        ),
        (
            Wire::Chat,
            400,
            json!({ "error": { "message": "Too long.", "code": "context_length_exceeded" } }),
            "Too long.",
            Fault::TooLong,
        ),
        (
            Wire::Messages,
            400,
            json!({ "type": "error", "error": { "type": "invalid_request_error", "message": "prompt is too long: 9 > 8" } }),
            "prompt is too long: 9 > 8",
            Fault::TooLong,
        ),
        (
            Wire::Messages,
            404,
            json!({ "type": "error", "error": { "type": "not_found_error", "message": "model: claude-x" } }),
            "model: claude-x",
            Fault::NotFound,
        ),
        (
            Wire::Generate,
            400,
            json!([{ "error": { "code": 400, "message": "Bad.", "status": "INVALID_ARGUMENT" } }]),
            "Bad.",
            Fault::Refused,
        ),
        (
            Wire::Midm,
            422,
            json!({ "detail": [{ "loc": ["body"], "msg": "field required" }] }),
            "field required",
            Fault::Refused,
        ),
        (Wire::Chat, 400, json!({ "object": "error", "message": "vLLM says no" }), "vLLM says no", Fault::Refused),
        (Wire::Chat, 413, json!({ "error": "too big" }), "too big", Fault::TooLong),
    ] {
        let expected =
            Verdict::Passed { status, body: said.to_string().into_bytes(), message: Some(message.to_owned()), fault };
        assert_eq!(judge(wire, status, &said), expected);
    }
}

#[test]
fn what_is_about_our_key_or_the_upstreams_health_is_ours_to_say() {
    let openai = |code: &str| json!({ "error": { "message": "sk-secret", "code": code } });
    for (wire, status, said, kind, fault) in [
        (Wire::Chat, 401, openai("invalid_api_key"), Kind::Upstream, Fault::Auth),
        (Wire::Chat, 403, openai("unsupported_country"), Kind::Upstream, Fault::Auth),
        (Wire::Chat, 402, json!({}), Kind::Upstream, Fault::Spent),
        (Wire::Chat, 429, openai("rate_limit_exceeded"), Kind::RateLimit, Fault::Limit),
        (Wire::Chat, 429, openai("insufficient_quota"), Kind::Upstream, Fault::Spent),
        (Wire::Chat, 500, openai("server_error"), Kind::Overloaded, Fault::Busy),
        (Wire::Chat, 503, json!("down"), Kind::Overloaded, Fault::Busy),
        (Wire::Messages, 529, json!({ "error": { "type": "overloaded_error" } }), Kind::Overloaded, Fault::Busy),
        (
            Wire::Messages,
            400,
            json!({ "error": { "type": "invalid_request_error", "message": "Your credit balance is too low to go on." } }),
            Kind::Upstream,
            Fault::Spent,
        ),
        (
            Wire::Generate,
            400,
            json!({ "error": { "code": 400, "message": "API key not valid.", "details": [{ "reason": "API_KEY_INVALID" }] } }),
            Kind::Upstream,
            Fault::Auth,
        ),
        (Wire::Chat, 302, json!({}), Kind::Upstream, Fault::Refused),
        (Wire::Chat, 418, json!({ "error": "teapot" }), Kind::Upstream, Fault::Refused),
        (Wire::Chat, 408, json!({}), Kind::Timeout, Fault::Timeout),
        (Wire::Chat, 404, json!("not ours"), Kind::Upstream, Fault::NotFound),
        (Wire::Chat, 400, json!(["x"]), Kind::Upstream, Fault::Refused),
    ] {
        let trouble = Trouble { fault, retry_after: Some(Duration::from_secs(7)) };
        assert_eq!(judge(wire, status, &said), Verdict::Ours { kind, trouble }, "{status} {said}");
    }
    let html = judge_refusal(Wire::Chat, 404, &HeaderMap::new(), b"<html>nginx at 10.0.0.1</html>");
    assert_eq!(html, Verdict::Ours { kind: Kind::Upstream, trouble: Fault::NotFound.into() });
    let huge = json!({ "error": { "message": "x".repeat(70_000) } });
    assert!(matches!(judge(Wire::Chat, 400, &huge), Verdict::Ours { .. }), "nobody reads that");
}

#[test]
fn keys_are_scrubbed_and_words_are_not() {
    for (text, clean) in [
        ("Incorrect key: sk-proj-abc***xyz9.", "Incorrect key: [key]."),
        ("key sk-ant-api03-AAAA-bbbb_CC", "key [key]"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [key]"),
        ("?key=AIzaSyA1234567890&alt=sse", "?key=[key]&alt=sse"),
        ("(AIzaSyA1234567890)", "([key])"),
        ("in organization org-ABCDEFGHIJKLMNOPQRST on", "in organization [key] on"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "[key]"),
        ("the task-force asked for sk- and Bearer of", "the task-force asked for sk- and Bearer of"),
        ("org-wide, monkey=banana, keyboard", "org-wide, monkey=banana, keyboard"),
        ("'max_tokens':2sk-live-0123456789abcdef", "'max_tokens':2[key]"),
        ("xAIzaSyA1234567890", "x[key]"),
        ("앵무새 sk-1234567890 🦜", "앵무새 [key] 🦜"),
        ("", ""),
    ] {
        assert_eq!(judge::scrub(text), clean);
    }
    let said = json!({ "error": { "message": "bad header Bearer sk-abcdef123456 \"quoted\"" } });
    let Verdict::Passed { body, message, .. } = judge(Wire::Chat, 400, &said) else { panic!("passed") };
    assert_eq!(message.as_deref(), Some("bad header Bearer [key] \"quoted\""));
    assert_eq!(parsed(&body)["error"]["message"], "bad header Bearer [key] \"quoted\"");
}

const SAID: &[(Wire, &[u8])] = &[
    (Wire::Chat, br#"{"error":{"message":"Invalid 'max_tokens': sk-live-0123456789abcdef","type":"invalid_request_error","param":"max_tokens","code":"invalid_value"}}"#),
    (Wire::Messages, br#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"},"request_id":"req_1"}"#),
    (Wire::Generate, br#"[{"error":{"code":400,"message":"Bad \u00e9 AIzaSyA1234567890","status":"INVALID_ARGUMENT","details":[]}}]"#),
    (Wire::Midm, br#"{"detail":[{"loc":["body","messages"],"msg":"field required","type":"missing"}]}"#),
];

proptest! {
    #![proptest_config(fuzz::config(100_000))]

    #[test]
    fn any_refusal_is_judged_and_no_key_gets_through((wire, said) in fuzz::damaged(SAID), status in 100_u16..1_000) {
        let verdict = judge_refusal(wire, status, &HeaderMap::new(), &said);
        if let Verdict::Passed { status, body, .. } = verdict {
            prop_assert!(matches!(status, 400 | 404 | 413 | 422));
            prop_assert!(serde_json::from_slice::<Value>(&body).is_ok(), "it is JSON before and after");
            let text = String::from_utf8_lossy(&body);
            prop_assert!(!text.contains("sk-live-0123456789") && !text.contains("AIzaSyA1234567890"), "{}", text);
        }
    }
}

proptest! {
    #![proptest_config(fuzz::config(5_000))]

    #[test]
    fn what_is_scrubbed_stays_clean_and_short(text in "(sk-|Bearer |key=|AIza|[a-z]{1,9}| |\\.|é|🦜){0,12}") {
        let clean = judge::scrub(&text);
        prop_assert_eq!(judge::scrub(&clean), clean);
    }

    #[test]
    fn every_refusal_is_json_on_every_wire(message: String, param: Option<String>, which in 0..Kind::ALL.len(), id in "[a-z0-9_]{0,12}") {
        let refused = Refused { param, ..Refused::new(Kind::ALL[which], message.clone()) };
        for wire in WIRES {
            prop_assert!(body(&refused, wire).is_object());
            let frame = refused.frame(wire, &id, &Tapped::default());
            prop_assert!(frame.ends_with(b"\n\n"));
            event(&frame);
        }
    }
}

#[test]
fn the_key_that_was_used_is_hidden_whatever_it_looks_like() {
    let hidden = |text: &str, key: &str| hide_key(text.to_owned().into(), &Secret::new(key));
    assert_eq!(hidden("no parrot/seed.17 here: parrot/seed.17", "parrot/seed.17"), "no [key] here: [key]");
    assert_eq!(hidden(r#"{"a":"parrot\/seed.17"}"#, "parrot/seed.17"), r#"{"a":"[key]"}"#);
    assert_eq!(hidden("a parrot", "parrot/seed.17"), "a parrot");
    assert_eq!(hidden("a word", "word"), "a word", "a key so short is found anywhere");
}

#[test]
fn a_key_is_hidden_wherever_what_is_said_was_cut() {
    for (key, said, told) in [
        (
            "sk-parrot-17",
            "no sk-parrot-17, sk-parrot-1 or s here; sk-sk-parrot-17",
            "no [key], sk-parrot-1 or s here; sk-[key]",
        ),
        ("parrot/seed.17", r#"{"a":"parrot\/seed.17"} pa"#, r#"{"a":"[key]"} pa"#),
        ("aaaaaaaaab", "aaaaaaaaaaaab", "aaa[key]"),
        ("word", "a word", "a word"),
    ] {
        let key = Secret::new(key);
        for size in 1..=said.len() {
            let mut veil = Veil::default();
            let pieces = said.as_bytes().chunks(size);
            let mut heard: Vec<u8> = pieces.flat_map(|piece| veil.push(Bytes::copy_from_slice(piece), &key)).collect();
            heard.extend_from_slice(&veil.finish());
            assert_eq!(String::from_utf8_lossy(&heard), told, "in pieces of {size}");
        }
        // What breaks off within a key is no less the key.
        let mut veil = Veil::default();
        let all_but_one = Bytes::copy_from_slice(&key.expose().as_bytes()[..key.expose().len() - 1]);
        let told = [veil.push(all_but_one.clone(), &key), veil.finish()].concat();
        assert_eq!(told != all_but_one, key.expose().len() > 8, "{}", String::from_utf8_lossy(&told));
    }
}
