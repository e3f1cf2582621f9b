//! `setWebhook`, `deleteWebhook` and `getWebhookInfo`.

use std::net::IpAddr;

use serde_json::json;

use super::updates::allow_updates;
use super::{ApiError, Ctx, Done};
use crate::deliver;
use crate::params::Params;
use crate::state::Webhook;

/// A bot may set its webhook once in this time.
const SET_MS: i64 = 1_000;

pub fn set(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let url = params.text("url").trim().to_owned();
    if url.is_empty() {
        return delete(ctx, params);
    }
    let secret_token = params.text("secret_token").into_owned();
    if secret_token.len() > 256 {
        return Err(ApiError::bad("secret token is too long"));
    }
    if !secret_token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        return Err(ApiError::bad("secret token contains unallowed characters"));
    }
    let parsed = reqwest::Url::parse(&url).ok();
    let Some(parsed) = parsed.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) else {
        return Err(ApiError::bad("invalid webhook URL specified"));
    };
    let (now, pause) = (ctx.now, ctx.shared.scaled(SET_MS));
    let bot = ctx.bot();
    if now < bot.set_webhook_at + pause {
        return Err(ApiError::too_many(1));
    }
    bot.set_webhook_at = now;
    let generation = bot.webhook_generation;
    let webhook = Webhook {
        url,
        secret_token,
        max_connections: params.int("max_connections").filter(|&n| n > 0).unwrap_or(40).min(100),
        ip_address: parsed.host_str().unwrap_or_default().to_owned(),
        has_certificate: params.upload("certificate").is_some(),
        generation,
        ..Webhook::default()
    };
    let drops = params.bool("drop_pending_updates");
    let same = bot.webhook.as_ref().is_some_and(|old| {
        let same_address = old.url == webhook.url && old.secret_token == webhook.secret_token;
        same_address
            && old.max_connections == webhook.max_connections
            && !old.has_certificate
            && !webhook.has_certificate
    });
    allow_updates(bot, params);
    if same && !drops {
        return Ok(Done { result: json!(true), description: Some("Webhook is already set") });
    }
    bot.webhook_generation = generation + 1;
    bot.webhook = Some(Webhook { generation: generation + 1, ..webhook });
    bot.queues.clear();
    bot.poll.ended_by_webhook = bot.poll.number;
    if drops {
        drop_pending(ctx, "setWebhook");
    }
    ctx.bot().wake.notify_waiters();
    deliver::start(ctx.shared, ctx.token, generation + 1);
    ctx.tell("state", None);
    Ok(Done { result: json!(true), description: Some("Webhook was set") })
}

pub fn delete(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let drops = params.bool("drop_pending_updates");
    if drops {
        drop_pending(ctx, "deleteWebhook");
    }
    let bot = ctx.bot();
    let was_set = bot.webhook.take().is_some();
    bot.queues.clear();
    bot.wake.notify_waiters();
    ctx.tell("state", None);
    let description = if was_set || drops { "Webhook was deleted" } else { "Webhook is already deleted" };
    Ok(Done { result: json!(true), description: Some(description) })
}

fn drop_pending(ctx: &mut Ctx, method: &str) {
    let count = std::mem::take(&mut ctx.bot().pending).len();
    let detail = format!("{method} dropped {count} pending updates");
    ctx.state.violate(ctx.now, ctx.token, "drop_pending_updates", detail);
}

pub fn info(ctx: &mut Ctx) -> Result<Done, ApiError> {
    let now = ctx.now;
    let bot = ctx.bot();
    bot.expire(now);
    let webhook = bot.webhook.clone().unwrap_or_default();
    let mut info = json!({
        "url": webhook.url,
        "has_custom_certificate": webhook.has_certificate,
        "pending_update_count": bot.pending.len(),
    });
    if !webhook.url.is_empty() {
        info["max_connections"] = json!(webhook.max_connections);
    }
    if webhook.ip_address.parse::<IpAddr>().is_ok() {
        info["ip_address"] = json!(webhook.ip_address);
    }
    if let (Some(at), Some(error)) = (webhook.last_error_at, &webhook.last_error) {
        info["last_error_date"] = json!(at / 1000);
        info["last_error_message"] = json!(error);
    }
    if !bot.allowed_updates.is_empty() {
        info["allowed_updates"] = json!(bot.allowed_updates);
    }
    Ok(info.into())
}
