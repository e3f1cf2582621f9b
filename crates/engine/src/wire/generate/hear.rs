//! An answer in Gemini's words, read. A stream is made of the same objects as an answer that comes whole.

use serde_json::Value;

use crate::upstream::Fault;
use crate::wire::Wire;
use crate::wire::carry::{faults, reader::Hear};
use crate::wire::talk::{Finish, Piece};
use crate::wire::usage::Claim;

#[derive(Debug)]
pub(in crate::wire) struct Answer {
    id: String,
    begun: bool,
    calls: usize,
    finish: Option<Finish>,
    claim: Option<Claim>,
}

impl Answer {
    pub(in crate::wire) fn new(id: &str) -> Answer {
        Answer { id: id.to_owned(), begun: false, calls: 0, finish: None, claim: None }
    }

    fn chunk(&mut self, body: &Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
            return Err(faults::sort(error));
        }
        if !body.is_object() {
            return Err(Fault::Garbled);
        }
        if let Some(claim) = Claim::read(Wire::Generate, body) {
            self.claim = Some(self.claim.map_or(claim, |earlier| earlier.join(claim)));
        }
        if !std::mem::replace(&mut self.begun, true) {
            out.push(Piece::Begin { tokens: None });
        }
        if body["promptFeedback"]["blockReason"].is_string() {
            self.finish = Some(Finish::Filtered);
        }
        let candidates = body["candidates"].as_array().map(Vec::as_slice).unwrap_or_default();
        // We ask for one answer; a server that gives several is heard on its first.
        let Some(candidate) = candidates.iter().find(|candidate| candidate["index"].as_u64().unwrap_or(0) == 0) else {
            return Ok(());
        };
        let parts = candidate["content"]["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
        for part in parts {
            self.part(part, out)?;
        }
        match candidate["finishReason"].as_str() {
            None | Some("" | "FINISH_REASON_UNSPECIFIED") => {}
            Some(reason) => self.finish = Some(finish(reason)?),
        }
        Ok(())
    }

    fn part(&mut self, part: &Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        if let Some(text) = part["text"].as_str() {
            if !text.is_empty() {
                let thought = part["thought"].as_bool() == Some(true);
                out.push(if thought { Piece::Thought(text.to_owned()) } else { Piece::Text(text.to_owned()) });
            }
            return Ok(());
        }
        let called = &part["functionCall"];
        if called.is_object() {
            let name = called["name"].as_str().filter(|name| !name.is_empty()).ok_or(Fault::Garbled)?;
            let call = self.calls;
            self.calls += 1;
            let id = called["id"].as_str().filter(|id| !id.is_empty());
            let id = id.map_or_else(|| format!("call_{}_{call}", self.id), str::to_owned);
            out.push(Piece::Call { call, id, name: name.to_owned() });
            let args = &called["args"];
            if args.is_object() {
                out.push(Piece::Arguments { call, json: args.to_string() });
            }
            out.push(Piece::CallDone { call });
        }
        // No other wire's answers have pictures. What was made and paid for is not passed over in silence.
        let media = ["inlineData", "inline_data", "fileData", "file_data"].map(|name| &part[name]);
        if let Some(media) = media.into_iter().find(|media| media.is_object() && part["thought"] != true) {
            let kind = media["mimeType"].as_str().or(media["mime_type"].as_str()).filter(|kind| is_mime(kind));
            out.push(Piece::Text(format!("[{}: cannot be shown here]", kind.unwrap_or("media"))));
        }
        Ok(())
    }

    fn close(&mut self, out: &mut Vec<Piece>) -> Result<(), Fault> {
        let finish = self.finish.take().ok_or(Fault::Cut)?;
        out.push(Piece::End { finish, tokens: self.claim.map(|claim| claim.told()) });
        Ok(())
    }
}

impl Hear for Answer {
    fn frame(&mut self, _: Option<&str>, data: Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        self.chunk(&data, out)
    }

    fn whole(&mut self, body: Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        self.chunk(&body, out)?;
        if self.finish.is_none() && body["candidates"].as_array().is_none_or(Vec::is_empty) {
            return Err(Fault::Garbled);
        }
        self.finish.get_or_insert_default();
        self.close(out)
    }

    /// The reason to end is the only mark of an end, and usage may come after it.
    fn end(&mut self, out: &mut Vec<Piece>) -> Result<(), Fault> {
        self.close(out)
    }
}

fn finish(reason: &str) -> Result<Finish, Fault> {
    match reason {
        "MAX_TOKENS" => Ok(Finish::Length),
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" => Ok(Finish::Filtered),
        "IMAGE_SAFETY" | "IMAGE_PROHIBITED_CONTENT" | "IMAGE_RECITATION" => Ok(Finish::Filtered),
        // The model tried to say or to call something and failed: there is no answer in that.
        "MALFORMED_FUNCTION_CALL" | "MALFORMED_RESPONSE" => Err(Fault::Garbled),
        "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" | "MISSING_THOUGHT_SIGNATURE" => Err(Fault::Garbled),
        _ => Ok(Finish::Stop),
    }
}

fn is_mime(kind: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"/.+-".contains(&byte);
    (1..=64).contains(&kind.len()) && kind.bytes().all(is_part)
}
