//! A model's words, made fit for Telegram.
//!
//! A message is text beside entities, which say "these eight UTF-16 units are bold". Nothing in the text is
//! ever read as markup, so nothing in it can break or forge a message. Telegram changes what it is sent,
//! though, and the offsets must fit what it has changed it into. So the same is done here first:
//!
//! * control characters and terminal sequences go; a tab becomes four spaces; every kind of line break is `\n`;
//! * U+202A to U+202E (overrides of the writing direction), U+030A, U+0333 and U+033F go, and of several
//!   direction marks in a row all but the last become U+200C;
//! * white space at both ends goes, except the indentation of a code block that begins the message;
//! * entities cover no white space at their ends, and vanish if nothing else is left.

use crate::types::{Entity, EntityKind};

mod check;
mod clean;
mod markdown;
mod pages;
mod spans;
mod stars;
mod table;

pub use check::check;
pub use markdown::markdown;
pub use pages::pages;

/// UTF-16 units of a message.
pub const MESSAGE_UNITS: usize = 4096;
/// Entities of a message; the server drops the ones after.
pub const ENTITIES: usize = 100;

/// Text with its entities: sorted, nested or apart, never crossing. Offsets count UTF-16 units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formatted {
    pub text: String,
    pub entities: Vec<Entity>,
}

/// The text as it stands, cleaned and trimmed.
pub fn plain(text: &str) -> Formatted {
    Formatted { text: clean::clean(text).trim().to_owned(), entities: Vec::new() }
}

impl Formatted {
    /// Whether Telegram would find nothing to show.
    pub fn is_blank(&self) -> bool {
        is_blank(&self.text)
    }

    pub fn len_utf16(&self) -> usize {
        len_utf16(&self.text)
    }

    /// Adds text without entities to the end.
    pub fn push_str(&mut self, text: &str) {
        self.text.push_str(&clean::clean(text));
    }

    /// Adds text that looks one way, such as a bold word.
    pub fn push(&mut self, kind: EntityKind, text: &str) {
        let offset = self.len_utf16();
        self.push_str(text);
        let length = self.len_utf16() - offset;
        if length > 0 {
            self.entities.push(Entity::new(kind, offset as i64, length as i64));
        }
    }

    /// Adds another text with its entities to the end.
    pub fn append(&mut self, other: &Formatted) {
        let offset = self.len_utf16() as i64;
        self.text.push_str(&other.text);
        self.entities.extend(other.entities.iter().cloned().map(|mut entity| {
            entity.offset += offset;
            entity
        }));
    }
}

/// UTF-16 units of the text.
pub fn len_utf16(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// The byte at which the given UTF-16 unit begins; `None` inside a character or behind the end.
pub fn byte_of_utf16(text: &str, unit: usize) -> Option<usize> {
    let mut at = 0;
    for (byte, c) in text.char_indices() {
        if at >= unit {
            return (at == unit).then_some(byte);
        }
        at += c.len_utf16();
    }
    (at == unit).then_some(text.len())
}

/// The UTF-16 unit at which the given byte lies.
pub fn utf16_of_byte(text: &str, byte: usize) -> usize {
    text.char_indices().take_while(|&(at, _)| at < byte).map(|(_, c)| c.len_utf16()).sum()
}

/// Whether the text consists of characters that show nothing. Telegram refuses such messages.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(clean::is_invisible)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
