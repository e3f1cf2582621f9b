//! Dialogs: conversations with one engine at a time.

use crate::{BotId, ChatId, DialogId, Time, UserId};

/// Where a dialog takes place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    Telegram {
        bot: BotId,
        chat: ChatId,
    },
    /// A program asks, and reads the answer itself.
    Api,
}

/// What a bot shows of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum View {
    /// One clean answer, edited while it grows.
    #[default]
    Answer,
    /// The bridge's line protocol, one line an event, for debugging and for programs that match it.
    Events,
}

impl View {
    pub fn parse(text: &str) -> Option<View> {
        match text {
            "answer" => Some(View::Answer),
            "events" => Some(View::Events),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            View::Answer => "answer",
            View::Events => "events",
        }
    }
}

/// A conversation: its engine, the engine's thread, and what is remembered of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    pub id: DialogId,
    pub channel: Channel,
    /// Whose it is. Dialogs that began in a chat belong to the chat.
    pub owner: Option<UserId>,
    /// The engine or model that answers, such as `storyteller`.
    pub engine: String,
    /// What the bot shows in this dialog, if not what it shows everywhere.
    pub view: Option<View>,
    /// The engine's own name for the conversation, if it keeps one.
    pub thread: Option<String>,
    /// The rolling summary, Markdown.
    pub summary: String,
    /// The first turn number that a brief may quote; raised when the thread is renewed.
    pub window_from: i64,
    /// How many turns have been said; the newest turn's number.
    pub turns: i64,
    pub active: bool,
    pub chosen: Chosen,
    pub created_at: Time,
    pub updated_at: Time,
}

/// What people chose for the agent of a dialog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// The agent's own model, if not its usual one.
    pub model: Option<String>,
    /// A folder of the administrator's list, if not the chat's own.
    pub project: Option<String>,
    /// Until when nobody is asked before something is done.
    pub trusted_until: Option<Time>,
}
