//! Sessions and the LLM server's routes: from `salon.toml`, and from the names that the chat backend used.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use salon::sessions::{Frames, SessionSettings};
use salon_core::Wishes;
use serde::Deserialize;

use super::{Env, MODEL};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FileSessions {
    engine: Option<String>,
    /// Zero keeps them.
    timeout_hours: Option<f64>,
    frames: Option<String>,
    max_tokens: Option<i64>,
    temperature: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FileLlmServer {
    listen: Option<String>,
    embedding_model: Option<String>,
}

pub(super) fn settings(env: &mut Env, file: &FileSessions, llm: &FileLlmServer) -> Result<SessionSettings> {
    let usual = SessionSettings::default();
    let hours = env.number("SESSION_TIMEOUT_HOURS")?.or(file.timeout_hours);
    ensure!(
        hours.is_none_or(|hours| (0.0..=87_600.0).contains(&hours)),
        "SESSION_TIMEOUT_HOURS is between 0 and 87600"
    );
    let timeout = match hours {
        None => usual.timeout,
        Some(hours) => (hours > 0.0).then(|| Duration::from_secs_f64(hours * 3600.0)),
    };
    let frames = match env.text("SESSION_FRAMES").or(file.frames.clone()) {
        None => usual.frames,
        Some(name) => Frames::parse(&name).context("SESSION_FRAMES is token or chunk")?,
    };
    let max_output = match env.number("DEFAULT_MAX_TOKENS")? {
        Some(count) => Some(count),
        None => {
            env.old("MAX_TOKENS", "DEFAULT_MAX_TOKENS").map(|text| text.parse()).transpose().context("MAX_TOKENS")?
        }
    };
    let max_output = max_output.or(file.max_tokens);
    ensure!(max_output.is_none_or(|count: i64| count > 0), "DEFAULT_MAX_TOKENS is above zero");
    let temperature = match env.number("DEFAULT_TEMPERATURE")? {
        Some(degree) => Some(degree),
        None => {
            env.old("TEMPERATURE", "DEFAULT_TEMPERATURE").map(|text| text.parse()).transpose().context("TEMPERATURE")?
        }
    };
    let temperature = temperature.or(file.temperature);
    ensure!(
        temperature.is_none_or(|degree: f64| (0.0..=2.0).contains(&degree)),
        "DEFAULT_TEMPERATURE is between 0 and 2"
    );
    Ok(SessionSettings {
        engine: file.engine.clone().unwrap_or_else(|| MODEL.to_owned()),
        wishes: Wishes { max_output, temperature },
        frames,
        embedder: env.text("EMBEDDING_MODEL").or(llm.embedding_model.clone()),
        timeout,
    })
}

pub(super) fn llm_listen(env: &mut Env, file: &FileLlmServer) -> Result<Option<SocketAddr>> {
    let Some(text) = env.text("SALON_LLM_LISTEN").or(file.listen.clone()) else { return Ok(None) };
    text.parse().map(Some).with_context(|| format!("{text} is no address to listen on, such as 127.0.0.1:8000"))
}

/// Whose pages may read our answers: between commas, or as a JSON list.
pub(super) fn origins(env: &mut Env, file: Option<Vec<String>>) -> Result<Vec<String>> {
    let written = match env.text("CORS_ORIGINS") {
        Some(text) if text.starts_with('[') => serde_json::from_str(&text).context("CORS_ORIGINS is no JSON list")?,
        Some(text) => {
            text.split(',').map(|origin| origin.trim().to_owned()).filter(|origin| !origin.is_empty()).collect()
        }
        None => file.unwrap_or_default(),
    };
    written.iter().map(|origin| checked(origin)).collect()
}

/// One origin and no pattern: whoever lets everybody in lets in the page that is open in the next tab.
fn checked(text: &str) -> Result<String> {
    let origin = text.trim_end_matches('/');
    let wrong =
        || format!("CORS_ORIGINS: {text} is no origin such as https://chat.example.com; patterns and * are not taken");
    let url = reqwest::Url::parse(origin).with_context(wrong)?;
    let whole = url.origin().ascii_serialization();
    ensure!(matches!(url.scheme(), "http" | "https") && whole == origin && !origin.contains('*'), wrong());
    Ok(whole)
}
