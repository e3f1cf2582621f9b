//! `/panel`: who sits at the dialog's panel, the way to it and back, and one question to it.

use salon::panels;
use salon::people::DEFAULT_ORG;
use salon_core::panel::{Gate, Panel};
use salon_core::{Dialog, Lang, OrgId};
use salon_store::{Result, Tx};

use super::settings;
use crate::context::Context;
use crate::menus::{self, Choice, Rows};
use crate::notice::Notice;

/// The engine that a bot goes back to whose own is a panel.
const BACK: &str = "model";
const ENGINE: &str = "panel";
/// Panels that have a button.
const MOST: usize = 12;
/// Telegram's limit for the words that answer a press.
const TOAST: usize = 200;

/// Whether the words are asked, and do not say what to do.
pub(super) fn is_question(words: &str) -> bool {
    let mut parts = words.split_whitespace();
    match (parts.next(), parts.next(), parts.next()) {
        (None | Some("on" | "off"), None, _) | (Some("on"), Some(_), None) => false,
        (None | Some(_), _, _) => true,
    }
}

/// The panel of this name, as whoever writes sees it.
pub(super) async fn find(tx: &mut Tx, cx: &Context, name: &str) -> Result<Option<Panel>> {
    let user = tx.find_user_of_telegram(cx.user).await?;
    let org = user.as_ref().map_or_else(|| OrgId::new(DEFAULT_ORG), |user| user.org.clone());
    panels::find_within(tx, &cx.salon.engines, &org, user.as_ref().map(|user| &user.id), name).await
}

/// Asks the panel once. The dialog's engine stays.
pub(super) async fn ask(tx: &mut Tx, cx: &Context, words: Lang, question: &str) -> Result<()> {
    let dialog = cx.dialog(tx).await?;
    let engine = engine_of(cx, Some(&dialog));
    let name = panels::named(&engine).unwrap_or(panels::DEFAULT);
    if find(tx, cx, name).await?.is_none() {
        return cx.tell(tx, Notice::plain(cx, words.say("panel.unknown", &[("name", name)]))).await;
    }
    crate::update::queue(tx, cx, &Dialog { engine, thread: None, ..dialog }, question).await
}

/// Shows the panel, or switches to it and back.
pub(super) async fn panel(
    tx: &mut Tx,
    cx: &Context,
    words: Lang,
    known: Option<&Dialog>,
    wanted: &str,
) -> Result<(String, Option<String>)> {
    let mut parts = wanted.split_whitespace();
    match (parts.next(), parts.next()) {
        (Some("on"), Some(name)) => {
            // A name that cannot be one is the name of none.
            let short: String = name.chars().take(64).collect();
            super::mode(tx, cx, words, known, &format!("{ENGINE}:{short}")).await
        }
        (Some("on"), None) => super::mode(tx, cx, words, known, &engine_of(cx, known)).await,
        (Some(_), _) => super::mode(tx, cx, words, known, back(cx)).await,
        (None, _) => {
            let engine = engine_of(cx, known);
            let name = panels::named(&engine).unwrap_or(panels::DEFAULT);
            let is_on = known.is_some_and(|dialog| dialog.engine == engine);
            Ok((shown(find(tx, cx, name).await?.as_ref(), name, is_on, words), None))
        }
    }
}

/// Who sits at the dialog's panel, with a button for each panel that whoever writes can ask, and one for none.
pub(super) async fn menu(tx: &mut Tx, cx: &Context, known: Option<&Dialog>) -> Result<(String, Rows)> {
    let user = tx.find_user_of_telegram(cx.user).await?;
    let org = user.as_ref().map_or_else(|| OrgId::new(DEFAULT_ORG), |user| user.org.clone());
    let found = panels::list_within(tx, &cx.salon.engines, &org, user.as_ref().map(|user| &user.id)).await?;
    let current = super::current(cx, known);
    let on = panels::named(&current);
    let choices = found.iter().take(MOST).map(|found| {
        let name = found.panel.name.as_str();
        Choice::ticked(&settings::shortened(name), on == Some(name), format!("{ENGINE}:{name}"))
    });
    let mut rows: Rows = choices.collect::<Vec<_>>().chunks(2).map(<[_]>::to_vec).collect();
    if on.is_some() {
        let label = cx.lang.say("panel.none", &[("engine", &settings::shortened(back(cx)))]);
        rows.push(vec![Choice::new(label, format!("{ENGINE}:"))]);
    }
    let engine = engine_of(cx, known);
    let name = panels::named(&engine).unwrap_or(panels::DEFAULT);
    let panel = found.iter().map(|found| &found.panel).find(|panel| panel.name == name);
    let text = match panel {
        None if on.is_none() && !found.is_empty() => cx.lang.say("panel.which", &[]),
        panel => shown(panel, name, on == Some(name), cx.lang),
    };
    Ok((text, rows))
}

/// Lets the panel of a button answer from now on, or none, and shows who sits there.
pub async fn choose(tx: &mut Tx, cx: &Context, name: &str) -> Result<String> {
    let known = tx.find_latest_dialog(cx.bot.id(), cx.chat).await?;
    let words = cx.words(cx.view(known.as_ref()));
    let engine = if name.is_empty() { back(cx).to_owned() } else { format!("{ENGINE}:{name}") };
    if super::current(cx, known.as_ref()) != engine {
        let (text, switched) = super::mode(tx, cx, words, known.as_ref(), &engine).await?;
        if switched.is_none() {
            return Ok(text.chars().take(TOAST).collect());
        }
    }
    let known = tx.find_latest_dialog(cx.bot.id(), cx.chat).await?;
    let (text, rows) = menu(tx, cx, known.as_ref()).await?;
    cx.tell(tx, Notice::in_place(cx, text).with_rows(rows)).await?;
    Ok(menus::chosen(cx))
}

/// Whoever answers where no panel does.
fn back(cx: &Context) -> &str {
    let own = &cx.bot.config.engine;
    if panels::named(own).is_some() { BACK } else { own }
}

/// The panel that the dialog has, or the bot, or the usual one.
fn engine_of(cx: &Context, dialog: Option<&Dialog>) -> String {
    let own = [dialog.map(|dialog| dialog.engine.as_str()), Some(cx.bot.config.engine.as_str())];
    let named = own.into_iter().flatten().find(|engine| panels::named(engine).is_some());
    named.unwrap_or(ENGINE).to_owned()
}

fn shown(panel: Option<&Panel>, name: &str, is_on: bool, words: Lang) -> String {
    let Some(panel) = panel else { return words.say("panel.unknown", &[("name", name)]) };
    let gate = match &panel.gate {
        Gate::Rules => words.say("panel.gate.rules", &[]),
        Gate::Always => words.say("panel.gate.always", &[]),
        Gate::Never => words.say("panel.gate.never", &[]),
        Gate::Model(model) => words.say("panel.gate.model", &[("model", model)]),
    };
    let ceiling = format!("${}", panel.ceiling);
    let holes = [("name", name), ("gate", &gate), ("rounds", &panel.rounds.to_string()), ("ceiling", &ceiling)];
    let mut lines = vec![words.say("panel", &holes)];
    let solver = panel.solvers().first().and_then(|at| panel.voices[*at].model.clone());
    for voice in &panel.voices {
        let model = voice.model.as_ref().or(solver.as_ref()).map_or(BACK, String::as_str);
        lines.push(format!("- {} ({}): {model}, {}", voice.name, voice.part.as_str(), voice.cap));
    }
    lines.push(words.say(if is_on { "panel.is_on" } else { "panel.is_off" }, &[]));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_order_is_a_question() {
        for (words, asks) in [
            ("", false),
            ("on", false),
            ("off", false),
            ("on law", false),
            ("on which day is it?", true),
            ("off we go", true),
            ("why?", true),
        ] {
            assert_eq!(is_question(words), asks, "{words}");
        }
    }
}
