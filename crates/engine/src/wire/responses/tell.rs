//! A Responses answer, written.

use salon_core::Tokens;
use serde_json::{Map, Value, json};

use super::items;
use crate::upstream::Fault;
use crate::wire::carry::writer::{Tell, Whole};
use crate::wire::carry::{Door, frames};
use crate::wire::talk::{Call, Finish, Part, Piece};

/// The answer as one object.
pub(in crate::wire) fn answer(door: &Door, whole: Whole) -> Result<Value, Fault> {
    let (status, incomplete) = items::ending(&whole.finish, whole.refusal().is_some());
    let mut output = Vec::new();
    let mut content: Vec<Value> = Vec::new();
    let close = |content: &mut Vec<Value>, output: &mut Vec<Value>| {
        if !content.is_empty() {
            output.push(items::message(&items::item_id("msg", door, output.len()), "completed", content));
            content.clear();
        }
    };
    for part in &whole.parts {
        match part {
            Part::Text(text) => content.push(items::text_part(text)),
            Part::Refusal(text) => content.push(items::refusal_part(text)),
            Part::Thought(text) => {
                close(&mut content, &mut output);
                output.push(items::reasoning(&items::item_id("rs", door, output.len()), Some(text)));
            }
            Part::Call(call) => {
                close(&mut content, &mut output);
                output.push(items::call(door, output.len(), call, "completed"));
            }
            Part::Media(_) | Part::Outcome(_) => {}
        }
    }
    close(&mut content, &mut output);
    // What the limit cut off is the last thing there is.
    if status == "incomplete"
        && let Some(last) = output.last_mut().filter(|last| last.get("status").is_some())
    {
        last["status"] = status.into();
    }
    let mut response = items::response(door, status, output.into(), whole.tokens.as_ref());
    response["incomplete_details"] = incomplete;
    Ok(response)
}

/// The answer in events.
pub(in crate::wire) struct Stream {
    door: Door,
    sequence: u64,
    begun: bool,
    output: Vec<Value>,
    open: Open,
    /// It said in words that it would not answer.
    refused: bool,
}

/// The item that is being written. Its place is after the finished ones.
#[derive(Debug, Default)]
enum Open {
    #[default]
    Nothing,
    Reasoning(String),
    Message {
        /// The finished parts.
        content: Vec<Value>,
        text: String,
        refusal: bool,
    },
    Call {
        call: Call,
        custom: bool,
    },
}

impl Stream {
    pub(in crate::wire) fn new(door: Door) -> Stream {
        Stream { door, sequence: 0, begun: false, output: Vec::new(), open: Open::Nothing, refused: false }
    }

    fn event(&mut self, kind: &str, fields: Value, out: &mut Vec<u8>) {
        let mut event = Map::new();
        event.insert("type".to_owned(), kind.into());
        event.insert("sequence_number".to_owned(), self.sequence.into());
        if let Value::Object(fields) = fields {
            event.extend(fields);
        }
        self.sequence += 1;
        frames::named(out, kind, &Value::Object(event));
    }

    /// A piece of the open item: most of a stream. `place` is what the event says beside the item's own numbers.
    fn delta(&mut self, kind: &str, item: &str, place: &str, text: &str, out: &mut Vec<u8>) {
        let (sequence, index) = (self.sequence, self.output.len());
        let head = format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{sequence},\"item_id\":");
        out.extend_from_slice(head.as_bytes());
        frames::quoted(out, item);
        out.extend_from_slice(format!(",\"output_index\":{index}{place},\"delta\":").as_bytes());
        frames::quoted(out, text);
        out.extend_from_slice(b"}\n\n");
        self.sequence += 1;
    }

    fn item_id(&self, kind: &str) -> String {
        items::item_id(kind, &self.door, self.output.len())
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let response = items::response(&self.door, "in_progress", json!([]), None);
        self.event("response.created", json!({ "response": response }), out);
        self.event("response.in_progress", json!({ "response": response }), out);
    }

    fn added(&mut self, item: Value, out: &mut Vec<u8>) {
        self.event("response.output_item.added", json!({ "output_index": self.output.len(), "item": item }), out);
    }

    fn done(&mut self, item: Value, out: &mut Vec<u8>) {
        self.event("response.output_item.done", json!({ "output_index": self.output.len(), "item": item }), out);
        self.output.push(item);
    }

    /// Opens a message, or the next part of the one that is open.
    fn open_part(&mut self, refusal: bool, out: &mut Vec<u8>) {
        if matches!(&self.open, Open::Message { refusal: open, .. } if *open == refusal) {
            return;
        }
        if matches!(self.open, Open::Message { .. }) {
            self.close_part(out);
        } else {
            self.close("completed", out);
            self.added(items::message(&self.item_id("msg"), "in_progress", &[]), out);
            self.open = Open::Message { content: Vec::new(), text: String::new(), refusal };
        }
        let id = self.item_id("msg");
        let mut number = 0;
        if let Open::Message { content, text, refusal: open } = &mut self.open {
            number = content.len();
            text.clear();
            *open = refusal;
        }
        let part = if refusal { items::refusal_part("") } else { items::text_part("") };
        let place = json!({
            "item_id": id, "output_index": self.output.len(), "content_index": number, "part": part,
        });
        self.event("response.content_part.added", place, out);
    }

    fn close_part(&mut self, out: &mut Vec<u8>) {
        let (id, index) = (self.item_id("msg"), self.output.len());
        let Open::Message { content, text, refusal } = &mut self.open else { return };
        let (text, refusal, number) = (std::mem::take(text), *refusal, content.len());
        let part = if refusal { items::refusal_part(&text) } else { items::text_part(&text) };
        content.push(part.clone());
        let (kind, said) = if refusal {
            ("response.refusal.done", json!({ "refusal": text }))
        } else {
            ("response.output_text.done", json!({ "text": text, "logprobs": [] }))
        };
        let mut done = json!({ "item_id": id, "output_index": index, "content_index": number });
        let place = done.clone();
        merge(&mut done, said);
        self.event(kind, done, out);
        let mut done = place;
        merge(&mut done, json!({ "part": part }));
        self.event("response.content_part.done", done, out);
    }

    /// Closes whatever item is open.
    fn close(&mut self, status: &str, out: &mut Vec<u8>) {
        if matches!(self.open, Open::Message { .. }) {
            self.close_part(out);
        }
        let index = self.output.len();
        match std::mem::take(&mut self.open) {
            Open::Nothing => {}
            Open::Message { content, .. } => {
                let id = self.item_id("msg");
                self.done(items::message(&id, status, &content), out);
            }
            Open::Reasoning(text) => {
                let id = self.item_id("rs");
                let place = || json!({ "item_id": id, "output_index": index, "summary_index": 0 });
                let mut done = place();
                merge(&mut done, json!({ "text": text }));
                self.event("response.reasoning_summary_text.done", done, out);
                let mut done = place();
                merge(&mut done, json!({ "part": items::summary_part(&text) }));
                self.event("response.reasoning_summary_part.done", done, out);
                self.done(items::reasoning(&id, Some(&text)), out);
            }
            Open::Call { call, custom } => {
                let item = items::call(&self.door, index, &call, status);
                let mut done = json!({ "item_id": item["id"], "output_index": index });
                if custom {
                    let id = items::call_id(&self.door, index, true);
                    let input = item["input"].as_str().unwrap_or_default().to_owned();
                    self.delta("response.custom_tool_call_input.delta", &id, "", &input, out);
                    merge(&mut done, json!({ "input": input }));
                    self.event("response.custom_tool_call_input.done", done, out);
                } else {
                    merge(&mut done, json!({ "arguments": call.arguments, "name": item["name"] }));
                    self.event("response.function_call_arguments.done", done, out);
                }
                self.done(item, out);
            }
        }
    }

    fn end(&mut self, finish: &Finish, tokens: Option<&Tokens>, out: &mut Vec<u8>) {
        let (status, incomplete) = items::ending(finish, self.refused);
        self.close(status, out);
        let output = std::mem::take(&mut self.output).into();
        let mut response = items::response(&self.door, status, output, tokens);
        response["incomplete_details"] = incomplete;
        let kind = if status == "completed" { "response.completed" } else { "response.incomplete" };
        self.event(kind, json!({ "response": response }), out);
    }
}

impl Tell for Stream {
    fn tell(&mut self, piece: Piece, out: &mut Vec<u8>) -> Result<(), Fault> {
        match piece {
            Piece::Begin { .. } => self.begin(out),
            Piece::Text(said) => {
                self.open_part(false, out);
                self.say("response.output_text.delta", ",\"logprobs\":[]", &said, out);
            }
            Piece::Refusal(said) => {
                self.refused = true;
                self.open_part(true, out);
                self.say("response.refusal.delta", "", &said, out);
            }
            Piece::Thought(thought) => {
                let id = if let Open::Reasoning(text) = &mut self.open {
                    text.push_str(&thought);
                    self.item_id("rs")
                } else {
                    self.close("completed", out);
                    let id = self.item_id("rs");
                    self.added(items::reasoning(&id, None), out);
                    let place = json!({
                        "item_id": id,
                        "output_index": self.output.len(),
                        "summary_index": 0,
                        "part": items::summary_part(""),
                    });
                    self.event("response.reasoning_summary_part.added", place, out);
                    self.open = Open::Reasoning(thought.clone());
                    id
                };
                self.delta("response.reasoning_summary_text.delta", &id, ",\"summary_index\":0", &thought, out);
            }
            Piece::Call { id, name, .. } => {
                self.close("completed", out);
                let custom = self.door.disguise(&name).is_some_and(|disguise| disguise.custom);
                let call = Call { id, name, arguments: String::new() };
                let item = items::call(&self.door, self.output.len(), &call, "in_progress");
                self.added(item, out);
                self.open = Open::Call { call, custom };
            }
            Piece::Arguments { json: more, .. } => {
                let id = items::call_id(&self.door, self.output.len(), false);
                if let Open::Call { call, custom } = &mut self.open {
                    call.arguments.push_str(&more);
                    // Free text is told when it is whole: until then it stands in quotes.
                    if !*custom {
                        self.delta("response.function_call_arguments.delta", &id, "", &more, out);
                    }
                }
            }
            Piece::CallDone { .. } => self.close("completed", out),
            Piece::End { finish, tokens } => self.end(&finish, tokens.as_ref(), out),
            Piece::Broken(fault) => {
                self.begin(out);
                let output = std::mem::take(&mut self.output).into();
                let mut response = items::response(&self.door, "failed", output, None);
                response["error"] = items::failure(fault);
                self.event("response.failed", json!({ "response": response }), out);
            }
        }
        Ok(())
    }
}

impl Stream {
    /// Goes on with the open part of a message.
    fn say(&mut self, kind: &str, rest: &str, said: &str, out: &mut Vec<u8>) {
        let id = self.item_id("msg");
        let Open::Message { content, text, .. } = &mut self.open else { return };
        text.push_str(said);
        let place = format!(",\"content_index\":{}{rest}", content.len());
        self.delta(kind, &id, &place, said, out);
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
