//! Say: number the turn and queue its run, in the caller's transaction.

use salon_core::{DialogId, JobId, Refusal, TurnId};
use salon_store::{Enqueued, NewJob, NewTurn, Result, Tx};
use serde::{Deserialize, Serialize};

use crate::Salon;

/// Questions that may wait in one dialog.
pub const ROOM: i64 = 20;

/// What a `run` job carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunPayload {
    pub turn: String,
}

/// Something to be said, with its ids already made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utterance {
    turn: NewTurn,
    run: NewJob,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub turn: TurnId,
    pub number: i64,
    /// Questions of the dialog that are answered first.
    pub ahead: i64,
}

impl Salon {
    /// Prepares a question of `user` for [`say`]. `source_message` is where it stands in the chat.
    pub fn utterance(
        &self,
        dialog: &DialogId,
        engine: &str,
        user: Option<i64>,
        question: &str,
        source_message: Option<i64>,
    ) -> Utterance {
        let now = self.clock.now();
        let turn = TurnId::new(self.clock.id());
        let payload = serde_json::json!({ "turn": turn.as_str() }).to_string();
        Utterance {
            run: NewJob {
                id: JobId::new(self.clock.id()),
                key: Some(format!("run:{turn}")),
                queue: crate::QUEUE_RUN,
                kind: crate::KIND_RUN,
                lane: lane(dialog),
                bot: None,
                payload,
                now,
                // `say` counts by itself.
                room: None,
            },
            turn: NewTurn {
                id: turn,
                dialog: dialog.clone(),
                user,
                question: question.to_owned(),
                engine: engine.to_owned(),
                source_message,
                now,
            },
        }
    }
}

impl Utterance {
    pub fn turn(&self) -> &TurnId {
        &self.turn.id
    }

    /// Whose bot the run counts for.
    pub fn for_bot(mut self, bot: &salon_core::BotId) -> Utterance {
        self.run.bot = Some(bot.clone());
        self
    }
}

/// Adds the turn and its run. `QueueFull` if too many questions wait in the dialog already.
pub async fn say(tx: &mut Tx, utterance: &Utterance) -> Result<Said> {
    // This locks the dialog until the commit, so nobody else asks in it after we have counted.
    let number = tx.add_turn(&utterance.turn).await?;
    let ahead = tx.count_open(&utterance.run.lane).await?;
    if ahead >= ROOM {
        return Err(Refusal::QueueFull { limit: ROOM }.into());
    }
    match tx.enqueue(&utterance.run).await? {
        Enqueued::New => Ok(Said { turn: utterance.turn.id.clone(), number, ahead }),
        Enqueued::LaneFull | Enqueued::Duplicate => {
            Err(anyhow::anyhow!("the run of a new turn existed already").into())
        }
    }
}

/// The lane in which a dialog's runs follow one another.
pub fn lane(dialog: &DialogId) -> String {
    format!("dialog:{dialog}")
}
