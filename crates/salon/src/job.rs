//! Jobs as code: what a kind of job does, and what it may say when it ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use salon_store::{Claimed, Error, Operation, Ticket};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Salon;

/// A kind of job.
#[async_trait]
pub trait Job: Send + Sync {
    /// The word that [`salon_store::NewJob::kind`] carries.
    fn kind(&self) -> &'static str;

    /// Does the work. May be called again with the same job after a crash: whatever it does outside the database must
    /// bear that.
    async fn run(&self, salon: &Arc<Salon>, work: &Work) -> Result<Next, Error>;

    /// Gives the job up after its last attempt, in one transaction with whatever has to be told.
    async fn give_up(&self, salon: &Arc<Salon>, work: &Work, error: &str) -> Result<(), Error> {
        let args = (work.lease.ticket.clone(), work.lease.until(salon), error.to_owned(), salon.clock.now());
        salon
            .store
            .write(args, |tx, (ticket, until, error, now)| {
                Box::pin(async move {
                    let held = tx.hold(ticket, *until).await?;
                    tx.bury(held, error, *now).await
                })
            })
            .await
    }

    /// Whether this kind may be tried for ever, because it is never done: a poller.
    fn endless(&self) -> bool {
        false
    }
}

/// What happens to a job that came back without an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It ended itself, in the transaction that did its work.
    Ended,
    /// It is done; there was nothing to write.
    Finish,
    /// Nothing went wrong, it only has to wait.
    Snooze(Duration),
    /// It did not work out; try again with a growing pause.
    Retry(String),
}

/// A claimed job in the hands of its worker.
#[derive(Debug)]
pub struct Work {
    pub job: Claimed,
    pub lease: Lease,
}

/// How long a worker waits before it asks again a store that is away.
const STORE_PAUSE: Duration = Duration::from_millis(250);

impl Work {
    /// Writes what this job did. While the store is away it waits, as long as the lease allows: what was done outside
    /// the database, a message that was sent or an answer that was paid for, is not thrown away for a busy second.
    pub async fn write<A, T>(&self, salon: &Salon, args: A, operation: Operation<A, T>) -> Result<T, Error>
    where
        A: Clone + Send + Sync + 'static,
        T: Send + 'static,
    {
        loop {
            let at = Instant::now();
            match salon.store.write(args.clone(), operation).await {
                Err(Error::Unavailable(_) | Error::Full) => {
                    self.lease.check()?;
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                outcome => {
                    if outcome.is_ok() {
                        self.lease.renewed(at);
                    }
                    return outcome;
                }
            }
        }
    }
}

/// Our right to work on a job, and the ways in which it ends.
#[derive(Debug)]
pub struct Lease {
    pub ticket: Ticket,
    pub length: Duration,
    /// Somebody asked this job to stop.
    pub stop: CancellationToken,
    /// The lease was lost, or could not be renewed in time: do nothing visible any more.
    pub lost: CancellationToken,
    /// The process wants to end: put the job back where it is.
    pub closing: CancellationToken,
    renewed: Mutex<Instant>,
}

impl Lease {
    pub(crate) fn new(
        ticket: Ticket,
        length: Duration,
        stop: CancellationToken,
        closing: CancellationToken,
        claimed_at: Instant,
    ) -> Lease {
        let renewed = Mutex::new(claimed_at);
        Lease { ticket, length, stop, lost: CancellationToken::new(), closing, renewed }
    }

    /// Until when a write made now extends the lease.
    pub fn until(&self, salon: &Salon) -> salon_core::Time {
        salon.clock.now() + self.length
    }

    /// Refuses once the lease may be somebody else's; to be asked before anything that the world can see.
    ///
    /// Measured on the monotonic clock, with a third of the lease to spare, so that a process that was asleep does not
    /// act on what it remembers.
    pub fn check(&self) -> Result<(), Error> {
        if salon_store::failpoint::sabotaged("no-fence") {
            return Ok(());
        }
        if self.lost.is_cancelled() || self.age() > self.length * 2 / 3 { Err(Error::Fenced) } else { Ok(()) }
    }

    /// Since when the lease has not been renewed.
    pub(crate) fn age(&self) -> Duration {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Notes that a renewal which began at `at` succeeded.
    pub fn renewed(&self, at: Instant) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        *renewed = (*renewed).max(at);
    }
}
