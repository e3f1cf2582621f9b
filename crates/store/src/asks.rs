//! What running engines ask people, and what was answered. The first answer counts.

use salon_core::{AskId, Time, TurnId};

use crate::Tx;
use crate::error::Result;
use crate::row::{Column, storable};
use crate::signal::Signal;

/// How a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskState {
    Open,
    Once,
    Session,
    Deny,
    /// Nobody answered in time, which is no.
    Expired,
}

impl AskState {
    pub fn as_str(self) -> &'static str {
        match self {
            AskState::Open => "open",
            AskState::Once => "once",
            AskState::Session => "session",
            AskState::Deny => "deny",
            AskState::Expired => "expired",
        }
    }

    pub fn parse(text: &str) -> Option<AskState> {
        [AskState::Open, AskState::Once, AskState::Session, AskState::Deny, AskState::Expired]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAsk {
    pub id: AskId,
    pub turn: TurnId,
    pub state: AskState,
    pub by: Option<String>,
    pub expires_at: Time,
}

impl Tx {
    /// Adds a question. One that is there stays as it is.
    pub async fn add_ask(&mut self, id: &AskId, turn: &TurnId, now: Time, expires_at: Time) -> Result<()> {
        sqlx::query(
            "INSERT INTO asks (id, turn_id, state, created_at, expires_at) VALUES ($1, $2, 'open', $3, $4) \
             ON CONFLICT DO NOTHING",
        )
        .bind(id.as_str())
        .bind(turn.as_str())
        .bind(now.0)
        .bind(expires_at.0)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    pub async fn find_ask(&mut self, id: &AskId) -> Result<Option<StoredAsk>> {
        let row = sqlx::query("SELECT id, turn_id, state, answered_by, expires_at FROM asks WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(self.connection())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let state = row.text("state")?;
        Ok(Some(StoredAsk {
            id: AskId::new(row.text("id")?),
            turn: TurnId::new(row.text("turn_id")?),
            state: AskState::parse(&state).ok_or_else(|| anyhow::anyhow!("an ask has the unknown state {state}"))?,
            by: row.maybe_text("answered_by")?,
            expires_at: Time(row.int("expires_at")?),
        }))
    }

    /// Answers a question. `false` if somebody was faster, or it is too late: its time is over, or nobody waits any more.
    pub async fn answer_ask(&mut self, ask: &StoredAsk, state: AskState, by: Option<&str>, now: Time) -> Result<bool> {
        let answered = sqlx::query(
            "UPDATE asks SET state = $2, answered_by = $3, answered_at = $4 \
             WHERE id = $1 AND state = 'open' AND ($2 = 'expired' OR (expires_at > $4 AND EXISTS \
               (SELECT 1 FROM turns WHERE turns.id = asks.turn_id AND turns.state IN ('queued', 'running'))))",
        )
        .bind(ask.id.as_str())
        .bind(state.as_str())
        .bind(by.map(storable))
        .bind(now.0)
        .execute(self.connection())
        .await?
        .rows_affected()
            == 1;
        if answered {
            // Whoever waits for the answer follows the turn.
            self.signal(Signal::Turn(ask.turn.as_str().to_owned()));
        }
        Ok(answered)
    }

    /// Closes what a turn asked and nobody answered: who asked is gone.
    pub async fn close_asks(&mut self, turn: &TurnId, now: Time) -> Result<()> {
        sqlx::query("UPDATE asks SET state = 'expired', answered_at = $2 WHERE turn_id = $1 AND state = 'open'")
            .bind(turn.as_str())
            .bind(now.0)
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
