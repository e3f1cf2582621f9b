//! The inline buttons: what they say, the tokens behind them, and what a press means.

use salon_core::{AskId, BotId, ChatId, Dialog, JobId, Lang, Refusal, Reply, Time, Turn, TurnId, View};
use salon_store::{AskState, Error, NewJob, NewToken, Result, Token, Tx};
use salon_telegram::types::{InlineKeyboardButton, InlineKeyboardMarkup};
use serde::{Deserialize, Serialize};

use salon::{Salon, say};

use crate::context::{BUTTON_LIFE, Context};
use crate::menus;
use crate::notice::Notice;

pub const KIND_ACTION: &str = "action";
/// Actions that may wait behind a running turn; the oldest gives way.
const DEFERRED: usize = 10;
const PREFIX: &str = "act:";
/// The one button that older keyboards carried without a token.
const LEGACY_STOP: &str = "stop_run";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Summary,
    Regen,
    Next,
    Stop,
    /// What an agent asks for may be done, once.
    #[serde(rename = "allow_once")]
    AllowOnce,
    /// The same as often as it is asked in this run.
    #[serde(rename = "allow_session")]
    AllowSession,
    Deny,
    /// An agent that was interrupted goes on.
    Continue,
    /// It is asked again, as if nothing had been.
    Fresh,
    /// It is let be.
    Drop,
    /// What was said while an agent worked is said once it has ended.
    Queue,
    /// Another conversation begins.
    New,
    /// The last conversations are shown.
    History,
}

impl Action {
    /// Those that go on from an answer.
    pub const ALL: [Action; 4] = [Action::Summary, Action::Regen, Action::Next, Action::Stop];
    /// Under an answer besides, to leave it. What somebody asked elsewhere is for no group.
    pub const LEAVING: [Action; 2] = [Action::New, Action::History];
    /// Under what an agent asks.
    pub const VERDICTS: [Action; 3] = [Action::AllowOnce, Action::AllowSession, Action::Deny];
    /// Under the run of an agent that was interrupted.
    pub const AFTERMATH: [Action; 3] = [Action::Continue, Action::Fresh, Action::Drop];
    const EVERY: [Action; 13] = [
        Action::Summary,
        Action::Regen,
        Action::Next,
        Action::Stop,
        Action::AllowOnce,
        Action::AllowSession,
        Action::Deny,
        Action::Continue,
        Action::Fresh,
        Action::Drop,
        Action::Queue,
        Action::New,
        Action::History,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Action::Summary => "summary",
            Action::Regen => "regen",
            Action::Next => "next",
            Action::Stop => "stop",
            Action::AllowOnce => "allow_once",
            Action::AllowSession => "allow_session",
            Action::Deny => "deny",
            Action::Continue => "continue",
            Action::Fresh => "fresh",
            Action::Drop => "drop",
            Action::Queue => "queue",
            Action::New => "new",
            Action::History => "history",
        }
    }

    fn parse(text: &str) -> Option<Action> {
        Action::EVERY.into_iter().find(|action| action.as_str() == text)
    }
}

/// A keyboard whose tokens have been made; they must be stored before it is shown.
#[derive(Clone, Debug, Default)]
pub struct Buttons {
    made: Vec<(Action, String)>,
    lang: Lang,
}

impl Buttons {
    /// Makes a token for each of `actions` on `turn`, good for this bot, chat and user.
    pub fn make(
        salon: &Salon,
        place: (&BotId, ChatId, i64),
        turn: &TurnId,
        lang: Lang,
        actions: &[Action],
    ) -> (Buttons, Vec<NewToken>) {
        Buttons::make_about(salon, place, (Some(turn), None), lang, actions)
    }

    /// The same for what is about words, of a turn or of none.
    pub fn make_about(
        salon: &Salon,
        (bot, chat, user): (&BotId, ChatId, i64),
        (turn, text): (Option<&TurnId>, Option<&str>),
        lang: Lang,
        actions: &[Action],
    ) -> (Buttons, Vec<NewToken>) {
        let now = salon.clock.now();
        let made: Vec<_> = actions.iter().map(|action| (*action, random_token())).collect();
        let tokens = made
            .iter()
            .map(|(action, token)| NewToken {
                kind: format!("action:{}", action.as_str()),
                turn: turn.cloned(),
                text: text.map(str::to_owned),
                ..blank_token(salon, (bot, chat, user), token, now)
            })
            .collect();
        (Buttons { made, lang }, tokens)
    }

    /// One keyboard below the other.
    pub fn stacked(
        upper: Option<InlineKeyboardMarkup>,
        lower: Option<InlineKeyboardMarkup>,
    ) -> Option<InlineKeyboardMarkup> {
        let rows: Vec<_> = [upper, lower].into_iter().flatten().flat_map(|keyboard| keyboard.inline_keyboard).collect();
        (!rows.is_empty()).then_some(InlineKeyboardMarkup { inline_keyboard: rows })
    }

    /// The keyboard with those of `actions` that were made, two in a row.
    pub fn keyboard(&self, actions: &[Action]) -> Option<InlineKeyboardMarkup> {
        let buttons: Vec<_> = self
            .made
            .iter()
            .filter(|(action, _)| actions.contains(action))
            .map(|(action, token)| {
                let label = self.lang.say(&format!("button.{}", action.as_str()), &[]);
                InlineKeyboardButton::new(label, data(token))
            })
            .collect();
        if buttons.is_empty() {
            return None;
        }
        Some(InlineKeyboardMarkup { inline_keyboard: buttons.chunks(2).map(<[_]>::to_vec).collect() })
    }
}

/// Reacts to a press; answers the words for the callback query.
pub async fn press(tx: &mut Tx, cx: &Context, data: &str) -> Result<String> {
    let dialog = tx.find_active_dialog(cx.bot.id(), cx.chat).await?;
    let view = cx.view(dialog.as_ref());
    let words = cx.words(view);
    let answer = |key: &str| Ok(words.say(&format!("callback.{key}"), &[]));
    if data == LEGACY_STOP {
        return answer(if cx.stop_all(tx).await? { "stopping" } else { "nothing_to_stop" });
    }
    let Some(token) = data.strip_prefix(PREFIX) else { return answer("unsupported") };
    let hash = cx.salon.keys.token_hash(token);
    let Some(found) = tx.find_token(&hash, cx.bot.id(), cx.chat, cx.user).await? else { return answer("invalid") };
    let now = cx.salon.clock.now();
    if found.used || !tx.use_token(&hash, now).await? {
        return answer("expired");
    }
    if found.kind == menus::KIND {
        return menus::choose(tx, cx, found.text.as_deref().unwrap_or_default()).await;
    }
    let Some(action) = found.kind.strip_prefix("action:").and_then(Action::parse) else { return answer("unknown") };
    match action {
        Action::AllowOnce | Action::AllowSession | Action::Deny => return decide(tx, cx, words, &found, action).await,
        Action::Drop => return answer("dropped"),
        Action::Queue => {
            let (Some(text), Some(dialog)) = (&found.text, dialog) else { return answer("expired") };
            crate::update::queue(tx, cx, &dialog, text).await?;
            return answer("deferred");
        }
        Action::History => return menus::open_history(tx, cx).await,
        _ => {}
    }
    let Some(origin) = (match &found.turn {
        Some(turn) => tx.find_turn(turn).await?,
        None => None,
    }) else {
        return answer("no_prompt");
    };
    if action == Action::Stop {
        let stopped = salon::stop::stop_turn(tx, &origin.dialog, &origin.id, now).await?;
        return answer(if stopped { "stopping" } else { "nothing_to_stop" });
    }
    // A dialog that was left behind is not gone on with by an old button.
    let Some(dialog) = dialog.filter(|dialog| dialog.id == origin.dialog) else { return answer("expired") };
    if action == Action::New {
        return menus::begin_anew(tx, cx).await;
    }
    let lane = say::lane(&dialog.id);
    let open = tx.list_open(&lane).await?;
    if open.is_empty() {
        begin(tx, cx, &dialog, &origin, action, view).await?;
        return answer("started");
    }
    let waiting: Vec<_> = open.iter().filter(|job| job.kind == KIND_ACTION).collect();
    for oldest in waiting.iter().take((waiting.len() + 1).saturating_sub(DEFERRED)) {
        tx.stop_unclaimed(&oldest.ticket.job, now).await?;
    }
    let deferred = Deferred {
        action,
        origin: origin.id.as_str().to_owned(),
        chat: cx.chat.0,
        topic: cx.topic,
        user: cx.user,
        lang: cx.lang.tag().to_owned(),
    };
    defer(tx, cx, lane, &deferred).await?;
    let text = words.say("action.deferred", &[("action", action.as_str())]);
    cx.tell(tx, Notice::plain(cx, text)).await?;
    answer("deferred")
}

/// Answers what an agent asks. Of two who press, the first counts.
async fn decide(tx: &mut Tx, cx: &Context, words: Lang, token: &Token, action: Action) -> Result<String> {
    let answer = |key: &str| Ok(words.say(&format!("callback.{key}"), &[]));
    let Some(ask) = token.text.as_ref().map(|id| AskId::new(id.as_str())) else { return answer("unknown") };
    let Some(ask) = tx.find_ask(&ask).await? else { return answer("no_prompt") };
    let (state, said) = match action {
        Action::AllowOnce => (AskState::Once, "allowed"),
        Action::AllowSession => (AskState::Session, "allowed"),
        _ => (AskState::Deny, "refused"),
    };
    let by = format!("telegram:{}", cx.user);
    let counted = tx.answer_ask(&ask, state, Some(&by), cx.salon.clock.now()).await?;
    answer(if counted { said } else { "too_late" })
}

/// An action that waits for the turns before it, as a job in the dialog's lane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deferred {
    pub action: Action,
    pub origin: String,
    pub chat: i64,
    pub topic: Option<i64>,
    pub user: i64,
    pub lang: String,
}

/// Queues an action at the end of its dialog's lane.
pub async fn defer(tx: &mut Tx, cx: &Context, lane: String, deferred: &Deferred) -> Result<()> {
    tx.enqueue(&NewJob {
        id: JobId::new(cx.salon.clock.id()),
        key: None,
        queue: salon::QUEUE_CHAT,
        kind: KIND_ACTION,
        lane,
        bot: Some(cx.bot.id().clone()),
        payload: serde_json::to_string(deferred).map_err(anyhow::Error::new)?,
        now: cx.salon.clock.now(),
        room: None,
    })
    .await?;
    Ok(())
}

/// Says what an action asks for, as a new turn of the dialog.
pub async fn begin(
    tx: &mut Tx,
    cx: &Context,
    dialog: &Dialog,
    origin: &Turn,
    action: Action,
    view: View,
) -> Result<()> {
    let latest = tx.find_latest_answered(&dialog.id).await?;
    let prompt = match action {
        Action::Continue => cx.lang.say("prompt.continue", &[]),
        Action::Fresh => {
            tx.set_thread(&dialog.id, None, cx.salon.clock.now()).await?;
            origin.question.clone()
        }
        action => prompt(tx, cx.lang, dialog, origin, latest.as_ref(), action).await?,
    };
    let utterance = cx.salon.utterance(&dialog.id, &dialog.engine, Some(cx.user), &prompt, None).for_bot(cx.bot.id());
    let said = match salon::say(tx, &utterance).await {
        Err(Error::Refused(Refusal::QueueFull { .. })) => {
            let text = cx.words(view).say("refusal.queue_full", &[("limit", &say::ROOM.to_string())]);
            return cx.tell(tx, Notice::plain(cx, text)).await;
        }
        said => said?,
    };
    if view == View::Events {
        let holes = [("action", action.as_str()), ("turn", said.turn.as_str())];
        let text = cx.words(view).say("action.queued", &holes);
        cx.tell(tx, Notice::plain(cx, text).with_buttons(&said.turn)).await?;
    }
    cx.show(tx, &said.turn, view).await?;
    cx.show_voices(tx, &said.turn, &dialog.engine).await
}

async fn prompt(
    tx: &mut Tx,
    lang: Lang,
    dialog: &Dialog,
    origin: &Turn,
    latest: Option<&Turn>,
    action: Action,
) -> Result<String> {
    let mut answer = origin.answer.clone().unwrap_or_default();
    if answer.is_empty() {
        // The turn may still be writing; what is there is better than nothing.
        let events = tx.list_events(&origin.id, 0, 10_000).await?;
        answer = Reply::fold(&events).text;
    }
    let newest = latest.and_then(|turn| turn.answer.clone()).unwrap_or_else(|| answer.clone());
    let links = links(&newest).join("\n");
    Ok(lang.say(
        &format!("prompt.{}", action.as_str()),
        &[
            ("summary", &dialog.summary),
            ("question", &origin.question),
            ("answer", &answer),
            ("latest", &newest),
            ("links", &links),
        ],
    ))
}

/// Up to six web addresses in a text.
fn links(text: &str) -> Vec<&str> {
    text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '<' | '>' | '"' | '[' | ']'))
        .filter(|word| word.starts_with("https://") || word.starts_with("http://"))
        .take(6)
        .collect()
}

/// A token that is good for a day, at this place, for nothing yet.
pub(crate) fn blank_token(salon: &Salon, (bot, chat, user): (&BotId, ChatId, i64), token: &str, now: Time) -> NewToken {
    NewToken {
        hash: salon.keys.token_hash(token),
        kind: String::new(),
        bot: bot.clone(),
        chat,
        // In a group anybody who may use the bot may press.
        user: chat.is_private().then_some(user),
        turn: None,
        text: None,
        now,
        expires_at: now + BUTTON_LIFE,
    }
}

/// What a button carries.
pub(crate) fn data(token: &str) -> String {
    format!("{PREFIX}{token}")
}

pub(crate) fn random_token() -> String {
    let bytes: [u8; 16] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_wherever_they_stand() {
        let text = "see [this](https://a.test/x) and http://b.test, not ftp://c";
        assert_eq!(links(text), ["https://a.test/x", "http://b.test,"]);
    }

    #[test]
    fn button_data_fits_into_telegrams_64_bytes() {
        let token = random_token();
        assert_eq!(token.len(), 32);
        assert!(format!("{PREFIX}{token}").len() <= 64);
    }
}
