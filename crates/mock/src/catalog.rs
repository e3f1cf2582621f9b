//! The bots of `bots.yaml`, for the page's side bar: it can be listed, and bots can be added and deleted.
//!
//! Fields this module does not know are kept. Comments are not: the file is written anew, by an atomic rename.

use std::path::Path;

use axum::extract::State;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use crate::control::{Answer, ControlError, Controls, read, result};

/// What a bot of the catalog may answer with.
const ADAPTERS: [&str; 7] = ["echo", "parrot", "storyteller", "model", "codex", "gemini", "claude"];
const DEFAULT_ADAPTER: &str = "gemini";
/// Bots of one catalog.
const BOTS: usize = 1000;

/// Readers and writers of the file take turns, or two additions at once would lose one.
static TURN: Mutex<()> = Mutex::const_new(());

pub async fn list(State(controls): State<Controls>) -> Answer {
    result(json!({"bots": entries(&controls).await}))
}

/// The bots as the page shows them; a missing or unreadable file has none.
pub async fn entries(controls: &Controls) -> Vec<Value> {
    let _turn = TURN.lock().await;
    let bots = load(controls).await.map(|file| bots_of(&file)).unwrap_or_default();
    bots.iter().enumerate().map(|(index, bot)| entry(controls, index, bot)).collect()
}

pub async fn add(State(controls): State<Controls>, body: Bytes) -> Answer {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Add {
        bot_id: Option<String>,
        token: Option<String>,
        name: Option<String>,
        adapter: Option<String>,
    }
    let asked: Add = read(&body)?;
    let adapter = asked.adapter.unwrap_or_else(|| DEFAULT_ADAPTER.to_owned());
    if !ADAPTERS.contains(&adapter.as_str()) {
        return Err(ControlError::invalid(format!("adapter is one of {}", ADAPTERS.join(", "))));
    }
    for word in [&asked.bot_id, &asked.token, &asked.name].into_iter().flatten() {
        if word.len() > 128 || word.chars().any(char::is_control) {
            return Err(ControlError::invalid("ids, tokens and names have at most 128 printable characters"));
        }
    }
    let path = path(&controls)?.to_owned();
    let _turn = TURN.lock().await;
    let mut file = load(&controls).await?;
    let bots = bots_of(&file);
    if bots.len() >= BOTS {
        return Err(ControlError::invalid(format!("the catalog already has {BOTS} bots")));
    }
    let shown: Vec<Value> = bots.iter().enumerate().map(|(index, bot)| entry(&controls, index, bot)).collect();
    let is_taken = |field: &str, value: &str| shown.iter().any(|bot| bot[field] == value);
    let is_id = |id: &str| {
        !id.is_empty()
            && id.len() <= 64
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let free = |field: &str, stem: &str| {
        (1..).map(|n| format!("{stem}{n}")).find(|name| !is_taken(field, name)).unwrap_or_default()
    };
    let bot_id =
        asked.bot_id.filter(|id| is_id(id) && !is_taken("bot_id", id)).unwrap_or_else(|| free("bot_id", "bot-"));
    let well_formed = |token: &String| crate::api::token_of(token).is_ok() && !is_taken("token", token);
    let token = asked.token.filter(well_formed).unwrap_or_else(|| free("token", "mock_token_"));
    let name = asked.name.filter(|name| !name.trim().is_empty());
    let name = name.unwrap_or_else(|| format!("Bot {}", bot_id.rsplit_once('-').map_or(bot_id.as_str(), |(_, n)| n)));
    let bot = json!({
        "bot_id": bot_id,
        "name": name,
        "mode": "embedded",
        "telegram_token": token,
        "adapter": adapter,
        "webhook": {"path_secret": secret(), "secret_token": secret(), "public_url": ""},
    });
    let list = file.as_object_mut().map(|root| root.entry("bots").or_insert_with(|| json!([])));
    let Some(list) = list else { return Err(ControlError::invalid("the bots file is no mapping")) };
    if !list.is_array() {
        *list = json!([]);
    }
    let total = list.as_array_mut().map_or(0, |list| {
        list.push(bot.clone());
        list.len()
    });
    save(&path, &file).await?;
    controls.0.change(|state| state.tell("catalog", "", None));
    result(json!({"bot": entry(&controls, total.saturating_sub(1), &bot), "total_bots": total}))
}

pub async fn delete(State(controls): State<Controls>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Delete {
        bot_id: String,
    }
    let Delete { bot_id } = read(&body)?;
    let path = path(&controls)?.to_owned();
    let _turn = TURN.lock().await;
    let mut file = load(&controls).await?;
    let index = bots_of(&file).iter().enumerate().position(|(index, bot)| id_of(index, bot) == bot_id);
    let list = file.get_mut("bots").and_then(Value::as_array_mut);
    let (Some(index), Some(list)) = (index, list) else {
        return Err(ControlError::not_found(format!("unknown bot_id: {bot_id}")));
    };
    list.remove(index);
    let total = list.len();
    save(&path, &file).await?;
    controls.0.change(|state| state.tell("catalog", "", None));
    result(json!({"deleted_bot_id": bot_id, "total_bots": total}))
}

fn path(controls: &Controls) -> Result<&Path, ControlError> {
    let path = controls.0.config.bots_config.as_deref();
    path.ok_or_else(|| ControlError::invalid("this mock was started without a bots file"))
}

/// The file as it is; one that does not exist yet is empty.
async fn load(controls: &Controls) -> Result<Value, ControlError> {
    let path = path(controls)?;
    let text = match tokio::fs::read_to_string(path).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(json!({"bots": []})),
        Err(error) => return Err(ControlError::invalid(format!("can't read the bots file: {error}"))),
    };
    if text.trim().is_empty() {
        return Ok(json!({"bots": []}));
    }
    match serde_saphyr::from_str::<Value>(&text) {
        Ok(Value::Null) => Ok(json!({"bots": []})),
        Ok(file) => Ok(file),
        // Nothing may be written over a file that could not be understood.
        Err(_) => Err(ControlError::invalid("the bots file is not valid YAML")),
    }
}

async fn save(path: &Path, file: &Value) -> Result<(), ControlError> {
    let failed = |error: &dyn std::fmt::Display| ControlError {
        status: 500,
        description: format!("can't write the bots file: {error}"),
    };
    let text = serde_saphyr::to_string(file).map_err(|error| failed(&error))?;
    crate::persist::replace(path, text.into_bytes()).await.map_err(|error| failed(&error))
}

fn bots_of(file: &Value) -> Vec<Value> {
    file.get("bots").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn text<'a>(bot: &'a Value, field: &str) -> Option<&'a str> {
    bot.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn id_of(index: usize, bot: &Value) -> String {
    text(bot, "bot_id").map_or_else(|| format!("bot-{}", index + 1), str::to_owned)
}

/// One bot in the shape of the control API.
fn entry(controls: &Controls, index: usize, bot: &Value) -> Value {
    let config = &controls.0.config;
    let bot_id = id_of(index, bot);
    let mode = text(bot, "mode").unwrap_or("embedded");
    // An empty token and the placeholder both stand for the virtual one.
    let token = text(bot, "telegram_token").filter(|token| *token != "TELEGRAM_BOT_TOKEN");
    let token = token.unwrap_or(&config.virtual_token);
    let empty = Value::Object(Map::new());
    let webhook = bot.get("webhook").unwrap_or(&empty);
    let model = |adapter: &str| bot.get(adapter).and_then(|settings| text(settings, "model"));
    json!({
        "bot_id": bot_id,
        "name": text(bot, "name").map_or_else(|| format!("Bot {}", index + 1), str::to_owned),
        "mode": mode,
        "token": token,
        "token_masked": masked(token),
        "default_adapter": text(bot, "adapter").unwrap_or(DEFAULT_ADAPTER),
        "default_models": {"codex": model("codex"), "gemini": model("gemini"), "claude": model("claude")},
        "embedded_url": if mode == "embedded" { config.embedded_url.as_deref() } else { None },
        "webhook": {
            "path_secret": text(webhook, "path_secret").map_or_else(|| format!("{bot_id}-path"), str::to_owned),
            "secret_token": text(webhook, "secret_token").map_or_else(|| format!("{bot_id}-secret"), str::to_owned),
            "public_url": text(webhook, "public_url"),
        },
    })
}

fn masked(token: &str) -> String {
    let characters: Vec<char> = token.chars().collect();
    if characters.len() <= 8 {
        return "*".repeat(characters.len());
    }
    let (head, tail) = (&characters[..4], &characters[characters.len() - 4..]);
    format!("{}***{}", head.iter().collect::<String>(), tail.iter().collect::<String>())
}

/// A webhook secret that nobody can guess: whoever reads the list refuses one that is made of the bot's name.
fn secret() -> String {
    use std::hash::{BuildHasher, RandomState};
    // Keyed by the system's randomness; each state is a key of its own.
    (0..4u8).map(|n| format!("{:016x}", RandomState::new().hash_one(n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_by_its_ends_only() {
        assert_eq!(masked("mock_token_1"), "mock***en_1");
        assert_eq!(masked("short"), "*****");
    }
}
