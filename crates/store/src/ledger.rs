//! The ledger: calls and their attempts, what is taken of accounts, and the entries that say what was used.
//!
//! Here are the statements, each for many rows at once. What may be reserved is decided by whoever calls them
//! (`salon::ledger`), between [`Tx::lock_accounts`] and [`Tx::write_accounts`], in one transaction:
//!
//! ```text
//! hold_limits ─► lock_calls ─► lock_accounts ─► (decide) ─► write_accounts, add_calls, add_attempts, add_entries, …
//! ```
//! Calls are locked before accounts, and both in the order of their ids, so that two groups never wait for each other.

pub(crate) mod accounts;
mod usage;

use salon_core::{Amounts, CallId, KeyId, LimitId, OrgId, Scope, SecretId, Time, Tokens, TurnId, UserId};
use serde_json::json;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;

use crate::Tx;
use crate::dialect::listed;
use crate::error::Result;
use crate::limits::known;
use crate::many::{bundles, many};
use crate::row::{Column, storable};

pub use accounts::{Account, AccountKey, Difference, Holder, Reach};
pub use usage::{CallFilter, DayUsage, LimitUse, ModelUsage, Usage, UsageFilter, UserUsage};

type Statement = Query<'static, sqlx::Any, AnyArguments>;

/// For whom a call is made, and who pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payer {
    pub org: OrgId,
    /// The organisation's time zone, such as `Asia/Seoul`.
    pub zone: String,
    pub user: UserId,
    pub key: Option<KeyId>,
    /// The chat it is said in, by a name that is unique in the organisation.
    pub chat: Option<String>,
    pub turn: Option<TurnId>,
    /// The run of an agent or a panel that it belongs to.
    pub run: Option<String>,
}

impl Payer {
    /// Those whose limits apply, in the order in which they are asked.
    pub fn subjects(&self) -> impl Iterator<Item = (Scope, &str)> {
        let some = [
            self.run.as_deref().map(|run| (Scope::Run, run)),
            self.key.as_ref().map(|key| (Scope::Key, key.as_str())),
            Some((Scope::User, self.user.as_str())),
            self.chat.as_deref().map(|chat| (Scope::Chat, chat)),
            Some((Scope::Org, self.org.as_str())),
        ];
        some.into_iter().flatten()
    }
}

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

/// A question that is about to be put to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// What a call took.
    Settle,
    /// A correction: the upper bound of a call whose end is unknown, or its return.
    Adjust,
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// At most once: `settle:<call>`, `adjust:<call>` or `return:<call>`.
    pub key: String,
    pub kind: EntryKind,
    pub call: CallId,
    pub payer: Payer,
    pub door: String,
    pub model: String,
    pub upstream: String,
    pub upstream_model: String,
    pub whose: String,
    pub tokens: Tokens,
    /// What limits count.
    pub amounts: Amounts,
    /// Counted by us; the upstream did not say.
    pub estimated: bool,
    /// The upstream's figures could not be true.
    pub suspect: bool,
    pub cache_hit: bool,
    /// When the call was reserved.
    pub at: Time,
    pub settled_at: Time,
}

/// That a threshold of a limit was reached in a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    pub limit: LimitId,
    pub account: String,
    pub threshold: i64,
    pub at: Time,
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

many!(
    insert_attempts,
    10,
    "INSERT INTO attempts (call_id, n, state, upstream, model, whose, secret_id, started_at, ended_at, note) VALUES ",
    " ON CONFLICT DO NOTHING"
);

many!(
    insert_entries,
    30,
    "INSERT INTO entries (key, kind, call_id, org_id, user_id, key_id, chat, turn_id, run, door, model, upstream, \
                          upstream_model, whose, input, output, reasoning, cache_read, cache_write_5m, cache_write_1h, \
                          audio_in, audio_out, tokens, micros, requests, estimated, suspect, cache_hit, at, settled_at) \
     VALUES ",
    " ON CONFLICT DO NOTHING"
);

many!(
    insert_crossings,
    4,
    "INSERT INTO crossings (limit_id, account_id, threshold, at) VALUES ",
    " ON CONFLICT DO NOTHING"
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
            let mut statement: Statement = sqlx::query(insert_calls(bundle.len()));
            for call in bundle {
                statement = bind_payer(statement.bind(call.id.as_str()).bind(call.state.as_str()), &call.payer)
                    .bind(storable(&call.door))
                    .bind(storable(&call.model))
                    .bind(call.most.micros)
                    .bind(call.most.tokens)
                    .bind(call.most.requests)
                    .bind(call.at.0)
                    .bind(call.deadline.0)
                    .bind(call.ended_at.map(|at| at.0))
                    .bind(call.limit.as_ref().map(LimitId::as_str))
                    .bind(call.nonce);
            }
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

    /// Writes attempts down. One that is there already stays as it is.
    pub async fn add_attempts(&mut self, attempts: &[AttemptRow]) -> Result<()> {
        for bundle in bundles(attempts) {
            let mut statement: Statement = sqlx::query(insert_attempts(bundle.len()));
            for row in bundle {
                statement = statement
                    .bind(row.call.as_str())
                    .bind(row.attempt.n)
                    .bind(row.state.as_str())
                    .bind(storable(&row.attempt.upstream))
                    .bind(storable(&row.attempt.model))
                    .bind(storable(&row.attempt.whose))
                    .bind(row.attempt.secret.as_ref().map(SecretId::as_str))
                    .bind(row.started_at.0)
                    .bind(row.ended_at.map(|at| at.0))
                    .bind(row.note.as_deref().map(storable));
            }
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

    /// Adds lines to the ledger. A line that is there already is not added.
    pub async fn add_entries(&mut self, entries: &[Entry]) -> Result<()> {
        for bundle in bundles(entries) {
            let mut statement: Statement = sqlx::query(insert_entries(bundle.len()));
            for entry in bundle {
                let kind = match entry.kind {
                    EntryKind::Settle => "settle",
                    EntryKind::Adjust => "adjust",
                };
                statement = statement.bind(entry.key.as_str()).bind(kind).bind(entry.call.as_str());
                statement = bind_payer(statement, &entry.payer)
                    .bind(storable(&entry.door))
                    .bind(storable(&entry.model))
                    .bind(storable(&entry.upstream))
                    .bind(storable(&entry.upstream_model))
                    .bind(storable(&entry.whose));
                let tokens = &entry.tokens;
                let numbers = [
                    tokens.input,
                    tokens.output,
                    tokens.reasoning,
                    tokens.cache_read,
                    tokens.cache_write_5m,
                    tokens.cache_write_1h,
                    tokens.audio_in,
                    tokens.audio_out,
                    entry.amounts.tokens,
                    entry.amounts.micros,
                    entry.amounts.requests,
                    i64::from(entry.estimated),
                    i64::from(entry.suspect),
                    i64::from(entry.cache_hit),
                    entry.at.0,
                    entry.settled_at.0,
                ];
                statement = numbers.into_iter().fold(statement, Statement::bind);
            }
            statement.execute(self.connection()).await?;
        }
        Ok(())
    }

    /// What was booked for these calls as long as their ends were unknown, and not given back since.
    pub async fn list_adjusted(&mut self, ids: &[&CallId]) -> Result<Vec<(CallId, Amounts)>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let text = listed!(
            self.dialect,
            "SELECT e.call_id, e.micros, e.tokens, e.requests FROM ",
            " JOIN entries e ON e.key = 'adjust:' || (list.value ->> 0)",
            ""
        );
        let rows = sqlx::query(text).bind(id_list(ids)).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok((CallId::new(row.text("call_id")?), amounts(row)?))).collect()
    }

    /// Notes thresholds that were reached. One that is noted already for this window is not noted again.
    pub async fn add_crossings(&mut self, crossings: &[Crossing]) -> Result<()> {
        for bundle in bundles(crossings) {
            let mut statement: Statement = sqlx::query(insert_crossings(bundle.len()));
            for crossing in bundle {
                statement = statement
                    .bind(crossing.limit.as_str())
                    .bind(crossing.account.as_str())
                    .bind(crossing.threshold)
                    .bind(crossing.at.0);
            }
            statement.execute(self.connection()).await?;
        }
        Ok(())
    }

    /// Thresholds that were reached and that nobody was told of, oldest first.
    pub async fn list_untold_crossings(&mut self, limit: i64) -> Result<Vec<Crossing>> {
        let rows = sqlx::query(
            "SELECT limit_id, account_id, threshold, at FROM crossings WHERE told_at IS NULL \
             ORDER BY at, limit_id, account_id, threshold LIMIT $1",
        )
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Crossing {
                    limit: LimitId::new(row.text("limit_id")?),
                    account: row.text("account_id")?,
                    threshold: row.int("threshold")?,
                    at: Time(row.int("at")?),
                })
            })
            .collect()
    }

    /// Notes that people were told. `false` if somebody else told them.
    pub async fn tell_crossing(&mut self, crossing: &Crossing, now: Time) -> Result<bool> {
        let told = sqlx::query(
            "UPDATE crossings SET told_at = $4 \
             WHERE limit_id = $1 AND account_id = $2 AND threshold = $3 AND told_at IS NULL",
        )
        .bind(crossing.limit.as_str())
        .bind(crossing.account.as_str())
        .bind(crossing.threshold)
        .bind(now.0)
        .execute(self.connection())
        .await?;
        Ok(told.rows_affected() == 1)
    }
}

fn bind_payer(statement: Statement, payer: &Payer) -> Statement {
    statement
        .bind(payer.org.as_str())
        .bind(payer.user.as_str())
        .bind(payer.key.as_ref().map(KeyId::as_str))
        .bind(payer.chat.as_deref().map(storable))
        .bind(payer.turn.as_ref().map(TurnId::as_str))
        .bind(payer.run.as_deref().map(storable))
}

fn id_list(ids: &[&CallId]) -> String {
    json!(ids.iter().map(|id| [id.as_str()]).collect::<Vec<_>>()).to_string()
}

fn payer(row: &AnyRow) -> Result<Payer> {
    Ok(Payer {
        org: OrgId::new(row.text("org_id")?),
        zone: String::new(),
        user: UserId::new(row.text("user_id")?),
        key: row.maybe_text("key_id")?.map(KeyId::new),
        chat: row.maybe_text("chat")?,
        turn: row.maybe_text("turn_id")?.map(TurnId::new),
        run: row.maybe_text("run")?,
    })
}

fn amounts(row: &AnyRow) -> Result<Amounts> {
    Ok(Amounts { micros: row.int("micros")?, tokens: row.int("tokens")?, requests: row.int("requests")? })
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
