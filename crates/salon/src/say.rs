//! Say: number the turn and queue its run, in the caller's transaction.

use salon_core::{DialogId, JobId, KeyId, Refusal, TurnId, UserId, Wishes};
use salon_store::{Enqueued, NewJob, NewTurn, Request, Result, Tx};
use serde::{Deserialize, Serialize};

use crate::Salon;

/// Questions that may wait in one dialog.
pub const ROOM: i64 = 20;

/// What a `run` job carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunPayload {
    pub turn: String,
    /// Who pays, where it is not somebody in Telegram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The key by which it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
}

impl RunPayload {
    pub fn wishes(&self) -> Wishes {
        Wishes { max_output: self.max_output, temperature: self.temperature }
    }
}

/// Something to be said, with its ids already made.
#[derive(Clone, Debug, PartialEq)]
pub struct Utterance {
    turn: NewTurn,
    payload: RunPayload,
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
        let payload = RunPayload { turn: turn.to_string(), user: None, key: None, max_output: None, temperature: None };
        Utterance {
            run: NewJob {
                id: JobId::new(self.clock.id()),
                key: Some(format!("run:{turn}")),
                queue: crate::QUEUE_RUN,
                kind: crate::KIND_RUN,
                lane: lane(dialog),
                bot: None,
                payload: String::new(),
                now,
                // `say` counts by itself.
                room: None,
            },
            payload,
            turn: NewTurn {
                id: turn,
                dialog: dialog.clone(),
                user,
                question: question.to_owned(),
                engine: engine.to_owned(),
                source_message,
                request: None,
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

    /// Who asks and pays, and by which key.
    pub fn asked_by(mut self, user: &UserId, key: Option<&KeyId>) -> Utterance {
        self.payload.user = Some(user.to_string());
        self.payload.key = key.map(ToString::to_string);
        self
    }

    pub fn wishing(mut self, wishes: Wishes) -> Utterance {
        (self.payload.max_output, self.payload.temperature) = (wishes.max_output, wishes.temperature);
        self
    }

    /// By which request it is asked. [`Tx::find_turn_of_request`] finds what the same request said before.
    pub fn requested(mut self, request: Option<Request>) -> Utterance {
        self.turn.request = request;
        self
    }

    /// The run, once everything is known of it.
    fn run(&self) -> Result<NewJob> {
        let payload = serde_json::to_string(&self.payload).map_err(anyhow::Error::new)?;
        Ok(NewJob { payload, ..self.run.clone() })
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
    match tx.enqueue(&utterance.run()?).await? {
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
