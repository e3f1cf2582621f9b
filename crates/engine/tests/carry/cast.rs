//! What the tests of carrying share.

use salon_core::{Time, Tokens};
use salon_engine::upstream::Fault;
use salon_engine::wire::Wire;
use salon_engine::wire::carry::{Back, Carrier, Door, Quirks, Reader, Terms};
use salon_engine::wire::talk::{Ask, Finish, Piece};
use serde_json::Value;

/// The wires that can be both asked and answered in, for everything that a conversation has.
pub const WIRES: [Wire; 4] = [Wire::Chat, Wire::Responses, Wire::Messages, Wire::Generate];
/// All that somebody may ask in.
pub const DOORS: [Wire; 6] =
    [Wire::Chat, Wire::Completions, Wire::Responses, Wire::Messages, Wire::Generate, Wire::Midm];
/// All that somebody may be asked in.
pub const UPSTREAMS: [Wire; 5] = [Wire::Chat, Wire::Responses, Wire::Messages, Wire::Generate, Wire::Midm];

pub fn terms(stream: bool) -> Terms<'static> {
    Terms {
        model: "parrot-9b",
        shown_model: "house/parrot",
        stream,
        id: "01CALL",
        now: Time(1_795_000_000_000),
        max_output: None,
        quirks: Quirks::default(),
    }
}

pub fn door(wire: Wire, stream: bool) -> Door {
    Door::new(wire, Ask { usage_asked: true, ..Ask::default() }, &terms(stream))
}

pub fn back(upstream: Wire, door_wire: Wire, stream: bool) -> Back {
    Back { upstream, door: door(door_wire, stream) }
}

/// Everything that an answer says, read at once.
pub fn pieces(wire: Wire, stream: bool, bytes: &[u8]) -> Vec<Piece> {
    pieces_cut(wire, stream, [bytes])
}

pub fn pieces_cut<'a>(wire: Wire, stream: bool, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Piece> {
    let mut reader = Reader::new(wire, stream, "01CALL");
    let mut pieces = Vec::new();
    chunks.into_iter().for_each(|chunk| reader.push(chunk, &mut pieces));
    reader.end(&mut pieces);
    pieces
}

/// A stream turned round at once, and what came of it.
pub fn turn(back: &Back, bytes: &[u8]) -> (String, Result<(), Fault>) {
    let mut carrier = Carrier::new(back);
    let mut out = Vec::new();
    let told = carrier.push(bytes, &mut out).and_then(|()| carrier.end(&mut out));
    (String::from_utf8(out).expect("text"), told.map_err(|garbled| garbled.0))
}

/// What an answer means, however it was cut into pieces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meaning {
    pub text: String,
    pub thought: String,
    pub refusal: String,
    /// Names and arguments.
    pub calls: Vec<(String, Value)>,
    pub finish: Option<Finish>,
    pub tokens: Option<Tokens>,
    pub broken: Option<Fault>,
}

pub fn meaning(pieces: &[Piece]) -> Meaning {
    let mut meaning = Meaning::default();
    let mut calls: Vec<(String, String)> = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Begin { .. } | Piece::CallDone { .. } => {}
            Piece::Text(text) => meaning.text.push_str(text),
            Piece::Thought(text) => meaning.thought.push_str(text),
            Piece::Refusal(text) => meaning.refusal.push_str(text),
            Piece::Call { call, name, .. } => {
                assert_eq!(*call, calls.len(), "calls are numbered as they come");
                calls.push((name.clone(), String::new()));
            }
            Piece::Arguments { call, json } => calls[*call].1.push_str(json),
            Piece::End { finish, tokens } => {
                meaning.finish = Some(finish.clone());
                meaning.tokens = *tokens;
            }
            Piece::Broken(fault) => meaning.broken = Some(*fault),
        }
    }
    let parsed = |(name, json): (String, String)| {
        let arguments = if json.is_empty() { Value::Object(serde_json::Map::new()) } else { parse(&json) };
        (name, arguments)
    };
    meaning.calls = calls.into_iter().map(parsed).collect();
    meaning
}

pub fn parse(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error} in {json}"))
}
