//! How far a JSON string goes on.

/// So many bytes are looked at in words of eight before a search for long strings is worth its start.
const NEAR: usize = 64;

/// Where the next quote or backslash is, or the end of the bytes.
///
/// Most strings are short, and in most long ones there is an escape every line; where there is none for long, as in
/// prose and in pictures, the search is as fast as memory.
pub(super) fn end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    let near = from.saturating_add(NEAR).min(bytes.len());
    while let Some(word) = bytes[at..near].first_chunk() {
        let found = marks(u64::from_le_bytes(*word));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    if at < near && near < bytes.len() || rest.len() >= 8 {
        return at + memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    }
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len())
}

/// The high bit of the first byte that is a quote or a backslash. Those of later bytes may be wrong.
fn marks(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    // A byte is zero if subtracting one from it borrows, and it was not high before.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::wire::fuzz::config(20_000))]

        #[test]
        fn the_end_is_the_first_quote_or_backslash(
            bytes in prop::collection::vec(prop::sample::select(b"\"\\!#[]a\0\x7f\x80\xff\xa2\xdc".to_vec()), 0..20),
            quiet in 0_usize..150, from in any::<prop::sample::Index>(),
        ) {
            let bytes = [&vec![b'~'; quiet], bytes.as_slice()].concat();
            let from = from.index(bytes.len() + 1);
            let expected = bytes[from..].iter().position(|byte| matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(end(&bytes, from), expected.map_or(bytes.len(), |at| from + at));
        }
    }
}
