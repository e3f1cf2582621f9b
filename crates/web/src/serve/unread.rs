//! What is left of a request's body once it is answered.
//!
//! Whoever is refused before anybody has read what they say would find the connection closed with their next request, and
//! would not have been told: on HTTP/1.1 nothing can follow a body that was not read. So what is short is read, and
//! forgotten, before the answer goes out; and otherwise the answer says that the connection ends with it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Version, header};
use axum::response::Response;
use hyper::Request;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// As much is read for nothing, and for so long.
const MOST: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(1);

/// What nobody has read of a body, after whoever had it let go of it.
#[derive(Clone, Default)]
pub(super) struct Unread(Arc<Mutex<Option<Incoming>>>);

/// A body that is handed back if it is not read to its end.
struct Lent {
    body: Option<Incoming>,
    unread: Unread,
}

/// Lends a request's body to whoever answers it. `None` if there is nothing in it, or nothing has to come back.
pub(super) fn lend(request: Request<Incoming>) -> (Request<Body>, Option<Unread>) {
    if request.version() > Version::HTTP_11 || request.body().is_end_stream() {
        return (request.map(Body::new), None);
    }
    let unread = Unread::default();
    let lent = |body| Body::new(Lent { body: Some(body), unread: unread.clone() });
    (request.map(lent), Some(unread))
}

impl Unread {
    /// Sees to it that the connection can be used after this answer, or that the answer says it cannot.
    pub(super) async fn settle(self, response: &mut Response) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(body) = left else { return };
        if !hear_out(body).await {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Reads a body for nothing. `false` if it is too long for that, or too long in coming.
async fn hear_out(mut body: Incoming) -> bool {
    if body.size_hint().lower() > MOST {
        return false;
    }
    let heard = async {
        let mut bytes = 0;
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(frame) = frame else { return false };
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            if bytes > MOST {
                return false;
            }
        }
        true
    };
    timeout(PATIENCE, heard).await.unwrap_or(false)
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        // Nothing follows upon its end, nor upon a fault.
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let left = self.body.take().filter(|body| !body.is_end_stream());
        *self.unread.0.lock().unwrap_or_else(PoisonError::into_inner) = left;
    }
}
