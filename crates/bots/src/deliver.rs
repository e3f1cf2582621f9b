//! Deliver: a reply is not sent, it is read. This reader follows a turn and keeps its messages as the log says.
//!
//! The lane `out:<bot>:<chat>` shows one turn after the other, so their messages stand in the order of the questions.
//! Nothing is remembered between two runs of this job but the numbers of the placed messages: what they must say is
//! folded from the log each time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use salon::engines::is_absence;
use salon::{Job, Next, Salon, Work};
use salon_core::failure;
use salon_core::overrun::Overrun;
use salon_core::{ChatId, Event, KeptFile, Lang, Note, Reply, ReplyState, Stamped, TurnId, View};
use salon_store::Error;
use salon_telegram::text::{Formatted, markdown, pages, plain};
use salon_telegram::types::{InlineKeyboardMarkup, SendMessageDraft};
use salon_telegram::{Act, Class};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

mod voices;

use crate::bridge;
use crate::buttons::{Action, Buttons};
use crate::commands::{instead, usage};
use crate::context::Context;
use crate::courier::{self, Courier, Halt, PLACEHOLDER, Page, draft_id};
use crate::fleet::Fleet;
use crate::menus;
use crate::notice::{MESSAGE_UNITS, Notice};

pub const KIND: &str = "deliver";

/// Telegram shows "typing" for five seconds.
const TYPING_EVERY: Duration = Duration::from_secs(4);
/// A draft fades after thirty seconds.
const DRAFT_EVERY: Duration = Duration::from_secs(20);
/// How long a turn may be silent before its placeholder gets a stop button.
const STOP_BUTTON_AFTER: Duration = Duration::from_millis(1200);

/// Characters of what an agent wants to do.
const DETAIL_CHARS: usize = 1500;
/// Characters of what an agent was told while it was at work.
const HEARD_CHARS: usize = 80;
/// The end of a run whose server went away.
const INTERRUPTED: &str = "interrupted";

/// What a deliver job carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delivery {
    pub turn: String,
    pub chat: i64,
    #[serde(default)]
    pub topic: Option<i64>,
    pub user: i64,
    pub lang: String,
    pub view: String,
    #[serde(default)]
    pub reply_to: Option<i64>,
}

pub struct Deliver {
    pub fleet: Arc<Fleet>,
}

#[async_trait]
impl Job for Deliver {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn run(&self, salon: &Arc<Salon>, work: &Work) -> Result<Next, Error> {
        let Some(bot) = work.job.bot.as_ref().and_then(|id| self.fleet.find(id)) else {
            return Ok(crate::absent(salon, work));
        };
        let delivery: Delivery = serde_json::from_str(&work.job.payload).map_err(anyhow::Error::new)?;
        let turn = TurnId::new(delivery.turn.as_str());
        let view = View::parse(&delivery.view).unwrap_or_default();
        let lang = Lang::from_tag(Some(&delivery.lang));
        let chat = ChatId(delivery.chat);
        let mut courier = Courier::load(salon, work, &bot, chat, delivery.turn.clone()).await?;
        courier.topic = delivery.topic;
        courier.reply_to = delivery.reply_to;
        let place = (bot.id(), courier.chat, delivery.user);
        let (buttons, tokens) = match view {
            View::Answer => {
                let leaving = if chat.is_private() { &Action::LEAVING[..] } else { &Action::LEAVING[..1] };
                Buttons::make(salon, place, &turn, lang, &[&Action::ALL[..], leaving].concat())
            }
            // In this view the buttons stand under the line that says the turn was queued.
            View::Events => (Buttons::default(), Vec::new()),
        };
        courier.keep_tokens(tokens).await?;
        let mut drafts = bot.config.drafts && chat.is_private() && view == View::Answer;
        if drafts {
            // A draft has no buttons, and an agent may have to ask.
            let found = salon.store.read().await?.find_turn(&turn).await?;
            drafts = !found.is_some_and(|turn| salon.engines.is_agent(&turn.engine));
        }
        let reader = Reader {
            turn,
            view,
            lang,
            keys_at: salon.settings.place_of("/keys"),
            user: delivery.user,
            buttons,
            more: (String::new(), Buttons::default()),
            others: None,
            drafts,
            events: Vec::new(),
            reply: Reply::default(),
            changed: true,
        };
        match reader.read_out(&mut courier).await {
            Ok(()) => courier.finish().await,
            Err(halt) => courier.stop_for(halt).await,
        }
    }

    async fn give_up(&self, salon: &Arc<Salon>, work: &Work, error: &str) -> Result<(), Error> {
        let delivery: Delivery = serde_json::from_str(&work.job.payload).map_err(anyhow::Error::new)?;
        let bot = work.job.bot.as_ref().and_then(|id| self.fleet.find(id));
        let lang = Lang::from_tag(Some(&delivery.lang));
        let notice = bot.map(|bot| {
            let cx = Context {
                salon: salon.clone(),
                bot,
                chat: ChatId(delivery.chat),
                topic: delivery.topic,
                user: delivery.user,
                lang,
                message: None,
                name: String::new(),
                pressed: None,
                person: None,
            };
            let notice = Notice::plain(&cx, lang.say("undelivered", &[]));
            (cx, notice)
        });
        courier::give_up(salon, work, delivery.turn, notice, error).await
    }
}

struct Reader {
    turn: TurnId,
    view: View,
    lang: Lang,
    user: i64,
    buttons: Buttons,
    /// Buttons for what came up on the way, such as a question of an agent, and what that was.
    more: (String, Buttons),
    /// Buttons for who could answer instead, where nobody stands behind whoever should have.
    others: Option<InlineKeyboardMarkup>,
    /// Where keys are entered, to be put behind the page's name.
    keys_at: String,
    /// Whether the stream is shown as drafts, and a message placed only for the end.
    drafts: bool,
    events: Vec<Stamped>,
    reply: Reply,
    /// Whether the messages may show less than the log tells.
    changed: bool,
}

impl Reader {
    /// Shows the turn until it has ended and its end is shown.
    async fn read_out(mut self, courier: &mut Courier<'_>) -> Result<(), Halt> {
        let salon = courier.salon;
        let mut follow = salon.follow(&self.turn, 0);
        let since = Instant::now();
        let mut typing_at = Instant::now();
        let mut drafted: Option<(Formatted, Instant)> = None;
        // Placed at once, so that the person sees that the question was heard.
        if !self.drafts && courier.placed() == 0 {
            courier.place().await?;
        }
        loop {
            self.prepare(courier).await?;
            if self.reply.is_final() {
                courier.show_final(&self.pages()).await?;
                let untaken = courier.send_files(&self.reply.files, self.view == View::Events).await?;
                return match untaken.is_empty() {
                    true => Ok(()),
                    false => {
                        self.keep_back(untaken);
                        courier.amend_final(&self.pages()).await
                    }
                };
            }
            let mut again_at = typing_at;
            if typing_at <= Instant::now() {
                typing_at = Instant::now() + TYPING_EVERY;
                again_at = typing_at;
                // Best effort: nobody misses an answer for want of three dots.
                if self.reply.text.is_empty() && courier.bot.pacer.wait(courier.chat.0, Act::Other).is_zero() {
                    courier.bot.client.send_chat_action(courier.chat.0, "typing").await.ok();
                }
            }
            if self.drafts {
                again_at = again_at.min(self.draft(courier, &mut drafted).await?);
            } else {
                again_at = again_at.min(self.stream(courier, since).await?);
            }
            tokio::select! {
                more = follow.next() => match more? {
                    Some(events) => {
                        for event in &events {
                            self.reply.push(event);
                        }
                        self.events.extend(events);
                        self.changed = true;
                    }
                    None => return Err(Halt::Retry("the log ended without an end".to_owned())),
                },
                () = tokio::time::sleep_until(again_at) => {}
                () = courier.work.lease.lost.cancelled() => return Err(Halt::Store(Error::Fenced)),
                () = courier.work.lease.closing.cancelled() => return Err(Halt::Wait(Duration::ZERO)),
            }
        }
    }

    /// Takes in that there are files that Telegram will not have, of which the log cannot tell.
    fn keep_back(&mut self, files: Vec<KeptFile>) {
        self.reply.kept_back.add(&files, 0);
        if let Some(last) = self.events.last().cloned() {
            self.events.push(Stamped { event: Event::Note(Note::KeptBack { files, more: 0 }), ..last });
        }
    }

    /// Makes the buttons that what came up needs.
    async fn prepare(&mut self, courier: &mut Courier<'_>) -> Result<(), Halt> {
        let (about, actions) = match (&self.reply.pending, &self.reply.state) {
            (Some(pending), _) => (pending.ask.clone(), Action::VERDICTS),
            (None, ReplyState::Failed { code, .. }) if code == INTERRUPTED => (code.clone(), Action::AFTERMATH),
            (None, ReplyState::Failed { code, .. }) if is_absence(code) => return self.offer_others(courier).await,
            _ => return Ok(()),
        };
        if self.more.0 == about {
            return Ok(());
        }
        let place = (courier.bot.id(), courier.chat, self.user);
        let (buttons, tokens) =
            Buttons::make_about(courier.salon, place, (Some(&self.turn), Some(&about)), self.lang, &actions);
        courier.keep_tokens(tokens).await?;
        self.more = (about, buttons);
        Ok(())
    }

    /// Makes the buttons for who could answer instead.
    async fn offer_others(&mut self, courier: &mut Courier<'_>) -> Result<(), Halt> {
        if self.others.is_some() {
            return Ok(());
        }
        let (salon, bot) = (courier.salon, courier.bot);
        let mut tx = salon.store.read().await?;
        let account = tx.find_account_of_telegram(self.user).await?.map(|(account, _)| account);
        let Some(turn) = tx.find_turn(&self.turn).await? else { return Ok(()) };
        drop(tx);
        let rows = instead::rows(salon, bot, account.as_ref(), (&self.turn, &turn.engine), self.lang);
        let (keyboard, tokens) = menus::keyboard(salon, (bot.id(), courier.chat, self.user), &rows);
        courier.keep_tokens(tokens).await?;
        self.others = Some(keyboard).filter(|keyboard| !keyboard.inline_keyboard.is_empty());
        Ok(())
    }

    /// Brings the messages up to date as far as the pace allows; answers when to try again.
    async fn stream(&mut self, courier: &mut Courier<'_>, since: Instant) -> Result<Instant, Halt> {
        let later = Instant::now() + Duration::from_secs(60);
        // The bare placeholder is as good as a page that only adds a button, for a while.
        let button_at = since + STOP_BUTTON_AFTER;
        if self.events.is_empty() && Instant::now() < button_at {
            return Ok(button_at);
        }
        if !self.changed {
            return Ok(later);
        }
        // Asked before anything is drawn: drawing a long answer for nothing is most of the work.
        let wait = courier.bot.pacer.wait(courier.chat.0, Act::Edit);
        if !wait.is_zero() {
            return Ok(Instant::now() + wait);
        }
        let pages = self.pages();
        let Some(at) = (0..pages.len()).find(|at| !courier.shows(*at, &pages[*at])) else {
            self.changed = false;
            return Ok(later);
        };
        if at >= courier.placed() {
            courier.place().await?;
        }
        courier.edit(at, &pages[at]).await?;
        self.changed = at + 1 < pages.len();
        // A further page waits for a budget of its own.
        Ok(if self.changed { Instant::now() } else { later })
    }

    async fn draft(&self, courier: &Courier<'_>, drafted: &mut Option<(Formatted, Instant)>) -> Result<Instant, Halt> {
        let page = self.pages().pop().map(|page| page.body).unwrap_or_default();
        if let Some((shown, at)) = drafted
            && (*shown == page && at.elapsed() < DRAFT_EVERY)
        {
            return Ok(*at + DRAFT_EVERY);
        }
        let wait = courier.bot.pacer.wait(courier.chat.0, Act::Edit);
        if !wait.is_zero() {
            return Ok(Instant::now() + wait);
        }
        courier.work.lease.check()?;
        let mut draft = SendMessageDraft::new(courier.chat.0, draft_id(&self.turn), page.clone());
        draft.can_stop = true;
        if let Err(error) = courier.bot.client.send_message_draft(&draft).await {
            match error.class() {
                Class::RateLimited(_) | Class::Blocked => return Err(courier.halt("sendMessageDraft", &error)),
                // A draft is ornament; the final message is not.
                _ => tracing::debug!(%error, "a draft was not shown"),
            }
        }
        *drafted = Some((page, Instant::now()));
        Ok(Instant::now() + DRAFT_EVERY)
    }

    /// The messages as they should be now.
    fn pages(&self) -> Vec<Page> {
        let bodies = match self.view {
            View::Answer => pages(&self.answer(), MESSAGE_UNITS),
            View::Events => bridge::pages(&self.events).iter().map(|page| plain(page)).collect(),
        };
        let mut pages: Vec<_> = bodies.into_iter().map(|body| Page { body, keyboard: None }).collect();
        if pages.is_empty() {
            pages.push(Page { body: plain(PLACEHOLDER), keyboard: None });
        }
        let actions: &[Action] = match (&self.reply.state, self.view) {
            (_, View::Events) => &[],
            (ReplyState::Waiting | ReplyState::Running, _) => &[Action::Stop],
            (ReplyState::Done, _) => &[Action::Summary, Action::Regen, Action::Next],
            (ReplyState::Failed { .. } | ReplyState::Stopped, _) => &[Action::Regen],
        };
        if let Some(last) = pages.last_mut() {
            last.keyboard = match (&self.reply.pending, &self.reply.state) {
                (Some(_), _) => {
                    Buttons::stacked(self.more.1.keyboard(&Action::VERDICTS), self.buttons.keyboard(&[Action::Stop]))
                }
                (None, ReplyState::Failed { code, .. }) if code == INTERRUPTED => {
                    self.more.1.keyboard(&Action::AFTERMATH)
                }
                (None, ReplyState::Failed { code, .. }) if is_absence(code) => {
                    Buttons::stacked(self.others.clone(), self.buttons.keyboard(actions))
                }
                (None, ReplyState::Done) => {
                    Buttons::stacked(self.buttons.keyboard(actions), self.buttons.keyboard(&Action::LEAVING))
                }
                _ => self.buttons.keyboard(actions),
            };
        }
        pages
    }

    fn answer(&self) -> Formatted {
        let mut text = self.reply.text.clone();
        let tail = match &self.reply.state {
            ReplyState::Waiting | ReplyState::Running if self.reply.pending.is_some() => {
                self.reply.pending.as_ref().map(|pending| {
                    let title = pending.title_in(self.lang);
                    let asked = self.lang.say("reply.ask", &[("title", &title)]);
                    // The whole of it usually begins with what it is called.
                    let detail = pending.detail_in(self.lang);
                    let detail = detail.strip_prefix(title.as_str()).unwrap_or(&detail);
                    let detail: String = detail.trim().chars().take(DETAIL_CHARS).collect();
                    if detail.is_empty() { asked } else { format!("{asked}\n\n{detail}") }
                })
            }
            ReplyState::Waiting | ReplyState::Running => match &self.reply.busy_with {
                Some(command) => {
                    let command: String = command.chars().take(80).collect();
                    Some(self.lang.say("reply.busy_with", &[("command", &command)]))
                }
                None => voices::at_work(&self.reply, self.lang),
            },
            ReplyState::Done if text.trim().is_empty() => Some(self.lang.say("reply.empty", &[])),
            ReplyState::Done => None,
            ReplyState::Failed { code, message } => {
                Some(format!("⚠️ {}", told(self.lang, code, message, &self.keys_at)))
            }
            ReplyState::Stopped => Some(self.lang.say("reply.stopped", &[])),
        };
        let heard = self.reply.heard.iter().map(|text| {
            let text: String = text.chars().take(HEARD_CHARS).collect();
            self.lang.say("reply.heard", &[("text", &text)])
        });
        let kept_back = self.reply.kept_back.told(self.lang);
        let tails: Vec<String> = heard.chain(tail).chain(kept_back).collect();
        if text.is_empty() && tails.is_empty() {
            return plain(PLACEHOLDER);
        }
        let mut answer = if text.trim().is_empty() {
            text.clear();
            plain("")
        } else {
            markdown(&text)
        };
        for tail in tails {
            if !answer.text.is_empty() {
                answer.text.push_str("\n\n");
            }
            // Our own words are appended after the formatting: a model's unclosed code block cannot swallow them.
            answer.text.push_str(&plain(&tail).text);
        }
        if self.reply.state == ReplyState::Done {
            voices::append(&mut answer, &self.reply, self.lang);
        }
        answer
    }
}

/// What is said of a failure: what happened, and what can be done about it.
fn told(lang: Lang, code: &str, message: &str, keys_at: &str) -> String {
    if let Some(overrun) = Overrun::parse(message) {
        return over_limit(lang, &overrun);
    }
    let said = failure::said(lang, code, message);
    match lang.find(&format!("hint.{code}"), &[("at", keys_at)]) {
        Some(hint) => format!("{said}\n{hint}"),
        None => said,
    }
}

fn over_limit(lang: Lang, overrun: &Overrun) -> String {
    let whose = lang.say(&format!("limit.of.{}", overrun.scope.as_str()), &[]);
    let limit = usage::allowance(lang, overrun.measure, overrun.period, overrun.limit);
    let left = usage::amount(lang, overrun.measure, overrun.remaining);
    let anew = usage::anew(lang, overrun.anew.as_ref().map(|(day, zone)| (day.as_str(), zone.as_str())));
    let holes = [("whose", whose.as_str()), ("limit", &limit), ("left", &left), ("anew", &anew)];
    lang.say("limit.over", &holes)
}

#[cfg(test)]
mod tests {
    use salon_core::{Measure, Period, Policy, Scope};

    use super::*;

    #[test]
    fn a_limit_is_told_with_what_is_left_and_when_it_begins_anew() {
        let overrun = Overrun {
            scope: Scope::User,
            measure: Measure::Tokens,
            period: Period::Day,
            policy: Policy::Block,
            limit: 12_000,
            remaining: 12,
            anew: Some(("2026-02-01".to_owned(), "Asia/Seoul".to_owned())),
        };
        let said = told(Lang::En, "over_limit", &overrun.to_string(), "");
        assert_eq!(
            said,
            "This does not fit into your limit of 12000 tokens a day; 12 tokens are left. It begins anew on 2026-02-01 \
             (Asia/Seoul).\n/usage shows what you used. An administrator can raise the limit; a shorter question, or \
             /new without the earlier conversation, may still fit."
        );
        let money = Overrun { measure: Measure::Micros, limit: 1_500_000, remaining: 0, anew: None, ..overrun };
        assert!(told(Lang::En, "over_limit", &money.to_string(), "").contains("$1.5"), "money is money");
        for lang in [Lang::Ko, Lang::Ru] {
            assert!(!told(lang, "over_limit", &money.to_string(), "").contains("limit of"));
        }
    }

    #[test]
    fn a_failure_is_told_with_what_can_be_done() {
        for lang in Lang::PEOPLE {
            let told = |at: &str| told(lang, "no_provider_key", "The model has no key.", at);
            assert!(told("").contains("/settings") && !told("").contains("{at}"));
            assert!(told(" (https://salon.test/keys)").contains(" (https://salon.test/keys)"));
        }
        assert_eq!(told(Lang::En, "tired", "I am tired.", ""), "I am tired.");
        let words = "The agent failed: error: unexpected argument '--json' found";
        assert_eq!(told(Lang::En, "agent_failed", words, ""), words);
        assert!(told(Lang::Ru, "agent_failed", words, "").starts_with("Агент"));
    }
}
