//! The LLM server's own routes, for clients that know that server: they have a listener of their own, because its paths
//! mean other things elsewhere.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use salon::access::Caller;
use salon::catalog::{Ability, Kind as UpstreamKind, Model};
use salon::relay::{Ask, Outside, Told, Wire};
use salon_core::people::Role;
use serde_json::{Value, json};

use super::form::Form;
use super::stateless::usual_model;
use super::{No, caller, long_bytes, split, told};
use crate::relay::once::{self, Kept};
use crate::table::Table;
use crate::{RequestId, Web, crowd, relay};

/// The name that the original gives its model of embeddings.
const EMBEDDER: &str = "jhgan/ko-sroberta-multitask";

pub(crate) fn routes() -> Table {
    Table::default()
        .get("/", front)
        .get("/health", health)
        .post("/chat", chat)
        .post("/chat/stream", stream)
        .post("/embeddings", embeddings)
}

async fn front(State(web): State<Web>) -> Response {
    let (loaded, embeds) = loaded(&web).await;
    Json(json!({
        "service": "salon",
        "status": "running",
        "model_loaded": loaded,
        "embedding_model_loaded": embeds,
        "endpoints": {
            "chat": "/chat", "chat_stream": "/chat/stream", "embeddings": "/embeddings", "health": "/health",
            "docs": "/docs",
        },
    }))
    .into_response()
}

async fn health(State(web): State<Web>) -> Response {
    let (loaded, embeds) = loaded(&web).await;
    Json(json!({
        "status": "healthy",
        "model_loaded": loaded,
        "embedding_model_loaded": embeds,
        "embedding_dimensions": null,
        "device": null,
        "cuda_available": false,
    }))
    .into_response()
}

/// Whether somebody answers here, and whether somebody makes embeddings where nobody is named.
async fn loaded(web: &Web) -> (bool, bool) {
    let loaded = web.serves().await;
    (loaded, loaded && matches!(embedder(web, None).await, Ok(Some(_))))
}

async fn chat(State(web): State<Web>, request: Request) -> Response {
    ask(web, request, "/chat", false).await
}

async fn stream(State(web): State<Web>, request: Request) -> Response {
    ask(web, request, "/chat/stream", true).await
}

async fn ask(web: Web, request: Request, route: &'static str, stream: bool) -> Response {
    let (id, head, body) = split(request);
    let said = async {
        let caller = caller(&web, &head, "/chat", Role::User).await?;
        let place = crowd::call(&web, &caller)?;
        let body = long_bytes(&web, &head, body).await?;
        let mut form = Form::read(&body)?;
        form.needed_messages("messages");
        form.count("max_new_tokens", 1);
        form.number("temperature");
        form.flag("do_sample");
        let mut fields = form.finish()?;
        fields.retain(|_, value| !value.is_null());
        let outside = Outside { model: Some(usual_model(&web).await?), stream, events: true };
        let (call, headers) = (relay::number_of(&head.headers, &id), relay::for_us(&head.headers));
        let body = Value::Object(fields).to_string().into();
        let ask = Ask { id: call, wire: Wire::Midm, caller, outside, headers, body, turn: None, share: None };
        Ok(crowd::keeping(place, relay::once::answer(&web, ask, route, &id).await))
    };
    told(said.await, &id)
}

async fn embeddings(State(web): State<Web>, request: Request) -> Response {
    let (id, head, body) = split(request);
    let said = async {
        let caller = caller(&web, &head, "/embeddings", Role::User).await?;
        let _place = crowd::call(&web, &caller)?;
        let body = long_bytes(&web, &head, body).await?;
        let mut form = Form::read(&body)?;
        let texts = form.needed_texts("texts");
        let wanted = form.text("model");
        form.finish()?;
        embedded(&web, &head, caller, texts, wanted, &id).await
    };
    told(said.await, &id)
}

async fn embedded(
    web: &Web,
    head: &Parts,
    caller: Arc<Caller>,
    texts: Vec<String>,
    wanted: Option<String>,
    id: &RequestId,
) -> Result<Response, No> {
    let model = embedder(web, wanted.as_deref()).await?.ok_or_else(|| {
        let words =
            "No model of embeddings is configured here; name one that `GET /v1/models` lists, or set EMBEDDING_MODEL.";
        No::Said(StatusCode::NOT_FOUND, words.to_owned())
    })?;
    let shown = wanted.unwrap_or_else(|| if model.ends_with(EMBEDDER) { EMBEDDER.to_owned() } else { model.clone() });
    let count = texts.len();
    let body = json!({ "model": model, "input": texts }).to_string().into();
    let outside = Outside::default();
    let ask = Ask {
        id: relay::number_of(&head.headers, id),
        wire: Wire::Embeddings,
        caller,
        outside,
        headers: relay::for_us(&head.headers),
        body,
        turn: None,
        share: None,
    };
    let dress = move |answer: salon::relay::Answer| {
        let Told::Whole(bytes) = &answer.told else { return StatusCode::BAD_GATEWAY.into_response() };
        let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
        if answer.status != StatusCode::OK {
            let detail = body["error"]["message"].as_str().unwrap_or("The embeddings could not be made.");
            return (answer.status, answer.headers, Json(json!({ "detail": detail }))).into_response();
        }
        let vectors: Vec<&Value> = body["data"].as_array().into_iter().flatten().map(|one| &one["embedding"]).collect();
        let dimensions = vectors.first().and_then(|vector| vector.as_array()).map_or(0, Vec::len);
        let told = json!({
            "embeddings": vectors,
            "model": shown,
            "dimensions": dimensions,
            "usage": { "total_tokens": body["usage"]["total_tokens"], "total_texts": count },
        });
        (answer.headers, Body::from(told.to_string())).into_response()
    };
    match once::begin(web, &ask, "/embeddings").await? {
        Kept::Again(response) => Ok(response),
        Kept::Free => Ok(dress(web.relay.call(ask).await?)),
        Kept::New(work) => Ok(once::keep_whole(web.relay.call(ask).await, work, Wire::Midm, id, dress).await),
    }
}

/// Who makes the embeddings: the model of that name if there is one, else the configured one, else the usual model's
/// server, which has one of its own if it is a server of this kind, or takes any name. Other servers are asked for what
/// the catalog knows of them.
async fn embedder(web: &Web, wanted: Option<&str>) -> Result<Option<String>, No> {
    let snapshot = web.relay.catalog.snapshot();
    if let Some(wanted) = wanted.filter(|wanted| snapshot.knows(wanted)) {
        return Ok(Some(wanted.to_owned()));
    }
    if let Some(model) = &web.sessions.embedder {
        return Ok(Some(model.clone()));
    }
    let places = web.places_of(&usual_model(web).await?);
    if let Some(own) = places.iter().find(|upstream| upstream.kind == UpstreamKind::Midm || upstream.catch_all) {
        return Ok(Some(format!("{}:{EMBEDDER}", own.name)));
    }
    let is_theirs = |model: &&Arc<Model>| {
        let there = model.deployments.iter().any(|place| places.iter().any(|own| own.name == place.upstream.name));
        there && model.orgs.is_empty() && model.abilities.contains(&Ability::Embeddings)
    };
    Ok(snapshot.models().find(is_theirs).map(|model| model.name.clone()))
}
