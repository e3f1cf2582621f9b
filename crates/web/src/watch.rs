//! What happens around every request: it is numbered and logged, and its answer gets the headers that all answers have.
//!
//! It is a service of its own, and no `middleware::from_fn`, because that makes copies of the route and its future on the
//! heap for every request, and this stands around every call of the relay.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::Response;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::{RequestId, Web};

/// Headers that every response carries, errors included.
const HEADERS: [(HeaderName, HeaderValue); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), microphone=(), geolocation=()"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Numbers, logs and dresses every request.
#[derive(Clone)]
pub(crate) struct Watch(pub Web);

impl<S> Layer<S> for Watch {
    type Service = Watched<S>;

    fn layer(&self, route: S) -> Watched<S> {
        Watched { web: self.0.clone(), route }
    }
}

#[derive(Clone)]
pub(crate) struct Watched<S> {
    web: Web,
    route: S,
}

impl<S> Service<Request> for Watched<S>
where
    S: Service<Request, Response = Response>,
    S::Future: Unpin,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Watching<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.route.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Watching<S::Future> {
        let id = self.web.salon.clock.id();
        request.extensions_mut().insert(RequestId(id.clone()));
        let route = request.extensions().get::<MatchedPath>().cloned();
        let (method, began) = (request.method().clone(), Instant::now());
        Watching { answering: self.route.call(request), id, route, method, began }
    }
}

/// A request that is being answered.
pub(crate) struct Watching<F> {
    answering: F,
    id: String,
    /// Its pattern is logged, never the address: that may hold a secret.
    route: Option<MatchedPath>,
    method: Method,
    began: Instant,
}

impl<F: Future<Output = Result<Response, E>> + Unpin, E> Future for Watching<F> {
    type Output = Result<Response, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(Pin::new(&mut self.answering).poll(cx))?;
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.entry(name).or_insert(value);
        }
        let Watching { id, route, method, began, .. } = &*self;
        if let Ok(value) = HeaderValue::from_str(id) {
            headers.insert(HeaderName::from_static("x-request-id"), value);
        }
        let duration_ms = began.elapsed().as_millis() as u64;
        let route = route.as_ref().map_or("-", MatchedPath::as_str);
        tracing::debug!(request.id = id, %method, route, status = response.status().as_u16(), duration_ms, "answered");
        Poll::Ready(Ok(response))
    }
}
