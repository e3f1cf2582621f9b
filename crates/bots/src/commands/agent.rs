//! What people say about the agent of their dialog: its model, its folder, its threads, and whether it must ask.

use std::time::Duration;

use salon::agents::{Change, Diff};
use salon::audit::{self, Action, Actor, Deed};
use salon::engines::Answers;
use salon_core::people::Role;
use salon_core::{Chosen, Dialog, Lang, OrgId};
use salon_store::{Result, Thread, Tx};
use serde_json::json;

use crate::context::Context;

/// Threads that are listed.
const LISTED: i64 = 10;
/// What is shown of a difference.
const DIFF_CHARS: usize = 6_000;
const DIFF_FILES: usize = 30;
/// The longest time for which an agent need not ask.
const LONGEST: u64 = 30;

/// `/model`: what the agent thinks with.
pub async fn model(tx: &mut Tx, cx: &Context, words: Lang, known: Option<&Dialog>, wanted: &str) -> Result<String> {
    let dialog = dialog(tx, cx, known).await?;
    let Some(agent) = agent_of(cx, &dialog) else {
        return Ok(words.say("model.not_here", &[("adapter", &dialog.engine)]));
    };
    let usual = agent.as_deref().unwrap_or("default");
    let model = match wanted {
        "" => {
            let model = dialog.chosen.model.as_deref().unwrap_or(usual);
            return Ok(words.say("model", &[("model", model)]));
        }
        "default" => None,
        name if is_model(name) => Some(name.to_owned()),
        _ => return Ok(words.say("model.unknown", &[])),
    };
    let shown = model.clone().unwrap_or_else(|| usual.to_owned());
    let chosen = Chosen { model, ..dialog.chosen };
    tx.choose(&dialog.id, &chosen, false, cx.salon.clock.now()).await?;
    Ok(words.say("model.switched", &[("model", &shown)]))
}

/// `/project`: where the agent works.
pub async fn project(tx: &mut Tx, cx: &Context, words: Lang, known: Option<&Dialog>, wanted: &str) -> Result<String> {
    let dialog = dialog(tx, cx, known).await?;
    if agent_of(cx, &dialog).is_none() {
        return Ok(words.say("agent.only", &[]));
    }
    let listed: Vec<&str> =
        cx.salon.agents.get().map(|agents| agents.projects.keys().map(String::as_str).collect()).unwrap_or_default();
    if listed.is_empty() {
        return Ok(words.say("project.none", &[]));
    }
    let choices = listed.join(", ");
    let project = match wanted {
        "" => {
            let project = dialog.chosen.project.as_deref().unwrap_or("off");
            return Ok(words.say("project", &[("project", project), ("choices", &choices)]));
        }
        "off" => None,
        name if listed.contains(&name) => Some(name.to_owned()),
        name => {
            let name: String = name.chars().take(64).collect();
            return Ok(words.say("project.unknown", &[("name", &name), ("choices", &choices)]));
        }
    };
    if tx.count_open(&salon::say::lane(&dialog.id)).await? > 0 {
        return Ok(words.say("agent.at_work", &[]));
    }
    let shown = project.clone().unwrap_or_else(|| "off".to_owned());
    let chosen = Chosen { project, ..dialog.chosen };
    tx.choose(&dialog.id, &chosen, true, cx.salon.clock.now()).await?;
    Ok(words.say("project.switched", &[("project", &shown)]))
}

/// `/unsafe`: whether the agent must ask. For admins, and never for long.
pub async fn trust(tx: &mut Tx, cx: &Context, words: Lang, known: Option<&Dialog>, wanted: &str) -> Result<String> {
    let dialog = dialog(tx, cx, known).await?;
    if agent_of(cx, &dialog).is_none() {
        return Ok(words.say("agent.only", &[]));
    }
    if !is_admin(tx, cx).await? {
        return Ok(words.say("agent.admin", &[]));
    }
    let now = cx.salon.clock.now();
    let minutes = match wanted {
        "off" => 0,
        text => match text.parse::<u64>() {
            Ok(minutes @ 1..=LONGEST) => minutes,
            _ => return Ok(words.say("unsafe.usage", &[])),
        },
    };
    let trusted_until = (minutes > 0).then(|| now + Duration::from_secs(minutes * 60));
    let chosen = Chosen { trusted_until, ..dialog.chosen };
    tx.choose(&dialog.id, &chosen, false, now).await?;
    let known = tx.find_user_of_telegram(cx.user).await?;
    let actor = known.as_ref().map_or(Actor::Telegram(cx.user), |user| (&user.id).into());
    let detail = json!({ "bot": cx.bot.id().as_str(), "engine": dialog.engine, "minutes": minutes });
    let deed = Deed::new(Action::AgentTrusted, &OrgId::new(org(tx, cx).await?), &dialog.id).with(detail);
    audit::note(tx, &cx.salon.pen(actor), deed).await?;
    tracing::warn!(
        bot.name = %cx.bot.id(), dialog.id = %dialog.id, user = cx.user, minutes,
        "an admin said for how long an agent need not ask"
    );
    Ok(match minutes {
        0 => words.say("unsafe.off", &[]),
        minutes => words.say("unsafe.on", &[("minutes", &minutes.to_string())]),
    })
}

/// `/resume`: the threads of the chat, and the way into one of them.
pub async fn resume(tx: &mut Tx, cx: &Context, words: Lang, known: Option<&Dialog>, wanted: &str) -> Result<String> {
    let dialog = dialog(tx, cx, known).await?;
    if agent_of(cx, &dialog).is_none() {
        return Ok(words.say("agent.only", &[]));
    }
    let adapter = [("adapter", dialog.engine.as_str())];
    let threads = tx.list_threads(cx.bot.id(), cx.chat, &dialog.engine, LISTED).await?;
    if threads.is_empty() {
        return Ok(words.say("resume.none", &adapter));
    }
    if wanted.is_empty() {
        let mut lines = vec![words.say("resume", &adapter)];
        for (at, thread) in threads.iter().enumerate() {
            let here = if dialog.thread.as_ref() == Some(&thread.thread) { " ←" } else { "" };
            lines.push(format!("{}. {}{here}", at + 1, line(&thread.title)));
        }
        if threads.len() > 1 {
            lines.push(words.say("resume.more", &[]));
        }
        return Ok(lines.join("\n"));
    }
    let chosen = wanted.parse::<usize>().ok().and_then(|number| threads.get(number.checked_sub(1)?));
    let Some(Thread { thread, title, .. }) = chosen else {
        let number: String = wanted.chars().take(20).collect();
        return Ok(words.say("resume.unknown", &[("number", &number)]));
    };
    if tx.count_open(&salon::say::lane(&dialog.id)).await? > 0 {
        return Ok(words.say("agent.at_work", &[]));
    }
    tx.set_thread(&dialog.id, Some(thread), cx.salon.clock.now()).await?;
    let mut said = words.say("resume.switched", &[("title", &line(title)), ("thread", thread)]);
    // Paths of the host are for those who run it.
    if is_admin(tx, cx).await?
        && let Some(command) = in_terminal(tx, cx, &dialog, thread).await?
    {
        said = format!("{said}\n\n{}", words.say("resume.terminal", &[("command", &command)]));
    }
    Ok(said)
}

/// `/diff` and `/undo`: what became of the agent's folder. Files are looked at outside of any transaction, before the
/// command is answered; asked again after a crash, `/undo` goes one step further back.
pub async fn workspace(cx: &Context, command: &str) -> Result<String> {
    let mut tx = cx.salon.store.read().await?;
    let dialog = match tx.find_active_dialog(cx.bot.id(), cx.chat).await? {
        Some(dialog) => Some(dialog),
        None => tx.find_latest_dialog(cx.bot.id(), cx.chat).await?,
    };
    let words = cx.words(cx.view(dialog.as_ref()));
    let agents = cx.salon.agents.get().cloned();
    let agent = dialog.filter(|dialog| cx.salon.engines.is_agent(&dialog.engine)).zip(agents);
    let Some((dialog, agents)) = agent else { return Ok(words.say("agent.only", &[])) };
    if tx.count_open(&salon::say::lane(&dialog.id)).await? > 0 && command == "undo" {
        return Ok(words.say("agent.at_work", &[]));
    }
    let org = org(&mut tx, cx).await?;
    drop(tx);
    let undo = command == "undo";
    let looked = tokio::task::spawn_blocking(move || {
        let place = agents.place(&org, &dialog)?;
        if !undo {
            return place.diff().map(Looked::Diff);
        }
        match place.hold()? {
            Some(_hold) => place.undo().map(Looked::Undone),
            None => Ok(Looked::Held),
        }
    });
    Ok(match looked.await.map_err(anyhow::Error::new)? {
        Ok(Looked::Undone(Some(changes))) => words.say("undo.done", &[("count", &changes.len().to_string())]),
        Ok(Looked::Held) => words.say("failure.agent_folder_busy", &[]),
        Ok(Looked::Undone(None)) => words.say("undo.none", &[]),
        Ok(Looked::Diff(diff)) if diff.changes.is_empty() => words.say("diff.none", &[]),
        Ok(Looked::Diff(diff)) => {
            let shown: String = diff.text.chars().take(DIFF_CHARS).collect();
            let more = diff.cut || shown.len() < diff.text.len();
            let names = diff.changes.iter().take(DIFF_FILES).map(|change| format!("{}\n", change.name()));
            format!("{}\n{shown}{}", names.collect::<String>(), if more { "\n…" } else { "" })
        }
        Err(error) => {
            tracing::warn!(bot.name = %cx.bot.id(), %error, "an agent's folder cannot be looked at");
            words.say("workspace.failed", &[])
        }
    })
}

enum Looked {
    Diff(Diff),
    Undone(Option<Vec<Change>>),
    /// Somebody is at work there.
    Held,
}

/// Whose team somebody is of.
async fn org(tx: &mut Tx, cx: &Context) -> Result<String> {
    let user = tx.find_user_of_telegram(cx.user).await?;
    Ok(user.map_or_else(|| salon::people::DEFAULT_ORG.to_owned(), |user| user.org.to_string()))
}

async fn dialog(tx: &mut Tx, cx: &Context, known: Option<&Dialog>) -> Result<Dialog> {
    match known {
        Some(dialog) if dialog.active => Ok(dialog.clone()),
        _ => cx.dialog(tx).await,
    }
}

/// The usual model of the dialog's agent; `None` if it has no agent.
fn agent_of(cx: &Context, dialog: &Dialog) -> Option<Option<String>> {
    match cx.salon.engines.find(&dialog.engine)?.answers {
        Answers::Agent(agent) => Some(agent.model.clone()),
        _ => None,
    }
}

/// The bot's owner, or somebody who is an admin of the team.
async fn is_admin(tx: &mut Tx, cx: &Context) -> Result<bool> {
    if cx.bot.config.owner == Some(cx.user) {
        return Ok(true);
    }
    Ok(tx.find_user_of_telegram(cx.user).await?.is_some_and(|user| user.role >= Role::Admin))
}

/// How the thread is gone on with by hand, on the machine that runs Salon.
async fn in_terminal(tx: &mut Tx, cx: &Context, dialog: &Dialog, thread: &str) -> Result<Option<String>> {
    let Some(agents) = cx.salon.agents.get() else { return Ok(None) };
    let org = org(tx, cx).await?;
    let Ok(place) = agents.place(&org, dialog) else { return Ok(None) };
    let command = match dialog.engine.as_str() {
        "codex" => format!("codex resume {thread}"),
        "claude" => format!("claude --resume {thread}"),
        "gemini" => format!("gemini --resume {thread}"),
        _ => return Ok(None),
    };
    let [work, home] = [&place.work, &place.home].map(|path| quoted(&path.to_string_lossy()));
    Ok(Some(format!("cd {work} && HOME={home} {command}")))
}

/// A path as a shell takes it for one word.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

fn is_model(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '@');
    name.len() <= 100 && !name.starts_with('-') && name.chars().all(plain)
}

fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        assert_eq!(quoted("/srv/site-1/work"), "/srv/site-1/work");
        assert_eq!(quoted("/srv/our site; it's"), r"'/srv/our site; it'\''s'");
    }

    #[test]
    fn a_model_is_a_word_and_no_flag() {
        for (name, is) in [("gpt-5.5", true), ("a/b:c", true), ("--yolo", false), ("a b", false), ("가", false)] {
            assert_eq!(is_model(name), is, "{name}");
        }
    }
}
