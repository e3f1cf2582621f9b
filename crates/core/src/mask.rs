//! The mask: what identifies a person in a text is replaced by what it was.
//!
//! `[email]`, `[phone]`, `[card]`, `[id]`, `[iban]`, `[ip]`. Numbers are believed to be what they look like only where
//! their check digits agree, so that an order's number stays; phones have none, so they need a plus sign or the form of a
//! Korean or Russian number.

use std::borrow::Cow;

/// Who is shown masked texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mask {
    #[default]
    Off,
    /// Whoever reads others' questions and answers: administrators and exports.
    Logs,
    /// Models, too: what people write is masked before it leaves.
    All,
}

impl Mask {
    pub fn as_str(self) -> &'static str {
        match self {
            Mask::Off => "off",
            Mask::Logs => "logs",
            Mask::All => "all",
        }
    }

    pub fn parse(text: &str) -> Option<Mask> {
        [Mask::Off, Mask::Logs, Mask::All].into_iter().find(|mask| mask.as_str() == text)
    }

    /// A text as others than its author may read it.
    pub fn for_readers(self, text: &str) -> Cow<'_, str> {
        if self == Mask::Off { Cow::Borrowed(text) } else { mask(text) }
    }

    /// A text as a model may read it.
    pub fn for_models(self, text: &str) -> Cow<'_, str> {
        if self == Mask::All { mask(text) } else { Cow::Borrowed(text) }
    }
}

/// Masks a text. What is not masked stays as it is, byte for byte; a text without anything is not copied.
pub fn mask(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut kept = 0;
    let mut at = 0;
    while at < text.len() {
        // Things begin where a word begins.
        let found = if begins(text, at) { find(&text[at..], text[..at].chars().next_back()) } else { None };
        match found {
            Some((length, name)) => {
                masked.push_str(&text[kept..at]);
                masked.push_str(name);
                at += length;
                kept = at;
            }
            None => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(&text[kept..]);
    Cow::Owned(masked)
}

fn begins(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    let here = text[at..].chars().next();
    match (before, here) {
        (_, None) => false,
        (None, Some(_)) => true,
        // A Korean or Russian word may stand right before an address or a number.
        (Some(before), Some('+' | '(')) => !before.is_ascii_alphanumeric(),
        (Some(before), Some(here)) => here.is_ascii_alphanumeric() && !before.is_ascii_alphanumeric(),
    }
}

/// What begins here, with its length in bytes.
fn find(rest: &str, before: Option<char>) -> Option<(usize, &'static str)> {
    // A piece of something longer, such as a version, a path or a decimal.
    let inside = matches!(before, Some('.' | '/' | '-' | '_' | '@' | '=' | '#'));
    if let Some(length) = email(rest) {
        return Some((length, "[email]"));
    }
    if let Some(length) = iban(rest) {
        return Some((length, "[iban]"));
    }
    if inside && !matches!(before, Some('=' | '#' | '/')) {
        return None;
    }
    if let Some(length) = ip(rest) {
        return Some((length, "[ip]"));
    }
    let run = Run::of(rest)?;
    if let Some(length) = run.take(id) {
        return Some((length, "[id]"));
    }
    if let Some(length) = run.take(card) {
        return Some((length, "[card]"));
    }
    run.take(phone).map(|length| (length, "[phone]"))
}

fn email(rest: &str) -> Option<usize> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-');
    let bytes = rest.as_bytes();
    let name = bytes.iter().take(65).take_while(|byte| plain(byte)).count();
    if name == 0 || name > 64 || bytes.get(name) != Some(&b'@') {
        return None;
    }
    let host = bytes[name + 1..].iter().take(254).take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    let host = &rest[name + 1..name + 1 + host.count()];
    let host = host.trim_end_matches(['.', '-']);
    let (domain, top) = host.rsplit_once('.')?;
    let whole = !domain.is_empty()
        && host.split('.').all(|label| !label.is_empty())
        && top.len() >= 2
        && top.bytes().all(|byte| byte.is_ascii_alphabetic());
    whole.then_some(name + 1 + host.len())
}

fn iban(rest: &str) -> Option<usize> {
    let head = rest.as_bytes().get(..4)?;
    if !head[..2].iter().all(u8::is_ascii_uppercase) || !head[2..].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut code = Vec::with_capacity(34);
    let mut last = None;
    let mut space = false;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b' ' if !space => space = true,
            byte if byte.is_ascii_uppercase() || byte.is_ascii_digit() => {
                space = false;
                code.push(byte);
                let ends = rest.as_bytes().get(at + 1).is_none_or(|next| !next.is_ascii_alphanumeric());
                if ends && (15..=34).contains(&code.len()) && is_iban(&code) {
                    last = Some(at + 1);
                }
                if code.len() == 34 {
                    break;
                }
            }
            _ => break,
        }
    }
    last
}

fn is_iban(code: &[u8]) -> bool {
    let (head, tail) = code.split_at(4);
    let rest = tail.iter().chain(head).fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    rest == 1
}

fn ip(rest: &str) -> Option<usize> {
    let mut at = 0;
    for part in 0..4 {
        let digits = rest[at..].bytes().take(4).take_while(u8::is_ascii_digit).count();
        let number = &rest[at..at + digits];
        if !(1..=3).contains(&digits) || number.parse::<u8>().is_err() || (digits > 1 && number.starts_with('0')) {
            return None;
        }
        at += digits;
        if part < 3 {
            if rest.as_bytes().get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
    }
    let after = rest[at..].bytes().next();
    let more = rest.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit);
    let ends = after.is_none_or(|byte| !byte.is_ascii_alphanumeric()) && !(after == Some(b'.') && more);
    ends.then_some(at)
}

/// Digits with single separators between them, as people write numbers.
struct Run {
    plus: bool,
    digits: Vec<u8>,
    /// For each digit, where it ends.
    ends: Vec<usize>,
    /// What stands between a digit and the next.
    between: Vec<Vec<u8>>,
    /// A letter follows, or the number goes on as something else.
    cut: bool,
}

/// The most digits that are looked at.
const MOST_DIGITS: usize = 24;

impl Run {
    fn of(rest: &str) -> Option<Run> {
        let bytes = rest.as_bytes();
        let mut run = Run { plus: false, digits: Vec::new(), ends: Vec::new(), between: Vec::new(), cut: false };
        let mut at = 0;
        if bytes.first() == Some(&b'+') {
            run.plus = true;
            at = 1;
        } else if bytes.first() == Some(&b'(') {
            at = 1;
        }
        let mut gap = Vec::new();
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'0'..=b'9' if run.digits.len() < MOST_DIGITS => {
                    if !run.digits.is_empty() {
                        run.between.push(std::mem::take(&mut gap));
                    } else if !gap.is_empty() {
                        return None;
                    }
                    run.digits.push(byte - b'0');
                    run.ends.push(at + 1);
                }
                b' ' | b'-' | b'(' | b')' | b'.' if gap.len() < 2 && !run.digits.is_empty() => gap.push(*byte),
                byte => {
                    run.cut = gap.is_empty() && (byte.is_ascii_alphanumeric() || *byte == b'_');
                    break;
                }
            }
            at += 1;
        }
        (!run.digits.is_empty()).then_some(run)
    }

    /// The longest beginning that is one of these. It ends where a separator or the number ends.
    fn take(&self, is: impl Fn(&Run, usize) -> bool) -> Option<usize> {
        (1..=self.digits.len()).rev().find_map(|count| {
            let whole = count == self.digits.len();
            let ends = if whole { !self.cut } else { matches!(self.between[count - 1].first(), Some(b' ' | b',')) };
            (ends && is(self, count)).then(|| self.ends[count - 1])
        })
    }

    /// The lengths of the groups of the first digits.
    fn groups(&self, count: usize) -> Vec<usize> {
        let mut groups = vec![1];
        for gap in &self.between[..count.saturating_sub(1)] {
            match (gap.is_empty(), groups.last_mut()) {
                (true, Some(last)) => *last += 1,
                _ => groups.push(1),
            }
        }
        groups
    }

    fn only(&self, count: usize, separators: &[u8]) -> bool {
        self.between[..count.saturating_sub(1)].iter().flatten().all(|byte| separators.contains(byte))
    }
}

/// National numbers: Korea's resident number, Russia's pension number and passport.
fn id(run: &Run, count: usize) -> bool {
    let digits = &run.digits[..count];
    let groups = run.groups(count);
    match groups.as_slice() {
        _ if run.plus => false,
        [6, 7] | [13] => run.only(count, b"-") && is_resident(digits),
        [3, 3, 3, 2] | [11] => run.only(count, b"- ") && is_snils(digits),
        // Four digits and six have no check digit; the form is all there is.
        [4, 6] | [2, 2, 6] => run.only(count, b" "),
        _ => false,
    }
}

fn is_resident(digits: &[u8]) -> bool {
    let month = digits[2] * 10 + digits[3];
    let day = digits[4] * 10 + digits[5];
    let sum: u32 = (0..12).map(|at| u32::from(digits[at]) * (2 + at as u32 % 8)).sum();
    (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && digits[6] <= 8
        && (11 - sum % 11) % 10 == u32::from(digits[12])
}

fn is_snils(digits: &[u8]) -> bool {
    let sum: u32 = (0..9).map(|at| u32::from(digits[at]) * (9 - at as u32)).sum();
    let check = sum % 101 % 100;
    let number = digits[..9].iter().any(|digit| *digit != 0);
    number && check == u32::from(digits[9]) * 10 + u32::from(digits[10])
}

fn card(run: &Run, count: usize) -> bool {
    let digits = &run.digits[..count];
    let doubled = |at: usize, digit: u8| if at % 2 == 1 { digit * 2 - if digit > 4 { 9 } else { 0 } } else { digit };
    let sum: u32 = digits.iter().rev().enumerate().map(|(at, digit)| u32::from(doubled(at, *digit))).sum();
    let groups = run.groups(count);
    let form = groups.len() == 1 || groups.iter().all(|group| (3..=7).contains(group));
    !run.plus
        && (13..=19).contains(&count)
        && run.only(count, b"- ")
        && form
        && sum.is_multiple_of(10)
        && matches!(digits[0], 2..=6)
}

fn phone(run: &Run, count: usize) -> bool {
    let digits = &run.digits[..count];
    if !run.only(count, b"-() .") {
        return false;
    }
    if run.plus {
        return (8..=15).contains(&count) && digits[0] != 0;
    }
    let grouped = run.groups(count).len() > 1;
    match (digits, count) {
        // Korea: mobiles, and the others where they are written in groups.
        ([0, 1, 0 | 1 | 6..=9, ..], 10 | 11) => true,
        ([0, 2, ..], 9 | 10) | ([0, 3..=6, ..], 10 | 11) => grouped,
        // Russia: 8 and a mobile or city code.
        ([8, 9, ..], 11) => true,
        ([8, 3 | 4 | 8, ..], 11) => grouped,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_identifies_a_person_is_masked() {
        let table = [
            ("write to alice@example.org please", "write to [email] please"),
            ("alice.b+c@mail.example.co.uk.", "[email]."),
            ("메일은kim@example.kr입니다", "메일은[email]입니다"),
            ("<bob@example.com>", "<[email]>"),
            ("call +82 10-1234-5678 now", "call [phone] now"),
            ("010-1234-5678", "[phone]"),
            ("01012345678", "[phone]"),
            ("02-123-4567", "[phone]"),
            ("Звони +7 (912) 345-67-89!", "Звони [phone]!"),
            ("8 912 345 67 89", "[phone]"),
            ("89123456789", "[phone]"),
            ("+1 415 555 2671", "[phone]"),
            ("+493012345678", "[phone]"),
            ("4111 1111 1111 1111", "[card]"),
            ("card 4111-1111-1111-1111, thanks", "card [card], thanks"),
            ("5500005555555559", "[card]"),
            ("378282246310005", "[card]"),
            ("900101-1234568", "[id]"),
            ("112-233-445 95", "[id]"),
            ("паспорт 45 08 123456 выдан", "паспорт [id] выдан"),
            ("4508 123456", "[id]"),
            ("DE89370400440532013000", "[iban]"),
            ("IBAN GB82 WEST 1234 5698 7654 32.", "IBAN [iban]."),
            ("from 192.168.1.10 at noon", "from [ip] at noon"),
            ("http://10.0.0.1:8080/x", "http://[ip]:8080/x"),
            ("a@example.org,b@example.org", "[email],[email]"),
        ];
        for (text, masked) in table {
            assert_eq!(mask(text), masked, "{text}");
        }
    }

    #[test]
    fn ordinary_numbers_stay() {
        let table = [
            "",
            "Hello, world.",
            "2 + 2 = 4",
            "In 1984 there were 12,345 storks.",
            "2026-11-29 14:05:00",
            "order 4111111111111112",
            "900101-1234567",
            "version 1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "3.14159265358979",
            "@alice and #12",
            "alice@localhost",
            "0x4111111111111111",
            "DE00370400440532013000",
            "112-233-445 96",
            "$1,000,000.00",
            "전화 없이 만나요",
            "Позвони мне завтра",
            "1234567890123",
        ];
        for text in table {
            assert!(matches!(mask(text), Cow::Borrowed(same) if same == text), "{text} became {}", mask(text));
        }
    }

    #[test]
    fn a_setting_says_for_whom() {
        let text = "alice@example.org";
        assert_eq!(Mask::Off.for_readers(text), text);
        assert_eq!(Mask::Logs.for_readers(text), "[email]");
        assert_eq!(Mask::Logs.for_models(text), text);
        assert_eq!(Mask::All.for_models(text), "[email]");
        for mask in [Mask::Off, Mask::Logs, Mask::All] {
            assert_eq!(Mask::parse(mask.as_str()), Some(mask));
        }
        assert_eq!(Mask::parse("some"), None);
    }

    proptest! {
        #[test]
        fn masking_twice_is_masking_once(text in "([a-z@.]{1,6}|[0-9 ()+.-]{1,14}|[가-나]|é|DE89| ){0,12}") {
            let once = mask(&text).into_owned();
            prop_assert_eq!(mask(&once), once.as_str());
        }

        #[test]
        fn nothing_breaks_it(text in ".{0,200}") {
            mask(&text);
        }

        #[test]
        fn plain_words_stay(text in "[a-zA-Zа-яА-Я가-힣 ,.!?\n]{0,200}") {
            prop_assert!(matches!(mask(&text), Cow::Borrowed(_)));
        }
    }
}
