//! Steer: tells an agent more while it is at work, in the caller's transaction.
//!
//! What it is told is a job behind the run, in the same lane. Whoever holds the run looks for it; when the agent has heard,
//! the note that says so and the end of that job are one transaction. If the run ends first, the lane comes to the job, and
//! it becomes a question like any other. So it is heard or asked, and never both.

use std::sync::Arc;

use salon_core::{DialogId, JobId, KeyId, Refusal, TurnId, UserId};
use salon_store::{Claimed, Enqueued, Error, Keeper, NewJob, Result, Tx};
use serde::{Deserialize, Serialize};

use crate::Salon;
use crate::access::{Caller, Denied};
use crate::job::{Next, Work};
use crate::say::{ROOM, lane, say};
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

/// What became of words for whoever is at work in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steered {
    /// They wait to be heard by the run of this turn, under this name.
    Told { turn: TurnId, steer: JobId },
    /// Nobody is at work there.
    Idle,
    /// Whoever is cannot be told more.
    Deaf,
    /// There is no such session, or it is somebody else's.
    Gone,
    /// The caller's key is not for whoever is at work.
    Denied(Denied),
    /// Too much waits in the session already.
    Full(Refusal),
}

/// What the job carries that a program's words are, with who said it.
#[derive(Clone, Serialize, Deserialize)]
struct OfProgram {
    #[serde(flatten)]
    steer: Steer,
    user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// Tells whoever is at work in a session of the caller's.
pub async fn tell(salon: &Arc<Salon>, caller: &Caller, id: &DialogId, text: &str) -> Result<Steered> {
    let keeper = salon.keeper(caller).await?;
    let args = (salon.clone(), caller.clone(), keeper, id.clone(), text.to_owned());
    let told = salon.store.write(args, |tx, (salon, caller, keeper, id, text)| {
        Box::pin(async move { tell_in(tx, salon, (caller, keeper), id, text).await })
    });
    match told.await {
        Err(Error::Refused(refusal)) => Ok(Steered::Full(refusal)),
        told => told,
    }
}

async fn tell_in(
    tx: &mut Tx,
    salon: &Salon,
    (caller, keeper): (&Caller, &Keeper),
    id: &DialogId,
    text: &str,
) -> Result<Steered> {
    let Some(session) = tx.find_session(keeper, id).await? else { return Ok(Steered::Gone) };
    let now = salon.clock.now();
    tx.see_session(id, now).await?;
    if tx.count_open(&lane(id)).await? == 0 {
        return Ok(Steered::Idle);
    }
    let deaf = salon.agents.get().is_some_and(|agents| agents.is_deaf(&session.dialog));
    let steered = if deaf { None } else { find_steered(tx, salon, id).await? };
    let Some(turn) = steered else { return Ok(Steered::Deaf) };
    if let Some(found) = tx.find_turn(&turn).await?
        && let Err(denied) = salon.may_ask(caller, &found.engine)
    {
        return Ok(Steered::Denied(denied));
    }
    let said = OfProgram {
        steer: Steer { turn: turn.to_string(), text: text.to_owned() },
        user: caller.user.to_string(),
        key: caller.key.as_ref().map(ToString::to_string),
    };
    let job = NewJob {
        id: JobId::new(salon.clock.id()),
        key: None,
        queue: crate::QUEUE_CHAT,
        kind: crate::KIND_STEER,
        lane: lane(id),
        bot: None,
        payload: serde_json::to_string(&said).map_err(anyhow::Error::new)?,
        now,
        room: None,
    };
    steer(tx, &turn, &job).await?;
    Ok(Steered::Told { turn, steer: job.id })
}

/// Asks what a program said and no agent has heard. The job comes up when the run has ended.
pub async fn ask(salon: &Arc<Salon>, work: &Work) -> Result<Next> {
    let said: OfProgram = serde_json::from_str(&work.job.payload).map_err(anyhow::Error::new)?;
    let args = (work.lease.ticket.clone(), work.lease.until(salon), salon.clone(), said, salon.clock.now());
    salon
        .store
        .write(args, |tx, (ticket, until, salon, said, now)| {
            Box::pin(async move {
                let held = tx.hold(ticket, *until).await?;
                // First of all, so that the question finds the room that this took.
                tx.finish(held, *now).await?;
                let told = tx.find_turn(&TurnId::new(said.steer.turn.as_str())).await?;
                let dialog = match told {
                    Some(turn) => tx.find_dialog(&turn.dialog).await?,
                    None => None,
                };
                // A session that was deleted has nothing more to say.
                let Some(dialog) = dialog else { return Ok(()) };
                let (user, key) = (UserId::new(said.user.as_str()), said.key.as_deref().map(KeyId::new));
                let utterance = salon.utterance(&dialog.id, &dialog.engine, None, &said.steer.text, None);
                say(tx, &utterance.asked_by(&user, key.as_ref())).await?;
                Ok(())
            })
        })
        .await?;
    Ok(Next::Ended)
}
