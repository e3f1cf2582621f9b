//! Methods that send, change and remove messages.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ApiError, Ctx, Done, markup};
use crate::entities::{CAPTION_UNITS, Formatted, TEXT_UNITS, format, units};
use crate::params::Params;
use crate::state::{ChatKind, Draft, Message, message_value};

/// How long a draft is shown without being repeated.
const DRAFT_MS: i64 = 30_000;
/// Drafts of one chat at a time.
const DRAFTS: usize = 100;
/// How long a press of a button can be answered.
pub const CALLBACK_MS: i64 = 150_000;
/// How long a message can be deleted.
const DELETE_MS: i64 = 48 * 3_600_000;

const NOT_MODIFIED: &str = "message is not modified: specified new message content and reply markup are exactly the \
                            same as a current content and reply markup of the message";

pub fn send_message(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let body = formatted(params, "text", "entities")?;
    if body.text.is_empty() {
        return Err(ApiError::bad("message text is empty"));
    }
    check_link_preview(params)?;
    let reply_markup = markup::read(params)?;
    let chat_id = find_chat(ctx, params)?;
    refuse_barred(ctx, chat_id)?;
    refuse_long(&body, TEXT_UNITS, "message is too long")?;
    let reply_to = find_reply(ctx, params, chat_id)?;
    let thread_id = find_thread(ctx, params, chat_id, reply_to)?;
    ctx.pace(chat_id)?;
    let mut message = Message::new(true, ctx.now);
    (message.text, message.entities) = (body.text, body.entities);
    (message.reply_markup, message.reply_to, message.thread_id) = (reply_markup, reply_to, thread_id);
    Ok(add(ctx, chat_id, message).into())
}

/// Puts the bot's message into the chat and returns it as the bot sees it.
pub fn add(ctx: &mut Ctx, chat_id: i64, message: Message) -> Value {
    let (now, limit) = (ctx.now, ctx.shared.config.messages_per_chat);
    let bot = ctx.bot();
    let chat = bot.chat(chat_id, now);
    // The message is what the drafts were for.
    chat.drafts.clear();
    let message_id = chat.add(message, limit);
    bot.updated_at = now;
    let value = shown(ctx, chat_id, message_id);
    ctx.tell("timeline", Some(chat_id));
    value
}

pub fn edit_text(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let body = formatted(params, "text", "entities")?;
    if body.text.is_empty() {
        return Err(ApiError::bad("message text is empty"));
    }
    check_link_preview(params)?;
    let reply_markup = markup::read_inline(params)?;
    let (chat_id, message_id) = find_own(ctx, params)?;
    if own(ctx, chat_id, message_id).media.is_some() {
        return Err(ApiError::bad("there is no text in the message to edit"));
    }
    refuse_long(&body, TEXT_UNITS, "message is too long")?;
    edit(ctx, chat_id, message_id, Some(body), reply_markup)
}

pub fn edit_caption(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let body = formatted(params, "caption", "caption_entities")?;
    let reply_markup = markup::read_inline(params)?;
    let (chat_id, message_id) = find_own(ctx, params)?;
    if own(ctx, chat_id, message_id).media.is_none() {
        return Err(ApiError::bad("there is no caption in the message to edit"));
    }
    refuse_long(&body, CAPTION_UNITS, "message caption is too long")?;
    edit(ctx, chat_id, message_id, Some(body), reply_markup)
}

pub fn edit_reply_markup(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let reply_markup = markup::read_inline(params)?;
    let (chat_id, message_id) = find_own(ctx, params)?;
    edit(ctx, chat_id, message_id, None, reply_markup)
}

fn edit(
    ctx: &mut Ctx,
    chat_id: i64,
    message_id: i64,
    body: Option<Formatted>,
    reply_markup: Option<Value>,
) -> Result<Done, ApiError> {
    ctx.pace(chat_id)?;
    let now = ctx.now;
    let message = own(ctx, chat_id, message_id);
    let body = body.unwrap_or_else(|| Formatted { text: message.text.clone(), entities: message.entities.clone() });
    let same_text = message.text == body.text && message.entities == body.entities;
    if same_text && message.reply_markup == reply_markup {
        return Err(ApiError::bad(NOT_MODIFIED));
    }
    (message.text, message.entities, message.reply_markup) = (body.text, body.entities, reply_markup);
    message.updated_at = now;
    message.edits += 1;
    let bot = ctx.bot();
    bot.updated_at = now;
    bot.chat(chat_id, now).updated_at = now;
    ctx.tell("timeline", Some(chat_id));
    Ok(shown(ctx, chat_id, message_id).into())
}

pub fn delete_message(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let chat_id = find_chat(ctx, params)?;
    refuse_barred(ctx, chat_id)?;
    let (now, lasts) = (ctx.now, ctx.shared.scaled(DELETE_MS));
    let chat = ctx.bot().chat(chat_id, now);
    let message_id = params.int("message_id").unwrap_or(0);
    let Some(message) = chat.messages.get(&message_id) else {
        return Err(ApiError::bad("message to delete not found"));
    };
    let may = message.from_bot || chat.kind == ChatKind::Private;
    if !may || now - message.created_at > lasts {
        return Err(ApiError::bad("message can't be deleted"));
    }
    chat.messages.remove(&message_id);
    ctx.tell("timeline", Some(chat_id));
    Ok(json!(true).into())
}

pub fn send_draft(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let body = formatted(params, "text", "entities")?;
    let chat_id = find_chat(ctx, params)?;
    refuse_barred(ctx, chat_id)?;
    let draft_id = params.int("draft_id").filter(|&id| id != 0);
    let Some(draft_id) = draft_id else { return Err(ApiError::bad("RANDOM_ID_INVALID")) };
    let (now, expires_at) = (ctx.now, ctx.now + ctx.shared.scaled(DRAFT_MS));
    let chat = ctx.bot().chat(chat_id, now);
    if chat.kind != ChatKind::Private {
        return Err(ApiError::bad("private chat not found"));
    }
    refuse_long(&body, TEXT_UNITS, "message is too long")?;
    let known = chat.drafts.get(&draft_id).map(|draft| draft.created_at);
    if known.is_none() && chat.drafts.len() >= DRAFTS {
        return Err(ApiError::too_many(1));
    }
    let created_at = known.unwrap_or(now);
    let (text, entities) = (body.text, body.entities);
    chat.drafts.insert(draft_id, Draft { text, entities, created_at, updated_at: now, expires_at });
    ctx.tell("draft", Some(chat_id));
    if known.is_none() {
        forget_draft(ctx, chat_id, draft_id, expires_at);
    }
    Ok(json!(true).into())
}

/// Removes a draft when its time is over; every repetition gives it more.
fn forget_draft(ctx: &Ctx, chat_id: i64, draft_id: i64, mut expires_at: i64) {
    let (shared, token) = (ctx.shared.clone(), ctx.token.to_owned());
    ctx.shared.tasks.spawn(async move {
        loop {
            let end = shared.clock.instant(expires_at) + Duration::from_millis(1);
            tokio::select! {
                () = tokio::time::sleep_until(end) => {}
                () = shared.stop.cancelled() => return,
            }
            let later = shared.change(|state| {
                let chat = state.bots.get_mut(&token)?.chats.get_mut(&chat_id)?;
                let draft = chat.drafts.get(&draft_id)?;
                if draft.expires_at > shared.clock.now() {
                    return Some(draft.expires_at);
                }
                chat.drafts.remove(&draft_id);
                state.tell("draft", &token, Some(chat_id));
                None
            });
            match later {
                Some(later) => expires_at = later,
                None => return,
            }
        }
    });
}

pub fn answer_callback(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let text = params.text("text").into_owned();
    if units(&text) > 200 {
        return Err(ApiError::bad("MESSAGE_TOO_LONG"));
    }
    let (now, lasts) = (ctx.now, ctx.shared.scaled(CALLBACK_MS));
    let id = params.text("callback_query_id");
    let callback = ctx.bot().callbacks.get_mut(id.as_ref());
    let Some(callback) = callback.filter(|callback| now - callback.created_at <= lasts) else {
        return Err(ApiError::bad("query is too old and response timeout expired or query ID is invalid"));
    };
    callback.answered_at.get_or_insert(now);
    callback.text = text;
    callback.show_alert = params.bool("show_alert");
    let chat_id = callback.chat_id;
    ctx.tell("callback", Some(chat_id));
    Ok(json!(true).into())
}

pub fn send_chat_action(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    const ACTIONS: [&str; 13] = [
        "typing",
        "upload_photo",
        "record_video",
        "upload_video",
        "record_voice",
        "upload_voice",
        "record_audio",
        "upload_audio",
        "upload_document",
        "choose_sticker",
        "find_location",
        "record_video_note",
        "upload_video_note",
    ];
    let action = params.text("action").to_ascii_lowercase();
    if !ACTIONS.contains(&action.as_str()) {
        return Err(ApiError::bad("wrong parameter action in request"));
    }
    let chat_id = find_chat(ctx, params)?;
    refuse_barred(ctx, chat_id)?;
    ctx.tell("typing", Some(chat_id));
    Ok(json!(true).into())
}

/// The emoji that may be a reaction.
const REACTIONS: &str = "👍 👎 ❤ 🔥 🥰 👏 😁 🤔 🤯 😱 🤬 😢 🎉 🤩 🤮 💩 🙏 👌 🕊 🤡 🥱 🥴 😍 🐳 ❤‍🔥 🌚 🌭 💯 🤣 ⚡ 🍌 🏆 💔 🤨 😐 🍓 🍾 💋 🖕 😈 😴 😭 🤓 👻 👨‍💻 👀 🎃 🙈 \
                         😇 😨 🤝 ✍ 🤗 🫡 🎅 🎄 ☃ 💅 🤪 🗿 🆒 💘 🙉 🦄 😘 💊 🙊 😎 👾 🤷‍♂ 🤷 🤷‍♀ 😡";

pub fn set_reaction(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let reaction = params.json("reaction").map_err(|_| ApiError::bad("can't parse reaction types JSON object"))?;
    let reactions = match reaction {
        None => Vec::new(),
        Some(Value::Array(reactions)) => reactions,
        Some(_) => return Err(ApiError::bad("expected an Array of ReactionType")),
    };
    for reaction in &reactions {
        let emoji = match reaction.get("type").and_then(Value::as_str) {
            Some("emoji") => reaction.get("emoji").and_then(Value::as_str).unwrap_or_default(),
            Some("custom_emoji" | "paid") => return Err(ApiError::bad("REACTION_INVALID")),
            _ => return Err(ApiError::bad("can't parse ReactionType: invalid reaction type specified")),
        };
        let plain = emoji.trim_end_matches('\u{fe0f}');
        if !REACTIONS.split_whitespace().any(|known| known == plain) {
            return Err(ApiError::bad("REACTION_INVALID"));
        }
    }
    if reactions.len() > 1 {
        return Err(ApiError::bad("REACTIONS_TOO_MANY"));
    }
    let chat_id = find_chat(ctx, params)?;
    refuse_barred(ctx, chat_id)?;
    let (now, message_id) = (ctx.now, params.int("message_id").unwrap_or(0));
    let Some(message) = ctx.bot().chat(chat_id, now).messages.get_mut(&message_id) else {
        return Err(ApiError::bad("message to react not found"));
    };
    message.reactions = reactions;
    ctx.tell("timeline", Some(chat_id));
    Ok(json!(true).into())
}

/// The chat a call is about. A bot knows only chats in which somebody wrote or to which it was added.
pub fn find_chat(ctx: &mut Ctx, params: &Params) -> Result<i64, ApiError> {
    let chat_id = params.text("chat_id");
    if chat_id.trim().is_empty() {
        return Err(ApiError::bad("chat_id is empty"));
    }
    let id = params.int("chat_id").ok_or_else(|| ApiError::bad("chat not found"))?;
    match ctx.bot().chats.get(&id) {
        Some(_) => Ok(id),
        None => Err(ApiError::bad("chat not found")),
    }
}

/// Refuses to touch a chat the bot may not write to.
pub fn refuse_barred(ctx: &mut Ctx, chat_id: i64) -> Result<(), ApiError> {
    let Some(chat) = ctx.bot().chats.get(&chat_id) else { return Ok(()) };
    if let Some(new_id) = chat.migrated_to {
        let parameters = Some(json!({"migrate_to_chat_id": new_id}));
        return Err(ApiError { parameters, ..ApiError::bad("group chat was upgraded to a supergroup chat") });
    }
    match chat.barred.as_deref() {
        None => Ok(()),
        Some("deactivated") => Err(ApiError::forbidden("user is deactivated")),
        Some("left") => Err(ApiError::forbidden(format!("bot is not a member of the {} chat", chat.kind.name()))),
        Some(_) if chat.kind == ChatKind::Private => Err(ApiError::forbidden("bot was blocked by the user")),
        Some(_) => Err(ApiError::forbidden(format!("bot was kicked from the {} chat", chat.kind.name()))),
    }
}

/// The message this call answers to, if it names one.
pub fn find_reply(ctx: &mut Ctx, params: &Params, chat_id: i64) -> Result<Option<i64>, ApiError> {
    let reply =
        params.json("reply_parameters").map_err(|_| ApiError::bad("can't parse reply parameters JSON object"))?;
    let (id, is_optional) = match &reply {
        None => (params.int("reply_to_message_id"), params.bool("allow_sending_without_reply")),
        Some(Value::Object(reply)) => {
            let id = reply.get("message_id").and_then(|id| id.as_i64().or_else(|| id.as_str()?.parse().ok()));
            (id, reply.get("allow_sending_without_reply").and_then(Value::as_bool).unwrap_or(false))
        }
        Some(_) => return Err(ApiError::bad("object expected as reply parameters")),
    };
    let now = ctx.now;
    match id.filter(|&id| id != 0) {
        None => Ok(None),
        Some(id) if ctx.bot().chat(chat_id, now).messages.contains_key(&id) => Ok(Some(id)),
        Some(_) if is_optional => Ok(None),
        Some(_) => Err(ApiError::bad("message to be replied not found")),
    }
}

/// The thread in which a new message will stand. Only topics of a forum may be named; an answer goes where the message
/// stands that it answers, so a closed topic is in its way even if it is not named.
pub fn find_thread(
    ctx: &mut Ctx,
    params: &Params,
    chat_id: i64,
    reply_to: Option<i64>,
) -> Result<Option<i64>, ApiError> {
    let now = ctx.now;
    let chat = ctx.bot().chat(chat_id, now);
    let named = params.int("message_thread_id").filter(|&id| id != 0);
    if named.is_some_and(|id| !chat.topics.contains_key(&id)) {
        return Err(ApiError::bad("message thread not found"));
    }
    let thread = named.or_else(|| chat.thread_of_reply(reply_to));
    match thread.and_then(|id| chat.topics.get(&id)) {
        Some(topic) if topic.closed => Err(ApiError::bad("TOPIC_CLOSED")),
        _ => Ok(thread),
    }
}

/// The bot's own message that a call wants to change.
fn find_own(ctx: &mut Ctx, params: &Params) -> Result<(i64, i64), ApiError> {
    let message_id = params.int("message_id").unwrap_or(0);
    if params.text("chat_id").is_empty() && message_id == 0 {
        let inline = params.text("inline_message_id");
        let what = if inline.is_empty() { "message identifier is not specified" } else { "MESSAGE_ID_INVALID" };
        return Err(ApiError::bad(what));
    }
    let chat_id = find_chat(ctx, params)?;
    refuse_barred(ctx, chat_id)?;
    let now = ctx.now;
    match ctx.bot().chat(chat_id, now).messages.get(&message_id) {
        None => Err(ApiError::bad("message to edit not found")),
        Some(message) if !message.from_bot => Err(ApiError::bad("message can't be edited")),
        Some(_) => Ok((chat_id, message_id)),
    }
}

fn own<'a>(ctx: &'a mut Ctx, chat_id: i64, message_id: i64) -> &'a mut Message {
    let now = ctx.now;
    ctx.bot().chat(chat_id, now).messages.get_mut(&message_id).expect("the message was found under the same lock")
}

fn shown(ctx: &mut Ctx, chat_id: i64, message_id: i64) -> Value {
    let bot = ctx.bot();
    let Some(chat) = bot.chats.get(&chat_id) else { return Value::Null };
    chat.messages.get(&message_id).map_or(Value::Null, |message| message_value(bot, chat, message, true))
}

/// A text parameter with its entities, parsed.
pub fn formatted(params: &Params, text: &str, entities: &str) -> Result<Formatted, ApiError> {
    // The real server ignores entities it cannot read as JSON.
    let given = params.json(entities).ok().flatten();
    format(&params.text(text), &params.text("parse_mode"), given.as_ref())
}

pub fn refuse_long(body: &Formatted, limit: usize, what: &str) -> Result<(), ApiError> {
    if body.units() > limit { Err(ApiError::bad(what)) } else { Ok(()) }
}

fn check_link_preview(params: &Params) -> Result<(), ApiError> {
    match params.json("link_preview_options") {
        Err(_) => Err(ApiError::bad("can't parse link preview options JSON object")),
        Ok(None | Some(Value::Object(_))) => Ok(()),
        Ok(Some(_)) => Err(ApiError::bad("object expected as link preview options")),
    }
}
