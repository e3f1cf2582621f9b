//! Two people who turn out to be one: what the one took becomes what the other took.

use salon_core::{OrgId, Time, UserId};

use crate::Tx;
use crate::error::Result;
use crate::row::Column;

/// Calls that may still count somewhere, each looked for by the index that knows them.
const OPEN: [&str; 4] = [
    "UPDATE calls SET user_id = $3 WHERE org_id = $1 AND user_id = $2 AND state = 'held'",
    "UPDATE calls SET user_id = $3 WHERE org_id = $1 AND user_id = $2 AND state = 'approved'",
    "UPDATE calls SET user_id = $3 WHERE org_id = $1 AND user_id = $2 AND state = 'reserved'",
    "UPDATE calls SET user_id = $3 WHERE org_id = $1 AND user_id = $2 AND state = 'unknown'",
];

impl Tx {
    /// Makes what `from` took within an organisation `to`'s, as if they had been one from the beginning: what was settled,
    /// what is under way or waits, and with it what is left of limits. Limits of `from`'s own that `to` has none like
    /// become `to`'s; with `plan` those that a plan gave, too. What was done already is not done again.
    ///
    /// It waits until nobody is in the middle of reserving or settling.
    pub async fn take_over(&mut self, org: &OrgId, from: &UserId, to: &UserId, plan: bool, now: Time) -> Result<()> {
        self.lock_limits().await?;
        let settled = "UPDATE calls SET user_id = $3 WHERE org_id = $1 AND user_id = $2 \
                       AND id IN (SELECT call_id FROM entries WHERE user_id = $2)";
        let entries = "UPDATE entries SET user_id = $3 WHERE org_id = $1 AND user_id = $2";
        for text in OPEN.into_iter().chain([settled, entries]) {
            sqlx::query(text)
                .bind(org.as_str())
                .bind(from.as_str())
                .bind(to.as_str())
                .execute(self.connection())
                .await?;
        }
        let moved = sqlx::query(
            "UPDATE limits SET subject = $3, changed_at = $5 \
             WHERE org_id = $1 AND scope = 'user' AND subject = $2 AND removed_at IS NULL \
               AND ((plan_id IS NOT NULL AND CAST($4 AS BIGINT) = 1) OR (plan_id IS NULL AND NOT EXISTS ( \
                 SELECT 1 FROM limits l WHERE l.org_id = $1 AND l.scope = 'user' AND l.subject = $3 \
                   AND l.measure = limits.measure AND l.period = limits.period AND l.removed_at IS NULL)))",
        )
        .bind(org.as_str())
        .bind(from.as_str())
        .bind(to.as_str())
        .bind(i64::from(plan))
        .bind(now.0)
        .execute(self.connection())
        .await?;
        self.raise_limits(moved.rows_affected()).await?;
        let accounts = sqlx::query(
            "SELECT id FROM accounts WHERE org_id = $1 AND scope = 'user' AND (subject = $2 OR subject = $3) ORDER BY id",
        )
        .bind(org.as_str())
        .bind(from.as_str())
        .bind(to.as_str())
        .fetch_all(self.connection())
        .await?;
        for account in accounts {
            self.recount_account(&account.text("id")?).await?;
        }
        Ok(())
    }

    /// Sets an account to what its entries and calls say. Whether it is stopped stays as it is.
    async fn recount_account(&mut self, id: &str) -> Result<()> {
        let Some((account, spent, reserved)) = self.recount(id).await? else { return Ok(()) };
        let grace = account.cap.map_or(0, |cap| (spent + reserved - cap).max(0));
        sqlx::query("UPDATE accounts SET spent = $2, reserved = $3, grace = $4, version = version + 1 WHERE id = $1")
            .bind(id)
            .bind(spent)
            .bind(reserved)
            .bind(grace)
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
