//! What a key of ours looks like: `salon_`, 43 letters that hold 256 random bits, and 6 that tell a mistake.
//!
//! The last six are a CRC over the rest. They prove nothing; by them a scanner of repositories knows one of our keys from a
//! variable's name, and a key that was cut short costs us no question to the database.

use salon_engine::Secret;
use zeroize::Zeroizing;

pub(crate) const PREFIX: &str = "salon_";
const RANDOM: usize = 43;
const CHECK: usize = 6;
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A new key.
pub(crate) fn make() -> Secret {
    let random = Zeroizing::new(rand::random::<[u8; 32]>());
    let mut text = format!("{PREFIX}{}", letters(&random[..], RANDOM));
    text.push_str(&letters(&crc32(text.as_bytes()).to_be_bytes(), CHECK));
    Secret::new(text)
}

/// Whether the text has the form of a key, its last letters included.
pub(crate) fn is_whole(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(PREFIX) else { return false };
    if rest.len() != RANDOM + CHECK || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    let (body, check) = text.split_at(PREFIX.len() + RANDOM);
    letters(&crc32(body.as_bytes()).to_be_bytes(), CHECK) == check
}

/// The last letters, by which people tell their keys apart.
pub(crate) fn hint(token: &str) -> String {
    token.chars().skip(token.chars().count().saturating_sub(4)).collect()
}

/// A number of many bytes, the highest first, in `length` letters.
fn letters(number: &[u8], length: usize) -> String {
    let mut number = Zeroizing::new(number.to_vec());
    let mut letters = vec![0; length];
    for letter in letters.iter_mut().rev() {
        let mut rest = 0u32;
        for byte in number.iter_mut() {
            let part = rest << 8 | u32::from(*byte);
            *byte = u8::try_from(part / 62).expect("the rest is below 62");
            rest = part % 62;
        }
        *letter = LETTERS[rest as usize];
    }
    letters.into_iter().map(char::from).collect()
}

/// The CRC-32 of zip files, four bits at a time.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut at = 0;
        while at < 16 {
            let (mut word, mut bit) = (at as u32, 0);
            while bit < 4 {
                word = if word & 1 == 1 { word >> 1 ^ 0xedb8_8320 } else { word >> 1 };
                bit += 1;
            }
            table[at] = word;
            at += 1;
        }
        table
    };
    let fold = |crc: u32, byte: &u8| {
        let crc = crc ^ u32::from(*byte);
        let crc = crc >> 4 ^ TABLE[(crc & 15) as usize];
        crc >> 4 ^ TABLE[(crc & 15) as usize]
    };
    !bytes.iter().fold(!0, fold)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_key_is_whole_until_a_letter_of_it_changes() {
        let key = make();
        let text = key.expose();
        assert_eq!(text.len(), 55);
        assert!(is_whole(text));
        for at in 0..text.len() {
            let mut other = text.to_owned();
            let letter = if &other[at..=at] == "a" { "b" } else { "a" };
            other.replace_range(at..=at, letter);
            assert!(!is_whole(&other), "{at}");
        }
        assert!(!is_whole(&text[..54]) && !is_whole(&format!("{text}a")) && !is_whole(""));
        assert_eq!(hint(text), text[51..]);
    }

    #[test]
    fn keys_are_different_and_use_every_letter() {
        let keys: Vec<_> = (0..200).map(|_| make()).collect();
        let different: BTreeSet<_> = keys.iter().map(|key| key.expose()).collect();
        assert_eq!(different.len(), 200);
        let letters: BTreeSet<_> = keys.iter().flat_map(|key| key.expose()[6..49].bytes()).collect();
        assert_eq!(letters.len(), 62);
    }

    #[test]
    fn numbers_and_sums_are_those_that_others_compute() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(letters(&[0, 62], 3), "010");
        assert_eq!(letters(&[0xff; 32], 43).len(), 43);
        assert_eq!(letters(&u32::MAX.to_be_bytes(), 6), "4gfFC3");
    }
}
