//! What agents leave in sessions, and what they ask there.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use salon::steer::{self, Steered};
use salon_core::people::Role;
use salon_core::{AskId, DialogId, FileId};
use salon_store::{AskState, StoredFile};
use serde_json::json;

use super::form::Form;
use super::{Done, No, bytes, caller, once, split, told};
use crate::Web;

const ROUTE: &str = "/api/sessions";

/// `GET /api/sessions/{session}/files/{file}`
pub(super) async fn file(
    State(web): State<Web>,
    Path((session, file)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (id, head, _) = split(request);
    let said = async {
        let caller = caller(&web, &head, ROUTE, Role::User).await?;
        let (session, file) = (DialogId::new(session.as_str()), FileId::new(file.as_str()));
        match web.salon.find_left_file(&caller, &session, &file).await? {
            Some(file) => Ok(sent(file)),
            None => Err(No::missing("file")),
        }
    };
    told(said.await, &id)
}

/// The file as it is. A page may be looked at, but nothing in it may do anything, and it is nobody's page.
pub(crate) fn sent(file: StoredFile) -> Response {
    let safe = |media: &str| matches!(media, "image/png" | "image/jpeg" | "image/gif" | "image/webp" | "text/html");
    let how = if safe(&file.media) { "inline" } else { "attachment" };
    let media = HeaderValue::try_from(&file.media).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let mut response = Response::new(Body::from(file.data));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media);
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"),
    );
    let name = percent_encoded(&file.name);
    if let Ok(value) = HeaderValue::try_from(format!("{how}; filename*=UTF-8''{name}")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// As RFC 8187 wants a file's name.
fn percent_encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// `POST /api/sessions/{session}/asks/{ask}`
pub(super) async fn answer(
    State(web): State<Web>,
    Path((session, ask)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (id, head, body) = split(request);
    let said = async {
        let caller = caller(&web, &head, ROUTE, Role::User).await?;
        let body = bytes(&head, body).await?;
        let work = async {
            let mut form = Form::read(&body)?;
            let verdict = form.needed_text("verdict");
            form.finish()?;
            let state = match AskState::parse(&verdict) {
                Some(state @ (AskState::Once | AskState::Session | AskState::Deny)) => state,
                _ => return Err(No::bad("verdict is once, session or deny")),
            };
            let dialog = DialogId::new(session.as_str());
            match web.salon.answer_in_session(&caller, &dialog, &AskId::new(ask.as_str()), state).await? {
                Some(true) => Ok(Done { status: StatusCode::OK, body: json!({ "verdict": verdict }), again: None }),
                Some(false) => Err(No::Said(StatusCode::CONFLICT, "It was answered already".to_owned())),
                None => Err(No::missing("question")),
            }
        };
        once(&web, &head, &caller, &format!("POST /api/sessions/{session}/asks/{ask}"), &body, work).await
    };
    told(said.await, &id)
}

/// The longest that is told to an agent at work, in characters.
const LONGEST: usize = 20_000;

/// `POST /api/sessions/{session}/steer`
pub(super) async fn steer(State(web): State<Web>, Path(session): Path<String>, request: Request) -> Response {
    let (id, head, body) = split(request);
    let said = async {
        let caller = caller(&web, &head, ROUTE, Role::User).await?;
        let body = bytes(&head, body).await?;
        let work = async {
            let mut form = Form::read(&body)?;
            let message = form.needed_text("message");
            form.finish()?;
            let message = message.trim();
            if message.is_empty() || message.chars().count() > LONGEST {
                return Err(No::bad(format!("message has 1 to {LONGEST} characters")));
            }
            let conflict = |why: &str| Err(No::Said(StatusCode::CONFLICT, why.to_owned()));
            match steer::tell(&web.salon, &caller, &DialogId::new(session.as_str()), message).await? {
                Steered::Told { turn, steer } => Ok(Done {
                    status: StatusCode::ACCEPTED,
                    body: json!({ "turn": turn.as_str(), "steer": steer.as_str() }),
                    again: None,
                }),
                Steered::Idle => conflict("Nothing is being answered in this session"),
                Steered::Deaf => conflict("Whoever answers cannot be told more while at work; ask when it has ended"),
                Steered::Gone => Err(super::sessions::gone(&session)),
                Steered::Denied(denied) => Err(salon::relay::Refused::from(denied).into()),
                Steered::Full(refusal) => Err(No::Later(refusal.to_string())),
            }
        };
        once(&web, &head, &caller, &format!("POST /api/sessions/{session}/steer"), &body, work).await
    };
    told(said.await, &id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_within_its_header() {
        assert_eq!(percent_encoded("a b\"\r\n새.png"), "a%20b%22%0D%0A%EC%83%88.png");
    }
}
