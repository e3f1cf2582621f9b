//! A call that carries an `Idempotency-Key` is made once: whoever asks again hears the same answer, and pays once.
//!
//! A stream is written down while it passes, so that it can be told again.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::Response;
use hyper::body::Frame;
use salon::idempotency::{Headers, LONGEST_BODY, Route, Work};
use salon::relay::{Answer, Ask, Kind, Passing, Refused, Told, Wire};

use super::{refusal, tell};
use crate::once::{self, Begin, kept, note};
use crate::{RequestId, Web};

/// Makes the call, unless it was made already. `route` is the door, whatever spelling the caller used.
pub(super) async fn answer(web: &Web, ask: Ask, route: &str, id: &RequestId) -> Response {
    let wire = ask.wire;
    // Gemini's path says part of the question.
    let model = ask.outside.model.as_deref().unwrap_or_default();
    let route = format!("{route} {model} {}", ask.outside.stream);
    let caller = ask.caller.clone();
    let place = Route { org: &caller.org, user: &caller.user, route: &route };
    let begun = once::begin(web, &ask.headers, place, &ask.body).await;
    let said = match begun {
        Ok(Begin::Free) => Ok(told(web.relay.call(ask).await, wire, id)),
        Ok(Begin::New(work)) => Ok(keep(web.relay.call(ask).await, work, wire, id).await),
        Ok(Begin::Again(replay)) => once::again(replay),
        Err(refused) => Err(refused),
    };
    said.unwrap_or_else(|refused| refusal(wire, id, &refused))
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
