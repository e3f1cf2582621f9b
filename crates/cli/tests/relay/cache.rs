//! Answers that are given again: to whom, for how long, and which never.

use std::time::Duration;

use salon::Actor;
use salon::catalog::CacheFor;
use salon::people::{DEFAULT_ORG, add_org};
use salon::vault::Origin;
use salon_core::{Limit, LimitId, Measure, OrgId, Owner, Period, Policy, Scope};
use salon_engine::Secret;
use salon_mock::upstream::Trouble;
use serde_json::{Value, json};

use crate::stage::{Stage, question};

const MODELS: [&str; 6] = ["gpt", "claude", "gemini", "midm", "echo", "vectors"];

/// Every model gives the same answer for a minute.
fn remembering(config: &mut salon_cli::config::Config) {
    for name in MODELS {
        config.sources.file.models.get_mut(name).unwrap().cache_s = Some(60);
    }
}

fn shared(config: &mut salon_cli::config::Config) {
    remembering(config);
    config.sources.file.models.get_mut("gpt").unwrap().cache_for = Some(CacheFor::Org);
}

/// What a client sees of an answer: whether it was told before, the body, and the request's number.
async fn told(response: reqwest::Response) -> (String, String, String) {
    assert_eq!(response.status(), 200);
    let text = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let (shown, id) = (text("x-salon-cache"), text("x-request-id"));
    (shown, response.text().await.unwrap(), id)
}

async fn ask(stage: &Stage, key: &str, path: &str, body: &Value, headers: &[(&'static str, &str)]) -> String {
    told(stage.post_as(key, path, body, headers).await).await.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_told_again_byte_for_byte_whole_and_streamed() {
    let stage = Stage::with(remembering).await;
    let mut asked = 0;
    for door in ["chat", "completions", "responses", "messages", "generate"] {
        for model in ["gpt", "claude", "echo"] {
            for stream in [false, true] {
                let what = format!("{door} -> {model}, stream {stream}");
                let (path, body) = question(door, model, "[[say:two storks]]", stream);
                let (first, body_told, id) = told(stage.post(&path, &body).await).await;
                let calls = stage.upstream.calls().len();
                let again = stage.post(&path, &body).await;
                let head = again.headers().clone();
                let (second, same, other) = told(again).await;
                assert_eq!((first.as_str(), second.as_str()), ("miss", "hit"), "{what}");
                assert_eq!(same, body_told, "{what}");
                assert_ne!(other, id, "{what}: the number is the request's own");
                assert!(!same.contains(&id), "{what}: the first request's number stands in what others may read");
                let kind = if stream { "text/event-stream; charset=utf-8" } else { "application/json" };
                assert_eq!(head["content-type"], kind, "{what}");
                assert!(head.contains_key("age") && head["x-salon-cost"] == "0.00", "{what}: {head:?}");
                assert_eq!(stage.upstream.calls().len(), calls, "{what}: nobody is asked");
                asked += 1;
            }
        }
    }
    let used = stage.used().await;
    assert_eq!((used.calls, used.cache_hits), (2 * asked, asked), "{used:?}");
    let read: i64 = stage.upstream.calls().iter().map(|call| call.usage.input).sum();
    let echoed = used.tokens.input - read;
    assert!((1..=10 * 40).contains(&echoed), "what was told again used nothing: {used:?}, {read} read upstream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_to_one_is_not_told_to_another_unless_they_share() {
    let stage = Stage::with(shared).await;
    let salon = &stage.house.salon;
    let team = OrgId::new(DEFAULT_ORG);
    let bob = stage.key_of_somebody(&team, "Bob").await;
    let birds =
        add_org(&salon.store, &salon.clock, &stage.house.salon.pen(Actor::Operator), "birds", "UTC").await.unwrap().id;
    let stranger = stage.key_of_somebody(&birds, "Carol").await;
    for (model, with_bob) in [("gpt", "hit"), ("claude", "miss")] {
        let (path, body) = question("chat", model, "hi", false);
        assert_eq!(ask(&stage, &stage.key, &path, &body, &[]).await, "miss");
        assert_eq!(ask(&stage, &bob, &path, &body, &[]).await, with_bob, "{model}");
        assert_eq!(ask(&stage, &stranger, &path, &body, &[]).await, "miss", "{model}: never across organisations");
        // Everything that could change the answer decides.
        let mut warmer = body.clone();
        warmer["temperature"] = json!(0.5);
        assert_eq!(ask(&stage, &stage.key, &path, &warmer, &[]).await, "miss");
        let beta = [("anthropic-beta", "parrots-2026-01-01")];
        assert_eq!(ask(&stage, &stage.key, &path, &body, &beta).await, "miss");
        let counting = [("x-stainless-retry-count", "1")];
        assert_eq!(ask(&stage, &stage.key, &path, &body, &counting).await, "hit");
    }
    // A model that was changed has not answered yet.
    let (path, body) = question("chat", "gpt", "hi", false);
    assert_eq!(ask(&stage, &stage.key, &path, &body, &[]).await, "hit");
    let catalog = &stage.house.relay.catalog;
    let mut spec = catalog.find_model_spec("gpt").unwrap();
    spec.most_output = Some(900);
    catalog.set_model(&stage.house.salon.pen(Actor::Operator), "gpt", &spec).await.unwrap();
    assert_eq!(ask(&stage, &stage.key, &path, &body, &[]).await, "miss");
    // Whoever may not ask hears nothing, whatever is known.
    let scopes = salon_core::Scopes {
        models: salon_core::scopes::Allowed::parse("claude*").unwrap(),
        ..salon_core::Scopes::default()
    };
    let narrow = stage.key_of(scopes).await;
    assert_eq!(stage.post_as(&narrow, &path, &body, &[]).await.status(), 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_whole_answers_to_plain_questions_are_kept() {
    let stage = Stage::with(remembering).await;
    let (path, body) = question("chat", "gpt", "[[words=30]]", true);
    for mode in ["cut:3", "rst:3", "error:3", "no_done"] {
        stage.upstream.clear_troubles();
        stage.upstream.add_trouble(Trouble::new(mode).times(1)).unwrap();
        assert_eq!(told(stage.post(&path, &body).await).await.0, "miss", "{mode}");
        stage.upstream.clear_troubles();
    }
    // Whoever goes away early leaves nothing behind.
    let (path, body) = question("chat", "gpt", "[[words=20]] [[pace=15]]", true);
    let mut early = stage.post(&path, &body).await;
    early.chunk().await.unwrap();
    drop(early);
    assert_eq!(told(stage.post(&path, &body).await).await.0, "miss");
    assert_eq!(told(stage.post(&path, &body).await).await.0, "hit", "this one came whole");

    let (path, plain) = question("chat", "gpt", "hi", false);
    let tool = json!([{ "type": "function", "function": { "name": "fly", "parameters": { "type": "object" } } }]);
    for (field, value) in [("tools", tool), ("web_search_options", json!({}))] {
        let mut body = plain.clone();
        body[field] = value;
        for _ in 0..2 {
            assert_eq!(told(stage.post(&path, &body).await).await.0, "", "{field}: what acts is done each time");
        }
    }
    stage.upstream.add_trouble(Trouble::new("status:400").times(1)).unwrap();
    assert_eq!(stage.post(&path, &plain).await.status(), 400);
    assert_eq!(told(stage.post(&path, &plain).await).await.0, "miss", "a refusal is no answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_says_what_it_takes_and_time_ends_it() {
    let stage = Stage::with(remembering).await;
    let clock = &stage.house.salon.clock;
    let (path, body) = question("chat", "gpt", "hi", false);
    let say = async |words: &str| ask(&stage, &stage.key, &path, &body, &[("cache-control", words)]).await;
    assert_eq!(say("no-store").await, "");
    assert_eq!(say("private").await, "miss", "it was not kept before");
    assert_eq!(say("private").await, "hit");
    assert_eq!(say("no-store").await, "", "asked anew, and not kept");
    clock.wind(Duration::from_secs(30));
    assert_eq!(say("max-age=20").await, "miss");
    let again = stage.post(&path, &body).await;
    assert_eq!(again.headers()["age"], "0", "the newer answer is kept");
    clock.wind(Duration::from_secs(40));
    assert_eq!(say("no-cache").await, "miss");
    clock.wind(Duration::from_secs(40));
    assert_eq!(stage.post(&path, &body).await.headers()["age"], "40", "it was renewed");
    clock.wind(Duration::from_secs(20));
    assert_eq!(say("private").await, "miss", "a minute is over");
    assert_eq!(stage.upstream.calls().len(), 6);
    // With a key of its own a request is that request, and its answer is told by that memory first.
    let named = [("idempotency-key", "k-1")];
    for replayed in [false, true] {
        let answer = stage.post_as(&stage.key, &path, &body, &named).await;
        assert_eq!(answer.headers().contains_key("idempotent-replayed"), replayed);
        assert_eq!(answer.headers()["x-salon-cache"], "hit");
    }
    assert_eq!((stage.upstream.calls().len(), stage.used().await.calls), (6, 10), "the second was not even a call");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_counts_as_a_request_and_costs_no_money() {
    let stage = Stage::with(remembering).await;
    let limit = |measure, amount, policy| Limit {
        id: LimitId::new(stage.house.salon.clock.id()),
        org: OrgId::new(DEFAULT_ORG),
        scope: Scope::Org,
        subject: None,
        measure,
        period: Period::Day,
        amount,
        policy,
        thresholds: vec![80, 90, 100],
    };
    // A thousand tokens of answer and what is read: there is room for one question.
    let book = &stage.house.relay.book;
    assert!(
        book.add_limit(limit(Measure::Micros, 2_050, Policy::Hard), &stage.house.salon.pen(Actor::Operator))
            .await
            .unwrap()
    );
    assert!(
        book.add_limit(limit(Measure::Requests, 3, Policy::Block), &stage.house.salon.pen(Actor::Operator))
            .await
            .unwrap()
    );
    let (path, body) = question("chat", "gpt", "[[words=400]]", false);
    assert_eq!(told(stage.post(&path, &body).await).await.0, "miss");
    stage.used().await;
    let (_, other) = question("chat", "gpt", "[[words=401]]", false);
    assert_eq!(stage.post(&path, &other).await.status(), 402, "there is no money for another question");
    let micros = stage.used().await.micros;
    for left in ["1", "0"] {
        let answer = stage.post(&path, &body).await;
        assert_eq!(answer.headers()["x-ratelimit-remaining-requests"], left);
        assert_eq!(told(answer).await.0, "hit");
    }
    assert_eq!(stage.post(&path, &body).await.status(), 429, "it was the fourth request of the day");
    let used = stage.used().await;
    assert_eq!((used.calls, used.cache_hits, used.micros), (3, 2, micros), "{used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_s_own_key_paid_for_is_kept_only_if_the_model_says_so() {
    for (own_keys, expected) in [(false, ""), (true, "hit")] {
        let stage = Stage::with(|config| {
            shared(config);
            config.sources.file.models.get_mut("gpt").unwrap().cache_own_keys = own_keys;
        })
        .await;
        let origin = Origin::parse(&stage.upstream.base_url()).unwrap();
        let owner = Owner::User(stage.user.clone());
        stage
            .house
            .salon
            .vault
            .put_key(
                &owner,
                "openai",
                &origin,
                Secret::new("sk-alices-own-0123456789"),
                &stage.house.salon.pen(Actor::Operator),
            )
            .await
            .unwrap();
        let (path, body) = question("chat", "gpt", "hi", false);
        ask(&stage, &stage.key, &path, &body, &[]).await;
        assert_eq!(ask(&stage, &stage.key, &path, &body, &[]).await, expected);
        let bob = stage.key_of_somebody(&OrgId::new(DEFAULT_ORG), "Bob").await;
        assert_eq!(ask(&stage, &bob, &path, &body, &[]).await, "miss", "it is shared with nobody all the same");
        let keys: Vec<_> = stage.upstream.calls().into_iter().filter_map(|call| call.key).collect();
        assert_eq!(keys[0], "sk-alices-own-0123456789");
    }
}
