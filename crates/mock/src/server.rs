//! Connections: who may speak to the mock, and how an answer can fail to come.
//!
//! The loop is our own because faults need the connection itself: an answer that is dropped must not look like an
//! error page, and a reset must be a reset.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::api::{self, Answer};
use crate::control::refusal;
use crate::state::Shared;

/// Accepts connections until the mock stops.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let router = crate::control::router(shared.clone());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = shared.stop.cancelled() => return,
        };
        let (shared, router) = (shared.clone(), router.clone());
        let tasks = shared.tasks.clone();
        tasks.spawn(async move {
            let stop = shared.stop.clone();
            tokio::select! {
                () = converse(shared, router, stream) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Serves the requests of one connection.
async fn converse(shared: Arc<Shared>, router: Router, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let socket = Socket::new(stream, reset.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, router, reset) = (shared.clone(), router.clone(), reset.clone());
        async move { answer(&shared, router, &reset, request.map(Body::new)).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .serve_connection(TokioIo::new(socket), service);
    // Clients that go away, and the answers we swallow on purpose, end here.
    let _ = connection.await;
}

/// The answer is not sent; hyper closes the connection.
#[derive(Debug, Error)]
#[error("the answer was dropped on purpose")]
struct Dropped;

async fn answer(
    shared: &Arc<Shared>,
    router: Router,
    reset: &AtomicBool,
    request: Request<Body>,
) -> Result<Response<Body>, Dropped> {
    if let Err(why) = guard(request.headers(), request.method(), request.uri().path()) {
        return Ok(refusal(StatusCode::FORBIDDEN, why));
    }
    let path = request.uri().path();
    if path.starts_with("/bot") || path.starts_with("/file/bot") {
        return match api::serve(shared, request).await {
            Answer::Reply(response) => Ok(response),
            Answer::Drop => Err(Dropped),
            Answer::Reset => {
                reset.store(true, Ordering::Relaxed);
                Err(Dropped)
            }
        };
    }
    match router.oneshot(request).await {
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}

/// Refuses what a web page of somebody else could send: a name that was rebound to this machine, or a foreign origin.
fn guard(headers: &HeaderMap, method: &Method, path: &str) -> Result<(), &'static str> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST);
    if host.is_some_and(|host| !is_loopback(host)) {
        return Err("this server answers only to its loopback names");
    }
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if !changes && !path.starts_with("/bot") {
        return Ok(());
    }
    if let Some(origin) = text(header::ORIGIN)
        && Some(origin.strip_prefix("http://").unwrap_or(origin)) != host
    {
        return Err("requests from other origins are refused");
    }
    match text(header::HeaderName::from_static("sec-fetch-site")) {
        Some("cross-site" | "same-site") => Err("requests from other sites are refused"),
        _ => Ok(()),
    }
}

/// Whether a `Host` header names this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A connection that can end with a reset instead of a farewell.
pub(crate) struct Socket {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, reset: Arc<AtomicBool>) -> Socket {
        Socket { stream, reset }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Relaxed) {
            // A shutdown would send FIN before the reset.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&'static str, &str)], method: Method, path: &str) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        guard(&headers, &method, path).is_ok()
    }

    #[test]
    fn only_loopback_names_are_answered() {
        for host in ["127.0.0.1:9082", "localhost", "LOCALHOST:80", "[::1]:9082", "127.3.4.5"] {
            assert!(check(&[("host", host)], Method::GET, "/"), "{host}");
        }
        for host in ["evil.example:9082", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0:9082", ""] {
            assert!(!check(&[("host", host)], Method::GET, "/"), "{host}");
        }
    }

    #[test]
    fn a_foreign_origin_changes_nothing() {
        let host = ("host", "127.0.0.1:9082");
        assert!(check(&[host], Method::POST, "/_mock/send"));
        assert!(check(&[host, ("origin", "http://127.0.0.1:9082")], Method::POST, "/_mock/send"));
        assert!(!check(&[host, ("origin", "http://127.0.0.1:9999")], Method::POST, "/_mock/send"));
        assert!(!check(&[host, ("origin", "https://evil.example")], Method::DELETE, "/_mock/faults"));
        assert!(!check(&[host, ("origin", "null")], Method::POST, "/_mock/send"));
        assert!(!check(&[host, ("sec-fetch-site", "cross-site")], Method::GET, "/bot1:a/sendMessage"));
        assert!(check(&[host, ("origin", "https://evil.example")], Method::GET, "/_mock/ui"));
    }
}
