//! The protocols: routes, and what an answer looks like in each.

mod chat;
mod generate;
mod messages;
mod midm;
mod responses;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::body::{Frames, send};
use super::calls::{UpstreamCall, UpstreamUsage};
use super::question::{Question, Wire};
use super::said::{Said, vector};
use super::trouble::{Bad, Mode};
use super::{DROPPED, Reset, Shared, control};

/// The longest request.
const MAX_BODY: usize = 64 << 20;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let ask =
        |wire: Wire| post(move |State(shared): State<Arc<Shared>>, request: Request| answer(shared, wire, request));
    Router::new()
        .route("/v1/chat/completions", ask(Wire::Chat))
        .route("/v1/completions", ask(Wire::Completions))
        .route("/v1/responses", ask(Wire::Responses))
        .route("/v1/embeddings", ask(Wire::Embeddings))
        .route("/v1/messages", ask(Wire::Messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model))
        .route("/v1beta/models", get(gemini_models))
        .route("/v1beta/models/{call}", get(gemini_models).post(gemini))
        .route("/chat", ask(Wire::Midm))
        .route("/chat/stream", ask(Wire::Midm))
        .route("/embeddings", post(midm_embeddings))
        .route("/health", get(midm::health))
        .merge(control::router())
        .fallback(async || refuse(Wire::Chat, 404, "there is no such path", None))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared)
}

async fn gemini(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match request.uri().path().rsplit_once(':').map(|(_, method)| method) {
        Some("generateContent" | "streamGenerateContent") => answer(shared, Wire::Generate, request).await,
        Some("countTokens") => count_tokens(State(shared), request).await,
        Some("embedContent" | "batchEmbedContents") => answer(shared, Wire::Embeddings, request).await,
        _ => refuse(Wire::Generate, 404, "there is no such method", None),
    }
}

async fn midm_embeddings(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    answer(shared, Wire::Embeddings, request).await
}

/// One call: read, struck by trouble perhaps, answered.
async fn answer(shared: Arc<Shared>, wire: Wire, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let reset = head.extensions.get::<Reset>().cloned().unwrap_or_default();
    let Ok(bytes) = axum::body::to_bytes(body, MAX_BODY).await else {
        return refuse(wire, 413, "the body is too long or did not come", None);
    };
    let read = serde_json::from_slice(&bytes).map_err(|_| "the body is not JSON".to_owned());
    let question = match read.and_then(|body: Value| Question::read(wire, &head.uri, &head.headers, &body)) {
        Ok(question) => question,
        Err(why) => return refuse(wire, 400, &why, None),
    };
    let mut call = begin(&question, &head.headers, &bytes);
    let allowed = &shared.config.keys;
    if !allowed.is_empty() && !question.key.as_ref().is_some_and(|key| allowed.contains(key)) {
        call.status = 401;
        shared.state().calls.add(call);
        return refuse(wire, 401, "the key is not valid", None);
    }
    if question.model.starts_with("unknown") {
        call.status = 404;
        shared.state().calls.add(call);
        return refuse(wire, 404, &format!("the model `{}` does not exist", question.model), None);
    }
    let struck = shared.state().troubles.strike(&question);
    call.trouble = struck.as_ref().map(|(_, word)| word.clone());
    let mode = struck.map(|(mode, _)| mode);
    let (said, others) = Said::answers(&question, shared.config.seed);
    call.usage = if wire == Wire::Embeddings {
        UpstreamUsage { input: question.tokens, ..UpstreamUsage::default() }
    } else {
        said.usage
    };
    call.status = match mode {
        Some(Mode::Status(status, _)) => status,
        Some(Mode::Drop | Mode::Reset | Mode::Hang) => 0,
        _ => 200,
    };
    let number = shared.state().calls.add(call);
    match mode {
        Some(Mode::Status(status, retry_after)) => return refuse(wire, status, "trouble was ordered", retry_after),
        Some(Mode::Drop) => return dropped(),
        Some(Mode::Reset) => {
            reset.order();
            return dropped();
        }
        Some(Mode::Hang) => {
            shared.stop.cancelled().await;
            return dropped();
        }
        Some(Mode::Delay(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
        Some(Mode::Body(bad)) => return spoilt(bad, question.stream),
        _ => {}
    }
    tokio::time::sleep(said.wait).await;
    let told = Told { question, said, others, lie: if let Some(Mode::Usage(lie)) = mode { Some(lie) } else { None } };
    send(shared, number, told, mode, reset)
}

/// An answer and how it is to be told.
pub(crate) struct Told {
    pub question: Question,
    /// The first of the answers, and the usage of all of them.
    pub said: Said,
    /// The others, where several were asked for.
    pub others: Vec<Said>,
    /// What is claimed of every count instead of the truth; `Some(None)` says nothing of usage.
    pub lie: Option<Option<i64>>,
}

impl Told {
    /// A count, or what is claimed instead.
    fn count(&self, truth: i64) -> i64 {
        self.lie.flatten().unwrap_or(truth)
    }

    /// The answers, numbered.
    pub fn choices(&self) -> impl Iterator<Item = (usize, &Said)> {
        std::iter::once(&self.said).chain(&self.others).enumerate()
    }

    fn tells_usage(&self) -> bool {
        self.lie != Some(None)
    }

    pub fn whole(&self) -> Value {
        match self.question.wire {
            Wire::Chat => chat::whole(self),
            Wire::Completions => chat::whole_completion(self),
            Wire::Responses => responses::whole(self),
            Wire::Messages => messages::whole(self),
            Wire::Generate => generate::whole(self),
            Wire::Midm => midm::whole(self),
            Wire::Embeddings => embeddings(self),
        }
    }

    pub fn frames(&self) -> Frames {
        match self.question.wire {
            Wire::Chat => chat::frames(self),
            Wire::Completions => chat::completion_frames(self),
            Wire::Responses => responses::frames(self),
            Wire::Messages => messages::frames(self),
            Wire::Generate => generate::frames(self),
            Wire::Midm => midm::frames(self),
            Wire::Embeddings => Frames::default(),
        }
    }
}

fn begin(question: &Question, headers: &HeaderMap, body: &Bytes) -> UpstreamCall {
    const PLUMBING: [&str; 12] = [
        "authorization",
        "x-api-key",
        "x-goog-api-key",
        "api-key",
        "host",
        "content-length",
        "connection",
        "accept-encoding",
        "transfer-encoding",
        "te",
        "upgrade",
        "proxy-authorization",
    ];
    let shown = headers.iter().filter(|(name, _)| !PLUMBING.contains(&name.as_str()));
    UpstreamCall {
        number: 0,
        path: question.path.clone(),
        model: question.model.clone(),
        key: question.key.clone(),
        idempotency_key: headers.get("idempotency-key").and_then(|value| value.to_str().ok()).map(str::to_owned),
        body: String::from_utf8_lossy(body).into_owned(),
        headers: shown
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        stream: question.stream,
        status: 0,
        usage: UpstreamUsage::default(),
        pieces: 0,
        finished: false,
        abandoned: false,
        trouble: None,
    }
}

fn dropped() -> Response {
    let mut response = StatusCode::OK.into_response();
    response.headers_mut().insert(DROPPED, HeaderValue::from_static("1"));
    response
}

/// A refusal in the wire's own words.
pub(crate) fn refuse(wire: Wire, status: u16, why: &str, retry_after: Option<u64>) -> Response {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (code, Json(refusal(wire, status, why))).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub(crate) fn refusal(wire: Wire, status: u16, why: &str) -> Value {
    match wire {
        Wire::Messages => {
            let kind = match status {
                400 | 413 => "invalid_request_error",
                401 => "authentication_error",
                403 => "permission_error",
                404 => "not_found_error",
                429 => "rate_limit_error",
                529 => "overloaded_error",
                _ => "api_error",
            };
            json!({ "type": "error", "error": { "type": kind, "message": why }, "request_id": "req_mock" })
        }
        Wire::Generate => {
            let kind = match status {
                400 => "INVALID_ARGUMENT",
                401 => "UNAUTHENTICATED",
                403 => "PERMISSION_DENIED",
                404 => "NOT_FOUND",
                429 => "RESOURCE_EXHAUSTED",
                503 => "UNAVAILABLE",
                504 => "DEADLINE_EXCEEDED",
                _ => "INTERNAL",
            };
            json!({ "error": { "code": status, "message": why, "status": kind } })
        }
        Wire::Midm => json!({ "detail": why }),
        _ => {
            let (kind, code) = match status {
                401 => ("invalid_request_error", Some("invalid_api_key")),
                404 => ("invalid_request_error", Some("model_not_found")),
                429 => ("requests", Some("rate_limit_exceeded")),
                400..=499 => ("invalid_request_error", None),
                _ => ("server_error", None),
            };
            json!({ "error": { "message": why, "type": kind, "param": null, "code": code } })
        }
    }
}

fn spoilt(bad: Bad, stream: bool) -> Response {
    let body = match bad {
        Bad::Garbage => Body::from(vec![0xff, 0xfe, 0x00, 0x9f, b'{', 0x80]),
        Bad::Html => Body::from("<!doctype html><title>502</title><h1>Bad gateway</h1>"),
        Bad::Empty => Body::empty(),
        Bad::Json if stream => Body::from("data: {\"id\":\"x\",\n\ndata: [DONE]\n\n"),
        Bad::Json => Body::from("{\"id\":\"x\","),
        Bad::HugeLine => Body::from(format!("data: {{\"x\":\"{}\"}}\n\n", "x".repeat(10 << 20))),
    };
    let kind = match (bad, stream) {
        (Bad::Html, _) => "text/html",
        (_, true) => "text/event-stream",
        (_, false) => "application/json",
    };
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

async fn count_tokens(State(_): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let gemini = head.uri.path().ends_with(":countTokens");
    let wire = if gemini { Wire::Generate } else { Wire::Messages };
    let body = axum::body::to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let read = serde_json::from_slice(&body).map_err(|_| "the body is not JSON".to_owned());
    match read.and_then(|body: Value| Question::read(wire, &head.uri, &head.headers, &body)) {
        Ok(question) if gemini => Json(json!({ "totalTokens": question.tokens })).into_response(),
        Ok(question) => Json(json!({ "input_tokens": question.tokens })).into_response(),
        Err(why) => refuse(wire, 400, &why, None),
    }
}

async fn models(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let models = shared.config.models.iter();
    if headers.contains_key("anthropic-version") {
        let data: Vec<Value> = models
            .map(|id| json!({ "type": "model", "id": id, "display_name": id, "created_at": "2026-01-01T00:00:00Z" }))
            .collect();
        let (first, last) = (data.first().map(|m| m["id"].clone()), data.last().map(|m| m["id"].clone()));
        return Json(json!({ "data": data, "has_more": false, "first_id": first, "last_id": last })).into_response();
    }
    let data: Vec<Value> = models.map(|id| openai_model(id)).collect();
    Json(json!({ "object": "list", "data": data })).into_response()
}

async fn model(State(shared): State<Arc<Shared>>, axum::extract::Path(id): axum::extract::Path<String>) -> Response {
    match shared.config.models.contains(&id) {
        true => Json(openai_model(&id)).into_response(),
        false => refuse(Wire::Chat, 404, &format!("the model `{id}` does not exist"), None),
    }
}

fn openai_model(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 1_767_225_600, "owned_by": "mock" })
}

async fn gemini_models(State(shared): State<Arc<Shared>>) -> Response {
    let models: Vec<Value> = shared
        .config
        .models
        .iter()
        .map(|id| json!({ "name": format!("models/{id}"), "displayName": id, "supportedGenerationMethods": ["generateContent"] }))
        .collect();
    Json(json!({ "models": models })).into_response()
}

fn embeddings(told: &Told) -> Value {
    let question = &told.question;
    let vectors: Vec<Vec<f32>> = question.inputs.iter().map(|text| vector(text, question.dimensions)).collect();
    let used = told.count(question.tokens);
    if question.path.ends_with(":embedContent") {
        return json!({ "embedding": { "values": vectors.first() } });
    }
    if question.path.ends_with(":batchEmbedContents") {
        let list: Vec<Value> = vectors.iter().map(|values| json!({ "values": values })).collect();
        return json!({ "embeddings": list });
    }
    if question.path == "/embeddings" {
        return json!({
            "embeddings": vectors, "model": question.model, "dimensions": question.dimensions,
            "usage": { "total_tokens": used, "total_texts": question.inputs.len() },
        });
    }
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, values)| {
            let embedding = match question.base64 {
                true => json!(base64(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())),
                false => json!(values),
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let mut whole = json!({ "object": "list", "data": data, "model": question.model });
    if told.tells_usage() {
        whole["usage"] = json!({ "prompt_tokens": used, "total_tokens": used });
    }
    whole
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// A frame of data alone.
fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// A frame with the type of its data as its event.
fn event(value: &Value) -> String {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default())
}
