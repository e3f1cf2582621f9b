//! The master key, and what is derived from it.
//!
//! It is 32 random bytes that are kept apart from the data: in `MASTER_KEY`, or in a file that only its owner can read.
//! Every use has a key of its own, derived by a label. What stands in the database is worthless without it, and a
//! *canary* there tells a wrong key before anything is done with it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use salon_store::{Error, Store};
use sha2::Sha256;
use thiserror::Error as ThisError;

const CANARY: &str = "master_key_canary";

#[derive(Clone)]
pub struct Keys {
    tokens: [u8; 32],
    canary: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

#[derive(Debug, ThisError)]
pub enum KeyError {
    #[error("a master key is 32 bytes in URL-safe base64: 43 characters of A-Z a-z 0-9 - _")]
    Malformed,
    #[error("the master key can be guessed; make a random one")]
    Weak,
    #[error(
        "the master key is not the one this data was made with; set MASTER_KEY to that one. Processes that share a \
         database share the key"
    )]
    Wrong,
    #[error(transparent)]
    Store(#[from] Error),
}

impl Keys {
    /// Reads a master key as people write it.
    pub fn parse(text: &str) -> Result<Keys, KeyError> {
        let master = decode(text.trim()).ok_or(KeyError::Malformed)?;
        let mut seen = master;
        seen.sort_unstable();
        let different = 1 + seen.windows(2).filter(|pair| pair[0] != pair[1]).count();
        // Of 32 random bytes nearly all differ; a word or a row of zeros does not look like that.
        if different < 16 {
            return Err(KeyError::Weak);
        }
        let canary = derive(&master, b"salon.canary.v1").iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Keys { tokens: derive(&master, b"salon.token-hmac.v1"), canary })
    }

    /// A new random master key, as people write it.
    pub fn generate() -> String {
        encode(&rand::random())
    }

    /// What stands in the database for a token that was shown.
    pub fn token_hash(&self, token: &str) -> String {
        derive(&self.tokens, token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether this is the data's key. Changes nothing.
    pub async fn fits(&self, store: &Store) -> Result<bool, Error> {
        Ok(store.read().await?.find_setting(CANARY).await?.as_deref() == Some(&self.canary))
    }

    /// Refuses a key that is not the data's. New data takes this one for good.
    pub async fn check(&self, store: &Store) -> Result<(), KeyError> {
        // Changes nothing if there is a canary already; another process may be faster with another key.
        store.write(self.canary.clone(), |tx, canary| Box::pin(tx.add_setting(CANARY, canary))).await?;
        if self.fits(store).await? { Ok(()) } else { Err(KeyError::Wrong) }
    }
}

fn derive(key: &[u8; 32], label: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(label);
    mac.finalize().into_bytes().into()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn encode(bytes: &[u8; 32]) -> String {
    let mut text = String::with_capacity(43);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(word >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

/// Reads URL-safe base64 of exactly 32 bytes, padded or not.
fn decode(text: &str) -> Option<[u8; 32]> {
    let text = text.trim_end_matches('=');
    if text.len() != 43 {
        return None;
    }
    let (mut bytes, mut word, mut bits) = (Vec::with_capacity(32), 0u32, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        word = word << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits & 255) as u8);
        }
    }
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_can_be_read_and_is_another_each_time() {
        let key = Keys::generate();
        assert_eq!(key.len(), 43);
        assert!(Keys::parse(&format!("{key}=\n")).is_ok());
        assert_ne!(key, Keys::generate());
        let bytes: [u8; 32] = std::array::from_fn(|at| at as u8 * 7);
        assert_eq!(decode(&encode(&bytes)), Some(bytes));
        assert_eq!(encode(&bytes), "AAcOFRwjKjE4P0ZNVFtiaXB3foWMk5qhqK-2vcTL0tk");
    }

    #[test]
    fn weak_and_broken_keys_are_refused() {
        assert!(matches!(Keys::parse(&"A".repeat(43)), Err(KeyError::Weak)));
        assert!(matches!(Keys::parse("changeme"), Err(KeyError::Malformed)));
        assert!(matches!(Keys::parse(&"!".repeat(43)), Err(KeyError::Malformed)));
    }

    #[test]
    fn tokens_stand_for_themselves_under_their_key_only() {
        let (one, other) = (Keys::generate(), Keys::generate());
        let (one, other) = (Keys::parse(&one).expect("a key"), Keys::parse(&other).expect("a key"));
        assert_eq!(one.token_hash("t"), one.token_hash("t"));
        assert_ne!(one.token_hash("t"), other.token_hash("t"));
        assert!(!format!("{one:?}").contains(&one.canary));
    }
}
