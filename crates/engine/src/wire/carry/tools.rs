//! Tools that are more than a function at their own door, as the plain functions that every wire has.

use serde_json::{Value, json};

use super::Door;
use super::fields::Fields;
use crate::wire::talk::{Call, CannotCarry, Disguise, Tool};

/// A tool that takes free text, as a function with that text for its one argument. A grammar is told in words.
pub(in crate::wire) fn custom(mut fields: Fields, name: String, disguise: Disguise) -> Result<Tool, CannotCarry> {
    let mut description = fields.text("description")?.unwrap_or_default();
    if let Some(mut format) = fields.object("format")?
        && format.text("type")?.as_deref() == Some("grammar")
    {
        // Chat puts one more shell around it than Responses.
        let mut grammar = match format.object("grammar")? {
            Some(inner) => inner,
            None => format,
        };
        let syntax = grammar.text("syntax")?.unwrap_or_default();
        let definition = grammar.needed_text("definition")?;
        description.push_str(&format!("\n\nThe input must follow this {syntax} grammar:\n{definition}"));
    }
    let schema = json!({
        "type": "object",
        "properties": { Disguise::INPUT: { "type": "string", "description": "The whole input, as plain text." } },
        "required": [Disguise::INPUT],
        "additionalProperties": false
    });
    let description = Some(description.trim().to_owned()).filter(|text| !text.is_empty());
    Ok(Tool { name, description, schema: Some(schema), strict: None, disguise: Some(disguise) })
}

/// The arguments that stand for free text.
pub(in crate::wire) fn wrap(input: &str) -> String {
    json!({ Disguise::INPUT: input }).to_string()
}

/// The free text in such arguments. What a model wrote otherwise is passed on as it is.
pub(in crate::wire) fn unwrap(arguments: &str) -> String {
    match serde_json::from_str::<Value>(arguments) {
        Ok(Value::Object(mut map)) => match map.swap_remove(Disguise::INPUT) {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None if map.is_empty() => String::new(),
            None => arguments.to_owned(),
        },
        Ok(Value::String(text)) => text,
        _ => arguments.to_owned(),
    }
}

/// A call in the words of the door where its tool was offered.
#[derive(Debug)]
pub(in crate::wire) struct Shown {
    pub name: String,
    pub namespace: Option<String>,
    /// The free text of a call that takes some.
    pub input: Option<String>,
}

pub(in crate::wire) fn show(door: &Door, call: &Call) -> Shown {
    match door.disguise(&call.name) {
        None => Shown { name: call.name.clone(), namespace: None, input: None },
        Some(disguise) => Shown {
            name: disguise.name.clone(),
            namespace: disguise.namespace.clone(),
            input: disguise.custom.then(|| unwrap(&call.arguments)),
        },
    }
}

/// An id that wires with narrow rules accept: letters, digits, `_` and `-`, 40 of them at most.
///
/// Equal ids stay equal, so that results find their calls.
pub(in crate::wire) fn fit_id(id: &str) -> String {
    let fits = id.len() <= 40 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if fits && !id.is_empty() {
        return id.to_owned();
    }
    // Two FNV-1a hashes with different beginnings: enough that no two ids of one conversation meet.
    let hash =
        |start: u64| id.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("call_{:016x}{:016x}", hash(0xcbf2_9ce4_8422_2325), hash(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_text_survives_the_way_there_and_back() {
        for text in ["", "plain", "const r = await x({a: \"b\"});\n", "{\"input\":1}", "\u{0}\u{2028}"] {
            assert_eq!(unwrap(&wrap(text)), text);
        }
        assert_eq!(unwrap("not json"), "not json");
        assert_eq!(unwrap("{\"other\":1}"), "{\"other\":1}");
        assert_eq!(unwrap("{\"input\":[1]}"), "[1]");
        assert_eq!(unwrap("{}"), "");
    }

    #[test]
    fn ids_are_kept_where_they_fit_and_stay_apart_where_not() {
        assert_eq!(fit_id("call_abc-9"), "call_abc-9");
        let long = "x".repeat(41);
        assert_eq!(fit_id(&long), fit_id(&long));
        assert_ne!(fit_id(&long), fit_id(&"x".repeat(42)));
        for id in [long.as_str(), "", "a.b:c", "ключ"] {
            let fit = fit_id(id);
            assert!(fit.len() <= 40 && fit.is_ascii() && fit != id, "{fit}");
        }
    }
}
