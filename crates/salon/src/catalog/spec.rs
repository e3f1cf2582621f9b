//! What people write about upstreams and models: in `salon.toml`, in the database, on the command line.
//!
//! The shapes are the same everywhere. Unknown words are errors: a setting that does nothing would be believed.

use std::collections::BTreeMap;
use std::time::Duration;

use salon_core::{LongRates, Micros, Rates, Tariff, TierRates, Tiers};
use salon_engine::upstream::Settings;
use salon_engine::wire::Wire;
use serde::{Deserialize, Serialize};

/// Everything from one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    pub upstreams: BTreeMap<String, UpstreamSpec>,
    pub models: BTreeMap<String, ModelSpec>,
}

/// What an upstream is, and so which wires it speaks, where it is and how it wants its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    OpenAi,
    Anthropic,
    Gemini,
    /// Any server that speaks OpenAI's chat completions.
    Compatible,
    /// The `midm` LLM server.
    Midm,
    /// Says back what it hears; no network.
    Echo,
    /// Tells a story; no network.
    Storyteller,
}

impl Kind {
    pub const ALL: [Kind; 7] =
        [Kind::OpenAi, Kind::Anthropic, Kind::Gemini, Kind::Compatible, Kind::Midm, Kind::Echo, Kind::Storyteller];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::OpenAi => "openai",
            Kind::Anthropic => "anthropic",
            Kind::Gemini => "gemini",
            Kind::Compatible => "compatible",
            Kind::Midm => "midm",
            Kind::Echo => "echo",
            Kind::Storyteller => "storyteller",
        }
    }

    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether its answers are made in this process.
    pub fn is_in_house(self) -> bool {
        matches!(self, Kind::Echo | Kind::Storyteller)
    }

    /// Whose prices and whose keys are meant if nobody says otherwise.
    pub fn provider(self) -> Option<&'static str> {
        match self {
            Kind::OpenAi => Some("openai"),
            Kind::Anthropic => Some("anthropic"),
            Kind::Gemini => Some("google"),
            Kind::Compatible | Kind::Midm | Kind::Echo | Kind::Storyteller => None,
        }
    }

    pub fn base_url(self) -> Option<&'static str> {
        match self {
            Kind::OpenAi => Some("https://api.openai.com/v1"),
            Kind::Anthropic => Some("https://api.anthropic.com"),
            Kind::Gemini => Some("https://generativelanguage.googleapis.com"),
            Kind::Compatible | Kind::Midm | Kind::Echo | Kind::Storyteller => None,
        }
    }

    /// What it speaks, what others are best translated into first.
    pub fn speaks(self) -> &'static [Wire] {
        match self {
            Kind::OpenAi => &[Wire::Chat, Wire::Responses, Wire::Completions, Wire::Embeddings],
            Kind::Anthropic => &[Wire::Messages],
            Kind::Gemini => &[Wire::Generate],
            Kind::Compatible => &[Wire::Chat, Wire::Completions, Wire::Embeddings],
            Kind::Midm => &[Wire::Midm, Wire::Embeddings],
            Kind::Echo | Kind::Storyteller => &[Wire::Chat],
        }
    }
}

/// A wire by its name.
pub fn wire_named(text: &str) -> Option<Wire> {
    [Wire::Chat, Wire::Completions, Wire::Responses, Wire::Embeddings, Wire::Messages, Wire::Generate, Wire::Midm]
        .into_iter()
        .find(|wire| wire.as_str() == text)
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Everything before the call's own path. For OpenAI and those like it that includes `/v1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The *name* of the environment variable that holds the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyWord>,
    /// The header that carries the bare key, if not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_header: Option<String>,
    /// Whose prices count, and whose keys people bring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Sent with every request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The wires that it speaks, if not those of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speaks: Option<Vec<String>>,
    /// The one team that may use it; without one, everybody may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// How many requests it gets at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    /// Whether its models may be called as `NAME/model` without being listed. Yes, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any_model: Option<bool>,
    /// Whether names that nobody knows go here.
    #[serde(skip_serializing_if = "is_false")]
    pub catch_all: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_price: Option<UnknownPrice>,
    #[serde(skip_serializing_if = "Patience::is_usual")]
    pub patience: Patience,
    /// Switches it off without forgetting it.
    #[serde(skip_serializing_if = "is_false")]
    pub off: bool,
}

/// Where a key comes from that is in no environment variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyWord {
    None,
    /// The vault: the caller's own, else the team's.
    Vault,
    /// The caller's own and no other.
    Caller,
}

impl KeyWord {
    pub const ALL: [KeyWord; 3] = [KeyWord::None, KeyWord::Vault, KeyWord::Caller];

    pub fn as_str(self) -> &'static str {
        match self {
            KeyWord::None => "none",
            KeyWord::Vault => "vault",
            KeyWord::Caller => "caller",
        }
    }
}

/// Deadlines that differ from the usual ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patience {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_event_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_pause_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker_failures: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker_rest_ms: Option<u64>,
}

impl Patience {
    fn is_usual(&self) -> bool {
        *self == Patience::default()
    }

    pub fn settings(&self) -> Settings {
        let usual = Settings::default();
        // An hour is longer than anything that is meant seriously, and far from overflowing.
        let ms = |ms: Option<u64>, usual| ms.map_or(usual, |ms| Duration::from_millis(ms.clamp(1, 3_600_000)));
        Settings {
            connect: ms(self.connect_ms, usual.connect),
            first_event: ms(self.first_event_ms, usual.first_event),
            idle: ms(self.idle_ms, usual.idle),
            total: ms(self.total_ms, usual.total),
            longest_pause: ms(self.longest_pause_ms, usual.longest_pause),
            breaker_rest: ms(self.breaker_rest_ms, usual.breaker_rest),
            tries: self.tries.map_or(usual.tries, |tries| tries.clamp(1, 10)),
            breaker_failures: self.breaker_failures.map_or(usual.breaker_failures, |failures| failures.max(1)),
            ..usual
        }
    }
}

/// What a model costs whose price nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPrice {
    /// It is not called.
    Deny,
    /// As much as the dearest that is known.
    UpperBound,
    /// Nothing: a server of one's own.
    Free,
}

impl UnknownPrice {
    pub const ALL: [UnknownPrice; 3] = [UnknownPrice::Deny, UnknownPrice::UpperBound, UnknownPrice::Free];

    pub fn as_str(self) -> &'static str {
        match self {
            UnknownPrice::Deny => "deny",
            UnknownPrice::UpperBound => "upper_bound",
            UnknownPrice::Free => "free",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSpec {
    /// Where it is served; instead of a list, `upstream` (and `model`) name one place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deployments: Vec<DeploymentSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Its name there, if it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Models that are asked when none of the deployments answers, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<String>,
    /// Further names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<RatesSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_price: Option<UnknownPrice>,
    /// Tokens that fit in, question and answer together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<i64>,
    /// The longest answer in tokens, if the caller says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<i64>,
    /// The longest answer in tokens that a caller may ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_output: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub abilities: Vec<Ability>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quirks: Vec<Quirk>,
    /// How long the same answer is given to the same question, in seconds; without it, never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_s: Option<u64>,
    /// Who shares such answers; everybody has their own, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_for: Option<CacheFor>,
    /// Whether answers that somebody's own key paid for are kept as well, for that person alone.
    #[serde(skip_serializing_if = "is_false")]
    pub cache_own_keys: bool,
    /// How many texts of several small requests for embeddings are asked for in one call; 0 asks for each by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// The teams that may use it; without any, all may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub orgs: Vec<String>,
    /// Whether it is left out of lists.
    #[serde(skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// Switches it off without forgetting it.
    #[serde(skip_serializing_if = "is_false")]
    pub off: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeploymentSpec {
    pub upstream: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its share of the calls; 1, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ability {
    Tools,
    Images,
    Schema,
    Audio,
    Embeddings,
    Reasoning,
}

impl Ability {
    pub const ALL: [Ability; 6] =
        [Ability::Tools, Ability::Images, Ability::Schema, Ability::Audio, Ability::Embeddings, Ability::Reasoning];

    pub fn as_str(self) -> &'static str {
        match self {
            Ability::Tools => "tools",
            Ability::Images => "images",
            Ability::Schema => "schema",
            Ability::Audio => "audio",
            Ability::Embeddings => "embeddings",
            Ability::Reasoning => "reasoning",
        }
    }
}

/// Who is given an answer again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheFor {
    /// Whoever asked before.
    #[default]
    User,
    /// Everybody of the organisation.
    Org,
}

impl CacheFor {
    pub const ALL: [CacheFor; 2] = [CacheFor::User, CacheFor::Org];

    pub fn as_str(self) -> &'static str {
        match self {
            CacheFor::User => "user",
            CacheFor::Org => "org",
        }
    }
}

/// How a model bends its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quirk {
    /// The longest answer is called `max_completion_tokens`.
    MaxCompletionTokens,
    NoTemperature,
    /// It does not know `stream_options`.
    NoStreamOptions,
    /// Its system message is called `developer`.
    DeveloperRole,
    /// It takes instructions at the head of a conversation only.
    HeadOnly,
    /// It wants to be told what it thought before.
    ThoughtsBack,
}

impl Quirk {
    pub const ALL: [Quirk; 6] = [
        Quirk::MaxCompletionTokens,
        Quirk::NoTemperature,
        Quirk::NoStreamOptions,
        Quirk::DeveloperRole,
        Quirk::HeadOnly,
        Quirk::ThoughtsBack,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Quirk::MaxCompletionTokens => "max_completion_tokens",
            Quirk::NoTemperature => "no_temperature",
            Quirk::NoStreamOptions => "no_stream_options",
            Quirk::DeveloperRole => "developer_role",
            Quirk::HeadOnly => "head_only",
            Quirk::ThoughtsBack => "thoughts_back",
        }
    }
}

/// Prices as people write them: dollars for a million tokens, as text, so that nothing is rounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RatesSpec {
    pub input: String,
    pub output: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_5m: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_in: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_out: Option<String>,
    /// What a call costs that reads very much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<LongSpec>,
    /// What a call costs that is served sooner or later than others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiers: Option<Box<TiersSpec>>,
}

/// The prices of each tier that are known. None of them has tiers again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TiersSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flex: Option<RatesSpec>,
    #[serde(alias = "priority", skip_serializing_if = "Option::is_none")]
    pub fast: Option<RatesSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ultrafast: Option<RatesSpec>,
}

/// The prices of a call that reads more than `above` tokens, for all of its tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LongSpec {
    pub above: i64,
    pub input: String,
    pub output: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_5m: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<String>,
}

impl RatesSpec {
    /// A tariff as somebody would write it down: what follows from the rest is left out.
    pub fn of(tariff: &Tariff) -> RatesSpec {
        let differs = |price: i64, usual: i64| (price != usual).then(|| Micros(price).to_string());
        let rates = &tariff.usual;
        let follows = Rates::new(rates.input, rates.output);
        RatesSpec {
            input: Micros(rates.input).to_string(),
            output: Micros(rates.output).to_string(),
            cache_read: differs(rates.cache_read, follows.cache_read),
            cache_write_5m: differs(rates.cache_write_5m, follows.cache_write_5m),
            cache_write_1h: differs(rates.cache_write_1h, follows.cache_write_1h),
            reasoning: differs(rates.reasoning, follows.reasoning),
            audio_in: differs(rates.audio_in, follows.audio_in),
            audio_out: differs(rates.audio_out, follows.audio_out),
            long: tariff.long.map(|long| {
                let spec = RatesSpec::of(&long.rates.into());
                LongSpec {
                    above: long.above,
                    input: spec.input,
                    output: spec.output,
                    cache_read: spec.cache_read,
                    cache_write_5m: spec.cache_write_5m,
                    cache_write_1h: spec.cache_write_1h,
                }
            }),
            tiers: tariff.tiers.map(|tiers| {
                let spec = |rates: Option<TierRates>| rates.map(|rates| RatesSpec::of(&rates.into()));
                let Tiers { flex, fast, ultrafast } = tiers;
                Box::new(TiersSpec { flex: spec(flex), fast: spec(fast), ultrafast: spec(ultrafast) })
            }),
        }
    }

    /// `None` if one of them is no price: not a number, negative, or finer than a millionth; or if the border from which
    /// others count is none; or if a tier has tiers.
    pub fn tariff(&self) -> Option<Tariff> {
        let TierRates { usual, long } = self.one_tier()?;
        let tiers = match self.tiers.as_deref() {
            None => None,
            Some(TiersSpec { flex, fast, ultrafast }) => {
                let rates = |spec: &Option<RatesSpec>| match spec {
                    None => Some(None),
                    Some(spec) => spec.tiers.is_none().then(|| spec.one_tier())?.map(Some),
                };
                Some(Tiers { flex: rates(flex)?, fast: rates(fast)?, ultrafast: rates(ultrafast)? })
            }
        };
        Some(Tariff { usual, long, tiers })
    }

    fn one_tier(&self) -> Option<TierRates> {
        let long = match &self.long {
            None => None,
            Some(long) => {
                let spec = RatesSpec {
                    input: long.input.clone(),
                    output: long.output.clone(),
                    cache_read: long.cache_read.clone(),
                    cache_write_5m: long.cache_write_5m.clone(),
                    cache_write_1h: long.cache_write_1h.clone(),
                    ..RatesSpec::default()
                };
                Some(LongRates { above: Some(long.above).filter(|above| *above > 0)?, rates: spec.rates()? })
            }
        };
        Some(TierRates { usual: self.rates()?, long })
    }

    /// The usual ones.
    fn rates(&self) -> Option<Rates> {
        let price = |text: &str| Micros::parse(text).map(|price| price.0).filter(|price| *price >= 0);
        let usual = Rates::new(price(&self.input)?, price(&self.output)?);
        let or = |text: &Option<String>, usual: i64| text.as_deref().map_or(Some(usual), price);
        Some(Rates {
            input: usual.input,
            output: usual.output,
            reasoning: or(&self.reasoning, usual.reasoning)?,
            cache_read: or(&self.cache_read, usual.cache_read)?,
            cache_write_5m: or(&self.cache_write_5m, usual.cache_write_5m)?,
            cache_write_1h: or(&self.cache_write_1h, usual.cache_write_1h)?,
            audio_in: or(&self.audio_in, usual.audio_in)?,
            audio_out: or(&self.audio_out, usual.audio_out)?,
        })
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let text = r#"{"upstreams":{"openai":{"kind":"openai","key_env":"OPENAI_API_KEY"}},"models":{"fast":{"upstream":"openai","model":"gpt-4o-mini","rates":{"input":"0.15","output":"0.60","cache_read":"0.075"},"abilities":["tools","images"],"quirks":["max_completion_tokens"]}}}"#;
        let spec: Spec = serde_json::from_str(text).expect("a spec");
        assert_eq!(serde_json::to_string(&spec).expect("text"), text);
    }

    #[test]
    fn prices_are_exact_and_what_is_not_said_follows_from_what_is() {
        let spec = RatesSpec {
            input: "2.50".into(),
            output: "10".into(),
            cache_read: Some("1.25".into()),
            ..RatesSpec::default()
        };
        let rates = Rates { cache_read: 1_250_000, ..Rates::new(2_500_000, 10_000_000) };
        assert_eq!(spec.tariff(), Some(rates.into()));
        for bad in ["-1", "0.0000001", "1e3", "", "2,5"] {
            assert_eq!(RatesSpec { input: bad.into(), ..spec.clone() }.tariff(), None, "{bad}");
        }
        let long = LongSpec { above: 200_000, input: "5".into(), output: "15".into(), ..LongSpec::default() };
        let tiered = RatesSpec { long: Some(long.clone()), ..spec.clone() };
        let above = LongRates { above: 200_000, rates: Rates::new(5_000_000, 15_000_000) };
        assert_eq!(tiered.tariff(), Some(Tariff { long: Some(above), ..rates.into() }));
        let hurried = RatesSpec {
            tiers: Some(Box::new(TiersSpec { fast: Some(tiered.clone()), ..TiersSpec::default() })),
            ..spec.clone()
        };
        let fast = TierRates { usual: rates, long: Some(above) };
        let tiers = Tiers { fast: Some(fast), ..Tiers::default() };
        assert_eq!(hurried.tariff(), Some(Tariff { tiers: Some(tiers), ..rates.into() }));
        let nested = TiersSpec { flex: Some(hurried.clone()), ..TiersSpec::default() };
        assert_eq!(RatesSpec { tiers: Some(Box::new(nested)), ..spec.clone() }.tariff(), None, "a tier has no tiers");
        for spec in [&spec, &tiered, &hurried] {
            let tariff = spec.tariff().expect("a tariff");
            let written = RatesSpec::of(&tariff);
            assert_eq!((written.tariff(), &written.cache_write_1h), (Some(tariff), &None), "what follows is not said");
        }
        for bad in [LongSpec { above: 0, ..long.clone() }, LongSpec { input: "x".into(), ..long }] {
            assert_eq!(RatesSpec { long: Some(bad), ..spec.clone() }.tariff(), None);
        }
    }

    #[test]
    fn misspelt_words_are_errors() {
        assert!(serde_json::from_str::<Spec>(r#"{"models":{"x":{"upstrem":"openai"}}}"#).is_err());
        assert!(serde_json::from_str::<Spec>(r#"{"upstreams":{"x":{"kind":"openay"}}}"#).is_err());
    }
}
