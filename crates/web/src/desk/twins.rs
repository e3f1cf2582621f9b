//! The same for programs, as JSON: settings, and starting and stopping bots. They come in by the desk's cookie.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use salon::desk::PAUSE_MESSAGE;
use salon::logins::Visit;
use salon_core::BotId;
use salon_core::people::Role;
use salon_store::Realm;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::bots::{self, NotTended};
use super::settings::{self, Unfit};
use crate::api::is_object;
use crate::site::visitor::visit;
use crate::{BotDeed, BotFault, Web, error};

const LONGEST: usize = 64 * 1024;

/// Who may look; only administrators change.
pub(crate) struct Clerk(Visit);

/// What a script at the desk is told.
fn say(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "status": "error", "message": message }))).into_response()
}

impl FromRequestParts<Web> for Clerk {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Parts, web: &Web) -> Result<Clerk, Response> {
        let visit = visit(web, &head.headers, Realm::Desk).await?;
        let visit = visit.ok_or_else(|| say(StatusCode::UNAUTHORIZED, "log in at /admin/login first"))?;
        // Settings and bots belong to the whole house.
        if visit.account.user.org.as_str() != salon::people::DEFAULT_ORG {
            return Err(error::not_found());
        }
        Ok(Clerk(visit))
    }
}

impl Clerk {
    fn admin(&self) -> Result<(), Response> {
        if self.0.account.role() == Role::Admin {
            Ok(())
        } else {
            Err(say(StatusCode::FORBIDDEN, "administrators only"))
        }
    }
}

/// Which bot; without one, the first.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Which {
    bot: Option<String>,
    /// Where Telegram finds us.
    url: Option<String>,
    message: Option<String>,
}

/// Reads a body, which may be missing.
async fn read<T: DeserializeOwned + Default>(request: Request) -> Result<T, Response> {
    let body = axum::body::to_bytes(request.into_body(), LONGEST).await;
    let body = body.map_err(|_| say(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long"))?;
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    let read = if is_object(&body) { serde_json::from_slice(&body).ok() } else { None };
    read.ok_or_else(|| say(StatusCode::UNPROCESSABLE_ENTITY, "the body cannot be understood"))
}

fn bot_of(web: &Web, which: &Which) -> Result<String, Response> {
    let bots = web.doors.bots();
    let found = match &which.bot {
        Some(id) => bots.into_iter().find(|bot| bot.id == *id),
        None => bots.into_iter().next(),
    };
    found.map(|bot| bot.id).ok_or_else(|| say(StatusCode::BAD_REQUEST, "there is no such bot; add one first"))
}

fn refused(fault: &BotFault) -> Response {
    let why = match fault {
        BotFault::NotHttps => "a webhook needs an https address: configure public_url, or send url",
        BotFault::Entry => "this bot is written down in a way that cannot be edited here",
        BotFault::Missing => "there is no such bot",
        _ => "the list of bots could not be changed; the log says why",
    };
    say(StatusCode::BAD_REQUEST, why)
}

async fn tend(web: &Web, clerk: &Clerk, bot: &str, deed: BotDeed) -> Result<Option<String>, Response> {
    let done = bots::tend_noting(web, web.salon.pen(&clerk.0), bot, deed).await;
    done.map_err(|not| match not {
        NotTended::Fault(fault) => refused(&fault),
        NotTended::Store(error) => unavailable(&error),
    })
}

/// `POST /admin/api/bot/start-polling`
pub(crate) async fn start_polling(
    State(web): State<Web>,
    clerk: Clerk,
    request: Request,
) -> Result<Response, Response> {
    clerk.admin()?;
    let which: Which = read(request).await?;
    let bot = bot_of(&web, &which)?;
    tend(&web, &clerk, &bot, BotDeed::Poll).await?;
    Ok(Json(json!({ "status": "ok" })).into_response())
}

/// `POST /admin/api/bot/start-webhook`
pub(crate) async fn start_webhook(
    State(web): State<Web>,
    clerk: Clerk,
    request: Request,
) -> Result<Response, Response> {
    clerk.admin()?;
    let which: Which = read(request).await?;
    let bot = bot_of(&web, &which)?;
    let url = which.url.or_else(|| web.house.public_url.clone()).unwrap_or_default();
    let place = tend(&web, &clerk, &bot, BotDeed::Hook(url)).await?;
    Ok(Json(json!({ "status": "ok", "webhook_url": place })).into_response())
}

/// `POST /admin/api/bot/stop`
pub(crate) async fn stop(State(web): State<Web>, clerk: Clerk, request: Request) -> Result<Response, Response> {
    clerk.admin()?;
    let which: Which = read(request).await?;
    let bot = bot_of(&web, &which)?;
    tend(&web, &clerk, &bot, BotDeed::Stop).await?;
    Ok(Json(json!({ "status": "ok" })).into_response())
}

/// `POST /admin/api/bot/toggle-pause`
pub(crate) async fn toggle_pause(State(web): State<Web>, clerk: Clerk, request: Request) -> Result<Response, Response> {
    clerk.admin()?;
    let which: Which = read(request).await?;
    let bot = BotId::new(bot_of(&web, &which)?);
    let pen = web.salon.pen(&clerk.0);
    let toggled = async {
        if web.salon.find_pause(&bot).await?.is_some() {
            web.salon.pause_bot(&pen, &bot, None).await?;
            return Ok(false);
        }
        let said = match &which.message {
            Some(message) => Some(message.clone()),
            None => web.salon.store.read().await?.find_setting(PAUSE_MESSAGE).await?,
        };
        web.salon.pause_bot(&pen, &bot, Some(said.unwrap_or_default().trim())).await?;
        Ok(true)
    };
    let toggled: Result<bool, salon_store::Error> = toggled.await;
    let paused = toggled.map_err(|error| unavailable(&error))?;
    Ok(Json(json!({ "status": "ok", "paused": paused })).into_response())
}

fn unavailable(error: &salon_store::Error) -> Response {
    match error {
        salon_store::Error::Unavailable(_) | salon_store::Error::Full => error::unavailable(2),
        error => error::fault(error),
    }
}

/// `GET /admin/api/settings`: every setting that there is. Of a secret it is told whether there is one.
pub(crate) async fn settings(State(web): State<Web>, _: Clerk) -> Result<Response, Response> {
    let values = settings::read(&web).await.map_err(|error| unavailable(&error))?;
    let mut said: BTreeMap<String, Value> = values.into_iter().map(|(name, value)| (name, json!(value))).collect();
    let first = web.doors.bot_entries().into_iter().next();
    let hint = first.as_ref().map(|bot| bot.token_hint.clone());
    said.insert("telegram_bot_token".to_owned(), json!({ "set": first.is_some(), "hint": hint }));
    said.insert("webhook_url".to_owned(), json!(first.and_then(|bot| bot.public_url)));
    Ok(Json(said).into_response())
}

/// `POST /admin/api/settings`: sets what is named, all of it or nothing.
pub(crate) async fn set_settings(State(web): State<Web>, clerk: Clerk, request: Request) -> Result<Response, Response> {
    clerk.admin()?;
    let body: BTreeMap<String, String> = read(request).await?;
    match settings::write(&web, &web.salon.pen(&clerk.0), body.into_iter().collect()).await {
        Ok(()) => Ok(Json(json!({ "status": "ok" })).into_response()),
        Err(Unfit::Store(error)) => Err(unavailable(&error)),
        Err(Unfit::Unknown(name)) => {
            Err(say(StatusCode::UNPROCESSABLE_ENTITY, &format!("there is no setting {name:?}")))
        }
        Err(Unfit::Value(name)) => {
            Err(say(StatusCode::UNPROCESSABLE_ENTITY, &format!("the setting {name} has no such value")))
        }
    }
}
