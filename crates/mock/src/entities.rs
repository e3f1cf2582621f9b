//! Formatted text: how a text and its entities become what a chat shows, or are refused.
//!
//! Offsets and lengths of entities count UTF-16 code units; positions in parse errors are byte offsets into the text as
//! it was sent. A text is measured after parsing and trimming.

mod html;
mod link;
mod markdown;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::ApiError;

pub use link::checked_link;
use link::linked_user;

/// The longest text before parsing, in bytes.
const RAW_BYTES: usize = 1 << 15;
/// The longest message, in UTF-16 code units. The real server counts code points, which is never stricter.
pub const TEXT_UNITS: usize = 4096;
/// The longest caption, in UTF-16 code units.
pub const CAPTION_UNITS: usize = 1024;

/// One formatted range, in Telegram's own shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    #[serde(rename = "type")]
    pub kind: String,
    pub offset: i64,
    pub length: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_emoji_id: Option<String>,
}

impl Entity {
    fn new(kind: &str, offset: i64, length: i64) -> Entity {
        Entity { kind: kind.to_owned(), offset, length, ..Entity::default() }
    }

    fn end(&self) -> i64 {
        self.offset + self.length
    }

    /// Entities that may be cut in pieces; all others are kept whole or dropped.
    fn is_splittable(&self) -> bool {
        matches!(self.kind.as_str(), "bold" | "italic" | "underline" | "strikethrough" | "spoiler")
    }

    fn is_quote(&self) -> bool {
        matches!(self.kind.as_str(), "blockquote" | "expandable_blockquote")
    }

    /// Nothing else may be inside code.
    fn is_code(&self) -> bool {
        matches!(self.kind.as_str(), "code" | "pre")
    }

    fn rank(&self) -> u8 {
        match self.kind.as_str() {
            "blockquote" | "expandable_blockquote" => 0,
            "pre" => 1,
            "code" => 2,
            "bold" => 4,
            "italic" => 5,
            "underline" => 6,
            "strikethrough" => 7,
            "spoiler" => 8,
            "custom_emoji" => 9,
            _ => 3,
        }
    }

    fn meets(&self, other: &Entity) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }

    fn contains(&self, other: &Entity) -> bool {
        self.offset <= other.offset && other.end() <= self.end()
    }
}

/// A text as a chat shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formatted {
    pub text: String,
    pub entities: Vec<Entity>,
}

impl Formatted {
    pub fn units(&self) -> usize {
        units(&self.text)
    }
}

/// The length of a text in UTF-16 code units.
pub fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// Parses, validates and cleans a text as the real server does before it sends it. An empty result is not an error
/// here: a caption may be empty.
pub fn format(text: &str, parse_mode: &str, entities: Option<&Value>) -> Result<Formatted, ApiError> {
    if text.len() > RAW_BYTES {
        return Err(ApiError::bad("text is too long"));
    }
    let cannot = |why: String| ApiError::bad(format!("can't parse entities: {why}"));
    let mode = parse_mode.to_ascii_lowercase();
    let (text, entities) = match mode.as_str() {
        _ if text.is_empty() => (String::new(), Vec::new()),
        "" | "none" => (text.to_owned(), given(entities)?),
        "html" => html::parse(text).map_err(cannot)?,
        "markdownv2" => markdown::parse_v2(text).map_err(cannot)?,
        "markdown" => markdown::parse_v1(text).map_err(cannot)?,
        _ => return Err(ApiError::bad("unsupported parse_mode")),
    };
    clean(&text, entities)
}

/// What a chat would show of a message's text with its entities, as JSON, or the words with which the server would refuse
/// it. The rules of `sendMessage` without a server, for tests that try a hundred thousand texts.
pub fn shown(text: &str, entities: &Value) -> Result<String, String> {
    let body = format(text, "", Some(entities)).map_err(|error| error.description)?;
    if body.text.is_empty() {
        return Err("Bad Request: message text is empty".to_owned());
    }
    if body.units() > TEXT_UNITS {
        return Err("Bad Request: message is too long".to_owned());
    }
    Ok(body.text)
}

/// The entities of a user's text that Telegram finds by itself: commands, mentions, hashtags and links.
pub fn detect(text: &str) -> Vec<Entity> {
    let mut found = Vec::new();
    let mut offset = 0i64;
    let mut previous = ' ';
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match word_at(rest, previous) {
            Some((kind, length)) => {
                let word = &rest[..length];
                found.push(Entity::new(kind, offset, int(units(word))));
                word
            }
            None => &rest[..first.len_utf8()],
        };
        offset += int(units(taken));
        previous = taken.chars().next_back().unwrap_or(' ');
        rest = &rest[taken.len()..];
    }
    found
}

/// What begins here, and its length in bytes.
fn word_at(rest: &str, previous: char) -> Option<(&'static str, usize)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if is_word(previous) || matches!(previous, '/' | '@' | '#') {
        return None;
    }
    let name_length = |text: &str| text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    if let Some(name) = rest.strip_prefix('/') {
        let length = name_length(name);
        if !(1..=64).contains(&length) || matches!(name[length..].chars().next(), Some('/')) {
            return None;
        }
        let at = name[length..].strip_prefix('@').map_or(0, |bot| match name_length(bot) {
            n @ 3..=32 => n + 1,
            _ => 0,
        });
        return Some(("bot_command", 1 + length + at));
    }
    if let Some(name) = rest.strip_prefix('@') {
        let length = name_length(name);
        return (3..=32).contains(&length).then_some(("mention", 1 + length));
    }
    if let Some(tag) = rest.strip_prefix('#') {
        let length = tag.find(|c: char| !is_word(c)).unwrap_or(tag.len());
        let has_letter = tag[..length].chars().any(char::is_alphabetic);
        return (has_letter && tag[..length].chars().count() <= 256).then_some(("hashtag", 1 + length));
    }
    if rest.starts_with("http://") || rest.starts_with("https://") {
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"')).unwrap_or(rest.len());
        let url = rest[..end].trim_end_matches(['.', ',', ';', ':', '!', '?', ')', '\'']);
        return checked_link(url).is_ok().then_some(("url", url.len()));
    }
    None
}

/// Reads the `entities` parameter.
fn given(entities: Option<&Value>) -> Result<Vec<Entity>, ApiError> {
    let Some(Value::Array(items)) = entities else { return Ok(Vec::new()) };
    let mut read = Vec::new();
    for item in items {
        match entity(item) {
            Ok(Some(entity)) => read.push(entity),
            Ok(None) => {}
            Err(why) => return Err(ApiError::bad(format!("can't parse MessageEntity: {why}"))),
        }
    }
    read.into_iter().map(check_link).collect()
}

fn check_link(mut entity: Entity) -> Result<Entity, ApiError> {
    if entity.kind == "text_link" {
        let url = entity.url.take().unwrap_or_default();
        if let Some(id) = linked_user(&url) {
            let user = Some(serde_json::json!({"id": id}));
            return Ok(Entity { kind: "text_mention".to_owned(), user, ..entity });
        }
        entity.url = Some(checked_link(&url).map_err(|why| ApiError::bad(format!("entity {why}")))?);
    }
    Ok(entity)
}

/// One item of the `entities` parameter; `None` for the kinds the server finds by itself.
fn entity(item: &Value) -> Result<Option<Entity>, String> {
    let Value::Object(object) = item else { return Err("expected an Object".to_owned()) };
    let number = |name: &str| match object.get(name) {
        None => Err(format!("Can't find field \"{name}\"")),
        Some(value) => value
            .as_i64()
            .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
            .ok_or_else(|| format!("Field \"{name}\" must be of type Number")),
    };
    let word = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("Field \"{name}\" must be of type String")),
    };
    let (offset, length) = (number("offset")?, number("length")?);
    let kind = word("type")?.ok_or("Can't find field \"type\"")?;
    let mut entity = Entity::new(&kind, offset, length);
    match kind.as_str() {
        "" => return Err("Type is not specified".to_owned()),
        "bold" | "italic" | "underline" | "strikethrough" | "spoiler" | "code" => {}
        "blockquote" | "expandable_blockquote" | "date_time" => {}
        "pre" => entity.language = word("language")?.filter(|language| !language.is_empty()),
        "text_link" => entity.url = Some(word("url")?.ok_or("Can't find field \"url\"")?),
        "text_mention" => {
            let user = object.get("user").ok_or("Can't find field \"user\"")?;
            if !user.get("id").is_some_and(Value::is_i64) {
                return Err("Can't find field \"id\"".to_owned());
            }
            entity.user = Some(user.clone());
        }
        "custom_emoji" => {
            let id = word("custom_emoji_id")?.ok_or("Can't find field \"custom_emoji_id\"")?;
            if !id.parse::<i64>().is_ok_and(|id| id != 0) {
                return Err("Invalid custom emoji identifier specified".to_owned());
            }
            entity.custom_emoji_id = Some(id);
        }
        "mention" | "hashtag" | "cashtag" | "bot_command" | "url" | "email" | "phone_number" | "bank_card_number" => {
            return Ok(None);
        }
        _ => return Err("Unsupported type specified".to_owned()),
    }
    Ok(Some(entity))
}

/// Replaces control characters, checks every boundary, drops what may not nest, and trims white space at both ends.
fn clean(text: &str, mut entities: Vec<Entity>) -> Result<Formatted, ApiError> {
    for entity in &entities {
        for (name, number) in [("offset", entity.offset), ("length", entity.length)] {
            if !(0..=1_000_000).contains(&number) {
                return Err(ApiError::bad(format!("receive an entity with incorrect {name} {number}")));
            }
        }
    }
    entities.retain(|entity| entity.length > 0);
    sort(&mut entities);
    let (text, places) = clean_characters(text);
    for entity in &mut entities {
        let (start, end) = (entity.offset, entity.end());
        entity.offset = match places.get(index(start)) {
            Some(Place::At { unit }) => *unit,
            Some(Place::Middle { byte }) => {
                let why = format!("entity begins in a middle of a UTF-16 symbol at byte offset {byte}");
                return Err(ApiError::bad(why));
            }
            None => {
                let why = format!("entity begins after the end of the text at UTF-16 offset {start}");
                return Err(ApiError::bad(why));
            }
        };
        let end = match places.get(index(end)) {
            Some(Place::At { unit }) => *unit,
            Some(Place::Middle { byte }) => {
                let why = "ends in a middle of a UTF-16 symbol at byte offset";
                return Err(ApiError::bad(format!("entity beginning at UTF-16 offset {start} {why} {byte}")));
            }
            None => {
                let why = "ends after the end of the text at UTF-16 offset";
                return Err(ApiError::bad(format!("entity beginning at UTF-16 offset {start} {why} {end}")));
            }
        };
        entity.length = end - entity.offset;
    }
    Ok(trim(&text, nest(entities)))
}

/// Where a UTF-16 position of the sent text lies in the cleaned one.
enum Place {
    At {
        unit: i64,
    },
    /// Inside a surrogate pair; `byte` is where the next character begins.
    Middle {
        byte: usize,
    },
}

fn clean_characters(text: &str) -> (String, Vec<Place>) {
    let mut cleaned = String::with_capacity(text.len());
    let mut places = Vec::with_capacity(text.len() + 1);
    let mut unit = 0i64;
    for (byte, character) in text.char_indices() {
        places.push(Place::At { unit });
        if character.len_utf16() == 2 {
            places.push(Place::Middle { byte: byte + 4 });
        }
        match character {
            '\r' | '\u{2028}'..='\u{202e}' | '\u{333}' | '\u{33f}' | '\u{30a}' => continue,
            '\n' => cleaned.push('\n'),
            control if control < ' ' => cleaned.push(' '),
            other => cleaned.push(other),
        }
        unit += int(character.len_utf16());
    }
    places.push(Place::At { unit });
    (cleaned, places)
}

/// By place, outer before inner; entities with the same range have Telegram's own order.
fn sort(entities: &mut [Entity]) {
    entities.sort_by_key(|entity| (entity.offset, -entity.length, entity.rank()));
}

/// Applies the nesting rules: code holds nothing, whole entities do not overlap, the rest is cut to fit.
fn nest(mut entities: Vec<Entity>) -> Vec<Entity> {
    sort(&mut entities);
    let mut kept: Vec<Entity> = Vec::new();
    for entity in entities.iter().filter(|entity| !entity.is_splittable()) {
        let fits =
            |other: &Entity| !other.meets(entity) || (other.is_quote() && !entity.is_quote() && other.contains(entity));
        if kept.iter().all(fits) {
            kept.push(entity.clone());
        }
    }
    let whole = kept.clone();
    for entity in entities.into_iter().filter(Entity::is_splittable) {
        let mut pieces = vec![entity];
        for other in &whole {
            pieces = pieces.into_iter().flat_map(|piece| cut(piece, other)).collect();
        }
        for piece in pieces {
            match kept.iter_mut().find(|other| other.kind == piece.kind && other.meets(&piece)) {
                Some(other) => {
                    let end = other.end().max(piece.end());
                    other.offset = other.offset.min(piece.offset);
                    other.length = end - other.offset;
                }
                None => kept.push(piece),
            }
        }
    }
    sort(&mut kept);
    kept
}

/// Cuts a splittable entity so that it nests with a whole one; what lies inside code is lost.
fn cut(piece: Entity, whole: &Entity) -> Vec<Entity> {
    if !piece.meets(whole) || (piece.contains(whole) && !whole.is_code()) {
        return vec![piece];
    }
    let part = |from: i64, to: i64| Entity { offset: from, length: to - from, ..piece.clone() };
    let mut parts = Vec::new();
    if piece.offset < whole.offset {
        parts.push(part(piece.offset, whole.offset));
    }
    if !whole.is_code() {
        parts.push(part(piece.offset.max(whole.offset), piece.end().min(whole.end())));
    }
    if piece.end() > whole.end() {
        parts.push(part(whole.end(), piece.end()));
    }
    parts
}

/// Removes white space at both ends, and entities that cover nothing else. The indentation of code that begins the text
/// is part of the code and stays.
fn trim(text: &str, mut entities: Vec<Entity>) -> Formatted {
    let blank = [' ', '\n'];
    if text.trim_matches(blank).is_empty() {
        return Formatted::default();
    }
    let unit_of: Vec<char> = if entities.is_empty() { Vec::new() } else { utf16_characters(text) };
    let is_blank = |entity: &Entity| (entity.offset..entity.end()).all(|unit| blank.contains(&unit_of[index(unit)]));
    entities.retain(|entity| !is_blank(entity));
    let codes: Vec<i64> = entities.iter().filter(|entity| entity.is_code()).map(|entity| entity.offset).collect();
    for entity in &mut entities {
        while !codes.contains(&entity.offset) && blank.contains(&unit_of[index(entity.offset)]) {
            entity.offset += 1;
            entity.length -= 1;
        }
    }
    let end = text.trim_end_matches(blank);
    let mut start = end.trim_start_matches(blank);
    if let Some(code) = codes.iter().min().map(|code| index(*code))
        && code < end.len() - start.len()
    {
        // Only white space stands before, so units are bytes here.
        start = &end[code..];
    }
    let lead = int(end.len() - start.len());
    let last = int(units(end));
    for entity in &mut entities {
        entity.length = entity.end().min(last) - entity.offset;
        entity.offset -= lead;
    }
    let mut formatted = Formatted { text: start.to_owned(), entities };
    for found in detect(&formatted.text) {
        let free = |other: &Entity| {
            !other.meets(&found) || other.is_quote() || (other.is_splittable() && other.contains(&found))
        };
        if formatted.entities.iter().all(free) {
            formatted.entities.push(found);
        }
    }
    sort(&mut formatted.entities);
    formatted
}

/// One character per UTF-16 unit: a pair repeats its character.
fn utf16_characters(text: &str) -> Vec<char> {
    text.chars().flat_map(|character| std::iter::repeat_n(character, character.len_utf16())).collect()
}

fn int(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn index(number: i64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(text: &str, mode: &str) -> String {
        format(text, mode, None).unwrap_err().description
    }

    fn shown(text: &str, mode: &str) -> String {
        let formatted = format(text, mode, None).unwrap();
        let ranges: Vec<String> =
            formatted.entities.iter().map(|e| std::format!("{} {}+{}", e.kind, e.offset, e.length)).collect();
        std::format!("{} | {}", formatted.text, ranges.join(", "))
    }

    #[test]
    fn html_is_parsed_and_measured_in_utf16() {
        assert_eq!(shown("<b>🐦 bird</b> &lt;&amp;&#65;", "HTML"), "🐦 bird <&A | bold 0+7");
        assert_eq!(shown("<pre><code class=\"language-rust\">fn</code></pre>", "html"), "fn | pre 0+2");
        assert_eq!(shown("<a href=\"https://example.com/x\">here</a>", "html"), "here | text_link 0+4");
        assert_eq!(shown("<a href=\"javascript:alert(1)\">here</a>", "html"), "here | ");
        assert_eq!(shown("<b><i>x</i></b>", "html"), "x | bold 0+1, italic 0+1");
        assert_eq!(shown("<blockquote expandable>q</blockquote>", "html"), "q | expandable_blockquote 0+1");
    }

    #[test]
    fn html_that_telegram_does_not_know_is_refused_with_its_words() {
        let p = "Bad Request: can't parse entities: ";
        assert_eq!(refused("a<br>b", "HTML"), p.to_owned() + "Unsupported start tag \"br\" at byte offset 1");
        assert_eq!(refused("<b>a", "HTML"), p.to_owned() + "Can't find end tag corresponding to start tag \"b\"");
        assert_eq!(
            refused("<b>a</i>", "HTML"),
            p.to_owned() + "Unmatched end tag at byte offset 4, expected \"</b>\", found \"</i>\""
        );
        assert_eq!(refused("a</b>", "HTML"), p.to_owned() + "Unexpected end tag at byte offset 1");
        assert_eq!(refused("1 < 2", "HTML"), p.to_owned() + "Unsupported start tag \"\" at byte offset 2");
        assert_eq!(refused("x <b", "HTML"), p.to_owned() + "Unclosed start tag at byte offset 2");
        assert_eq!(
            refused("<span>a</span>", "HTML"),
            p.to_owned() + "Tag \"span\" must have class \"tg-spoiler\" at byte offset 0"
        );
    }

    #[test]
    fn markdown_v2_is_strict() {
        assert_eq!(
            shown(r"*bold _italic_* `a.b` \.", "MarkdownV2"),
            "bold italic a.b . | bold 0+11, italic 5+6, code 12+3"
        );
        assert_eq!(shown("```rust\nfn x() {}\n```", "MarkdownV2"), "fn x() {} | pre 0+9");
        assert_eq!(shown("__u__ ~s~ ||h||", "MarkdownV2"), "u s h | underline 0+1, strikethrough 2+1, spoiler 4+1");
        assert_eq!(shown(">a\n>b", "MarkdownV2"), "a\nb | blockquote 0+3");
        assert_eq!(shown("[x](https://example.com)", "MarkdownV2"), "x | text_link 0+1");
        let p = "Bad Request: can't parse entities: ";
        assert_eq!(
            refused("a.b", "MarkdownV2"),
            p.to_owned() + "Character '.' is reserved and must be escaped with the preceding '\\'"
        );
        assert_eq!(refused("*a", "MarkdownV2"), p.to_owned() + "Can't find end of Bold entity at byte offset 0");
        assert_eq!(refused("я `a", "MarkdownV2"), p.to_owned() + "Can't find end of Code entity at byte offset 3");
        assert_eq!(refused("[a](http", "MarkdownV2"), p.to_owned() + "Can't find end of a URL at byte offset 4");
    }

    #[test]
    fn old_markdown_has_its_own_rules() {
        assert_eq!(shown("*b* _i_ `c` a.b", "Markdown"), "b i c a.b | bold 0+1, italic 2+1, code 4+1");
        assert_eq!(shown(r"snake\_case", "Markdown"), "snake_case | ");
        assert_eq!(shown("[x](https://example.com)", "Markdown"), "x | text_link 0+1");
        assert_eq!(
            refused("snake_case", "Markdown"),
            "Bad Request: can't parse entities: Can't find end of the entity starting at byte offset 5"
        );
        assert_eq!(refused("x", "Fancy"), "Bad Request: unsupported parse_mode");
    }

    #[test]
    fn given_entities_must_lie_on_characters_inside_the_text() {
        let check = |entities: Value| match format("a🐦b", "", Some(&entities)) {
            Ok(formatted) => {
                std::format!("{:?}", formatted.entities.iter().map(|e| (e.offset, e.length)).collect::<Vec<_>>())
            }
            Err(error) => error.description,
        };
        let bold = |offset: i64, length: i64| json!([{"type": "bold", "offset": offset, "length": length}]);
        assert_eq!(check(bold(1, 2)), "[(1, 2)]");
        assert_eq!(check(bold(2, 1)), "Bad Request: entity begins in a middle of a UTF-16 symbol at byte offset 5");
        assert_eq!(
            check(bold(0, 2)),
            "Bad Request: entity beginning at UTF-16 offset 0 ends in a middle of a UTF-16 symbol at byte offset 5"
        );
        assert_eq!(
            check(bold(3, 2)),
            "Bad Request: entity beginning at UTF-16 offset 3 ends after the end of the text at UTF-16 offset 5"
        );
        assert_eq!(
            check(bold(4, 1)),
            "Bad Request: entity beginning at UTF-16 offset 4 ends after the end of the text at UTF-16 offset 5"
        );
        assert_eq!(check(bold(5, 1)), "Bad Request: entity begins after the end of the text at UTF-16 offset 5");
        assert_eq!(check(bold(-1, 1)), "Bad Request: receive an entity with incorrect offset -1");
        assert_eq!(
            check(json!([{"type": "blink", "offset": 0, "length": 1}])),
            "Bad Request: can't parse MessageEntity: Unsupported type specified"
        );
        assert_eq!(
            check(json!([{"type": "bold", "length": 1}])),
            "Bad Request: can't parse MessageEntity: Can't find field \"offset\""
        );
        assert_eq!(
            check(json!([{"type": "text_link", "offset": 0, "length": 1, "url": "file:///etc"}])),
            "Bad Request: entity URL 'file:///etc' is invalid: Unsupported URL protocol"
        );
    }

    #[test]
    fn whatever_is_sent_what_is_shown_is_sound() {
        const PIECES: [&str; 30] = [
            "a",
            "🐦",
            "я",
            " ",
            "\n",
            "\r",
            "\t",
            "*",
            "_",
            "__",
            "~",
            "||",
            "`",
            "```",
            ">",
            "**>",
            "[",
            "](",
            ")",
            "!",
            "\\",
            ".",
            "<b>",
            "</b>",
            "<pre>",
            "<code class=\"language-x\">",
            "</code>",
            "&lt;",
            "<a href='",
            "https://example.com",
        ];
        let kinds = ["bold", "italic", "code", "pre", "blockquote", "spoiler", "underline"];
        let mut dice = crate::dice::Dice::new(1);
        let mut roll = |limit: usize| index(int(dice.roll() as usize % limit));
        let mut accepted = 0;
        for _ in 0..20_000 {
            let text: String = (0..roll(12)).map(|_| PIECES[roll(PIECES.len())]).collect();
            let mode = ["", "HTML", "MarkdownV2", "Markdown"][roll(4)];
            let given: Vec<Value> = (0..roll(4))
                .map(|_| json!({"type": kinds[roll(kinds.len())], "offset": roll(8), "length": roll(8)}))
                .collect();
            let Ok(shown) = format(&text, mode, Some(&json!(given))) else { continue };
            accepted += 1;
            assert_eq!(shown.text.trim_end_matches([' ', '\n']), shown.text, "{text:?} {mode}");
            let code_begins = shown.entities.iter().any(|entity| entity.is_code() && entity.offset == 0);
            assert!(code_begins || !shown.text.starts_with([' ', '\n']), "{text:?} {mode} {shown:?}");
            let characters = utf16_characters(&shown.text);
            let is_boundary = |at: i64| {
                let units: Vec<usize> = shown
                    .text
                    .chars()
                    .map(char::len_utf16)
                    .scan(0, |sum, n| {
                        *sum += n;
                        Some(*sum)
                    })
                    .collect();
                at == 0 || units.contains(&index(at))
            };
            for entity in &shown.entities {
                assert!(entity.length > 0 && index(entity.end()) <= characters.len(), "{text:?} {given:?} {shown:?}");
                assert!(is_boundary(entity.offset) && is_boundary(entity.end()), "{text:?} {given:?} {shown:?}");
                let inside = shown.entities.iter().filter(|other| *other != entity && other.meets(entity));
                assert!(!entity.is_code() || inside.clone().all(|other| other.contains(entity)), "{text:?} {shown:?}");
            }
        }
        assert!(accepted > 3_000, "{accepted}");
    }

    #[test]
    fn code_holds_no_other_entity() {
        let entities = json!([
            {"type": "bold", "offset": 0, "length": 5},
            {"type": "pre", "offset": 2, "length": 2, "language": "rust"},
            {"type": "text_link", "offset": 3, "length": 2, "url": "https://example.com"},
        ]);
        let formatted = format("abcdefg", "", Some(&entities)).unwrap();
        let ranges: Vec<_> = formatted.entities.iter().map(|e| (e.kind.as_str(), e.offset, e.length)).collect();
        assert_eq!(ranges, [("bold", 0, 2), ("pre", 2, 2), ("bold", 4, 1)]);
    }

    #[test]
    fn white_space_is_trimmed_and_entities_follow() {
        let entities =
            json!([{"type": "bold", "offset": 2, "length": 3}, {"type": "italic", "offset": 5, "length": 2}]);
        let formatted = format("\n\r abc  \n", "", Some(&entities)).unwrap();
        assert_eq!(formatted.text, "abc");
        assert_eq!(formatted.entities.iter().map(|e| (e.offset, e.length)).collect::<Vec<_>>(), [(0, 2), (2, 1)]);
        assert_eq!(format(" \t\n", "", None).unwrap(), Formatted::default());
    }

    #[test]
    fn commands_links_and_mentions_are_found_in_plain_text() {
        let found = |text: &str| {
            detect(text)
                .iter()
                .map(|e| std::format!("{} {}+{}", e.kind, e.offset, e.length))
                .collect::<Vec<_>>()
                .join(", ")
        };
        assert_eq!(found("/start@parrot_bot now"), "bot_command 0+17");
        assert_eq!(found("🐦 /help"), "bot_command 3+5");
        assert_eq!(found("a/b and /usr/bin"), "");
        assert_eq!(found("see https://example.com/x, @alice #birds"), "url 4+21, mention 27+6, hashtag 34+6");
    }
}
