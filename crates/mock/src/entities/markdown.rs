//! Telegram's two Markdowns: version 2, in which every reserved character must be escaped, and the old one.

use super::link::{checked_link, linked_user};
use super::{Entity, int};

const RESERVED: &str = "_*[]()~`>#+-=|{}.!";

/// Parses MarkdownV2; an error is the part after "can't parse entities: ".
pub fn parse_v2(text: &str) -> Result<(String, Vec<Entity>), String> {
    let mut parser = Parser::new(text);
    let mut quote: Option<Quote> = None;
    let mut line_begins = true;
    while let Some(character) = parser.peek() {
        let in_code = parser.open.last().is_some_and(|open| open.mark == "`" || open.mark == "```");
        if character == '\\' {
            let next = parser.text[parser.at + 1..].chars().next().filter(|c| ('\u{1}'..='\u{7e}').contains(c));
            parser.at += 1;
            if let Some(next) = next {
                parser.at += 1;
                parser.show(next);
            } else {
                parser.show('\\');
            }
            line_begins = false;
            continue;
        }
        if line_begins && !in_code {
            line_begins = false;
            if let Some(opened) = parser.quote_begin() {
                match (&quote, opened) {
                    (None, expandable) => quote = Some(Quote { unit: parser.unit, expandable }),
                    (Some(_), true) => {
                        // `**>` ends the quotation before it and begins another.
                        parser.close_quote(quote.take());
                        quote = Some(Quote { unit: parser.unit, expandable: true });
                    }
                    (Some(_), false) => {}
                }
                continue;
            }
            parser.close_quote(quote.take());
        }
        if character == '\n' && !in_code {
            line_begins = true;
            parser.at += 1;
            parser.show('\n');
            continue;
        }
        if quote.is_some() && !in_code && parser.ends_expandable_quote() {
            parser.at += 2;
            if let Some(quote) = &mut quote {
                quote.expandable = true;
            }
            continue;
        }
        let is_reserved = if in_code { character == '`' } else { RESERVED.contains(character) };
        if !is_reserved {
            parser.at += character.len_utf8();
            parser.show(character);
            continue;
        }
        parser.mark_v2(character)?;
    }
    parser.close_quote(quote.take());
    if let Some(open) = parser.open.last() {
        return Err(format!("Can't find end of {} entity at byte offset {}", open.name, open.at));
    }
    Ok((parser.shown, parser.entities))
}

/// Parses the old Markdown.
pub fn parse_v1(text: &str) -> Result<(String, Vec<Entity>), String> {
    let mut parser = Parser::new(text);
    while let Some(character) = parser.peek() {
        let begin = parser.at;
        if character == '\\' {
            let escaped = parser.text[begin + 1..].chars().next().filter(|c| matches!(c, '_' | '*' | '`' | '['));
            parser.at += 1 + usize::from(escaped.is_some());
            parser.show(escaped.unwrap_or('\\'));
            continue;
        }
        if !matches!(character, '_' | '*' | '`' | '[') {
            parser.at += character.len_utf8();
            parser.show(character);
            continue;
        }
        let fence = parser.text[begin..].starts_with("```");
        let (open, close) = match character {
            '[' => (1, "]"),
            '`' if fence => (3, "```"),
            '`' => (1, "`"),
            '*' => (1, "*"),
            _ => (1, "_"),
        };
        let inside = begin + open;
        let Some(length) = parser.text[inside..].find(close) else {
            return Err(format!("Can't find end of the entity starting at byte offset {begin}"));
        };
        let mut content = &text[inside..inside + length];
        parser.at = inside + length + close.len();
        let mut language = None;
        if fence {
            (language, content) = fenced(content);
        }
        let unit = parser.unit;
        content.chars().for_each(|c| parser.show(c));
        if parser.unit == unit {
            continue;
        }
        let entity = |kind: &str| Entity::new(kind, unit, parser.unit - unit);
        let entity = match character {
            '*' => entity("bold"),
            '_' => entity("italic"),
            '`' if fence => Entity { language, ..entity("pre") },
            '`' => entity("code"),
            _ => {
                let link = match parser.text[parser.at..].strip_prefix('(') {
                    Some(rest) => {
                        let end = rest.find(')');
                        // An unclosed link keeps its text and loses its target, as on the real server.
                        parser.at += 1 + end.map_or(rest.len(), |end| end + 1);
                        &rest[..end.unwrap_or(rest.len())]
                    }
                    None => content,
                };
                match (linked_user(link), checked_link(link)) {
                    (Some(id), _) => Entity { user: Some(serde_json::json!({"id": id})), ..entity("text_mention") },
                    (None, Ok(url)) => Entity { url: Some(url), ..entity("text_link") },
                    (None, Err(_)) => continue,
                }
            }
        };
        parser.entities.push(entity);
    }
    Ok((parser.shown, parser.entities))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    shown: String,
    unit: i64,
    open: Vec<Open>,
    entities: Vec<Entity>,
}

/// An entity whose end has not been seen.
struct Open {
    mark: &'static str,
    name: &'static str,
    at: usize,
    unit: i64,
    shown: usize,
    language: Option<String>,
}

struct Quote {
    unit: i64,
    expandable: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parser<'a> {
        Parser {
            text,
            at: 0,
            shown: String::with_capacity(text.len()),
            unit: 0,
            open: Vec::new(),
            entities: Vec::new(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn show(&mut self, character: char) {
        self.shown.push(character);
        self.unit += int(character.len_utf16());
    }

    /// Takes the mark of a quotation line, and says whether it is an expandable one.
    fn quote_begin(&mut self) -> Option<bool> {
        if self.rest().starts_with("**>") {
            self.at += 3;
            return Some(true);
        }
        self.rest().starts_with('>').then(|| {
            self.at += 1;
            false
        })
    }

    /// `||` at the very end of a quotation's last line makes it expandable.
    fn ends_expandable_quote(&self) -> bool {
        let Some(after) = self.rest().strip_prefix("||") else { return false };
        let last_line = after.is_empty() || (after.starts_with('\n') && !after[1..].starts_with('>'));
        last_line && !self.open.iter().any(|open| open.mark == "||")
    }

    fn close_quote(&mut self, quote: Option<Quote>) {
        let Some(quote) = quote else { return };
        let length = self.unit - quote.unit;
        if length > 0 {
            let kind = if quote.expandable { "expandable_blockquote" } else { "blockquote" };
            self.entities.push(Entity::new(kind, quote.unit, length));
        }
    }

    /// Handles a reserved character: the end of the innermost entity, the beginning of one, or an error.
    fn mark_v2(&mut self, character: char) -> Result<(), String> {
        let rest = self.rest();
        if let Some(open) = self.open.last() {
            let ends = match open.mark {
                "_" => rest.starts_with('_') && !rest.starts_with("__"),
                "[" | "![" => rest.starts_with(']'),
                mark => rest.starts_with(mark),
            };
            if ends && let Some(open) = self.open.pop() {
                return self.close_v2(open);
            }
        }
        let (mark, name) = match character {
            '_' if rest.starts_with("__") => ("__", "Underline"),
            '_' => ("_", "Italic"),
            '*' => ("*", "Bold"),
            '~' => ("~", "Strikethrough"),
            '|' if rest.starts_with("||") => ("||", "Spoiler"),
            '[' => ("[", "TextUrl"),
            '!' if rest.starts_with("![") => ("![", "CustomEmoji"),
            '`' if rest.starts_with("```") => ("```", "Pre"),
            '`' => ("`", "Code"),
            other => {
                return Err(format!("Character '{other}' is reserved and must be escaped with the preceding '\\'"));
            }
        };
        let at = self.at;
        self.at += mark.len();
        let mut language = None;
        if mark == "```" {
            let line = self.rest().find(|c: char| c.is_whitespace() || c == '`').unwrap_or(0);
            if self.rest()[line..].starts_with(['\n', '\r']) {
                language = Some(self.rest()[..line].to_owned()).filter(|language| !language.is_empty());
                self.at += line;
                self.at += self.rest().chars().take(2).take_while(|&c| c == '\n' || c == '\r').count();
            }
        }
        self.open.push(Open { mark, name, at, unit: self.unit, shown: self.shown.len(), language });
        Ok(())
    }

    fn close_v2(&mut self, open: Open) -> Result<(), String> {
        self.at += if matches!(open.mark, "[" | "![") { 1 } else { open.mark.len() };
        let mut entity = Entity::new("", open.unit, self.unit - open.unit);
        entity.kind = match open.mark {
            "_" => "italic",
            "__" => "underline",
            "*" => "bold",
            "~" => "strikethrough",
            "||" => "spoiler",
            "`" => "code",
            "```" => "pre",
            "[" => "text_link",
            _ => "custom_emoji",
        }
        .to_owned();
        entity.language = open.language;
        match open.mark {
            "[" => {
                let url = match self.target()? {
                    Some(url) => url,
                    None => self.shown[open.shown..].to_owned(),
                };
                match (linked_user(&url), checked_link(&url)) {
                    (Some(id), _) => {
                        entity.kind = "text_mention".to_owned();
                        entity.user = Some(serde_json::json!({"id": id}));
                    }
                    (None, Ok(url)) => entity.url = Some(url),
                    (None, Err(_)) => return Ok(()),
                }
            }
            "![" => {
                let Some(url) = self.target()? else {
                    return Err("Custom emoji entity must contain a tg://emoji URL".to_owned());
                };
                let id = url.strip_prefix("tg://emoji?id=").filter(|id| id.parse::<i64>().is_ok_and(|id| id != 0));
                entity.custom_emoji_id = Some(id.ok_or("Invalid custom emoji identifier specified")?.to_owned());
            }
            _ => {}
        }
        if entity.length > 0 {
            self.entities.push(entity);
        }
        Ok(())
    }

    /// The `(…)` after a link's text; `None` if there is none.
    fn target(&mut self) -> Result<Option<String>, String> {
        if self.peek() != Some('(') {
            return Ok(None);
        }
        self.at += 1;
        let begin = self.at;
        let mut url = String::new();
        while let Some(character) = self.peek() {
            self.at += character.len_utf8();
            match character {
                ')' => return Ok(Some(url)),
                '\\' => match self.peek().filter(|c| ('\u{1}'..='\u{7e}').contains(c)) {
                    Some(next) => {
                        self.at += 1;
                        url.push(next);
                    }
                    None => url.push('\\'),
                },
                other => url.push(other),
            }
        }
        Err(format!("Can't find end of a URL at byte offset {begin}"))
    }
}

/// The language and the body of a fenced block.
fn fenced(content: &str) -> (Option<String>, &str) {
    match content.find(char::is_whitespace) {
        Some(end) if content[end..].starts_with(['\n', '\r']) => {
            let language = Some(content[..end].to_owned()).filter(|language| !language.is_empty());
            (language, content[end..].trim_start_matches('\r').strip_prefix('\n').unwrap_or(&content[end..]))
        }
        _ => (None, content),
    }
}
