//! A deferred button action: when the turns before it are answered, it becomes a turn itself, one action at a time.

use std::sync::Arc;

use async_trait::async_trait;
use salon::{Job, Next, Salon, Work, say};
use salon_core::{Channel, ChatId, Lang, TurnId};
use salon_store::Result;

use crate::buttons::{self, Deferred, KIND_ACTION};
use crate::context::Context;
use crate::fleet::Fleet;

pub struct Promote {
    pub fleet: Arc<Fleet>,
}

#[async_trait]
impl Job for Promote {
    fn kind(&self) -> &'static str {
        KIND_ACTION
    }

    async fn run(&self, salon: &Arc<Salon>, work: &Work) -> Result<Next> {
        let Some(bot) = work.job.bot.as_ref().and_then(|id| self.fleet.find(id)) else {
            return Ok(crate::absent(salon, work));
        };
        let deferred: Deferred = serde_json::from_str(&work.job.payload).map_err(anyhow::Error::new)?;
        let cx = Context {
            salon: salon.clone(),
            bot,
            chat: ChatId(deferred.chat),
            topic: deferred.topic,
            user: deferred.user,
            lang: Lang::from_tag(Some(&deferred.lang)),
            message: None,
            name: String::new(),
            pressed: None,
            person: None,
        };
        let args = (work.lease.ticket.clone(), work.lease.until(salon), cx, deferred, salon.clock.now());
        salon
            .store
            .write(args, |tx, (ticket, until, cx, deferred, now)| {
                Box::pin(async move {
                    let held = tx.hold(ticket, *until).await?;
                    let origin = tx.find_turn(&TurnId::new(deferred.origin.as_str())).await?;
                    let dialog = match &origin {
                        Some(origin) => tx.find_dialog(&origin.dialog).await?,
                        None => None,
                    };
                    // A dialog that was left meanwhile has nothing more to say.
                    if let (Some(origin), Some(dialog)) = (origin, dialog.filter(|dialog| dialog.active))
                        // Its chat may have moved since.
                        && let Channel::Telegram { chat, .. } = dialog.channel
                    {
                        let cx = &Context { chat, ..cx.clone() };
                        let lane = say::lane(&dialog.id);
                        // What was asked for before this, and what an earlier action became, is answered first: the
                        // question that this one becomes may quote it.
                        if tx.list_open(&lane).await?.iter().any(|job| job.kind == salon::KIND_RUN) {
                            buttons::defer(tx, cx, lane, deferred).await?;
                        } else {
                            let view = cx.view(Some(&dialog));
                            buttons::begin(tx, cx, &dialog, &origin, deferred.action, view).await?;
                        }
                    }
                    tx.finish(held, *now).await
                })
            })
            .await?;
        Ok(Next::Ended)
    }
}
