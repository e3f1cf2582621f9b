//! The commands. Each runs inside the transaction that ends its update, so its effect, its reply and the end of the
//! update happen together or not at all.

pub mod agent;
pub mod dialogs;
pub mod instead;
pub mod link;
pub mod panel;
pub mod settings;
pub mod usage;

use salon::engines::Answers;
use salon_core::{Chosen, Dialog, Lang, View};
use salon_store::{Result, Tx};

use crate::context::Context;
use crate::menus::Rows;
use crate::notice::Notice;

/// The commands that Telegram's menu and `/help` show, in their order.
pub const NAMES: [&str; 22] = [
    "start",
    "help",
    "new",
    "status",
    "reset",
    "summary",
    "mode",
    "model",
    "project",
    "providers",
    "stop",
    "resume",
    "diff",
    "undo",
    "unsafe",
    "youtube",
    "view",
    "dialogs",
    "settings",
    "usage",
    "unlink",
    "panel",
];

/// Characters of a summary that `/summary` shows, and of the line in `/status`.
const SUMMARY_SHOWN: usize = 3500;
const SUMMARY_PREVIEW: usize = 120;

/// A command as it was written: `/mode@bot echo` is `mode` with the words `echo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub name: String,
    pub words: String,
}

impl Command {
    /// Reads a text that starts with a slash. `None` for a command that is meant for another bot.
    pub fn read(text: &str, username: Option<&str>) -> Option<Command> {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let word = word.strip_prefix('/').unwrap_or(word);
        let (name, addressee) = word.split_once('@').map_or((word, None), |(name, bot)| (name, Some(bot)));
        if let (Some(addressee), Some(username)) = (addressee, username)
            && !addressee.eq_ignore_ascii_case(username)
        {
            return None;
        }
        Some(Command { name: name.to_owned(), words: rest.trim().to_owned() })
    }
}

/// Runs the command and queues its reply; answers the engine that was switched to, if one was. `/youtube` is not here:
/// it asks the network first; nor is what only looks, such as `/usage`.
pub async fn run(tx: &mut Tx, cx: &Context, command: &Command) -> Result<Option<String>> {
    let active = tx.find_active_dialog(cx.bot.id(), cx.chat).await?;
    let known = match &active {
        Some(dialog) => Some(dialog.clone()),
        None => tx.find_latest_dialog(cx.bot.id(), cx.chat).await?,
    };
    let words = cx.words(cx.view(known.as_ref()));
    let mut switched = None;
    let mut rows = Rows::new();
    if command.name == "panel" && panel::is_question(&command.words) {
        panel::ask(tx, cx, words, &command.words).await?;
        return Ok(None);
    }
    let text = match command.name.as_str() {
        "start" => words.say("start", &[("name", &cx.bot.config.name)]),
        "help" => help(words),
        "new" => new(tx, cx, words, active.as_ref(), known.as_ref(), false).await?,
        "reset" => new(tx, cx, words, active.as_ref(), known.as_ref(), true).await?,
        "status" => status(cx, words, known.as_ref()),
        "summary" => summary(words, known.as_ref()),
        "mode" => {
            let (text, engine) = mode(tx, cx, words, known.as_ref(), &command.words).await?;
            switched = engine;
            text
        }
        "panel" => {
            if command.words.is_empty() && cx.view(known.as_ref()) == View::Answer {
                let (text, choices) = panel::menu(tx, cx, known.as_ref()).await?;
                rows = choices;
                text
            } else {
                let (text, engine) = panel::panel(tx, cx, words, known.as_ref(), &command.words).await?;
                switched = engine;
                text
            }
        }
        "providers" => providers(cx, words),
        "stop" => stop(tx, cx, words).await?,
        "view" => view(tx, cx, words, known.as_ref(), &command.words).await?,
        "dialogs" => {
            let text = dialogs::dialogs(tx, cx, words, active.as_ref(), &command.words).await?;
            if command.words.is_empty() && cx.chat.is_private() && cx.view(known.as_ref()) == View::Answer {
                rows = dialogs::rows(tx, cx).await?;
            }
            text
        }
        "settings" => {
            let menu = settings::open(tx, cx).await?;
            return cx.tell(tx, menu).await.map(|()| None);
        }
        "unlink" => return cx.tell(tx, link::ask(cx)).await.map(|()| None),
        "model" => agent::model(tx, cx, words, known.as_ref(), &command.words).await?,
        "project" => agent::project(tx, cx, words, known.as_ref(), &command.words).await?,
        "resume" => agent::resume(tx, cx, words, known.as_ref(), &command.words).await?,
        "unsafe" => agent::trust(tx, cx, words, known.as_ref(), &command.words).await?,
        "echo" if command.words.is_empty() => words.say("echo.empty", &[]),
        "echo" => command.words.clone(),
        unknown => {
            // What a team answers by itself. A name is looked for as people write it, and so it is found in any case.
            if let Some(text) = tx.find_reply(cx.bot.id(), &unknown.to_ascii_lowercase()).await? {
                let reply = Notice { markdown: true, ..Notice::plain(cx, text) };
                return cx.tell(tx, reply).await.map(|()| None);
            }
            let unknown: String = unknown.chars().take(64).collect();
            let said = words.say("unknown_command", &[("command", &format!("/{unknown}"))]);
            format!("{said}\n{}", help(words))
        }
    };
    cx.tell(tx, Notice::plain(cx, text).with_rows(rows)).await?;
    Ok(switched)
}

/// Begins a new conversation, as `/new` does; answers what is said of it.
pub async fn renew(tx: &mut Tx, cx: &Context) -> Result<String> {
    let active = tx.find_active_dialog(cx.bot.id(), cx.chat).await?;
    let known = match &active {
        Some(dialog) => Some(dialog.clone()),
        None => tx.find_latest_dialog(cx.bot.id(), cx.chat).await?,
    };
    let words = cx.words(cx.view(known.as_ref()));
    new(tx, cx, words, active.as_ref(), known.as_ref(), false).await
}

/// Who answers in the chat.
pub fn current(cx: &Context, known: Option<&Dialog>) -> String {
    known.map_or_else(|| cx.first_engine(), |dialog| dialog.engine.clone())
}

pub fn help(words: Lang) -> String {
    let lines = NAMES.iter().map(|name| format!("/{name} — {}", words.say(&format!("menu.{name}"), &[])));
    let lines: Vec<_> = std::iter::once(words.say("help", &[])).chain(lines).collect();
    lines.join("\n")
}

/// `/new` keeps what the old dialog learnt, `/reset` forgets it. A run that is still going ends in the dialog in which
/// it began; it does not bring that one back.
async fn new(
    tx: &mut Tx,
    cx: &Context,
    words: Lang,
    active: Option<&Dialog>,
    known: Option<&Dialog>,
    forget: bool,
) -> Result<String> {
    let now = cx.salon.clock.now();
    if let Some(old) = active {
        tx.close_dialog(&old.id, forget, now).await?;
    }
    let engine = current(cx, known);
    let mut dialog = cx.new_dialog(engine, known.and_then(|dialog| dialog.view));
    if let Some(known) = known {
        dialog.chosen = Chosen { trusted_until: None, ..known.chosen.clone() };
    }
    tx.add_dialog(&dialog).await?;
    let key = if forget { "reset" } else { "new" };
    Ok(words.say(key, &[("session", dialog.id.as_str()), ("adapter", &dialog.engine)]))
}

fn status(cx: &Context, words: Lang, dialog: Option<&Dialog>) -> String {
    let Some(dialog) = dialog else { return words.say("status.none", &[]) };
    let summary = match dialog.summary.as_str() {
        "" => "none".to_owned(),
        summary => summary.replace('\n', " ").chars().take(SUMMARY_PREVIEW).collect(),
    };
    format!(
        "bot={}\nadapter={}\nmodel={}\nsession={}\nthread={}\nsummary={summary}",
        cx.bot.id(),
        dialog.engine,
        dialog.chosen.model.clone().unwrap_or_else(|| model(cx, &dialog.engine)),
        dialog.id,
        dialog.thread.as_deref().unwrap_or("none"),
    )
}

fn summary(words: Lang, dialog: Option<&Dialog>) -> String {
    match dialog.map(|dialog| dialog.summary.as_str()).unwrap_or_default() {
        "" => words.say("summary.none", &[]),
        // The newest stands at the end, so that is the part that is shown, from the beginning of a line.
        summary => {
            let hidden = summary.chars().count().saturating_sub(SUMMARY_SHOWN);
            let shown: String = summary.chars().skip(hidden).collect();
            let shown =
                if hidden == 0 { &shown } else { shown.split_once('\n').map_or(shown.as_str(), |(_, rest)| rest) };
            words.say("summary", &[("summary", shown)])
        }
    }
}

pub async fn mode(
    tx: &mut Tx,
    cx: &Context,
    words: Lang,
    known: Option<&Dialog>,
    wanted: &str,
) -> Result<(String, Option<String>)> {
    let stays = |text: String| Ok((text, None));
    let current = current(cx, known);
    if wanted.is_empty() {
        let model = model(cx, &current);
        let said = words.say("mode", &[("adapter", &current), ("model", &model), ("choices", &choices(cx))]);
        return stays(format!("{said}\n{}", providers(cx, words)));
    }
    let Some(engine) = cx.salon.engines.find(wanted).filter(|engine| engine.selectable) else {
        let wanted: String = wanted.chars().take(64).collect();
        return stays(words.say("mode.unknown", &[("name", &wanted), ("choices", &choices(cx))]));
    };
    if !cx.may_ask(&engine.name) {
        return stays(words.say("mode.not_yours", &[("name", &engine.name), ("choices", &choices(cx))]));
    }
    if !cx.bot.suits(&engine) {
        return stays(words.say("mode.cannot_ask", &[("name", &engine.name), ("choices", &choices(cx))]));
    }
    if let Answers::Panel(name) = &engine.answers
        && panel::find(tx, cx, name).await?.is_none()
    {
        return stays(words.say("panel.unknown", &[("name", name)]));
    }
    if engine.name == current {
        return stays(words.say("mode.unchanged", &[("adapter", &current)]));
    }
    let dialog = cx.dialog(tx).await?;
    if tx.count_open(&salon::say::lane(&dialog.id)).await? > 0 {
        return stays(words.say("mode.busy", &[]));
    }
    tx.switch_engine(&dialog.id, &engine.name, cx.salon.clock.now()).await?;
    let holes = [("old", current.as_str()), ("new", &engine.name), ("session", dialog.id.as_str())];
    Ok((words.say("mode.switched", &holes), Some(engine.name.clone())))
}

fn providers(cx: &Context, words: Lang) -> String {
    let mut lines = vec![words.say("providers", &[])];
    for engine in cx.salon.engines.all().iter().filter(|engine| cx.may_ask(&engine.name)) {
        let installed = if engine.installed { "yes" } else { "no" };
        let why_not = engine.why_not.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let model = engine.model.as_deref().unwrap_or("default");
        let policy = match &engine.answers {
            Answers::Agent(agent) => format!(", policy={}", cx.bot.policy(agent).as_str()),
            _ => String::new(),
        };
        let cannot = if cx.bot.suits(engine) { "" } else { " (not run: it cannot ask)" };
        lines.push(format!("- {}: installed={installed}, model={model}{policy}{cannot}{why_not}", engine.name));
    }
    lines.join("\n")
}

async fn stop(tx: &mut Tx, cx: &Context, words: Lang) -> Result<String> {
    Ok(words.say(if cx.stop_all(tx).await? { "stop" } else { "stop.nothing" }, &[]))
}

async fn view(tx: &mut Tx, cx: &Context, words: Lang, known: Option<&Dialog>, wanted: &str) -> Result<String> {
    let current = cx.view(known);
    match View::parse(wanted) {
        None => Ok(words.say("view", &[("view", current.as_str())])),
        Some(view) => {
            let dialog = cx.dialog(tx).await?;
            tx.set_view(&dialog.id, view).await?;
            Ok(cx.words(view).say("view.switched", &[("view", view.as_str())]))
        }
    }
}

fn model(cx: &Context, engine: &str) -> String {
    cx.salon.engines.find(engine).and_then(|engine| engine.model.clone()).unwrap_or_else(|| "default".to_owned())
}

pub fn choices(cx: &Context) -> String {
    let offered = cx
        .salon
        .engines
        .all()
        .iter()
        .filter(|engine| engine.selectable && cx.bot.suits(engine) && cx.may_ask(&engine.name));
    offered.map(|engine| engine.name.as_str()).collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, String)> {
        Command::read(text, Some("parrot_bot")).map(|command| (command.name, command.words))
    }

    #[test]
    fn commands_may_name_their_bot() {
        assert_eq!(read("/mode@Parrot_Bot  echo "), Some(("mode".into(), "echo".into())));
        assert_eq!(read("/mode@other_bot echo"), None);
        assert_eq!(read("/new"), Some(("new".into(), String::new())));
        assert_eq!(read("/echo a\nb"), Some(("echo".into(), "a\nb".into())));
    }

    #[test]
    fn help_names_every_command() {
        for lang in Lang::PEOPLE {
            for name in NAMES {
                assert!(help(lang).contains(&format!("/{name} ")), "{name} in {lang:?}");
            }
        }
    }
}
