//! Reading the ledger: who used how much of what, and when.

use salon_core::{CallId, KeyId, Limit, OrgId, Time, Tokens, UserId, Zone};
use sqlx::any::AnyRow;

use super::{Account, Entry, EntryKind, Statement};
use crate::Tx;
use crate::error::Result;
use crate::limits::known;
use crate::row::Column;

/// Which entries: of one organisation, from one instant up to and without another, and perhaps of one person, key, chat
/// or model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageFilter {
    pub org: OrgId,
    pub from: Time,
    pub to: Time,
    pub user: Option<UserId>,
    pub key: Option<KeyId>,
    pub chat: Option<String>,
    pub model: Option<String>,
}

impl UsageFilter {
    pub fn of(org: OrgId, from: Time, to: Time) -> UsageFilter {
        UsageFilter { org, from, to, user: None, key: None, chat: None, model: None }
    }
}

/// Sums over entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub calls: i64,
    pub tokens: Tokens,
    pub micros: i64,
    /// Calls whose usage was counted by us, whose figures were doubtful, that were answered from the cache.
    pub estimated: i64,
    pub suspect: i64,
    pub cache_hits: i64,
}

impl Usage {
    fn add(&mut self, other: &Usage) {
        let (a, b) = (&mut self.tokens, &other.tokens);
        let pairs = [
            (&mut a.input, b.input),
            (&mut a.output, b.output),
            (&mut a.reasoning, b.reasoning),
            (&mut a.cache_read, b.cache_read),
            (&mut a.cache_write_5m, b.cache_write_5m),
            (&mut a.cache_write_1h, b.cache_write_1h),
            (&mut a.audio_in, b.audio_in),
            (&mut a.audio_out, b.audio_out),
            (&mut self.calls, other.calls),
            (&mut self.micros, other.micros),
            (&mut self.estimated, other.estimated),
            (&mut self.suspect, other.suspect),
            (&mut self.cache_hits, other.cache_hits),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserUsage {
    pub user: UserId,
    pub usage: Usage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelUsage {
    /// As it was asked for.
    pub model: String,
    pub usage: Usage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayUsage {
    /// Such as `2026-02-01`, in the zone that was asked for.
    pub day: String,
    pub usage: Usage,
}

/// A limit and what is taken of it in the windows that are open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitUse {
    pub limit: Limit,
    pub accounts: Vec<Account>,
}

/// A page of entries: those before this one, which is given by its time and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFilter {
    pub usage: UsageFilter,
    pub before: Option<(Time, String)>,
    pub limit: i64,
}

/// The sums of an entry's columns.
macro_rules! sums {
    () => {
        "COALESCE(CAST(SUM(requests) AS BIGINT), 0) AS requests, COALESCE(CAST(SUM(micros) AS BIGINT), 0) AS micros, \
         COALESCE(CAST(SUM(input) AS BIGINT), 0) AS input, COALESCE(CAST(SUM(output) AS BIGINT), 0) AS output, \
         COALESCE(CAST(SUM(reasoning) AS BIGINT), 0) AS reasoning, \
         COALESCE(CAST(SUM(cache_read) AS BIGINT), 0) AS cache_read, \
         COALESCE(CAST(SUM(cache_write_5m) AS BIGINT), 0) AS cache_write_5m, \
         COALESCE(CAST(SUM(cache_write_1h) AS BIGINT), 0) AS cache_write_1h, \
         COALESCE(CAST(SUM(audio_in) AS BIGINT), 0) AS audio_in, \
         COALESCE(CAST(SUM(audio_out) AS BIGINT), 0) AS audio_out, \
         COALESCE(CAST(SUM(estimated) AS BIGINT), 0) AS estimated, \
         COALESCE(CAST(SUM(suspect) AS BIGINT), 0) AS suspect, \
         COALESCE(CAST(SUM(cache_hit) AS BIGINT), 0) AS cache_hits"
    };
}

/// Splices the filter in, by the index that fits: one person's entries are not looked for among everybody's.
macro_rules! filtered {
    ($filter:expr, $before:expr, $after:literal) => {
        match $filter.user {
            None => concat!(
                $before,
                " FROM entries WHERE org_id = $1 AND at >= $2 AND at < $3 AND CAST($4 AS TEXT) IS NULL \
                  AND (CAST($5 AS TEXT) IS NULL OR key_id = $5) AND (CAST($6 AS TEXT) IS NULL OR chat = $6) \
                  AND (CAST($7 AS TEXT) IS NULL OR model = $7) ",
                $after
            ),
            Some(_) => concat!(
                $before,
                " FROM entries WHERE org_id || '' = $1 AND at >= $2 AND at < $3 AND user_id = $4 \
                  AND (CAST($5 AS TEXT) IS NULL OR key_id = $5) AND (CAST($6 AS TEXT) IS NULL OR chat = $6) \
                  AND (CAST($7 AS TEXT) IS NULL OR model = $7) ",
                $after
            ),
        }
    };
}

fn bound(text: &'static str, filter: &UsageFilter) -> Statement {
    sqlx::query(text)
        .bind(filter.org.as_str())
        .bind(filter.from.0)
        .bind(filter.to.0)
        .bind(filter.user.as_ref().map(UserId::as_str))
        .bind(filter.key.as_ref().map(KeyId::as_str))
        .bind(filter.chat.as_deref())
        .bind(filter.model.as_deref())
}

impl Tx {
    /// What the calls of a run took so far, as far as it is settled.
    pub async fn usage_of_run(&mut self, run: &str) -> Result<Usage> {
        let text = concat!("SELECT ", sums!(), " FROM entries WHERE run = $1");
        let row = sqlx::query(text).bind(run).fetch_one(self.connection()).await?;
        usage(&row)
    }

    /// Everything together.
    pub async fn usage(&mut self, filter: &UsageFilter) -> Result<Usage> {
        let text = filtered!(filter, concat!("SELECT ", sums!()), "");
        usage(&bound(text, filter).fetch_one(self.connection()).await?)
    }

    /// By person, the dearest first and of two the one who used more; at most `limit`.
    pub async fn usage_by_user(&mut self, filter: &UsageFilter, limit: i64) -> Result<Vec<UserUsage>> {
        let text = filtered!(
            filter,
            concat!("SELECT user_id, ", sums!()),
            "GROUP BY user_id ORDER BY SUM(micros) DESC, SUM(tokens) DESC, user_id LIMIT $8"
        );
        let rows = bound(text, filter).bind(limit).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok(UserUsage { user: UserId::new(row.text("user_id")?), usage: usage(row)? })).collect()
    }

    /// By model, the dearest first; at most `limit`.
    pub async fn usage_by_model(&mut self, filter: &UsageFilter, limit: i64) -> Result<Vec<ModelUsage>> {
        let text = filtered!(
            filter,
            concat!("SELECT model, ", sums!()),
            "GROUP BY model ORDER BY SUM(micros) DESC, SUM(tokens) DESC, model LIMIT $8"
        );
        let rows = bound(text, filter).bind(limit).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok(ModelUsage { model: row.text("model")?, usage: usage(row)? })).collect()
    }

    /// By day of the zone, oldest first; days without use are left out.
    pub async fn usage_by_day(&mut self, filter: &UsageFilter, zone: &Zone) -> Result<Vec<DayUsage>> {
        // The databases know nothing of zones. But everywhere a day begins at a full quarter of an hour.
        let text =
            filtered!(filter, concat!("SELECT at / 900000 AS quarter, ", sums!()), "GROUP BY at / 900000 ORDER BY 1");
        let rows = bound(text, filter).fetch_all(self.connection()).await?;
        let mut days: Vec<DayUsage> = Vec::new();
        for row in &rows {
            let day = zone.day(Time(row.int("quarter")? * 900_000));
            if days.last().is_none_or(|last| last.day != day) {
                days.push(DayUsage { day, usage: Usage::default() });
            }
            if let Some(last) = days.last_mut() {
                last.usage.add(&usage(row)?);
            }
        }
        Ok(days)
    }

    /// Single entries, newest first.
    pub async fn list_entries(&mut self, filter: &CallFilter) -> Result<Vec<Entry>> {
        let text = filtered!(
            filter.usage,
            "SELECT key, kind, call_id, org_id, user_id, key_id, chat, turn_id, run, door, model, upstream, \
                    upstream_model, whose, input, output, reasoning, cache_read, cache_write_5m, cache_write_1h, \
                    audio_in, audio_out, tokens, micros, requests, estimated, suspect, cache_hit, at, settled_at",
            "AND (CAST($8 AS BIGINT) IS NULL OR at < $8 OR (at = $8 AND key < $9)) ORDER BY at DESC, key DESC LIMIT $10"
        );
        let (at, key) = filter.before.as_ref().map(|(at, key)| (at.0, key.as_str())).unzip();
        let rows =
            bound(text, &filter.usage).bind(at).bind(key).bind(filter.limit).fetch_all(self.connection()).await?;
        rows.iter().map(entry).collect()
    }

    /// The entries of one call, oldest first.
    pub async fn list_entries_of_call(&mut self, call: &CallId) -> Result<Vec<Entry>> {
        let keys = ["settle", "adjust", "return"].map(|kind| format!("{kind}:{call}"));
        let rows = sqlx::query(
            "SELECT key, kind, call_id, org_id, user_id, key_id, chat, turn_id, run, door, model, upstream, \
                    upstream_model, whose, input, output, reasoning, cache_read, cache_write_5m, cache_write_1h, \
                    audio_in, audio_out, tokens, micros, requests, estimated, suspect, cache_hit, at, settled_at \
             FROM entries WHERE key IN ($1, $2, $3) ORDER BY settled_at, key",
        )
        .bind(keys[0].as_str())
        .bind(keys[1].as_str())
        .bind(keys[2].as_str())
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(entry).collect()
    }

    /// Calls of the stretch whose ends are unknown, perhaps those for one model, and the most that they may have cost
    /// beyond what the ledger says: how many, and how much.
    pub async fn possible_extra(
        &mut self,
        org: &OrgId,
        (from, to): (Time, Time),
        model: Option<&str>,
    ) -> Result<(i64, i64)> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS calls, COALESCE(CAST(SUM(c.micros) AS BIGINT), 0) AS micros FROM calls c \
             WHERE c.org_id = $1 AND c.at >= $2 AND c.at < $3 AND c.state = 'unknown' \
               AND (CAST($4 AS TEXT) IS NULL OR c.model = $4) \
               AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.key = 'adjust:' || c.id)",
        )
        .bind(org.as_str())
        .bind(from.0)
        .bind(to.0)
        .bind(model)
        .fetch_one(self.connection())
        .await?;
        Ok((row.int("calls")?, row.int("micros")?))
    }
}

fn usage(row: &AnyRow) -> Result<Usage> {
    Ok(Usage {
        calls: row.int("requests")?,
        tokens: tokens(row)?,
        micros: row.int("micros")?,
        estimated: row.int("estimated")?,
        suspect: row.int("suspect")?,
        cache_hits: row.int("cache_hits")?,
    })
}

fn tokens(row: &AnyRow) -> Result<Tokens> {
    Ok(Tokens {
        input: row.int("input")?,
        output: row.int("output")?,
        reasoning: row.int("reasoning")?,
        cache_read: row.int("cache_read")?,
        cache_write_5m: row.int("cache_write_5m")?,
        cache_write_1h: row.int("cache_write_1h")?,
        audio_in: row.int("audio_in")?,
        audio_out: row.int("audio_out")?,
    })
}

fn entry(row: &AnyRow) -> Result<Entry> {
    let kind = |text: &str| match text {
        "settle" => Some(EntryKind::Settle),
        "adjust" => Some(EntryKind::Adjust),
        _ => None,
    };
    Ok(Entry {
        key: row.text("key")?,
        kind: known(&("kind of entry", row.text("kind")?), kind)?,
        call: CallId::new(row.text("call_id")?),
        payer: super::payer(row)?,
        door: row.text("door")?,
        model: row.text("model")?,
        upstream: row.text("upstream")?,
        upstream_model: row.text("upstream_model")?,
        whose: row.text("whose")?,
        tokens: tokens(row)?,
        amounts: super::amounts(row)?,
        estimated: row.flag("estimated")?,
        suspect: row.flag("suspect")?,
        cache_hit: row.flag("cache_hit")?,
        at: Time(row.int("at")?),
        settled_at: Time(row.int("settled_at")?),
    })
}
