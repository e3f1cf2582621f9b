//! What an agent is told while it is at work, and what becomes of it if the run ends before it was heard: a question.

use std::sync::Arc;

use async_trait::async_trait;
use salon::steer::{self, Steer};
use salon::{Job, Next, Salon, Work, say};
use salon_core::{ChatId, Dialog, JobId, Lang, Refusal, TurnId};
use salon_store::{Error, NewJob, Result, Tx};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::fleet::Fleet;
use crate::notice::Notice;

/// What the job carries: what is told, and where it was said.
#[derive(Clone, Serialize, Deserialize)]
struct Said {
    #[serde(flatten)]
    steer: Steer,
    chat: i64,
    topic: Option<i64>,
    user: i64,
    lang: String,
    message: Option<i64>,
}

/// Tells the agent at work in the dialog. `false` if it cannot be told more.
pub async fn tell(tx: &mut Tx, cx: &Context, dialog: &Dialog, text: &str) -> Result<bool> {
    let Some(turn) = (match cx.bot.config.steer {
        true => steer::find_steered(tx, &cx.salon, &dialog.id).await?,
        false => None,
    }) else {
        return Ok(false);
    };
    let said = Said {
        steer: Steer { turn: turn.to_string(), text: text.to_owned() },
        chat: cx.chat.0,
        topic: cx.topic,
        user: cx.user,
        lang: cx.lang.tag().to_owned(),
        message: cx.message,
    };
    let job = NewJob {
        id: JobId::new(cx.salon.clock.id()),
        key: None,
        queue: salon::QUEUE_CHAT,
        kind: salon::KIND_STEER,
        lane: say::lane(&dialog.id),
        bot: Some(cx.bot.id().clone()),
        payload: serde_json::to_string(&said).map_err(anyhow::Error::new)?,
        now: cx.salon.clock.now(),
        room: None,
    };
    steer::steer(tx, &turn, &job).await?;
    let words = cx.words(cx.view(Some(dialog)));
    cx.tell(tx, Notice::plain(cx, words.say("agent.steered", &[]))).await?;
    Ok(true)
}

/// Asks what no agent has heard. The job comes up when the run has ended.
pub struct AskLater {
    pub fleet: Arc<Fleet>,
}

#[async_trait]
impl Job for AskLater {
    fn kind(&self) -> &'static str {
        salon::KIND_STEER
    }

    async fn run(&self, salon: &Arc<Salon>, work: &Work) -> Result<Next> {
        // What a program told is no bot's.
        let Some(id) = work.job.bot.as_ref() else { return steer::ask(salon, work).await };
        let Some(bot) = self.fleet.find(id) else { return Ok(crate::absent(salon, work)) };
        let said: Said = serde_json::from_str(&work.job.payload).map_err(anyhow::Error::new)?;
        let cx = Context {
            salon: salon.clone(),
            bot,
            chat: ChatId(said.chat),
            topic: said.topic,
            user: said.user,
            lang: Lang::from_tag(Some(&said.lang)),
            message: said.message,
            name: String::new(),
            pressed: None,
            person: None,
        };
        let args = (work.lease.ticket.clone(), work.lease.until(salon), cx, said, salon.clock.now());
        salon
            .store
            .write(args, |tx, (ticket, until, cx, said, now)| {
                Box::pin(async move {
                    let held = tx.hold(ticket, *until).await?;
                    // First of all, so that the question finds the room that this took.
                    tx.finish(held, *now).await?;
                    // The chat may have moved, and a dialog that was left has nothing more to say.
                    let told = tx.find_turn(&TurnId::new(said.steer.turn.as_str())).await?;
                    let dialog = match told {
                        Some(turn) => tx.find_dialog(&turn.dialog).await?.filter(|dialog| dialog.active),
                        None => None,
                    };
                    if let Some(dialog) = dialog
                        && let salon_core::Channel::Telegram { chat, .. } = dialog.channel
                    {
                        let cx = &Context { chat, ..cx.clone() };
                        match crate::update::queue(tx, cx, &dialog, &said.steer.text).await {
                            Err(Error::Refused(Refusal::QueueFull { .. })) => {
                                let words = cx.words(cx.view(Some(&dialog)));
                                let text = words.say("refusal.queue_full", &[("limit", &say::ROOM.to_string())]);
                                cx.tell(tx, Notice::plain(cx, text)).await?;
                            }
                            queued => queued?,
                        }
                    }
                    Ok(())
                })
            })
            .await?;
        Ok(Next::Ended)
    }
}
