//! The public listener: the webhook's routes, health, metrics, and the front door.
//!
//! This crate knows the path ([`salon`]) and nothing of Telegram or of bots: what it must know of them it asks through
//! [`Doors`]. [`router`] is the whole list of routes; [`serve`] is how connections are held.

pub mod error;
mod health;
mod page;
pub mod serve;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::any;
use salon::Salon;
use salon::arrive::Rejected;
use salon_core::BotId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use health::Probed;

/// What the listener asks about bots and the machine.
pub trait Doors: Send + Sync {
    /// Which bot a webhook call is for.
    fn admit(&self, bot: &str, path: &str, header: Option<&str>) -> Result<BotId, Rejected>;
    /// The same on the short route, for the first bot.
    fn admit_default(&self, path: &str, header: Option<&str>) -> Result<BotId, Rejected>;
    fn bots(&self) -> Vec<BotHealth>;
    /// The room where the data lives; `None` if that is another machine's.
    fn disk(&self) -> Option<Disk>;
}

/// A bot as the health pages show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BotHealth {
    pub id: String,
    pub name: String,
    /// `polling`, `webhook` or `off`.
    pub intake: String,
    pub receiving: bool,
    pub username: Option<String>,
    pub error: Option<String>,
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub free: u64,
    pub total: u64,
}

impl Disk {
    const LEAST: u64 = 256 * 1024 * 1024;

    /// At least 256 MiB and a twentieth of the whole.
    pub fn has_room(self) -> bool {
        self.free >= Disk::LEAST.max(self.total / 20)
    }
}

/// What the handlers share.
#[derive(Clone)]
pub struct Web {
    pub salon: Arc<Salon>,
    pub doors: Arc<dyn Doors>,
    /// Lets somebody read `/metrics` from another machine.
    pub metrics_token: Option<String>,
    /// The mock's page, where there is one.
    pub messenger: Option<String>,
    /// Cancelled once the process is ending: updates are sent back to Telegram for a moment.
    pub closing: CancellationToken,
    /// What `/readyz` saw last: asking often costs the store nothing.
    pub probed: Probed,
}

/// Every route of the public listener.
pub fn router(web: Web) -> Router {
    // Asked by another method a path looks like one that is not there. A fallback for methods would still tell, in an
    // `Allow` header, which ones it takes.
    let hidden = || any(async || error::not_found());
    Router::new()
        .route("/", hidden().get(page::front))
        .route("/assets/front.css", hidden().get(page::style))
        .route("/healthz", hidden().get(health::healthz))
        .route("/readyz", hidden().get(health::readyz))
        .route("/metrics", hidden().get(health::metrics))
        .route("/telegram/webhook/{bot}/{secret}", hidden().post(webhook::named))
        .route("/tg/{secret}", hidden().post(webhook::default))
        .fallback(async || error::not_found())
        .layer(middleware::from_fn_with_state(web.clone(), watch))
        .with_state(web)
}

/// Headers that every response carries, errors included.
const HEADERS: [(&str, &str); 8] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
    ("x-frame-options", "DENY"),
    ("cache-control", "no-store"),
];

/// No request takes longer than this to be answered; streams will have a rule of their own.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// Numbers, times, logs and dresses every request. The route's pattern is logged, never the address: that may hold a
/// secret.
async fn watch(State(web): State<Web>, request: Request, next: Next) -> Response {
    let id = web.salon.clock.id();
    let route = request.extensions().get::<MatchedPath>().map_or("-".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let began = Instant::now();
    let answered = tokio::time::timeout(REQUEST_DEADLINE, next.run(request)).await;
    let mut response = answered.unwrap_or_else(|_| error::unavailable(5));
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", value);
    }
    let duration_ms = began.elapsed().as_millis() as u64;
    tracing::debug!(request.id = id, %method, route, status = response.status().as_u16(), duration_ms, "answered");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_a_twentieth_and_at_least_256_mib() {
        let gib = 1 << 30;
        assert!(Disk { free: gib, total: 10 * gib }.has_room());
        assert!(!Disk { free: gib, total: 100 * gib }.has_room());
        assert!(!Disk { free: 200 << 20, total: gib }.has_room());
    }
}
