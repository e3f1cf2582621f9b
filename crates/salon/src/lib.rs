//! Say, run, follow: the straight path, and the worker that keeps it going.
//!
//! ```text
//!  an update ──► arrive ──► job ──► (bots) ──► say ──► turn + run job
//!                                                          │ claimed
//!                                                          ▼
//!                  reader ◄── follow ◄── log of events ◄── run ──► engine
//! ```
//!
//! - [`arrive`] makes an update durable and dedupes it.
//! - [`say`] numbers a turn and queues its run, inside the caller's transaction.
//! - [`run`] asks the engine and writes the log; [`stop`] asks it to be silent.
//! - [`follow`] reads a log, first what is there and then live.
//! - [`worker`] claims jobs, keeps leases, retries, and gives up; [`job`] is what a kind of job must tell it.
//! - [`clock`] is the one place that reads the time.

pub mod access;
pub mod agents;
pub mod arrive;
pub mod audit;
pub mod catalog;
pub mod clock;
pub mod crowd;
pub mod desk;
pub mod engines;
pub mod follow;
pub mod hub;
pub mod idempotency;
pub mod job;
pub mod keys;
pub mod kms;
pub mod ledger;
pub mod logins;
pub mod metrics;
pub mod panels;
pub mod people;
pub mod plans;
pub mod relay;
pub mod replies;
pub mod revision;
pub mod run;
pub mod say;
mod seal;
pub mod sessions;
pub mod shelf;
pub mod steer;
pub mod stop;
pub mod troubles;
pub mod usual;
pub mod vault;
pub mod worker;
pub mod youtube;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use salon_core::brief::Window;
use salon_store::{PEOPLE, Signal, Store, Worker};

pub use access::{Access, BadCredential, Caller, Credential, Denied};
pub use agents::Agents;
pub use audit::{Action, Actor, Deed, Pen};
pub use clock::Clock;
use crowd::Crowd;
pub use engines::{Configured, Engines};
pub use job::{Job, Lease, Next, Work};
pub use keys::{Keys, MasterKeys};
use logins::backoff::Backoff;
use logins::oidc::SignOn;
use logins::password::Passwords;

pub use say::{Said, Utterance, say};
pub use vault::Vault;
pub use worker::{Crew, Queue};

/// Streams of events that one person may read at once, and all of them together.
const STREAMS_OF_ONE: usize = 8;
const STREAMS: usize = 10_000;

/// Updates of people, in the order of their chats.
pub const QUEUE_CHAT: &str = "chat";
/// Engines at work.
pub const QUEUE_RUN: &str = "run";
/// What is said to people.
pub const QUEUE_OUT: &str = "out";
/// Long polling.
pub const QUEUE_POLL: &str = "poll";

pub const KIND_UPDATE: &str = "update";
pub const KIND_RUN: &str = "run";
pub const KIND_STEER: &str = "steer";

/// How patient the machinery is.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub lease: Duration,
    /// How long a claim loop sleeps when nothing wakes it.
    pub poll_interval: Duration,
    /// How often a job is tried before it is given up.
    pub attempts: i64,
    pub longest_backoff: Duration,
    /// How long one answer may take altogether.
    pub run_deadline: Duration,
    /// How long a running engine is waited for when the process ends.
    pub drain: Duration,
    pub window: Window,
    /// What every engine is told about how to behave.
    pub instruction: String,
    /// Where people find our pages, if the configuration says so.
    pub public_url: Option<String>,
}

impl Settings {
    /// Where a page of ours is, to be put behind its name: ` (https://salon.example.org/start)`, or nothing.
    pub fn place_of(&self, page: &str) -> String {
        self.public_url.as_ref().map_or_else(String::new, |url| format!(" ({url}{page})"))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            lease: Duration::from_secs(15),
            poll_interval: Duration::from_millis(250),
            attempts: 8,
            longest_backoff: Duration::from_secs(300),
            run_deadline: Duration::from_secs(15 * 60),
            drain: Duration::from_secs(10),
            window: Window::default(),
            instruction: String::new(),
            public_url: None,
        }
    }
}

/// Everything that the path needs. One per process.
pub struct Salon {
    pub store: Store,
    pub clock: Clock,
    pub hub: Arc<hub::Hub>,
    pub metrics: Arc<metrics::Metrics>,
    pub engines: Engines,
    pub keys: Keys,
    /// Lets callers in.
    pub access: Arc<Access>,
    /// Secrets that we must show to others.
    pub vault: Arc<Vault>,
    pub settings: Settings,
    /// Who we are among the processes that share the database.
    pub worker: Worker,
    /// Where agents work, if they do so here.
    pub agents: OnceLock<Arc<Agents>>,
    pub passwords: Passwords,
    /// Holds up who guesses them.
    pub backoff: Backoff,
    /// Where people may sign on, if anywhere.
    pub sign_on: OnceLock<SignOn>,
    /// Streams of events that people read.
    pub streams: Crowd,
    /// What those who run the place should hear of.
    pub troubles: troubles::Troubles,
}

impl Salon {
    /// `worker` names this process: a restart under the same lasting name takes up at once what it left.
    pub fn new(
        store: Store,
        clock: Clock,
        engines: Engines,
        keys: Keys,
        settings: Settings,
        worker: Worker,
    ) -> Arc<Salon> {
        let hub = Arc::new(hub::Hub::default());
        let metrics = Arc::new(metrics::Metrics::default());
        let revision = Arc::new(revision::Revision::new(&store));
        let (ears, people) = (hub.clone(), revision.clone());
        store.listen(move |signal| match signal {
            Signal::Revision(name) if name == PEOPLE => people.raise(),
            signal => ears.hear(signal),
        });
        let parts = || (store.clone(), clock.clone(), keys.clone(), metrics.clone(), revision.clone());
        let (access, vault) = (Arc::new(Access::new(parts())), Arc::new(Vault::new(parts())));
        Arc::new(Salon {
            store,
            clock,
            hub,
            metrics,
            engines,
            keys,
            access,
            vault,
            settings,
            worker,
            agents: OnceLock::new(),
            passwords: Passwords::default(),
            backoff: Backoff::default(),
            sign_on: OnceLock::new(),
            streams: Crowd::new(STREAMS_OF_ONE, STREAMS),
            troubles: troubles::Troubles::default(),
        })
    }
}
