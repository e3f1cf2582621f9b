//! The webhook's routes. They only make an update durable; what it means is found out later.
//!
//! Seen from outside there is one mistake: 404, whether the bot, the path or the header was wrong. And there is one
//! reason to ask Telegram to come again: the store is away. Anything else would be repeated for a day.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use salon::arrive::{Arrival, BadUpdate, Rejected};
use salon_core::BotId;
use salon_store::{Enqueued, Error};

use crate::Web;
use crate::error::{self, not_found};

pub const SECRET_HEADER: &str = "x-telegram-bot-api-secret-token";
const BODY_LIMIT: usize = 1024 * 1024;
const BODY_DEADLINE: Duration = Duration::from_secs(15);

/// `POST /telegram/webhook/{bot_id}/{path_secret}`
pub async fn named(
    State(web): State<Web>,
    Path((bot, path)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let admitted = web.doors.admit(&bot, &path, shown(&headers));
    arrive(&web, admitted, &headers, body).await
}

/// `POST /tg/{secret}`, for the first bot of the list.
pub async fn default(State(web): State<Web>, Path(path): Path<String>, headers: HeaderMap, body: Body) -> Response {
    let admitted = web.doors.admit_default(&path, shown(&headers));
    arrive(&web, admitted, &headers, body).await
}

fn shown(headers: &HeaderMap) -> Option<&str> {
    headers.get(SECRET_HEADER).and_then(|value| value.to_str().ok())
}

async fn arrive(web: &Web, admitted: Result<BotId, Rejected>, headers: &HeaderMap, body: Body) -> Response {
    let metrics = &web.salon.metrics;
    let bot = match admitted {
        Ok(bot) => bot,
        Err(rejected) => {
            let (bot, counter) = match &rejected {
                Rejected::UnknownBot => ("__global__", "webhook_reject_unknown_bot"),
                Rejected::WrongPath(bot) => (bot.as_str(), "webhook_reject_invalid_path_secret"),
                Rejected::WrongHeader(bot) => (bot.as_str(), "webhook_reject_invalid_secret_token"),
            };
            metrics.count(bot, counter);
            return not_found();
        }
    };
    if web.closing.is_cancelled() {
        return error::unavailable(2);
    }
    if headers.contains_key("content-encoding") {
        // Nobody needs to send an update compressed, and nobody gets to inflate one here.
        return error::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "compressed bodies are not taken");
    }
    let body = match tokio::time::timeout(BODY_DEADLINE, axum::body::to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return error::plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB"),
        Err(_) => return error::plain(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
    };
    let arrival = match Arrival::read(&bot, &body) {
        Ok(arrival) => arrival,
        Err(bad) => {
            metrics.count(bot.as_str(), "webhook_reject_invalid_update");
            let status = match bad {
                BadUpdate::NotAnObject => StatusCode::UNPROCESSABLE_ENTITY,
                BadUpdate::NotJson | BadUpdate::TooDeep | BadUpdate::NoId => StatusCode::BAD_REQUEST,
            };
            return error::plain(status, &bad.to_string());
        }
    };
    match web.salon.arrive(&bot, &arrival).await {
        Ok(Enqueued::Duplicate) => {
            metrics.count(bot.as_str(), "webhook_duplicate_update");
            accepted()
        }
        Ok(Enqueued::New | Enqueued::LaneFull) => {
            metrics.count(bot.as_str(), "webhook_accept_total");
            accepted()
        }
        Err(error @ (Error::Unavailable(_) | Error::Full)) => {
            tracing::warn!(bot.name = %bot, %error, "an update cannot be stored now");
            error::unavailable(1)
        }
        Err(error) => error::fault(&error),
    }
}

fn accepted() -> Response {
    axum::Json(serde_json::json!({ "ok": true })).into_response()
}
