//! How an errand went: the agent's last word if it had one, and what its death tells if it had none.

use salon_core::failure;
use serde_json::Value;

use crate::EngineError;

use super::words;

/// The last word of an agent: that it is done, or why not.
pub(super) type Word = Result<(), Fault>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub code: &'static str,
    /// The agent's words, as they stand.
    pub words: String,
}

impl Fault {
    /// A failure in an agent's words; `status` is the HTTP status behind it, if it is known otherwise.
    pub(super) fn new(words: &str, status: Option<i64>) -> Fault {
        let (words, inner) = unwrapped(words);
        Fault { code: code(&words, inner.or(status)), words }
    }

    pub(super) fn told(&self, key: &str) -> EngineError {
        told(self.code, &words::redacted(&self.words, key))
    }
}

fn told(code: &'static str, words: &str) -> EngineError {
    // What an agent says of its thread is that it does not know it.
    let words = if code == "agent_thread_unknown" { "" } else { words };
    EngineError::failed(code, failure::written(code, words))
}

/// Takes the sentence out of what surrounds it: `[API Error: …]`, or the body of a provider's refusal.
fn unwrapped(words: &str) -> (String, Option<i64>) {
    let inner = match words.trim().strip_prefix("[API Error: ") {
        // What follows the bracket is advice about accounts that nobody here has.
        Some(rest) => rest.rsplit_once(']').map_or(rest, |(inner, _)| inner),
        None => words.trim(),
    };
    match serde_json::from_str::<Value>(inner) {
        Ok(value) => {
            let error = if value["error"].is_object() { &value["error"] } else { &value };
            let message = error["message"].as_str().unwrap_or(inner);
            (message.to_owned(), error["code"].as_i64())
        }
        Err(_) => (inner.to_owned(), None),
    }
}

fn code(words: &str, status: Option<i64>) -> &'static str {
    let words = words.to_lowercase();
    let says = |signs: &[&str]| signs.iter().any(|sign| words.contains(sign));
    let number = |wanted: &str| words.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == wanted);
    if says(&["no rollout found", "no conversation found", "error resuming session", "invalid session identifier"]) {
        return "agent_thread_unknown";
    }
    match status {
        Some(429) => "agent_rate_limited",
        Some(401 | 403) => "agent_unauthorized",
        Some(_) => "agent_failed",
        None if number("429") || says(&["too many requests", "rate limit", "rate_limit", "quota"]) => {
            "agent_rate_limited"
        }
        None if number("401")
            || number("403")
            || says(&[
                "unauthorized",
                "unauthenticated",
                "api key",
                "api_key",
                "authentication_failed",
                "not logged in",
                "auth method",
            ]) =>
        {
            "agent_unauthorized"
        }
        None => "agent_failed",
    }
}

/// What is known of an agent that ended without a last word.
pub(super) struct Silence<'a> {
    pub code: Option<i32>,
    /// The end of its standard error.
    pub errors: &'a str,
    /// Whether its answer looks like a whole one: something was said, nothing was left open.
    pub whole: bool,
    /// What it last complained about.
    pub fault: Option<Fault>,
    pub key: &'a str,
}

impl Silence<'_> {
    /// An agent that ended well with a whole answer and no complaint is taken to be done, as there are agents without a
    /// last word. Anything else is a failure: one of them ends with code 0 when it is told to go.
    pub(super) fn judged(self) -> Result<(), EngineError> {
        let errors = tail(self.errors);
        match (self.code, self.fault) {
            (Some(0), None) if self.whole => Ok(()),
            (_, Some(fault)) => Err(fault.told(self.key)),
            // Shells add 128 to the signal that ended a program, and some programs do so themselves.
            (None | Some(0 | 130 | 137 | 143), None) => Err(told("agent_cut", &words::redacted(&errors, self.key))),
            (Some(_), None) if errors.is_empty() => Err(told("agent_cut", "")),
            (Some(_), None) => Err(Fault::new(&errors, None).told(self.key)),
        }
    }
}

/// What standard error tells: an error with what explains it, or the last lines.
pub(super) fn tail(errors: &str) -> String {
    const NOISE: [&str; 11] = [
        "Reading additional input from stdin",
        "warning: Untrusted project-local configuration",
        "Warning: Basic terminal detected",
        "Warning: 256-color support",
        "Warning: running headless",
        "YOLO mode is enabled",
        "Approval mode overridden",
        "Ripgrep ",
        "[STARTUP]",
        "at ",
        "Usage: ",
    ];
    const LINES: usize = 3;
    let cleaned = words::clean(errors);
    let is_noise = |line: &str| line.is_empty() || NOISE.iter().any(|noise| line.starts_with(noise));
    let lines: Vec<&str> = cleaned.lines().map(str::trim).filter(|line| !is_noise(line)).collect();
    let error = |line: &&str| line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("error"));
    let from = lines.iter().rposition(error).unwrap_or(lines.len().saturating_sub(LINES));
    lines[from..].iter().take(LINES).copied().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart_by_what_was_said() {
        for (words, status, code) in [
            (
                "[API Error: {\"error\":{\"code\":401,\"message\":\"Incorrect API key provided: sk-fake.\"}}]",
                None,
                "agent_unauthorized",
            ),
            ("[API Error: Rate limit reached. Please try again in 1s.]\nPlease wait.", None, "agent_rate_limited"),
            ("exceeded retry limit, last status: 429 Too Many Requests", None, "agent_rate_limited"),
            ("Not logged in · Please run /login", None, "agent_unauthorized"),
            ("Error: thread/resume failed: no rollout found for thread id 0", None, "agent_thread_unknown"),
            ("whatever", Some(429), "agent_rate_limited"),
            ("The port 4290 is taken", None, "agent_failed"),
        ] {
            assert_eq!(Fault::new(words, status).code, code, "{words}");
        }
    }

    #[test]
    fn silence_is_done_only_after_a_whole_answer() {
        let silence = |code, errors, whole| Silence { code, errors, whole, fault: None, key: "" };
        assert_eq!(silence(Some(0), "", true).judged(), Ok(()));
        let Err(EngineError::Failed { code, .. }) = silence(Some(0), "", false).judged() else { panic!("done") };
        assert_eq!(code, "agent_cut");
        let Err(EngineError::Failed { code, message }) = silence(Some(2), "error: no such flag\n", true).judged()
        else {
            panic!("done")
        };
        assert_eq!((code, message.as_str()), ("agent_failed", "The agent failed: error: no such flag"));
        assert!(silence(None, "", true).judged().is_err());
    }
}
