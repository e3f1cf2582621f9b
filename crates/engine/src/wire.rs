//! The protocols that the world's clients and servers speak, read as bytes.
//!
//! Where a client and an upstream speak the same [`Wire`], nothing here changes what passes between them but the model's
//! name; where they do not, one translation does.

pub mod carry;
mod chat;
mod completions;
pub mod embed;
#[cfg(test)]
mod fuzz;
mod generate;
pub mod head;
mod messages;
mod midm;
pub mod refusal;
mod responses;
mod run;
pub mod talk;
pub mod tap;
mod unasked;
pub mod usage;

pub use head::{BadAsk, Changes, Head, Outside};
pub use refusal::{Kind, Refused, Veil, Verdict, hide_key, judge_refusal};
pub use tap::{Beginning, Tap, Tapped, beginning};
pub use unasked::Unasked;

#[cfg(test)]
pub(crate) use fuzz::is_long as is_fuzzed_long;

/// A protocol, and which of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wire {
    /// OpenAI's `/chat/completions`.
    Chat,
    /// OpenAI's older `/completions`.
    Completions,
    /// OpenAI's `/responses`.
    Responses,
    /// OpenAI's `/embeddings`.
    Embeddings,
    /// Anthropic's `/messages`.
    Messages,
    /// Gemini's `generateContent` and `streamGenerateContent`.
    Generate,
    /// The `midm` server's `/chat` and `/chat/stream`.
    Midm,
}

impl Wire {
    pub fn as_str(self) -> &'static str {
        match self {
            Wire::Chat => "chat",
            Wire::Completions => "completions",
            Wire::Responses => "responses",
            Wire::Embeddings => "embeddings",
            Wire::Messages => "messages",
            Wire::Generate => "generate",
            Wire::Midm => "midm",
        }
    }
}
