//! One's conversations, wherever they were held: listed, searched, exported, deleted.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use salon::audit::{self, Action, Deed};
use salon::logins::Visit;
use salon_core::{Channel, Dialog, DialogId, Time, Turn};
use salon_store::{Shelved, Tx, Words};
use serde::Deserialize;
use serde_json::json;

use super::door::Nothing;
use super::shell::{Place, Shell, page as shown};
use super::visitor::{Filled, Visitor};
use super::{broken, missing, see};
use crate::Web;

const PAGE: i64 = 30;
const TITLE: usize = 90;
/// Turns of an export; more than anybody reads.
const EXPORTED: i64 = 10_000;

#[derive(Template)]
#[template(path = "site/dialogs.html")]
struct DialogsPage {
    shell: Shell,
    words: String,
    dialogs: Vec<Listed>,
    next: Option<String>,
}

/// A dialog in the list.
pub(crate) struct Listed {
    pub id: String,
    pub title: String,
    pub place: String,
    pub engine: String,
    pub turns: i64,
    pub at: Time,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    q: String,
    before: Option<String>,
    done: Option<String>,
}

pub(crate) fn shell_of(web: &Web, visit: &Visit, headers: &HeaderMap) -> Shell {
    Shell::visiting(web, visit, headers, Place::Dialogs)
}

pub(crate) async fn page(
    State(web): State<Web>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    Visitor(visit): Visitor,
) -> Response {
    let shell = shell_of(&web, &visit, &headers).noticing(asked.done.as_deref());
    let before = asked.before.as_deref().and_then(|mark| {
        let (at, id) = mark.split_once('.')?;
        Some((Time(at.parse().ok()?), id))
    });
    let words = Words::new(&asked.q);
    let before = before.unwrap_or((Time(i64::MAX), ""));
    let found = web.salon.look_through(&visit.caller, words.as_ref(), before, PAGE).await;
    let found = match found {
        Ok(found) => found,
        Err(error) => return broken(&shell, &error),
    };
    let last = found.last().filter(|_| found.len() as i64 == PAGE);
    let next = last.map(|last| format!("{}.{}", last.dialog.updated_at.0, last.dialog.id));
    let dialogs = found.iter().map(|shelved| listed(&shell, shelved)).collect();
    shown(&DialogsPage { words: asked.q.trim().to_owned(), dialogs, next, shell })
}

pub(crate) fn listed(shell: &Shell, shelved: &Shelved) -> Listed {
    let dialog = &shelved.dialog;
    Listed {
        id: dialog.id.to_string(),
        title: shelved.title.as_deref().map_or_else(|| shell.t("dialogs.untitled"), short),
        place: place(shell, dialog),
        engine: dialog.engine.clone(),
        turns: dialog.turns,
        at: dialog.updated_at,
    }
}

/// Where a dialog is held.
pub(crate) fn place(shell: &Shell, dialog: &Dialog) -> String {
    match &dialog.channel {
        Channel::Telegram { bot, .. } => format!("Telegram · {bot}"),
        Channel::Api => shell.t("dialogs.here"),
    }
}

/// The beginning of a text, as one line.
pub(crate) fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(TITLE).collect();
    if short.len() < line.len() { format!("{}…", short.trim_end()) } else { short }
}

/// How a dialog is recognised.
pub(crate) async fn title(tx: &mut Tx, shell: &Shell, dialog: &Dialog) -> salon_store::Result<String> {
    let first = tx.list_turns_before(&dialog.id, 2, 1).await?;
    Ok(first.first().map_or_else(|| shell.t("dialogs.untitled"), |turn| short(&turn.question)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Form {
    #[serde(rename = "as")]
    kind: String,
}

/// `GET /dialogs/{dialog}/export?as=md|json`
pub(crate) async fn export(
    State(web): State<Web>,
    Path(dialog): Path<String>,
    Query(form): Query<Form>,
    headers: HeaderMap,
    Visitor(visit): Visitor,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let id = DialogId::new(dialog);
    let found = async {
        let Some(shelved) = web.salon.find_shelved(&visit.caller, &id).await? else { return Ok(None) };
        let mut tx = web.salon.store.read().await?;
        let turns = tx.list_turns_before(&id, i64::MAX, EXPORTED).await?;
        let costs = tx.costs_of_dialog(&id).await?;
        Ok(Some((shelved, turns, costs)))
    };
    let (shelved, turns, costs) = match found.await {
        Ok(Some(found)) => found,
        Ok(None) => return missing(&shell),
        Err(error) => return broken(&shell, &error),
    };
    let deed = Deed::new(Action::Exported, &visit.account.user.org, &id).with(json!({ "turns": turns.len() }));
    if let Err(error) = audit::note_alone(&web.salon.store, web.salon.pen(&visit), deed).await {
        return broken(&shell, &error);
    }
    let cost = |turn: &Turn| costs.iter().find(|(id, _)| *id == turn.id).map_or(0, |(_, micros)| *micros);
    let title = shelved.title.as_deref().map_or_else(|| shell.t("dialogs.untitled"), short);
    let (kind, name, body) = match form.kind.as_str() {
        "json" => {
            let turns = turns.iter().map(|turn| {
                json!({
                    "number": turn.number, "question": turn.question, "asked_at": shell.iso(turn.asked_at),
                    "answer": turn.answer, "answered_at": turn.answered_at.map(|at| shell.iso(at)),
                    "state": turn.state.as_str(), "engine": turn.engine, "model": turn.model,
                    "tokens_in": turn.usage.tokens_in, "tokens_out": turn.usage.tokens_out,
                    "cost_usd": salon_core::Micros(cost(turn)).to_string(), "error": turn.error,
                })
            });
            let body = json!({
                "id": shelved.dialog.id.as_str(), "title": title, "engine": shelved.dialog.engine,
                "created_at": shell.iso(shelved.dialog.created_at), "turns": turns.collect::<Vec<_>>(),
            });
            ("application/json", "json", format!("{body:#}\n"))
        }
        _ => ("text/markdown; charset=utf-8", "md", markdown(&shell, &title, &turns)),
    };
    let name = format!("attachment; filename=\"salon-{}.{name}\"", id.as_str().to_lowercase());
    let mut response = ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response();
    if let Ok(name) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    response
}

fn markdown(shell: &Shell, title: &str, turns: &[Turn]) -> String {
    let mut out = format!("# {title}\n");
    for turn in turns {
        let asked = shell.stamp(turn.asked_at);
        let quoted = turn.question.lines().map(|line| format!("> {line}\n")).collect::<String>();
        out.push_str(&format!("\n## {} · {asked} · {}\n\n{quoted}\n", turn.number, turn.engine));
        match (&turn.answer, &turn.error) {
            (Some(answer), _) => out.push_str(&format!("{}\n", answer.trim_end())),
            (None, Some(error)) => out.push_str(&format!("*{error}*\n")),
            (None, None) => {}
        }
    }
    out
}

pub(crate) async fn delete(
    State(web): State<Web>,
    Path(dialog): Path<String>,
    headers: HeaderMap,
    Filled(Visitor(visit), _): Filled<Visitor, Nothing>,
) -> Response {
    match web.salon.delete_session(&visit.caller, &DialogId::new(dialog)).await {
        Ok(true) => see("/dialogs?done=deleted"),
        Ok(false) => missing(&shell_of(&web, &visit, &headers)),
        Err(error) => broken(&shell_of(&web, &visit, &headers), &error),
    }
}
