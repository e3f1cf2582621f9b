//! Who answers instead, where nobody stands behind whoever was asked: a button for each, which switches the dialog as `/mode`
//! does and asks the same again.

use salon::Salon;
use salon_core::{Dialog, Lang, TurnId};
use salon_store::{Account, Result, Tx};

use crate::buttons::{self, Action};
use crate::commands;
use crate::context::Context;
use crate::fleet::Bot;
use crate::menus::{Choice, Rows};
use crate::notice::Notice;

/// Others that are offered.
const MOST: usize = 4;
/// Telegram's limit for the words that answer a press.
const TOAST: usize = 200;

/// Those who could answer a turn instead, two in a row.
pub fn rows(salon: &Salon, bot: &Bot, account: Option<&Account>, turn: (&TurnId, &str), lang: Lang) -> Rows {
    let (turn, engine) = turn;
    let others = salon.engines.others(engine).into_iter().filter(|other| {
        bot.suits(other) && account.is_none_or(|account| salon.may_be_answered_by(account, &other.name))
    });
    let choices: Vec<Choice> = others
        .take(MOST)
        .map(|other| {
            let label = lang.say("button.instead", &[("engine", &commands::settings::shortened(&other.name))]);
            Choice::new(label, format!("instead:{turn}:{}", other.name))
        })
        .collect();
    choices.chunks(2).map(<[_]>::to_vec).collect()
}

/// Switches to who was chosen, and asks again.
pub async fn choose(tx: &mut Tx, cx: &Context, which: &str) -> Result<String> {
    let Some((turn, engine)) = which.split_once(':') else { return Ok(cx.lang.say("callback.unknown", &[])) };
    let dialog = tx.find_active_dialog(cx.bot.id(), cx.chat).await?;
    let view = cx.view(dialog.as_ref());
    let words = cx.words(view);
    let origin = tx.find_turn(&TurnId::new(turn)).await?;
    // A dialog that was left behind is not gone on with by an old button.
    let here = origin.zip(dialog).filter(|(origin, dialog)| origin.dialog == dialog.id);
    let Some((origin, dialog)) = here else { return Ok(words.say("callback.expired", &[])) };
    if dialog.engine != engine {
        let (text, switched) = commands::mode(tx, cx, words, Some(&dialog), engine).await?;
        if switched.is_none() {
            return Ok(text.chars().take(TOAST).collect());
        }
        cx.tell(tx, Notice::plain(cx, text)).await?;
    }
    let dialog = Dialog { engine: engine.to_owned(), thread: None, ..dialog };
    buttons::begin(tx, cx, &dialog, &origin, Action::Fresh, view).await?;
    Ok(words.say("callback.started", &[]))
}
