//! Understand: an update becomes a command, a press, or something said.
//!
//! What an update does to the database is one transaction with the end of its job. So a crash at any moment leaves it
//! either undone or done, and never half.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use salon::arrive::chat_of;
use salon::youtube::{self, YouTube};
use salon::{Job, Next, Salon, Work, say};
use salon_core::{ChatId, Dialog, Lang, Refusal, Time, View};
use salon_store::{Error, Result, Tx, fail_point};
use salon_telegram::types::{CallbackQuery, ChatMemberUpdated, Message, Update};

use crate::admission::{Admission, Person, admit};
use crate::buttons;
use crate::commands::{self, Command, link, usage};
use crate::context::{self, Context};
use crate::fleet::{Bot, Fleet};
use crate::later;
use crate::notice::Notice;

/// How often a stranger is told that the bot is not for him.
const REFUSE_EVERY: Duration = Duration::from_secs(60 * 60);
/// What Telegram shows of an answer to a press.
const LONGEST_TOAST: usize = 200;
/// A press that is older than this has been forgotten by Telegram.
const QUERY_LIFE: Duration = Duration::from_secs(150);

/// How long a message waits for the bot's name.
const NAME_PAUSE: Duration = Duration::from_secs(1);
const NAME_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How long a `/stop` or `/status` waits for what was sent before it and is being read at the same moment.
const HURRY_PATIENCE: Duration = Duration::from_secs(2);
const HURRY_PAUSE: Duration = Duration::from_millis(100);

/// What an update asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    /// Nothing to react to; the word says why.
    Ignore(&'static str),
    /// Somebody who may not use the bot.
    Refuse(Admission),
    /// Somebody shows a code that makes them a person here. `text` is what they say by that if there is no such code.
    Code {
        hash: String,
        text: Option<String>,
    },
    /// The same where others read it.
    CodeInGroup,
    /// Whatever it is: the bot is paused, and says this. Empty is what it says by itself.
    Paused(String),
    Amend {
        message: i64,
        text: String,
    },
    Command(Command),
    Say(String),
    Video(String),
    Press(String),
    /// The bot was blocked (`true`) or let in again.
    Park(bool),
    /// A group became a supergroup, which is another chat.
    Move {
        from: i64,
        to: i64,
    },
    StopDraft,
}

/// Reacts to one update.
pub struct React {
    pub fleet: Arc<Fleet>,
    pub youtube: YouTube,
}

#[async_trait]
impl Job for React {
    fn kind(&self) -> &'static str {
        salon::KIND_UPDATE
    }

    async fn run(&self, salon: &Arc<Salon>, work: &Work) -> Result<Next> {
        let Some(bot) = work.job.bot.as_ref().and_then(|id| self.fleet.find(id)) else {
            return Ok(crate::absent(salon, work));
        };
        let update: Update = match serde_json::from_str(&work.job.payload) {
            Ok(update) => update,
            Err(error) => {
                // Where, but not what: the error would quote what was said.
                let column = error.column();
                tracing::warn!(bot.name = %bot.id(), job.id = %work.lease.ticket.job, column, "an update cannot be understood");
                self.give_up(salon, work, "it cannot be understood").await?;
                salon.metrics.count(bot.id().as_str(), "dead_letters");
                return Ok(Next::Ended);
            }
        };
        let age = salon.clock.now().since(work.job.created_at);
        if age < NAME_PATIENCE && must_know_name(&bot, &update) {
            return Ok(Next::Snooze(NAME_PAUSE));
        }
        let person = match sender(&update) {
            Some(telegram) => salon.store.read().await?.find_account_of_telegram(telegram).await?,
            None => None,
        };
        let person = person.map(|(account, linked)| Arc::new(Person { account, linked }));
        let Some((cx, wish)) = understand(salon, &bot, &update, person) else { return Ok(Next::Finish) };
        let wish = match salon.find_pause(bot.id()).await? {
            Some(text) => paused(wish, text),
            None => wish,
        };
        let hurried = matches!(&wish, Wish::Command(command) if matches!(command.name.as_str(), "stop" | "status"));
        if hurried && age < HURRY_PATIENCE && older_waits(salon, work, &cx).await? {
            return Ok(Next::Snooze(HURRY_PAUSE));
        }
        let video = match &wish {
            Wish::Video(query) => Some(self.search(&cx, query).await),
            Wish::Command(command) if matches!(command.name.as_str(), "youtube" | "yt") => match command.words.as_str()
            {
                "" => Some(Found::NoQuery),
                query => Some(self.search(&cx, query).await),
            },
            _ => None,
        };
        let looked = match &wish {
            Wish::Command(command) if matches!(command.name.as_str(), "diff" | "undo") => {
                Some(Notice::plain(&cx, commands::agent::workspace(&cx, &command.name).await?))
            }
            Wish::Command(command) if command.name == "usage" => Some(usage::look(&cx).await?),
            _ => None,
        };
        let must_wait = match &wish {
            Wish::Code { .. } => salon.backoff.allow(&guesser(&cx), None, salon.clock.now()).err(),
            _ => None,
        };
        let query = update.callback_query.as_ref().map(|query| query.id.clone());
        let reaction = Reaction { cx: cx.clone(), wish, video, looked, must_wait, refusal: None };
        let done = match reaction.clone().commit(work).await {
            Err(Error::Refused(refusal)) => {
                // What was wanted is refused and undone; saying so is another transaction.
                Reaction { refusal: Some(refusal), ..reaction }.commit(work).await?
            }
            outcome => outcome?,
        };
        // Not inside the transaction, which may be run twice.
        match done.guessed {
            Some(true) => salon.backoff.note(&guesser(&cx), None, salon.clock.now()),
            Some(false) => salon.backoff.forget(&guesser(&cx)),
            None => {}
        }
        if let (Some(query), Some(answer)) = (query, done.answer) {
            answer_query(&cx, work, &query, &answer).await;
        }
        Ok(Next::Ended)
    }

    /// A dead letter: the chat is told, and goes on.
    async fn give_up(&self, salon: &Arc<Salon>, work: &Work, error: &str) -> Result<()> {
        let bot = work.job.bot.as_ref().and_then(|id| self.fleet.find(id));
        let value: serde_json::Value = serde_json::from_str(&work.job.payload).unwrap_or_default();
        let place = bot.zip(chat_of(&value));
        let cx = place.map(|(bot, chat)| Context {
            salon: salon.clone(),
            bot,
            chat: ChatId(chat),
            topic: None,
            user: 0,
            name: String::new(),
            lang: Lang::from_tag(value.pointer("/message/from/language_code").and_then(|tag| tag.as_str())),
            message: None,
            pressed: None,
            person: None,
        });
        let args = (work.lease.ticket.clone(), work.lease.until(salon), cx, error.to_owned(), salon.clock.now());
        salon
            .store
            .write(args, |tx, (ticket, until, cx, error, now)| {
                Box::pin(async move {
                    let held = tx.hold(ticket, *until).await?;
                    if let Some(cx) = cx {
                        let dialog = tx.find_active_dialog(cx.bot.id(), cx.chat).await?;
                        let words = cx.words(cx.view(dialog.as_ref()));
                        cx.tell(tx, Notice::plain(cx, words.say("dead_letter", &[]))).await?;
                    }
                    tx.bury(held, error, *now).await
                })
            })
            .await
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    NoQuery,
    Video(String),
    Nothing,
    Failed,
}

impl React {
    async fn search(&self, cx: &Context, query: &str) -> Found {
        match self.youtube.first_video(query).await {
            Ok(Some(address)) => Found::Video(address),
            Ok(None) => Found::Nothing,
            Err(error) => {
                tracing::warn!(bot.name = %cx.bot.id(), %error, "the video search failed");
                Found::Failed
            }
        }
    }
}

/// A wish with everything that its transaction needs.
#[derive(Clone)]
struct Reaction {
    cx: Context,
    wish: Wish,
    video: Option<Found>,
    /// What was found in an agent's folder, or in the ledger.
    looked: Option<Notice>,
    /// How long somebody who guessed codes has to wait.
    must_wait: Option<Duration>,
    /// Said instead of what was wished.
    refusal: Option<Refusal>,
}

/// What a reaction leaves to be done behind its transaction.
#[derive(Default)]
struct Done {
    /// What a pressed button should say.
    answer: Option<String>,
    /// The engine that the chat was switched to.
    switched: Option<String>,
    /// Whether a code that was shown was a guess; `None` if none was.
    guessed: Option<bool>,
}

impl Done {
    fn answered(answer: String) -> Done {
        Done { answer: Some(answer), ..Done::default() }
    }
}

impl Reaction {
    /// Writes the reaction and ends the job; answers what is left to be done.
    async fn commit(self, work: &Work) -> Result<Done> {
        let (salon, bot) = (self.cx.salon.clone(), self.cx.bot.clone());
        fail_point!("update.before_commit");
        let args = (work.lease.ticket.clone(), work.lease.until(&salon), self, salon.clock.now());
        let done = salon
            .store
            .write(args, |tx, (ticket, until, reaction, now)| {
                Box::pin(async move {
                    let held = tx.hold(ticket, *until).await?;
                    let done = reaction.act(tx).await?;
                    // What was not for us, and what nobody shall read again.
                    if matches!(
                        reaction.wish,
                        Wish::Ignore(_) | Wish::Refuse(_) | Wish::Paused(_) | Wish::Code { .. } | Wish::CodeInGroup
                    ) {
                        tx.forget_payload(&held).await?;
                    }
                    tx.finish(held, *now).await?;
                    Ok(done)
                })
            })
            .await?;
        fail_point!("update.after_commit");
        // Not inside: a transaction may be run twice, or rolled back.
        if let Some(engine) = &done.switched {
            salon.metrics.count(bot.id().as_str(), &format!("provider_switch_total.{engine}"));
        }
        Ok(done)
    }

    async fn act(&self, tx: &mut Tx) -> Result<Done> {
        let cx = &self.cx;
        let now = cx.salon.clock.now();
        match &self.wish {
            Wish::Ignore(_) | Wish::Refuse(_) | Wish::Park(_) | Wish::Move { .. } => {}
            _ => tx.hear_chat(cx.bot.id(), cx.chat, cx.lang).await?,
        }
        if let Some(refusal) = &self.refusal {
            return refuse(tx, cx, refusal).await.map(|()| Done::default());
        }
        match &self.wish {
            Wish::Ignore(_) => {}
            Wish::Refuse(why) => {
                let dialog = tx.find_active_dialog(cx.bot.id(), cx.chat).await?;
                let words = cx.words(cx.view(dialog.as_ref()));
                if tx.may_refuse(cx.bot.id(), cx.chat, now, now - REFUSE_EVERY).await? {
                    cx.tell(tx, Notice::plain(cx, refusal(cx, words, *why))).await?;
                }
                return Ok(Done::answered(words.say("callback.denied", &[])));
            }
            Wish::Code { .. } if self.must_wait.is_some() => {
                let secs = self.must_wait.map_or(1, |wait| wait.as_millis().div_ceil(1000).max(1));
                let text = cx.lang.say("link.wait", &[("seconds", &secs.to_string())]);
                // Whoever goes on and on is told once a minute.
                let key = format!("guess:{}:{}:{}", cx.bot.id(), cx.user, now.0 / 60_000);
                cx.tell_once(tx, key, Notice::plain(cx, text)).await?;
            }
            Wish::Code { hash, text } => {
                if let Some(told) = link::use_code(tx, cx, hash, text.is_some()).await? {
                    cx.tell(tx, Notice::plain(cx, told.text)).await?;
                    return Ok(Done { guessed: Some(told.guessed), ..Done::default() });
                }
                self.say(tx, text.as_deref().unwrap_or_default()).await?;
                return Ok(Done { guessed: Some(true), ..Done::default() });
            }
            Wish::CodeInGroup => {
                let key = format!("code:{}:{}:{}:{}", cx.bot.id(), cx.chat, cx.user, now.0 / 60_000);
                cx.tell_once(tx, key, Notice::plain(cx, cx.lang.say("link.private", &[]))).await?;
            }
            Wish::Paused(text) => {
                let dialog = tx.find_active_dialog(cx.bot.id(), cx.chat).await?;
                let words = cx.words(cx.view(dialog.as_ref()));
                let text = if text.is_empty() { words.say("paused", &[]) } else { text.clone() };
                if tx.may_refuse(cx.bot.id(), cx.chat, now, now - REFUSE_EVERY).await? {
                    cx.tell(tx, Notice::plain(cx, text.clone())).await?;
                }
                return Ok(Done::answered(text.chars().take(LONGEST_TOAST).collect()));
            }
            Wish::Amend { message, text } => {
                tx.amend_question(cx.bot.id(), cx.chat, *message, text).await?;
            }
            Wish::Park(true) => tx.park_chat(cx.bot.id(), cx.chat, "the bot was blocked or removed", now).await?,
            Wish::Park(false) => tx.hear_chat(cx.bot.id(), cx.chat, cx.lang).await?,
            Wish::Move { from, to } => context::move_chat(tx, cx.bot.id(), ChatId(*from), ChatId(*to)).await?,
            Wish::StopDraft => drop(cx.stop_all(tx).await?),
            Wish::Press(data) => return buttons::press(tx, cx, data).await.map(Done::answered),
            Wish::Video(_) => self.show_video(tx).await?,
            Wish::Command(_) if self.video.is_some() => self.show_video(tx).await?,
            Wish::Command(command) => {
                if let Some(looked) = &self.looked {
                    cx.tell(tx, looked.clone()).await?;
                    return Ok(Done::default());
                }
                let switched = commands::run(tx, cx, command).await?;
                return Ok(Done { switched, ..Done::default() });
            }
            Wish::Say(text) => self.say(tx, text).await?,
        }
        Ok(Done::default())
    }

    async fn say(&self, tx: &mut Tx, text: &str) -> Result<()> {
        let cx = &self.cx;
        let dialog = cx.dialog(tx).await?;
        // Two agents must not work in one folder, and what is meant for later is not what is meant for now.
        if cx.salon.engines.is_agent(&dialog.engine) && tx.count_open(&say::lane(&dialog.id)).await? > 0 {
            if later::tell(tx, cx, &dialog, text).await? {
                return Ok(());
            }
            let words = cx.words(cx.view(Some(&dialog)));
            return cx.tell(tx, Notice::plain(cx, words.say("agent.busy", &[])).with_queue(text, words)).await;
        }
        queue(tx, cx, &dialog, text).await
    }

    async fn show_video(&self, tx: &mut Tx) -> Result<()> {
        let cx = &self.cx;
        let dialog = tx.find_active_dialog(cx.bot.id(), cx.chat).await?;
        let words = cx.words(cx.view(dialog.as_ref()));
        let text = match &self.video {
            Some(Found::Video(address)) => address.clone(),
            Some(Found::NoQuery) => words.say("youtube.usage", &[]),
            Some(Found::Failed) => words.say("youtube.failed", &[]),
            Some(Found::Nothing) | None => words.say("youtube.nothing", &[]),
        };
        cx.tell(tx, Notice::plain(cx, text)).await
    }
}

/// Says something in the chat's dialog and queues what shows it.
pub(crate) async fn queue(tx: &mut Tx, cx: &Context, dialog: &Dialog, text: &str) -> Result<()> {
    let view = cx.view(Some(dialog));
    if !cx.may_ask(&dialog.engine) {
        let holes = [("name", dialog.engine.as_str()), ("choices", &commands::choices(cx))];
        return cx.tell(tx, Notice::plain(cx, cx.words(view).say("mode.not_yours", &holes))).await;
    }
    let utterance =
        cx.salon.utterance(&dialog.id, &dialog.engine, Some(cx.user), text, cx.message).for_bot(cx.bot.id());
    let said = salon::say(tx, &utterance).await?;
    match view {
        View::Events => {
            let holes =
                [("turn", said.turn.as_str()), ("session", dialog.id.as_str()), ("agent", dialog.engine.as_str())];
            let text = cx.words(view).say("queued", &holes);
            cx.tell(tx, Notice::plain(cx, text).with_buttons(&said.turn)).await?;
        }
        View::Answer if said.ahead > 0 => {
            let text = cx.words(view).say("queued_behind", &[("ahead", &said.ahead.to_string())]);
            cx.tell(tx, Notice::plain(cx, text)).await?;
        }
        View::Answer => {}
    }
    cx.show(tx, &said.turn, view).await?;
    cx.show_voices(tx, &said.turn, &dialog.engine).await
}

/// What somebody is told for whom the bot is not, and what can be done about it.
fn refusal(cx: &Context, words: Lang, why: Admission) -> String {
    match why {
        Admission::Blocked => words.say("denied.blocked", &[]),
        Admission::Expired => words.say("denied.expired", &[]),
        // Programs match the bridge's own words.
        _ if words == Lang::Bridge || !cx.bot.config.linked => words.say("denied", &[]),
        _ => words.say("denied.link", &[("at", &cx.salon.settings.place_of(link::CODES))]),
    }
}

/// What guesses of codes are counted by.
fn guesser(cx: &Context) -> String {
    format!("telegram:{}", cx.user)
}

/// Whoever did what the update tells of.
fn sender(update: &Update) -> Option<i64> {
    if let Some(query) = &update.callback_query {
        return Some(query.from.id);
    }
    if let Some(message) = update.message.as_ref().or(update.edited_message.as_ref()) {
        return message.from.as_ref().map(|from| from.id);
    }
    // Drafts exist in private chats only, so the chat is the person.
    update.stopped_message_generation.as_ref().map(|stopped| stopped.chat.id)
}

async fn refuse(tx: &mut Tx, cx: &Context, refusal: &Refusal) -> Result<()> {
    let dialog = tx.find_active_dialog(cx.bot.id(), cx.chat).await?;
    let words = cx.words(cx.view(dialog.as_ref()));
    let limit = say::ROOM.to_string();
    let text = words.find(&format!("refusal.{}", refusal.code()), &[("limit", &limit)]);
    let notice = Notice::plain(cx, text.unwrap_or_else(|| refusal.to_string()));
    // A flood is told once that the queue is full, until the queue has moved on.
    let lane = dialog.map(|dialog| say::lane(&dialog.id)).unwrap_or_default();
    match tx.list_open(&lane).await?.first() {
        Some(head) => cx.tell_once(tx, format!("full:{}", head.ticket.job), notice).await,
        None => cx.tell(tx, notice).await,
    }
}

/// What is left of a wish while the bot is paused: chats still move and close, and nobody else is refused.
fn paused(wish: Wish, text: String) -> Wish {
    match wish {
        Wish::Ignore(_) | Wish::Refuse(_) | Wish::Park(_) | Wish::Move { .. } => wish,
        _ => Wish::Paused(text),
    }
}

/// Best effort: the press was heard whether or not the person sees the words.
async fn answer_query(cx: &Context, work: &Work, query: &str, answer: &str) {
    if cx.salon.clock.now().since(work.job.created_at) > QUERY_LIFE {
        return;
    }
    let answered = cx.bot.client.answer_callback_query(query, Some(answer), false).await;
    let outcome = if answered.is_ok() { "callback_ack_success" } else { "callback_ack_failed" };
    cx.salon.metrics.count(cx.bot.id().as_str(), outcome);
}

/// Whether something that was said before this is still unread: of a batch of updates all are begun at once, and a
/// `/stop` means what stands above it, as `/status` does.
async fn older_waits(salon: &Salon, work: &Work, cx: &Context) -> Result<bool> {
    let lane = format!("chat:{}:{}", cx.bot.id(), cx.chat);
    let oldest = salon.store.read().await?.find_open(&lane, salon::KIND_UPDATE).await?;
    Ok(oldest.is_some_and(|oldest| oldest.created_at <= work.job.created_at))
}

/// Whether the message can only be understood by somebody who knows the bot's name, which Telegram has not told yet.
fn must_know_name(bot: &Bot, update: &Update) -> bool {
    let Some(message) = update.message.as_ref().or(update.edited_message.as_ref()) else { return false };
    let text = message.text.as_deref().or(message.caption.as_deref()).unwrap_or_default();
    let named = text.contains('@') && (!ChatId(message.chat.id).is_private() || text.starts_with('/'));
    named && bot.status().username.is_none()
}

/// What an update asks for, of whom. `None` if it is of a kind that we do not react to.
fn understand(
    salon: &Arc<Salon>,
    bot: &Arc<Bot>,
    update: &Update,
    person: Option<Arc<Person>>,
) -> Option<(Context, Wish)> {
    let asked = Asked { salon, bot, person: person.as_deref(), now: salon.clock.now() };
    let chosen = person.as_ref().and_then(|person| person.lang());
    let context =
        |chat: i64, topic: Option<i64>, from: Option<&salon_telegram::types::User>, message: Option<i64>| Context {
            salon: salon.clone(),
            bot: bot.clone(),
            chat: ChatId(chat),
            topic,
            user: from.map_or(0, |user| user.id),
            name: from.map_or_else(String::new, |user| user.first_name.clone()),
            // What somebody chose counts more than what their app says.
            lang: chosen.unwrap_or_else(|| Lang::from_tag(from.and_then(|user| user.language_code.as_deref()))),
            message,
            pressed: None,
            person: person.clone(),
        };
    if let Some(query) = &update.callback_query {
        let message = query.message.as_ref()?;
        let cx = context(message.chat.id, message.topic(), Some(&query.from), None);
        return Some((Context { pressed: Some(message.message_id), ..cx }, of_press(&asked, query)));
    }
    if let Some(message) = update.message.as_ref().or(update.edited_message.as_ref()) {
        let topic = message.topic();
        let cx = context(message.chat.id, topic, message.from.as_ref(), Some(message.message_id));
        let wish = of_message(&asked, message, update.edited_message.is_some());
        return Some((cx, wish));
    }
    if let Some(change) = &update.my_chat_member {
        let cx = context(change.chat.id, None, change.from.as_ref(), None);
        return Some((cx, of_membership(change)));
    }
    let stopped = update.stopped_message_generation.as_ref()?;
    let cx = context(stopped.chat.id, stopped.message_thread_id, None, None);
    // The update names no sender.
    let welcome = asked.admission(stopped.chat.id) == Admission::Welcome;
    Some((cx, if welcome { Wish::StopDraft } else { Wish::Ignore("not allowed") }))
}

/// What an update is understood by.
struct Asked<'a> {
    salon: &'a Salon,
    bot: &'a Bot,
    /// Who did it, if they are known here.
    person: Option<&'a Person>,
    now: Time,
}

impl Asked<'_> {
    fn admission(&self, telegram: i64) -> Admission {
        admit(&self.bot.config, self.person, telegram, self.now)
    }

    /// Whether the text may be a code, and what is done with it then. People who are here already say many things: of
    /// these only what is written as a code is taken for one whether or not there is such a code.
    fn of_code(&self, text: &str, command: Option<&Command>, private: bool, admission: Admission) -> Option<Wish> {
        let typed = match command {
            Some(command) if command.name == "start" => command.words.as_str(),
            Some(_) => return None,
            None => text,
        };
        let hash = self.salon.code_hash(typed)?;
        let is_said = command.is_none() && admission == Admission::Welcome;
        let linked = self.person.is_some_and(Person::is_linked);
        if !private {
            return (!is_said || is_written_as_code(typed)).then_some(Wish::CodeInGroup);
        }
        let perhaps = is_said && (linked || !is_written_as_code(typed));
        Some(Wish::Code { hash, text: perhaps.then(|| text.to_owned()) })
    }
}

/// One word without small letters: a code as the page shows it.
fn is_written_as_code(text: &str) -> bool {
    !text.contains(char::is_whitespace) && !text.contains(|c: char| c.is_ascii_lowercase())
}

fn of_press(asked: &Asked<'_>, query: &CallbackQuery) -> Wish {
    match asked.admission(query.from.id) {
        Admission::Welcome if !query.from.is_bot => {}
        why => return Wish::Refuse(why),
    }
    Wish::Press(query.data.clone().unwrap_or_default())
}

fn of_membership(change: &ChatMemberUpdated) -> Wish {
    match change.new_chat_member.as_ref().map(|member| member.status.as_str()) {
        Some("kicked" | "left") => Wish::Park(true),
        Some(_) => Wish::Park(false),
        None => Wish::Ignore("nothing changed"),
    }
}

fn of_message(asked: &Asked<'_>, message: &Message, edited: bool) -> Wish {
    let bot = asked.bot;
    // Telegram says it in both chats, and which of them is read first does not matter.
    if let Some(to) = message.migrate_to_chat_id {
        return Wish::Move { from: message.chat.id, to };
    }
    if let Some(from) = message.migrate_from_chat_id {
        return Wish::Move { from, to: message.chat.id };
    }
    let Some(from) = &message.from else { return Wish::Ignore("nobody said it") };
    // Anonymous administrators and channels have no person who could be allowed.
    if from.is_bot || message.sender_chat.is_some() {
        return Wish::Ignore("not a person");
    }
    let text = message.text.as_deref().or(message.caption.as_deref()).unwrap_or_default().trim();
    if text.is_empty() {
        return Wish::Ignore("no text");
    }
    let username = bot.status().username;
    let private = ChatId(message.chat.id).is_private();
    let text = if private {
        text.to_owned()
    } else {
        match addressed(bot, message, text, username.as_deref()) {
            Some(text) => text,
            None => return Wish::Ignore("not addressed"),
        }
    };
    let command = text.starts_with('/').then(|| Command::read(&text, username.as_deref()));
    // Before anything else: what is said to another bot is none of our business, whoever says it.
    if let Some(None) = command {
        return Wish::Ignore("for another bot");
    }
    let command = command.flatten();
    let admission = asked.admission(from.id);
    // Before the list: by a code somebody gets in.
    if matches!(admission, Admission::Welcome | Admission::Stranger)
        && let Some(wish) = asked.of_code(&text, command.as_ref(), private, admission)
    {
        // What is corrected into a code is no question, and is not kept as one.
        return if edited { Wish::Ignore("a code is sent, and not edited") } else { wish };
    }
    if admission != Admission::Welcome {
        return Wish::Refuse(admission);
    }
    if edited {
        return Wish::Amend { message: message.message_id, text };
    }
    if let Some(command) = command {
        return Wish::Command(command);
    }
    match youtube::wish(&text) {
        Some(query) => Wish::Video(query),
        None => Wish::Say(text),
    }
}

/// In a group a bot is meant if it is named, answered, or commanded; the text without its name.
fn addressed(bot: &Bot, message: &Message, text: &str, username: Option<&str>) -> Option<String> {
    if text.starts_with('/') {
        return Some(text.to_owned());
    }
    let answered = message.reply_to_message.as_ref().and_then(|replied| replied.from.as_ref());
    let bot_number = bot.config.token.expose().split(':').next().and_then(|number| number.parse::<i64>().ok());
    if answered.is_some_and(|author| author.is_bot && Some(author.id) == bot_number)
        || answered.is_some_and(|author| author.is_bot && author.username.as_deref() == username && username.is_some())
    {
        return Some(text.to_owned());
    }
    let name = format!("@{}", username?);
    let named = text
        .split_whitespace()
        .any(|word| word.trim_end_matches([',', ':', '!', '?', '.']).eq_ignore_ascii_case(&name));
    if !named {
        return None;
    }
    let kept: Vec<_> = text
        .split(' ')
        .filter(|word| !word.trim_end_matches([',', ':', '!', '?', '.']).eq_ignore_ascii_case(&name))
        .collect();
    Some(kept.join(" ").trim().to_owned()).filter(|text| !text.is_empty())
}
