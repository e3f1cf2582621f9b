//! Two databases, one SQL text.
//!
//! [`Store::open`] gives a [`Store`]. Reading is [`Store::read`]; writing is [`Store::write`] with a function over a
//! [`Tx`], which is the only place where SQL runs. The store decides nothing: ids and times arrive as arguments, and
//! what a conflict means is said by the method that meets it.
//!
//! The rules that keep one text valid on both databases:
//!
//! - Columns are `TEXT`, `BIGINT`, `DOUBLE PRECISION` or `BYTEA`; flags are 0 or 1; times are Unix milliseconds.
//! - Placeholders are `$n`. No `now()`, no serial columns, no arrays, no data-modifying `WITH`.
//! - A sum is cast: `CAST(SUM(x) AS BIGINT)`.
//! - The few true differences live in [`dialect`], and how transactions are grouped in [`writer`].
//!
//! Every method is exercised on both databases by `tests/conformance.rs`.

mod bots;
mod chats;
mod dialect;
mod dialogs;
mod error;
mod events;
pub mod failpoint;
mod jobs;
mod outbox;
mod row;
mod signal;
#[cfg(feature = "testing")]
pub mod testing;
mod tokens;
mod turns;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::any::Any;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::{AnyConnection, AnyPool, Connection, Row, Transaction};

pub use bots::Seat;
pub use chats::Chat;
pub use dialect::Dialect;
pub use error::{Error, Result};
pub use events::Append;
pub use jobs::{Claimed, Enqueued, Held, JobCounts, JobState, NewJob, Ticket, Worker};
pub use outbox::{Part, PartState};
pub use signal::Signal;
pub use tokens::{NewToken, Token};
pub use turns::{Finished, NewTurn};
pub use writer::Operation;

use signal::Signals;
use writer::Writer;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Connections to PostgreSQL: enough for every worker slot to hold one for a moment.
const POSTGRES_POOL: u32 = 24;
const SQLITE_READERS: u32 = 4;

/// Where the data lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A SQLite file in this folder, which is made if it is missing. One process at a time.
    Folder(PathBuf),
    /// A PostgreSQL URL.
    Postgres(String),
}

/// The data of one Salon. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    dialect: Dialect,
    writer: Writer,
    readers: AnyPool,
    signals: Arc<Signals>,
    /// Keeps a second process out of the SQLite file for as long as this one lives.
    _lock: Option<std::fs::File>,
}

impl Store {
    /// Opens the database, makes or migrates its schema, and refuses one that is too old, too new, or in use.
    ///
    /// `me` names this process among those that share the database.
    pub async fn open(place: &Place, me: &str) -> Result<Store> {
        let signals = Arc::new(Signals::default());
        let (dialect, url, lock) = match place {
            Place::Folder(folder) => {
                let lock = lock(folder)?;
                let path = folder.join("salon.db");
                let path = path.to_str().ok_or_else(|| anyhow::anyhow!("the data folder's name is not Unicode"))?;
                (Dialect::Sqlite, format!("sqlite://{}?mode=rwc", escape(path)), Some(lock))
            }
            Place::Postgres(url) => (Dialect::Postgres, url.clone(), None),
        };
        let writers = match dialect {
            Dialect::Sqlite => 1,
            Dialect::Postgres => POSTGRES_POOL,
        };
        let pool = dialect.pool(&url, writers, true).await?;
        dialect.check_version(&pool).await?;
        migrate(&pool).await?;
        let (writer, readers) = match dialect {
            Dialect::Sqlite => {
                let readers = dialect.pool(&url, SQLITE_READERS, false).await?;
                (Writer::sqlite(pool, signals.clone()), readers)
            }
            Dialect::Postgres => {
                signals.connect(url, pool.clone(), me.to_owned());
                (Writer::Postgres(pool.clone()), pool)
            }
        };
        Ok(Store { inner: Arc::new(Inner { dialect, writer, readers, signals, _lock: lock }) })
    }

    pub fn dialect(&self) -> Dialect {
        self.inner.dialect
    }

    /// Sets who hears of changes. To be called once, before work begins.
    pub fn listen(&self, listener: impl Fn(&Signal) + Send + Sync + 'static) {
        self.inner.signals.listen(Box::new(listener));
    }

    /// Runs `operation` as one transaction; when this returns, it is on the disk. On an error nothing was written.
    ///
    /// The operation captures nothing and touches nothing but the database, because it may be run again.
    pub async fn write<A, T>(&self, args: A, operation: Operation<A, T>) -> Result<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        self.inner.writer.run(args, operation, self.inner.signals.clone()).await
    }

    /// A connection to read from. Each statement sees what was committed before it began.
    pub async fn read(&self) -> Result<Tx> {
        let connection = self.inner.readers.acquire().await?;
        Ok(Tx { connection: Handle::Reader(connection), dialect: self.inner.dialect, signals: Vec::new() })
    }

    /// Whether a write would succeed now: writes and takes it back.
    pub async fn probe(&self) -> Result<()> {
        let probed = self
            .write((), |tx, ()| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO lanes (lane, next_seq) VALUES ('probe', 1)")
                        .execute(tx.connection())
                        .await?;
                    Err::<(), _>(Error::Refused(salon_core::Refusal::NotFound))
                })
            })
            .await;
        match probed {
            Err(Error::Refused(_)) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The clock that all processes on this database share, in Unix milliseconds; `None` where there is one process.
    pub async fn clock_ms(&self) -> Result<Option<i64>> {
        self.inner.dialect.clock_ms(&self.inner.readers).await
    }

    /// The schema version.
    pub async fn schema_version(&self) -> Result<i64> {
        let row = sqlx::query("SELECT MAX(version) FROM _sqlx_migrations WHERE success")
            .fetch_one(&self.inner.readers)
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Writes what is still beside the main file into it. Nothing to do on PostgreSQL.
    pub async fn checkpoint(&self) -> Result<()> {
        if let (Dialect::Sqlite, Writer::Sqlite(_)) = (self.inner.dialect, &self.inner.writer) {
            // A checkpoint cannot run inside a transaction, so it borrows a reader's connection; it changes no row.
            sqlx::raw_sql("PRAGMA wal_checkpoint(PASSIVE)").execute(&self.inner.readers).await?;
        }
        Ok(())
    }
}

async fn migrate(pool: &AnyPool) -> Result<()> {
    match MIGRATIONS.run(pool).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(found)) => {
            let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
            Err(Error::NewerSchema { found, known })
        }
        Err(MigrateError::Execute(error)) => Err(error.into()),
        Err(error) => Err(Error::Fault(anyhow::Error::new(error).context("migrating the database"))),
    }
}

/// One process at a time: SQLite's own locks would let a second one in between two transactions.
fn lock(folder: &Path) -> Result<std::fs::File> {
    let open = || -> std::io::Result<std::fs::File> {
        std::fs::create_dir_all(folder)?;
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("salon.lock"))
    };
    let file =
        open().map_err(|error| anyhow::anyhow!("the data folder {} cannot be used: {error}", folder.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Unavailable(format!(
            "another Salon is using the data folder {}; stop it, or name another folder",
            folder.display()
        ))),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(anyhow::Error::new(error).context("locking the data folder").into())
        }
    }
}

/// Escapes the characters that end or bend the path of a URL.
fn escape(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3F").replace('#', "%23")
}

/// A connection on which the methods of this crate run; in [`Store::write`] it is inside a transaction.
pub struct Tx {
    connection: Handle,
    dialect: Dialect,
    signals: Vec<Signal>,
}

enum Handle {
    Writer(Box<AnyConnection>),
    Transaction(Transaction<'static, Any>),
    Reader(PoolConnection<Any>),
}

impl Tx {
    fn writer(connection: AnyConnection) -> Tx {
        Tx { connection: Handle::Writer(Box::new(connection)), dialect: Dialect::Sqlite, signals: Vec::new() }
    }

    fn transaction(transaction: Transaction<'static, Any>, dialect: Dialect) -> Tx {
        Tx { connection: Handle::Transaction(transaction), dialect, signals: Vec::new() }
    }

    fn connection(&mut self) -> &mut AnyConnection {
        match &mut self.connection {
            Handle::Writer(connection) => connection,
            Handle::Transaction(transaction) => transaction,
            Handle::Reader(connection) => connection,
        }
    }

    fn into_connection(self) -> AnyConnection {
        match self.connection {
            Handle::Writer(connection) => *connection,
            Handle::Transaction(_) | Handle::Reader(_) => {
                unreachable!("only the SQLite writer takes its connection back")
            }
        }
    }

    async fn commit(self) -> Result<()> {
        match self.connection {
            Handle::Transaction(transaction) => Ok(transaction.commit().await?),
            Handle::Writer(_) | Handle::Reader(_) => Ok(()),
        }
    }

    /// Tells `signal` to everyone once this transaction is committed.
    fn signal(&mut self, signal: Signal) {
        if !self.signals.contains(&signal) {
            self.signals.push(signal);
        }
    }

    fn take_signals(&mut self) -> Vec<Signal> {
        std::mem::take(&mut self.signals)
    }
}

/// Closing is only for tests that look at the file afterwards; a process simply ends.
impl Store {
    pub async fn close(self) {
        if let Ok(mut connection) = self.inner.readers.acquire().await {
            connection.ping().await.ok();
        }
        self.inner.readers.close().await;
    }
}
