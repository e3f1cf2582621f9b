//! Turns: one numbered exchange each.

use crate::{DialogId, Time, TurnId, Usage};

/// Where a turn stands. `Done`, `Failed` and `Stopped` are final: nothing leaves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TurnState {
    Queued,
    Running,
    Done,
    Failed,
    Stopped,
}

impl TurnState {
    pub const ALL: [TurnState; 5] =
        [TurnState::Queued, TurnState::Running, TurnState::Done, TurnState::Failed, TurnState::Stopped];

    pub fn as_str(self) -> &'static str {
        match self {
            TurnState::Queued => "queued",
            TurnState::Running => "running",
            TurnState::Done => "done",
            TurnState::Failed => "failed",
            TurnState::Stopped => "stopped",
        }
    }

    pub fn parse(text: &str) -> Option<TurnState> {
        TurnState::ALL.into_iter().find(|state| state.as_str() == text)
    }

    pub fn is_final(self) -> bool {
        matches!(self, TurnState::Done | TurnState::Failed | TurnState::Stopped)
    }
}

/// One exchange: who asked what when, and what was answered when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub id: TurnId,
    pub dialog: DialogId,
    /// Starts at 1 in each dialog; no gaps, no twins.
    pub number: i64,
    /// The Telegram user who asked.
    pub user: Option<i64>,
    pub question: String,
    pub asked_at: Time,
    pub answer: Option<String>,
    pub answered_at: Option<Time>,
    pub state: TurnState,
    pub engine: String,
    pub model: Option<String>,
    pub usage: Usage,
    /// Why it failed, in a sentence for people.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for state in TurnState::ALL {
            assert_eq!(TurnState::parse(state.as_str()), Some(state));
        }
    }
}
