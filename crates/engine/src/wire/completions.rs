//! OpenAI's older completions: a prompt, and how it goes on. Read here and never written: nobody else speaks it.

use serde_json::{Map, Value, json};

use super::Wire;
use super::carry::fields::{Fields, wrong};
use super::carry::writer::{Tell, Whole};
use super::carry::{Door, HINTS, frames};
use super::chat;
use super::talk::{Ask, CannotCarry, Finish, Message, Part, Piece, Role};
use crate::upstream::Fault;

/// How much is written if nobody says.
const DEFAULT_TOKENS: i64 = 16;

pub(super) fn read_ask(mut fields: Fields) -> Result<Ask, CannotCarry> {
    let mut ask = Ask {
        model: fields.text("model")?.unwrap_or_default(),
        stream: fields.flag("stream")?.unwrap_or(false),
        max_output: Some(fields.integer("max_tokens")?.unwrap_or(DEFAULT_TOKENS)),
        ..Ask::default()
    };
    if let Some(mut options) = fields.object("stream_options")? {
        ask.usage_asked = options.flag("include_usage")?.unwrap_or(false);
    }
    let prompt = match fields.take("prompt") {
        Some(Value::String(prompt)) => prompt,
        Some(Value::Array(prompts)) => match prompts.as_slice() {
            [Value::String(prompt)] => prompt.clone(),
            [Value::String(_), ..] => return Err(fields.cannot("prompt", "it answers one prompt at a time.")),
            _ => return Err(fields.cannot("prompt", "its tokens are not OpenAI's; send text.")),
        },
        Some(_) => return Err(wrong(fields.path("prompt"), "text")),
        None => return Err(super::carry::fields::missing(fields.path("prompt"))),
    };
    ask.messages.push(Message::text(Role::User, prompt));
    ask.sampling = chat::sampling(&mut fields)?;
    ask.sampling.stop = fields.texts("stop")?;
    for name in ["n", "best_of"] {
        if fields.integer(name)?.is_some_and(|n| n != 1) {
            return Err(fields.cannot(name, "it gives one answer at a time; ask several times."));
        }
    }
    fields.refuse("suffix", &[], "it does not write towards an end.")?;
    fields.refuse("echo", &[], "it does not repeat the prompt.")?;
    if fields.take("logprobs").is_some_and(|value| value != Value::Bool(false)) {
        return Err(fields.cannot("logprobs", "it does not tell probabilities."));
    }
    fields.refuse("logit_bias", &[], "its tokens are not OpenAI's.")?;
    fields.drop_all(HINTS);
    fields.tell_rest(&mut ask);
    Ok(ask)
}

/// The answer as one object.
pub(super) fn answer(door: &Door, whole: Whole) -> Result<Value, Fault> {
    let text = |part: &Part| match part {
        Part::Text(text) | Part::Refusal(text) => Some(text.clone()),
        _ => None,
    };
    let said: String = whole.parts.iter().filter_map(text).collect();
    let mut body = head(door);
    body.insert("choices".into(), choices(&said, Some(reason(&whole.finish))));
    if let Some(tokens) = &whole.tokens {
        body.insert("usage".into(), chat::usage(tokens));
    }
    Ok(Value::Object(body))
}

fn head(door: &Door) -> Map<String, Value> {
    let mut head = Map::new();
    head.insert("id".into(), format!("cmpl-{}", door.id).into());
    head.insert("object".into(), "text_completion".into());
    head.insert("created".into(), door.seconds().into());
    head.insert("model".into(), door.model.as_str().into());
    head
}

fn choices(text: &str, reason: Option<&str>) -> Value {
    json!([{ "index": 0, "text": text, "logprobs": null, "finish_reason": reason }])
}

fn reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::Filtered | Finish::Refused => "content_filter",
        Finish::Stop | Finish::Sequence(_) | Finish::Calls => "stop",
    }
}

/// The answer in chunks.
pub(super) struct Stream {
    door: Door,
}

impl Stream {
    pub(super) fn new(door: Door) -> Stream {
        Stream { door }
    }

    fn chunk(&self, text: &str, reason: Option<&str>, out: &mut Vec<u8>) {
        let mut chunk = head(&self.door);
        chunk.insert("choices".into(), choices(text, reason));
        if self.door.usage_asked {
            chunk.insert("usage".into(), Value::Null);
        }
        frames::plain(out, &Value::Object(chunk));
    }
}

impl Tell for Stream {
    fn tell(&mut self, piece: Piece, out: &mut Vec<u8>) -> Result<(), Fault> {
        match piece {
            Piece::Text(text) | Piece::Refusal(text) => self.chunk(&text, None, out),
            Piece::End { finish, tokens } => {
                self.chunk("", Some(reason(&finish)), out);
                if let Some(tokens) = tokens.filter(|_| self.door.usage_asked) {
                    let mut chunk = head(&self.door);
                    chunk.insert("choices".into(), json!([]));
                    chunk.insert("usage".into(), chat::usage(&tokens));
                    frames::plain(out, &Value::Object(chunk));
                }
                frames::done(out);
            }
            Piece::Broken(fault) => frames::refusal(out, Wire::Completions, &self.door.id, fault),
            // There is no place for thoughts, and no tools were offered.
            Piece::Begin { .. }
            | Piece::Thought(_)
            | Piece::Call { .. }
            | Piece::Arguments { .. }
            | Piece::CallDone { .. } => {}
        }
        Ok(())
    }
}
