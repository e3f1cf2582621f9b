//! OpenAI's chat completions, and those of the many servers that speak them too.

mod ask;
mod hear;
mod tell;
mod write;

pub(super) use self::ask::{content, read_ask, read_choice, sampling, schema_format};
pub(super) use self::hear::Answer;
pub(super) use self::tell::{Stream, answer, usage};
pub(super) use self::write::{effort, write_ask};
