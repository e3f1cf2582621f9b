//! A question in Anthropic's words, read.

use serde_json::Value;

use crate::wire::carry::fields::{Fields, missing, wrong};
use crate::wire::carry::{HINTS, MAX_TOOLS, media};
use crate::wire::talk::{
    Amount, Ask, Call, CannotCarry, Choice, Effort, Format, Kind, Media, Message, Outcome, Part, Role, Sampling,
    Schema, Source, Tool, text_of,
};

pub(in crate::wire) fn read_ask(mut fields: Fields) -> Result<Ask, CannotCarry> {
    let mut ask = Ask {
        model: fields.text("model")?.unwrap_or_default(),
        stream: fields.flag("stream")?.unwrap_or(false),
        usage_asked: true,
        max_output: fields.integer("max_tokens")?,
        ..Ask::default()
    };
    let system = content(&mut fields, "system", &mut ask)?;
    ask.messages.extend(system.into_iter().map(|part| Message::new(Role::System, vec![part], "system")));
    for message in fields.objects("messages")? {
        read_message(message, &mut ask)?;
    }
    ask.sampling = Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.number("top_k")?,
        stop: fields.texts("stop_sequences")?,
        ..Sampling::default()
    };
    for tool in fields.few("tools", MAX_TOOLS)? {
        read_tool(tool, &mut ask)?;
    }
    if let Some(choice) = fields.object("tool_choice")? {
        read_choice(choice, &mut ask)?;
    }
    read_thinking(&mut fields, &mut ask)?;
    fields.refuse("container", &[], "it has no containers.")?;
    fields.refuse("inference_geo", &["global"], "where it is served is not in our hands.")?;
    fields.drop_all(HINTS);
    if fields.text("service_tier")?.is_some_and(|tier| tier != "auto" && tier != "standard_only") {
        ask.leave_out("service_tier");
    }
    if fields.text("speed")?.is_some_and(|speed| speed != "standard") {
        ask.leave_out("speed");
    }
    fields.tell_rest(&mut ask);
    Ok(ask)
}

fn read_message(mut fields: Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    let role = match fields.needed_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(wrong(fields.path("role"), "one of user, assistant, system")),
    };
    let parts = content(&mut fields, "content", ask)?;
    // How hard to think about a single turn: what the whole question says about it stands.
    fields.drop_all(&["output_config"]);
    if role != Role::System || !parts.is_empty() {
        ask.messages.push(Message::new(role, parts, fields.at()));
    }
    Ok(())
}

/// Content: text, or a list of blocks.
fn content(fields: &mut Fields, name: &str, ask: &mut Ask) -> Result<Vec<Part>, CannotCarry> {
    let at = fields.path(name);
    match fields.take(name) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(Vec::from_iter(Some(text).filter(|text| !text.is_empty()).map(Part::Text))),
        Some(Value::Array(blocks)) => {
            let mut parts = Vec::with_capacity(blocks.len());
            for (number, block) in blocks.into_iter().enumerate() {
                parts.extend(read_block(Fields::of(block, format!("{at}[{number}]"))?, ask)?);
            }
            Ok(parts)
        }
        Some(_) => Err(wrong(at, "text or a list of blocks")),
    }
}

fn read_block(mut fields: Fields, ask: &mut Ask) -> Result<Option<Part>, CannotCarry> {
    let kind = fields.needed_text("type")?;
    let part = match kind.as_str() {
        "text" => Part::Text(fields.text("text")?.unwrap_or_default()),
        "image" => Part::Media(read_source(&mut fields, Kind::Image)?),
        "document" => return read_document(fields, ask).map(Some),
        "tool_use" => {
            let input = fields.take("input").unwrap_or_else(|| Value::Object(serde_json::Map::new()));
            let id = fields.needed_text("id")?;
            Part::Call(Call { id, name: fields.needed_text("name")?, arguments: input.to_string() })
        }
        "tool_result" => {
            let call = fields.needed_text("tool_use_id")?;
            let failed = fields.flag("is_error")?.unwrap_or(false);
            Part::Outcome(Outcome { call, name: None, parts: content(&mut fields, "content", ask)?, failed })
        }
        "thinking" => Part::Thought(fields.text("thinking")?.unwrap_or_default()),
        // Nobody else can open it.
        "redacted_thinking" => return Ok(None),
        "search_result" => {
            let title = fields.text("title")?.unwrap_or_default();
            let source = fields.text("source")?.unwrap_or_default();
            let found = content(&mut fields, "content", ask)?;
            Part::Text(format!("{title}\n{source}\n{}", text_of(&found)))
        }
        "container_upload" => return Err(fields.cannot("type", "it has no containers.")),
        // What built-in tools did is told by the text that came of it.
        kind => {
            ask.leave_out(&format!("messages.{kind}"));
            return Ok(None);
        }
    };
    Ok(Some(part))
}

fn read_document(mut fields: Fields, ask: &mut Ask) -> Result<Part, CannotCarry> {
    let name = fields.text("title")?;
    if let Some(mut citations) = fields.object("citations")?
        && citations.flag("enabled")? == Some(true)
    {
        ask.leave_out("messages.citations");
    }
    let context = fields.text("context")?;
    let mut document = read_source(&mut fields, Kind::Document)?;
    document.name = name;
    match (&mut document.source, context) {
        (Source::Text(text), Some(context)) => *text = format!("{context}\n\n{text}"),
        (_, Some(_)) => ask.leave_out("messages.context"),
        (_, None) => {}
    }
    Ok(Part::Media(document))
}

fn read_source(fields: &mut Fields, kind: Kind) -> Result<Media, CannotCarry> {
    let mut source = fields.object("source")?.ok_or_else(|| missing(fields.path("source")))?;
    let mime = source.text("media_type")?;
    let (mime, source) = match source.needed_text("type")?.as_str() {
        "base64" => (mime, Source::Base64(source.needed_text("data")?)),
        "text" => (mime, Source::Text(source.needed_text("data")?)),
        "url" => {
            let (found, source) = media::from_url(source.needed_text("url")?);
            (found.or(mime), source)
        }
        "content" => {
            let mut unsaid = Ask::default();
            let inner = content(&mut source, "content", &mut unsaid)?;
            if inner.iter().any(|part| !matches!(part, Part::Text(_))) {
                return Err(source.cannot("content", "documents made of pictures do not travel; send them as images."));
            }
            (Some("text/plain".to_owned()), Source::Text(text_of(&inner)))
        }
        _ => return Err(source.cannot("type", "the file lies at another provider; send its content.")),
    };
    Ok(Media { kind, mime, source, name: None, detail: None })
}

fn read_tool(mut fields: Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    let kind = fields.text("type")?;
    if let Some(kind) = kind.filter(|kind| kind != "custom") {
        ask.leave_out(&format!("tools.{kind}"));
        return Ok(());
    }
    ask.tools.push(Tool {
        name: fields.needed_text("name")?,
        description: fields.text("description")?,
        schema: fields.take("input_schema"),
        strict: fields.flag("strict")?,
        disguise: None,
    });
    Ok(())
}

fn read_choice(mut fields: Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    ask.choice = match fields.needed_text("type")?.as_str() {
        "auto" => Choice::Auto,
        "any" => Choice::Required,
        "none" => Choice::None,
        "tool" => Choice::Named(fields.needed_text("name")?),
        _ => return Err(wrong(fields.path("type"), "one of auto, any, tool, none")),
    };
    ask.parallel = fields.flag("disable_parallel_tool_use")?.map(|disabled| !disabled);
    Ok(())
}

fn read_thinking(fields: &mut Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    let mut effort = None;
    if let Some(mut config) = fields.object("output_config")? {
        if let Some(word) = config.text("effort")? {
            let known = Effort::parse(&word);
            effort = Some(known.ok_or_else(|| wrong(config.path("effort"), "one of low, medium, high, xhigh, max"))?);
        }
        if let Some(format) = config.object("format")? {
            ask.format = read_format(format)?;
        }
        config.tell_rest(ask);
    }
    // How it was called while it was new.
    if let Some(format) = fields.object("output_format")? {
        ask.format = read_format(format)?;
    }
    ask.thinking.amount = effort.map_or(Amount::Unsaid, Amount::Effort);
    let Some(mut thinking) = fields.object("thinking")? else { return Ok(()) };
    let kind = thinking.needed_text("type")?;
    ask.thinking.amount = match (kind.as_str(), effort) {
        ("disabled", _) => Amount::Effort(Effort::None),
        ("enabled", _) => Amount::Budget(thinking.integer("budget_tokens")?.unwrap_or(Effort::Medium.budget()).max(1)),
        (_, Some(effort)) => Amount::Effort(effort),
        // `adaptive`, `between_tools`, and what comes after them.
        (_, None) => Amount::Free,
    };
    if kind != "disabled" {
        ask.thinking.show = Some(thinking.text("display")?.as_deref() != Some("omitted"));
    }
    Ok(())
}

fn read_format(mut fields: Fields) -> Result<Format, CannotCarry> {
    match fields.needed_text("type")?.as_str() {
        "text" => Ok(Format::Text),
        "json_schema" => {
            let schema = fields.take("schema").ok_or_else(|| missing(fields.path("schema")))?;
            Ok(Format::Schema(Schema { name: None, description: None, schema, strict: None }))
        }
        _ => Err(wrong(fields.path("type"), "json_schema")),
    }
}
