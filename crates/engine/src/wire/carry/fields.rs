//! JSON objects, read field by field: whoever takes a field owns it, and what nobody took is known by name.

use serde_json::{Map, Number, Value};

use crate::wire::talk::{Ask, CannotCarry};

/// An object of a request's body. `null` is absence everywhere.
#[derive(Debug)]
pub(in crate::wire) struct Fields {
    at: String,
    map: Map<String, Value>,
    /// Whether `someName` may be written `some_name`, as some of Gemini's clients do, and one object where a list of them
    /// belongs, as Google's own examples have it.
    snake: bool,
}

impl Fields {
    pub(in crate::wire) fn parse(body: &[u8]) -> Result<Fields, CannotCarry> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Fields { at: String::new(), map, snake: false }),
            Ok(_) => {
                Err(CannotCarry { code: "invalid_json", ..CannotCarry::new("", "The body must be a JSON object.") })
            }
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let message = format!("The body is not valid JSON (line {line}, column {column}).");
                Err(CannotCarry { code: "invalid_json", ..CannotCarry::new("", message) })
            }
        }
    }

    pub(in crate::wire) fn of(value: Value, at: String) -> Result<Fields, CannotCarry> {
        match value {
            Value::Object(map) => Ok(Fields { at, map, snake: false }),
            _ => Err(wrong(at, "an object")),
        }
    }

    pub(in crate::wire) fn snake(self) -> Fields {
        Fields { snake: true, ..self }
    }

    pub(in crate::wire) fn at(&self) -> &str {
        &self.at
    }

    /// The whole path of one of its fields.
    pub(in crate::wire) fn path(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) }
    }

    /// Looks at a field without taking it.
    pub(in crate::wire) fn peek(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(in crate::wire) fn take(&mut self, name: &str) -> Option<Value> {
        let mut value = self.map.swap_remove(name);
        if self.snake && value.is_none() && name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            value = self.map.swap_remove(&snake_case(name));
        }
        value.filter(|value| !value.is_null())
    }

    pub(in crate::wire) fn text(&mut self, name: &str) -> Result<Option<String>, CannotCarry> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(self.path(name), "text")),
        }
    }

    pub(in crate::wire) fn needed_text(&mut self, name: &str) -> Result<String, CannotCarry> {
        self.text(name)?.ok_or_else(|| missing(self.path(name)))
    }

    pub(in crate::wire) fn flag(&mut self, name: &str) -> Result<Option<bool>, CannotCarry> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(wrong(self.path(name), "true or false")),
        }
    }

    pub(in crate::wire) fn number(&mut self, name: &str) -> Result<Option<Number>, CannotCarry> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(number)),
            Some(_) => Err(wrong(self.path(name), "a number")),
        }
    }

    pub(in crate::wire) fn integer(&mut self, name: &str) -> Result<Option<i64>, CannotCarry> {
        let Some(number) = self.number(name)? else { return Ok(None) };
        // Some clients write whole numbers as `100.0`; up to 2⁵³ that is exact.
        let float = || number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= 9e15);
        let integer = number.as_i64().or_else(|| float().map(|float| float as i64));
        integer.map(Some).ok_or_else(|| wrong(self.path(name), "a whole number"))
    }

    pub(in crate::wire) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, CannotCarry> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(one @ Value::Object(_)) if self.snake => Ok(Some(vec![one])),
            Some(_) => Err(wrong(self.path(name), "a list")),
        }
    }

    /// The objects of a list.
    pub(in crate::wire) fn objects(&mut self, name: &str) -> Result<Vec<Fields>, CannotCarry> {
        self.few(name, usize::MAX)
    }

    /// The objects of a list that has no more than `most` elements.
    pub(in crate::wire) fn few(&mut self, name: &str, most: usize) -> Result<Vec<Fields>, CannotCarry> {
        let (path, snake) = (self.path(name), self.snake);
        let list = self.list(name)?.unwrap_or_default();
        if list.len() > most {
            let message = format!("`{path}` has too many elements: at most {most} can be carried.");
            return Err(CannotCarry::wrong(path, message));
        }
        let each =
            |(number, value)| Fields::of(value, format!("{path}[{number}]")).map(|fields| Fields { snake, ..fields });
        list.into_iter().enumerate().map(each).collect()
    }

    pub(in crate::wire) fn object(&mut self, name: &str) -> Result<Option<Fields>, CannotCarry> {
        let Some(value) = self.take(name) else { return Ok(None) };
        Fields::of(value, self.path(name)).map(|fields| Some(Fields { snake: self.snake, ..fields }))
    }

    /// A list of texts, or one text.
    pub(in crate::wire) fn texts(&mut self, name: &str) -> Result<Vec<String>, CannotCarry> {
        let value = self.take(name);
        let path = || self.path(name);
        match value {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(Value::Array(list)) => list
                .into_iter()
                .map(|value| match value {
                    Value::String(text) => Ok(text),
                    _ => Err(wrong(path(), "a list of texts")),
                })
                .collect(),
            Some(_) => Err(wrong(path(), "a list of texts")),
        }
    }

    /// Takes fields that are of no use to another wire.
    pub(in crate::wire) fn drop_all(&mut self, names: &[&str]) {
        for name in names {
            self.take(name);
        }
    }

    /// Refuses a field unless it is absent, `false`, `0`, empty, or one of `harmless`.
    pub(in crate::wire) fn refuse(&mut self, name: &str, harmless: &[&str], why: &str) -> Result<(), CannotCarry> {
        let idle = |value: &Value| match value {
            Value::Bool(flag) => !flag,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty() || harmless.contains(&text.as_str()),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Null => true,
        };
        match self.take(name) {
            Some(value) if !idle(&value) => Err(self.cannot(name, why)),
            _ => Ok(()),
        }
    }

    /// What nobody has taken.
    pub(in crate::wire) fn names(&self) -> impl Iterator<Item = &str> {
        self.map.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str())
    }

    /// Tells what was left out of this object: everything that was not taken.
    pub(in crate::wire) fn tell_rest(self, ask: &mut Ask) {
        for name in self.names() {
            ask.leave_out(&self.path(name));
        }
    }

    pub(in crate::wire) fn cannot(&self, name: &str, why: &str) -> CannotCarry {
        CannotCarry::of(&self.path(name), why)
    }
}

pub(in crate::wire) fn wrong(at: impl Into<String>, what: &str) -> CannotCarry {
    let at = at.into();
    let message = format!("`{at}` must be {what}.");
    CannotCarry::wrong(at, message)
}

pub(in crate::wire) fn missing(at: impl Into<String>) -> CannotCarry {
    let at = at.into();
    let message = format!("`{at}` is missing.");
    CannotCarry { code: "missing_required_parameter", ..CannotCarry::new(at, message) }
}

/// `someName` as `some_name`.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        Fields::of(value, String::new()).expect("an object")
    }

    #[test]
    fn null_is_absence_and_another_type_is_refused_by_its_path() {
        let mut it = fields(json!({ "a": null, "b": 7, "c": { "d": [] } }));
        assert_eq!(it.text("a"), Ok(None));
        assert_eq!(it.text("b"), Err(CannotCarry::wrong("b", "`b` must be text.")));
        let mut inner = it.object("c").expect("readable").expect("there");
        assert_eq!(inner.flag("d"), Err(CannotCarry::wrong("c.d", "`c.d` must be true or false.")));
        assert_eq!(inner.needed_text("e"), Err(missing("c.e")));
        assert_eq!(
            (missing("c.e").message.as_str(), missing("c.e").code),
            ("`c.e` is missing.", "missing_required_parameter")
        );
    }

    #[test]
    fn whole_numbers_may_be_written_with_a_point() {
        let mut it = fields(json!({ "a": 100.0, "b": 1.5, "c": 1e300, "d": -3, "e": 18_446_744_073_709_551_615_u64 }));
        assert_eq!(it.integer("a"), Ok(Some(100)));
        assert!(it.integer("b").is_err());
        assert!(it.integer("c").is_err());
        assert_eq!(it.integer("d"), Ok(Some(-3)));
        assert!(it.integer("e").is_err());
    }

    #[test]
    fn snake_case_is_accepted_where_it_was_said() {
        let one = json!({ "some_list": { "inner_name": "x" } });
        let mut it = fields(one.clone()).snake();
        assert_eq!(it.objects("someList").expect("readable")[0].text("innerName"), Ok(Some("x".to_owned())));
        assert!(fields(one).objects("some_list").is_err(), "elsewhere a list is a list");
        let both = json!({ "systemInstruction": { "some_list": [{ "inner_name": "x" }] }, "top_k": 3 });
        let mut it = fields(both.clone()).snake();
        assert_eq!(it.integer("topK"), Ok(Some(3)));
        let mut inner = it.object("systemInstruction").expect("readable").expect("there");
        assert_eq!(inner.objects("someList").expect("readable")[0].text("innerName"), Ok(Some("x".to_owned())));
        assert_eq!(fields(both).integer("topK"), Ok(None));
    }

    #[test]
    fn what_nobody_took_is_told_and_what_does_nothing_is_not_refused() {
        let mut it = fields(json!({ "a": 1, "new_thing": { "x": 1 }, "n": 1, "off": false, "evil\r\nname: x": 1 }));
        it.drop_all(&["a"]);
        assert_eq!(it.refuse("off", &[], "no."), Ok(()));
        assert_eq!(
            it.refuse("n", &[], "one answer only."),
            Err(CannotCarry::new("n", "`n` cannot be carried to this model: one answer only."))
        );
        let mut ask = Ask::default();
        it.tell_rest(&mut ask);
        ask.left_out.sort();
        assert_eq!(ask.left_out, ["evilnamex", "new_thing"]);
    }
}
