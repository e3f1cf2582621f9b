//! Every difference between the two databases, and nothing else.
//!
//! The SQL text is one. What differs is how a connection is opened, how a transaction begins and is grouped (see
//! [`crate::writer`]), the lock clause of a claim, and how other processes are woken.

use anyhow::Context;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyPool, Executor, Row};
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// The oldest SQLite without the WAL checkpoint race that can corrupt a database.
const SQLITE_OLDEST: (u32, u32, u32) = (3, 51, 3);
const POSTGRES_OLDEST: i64 = 15;

/// Run on every SQLite connection. FULL: an acknowledged commit survives a power cut.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
     PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; \
     PRAGMA journal_size_limit = 67108864; PRAGMA wal_autocheckpoint = 1000;";
const PRAGMAS_READER: &str = "PRAGMA query_only = ON;";

const SESSION: &str = "SET statement_timeout = '5s'; SET lock_timeout = '2s'; \
     SET idle_in_transaction_session_timeout = '10s'; SET synchronous_commit = on;";

impl Dialect {
    /// Reads the kind of a database URL.
    pub fn of(url: &str) -> anyhow::Result<Dialect> {
        match url.split(':').next().unwrap_or_default() {
            "sqlite" => Ok(Dialect::Sqlite),
            "postgres" | "postgresql" => Ok(Dialect::Postgres),
            _ => anyhow::bail!("a database URL starts with sqlite: or postgres:"),
        }
    }

    /// Opens a pool. On SQLite `write` says whether its connections may change anything.
    pub(crate) async fn pool(self, url: &str, size: u32, write: bool) -> Result<AnyPool> {
        sqlx::any::install_default_drivers();
        let options = AnyConnectOptions::from_str(url)
            .map_err(|_| Error::Fault(anyhow::anyhow!("the database URL cannot be understood")))?;
        let pool = AnyPoolOptions::new()
            .max_connections(size)
            .min_connections(1)
            .acquire_timeout(Duration::from_secs(2))
            .test_before_acquire(false)
            .max_lifetime(None)
            .idle_timeout(None)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    match (self, write) {
                        (Dialect::Sqlite, true) => connection.execute(sqlx::raw_sql(PRAGMAS)).await?,
                        (Dialect::Sqlite, false) => {
                            connection.execute(sqlx::raw_sql(PRAGMAS)).await?;
                            connection.execute(sqlx::raw_sql(PRAGMAS_READER)).await?
                        }
                        (Dialect::Postgres, _) => connection.execute(sqlx::raw_sql(SESSION)).await?,
                    };
                    Ok(())
                })
            })
            .connect_with(options)
            .await?;
        Ok(pool)
    }

    /// Refuses a database that is too old to be trusted.
    pub(crate) async fn check_version(self, pool: &AnyPool) -> Result<()> {
        match self {
            Dialect::Sqlite => {
                let version: String = sqlx::query("SELECT sqlite_version()").fetch_one(pool).await?.try_get(0)?;
                if parse_version(&version).is_none_or(|found| found < SQLITE_OLDEST) {
                    return Err(Error::Fault(anyhow::anyhow!(
                        "SQLite {version} can corrupt a WAL database; 3.51.3 or newer is needed"
                    )));
                }
            }
            Dialect::Postgres => {
                let number: String =
                    sqlx::query("SELECT current_setting('server_version_num')").fetch_one(pool).await?.try_get(0)?;
                let major = number.parse::<i64>().context("reading the PostgreSQL version")? / 10_000;
                if major < POSTGRES_OLDEST {
                    return Err(Error::Fault(anyhow::anyhow!("PostgreSQL {major} is too old; 15 or newer is needed")));
                }
            }
        }
        Ok(())
    }

    /// The database's own clock in Unix milliseconds, where it has one that other processes share.
    pub(crate) async fn clock_ms(self, pool: &AnyPool) -> Result<Option<i64>> {
        match self {
            Dialect::Sqlite => Ok(None),
            Dialect::Postgres => {
                let row = sqlx::query("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)")
                    .fetch_one(pool)
                    .await?;
                Ok(Some(row.try_get(0)?))
            }
        }
    }
}

fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse::<u32>().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

/// Splices a lock clause into a static text: `locked!(dialect, "SELECT … LIMIT $1", " …")`.
macro_rules! locked {
    ($dialect:expr, $before:literal, $after:literal) => {
        match $dialect {
            $crate::dialect::Dialect::Sqlite => concat!($before, $after),
            $crate::dialect::Dialect::Postgres => concat!($before, " FOR UPDATE OF j SKIP LOCKED", $after),
        }
    };
}
pub(crate) use locked;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(parse_version("3.51.3").expect("a version") >= SQLITE_OLDEST);
        assert!(parse_version("3.9.20").expect("a version") < SQLITE_OLDEST);
        assert_eq!(parse_version("nonsense"), None);
    }

    #[test]
    fn urls_name_their_database() {
        assert_eq!(Dialect::of("sqlite:///x.db").expect("sqlite"), Dialect::Sqlite);
        assert_eq!(Dialect::of("postgresql://h/d").expect("postgres"), Dialect::Postgres);
        assert!(Dialect::of("mysql://h/d").is_err());
    }
}
