//! Steer: tells an agent more while it is at work, in the caller's transaction.
//!
//! What it is told is a job behind the run, in the same lane. Whoever holds the run looks for it; when the agent has heard,
//! the note that says so and the end of that job are one transaction. If the run ends first, the lane comes to the job, and
//! it becomes a question like any other. So it is heard or asked, and never both.

use salon_core::{DialogId, Refusal, TurnId};
use salon_store::{Claimed, Enqueued, NewJob, Result, Tx};
use serde::{Deserialize, Serialize};

use crate::Salon;
use crate::say::{ROOM, lane};
use crate::stop::run_of;

/// What is told to whom. The job's payload may hold more, for whoever makes a question of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steer {
    pub turn: String,
    pub text: String,
}

impl Steer {
    /// What a waiting job tells the run of `turn`, if it does.
    pub(crate) fn of(job: &Claimed, turn: &TurnId) -> Option<Steer> {
        if job.kind != crate::KIND_STEER {
            return None;
        }
        serde_json::from_str::<Steer>(&job.payload).ok().filter(|steer| steer.turn == turn.as_str())
    }
}

/// The turn at work in a dialog, if whoever answers it can be told more.
pub async fn find_steered(tx: &mut Tx, salon: &Salon, dialog: &DialogId) -> Result<Option<TurnId>> {
    let open = tx.list_open(&lane(dialog)).await?;
    let Some(turn) = open.first().filter(|head| !head.stop_requested).and_then(run_of) else { return Ok(None) };
    let found = tx.find_turn(&turn).await?;
    Ok(found.filter(|found| salon.engines.steers(&found.engine)).map(|_| turn))
}

/// Queues what a running turn is told. `QueueFull` if too much waits in the dialog already.
pub async fn steer(tx: &mut Tx, turn: &TurnId, job: &NewJob) -> Result<()> {
    let job = NewJob { room: Some(ROOM), ..job.clone() };
    match tx.enqueue(&job).await? {
        Enqueued::New => {
            tx.wake(turn);
            Ok(())
        }
        Enqueued::LaneFull => Err(Refusal::QueueFull { limit: ROOM }.into()),
        Enqueued::Duplicate => Ok(()),
    }
}
