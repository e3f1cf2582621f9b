//! The courier: puts pages of text into a chat and keeps them there.
//!
//! A page stands in a message that was *placed* once and is *edited* from then on. Placing is the only call that must
//! not happen twice; its outcome is recorded before anything else is done, and a crash in between leaves an orphan
//! placeholder at worst. Every call is preceded by a look at the lease.

mod files;

use std::time::Duration;

use salon::{Next, Salon, Work};
use salon_core::{BotId, ChatId, TurnId};
use salon_store::{Error, NewToken, Part, PartState, fail_point, failpoint};
use salon_telegram::text::{Formatted, plain};
use salon_telegram::types::{EditMessageText, InlineKeyboardMarkup, ReplyParameters, SendMessage};
use salon_telegram::{Act, CallError, Class};

use crate::context::{self, Context};
use crate::fleet::Bot;
use crate::notice::Notice;

pub const PLACEHOLDER: &str = "…";
/// A wait longer than this is spent in the queue, not in a worker's slot.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
const EDIT_TRIES: u32 = 4;
/// How long Telegram may be away before an answer is given up, and the pauses between two looks.
const OUTAGE: Duration = Duration::from_secs(24 * 60 * 60);
const SHORTEST_OUTAGE: Duration = Duration::from_millis(500);
const LONGEST_OUTAGE: Duration = Duration::from_secs(120);

/// Why the courier cannot go on now.
#[derive(Debug)]
pub enum Halt {
    Store(Error),
    /// Telegram wants a pause.
    Wait(Duration),
    /// The chat takes no messages; Telegram's word for it.
    Parked(String),
    Retry(String),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Halt {
        Halt::Store(error)
    }
}

/// One message's content.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub body: Formatted,
    pub keyboard: Option<InlineKeyboardMarkup>,
}

pub struct Courier<'a> {
    pub salon: &'a Salon,
    pub work: &'a Work,
    pub bot: &'a Bot,
    pub chat: ChatId,
    pub topic: Option<i64>,
    pub reply_to: Option<i64>,
    /// The turn or job that speaks.
    owner: String,
    parts: Vec<Standing>,
    /// An earlier lease may have placed something and died before it could say so.
    heir: bool,
    /// An earlier lease said more, and those messages are gone.
    took_away: bool,
    /// Sends whose answer was lost, to be recorded as orphans.
    lost_sends: u32,
    /// Tokens to be stored with the first part, so that no button is shown before its token is durable.
    tokens: Vec<NewToken>,
}

/// A placed message, and what it shows as far as we know.
struct Standing {
    /// Where it stands: a group may have moved since.
    chat: ChatId,
    message: i64,
    shows: Option<Page>,
    /// Whether that is what it must say in the end.
    done: bool,
}

impl Standing {
    fn placeholder(chat: ChatId, message: i64) -> Standing {
        Standing { chat, message, shows: None, done: false }
    }
}

impl<'a> Courier<'a> {
    pub async fn load(
        salon: &'a Salon,
        work: &'a Work,
        bot: &'a Bot,
        chat: ChatId,
        owner: String,
    ) -> Result<Courier<'a>, Error> {
        let mut parts = Vec::new();
        // A first attempt cannot have placed anything.
        if work.job.attempts > 1 || work.lease.ticket.epoch > 1 {
            let mut tx = salon.store.read().await?;
            let done = tx.list_shown(&owner).await?;
            let stored = tx.list_parts(&owner).await?;
            let standing = stored.iter().filter_map(|part| {
                let done = done.contains(&part.part);
                Some(Standing { done, ..Standing::placeholder(part.chat, part.message?) })
            });
            parts = standing.collect();
        }
        // What an earlier lease learnt of the group's new place.
        let chat = parts.last().map_or(chat, |part| part.chat);
        let heir = work.job.attempts > 1;
        Ok(Courier {
            salon,
            work,
            bot,
            chat,
            topic: None,
            reply_to: None,
            owner,
            parts,
            heir,
            took_away: false,
            lost_sends: 0,
            tokens: Vec::new(),
        })
    }

    /// Goes on in a message that stands in the chat already, unless an earlier attempt had to place another one.
    pub fn adopt(&mut self, message: i64) {
        if self.parts.is_empty() {
            self.parts.push(Standing::placeholder(self.chat, message));
        }
    }

    /// Hands over tokens that become durable with the next placed part, or at once if one stands already.
    pub async fn keep_tokens(&mut self, tokens: Vec<NewToken>) -> Result<(), Error> {
        self.tokens = tokens;
        if !self.parts.is_empty() && !self.tokens.is_empty() {
            self.record(None).await?;
        }
        Ok(())
    }

    pub fn placed(&self) -> usize {
        self.parts.len()
    }

    /// Whether part `at` shows `page` already, as far as we know.
    pub fn shows(&self, at: usize, page: &Page) -> bool {
        self.parts.get(at).is_some_and(|part| part.shows.as_ref() == Some(page))
    }

    /// Places the next part as a placeholder and records its number.
    pub async fn place(&mut self) -> Result<(), Halt> {
        self.place_at(self.parts.len()).await
    }

    /// Places part `at`, which is the next one or one whose message is gone.
    async fn place_at(&mut self, at: usize) -> Result<(), Halt> {
        self.go(Act::Send).await?;
        let mut sent = self.bot.client.send_message(&self.placeholder()).await;
        if let Err(error) = &sent
            && self.adapt(error).await?
        {
            self.go(Act::Send).await?;
            sent = self.bot.client.send_message(&self.placeholder()).await;
        }
        match sent {
            Ok(sent) => {
                self.bot.reached();
                let standing = Standing::placeholder(self.chat, sent.message_id);
                match self.parts.get_mut(at) {
                    Some(part) => *part = standing,
                    None => self.parts.push(standing),
                }
                fail_point!("deliver.before_record");
                self.record(Some(at)).await?;
                fail_point!("deliver.after_record");
                Ok(())
            }
            Err(error) => {
                if matches!(error, CallError::Unknown { .. }) {
                    self.lost_sends += 1;
                    self.record(None).await?;
                }
                Err(self.halt("sendMessage", &error))
            }
        }
    }

    fn placeholder(&self) -> SendMessage {
        let mut message = SendMessage::new(self.chat.0, plain(PLACEHOLDER));
        message.message_thread_id = self.topic;
        if self.parts.is_empty() {
            message.reply_parameters = self.reply_to.map(ReplyParameters::to);
        }
        message
    }

    /// Follows the chat where it went: a group became a supergroup, a topic was closed. `false` if nothing changed.
    async fn adapt(&mut self, error: &CallError) -> Result<bool, Error> {
        match error.class() {
            Class::Migrated(chat) if self.chat.0 != chat => {
                self.follow(ChatId(chat)).await?;
                Ok(true)
            }
            // An answer stands in the topic of what it answers, whether or not that is named.
            Class::BadRequest if self.topic.is_some() => {
                (self.topic, self.reply_to) = (None, None);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Goes on in the supergroup that the chat became, and takes everything of the chat along.
    async fn follow(&mut self, to: ChatId) -> Result<(), Error> {
        tracing::info!(bot.name = %self.bot.id(), "a group became a supergroup");
        let lease = &self.work.lease;
        let args = (lease.ticket.clone(), lease.until(self.salon), self.bot.id().clone(), self.chat, to);
        self.work
            .write(self.salon, args, |tx, (ticket, until, bot, from, to)| {
                Box::pin(async move {
                    tx.hold(ticket, *until).await?;
                    context::move_chat(tx, bot, *from, *to).await
                })
            })
            .await?;
        for token in &mut self.tokens {
            token.chat = to;
        }
        (self.chat, self.topic, self.reply_to) = (to, None, None);
        Ok(())
    }

    /// Puts `page` into part `at`. Repeating it changes nothing. The budget for it has been taken, by [`Courier::go`] or
    /// from the pacer.
    pub async fn edit(&mut self, at: usize, page: &Page) -> Result<(), Halt> {
        let mut body = page.body.clone();
        let mut tries = 0;
        loop {
            if tries > 0 {
                self.go(Act::FinalEdit).await?;
            }
            self.work.lease.check()?;
            tries += 1;
            // A message that was left behind in a group that moved cannot be changed any more.
            if self.parts[at].chat != self.chat {
                self.place_at(at).await?;
            }
            let mut edit = EditMessageText::new(self.chat.0, self.parts[at].message, body.clone());
            edit.reply_markup = page.keyboard.clone();
            let edited = self.bot.client.edit_message_text(&edit).await;
            let Err(error) = edited else { break };
            match error.class() {
                Class::NotModified => break,
                Class::MessageGone if tries < EDIT_TRIES => self.place_at(at).await?,
                Class::Migrated(to) if to != self.chat.0 && tries < EDIT_TRIES => self.follow(ChatId(to)).await?,
                Class::BadRequest if !body.entities.is_empty() => {
                    tracing::warn!(bot.name = %self.bot.id(), %error, "a formatted text was refused, sending it plain");
                    self.salon.metrics.count(self.bot.id().as_str(), "plain_fallback");
                    body.entities.clear();
                }
                // An edit may be repeated whether or not the first one got through.
                Class::Unknown | Class::NotSent if tries < EDIT_TRIES => {
                    self.rest(Duration::from_millis(200 << tries)).await?;
                }
                _ => return Err(self.halt("editMessageText", &error)),
            }
        }
        self.bot.reached();
        self.parts[at].shows = Some(page.clone());
        Ok(())
    }

    /// Shows `pages` and nothing else, in their final form.
    pub async fn show_final(&mut self, pages: &[Page]) -> Result<(), Halt> {
        if failpoint::sabotaged("send-final") {
            return self.send_final(pages).await;
        }
        for (at, page) in pages.iter().enumerate() {
            while self.parts.len() <= at {
                self.place().await?;
            }
            if !self.parts[at].done && !self.shows(at, page) {
                self.go(Act::FinalEdit).await?;
                self.edit(at, page).await?;
            }
            self.parts[at].done = true;
        }
        // An earlier attempt may have said more.
        for surplus in self.parts.split_off(pages.len().max(1).min(self.parts.len())) {
            self.took_away = true;
            self.go(Act::Other).await?;
            if let Err(error) = self.bot.client.delete_message(surplus.chat.0, surplus.message).await {
                match error.class() {
                    Class::RateLimited(_) | Class::Unknown | Class::NotSent => {
                        return Err(self.halt("deleteMessage", &error));
                    }
                    _ => tracing::debug!(%error, "a surplus message stays"),
                }
            }
        }
        Ok(())
    }

    /// Shows the end once more, with something that is known only now.
    pub async fn amend_final(&mut self, pages: &[Page]) -> Result<(), Halt> {
        self.parts.iter_mut().for_each(|part| part.done = false);
        self.show_final(pages).await
    }

    /// What must never be done, for the test that shows why.
    async fn send_final(&mut self, pages: &[Page]) -> Result<(), Halt> {
        for page in pages {
            let sent = self.bot.client.send_message(&SendMessage::new(self.chat.0, page.body.clone())).await;
            sent.map_err(|error| self.halt("sendMessage", &error))?;
        }
        Ok(())
    }

    /// Ends the job and its parts in one transaction.
    pub async fn finish(self) -> Result<Next, Error> {
        fail_point!("deliver.before_finish");
        self.close(None).await?;
        fail_point!("deliver.after_finish");
        Ok(Next::Ended)
    }

    /// Turns a halt into what becomes of the job. A chat that takes nothing is parked, and the job is over.
    pub async fn stop_for(self, halt: Halt) -> Result<Next, Error> {
        match halt {
            Halt::Store(error) => Err(error),
            Halt::Wait(pause) => {
                self.remember().await?;
                Ok(Next::Snooze(pause))
            }
            Halt::Retry(error) => Ok(Next::Retry(error)),
            Halt::Parked(why) => {
                tracing::info!(bot.name = %self.bot.id(), why, "a chat takes no messages and is parked");
                self.salon.metrics.count(self.bot.id().as_str(), "chats_parked");
                self.close(Some(why)).await?;
                Ok(Next::Ended)
            }
        }
    }

    /// Notes which parts are done, so that an answer of many pages does not begin anew after each pause.
    async fn remember(&self) -> Result<(), Error> {
        let done = self.done();
        if done.is_empty() {
            return Ok(());
        }
        let lease = &self.work.lease;
        let now = self.salon.clock.now();
        let args = (lease.ticket.clone(), lease.until(self.salon), self.owner.clone(), done, now);
        self.work
            .write(self.salon, args, |tx, (ticket, until, owner, done, now)| {
                Box::pin(async move {
                    let held = tx.hold(ticket, *until).await?;
                    tx.mark_shown(&held, owner, done, *now).await
                })
            })
            .await
    }

    /// The numbers of the parts that show what they must say in the end.
    fn done(&self) -> Vec<i64> {
        self.parts.iter().zip(0..).filter(|(part, _)| part.done).map(|(_, number)| number).collect()
    }

    async fn close(&self, parked: Option<String>) -> Result<(), Error> {
        let salon = self.salon;
        let (state, note) = match &parked {
            Some(why) => (PartState::Dropped, Some(why.clone())),
            None if self.took_away => (PartState::Dropped, Some("less was said in the end".to_owned())),
            None => (PartState::Shown, None),
        };
        let args = Closing {
            until: self.work.lease.until(salon),
            ticket: self.work.lease.ticket.clone(),
            owner: self.owner.clone(),
            bot: self.bot.id().clone(),
            chat: self.chat,
            done: if state == PartState::Shown { Vec::new() } else { self.done() },
            state,
            note,
            parked,
            now: salon.clock.now(),
        };
        self.work
            .write(salon, args, |tx, c| {
                Box::pin(async move {
                    let held = tx.hold(&c.ticket, c.until).await?;
                    tx.mark_shown(&held, &c.owner, &c.done, c.now).await?;
                    tx.close_parts(&held, &c.owner, c.state, c.note.as_deref(), c.now).await?;
                    if let Some(why) = &c.parked {
                        tx.park_chat(&c.bot, c.chat, why, c.now).await?;
                    }
                    tx.finish(held, c.now).await
                })
            })
            .await
    }

    /// Writes down what is not in the database yet: a placed part, waiting tokens, sends that may have got through.
    async fn record(&mut self, placed: Option<usize>) -> Result<(), Error> {
        let part = |number: i64, message: Option<i64>| Part {
            owner: self.owner.clone(),
            part: number,
            bot: self.bot.id().clone(),
            chat: self.chat,
            message,
        };
        let mut orphans = Vec::new();
        if let Some(at) = placed.filter(|_| self.heir) {
            orphans.push((part(at as i64, None), "a lease ended before its message's number was known"));
        }
        for lost in 0..self.lost_sends {
            orphans.push((part(1000 + i64::from(lost), None), "Telegram's answer was lost"));
        }
        let recording = Recording {
            ticket: self.work.lease.ticket.clone(),
            until: self.work.lease.until(self.salon),
            placed: placed.map(|at| part(at as i64, Some(self.parts[at].message))),
            orphans,
            tokens: std::mem::take(&mut self.tokens),
            now: self.salon.clock.now(),
        };
        let orphaned = recording.orphans.len();
        self.work
            .write(self.salon, recording, |tx, r| {
                Box::pin(async move {
                    let held = tx.hold(&r.ticket, r.until).await?;
                    if let Some(part) = &r.placed {
                        tx.place_part(&held, part, r.now).await?;
                    }
                    for (part, why) in &r.orphans {
                        tx.add_orphan(&held, part, why, r.now).await?;
                    }
                    for token in &r.tokens {
                        tx.add_token(token).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        if orphaned > 0 {
            self.salon.metrics.add(self.bot.id().as_str(), "orphans", orphaned as u64);
        }
        self.heir &= placed.is_none();
        self.lost_sends = 0;
        Ok(())
    }

    /// Waits for the chat's and the bot's budget, and looks at the lease: after this the world sees us.
    pub async fn go(&self, act: Act) -> Result<(), Halt> {
        loop {
            let wait = self.bot.pacer.wait(self.chat.0, act);
            if wait.is_zero() {
                self.work.lease.check()?;
                return Ok(());
            }
            if wait > LONGEST_WAIT {
                return Err(Halt::Wait(wait));
            }
            self.rest(wait).await?;
        }
    }

    async fn rest(&self, pause: Duration) -> Result<(), Halt> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.work.lease.lost.cancelled() => Err(Halt::Store(Error::Fenced)),
            () = self.work.lease.closing.cancelled() => Err(Halt::Wait(Duration::ZERO)),
        }
    }

    fn age(&self) -> Duration {
        self.salon.clock.now().since(self.work.job.created_at)
    }

    pub fn halt(&self, method: &str, error: &CallError) -> Halt {
        let bot = self.bot.id().as_str();
        match error.class() {
            Class::RateLimited(pause) => {
                self.salon.metrics.count(bot, "telegram_rate_limit_retry_total");
                self.salon.metrics.count(bot, &format!("telegram_rate_limit_retry.{method}"));
                self.bot.pause(self.chat.0, pause);
                Halt::Wait(pause)
            }
            Class::Blocked | Class::Migrated(_) => Halt::Parked(error.to_string()),
            // Telegram is away, or the token is being changed. What was answered waits for its return; it is not the
            // job's failure and uses up none of its attempts.
            Class::Unknown | Class::NotSent | Class::Unauthorized if self.age() < OUTAGE => {
                self.bot.unreachable(error);
                Halt::Wait((self.age() / 4).clamp(SHORTEST_OUTAGE, LONGEST_OUTAGE))
            }
            _ => Halt::Retry(format!("{method}: {error}")),
        }
    }
}

#[derive(Clone)]
struct Recording {
    ticket: salon_store::Ticket,
    until: salon_core::Time,
    placed: Option<Part>,
    orphans: Vec<(Part, &'static str)>,
    tokens: Vec<NewToken>,
    now: salon_core::Time,
}

#[derive(Clone)]
struct Closing {
    ticket: salon_store::Ticket,
    until: salon_core::Time,
    owner: String,
    bot: BotId,
    chat: ChatId,
    /// Parts that are shown although the others are not.
    done: Vec<i64>,
    /// What becomes of all that are still open.
    state: PartState,
    note: Option<String>,
    parked: Option<String>,
    now: salon_core::Time,
}

/// Gives up what cannot be shown: its parts are closed, and the chat is told once if `notice` says how.
pub async fn give_up(
    salon: &Salon,
    work: &Work,
    owner: String,
    notice: Option<(Context, Notice)>,
    error: &str,
) -> Result<(), Error> {
    let lease = &work.lease;
    let args = (lease.ticket.clone(), lease.until(salon), owner, notice, error.to_owned(), salon.clock.now());
    salon
        .store
        .write(args, |tx, (ticket, until, owner, notice, error, now)| {
            Box::pin(async move {
                let held = tx.hold(ticket, *until).await?;
                tx.close_parts(&held, owner, PartState::Dropped, Some(error), *now).await?;
                if let Some((cx, notice)) = notice {
                    cx.tell_once(tx, format!("undelivered:{owner}"), notice.clone()).await?;
                }
                tx.bury(held, error, *now).await
            })
        })
        .await
}

/// A number for the drafts of a turn: any number but zero, the same for every attempt.
pub fn draft_id(turn: &TurnId) -> i64 {
    let folded = turn.as_str().bytes().fold(17i64, |sum, byte| (sum * 31 + i64::from(byte)) % 2_147_483_647);
    folded.max(1)
}
