//! Sealed bytes: what they look like, and what they are bound to.
//!
//! ```text
//!  0x01 │ algorithm │ length of kid │ kid │ dek (16) │ nonce (24) │ ciphertext and tag
//! ```
//!
//! `kid` names the master key that opens the blob; it is empty where the data key `dek` does. Everything else that the
//! bytes belong to is not in the blob but must be said to open it, so a blob that was moved elsewhere stays shut.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use thiserror::Error;
use ulid::Ulid;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const XCHACHA20_POLY1305: u8 = 1;
const NONCE: usize = 24;
const TAG: usize = 16;

/// A key of 32 bytes that is wiped when it goes.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// Why a blob does not open. It says nothing of what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Broken {
    #[error("it is no sealed blob of a kind that this program knows")]
    Shape,
    #[error("it was changed, or it belongs somewhere else")]
    Seal,
}

/// A blob in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blob<'a> {
    pub(crate) kid: &'a str,
    pub(crate) dek: Ulid,
    nonce: &'a [u8; NONCE],
    ciphertext: &'a [u8],
}

impl<'a> Blob<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Blob<'a>, Broken> {
        let split = || {
            let (&[VERSION, XCHACHA20_POLY1305, length], rest) = bytes.split_first_chunk()? else { return None };
            let (kid, rest) = rest.split_at_checked(usize::from(length))?;
            let (dek, rest) = rest.split_first_chunk::<16>()?;
            let (nonce, ciphertext) = rest.split_first_chunk::<NONCE>()?;
            let kid = std::str::from_utf8(kid).ok()?;
            (ciphertext.len() >= TAG).then_some(Blob { kid, dek: Ulid::from_bytes(*dek), nonce, ciphertext })
        };
        split().ok_or(Broken::Shape)
    }

    pub(crate) fn open(&self, key: &Key, bound_to: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, Broken> {
        let payload = Payload { msg: self.ciphertext, aad: &joined(bound_to) };
        let opened = cipher(key).decrypt(&XNonce::from(*self.nonce), payload);
        opened.map(Zeroizing::new).map_err(|_| Broken::Seal)
    }
}

/// Seals under a random nonce: 24 bytes are enough to never meet one again.
pub(crate) fn seal(key: &Key, kid: &str, dek: Ulid, bound_to: &[&[u8]], plain: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE] = rand::random();
    let payload = Payload { msg: plain, aad: &joined(bound_to) };
    let ciphertext = cipher(key).encrypt(&XNonce::from(nonce), payload).expect("secrets are far below 256 GiB");
    let length = u8::try_from(kid.len()).expect("names of master keys are short");
    let mut blob = Vec::with_capacity(3 + kid.len() + 16 + NONCE + ciphertext.len());
    blob.extend_from_slice(&[VERSION, XCHACHA20_POLY1305, length]);
    blob.extend_from_slice(kid.as_bytes());
    blob.extend_from_slice(&dek.to_bytes());
    blob.extend_from_slice(&nonce);
    blob.extend_from_slice(&ciphertext);
    blob
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&**key).into())
}

/// Parts with their lengths before them, so that no two lists of parts look the same.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| 4 + part.len()).sum());
    for part in parts {
        bytes.extend_from_slice(&u32::try_from(part.len()).expect("names are short").to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> Key {
        Zeroizing::new([byte; 32])
    }

    #[test]
    fn a_blob_has_the_form_that_is_written_down() {
        let dek = Ulid::from_bytes([7; 16]);
        let blob = seal(&key(1), "k1", dek, &[b"a"], b"chirp");
        assert_eq!(blob[..5], [1, 1, 2, b'k', b'1']);
        assert_eq!(blob[5..21], [7; 16]);
        assert_eq!(blob.len(), 5 + 16 + 24 + b"chirp".len() + 16);
        let parsed = Blob::parse(&blob).expect("a blob");
        assert_eq!((parsed.kid, parsed.dek), ("k1", dek));
        assert_eq!(**parsed.open(&key(1), &[b"a"]).expect("it opens"), *b"chirp");
        assert_eq!(parsed.open(&key(2), &[b"a"]), Err(Broken::Seal));
    }

    #[test]
    fn a_blob_that_another_program_could_have_made_opens() {
        // XChaCha20-Poly1305 by the test vector of draft-irtf-cfrg-xchacha, A.3.1.
        let hex = |text: &str| -> Vec<u8> {
            let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
            (0..text.len()).step_by(2).map(digit).collect()
        };
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                      sunscreen would be it.";
        let key: [u8; 32] = std::array::from_fn(|at| 0x80 + at as u8);
        let nonce: [u8; 24] = std::array::from_fn(|at| 0x40 + at as u8);
        let aad = hex("50515253c0c1c2c3c4c5c6c7");
        let sealed = XChaCha20Poly1305::new((&key).into())
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &aad })
            .expect("sealed");
        assert_eq!(sealed[..16], hex("bd6d179d3e83d43b9576579493c0e939"));
        assert_eq!(sealed[plain.len()..], hex("c0875924c1c7987947deafd8780acf49"));
    }

    #[test]
    fn parts_cannot_be_shifted_into_each_other() {
        assert_ne!(joined(&[b"ab", b"c"]), joined(&[b"a", b"bc"]));
        assert_ne!(joined(&[b"a", b""]), joined(&[b"a"]));
    }

    proptest! {
        #[test]
        fn whatever_is_changed_keeps_a_blob_shut(
            plain in prop::collection::vec(any::<u8>(), 0..80),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
        ) {
            let blob = seal(&key(1), "k", Ulid::from_bytes([7; 16]), &[b"a", b"b"], &plain);
            let mut changed = blob.clone();
            let at = at.index(blob.len());
            changed[at] ^= flip;
            // Names in the blob say which key to take; their bytes are bound by whoever seals.
            let named = 3..4 + 16;
            let opened = Blob::parse(&changed).and_then(|blob| blob.open(&key(1), &[b"a", b"b"]));
            prop_assert!(opened.is_err() || named.contains(&at));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(blob) = Blob::parse(&bytes) {
                prop_assert!(blob.open(&key(1), &[]).is_err());
            }
        }

        #[test]
        fn bytes_that_almost_are_a_blob_do_not_make_it_panic(rest in prop::collection::vec(any::<u8>(), 0..120)) {
            let bytes = [&[VERSION, XCHACHA20_POLY1305][..], &rest].concat();
            if let Ok(blob) = Blob::parse(&bytes) {
                prop_assert!(blob.open(&key(1), &[]).is_err());
            }
        }
    }
}
