//! A question in Anthropic's words, written.

use serde_json::{Map, Number, Value, json};

use crate::wire::carry::{Terms, frames, media, schema, tools};
use crate::wire::talk::{
    Amount, Ask, CannotCarry, Choice, Effort, Format, Kind, Media, Message, Outcome, Part, Role, Source, text_of,
};

/// What every model may write, where nobody said how much this one may: the wire demands a number.
const MAX_TOKENS: i64 = 4_096;
/// The least that a model may be told to think.
const LEAST_BUDGET: i64 = 1_024;

pub(in crate::wire) fn write_ask(ask: &mut Ask, terms: &Terms<'_>) -> Result<Value, CannotCarry> {
    let mut body = Map::new();
    let most = ask.max_output.or(terms.max_output).unwrap_or(MAX_TOKENS);
    body.insert("model".into(), terms.model.into());
    body.insert("max_tokens".into(), most.into());
    let (mut system, said) = split(ask);
    let messages = write_messages(&said)?;
    if ask.format == Format::Json {
        system.push("Answer with one JSON object and nothing else.".to_owned());
        ask.leave_out("response_format");
    }
    match system.as_slice() {
        [] => {}
        [one] => {
            body.insert("system".into(), one.as_str().into());
        }
        several => {
            let blocks = several.iter().map(|text| json!({ "type": "text", "text": text })).collect();
            body.insert("system".into(), blocks);
        }
    }
    body.insert("messages".into(), messages);
    write_tools(ask, &mut body);
    write_thinking(ask, most, &mut body);
    if let Format::Schema(format) = &ask.format {
        let config = body.entry("output_config").or_insert_with(|| json!({}));
        config["format"] = json!({ "type": "json_schema", "schema": schema::closed(format.schema.clone()) });
    }
    write_sampling(ask, &mut body)?;
    if ask.verbosity.as_deref().is_some_and(|verbosity| verbosity != "medium") {
        ask.leave_out("verbosity");
    }
    if ask.stream {
        body.insert("stream".into(), true.into());
    }
    Ok(Value::Object(body))
}

/// Instructions have one place here, before everything else, wherever they stood. If there is nothing but instructions,
/// the last of them is the question.
fn split(ask: &Ask) -> (Vec<String>, Vec<&Message>) {
    let is_said = |message: &&Message| matches!(message.role, Role::User | Role::Assistant);
    let mut said: Vec<&Message> = ask.messages.iter().filter(is_said).collect();
    let mut instructions: Vec<&Message> = ask.messages.iter().filter(|message| !is_said(message)).collect();
    if said.is_empty() {
        said.extend(instructions.pop());
    }
    let texts = instructions.iter().map(|message| text_of(&message.parts)).filter(|text| !text.is_empty());
    (texts.collect(), said)
}

/// Neighbours of a role become one message, with the results of tools at its head.
fn write_messages(said: &[&Message]) -> Result<Value, CannotCarry> {
    let mut turns: Vec<(bool, Vec<Value>)> = Vec::with_capacity(said.len());
    for message in said {
        let assistant = message.role == Role::Assistant;
        let mut blocks = Vec::with_capacity(message.parts.len());
        for part in &message.parts {
            blocks.extend(write_part(part, &message.at)?);
        }
        match turns.last_mut() {
            _ if blocks.is_empty() => {}
            Some((role, earlier)) if *role == assistant => earlier.append(&mut blocks),
            _ => turns.push((assistant, blocks)),
        }
    }
    // The first word is the user's, or there would be nothing to answer.
    if turns.first().is_none_or(|(assistant, _)| *assistant) {
        turns.insert(0, (false, vec![json!({ "type": "text", "text": "Begin." })]));
    }
    // An answer that has begun may not end with white space.
    if let Some((true, blocks)) = turns.last_mut()
        && let Some(Value::String(text)) = blocks.last_mut().and_then(|block| block.get_mut("text"))
    {
        text.truncate(text.trim_end().len());
        if text.is_empty() {
            blocks.pop();
        }
    }
    turns.retain(|(_, blocks)| !blocks.is_empty());
    let write = |(assistant, mut blocks): (bool, Vec<Value>)| {
        blocks.sort_by_key(|block| block["type"] != "tool_result");
        let content = match blocks.as_slice() {
            [only] if only["type"] == "text" => only["text"].clone(),
            _ => Value::Array(blocks),
        };
        json!({ "role": if assistant { "assistant" } else { "user" }, "content": content })
    };
    Ok(turns.into_iter().map(write).collect())
}

/// `None` for what this wire would refuse: empty text, and thoughts without their signature.
fn write_part(part: &Part, at: &str) -> Result<Option<Value>, CannotCarry> {
    Ok(Some(match part {
        Part::Text(text) | Part::Refusal(text) if text.trim().is_empty() => return Ok(None),
        Part::Text(text) | Part::Refusal(text) => json!({ "type": "text", "text": text }),
        Part::Thought(_) => return Ok(None),
        Part::Media(media) => write_media(media, at)?,
        Part::Call(call) => {
            let Some(input) = frames::arguments(&call.arguments) else {
                return Err(CannotCarry::of(at, "its arguments are no JSON object."));
            };
            json!({ "type": "tool_use", "id": tools::fit_id(&call.id), "name": call.name, "input": input })
        }
        Part::Outcome(outcome) => write_outcome(outcome, at)?,
    }))
}

fn write_outcome(outcome: &Outcome, at: &str) -> Result<Value, CannotCarry> {
    let mut block = json!({ "type": "tool_result", "tool_use_id": tools::fit_id(&outcome.call) });
    match outcome.parts.as_slice() {
        [] => {}
        [Part::Text(text)] => block["content"] = text.as_str().into(),
        parts => {
            let written = parts.iter().map(|part| write_part(part, at)).collect::<Result<Vec<_>, _>>()?;
            block["content"] = written.into_iter().flatten().collect();
        }
    }
    if outcome.failed {
        block["is_error"] = true.into();
    }
    Ok(block)
}

fn write_media(media: &Media, at: &str) -> Result<Value, CannotCarry> {
    let refuse = |why: &str| Err(CannotCarry::of(at, why));
    let mime = media.mime.as_deref().unwrap_or_else(|| media::guess(media.kind));
    let source = match (media.kind, &media.source) {
        (Kind::Audio, _) => return refuse("it does not take recordings."),
        (Kind::Video, _) => return refuse("it does not take videos."),
        (_, Source::Url(url)) if media::is_public(url) => json!({ "type": "url", "url": url }),
        (_, Source::Url(_)) => return refuse("the address is one that only another provider can open."),
        (Kind::Document, Source::Text(text)) => json!({ "type": "text", "media_type": "text/plain", "data": text }),
        (Kind::Document, Source::Base64(data)) if mime.starts_with("text/") => match media::text_of_base64(data) {
            Some(text) => json!({ "type": "text", "media_type": "text/plain", "data": text }),
            None => return refuse("it is said to be text and is none."),
        },
        (Kind::Document, Source::Base64(_)) if mime != "application/pdf" => {
            return refuse("it takes documents as PDF or text.");
        }
        (_, Source::Base64(data)) => json!({ "type": "base64", "media_type": mime, "data": data }),
        (Kind::Image, Source::Text(_)) => return refuse("it is no picture."),
    };
    let kind = if media.kind == Kind::Image { "image" } else { "document" };
    let mut block = json!({ "type": kind, "source": source });
    if let (Kind::Document, Some(name)) = (media.kind, &media.name) {
        block["title"] = name.as_str().into();
    }
    Ok(block)
}

fn write_tools(ask: &Ask, body: &mut Map<String, Value>) {
    if ask.tools.is_empty() {
        return;
    }
    let write = |tool: &crate::wire::talk::Tool| {
        let mut schema = tool.schema.clone().filter(Value::is_object).unwrap_or_else(schema::empty);
        if schema.get("type").is_none() {
            schema["type"] = "object".into();
        }
        let mut written = json!({ "name": tool.name, "input_schema": schema });
        if let Some(description) = &tool.description {
            written["description"] = description.as_str().into();
        }
        if tool.strict == Some(true) {
            written["strict"] = true.into();
        }
        written
    };
    body.insert("tools".into(), ask.tools.iter().map(write).collect());
    let mut choice = match &ask.choice {
        Choice::Auto if ask.parallel != Some(false) => return,
        Choice::Auto => json!({ "type": "auto" }),
        Choice::None => json!({ "type": "none" }),
        Choice::Required => json!({ "type": "any" }),
        Choice::Named(name) => json!({ "type": "tool", "name": name }),
    };
    if ask.parallel == Some(false) && ask.choice != Choice::None {
        choice["disable_parallel_tool_use"] = true.into();
    }
    body.insert("tool_choice".into(), choice);
}

/// Says how hard to think.
///
/// A budget is told as one only where that is safe: a model that thinks by budget wants its signed thoughts back beside
/// its calls, and what came over another wire has none. Efforts are understood by all that think as they see fit.
fn write_thinking(ask: &mut Ask, most: i64, body: &mut Map<String, Value>) {
    let called = ask.messages.iter().flat_map(|message| &message.parts).any(|part| matches!(part, Part::Call(_)));
    let (mut thinking, effort) = match ask.thinking.amount {
        Amount::Unsaid => return,
        Amount::Effort(Effort::None) | Amount::Budget(..=0) => (json!({ "type": "disabled" }), None),
        Amount::Free => (json!({ "type": "adaptive" }), None),
        Amount::Effort(effort) => (json!({ "type": "adaptive" }), Some(effort)),
        Amount::Budget(tokens) if called => (json!({ "type": "adaptive" }), Some(Effort::of_budget(tokens))),
        Amount::Budget(_) if most <= LEAST_BUDGET => return ask.leave_out("thinking"),
        Amount::Budget(tokens) => {
            (json!({ "type": "enabled", "budget_tokens": tokens.clamp(LEAST_BUDGET, most - 1) }), None)
        }
    };
    let forced = matches!(ask.choice, Choice::Required | Choice::Named(_)) && !ask.tools.is_empty();
    if thinking["type"] != "disabled" {
        if forced {
            return ask.leave_out("thinking");
        }
        if let Some(show) = ask.thinking.show {
            thinking["display"] = if show { "summarized" } else { "omitted" }.into();
        }
    }
    body.insert("thinking".into(), thinking);
    if let Some(effort) = effort {
        // The least there is here is `low`.
        body.insert("output_config".into(), json!({ "effort": effort.max(Effort::Low).as_str() }));
    }
}

fn write_sampling(ask: &mut Ask, body: &mut Map<String, Value>) -> Result<(), CannotCarry> {
    let refuse =
        |name: &str, why: &str| Err(CannotCarry::new(name, format!("`{name}` cannot be carried to this model: {why}")));
    let value = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
    let sampling = std::mem::take(&mut ask.sampling);
    if sampling.seed.is_some() {
        return refuse("seed", "its choices cannot be repeated.");
    }
    for (name, penalty) in
        [("presence_penalty", &sampling.presence_penalty), ("frequency_penalty", &sampling.frequency_penalty)]
    {
        if penalty.as_ref().is_some_and(|penalty| value(penalty) != 0.0) {
            return refuse(name, "it knows no penalties.");
        }
    }
    if sampling.stop.iter().any(|stop| stop.trim().is_empty()) {
        return refuse("stop", "it stops at no white space.");
    }
    if !sampling.stop.is_empty() {
        body.insert("stop_sequences".into(), json!(sampling.stop));
    }
    // A model that thinks is not to be heated or narrowed.
    let thinks = body.get("thinking").is_some_and(|thinking| thinking["type"] != "disabled");
    let heated = sampling.temperature.is_some();
    if let Some(temperature) = sampling.temperature {
        match value(&temperature) {
            degree if degree.is_nan() || degree > 1.0 => return refuse("temperature", "it takes 0 to 1."),
            1.0 if thinks => {}
            _ if thinks => ask.leave_out("temperature"),
            _ => {
                body.insert("temperature".into(), Value::Number(temperature));
            }
        }
    }
    if let Some(top_p) = sampling.top_p {
        match value(&top_p) {
            1.0 => {}
            // Newer models take one of the two, and older ones are none the worse for it.
            _ if heated || thinks => ask.leave_out("top_p"),
            _ => {
                body.insert("top_p".into(), Value::Number(top_p));
            }
        }
    }
    if let Some(top_k) = sampling.top_k {
        if thinks {
            ask.leave_out("top_k");
        } else {
            body.insert("top_k".into(), Value::Number(top_k));
        }
    }
    Ok(())
}
