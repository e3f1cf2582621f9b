//! Where people talk: groups, doors that close to the bot, and updates that come from nowhere.

use serde::Deserialize;
use serde_json::{Value, json};

use super::people::{UPDATE_MS, chat_kind, check_token, somebody};
use super::{ControlError, Controls, id, some_id};
use crate::state::{Chat, ChatKind, Person};

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
