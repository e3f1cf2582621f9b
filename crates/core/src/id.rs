//! Typed ids. Ours are ULID text (sortable, made by the one id maker beside the clock); Telegram's are its own numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

text_id!(
    /// A conversation.
    DialogId
);
text_id!(
    /// One exchange in a dialog.
    TurnId
);
text_id!(
    /// One piece of durable work.
    JobId
);
text_id!(
    /// Something that a running engine wants to be allowed.
    AskId
);
text_id!(
    /// A file that an engine left for people.
    FileId
);
text_id!(
    /// A bot's name in the configuration, such as `bot-1`; never its Telegram token.
    BotId
);
text_id!(
    /// Who pays: a team.
    OrgId
);
text_id!(
    /// A person, or a program that acts for the team.
    UserId
);
text_id!(
    /// An API key of ours. Its name in the ledger; never the key itself.
    KeyId
);
text_id!(
    /// A secret in the vault.
    SecretId
);
text_id!(
    /// One stateless call through the relay, or one turn's, as the ledger knows it.
    CallId
);
text_id!(
    /// A limit.
    LimitId
);
number_id!(
    /// A Telegram chat. Groups and channels are negative.
    ChatId
);

impl ChatId {
    /// Whether this is a private chat; Telegram gives groups and channels negative ids.
    pub fn is_private(self) -> bool {
        self.0 > 0
    }
}

impl BotId {
    /// Whether the text can be a bot's name: it becomes part of a URL path, a lane and a metric label.
    pub fn is_valid(text: &str) -> bool {
        !text.is_empty()
            && text.len() <= 64
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    }
}
