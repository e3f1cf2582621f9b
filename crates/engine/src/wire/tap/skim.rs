//! Walks over JSON texts that arrive in pieces, and keeps only what someone wants of them.
//!
//! It judges nothing: what is no JSON makes it keep nonsense or nothing, never more than its bounds, and the next text
//! begins afresh. How the bytes were cut makes no difference.

use crate::wire::run;

/// How deep it looks. What nests deeper is lost, up to the end of the text.
const DEPTH: usize = 64;
/// The longest key that has a name.
const MAX_KEY: usize = 24;
/// Weights are in twentieths of a token, as in [`crate::estimate`].
pub(super) const UNIT: i64 = 20;

/// A key that matters on some wire, or a place in an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Other,
    Item,
    Arguments,
    Audio,
    BlockReason,
    Candidates,
    Choices,
    Code,
    CodeExecutionResult,
    Content,
    ContentBlock,
    Custom,
    Data,
    Delta,
    Detail,
    Embedding,
    Error,
    ExecutableCode,
    FinishReason,
    FinishReasonSnake,
    Function,
    FunctionCall,
    FunctionCallSnake,
    Id,
    Input,
    Message,
    Model,
    ModelVersion,
    Output,
    PartialJson,
    Parts,
    PromptFeedback,
    Reasoning,
    ReasoningContent,
    Refusal,
    Response,
    ResponseId,
    SequenceNumber,
    ServiceTier,
    Status,
    StopReason,
    Summary,
    Text,
    Thinking,
    ToolCalls,
    Transcript,
    Type,
    Usage,
    UsageMetadata,
}

impl Name {
    fn of(key: &[u8]) -> Name {
        match key {
            b"arguments" => Name::Arguments,
            b"audio" => Name::Audio,
            b"blockReason" => Name::BlockReason,
            b"candidates" => Name::Candidates,
            b"choices" => Name::Choices,
            b"code" => Name::Code,
            b"codeExecutionResult" => Name::CodeExecutionResult,
            b"content" => Name::Content,
            b"content_block" => Name::ContentBlock,
            b"custom" => Name::Custom,
            b"data" => Name::Data,
            b"delta" => Name::Delta,
            b"detail" => Name::Detail,
            b"embedding" => Name::Embedding,
            b"error" => Name::Error,
            b"executableCode" => Name::ExecutableCode,
            b"finishReason" => Name::FinishReason,
            b"finish_reason" => Name::FinishReasonSnake,
            b"function" => Name::Function,
            b"functionCall" => Name::FunctionCall,
            b"function_call" => Name::FunctionCallSnake,
            b"id" => Name::Id,
            b"input" => Name::Input,
            b"message" => Name::Message,
            b"model" => Name::Model,
            b"modelVersion" => Name::ModelVersion,
            b"output" => Name::Output,
            b"partial_json" => Name::PartialJson,
            b"parts" => Name::Parts,
            b"promptFeedback" => Name::PromptFeedback,
            b"reasoning" => Name::Reasoning,
            b"reasoning_content" => Name::ReasoningContent,
            b"refusal" => Name::Refusal,
            b"response" => Name::Response,
            b"responseId" => Name::ResponseId,
            b"sequence_number" => Name::SequenceNumber,
            b"service_tier" => Name::ServiceTier,
            b"status" => Name::Status,
            b"stop_reason" => Name::StopReason,
            b"summary" => Name::Summary,
            b"text" => Name::Text,
            b"thinking" => Name::Thinking,
            b"tool_calls" => Name::ToolCalls,
            b"transcript" => Name::Transcript,
            b"type" => Name::Type,
            b"usage" => Name::Usage,
            b"usageMetadata" => Name::UsageMetadata,
            _ => Name::Other,
        }
    }
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    Nothing,
    /// Its bytes are handed over when it has ended, if they are no more than so many.
    Keep(Slot, usize),
    /// It is weighed if it is a string.
    Weigh(Scale),
    /// All that is in it is weighed.
    WeighAll(Scale),
    /// It is an array of numbers, of which there may be thousands.
    Leap,
}

/// What a kept value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Id,
    Model,
    Usage,
    Error,
    Type,
    /// The reason for the end.
    Finish,
    Status,
    Code,
    Message,
    Sequence,
    Tier,
}

/// On which scale text is laid. Some servers say their thoughts twice, under two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Text,
    Thought,
    SameThought,
}

/// Who is asked and told.
pub(super) trait Ear {
    /// What becomes of the value that begins with `first`. `path` are the names of the keys down to it.
    fn wants(&mut self, path: &[Name], first: u8) -> Take;
    fn took(&mut self, slot: Slot, bytes: &[u8]);
    /// The text has ended, or broken off; `weights` are what was weighed of it.
    fn ended(&mut self, weights: Weights, is_complete: bool);
    /// A byte between texts that is no white space.
    fn outside(&mut self, byte: u8);
}

/// What was laid on each [`Scale`].
pub(super) type Weights = [i64; 3];

#[derive(Debug)]
pub(super) struct Skim {
    state: State,
    depth: usize,
    /// A bit for each level: whether it is an object.
    objects: u64,
    /// The key at each level.
    names: [Name; DEPTH],
    /// The next string is a key.
    at_key: bool,
    key: [u8; MAX_KEY],
    /// More than [`MAX_KEY`] if the key has no name.
    key_len: usize,
    kept: Vec<u8>,
    keep: Option<(Slot, usize, usize)>,
    weigh: Option<(Scale, usize)>,
    weights: Weights,
    code_unit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Outside,
    Between,
    Literal,
    Key,
    KeyEscape,
    Text,
    TextEscape,
    /// So many digits of `\u1234` are still to come.
    Digits(u8),
    Leap,
    Lost,
}

impl Skim {
    pub(super) fn new() -> Skim {
        Skim {
            state: State::Outside,
            depth: 0,
            objects: 0,
            names: [Name::Other; DEPTH],
            at_key: false,
            key: [0; MAX_KEY],
            key_len: 0,
            kept: Vec::new(),
            keep: None,
            weigh: None,
            weights: Weights::default(),
            code_unit: 0,
        }
    }

    pub(super) fn is_outside(&self) -> bool {
        self.state == State::Outside
    }

    /// How much is kept at present, in bytes.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.kept.capacity()
    }

    /// Gives up the text that has begun, if one has.
    pub(super) fn reset(&mut self, ear: &mut impl Ear) {
        if self.state != State::Outside {
            self.end_text(false, ear);
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], ear: &mut impl Ear) {
        // Where the part of these bytes begins that belongs to the value which is kept.
        let mut from = 0;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.state {
                State::Outside => {
                    at += 1;
                    match byte {
                        b'{' => self.open(true),
                        b' ' | b'\t' | b'\n' | b'\r' => {}
                        _ => ear.outside(byte),
                    }
                }
                State::Between => match byte {
                    b'"' if self.at_key => {
                        self.key_len = 0;
                        self.state = State::Key;
                        at += 1;
                    }
                    b'"' => {
                        from = self.begin(byte, at, from, ear);
                        self.state = State::Text;
                        at += 1;
                    }
                    b',' => {
                        self.at_key = self.is_object();
                        at += 1;
                    }
                    b':' | b' ' | b'\t' | b'\n' | b'\r' => at += 1,
                    b'}' | b']' => {
                        at += 1;
                        self.depth -= 1;
                        self.at_key = false;
                        if self.depth == 0 {
                            self.end_text(true, ear);
                        } else {
                            self.end_value(&bytes[from..at], ear);
                        }
                    }
                    b'{' | b'[' => {
                        from = self.begin(byte, at, from, ear);
                        let leaps = self.state == State::Leap;
                        self.open(byte == b'{');
                        if leaps && self.state == State::Between {
                            self.state = State::Leap;
                        }
                        at += 1;
                    }
                    _ => {
                        if !self.at_key {
                            from = self.begin(byte, at, from, ear);
                            self.state = State::Literal;
                            self.weigh_one(byte);
                        }
                        at += 1;
                    }
                },
                State::Literal => match byte {
                    b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' => {
                        self.state = State::Between;
                        self.end_value(&bytes[from..at], ear);
                    }
                    _ => {
                        self.weigh_one(byte);
                        at += 1;
                    }
                },
                State::Key => {
                    let end = run::end(bytes, at);
                    self.add_to_key(&bytes[at..end]);
                    at = end + 1;
                    match bytes.get(end) {
                        Some(b'"') => {
                            self.names[self.depth - 1] =
                                if self.key_len <= MAX_KEY { Name::of(&self.key[..self.key_len]) } else { Name::Other };
                            self.at_key = false;
                            self.state = State::Between;
                        }
                        Some(_) => {
                            // Nobody escapes a key that has a name.
                            self.key_len = MAX_KEY + 1;
                            self.state = State::KeyEscape;
                        }
                        None => {}
                    }
                }
                State::KeyEscape => {
                    self.state = State::Key;
                    at += 1;
                }
                State::Text => {
                    let end = run::end(bytes, at);
                    if let Some((scale, _)) = self.weigh {
                        self.weights[scale as usize] += weigh(&bytes[at..end]);
                    }
                    at = end + 1;
                    match bytes.get(end) {
                        Some(b'"') => {
                            self.state = State::Between;
                            self.end_value(&bytes[from..at], ear);
                        }
                        Some(_) => self.state = State::TextEscape,
                        None => {}
                    }
                }
                State::TextEscape => {
                    self.state = if byte == b'u' { State::Digits(4) } else { State::Text };
                    self.code_unit = 0;
                    if byte != b'u' {
                        self.weigh_one(byte);
                    }
                    at += 1;
                }
                State::Digits(left) => match char::from(byte).to_digit(16) {
                    Some(digit) => {
                        self.code_unit = self.code_unit << 4 | digit;
                        self.state = State::Digits(left - 1);
                        if left == 1 {
                            if let Some((scale, _)) = self.weigh {
                                self.weights[scale as usize] += weight_of_unit(self.code_unit);
                            }
                            self.state = State::Text;
                        }
                        at += 1;
                    }
                    None => self.state = State::Text,
                },
                State::Leap => match memchr::memchr(b']', &bytes[at..]) {
                    Some(end) => {
                        self.state = State::Between;
                        at += end;
                    }
                    None => at = bytes.len(),
                },
                State::Lost => at = bytes.len(),
            }
        }
        self.keep_on(&bytes[from..]);
    }

    fn open(&mut self, is_object: bool) {
        if self.depth == DEPTH {
            self.keep = None;
            self.weigh = None;
            self.state = State::Lost;
            return;
        }
        self.objects = self.objects & !(1 << self.depth) | u64::from(is_object) << self.depth;
        self.names[self.depth] = if is_object { Name::Other } else { Name::Item };
        self.depth += 1;
        self.at_key = is_object;
        self.state = State::Between;
    }

    fn is_object(&self) -> bool {
        self.objects >> (self.depth - 1) & 1 == 1
    }

    /// A value begins at `at`. Answers where the kept part of these bytes begins.
    fn begin(&mut self, byte: u8, at: usize, from: usize, ear: &mut impl Ear) -> usize {
        if self.keep.is_some() || self.weigh.is_some() {
            return from;
        }
        match ear.wants(&self.names[..self.depth], byte) {
            Take::Keep(slot, most) => {
                self.kept.clear();
                self.keep = Some((slot, most, self.depth));
                return at;
            }
            Take::Weigh(scale) if byte == b'"' => self.weigh = Some((scale, self.depth)),
            Take::WeighAll(scale) => self.weigh = Some((scale, self.depth)),
            Take::Leap if byte == b'[' => self.state = State::Leap,
            Take::Weigh(_) | Take::Leap | Take::Nothing => {}
        }
        from
    }

    /// A value has ended; `last` are its last bytes if it is kept.
    fn end_value(&mut self, last: &[u8], ear: &mut impl Ear) {
        if self.weigh.is_some_and(|(_, depth)| depth == self.depth) {
            self.weigh = None;
        }
        if self.keep.is_some_and(|(_, _, depth)| depth == self.depth) {
            self.keep_on(last);
            if let Some((slot, ..)) = self.keep.take() {
                ear.took(slot, &self.kept);
            }
        }
    }

    fn keep_on(&mut self, bytes: &[u8]) {
        let Some((_, most, _)) = self.keep else { return };
        if self.kept.len() + bytes.len() > most {
            self.keep = None;
        } else {
            self.kept.extend_from_slice(bytes);
        }
    }

    fn end_text(&mut self, is_complete: bool, ear: &mut impl Ear) {
        self.state = State::Outside;
        self.depth = 0;
        self.keep = None;
        self.weigh = None;
        ear.ended(std::mem::take(&mut self.weights), is_complete);
    }

    fn add_to_key(&mut self, part: &[u8]) {
        let end = self.key_len + part.len();
        match self.key.get_mut(self.key_len..end) {
            Some(place) => {
                place.copy_from_slice(part);
                self.key_len = end;
            }
            None => self.key_len = MAX_KEY + 1,
        }
    }

    fn weigh_one(&mut self, byte: u8) {
        if let Some((scale, _)) = self.weigh {
            self.weights[scale as usize] += i64::from(WEIGHTS[usize::from(byte)]);
        }
    }
}

/// What each byte weighs: a character's first byte carries its weight, as far as that byte tells its script.
const WEIGHTS: [u8; 256] = {
    let mut weights = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        weights[byte] = match byte {
            0x00..=0x7f => 5,
            0xc0..=0xdf => 9,
            0xe3 | 0xea..=0xed => 16,
            0xe4..=0xe9 => 20,
            0xe0..=0xef => 14,
            0xf0..=0xff => 40,
            _ => 0,
        };
        byte += 1;
    }
    weights
};

fn weigh(bytes: &[u8]) -> i64 {
    bytes.iter().map(|byte| i64::from(WEIGHTS[usize::from(*byte)])).sum()
}

/// What a character weighs that is written as `\u1234`, which may be half a pair.
fn weight_of_unit(unit: u32) -> i64 {
    match unit {
        0xd800..=0xdfff => 20,
        _ => {
            let mut bytes = [0; 4];
            weigh(char::from_u32(unit).unwrap_or_default().encode_utf8(&mut bytes).as_bytes())
        }
    }
}
