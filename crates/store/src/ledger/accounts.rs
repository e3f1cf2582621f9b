//! Accounts: what is taken of one measure, by one holder, in one window.

use salon_core::{Amounts, Measure, OrgId, Period, Scope, Time, Window, Zone};
use serde_json::json;
use sqlx::any::AnyRow;

use super::{LimitUse, Statement};
use crate::Tx;
use crate::dialect::listed;
use crate::error::Result;
use crate::limits::known;
use crate::many::{bundles, many};
use crate::row::{Column, storable};

/// Whose use is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    pub scope: Scope,
    pub org: OrgId,
    pub subject: String,
}

impl Holder {
    pub fn new(scope: Scope, org: &OrgId, subject: &str) -> Holder {
        Holder { scope, org: org.clone(), subject: storable(subject) }
    }

    fn text(&self) -> String {
        format!("{}/{}/{}", self.scope.as_str(), self.org, self.subject)
    }
}

/// Which account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountKey {
    pub holder: Holder,
    pub measure: Measure,
    pub period: Period,
    pub window: Window,
}

impl AccountKey {
    pub fn id(&self) -> String {
        let (measure, period) = (self.measure.as_str(), self.period.as_str());
        format!("{measure}/{period}/{}/{}", self.window.start, self.holder.text())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub id: String,
    pub key: AccountKey,
    /// A reservation never goes beyond it.
    pub cap: Option<i64>,
    /// What lies beyond the cap for other reasons than a reservation.
    pub grace: i64,
    pub reserved: i64,
    pub spent: i64,
    pub version: i64,
    /// Why nothing is reserved here any more.
    pub stopped: Option<String>,
}

impl Account {
    /// Gives back what was reserved. Never more than there is: a wrong account is found by counting it anew, and must not
    /// keep what happened from being written.
    pub fn give_back(&mut self, amount: i64) {
        if amount > self.reserved {
            tracing::error!(
                account.id = self.id,
                amount,
                reserved = self.reserved,
                "more is given back than was reserved"
            );
        }
        self.reserved = (self.reserved - amount).max(0);
    }
}

/// The accounts of a holder whose windows have to do with a stretch of time, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub holder: Holder,
    pub from: Time,
    pub to: Time,
}

/// An account that disagrees with the entries and calls it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub account: String,
    pub reserved: i64,
    pub reserved_by_calls: i64,
    pub spent: i64,
    pub spent_by_entries: i64,
}

many!(
    update_accounts,
    6,
    "UPDATE accounts SET cap = v.column2, grace = v.column3, reserved = v.column4, spent = v.column5, \
                         version = accounts.version + 1 FROM (VALUES ",
    ") AS v WHERE accounts.id = v.column1 AND accounts.version = v.column6"
);

/// What the account used that somebody was unlinked from.
const CARRIED: &str = "SELECT COALESCE(CAST(SUM(micros) AS BIGINT), 0) AS micros, \
                              COALESCE(CAST(SUM(tokens) AS BIGINT), 0) AS tokens, \
                              COALESCE(CAST(SUM(requests) AS BIGINT), 0) AS requests \
                       FROM carried WHERE org_id = $1 AND user_id = $2 AND at >= $3 AND at < $4";

/// What one holder's calls took in a window. Only the index of the holder's own column is of use, which the odd
/// comparison of the organisation says to the planner.
macro_rules! sums {
    ($column:literal) => {
        (
            concat!(
                "SELECT COALESCE(CAST(SUM(micros) AS BIGINT), 0) AS micros, \
                        COALESCE(CAST(SUM(tokens) AS BIGINT), 0) AS tokens, \
                        COALESCE(CAST(SUM(requests) AS BIGINT), 0) AS requests \
                 FROM entries WHERE org_id || '' = $1 AND ",
                $column,
                " = $2 AND at >= $3 AND at < $4"
            ),
            concat!(
                "SELECT COALESCE(CAST(SUM(micros) AS BIGINT), 0) AS micros, \
                        COALESCE(CAST(SUM(tokens) AS BIGINT), 0) AS tokens, \
                        COALESCE(CAST(SUM(requests) AS BIGINT), 0) AS requests \
                 FROM calls WHERE state = 'reserved' AND deadline > 0 AND org_id = $1 AND ",
                $column,
                " = $2 AND at >= $3 AND at < $4"
            ),
        )
    };
}

impl Tx {
    /// The accounts within reach, in the order of their ids, kept from everyone else until the commit.
    pub async fn lock_accounts(&mut self, reaches: &[Reach]) -> Result<Vec<Account>> {
        if reaches.is_empty() {
            return Ok(Vec::new());
        }
        let list: Vec<_> = reaches.iter().map(|reach| json!([reach.holder.text(), reach.from.0, reach.to.0])).collect();
        let text = listed!(
            self.dialect,
            "SELECT a.id, a.org_id, a.scope, a.subject, a.measure, a.period, a.window_start, a.window_end, a.cap, \
                    a.grace, a.reserved, a.spent, a.version, a.stopped FROM ",
            " JOIN accounts a ON a.holder = list.value ->> 0 AND a.window_end > CAST(list.value ->> 1 AS BIGINT) \
                             AND a.window_start <= CAST(list.value ->> 2 AS BIGINT) ORDER BY a.id",
            " FOR UPDATE OF a"
        );
        let rows = sqlx::query(text).bind(json!(list).to_string()).fetch_all(self.connection()).await?;
        rows.iter().map(account).collect()
    }

    /// The same to be looked at.
    pub async fn list_accounts(&mut self, reaches: &[Reach]) -> Result<Vec<Account>> {
        let list: Vec<_> = reaches.iter().map(|reach| json!([reach.holder.text(), reach.from.0, reach.to.0])).collect();
        let text = listed!(
            self.dialect,
            "SELECT a.id, a.org_id, a.scope, a.subject, a.measure, a.period, a.window_start, a.window_end, a.cap, \
                    a.grace, a.reserved, a.spent, a.version, a.stopped FROM ",
            " JOIN accounts a ON a.holder = list.value ->> 0 AND a.window_end > CAST(list.value ->> 1 AS BIGINT) \
                             AND a.window_start <= CAST(list.value ->> 2 AS BIGINT) ORDER BY a.id",
            ""
        );
        let rows = sqlx::query(text).bind(json!(list).to_string()).fetch_all(self.connection()).await?;
        rows.iter().map(account).collect()
    }

    /// The accounts of an organisation whose windows are open at `now`, of which most is taken first.
    pub async fn list_open_accounts(&mut self, org: &OrgId, now: Time, limit: i64) -> Result<Vec<Account>> {
        let rows = sqlx::query(
            "SELECT id, org_id, scope, subject, measure, period, window_start, window_end, cap, grace, reserved, spent, \
                    version, stopped FROM accounts \
             WHERE org_id = $1 AND window_end > $2 AND window_start <= $2 ORDER BY spent + reserved DESC, id LIMIT $3",
        )
        .bind(org.as_str())
        .bind(now.0)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(account).collect()
    }

    /// What one holder has taken, such as one person, in the windows that are open at `now` by the organisation's zone.
    /// Where that was changed, others may be open beside, by which nothing is decided any more.
    pub async fn list_accounts_of(
        &mut self,
        org: &OrgId,
        (scope, subject): (Scope, &str),
        now: Time,
    ) -> Result<Vec<Account>> {
        let rows = sqlx::query(
            "SELECT id, org_id, scope, subject, measure, period, window_start, window_end, cap, grace, reserved, spent, \
                    version, stopped FROM accounts \
             WHERE org_id = $1 AND scope = $2 AND subject = $3 AND window_end > $4 AND window_start <= $4 ORDER BY id",
        )
        .bind(org.as_str())
        .bind(scope.as_str())
        .bind(subject)
        .bind(now.0)
        .fetch_all(self.connection())
        .await?;
        let zone = self.zone_of(org).await?;
        let mut accounts = rows.iter().map(account).collect::<Result<Vec<Account>>>()?;
        accounts.retain(|account| account.key.window == account.key.period.window(&zone, now));
        Ok(accounts)
    }

    async fn zone_of(&mut self, org: &OrgId) -> Result<Zone> {
        let org = self.find_org(org).await?;
        Ok(org.and_then(|org| Zone::find(&org.zone)).unwrap_or_else(Zone::utc))
    }

    /// The limits of an organisation, oldest first, each with what is taken of it by whom in the window that is open at
    /// `now` by the organisation's zone: of each those who took most, at most `top`.
    pub async fn list_limit_uses(&mut self, org: &OrgId, now: Time, top: i64) -> Result<Vec<LimitUse>> {
        let limits = self.list_limits(org).await?;
        let zone = self.zone_of(org).await?;
        let mut uses = Vec::with_capacity(limits.len());
        for limit in &limits {
            let window = limit.period.window(&zone, now);
            let rows = sqlx::query(
                "SELECT a.id, a.org_id, a.scope, a.subject, a.measure, a.period, a.window_start, a.window_end, a.cap, \
                        a.grace, a.reserved, a.spent, a.version, a.stopped FROM accounts a \
                 WHERE a.org_id = $1 AND a.window_start = $2 AND a.window_end = $8 AND a.scope = $3 \
                   AND a.measure = $4 AND a.period = $5 AND (CAST($6 AS TEXT) IS NULL OR a.subject = $6) \
                   AND (CAST($6 AS TEXT) IS NOT NULL OR NOT EXISTS ( \
                     SELECT 1 FROM limits l WHERE l.org_id = a.org_id AND l.scope = a.scope AND l.subject = a.subject \
                       AND l.measure = a.measure AND l.period = a.period AND l.removed_at IS NULL)) \
                 ORDER BY a.spent + a.reserved DESC, a.subject LIMIT $7",
            )
            .bind(org.as_str())
            .bind(window.start.0)
            .bind(limit.scope.as_str())
            .bind(limit.measure.as_str())
            .bind(limit.period.as_str())
            .bind(limit.subject.as_deref())
            .bind(top)
            .bind(window.end.0)
            .fetch_all(self.connection())
            .await?;
            let accounts = rows.iter().map(account).collect::<Result<Vec<Account>>>()?;
            uses.push(LimitUse { limit: limit.clone(), accounts });
        }
        Ok(uses)
    }

    /// Writes back accounts that this transaction has locked.
    pub async fn write_accounts(&mut self, accounts: &[&Account]) -> Result<()> {
        for bundle in bundles(accounts) {
            let mut statement: Statement = sqlx::query(update_accounts(self.dialect, bundle.len()));
            for account in bundle {
                statement = statement
                    .bind(account.id.as_str())
                    .bind(account.cap)
                    .bind(account.grace)
                    .bind(account.reserved)
                    .bind(account.spent)
                    .bind(account.version);
            }
            let written = statement.execute(self.connection()).await?.rows_affected();
            if written != bundle.len() as u64 {
                return Err(anyhow::anyhow!("{written} of {} accounts were as they had been read", bundle.len()).into());
            }
        }
        Ok(())
    }

    /// Opens accounts that a limit has come to need, with what was taken so far. One that is there already stays as it
    /// is. To be called alone in its transaction: it waits until nobody is in the middle of reserving or settling.
    pub async fn open_accounts(&mut self, keys: &[(AccountKey, Option<i64>)], now: Time) -> Result<()> {
        self.lock_limits().await?;
        for (key, cap) in keys {
            let (spent, reserved) = self.taken(&key.holder, key.measure, key.window).await?;
            let over = cap.map_or(0, |cap| (spent + reserved - cap).max(0));
            sqlx::query(
                "INSERT INTO accounts (id, org_id, holder, scope, subject, measure, period, window_start, window_end, \
                                       cap, grace, reserved, spent, version, checked_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 1, $14) ON CONFLICT DO NOTHING",
            )
            .bind(key.id())
            .bind(key.holder.org.as_str())
            .bind(key.holder.text())
            .bind(key.holder.scope.as_str())
            .bind(key.holder.subject.as_str())
            .bind(key.measure.as_str())
            .bind(key.period.as_str())
            .bind(key.window.start.0)
            .bind(key.window.end.0)
            .bind(*cap)
            .bind(over)
            .bind(reserved)
            .bind(spent)
            .bind(now.0)
            .execute(self.connection())
            .await?;
        }
        Ok(())
    }

    /// What the entries and the calls under way say was taken: spent, with what was carried along, and reserved.
    async fn taken(&mut self, holder: &Holder, measure: Measure, window: Window) -> Result<(i64, i64)> {
        let (entries, calls) = match holder.scope {
            Scope::Run => sums!("run"),
            Scope::Key => sums!("key_id"),
            Scope::User => sums!("user_id"),
            Scope::Chat => sums!("chat"),
            Scope::Org => return self.taken_by_org(&holder.org, measure, window).await,
        };
        let mut spent = self.sum(entries, holder, measure, window).await?;
        if holder.scope == Scope::User {
            spent += self.sum(CARRIED, holder, measure, window).await?;
        }
        Ok((spent, self.sum(calls, holder, measure, window).await?))
    }

    async fn sum(&mut self, text: &'static str, holder: &Holder, measure: Measure, window: Window) -> Result<i64> {
        let row = sqlx::query(text)
            .bind(holder.org.as_str())
            .bind(holder.subject.as_str())
            .bind(window.start.0)
            .bind(window.end.0)
            .fetch_one(self.connection())
            .await?;
        Ok(super::amounts(&row)?.of(measure))
    }

    async fn taken_by_org(&mut self, org: &OrgId, measure: Measure, window: Window) -> Result<(i64, i64)> {
        let entries = "SELECT COALESCE(CAST(SUM(micros) AS BIGINT), 0) AS micros, \
                              COALESCE(CAST(SUM(tokens) AS BIGINT), 0) AS tokens, \
                              COALESCE(CAST(SUM(requests) AS BIGINT), 0) AS requests \
                       FROM entries WHERE org_id = $1 AND at >= $2 AND at < $3";
        let calls = "SELECT COALESCE(CAST(SUM(micros) AS BIGINT), 0) AS micros, \
                            COALESCE(CAST(SUM(tokens) AS BIGINT), 0) AS tokens, \
                            COALESCE(CAST(SUM(requests) AS BIGINT), 0) AS requests \
                     FROM calls WHERE state = 'reserved' AND deadline > 0 AND org_id = $1 AND at >= $2 AND at < $3";
        let mut sums = [Amounts::default(); 2];
        for (sum, text) in sums.iter_mut().zip([entries, calls]) {
            let row = sqlx::query(text)
                .bind(org.as_str())
                .bind(window.start.0)
                .bind(window.end.0)
                .fetch_one(self.connection())
                .await?;
            *sum = super::amounts(&row)?;
        }
        Ok((sums[0].of(measure), sums[1].of(measure)))
    }

    /// Accounts that were not checked since `before` and whose windows are open or ended after `ended`, oldest check
    /// first.
    pub async fn list_unchecked(&mut self, before: Time, ended: Time, limit: i64) -> Result<Vec<String>> {
        let rows = sqlx::query(
            "SELECT id FROM accounts WHERE checked_at < $1 AND window_end > $2 ORDER BY checked_at, id LIMIT $3",
        )
        .bind(before.0)
        .bind(ended.0)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| row.text("id")).collect()
    }

    /// Counts an account's entries and calls anew. If it disagrees, nothing can be reserved there until somebody has
    /// looked ([`Tx::restate_account`]).
    pub async fn check_account(&mut self, id: &str, now: Time) -> Result<Option<Difference>> {
        let Some((account, spent, reserved)) = self.recount(id).await? else { return Ok(None) };
        let difference = (account.spent, account.reserved) != (spent, reserved);
        let why = difference.then(|| {
            format!(
                "spent {} where entries say {spent}, reserved {} where calls say {reserved}",
                account.spent, account.reserved
            )
        });
        sqlx::query("UPDATE accounts SET checked_at = $2, stopped = COALESCE($3, stopped) WHERE id = $1")
            .bind(id)
            .bind(now.0)
            .bind(why)
            .execute(self.connection())
            .await?;
        Ok(difference.then(|| Difference {
            account: id.to_owned(),
            reserved: account.reserved,
            reserved_by_calls: reserved,
            spent: account.spent,
            spent_by_entries: spent,
        }))
    }

    /// Sets an account to what its entries and calls say, and lets it be reserved from again. `false` if there is no such
    /// account in the organisation.
    pub async fn restate_account(&mut self, org: &OrgId, id: &str, now: Time) -> Result<bool> {
        let Some((account, spent, reserved)) = self.recount(id).await? else { return Ok(false) };
        if account.key.holder.org != *org {
            return Ok(false);
        }
        let grace = account.cap.map_or(0, |cap| (spent + reserved - cap).max(0));
        sqlx::query(
            "UPDATE accounts SET spent = $2, reserved = $3, grace = $4, stopped = NULL, checked_at = $5, \
                                 version = version + 1 WHERE id = $1",
        )
        .bind(id)
        .bind(spent)
        .bind(reserved)
        .bind(grace)
        .bind(now.0)
        .execute(self.connection())
        .await?;
        Ok(true)
    }

    /// An account, and what its entries and calls say: spent, and reserved. Whoever books something locks the account
    /// first, so nothing is half booked while we hold it.
    pub(super) async fn recount(&mut self, id: &str) -> Result<Option<(Account, i64, i64)>> {
        let text = listed!(
            self.dialect,
            "SELECT a.id, a.org_id, a.scope, a.subject, a.measure, a.period, a.window_start, a.window_end, a.cap, \
                    a.grace, a.reserved, a.spent, a.version, a.stopped FROM ",
            " JOIN accounts a ON a.id = list.value ->> 0",
            " FOR UPDATE OF a"
        );
        let row = sqlx::query(text).bind(json!([[id]]).to_string()).fetch_optional(self.connection()).await?;
        let Some(account) = row.as_ref().map(account).transpose()? else { return Ok(None) };
        let (spent, reserved) = self.taken(&account.key.holder, account.key.measure, account.key.window).await?;
        Ok(Some((account, spent, reserved)))
    }
}

fn account(row: &AnyRow) -> Result<Account> {
    Ok(Account {
        id: row.text("id")?,
        key: AccountKey {
            holder: Holder {
                scope: known(&("scope", row.text("scope")?), Scope::parse)?,
                org: OrgId::new(row.text("org_id")?),
                subject: row.text("subject")?,
            },
            measure: known(&("measure", row.text("measure")?), Measure::parse)?,
            period: known(&("period", row.text("period")?), Period::parse)?,
            window: Window { start: Time(row.int("window_start")?), end: Time(row.int("window_end")?) },
        },
        cap: row.maybe_int("cap")?,
        grace: row.int("grace")?,
        reserved: row.int("reserved")?,
        spent: row.int("spent")?,
        version: row.int("version")?,
        stopped: row.maybe_text("stopped")?,
    })
}
