//! Two people who turn out to be one, and one who becomes two again: what was taken counts for both.

use std::time::Duration;

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

/// What was used within the last 40 days is carried to the quarter of an hour, because days begin at such a one in every
/// zone; what is older lies in no window that ends.
const RECENT: Duration = Duration::from_secs(40 * 24 * 60 * 60);
const CARRIED: [&str; 3] = [
    "INSERT INTO carried (org_id, user_id, at, micros, tokens, requests) \
     SELECT $1, $3, MIN(at), CAST(SUM(micros) AS BIGINT), CAST(SUM(tokens) AS BIGINT), CAST(SUM(requests) AS BIGINT) \
     FROM entries WHERE org_id = $1 AND user_id = $2 GROUP BY CASE WHEN at < $4 THEN 0 ELSE at / 900000 END",
    // What is under way counts with the most that it may take: it may end after they have parted.
    "INSERT INTO carried (org_id, user_id, at, micros, tokens, requests) \
     SELECT $1, $3, MIN(at), CAST(SUM(micros) AS BIGINT), CAST(SUM(tokens) AS BIGINT), CAST(SUM(requests) AS BIGINT) \
     FROM calls WHERE org_id = $1 AND user_id = $2 AND state = 'reserved' \
     GROUP BY CASE WHEN at < $4 THEN 0 ELSE at / 900000 END",
    "INSERT INTO carried (org_id, user_id, at, micros, tokens, requests) \
     SELECT $1, $3, MIN(at), CAST(SUM(micros) AS BIGINT), CAST(SUM(tokens) AS BIGINT), CAST(SUM(requests) AS BIGINT) \
     FROM carried WHERE org_id = $1 AND user_id = $2 GROUP BY CASE WHEN at < $4 THEN 0 ELSE at / 900000 END",
];

impl Tx {
    /// Lets `to`'s limits count what `from` used, who was the same person until now. It is in no report, because it was
    /// used once. Answers whether there was anything.
    ///
    /// It waits until nobody is in the middle of reserving or settling.
    pub async fn carry(&mut self, org: &OrgId, from: &UserId, to: &UserId, now: Time) -> Result<bool> {
        self.lock_limits().await?;
        self.drop_carried(org, to).await?;
        let mut carried = 0;
        for text in CARRIED {
            let written = sqlx::query(text)
                .bind(org.as_str())
                .bind(from.as_str())
                .bind(to.as_str())
                .bind((now - RECENT).0)
                .execute(self.connection())
                .await?;
            carried += written.rows_affected();
        }
        self.recount_accounts(org, [to, to]).await?;
        Ok(carried > 0)
    }

    async fn drop_carried(&mut self, org: &OrgId, user: &UserId) -> Result<()> {
        sqlx::query("DELETE FROM carried WHERE org_id = $1 AND user_id = $2")
            .bind(org.as_str())
            .bind(user.as_str())
            .execute(self.connection())
            .await?;
        Ok(())
    }

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
        // What was carried to them is among the other's entries, or was never theirs.
        self.drop_carried(org, from).await?;
        self.recount_accounts(org, [from, to]).await
    }

    async fn recount_accounts(&mut self, org: &OrgId, of: [&UserId; 2]) -> Result<()> {
        let accounts = sqlx::query(
            "SELECT id FROM accounts WHERE org_id = $1 AND scope = 'user' AND (subject = $2 OR subject = $3) ORDER BY id",
        )
        .bind(org.as_str())
        .bind(of[0].as_str())
        .bind(of[1].as_str())
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
