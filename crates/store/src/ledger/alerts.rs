//! Thresholds that were reached, with what is to be known of them: which limit, whose account, how much was taken.

use salon_core::{Limit, OrgId, Time};
use sqlx::any::AnyRow;

use super::Crossing;
use crate::Tx;
use crate::error::Result;
use crate::limits::limit;
use crate::row::Column;

/// A threshold that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// As it stands now.
    pub limit: Limit,
    pub account: String,
    /// Whose account it is: a user's, a key's, a chat's, a run's or an organisation's id.
    pub holder: String,
    /// In percent.
    pub threshold: i64,
    pub at: Time,
    /// When people were told; `None` if nobody was yet.
    pub told_at: Option<Time>,
    /// What is taken of the account now, reserved or spent.
    pub taken: i64,
    /// When the account's window ends.
    pub until: Time,
}

impl Alert {
    /// What the ledger noted.
    pub fn crossing(&self) -> Crossing {
        Crossing { limit: self.limit.id.clone(), account: self.account.clone(), threshold: self.threshold, at: self.at }
    }
}

impl Tx {
    /// Thresholds that were reached since a time and that nobody was told of, oldest first.
    pub async fn list_untold_alerts(&mut self, since: Time, limit: i64) -> Result<Vec<Alert>> {
        let rows = sqlx::query(
            "SELECT l.id, l.org_id, l.scope, l.subject, l.measure, l.period, l.amount, l.policy, l.thresholds, \
                    c.account_id, c.threshold, c.at, c.told_at, a.subject AS holder, a.window_end, \
                    a.reserved + a.spent AS taken \
             FROM crossings c JOIN limits l ON l.id = c.limit_id JOIN accounts a ON a.id = c.account_id \
             WHERE c.told_at IS NULL AND c.at >= $1 AND l.removed_at IS NULL \
             ORDER BY c.at, c.limit_id, c.account_id, c.threshold LIMIT CAST($2 AS BIGINT)",
        )
        .bind(since.0)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(alert).collect()
    }

    /// The thresholds of an organisation that were reached since a time, whether anybody was told or not, newest first.
    pub async fn list_alerts(&mut self, org: &OrgId, since: Time, limit: i64) -> Result<Vec<Alert>> {
        let rows = sqlx::query(
            "SELECT l.id, l.org_id, l.scope, l.subject, l.measure, l.period, l.amount, l.policy, l.thresholds, \
                    c.account_id, c.threshold, c.at, c.told_at, a.subject AS holder, a.window_end, \
                    a.reserved + a.spent AS taken \
             FROM crossings c JOIN limits l ON l.id = c.limit_id JOIN accounts a ON a.id = c.account_id \
             WHERE l.org_id = $1 AND c.at >= $2 \
             ORDER BY c.at DESC, c.limit_id, c.account_id, c.threshold DESC LIMIT CAST($3 AS BIGINT)",
        )
        .bind(org.as_str())
        .bind(since.0)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(alert).collect()
    }
}

fn alert(row: &AnyRow) -> Result<Alert> {
    Ok(Alert {
        limit: limit(row)?,
        account: row.text("account_id")?,
        holder: row.text("holder")?,
        threshold: row.int("threshold")?,
        at: Time(row.int("at")?),
        told_at: row.maybe_int("told_at")?.map(Time),
        taken: row.int("taken")?,
        until: Time(row.int("window_end")?),
    })
}
