//! Recordings that were damaged on the way: whatever happens to some lines, nothing breaks, and what the others say is
//! still said.

use std::borrow::Cow;

use salon_engine::agent::Step;
use serde_json::Value;

use crate::recordings::{self, Recording};
use crate::{errand, maker};

/// Variants for each agent; together 100 000. They are the same ones in each run, and ten times as many in a long one.
const VARIANTS: u64 = 33_334;

#[test]
fn codex_loses_no_word() {
    damage("codex");
}

#[test]
fn claude_loses_no_word() {
    damage("claude");
}

#[test]
fn gemini_loses_no_word() {
    damage("gemini");
}

fn damage(agent: &str) {
    let originals: Vec<Original> = recordings::list()
        .into_iter()
        .filter(|recording| recording.name.starts_with(agent) && !recording.lines.is_empty())
        .map(|recording| Original {
            texts: recording.lines.lines().map(|line| texts(agent, line)).collect(),
            said: said(agent, &recording, recording.lines.lines()),
            recording,
        })
        .collect();
    for seed in 0..if is_long() { 10 * VARIANTS } else { VARIANTS } {
        let mut dice = Dice(seed);
        let Original { recording, texts, said: all } = &originals[dice.below(originals.len())];
        let lines = recording.lines.lines().enumerate();
        let mut lines: Vec<Line<'_>> = lines.map(|(at, line)| (Cow::Borrowed(line), Some(at))).collect();
        let mut only_added = true;
        for _ in 0..dice.below(5) {
            only_added &= wound(&mut lines, &mut dice);
        }
        let said = said(agent, recording, lines.iter().map(|(line, _)| &**line));
        if only_added {
            assert_eq!(&said, all, "seed {seed}, {}", recording.name);
        }
        let said = words(&said);
        for text in lines.iter().filter_map(|(_, whole)| *whole).flat_map(|at| &texts[at]) {
            assert!(said.contains(text), "seed {seed}, {}: {text:?} is not in {said:?}", recording.name);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long tests run is the environment's to say")]
fn is_long() -> bool {
    std::env::var("SALON_LONG").is_ok_and(|value| !matches!(&*value, "" | "0"))
}

struct Original {
    recording: Recording,
    /// What each line says of the answer.
    texts: Vec<Vec<String>>,
    /// What is said when nothing is damaged.
    said: String,
}

/// A line, and which one of the recording it is if it is as it was there.
type Line<'a> = (Cow<'a, str>, Option<usize>);

/// The answer that is told of lines. How the run ended must be told without a panic, too.
fn said<'a>(agent: &str, recording: &Recording, lines: impl Iterator<Item = &'a str>) -> String {
    let mut talk = maker(agent).talk(&errand("say hello"));
    let steps = lines.flat_map(|line| talk.hear(line));
    let said = steps.filter_map(|step| if let Step::Text(text) = step { Some(text) } else { None }).collect();
    let _ = talk.ended(recording.exit, &recording.errors);
    said
}

/// A text without its spaces: where a message is taken for two there is a blank line too many, but no word is lost.
fn words(text: &str) -> String {
    text.split_whitespace().collect()
}

/// What a line says of the answer, read in another way than by the code that is tested.
fn texts(agent: &str, line: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(line).unwrap();
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let found = match (agent, value["type"].as_str().unwrap()) {
        ("codex", "item.completed") if value["item"]["type"] == "agent_message" => vec![text("/item/text")],
        ("claude", "stream_event") => vec![text("/event/delta/text")],
        ("claude", "assistant") if value["error"].is_null() => vec![text("/message/content/0/text")],
        ("claude", "result") if value["is_error"] == false => vec![text("/result")],
        ("gemini", "message") if value["role"] == "assistant" => vec![text("/content")],
        _ => vec![],
    };
    found.into_iter().flatten().map(|text| words(&text)).collect()
}

/// Does one evil thing. Says whether it only added a line that means nothing.
fn wound(lines: &mut Vec<Line<'_>>, dice: &mut Dice) -> bool {
    let at = dice.below(lines.len() + 1);
    if dice.below(3) == 0 || at == lines.len() {
        lines.insert(at, (nonsense(dice).into(), None));
        return true;
    }
    match dice.below(6) {
        0 => drop(lines.remove(at)),
        1 => {
            let again = lines[at].clone();
            lines.insert(dice.below(lines.len() + 1), again);
        }
        2 => {
            let other = dice.below(lines.len());
            lines.swap(at, other);
        }
        _ => {
            lines[at].1 = None;
            injure(lines[at].0.to_mut(), dice);
        }
    }
    false
}

fn injure(text: &mut String, dice: &mut Dice) {
    const PIECES: [&str; 12] =
        ["\"", "\\", "{", "}", "null", ",", ":", "\\u0000", "\\u001b[2J", "-1e999", "[[[[[[[[[[[[[[[[", "\u{202e}"];
    let (at, end) = (dice.below(text.len() + 1), dice.below(text.len() + 1));
    let (at, end) = (text.floor_char_boundary(at), text.floor_char_boundary(at.max(end)));
    match dice.below(6) {
        0 => text.truncate(at),
        1 => drop(text.drain(at..end)),
        2 => text.insert_str(at, PIECES[dice.below(PIECES.len())]),
        // A whole value becomes another one, so that the line is still JSON and says something odd.
        3 | 4 => {
            let mut value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
            let odd = [Value::Null, 7.into(), "--odd".into(), Value::Array(vec![]), serde_json::json!({ "a": [1] })];
            replace(&mut value, odd[dice.below(odd.len())].clone(), dice);
            *text = value.to_string();
        }
        _ => {
            let flipped = char::from_u32(u32::try_from(dice.below(0x250)).unwrap()).unwrap();
            let next = text[at..].chars().next().map_or(0, char::len_utf8);
            text.replace_range(at..at + next, flipped.encode_utf8(&mut [0; 4]));
        }
    }
}

/// Puts `odd` somewhere into a value.
fn replace(value: &mut Value, odd: Value, dice: &mut Dice) {
    let below: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => vec![],
    };
    let count = below.len();
    match below.into_iter().nth(dice.below(count + 1)) {
        Some(inner) => replace(inner, odd, dice),
        None => *value = odd,
    }
}

/// A line that means nothing to any agent's reader.
fn nonsense(dice: &mut Dice) -> String {
    match dice.below(7) {
        0 => String::new(),
        1 => "npm warn \u{1b}[31mdeprecated\u{1b}[0m\r".into(),
        2 => format!("{{\"type\":{}{}}}", "[".repeat(300), "]".repeat(300)),
        3 => "x".repeat(5_000),
        4 => "{\"type\":\"news\",\"text\":\"not an answer\",\"content\":\"nor this\"}".into(),
        5 => format!("{{\"a\":\"{}\"}}", "\\u0007".repeat(dice.below(500))),
        _ => "\u{0}\u{9b}2J".into(),
    }
}

/// Numbers that look like chance and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }
}
