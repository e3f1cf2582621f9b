//! Notices: short texts that are no answer of an engine, shown once each.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use salon::{Job, Next, Salon, Work};
use salon_core::{ChatId, Lang, TurnId};
use salon_store::Error;
use salon_telegram::text::{markdown, pages, plain};
use serde::{Deserialize, Serialize};

use crate::buttons::{Action, Buttons};
use crate::chart::Chart;
use crate::context::Context;
use crate::courier::{self, Courier, Page};
use crate::fleet::Fleet;
use crate::menus::{self, Rows};

pub const KIND: &str = "notice";

/// Telegram's limit, in UTF-16 units.
pub const MESSAGE_UNITS: usize = 4096;
/// How long a notice waits for the message of the turn it stands behind.
const PLACING_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a notice job carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notice {
    pub chat: i64,
    #[serde(default)]
    pub topic: Option<i64>,
    pub user: i64,
    pub text: String,
    /// The turn whose four buttons stand below.
    #[serde(default)]
    pub buttons: Option<String>,
    /// What a button below would have said later, and the language of that button.
    #[serde(default)]
    pub queue: Option<(String, String)>,
    /// The turn whose message must stand first.
    #[serde(default)]
    pub after: Option<String>,
    /// The message that says this from now on, instead of a new one.
    #[serde(default)]
    pub edits: Option<i64>,
    /// Choices below, a button each.
    #[serde(default)]
    pub rows: Rows,
    /// Whether the text is Markdown.
    #[serde(default)]
    pub markdown: bool,
    /// A picture that is sent behind it.
    #[serde(default)]
    pub chart: Option<Chart>,
}

impl Notice {
    pub fn plain(cx: &Context, text: String) -> Notice {
        Notice {
            chat: cx.chat.0,
            topic: cx.topic,
            user: cx.user,
            text,
            buttons: None,
            queue: None,
            after: None,
            edits: None,
            rows: Rows::new(),
            markdown: false,
            chart: None,
        }
    }

    /// In the place of the message whose button was pressed, if one was.
    pub fn in_place(cx: &Context, text: String) -> Notice {
        Notice { edits: cx.pressed, ..Notice::plain(cx, text) }
    }

    pub fn with_rows(self, rows: Rows) -> Notice {
        Notice { rows, ..self }
    }

    pub fn with_queue(mut self, text: &str, lang: Lang) -> Notice {
        self.queue = Some((text.to_owned(), lang.tag().to_owned()));
        self
    }

    pub fn with_buttons(mut self, turn: &TurnId) -> Notice {
        self.buttons = Some(turn.as_str().to_owned());
        self
    }
}

pub struct ShowNotice {
    pub fleet: Arc<Fleet>,
}

#[async_trait]
impl Job for ShowNotice {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn run(&self, salon: &Arc<Salon>, work: &Work) -> Result<Next, Error> {
        let Some(bot) = work.job.bot.as_ref().and_then(|id| self.fleet.find(id)) else {
            return Ok(crate::absent(salon, work));
        };
        let notice: Notice = serde_json::from_str(&work.job.payload).map_err(anyhow::Error::new)?;
        let chat = ChatId(notice.chat);
        if must_wait(salon, work, &notice).await? {
            return Ok(Next::Snooze(LOOK_AGAIN));
        }
        let owner = work.lease.ticket.job.as_str().to_owned();
        let mut courier = Courier::load(salon, work, &bot, chat, owner).await?;
        courier.topic = notice.topic;
        if let Some(message) = notice.edits {
            courier.adopt(message);
        }
        let mut keyboard = None;
        if !notice.rows.is_empty() {
            let (made, tokens) = menus::keyboard(salon, (bot.id(), courier.chat, notice.user), &notice.rows);
            courier.keep_tokens(tokens).await?;
            keyboard = Some(made);
        }
        if let Some(turn) = &notice.buttons {
            let place = (bot.id(), courier.chat, notice.user);
            let (buttons, tokens) =
                Buttons::make(salon, place, &TurnId::new(turn.as_str()), Lang::Bridge, &Action::ALL);
            courier.keep_tokens(tokens).await?;
            keyboard = buttons.keyboard(&Action::ALL);
        }
        if let Some((text, lang)) = &notice.queue {
            let (place, lang) = ((bot.id(), courier.chat, notice.user), Lang::from_tag(Some(lang)));
            let (buttons, tokens) = Buttons::make_about(salon, place, (None, Some(text)), lang, &[Action::Queue]);
            courier.keep_tokens(tokens).await?;
            keyboard = buttons.keyboard(&[Action::Queue]);
        }
        let text = if notice.markdown { markdown(&notice.text) } else { plain(&notice.text) };
        let mut shown: Vec<_> =
            pages(&text, MESSAGE_UNITS).into_iter().map(|body| Page { body, keyboard: None }).collect();
        if let Some(last) = shown.last_mut() {
            last.keyboard = keyboard;
        }
        let outcome = match (courier.show_final(&shown).await, &notice.chart) {
            (Ok(()), Some(chart)) => courier.send_picture("usage.png", chart.png()).await,
            (outcome, _) => outcome,
        };
        match outcome {
            Ok(()) => courier.finish().await,
            Err(halt) => courier.stop_for(halt).await,
        }
    }

    async fn give_up(&self, salon: &Arc<Salon>, work: &Work, error: &str) -> Result<(), Error> {
        let owner = work.lease.ticket.job.as_str().to_owned();
        // Saying that something could not be said would fail for the same reason.
        courier::give_up(salon, work, owner, None, error).await
    }
}

async fn must_wait(salon: &Salon, work: &Work, notice: &Notice) -> Result<bool, Error> {
    let Some(turn) = &notice.after else { return Ok(false) };
    if salon.clock.now().since(work.job.created_at) > PLACING_PATIENCE {
        return Ok(false);
    }
    Ok(salon.store.read().await?.list_parts(turn).await?.is_empty())
}
