//! Frames of a stream, written.

use serde_json::Value;

use crate::upstream::{Fault, Trouble};
use crate::wire::Wire;
use crate::wire::refusal::Refused;

/// A frame with a type, as OpenAI's responses and Anthropic's messages have them.
pub(in crate::wire) fn named(out: &mut Vec<u8>, event: &str, data: &Value) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.push(b'\n');
    plain(out, data);
}

pub(in crate::wire) fn plain(out: &mut Vec<u8>, data: &Value) {
    out.extend_from_slice(b"data: ");
    json(out, data);
    out.extend_from_slice(b"\n\n");
}

/// The error with which a stream ends that has broken off, as the door's clients raise it.
pub(in crate::wire) fn refusal(out: &mut Vec<u8>, wire: Wire, id: &str, fault: Fault) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(&Refused::from(Trouble::from(fault)).body(wire, id));
    out.extend_from_slice(b"\n\n");
}

pub(in crate::wire) fn done(out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: [DONE]\n\n");
}

/// A value without line ends, which the writer of JSON never makes outside of quotes, and escapes inside.
pub(in crate::wire) fn json(out: &mut Vec<u8>, value: &Value) {
    // Memory takes everything, and a `Value` has no keys that are no text.
    let _ = serde_json::to_writer(out, value);
}

/// A text in quotes.
pub(in crate::wire) fn quoted(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

/// Whether this is one whole JSON value.
pub(in crate::wire) fn is_whole(json: &str) -> bool {
    serde_json::from_str::<Value>(json).is_ok()
}

/// The arguments of a call as an object. Nothing at all is no arguments.
pub(in crate::wire) fn arguments(json: &str) -> Option<Value> {
    if json.trim().is_empty() {
        return Some(Value::Object(serde_json::Map::new()));
    }
    serde_json::from_str(json).ok().filter(Value::is_object)
}
