//! The messenger page and the documents it shows.
//!
//! A release carries the page inside; a debug build reads it from the source folder, so that a reload is enough to see
//! a change. Documents come from bots and users alike and may be anything: they are served without any right to act.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;

use crate::control::{Ask, Controls, refusal};

/// The page may load and call its own server, and nothing else.
const PAGE_CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                        media-src 'self'; connect-src 'self'; frame-src 'self'; font-src 'self'; base-uri 'none'; \
                        form-action 'none'; frame-ancestors 'none'";
/// A document may show itself with its own styles and inline pictures; it runs nothing and asks nobody.
const DOCUMENT_CSP: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
                            frame-ancestors 'self'";

pub async fn home() -> Response<Body> {
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/_mock/ui")]).into_response()
}

pub async fn page() -> Response<Body> {
    file("index.html").await
}

pub async fn icon() -> Response<Body> {
    file("favicon.svg").await
}

pub async fn asset(Path(name): Path<String>) -> Response<Body> {
    // The names the first mock's page was known by.
    match name.as_str() {
        "app.js" if !is_embedded("app.js") => file("mock.js").await,
        "styles.css" if !is_embedded("styles.css") => file("mock.css").await,
        name => file(name).await,
    }
}

async fn file(name: &str) -> Response<Body> {
    let Some(bytes) = contents(name).await else { return refusal(StatusCode::NOT_FOUND, "Not Found") };
    let media_type = match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_CSP)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, bytes).into_response()
}

/// The files of `ui/`, as the build script found them.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/ui.rs"));

fn is_embedded(name: &str) -> bool {
    FILES.iter().any(|(known, _)| *known == name)
}

#[cfg(not(debug_assertions))]
async fn contents(name: &str) -> Option<Vec<u8>> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, bytes)| bytes.to_vec())
}

/// Only plain names with an extension the page uses are read from the folder.
#[cfg(debug_assertions)]
async fn contents(name: &str) -> Option<Vec<u8>> {
    let (stem, extension) = name.rsplit_once('.')?;
    let is_plain = stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if !is_plain || stem.starts_with('.') || !matches!(extension, "html" | "css" | "js" | "svg") {
        return None;
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ui").join(name);
    match tokio::fs::read(path).await {
        Ok(bytes) => Some(bytes),
        // Moved away from its sources, a debug build shows what it was built with.
        Err(_) => FILES.iter().find(|(known, _)| *known == name).map(|(_, bytes)| bytes.to_vec()),
    }
}

#[derive(Deserialize)]
pub struct OfToken {
    #[serde(default)]
    token: String,
}

/// `GET /_mock/document/{id}?token`: pictures, sounds and sandboxed web pages inline, everything else as a download.
pub async fn document(
    State(controls): State<Controls>,
    Path(id): Path<String>,
    Ask(of): Ask<OfToken>,
) -> Response<Body> {
    let found = {
        let state = controls.0.lock();
        let file = id.parse().ok().and_then(|id: u64| state.bots.get(&of.token)?.files.get(&id));
        file.filter(|file| !file.forgotten).cloned()
    };
    let Some(file) = found else { return refusal(StatusCode::NOT_FOUND, "Not Found") };
    let is_shown = file.is_image() || file.is_html() || file.media_type.starts_with("audio/");
    let media_type = match file.media_type.as_str() {
        "text/html" => "text/html; charset=utf-8",
        media_type if is_shown => media_type,
        _ => "application/octet-stream",
    };
    let disposition = if is_shown { "inline" } else { "attachment" };
    let disposition = format!("{disposition}; filename*=UTF-8''{}", percent(&file.name));
    let mut response = Response::new(Body::from(file.bytes.as_ref().clone()));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_DISPOSITION, disposition.as_str()),
        (header::CONTENT_SECURITY_POLICY, DOCUMENT_CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Escapes a file name for a header.
fn percent(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_cannot_break_out_of_its_header() {
        assert_eq!(percent("re port\";\r\n.pdf"), "re%20port%22%3B%0D%0A.pdf");
        assert_eq!(percent("쥐.png"), "%EC%A5%90.png");
    }
}
