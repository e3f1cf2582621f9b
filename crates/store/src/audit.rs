//! The audit: what was done, each line bound to the one before. The store keeps the lines and their order; what binds them
//! is computed outside, with a key that is not here.

use salon_core::{OrgId, Time};
use sqlx::any::AnyRow;

use crate::Tx;
use crate::error::Result;
use crate::row::{Column, storable};

/// A line of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    pub seq: i64,
    pub at: Time,
    pub actor: String,
    pub org: OrgId,
    pub action: String,
    pub object: String,
    pub result: String,
    /// JSON.
    pub detail: String,
    /// What binds the line before; empty for the first one.
    pub prev: String,
    pub mac: String,
}

/// Where the audit ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditHead {
    /// 0 if there is no line.
    pub seq: i64,
    pub mac: String,
}

/// Which lines are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    pub org: Option<OrgId>,
    pub action: Option<String>,
    pub actor: Option<String>,
    pub since: Option<Time>,
    /// Only lines before this one.
    pub before: Option<i64>,
}

impl Tx {
    /// Where the audit ends, for whoever writes the next line: others wait until the commit. To be called as late in a
    /// transaction as may be, and followed by [`Tx::add_audit_line`].
    pub async fn hold_audit(&mut self) -> Result<AuditHead> {
        let row = sqlx::query("UPDATE audit_head SET seq = seq WHERE id = 1 RETURNING seq, mac")
            .fetch_one(self.connection())
            .await?;
        Ok(AuditHead { seq: row.int("seq")?, mac: row.text("mac")? })
    }

    /// Writes the next line. A number that is taken is an error.
    pub async fn add_audit_line(&mut self, line: &AuditLine) -> Result<()> {
        sqlx::query(
            "INSERT INTO audit (seq, at, actor, org_id, action, object, result, detail, prev, mac) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(line.seq)
        .bind(line.at.0)
        .bind(&line.actor)
        .bind(line.org.as_str())
        .bind(&line.action)
        .bind(&line.object)
        .bind(&line.result)
        .bind(&line.detail)
        .bind(&line.prev)
        .bind(&line.mac)
        .execute(self.connection())
        .await?;
        sqlx::query("UPDATE audit_head SET seq = $1, mac = $2 WHERE id = 1")
            .bind(line.seq)
            .bind(&line.mac)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Where the audit ends, to be looked at.
    pub async fn audit_head(&mut self) -> Result<AuditHead> {
        let row = sqlx::query("SELECT seq, mac FROM audit_head WHERE id = 1").fetch_one(self.connection()).await?;
        Ok(AuditHead { seq: row.int("seq")?, mac: row.text("mac")? })
    }

    /// Lines after a number, in their order.
    pub async fn walk_audit(&mut self, after: i64, limit: i64) -> Result<Vec<AuditLine>> {
        let rows = sqlx::query(
            "SELECT seq, at, actor, org_id, action, object, result, detail, prev, mac FROM audit \
             WHERE seq > $1 ORDER BY seq LIMIT CAST($2 AS BIGINT)",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(line).collect()
    }

    /// The lines that are wanted, newest first.
    pub async fn list_audit(&mut self, filter: &AuditFilter, limit: i64) -> Result<Vec<AuditLine>> {
        let rows = sqlx::query(
            "SELECT seq, at, actor, org_id, action, object, result, detail, prev, mac FROM audit \
             WHERE (CAST($1 AS TEXT) IS NULL OR org_id = $1) AND (CAST($2 AS TEXT) IS NULL OR action = $2) \
               AND (CAST($3 AS TEXT) IS NULL OR actor = $3) AND at >= $4 AND seq < $5 \
             ORDER BY seq DESC LIMIT CAST($6 AS BIGINT)",
        )
        .bind(filter.org.as_ref().map(OrgId::as_str))
        .bind(filter.action.as_deref().map(storable))
        .bind(filter.actor.as_deref().map(storable))
        .bind(filter.since.map_or(i64::MIN, |since| since.0))
        .bind(filter.before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(line).collect()
    }
}

fn line(row: &AnyRow) -> Result<AuditLine> {
    Ok(AuditLine {
        seq: row.int("seq")?,
        at: Time(row.int("at")?),
        actor: row.text("actor")?,
        org: OrgId::new(row.text("org_id")?),
        action: row.text("action")?,
        object: row.text("object")?,
        result: row.text("result")?,
        detail: row.text("detail")?,
        prev: row.text("prev")?,
        mac: row.text("mac")?,
    })
}
