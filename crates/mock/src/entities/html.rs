//! Telegram's HTML: a small closed set of tags, properly nested.

use super::link::{checked_link, linked_user};
use super::{Entity, int};

const TAGS: [&str; 17] = [
    "a",
    "b",
    "strong",
    "i",
    "em",
    "s",
    "strike",
    "del",
    "u",
    "ins",
    "tg-spoiler",
    "tg-emoji",
    "tg-time",
    "span",
    "pre",
    "code",
    "blockquote",
];

/// Parses a text into what is shown and its entities; an error is the part after "can't parse entities: ".
pub fn parse(text: &str) -> Result<(String, Vec<Entity>), String> {
    let mut parser = Parser {
        text,
        at: 0,
        shown: String::with_capacity(text.len()),
        unit: 0,
        open: Vec::new(),
        entities: Vec::new(),
    };
    while let Some(character) = parser.peek() {
        match character {
            '<' if parser.text[parser.at + 1..].starts_with('/') => parser.end_tag()?,
            '<' => parser.start_tag()?,
            '&' => {
                let (character, length) = reference(&text[parser.at..]).unwrap_or(('&', 1));
                parser.at += length;
                parser.show(character);
            }
            other => {
                parser.at += other.len_utf8();
                parser.show(other);
            }
        }
    }
    match parser.open.pop() {
        Some(tag) => Err(format!("Can't find end tag corresponding to start tag \"{}\"", tag.name)),
        None => Ok((parser.shown, parser.entities)),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    shown: String,
    unit: i64,
    open: Vec<Tag>,
    entities: Vec<Entity>,
}

struct Tag {
    name: String,
    argument: String,
    unit: i64,
    shown: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn show(&mut self, character: char) {
        self.shown.push(character);
        self.unit += int(character.len_utf16());
    }

    /// Takes characters while `wanted` holds and returns them.
    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &str {
        let from = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += self.peek().map_or(0, char::len_utf8);
        }
        &self.text[from..self.at]
    }

    fn start_tag(&mut self) -> Result<(), String> {
        let begin = self.at;
        let unclosed = || format!("Unclosed start tag at byte offset {begin}");
        self.at += 1;
        let name = self.take(|c| !c.is_ascii_whitespace() && c != '>').to_ascii_lowercase();
        if self.peek().is_none() {
            return Err(unclosed());
        }
        if !TAGS.contains(&name.as_str()) {
            return Err(format!("Unsupported start tag \"{name}\" at byte offset {begin}"));
        }
        let mut argument = String::new();
        loop {
            self.take(|c| c.is_ascii_whitespace());
            match self.peek() {
                None => return Err(unclosed()),
                Some('>') => break,
                Some(_) => {}
            }
            let attribute = self.take(|c| !c.is_ascii_whitespace() && c != '=' && c != '>').to_owned();
            if attribute.is_empty() {
                return Err(format!("Empty attribute name in the tag \"{name}\" at byte offset {begin}"));
            }
            self.take(|c| c.is_ascii_whitespace());
            if self.peek() != Some('=') {
                if name == "blockquote" && attribute == "expandable" {
                    argument = attribute;
                    continue;
                }
                let what = "Expected equal sign in declaration of an attribute of the tag";
                return Err(format!("{what} \"{name}\" at byte offset {begin}"));
            }
            self.at += 1;
            self.take(|c| c.is_ascii_whitespace());
            let value = self.attribute_value(begin)?;
            match (name.as_str(), attribute.as_str()) {
                ("a", "href") | ("tg-emoji", "emoji-id") => argument = value,
                ("code", "class") => {
                    argument = value.strip_prefix("language-").map(str::to_owned).unwrap_or(argument);
                }
                ("span", "class") => argument = value.strip_prefix("tg-").map(str::to_owned).unwrap_or(argument),
                ("blockquote", "expandable") => argument = attribute,
                _ => {}
            }
        }
        self.at += 1;
        if name == "span" && argument != "spoiler" {
            return Err(format!("Tag \"span\" must have class \"tg-spoiler\" at byte offset {begin}"));
        }
        self.open.push(Tag { name, argument, unit: self.unit, shown: self.shown.len() });
        Ok(())
    }

    fn attribute_value(&mut self, begin: usize) -> Result<String, String> {
        let unclosed = format!("Unclosed start tag at byte offset {begin}");
        let quote = match self.peek() {
            None => return Err(unclosed),
            Some(quote @ ('"' | '\'')) => quote,
            Some(_) => {
                let from = self.at;
                let value = self.take(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-').to_ascii_lowercase();
                return match self.peek() {
                    None => Err(unclosed),
                    Some(c) if c.is_ascii_whitespace() || c == '>' => Ok(value),
                    Some(_) => Err(format!("Unexpected end of name token at byte offset {from}")),
                };
            }
        };
        self.at += 1;
        let mut value = String::new();
        loop {
            match self.peek() {
                None => return Err(unclosed),
                Some(c) if c == quote => break,
                Some('&') => {
                    let (character, length) = reference(&self.text[self.at..]).unwrap_or(('&', 1));
                    value.push(character);
                    self.at += length;
                }
                Some(c) => {
                    value.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        self.at += 1;
        Ok(value)
    }

    fn end_tag(&mut self) -> Result<(), String> {
        let begin = self.at;
        let Some(tag) = self.open.pop() else { return Err(format!("Unexpected end tag at byte offset {begin}")) };
        self.at += 2;
        let name = self.take(|c| !c.is_ascii_whitespace() && c != '>').to_ascii_lowercase();
        self.take(|c| c.is_ascii_whitespace());
        if self.peek() != Some('>') {
            return Err(format!("Unclosed end tag at byte offset {begin}"));
        }
        self.at += 1;
        if !name.is_empty() && name != tag.name {
            let expected = &tag.name;
            return Err(format!(
                "Unmatched end tag at byte offset {begin}, expected \"</{expected}>\", found \"</{name}>\""
            ));
        }
        if self.unit > tag.unit {
            self.close(tag)?;
        }
        Ok(())
    }

    fn close(&mut self, tag: Tag) -> Result<(), String> {
        let entity = |kind: &str| Entity::new(kind, tag.unit, self.unit - tag.unit);
        let same_range = |other: &Entity| other.offset == tag.unit && other.end() == self.unit;
        let entity = match tag.name.as_str() {
            "b" | "strong" => entity("bold"),
            "i" | "em" => entity("italic"),
            "u" | "ins" => entity("underline"),
            "s" | "strike" | "del" => entity("strikethrough"),
            "tg-spoiler" | "span" => entity("spoiler"),
            "blockquote" if tag.argument.is_empty() => entity("blockquote"),
            "blockquote" => entity("expandable_blockquote"),
            "tg-time" => return Ok(()),
            "tg-emoji" => {
                if !tag.argument.parse::<i64>().is_ok_and(|id| id != 0) {
                    return Err("Invalid custom emoji identifier specified".to_owned());
                }
                Entity { custom_emoji_id: Some(tag.argument.clone()), ..entity("custom_emoji") }
            }
            "a" => {
                let url = if tag.argument.is_empty() { &self.shown[tag.shown..] } else { tag.argument.as_str() };
                match (linked_user(url), checked_link(url)) {
                    (Some(id), _) => Entity { user: Some(serde_json::json!({"id": id})), ..entity("text_mention") },
                    (None, Ok(url)) => Entity { url: Some(url), ..entity("text_link") },
                    (None, Err(_)) => return Ok(()),
                }
            }
            // `<pre><code class="language-x">` is one entity, whichever of the two is outside.
            "pre" => match self.entities.last_mut() {
                Some(code) if code.kind == "code" && code.language.is_some() && same_range(code) => {
                    code.kind = "pre".to_owned();
                    return Ok(());
                }
                _ => entity("pre"),
            },
            _ => match self.entities.last_mut() {
                Some(pre) if pre.kind == "pre" && !tag.argument.is_empty() && same_range(pre) => {
                    pre.language = Some(tag.argument);
                    return Ok(());
                }
                _ => Entity { language: Some(tag.argument.clone()).filter(|l| !l.is_empty()), ..entity("code") },
            },
        };
        self.entities.push(entity);
        Ok(())
    }
}

/// The character reference at the start of `text` and its length; `None` if it is only an ampersand.
fn reference(text: &str) -> Option<(char, usize)> {
    let body = &text[1..];
    let (character, length) = match body.strip_prefix('#') {
        Some(number) => {
            let (digits, radix, prefix) = match number.strip_prefix('x') {
                Some(hex) => (hex, 16, 2),
                None => (number, 10, 1),
            };
            let length = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
            let code = u32::from_str_radix(&digits[..length], radix).ok().filter(|&code| code != 0)?;
            (char::from_u32(code)?, prefix + length)
        }
        None => {
            let length = body.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(body.len());
            let character = match &body[..length] {
                "lt" => '<',
                "gt" => '>',
                "amp" => '&',
                "quot" => '"',
                _ => return None,
            };
            (character, length)
        }
    };
    let semicolon = usize::from(body[length..].starts_with(';'));
    Some((character, 1 + length + semicolon))
}
