//! Sessions: opened, found, listed, read and deleted.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use salon_core::people::Role;
use salon_core::{Channel, DialogId, Time, Turn, TurnState};
use salon_store::Session;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::form::Form;
use super::{Done, No, bytes, caller, once, query, split, told};
use crate::Web;

const ROUTE: &str = "/api/sessions";
/// Sessions on one page.
const PAGE: i64 = 50;
const LONGEST_PAGE: i64 = 200;
/// The longest that a program may keep with a session, in bytes.
const LONGEST_METADATA: usize = 16 << 10;

/// `POST /api/sessions`
pub(super) async fn open(State(web): State<Web>, request: Request) -> Response {
    let (id, head, body) = split(request);
    let said = async {
        let caller = caller(&web, &head, ROUTE, Role::User).await?;
        let body = bytes(&head, body).await?;
        let work = async {
            let mut form = if body.is_empty() { Form::read(b"{}")? } else { Form::read(&body)? };
            let metadata = Value::Object(form.object("metadata").unwrap_or_default()).to_string();
            let engine = form.text("engine");
            form.finish()?;
            if metadata.len() > LONGEST_METADATA {
                return Err(No::bad(format!("metadata is longer than {} KiB", LONGEST_METADATA >> 10)));
            }
            let engine = match engine {
                Some(engine) => engine,
                None => web.salon.find_usual_engine(&caller).await?.unwrap_or_else(|| web.sessions.engine.clone()),
            };
            may_answer(&web, &caller, &engine)?;
            let session = web.salon.open_session(&caller, &engine, metadata).await?;
            Ok(Done::created(shown(&session)))
        };
        once(&web, &head, &caller, "POST /api/sessions", &body, work).await
    };
    told(said.await, &id)
}

/// Refuses an engine that is not there, or that the caller's key may not use.
pub(super) fn may_answer(web: &Web, caller: &salon::Caller, engine: &str) -> Result<(), No> {
    web.salon.may_ask(caller, engine).map_err(salon::relay::Refused::from)?;
    match web.salon.engines.find(engine).filter(|engine| engine.selectable || engine.name == "echo") {
        Some(_) => Ok(()),
        None => Err(No::bad(format!("there is no engine or model {}", engine.chars().take(128).collect::<String>()))),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Page {
    limit: Option<i64>,
    /// Where the page before this one ended, as it said.
    before: Option<String>,
}

/// `GET /api/sessions`
pub(super) async fn list(State(web): State<Web>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said = async {
        let caller = caller(&web, &head, ROUTE, Role::User).await?;
        let page: Page = query(&head)?;
        let limit = page.limit.unwrap_or(PAGE);
        if !(1..=LONGEST_PAGE).contains(&limit) {
            return Err(No::bad(format!("limit is between 1 and {LONGEST_PAGE}")));
        }
        let before = match &page.before {
            None => (Time(i64::MAX), ""),
            Some(mark) => place(mark).ok_or_else(|| No::bad("before is the `next` of another page"))?,
        };
        let sessions = web.salon.list_sessions(&caller, before, limit).await?;
        let next = (sessions.len() as i64 == limit).then(|| sessions.last().map(mark)).flatten();
        let shown: Vec<Value> = sessions.iter().map(shown).collect();
        let count = shown.len();
        Ok(Json(json!({ "sessions": shown, "total_count": count, "next": next })).into_response())
    };
    told(said.await, &id)
}

fn mark(last: &Session) -> String {
    format!("{}.{}", last.dialog.updated_at.0, last.dialog.id)
}

fn place(mark: &str) -> Option<(Time, &str)> {
    let (at, id) = mark.split_once('.')?;
    let plain = at.bytes().all(|byte| byte.is_ascii_digit()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !plain || id.len() != 26 {
        return None;
    }
    Some((Time(at.parse().ok()?), id))
}

/// `GET /api/sessions/{session}`
pub(super) async fn find(State(web): State<Web>, Path(session): Path<String>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said = async {
        let caller = caller(&web, &head, ROUTE, Role::User).await?;
        let session = found(&web, &caller, &session).await?;
        Ok(Json(shown(&session)).into_response())
    };
    told(said.await, &id)
}

/// `DELETE /api/sessions/{session}`
pub(super) async fn delete(State(web): State<Web>, Path(session): Path<String>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said = async {
        let caller = caller(&web, &head, ROUTE, Role::User).await?;
        match web.salon.delete_session(&caller, &DialogId::new(session.as_str())).await? {
            true => Ok(StatusCode::NO_CONTENT.into_response()),
            false => Err(gone(&session)),
        }
    };
    told(said.await, &id)
}

/// `DELETE /api/sessions/{session}/run`: stops what is being answered, and what waits to be.
pub(super) async fn stop(State(web): State<Web>, Path(session): Path<String>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said = async {
        let caller = caller(&web, &head, ROUTE, Role::User).await?;
        match web.salon.stop_session(&caller, &DialogId::new(session.as_str())).await? {
            Some(true) => Ok(StatusCode::NO_CONTENT.into_response()),
            Some(false) => Err(No::Said(StatusCode::NOT_FOUND, "Nothing is being answered in this session".to_owned())),
            None => Err(gone(&session)),
        }
    };
    told(said.await, &id)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Newest {
    limit: Option<i64>,
}

/// `GET /api/sessions/{session}/messages`
pub(super) async fn messages(State(web): State<Web>, Path(session): Path<String>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said = async {
        let caller = caller(&web, &head, ROUTE, Role::User).await?;
        let newest: Newest = query(&head)?;
        let limit = match newest.limit.unwrap_or(0) {
            ..0 => return Err(No::bad("limit is zero, which is all, or more")),
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let session = found(&web, &caller, &session).await?;
        // A turn is one message or two.
        let turns = web.salon.list_turns(&session, i64::try_from(limit).unwrap_or(i64::MAX)).await?;
        let mut messages: Vec<Value> = turns.iter().flat_map(of_turn).map(|message| message.shown(&session)).collect();
        messages.drain(..messages.len().saturating_sub(limit));
        let count = messages.len();
        let id = session.dialog.id.as_str();
        Ok(Json(json!({ "session_id": id, "messages": messages, "total_count": count })).into_response())
    };
    told(said.await, &id)
}

/// The caller's session of this id.
pub(super) async fn found(web: &Web, caller: &salon::Caller, id: &str) -> Result<Session, No> {
    web.salon.find_session(caller, &DialogId::new(id)).await?.ok_or_else(|| gone(id))
}

/// There is none, or it is somebody else's: the two look the same.
pub(super) fn gone(id: &str) -> No {
    No::Said(StatusCode::NOT_FOUND, gone_words(id))
}

pub(super) fn gone_words(id: &str) -> String {
    let id: String = id.chars().take(64).collect();
    format!("Session {id} not found")
}

fn shown(session: &Session) -> Value {
    let dialog = &session.dialog;
    let metadata: Map<String, Value> = serde_json::from_str(&session.metadata).unwrap_or_default();
    let channel = match dialog.channel {
        Channel::Telegram { .. } => "telegram",
        Channel::Api => "api",
    };
    json!({
        "session_id": dialog.id.as_str(),
        "created_at": dialog.created_at.iso(),
        "last_accessed": session.seen_at.iso(),
        "metadata": metadata,
        "engine": dialog.engine,
        "turns": dialog.turns,
        "channel": channel,
    })
}

/// Half a turn, as the API shows it.
pub(super) struct Message<'a> {
    turn: &'a Turn,
    is_answer: bool,
}

/// The question, and the answer if there is one.
fn of_turn(turn: &Turn) -> impl Iterator<Item = Message<'_>> {
    let answered = matches!(turn.state, TurnState::Done | TurnState::Stopped)
        && turn.answer.as_deref().is_some_and(|answer| !answer.is_empty());
    [Some(Message { turn, is_answer: false }), answered.then_some(Message { turn, is_answer: true })]
        .into_iter()
        .flatten()
}

impl<'a> Message<'a> {
    pub fn answer(turn: &'a Turn) -> Message<'a> {
        Message { turn, is_answer: true }
    }

    pub fn id(&self) -> String {
        format!("{}-{}", self.turn.id, if self.is_answer { "answer" } else { "question" })
    }

    pub fn at(&self) -> Time {
        if self.is_answer { self.turn.answered_at.unwrap_or(self.turn.asked_at) } else { self.turn.asked_at }
    }

    pub fn usage(&self) -> Value {
        let usage = &self.turn.usage;
        if !self.is_answer || (usage.tokens_in == 0 && usage.tokens_out == 0) {
            return Value::Null;
        }
        json!({
            "prompt_tokens": usage.tokens_in,
            "completion_tokens": usage.tokens_out,
            "total_tokens": usage.tokens_in + usage.tokens_out,
        })
    }

    fn shown(&self, session: &Session) -> Value {
        let (role, content) = match self.is_answer {
            true => ("assistant", self.turn.answer.as_deref().unwrap_or_default()),
            false => ("user", self.turn.question.as_str()),
        };
        json!({
            "message_id": self.id(),
            "session_id": session.dialog.id.as_str(),
            "role": role,
            "content": content,
            "created_at": self.at().iso(),
            "token_usage": self.usage(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_where_another_one_ended() {
        let id = "01KGC7N3E00000000000000000";
        assert_eq!(place(&format!("1769947200000.{id}")), Some((Time(1_769_947_200_000), id)));
        for bad in ["", "0.5", "1769947200000", &format!("-1.{id}"), &format!("+1.{id}"), &format!("1.{id}x")] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
