//! The connections to one origin for one tenant.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, USER_AGENT,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, Uri, Version, response};
use http_body_util::Full;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use reqwest::Url;
use tokio::time::Instant;

use super::body::Source;
use super::dial::{Dialer, Stream};
use super::one::{One, Unanswered};
use super::{Ask, Body, Deadlines};
use crate::guard::Rules;
use crate::upstream::{Fault, MAX_HEADERS};

/// Idle connections that are kept.
const MOST_IDLE: usize = 1_024;
/// Answers on one HTTP/2 connection. Servers allow about a hundred, and would let the next one wait.
const MOST_SHARED: usize = 96;
/// How much of one answer, and of all on a connection, may be under way before we have read it.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// A shared connection on which nothing comes is asked whether it lives.
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_PATIENCE: Duration = Duration::from_secs(10);

const USER: &str = concat!("salon/", env!("CARGO_PKG_VERSION"));
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The connections to one origin for one tenant.
pub struct Line {
    origin: Origin,
    dialer: Arc<Dialer>,
    /// The one that was used last comes first: the others may then be closed.
    idle: Mutex<Vec<One>>,
    shared: Mutex<Vec<Shared>>,
    /// Whether the other side was seen to speak HTTP/2; then those who come together wait for one connection.
    speaks_h2: AtomicBool,
    dialling: tokio::sync::Mutex<()>,
}

/// Who is called.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) url: Url,
    pub(super) host: String,
    /// The address, if the host is written as one.
    pub(super) literal: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) guarded: Option<Arc<Rules>>,
    authority: Option<Authority>,
    /// What the `Host` header says.
    named: HeaderValue,
}

impl Origin {
    pub(super) fn of(base: &Url, guarded: Option<Arc<Rules>>) -> Origin {
        let shown = base.host_str().unwrap_or_default();
        let named = match base.port() {
            Some(port) => format!("{shown}:{port}"),
            None => shown.to_owned(),
        };
        let host = shown.trim_start_matches('[').trim_end_matches(']').to_owned();
        Origin {
            url: base.clone(),
            literal: host.parse().ok(),
            host,
            port: base.port_or_known_default().unwrap_or(443),
            tls: base.scheme() == "https",
            guarded,
            authority: named.parse().ok(),
            named: HeaderValue::from_str(&named).unwrap_or(HeaderValue::from_static("")),
        }
    }
}

/// A connection that many answers come on at once.
#[derive(Clone)]
struct Shared {
    sender: SendRequest<Full<Bytes>>,
    used: Arc<AtomicUsize>,
}

/// A place on a shared connection.
pub(super) struct Stake {
    used: Arc<AtomicUsize>,
}

impl Drop for Stake {
    fn drop(&mut self) {
        self.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request is sent on.
enum Way {
    One(One),
    Shared(SendRequest<Full<Bytes>>, Stake),
}

impl Line {
    pub(super) fn new(origin: Origin, dialer: Arc<Dialer>) -> Line {
        Line {
            origin,
            dialer,
            idle: Mutex::default(),
            shared: Mutex::default(),
            speaks_h2: AtomicBool::new(false),
            dialling: tokio::sync::Mutex::default(),
        }
    }

    /// Sends a request and waits for the head of the answer. Any status is an answer.
    ///
    /// [`Fault::Unreachable`] if there was no connection, so nothing was asked; [`Fault::Timeout`] if the head was too
    /// long in coming; [`Fault::Cut`] if the connection broke off; [`Fault::Garbled`] if the head is no HTTP or too
    /// long. Dropping the future hangs up.
    pub async fn send(self: &Arc<Self>, ask: Ask, deadlines: &Deadlines) -> Result<Response<Body>, Fault> {
        let until = deadlines.total.min(Instant::now() + deadlines.head);
        let (mut head, source) = tokio::time::timeout_at(until, self.exchange(ask, deadlines.connect))
            .await
            .map_err(|_| Fault::Timeout)??;
        let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if bytes > MAX_HEADERS as usize {
            return Err(Fault::Garbled);
        }
        strip(&mut head.headers);
        Ok(Response::from_parts(head, Body::new(source, deadlines.idle, deadlines.total)))
    }

    async fn exchange(self: &Arc<Self>, ask: Ask, patience: Duration) -> Result<(response::Parts, Source), Fault> {
        let mut request = self.request(ask);
        // A kept connection may be dead without our knowing. If it is before anything was written, the next one is new.
        for kept in [true, false] {
            let known = if kept { self.take() } else { None };
            let way = match known {
                Some(way) => way,
                None => self.connect(patience).await?,
            };
            match way {
                Way::One(mut one) => match one.ask(request).await {
                    Ok((head, rest)) => return Ok((head, Source::One(one, rest, self.clone()))),
                    Err(Unanswered::Unsent(unsent)) => request = *unsent,
                    Err(Unanswered::Failed(fault)) => return Err(fault),
                },
                Way::Shared(mut sender, stake) => {
                    if sender.ready().await.is_err() {
                        continue;
                    }
                    let body = request.body().clone();
                    match sender.try_send_request(self.absolute(request)).await {
                        Ok(response) => {
                            let (head, incoming) = response.into_parts();
                            return Ok((head, Source::Shared(incoming, stake)));
                        }
                        Err(mut failed) => match failed.take_message() {
                            Some(unsent) => request = unsent.map(|_| body),
                            None => return Err(fault_of(failed.error())),
                        },
                    }
                }
            }
        }
        Err(Fault::Unreachable)
    }

    /// A connection that was kept and seems to be alive.
    fn take(&self) -> Option<Way> {
        if let Some(way) = self.take_shared() {
            return Some(way);
        }
        loop {
            // Looked at outside the lock: the last look may close it.
            let mut one = self.idle().pop()?;
            if one.is_ready() {
                return Some(Way::One(one));
            }
        }
    }

    fn take_shared(&self) -> Option<Way> {
        if !self.speaks_h2.load(Ordering::Acquire) {
            return None;
        }
        let mut shared = self.shared();
        shared.retain(|known| !known.sender.is_closed());
        let free = shared.iter().find(|known| known.used.load(Ordering::Relaxed) < MOST_SHARED)?;
        free.used.fetch_add(1, Ordering::Relaxed);
        Some(Way::Shared(free.sender.clone(), Stake { used: free.used.clone() }))
    }

    async fn connect(&self, patience: Duration) -> Result<Way, Fault> {
        if !self.origin.tls {
            return Ok(Way::One(One::new(self.dialer.dial(&self.origin, patience).await?)));
        }
        // Once it is known that one connection serves many, those who come together do not make one each.
        let turn = if self.speaks_h2.load(Ordering::Acquire) { Some(self.dialling.lock().await) } else { None };
        if turn.is_some()
            && let Some(way) = self.take_shared()
        {
            return Ok(way);
        }
        let stream = self.dialer.dial(&self.origin, patience).await?;
        if stream.is_h2() { self.share(stream).await } else { Ok(Way::One(One::new(stream))) }
    }

    async fn share(&self, stream: Stream) -> Result<Way, Fault> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADERS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_PATIENCE);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|_| Fault::Unreachable)?;
        // Ends when the last sender and the last answer are gone, or the other side closes it.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a shared connection ended");
            }
        });
        let used = Arc::new(AtomicUsize::new(1));
        self.shared().push(Shared { sender: sender.clone(), used: used.clone() });
        self.speaks_h2.store(true, Ordering::Release);
        Ok(Way::Shared(sender, Stake { used }))
    }

    /// Takes a connection back whose answer was read to its end.
    pub(super) fn keep(&self, mut one: One) {
        if one.keeps() {
            one.idle_since = Instant::now();
            let mut idle = self.idle();
            if idle.len() < MOST_IDLE {
                idle.push(one);
            }
        }
    }

    /// Closes what nobody used for so long, or what the other side closed. Whether anything is left.
    pub(super) fn sweep(&self, keep: Duration) -> bool {
        let now = Instant::now();
        let mut idle = self.idle();
        idle.retain_mut(|one| now.duration_since(one.idle_since) < keep && one.is_ready());
        let mut shared = self.shared();
        // Shared ones keep themselves alive, and are closed with their line.
        shared.retain(|known| !known.sender.is_closed());
        !idle.is_empty() || shared.iter().any(|known| known.used.load(Ordering::Relaxed) > 0)
    }

    fn request(&self, ask: Ask) -> Request<Bytes> {
        let mut request = Request::new(ask.body);
        *request.method_mut() = ask.method;
        let path = ask.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        let mut headers = ask.headers;
        strip(&mut headers);
        for ours in [HOST, CONTENT_LENGTH, ACCEPT_ENCODING] {
            headers.remove(ours);
        }
        headers.insert(HOST, self.origin.named.clone());
        // What passes through has to be read on the way, and nothing here decompresses.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(USER));
        *request.headers_mut() = headers;
        request
    }

    /// As HTTP/2 has it: without `Host`, with scheme and authority in the address.
    fn absolute(&self, request: Request<Bytes>) -> Request<Full<Bytes>> {
        let (mut head, body) = request.into_parts();
        head.headers.remove(HOST);
        head.version = Version::HTTP_2;
        let mut uri = head.uri.into_parts();
        uri.scheme = Some(Scheme::HTTPS);
        uri.authority.clone_from(&self.origin.authority);
        head.uri = Uri::from_parts(uri).unwrap_or_default();
        Request::from_parts(head, Full::new(body))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<One>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> MutexGuard<'_, Vec<Shared>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes off what belongs to one connection and not to the message.
fn strip(headers: &mut HeaderMap) {
    if let Some(connection) = headers.remove(CONNECTION) {
        // It may name others that belong to it.
        for name in connection.to_str().unwrap_or_default().split(',') {
            headers.remove(name.trim());
        }
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// Sorts what went wrong on a shared connection. What it says is not passed on.
pub(super) fn fault_of(error: &hyper::Error) -> Fault {
    if error.is_parse() { Fault::Garbled } else { Fault::Cut }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("idle", &self.idle().len()).field("shared", &self.shared().len()).finish()
    }
}
