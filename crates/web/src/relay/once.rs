//! A call that carries an `Idempotency-Key` is made once: whoever asks again hears the same answer, and pays once.
//!
//! A stream is written down while it passes, so that it can be told again.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::response::Response;
use hyper::body::Frame;
use salon::idempotency::{Headers, LONGEST_BODY, Route, Work};
use salon::relay::{Answer, Ask, Kind, Refused, Told, Wire};

use super::{refusal, tell};
use crate::once::{self, Begin, kept, note};
use crate::{RequestId, Web};

/// Makes the call, unless it was made already. `route` is the door, whatever spelling the caller used.
pub(crate) async fn answer(web: &Web, ask: Ask, route: &str, id: &RequestId) -> Response {
    let wire = ask.wire;
    match begin(web, &ask, route).await {
        Ok(Kept::Free) => told(web.relay.call(ask).await, wire, id),
        Ok(Kept::New(work)) => keep(web.relay.call(ask).await, work, wire, id).await,
        Ok(Kept::Again(response)) => response,
        Err(refused) => refusal(wire, id, &refused),
    }
}

/// What is to be done about a call.
pub(crate) enum Kept {
    /// It is made as often as it comes.
    Free,
    /// What is answered is to be kept.
    New(Work),
    /// It was made, and this was answered.
    Again(Response),
}

/// Begins a call, or says why it is not made.
pub(crate) async fn begin(web: &Web, ask: &Ask, route: &str) -> Result<Kept, Refused> {
    // Gemini's path says part of the question.
    let model = ask.outside.model.as_deref().unwrap_or_default();
    let route = format!("{route} {model} {}", ask.outside.stream);
    let place = Route { org: &ask.caller.org, user: &ask.caller.user, route: &route };
    match once::begin(web, &ask.headers, place, &ask.body).await? {
        Begin::Free => Ok(Kept::Free),
        Begin::New(work) => Ok(Kept::New(work)),
        Begin::Again(replay) => once::again(replay).map(Kept::Again),
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
    match answered {
        Ok(Answer { told: Told::Stream(passing), status, headers }) => {
            let body = recorded(*passing, work, &headers);
            let mut response = Response::new(body);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            response
        }
        answered => keep_whole(answered, work, wire, id, tell).await,
    }
}

/// Tells an answer that is no stream, as `dress` has it, and keeps that; or tells why there is none.
pub(crate) async fn keep_whole(
    answered: Result<Answer, Refused>,
    work: Work,
    wire: Wire,
    id: &RequestId,
    dress: impl FnOnce(Answer) -> Response,
) -> Response {
    let answer = match answered {
        Ok(answer) => answer,
        Err(refused) => {
            let response = refusal(wire, id, &refused);
            // What was refused as it is was not begun; what failed after it was begun stays failed.
            note(match refused.kind {
                Kind::Upstream | Kind::Timeout | Kind::Internal => {
                    let body = refused.body(wire, id.as_str());
                    work.finish(response.status().as_u16(), &kept(response.headers()), &body).await
                }
                _ => work.forget().await,
            });
            return response;
        }
    };
    let (head, body) = dress(answer).into_parts();
    // It is in memory already.
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    note(work.finish(head.status.as_u16(), &kept(&head.headers), &body).await);
    Response::from_parts(head, Body::from(body))
}

/// A stream that is kept once it was heard to its end.
pub(crate) fn recorded<B: Streamed>(body: B, work: Work, headers: &HeaderMap) -> Body {
    Body::new(Recorded { passing: body, heard: Some(Vec::new()), end: Some((work, kept(headers))) })
}

/// What can be recorded: a body that cannot fail.
pub(crate) trait Streamed: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static {}
impl<B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static> Streamed for B {}

/// A stream that is written down while it passes.
struct Recorded<B> {
    passing: B,
    /// `None` once it is too long to be kept.
    heard: Option<Vec<u8>>,
    end: Option<(Work, Headers)>,
}

impl<B: Streamed> hyper::body::Body for Recorded<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = Pin::new(&mut self.passing).poll_frame(context);
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

impl<B> Recorded<B> {
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

impl<B> Drop for Recorded<B> {
    fn drop(&mut self) {
        self.write_down(false);
    }
}
