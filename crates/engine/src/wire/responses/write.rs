//! A Responses question, written.

use serde_json::{Map, Value, json};

use crate::wire::carry::{Terms, media, schema, tools};
use crate::wire::chat;
use crate::wire::talk::{
    Ask, CannotCarry, Choice, Format, Kind, Media, Message, Outcome, Part, Role, Source, Tool, text_of,
};

pub(in crate::wire) fn write_ask(ask: &mut Ask, terms: &Terms<'_>) -> Result<Value, CannotCarry> {
    let mut body = Map::new();
    body.insert("model".into(), terms.model.into());
    let (instructions, rest) = split(&ask.messages);
    if !instructions.is_empty() {
        body.insert("instructions".into(), instructions.into());
    }
    let mut input = Vec::with_capacity(rest.len());
    for message in rest {
        // With nothing but instructions, the last of them is the question.
        let only = rest.len() == 1 && message.role != Role::Assistant;
        let role = if only { Role::User } else { message.role };
        write_message(role, message, &mut input)?;
    }
    body.insert("input".into(), input.into());
    if let Some(most) = ask.max_output {
        body.insert("max_output_tokens".into(), most.into());
    }
    write_sampling(ask, &mut body)?;
    write_tools(ask, &mut body);
    write_text(ask, &mut body);
    let mut reasoning = Map::new();
    if let Some(effort) = chat::effort(ask) {
        reasoning.insert("effort".into(), effort.as_str().into());
    }
    if ask.thinking.show == Some(true) {
        reasoning.insert("summary".into(), "auto".into());
    }
    if !reasoning.is_empty() {
        body.insert("reasoning".into(), reasoning.into());
    }
    // What is asked on somebody's behalf is not to be kept by somebody else.
    body.insert("store".into(), false.into());
    if ask.stream {
        body.insert("stream".into(), true.into());
    }
    Ok(Value::Object(body))
}

/// The instructions at the head of a conversation, and the rest, which is not empty.
fn split(messages: &[Message]) -> (String, &[Message]) {
    let is_instruction = |message: &Message| matches!(message.role, Role::System | Role::Developer);
    let leading = messages.iter().take_while(|message| is_instruction(message)).count();
    let leading = leading.min(messages.len().saturating_sub(1));
    let texts: Vec<String> = messages[..leading].iter().map(|message| text_of(&message.parts)).collect();
    (texts.join("\n\n"), &messages[leading..])
}

fn write_message(role: Role, message: &Message, input: &mut Vec<Value>) -> Result<(), CannotCarry> {
    let at = message.at.as_str();
    match role {
        Role::System => input.push(json!({ "role": "system", "content": text_of(&message.parts) })),
        Role::Developer => input.push(json!({ "role": "developer", "content": text_of(&message.parts) })),
        Role::Assistant => {
            for part in &message.parts {
                match part {
                    Part::Text(text) | Part::Refusal(text) if !text.is_empty() => {
                        input.push(json!({ "role": "assistant", "content": text }));
                    }
                    Part::Call(call) => input.push(json!({
                        "type": "function_call",
                        "call_id": tools::fit_id(&call.id),
                        "name": call.name,
                        "arguments": if call.arguments.is_empty() { "{}" } else { &call.arguments },
                    })),
                    _ => {}
                }
            }
        }
        Role::User => {
            let mut content = Vec::new();
            for part in &message.parts {
                match part {
                    Part::Outcome(outcome) => input.push(write_outcome(outcome, at)?),
                    Part::Text(text) | Part::Refusal(text) => {
                        content.push(json!({ "type": "input_text", "text": text }));
                    }
                    Part::Media(media) => content.push(write_media(media, at)?),
                    Part::Call(_) | Part::Thought(_) => {}
                }
            }
            match content.as_slice() {
                [] if !message.parts.is_empty() => {}
                [] => input.push(json!({ "role": "user", "content": "" })),
                [only] if only["type"] == "input_text" => {
                    input.push(json!({ "role": "user", "content": only["text"] }));
                }
                _ => input.push(json!({ "role": "user", "content": content })),
            }
        }
    }
    Ok(())
}

fn write_outcome(outcome: &Outcome, at: &str) -> Result<Value, CannotCarry> {
    let output = if outcome.parts.iter().any(|part| matches!(part, Part::Media(_))) {
        let write = |part: &Part| match part {
            Part::Media(media) => write_media(media, at),
            part => Ok(json!({ "type": "input_text", "text": text_of(std::slice::from_ref(part)) })),
        };
        outcome.parts.iter().map(write).collect::<Result<Value, _>>()?
    } else {
        text_of(&outcome.parts).into()
    };
    Ok(json!({ "type": "function_call_output", "call_id": tools::fit_id(&outcome.call), "output": output }))
}

fn write_media(media: &Media, at: &str) -> Result<Value, CannotCarry> {
    let refuse = |why: &str| Err(CannotCarry::of(at, why));
    match (media.kind, &media.source) {
        (Kind::Audio, _) => refuse("it does not take recordings."),
        (Kind::Video, _) => refuse("it does not take videos."),
        (_, Source::Url(url)) if !media::is_public(url) => {
            refuse("the address is one that only another provider can open.")
        }
        (Kind::Image, _) => {
            let detail = media.detail.as_deref().unwrap_or("auto");
            Ok(json!({ "type": "input_image", "image_url": media::to_url(media), "detail": detail }))
        }
        (Kind::Document, Source::Text(text)) => Ok(json!({ "type": "input_text", "text": text })),
        (Kind::Document, Source::Url(url)) => Ok(json!({ "type": "input_file", "file_url": url })),
        (Kind::Document, Source::Base64(_)) => {
            let name = media.name.as_deref().unwrap_or("document.pdf");
            Ok(json!({ "type": "input_file", "filename": name, "file_data": media::to_url(media) }))
        }
    }
}

fn write_sampling(ask: &mut Ask, body: &mut Map<String, Value>) -> Result<(), CannotCarry> {
    let refuse =
        |name: &str, why: &str| Err(CannotCarry::new(name, format!("`{name}` cannot be carried to this model: {why}")));
    let sampling = std::mem::take(&mut ask.sampling);
    for (name, number) in [("temperature", sampling.temperature), ("top_p", sampling.top_p)] {
        if let Some(number) = number {
            body.insert(name.into(), Value::Number(number));
        }
    }
    for (name, penalty) in
        [("presence_penalty", sampling.presence_penalty), ("frequency_penalty", sampling.frequency_penalty)]
    {
        if penalty.is_some_and(|penalty| penalty.as_f64() != Some(0.0)) {
            return refuse(name, "it knows no penalties.");
        }
    }
    if sampling.seed.is_some() {
        return refuse("seed", "its choices cannot be repeated.");
    }
    if !sampling.stop.is_empty() {
        return refuse("stop", "it knows no stop sequences.");
    }
    if sampling.top_k.is_some() {
        ask.leave_out("top_k");
    }
    Ok(())
}

fn write_tools(ask: &Ask, body: &mut Map<String, Value>) {
    if ask.tools.is_empty() {
        return;
    }
    let write = |tool: &Tool| {
        let mut written = json!({ "type": "function", "name": tool.name });
        if let Some(description) = &tool.description {
            written["description"] = description.as_str().into();
        }
        written["parameters"] = tool.schema.clone().unwrap_or_else(schema::empty);
        // Said in any case: silence means strict here, and elsewhere it does not.
        written["strict"] = tool.strict.unwrap_or(false).into();
        written
    };
    body.insert("tools".into(), ask.tools.iter().map(write).collect());
    let choice = match &ask.choice {
        Choice::Auto => None,
        Choice::None => Some(json!("none")),
        Choice::Required => Some(json!("required")),
        Choice::Named(name) => Some(json!({ "type": "function", "name": name })),
    };
    if let Some(choice) = choice {
        body.insert("tool_choice".into(), choice);
    }
    if let Some(parallel) = ask.parallel {
        body.insert("parallel_tool_calls".into(), parallel.into());
    }
}

fn write_text(ask: &Ask, body: &mut Map<String, Value>) {
    let mut text = Map::new();
    match &ask.format {
        Format::Text => {}
        Format::Json => {
            text.insert("format".into(), json!({ "type": "json_object" }));
        }
        Format::Schema(format) => {
            let strict = format.strict.unwrap_or_else(|| schema::is_strict(&format.schema));
            let name = format.name.as_deref().unwrap_or("answer");
            let mut written = json!({ "type": "json_schema", "name": name, "schema": format.schema, "strict": strict });
            if let Some(description) = &format.description {
                written["description"] = description.as_str().into();
            }
            text.insert("format".into(), written);
        }
    }
    if let Some(verbosity) = &ask.verbosity {
        text.insert("verbosity".into(), verbosity.as_str().into());
    }
    if !text.is_empty() {
        body.insert("text".into(), text.into());
    }
}
