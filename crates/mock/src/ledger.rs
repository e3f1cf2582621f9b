//! What the mock saw: one entry for every Bot API call, in the order of arrival.

use std::collections::VecDeque;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The last calls, as many as the configuration allows.
#[derive(Default)]
pub struct Ledger {
    calls: VecDeque<Call>,
    next: u64,
    pub limit: usize,
}

/// One call. `status` is 0 while it is under way and if no answer was sent.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    pub n: u64,
    pub at: i64,
    pub token: String,
    pub method: String,
    /// `http`, or `webhook` for a call in the body of a webhook's answer.
    pub via: &'static str,
    pub chat_id: Option<i64>,
    pub message_id: Option<i64>,
    /// The first 16 hex digits of the request body's SHA-256.
    pub body: String,
    /// Whether the call had its effect, whatever the caller was told.
    pub applied: bool,
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl Ledger {
    /// Writes a call down and returns its number.
    pub fn open(&mut self, mut call: Call) -> u64 {
        self.next += 1;
        call.n = self.next;
        self.calls.push_back(call);
        while self.calls.len() > self.limit.max(1) {
            self.calls.pop_front();
        }
        self.next
    }

    /// The entry of a call, unless it had to make room.
    pub fn call(&mut self, n: u64) -> Option<&mut Call> {
        let first = self.calls.front()?.n;
        self.calls.get_mut(usize::try_from(n.checked_sub(first)?).ok()?)
    }

    /// Calls after number `after`, oldest first.
    pub fn list(&self, token: Option<&str>, after: u64, limit: usize) -> Vec<Call> {
        let wanted = |call: &&Call| call.n > after && token.is_none_or(|token| call.token == token);
        self.calls.iter().filter(wanted).take(limit).cloned().collect()
    }

    /// How many calls were seen, kept or not.
    pub fn total(&self) -> u64 {
        self.next
    }
}

/// A short name for a body, to see that two calls said the same.
pub fn body_hash(body: &[u8]) -> String {
    Sha256::digest(body)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_when_old_calls_make_room() {
        let mut ledger = Ledger { limit: 2, ..Ledger::default() };
        for token in ["a", "b", "a"] {
            let call = Call {
                n: 0,
                at: 0,
                token: token.to_owned(),
                method: "getme".to_owned(),
                via: "http",
                chat_id: None,
                message_id: None,
                body: body_hash(b""),
                applied: false,
                status: 0,
                error: None,
                fault: None,
            };
            ledger.open(call);
        }
        assert!(ledger.call(1).is_none());
        ledger.call(3).unwrap().status = 200;
        assert_eq!(
            ledger.list(Some("a"), 0, 10).iter().map(|call| (call.n, call.status)).collect::<Vec<_>>(),
            [(3, 200)]
        );
        assert_eq!(ledger.total(), 3);
        assert_eq!(body_hash(b""), "e3b0c44298fc1c14");
    }
}
