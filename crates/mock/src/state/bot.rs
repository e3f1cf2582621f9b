//! One bot: its token, its waiting updates, its webhook and its chats.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::chat::{Chat, ChatKind};

/// 2026-01-01, from which update ids are counted.
const EPOCH_MS: i64 = 1_767_225_600_000;
/// Ten ids a second: a new mock starts above the ids of an older one, and ids fit 31 bits until 2032.
const MS_PER_ID: i64 = 100;
/// Callback queries that are remembered.
const CALLBACKS: usize = 10_000;
/// Undelivered updates; Telegram keeps a day's worth, a mock needs an end.
pub const PENDING: usize = 100_000;

#[derive(Serialize, Deserialize)]
pub struct Bot {
    pub token: String,
    pub id: i64,
    pub created_at: i64,
    pub updated_at: i64,
    pub next_update_id: i64,
    /// Oldest first, in the order in which they were queued.
    pub pending: VecDeque<Pending>,
    /// What was queued lately, delivered or not: the page's list.
    pub log: VecDeque<LoggedUpdate>,
    pub updates_total: u64,
    pub webhook: Option<Webhook>,
    /// Empty is Telegram's default: everything but a few kinds.
    pub allowed_updates: Vec<String>,
    pub chats: BTreeMap<i64, Chat>,
    pub files: BTreeMap<u64, File>,
    pub callbacks: BTreeMap<String, Callback>,
    /// Command lists by scope and language.
    pub commands: BTreeMap<String, Value>,
    /// Until then every call is refused, after `logOut`.
    #[serde(default)]
    pub logged_out_until: i64,
    /// Webhooks this bot has had; a deleted one must not come back to life in a late delivery.
    #[serde(default)]
    pub webhook_generation: u64,
    #[serde(skip)]
    pub poll: Poll,
    #[serde(skip)]
    pub queues: HashMap<(String, i64), Queue>,
    #[serde(skip)]
    pub set_webhook_at: i64,
    #[serde(skip)]
    pub wake: Arc<Notify>,
}

/// An update that has not been acknowledged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pending {
    pub update_id: i64,
    /// `message`, `callback_query` and so on.
    pub kind: String,
    pub chat_id: Option<i64>,
    /// Updates of one queue are delivered one after the other.
    pub queue: i64,
    pub payload: Value,
    pub expires_at: i64,
    #[serde(skip)]
    pub attempts: u32,
    #[serde(skip)]
    pub last_error: Option<String>,
}

impl Pending {
    pub fn lane(&self) -> (String, i64) {
        (self.kind.clone(), self.queue)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoggedUpdate {
    pub update_id: i64,
    pub kind: String,
    pub chat_id: Option<i64>,
    pub delivery_mode: String,
    pub delivered: bool,
    pub created_at: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Webhook {
    pub url: String,
    pub secret_token: String,
    pub max_connections: i64,
    pub ip_address: String,
    pub has_certificate: bool,
    pub last_error_at: Option<i64>,
    pub last_error: Option<String>,
    /// When the endpoint first answered 410 without any success since.
    pub gone_since: Option<i64>,
    /// Which of the bot's webhooks this is, so that a delivery can tell that its own was replaced.
    pub generation: u64,
}

/// A press of a button, and what the bot said to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Callback {
    pub id: String,
    pub chat_id: i64,
    pub message_id: i64,
    pub user_id: i64,
    pub data: String,
    pub created_at: i64,
    pub update_id: i64,
    pub acknowledged: bool,
    pub answered_at: Option<i64>,
    pub text: String,
    pub show_alert: bool,
}

/// A file that a bot or a user sent. The contents lie beside the state file, not in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    pub id: u64,
    pub chat_id: i64,
    pub message_id: i64,
    pub name: String,
    pub media_type: String,
    pub size: usize,
    pub created_at: i64,
    pub width: u32,
    pub height: u32,
    #[serde(skip)]
    pub bytes: Arc<Vec<u8>>,
    #[serde(skip)]
    pub saved: bool,
    /// The contents had to make room for newer ones.
    #[serde(default)]
    pub forgotten: bool,
}

impl File {
    pub fn file_id(&self) -> String {
        format!("mockfile{:08}", self.id)
    }

    pub fn is_image(&self) -> bool {
        self.media_type.starts_with("image/")
    }

    pub fn is_html(&self) -> bool {
        self.media_type == "text/html"
    }
}

/// What is known of the last `getUpdates`, for conflicts and throttling.
#[derive(Clone, Debug, Default)]
pub struct Poll {
    /// Grows with every poll; a waiting poll that finds another number has been replaced.
    pub number: u64,
    pub ended_by_webhook: u64,
    pub offset: i64,
    pub at: i64,
    pub next_conflict_at: i64,
}

/// How the delivery of one chat's updates to the webhook stands.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    pub busy: bool,
    pub failures: u32,
    pub next_at: i64,
}

impl Bot {
    pub fn new(token: &str, now: i64) -> Bot {
        Bot {
            token: token.to_owned(),
            id: id_of(token),
            created_at: now,
            updated_at: now,
            next_update_id: first_update_id(now),
            pending: VecDeque::new(),
            log: VecDeque::new(),
            updates_total: 0,
            webhook: None,
            allowed_updates: Vec::new(),
            chats: BTreeMap::new(),
            files: BTreeMap::new(),
            callbacks: BTreeMap::new(),
            commands: BTreeMap::new(),
            logged_out_until: 0,
            webhook_generation: 0,
            poll: Poll::default(),
            queues: HashMap::new(),
            set_webhook_at: i64::MIN / 2,
            wake: Arc::default(),
        }
    }

    /// Leaves room for what a crash may have kept from the state file: an id that was used must not come again, or a
    /// poller whose offset is already beyond it would never hear of the new update.
    pub fn skip_ids(&mut self, now: i64) {
        self.next_update_id = (self.next_update_id + 10_000).max(first_update_id(now));
        for chat in self.chats.values_mut() {
            chat.last_message_id += 1_000;
        }
    }

    pub fn username(&self) -> String {
        format!("mock{}_bot", self.id)
    }

    pub fn user(&self) -> Value {
        json!({"id": self.id, "is_bot": true, "first_name": "Mock bot", "username": self.username()})
    }

    /// Whether updates of this kind reach the bot.
    pub fn wants(&self, kind: &str) -> bool {
        if self.allowed_updates.is_empty() {
            return !matches!(kind, "chat_member" | "message_reaction" | "message_reaction_count");
        }
        self.allowed_updates.iter().any(|allowed| allowed == kind)
    }

    /// Queues an update and wakes whoever delivers. `None` if the bot did not ask for its kind.
    pub fn queue(
        &mut self,
        now: i64,
        lasts_ms: i64,
        kind: &str,
        chat_id: Option<i64>,
        queue: i64,
        body: Value,
    ) -> Option<i64> {
        if !self.wants(kind) {
            return None;
        }
        let update_id = self.next_update_id;
        let payload = json!({"update_id": update_id, kind: body});
        self.push(now, lasts_ms, kind, chat_id, queue, payload);
        Some(update_id)
    }

    /// Queues a finished update as it is; its id may be anything.
    pub fn push(&mut self, now: i64, lasts_ms: i64, kind: &str, chat_id: Option<i64>, queue: i64, payload: Value) {
        let update_id = payload.get("update_id").and_then(Value::as_i64).unwrap_or(self.next_update_id);
        self.next_update_id = self.next_update_id.max(update_id.saturating_add(1));
        self.updates_total += 1;
        self.updated_at = now;
        let delivery_mode = if self.webhook.is_some() { "webhook" } else { "polling" }.to_owned();
        let kind = kind.to_owned();
        self.log.push_back(LoggedUpdate {
            update_id,
            kind: kind.clone(),
            chat_id,
            delivery_mode,
            delivered: false,
            created_at: now,
        });
        if self.log.len() > 1000 {
            self.log.pop_front();
        }
        let expires_at = now.saturating_add(lasts_ms);
        self.pending.push_back(Pending {
            update_id,
            kind,
            chat_id,
            queue,
            payload,
            expires_at,
            attempts: 0,
            last_error: None,
        });
        if self.pending.len() > PENDING {
            self.pending.pop_front();
        }
        self.wake.notify_waiters();
    }

    /// Marks an update as taken by the bot: its question can from now on be lost.
    pub fn acknowledge(&mut self, update: &Pending) {
        let id = update.update_id;
        for logged in self.log.iter_mut().rev().filter(|logged| logged.update_id == id) {
            logged.delivered = true;
        }
        let message = update.payload.get(&update.kind).unwrap_or(&Value::Null);
        match update.kind.as_str() {
            "message" => {
                let message_id = message.get("message_id").and_then(Value::as_i64);
                let chat = update.chat_id.and_then(|chat_id| self.chats.get_mut(&chat_id));
                if let Some(question) = chat.zip(message_id).and_then(|(chat, id)| chat.messages.get_mut(&id))
                    && question.update_id == Some(id)
                {
                    question.acknowledged = true;
                }
            }
            "callback_query" => {
                let callback_id = message.get("id").and_then(Value::as_str).unwrap_or_default();
                if let Some(callback) = self.callbacks.get_mut(callback_id) {
                    callback.acknowledged = true;
                }
            }
            _ => {}
        }
    }

    /// Forgets updates whose time is over.
    pub fn expire(&mut self, now: i64) {
        self.pending.retain(|update| update.expires_at > now);
    }

    /// The next callback id; the oldest callbacks are forgotten.
    pub fn add_callback(&mut self, callback: Callback) {
        if self.callbacks.len() >= CALLBACKS {
            self.callbacks.pop_first();
        }
        self.callbacks.insert(callback.id.clone(), callback);
    }

    /// The private chat with a user, made when that user first writes.
    pub fn chat(&mut self, chat_id: i64, now: i64) -> &mut Chat {
        self.chats.entry(chat_id).or_insert_with(|| {
            let kind = if chat_id > 0 { ChatKind::Private } else { ChatKind::Group };
            Chat::new(chat_id, kind, now)
        })
    }
}

fn first_update_id(now: i64) -> i64 {
    ((now - EPOCH_MS) / MS_PER_ID).max(1)
}

/// The numeric id in a token such as `123456:ABC`; other tokens get one from their hash.
fn id_of(token: &str) -> i64 {
    if let Some(id) = token.split_once(':').and_then(|(id, _)| id.parse().ok()) {
        return id;
    }
    let digest = Sha256::digest(token.as_bytes());
    6_000_000_000 + i64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bot_has_the_id_of_its_token_and_ids_follow_the_clock() {
        assert_eq!(Bot::new("123456:ABC", 0).id, 123_456);
        let first = Bot::new("mock_token_1", EPOCH_MS + 3_600_000);
        let later = Bot::new("mock_token_1", EPOCH_MS + 7_200_000);
        assert_eq!(first.id, later.id);
        assert_eq!(first.next_update_id, 36_000);
        assert_eq!(later.next_update_id, 72_000);
    }

    #[test]
    fn an_injected_id_never_makes_later_ids_smaller() {
        let mut bot = Bot::new("t", EPOCH_MS + 1_000_000);
        bot.push(0, 1, "message", None, 0, json!({"update_id": 5, "message": {}}));
        assert_eq!(bot.next_update_id, 10_000);
        bot.push(0, 1, "message", None, 0, json!({"update_id": 20_000, "message": {}}));
        assert_eq!(bot.next_update_id, 20_001);
    }
}
