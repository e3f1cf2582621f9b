//! The description, put together from a file for each family.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

/// Each has paths and components of its own; the first one has what they share.
const FILES: [(&str, &str); 9] = [
    ("salon", include_str!("../../openapi/salon.yaml")),
    ("openai", include_str!("../../openapi/openai.yaml")),
    ("anthropic", include_str!("../../openapi/anthropic.yaml")),
    ("gemini", include_str!("../../openapi/gemini.yaml")),
    ("keys", include_str!("../../openapi/keys.yaml")),
    ("usage", include_str!("../../openapi/usage.yaml")),
    ("sessions", include_str!("../../openapi/sessions.yaml")),
    ("house", include_str!("../../openapi/house.yaml")),
    ("desk", include_str!("../../openapi/desk.yaml")),
];
/// The other addresses of a path, as its file lists them.
const ALSO: &str = "x-also-at";

/// The description of every route, as OpenAPI 3.1.
pub fn openapi() -> &'static Value {
    static WHOLE: LazyLock<Value> = LazyLock::new(whole);
    &WHOLE
}

fn whole() -> Value {
    let mut whole = Map::new();
    for (name, text) in FILES {
        let file: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("openapi/{name}.yaml: {error}"));
        merge(&mut whole, file);
    }
    let mut whole = Value::Object(whole);
    whole["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    for (path, item) in whole["paths"].as_object_mut().into_iter().flatten() {
        tell_other_addresses(path, item);
    }
    whole
}

/// Joins maps at every depth. A value that two files have stays the first one's; a test sees to it that there is none.
fn merge(into: &mut Map<String, Value>, from: Value) {
    let Value::Object(from) = from else { return };
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(known)), value @ Value::Object(_)) => merge(known, value),
            (Some(_), _) => {}
            (None, value) => drop(into.insert(key, value)),
        }
    }
}

/// A route that can be had at several addresses is described at one of them and names the others, in words too.
fn tell_other_addresses(path: &str, item: &mut Value) {
    if let Some(rest) = path.strip_prefix("/api/") {
        item[ALSO] = json!([format!("/api/v1/{rest}")]);
    }
    // What stands behind a colon at the end is said once, and goes for all of them.
    let method = path.rfind("}:").map_or("", |at| &path[at + 1..]);
    for other in item.get_mut(ALSO).and_then(Value::as_array_mut).into_iter().flatten() {
        *other = json!(format!("{}{method}", other.as_str().unwrap_or_default()));
    }
    let Some(also) = item.get(ALSO).and_then(Value::as_array) else { return };
    let also: Vec<String> = also.iter().filter_map(Value::as_str).map(|path| format!("`{path}`")).collect();
    let also = format!("Also at {}.", also.join(", "));
    for (_, operation) in
        item.as_object_mut().into_iter().flatten().filter(|(_, value)| value.get("responses").is_some())
    {
        let words = operation.get("description").and_then(Value::as_str).unwrap_or_default();
        operation["description"] = json!(format!("{words}\n\n{also}").trim());
    }
}

#[cfg(test)]
mod tests;
