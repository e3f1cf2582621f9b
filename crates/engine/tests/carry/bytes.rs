//! Whatever bytes come, nobody panics, and a broken answer is called one.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use salon_engine::wire::Wire;
use salon_engine::wire::carry::{Carrier, carry_answer, carry_ask};
use serde_json::Value;

use crate::answers::{stream, whole};
use crate::cast::*;

/// Runs over each kind of reader.
fn runs() -> usize {
    #[expect(clippy::disallowed_methods, reason = "how long tests run is the environment's to say")]
    let is_long = std::env::var("SALON_LONG").is_ok_and(|value| !matches!(&*value, "" | "0"));
    if is_long { 1_000_000 } else { 100_000 }
}

/// Words that mean something to somebody, to be found where they do not belong.
const WORDS: &[&str] = &[
    "null",
    "true",
    "-1",
    "1e999",
    "18446744073709551616",
    "{}",
    "[]",
    "\"\"",
    "[[]]",
    "\"type\":",
    "\"index\":7,",
    "\\ud800",
    "\u{0}",
    "data: ",
    "\n\n",
    "\r",
    "event: error\n",
    "[DONE]",
    "\"tool_calls\"",
    "\"function\"",
    "\"error\":1,",
    "\"content\":[",
    "\"input\":",
    "\"custom\"",
    "\"namespace\"",
    "\"thinking\"",
    "\"response\":",
    "\"call_id\":",
    "data:;base64,",
];

/// Less of the same: some of the fields, an element or two of each list.
///
/// What is small is read fast, and half of what is missing is missed by somebody.
fn thin(value: &Value, random: &mut StdRng) -> Value {
    match value {
        Value::Object(map) => {
            let mut kept = serde_json::Map::new();
            for (name, value) in map {
                if matches!(name.as_str(), "type" | "role" | "index") || random.random_range(0..10) < 6 {
                    kept.insert(name.clone(), thin(value, random));
                }
            }
            Value::Object(kept)
        }
        Value::Array(list) if !list.is_empty() => {
            let from = random.random_range(0..list.len());
            let to = (from + random.random_range(1..3)).min(list.len());
            list[from..to].iter().map(|value| thin(value, random)).collect()
        }
        Value::String(text) => text.chars().take(24).collect::<String>().into(),
        other => other.clone(),
    }
}

/// Many thin ones of each, with the whole ones among them.
fn thinned(texts: &[(Wire, &str)], random: &mut StdRng) -> Vec<(Wire, Vec<u8>)> {
    let mut all = Vec::new();
    for (wire, text) in texts {
        let whole = parse(text);
        all.push((*wire, whole.to_string().into_bytes()));
        all.extend((0..200).map(|_| (*wire, thin(&whole, random).to_string().into_bytes())));
    }
    all
}

/// A few neighbouring frames of a stream.
fn excerpt(wire: Wire, random: &mut StdRng) -> Vec<u8> {
    let end = if wire == Wire::Generate { "\r\n\r\n" } else { "\n\n" };
    let frames: Vec<&str> = stream(wire).split_inclusive(end).collect();
    let from = random.random_range(0..frames.len());
    let to = (from + random.random_range(1..5)).min(frames.len());
    frames[from..to].concat().into_bytes()
}

/// The text with some of its bytes changed, doubled, lost or exchanged for words.
fn spoil(text: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = text.to_vec();
    for _ in 0..random.random_range(1..6) {
        if bytes.is_empty() {
            break;
        }
        let at = random.random_range(0..bytes.len());
        let end = (at + random.random_range(1..40)).min(bytes.len());
        match random.random_range(0..6) {
            0 => bytes[at] = random.random(),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            3 => bytes.truncate(at),
            4 => {
                let word = WORDS[random.random_range(0..WORDS.len())].bytes();
                bytes.splice(at..at, word);
            }
            _ => {
                // A value for another: what follows a colon, up to the next comma or brace.
                let Some(colon) = bytes[at..].iter().position(|byte| *byte == b':').map(|found| at + found + 1) else {
                    continue;
                };
                let length = bytes[colon..].iter().position(|byte| b",}]".contains(byte)).unwrap_or(0);
                let word = WORDS[random.random_range(0..8)].bytes();
                bytes.splice(colon..colon + length, word);
            }
        }
    }
    bytes
}

const ASKS: &[(Wire, &str)] = &[
    (Wire::Responses, include_str!("../fixtures/carry/agents/codex.json")),
    (Wire::Responses, include_str!("../fixtures/carry/agents/codex-code-mode.json")),
    (Wire::Messages, include_str!("../fixtures/carry/agents/claude-code.json")),
    (Wire::Generate, include_str!("../fixtures/carry/agents/gemini-cli.json")),
    (Wire::Chat, include_str!("../fixtures/carry/agents/qwen-code.json")),
    (Wire::Completions, "{\"prompt\":\"hi\",\"max_tokens\":7,\"stop\":[\"a\"],\"temperature\":0.5,\"stream\":true}"),
    (Wire::Midm, "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"context\":[\"a\"],\"use_rag_prompt\":true}"),
];

#[test]
fn a_hundred_thousand_spoilt_questions_are_carried_or_refused() {
    let mut random = StdRng::seed_from_u64(1);
    // White space is where nothing happens.
    let asks: Vec<(Wire, Vec<u8>)> =
        ASKS.iter().map(|(wire, text)| (*wire, parse(text).to_string().into_bytes())).collect();
    let mut carried = 0;
    for run in 0..runs() {
        let (from, text) = &asks[run % asks.len()];
        let spoilt = spoil(text, &mut random);
        let to = UPSTREAMS[random.random_range(0..UPSTREAMS.len())];
        match carry_ask(*from, to, &spoilt, &terms(true)) {
            Ok(ask) => {
                carried += 1;
                assert!(ask.left_out.iter().all(|name| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic())));
                assert!(run % 16 != 0 || parse(std::str::from_utf8(&ask.body).expect("text")).is_object());
            }
            Err(error) => assert!(error.message.ends_with('.'), "{error}"),
        }
    }
    assert!(carried > runs() / 100, "most of what is spoilt is no JSON, but some is: {carried}");
}

#[test]
fn a_hundred_thousand_spoilt_streams_come_to_an_end() {
    let mut random = StdRng::seed_from_u64(2);
    for run in 0..runs() {
        let upstream = UPSTREAMS[run % UPSTREAMS.len()];
        let door = DOORS[random.random_range(0..DOORS.len())];
        let spoilt = spoil(&excerpt(upstream, &mut random), &mut random);
        let mut carrier = Carrier::new(&back(upstream, door, true));
        let mut out = Vec::new();
        let cut = random.random_range(0..=spoilt.len());
        let told = carrier
            .push(&spoilt[..cut], &mut out)
            .and_then(|()| carrier.push(&spoilt[cut..], &mut out))
            .and_then(|()| carrier.end(&mut out));
        assert!(carrier.finished());
        if told.is_err() {
            let end = &out[out.len().saturating_sub(20)..];
            assert!(!end.ends_with(b"[DONE]\n\n"), "an error is no good end: {}", String::from_utf8_lossy(&out));
        }
    }
}

#[test]
fn a_hundred_thousand_spoilt_answers_are_told_or_refused() {
    let mut random = StdRng::seed_from_u64(3);
    let wholes = thinned(&UPSTREAMS.map(|wire| (wire, whole(wire))), &mut random);
    let mut told = 0;
    for run in 0..runs() {
        let (upstream, text) = &wholes[run % wholes.len()];
        let door = DOORS[random.random_range(0..DOORS.len())];
        if let Ok(body) = carry_answer(&back(*upstream, door, false), &spoil(text, &mut random)) {
            told += 1;
            assert!(run % 16 != 0 || parse(std::str::from_utf8(&body).expect("text")).is_object());
        }
    }
    assert!(told > runs() / 100, "{told}");
}
