//! A conversation: its turns, and the box below them.
//!
//! What is sent is a turn, and its answer is read from its log as everywhere else: the page renders the fold, and
//! [`stream`] goes on with it live.

mod sent;
pub(crate) mod stream;
pub(crate) mod suggest;
mod turn;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use salon::logins::Visit;
use salon::sessions::{Asked, Question};
use salon_core::style::Style;
use salon_core::{AskId, DialogId, FileId, Reply, TurnId};
use salon_store::{AskState, Shelved};
use serde::Deserialize;

use super::dialogs::{place, shell_of, short};
use super::door::Nothing;
use super::shell::{Shell, page as shown, page_as};
use super::visitor::{Filled, Visitor};
use super::{broken, missing, refuse, see};
use crate::Web;
use sent::{Saying, Sent, composed, fault, question, saying};
use suggest::Next;
use turn::{Shown, aside, brought, failed_with, others, replied, turn_shown};

pub(crate) use sent::LONGEST_FORM;

/// Turns on one page.
const PAGE: i64 = 30;

#[derive(Template)]
#[template(path = "site/chat.html")]
struct ChatPage {
    shell: Shell,
    /// `None` where it is yet to begin.
    id: Option<String>,
    title: String,
    place: String,
    turns: Vec<Shown>,
    /// Where earlier turns are.
    earlier: Option<i64>,
    engine: String,
    style: String,
    engines: Vec<String>,
    /// Names the next question, so that it is asked once however often it is sent.
    request: String,
    draft: String,
    wrong: Option<String>,
    /// HTML: what could be asked next.
    next: String,
    script: &'static str,
    cost: i64,
}

/// What a page has of the form that came before it.
#[derive(Default)]
struct Kept {
    draft: String,
    wrong: Option<String>,
    next: Option<Next>,
}

impl ChatPage {
    fn is_working(&self) -> bool {
        self.turns.iter().any(|turn| turn.is_open)
    }

    fn styles(&self) -> [&'static str; 3] {
        Style::ALL.map(Style::as_str)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Where {
    before: Option<i64>,
    done: Option<String>,
    q: Option<String>,
    engine: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choosing {
    #[serde(rename = "seal")]
    _seal: String,
    engine: String,
    #[serde(default)]
    style: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Naming {
    #[serde(rename = "seal")]
    _seal: String,
    title: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answering {
    #[serde(rename = "seal")]
    _seal: String,
    answer: String,
}

/// Who can answer this person, engines first.
pub(crate) async fn engines(web: &Web, visit: &Visit) -> Vec<String> {
    let own = web.salon.engines.all().iter().filter(|engine| engine.selectable && engine.installed);
    let mut names: Vec<String> = own.map(|engine| engine.name.clone()).collect();
    if let Ok(models) = web.relay.list(&visit.caller).await {
        for model in models {
            if !names.contains(&model.model.name) {
                names.push(model.model.name.clone());
            }
        }
    }
    for found in salon::panels::list(&web.salon, &visit.caller).await.unwrap_or_default() {
        names.push(format!("panel:{}", found.panel.name));
    }
    names.retain(|name| web.salon.may_ask(&visit.caller, name).is_ok());
    names
}

/// Who begins: whom the person chose, else administrators, else the configuration; whoever is not there is passed over.
pub(crate) async fn usual_engine(web: &Web, visit: &Visit, engines: &[String]) -> String {
    let own = visit.account.taste.engine.clone().filter(|engine| engines.contains(engine));
    let chosen = match own {
        Some(own) => Some(own),
        None => usual_of_house(web, visit, engines).await,
    };
    chosen.or_else(|| engines.first().cloned()).unwrap_or_else(|| web.sessions.engine.clone())
}

/// Who begins where the person chose nobody.
pub(crate) async fn usual_of_house(web: &Web, visit: &Visit, engines: &[String]) -> Option<String> {
    // Without an answer of the database there is still the configuration.
    let chosen = web.salon.find_usual_engine(&visit.caller).await.unwrap_or_default();
    let configured = || Some(web.sessions.engine.clone()).filter(|engine| engines.contains(engine));
    chosen.filter(|engine| engines.contains(engine)).or_else(configured)
}

/// `GET /dialogs/new`
pub(crate) async fn new_page(
    State(web): State<Web>,
    Query(place): Query<Where>,
    headers: HeaderMap,
    Visitor(visit): Visitor,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let draft = place.q.unwrap_or_default();
    shown(&empty(&web, &visit, shell, draft, place.engine, None).await)
}

async fn empty(
    web: &Web,
    visit: &Visit,
    shell: Shell,
    draft: String,
    engine: Option<String>,
    wrong: Option<String>,
) -> ChatPage {
    let engines = engines(web, visit).await;
    let usual = usual_engine(web, visit, &engines).await;
    ChatPage {
        id: None,
        title: shell.t("chat.new"),
        place: String::new(),
        turns: Vec::new(),
        earlier: None,
        engine: engine.filter(|engine| engines.contains(engine)).unwrap_or(usual),
        style: visit.account.taste.style.clone().unwrap_or_else(|| Style::default().as_str().to_owned()),
        engines,
        request: web.salon.clock.id(),
        draft,
        wrong,
        next: String::new(),
        script: &super::assets::CHAT.path,
        cost: 0,
        shell,
    }
}

/// `GET /dialogs/{dialog}`
pub(crate) async fn page(
    State(web): State<Web>,
    Path(dialog): Path<String>,
    Query(place): Query<Where>,
    headers: HeaderMap,
    Visitor(visit): Visitor,
) -> Response {
    let shell = shell_of(&web, &visit, &headers).noticing(place.done.as_deref());
    let kept = Kept { draft: place.q.unwrap_or_default(), ..Kept::default() };
    show(&web, &visit, shell, &DialogId::new(dialog), place.before, StatusCode::OK, kept).await
}

async fn show(
    web: &Web,
    visit: &Visit,
    shell: Shell,
    id: &DialogId,
    before: Option<i64>,
    status: StatusCode,
    kept: Kept,
) -> Response {
    let refused = shell.clone();
    let made = async {
        let Some(shelved) = web.salon.find_shelved(&visit.caller, id).await? else { return Ok(None) };
        let page = compose(web, visit, shell, shelved, before, kept).await?;
        Ok(Some(page))
    };
    match made.await {
        Ok(Some(page)) => page_as(status, &page),
        Ok(None) => missing(&refused),
        Err(error) => broken(&refused, &error),
    }
}

async fn compose(
    web: &Web,
    visit: &Visit,
    shell: Shell,
    shelved: Shelved,
    before: Option<i64>,
    Kept { draft, wrong, next }: Kept,
) -> salon_store::Result<ChatPage> {
    let dialog = &shelved.dialog;
    let mut tx = web.salon.store.read().await?;
    let turns = tx.list_turns_before(&dialog.id, before.unwrap_or(i64::MAX), PAGE).await?;
    let costs = tx.costs_of_dialog(&dialog.id).await?;
    let brought = tx.list_brought_to(&dialog.id).await?;
    let mut shown = Vec::new();
    for turn in turns {
        let events = tx.list_events(&turn.id, 0, i64::from(u16::MAX)).await?;
        let reply = Reply::fold(&events);
        let cost = costs.iter().find(|(id, _)| *id == turn.id).map_or(0, |(_, micros)| *micros);
        let with = brought.iter().filter(|(of, ..)| *of == turn.id).map(|(_, id, name)| (id.clone(), name.clone()));
        let others = others(web, visit, &turn, &reply);
        shown.push(Shown { brought: with.collect(), others, ..turn_shown(&shell, turn, &reply, cost) });
    }
    drop(tx);
    let is_working = shown.iter().any(|turn: &Shown| turn.is_open);
    let mut engines = engines(web, visit).await;
    if !engines.contains(&dialog.engine) {
        // It may be gone, and still is what answers here until somebody chooses.
        engines.insert(0, dialog.engine.clone());
    }
    Ok(ChatPage {
        id: Some(dialog.id.to_string()),
        title: shelved.title.as_deref().map_or_else(|| shell.t("dialogs.untitled"), short),
        place: place(&shell, dialog),
        earlier: shown.first().map(|first| first.turn.number).filter(|first| *first > 1),
        turns: shown,
        engine: dialog.engine.clone(),
        style: shelved
            .style
            .or_else(|| visit.account.taste.style.clone())
            .unwrap_or_else(|| Style::default().as_str().to_owned()),
        engines,
        request: web.salon.clock.id(),
        draft,
        wrong,
        next: next.unwrap_or_default().shown(&shell, &web.salon, dialog, is_working),
        script: &super::assets::CHAT.path,
        cost: costs.iter().map(|(_, micros)| micros).sum(),
        shell,
    })
}

/// `POST /dialogs`: a new conversation begins with its first question.
pub(crate) async fn begin(
    State(web): State<Web>,
    headers: HeaderMap,
    Sent { visitor: Visitor(visit), saying, files }: Sent,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let question = match composed(&shell, &saying, files) {
        Ok(question) => question,
        Err(why) if wants_part(&headers) => return crate::error::plain(StatusCode::UNPROCESSABLE_ENTITY, &why),
        Err(why) => {
            let page = empty(&web, &visit, shell, saying.text, Some(saying.engine), Some(why)).await;
            return page_as(StatusCode::UNPROCESSABLE_ENTITY, &page);
        }
    };
    let known = engines(&web, &visit).await;
    let engine = match known.contains(&saying.engine) {
        true => saying.engine.clone(),
        false => usual_engine(&web, &visit, &known).await,
    };
    let opened = async {
        let session = web.salon.open_dialog(&visit.caller, &engine).await?;
        let style = style(&saying.style);
        if style.is_some() {
            web.salon.choose_engine(&visit.caller, &session.dialog.id, &engine, style).await?;
        }
        Ok(session.dialog.id)
    };
    match opened.await {
        Ok(id) => said(&web, &visit, shell, &headers, &id, question).await,
        Err(error) => broken(&shell, &error),
    }
}

fn style(name: &str) -> Option<&'static str> {
    Style::parse(name).filter(|style| *style != Style::default()).map(Style::as_str)
}

/// `POST /dialogs/{dialog}/turns`
pub(crate) async fn say(
    State(web): State<Web>,
    Path(dialog): Path<String>,
    headers: HeaderMap,
    Sent { visitor: Visitor(visit), saying, files }: Sent,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let id = DialogId::new(dialog);
    let question = match composed(&shell, &saying, files) {
        Ok(question) => question,
        Err(why) if wants_part(&headers) => return crate::error::plain(StatusCode::UNPROCESSABLE_ENTITY, &why),
        Err(why) => {
            let kept = Kept { draft: saying.text, wrong: Some(why), next: None };
            return show(&web, &visit, shell, &id, None, StatusCode::UNPROCESSABLE_ENTITY, kept).await;
        }
    };
    said(&web, &visit, shell, &headers, &id, question).await
}

/// Asks, and shows where the answer will be: all of the page, or to a script only the new turn.
async fn said(
    web: &Web,
    visit: &Visit,
    shell: Shell,
    headers: &HeaderMap,
    id: &DialogId,
    question: Question,
) -> Response {
    let draft = question.text.clone();
    let asked = web.salon.ask_in_session(&visit.caller, id, question).await;
    let code = match asked {
        Ok(Asked::Turn(turn) | Asked::Again(turn)) if wants_part(headers) => {
            return part(web, visit, &shell, id, &turn).await;
        }
        Ok(Asked::Turn(turn) | Asked::Again(turn)) => return see(&format!("/dialogs/{id}#t-{turn}")),
        Ok(Asked::Gone) => return missing(&shell),
        Ok(Asked::Mismatch) => "sent_before",
        Ok(Asked::Denied(_)) => "model",
        Ok(Asked::Full(_)) => "queue_full",
        Err(error) => return broken(&shell, &error),
    };
    let status = if code == "queue_full" { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::CONFLICT };
    let why = shell.wrong(code);
    if wants_part(headers) {
        return crate::error::plain(status, &why);
    }
    show(web, visit, shell, id, None, status, Kept { draft, wrong: Some(why), next: None }).await
}

fn wants_part(headers: &HeaderMap) -> bool {
    headers.get("x-salon-part").is_some()
}

async fn part(web: &Web, visit: &Visit, shell: &Shell, id: &DialogId, turn: &TurnId) -> Response {
    match web.salon.find_turn_of(&visit.caller, id, turn).await {
        Ok(Some(turn)) => {
            // It may have failed already, and only its log says how.
            let reply = replied(web, &turn.id).await;
            let (brought, others) = (brought(web, &turn.id).await, others(web, visit, &turn, &reply));
            let shown = Shown { brought, others, ..turn_shown(shell, turn, &reply, 0) };
            let place = HeaderValue::from_str(&format!("/dialogs/{id}"));
            let mut response = Html(shown.render().unwrap_or_default()).into_response();
            if let Ok(place) = place {
                response.headers_mut().insert("x-salon-at", place);
            }
            response
        }
        Ok(None) => missing(shell),
        Err(error) => broken(shell, &error),
    }
}

/// `POST /dialogs/{dialog}/stop`
pub(crate) async fn stop(
    State(web): State<Web>,
    Path(dialog): Path<String>,
    headers: HeaderMap,
    Filled(Visitor(visit), _): Filled<Visitor, Nothing>,
) -> Response {
    let id = DialogId::new(dialog);
    match web.salon.stop_session(&visit.caller, &id).await {
        Ok(Some(_)) if wants_part(&headers) => StatusCode::NO_CONTENT.into_response(),
        Ok(Some(_)) => see(&format!("/dialogs/{id}")),
        Ok(None) => missing(&shell_of(&web, &visit, &headers)),
        Err(error) => broken(&shell_of(&web, &visit, &headers), &error),
    }
}

/// `POST /dialogs/{dialog}/turns/{turn}/again`: asks the same once more.
pub(crate) async fn again(
    State(web): State<Web>,
    Path((dialog, turn)): Path<(String, String)>,
    headers: HeaderMap,
    Filled(Visitor(visit), _): Filled<Visitor, Nothing>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    ask_again(&web, &visit, shell, &headers, &DialogId::new(dialog), &TurnId::new(turn)).await
}

/// `POST /dialogs/{dialog}/turns/{turn}/instead`: lets somebody else answer in the dialog, and asks them the same.
pub(crate) async fn instead(
    State(web): State<Web>,
    Path((dialog, turn)): Path<(String, String)>,
    headers: HeaderMap,
    Filled(Visitor(visit), choosing): Filled<Visitor, Choosing>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let id = DialogId::new(dialog);
    if !engines(&web, &visit).await.contains(&choosing.engine) {
        return refuse(&shell, StatusCode::UNPROCESSABLE_ENTITY, "engine");
    }
    let chosen = async {
        let Some(known) = web.salon.find_shelved(&visit.caller, &id).await? else { return Ok(false) };
        web.salon.choose_engine(&visit.caller, &id, &choosing.engine, known.style.as_deref()).await
    };
    match chosen.await {
        Ok(true) => ask_again(&web, &visit, shell, &headers, &id, &TurnId::new(turn)).await,
        Ok(false) => missing(&shell),
        Err(error) => broken(&shell, &error),
    }
}

/// Asks what a turn asked once more, with the files that came with it.
async fn ask_again(
    web: &Web,
    visit: &Visit,
    shell: Shell,
    headers: &HeaderMap,
    id: &DialogId,
    turn: &TurnId,
) -> Response {
    match web.salon.find_turn_of(&visit.caller, id, turn).await {
        Ok(Some(turn)) => {
            let saying = saying(turn.question, web.salon.clock.id());
            let brought = async { web.salon.store.read().await?.list_brought(&turn.id).await };
            let files = brought.await.unwrap_or_default().into_iter().map(|file| (file.name, file.data.into()));
            match composed(&shell, &saying, files.collect()) {
                Ok(question) => said(web, visit, shell, headers, id, question).await,
                Err(why) => crate::error::plain(StatusCode::UNPROCESSABLE_ENTITY, &why),
            }
        }
        Ok(None) => missing(&shell),
        Err(error) => broken(&shell, &error),
    }
}

/// `POST /dialogs/{dialog}/turns/{turn}/branch`: asks something else in its place, in a dialog that begins like this one.
pub(crate) async fn branch(
    State(web): State<Web>,
    Path((dialog, turn)): Path<(String, String)>,
    headers: HeaderMap,
    Filled(Visitor(visit), saying): Filled<Visitor, Saying>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let id = DialogId::new(dialog);
    if let Some(code) = fault(&saying.text) {
        let kept = Kept { draft: saying.text, wrong: Some(shell.wrong(code)), next: None };
        return show(&web, &visit, shell, &id, None, StatusCode::UNPROCESSABLE_ENTITY, kept).await;
    }
    let new = async {
        let Some(turn) = web.salon.find_turn_of(&visit.caller, &id, &TurnId::new(turn)).await? else { return Ok(None) };
        web.salon.branch_dialog(&visit.caller, &id, turn.number).await
    };
    match new.await {
        Ok(Some(new)) => said(&web, &visit, shell, &HeaderMap::new(), &new, question(&saying)).await,
        Ok(None) => missing(&shell),
        Err(error) => broken(&shell, &error),
    }
}

/// `POST /dialogs/{dialog}/engine`
pub(crate) async fn choose(
    State(web): State<Web>,
    Path(dialog): Path<String>,
    headers: HeaderMap,
    Filled(Visitor(visit), choosing): Filled<Visitor, Choosing>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let id = DialogId::new(dialog);
    if !engines(&web, &visit).await.contains(&choosing.engine) {
        return refuse(&shell, StatusCode::UNPROCESSABLE_ENTITY, "engine");
    }
    match web.salon.choose_engine(&visit.caller, &id, &choosing.engine, style(&choosing.style)).await {
        Ok(true) => see(&format!("/dialogs/{id}?done=saved")),
        Ok(false) => missing(&shell),
        Err(error) => broken(&shell, &error),
    }
}

/// `POST /dialogs/{dialog}/title`
pub(crate) async fn rename(
    State(web): State<Web>,
    Path(dialog): Path<String>,
    headers: HeaderMap,
    Filled(Visitor(visit), naming): Filled<Visitor, Naming>,
) -> Response {
    let id = DialogId::new(dialog);
    match web.salon.rename_dialog(&visit.caller, &id, &naming.title).await {
        Ok(true) => see(&format!("/dialogs/{id}?done=saved")),
        Ok(false) => missing(&shell_of(&web, &visit, &headers)),
        Err(error) => broken(&shell_of(&web, &visit, &headers), &error),
    }
}

/// `POST /dialogs/{dialog}/asks/{ask}`: answers what an agent wants to be allowed.
pub(crate) async fn answer(
    State(web): State<Web>,
    Path((dialog, ask)): Path<(String, String)>,
    headers: HeaderMap,
    Filled(Visitor(visit), answering): Filled<Visitor, Answering>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let id = DialogId::new(dialog);
    let state = match answering.answer.as_str() {
        "once" => AskState::Once,
        "session" => AskState::Session,
        "deny" => AskState::Deny,
        _ => return refuse(&shell, StatusCode::UNPROCESSABLE_ENTITY, "other"),
    };
    match web.salon.answer_in_session(&visit.caller, &id, &AskId::new(ask), state).await {
        Ok(Some(_)) if wants_part(&headers) => StatusCode::NO_CONTENT.into_response(),
        Ok(Some(_)) => see(&format!("/dialogs/{id}")),
        Ok(None) => missing(&shell),
        Err(error) => broken(&shell, &error),
    }
}

/// `GET /dialogs/{dialog}/files/{file}`: a download, and nothing that a browser would run.
pub(crate) async fn file(
    State(web): State<Web>,
    Path((dialog, file)): Path<(String, String)>,
    headers: HeaderMap,
    Visitor(visit): Visitor,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    match web.salon.find_left_file(&visit.caller, &DialogId::new(dialog), &FileId::new(file)).await {
        Ok(Some(file)) => framed(crate::api::sent_file(file)),
        Ok(None) => missing(&shell),
        Err(error) => broken(&shell, &error),
    }
}

/// Lets our own pages show a page that an agent left, in a frame where nothing of it runs.
fn framed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'",
        ),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    response
}
