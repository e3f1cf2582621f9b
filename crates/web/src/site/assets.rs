//! Our own style and scripts: in the binary, under names that change with what is in them, and kept by browsers for ever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::error;

/// A file, and where it is found.
pub(crate) struct Asset {
    pub path: String,
    kind: &'static str,
    body: &'static str,
}

impl Asset {
    fn new(name: &str, kind: &'static str, body: &'static str) -> Asset {
        let hash = Sha256::digest(body.as_bytes());
        let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Asset { path: format!("/assets/{short}/{name}"), kind, body }
    }
}

const JS: &str = "text/javascript; charset=utf-8";

pub(crate) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("salon.css", "text/css; charset=utf-8", include_str!("../../assets/salon.css")));
pub(crate) static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("salon.js", JS, include_str!("../../assets/salon.js")));
pub(crate) static CHAT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("chat.js", JS, include_str!("../../assets/chat.js")));
pub(crate) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon.svg", "image/svg+xml", include_str!("../../assets/icon.svg")));

/// `GET /assets/{hash}/{name}`
pub(crate) async fn serve(Path((hash, name)): Path<(String, String)>) -> Response {
    let path = format!("/assets/{hash}/{name}");
    let known = [&STYLE, &SCRIPT, &CHAT, &ICON];
    let Some(asset) = known.into_iter().find(|asset| asset.path == path) else { return error::not_found() };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    (headers, asset.body).into_response()
}
