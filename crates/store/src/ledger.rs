//! The ledger: calls and their attempts, what is taken of accounts, and the entries that say what was used.
//!
//! Here are the statements, each for many rows at once. What may be reserved is decided by whoever calls them
//! (`salon::ledger`), between [`Tx::lock_accounts`] and [`Tx::write_accounts`], in one transaction:
//!
//! ```text
//! hold_limits ─► lock_calls ─► lock_accounts ─► (decide) ─► write_accounts, add_calls, add_attempts, add_entries, …
//! ```
//! Calls are locked before accounts, and both in the order of their ids, so that two groups never wait for each other.

mod accounts;
mod alerts;
mod attempts;
mod calls;
mod entries;
mod past;
mod usage;
mod whole;

use salon_core::{Amounts, CallId, KeyId, OrgId, Scope, TurnId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;

use crate::Tx;
use crate::dialect::Dialect;
use crate::error::Result;
use crate::many::{bundles, together};
use crate::row::{Column, storable};

pub use accounts::{Account, AccountKey, Difference, Holder, Reach};
pub use alerts::Alert;
pub use attempts::{Attempt, AttemptEnd, AttemptRow, AttemptState};
pub use calls::{Call, CallState};
pub use entries::{Crossing, Entry, EntryKind};
pub use usage::{CallFilter, DayUsage, LimitUse, ModelUsage, Usage, UsageFilter, UserUsage};
pub use whole::Whole;

use attempts::{bind_attempt, insert_attempts};
use calls::{bind_call, insert_calls};
use entries::{bind_entry, insert_entries};

type Statement = Query<'static, sqlx::Any, AnyArguments>;

/// For whom a call is made, and who pays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

together!(insert_calls_attempts, insert_calls, insert_attempts);
together!(insert_all, insert_calls_attempts, insert_entries);

impl Tx {
    /// [`Tx::add_calls`], [`Tx::add_attempts`] and [`Tx::add_entries`] in as few visits as the database allows.
    pub async fn add_rows(&mut self, calls: &[Call], attempts: &[AttemptRow], entries: &[Entry]) -> Result<()> {
        // Each call that begins has a first attempt, and where it ends in the same transaction, an entry.
        let alike = self.dialect == Dialect::Sqlite && calls.len() == attempts.len();
        if alike && attempts.len() == entries.len() {
            for ((calls, attempts), entries) in bundles(calls).zip(bundles(attempts)).zip(bundles(entries)) {
                let statement = sqlx::query(insert_all(self.dialect, calls.len()));
                let statement = attempts.iter().fold(calls.iter().fold(statement, bind_call), bind_attempt);
                entries.iter().fold(statement, bind_entry).execute(self.connection()).await?;
            }
            return Ok(());
        }
        if alike {
            for (calls, attempts) in bundles(calls).zip(bundles(attempts)) {
                let statement = sqlx::query(insert_calls_attempts(self.dialect, calls.len()));
                let statement = attempts.iter().fold(calls.iter().fold(statement, bind_call), bind_attempt);
                statement.execute(self.connection()).await?;
            }
        } else {
            self.add_calls(calls).await?;
            self.add_attempts(attempts).await?;
        }
        self.add_entries(entries).await
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
