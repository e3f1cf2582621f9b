//! What matters of an answer on each wire, and what it comes to.

use salon_core::{Tier, Tokens};
use serde_json::{Value, json};

use super::skim::{Ear, Name, Scale, Slot, Take, Weights};
use super::{Tapped, UNIT};
use crate::upstream::Fault;
use crate::wire::Wire;
use crate::wire::carry::faults;
use crate::wire::usage::{self, Claim};

/// The longest name, id or type, in bytes.
const MAX_WORD: usize = 512;
/// The longest statement of usage, and the longest error.
const MAX_OBJECT: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Heard {
    wire: Wire,
    /// The answer is one JSON text, not a stream of events.
    pub is_whole: bool,
    /// The stream has said that nothing follows.
    pub is_done: bool,
    claim: Option<Claim>,
    tier: Option<Tier>,
    weight: i64,
    model: Option<String>,
    id: Option<String>,
    finished: bool,
    error: Option<Fault>,
    /// What every answer has was there.
    answers: bool,
    /// One text came whole, and it was not.
    is_none: bool,
    /// The JSON texts stand in an array, as Gemini streams them.
    in_array: bool,
    elements: usize,
    sequence: Option<i64>,
    /// What the present text says about itself.
    kind: Kind,
    code: Option<Value>,
    message: Option<Value>,
    status_is_open: bool,
    /// What stands between texts, as far as it matters.
    word: [u8; 6],
    word_len: usize,
}

/// The types of events that mean something by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Other,
    End,
    Failed,
    Error,
    Sound,
}

impl Heard {
    pub(super) fn new(wire: Wire) -> Heard {
        Heard {
            wire,
            is_whole: false,
            is_done: false,
            claim: None,
            tier: None,
            weight: 0,
            model: None,
            id: None,
            finished: false,
            error: None,
            answers: false,
            is_none: false,
            in_array: false,
            elements: 0,
            sequence: None,
            kind: Kind::Other,
            code: None,
            message: None,
            status_is_open: false,
            word: [0; 6],
            word_len: 0,
        }
    }

    pub(super) fn tapped(&self) -> Tapped {
        Tapped {
            tokens: self.claim.map(Claim::tokens),
            estimated: Tokens::new(0, (self.weight + UNIT - 1) / UNIT),
            tier: self.tier,
            model: self.model.clone(),
            response_id: self.id.clone(),
            sequence: self.sequence,
            elements: self.in_array.then_some(self.elements),
            in_event: false,
            finished: self.finished,
            error: self.error,
            is_none: self.is_none,
        }
    }

    /// The last word counts: a stream begins with what was asked for.
    pub(super) fn served(&mut self, tier: &str) {
        self.tier = Tier::read(tier).or(self.tier);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// No element of the array has ended, nor the array.
    pub(super) fn is_before_element(&self) -> bool {
        self.in_array && self.elements == 0 && !self.finished
    }

    /// A line of an event stream has ended.
    pub(super) fn end_word(&mut self) {
        self.word_len = 0;
    }

    fn word(&self, slot: Slot) -> Take {
        Take::Keep(slot, MAX_WORD)
    }

    fn id(&self) -> Take {
        if self.id.is_none() { self.word(Slot::Id) } else { Take::Nothing }
    }

    fn model(&self) -> Take {
        if self.model.is_none() { self.word(Slot::Model) } else { Take::Nothing }
    }

    /// Whether it is the field of a whole answer that all of them have on this wire. One that says only what it used, or
    /// why it was blocked, is an answer of Gemini's too.
    fn is_decisive(&self, name: Name) -> bool {
        match self.wire {
            Wire::Chat | Wire::Completions => name == Name::Choices,
            Wire::Responses => name == Name::Output,
            Wire::Messages => name == Name::Content,
            Wire::Generate => matches!(name, Name::Candidates | Name::PromptFeedback | Name::UsageMetadata),
            Wire::Embeddings => name == Name::Data,
            Wire::Midm => name == Name::Response,
        }
    }

    fn wants_of_chat(&self, path: &[Name]) -> Take {
        use Name::{
            Arguments, Audio, Choices, Content, Custom, Delta, FinishReasonSnake, Function, FunctionCallSnake, Input,
            Item, Message, Reasoning, ReasoningContent, Refusal, Text, Thinking, ToolCalls, Transcript,
        };
        let [Choices, Item, rest @ ..] = path else { return Take::Nothing };
        match rest {
            [FinishReasonSnake] => self.word(Slot::Finish),
            [Text] => Take::Weigh(Scale::Text),
            [Delta | Message, said @ ..] => match said {
                [Content | Refusal] | [Content, Item, Text | Thinking | Refusal] | [Audio, Transcript] => {
                    Take::Weigh(Scale::Text)
                }
                [Content, Item, Thinking, Item, Text] => Take::Weigh(Scale::Text),
                [ReasoningContent] => Take::Weigh(Scale::Thought),
                [Reasoning] => Take::Weigh(Scale::SameThought),
                [ToolCalls, Item, Function, Arguments]
                | [ToolCalls, Item, Custom, Input]
                | [FunctionCallSnake, Arguments] => Take::Weigh(Scale::Text),
                _ => Take::Nothing,
            },
            _ => Take::Nothing,
        }
    }

    fn wants_of_responses(&self, path: &[Name]) -> Take {
        use Name::{
            Arguments, Code, Content, Delta, Id, Input, Item, Message, Model, Output, Refusal, Response,
            SequenceNumber, ServiceTier, Status, Summary, Text, Type,
        };
        match path {
            [Response, ServiceTier] => self.word(Slot::Tier),
            [Response, Name::Error] => Take::Keep(Slot::Error, MAX_OBJECT),
            [Response, Name::Usage] => Take::Keep(Slot::Usage, MAX_OBJECT),
            [Response, Id] => self.id(),
            [Response, Model] => self.model(),
            [Delta] => Take::Weigh(Scale::Text),
            [Type] => self.word(Slot::Type),
            [SequenceNumber] => self.word(Slot::Sequence),
            [Code] => self.word(Slot::Code),
            [Message] => self.word(Slot::Message),
            [ServiceTier] if self.is_whole => self.word(Slot::Tier),
            [Id] if self.is_whole => self.id(),
            [Status] if self.is_whole => self.word(Slot::Status),
            [Output, Item, Content | Summary, Item, Text | Refusal] | [Output, Item, Arguments | Input]
                if self.is_whole =>
            {
                Take::Weigh(Scale::Text)
            }
            _ => Take::Nothing,
        }
    }

    fn wants_of_messages(&self, path: &[Name]) -> Take {
        use Name::{
            Content, ContentBlock, Delta, Id, Input, Item, Message, Model, PartialJson, StopReason, Text, Thinking,
            Type, Usage,
        };
        match path {
            [Message, Usage] => Take::Keep(Slot::Usage, MAX_OBJECT),
            [Message, Id] => self.id(),
            [Message, Model] => self.model(),
            [Type] => self.word(Slot::Type),
            [Delta, StopReason] => self.word(Slot::Finish),
            [Delta, Text | Thinking | PartialJson] | [ContentBlock, Text | Thinking] => Take::Weigh(Scale::Text),
            [Id] if self.is_whole => self.id(),
            [Content, Item, Text | Thinking] => Take::Weigh(Scale::Text),
            [Content, Item, Input] => Take::WeighAll(Scale::Text),
            _ => Take::Nothing,
        }
    }

    fn wants_of_generate(&self, path: &[Name]) -> Take {
        use Name::{
            BlockReason, Candidates, CodeExecutionResult, Content, ExecutableCode, FinishReason, FunctionCall, Item,
            ModelVersion, Parts, PromptFeedback, ResponseId, Text, UsageMetadata,
        };
        match path {
            [UsageMetadata] => Take::Keep(Slot::Usage, MAX_OBJECT),
            [ModelVersion] => self.model(),
            [ResponseId] => self.id(),
            [Candidates, Item, FinishReason] | [PromptFeedback, BlockReason] => self.word(Slot::Finish),
            [Candidates, Item, Content, Parts, Item, Text] => Take::Weigh(Scale::Text),
            [Candidates, Item, Content, Parts, Item, FunctionCall | ExecutableCode | CodeExecutionResult] => {
                Take::WeighAll(Scale::Text)
            }
            _ => Take::Nothing,
        }
    }

    fn wants_of_midm(&self, path: &[Name]) -> Take {
        match path {
            [Name::Type] => self.word(Slot::Type),
            [Name::Response | Name::Content] => Take::Weigh(Scale::Text),
            [Name::Message] => self.word(Slot::Message),
            [Name::Detail] => Take::Keep(Slot::Error, MAX_OBJECT),
            _ => Take::Nothing,
        }
    }

    fn kind_of(&self, name: &[u8]) -> Kind {
        match (self.wire, name) {
            (Wire::Responses, b"response.completed" | b"response.incomplete") => Kind::End,
            (Wire::Responses, b"response.failed") => Kind::Failed,
            (Wire::Responses, b"response.output_audio.delta" | b"response.audio.delta") => Kind::Sound,
            (Wire::Messages, b"message_stop") => Kind::End,
            (Wire::Midm, b"complete") => Kind::End,
            (Wire::Responses | Wire::Messages | Wire::Midm, b"error") => Kind::Error,
            _ => Kind::Other,
        }
    }
}

impl Ear for Heard {
    fn wants(&mut self, path: &[Name], first: u8) -> Take {
        if let [name] = path
            && first != b'n'
        {
            self.answers |= self.is_decisive(*name);
        }
        match path {
            [Name::Usage] => return Take::Keep(Slot::Usage, MAX_OBJECT),
            [Name::Error] => return Take::Keep(Slot::Error, MAX_OBJECT),
            [Name::Model] => return self.model(),
            [Name::Id] if matches!(self.wire, Wire::Chat | Wire::Completions) => return self.id(),
            [Name::ServiceTier] if matches!(self.wire, Wire::Chat | Wire::Completions) => return self.word(Slot::Tier),
            _ => {}
        }
        match self.wire {
            Wire::Chat | Wire::Completions => self.wants_of_chat(path),
            Wire::Responses => self.wants_of_responses(path),
            Wire::Messages => self.wants_of_messages(path),
            Wire::Generate => self.wants_of_generate(path),
            Wire::Midm => self.wants_of_midm(path),
            Wire::Embeddings => match path {
                [Name::Data, Name::Item, Name::Embedding] => Take::Leap,
                _ => Take::Nothing,
            },
        }
    }

    fn took(&mut self, slot: Slot, bytes: &[u8]) {
        if bytes == b"null" {
            return;
        }
        match slot {
            Slot::Type => {
                let inner = bytes.strip_prefix(b"\"").and_then(|bytes| bytes.strip_suffix(b"\""));
                self.kind = self.kind_of(inner.unwrap_or_default());
                return;
            }
            Slot::Tier => {
                let inner = bytes.strip_prefix(b"\"").and_then(|bytes| bytes.strip_suffix(b"\""));
                if let Some(Ok(tier)) = inner.map(std::str::from_utf8) {
                    self.served(tier);
                }
                return;
            }
            // A reason, whatever it is.
            Slot::Finish => {
                self.finished |= bytes.len() > 2;
                return;
            }
            _ => {}
        }
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
        let text = || value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        match slot {
            Slot::Usage => {
                if let Some(tier) = usage::tier(self.wire, &value) {
                    self.served(tier);
                }
                if let Some(claim) = Claim::read(self.wire, &value) {
                    self.claim = Some(self.claim.map_or(claim, |earlier| earlier.join(claim)));
                }
            }
            Slot::Error => self.error = self.error.or_else(|| Some(faults::sort(&value))),
            Slot::Id => self.id = text(),
            Slot::Model => self.model = text(),
            Slot::Status => self.status_is_open = matches!(value.as_str(), Some("queued" | "in_progress")),
            Slot::Sequence => self.sequence = value.as_i64().or(self.sequence),
            Slot::Code => self.code = Some(value),
            Slot::Message => self.message = Some(value),
            Slot::Type | Slot::Finish | Slot::Tier => {}
        }
    }

    fn ended(&mut self, [text, thought, same_thought]: Weights, is_complete: bool) {
        let kind = std::mem::take(&mut self.kind);
        let (code, message) = (self.code.take(), self.message.take());
        if kind != Kind::Sound {
            self.weight = self.weight.saturating_add(text + thought.max(same_thought));
        }
        if !is_complete {
            return;
        }
        self.elements += usize::from(self.in_array);
        let is_failure = matches!(kind, Kind::Failed | Kind::Error);
        if is_failure && self.error.is_none() {
            self.error = Some(faults::sort(&json!({ "code": code, "message": message })));
        }
        self.finished |= matches!(kind, Kind::End | Kind::Failed);
        self.is_none |= self.is_whole && !self.in_array && !self.answers && self.error.is_none();
        self.finished |= self.is_whole && !self.in_array && !std::mem::take(&mut self.status_is_open);
    }

    fn outside(&mut self, byte: u8) {
        if self.is_whole {
            match byte {
                b'[' => self.in_array = true,
                b']' => self.finished = true,
                _ => {}
            }
            return;
        }
        if let Some(place) = self.word.get_mut(self.word_len) {
            *place = byte;
        }
        self.word_len = self.word_len.saturating_add(1);
        if self.word_len == self.word.len() && self.word == *b"[DONE]" {
            self.finished = true;
            self.is_done = true;
        }
    }
}
