//! `salon upstream`.

use anyhow::{Result, bail, ensure};
use clap::{Args, Subcommand};
use salon::catalog::{Catalog, Condition, KeyFrom, KeyWord, Kind, Standing, UnknownPrice, Upstream, UpstreamSpec};

use super::{Room, Told};
use crate::common::Common;

#[derive(Subcommand, Debug)]
pub enum UpstreamCommand {
    /// Show who serves models, and what of the configuration cannot be used
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Add somebody who serves models; a running Salon asks him at once
    Add {
        #[command(flatten)]
        common: Common,
        /// What it is called here: letters, digits, '.', '_' and '-'
        name: String,
        #[command(flatten)]
        change: Change,
    },
    /// Change an upstream; what is not said stays as it is
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
    /// Forget an upstream that was added here; what salon.toml says counts again
    Remove {
        #[command(flatten)]
        common: Common,
        name: String,
    },
    /// Ask upstreams for their models with the house's keys
    Check {
        #[command(flatten)]
        common: Common,
        /// Only this one
        name: Option<String>,
    },
    /// Show how those have been doing that the running Salon asked: who is well, and who is left alone for how long
    Health {
        #[command(flatten)]
        common: Common,
        /// Only this one
        name: Option<String>,
    },
}

/// What may be said about an upstream.
#[derive(Args, Debug)]
#[group(skip)]
pub struct Change {
    /// openai, anthropic, gemini, compatible (any server that speaks OpenAI's protocol) or midm; without one the server
    /// is asked
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// Where it is, everything before the call's own path; for OpenAI and those like it with /v1
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The environment variable that holds its key, of the process that serves
    #[arg(long, value_name = "VARIABLE", conflicts_with = "key")]
    key_env: Option<String>,
    /// Where its key is instead: vault (the caller's own, else the team's), caller (only his own) or none
    #[arg(long, value_parser = key_word)]
    key: Option<KeyWord>,
    /// The header for the bare key, if it is not the usual one
    #[arg(long, value_name = "HEADER")]
    key_header: Option<String>,
    /// Whose prices count and whose keys people bring, if not its kind's
    #[arg(long)]
    provider: Option<String>,
    /// A header to send with every request, as NAME=VALUE; a further one for each, an empty value takes one away
    #[arg(long, value_name = "NAME=VALUE")]
    header: Vec<String>,
    /// The protocols it speaks, separated by commas: chat, completions, responses, embeddings, messages, generate, midm
    #[arg(long, value_delimiter = ',')]
    speaks: Vec<String>,
    /// The one organisation that may use it, by id
    #[arg(long)]
    org: Option<String>,
    /// How many requests it gets at once; 0 for any number
    #[arg(long)]
    at_once: Option<u32>,
    /// Whether its models may be called as NAME/model without being listed
    #[arg(long, value_name = "true|false")]
    any_model: Option<bool>,
    /// Whether names that nobody knows go here
    #[arg(long, value_name = "true|false")]
    catch_all: Option<bool>,
    /// What a model of it costs whose price nobody knows: deny, upper_bound or free
    #[arg(long, value_parser = unknown_price)]
    unknown_price: Option<UnknownPrice>,
}

impl UpstreamCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            UpstreamCommand::List { common }
            | UpstreamCommand::Add { common, .. }
            | UpstreamCommand::Set { common, .. }
            | UpstreamCommand::Remove { common, .. }
            | UpstreamCommand::Check { common, .. }
            | UpstreamCommand::Health { common, .. } => common,
        }
    }

    pub(super) async fn perform(self, room: &Room) -> Result<Told> {
        let catalog = &room.catalog;
        match self {
            UpstreamCommand::List { .. } => Ok(list(catalog)),
            UpstreamCommand::Add { name, change, .. } => {
                ensure!(
                    catalog.find_upstream_spec(&name).is_none(),
                    "there is an upstream {name} already; salon upstream set changes it"
                );
                let mut spec = UpstreamSpec::default();
                change.apply(&mut spec)?;
                catalog.set_upstream(&room.pen(), &name, &spec).await?;
                Ok(Told::text(format!("Added {name}. salon upstream check {name} asks it for its models.")))
            }
            UpstreamCommand::Set { name, change, off, on, .. } => {
                let Some(mut spec) = catalog.find_upstream_spec(&name) else {
                    bail!("there is no upstream {name}; salon upstream list shows who there is")
                };
                change.apply(&mut spec)?;
                spec.off = off || spec.off && !on;
                catalog.set_upstream(&room.pen(), &name, &spec).await?;
                Ok(Told::text(format!("Changed {name}.")))
            }
            UpstreamCommand::Remove { name, .. } => {
                ensure!(catalog.remove_upstream(&room.pen(), &name).await?, "there is no upstream {name}");
                Ok(Told::text(format!("Removed {name}.")))
            }
            UpstreamCommand::Check { name, .. } => check(catalog, name).await,
            UpstreamCommand::Health { name, .. } => health(catalog, name.as_deref()),
        }
    }
}

impl Change {
    fn apply(self, spec: &mut UpstreamSpec) -> Result<()> {
        let Change { kind, url, key_env, key, key_header, provider, header, speaks, org, at_once, .. } = self;
        spec.kind = kind.or(spec.kind);
        spec.base_url = url.or(spec.base_url.take());
        if key_env.is_some() {
            (spec.key_env, spec.key) = (key_env, None);
        }
        if key.is_some() {
            (spec.key_env, spec.key) = (None, key);
        }
        spec.key_header = key_header.or(spec.key_header.take());
        spec.provider = provider.or(spec.provider.take());
        for text in header {
            let Some((name, value)) = text.split_once('=') else { bail!("a header is said as NAME=VALUE, not {text}") };
            match value {
                "" => drop(spec.headers.remove(name)),
                value => drop(spec.headers.insert(name.to_owned(), value.to_owned())),
            }
        }
        if !speaks.is_empty() {
            spec.speaks = Some(speaks);
        }
        spec.org = org.or(spec.org.take());
        spec.at_once = at_once.or(spec.at_once).filter(|cap| *cap > 0);
        spec.any_model = self.any_model.or(spec.any_model);
        spec.catch_all = self.catch_all.unwrap_or(spec.catch_all);
        spec.unknown_price = self.unknown_price.or(spec.unknown_price);
        Ok(())
    }
}

fn list(catalog: &Catalog) -> Told {
    let snapshot = catalog.snapshot();
    let lines = snapshot.upstreams().map(|upstream| {
        let place = upstream.base.as_ref().map_or("in this house".to_owned(), ToString::to_string);
        let whose = upstream.org.as_ref().map_or(String::new(), |org| format!("  only for {org}"));
        let all = if upstream.catch_all { "  takes every name" } else { "" };
        format!("{}  {}  {place}  {}{whose}{all}", upstream.name, upstream.kind.as_str(), key(upstream))
    });
    let mut told = Told::lines(lines.collect(), "");
    told.note = snapshot.problems.join("\n");
    told.trouble = !snapshot.problems.is_empty();
    told
}

fn key(upstream: &Upstream) -> String {
    match &upstream.key {
        KeyFrom::Nowhere => "no key".to_owned(),
        KeyFrom::Environment { name, key: Some(_) } => format!("key in {name}"),
        KeyFrom::Environment { name, key: None } => format!("key in {name}, which is not set"),
        KeyFrom::Vault => "key in the vault".to_owned(),
        KeyFrom::Caller => "the caller's own key".to_owned(),
    }
}

async fn check(catalog: &Catalog, only: Option<String>) -> Result<Told> {
    catalog.decide().await;
    let names = match only {
        Some(name) => vec![name],
        None => catalog.snapshot().upstreams().map(|upstream| upstream.name.clone()).collect(),
    };
    let (mut lines, mut trouble) = (Vec::new(), false);
    for name in names {
        let Some(answer) = catalog.check(&name).await else {
            bail!("there is no upstream {name}; salon upstream list shows who there is")
        };
        match answer {
            Ok(models) => lines.push(format!("ok    {name}  {} models: {}", models.len(), shortened(&models))),
            Err(fault) => {
                trouble = true;
                lines.push(format!("BAD   {name}  {}", fault.sentence()));
            }
        }
    }
    Ok(Told { trouble, ..Told::lines(lines, "There is no upstream.") })
}

/// How those have been doing that this process asked. Who is being left alone is trouble.
fn health(catalog: &Catalog, only: Option<&str>) -> Result<Told> {
    let snapshot = catalog.snapshot();
    if let Some(name) = only {
        ensure!(
            snapshot.find_upstream(name).is_some(),
            "there is no upstream {name}; salon upstream list shows who there is"
        );
    }
    let asked = snapshot.health().into_iter().filter(|standing| only.is_none_or(|name| standing.upstream == name));
    let (mut lines, mut trouble) = (Vec::new(), false);
    for Standing { upstream, model, key, view } in asked {
        trouble |= view.condition != Condition::Well;
        let rest = match view.condition {
            Condition::Resting(rest) => format!(" for {} s", rest.as_secs() + u64::from(rest.subsec_nanos() > 0)),
            Condition::Well | Condition::Probing => String::new(),
        };
        let last = view.last.map_or(String::new(), |fault| format!("; last: {}", fault.code()));
        lines.push(format!(
            "{upstream}/{model} with {key}: {}{rest}, {} under way, {} of {} tries failed, {} in a row{last}",
            view.condition.as_str(),
            view.in_flight,
            view.faults,
            view.tries,
            view.failures,
        ));
    }
    Ok(Told { trouble, ..Told::lines(lines, "Nobody was asked yet by the Salon that answers this.") })
}

/// A few names: an aggregator lists hundreds.
fn shortened(models: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = models.iter().take(SHOWN).map(|name| clean(name)).collect::<Vec<_>>().join(", ");
    if models.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

/// A name as somebody else's server gave it.
fn clean(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(128).collect()
}

fn kind(text: &str) -> Result<Kind, String> {
    let known = || Kind::ALL.map(Kind::as_str).join(", ");
    Kind::parse(text).ok_or_else(|| format!("the kinds are {}", known()))
}

fn key_word(text: &str) -> Result<KeyWord, String> {
    let found = KeyWord::ALL.into_iter().find(|word| word.as_str() == text);
    found.ok_or_else(|| "a key is said as vault, caller or none; never the key itself".to_owned())
}

pub(super) fn unknown_price(text: &str) -> Result<UnknownPrice, String> {
    let found = UnknownPrice::ALL.into_iter().find(|policy| policy.as_str() == text);
    found.ok_or_else(|| "it is deny, upper_bound or free".to_owned())
}
