//! What was asked of the upstream, and what became of it.

use std::collections::VecDeque;

use serde::Serialize;

/// Tokens of a call, in the upstream's own count. What is cached and what is thought is part of the whole here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UpstreamUsage {
    pub input: i64,
    pub cached: i64,
    pub output: i64,
    pub reasoning: i64,
}

/// One call as the upstream saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamCall {
    /// Counted from 1.
    pub number: u64,
    /// The path, without the query.
    pub path: String,
    pub model: String,
    /// The credential, as it came.
    pub key: Option<String>,
    pub idempotency_key: Option<String>,
    /// The body, byte for byte, as far as it is text.
    pub body: String,
    /// Headers that are no credential and no plumbing, in lower case.
    pub headers: Vec<(String, String)>,
    pub stream: bool,
    /// The status that was answered; 0 if nothing was.
    pub status: u16,
    /// The whole answer's tokens, however much of it was heard.
    pub usage: UpstreamUsage,
    /// Pieces that went out before the end.
    pub pieces: usize,
    /// The answer went out to its last byte.
    pub finished: bool,
    /// The caller went away before the end.
    pub abandoned: bool,
    /// The trouble that was made, if any.
    pub trouble: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Calls {
    kept: VecDeque<UpstreamCall>,
    limit: usize,
    seen: u64,
}

impl Calls {
    pub fn new(limit: usize) -> Calls {
        Calls { kept: VecDeque::new(), limit, seen: 0 }
    }

    /// Adds a call and answers its number.
    pub fn add(&mut self, mut call: UpstreamCall) -> u64 {
        self.seen += 1;
        call.number = self.seen;
        if self.kept.len() >= self.limit {
            self.kept.pop_front();
        }
        self.kept.push_back(call);
        self.seen
    }

    pub fn change(&mut self, number: u64, change: impl FnOnce(&mut UpstreamCall)) {
        let first = self.kept.front().map_or(0, |call| call.number);
        let at = number.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        if let Some(call) = at.and_then(|at| self.kept.get_mut(at)) {
            change(call);
        }
    }

    pub fn all(&self) -> Vec<UpstreamCall> {
        self.kept.iter().cloned().collect()
    }

    pub fn clear(&mut self) {
        self.kept.clear();
    }
}
