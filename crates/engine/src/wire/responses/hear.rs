//! A Responses answer, read.

use std::collections::HashMap;

use serde_json::Value;

use crate::upstream::Fault;
use crate::wire::Wire;
use crate::wire::carry::{faults, reader::Hear};
use crate::wire::talk::{Finish, Piece};
use crate::wire::usage::Claim;

/// More items than this in one answer are nonsense.
const MAX_ITEMS: usize = 16_384;

#[derive(Debug)]
pub(in crate::wire) struct Answer {
    id: String,
    begun: bool,
    refused: bool,
    /// What has been heard of each item, by its place in the output.
    items: HashMap<u64, Item>,
    calls: usize,
    /// Whether the thoughts themselves are told. Then their summary would tell them twice.
    thinks_aloud: bool,
}

#[derive(Debug, Default)]
struct Item {
    /// Something of it has been passed on.
    heard: bool,
    call: Option<usize>,
}

impl Answer {
    pub(in crate::wire) fn new(id: &str) -> Answer {
        Answer { id: id.to_owned(), begun: false, refused: false, items: HashMap::new(), calls: 0, thinks_aloud: false }
    }

    fn begin(&mut self, out: &mut Vec<Piece>) {
        if !std::mem::replace(&mut self.begun, true) {
            out.push(Piece::Begin { tokens: None });
        }
    }

    fn item(&mut self, event: &Value) -> Result<&mut Item, Fault> {
        if self.items.len() >= MAX_ITEMS {
            return Err(Fault::Garbled);
        }
        Ok(self.items.entry(event["output_index"].as_u64().unwrap_or(0)).or_default())
    }

    fn said(&mut self, event: &Value, out: &mut Vec<Piece>, piece: impl FnOnce(String) -> Piece) -> Result<(), Fault> {
        if let Some(text) = event["delta"].as_str().filter(|text| !text.is_empty()) {
            self.item(event)?.heard = true;
            out.push(piece(text.to_owned()));
        }
        Ok(())
    }

    /// A call begins, if it has not yet.
    fn called(&mut self, event: &Value, item: &Value, out: &mut Vec<Piece>) -> Result<Option<usize>, Fault> {
        if item["type"] != "function_call" {
            return Ok(None);
        }
        if let Some(call) = self.item(event)?.call {
            return Ok(Some(call));
        }
        let name = item["name"].as_str().filter(|name| !name.is_empty()).ok_or(Fault::Garbled)?;
        let call = self.calls;
        self.calls += 1;
        self.item(event)?.call = Some(call);
        let id = item["call_id"].as_str().filter(|id| !id.is_empty());
        let id = id.map_or_else(|| format!("call_{}_{call}", self.id), str::to_owned);
        out.push(Piece::Call { call, id, name: name.to_owned() });
        Ok(Some(call))
    }

    fn arguments(&mut self, event: &Value, json: &Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        let item = self.item(event)?;
        let (Some(call), Some(json)) = (item.call, json.as_str().filter(|json| !json.is_empty())) else {
            return Ok(());
        };
        item.heard = true;
        out.push(Piece::Arguments { call, json: json.to_owned() });
        Ok(())
    }

    /// An item is whole: what its deltas did not say is said now.
    fn done(&mut self, event: &Value, item: &Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        let heard = self.item(event)?.heard;
        match item["type"].as_str() {
            Some("function_call") => {
                let call = self.called(event, item, out)?;
                if !heard {
                    self.arguments(event, &item["arguments"], out)?;
                }
                out.extend(call.map(|call| Piece::CallDone { call }));
            }
            Some("message") if !heard => {
                for part in list(&item["content"]) {
                    match part["type"].as_str() {
                        Some("output_text" | "text") => push(out, &part["text"], Piece::Text),
                        Some("refusal") => {
                            self.refused = true;
                            push(out, &part["refusal"], Piece::Refusal);
                        }
                        _ => {}
                    }
                }
            }
            Some("reasoning") if !heard => {
                let aloud = list(&item["content"]);
                let parts = if aloud.is_empty() { list(&item["summary"]) } else { aloud };
                for (number, part) in parts.iter().enumerate() {
                    let gap = if number == 0 { "" } else { "\n\n" };
                    push(out, &part["text"], |text| Piece::Thought(format!("{gap}{text}")));
                }
            }
            _ => {}
        }
        self.item(event)?.heard = true;
        Ok(())
    }

    fn close(&mut self, response: &Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        if response.get("error").is_some_and(|error| !error.is_null()) || response["status"] == "failed" {
            return Err(faults::sort(&response["error"]));
        }
        self.begin(out);
        // Whatever no event has told is in here.
        for (number, item) in list(&response["output"]).iter().enumerate() {
            if !self.items.get(&(number as u64)).is_some_and(|item| item.heard) {
                self.done(&serde_json::json!({ "output_index": number }), item, out)?;
            }
        }
        let finish = match response["incomplete_details"]["reason"].as_str() {
            Some("content_filter") => Finish::Filtered,
            Some(_) => Finish::Length,
            None if response["status"] == "incomplete" => Finish::Length,
            None if response["status"] == "cancelled" => return Err(Fault::Cut),
            None if self.refused => Finish::Refused,
            None => Finish::Stop,
        };
        let tokens = Claim::read(Wire::Responses, response).map(|claim| claim.told());
        out.push(Piece::End { finish, tokens });
        Ok(())
    }
}

impl Hear for Answer {
    fn frame(&mut self, event: Option<&str>, data: Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        if !data.is_object() {
            return Err(Fault::Garbled);
        }
        let kind = data["type"].as_str().or(event).unwrap_or_default();
        match kind {
            "response.created" | "response.in_progress" | "response.queued" => self.begin(out),
            "response.output_text.delta" => self.said(&data, out, Piece::Text)?,
            "response.refusal.delta" => {
                self.refused = true;
                self.said(&data, out, Piece::Refusal)?;
            }
            "response.reasoning_text.delta" => {
                self.thinks_aloud = true;
                self.said(&data, out, Piece::Thought)?;
            }
            "response.reasoning_summary_text.delta" if !self.thinks_aloud => self.said(&data, out, Piece::Thought)?,
            "response.reasoning_summary_part.added"
                if !self.thinks_aloud && data["summary_index"].as_u64() > Some(0) =>
            {
                out.push(Piece::Thought("\n\n".to_owned()));
            }
            "response.output_item.added" => {
                self.called(&data, &data["item"], out)?;
            }
            "response.function_call_arguments.delta" => self.arguments(&data, &data["delta"], out)?,
            "response.output_item.done" => self.done(&data, &data["item"], out)?,
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
                return self.close(&data["response"], out);
            }
            "error" => return Err(faults::sort(data.get("error").unwrap_or(&data))),
            _ => {}
        }
        Ok(())
    }

    fn whole(&mut self, body: Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        let failed = body.get("error").is_some_and(|error| !error.is_null());
        if !failed && !body["output"].is_array() {
            return Err(Fault::Garbled);
        }
        self.close(&body, out)
    }

    fn end(&mut self, _: &mut Vec<Piece>) -> Result<(), Fault> {
        Err(Fault::Cut)
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn push(out: &mut Vec<Piece>, text: &Value, piece: impl Fn(String) -> Piece) {
    out.extend(text.as_str().filter(|text| !text.is_empty()).map(|text| piece(text.to_owned())));
}
