//! How transactions are run.
//!
//! A transaction is a function over [`Tx`] and its arguments. On SQLite one task owns the only writing connection: it
//! takes every operation that is waiting, runs each inside a savepoint of one transaction, commits once, and only then
//! tells the callers. So many callers share one `fsync`, and still nobody hears "done" before it is on the disk. On
//! PostgreSQL an operation is its own transaction and is run again when the database asks for that.
//!
//! Operations run to their end even when the caller has gone: a transaction is never left half open.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::AnyConnection;
use sqlx::{AnyPool, Executor, raw_sql};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};
use crate::{Signals, Tx, dialect::Dialect};

/// A transaction's body. It captures nothing, so that it can be run again; what it needs are its arguments.
pub type Operation<A, T> = for<'a> fn(&'a mut Tx, &'a A) -> BoxFuture<'a, Result<T>>;

/// Operations that may wait for the SQLite writer.
const WAITING: usize = 1024;
/// Operations in one SQLite commit.
const GROUP: usize = 128;
/// Runs of one PostgreSQL transaction.
const TRIES: u32 = 3;

#[derive(Clone)]
pub(crate) enum Writer {
    Sqlite(mpsc::Sender<Box<dyn Waiting>>),
    Postgres(AnyPool),
}

impl Writer {
    pub(crate) fn sqlite(pool: AnyPool, signals: Arc<Signals>) -> Writer {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(write_in_groups(pool, receiver, signals));
        Writer::Sqlite(sender)
    }

    pub(crate) async fn run<A, T>(&self, args: A, operation: Operation<A, T>, signals: Arc<Signals>) -> Result<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        match self {
            Writer::Sqlite(sender) => {
                let (tell, told) = oneshot::channel();
                let waiting = Box::new(Queued { args, operation, outcome: None, tell });
                sender.send(waiting).await.map_err(|_| Error::Unavailable("closed".to_owned()))?;
                told.await.map_err(|_| Error::Unavailable("closed".to_owned()))?
            }
            Writer::Postgres(pool) => {
                let pool = pool.clone();
                let task = tokio::spawn(async move { with_retries(&pool, &args, operation, &signals).await });
                task.await.map_err(|error| Error::Fault(anyhow::anyhow!("a transaction panicked: {error}")))?
            }
        }
    }
}

async fn with_retries<A, T>(pool: &AnyPool, args: &A, operation: Operation<A, T>, signals: &Signals) -> Result<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        match once(pool, args, operation, signals).await {
            Err(Error::Unavailable(reason)) if tries < TRIES => {
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
    tx.commit().await?;
    crate::fail_point!("commit.after");
    signals.raise(raised);
    Ok(out)
}

/// An operation in the SQLite writer's queue.
pub(crate) trait Waiting: Send {
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> BoxFuture<'a, bool>;
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

/// One failure told to every operation of a group.
fn same(error: &Error) -> Error {
    match error {
        Error::Full => Error::Full,
        Error::Fault(fault) => Error::Fault(anyhow::anyhow!("{fault:#}")),
        other => Error::Unavailable(other.to_string()),
    }
}

async fn write_in_groups(pool: AnyPool, mut queue: mpsc::Receiver<Box<dyn Waiting>>, signals: Arc<Signals>) {
    let mut group = Vec::with_capacity(GROUP);
    let mut connection = match pool.acquire().await {
        Ok(connection) => connection.detach(),
        Err(error) => {
            tracing::error!(%error, "the writing connection cannot be had");
            return;
        }
    };
    while queue.recv_many(&mut group, GROUP).await > 0 {
        let (back, outcome) = commit_group(connection, &mut group).await;
        connection = back;
        match outcome {
            Ok(raised) => {
                crate::fail_point!("commit.after");
                for waiting in group.drain(..) {
                    waiting.tell(Ok(()));
                }
                signals.raise(raised);
            }
            Err(error) => {
                connection.execute(raw_sql("ROLLBACK")).await.ok();
                tracing::warn!(%error, operations = group.len(), "a group of writes was rolled back");
                for waiting in group.drain(..) {
                    waiting.tell(Err(&error));
                }
            }
        }
    }
}

type Raised = Vec<crate::Signal>;

async fn commit_group(connection: AnyConnection, group: &mut [Box<dyn Waiting>]) -> (AnyConnection, Result<Raised>) {
    let mut tx = Tx::writer(connection);
    let outcome = run_group(&mut tx, group).await;
    (tx.into_connection(), outcome)
}

async fn run_group(tx: &mut Tx, group: &mut [Box<dyn Waiting>]) -> Result<Raised> {
    tx.connection().execute(raw_sql("BEGIN IMMEDIATE")).await?;
    let mut raised = Vec::new();
    for waiting in group {
        tx.connection().execute(raw_sql("SAVEPOINT operation")).await?;
        let kept = waiting.run(tx).await;
        let signals = tx.take_signals();
        if kept {
            raised.extend(signals);
        } else {
            // A full disk ends the whole transaction by itself; then this fails and the group fails with it.
            let undone = tx.connection().execute(raw_sql("ROLLBACK TO operation")).await;
            undone.map_err(|_| Error::Full)?;
        }
        tx.connection().execute(raw_sql("RELEASE operation")).await?;
    }
    crate::fail_point!("commit.before");
    tx.connection().execute(raw_sql("COMMIT")).await?;
    Ok(raised)
}
