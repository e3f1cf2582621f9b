//! How a refusal is said in each protocol, and what an upstream's refusal means.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;

use super::Wire;
use crate::upstream::{Fault, Trouble};

/// Why a call is refused or failed, as far as protocols tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    InvalidRequest,
    Authentication,
    Permission,
    NotFound,
    /// The same request is under way, or is known with another content.
    Conflict,
    TooLarge,
    RateLimit,
    /// A limit on spending is used up, and comes again at some time.
    OverBudget,
    /// The money is gone, and only a person can change that.
    Unpaid,
    /// The upstream failed, or refused us.
    Upstream,
    Timeout,
    Overloaded,
    Internal,
}

/// A refusal in no protocol's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub kind: Kind,
    /// A sentence for people.
    pub message: String,
    /// The field that it is about.
    pub param: Option<String>,
    /// A stable name for programs.
    pub code: Cow<'static, str>,
    pub retry_after: Option<Duration>,
}

/// Whose words a client gets to read when an upstream refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is about the client's request. `body` is for clients of the same wire, `message` for the others; both are free
    /// of keys.
    Passed { status: u16, body: Vec<u8>, message: Option<String>, fault: Fault },
    /// It is about our key or the upstream's health, and none of the client's business.
    Ours { kind: Kind, trouble: Trouble },
}

impl Kind {
    pub fn status(self) -> u16 {
        500
    }
}

impl Refused {
    pub fn new(kind: Kind, message: impl Into<String>) -> Refused {
        Refused {
            status: kind.status(),
            kind,
            message: message.into(),
            param: None,
            code: Cow::Borrowed("internal_error"),
            retry_after: None,
        }
    }

    /// The body of a response.
    pub fn body(&self, _wire: Wire, _request_id: &str) -> Vec<u8> {
        Vec::new()
    }

    /// The end of a stream that has begun.
    pub fn frame(&self, _wire: Wire, _request_id: &str, _response_id: Option<&str>) -> Vec<u8> {
        Vec::new()
    }
}

/// Judges a refusal of an upstream that speaks `wire`.
pub fn judge_refusal(_wire: Wire, _status: u16, _headers: &HeaderMap, _body: &[u8]) -> Verdict {
    Verdict::Ours { kind: Kind::Upstream, trouble: Fault::Busy.into() }
}
