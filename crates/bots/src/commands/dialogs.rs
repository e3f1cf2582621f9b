//! `/dialogs` and the *History* button: the newest dialogs of a person, wherever they were held, and the way into one of
//! them.

use salon_core::{Channel, Dialog, DialogId, Lang, Time, UserId};
use salon_store::{Keeper, Result, Session, Tx};

use crate::context::Context;
use crate::menus::{self, Choice, Rows};
use crate::notice::Notice;

/// Dialogs that are listed.
const LISTED: i64 = 10;
/// Characters of a dialog's first question.
const TITLE: usize = 60;
/// The same on a button.
const LABEL: usize = 40;
/// Characters of the last answer that a dialog is gone on with.
const BEGINNING: usize = 300;

pub async fn dialogs(tx: &mut Tx, cx: &Context, words: Lang, active: Option<&Dialog>, wanted: &str) -> Result<String> {
    // In a group everybody would read what somebody asked elsewhere.
    if !cx.chat.is_private() {
        return Ok(words.say("dialogs.private", &[]));
    }
    let keeper = keeper(tx, cx).await?;
    let sessions = tx.list_sessions(&keeper, (Time(i64::MAX), ""), LISTED).await?;
    if wanted.is_empty() {
        return list(tx, words, active, &sessions).await;
    }
    let chosen = wanted.parse::<usize>().ok().and_then(|number| sessions.get(number.checked_sub(1)?));
    let Some(chosen) = chosen else {
        let number: String = wanted.chars().take(20).collect();
        return Ok(words.say("dialogs.unknown", &[("number", &number)]));
    };
    go_on(tx, cx, words, active, &chosen.dialog).await
}

/// Goes on with a dialog here; answers what is said of it.
async fn go_on(tx: &mut Tx, cx: &Context, words: Lang, active: Option<&Dialog>, chosen: &Dialog) -> Result<String> {
    let now = cx.salon.clock.now();
    if active.is_none_or(|active| active.id != chosen.id) {
        if let Some(active) = active {
            tx.close_dialog(&active.id, false, now).await?;
        }
        tx.move_dialog(&chosen.id, cx.bot.id(), cx.chat, now).await?;
    }
    let title = title(tx, words, chosen).await?;
    Ok(words.say("dialogs.switched", &[("title", &title)]))
}

async fn keeper(tx: &mut Tx, cx: &Context) -> Result<Keeper> {
    let user = tx.find_user_of_telegram(cx.user).await?.map_or_else(|| UserId::new(""), |user| user.id);
    Ok(Keeper { user, telegram: Some(cx.user) })
}

/// The newest dialogs as buttons, the one that is gone on with here ticked, and one for a new one.
pub async fn rows(tx: &mut Tx, cx: &Context) -> Result<Rows> {
    let active = tx.find_active_dialog(cx.bot.id(), cx.chat).await?;
    let keeper = keeper(tx, cx).await?;
    let mut rows = Rows::new();
    for session in tx.list_sessions(&keeper, (Time(i64::MAX), ""), LISTED).await? {
        let here = active.as_ref().is_some_and(|active| active.id == session.dialog.id);
        // Where nothing was said there is nothing to go back to.
        if session.dialog.turns > 0 || here {
            let title = shortened(&title(tx, cx.lang, &session.dialog).await?, LABEL);
            rows.push(vec![Choice::ticked(&title, here, format!("dialog:{}", session.dialog.id))]);
        }
    }
    rows.push(vec![Choice::new(cx.lang.say("button.new", &[]), "new")]);
    Ok(rows)
}

/// Goes on with the dialog of a button, in the place of the list, and says how it ended.
pub async fn switch(tx: &mut Tx, cx: &Context, id: &DialogId) -> Result<String> {
    if !cx.chat.is_private() {
        return Ok(cx.lang.say("dialogs.private", &[]));
    }
    let keeper = keeper(tx, cx).await?;
    let Some(session) = tx.find_session(&keeper, id).await? else {
        return Ok(cx.lang.say("callback.no_prompt", &[]));
    };
    let active = tx.find_active_dialog(cx.bot.id(), cx.chat).await?;
    let mut text = go_on(tx, cx, cx.lang, active.as_ref(), &session.dialog).await?;
    let answer = tx.find_latest_answered(id).await?.and_then(|turn| turn.answer).unwrap_or_default();
    let answer = answer.trim();
    if !answer.is_empty() {
        text = format!("{text}\n\n{}", shortened(answer, BEGINNING));
    }
    let rows = rows(tx, cx).await?;
    cx.tell(tx, Notice::in_place(cx, text).with_rows(rows)).await?;
    Ok(menus::chosen(cx))
}

async fn list(tx: &mut Tx, words: Lang, active: Option<&Dialog>, sessions: &[Session]) -> Result<String> {
    if sessions.is_empty() {
        return Ok(words.say("dialogs.none", &[]));
    }
    let mut lines = vec![words.say("dialogs", &[])];
    for (at, session) in sessions.iter().enumerate() {
        let dialog = &session.dialog;
        let place = match &dialog.channel {
            _ if active.is_some_and(|active| active.id == dialog.id) => words.say("dialogs.here", &[]),
            Channel::Telegram { bot, .. } => bot.to_string(),
            Channel::Api => "API".to_owned(),
        };
        let title = title(tx, words, dialog).await?;
        lines.push(format!("{}. {title} — {place}, {}", at + 1, dialog.engine));
    }
    if sessions.len() > 1 {
        lines.push(words.say("dialogs.more", &[]));
    }
    Ok(lines.join("\n"))
}

/// How a dialog is recognised: by what people call it, or else by what it began with.
async fn title(tx: &mut Tx, words: Lang, dialog: &Dialog) -> Result<String> {
    if let Some(title) = tx.find_title(&dialog.id).await?.filter(|title| !title.trim().is_empty()) {
        return Ok(shortened(&title.split_whitespace().collect::<Vec<_>>().join(" "), TITLE));
    }
    let first = tx.list_turns_before(&dialog.id, 2, 1).await?;
    let Some(first) = first.first() else { return Ok(words.say("dialogs.untitled", &[])) };
    let line = first.question.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(shortened(&line, TITLE))
}

fn shortened(text: &str, most: usize) -> String {
    let short: String = text.chars().take(most).collect();
    if short.len() < text.len() { format!("{}…", short.trim_end()) } else { short }
}
