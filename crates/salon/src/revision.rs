//! Whether what is remembered of people, keys and secrets is still so.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use salon_store::{Dialect, Store};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// How often the database is asked whether another process changed something. Signals are faster, and can be lost.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// For so long what is remembered is believed while the database does not answer.
const BELIEVE: Duration = Duration::from_secs(10);

/// Changes whenever somebody's rights, keys or secrets do, in this process or in another.
///
/// Whoever remembers something writes down the [`generation`](Revision::generation) *before* reading it, and believes it
/// for as long as that generation is the current one.
#[derive(Debug)]
pub struct Revision {
    generation: AtomicU64,
    /// The database's number when it was looked at last.
    seen: AtomicI64,
    /// Until when nobody else can have changed something unnoticed for long.
    believe_until: AtomicI64,
}

impl Revision {
    pub(crate) fn new(store: &Store) -> Revision {
        // A SQLite file has one process, and that one is told of each of its own changes.
        let alone = store.dialect() == Dialect::Sqlite;
        Revision {
            generation: AtomicU64::new(1),
            seen: AtomicI64::new(-1),
            believe_until: AtomicI64::new(if alone { i64::MAX } else { i64::MIN }),
        }
    }

    /// What is remembered from an earlier generation is outdated. While the database is not heard of, everything is.
    pub(crate) fn generation(&self, clock: &Clock) -> Option<u64> {
        let believed = clock.now().0 <= self.believe_until.load(Ordering::Acquire);
        believed.then(|| self.generation.load(Ordering::Acquire))
    }

    /// Outdates everything that was remembered until now.
    pub(crate) fn raise(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Looks whether another process changed something.
    pub(crate) async fn look(&self, store: &Store, clock: &Clock) -> salon_store::Result<()> {
        if store.dialect() == Dialect::Sqlite {
            return Ok(());
        }
        let began = clock.now();
        let found = store.read().await?.people_revision().await?;
        if self.seen.swap(found, Ordering::AcqRel) != found {
            self.raise();
        }
        self.believe_until.store((began + BELIEVE).0, Ordering::Release);
        Ok(())
    }

    /// Looks again and again until Salon closes.
    pub(crate) async fn watch(&self, store: &Store, clock: &Clock, closing: &CancellationToken) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                _ = every.tick() => if let Err(error) = self.look(store, clock).await {
                    tracing::debug!(%error, "could not look whether keys or people changed");
                },
            }
        }
    }
}
