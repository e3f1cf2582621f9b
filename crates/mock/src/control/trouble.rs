//! Trouble: faults, the old rate-limit rule, and Telegram's pace.

use serde_json::Value;

use super::{ControlError, Controls};
use crate::faults::Fault;
use crate::limits::{Buckets, Pace};

impl Controls {
    /// Adds a fault rule and returns its id.
    pub fn add_fault(&self, fault: Fault) -> Result<u64, ControlError> {
        self.0.lock().faults.add(fault).map_err(ControlError::invalid)
    }

    /// Removes all fault rules and returns how many there were.
    pub fn clear_faults(&self) -> usize {
        self.0.lock().faults.clear()
    }

    pub fn faults(&self) -> Vec<Value> {
        self.0.lock().faults.list()
    }

    /// Answers the next `count` calls of a method with 429.
    pub fn rate_limit(&self, token: &str, method: &str, count: u64, retry_after: u64) -> Result<(), ControlError> {
        if token.is_empty() || method.is_empty() {
            return Err(ControlError::invalid("token and method must not be empty"));
        }
        if !(1..=100).contains(&count) || !(1..=120).contains(&retry_after) {
            return Err(ControlError::invalid("count is 1 to 100 and retry_after 1 to 120"));
        }
        let fault = Fault { token: Some(token.to_owned()), ..Fault::new(method, &format!("429:{retry_after}")) };
        self.add_fault(fault.times(count)).map(drop)
    }

    /// Switches Telegram's pace on, or off with `None`.
    pub fn set_limits(&self, pace: Option<Pace>) {
        self.0.lock().buckets = Buckets::new(pace);
    }
}
