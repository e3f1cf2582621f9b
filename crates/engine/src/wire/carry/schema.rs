//! JSON Schema, where wires write it differently.

use serde_json::{Map, Value};

/// Gemini's older way of writing a schema (`"type": "OBJECT"`, `nullable`, `anyOf` in either case) as JSON Schema.
///
/// What is JSON Schema already stays as it is. Names of properties are never touched, whatever they are called.
pub(in crate::wire) fn from_gemini(schema: Value) -> Value {
    let Value::Object(map) = schema else { return schema };
    let nullable = map.get("nullable").and_then(Value::as_bool) == Some(true);
    let mut plain = Map::with_capacity(map.len());
    for (key, value) in map {
        let key = match key.as_str() {
            "nullable" | "propertyOrdering" | "property_ordering" => continue,
            "any_of" => "anyOf",
            "min_items" => "minItems",
            "max_items" => "maxItems",
            "min_length" => "minLength",
            "max_length" => "maxLength",
            "min_properties" => "minProperties",
            "max_properties" => "maxProperties",
            "additional_properties" => "additionalProperties",
            key => key,
        };
        let value = match key {
            "type" => lower(value, nullable),
            "items" | "additionalProperties" | "not" | "contains" => from_gemini(value),
            "properties" | "$defs" | "definitions" | "patternProperties" => each(value),
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => list(value),
            // Gemini writes 64-bit numbers as text.
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => number(value),
            _ => value,
        };
        plain.insert(key.to_owned(), value);
    }
    Value::Object(plain)
}

fn lower(value: Value, nullable: bool) -> Value {
    match value {
        Value::String(name) => {
            let name = Value::String(name.to_ascii_lowercase());
            if nullable { Value::Array(vec![name, Value::String("null".to_owned())]) } else { name }
        }
        Value::Array(names) => Value::Array(names.into_iter().map(|name| lower(name, false)).collect()),
        other => other,
    }
}

fn each(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.into_iter().map(|(name, it)| (name, from_gemini(it))).collect()),
        other => other,
    }
}

fn list(value: Value) -> Value {
    match value {
        Value::Array(list) => Value::Array(list.into_iter().map(from_gemini).collect()),
        other => from_gemini(other),
    }
}

fn number(value: Value) -> Value {
    match value.as_str().and_then(|text| text.parse::<u64>().ok()) {
        Some(number) => Value::from(number),
        None => value,
    }
}

/// Whether OpenAI would take it as strict: each object closed, and each of its properties required.
pub(in crate::wire) fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            let properties = map.get("properties").and_then(Value::as_object);
            let required = map.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let is_object = properties.is_some() || map.get("type").and_then(Value::as_str) == Some("object");
            let closed = map.get("additionalProperties").and_then(Value::as_bool) == Some(false)
                && properties.is_some_and(|known| known.keys().all(|key| required.iter().any(|name| name == key)));
            (!is_object || closed)
                && map.iter().all(|(key, value)| match key.as_str() {
                    "properties" | "$defs" | "definitions" => {
                        value.as_object().is_some_and(|map| map.values().all(is_strict))
                    }
                    "items" | "anyOf" => is_strict(value),
                    "oneOf" | "allOf" | "not" | "patternProperties" => false,
                    _ => true,
                })
        }
        Value::Array(list) => list.iter().all(is_strict),
        _ => true,
    }
}

/// A schema whose objects take nothing but what they name, where they did not say: Anthropic wants that said.
pub(in crate::wire) fn closed(schema: Value) -> Value {
    match schema {
        Value::Object(map) => {
            let is_object = map.contains_key("properties") || map.get("type").and_then(Value::as_str) == Some("object");
            let mut closed: Map<String, Value> = map.into_iter().map(|(key, value)| close(key, value)).collect();
            if is_object && !closed.contains_key("additionalProperties") {
                closed.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            Value::Object(closed)
        }
        other => other,
    }
}

fn close(key: String, value: Value) -> (String, Value) {
    let value = match (key.as_str(), value) {
        ("properties" | "$defs" | "definitions", Value::Object(map)) => {
            Value::Object(map.into_iter().map(|(name, it)| (name, closed(it))).collect())
        }
        ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(list)) => list.into_iter().map(closed).collect(),
        ("items", value) => closed(value),
        (_, value) => value,
    };
    (key, value)
}

/// The schema of a function whose arguments nobody described.
pub(in crate::wire) fn empty() -> Value {
    serde_json::json!({ "type": "object", "properties": {} })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn geminis_spelling_becomes_json_schema_and_names_of_properties_stay() {
        let gemini = json!({
            "type": "OBJECT",
            "properties": {
                "type": { "type": "STRING", "nullable": true, "maxLength": "20" },
                "nullable": { "type": "ARRAY", "items": { "type": "INTEGER" }, "min_items": 1 },
                "either": { "anyOf": [{ "type": "NUMBER" }, { "type": "BOOLEAN" }] }
            },
            "propertyOrdering": ["type"],
            "required": ["type"]
        });
        let plain = json!({
            "type": "object",
            "properties": {
                "type": { "type": ["string", "null"], "maxLength": 20 },
                "nullable": { "type": "array", "items": { "type": "integer" }, "minItems": 1 },
                "either": { "anyOf": [{ "type": "number" }, { "type": "boolean" }] }
            },
            "required": ["type"]
        });
        assert_eq!(from_gemini(gemini), plain);
        assert_eq!(from_gemini(plain.clone()), plain);
        assert_eq!(from_gemini(json!("x")), json!("x"));
    }

    #[test]
    fn objects_are_closed_unless_they_said_otherwise() {
        let open = json!({
            "type": "object",
            "properties": {
                "type": { "type": "array", "items": { "type": "object", "properties": {} } },
                "free": { "type": "object", "additionalProperties": true }
            },
            "enum": [{ "properties": 1 }]
        });
        let shut = json!({
            "type": "object",
            "properties": {
                "type": {
                    "type": "array",
                    "items": { "type": "object", "properties": {}, "additionalProperties": false }
                },
                "free": { "type": "object", "additionalProperties": true }
            },
            "enum": [{ "properties": 1 }],
            "additionalProperties": false
        });
        assert_eq!(closed(open), shut);
        assert_eq!(closed(json!({ "type": "string" })), json!({ "type": "string" }));
    }

    #[test]
    fn strict_is_what_openai_calls_strict() {
        let closed = json!({
            "type": "object", "additionalProperties": false, "required": ["a"],
            "properties": { "a": { "type": "array", "items": { "type": "string" } } }
        });
        assert!(is_strict(&closed));
        let mut open = closed.clone();
        open["additionalProperties"] = json!(true);
        assert!(!is_strict(&open));
        let mut optional = closed.clone();
        optional["required"] = json!([]);
        assert!(!is_strict(&optional));
        let mut deep = closed;
        deep["properties"]["a"]["items"] = json!({ "type": "object" });
        assert!(!is_strict(&deep));
        assert!(is_strict(&json!({ "type": "string" })));
    }
}
