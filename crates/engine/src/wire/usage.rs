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

/// What we believe of a claim: no less than half of what we counted ourselves, no more than twice what was reserved.
/// Also says whether that is something else than what was claimed.
///
/// `own` is what was read and written by our own count: a likely number, not an upper bound. `most` is what was set
/// aside for the call.
pub fn judge(claimed: Tokens, own: Tokens, most: Tokens) -> (Tokens, bool) {
    let mut believed = Tokens {
        input: claimed.input.max(0),
        output: claimed.output.max(0),
        reasoning: claimed.reasoning.max(0),
        cache_read: claimed.cache_read.max(0),
        cache_write_5m: claimed.cache_write_5m.max(0),
        cache_write_1h: claimed.cache_write_1h.max(0),
        audio_in: claimed.audio_in.max(0),
        audio_out: claimed.audio_out.max(0),
    };
    let Tokens { input, output, reasoning, cache_read, cache_write_5m, cache_write_1h, audio_in, audio_out } =
        &mut believed;
    fit([input, cache_read, cache_write_5m, cache_write_1h, audio_in], own.read(), most.read());
    fit([output, reasoning, audio_out], own.written(), most.written());
    (believed, believed != claimed)
}

/// Brings the sum of `classes`, none of which is negative, between half of `own` and twice `most`. What is missing is
/// added to the first; what is too much is taken from each by its share.
fn fit<const N: usize>(classes: [&mut i64; N], own: i64, most: i64) {
    let own = own.max(0);
    let least = i128::from(own / 2 + own % 2);
    let most = (i128::from(most.max(0)) * 2).max(least);
    let sum: i128 = classes.iter().map(|count| i128::from(**count)).sum();
    let wanted = sum.clamp(least, most);
    if wanted == sum {
        return;
    }
    let mut rest = wanted;
    let (first, others) = classes.into_iter().fold((None, Vec::with_capacity(N)), |(first, mut others), class| {
        if first.is_none() {
            return (Some(class), others);
        }
        others.push(class);
        (first, others)
    });
    if wanted < sum {
        for count in others {
            *count = whole(i128::from(*count) * wanted / sum);
            rest -= i128::from(*count);
        }
    } else {
        rest -= others.into_iter().map(|count| i128::from(*count)).sum::<i128>();
    }
    if let Some(first) = first {
        *first = whole(rest);
    }
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
}

impl Parts {
    fn read(usage: &Value) -> Option<Parts> {
        let written = |name: &str| number(&usage["cache_creation"][name]);
        let parts = Parts {
            input: number(&usage["input_tokens"]),
            output: number(&usage["output_tokens"]),
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
        Tokens {
            input: self.input.unwrap_or(0),
            output: self.output.unwrap_or(0),
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
    let [cache_read, cache_write_5m, audio_in] = shares(prompt, [cached, cache_write, read(&["audio_tokens"])]);

    let thought = written(&["reasoning_tokens"]);
    // Some count thoughts beside the answer, and only the total gives them away.
    let hidden = all.unwrap_or(0).saturating_sub(prompt.saturating_add(out));
    let beside = hidden > 0 && prompt >= 0 && out >= 0 && (thought == hidden || thought == 0);
    let out = if beside { out.saturating_add(hidden) } else { out };
    let thought = if beside { hidden } else { thought };
    let [reasoning, audio_out] = shares(out, [thought, written(&["audio_tokens"])]);

    Some(Tokens {
        input: prompt.saturating_sub(cache_read).saturating_sub(cache_write_5m).saturating_sub(audio_in),
        output: out.saturating_sub(reasoning).saturating_sub(audio_out),
        reasoning,
        cache_read,
        cache_write_5m,
        cache_write_1h: 0,
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
