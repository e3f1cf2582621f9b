//! The `midm` server's `/chat` and `/chat/stream`: text, and little else.

use salon_core::Tokens;
use serde_json::{Map, Value, json};

use super::Wire;
use super::carry::fields::{Fields, wrong};
use super::carry::reader::Hear;
use super::carry::writer::{Tell, Whole};
use super::carry::{Terms, frames};
use super::talk::{Amount, Ask, CannotCarry, Effort, Finish, Format, Message, Part, Piece, Role, Sampling, text_of};
use super::usage::Claim;
use crate::upstream::Fault;

/// How much the server writes if nobody says.
const DEFAULT_NEW_TOKENS: i64 = 128;
/// How much we ask it to write if nobody says: its own default cuts most answers off.
const NEW_TOKENS: i64 = 1_024;

pub(super) fn read_ask(mut fields: Fields) -> Result<Ask, CannotCarry> {
    let mut ask = Ask::default();
    for mut message in fields.objects("messages")? {
        let role = match message.needed_text("role")?.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => return Err(wrong(message.path("role"), "one of system, user, assistant")),
        };
        ask.messages.push(Message::text(role, message.text("content")?.unwrap_or_default()));
    }
    ask.max_output = Some(fields.integer("max_new_tokens")?.unwrap_or(DEFAULT_NEW_TOKENS));
    let temperature = fields.number("temperature")?;
    ask.sampling = match fields.flag("do_sample")? {
        // Without sampling the temperature says nothing.
        None => Sampling::default(),
        Some(false) => Sampling { temperature: Some(0.into()), ..Sampling::default() },
        Some(true) => Sampling { temperature, ..Sampling::default() },
    };
    let context = fields.texts("context")?;
    if fields.flag("use_rag_prompt")?.unwrap_or(false) && !context.is_empty() {
        add_context(&mut ask, &context);
    }
    fields.tell_rest(&mut ask);
    Ok(ask)
}

/// Puts the documents before the question: into every message of the user that is the same as the last.
fn add_context(ask: &mut Ask, context: &[String]) {
    let question = ask.question();
    let mut prompt = String::from("Answer the question with the help of these documents.\n\n");
    for (number, document) in context.iter().enumerate() {
        prompt.push_str(&format!("[Document {}]\n{document}\n\n", number + 1));
    }
    prompt.push_str(&format!("Question: {question}"));
    for message in ask.messages.iter_mut().filter(|message| message.role == Role::User) {
        if text_of(&message.parts) == question {
            message.parts = vec![Part::Text(prompt.clone())];
        }
    }
}

pub(super) fn write_ask(ask: &mut Ask, terms: &Terms<'_>) -> Result<Value, CannotCarry> {
    let cannot = |what: &str, why: &str| Err(CannotCarry::of(what, why));
    let mut messages = Vec::with_capacity(ask.messages.len());
    for message in &ask.messages {
        let role = match message.role {
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        for part in &message.parts {
            match part {
                Part::Text(_) | Part::Refusal(_) | Part::Thought(_) => {}
                Part::Media(_) => return cannot(&message.at, "it takes text only."),
                Part::Call(_) | Part::Outcome(_) => return cannot(&message.at, "it knows no tools."),
            }
        }
        messages.push(json!({ "role": role, "content": text_of(&message.parts) }));
    }
    if !ask.tools.is_empty() {
        return cannot("tools", "it knows no tools.");
    }
    if ask.format != Format::Text {
        return cannot("response_format", "it answers with text.");
    }
    let sampling = std::mem::take(&mut ask.sampling);
    if sampling.seed.is_some() {
        return cannot("seed", "its choices cannot be repeated.");
    }
    if !sampling.stop.is_empty() {
        return cannot("stop", "it knows no stop sequences.");
    }
    let other_than = |number: &Option<serde_json::Number>, idle: f64| {
        number.as_ref().is_some_and(|number| number.as_f64() != Some(idle))
    };
    for (name, penalty) in
        [("presence_penalty", &sampling.presence_penalty), ("frequency_penalty", &sampling.frequency_penalty)]
    {
        if other_than(penalty, 0.0) {
            return cannot(name, "it knows no penalties.");
        }
    }
    if other_than(&sampling.top_p, 1.0) {
        ask.leave_out("top_p");
    }
    if sampling.top_k.is_some() {
        ask.leave_out("top_k");
    }
    let idle = [Amount::Unsaid, Amount::Effort(Effort::None), Amount::Budget(0)];
    if !idle.contains(&ask.thinking.amount) {
        ask.leave_out("reasoning");
    }
    let mut body = Map::new();
    body.insert("messages".into(), messages.into());
    let most = ask.max_output.or(terms.max_output).unwrap_or(NEW_TOKENS);
    body.insert("max_new_tokens".into(), most.into());
    if let Some(temperature) = sampling.temperature {
        // A temperature of 0 is how other wires say what this one calls not to sample.
        let heated = temperature.as_f64().is_some_and(|degree| degree > 0.0);
        body.insert("do_sample".into(), heated.into());
        if heated {
            body.insert("temperature".into(), Value::Number(temperature));
        }
    }
    Ok(Value::Object(body))
}

/// The answer as one object.
pub(super) fn answer(whole: Whole) -> Result<Value, Fault> {
    let texts = whole.parts.iter().filter_map(|part| match part {
        Part::Text(text) | Part::Refusal(text) => Some(text.as_str()),
        _ => None,
    });
    let usage = whole.tokens.as_ref().map(|tokens: &Tokens| {
        json!({
            "prompt_tokens": tokens.read(),
            "completion_tokens": tokens.written(),
            "total_tokens": tokens.total(),
        })
    });
    Ok(json!({ "response": texts.collect::<String>(), "usage": usage }))
}

/// The answer in frames, each of which repeats everything so far.
#[derive(Debug, Default)]
pub(super) struct Stream {
    said: String,
    pieces: u64,
}

impl Tell for Stream {
    fn tell(&mut self, piece: Piece, out: &mut Vec<u8>) -> Result<(), Fault> {
        match piece {
            Piece::Begin { .. } => frames::plain(out, &json!({ "type": "start", "message": "Stream started" })),
            Piece::Text(text) | Piece::Refusal(text) => {
                self.said.push_str(&text);
                self.pieces += 1;
                let told = json!({
                    "type": "chunk", "content": text, "accumulated": self.said, "token_count": self.pieces,
                });
                frames::plain(out, &told);
            }
            Piece::End { .. } => {
                let told = json!({ "type": "complete", "full_response": self.said, "total_tokens": self.pieces });
                frames::plain(out, &told);
                frames::done(out);
            }
            Piece::Broken(fault) => frames::plain(out, &json!({ "type": "error", "message": fault.sentence() })),
            // There is no place for thoughts, and no tools were offered.
            Piece::Thought(_) | Piece::Call { .. } | Piece::Arguments { .. } | Piece::CallDone { .. } => {}
        }
        Ok(())
    }
}

/// An answer, read.
#[derive(Debug, Default)]
pub(super) struct Answer {
    begun: bool,
    said: bool,
    complete: bool,
}

impl Hear for Answer {
    fn frame(&mut self, event: Option<&str>, data: Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        if !std::mem::replace(&mut self.begun, true) {
            out.push(Piece::Begin { tokens: None });
        }
        match data["type"].as_str().or(event) {
            Some("chunk") => {
                if let Some(text) = data["content"].as_str().filter(|text| !text.is_empty()) {
                    self.said = true;
                    out.push(Piece::Text(text.to_owned()));
                }
            }
            Some("complete") => {
                self.complete = true;
                let whole = data["full_response"].as_str().filter(|text| !self.said && !text.is_empty());
                out.extend(whole.map(|text| Piece::Text(text.to_owned())));
            }
            Some("error") => return Err(Fault::Busy),
            _ if data.is_object() => {}
            _ => return Err(Fault::Garbled),
        }
        Ok(())
    }

    fn whole(&mut self, body: Value, out: &mut Vec<Piece>) -> Result<(), Fault> {
        let text = body["response"].as_str().ok_or(Fault::Garbled)?;
        out.push(Piece::Begin { tokens: None });
        out.push(Piece::Text(text.to_owned()));
        let tokens = Claim::read(Wire::Midm, &body).map(|claim| claim.told());
        out.push(Piece::End { finish: Finish::Stop, tokens });
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<Piece>) -> Result<(), Fault> {
        if !self.complete {
            return Err(Fault::Cut);
        }
        out.push(Piece::End { finish: Finish::Stop, tokens: None });
        Ok(())
    }
}
