//! The `midm` server's `/embeddings`: texts in, lists of numbers out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::parts::Parts;
use super::{Back, Carried};
use crate::upstream::Fault;
use crate::wire::carry::HINTS;
use crate::wire::carry::fields::{Fields, missing, wrong};
use crate::wire::talk::{Ask, CannotCarry};

pub(super) fn carry_ask(body: &[u8], model: &str, shown: &str) -> Result<Carried, CannotCarry> {
    let mut fields = Fields::parse(body)?;
    fields.drop_all(&["model"]);
    let base64 = match fields.text("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(wrong("encoding_format", "float or base64")),
    };
    if fields.peek("input").is_none() {
        return Err(missing("input"));
    }
    let is_token = |value: &Value| value.is_number() || value.is_array();
    if fields.peek("input").and_then(Value::as_array).is_some_and(|list| list.iter().any(is_token)) {
        return Err(fields.cannot("input", "it takes text and no tokens."));
    }
    let texts = fields.texts("input")?;
    // The server itself would fail, and not say why.
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(CannotCarry::wrong("input", "There is nothing to embed: send texts that are not empty."));
    }
    if fields.integer("dimensions")?.is_some() {
        return Err(fields.cannot("dimensions", "its vectors have one length."));
    }
    fields.drop_all(HINTS);
    let mut rest = Ask::default();
    fields.tell_rest(&mut rest);
    let back = Back { texts: texts.len(), base64, model: shown.to_owned() };
    let body = json!({ "texts": texts, "model": model }).to_string().into_bytes();
    Ok(Carried { body, left_out: rest.left_out, back })
}

pub(super) fn carry_answer(back: &Back, answer: &[u8]) -> Result<Vec<u8>, Fault> {
    let parts = Parts::read(answer, b"embeddings").ok_or(Fault::Garbled)?;
    if parts.vectors.len() != back.texts {
        return Err(Fault::Garbled);
    }
    let mut told = Vec::with_capacity(answer.len() + 256);
    told.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for (index, vector) in parts.vectors.iter().enumerate() {
        if index > 0 {
            told.push(b',');
        }
        told.extend_from_slice(format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":").as_bytes());
        let numbers = vector.span.of(answer);
        let floats: Vec<f32> = serde_json::from_slice(numbers).map_err(|_| Fault::Garbled)?;
        match back.base64 {
            true => {
                let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
                told.push(b'"');
                told.extend_from_slice(STANDARD.encode(bytes).as_bytes());
                told.push(b'"');
            }
            false => told.extend_from_slice(numbers),
        }
        told.push(b'}');
    }
    let used = parts.value(answer, b"usage").and_then(|usage| serde_json::from_slice::<Value>(usage.of(answer)).ok());
    let tokens = used.as_ref().and_then(|usage| usage["total_tokens"].as_i64()).unwrap_or(0).max(0);
    let rest = json!({
        "model": back.model, "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    });
    told.extend_from_slice(b"],");
    told.extend_from_slice(&rest.to_string().as_bytes()[1..]);
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(body: &Value) -> Result<Carried, CannotCarry> {
        carry_ask(body.to_string().as_bytes(), "ko-sroberta", "vectors")
    }

    #[test]
    fn a_request_becomes_texts_and_the_answer_a_list() {
        let it = carried(&json!({
            "model": "vectors", "input": ["one", "둘"], "user": "x", "encoding_format": "float", "truncate": true,
        }))
        .unwrap();
        let body: Value = serde_json::from_slice(&it.body).unwrap();
        assert_eq!(body, json!({ "texts": ["one", "둘"], "model": "ko-sroberta" }));
        assert_eq!(it.left_out, ["truncate"]);
        let answer = r#"{"embeddings":[[0.10,-2e-3],[1,0]],"model":"ko-sroberta","dimensions":2,"usage":{"total_tokens":4,"total_texts":2}}"#;
        let told = String::from_utf8(carry_answer(&it.back, answer.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            told,
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.10,-2e-3]},{"object":"embedding","index":1,"embedding":[1,0]}],"model":"vectors","usage":{"prompt_tokens":4,"total_tokens":4}}"#
        );
    }

    #[test]
    fn vectors_come_in_base64_where_that_is_asked_for() {
        let it = carried(&json!({ "model": "vectors", "input": "one", "encoding_format": "base64" })).unwrap();
        let told = carry_answer(&it.back, br#"{"embeddings":[[1.0,-0.5]],"usage":null}"#).unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        // 1.0 and -0.5 as little-endian floats of four bytes.
        assert_eq!(told["data"][0]["embedding"], "AACAPwAAAL8=");
    }

    #[test]
    fn what_it_cannot_do_is_refused_by_name() {
        for (body, param) in [
            (json!({ "input": [1, 2] }), "input"),
            (json!({ "input": [[1, 2]] }), "input"),
            (json!({ "input": [] }), "input"),
            (json!({ "input": "" }), "input"),
            (json!({ "input": ["one", ""] }), "input"),
            (json!({}), "input"),
            (json!({ "input": { "text": "one" } }), "input"),
            (json!({ "input": "one", "dimensions": 256 }), "dimensions"),
            (json!({ "input": "one", "encoding_format": "int8" }), "encoding_format"),
        ] {
            assert_eq!(carried(&body).unwrap_err().param, param, "{body}");
        }
    }

    #[test]
    fn an_answer_to_something_else_is_no_answer() {
        let back = Back { texts: 2, base64: false, model: "m".into() };
        for bad in [
            "{}",
            r#"{"embeddings":[[1]]}"#,
            r#"{"embeddings":[[1],[2],[3]]}"#,
            r#"{"embeddings":[[1],["x"]]}"#,
            r#"{"embeddings":[[1],{}]}"#,
            r#"{"detail":"400: no texts"}"#,
            "[[1],[2]]",
        ] {
            assert_eq!(carry_answer(&back, bad.as_bytes()), Err(Fault::Garbled), "{bad}");
        }
    }
}
