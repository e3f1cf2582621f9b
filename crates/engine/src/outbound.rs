//! The way out of the house on the relay's hot path: requests to upstreams, and their answers as streams of bytes.
//!
//! A [`Line`] is the connections to one origin on behalf of one tenant; no two tenants share any. [`Line::send`] gives
//! the head of the answer and a [`Body`], and dropping the body hangs up on the upstream. Nothing here follows
//! redirects, knows proxies, decompresses, or asks twice: the one exception is a kept connection that turns out dead
//! before a byte was written to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, Uri};
use reqwest::Url;
use tokio::time::Instant;

use crate::guard::Rules;
use crate::upstream::Fault;

/// Where connections come from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbound {}

/// Whose address it is.
#[derive(Clone, Debug)]
pub enum Reach {
    /// The operator's: any address.
    Operator,
    /// A user's: what the guard lets through.
    Guarded(Arc<Rules>),
}

/// The connections to one origin for one tenant.
#[derive(Debug)]
pub struct Line {}

/// What is asked. The address's path and query are sent; its host is that of the line.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// How long each step may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For the connection, with TLS.
    pub connect: Duration,
    /// From the request to the head of the answer.
    pub head: Duration,
    /// Between two pieces of the answer.
    pub idle: Duration,
    /// When everything has to be over.
    pub total: Instant,
}

/// The rest of an answer, as it comes. It is also an [`http_body::Body`]. Dropping it hangs up.
#[derive(Debug)]
pub struct Body {}

impl Outbound {
    /// A machine without CA certificates is no reason not to start: only https cannot be reached then.
    pub fn new() -> Outbound {
        Outbound {}
    }

    /// The connections to `base`'s origin for `tenant`; `None` is the house itself. The same arguments give the same
    /// line, as long as somebody used it lately.
    pub fn line(&self, _base: &Url, _tenant: Option<&str>, _reach: &Reach) -> Arc<Line> {
        Arc::new(Line {})
    }
}

impl Default for Outbound {
    fn default() -> Self {
        Outbound::new()
    }
}

impl Line {
    /// Sends a request and waits for the head of the answer. Any status is an answer.
    pub async fn send(&self, _ask: Ask, _deadlines: &Deadlines) -> Result<Response<Body>, Fault> {
        Err(Fault::Unreachable)
    }
}

impl Body {
    /// The next piece; `None` at the end. [`Fault::Timeout`] if it is too long in coming, [`Fault::Cut`] if the
    /// connection broke off.
    pub async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        None
    }

    /// Sets until when the next piece has to come, in the place of the usual idle time after each piece: for whoever
    /// reads events, and does not count bytes that complete none.
    pub fn expect_by(&mut self, _until: Instant) {}

    /// The whole rest, [`Fault::Garbled`] if it is longer than `most` bytes.
    pub async fn collect(self, _most: usize) -> Result<Bytes, Fault> {
        Ok(Bytes::new())
    }

    /// The first `most` bytes of the rest, for a look at why something was refused.
    pub async fn peek(self, _most: usize) -> Bytes {
        Bytes::new()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Fault>>> {
        std::task::Poll::Ready(None)
    }
}
