//! Trouble on request: rules that spoil answers, by chance but repeatably.

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::question::Question;
use crate::dice::Dice;

/// A rule. The first that fits a call and whose dice fall is applied, oldest first.
///
/// | mode | what happens |
/// |---|---|
/// | `status:503` | an error of this status in the wire's own words |
/// | `429`, `429:7` | the same for 429, with `Retry-After` if a number is given |
/// | `drop`, `rst` | the connection ends, or is reset, before anything is answered |
/// | `hang` | the request is taken and nothing comes |
/// | `delay:500` | the answer begins this many milliseconds later |
/// | `cut:3`, `rst:3`, `half:3` | the stream ends after three pieces: by a close, a reset, or in the middle of a frame |
/// | `stall:3` | the stream falls silent after three pieces |
/// | `drip` | one byte every five seconds |
/// | `error:3` | after three pieces the stream says that something is wrong, in the wire's words |
/// | `no_usage` | nothing is said of usage |
/// | `usage:0`, `usage:-5`, `usage:9223372036854775807` | a lie about usage |
/// | `garbage`, `html`, `empty`, `bad_json` | 200, and not an answer |
/// | `huge_line` | a line of ten megabytes |
/// | `crlf`, `bom`, `no_space`, `comments`, `split_utf8` | a stream that is right and looks odd |
/// | `bad_utf8`, `bad_frame`, `done_twice`, `no_done`, `after_done`, `no_blank_line` | a stream that is wrong |
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    /// A part of the path, such as `messages`; without one, every path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The share of fitting calls that are spoiled.
    #[serde(default = "always")]
    pub p: f64,
    /// How many calls are spoiled before the rule ends; without it, it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How many fitting calls go through before the first is spoiled.
    #[serde(default)]
    pub after: u64,
    pub mode: String,
    #[serde(default)]
    pub seed: u64,
}

fn always() -> f64 {
    1.0
}

impl Trouble {
    /// A rule that spoils every call in one way.
    pub fn new(mode: &str) -> Trouble {
        let mode = mode.to_owned();
        Trouble { path: None, model: None, key: None, p: 1.0, count: None, after: 0, mode, seed: 0 }
    }

    pub fn times(mut self, count: u64) -> Trouble {
        self.count = Some(count);
        self
    }

    pub fn on_path(mut self, path: &str) -> Trouble {
        self.path = Some(path.to_owned());
        self
    }

    pub fn on_model(mut self, model: &str) -> Trouble {
        self.model = Some(model.to_owned());
        self
    }

    pub fn on_key(mut self, key: &str) -> Trouble {
        self.key = Some(key.to_owned());
        self
    }

    pub fn after(mut self, calls: u64) -> Trouble {
        self.after = calls;
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Status(u16, Option<u64>),
    Drop,
    Reset,
    Hang,
    Delay(u64),
    /// Ends a stream after so many pieces.
    Cut(usize, Ending),
    Drip,
    /// What is said of usage instead; `None` says nothing.
    Usage(Option<i64>),
    Body(Bad),
    Shape(Odd),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Close,
    Reset,
    Half,
    Stall,
    Error,
}

/// A whole body that is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    Garbage,
    Html,
    Empty,
    Json,
    HugeLine,
}

/// A stream whose frames look odd, or are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Odd {
    Crlf,
    Bom,
    NoSpace,
    Comments,
    SplitUtf8,
    BadUtf8,
    BadFrame,
    DoneTwice,
    NoDone,
    AfterDone,
    NoBlankLine,
}

impl Mode {
    fn parse(text: &str) -> Result<Mode> {
        if let Some((name, number)) = text.split_once(':') {
            let count = || number.parse::<usize>().ok().filter(|count| *count <= 100_000);
            return Ok(match (name, count()) {
                ("status", Some(code)) if (300..=599).contains(&code) => Mode::Status(u16::try_from(code)?, None),
                ("429", Some(seconds)) => Mode::Status(429, Some(seconds as u64)),
                ("503", Some(seconds)) => Mode::Status(503, Some(seconds as u64)),
                ("delay", Some(ms)) => Mode::Delay(ms as u64),
                ("cut", Some(pieces)) => Mode::Cut(pieces, Ending::Close),
                ("rst", Some(pieces)) => Mode::Cut(pieces, Ending::Reset),
                ("half", Some(pieces)) => Mode::Cut(pieces, Ending::Half),
                ("stall", Some(pieces)) => Mode::Cut(pieces, Ending::Stall),
                ("error", Some(pieces)) => Mode::Cut(pieces, Ending::Error),
                ("usage", _) => Mode::Usage(Some(number.parse()?)),
                _ => bail!("there is no trouble called {text}"),
            });
        }
        Ok(match text {
            "429" => Mode::Status(429, None),
            "drop" => Mode::Drop,
            "rst" => Mode::Reset,
            "hang" => Mode::Hang,
            "drip" => Mode::Drip,
            "no_usage" => Mode::Usage(None),
            "garbage" => Mode::Body(Bad::Garbage),
            "html" => Mode::Body(Bad::Html),
            "empty" => Mode::Body(Bad::Empty),
            "bad_json" => Mode::Body(Bad::Json),
            "huge_line" => Mode::Body(Bad::HugeLine),
            "crlf" => Mode::Shape(Odd::Crlf),
            "bom" => Mode::Shape(Odd::Bom),
            "no_space" => Mode::Shape(Odd::NoSpace),
            "comments" => Mode::Shape(Odd::Comments),
            "split_utf8" => Mode::Shape(Odd::SplitUtf8),
            "bad_utf8" => Mode::Shape(Odd::BadUtf8),
            "bad_frame" => Mode::Shape(Odd::BadFrame),
            "done_twice" => Mode::Shape(Odd::DoneTwice),
            "no_done" => Mode::Shape(Odd::NoDone),
            "after_done" => Mode::Shape(Odd::AfterDone),
            "no_blank_line" => Mode::Shape(Odd::NoBlankLine),
            _ => bail!("there is no trouble called {text}"),
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Troubles {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    trouble: Trouble,
    mode: Mode,
    dice: Dice,
    met: u64,
    made: u64,
}

impl Troubles {
    pub fn add(&mut self, trouble: Trouble) -> Result<()> {
        ensure!((0.0..=1.0).contains(&trouble.p), "p is a share between 0 and 1");
        let mode = Mode::parse(&trouble.mode)?;
        let dice = Dice::new(trouble.seed);
        self.rules.push(Rule { trouble, mode, dice, met: 0, made: 0 });
        Ok(())
    }

    /// What happens to a call, with the rule's own word for it.
    pub fn strike(&mut self, question: &Question) -> Option<(Mode, String)> {
        for rule in &mut self.rules {
            let Trouble { path, model, key, p, count, after, mode, .. } = &rule.trouble;
            let fits = path.as_ref().is_none_or(|path| question.path.contains(path.as_str()))
                && model.as_ref().is_none_or(|model| *model == question.model)
                && key.as_ref().is_none_or(|key| question.key.as_ref() == Some(key));
            if !fits || count.is_some_and(|count| rule.made >= count) {
                continue;
            }
            rule.met += 1;
            if rule.met > *after && rule.dice.chance(*p) {
                rule.made += 1;
                return Some((rule.mode, mode.clone()));
            }
        }
        None
    }

    pub fn list(&self) -> Vec<(Trouble, u64)> {
        self.rules.iter().map(|rule| (rule.trouble.clone(), rule.made)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_or_refused_by_name() {
        assert_eq!(Mode::parse("429:7").expect("known"), Mode::Status(429, Some(7)));
        assert_eq!(Mode::parse("cut:0").expect("known"), Mode::Cut(0, Ending::Close));
        assert_eq!(Mode::parse("usage:-5").expect("known"), Mode::Usage(Some(-5)));
        for unknown in ["", "cut", "status:200", "status:999", "tea"] {
            assert!(Mode::parse(unknown).is_err(), "{unknown}");
        }
    }
}
