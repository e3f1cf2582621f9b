//! One voice of a panel, shown in a group by a bot of its own.
//!
//! Whoever was asked shows the answer; the others of its circle each show what their voice said, once it has said it. A
//! voice that was not asked, or that says the answer itself, shows nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use salon::{Job, Next, Salon, Work};
use salon_core::{ChatId, Reply, TurnId, VoiceState};
use salon_store::Error;
use salon_telegram::text::{markdown, pages};
use serde::{Deserialize, Serialize};

use crate::courier::{self, Courier, Halt, Page};
use crate::fleet::Fleet;
use crate::notice::MESSAGE_UNITS;

pub const KIND: &str = "voice";

/// What a voice job carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    pub turn: String,
    pub chat: i64,
    #[serde(default)]
    pub topic: Option<i64>,
    /// Its name, or what it is there for.
    pub voice: String,
}

pub struct ShowVoice {
    pub fleet: Arc<Fleet>,
}

#[async_trait]
impl Job for ShowVoice {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn run(&self, salon: &Arc<Salon>, work: &Work) -> Result<Next, Error> {
        let Some(bot) = work.job.bot.as_ref().and_then(|id| self.fleet.find(id)) else {
            return Ok(crate::absent(salon, work));
        };
        let part: Part = serde_json::from_str(&work.job.payload).map_err(anyhow::Error::new)?;
        let owner = work.lease.ticket.job.as_str().to_owned();
        let mut courier = Courier::load(salon, work, &bot, ChatId(part.chat), owner).await?;
        courier.topic = part.topic;
        match read_out(salon, &part, &mut courier).await {
            Ok(()) => courier.finish().await,
            Err(halt) => courier.stop_for(halt).await,
        }
    }

    async fn give_up(&self, salon: &Arc<Salon>, work: &Work, error: &str) -> Result<(), Error> {
        let owner = work.lease.ticket.job.as_str().to_owned();
        // The answer has its own reader; without a voice it stands all the same.
        courier::give_up(salon, work, owner, None, error).await
    }
}

/// Shows the voice whenever it has ended, until the turn has.
async fn read_out(salon: &Salon, part: &Part, courier: &mut Courier<'_>) -> Result<(), Halt> {
    let mut follow = salon.follow(&TurnId::new(part.turn.as_str()), 0);
    let mut reply = Reply::default();
    let mut shown = String::new();
    loop {
        let said = said(&reply, &part.voice);
        if said != shown && !said.is_empty() {
            let bodies = pages(&markdown(&said), MESSAGE_UNITS).into_iter();
            let pages: Vec<_> = bodies.map(|body| Page { body, keyboard: None }).collect();
            courier.show_final(&pages).await?;
            shown = said;
        }
        if reply.is_final() {
            return Ok(());
        }
        tokio::select! {
            more = follow.next() => match more? {
                Some(events) => events.iter().for_each(|event| reply.push(event)),
                None => return Err(Halt::Retry("the log ended without an end".to_owned())),
            },
            () = courier.work.lease.lost.cancelled() => return Err(Halt::Store(Error::Fenced)),
            () = courier.work.lease.closing.cancelled() => return Err(Halt::Wait(Duration::ZERO)),
        }
    }
}

/// What the voice has said to its end, round by round.
fn said(reply: &Reply, wanted: &str) -> String {
    let wanted = wanted.to_lowercase();
    let said = reply.voices.iter().filter(|voice| {
        let is_meant = voice.speaker.to_lowercase() == wanted || voice.part == wanted;
        is_meant && !voice.answers && voice.state == VoiceState::Spoke
    });
    said.map(|voice| voice.text.trim()).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n")
}
