//! One chat with its people, messages and drafts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::bot::{Bot, File};
use crate::entities::Entity;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chat {
    pub id: i64,
    pub kind: ChatKind,
    pub title: String,
    pub people: BTreeMap<i64, Person>,
    pub messages: BTreeMap<i64, Message>,
    /// Never goes back, not even when the timeline is cleared.
    pub last_message_id: i64,
    #[serde(skip)]
    pub drafts: BTreeMap<i64, Draft>,
    /// Why the bot may not write here: `blocked`, `kicked` or `deactivated`.
    pub barred: Option<String>,
    pub migrated_to: Option<i64>,
    /// The topics of a forum by the number of the message that opened each. A chat with a topic stays a forum.
    #[serde(default)]
    pub topics: BTreeMap<i64, Topic>,
    #[serde(default)]
    pub is_forum: bool,
    /// Messages that had to make room: whoever counts answers must know.
    pub trimmed: u64,
    pub updated_at: i64,
}

/// A topic of a forum. One that was deleted is gone with its messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    pub name: String,
    pub closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatKind {
    Private,
    Group,
    Supergroup,
    Channel,
}

impl ChatKind {
    pub fn name(self) -> &'static str {
        match self {
            ChatKind::Private => "private",
            ChatKind::Group => "group",
            ChatKind::Supergroup => "supergroup",
            ChatKind::Channel => "channel",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub id: i64,
    pub first_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language_code: Option<String>,
    #[serde(default)]
    pub is_bot: bool,
}

impl Person {
    pub fn user(&self) -> Value {
        let mut user = json!({"id": self.id, "is_bot": self.is_bot, "first_name": self.first_name});
        for (name, value) in
            [("last_name", &self.last_name), ("username", &self.username), ("language_code", &self.language_code)]
        {
            if let Some(value) = value {
                user[name] = json!(value);
            }
        }
        user
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    pub message_id: i64,
    pub from_bot: bool,
    /// Who wrote it; the bot itself has none.
    pub from: Option<i64>,
    pub sender_chat: Option<Value>,
    pub created_at: i64,
    pub updated_at: i64,
    pub edits: u32,
    /// The text, or the caption if there is a file.
    pub text: String,
    pub entities: Vec<Entity>,
    pub reply_markup: Option<Value>,
    pub reply_to: Option<i64>,
    pub thread_id: Option<i64>,
    pub media: Option<Media>,
    pub reactions: Vec<Value>,
    /// The update that carried a user's message to the bot.
    pub update_id: Option<i64>,
    pub acknowledged: bool,
    /// What happened, if nobody said anything: fields of Telegram's message such as `migrate_to_chat_id`.
    #[serde(default)]
    pub service: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    pub kind: MediaKind,
    pub file: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    Document,
    Photo,
    Voice,
}

#[derive(Clone, Debug)]
pub struct Draft {
    pub text: String,
    pub entities: Vec<Entity>,
    pub created_at: i64,
    pub updated_at: i64,
    pub expires_at: i64,
}

impl Message {
    pub fn new(from_bot: bool, now: i64) -> Message {
        Message {
            message_id: 0,
            from_bot,
            from: None,
            sender_chat: None,
            created_at: now,
            updated_at: now,
            edits: 0,
            text: String::new(),
            entities: Vec::new(),
            reply_markup: None,
            reply_to: None,
            thread_id: None,
            media: None,
            reactions: Vec::new(),
            update_id: None,
            acknowledged: false,
            service: None,
        }
    }

    /// What the page shows of a message that nobody wrote.
    pub fn shown_text(&self) -> String {
        let Some(service) = &self.service else { return self.text.clone() };
        let name = |topic: &Value| topic["name"].as_str().unwrap_or("?").to_owned();
        match service.as_object().and_then(|service| service.iter().next()) {
            Some((kind, topic)) if kind == "forum_topic_created" => format!("The topic {} was opened.", name(topic)),
            Some((kind, _)) if kind == "forum_topic_closed" => "The topic was closed.".to_owned(),
            Some((kind, _)) if kind == "forum_topic_reopened" => "The topic was opened again.".to_owned(),
            Some((kind, chat)) if kind == "migrate_to_chat_id" => format!("This group became the supergroup {chat}."),
            Some((kind, chat)) if kind == "migrate_from_chat_id" => format!("This supergroup was the group {chat}."),
            _ => service.to_string(),
        }
    }
}

impl Chat {
    pub fn new(id: i64, kind: ChatKind, now: i64) -> Chat {
        Chat {
            id,
            kind,
            title: String::new(),
            people: BTreeMap::new(),
            messages: BTreeMap::new(),
            last_message_id: 0,
            drafts: BTreeMap::new(),
            barred: None,
            migrated_to: None,
            topics: BTreeMap::new(),
            is_forum: false,
            trimmed: 0,
            updated_at: now,
        }
    }

    /// The chat as an update or an answer names it.
    pub fn value(&self) -> Value {
        let mut chat = json!({"id": self.id, "type": self.kind.name()});
        match self.kind {
            ChatKind::Private => {
                // A private chat is named after its person; test chats may number the two differently.
                if let Some(person) = self.people.get(&self.id).or_else(|| self.people.values().next()) {
                    chat["first_name"] = json!(person.first_name);
                    for (name, value) in [("last_name", &person.last_name), ("username", &person.username)] {
                        if let Some(value) = value {
                            chat[name] = json!(value);
                        }
                    }
                }
            }
            _ => chat["title"] = json!(self.title),
        }
        if self.is_forum {
            chat["is_forum"] = json!(true);
        }
        chat
    }

    /// The thread that an answer to `reply_to` belongs to: its topic, or in an ordinary supergroup the thread of replies
    /// that Telegram counts from the first of them.
    pub fn thread_of_reply(&self, reply_to: Option<i64>) -> Option<i64> {
        let replied = self.messages.get(&reply_to?)?;
        let counted = (self.kind == ChatKind::Supergroup && !self.is_forum).then_some(replied.message_id);
        replied.thread_id.or(counted)
    }

    /// Adds a message under the next id and lets the oldest go if there are more than `limit`.
    pub fn add(&mut self, mut message: Message, limit: usize) -> i64 {
        self.last_message_id += 1;
        message.message_id = self.last_message_id;
        self.updated_at = message.created_at;
        self.messages.insert(message.message_id, message);
        while self.messages.len() > limit.max(1) {
            self.messages.pop_first();
            self.trimmed += 1;
        }
        self.last_message_id
    }
}

/// A message in Telegram's shape.
pub fn message_value(bot: &Bot, chat: &Chat, message: &Message, with_reply: bool) -> Value {
    let mut value = Map::new();
    let mut put = |name: &str, item: Value| {
        value.insert(name.to_owned(), item);
    };
    put("message_id", json!(message.message_id));
    if let Some(thread_id) = message.thread_id {
        put("message_thread_id", json!(thread_id));
        if chat.is_forum {
            put("is_topic_message", json!(true));
        }
    }
    if message.from_bot {
        put("from", bot.user());
    } else if let Some(person) = message.from.and_then(|id| chat.people.get(&id)) {
        put("from", person.user());
    }
    if let Some(sender_chat) = &message.sender_chat {
        put("sender_chat", sender_chat.clone());
    }
    put("date", json!(message.created_at / 1000));
    put("chat", chat.value());
    if message.edits > 0 {
        put("edit_date", json!(message.updated_at / 1000));
    }
    if with_reply && let Some(replied) = message.reply_to.and_then(|id| chat.messages.get(&id)) {
        put("reply_to_message", message_value(bot, chat, replied, false));
    }
    let (text, entities) = if message.media.is_some() { ("caption", "caption_entities") } else { ("text", "entities") };
    if let Some((media, file)) = message.media.and_then(|media| Some((media, bot.files.get(&media.file)?))) {
        let document = file_value(bot, file);
        match media.kind {
            MediaKind::Photo => {
                let mut size = document.clone();
                size["width"] = json!(file.width);
                size["height"] = json!(file.height);
                put("photo", json!([size]));
                // Programs written against the first mock look for the photo here.
                if message.from_bot {
                    put("document", document);
                }
            }
            MediaKind::Document => put("document", document),
            MediaKind::Voice => {
                let mut voice = document;
                voice["duration"] = json!(1);
                put("voice", voice);
            }
        }
    }
    if let Some(Value::Object(service)) = &message.service {
        value.extend(service.clone());
        return Value::Object(value);
    }
    let mut put = |name: &str, item: Value| {
        value.insert(name.to_owned(), item);
    };
    if !message.text.is_empty() || message.media.is_none() {
        put(text, json!(message.text));
    }
    if !message.entities.is_empty() {
        put(entities, json!(message.entities));
    }
    let inline = message.reply_markup.as_ref().filter(|markup| markup.get("inline_keyboard").is_some());
    if let Some(markup) = inline {
        put("reply_markup", markup.clone());
    }
    Value::Object(value)
}

fn file_value(bot: &Bot, file: &File) -> Value {
    json!({
        "file_name": file.name,
        "mime_type": file.media_type,
        "file_id": file.file_id(),
        "file_unique_id": format!("mock-{}-{}", bot.token, file.message_id),
        "file_size": file.size,
    })
}
