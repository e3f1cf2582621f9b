//! Which models there are, who is asked, what it costs, and how that changes while everything runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::routing::get;
use http::HeaderMap;
use salon::catalog::{
    Access, Catalog, DeploymentSpec, EditError, Environment, Errand, Kind, ModelSpec, NoRoute, Prices, RatesSpec,
    Route, Sources, Spec, UnknownPrice, UpstreamSpec,
};
use salon::{Actor, Clock, Keys, MasterKeys, Pen};
use salon_core::{Micros, OrgId, Rates, Tariff, Tier, Time};
use salon_engine::Secret;
use salon_engine::guard::Rules;
use salon_engine::outbound::Outbound;
use salon_engine::upstream::{Condition, Fault, Settings, Trouble};
use salon_engine::wire::Wire;
use salon_store::testing::Scratch;
use salon_store::{AuditFilter, Entry, PriceRow, Store, on_both_databases};
use serde_json::json;

/// 2026-01-01 in UTC.
const NOW: Time = Time(1_767_225_600_000);

const FILE: &str = r#"{
    "upstreams": {
        "openai": {"kind": "openai", "key_env": "OPENAI_API_KEY"},
        "second": {"kind": "openai", "key_env": "SECOND_API_KEY"},
        "anthropic": {"kind": "anthropic", "key": "vault"},
        "google": {"kind": "gemini", "key_env": "GEMINI_API_KEY"},
        "llm": {"kind": "midm", "base_url": "http://127.0.0.1:8000", "unknown_price": "free"},
        "birds": {"kind": "compatible", "base_url": "https://llm.birds.example/v1", "org": "birds"},
        "strict": {"kind": "compatible", "base_url": "http://127.0.0.1:8001/v1", "unknown_price": "deny"}
    },
    "models": {
        "fast": {
            "deployments": [
                {"upstream": "openai", "model": "gpt-4o-mini", "weight": 3},
                {"upstream": "second", "model": "gpt-4o-mini"}
            ],
            "fallback": ["slow", "nobody", "fast"],
            "aliases": ["gpt-3.5", "quick"],
            "abilities": ["tools", "images"],
            "context": 128000
        },
        "slow": {"upstream": "llm", "model": "midm-2"},
        "dear": {"upstream": "openai", "model": "own", "rates": {"input": "100", "output": "200.5"}},
        "nest": {"upstream": "birds", "model": "nest-1", "orgs": ["birds"]},
        "secret": {"upstream": "openai", "model": "gpt-4o", "orgs": ["storks"]},
        "hidden": {"upstream": "openai", "model": "gpt-4o", "hidden": true},
        "gone": {"upstream": "openai", "model": "gpt-4o", "off": true},
        "unpriced": {"upstream": "strict"}
    }
}"#;

fn sources(file: &str) -> Sources {
    let keys = |name: &str| name.ends_with("_API_KEY").then(|| Secret::new(format!("key-of-{name}")));
    Sources {
        file: serde_json::from_str::<Spec>(file).expect("a spec"),
        environment: Environment::new(keys),
        ..Sources::default()
    }
}

fn catalog_of(file: &str) -> Arc<Catalog> {
    Catalog::of(Clock::wound_to(NOW), Outbound::new(), sources(file))
}

fn catalog() -> Arc<Catalog> {
    let catalog = catalog_of(FILE);
    assert_eq!(catalog.snapshot().problems, [""; 0]);
    catalog
}

fn birds() -> OrgId {
    OrgId::new("birds")
}

fn route(catalog: &Catalog, name: &str) -> Result<Route, NoRoute> {
    catalog.route(name, Wire::Chat, None)
}

/// Everybody who is asked, if each says that it is out of order: upstream, its name for the model, and the wire.
fn asked(route: &Route) -> Vec<String> {
    let mut turns = route.turns(|_| Some(Access::house(None))).expect("turns");
    let mut asked: Vec<String> = Vec::new();
    while let Ok(turn) = turns.next() {
        let what = &turn.what;
        asked.push(format!("{}/{} {}", what.upstream().name, what.deployment.model, what.wire.as_str()));
        if turns.failed(turn, &Fault::NotFound.into(), false).is_none() {
            break;
        }
    }
    asked
}

#[tokio::test]
async fn a_model_is_found_by_its_names_and_by_whoever_serves_it() {
    let catalog = catalog();
    for (name, expected) in [
        ("fast", vec!["openai/gpt-4o-mini chat", "second/gpt-4o-mini chat", "llm/midm-2 midm"]),
        ("dear", vec!["openai/own chat"]),
        ("hidden", vec!["openai/gpt-4o chat"]),
        // Nobody wrote these down: their prices are known, or they are part of the house.
        ("gpt-4.1", vec!["openai/gpt-4.1 chat", "second/gpt-4.1 chat"]),
        ("claude-haiku-4-5", vec!["anthropic/claude-haiku-4-5 messages"]),
        ("gemini-2.5-pro", vec!["google/gemini-2.5-pro generate"]),
        ("midm", vec!["llm/midm midm"]),
        ("echo", vec!["echo/echo chat"]),
        ("storyteller", vec!["storyteller/storyteller chat"]),
        // Whoever is named before the model serves it, listed or not.
        ("openai/gpt-9", vec!["openai/gpt-9 chat"]),
        ("second:gpt-9", vec!["second/gpt-9 chat"]),
        ("gemini:gemini-9", vec!["google/gemini-9 generate"]),
        ("google/gemini-9", vec!["google/gemini-9 generate"]),
        ("llm/some/model:7b", vec!["llm/some/model:7b midm"]),
    ] {
        let found = route(&catalog, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(asked(&found), expected, "{name}");
    }
    for alias in ["gpt-3.5", "quick"] {
        assert_eq!(route(&catalog, alias).expect(alias).model.name, "fast");
    }
}

#[tokio::test]
async fn a_model_that_is_called_like_somebody_elses_is_not_asked_in_its_place() {
    let catalog = |more: &str| {
        let groq = r#""groq": {"kind": "compatible", "base_url": "http://127.0.0.1:1/v1"}"#;
        let mut sources = sources(&format!(r#"{{"upstreams": {{{groq}{more}}}}}"#));
        let rates = RatesSpec { input: "1".into(), output: "2".into(), ..RatesSpec::default() };
        sources.prices.set("groq", "openai/gpt-oss-9b", "2025-01-01", &rates).expect("a price");
        Catalog::of(Clock::wound_to(NOW), Outbound::new(), sources)
    };
    let alone = catalog("");
    let both = catalog(r#", "openai": {"kind": "compatible", "base_url": "http://127.0.0.1:2/v1"}"#);
    let other = catalog(r#", "second": {"kind": "openai", "key_env": "SECOND_API_KEY"}"#);
    for (catalog, name, expected) in [
        (&alone, "openai/gpt-oss-9b", "groq/openai/gpt-oss-9b chat"),
        (&alone, "groq/openai/gpt-oss-9b", "groq/openai/gpt-oss-9b chat"),
        (&both, "openai/gpt-oss-9b", "openai/gpt-oss-9b chat"),
        (&both, "groq/openai/gpt-oss-9b", "groq/openai/gpt-oss-9b chat"),
        (&other, "openai/gpt-oss-9b", "second/gpt-oss-9b chat"),
    ] {
        assert_eq!(asked(&route(catalog, name).expect(name)), [expected], "{name}");
    }
    let dear = route(&both, "groq:openai/gpt-oss-9b").expect("a route");
    assert_eq!(dear.most(1_000_000, 1_000_000), Micros(3_000_000), "its price is known under the longer name");
}

#[tokio::test]
async fn what_is_not_there_is_refused_with_the_nearest_names() {
    let catalog = catalog();
    let nearest = |name: &str| match route(&catalog, name) {
        Err(NoRoute::Unknown { nearest, .. }) => nearest,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(nearest("fasst"), ["fast"]);
    assert_eq!(nearest("gpt4.1-mini")[0], "gpt-4.1-mini");
    assert_eq!(nearest("gone"), [""; 0], "it is switched off");
    assert_eq!(nearest("secrets"), [""; 0], "others are not told what a team has");
    assert_eq!(nearest("gpt-4o-evil")[0], "gpt-4o", "a name that only looks like another is another");
    assert_eq!(nearest("nobody/gpt-4o").first().map(String::as_str), Some("gpt-4o"));
    for name in ["gpt-4o/../../v1/files?x=", "a b", "", "a/../b"] {
        assert_eq!(route(&catalog, name).expect_err(name), NoRoute::NotAName);
    }
    assert_eq!(route(&catalog, "unpriced").expect_err("no price"), NoRoute::Unpriced { name: "unpriced".into() });
    let embedded = catalog.route("claude-haiku-4-5", Wire::Embeddings, None);
    assert_eq!(embedded.expect_err("no wire"), NoRoute::NotSpoken { name: "claude-haiku-4-5".into() });
    let error = route(&catalog, "fasst").expect_err("unknown").to_string();
    assert_eq!(error, "There is no model fasst. Did you mean fast?");
}

#[tokio::test]
async fn teams_see_what_is_theirs() {
    let catalog = catalog();
    let birds = birds();
    assert_eq!(asked(&catalog.route("nest", Wire::Chat, Some(&birds)).expect("theirs")), ["birds/nest-1 chat"]);
    assert_eq!(asked(&catalog.route("birds/egg", Wire::Chat, Some(&birds)).expect("theirs")), ["birds/egg chat"]);
    for (name, org) in [
        ("nest", None),
        ("nest", Some(OrgId::new("storks"))),
        ("birds/egg", None),
        ("birds:egg", Some(OrgId::new("storks"))),
        ("secret", Some(birds.clone())),
        ("secret", None),
    ] {
        let found = catalog.route(name, Wire::Chat, org.as_ref());
        assert!(matches!(found, Err(NoRoute::Unknown { .. })), "{name} for {org:?}: {found:?}");
    }
    assert!(catalog.route("secret", Wire::Chat, Some(&OrgId::new("storks"))).is_ok());
    let listed = |org: Option<&OrgId>| {
        let listed = catalog.snapshot().list(org, NOW, |_| true);
        listed.into_iter().map(|listed| listed.model.name.clone()).collect::<Vec<_>>()
    };
    let (all, theirs) = (listed(None), listed(Some(&birds)));
    assert!(theirs.contains(&"nest".to_owned()) && !all.contains(&"nest".to_owned()));
    for name in ["hidden", "gone", "secret"] {
        assert!(!all.contains(&name.to_owned()) && !theirs.contains(&name.to_owned()), "{name}");
    }
    assert!(all.is_sorted());
}

#[tokio::test]
async fn a_list_has_what_there_is_a_key_for() {
    let catalog = catalog();
    let listed = catalog.snapshot().list(None, NOW, |upstream| upstream.name == "second");
    let fast = listed.iter().find(|listed| listed.model.name == "fast").expect("it is served there, too");
    assert_eq!(fast.provider, "openai");
    assert_eq!(fast.priced.expect("a price").rates.usual.input, 150_000);
    assert!(listed.iter().all(|listed| listed.provider == "openai"), "{listed:?}");
    assert!(!listed.iter().any(|listed| listed.model.name == "dear"), "it is served at the other one");
}

#[tokio::test]
async fn weights_are_kept_evenly() {
    let catalog = catalog();
    let first = || {
        let mut turns = route(&catalog, "fast").expect("a route").turns(|_| Some(Access::house(None))).expect("turns");
        let mut turn = turns.next().expect("a turn");
        turn.succeeded();
        turn.what.upstream().name.clone()
    };
    let order: Vec<String> = (0..8).map(|_| first()).collect();
    assert_eq!(order, ["openai", "openai", "second", "openai", "openai", "openai", "second", "openai"]);
}

#[tokio::test]
async fn one_who_is_ill_is_asked_last_and_one_without_a_key_not_at_all() {
    let catalog = catalog();
    let fast = route(&catalog, "fast").expect("a route");
    let only = |name: &'static str| {
        move |upstream: &Arc<salon::catalog::Upstream>| (upstream.name == name).then(Access::default)
    };
    for _ in 0..5 {
        let mut turns = fast.turns(only("openai")).expect("turns");
        let turn = turns.next().expect("a turn");
        turns.failed(turn, &Fault::Unreachable.into(), true);
    }
    let mut turns = fast.turns(|_| Some(Access::default())).expect("turns");
    assert_eq!(turns.next().expect("a turn").what.upstream().name, "second");
    let mut turns = fast.turns(only("openai")).expect("turns");
    is_left_alone(&turns.next().expect_err("resting"));
    let ill: Vec<_> = catalog.snapshot().health().into_iter().filter(|one| one.view.failures > 0).collect();
    assert_eq!(ill.len(), 1);
    assert_eq!((ill[0].upstream.as_str(), ill[0].model.as_str()), ("openai", "gpt-4o-mini"));
    assert!(matches!(ill[0].view.condition, Condition::Resting(_)));
    // Another key there may be well.
    let other = |_: &Arc<salon::catalog::Upstream>| Some(Access { tag: "own:1".into(), ..Access::default() });
    assert!(fast.turns(other).expect("turns").next().is_ok());
    let none = fast.turns(|_| None).expect_err("no key");
    assert_eq!(none, NoRoute::NoKey { name: "fast".into(), providers: vec!["llm".into(), "openai".into()] });
}

#[tokio::test]
async fn health_outlives_a_change_of_the_catalog() {
    let catalog = catalog();
    for _ in 0..5 {
        let mut turns = route(&catalog, "dear").expect("a route").turns(|_| Some(Access::default())).expect("turns");
        let turn = turns.next().expect("a turn");
        turns.failed(turn, &Fault::Busy.into(), true);
    }
    catalog.replace(sources(FILE));
    let mut turns = route(&catalog, "dear").expect("a route").turns(|_| Some(Access::default())).expect("turns");
    is_left_alone(&turns.next().expect_err("resting"));
}

/// It is asked again in a while, which is told.
fn is_left_alone(trouble: &Trouble) {
    assert_eq!(trouble.fault, Fault::Resting);
    let rest = Settings::default().breaker_rest;
    assert!(trouble.retry_after.is_some_and(|after| after <= rest && after > rest / 2), "{trouble:?}");
}

#[tokio::test]
async fn a_cap_holds_for_all_models_of_an_upstream() {
    let file = r#"{"upstreams": {"one": {"kind": "compatible", "base_url": "http://127.0.0.1:1/v1", "at_once": 2}}}"#;
    let catalog = catalog_of(file);
    let begin =
        |name: &str| route(&catalog, name).expect("a route").turns(|_| Some(Access::default())).expect("turns").next();
    let first = begin("one/a").expect("a place");
    let _second = begin("one/b").expect("a place");
    assert_eq!(begin("one/c").expect_err("full"), Fault::Busy.into());
    drop(first);
    assert!(begin("one/c").is_ok());
}

#[tokio::test]
async fn prices_are_known_bounded_free_or_none() {
    let catalog = catalog();
    let priced = |name: &str| {
        let route = route(&catalog, name).expect(name);
        let mut turns = route.turns(|_| Some(Access::default())).expect("turns");
        let what = turns.next().expect("a turn").what.clone();
        (what.rates, what.price_known, route.is_priced())
    };
    assert_eq!(priced("dear"), (Rates::new(100_000_000, 200_500_000).into(), true, true));
    let mini = Prices::shipped().find("openai", "gpt-4o-mini", NOW).expect("a price");
    assert_eq!((priced("fast").0, priced("fast").1), (mini, true));
    let dearest = Prices::shipped().dearest("openai", NOW).expect("a price");
    assert_eq!(priced("openai/gpt-9"), (dearest, false, false), "not that of a name that looks like it");
    assert_eq!(priced("slow"), (Tariff::default(), false, false));
    // What a call may cost at most holds wherever it is answered.
    let fast = route(&catalog, "fast").expect("a route");
    assert_eq!(fast.most(1_000_000, 1_000_000), Micros(750_000));
    let mut bounded = sources(FILE);
    bounded.upper_bound = Some(Rates::new(7, 9).into());
    catalog.replace(bounded);
    let rates = route(&catalog, "openai/gpt-9").expect("a route");
    assert_eq!(rates.most(1_000_000, 1_000_000), Micros(16));
    let mut strict = sources(FILE);
    strict.unknown_price = UnknownPrice::Deny;
    catalog.replace(strict);
    let denied = route(&catalog, "openai/gpt-9").expect_err("no price");
    assert!(matches!(denied, NoRoute::Unpriced { .. }), "{denied:?}");
}

/// Prices of one token in and of one out, in millionths of a dollar for a million.
fn tiered() -> Sources {
    let prices = r#"
        [[price]]
        provider = "openai"
        model = "gpt-1"
        valid_from = "2020-01-01"
        input = "1"
        output = "10"
        cache_write_5m = "1.25"
        cache_write_1h = "2.5"
        tiers = { flex = { input = "0.5", output = "5" }, fast = { input = "2", output = "20" } }

        [[price]]
        provider = "openai"
        model = "gpt-2"
        valid_from = "2020-01-01"
        input = "3"
        output = "30"
    "#;
    let file = r#"{
        "upstreams": {
            "openai": {"kind": "openai", "key_env": "OPENAI_API_KEY"},
            "anthropic": {"kind": "anthropic", "key": "vault"}
        },
        "models": {
            "gpt-2": {"upstream": "openai", "fallback": ["gpt-1"]},
            "gpt-1": {"upstream": "openai", "fallback": ["gpt-2", "claude"]},
            "claude": {"upstream": "anthropic", "rates": {"input": "4", "output": "40", "tiers": {}}},
            "own": {"upstream": "openai", "rates": {"input": "5", "output": "50"}}
        }
    }"#;
    Sources { prices: Prices::parse(prices).expect("prices"), ..sources(file) }
}

/// Everybody who is asked, what is set aside for a million tokens written, and what one is charged that says nothing.
fn served(catalog: &Catalog, name: &str, tier: &str) -> Result<(Vec<String>, i64, Vec<i64>), NoRoute> {
    let mut route = route(catalog, name)?;
    route.serve(Some(tier), false)?;
    let mut turns = route.turns(|_| Some(Access::house(None)))?;
    let (mut asked, mut charged) = (Vec::new(), Vec::new());
    while let Ok(turn) = turns.next() {
        asked.push(turn.what.deployment.model.clone());
        charged.push(turn.what.charge(None).usual.output);
        if turns.failed(turn, &Fault::NotFound.into(), false).is_none() {
            break;
        }
    }
    Ok((asked, route.most(0, 1_000_000).0, charged))
}

#[tokio::test]
async fn a_tier_has_its_price_or_follows_the_policy() {
    let catalog = catalog_of(FILE);
    catalog.replace(Sources { unknown_price: UnknownPrice::Deny, ..tiered() });
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = names(&["gpt-1", "gpt-2", "claude"]);
    for (tier, expected) in [
        ("auto", (all.clone(), 40_000_000, vec![10_000_000, 30_000_000, 40_000_000])),
        ("default", (all.clone(), 40_000_000, vec![10_000_000, 30_000_000, 40_000_000])),
        // Whose price of it is not known asks at most what it usually asks.
        ("flex", (all, 40_000_000, vec![5_000_000, 30_000_000, 40_000_000])),
        // Who stands in without a price for it is left out, unless the question is translated and asks for none.
        ("priority", (names(&["gpt-1", "claude"]), 40_000_000, vec![20_000_000, 40_000_000])),
    ] {
        assert_eq!(served(&catalog, "gpt-1", tier), Ok(expected), "{tier}");
    }
    for (name, tier) in [("gpt-2", "fast"), ("gpt-1", "ultrafast"), ("gpt-1", "warp")] {
        let unpriced = NoRoute::UnpricedTier { name: name.into(), tier: tier.into() };
        assert_eq!(served(&catalog, name, tier), Err(unpriced.clone()), "{name}");
        assert!(unpriced.to_string().contains(tier), "{unpriced}");
    }
    assert_eq!(served(&catalog, "own", "warp"), Ok((names(&["own"]), 50_000_000, vec![50_000_000])));
    catalog.replace(Sources { unknown_price: UnknownPrice::UpperBound, ..tiered() });
    assert_eq!(served(&catalog, "gpt-1", "warp").expect("bounded").2[0], 30_000_000, "the dearest of OpenAI's");
    catalog.replace(Sources { unknown_price: UnknownPrice::Free, ..tiered() });
    assert_eq!(served(&catalog, "gpt-1", "warp").expect("known").2[0], 20_000_000, "no less than what is known");
}

#[tokio::test]
async fn what_is_served_in_a_hurry_unasked_is_set_aside_for_from_then_on() {
    let catalog = catalog_of(FILE);
    catalog.replace(Sources { unknown_price: UnknownPrice::Deny, ..tiered() });
    let charge = |tier: &str, served: Option<Tier>| {
        let mut route = route(&catalog, "gpt-1").expect("a route");
        route.retain(|_| false);
        route.serve(Some(tier), false).expect("priced");
        let turn = route.turns(|_| Some(Access::house(None))).expect("turns").next().expect("a turn");
        (route.most(0, 1_000_000).0, turn.what.charge(served).usual.output)
    };
    assert_eq!(charge("auto", Some(Tier::Usual)), (10_000_000, 10_000_000));
    assert_eq!(charge("default", Some(Tier::Fast)), (10_000_000, 20_000_000), "what the answer says is charged");
    assert_eq!(charge("fast", Some(Tier::Usual)), (20_000_000, 10_000_000), "no room for it");
    assert_eq!(charge("auto", Some(Tier::Fast)), (10_000_000, 20_000_000));
    assert_eq!(charge("auto", None), (20_000_000, 10_000_000), "it is remembered");
    assert_eq!(charge("default", None), (10_000_000, 10_000_000));
    assert_eq!(charge("auto", Some(Tier::Other)), (20_000_000, 20_000_000), "the dearest that is known");
}

#[tokio::test]
async fn what_is_kept_for_long_is_set_aside_for_where_it_is_asked_for() {
    let catalog = catalog_of(FILE);
    catalog.replace(tiered());
    for (keeps_long, most) in [(false, 1_250_000), (true, 2_500_000)] {
        let mut route = route(&catalog, "gpt-1").expect("a route");
        route.retain(|_| false);
        route.serve(None, keeps_long).expect("priced");
        assert_eq!(route.most(1_000_000, 0), Micros(most));
    }
}

#[tokio::test]
async fn what_nobody_knows_goes_to_whoever_takes_everything() {
    let file =
        r#"{"upstreams": {"own": {"kind": "compatible", "base_url": "http://127.0.0.1:1/v1", "catch_all": true}}}"#;
    let catalog = catalog_of(file);
    assert_eq!(asked(&route(&catalog, "llama3.2:3b").expect("a route")), ["own/llama3.2:3b chat"]);
    assert_eq!(asked(&route(&catalog, "echo").expect("a route")), ["echo/echo chat"]);
}

#[tokio::test]
async fn an_entry_that_cannot_be_right_is_left_out_and_said() {
    for (entry, why) in [
        (r#""upstreams": {"x": {}}"#, "upstream x: say its kind"),
        (r#""upstreams": {"x": {"kind": "compatible"}}"#, "upstream x: say its base_url"),
        (r#""upstreams": {"x/y": {"kind": "openai"}}"#, "upstream x/y: a name has letters"),
        (r#""upstreams": {"x": {"kind": "openai", "base_url": "ftp://x"}}"#, "neither http:// nor https://"),
        (r#""upstreams": {"x": {"kind": "openai", "base_url": "https://a:b@x"}}"#, "contains a password"),
        (r#""upstreams": {"x": {"kind": "openai", "key_env": "MASTER_KEY"}}"#, "MASTER_KEY is no name of a key"),
        (r#""upstreams": {"x": {"kind": "openai", "key_env": "A_TOKEN"}}"#, "A_TOKEN, which is not set"),
        (r#""upstreams": {"x": {"kind": "openai", "key_env": "A_KEY", "key": "vault"}}"#, "key_env or key, not both"),
        (r#""upstreams": {"x": {"kind": "openai", "speaks": ["klingon"]}}"#, "there is no wire klingon"),
        (r#""upstreams": {"x": {"kind": "openai", "headers": {"Host": "a"}}}"#, "the header Host cannot be sent"),
        (
            r#""upstreams": {"x": {"kind": "openai", "org": "o", "base_url": "http://10.0.0.1"}}"#,
            "This address cannot be used",
        ),
        (
            r#""upstreams": {"x": {"kind": "openai", "org": "o", "key_env": "A_KEY"}}"#,
            "a team's key stands in the vault",
        ),
        (r#""models": {"x": {"upstream": "nobody"}}"#, "model x: there is no upstream nobody"),
        (r#""models": {"x": {}}"#, "model x: no upstream serves it"),
        (r#""models": {"x y": {"upstream": "echo"}}"#, "model x y: a name has letters"),
        (r#""models": {"x": {"upstream": "echo", "rates": {"input": "-1", "output": "1"}}}"#, "a price is in dollars"),
        (r#""models": {"x": {"upstream": "echo", "context": 0}}"#, "a number of tokens is above zero"),
        (r#""models": {"x": {"upstream": "echo", "aliases": ["echo"]}}"#, "the alias echo is taken"),
    ] {
        let catalog = catalog_of(&format!("{{{entry}}}"));
        let problems = catalog.snapshot().problems.join("; ");
        assert!(problems.contains(why), "{entry}: {problems:?}");
        assert!(route(&catalog, "echo").is_ok(), "the others are there all the same");
    }
}

#[tokio::test]
async fn a_teams_upstream_may_be_in_the_local_network_if_an_administrator_says_so() {
    let file = r#"{"upstreams": {"x": {"kind": "compatible", "org": "birds", "base_url": "http://gpu.lan:8000/v1"}}}"#;
    let mut sources = sources(file);
    sources.rules = Arc::new(Rules::new(["gpu.lan:8000"]).expect("rules"));
    let catalog = Catalog::of(Clock::wound_to(NOW), Outbound::new(), sources);
    assert_eq!(catalog.snapshot().problems, [""; 0]);
    assert!(catalog.route("x/any", Wire::Chat, Some(&birds())).is_ok());
}

#[tokio::test]
async fn every_errand_has_its_address_and_every_key_its_header() {
    let file = r#"{"upstreams": {
        "openai": {"kind": "openai"},
        "azure": {"kind": "compatible", "base_url": "https://a.example/openai/v1?api-version=2", "key_header": "api-key"},
        "claude": {"kind": "anthropic", "base_url": "https://gw.example/anthropic/"},
        "versioned": {"kind": "anthropic", "base_url": "https://gw.example/v1"},
        "bearer": {"kind": "anthropic", "key_env": "GW_AUTH_TOKEN"},
        "google": {"kind": "gemini", "headers": {"x-team": "birds"}},
        "llm": {"kind": "midm", "base_url": "http://127.0.0.1:8000"}
    }}"#;
    let catalog = catalog_of(file);
    let snapshot = catalog.snapshot();
    let ask = |wire, stream| Errand::Ask { wire, model: "tuned/m-1", stream, array: false };
    for (upstream, errand, expected) in [
        ("openai", ask(Wire::Chat, true), Some("POST https://api.openai.com/v1/chat/completions")),
        ("openai", ask(Wire::Responses, false), Some("POST https://api.openai.com/v1/responses")),
        ("openai", ask(Wire::Completions, false), Some("POST https://api.openai.com/v1/completions")),
        ("openai", ask(Wire::Embeddings, false), Some("POST https://api.openai.com/v1/embeddings")),
        ("openai", Errand::List, Some("GET https://api.openai.com/v1/models")),
        ("openai", Errand::Count { wire: Wire::Chat, model: "m" }, None),
        ("azure", ask(Wire::Chat, true), Some("POST https://a.example/openai/v1/chat/completions?api-version=2")),
        ("claude", ask(Wire::Messages, true), Some("POST https://gw.example/anthropic/v1/messages")),
        ("versioned", ask(Wire::Messages, true), Some("POST https://gw.example/v1/messages")),
        (
            "claude",
            Errand::Count { wire: Wire::Messages, model: "m" },
            Some("POST https://gw.example/anthropic/v1/messages/count_tokens"),
        ),
        (
            "google",
            ask(Wire::Generate, false),
            Some("POST https://generativelanguage.googleapis.com/v1beta/models/tuned%2Fm-1:generateContent"),
        ),
        (
            "google",
            ask(Wire::Generate, true),
            Some(
                "POST https://generativelanguage.googleapis.com/v1beta/models/tuned%2Fm-1:streamGenerateContent?alt=sse",
            ),
        ),
        ("google", Errand::List, Some("GET https://generativelanguage.googleapis.com/v1beta/models")),
        ("llm", ask(Wire::Midm, true), Some("POST http://127.0.0.1:8000/chat/stream")),
        ("llm", ask(Wire::Midm, false), Some("POST http://127.0.0.1:8000/chat")),
        ("llm", ask(Wire::Embeddings, false), Some("POST http://127.0.0.1:8000/embeddings")),
        ("echo", ask(Wire::Chat, false), None),
    ] {
        let upstream = snapshot.find_upstream(upstream).expect(upstream);
        let address = upstream.address(errand).map(|(method, uri)| format!("{method} {uri}"));
        assert_eq!(address.as_deref(), expected, "{} {errand:?}", upstream.name);
    }
    for (upstream, expected) in [
        ("openai", vec!["authorization: Bearer sk-1"]),
        ("azure", vec!["api-key: sk-1"]),
        ("claude", vec!["anthropic-version: 2023-06-01", "x-api-key: sk-1"]),
        ("bearer", vec!["anthropic-version: 2023-06-01", "authorization: Bearer sk-1"]),
        ("google", vec!["x-goog-api-key: sk-1", "x-team: birds"]),
        ("llm", vec!["authorization: Bearer sk-1"]),
    ] {
        let mut headers = HeaderMap::new();
        let upstream = snapshot.find_upstream(upstream).expect(upstream);
        upstream.dress(&mut headers, Some(&Secret::new("sk-1"))).expect("a key");
        let mut shown: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        shown.sort();
        assert_eq!(shown, expected, "{}", upstream.name);
        assert!(!format!("{headers:?}").contains("sk-1"), "a key is not shown");
        assert!(upstream.dress(&mut headers, Some(&Secret::new("a\nb"))).is_err());
    }
    assert_eq!(snapshot.find_upstream("azure").expect("azure").origin().as_deref(), Some("https://a.example"));
}

#[tokio::test]
async fn a_server_says_what_it_is() {
    let midm = axum::Router::new().route("/health", get(|| async { Json(json!({ "model_loaded": true })) }));
    let models = json!({ "data": [{ "id": "b" }, { "id": "a" }] });
    let compatible = axum::Router::new().route("/v1/models", get(move || async move { Json(models) }));
    let mut found = Vec::new();
    for server in [midm, compatible] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(axum::serve(listener, server).into_future());
        let catalog = catalog_of(&format!(r#"{{"upstreams": {{"llm": {{"base_url": "{base}/"}}}}}}"#));
        assert_eq!(
            catalog.snapshot().find_upstream("llm").expect("llm").kind,
            Kind::Compatible,
            "as long as nobody knows"
        );
        catalog.decide().await;
        let kind = catalog.snapshot().find_upstream("llm").expect("llm").kind;
        found.push((kind, catalog.check("llm").await.expect("llm").expect("a list")));
    }
    assert_eq!(
        found,
        [(Kind::Midm, vec!["midm".to_owned()]), (Kind::Compatible, vec!["b".to_owned(), "a".to_owned()])]
    );
    let away = catalog_of(r#"{"upstreams": {"llm": {"base_url": "http://127.0.0.1:9"}}}"#);
    away.decide().await;
    assert_eq!(away.check("llm").await.expect("llm"), Err(Fault::Unreachable));
    assert!(away.check("nobody").await.is_none());
}

on_both_databases! {
    what_is_edited_counts_at_once_and_the_database_wins
    who_changes_the_catalog_stands_in_the_audit
    another_process_hears_of_a_change
    what_could_not_be_used_is_not_taken
    a_row_that_cannot_be_read_takes_nobody_down
    prices_change_with_the_day
}

async fn pen(store: &Store) -> Pen {
    let clock = Clock::wound_to(NOW);
    let masters = MasterKeys::parse(&MasterKeys::generate()).expect("a master key");
    Pen::new(&Keys::open(masters, store, &clock).await.expect("keys"), &clock, Actor::Operator)
}

/// What the audit has, the oldest first.
async fn told(store: &Store) -> Vec<String> {
    let mut lines = store.read().await.expect("read").list_audit(&AuditFilter::default(), 100).await.expect("lines");
    lines.reverse();
    lines.iter().map(|line| format!("{} {} {}", line.action, line.object, line.detail)).collect()
}

async fn open(store: &Store, file: &str) -> Arc<Catalog> {
    Catalog::open(store.clone(), Clock::wound_to(NOW), Outbound::new(), sources(file)).await.expect("a catalog")
}

async fn what_is_edited_counts_at_once_and_the_database_wins(Scratch { store, .. }: Scratch) {
    let pen = pen(&store).await;
    let catalog = open(&store, FILE).await;
    let local = UpstreamSpec {
        kind: Some(Kind::Compatible),
        base_url: Some("http://127.0.0.1:1/v1".into()),
        ..UpstreamSpec::default()
    };
    catalog.set_upstream(&pen, "local", &local).await.expect("set");
    let model = |upstream: &str| ModelSpec { upstream: Some(upstream.into()), ..ModelSpec::default() };
    catalog.set_model(&pen, "mine", &model("local")).await.expect("set");
    assert_eq!(asked(&route(&catalog, "mine").expect("a route")), ["local/mine chat"]);
    // In the place of what stands in the file, and back.
    catalog.set_model(&pen, "slow", &model("local")).await.expect("set");
    assert_eq!(asked(&route(&catalog, "slow").expect("a route")), ["local/slow chat"]);
    assert!(catalog.remove_model(&pen, "slow").await.expect("remove"));
    assert_eq!(asked(&route(&catalog, "slow").expect("a route")), ["llm/midm-2 midm"]);
    assert!(matches!(catalog.remove_model(&pen, "slow").await, Err(EditError::InFile(name)) if name == "slow"));
    assert!(matches!(catalog.remove_upstream(&pen, "llm").await, Err(EditError::InFile(name)) if name == "llm"));
    assert!(!catalog.remove_model(&pen, "nobody").await.expect("remove"));
    catalog.set_model(&pen, "slow", &ModelSpec { off: true, ..model("llm") }).await.expect("set");
    assert!(route(&catalog, "slow").is_err());
    // Without its upstream a model is not served, and says so.
    assert!(catalog.remove_upstream(&pen, "local").await.expect("remove"));
    assert!(route(&catalog, "mine").is_err());
    assert_eq!(catalog.snapshot().problems.len(), 2, "{:?}", catalog.snapshot().problems);
    let reopened = open(&store, FILE).await;
    assert!(route(&reopened, "slow").is_err(), "it was kept");
}

async fn another_process_hears_of_a_change(Scratch { store, .. }: Scratch) {
    let pen = pen(&store).await;
    let (here, there) = (open(&store, "{}").await, open(&store, "{}").await);
    assert!(!there.refresh().await.expect("a look"));
    let spec = ModelSpec { upstream: Some("echo".into()), ..ModelSpec::default() };
    here.set_model(&pen, "parrot", &spec).await.expect("set");
    assert!(route(&there, "parrot").is_err());
    assert!(there.refresh().await.expect("a look"));
    assert!(route(&there, "parrot").is_ok());
    assert!(!there.refresh().await.expect("a look"), "once is enough");
}

async fn what_could_not_be_used_is_not_taken(Scratch { store, .. }: Scratch) {
    let pen = pen(&store).await;
    let catalog = open(&store, FILE).await;
    let bad = UpstreamSpec { kind: Some(Kind::Compatible), ..UpstreamSpec::default() };
    assert!(catalog.set_upstream(&pen, "x", &bad).await.is_err());
    let good = UpstreamSpec { kind: Some(Kind::OpenAi), ..UpstreamSpec::default() };
    assert!(catalog.set_upstream(&pen, "x y", &good).await.is_err());
    for spec in [
        ModelSpec::default(),
        ModelSpec { upstream: Some("nobody".into()), ..ModelSpec::default() },
        ModelSpec { upstream: Some("echo".into()), aliases: vec!["fast".into()], ..ModelSpec::default() },
        ModelSpec { upstream: Some("echo".into()), fallback: vec!["a b".into()], ..ModelSpec::default() },
        ModelSpec {
            deployments: vec![DeploymentSpec { upstream: "echo".into(), model: Some("../x".into()), weight: None }],
            ..ModelSpec::default()
        },
    ] {
        assert!(catalog.set_model(&pen, "x", &spec).await.is_err(), "{spec:?}");
    }
    let rates = RatesSpec { input: "1".into(), output: "2".into(), ..RatesSpec::default() };
    assert!(catalog.set_price(&pen, "openai", "x", "yesterday", &rates).await.is_err());
    let wrong = RatesSpec { input: "free".into(), ..rates };
    assert!(catalog.set_price(&pen, "openai", "x", "2026-01-01", &wrong).await.is_err());
    assert_eq!(store.read_catalog().await.expect("rows").revision, 0);
    assert_eq!(told(&store).await, Vec::<String>::new(), "what was not done is not told");
}

async fn who_changes_the_catalog_stands_in_the_audit(Scratch { store, .. }: Scratch) {
    let (catalog, pen) = (open(&store, FILE).await, pen(&store).await);
    let local = UpstreamSpec {
        kind: Some(Kind::Compatible),
        base_url: Some("http://127.0.0.1:1/v1".into()),
        headers: BTreeMap::from([("x-api-key".to_owned(), "canary".to_owned())]),
        ..UpstreamSpec::default()
    };
    let rates = RatesSpec { input: "1".into(), output: "2.5".into(), ..RatesSpec::default() };
    let mine = ModelSpec { upstream: Some("local".into()), rates: Some(rates.clone()), ..ModelSpec::default() };
    catalog.set_upstream(&pen, "local", &local).await.expect("set");
    catalog.set_model(&pen, "mine", &mine).await.expect("set");
    catalog.set_price(&pen, "openai", "new-1", "2026-01-01", &rates).await.expect("set");
    for _ in 0..2 {
        catalog.remove_price(&pen, "openai", "new-1", "2026-01-01").await.expect("removed");
        catalog.remove_model(&pen, "mine").await.expect("removed");
        catalog.remove_upstream(&pen, "local").await.expect("removed");
    }
    let lines = [
        r#"upstream.set local {"off":false}"#,
        r#"model.set mine {"off":false,"rates":{"input":"1","output":"2.5"}}"#,
        r#"price.set openai/new-1 {"from":"2026-01-01","rates":{"input":"1","output":"2.5"}}"#,
        r#"price.removed openai/new-1 {"from":"2026-01-01"}"#,
        "model.removed mine {}",
        "upstream.removed local {}",
    ];
    assert_eq!(told(&store).await, lines, "once each, with no word of a header");
}

async fn a_row_that_cannot_be_read_takes_nobody_down(Scratch { store, .. }: Scratch) {
    let rows = [("upstreams", "{"), ("models", r#"{"newer": 1}"#)]
        .map(|(name, body)| Entry { name: name.into(), body: body.into() });
    store
        .write(rows, |tx, [upstream, model]| {
            Box::pin(async move {
                tx.set_upstream(upstream, NOW).await?;
                tx.set_model(model, NOW).await?;
                let price = PriceRow {
                    provider: "p".into(),
                    model: "m".into(),
                    valid_from: "never".into(),
                    body: r#"{"input":"1","output":"1"}"#.into(),
                };
                tx.set_price(&price, NOW).await
            })
        })
        .await
        .expect("set");
    let catalog = open(&store, FILE).await;
    assert_eq!(catalog.snapshot().problems.len(), 3, "{:?}", catalog.snapshot().problems);
    assert!(route(&catalog, "fast").is_ok());
}

async fn prices_change_with_the_day(Scratch { store, .. }: Scratch) {
    let (clock, pen) = (Clock::wound_to(NOW), pen(&store).await);
    let catalog = Catalog::open(store, clock.clone(), Outbound::new(), sources(FILE)).await.expect("a catalog");
    let rates = |input: &str| RatesSpec { input: input.into(), output: "9".into(), ..RatesSpec::default() };
    catalog.set_price(&pen, "openai", "new-1", "2026-01-01", &rates("2")).await.expect("set");
    catalog.set_price(&pen, "openai", "new-1", "2026-01-02", &rates("1")).await.expect("set");
    let input = |name: &str| route(&catalog, name).map(|route| route.most(1_000_000, 0));
    assert_eq!(input("new-1"), Ok(Micros(2_000_000)), "a price makes a model known");
    let listed = |model: &str| {
        let of = catalog.list_prices().into_iter().filter(|price| price.model == model);
        of.map(|price| (price.valid_from, price.tariff.usual.input, price.said, price.counts)).collect::<Vec<_>>()
    };
    let (first, second) = ("2026-01-01".to_owned(), "2026-01-02".to_owned());
    assert_eq!(
        listed("new-1"),
        [(first.clone(), 2_000_000, true, true), (second.clone(), 1_000_000, true, false)],
        "what does not count yet is listed, too"
    );
    assert!(listed("gpt-4o").iter().any(|(.., said, counts)| !said && *counts), "what ships is nobody's to forget");
    catalog.set_price(&pen, "nobody", "odd-1", "2026-01-01", &rates("3")).await.expect("set");
    assert_eq!(listed("odd-1").len(), 1, "what was said is listed, whoever is asked");
    clock.wind(std::time::Duration::from_secs(24 * 60 * 60));
    assert_eq!(input("new-1"), Ok(Micros(1_000_000)), "whoever looks sees the day's price");
    assert_eq!(listed("new-1"), [(first, 2_000_000, true, false), (second, 1_000_000, true, true)]);
    assert!(catalog.refresh().await.expect("a look"), "a new day");
    assert!(catalog.remove_price(&pen, "openai", "new-1", "2026-01-02").await.expect("remove"));
    assert_eq!(input("new-1"), Ok(Micros(2_000_000)));
    assert!(!catalog.remove_price(&pen, "openai", "new-1", "2026-01-02").await.expect("remove"));
}

#[test]
fn specs_are_written_without_what_is_usual() {
    let spec = Spec { upstreams: BTreeMap::from([("a".to_owned(), UpstreamSpec::default())]), ..Spec::default() };
    assert_eq!(serde_json::to_string(&spec).expect("text"), r#"{"upstreams":{"a":{}},"models":{}}"#);
}
