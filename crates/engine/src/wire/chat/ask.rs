//! A chat question, read.

use serde_json::Value;

use crate::wire::carry::fields::{Fields, missing, wrong};
use crate::wire::carry::{HINTS, MAX_TOOLS, media, tools};
use crate::wire::talk::{
    Amount, Ask, Call, CannotCarry, Choice, Disguise, Effort, Format, Kind, Media, Message, Outcome, Part, Role,
    Sampling, Schema, Source, Tool,
};

pub(in crate::wire) fn read_ask(mut fields: Fields) -> Result<Ask, CannotCarry> {
    let mut ask = Ask {
        model: fields.text("model")?.unwrap_or_default(),
        stream: fields.flag("stream")?.unwrap_or(false),
        ..Ask::default()
    };
    if let Some(mut options) = fields.object("stream_options")? {
        ask.usage_asked = options.flag("include_usage")?.unwrap_or(false);
    }
    for message in fields.objects("messages")? {
        read_message(message, &mut ask)?;
    }
    let older = fields.integer("max_tokens")?;
    ask.max_output = fields.integer("max_completion_tokens")?.or(older);
    ask.sampling = sampling(&mut fields)?;
    ask.sampling.stop = fields.texts("stop")?;
    for tool in fields.few("tools", MAX_TOOLS)? {
        read_tool(tool, &mut ask)?;
    }
    if let Some(choice) = fields.take("tool_choice") {
        let at = fields.path("tool_choice");
        ask.choice = read_choice(choice, at, &mut ask.tools)?;
    }
    ask.parallel = fields.flag("parallel_tool_calls")?;
    if let Some(format) = fields.object("response_format")? {
        ask.format = read_format(format)?;
    }
    ask.verbosity = fields.text("verbosity")?;
    if let Some(effort) = fields.text("reasoning_effort")? {
        let known = Effort::parse(&effort).ok_or_else(|| {
            wrong(fields.path("reasoning_effort"), "one of none, minimal, low, medium, high, xhigh, max")
        })?;
        ask.thinking.amount = Amount::Effort(known);
    }
    refuse(&mut fields)?;
    tell(&mut fields, &mut ask);
    fields.tell_rest(&mut ask);
    Ok(ask)
}

/// What changes the answer in a way that the other wires have not.
fn refuse(fields: &mut Fields) -> Result<(), CannotCarry> {
    if fields.integer("n")?.is_some_and(|n| n != 1) {
        return Err(fields.cannot("n", "it gives one answer at a time; ask several times."));
    }
    fields.refuse("logprobs", &[], "it does not tell probabilities.")?;
    fields.refuse("top_logprobs", &[], "it does not tell probabilities.")?;
    fields.refuse("logit_bias", &[], "its tokens are not OpenAI's.")?;
    fields.refuse("functions", &[], "use `tools` instead.")?;
    fields.refuse("function_call", &["none", "auto"], "use `tool_choice` instead.")?;
    fields.refuse("audio", &[], "it does not speak.")?;
    fields.refuse("moderation", &[], "it is served by somebody else, who does not moderate.")?;
    let modalities = fields.texts("modalities")?;
    if modalities.iter().any(|modality| modality != "text") {
        return Err(fields.cannot("modalities", "it answers with text."));
    }
    Ok(())
}

/// What the asker can do without, but not unawares.
fn tell(fields: &mut Fields, ask: &mut Ask) {
    fields.drop_all(HINTS);
    let harmless = |value: &Value| matches!(value.as_str(), Some("auto" | "default")) || value == &Value::Bool(false);
    for name in ["service_tier", "store"] {
        if fields.take(name).is_some_and(|value| !harmless(&value)) {
            ask.leave_out(name);
        }
    }
}

/// The settings that OpenAI's wires share.
pub(in crate::wire) fn sampling(fields: &mut Fields) -> Result<Sampling, CannotCarry> {
    Ok(Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.number("top_k")?,
        seed: fields.number("seed")?,
        presence_penalty: fields.number("presence_penalty")?,
        frequency_penalty: fields.number("frequency_penalty")?,
        stop: Vec::new(),
    })
}

fn read_message(mut fields: Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    let role = fields.needed_text("role")?;
    let role = match role.as_str() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => return read_outcome(fields, ask),
        "function" => return Err(fields.cannot("role", "use the role `tool` instead.")),
        _ => return Err(wrong(fields.path("role"), "one of system, developer, user, assistant, tool")),
    };
    let mut parts = Vec::new();
    if role == Role::Assistant {
        // Some servers call it one, some the other.
        let other = fields.text("reasoning")?;
        parts.extend(fields.text("reasoning_content")?.or(other).filter(|text| !text.is_empty()).map(Part::Thought));
    }
    parts.extend(content(&mut fields, "content")?);
    if role == Role::Assistant {
        parts.extend(fields.text("refusal")?.filter(|text| !text.is_empty()).map(Part::Refusal));
        for call in fields.objects("tool_calls")? {
            parts.push(Part::Call(read_call(call)?));
        }
        fields.refuse("function_call", &[], "use `tool_calls` instead.")?;
        fields.refuse("audio", &[], "it cannot look up what was said aloud.")?;
    }
    for name in ["name", "prefix"] {
        if fields.take(name).is_some() {
            ask.leave_out(&format!("messages.{name}"));
        }
    }
    ask.messages.push(Message::new(role, parts, fields.at()));
    Ok(())
}

/// What a tool brought back. Neighbours are one message, as they answer one.
fn read_outcome(mut fields: Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    let call = fields.needed_text("tool_call_id")?;
    let name = fields.text("name")?;
    let outcome = Part::Outcome(Outcome { call, name, parts: content(&mut fields, "content")?, failed: false });
    match ask.messages.last_mut() {
        Some(Message { role: Role::User, parts, .. })
            if parts.iter().all(|part| matches!(part, Part::Outcome(_))) && !parts.is_empty() =>
        {
            parts.push(outcome);
        }
        _ => ask.messages.push(Message::new(Role::User, vec![outcome], fields.at())),
    }
    Ok(())
}

/// Content: text, or a list of parts. OpenAI's two wires name the parts differently; either's names are read.
pub(in crate::wire) fn content(fields: &mut Fields, name: &str) -> Result<Vec<Part>, CannotCarry> {
    let at = fields.path(name);
    match fields.take(name) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(Vec::from_iter(Some(text).filter(|text| !text.is_empty()).map(Part::Text))),
        Some(Value::Array(parts)) => parts
            .into_iter()
            .enumerate()
            .map(|(number, part)| read_part(Fields::of(part, format!("{at}[{number}]"))?))
            .collect(),
        Some(_) => Err(wrong(at, "text or a list of parts")),
    }
}

fn read_part(mut fields: Fields) -> Result<Part, CannotCarry> {
    let kind = fields.needed_text("type")?;
    match kind.as_str() {
        "text" | "input_text" | "output_text" => Ok(Part::Text(fields.text("text")?.unwrap_or_default())),
        "refusal" => Ok(Part::Refusal(fields.text("refusal")?.unwrap_or_default())),
        "image_url" | "input_image" => read_image(fields),
        "file" => match fields.object("file")? {
            Some(file) => read_file(file),
            None => Err(missing(fields.path("file"))),
        },
        "input_file" => read_file(fields),
        "input_audio" => {
            let mut audio = fields.object("input_audio")?.ok_or_else(|| missing(fields.path("input_audio")))?;
            let format = audio.text("format")?.unwrap_or_else(|| "wav".to_owned());
            let data = audio.needed_text("data")?;
            Ok(media(Kind::Audio, Some(format!("audio/{format}")), Source::Base64(data)))
        }
        _ => Err(fields.cannot("type", "this kind of content is not known to other protocols.")),
    }
}

fn read_image(mut fields: Fields) -> Result<Part, CannotCarry> {
    let mut detail = fields.text("detail")?;
    let url = match fields.take("image_url") {
        Some(Value::String(url)) => url,
        Some(value) => {
            let mut image = Fields::of(value, fields.path("image_url"))?;
            detail = image.text("detail")?.or(detail);
            image.needed_text("url")?
        }
        None if fields.take("file_id").is_some() => return Err(stored(&fields)),
        None => return Err(missing(fields.path("image_url"))),
    };
    let (mime, source) = media::from_url(url);
    Ok(Part::Media(Media { kind: Kind::Image, mime, source, name: None, detail }))
}

fn read_file(mut fields: Fields) -> Result<Part, CannotCarry> {
    let name = fields.text("filename")?;
    let url = fields.text("file_url")?;
    let (mime, source) = match fields.text("file_data")?.or(url) {
        Some(data) if data.contains(':') => media::from_url(data),
        // Without the shell of a `data:` URL it is bare base64.
        Some(data) => (None, Source::Base64(data)),
        None => return Err(stored(&fields)),
    };
    Ok(Part::Media(Media { kind: Kind::Document, mime, source, name, detail: None }))
}

fn stored(fields: &Fields) -> CannotCarry {
    fields.cannot("file_id", "the file lies at another provider; send its content.")
}

fn media(kind: Kind, mime: Option<String>, source: Source) -> Part {
    Part::Media(Media { kind, mime, source, name: None, detail: None })
}

fn read_call(mut fields: Fields) -> Result<Call, CannotCarry> {
    let id = fields.needed_text("id")?;
    if fields.text("type")?.as_deref() == Some("custom") {
        let mut custom = fields.object("custom")?.ok_or_else(|| missing(fields.path("custom")))?;
        let input = custom.text("input")?.unwrap_or_default();
        return Ok(Call { id, name: custom.needed_text("name")?, arguments: tools::wrap(&input) });
    }
    let mut function = fields.object("function")?.ok_or_else(|| missing(fields.path("function")))?;
    let name = function.needed_text("name")?;
    Ok(Call { id, name, arguments: function.text("arguments")?.unwrap_or_default() })
}

fn read_tool(mut fields: Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    let kind = fields.text("type")?;
    match kind.as_deref().unwrap_or("function") {
        "function" => {
            let mut function = fields.object("function")?.ok_or_else(|| missing(fields.path("function")))?;
            ask.tools.push(Tool {
                name: function.needed_text("name")?,
                description: function.text("description")?,
                schema: function.take("parameters"),
                strict: function.flag("strict")?,
                disguise: None,
            });
        }
        "custom" => {
            let mut custom = fields.object("custom")?.ok_or_else(|| missing(fields.path("custom")))?;
            let name = custom.needed_text("name")?;
            let disguise = Disguise { name: name.clone(), namespace: None, custom: true };
            ask.tools.push(tools::custom(custom, name, disguise)?);
        }
        kind => ask.leave_out(&format!("tools.{kind}")),
    }
    Ok(())
}

/// A tool choice of either of OpenAI's wires. A list of allowed tools leaves no others on offer.
pub(in crate::wire) fn read_choice(value: Value, at: String, offered: &mut Vec<Tool>) -> Result<Choice, CannotCarry> {
    if let Value::String(word) = &value {
        return word_choice(word).ok_or_else(|| wrong(at, "one of none, auto, required, or a tool"));
    }
    let mut fields = Fields::of(value, at)?;
    match fields.needed_text("type")?.as_str() {
        kind @ ("function" | "custom") => {
            let named = match fields.object(kind)? {
                Some(mut inner) => inner.needed_text("name")?,
                None => fields.needed_text("name")?,
            };
            Ok(Choice::Named(known_as(named, fields.text("namespace")?.as_deref(), offered)))
        }
        "allowed_tools" => {
            let mut allowed = match fields.object("allowed_tools")? {
                Some(inner) => inner,
                None => fields,
            };
            let mode = allowed.text("mode")?.unwrap_or_else(|| "auto".to_owned());
            let choice = word_choice(&mode).ok_or_else(|| wrong(allowed.path("mode"), "auto or required"))?;
            let mut names = Vec::new();
            for mut tool in allowed.few("tools", MAX_TOOLS)? {
                let kind = tool.text("type")?.unwrap_or_default();
                let inner = tool.object(&kind)?.map(|mut inner| inner.text("name")).transpose()?.flatten();
                let name = inner.map_or_else(|| tool.text("name"), |name| Ok(Some(name)))?;
                let space = tool.text("namespace")?;
                names.extend(name.map(|name| known_as(name, space.as_deref(), offered)));
            }
            offered.retain(|tool| names.contains(&tool.name));
            Ok(choice)
        }
        _ => Err(fields.cannot("type", "only functions and custom tools can be chosen; built-in tools are not there.")),
    }
}

fn word_choice(word: &str) -> Option<Choice> {
    match word {
        "none" => Some(Choice::None),
        "auto" => Some(Choice::Auto),
        "required" | "any" => Some(Choice::Required),
        _ => None,
    }
}

/// The name under which a tool travels.
fn known_as(name: String, namespace: Option<&str>, offered: &[Tool]) -> String {
    let known = offered.iter().find(|tool| match &tool.disguise {
        Some(disguise) => disguise.name == name && disguise.namespace.as_deref() == namespace,
        None => namespace.is_none() && tool.name == name,
    });
    known.map_or(name, |tool| tool.name.clone())
}

fn read_format(mut fields: Fields) -> Result<Format, CannotCarry> {
    match fields.needed_text("type")?.as_str() {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::Json),
        "json_schema" => match fields.object("json_schema")? {
            Some(schema) => schema_format(schema),
            None => Err(missing(fields.path("json_schema"))),
        },
        _ => Err(wrong(fields.path("type"), "one of text, json_object, json_schema")),
    }
}

pub(in crate::wire) fn schema_format(mut fields: Fields) -> Result<Format, CannotCarry> {
    Ok(Format::Schema(Schema {
        name: fields.text("name")?,
        description: fields.text("description")?,
        schema: fields.take("schema").ok_or_else(|| missing(fields.path("schema")))?,
        strict: fields.flag("strict")?,
    }))
}
