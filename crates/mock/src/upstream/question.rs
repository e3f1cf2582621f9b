//! What a request asks, whatever protocol it speaks.

use axum::http::{HeaderMap, Uri};
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Messages,
    Generate,
    Midm,
}

/// The most answers to one question.
const MAX_CHOICES: u64 = 128;
/// Where `midm` takes texts, which are no `input` there.
const MIDM_EMBEDDINGS: &str = "/embeddings";

#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub name: String,
    pub schema: Value,
    /// Takes free text instead of JSON.
    pub custom: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub wire: Wire,
    pub path: String,
    pub model: String,
    pub key: Option<String>,
    pub stream: bool,
    /// Gemini: the stream is an array, since events were not asked for.
    pub array: bool,
    /// The stream is to end with the usage (OpenAI's `include_usage`); the other wires always do.
    pub wants_usage: bool,
    /// The text of the last message.
    pub words: String,
    /// The last message is a tool's result.
    pub after_tool: bool,
    pub messages: Value,
    pub tokens: i64,
    pub tools: Vec<Tool>,
    /// A tool must be called: this one, or any.
    pub must_call: Option<Option<String>>,
    pub schema: Option<Value>,
    pub max_output: Option<i64>,
    /// How many answers are wanted, each of which is written by itself.
    pub choices: u64,
    /// How soon it was served: what it asks for itself, or `[[tier=…]]`. Nothing is said of it otherwise.
    pub tier: Option<String>,
    pub stop: Vec<String>,
    /// Texts to be embedded.
    pub inputs: Vec<String>,
    pub base64: bool,
    pub dimensions: usize,
}

/// Four bytes are a token, and each message costs four more: simple enough to be checked by hand.
pub(crate) fn tokens(text: &str) -> i64 {
    (text.len() as i64 + 3) / 4
}

impl Question {
    /// Reads a body. The error is a sentence for the caller.
    pub fn read(wire: Wire, uri: &Uri, headers: &HeaderMap, body: &Value) -> Result<Question, String> {
        if !body.is_object() {
            return Err("the body is not a JSON object".to_owned());
        }
        let path = uri.path().to_owned();
        let in_path = path.rsplit_once("/models/").and_then(|(_, rest)| rest.rsplit_once(':'));
        let model = match (wire, in_path) {
            (Wire::Generate | Wire::Embeddings, Some((model, _))) => model.to_owned(),
            (Wire::Midm, _) => "midm".to_owned(),
            // It has one model for this, and says back whatever name it is told.
            (Wire::Embeddings, _) if path == MIDM_EMBEDDINGS => body["model"].as_str().unwrap_or("midm").to_owned(),
            _ => body["model"]
                .as_str()
                .filter(|model| !model.is_empty())
                .ok_or("you must provide a model parameter")?
                .to_owned(),
        };
        let stream = match wire {
            Wire::Generate => path.ends_with(":streamGenerateContent"),
            Wire::Midm => path.ends_with("/stream"),
            _ => body["stream"].as_bool().unwrap_or(false),
        };
        let messages = match wire {
            Wire::Chat | Wire::Messages | Wire::Midm => body["messages"].clone(),
            Wire::Completions => body["prompt"].clone(),
            Wire::Responses => body["input"].clone(),
            Wire::Embeddings => Value::Null,
            Wire::Generate => body["contents"].clone(),
        };
        let list = match &messages {
            Value::Array(list) => list.clone(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        if list.is_empty() && wire != Wire::Embeddings {
            return Err("there is no message".to_owned());
        }
        if path == MIDM_EMBEDDINGS && !body["texts"].is_array() {
            return Err("texts: field required".to_owned());
        }
        let inputs = inputs(body);
        if wire == Wire::Embeddings && inputs.is_empty() {
            return Err("there is nothing to embed".to_owned());
        }
        let last = list.last().cloned().unwrap_or_default();
        let mut texts = Vec::new();
        for key in ["system", "instructions", "systemInstruction", "system_instruction"] {
            collect(&body[key], &mut texts);
        }
        collect(&messages, &mut texts);
        let counted = texts.iter().chain(&inputs).map(|text| tokens(text)).sum::<i64>();
        let mut last_texts = Vec::new();
        collect(&last, &mut last_texts);
        let words = last_texts.join("\n");
        let names: &[&str] = match wire {
            Wire::Messages => &["speed"],
            _ => &["service_tier", "serviceTier"],
        };
        let asked = names.iter().find_map(|name| body[*name].as_str());
        let tier = word(&words, "tier").or(asked).filter(|tier| *tier != "auto").map(str::to_owned);
        let choice = &body["tool_choice"];
        let choices = match wire {
            Wire::Chat | Wire::Completions => body["n"].as_i64().unwrap_or(1),
            _ => 1,
        };
        let choices = u64::try_from(choices).ok().filter(|n| (1..=MAX_CHOICES).contains(n));
        let choices = choices.ok_or_else(|| format!("n must be between 1 and {MAX_CHOICES}"))?;
        Ok(Question {
            wire,
            model,
            key: key_of(headers),
            stream,
            array: wire == Wire::Generate
                && stream
                && !uri.query().unwrap_or_default().split('&').any(|pair| pair == "alt=sse"),
            wants_usage: match wire {
                Wire::Chat | Wire::Completions => body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
                _ => true,
            },
            words,
            after_tool: is_tool_result(&last),
            tokens: counted + 4 * list.len() as i64,
            messages,
            tools: tools(body),
            must_call: must_call(choice, body),
            schema: schema(body),
            max_output: ["max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens"]
                .iter()
                .find_map(|key| body[*key].as_i64())
                .or_else(|| body["generationConfig"]["maxOutputTokens"].as_i64()),
            choices,
            tier,
            stop: stops(body),
            inputs,
            base64: body["encoding_format"].as_str() == Some("base64"),
            dimensions: body["dimensions"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(8).clamp(1, 4096),
            path,
        })
    }

    /// The number in `[[name=…]]`.
    pub fn number(&self, name: &str) -> Option<u64> {
        word(&self.words, name)?.parse().ok()
    }

    pub fn asks(&self, name: &str) -> bool {
        self.words.contains(&format!("[[{name}]]"))
    }
}

/// What stands in `[[name=…]]`.
fn word<'a>(words: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = words.split_once(&format!("[[{name}="))?;
    Some(rest.split_once("]]")?.0)
}

/// The credential, wherever it stands.
fn key_of(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
    bearer.or(text("x-api-key")).or(text("x-goog-api-key")).or(text("api-key")).map(str::to_owned)
}

/// Every text below a value, in order.
fn collect(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => out.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|one| collect(one, out)),
        Value::Object(map) => {
            for key in [
                "text",
                "content",
                "parts",
                "output",
                "functionResponse",
                "function_response",
                "response",
                "result",
                "input_text",
                "thinking",
            ] {
                if let Some(inner) = map.get(key) {
                    collect(inner, out);
                }
            }
        }
        _ => {}
    }
}

fn is_tool_result(message: &Value) -> bool {
    message["role"] == "tool"
        || matches!(message["type"].as_str(), Some("function_call_output" | "custom_tool_call_output"))
        || message["content"].as_array().is_some_and(|parts| parts.iter().any(|part| part["type"] == "tool_result"))
        || message["parts"].as_array().is_some_and(|parts| parts.iter().any(is_function_response))
}

/// Gemini takes both spellings.
fn is_function_response(part: &Value) -> bool {
    ["functionResponse", "function_response"].iter().any(|key| part.get(key).is_some())
}

fn tools(body: &Value) -> Vec<Tool> {
    let mut found = Vec::new();
    for tool in body["tools"].as_array().into_iter().flatten() {
        let nested =
            ["functionDeclarations", "function_declarations", "tools"].iter().find_map(|key| tool[*key].as_array());
        match nested {
            Some(list) => found.extend(list.iter().filter_map(read_tool)),
            None => found.extend(read_tool(tool)),
        }
    }
    found
}

fn read_tool(tool: &Value) -> Option<Tool> {
    let inner = if tool["function"].is_object() { &tool["function"] } else { tool };
    let schema = ["parameters", "parametersJsonSchema", "parameters_json_schema", "input_schema"]
        .iter()
        .find_map(|key| inner.get(*key))
        .cloned()
        .unwrap_or(json!({ "type": "object" }));
    Some(Tool { name: inner["name"].as_str()?.to_owned(), schema, custom: tool["type"] == "custom" })
}

fn must_call(choice: &Value, body: &Value) -> Option<Option<String>> {
    let config = &body["toolConfig"]["functionCallingConfig"];
    if config["mode"].as_str().is_some_and(|mode| mode.eq_ignore_ascii_case("any")) {
        return Some(config["allowedFunctionNames"][0].as_str().map(str::to_owned));
    }
    if matches!(choice.as_str(), Some("required" | "any")) {
        return Some(None);
    }
    match choice["type"].as_str() {
        Some("any") => Some(None),
        Some("function" | "tool" | "custom") => {
            Some(choice["name"].as_str().or(choice["function"]["name"].as_str()).map(str::to_owned))
        }
        _ => None,
    }
}

fn schema(body: &Value) -> Option<Value> {
    let found = [
        &body["response_format"]["json_schema"]["schema"],
        &body["text"]["format"]["schema"],
        &body["generationConfig"]["responseJsonSchema"],
        &body["generationConfig"]["responseSchema"],
        &body["output_config"]["format"]["schema"],
        &body["output_format"]["schema"],
    ];
    if let Some(schema) = found.into_iter().find(|schema| schema.is_object()) {
        return Some(schema.clone());
    }
    let any_json = body["response_format"]["type"] == "json_object"
        || body["text"]["format"]["type"] == "json_object"
        || body["generationConfig"]["responseMimeType"] == "application/json";
    any_json.then(|| json!({ "type": "object", "properties": { "answer": { "type": "string" } } }))
}

fn stops(body: &Value) -> Vec<String> {
    let stop = ["stop", "stop_sequences"].iter().find_map(|key| body.get(*key));
    match stop.unwrap_or(&body["generationConfig"]["stopSequences"]) {
        Value::String(one) => vec![one.clone()],
        Value::Array(list) => list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

fn inputs(body: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        // Tokens instead of text: their numbers are as good.
        Value::Array(_) => Some(value.to_string()),
        _ => None,
    };
    match (&body["input"], &body["texts"], &body["requests"]) {
        (Value::String(one), _, _) => vec![one.clone()],
        (Value::Array(list), _, _) if list.first().is_some_and(Value::is_number) => {
            text(&body["input"]).into_iter().collect()
        }
        (Value::Array(list), _, _) | (_, Value::Array(list), _) => list.iter().filter_map(text).collect(),
        (_, _, Value::Array(requests)) => requests.iter().map(|one| content_text(&one["content"])).collect(),
        _ if body["content"].is_object() => vec![content_text(&body["content"])],
        _ => Vec::new(),
    }
}

fn content_text(content: &Value) -> String {
    let mut texts = Vec::new();
    collect(content, &mut texts);
    texts.join("\n")
}
