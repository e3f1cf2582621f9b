//! Which models there are, who serves them, what they cost, and whom to ask next.
//!
//! ```text
//!  salon.toml, environment ─┐                       ┌─► route(name, wire, team) ─► Route ─► Turns ─► Destination
//!                           ├─► Snapshot ───────────┤
//!  database (wins) ─────────┘   behind an Arc       └─► list(team), health()
//! ```
//!
//! A [`Snapshot`] is built whole and exchanged whole, so a call sees one state from its beginning to its end. The
//! database's part can be edited while everything runs; other processes see it within a second. An entry that cannot be
//! right is left out with the reason beside it ([`Snapshot::problems`]), and takes nobody else down.

mod check;
mod edit;
mod keyed;
mod nearest;
mod price;
mod route;
mod snapshot;
mod spec;
mod upstream;

use std::fmt;
use std::sync::Arc;

use salon_core::money::Tariff;
use salon_engine::Secret;
use salon_engine::guard::Rules;
use thiserror::Error;

pub use edit::{Catalog, DatedPrice, EditError};
pub use keyed::{KeyPlace, NoPlace, Tried};
pub use price::{BadPrices, Prices};
pub use route::{Access, Destination, NoRoute, Route, Standing};
pub use salon_engine::upstream::{Condition, View};
pub use snapshot::{Caching, Deployment, Listed, Model, Priced, Snapshot};
pub use spec::{
    Ability, CacheFor, DeploymentSpec, KeyWord, Kind, LongSpec, ModelSpec, Patience, Quirk, RatesSpec, Spec,
    UnknownPrice, UpstreamSpec,
};
pub use upstream::{Errand, KeyFrom, Upstream};

/// What a catalog is made of beside the database.
#[derive(Clone, Debug)]
pub struct Sources {
    /// What `salon.toml` and the environment say.
    pub file: Spec,
    pub environment: Environment,
    pub prices: Prices,
    /// What of the local network teams' upstreams may call.
    pub rules: Arc<Rules>,
    /// What a model costs whose price nobody knows, if neither it nor its upstream says.
    pub unknown_price: UnknownPrice,
    /// The upper bound of an unknown price; without it, the dearest that is known.
    pub upper_bound: Option<Tariff>,
}

impl Default for Sources {
    fn default() -> Self {
        Sources {
            file: Spec::default(),
            environment: Environment::default(),
            prices: Prices::shipped(),
            rules: Arc::default(),
            unknown_price: UnknownPrice::UpperBound,
            upper_bound: None,
        }
    }
}

/// The environment's variables, as far as upstreams' keys stand in them.
#[derive(Clone, Default)]
pub struct Environment {
    find: Option<Arc<Find>>,
}

type Find = dyn Fn(&str) -> Option<Secret> + Send + Sync;

impl Environment {
    pub fn new(find: impl Fn(&str) -> Option<Secret> + Send + Sync + 'static) -> Environment {
        Environment { find: Some(Arc::new(find)) }
    }

    fn find(&self, name: &str) -> Option<Secret> {
        self.find.as_ref().and_then(|find| find(name)).filter(|key| !key.is_empty())
    }

    /// Whether a variable may be sent to an upstream. Whoever may write upstreams should not read our own secrets by it.
    fn may_be_key(&self, name: &str) -> bool {
        const OURS: [&str; 6] = ["MASTER", "SALON", "TELEGRAM", "METRICS", "DATABASE", "JWT"];
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let upper = name.to_ascii_uppercase();
        plain
            && (upper.ends_with("_KEY") || upper.ends_with("_TOKEN"))
            && !OURS.iter().any(|ours| upper.split('_').next() == Some(ours))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(…)")
    }
}

/// Why an entry cannot be used, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct Wrong {
    /// By which pages find the sentence in the reader's language.
    pub code: &'static str,
    /// What it is about, such as a header's name; empty if that is plain.
    pub about: String,
    text: String,
}

impl Wrong {
    fn new(code: &'static str, why: impl Into<String>) -> Wrong {
        Wrong::about(code, "", why)
    }

    fn about(code: &'static str, about: &str, why: impl Into<String>) -> Wrong {
        Wrong { code, about: about.to_owned(), text: why.into() }
    }
}

/// Whether the text can be a model's name: it becomes part of a path, a log line and a label.
pub fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte))
        && text.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_are_those_that_fit_into_a_path() {
        for name in
            ["gpt-4o", "openai/gpt-4o", "openai:gpt-4o", "meta-llama/Llama-3.1-8B", "a@1", "x", &"a".repeat(128)]
        {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "a b",
            "gpt-4o/../../v1/files?x=",
            "a/../b",
            "a//b",
            "/a",
            "a/",
            "../a",
            "ä",
            "a%2fb",
            "a\n",
            &"a".repeat(129),
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn our_own_secrets_are_no_keys_of_upstreams() {
        let environment = Environment::default();
        for name in ["OPENAI_API_KEY", "ANTHROPIC_AUTH_TOKEN", "MY_KEY", "openai_api_key"] {
            assert!(environment.may_be_key(name), "{name}");
        }
        for name in ["MASTER_KEY", "DATABASE_URL", "TELEGRAM_BOT_TOKEN", "METRICS_TOKEN", "HOME", "PATH", "A-KEY", ""] {
            assert!(!environment.may_be_key(name), "{name}");
        }
    }
}
