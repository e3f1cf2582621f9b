//! The outbox: which message shows which part of what we say.
//!
//! A visible text is always put in place by an *edit* of a message whose number is recorded here, because an edit can
//! be repeated and a send cannot. A placeholder that was sent but whose number we never learnt is an *orphan*.

use salon_core::{BotId, ChatId, Time};

use crate::Tx;
use crate::error::Result;
use crate::jobs::Held;
use crate::row::{COUNTED, Column, storable};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartState {
    /// Still to be shown in its final form.
    Open,
    /// Shows what it should.
    Shown,
    /// Possibly a placeholder that nobody edits any more.
    Orphan,
    /// Cannot be shown: the chat is gone.
    Dropped,
}

impl PartState {
    pub fn as_str(self) -> &'static str {
        match self {
            PartState::Open => "open",
            PartState::Shown => "shown",
            PartState::Orphan => "orphan",
            PartState::Dropped => "dropped",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The turn or the job that speaks.
    pub owner: String,
    pub part: i64,
    pub bot: BotId,
    pub chat: ChatId,
    pub message: Option<i64>,
}

impl Tx {
    /// The parts of `owner` in order.
    pub async fn list_parts(&mut self, owner: &str) -> Result<Vec<Part>> {
        let rows =
            sqlx::query("SELECT owner, part, bot_id, chat_id, message_id FROM outbox WHERE owner = $1 ORDER BY part")
                .bind(owner)
                .fetch_all(self.connection())
                .await?;
        rows.iter()
            .map(|row| {
                Ok(Part {
                    owner: row.text("owner")?,
                    part: row.int("part")?,
                    bot: BotId::new(row.text("bot_id")?),
                    chat: ChatId(row.int("chat_id")?),
                    message: row.maybe_int("message_id")?,
                })
            })
            .collect()
    }

    /// Records where a part stands. A part that lost its message gets a new number, and another chat if that one moved.
    pub async fn place_part(&mut self, _held: &Held, part: &Part, now: Time) -> Result<()> {
        sqlx::query(
            "INSERT INTO outbox (owner, part, bot_id, chat_id, message_id, state, updated_at) \
             VALUES ($1, $2, $3, $4, $5, 'open', $6) \
             ON CONFLICT (owner, part) DO UPDATE SET chat_id = $4, message_id = $5, state = 'open', updated_at = $6",
        )
        .bind(&part.owner)
        .bind(part.part)
        .bind(part.bot.as_str())
        .bind(part.chat.0)
        .bind(part.message)
        .bind(now.0)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Ends every part of `owner` that is still open.
    pub async fn close_parts(
        &mut self,
        _held: &Held,
        owner: &str,
        state: PartState,
        note: Option<&str>,
        now: Time,
    ) -> Result<()> {
        sqlx::query("UPDATE outbox SET state = $2, note = $3, updated_at = $4 WHERE owner = $1 AND state = 'open'")
            .bind(owner)
            .bind(state.as_str())
            .bind(note.map(storable))
            .bind(now.0)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Records that a send may have left a placeholder behind. One row for each lease under which that happened.
    pub async fn add_orphan(&mut self, held: &Held, part: &Part, why: &str, now: Time) -> Result<()> {
        sqlx::query(
            "INSERT INTO outbox (owner, part, bot_id, chat_id, message_id, state, note, updated_at) \
             VALUES ($1, $2, $3, $4, $5, 'orphan', $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(format!("orphan:{}:{}", part.owner, held.epoch()))
        .bind(part.part)
        .bind(part.bot.as_str())
        .bind(part.chat.0)
        .bind(part.message)
        .bind(storable(why))
        .bind(now.0)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Notes which parts show what they must say in the end, so that whoever goes on need not say it again.
    pub async fn mark_shown(&mut self, _held: &Held, owner: &str, parts: &[i64], now: Time) -> Result<()> {
        for part in parts {
            sqlx::query("UPDATE outbox SET state = 'shown', updated_at = $3 WHERE owner = $1 AND part = $2")
                .bind(owner)
                .bind(*part)
                .bind(now.0)
                .execute(self.connection())
                .await?;
        }
        Ok(())
    }

    /// The parts of `owner` that show what they must say in the end.
    pub async fn list_shown(&mut self, owner: &str) -> Result<Vec<i64>> {
        let rows = sqlx::query("SELECT part FROM outbox WHERE owner = $1 AND state = 'shown' ORDER BY part")
            .bind(owner)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(|row| row.int("part")).collect()
    }

    /// Forgets some parts that were done with before `before`; 0 once none is left.
    pub async fn sweep_outbox(&mut self, before: Time) -> Result<u64> {
        let swept = sqlx::query(
            "DELETE FROM outbox WHERE owner IN ( \
               SELECT owner FROM outbox WHERE state IN ('shown', 'dropped') AND updated_at < $1 LIMIT 500) \
             AND state IN ('shown', 'dropped') AND updated_at < $1",
        )
        .bind(before.0)
        .execute(self.connection())
        .await?;
        Ok(swept.rows_affected())
    }

    /// Parts by state: all that are not settled, and of the others the newest [`COUNTED`].
    pub async fn count_parts(&mut self) -> Result<Vec<(String, i64)>> {
        let rows = sqlx::query(
            "SELECT state, COUNT(*) AS count FROM ( \
               SELECT state FROM outbox WHERE state IN ('open', 'orphan') \
               UNION ALL \
               SELECT * FROM (SELECT state FROM outbox WHERE state IN ('shown', 'dropped') \
                              ORDER BY updated_at DESC LIMIT CAST($1 AS BIGINT)) done) counted \
             GROUP BY state ORDER BY state",
        )
        .bind(COUNTED)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| Ok((row.text("state")?, row.int("count")?))).collect()
    }
}
