//! Looks whether the data is whole: for `salon doctor`, for the start after a crash, and for tests that cause one.

use sqlx::{AnyConnection, Executor, Row, raw_sql};

use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::row::Column;
use crate::{Handle, Store, Tx};

/// What must never be, and the query that counts it and names one example.
const CONTRADICTIONS: &[(&str, &str)] = &[
    (
        "open jobs whose lane does not know their number",
        "SELECT COUNT(*) AS count, MIN(j.id) AS example FROM jobs j LEFT JOIN lanes l ON l.lane = j.lane \
         WHERE j.state IN ('queued', 'running') AND (l.lane IS NULL OR l.next_seq <= j.seq)",
    ),
    (
        "lanes in which two open jobs have the same number",
        "SELECT COUNT(*) AS count, MIN(lane) AS example FROM \
           (SELECT lane FROM jobs WHERE state IN ('queued', 'running') GROUP BY lane, seq HAVING COUNT(*) > 1) twins",
    ),
    (
        "lanes in which two jobs run at once",
        "SELECT COUNT(*) AS count, MIN(lane) AS example FROM \
           (SELECT lane FROM jobs WHERE state = 'running' GROUP BY lane HAVING COUNT(*) > 1) twins",
    ),
    (
        "running jobs that nobody holds",
        "SELECT COUNT(*) AS count, MIN(id) AS example FROM jobs \
         WHERE state = 'running' AND (lease_until IS NULL OR owner IS NULL OR boot IS NULL)",
    ),
    (
        "jobs that have ended without a time, or have a time without having ended",
        "SELECT COUNT(*) AS count, MIN(id) AS example FROM jobs \
         WHERE (state IN ('done', 'stopped', 'dead')) <> (finished_at IS NOT NULL)",
    ),
    (
        "open turns that no open job will answer",
        "SELECT COUNT(*) AS count, MIN(t.id) AS example FROM turns t WHERE t.state IN ('queued', 'running') \
           AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.key = 'run:' || t.id AND j.state IN ('queued', 'running'))",
    ),
    (
        "turns that have ended without a time, or have a time without having ended",
        "SELECT COUNT(*) AS count, MIN(id) AS example FROM turns \
         WHERE (state IN ('done', 'failed', 'stopped')) <> (answered_at IS NOT NULL)",
    ),
    (
        "turns without a dialog",
        "SELECT COUNT(*) AS count, MIN(t.id) AS example FROM turns t \
         WHERE NOT EXISTS (SELECT 1 FROM dialogs d WHERE d.id = t.dialog_id)",
    ),
    (
        "dialogs whose turns have gaps",
        "SELECT COUNT(*) AS count, MIN(id) AS example FROM \
           (SELECT d.id, d.turns, COUNT(t.id) AS found, COALESCE(MAX(t.number), 0) AS newest \
            FROM dialogs d LEFT JOIN turns t ON t.dialog_id = d.id GROUP BY d.id, d.turns) counted \
         WHERE turns <> found OR turns <> newest",
    ),
    (
        "events without a turn",
        "SELECT COUNT(*) AS count, MIN(e.turn_id) AS example FROM events e \
         WHERE NOT EXISTS (SELECT 1 FROM turns t WHERE t.id = e.turn_id)",
    ),
    (
        "turns whose events have gaps",
        "SELECT COUNT(*) AS count, MIN(turn_id) AS example FROM \
           (SELECT turn_id FROM events GROUP BY turn_id HAVING MIN(seq) <> 1 OR MAX(seq) <> COUNT(*)) gapped",
    ),
];

impl Store {
    /// Looks through the whole database and answers what is wrong with it, a line each. Empty if all is well.
    ///
    /// It reads everything, so it takes its time with a large database; others go on working meanwhile.
    pub async fn check(&self) -> Result<Vec<String>> {
        let mut tx = self.read().await?;
        let mut wrong = Vec::new();
        if tx.dialect == Dialect::Sqlite {
            wrong.extend(damage(tx.connection()).await?);
            wrong.extend(strays(tx.connection()).await?);
            if !wrong.is_empty() {
                // Queries over damaged pages would only say the same, or nonsense.
                return Ok(wrong);
            }
        }
        // The connection goes back into the pool, and whoever gets it next is to have the usual limit.
        let unlimited = tx.dialect == Dialect::Postgres;
        if unlimited {
            tx.connection().execute(raw_sql("SET statement_timeout = '10min'")).await?;
        }
        let contradictions = contradictions(&mut tx).await;
        if unlimited {
            let reset = tx.connection().execute(raw_sql("SET statement_timeout = '5s'")).await;
            if let (Err(_), Handle::Reader(connection)) = (reset, &mut tx.connection) {
                connection.close_on_drop();
            }
        }
        wrong.extend(contradictions?);
        Ok(wrong)
    }
}

async fn contradictions(tx: &mut Tx) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (what, query) in CONTRADICTIONS {
        let row = sqlx::query(*query).fetch_one(tx.connection()).await?;
        let count = row.int("count")?;
        if count > 0 {
            wrong.push(format!("{what}: {count}, such as {}", row.maybe_text("example")?.unwrap_or_default()));
        }
    }
    Ok(wrong)
}

/// What SQLite says of the file itself.
pub(crate) async fn damage(connection: &mut AnyConnection) -> Result<Vec<String>> {
    let rows = match sqlx::query("PRAGMA quick_check(20)").fetch_all(connection).await.map_err(Error::from) {
        Ok(rows) => rows,
        // So damaged that it cannot even be looked through.
        Err(Error::Fault(fault)) => return Ok(vec![format!("{fault:#}")]),
        Err(error) => return Err(error),
    };
    let lines: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// Rows that point to what is not there.
async fn strays(connection: &mut AnyConnection) -> Result<Vec<String>> {
    let rows =
        sqlx::query("SELECT \"table\" AS stray, parent, COUNT(*) AS count FROM pragma_foreign_key_check GROUP BY 1, 2")
            .fetch_all(connection)
            .await?;
    rows.iter()
        .map(|row| Ok(format!("{}: {} rows without {}", row.text("stray")?, row.int("count")?, row.text("parent")?)))
        .collect()
}
