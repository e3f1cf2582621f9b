//! Wake-ups inside the process. A lost one costs a poll interval, never an answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use salon_core::{JobId, TurnId};
use salon_store::Signal;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Passes the store's signals on to whoever waits for them.
#[derive(Debug, Default)]
pub struct Hub {
    /// One per queue, made by its claim loop and kept.
    work: Mutex<HashMap<String, Arc<Notify>>>,
    /// One per turn that somebody follows; the last follower's going removes it at the next signal.
    turns: Mutex<HashMap<String, watch::Sender<()>>>,
    /// One per job that runs in this process, removed by its worker.
    stops: Mutex<HashMap<JobId, CancellationToken>>,
}

impl Hub {
    pub fn hear(&self, signal: &Signal) {
        match signal {
            Signal::Work(queue) => {
                if let Some(notify) = locked(&self.work).get(queue) {
                    notify.notify_one();
                }
            }
            Signal::Turn(turn) => {
                let mut turns = locked(&self.turns);
                if turns.get(turn).is_some_and(|sender| sender.send(()).is_err()) {
                    turns.remove(turn);
                }
            }
            Signal::Stop(job) => {
                if let Some(stop) = locked(&self.stops).get(&JobId::new(job.as_str())) {
                    stop.cancel();
                }
            }
            // Nobody waits for these; whoever remembers something is told by `Salon` itself.
            Signal::Revision(_) => {}
        }
    }

    pub(crate) fn work(&self, queue: &str) -> Arc<Notify> {
        locked(&self.work).entry(queue.to_owned()).or_default().clone()
    }

    /// Changes whenever the turn's log grows from now on.
    pub(crate) fn turn(&self, turn: &TurnId) -> watch::Receiver<()> {
        let mut turns = locked(&self.turns);
        turns.entry(turn.as_str().to_owned()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    pub(crate) fn register_stop(&self, job: &JobId) -> CancellationToken {
        locked(&self.stops).entry(job.clone()).or_default().clone()
    }

    pub(crate) fn forget_stop(&self, job: &JobId) {
        locked(&self.stops).remove(job);
    }

    /// Forgets turns that nobody follows any more.
    pub(crate) fn sweep(&self) {
        locked(&self.turns).retain(|_, sender| sender.receiver_count() > 0);
    }
}

/// The maps hold no invariant that a panic could break.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
