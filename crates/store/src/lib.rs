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
//! - A limit that is bound is cast, `LIMIT CAST($1 AS BIGINT)`: SQLite looks at a bare one to choose its plan, and
//!   prepares the statement anew each time.
//! - The few true differences live in [`dialect`], and how transactions are grouped in [`writer`].
//!
//! Every method is exercised on both databases by `tests/conformance.rs`.

mod api_keys;
mod asks;
mod audit;
mod bots;
mod catalog;
mod chats;
mod check;
mod desk;
mod dialect;
mod dialogs;
mod error;
mod events;
pub mod failpoint;
mod files;
mod idempotency;
mod jobs;
pub mod ledger;
mod limits;
mod links;
mod logins;
mod many;
mod outbox;
mod panels;
mod people;
mod plans;
mod replies;
mod row;
mod secrets;
mod sessions;
mod settings;
mod shelf;
mod signal;
mod styles;
#[cfg(feature = "testing")]
pub mod testing;
mod threads;
mod tokens;
mod turns;
mod writer;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::Any;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::{AnyConnection, AnyPool, Connection, Executor, Row, Transaction, raw_sql};
use tokio::task::AbortHandle;

pub use api_keys::{ApiKey, Shown};
pub use asks::{AskState, StoredAsk};
pub use audit::{AuditFilter, AuditHead, AuditLine};
pub use bots::Seat;
pub use catalog::{CATALOG, CatalogRows, Entry, PriceRow};
pub use chats::Chat;
pub use desk::{Counts, LogFilter, LoggedDialog, LoggedTurn, Person};
pub use dialect::Dialect;
pub use error::{Error, Result};
pub use events::Append;
pub use files::StoredFile;
pub use idempotency::{BegunRequest, DoneRequest, NewRequest, RequestTicket};
pub use jobs::{Claimed, Enqueued, Held, JobCounts, JobState, NewJob, Ticket, Worker};
pub use limits::Terms;
pub use links::{Link, Pass};
pub use logins::{Account, Login, Realm, Taste};
pub use outbox::{Part, PartState};
pub use panels::PanelRow;
pub use people::PEOPLE;
pub use plans::Plan;
pub use replies::StoredReply;
pub use secrets::{Dek, Keyring, Sealed};
pub use sessions::{Keeper, Session};
pub use shelf::{Shelved, Words};
pub use signal::Signal;
pub use threads::Thread;
pub use tokens::{NewToken, Token};
pub use turns::{Finished, NewTurn, Request};
pub use writer::Operation;

use dialect::Role;
use signal::Signals;
use writer::{Haste, Writer};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Connections to PostgreSQL: enough for every worker slot to hold one for a moment.
const POSTGRES_WRITERS: u32 = 16;
const READERS: u32 = 8;
/// How long opening waits for the previous process to let go of the folder.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// How long closing waits for those who still read.
const READERS_PATIENCE: Duration = Duration::from_secs(5);

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
    /// What carries signals between processes.
    tasks: Vec<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Store {
    /// Opens the database, makes or migrates its schema, and refuses one that is too old, too new, or in use.
    ///
    /// `me` is how this process is called where PostgreSQL lists its connections.
    pub async fn open(place: &Place, me: &str) -> Result<Store> {
        match place {
            Place::Folder(folder) => Store::open_folder(folder).await,
            Place::Postgres(url) => Store::open_postgres(url, me).await,
        }
    }

    async fn open_folder(folder: &Path) -> Result<Store> {
        let lock = lock(folder).await?;
        // Absolute, so that no part of it can be taken for another part of a URL.
        let path = folder.canonicalize().map_err(anyhow::Error::from)?.join("salon.db");
        let url = path.to_str().ok_or_else(|| anyhow::anyhow!("the data folder's name is not Unicode"))?;
        let url = format!("sqlite://{}?mode=rwc", escape(url));
        // The last connection to be closed takes the log away. If it is there, the last process was killed.
        let unclean = path.with_extension("db-wal").metadata().is_ok_and(|log| log.len() > 0);

        let opened = open_file(&url, unclean).await;
        let connection = opened.map_err(|error| match error {
            Error::Fault(fault) => Error::Fault(fault.context(format!("cannot open {}", path.display()))),
            error => error,
        })?;
        let readers = Dialect::Sqlite.pool(&url, READERS, Role::Reader, "").await?;
        let signals = Arc::new(Signals::default());
        let writer = Writer::sqlite(url, connection, lock, signals.clone());
        Ok(Store { inner: Arc::new(Inner { dialect: Dialect::Sqlite, writer, readers, signals, tasks: Vec::new() }) })
    }

    async fn open_postgres(url: &str, me: &str) -> Result<Store> {
        let dialect = Dialect::Postgres;
        let mut opener = dialect.connect(url, Role::Opener, me).await?;
        dialect.check_version(&mut opener).await?;
        migrate(&mut opener).await?;
        dialect.guard_audit(&mut opener).await?;
        opener.close().await?;
        let writers = dialect.pool(url, POSTGRES_WRITERS, Role::Writer, me).await?;
        let readers = dialect.pool(url, READERS, Role::Reader, me).await?;
        let signals = Arc::new(Signals::default());
        let tasks = signals.connect(url.to_owned(), writers.clone());
        Ok(Store { inner: Arc::new(Inner { dialect, writer: Writer::postgres(writers), readers, signals, tasks }) })
    }

    pub fn dialect(&self) -> Dialect {
        self.inner.dialect
    }

    /// Sets who hears of changes. To be called once, before work begins. The listener is called between two commits,
    /// so it must not wait for anything.
    pub fn listen(&self, listener: impl Fn(&Signal) + Send + Sync + 'static) {
        self.inner.signals.listen(Box::new(listener));
    }

    /// Runs `operation` as one transaction; when this returns, it is on the disk. On an error nothing was written.
    ///
    /// The operation captures nothing and touches nothing but the database, because it may be run again. It runs to its
    /// end even if the caller goes away. [`Error::Unavailable`] after seconds at most, if the database cannot be had.
    pub async fn write<A, T>(&self, args: A, operation: Operation<A, T>) -> Result<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        self.inner.writer.run(Haste::Usual, args, operation, self.inner.signals.clone()).await
    }

    /// The same, ahead of those who use [`Store::write`]: for what somebody outside is kept waiting by. The others get
    /// their turn all the same.
    pub async fn write_urgently<A, T>(&self, args: A, operation: Operation<A, T>) -> Result<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        self.inner.writer.run(Haste::Urgent, args, operation, self.inner.signals.clone()).await
    }

    /// A connection to read from. Each statement sees what was committed before it began.
    pub async fn read(&self) -> Result<Tx> {
        let connection = self.inner.readers.acquire().await?;
        Ok(Tx { connection: Handle::Reader(connection), dialect: self.inner.dialect, signals: Vec::new() })
    }

    /// The same, except that every statement sees what was committed before the first one: for figures that are to add up.
    pub async fn snapshot(&self) -> Result<Tx> {
        let transaction = self.inner.readers.begin_with(self.inner.dialect.begin_snapshot()).await?;
        Ok(Tx::transaction(transaction, self.inner.dialect))
    }

    /// Whether a write succeeds now, by writing. A write that is taken back would not reach a full disk.
    pub async fn probe(&self) -> Result<()> {
        self.write((), |tx, ()| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO lanes (lane, next_seq) VALUES ('probe', 1) \
                     ON CONFLICT (lane) DO UPDATE SET next_seq = lanes.next_seq + 1",
                )
                .execute(tx.connection())
                .await?;
                Ok(())
            })
        })
        .await
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
        self.inner.writer.checkpoint().await
    }

    /// Closes the database for every clone of this store: takes no more writes, finishes those that wait, and lets go of
    /// the folder. On SQLite everything is in the one file afterwards, which may then be copied.
    pub async fn close(self) {
        self.inner.tasks.iter().for_each(AbortHandle::abort);
        // Readers first: what they still need could not be moved into the main file.
        if tokio::time::timeout(READERS_PATIENCE, self.inner.readers.close()).await.is_err() {
            tracing::warn!("closing the database while somebody still reads it");
        }
        self.inner.writer.close().await;
    }
}

/// Opens the SQLite file, and refuses one that is damaged, from the future, or not to be written.
async fn open_file(url: &str, unclean: bool) -> Result<AnyConnection> {
    let mut connection = Dialect::Sqlite.connect(url, Role::Writer, "").await?;
    Dialect::Sqlite.check_version(&mut connection).await?;
    if unclean {
        tracing::info!("the last process did not close the database; looking whether it is whole");
        let damage = check::damage(&mut connection).await?;
        if let Some(first) = damage.first() {
            return Err(Error::Fault(anyhow::anyhow!("it is damaged: {first}; restore a backup")));
        }
    }
    migrate(&mut connection).await?;
    Dialect::Sqlite.guard_audit(&mut connection).await?;
    Dialect::Sqlite.prepare_writer(&mut connection).await?;
    // A file that may only be read takes a BEGIN IMMEDIATE all the same.
    connection.execute(raw_sql("BEGIN IMMEDIATE; DELETE FROM lanes WHERE lane = ''; ROLLBACK")).await?;
    Ok(connection)
}

async fn migrate(connection: &mut AnyConnection) -> Result<()> {
    // Not `run`: with a borrowed connection the compiler cannot see that its future may move between threads.
    match MIGRATIONS.run_direct(None, &mut *connection, false).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(_)) => {
            let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
            Err(Error::NewerSchema { found: newest(connection).await?, known })
        }
        // Ours run in transactions, so this is somebody else's doing.
        Err(MigrateError::Dirty(version)) => Err(Error::Fault(anyhow::anyhow!(
            "migration {version} is marked as half done, which Salon never leaves behind; restore a backup"
        ))),
        Err(MigrateError::VersionMismatch(version)) => Err(Error::Fault(anyhow::anyhow!(
            "migration {version} was made by a program that is not quite this one; use the one that made the database"
        ))),
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(error.into()),
        Err(error) => Err(Error::Fault(anyhow::Error::new(error).context("migrating the database"))),
    }
}

async fn newest(connection: &mut AnyConnection) -> Result<i64> {
    Ok(sqlx::query("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(connection).await?.try_get(0)?)
}

/// One process at a time: SQLite's own locks would let a second one in between two transactions.
async fn lock(folder: &Path) -> Result<File> {
    let open = || -> std::io::Result<File> {
        // People's conversations are nobody else's business.
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(folder.join("salon.lock"))
    };
    let file =
        open().map_err(|error| anyhow::anyhow!("the data folder {} cannot be used: {error}", folder.display()))?;
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // After a restart the previous process may be about to end.
            Err(TryLockError::WouldBlock) if waited < LOCK_PATIENCE => {
                let pause = Duration::from_millis(50);
                tokio::time::sleep(pause).await;
                waited += pause;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Unavailable(format!(
                    "another Salon is using the data folder {}; stop it, or name another folder",
                    folder.display()
                )));
            }
            Err(TryLockError::Error(error)) => {
                return Err(anyhow::Error::new(error).context("locking the data folder").into());
            }
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
