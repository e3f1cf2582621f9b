//! The front door: a short page for people, a line for `curl`.

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Response};
use salon_store::Realm;
use serde_json::json;

use crate::Web;
use crate::health::may_watch;
use crate::serve::Peer;
use crate::site::see;
use crate::site::visitor::visit;

const STYLE: &str = include_str!("../assets/front.css");

pub async fn front(State(web): State<Web>, peer: Option<Extension<Peer>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") {
        // Whoever came in has a first page of their own.
        if let Ok(Some(_)) = visit(&web, &headers, Realm::House).await {
            return see("/start");
        }
        let watching = may_watch(&web, peer.map(|Extension(peer)| peer), &headers);
        return Html(page(&web, watching)).into_response();
    }
    if accept.contains("application/json") {
        return axum::Json(json!({
            "name": "salon",
            "service": "salon",
            "version": env!("CARGO_PKG_VERSION"),
            "status": "running",
            "endpoints": {
                "sessions": "/api/sessions", "chat": "/api/chat", "chat_stream": "/api/chat/stream",
                "models": "/v1/models", "health": "/api/health", "docs": "/docs",
            },
        }))
        .into_response();
    }
    "Salon: come in, sit down, say something. Nobody is interrupted and nothing is said twice.\n".into_response()
}

pub async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=3600")], STYLE)
        .into_response()
}

/// Troubles are shown only to those who may watch.
fn page(web: &Web, watching: bool) -> String {
    let mut bots = String::new();
    for bot in web.doors.bots() {
        let (class, state) = match (&bot.error, bot.receiving) {
            (Some(_), _) => ("bad", "in trouble"),
            (None, true) => ("good", "listening"),
            (None, false) => ("idle", "not listening yet"),
        };
        let detail = bot.error.as_deref().filter(|_| watching).unwrap_or(&bot.intake);
        bots.push_str(&format!(
            "<li><strong>{}</strong> <span class=\"{class}\">{state}</span><br><small>{} · {}</small></li>",
            escape(&bot.name),
            escape(&bot.id),
            escape(detail),
        ));
    }
    if bots.is_empty() {
        bots.push_str("<li>No bot yet. <code>salon bot add</code> adds one.</li>");
    }
    let messenger = web.messenger.as_ref().map_or(String::new(), |address| {
        format!("<p><a class=\"go\" href=\"{}\">Open the messenger</a></p>", escape(address))
    });
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Salon</title>\
         <link rel=\"stylesheet\" href=\"/assets/front.css\"></head><body><main><h1>Salon</h1>\
         <p>People, models and agents in conversation. This one is running.</p>\
         <p><a class=\"go\" href=\"/login\">Log in</a></p>{messenger}\
         <h2>Bots</h2><ul>{bots}</ul>\
         <p class=\"more\"><a href=\"/readyz\">How it is doing</a> · <a href=\"/metrics\">What it did</a> · \
         <a href=\"/docs\">Its API</a></p>\
         </main></body></html>"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_become_markup() {
        assert_eq!(escape("<b a=\"'&"), "&lt;b a=&quot;&#39;&amp;");
    }
}
