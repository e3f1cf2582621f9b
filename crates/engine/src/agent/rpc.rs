//! JSON-RPC as agents speak it: one message in a line, in both directions, and each side numbers its own questions.

use serde_json::{Value, json};

use super::Step;
use super::ending::Fault;
use crate::EngineError;

/// A message of an agent.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// The answer to our question of this number.
    Answer(i64, Result<Value, Refusal>),
    /// It asks. The answer has the same id, as it stands.
    Question { id: Value, method: String, params: Value },
    /// It tells.
    Notice { method: String, params: Value },
}

#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub code: i64,
    pub message: String,
    pub data: Value,
}

/// How a conversation ended, by its own words.
pub(super) enum End {
    Done,
    Stopped,
    Failed(Fault),
}

impl End {
    pub(super) fn told(&self, key: &str) -> Result<(), EngineError> {
        match self {
            End::Done => Ok(()),
            End::Stopped => Err(EngineError::Stopped),
            End::Failed(fault) => Err(fault.told(key)),
        }
    }
}

const METHOD_NOT_FOUND: i64 = -32601;

impl Message {
    /// `None` if it is none: no method and no result, or an id that is neither a number nor a string.
    pub(super) fn read(mut value: Value) -> Option<Message> {
        let id = value.get_mut("id").map(Value::take).filter(|id| !id.is_null());
        if let Some(method) = value.get("method") {
            let (method, params) = (method.as_str()?.to_owned(), value["params"].take());
            return match id {
                Some(id) if name(&id).is_some() => Some(Message::Question { id, method, params }),
                Some(_) => None,
                None => Some(Message::Notice { method, params }),
            };
        }
        let id = id?.as_i64()?;
        if let Some(error) = value.get_mut("error").map(Value::take).filter(|error| !error.is_null()) {
            return Some(Message::Answer(
                id,
                Err(Refusal {
                    code: error["code"].as_i64().unwrap_or_default(),
                    message: error["message"].as_str().unwrap_or_default().to_owned(),
                    data: error["data"].clone(),
                }),
            ));
        }
        value.get_mut("result").map(|result| Message::Answer(id, Ok(result.take())))
    }
}

/// The text that stands for an id.
pub(super) fn name(id: &Value) -> Option<String> {
    match id {
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::String(text) if !text.is_empty() && text.len() <= 200 => Some(text.clone()),
        _ => None,
    }
}

pub(super) fn ask(id: i64, method: &str, params: Value) -> Step {
    write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
}

pub(super) fn tell(method: &str, params: Value) -> Step {
    write(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))
}

pub(super) fn answer(id: &Value, result: Value) -> Step {
    write(&json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

/// The answer to a question that we do not know.
pub(super) fn unknown(id: &Value) -> Step {
    let error = json!({ "code": METHOD_NOT_FOUND, "message": "Method not found" });
    write(&json!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

fn write(message: &Value) -> Step {
    Step::Write(message.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Message> {
        Message::read(serde_json::from_str(text).expect("JSON"))
    }

    #[test]
    fn a_message_is_an_answer_a_question_or_a_notice() {
        assert_eq!(read(r#"{"id":3,"result":{}}"#), Some(Message::Answer(3, Ok(json!({})))));
        let refused = Refusal { code: -32600, message: "no".into(), data: Value::Null };
        assert_eq!(read(r#"{"id":3,"error":{"code":-32600,"message":"no"}}"#), Some(Message::Answer(3, Err(refused))));
        let question = Message::Question { id: json!("a"), method: "m".into(), params: Value::Null };
        assert_eq!(read(r#"{"id":"a","method":"m"}"#), Some(question));
        let notice = Message::Notice { method: "m".into(), params: json!([1]) };
        assert_eq!(read(r#"{"method":"m","params":[1]}"#), Some(notice));
    }

    #[test]
    fn anything_else_is_none() {
        for odd in [
            "{}",
            r#"{"id":1}"#,
            r#"{"id":{},"method":"m"}"#,
            r#"{"id":1.5,"method":"m"}"#,
            r#"{"method":1}"#,
            "[]",
            "1",
        ] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }
}
