//! Everything the mock remembers: bots, chats, messages, updates and files.
//!
//! One [`Shared`] per server. Its [`State`] lies behind a plain mutex that is never held over an `await`; whoever
//! changes it leaves [`News`], which [`Shared::change`] passes on to the page and to the state file after the lock is
//! released. Pollers, webhook deliveries and waiting controls sleep on the bot's `wake`.

mod bot;
mod chat;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use bot::{Bot, Callback, File, LoggedUpdate, Pending, Queue, Webhook};
pub use chat::{Chat, ChatKind, Draft, Media, MediaKind, Message, Person, Topic, message_value};

use crate::MockConfig;
use crate::clock::Clock;
use crate::faults::Faults;
use crate::ledger::Ledger;
use crate::limits::Buckets;

/// What all tasks of one mock share.
pub struct Shared {
    pub config: MockConfig,
    pub clock: Clock,
    pub http: reqwest::Client,
    pub news: broadcast::Sender<News>,
    /// Wakes the task that writes the state file.
    pub dirty: Notify,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    pub base_url: OnceLock<String>,
    state: Mutex<State>,
}

impl Shared {
    pub fn new(config: MockConfig, clock: Clock, http: reqwest::Client, state: State) -> Shared {
        Shared {
            config,
            clock,
            http,
            news: broadcast::channel(1024).0,
            dirty: Notify::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            base_url: OnceLock::new(),
            state: Mutex::new(state),
        }
    }

    /// Looks at the state, or changes what nobody needs to hear of.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in one request must not take the whole mock down; every change is complete before it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells whoever watches.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, news) = {
            let mut state = self.lock();
            let result = change(&mut state);
            (result, std::mem::take(&mut state.news))
        };
        if !news.is_empty() {
            self.dirty.notify_one();
        }
        for item in news {
            // No listener is no error.
            let _ = self.news.send(item);
        }
        result
    }

    /// A wait of the protocol in this mock's time, in milliseconds.
    pub fn scaled(&self, ms: i64) -> i64 {
        self.config.scaled(ms)
    }
}

/// Something changed that a page may show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct News {
    pub kind: &'static str,
    pub token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_id: Option<i64>,
}

/// The bots, and what was seen of their calls.
#[derive(Default, Serialize, Deserialize)]
pub struct State {
    pub bots: BTreeMap<String, Bot>,
    /// Whether the state file was written at an orderly end.
    #[serde(default)]
    pub clean: bool,
    /// The next id of a file, over all bots.
    #[serde(default)]
    pub next_file: u64,
    #[serde(skip)]
    pub ledger: Ledger,
    #[serde(skip)]
    pub faults: Faults,
    #[serde(skip)]
    pub buckets: Buckets,
    #[serde(skip)]
    pub violations: Vec<Violation>,
    #[serde(skip)]
    pub news: Vec<News>,
}

/// Something a careful bot never does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub at: i64,
    pub token: String,
    /// `negative_offset`, `log_out`, `close` or `drop_pending_updates`.
    pub kind: &'static str,
    pub detail: String,
}

/// Violations that are kept; more of the same teach nothing.
const VIOLATIONS: usize = 10_000;
/// Files of one bot that are listed, with or without their contents.
const FILES: usize = 10_000;

impl State {
    /// The bot of a token, made on its first use.
    pub fn bot(&mut self, token: &str, now: i64) -> &mut Bot {
        if !self.bots.contains_key(token) {
            self.bots.insert(token.to_owned(), Bot::new(token, now));
            self.tell("state", token, None);
        }
        self.bots.get_mut(token).expect("the bot was just made")
    }

    pub fn tell(&mut self, kind: &'static str, token: &str, chat_id: Option<i64>) {
        let item = News { kind, token: token.to_owned(), chat_id };
        if self.news.last() != Some(&item) {
            self.news.push(item);
        }
    }

    pub fn violate(&mut self, now: i64, token: &str, kind: &'static str, detail: String) {
        if self.violations.len() < VIOLATIONS {
            self.violations.push(Violation { at: now, token: token.to_owned(), kind, detail });
        }
    }

    /// Keeps the files of all bots together under `limit` bytes by forgetting the oldest contents, and each bot's list
    /// of files short.
    pub fn trim_files(&mut self, limit: usize) {
        for bot in self.bots.values_mut() {
            while bot.files.len() > FILES {
                bot.files.pop_first();
            }
        }
        let mut total: usize = self.bots.values().flat_map(|bot| bot.files.values()).map(|file| file.bytes.len()).sum();
        while total > limit {
            let oldest = self.bots.values_mut().flat_map(|bot| bot.files.values_mut());
            let Some(file) = oldest.filter(|file| !file.bytes.is_empty()).min_by_key(|file| file.id) else { return };
            total -= file.bytes.len();
            file.bytes = Arc::default();
            file.forgotten = true;
        }
    }
}
