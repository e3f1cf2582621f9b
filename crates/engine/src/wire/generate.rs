//! Gemini's `generateContent`. Which model, and whether it streams, stands in the path and not in the body.

mod ask;
mod hear;
mod tell;
mod write;

pub(super) use self::ask::read_ask;
pub(super) use self::hear::Answer;
pub(super) use self::tell::{Stream, answer};
pub(super) use self::write::write_ask;
