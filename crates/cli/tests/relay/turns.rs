//! A question from Telegram stands in the same ledger as a call.

use std::time::Duration;

use salon::Actor;
use salon::people::{NewUser, UserChange, add_org, add_user, set_user};
use salon_core::people::Role;
use salon_core::{Limit, LimitId, Measure, OrgId, Period, Policy, Scope, Time};
use salon_mock::{Mock, MockConfig};

use crate::stage::Stage;

const TOKEN: &str = "1001:parrot-token";
const CHAT: i64 = 1001;
const ALICE: i64 = 9001;

async fn with_a_parrot() -> (Mock, Stage) {
    let mock = Mock::start(MockConfig::default()).await.unwrap();
    let telegram = mock.base_url().to_owned();
    let stage = Stage::with(|config| {
        config.around.api_base = telegram;
        config.around.open = true;
        let list = format!("bots:\n  - bot_id: parrot\n    adapter: parrot\n    telegram_token: \"{TOKEN}\"\n");
        std::fs::write(&config.bots_file, list).unwrap();
    })
    .await;
    (mock, stage)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_to_a_bot_is_charged_to_whoever_asked() {
    let (mock, stage) = with_a_parrot().await;
    mock.says(TOKEN, CHAT, ALICE, "two storks");
    mock.wait_for_texts(TOKEN, CHAT, |texts| texts.iter().any(|text| text == "two storks")).await;
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while stage.used().await.calls < 1 {
        assert!(tokio::time::Instant::now() < patience, "the turn is not in the ledger");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let used = stage.used().await;
    assert!(used.tokens.output > 0 && used.micros == 0, "a parrot talks for nothing: {used:?}");
    let salon = &stage.house.salon;
    let user = salon.store.read().await.unwrap().find_user_of_telegram(ALICE).await.unwrap();
    assert_eq!(user.map(|user| user.org.as_str().to_owned()).as_deref(), Some("default"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_for_bots_as_well_and_says_so_in_the_chat() {
    let (mock, stage) = with_a_parrot().await;
    let limit = Limit {
        id: LimitId::new(stage.house.salon.clock.id()),
        org: OrgId::new("default"),
        scope: Scope::User,
        subject: None,
        measure: Measure::Requests,
        period: Period::Day,
        amount: 1,
        policy: Policy::Block,
        thresholds: vec![80, 90, 100],
    };
    assert!(stage.house.relay.book.add_limit(limit, &stage.house.salon.pen(Actor::Operator)).await.unwrap());
    mock.says(TOKEN, CHAT, ALICE, "one stork");
    mock.wait_for_texts(TOKEN, CHAT, |texts| texts.iter().any(|text| text == "one stork")).await;
    mock.says(TOKEN, CHAT, ALICE, "two storks");
    mock.wait_for_texts(TOKEN, CHAT, |texts| texts.iter().any(|text| text.contains("limit"))).await;
    let texts = mock.bot_texts(TOKEN, CHAT);
    assert!(!texts.iter().any(|text| text == "two storks"), "{texts:?}");
    assert_eq!(stage.used().await.calls, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_nearly_used_up_is_told_once_to_whom_it_concerns_and_to_admins() {
    let (mock, stage) = with_a_parrot().await;
    let salon = &stage.house.salon;
    let (boss, bob) = (9002, 9003);
    let add = |name: &str, role, telegram| {
        let new =
            NewUser { org: OrgId::new("default"), name: name.to_owned(), email: None, role, telegram: Some(telegram) };
        async move { add_user(&salon.store, &salon.clock, &salon.pen(Actor::Operator), new).await.unwrap() }
    };
    add("Alice", Role::User, ALICE).await;
    add("the boss", Role::Admin, boss).await;
    // An admin of somebody else.
    let fish = add_org(&salon.store, &salon.clock, &salon.pen(Actor::Operator), "fish", "UTC").await.unwrap().id;
    let bobs = add("Bob", Role::Admin, bob).await;
    let change = UserChange { org: Some(fish), ..UserChange::default() };
    set_user(&salon.store, &salon.pen(Actor::Operator), &bobs.id, change).await.unwrap();
    for chat in [boss, bob] {
        mock.says(TOKEN, chat, chat, "hello");
        mock.wait_for_texts(TOKEN, chat, |texts| texts.iter().any(|text| text == "hello")).await;
    }
    // What was answered before the limit is charged before it, and crosses nothing of it.
    stage.house.relay.book.flush().await.unwrap();
    let limit = Limit {
        id: LimitId::new(salon.clock.id()),
        org: OrgId::new("default"),
        scope: Scope::User,
        subject: None,
        measure: Measure::Requests,
        period: Period::Day,
        amount: 2,
        policy: Policy::Block,
        thresholds: vec![50, 100],
    };
    assert!(stage.house.relay.book.add_limit(limit, &salon.pen(Actor::Operator)).await.unwrap());
    let about = |texts: &[String], percent: &str| {
        texts.iter().filter(|text| text.contains(&format!("{percent} % of"))).cloned().collect::<Vec<_>>()
    };
    for (words, percent, used) in [("one stork", "50", "1"), ("two storks", "100", "2")] {
        mock.says(TOKEN, ALICE, ALICE, words);
        for chat in [ALICE, boss] {
            mock.wait_for_texts(TOKEN, chat, |texts| !about(texts, percent).is_empty()).await;
        }
        let told = about(&mock.bot_texts(TOKEN, ALICE), percent);
        assert_eq!(told, [format!("{percent} % of what you may use today is used: {used} requests of 2 requests.")]);
        let told = about(&mock.bot_texts(TOKEN, boss), percent);
        let expected = format!("Alice: {percent} % of what may be used today is used, {used} requests of 2 requests.");
        assert_eq!(told, [expected]);
    }
    assert!(about(&mock.bot_texts(TOKEN, bob), "50").is_empty(), "it is nobody else's business");
    let mut tx = salon.store.read().await.unwrap();
    let alerts = tx.list_alerts(&OrgId::new("default"), Time(0), 10).await.unwrap();
    assert_eq!(alerts.iter().map(|alert| alert.threshold).collect::<Vec<_>>(), [100, 50]);
    assert!(alerts.iter().all(|alert| alert.told_at.is_some()));
    assert!(tx.list_untold_alerts(Time(0), 10).await.unwrap().is_empty());
}

/// A bot whose engine is a model of the catalog.
async fn with_a_model(model: &str) -> (Mock, Stage) {
    let mock = Mock::start(MockConfig::default()).await.unwrap();
    let telegram = mock.base_url().to_owned();
    let stage = Stage::with(|config| {
        config.around.api_base = telegram;
        config.around.open = true;
        let list = format!("bots:\n  - bot_id: parrot\n    adapter: {model}\n    telegram_token: \"{TOKEN}\"\n");
        std::fs::write(&config.bots_file, list).unwrap();
    })
    .await;
    (mock, stage)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_is_answered_by_any_model_of_the_catalog_by_way_of_the_relay() {
    for model in ["gpt", "anthropic:mock-claude", "gemini:mock-gemini", "midm", "openai:mock-gpt"] {
        let (mock, stage) = with_a_model(model).await;
        mock.says(TOKEN, CHAT, ALICE, "[[say:two storks]]");
        let said = mock.wait_for_texts(TOKEN, CHAT, |texts| texts.iter().any(|text| text == "two storks"));
        let heard = tokio::time::timeout(Duration::from_secs(20), said).await;
        assert!(heard.is_ok(), "{model}: {:?}", mock.bot_texts(TOKEN, CHAT));
        let patience = tokio::time::Instant::now() + Duration::from_secs(20);
        while stage.used().await.calls < 1 {
            assert!(tokio::time::Instant::now() < patience, "{model}: the turn is not in the ledger");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let used = stage.used().await;
        assert_eq!(used.calls, 1, "{model}: charged by the relay and by nobody else");
        assert!(used.tokens.output > 0, "{model}: {used:?}");
        assert_eq!(used.micros > 0, model != "midm", "{model}: {used:?}");
        mock.shutdown().await.unwrap();
    }
}
