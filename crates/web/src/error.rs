//! Errors as the bridge's family spells them: `{"detail": …}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

pub fn plain(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({ "detail": detail }))).into_response()
}

/// The one answer for whatever is not there, or not for you.
pub fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "Not Found")
}

/// The answer for whoever asks something that is there in a way in which it is not asked. Its `Allow` says in which ways.
pub async fn method_not_allowed() -> Response {
    plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// Come again in `seconds`.
pub fn unavailable(seconds: u64) -> Response {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "not available just now");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// An *oops*: the details are for the log, the caller gets a number to ask about.
pub fn fault(error: &dyn std::fmt::Display) -> Response {
    let id = format!("{:08x}", rand_id());
    tracing::error!(fault.id = id, %error, "a request failed");
    plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("something broke; its number is {id}"))
}

fn rand_id() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // Randomly keyed by the standard library; the number only has to be found again in a log.
    RandomState::new().build_hasher().finish() as u32
}
