//! What models cost: a dated list that ships with the program, and what stands in its place or beside it.
//!
//! A price belongs to one provider's one model from one day on. It is found by exactly these three; a name that only
//! looks like another has no price.

use std::collections::HashMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use salon_core::Time;
use salon_core::money::Tariff;
use serde::Deserialize;
use thiserror::Error;

use super::spec::{LongSpec, RatesSpec, TiersSpec};

/// The list that ships with this program.
const SHIPPED: &str = include_str!("prices.toml");

/// Everything that is known about prices.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    /// By provider, then model; of each the dates, oldest first.
    known: HashMap<String, HashMap<String, Vec<(Time, Tariff)>>>,
}

/// What is wrong with a list of prices.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadPrices {
    #[error("the list of prices cannot be understood: {0}")]
    Unreadable(String),
    #[error("the price of {provider}'s {model} from {valid_from}: {why}")]
    Wrong { provider: String, model: String, valid_from: String, code: &'static str, why: &'static str },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    price: Vec<Entry>,
}

/// [`RatesSpec`]'s fields stand here once more because a flattened struct would let unknown ones pass.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    provider: String,
    model: String,
    valid_from: String,
    input: String,
    output: String,
    cache_read: Option<String>,
    cache_write_5m: Option<String>,
    cache_write_1h: Option<String>,
    reasoning: Option<String>,
    audio_in: Option<String>,
    audio_out: Option<String>,
    long: Option<LongSpec>,
    tiers: Option<Box<TiersSpec>>,
}

impl Entry {
    fn rates(self) -> RatesSpec {
        RatesSpec {
            input: self.input,
            output: self.output,
            cache_read: self.cache_read,
            cache_write_5m: self.cache_write_5m,
            cache_write_1h: self.cache_write_1h,
            reasoning: self.reasoning,
            audio_in: self.audio_in,
            audio_out: self.audio_out,
            long: self.long,
            tiers: self.tiers,
        }
    }
}

impl Prices {
    pub fn shipped() -> Prices {
        Prices::parse(SHIPPED).expect("a test reads the shipped list")
    }

    /// Reads a list in the form of the shipped one.
    pub fn parse(text: &str) -> Result<Prices, BadPrices> {
        let file: File = toml::from_str(text).map_err(|error| BadPrices::Unreadable(error.message().to_owned()))?;
        let mut prices = Prices::default();
        for entry in file.price {
            let (provider, model, valid_from) = (entry.provider.clone(), entry.model.clone(), entry.valid_from.clone());
            prices.set(&provider, &model, &valid_from, &entry.rates())?;
        }
        Ok(prices)
    }

    /// Adds a price, in the place of one of the same day.
    pub fn set(&mut self, provider: &str, model: &str, valid_from: &str, rates: &RatesSpec) -> Result<(), BadPrices> {
        let wrong = |code, why| BadPrices::Wrong {
            provider: provider.to_owned(),
            model: model.to_owned(),
            valid_from: valid_from.to_owned(),
            code,
            why,
        };
        if !super::is_name(provider) || !super::is_name(model) {
            return Err(wrong("name", "that is no name"));
        }
        let from = midnight(valid_from).ok_or_else(|| wrong("day", "a day is written like 2026-11-21"))?;
        let mut rates = rates.tariff().ok_or_else(|| wrong("price", "a price is in dollars, like 2.50"))?;
        // What a provider asks of those who are in a hurry is not known from what it usually asks.
        rates.tiers.get_or_insert_default();
        let dated = self.known.entry(provider.to_owned()).or_default().entry(model.to_owned()).or_default();
        match dated.binary_search_by_key(&from, |(from, _)| *from) {
            Ok(at) => dated[at].1 = rates,
            Err(at) => dated.insert(at, (from, rates)),
        }
        Ok(())
    }

    /// What the model costs now: the price of the latest day that has come.
    pub fn find(&self, provider: &str, model: &str, now: Time) -> Option<Tariff> {
        current(self.known.get(provider)?.get(model)?, now)
    }

    /// What the model costs on a day, written like 2026-11-21.
    pub fn on(&self, provider: &str, model: &str, day: &str) -> Option<Tariff> {
        self.find(provider, model, midnight(day)?)
    }

    /// The dearest of each class that the provider has now, at each tier; of all, if the provider is not known.
    pub fn dearest(&self, provider: &str, now: Time) -> Option<Tariff> {
        let of = |models: &HashMap<String, Vec<(Time, Tariff)>>| {
            models.values().filter_map(|dated| current(dated, now)).reduce(dearer)
        };
        match self.known.get(provider) {
            Some(models) => of(models),
            None => self.known.values().filter_map(of).reduce(dearer),
        }
    }

    /// The provider's models that have a price now, in the order of their names.
    pub fn list(&self, provider: &str, now: Time) -> Vec<(&str, Tariff)> {
        let Some(models) = self.known.get(provider) else { return Vec::new() };
        let mut list: Vec<_> =
            models.iter().filter_map(|(model, dated)| Some((model.as_str(), current(dated, now)?))).collect();
        list.sort_unstable_by_key(|(model, _)| *model);
        list
    }

    /// Every price there is with the day from which it counts, in the order of provider, model and day.
    pub fn all(&self) -> Vec<(&str, &str, Time, Tariff)> {
        let models = self.known.iter().flat_map(|(provider, models)| models.iter().map(move |of| (provider, of)));
        let mut all: Vec<_> = models
            .flat_map(|(provider, (model, dated))| {
                dated.iter().map(move |(from, tariff)| (provider.as_str(), model.as_str(), *from, *tariff))
            })
            .collect();
        all.sort_unstable_by_key(|(provider, model, from, _)| (*provider, *model, *from));
        all
    }

    /// Which providers have a price for this model now.
    pub fn providers_of(&self, model: &str, now: Time) -> Vec<&str> {
        let has = |models: &HashMap<String, Vec<(Time, Tariff)>>| {
            models.get(model).is_some_and(|dated| current(dated, now).is_some())
        };
        let mut providers: Vec<_> =
            self.known.iter().filter(|(_, models)| has(models)).map(|(provider, _)| provider.as_str()).collect();
        providers.sort_unstable();
        providers
    }
}

fn current(dated: &[(Time, Tariff)], now: Time) -> Option<Tariff> {
    let after = dated.partition_point(|(from, _)| *from <= now);
    after.checked_sub(1).map(|at| dated[at].1)
}

fn dearer(one: Tariff, other: Tariff) -> Tariff {
    one.dearer(&other)
}

/// The beginning of a day in UTC.
fn midnight(day: &str) -> Option<Time> {
    // Only this form: a list that is sorted by its text is then sorted by time.
    let date: Date = day.parse().ok().filter(|date: &Date| date.to_string() == day)?;
    Some(Time(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use salon_core::{Tier, Tiers};

    use super::*;

    fn rates(input: &str, output: &str) -> RatesSpec {
        RatesSpec { input: input.to_owned(), output: output.to_owned(), ..RatesSpec::default() }
    }

    fn day(text: &str) -> Time {
        midnight(text).expect(text)
    }

    #[test]
    fn the_shipped_list_is_sorted_without_repetition_and_above_zero() {
        let file: File = toml::from_str(SHIPPED).expect("a list");
        let keys: Vec<_> = file.price.iter().map(|entry| (&entry.provider, &entry.model, &entry.valid_from)).collect();
        assert!(keys.is_sorted_by(|one, next| one < next), "out of order, or twice the same");
        for entry in file.price {
            let name = format!("{}/{}", entry.provider, entry.model);
            let Tariff { usual: rates, long, tiers } = entry.rates().tariff().expect(&name);
            if let Some(long) = long {
                assert!(long.rates.input > rates.input && long.rates.output > rates.output, "{name}");
                assert!(long.rates.cache_read > rates.cache_read, "{name}");
            }
            let Tiers { flex, fast, ultrafast } = tiers.unwrap_or_default();
            for tier in [flex, fast, ultrafast].into_iter().flatten() {
                assert!(tier.long.is_none_or(|tier| long.is_some_and(|long| tier.above == long.above)), "{name}");
            }
            for tier in [fast, ultrafast].into_iter().flatten() {
                let dearer = tier.usual.input > rates.input && tier.usual.output > rates.output;
                assert!(dearer && tier.usual.cache_read > rates.cache_read, "{name}");
            }
            if let Some(tier) = flex {
                let cheaper = tier.usual.input < rates.input && tier.usual.output < rates.output;
                assert!(cheaper && tier.usual.cache_read <= rates.cache_read, "{name}");
                assert_eq!(tier.long.is_some(), long.is_some(), "{name}");
            }
            assert!(rates.input > 0, "{name}");
            assert!(rates.output > 0 || name.contains("embed"), "{name}");
            assert!(rates.cache_read <= rates.input && rates.cache_write_5m <= rates.cache_write_1h, "{name}");
        }
        assert!(Prices::shipped().find("openai", "gpt-4o-mini", day("2026-11-21")).is_some());
    }

    #[test]
    fn the_shipped_list_knows_what_a_hurry_costs() {
        let prices = Prices::shipped();
        // In cents.
        let output = |provider, model, tier| {
            let tariff = prices.find(provider, model, day("2026-11-30")).expect(model);
            tariff.at(tier).map(|tariff| tariff.usual.output / 10_000)
        };
        assert_eq!(output("openai", "gpt-6-sol", Tier::Usual), Some(1_000));
        assert_eq!(output("openai", "gpt-6-sol", Tier::Flex), Some(500));
        assert_eq!(output("openai", "gpt-6-sol", Tier::Fast), Some(2_000));
        assert_eq!(output("openai", "gpt-6-sol", Tier::Ultrafast), None, "it is not to be had there");
        assert_eq!(output("openai", "gpt-6-astra", Tier::Ultrafast), Some(30_000));
        assert_eq!(output("anthropic", "claude-opus-5-5", Tier::Fast), Some(4_000));
        assert_eq!(output("google", "gemini-3.8-flash", Tier::Fast), Some(675));
        let kept = prices.find("openai", "gpt-6-sol", day("2026-11-30")).expect("a price").usual;
        assert_eq!((kept.cache_write_5m, kept.cache_write_1h), (2_500_000, 5_000_000), "half an hour, and twelve");
    }

    #[test]
    fn a_price_is_found_by_exactly_its_provider_model_and_day() {
        let mut prices = Prices::default();
        prices.set("openai", "gpt-4o", "2026-01-01", &rates("5", "15")).expect("a price");
        prices.set("openai", "gpt-4o", "2025-01-01", &rates("10", "30")).expect("a price");
        prices.set("openai", "gpt-4o", "2026-01-01", &rates("4", "12")).expect("a better price");
        let find = |provider, model, at: Time| prices.find(provider, model, at).map(|tariff| tariff.usual.input);
        assert_eq!(find("openai", "gpt-4o", Time(day("2025-01-01").0 - 1)), None);
        assert_eq!(find("openai", "gpt-4o", day("2025-01-01")), Some(10_000_000));
        assert_eq!(find("openai", "gpt-4o", Time(day("2026-01-01").0 - 1)), Some(10_000_000));
        assert_eq!(find("openai", "gpt-4o", day("2026-01-01")), Some(4_000_000));
        for (provider, model) in
            [("openai", "gpt-4o-evil"), ("openai", "gpt-4"), ("openai", "GPT-4o"), ("azure", "gpt-4o"), ("", "gpt-4o")]
        {
            assert_eq!(find(provider, model, day("2026-01-01")), None, "{provider}/{model}");
        }
    }

    #[test]
    fn the_dearest_of_a_provider_is_dearer_than_each_of_its_models() {
        let (prices, now) = (Prices::shipped(), day("2026-11-21"));
        for provider in ["anthropic", "openai", "google"] {
            let dearest = prices.dearest(provider, now).expect(provider);
            for (model, rates) in prices.list(provider, now) {
                assert_eq!(dearer(dearest, rates), dearest, "{provider}/{model}");
            }
        }
        let any = prices.dearest("nobody", now).expect("the dearest of all");
        assert_eq!(dearer(any, prices.dearest("openai", now).expect("openai")), any);
    }

    #[test]
    fn a_list_that_is_wrong_says_where() {
        let entry = |day: &str, input: &str, more: &str| {
            format!(
                "[[price]]\nprovider = \"a\"\nmodel = \"b\"\nvalid_from = \"{day}\"\ninput = \"{input}\"\noutput = \"1\"\n{more}"
            )
        };
        assert!(Prices::parse("").is_ok());
        assert!(Prices::parse(&entry("2026-01-31", "1", "cache_read = \"0.5\"")).is_ok());
        for (day, input, more, why) in [
            ("2026-02-30", "1", "", "a day is written like 2026-11-21"),
            ("2026-1-1", "1", "", "a day is written like 2026-11-21"),
            ("20260101", "1", "", "a day is written like 2026-11-21"),
            ("2026-01-01", "-1", "", "a price is in dollars, like 2.50"),
            ("2026-01-01", "1e9", "", "a price is in dollars, like 2.50"),
            ("2026-01-01", "1", "cached = \"1\"", "unknown field `cached`"),
        ] {
            let error = Prices::parse(&entry(day, input, more)).expect_err(day).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
