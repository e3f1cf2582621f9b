//! What an upstream's refusal means, and how much of it the client gets to read.

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::Kind;
use crate::upstream::{self, Fault, Trouble};
use crate::wire::Wire;
use crate::wire::carry::faults;

/// The longest refusal that is passed on. What is longer was not written for people.
const MAX_PASSED: usize = 64 << 10;
/// How much of a message is quoted to clients of another wire.
const MAX_QUOTED: usize = 2_000;

/// Whose words a client gets to read when an upstream refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is about the client's request. `body` is for clients of the same wire, `message` for the others; both are free
    /// of whatever looks like a key.
    Passed { status: u16, body: Vec<u8>, message: Option<String>, fault: Fault },
    /// It is about our key or the upstream's health, and the client reads our words.
    Ours { kind: Kind, trouble: Trouble },
}

/// Judges a refusal of an upstream. Errors look so much alike on all wires that `wire` is only asked for its manners.
pub fn judge_refusal(wire: Wire, status: u16, headers: &HeaderMap, body: &[u8]) -> Verdict {
    let said = if body.len() <= MAX_PASSED { serde_json::from_slice::<Value>(body).ok() } else { None };
    // Gemini puts its errors in an array where it would have streamed one.
    let said = match said {
        Some(Value::Array(mut list)) if wire == Wire::Generate && list.len() == 1 => list.pop(),
        other => other,
    };
    let said = said.filter(Value::is_object);
    let fault = fault_of(status, said.as_ref());
    let is_about_the_request = matches!(status, 400 | 404 | 413 | 422);
    match (is_about_the_request, fault, said) {
        (_, Fault::Auth | Fault::Spent | Fault::Limit | Fault::Busy | Fault::Timeout, _)
        | (false, ..)
        | (_, _, None) => {
            let retry_after = upstream::retry_after(headers);
            Verdict::Ours { kind: kind_of(status, fault), trouble: Trouble { fault, retry_after } }
        }
        (true, _, Some(said)) => {
            let message = message_in(&said).map(|message| {
                let end = message.char_indices().nth(MAX_QUOTED).map_or(message.len(), |(at, _)| at);
                scrub(&message[..end])
            });
            let body = scrub(&String::from_utf8_lossy(body)).into_bytes();
            Verdict::Passed { status, body, message, fault }
        }
    }
}

fn fault_of(status: u16, said: Option<&Value>) -> Fault {
    let by_status = StatusCode::from_u16(status).map_or(Fault::Garbled, upstream::fault_of_status);
    let Some(said) = said else { return by_status };
    let words = said.to_string().to_lowercase();
    let says = |needles: &[&str]| needles.iter().any(|needle| words.contains(needle));
    // Some say with a 400 or a 429 what has a status of its own.
    if says(&[
        "insufficient_quota",
        "billing_hard_limit",
        "billing_not_active",
        "billing_error",
        "credit balance is too low",
    ]) {
        return Fault::Spent;
    }
    if says(&["api_key_invalid", "invalid_api_key", "authentication_error", "api key not valid", "api key expired"])
        || says(&["incorrect api key", "invalid api key", "invalid x-api-key"])
    {
        return Fault::Auth;
    }
    match (by_status, faults::sort(said)) {
        (Fault::Refused, Fault::TooLong) => Fault::TooLong,
        (Fault::Refused, Fault::Filtered) => Fault::Filtered,
        // A model that does not exist is a bad request to some.
        (Fault::Refused, _) if says(&["model_not_found"]) => Fault::NotFound,
        (by_status, _) => by_status,
    }
}

/// Whose fault it is in the client's eyes: what is wrong with our key or our account is nothing that it could mend.
fn kind_of(status: u16, fault: Fault) -> Kind {
    match fault {
        // An upstream that answers in no form that we know is broken, whatever it says by its status.
        Fault::Refused | Fault::NotFound | Fault::Filtered => Kind::Upstream,
        Fault::TooLong if status == 413 => Kind::TooLarge,
        fault => fault.into(),
    }
}

/// The sentence in an error of any wire.
fn message_in(said: &Value) -> Option<&str> {
    let error = &said["error"];
    [&error["message"], error, &said["message"], &said["detail"], &said["detail"][0]["msg"]]
        .into_iter()
        .find_map(Value::as_str)
        .filter(|message| !message.is_empty())
}

/// Puts a word in the place of everything that looks like a key.
pub(super) fn scrub(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while !rest.is_empty() {
        // A key does not begin in the middle of a word, a task- is no sk-; but if what follows can be nothing else, it does.
        let within = before.is_some_and(|before: char| before.is_ascii_alphanumeric());
        let found = key_at(rest).filter(|(prefix, key)| !within || is_no_word(&rest[prefix.len()..][..*key]));
        if let Some((prefix, key)) = found {
            clean.push_str(prefix);
            clean.push_str("[key]");
            rest = &rest[prefix.len() + key..];
            before = Some(']');
            continue;
        }
        let Some(char) = rest.chars().next() else { break };
        clean.push(char);
        before = Some(char);
        rest = &rest[char.len_utf8()..];
    }
    clean
}

fn is_no_word(key: &str) -> bool {
    key.len() >= 16 && key.contains(|char: char| char.is_ascii_digit())
}

/// The key that a text begins with: what of its beginning may stay, and how long the rest is.
fn key_at(text: &str) -> Option<(&str, usize)> {
    /// A beginning, whether it is part of the key, and how much has to follow at least.
    const BEGINNINGS: [(&str, bool, usize); 18] = [
        ("Bearer ", false, 6),
        ("bearer ", false, 6),
        ("Basic ", false, 8),
        ("key=", false, 6),
        ("x-api-key: ", false, 6),
        ("sk-", true, 5),
        ("sk_", true, 8),
        ("pk-", true, 8),
        ("AIza", true, 8),
        ("ya29.", true, 8),
        ("gsk_", true, 8),
        ("xai-", true, 8),
        ("hf_", true, 8),
        ("nvapi-", true, 8),
        ("AKIA", true, 12),
        ("eyJ", true, 20),
        ("org-", true, 16),
        ("proj_", true, 16),
    ];
    let is_of_key = |char: &char| {
        char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.' | '*' | '~' | '+' | '/' | '=' | '…')
    };
    BEGINNINGS.iter().find_map(|(beginning, is_part, least)| {
        let rest = text.strip_prefix(beginning)?;
        let length: usize = rest.chars().take_while(is_of_key).map(char::len_utf8).sum();
        // The full stop of the sentence is not the key's.
        let length = rest[..length].trim_end_matches('.').len();
        if length < *least {
            return None;
        }
        Some(if *is_part { ("", beginning.len() + length) } else { (&text[..beginning.len()], length) })
    })
}
