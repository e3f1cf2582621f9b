//! Methods about the bot itself: who it is, its commands, and two it should never call.

use serde_json::{Value, json};

use super::messages::{find_chat, refuse_barred};
use super::{ApiError, Ctx, Done};
use crate::params::Params;

/// Command lists of one bot: one for each scope and language.
const COMMAND_LISTS: usize = 1_000;
/// After `logOut` the real server refuses a bot for this long.
const LOGGED_OUT_MS: i64 = 600_000;

pub fn me(ctx: &mut Ctx) -> Result<Done, ApiError> {
    let mut me = ctx.bot().user();
    for (name, value) in [
        ("can_join_groups", true),
        ("can_read_all_group_messages", true),
        ("supports_inline_queries", false),
        ("can_connect_to_business", false),
        ("has_main_web_app", false),
    ] {
        me[name] = json!(value);
    }
    Ok(me.into())
}

pub fn get_chat(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let chat_id = find_chat(ctx, params)?;
    refuse_barred(ctx, chat_id)?;
    let mut chat = ctx.bot().chats.get(&chat_id).map_or(Value::Null, |chat| chat.value());
    chat["accent_color_id"] = json!(0);
    chat["max_reaction_count"] = json!(11);
    // Libraries refuse a chat without these.
    chat["accepted_gift_types"] = json!({
        "unlimited_gifts": false,
        "limited_gifts": false,
        "unique_gifts": false,
        "premium_subscription": false,
        "gifts_from_channels": false,
    });
    Ok(chat.into())
}

pub fn set_commands(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let commands = params.json("commands").map_err(|_| ApiError::bad("can't parse commands JSON object"))?;
    let Some(Value::Array(commands)) = commands else {
        return Err(ApiError::bad("expected an Array of BotCommand"));
    };
    if commands.len() > 100 {
        return Err(ApiError::bad("BOT_COMMANDS_TOO_MUCH"));
    }
    for item in &commands {
        let field = |name: &str| {
            item.get(name)
                .and_then(Value::as_str)
                .ok_or_else(|| ApiError::bad(format!("can't parse BotCommand: Can't find field \"{name}\"")))
        };
        let command = field("command")?.trim_start_matches('/');
        let is_command = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !(1..=32).contains(&command.len()) || !command.chars().all(is_command) {
            return Err(ApiError::bad("BOT_COMMAND_INVALID"));
        }
        if !(1..=256).contains(&field("description")?.chars().count()) {
            return Err(ApiError::bad("BOT_COMMAND_DESCRIPTION_INVALID"));
        }
    }
    let key = command_key(params)?;
    let lists = &mut ctx.bot().commands;
    if lists.len() >= COMMAND_LISTS && !lists.contains_key(&key) {
        return Err(ApiError::bad("BOT_COMMANDS_TOO_MUCH"));
    }
    lists.insert(key, Value::Array(commands));
    ctx.tell("state", None);
    Ok(json!(true).into())
}

pub fn get_commands(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let key = command_key(params)?;
    Ok(ctx.bot().commands.get(&key).cloned().unwrap_or_else(|| json!([])).into())
}

pub fn delete_commands(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let key = command_key(params)?;
    ctx.bot().commands.remove(&key);
    ctx.tell("state", None);
    Ok(json!(true).into())
}

/// The list a call is about: its scope and language.
fn command_key(params: &Params) -> Result<String, ApiError> {
    const SCOPES: [&str; 7] = [
        "default",
        "all_private_chats",
        "all_group_chats",
        "all_chat_administrators",
        "chat",
        "chat_administrators",
        "chat_member",
    ];
    let scope = params.json("scope").map_err(|_| ApiError::bad("can't parse BotCommandScope JSON object"))?;
    let scope = scope.unwrap_or_else(|| json!({"type": "default"}));
    let Value::Object(_) = scope else { return Err(ApiError::bad("BotCommandScope must be an Object")) };
    let kind = scope.get("type").and_then(Value::as_str).unwrap_or_default();
    if !SCOPES.contains(&kind) {
        return Err(ApiError::bad("can't parse BotCommandScope: Unsupported type specified"));
    }
    let language = params.text("language_code");
    if !matches!(language.len(), 0 | 2) {
        return Err(ApiError::bad("invalid language code specified"));
    }
    let part = |name: &str| scope.get(name).map(Value::to_string).unwrap_or_default();
    Ok(format!("{kind}/{}/{}/{language}", part("chat_id"), part("user_id")))
}

pub fn log_out(ctx: &mut Ctx) -> Result<Done, ApiError> {
    let until = ctx.now + ctx.shared.scaled(LOGGED_OUT_MS);
    ctx.bot().logged_out_until = until;
    ctx.state.violate(ctx.now, ctx.token, "log_out", "logOut moves a bot away from its server".to_owned());
    ctx.tell("state", None);
    Ok(json!(true).into())
}

pub fn close(ctx: &mut Ctx) -> Result<Done, ApiError> {
    ctx.state.violate(ctx.now, ctx.token, "close", "close ends the bot's session on its server".to_owned());
    Ok(json!(true).into())
}
