//! What a Bot API call was given, however it was said.
//!
//! Client libraries differ: some put everything into the query, some send a form, some JSON, and files come as
//! multipart with `attach://name`. Numbers and booleans arrive as text and objects as JSON text. Everything ends up in
//! one map, and the accessors read a value leniently, as the real server does.

use std::borrow::Cow;
use std::collections::HashMap;

use axum::body::Body;
use axum::extract::{FromRequest, Multipart};
use axum::http::{Request, header};
use bytes::Bytes;
use serde_json::Value;

use crate::api::ApiError;

/// Parameters by name, and the uploaded files by part name.
#[derive(Clone, Debug, Default)]
pub struct Params {
    values: HashMap<String, Value>,
    pub files: HashMap<String, Upload>,
}

/// One uploaded file.
#[derive(Clone, Debug)]
pub struct Upload {
    pub name: String,
    pub bytes: Bytes,
}

impl Params {
    /// Merges query and body; what the body says wins.
    pub async fn read(query: Option<&str>, content_type: Option<&str>, body: Bytes) -> Result<Params, ApiError> {
        let mut params = Params::default();
        if let Some(query) = query {
            params.add_pairs(query.as_bytes());
        }
        if body.is_empty() {
            return Ok(params);
        }
        let content_type = content_type.unwrap_or_default();
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "application/x-www-form-urlencoded" => params.add_pairs(&body),
            "application/json" => params.add_json(&body)?,
            "multipart/form-data" => params.add_multipart(content_type, body).await?,
            // The real server does not look into other bodies either.
            _ => {}
        }
        Ok(params)
    }

    pub fn from_object(object: serde_json::Map<String, Value>) -> Params {
        Params { values: object.into_iter().filter(|(_, value)| !value.is_null()).collect(), files: HashMap::new() }
    }

    fn add_pairs(&mut self, text: &[u8]) {
        for pair in text.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &pair[pair.len()..]),
            };
            self.values.insert(decode(name), Value::String(decode(value)));
        }
    }

    fn add_json(&mut self, body: &[u8]) -> Result<(), ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => {
                self.values.extend(object.into_iter().filter(|(_, value)| !value.is_null()));
                Ok(())
            }
            Ok(_) => Err(ApiError::bad("object expected as the request body")),
            Err(_) => Err(ApiError::bad("can't parse the request body as JSON")),
        }
    }

    async fn add_multipart(&mut self, content_type: &str, body: Bytes) -> Result<(), ApiError> {
        let malformed = |_| ApiError::bad("can't parse the multipart request body");
        let mut request = Request::new(Body::from(body));
        if let Ok(value) = content_type.parse() {
            request.headers_mut().insert(header::CONTENT_TYPE, value);
        }
        // The body is already in memory and already within its limit.
        axum::extract::DefaultBodyLimit::disable().apply(&mut request);
        let mut parts = Multipart::from_request(request, &())
            .await
            .map_err(|_| ApiError::bad("can't parse the multipart request body"))?;
        while let Some(part) = parts.next_field().await.map_err(malformed)? {
            let disposition = part.headers().get(header::CONTENT_DISPOSITION).map_or(&[][..], |value| value.as_bytes());
            let mut said = attributes(disposition);
            let Some(name) = said.remove("name") else { continue };
            let file_name = said.remove("filename");
            let bytes = part.bytes().await.map_err(malformed)?;
            match file_name {
                Some(file_name) => {
                    self.files.insert(name, Upload { name: file_name, bytes });
                }
                None => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    self.values.insert(name, Value::String(text));
                }
            }
        }
        Ok(())
    }

    /// The value as text; absent and empty are the same, as on the real server.
    pub fn text(&self, name: &str) -> Cow<'_, str> {
        match self.values.get(name) {
            None | Some(Value::Null) => Cow::Borrowed(""),
            Some(Value::String(text)) => Cow::Borrowed(text),
            Some(other) => Cow::Owned(other.to_string()),
        }
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        match self.values.get(name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    pub fn bool(&self, name: &str) -> bool {
        matches!(self.text(name).to_ascii_lowercase().as_str(), "true" | "yes" | "1")
    }

    /// The value as an object or array, which may have been sent as JSON text. `None` if absent, an error if the text
    /// is not JSON.
    pub fn json(&self, name: &str) -> Result<Option<Value>, serde_json::Error> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) => serde_json::from_str(text).map(Some),
            Some(other) => Ok(Some(other.clone())),
        }
    }

    /// The upload a file parameter points to: the part of that name, or the one named by `attach://`.
    pub fn upload(&self, name: &str) -> Option<&Upload> {
        if let Some(upload) = self.files.get(name) {
            return Some(upload);
        }
        self.files.get(self.text(name).strip_prefix("attach://")?)
    }
}

/// What a `Content-Disposition` says, read as the real server does: a value without quotes goes on to the next `;`, be
/// there blanks or any other letters in it, and `%20` is a blank. grammY and pyTelegramBotAPI name files without quotes.
fn attributes(disposition: &[u8]) -> HashMap<String, String> {
    let mut said = HashMap::new();
    let mut rest = disposition.strip_prefix(b"form-data;").unwrap_or_default();
    while let Some(at) = rest.iter().position(|&byte| byte == b'=') {
        let key = String::from_utf8_lossy(rest[..at].trim_ascii()).to_ascii_lowercase();
        rest = rest[at + 1..].trim_ascii_start();
        let mut value = Vec::new();
        let is_quoted = rest.starts_with(b"\"");
        if is_quoted {
            let mut bytes = rest[1..].iter();
            while let Some(&byte) = bytes.next().filter(|&&byte| byte != b'"') {
                value.extend(if byte == b'\\' { bytes.next() } else { Some(&byte) });
            }
            rest = bytes.as_slice();
        }
        let end = rest.iter().position(|&byte| byte == b';').unwrap_or(rest.len());
        if !is_quoted {
            value.extend(rest[..end].trim_ascii());
        }
        rest = rest.get(end + 1..).unwrap_or_default();
        // In this place a plus is a plus.
        said.insert(key, decode(&value.split(|&byte| byte == b'+').collect::<Vec<_>>().join(&b"%2B"[..])));
    }
    said
}

/// Decodes one form-encoded word; broken escapes stay as they are.
pub fn decode(text: &[u8]) -> String {
    let hex = |byte: Option<&u8>| byte.and_then(|&b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'+' => bytes.push(b' '),
            b'%' => match (hex(text.get(at + 1)), hex(text.get(at + 2))) {
                (Some(high), Some(low)) => {
                    bytes.push(high * 16 + low);
                    at += 2;
                }
                _ => bytes.push(b'%'),
            },
            byte => bytes.push(byte),
        }
        at += 1;
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_word_is_decoded_and_a_broken_escape_stays() {
        assert_eq!(decode(b"a+b%20c%D1%8F"), "a b cя");
        assert_eq!(decode(b"100%"), "100%");
        assert_eq!(decode(b"%zz%4"), "%zz%4");
    }

    #[test]
    fn a_file_name_may_have_quotes_or_none() {
        let name = |text: &str| attributes(text.as_bytes()).remove("filename");
        assert_eq!(name("form-data; name=\"document\"; filename=\"a; b\\\"c.txt\""), Some("a; b\"c.txt".to_owned()));
        assert_eq!(name("form-data;name=\"abc\";filename=보고서 1+1.bin"), Some("보고서 1+1.bin".to_owned()));
        assert_eq!(name("form-data; filename=a%20b.txt ; name=x"), Some("a b.txt".to_owned()));
        assert_eq!(name("form-data; name=\"text\"; filename=\"\""), Some(String::new()));
        assert_eq!(name("form-data; name=\"text\""), None);
        assert_eq!(name("form-data; name=\"x\"; filename=\"open"), Some("open".to_owned()));
        assert_eq!(name("attachment; filename=x"), None);
        assert_eq!(attributes(b"form-data; name=chat_id")["name"], "chat_id");
    }

    #[test]
    fn numbers_booleans_and_objects_may_be_text() {
        let mut params = Params::default();
        params.add_pairs(b"chat_id=-5&flag=True&markup=%7B%22a%22%3A1%7D&broken=%7B&empty=");
        assert_eq!(params.int("chat_id"), Some(-5));
        assert!(params.bool("flag"));
        assert_eq!(params.json("markup").unwrap(), Some(serde_json::json!({"a": 1})));
        assert!(params.json("broken").is_err());
        assert_eq!(params.json("empty").unwrap(), None);
        assert_eq!(params.text("absent"), "");
    }
}
