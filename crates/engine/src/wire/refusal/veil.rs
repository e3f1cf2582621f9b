//! Hides the key that an upstream was asked with, in whatever it says.

use bytes::Bytes;
use memchr::{memchr_iter, memmem};

use crate::Secret;

/// One that is as short as a word is left: it would be found where nobody means it.
const LEAST: usize = 8;
const WORD: &[u8] = b"[key]";

/// Puts a word in the place of this very key, whatever it looks like.
pub fn hide_key(bytes: Bytes, key: &Secret) -> Bytes {
    spellings(key).iter().fold(bytes, |bytes, key| {
        let mut found = memmem::find_iter(&bytes, key).peekable();
        if found.peek().is_none() {
            drop(found);
            return bytes;
        }
        let (mut clean, mut done) = (Vec::with_capacity(bytes.len()), 0);
        for at in found {
            clean.extend_from_slice(&bytes[done..at]);
            clean.extend_from_slice(WORD);
            done = at + key.len();
        }
        clean.extend_from_slice(&bytes[done..]);
        clean.into()
    })
}

/// Hides a key in what comes in pieces, wherever they were cut.
#[derive(Default)]
pub struct Veil {
    /// What may be the beginning of the key.
    held: Bytes,
}

impl Veil {
    /// What may be told of a piece and of what waits for it.
    pub fn push(&mut self, piece: Bytes, key: &Secret) -> Bytes {
        let held = std::mem::take(&mut self.held);
        let bytes = if held.is_empty() { piece } else { [held, piece].concat().into() };
        let mut told = hide_key(bytes, key);
        let begun = spellings(key).iter().map(|key| begun(&told, key)).max().unwrap_or_default();
        self.held = told.split_off(told.len() - begun);
        told
    }

    /// What waited for more, where nothing more comes. So much of a key that it is one is not told.
    pub fn finish(&mut self) -> Bytes {
        let held = std::mem::take(&mut self.held);
        if held.len() < LEAST { held } else { Bytes::from_static(WORD) }
    }
}

/// The key as it may be written: some write a slash in JSON with a backslash before it.
fn spellings(key: &Secret) -> Vec<Vec<u8>> {
    let key = key.expose();
    if key.len() < LEAST {
        return Vec::new();
    }
    let escaped = key.contains('/').then(|| key.replace('/', "\\/").into_bytes());
    [Some(key.as_bytes().to_vec()), escaped].into_iter().flatten().collect()
}

/// How many bytes at the end are the beginning of a key.
fn begun(bytes: &[u8], key: &[u8]) -> usize {
    let Some(first) = key.first() else { return 0 };
    let last = &bytes[bytes.len().saturating_sub(key.len() - 1)..];
    let from = memchr_iter(*first, last).find(|from| key.starts_with(&last[*from..]));
    from.map_or(0, |from| last.len() - from)
}
