//! How a refusal is said in each protocol, and what an upstream's refusal means.

mod judge;
#[cfg(test)]
mod tests;
mod veil;

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Value, json};

pub use self::judge::{Verdict, judge_refusal};
pub use self::veil::{Veil, hide_key};
use super::{BadAsk, Tapped, Wire};
use crate::upstream::{Fault, Trouble};

/// As much of a name that somebody made up is repeated to them.
const MAX_SHOWN: usize = 128;

/// Why a call is refused or failed, as far as protocols tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    InvalidRequest,
    Authentication,
    /// The money is gone, and only a person can change that.
    Unpaid,
    Permission,
    NotFound,
    /// The same request is under way, or is known with another content.
    Conflict,
    TooLarge,
    RateLimit,
    /// A limit on spending is used up, and opens again at some time.
    OverBudget,
    Internal,
    /// The upstream failed, or does not want us.
    Upstream,
    Overloaded,
    Timeout,
}

impl Kind {
    pub const ALL: [Kind; 13] = [
        Kind::InvalidRequest,
        Kind::Authentication,
        Kind::Unpaid,
        Kind::Permission,
        Kind::NotFound,
        Kind::Conflict,
        Kind::TooLarge,
        Kind::RateLimit,
        Kind::OverBudget,
        Kind::Internal,
        Kind::Upstream,
        Kind::Overloaded,
        Kind::Timeout,
    ];

    pub fn status(self) -> u16 {
        match self {
            Kind::InvalidRequest => 400,
            Kind::Authentication => 401,
            Kind::Unpaid => 402,
            Kind::Permission => 403,
            Kind::NotFound => 404,
            Kind::Conflict => 409,
            Kind::TooLarge => 413,
            Kind::RateLimit | Kind::OverBudget => 429,
            Kind::Internal => 500,
            Kind::Upstream => 502,
            Kind::Overloaded => 503,
            Kind::Timeout => 504,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Kind::InvalidRequest => "invalid_request",
            Kind::Authentication => "invalid_api_key",
            Kind::Unpaid => "budget_exhausted",
            Kind::Permission => "permission_denied",
            Kind::NotFound => "not_found",
            Kind::Conflict => "conflict",
            Kind::TooLarge => "request_too_large",
            Kind::RateLimit => "rate_limit_exceeded",
            Kind::OverBudget => "budget_exceeded",
            Kind::Internal => "internal_error",
            Kind::Upstream => "upstream_error",
            Kind::Overloaded => "overloaded",
            Kind::Timeout => "timeout",
        }
    }

    fn openai(self) -> &'static str {
        match self {
            Kind::InvalidRequest
            | Kind::Authentication
            | Kind::Permission
            | Kind::NotFound
            | Kind::Conflict
            | Kind::TooLarge => "invalid_request_error",
            Kind::Unpaid | Kind::OverBudget => "insufficient_quota",
            Kind::RateLimit => "rate_limit_error",
            Kind::Internal | Kind::Upstream | Kind::Overloaded | Kind::Timeout => "server_error",
        }
    }

    fn anthropic(self) -> &'static str {
        match self {
            Kind::InvalidRequest | Kind::Conflict => "invalid_request_error",
            Kind::Authentication => "authentication_error",
            Kind::Unpaid => "billing_error",
            Kind::Permission => "permission_error",
            Kind::NotFound => "not_found_error",
            Kind::TooLarge => "request_too_large",
            Kind::RateLimit | Kind::OverBudget => "rate_limit_error",
            Kind::Internal | Kind::Upstream => "api_error",
            Kind::Overloaded => "overloaded_error",
            Kind::Timeout => "timeout_error",
        }
    }

    fn google(self) -> &'static str {
        match self {
            Kind::InvalidRequest | Kind::TooLarge => "INVALID_ARGUMENT",
            Kind::Authentication => "UNAUTHENTICATED",
            Kind::Unpaid => "FAILED_PRECONDITION",
            Kind::Permission => "PERMISSION_DENIED",
            Kind::NotFound => "NOT_FOUND",
            Kind::Conflict => "ABORTED",
            Kind::RateLimit | Kind::OverBudget => "RESOURCE_EXHAUSTED",
            Kind::Internal => "INTERNAL",
            Kind::Upstream | Kind::Overloaded => "UNAVAILABLE",
            Kind::Timeout => "DEADLINE_EXCEEDED",
        }
    }
}

/// What a client gets to read of a fault, if it gets to read anything of its own about it.
impl From<Fault> for Kind {
    fn from(fault: Fault) -> Kind {
        match fault {
            Fault::Auth | Fault::Spent | Fault::Unreachable | Fault::Cut | Fault::Garbled | Fault::Silent => {
                Kind::Upstream
            }
            Fault::Limit => Kind::RateLimit,
            Fault::Busy | Fault::Resting => Kind::Overloaded,
            Fault::Timeout => Kind::Timeout,
            Fault::NotFound => Kind::NotFound,
            Fault::Filtered | Fault::TooLong | Fault::Refused | Fault::Blocked => Kind::InvalidRequest,
        }
    }
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
    /// Headers that say which limit has no room, and how it stands.
    pub limit: Vec<(&'static str, String)>,
}

impl Refused {
    pub fn new(kind: Kind, message: impl Into<String>) -> Refused {
        Refused {
            status: kind.status(),
            kind,
            message: message.into(),
            param: None,
            code: Cow::Borrowed(kind.code()),
            retry_after: None,
            limit: Vec::new(),
        }
    }

    pub fn with_code(self, code: &'static str) -> Refused {
        Refused { code: Cow::Borrowed(code), ..self }
    }

    pub fn with_param(self, param: impl Into<String>) -> Refused {
        Refused { param: Some(param.into()), ..self }
    }

    pub fn with_status(self, status: u16) -> Refused {
        Refused { status, ..self }
    }

    pub fn with_retry_after(self, retry_after: Option<Duration>) -> Refused {
        Refused { retry_after, ..self }
    }

    pub fn with_limit(self, limit: Vec<(&'static str, String)>) -> Refused {
        Refused { limit, ..self }
    }

    /// There is no such model, or not for this caller. `nearest` are names that were perhaps meant.
    pub fn unknown_model(name: &str, nearest: &[String]) -> Refused {
        let mut message = format!("There is no model named `{}` here, or it is not open to you.", shown(name));
        let quoted: Vec<String> = nearest.iter().take(5).map(|name| format!("`{}`", shown(name))).collect();
        match quoted.split_last() {
            None => {}
            Some((only, [])) => message.push_str(&format!(" Did you mean {only}?")),
            Some((last, others)) => message.push_str(&format!(" Did you mean {} or {last}?", others.join(", "))),
        }
        Refused::new(Kind::NotFound, message).with_code("model_not_found").with_param("model")
    }

    /// What went wrong with an upstream, in our words. `kind` is whose fault it is in the client's eyes.
    pub fn troubled(kind: Kind, trouble: Trouble) -> Refused {
        let code = match trouble.fault {
            Fault::TooLong => "context_length_exceeded",
            fault => fault.code(),
        };
        Refused::new(kind, trouble.fault.sentence()).with_code(code).with_retry_after(trouble.retry_after)
    }

    /// What an upstream said about the client's request, for a client that speaks another wire.
    pub fn quoted(status: u16, fault: Fault, message: Option<String>) -> Refused {
        let mut refused = Refused::from(Trouble::from(fault)).with_status(status);
        if let Some(message) = message {
            refused.message = message;
        }
        refused
    }

    /// The status of the response. Anthropic has one of its own for being overloaded, and its clients know it.
    pub fn status_on(&self, wire: Wire) -> u16 {
        if wire == Wire::Messages && self.kind == Kind::Overloaded { 529 } else { self.status }
    }

    /// Headers that belong to it: how long to wait, and that asking again is in vain where it is.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = self.limit.clone();
        if let Some(seconds) = self.seconds() {
            headers.push(("retry-after", seconds.to_string()));
        }
        // The clients of OpenAI and Anthropic repeat what is worth it by the status, unless they are told otherwise.
        if matches!(self.kind, Kind::OverBudget | Kind::Unpaid) {
            headers.push(("x-should-retry", "false".to_owned()));
        }
        headers
    }

    /// The body of a response, which is `application/json` on every wire.
    pub fn body(&self, wire: Wire, request_id: &str) -> Vec<u8> {
        self.envelope(wire, request_id).to_string().into_bytes()
    }

    /// The end of a stream that has begun, in events or in Gemini's array. `so_far` is what was heard of it.
    ///
    /// An event that was cut in half is ended first, so that this one is read. Within half an element of an array
    /// nothing can be said any more, and nothing is.
    pub fn frame(&self, wire: Wire, request_id: &str, so_far: &Tapped) -> Vec<u8> {
        let event = match (wire, so_far.elements) {
            (Wire::Generate, Some(_)) if so_far.in_event => return Vec::new(),
            (Wire::Generate, Some(elements)) => {
                let comma = if elements == 0 { "" } else { ",\r\n" };
                return format!("{comma}{}\n]", self.envelope(wire, request_id)).into_bytes();
            }
            (Wire::Messages, _) => format!("event: error\ndata: {}\n\n", self.envelope(wire, request_id)),
            (Wire::Responses, _) => {
                format!("event: response.failed\ndata: {}\n\n", self.failed_response(request_id, so_far))
            }
            (Wire::Midm, _) => format!("data: {}\n\n", json!({ "type": "error", "message": self.message })),
            (Wire::Chat | Wire::Completions | Wire::Embeddings | Wire::Generate, _) => {
                format!("data: {}\n\n", self.envelope(wire, request_id))
            }
        };
        let border = if so_far.in_event { "\n\n" } else { "" };
        [border, &event].concat().into_bytes()
    }

    fn envelope(&self, wire: Wire, request_id: &str) -> Value {
        match wire {
            Wire::Chat | Wire::Completions | Wire::Responses | Wire::Embeddings => json!({
                "error": {
                    "message": self.message,
                    "type": self.kind.openai(),
                    "param": self.param,
                    "code": self.code,
                },
            }),
            Wire::Messages => json!({
                "type": "error",
                "error": { "type": self.kind.anthropic(), "message": self.message },
                "request_id": request_id,
            }),
            Wire::Generate => json!({
                "error": {
                    "code": self.status_on(wire),
                    "message": self.message,
                    "status": self.kind.google(),
                    "details": self.details(request_id),
                },
            }),
            Wire::Midm => json!({ "detail": self.message }),
        }
    }

    /// Google's details, by the names of their types.
    fn details(&self, request_id: &str) -> Vec<Value> {
        let detail = |name: &str| format!("type.googleapis.com/google.rpc.{name}");
        let mut details = vec![
            json!({ "@type": detail("ErrorInfo"), "reason": self.code.to_uppercase(), "domain": "salon" }),
            json!({ "@type": detail("RequestInfo"), "requestId": request_id }),
        ];
        if let Some(param) = &self.param {
            let violation = json!({ "field": param, "description": self.message });
            details.push(json!({ "@type": detail("BadRequest"), "fieldViolations": [violation] }));
        }
        if let Some(seconds) = self.seconds() {
            details.push(json!({ "@type": detail("RetryInfo"), "retryDelay": format!("{seconds}s") }));
        }
        details
    }

    /// The event that ends a stream of responses: the response as far as it is known, failed.
    fn failed_response(&self, request_id: &str, so_far: &Tapped) -> Value {
        let id = so_far.response_id.clone().unwrap_or_else(|| format!("resp_{request_id}"));
        json!({
            "type": "response.failed",
            "sequence_number": so_far.sequence.map_or(0, |last| last.saturating_add(1)),
            "response": {
                "id": id,
                "object": "response",
                "created_at": 0,
                "status": "failed",
                "error": { "code": self.code, "message": self.message },
                "incomplete_details": null,
                "model": so_far.model,
                "output": [],
                "parallel_tool_calls": true,
                "tool_choice": "auto",
                "tools": [],
                "usage": null,
            },
        })
    }

    /// Whole seconds to wait, rounded up, because whoever comes early comes in vain.
    fn seconds(&self) -> Option<u64> {
        let pause = self.retry_after?;
        Some(pause.as_secs().saturating_add(u64::from(pause.subsec_nanos() > 0)).max(1))
    }
}

impl From<Trouble> for Refused {
    fn from(trouble: Trouble) -> Refused {
        Refused::troubled(trouble.fault.into(), trouble)
    }
}

impl From<BadAsk> for Refused {
    fn from(bad: BadAsk) -> Refused {
        let code = match bad {
            BadAsk::NotJson(..) | BadAsk::NotObject | BadAsk::TooDeep => "invalid_json",
            BadAsk::Ambiguous(_) => "ambiguous_parameter",
            BadAsk::Missing(_) => "missing_required_parameter",
            BadAsk::Wrong(..) => "invalid_value",
        };
        let refused = Refused::new(Kind::InvalidRequest, bad.to_string()).with_code(code);
        match bad.param() {
            Some(param) => refused.with_param(param),
            None => refused,
        }
    }
}

/// A name as it may be repeated: not too much of it, and nothing that moves a cursor.
fn shown(name: &str) -> String {
    let mut shown: String =
        name.chars().take(MAX_SHOWN).map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect();
    if name.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
