//! A chat question, written.

use serde_json::{Map, Value, json};

use crate::wire::carry::{Quirks, Terms, media, schema, tools};
use crate::wire::talk::{
    Amount, Ask, CannotCarry, Choice, Effort, Format, Kind, Media, Message, Outcome, Part, Role, Source, text_of,
};

/// OpenAI takes this many stop sequences.
const MAX_STOPS: usize = 4;

pub(in crate::wire) fn write_ask(ask: &mut Ask, terms: &Terms<'_>) -> Result<Value, CannotCarry> {
    let mut body = Map::new();
    body.insert("model".into(), terms.model.into());
    body.insert("messages".into(), write_messages(ask, &terms.quirks)?);
    if let Some(most) = ask.max_output {
        let name = if terms.quirks.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
        body.insert(name.into(), most.into());
    }
    write_sampling(ask, &mut body)?;
    write_tools(ask, &mut body);
    match &ask.format {
        Format::Text => {}
        Format::Json => {
            body.insert("response_format".into(), json!({ "type": "json_object" }));
        }
        Format::Schema(format) => {
            let name = format.name.as_deref().unwrap_or("answer");
            let strict = format.strict.unwrap_or_else(|| schema::is_strict(&format.schema));
            let mut inner = json!({ "name": name, "schema": format.schema, "strict": strict });
            if let Some(description) = &format.description {
                inner["description"] = description.as_str().into();
            }
            body.insert("response_format".into(), json!({ "type": "json_schema", "json_schema": inner }));
        }
    }
    if let Some(effort) = effort(ask) {
        body.insert("reasoning_effort".into(), effort.as_str().into());
    }
    if let Some(verbosity) = &ask.verbosity {
        body.insert("verbosity".into(), verbosity.as_str().into());
    }
    if ask.stream {
        body.insert("stream".into(), true.into());
        // Asked for wherever it can be: what a call used has to be known, whoever gets to see it.
        if !terms.quirks.no_stream_options {
            body.insert("stream_options".into(), json!({ "include_usage": true }));
        }
    }
    Ok(Value::Object(body))
}

/// How hard to think, in OpenAI's words. Nothing is said where nothing was asked.
pub(in crate::wire) fn effort(ask: &Ask) -> Option<Effort> {
    match ask.thinking.amount {
        Amount::Unsaid | Amount::Free => None,
        Amount::Effort(effort) => Some(effort),
        Amount::Budget(tokens) => Some(Effort::of_budget(tokens)),
    }
}

fn write_sampling(ask: &mut Ask, body: &mut Map<String, Value>) -> Result<(), CannotCarry> {
    let sampling = &ask.sampling;
    let numbers = [
        ("temperature", &sampling.temperature),
        ("top_p", &sampling.top_p),
        ("seed", &sampling.seed),
        ("presence_penalty", &sampling.presence_penalty),
        ("frequency_penalty", &sampling.frequency_penalty),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            body.insert(name.into(), Value::Number(number.clone()));
        }
    }
    if sampling.stop.len() > MAX_STOPS {
        return Err(CannotCarry::of("stop", &format!("it takes at most {MAX_STOPS} stop sequences.")));
    }
    if !sampling.stop.is_empty() {
        body.insert("stop".into(), json!(sampling.stop));
    }
    if ask.sampling.top_k.is_some() {
        ask.leave_out("top_k");
    }
    Ok(())
}

fn write_tools(ask: &Ask, body: &mut Map<String, Value>) {
    if ask.tools.is_empty() {
        return;
    }
    let tool = |tool: &crate::wire::talk::Tool| {
        let mut function = Map::new();
        function.insert("name".into(), tool.name.as_str().into());
        if let Some(description) = &tool.description {
            function.insert("description".into(), description.as_str().into());
        }
        function.insert("parameters".into(), tool.schema.clone().unwrap_or_else(schema::empty));
        if let Some(strict) = tool.strict {
            function.insert("strict".into(), strict.into());
        }
        json!({ "type": "function", "function": function })
    };
    body.insert("tools".into(), ask.tools.iter().map(tool).collect());
    let choice = match &ask.choice {
        Choice::Auto => None,
        Choice::None => Some(json!("none")),
        Choice::Required => Some(json!("required")),
        Choice::Named(name) => Some(json!({ "type": "function", "function": { "name": name } })),
    };
    if let Some(choice) = choice {
        body.insert("tool_choice".into(), choice);
    }
    if let Some(parallel) = ask.parallel {
        body.insert("parallel_tool_calls".into(), parallel.into());
    }
}

/// Instructions at the head become one message: many a server's template has room for no more than that.
///
/// `developer` is known to OpenAI alone, and `system` means the same there with nearly every model.
fn write_messages(ask: &Ask, quirks: &Quirks) -> Result<Value, CannotCarry> {
    let mut messages = Vec::with_capacity(ask.messages.len());
    let mut head = Vec::new();
    let instructor = if quirks.developer_role { "developer" } else { "system" };
    for message in &ask.messages {
        match message.role {
            Role::System | Role::Developer if messages.is_empty() || quirks.head_only => {
                head.push(text_of(&message.parts));
            }
            Role::System | Role::Developer => {
                messages.push(json!({ "role": instructor, "content": text_of(&message.parts) }));
            }
            Role::User => write_user(message, &mut messages)?,
            Role::Assistant => messages.push(write_assistant(message, quirks)?),
        }
    }
    head.retain(|text| !text.is_empty());
    if !head.is_empty() {
        messages.insert(0, json!({ "role": instructor, "content": head.join("\n\n") }));
    }
    Ok(messages.into())
}

/// What tools brought back goes first, as messages of its own; pictures among it follow as the user's.
fn write_user(message: &Message, messages: &mut Vec<Value>) -> Result<(), CannotCarry> {
    let mut content = Vec::new();
    let mut plain = Vec::new();
    for part in &message.parts {
        match part {
            Part::Outcome(outcome) => {
                let text = text_of(&outcome.parts);
                let id = tools::fit_id(&outcome.call);
                messages.push(json!({ "role": "tool", "tool_call_id": id, "content": text }));
                add_media(outcome, &mut content, &message.at)?;
            }
            Part::Text(text) | Part::Refusal(text) => plain.push(json!({ "type": "text", "text": text })),
            Part::Media(media) => plain.push(write_media(media, &message.at)?),
            Part::Call(_) | Part::Thought(_) => {}
        }
    }
    let only_text = content.is_empty() && plain.len() == 1 && plain[0]["type"] == "text";
    content.append(&mut plain);
    if only_text {
        messages.push(json!({ "role": "user", "content": content[0]["text"] }));
    } else if !content.is_empty() {
        messages.push(json!({ "role": "user", "content": content }));
    } else if message.parts.is_empty() {
        messages.push(json!({ "role": "user", "content": "" }));
    }
    Ok(())
}

fn add_media(outcome: &Outcome, content: &mut Vec<Value>, at: &str) -> Result<(), CannotCarry> {
    let found = outcome.parts.iter().filter_map(|part| if let Part::Media(media) = part { Some(media) } else { None });
    for (number, media) in found.enumerate() {
        if number == 0 {
            let id = tools::fit_id(&outcome.call);
            content.push(json!({ "type": "text", "text": format!("The result of the call {id} contains this:") }));
        }
        content.push(write_media(media, at)?);
    }
    Ok(())
}

fn write_media(media: &Media, at: &str) -> Result<Value, CannotCarry> {
    let refuse = |why: &str| Err(CannotCarry::of(at, why));
    match (media.kind, &media.source) {
        (Kind::Image, Source::Url(url)) if !media::is_public(url) => refuse("the picture lies at another provider."),
        (Kind::Image, _) => {
            let mut image = json!({ "url": media::to_url(media) });
            if let Some(detail) = &media.detail {
                image["detail"] = detail.as_str().into();
            }
            Ok(json!({ "type": "image_url", "image_url": image }))
        }
        (Kind::Document, Source::Text(text)) => Ok(json!({ "type": "text", "text": text })),
        (Kind::Document, Source::Url(_)) => refuse("it takes documents as base64 only; send the content itself."),
        (Kind::Document, Source::Base64(_)) => {
            let name = media.name.as_deref().unwrap_or("document.pdf");
            Ok(json!({ "type": "file", "file": { "filename": name, "file_data": media::to_url(media) } }))
        }
        (Kind::Audio, Source::Base64(data)) => {
            let format = match media.mime.as_deref() {
                Some("audio/mp3" | "audio/mpeg") => "mp3",
                Some("audio/wav" | "audio/x-wav" | "audio/wave") | None => "wav",
                Some(_) => return refuse("it takes recordings as wav or mp3."),
            };
            Ok(json!({ "type": "input_audio", "input_audio": { "data": data, "format": format } }))
        }
        (Kind::Audio, _) => refuse("it takes recordings as base64 only; send the content itself."),
        (Kind::Video, _) => refuse("it does not take videos."),
    }
}

fn write_assistant(message: &Message, quirks: &Quirks) -> Result<Value, CannotCarry> {
    let mut written = Map::new();
    written.insert("role".into(), "assistant".into());
    let mut calls = Vec::new();
    let mut thoughts = String::new();
    for part in &message.parts {
        match part {
            Part::Call(call) => calls.push(json!({
                "id": tools::fit_id(&call.id),
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": if call.arguments.is_empty() { "{}" } else { &call.arguments },
                },
            })),
            Part::Thought(thought) => thoughts.push_str(thought),
            Part::Media(_) => {
                return Err(CannotCarry::of(&message.at, "its own answers are text."));
            }
            Part::Text(_) | Part::Refusal(_) | Part::Outcome(_) => {}
        }
    }
    let text = text_of(&message.parts);
    // Servers want `null` beside calls, and text where there are none.
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
    written.insert("content".into(), content);
    if quirks.thoughts_back && !thoughts.is_empty() {
        written.insert("reasoning_content".into(), thoughts.into());
    }
    if !calls.is_empty() {
        written.insert("tool_calls".into(), calls.into());
    }
    Ok(Value::Object(written))
}
