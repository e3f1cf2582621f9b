//! Everything Salon knows about Telegram's Bot API, and nothing about bots.
//!
//! A [`Client`] makes the calls and says of each failure whether it may have been applied. [`types`] are
//! what travels. [`text`] turns a model's Markdown into text with entities, and into pages that fit into
//! messages. A [`Pacer`] says when the next call may go.
//!
//! Two rules hold everywhere. The token is in the address of every call, so no error here carries an
//! address. And a model's words are never parsed by Telegram: they travel as text beside entities that
//! were computed here, never with a `parse_mode`, and never with a link preview.

pub mod client;
pub mod pace;
pub mod text;
pub mod types;

pub use client::{CallError, Class, Client, ClientConfig, Moment, RawUpdate, Token, Watch};
pub use pace::{Act, Pacer};
pub use text::Formatted;
