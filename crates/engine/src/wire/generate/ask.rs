//! A question in Gemini's words, read. Its names may be written `likeThis` or `like_this`.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::Value;

use crate::wire::carry::fields::{Fields, wrong};
use crate::wire::carry::{HINTS, MAX_TOOLS, media, schema};
use crate::wire::talk::{
    Amount, Ask, Call, CannotCarry, Choice, Effort, Format, Media, Message, Outcome, Part, Role, Sampling, Schema,
    Source, Tool,
};

/// The calls so far: an id for each that brought none, and who waits for a result.
#[derive(Debug, Default)]
struct Calls {
    count: usize,
    /// The ids of a tool's calls, oldest first.
    waiting: HashMap<String, VecDeque<String>>,
    answered: HashSet<String>,
}

pub(in crate::wire) fn read_ask(fields: Fields) -> Result<Ask, CannotCarry> {
    let mut fields = fields.snake();
    let mut ask = Ask { usage_asked: true, ..Ask::default() };
    ask.model = fields.text("model")?.unwrap_or_default();
    let mut calls = Calls::default();
    if let Some(mut system) = fields.object("systemInstruction")? {
        for part in system.objects("parts")? {
            let part = read_part(part, &mut ask, &mut calls)?;
            ask.messages.extend(part.map(|part| Message::new(Role::System, vec![part], "systemInstruction")));
        }
    }
    for content in fields.objects("contents")? {
        read_content(content, &mut ask, &mut calls)?;
    }
    for tool in fields.few("tools", MAX_TOOLS)? {
        read_tools(tool, &mut ask)?;
    }
    if let Some(mut config) = fields.object("toolConfig")? {
        if let Some(calling) = config.object("functionCallingConfig")? {
            read_choice(calling, &mut ask)?;
        }
        config.tell_rest(&mut ask);
    }
    if let Some(config) = fields.object("generationConfig")? {
        read_config(config, &mut ask)?;
    }
    fields.refuse("cachedContent", &[], "it lies at another provider; send the content itself.")?;
    fields.drop_all(HINTS);
    fields.tell_rest(&mut ask);
    Ok(ask)
}

fn read_content(mut fields: Fields, ask: &mut Ask, calls: &mut Calls) -> Result<(), CannotCarry> {
    let role = match fields.text("role")?.as_deref() {
        None | Some("user" | "function" | "tool" | "") => Role::User,
        Some("model") => Role::Assistant,
        Some("system") => Role::System,
        Some(_) => return Err(wrong(fields.path("role"), "one of user, model")),
    };
    let mut parts = Vec::new();
    for part in fields.objects("parts")? {
        parts.extend(read_part(part, ask, calls)?);
    }
    ask.messages.push(Message::new(role, parts, fields.at()));
    Ok(())
}

fn read_part(mut fields: Fields, ask: &mut Ask, calls: &mut Calls) -> Result<Option<Part>, CannotCarry> {
    let thought = fields.flag("thought")?.unwrap_or(false);
    if let Some(text) = fields.text("text")? {
        return Ok(match (thought, text.is_empty()) {
            (_, true) => None,
            (true, false) => Some(Part::Thought(text)),
            (false, false) => Some(Part::Text(text)),
        });
    }
    if let Some(blob) = fields.object("inlineData")? {
        return Ok(Some(Part::Media(read_blob(blob)?)));
    }
    if let Some(mut file) = fields.object("fileData")? {
        let url = file.needed_text("fileUri")?;
        if !media::is_public(&url) {
            return Err(file.cannot("fileUri", "the file lies at another provider; send its content."));
        }
        let mime = file.text("mimeType")?;
        let kind = media::kind_of(mime.as_deref().unwrap_or("image/*"));
        return Ok(Some(Part::Media(Media { kind, mime, source: Source::Url(url), name: None, detail: None })));
    }
    if let Some(mut call) = fields.object("functionCall")? {
        let name = call.needed_text("name")?;
        let arguments = call.take("args").map_or_else(|| "{}".to_owned(), |args| args.to_string());
        let id = call.text("id")?.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{}", calls.count));
        calls.count += 1;
        calls.waiting.entry(name.clone()).or_default().push_back(id.clone());
        return Ok(Some(Part::Call(Call { id, name, arguments })));
    }
    if let Some(response) = fields.object("functionResponse")? {
        return read_outcome(response, calls).map(Some);
    }
    for name in ["executableCode", "codeExecutionResult", "toolCall", "toolResponse"] {
        if fields.take(name).is_some() {
            ask.leave_out(&format!("contents.{name}"));
        }
    }
    Ok(None)
}

fn read_blob(mut fields: Fields) -> Result<Media, CannotCarry> {
    let mime = fields.needed_text("mimeType")?;
    // Google's own clients write base64 for addresses, which nobody else takes.
    let data = fields.needed_text("data")?.replace('-', "+").replace('_', "/");
    let kind = media::kind_of(&mime);
    let name = fields.text("displayName")?;
    Ok(Media { kind, mime: Some(mime), source: Source::Base64(data), name, detail: None })
}

/// A result names its call by id, or is that of the oldest call of its name that waits for one.
fn read_outcome(mut fields: Fields, calls: &mut Calls) -> Result<Part, CannotCarry> {
    let name = fields.needed_text("name")?;
    let id = fields.text("id")?.filter(|id| !id.is_empty());
    let oldest = || {
        let waiting = calls.waiting.get_mut(&name)?;
        std::iter::from_fn(|| waiting.pop_front()).find(|id| !calls.answered.contains(id))
    };
    let Some(call) = id.or_else(oldest) else {
        let at = fields.path("name");
        let message = format!("`{at}` is the result of a call that was not made.");
        return Err(CannotCarry::new(at, message));
    };
    calls.answered.insert(call.clone());
    let mut failed = false;
    let mut parts = Vec::new();
    match fields.take("response") {
        None => {}
        Some(Value::Object(mut map)) if map.len() == 1 => {
            let key = map.keys().next().cloned().unwrap_or_default();
            match key.as_str() {
                "output" | "result" | "error" => {
                    failed = key == "error";
                    parts.extend(map.swap_remove(&key).map(|value| Part::Text(plain(value))));
                }
                _ => parts.push(Part::Text(Value::Object(map).to_string())),
            }
        }
        Some(response) => parts.push(Part::Text(plain(response))),
    }
    for mut part in fields.objects("parts")? {
        if let Some(blob) = part.object("inlineData")? {
            parts.push(Part::Media(read_blob(blob)?));
        }
    }
    Ok(Part::Outcome(Outcome { call, name: Some(name), parts, failed }))
}

/// Text as it is, everything else as JSON.
fn plain(value: Value) -> String {
    if let Value::String(text) = value { text } else { value.to_string() }
}

fn read_tools(mut fields: Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    for mut function in fields.few("functionDeclarations", MAX_TOOLS)? {
        let described = function.take("parameters");
        ask.tools.push(Tool {
            name: function.needed_text("name")?,
            description: function.text("description")?,
            schema: function.take("parametersJsonSchema").or(described).map(schema::from_gemini),
            strict: None,
            disguise: None,
        });
    }
    // What is left are built-in tools: `googleSearch`, `codeExecution`, `urlContext` and the like.
    for name in fields.names() {
        ask.leave_out(&format!("tools.{name}"));
    }
    Ok(())
}

fn read_choice(mut fields: Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    let names = fields.texts("allowedFunctionNames")?;
    ask.choice = match fields.text("mode")?.unwrap_or_default().to_ascii_uppercase().as_str() {
        "" | "AUTO" | "VALIDATED" | "MODE_UNSPECIFIED" => Choice::Auto,
        "NONE" => Choice::None,
        "ANY" => match names.as_slice() {
            [one] => Choice::Named(one.clone()),
            _ => Choice::Required,
        },
        _ => return Err(wrong(fields.path("mode"), "one of AUTO, ANY, NONE, VALIDATED")),
    };
    if names.len() > 1 || (names.len() == 1 && ask.choice == Choice::Auto) {
        ask.tools.retain(|tool| names.contains(&tool.name));
    }
    Ok(())
}

fn read_config(mut fields: Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    ask.max_output = fields.integer("maxOutputTokens")?;
    ask.sampling = Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("topP")?,
        top_k: fields.number("topK")?,
        seed: fields.number("seed")?,
        presence_penalty: fields.number("presencePenalty")?,
        frequency_penalty: fields.number("frequencyPenalty")?,
        stop: fields.texts("stopSequences")?,
    };
    if fields.integer("candidateCount")?.is_some_and(|count| count != 1) {
        return Err(fields.cannot("candidateCount", "it gives one answer at a time; ask several times."));
    }
    for name in ["responseLogprobs", "logprobs"] {
        fields.refuse(name, &[], "it does not tell probabilities.")?;
    }
    let modalities = fields.texts("responseModalities")?;
    if modalities.iter().any(|modality| !modality.eq_ignore_ascii_case("text")) {
        return Err(fields.cannot("responseModalities", "it answers with text."));
    }
    for name in ["speechConfig", "imageConfig"] {
        fields.refuse(name, &[], "it answers with text.")?;
    }
    let older = fields.take("responseSchema");
    let schema = fields.take("responseJsonSchema").or_else(|| fields.take("_responseJsonSchema")).or(older);
    ask.format = match (fields.text("responseMimeType")?.as_deref(), schema) {
        (None | Some("text/plain" | ""), None) => Format::Text,
        (Some("application/json"), None) => Format::Json,
        (None | Some("application/json"), Some(schema)) => {
            let schema = schema::from_gemini(schema);
            Format::Schema(Schema { name: None, description: None, schema, strict: None })
        }
        _ => return Err(fields.cannot("responseMimeType", "it answers with text or JSON.")),
    };
    if let Some(thinking) = fields.object("thinkingConfig")? {
        read_thinking(thinking, ask)?;
    }
    fields.tell_rest(ask);
    Ok(())
}

fn read_thinking(mut fields: Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    ask.thinking.show = fields.flag("includeThoughts")?;
    ask.thinking.amount = match fields.integer("thinkingBudget")? {
        Some(..0) => Amount::Free,
        Some(budget) => Amount::Budget(budget),
        None => Amount::Unsaid,
    };
    if let Some(level) = fields.text("thinkingLevel")?.filter(|level| level != "THINKING_LEVEL_UNSPECIFIED") {
        let known = Effort::parse(&level)
            .ok_or_else(|| wrong(fields.path("thinkingLevel"), "one of MINIMAL, LOW, MEDIUM, HIGH"))?;
        ask.thinking.amount = Amount::Effort(known);
    }
    Ok(())
}
