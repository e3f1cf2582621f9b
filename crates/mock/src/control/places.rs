//! Where people talk: groups, doors that close to the bot, and updates that come from nowhere.

use serde::Deserialize;
use serde_json::{Value, json};

use super::people::{UPDATE_MS, chat_kind, check_token, shown, somebody};
use super::{ControlError, Controls, id, some_id};
use crate::state::{Chat, ChatKind, Message, Person, Shared, State, Topic};

/// Bars the bot from a chat, or lets it in again.
#[derive(Clone, Debug, Deserialize)]
pub struct Block {
    pub token: String,
    #[serde(deserialize_with = "id")]
    pub chat_id: i64,
    #[serde(default = "yes")]
    pub blocked: bool,
    /// `blocked`, `deactivated`, `kicked` or `left`; by default what fits the chat.
    #[serde(default)]
    pub reason: Option<String>,
}

fn yes() -> bool {
    true
}

/// A group with its people; the bot is a member.
#[derive(Clone, Debug, Deserialize)]
pub struct Group {
    pub token: String,
    #[serde(deserialize_with = "id")]
    pub chat_id: i64,
    #[serde(default)]
    pub title: String,
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    #[serde(default)]
    pub users: Vec<Person>,
    /// The supergroup this group was upgraded to.
    #[serde(default, deserialize_with = "some_id")]
    pub migrated_to: Option<i64>,
}

/// What becomes of a topic of a forum. The chat has to be a supergroup, and is a forum from its first topic on.
#[derive(Clone, Debug, Deserialize)]
pub struct TopicChange {
    pub token: String,
    #[serde(deserialize_with = "id")]
    pub chat_id: i64,
    /// Without one, a new topic is opened.
    #[serde(default, deserialize_with = "some_id")]
    pub topic: Option<i64>,
    /// What a new topic is called.
    #[serde(default)]
    pub name: Option<String>,
    /// `open`, `closed` or `deleted`.
    #[serde(default)]
    pub state: Option<String>,
}

/// A group that becomes a supergroup, which is a chat of its own.
#[derive(Clone, Debug, Deserialize)]
pub struct Migrate {
    pub token: String,
    #[serde(deserialize_with = "id")]
    pub chat_id: i64,
    /// The supergroup's id.
    #[serde(deserialize_with = "id")]
    pub to: i64,
}

/// Topics of one chat.
const TOPICS: usize = 10_000;

impl Controls {
    /// Bars the bot from a chat or lets it in again; the bot hears of it by `my_chat_member`.
    pub fn block(&self, block: Block) -> Result<(), ControlError> {
        let shared = &self.0;
        let now = shared.clock.now();
        shared.change(|state| {
            let bot = state.bots.get_mut(&block.token).ok_or_else(|| ControlError::not_found("unknown token"))?;
            let user = bot.user();
            let chat = bot.chats.get_mut(&block.chat_id).ok_or_else(|| ControlError::not_found("unknown chat"))?;
            let reason = match (block.blocked, block.reason.as_deref()) {
                (false, _) => None,
                (true, None) => Some(if chat.kind == ChatKind::Private { "blocked" } else { "kicked" }),
                (true, Some(reason @ ("blocked" | "deactivated" | "kicked" | "left"))) => Some(reason),
                (true, Some(_)) => return Err(ControlError::invalid("reason is blocked, deactivated, kicked or left")),
            };
            let was_barred = chat.barred.is_some();
            chat.barred = reason.map(str::to_owned);
            let member = |barred: bool| {
                let status = match (barred, reason) {
                    (true, Some("left")) => "left",
                    (true, _) => "kicked",
                    (false, _) => "member",
                };
                json!({"user": user, "status": status})
            };
            let from = chat.people.values().next().map(Person::user);
            let body = json!({
                "chat": chat.value(),
                "from": from.unwrap_or_else(|| somebody(1).user()),
                "date": now / 1000,
                "old_chat_member": member(was_barred),
                "new_chat_member": member(block.blocked),
            });
            if was_barred != block.blocked {
                let lasts = shared.scaled(UPDATE_MS);
                bot.queue(now, lasts, "my_chat_member", Some(block.chat_id), block.chat_id, body);
            }
            state.tell("state", &block.token, Some(block.chat_id));
            Ok(())
        })
    }

    /// Makes a group, or changes it: more people, another title, an upgrade.
    pub fn add_group(&self, group: Group) -> Result<Value, ControlError> {
        check_token(&group.token)?;
        if group.chat_id >= 0 {
            return Err(ControlError::invalid("a group's id is negative"));
        }
        let kind = chat_kind(group.kind.as_deref(), group.chat_id)?;
        let now = self.0.clock.now();
        Ok(self.0.change(|state| {
            let bot = state.bot(&group.token, now);
            let chat = bot.chats.entry(group.chat_id).or_insert_with(|| Chat::new(group.chat_id, kind, now));
            chat.kind = kind;
            if !group.title.is_empty() || chat.title.is_empty() {
                chat.title = if group.title.is_empty() { "Mock group".to_owned() } else { group.title };
            }
            chat.people.extend(group.users.into_iter().map(|person| (person.id, person)));
            chat.migrated_to = group.migrated_to;
            let value = chat.value();
            state.tell("state", &group.token, Some(group.chat_id));
            value
        }))
    }

    /// Opens, closes or deletes a topic; the bot hears of all but the deletion by a service message, as from Telegram.
    pub fn set_topic(&self, change: TopicChange) -> Result<i64, ControlError> {
        let wanted = change.state.as_deref().unwrap_or("open");
        if !matches!(wanted, "open" | "closed" | "deleted") {
            return Err(ControlError::invalid("state is open, closed or deleted"));
        }
        let now = self.0.clock.now();
        self.0.change(|state| {
            let bot = state.bots.get_mut(&change.token).ok_or_else(|| ControlError::not_found("unknown token"))?;
            let chat = bot.chats.get_mut(&change.chat_id).ok_or_else(|| ControlError::not_found("unknown chat"))?;
            if chat.kind != ChatKind::Supergroup {
                return Err(ControlError::invalid("only a supergroup has topics"));
            }
            let Some(id) = change.topic else {
                if wanted != "open" || chat.topics.len() >= TOPICS {
                    return Err(ControlError::invalid(format!("a new topic is open, and a chat has up to {TOPICS}")));
                }
                // A topic has the number of the message that opens it.
                let id = chat.last_message_id + 1;
                let name = change.name.unwrap_or_else(|| "Mock topic".to_owned());
                let told = json!({"forum_topic_created": {"name": name, "icon_color": 7_322_096}});
                chat.is_forum = true;
                chat.topics.insert(id, Topic { name, closed: false });
                self.0.announce(state, &change.token, change.chat_id, Some(id), told);
                return Ok(id);
            };
            let missing = || ControlError::not_found("there is no such topic in this chat");
            let topic = chat.topics.get_mut(&id).ok_or_else(missing)?;
            let was_closed = topic.closed;
            topic.closed = wanted == "closed";
            match wanted {
                "deleted" => {
                    chat.topics.remove(&id);
                    chat.messages.retain(|_, message| message.thread_id != Some(id));
                    chat.updated_at = now;
                    state.tell("timeline", &change.token, Some(change.chat_id));
                }
                "closed" if !was_closed => {
                    let told = json!({"forum_topic_closed": {}});
                    self.0.announce(state, &change.token, change.chat_id, Some(id), told);
                }
                "open" if was_closed => {
                    let told = json!({"forum_topic_reopened": {}});
                    self.0.announce(state, &change.token, change.chat_id, Some(id), told);
                }
                _ => {}
            }
            Ok(id)
        })
    }

    /// Makes a supergroup of a group. From now on every call that names the group is refused and told where it went, the
    /// people are in both, and the bot hears of it by a service message in each.
    pub fn migrate(&self, migrate: Migrate) -> Result<(), ControlError> {
        let Migrate { token, chat_id, to } = migrate;
        let now = self.0.clock.now();
        self.0.change(|state| {
            let bot = state.bots.get_mut(&token).ok_or_else(|| ControlError::not_found("unknown token"))?;
            let old = bot.chats.get(&chat_id).ok_or_else(|| ControlError::not_found("unknown chat"))?;
            if old.kind != ChatKind::Group || old.migrated_to.is_some() {
                return Err(ControlError::invalid("only a group becomes a supergroup, and only once"));
            }
            if to >= 0 || bot.chats.contains_key(&to) {
                return Err(ControlError::invalid("the supergroup's id is negative and not in use"));
            }
            let mut new = Chat::new(to, ChatKind::Supergroup, now);
            (new.title, new.people) = (old.title.clone(), old.people.clone());
            bot.chats.insert(to, new);
            self.0.announce(state, &token, chat_id, None, json!({"migrate_to_chat_id": to}));
            self.0.announce(state, &token, to, None, json!({"migrate_from_chat_id": chat_id}));
            if let Some(old) = state.bots.get_mut(&token).and_then(|bot| bot.chats.get_mut(&chat_id)) {
                old.migrated_to = Some(to);
            }
            Ok(())
        })
    }

    /// Queues an update exactly as it is, however broken. It gets an id only if it has none.
    pub fn inject(&self, token: &str, update: Value) -> Result<i64, ControlError> {
        check_token(token)?;
        let now = self.0.clock.now();
        let Value::Object(mut fields) = update else { return Err(ControlError::invalid("update must be an object")) };
        Ok(self.0.change(|state| {
            let bot = state.bot(token, now);
            let next = bot.next_update_id;
            let update_id = fields.entry("update_id").or_insert_with(|| json!(next)).as_i64().unwrap_or(next);
            let kind = fields.keys().find(|name| *name != "update_id").cloned().unwrap_or_default();
            let body = fields.get(&kind).unwrap_or(&Value::Null);
            let chat = body.pointer("/chat/id").or_else(|| body.pointer("/message/chat/id"));
            let chat_id = chat.and_then(Value::as_i64);
            let lasts = self.0.scaled(UPDATE_MS);
            bot.push(now, lasts, &kind, chat_id, chat_id.unwrap_or(0), Value::Object(fields));
            state.tell("state", token, chat_id);
            update_id
        }))
    }
}

impl Shared {
    /// Puts a service message into a chat that exists, and queues the update that tells the bot.
    fn announce(&self, state: &mut State, token: &str, chat_id: i64, topic: Option<i64>, told: Value) {
        let now = self.clock.now();
        let chat = state.bot(token, now).chat(chat_id, now);
        let mut message = Message::new(false, now);
        message.from = Some(chat.people.keys().next().copied().unwrap_or_else(|| {
            chat.people.insert(1, somebody(1));
            1
        }));
        (message.thread_id, message.service) = (topic, Some(told));
        let message_id = chat.add(message, self.config.messages_per_chat);
        let body = shown(state, token, chat_id, message_id);
        let lasts = self.scaled(UPDATE_MS);
        let bot = state.bot(token, now);
        let update_id = bot.queue(now, lasts, "message", Some(chat_id), chat_id, body);
        if let Some(message) = bot.chat(chat_id, now).messages.get_mut(&message_id) {
            message.update_id = update_id;
        }
        state.tell("timeline", token, Some(chat_id));
    }
}
