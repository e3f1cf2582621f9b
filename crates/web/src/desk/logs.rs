//! What was asked and answered in the organisation: dialogs, questions, one dialog whole, and a table to take away.

use askama::Template;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use salon::audit::{Action, Deed, note};
use salon::people::{DEFAULT_ORG, mask_of};
use salon_core::limit::Period;
use salon_core::mask::Mask;
use salon_core::{DialogId, OrgId, Time, TurnState, UserId, Window};
use salon_store::{LogFilter, LoggedDialog, LoggedTurn, Words};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::Said;
use super::clerk::Desk;
use crate::Web;
use crate::api::frames::Frames;
use crate::site::dialogs::short;
use crate::site::door::Nothing;
use crate::site::see;
use crate::site::shell::{Shell, page as shown};
use crate::site::visitor::Filled;

const PAGE: i64 = 50;
/// Letters of a question or an answer in the table.
const PREVIEW: usize = 150;
/// Turns of one dialog that are shown.
const WHOLE: i64 = 500;
/// Rows of an export, and how many are read at once.
const EXPORTED: usize = 100_000;
const PIECE: i64 = 500;

#[derive(Template)]
#[template(path = "desk/logs.html")]
struct LogsPage {
    shell: Shell,
    asked: Asked,
    turns: Vec<Row>,
    next: Option<String>,
    engines: Vec<String>,
    person: Option<String>,
    /// The same question to another page.
    query: String,
}

#[derive(Template)]
#[template(path = "desk/dialogs.html")]
struct DialogsPage {
    shell: Shell,
    asked: Asked,
    dialogs: Vec<LoggedDialog>,
    next: Option<String>,
    engines: Vec<String>,
    person: Option<String>,
    query: String,
}

#[derive(Template)]
#[template(path = "desk/dialog.html")]
struct DialogPage {
    shell: Shell,
    dialog: LoggedDialog,
    turns: Vec<LoggedTurn>,
    masked: bool,
}

/// A question in the table.
struct Row {
    turn: LoggedTurn,
    question: String,
    answer: String,
}

/// What is looked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    q: String,
    user: String,
    engine: String,
    state: String,
    before: String,
    done: Option<String>,
    #[serde(alias = "start")]
    from: String,
    #[serde(alias = "end")]
    to: String,
    /// How many rows at most, as one of these systems asked for it.
    limit: String,
}

impl Asked {
    fn is(&self, state: &str) -> bool {
        self.state == state
    }

    fn states(&self) -> [&'static str; 5] {
        ["queued", "running", "done", "failed", "stopped"]
    }

    fn filter(&self, desk: &Desk, limit: i64) -> LogFilter {
        let zone = &desk.caller.zone;
        // From a day on, or up to and with one; what cannot be read is passed over, and turned round rather than refused.
        let (first, last) = match (zone.midnight(&self.from), zone.midnight(&self.to)) {
            (Some(from), Some(to)) => (Some(from.min(to)), Some(from.max(to))),
            open => open,
        };
        let start = first.unwrap_or(Window::EVER.start);
        let end = last.map_or(Window::EVER.end, |last| Period::Day.window(zone, last).end);
        let before = self.before.split_once('.').and_then(|(at, id)| Some((Time(at.parse().ok()?), id.to_owned())));
        let said = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        LogFilter {
            org: desk.org.id.clone(),
            bots_org: OrgId::new(DEFAULT_ORG),
            user: said(&self.user).map(UserId::new),
            dialog: None,
            engine: said(&self.engine),
            state: TurnState::parse(&self.state),
            words: Words::new(&self.q),
            from: start,
            to: end,
            before: before.unwrap_or((Time(i64::MAX), String::new())),
            limit,
        }
    }

    fn page(&self) -> i64 {
        self.limit.parse().unwrap_or(PAGE).clamp(1, 500)
    }

    /// Everything but the place in the list.
    fn query(&self) -> String {
        let pairs = [
            ("q", &self.q),
            ("user", &self.user),
            ("engine", &self.engine),
            ("state", &self.state),
            ("from", &self.from),
            ("to", &self.to),
            ("limit", &self.limit),
        ];
        let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        let coded = pairs.map(|(name, value)| format!("{name}={}", coded(value)));
        coded.collect::<Vec<_>>().join("&")
    }
}

fn coded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// How others' texts may be read here. Every text on these pages and in the export passes by this.
async fn mask(web: &Web, desk: &Desk) -> Result<Mask, Response> {
    mask_of(&web.salon.store, &desk.org.id).await.map_err(|error| desk.broken(&error))
}

fn masked(mask: Mask, mut turn: LoggedTurn) -> LoggedTurn {
    turn.question = mask.for_readers(&turn.question).into_owned();
    turn.answer = turn.answer.map(|answer| mask.for_readers(&answer).into_owned());
    turn
}

fn engines(web: &Web) -> Vec<String> {
    web.salon.engines.all().iter().map(|engine| engine.name.clone()).collect()
}

async fn person(web: &Web, desk: &Desk, user: Option<&UserId>) -> Result<Option<String>, Response> {
    let Some(user) = user else { return Ok(None) };
    let found = async { web.salon.store.read().await?.find_person(&desk.org.id, user, desk.now).await };
    Ok(found.await.map_err(|error| desk.broken(&error))?.map(|person| person.name))
}

pub(crate) async fn page(State(web): State<Web>, Query(asked): Query<Asked>, desk: Desk) -> Said {
    let shell = desk.noticing("logs", asked.done.as_deref());
    let mask = mask(&web, &desk).await?;
    let filter = asked.filter(&desk, asked.page());
    let found = async { web.salon.store.read().await?.list_logged_turns(&filter).await };
    let found = found.await.map_err(|error| desk.broken(&error))?;
    let last = found.last().filter(|_| found.len() as i64 == filter.limit);
    let next = last.map(|last| format!("{}.{}", last.asked_at.0, last.id));
    let row = |turn: LoggedTurn| {
        let turn = masked(mask, turn);
        let preview = |text: &str| shortened(text, PREVIEW);
        Row { question: preview(&turn.question), answer: preview(turn.answer.as_deref().unwrap_or_default()), turn }
    };
    let turns = found.into_iter().map(row).collect();
    let person = person(&web, &desk, filter.user.as_ref()).await?;
    Ok(shown(&LogsPage { shell, turns, next, engines: engines(&web), person, query: asked.query(), asked }))
}

pub(crate) async fn dialogs_page(State(web): State<Web>, Query(asked): Query<Asked>, desk: Desk) -> Said {
    let shell = desk.noticing("logs", asked.done.as_deref());
    let mask = mask(&web, &desk).await?;
    let filter = asked.filter(&desk, asked.page());
    let found = async { web.salon.store.read().await?.list_logged_dialogs(&filter).await };
    let mut dialogs = found.await.map_err(|error| desk.broken(&error))?;
    let last = dialogs.last().filter(|_| dialogs.len() as i64 == filter.limit);
    let next = last.map(|last| format!("{}.{}", last.updated_at.0, last.id));
    for dialog in &mut dialogs {
        dialog.title = dialog.title.as_ref().map(|title| short(&mask.for_readers(title)));
    }
    let person = person(&web, &desk, filter.user.as_ref()).await?;
    Ok(shown(&DialogsPage { shell, dialogs, next, engines: engines(&web), person, query: asked.query(), asked }))
}

/// One of the organisation's dialogs. Others are not there.
async fn find(web: &Web, desk: &Desk, id: &str) -> Result<LoggedDialog, Response> {
    let filter = LogFilter { dialog: Some(DialogId::new(id)), ..Asked::default().filter(desk, 1) };
    let found = async { web.salon.store.read().await?.list_logged_dialogs(&filter).await };
    found.await.map_err(|error| desk.broken(&error))?.pop().ok_or_else(|| desk.missing())
}

pub(crate) async fn dialog_page(
    State(web): State<Web>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
    desk: Desk,
) -> Said {
    let shell = desk.noticing("logs", asked.done.as_deref());
    let mut dialog = find(&web, &desk, &id).await?;
    let mask = mask(&web, &desk).await?;
    dialog.title = dialog.title.map(|title| short(&mask.for_readers(&title)));
    let filter = LogFilter { dialog: Some(dialog.id.clone()), ..Asked::default().filter(&desk, WHOLE) };
    let found = async { web.salon.store.read().await?.list_logged_turns(&filter).await };
    let turns = found.await.map_err(|error| desk.broken(&error))?;
    let turns = turns.into_iter().rev().map(|turn| masked(mask, turn)).collect();
    Ok(shown(&DialogPage { shell, dialog, turns, masked: mask != Mask::Off }))
}

/// Closes a dialog: what is said there next begins another one.
pub(crate) async fn close(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    desk.admin()?;
    let dialog = find(&web, &desk, &id).await?;
    let args = (dialog.id, desk.now);
    let closed =
        web.salon.store.write(args, |tx, (id, now)| Box::pin(async move { tx.close_dialog(id, false, *now).await }));
    closed.await.map_err(|error| desk.broken(&error))?;
    Ok(see(&format!("/admin/dialogs/{id}?done=dialog_closed")))
}

/// `GET /admin/logs/export`: the questions that are looked for, as a table for a spreadsheet.
pub(crate) async fn export(State(web): State<Web>, Query(asked): Query<Asked>, desk: Desk) -> Said {
    let mask = mask(&web, &desk).await?;
    let filter = asked.filter(&desk, PIECE);
    let args = (desk.pen(&web), Deed::new(Action::Exported, &desk.org.id, "questions"));
    let noted = web.salon.store.write(args, |tx, (pen, deed)| Box::pin(note(tx, pen, deed.clone())));
    noted.await.map_err(|error| desk.broken(&error))?;
    let (said, heard) = mpsc::channel::<Bytes>(4);
    tokio::spawn(tell(web, desk.shell("logs"), filter, mask, said));
    let mut response = Body::new(Frames(heard)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    let name = HeaderValue::from_static("attachment; filename=\"salon-questions.csv\"");
    headers.insert(header::CONTENT_DISPOSITION, name);
    Ok(response)
}

const HEAD: &str = "\u{feff}dialog_id,number,user_id,user,asked_at,question,answered_at,answer,state,engine,model,tokens_in,tokens_out\r\n";

/// Writes the table piece by piece, for as long as somebody reads.
async fn tell(web: Web, shell: Shell, mut filter: LogFilter, mask: Mask, said: mpsc::Sender<Bytes>) {
    if said.send(Bytes::from_static(HEAD.as_bytes())).await.is_err() {
        return;
    }
    let mut told = 0;
    while told < EXPORTED {
        let found = async { web.salon.store.read().await?.list_logged_turns(&filter).await };
        let found = match found.await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "an export ended early");
                return;
            }
        };
        let Some(last) = found.last() else { return };
        filter.before = (last.asked_at, last.id.to_string());
        told += found.len();
        let is_last = (found.len() as i64) < filter.limit;
        let piece: String = found.into_iter().map(|turn| line(&shell, &masked(mask, turn))).collect();
        if said.send(piece.into()).await.is_err() || is_last {
            return;
        }
    }
}

fn line(shell: &Shell, turn: &LoggedTurn) -> String {
    let cells = [
        turn.dialog.to_string(),
        turn.number.to_string(),
        turn.user.as_ref().map_or_else(String::new, ToString::to_string),
        turn.name.clone().unwrap_or_default(),
        shell.iso(turn.asked_at),
        turn.question.clone(),
        turn.answered_at.map_or_else(String::new, |at| shell.iso(at)),
        turn.answer.clone().unwrap_or_default(),
        turn.state.clone(),
        turn.engine.clone(),
        turn.model.clone().unwrap_or_default(),
        turn.tokens_in.to_string(),
        turn.tokens_out.to_string(),
    ];
    cells.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",") + "\r\n"
}

/// A cell. What a spreadsheet would take for a formula is made text.
fn quoted(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = cell.replace('"', "\"\"");
    if formula { format!("\"'{cell}\"") } else { format!("\"{cell}\"") }
}

fn shortened(text: &str, letters: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(letters).collect();
    if short.len() < line.len() { format!("{}…", short.trim_end()) } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_cell_is_a_formula() {
        for evil in ["=1+1", "+1", "-1", "@sum(a)", "\tx", "\r=x"] {
            assert!(quoted(evil).starts_with("\"'"), "{evil:?}");
        }
        assert_eq!(quoted("he said \"no\", twice\n"), "\"he said \"\"no\"\", twice\n\"");
        assert_eq!(quoted("1-2"), "\"1-2\"");
    }
}
