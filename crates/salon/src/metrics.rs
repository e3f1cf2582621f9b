//! Counters since this start. Labels are bot names and fixed words, never text of people.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counter values by bot (empty for the whole process) and name.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: Mutex<BTreeMap<(String, String), u64>>,
}

impl Metrics {
    pub fn count(&self, bot: &str, name: &str) {
        self.add(bot, name, 1);
    }

    pub fn add(&self, bot: &str, name: &str, by: u64) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        *counters.entry((bot.to_owned(), name.to_owned())).or_default() += by;
    }

    pub fn all(&self) -> BTreeMap<(String, String), u64> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
