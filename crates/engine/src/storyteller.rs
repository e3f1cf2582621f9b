//! The engine that tells a story.

use std::time::Duration;

use async_trait::async_trait;
use salon_core::Brief;

use crate::{Emitter, Engine, EngineError, estimate};

/// Tells a long, friendly story with everything in it that an answer may contain: headings, lists, a table, a quote,
/// code, a link. It needs no key and no network, so it is what a demo streams.
///
/// The same question gets the same story, word for word, in the language of the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storyteller {
    /// The time between two pieces of a few words.
    pub pace: Duration,
}

impl Default for Storyteller {
    fn default() -> Self {
        Storyteller { pace: Duration::from_millis(30) }
    }
}

#[async_trait]
impl Engine for Storyteller {
    async fn answer(&self, brief: &Brief, out: &mut Emitter) -> Result<(), EngineError> {
        let story = tell(&brief.question);
        let mut told = 0;
        let outcome = self.stream(&story, &mut told, out).await;
        let usage = estimate::usage(None, brief, estimate::tokens(&story[..told]));
        out.usage(usage).await?;
        outcome
    }
}

impl Storyteller {
    /// `told` is kept at the number of bytes that were emitted, whatever ends the stream.
    async fn stream(&self, story: &str, told: &mut usize, out: &mut Emitter) -> Result<(), EngineError> {
        for piece in pieces(story) {
            out.text(piece).await?;
            *told += piece.len();
            tokio::select! {
                biased;
                () = out.stopped() => return Err(EngineError::Stopped),
                () = tokio::time::sleep(self.pace) => {}
            }
        }
        Ok(())
    }
}

/// Writes the story for a question.
pub fn tell(question: &str) -> String {
    let tale = Tale::for_question(question);
    let mut seed = fnv1a(question.as_bytes());
    let mut choose = |names: [&'static str; 8]| {
        let name = names[(seed % 8) as usize];
        seed /= 8;
        name
    };
    let holes = [
        ("hero", choose(tale.heroes)),
        ("friend", choose(tale.friends)),
        ("town", choose(tale.towns)),
        ("question", &quote(question, tale.silence)),
    ];
    fill(tale.text, &holes)
}

/// A story with holes, and what may fill them.
struct Tale {
    text: &'static str,
    /// Names fit the grammar around their holes: in Korean they end in a vowel; in Russian they are stems, feminine
    /// for the hero and masculine for the friend, and the text adds the endings.
    heroes: [&'static str; 8],
    friends: [&'static str; 8],
    towns: [&'static str; 8],
    /// Stands for a question without words.
    silence: &'static str,
}

impl Tale {
    fn for_question(question: &str) -> &'static Tale {
        let count = |is: fn(char) -> bool| question.chars().filter(|&char| is(char)).count();
        let hangul =
            count(|char| matches!(char, '\u{ac00}'..='\u{d7a3}' | '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}'));
        let cyrillic = count(|char| matches!(char, '\u{400}'..='\u{52f}'));
        let others = count(char::is_alphabetic) - hangul - cyrillic;
        // A Korean or Russian sentence often carries English terms, and its syllables say more per character.
        if hangul * 2 > others && hangul >= cyrillic {
            &KOREAN
        } else if cyrillic > others {
            &RUSSIAN
        } else {
            &ENGLISH
        }
    }
}

static ENGLISH: Tale = Tale {
    text: include_str!("storyteller/en.md"),
    heroes: ["Ada", "Beatrix", "Clementine", "Dora", "Ottilie", "Marguerite", "Philippa", "Winifred"],
    friends: ["Archibald", "Bartholomew", "Cornelius", "Ferdinand", "Horatio", "Leopold", "Montgomery", "Percival"],
    towns: [
        "Saltwick",
        "Pebble Bay",
        "Little Anchor",
        "Gullhaven",
        "Port Marmalade",
        "Lanternmouth",
        "Tidewell",
        "Oyster Row",
    ],
    silence: "…",
};

static KOREAN: Tale = Tale {
    text: include_str!("storyteller/ko.md"),
    heroes: ["나리", "보라", "하나", "두리", "미소", "다미", "소라", "유나"],
    friends: ["뭉치", "콩지", "도토리", "만두", "차차", "호두", "보리", "코코"],
    towns: ["구름나루", "은모래", "갈매나루", "달그네", "솔바다", "물안개", "노을나루", "조개마루"],
    silence: "…",
};

static RUSSIAN: Tale = Tale {
    text: include_str!("storyteller/ru.md"),
    heroes: ["Вер", "Нин", "Рит", "Лид", "Алис", "Полин", "Марин", "Аделин"],
    friends: ["Платон", "Тихон", "Макар", "Назар", "Захар", "Прохор", "Филимон", "Харитон"],
    towns: [
        "Солёная Пристань",
        "Тихий Причал",
        "Малый Якорь",
        "Чайкин Мыс",
        "Янтарная Гавань",
        "Фонарный Берег",
        "Медовая Бухта",
        "Северный Кнехт",
    ],
    silence: "…",
};

/// Characters of a question that a story repeats.
const QUOTED_CHARS: usize = 120;

/// Makes one harmless line of a question: it may not open a list, a link, code or a tag in the middle of the story.
fn quote(question: &str, silence: &str) -> String {
    let mut words = String::new();
    for word in question.split(|char: char| char.is_whitespace() || char.is_control()).filter(|word| !word.is_empty()) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    if words.is_empty() {
        return silence.to_owned();
    }
    let mut quoted = String::new();
    for (index, char) in words.chars().enumerate() {
        if index == QUOTED_CHARS {
            quoted.push('…');
            break;
        }
        if char.is_ascii_punctuation() && !matches!(char, ',' | '?' | '\'' | ';') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted
}

/// Fills `{holes}` in one pass: what fills them is not read for holes again.
fn fill(text: &str, holes: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, hole) = rest.split_at(open);
        out.push_str(before);
        let found = holes.iter().find_map(|(name, value)| {
            let after = hole[1..].strip_prefix(name)?.strip_prefix('}')?;
            Some((after, value))
        });
        match found {
            Some((after, value)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('{');
                rest = &hole[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Cuts a text into pieces of one to four words; together they are the text.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    let mut sizes = [3, 1, 4, 2, 3, 2].into_iter().cycle();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let words = sizes.next().unwrap_or(1);
        let end = rest.match_indices([' ', '\n']).nth(words - 1).map_or(rest.len(), |(at, space)| at + space.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// The FNV-1a hash: small, stable for ever, and no secret depends on it.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
