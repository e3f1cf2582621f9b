//! The `midm` server's own words.

use axum::Json;
use serde_json::{Value, json};

use super::{Told, data};
use crate::upstream::body::Frames;

pub(super) async fn health() -> Json<Value> {
    Json(json!({
        "status": "healthy", "model_loaded": true, "embedding_model_loaded": true, "embedding_dimensions": 8,
        "device": "cpu", "cuda_available": false,
    }))
}

pub(super) fn whole(told: &Told) -> Value {
    let usage = told.said.usage;
    let counts = json!({
        "prompt_tokens": told.count(usage.input), "completion_tokens": told.count(usage.output),
        "total_tokens": told.count(usage.input + usage.output),
    });
    json!({ "response": told.said.text(), "usage": if told.tells_usage() { counts } else { Value::Null } })
}

pub(super) fn frames(told: &Told) -> Frames {
    let mut frames =
        Frames { head: vec![data(&json!({ "type": "start", "message": "Stream started" }))], ..Frames::default() };
    let mut accumulated = String::new();
    for (at, piece) in told.said.pieces.iter().enumerate() {
        accumulated.push_str(piece);
        frames.pieces.push(data(&json!({
            "type": "chunk", "content": piece, "accumulated": accumulated, "token_count": at + 1,
        })));
    }
    frames.tail.push(data(&json!({
        "type": "complete", "full_response": accumulated, "total_tokens": told.count(told.said.pieces.len() as i64),
    })));
    frames.done = Some("data: [DONE]\n\n".to_owned());
    frames.error = data(&json!({ "type": "error", "message": "trouble was ordered" }));
    frames
}
