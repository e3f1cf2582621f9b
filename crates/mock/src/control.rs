//! The other side of the conversation: what people, tests and the messenger page do.
//!
//! [`Controls`] has a function for everything; the routes under `/_mock` only read a request, call the function and
//! wrap its result as `{"ok":true,"result":…}`.

pub mod people;
pub mod places;
mod trouble;
pub mod watch;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use bytes::Bytes;
use serde::de::{DeserializeOwned, Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::state::Shared;
use crate::{catalog, diagnostics, ui};

/// The largest request to a control: a file that a user sends.
const BODY_BYTES: usize = 52 << 20;

/// Hands on a running mock. Clones control the same mock.
#[derive(Clone)]
pub struct Controls(pub(crate) Arc<Shared>);

impl std::fmt::Debug for Controls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controls").field("base_url", &self.0.base_url.get()).finish()
    }
}

/// A control that could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{description}")]
pub struct ControlError {
    pub status: u16,
    pub description: String,
}

impl ControlError {
    pub fn invalid(description: impl Into<String>) -> ControlError {
        ControlError { status: 400, description: description.into() }
    }

    pub fn not_found(description: impl Into<String>) -> ControlError {
        ControlError { status: 404, description: description.into() }
    }
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response<Body> {
        refusal(StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST), &self.description)
    }
}

/// An error of the control API.
pub fn refusal(status: StatusCode, description: &str) -> Response<Body> {
    (status, no_store(), axum::Json(json!({"ok": false, "description": description}))).into_response()
}

pub type Answer = Result<Response<Body>, ControlError>;

/// A result of the control API.
pub fn result(value: impl Serialize) -> Answer {
    Ok((no_store(), axum::Json(json!({"ok": true, "result": value}))).into_response())
}

fn no_store() -> [(header::HeaderName, HeaderValue); 1] {
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]
}

/// Reads a JSON body; an empty one stands for an object without fields.
pub fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, ControlError> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| ControlError::invalid(error.to_string()))
}

/// A query string, with errors in the control API's shape.
pub struct Ask<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Ask<T> {
    type Rejection = ControlError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Ask<T>, ControlError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(asked)) => Ok(Ask(asked)),
            Err(rejection) => Err(ControlError::invalid(rejection.body_text())),
        }
    }
}

/// Everything that is not the Bot API.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(ui::home))
        .route("/healthz", get(async || axum::Json(json!({"ok": true}))))
        .route("/favicon.ico", get(ui::icon))
        .route("/favicon.svg", get(ui::icon))
        .route("/_mock/ui", get(ui::page))
        .route("/_mock/ui/", get(ui::page))
        .route("/_mock/ui/{name}", get(ui::asset))
        .route("/_mock/document/{id}", get(ui::document))
        .route("/_mock/send", post(send))
        .route("/_mock/edit", post(edit))
        .route("/_mock/press", post(press))
        .route("/_mock/upload", post(people::upload))
        .route("/_mock/block", post(block))
        .route("/_mock/groups", post(groups))
        .route("/_mock/topics", post(topics))
        .route("/_mock/migrate", post(migrate))
        .route("/_mock/inject", post(inject))
        .route("/_mock/threads", get(threads))
        .route("/_mock/messages", get(messages))
        .route("/_mock/messages/clear", post(clear))
        .route("/_mock/state", get(state))
        .route("/_mock/ledger", get(ledger))
        .route("/_mock/verify", get(verify))
        .route("/_mock/events", get(watch::events))
        .route("/_mock/rate_limit", post(rate_limit))
        .route("/_mock/fault", post(add_fault))
        .route("/_mock/faults", get(faults))
        .route("/_mock/faults", delete(clear_faults))
        .route("/_mock/limits", post(set_limits))
        .route("/_mock/bot_catalog", get(catalog::list))
        .route("/_mock/bot_catalog/add", post(catalog::add))
        .route("/_mock/bot_catalog/delete", post(catalog::delete))
        .route("/_mock/bot_diagnostics", get(diagnostics::bot))
        .method_not_allowed_fallback(async || refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"))
        .fallback(async || refusal(StatusCode::NOT_FOUND, "Not Found"))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(Controls(shared))
}

async fn send(State(controls): State<Controls>, body: Bytes) -> Answer {
    let say = read::<people::Say>(&body)?;
    let token = say.token.clone();
    let mut sent = controls.send(say)?;
    if sent.delivery_mode == "webhook"
        && let Some(update_id) = sent.update_id
    {
        let outcome = controls.delivered(&token, update_id).await;
        sent.delivered_via_webhook = outcome.is_ok();
        sent.webhook_error = outcome.err();
    }
    result(sent)
}

async fn edit(State(controls): State<Controls>, body: Bytes) -> Answer {
    result(controls.edit(read(&body)?)?)
}

async fn press(State(controls): State<Controls>, body: Bytes) -> Answer {
    result(controls.press(read(&body)?)?)
}

async fn block(State(controls): State<Controls>, body: Bytes) -> Answer {
    controls.block(read(&body)?)?;
    result(true)
}

async fn groups(State(controls): State<Controls>, body: Bytes) -> Answer {
    result(controls.add_group(read(&body)?)?)
}

async fn topics(State(controls): State<Controls>, body: Bytes) -> Answer {
    result(json!({"topic": controls.set_topic(read(&body)?)?}))
}

async fn migrate(State(controls): State<Controls>, body: Bytes) -> Answer {
    controls.migrate(read(&body)?)?;
    result(true)
}

async fn inject(State(controls): State<Controls>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Inject {
        token: String,
        update: Value,
    }
    let Inject { token, update } = read(&body)?;
    result(json!({"update_id": controls.inject(&token, update)?}))
}

#[derive(Deserialize)]
pub struct OfToken {
    token: Option<String>,
}

impl OfToken {
    fn token(&self) -> Option<&str> {
        self.token.as_deref().filter(|token| !token.is_empty())
    }
}

async fn threads(State(controls): State<Controls>, Ask(of): Ask<OfToken>) -> Answer {
    result(controls.threads(of.token()))
}

async fn messages(State(controls): State<Controls>, Ask(asked): Ask<watch::Timeline>) -> Answer {
    result(controls.messages(&asked)?)
}

async fn clear(State(controls): State<Controls>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Clear {
        token: String,
        #[serde(default, deserialize_with = "some_id")]
        chat_id: Option<i64>,
    }
    let Clear { token, chat_id } = read(&body)?;
    result(controls.clear(&token, chat_id)?)
}

async fn state(State(controls): State<Controls>, Ask(of): Ask<OfToken>) -> Answer {
    result(controls.state(of.token()))
}

async fn ledger(State(controls): State<Controls>, Ask(asked): Ask<watch::Calls>) -> Answer {
    result(controls.ledger(&asked))
}

async fn verify(State(controls): State<Controls>, Ask(asked): Ask<crate::verify::Verify>) -> Answer {
    result(controls.verify(&asked)?)
}

async fn rate_limit(State(controls): State<Controls>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct RateLimit {
        token: String,
        method: String,
        count: u64,
        #[serde(default = "one")]
        retry_after: u64,
    }
    fn one() -> u64 {
        1
    }
    let asked: RateLimit = read(&body)?;
    controls.rate_limit(&asked.token, &asked.method, asked.count, asked.retry_after)?;
    result(true)
}

async fn add_fault(State(controls): State<Controls>, body: Bytes) -> Answer {
    result(json!({"id": controls.add_fault(read(&body)?)?}))
}

async fn faults(State(controls): State<Controls>) -> Answer {
    result(controls.faults())
}

async fn clear_faults(State(controls): State<Controls>) -> Answer {
    result(json!({"removed": controls.clear_faults()}))
}

async fn set_limits(State(controls): State<Controls>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Limits {
        enabled: bool,
        #[serde(flatten)]
        pace: serde_json::Map<String, Value>,
    }
    let Limits { enabled, pace } = read(&body)?;
    let pace = serde_json::from_value(Value::Object(pace)).map_err(|error| ControlError::invalid(error.to_string()))?;
    controls.set_limits(enabled.then_some(pace));
    result(true)
}

/// Reads an id that may be a number or its text.
pub fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_any(IdVisitor)
}

pub fn some_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    struct Optional;
    impl<'de> Visitor<'de> for Optional {
        type Value = Option<i64>;
        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("an id or nothing")
        }
        fn visit_none<E: Error>(self) -> Result<Option<i64>, E> {
            Ok(None)
        }
        fn visit_unit<E: Error>(self) -> Result<Option<i64>, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<i64>, D::Error> {
            deserializer.deserialize_any(self)
        }
        fn visit_i64<E: Error>(self, number: i64) -> Result<Option<i64>, E> {
            Ok(Some(number))
        }
        fn visit_u64<E: Error>(self, number: u64) -> Result<Option<i64>, E> {
            IdVisitor.visit_u64(number).map(Some)
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<Option<i64>, E> {
            if text.is_empty() { Ok(None) } else { IdVisitor.visit_str(text).map(Some) }
        }
    }
    deserializer.deserialize_option(Optional)
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an id")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<i64, E> {
        Ok(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<i64, E> {
        i64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<i64, E> {
        text.trim().parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}
