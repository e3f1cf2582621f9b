//! Documents, photos and voice messages, and how a bot fetches what people sent.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Response;
use serde_json::json;

use super::messages::{add, find_chat, find_reply, find_thread, formatted, refuse_barred, refuse_long};
use super::{ApiError, Ctx, Done, markup, reply, token_of};
use crate::entities::CAPTION_UNITS;
use crate::params::{Params, Upload};
use crate::state::{File, Media, MediaKind, Message, Shared};

/// What a bot may upload, and what it may fetch.
const DOCUMENT_BYTES: usize = 50 << 20;
const PHOTO_BYTES: usize = 10 << 20;
const FETCH_BYTES: usize = 20 << 20;

/// Sends the file in parameter `name`, which is also the kind of message.
pub fn send(ctx: &mut Ctx, params: &Params, name: &'static str) -> Result<Done, ApiError> {
    let caption = formatted(params, "caption", "caption_entities")?;
    let reply_markup = markup::read(params)?;
    let kind = match name {
        "photo" => MediaKind::Photo,
        "voice" => MediaKind::Voice,
        _ => MediaKind::Document,
    };
    let source = source(ctx, params, name, kind)?;
    let chat_id = find_chat(ctx, params)?;
    refuse_barred(ctx, chat_id)?;
    refuse_long(&caption, CAPTION_UNITS, "message caption is too long")?;
    let reply_to = find_reply(ctx, params, chat_id)?;
    let thread_id = find_thread(ctx, params, chat_id, reply_to)?;
    ctx.pace(chat_id)?;
    let now = ctx.now;
    let file = match source {
        Source::Known(id) => id,
        Source::New(upload) => {
            let message_id = ctx.bot().chat(chat_id, now).last_message_id + 1;
            keep(ctx, chat_id, message_id, &upload)
        }
    };
    let mut message = Message::new(true, now);
    (message.text, message.entities) = (caption.text, caption.entities);
    (message.reply_markup, message.reply_to, message.thread_id) = (reply_markup, reply_to, thread_id);
    message.media = Some(Media { kind, file });
    let value = add(ctx, chat_id, message);
    ctx.state.trim_files(ctx.shared.config.file_bytes);
    Ok(value.into())
}

enum Source {
    Known(u64),
    New(Upload),
}

fn source(ctx: &mut Ctx, params: &Params, name: &str, kind: MediaKind) -> Result<Source, ApiError> {
    let Some(upload) = params.upload(name) else {
        let text = params.text(name);
        if text.is_empty() || text.starts_with("attach://") {
            return Err(ApiError::bad(format!("there is no {name} in the request")));
        }
        let known = ctx.bot().files.values().find(|file| file.file_id() == text).map(|file| file.id);
        // The mock fetches nothing: a URL is as wrong as an unknown id.
        let wrong = || ApiError::bad("wrong file identifier/HTTP URL specified");
        return known.map(Source::Known).ok_or_else(wrong);
    };
    if upload.bytes.is_empty() {
        return Err(ApiError::bad("file must be non-empty"));
    }
    if upload.bytes.len() > DOCUMENT_BYTES {
        return Err(ApiError::new(413, "Request Entity Too Large"));
    }
    if kind == MediaKind::Photo {
        if upload.bytes.len() > PHOTO_BYTES {
            return Err(ApiError::bad("file is too big for a photo"));
        }
        if measure(&upload.bytes).is_none() {
            return Err(ApiError::bad("IMAGE_PROCESS_FAILED"));
        }
    }
    Ok(Source::New(upload.clone()))
}

/// Stores an upload and returns its id.
pub fn keep(ctx: &mut Ctx, chat_id: i64, message_id: i64, upload: &Upload) -> u64 {
    ctx.state.next_file += 1;
    let id = ctx.state.next_file;
    let (width, height) = measure(&upload.bytes).unwrap_or((0, 0));
    let file = File {
        id,
        chat_id,
        message_id,
        name: safe_name(&upload.name),
        media_type: media_type(&upload.name, &upload.bytes).to_owned(),
        size: upload.bytes.len(),
        created_at: ctx.now,
        width,
        height,
        bytes: Arc::new(upload.bytes.to_vec()),
        saved: false,
        forgotten: false,
    };
    ctx.bot().files.insert(id, file);
    id
}

pub fn get_file(ctx: &mut Ctx, params: &Params) -> Result<Done, ApiError> {
    let file_id = params.text("file_id");
    if file_id.is_empty() {
        return Err(ApiError::bad("file_id not specified"));
    }
    let bot = ctx.bot();
    let Some(file) = bot.files.values().find(|file| file.file_id() == file_id) else {
        return Err(ApiError::bad("invalid file_id"));
    };
    if file.size > FETCH_BYTES {
        return Err(ApiError::bad("file is too big"));
    }
    if file.forgotten {
        return Err(ApiError::bad("wrong file_id or the file is temporarily unavailable"));
    }
    let value = json!({
        "file_id": file.file_id(),
        "file_unique_id": format!("mock-{}-{}", bot.token, file.message_id),
        "file_size": file.size,
        "file_path": file_path(file),
    });
    Ok(value.into())
}

/// Where a bot downloads a file, below `/file/bot<token>/`.
pub fn file_path(file: &File) -> String {
    let folder = if file.is_image() { "photos" } else { "documents" };
    let extension = file.name.rsplit_once('.').map_or("bin", |(_, extension)| extension);
    let plain: String = extension.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    format!("{folder}/file_{}.{plain}", file.id)
}

/// Serves `/file/bot<token>/<path>`.
pub fn download(shared: &Shared, rest: &str) -> Result<Response<Body>, ApiError> {
    let not_found = || ApiError::new(404, "Not Found");
    let (token, path) = rest.split_once('/').ok_or_else(not_found)?;
    let token = token_of(token)?;
    let state = shared.lock();
    let bot = state.bots.get(&token).ok_or_else(not_found)?;
    let file = bot.files.values().find(|file| file_path(file) == path && !file.forgotten).ok_or_else(not_found)?;
    Ok(reply(200, "application/octet-stream", file.bytes.as_ref().clone()))
}

/// A file name without a path and without anything a header could not carry.
fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last.chars().filter(|c| !c.is_control() && *c != '"').take(128).collect();
    match plain.trim_matches(['.', ' ']) {
        "" => "file".to_owned(),
        name => name.to_owned(),
    }
}

/// The media type by contents for pictures and by the name for the rest; what a client claims does not count.
pub fn media_type(name: &str, bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => return "image/png",
        [0xff, 0xd8, 0xff, ..] => return "image/jpeg",
        [b'G', b'I', b'F', b'8', ..] => return "image/gif",
        [b'B', b'M', ..] if bytes.len() > 26 => return "image/bmp",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => return "image/webp",
        [b'O', b'g', b'g', b'S', ..] => return "audio/ogg",
        _ => {}
    }
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default();
    match extension.as_str() {
        "svg" => "image/svg+xml",
        "html" | "htm" => "text/html",
        "txt" | "md" | "log" | "csv" => "text/plain",
        "json" => "application/json",
        "pdf" => "application/pdf",
        "ogg" | "oga" | "opus" => "audio/ogg",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        _ => "application/octet-stream",
    }
}

/// Width and height of a picture Telegram would take as a photo; `None` if it is none.
pub fn measure(bytes: &[u8]) -> Option<(u32, u32)> {
    let big = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let little = |at: usize| Some(u32::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    match media_type("", bytes) {
        "image/png" => Some((big(16)?, big(20)?)),
        "image/gif" => Some((little(6)?, little(8)?)),
        "image/bmp" => Some((little(18)?, little(22)?)),
        "image/jpeg" => Some(jpeg_size(bytes).unwrap_or((320, 240))),
        "image/webp" => Some((320, 240)),
        _ => None,
    }
}

/// Walks the segments of a JPEG to its frame header.
fn jpeg_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    let mut at = 2;
    loop {
        let marker = *bytes.get(at + 1)?;
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            return Some((number(at + 7)?, number(at + 5)?));
        }
        at += 2 + usize::try_from(number(at + 2)?).ok()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_path_and_types_come_from_the_contents() {
        assert_eq!(safe_name("../../etc/passwd"), "passwd");
        assert_eq!(safe_name("a\"b\r\n.txt"), "ab.txt");
        assert_eq!(safe_name(".."), "file");
        assert_eq!(media_type("x.html", b"\x89PNG\r\n"), "image/png");
        assert_eq!(media_type("x.HTML", b"<html>"), "text/html");
        assert_eq!(media_type("x", b"text"), "application/octet-stream");
    }

    #[test]
    fn pictures_are_measured() {
        let png = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[0, 0, 0, 3, 0, 0, 0, 4]].concat();
        assert_eq!(measure(&png), Some((3, 4)));
        let jpeg = [0xff, 0xd8, 0xff, 0xe0, 0, 4, 0, 0, 0xff, 0xc0, 0, 11, 8, 0, 5, 0, 6];
        assert_eq!(measure(&jpeg), Some((6, 5)));
        assert_eq!(measure(b"not a picture"), None);
        assert_eq!(measure(b"\x89PNG"), None);
    }
}
