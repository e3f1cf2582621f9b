//! What a request asks for, read without parsing it.
//!
//! One pass over the bytes finds the few values that decide where a request goes and what it may cost, and remembers
//! where they stand. [`Head::rewrite`] puts other values there and leaves every other byte as it was.

use bytes::Bytes;
use thiserror::Error;

use super::Wire;

/// How deep a request may nest.
pub const MAX_DEPTH: usize = 64;

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
    /// What reading it likely costs at least, in tokens, times two: what an upstream's claim is judged by.
    pub input_likely: i64,
    /// Whether a stream's usage comes without our asking for it.
    pub usage_asked: bool,
    pub has_tools: bool,
    pub images: i64,
    pub has_audio: bool,
    /// The field that refers to something which is kept at the provider, so that its size is unknown here and its owner
    /// too: an earlier response, a conversation, a cache, a file.
    pub leans_on: Option<&'static str>,
    /// Whether the answer is to be made after the response has ended.
    pub background: bool,
    /// A service tier with prices of its own, as the request names it.
    pub tier: Option<String>,
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
    #[error("The request says `{0}` twice.")]
    Ambiguous(&'static str),
    #[error("The request lacks `{0}`.")]
    Missing(&'static str),
    #[error("`{0}` has to be {1}.")]
    Wrong(&'static str, &'static str),
}

impl Head {
    pub fn read(_wire: Wire, _body: &[u8], _outside: Outside<'_>) -> Result<Head, BadAsk> {
        Err(BadAsk::NotObject)
    }

    /// The request with the changes. If there is nothing to change, these are the same bytes.
    pub fn rewrite(&self, body: &Bytes, _changes: &Changes<'_>) -> Bytes {
        body.clone()
    }
}
