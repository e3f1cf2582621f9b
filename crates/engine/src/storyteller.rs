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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ask, brief, text_of};
    use pulldown_cmark::{CodeBlockKind, Event as Mark, Options, Parser, Tag};
    use salon_core::Event;
    use std::collections::BTreeMap;
    use tokio_util::sync::CancellationToken;

    const QUESTIONS: [&str; 3] =
        ["Why do storks stand on one leg?", "황새는 왜 한쪽 다리로 서 있나요?", "Почему аисты стоят на одной ноге?"];

    /// Counts what a story is made of.
    fn marks(story: &str) -> BTreeMap<String, usize> {
        let mut marks = BTreeMap::new();
        let mut depth = 0;
        for mark in Parser::new_ext(story, Options::ENABLE_TABLES) {
            let name = match mark {
                Mark::Start(Tag::List(start)) => {
                    depth += 1;
                    let kind = if start.is_some() { "numbered" } else { "bullets" };
                    format!("{kind} at depth {depth}")
                }
                Mark::End(pulldown_cmark::TagEnd::List(_)) => {
                    depth -= 1;
                    continue;
                }
                Mark::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => format!("code in {language}"),
                Mark::Start(Tag::Link { .. }) => "link".to_owned(),
                Mark::Start(Tag::Heading { .. }) => "heading".to_owned(),
                Mark::Start(Tag::Table(_)) => "table".to_owned(),
                Mark::Start(Tag::BlockQuote(_)) => "quote".to_owned(),
                Mark::Start(Tag::Strong) => "bold".to_owned(),
                Mark::Start(Tag::Emphasis) => "italic".to_owned(),
                Mark::Start(Tag::Image { .. }) => "image".to_owned(),
                Mark::Html(_) | Mark::InlineHtml(_) => "html".to_owned(),
                Mark::Code(_) => "inline code".to_owned(),
                _ => continue,
            };
            *marks.entry(name).or_insert(0) += 1;
        }
        marks
    }

    fn visible_chars(story: &str) -> usize {
        let visible = |mark| match mark {
            Mark::Text(text) => text.chars().count(),
            _ => 0,
        };
        Parser::new_ext(story, Options::ENABLE_TABLES).map(visible).sum()
    }

    #[test]
    fn a_story_has_everything_that_an_answer_may_contain_and_needs_two_messages() {
        for question in QUESTIONS {
            let story = tell(question);
            let marks = marks(&story);
            for (part, at_least) in [
                ("heading", 6),
                ("bold", 3),
                ("italic", 5),
                ("quote", 2),
                ("table", 1),
                ("link", 1),
                ("code in python", 1),
                ("code in text", 1),
                ("bullets at depth 3", 1),
                ("numbered at depth 2", 1),
            ] {
                assert!(marks.get(part).is_some_and(|n| *n >= at_least), "{question}: {part} in {marks:?}");
            }
            assert_eq!(marks.get("html"), None, "{question}");
            assert!(visible_chars(&story) > 4200, "{question}: {}", visible_chars(&story));
            assert!(story.chars().count() < 9000, "{question}");
        }
    }

    #[test]
    fn a_story_is_told_in_the_language_of_its_question() {
        for (question, title) in [
            ("Tell me a story", "# The Lighthouse That Answered Letters"),
            ("이야기 하나 해 주세요", "# 편지에 답하는 등대"),
            ("Rust로 짠 Telegram 봇 이야기 해줘", "# 편지에 답하는 등대"),
            ("Расскажи сказку про Rust", "# Маяк, который отвечал на письма"),
            ("what does 안녕 mean in English, please?", "# The Lighthouse That Answered Letters"),
            ("", "# The Lighthouse That Answered Letters"),
            ("42?", "# The Lighthouse That Answered Letters"),
        ] {
            assert_eq!(tell(question).lines().next(), Some(title), "{question}");
        }
    }

    #[test]
    fn every_hole_is_filled_and_the_same_question_gets_the_same_story() {
        for question in QUESTIONS {
            let story = tell(question);
            assert_eq!(story, tell(question));
            for hole in ["{hero}", "{friend}", "{town}", "{question}"] {
                assert!(!story.contains(hole), "{hole} in the story for {question}");
            }
            assert_eq!(story.matches(question).count(), 2, "{question} is quoted twice");
        }
        let openings: std::collections::BTreeSet<_> =
            (0..50).map(|n| tell(&format!("Story {n}")).lines().nth(2).map(str::to_owned)).collect();
        assert!(openings.len() > 4, "other questions get other towns");
    }

    #[test]
    fn names_fit_the_grammar_of_their_language() {
        let ends_in_a_vowel =
            |name: &str| name.chars().last().is_some_and(|last| (last as u32 - 0xac00).is_multiple_of(28));
        for name in KOREAN.heroes.iter().chain(&KOREAN.friends) {
            assert!(ends_in_a_vowel(name), "{name} would need other particles");
        }
        for name in RUSSIAN.heroes.iter().chain(&RUSSIAN.friends) {
            let last = name.chars().last().expect("a name");
            assert!("бвдзлмнпрст".contains(last), "{name} would need other endings");
        }
    }

    #[test]
    fn a_question_cannot_change_the_shape_of_the_story() {
        let plain = marks(&tell("hello there"));
        for hostile in [
            "# heading\n\n- list\n1. numbers",
            "```sh\nrm -rf /\n```",
            "<script>alert(1)</script> <b>",
            "[click](https://example.com) ![x](y)",
            "**bold** *italic* __b__ ~~s~~ `code` | a | b |",
            "{question} {hero} {town}",
            "> quote",
            "\u{0}\u{1b}[31m",
        ] {
            assert_eq!(marks(&tell(hostile)), plain, "{hostile:?}");
        }
        let long = tell(&"very ".repeat(1000));
        assert!(long.chars().count() < 9000, "a long question is cut");
    }

    #[tokio::test(start_paused = true)]
    async fn it_streams_the_story_in_small_pieces_and_says_what_it_cost() {
        let heard = ask(&Storyteller::default(), QUESTIONS[1]).await;
        assert_eq!(heard.outcome, Ok(()));
        assert_eq!(text_of(&heard.events), tell(QUESTIONS[1]));
        assert!(heard.events.len() > 300, "{} pieces", heard.events.len());
        assert!(heard.events.iter().all(|event| !matches!(event, Event::Text { text } if text.chars().count() > 120)));
        let Some(Event::Usage(usage)) = heard.events.last() else { panic!("usage comes last") };
        assert_eq!(usage.tokens_out, estimate::tokens(&tell(QUESTIONS[1])));
        assert!(usage.estimated);
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_at_once_and_has_told_only_what_it_charges() {
        let stop = CancellationToken::new();
        let (mut out, mut events) = Emitter::channel(4, stop.clone());
        let told = brief(QUESTIONS[0]);
        let storyteller = Storyteller { pace: Duration::from_secs(3600) };
        let listen = async {
            let mut heard = Vec::new();
            heard.extend(events.recv().await);
            stop.cancel();
            while let Some(event) = events.recv().await {
                heard.push(event);
            }
            heard
        };
        let began = tokio::time::Instant::now();
        let answer = async {
            let outcome = storyteller.answer(&told, &mut out).await;
            drop(out);
            outcome
        };
        let (outcome, heard) = tokio::join!(answer, listen);
        assert_eq!(outcome, Err(EngineError::Stopped));
        assert_eq!(began.elapsed(), Duration::ZERO, "it did not wait for its pace");
        let [Event::Text { text }, Event::Usage(usage)] = heard.as_slice() else { panic!("{heard:?}") };
        assert_eq!(usage.tokens_out, estimate::tokens(text));
    }
}
