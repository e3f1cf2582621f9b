//! Answers that break: they say so in their client's words, and never pass for whole ones.

use salon_engine::upstream::Fault;
use salon_engine::wire::Wire;
use salon_engine::wire::carry::{Carrier, carry_answer};

use crate::answers::{stream, whole};
use crate::cast::*;

/// What each protocol's readers take for a good end.
fn good_end(door: Wire) -> &'static str {
    match door {
        Wire::Chat | Wire::Completions | Wire::Midm => "[DONE]",
        Wire::Responses => "response.completed",
        Wire::Messages => "message_stop",
        _ => "finishReason",
    }
}

/// What they take for an error.
fn bad_end(door: Wire) -> &'static str {
    match door {
        Wire::Responses => "event: response.failed\n",
        Wire::Messages => "event: error\n",
        Wire::Midm => "{\"type\":\"error\"",
        _ => "data: {\"error\":{",
    }
}

/// Where an upstream's stream is over as far as this answer goes: before that, every cut is one.
fn end_mark(upstream: Wire) -> &'static str {
    match upstream {
        Wire::Chat => "\"finish_reason\":\"tool_calls\"",
        Wire::Responses => "event: response.completed",
        Wire::Messages => "\"stop_reason\":\"tool_use\"",
        Wire::Generate => "\"finishReason\":\"STOP\"",
        _ => "{\"type\":\"complete\"",
    }
}

#[test]
fn a_stream_that_is_cut_off_anywhere_is_an_error_at_every_door() {
    for upstream in UPSTREAMS {
        let stream = stream(upstream);
        let end = stream.find(end_mark(upstream)).expect("an end");
        let end = stream[..end].rfind("data:").expect("a frame");
        for door in DOORS {
            for cut in (0..end).step_by(37).chain([0, end]) {
                let (told, outcome) = turn(&back(upstream, door, true), &stream.as_bytes()[..cut]);
                assert_eq!(outcome, Err(Fault::Cut), "{upstream:?} at {door:?}, cut at {cut}: {told}");
                assert!(!told.contains(good_end(door)), "{upstream:?} at {door:?}, cut at {cut}: {told}");
                assert_eq!(told.matches(bad_end(door)).count(), 1, "{upstream:?} at {door:?}, cut at {cut}: {told}");
                let last = told.trim_end().rsplit("\n\n").next().expect("a frame");
                assert!(
                    last.replace("\r\n", "\n").rsplit("\n\n").next().is_some_and(|it| it.contains("rror")),
                    "{last}"
                );
            }
        }
    }
}

#[test]
fn an_error_in_the_midst_is_told_in_our_words_and_nothing_after_it_counts() {
    let secret = "sk-upstream-secret";
    for (upstream, error, fault) in [
        (Wire::Chat, format!("data: {{\"error\":{{\"message\":\"{secret}\",\"code\":429}}}}\n\n"), Fault::Limit),
        (
            Wire::Messages,
            format!(
                "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"overloaded_error\",\"message\":\"{secret}\"}}}}\n\n"
            ),
            Fault::Busy,
        ),
        (
            Wire::Responses,
            format!(
                "event: response.failed\ndata: {{\"type\":\"response.failed\",\"response\":{{\"status\":\"failed\",\"error\":{{\"code\":\"server_error\",\"message\":\"{secret}\"}}}}}}\n\n"
            ),
            Fault::Busy,
        ),
        (
            Wire::Generate,
            format!("data: {{\"error\":{{\"code\":503,\"message\":\"{secret}\",\"status\":\"UNAVAILABLE\"}}}}\r\n\r\n"),
            Fault::Busy,
        ),
        (Wire::Midm, format!("data: {{\"type\":\"error\",\"message\":\"{secret}\"}}\n\n"), Fault::Busy),
        (Wire::Chat, format!("data: {{{secret}\n\n"), Fault::Garbled),
        (Wire::Generate, format!("data: [\"{secret}\"]\n\n"), Fault::Garbled),
    ] {
        let good = stream(upstream);
        let middle = good.find("Let me ").expect("text");
        let frame = good[middle..].find("data:").expect("a frame") + middle;
        let frame = if good[..frame].trim_end().lines().last().is_some_and(|line| line.starts_with("event:")) {
            good[..frame].rfind("event:").expect("an event")
        } else {
            frame
        };
        let broken = format!("{}{error}{}", &good[..frame], &good[frame..]);
        for door in DOORS {
            let mut carrier = Carrier::new(&back(upstream, door, true));
            let mut out = Vec::new();
            carrier.push(broken.as_bytes(), &mut out).expect("there is something to pass on");
            assert!(carrier.finished());
            let length = out.len();
            let told = carrier.push(good.as_bytes(), &mut out).expect_err("it broke");
            assert_eq!(told.0, fault, "{upstream:?} at {door:?}");
            assert!(carrier.end(&mut out).is_err());
            assert_eq!(out.len(), length, "nothing is said after the error");
            let out = String::from_utf8(out).expect("text");
            assert!(!out.contains(secret) && !out.contains(good_end(door)), "{upstream:?} at {door:?}: {out}");
            assert_eq!(out.matches(bad_end(door)).count(), 1, "{upstream:?} at {door:?}: {out}");
        }
    }
}

#[test]
fn a_whole_answer_that_is_none_is_refused_and_nothing_is_told() {
    for upstream in UPSTREAMS {
        for body in ["", "{", "[]", "null", "7", "\"text\"", "{}", "<html>busy</html>", "{\"error\":{\"code\":500}}"] {
            for door in DOORS {
                let told = carry_answer(&back(upstream, door, false), body.as_bytes());
                assert!(told.is_err(), "{upstream:?} at {door:?}: {body}");
            }
        }
        let cut = &whole(upstream).as_bytes()[..whole(upstream).len() / 2];
        assert_eq!(carry_answer(&back(upstream, Wire::Chat, false), cut).map_err(|it| it.0), Err(Fault::Garbled));
    }
}

#[test]
fn the_caller_may_end_a_stream_that_has_no_end() {
    for door in DOORS {
        let mut carrier = Carrier::new(&back(Wire::Midm, door, true));
        let mut out = Vec::new();
        let said = "data: {\"type\":\"chunk\",\"content\":\"so\"}\n\n";
        carrier.push(said.as_bytes(), &mut out).expect("all is well");
        assert!(!carrier.finished());
        carrier.fail(Fault::Timeout, &mut out);
        carrier.fail(Fault::Cut, &mut out);
        assert!(carrier.finished());
        let out = String::from_utf8(out).expect("text");
        assert_eq!(out.matches(bad_end(door)).count(), 1, "{door:?}: {out}");
    }
}

#[test]
fn servers_with_bad_manners_are_understood() {
    // No `[DONE]`, no blank lines between events, no ids, a call without arguments, comments, CRLF.
    let chat = ": hello\r\ndata: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"name\":\"now\",\"arguments\":\"\"}}]}}]}\r\n\
                data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n";
    let heard = meaning(&pieces(Wire::Chat, true, chat.as_bytes()));
    assert_eq!(heard.calls, [("now".to_owned(), serde_json::json!({}))]);
    assert_eq!(heard.broken, None);
    // Every call has the number 0, and its own id.
    let counted = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[\
                   {\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},\
                   {\"index\":0,\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":{\"x\":1}}}]},\
                   \"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n";
    let heard = meaning(&pieces(Wire::Chat, true, counted.as_bytes()));
    let names: Vec<&str> = heard.calls.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["f", "g"]);
    assert_eq!(heard.calls[1].1, serde_json::json!({ "x": 1 }));
    // `[DONE]` without a reason to end is no end.
    let cut = "data: {\"choices\":[{\"delta\":{\"content\":\"so\"}}]}\n\ndata: [DONE]\n\n";
    assert_eq!(meaning(&pieces(Wire::Chat, true, cut.as_bytes())).broken, Some(Fault::Cut));
    // Only the last event of a Responses stream says anything.
    let last = "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[\
                {\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"so\"}]}]}}\n\n";
    assert_eq!(meaning(&pieces(Wire::Responses, true, last.as_bytes())).text, "so");
    // A prompt that was blocked has no candidates.
    let blocked = "{\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"usageMetadata\":{\"promptTokenCount\":3}}";
    let told = carry_answer(&back(Wire::Generate, Wire::Chat, false), blocked.as_bytes()).expect("an answer");
    let told = parse(std::str::from_utf8(&told).expect("text"));
    assert_eq!(told["choices"][0]["finish_reason"], "content_filter");
    // A call that the limit cut in half is none.
    let half = "{\"choices\":[{\"message\":{\"content\":\"so\",\"tool_calls\":[{\"id\":\"a\",\"function\":\
                {\"name\":\"f\",\"arguments\":\"{\\\"x\"}}]},\"finish_reason\":\"length\"}]}";
    let told = carry_answer(&back(Wire::Chat, Wire::Messages, false), half.as_bytes()).expect("an answer");
    let told = parse(std::str::from_utf8(&told).expect("text"));
    assert_eq!((&told["stop_reason"], told["content"].as_array().map(Vec::len)), (&"max_tokens".into(), Some(1)));
    let odd = half.replace("\"length\"", "\"tool_calls\"");
    assert!(carry_answer(&back(Wire::Chat, Wire::Messages, false), odd.as_bytes()).is_err());
    let told = carry_answer(&back(Wire::Chat, Wire::Generate, false), odd.as_bytes()).expect("an answer");
    let told = parse(std::str::from_utf8(&told).expect("text"));
    assert_eq!(told["candidates"][0]["finishReason"], "MALFORMED_FUNCTION_CALL");
}

#[test]
fn reasons_to_end_find_their_words() {
    for (reason, chat, messages, generate, responses) in [
        ("stop", "stop", "end_turn", "STOP", "completed"),
        ("length", "length", "max_tokens", "MAX_TOKENS", "incomplete"),
        ("content_filter", "content_filter", "refusal", "SAFETY", "incomplete"),
    ] {
        let body = format!("{{\"choices\":[{{\"message\":{{\"content\":\"so\"}},\"finish_reason\":\"{reason}\"}}]}}");
        let told = |door| {
            let told = carry_answer(&back(Wire::Chat, door, false), body.as_bytes()).expect("an answer");
            parse(std::str::from_utf8(&told).expect("text"))
        };
        assert_eq!(told(Wire::Chat)["choices"][0]["finish_reason"], chat);
        assert_eq!(told(Wire::Messages)["stop_reason"], messages);
        assert_eq!(told(Wire::Generate)["candidates"][0]["finishReason"], generate);
        assert_eq!(told(Wire::Responses)["status"], responses);
    }
    for (reason, chat) in [
        ("STOP", Some("stop")),
        ("MAX_TOKENS", Some("length")),
        ("SPII", Some("content_filter")),
        ("IMAGE_PROHIBITED_CONTENT", Some("content_filter")),
        ("MALFORMED_FUNCTION_CALL", None),
        ("MALFORMED_RESPONSE", None),
    ] {
        let body = format!("{{\"candidates\":[{{\"finishReason\":\"{reason}\"}}]}}");
        let told = carry_answer(&back(Wire::Generate, Wire::Chat, false), body.as_bytes());
        let told = told.ok().map(|told| parse(std::str::from_utf8(&told).expect("text")));
        let told = told.as_ref().and_then(|told| told["choices"][0]["finish_reason"].as_str());
        assert_eq!(told, chat, "{reason}");
    }
    let body = "{\"content\":[{\"type\":\"text\",\"text\":\"so\"}],\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"END\"}";
    let told = carry_answer(&back(Wire::Messages, Wire::Messages, false), body.as_bytes()).expect("an answer");
    let told = parse(std::str::from_utf8(&told).expect("text"));
    assert_eq!((&told["stop_reason"], &told["stop_sequence"]), (&"stop_sequence".into(), &"END".into()));
    // A refusal in words is an answer; one without is a filter's work.
    let body = "{\"choices\":[{\"message\":{\"content\":null,\"refusal\":\"No.\"},\"finish_reason\":\"stop\"}]}";
    let told = |door| {
        let told = carry_answer(&back(Wire::Chat, door, false), body.as_bytes()).expect("an answer");
        parse(std::str::from_utf8(&told).expect("text"))
    };
    assert_eq!(told(Wire::Chat)["choices"][0]["message"]["refusal"], "No.");
    assert_eq!(told(Wire::Chat)["choices"][0]["finish_reason"], "stop");
    assert_eq!(told(Wire::Messages)["content"][0]["text"], "No.");
    assert_eq!(told(Wire::Messages)["stop_reason"], "refusal");
    assert_eq!(told(Wire::Responses)["output"][0]["content"][0]["refusal"], "No.");
    assert_eq!(told(Wire::Responses)["status"], "completed");
    assert_eq!(told(Wire::Generate)["candidates"][0]["finishReason"], "STOP");
    let wordless = b"{\"content\":[],\"stop_reason\":\"refusal\"}";
    let told = |door, stream| {
        let told = carry_answer(&back(Wire::Messages, door, stream), wordless).expect("an answer");
        String::from_utf8(told).expect("text")
    };
    for stream in [false, true] {
        assert!(told(Wire::Chat, stream).contains("\"finish_reason\":\"content_filter\""));
        assert!(told(Wire::Generate, stream).contains("\"finishReason\":\"SAFETY\""));
        let response = told(Wire::Responses, stream);
        assert!(response.contains("\"incomplete_details\":{\"reason\":\"content_filter\"}"), "{response}");
    }
}

#[test]
fn geminis_stream_may_be_an_array_and_is_one_however_it_ends() {
    let mut array = back(Wire::Chat, Wire::Generate, true);
    array.door.array = true;
    let (events, _) = turn(&back(Wire::Chat, Wire::Generate, true), stream(Wire::Chat).as_bytes());
    let events: Vec<_> = events.lines().filter_map(|line| line.strip_prefix("data: ")).map(parse).collect();
    let (told, outcome) = turn(&array, stream(Wire::Chat).as_bytes());
    assert_eq!((parse(&told), outcome), (events.into(), Ok(())));
    for cut in [0, stream(Wire::Chat).len() / 2] {
        let (told, outcome) = turn(&array, &stream(Wire::Chat).as_bytes()[..cut]);
        assert_eq!(outcome, Err(Fault::Cut));
        let told = parse(&told);
        let last = told.as_array().and_then(|elements| elements.last()).expect("an element");
        assert_eq!(last["error"]["status"], "UNAVAILABLE", "{told}");
    }
}

#[test]
fn less_than_nothing_is_told_to_nobody() {
    for (upstream, answer) in [
        (
            Wire::Chat,
            r#"{"choices":[{"message":{"content":"so"},"finish_reason":"stop"}],"usage":{"prompt_tokens":-5,"completion_tokens":-5,"total_tokens":-5}}"#,
        ),
        (
            Wire::Responses,
            r#"{"status":"completed","output":[],"usage":{"input_tokens":-5,"output_tokens":-5,"total_tokens":-5}}"#,
        ),
        (
            Wire::Messages,
            r#"{"content":[],"stop_reason":"end_turn","usage":{"input_tokens":-5,"output_tokens":-5,"cache_read_input_tokens":-5}}"#,
        ),
        (
            Wire::Generate,
            r#"{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":-5,"candidatesTokenCount":-5}}"#,
        ),
        (Wire::Midm, r#"{"response":"so","usage":{"prompt_tokens":-5,"completion_tokens":-5}}"#),
    ] {
        for door in DOORS {
            for stream in [false, true] {
                let told = carry_answer(&back(upstream, door, stream), answer.as_bytes()).expect("an answer");
                let told = String::from_utf8(told).expect("text");
                assert!(!told.contains(":-"), "{upstream:?} at {door:?}: {told}");
            }
        }
    }
}
