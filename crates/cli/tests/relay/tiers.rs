//! Calls that are served sooner or later than others, at the prices that are asked for that.

use salon::Actor;
use salon::catalog::{Prices, UnknownPrice};
use salon::people::DEFAULT_ORG;
use salon_core::{Limit, LimitId, Measure, OrgId, Period, Policy, Scope};
use serde_json::{Value, json};

use crate::stage::{Stage, question};

/// One dollar a million in and two out; ten times that for whoever is in a hurry, half of it for whoever waits.
const PRICES: &str = r#"
    [[price]]
    provider = "anthropic"
    model = "claude-1"
    valid_from = "2020-01-01"
    input = "1"
    output = "2"

    [price.tiers.fast]
    input = "10"
    output = "20"

    [[price]]
    provider = "google"
    model = "gemini-1"
    valid_from = "2020-01-01"
    input = "1"
    output = "2"

    [price.tiers.priority]
    input = "10"
    output = "20"

    [[price]]
    provider = "openai"
    model = "gpt-1"
    valid_from = "2020-01-01"
    input = "1"
    output = "2"

    [price.tiers.flex]
    input = "0.5"
    output = "1"

    [price.tiers.fast]
    input = "10"
    output = "20"
"#;

const MODELS: [(&str, &str); 3] = [("openai", "gpt-1"), ("anthropic", "claude-1"), ("gemini", "gemini-1")];

async fn stage(unknown_price: UnknownPrice) -> Stage {
    Stage::with(|config| {
        config.sources.prices = Prices::parse(PRICES).unwrap();
        config.sources.unknown_price = unknown_price;
        for (upstream, model) in MODELS {
            let spec = format!("upstream = '{upstream}'\noutput = 1000");
            config.sources.file.models.insert(model.to_owned(), toml::from_str(&spec).unwrap());
        }
    })
    .await
}

/// What a call with these fields cost, and what it would usually have cost, in millionths of a dollar.
async fn cost(stage: &Stage, door: &str, model: &str, text: &str, stream: bool, more: Value) -> (i64, i64) {
    let before = stage.used().await.micros;
    let (path, mut body) = question(door, model, text, stream);
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = stage.post(&path, &body).await;
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 200, "{door} {more}: {text}");
    let usage = stage.upstream.calls().last().unwrap().usage;
    (stage.used().await.micros - before, usage.input + 2 * usage.output)
}

async fn limit(stage: &Stage, amount: i64) {
    let limit = Limit {
        id: LimitId::new(stage.house.salon.clock.id()),
        org: OrgId::new(DEFAULT_ORG),
        scope: Scope::Org,
        subject: None,
        measure: Measure::Micros,
        period: Period::Day,
        amount,
        policy: Policy::Hard,
        thresholds: vec![100],
    };
    assert!(stage.house.relay.book.add_limit(limit, &stage.house.salon.pen(Actor::Operator)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hurried_call_is_charged_by_its_own_price_at_every_door() {
    let stage = stage(UnknownPrice::Deny).await;
    for (door, model, hurry) in [
        ("chat", "gpt-1", json!({ "service_tier": "priority" })),
        ("completions", "gpt-1", json!({ "service_tier": "fast" })),
        ("responses", "gpt-1", json!({ "service_tier": "priority" })),
        ("messages", "claude-1", json!({ "speed": "fast" })),
        ("generate", "gemini-1", json!({ "serviceTier": "priority" })),
    ] {
        for stream in [false, true] {
            let (usual, tokens) = cost(&stage, door, model, "[[say:two storks]]", stream, json!({})).await;
            assert_eq!(usual, tokens, "{door}, stream {stream}");
            let (hurried, tokens) = cost(&stage, door, model, "[[say:two storks]]", stream, hurry.clone()).await;
            assert_eq!(hurried, 10 * tokens, "{door}, stream {stream}");
            // Who has no room for it says so, and asks no more than usual.
            let words = "[[tier=standard]] [[say:two storks]]";
            let (served, tokens) = cost(&stage, door, model, words, stream, hurry.clone()).await;
            assert_eq!(served, tokens, "{door}, stream {stream}");
        }
    }
    let (waited, tokens) =
        cost(&stage, "chat", "gpt-1", "[[say:two storks]]", false, json!({ "service_tier": "flex" })).await;
    assert_eq!(waited, (tokens + 1) / 2, "who waits pays half");
    // In another protocol it is not asked for.
    let (carried, tokens) =
        cost(&stage, "chat", "claude-1", "[[say:two storks]]", false, json!({ "service_tier": "priority" })).await;
    assert_eq!(carried, tokens);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_much_is_set_aside_as_a_hurried_call_can_cost() {
    let stage = stage(UnknownPrice::Deny).await;
    // A thousand tokens of answer cost 2000 millionths, and 20000 in a hurry.
    limit(&stage, 15_000).await;
    let (path, mut body) = question("chat", "gpt-1", "[[say:two storks]]", false);
    assert_eq!(stage.post(&path, &body).await.status(), 200);
    body["service_tier"] = json!("priority");
    assert_eq!(stage.post(&path, &body).await.status(), 402);
    assert_eq!(stage.upstream.calls().len(), 1, "nobody was asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tier_whose_price_nobody_knows_follows_the_policy() {
    let strict = stage(UnknownPrice::Deny).await;
    for tier in ["ultrafast", "warp"] {
        let (path, mut body) = question("chat", "gpt-1", "hi", false);
        body["service_tier"] = json!(tier);
        let answer = strict.post(&path, &body).await;
        assert_eq!(answer.status(), 422);
        let words: Value = answer.json().await.unwrap();
        let error = &words["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!("model_not_priced"), &json!("service_tier")), "{words}");
        assert!(error["message"].as_str().unwrap().contains(tier), "{words}");
    }
    assert!(strict.upstream.calls().is_empty(), "nobody was asked");
    let bounded = stage(UnknownPrice::UpperBound).await;
    let ask = json!({ "service_tier": "ultrafast" });
    let (hurried, tokens) = cost(&bounded, "chat", "gpt-1", "[[say:two storks]]", false, ask).await;
    assert_eq!(hurried, 10 * tokens, "the dearest that is known of this provider");
    // Who has said what a model costs has said it of every tier.
    let (own, tokens) =
        cost(&strict, "chat", "gpt", "[[say:two storks]]", false, json!({ "service_tier": "warp" })).await;
    assert_eq!(own, tokens);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_that_is_always_in_a_hurry_is_noticed() {
    let stage = stage(UnknownPrice::Deny).await;
    let (hurried, tokens) =
        cost(&stage, "chat", "gpt-1", "[[tier=priority]] [[say:two storks]]", false, json!({})).await;
    assert_eq!(hurried, 10 * tokens, "by what the answer says");
    limit(&stage, 15_000).await;
    let (path, mut body) = question("chat", "gpt-1", "[[say:two storks]]", false);
    assert_eq!(stage.post(&path, &body).await.status(), 402, "the next one is set aside for");
    body["service_tier"] = json!("default");
    assert_eq!(stage.post(&path, &body).await.status(), 200, "unless it says that it has time");
}
