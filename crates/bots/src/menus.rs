//! Menus: messages whose buttons choose something. A press takes the message to its next state by an edit, so a menu that
//! is gone on with stays one message.
//!
//! What a button chooses stands in its token, such as `style:brief`, and nobody but us ever wrote it. A choice says what
//! shall be and not what shall change, so an old menu does no harm.

use salon_core::{BotId, ChatId, DialogId};
use salon_store::{NewToken, Result, Tx};
use salon_telegram::types::{InlineKeyboardButton, InlineKeyboardMarkup};
use serde::{Deserialize, Serialize};

use salon::Salon;

use crate::buttons::{blank_token, data, random_token};
use crate::commands::{self, dialogs, instead, link, panel, settings};
use crate::context::Context;
use crate::notice::Notice;

/// The kind of a menu's tokens.
pub const KIND: &str = "menu";
/// What stands before the choice that is made already.
pub const TICK: &str = "✅ ";

/// A button, and what it chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    pub label: String,
    pub does: String,
}

pub type Rows = Vec<Vec<Choice>>;

impl Choice {
    pub fn new(label: impl Into<String>, does: impl Into<String>) -> Choice {
        Choice { label: label.into(), does: does.into() }
    }

    /// The same with a tick before it, if it is chosen already.
    pub fn ticked(label: &str, chosen: bool, does: impl Into<String>) -> Choice {
        Choice::new(if chosen { format!("{TICK}{label}") } else { label.to_owned() }, does)
    }
}

/// The keyboard of some rows, with tokens that must be stored before it is shown.
pub fn keyboard(salon: &Salon, place: (&BotId, ChatId, i64), rows: &Rows) -> (InlineKeyboardMarkup, Vec<NewToken>) {
    let now = salon.clock.now();
    let mut tokens = Vec::new();
    let mut button = |choice: &Choice| {
        let token = random_token();
        tokens.push(NewToken {
            kind: KIND.to_owned(),
            text: Some(choice.does.clone()),
            ..blank_token(salon, place, &token, now)
        });
        InlineKeyboardButton::new(choice.label.clone(), data(&token))
    };
    let inline_keyboard = rows.iter().map(|row| row.iter().map(&mut button).collect()).collect();
    (InlineKeyboardMarkup { inline_keyboard }, tokens)
}

/// Does what a button of a menu chooses; answers the words for the press.
pub async fn choose(tx: &mut Tx, cx: &Context, does: &str) -> Result<String> {
    let (what, which) = does.split_once(':').unwrap_or((does, ""));
    match what {
        "lang" => settings::choose_lang(tx, cx, which).await,
        "style" => settings::choose_style(tx, cx, which).await,
        "view" => settings::choose_view(tx, cx, which).await,
        "engine" => settings::choose_engine(tx, cx, which).await,
        "engines" => settings::turn_to(tx, cx, which.parse().unwrap_or(0)).await,
        "settings" => settings::back(tx, cx).await,
        "dialog" => dialogs::switch(tx, cx, &DialogId::new(which)).await,
        "new" => {
            let text = commands::renew(tx, cx).await?;
            let rows = dialogs::rows(tx, cx).await?;
            cx.tell(tx, Notice::in_place(cx, text).with_rows(rows)).await?;
            Ok(chosen(cx))
        }
        "panel" => panel::choose(tx, cx, which).await,
        "instead" => instead::choose(tx, cx, which).await,
        "unlink" => link::unlink(tx, cx).await,
        "keep" => {
            cx.tell(tx, Notice::in_place(cx, cx.lang.say("unlink.kept", &[]))).await?;
            Ok(chosen(cx))
        }
        _ => Ok(cx.lang.say("callback.unknown", &[])),
    }
}

/// What the *History* button shows.
pub async fn open_history(tx: &mut Tx, cx: &Context) -> Result<String> {
    if !cx.chat.is_private() {
        return Ok(cx.lang.say("dialogs.private", &[]));
    }
    let rows = dialogs::rows(tx, cx).await?;
    cx.tell(tx, Notice::plain(cx, cx.lang.say("dialogs", &[])).with_rows(rows)).await?;
    Ok(chosen(cx))
}

/// What the *New conversation* button does.
pub async fn begin_anew(tx: &mut Tx, cx: &Context) -> Result<String> {
    let text = commands::renew(tx, cx).await?;
    cx.tell(tx, Notice::plain(cx, text)).await?;
    Ok(chosen(cx))
}

pub fn chosen(cx: &Context) -> String {
    cx.lang.say("callback.chosen", &[])
}
