//! Trouble on request: rules that spoil calls of the Bot API, by chance but repeatably.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dice::Dice;

/// A rule, as it is given. The first rule that fits a call and whose dice fall is applied, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// A method's name in any case, or `*`.
    #[serde(default = "any")]
    pub method: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_id: Option<i64>,
    /// The share of fitting calls that are spoiled.
    #[serde(default = "always")]
    pub p: f64,
    /// How many calls are spoiled before the rule ends; without it, it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How many fitting calls go through before the first is spoiled.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after: u64,
    pub mode: String,
    /// Whether the call still has its effect; each mode has its own answer if this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply: Option<bool>,
    #[serde(default)]
    pub seed: u64,
}

fn any() -> String {
    "*".to_owned()
}

fn always() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Fault {
    /// A rule that spoils every call of a method in one way.
    pub fn new(method: &str, mode: &str) -> Fault {
        Fault {
            method: method.to_owned(),
            token: None,
            chat_id: None,
            p: 1.0,
            count: None,
            after: 0,
            mode: mode.to_owned(),
            apply: None,
            seed: 0,
        }
    }

    pub fn times(mut self, count: u64) -> Fault {
        self.count = Some(count);
        self
    }

    pub fn after(mut self, calls: u64) -> Fault {
        self.after = calls;
        self
    }
}

/// What a rule does to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The connection ends without an answer.
    Drop,
    /// The connection is reset.
    Reset,
    /// An error of this status.
    Status(u16),
    /// "Too Many Requests" with this many seconds.
    TooMany(u64),
    /// The answer comes this much later, in milliseconds.
    Delay(u64),
    /// 200 and bytes that are no JSON.
    Garbage,
    /// 200 and no body.
    Empty,
    /// 200 and a web page.
    Html,
    /// 200 and 100 MiB of white space before the answer.
    Huge,
    /// 200 and `{"ok":false}`.
    NotOk,
}

impl Mode {
    /// The mode a word names, and whether the call is applied by default.
    fn parse(text: &str) -> Option<(Mode, bool)> {
        if let Some((name, number)) = text.split_once(':') {
            return Some(match name {
                "status" => (Mode::Status(number.parse().ok().filter(|code| (300..=599).contains(code))?), false),
                "429" => (Mode::TooMany(number.parse().ok().filter(|n| (1..=86_400).contains(n))?), false),
                "delay" => (Mode::Delay(number.parse().ok().filter(|&ms| ms <= 600_000)?), true),
                _ => return None,
            });
        }
        Some(match text {
            "drop_before" => (Mode::Drop, false),
            "apply_then_drop" => (Mode::Drop, true),
            "rst" => (Mode::Reset, false),
            "429" => (Mode::TooMany(1), false),
            "garbage" => (Mode::Garbage, false),
            "empty" => (Mode::Empty, false),
            "html" => (Mode::Html, false),
            "huge" => (Mode::Huge, false),
            "not_ok" => (Mode::NotOk, false),
            _ => return None,
        })
    }
}

/// The rule that hit a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    pub mode: Mode,
    pub apply: bool,
    pub name: String,
}

#[derive(Default)]
pub struct Faults {
    rules: Vec<Rule>,
    next: u64,
}

struct Rule {
    id: u64,
    fault: Fault,
    mode: Mode,
    apply: bool,
    dice: Dice,
    left: u64,
    hits: u64,
    /// Calls that fitted and were let through by `after`.
    passed: u64,
}

/// Rules at a time.
const RULES: usize = 1000;

impl Faults {
    /// Adds a rule and returns its id, or says what is wrong with it.
    pub fn add(&mut self, fault: Fault) -> Result<u64, String> {
        let Some((mode, apply)) = Mode::parse(&fault.mode) else {
            return Err(format!("unknown fault mode '{}'", fault.mode));
        };
        if !(0.0..=1.0).contains(&fault.p) {
            return Err("p must be between 0 and 1".to_owned());
        }
        if fault.method.is_empty() || fault.count == Some(0) {
            return Err("a fault needs a method and a count above zero".to_owned());
        }
        if self.rules.len() >= RULES {
            return Err(format!("there are already {RULES} fault rules"));
        }
        self.next += 1;
        let (dice, left) = (Dice::new(fault.seed), fault.count.unwrap_or(u64::MAX));
        let apply = fault.apply.unwrap_or(apply);
        self.rules.push(Rule { id: self.next, fault, mode, apply, dice, left, hits: 0, passed: 0 });
        Ok(self.next)
    }

    pub fn clear(&mut self) -> usize {
        std::mem::take(&mut self.rules).len()
    }

    pub fn list(&self) -> Vec<Value> {
        let show = |rule: &Rule| json!({"id": rule.id, "hits": rule.hits, "rule": rule.fault});
        self.rules.iter().map(show).collect()
    }

    /// Throws the dice of the rules that fit this call.
    pub fn strike(&mut self, token: &str, method: &str, chat_id: Option<i64>) -> Option<Hit> {
        if self.rules.is_empty() {
            return None;
        }
        let mut hit = None;
        for rule in &mut self.rules {
            let fault = &rule.fault;
            let fits = (fault.method == "*" || fault.method.eq_ignore_ascii_case(method))
                && fault.token.as_deref().is_none_or(|wanted| wanted == token)
                && fault.chat_id.is_none_or(|wanted| chat_id == Some(wanted));
            if fits && rule.passed < fault.after {
                rule.passed += 1;
                continue;
            }
            if fits && rule.dice.chance(fault.p) {
                rule.left -= 1;
                rule.hits += 1;
                hit = Some(Hit { mode: rule.mode, apply: rule.apply, name: fault.mode.clone() });
                break;
            }
        }
        self.rules.retain(|rule| rule.left > 0);
        hit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_fits_by_method_token_and_chat_and_ends_after_its_count() {
        let mut faults = Faults::default();
        let rule = Fault { chat_id: Some(5), token: Some("t".to_owned()), ..Fault::new("sendMessage", "429:7") };
        faults.add(rule.times(1)).unwrap();
        assert_eq!(faults.strike("t", "getme", Some(5)), None);
        assert_eq!(faults.strike("u", "sendmessage", Some(5)), None);
        assert_eq!(faults.strike("t", "sendmessage", None), None);
        let hit = faults.strike("t", "sendmessage", Some(5)).unwrap();
        assert_eq!((hit.mode, hit.apply), (Mode::TooMany(7), false));
        assert_eq!(faults.strike("t", "sendmessage", Some(5)), None);
        assert!(faults.list().is_empty());
    }

    #[test]
    fn a_rule_may_let_the_first_calls_through() {
        let mut faults = Faults::default();
        faults.add(Fault::new("sendMessage", "rst").after(2).times(1)).unwrap();
        let hits: Vec<bool> = (0..4).map(|_| faults.strike("t", "sendmessage", None).is_some()).collect();
        assert_eq!(hits, [false, false, true, false]);
    }

    #[test]
    fn a_seed_gives_the_same_trouble_again() {
        let run = |seed: u64| {
            let mut faults = Faults::default();
            faults.add(Fault { p: 0.3, seed, ..Fault::new("*", "drop_before") }).unwrap();
            (0..50).map(|_| faults.strike("t", "sendmessage", None).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused() {
        let mut faults = Faults::default();
        for mode in ["", "explode", "status:200", "status:x", "429:0", "delay:-1"] {
            assert!(faults.add(Fault::new("*", mode)).is_err(), "{mode}");
        }
        assert!(faults.add(Fault { p: 1.5, ..Fault::new("*", "rst") }).is_err());
        assert!(faults.add(Fault::new("*", "rst").times(0)).is_err());
    }
}
