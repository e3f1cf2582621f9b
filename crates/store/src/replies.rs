//! Replies: commands of a team's own, which a bot answers with a text.

use salon_core::{BotId, Time};
use sqlx::any::AnyRow;

use crate::Tx;
use crate::error::Result;
use crate::row::{Column, storable};

/// A command and what is answered to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReply {
    /// The bot that answers; `None` is every bot.
    pub bot: Option<BotId>,
    /// In lower case, without the slash.
    pub name: String,
    /// Markdown.
    pub text: String,
    pub updated_at: Time,
}

impl Tx {
    /// All of them, by bot and name; those of every bot first.
    pub async fn list_replies(&mut self) -> Result<Vec<StoredReply>> {
        let rows = sqlx::query("SELECT bot_id, name, text, updated_at FROM replies ORDER BY bot_id, name")
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(reply).collect()
    }

    /// What a bot answers to a command: its own reply, or else that of every bot.
    pub async fn find_reply(&mut self, bot: &BotId, name: &str) -> Result<Option<String>> {
        let row =
            sqlx::query("SELECT text FROM replies WHERE name = $2 AND bot_id IN ($1, '') ORDER BY bot_id DESC LIMIT 1")
                .bind(bot.as_str())
                .bind(storable(name))
                .fetch_optional(self.connection())
                .await?;
        row.map(|row| row.text("text")).transpose()
    }

    /// Says what is answered to a command, whatever was said before.
    pub async fn put_reply(&mut self, reply: &StoredReply) -> Result<()> {
        sqlx::query(
            "INSERT INTO replies (bot_id, name, text, updated_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (bot_id, name) DO UPDATE SET text = $3, updated_at = $4",
        )
        .bind(reply.bot.as_ref().map_or("", BotId::as_str))
        .bind(&reply.name)
        .bind(storable(&reply.text))
        .bind(reply.updated_at.0)
        .execute(self.connection())
        .await?;
        self.raise_replies().await
    }

    /// `false` if there is no such command.
    pub async fn remove_reply(&mut self, bot: Option<&BotId>, name: &str) -> Result<bool> {
        let removed = sqlx::query("DELETE FROM replies WHERE bot_id = $1 AND name = $2")
            .bind(bot.map_or("", BotId::as_str))
            .bind(storable(name))
            .execute(self.connection())
            .await?;
        self.raise_replies().await?;
        Ok(removed.rows_affected() == 1)
    }

    /// A number that is another after each change: the menus of the bots have to be told anew.
    pub async fn replies_revision(&mut self) -> Result<i64> {
        let value = self.find_setting("replies_revision").await?;
        Ok(value.and_then(|value| value.parse().ok()).unwrap_or(0))
    }

    async fn raise_replies(&mut self) -> Result<()> {
        sqlx::query(
            "INSERT INTO settings (name, value) VALUES ('replies_revision', '1') ON CONFLICT (name) \
             DO UPDATE SET value = CAST(CAST(settings.value AS BIGINT) + 1 AS TEXT)",
        )
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

fn reply(row: &AnyRow) -> Result<StoredReply> {
    let bot = row.text("bot_id")?;
    Ok(StoredReply {
        bot: (!bot.is_empty()).then(|| BotId::new(bot)),
        name: row.text("name")?,
        text: row.text("text")?,
        updated_at: Time(row.int("updated_at")?),
    })
}
