//! The public listener: the webhook's routes, health, metrics, and the front door.
//!
//! This crate knows the path ([`salon`]) and nothing of Telegram or of bots: what it must know of them it asks through
//! [`Doors`]. [`router`] is the whole list of routes; [`serve`] is how connections are held.

mod api;
mod crowd;
mod described;
mod desk;
pub mod door;
pub mod error;
mod health;
mod once;
mod page;
mod relay;
pub mod serve;
mod site;
mod table;
mod watch;
mod webhook;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::Request;
use axum::http::header::InvalidHeaderValue;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::{self, Next};
use axum::response::Response;
use salon::Salon;
use salon::arrive::Rejected;
use salon::audit::anchors::Anchor;
use salon::relay::Relay;
use salon::sessions::SessionSettings;
use salon_core::{BotId, CallId};
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

pub use described::openapi;
pub use health::Probed;
pub use site::HouseSettings;
pub use table::Listed;

use table::Table;
use watch::Watch;

/// What the listener asks about bots and the machine.
#[async_trait]
pub trait Doors: Send + Sync {
    /// Which bot a webhook call is for.
    fn admit(&self, bot: &str, path: &str, header: Option<&str>) -> Result<BotId, Rejected>;
    /// The same on the short route, for the first bot.
    fn admit_default(&self, path: &str, header: Option<&str>) -> Result<BotId, Rejected>;
    fn bots(&self) -> Vec<BotHealth>;
    /// The bots as they are written down.
    fn bot_entries(&self) -> Vec<BotEntry>;
    /// Does something to a bot of this name. Answers where Telegram finds it, if it has a webhook now.
    async fn tend_bot(&self, id: &str, deed: BotDeed) -> Result<Option<String>, BotFault>;
    /// What of the audit is known beside the database.
    fn anchors(&self) -> std::io::Result<Vec<Anchor>>;
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

/// A bot as it is written down, without what nobody may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BotEntry {
    pub health: BotHealth,
    pub engine: String,
    pub owner: Option<i64>,
    pub allow: Vec<i64>,
    pub everyone: bool,
    /// The number in its token, which every message of it shows.
    pub token_hint: String,
    pub public_url: Option<String>,
    /// What agents may do for it: `ask`, `read-only` or `workspace`; `None` is what each of them may do otherwise.
    pub policy: Option<String>,
}

/// What can be done to a bot.
#[derive(Clone)]
pub enum BotDeed {
    Add(BotTerms),
    Change(BotTerms),
    Remove,
    /// It asks Telegram for what is new.
    Poll,
    /// Telegram brings what is new to this address.
    Hook(String),
    Stop,
}

/// What is said of a bot at the desk.
#[derive(Clone, Default)]
pub struct BotTerms {
    pub name: String,
    /// Another token; the one that it has stays without.
    pub token: Option<String>,
    pub engine: String,
    pub owner: Option<i64>,
    pub allow: Vec<i64>,
    pub everyone: bool,
}

/// Why nothing was done to a bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BotFault {
    BadId,
    Taken,
    Missing,
    /// Telegram does not know the token.
    BadToken,
    /// Another bot has it.
    TokenTaken,
    /// Telegram could not be asked.
    Unreachable,
    NotHttps,
    Engine,
    /// Its entry is written in a way that we do not edit.
    Entry,
    Broken,
}

impl BotFault {
    pub fn code(&self) -> &'static str {
        match self {
            BotFault::BadId => "bad_id",
            BotFault::Taken => "taken",
            BotFault::Missing => "missing",
            BotFault::BadToken => "bad_token",
            BotFault::TokenTaken => "token_taken",
            BotFault::Unreachable => "unreachable",
            BotFault::NotHttps => "not_https",
            BotFault::Engine => "engine",
            BotFault::Entry => "entry",
            BotFault::Broken => "broken",
        }
    }
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

/// What the handlers share. Every layer of every request clones it.
#[derive(Clone)]
pub struct Web(Arc<Shared>);

impl From<Shared> for Web {
    fn from(shared: Shared) -> Web {
        Web(Arc::new(shared))
    }
}

impl Deref for Web {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What is behind a [`Web`].
pub struct Shared {
    pub salon: Arc<Salon>,
    pub relay: Arc<Relay>,
    pub doors: Arc<dyn Doors>,
    /// Lets somebody read `/metrics` from another machine.
    pub metrics_token: Option<String>,
    /// The mock's page, where there is one.
    pub messenger: Option<String>,
    /// Cancelled once the process is ending: updates are sent back to Telegram for a moment.
    pub closing: CancellationToken,
    /// What `/readyz` saw last: asking often costs the store nothing.
    pub probed: Probed,
    /// How sessions behave.
    pub sessions: SessionSettings,
    /// Whose pages in a browser may read our answers: origins, such as `https://chat.example.com`.
    pub origins: Vec<HeaderValue>,
    /// How the pages behave.
    pub house: HouseSettings,
}

/// Every route of the public listener.
pub fn router(web: Web) -> Router {
    dressed(table().merge(site::routes(&web)).merge(desk::routes(&web)), web)
}

/// The routes of the LLM server's own listener.
pub fn llm_router(web: Web) -> Router {
    let table = api::llm::routes().merge(described::routes());
    dressed(table.map(|router| router.fallback(async || error::not_found())), web)
}

/// Origins as headers have them.
pub fn origins(written: &[String]) -> Result<Vec<HeaderValue>, InvalidHeaderValue> {
    written.iter().map(|origin| HeaderValue::from_str(origin)).collect()
}

fn dressed(table: Table, web: Web) -> Router {
    let (router, _) = table.into_parts();
    let router = router.method_not_allowed_fallback(error::method_not_allowed);
    let router = router.layer(Watch(web.clone()));
    match web.origins.is_empty() {
        true => router,
        false => router.layer(shared_with(&web.origins)),
    }
    .with_state(web)
}

/// Lets pages of these origins read our answers. No cookie counts here, so none is asked for.
fn shared_with(origins: &[HeaderValue]) -> CorsLayer {
    const SHOWN: [&str; 26] = [
        "x-request-id",
        "retry-after",
        "age",
        "idempotent-replayed",
        "www-authenticate",
        "x-should-retry",
        "x-salon-cost",
        "x-salon-model",
        "x-salon-key",
        "x-salon-cache",
        "x-salon-attempts",
        "x-salon-left-out",
        "x-salon-budget-limit",
        "x-salon-budget-remaining",
        "x-salon-budget-reset",
        "x-salon-budget-scope",
        "x-salon-budget-warning",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "x-ratelimit-scope-requests",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
        "x-ratelimit-scope-tokens",
        "content-disposition",
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.iter().cloned()))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(SHOWN.map(HeaderName::from_static))
        .max_age(Duration::from_secs(600))
}

/// The names of every route that programs call, at either listener. Pages are found by their links.
pub fn routes() -> Vec<Listed> {
    table().merge_names(desk::twins()).merge_names(api::llm::routes()).into_parts().1
}

fn table() -> Table {
    let quick = Table::default()
        .get("/", page::front)
        .get("/assets/front.css", page::style)
        .get("/healthz", health::healthz)
        .get("/health", health::health)
        .get("/readyz", health::readyz)
        .any("/metrics", health::metrics)
        .hidden_post("/telegram/webhook/{bot}/{secret}", webhook::named)
        .hidden_post("/tg/{secret}", webhook::default)
        .merge(described::routes())
        .map(|router| router.fallback(relay::lost).layer(middleware::from_fn(in_time)));
    quick.merge(relay::routes()).merge(api::routes())
}

/// A request's number: in the log, in the answer's headers, and in the ledger if it costs something.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(String);

impl RequestId {
    /// The number that [`Watch`] gave the request.
    fn of(request: &Request) -> RequestId {
        request.extensions().get().cloned().unwrap_or_else(|| RequestId(String::new()))
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn call(&self) -> CallId {
        CallId::new(self.0.as_str())
    }
}

/// How long a request may take whose answer is made here. A model's may take longer and has deadlines of its own.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

async fn in_time(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(REQUEST_DEADLINE, next.run(request)).await;
    answered.unwrap_or_else(|_| error::unavailable(5))
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
