//! Limits as data. Every change raises the revision, by which others see that what they remember is old.

use salon_core::{Limit, LimitId, Limits, Measure, OrgId, Period, Policy, Scope, Time};
use sqlx::any::AnyRow;

use crate::Tx;
use crate::dialect::Gate;
use crate::error::Result;
use crate::row::{Column, storable};

impl Tx {
    /// The revision of the limits. Whoever has it from here keeps limits from being changed, and accounts from being
    /// opened, until he has committed.
    pub async fn hold_limits(&mut self) -> Result<i64> {
        self.pass_gate(Gate::Shared).await?;
        self.limits_revision().await
    }

    /// Waits for everyone who holds the limits, and keeps others out until the commit.
    pub(crate) async fn lock_limits(&mut self) -> Result<()> {
        self.pass_gate(Gate::Alone).await
    }

    /// A statement of its own: what the next one sees is then newer than the wait.
    async fn pass_gate(&mut self, gate: Gate) -> Result<()> {
        if let Some(text) = self.dialect.gate(gate) {
            sqlx::query(text).execute(self.connection()).await?;
        }
        Ok(())
    }

    /// The revision of the limits, to be looked at.
    pub async fn limits_revision(&mut self) -> Result<i64> {
        let text = "SELECT revision FROM revisions WHERE name = 'limits'";
        sqlx::query(text).fetch_one(self.connection()).await?.int("revision")
    }

    /// Every limit of every organisation. The revision is read first: what is newer than it says does no harm.
    pub async fn load_limits(&mut self) -> Result<Limits> {
        let revision = self.limits_revision().await?;
        let rows = sqlx::query(
            "SELECT id, org_id, scope, subject, measure, period, amount, policy, thresholds FROM limits \
             WHERE removed_at IS NULL ORDER BY id",
        )
        .fetch_all(self.connection())
        .await?;
        let limits = rows.iter().map(limit).collect::<Result<Vec<Limit>>>()?;
        let rows = sqlx::query("SELECT DISTINCT org_id FROM limits").fetch_all(self.connection()).await?;
        let orgs = rows.iter().map(|row| row.text("org_id").map(OrgId::new)).collect::<Result<Vec<OrgId>>>()?;
        Ok(Limits::new(revision, limits, orgs))
    }

    /// Adds a limit. `false` if there is one of this id.
    pub async fn add_limit(&mut self, limit: &Limit, now: Time) -> Result<bool> {
        self.lock_limits().await?;
        let subject = limit.subject.as_deref().map(storable);
        let added = sqlx::query(
            "INSERT INTO limits (id, org_id, scope, subject, measure, period, amount, policy, thresholds, \
                                 created_at, changed_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10) ON CONFLICT DO NOTHING",
        )
        .bind(limit.id.as_str())
        .bind(limit.org.as_str())
        .bind(limit.scope.as_str())
        .bind(subject)
        .bind(limit.measure.as_str())
        .bind(limit.period.as_str())
        .bind(limit.amount)
        .bind(limit.policy.as_str())
        .bind(joined(&limit.thresholds))
        .bind(now.0)
        .execute(self.connection())
        .await?;
        self.raise_limits(added.rows_affected()).await
    }

    /// Changes how much a limit allows and what happens beyond. What it is about stays: another measure or period would
    /// be another limit. `false` if there is no such limit.
    pub async fn change_limit(&mut self, org: &OrgId, id: &LimitId, terms: &Terms, now: Time) -> Result<bool> {
        self.lock_limits().await?;
        let changed = sqlx::query(
            "UPDATE limits SET amount = $3, policy = $4, thresholds = $5, changed_at = $6 \
             WHERE id = $1 AND org_id = $2 AND removed_at IS NULL",
        )
        .bind(id.as_str())
        .bind(org.as_str())
        .bind(terms.amount)
        .bind(terms.policy.as_str())
        .bind(joined(&terms.thresholds))
        .bind(now.0)
        .execute(self.connection())
        .await?;
        self.raise_limits(changed.rows_affected()).await
    }

    /// Takes a limit away. `false` if there is no such limit.
    pub async fn remove_limit(&mut self, org: &OrgId, id: &LimitId, now: Time) -> Result<bool> {
        self.lock_limits().await?;
        let removed =
            sqlx::query("UPDATE limits SET removed_at = $3 WHERE id = $1 AND org_id = $2 AND removed_at IS NULL")
                .bind(id.as_str())
                .bind(org.as_str())
                .bind(now.0)
                .execute(self.connection())
                .await?;
        self.raise_limits(removed.rows_affected()).await
    }

    pub(crate) async fn raise_limits(&mut self, changes: u64) -> Result<bool> {
        if changes > 0 {
            sqlx::query("UPDATE revisions SET revision = revision + 1 WHERE name = 'limits'")
                .execute(self.connection())
                .await?;
        }
        Ok(changes > 0)
    }

    /// The limits of an organisation, oldest first.
    pub async fn list_limits(&mut self, org: &OrgId) -> Result<Vec<Limit>> {
        let rows = sqlx::query(
            "SELECT id, org_id, scope, subject, measure, period, amount, policy, thresholds FROM limits \
             WHERE org_id = $1 AND removed_at IS NULL ORDER BY created_at, id",
        )
        .bind(org.as_str())
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(limit).collect()
    }

    pub async fn find_limit(&mut self, org: &OrgId, id: &LimitId) -> Result<Option<Limit>> {
        let row = sqlx::query(
            "SELECT id, org_id, scope, subject, measure, period, amount, policy, thresholds FROM limits \
             WHERE org_id = $1 AND id = $2 AND removed_at IS NULL",
        )
        .bind(org.as_str())
        .bind(id.as_str())
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(limit).transpose()
    }
}

/// What of a limit can be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub amount: i64,
    pub policy: Policy,
    pub thresholds: Vec<i64>,
}

pub(crate) fn limit(row: &AnyRow) -> Result<Limit> {
    let word = |name: &'static str| -> Result<(&'static str, String)> { Ok((name, row.text(name)?)) };
    let (scope, measure, period, policy) = (word("scope")?, word("measure")?, word("period")?, word("policy")?);
    Ok(Limit {
        id: LimitId::new(row.text("id")?),
        org: OrgId::new(row.text("org_id")?),
        scope: known(&scope, Scope::parse)?,
        subject: row.maybe_text("subject")?,
        measure: known(&measure, Measure::parse)?,
        period: known(&period, Period::parse)?,
        amount: row.int("amount")?,
        policy: known(&policy, Policy::parse)?,
        thresholds: row.text("thresholds")?.split(',').filter_map(|percent| percent.parse().ok()).collect(),
    })
}

pub(crate) fn known<T>((name, text): &(&str, String), parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    parse(text).ok_or_else(|| anyhow::anyhow!("{text} is no {name}").into())
}

fn joined(thresholds: &[i64]) -> String {
    thresholds.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}
