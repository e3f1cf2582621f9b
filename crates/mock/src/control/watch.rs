//! What can be seen: timelines, chats, the state, the ledger, and news as they happen.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::{Ask, ControlError, Controls, OfToken, some_id};
use crate::ledger::Call;
use crate::state::{Bot, Chat, File, Message, News};

/// Which part of a timeline.
#[derive(Clone, Debug, Deserialize)]
pub struct Timeline {
    pub token: String,
    #[serde(default, deserialize_with = "some_id")]
    pub chat_id: Option<i64>,
    #[serde(default = "two_hundred")]
    pub limit: usize,
}

fn two_hundred() -> usize {
    200
}

impl Timeline {
    pub fn of(token: &str, chat_id: i64) -> Timeline {
        Timeline { token: token.to_owned(), chat_id: Some(chat_id), limit: 1000 }
    }
}

/// Which part of the ledger.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Calls {
    pub token: Option<String>,
    #[serde(default)]
    pub after: u64,
    pub limit: Option<usize>,
}

/// What a clearing removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cleared {
    pub deleted_messages: usize,
    pub deleted_documents: usize,
    pub deleted_updates: usize,
    pub removed_files: usize,
}

impl Controls {
    /// The chats, newest first.
    pub fn threads(&self, token: Option<&str>) -> Vec<Value> {
        let state = self.0.lock();
        let bots = state.bots.values().filter(|bot| token.is_none_or(|token| bot.token == token));
        let mut chats: Vec<(&Bot, &Chat)> =
            bots.flat_map(|bot| bot.chats.values().map(move |chat| (bot, chat))).collect();
        chats.sort_by_key(|(_, chat)| std::cmp::Reverse(chat.updated_at));
        let show = |(bot, chat): (&Bot, &Chat)| {
            json!({
                "token": bot.token,
                "chat_id": chat.id,
                "message_count": chat.messages.len(),
                "last_updated_at": chat.updated_at,
                "webhook_enabled": bot.webhook.is_some(),
                "type": chat.kind.name(),
                "title": chat.title,
                "barred": chat.barred,
            })
        };
        chats.into_iter().map(show).collect()
    }

    /// A timeline: messages and updates oldest first, the last `limit` of each.
    pub fn messages(&self, asked: &Timeline) -> Result<Value, ControlError> {
        if asked.token.is_empty() || !(1..=1000).contains(&asked.limit) {
            return Err(ControlError::invalid("token must not be empty and limit is 1 to 1000"));
        }
        let state = self.0.lock();
        let Some(bot) = state.bots.get(&asked.token) else {
            return Ok(json!({"messages": [], "updates": [], "callback_answers": []}));
        };
        let is_asked = |chat_id: i64| asked.chat_id.is_none_or(|wanted| wanted == chat_id);
        let chats = || bot.chats.values().filter(|chat| is_asked(chat.id));
        let mut found: Vec<(&Chat, &Message)> = Vec::new();
        for chat in chats() {
            found.extend(chat.messages.values().rev().take(asked.limit).map(|message| (chat, message)));
        }
        found.sort_by_key(|(chat, message)| (message.created_at, chat.id, message.message_id));
        let messages = found.iter().skip(found.len().saturating_sub(asked.limit));
        let mut messages: Vec<Value> = messages.map(|(chat, message)| message_row(bot, chat, message)).collect();
        messages.extend(chats().flat_map(|chat| draft_rows(bot, chat)));
        let updates: Vec<_> =
            bot.log.iter().rev().filter(|update| update.chat_id.is_some_and(is_asked)).take(asked.limit).collect();
        let answers = bot.callbacks.values().filter(|callback| is_asked(callback.chat_id)).rev().take(20);
        Ok(json!({
            "messages": messages,
            "updates": updates.into_iter().rev().collect::<Vec<_>>(),
            "callback_answers": answers.collect::<Vec<_>>(),
        }))
    }

    /// The last text of every message the bot has in a chat, oldest first.
    pub fn bot_texts(&self, token: &str, chat_id: i64) -> Vec<String> {
        let state = self.0.lock();
        let Some(chat) = state.bots.get(token).and_then(|bot| bot.chats.get(&chat_id)) else { return Vec::new() };
        chat.messages.values().filter(|message| message.from_bot).map(|message| message.text.clone()).collect()
    }

    /// Waits for the next news of a bot, such as a message or an answer to a press.
    ///
    /// Look first, then wait: news that came before this call are not repeated.
    pub fn watch(&self) -> tokio::sync::broadcast::Receiver<News> {
        self.0.news.subscribe()
    }

    /// Waits until `wanted` holds for the texts the bot has in a chat, and returns them. It waits for ever: put a
    /// time-out around it.
    pub async fn wait_for_texts(&self, token: &str, chat_id: i64, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut news = self.watch();
        loop {
            let texts = self.bot_texts(token, chat_id);
            if wanted(&texts) {
                return texts;
            }
            if let Err(RecvError::Closed) = news.recv().await {
                return texts;
            }
        }
    }

    /// Empties a timeline. Ids go on where they were, so no poller goes deaf.
    pub fn clear(&self, token: &str, chat_id: Option<i64>) -> Result<Cleared, ControlError> {
        if token.is_empty() {
            return Err(ControlError::invalid("token must not be empty"));
        }
        Ok(self.0.change(|state| {
            let mut cleared = Cleared::default();
            let Some(bot) = state.bots.get_mut(token) else { return cleared };
            let is_asked = |id: i64| chat_id.is_none_or(|wanted| wanted == id);
            for chat in bot.chats.values_mut().filter(|chat| is_asked(chat.id)) {
                cleared.deleted_messages += chat.messages.len();
                chat.messages.clear();
                chat.drafts.clear();
            }
            let files = bot.files.len();
            bot.files.retain(|_, file| !is_asked(file.chat_id));
            cleared.deleted_documents = files - bot.files.len();
            cleared.removed_files = cleared.deleted_documents;
            let updates = bot.log.len();
            bot.log.retain(|update| !update.chat_id.is_some_and(is_asked));
            cleared.deleted_updates = updates - bot.log.len();
            bot.pending.retain(|update| !update.chat_id.is_some_and(is_asked));
            bot.callbacks.retain(|_, callback| !is_asked(callback.chat_id));
            state.tell("timeline", token, chat_id);
            cleared
        }))
    }

    /// How many updates a bot has not taken yet.
    pub fn undelivered(&self, token: &str) -> usize {
        self.0.lock().bots.get(token).map_or(0, |bot| bot.pending.len())
    }

    /// The bots with their webhooks, and how much there is.
    pub fn state(&self, token: Option<&str>) -> Value {
        let state = self.0.lock();
        let bots: Vec<&Bot> = state.bots.values().filter(|bot| token.is_none_or(|token| bot.token == token)).collect();
        let rows: Vec<Value> = bots
            .iter()
            .map(|bot| {
                let webhook = bot.webhook.as_ref();
                json!({
                    "token": bot.token,
                    "webhook_url": webhook.map(|webhook| &webhook.url),
                    "webhook_secret": webhook.map(|webhook| &webhook.secret_token).filter(|secret| !secret.is_empty()),
                    "updated_at": bot.updated_at,
                    "bot_user_id": bot.id,
                    "username": bot.username(),
                    "last_error_message": webhook.and_then(|webhook| webhook.last_error.as_ref()),
                    "commands": bot.commands.get("default///"),
                })
            })
            .collect();
        let messages: usize = bots.iter().flat_map(|bot| bot.chats.values()).map(|chat| chat.messages.len()).sum();
        json!({
            "allow_get_updates_with_webhook": self.0.config.allow_get_updates_with_webhook,
            "limits": state.buckets.pace,
            "faults": state.faults.list(),
            "state": {
                "bots": rows,
                "updates_total": bots.iter().map(|bot| bot.updates_total).sum::<u64>(),
                "updates_undelivered": bots.iter().map(|bot| bot.pending.len()).sum::<usize>(),
                "messages_total": messages,
            },
        })
    }

    /// The calls the mock saw, oldest first.
    pub fn ledger(&self, asked: &Calls) -> Value {
        let token = asked.token.as_deref().filter(|token| !token.is_empty());
        let state = self.0.lock();
        let calls = state.ledger.list(token, asked.after, asked.limit.unwrap_or(1000).clamp(1, 10_000));
        json!({"total": state.ledger.total(), "calls": calls, "violations": state.violations})
    }

    /// The calls of one bot's method, by its name in any case.
    pub fn calls(&self, token: &str, method: &str) -> Vec<Call> {
        let calls = self.0.lock().ledger.list(Some(token), 0, usize::MAX);
        calls.into_iter().filter(|call| call.method.eq_ignore_ascii_case(method)).collect()
    }
}

fn message_row(bot: &Bot, chat: &Chat, message: &Message) -> Value {
    let document = message.media.and_then(|media| bot.files.get(&media.file)).map(|file| document_row(bot, file));
    let from = message.from.and_then(|id| chat.people.get(&id));
    json!({
        "token": bot.token,
        "chat_id": chat.id,
        "message_id": message.message_id,
        "direction": if message.from_bot { "bot" } else { "user" },
        "text": message.shown_text(),
        "created_at": message.created_at,
        "updated_at": message.updated_at,
        "document": document,
        "entities": message.entities,
        "reply_markup": message.reply_markup,
        "reply_to_message_id": message.reply_to,
        "message_thread_id": message.thread_id,
        "reactions": message.reactions,
        "edited": message.edits,
        "is_draft": false,
        "media": message.media.map(|media| media.kind),
        "user_id": message.from,
        "first_name": from.map(|person| &person.first_name),
        "update_id": message.update_id,
        "acknowledged": message.acknowledged,
    })
}

/// Drafts are shown after the messages, under the number that the real message would have.
fn draft_rows(bot: &Bot, chat: &Chat) -> Vec<Value> {
    let show = |(draft_id, draft): (&i64, &crate::state::Draft)| {
        json!({
            "token": bot.token,
            "chat_id": chat.id,
            "message_id": chat.last_message_id + 1,
            "draft_id": draft_id,
            "direction": "bot",
            "text": if draft.text.is_empty() { "Thinking…" } else { &draft.text },
            "created_at": draft.created_at,
            "updated_at": draft.updated_at,
            "expires_at": draft.expires_at,
            "document": null,
            "entities": draft.entities,
            "reply_markup": null,
            "edited": 0,
            "is_draft": true,
        })
    };
    chat.drafts.iter().map(show).collect()
}

fn document_row(bot: &Bot, file: &File) -> Value {
    json!({
        "id": file.id,
        "filename": file.name,
        "media_type": file.media_type,
        "is_image": file.is_image(),
        "is_html": file.is_html(),
        "created_at": file.created_at,
        "size": file.size,
        "url": format!("/_mock/document/{}?token={}", file.id, bot.token),
    })
}

/// `GET /_mock/events`: news as server-sent events, so that nobody has to ask every second.
pub async fn events(
    State(controls): State<Controls>,
    Ask(of): Ask<OfToken>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let hello = Event::default().event("hello").data("{}");
    let token = of.token().map(str::to_owned);
    let news = stream::unfold((controls.watch(), token), |(mut news, token)| async move {
        loop {
            let event = match news.recv().await {
                Ok(item) if token.as_ref().is_none_or(|token| *token == item.token || item.token.is_empty()) => {
                    Event::default().json_data(&item).unwrap_or_default()
                }
                Ok(_) => continue,
                // A slow reader has missed some: it must look at everything again.
                Err(RecvError::Lagged(_)) => Event::default().data(r#"{"kind":"lagged"}"#),
                Err(RecvError::Closed) => return None,
            };
            return Some((Ok(event), (news, token)));
        }
    });
    let events = futures_util::StreamExt::chain(stream::iter([Ok(hello)]), news);
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}
