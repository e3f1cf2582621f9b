//! A question in Gemini's words, written.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::wire::carry::{Terms, frames, media, tools};
use crate::wire::talk::{
    Amount, Ask, CannotCarry, Choice, Format, Kind, Media, Message, Outcome, Part, Role, Source, Tool, text_of,
};

/// Gemini takes this many stop sequences.
const MAX_STOPS: usize = 5;
/// Stands where a call of an earlier turn needs the signature of a thought that nobody has: Google's own word for it.
const UNSIGNED: &str = "skip_thought_signature_validator";

pub(in crate::wire) fn write_ask(ask: &mut Ask, _: &Terms<'_>) -> Result<Value, CannotCarry> {
    let mut body = Map::new();
    let (system, said) = split(ask);
    if !system.is_empty() {
        let parts: Vec<Value> = system.iter().map(|text| json!({ "text": text })).collect();
        body.insert("systemInstruction".into(), json!({ "parts": parts }));
    }
    let contents = write_contents(&said)?;
    body.insert("contents".into(), contents);
    write_tools(ask, &mut body);
    let config = write_config(ask)?;
    if !config.is_empty() {
        body.insert("generationConfig".into(), config.into());
    }
    if ask.verbosity.as_deref().is_some_and(|verbosity| verbosity != "medium") {
        ask.leave_out("verbosity");
    }
    Ok(Value::Object(body))
}

/// Instructions have one place here, before everything else, wherever they stood. If there is nothing but instructions,
/// the last of them is the question.
fn split(ask: &Ask) -> (Vec<String>, Vec<&Message>) {
    let (mut said, mut instructions): (Vec<&Message>, Vec<&Message>) =
        ask.messages.iter().partition(|message| matches!(message.role, Role::User | Role::Assistant));
    if said.is_empty() {
        said.extend(instructions.pop());
    }
    let texts = instructions.iter().map(|message| text_of(&message.parts)).filter(|text| !text.is_empty());
    (texts.collect(), said)
}

/// Neighbours of a role become one content.
fn write_contents(said: &[&Message]) -> Result<Value, CannotCarry> {
    // A result bears the name of its tool, which other wires say at the call alone.
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut turns: Vec<(&'static str, Vec<Value>)> = Vec::with_capacity(said.len());
    for message in said {
        let at = message.at.as_str();
        let role = if message.role == Role::Assistant { "model" } else { "user" };
        let mut parts = Vec::with_capacity(message.parts.len());
        let mut signed = false;
        for part in &message.parts {
            match part {
                Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
                Part::Text(text) | Part::Refusal(text) => parts.push(json!({ "text": text })),
                Part::Thought(_) => {}
                Part::Media(media) => parts.push(write_media(media, at)?),
                Part::Call(call) => {
                    let Some(args) = frames::arguments(&call.arguments) else {
                        return Err(CannotCarry::of(at, "its arguments are no JSON object."));
                    };
                    names.insert(&call.id, &call.name);
                    let id = tools::fit_id(&call.id);
                    let mut written = json!({ "functionCall": { "id": id, "name": call.name, "args": args } });
                    // Newer models want one on the first call of a step.
                    if !std::mem::replace(&mut signed, true) {
                        written["thoughtSignature"] = UNSIGNED.into();
                    }
                    parts.push(written);
                }
                Part::Outcome(outcome) => {
                    parts.push(write_outcome(outcome, names.get(outcome.call.as_str()).copied(), at)?);
                    let media = outcome.parts.iter().filter_map(|part| match part {
                        Part::Media(media) => Some(write_media(media, at)),
                        _ => None,
                    });
                    parts.extend(media.collect::<Result<Vec<_>, _>>()?);
                }
            }
        }
        match turns.last_mut() {
            _ if parts.is_empty() => {}
            Some((last, earlier)) if *last == role => earlier.append(&mut parts),
            _ => turns.push((role, parts)),
        }
    }
    if turns.is_empty() {
        turns.push(("user", vec![json!({ "text": "" })]));
    }
    Ok(turns.into_iter().map(|(role, parts)| json!({ "role": role, "parts": parts })).collect())
}

fn write_outcome(outcome: &Outcome, called: Option<&str>, at: &str) -> Result<Value, CannotCarry> {
    let Some(name) = called.or(outcome.name.as_deref()) else {
        return Err(CannotCarry::of(at, "it is the result of a call that was not made."));
    };
    let key = if outcome.failed { "error" } else { "output" };
    let response = json!({ key: text_of(&outcome.parts) });
    Ok(json!({ "functionResponse": { "id": tools::fit_id(&outcome.call), "name": name, "response": response } }))
}

fn write_media(media: &Media, at: &str) -> Result<Value, CannotCarry> {
    match &media.source {
        Source::Base64(data) => {
            let mime = media.mime.as_deref().unwrap_or_else(|| media::guess(media.kind));
            Ok(json!({ "inlineData": { "mimeType": mime, "data": data } }))
        }
        Source::Text(text) => Ok(json!({ "text": text })),
        Source::Url(_) => {
            let what = match media.kind {
                Kind::Image => "pictures",
                Kind::Document => "documents",
                Kind::Audio => "recordings",
                Kind::Video => "videos",
            };
            Err(CannotCarry::of(at, &format!("it takes {what} as base64 only; send the content itself.")))
        }
    }
}

fn write_tools(ask: &mut Ask, body: &mut Map<String, Value>) {
    if ask.tools.is_empty() {
        return;
    }
    let write = |tool: &Tool| {
        let mut written = json!({ "name": tool.name });
        if let Some(description) = &tool.description {
            written["description"] = description.as_str().into();
        }
        if let Some(schema) = &tool.schema {
            written["parametersJsonSchema"] = schema.clone();
        }
        written
    };
    let declarations: Vec<Value> = ask.tools.iter().map(write).collect();
    body.insert("tools".into(), json!([{ "functionDeclarations": declarations }]));
    let calling = match &ask.choice {
        Choice::Auto => None,
        Choice::None => Some(json!({ "mode": "NONE" })),
        Choice::Required => Some(json!({ "mode": "ANY" })),
        Choice::Named(name) => Some(json!({ "mode": "ANY", "allowedFunctionNames": [name] })),
    };
    if let Some(calling) = calling {
        body.insert("toolConfig".into(), json!({ "functionCallingConfig": calling }));
    }
    if ask.parallel == Some(false) {
        ask.leave_out("parallel_tool_calls");
    }
}

fn write_config(ask: &mut Ask) -> Result<Map<String, Value>, CannotCarry> {
    let mut config = Map::new();
    let sampling = std::mem::take(&mut ask.sampling);
    let numbers = [
        ("temperature", sampling.temperature),
        ("topP", sampling.top_p),
        ("topK", sampling.top_k),
        ("seed", sampling.seed),
        ("presencePenalty", sampling.presence_penalty),
        ("frequencyPenalty", sampling.frequency_penalty),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            config.insert(name.into(), Value::Number(number));
        }
    }
    if sampling.stop.len() > MAX_STOPS {
        return Err(CannotCarry::of("stop", &format!("it takes at most {MAX_STOPS} stop sequences.")));
    }
    if !sampling.stop.is_empty() {
        config.insert("stopSequences".into(), json!(sampling.stop));
    }
    if let Some(most) = ask.max_output {
        config.insert("maxOutputTokens".into(), most.into());
    }
    if ask.format != Format::Text {
        config.insert("responseMimeType".into(), "application/json".into());
    }
    if let Format::Schema(format) = &ask.format {
        config.insert("responseJsonSchema".into(), format.schema.clone());
    }
    let mut thinking = Map::new();
    match ask.thinking.amount {
        Amount::Unsaid => {}
        Amount::Free => {
            thinking.insert("thinkingBudget".into(), (-1).into());
        }
        Amount::Effort(effort) => {
            thinking.insert("thinkingBudget".into(), effort.budget().into());
        }
        Amount::Budget(tokens) => {
            thinking.insert("thinkingBudget".into(), tokens.into());
        }
    }
    if let Some(show) = ask.thinking.show {
        thinking.insert("includeThoughts".into(), show.into());
    }
    if !thinking.is_empty() {
        config.insert("thinkingConfig".into(), thinking.into());
    }
    Ok(config)
}
