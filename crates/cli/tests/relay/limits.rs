//! Limits that hold, whoever comes at once, and charges for those who go early.

use std::time::Duration;

use futures_util::future::join_all;
use salon::Actor;
use salon::people::DEFAULT_ORG;
use salon_core::{Limit, LimitId, Measure, OrgId, Period, Policy, Scope};
use salon_mock::upstream::Trouble;
use serde_json::Value;

use crate::stage::{Stage, question};

async fn limit(stage: &Stage, measure: Measure, amount: i64, policy: Policy) {
    let limit = Limit {
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
    assert!(stage.house.relay.book.add_limit(limit, &stage.house.salon.pen(Actor::Operator)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_calls_at_once_a_cap_of_ten_lets_ten_through() {
    // So that it is the ledger that refuses, and not the door for so many calls of one person.
    let stage = Stage::with(|config| config.relay.calls_per_user = 1_000).await;
    limit(&stage, Measure::Requests, 10, Policy::Block).await;
    let (path, body) = question("chat", "gpt", "hi", false);
    let calls = (0..1000).map(|_| async { stage.post(&path, &body).await });
    let answers = join_all(calls).await;
    let passed = answers.iter().filter(|answer| answer.status() == 200).count();
    let refused: Vec<_> = answers.into_iter().filter(|answer| answer.status() == 429).collect();
    assert_eq!((passed, refused.len()), (10, 990));
    assert_eq!(stage.upstream.calls().len(), 10);
    for answer in refused {
        let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=86_400).contains(&wait), "{wait}");
        assert_eq!(answer.headers()["x-should-retry"], "false");
        for (name, value) in [("limit", "10"), ("remaining", "0"), ("scope", "org")] {
            assert_eq!(answer.headers()[format!("x-ratelimit-{name}-requests")], value);
        }
        assert_eq!(answer.headers()["x-ratelimit-reset-requests"], format!("{wait}s"));
        let words: Value = answer.json().await.unwrap();
        assert_eq!(words["error"]["code"], "quota_exceeded", "{words}");
    }
    assert_eq!(stage.used().await.calls, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_is_set_aside_before_it_is_spent() {
    let stage = Stage::open().await;
    // A thousand tokens of answer cost 2000 millionths: one call fits, with what it reads, and no second beside it.
    limit(&stage, Measure::Micros, 2_500, Policy::Hard).await;
    let (path, body) = question("chat", "gpt", "[[wait=300]] [[say:two storks]]", false);
    let (first, second) = tokio::join!(stage.post(&path, &body), stage.post(&path, &body));
    let mut statuses = [first.status().as_u16(), second.status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 402], "there was money for one of them at a time");
    stage.used().await;
    assert_eq!(stage.post(&path, &body).await.status(), 200, "the first one took less than was set aside");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hangs_up_after_the_first_word_pays_for_what_was_said() {
    let stage = Stage::with(|config| config.relay.drain = Duration::ZERO).await;
    for door in ["chat", "messages", "generate", "responses"] {
        let (path, body) = question(door, "gpt", "[[words=400]] [[pace=20]]", true);
        let mut answer = stage.post(&path, &body).await;
        assert_eq!(answer.status(), 200);
        answer.chunk().await.unwrap();
        drop(answer);
    }
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while stage.used().await.calls < 4 {
        assert!(tokio::time::Instant::now() < patience, "somebody is never charged");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let used = stage.used().await;
    assert_eq!((used.calls, used.estimated), (4, 4), "{used:?}");
    assert!(used.tokens.input >= 4 && used.tokens.output >= 4 && used.micros > 0, "{used:?}");
    assert!(stage.upstream.calls().iter().all(|call| !call.finished), "the upstream was hung up on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_heard_to_its_end_for_the_bill_alone() {
    let stage = Stage::open().await;
    let (path, body) = question("chat", "gpt", "[[words=40]] [[pace=10]]", true);
    let mut answer = stage.post(&path, &body).await;
    answer.chunk().await.unwrap();
    drop(answer);
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while stage.used().await.calls < 1 {
        assert!(tokio::time::Instant::now() < patience, "nobody is charged");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (used, call) = (stage.used().await, stage.upstream.calls().remove(0));
    assert!(call.finished, "{call:?}");
    assert_eq!((used.tokens.input, used.tokens.output), (call.usage.input, call.usage.output), "to the token");
    assert_eq!(used.estimated, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_is_asked_again_and_what_was_begun_is_not() {
    let stage = Stage::open().await;
    let (path, body) = question("chat", "gpt", "[[words=30]]", true);
    stage.upstream.add_trouble(Trouble::new("status:503").times(1)).unwrap();
    let answer = stage.post(&path, &body).await;
    assert_eq!(answer.headers()["x-salon-attempts"], "2");
    assert!(answer.text().await.unwrap().contains("[DONE]"));
    assert_eq!(stage.upstream.calls().len(), 2);

    stage.upstream.clear_troubles();
    stage.upstream.add_trouble(Trouble::new("cut:3").times(1)).unwrap();
    let answer = stage.post(&path, &body).await;
    let text = answer.text().await.unwrap();
    assert!(!text.contains("[DONE]") && text.contains("upstream_cut"), "{text}");
    assert_eq!(stage.upstream.calls().len(), 3, "never again after the first byte");
    let used = stage.used().await;
    assert_eq!((used.calls, used.estimated), (2, 1), "{used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_s_own_secrets_and_words_stay_with_us() {
    let stage = Stage::open().await;
    for (mode, status) in [("status:401", 502), ("status:500", 503), ("html", 502), ("garbage", 502), ("empty", 502)] {
        stage.upstream.clear_troubles();
        stage.upstream.add_trouble(Trouble::new(mode)).unwrap();
        for stream in [false, true] {
            let (path, body) = question("chat", "claude", "hi", stream);
            let answer = stage.post(&path, &body).await;
            let got = answer.status().as_u16();
            let text = answer.text().await.unwrap();
            assert!(!text.contains("canary") && !text.contains("trouble was ordered"), "{mode}: {text}");
            assert!(
                got == status || got == 503 || (stream && got == 200 && text.contains("error")),
                "{mode}, {stream}: {got} {text}"
            );
        }
    }
}
