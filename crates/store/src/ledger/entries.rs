//! Entries, which are only ever added, and the thresholds that they crossed.

use salon_core::{Amounts, CallId, LimitId, Time, Tokens};

use super::{Payer, Statement, amounts, bind_payer, id_list};
use crate::Tx;
use crate::dialect::listed;
use crate::error::Result;
use crate::many::{bundles, many};
use crate::row::{Column, storable};

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
    /// Adds lines to the ledger. A line that is there already is not added.
    pub async fn add_entries(&mut self, entries: &[Entry]) -> Result<()> {
        for bundle in bundles(entries) {
            let statement = sqlx::query(insert_entries(self.dialect, bundle.len()));
            let statement = bundle.iter().fold(statement, bind_entry);
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
            let mut statement: Statement = sqlx::query(insert_crossings(self.dialect, bundle.len()));
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

pub(super) fn bind_entry(statement: Statement, entry: &Entry) -> Statement {
    let kind = match entry.kind {
        EntryKind::Settle => "settle",
        EntryKind::Adjust => "adjust",
    };
    let statement = statement.bind(entry.key.as_str()).bind(kind).bind(entry.call.as_str());
    let statement = bind_payer(statement, &entry.payer)
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
    numbers.into_iter().fold(statement, Statement::bind)
}
