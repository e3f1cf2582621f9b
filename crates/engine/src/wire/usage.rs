//! What an upstream says that a call used, and how far we believe it.
//!
//! Providers count the same things in different nests: OpenAI's cached tokens are part of its input, Anthropic's stand
//! beside it, Gemini's thoughts stand beside the answer, OpenAI's are part of it. [`read`] untangles that, so that no
//! token is in two classes, and [`judge`] holds the result against what we counted ourselves.

use salon_core::Tokens;
use serde_json::Value;

use super::Wire;

/// Reads a usage object, or finds it in the answer or the event that contains it.
///
/// The counts are the upstream's, however absurd: a negative one stays negative, one that is too large for us is the
/// largest there is. [`judge`] decides what becomes of them. `None` if nothing was stated.
pub fn read(wire: Wire, value: &Value) -> Option<Tokens> {
    Claim::read(wire, value).map(|claim| claim.tokens())
}

/// How soon the answer was served, where that is said with the usage. Anthropic's tiers are left out: all that they tell is
/// whether it was paid for beforehand.
pub(super) fn tier(wire: Wire, usage: &Value) -> Option<&str> {
    let names: &[&str] = match wire {
        Wire::Messages => &["speed"],
        Wire::Generate => &["serviceTier", "service_tier", "trafficType", "traffic_type"],
        _ => &[],
    };
    names.iter().find_map(|name| usage[name].as_str())
}

/// What we believe of a claim: no less than half of what we counted ourselves, no more than twice what was reserved.
/// Also says whether that is something else than what was claimed.
///
/// `own` is what was read and written by our own count: a likely number, not an upper bound. `most` is what was set
/// aside for the call.
pub fn judge(claimed: Tokens, own: Tokens, most: Tokens) -> (Tokens, bool) {
    let mut believed = claimed.floored();
    let Tokens { input, output, reasoning, cache_read, cache_write_5m, cache_write_1h, audio_in, audio_out } =
        &mut believed;
    fit([input, cache_read, cache_write_5m, cache_write_1h, audio_in], own.read(), most.read());
    fit([output, reasoning, audio_out], own.written(), most.written());
    (believed, believed != claimed)
}

/// Brings the sum of `classes`, none of which is negative, between half of `own` and twice `most`. What is missing is
/// added to the first; what is too much is taken from each by its share.
fn fit<const N: usize>(mut classes: [&mut i64; N], own: i64, most: i64) {
    let own = own.max(0);
    let least = i128::from(own / 2 + own % 2);
    let most = (i128::from(most.max(0)) * 2).max(least);
    let sum: i128 = classes.iter().map(|count| i128::from(**count)).sum();
    let wanted = sum.clamp(least, most);
    let Some((first, others)) = classes.split_first_mut().filter(|_| wanted != sum) else { return };
    let mut rest = wanted;
    for count in others {
        if wanted < sum {
            **count = whole(i128::from(**count) * wanted / sum);
        }
        rest -= i128::from(**count);
    }
    **first = whole(rest);
}

fn whole(count: i128) -> i64 {
    i64::try_from(count).unwrap_or(if count < 0 { i64::MIN } else { i64::MAX })
}

/// A statement of usage, or what several of them about one answer add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Each statement is about everything so far.
    Whole(Tokens),
    /// Anthropic's: the first says what is read, the later ones what is written by now, and either may repeat parts of
    /// the other, so the greatest of each counts.
    Parts(Parts),
}

/// The fields of Anthropic's usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    input: Option<i64>,
    output: Option<i64>,
    /// What of the output was thought.
    thinking: Option<i64>,
    cache_read: Option<i64>,
    cache_write: Option<i64>,
    cache_write_5m: Option<i64>,
    cache_write_1h: Option<i64>,
}

impl Claim {
    pub(super) fn read(wire: Wire, value: &Value) -> Option<Claim> {
        let usage = usage_in(wire, value)?;
        match wire {
            Wire::Messages => Parts::read(usage).map(Claim::Parts),
            Wire::Generate => gemini(usage).map(Claim::Whole),
            Wire::Chat | Wire::Completions | Wire::Responses | Wire::Embeddings | Wire::Midm => {
                openai(usage).map(Claim::Whole)
            }
        }
    }

    /// Takes a later statement about the same answer into account.
    pub(super) fn join(self, later: Claim) -> Claim {
        match (self, later) {
            (Claim::Parts(earlier), Claim::Parts(later)) => Claim::Parts(earlier.join(later)),
            // Servers that count along say more each time; one that says less in the end has forgotten something.
            (Claim::Whole(earlier), Claim::Whole(later)) if later.total() < earlier.total() => Claim::Whole(earlier),
            _ => later,
        }
    }

    pub(super) fn tokens(self) -> Tokens {
        match self {
            Claim::Whole(tokens) => tokens,
            Claim::Parts(parts) => parts.tokens(),
        }
    }

    /// What of it is repeated in other words: nobody has a use for less than nothing.
    pub(super) fn told(self) -> Tokens {
        self.tokens().floored()
    }
}

impl Parts {
    fn read(usage: &Value) -> Option<Parts> {
        let written = |name: &str| number(&usage["cache_creation"][name]);
        let parts = Parts {
            input: number(&usage["input_tokens"]),
            output: number(&usage["output_tokens"]),
            thinking: number(&usage["output_tokens_details"]["thinking_tokens"]),
            cache_read: number(&usage["cache_read_input_tokens"]),
            cache_write: number(&usage["cache_creation_input_tokens"]),
            cache_write_5m: written("ephemeral_5m_input_tokens"),
            cache_write_1h: written("ephemeral_1h_input_tokens"),
        };
        (parts != Parts::default()).then_some(parts)
    }

    fn join(self, later: Parts) -> Parts {
        Parts {
            input: self.input.max(later.input),
            output: self.output.max(later.output),
            thinking: self.thinking.max(later.thinking),
            cache_read: self.cache_read.max(later.cache_read),
            cache_write: self.cache_write.max(later.cache_write),
            cache_write_5m: self.cache_write_5m.max(later.cache_write_5m),
            cache_write_1h: self.cache_write_1h.max(later.cache_write_1h),
        }
    }

    fn tokens(self) -> Tokens {
        let (short, long) = (self.cache_write_5m.unwrap_or(0), self.cache_write_1h.unwrap_or(0));
        // What is not told apart was written for five minutes, which is the default.
        let untold = self.cache_write.unwrap_or(0).saturating_sub(short.saturating_add(long)).max(0);
        let output = self.output.unwrap_or(0);
        let [reasoning] = shares(output, [self.thinking.unwrap_or(0)]);
        Tokens {
            input: self.input.unwrap_or(0),
            output: output.saturating_sub(reasoning),
            reasoning,
            cache_read: self.cache_read.unwrap_or(0),
            cache_write_5m: short.saturating_add(untold),
            cache_write_1h: long,
            ..Tokens::default()
        }
    }
}

/// The usage object: the value itself, or what it contains under one of the names that usage goes by.
fn usage_in(wire: Wire, value: &Value) -> Option<&Value> {
    let names: &[&str] = match wire {
        Wire::Generate => &["usageMetadata", "usage_metadata"],
        _ => &["usage"],
    };
    let within = |value: &'_ Value| names.iter().find_map(|name| value.get(name).map(|_| *name));
    let holder = [Some(value), value.get("response"), value.get("message")].into_iter().flatten();
    for holder in holder {
        if let Some(name) = within(holder) {
            return holder.get(name).filter(|usage| usage.is_object());
        }
    }
    value.is_object().then_some(value)
}

/// Usage as OpenAI states it in chats (`prompt_tokens`) and in responses (`input_tokens`), and as others state it in
/// its manner.
fn openai(usage: &Value) -> Option<Tokens> {
    let first = |names: &[&str]| names.iter().find_map(|name| number(&usage[name]));
    let details = |nests: [&str; 2], names: &[&str]| {
        let nests = nests.map(|nest| &usage[nest]);
        nests.iter().find_map(|nest| names.iter().find_map(|name| number(&nest[name]))).unwrap_or(0)
    };
    let read = |names: &[&str]| details(["prompt_tokens_details", "input_tokens_details"], names);
    let written = |names: &[&str]| details(["completion_tokens_details", "output_tokens_details"], names);

    let all = first(&["total_tokens"]);
    let stated_out = first(&["completion_tokens", "output_tokens"]);
    let stated_in = first(&["prompt_tokens", "input_tokens"]);
    if stated_in.is_none() && stated_out.is_none() && all.is_none() {
        return None;
    }
    let out = stated_out.unwrap_or(0);
    let prompt = stated_in.or_else(|| all.map(|all| all.saturating_sub(out))).unwrap_or(0);

    let cached = match read(&["cached_tokens"]) {
        0 => first(&["prompt_cache_hit_tokens", "cached_tokens"]).unwrap_or(0),
        cached => cached,
    };
    let cache_write = read(&["cache_write_tokens", "cache_creation_tokens"]);
    let long = number(&usage["input_tokens_details"]["cache_write_tokens_details"]["ttl_12h_tokens"]).unwrap_or(0);
    let short = cache_write.saturating_sub(long);
    let parts = [cached, long, short, read(&["audio_tokens"])];
    let [cache_read, cache_write_1h, cache_write_5m, audio_in] = shares(prompt, parts);

    let thought = written(&["reasoning_tokens"]);
    // Some count thoughts beside the answer, and only the total gives them away.
    let hidden = all.unwrap_or(0).saturating_sub(prompt.saturating_add(out));
    let beside = hidden > 0 && prompt >= 0 && out >= 0 && (thought == hidden || thought == 0);
    let out = if beside { out.saturating_add(hidden) } else { out };
    let thought = if beside { hidden } else { thought };
    let [reasoning, audio_out] = shares(out, [thought, written(&["audio_tokens"])]);

    Some(Tokens {
        input: [cache_read, cache_write_5m, cache_write_1h, audio_in].into_iter().fold(prompt, i64::saturating_sub),
        output: out.saturating_sub(reasoning).saturating_sub(audio_out),
        reasoning,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        audio_in,
        audio_out,
    })
}

/// Usage as Gemini states it. The whole answer's in every chunk of a stream.
fn gemini(usage: &Value) -> Option<Tokens> {
    let field = |camel: &str, snake: &str| [camel, snake].into_iter().find_map(|name| usage.get(name));
    let count = |camel: &str, snake: &str| field(camel, snake).and_then(number);
    let audio = |camel: &str, snake: &str| {
        let list = field(camel, snake).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let heard = list.iter().filter(|entry| entry["modality"].as_str() == Some("AUDIO"));
        heard
            .filter_map(|entry| number(&entry["tokenCount"]).or_else(|| number(&entry["token_count"])))
            .fold(0, i64::saturating_add)
    };
    let prompt = count("promptTokenCount", "prompt_token_count");
    let answer = count("candidatesTokenCount", "candidates_token_count");
    let thoughts = count("thoughtsTokenCount", "thoughts_token_count");
    let tools = count("toolUsePromptTokenCount", "tool_use_prompt_token_count");
    if [prompt, answer, thoughts, tools].iter().all(Option::is_none) {
        return None;
    }
    let prompt = prompt.unwrap_or(0);
    let cached = count("cachedContentTokenCount", "cached_content_token_count").unwrap_or(0);
    // What was heard from the cache is cheap for being cached, so it is not counted as heard.
    let heard = audio("promptTokensDetails", "prompt_tokens_details")
        .saturating_sub(audio("cacheTokensDetails", "cache_tokens_details"));
    let [cache_read, audio_in] = shares(prompt, [cached, heard]);
    let answer = answer.unwrap_or(0);
    let [audio_out] = shares(answer, [audio("candidatesTokensDetails", "candidates_tokens_details")]);
    Some(Tokens {
        input: prompt.saturating_sub(cache_read).saturating_sub(audio_in).saturating_add(tools.unwrap_or(0)),
        output: answer.saturating_sub(audio_out),
        reasoning: thoughts.unwrap_or(0),
        cache_read,
        audio_in,
        audio_out,
        ..Tokens::default()
    })
}

/// Parts of `all`, cut down in order where they would be more than it.
fn shares<const N: usize>(all: i64, parts: [i64; N]) -> [i64; N] {
    let mut rest = all.max(0);
    parts.map(|part| {
        let part = part.clamp(0, rest);
        rest -= part;
        part
    })
}

/// A count: an integer, a float that some servers write instead, or digits in a string as in protobuf's JSON.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => {
            let large = || number.as_u64().map(|_| i64::MAX);
            // The cast saturates.
            number.as_i64().or_else(large).or_else(|| number.as_f64().map(|float| float as i64))
        }
        Value::String(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().unwrap_or(i64::MAX))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fuzz;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check(wire: Wire, usage: Value, expected: Tokens) {
        assert_eq!(read(wire, &usage), Some(expected), "{usage}");
    }

    #[test]
    fn openai_counts_what_is_cached_and_thought_within_the_rest() {
        check(
            Wire::Chat,
            json!({
                "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
                "prompt_tokens_details": { "cached_tokens": 1920, "audio_tokens": 6 },
                "completion_tokens_details": { "reasoning_tokens": 250, "audio_tokens": 10 },
            }),
            Tokens {
                input: 80,
                output: 40,
                reasoning: 250,
                cache_read: 1920,
                audio_in: 6,
                audio_out: 10,
                ..Tokens::default()
            },
        );
        check(
            Wire::Responses,
            json!({
                "input_tokens": 2600, "input_tokens_details": { "cached_tokens": 2000, "cache_write_tokens": 400 },
                "output_tokens": 120, "output_tokens_details": { "reasoning_tokens": 64 }, "total_tokens": 2720,
            }),
            Tokens {
                input: 200,
                output: 56,
                reasoning: 64,
                cache_read: 2000,
                cache_write_5m: 400,
                ..Tokens::default()
            },
        );
        check(
            Wire::Responses,
            json!({
                "input_tokens": 2600, "output_tokens": 120,
                "input_tokens_details": {
                    "cached_tokens": 2000, "cache_write_tokens": 400,
                    "cache_write_tokens_details": { "ttl_12h_tokens": 300, "ttl_30m_tokens": 100 },
                },
            }),
            Tokens { cache_read: 2000, cache_write_5m: 100, cache_write_1h: 300, ..Tokens::new(200, 120) },
        );
        check(Wire::Embeddings, json!({ "prompt_tokens": 9, "total_tokens": 9 }), Tokens::new(9, 0));
        check(Wire::Embeddings, json!({ "total_tokens": 9 }), Tokens::new(9, 0));
        check(
            Wire::Chat,
            json!({ "prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": null }),
            Tokens::new(3, 1),
        );
    }

    #[test]
    fn servers_like_openai_have_their_own_ways() {
        let cached = Tokens { input: 4, cache_read: 6, ..Tokens::new(0, 1) };
        check(Wire::Chat, json!({ "prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 6 }), cached);
        check(Wire::Chat, json!({ "prompt_tokens": 10, "completion_tokens": 1, "cached_tokens": 6 }), cached);
        let thoughts = Tokens { reasoning: 50, ..Tokens::new(10, 5) };
        check(
            Wire::Chat,
            json!({
                "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 65,
                "completion_tokens_details": { "reasoning_tokens": 50 },
            }),
            thoughts,
        );
        check(Wire::Chat, json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 65 }), thoughts);
        check(
            Wire::Chat,
            json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 99, "completion_tokens_details": { "reasoning_tokens": 2 } }),
            Tokens { reasoning: 2, ..Tokens::new(10, 3) },
        );
    }

    #[test]
    fn anthropic_counts_what_is_cached_beside_the_rest() {
        check(
            Wire::Messages,
            json!({
                "input_tokens": 12, "cache_creation_input_tokens": 300, "cache_read_input_tokens": 20_000,
                "cache_creation": { "ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200 },
                "output_tokens": 89, "service_tier": "standard", "server_tool_use": { "web_search_requests": 1 },
            }),
            Tokens { cache_read: 20_000, cache_write_5m: 100, cache_write_1h: 200, ..Tokens::new(12, 89) },
        );
        check(
            Wire::Messages,
            json!({ "input_tokens": 12, "cache_creation_input_tokens": 300, "output_tokens": 1, "cache_creation": null }),
            Tokens { cache_write_5m: 300, ..Tokens::new(12, 1) },
        );
        check(Wire::Messages, json!({ "output_tokens": 7 }), Tokens::new(0, 7));
        for (thinking, tokens) in [
            (json!(51), Tokens { reasoning: 51, ..Tokens::new(12, 38) }),
            (json!(99), Tokens { reasoning: 89, ..Tokens::new(12, 0) }),
            (json!(-1), Tokens::new(12, 89)),
            (json!(null), Tokens::new(12, 89)),
        ] {
            let details = json!({ "thinking_tokens": thinking });
            let usage = json!({ "input_tokens": 12, "output_tokens": 89, "output_tokens_details": details });
            check(Wire::Messages, usage, tokens);
        }
    }

    #[test]
    fn anthropics_two_statements_are_joined_without_counting_anything_twice() {
        let start = json!({
            "message": { "usage": {
                "input_tokens": 12, "output_tokens": 3, "cache_creation_input_tokens": 200,
                "cache_creation": { "ephemeral_1h_input_tokens": 200 },
            } },
        });
        let expected = Tokens { cache_write_1h: 200, ..Tokens::new(12, 89) };
        for delta in [
            json!({ "usage": { "output_tokens": 89 } }),
            json!({ "usage": { "input_tokens": 12, "cache_creation_input_tokens": 200, "output_tokens": 89 } }),
            json!({ "usage": { "input_tokens": 0, "cache_creation_input_tokens": null, "output_tokens": 89 } }),
        ] {
            let claims = [&start, &delta].map(|value| Claim::read(Wire::Messages, value).expect("a claim"));
            assert_eq!(claims[0].join(claims[1]).tokens(), expected, "{delta}");
        }
    }

    #[test]
    fn gemini_counts_thoughts_beside_the_answer_and_tools_beside_the_prompt() {
        let usage = json!({
            "promptTokenCount": 1000, "cachedContentTokenCount": 600, "candidatesTokenCount": 24, "thoughtsTokenCount": 51,
            "toolUsePromptTokenCount": 30, "totalTokenCount": 1105,
            "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": 900 }, { "modality": "AUDIO", "tokenCount": 100 }],
            "cacheTokensDetails": [{ "modality": "AUDIO", "tokenCount": 10 }],
            "candidatesTokensDetails": [{ "modality": "AUDIO", "tokenCount": 4 }],
        });
        let tokens = Tokens {
            input: 340,
            output: 20,
            reasoning: 51,
            cache_read: 600,
            audio_in: 90,
            audio_out: 4,
            ..Tokens::default()
        };
        assert_eq!(tokens.total(), 1105);
        check(Wire::Generate, json!({ "usageMetadata": usage }), tokens);
        check(Wire::Generate, usage, tokens);
        check(
            Wire::Generate,
            json!({ "prompt_token_count": "8", "thoughts_token_count": 2 }),
            Tokens { reasoning: 2, ..Tokens::new(8, 0) },
        );
    }

    #[test]
    fn usage_is_found_where_each_wire_puts_it() {
        let usage = json!({ "input_tokens": 3, "output_tokens": 4 });
        for value in [
            usage.clone(),
            json!({ "id": "x", "usage": usage }),
            json!({ "type": "response.completed", "response": { "usage": usage } }),
            json!({ "type": "message_start", "message": { "usage": usage } }),
        ] {
            check(Wire::Responses, value.clone(), Tokens::new(3, 4));
            check(Wire::Messages, value, Tokens::new(3, 4));
        }
        for nothing in
            [json!(null), json!({}), json!({ "usage": null, "input_tokens": 3 }), json!([3]), json!({ "usage": 7 })]
        {
            for wire in [Wire::Chat, Wire::Messages, Wire::Generate, Wire::Midm] {
                assert_eq!(read(wire, &nothing), None, "{nothing}");
            }
        }
    }

    #[test]
    fn absurd_counts_are_read_as_they_are() {
        let input = |count: Value| read(Wire::Chat, &json!({ "prompt_tokens": count })).map(|tokens| tokens.input);
        assert_eq!(input(json!(-5)), Some(-5));
        assert_eq!(input(json!(9_223_372_036_854_775_808_u64)), Some(i64::MAX));
        assert_eq!(input(json!(1e300)), Some(i64::MAX));
        assert_eq!(input(json!(12.0)), Some(12));
        assert_eq!(input(json!(true)), None);
        check(
            Wire::Chat,
            json!({ "prompt_tokens": 5, "prompt_tokens_details": { "cached_tokens": 99, "audio_tokens": -3 } }),
            Tokens { cache_read: 5, ..Tokens::default() },
        );
    }

    #[test]
    fn a_claim_within_reason_is_believed() {
        let own = Tokens::new(100, 40);
        let most = Tokens::new(200, 1_000);
        for claimed in [Tokens::new(50, 20), Tokens::new(400, 2_000), Tokens { cache_read: 90, reasoning: 5, ..own }] {
            assert_eq!(judge(claimed, own, most), (claimed, false));
        }
    }

    #[test]
    fn a_claim_beyond_reason_is_brought_back_and_marked() {
        let own = Tokens::new(101, 40);
        let most = Tokens::new(200, 1_000);
        for (claimed, believed) in [
            (Tokens::default(), Tokens::new(51, 20)),
            (Tokens::new(-5, 30), Tokens::new(51, 30)),
            (Tokens::new(i64::MAX, i64::MAX), Tokens::new(400, 2_000)),
            (Tokens { cache_read: 10, ..Tokens::new(0, 20) }, Tokens { cache_read: 10, ..Tokens::new(41, 20) }),
            (Tokens { cache_read: 600, ..Tokens::new(200, 20) }, Tokens { cache_read: 300, ..Tokens::new(100, 20) }),
            (Tokens { reasoning: -1, ..Tokens::new(100, 40) }, Tokens::new(100, 40)),
        ] {
            assert_eq!(judge(claimed, own, most), (believed, true), "{claimed:?}");
        }
        assert_eq!(
            judge(Tokens::new(3, 0), Tokens::new(9, 0), Tokens::default()),
            (Tokens::new(5, 0), true),
            "we counted it"
        );
    }

    fn counts() -> impl Strategy<Value = Tokens> {
        let count = || prop_oneof![0..1_000_i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
        prop::array::uniform8(count()).prop_map(|n| Tokens {
            input: n[0],
            output: n[1],
            reasoning: n[2],
            cache_read: n[3],
            cache_write_5m: n[4],
            cache_write_1h: n[5],
            audio_in: n[6],
            audio_out: n[7],
        })
    }

    proptest! {
        #![proptest_config(fuzz::config(50_000))]

        #[test]
        fn whatever_is_claimed_stays_within_what_was_counted_and_reserved(
            claimed in counts(), own in (0..1_000_000_i64, 0..1_000_000_i64), most in (0..1_000_000_i64, 0..1_000_000_i64),
        ) {
            let (own, most) = (Tokens::new(own.0, own.1), Tokens::new(most.0, most.1));
            let (believed, suspect) = judge(claimed, own, most);
            for (believed, own, most) in
                [(believed.read(), own.read(), most.read()), (believed.written(), own.written(), most.written())]
            {
                let least = (own + 1) / 2;
                prop_assert!((least..=(most * 2).max(least)).contains(&believed), "{} of {} and {}", believed, own, most);
            }
            prop_assert_eq!(suspect, believed != claimed);
            prop_assert_eq!(judge(believed, own, most), (believed, false), "nothing is left to mend");
        }

        #[test]
        fn parts_add_up_to_the_whole(prompt in 0..1_000_i64, out in 0..1_000_i64, parts in prop::array::uniform5(-10..1_500_i64)) {
            let usage = json!({
                "prompt_tokens": prompt, "completion_tokens": out,
                "prompt_tokens_details": { "cached_tokens": parts[0], "audio_tokens": parts[1], "cache_write_tokens": parts[2] },
                "completion_tokens_details": { "reasoning_tokens": parts[3], "audio_tokens": parts[4] },
            });
            let tokens = read(Wire::Chat, &usage).expect("usage");
            prop_assert_eq!((tokens.read(), tokens.written()), (prompt, out));
            prop_assert_eq!(judge(tokens, Tokens::default(), Tokens::new(1_000, 1_000)), (tokens, false), "no part is negative");
        }
    }
}
