//! Follow: the log first, then live. Resumable by event number, across processes.

use std::time::Duration;

use salon_core::{Stamped, TurnId};
use salon_store::{Error, Result};
use tokio::sync::watch;

use crate::Salon;

/// How long a reader waits for a wake-up before it looks by itself.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const AT_MOST: i64 = 512;

/// A reader of one turn.
pub struct Follow<'a> {
    salon: &'a Salon,
    turn: TurnId,
    after: i64,
    /// The newest attempt seen: the end of an older one is not the end.
    attempt: i64,
    ended: bool,
    grown: watch::Receiver<()>,
}

impl Salon {
    /// Reads a turn's events after number `after`, live until the terminal one.
    pub fn follow(&self, turn: &TurnId, after: i64) -> Follow<'_> {
        // Subscribed before the first read, so that nothing falls between the two.
        let grown = self.hub.turn(turn);
        Follow { salon: self, turn: turn.clone(), after, attempt: 0, ended: false, grown }
    }
}

impl Follow<'_> {
    async fn read(&self) -> Result<Vec<Stamped>> {
        self.salon.store.read().await?.list_events(&self.turn, self.after, AT_MOST).await
    }

    /// The next events, at least one; `None` after the terminal one. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Vec<Stamped>>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            self.grown.mark_unchanged();
            let events = match self.read().await {
                Ok(events) => events,
                // Whoever follows waits for the answer anyway; the store's return is part of that.
                Err(Error::Unavailable(_)) => {
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(last) = events.last() {
                self.after = last.seq;
                for event in &events {
                    self.attempt = self.attempt.max(event.attempt);
                    self.ended |= event.event.ends().is_some() && event.attempt >= self.attempt;
                }
                return Ok(Some(events));
            }
            tokio::select! {
                changed = self.grown.changed() => {
                    if changed.is_err() {
                        self.grown = self.salon.hub.turn(&self.turn);
                    }
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}
