//! What people do: write, correct, press and send files.

use std::time::Duration;

use axum::extract::{Multipart, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, ControlError, Controls, id, result, some_id};
use crate::api::{self, token_of};
use crate::entities::{TEXT_UNITS, detect, units};
use crate::params::Upload;
use crate::state::{
    Callback, Chat, ChatKind, LoggedUpdate, Media, MediaKind, Message, Person, State as MockState, message_value,
};

/// Telegram keeps an update for a day, a press of a button for less.
pub const UPDATE_MS: i64 = 86_400_000;
const PRESS_MS: i64 = api::CALLBACK_MS;
/// Chats of one bot.
const CHATS: usize = 100_000;
/// How long `send` waits for a webhook.
const WEBHOOK_WAIT: Duration = Duration::from_secs(10);

/// A user's message. Private chats and groups are made as they are first used.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Say {
    pub token: String,
    #[serde(deserialize_with = "id")]
    pub chat_id: i64,
    #[serde(default = "mock_user", deserialize_with = "id")]
    pub user_id: i64,
    pub text: String,
    /// `private`, `group`, `supergroup` or `channel`; by default as the sign of the id says.
    #[serde(default)]
    pub chat_type: Option<String>,
    #[serde(default)]
    pub title: Option<String>,
    #[serde(default)]
    pub first_name: Option<String>,
    #[serde(default)]
    pub last_name: Option<String>,
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub language_code: Option<String>,
    #[serde(default)]
    pub is_bot: bool,
    /// The chat on whose behalf an anonymous administrator or a channel writes.
    #[serde(default)]
    pub sender_chat: Option<Value>,
    #[serde(default, deserialize_with = "some_id")]
    pub reply_to: Option<i64>,
    /// The topic of a forum in which it is written.
    #[serde(default, deserialize_with = "some_id")]
    pub topic: Option<i64>,
}

fn mock_user() -> i64 {
    10_001
}

impl Say {
    pub fn new(token: &str, chat_id: i64, user_id: i64, text: &str) -> Say {
        let (token, text) = (token.to_owned(), text.to_owned());
        Say { token, chat_id, user_id, text, ..Say::default() }
    }
}

/// What became of a user's message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Nothing if the bot did not ask for this kind of update.
    pub update_id: Option<i64>,
    pub message_id: i64,
    pub delivery_mode: &'static str,
    pub delivered_via_webhook: bool,
    pub webhook_error: Option<String>,
}

/// A user's correction of an own message.
#[derive(Clone, Debug, Deserialize)]
pub struct Correct {
    pub token: String,
    #[serde(deserialize_with = "id")]
    pub chat_id: i64,
    #[serde(deserialize_with = "id")]
    pub message_id: i64,
    pub text: String,
}

/// A press of an inline button.
#[derive(Clone, Debug, Deserialize)]
pub struct Press {
    pub token: String,
    #[serde(deserialize_with = "id")]
    pub chat_id: i64,
    #[serde(deserialize_with = "id")]
    pub message_id: i64,
    #[serde(default = "mock_user", deserialize_with = "id")]
    pub user_id: i64,
    pub callback_data: String,
}

impl Controls {
    /// Writes to a bot as a user. Returns at once; a webhook delivery goes on by itself.
    pub fn send(&self, say: Say) -> Result<Sent, ControlError> {
        let text = say.text.trim_matches(['\n', ' ']).to_owned();
        if text.is_empty() {
            return Err(ControlError::invalid("text must not be empty"));
        }
        if units(&text) > TEXT_UNITS {
            return Err(ControlError::invalid(format!("text is longer than {TEXT_UNITS} characters")));
        }
        self.post(say, text, None)
    }

    /// Writes as a user and returns the update's id.
    ///
    /// A shorthand for tests; it panics where [`Controls::send`] refuses.
    pub fn says(&self, token: &str, chat_id: i64, user_id: i64, text: &str) -> i64 {
        let sent = self.send(Say::new(token, chat_id, user_id, text)).expect("the message can be sent");
        sent.update_id.expect("the bot takes messages")
    }

    /// Sends a file as a user: a photo or a voice message if `kind` says so and the bytes agree, else a document.
    pub fn send_file(&self, say: Say, kind: &str, upload: Upload) -> Result<Sent, ControlError> {
        if upload.bytes.is_empty() {
            return Err(ControlError::invalid("the file is empty"));
        }
        let kind = match kind {
            // A picture picked without a word about its kind is a photo, as in Telegram's own clients.
            "photo" | "file" if api::measure(&upload.bytes).is_some() => MediaKind::Photo,
            "voice" => MediaKind::Voice,
            _ => MediaKind::Document,
        };
        let text = say.text.trim_matches(['\n', ' ']).to_owned();
        self.post(say, text, Some((kind, upload)))
    }

    fn post(&self, say: Say, text: String, upload: Option<(MediaKind, Upload)>) -> Result<Sent, ControlError> {
        check_token(&say.token)?;
        let kind = chat_kind(say.chat_type.as_deref(), say.chat_id)?;
        let shared = &self.0;
        let now = shared.clock.now();
        let token = say.token.clone();
        shared.change(|state| {
            enter(state, &say, kind, now)?;
            let mut message = Message::new(false, now);
            message.entities = detect(&text);
            message.text = text;
            message.from = Some(say.user_id).filter(|_| kind != ChatKind::Channel);
            message.sender_chat = say.sender_chat;
            message.reply_to = say.reply_to;
            if let Some((kind, upload)) = upload {
                let mut ctx = api::Ctx { shared, state, token: &token, now };
                let message_id = ctx.bot().chat(say.chat_id, now).last_message_id + 1;
                let file = api::keep(&mut ctx, say.chat_id, message_id, &upload);
                message.media = Some(Media { kind, file });
                state.trim_files(shared.config.file_bytes);
            }
            let bot = state.bot(&token, now);
            let chat = bot.chat(say.chat_id, now);
            if say.reply_to.is_some_and(|id| !chat.messages.contains_key(&id)) {
                return Err(ControlError::not_found("the message to reply to is not in this chat"));
            }
            match say.topic.map(|id| chat.topics.get(&id)) {
                Some(None) => return Err(ControlError::not_found("there is no such topic in this chat")),
                Some(Some(topic)) if topic.closed => return Err(ControlError::invalid("this topic is closed")),
                _ => {}
            }
            message.thread_id = say.topic.or_else(|| chat.thread_of_reply(say.reply_to));
            let message_id = chat.add(message, shared.config.messages_per_chat);
            let body = shown(state, &token, say.chat_id, message_id);
            let kind = if kind == ChatKind::Channel { "channel_post" } else { "message" };
            let bot = state.bot(&token, now);
            let update_id = bot.queue(now, shared.scaled(UPDATE_MS), kind, Some(say.chat_id), say.chat_id, body);
            if let Some(message) = bot.chat(say.chat_id, now).messages.get_mut(&message_id) {
                message.update_id = update_id;
            }
            let delivery_mode = if bot.webhook.is_some() { "webhook" } else { "polling" };
            state.tell("timeline", &token, Some(say.chat_id));
            Ok(Sent { update_id, message_id, delivery_mode, delivered_via_webhook: false, webhook_error: None })
        })
    }

    /// Waits until an update was taken by the webhook, failed once, or ten seconds are over.
    pub async fn delivered(&self, token: &str, update_id: i64) -> Result<(), String> {
        let now = self.0.clock.now();
        let wake = self.0.lock().bot(token, now).wake.clone();
        let wait = async {
            loop {
                let woken = wake.notified();
                tokio::pin!(woken);
                woken.as_mut().enable();
                {
                    let mut state = self.0.lock();
                    let bot = state.bot(token, now);
                    match bot.pending.iter().find(|update| update.update_id == update_id) {
                        Some(update) if update.attempts > 0 => {
                            return Err(update.last_error.clone().unwrap_or_default());
                        }
                        Some(_) => {}
                        None => {
                            let logged = |update: &&LoggedUpdate| update.update_id == update_id;
                            let taken = bot.log.iter().rev().find(logged).is_none_or(|update| update.delivered);
                            return if taken { Ok(()) } else { Err("the update was dropped".to_owned()) };
                        }
                    }
                }
                woken.await;
            }
        };
        match tokio::time::timeout(WEBHOOK_WAIT, wait).await {
            Ok(outcome) => outcome,
            Err(_) => Err("the webhook has not answered yet".to_owned()),
        }
    }

    /// Corrects a user's message; the bot gets an `edited_message`.
    pub fn edit(&self, edit: Correct) -> Result<Value, ControlError> {
        let text = edit.text.trim().to_owned();
        if text.is_empty() || units(&text) > TEXT_UNITS {
            return Err(ControlError::invalid(format!("text must have 1 to {TEXT_UNITS} characters")));
        }
        let shared = &self.0;
        let now = shared.clock.now();
        shared.change(|state| {
            let message = find_message(state, &edit.token, edit.chat_id, edit.message_id)?;
            if message.from_bot || message.service.is_some() {
                return Err(ControlError::invalid("this message was not written by a user"));
            }
            message.entities = detect(&text);
            message.text = text;
            message.edits += 1;
            message.updated_at = now;
            let body = shown(state, &edit.token, edit.chat_id, edit.message_id);
            let (chat, lasts) = (edit.chat_id, shared.scaled(UPDATE_MS));
            let update_id = state.bot(&edit.token, now).queue(now, lasts, "edited_message", Some(chat), chat, body);
            state.tell("timeline", &edit.token, Some(chat));
            Ok(json!({"update_id": update_id}))
        })
    }

    /// Presses a button that is there; the bot gets a `callback_query`.
    pub fn press(&self, press: Press) -> Result<Value, ControlError> {
        let shared = &self.0;
        let now = shared.clock.now();
        shared.change(|state| {
            let message = find_message(state, &press.token, press.chat_id, press.message_id)?;
            let buttons = message.reply_markup.as_ref().and_then(|markup| markup.get("inline_keyboard")?.as_array());
            let has_data = |button: &Value| button["callback_data"].as_str() == Some(press.callback_data.as_str());
            let is_there = buttons
                .is_some_and(|rows| rows.iter().flat_map(|row| row.as_array().into_iter().flatten()).any(has_data));
            if !is_there {
                return Err(ControlError::invalid("the message has no such button"));
            }
            let body = shown(state, &press.token, press.chat_id, press.message_id);
            let bot = state.bot(&press.token, now);
            let chat = bot.chat(press.chat_id, now);
            if chat.barred.is_some() {
                return Err(ControlError::invalid("the bot is barred from this chat"));
            }
            let person = chat.people.entry(press.user_id).or_insert_with(|| somebody(press.user_id));
            let user = person.user();
            let callback_id = format!("{}{:03}", bot.next_update_id, bot.callbacks.len() % 1000);
            let query = json!({
                "id": callback_id,
                "from": user,
                "message": body,
                "chat_instance": press.chat_id.to_string(),
                "data": press.callback_data,
            });
            let lasts = shared.scaled(PRESS_MS);
            let update_id = bot.queue(now, lasts, "callback_query", Some(press.chat_id), press.user_id, query);
            bot.add_callback(Callback {
                id: callback_id.clone(),
                chat_id: press.chat_id,
                message_id: press.message_id,
                user_id: press.user_id,
                data: press.callback_data.clone(),
                created_at: now,
                update_id: update_id.unwrap_or(0),
                acknowledged: false,
                answered_at: None,
                text: String::new(),
                show_alert: false,
            });
            state.tell("callback", &press.token, Some(press.chat_id));
            Ok(json!({"update_id": update_id, "callback_query_id": callback_id}))
        })
    }
}

/// `POST /_mock/upload`: a user's file as multipart, in a part called `document`, `photo`, `voice` or `file`.
pub async fn upload(State(controls): State<Controls>, mut parts: Multipart) -> Answer {
    let broken = |_| ControlError::invalid("can't read the multipart body");
    let mut fields = serde_json::Map::new();
    let mut file = None;
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_owned();
        match part.file_name().map(str::to_owned) {
            Some(file_name) => {
                let bytes = part.bytes().await.map_err(broken)?;
                file = Some((name, Upload { name: file_name, bytes }));
            }
            None => {
                let text = part.text().await.map_err(broken)?;
                fields.insert(if name == "caption" { "text".to_owned() } else { name }, json!(text));
            }
        }
    }
    let Some((part, upload)) = file else { return Err(ControlError::invalid("there is no file in the request")) };
    let kind = fields.remove("kind").and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or(part);
    fields.entry("text").or_insert_with(|| json!(""));
    let say =
        serde_json::from_value(Value::Object(fields)).map_err(|error| ControlError::invalid(error.to_string()))?;
    result(controls.send_file(say, &kind, upload)?)
}

/// Makes sure that the chat and its writer exist and may write.
fn enter(state: &mut MockState, say: &Say, kind: ChatKind, now: i64) -> Result<(), ControlError> {
    let bot = state.bot(&say.token, now);
    if bot.chats.len() >= CHATS && !bot.chats.contains_key(&say.chat_id) {
        return Err(ControlError::invalid(format!("this bot already has {CHATS} chats")));
    }
    let chat = bot.chats.entry(say.chat_id).or_insert_with(|| Chat::new(say.chat_id, kind, now));
    if chat.barred.is_some() {
        return Err(ControlError::invalid("the bot is barred from this chat; unblock it first"));
    }
    if let Some(new_id) = chat.migrated_to {
        return Err(ControlError::invalid(format!("this group became the supergroup {new_id}; write there")));
    }
    if let Some(title) = &say.title {
        chat.title.clone_from(title);
    } else if chat.title.is_empty() && chat.kind != ChatKind::Private {
        chat.title = "Mock group".to_owned();
    }
    let person = chat.people.entry(say.user_id).or_insert_with(|| somebody(say.user_id));
    if let Some(first_name) = &say.first_name {
        person.first_name.clone_from(first_name);
    }
    for (field, value) in [
        (&mut person.last_name, &say.last_name),
        (&mut person.username, &say.username),
        (&mut person.language_code, &say.language_code),
    ] {
        if value.is_some() {
            field.clone_from(value);
        }
    }
    person.is_bot = say.is_bot;
    Ok(())
}

pub fn somebody(id: i64) -> Person {
    let first_name = "MockUser".to_owned();
    Person { id, first_name, last_name: None, username: None, language_code: None, is_bot: false }
}

pub fn chat_kind(word: Option<&str>, chat_id: i64) -> Result<ChatKind, ControlError> {
    let kind = match word {
        None if chat_id > 0 => ChatKind::Private,
        None => ChatKind::Group,
        Some("private") => ChatKind::Private,
        Some("group") => ChatKind::Group,
        Some("supergroup") => ChatKind::Supergroup,
        Some("channel") => ChatKind::Channel,
        Some(_) => return Err(ControlError::invalid("chat type is private, group, supergroup or channel")),
    };
    if chat_id == 0 || (kind == ChatKind::Private) != (chat_id > 0) {
        return Err(ControlError::invalid("private chats have positive ids, all others negative ones"));
    }
    Ok(kind)
}

pub fn check_token(token: &str) -> Result<(), ControlError> {
    token_of(token).map(drop).map_err(|_| ControlError::invalid("this is no well-formed token"))
}

fn find_message<'a>(
    state: &'a mut MockState,
    token: &str,
    chat_id: i64,
    message_id: i64,
) -> Result<&'a mut Message, ControlError> {
    let chat = state.bots.get_mut(token).and_then(|bot| bot.chats.get_mut(&chat_id));
    let message = chat.and_then(|chat| chat.messages.get_mut(&message_id));
    message.ok_or_else(|| ControlError::not_found("there is no such message"))
}

pub fn shown(state: &MockState, token: &str, chat_id: i64, message_id: i64) -> Value {
    let Some(bot) = state.bots.get(token) else { return Value::Null };
    let Some(chat) = bot.chats.get(&chat_id) else { return Value::Null };
    chat.messages.get(&message_id).map_or(Value::Null, |message| message_value(bot, chat, message, true))
}
