//! `/_mock/upstream`: what was asked, and what shall go wrong.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::Shared;
use super::trouble::{Trouble, Troubles};

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_mock/upstream/calls", get(calls).delete(forget))
        .route("/_mock/upstream/troubles", get(troubles).post(add).delete(clear))
}

async fn calls(State(shared): State<Arc<Shared>>) -> Response {
    let calls = shared.state().calls.all();
    let mut by_key = std::collections::BTreeMap::<&str, u64>::new();
    for call in &calls {
        *by_key.entry(call.key.as_deref().unwrap_or("")).or_default() += 1;
    }
    Json(json!({ "ok": true, "result": { "calls": calls, "by_key": by_key } })).into_response()
}

async fn forget(State(shared): State<Arc<Shared>>) -> Response {
    shared.state().calls.clear();
    Json(json!({ "ok": true, "result": {} })).into_response()
}

async fn troubles(State(shared): State<Arc<Shared>>) -> Response {
    let list = shared.state().troubles.list();
    let list: Vec<_> = list.into_iter().map(|(rule, made)| json!({ "rule": rule, "made": made })).collect();
    Json(json!({ "ok": true, "result": list })).into_response()
}

async fn add(State(shared): State<Arc<Shared>>, Json(trouble): Json<Trouble>) -> Response {
    match shared.state().troubles.add(trouble) {
        Ok(()) => Json(json!({ "ok": true, "result": {} })).into_response(),
        Err(why) => {
            (StatusCode::BAD_REQUEST, Json(json!({ "ok": false, "description": why.to_string() }))).into_response()
        }
    }
}

async fn clear(State(shared): State<Arc<Shared>>) -> Response {
    shared.state().troubles = Troubles::default();
    Json(json!({ "ok": true, "result": {} })).into_response()
}
