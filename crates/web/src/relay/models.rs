//! Which models there are, as each protocol lists them. Only those that the caller may use are shown.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use salon::catalog::Ability;
use salon::relay::{Listed, Refused, Wire};
use serde_json::{Value, json};

use super::{caller, is_call, percent_decoded, refusal, wrong_method};
use crate::{RequestId, Web};

/// Anthropic's and Gemini's clients announce themselves; the same path answers them in their own shape.
pub(super) fn wire_of(request: &Request) -> Wire {
    let says = |name: &str| request.headers().contains_key(name);
    if says("anthropic-version") || request.uri().path().starts_with("/anthropic/") {
        Wire::Messages
    } else if says("x-goog-api-client") || says("x-goog-api-key") {
        Wire::Generate
    } else {
        Wire::Chat
    }
}

async fn listed(web: &Web, request: Request) -> Result<Vec<Listed>, Refused> {
    let (head, _) = request.into_parts();
    let caller = caller(web, &head, "/v1/models").await?;
    web.relay.list(&caller).await
}

pub(super) async fn list(State(web): State<Web>, request: Request) -> Response {
    let (id, wire) = (RequestId::of(&request), wire_of(&request));
    if wire == Wire::Generate {
        return gemini_list(State(web), request).await;
    }
    match listed(&web, request).await {
        Ok(models) if wire == Wire::Messages => {
            let data: Vec<Value> = models.iter().map(anthropic).collect();
            let first = data.first().map(|model| model["id"].clone());
            let last = data.last().map(|model| model["id"].clone());
            Json(json!({ "data": data, "has_more": false, "first_id": first, "last_id": last })).into_response()
        }
        Ok(models) => {
            let data: Vec<Value> = models.iter().map(openai).collect();
            Json(json!({ "object": "list", "data": data })).into_response()
        }
        Err(refused) => refusal(wire, &id, &refused),
    }
}

pub(super) async fn one(State(web): State<Web>, request: Request) -> Response {
    let (id, wire) = (RequestId::of(&request), wire_of(&request));
    if is_call(request.uri().path()) {
        return wrong_method(request).await;
    }
    if wire == Wire::Generate {
        return gemini_one(State(web), request).await;
    }
    let name = named(request.uri().path());
    match find(&web, request, &name).await {
        Ok(model) if wire == Wire::Messages => Json(anthropic(&model)).into_response(),
        Ok(model) => Json(openai(&model)).into_response(),
        Err(refused) => refusal(wire, &id, &refused),
    }
}

pub(super) async fn gemini_list(State(web): State<Web>, request: Request) -> Response {
    let id = RequestId::of(&request);
    match listed(&web, request).await {
        Ok(models) => {
            let models: Vec<Value> = models.iter().map(gemini).collect();
            Json(json!({ "models": models })).into_response()
        }
        Err(refused) => refusal(Wire::Generate, &id, &refused),
    }
}

pub(super) async fn gemini_one(State(web): State<Web>, request: Request) -> Response {
    let id = RequestId::of(&request);
    if is_call(request.uri().path()) {
        return wrong_method(request).await;
    }
    let name = named(request.uri().path());
    match find(&web, request, &name).await {
        Ok(model) => Json(gemini(&model)).into_response(),
        Err(refused) => refusal(Wire::Generate, &id, &refused),
    }
}

fn named(path: &str) -> String {
    percent_decoded(path.split_once("/models/").map_or("", |(_, name)| name))
}

async fn find(web: &Web, request: Request, name: &str) -> Result<Listed, Refused> {
    let (head, _) = request.into_parts();
    let caller = caller(web, &head, "/v1/models").await?;
    web.relay.find(&caller, name).await
}

/// When models came to be is told by nobody; clients want to be told something.
const SINCE: i64 = 1_767_225_600;
const SINCE_ISO: &str = "2026-01-01T00:00:00Z";

fn openai(listed: &Listed) -> Value {
    json!({ "id": listed.model.name, "object": "model", "created": SINCE, "owned_by": listed.provider })
}

fn anthropic(listed: &Listed) -> Value {
    let name = &listed.model.name;
    json!({ "type": "model", "id": name, "display_name": name, "created_at": SINCE_ISO })
}

fn gemini(listed: &Listed) -> Value {
    let model = &listed.model;
    // What Google has for embeddings is not served here, so a model for nothing else has no method for them.
    let methods: &[&str] = match model.abilities.iter().all(|ability| *ability == Ability::Embeddings) {
        true if !model.abilities.is_empty() => &["countTokens"],
        _ => &["generateContent", "streamGenerateContent", "countTokens"],
    };
    let mut shown = json!({
        "name": format!("models/{}", model.name), "displayName": model.name, "version": "1",
        "supportedGenerationMethods": methods,
    });
    if let Some(context) = model.context {
        shown["inputTokenLimit"] = json!(context);
    }
    if let Some(most) = model.most_output.or(model.output) {
        shown["outputTokenLimit"] = json!(most);
    }
    shown
}
