//! The logs of turns. Only the holder of the turn's lease appends, and nothing is ever changed.

use anyhow::Context;
use salon_core::{Event, Stamped, Time, TurnId};

use crate::Tx;
use crate::error::Result;
use crate::jobs::Held;
use crate::many::{bundles, many};
use crate::row::Column;
use crate::signal::Signal;

many!(
    insert_events,
    5,
    "INSERT INTO events (turn_id, seq, attempt, at, body) VALUES ",
    " ON CONFLICT (turn_id, seq) DO NOTHING"
);

/// An event to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    pub at: Time,
    pub event: Event,
}

impl Tx {
    /// Wakes whoever runs or follows a turn, for news that are not in its log.
    pub fn wake(&mut self, turn: &TurnId) {
        self.signal(Signal::Turn(turn.as_str().to_owned()));
    }

    /// Appends to a turn's log, whatever its last number is. For those who end their job in the same transaction; a
    /// transaction that may be run again while the job goes on numbers its events itself, see [`Tx::append_after`].
    pub async fn append(&mut self, held: &Held, turn: &TurnId, events: &[Append]) -> Result<()> {
        let last = self.last_event(turn).await?;
        self.append_after(held, turn, last, events).await
    }

    /// Appends to a turn's log after event number `last`. Numbers that are taken are passed by: they were written by an
    /// earlier run of this very transaction, whose outcome was not known.
    pub async fn append_after(&mut self, held: &Held, turn: &TurnId, last: i64, events: &[Append]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let mut seq = last;
        for bundle in bundles(events) {
            let mut statement = sqlx::query(insert_events(self.dialect, bundle.len()));
            for append in bundle {
                seq += 1;
                let body = serde_json::to_string(&append.event).context("an event cannot be written down")?;
                statement = statement.bind(turn.as_str()).bind(seq).bind(held.epoch()).bind(append.at.0).bind(body);
            }
            statement.execute(self.connection()).await?;
        }
        self.signal(Signal::Turn(turn.as_str().to_owned()));
        Ok(())
    }

    /// The number of a turn's last event; 0 if it has none.
    pub async fn last_event(&mut self, turn: &TurnId) -> Result<i64> {
        let row = sqlx::query("SELECT COALESCE(MAX(seq), 0) AS seq FROM events WHERE turn_id = $1")
            .bind(turn.as_str())
            .fetch_one(self.connection())
            .await?;
        row.int("seq")
    }

    /// The events of a turn after number `after`, in order, at most `limit`.
    pub async fn list_events(&mut self, turn: &TurnId, after: i64, limit: i64) -> Result<Vec<Stamped>> {
        let rows = sqlx::query(
            "SELECT seq, attempt, at, body FROM events WHERE turn_id = $1 AND seq > $2 \
             ORDER BY seq LIMIT CAST($3 AS BIGINT)",
        )
        .bind(turn.as_str())
        .bind(after)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Stamped {
                    seq: row.int("seq")?,
                    attempt: row.int("attempt")?,
                    at: Time(row.int("at")?),
                    event: serde_json::from_str(&row.text("body")?).context("an event cannot be read")?,
                })
            })
            .collect()
    }
}
