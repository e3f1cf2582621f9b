//! Stop: asks whoever runs a turn to be silent, and ends what nobody has begun.

use salon_core::{DialogId, Event, Time, TurnId, TurnState, Usage};
use salon_store::{Append, Claimed, Finished, Result, Tx};

use crate::say::{RunPayload, lane};

/// Stops everything that is being answered or waits in the dialog. `false` if there was nothing.
///
/// A turn that waits ends here and now; a turn that runs ends when its runner has heard, within half a second.
pub async fn stop_dialog(tx: &mut Tx, dialog: &DialogId, now: Time) -> Result<bool> {
    let open = tx.list_open(&lane(dialog)).await?;
    let mut any = false;
    for job in &open {
        any |= stop_job(tx, job, now).await?;
    }
    Ok(any)
}

/// Stops one turn. `false` if it has ended.
pub async fn stop_turn(tx: &mut Tx, dialog: &DialogId, turn: &TurnId, now: Time) -> Result<bool> {
    for job in &tx.list_open(&lane(dialog)).await? {
        if run_of(job).as_ref() == Some(turn) {
            return stop_job(tx, job, now).await;
        }
    }
    Ok(false)
}

async fn stop_job(tx: &mut Tx, job: &Claimed, now: Time) -> Result<bool> {
    let Some(held) = tx.stop_unclaimed(&job.ticket.job, now).await? else {
        return tx.request_stop(&job.ticket.job).await;
    };
    if let Some(turn) = run_of(job) {
        tx.append(&held, &turn, &[Append { at: now, event: Event::Stopped }]).await?;
        let finished = Finished {
            turn,
            state: TurnState::Stopped,
            answer: String::new(),
            usage: Usage::default(),
            error: None,
            now,
        };
        tx.finish_turn(&held, &finished).await?;
    }
    Ok(true)
}

/// The turn that a job runs, if it is a run.
pub(crate) fn run_of(job: &Claimed) -> Option<TurnId> {
    if job.kind != crate::KIND_RUN {
        return None;
    }
    serde_json::from_str::<RunPayload>(&job.payload).ok().map(|payload| TurnId::new(payload.turn))
}
