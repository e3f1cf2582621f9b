//! The Bot API: `/bot<token>/[test/]<method>` and `/file/bot<token>/<path>`.
//!
//! A call is read completely, written into the ledger, perhaps spoiled by a fault, and then applied under one lock.
//! Only `getUpdates` waits, and it holds no lock while it does.

mod bot;
mod files;
mod markup;
mod messages;
mod updates;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Map, Value, json};

use crate::faults::{Hit, Mode};
use crate::ledger::{Call, body_hash};
use crate::params::{Params, decode};
use crate::state::{Bot, Shared, State};

pub use files::{keep, measure};
pub use messages::CALLBACK_MS;

/// The largest request: Telegram takes files up to 50 MB.
const BODY_BYTES: usize = 52 << 20;
/// Bots that are made on first use; one more is a token gone wrong in a loop.
const BOTS: usize = 10_000;

/// A *no* of the Bot API in Telegram's own words.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    pub status: u16,
    pub description: String,
    pub parameters: Option<Value>,
}

impl ApiError {
    pub fn new(status: u16, description: impl Into<String>) -> ApiError {
        ApiError { status, description: description.into(), parameters: None }
    }

    pub fn bad(what: impl std::fmt::Display) -> ApiError {
        ApiError::new(400, format!("Bad Request: {what}"))
    }

    pub fn forbidden(what: impl std::fmt::Display) -> ApiError {
        ApiError::new(403, format!("Forbidden: {what}"))
    }

    pub fn too_many(seconds: u64) -> ApiError {
        let description = format!("Too Many Requests: retry after {seconds}");
        ApiError { status: 429, description, parameters: Some(json!({"retry_after": seconds})) }
    }

    fn response(&self) -> Response<Body> {
        let mut body = json!({"ok": false, "error_code": self.status, "description": self.description});
        if let Some(parameters) = &self.parameters {
            body["parameters"] = parameters.clone();
        }
        let mut response = reply(self.status, "application/json", body.to_string());
        let retry_after = self.parameters.as_ref().and_then(|parameters| parameters.get("retry_after")?.as_u64());
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A *yes*, with the sentence some methods add.
#[derive(Debug)]
pub struct Done {
    pub result: Value,
    pub description: Option<&'static str>,
}

impl From<Value> for Done {
    fn from(result: Value) -> Done {
        Done { result, description: None }
    }
}

impl Done {
    fn response(self) -> Response<Body> {
        let mut body = json!({"ok": true, "result": self.result});
        if let Some(description) = self.description {
            body["description"] = json!(description);
        }
        reply(200, "application/json", body.to_string())
    }
}

/// What happens to the connection.
pub enum Answer {
    Reply(Response<Body>),
    Drop,
    Reset,
}

/// One call on its way through a method. The lock is held as long as it lives.
pub struct Ctx<'a> {
    pub shared: &'a Arc<Shared>,
    pub state: &'a mut State,
    pub token: &'a str,
    pub now: i64,
}

impl Ctx<'_> {
    pub fn bot(&mut self) -> &mut Bot {
        self.state.bot(self.token, self.now)
    }

    pub fn tell(&mut self, kind: &'static str, chat_id: Option<i64>) {
        self.state.tell(kind, self.token, chat_id);
    }

    /// Takes one message from the pace of this chat, if paces are on.
    pub fn pace(&mut self, chat_id: i64) -> Result<(), ApiError> {
        // A scaled mock lives faster, so its buckets fill faster.
        let now = (self.now as f64 / self.shared.config.time_scale.max(1e-9)) as i64;
        match self.state.buckets.take(self.token, chat_id, now) {
            Some(seconds) => {
                let seconds = (seconds as f64 * self.shared.config.time_scale).ceil().max(1.0);
                Err(ApiError::too_many(seconds as u64))
            }
            None => Ok(()),
        }
    }
}

/// Serves one request below `/bot` or `/file/bot`.
pub async fn serve(shared: &Arc<Shared>, request: Request<Body>) -> Answer {
    let path = request.uri().path().to_owned();
    if let Some(rest) = path.strip_prefix("/file/bot") {
        return Answer::Reply(files::download(shared, rest).unwrap_or_else(|error| error.response()));
    }
    let (parts, body) = request.into_parts();
    let (token, method) = match address(&path) {
        Ok(address) => address,
        Err(error) => return Answer::Reply(error.response()),
    };
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES).await else {
        return Answer::Reply(ApiError::new(413, "Request Entity Too Large").response());
    };
    let hash =
        if body.is_empty() { body_hash(parts.uri.query().unwrap_or_default().as_bytes()) } else { body_hash(&body) };
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let params = match Params::read(parts.uri.query(), content_type, body).await {
        Ok(params) => params,
        Err(error) => return Answer::Reply(error.response()),
    };
    answer(shared, &token, &method, &params, hash).await
}

async fn answer(shared: &Arc<Shared>, token: &str, method: &str, params: &Params, hash: String) -> Answer {
    let begun = match begin(shared, token, method, params, hash, "http") {
        Ok(begun) => begun,
        Err(error) => return Answer::Reply(error.response()),
    };
    let apply = begun.hit.as_ref().is_none_or(|hit| hit.apply);
    let outcome = match (apply, begun.outcome) {
        (false, _) => None,
        (true, Some(outcome)) => Some(outcome),
        // Everything else was done under the lock already.
        (true, None) => Some(updates::get_updates(shared, token, params).await.map(Done::from)),
    };
    let applied = matches!(&outcome, Some(Ok(_)));
    let error = outcome.as_ref().and_then(|outcome| outcome.as_ref().err()).cloned();
    let response = outcome.map(|outcome| match outcome {
        Ok(done) => done.response(),
        Err(error) => error.response(),
    });
    let answer = match &begun.hit {
        Some(hit) => spoil(hit, response).await,
        None => response.map_or(Answer::Drop, Answer::Reply),
    };
    let status = match &answer {
        Answer::Reply(response) => response.status().as_u16(),
        Answer::Drop | Answer::Reset => 0,
    };
    if let Some(call) = shared.lock().ledger.call(begun.n) {
        call.applied = applied;
        call.status = status;
        call.error = error.map(|error| error.description);
    }
    answer
}

/// Applies a call that came in the body of a webhook's answer; nobody reads what it says.
pub fn apply_reply(shared: &Arc<Shared>, token: &str, method: &str, params: &Params, hash: String) {
    let method = method.to_ascii_lowercase();
    if matches!(method.as_str(), "setwebhook" | "deletewebhook" | "close" | "logout") || method.starts_with("get") {
        return;
    }
    let Ok(begun) = begin(shared, token, &method, params, hash, "webhook") else { return };
    if let Some(call) = shared.lock().ledger.call(begun.n) {
        call.applied = matches!(begun.outcome, Some(Ok(_)));
        call.status = match &begun.outcome {
            Some(Ok(_)) => 200,
            Some(Err(error)) => error.status,
            None => 0,
        };
        call.error = begun.outcome.and_then(Result::err).map(|error| error.description);
    }
}

struct Begun {
    n: u64,
    hit: Option<Hit>,
    /// `None` if the call was not applied, or is a `getUpdates` that has yet to wait.
    outcome: Option<Result<Done, ApiError>>,
}

/// Writes the call down, throws the dice of the faults, and applies it unless it waits.
fn begin(
    shared: &Arc<Shared>,
    token: &str,
    method: &str,
    params: &Params,
    hash: String,
    via: &'static str,
) -> Result<Begun, ApiError> {
    let now = shared.clock.now();
    shared.change(|state| {
        if !state.bots.contains_key(token) && state.bots.len() >= BOTS {
            return Err(ApiError::new(401, "Unauthorized"));
        }
        let logged_out = state.bot(token, now).logged_out_until > now;
        let chat_id = params.int("chat_id");
        let n = state.ledger.open(Call {
            n: 0,
            at: now,
            token: token.to_owned(),
            method: method.to_owned(),
            via,
            chat_id,
            message_id: params.int("message_id"),
            body: hash,
            applied: false,
            status: 0,
            error: None,
            fault: None,
        });
        let hit = state.faults.strike(token, method, chat_id);
        if let (Some(hit), Some(call)) = (&hit, state.ledger.call(n)) {
            call.fault = Some(hit.name.clone());
        }
        let apply = hit.as_ref().is_none_or(|hit| hit.apply);
        let outcome = if logged_out {
            Some(Err(ApiError::bad("logged out")))
        } else if !apply || method == "getupdates" {
            None
        } else {
            let mut ctx = Ctx { shared, state, token, now };
            let outcome = call(&mut ctx, method, params);
            let sent = outcome.as_ref().ok().and_then(|done| done.result.get("message_id")?.as_i64());
            if let (Some(message_id), Some(call)) = (sent, state.ledger.call(n)) {
                call.message_id = Some(message_id);
            }
            Some(outcome)
        };
        Ok(Begun { n, hit, outcome })
    })
}

fn call(ctx: &mut Ctx, method: &str, params: &Params) -> Result<Done, ApiError> {
    match method {
        "sendmessage" => messages::send_message(ctx, params),
        "editmessagetext" => messages::edit_text(ctx, params),
        "editmessagecaption" => messages::edit_caption(ctx, params),
        "editmessagereplymarkup" => messages::edit_reply_markup(ctx, params),
        "deletemessage" => messages::delete_message(ctx, params),
        "sendmessagedraft" => messages::send_draft(ctx, params),
        "answercallbackquery" => messages::answer_callback(ctx, params),
        "sendchataction" => messages::send_chat_action(ctx, params),
        "setmessagereaction" => messages::set_reaction(ctx, params),
        "senddocument" => files::send(ctx, params, "document"),
        "sendphoto" => files::send(ctx, params, "photo"),
        "sendvoice" => files::send(ctx, params, "voice"),
        "getfile" => files::get_file(ctx, params),
        "setwebhook" => webhook::set(ctx, params),
        "deletewebhook" => webhook::delete(ctx, params),
        "getwebhookinfo" => webhook::info(ctx),
        "getme" => bot::me(ctx),
        "getchat" => bot::get_chat(ctx, params),
        "setmycommands" => bot::set_commands(ctx, params),
        "getmycommands" => bot::get_commands(ctx, params),
        "deletemycommands" => bot::delete_commands(ctx, params),
        "logout" => bot::log_out(ctx),
        "close" => bot::close(ctx),
        _ => Err(ApiError::new(404, "Not Found: method not found")),
    }
}

/// The token and the method in lower case.
fn address(path: &str) -> Result<(String, String), ApiError> {
    let not_found = || ApiError::new(404, "Not Found");
    let rest = path.strip_prefix("/bot").ok_or_else(not_found)?;
    let (token, method) = rest.split_once('/').ok_or_else(not_found)?;
    let token = token_of(token)?;
    let method = method.strip_prefix("test/").unwrap_or(method);
    if method.is_empty() || method.contains('/') {
        return Err(not_found());
    }
    Ok((token, method.to_ascii_lowercase()))
}

/// A well-formed token: `123456:ABC…`, or a word such as `mock_token_1`.
pub fn token_of(text: &str) -> Result<String, ApiError> {
    let token = decode(text.replace('+', "%2B").as_bytes());
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    let well_formed = match token.split_once(':') {
        Some((id, secret)) => id.parse::<i64>().is_ok_and(|id| id > 0) && !id.starts_with('+') && is_word(secret),
        None => is_word(&token) && token.starts_with(|c: char| c.is_ascii_alphabetic()),
    };
    if well_formed && token.len() <= 128 {
        Ok(token)
    } else {
        Err(ApiError::new(401, "Unauthorized: invalid token specified"))
    }
}

async fn spoil(hit: &Hit, response: Option<Response<Body>>) -> Answer {
    let ok = |content_type, body: &'static [u8]| Answer::Reply(reply(200, content_type, body));
    match hit.mode {
        Mode::Drop => Answer::Drop,
        Mode::Reset => Answer::Reset,
        Mode::Status(status) => {
            let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
            Answer::Reply(ApiError::new(status, reason.unwrap_or("Unknown")).response())
        }
        Mode::TooMany(seconds) => Answer::Reply(ApiError::too_many(seconds).response()),
        Mode::Delay(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            response.map_or(Answer::Drop, Answer::Reply)
        }
        Mode::Garbage => ok("application/json", b"\x00\xff{\"ok\":tru\xc3\x28 \x1b]0;"),
        Mode::Empty => ok("application/json", b""),
        Mode::Html => ok("text/html", b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"),
        Mode::Huge => {
            let blank = Bytes::from(vec![b' '; 1 << 20]);
            let end = Bytes::from_static(b"{\"ok\":true,\"result\":true}");
            let chunks = std::iter::repeat_n(blank, 100).chain([end]).map(Ok::<_, std::convert::Infallible>);
            Answer::Reply(reply(200, "application/json", Body::from_stream(stream::iter(chunks))))
        }
        Mode::NotOk => ok("application/json", b"{\"ok\":false}"),
    }
}

fn reply(status: u16, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The JSON object in a webhook's answer that names a method.
pub fn method_in(object: &mut Map<String, Value>) -> Option<String> {
    match object.remove("method")? {
        Value::String(method) => Some(method),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_token_and_a_method_in_any_case() {
        let read = |path: &str| match address(path) {
            Ok((token, method)) => format!("{token} {method}"),
            Err(error) => format!("{} {}", error.status, error.description),
        };
        assert_eq!(read("/bot123456:ABC-d_e/getMe"), "123456:ABC-d_e getme");
        assert_eq!(read("/bot123456%3AABC/SENDMESSAGE"), "123456:ABC sendmessage");
        assert_eq!(read("/botmock_token_1/test/getUpdates"), "mock_token_1 getupdates");
        assert_eq!(read("/bot123/getMe"), "401 Unauthorized: invalid token specified");
        assert_eq!(read("/bot/getMe"), "401 Unauthorized: invalid token specified");
        assert_eq!(read("/bot1:/getMe"), "401 Unauthorized: invalid token specified");
        assert_eq!(read("/bota b/getMe"), "401 Unauthorized: invalid token specified");
        assert_eq!(read("/bot1:a"), "404 Not Found");
        assert_eq!(read("/bot1:a/"), "404 Not Found");
        assert_eq!(read("/bot1:a/x/getMe"), "404 Not Found");
    }
}
