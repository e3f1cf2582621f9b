//! What a request asks for, read without parsing it.
//!
//! One pass over the bytes finds the few values that decide where a request goes and what it may cost, and remembers
//! where they stand. [`Head::rewrite`] puts other values there and leaves every other byte as it was.
//!
//! Strictness where it protects: a field that decides something may stand there once, and under its exact name. There
//! are servers that take the first of two, servers that take the last, and servers to which `Model` is `model`; nobody
//! may be billed for one and served the other.

mod rewrite;
pub(in crate::wire) mod scan;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;
use salon_core::Tier;
use serde_json::Value;
use thiserror::Error;

use self::scan::{Census, Kind, Level, Span, Visit};
use super::Wire;

/// How deep a request may nest.
pub const MAX_DEPTH: usize = 64;
/// The longest name of a model, in bytes.
const MAX_MODEL: usize = 256;
/// The longest name of a tier, in bytes.
const MAX_TIER: usize = 64;
/// Shorter strings are text, whatever their key says.
const MIN_BLOB: usize = 512;
/// What a picture costs at most with most models. Few of them say it beforehand.
const TOKENS_PER_IMAGE: i64 = 4_800;

/// Fields by which the one or the other provider is sent out beside the tools.
const LOOKING_AROUND: [&str; 4] = ["web_search_options", "mcp_servers", "plugins", "functions"];

/// What a request says outside of its body: Gemini names the model and whether to stream in the path, `midm` the
/// latter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outside<'a> {
    pub model: Option<&'a str>,
    pub stream: bool,
}

/// What matters of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub wire: Wire,
    pub model: String,
    pub stream: bool,
    /// How many tokens each answer may have at most, if the request says so. The greatest, if it says so twice.
    pub max_output: Option<i64>,
    /// How many answers are made, at least one.
    pub n: i64,
    /// How many texts are to be embedded; zero elsewhere.
    pub inputs: i64,
    /// What reading it costs at most, in tokens, for ordinary text: for reservations.
    pub input_estimate: i64,
    /// Our own cautious count of what is read, in tokens: what an upstream's claim is judged by.
    pub input_likely: i64,
    /// Whether the usage comes without our asking for it.
    pub usage_asked: bool,
    pub has_tools: bool,
    /// Whether the provider is asked to look something up or to act without a tool being listed: it searches the web, or
    /// calls servers that are named.
    pub looks_around: bool,
    /// Pictures and documents, at least.
    pub images: i64,
    /// There are pictures or documents for the model itself, and not only something of that name among what tools were
    /// told and said.
    pub has_images: bool,
    pub has_audio: bool,
    /// The answer has to fit a JSON schema.
    pub has_schema: bool,
    /// The field that refers to something which is kept at the provider, so that neither its size nor its owner is known
    /// here: an earlier response, a conversation, a cache, a file.
    pub leans_on: Option<&'static str>,
    /// Whether the answer is to be made after the response has ended, where no tap hears what it costs.
    pub background: bool,
    /// How soon it is to be served, which may have a price of its own, as the request names it.
    pub tier: Option<String>,
    /// Something is to be kept in OpenAI's cache for longer than usual, which has a price of its own.
    pub keeps_long: bool,
    places: Places,
}

/// What to change of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes<'a> {
    pub model: Option<&'a str>,
    /// Ask for the usage of a stream. If [`Head::usage_asked`] is false, the client did not: hide it with an
    /// [`Unasked`](super::Unasked).
    pub ask_usage: bool,
    /// The most that each answer may have; what is asked for above it is lowered, what is not said is added.
    pub max_output: Option<i64>,
}

/// Why a request cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadAsk {
    /// With what is wrong, and at which byte.
    #[error("The request's body is not valid JSON: {0} at byte {1}.")]
    NotJson(&'static str, usize),
    #[error("The request's body has to be a JSON object.")]
    NotObject,
    #[error("The request nests deeper than {MAX_DEPTH} levels.")]
    TooDeep,
    /// A field that decides something stands there twice, and the upstream may read the other one.
    #[error("The request says `{0}` twice, or in another spelling.")]
    Ambiguous(&'static str),
    #[error("The request lacks `{0}`.")]
    Missing(&'static str),
    #[error("`{0}` has to be {1}.")]
    Wrong(&'static str, &'static str),
}

impl BadAsk {
    /// The field that it is about.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            BadAsk::NotJson(..) | BadAsk::NotObject | BadAsk::TooDeep => None,
            BadAsk::Ambiguous(name) | BadAsk::Missing(name) | BadAsk::Wrong(name, _) => Some(name),
        }
    }
}

impl Head {
    /// Reads a request. Fields whose meaning we need have to have it; everything else is the upstream's business.
    pub fn read(wire: Wire, body: &[u8], outside: Outside<'_>) -> Result<Head, BadAsk> {
        let mut reader = Reader::new(wire, body);
        let census = scan::walk(body, &mut reader)?;
        reader.head(census, outside)
    }

    /// The request with the changes. If there is nothing to change, these are the same bytes.
    ///
    /// `body` has to be what was read.
    pub fn rewrite(&self, body: &Bytes, changes: &Changes<'_>) -> Bytes {
        rewrite::rewrite(self, body, changes)
    }

    /// Where what is asked stands in the body, if it stands there.
    pub fn talk(&self) -> Option<std::ops::Range<usize>> {
        self.places[Field::Talk as usize].map(|(span, _)| span.start..span.end)
    }

    /// How soon it is to be served. `None` if it leaves that to the provider.
    pub fn asks_for(&self) -> Option<Tier> {
        self.tier.as_deref().and_then(Tier::read)
    }

    /// How many tokens all answers may have together. `most` is what the model can write where the request does not say.
    pub fn most_output(&self, most: i64) -> i64 {
        let each = self.max_output.filter(|limit| *limit >= 0).unwrap_or(most);
        each.saturating_mul(self.n)
    }
}

/// Fields that decide something. Each wire has its own names for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Model,
    Stream,
    StreamOptions,
    IncludeUsage,
    MaxOutput,
    /// The older name of the same, which servers still read.
    MaxTokens,
    /// Where Gemini keeps the rest.
    Config,
    Count,
    BestOf,
    /// What is asked.
    Talk,
    Tools,
    Background,
    /// Three that name what is kept at the provider.
    Previous,
    Conversation,
    Stored,
    Tier,
    /// Anthropic's word for it.
    Speed,
}

const FIELDS: usize = Field::Speed as usize + 1;

/// Where each field's value stands, if it does, and the name that it goes by.
type Places = [Option<(Span, &'static str)>; FIELDS];

fn top_level(wire: Wire) -> &'static [(&'static str, Field)] {
    use Field::{
        Background, BestOf, Config, Conversation, Count, MaxOutput, MaxTokens, Model, Previous, Speed, Stored, Stream,
        StreamOptions, Talk, Tier, Tools,
    };
    match wire {
        Wire::Chat => &[
            ("model", Model),
            ("stream", Stream),
            ("stream_options", StreamOptions),
            ("max_completion_tokens", MaxOutput),
            ("max_tokens", MaxTokens),
            ("n", Count),
            ("messages", Talk),
            ("tools", Tools),
            ("service_tier", Tier),
        ],
        Wire::Completions => &[
            ("model", Model),
            ("stream", Stream),
            ("stream_options", StreamOptions),
            ("max_tokens", MaxOutput),
            ("n", Count),
            ("best_of", BestOf),
            ("prompt", Talk),
            ("service_tier", Tier),
        ],
        Wire::Responses => &[
            ("model", Model),
            ("stream", Stream),
            ("max_output_tokens", MaxOutput),
            ("input", Talk),
            ("tools", Tools),
            ("background", Background),
            ("previous_response_id", Previous),
            ("conversation", Conversation),
            ("prompt", Stored),
            ("service_tier", Tier),
        ],
        Wire::Embeddings => &[("model", Model), ("input", Talk)],
        Wire::Messages => &[
            ("model", Model),
            ("stream", Stream),
            ("max_tokens", MaxOutput),
            ("messages", Talk),
            ("tools", Tools),
            ("container", Stored),
            ("service_tier", Tier),
            ("speed", Speed),
        ],
        Wire::Generate => &[
            ("generationConfig", Config),
            ("generation_config", Config),
            ("contents", Talk),
            ("tools", Tools),
            ("cachedContent", Stored),
            ("cached_content", Stored),
            ("serviceTier", Tier),
            ("service_tier", Tier),
        ],
        Wire::Midm => &[("max_new_tokens", MaxOutput), ("messages", Talk)],
    }
}

/// The fields within another one.
fn within(field: Field) -> &'static [(&'static str, Field)] {
    match field {
        Field::StreamOptions => &[("include_usage", Field::IncludeUsage)],
        Field::Config => &[
            ("maxOutputTokens", Field::MaxOutput),
            ("max_output_tokens", Field::MaxOutput),
            ("candidateCount", Field::Count),
            ("candidate_count", Field::Count),
        ],
        _ => &[],
    }
}

/// Collects what the walk finds.
struct Reader<'a> {
    wire: Wire,
    body: &'a [u8],
    places: Places,
    /// The field of the outermost object that is being read.
    field: Option<Field>,
    is_object: bool,
    talk: Talk,
    /// The bytes of strings that are text.
    text: usize,
    numbers: i64,
    images: i64,
    /// What is no text: the bytes of pictures are not worth counting, those of other things are.
    blobs: usize,
    pictures: i64,
    others: usize,
    others_are_text: bool,
    has_tools: bool,
    has_images: bool,
    looks_around: bool,
    has_audio: bool,
    has_schema: bool,
    keeps_long: bool,
    leans_on: Option<&'static str>,
}

/// The form of what is asked.
#[derive(Clone, Copy, Debug, Default)]
struct Talk {
    values: usize,
    /// Whether it is a list of numbers, which is one text.
    has_numbers: bool,
}

impl Visit for Reader<'_> {
    fn field(&mut self, key: &[u8]) -> Result<(), BadAsk> {
        self.field = None;
        if let Some((field, name)) = find(top_level(self.wire), key)? {
            // The span follows with the value; that there is one is known now.
            if self.places[field as usize].replace((Span::default(), name)).is_some() {
                return Err(BadAsk::Ambiguous(name));
            }
            self.field = Some(field);
        } else {
            let key = plain(key);
            self.looks_around |= LOOKING_AROUND.iter().any(|name| key.eq_ignore_ascii_case(name.as_bytes()));
        }
        Ok(())
    }

    fn value(&mut self, levels: &[Level], kind: Kind, span: Span, count: usize) -> Result<(), BadAsk> {
        match levels {
            [] => self.is_object = kind == Kind::Object,
            [_] => self.top_level_value(kind, span, count),
            [outer, inner] if outer.is_object && inner.is_object => {
                self.nested_value(inner.key, span)?;
                self.inner_value(levels, kind, span, count);
            }
            _ => self.inner_value(levels, kind, span, count),
        }
        Ok(())
    }
}

impl<'a> Reader<'a> {
    fn new(wire: Wire, body: &'a [u8]) -> Reader<'a> {
        Reader {
            wire,
            body,
            places: [None; FIELDS],
            field: None,
            is_object: false,
            talk: Talk::default(),
            text: 0,
            numbers: 0,
            images: 0,
            blobs: 0,
            pictures: 0,
            others: 0,
            others_are_text: false,
            has_tools: false,
            has_images: false,
            looks_around: false,
            has_audio: false,
            has_schema: false,
            keeps_long: false,
            leans_on: None,
        }
    }

    fn top_level_value(&mut self, kind: Kind, span: Span, count: usize) {
        if kind == Kind::String {
            self.text += span.len();
        }
        let Some(field) = self.field else { return };
        if let Some((place, _)) = &mut self.places[field as usize] {
            *place = span;
        }
        match field {
            Field::Tools => self.has_tools |= count > 0,
            Field::Talk => self.talk.values = if kind == Kind::Array { count } else { 1 },
            _ => {}
        }
    }

    fn nested_value(&mut self, key: Span, span: Span) -> Result<(), BadAsk> {
        let names = self.field.map(within).unwrap_or_default();
        if names.is_empty() {
            return Ok(());
        }
        if let Some((field, name)) = find(names, key.of(self.body))?
            && self.places[field as usize].replace((span, name)).is_some()
        {
            return Err(BadAsk::Ambiguous(name));
        }
        Ok(())
    }

    /// A value somewhere below: what it tells about what is asked.
    fn inner_value(&mut self, levels: &[Level], kind: Kind, span: Span, count: usize) {
        let Some(inner) = levels.last() else { return };
        let in_talk = self.field == Some(Field::Talk);
        match kind {
            Kind::Number if in_talk && !inner.is_object => {
                self.numbers += 1;
                self.talk.has_numbers |= levels.len() == 2;
            }
            Kind::String => self.string(levels, span, in_talk),
            Kind::Array if in_talk && inner.is_object && inner.key.of(self.body) == b"tools" => {
                self.has_tools |= count > 0;
            }
            Kind::Object if in_talk && inner.is_object => match inner.key.of(self.body) {
                b"image_url" | b"source" | b"inlineData" | b"inline_data" | b"fileData" | b"file_data" | b"file" => {
                    self.images += 1;
                    self.has_images |= !self.is_of_tool(levels);
                }
                b"input_audio" => self.has_audio = true,
                _ => {}
            },
            // Gemini puts the schema itself there.
            Kind::Object if self.field == Some(Field::Config) && levels.len() == 2 => {
                const NAMES: [&[u8]; 4] =
                    [b"responseSchema", b"responseJsonSchema", b"response_schema", b"response_json_schema"];
                self.has_schema |= NAMES.contains(&inner.key.of(self.body));
            }
            _ => {}
        }
    }

    /// Whether this stands in what a tool was told or has said, where it may be called anything. On the wires that are
    /// not named here that is text.
    fn is_of_tool(&self, levels: &[Level]) -> bool {
        let names: &[&[u8]] = match self.wire {
            Wire::Messages => &[b"input"],
            Wire::Generate => &[b"args", b"response"],
            _ => &[],
        };
        levels.iter().skip(1).any(|level| level.is_object && names.contains(&level.key.of(self.body)))
    }

    fn string(&mut self, levels: &[Level], span: Span, in_talk: bool) {
        let inner = levels[levels.len() - 1];
        let text = &self.body[span.start + 1..span.end - 1];
        let key = inner.key.of(self.body);
        let outer = levels[levels.len() - 2].key.of(self.body);
        self.keeps_long |= is_long_kept(key, outer, text);
        if !in_talk || !inner.is_object {
            self.text += span.len();
            self.has_schema |= self.field != Some(Field::Tools)
                && !in_talk
                && (key, text) == (b"type", b"json_schema")
                && matches!(outer, b"response_format" | b"format" | b"output_format");
            return;
        }
        match key {
            // What only the provider can read is no text, and hardly anything is known of its size in tokens.
            b"signature" | b"thoughtSignature" | b"thought_signature" | b"encrypted_content" => return,
            b"image_url" => {
                self.images += 1;
                self.has_images |= !self.is_of_tool(levels);
            }
            // Arguments of tools may be named anything, and Anthropic's are objects.
            b"file_id" if matches!(self.wire, Wire::Chat | Wire::Responses) || outer == b"source" => {
                self.leans_on = self.leans_on.or(Some("file_id"));
            }
            b"fileUri" | b"file_uri" if memchr::memmem::find(text, b"generativelanguage.googleapis.com").is_some() => {
                self.leans_on = self.leans_on.or(Some("fileUri"));
            }
            b"mimeType" | b"mime_type" => {
                self.has_audio |= text.starts_with(b"audio/");
                self.others_are_text |= text.starts_with(b"text/");
            }
            _ => {}
        }
        match blob(key, outer, text) {
            Some(Blob::Picture) => {
                self.blobs += span.len();
                self.pictures += 1;
            }
            Some(Blob::Other) => {
                self.blobs += span.len();
                self.others += span.len();
                self.others_are_text |= text.starts_with(b"data:text/");
            }
            None => self.text += span.len(),
        }
    }

    fn head(mut self, census: Census, outside: Outside<'_>) -> Result<Head, BadAsk> {
        if !self.is_object {
            return Err(BadAsk::NotObject);
        }
        let wire = self.wire;
        let model = self.model(outside)?;
        let stream = self.flag(Field::Stream)?.unwrap_or(false) || outside.stream;
        let background = self.flag(Field::Background)?.unwrap_or(false);
        for (field, expected) in [(Field::StreamOptions, b'{'), (Field::Config, b'{')] {
            if let Some((value, name)) = self.given(field)
                && value.first() != Some(&expected)
            {
                return Err(BadAsk::Wrong(name, "an object"));
            }
        }
        let usage_asked = match wire {
            Wire::Chat | Wire::Completions if stream => self.flag(Field::IncludeUsage)?.unwrap_or(false),
            _ => true,
        };
        let limits = [self.count(Field::MaxOutput)?, self.count(Field::MaxTokens)?];
        // Some servers take a negative number for none at all.
        let max_output =
            if limits.iter().flatten().any(|limit| *limit < 0) { None } else { limits.into_iter().max().flatten() };
        let answers = [self.count(Field::Count)?, self.count(Field::BestOf)?].into_iter().flatten().fold(1, i64::max);
        let texts = match (wire, self.talk) {
            (Wire::Completions | Wire::Embeddings, Talk { values, has_numbers: false }) => count_of(values),
            (Wire::Completions | Wire::Embeddings, _) => 1,
            _ => 0,
        };
        for (field, name) in [(Field::Previous, "previous_response_id"), (Field::Conversation, "conversation")] {
            if self.given(field).is_some() {
                self.leans_on = Some(name);
            }
        }
        if let Some((_, name)) = self.given(Field::Stored) {
            self.leans_on = Some(name);
        }
        let tier = self.tier()?;
        Ok(Head {
            wire,
            model,
            stream,
            max_output,
            n: if wire == Wire::Completions { answers.saturating_mul(texts.max(1)) } else { answers },
            inputs: if wire == Wire::Embeddings { texts } else { 0 },
            input_estimate: self.most(census),
            input_likely: self.likely(census),
            usage_asked,
            has_tools: self.has_tools,
            looks_around: self.looks_around,
            images: self.images.max(self.pictures),
            has_images: self.has_images,
            has_audio: self.has_audio,
            has_schema: self.has_schema,
            leans_on: self.leans_on,
            background,
            tier,
            keeps_long: self.keeps_long,
            places: self.places,
        })
    }

    fn model(&self, outside: Outside<'_>) -> Result<String, BadAsk> {
        let inside = match self.given(Field::Model) {
            Some((value, name)) => Some(string_of(value).ok_or(BadAsk::Wrong(name, "a string"))?),
            None => None,
        };
        let model = inside.or(outside.model.map(str::to_owned)).ok_or(BadAsk::Missing("model"))?;
        if model.is_empty() || model.len() > MAX_MODEL || model.chars().any(char::is_control) {
            return Err(BadAsk::Wrong("model", "the name of a model"));
        }
        Ok(model)
    }

    /// How soon it is to be served: of two words for it that which costs more.
    fn tier(&self) -> Result<Option<String>, BadAsk> {
        let named = |field| {
            let Some((value, name)) = self.given(field) else { return Ok(None) };
            // Google's enums may be numbers, which do not say here what they cost.
            let named =
                string_of(value).filter(|named| named.len() <= MAX_TIER && !named.chars().any(char::is_control));
            named.map(Some).ok_or(BadAsk::Wrong(name, "the name of a tier"))
        };
        let both = [named(Field::Tier)?, named(Field::Speed)?];
        Ok(both.into_iter().flatten().max_by_key(|named| Tier::read(named)))
    }

    /// The value of a field, unless it is `null`, which says as much as nothing.
    fn given(&self, field: Field) -> Option<(&'a [u8], &'static str)> {
        let (span, name) = self.places[field as usize]?;
        Some((span.of(self.body), name)).filter(|(value, _)| *value != b"null")
    }

    fn flag(&self, field: Field) -> Result<Option<bool>, BadAsk> {
        match self.given(field) {
            None => Ok(None),
            Some((b"true", _)) => Ok(Some(true)),
            Some((b"false", _)) => Ok(Some(false)),
            Some((_, name)) => Err(BadAsk::Wrong(name, "true or false")),
        }
    }

    fn count(&self, field: Field) -> Result<Option<i64>, BadAsk> {
        let Some((value, name)) = self.given(field) else { return Ok(None) };
        // Gemini's JSON may put numbers in quotes.
        let digits = if self.wire == Wire::Generate { unquoted(value) } else { value };
        whole(digits).map(Some).ok_or(BadAsk::Wrong(name, "a whole number"))
    }

    /// An upper bound for ordinary text, structure included: two and a half bytes of ASCII to a token, somewhat less of
    /// other scripts. Vocabularies differ most where they are old and the script is not Latin.
    fn most(&self, census: Census) -> i64 {
        let escapes = census.escaped * 6;
        let plain = self.body.len().saturating_sub(self.blobs + census.high + escapes);
        let text = plain * 2 / 5 + census.high * 11 / 20 + census.wide + census.escaped * 8 / 5;
        let per_token = if self.others_are_text { 4 } else { 16 };
        let pictures = self.images.max(self.pictures).saturating_mul(TOKENS_PER_IMAGE);
        count_of(text + self.others / per_token + 1).saturating_add(pictures).saturating_add(self.numbers)
    }

    /// A cautious count of the text alone: six bytes of ASCII to a token.
    fn likely(&self, census: Census) -> i64 {
        let escapes = census.escaped * 6;
        let plain = self.text.saturating_sub(census.high + escapes);
        let text = plain / 6 + (census.high + census.escaped * 3) * 4 / 25 + census.wide;
        let numbers = if matches!(self.wire, Wire::Embeddings | Wire::Completions) { self.numbers } else { 0 };
        count_of(text).saturating_add(numbers)
    }
}

/// Whether a string says that a cache keeps something for longer than the half hour that is usual with OpenAI.
fn is_long_kept(key: &[u8], outer: &[u8], text: &[u8]) -> bool {
    plain(key) == b"ttl".as_slice()
        && matches!(&*plain(outer), b"prompt_cache_options" | b"prompt_cache_breakpoint")
        && text != b"30m"
}

enum Blob {
    Picture,
    Other,
}

/// Whether a string is a file in disguise.
fn blob(key: &[u8], outer: &[u8], text: &[u8]) -> Option<Blob> {
    if text.len() < MIN_BLOB {
        return None;
    }
    if text.starts_with(b"data:") {
        let head = &text[..text.len().min(128)];
        memchr::memmem::find(head, b";base64,")?;
        return Some(if text.starts_with(b"data:image") { Blob::Picture } else { Blob::Other });
    }
    let is_place = match key {
        b"data" => matches!(outer, b"source" | b"inlineData" | b"inline_data" | b"input_audio"),
        b"file_data" => true,
        _ => false,
    };
    if !is_place || !looks_like_base64(text) {
        return None;
    }
    // These begin every PNG, JPEG, GIF and WebP.
    let is_picture = [b"iVBORw0KGgo".as_slice(), b"/9j/", b"\\/9j\\/", b"R0lGOD", b"UklGR"];
    Some(if is_picture.iter().any(|start| text.starts_with(start)) { Blob::Picture } else { Blob::Other })
}

/// Looks at the beginning, the middle and the end.
fn looks_like_base64(text: &[u8]) -> bool {
    const PIECE: usize = 64;
    let middle = text.len() / 2;
    let pieces = [&text[..PIECE], &text[middle..middle + PIECE], &text[text.len() - PIECE..]];
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_' | b'\\');
    pieces.iter().all(|piece| piece.iter().all(fits))
}

/// The field that a key names. One that some servers would take for it, and others not, is ambiguous.
fn find(names: &'static [(&'static str, Field)], key: &[u8]) -> Result<Option<(Field, &'static str)>, BadAsk> {
    let key = plain(key);
    for (name, field) in names {
        if *key == *name.as_bytes() {
            return Ok(Some((*field, name)));
        }
        if key.eq_ignore_ascii_case(name.as_bytes()) {
            return Err(BadAsk::Ambiguous(name));
        }
    }
    Ok(None)
}

/// A key as servers compare it: without escapes, and with the two characters beyond ASCII that are the same as ASCII
/// letters where case does not matter.
fn plain(key: &[u8]) -> Cow<'_, [u8]> {
    if key.iter().all(|byte| byte.is_ascii() && *byte != b'\\') {
        return Cow::Borrowed(key);
    }
    let quoted = [b"\"", key, b"\""].concat();
    match serde_json::from_slice::<String>(&quoted) {
        Ok(key) => Cow::Owned(key.replace('\u{17f}', "S").replace('\u{212a}', "K").into_bytes()),
        Err(_) => Cow::Borrowed(key),
    }
}

/// What a JSON string says, if it is one and says anything that is text.
fn string_of(value: &[u8]) -> Option<String> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !inner.contains(&b'\\') {
        return std::str::from_utf8(inner).ok().map(str::to_owned);
    }
    serde_json::from_slice(value).ok()
}

/// The digits of a number that may stand in quotes.
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// A whole number, however it is written. What is too large for us is the largest there is.
fn whole(value: &[u8]) -> Option<i64> {
    let Value::Number(number) = serde_json::from_slice(value).ok()? else { return None };
    if let Some(whole) = number.as_i64() {
        return Some(whole);
    }
    // The cast saturates.
    number.as_f64().filter(|float| float.fract() == 0.0).map(|float| float as i64)
}

fn count_of(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
