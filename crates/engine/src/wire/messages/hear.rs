//! An answer in Anthropic's words, read.

use serde_json::Value;

use crate::upstream::Fault;
use crate::wire::Wire;
use crate::wire::carry::{faults, reader::Hear};
use crate::wire::talk::{Finish, Piece};
use crate::wire::usage::Claim;

/// More blocks than this in one answer are nonsense.
const MAX_BLOCKS: usize = 16_384;

#[derive(Debug)]
pub(in crate::wire) struct Answer {
    id: String,
    begun: bool,
    /// The open blocks, by the upstream's numbers.
    open: Vec<(u64, Block)>,
    blocks: usize,
    calls: usize,
    finish: Option<Finish>,
    claim: Option<Claim>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Said,
    Call(usize),
    /// What another wire has no words for: what built-in tools do, thoughts under seal.
    Other,
}

impl Answer {
    pub(in crate::wire) fn new(id: &str) -> Answer {
        Answer { id: id.to_owned(), begun: false, open: Vec::new(), blocks: 0, calls: 0, finish: None, claim: None }
    }

    fn begin(&mut self, message: &Value, out: &mut Vec<Piece>) {
        self.count(message);
        if !std::mem::replace(&mut self.begun, true) {
            out.push(Piece::Begin { tokens: self.claim.map(|claim| claim.told()) });
        }
    }

    fn count(&mut self, value: &Value) {
        if let Some(claim) = Claim::read(Wire::Messages, value) {
            self.claim = Some(self.claim.map_or(claim, |earlier| earlier.join(claim)));
        }
    }

    fn open(&mut self, block: &Value, out: &mut Vec<Piece>) -> Result<Block, Fault> {
        self.blocks += 1;
        if self.blocks > MAX_BLOCKS {
            return Err(Fault::Garbled);
        }
        match block["type"].as_str() {
            Some("text") => {
                push(out, &block["text"], Piece::Text);
                Ok(Block::Said)
            }
            Some("thinking") => {
                push(out, &block["thinking"], Piece::Thought);
                Ok(Block::Said)
            }
            Some("tool_use") => {
                let name = block["name"].as_str().filter(|name| !name.is_empty()).ok_or(Fault::Garbled)?;
                let call = self.calls;
                self.calls += 1;
                let id = block["id"].as_str().filter(|id| !id.is_empty());
                let id = id.map_or_else(|| format!("call_{}_{call}", self.id), str::to_owned);
                out.push(Piece::Call { call, id, name: name.to_owned() });
                if block["input"].as_object().is_some_and(|input| !input.is_empty()) {
                    out.push(Piece::Arguments { call, json: block["input"].to_string() });
                }
                Ok(Block::Call(call))
            }
            _ => Ok(Block::Other),
        }
    }

    fn ended(&mut self, stop: &Value) {
        self.finish = match stop["stop_reason"].as_str() {
            None => self.finish.take(),
            Some("max_tokens" | "model_context_window_exceeded") => Some(Finish::Length),
            Some("stop_sequence") => Some(Finish::Sequence(stop["stop_sequence"].as_str().map(str::to_owned))),
            Some("tool_use") => Some(Finish::Calls),
            Some("refusal") => Some(Finish::Refused),
            Some(_) => Some(Finish::Stop),
        };
    }

    fn close(&mut self, out: &mut Vec<Piece>) -> Result<(), Fault> {
        let finish = self.finish.take().ok_or(Fault::Cut)?;
        out.push(Piece::End { finish, tokens: self.claim.map(|claim| claim.told()) });
        Ok(())
    }
}

impl Hear for Answer {
    fn frame(&mut self, event: Option<&str>, data: Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        let kind = data["type"].as_str().or(event).unwrap_or_default();
        match kind {
            "message_start" => self.begin(&data["message"], out),
            "content_block_start" => {
                let number = data["index"].as_u64().ok_or(Fault::Garbled)?;
                let block = self.open(&data["content_block"], out)?;
                self.open.retain(|(open, _)| *open != number);
                self.open.push((number, block));
            }
            "content_block_delta" => {
                let number = data["index"].as_u64();
                let block = self.open.iter().rev().find(|(open, _)| Some(*open) == number).map(|(_, block)| *block);
                let delta = &data["delta"];
                match (delta["type"].as_str(), block) {
                    (_, Some(Block::Other)) => {}
                    (Some("text_delta"), _) => push(out, &delta["text"], Piece::Text),
                    (Some("thinking_delta"), _) => push(out, &delta["thinking"], Piece::Thought),
                    (Some("input_json_delta"), Some(Block::Call(call))) => {
                        push(out, &delta["partial_json"], |json| Piece::Arguments { call, json });
                    }
                    _ => {}
                }
            }
            "content_block_stop" => {
                let number = data["index"].as_u64();
                if let Some(at) = self.open.iter().rposition(|(open, _)| Some(*open) == number)
                    && let (_, Block::Call(call)) = self.open.swap_remove(at)
                {
                    out.push(Piece::CallDone { call });
                }
            }
            "message_delta" => {
                self.count(&data);
                self.ended(&data["delta"]);
            }
            "message_stop" => return self.close(out),
            "error" => return Err(faults::sort(data.get("error").unwrap_or(&data))),
            // `ping`, and what comes after it.
            _ if data.is_object() => {}
            _ => return Err(Fault::Garbled),
        }
        Ok(())
    }

    fn whole(&mut self, body: Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        if body["type"] == "error" || body.get("error").is_some_and(|error| !error.is_null()) {
            return Err(faults::sort(body.get("error").unwrap_or(&body)));
        }
        let blocks = body["content"].as_array().ok_or(Fault::Garbled)?;
        self.begin(&body, out);
        for block in blocks {
            if let Block::Call(call) = self.open(block, out)? {
                out.push(Piece::CallDone { call });
            }
        }
        self.ended(&body);
        self.finish.get_or_insert_default();
        self.close(out)
    }

    fn end(&mut self, out: &mut Vec<Piece>) -> Result<(), Fault> {
        self.close(out)
    }
}

fn push(out: &mut Vec<Piece>, text: &Value, piece: impl Fn(String) -> Piece) {
    out.extend(text.as_str().filter(|text| !text.is_empty()).map(|text| piece(text.to_owned())));
}
