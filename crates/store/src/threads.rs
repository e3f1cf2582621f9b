//! Threads of agents: what an engine calls a conversation, and what was asked in it first.

use salon_core::{BotId, ChatId, DialogId, Time};

use crate::Tx;
use crate::error::Result;
use crate::jobs::Held;
use crate::row::{Column, storable};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub thread: String,
    pub title: String,
    pub used_at: Time,
}

impl Tx {
    /// Notes that a thread was used. Its title stays what was asked first.
    pub async fn note_thread(&mut self, _held: &Held, dialog: &DialogId, engine: &str, thread: &Thread) -> Result<()> {
        sqlx::query(
            "INSERT INTO threads (dialog_id, engine, thread, title, used_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (dialog_id, engine, thread) DO UPDATE SET used_at = $5",
        )
        .bind(dialog.as_str())
        .bind(engine)
        .bind(storable(&thread.thread))
        .bind(storable(&thread.title))
        .bind(thread.used_at.0)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The threads that an engine has had in a chat, the newest first.
    pub async fn list_threads(&mut self, bot: &BotId, chat: ChatId, engine: &str, limit: i64) -> Result<Vec<Thread>> {
        let rows = sqlx::query(
            "SELECT t.thread, MIN(t.title) AS title, MAX(t.used_at) AS used_at FROM threads t \
             JOIN dialogs d ON d.id = t.dialog_id \
             WHERE d.bot_id = $1 AND d.chat_id = $2 AND d.removed_at IS NULL AND t.engine = $3 \
             GROUP BY t.thread ORDER BY MAX(t.used_at) DESC, t.thread LIMIT CAST($4 AS BIGINT)",
        )
        .bind(bot.as_str())
        .bind(chat.0)
        .bind(engine)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Thread {
                    thread: row.text("thread")?,
                    title: row.text("title")?,
                    used_at: Time(row.int("used_at")?),
                })
            })
            .collect()
    }
}
