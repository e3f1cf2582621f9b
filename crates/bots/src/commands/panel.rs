//! `/panel`: who sits at the dialog's panel, the way to it and back, and one question to it.

use salon::panels;
use salon::people::DEFAULT_ORG;
use salon_core::panel::{Gate, Panel};
use salon_core::{Dialog, Lang, OrgId};
use salon_store::{Result, Tx};

use crate::context::Context;
use crate::notice::Notice;

/// The engine that a bot goes back to whose own is a panel.
const BACK: &str = "model";
const ENGINE: &str = "panel";

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
        (Some(_), _) => {
            let own = &cx.bot.config.engine;
            let back = if panels::named(own).is_some() { BACK } else { own };
            super::mode(tx, cx, words, known, back).await
        }
        (None, _) => {
            let engine = engine_of(cx, known);
            let name = panels::named(&engine).unwrap_or(panels::DEFAULT);
            let is_on = known.is_some_and(|dialog| dialog.engine == engine);
            Ok((shown(find(tx, cx, name).await?.as_ref(), name, is_on, words), None))
        }
    }
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
