//! Keyboards: what `reply_markup` may be.

use serde_json::{Map, Value, json};

use super::ApiError;
use crate::entities::checked_link;
use crate::params::Params;

/// Buttons of one keyboard.
const BUTTONS: usize = 100;
/// Bytes of one markup.
const BYTES: usize = 10_240;
/// What makes an inline button do something, beside `callback_data` and `url`.
const DEEDS: [&str; 9] = [
    "web_app",
    "login_url",
    "switch_inline_query",
    "switch_inline_query_current_chat",
    "switch_inline_query_chosen_chat",
    "copy_text",
    "callback_game",
    "pay",
    "disabled",
];

/// Reads `reply_markup`. Inline keyboards, reply keyboards, their removal and forced replies are known.
pub fn read(params: &Params) -> Result<Option<Value>, ApiError> {
    let markup =
        params.json("reply_markup").map_err(|_| ApiError::bad("can't parse reply keyboard markup JSON object"))?;
    let Some(markup) = markup else { return Ok(None) };
    let Value::Object(object) = &markup else { return Err(ApiError::bad("object expected as reply markup")) };
    if let Some(rows) = object.get("inline_keyboard") {
        return inline(rows);
    }
    if let Some(rows) = object.get("keyboard") {
        let Value::Array(rows) = rows else {
            return Err(ApiError::bad("field \"keyboard\" of the ReplyKeyboardMarkup must be an Array"));
        };
        for button in rows.iter().flat_map(|row| row.as_array().into_iter().flatten()) {
            let text = button.as_str().or_else(|| button.get("text").and_then(Value::as_str));
            if text.is_none_or(str::is_empty) {
                return Err(ApiError::bad("can't parse keyboard button: Can't find field \"text\""));
            }
        }
        return Ok(Some(markup));
    }
    let is_known = ["remove_keyboard", "force_reply"].iter().any(|name| object.contains_key(*name));
    Ok(is_known.then_some(markup))
}

/// The same, where only an inline keyboard makes sense: with an edit.
pub fn read_inline(params: &Params) -> Result<Option<Value>, ApiError> {
    match read(params)? {
        Some(markup) if markup.get("inline_keyboard").is_none() => Err(ApiError::bad("inline keyboard expected")),
        markup => Ok(markup),
    }
}

fn inline(rows: &Value) -> Result<Option<Value>, ApiError> {
    let Value::Array(rows) = rows else {
        return Err(ApiError::bad("field \"inline_keyboard\" of the InlineKeyboardMarkup must be an Array of Arrays"));
    };
    let mut kept = Vec::new();
    let mut count = 0;
    for row in rows {
        let Value::Array(buttons) = row else {
            return Err(ApiError::bad(
                "field \"inline_keyboard\" of the InlineKeyboardMarkup must be an Array of Arrays",
            ));
        };
        let mut kept_row = Vec::new();
        for item in buttons {
            let Value::Object(item) = item else {
                return Err(ApiError::bad(
                    "can't parse inline keyboard button: InlineKeyboardButton must be an Object",
                ));
            };
            button(item)?;
            count += 1;
            kept_row.push(known(item));
        }
        // Empty rows are dropped, as on the real server.
        if !kept_row.is_empty() {
            kept.push(kept_row);
        }
    }
    if kept.is_empty() {
        return Ok(None);
    }
    let markup = json!({"inline_keyboard": kept});
    if count > BUTTONS || markup.to_string().len() > BYTES {
        return Err(ApiError::bad("reply markup is too long"));
    }
    Ok(Some(markup))
}

fn button(item: &Map<String, Value>) -> Result<(), ApiError> {
    let cannot = |why: &str| Err(ApiError::bad(format!("can't parse inline keyboard button: {why}")));
    match item.get("text") {
        None => return cannot("Can't find field \"text\""),
        Some(Value::String(text)) if !text.trim().is_empty() => {}
        Some(Value::String(_)) => return Err(ApiError::bad("inline keyboard button text must be non-empty")),
        Some(_) => return cannot("Field \"text\" must be of type String"),
    }
    if let Some(data) = item.get("callback_data") {
        let Value::String(data) = data else { return cannot("Field \"callback_data\" must be of type String") };
        return if (1..=64).contains(&data.len()) { Ok(()) } else { Err(ApiError::bad("BUTTON_DATA_INVALID")) };
    }
    if let Some(url) = item.get("url") {
        let Value::String(url) = url else { return cannot("Field \"url\" must be of type String") };
        return match checked_link(url) {
            Ok(_) => Ok(()),
            Err(why) => Err(ApiError::bad(format!("inline keyboard button {why}"))),
        };
    }
    if DEEDS.iter().any(|name| item.contains_key(*name)) {
        return Ok(());
    }
    cannot("Text buttons are unallowed in the inline keyboard")
}

/// The button without what Telegram does not know: telegraf, for one, says `hide` to itself there.
fn known(item: &Map<String, Value>) -> Value {
    let is_known = |name: &str| {
        matches!(name, "text" | "icon_custom_emoji_id" | "style" | "callback_data" | "url") || DEEDS.contains(&name)
    };
    Value::Object(item.iter().filter(|(name, _)| is_known(name)).map(|(n, v)| (n.clone(), v.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(markup: Value) -> Result<Option<Value>, String> {
        let object = json!({"reply_markup": markup}).as_object().cloned().unwrap();
        read(&Params::from_object(object)).map_err(|error| error.description)
    }

    #[test]
    fn buttons_need_a_text_and_something_to_do() {
        let one = |button: Value| check(json!({"inline_keyboard": [[button]]}));
        assert!(one(json!({"text": "Stop", "callback_data": "act:1"})).unwrap().is_some());
        assert!(one(json!({"text": "Go", "url": "https://example.com"})).is_ok());
        assert_eq!(one(json!({"text": "Stop", "callback_data": ""})).unwrap_err(), "Bad Request: BUTTON_DATA_INVALID");
        let long = "x".repeat(65);
        assert_eq!(
            one(json!({"text": "Stop", "callback_data": long})).unwrap_err(),
            "Bad Request: BUTTON_DATA_INVALID"
        );
        assert_eq!(
            one(json!({"text": "Stop"})).unwrap_err(),
            "Bad Request: can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard"
        );
        assert_eq!(
            one(json!({"callback_data": "x"})).unwrap_err(),
            "Bad Request: can't parse inline keyboard button: Can't find field \"text\""
        );
        assert_eq!(
            one(json!({"text": "Go", "url": "http://localhost"})).unwrap_err(),
            "Bad Request: inline keyboard button URL 'http://localhost' is invalid: Wrong HTTP URL"
        );
    }

    #[test]
    fn a_button_keeps_only_what_telegram_knows() {
        let row = json!([{"text": "Stop", "callback_data": "act:1", "hide": false, "style": "danger"}]);
        let kept = json!({"inline_keyboard": [[{"text": "Stop", "callback_data": "act:1", "style": "danger"}]]});
        assert_eq!(check(json!({"inline_keyboard": [row, []]})).unwrap(), Some(kept));
    }

    #[test]
    fn other_markups_are_taken_and_nonsense_is_not() {
        assert!(check(json!({"keyboard": [["Yes", {"text": "No"}]]})).unwrap().is_some());
        assert!(check(json!({"remove_keyboard": true})).unwrap().is_some());
        assert!(check(json!({"force_reply": true})).unwrap().is_some());
        assert_eq!(check(json!({"inline_keyboard": []})).unwrap(), None);
        assert_eq!(check(json!("{")).unwrap_err(), "Bad Request: can't parse reply keyboard markup JSON object");
        assert_eq!(check(json!([1])).unwrap_err(), "Bad Request: object expected as reply markup");
        let many: Vec<_> = (0..101).map(|_| json!([{"text": "x", "callback_data": "y"}])).collect();
        assert_eq!(check(json!({"inline_keyboard": many})).unwrap_err(), "Bad Request: reply markup is too long");
    }
}
