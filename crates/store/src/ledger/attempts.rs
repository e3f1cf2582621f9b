//! Attempts: every question that was, or may have been, put to an upstream.

use salon_core::{CallId, SecretId, Time};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Statement, id_list};
use crate::Tx;
use crate::dialect::listed;
use crate::error::Result;
use crate::limits::known;
use crate::many::{bundles, many};
use crate::row::{Column, storable};

/// A question that is about to be put to an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub n: i64,
    pub upstream: String,
    /// The upstream's name for the model.
    pub model: String,
    /// Whose provider key is used.
    pub whose: String,
    pub secret: Option<SecretId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptState {
    Started,
    Ok,
    /// It is certain that it was not answered.
    Failed,
    /// It may have been answered, and may have cost something.
    Unknown,
}

impl AttemptState {
    pub const ALL: [AttemptState; 4] =
        [AttemptState::Started, AttemptState::Ok, AttemptState::Failed, AttemptState::Unknown];

    pub fn as_str(self) -> &'static str {
        match self {
            AttemptState::Started => "started",
            AttemptState::Ok => "ok",
            AttemptState::Failed => "failed",
            AttemptState::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Option<AttemptState> {
        AttemptState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// An attempt as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    pub call: CallId,
    pub attempt: Attempt,
    pub state: AttemptState,
    pub started_at: Time,
    pub ended_at: Option<Time>,
    /// Why it failed.
    pub note: Option<String>,
}

/// How an attempt that was written before has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptEnd {
    pub call: CallId,
    pub n: i64,
    pub state: AttemptState,
    pub note: Option<String>,
}

many!(
    insert_attempts,
    10,
    "INSERT INTO attempts (call_id, n, state, upstream, model, whose, secret_id, started_at, ended_at, note) VALUES ",
    " ON CONFLICT DO NOTHING"
);

impl Tx {
    /// Writes attempts down. One that is there already stays as it is.
    pub async fn add_attempts(&mut self, attempts: &[AttemptRow]) -> Result<()> {
        for bundle in bundles(attempts) {
            let statement = sqlx::query(insert_attempts(self.dialect, bundle.len()));
            let statement = bundle.iter().fold(statement, bind_attempt);
            statement.execute(self.connection()).await?;
        }
        Ok(())
    }

    /// Ends attempts that are not known to have ended.
    pub async fn end_attempts(&mut self, ends: &[AttemptEnd], now: Time) -> Result<()> {
        if ends.is_empty() {
            return Ok(());
        }
        let list: Vec<_> = ends
            .iter()
            .map(|end| json!([end.call.as_str(), end.n, end.state.as_str(), end.note.as_deref().map(storable)]))
            .collect();
        let text = listed!(
            self.dialect,
            "UPDATE attempts SET state = list.value ->> 2, note = list.value ->> 3, ended_at = $2 FROM ",
            " WHERE attempts.call_id = list.value ->> 0 AND attempts.n = CAST(list.value ->> 1 AS BIGINT) \
               AND attempts.state IN ('started', 'unknown')",
            ""
        );
        sqlx::query(text).bind(json!(list).to_string()).bind(now.0).execute(self.connection()).await?;
        Ok(())
    }

    /// Ends whatever of these calls is still started.
    pub async fn close_attempts(&mut self, calls: &[(&CallId, AttemptState)], now: Time) -> Result<()> {
        if calls.is_empty() {
            return Ok(());
        }
        let list: Vec<_> = calls.iter().map(|(id, state)| json!([id.as_str(), state.as_str()])).collect();
        let text = listed!(
            self.dialect,
            "UPDATE attempts SET state = list.value ->> 1, ended_at = $2 FROM ",
            " WHERE attempts.call_id = list.value ->> 0 AND attempts.state = 'started'",
            ""
        );
        sqlx::query(text).bind(json!(list).to_string()).bind(now.0).execute(self.connection()).await?;
        Ok(())
    }

    /// Which of these calls may have reached an upstream.
    pub async fn calls_attempted(&mut self, ids: &[&CallId]) -> Result<Vec<CallId>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let text = listed!(
            self.dialect,
            "SELECT DISTINCT a.call_id FROM ",
            " JOIN attempts a ON a.call_id = list.value ->> 0 WHERE a.state <> 'failed'",
            ""
        );
        let rows = sqlx::query(text).bind(id_list(ids)).fetch_all(self.connection()).await?;
        rows.iter().map(|row| row.text("call_id").map(CallId::new)).collect()
    }

    /// The attempts of a call, in their order.
    pub async fn list_attempts(&mut self, call: &CallId) -> Result<Vec<AttemptRow>> {
        let rows = sqlx::query(
            "SELECT n, state, upstream, model, whose, secret_id, started_at, ended_at, note FROM attempts \
             WHERE call_id = $1 ORDER BY n",
        )
        .bind(call.as_str())
        .fetch_all(self.connection())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(AttemptRow {
                    call: call.clone(),
                    attempt: Attempt {
                        n: row.int("n")?,
                        upstream: row.text("upstream")?,
                        model: row.text("model")?,
                        whose: row.text("whose")?,
                        secret: row.maybe_text("secret_id")?.map(SecretId::new),
                    },
                    state: known(&("attempt's state", row.text("state")?), AttemptState::parse)?,
                    started_at: Time(row.int("started_at")?),
                    ended_at: row.maybe_int("ended_at")?.map(Time),
                    note: row.maybe_text("note")?,
                })
            })
            .collect()
    }
}

pub(super) fn bind_attempt(statement: Statement, row: &AttemptRow) -> Statement {
    statement
        .bind(row.call.as_str())
        .bind(row.attempt.n)
        .bind(row.state.as_str())
        .bind(storable(&row.attempt.upstream))
        .bind(storable(&row.attempt.model))
        .bind(storable(&row.attempt.whose))
        .bind(row.attempt.secret.as_ref().map(SecretId::as_str))
        .bind(row.started_at.0)
        .bind(row.ended_at.map(|at| at.0))
        .bind(row.note.as_deref().map(storable))
}
