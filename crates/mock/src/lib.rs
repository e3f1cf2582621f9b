//! A Telegram of one's own: the Bot API on loopback, as strict as the real one, and hands to play the people with.
//!
//! [`Mock::start`] opens one listener with three faces:
//!
//! | path | who | module |
//! |---|---|---|
//! | `/bot<token>/<method>` | bots: the Bot API | `api`, `deliver` for webhooks |
//! | `/_mock/…` | tests and the page: what people do, what was seen, what shall go wrong | `control`, `verify`, `faults` |
//! | `/_mock/ui` | a person in front of a browser | `ui` |
//!
//! [`Controls`] does in Rust what `/_mock` does over HTTP. A test speaks through it and looks at the chat:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use salon_mock::{Fault, Mock, MockConfig, Verify};
//!
//! let mock = Mock::start(MockConfig::default()).await?;
//! // … start a bot with `mock.base_url()` …
//! mock.add_fault(Fault::new("sendMessage", "429:1").times(2))?;
//! mock.says("mock_token_1", 1001, 9001, "q 1");
//! mock.wait_for_texts("mock_token_1", 1001, |texts| texts.iter().any(|text| text == "q 1")).await;
//! assert!(mock.verify(&Verify::default())?.ok);
//! mock.shutdown().await?;
//! # Ok(()) }
//! ```
//!
//! Nothing here grows without an end: see [`MockConfig`] for the numbers. The mock is for tests and for trying things
//! out. Whoever reaches it is believed, so it listens on loopback only.

mod api;
mod catalog;
mod clock;
mod control;
mod deliver;
mod diagnostics;
mod dice;
mod entities;
mod faults;
mod ledger;
mod limits;
mod params;
mod persist;
mod server;
mod state;
mod ui;
pub mod upstream;
mod verify;

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::net::TcpListener;

pub use control::people::{Correct, Press, Say, Sent};
pub use control::places::{Block, Group, Migrate, TopicChange};
pub use control::watch::{Calls, Cleared, Timeline};
pub use control::{ControlError, Controls};
pub use entities::shown;
pub use faults::Fault;
pub use ledger::Call;
pub use limits::Pace;
pub use params::Upload;
pub use state::{News, Person, Violation};
pub use verify::{Case, Verdict, Verify};

use clock::Clock;
use limits::Buckets;
use state::{Shared, State};

/// How a mock is set up. The default suits tests: any free port, nothing kept, no pace.
#[derive(Clone, Debug)]
pub struct MockConfig {
    /// A loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The `bots.yaml` behind the page's side bar.
    pub bots_config: Option<PathBuf>,
    /// Keeps bots, chats and waiting updates over a restart.
    pub state_file: Option<PathBuf>,
    /// Where the bots' own `/healthz` and `/metrics` are, for the page's diagnostics.
    pub embedded_url: Option<String>,
    /// What an empty token in `bots.yaml` stands for.
    pub virtual_token: String,
    /// Lets `getUpdates` work beside a webhook, which the real server refuses.
    pub allow_get_updates_with_webhook: bool,
    /// Telegram's pace from the start; it can also be switched on later.
    pub limits: Option<Pace>,
    /// Every wait of the protocol is multiplied by this: retries, throttles, drafts, expiry. 0.001 makes a second a
    /// millisecond. Long polls and `delay` faults keep the time they ask for.
    pub time_scale: f64,
    /// Messages that are kept in each chat; the oldest go first.
    pub messages_per_chat: usize,
    /// Calls that are kept in the ledger.
    pub ledger_calls: usize,
    /// Bytes of files that are kept, over all bots.
    pub file_bytes: usize,
}

impl Default for MockConfig {
    fn default() -> MockConfig {
        MockConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            bots_config: None,
            state_file: None,
            embedded_url: None,
            virtual_token: "mock_token_1".to_owned(),
            allow_get_updates_with_webhook: false,
            limits: None,
            time_scale: 1.0,
            messages_per_chat: 10_000,
            ledger_calls: 100_000,
            file_bytes: 256 << 20,
        }
    }
}

impl MockConfig {
    fn scaled(&self, ms: i64) -> i64 {
        (ms as f64 * self.time_scale).round() as i64
    }
}

/// A running mock. Dropping it stops it without writing the state file; [`Mock::shutdown`] does both.
#[derive(Debug)]
pub struct Mock {
    controls: Controls,
    address: SocketAddr,
}

impl Mock {
    /// Starts listening. An address that others could reach is refused.
    pub async fn start(config: MockConfig) -> Result<Mock> {
        ensure!(
            config.listen.ip().is_loopback(),
            "the mock Telegram listens on loopback addresses only, not on {}",
            config.listen.ip()
        );
        ensure!(config.time_scale > 0.0 && config.time_scale.is_finite(), "time_scale must be above zero");
        let clock = Clock::start();
        let mut state = match &config.state_file {
            Some(path) => persist::load(path, clock.now()).await?,
            None => State::default(),
        };
        state.ledger.limit = config.ledger_calls;
        state.buckets = Buckets::new(config.limits.clone());
        let listener =
            TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
        let address = listener.local_addr().context("the listener has no address")?;
        let shared = Arc::new(Shared::new(config, clock, client()?, state));
        let _ = shared.base_url.set(format!("http://{address}"));
        persist::resume(&shared);
        if let Some(path) = shared.config.state_file.clone() {
            shared.tasks.spawn(persist::keep(shared.clone(), path));
        }
        shared.tasks.spawn(server::serve(shared.clone(), listener));
        Ok(Mock { controls: Controls(shared), address })
    }

    /// What a bot's client calls the API server, such as `http://127.0.0.1:9082`; without a slash at the end.
    pub fn base_url(&self) -> &str {
        self.controls.0.base_url.get().map_or("", String::as_str)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands to keep: they outlive this value, but what they do after the end reaches nobody.
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// Ends all connections and writes the state file.
    pub async fn shutdown(self) -> Result<()> {
        let shared = self.controls.0.clone();
        shared.stop.cancel();
        shared.tasks.close();
        shared.tasks.wait().await;
        match &shared.config.state_file {
            Some(path) => persist::save(&shared, path, true).await,
            None => Ok(()),
        }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.controls.0.stop.cancel();
    }
}

impl Deref for Mock {
    type Target = Controls;

    fn deref(&self) -> &Controls {
        &self.controls
    }
}

/// The one client of this crate, for webhooks and probes: straight to its target, and no further.
fn client() -> Result<reqwest::Client> {
    // Building a client needs a TLS provider even if only `http://` is called; a second installation is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        // Webhooks here are on this machine and speak plainly; a machine without certificates is no reason not to start.
        .tls_certs_only([])
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(60))
        // Sooner than servers close an idle connection, so that none is used while it closes. And some are opened in
        // vain, because another one came free meanwhile: Node's server waits for those when it is to end.
        .pool_idle_timeout(Duration::from_secs(2))
        .build()
        .context("cannot build the HTTP client")
}
