//! What must be remembered of a chat beside its dialogs.

use salon_core::{BotId, ChatId, Lang, Time};

use crate::Tx;
use crate::error::Result;
use crate::row::{Column, storable};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chat {
    pub lang: Option<Lang>,
    /// When it stopped taking messages.
    pub parked_at: Option<Time>,
}

impl Tx {
    /// The chat as it stands; one that was never heard of is empty.
    pub async fn find_chat(&mut self, bot: &BotId, chat: ChatId) -> Result<Chat> {
        let row = sqlx::query("SELECT lang, parked_at FROM chats WHERE bot_id = $1 AND chat_id = $2")
            .bind(bot.as_str())
            .bind(chat.0)
            .fetch_optional(self.connection())
            .await?;
        let Some(row) = row else { return Ok(Chat::default()) };
        Ok(Chat {
            lang: row.maybe_text("lang")?.map(|tag| Lang::from_tag(Some(&tag))),
            parked_at: row.maybe_int("parked_at")?.map(Time),
        })
    }

    /// Notes that somebody wrote in the chat: its language, and that it takes messages again.
    pub async fn hear_chat(&mut self, bot: &BotId, chat: ChatId, lang: Lang) -> Result<()> {
        sqlx::query(
            "INSERT INTO chats (bot_id, chat_id, lang) VALUES ($1, $2, $3) \
             ON CONFLICT (bot_id, chat_id) DO UPDATE SET lang = $3, parked_at = NULL, parked_why = NULL \
             WHERE chats.lang IS NULL OR chats.lang <> $3 OR chats.parked_at IS NOT NULL",
        )
        .bind(bot.as_str())
        .bind(chat.0)
        .bind(lang.tag())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Notes that the chat takes no messages.
    pub async fn park_chat(&mut self, bot: &BotId, chat: ChatId, why: &str, now: Time) -> Result<()> {
        sqlx::query(
            "INSERT INTO chats (bot_id, chat_id, parked_at, parked_why) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (bot_id, chat_id) DO UPDATE SET parked_at = $3, parked_why = $4",
        )
        .bind(bot.as_str())
        .bind(chat.0)
        .bind(now.0)
        .bind(storable(why))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Follows a group that lives on under another id: its dialogs go on there, and so do its buttons. A dialog that
    /// somebody began there already stays the active one. Doing it again changes nothing.
    pub async fn move_chat(&mut self, bot: &BotId, from: ChatId, to: ChatId) -> Result<()> {
        if from == to {
            return Ok(());
        }
        sqlx::query(
            "UPDATE dialogs SET active = 0 WHERE bot_id = $1 AND chat_id = $2 AND active = 1 AND EXISTS \
               (SELECT 1 FROM dialogs there WHERE there.bot_id = $1 AND there.chat_id = $3 AND there.active = 1)",
        )
        .bind(bot.as_str())
        .bind(from.0)
        .bind(to.0)
        .execute(self.connection())
        .await?;
        // Messages are numbered anew: a correction there must not find a question that was asked here.
        sqlx::query(
            "UPDATE turns SET source_message_id = NULL WHERE source_message_id IS NOT NULL \
               AND dialog_id IN (SELECT id FROM dialogs WHERE bot_id = $1 AND chat_id = $2)",
        )
        .bind(bot.as_str())
        .bind(from.0)
        .execute(self.connection())
        .await?;
        for moved in [
            "UPDATE dialogs SET chat_id = $3 WHERE bot_id = $1 AND chat_id = $2",
            "UPDATE tokens SET chat_id = $3 WHERE bot_id = $1 AND chat_id = $2",
            "INSERT INTO chats (bot_id, chat_id, lang, refused_at) SELECT bot_id, $3, lang, refused_at FROM chats \
             WHERE bot_id = $1 AND chat_id = $2 ON CONFLICT DO NOTHING",
        ] {
            sqlx::query(moved).bind(bot.as_str()).bind(from.0).bind(to.0).execute(self.connection()).await?;
        }
        sqlx::query("DELETE FROM chats WHERE bot_id = $1 AND chat_id = $2")
            .bind(bot.as_str())
            .bind(from.0)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Whether a stranger may be told again that the bot is not for him: at most once since `before`.
    pub async fn may_refuse(&mut self, bot: &BotId, chat: ChatId, now: Time, before: Time) -> Result<bool> {
        let told = sqlx::query(
            "INSERT INTO chats (bot_id, chat_id, refused_at) VALUES ($1, $2, $3) \
             ON CONFLICT (bot_id, chat_id) DO UPDATE SET refused_at = $3 \
             WHERE chats.refused_at IS NULL OR chats.refused_at < $4",
        )
        .bind(bot.as_str())
        .bind(chat.0)
        .bind(now.0)
        .bind(before.0)
        .execute(self.connection())
        .await?;
        Ok(told.rows_affected() == 1)
    }

    pub async fn count_parked(&mut self) -> Result<i64> {
        let row = sqlx::query("SELECT COUNT(*) AS parked FROM chats WHERE parked_at IS NOT NULL")
            .fetch_one(self.connection())
            .await?;
        row.int("parked")
    }
}
