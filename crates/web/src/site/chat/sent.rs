//! What the box below a conversation sends: a question with its files, as a script or a bare form has it.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Multipart, Request};
use axum::http::{StatusCode, header};
use axum::response::Response;
use salon::sessions::{LONGEST_PICTURE, MOST_FILES, NotBrought, Question};
use salon_core::Wishes;
use salon_store::Request as Same;
use serde::Deserialize;

use super::super::shell::Shell;
use super::super::visitor::{Filled, Visitor, is_seal, stale};
use crate::Web;

/// The longest question, in characters.
const LONGEST: usize = 100_000;

/// The longest form: as many files as may come with a question, and its words.
pub(crate) const LONGEST_FORM: usize = MOST_FILES * LONGEST_PICTURE + (1 << 20);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saying {
    #[serde(rename = "seal")]
    _seal: String,
    pub(super) text: String,
    #[serde(default)]
    pub(super) request: String,
    #[serde(default)]
    pub(super) engine: String,
    #[serde(default)]
    pub(super) style: String,
}

/// A question as the form sends it, with its files.
pub(crate) struct Sent {
    pub(super) visitor: Visitor,
    pub(super) saying: Saying,
    pub(super) files: Vec<(String, Bytes)>,
}

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

/// A question with its files, or what is wrong with it.
pub(super) fn composed(shell: &Shell, saying: &Saying, files: Vec<(String, Bytes)>) -> Result<Question, String> {
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

pub(super) fn question(saying: &Saying) -> Question {
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

pub(super) fn saying(text: String, request: String) -> Saying {
    Saying { _seal: String::new(), text, request, engine: String::new(), style: String::new() }
}

/// What is wrong with a question.
pub(super) fn fault(text: &str) -> Option<&'static str> {
    match text.trim() {
        "" => Some("empty"),
        text if text.chars().count() > LONGEST => Some("too_long"),
        _ => None,
    }
}
