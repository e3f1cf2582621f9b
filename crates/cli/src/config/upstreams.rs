//! Upstreams and models: from `salon.toml`, and from the names in the environment that everybody uses for them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use salon::catalog::{
    Environment, Kind, ModelSpec, Prices, RatesSpec, Sources, Spec, UnknownPrice, UpstreamSpec, is_name,
};
use salon::engines::Choice;
use salon::relay::{CacheSettings, RelaySettings};
use salon_engine::Secret;
use salon_engine::guard::Rules;
use serde::Deserialize;

use super::{EngineConfig, Env, FileEngine, MODEL};

/// An upstream whose key has a name of its own in the environment.
struct Provider {
    name: &'static str,
    kind: Kind,
    /// In the order in which they count.
    keys: &'static [&'static str],
    /// The variable of its address.
    address: &'static str,
    /// Where it is if nobody says otherwise; `None` if its kind knows.
    usual: Option<&'static str>,
    /// Who answers there if nobody says otherwise.
    model: &'static str,
}

const PROVIDERS: [Provider; 6] = [
    Provider {
        name: "anthropic",
        kind: Kind::Anthropic,
        keys: &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"],
        address: "ANTHROPIC_BASE_URL",
        usual: None,
        model: "claude-haiku-4-5",
    },
    Provider {
        name: "google",
        kind: Kind::Gemini,
        keys: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        address: "GOOGLE_GEMINI_BASE_URL",
        usual: None,
        model: "gemini-3.5-flash-lite",
    },
    Provider {
        name: "groq",
        kind: Kind::Compatible,
        keys: &["GROQ_API_KEY"],
        address: "GROQ_BASE_URL",
        usual: Some("https://api.groq.com/openai/v1"),
        model: "openai/gpt-oss-120b",
    },
    Provider {
        name: "mistral",
        kind: Kind::Compatible,
        keys: &["MISTRAL_API_KEY"],
        address: "MISTRAL_BASE_URL",
        usual: Some("https://api.mistral.ai/v1"),
        model: "mistral-small-latest",
    },
    Provider {
        name: "openrouter",
        kind: Kind::Compatible,
        keys: &["OPENROUTER_API_KEY"],
        address: "OPENROUTER_BASE_URL",
        usual: Some("https://openrouter.ai/api/v1"),
        model: "openai/gpt-6-luna",
    },
    Provider {
        name: "deepseek",
        kind: Kind::Compatible,
        keys: &["DEEPSEEK_API_KEY"],
        address: "DEEPSEEK_BASE_URL",
        usual: Some("https://api.deepseek.com/v1"),
        model: "deepseek-flash",
    },
];

/// The longest request that can be set.
const LONGEST_BODY: usize = 256 << 20;
const LONGEST_DRAIN: u64 = 600;
/// The most that answers may take which are given again, and the longest of them.
const MOST_CACHE: usize = 16 << 30;
const LONGEST_ANSWER: usize = 64 << 20;
pub(crate) const MOST_CALLS: usize = 8_000;
const LONGEST_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FileRelay {
    /// A list of prices in the place of the one that ships with Salon.
    prices: Option<PathBuf>,
    unknown_price: Option<UnknownPrice>,
    upper_bound: Option<RatesSpec>,
    lan_allow: Vec<String>,
    max_body_bytes: Option<usize>,
    drain_s: Option<u64>,
    cache_bytes: Option<usize>,
    cache_longest_bytes: Option<usize>,
    redis_url: Option<String>,
    redis_patience_ms: Option<u64>,
    calls_per_user: Option<usize>,
}

/// Everything that the catalog of models is made of beside the database.
pub(super) fn sources(env: &mut Env, mut written: Spec, relay: &FileRelay) -> Result<Sources> {
    let described = of_environment(env);
    for (name, spec) in described.upstreams {
        written.upstreams.entry(name).or_insert(spec);
    }
    for (name, spec) in described.models {
        written.models.entry(name).or_insert(spec);
    }
    let prices = match &relay.prices {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
            Prices::parse(&text).with_context(|| path.display().to_string())?
        }
        None => Prices::shipped(),
    };
    let upper_bound = match &relay.upper_bound {
        Some(rates) => Some(rates.tariff().context("[relay.upper_bound]: a price is in dollars, like \"2.50\"")?),
        None => None,
    };
    let values = Arc::new(env.values.clone());
    let find = move |name: &str| values.get(name).map(|value| Secret::new(value.trim()));
    Ok(Sources {
        file: written,
        environment: Environment::new(find),
        prices,
        rules: Arc::new(Rules::new(&relay.lan_allow).context("[relay] lan_allow")?),
        unknown_price: relay.unknown_price.unwrap_or(UnknownPrice::UpperBound),
        upper_bound,
    })
}

pub(super) fn relay(env: &Env, file: &FileRelay) -> Result<RelaySettings> {
    let usual = RelaySettings::default();
    let max_body = file.max_body_bytes.unwrap_or(usual.max_body);
    ensure!((1024..=LONGEST_BODY).contains(&max_body), "[relay] max_body_bytes is between 1024 and {LONGEST_BODY}");
    let drain_s = file.drain_s.unwrap_or(usual.drain.as_secs());
    ensure!(drain_s <= LONGEST_DRAIN, "[relay] drain_s is at most {LONGEST_DRAIN}");
    let calls_per_user = file.calls_per_user.unwrap_or(usual.calls_per_user);
    ensure!((1..=MOST_CALLS).contains(&calls_per_user), "[relay] calls_per_user is between 1 and {MOST_CALLS}");
    let drain = Duration::from_secs(drain_s);
    Ok(RelaySettings { max_body, drain, cache: cache(env, file)?, calls_per_user, ..usual })
}

/// Where answers are kept that are given again, and how many.
fn cache(env: &Env, file: &FileRelay) -> Result<CacheSettings> {
    let usual = CacheSettings::default();
    let bytes = file.cache_bytes.unwrap_or(usual.bytes);
    ensure!(bytes <= MOST_CACHE, "[relay] cache_bytes is at most {MOST_CACHE}");
    let longest = file.cache_longest_bytes.unwrap_or(usual.longest);
    ensure!(longest <= LONGEST_ANSWER, "[relay] cache_longest_bytes is at most {LONGEST_ANSWER}");
    let redis = env.text("REDIS_URL").or_else(|| file.redis_url.clone());
    ensure!(
        redis.as_ref().is_none_or(|url| url.starts_with("redis://") || url.starts_with("rediss://")),
        "REDIS_URL is a redis:// address, or rediss:// with TLS"
    );
    let patience = file.redis_patience_ms.map_or(usual.patience, Duration::from_millis);
    ensure!(
        (Duration::from_millis(1)..=LONGEST_PATIENCE).contains(&patience),
        "[relay] redis_patience_ms is between 1 and {}",
        LONGEST_PATIENCE.as_millis()
    );
    Ok(CacheSettings { bytes, longest, redis: redis.map(Secret::new), patience })
}

/// Servers that are known by their hosts, so that prices are found for them.
const HOSTS: [(&str, &str); 5] = [
    ("api.openai.com", "openai"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral"),
    ("api.deepseek.com", "deepseek"),
    ("openrouter.ai", "openrouter"),
];

/// An engine of the file: a model of the catalog, or a server of its own, which becomes an upstream of the same name.
pub(super) fn engine(name: &str, file: FileEngine, env: &Env, written: &mut Spec) -> Result<EngineConfig> {
    let Some(base_url) = file.base_url else {
        let model = file.model.with_context(|| format!("[engines.{name}] needs a base_url, or a model by its name"))?;
        ensure!(file.api_key_env.is_none(), "[engines.{name}]: a key belongs to a base_url");
        return Ok(EngineConfig { name: name.to_owned(), upstream: None, choice: Choice::Named(model) });
    };
    if let Some(variable) = &file.api_key_env {
        ensure!(env.any(variable).is_some(), "[engines.{name}] wants its key in {variable}, which is not set");
    }
    ensure!(!written.upstreams.contains_key(name), "[engines.{name}] has a base_url, and so has [upstreams.{name}]");
    let known = HOSTS.iter().find(|(host, _)| is_at(&base_url, host)).map(|(_, provider)| (*provider).to_owned());
    let spec = UpstreamSpec {
        kind: Some(Kind::Compatible),
        base_url: Some(base_url),
        key_env: file.api_key_env,
        // What a server of one's own costs is not asked here.
        unknown_price: known.is_none().then_some(UnknownPrice::Free),
        provider: Some(known.unwrap_or_else(|| "own".to_owned())),
        ..UpstreamSpec::default()
    };
    written.upstreams.insert(name.to_owned(), spec);
    Ok(engine_at(name, name, file.model))
}

fn engine_at(name: &str, upstream: &str, model: Option<String>) -> EngineConfig {
    let choice = match model {
        Some(model) => Choice::Named(format!("{upstream}:{model}")),
        None => Choice::FirstOf(upstream.to_owned()),
    };
    EngineConfig { name: name.to_owned(), upstream: Some(upstream.to_owned()), choice }
}

fn is_at(base_url: &str, host: &str) -> bool {
    reqwest::Url::parse(base_url.trim()).is_ok_and(|url| url.host_str() == Some(host))
}

/// The engine called `model`, from the names that such servers' clients use. A server of one's own comes first: whoever
/// names it wants to be answered by it.
pub(super) fn usual_engine(env: &mut Env, spec: &Spec) -> Option<EngineConfig> {
    let wanted = env
        .text("OPENAI_MODEL")
        .or_else(|| env.text("DEFAULT_MODEL"))
        .or_else(|| env.old("OPENAI_DEFAULT_MODEL", "DEFAULT_MODEL"));
    let set = |name: &str| spec.upstreams.contains_key(name);
    if let Some((upstream, model)) = wanted.as_deref().and_then(|model| model.split_once([':', '/']))
        && set(upstream)
        && is_name(model)
    {
        return Some(engine_at(MODEL, upstream, Some(model.to_owned())));
    }
    let usual = |name: &str| match name {
        "openai" => spec.upstreams[name].base_url.is_none().then_some("gpt-6-luna"),
        name => PROVIDERS.iter().find(|provider| provider.name == name).map(|provider| provider.model),
    };
    let named = PROVIDERS.iter().map(|provider| provider.name);
    let order = if env.text("OPENAI_BASE_URL").is_some() { ["openai", "llm"] } else { ["llm", "openai"] };
    let upstream = order.into_iter().chain(named).chain(["ollama"]).find(|name| set(name))?;
    let model = wanted.filter(|model| is_name(model)).or_else(|| usual(upstream).map(str::to_owned));
    Some(engine_at(MODEL, upstream, model))
}

/// What the environment says: one upstream for each name that is set.
fn of_environment(env: &mut Env) -> Spec {
    let mut upstreams = BTreeMap::new();
    let mut models = BTreeMap::new();
    if let Some(openai) = openai(env) {
        if let Some(model) = env.text("OPENAI_MODEL").filter(|model| is_name(model)) {
            let spec = ModelSpec { upstream: Some("openai".to_owned()), ..ModelSpec::default() };
            models.insert(model, spec);
        }
        upstreams.insert("openai".to_owned(), openai);
    }
    for Provider { name, kind, keys, address, usual, .. } in PROVIDERS {
        let key = keys.iter().find(|key| env.text(key).is_some());
        let base_url = env.text(address);
        if key.is_none() && base_url.is_none() {
            continue;
        }
        let spec = UpstreamSpec {
            kind: Some(kind),
            base_url: base_url.or_else(|| usual.map(str::to_owned)),
            key_env: key.map(|key| (*key).to_owned()),
            ..UpstreamSpec::default()
        };
        upstreams.insert(name.to_owned(), spec);
    }
    upstreams.extend(llm_server(env));
    upstreams.extend(ollama(env));
    // Whoever has one server of his own means that one, whatever name the client sends.
    if let [(_, only)] = &mut *upstreams.iter_mut().collect::<Vec<_>>()
        && only.unknown_price == Some(UnknownPrice::Free)
    {
        only.catch_all = true;
    }
    Spec { upstreams, models }
}

fn openai(env: &mut Env) -> Option<UpstreamSpec> {
    let base_url = env.text("OPENAI_BASE_URL").or_else(|| env.text("OPENAI_API_BASE"));
    let key = env.text("OPENAI_API_KEY");
    if key.is_none() && base_url.is_none() {
        return None;
    }
    let elsewhere = base_url.as_deref().is_some_and(|base| !base.contains("//api.openai.com"));
    // A server that wants no key sends no bill.
    let own = elsewhere && key.is_none();
    Some(UpstreamSpec {
        kind: Some(if elsewhere { Kind::Compatible } else { Kind::OpenAi }),
        base_url,
        key_env: key.map(|_| "OPENAI_API_KEY".to_owned()),
        provider: Some(if own { "own" } else { "openai" }.to_owned()),
        unknown_price: own.then_some(UnknownPrice::Free),
        ..UpstreamSpec::default()
    })
}

/// The LLM server of the chat backend, or any other behind the same name. Which one it is says `LLM_SERVER_KIND`, or the
/// server itself when it is asked.
fn llm_server(env: &mut Env) -> Option<(String, UpstreamSpec)> {
    let server = env.text("LLM_SERVER_URL")?;
    let base = server.trim_end_matches('/');
    let kind = match env.text("LLM_SERVER_KIND").as_deref() {
        Some("midm") => Some(Kind::Midm),
        Some("openai" | "compatible") => Some(Kind::Compatible),
        _ if base.ends_with("/v1") => Some(Kind::Compatible),
        _ => None,
    };
    let with_version = || if base.ends_with("/v1") { base.to_owned() } else { format!("{base}/v1") };
    let base_url = if kind == Some(Kind::Compatible) { with_version() } else { base.to_owned() };
    let spec = UpstreamSpec {
        kind,
        base_url: Some(base_url),
        unknown_price: Some(UnknownPrice::Free),
        ..UpstreamSpec::default()
    };
    Some(("llm".to_owned(), spec))
}

/// What Ollama listens on, as its own programs are told: a host, perhaps with a scheme or a port.
fn ollama(env: &mut Env) -> Option<(String, UpstreamSpec)> {
    let host = env.text("OLLAMA_HOST")?;
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", &host));
    let rest = rest.trim_end_matches('/');
    let has_port = rest.rsplit(':').next().is_some_and(|last| last != rest && last.bytes().all(|b| b.is_ascii_digit()));
    let port = if has_port || scheme == "https" { "" } else { ":11434" };
    // It listens on all of them; it is called at this one.
    let rest = rest.replacen("0.0.0.0", "127.0.0.1", 1);
    let spec = UpstreamSpec {
        kind: Some(Kind::Compatible),
        base_url: Some(format!("{scheme}://{rest}{port}/v1")),
        unknown_price: Some(UnknownPrice::Free),
        ..UpstreamSpec::default()
    };
    Some(("ollama".to_owned(), spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(values: &[(&str, &str)]) -> Spec {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        of_environment(&mut Env { values, old_names: Vec::new() })
    }

    /// The upstreams, each as its name, kind, address, key, and what follows from these.
    fn upstreams(values: &[(&str, &str)]) -> Vec<String> {
        let line = |(name, spec): (&String, &UpstreamSpec)| {
            let kind = spec.kind.map_or("to be asked", Kind::as_str);
            let own = if spec.unknown_price == Some(UnknownPrice::Free) { " free" } else { "" };
            let all = if spec.catch_all { " catch-all" } else { "" };
            let address = spec.base_url.as_deref().unwrap_or("usual");
            format!("{name}: {kind} {address} {}{own}{all}", spec.key_env.as_deref().unwrap_or("-"))
        };
        described(values).upstreams.iter().map(line).collect()
    }

    #[test]
    fn each_known_name_becomes_an_upstream() {
        assert_eq!(upstreams(&[]), [""; 0]);
        assert_eq!(upstreams(&[("OPENAI_API_KEY", "k")]), ["openai: openai usual OPENAI_API_KEY"]);
        assert_eq!(
            upstreams(&[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "https://gw.example.com/v1")]),
            ["openai: compatible https://gw.example.com/v1 OPENAI_API_KEY"]
        );
        assert_eq!(
            upstreams(&[("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")]),
            ["openai: compatible http://127.0.0.1:1/v1 - free catch-all"]
        );
        assert_eq!(
            upstreams(&[
                ("ANTHROPIC_API_KEY", "k"),
                ("ANTHROPIC_AUTH_TOKEN", "t"),
                ("GOOGLE_API_KEY", "k"),
                ("GROQ_API_KEY", "k"),
                ("MISTRAL_API_KEY", "k"),
                ("MISTRAL_BASE_URL", "https://eu.example.com/v1"),
                ("OPENROUTER_API_KEY", "k"),
                ("DEEPSEEK_API_KEY", "k"),
            ]),
            [
                "anthropic: anthropic usual ANTHROPIC_API_KEY",
                "deepseek: compatible https://api.deepseek.com/v1 DEEPSEEK_API_KEY",
                "google: gemini usual GOOGLE_API_KEY",
                "groq: compatible https://api.groq.com/openai/v1 GROQ_API_KEY",
                "mistral: compatible https://eu.example.com/v1 MISTRAL_API_KEY",
                "openrouter: compatible https://openrouter.ai/api/v1 OPENROUTER_API_KEY",
            ]
        );
        assert_eq!(upstreams(&[("ANTHROPIC_AUTH_TOKEN", "t")]), ["anthropic: anthropic usual ANTHROPIC_AUTH_TOKEN"]);
        assert_eq!(
            upstreams(&[("ANTHROPIC_BASE_URL", "http://127.0.0.1:2")]),
            ["anthropic: anthropic http://127.0.0.1:2 -"]
        );
    }

    #[test]
    fn a_server_of_ones_own_is_free_and_takes_every_name_if_it_is_alone() {
        for (values, expected) in [
            (&[("LLM_SERVER_URL", "http://h:1/")][..], "llm: to be asked http://h:1 - free catch-all"),
            (&[("LLM_SERVER_URL", "http://h:1/v1")], "llm: compatible http://h:1/v1 - free catch-all"),
            (&[("LLM_SERVER_URL", "http://h:1"), ("LLM_SERVER_KIND", "midm")], "llm: midm http://h:1 - free catch-all"),
            (
                &[("LLM_SERVER_URL", "http://h:1"), ("LLM_SERVER_KIND", "openai")],
                "llm: compatible http://h:1/v1 - free catch-all",
            ),
            (&[("OLLAMA_HOST", "0.0.0.0")], "ollama: compatible http://127.0.0.1:11434/v1 - free catch-all"),
            (&[("OLLAMA_HOST", "gpu:11500")], "ollama: compatible http://gpu:11500/v1 - free catch-all"),
            (
                &[("OLLAMA_HOST", "https://o.example.com/")],
                "ollama: compatible https://o.example.com/v1 - free catch-all",
            ),
        ] {
            assert_eq!(upstreams(values), [expected], "{values:?}");
        }
        let both = upstreams(&[("LLM_SERVER_URL", "http://h:1/v1"), ("OPENAI_API_KEY", "k")]);
        assert_eq!(both, ["llm: compatible http://h:1/v1 - free", "openai: openai usual OPENAI_API_KEY"]);
    }

    #[test]
    fn answers_lie_in_the_redis_that_the_environment_or_the_file_names() {
        let redis = |values: &[(&str, &str)], file: Option<&str>| {
            let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let file = FileRelay { redis_url: file.map(str::to_owned), ..FileRelay::default() };
            let read = relay(&Env { values, old_names: Vec::new() }, &file)?;
            Ok::<_, anyhow::Error>(read.cache.redis.map(|url| url.expose().to_owned()))
        };
        assert_eq!(redis(&[], None).unwrap(), None);
        let (one, other) = ("redis://h:1/2", "rediss://:word@h");
        assert_eq!(redis(&[("REDIS_URL", other)], Some(one)).unwrap().as_deref(), Some(other));
        assert_eq!(redis(&[], Some(one)).unwrap().as_deref(), Some(one));
        let wrong = redis(&[("REDIS_URL", "memcached://:word@h")], None).unwrap_err().to_string();
        assert!(wrong.contains("REDIS_URL") && !wrong.contains("word"), "{wrong}");
    }

    #[test]
    fn a_model_that_the_environment_names_is_there() {
        let spec = described(&[("OPENAI_API_KEY", "k"), ("OPENAI_MODEL", "my-model")]);
        assert_eq!(spec.models["my-model"].upstream.as_deref(), Some("openai"));
    }
}
