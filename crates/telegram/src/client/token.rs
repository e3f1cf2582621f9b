//! The bot token: the one secret of this crate, and part of every address.

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};

/// A bot token. What it prints is the bot's public number and nothing more.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    pub fn new(token: impl AsRef<str>) -> Self {
        Token(token.as_ref().trim().into())
    }

    /// The secret itself, for the place that stores it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Tells two tokens apart in logs and leases without telling either: 16 hex digits of its SHA-256.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(self.0.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The text with every appearance of the token taken out.
    pub(super) fn scrub(&self, text: &str) -> String {
        let secret = self.0.split_once(':').map_or(&*self.0, |(_, secret)| secret);
        let scrubbed = if self.0.is_empty() { text.to_owned() } else { text.replace(&*self.0, "…") };
        // Half a token is worth hiding too, unless it is so short that it would eat ordinary words.
        if secret.len() >= 16 { scrubbed.replace(secret, "…") } else { scrubbed }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once(':') {
            Some((number, _)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
                write!(f, "{number}:…")
            }
            _ => f.write_str("…"),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_prints_the_bots_number_and_nothing_more() {
        let token = Token::new("123456:AAcanaryAAcanaryAAcanary");
        assert_eq!(format!("{token} {token:?}"), "123456:… Token(123456:…)");
        let odd = Token::new("mock_token_1");
        assert_eq!(format!("{odd} {odd:?}"), "… Token(…)");
    }

    #[test]
    fn a_fingerprint_is_the_beginning_of_the_hash() {
        assert_eq!(Token::new("abc").fingerprint(), "ba7816bf8f01cfea");
    }

    #[test]
    fn scrubbing_takes_out_the_whole_token_and_its_secret_half() {
        let token = Token::new("123456:AAcanaryAAcanaryAAcanary");
        assert_eq!(token.scrub("no /bot123456:AAcanaryAAcanaryAAcanary/x here"), "no /bot…/x here");
        assert_eq!(token.scrub("nor AAcanaryAAcanaryAAcanary"), "nor …");
        assert_eq!(Token::new("").scrub("nothing to hide"), "nothing to hide");
    }
}
