//! Answers: what every wire's are heard as, and how every wire is told them.

use salon_core::Tokens;
use salon_engine::wire::Wire;
use salon_engine::wire::carry::{Carrier, Writer, carry_answer};
use salon_engine::wire::talk::{Disguise, Finish, Piece};
use serde_json::json;

use crate::cast::*;

pub fn stream(wire: Wire) -> &'static str {
    match wire {
        Wire::Chat => include_str!("../fixtures/carry/answers/chat.sse"),
        Wire::Responses => include_str!("../fixtures/carry/answers/responses.sse"),
        Wire::Messages => include_str!("../fixtures/carry/answers/messages.sse"),
        Wire::Generate => include_str!("../fixtures/carry/answers/generate.sse"),
        _ => include_str!("../fixtures/carry/answers/midm.sse"),
    }
}

pub fn whole(wire: Wire) -> &'static str {
    match wire {
        Wire::Chat => include_str!("../fixtures/carry/answers/chat.json"),
        Wire::Responses => include_str!("../fixtures/carry/answers/responses.json"),
        Wire::Messages => include_str!("../fixtures/carry/answers/messages.json"),
        Wire::Generate => include_str!("../fixtures/carry/answers/generate.json"),
        _ => include_str!("../fixtures/carry/answers/midm.json"),
    }
}

/// What all these answers say.
fn expected(wire: Wire, stream: bool) -> Meaning {
    let tokens = Tokens { input: 100, cache_read: 20, output: 30, reasoning: 10, ..Tokens::default() };
    match wire {
        Wire::Midm => Meaning {
            text: "Let me look.".to_owned(),
            finish: Some(Finish::Stop),
            // Its streams do not say what was used.
            tokens: (!stream).then(|| Tokens::new(120, 40)),
            ..Meaning::default()
        },
        wire => Meaning {
            text: "Let me look.".to_owned(),
            thought: "Hm, the weather.".to_owned(),
            calls: ["Seoul", "Busan"].map(|city| ("get_weather".to_owned(), json!({ "city": city }))).to_vec(),
            finish: Some(if wire == Wire::Generate { Finish::Stop } else { Finish::Calls }),
            // Nor do these say how much of the output was thoughts.
            tokens: Some(if wire == Wire::Messages { Tokens { output: 40, reasoning: 0, ..tokens } } else { tokens }),
            ..Meaning::default()
        },
    }
}

/// The same, but for what Gemini and Responses leave to the reader to conclude.
fn settled(mut meaning: Meaning) -> Meaning {
    if meaning.finish == Some(Finish::Stop) && !meaning.calls.is_empty() {
        meaning.finish = Some(Finish::Calls);
    }
    // Anthropic's usage has no place of its own for thoughts that everybody reads.
    if let Some(tokens) = &mut meaning.tokens {
        tokens.output += std::mem::take(&mut tokens.reasoning);
    }
    meaning
}

#[test]
fn every_wires_answer_is_heard_for_what_it_says() {
    for wire in UPSTREAMS {
        let expected = |stream| Meaning { finish: settled(expected(wire, stream)).finish, ..expected(wire, stream) };
        let heard = |stream, bytes: &str| {
            let heard = meaning(&pieces(wire, stream, bytes.as_bytes()));
            Meaning { finish: settled(heard.clone()).finish, ..heard }
        };
        assert_eq!(heard(true, stream(wire)), expected(true), "{wire:?}");
        assert_eq!(heard(false, whole(wire)), expected(false), "{wire:?}");
    }
}

#[test]
fn how_the_bytes_are_cut_makes_no_difference() {
    for wire in UPSTREAMS {
        let bytes = stream(wire).as_bytes();
        let at_once = pieces(wire, true, bytes);
        for size in [1, 2, 3, 7, 64, 1_000] {
            assert_eq!(pieces_cut(wire, true, bytes.chunks(size)), at_once, "{wire:?} in pieces of {size}");
        }
    }
}

#[test]
fn every_answer_says_the_same_at_every_door() {
    for upstream in UPSTREAMS {
        for door in WIRES {
            let meant = settled(expected(upstream, true));
            let (told, outcome) = turn(&back(upstream, door, true), stream(upstream).as_bytes());
            assert_eq!(outcome, Ok(()), "{upstream:?} at {door:?}");
            let mut heard = settled(meaning(&pieces(door, true, told.as_bytes())));
            if meant.tokens.is_none() {
                // Anthropic's clients cannot do without the field.
                heard.tokens = heard.tokens.filter(|tokens| tokens.total() > 0);
            }
            assert_eq!(heard, meant, "{upstream:?} at {door:?}: {told}");

            let meant = settled(expected(upstream, false));
            let told = carry_answer(&back(upstream, door, false), whole(upstream).as_bytes()).expect("readable");
            let heard = settled(meaning(&pieces(door, false, &told)));
            assert_eq!(heard, meant, "{upstream:?} at {door:?}: {}", String::from_utf8_lossy(&told));
        }
    }
}

#[test]
fn an_answer_that_comes_whole_is_streamed_to_whoever_wants_a_stream() {
    for upstream in UPSTREAMS {
        for door in WIRES {
            let meant = settled(expected(upstream, false));
            let answer = format!("\r\n{}", whole(upstream));
            for size in [1, usize::MAX] {
                let mut carrier = Carrier::new(&back(upstream, door, true));
                let mut told = Vec::new();
                answer.as_bytes().chunks(size.min(answer.len())).for_each(|part| {
                    carrier.push(part, &mut told).expect("readable");
                });
                carrier.end(&mut told).expect("an end");
                let heard = settled(meaning(&pieces(door, true, &told)));
                assert_eq!(heard, meant, "{upstream:?} at {door:?}: {}", String::from_utf8_lossy(&told));
            }
        }
    }
}

#[test]
fn a_picture_that_no_other_wire_can_tell_is_named() {
    for (media, told) in [
        (r#"{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}"#, "[image/png: cannot be shown here]"),
        (r#"{"file_data":{"mime_type":"<b>","file_uri":"gs://x"}}"#, "[media: cannot be shown here]"),
        (r#"{"thought":true,"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}"#, ""),
    ] {
        let answer = format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"Here: "}},{media}]}},"finishReason":"STOP"}}]}}"#
        );
        for stream in [false, true] {
            let bytes = if stream { format!("data: {answer}\n\n") } else { answer.clone() };
            let heard = meaning(&pieces(Wire::Generate, stream, bytes.as_bytes()));
            assert_eq!(heard.text, format!("Here: {told}"), "{media}");
        }
    }
}

#[test]
fn ids_of_calls_stay_and_are_made_up_where_there_are_none() {
    let ids = |wire, told: &str| -> Vec<String> {
        let id = |piece| if let Piece::Call { id, .. } = piece { Some(id) } else { None };
        pieces(wire, true, told.as_bytes()).into_iter().filter_map(id).collect()
    };
    for upstream in WIRES {
        for door in WIRES {
            let (told, _) = turn(&back(upstream, door, true), stream(upstream).as_bytes());
            assert_eq!(ids(door, &told), ["call_a", "call_b"], "{upstream:?} at {door:?}");
        }
    }
    let nameless = stream(Wire::Generate).replace("\"id\":\"call_a\",", "").replace("\"id\":\"call_b\",", "");
    let (told, _) = turn(&back(Wire::Generate, Wire::Messages, true), nameless.as_bytes());
    assert_eq!(ids(Wire::Messages, &told), ["call_01CALL_0", "call_01CALL_1"]);
}

#[test]
fn a_call_without_arguments_is_told_with_an_empty_object() {
    let streamed = r#"data: {"type":"message_start","message":{}}

data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"call_a","name":"now","input":{}}}

data: {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}

data: {"type":"content_block_stop","index":0}

data: {"type":"message_delta","delta":{"stop_reason":"tool_use"}}

data: {"type":"message_stop"}

"#;
    let whole = json!({
        "content": [{ "type": "tool_use", "id": "call_a", "name": "now", "input": {} }], "stop_reason": "tool_use",
    });
    let nothing = json!({ "candidates": [{ "content": { "parts": [{ "functionCall": { "name": "now" } }] } }] });
    let arguments = |wire, stream, told: &[u8]| -> String {
        let json = |piece| if let Piece::Arguments { json, .. } = piece { Some(json) } else { None };
        pieces(wire, stream, told).into_iter().filter_map(json).collect()
    };
    for door in [Wire::Chat, Wire::Responses] {
        let (told, _) = turn(&back(Wire::Messages, door, true), streamed.as_bytes());
        assert_eq!(arguments(door, true, told.as_bytes()), "{}", "{door:?}: {told}");
        for (upstream, answer) in [(Wire::Messages, &whole), (Wire::Generate, &nothing)] {
            let told = carry_answer(&back(upstream, door, false), answer.to_string().as_bytes()).expect("readable");
            assert_eq!(arguments(door, false, &told), "{}", "{upstream:?} at {door:?}");
        }
    }
}

/// What the doors below are told: a bit of everything.
fn story() -> Vec<Piece> {
    let tokens = Tokens { input: 100, cache_read: 20, output: 30, reasoning: 10, ..Tokens::default() };
    let call = |call: usize, id: &str, name: &str, json: &str| {
        [
            Piece::Call { call, id: id.to_owned(), name: name.to_owned() },
            Piece::Arguments { call, json: json[..8].to_owned() },
            Piece::Arguments { call, json: json[8..].to_owned() },
        ]
    };
    let mut story = vec![
        Piece::Begin { tokens: None },
        Piece::Thought("Hm, ".to_owned()),
        Piece::Thought("\"weather\".".to_owned()),
        Piece::Text("Let me ".to_owned()),
        Piece::Text("look:\n".to_owned()),
    ];
    story.extend(call(0, "call_a", "get_weather", "{\"city\":\"Seoul\"}"));
    story.extend(call(1, "call_b", "exec", "{\"input\":\"ls -l\\n\"}"));
    story.push(Piece::End { finish: Finish::Stop, tokens: Some(tokens) });
    story
}

fn tell(wire: Wire, stream: bool) -> String {
    let mut door = door(wire, stream);
    if matches!(wire, Wire::Chat | Wire::Responses) {
        let namespace = (wire == Wire::Responses).then(|| "functions".to_owned());
        let disguise = Disguise { name: "exec".to_owned(), namespace, custom: true };
        door.disguises = vec![("exec".to_owned(), disguise)];
    }
    if wire == Wire::Responses {
        let echo = json!({ "instructions": "Be brief.", "tool_choice": "auto", "tools": [], "temperature": 0.5 });
        door.echo = echo.as_object().cloned().expect("an object");
    }
    let mut writer = Writer::new(door);
    let mut out = Vec::new();
    for piece in story() {
        writer.write(piece, &mut out).expect("all is well");
    }
    assert!(writer.finished());
    String::from_utf8(out).expect("text")
}

#[test]
fn every_door_is_told_in_its_own_events() {
    for (door, expected) in [
        (Wire::Chat, include_str!("../fixtures/carry/told/chat.sse")),
        (Wire::Completions, include_str!("../fixtures/carry/told/completions.sse")),
        (Wire::Responses, include_str!("../fixtures/carry/told/responses.sse")),
        (Wire::Messages, include_str!("../fixtures/carry/told/messages.sse")),
        (Wire::Generate, include_str!("../fixtures/carry/told/generate.sse")),
        (Wire::Midm, include_str!("../fixtures/carry/told/midm.sse")),
    ] {
        assert_eq!(tell(door, true), expected, "{door:?}");
    }
}

#[test]
fn every_door_is_told_at_once_in_its_own_shape() {
    for (door, expected) in [
        (Wire::Chat, include_str!("../fixtures/carry/told/chat.json")),
        (Wire::Completions, include_str!("../fixtures/carry/told/completions.json")),
        (Wire::Responses, include_str!("../fixtures/carry/told/responses.json")),
        (Wire::Messages, include_str!("../fixtures/carry/told/messages.json")),
        (Wire::Generate, include_str!("../fixtures/carry/told/generate.json")),
        (Wire::Midm, include_str!("../fixtures/carry/told/midm.json")),
    ] {
        assert_eq!(parse(&tell(door, false)), parse(expected), "{door:?}");
    }
}
