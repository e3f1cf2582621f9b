//! Who said something where: what every reaction to an update needs to know.

use std::sync::Arc;
use std::time::Duration;

use salon::Salon;
use salon_core::{BotId, Channel, ChatId, Chosen, Dialog, DialogId, JobId, Lang, TurnId, View};
use salon_store::{Claimed, NewJob, Result, Tx};

use crate::admission::Person;
use crate::deliver::Delivery;
use crate::fleet::Bot;
use crate::notice::Notice;

#[derive(Clone)]
pub struct Context {
    pub salon: Arc<Salon>,
    pub bot: Arc<Bot>,
    pub chat: ChatId,
    /// The forum topic, if the chat has topics.
    pub topic: Option<i64>,
    pub user: i64,
    /// What they are called there.
    pub name: String,
    /// The person's language.
    pub lang: Lang,
    /// The message that is reacted to.
    pub message: Option<i64>,
    /// The message of ours whose button was pressed.
    pub pressed: Option<i64>,
    /// Who they are here, if they are known.
    pub person: Option<Arc<Person>>,
}

impl Context {
    /// The chat's dialog, made if there is none. A new one goes on with the engine that was chosen last.
    pub async fn dialog(&self, tx: &mut Tx) -> Result<Dialog> {
        if let Some(dialog) = tx.find_active_dialog(self.bot.id(), self.chat).await? {
            return Ok(dialog);
        }
        let latest = tx.find_latest_dialog(self.bot.id(), self.chat).await?;
        let engine = latest.as_ref().map_or_else(|| self.first_engine(), |dialog| dialog.engine.clone());
        let dialog = self.new_dialog(engine, latest.and_then(|dialog| dialog.view));
        if tx.add_dialog(&dialog).await? {
            return Ok(dialog);
        }
        let made = tx.find_active_dialog(self.bot.id(), self.chat).await?;
        Ok(made.ok_or_else(|| anyhow::anyhow!("a chat's dialog is neither there nor can be made"))?)
    }

    /// Who answers where nobody has spoken yet: the bot's engine, or for a bot that names none whom the person chose.
    pub fn first_engine(&self) -> String {
        let chosen = self.person.as_ref().filter(|_| self.chat.is_private() && !self.bot.config.named);
        let chosen = chosen.and_then(|person| person.account.taste.engine.as_deref());
        let found = chosen.and_then(|name| self.salon.engines.find(name));
        let found = found.filter(|engine| {
            engine.selectable && engine.installed && self.bot.suits(engine) && self.may_ask(&engine.name)
        });
        found.map_or_else(|| self.bot.config.engine.clone(), |engine| engine.name)
    }

    pub fn new_dialog(&self, engine: String, view: Option<View>) -> Dialog {
        let now = self.salon.clock.now();
        Dialog {
            id: DialogId::new(self.salon.clock.id()),
            channel: Channel::Telegram { bot: self.bot.id().clone(), chat: self.chat },
            owner: None,
            engine,
            view,
            thread: None,
            summary: String::new(),
            window_from: 1,
            turns: 0,
            active: true,
            chosen: Chosen::default(),
            created_at: now,
            updated_at: now,
        }
    }

    /// Stops everything that the chat waits for: in its dialog, and in those it left while they were answering. `false`
    /// if there was nothing.
    pub async fn stop_all(&self, tx: &mut Tx) -> Result<bool> {
        let now = self.salon.clock.now();
        let active = tx.find_active_dialog(self.bot.id(), self.chat).await?.map(|dialog| dialog.id);
        let mut stopped = match &active {
            Some(dialog) => salon::stop::stop_dialog(tx, dialog, now).await?,
            None => false,
        };
        for shown in tx.list_open(&out_lane(self)).await?.iter().filter_map(delivered_turn) {
            let Some(turn) = tx.find_turn(&TurnId::new(shown)).await? else { continue };
            if Some(&turn.dialog) != active.as_ref() {
                stopped |= salon::stop::stop_turn(tx, &turn.dialog, &turn.id, now).await?;
            }
        }
        Ok(stopped)
    }

    /// Whether the person may be answered by the engine of this name. What is no model is for everybody.
    pub fn may_ask(&self, engine: &str) -> bool {
        let account = self.person.as_ref().map(|person| &person.account);
        account.is_none_or(|account| self.salon.may_be_answered_by(account, engine))
    }

    pub fn view(&self, dialog: Option<&Dialog>) -> View {
        dialog.and_then(|dialog| dialog.view).unwrap_or(self.bot.config.view)
    }

    /// The words to use in a view: the person's language, or the bridge's own.
    pub fn words(&self, view: View) -> Lang {
        match view {
            View::Answer => self.lang,
            View::Events => Lang::Bridge,
        }
    }

    /// Queues a notice. While a turn is shown in the chat the notice goes beside it instead of waiting for its end,
    /// but not before the turn's own message stands in its place.
    pub async fn tell(&self, tx: &mut Tx, mut notice: Notice) -> Result<()> {
        let lane = out_lane(self);
        let shown = tx.find_open(&lane, crate::deliver::KIND).await?;
        let beside = shown.as_ref().and_then(delivered_turn);
        let lane = if beside.is_some() { self.beside_lane() } else { lane };
        notice.after = beside;
        self.enqueue(tx, crate::notice::KIND, lane, None, &notice).await
    }

    /// Queues a notice that is told once, whatever asks for it how often.
    pub async fn tell_once(&self, tx: &mut Tx, key: String, notice: Notice) -> Result<()> {
        self.enqueue(tx, crate::notice::KIND, self.beside_lane(), Some(key), &notice).await
    }

    fn beside_lane(&self) -> String {
        format!("out-beside:{}:{}", self.bot.id(), self.chat)
    }

    /// Queues the showing of a turn, behind what the chat is shown already.
    pub async fn show(&self, tx: &mut Tx, turn: &TurnId, view: View) -> Result<()> {
        let delivery = Delivery {
            turn: turn.as_str().to_owned(),
            chat: self.chat.0,
            topic: self.topic,
            user: self.user,
            lang: self.lang.tag().to_owned(),
            view: view.as_str().to_owned(),
            // In a group people want to see who is answered.
            reply_to: self.message.filter(|_| !self.chat.is_private()),
        };
        let key = Some(format!("deliver:{turn}"));
        self.enqueue(tx, crate::deliver::KIND, out_lane(self), key, &delivery).await
    }

    /// Queues, in a group, the voices of the panel that answers whose bots stand beside this one.
    pub async fn show_voices(&self, tx: &mut Tx, turn: &TurnId, engine: &str) -> Result<()> {
        let Some(seat) = self.bot.config.seat.as_ref().filter(|_| !self.chat.is_private()) else { return Ok(()) };
        if salon::panels::named(engine) != Some(seat.panel.as_str()) {
            return Ok(());
        }
        for (bot, voice) in &seat.others {
            // Where it was thrown out it has nothing to say.
            if tx.find_chat(bot, self.chat).await?.parked_at.is_some() {
                continue;
            }
            let (turn, voice) = (turn.as_str().to_owned(), voice.clone());
            let part = crate::voice::Part { turn, chat: self.chat.0, topic: self.topic, voice };
            tx.enqueue(&NewJob {
                id: JobId::new(self.salon.clock.id()),
                key: Some(format!("voice:{}:{bot}", part.turn)),
                queue: salon::QUEUE_OUT,
                kind: crate::voice::KIND,
                lane: format!("out-voice:{bot}:{}", self.chat),
                bot: Some(bot.clone()),
                payload: serde_json::to_string(&part).map_err(anyhow::Error::new)?,
                now: self.salon.clock.now(),
                room: None,
            })
            .await?;
        }
        Ok(())
    }

    async fn enqueue(
        &self,
        tx: &mut Tx,
        kind: &'static str,
        lane: String,
        key: Option<String>,
        payload: &impl serde::Serialize,
    ) -> Result<()> {
        let payload = serde_json::to_string(payload).map_err(anyhow::Error::new)?;
        tx.enqueue(&NewJob {
            id: JobId::new(self.salon.clock.id()),
            key,
            queue: salon::QUEUE_OUT,
            kind,
            lane,
            bot: Some(self.bot.id().clone()),
            payload,
            now: self.salon.clock.now(),
            // Somebody who sends commands faster than a chat can show their replies is not told everything.
            room: (kind == crate::notice::KIND).then_some(NOTICES),
        })
        .await?;
        Ok(())
    }
}

/// Follows a group that lives on under another id. What is still to be shown here is shown there, before what is asked
/// there.
pub async fn move_chat(tx: &mut Tx, bot: &BotId, from: ChatId, to: ChatId) -> Result<()> {
    tx.move_lane(&lane_of(bot, from), &lane_of(bot, to)).await?;
    tx.move_chat(bot, from, to).await
}

fn out_lane(cx: &Context) -> String {
    lane_of(cx.bot.id(), cx.chat)
}

fn lane_of(bot: &BotId, chat: ChatId) -> String {
    format!("out:{bot}:{chat}")
}

/// The turn that a job shows, if it shows one.
fn delivered_turn(job: &Claimed) -> Option<String> {
    if job.kind != crate::deliver::KIND {
        return None;
    }
    serde_json::from_str::<Delivery>(&job.payload).ok().map(|delivery| delivery.turn)
}

/// Notices that may wait in one lane of a chat.
const NOTICES: i64 = 50;

/// How long tokens of buttons are good for.
pub const BUTTON_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
