//! A call that carries an `Idempotency-Key` is made once: whoever asks again hears the same answer, and pays once.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use salon::idempotency::{Begun, Headers, Key, LONGEST_BODY, Replay, Route, Work};
use salon::relay::{Answer, Ask, Kind, Passing, Refused, Told, Wire};
use std::time::Duration;

use super::{refusal, tell};
use crate::{RequestId, Web};

const KEY: &str = "idempotency-key";
/// Says that an answer was given before.
const REPLAYED: &str = "idempotent-replayed";

/// Makes the call, unless it was made already. `route` is the door, whatever spelling the caller used.
pub(super) async fn answer(web: &Web, ask: Ask, route: &str, id: &RequestId) -> Response {
    let wire = ask.wire;
    let Some(key) = ask.headers.get(KEY) else { return told(web.relay.call(ask).await, wire, id) };
    let Some(key) = key.to_str().ok().and_then(Key::parse) else {
        let words = "An Idempotency-Key has 1 to 255 visible ASCII characters.";
        return refusal(wire, id, &Refused::new(Kind::InvalidRequest, words).with_code("invalid_idempotency_key"));
    };
    // Gemini's path says part of the question.
    let model = ask.outside.model.as_deref().unwrap_or_default();
    let route = format!("{route} {model} {}", ask.outside.stream);
    let caller = ask.caller.clone();
    let place = Route { org: &caller.org, user: &caller.user, route: &route };
    match web.relay.requests.begin(place, &key, &ask.body).await {
        Ok(Begun::New(work)) => keep(web.relay.call(ask).await, work, wire, id).await,
        Ok(Begun::Replay(replay)) => again(replay, wire, id),
        Ok(Begun::InProgress) => {
            let words = "A request with this Idempotency-Key is being answered.";
            let refused = Refused::new(Kind::Conflict, words).with_code("idempotency_in_progress");
            refusal(wire, id, &refused.with_retry_after(Some(Duration::from_secs(1))))
        }
        Ok(Begun::Mismatch) => {
            let words = "This Idempotency-Key was used for another request.";
            let refused = Refused::new(Kind::InvalidRequest, words).with_status(422);
            refusal(wire, id, &refused.with_code("idempotency_mismatch"))
        }
        Err(error) => {
            tracing::warn!(%error, "an Idempotency-Key cannot be looked up now");
            let words = "This cannot be looked up now. Please try again in a moment.";
            let refused = Refused::new(Kind::Overloaded, words);
            refusal(wire, id, &refused.with_retry_after(Some(Duration::from_secs(1))))
        }
    }
}

pub(super) fn told(answered: Result<Answer, Refused>, wire: Wire, id: &RequestId) -> Response {
    match answered {
        Ok(answer) => tell(answer),
        Err(refused) => refusal(wire, id, &refused),
    }
}

/// Tells an answer and keeps it.
async fn keep(answered: Result<Answer, Refused>, work: Work, wire: Wire, id: &RequestId) -> Response {
    let answer = match answered {
        Ok(answer) => answer,
        Err(refused) => {
            let response = refusal(wire, id, &refused);
            // What was refused as it is was not begun; what failed after it was begun stays failed.
            let kept = match refused.kind {
                Kind::Upstream | Kind::Timeout | Kind::Internal => {
                    let body = refused.body(wire, id.as_str());
                    work.finish(response.status().as_u16(), &kept(response.headers()), &body).await
                }
                _ => work.forget().await,
            };
            note(kept);
            return response;
        }
    };
    match answer.told {
        Told::Whole(body) => {
            note(work.finish(answer.status.as_u16(), &kept(&answer.headers), &body).await);
            tell(Answer { told: Told::Whole(body), ..answer })
        }
        Told::Stream(passing) => {
            let headers = kept(&answer.headers);
            let recorded = Recorded { passing, heard: Some(Vec::new()), end: Some((work, headers)) };
            let mut response = Response::new(Body::new(recorded));
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            response
        }
    }
}

fn again(replay: Replay, wire: Wire, id: &RequestId) -> Response {
    let Some(body) = replay.body else {
        let words = "This request was answered, but its answer was too long to be kept or was not heard to its end.";
        return refusal(wire, id, &Refused::new(Kind::Conflict, words).with_code("answer_not_kept"));
    };
    let status = StatusCode::from_u16(replay.status).unwrap_or(StatusCode::OK);
    let mut response = (status, body).into_response();
    for (name, value) in &replay.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(HeaderName::from_static(REPLAYED), HeaderValue::from_static("true"));
    response
}

fn kept(headers: &HeaderMap) -> Headers {
    let shown =
        |(name, value): (&HeaderName, &HeaderValue)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()));
    headers.iter().filter_map(shown).collect()
}

fn note(kept: Result<(), salon_store::Error>) {
    if let Err(error) = kept {
        tracing::warn!(%error, "an answer was given, but cannot be kept for those who ask again");
    }
}

/// A stream that is written down while it passes.
struct Recorded {
    passing: Box<Passing>,
    /// `None` once it is too long to be kept.
    heard: Option<Vec<u8>>,
    end: Option<(Work, Headers)>,
}

impl hyper::body::Body for Recorded {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = Pin::new(&mut *self.passing).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(heard), Some(bytes)) = (&mut self.heard, frame.data_ref()) {
                    heard.extend_from_slice(bytes);
                    if heard.len() > LONGEST_BODY {
                        self.heard = None;
                    }
                }
            }
            Poll::Ready(None) => self.write_down(true),
            _ => {}
        }
        polled
    }
}

impl Recorded {
    /// Keeps what was heard. Half an answer is not kept; that it was given, is.
    fn write_down(&mut self, whole: bool) {
        let Some((work, headers)) = self.end.take() else { return };
        let heard = self.heard.take().filter(|_| whole);
        let too_long = || vec![0; LONGEST_BODY + 1];
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            note(work.finish(200, &headers, &heard.unwrap_or_else(too_long)).await);
        });
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.write_down(false);
    }
}
