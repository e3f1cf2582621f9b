//! Asking in a session: the answer whole, or as it comes. Who asks and goes away has still asked: the turn goes on, and
//! whoever comes back finds it.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use salon::access::Caller;
use salon::idempotency::Key;
use salon::relay::{Refused, over_limit};
use salon::sessions::{Asked, Frames, Question};
use salon_core::overrun::Overrun;
use salon_core::people::Role;
use salon_core::{DialogId, Refusal, Reply, ReplyState, Time, TurnId, Voice, VoiceState, Wishes};
use salon_store::Request as Named;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::form::Form;
use super::frames::{self, Place};
use super::sessions::{Message, found, gone, gone_words, may_answer};
use super::{No, Said, caller, long_bytes, query, split, stateless, told};
use crate::{Web, crowd, once};

const ROUTE: &str = "/api/chat";
const ROUTE_STREAM: &str = "/api/chat/stream";
const ROUTE_AGAIN: &str = "/api/sessions";

/// A question as a body has it.
struct Read {
    session: DialogId,
    question: Question,
}

/// `POST /api/chat`
pub(super) async fn whole(State(web): State<Web>, request: Request) -> Response {
    let (id, head, body) = split(request);
    let said = async {
        let caller = caller(&web, &head, ROUTE, Role::User).await?;
        let _place = crowd::call(&web, &caller)?;
        let body = long_bytes(&web, &head, body).await?;
        let read = read(&web, &caller, &head.headers, Form::read(&body)?)?;
        match web.salon.ask_in_session(&caller, &read.session, read.question).await? {
            Asked::Turn(turn) => answered(&web, &turn).await,
            Asked::Again(turn) => match answered(&web, &turn).await {
                // It cannot be read now, which is no answer.
                Err(no @ No::Store(_)) => Err(no),
                said => Ok(once::replayed(told(said, &id))),
            },
            Asked::Gone => Err(gone(read.session.as_str())),
            asked => Err(not_asked(asked)),
        }
    };
    told(said.await, &id)
}

/// Waits for a turn's end and tells its answer.
async fn answered(web: &Web, turn: &TurnId) -> Said {
    let mut follow = web.salon.follow(turn, 0);
    let mut reply = Reply::default();
    while let Some(events) = follow.next().await? {
        events.iter().for_each(|event| reply.push(event));
    }
    if let ReplyState::Failed { code, message } = &reply.state {
        return Err(failed(code, message, web.salon.clock.now()));
    }
    let turn = web.salon.store.read().await?.find_turn(turn).await?;
    // Its session was deleted while it was being answered.
    let turn = turn.ok_or_else(|| No::missing("answer any more"))?;
    let answer = Message::answer(&turn);
    let mut shown = json!({
        "message_id": answer.id(),
        "role": "assistant",
        "content": reply.text,
        "created_at": answer.at().iso(),
        "token_usage": answer.usage(),
        "rag_context": null,
    });
    // Half an answer must not be taken for a whole one.
    if reply.state == ReplyState::Stopped {
        shown["stopped"] = json!(true);
    }
    if !reply.voices.is_empty() {
        shown["voices"] = reply.voices.iter().map(voice).collect();
    }
    Ok(Json(shown).into_response())
}

/// What somebody of a panel said, and what it took. Whoever gave the answer has no words here.
fn voice(voice: &Voice) -> Value {
    let failed = match &voice.state {
        VoiceState::Failed(why) => Some(why),
        VoiceState::Speaking | VoiceState::Spoke => None,
    };
    json!({
        "speaker": voice.speaker,
        "part": voice.part,
        "model": voice.model,
        "round": voice.round,
        "content": voice.text,
        "answers": voice.answers,
        "tokens_in": voice.tokens_in,
        "tokens_out": voice.tokens_out,
        "micros": voice.micros,
        "failed": failed,
    })
}

/// What a failed turn is to whoever waits for it.
fn failed(code: &str, message: &str, now: Time) -> No {
    if let Some(overrun) = Overrun::parse(message) {
        return over_limit(&overrun, &overrun.headroom(now)).into();
    }
    match code {
        "over_limit" => No::Said(StatusCode::TOO_MANY_REQUESTS, message.to_owned()),
        "approval_denied" => No::Said(StatusCode::FORBIDDEN, message.to_owned()),
        "account_stopped" => No::Said(StatusCode::PAYMENT_REQUIRED, message.to_owned()),
        "model_not_found" => No::Said(StatusCode::NOT_FOUND, message.to_owned()),
        // The question asks for what this model does not take; nobody was asked.
        "unsupported_parameter" | "invalid_value" => No::bad(message),
        _ => No::Said(StatusCode::INTERNAL_SERVER_ERROR, format!("Chat processing failed: {message}")),
    }
}

/// `POST /api/chat/stream`: in a session, or without one if the body brings its own messages.
pub(super) async fn stream(State(web): State<Web>, request: Request) -> Response {
    let (id, head, body) = split(request);
    let said = async {
        let caller = caller(&web, &head, ROUTE_STREAM, Role::User).await?;
        let dialect = dialect(&web, &head)?;
        let body = long_bytes(&web, &head, body).await?;
        let form = Form::read(&body)?;
        if form.has("messages") && !form.has("session_id") {
            return stateless::stream(&web, &head, caller, &body, &id).await;
        }
        let read = read(&web, &caller, &head.headers, form)?;
        let place = crowd::stream(&web, &caller)?;
        let (turn, is_again) = match web.salon.ask_in_session(&caller, &read.session, read.question).await? {
            Asked::Turn(turn) => (turn, false),
            Asked::Again(turn) => (turn, true),
            // Clients of streams look at nothing but the stream.
            Asked::Gone => return Ok(frames::lament(&gone_words(read.session.as_str()))),
            asked => return Err(not_asked(asked)),
        };
        let after = last_event(&head.headers).filter(|place| place.turn == turn).map_or(0, |place| place.seq);
        let stream = frames::follow(web.clone(), head, ROUTE_STREAM, Place { turn, seq: after }, dialect);
        Ok(crowd::keeping(place, if is_again { once::replayed(stream) } else { stream }))
    };
    told(said.await, &id)
}

/// `GET /api/sessions/{session}/stream`: the turn that `Last-Event-ID` names from there on, or the newest one.
pub(super) async fn again(State(web): State<Web>, Path(session): Path<String>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said = async {
        let caller = caller(&web, &head, ROUTE_AGAIN, Role::User).await?;
        let place = crowd::stream(&web, &caller)?;
        let dialect = dialect(&web, &head)?;
        let session = found(&web, &caller, &session).await?;
        let known = last_event(&head.headers);
        let turn = web.salon.turn_of_session(&session, known.as_ref().map(|place| &place.turn)).await?;
        let turn = turn.ok_or_else(|| No::missing("turn in this session"))?;
        let seq = known.map_or(0, |place| place.seq);
        Ok(crowd::keeping(place, frames::follow(web.clone(), head, ROUTE_AGAIN, Place { turn, seq }, dialect)))
    };
    told(said.await, &id)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Dialect {
    frames: Option<String>,
}

fn dialect(web: &Web, head: &Parts) -> Result<Frames, No> {
    let asked: Dialect = query(head)?;
    match asked.frames {
        None => Ok(web.sessions.frames),
        Some(name) => Frames::parse(&name).ok_or_else(|| No::bad("frames is token or chunk")),
    }
}

fn last_event(headers: &HeaderMap) -> Option<Place> {
    Place::parse(headers.get("last-event-id")?.to_str().ok()?)
}

fn read(web: &Web, caller: &Caller, headers: &HeaderMap, mut form: Form) -> Result<Read, No> {
    let session = form.needed_text("session_id");
    let text = form.needed_text("message");
    let max_output = form.count("max_new_tokens", 1).or(web.sessions.wishes.max_output);
    let temperature = form.number("temperature").or(web.sessions.wishes.temperature);
    // Not to choose by chance is what others call a temperature of zero.
    let temperature = if form.flag("do_sample") == Some(false) { Some(0.0) } else { temperature };
    let engine = form.text("model");
    form.finish()?;
    if let Some(engine) = &engine {
        may_answer(web, caller, engine)?;
    }
    let wishes = Wishes { max_output, temperature };
    let request = match headers.get("idempotency-key") {
        None => None,
        Some(key) => {
            let key = key.to_str().ok().filter(|key| Key::parse(key).is_some());
            let key = key.ok_or_else(|| No::bad("An Idempotency-Key has 1 to 255 visible ASCII characters."))?;
            let whole = json!([text, max_output, temperature, engine]).to_string();
            let hash = Sha256::digest(whole).iter().map(|byte| format!("{byte:02x}")).collect();
            Some(Named { key: key.to_owned(), hash })
        }
    };
    Ok(Read {
        session: DialogId::new(session),
        question: Question { text, engine, wishes, request, pictures: Vec::new() },
    })
}

fn not_asked(asked: Asked) -> No {
    match asked {
        Asked::Mismatch => No::bad("This Idempotency-Key was used for another request."),
        Asked::Full(Refusal::QueueFull { limit }) => No::Later(format!(
            "{limit} questions wait in this session already; ask again when some of them are answered"
        )),
        Asked::Full(refusal) => No::bad(refusal.to_string()),
        Asked::Denied(denied) => Refused::from(denied).into(),
        Asked::Turn(_) | Asked::Again(_) | Asked::Gone => No::missing("session"),
    }
}

/// `GET /api/health`
pub(super) async fn health(State(web): State<Web>) -> Response {
    let database = web.probed.store_is_well(&web.salon).await;
    let model = web.serves().await;
    let status = if database && model { "healthy" } else { "degraded" };
    let now = web.salon.clock.now().iso();
    let shown: Value = json!({
        "status": status,
        "timestamp": now,
        "llm_server_available": model,
        "database_connected": database,
    });
    Json(shown).into_response()
}
