//! `/dialogs`: the newest dialogs of a person, wherever they were held, and the way into one of them.

use salon_core::{Channel, Dialog, Lang, Time, UserId};
use salon_store::{Keeper, Result, Session, Tx};

use crate::context::Context;

/// Dialogs that are listed.
const LISTED: i64 = 10;
/// Characters of a dialog's first question.
const TITLE: usize = 60;

pub async fn dialogs(tx: &mut Tx, cx: &Context, words: Lang, active: Option<&Dialog>, wanted: &str) -> Result<String> {
    // In a group everybody would read what somebody asked elsewhere.
    if !cx.chat.is_private() {
        return Ok(words.say("dialogs.private", &[]));
    }
    let user = tx.find_user_of_telegram(cx.user).await?.map_or_else(|| UserId::new(""), |user| user.id);
    let keeper = Keeper { user, telegram: Some(cx.user) };
    let sessions = tx.list_sessions(&keeper, (Time(i64::MAX), ""), LISTED).await?;
    if wanted.is_empty() {
        return list(tx, words, active, &sessions).await;
    }
    let chosen = wanted.parse::<usize>().ok().and_then(|number| sessions.get(number.checked_sub(1)?));
    let Some(chosen) = chosen else {
        let number: String = wanted.chars().take(20).collect();
        return Ok(words.say("dialogs.unknown", &[("number", &number)]));
    };
    let now = cx.salon.clock.now();
    if active.is_none_or(|active| active.id != chosen.dialog.id) {
        if let Some(active) = active {
            tx.close_dialog(&active.id, false, now).await?;
        }
        tx.move_dialog(&chosen.dialog.id, cx.bot.id(), cx.chat, now).await?;
    }
    let title = title(tx, words, &chosen.dialog).await?;
    Ok(words.say("dialogs.switched", &[("title", &title)]))
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

/// How a dialog is recognised: by what it began with.
async fn title(tx: &mut Tx, words: Lang, dialog: &Dialog) -> Result<String> {
    let first = tx.list_turns_before(&dialog.id, 2, 1).await?;
    let Some(first) = first.first() else { return Ok(words.say("dialogs.untitled", &[])) };
    let line = first.question.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(TITLE).collect();
    Ok(if short.len() < line.len() { format!("{}…", short.trim_end()) } else { short })
}
