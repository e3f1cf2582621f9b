//! Tokens: things that prove something by being shown. Only their hashes are stored.

use salon_core::{BotId, ChatId, Time, TurnId};

use crate::Tx;
use crate::error::Result;
use crate::row::{Column, storable};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    pub hash: String,
    /// What it allows, such as `action:stop`.
    pub kind: String,
    pub bot: BotId,
    pub chat: ChatId,
    /// Who may use it; anyone in the chat if `None`.
    pub user: Option<i64>,
    pub turn: Option<TurnId>,
    /// Words that it stands for.
    pub text: Option<String>,
    pub now: Time,
    pub expires_at: Time,
}

/// A token that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: String,
    pub turn: Option<TurnId>,
    pub text: Option<String>,
    pub expires_at: Time,
    pub used: bool,
}

impl Tx {
    pub async fn add_token(&mut self, token: &NewToken) -> Result<()> {
        sqlx::query(
            "INSERT INTO tokens (hash, kind, bot_id, chat_id, user_id, turn_id, created_at, expires_at, text) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        )
        .bind(&token.hash)
        .bind(&token.kind)
        .bind(token.bot.as_str())
        .bind(token.chat.0)
        .bind(token.user)
        .bind(token.turn.as_ref().map(TurnId::as_str))
        .bind(token.now.0)
        .bind(token.expires_at.0)
        .bind(token.text.as_deref().map(storable))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The token as it stands, if it was made for this bot, chat and user.
    pub async fn find_token(&mut self, hash: &str, bot: &BotId, chat: ChatId, user: i64) -> Result<Option<Token>> {
        let row = sqlx::query(
            "SELECT kind, turn_id, text, expires_at, used_at FROM tokens \
             WHERE hash = $1 AND bot_id = $2 AND chat_id = $3 AND (user_id IS NULL OR user_id = $4)",
        )
        .bind(hash)
        .bind(bot.as_str())
        .bind(chat.0)
        .bind(user)
        .fetch_optional(self.connection())
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Token {
            kind: row.text("kind")?,
            turn: row.maybe_text("turn_id")?.map(TurnId::new),
            text: row.maybe_text("text")?,
            expires_at: Time(row.int("expires_at")?),
            used: row.maybe_int("used_at")?.is_some(),
        }))
    }

    /// Uses the token up. `false` if somebody was faster or it has expired: of two presses one counts.
    pub async fn use_token(&mut self, hash: &str, now: Time) -> Result<bool> {
        let used =
            sqlx::query("UPDATE tokens SET used_at = $2 WHERE hash = $1 AND used_at IS NULL AND expires_at > $2")
                .bind(hash)
                .bind(now.0)
                .execute(self.connection())
                .await?;
        Ok(used.rows_affected() == 1)
    }

    /// Forgets tokens that expired before `before`.
    pub async fn sweep_tokens(&mut self, before: Time) -> Result<u64> {
        let swept =
            sqlx::query("DELETE FROM tokens WHERE expires_at < $1").bind(before.0).execute(self.connection()).await?;
        Ok(swept.rows_affected())
    }
}
