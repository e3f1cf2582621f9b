//! What carries an `Idempotency-Key` is done once: calls of the relay and requests of our own API alike.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use salon::idempotency::{Begun, Headers, Key, Replay, Route, Work};
use salon::relay::{Kind, Refused};
use std::time::Duration;

use crate::Web;

const KEY: &str = "idempotency-key";
/// Says that an answer was given before.
const REPLAYED: &str = "idempotent-replayed";

/// What is to be done about a request.
pub(crate) enum Begin {
    /// It has no key: it is done as often as it comes.
    Free,
    /// Its answer is to be kept.
    New(Work),
    /// It was done, and this was answered.
    Again(Replay),
}

/// Begins a request, or says why it is not done. `place` is the door, whatever spelling the caller used.
pub(crate) async fn begin(web: &Web, headers: &HeaderMap, place: Route<'_>, body: &[u8]) -> Result<Begin, Refused> {
    let Some(key) = headers.get(KEY) else { return Ok(Begin::Free) };
    let Some(key) = key.to_str().ok().and_then(Key::parse) else {
        let words = "An Idempotency-Key has 1 to 255 visible ASCII characters.";
        return Err(Refused::new(Kind::InvalidRequest, words).with_code("invalid_idempotency_key"));
    };
    let soon = Some(Duration::from_secs(1));
    match web.relay.requests.begin(place, &key, body).await {
        Ok(Begun::New(work)) => Ok(Begin::New(work)),
        Ok(Begun::Replay(replay)) => Ok(Begin::Again(replay)),
        Ok(Begun::InProgress) => {
            let words = "A request with this Idempotency-Key is being answered.";
            let refused = Refused::new(Kind::Conflict, words).with_code("idempotency_in_progress");
            Err(refused.with_retry_after(soon))
        }
        Ok(Begun::Mismatch) => {
            let words = "This Idempotency-Key was used for another request.";
            Err(Refused::new(Kind::InvalidRequest, words).with_status(422).with_code("idempotency_mismatch"))
        }
        Err(error) => {
            tracing::warn!(%error, "an Idempotency-Key cannot be looked up now");
            let words = "This cannot be looked up now. Please try again in a moment.";
            Err(Refused::new(Kind::Overloaded, words).with_retry_after(soon))
        }
    }
}

/// Marks an answer that was given before.
pub(crate) fn replayed(mut response: Response) -> Response {
    response.headers_mut().insert(HeaderName::from_static(REPLAYED), HeaderValue::from_static("true"));
    response
}

/// Says again what was answered.
pub(crate) fn again(replay: Replay) -> Result<Response, Refused> {
    let Some(body) = replay.body else {
        let words = "This request was answered, but its answer was too long to be kept or was not heard to its end.";
        return Err(Refused::new(Kind::Conflict, words).with_code("answer_not_kept"));
    };
    let status = StatusCode::from_u16(replay.status).unwrap_or(StatusCode::OK);
    let mut response = (status, body).into_response();
    for (name, value) in &replay.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(replayed(response))
}

/// The headers of an answer, as they are kept.
pub(crate) fn kept(headers: &HeaderMap) -> Headers {
    let shown =
        |(name, value): (&HeaderName, &HeaderValue)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()));
    headers.iter().filter_map(shown).collect()
}

pub(crate) fn note(kept: Result<(), salon_store::Error>) {
    if let Err(error) = kept {
        tracing::warn!(%error, "an answer was given, but cannot be kept for those who ask again");
    }
}
