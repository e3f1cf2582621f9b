//! A question from Telegram stands in the same ledger as a call.

use std::time::Duration;

use salon::Actor;
use salon_core::{Limit, LimitId, Measure, OrgId, Period, Policy, Scope};
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
