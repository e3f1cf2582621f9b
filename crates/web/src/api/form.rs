//! Bodies of the session API, read field by field. What is wrong with one is said of all its fields at once, in the list
//! that this family's clients know.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::No;

/// A body that is read. Fields that nobody asks for are passed over, as the originals did.
pub(super) struct Form {
    fields: Map<String, Value>,
    wrong: Vec<Value>,
}

impl Form {
    pub fn read(bytes: &[u8]) -> Result<Form, No> {
        let body = match serde_json::from_slice(bytes) {
            Ok(body) => body,
            Err(error) => {
                let at = error.column();
                return Err(list(vec![json!({
                    "type": "json_invalid", "loc": ["body", at], "msg": "JSON decode error",
                })]));
            }
        };
        match body {
            Value::Object(fields) => Ok(Form { fields, wrong: Vec::new() }),
            _ => Err(list(vec![json!({
                "type": "model_attributes_type", "loc": ["body"], "msg": "Input should be a valid dictionary",
            })])),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    pub fn needed_text(&mut self, name: &str) -> String {
        match self.fields.get(name) {
            Some(Value::String(text)) => return text.clone(),
            None => self.wrong(name, "missing", "Field required"),
            Some(_) => self.wrong(name, "string_type", "Input should be a valid string"),
        }
        String::new()
    }

    pub fn text(&mut self, name: &str) -> Option<String> {
        self.has(name).then(|| self.needed_text(name))
    }

    /// A whole number from `least` on.
    pub fn count(&mut self, name: &str, least: i64) -> Option<i64> {
        if !self.has(name) {
            return None;
        }
        match whole(&self.fields[name]) {
            None => self.wrong(name, "int_type", "Input should be a valid integer"),
            Some(count) if count < least => {
                self.wrong(name, "greater_than_equal", &format!("Input should be greater than or equal to {least}"));
            }
            count => return count,
        }
        None
    }

    pub fn number(&mut self, name: &str) -> Option<f64> {
        if !self.has(name) {
            return None;
        }
        match self.fields[name].as_f64() {
            None => self.wrong(name, "float_type", "Input should be a valid number"),
            Some(number) if number < 0.0 => {
                self.wrong(name, "greater_than_equal", "Input should be greater than or equal to 0");
            }
            number => return number,
        }
        None
    }

    pub fn flag(&mut self, name: &str) -> Option<bool> {
        if !self.has(name) {
            return None;
        }
        let flag = self.fields[name].as_bool();
        if flag.is_none() {
            self.wrong(name, "bool_type", "Input should be a valid boolean");
        }
        flag
    }

    pub fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        if !self.has(name) {
            return None;
        }
        match &self.fields[name] {
            Value::Object(object) => return Some(object.clone()),
            _ => self.wrong(name, "dict_type", "Input should be a valid dictionary"),
        }
        None
    }

    /// A list with at least one member; what the members are is somebody else's to judge.
    pub fn needed_list(&mut self, name: &str) {
        match self.fields.get(name) {
            None => self.wrong(name, "missing", "Field required"),
            Some(Value::Array(list)) if list.is_empty() => {
                self.wrong(name, "too_short", "List should have at least 1 item");
            }
            Some(Value::Array(_)) => {}
            Some(_) => self.wrong(name, "list_type", "Input should be a valid list"),
        }
    }

    /// What was said, at least once: each by somebody (`role`), and with words (`content`) unless it calls a tool.
    /// What else is in it is somebody else's to judge.
    pub fn needed_messages(&mut self, name: &str) {
        self.needed_list(name);
        let Some(Value::Array(messages)) = self.fields.get(name) else { return };
        let mut wrong = Vec::new();
        for (at, message) in messages.iter().enumerate() {
            let mut say = |field: Option<&str>, kind: &str, words: &str| {
                let mut place = vec![json!("body"), json!(name), json!(at)];
                place.extend(field.map(Value::from));
                wrong.push(json!({ "type": kind, "loc": place, "msg": words }));
            };
            let Value::Object(message) = message else {
                say(None, "model_attributes_type", "Input should be a valid dictionary");
                continue;
            };
            match message.get("role") {
                Some(Value::String(_)) => {}
                None => say(Some("role"), "missing", "Field required"),
                Some(_) => say(Some("role"), "string_type", "Input should be a valid string"),
            }
            let calls = ["tool_calls", "function_call"].iter().any(|name| message.contains_key(*name));
            match message.get("content") {
                Some(Value::String(_) | Value::Array(_)) => {}
                None | Some(Value::Null) if calls => {}
                None => say(Some("content"), "missing", "Field required"),
                Some(_) => say(Some("content"), "string_type", "Input should be a valid string"),
            }
        }
        self.wrong.extend(wrong);
    }

    /// Texts, at least one.
    pub fn needed_texts(&mut self, name: &str) -> Vec<String> {
        let texts = |list: &Vec<Value>| list.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<_>>();
        match self.fields.get(name) {
            None => self.wrong(name, "missing", "Field required"),
            Some(Value::Array(list)) if list.is_empty() => {
                self.wrong(name, "too_short", "List should have at least 1 item");
            }
            Some(Value::Array(list)) => match texts(list) {
                Some(texts) => return texts,
                None => self.wrong(name, "string_type", "Input should be a list of strings"),
            },
            Some(_) => self.wrong(name, "list_type", "Input should be a valid list"),
        }
        Vec::new()
    }

    fn wrong(&mut self, name: &str, kind: &str, words: &str) {
        self.wrong.push(json!({ "type": kind, "loc": ["body", name], "msg": words }));
    }

    /// The fields, if none of those that were asked for is wrong.
    pub fn finish(self) -> Result<Map<String, Value>, No> {
        if self.wrong.is_empty() { Ok(self.fields) } else { Err(list(self.wrong)) }
    }
}

/// A whole number, as far as every program has it exactly. It may be written with a fraction of nothing, as those do that
/// know no other numbers.
pub(super) fn whole(value: &Value) -> Option<i64> {
    const EXACT: i64 = (1 << 53) - 1;
    let float = || value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= EXACT as f64);
    let read = value.as_i64().or_else(|| float().map(|number| number as i64))?;
    (-EXACT..=EXACT).contains(&read).then_some(read)
}

fn list(wrong: Vec<Value>) -> No {
    No::Listed(StatusCode::UNPROCESSABLE_ENTITY, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_those_that_every_program_has_exactly() {
        let most = (1_i64 << 53) - 1;
        for (text, read) in [
            ("0", Some(0)),
            ("-3", Some(-3)),
            ("80.0", Some(80)),
            ("1e3", Some(1000)),
            ("9007199254740991", Some(most)),
            ("9007199254740992", None),
            ("9007199254740992.0", None),
            ("1e30", None),
            ("0.5", None),
            ("\"1\"", None),
            ("null", None),
        ] {
            let value = serde_json::from_str(text).expect("JSON");
            assert_eq!(whole(&value), read, "{text}");
        }
    }
}
