//! How transactions are run.
//!
//! A transaction is a function over [`Tx`] and its arguments. On SQLite one task owns the only writing connection: it
//! runs the operations that are waiting in one transaction, commits once, and only then tells the callers. So many
//! callers share one `fsync`, and still nobody hears "done" before it is on the disk. Should one of them fail, all are
//! taken back and run again, each inside a savepoint of its own. On PostgreSQL an operation is its own transaction and
//! is run again when the database asks for that.
//!
//! Operations run to their end even when the caller has gone: a transaction is never left half open.

use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::{AnyConnection, AnyPool, Connection, Executor, Row, raw_sql};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::dialect::{Dialect, Role};
use crate::error::{Error, Result, unavailable};
use crate::{Signals, Tx};

/// A transaction's body. It captures nothing, so that it can be run again; what it needs are its arguments. It hands on
/// every error of the database: on PostgreSQL a transaction that swallowed one is rolled back in silence.
pub type Operation<A, T> = for<'a> fn(&'a mut Tx, &'a A) -> BoxFuture<'a, Result<T>>;

/// Operations that may wait for the SQLite writer.
const WAITING: usize = 1024;
/// Operations that PostgreSQL may be given at once, beside the urgent ones: on a busy server more would only slow each
/// other down.
const AT_ONCE: usize = 8;
/// How long an operation may wait to be among them.
const QUEUE_PATIENCE: Duration = Duration::from_secs(2);
/// Operations in one SQLite commit.
const GROUP: usize = 128;
/// How long a SQLite transaction goes on taking what is waiting: whoever was first waits for the last. A slow disk
/// makes it longer, so that the time is not spent on waiting for commits.
const GROUP_TIME: Duration = Duration::from_millis(2);
/// Urgent operations that are run before one of the others gets its turn.
const URGENT_IN_A_ROW: u32 = 4;
/// Commits between two checkpoints: some megabytes of log at most, in the usual sizes.
const CHECKPOINT_EVERY: u32 = 16;
/// Pages in a log that is begun anew even if somebody must be waited for: two megabytes.
const LONG_LOG: i64 = 512;
/// Runs of one PostgreSQL transaction.
const TRIES: u32 = 3;
/// After this long nothing is run again: a lock or a free connection has been waited for in vain, and the caller knows
/// better whether to go on waiting.
const RETRY_PATIENCE: Duration = Duration::from_millis(1_500);
/// One run of a PostgreSQL transaction, when the network swallows everything and no time-out of the server helps.
const LONGEST: Duration = Duration::from_secs(15);

#[derive(Clone)]
pub(crate) enum Writer {
    Sqlite {
        urgent: mpsc::Sender<Box<dyn Waiting>>,
        others: mpsc::Sender<Box<dyn Waiting>>,
        orders: mpsc::Sender<Order>,
    },
    Postgres {
        pool: AnyPool,
        others: Arc<Semaphore>,
    },
}

/// Who goes first where writes wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// Somebody outside waits for exactly this write.
    Urgent,
    Usual,
}

/// What the SQLite writer does between two groups.
pub(crate) enum Order {
    Checkpoint(oneshot::Sender<Result<()>>),
    /// Take nothing more, finish what waits, put everything into the one file, and let go of it.
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the task that owns the writing connection, and the lock on the folder for as long as it may write.
    pub(crate) fn sqlite(url: String, connection: AnyConnection, lock: File, signals: Arc<Signals>) -> Writer {
        let (urgent, urgent_waiting) = mpsc::channel(WAITING);
        let (others, others_waiting) = mpsc::channel(WAITING);
        let (orders, ordered) = mpsc::channel(1);
        let pen = Pen { url, connection, since_checkpoint: 0, commit_took: Duration::ZERO, _lock: lock };
        let queue = Queue { urgent: urgent_waiting, others: others_waiting, urgent_in_a_row: 0 };
        tokio::spawn(write_in_groups(pen, queue, ordered, signals));
        Writer::Sqlite { urgent, others, orders }
    }

    pub(crate) fn postgres(pool: AnyPool) -> Writer {
        Writer::Postgres { pool, others: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    pub(crate) async fn run<A, T>(
        &self,
        haste: Haste,
        args: A,
        operation: Operation<A, T>,
        signals: Arc<Signals>,
    ) -> Result<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        match self {
            Writer::Sqlite { urgent, others, .. } => {
                let (tell, told) = oneshot::channel();
                let queue = match haste {
                    Haste::Urgent => urgent,
                    Haste::Usual => others,
                };
                let waiting = Box::new(Queued { args, operation, outcome: None, tell });
                queue.send_timeout(waiting, QUEUE_PATIENCE).await.map_err(|error| match error {
                    SendTimeoutError::Timeout(_) => unavailable("too many writes are waiting"),
                    SendTimeoutError::Closed(_) => unavailable("closed"),
                })?;
                told.await.map_err(|_| unavailable("closed"))?
            }
            Writer::Postgres { pool, others } => {
                let pool = pool.clone();
                let turn = match haste {
                    Haste::Urgent => None,
                    Haste::Usual => {
                        let turn = tokio::time::timeout(QUEUE_PATIENCE, others.clone().acquire_owned()).await;
                        Some(turn.map_err(|_| unavailable("too many writes are waiting"))?)
                    }
                };
                let task = tokio::spawn(async move {
                    let outcome = with_retries(&pool, &args, operation, &signals).await;
                    drop(turn);
                    outcome
                });
                task.await.map_err(|error| Error::Fault(anyhow::anyhow!("a transaction panicked: {error}")))?
            }
        }
    }

    /// Moves the log into the main file as far as no reader needs it. Nothing to do on PostgreSQL.
    pub(crate) async fn checkpoint(&self) -> Result<()> {
        let Writer::Sqlite { orders, .. } = self else { return Ok(()) };
        let (tell, told) = oneshot::channel();
        orders.send(Order::Checkpoint(tell)).await.map_err(|_| unavailable("closed"))?;
        told.await.map_err(|_| unavailable("closed"))?
    }

    /// Takes nothing more, finishes what waits, and closes. Later operations are answered with `Unavailable`.
    pub(crate) async fn close(&self) {
        match self {
            Writer::Sqlite { orders, .. } => {
                let (tell, told) = oneshot::channel();
                // Closed already if either fails.
                if orders.send(Order::Close(tell)).await.is_ok() {
                    told.await.ok();
                }
            }
            Writer::Postgres { pool, .. } => pool.close().await,
        }
    }
}

async fn with_retries<A, T>(pool: &AnyPool, args: &A, operation: Operation<A, T>, signals: &Signals) -> Result<T> {
    let begun = Instant::now();
    let mut tries = 0;
    loop {
        tries += 1;
        let outcome = tokio::time::timeout(LONGEST, once(pool, args, operation, signals)).await;
        match outcome.unwrap_or_else(|_| Err(unavailable("the database does not answer"))) {
            Err(Error::Unavailable(reason)) if tries < TRIES && begun.elapsed() < RETRY_PATIENCE => {
                tracing::debug!(reason, tries, "running a transaction again");
                let jitter = rand::random_range(5..25) * u64::from(tries);
                tokio::time::sleep(Duration::from_millis(jitter)).await;
            }
            other => return other,
        }
    }
}

/// A commit whose outcome is unknown counts as not done: every write has a natural key or a fence, so that running
/// the operation again is safe.
async fn once<A, T>(pool: &AnyPool, args: &A, operation: Operation<A, T>, signals: &Signals) -> Result<T> {
    let mut tx = Tx::transaction(pool.begin().await?, Dialect::Postgres);
    let out = operation(&mut tx, args).await?;
    let raised = tx.take_signals();
    crate::fail_point!("commit.before");
    tx.commit().await?;
    crate::fail_point!("commit.after");
    signals.raise(raised);
    Ok(out)
}

/// An operation in the SQLite writer's queue.
pub(crate) trait Waiting: Send {
    /// Answers whether what it wrote is to be kept.
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> BoxFuture<'a, bool>;
    /// Why it failed, for those who fail with it.
    fn reason(&self) -> Error;
    fn tell(self: Box<Self>, committed: std::result::Result<(), &Error>);
}

struct Queued<A, T> {
    args: A,
    operation: Operation<A, T>,
    outcome: Option<Result<T>>,
    tell: oneshot::Sender<Result<T>>,
}

impl<A: Send + Sync, T: Send> Waiting for Queued<A, T> {
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            // A panic must not end the task that all writes go through.
            let outcome = AssertUnwindSafe((self.operation)(tx, &self.args)).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("a transaction panicked").into()));
            let kept = outcome.is_ok();
            self.outcome = Some(outcome);
            kept
        })
    }

    fn reason(&self) -> Error {
        match &self.outcome {
            Some(Err(error)) => same(error),
            Some(Ok(_)) | None => unavailable("a write that shared the transaction failed"),
        }
    }

    fn tell(self: Box<Self>, committed: std::result::Result<(), &Error>) {
        let outcome = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Err(error), Some(Ok(_)) | None) => Err(same(error)),
            (Err(_), Some(Err(error))) => Err(error),
            (Ok(()), None) => Err(Error::Fault(anyhow::anyhow!("an operation was not run"))),
        };
        // The caller may have gone; what was done stays done.
        self.tell.send(outcome).ok();
    }
}

/// One failure told to every operation of a group. Nobody but its owner is to take a refusal for its own.
fn same(error: &Error) -> Error {
    match error {
        Error::Full => Error::Full,
        Error::Unavailable(reason) => Error::Unavailable(reason.clone()),
        Error::Fault(fault) => Error::Fault(anyhow::anyhow!("{fault:#}")),
        Error::Fenced | Error::Refused(_) | Error::NewerSchema { .. } => {
            unavailable("a write that shared the transaction failed")
        }
    }
}

/// What waits for the SQLite writer.
struct Queue {
    urgent: mpsc::Receiver<Box<dyn Waiting>>,
    others: mpsc::Receiver<Box<dyn Waiting>>,
    /// Urgent ones since one of the others was taken.
    urgent_in_a_row: u32,
}

impl Queue {
    /// The next one, if any is waiting: an urgent one, unless the others have stood back long enough.
    fn take(&mut self) -> Option<Box<dyn Waiting>> {
        if self.urgent_in_a_row < URGENT_IN_A_ROW
            && let Ok(urgent) = self.urgent.try_recv()
        {
            self.urgent_in_a_row += 1;
            return Some(urgent);
        }
        self.urgent_in_a_row = 0;
        self.others.try_recv().or_else(|_| self.urgent.try_recv()).ok()
    }

    /// Waits for the next one. `None` once the queue is closed and empty.
    async fn recv(&mut self) -> Option<Box<dyn Waiting>> {
        if let Some(waiting) = self.take() {
            return Some(waiting);
        }
        tokio::select! {
            Some(urgent) = self.urgent.recv() => Some(urgent),
            Some(other) = self.others.recv() => Some(other),
            else => None,
        }
    }

    /// Takes in nothing more; what waits may still be taken.
    fn close(&mut self) {
        self.urgent.close();
        self.others.close();
    }
}

/// The one writing connection.
struct Pen {
    url: String,
    connection: AnyConnection,
    /// Commits since the last checkpoint.
    since_checkpoint: u32,
    commit_took: Duration,
    _lock: File,
}

async fn write_in_groups(mut pen: Pen, mut queue: Queue, mut orders: mpsc::Receiver<Order>, signals: Arc<Signals>) {
    let mut closers = Vec::new();
    loop {
        tokio::select! {
            first = queue.recv() => match first {
                Some(first) => pen = write_group(pen, first, &mut queue, &signals).await,
                None => break,
            },
            Some(order) = orders.recv() => match order {
                Order::Checkpoint(tell) => drop(tell.send(pen.checkpoint().await)),
                Order::Close(tell) => {
                    queue.close();
                    closers.push(tell);
                }
            },
        }
    }
    pen.close().await;
    // Whoever asked to close while we did finds its answer gone, which says the same.
    drop(orders);
    for tell in closers {
        tell.send(()).ok();
    }
}

async fn write_group(mut pen: Pen, first: Box<dyn Waiting>, queue: &mut Queue, signals: &Signals) -> Pen {
    let mut tx = Tx::writer(pen.connection);
    let mut group = vec![first];
    let outcome = run_group(&mut tx, &mut group, queue, &mut pen.commit_took).await;
    pen.connection = tx.into_connection();
    match outcome {
        Ok(raised) => {
            crate::fail_point!("commit.after");
            pen.since_checkpoint += 1;
            // First those who wait for a change, then those who made it: nobody finds later that he was not told.
            signals.raise(raised);
            for waiting in group {
                waiting.tell(Ok(()));
            }
            if pen.since_checkpoint >= CHECKPOINT_EVERY
                && let Err(error) = pen.checkpoint().await
            {
                tracing::warn!(%error, "the log could not be moved into the database file");
            }
        }
        Err(error) => {
            tracing::warn!(%error, operations = group.len(), "a group of writes was rolled back");
            pen.recover().await;
            // Those who wait behind have waited as long for the same lock; each group would wait for it anew.
            while matches!(error, Error::Unavailable(_))
                && let Some(waiting) = queue.take()
            {
                group.push(waiting);
            }
            for waiting in group {
                waiting.tell(Err(&error));
            }
        }
    }
    pen
}

type Raised = Vec<crate::Signal>;

/// Every statement is a visit to the connection's thread, so there are no savepoints as long as nothing fails.
async fn run_group(
    tx: &mut Tx,
    group: &mut Vec<Box<dyn Waiting>>,
    queue: &mut Queue,
    commit_took: &mut Duration,
) -> Result<Raised> {
    execute(tx, "BEGIN IMMEDIATE").await?;
    let until = Instant::now() + GROUP_TIME.max(*commit_took * 2);
    let mut at = 0;
    while let Some(waiting) = group.get_mut(at) {
        if !waiting.run(tx).await {
            return run_apart(tx, group).await;
        }
        at += 1;
        if at < GROUP && Instant::now() < until {
            group.extend(queue.take());
        }
    }
    crate::fail_point!("commit.before");
    let committing = Instant::now();
    execute(tx, "COMMIT").await?;
    *commit_took = committing.elapsed();
    Ok(tx.take_signals())
}

/// Takes back what a group has done and runs it again, so that whoever fails disturbs no other.
async fn run_apart(tx: &mut Tx, group: &mut [Box<dyn Waiting>]) -> Result<Raised> {
    tx.take_signals();
    // A full disk or an error of it may have ended the transaction already.
    execute(tx, "ROLLBACK").await.ok();
    let mut raised = Vec::new();
    let mut begin = "BEGIN IMMEDIATE; SAVEPOINT operation";
    for waiting in group {
        execute(tx, begin).await?;
        begin = "RELEASE operation; SAVEPOINT operation";
        let kept = waiting.run(tx).await;
        let signals = tx.take_signals();
        if kept {
            raised.extend(signals);
        } else if execute(tx, "ROLLBACK TO operation").await.is_err() {
            // The same, and the group shares the reason.
            return Err(waiting.reason());
        }
    }
    crate::fail_point!("commit.before");
    // This also releases the last savepoint.
    execute(tx, "COMMIT").await?;
    Ok(raised)
}

/// Runs statements that are prepared once and kept.
async fn execute(tx: &mut Tx, statements: &'static str) -> Result<()> {
    sqlx::query(statements).execute(tx.connection()).await?;
    Ok(())
}

async fn connect(url: &str) -> Result<AnyConnection> {
    let mut connection = Dialect::Sqlite.connect(url, Role::Writer, "").await?;
    Dialect::Sqlite.prepare_writer(&mut connection).await?;
    Ok(connection)
}

impl Pen {
    /// Makes the connection usable after a failure, whatever state that left it in.
    async fn recover(&mut self) {
        // Often there is nothing to roll back any more.
        self.connection.execute(raw_sql("ROLLBACK")).await.ok();
        // This takes no lock, so it fails only on a connection that is beyond use.
        if self.connection.execute(raw_sql("BEGIN; ROLLBACK")).await.is_ok() {
            return;
        }
        match connect(&self.url).await {
            Ok(connection) => self.connection = connection,
            Err(error) => tracing::error!(%error, "the writing connection is broken, and there is no other yet"),
        }
    }

    /// Where somebody reads all the time, a log that was moved is still not begun anew and grows without an end. So
    /// one that has become long waits for those who read just now.
    async fn checkpoint(&mut self) -> Result<()> {
        self.since_checkpoint = 0;
        let moved = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut self.connection).await?;
        if moved.try_get::<i64, _>(1)? > LONG_LOG {
            sqlx::query("PRAGMA wal_checkpoint(RESTART)").execute(&mut self.connection).await?;
        }
        Ok(())
    }

    /// Moves the whole log into the main file; then nothing is left beside it, and the next start knows that this
    /// one ended well.
    async fn close(mut self) {
        let done = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut self.connection).await;
        match done.and_then(|row| row.try_get::<i64, _>(0)) {
            Ok(0) => {}
            Ok(_) => tracing::info!("somebody still reads the database, so its log stays beside it"),
            Err(error) => tracing::warn!(%error, "the log could not be moved into the database file"),
        }
        self.connection.close().await.ok();
    }
}
