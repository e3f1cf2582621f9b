//! One wire's calls carried over another.
//!
//! [`carry_ask`] turns a client's question into one for an upstream that speaks another wire, and [`Back`] remembers what
//! the way back needs. [`carry_answer`] then turns a whole answer, [`Carrier`] a stream. [`Reader`] and [`Writer`] are
//! the halves of a carrier, for those who have only one side: engines that ask, and engines that are asked.
//!
//! # What happens to what a wire has and the other has not
//!
//! - **Refused by name** ([`CannotCarry`]): whatever changes what the answer means or holds. Several answers (`n`),
//!   `logprobs`, `logit_bias`, `seed` and penalties and stop sequences where the other side has none, media that it
//!   cannot take, files and conversations that lie at the first side (`file_id`, `previous_response_id`, …).
//! - **Left out and told** ([`Carried::left_out`]): built-in tools such as `web_search`, which clients send unasked and
//!   can do without; `top_k`; wishes about speed or storage; fields that nobody here knows.
//! - **Dropped in silence**: hints that change nothing in the answer, [`HINTS`]; marks for caches; what a model thought
//!   in earlier turns, which no other provider could verify.

mod check;
pub(super) mod faults;
pub(super) mod fields;
pub(super) mod frames;
pub(super) mod media;
mod names;
mod order;
pub(super) mod reader;
pub(super) mod schema;
pub(super) mod tools;
pub(super) mod writer;

use salon_core::Time;
use thiserror::Error;

use self::fields::Fields;
pub use self::reader::Reader;
pub use self::writer::Writer;
pub use super::talk::CannotCarry;
use super::talk::{Ask, Disguise, Piece};
use super::{Wire, chat, completions, generate, messages, midm, responses};
use crate::upstream::Fault;

/// Top-level fields that travel nowhere and are not missed.
pub const HINTS: &[&str] = &[
    "metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "client_metadata",
    "cache_control",
    "diagnostics",
    "labels",
];

/// The most tools that one question may offer.
pub(super) const MAX_TOOLS: usize = 2_048;

/// What the relay knows and the body does not say.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What the upstream calls the model.
    pub model: &'a str,
    /// What the client called it: the answer bears this name.
    pub shown_model: &'a str,
    /// Whether the client asked for a stream. Some doors say so in their path and not in the body.
    pub stream: bool,
    /// Names the call, once. The ids in the answer are made of it.
    pub id: &'a str,
    pub now: Time,
    /// The most that the model writes, if that is known: what is asked beyond it is lowered to it, and wires that demand
    /// a number get it where the client gave none.
    pub max_output: Option<i64>,
    pub quirks: Quirks,
}

/// Manners of single models and servers, as the catalog knows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Chat: the limit is called `max_completion_tokens`, as OpenAI's newer models want it, and not `max_tokens`.
    pub max_completion_tokens: bool,
    /// It does not think: wishes about thinking are left out, and told.
    pub no_thinking: bool,
    /// It takes no temperature and the like: they are left out, and told.
    pub no_sampling: bool,
    /// Chat: it does not know `stream_options`, so the usage of a stream is not asked for.
    pub no_stream_options: bool,
    /// Chat: its instructions are said by the `developer`, and not by the `system`.
    pub developer_role: bool,
    /// Chat: it takes instructions at the head of a conversation only.
    pub head_only: bool,
    /// Chat: it wants its earlier thoughts back, as `reasoning_content`.
    pub thoughts_back: bool,
}

/// A question on its way.
#[derive(Clone, Debug)]
pub struct Carried {
    pub body: Vec<u8>,
    /// What does not travel, by names that are fit for a header. Empty is the rule.
    pub left_out: Vec<String>,
    pub back: Back,
}

/// What turns the answer round.
#[derive(Clone, Debug, PartialEq)]
pub struct Back {
    pub upstream: Wire,
    pub door: Door,
}

/// How an answer is to be told: everything that a [`Writer`] needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Door {
    pub wire: Wire,
    pub stream: bool,
    /// Gemini: the stream is one array and not events, as its clients get it who do not ask for `alt=sse`.
    pub array: bool,
    pub model: String,
    pub id: String,
    pub now: Time,
    pub usage_asked: bool,
    /// Tools that were carried under another name or form, by the name that the upstream knows.
    pub disguises: Vec<(String, Disguise)>,
    /// What a Responses answer repeats of its question.
    pub echo: serde_json::Map<String, serde_json::Value>,
}

/// An answer that cannot be read, or that says of itself that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the upstream's answer cannot be told: {}", .0.code())]
pub struct Garbled(pub Fault);

/// Reads a question from one wire and writes it for another.
pub fn carry_ask(from: Wire, to: Wire, body: &[u8], terms: &Terms<'_>) -> Result<Carried, CannotCarry> {
    let mut ask = read_ask(from, body)?;
    ask.stream = terms.stream;
    let read = ask.left_out.len();
    let body = write_ask(to, &mut ask, terms).map_err(|cannot| names::refused(from, cannot))?;
    let mut left_out = std::mem::take(&mut ask.left_out);
    names::left_out(from, &mut left_out[read..]);
    Ok(Carried { body, left_out, back: Back { upstream: to, door: Door::new(from, ask, terms) } })
}

/// Reads a question. What it says about streaming is only its body's word; see [`Terms::stream`].
pub fn read_ask(from: Wire, body: &[u8]) -> Result<Ask, CannotCarry> {
    let fields = Fields::parse(body)?;
    let ask = match from {
        Wire::Chat => chat::read_ask(fields),
        Wire::Completions => completions::read_ask(fields),
        Wire::Responses => responses::read_ask(fields),
        Wire::Messages => messages::read_ask(fields),
        Wire::Generate => generate::read_ask(fields),
        Wire::Midm => midm::read_ask(fields),
        Wire::Embeddings => Err(CannotCarry::new("", "Embeddings are not translated between protocols.")),
    }?;
    check::whole(&ask).map_err(|cannot| names::refused(from, cannot))?;
    Ok(ask)
}

/// Writes a question. What the wire cannot say and the asker can do without is added to [`Ask::left_out`], by chat's name
/// for it, and so is what is refused.
pub fn write_ask(to: Wire, ask: &mut Ask, terms: &Terms<'_>) -> Result<Vec<u8>, CannotCarry> {
    check::bend(ask, terms);
    check::failures(ask, to);
    let body = match to {
        Wire::Chat => chat::write_ask(ask, terms),
        Wire::Responses => responses::write_ask(ask, terms),
        Wire::Messages => messages::write_ask(ask, terms),
        Wire::Generate => generate::write_ask(ask, terms),
        Wire::Midm => midm::write_ask(ask, terms),
        Wire::Completions | Wire::Embeddings => Err(CannotCarry::new(
            "model",
            "This model is served for one kind of call only, and this is another; ask it there.",
        )),
    }?;
    // Writing our own values cannot fail: they have no maps with keys that are no text, and memory takes everything.
    Ok(serde_json::to_vec(&body).unwrap_or_default())
}

/// Turns a whole answer round.
pub fn carry_answer(back: &Back, body: &[u8]) -> Result<Vec<u8>, Garbled> {
    let mut carrier = Carrier::new(back);
    let mut out = Vec::with_capacity(body.len() + 512);
    carrier.push(body, &mut out)?;
    carrier.end(&mut out)?;
    Ok(out)
}

/// Turns an answer round as it comes.
pub struct Carrier {
    reader: Reader,
    writer: Writer,
    pieces: Vec<Piece>,
}

impl Carrier {
    pub fn new(back: &Back) -> Carrier {
        Carrier {
            reader: Reader::new(back.upstream, back.door.stream, &back.door.id),
            writer: Writer::new(back.door.clone()),
            pieces: Vec::new(),
        }
    }

    /// Reads what came and appends what there is to say about it.
    ///
    /// If the answer is broken, the error frame of the client's protocol is the last thing that is appended. An error is
    /// returned only if there is nothing to pass on: at once for an answer that was to come whole, and for every call
    /// after the one that appended the frame. Then there is no use in reading on.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Garbled> {
        let before = out.len();
        self.reader.push(bytes, &mut self.pieces);
        let told = self.tell(out);
        if out.len() > before { Ok(()) } else { told }
    }

    /// The upstream has closed. An answer that has no end by now has been cut off, and says so.
    ///
    /// Answers how it ended, whether or not there was something left to append.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Garbled> {
        self.reader.end(&mut self.pieces);
        self.tell(out)
    }

    /// Whether the end has been told, be it a good one or not.
    pub fn finished(&self) -> bool {
        self.writer.finished()
    }

    /// Ends a stream that stays without an end for a reason that only the caller knows, such as a deadline.
    pub fn fail(&mut self, fault: Fault, out: &mut Vec<u8>) {
        // That it failed is what the caller says, so it is no news.
        let _ = self.writer.write(Piece::Broken(fault), out);
    }

    fn tell(&mut self, out: &mut Vec<u8>) -> Result<(), Garbled> {
        self.pieces.drain(..).try_for_each(|piece| self.writer.write(piece, out))?;
        self.writer.outcome()
    }
}

impl Door {
    /// How the answer to `ask` is to be told at the door where it was asked.
    pub fn new(wire: Wire, ask: Ask, terms: &Terms<'_>) -> Door {
        let disguises = ask.tools.into_iter().filter_map(|tool| tool.disguise.map(|disguise| (tool.name, disguise)));
        Door {
            wire,
            stream: terms.stream,
            array: false,
            model: terms.shown_model.to_owned(),
            id: terms.id.to_owned(),
            now: terms.now,
            usage_asked: ask.usage_asked,
            disguises: disguises.collect(),
            echo: ask.echo,
        }
    }

    pub(super) fn disguise(&self, name: &str) -> Option<&Disguise> {
        self.disguises.iter().find(|(known, _)| known == name).map(|(_, disguise)| disguise)
    }

    /// Seconds since 1970, as answers bear them.
    pub(super) fn seconds(&self) -> i64 {
        self.now.0.div_euclid(1_000)
    }
}
