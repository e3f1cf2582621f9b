//! Money in whole millionths of a dollar, tokens by what they cost, and the one multiplication between the two.
//!
//! There is no float anywhere near money. A price is micro-dollars for a million tokens, so `$2.50 / 1M` is `2_500_000`;
//! a cost is summed exactly and rounded up once, so that parts never add up to less than the whole.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Millionths of a dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Micros(pub i64);

impl Micros {
    pub const ZERO: Micros = Micros(0);

    /// Reads dollars as people write them, such as `12`, `0.05` or `1.000001`. More than six decimals is an error, not a
    /// rounding.
    pub fn parse(dollars: &str) -> Option<Micros> {
        let (sign, digits) = match dollars.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, dollars),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty()
            || !plain(whole)
            || !plain(part)
            || part.len() > 6
            || (digits.contains('.') && part.is_empty())
        {
            return None;
        }
        let whole: i64 = whole.parse().ok()?;
        let part: i64 = format!("{part:0<6}").parse().ok()?;
        whole.checked_mul(1_000_000)?.checked_add(part)?.checked_mul(sign).map(Micros)
    }
}

impl fmt::Display for Micros {
    /// Dollars with as many decimals as there are, two at least: `0.05`, `12.00`, `0.000125`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = self.0.unsigned_abs();
        let mut part = format!("{:06}", amount % 1_000_000);
        while part.len() > 2 && part.ends_with('0') {
            part.pop();
        }
        write!(f, "{}{}.{part}", if self.0 < 0 { "-" } else { "" }, amount / 1_000_000)
    }
}

impl Add for Micros {
    type Output = Micros;

    fn add(self, other: Micros) -> Micros {
        Micros(self.0.saturating_add(other.0))
    }
}

impl Sub for Micros {
    type Output = Micros;

    fn sub(self, other: Micros) -> Micros {
        Micros(self.0.saturating_sub(other.0))
    }
}

impl Sum for Micros {
    fn sum<I: Iterator<Item = Micros>>(amounts: I) -> Micros {
        amounts.fold(Micros::ZERO, Add::add)
    }
}

/// What a call used, in the classes that have prices of their own. No token is in two classes.
///
/// Providers nest them differently (OpenAI counts cached tokens within the input, Anthropic beside it); whoever reads a
/// wire untangles that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tokens {
    /// Read, and neither from nor into a cache, and no audio.
    pub input: i64,
    /// Written, thoughts and audio not counted.
    pub output: i64,
    /// Thoughts, where the provider tells them apart.
    pub reasoning: i64,
    pub cache_read: i64,
    pub cache_write_5m: i64,
    pub cache_write_1h: i64,
    pub audio_in: i64,
    pub audio_out: i64,
}

impl Tokens {
    pub fn new(input: i64, output: i64) -> Tokens {
        Tokens { input, output, ..Tokens::default() }
    }

    /// Everything that was read.
    pub fn read(&self) -> i64 {
        [self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h, self.audio_in]
            .into_iter()
            .fold(0, i64::saturating_add)
    }

    /// Everything that was written.
    pub fn written(&self) -> i64 {
        self.output.saturating_add(self.reasoning).saturating_add(self.audio_out)
    }

    pub fn total(&self) -> i64 {
        self.read().saturating_add(self.written())
    }

    /// The same with zero for whatever is less.
    pub fn floored(self) -> Tokens {
        Tokens {
            input: self.input.max(0),
            output: self.output.max(0),
            reasoning: self.reasoning.max(0),
            cache_read: self.cache_read.max(0),
            cache_write_5m: self.cache_write_5m.max(0),
            cache_write_1h: self.cache_write_1h.max(0),
            audio_in: self.audio_in.max(0),
            audio_out: self.audio_out.max(0),
        }
    }
}

/// Prices: micro-dollars for a million tokens of each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rates {
    pub input: i64,
    pub output: i64,
    pub reasoning: i64,
    pub cache_read: i64,
    pub cache_write_5m: i64,
    pub cache_write_1h: i64,
    pub audio_in: i64,
    pub audio_out: i64,
}

impl Rates {
    /// Two prices, and the usual meaning of the others: thoughts are output, what a cache has to do with is input.
    pub fn new(input: i64, output: i64) -> Rates {
        Rates {
            input,
            output,
            reasoning: output,
            cache_read: input,
            cache_write_5m: input,
            cache_write_1h: input,
            audio_in: input,
            audio_out: output,
        }
    }

    /// The dearer of each class.
    pub fn dearer(&self, other: &Rates) -> Rates {
        Rates {
            input: self.input.max(other.input),
            output: self.output.max(other.output),
            reasoning: self.reasoning.max(other.reasoning),
            cache_read: self.cache_read.max(other.cache_read),
            cache_write_5m: self.cache_write_5m.max(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.max(other.cache_write_1h),
            audio_in: self.audio_in.max(other.audio_in),
            audio_out: self.audio_out.max(other.audio_out),
        }
    }

    /// What these tokens cost, rounded up to a micro-dollar. Negative counts cost nothing.
    pub fn cost(&self, tokens: &Tokens) -> Micros {
        let parts = [
            (tokens.input, self.input),
            (tokens.output, self.output),
            (tokens.reasoning, self.reasoning),
            (tokens.cache_read, self.cache_read),
            (tokens.cache_write_5m, self.cache_write_5m),
            (tokens.cache_write_1h, self.cache_write_1h),
            (tokens.audio_in, self.audio_in),
            (tokens.audio_out, self.audio_out),
        ];
        let sum: i128 = parts.into_iter().map(|(count, rate)| i128::from(count.max(0)) * i128::from(rate.max(0))).sum();
        Micros(i64::try_from((sum + 999_999) / 1_000_000).unwrap_or(i64::MAX))
    }

    /// The most that a call can cost which reads at most `input` and writes at most `output` tokens, of whatever class.
    pub fn most(&self, input: i64, output: i64) -> Micros {
        let dearest = |rates: &[i64]| rates.iter().copied().max().unwrap_or_default();
        let read = dearest(&[self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h, self.audio_in]);
        let write = dearest(&[self.output, self.reasoning, self.audio_out]);
        Rates::new(read, write).cost(&Tokens::new(input, output))
    }
}

/// What a model costs: its usual prices, those of a call that reads very much, and those of calls that are served sooner or
/// later than others, where a provider asks others for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tariff {
    pub usual: Rates,
    pub long: Option<LongRates>,
    /// `None` where everything costs the same, however it is served.
    pub tiers: Option<Tiers>,
}

/// The prices of a call that reads more than so many tokens, for all of its tokens: those below the border, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LongRates {
    pub above: i64,
    pub rates: Rates,
}

/// The prices of each tier, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tiers {
    pub flex: Option<TierRates>,
    pub fast: Option<TierRates>,
    pub ultrafast: Option<TierRates>,
}

/// What a call costs at a tier, and one there that reads very much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TierRates {
    pub usual: Rates,
    pub long: Option<LongRates>,
}

/// How soon a call is served, where providers ask prices of their own for that. In the order of what they ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// When there is room.
    Flex,
    Usual,
    /// Before others. It is called `priority` as well.
    Fast,
    Ultrafast,
    /// By a name that says nothing here.
    Other,
}

impl Tier {
    /// What is meant by a name, in a request or in an answer. `None` if it leaves that to the provider.
    pub fn read(name: &str) -> Option<Tier> {
        // Google's enums, in full and of Vertex. Every piece of a stream may say it, so nothing is copied.
        let without = |prefix: &str| {
            let (start, rest) = name.split_at_checked(prefix.len())?;
            start.eq_ignore_ascii_case(prefix).then_some(rest)
        };
        let name = without("service_tier_").or_else(|| without("on_demand_")).unwrap_or(name);
        let known = TIERS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
        known.map_or(Some(Tier::Other), |(_, tier)| *tier)
    }
}

/// What tiers are called.
const TIERS: [(&str, Option<Tier>); 15] = [
    ("", None),
    ("auto", None),
    ("unspecified", None),
    ("traffic_type_unspecified", None),
    ("default", Some(Tier::Usual)),
    ("standard", Some(Tier::Usual)),
    ("standard_only", Some(Tier::Usual)),
    ("on_demand", Some(Tier::Usual)),
    // What was paid for beforehand, or comes at a quiet hour, costs no more than usual.
    ("scale", Some(Tier::Usual)),
    ("provisioned_throughput", Some(Tier::Usual)),
    ("offpeak", Some(Tier::Usual)),
    ("flex", Some(Tier::Flex)),
    ("fast", Some(Tier::Fast)),
    ("priority", Some(Tier::Fast)),
    ("ultrafast", Some(Tier::Ultrafast)),
];

impl From<Rates> for Tariff {
    fn from(usual: Rates) -> Tariff {
        Tariff { usual, ..Tariff::default() }
    }
}

impl From<TierRates> for Tariff {
    fn from(TierRates { usual, long }: TierRates) -> Tariff {
        Tariff { usual, long, tiers: None }
    }
}

impl Tariff {
    /// What calls of a tier cost, if that is known.
    pub fn at(&self, tier: Tier) -> Option<Tariff> {
        let usual = Tariff { tiers: None, ..*self };
        let Some(tiers) = &self.tiers else { return Some(usual) };
        match tier {
            Tier::Usual => Some(usual),
            // Nobody asks more of those who wait.
            Tier::Flex => Some(tiers.flex.map_or(usual, Tariff::from)),
            Tier::Fast => tiers.fast.map(Tariff::from),
            Tier::Ultrafast => tiers.ultrafast.map(Tariff::from),
            Tier::Other => None,
        }
    }

    /// Is at least as dear as every tier whose price is known.
    pub fn dearest(&self) -> Tariff {
        let known = [Tier::Flex, Tier::Usual, Tier::Fast, Tier::Ultrafast].into_iter().filter_map(|tier| self.at(tier));
        known.reduce(|one, other| one.dearer(&other)).unwrap_or_default()
    }

    /// The same where nothing is kept in a cache for long.
    pub fn kept_shortly(&self) -> Tariff {
        let short = |rates: Rates| Rates { cache_write_1h: rates.cache_write_5m, ..rates };
        let long = self.long.map(|long| LongRates { rates: short(long.rates), ..long });
        Tariff { usual: short(self.usual), long, ..*self }
    }

    /// The prices of a call that reads so many tokens, of whatever class, at the usual tier.
    pub fn of(&self, read: i64) -> &Rates {
        match &self.long {
            Some(long) if read > long.above => &long.rates,
            _ => &self.usual,
        }
    }

    /// See [`Rates::cost`].
    pub fn cost(&self, tokens: &Tokens) -> Micros {
        self.of(tokens.read()).cost(tokens)
    }

    /// See [`Rates::most`]: with the dearest prices that come into question at the usual tier.
    pub fn most(&self, input: i64, output: i64) -> Micros {
        self.usual.most(input, output).max(self.of(input).most(input, output))
    }

    /// Is at least as dear as either, whatever is read, at each tier whose price is known of one of them.
    pub fn dearer(&self, other: &Tariff) -> Tariff {
        let long =
            [self.long, other.long].into_iter().flatten().min_by_key(|long| long.above).map(|nearest| LongRates {
                above: nearest.above,
                rates: [self, other]
                    .into_iter()
                    .flat_map(|tariff| [Some(tariff.usual), tariff.long.map(|long| long.rates)])
                    .flatten()
                    .fold(Rates::default(), |dearest, rates| dearest.dearer(&rates)),
            });
        let at = |tier| {
            let known = [self, other].into_iter().filter_map(|tariff| tariff.at(tier));
            let dearer = known.reduce(|one, other| one.dearer(&other))?;
            Some(TierRates { usual: dearer.usual, long: dearer.long })
        };
        let tiers = self.tiers.or(other.tiers).map(|_| Tiers {
            flex: at(Tier::Flex),
            fast: at(Tier::Fast),
            ultrafast: at(Tier::Ultrafast),
        });
        Tariff { usual: self.usual.dearer(&other.usual), long, tiers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dollars_are_read_to_the_millionth_and_not_rounded() {
        for (text, micros) in
            [("0", 0), ("12", 12_000_000), ("0.05", 50_000), ("1.000001", 1_000_001), ("-2.5", -2_500_000)]
        {
            assert_eq!(Micros::parse(text), Some(Micros(micros)), "{text}");
        }
        for text in ["", ".", "1.", ".5", "1.0000001", "1e3", "+1", "1,5", " 1", "--1", "99999999999999"] {
            assert_eq!(Micros::parse(text), None, "{text}");
        }
    }

    #[test]
    fn dollars_are_shown_with_two_decimals_at_least() {
        for (micros, text) in
            [(0, "0.00"), (50_000, "0.05"), (125, "0.000125"), (12_000_000, "12.00"), (-1, "-0.000001")]
        {
            assert_eq!(Micros(micros).to_string(), text);
        }
    }

    #[test]
    fn a_cost_is_exact_and_rounded_up_once() {
        let rates = Rates { cache_read: 250_000, ..Rates::new(2_500_000, 10_000_000) };
        assert_eq!(rates.cost(&Tokens::new(1_000_000, 0)), Micros(2_500_000));
        assert_eq!(rates.cost(&Tokens::new(1, 0)), Micros(3), "2.5 millionths");
        assert_eq!(rates.cost(&Tokens { cache_read: 4, ..Tokens::new(2, 1) }), Micros(16));
        assert_eq!(rates.cost(&Tokens::new(-5, -5)), Micros::ZERO);
        assert_eq!(Rates::new(i64::MAX, i64::MAX).cost(&Tokens::new(i64::MAX, i64::MAX)), Micros(i64::MAX));
    }

    fn counts() -> impl Strategy<Value = Tokens> {
        prop::array::uniform8(0..1_000_000_i64).prop_map(|n| Tokens {
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

    fn rates() -> impl Strategy<Value = Rates> {
        prop::array::uniform8(0..100_000_000_i64).prop_map(|n| Rates {
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

    fn tier_rates() -> impl Strategy<Value = TierRates> {
        (rates(), prop::option::of((0..5_000_000_i64, rates())))
            .prop_map(|(usual, long)| TierRates { usual, long: long.map(|(above, rates)| LongRates { above, rates }) })
    }

    fn tariff() -> impl Strategy<Value = Tariff> {
        let known = || prop::option::of(tier_rates());
        let tiers = (known(), known(), known()).prop_map(|(flex, fast, ultrafast)| Tiers { flex, fast, ultrafast });
        (tier_rates(), prop::option::of(tiers)).prop_map(|(TierRates { usual, long }, tiers)| Tariff {
            usual,
            long,
            tiers,
        })
    }

    fn tier() -> impl Strategy<Value = Tier> {
        prop::sample::select(&[Tier::Usual, Tier::Flex, Tier::Fast, Tier::Ultrafast, Tier::Other])
    }

    #[test]
    fn above_the_border_every_token_costs_more() {
        let long = LongRates { above: 200_000, rates: Rates::new(2_500_000, 15_000_000) };
        let tariff = Tariff { long: Some(long), ..Rates::new(1_250_000, 10_000_000).into() };
        assert_eq!(tariff.cost(&Tokens::new(200_000, 1_000)), Micros(250_000 + 10_000));
        assert_eq!(tariff.cost(&Tokens::new(200_001, 1_000)), Micros(500_003 + 15_000));
        let cached = Tokens { cache_read: 200_000, ..Tokens::new(1, 0) };
        assert_eq!(tariff.cost(&cached), Micros(500_003), "what came from a cache was read as well");
        assert_eq!(tariff.most(200_000, 0), Micros(250_000));
        assert_eq!(tariff.most(200_001, 0), Micros(500_003));
    }

    #[test]
    fn a_tier_costs_what_is_known_of_it() {
        let rates = |input| Rates::new(input, 10 * input);
        let fast = TierRates { usual: rates(4), long: None };
        let tiers = Tiers { fast: Some(fast), ..Tiers::default() };
        let tariff = Tariff { tiers: Some(tiers), ..rates(2).into() };
        assert_eq!(tariff.at(Tier::Usual), Some(rates(2).into()));
        assert_eq!(tariff.at(Tier::Fast), Some(rates(4).into()));
        assert_eq!(tariff.at(Tier::Flex), Some(rates(2).into()), "the usual price is its upper bound");
        assert_eq!((tariff.at(Tier::Ultrafast), tariff.at(Tier::Other)), (None, None));
        for tier in [Tier::Usual, Tier::Flex, Tier::Fast, Tier::Ultrafast, Tier::Other] {
            assert_eq!(Tariff::from(rates(2)).at(tier), Some(rates(2).into()), "one price for all: {tier:?}");
        }
    }

    #[test]
    fn tiers_go_by_several_names() {
        for (name, tier) in [
            ("auto", None),
            ("SERVICE_TIER_UNSPECIFIED", None),
            ("default", Some(Tier::Usual)),
            ("standard_only", Some(Tier::Usual)),
            ("ON_DEMAND", Some(Tier::Usual)),
            ("flex", Some(Tier::Flex)),
            ("ON_DEMAND_FLEX", Some(Tier::Flex)),
            ("priority", Some(Tier::Fast)),
            ("fast", Some(Tier::Fast)),
            ("SERVICE_TIER_PRIORITY", Some(Tier::Fast)),
            ("ultrafast", Some(Tier::Ultrafast)),
            ("warp", Some(Tier::Other)),
        ] {
            assert_eq!(Tier::read(name), tier, "{name}");
        }
    }

    proptest! {
        #[test]
        fn nothing_costs_more_than_the_most_of_its_tariff(
            tokens in counts(), tariff in tariff(), more in 0..1_000_000_i64, longer in 0..1_000_000_i64,
        ) {
            let cost = tariff.cost(&tokens);
            prop_assert!(cost <= tariff.most(tokens.read(), tokens.written()));
            // Whoever reads and writes less than was set aside for him pays no more.
            prop_assert!(cost <= tariff.most(tokens.read() + more, tokens.written() + longer));
        }

        #[test]
        fn the_dearer_of_two_is_dearer_than_each(
            one in tariff(), other in tariff(), tokens in counts(), tier in tier(),
        ) {
            let dearer = one.dearer(&other);
            prop_assert!(dearer.cost(&tokens) >= one.cost(&tokens).max(other.cost(&tokens)));
            for at in [one.at(tier), other.at(tier)].into_iter().flatten().filter(|_| tier != Tier::Other) {
                prop_assert!(dearer.at(tier).expect("known of one").cost(&tokens) >= at.cost(&tokens));
            }
        }

        #[test]
        fn the_dearest_tier_is_dearer_than_each(tariff in tariff(), tokens in counts(), tier in tier()) {
            let cost = tariff.at(tier).map_or(Micros::ZERO, |tariff| tariff.cost(&tokens));
            prop_assert!(tariff.dearest().cost(&tokens) >= cost.max(tariff.cost(&tokens)));
        }

        #[test]
        fn nothing_costs_more_than_the_most(tokens in counts(), rates in rates()) {
            prop_assert!(rates.cost(&tokens) <= rates.most(tokens.read(), tokens.written()));
        }

        #[test]
        fn what_is_shown_is_read_again(micros in any::<i32>()) {
            let amount = Micros(i64::from(micros));
            prop_assert_eq!(Micros::parse(&amount.to_string()), Some(amount));
        }
    }
}
