//! The way out of the house on the relay's hot path: requests to upstreams, and their answers as streams of bytes.
//!
//! A [`Line`] is the connections to one origin on behalf of one tenant; no two tenants share any. [`Line::send`] gives
//! the head of the answer and a [`Body`], and dropping the body hangs up on the upstream. Nothing here follows
//! redirects, knows proxies, decompresses, or asks twice: the one exception is a kept connection that turns out dead
//! before a byte was written to it.
//!
//! HTTP/1.1 connections have no task of their own. Whoever waits for an answer drives the connection that it comes on,
//! so a piece of an answer takes one wake-up and not two, and a body that is dropped takes its connection with it.
//! HTTP/2 connections are shared, and therefore have one.

mod body;
mod dial;
mod line;
mod one;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use reqwest::Url;
use tokio::time::Instant;

use crate::guard::Rules;

pub use body::Body;
pub use dial::Resolve;
pub use line::Line;

use dial::Dialer;
use line::Origin;

/// How often idle connections are looked at, and how long they are kept. Servers close theirs after 5 to 75 seconds.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
const KEEP_IDLE: Duration = Duration::from_secs(60);

/// Where connections come from. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    inner: Arc<Inner>,
}

struct Inner {
    dialer: Arc<Dialer>,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    open: HashMap<Name, Arc<Line>>,
    /// Whether somebody closes what is idle for too long.
    swept: bool,
}

/// Nothing that differs in any of these shares a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    origin: String,
    tenant: Option<String>,
    guarded: Option<Arc<Rules>>,
}

/// Whose address it is.
#[derive(Clone, Debug)]
pub enum Reach {
    /// The operator's: any address.
    Operator,
    /// A user's: what the guard lets through.
    Guarded(Arc<Rules>),
}

/// What is asked. The address's path and query are sent; its host is that of the line.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    pub uri: Uri,
    /// What belongs to a connection, or says what may be compressed, is left out.
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

impl Outbound {
    /// A machine without CA certificates is no reason not to start: only https cannot be reached then.
    pub fn new() -> Outbound {
        Outbound::with(Dialer::new())
    }

    /// The same with somebody else's answers about names, as tests have.
    pub fn resolving(resolver: Arc<dyn Resolve>) -> Outbound {
        Outbound::with(Dialer { resolver, ..Dialer::new() })
    }

    fn with(dialer: Dialer) -> Outbound {
        Outbound { inner: Arc::new(Inner { dialer: Arc::new(dialer), lines: Mutex::default() }) }
    }

    /// The connections to `base`'s origin for `tenant`; `None` is the house itself. The same arguments give the same
    /// line, as long as somebody holds it or used it lately.
    pub fn line(&self, base: &Url, tenant: Option<&str>, reach: &Reach) -> Arc<Line> {
        let guarded = match reach {
            Reach::Operator => None,
            Reach::Guarded(rules) => Some(rules.clone()),
        };
        let name = Name { origin: base.origin().ascii_serialization(), tenant: tenant.map(str::to_owned), guarded };
        let mut lines = self.lines();
        if let Some(line) = lines.open.get(&name) {
            return line.clone();
        }
        let origin = Origin::of(base, name.guarded.clone());
        let line = Arc::new(Line::new(origin, self.inner.dialer.clone()));
        lines.open.insert(name, line.clone());
        if !lines.swept
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            lines.swept = true;
            runtime.spawn(sweep(Arc::downgrade(&self.inner)));
        }
        line
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.inner.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Outbound {
    fn default() -> Self {
        Outbound::new()
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("lines", &self.lines().open.len()).finish()
    }
}

/// Closes connections that nobody used for a while, and forgets lines that nobody holds. Ends with the last holder.
async fn sweep(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        let mut lines = inner.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.open.retain(|_, line| line.sweep(KEEP_IDLE) || Arc::strong_count(line) > 1);
    }
}

#[cfg(test)]
mod tests;
