//! Troubles: what goes wrong by itself, and is to be put right by those who run the place. Who hears of it is decided
//! where they are told.
//!
//! Nothing of it is kept: what stands is seen again after a restart, and what happened once stands in the log of its turn.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// What cannot be seen by looking, because it happens and is over.
#[derive(Debug, Default)]
pub struct Troubles {
    /// Agents of which a task is not tried again.
    agents: Mutex<BTreeSet<String>>,
}

impl Troubles {
    /// A task of this agent ended the server once too often.
    pub fn quarantined(&self, agent: &str) {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner).insert(agent.to_owned());
    }

    /// Those of whom this was said since the last call.
    pub fn take_agents(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.agents.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
