//! Puts other values in the place of some, and touches nothing else.

use bytes::Bytes;
use serde_json::Value;

use super::{Changes, Field, Head, Span, Wire, string_of, whole};

/// A change, and where.
enum Edit {
    /// Another value.
    Value(Span, String),
    /// A field more, as the first of the object that opens before it.
    Field(usize, String),
}

impl Edit {
    fn at(&self) -> usize {
        match self {
            Edit::Value(span, _) => span.start,
            Edit::Field(at, _) => *at,
        }
    }
}

pub(super) fn rewrite(head: &Head, body: &Bytes, changes: &Changes<'_>) -> Bytes {
    let mut edits = Vec::new();
    if let Some(model) = changes.model {
        set_model(head, body, model, &mut edits);
    }
    if changes.ask_usage && !head.usage_asked {
        ask_usage(head, body, &mut edits);
    }
    if let Some(most) = changes.max_output {
        set_max_output(head, body, most.max(0), &mut edits);
    }
    splice(body, edits)
}

fn set_model(head: &Head, body: &[u8], model: &str, edits: &mut Vec<Edit>) {
    match head.places[Field::Model as usize] {
        Some((span, _)) if string_of(span.of(body)).as_deref() == Some(model) => {}
        Some((span, _)) => edits.push(Edit::Value(span, Value::from(model).to_string())),
        // Where the path names the model, the body need not.
        None if matches!(head.wire, Wire::Generate | Wire::Midm) => {}
        None => edits.push(Edit::Field(outermost(body), format!("\"model\":{}", Value::from(model)))),
    }
}

fn ask_usage(head: &Head, body: &[u8], edits: &mut Vec<Edit>) {
    if let Some((span, _)) = head.places[Field::IncludeUsage as usize] {
        edits.push(Edit::Value(span, "true".to_owned()));
        return;
    }
    match head.places[Field::StreamOptions as usize] {
        Some((span, _)) if span.of(body) == b"null" => {
            edits.push(Edit::Value(span, r#"{"include_usage":true}"#.to_owned()))
        }
        Some((span, _)) => edits.push(Edit::Field(span.start + 1, r#""include_usage":true"#.to_owned())),
        None => edits.push(Edit::Field(outermost(body), r#""stream_options":{"include_usage":true}"#.to_owned())),
    }
}

fn set_max_output(head: &Head, body: &[u8], most: i64, edits: &mut Vec<Edit>) {
    let places = [Field::MaxOutput, Field::MaxTokens].map(|field| head.places[field as usize]);
    let said: Vec<Span> = places.into_iter().flatten().map(|(span, _)| span).collect();
    let is_null = |span: &Span| span.of(body) == b"null";
    let before = edits.len();
    for span in said.iter().filter(|span| !is_null(span)) {
        let digits = String::from_utf8_lossy(span.of(body));
        let limit = whole(digits.trim_matches('"').as_bytes());
        if !limit.is_some_and(|limit| (0..=most).contains(&limit)) {
            edits.push(Edit::Value(*span, most.to_string()));
        }
    }
    if edits.len() > before || said.iter().any(|span| !is_null(span)) {
        return;
    }
    if let Some(span) = said.first() {
        edits.push(Edit::Value(*span, most.to_string()));
        return;
    }
    let name = match head.wire {
        Wire::Chat => "max_completion_tokens",
        Wire::Completions | Wire::Messages => "max_tokens",
        Wire::Responses => "max_output_tokens",
        Wire::Midm => "max_new_tokens",
        Wire::Generate => return add_to_config(head, body, format!("\"maxOutputTokens\":{most}"), edits),
        Wire::Embeddings => return,
    };
    edits.push(Edit::Field(outermost(body), format!("\"{name}\":{most}")));
}

fn add_to_config(head: &Head, body: &[u8], field: String, edits: &mut Vec<Edit>) {
    match head.places[Field::Config as usize] {
        Some((span, _)) if span.of(body) == b"null" => edits.push(Edit::Value(span, format!("{{{field}}}"))),
        Some((span, _)) => edits.push(Edit::Field(span.start + 1, field)),
        None => edits.push(Edit::Field(outermost(body), format!("\"generationConfig\":{{{field}}}"))),
    }
}

/// Behind the opening brace of the whole.
fn outermost(body: &[u8]) -> usize {
    body.iter().position(|byte| *byte == b'{').map_or(0, |brace| brace + 1)
}

fn splice(body: &Bytes, mut edits: Vec<Edit>) -> Bytes {
    if edits.is_empty() {
        return body.clone();
    }
    // Stable, so that what is added at one place stays in order.
    edits.sort_by_key(Edit::at);
    let mut changed = Vec::with_capacity(body.len() + 64 * edits.len());
    let mut done = 0;
    let mut edits = edits.into_iter().peekable();
    while let Some(edit) = edits.next() {
        changed.extend_from_slice(&body[done..edit.at()]);
        match edit {
            Edit::Value(span, value) => {
                changed.extend_from_slice(value.as_bytes());
                done = span.end;
            }
            Edit::Field(at, field) => {
                changed.extend_from_slice(field.as_bytes());
                let another = matches!(edits.peek(), Some(Edit::Field(next, _)) if *next == at);
                let first = body[at..].iter().find(|byte| !byte.is_ascii_whitespace());
                if another || first != Some(&b'}') {
                    changed.push(b',');
                }
                done = at;
            }
        }
    }
    changed.extend_from_slice(&body[done..]);
    changed.into()
}
