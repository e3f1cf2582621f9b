//! Plans: sets of limits with a name. Whoever has one has its limits, each a limit of their own that knows its plan.

use salon_core::{Limit, LimitId, OrgId, Time, UserId};
use sqlx::any::AnyRow;

use crate::Tx;
use crate::error::Result;
use crate::limits::limit;
use crate::row::{Column, storable};

/// A plan of an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub id: String,
    pub org: OrgId,
    pub name: String,
    /// Its limits, as JSON.
    pub body: String,
    pub created_at: Time,
    pub changed_at: Time,
}

impl Tx {
    /// Keeps others from giving, changing or removing plans, or limits, until the commit.
    pub async fn hold_plans(&mut self) -> Result<()> {
        self.lock_limits().await
    }

    /// Adds a plan. `false` if the organisation has one of this name.
    pub async fn add_plan(&mut self, plan: &Plan) -> Result<bool> {
        let added = sqlx::query(
            "INSERT INTO plans (id, org_id, name, body, created_at, changed_at) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT DO NOTHING",
        )
        .bind(&plan.id)
        .bind(plan.org.as_str())
        .bind(storable(&plan.name))
        .bind(&plan.body)
        .bind(plan.created_at.0)
        .bind(plan.changed_at.0)
        .execute(self.connection())
        .await?;
        Ok(added.rows_affected() == 1)
    }

    /// Changes a plan's name and body. `false` if it is not there any more, or another one has the name.
    pub async fn set_plan(&mut self, plan: &Plan) -> Result<bool> {
        let set = sqlx::query(
            "UPDATE plans SET name = $3, body = $4, changed_at = $5 WHERE id = $1 AND org_id = $2 \
               AND NOT EXISTS (SELECT 1 FROM plans p WHERE p.org_id = $2 AND p.name = $3 AND p.id <> $1)",
        )
        .bind(&plan.id)
        .bind(plan.org.as_str())
        .bind(storable(&plan.name))
        .bind(&plan.body)
        .bind(plan.changed_at.0)
        .execute(self.connection())
        .await?;
        Ok(set.rows_affected() == 1)
    }

    /// `false` if it is not there.
    pub async fn remove_plan(&mut self, org: &OrgId, id: &str) -> Result<bool> {
        let removed = sqlx::query("DELETE FROM plans WHERE id = $1 AND org_id = $2")
            .bind(id)
            .bind(org.as_str())
            .execute(self.connection())
            .await?;
        Ok(removed.rows_affected() == 1)
    }

    /// The plans of an organisation, by name.
    pub async fn list_plans(&mut self, org: &OrgId) -> Result<Vec<Plan>> {
        let rows = sqlx::query(
            "SELECT id, org_id, name, body, created_at, changed_at FROM plans WHERE org_id = $1 ORDER BY name, id",
        )
        .bind(org.as_str())
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(plan).collect()
    }

    /// A plan of an organisation by its id.
    pub async fn find_plan(&mut self, org: &OrgId, id: &str) -> Result<Option<Plan>> {
        let row = sqlx::query(
            "SELECT id, org_id, name, body, created_at, changed_at FROM plans WHERE id = $1 AND org_id = $2",
        )
        .bind(id)
        .bind(org.as_str())
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(plan).transpose()
    }

    /// Those who have a plan.
    pub async fn list_users_of_plan(&mut self, id: &str) -> Result<Vec<UserId>> {
        let rows = sqlx::query("SELECT id FROM users WHERE plan_id = $1 AND removed_at IS NULL ORDER BY id")
            .bind(id)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(|row| Ok(UserId::new(row.text("id")?))).collect()
    }

    /// Says which plan somebody has. The limits are the caller's to change, in the same transaction.
    pub async fn set_plan_of_user(&mut self, user: &UserId, plan: Option<&str>) -> Result<bool> {
        let set = sqlx::query("UPDATE users SET plan_id = $2 WHERE id = $1 AND removed_at IS NULL")
            .bind(user.as_str())
            .bind(plan)
            .execute(self.connection())
            .await?;
        Ok(set.rows_affected() == 1)
    }

    /// Notes that a plan gave a limit.
    pub async fn set_plan_of_limit(&mut self, id: &LimitId, plan: &str) -> Result<()> {
        sqlx::query("UPDATE limits SET plan_id = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(plan)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// The limits that plans gave somebody.
    pub async fn list_limits_by_plan(&mut self, org: &OrgId, user: &UserId) -> Result<Vec<Limit>> {
        let rows = sqlx::query(
            "SELECT id, org_id, scope, subject, measure, period, amount, policy, thresholds FROM limits \
             WHERE org_id = $1 AND scope = 'user' AND subject = $2 AND plan_id IS NOT NULL AND removed_at IS NULL \
             ORDER BY id",
        )
        .bind(org.as_str())
        .bind(user.as_str())
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(limit).collect()
    }
}

fn plan(row: &AnyRow) -> Result<Plan> {
    Ok(Plan {
        id: row.text("id")?,
        org: OrgId::new(row.text("org_id")?),
        name: row.text("name")?,
        body: row.text("body")?,
        created_at: Time(row.int("created_at")?),
        changed_at: Time(row.int("changed_at")?),
    })
}
