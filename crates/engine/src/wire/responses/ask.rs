//! A Responses question, read.

use serde_json::{Map, Value, json};

use super::offer::{flat_name, read_tool};
use crate::wire::carry::fields::{Fields, missing, wrong};
use crate::wire::carry::{HINTS, MAX_TOOLS, tools};
use crate::wire::chat;
use crate::wire::talk::{Amount, Ask, Call, CannotCarry, Effort, Format, Message, Outcome, Part, Role};

/// What an answer repeats of its question, with what it says where the question did not.
const ECHO: &[(&str, &str)] = &[
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("temperature", "1.0"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_p", "1.0"),
    ("truncation", r#""disabled""#),
    ("user", "null"),
];

pub(in crate::wire) fn read_ask(mut fields: Fields) -> Result<Ask, CannotCarry> {
    let mut ask = Ask {
        model: fields.text("model")?.unwrap_or_default(),
        stream: fields.flag("stream")?.unwrap_or(false),
        usage_asked: true,
        echo: echo(&fields),
        ..Ask::default()
    };
    ask.max_output = fields.integer("max_output_tokens")?;
    ask.sampling = chat::sampling(&mut fields)?;
    if let Some(instructions) = fields.text("instructions")?.filter(|text| !text.is_empty()) {
        ask.messages.push(Message::text(Role::System, instructions));
    }
    for tool in fields.few("tools", MAX_TOOLS)? {
        read_tool(tool, None, &mut ask)?;
    }
    read_input(&mut fields, &mut ask)?;
    if let Some(choice) = fields.take("tool_choice") {
        let at = fields.path("tool_choice");
        ask.choice = chat::read_choice(choice, at, &mut ask.tools)?;
    }
    ask.parallel = fields.flag("parallel_tool_calls")?;
    if let Some(mut text) = fields.object("text")? {
        ask.verbosity = text.text("verbosity")?;
        if let Some(format) = text.object("format")? {
            ask.format = read_format(format)?;
        }
    }
    if let Some(reasoning) = fields.object("reasoning")? {
        read_reasoning(reasoning, &mut ask)?;
    }
    refuse(&mut fields)?;
    tell(&mut fields, &mut ask)?;
    fields.tell_rest(&mut ask);
    Ok(ask)
}

fn echo(fields: &Fields) -> Map<String, Value> {
    let each = |(name, unsaid): &(&str, &str)| {
        let said = fields.peek(name).cloned();
        let value = said.unwrap_or_else(|| serde_json::from_str(unsaid).unwrap_or_default());
        ((*name).to_owned(), value)
    };
    let mut echo: Map<String, Value> = ECHO.iter().map(each).collect();
    // Nothing is kept here, whatever was asked.
    echo.insert("store".to_owned(), false.into());
    echo.insert("background".to_owned(), false.into());
    if let Some(Value::Object(text)) = echo.get_mut("text") {
        text.entry("format").or_insert_with(|| json!({ "type": "text" }));
    }
    echo
}

fn refuse(fields: &mut Fields) -> Result<(), CannotCarry> {
    for name in ["previous_response_id", "conversation"] {
        fields.refuse(name, &[], "nothing is kept between calls; send the whole conversation in `input`.")?;
    }
    fields.refuse("background", &[], "answers are given at once or not at all.")?;
    fields.refuse("prompt", &[], "the template lies at another provider; send its text.")?;
    fields.refuse("top_logprobs", &[], "it does not tell probabilities.")?;
    fields.refuse("moderation", &[], "it is served by somebody else, who does not moderate.")?;
    Ok(())
}

/// What the asker can do without, but not unawares.
fn tell(fields: &mut Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    fields.drop_all(HINTS);
    fields.drop_all(&["stream_options"]);
    for include in fields.texts("include")? {
        match include.as_str() {
            // Nobody else could open what is sealed, so there is nothing to include.
            "reasoning.encrypted_content" => {}
            "message.output_text.logprobs" => return Err(fields.cannot("include", "it does not tell probabilities.")),
            other => ask.leave_out(&format!("include.{other}")),
        }
    }
    let harmless =
        |value: &Value| matches!(value.as_str(), Some("auto" | "default" | "disabled")) || value == &Value::Bool(false);
    for name in ["service_tier", "store"] {
        if fields.take(name).is_some_and(|value| !harmless(&value)) {
            ask.leave_out(name);
        }
    }
    if fields.text("truncation")?.is_some_and(|truncation| truncation != "disabled") {
        ask.leave_out("truncation");
    }
    Ok(())
}

fn read_input(fields: &mut Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    let at = fields.path("input");
    let items = match fields.take("input") {
        None => return Ok(()),
        Some(Value::String(text)) => {
            ask.messages.push(Message::text(Role::User, text));
            return Ok(());
        }
        Some(Value::Array(items)) => items,
        Some(_) => return Err(wrong(at, "text or a list of items")),
    };
    for (number, item) in items.into_iter().enumerate() {
        read_item(Fields::of(item, format!("{at}[{number}]"))?, ask)?;
    }
    Ok(())
}

fn read_item(mut fields: Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    let kind = fields.text("type")?.unwrap_or_else(|| "message".to_owned());
    match kind.as_str() {
        "message" => {
            let role = match fields.needed_text("role")?.as_str() {
                "system" => Role::System,
                "developer" => Role::Developer,
                "user" => Role::User,
                "assistant" => Role::Assistant,
                _ => return Err(wrong(fields.path("role"), "one of system, developer, user, assistant")),
            };
            let parts = chat::content(&mut fields, "content")?;
            if role == Role::Assistant {
                add(ask, Role::Assistant, parts, fields.at());
            } else {
                ask.messages.push(Message::new(role, parts, fields.at()));
            }
        }
        "function_call" => {
            let arguments = fields.text("arguments")?.unwrap_or_default();
            let call = read_call(&mut fields, arguments)?;
            add(ask, Role::Assistant, vec![Part::Call(call)], fields.at());
        }
        "custom_tool_call" => {
            let input = fields.text("input")?.unwrap_or_default();
            let call = read_call(&mut fields, tools::wrap(&input))?;
            add(ask, Role::Assistant, vec![Part::Call(call)], fields.at());
        }
        "function_call_output" | "custom_tool_call_output" => {
            let call = fields.needed_text("call_id")?;
            let parts = chat::content(&mut fields, "output")?;
            let outcome = Outcome { call, name: None, parts, failed: false };
            add(ask, Role::User, vec![Part::Outcome(outcome)], fields.at());
        }
        "reasoning" => {
            let mut thoughts = Vec::new();
            for name in ["content", "summary"] {
                let texts = fields.objects(name)?.into_iter().map(|mut part| part.text("text"));
                let texts: Vec<String> = texts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
                if thoughts.is_empty() {
                    thoughts = texts;
                }
            }
            let thought = thoughts.join("\n\n");
            if !thought.is_empty() {
                add(ask, Role::Assistant, vec![Part::Thought(thought)], fields.at());
            }
        }
        "additional_tools" => {
            for tool in fields.few("tools", MAX_TOOLS)? {
                read_tool(tool, None, ask)?;
            }
        }
        // What built-in tools did is told by the text that came of it.
        "web_search_call"
        | "file_search_call"
        | "code_interpreter_call"
        | "image_generation_call"
        | "mcp_list_tools"
        | "mcp_call" => ask.leave_out(&format!("input.{kind}")),
        "item_reference" => {
            return Err(fields.cannot("id", "nothing is kept between calls; send the item itself."));
        }
        "compaction" | "context_compaction" | "compaction_trigger" => {
            return Err(fields.cannot("type", "what another provider has compacted, only that one can open."));
        }
        _ => return Err(fields.cannot("type", "this kind of item is not known to other protocols.")),
    }
    Ok(())
}

fn read_call(fields: &mut Fields, arguments: String) -> Result<Call, CannotCarry> {
    let namespace = fields.text("namespace")?;
    let name = flat_name(&fields.needed_text("name")?, namespace.as_deref());
    Ok(Call { id: fields.needed_text("call_id")?, name, arguments })
}

/// Items of one side that follow each other are one message.
fn add(ask: &mut Ask, role: Role, mut parts: Vec<Part>, at: &str) {
    let outcomes = |parts: &[Part]| parts.iter().all(|part| matches!(part, Part::Outcome(_)));
    match ask.messages.last_mut() {
        Some(last) if last.role == role && (role == Role::Assistant || outcomes(&last.parts)) => {
            last.parts.append(&mut parts);
        }
        _ => ask.messages.push(Message::new(role, parts, at)),
    }
}

fn read_format(mut fields: Fields) -> Result<Format, CannotCarry> {
    match fields.needed_text("type")?.as_str() {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::Json),
        "json_schema" if fields.peek("schema").is_none() => Err(missing(fields.path("schema"))),
        "json_schema" => chat::schema_format(fields),
        _ => Err(wrong(fields.path("type"), "one of text, json_object, json_schema")),
    }
}

fn read_reasoning(mut fields: Fields, ask: &mut Ask) -> Result<(), CannotCarry> {
    if let Some(word) = fields.text("effort")? {
        let known = Effort::parse(&word)
            .ok_or_else(|| wrong(fields.path("effort"), "one of none, minimal, low, medium, high, xhigh, max"))?;
        ask.thinking.amount = Amount::Effort(known);
    }
    let older = fields.text("generate_summary")?;
    if fields.text("summary")?.or(older).is_some() {
        ask.thinking.show = Some(true);
    }
    // Earlier thoughts do not travel in any case.
    fields.drop_all(&["context"]);
    if fields.text("mode")?.is_some_and(|mode| mode != "standard") {
        ask.leave_out("reasoning.mode");
    }
    fields.tell_rest(ask);
    Ok(())
}
