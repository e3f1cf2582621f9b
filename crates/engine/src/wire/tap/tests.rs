use proptest::prelude::*;

use super::*;
use crate::estimate;
use crate::wire::fuzz;

fn tap<'a>(wire: Wire, chunks: impl IntoIterator<Item = &'a [u8]>) -> Tapped {
    let mut tap = Tap::new(wire);
    chunks.into_iter().for_each(|chunk| tap.push(chunk));
    tap.finish()
}

fn hear(wire: Wire, bytes: impl AsRef<[u8]>) -> Tapped {
    tap(wire, [bytes.as_ref()])
}

/// The text of one of the fixtures.
fn fixture(list: &'static [(Wire, &'static [u8])], wire: Wire) -> &'static [u8] {
    list.iter().find(|(its, _)| *its == wire).expect("there is one").1
}

/// Our own count of texts is the sum of theirs, give or take the rounding up.
#[track_caller]
fn check_estimate(heard: &Tapped, texts: &[&str]) {
    let expected = estimate::tokens(&texts.concat());
    assert!((heard.estimated.output - expected).abs() <= 1, "{} is not {expected}", heard.estimated.output);
    assert_eq!(heard.estimated.read(), 0);
}

#[test]
fn a_chat_is_heard() {
    let stream = hear(Wire::Chat, fixture(fuzz::STREAMS, Wire::Chat));
    let tokens = Tokens { input: 80, output: 50, reasoning: 250, cache_read: 1920, audio_in: 6, ..Tokens::default() };
    assert_eq!(stream.tokens, Some(tokens));
    assert_eq!(stream.model.as_deref(), Some("gpt-5.5-2026-08-01"));
    assert_eq!(stream.response_id.as_deref(), Some("chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT"));
    assert!(stream.finished);
    assert_eq!(stream.error, None);
    check_estimate(&stream, &["Parrots eat \"usage\":{\"prompt_tokens\":1} 씨앗 🦜.", "{\"seeds\":3}"]);
    let whole = hear(Wire::Chat, fixture(fuzz::ANSWERS, Wire::Chat));
    assert_eq!(whole.tokens, Some(Tokens::new(1117, 46)));
    assert!(whole.finished);
    check_estimate(&whole, &["Parrots eat seeds.", "{\"seeds\": 3}"]);
}

#[test]
fn completions_are_heard() {
    let stream = hear(Wire::Completions, fixture(fuzz::STREAMS, Wire::Completions));
    assert_eq!(stream.tokens, Some(Tokens::new(7, 9)));
    check_estimate(&stream, &[" there was was the word a parrot"]);
    let whole = hear(Wire::Completions, fixture(fuzz::ANSWERS, Wire::Completions));
    assert_eq!((whole.tokens, whole.finished), (Some(Tokens::new(4, 4)), true));
}

#[test]
fn responses_are_heard() {
    let stream = hear(Wire::Responses, fixture(fuzz::STREAMS, Wire::Responses));
    let tokens =
        Tokens { input: 200, output: 56, reasoning: 64, cache_read: 2000, cache_write_5m: 400, ..Tokens::default() };
    assert_eq!(stream.tokens, Some(tokens));
    assert_eq!(stream.model.as_deref(), Some("gpt-6.1-sol-2026-10-01"));
    assert_eq!(stream.response_id.as_deref(), Some("resp_67ccd2bed1ec8190"));
    assert_eq!((stream.finished, stream.sequence), (true, Some(16)));
    check_estimate(&stream, &["**Thinking** of seeds", "씨앗이요.", "ls()"]);
    let whole = hear(Wire::Responses, fixture(fuzz::ANSWERS, Wire::Responses));
    assert_eq!((whole.tokens, whole.finished), (Some(tokens), true));
    check_estimate(&whole, &["**Thinking** of seeds", "씨앗이요.", "ls()"]);
    let queued = hear(Wire::Responses, r#"{"id":"resp_1","object":"response","status":"queued","usage":null}"#);
    assert_eq!((queued.tokens, queued.finished), (None, false));
}

#[test]
fn messages_are_heard() {
    let stream = hear(Wire::Messages, fixture(fuzz::STREAMS, Wire::Messages));
    let tokens = Tokens {
        input: 12,
        output: 89,
        cache_read: 20_000,
        cache_write_5m: 100,
        cache_write_1h: 200,
        ..Tokens::default()
    };
    assert_eq!(stream.tokens, Some(tokens));
    assert_eq!(stream.model.as_deref(), Some("claude-opus-5-5-20260901"));
    assert_eq!(stream.response_id.as_deref(), Some("msg_01XFDUDYJgAACzvnptvVoYEL"));
    assert!(stream.finished);
    check_estimate(
        &stream,
        &["Parrots eat \"seeds\",\nI think.", "앵무새는 씨앗을 먹어요 🦜", "{\"command\": \"ls\"}"],
    );
    let whole = hear(Wire::Messages, fixture(fuzz::ANSWERS, Wire::Messages));
    let tokens = Tokens { cache_write_5m: 300, cache_write_1h: 0, ..tokens };
    assert_eq!((whole.tokens, whole.finished), (Some(tokens), true));
    check_estimate(&whole, &["Seeds.", "앵무새는 씨앗을 먹어요.", "ls12"]);
}

#[test]
fn gemini_is_heard_in_events_and_in_an_array() {
    let tokens = Tokens { input: 340, output: 24, reasoning: 51, cache_read: 600, audio_in: 90, ..Tokens::default() };
    let streams: Vec<Tapped> = fuzz::STREAMS
        .iter()
        .filter(|(wire, _)| *wire == Wire::Generate)
        .map(|(wire, text)| hear(*wire, text))
        .collect();
    for stream in &streams {
        assert_eq!(stream.tokens, Some(tokens));
        assert_eq!(stream.model.as_deref(), Some("gemini-2.5-pro"));
        assert_eq!(stream.response_id.as_deref(), Some("q2IgaZz0M8yGvdIPxMK58A4"));
        assert!(stream.finished);
        check_estimate(stream, &["**Considering** seeds\n", "앵무새는 씨앗을 먹어요.", "feed3millet"]);
    }
    assert_eq!((streams[0].elements, streams[1].elements), (None, Some(3)));
    let whole = hear(Wire::Generate, fixture(fuzz::ANSWERS, Wire::Generate));
    assert_eq!((whole.tokens, whole.finished), (Some(Tokens { reasoning: 21, ..Tokens::new(8, 11) }), true));
    let blocked = hear(Wire::Generate, "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n");
    assert!(blocked.finished);
}

#[test]
fn what_is_no_answer_in_its_protocol_is_known_by_what_is_missing() {
    let all = [Wire::Chat, Wire::Completions, Wire::Responses, Wire::Messages, Wire::Generate, Wire::Embeddings];
    for wire in all.into_iter().chain([Wire::Midm]) {
        for (_, answer) in fuzz::ANSWERS.iter().filter(|(its, _)| *its == wire) {
            assert!(!hear(wire, answer).is_none, "{wire:?}");
            let bytes = answer.chunks(1);
            assert!(!tap(wire, bytes).is_none, "{wire:?} byte by byte");
        }
        for (_, stream) in fuzz::STREAMS.iter().filter(|(its, _)| *its == wire) {
            assert!(!hear(wire, stream).is_none, "a stream may say anything");
        }
        for none in [
            "{}",
            r#"{"ok":true}"#,
            r#"{"object":"error","message":"no"}"#,
            r#"{"error":null,"nested":{"choices":[],"content":[],"candidates":[],"output":[],"data":[]}}"#,
            r#"{"choices":null,"content":null,"candidates":null,"output":null,"data":null,"response":null}"#,
        ] {
            assert!(hear(wire, none).is_none, "{wire:?}: {none}");
            assert!(!hear(wire, &none[..none.len() - 1]).is_none, "what did not come whole is not judged");
        }
        assert!(!hear(wire, r#"{"error":{"message":"no"}}"#).is_none, "{wire:?}");
        assert!(!hear(wire, "data: {}\n\n").is_none, "{wire:?}");
    }
    for blocked in [r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#, r#"{"usageMetadata":{"promptTokenCount":3}}"#] {
        assert!(!hear(Wire::Generate, blocked).is_none, "{blocked}");
    }
}

#[test]
fn the_first_event_or_element_is_known_until_it_has_ended() {
    for (text, first) in [
        ("data: {\"a\":1}\n\ndata: {\"b\":2}\n\n", 15),
        ("event: x\r\ndata: {}\r\n\r\ndata: {", 21),
        (": a comment\n\ndata: {}", 13),
        ("[{\"a\":{}}\n,{\"b\":2}]", 9),
        ("[]", 2),
    ] {
        let mut tap = Tap::new(Wire::Generate);
        for (at, byte) in text.bytes().enumerate() {
            tap.push(&[byte]);
            assert_eq!(tap.is_in_first(), at + 1 < first, "{text:?} at {at}");
        }
    }
}

#[test]
fn embeddings_and_midm_are_heard() {
    let vectors = hear(Wire::Embeddings, fixture(fuzz::ANSWERS, Wire::Embeddings));
    assert_eq!((vectors.tokens, vectors.finished), (Some(Tokens::new(9, 0)), true));
    assert_eq!(vectors.model.as_deref(), Some("text-embedding-3-small"));
    let stream = hear(Wire::Midm, fixture(fuzz::STREAMS, Wire::Midm));
    assert_eq!((stream.tokens, stream.finished), (None, true));
    check_estimate(&stream, &["안녕하세요!"]);
    let whole = hear(Wire::Midm, fixture(fuzz::ANSWERS, Wire::Midm));
    assert_eq!((whole.tokens, whole.finished), (Some(Tokens::new(21, 4)), true));
    check_estimate(&whole, &["안녕하세요!"]);
}

#[test]
fn how_soon_it_was_served_is_heard_on_each_wire() {
    let events = |lines: &[&str]| lines.iter().map(|line| format!("data: {line}\n\n")).collect::<String>();
    for (wire, answer, tier) in [
        (Wire::Chat, r#"{"choices":[],"service_tier":"priority"}"#.to_owned(), Some(Tier::Fast)),
        (Wire::Chat, r#"{"choices":[],"service_tier":null}"#.to_owned(), None),
        (
            Wire::Chat,
            events(&[r#"{"choices":[],"service_tier":"default"}"#, r#"{"choices":[],"usage":{"prompt_tokens":1}}"#]),
            Some(Tier::Usual),
        ),
        (Wire::Completions, r#"{"choices":[],"service_tier":"flex"}"#.to_owned(), Some(Tier::Flex)),
        (Wire::Responses, r#"{"status":"completed","service_tier":"ultrafast"}"#.to_owned(), Some(Tier::Ultrafast)),
        (
            Wire::Responses,
            events(&[
                r#"{"type":"response.created","response":{"service_tier":"auto"}}"#,
                r#"{"type":"response.completed","response":{"service_tier":"default"}}"#,
            ]),
            Some(Tier::Usual),
        ),
        (
            Wire::Responses,
            events(&[
                r#"{"type":"response.created","response":{"service_tier":"fast"}}"#,
                r#"{"type":"response.output_item.done","item":{"service_tier":"flex"}}"#,
            ]),
            Some(Tier::Fast),
        ),
        (
            Wire::Messages,
            r#"{"usage":{"input_tokens":1,"service_tier":"priority","speed":"fast"}}"#.to_owned(),
            Some(Tier::Fast),
        ),
        (Wire::Messages, r#"{"usage":{"input_tokens":1,"service_tier":"priority"}}"#.to_owned(), None),
        (
            Wire::Messages,
            events(&[
                r#"{"type":"message_start","message":{"usage":{"input_tokens":1,"speed":"standard"}}}"#,
                r#"{"type":"message_delta","usage":{"output_tokens":1}}"#,
            ]),
            Some(Tier::Usual),
        ),
        (
            Wire::Generate,
            r#"{"usageMetadata":{"promptTokenCount":1,"serviceTier":"PRIORITY"}}"#.to_owned(),
            Some(Tier::Fast),
        ),
        (
            Wire::Generate,
            events(&[r#"{"usageMetadata":{"promptTokenCount":1,"trafficType":"ON_DEMAND_FLEX"}}"#]),
            Some(Tier::Flex),
        ),
        (Wire::Generate, r#"{"usageMetadata":{"promptTokenCount":1}}"#.to_owned(), None),
        (Wire::Chat, r#"{"choices":[{"message":{"service_tier":"priority"}}]}"#.to_owned(), None),
    ] {
        assert_eq!(hear(wire, &answer).tier, tier, "{answer}");
    }
}

#[test]
fn what_the_answer_says_of_its_tier_counts_more_than_its_head() {
    for (body, tier) in [
        (r#"{"usageMetadata":{"promptTokenCount":1}}"#, Tier::Usual),
        (r#"{"usageMetadata":{"promptTokenCount":1,"serviceTier":"priority"}}"#, Tier::Fast),
    ] {
        let mut tap = Tap::new(Wire::Generate);
        tap.served("standard");
        tap.push(body.as_bytes());
        assert_eq!(tap.finish().tier, Some(tier), "{body}");
    }
}

#[test]
fn other_servers_manners_are_understood() {
    let stream = |name: &str| match name {
        "vllm" => include_bytes!("../../../tests/fixtures/vllm.sse").as_slice(),
        "ollama" => include_bytes!("../../../tests/fixtures/ollama.sse"),
        "openrouter" => include_bytes!("../../../tests/fixtures/openrouter.sse"),
        "deepseek" => include_bytes!("../../../tests/fixtures/deepseek.sse"),
        "azure" => include_bytes!("../../../tests/fixtures/azure.sse"),
        "llamacpp" => include_bytes!("../../../tests/fixtures/llamacpp.sse"),
        "mistral" => include_bytes!("../../../tests/fixtures/mistral.sse"),
        _ => include_bytes!("../../../tests/fixtures/openai.sse"),
    };
    for name in ["vllm", "ollama", "openrouter", "deepseek", "azure", "llamacpp", "mistral", "openai"] {
        let heard = hear(Wire::Chat, stream(name));
        assert!(heard.finished && heard.error.is_none(), "{name}: {heard:?}");
        assert!(heard.tokens.is_some_and(|tokens| tokens.read() > 0 && tokens.written() > 0), "{name}: {heard:?}");
        assert!(heard.estimated.output > 0, "{name}: {heard:?}");
    }
}

#[test]
fn thoughts_that_are_said_under_two_names_count_once() {
    let delta =
        r#"data: {"choices":[{"delta":{"reasoning":"a thought of mine","reasoning_content":"a thought of mine"}}]}"#;
    check_estimate(&hear(Wire::Chat, format!("{delta}\n\n{delta}\n\n")), &["a thought of mine", "a thought of mine"]);
}

#[test]
fn what_is_cut_short_is_unfinished_and_counted_as_far_as_it_came() {
    for (wire, text) in fuzz::STREAMS {
        let text = &text[..text.len() / 2];
        let heard = hear(*wire, text);
        assert!(!heard.finished, "{wire:?}");
        assert!(heard.estimated.output > 0, "{wire:?}");
    }
    let half = hear(Wire::Chat, r#"data: {"choices":[{"delta":{"content":"a parrot that eat"#);
    check_estimate(&half, &["a parrot that eat"]);
    assert_eq!(hear(Wire::Chat, ""), Tapped::default());
}

#[test]
fn an_error_where_an_answer_should_be_is_sorted() {
    for (wire, stream, fault) in [
        (Wire::Chat, r#"data: {"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#, Some(Fault::Limit)),
        (Wire::Chat, r#"data: {"error":null,"choices":[]}"#, None),
        (Wire::Chat, r#"{"error":{"message":"…","code":"insufficient_quota"}}"#, Some(Fault::Spent)),
        (
            Wire::Messages,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}",
            Some(Fault::Busy),
        ),
        (Wire::Responses, r#"data: {"type":"error","code":"rate_limit_exceeded","message":"…"}"#, Some(Fault::Limit)),
        (
            Wire::Responses,
            r#"data: {"type":"response.failed","response":{"error":{"code":"context_length_exceeded"}}}"#,
            Some(Fault::TooLong),
        ),
        (Wire::Responses, r#"data: {"type":"response.failed","response":{"error":null}}"#, Some(Fault::Busy)),
        (Wire::Generate, r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]"#, Some(Fault::Limit)),
        (Wire::Midm, r#"data: {"type":"error","message":"CUDA out of memory"}"#, Some(Fault::Busy)),
    ] {
        let heard = hear(wire, format!("{stream}\n\n"));
        assert_eq!(heard.error, fault, "{stream}");
    }
}

#[test]
fn nothing_is_heard_after_the_end() {
    let stream = "data: [DONE]\n\ndata: {\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":9}}\n\n";
    let heard = hear(Wire::Chat, stream);
    assert_eq!((heard.finished, heard.tokens), (true, None));
}

#[test]
fn nonsense_spoils_its_own_event_only() {
    let good = "data: {\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\n";
    for bad in [
        "data: {\"a\":\"\n\n",
        "data: {{{[[\"\n\n",
        "data: }}]],,::\n\n",
        "data: {\"usage\":{\"prompt_tokens\":\n\n",
        "data: \u{0}\u{1}\u{7f}\n\n",
        "data\ndata:\ndat: {\"usage\":7}\n\n",
        "retry: {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n",
        &format!("data: {}\n\n", "[{\"a\":".repeat(200)),
        &format!("data: {{\"usage\":{{\"x\":\"{}\"}}}}\n\n", "x".repeat(100 << 10)),
    ] {
        assert_eq!(hear(Wire::Chat, [bad, good].concat()).tokens, Some(Tokens::new(9, 1)), "{bad}");
    }
}

#[test]
fn memory_does_not_grow_with_the_answer() {
    let mut tap = Tap::new(Wire::Messages);
    tap.push(b"data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"x\":\"");
    for _ in 0..1_000 {
        tap.push(&[b'x'; 4096]);
    }
    assert!(tap.skim.kept() <= 128 << 10, "{}", tap.skim.kept());
    tap.push(b"\"}}}\n\ndata: {\"usage\":{\"output_tokens\":3}}\n\n");
    assert_eq!(tap.finish().tokens, Some(Tokens::new(0, 3)));
}

#[test]
fn it_is_known_whether_it_broke_off_within_an_event() {
    let mut tap = Tap::new(Wire::Chat);
    assert!(!tap.so_far().in_event);
    for (bytes, in_event) in [
        ("data: {\"a\":1}\n", true),
        ("\n", false),
        (": ping\r\n\r\n", false),
        ("da", true),
        ("ta: 1\n", true),
        ("event: x", true),
        ("\n\n", false),
    ] {
        tap.push(bytes.as_bytes());
        assert_eq!(tap.so_far().in_event, in_event, "{bytes:?}");
    }
    let mut tap = Tap::new(Wire::Generate);
    for (bytes, in_event) in [("[", false), ("{\"a\"", true), (":1}", false), (",\n", false), ("]", false)] {
        tap.push(bytes.as_bytes());
        assert_eq!(tap.so_far().in_event, in_event, "{bytes:?}");
    }
    tap.push(b"{");
    assert!(tap.finish().in_event);
}

#[test]
fn so_far_is_what_finish_would_say_of_whole_events() {
    for (wire, text) in fuzz::STREAMS.iter().filter(|(_, text)| text.starts_with(b"data") || text.starts_with(b"event"))
    {
        let mut tap = Tap::new(*wire);
        tap.push(text);
        assert_eq!(tap.so_far(), tap.finish(), "{wire:?}");
    }
}

proptest! {
    #![proptest_config(fuzz::config(100_000))]

    #[test]
    fn cuts_and_damage_make_no_difference_and_no_panic(
        (wire, text) in fuzz::damaged(fuzz::STREAMS),
        cuts in prop::collection::vec(1_usize..400, 0..12),
        as_wire in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let wires = [Wire::Chat, Wire::Responses, Wire::Messages, Wire::Generate, Wire::Embeddings, Wire::Midm];
        let wire = as_wire.map_or(wire, |index| wires[index.index(wires.len())]);
        let whole = hear(wire, &text);
        prop_assert_eq!(&tap(wire, fuzz::cut(&text, &cuts)), &whole);
        prop_assert!(whole.estimated.output >= 0);
        // No byte weighs more than four tokens of text.
        prop_assert!(whole.estimated.output <= 1 + 2 * text.len() as i64);
    }
}

proptest! {
    #![proptest_config(fuzz::config(20_000))]

    #[test]
    fn whole_answers_may_be_cut_anywhere(
        (wire, text) in fuzz::damaged(fuzz::ANSWERS),
        cuts in prop::collection::vec(0_usize..60, 0..40),
    ) {
        prop_assert_eq!(tap(wire, fuzz::cut(&text, &cuts)), hear(wire, &text));
    }

    #[test]
    fn usage_is_found_in_any_object(object in fuzz::json(), at_end: bool) {
        let usage = "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}";
        let text = if at_end { format!("{{\"x\":{object},{usage}}}") } else { format!("{{{usage},\"x\":{object}}}") };
        let heard = hear(Wire::Chat, text);
        prop_assert_eq!((heard.tokens, heard.finished), (Some(Tokens::new(3, 4)), true));
    }
}

#[test]
fn every_byte_apart_is_the_same_as_all_at_once() {
    for (wire, text) in fuzz::STREAMS.iter().chain(fuzz::ANSWERS) {
        assert_eq!(tap(*wire, text.chunks(1)), hear(*wire, text), "{wire:?}");
    }
}

/// Prints what tapping costs: `cargo test --release -p salon-engine tapping_costs -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
fn tapping_costs() {
    for (wire, text) in fuzz::STREAMS.iter().chain(fuzz::ANSWERS) {
        // Servers send an event at a time.
        let mut events = Vec::new();
        let mut from = 0;
        for end in memchr::memmem::find_iter(text, "\n\n").map(|at| at + 2).chain([text.len()]) {
            events.push(&text[from..end]);
            from = end;
        }
        let each = fuzz::cost(|| drop(tap(*wire, std::hint::black_box(&events).iter().copied())));
        println!("{}: {} events, {} bytes in {each:?}", wire.as_str(), events.len(), text.len());
    }
    let chunk = br#"data: {"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1741569952,"model":"gpt-5.5-2026-08-01","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":" parrot"},"logprobs":null,"finish_reason":null}],"usage":null}"#;
    let chunk = [chunk.as_slice(), b"\n\n"].concat();
    let each = fuzz::cost(|| drop(tap(Wire::Chat, std::iter::repeat_n(chunk.as_slice(), 100))));
    println!("100 chunks of {} bytes in {each:?}", chunk.len());
}

#[test]
fn an_answer_is_known_by_how_it_begins() {
    for (bytes, begins) in [
        (&b""[..], Some(Beginning::Blank)),
        (b"\xef\xbb\xbf \r\n", Some(Beginning::Blank)),
        (b"\xef\xbb\xbf{", Some(Beginning::Object)),
        (b"\n[", Some(Beginning::Array)),
        (b": still there", Some(Beginning::Events)),
        (b"data", Some(Beginning::Events)),
        (b"event:x", Some(Beginning::Events)),
        (b"r", Some(Beginning::Events)),
        (b"dating", None),
        (b"<html>", None),
        (b"null", None),
        (b"\"x\"", None),
    ] {
        assert_eq!(beginning(bytes), begins, "{:?}", String::from_utf8_lossy(bytes));
    }
}
