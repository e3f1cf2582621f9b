//! What is answered: the same to the same question.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::calls::UpstreamUsage;
use super::question::{Question, Tool, tokens};
use crate::dice::Dice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    Length,
    Calls,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub id: String,
    pub name: String,
    /// JSON, or free text if the tool takes that.
    pub arguments: String,
    pub custom: bool,
}

/// An answer, before any protocol has words for it.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub id: String,
    pub thoughts: Vec<String>,
    pub pieces: Vec<String>,
    pub calls: Vec<Call>,
    pub finish: Finish,
    pub usage: UpstreamUsage,
    pub wait: Duration,
    pub pace: Duration,
}

const WORDS: [&str; 24] = [
    "storks",
    "return",
    "when",
    "the",
    "river",
    "thaws",
    "and",
    "chimneys",
    "smoke",
    "again",
    "бумага",
    "помнит",
    "каждое",
    "слово",
    "새는",
    "강을",
    "따라",
    "돌아온다",
    "while",
    "lanterns",
    "drift",
    "over",
    "quiet",
    "roofs",
];

impl Said {
    /// The first answer, with the usage of all, and the others that were asked for. Each has a seed of its own.
    pub fn answers(question: &Question, seed: u64) -> (Said, Vec<Said>) {
        let mut first = Said::answer(question, seed);
        let others: Vec<Said> = (1..question.choices).map(|at| Said::answer(question, seed.wrapping_add(at))).collect();
        for other in &others {
            first.usage.output += other.usage.output;
            first.usage.reasoning += other.usage.reasoning;
        }
        (first, others)
    }

    fn answer(question: &Question, seed: u64) -> Said {
        let digest = Sha256::new()
            .chain_update(seed.to_le_bytes())
            .chain_update(&question.model)
            .chain_update(&question.words)
            .finalize();
        let start = u64::from_le_bytes(std::array::from_fn(|at| digest[at]));
        let mut dice = Dice::new(start);
        let id: String = digest[8..18].iter().map(|byte| format!("{byte:02x}")).collect();
        let thoughts = match (question.asks("think"), question.number("think")) {
            (_, Some(words)) => prose(&mut dice, words),
            (true, None) => prose(&mut dice, 8),
            _ => Vec::new(),
        };
        let calls = calls(question, &id);
        let text = match &question.schema {
            _ if !calls.is_empty() => said_word(question).unwrap_or_default(),
            Some(schema) => sample(schema, schema, 0).to_string(),
            None => said_word(question).unwrap_or_else(|| {
                let usual = 12 + dice.roll() % 24;
                let prose = prose(&mut dice, question.number("words").unwrap_or(usual)).concat();
                if question.after_tool { format!("The tool said: {}", question.words) } else { prose }
            }),
        };
        let (text, stopped) = cut_at_stop(text, &question.stop);
        let mut pieces = split(&text);
        let mut finish = if calls.is_empty() { Finish::Stop } else { Finish::Calls };
        if let Some(most) = question.max_output.filter(|_| !stopped) {
            let mut bytes = 0;
            let fits = pieces.iter().take_while(|piece| {
                bytes += piece.len() as i64;
                (bytes + 3) / 4 <= most
            });
            let fits = fits.count();
            if fits < pieces.len() {
                pieces.truncate(fits);
                finish = Finish::Length;
            }
        }
        let reasoning = tokens(&thoughts.concat());
        let called: i64 = calls.iter().map(|call| tokens(&call.name) + tokens(&call.arguments)).sum();
        let usage = UpstreamUsage {
            input: question.tokens,
            cached: question.number("cached").map_or(0, |cached| cached as i64).min(question.tokens),
            output: tokens(&pieces.concat()) + reasoning + called,
            reasoning,
        };
        let hold = question.asks("hold");
        let pace = if hold { 30_000 } else { question.number("pace").unwrap_or(0).min(60_000) };
        Said {
            id,
            thoughts,
            pieces,
            calls,
            finish,
            usage,
            wait: Duration::from_millis(question.number("wait").unwrap_or(0).min(600_000)),
            pace: Duration::from_millis(pace),
        }
    }

    pub fn text(&self) -> String {
        self.pieces.concat()
    }
}

/// The words that the question itself asks for.
fn said_word(question: &Question) -> Option<String> {
    if question.asks("echo") {
        return Some(question.messages.to_string());
    }
    let (_, rest) = question.words.split_once("[[say:")?;
    Some(rest.split_once("]]")?.0.to_owned())
}

fn prose(dice: &mut Dice, words: u64) -> Vec<String> {
    (0..words.min(100_000))
        .map(|at| {
            let word = WORDS[(dice.roll() % WORDS.len() as u64) as usize];
            if at == 0 { word.to_owned() } else { format!(" {word}") }
        })
        .collect()
}

/// Pieces as models stream them: words with the space before them.
fn split(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut piece = String::new();
    for letter in text.chars() {
        if letter == ' ' && !piece.is_empty() {
            pieces.push(std::mem::take(&mut piece));
        }
        piece.push(letter);
        if piece.len() >= 24 {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

fn cut_at_stop(text: String, stops: &[String]) -> (String, bool) {
    let first = stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str())).min();
    match first {
        Some(at) => (text[..at].to_owned(), true),
        None => (text, false),
    }
}

fn calls(question: &Question, id: &str) -> Vec<Call> {
    if question.after_tool {
        return Vec::new();
    }
    let named = |name: &str| question.tools.iter().find(|tool| tool.name == name);
    let mut orders: Vec<(&Tool, String)> = Vec::new();
    for order in question.words.split("[[call:").skip(1) {
        let Some((order, _)) = order.split_once("]]") else { continue };
        let (name, arguments) = order.trim().split_once(' ').unwrap_or((order.trim(), ""));
        if let Some(tool) = named(name) {
            orders.push((tool, if arguments.is_empty() { sampled(tool) } else { arguments.to_owned() }));
        }
    }
    if let (true, Some(must)) = (orders.is_empty(), &question.must_call)
        && let Some(tool) = must.as_deref().map_or(question.tools.first(), named)
    {
        orders.push((tool, sampled(tool)));
    }
    let call = |(number, (tool, arguments)): (usize, (&Tool, String))| Call {
        id: format!("call_{id}_{number}"),
        name: tool.name.clone(),
        arguments,
        custom: tool.custom,
    };
    orders.into_iter().enumerate().map(call).collect()
}

fn sampled(tool: &Tool) -> String {
    if tool.custom { "free text".to_owned() } else { sample(&tool.schema, &tool.schema, 0).to_string() }
}

/// Something that fits a JSON schema.
fn sample(schema: &Value, root: &Value, depth: usize) -> Value {
    if depth > 16 {
        return Value::Null;
    }
    let deeper = |inner: &Value| sample(inner, root, depth + 1);
    if let Some(target) = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
        return root.pointer(target).map_or(Value::Null, deeper);
    }
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema[key].as_array().and_then(|choices| choices.first()) {
            return deeper(first);
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap_or("null").to_lowercase(),
        Value::String(kind) => kind.to_lowercase(),
        _ if schema["properties"].is_object() => "object".to_owned(),
        _ => "null".to_owned(),
    };
    match kind.as_str() {
        "object" => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            Value::Object(properties.map(|(name, inner)| (name.clone(), deeper(inner))).collect())
        }
        "array" => json!([deeper(&schema["items"])]),
        "string" => json!("storks"),
        "integer" => json!(schema["minimum"].as_i64().unwrap_or(7)),
        "number" => json!(schema["minimum"].as_f64().unwrap_or(1.5)),
        "boolean" => json!(true),
        _ => Value::Null,
    }
}

/// A vector of length one that depends on the text alone.
pub(crate) fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let digest = Sha256::digest(text.as_bytes());
    let mut dice = Dice::new(u64::from_le_bytes(std::array::from_fn(|at| digest[at])));
    let raw: Vec<f32> = (0..dimensions).map(|_| (dice.roll() >> 40) as f32 / (1u64 << 24) as f32 - 0.5).collect();
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.into_iter().map(|x| x / length).collect()
}
