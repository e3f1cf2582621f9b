//! A question and its answer in no wire's words.
//!
//! Every wire can be read into an [`Ask`] and written from one, and its answers can be read into [`Piece`]s and written
//! from them. So five protocols need ten translations and not twenty, and what the house answers itself (echo,
//! storyteller) can be told at any door.
//!
//! What is here is the common ground. A wire's own extras either have a place here, or are refused by name
//! ([`CannotCarry`]), or are left out and told ([`Ask::left_out`]); nothing is lost in silence but the hints that
//! [`super::carry`] lists.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use salon_core::{Brief, Role as Speaker, Tokens};
use serde_json::{Map, Number, Value};
use thiserror::Error;

use crate::upstream::Fault;

/// A question with all that leads up to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ask {
    /// The name by which the asker calls the model. Empty where the wire says it outside the body.
    pub model: String,
    pub stream: bool,
    /// Whether the asker wants the tokens told at the end of a stream. Some wires tell them unasked.
    pub usage_asked: bool,
    /// Oldest first. Instructions stand among them, as [`Role::System`] or [`Role::Developer`].
    pub messages: Vec<Message>,
    pub tools: Vec<Tool>,
    pub choice: Choice,
    /// Whether the model may call several tools at once, if the asker said.
    pub parallel: Option<bool>,
    pub format: Format,
    /// The greatest number of tokens to write, thoughts included.
    pub max_output: Option<i64>,
    pub sampling: Sampling,
    pub thinking: Thinking,
    /// `low`, `medium` or `high`: how long-winded to be.
    pub verbosity: Option<String>,
    /// What was in the question and is not in here, by name. Every name is fit for a header.
    pub left_out: Vec<String>,
    /// Settings that a Responses answer repeats, in that wire's words. Empty elsewhere.
    pub echo: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    /// Instructions as well. Only OpenAI's wires tell them apart.
    Developer,
    /// What the asker's side says, and what its tools brought back.
    User,
    Assistant,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub role: Role,
    pub parts: Vec<Part>,
    /// Where it stood in the asker's body, such as `messages[3]`: for refusals.
    pub at: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Text(String),
    Media(Media),
    /// Something that the model asked for.
    Call(Call),
    /// What came of a call.
    Outcome(Outcome),
    /// What the model thought before it spoke. Signatures are not kept: they verify on their own wire only.
    Thought(String),
    /// The model's words for why it will not answer.
    Refusal(String),
}

/// A picture, a document, a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    pub kind: Kind,
    /// Such as `image/png`. Unknown where only an address is given.
    pub mime: Option<String>,
    pub source: Source,
    /// A file's name.
    pub name: Option<String>,
    /// How closely to look at a picture: `low`, `high`, `auto`.
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Image,
    Document,
    Audio,
    Video,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Base64(String),
    Url(String),
    /// A document that is plain text.
    Text(String),
}

/// A tool's call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Never empty: where a wire has none, its reader makes one up.
    pub id: String,
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub call: String,
    /// The tool's name, where the wire says it.
    pub name: Option<String>,
    /// Text and media.
    pub parts: Vec<Part>,
    pub failed: bool,
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// JSON Schema of the arguments, if they were described.
    pub schema: Option<Value>,
    pub strict: Option<bool>,
    /// What it is at its own door, if not a plain function under this name.
    pub disguise: Option<Disguise>,
}

/// A tool that is a plain function for everybody but the one who offered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disguise {
    pub name: String,
    pub namespace: Option<String>,
    /// Takes free text, which travels as the one argument [`Disguise::INPUT`].
    pub custom: bool,
}

impl Disguise {
    pub const INPUT: &str = "input";
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    #[default]
    Auto,
    None,
    /// At least one call, whichever.
    Required,
    Named(String),
}

/// What form the answer takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    #[default]
    Text,
    /// Some JSON object.
    Json,
    Schema(Schema),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    pub name: Option<String>,
    pub description: Option<String>,
    pub schema: Value,
    pub strict: Option<bool>,
}

/// Numbers stand as they were written: `1` does not become `1.0`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    pub temperature: Option<Number>,
    pub top_p: Option<Number>,
    pub top_k: Option<Number>,
    pub seed: Option<Number>,
    pub presence_penalty: Option<Number>,
    pub frequency_penalty: Option<Number>,
    pub stop: Vec<String>,
}

/// How much to think, and whether to show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thinking {
    pub amount: Amount,
    pub show: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Amount {
    /// The asker left it to the model.
    #[default]
    Unsaid,
    /// The model shall think as it sees fit.
    Free,
    Effort(Effort),
    /// So many tokens; 0 is not at all.
    Budget(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

/// A step of an answer, in order. An answer begins with [`Piece::Begin`] and ends with [`Piece::End`] or
/// [`Piece::Broken`]; one that just stops has been cut off.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Begin {
        /// What was read by then, where the wire says so at once.
        tokens: Option<Tokens>,
    },
    Text(String),
    Thought(String),
    Refusal(String),
    /// A call begins. `call` numbers the calls of this answer from 0; later pieces name it.
    Call {
        call: usize,
        id: String,
        name: String,
    },
    Arguments {
        call: usize,
        json: String,
    },
    /// Nothing more comes for this call. Wires that do not say so imply it by the end.
    CallDone {
        call: usize,
    },
    End {
        finish: Finish,
        /// `None` where the upstream did not tell.
        tokens: Option<Tokens>,
    },
    /// The upstream failed in the middle.
    Broken(Fault),
}

/// Why a model ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Finish {
    #[default]
    Stop,
    /// It wrote one of the stop sequences: which, if known.
    Sequence(Option<String>),
    Length,
    Calls,
    /// A filter cut it off.
    Filtered,
    /// It would not answer.
    Refused,
}

/// What cannot be said in the other wire's words, or is wrong in its own.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct CannotCarry {
    /// Where in the body, such as `messages[2].content[0].image_url`.
    pub param: String,
    /// A sentence for people.
    pub message: String,
    /// A stable name for programs.
    pub code: &'static str,
}

impl CannotCarry {
    pub fn new(param: impl Into<String>, message: impl Into<String>) -> CannotCarry {
        CannotCarry { param: param.into(), message: message.into(), code: "unsupported_parameter" }
    }

    /// Something that would be wrong at every model.
    pub fn wrong(param: impl Into<String>, message: impl Into<String>) -> CannotCarry {
        CannotCarry { code: "invalid_value", ..CannotCarry::new(param, message) }
    }

    /// Something that this model has no use or no words for. `why` ends the sentence.
    pub fn of(param: &str, why: &str) -> CannotCarry {
        CannotCarry::new(param, format!("`{param}` cannot be carried to this model: {why}"))
    }
}

/// Two messages are the same if they say the same, wherever they stood.
impl PartialEq for Message {
    fn eq(&self, other: &Message) -> bool {
        self.role == other.role && self.parts == other.parts
    }
}

impl Message {
    pub fn text(role: Role, text: impl Into<String>) -> Message {
        Message::new(role, vec![Part::Text(text.into())], "messages")
    }

    pub fn new(role: Role, parts: Vec<Part>, at: impl Into<String>) -> Message {
        Message { role, parts, at: at.into() }
    }
}

impl Effort {
    pub fn as_str(self) -> &'static str {
        match self {
            Effort::None => "none",
            Effort::Minimal => "minimal",
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
            Effort::XHigh => "xhigh",
            Effort::Max => "max",
        }
    }

    pub fn parse(text: &str) -> Option<Effort> {
        [Effort::None, Effort::Minimal, Effort::Low, Effort::Medium, Effort::High, Effort::XHigh, Effort::Max]
            .into_iter()
            .find(|effort| text.eq_ignore_ascii_case(effort.as_str()))
    }

    /// The budget that means about as much, for wires that count.
    pub fn budget(self) -> i64 {
        match self {
            Effort::None => 0,
            Effort::Minimal => 512,
            Effort::Low => 1_024,
            Effort::Medium => 8_192,
            Effort::High | Effort::XHigh | Effort::Max => 24_576,
        }
    }

    /// The effort that means about as much as so many tokens.
    pub fn of_budget(tokens: i64) -> Effort {
        match tokens {
            ..=0 => Effort::None,
            1..=512 => Effort::Minimal,
            513..=2_048 => Effort::Low,
            2_049..=8_192 => Effort::Medium,
            _ => Effort::High,
        }
    }
}

impl Ask {
    /// The question of a bot's turn.
    pub fn of(brief: &Brief) -> Ask {
        let instructions = Some(&brief.instructions).filter(|text| !text.is_empty());
        let mut messages: Vec<Message> =
            instructions.map(|text| Message::text(Role::System, text)).into_iter().collect();
        messages.extend(brief.history.iter().map(|earlier| {
            let role = match earlier.role {
                Speaker::User => Role::User,
                Speaker::Assistant => Role::Assistant,
            };
            Message::text(role, &earlier.text)
        }));
        let mut question = Message::text(Role::User, &brief.question);
        question.parts.extend(brief.pictures.iter().map(|picture| {
            Part::Media(Media {
                kind: Kind::Image,
                mime: Some(picture.media.clone()),
                source: Source::Base64(STANDARD.encode(&picture.data)),
                name: Some(picture.name.clone()),
                detail: None,
            })
        }));
        messages.push(question);
        let temperature = brief.wishes.temperature.and_then(Number::from_f64);
        Ask {
            messages,
            stream: true,
            usage_asked: true,
            max_output: brief.wishes.max_output,
            sampling: Sampling { temperature, ..Sampling::default() },
            ..Ask::default()
        }
    }

    /// Takes note of something that does not travel. What is no fit for a header does not get into the name.
    pub fn leave_out(&mut self, name: &str) {
        let fit = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']');
        let name: String = name.chars().filter(fit).take(64).collect();
        if self.left_out.len() < 32 && !self.left_out.contains(&name) {
            self.left_out.push(name);
        }
    }

    /// The text of the last thing that the user said: what `echo` and `storyteller` answer.
    pub fn question(&self) -> String {
        let last = self.messages.iter().rev().find(|message| message.role == Role::User);
        last.map(|message| text_of(&message.parts)).unwrap_or_default()
    }
}

/// The text among some parts, joined by line ends.
pub fn text_of(parts: &[Part]) -> String {
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text(text) | Part::Refusal(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}
