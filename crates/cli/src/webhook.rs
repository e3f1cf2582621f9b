//! `salon webhook`: what Telegram knows of a bot's webhook.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use salon_bots::fleet::client;
use salon_bots::roster::{self, BotConfig};
use salon_telegram::types::SetWebhook;
use salon_telegram::{CallError, Class};

use crate::config::Config;

/// A pause that somebody at a terminal waits for.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

pub async fn set(config: &Config, bot: Option<&str>) -> Result<()> {
    let bot = find(config, bot)?;
    let roster::Intake::Webhook { public_url } = &bot.intake else {
        bail!("bot {} has no webhook.public_url in {}", bot.id, config.bots_file.display());
    };
    let secrets = bot.secrets.as_ref().context("a webhook needs path_secret and secret_token")?;
    let url = format!("{public_url}/telegram/webhook/{}/{}", bot.id, secrets.path);
    let (client, webhook) = (client(&bot)?, SetWebhook::new(url, &secrets.header));
    patiently(async || client.set_webhook(&webhook).await).await?;
    println!("Telegram posts the updates of {} to {public_url}/telegram/webhook/{}/…", bot.id, bot.id);
    Ok(())
}

pub async fn delete(config: &Config, bot: Option<&str>) -> Result<()> {
    let bot = find(config, bot)?;
    let client = client(&bot)?;
    patiently(async || client.delete_webhook().await).await?;
    println!("{} has no webhook any more. What waits at Telegram keeps waiting.", bot.id);
    Ok(())
}

pub async fn info(config: &Config, bot: Option<&str>) -> Result<()> {
    let bot = find(config, bot)?;
    let info = client(&bot)?.get_webhook_info().await?;
    let secret = bot.secrets.as_ref().map(|secrets| secrets.path.as_str()).unwrap_or_default();
    let url = if secret.is_empty() { info.url.clone() } else { info.url.replace(secret, "…") };
    println!("webhook: {}", if url.is_empty() { "none" } else { &url });
    println!("waiting updates: {}", info.pending_update_count);
    if let Some(error) = info.last_error_message {
        println!("last error: {error}");
    }
    Ok(())
}

/// Calls once more if Telegram wants a pause first: it does when a webhook is changed twice within a second.
async fn patiently(call: impl AsyncFn() -> Result<(), CallError>) -> Result<(), CallError> {
    let outcome = call().await;
    match outcome.as_ref().map_err(CallError::class) {
        Err(Class::RateLimited(pause)) if pause <= LONGEST_PAUSE => {
            println!("Telegram wants a pause of {} s.", pause.as_secs());
            tokio::time::sleep(pause).await;
            call().await
        }
        _ => outcome,
    }
}

/// The named bot, or the only one.
fn find(config: &Config, id: Option<&str>) -> Result<BotConfig> {
    let mut bots = roster::read(&config.bots_file, &config.around)?;
    match id {
        Some(id) => bots.into_iter().find(|bot| bot.id.as_str() == id).with_context(|| format!("there is no bot {id}")),
        None if bots.is_empty() => bail!("there is no bot in {}", config.bots_file.display()),
        None if bots.len() == 1 => Ok(bots.remove(0)),
        None => bail!("say which bot: --bot NAME"),
    }
}
