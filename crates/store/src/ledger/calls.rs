//! Calls: what is under way, and what has become of it.

use salon_core::{Amounts, CallId, LimitId, OrgId, Time, TurnId, UserId};
use serde_json::json;
use sqlx::any::AnyRow;

use super::{Payer, Statement, amounts, bind_payer, id_list, payer};
use crate::Tx;
use crate::dialect::listed;
use crate::error::Result;
use crate::limits::known;
use crate::many::{bundles, many};
use crate::row::{Column, storable};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallState {
    /// Waits for an admin.
    Held,
    /// An admin said yes: may be reserved once.
    Approved,
    Denied,
    /// Under way.
    Reserved,
    Settled,
    /// Ended without having reached an upstream.
    Released,
    /// Its end is not known; it may have cost up to its estimate.
    Unknown,
}

impl CallState {
    const ALL: [CallState; 7] = [
        CallState::Held,
        CallState::Approved,
        CallState::Denied,
        CallState::Reserved,
        CallState::Settled,
        CallState::Released,
        CallState::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            CallState::Held => "held",
            CallState::Approved => "approved",
            CallState::Denied => "denied",
            CallState::Reserved => "reserved",
            CallState::Settled => "settled",
            CallState::Released => "released",
            CallState::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Option<CallState> {
        CallState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A call as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub id: CallId,
    pub state: CallState,
    /// The zone is not kept: windows were decided upon when the call was reserved.
    pub payer: Payer,
    /// Where it came in, such as `messages`.
    pub door: String,
    /// The model that was asked for.
    pub model: String,
    /// The most that it may take.
    pub most: Amounts,
    /// When it was reserved or held.
    pub at: Time,
    pub deadline: Time,
    pub ended_at: Option<Time>,
    /// The limit because of which it is held.
    pub limit: Option<LimitId>,
    /// Random, for this one reservation: when its transaction is run again, it knows its own row by it.
    pub nonce: i64,
}

many!(
    insert_calls,
    18,
    "INSERT INTO calls (id, state, org_id, user_id, key_id, chat, turn_id, run, door, model, micros, tokens, requests, \
                        at, deadline, ended_at, limit_id, nonce) VALUES ",
    " ON CONFLICT (id) DO UPDATE SET state = excluded.state, micros = excluded.micros, tokens = excluded.tokens, \
        requests = excluded.requests, model = excluded.model, door = excluded.door, at = excluded.at, \
        deadline = excluded.deadline, ended_at = excluded.ended_at, limit_id = excluded.limit_id, nonce = excluded.nonce"
);

impl Tx {
    /// The calls of these ids that there are, kept from everyone else until the commit.
    pub async fn lock_calls(&mut self, ids: &[&CallId]) -> Result<Vec<Call>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let text = listed!(
            self.dialect,
            "SELECT c.id, c.state, c.org_id, c.user_id, c.key_id, c.chat, c.turn_id, c.run, c.door, c.model, c.micros, \
                    c.tokens, c.requests, c.at, c.deadline, c.ended_at, c.limit_id, c.nonce FROM ",
            " JOIN calls c ON c.id = list.value ->> 0 ORDER BY c.id",
            " FOR UPDATE OF c"
        );
        let rows = sqlx::query(text).bind(id_list(ids)).fetch_all(self.connection()).await?;
        rows.iter().map(call).collect()
    }

    pub async fn find_call(&mut self, org: &OrgId, id: &CallId) -> Result<Option<Call>> {
        let row = sqlx::query(
            "SELECT id, state, org_id, user_id, key_id, chat, turn_id, run, door, model, micros, tokens, requests, at, \
                    deadline, ended_at, limit_id, nonce FROM calls WHERE id = $1 AND org_id = $2",
        )
        .bind(id.as_str())
        .bind(org.as_str())
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(call).transpose()
    }

    /// Calls that wait for an admin, oldest first; of one user, or of all.
    pub async fn list_held(&mut self, org: &OrgId, user: Option<&UserId>, limit: i64) -> Result<Vec<Call>> {
        let rows = sqlx::query(
            "SELECT id, state, org_id, user_id, key_id, chat, turn_id, run, door, model, micros, tokens, requests, at, \
                    deadline, ended_at, limit_id, nonce FROM calls \
             WHERE state = 'held' AND org_id = $1 AND (CAST($2 AS TEXT) IS NULL OR user_id = $2) ORDER BY id LIMIT $3",
        )
        .bind(org.as_str())
        .bind(user.map(UserId::as_str))
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(call).collect()
    }

    /// The calls of a turn that wait for a yes, have one, or were denied; the newest first.
    pub async fn list_decided(&mut self, turn: &TurnId) -> Result<Vec<CallId>> {
        let rows = sqlx::query(
            "SELECT id FROM calls WHERE turn_id = $1 AND state IN ('held', 'approved', 'denied') ORDER BY at DESC, id DESC",
        )
        .bind(turn.as_str())
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| row.text("id").map(CallId::new)).collect()
    }

    /// Decides about a held call. `false` if it does not wait (any more).
    pub async fn decide_call(
        &mut self,
        org: &OrgId,
        id: &CallId,
        to: CallState,
        by: &UserId,
        deadline: Time,
    ) -> Result<bool> {
        let decided = sqlx::query(
            "UPDATE calls SET state = $3, decided_by = $4, deadline = $5 \
             WHERE id = $1 AND org_id = $2 AND state = 'held'",
        )
        .bind(id.as_str())
        .bind(org.as_str())
        .bind(to.as_str())
        .bind(by.as_str())
        .bind(deadline.0)
        .execute(self.connection())
        .await?;
        Ok(decided.rows_affected() == 1)
    }

    /// Refuses what nobody decided about, or nobody came back for, in time.
    pub async fn expire_held(&mut self, now: Time) -> Result<u64> {
        let expired = sqlx::query(
            "UPDATE calls SET state = 'denied', ended_at = $1 WHERE state IN ('held', 'approved') AND deadline < $1",
        )
        .bind(now.0)
        .execute(self.connection())
        .await?;
        Ok(expired.rows_affected())
    }

    /// Calls that should have ended before `now`, the most overdue first.
    pub async fn list_overdue(&mut self, now: Time, limit: i64) -> Result<Vec<CallId>> {
        let rows = sqlx::query(
            "SELECT id FROM calls WHERE state = 'reserved' AND deadline < $1 ORDER BY deadline, id LIMIT $2",
        )
        .bind(now.0)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| row.text("id").map(CallId::new)).collect()
    }

    /// Writes calls down. One that is there already (it was held, and is approved) takes the new figures.
    pub async fn add_calls(&mut self, calls: &[Call]) -> Result<()> {
        for bundle in bundles(calls) {
            let statement = sqlx::query(insert_calls(self.dialect, bundle.len()));
            let statement = bundle.iter().fold(statement, bind_call);
            statement.execute(self.connection()).await?;
        }
        Ok(())
    }

    /// Ends calls: the state and the time of each.
    pub async fn end_calls(&mut self, ends: &[(&CallId, CallState)], now: Time) -> Result<()> {
        if ends.is_empty() {
            return Ok(());
        }
        let list: Vec<_> = ends.iter().map(|(id, state)| json!([id.as_str(), state.as_str()])).collect();
        let text = listed!(
            self.dialect,
            "UPDATE calls SET state = list.value ->> 1, ended_at = $2 FROM ",
            " WHERE calls.id = list.value ->> 0",
            ""
        );
        sqlx::query(text).bind(json!(list).to_string()).bind(now.0).execute(self.connection()).await?;
        Ok(())
    }
}

pub(super) fn bind_call(statement: Statement, call: &Call) -> Statement {
    bind_payer(statement.bind(call.id.as_str()).bind(call.state.as_str()), &call.payer)
        .bind(storable(&call.door))
        .bind(storable(&call.model))
        .bind(call.most.micros)
        .bind(call.most.tokens)
        .bind(call.most.requests)
        .bind(call.at.0)
        .bind(call.deadline.0)
        .bind(call.ended_at.map(|at| at.0))
        .bind(call.limit.as_ref().map(LimitId::as_str))
        .bind(call.nonce)
}

fn call(row: &AnyRow) -> Result<Call> {
    Ok(Call {
        id: CallId::new(row.text("id")?),
        state: known(&("call's state", row.text("state")?), CallState::parse)?,
        payer: payer(row)?,
        door: row.text("door")?,
        model: row.text("model")?,
        most: amounts(row)?,
        at: Time(row.int("at")?),
        deadline: Time(row.int("deadline")?),
        ended_at: row.maybe_int("ended_at")?.map(Time),
        limit: row.maybe_text("limit_id")?.map(LimitId::new),
        nonce: row.int("nonce")?,
    })
}
