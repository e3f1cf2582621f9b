//! Whatever an answer is made of, each protocol's stream keeps its own rules: what opens closes, numbers count, and what
//! is told at the end is what was told on the way.

use proptest::prelude::*;
use salon_core::Tokens;
use salon_engine::upstream::Fault;
use salon_engine::wire::Wire;
use salon_engine::wire::carry::Writer;
use salon_engine::wire::talk::{Disguise, Finish, Piece};
use serde_json::Value;

use crate::cast::*;

fn any_piece() -> impl Strategy<Value = Piece> {
    let text = prop_oneof![Just(String::new()), Just("so".to_owned()), Just("\"\n\u{2028}é".to_owned()), ".{0,8}"];
    let json = prop_oneof![
        Just("{}".to_owned()),
        Just("{\"a\":1}".to_owned()),
        Just("{\"a\":".to_owned()),
        Just("1}".to_owned())
    ];
    prop_oneof![
        3 => text.clone().prop_map(Piece::Text),
        2 => text.clone().prop_map(Piece::Thought),
        1 => text.prop_map(Piece::Refusal),
        3 => (0..4_usize).prop_map(|call| Piece::Call {
            call,
            id: format!("c{call}"),
            name: if call == 3 { "exec".to_owned() } else { "f".to_owned() },
        }),
        4 => (0..4_usize, json).prop_map(|(call, json)| Piece::Arguments { call, json }),
        1 => (0..4_usize).prop_map(|call| Piece::CallDone { call }),
        1 => Just(Piece::Begin { tokens: Some(Tokens::new(3, 1)) }),
    ]
}

fn any_end() -> impl Strategy<Value = Piece> {
    prop_oneof![
        Just(Piece::End { finish: Finish::Stop, tokens: Some(Tokens::new(3, 4)) }),
        Just(Piece::End { finish: Finish::Length, tokens: None }),
        Just(Piece::End { finish: Finish::Filtered, tokens: None }),
        Just(Piece::Broken(Fault::Cut)),
    ]
}

fn tell(wire: Wire, pieces: &[Piece], end: &Piece) -> String {
    let mut door = door(wire, true);
    let disguise = Disguise { name: "exec".to_owned(), namespace: Some("functions".to_owned()), custom: true };
    door.disguises = vec![("exec".to_owned(), disguise)];
    let mut writer = Writer::new(door);
    let mut out = Vec::new();
    for piece in pieces.iter().chain([end]) {
        // A broken answer has said so; there is nothing more to check in the outcome.
        let _ = writer.write(piece.clone(), &mut out);
    }
    assert!(writer.finished());
    String::from_utf8(out).expect("text")
}

/// The events of a stream: their types, which their data repeat, and their data.
fn events(stream: &str) -> Vec<(String, Value)> {
    stream
        .split_terminator("\n\n")
        .map(|frame| {
            let (event, data) = frame.split_once('\n').expect("two lines");
            let event = event.strip_prefix("event: ").expect("a type").to_owned();
            let data = parse(data.strip_prefix("data: ").expect("data"));
            assert_eq!(data["type"], event.as_str());
            (event, data)
        })
        .collect()
}

fn check_messages(stream: &str) {
    let events = events(stream);
    let mut open = None;
    let mut blocks = 0;
    let (last, middle) = events.split_last().expect("an end");
    let ended = last.0 == "message_stop";
    assert!(ended || last.0 == "error", "{stream}");
    for (number, (event, data)) in middle.iter().enumerate() {
        match event.as_str() {
            "message_start" => assert_eq!(number, 0, "{stream}"),
            "content_block_start" => {
                assert_eq!((open, &data["index"]), (None, &blocks.into()), "{stream}");
                open = Some(data["content_block"]["type"].as_str().expect("a type").to_owned());
                blocks += 1;
            }
            "content_block_delta" => {
                let kind = match open.as_deref() {
                    Some("text") => "text_delta",
                    Some("thinking") => "thinking_delta",
                    Some("tool_use") => "input_json_delta",
                    _ => panic!("a delta of nothing: {stream}"),
                };
                assert_eq!((&data["delta"]["type"], &data["index"]), (&kind.into(), &(blocks - 1).into()), "{stream}");
            }
            "content_block_stop" => {
                assert!(open.take().is_some(), "{stream}");
                assert_eq!(data["index"], blocks - 1, "{stream}");
            }
            "message_delta" => assert_eq!((number, open.is_none()), (middle.len() - 1, true), "{stream}"),
            other => panic!("{other}: {stream}"),
        }
    }
    assert_eq!(ended, middle.last().is_some_and(|(event, _)| event == "message_delta"), "{stream}");
}

fn check_responses(stream: &str) {
    let events = events(stream);
    let mut done: Vec<&Value> = Vec::new();
    let mut open: Option<&Value> = None;
    let mut text = String::new();
    for (number, (event, data)) in events.iter().enumerate() {
        assert_eq!(data["sequence_number"], number, "{stream}");
        if let Some(index) = data.get("output_index") {
            assert_eq!(index, done.len(), "{stream}");
        }
        if let (Some(id), Some(item)) = (data.get("item_id"), open) {
            assert_eq!(id, &item["id"], "{stream}");
        }
        match event.as_str() {
            "response.created" => assert_eq!(number, 0),
            "response.in_progress" => assert_eq!(number, 1),
            "response.output_item.added" => {
                assert!(open.replace(&data["item"]).is_none(), "{stream}");
            }
            "response.output_item.done" => {
                let item = open.take().expect("it was added");
                assert_eq!((&item["id"], &item["type"]), (&data["item"]["id"], &data["item"]["type"]), "{stream}");
                done.push(&data["item"]);
            }
            "response.completed" | "response.incomplete" => {
                assert_eq!((number, open.is_none()), (events.len() - 1, true), "{stream}");
                let output: Vec<&Value> = data["response"]["output"].as_array().expect("a list").iter().collect();
                assert_eq!(output, done, "{stream}");
            }
            "response.failed" => assert_eq!(number, events.len() - 1, "{stream}"),
            _ => assert!(open.is_some(), "{event} outside of an item: {stream}"),
        }
        if event.ends_with(".delta") {
            text.push_str(data["delta"].as_str().expect("text"));
        } else if let Some(said) = ["text", "refusal", "arguments", "input"].iter().find_map(|name| data.get(name)) {
            assert_eq!(*said, std::mem::take(&mut text), "{stream}");
        }
    }
    let last = &events.last().expect("an end").0;
    assert!(["response.completed", "response.incomplete", "response.failed"].contains(&last.as_str()), "{stream}");
}

fn check_chat(stream: &str) {
    let frames: Vec<&str> = stream.split_terminator("\n\n").collect();
    let (last, chunks) = frames.split_last().expect("an end");
    let mut calls = 0;
    let mut finished = false;
    for (number, chunk) in chunks.iter().enumerate() {
        let chunk = parse(chunk.strip_prefix("data: ").expect("data"));
        assert_eq!(chunk["object"], "chat.completion.chunk");
        let Some(choice) = chunk["choices"].get(0) else {
            assert!(finished && chunk["usage"].is_object(), "{stream}");
            continue;
        };
        assert!(!finished, "{stream}");
        assert_eq!(choice["delta"].get("role").is_some(), number == 0, "{stream}");
        if let Some(call) = choice["delta"]["tool_calls"].get(0) {
            if call.get("id").is_some() {
                calls += 1;
                assert!(call["type"].is_string(), "{stream}");
            }
            assert_eq!(call["index"], calls - 1, "{stream}");
        }
        finished = choice["finish_reason"].is_string();
    }
    assert_eq!(finished, *last == "data: [DONE]", "{stream}");
    assert!(finished || last.starts_with("data: {\"error\":"), "{stream}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn streams_keep_the_rules_of_their_protocol(
        pieces in prop::collection::vec(any_piece(), 0..24),
        end in any_end(),
    ) {
        check_messages(&tell(Wire::Messages, &pieces, &end));
        check_responses(&tell(Wire::Responses, &pieces, &end));
        check_chat(&tell(Wire::Chat, &pieces, &end));
    }

    #[test]
    fn what_is_told_is_what_is_heard(
        said in prop::collection::vec(any_piece(), 0..24),
        finish in prop_oneof![Just(Finish::Stop), Just(Finish::Length)],
    ) {
        // Calls that are whole: a half one is told differently everywhere.
        let mut pieces: Vec<Piece> = Vec::new();
        let mut calls = 0;
        for piece in said {
            match piece {
                Piece::Text(_) | Piece::Thought(_) => pieces.push(piece),
                Piece::Call { id, .. } => {
                    pieces.push(Piece::Call { call: calls, id, name: "f".to_owned() });
                    pieces.push(Piece::Arguments { call: calls, json: format!("{{\"a\":{calls}}}") });
                    calls += 1;
                }
                _ => {}
            }
        }
        let end = Piece::End { finish, tokens: Some(Tokens::new(3, 4)) };
        let mut expected = meaning(&[pieces.clone(), vec![end.clone()]].concat());
        if expected.finish == Some(Finish::Stop) && calls > 0 {
            expected.finish = Some(Finish::Calls);
        }
        for wire in WIRES {
            let told = tell(wire, &pieces, &end);
            let mut heard = meaning(&super::cast::pieces(wire, true, told.as_bytes()));
            if heard.finish == Some(Finish::Stop) && calls > 0 {
                heard.finish = Some(Finish::Calls);
            }
            // Summaries of thoughts that were not told in one go are paragraphs.
            heard.thought = heard.thought.replace("\n\n", "");
            let expected = Meaning { thought: expected.thought.replace("\n\n", ""), ..expected.clone() };
            prop_assert_eq!(heard, expected, "{:?}: {}", wire, told);
        }
    }
}
