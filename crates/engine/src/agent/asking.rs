//! Conversations with real agents that ask, as they were recorded; and the same with damage.
//!
//! In a transcript, `<` is a line of the agent, `>` what it is told, `=` any other step, and `!` what happens outside:
//! `open`, `once 0` or `deny 0` for an answer to question 0, `stop`, `steer TEXT`, and `ended CODE` with how it went.

use std::fmt::Write as _;

use serde_json::Value;

use salon_core::Lang;

use super::{Ask, Door, Errand, Maker, Policy, Step, Talk, Verdict};
use crate::Secret;

pub(super) fn errand(prompt: &str) -> Errand {
    let door = Door { port: 9090, key: Secret::new("k-fake-door-key-1") };
    Errand { prompt: prompt.into(), thread: None, model: None, policy: Policy::Ask, held: false, door }
}

/// Plays a transcript's outside and the agent's part; everything else has to come out as it stands there.
pub(super) fn replay(maker: &dyn Maker, errand: &Errand, transcript: &str) {
    let mut talk = maker.talk(errand);
    let mut played = String::new();
    let recorded = names(transcript);
    for line in transcript.lines() {
        match line.split_at_checked(2) {
            Some(("! ", word)) => outside(talk.as_mut(), word, &mut played),
            Some(("< ", said)) => {
                writeln!(played, "< {said}").expect("a string takes all");
                // A name that is made up anew each time is another one now than it was then.
                let said = names(&played)
                    .iter()
                    .zip(&recorded)
                    .fold(said.to_owned(), |said, (now, then)| said.replace(then, now));
                tell(talk.hear(&said), &mut played);
            }
            _ => {}
        }
    }
    let (expected, played) = (settled(transcript), settled(&played));
    for (number, (expected, played)) in expected.iter().zip(&played).enumerate() {
        assert_eq!(played, expected, "line {}", number + 1);
    }
    assert_eq!(played.len(), expected.len());
}

/// The names that our lines give to what they tell.
fn names(transcript: &str) -> Vec<String> {
    let name = |line: &str| {
        let value: Value = serde_json::from_str(line.strip_prefix("> ")?).ok()?;
        Some(value["uuid"].as_str()?.to_owned())
    };
    transcript.lines().filter_map(name).collect()
}

fn outside(talk: &mut dyn Talk, word: &str, played: &mut String) {
    writeln!(played, "! {word}").expect("a string takes all");
    let (verb, about) = word.split_once(' ').unwrap_or((word, ""));
    let steps = match verb {
        "open" => talk.open(),
        "once" => talk.decide(about, Verdict::Once),
        "session" => talk.decide(about, Verdict::Session),
        "deny" => talk.decide(about, Verdict::Deny),
        "stop" => talk.stop(),
        "steer" => match talk.can_steer() {
            true => talk.steer("more", about),
            false => return writeln!(played, "= None").expect("a string takes all"),
        },
        "ended" => {
            let ended = talk.ended(about.parse().ok(), "");
            return writeln!(played, "= {ended:?}").expect("a string takes all");
        }
        _ => panic!("{word}"),
    };
    tell(steps, played);
}

fn tell(steps: Vec<Step>, played: &mut String) {
    for step in steps {
        match step {
            Step::Write(line) => writeln!(played, "> {line}"),
            // Its lines say the same once more.
            Step::Ask(Ask { id, title, detail, lines, what }) => {
                let told: String = lines.iter().map(|line| format!("{}\n", line.told(Lang::En))).collect();
                assert_eq!(told, detail);
                writeln!(played, "= Ask(Ask {{ id: {id:?}, title: {title:?}, detail: {detail:?}, what: {what:?} }})")
            }
            step => writeln!(played, "= {step:?}"),
        }
        .expect("a string takes all");
    }
}

/// The lines, with what is made up anew each time made the same.
fn settled(transcript: &str) -> Vec<String> {
    transcript
        .lines()
        .map(|line| match line.strip_prefix("> ").map(serde_json::from_str::<Value>) {
            Some(Ok(mut value)) => {
                if value.get("uuid").is_some() {
                    value["uuid"] = "…".into();
                }
                format!("> {value}")
            }
            _ => line.to_owned(),
        })
        .collect()
}

/// Damages the agent's lines of a transcript again and again. Whatever it says then: nothing panics, nothing is
/// allowed that nobody allowed (`allows` tells whether a line does that), and what is open at a stop is not allowed later.
pub(super) fn damage(maker: &dyn Maker, errand: &Errand, transcript: &str, allows: fn(&Value) -> bool, rounds: u64) {
    let lines: Vec<&str> = transcript.lines().filter_map(|line| line.strip_prefix("< ")).collect();
    for seed in 0..rounds {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut talk = maker.talk(errand);
        let mut steps = talk.open();
        let mut asked = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let line = match dice.below(3) {
                0 => dice.damage(line),
                _ => (*line).to_owned(),
            };
            let heard = talk.hear(&line);
            asked.extend(heard.iter().filter_map(|step| match step {
                Step::Ask(ask) => Some(ask.clone()),
                _ => None,
            }));
            steps.extend(heard);
            if dice.below(40) == 0 {
                steps.extend(talk.stop());
                for ask in &asked {
                    assert_eq!(talk.decide(&ask.id, Verdict::Once), [], "seed {seed}, line {number}");
                }
            }
        }
        for ask in &asked {
            for text in [&ask.title, &ask.detail, &ask.what] {
                let evil =
                    |c: char| c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{202a}'..='\u{202e}');
                assert!(!text.contains(evil) && text.len() < 30_000, "seed {seed}: {text:?}");
            }
            assert!(!ask.id.is_empty() && !ask.title.trim().is_empty(), "seed {seed}");
            steps.extend(talk.decide(&ask.id, Verdict::Deny));
            assert_eq!(talk.decide(&ask.id, Verdict::Once), [], "seed {seed}");
        }
        let _ = talk.ended(Some(0), "");
        for step in &steps {
            if let Step::Write(line) = step {
                let value: Value = serde_json::from_str(line).expect("what is written is JSON");
                assert!(!line.contains('\n') && !allows(&value), "seed {seed}: {line}");
            }
        }
    }
}

/// A small source of repeatable chance.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("it is less than a usize")
    }

    fn damage(&mut self, line: &str) -> String {
        const PIECES: [&str; 22] = [
            "\"",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "null",
            "true",
            "0",
            "-1",
            "9e99",
            "\\u0000",
            "\\u001b[2J",
            "\\ud800",
            "accept",
            "allow",
            "\"result\":{}",
            "\u{202e}",
            "id",
            "\\n",
            "{\"id\":0,\"method\":\"",
        ];
        let mut text: Vec<u8> = line.as_bytes().to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(text.len() + 1);
            match self.below(6) {
                0 => text.truncate(at),
                1 => drop(text.drain(at..(at + self.below(20)).min(text.len()))),
                2 if at < text.len() => text[at] ^= 1 << self.below(7),
                3 => {
                    let piece = self.below(PIECES.len());
                    drop(text.splice(at..at, PIECES[piece].bytes()));
                }
                4 => {
                    let end = (at + self.below(60)).min(text.len());
                    let again = text[at..end].to_vec();
                    drop(text.splice(at..at, again));
                }
                // A value becomes another one, and the line stays JSON.
                _ => {
                    let Ok(mut value) = serde_json::from_slice::<Value>(&text) else { continue };
                    self.change(&mut value);
                    text = value.to_string().into_bytes();
                }
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn change(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) if !fields.is_empty() && self.below(8) > 0 => {
                let index = self.below(fields.len());
                let name = fields.keys().nth(index).cloned().unwrap_or_default();
                match self.below(6) {
                    0 => drop(fields.remove(&name)),
                    _ => self.change(&mut fields[&name]),
                }
            }
            Value::Array(items) if !items.is_empty() && self.below(8) > 0 => {
                let index = self.below(items.len());
                self.change(&mut items[index]);
            }
            value => {
                *value = match self.below(7) {
                    0 => Value::Null,
                    1 => Value::Bool(true),
                    2 => Value::from(-1),
                    3 => Value::from(""),
                    4 => Value::from("x".repeat(5_000)),
                    5 => Value::from("\u{1b}]0;a\u{7}\u{202e}\0 rm -r ."),
                    _ => Value::Array(Vec::new()),
                }
            }
        }
    }
}
