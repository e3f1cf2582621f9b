//! The way of an agent to hosts that an administrator has listed: a `CONNECT` at its door, and bytes both ways.
//!
//! What passes is the agent's and the host's business, and encrypted as a rule; how much may pass is ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use salon::agents::{NotReached, Pass};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What one run may move over all its tunnels, in both directions.
const MOST_BYTES: i64 = 256 << 20;
/// How long a tunnel may be silent.
const IDLE: Duration = Duration::from_secs(120);
const CONNECTING: Duration = Duration::from_secs(10);

/// What is left for a run to move.
pub(super) struct Allowance(AtomicI64);

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance(AtomicI64::new(MOST_BYTES))
    }
}

impl Allowance {
    fn take(&self, bytes: usize) -> bool {
        self.0.fetch_sub(bytes as i64, Ordering::Relaxed) > bytes as i64
    }
}

/// Answers a `CONNECT`, and moves bytes if it is granted.
pub(super) async fn open(request: Request<Incoming>, pass: &Pass, allowance: Arc<Allowance>) -> Response {
    if !proves(request.headers(), pass) {
        return (StatusCode::PROXY_AUTHENTICATION_REQUIRED, [(header::PROXY_AUTHENTICATE, "Basic")]).into_response();
    }
    let Some(authority) = request.uri().authority().map(ToString::to_string) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let reached = tokio::time::timeout(CONNECTING, pass.hosts.connect(&authority)).await;
    let host = match reached {
        Ok(Ok(host)) => host,
        Ok(Err(error @ (NotReached::NotListed | NotReached::NotPublic))) => {
            tracing::info!(turn.id = %pass.asking.turn, %error, "an agent was kept from a host");
            return (StatusCode::FORBIDDEN, error.to_string()).into_response();
        }
        Ok(Err(NotReached::Io(_))) => return StatusCode::BAD_GATEWAY.into_response(),
        Err(_) => return StatusCode::GATEWAY_TIMEOUT.into_response(),
    };
    tokio::spawn(async move {
        let Ok(agent) = hyper::upgrade::on(request).await else { return };
        let (from_agent, to_agent) = tokio::io::split(TokioIo::new(agent));
        let (from_host, to_host) = host.into_split();
        // One side that has ended ends the other: nobody waits for half an answer behind a door.
        tokio::select! {
            () = carry(from_agent, to_host, &allowance) => {}
            () = carry(from_host, to_agent, &allowance) => {}
        }
    });
    Response::new(Body::empty())
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, allowance: &Allowance) {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let Ok(Ok(read)) = tokio::time::timeout(IDLE, from.read(&mut bytes)).await else { return };
        if read == 0 {
            // What is on its way back may still come.
            to.shutdown().await.ok();
            return tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if !allowance.take(read) || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// Whether the run's key is shown, as programs show it that are given a proxy with a name and a password.
fn proves(headers: &HeaderMap, pass: &Pass) -> bool {
    let shown = headers.get(header::PROXY_AUTHORIZATION).and_then(|value| value.to_str().ok());
    shown.is_some_and(|shown| pass.is_shown_by(shown))
}
