//! OpenAI's responses, as its newer clients and Codex speak them. Nothing is stored: each question brings its whole past.

mod ask;
mod hear;
mod items;
mod offer;
mod tell;
mod write;

pub(super) use self::ask::read_ask;
pub(super) use self::hear::Answer;
pub(super) use self::tell::{Stream, answer};
pub(super) use self::write::write_ask;
