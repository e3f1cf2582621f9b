//! A chat answer, read.

use serde_json::Value;

use crate::upstream::Fault;
use crate::wire::Wire;
use crate::wire::carry::{faults, reader::Hear};
use crate::wire::talk::{Finish, Piece};
use crate::wire::usage::Claim;

/// More calls than this in one answer are nonsense.
const MAX_CALLS: usize = 4_096;

#[derive(Debug)]
pub(in crate::wire) struct Answer {
    id: String,
    begun: bool,
    refused: bool,
    calls: Vec<Known>,
    finish: Option<Finish>,
    claim: Option<Claim>,
}

/// A call that has begun, by what the upstream calls it.
#[derive(Debug)]
struct Known {
    index: u64,
    id: Option<String>,
}

impl Answer {
    pub(in crate::wire) fn new(id: &str) -> Answer {
        Answer { id: id.to_owned(), begun: false, refused: false, calls: Vec::new(), finish: None, claim: None }
    }

    /// Reads what is said in a chunk's delta or in a whole message.
    fn said(&mut self, said: &Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        // Some servers send their thoughts under both names.
        let thought = [&said["reasoning_content"], &said["reasoning"]].into_iter().find_map(Value::as_str);
        push(out, thought, Piece::Thought);
        match &said["content"] {
            Value::String(text) => push(out, Some(text), Piece::Text),
            Value::Array(parts) => {
                for part in parts {
                    match &part["thinking"] {
                        Value::Array(thoughts) => {
                            thoughts.iter().for_each(|thought| push(out, thought["text"].as_str(), Piece::Thought));
                        }
                        Value::String(thought) => push(out, Some(thought), Piece::Thought),
                        _ => push(out, part["text"].as_str(), Piece::Text),
                    }
                }
            }
            _ => {}
        }
        if let Some(words) = said["refusal"].as_str().filter(|words| !words.is_empty()) {
            self.refused = true;
            out.push(Piece::Refusal(words.to_owned()));
        }
        let calls = said["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
        calls.iter().enumerate().try_for_each(|(position, call)| self.called(position, call, out))
    }

    fn called(&mut self, position: usize, said: &Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        let id = said["id"].as_str().filter(|id| !id.is_empty());
        let function = &said["function"];
        let name = function["name"].as_str().filter(|name| !name.is_empty());
        let index = said["index"].as_u64();
        let same = |known: &Known| match index {
            // Servers that count every call as 0 tell them apart by their ids.
            Some(index) => known.index == index && (name.is_none() || id.is_none() || known.id.as_deref() == id),
            None => id.is_some() && known.id.as_deref() == id,
        };
        let found = self.calls.iter().rposition(same);
        // What has neither number, id nor name goes on where the last one stopped.
        let anonymous = index.is_none() && id.is_none() && name.is_none();
        let call = match found.or_else(|| anonymous.then(|| self.calls.len().checked_sub(1)).flatten()) {
            Some(call) => call,
            None => {
                let (Some(name), true) = (name, self.calls.len() < MAX_CALLS) else { return Err(Fault::Garbled) };
                let call = self.calls.len();
                self.calls.push(Known { index: index.unwrap_or(position as u64), id: id.map(str::to_owned) });
                let id = id.map_or_else(|| format!("call_{}_{call}", self.id), str::to_owned);
                out.push(Piece::Call { call, id, name: name.to_owned() });
                call
            }
        };
        let json = match &function["arguments"] {
            Value::String(json) => json.clone(),
            Value::Object(object) => Value::Object(object.clone()).to_string(),
            _ => return Ok(()),
        };
        out.push(Piece::Arguments { call, json });
        Ok(())
    }

    fn chunk(&mut self, body: &Value, event: Option<&str>, out: &mut Vec<Piece>) -> Result<(), Fault> {
        if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
            return Err(faults::sort(error));
        }
        if event == Some("error") {
            return Err(faults::sort(body));
        }
        if !body.is_object() {
            return Err(Fault::Garbled);
        }
        if !std::mem::replace(&mut self.begun, true) {
            out.push(Piece::Begin { tokens: None });
        }
        if let Some(claim) = Claim::read(Wire::Chat, body) {
            self.claim = Some(self.claim.map_or(claim, |earlier| earlier.join(claim)));
        }
        let choices = body["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
        // We ask for one answer; a server that gives several is heard on its first.
        let Some(choice) = choices.iter().find(|choice| choice["index"].as_u64().unwrap_or(0) == 0) else {
            return Ok(());
        };
        let said = [&choice["delta"], &choice["message"]].into_iter().find(|said| said.is_object());
        if let Some(said) = said {
            self.said(said, out)?;
        }
        match choice["finish_reason"].as_str().filter(|reason| !reason.is_empty()) {
            Some("error") => return Err(Fault::Busy),
            Some(reason) => self.finish = Some(finish(reason)),
            None => {}
        }
        Ok(())
    }

    fn close(&mut self, finish: Finish, out: &mut Vec<Piece>) {
        let finish = if finish == Finish::Stop && self.refused { Finish::Refused } else { finish };
        out.push(Piece::End { finish, tokens: self.claim.map(|claim| claim.told()) });
    }
}

impl Hear for Answer {
    fn frame(&mut self, event: Option<&str>, data: Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        self.chunk(&data, event, out)
    }

    fn whole(&mut self, body: Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        self.chunk(&body, None, out)?;
        if body["choices"].as_array().is_none_or(Vec::is_empty) {
            return Err(Fault::Garbled);
        }
        let finish = self.finish.take().unwrap_or_default();
        self.close(finish, out);
        Ok(())
    }

    /// `[DONE]` alone is no end: a server that died on the way may still say it.
    fn end(&mut self, out: &mut Vec<Piece>) -> Result<(), Fault> {
        let finish = self.finish.take().ok_or(Fault::Cut)?;
        self.close(finish, out);
        Ok(())
    }
}

fn push(out: &mut Vec<Piece>, text: Option<&str>, piece: impl Fn(String) -> Piece) {
    out.extend(text.filter(|text| !text.is_empty()).map(|text| piece(text.to_owned())));
}

fn finish(reason: &str) -> Finish {
    match reason {
        "length" => Finish::Length,
        "tool_calls" | "function_call" => Finish::Calls,
        "content_filter" => Finish::Filtered,
        _ => Finish::Stop,
    }
}
