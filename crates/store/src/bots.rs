//! What must be remembered of a bot: where its long polling stands.

use salon_core::{BotId, Time};

use crate::Tx;
use crate::error::Result;
use crate::jobs::Held;
use crate::row::Column;

/// A bot's place in Telegram's queue. It belongs to the token, which may be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub bot: BotId,
    pub token_hash: String,
    /// The last *received* id plus one: ids may restart lower after an idle week, so a maximum would deafen the bot.
    pub offset: i64,
}

impl Tx {
    /// Where polling goes on; `None` for a new bot or a new token.
    pub async fn find_offset(&mut self, bot: &BotId, token_hash: &str) -> Result<Option<i64>> {
        let row = sqlx::query("SELECT poll_offset FROM bots WHERE id = $1 AND token_hash = $2")
            .bind(bot.as_str())
            .bind(token_hash)
            .fetch_optional(self.connection())
            .await?;
        row.map_or(Ok(None), |row| row.maybe_int("poll_offset"))
    }

    /// Stores the offset; to be called in the transaction that stores the updates it passes.
    pub async fn set_offset(&mut self, _held: &Held, seat: &Seat, now: Time) -> Result<()> {
        sqlx::query(
            "INSERT INTO bots (id, token_hash, poll_offset, updated_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (id) DO UPDATE SET token_hash = $2, poll_offset = $3, updated_at = $4",
        )
        .bind(seat.bot.as_str())
        .bind(&seat.token_hash)
        .bind(seat.offset)
        .bind(now.0)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
