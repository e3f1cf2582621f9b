//! What an answer cost: what the upstream claims, held against what we saw.

use salon_core::{Brief, Usage};
use serde_json::Value;

use crate::estimate::{self, Count};
use crate::upstream::Fault;

/// How much more than we can see an upstream may have written where no limit was set: hidden thoughts are paid for.
const UNSEEN_OUT: i64 = 32_768;
/// How much more than we sent an upstream may have read: its own instructions and its chat template.
const UNSEEN_IN: i64 = 4_096;

/// Token counts as an upstream states them, however absurd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    tokens_in: Option<i128>,
    tokens_out: Option<i128>,
}

impl Claim {
    /// `None` if there is no statement at all.
    pub(super) fn read(usage: &Value) -> Option<Claim> {
        let usage = usage.as_object()?;
        let number = |names: [&str; 2]| names.iter().find_map(|name| usage.get(*name)).and_then(number);
        let claim = Claim {
            tokens_in: number(["prompt_tokens", "input_tokens"]),
            tokens_out: number(["completion_tokens", "output_tokens"]),
        };
        (claim.tokens_in.is_some() || claim.tokens_out.is_some()).then_some(claim)
    }
}

fn number(value: &Value) -> Option<i128> {
    let Value::Number(number) = value else { return None };
    let float = || number.as_f64().map(|float| float as i128);
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)).or_else(float)
}

/// Counts along with one answer.
#[derive(Debug)]
pub(super) struct Tally {
    pub model: Option<String>,
    /// Somebody has seen part of the answer or of the thoughts before it.
    pub shown: bool,
    /// There is at least some text.
    pub answered: bool,
    own_in: i64,
    own_out: Count,
    max_tokens: Option<i64>,
    claim: Option<Claim>,
    /// Whether a try reached the upstream and may have to be paid for.
    spent: bool,
}

impl Tally {
    pub(super) fn new(brief: &Brief, max_tokens: Option<u32>) -> Tally {
        Tally {
            model: None,
            shown: false,
            answered: false,
            own_in: estimate::brief_tokens(brief),
            own_out: Count::default(),
            max_tokens: max_tokens.map(i64::from),
            claim: None,
            spent: false,
        }
    }

    /// A request is on its way. From here on it may cost something, unless a fault says that it does not.
    pub(super) fn begin_try(&mut self) {
        self.spent = true;
        self.claim = None;
    }

    pub(super) fn note(&mut self, fault: Fault) {
        self.spent = fault.may_cost();
    }

    pub(super) fn said(&mut self, text: &str) {
        self.shown = true;
        self.answered = true;
        self.own_out.add(text);
    }

    pub(super) fn thought(&mut self, text: &str) {
        self.shown = true;
        self.own_out.add(text);
    }

    /// A later claim replaces an earlier one: some servers count along in every chunk.
    pub(super) fn claim(&mut self, claim: Claim) {
        self.claim = Some(claim);
    }

    /// The usage as we believe it; `None` if nothing was asked of the upstream.
    pub(super) fn usage(&self) -> Option<Usage> {
        if !self.spent {
            return None;
        }
        let own_out = self.own_out.tokens();
        let claim = self.claim.unwrap_or(Claim { tokens_in: None, tokens_out: None });
        let read = believe(claim.tokens_in, self.own_in, UNSEEN_IN);
        let written = believe(claim.tokens_out, own_out, self.max_tokens.unwrap_or(UNSEEN_OUT));
        Some(Usage {
            model: self.model.clone(),
            tokens_in: read.tokens,
            tokens_out: written.tokens,
            estimated: read.estimated || written.estimated,
            suspect: read.suspect || written.suspect,
        })
    }
}

struct Believed {
    tokens: i64,
    estimated: bool,
    suspect: bool,
}

/// Keeps a claim between half of what we counted and twice that and what we cannot see.
fn believe(claim: Option<i128>, own: i64, unseen: i64) -> Believed {
    let Some(claim) = claim else { return Believed { tokens: own, estimated: true, suspect: false } };
    let (least, most) = ((own + 1) / 2, own.saturating_mul(2).saturating_add(unseen));
    let tokens = i64::try_from(claim.clamp(i128::from(least), i128::from(most))).unwrap_or(most);
    Believed { tokens, estimated: false, suspect: i128::from(tokens) != claim }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salon_core::TurnId;
    use serde_json::json;

    /// A brief of 100 tokens and an answer of 50.
    fn tally(max_tokens: Option<u32>) -> Tally {
        let brief = Brief {
            turn: TurnId::new("t"),
            instructions: String::new(),
            history: Vec::new(),
            question: "abcd".repeat(96),
            thread: None,
        };
        let mut tally = Tally::new(&brief, max_tokens);
        tally.begin_try();
        tally.said(&"abcd".repeat(50));
        tally
    }

    #[track_caller]
    fn check(claim: Value, max_tokens: Option<u32>, expected: (i64, i64, &str)) {
        let mut tally = tally(max_tokens);
        if let Some(claim) = Claim::read(&claim) {
            tally.claim(claim);
        }
        let usage = tally.usage().expect("something was asked");
        let flags = match (usage.estimated, usage.suspect) {
            (false, false) => "",
            (true, false) => "estimated",
            (false, true) => "suspect",
            (true, true) => "estimated suspect",
        };
        assert_eq!((usage.tokens_in, usage.tokens_out, flags), expected, "{claim}");
    }

    #[test]
    fn a_claim_that_may_be_true_is_believed() {
        check(json!({ "prompt_tokens": 117, "completion_tokens": 61 }), None, (117, 61, ""));
        check(json!({ "input_tokens": 117, "output_tokens": 61 }), None, (117, 61, ""));
        check(json!({ "prompt_tokens": 50, "completion_tokens": 25 }), None, (50, 25, ""));
        check(json!({ "prompt_tokens": 117.0, "completion_tokens": 61.0 }), None, (117, 61, ""));
        check(json!({ "prompt_tokens": 117, "completion_tokens": 20_000 }), None, (117, 20_000, ""));
    }

    #[test]
    fn without_a_claim_we_count() {
        for nothing in [json!(null), json!({}), json!([]), json!({ "prompt_tokens": "many" }), json!("free")] {
            check(nothing, None, (100, 50, "estimated"));
        }
        check(json!({ "prompt_tokens": 117 }), None, (117, 50, "estimated"));
    }

    #[test]
    fn a_claim_that_cannot_be_true_is_clamped_and_marked() {
        check(json!({ "prompt_tokens": 0, "completion_tokens": 0 }), None, (50, 25, "suspect"));
        check(json!({ "prompt_tokens": -5, "completion_tokens": 61 }), None, (50, 61, "suspect"));
        check(json!({ "prompt_tokens": 117, "completion_tokens": 201 }), Some(100), (117, 200, "suspect"));
        check(json!({ "prompt_tokens": 117, "completion_tokens": 200 }), Some(100), (117, 200, ""));
        let huge = 9_223_372_036_854_775_808_u64;
        check(json!({ "prompt_tokens": huge, "completion_tokens": huge }), None, (4_296, 32_868, "suspect"));
        check(json!({ "prompt_tokens": 1e300, "completion_tokens": -1e300 }), None, (4_296, 25, "suspect"));
    }

    #[test]
    fn a_refused_request_costs_nothing_and_a_broken_one_may() {
        let mut refused = tally(None);
        refused.note(Fault::Refused);
        assert_eq!(refused.usage(), None);
        let mut late = tally(None);
        late.note(Fault::Timeout);
        assert!(late.usage().is_some());
    }
}
