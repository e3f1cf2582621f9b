//! Every difference between the two databases, and nothing else.
//!
//! The SQL text is one. What differs is how a connection is opened, how a transaction begins and is grouped (see
//! [`crate::writer`]), the clauses that lock rows, how a list of any length is passed, what guards the audit, and
//! how other processes are woken.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection, Executor, Row};

use crate::error::{Error, Result, unavailable};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Opens the database: looks at its version and migrates it, for as long as that takes.
    Opener,
    Writer,
    Reader,
}

/// Until the end of the transaction rows are looked up by index and no other way. A plan is made once for a connection,
/// perhaps while the tables are empty, and would read them whole ever after.
macro_rules! by_index {
    () => {
        ", set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), \
           set_config('enable_mergejoin', 'off', true)"
    };
}

/// Beside whom a transaction works on the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Shared,
    Alone,
}

/// The oldest SQLite without the WAL checkpoint race that can corrupt a database.
const SQLITE_OLDEST: (u32, u32, u32) = (3, 51, 3);
const POSTGRES_OLDEST: i64 = 15;

/// Run on every SQLite connection. FULL: an acknowledged commit survives a power cut. Autocheckpoint is off because
/// SQLite hides its errors; the writer checkpoints by itself. Temporary data stays in memory: what is in the database
/// is nobody's business in `/tmp`, and there may be no room there.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
     PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; \
     PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 67108864; PRAGMA wal_autocheckpoint = 0;";
const PRAGMAS_READER: &str = "PRAGMA query_only = ON;";

/// Made on the writing connection of SQLite, in its memory: where calls are laid out that have begun and ended, before one
/// visit writes all of them with what belongs to them. See [`crate::ledger::Whole`].
const WHOLE_CALLS: &str = "
CREATE TEMP TABLE IF NOT EXISTS whole_calls (
    id, org_id, user_id, key_id, chat, turn_id, run, door, model, most_micros, most_tokens, most_requests, at, deadline,
    ended_at, nonce, n, upstream, upstream_model, whose, input, output, reasoning, cache_read, cache_write_5m,
    cache_write_1h, audio_in, audio_out, tokens, micros, requests, estimated, suspect, cache_hit, settled_at
);
";

/// What is written in the audit stays as it is: neither changed nor removed, nor put in the place of another line.
const AUDIT_GUARDS: &str = "
CREATE TRIGGER IF NOT EXISTS audit_keeps_lines BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit is only added to');
END;
CREATE TRIGGER IF NOT EXISTS audit_loses_no_line BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit is only added to');
END;
CREATE TRIGGER IF NOT EXISTS audit_replaces_no_line BEFORE INSERT ON audit
    WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq) BEGIN
    SELECT RAISE(ABORT, 'the audit is only added to');
END;
";
/// The same. Several processes may open the database at once, and one of them makes it.
const AUDIT_GUARDS_POSTGRES: &str = "
DO $guard$ BEGIN
    PERFORM pg_advisory_xact_lock(7536672);
    IF NOT EXISTS (
        SELECT 1 FROM pg_trigger WHERE tgname = 'audit_is_only_added_to' AND tgrelid = CAST('audit' AS REGCLASS)
    ) THEN
        CREATE OR REPLACE FUNCTION audit_is_only_added_to() RETURNS trigger LANGUAGE plpgsql AS $body$
            BEGIN RAISE EXCEPTION 'the audit is only added to'; END;
        $body$;
        CREATE TRIGGER audit_is_only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
            FOR EACH STATEMENT EXECUTE FUNCTION audit_is_only_added_to();
    END IF;
END $guard$;
";

const SESSION: &str = "SET statement_timeout = '5s'; SET lock_timeout = '2s'; \
     SET idle_in_transaction_session_timeout = '10s'; SET synchronous_commit = on;";
const SESSION_READER: &str = "SET default_transaction_read_only = on;";
/// A migration may take its time, and another process may be in the middle of the same one.
const SESSION_OPENER: &str = "SET statement_timeout = 0; SET lock_timeout = '60s';";

/// How long an operation waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(2);
/// How long opening waits for a PostgreSQL that may be far away.
const CONNECT: Duration = Duration::from_secs(10);
/// A PostgreSQL connection that was idle for longer is tried before it is used: the server may have gone meanwhile.
const FRESH: Duration = Duration::from_millis(50);

impl Dialect {
    /// Reads the kind of a database URL.
    pub fn of(url: &str) -> anyhow::Result<Dialect> {
        match url.split(':').next().unwrap_or_default() {
            "sqlite" => Ok(Dialect::Sqlite),
            "postgres" | "postgresql" => Ok(Dialect::Postgres),
            _ => anyhow::bail!("a database URL starts with sqlite: or postgres:"),
        }
    }

    /// Begins a transaction that reads, and sees the same to its end.
    pub(crate) fn begin_snapshot(self) -> &'static str {
        match self {
            Dialect::Sqlite => "BEGIN",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// Opens a pool.
    pub(crate) async fn pool(self, url: &str, size: u32, role: Role, me: &str) -> Result<AnyPool> {
        let me: Arc<str> = me.into();
        let mut options = AnyPoolOptions::new()
            .max_connections(size)
            .min_connections(1)
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .max_lifetime(None)
            .idle_timeout(None)
            .after_connect(move |connection, _| {
                let me = me.clone();
                Box::pin(async move { self.prepare(connection, role, &me).await })
            });
        if self == Dialect::Postgres {
            options = options.before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > FRESH {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            });
        }
        Ok(options.connect_with(parse(url)?).await?)
    }

    /// Opens a single connection. Unlike a pool it says at once what is wrong.
    pub(crate) async fn connect(self, url: &str, role: Role, me: &str) -> Result<AnyConnection> {
        let options = parse(url)?;
        let connected = tokio::time::timeout(CONNECT, options.connect())
            .await
            .map_err(|_| unavailable("the database does not answer"))?;
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(sqlx::Error::Io(error)) => {
                return Err(Error::Unavailable(format!("the database does not answer: {error}")));
            }
            Err(error) => return Err(error.into()),
        };
        self.prepare(&mut connection, role, me).await?;
        Ok(connection)
    }

    async fn prepare(self, connection: &mut AnyConnection, role: Role, me: &str) -> sqlx::Result<()> {
        match self {
            Dialect::Sqlite => {
                connection.execute(sqlx::raw_sql(PRAGMAS)).await?;
                if role == Role::Reader {
                    connection.execute(sqlx::raw_sql(PRAGMAS_READER)).await?;
                }
            }
            Dialect::Postgres => {
                connection.execute(sqlx::raw_sql(SESSION)).await?;
                let name = sqlx::query("SELECT set_config('application_name', $1, false)");
                name.bind(format!("salon {me}")).execute(&mut *connection).await?;
                match role {
                    Role::Opener => connection.execute(sqlx::raw_sql(SESSION_OPENER)).await?,
                    Role::Reader => connection.execute(sqlx::raw_sql(SESSION_READER)).await?,
                    Role::Writer => return Ok(()),
                };
            }
        }
        Ok(())
    }

    /// Makes the triggers that let nobody change what is written in the audit. They differ by database, so that no
    /// migration can make them.
    pub(crate) async fn guard_audit(self, connection: &mut AnyConnection) -> Result<()> {
        match self {
            Dialect::Sqlite => connection.execute(sqlx::raw_sql(AUDIT_GUARDS)).await?,
            Dialect::Postgres => connection.execute(sqlx::raw_sql(AUDIT_GUARDS_POSTGRES)).await?,
        };
        Ok(())
    }

    /// Makes a connection ready to write, once the schema is there.
    pub(crate) async fn prepare_writer(self, connection: &mut AnyConnection) -> Result<()> {
        if self == Dialect::Sqlite {
            connection.execute(sqlx::raw_sql(WHOLE_CALLS)).await?;
        }
        Ok(())
    }

    /// Refuses a database that is too old to be trusted, and a file system that SQLite cannot use safely.
    pub(crate) async fn check_version(self, connection: &mut AnyConnection) -> Result<()> {
        match self {
            Dialect::Sqlite => {
                let version: String =
                    sqlx::query("SELECT sqlite_version()").fetch_one(&mut *connection).await?.try_get(0)?;
                if parse_version(&version).is_none_or(|found| found < SQLITE_OLDEST) {
                    return Err(Error::Fault(anyhow::anyhow!(
                        "SQLite {version} can corrupt a WAL database; 3.51.3 or newer is needed"
                    )));
                }
                let mode: String = sqlx::query("PRAGMA journal_mode").fetch_one(&mut *connection).await?.try_get(0)?;
                if mode != "wal" {
                    return Err(Error::Fault(anyhow::anyhow!(
                        "the data folder lies on a file system without shared memory, which SQLite's WAL needs"
                    )));
                }
            }
            Dialect::Postgres => {
                let number: String = sqlx::query("SELECT current_setting('server_version_num')")
                    .fetch_one(&mut *connection)
                    .await?
                    .try_get(0)?;
                let major = number.parse::<i64>().context("reading the PostgreSQL version")? / 10_000;
                if major < POSTGRES_OLDEST {
                    return Err(Error::Fault(anyhow::anyhow!("PostgreSQL {major} is too old; 15 or newer is needed")));
                }
            }
        }
        Ok(())
    }

    /// How this transaction keeps those out who want the ledger for themselves, or everybody. Whoever waits longest comes
    /// first. `None` where there is one writer anyway.
    pub(crate) fn gate(self, gate: Gate) -> Option<&'static str> {
        match (self, gate) {
            (Dialect::Sqlite, _) => None,
            (Dialect::Postgres, Gate::Shared) => {
                Some(concat!("SELECT CAST(pg_advisory_xact_lock_shared(7536671) AS TEXT)", by_index!()))
            }
            (Dialect::Postgres, Gate::Alone) => {
                Some(concat!("SELECT CAST(pg_advisory_xact_lock(7536671) AS TEXT)", by_index!()))
            }
        }
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

fn parse(url: &str) -> Result<AnyConnectOptions> {
    sqlx::any::install_default_drivers();
    // The error would repeat the URL, which may hold a password.
    let options = AnyConnectOptions::from_str(url)
        .map_err(|_| Error::Fault(anyhow::anyhow!("the database URL cannot be understood")))?;
    Ok(options)
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

/// Splices a list into a static text: rows of the JSON array of arrays `$1`, each with the cells `list.value ->> n`.
macro_rules! listed {
    ($dialect:expr, $before:literal, $after:literal, $lock:literal) => {
        match $dialect {
            $crate::dialect::Dialect::Sqlite => concat!($before, "json_each($1) AS list", $after),
            $crate::dialect::Dialect::Postgres => {
                concat!($before, "json_array_elements(CAST($1 AS JSON)) AS list (value)", $after, $lock)
            }
        }
    };
}
pub(crate) use listed;

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
