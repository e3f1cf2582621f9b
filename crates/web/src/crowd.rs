//! Places in a crowd: an answer has one until the last of it is told, or its reader is gone.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use salon::access::Caller;
use salon::crowd::{Full, Place};
use salon::relay::{Kind, Refused};

use crate::Web;

const COME_AGAIN: Duration = Duration::from_secs(1);

/// A place for a call, before anything of its body is read.
pub(crate) fn call(web: &Web, caller: &Caller) -> Result<Place, Refused> {
    web.relay.calls.enter(&caller.user).map_err(|full| {
        let words = match full {
            Full::Person(most) => {
                format!("You have {most} calls in flight here, and no more are taken. Wait for an answer first.")
            }
            Full::Everybody(_) => "There are too many calls in flight here. Please ask again in a moment.".to_owned(),
        };
        Refused::new(Kind::RateLimit, words).with_code("too_many_calls").with_retry_after(Some(COME_AGAIN))
    })
}

/// A place for a stream of events.
pub(crate) fn stream(web: &Web, caller: &Caller) -> Result<Place, Refused> {
    web.salon.streams.enter(&caller.user).map_err(|full| {
        let words = match full {
            Full::Person(most) => format!("You read {most} streams here, and no more are opened. Close one first."),
            Full::Everybody(_) => "There are too many streams open here. Please come again in a moment.".to_owned(),
        };
        Refused::new(Kind::RateLimit, words).with_code("too_many_streams").with_retry_after(Some(COME_AGAIN))
    })
}

/// An answer that keeps its place until it is told.
pub(crate) fn keeping(place: Place, response: Response) -> Response {
    response.map(|body| Body::new(Placed { body, _place: place }))
}

struct Placed {
    body: Body,
    _place: Place,
}

impl HttpBody for Placed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
