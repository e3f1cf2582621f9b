//! How a call fails: refused, certainly not sent, or unknown. Which of the three decides whether the call
//! may be made again.

use std::time::Duration;

/// Why a call brought no result. None of these texts carries an address, for the token is part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Telegram said no: certainly not applied.
    #[error("telegram refused ({code}): {description}")]
    Refused { code: i64, description: String, retry_after: Option<Duration>, migrate_to_chat_id: Option<i64> },
    /// The connection could not be made: certainly not applied.
    #[error("telegram could not be reached")]
    NotSent,
    /// It may or may not have been applied.
    #[error("telegram's answer is unknown: {what}")]
    Unknown { what: &'static str },
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Pause the chat or the bot for this long.
    RateLimited(Duration),
    /// The message already says this: as good as success.
    NotModified,
    /// The message cannot be edited or deleted any more: place a new one.
    MessageGone,
    /// The chat does not want or does not have the bot: stop speaking to it.
    Blocked,
    /// The call itself is wrong; the same call will be wrong again.
    BadRequest,
    /// The token is wrong or was revoked.
    Unauthorized,
    /// Someone else polls with this token, or a webhook is set.
    Conflict,
    /// A button was answered too late: nothing to do.
    QueryTooOld,
    /// The group lives on under this id.
    Migrated(i64),
    /// It may or may not have been applied.
    Unknown,
    /// Certainly not applied: try again.
    NotSent,
}

impl CallError {
    pub fn class(&self) -> Class {
        match self {
            CallError::NotSent => Class::NotSent,
            CallError::Unknown { .. } => Class::Unknown,
            CallError::Refused { migrate_to_chat_id: Some(chat), .. } => Class::Migrated(*chat),
            CallError::Refused { code, description, retry_after, .. } => {
                refusal(*code, &description.to_ascii_lowercase(), *retry_after)
            }
        }
    }
}

fn refusal(code: i64, description: &str, retry_after: Option<Duration>) -> Class {
    let says = |texts: &[&str]| texts.iter().any(|text| description.contains(text));
    match code {
        429 => Class::RateLimited(retry_after.unwrap_or(Duration::from_secs(1))),
        401 => Class::Unauthorized,
        // An unknown method is our mistake; anything else that is "not found" here is the token.
        404 if says(&["method not found"]) => Class::BadRequest,
        404 => Class::Unauthorized,
        409 => Class::Conflict,
        403 => Class::Blocked,
        _ if says(&["message is not modified"]) => Class::NotModified,
        _ if says(MESSAGE_GONE) => Class::MessageGone,
        _ if says(&["query is too old", "query id is invalid", "query_id_invalid"]) => Class::QueryTooOld,
        _ if says(CHAT_GONE) => Class::Blocked,
        _ => Class::BadRequest,
    }
}

const MESSAGE_GONE: &[&str] = &[
    "message to edit not found",
    "message can't be edited",
    "message to delete not found",
    "message can't be deleted",
    "message identifier is not specified",
    "message_id_invalid",
];

const CHAT_GONE: &[&str] = &[
    "chat not found",
    "user is deactivated",
    "bot was blocked",
    "bot was kicked",
    "bot is not a member",
    "group chat was deactivated",
    "have no access to the user",
    "not enough rights to send",
    "need administrator rights",
    "chat_write_forbidden",
    "peer_id_invalid",
    "input_user_deactivated",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: i64, description: &str, class: Class) {
        let error =
            CallError::Refused { code, description: description.into(), retry_after: None, migrate_to_chat_id: None };
        assert_eq!(error.class(), class, "{code} {description}");
    }

    #[test]
    fn each_refusal_of_the_official_server_has_its_class() {
        check(
            400,
            "Bad Request: message is not modified: specified new message content and reply markup are exactly the same \
             as a current content and reply markup of the message",
            Class::NotModified,
        );
        check(400, "Bad Request: message to edit not found", Class::MessageGone);
        check(400, "Bad Request: message can't be edited", Class::MessageGone);
        check(400, "Bad Request: message to delete not found", Class::MessageGone);
        check(400, "Bad Request: message can't be deleted", Class::MessageGone);
        check(400, "Bad Request: chat not found", Class::Blocked);
        check(403, "Forbidden: bot was blocked by the user", Class::Blocked);
        check(403, "Forbidden: user is deactivated", Class::Blocked);
        check(403, "Forbidden: bot was kicked from the supergroup chat", Class::Blocked);
        check(403, "Forbidden: the group chat was deleted", Class::Blocked);
        check(
            400,
            "Bad Request: query is too old and response timeout expired or query ID is invalid",
            Class::QueryTooOld,
        );
        check(
            400,
            "Bad Request: can't parse entities: Can't find end of Bold entity at byte offset 3",
            Class::BadRequest,
        );
        check(400, "Bad Request: message text is empty", Class::BadRequest);
        check(413, "Request Entity Too Large", Class::BadRequest);
        check(401, "Unauthorized", Class::Unauthorized);
        check(401, "Unauthorized: invalid token specified", Class::Unauthorized);
        check(404, "Not Found", Class::Unauthorized);
        check(404, "Not Found: method not found", Class::BadRequest);
        check(
            409,
            "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
            Class::Conflict,
        );
        check(429, "Too Many Requests: retry after 7", Class::RateLimited(Duration::from_secs(1)));
    }

    #[test]
    fn a_rate_limit_keeps_its_number_and_a_moved_group_its_new_id() {
        let refused = |code, retry_after, migrate_to_chat_id| CallError::Refused {
            code,
            description: String::new(),
            retry_after,
            migrate_to_chat_id,
        };
        let week = Duration::from_secs(7);
        assert_eq!(refused(429, Some(week), None).class(), Class::RateLimited(week));
        assert_eq!(refused(400, None, Some(-1001)).class(), Class::Migrated(-1001));
    }
}
