//! Embeddings: several questions in one, and the one server that has its own words for them.
//!
//! Each text becomes a vector by itself, so what is asked together can be told apart again. As elsewhere the bytes stay
//! what they are: a vector that passes here is the upstream's to the last digit, unless other words want another form.

mod midm;
mod parts;

use bytes::Bytes;

use super::Head;
use super::talk::CannotCarry;
use crate::upstream::Fault;

/// A request with its texts taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// Everything before and after them: what requests have to have in common to be asked together.
    pub before: Bytes,
    pub after: Bytes,
    /// The texts as the elements of a list, without its brackets.
    pub list: Bytes,
    pub count: usize,
    /// They are given as tokens; nobody takes a list of both.
    pub are_tokens: bool,
}

impl Texts {
    /// Takes a request apart that was read before. `None` if what is asked is neither text nor tokens.
    pub fn of(head: &Head, body: &Bytes) -> Option<Texts> {
        let span = head.talk()?;
        let value = body.slice(span.clone());
        let inner = || value.slice(1..value.len() - 1);
        let first = value.iter().skip(1).find(|byte| !byte.is_ascii_whitespace());
        let (list, are_tokens) = match (value.first()?, first?) {
            (b'"', _) => (value.clone(), false),
            (b'[', b'"') => (inner(), false),
            (b'[', b'[') => (inner(), true),
            (b'[', b'0'..=b'9') => (value.clone(), true),
            _ => return None,
        };
        let count = usize::try_from(head.inputs).ok().filter(|count| *count > 0)?;
        Some(Texts { before: body.slice(..span.start), after: body.slice(span.end..), list, count, are_tokens })
    }

    /// One request with the texts of all, in the order of these. They have to agree in everything else.
    pub fn together(all: &[&Texts]) -> Bytes {
        let Some(first) = all.first() else { return Bytes::new() };
        let length: usize = all.iter().map(|texts| texts.list.len() + 1).sum();
        let mut body = Vec::with_capacity(first.before.len() + length + 2 + first.after.len());
        body.extend_from_slice(&first.before);
        body.push(b'[');
        for (at, texts) in all.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&texts.list);
        }
        body.push(b']');
        body.extend_from_slice(&first.after);
        body.into()
    }
}

/// Tells an answer apart: for each who asked, as many vectors as there were texts, numbered anew, and so many tokens of
/// the usage. An answer that has not exactly one vector for each text is nobody's.
pub fn tell_apart(answer: &[u8], asked: &[(usize, Option<i64>)]) -> Result<Vec<Bytes>, Fault> {
    let parts = parts::Parts::read(answer, b"data").ok_or(Fault::Garbled)?;
    let vectors = parts.in_order(answer).ok_or(Fault::Garbled)?;
    if vectors.len() != asked.iter().map(|(count, _)| count).sum::<usize>() {
        return Err(Fault::Garbled);
    }
    let mut rest = vectors.as_slice();
    let mut told = Vec::with_capacity(asked.len());
    for (count, tokens) in asked {
        let (own, others) = rest.split_at(*count);
        rest = others;
        told.push(parts.with(answer, own, *tokens).into());
    }
    Ok(told)
}

/// Parts of a whole by weights, none of which is negative: they add up to it exactly.
pub fn shares(whole: i64, weights: &[i64]) -> Vec<i64> {
    let mut all: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
    let mut rest = whole;
    let mut shares = Vec::with_capacity(weights.len());
    for weight in weights {
        // Each takes its part of what is left, so the last one takes the rest. No more than the whole, so it fits again.
        let share = (i128::from(rest) * i128::from(*weight)).checked_div(all).unwrap_or(0);
        let share = i64::try_from(share).unwrap_or(rest);
        all -= i128::from(*weight);
        rest -= share;
        shares.push(share);
    }
    if let Some(last) = shares.last_mut() {
        *last += rest;
    }
    shares
}

/// A request in the words of the `midm` server.
#[derive(Clone, Debug)]
pub struct Carried {
    pub body: Vec<u8>,
    /// What does not travel, by names that are fit for a header.
    pub left_out: Vec<String>,
    pub back: Back,
}

/// What turns its answer round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Back {
    texts: usize,
    base64: bool,
    model: String,
}

/// Turns an OpenAI client's request into one for the `midm` server. `model` is the server's name for it, `shown` the
/// client's.
pub fn carry_ask(body: &[u8], model: &str, shown: &str) -> Result<Carried, CannotCarry> {
    midm::carry_ask(body, model, shown)
}

/// Turns the `midm` server's answer round.
pub fn carry_answer(back: &Back, answer: &[u8]) -> Result<Vec<u8>, Fault> {
    midm::carry_answer(back, answer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::{Outside, Wire, fuzz};

    fn texts(body: &'static str) -> Option<Texts> {
        let head = Head::read(Wire::Embeddings, body.as_bytes(), Outside::default()).expect("a request");
        Texts::of(&head, &Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn requests_are_put_together_byte_for_byte() {
        let all = [
            r#"{"model":"m", "input": "one" ,"user":"x"}"#,
            r#"{"model":"m", "input": [ "two" , "thr\"ee" ] ,"user":"x"}"#,
            r#"{"model":"m", "input": "4,]" ,"user":"x"}"#,
        ]
        .map(|body| texts(body).expect("texts"));
        assert!(all.iter().all(|texts| (&texts.before, &texts.after) == (&all[0].before, &all[0].after)));
        assert_eq!(all.iter().map(|texts| texts.count).collect::<Vec<_>>(), [1, 2, 1]);
        let body = Texts::together(&all.iter().collect::<Vec<_>>());
        assert_eq!(body, r#"{"model":"m", "input": ["one", "two" , "thr\"ee" ,"4,]"] ,"user":"x"}"#);
    }

    #[test]
    fn tokens_are_texts_too_and_what_is_neither_stays_alone() {
        let one = texts(r#"{"model":"m","input":[1,2]}"#).expect("tokens");
        let two = texts(r#"{"model":"m","input":[[3],[4,5]]}"#).expect("tokens");
        assert!(one.are_tokens && two.are_tokens && (one.count, two.count) == (1, 2));
        assert_eq!(Texts::together(&[&one, &two]), r#"{"model":"m","input":[[1,2],[3],[4,5]]}"#);
        for odd in [
            r#"{"model":"m"}"#,
            r#"{"model":"m","input":null}"#,
            r#"{"model":"m","input":[]}"#,
            r#"{"model":"m","input":{}}"#,
            r#"{"model":"m","input":[{}]}"#,
            r#"{"model":"m","input":7}"#,
        ] {
            assert_eq!(texts(odd), None, "{odd}");
        }
    }

    const ANSWER: &str = r#"{"object":"list", "data":[
        {"object":"embedding","index":1,"embedding":[0.10,-2e-3]},
        {"index":0,"embedding":"AAAA","object":"embedding"},
        {"object":"embedding","embedding":[3],"index":2}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7},"id":"x"}"#;

    #[test]
    fn an_answer_is_told_apart_by_its_numbers() {
        let told = tell_apart(ANSWER.as_bytes(), &[(1, Some(2)), (2, Some(5))]).expect("apart");
        assert_eq!(
            told[0],
            r#"{"object":"list","data":[{"index":0,"embedding":"AAAA","object":"embedding"}],"model":"m","usage":{"prompt_tokens":2,"total_tokens":2},"id":"x"}"#
        );
        let second: Value = serde_json::from_slice(&told[1]).expect("JSON");
        assert_eq!((&second["data"][0]["index"], &second["data"][1]["index"]), (&json!(0), &json!(1)));
        assert!(String::from_utf8_lossy(&told[1]).contains("[0.10,-2e-3]"), "digits are not touched");
        assert_eq!(second["usage"]["total_tokens"], 5);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_nobody_s() {
        let both = [(1, None), (1, None)];
        for bad in [
            ANSWER,
            "",
            "{}",
            r#"{"data":{}}"#,
            r#"{"data":[{"index":0}]}"#,
            r#"{"data":[{"index":0},{"index":0}]}"#,
            r#"{"data":[{"index":0},{"index":2}]}"#,
            r#"{"data":[{"index":0},{"index":-1}]}"#,
            r#"{"data":[{"index":0},{}]}"#,
            r#"{"data":[{"index":0},{"index":1}],"data":[]}"#,
            r#"{"data":[1,2]}"#,
        ] {
            assert_eq!(tell_apart(bad.as_bytes(), &both), Err(Fault::Garbled), "{bad}");
        }
        // Servers that number nothing keep the order.
        assert!(tell_apart(br#"{"data":[{"embedding":[1]},{"embedding":[2]}]}"#, &both).is_ok());
    }

    proptest! {
        #![proptest_config(fuzz::config(20_000))]

        #[test]
        fn shares_add_up_and_nobody_s_is_negative(
            whole in prop_oneof![0..100_i64, 0..=i64::MAX], weights in prop::collection::vec(0..=i64::MAX, 1..20),
        ) {
            let shares = shares(whole, &weights);
            prop_assert_eq!(shares.len(), weights.len());
            prop_assert!(shares.iter().all(|share| (0..=whole).contains(share)), "{:?}", shares);
            prop_assert_eq!(shares.iter().map(|share| i128::from(*share)).sum::<i128>(), i128::from(whole));
        }

        #[test]
        fn what_was_put_together_comes_apart_again(asked in prop::collection::vec(prop::collection::vec(0..1_000_u32, 1..4), 1..6)) {
            // A server that answers each text by its length in tokens.
            let requests = asked.iter().map(|tokens| Bytes::from(json!({ "model": "m", "input": [tokens] }).to_string()));
            let apart: Vec<Texts> = requests
                .map(|body| Texts::of(&Head::read(Wire::Embeddings, &body, Outside::default()).unwrap(), &body).unwrap())
                .collect();
            let body: Value = serde_json::from_slice(&Texts::together(&apart.iter().collect::<Vec<_>>())).unwrap();
            let inputs = body["input"].as_array().unwrap();
            let mut data: Vec<Value> =
                inputs.iter().enumerate().map(|(index, text)| json!({ "index": index, "embedding": text })).collect();
            data.reverse();
            let answer = json!({ "data": data, "usage": {} }).to_string();
            let counts: Vec<_> = apart.iter().map(|texts| (texts.count, Some(1))).collect();
            let told = tell_apart(answer.as_bytes(), &counts).unwrap();
            for (told, tokens) in told.iter().zip(&asked) {
                let told: Value = serde_json::from_slice(told).unwrap();
                prop_assert_eq!(&told["data"], &json!([{ "index": 0, "embedding": tokens }]));
            }
        }
    }
}
