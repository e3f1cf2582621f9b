//! A scripted upstream: the models' servers of the world on loopback, in all wire formats.
//!
//! What it says follows from a seed and the question, its usage is exact, and every call is kept in a ledger, so a test
//! can compare what a gateway says was spent with what was really asked for. Words in the question steer the answer:
//!
//! | in the last message | the answer |
//! |---|---|
//! | `[[words=40]]` | has so many words |
//! | `[[say:any text]]` | is this text |
//! | `[[echo]]` | is the request's messages, as JSON |
//! | `[[call:name {"a":1}]]` | calls this tool; several of them are parallel calls |
//! | `[[think]]`, `[[think=20]]` | thinks first |
//! | `[[cached=100]]` | says so many tokens came from a cache |
//! | `[[pace=10]]`, `[[wait=500]]` | comes with pauses of milliseconds between words, or before the first |
//! | `[[hold]]` | says one word, and the next ones half a minute apart |
//!
//! A tool that must be called is called with a sample of its schema, and an answer that must fit a schema is a sample of
//! it. Trouble is ordered by rules ([`Trouble`]), and `/_mock/upstream` tells and takes all this over HTTP.

mod body;
mod calls;
mod control;
mod question;
mod said;
mod trouble;
mod wires;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub use calls::{UpstreamCall, UpstreamUsage};
pub use trouble::Trouble;

use crate::server::Socket;
use calls::Calls;
use trouble::Troubles;

/// How a scripted upstream is set up. The default suits tests.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// A loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    pub seed: u64,
    /// The models that are listed. Every other name is answered too, except those that begin with `unknown`.
    pub models: Vec<String>,
    /// Keys that are accepted. Without any, every key is, and none is.
    pub keys: Vec<String>,
    /// Calls that are kept in the ledger.
    pub kept: usize,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        UpstreamConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: 0,
            models: ["mock-small", "mock-large", "mock-embedding"].map(str::to_owned).to_vec(),
            keys: Vec::new(),
            kept: 100_000,
        }
    }
}

/// A running scripted upstream. Dropping it ends all its connections.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Shared {
    config: UpstreamConfig,
    state: Mutex<State>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct State {
    calls: Calls,
    troubles: Troubles,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    /// Starts listening. An address that others could reach is refused.
    pub async fn start(config: UpstreamConfig) -> Result<Upstream> {
        ensure!(
            config.listen.ip().is_loopback(),
            "the scripted upstream listens on loopback addresses only, not on {}",
            config.listen.ip()
        );
        let listener =
            TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
        let address = listener.local_addr().context("the listener has no address")?;
        let state = State { calls: Calls::new(config.kept), troubles: Troubles::default() };
        let shared = Arc::new(Shared { config, state: Mutex::new(state), stop: CancellationToken::new() });
        tokio::spawn(accept(shared.clone(), listener));
        Ok(Upstream { shared, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:9090`, without a slash at the end. OpenAI's clients add `/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Orders trouble; rules are tried oldest first.
    pub fn add_trouble(&self, trouble: Trouble) -> Result<()> {
        self.shared.state().troubles.add(trouble)
    }

    pub fn clear_troubles(&self) {
        self.shared.state().troubles = Troubles::default();
    }

    /// Every call that was understood, oldest first.
    pub fn calls(&self) -> Vec<UpstreamCall> {
        self.shared.state().calls.all()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.shared.state().calls.clear();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let router = wires::router(shared.clone());
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
        let (stop, router) = (shared.stop.clone(), router.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = converse(router, stream) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Lets a handler end its connection with a reset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reset(Arc<AtomicBool>);

impl Reset {
    fn order(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A header of responses that are not to be sent: the connection ends instead. Never seen outside.
const DROPPED: &str = "x-mock-dropped";

async fn converse(router: Router, stream: TcpStream) {
    stream.set_nodelay(true).ok();
    let reset = Reset::default();
    let socket = Socket::new(stream, reset.0.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(reset.clone());
        let router = router.clone();
        async move {
            let response: Response<Body> = match router.oneshot(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            match response.headers().contains_key(DROPPED) {
                true => Err(std::io::Error::other("the answer was dropped on purpose")),
                false => Ok(response),
            }
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .serve_connection(TokioIo::new(socket), service);
    // Clients that go away, and the answers we break on purpose, end here.
    connection.await.ok();
}
