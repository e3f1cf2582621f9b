//! A conversation: its turns, and the box below them.
//!
//! What is sent is a turn, and its answer is read from its log as everywhere else: the page renders the fold, and
//! [`stream`] goes on with it live.

pub(crate) mod stream;
pub(crate) mod suggest;

use std::collections::BTreeMap;

use askama::Template;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Multipart, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use salon::engines::is_absence;
use salon::logins::Visit;
use salon::sessions::{Asked, LONGEST_PICTURE, MOST_FILES, NotBrought, Question};
use salon_core::event::{Voice, VoiceState};
use salon_core::overrun::Overrun;
use salon_core::style::Style;
use salon_core::{
    AskId, DialogId, FileId, LeftFile, Measure, Micros, Reply, ReplyState, Turn, TurnId, TurnState, Wishes,
};
use salon_store::{AskState, Request as Same, Shelved};
use serde::Deserialize;

use super::dialogs::{place, shell_of, short};
use super::door::Nothing;
use super::markdown::blocks;
use super::shell::{Shell, grouped, page as shown, page_as};
use super::visitor::{Filled, Visitor, is_seal, stale};
use super::{broken, missing, refuse, see};
use crate::Web;
use suggest::Next;

/// Turns on one page.
const PAGE: i64 = 30;
/// Others that are offered where nobody stands behind whoever was asked.
const OTHERS: usize = 4;
/// The longest question, in characters.
const LONGEST: usize = 100_000;

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

/// A turn as it is shown.
#[derive(Template)]
#[template(path = "part/turn.html")]
pub(crate) struct Shown {
    pub shell: Shell,
    pub dialog: String,
    pub turn: Turn,
    /// HTML, block by block.
    pub answer: Vec<String>,
    pub files: Vec<LeftFile>,
    /// Which files were left and are not delivered, if there are any.
    pub kept_back: Option<String>,
    /// Pictures that came with the question: their ids and names.
    pub brought: Vec<(FileId, String)>,
    pub cost: i64,
    pub is_open: bool,
    pub aside: String,
    pub voices: String,
    /// Why there is no answer.
    pub failed: Option<String>,
    /// Who could answer instead, where nobody stands behind whoever should have.
    pub others: Vec<String>,
}

/// Who spoke on a panel, and what it took.
#[derive(Template)]
#[template(path = "part/voices.html")]
struct Voices<'a> {
    shell: &'a Shell,
    reply: &'a Reply,
    is_live: bool,
}

impl Voices<'_> {
    /// Those whose words do not stand in the answer, with their words as HTML.
    fn spoken(&self) -> Vec<(&Voice, String)> {
        self.reply.voices.iter().map(|voice| (voice, blocks(&voice.text).concat())).collect()
    }

    /// Whoever decides has no name of its own, and perhaps a model that is called gate.
    fn name(&self, voice: &Voice) -> String {
        if voice.part == "gate" { self.shell.t("part.gate") } else { voice.speaker.clone() }
    }

    fn speaks(&self, voice: &Voice) -> bool {
        voice.state == VoiceState::Speaking
    }

    fn failed(&self, voice: &Voice) -> Option<String> {
        match &voice.state {
            VoiceState::Failed(why) => Some(why.clone()),
            VoiceState::Speaking | VoiceState::Spoke => None,
        }
    }
}

fn voices(shell: &Shell, reply: &Reply, is_live: bool) -> String {
    Voices { shell, reply, is_live }.render().unwrap_or_default()
}

/// What stands beside an answer while it is written: what is being done, and what is asked.
#[derive(Template)]
#[template(path = "part/aside.html")]
pub(crate) struct Aside<'a> {
    pub shell: &'a Shell,
    pub dialog: &'a str,
    pub reply: &'a Reply,
    /// What an agent asks, in the reader's language.
    pub title: String,
    pub detail: String,
    /// HTML.
    pub voices: String,
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
pub(crate) struct Saying {
    #[serde(rename = "seal")]
    _seal: String,
    text: String,
    #[serde(default)]
    request: String,
    #[serde(default)]
    engine: String,
    #[serde(default)]
    style: String,
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

/// A turn with what its log tells.
pub(crate) fn turn_shown(shell: &Shell, turn: Turn, reply: &Reply, cost: i64) -> Shown {
    let is_open = !turn.state.is_final();
    // What ended is on the turn; what is being written, in the log.
    let text = match &turn.answer {
        Some(answer) if !is_open => answer.as_str(),
        _ => reply.text.as_str(),
    };
    let dialog = turn.dialog.to_string();
    let aside = if is_open { aside(shell, &dialog, reply) } else { String::new() };
    Shown {
        answer: blocks(text),
        files: reply.files.clone(),
        kept_back: reply.kept_back.told(shell.lang),
        brought: Vec::new(),
        others: Vec::new(),
        failed: failure(shell, &turn, reply),
        voices: if is_open { String::new() } else { voices(shell, reply, false) },
        shell: shell.clone(),
        is_open,
        aside,
        cost,
        dialog,
        turn,
    }
}

/// Who could answer this person instead, if a turn failed because nobody stands behind whoever was asked.
pub(crate) fn others(web: &Web, visit: &Visit, turn: &Turn, reply: &Reply) -> Vec<String> {
    if !matches!(&reply.state, ReplyState::Failed { code, .. } if is_absence(code)) {
        return Vec::new();
    }
    let others = web.salon.engines.others(&turn.engine).into_iter().map(|other| other.name.clone());
    others.filter(|name| web.salon.may_ask(&visit.caller, name).is_ok()).take(OTHERS).collect()
}

pub(crate) fn aside(shell: &Shell, dialog: &str, reply: &Reply) -> String {
    let (title, detail) = match &reply.pending {
        Some(pending) => (pending.title_in(shell.lang), pending.detail_in(shell.lang)),
        None => Default::default(),
    };
    Aside { shell, dialog, reply, title, detail, voices: voices(shell, reply, true) }.render().unwrap_or_default()
}

/// Why there is no answer, or no more of it, in the reader's language.
fn failure(shell: &Shell, turn: &Turn, reply: &Reply) -> Option<String> {
    match turn.state {
        TurnState::Stopped => Some(shell.t("chat.stopped")),
        TurnState::Failed => Some(match &reply.state {
            ReplyState::Failed { code, message } => failed_with(shell, code, message),
            // Its log could not be read.
            _ => shell.t("chat.failed"),
        }),
        _ => None,
    }
}

/// A failure in the reader's language.
fn failed_with(shell: &Shell, code: &str, message: &str) -> String {
    match Overrun::parse(message) {
        Some(overrun) => over_limit(shell, &overrun),
        None => salon_core::failure::said(shell.lang, code, message),
    }
}

/// Which limit has no room, when it has some again, and what helps meanwhile.
fn over_limit(shell: &Shell, overrun: &Overrun) -> String {
    let Overrun { scope, measure, period, limit, remaining, anew } = overrun;
    let amount = |of: i64| {
        let number = match measure {
            Measure::Micros => Micros(of).to_string(),
            Measure::Tokens | Measure::Requests => grouped(of),
        };
        let one = if of == 1 && *measure != Measure::Micros { ".one" } else { "" };
        shell.lang.say(&format!("amount.{}{one}", measure.as_str()), &[("number", &number)])
    };
    let whose = shell.lang.say(&format!("limit.of.{}", scope.as_str()), &[]);
    let limit = shell.lang.say(&format!("allowance.{}", period.as_str()), &[("amount", &amount(*limit))]);
    let anew = match anew {
        Some((day, zone)) => shell.lang.say("limit.anew", &[("day", day), ("zone", zone)]),
        None => shell.lang.say("limit.never", &[]),
    };
    let holes = [("whose", whose.as_str()), ("limit", &limit), ("left", &amount(*remaining)), ("anew", &anew)];
    shell.lang.say("page.chat.over", &holes)
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

/// What is wrong with a question.
fn fault(text: &str) -> Option<&'static str> {
    match text.trim() {
        "" => Some("empty"),
        text if text.chars().count() > LONGEST => Some("too_long"),
        _ => None,
    }
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
        Ok(Asked::Turn(turn)) if wants_part(headers) => return part(web, visit, &shell, id, &turn).await,
        Ok(Asked::Turn(turn)) => return see(&format!("/dialogs/{id}#t-{turn}")),
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

/// A question with its files, or what is wrong with it.
fn composed(shell: &Shell, saying: &Saying, files: Vec<(String, Bytes)>) -> Result<Question, String> {
    if let Some(code) = fault(&saying.text) {
        return Err(shell.wrong(code));
    }
    let mut question = question(saying);
    for (name, bytes) in files {
        let code = match question.bring(&name, bytes.into()) {
            Ok(()) => continue,
            Err(NotBrought::TooMany) => "files_many",
            Err(NotBrought::TooLong) => "files_long",
            Err(NotBrought::Unknown) => "files_unknown",
        };
        return Err(shell.t1(&format!("wrong.{code}"), "name", name));
    }
    Ok(question)
}

/// A question as the form sends it, with its files.
pub(crate) struct Sent {
    visitor: Visitor,
    saying: Saying,
    files: Vec<(String, Bytes)>,
}

/// The longest form: as many files as may come with a question, and its words.
pub(crate) const LONGEST_FORM: usize = MOST_FILES * LONGEST_PICTURE + (1 << 20);

impl FromRequest<Web> for Sent {
    type Rejection = Response;

    async fn from_request(request: Request, web: &Web) -> Result<Sent, Response> {
        let kind =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("multipart/form-data") {
            let Filled(visitor, saying) = Filled::<Visitor, Saying>::from_request(request, web).await?;
            return Ok(Sent { visitor, saying, files: Vec::new() });
        }
        let (mut head, body) = request.into_parts();
        // Nobody's files are taken in who did not come in.
        let visitor = Visitor::from_request_parts(&mut head, web).await?;
        let unreadable = || crate::error::plain(StatusCode::BAD_REQUEST, "This form cannot be read.");
        let too_long = || crate::error::plain(StatusCode::PAYLOAD_TOO_LARGE, "These files are too long.");
        let mut form = Multipart::from_request(Request::from_parts(head, body), web).await.map_err(|_| unreadable())?;
        let (mut fields, mut files) = (BTreeMap::new(), Vec::new());
        loop {
            let field = form.next_field().await.map_err(|_| too_long())?;
            let Some(field) = field else { break };
            let (name, file) = (field.name().unwrap_or_default().to_owned(), field.file_name().map(str::to_owned));
            let bytes = field.bytes().await.map_err(|_| too_long())?;
            match file {
                // A field for files in which nothing was chosen.
                Some(file) if file.is_empty() && bytes.is_empty() => {}
                Some(file) if files.len() < MOST_FILES => files.push((file, bytes)),
                Some(_) => return Err(too_long()),
                None if fields.len() < 16 => {
                    fields.insert(name, String::from_utf8_lossy(&bytes).into_owned());
                }
                None => return Err(unreadable()),
            }
        }
        let mut take = |name: &str| fields.remove(name).unwrap_or_default();
        let saying = Saying {
            _seal: take("seal"),
            text: take("text"),
            request: take("request"),
            engine: take("engine"),
            style: take("style"),
        };
        if !fields.is_empty() {
            return Err(crate::error::plain(
                StatusCode::UNPROCESSABLE_ENTITY,
                "This form has fields that mean nothing.",
            ));
        }
        if !is_seal(&visitor.0, &saying._seal) {
            return Err(stale());
        }
        Ok(Sent { visitor, saying, files })
    }
}

fn question(saying: &Saying) -> Question {
    use sha2::{Digest, Sha256};
    let hash: String = Sha256::digest(saying.text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let key = saying.request.as_str();
    let is_key = key.len() == 26 && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    Question {
        text: saying.text.trim().to_owned(),
        engine: None,
        wishes: Wishes::default(),
        request: is_key.then(|| Same { key: format!("page:{key}"), hash }),
        pictures: Vec::new(),
    }
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

/// What a turn's log says so far; nothing if it cannot be read.
async fn replied(web: &Web, turn: &TurnId) -> Reply {
    let events = async { web.salon.store.read().await?.list_events(turn, 0, i64::from(u16::MAX)).await };
    Reply::fold(&events.await.unwrap_or_default())
}

/// The pictures that came with a question; an answer is shown without them if they cannot be had.
async fn brought(web: &Web, turn: &TurnId) -> Vec<(FileId, String)> {
    let found = async { web.salon.store.read().await?.list_brought(turn).await };
    found.await.unwrap_or_default().into_iter().map(|file| (file.id, file.name)).collect()
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

fn saying(text: String, request: String) -> Saying {
    Saying { _seal: String::new(), text, request, engine: String::new(), style: String::new() }
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

#[cfg(test)]
mod tests {
    use salon_core::{Event, KeptFile, Lang, Note, Stamped, Time, Usage};

    use super::super::visitor::Guest;
    use super::*;

    #[test]
    fn files_that_nobody_gets_are_told_below_the_answer_in_the_readers_language() {
        let turn = Turn {
            id: TurnId::new("t"),
            dialog: DialogId::new("d"),
            number: 1,
            user: None,
            question: "?".to_owned(),
            asked_at: Time(0),
            answer: Some("Here it is.".to_owned()),
            answered_at: Some(Time(1)),
            state: TurnState::Done,
            engine: "claude".to_owned(),
            model: None,
            usage: Usage::default(),
            error: None,
        };
        let file = KeptFile { name: "<b>.png".to_owned(), why: "link".to_owned() };
        let events = [Event::Note(Note::KeptBack { files: vec![file], more: 2 }), Event::Done];
        let log = events.into_iter().zip(1..).map(|(event, seq)| Stamped { seq, attempt: 1, at: Time(seq), event });
        let reply = Reply::fold(&log.collect::<Vec<_>>());
        let shell = Shell::outside(&Guest { lang: Lang::Ru, visit: None }, Time(2));
        let html = turn_shown(&shell, turn, &reply, 0).render().expect("HTML");
        let (answer, rest) = html.split_once("Here it is.").expect("the answer");
        assert!(rest.contains("📎 Не доставлено: &#60;b&#62;.png (это ссылка), ещё 2"), "{rest}");
        assert!(!answer.contains("📎") && !html.contains("<b>"), "{html}");
    }
}
