//! How many tokens a text is, roughly, without any model's vocabulary.
//!
//! Used where the upstream does not say, and to recognise an upstream that cannot be telling the truth. Good to about
//! a third for prose in the languages we care about; that is enough for both.

use salon_core::{Brief, Usage};

/// What a chat template puts around each message.
const TOKENS_PER_MESSAGE: i64 = 4;

/// Weights are in twentieths of a token, so that the sum stays whole until the end.
const UNIT: i64 = 20;

/// Estimates the tokens of a text: about four bytes to a token for ASCII, and a weight per character elsewhere.
///
/// Anything but the empty text is at least one token.
pub fn tokens(text: &str) -> i64 {
    let mut count = Count::default();
    count.add(text);
    count.tokens()
}

/// The estimate of a text that arrives in pieces: the same as that of the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    weight: i64,
}

impl Count {
    pub fn add(&mut self, text: &str) {
        self.weight += text.chars().map(weight).sum::<i64>();
    }

    pub fn tokens(self) -> i64 {
        (self.weight + UNIT - 1) / UNIT
    }
}

/// Estimates what a brief costs to read.
pub fn brief_tokens(brief: &Brief) -> i64 {
    let texts = brief.history.iter().map(|message| message.text.as_str());
    let instructions = Some(brief.instructions.as_str()).filter(|text| !text.is_empty());
    texts.chain(instructions).chain([brief.question.as_str()]).map(|text| tokens(text) + TOKENS_PER_MESSAGE).sum()
}

/// The usage that we counted ourselves.
pub fn usage(model: Option<String>, brief: &Brief, answer_tokens: i64) -> Usage {
    Usage { model, tokens_in: brief_tokens(brief), tokens_out: answer_tokens, estimated: true, suspect: false }
}

fn weight(char: char) -> i64 {
    match char {
        '\0'..='\u{7f}' => 5,
        // Latin with marks, Greek, Cyrillic, Armenian, Hebrew, Arabic: two or three letters share a token.
        '\u{80}'..='\u{7ff}' => 9,
        // Kana and Hangul: most syllables are a token of their own, frequent pairs share one.
        '\u{3040}'..='\u{30ff}' | '\u{ac00}'..='\u{d7a3}' | '\u{1100}'..='\u{11ff}' => 16,
        // Han.
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' => 20,
        '\u{800}'..='\u{ffff}' => 14,
        // Emoji and rare scripts fall apart into bytes.
        _ => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salon_core::{Message, Role, TurnId};

    #[test]
    fn four_ascii_bytes_are_a_token_and_other_scripts_weigh_more() {
        for (text, expected) in [
            ("", 0),
            ("a", 1),
            ("abcd", 1),
            ("abcde", 2),
            ("The quick brown fox jumps over the lazy dog.", 11),
            ("Съешь ещё этих мягких французских булок", 17),
            ("안녕하세요", 4),
            ("漢字", 2),
            ("🦜", 2),
        ] {
            assert_eq!(tokens(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_brief_counts_each_message_and_its_wrapping() {
        let brief = Brief {
            turn: TurnId::new("t1"),
            instructions: String::new(),
            history: vec![Message { role: Role::User, text: "abcd".into() }],
            question: "abcd".into(),
            pictures: Vec::new(),
            thread: None,
            wishes: salon_core::Wishes::default(),
        };
        assert_eq!(brief_tokens(&brief), 10);
        assert_eq!(brief_tokens(&Brief { instructions: "abcd".into(), ..brief }), 15);
    }
}
