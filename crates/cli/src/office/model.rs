//! `salon model`.

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use salon::catalog::{
    Ability, CacheFor, Catalog, DeploymentSpec, LongSpec, ModelSpec, Priced, Quirk, RatesSpec, UnknownPrice,
};
use salon_core::{LongRates, Micros, Tariff, Tier, TierRates, Tiers};

use super::{Room, Told};
use crate::common::Common;

#[derive(Subcommand, Debug)]
pub enum ModelCommand {
    /// Show the models that can be called, with their prices for a million tokens read and written
    List {
        #[command(flatten)]
        common: Common,
        /// Also those for which the house has no key
        #[arg(long)]
        all: bool,
    },
    /// Add a model under a name of your own; a running Salon offers it at once
    Add {
        #[command(flatten)]
        common: Common,
        /// The name by which it is called
        name: String,
        #[command(flatten)]
        change: Change,
    },
    /// Change a model; what is not said stays as it is, and a list takes the place of the old one
    Set {
        #[command(flatten)]
        common: Common,
        name: String,
        #[command(flatten)]
        change: Change,
        /// Switch it off without forgetting it
        #[arg(long, conflicts_with = "on")]
        off: bool,
        /// Switch it on again
        #[arg(long)]
        on: bool,
    },
    /// Forget a model that was added here; what salon.toml says counts again
    Remove {
        #[command(flatten)]
        common: Common,
        name: String,
    },
    /// Say what a provider's model costs from a day on, in dollars for a million tokens
    Price {
        #[command(flatten)]
        common: Common,
        /// Whose model it is, such as openai
        provider: String,
        /// Its name there, exactly
        model: String,
        /// The first day, in UTC, such as 2027-01-31
        #[arg(long, value_name = "DAY")]
        from: String,
        #[command(flatten)]
        rates: Rates,
        /// What calls cost at this tier: flex, fast or ultrafast; the other prices of that day stay
        #[arg(long, value_parser = tier, requires = "input")]
        tier: Option<Tier>,
        /// Take back what was said for this day
        #[arg(long)]
        forget: bool,
    },
}

/// What may be said about a model.
#[derive(Args, Debug)]
#[group(skip)]
pub struct Change {
    /// Where it is served, as UPSTREAM, UPSTREAM/MODEL or UPSTREAM/MODEL=WEIGHT, separated by commas
    #[arg(long, value_name = "PLACES", value_delimiter = ',')]
    at: Vec<String>,
    /// Models that are asked when none of these answers, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    fallback: Vec<String>,
    /// Further names, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    alias: Vec<String>,
    /// Tokens that fit in, question and answer together
    #[arg(long, value_name = "TOKENS")]
    context: Option<i64>,
    /// The longest answer in tokens, if the caller says nothing
    #[arg(long, value_name = "TOKENS")]
    length: Option<i64>,
    /// The longest answer in tokens that a caller may ask for
    #[arg(long, value_name = "TOKENS")]
    most_length: Option<i64>,
    /// tools, images, schema, audio, embeddings, reasoning, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = ability)]
    ability: Vec<Ability>,
    /// max_completion_tokens, no_temperature, no_stream_options, developer_role, head_only, thoughts_back, separated by
    /// commas
    #[arg(long, value_delimiter = ',', value_parser = quirk)]
    quirk: Vec<Quirk>,
    /// How many seconds the same question gets the same answer; 0 for never
    #[arg(long, value_name = "SECONDS")]
    cache: Option<u64>,
    /// Who is given an answer again: user, who has asked before, or org, everybody of the organisation
    #[arg(long, value_parser = cache_for)]
    cache_for: Option<CacheFor>,
    /// Whether answers that somebody's own key paid for are kept too, for that person
    #[arg(long, value_name = "true|false")]
    cache_own_keys: Option<bool>,
    /// Texts of several small requests for embeddings that are asked for in one call; 0 asks for each by itself
    #[arg(long, value_name = "TEXTS")]
    batch: Option<u32>,
    /// The organisations that may use it, by id, separated by commas
    #[arg(long, value_delimiter = ',')]
    org: Vec<String>,
    /// Whether it is left out of lists
    #[arg(long, value_name = "true|false")]
    hidden: Option<bool>,
    /// What it costs if nobody knows: deny, upper_bound or free
    #[arg(long, value_parser = super::upstream::unknown_price)]
    unknown_price: Option<UnknownPrice>,
    #[command(flatten)]
    rates: Rates,
}

/// Dollars for a million tokens.
#[derive(Args, Debug, Default)]
#[group(skip)]
pub struct Rates {
    /// Tokens read, in dollars for a million
    #[arg(long, value_name = "DOLLARS", requires = "output")]
    input: Option<String>,
    /// Tokens written
    #[arg(long, value_name = "DOLLARS", requires = "input")]
    output: Option<String>,
    /// Tokens read from a cache, if they cost something else
    #[arg(long, value_name = "DOLLARS", requires = "input")]
    cache_read: Option<String>,
    /// Tokens written to a cache for five minutes
    #[arg(long, value_name = "DOLLARS", requires = "input")]
    cache_write_5m: Option<String>,
    /// Tokens written to a cache for an hour
    #[arg(long, value_name = "DOLLARS", requires = "input")]
    cache_write_1h: Option<String>,
    /// Thoughts
    #[arg(long, value_name = "DOLLARS", requires = "input")]
    reasoning: Option<String>,
    /// Sound heard
    #[arg(long, value_name = "DOLLARS", requires = "input")]
    audio_in: Option<String>,
    /// Sound made
    #[arg(long, value_name = "DOLLARS", requires = "input")]
    audio_out: Option<String>,
    /// The number of tokens above which a call has prices of its own, for all of its tokens
    #[arg(long, value_name = "TOKENS", requires_all = ["input", "long_input", "long_output"])]
    long_above: Option<i64>,
    /// Tokens read by such a call
    #[arg(long, value_name = "DOLLARS", requires = "long_above")]
    long_input: Option<String>,
    /// Tokens written by it
    #[arg(long, value_name = "DOLLARS", requires = "long_above")]
    long_output: Option<String>,
    /// Tokens read from a cache by it
    #[arg(long, value_name = "DOLLARS", requires = "long_above")]
    long_cache_read: Option<String>,
    /// Tokens written by it to a cache for five minutes
    #[arg(long, value_name = "DOLLARS", requires = "long_above")]
    long_cache_write_5m: Option<String>,
    /// Tokens written by it to a cache for an hour
    #[arg(long, value_name = "DOLLARS", requires = "long_above")]
    long_cache_write_1h: Option<String>,
}

impl Rates {
    fn spec(self) -> Option<RatesSpec> {
        let long = match (self.long_above, self.long_input, self.long_output) {
            (Some(above), Some(input), Some(output)) => Some(LongSpec {
                above,
                input,
                output,
                cache_read: self.long_cache_read,
                cache_write_5m: self.long_cache_write_5m,
                cache_write_1h: self.long_cache_write_1h,
            }),
            _ => None,
        };
        Some(RatesSpec {
            long,
            input: self.input?,
            output: self.output?,
            cache_read: self.cache_read,
            cache_write_5m: self.cache_write_5m,
            cache_write_1h: self.cache_write_1h,
            reasoning: self.reasoning,
            audio_in: self.audio_in,
            audio_out: self.audio_out,
            tiers: None,
        })
    }
}

impl ModelCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            ModelCommand::List { common, .. }
            | ModelCommand::Add { common, .. }
            | ModelCommand::Set { common, .. }
            | ModelCommand::Remove { common, .. }
            | ModelCommand::Price { common, .. } => common,
        }
    }

    pub(super) async fn perform(self, room: &Room) -> Result<Told> {
        let catalog = &room.catalog;
        match self {
            ModelCommand::List { all, .. } => Ok(list(room, all)),
            ModelCommand::Add { name, change, .. } => {
                ensure!(
                    catalog.find_model_spec(&name).is_none(),
                    "there is a model {name} already; salon model set changes it"
                );
                let mut spec = ModelSpec::default();
                change.apply(&mut spec)?;
                ensure!(!spec.deployments.is_empty(), "say where it is served: --at UPSTREAM/MODEL");
                catalog.set_model(&room.pen(), &name, &spec).await?;
                Ok(Told::text(format!("Added {name}.")))
            }
            ModelCommand::Set { name, change, off, on, .. } => {
                let Some(mut spec) = catalog.find_model_spec(&name) else { bail!(unknown(catalog, &name)) };
                change.apply(&mut spec)?;
                spec.off = off || spec.off && !on;
                catalog.set_model(&room.pen(), &name, &spec).await?;
                Ok(Told::text(format!("Changed {name}.")))
            }
            ModelCommand::Remove { name, .. } => {
                ensure!(catalog.remove_model(&room.pen(), &name).await?, unknown(catalog, &name));
                Ok(Told::text(format!("Removed {name}.")))
            }
            ModelCommand::Price { provider, model, from, forget: true, .. } => {
                let removed = catalog.remove_price(&room.pen(), &provider, &model, &from).await?;
                ensure!(removed, "nothing was said of {provider}'s {model} for {from}");
                Ok(Told::text(format!("Forgot the price of {provider}'s {model} from {from}.")))
            }
            ModelCommand::Price { provider, model, from, rates, tier, .. } => {
                let mut rates = rates.spec().context("say what it costs: --input DOLLARS --output DOLLARS")?;
                if let Some(tier) = tier {
                    let known = catalog.snapshot().prices.on(&provider, &model, &from);
                    let known = known.context("say what it usually costs first, without --tier")?;
                    rates = with_tier(RatesSpec::of(&known), tier, rates);
                }
                catalog.set_price(&room.pen(), &provider, &model, &from, &rates).await?;
                Ok(Told::text(format!("From {from} on {provider}'s {model} has this price.")))
            }
        }
    }
}

impl Change {
    fn apply(self, spec: &mut ModelSpec) -> Result<()> {
        if !self.at.is_empty() {
            spec.deployments = self.at.iter().map(|text| place(text)).collect::<Result<_>>()?;
            (spec.upstream, spec.model) = (None, None);
        }
        let replace = |list: &mut Vec<String>, new: Vec<String>| {
            if !new.is_empty() {
                *list = new.into_iter().filter(|name| !name.is_empty()).collect();
            }
        };
        replace(&mut spec.fallback, self.fallback);
        replace(&mut spec.aliases, self.alias);
        replace(&mut spec.orgs, self.org);
        if !self.ability.is_empty() {
            spec.abilities = self.ability;
        }
        if !self.quirk.is_empty() {
            spec.quirks = self.quirk;
        }
        spec.context = self.context.or(spec.context);
        spec.output = self.length.or(spec.output);
        spec.most_output = self.most_length.or(spec.most_output);
        spec.cache_s = self.cache.or(spec.cache_s).filter(|seconds| *seconds > 0);
        spec.cache_for = self.cache_for.or(spec.cache_for);
        spec.cache_own_keys = self.cache_own_keys.unwrap_or(spec.cache_own_keys);
        spec.batch = self.batch.or(spec.batch);
        spec.hidden = self.hidden.unwrap_or(spec.hidden);
        spec.unknown_price = self.unknown_price.or(spec.unknown_price);
        spec.rates = self.rates.spec().or(spec.rates.take());
        Ok(())
    }
}

/// Reads `UPSTREAM`, `UPSTREAM/MODEL` or `UPSTREAM/MODEL=WEIGHT`.
fn place(text: &str) -> Result<DeploymentSpec> {
    let (place, weight) = match text.split_once('=') {
        Some((place, weight)) => (place, Some(weight.parse().with_context(|| format!("{weight} is no weight"))?)),
        None => (text, None),
    };
    let (upstream, model) = place.split_once('/').map_or((place, None), |(upstream, model)| (upstream, Some(model)));
    ensure!(!upstream.is_empty(), "{text} names no upstream");
    Ok(DeploymentSpec { upstream: upstream.to_owned(), model: model.map(str::to_owned), weight })
}

fn list(room: &Room, all: bool) -> Told {
    let snapshot = room.catalog.snapshot();
    let now = room.salon.clock.now();
    let lines = snapshot.models().filter_map(|model| {
        let usable = |name: &str| snapshot.find_upstream(name).is_some_and(|upstream| all || upstream.has_house_key());
        let place = model.deployments.iter().find(|place| usable(&place.upstream.name))?;
        let price = place.priced(now).map_or("no known price".to_owned(), shown);
        let places: Vec<String> =
            model.deployments.iter().map(|place| format!("{}/{}", place.upstream.name, place.model)).collect();
        let mut line = format!("{}  {}  {price}", model.name, places.join(", "));
        if !model.fallback.is_empty() {
            line.push_str(&format!("  else {}", model.fallback.join(", ")));
        }
        if !model.orgs.is_empty() {
            let orgs: Vec<&str> = model.orgs.iter().map(|org| org.as_str()).collect();
            line.push_str(&format!("  only for {}", orgs.join(", ")));
        }
        Some(line)
    });
    let mut told =
        Told::lines(lines.collect(), "No model can be called yet: set a provider's key, or add an upstream.");
    let problems = snapshot.problems.join("\n");
    if !problems.is_empty() {
        told.trouble = true;
        told.note = problems;
    }
    told
}

fn shown(priced: Priced) -> String {
    let Tariff { usual, long, tiers } = priced.rates;
    if priced.rates == Default::default() {
        return "free".to_owned();
    }
    let bound = if priced.known { "" } else { "at most " };
    let long = long.map_or(String::new(), |LongRates { above, rates }| {
        format!(", above {above} tokens ${} / ${}", Micros(rates.input), Micros(rates.output))
    });
    let Tiers { flex, fast, ultrafast } = tiers.filter(|_| priced.known).unwrap_or_default();
    let tiers = [("flex", flex), ("fast", fast), ("ultrafast", ultrafast)].into_iter().filter_map(|(name, rates)| {
        let TierRates { usual, .. } = rates?;
        Some(format!(", {name} ${} / ${}", Micros(usual.input), Micros(usual.output)))
    });
    format!("{bound}${} / ${}{long}{}", Micros(usual.input), Micros(usual.output), tiers.collect::<String>())
}

/// Prices with others at one tier.
fn with_tier(mut rates: RatesSpec, tier: Tier, price: RatesSpec) -> RatesSpec {
    let tiers = rates.tiers.get_or_insert_default();
    match tier {
        Tier::Flex => tiers.flex = Some(price),
        Tier::Fast => tiers.fast = Some(price),
        Tier::Ultrafast => tiers.ultrafast = Some(price),
        Tier::Usual | Tier::Other => return price,
    }
    rates
}

fn tier(text: &str) -> Result<Tier, String> {
    let tier = Tier::read(text).filter(|tier| matches!(tier, Tier::Flex | Tier::Fast | Tier::Ultrafast));
    tier.ok_or_else(|| "the tiers are flex, fast and ultrafast".to_owned())
}

fn unknown(catalog: &Catalog, name: &str) -> String {
    match catalog.snapshot().models().any(|model| model.name == name) {
        true => format!("{name} is there by itself, and nothing was said about it; salon model add {name} does"),
        false => format!("there is no model {name}; salon model list shows which there are"),
    }
}

fn ability(text: &str) -> Result<Ability, String> {
    let found = Ability::ALL.into_iter().find(|ability| ability.as_str() == text);
    found.ok_or_else(|| format!("the abilities are {}", Ability::ALL.map(Ability::as_str).join(", ")))
}

fn quirk(text: &str) -> Result<Quirk, String> {
    let found = Quirk::ALL.into_iter().find(|quirk| quirk.as_str() == text);
    found.ok_or_else(|| format!("the quirks are {}", Quirk::ALL.map(Quirk::as_str).join(", ")))
}

fn cache_for(text: &str) -> Result<CacheFor, String> {
    let found = CacheFor::ALL.into_iter().find(|who| who.as_str() == text);
    found.ok_or_else(|| format!("it is one of {}", CacheFor::ALL.map(CacheFor::as_str).join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_upstreams_with_models_and_weights() {
        let spec = |upstream: &str, model: Option<&str>, weight| DeploymentSpec {
            upstream: upstream.to_owned(),
            model: model.map(str::to_owned),
            weight,
        };
        for (text, expected) in [
            ("openai", spec("openai", None, None)),
            ("openai/gpt-4o", spec("openai", Some("gpt-4o"), None)),
            ("router/meta/llama=3", spec("router", Some("meta/llama"), Some(3))),
        ] {
            assert_eq!(place(text).expect(text), expected);
        }
        for text in ["", "/gpt-4o", "openai=x", "openai=-1"] {
            assert!(place(text).is_err(), "{text}");
        }
    }
}
