//! `getUpdates`: nothing is lost, nothing is given twice, and only one may ask.

use salon_mock::MockConfig;
use serde_json::{Value, json};

use crate::{ALICE, CHAT, House, TOKEN, soon};

fn ids(updates: &Value) -> Vec<i64> {
    updates.as_array().unwrap().iter().map(|update| update["update_id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_poll_waits_until_somebody_writes() {
    let house = House::new().await;
    house.ok("getMe", json!({})).await;
    let poll = house.ok("getUpdates", json!({"timeout": 50}));
    let (updates, first) = soon(async { tokio::join!(poll, async { house.alice_says("hi") }) }).await;
    assert_eq!(ids(&updates), [first]);
    let message = &updates[0]["message"];
    assert_eq!(
        (&message["text"], &message["from"]["id"], &message["chat"]["id"]),
        (&json!("hi"), &json!(ALICE), &json!(CHAT))
    );
    assert_eq!(message["from"]["is_bot"], json!(false));
}

#[tokio::test]
async fn an_update_stays_until_an_offset_passes_it() {
    let house = House::fast().await;
    let (one, two) = (house.alice_says("one"), house.alice_says("two"));
    assert_eq!(two, one + 1);
    assert_eq!(ids(&house.ok("getUpdates", json!({})).await), [one, two]);
    let shown = house.look(&format!("/_mock/messages?token={TOKEN}")).await.1;
    assert_eq!(shown["result"]["updates"][0]["delivered"], json!(false), "fetched is not delivered");
    assert_eq!(ids(&house.ok("getUpdates", json!({"offset": one})).await), [one, two]);
    assert_eq!(ids(&house.ok("getUpdates", json!({"offset": two, "limit": 1})).await), [two]);
    let shown = house.look(&format!("/_mock/messages?token={TOKEN}")).await.1;
    assert_eq!(shown["result"]["updates"][0]["delivered"], json!(true));
    assert_eq!(shown["result"]["updates"][1]["delivered"], json!(false));
    assert_eq!(ids(&house.ok("getUpdates", json!({"offset": two + 1})).await), Vec::<i64>::new());
    assert_eq!(house.mock.state(Some(TOKEN))["state"]["updates_undelivered"], json!(0));
}

#[tokio::test]
async fn a_backlog_comes_in_hundreds() {
    let house = House::fast().await;
    for n in 0..150 {
        house.alice_says(&format!("q {n}"));
    }
    let first = ids(&house.ok("getUpdates", json!({"limit": 1000})).await);
    assert_eq!(first.len(), 100);
    let rest = ids(&house.ok("getUpdates", json!({"offset": first[99] + 1})).await);
    assert_eq!((rest.len(), rest[0]), (50, first[99] + 1));
}

#[tokio::test]
async fn a_negative_offset_keeps_the_newest_and_is_noted() {
    let house = House::new().await;
    let mut last = 0;
    for n in 0..5 {
        last = house.alice_says(&format!("q {n}"));
    }
    assert_eq!(ids(&house.ok("getUpdates", json!({"offset": -2})).await), [last - 1, last]);
    assert_eq!(house.mock.state(Some(TOKEN))["state"]["updates_undelivered"], json!(2));
    let verdict = house.mock.verify(&salon_mock::Verify::default()).unwrap();
    assert_eq!(verdict.violations.iter().map(|case| case.kind).collect::<Vec<_>>(), ["negative_offset"]);
    assert!(!verdict.ok);
}

#[tokio::test]
async fn asking_again_for_the_same_gets_one_update_only() {
    let house = House::with(MockConfig { time_scale: 1000.0, ..MockConfig::default() }).await;
    let (one, two) = (house.alice_says("one"), house.alice_says("two"));
    assert_eq!(ids(&house.ok("getUpdates", json!({"offset": one})).await), [one, two]);
    assert_eq!(ids(&house.ok("getUpdates", json!({"offset": one})).await), [one], "asked again in haste");
}

#[tokio::test]
async fn a_second_poller_ends_the_first() {
    let house = House::fast().await;
    house.ok("getMe", json!({})).await;
    let first = house.refused("getUpdates", json!({"timeout": 50}));
    let second = async {
        // The first poll is in the ledger as soon as it waits.
        soon(async {
            while house.mock.calls(TOKEN, "getUpdates").is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let poll = house.ok("getUpdates", json!({"timeout": 50}));
        tokio::join!(poll, async {
            soon(async {
                while house.mock.calls(TOKEN, "getUpdates").len() < 2 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            house.alice_says("hi")
        })
    };
    let (words, (updates, id)) = soon(async { tokio::join!(first, second) }).await;
    assert_eq!(
        words,
        "409 Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
    );
    assert_eq!(ids(&updates), [id]);
}

#[tokio::test]
async fn polling_beside_a_webhook_is_a_conflict_unless_allowed() {
    let words = "409 Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the \
                 webhook first";
    let house = House::fast().await;
    house.ok("getMe", json!({})).await;
    let waiting = house.refused("getUpdates", json!({"timeout": 50}));
    let set = async {
        soon(async {
            while house.mock.calls(TOKEN, "getUpdates").is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        house.ok("setWebhook", json!({"url": "http://127.0.0.1:9/"})).await
    };
    let (ended, _) = soon(async { tokio::join!(waiting, set) }).await;
    assert_eq!(ended, "409 Conflict: terminated by setWebhook request");
    assert_eq!(house.refused("getUpdates", json!({})).await, words);
    house.ok("deleteWebhook", json!({})).await;
    house.ok("getUpdates", json!({})).await;

    let lenient = House::with(MockConfig { allow_get_updates_with_webhook: true, ..MockConfig::default() }).await;
    lenient.ok("setWebhook", json!({"url": "http://127.0.0.1:9/"})).await;
    lenient.ok("getUpdates", json!({})).await;
}

#[tokio::test]
async fn allowed_updates_last_until_they_are_changed() {
    let house = House::fast().await;
    house.ok("getUpdates", json!({"allowed_updates": ["callback_query"]})).await;
    let silent = house.mock.send(salon_mock::Say::new(TOKEN, CHAT, ALICE, "hi")).unwrap();
    assert_eq!(silent.update_id, None);
    house.ok("getUpdates", json!({"offset": 1})).await;
    assert_eq!(house.ok("getWebhookInfo", json!({})).await["allowed_updates"], json!(["callback_query"]));
    house.ok("getUpdates", json!({"offset": 2, "allowed_updates": "[]"})).await;
    assert!(house.mock.send(salon_mock::Say::new(TOKEN, CHAT, ALICE, "hi")).unwrap().update_id.is_some());
}

#[tokio::test]
async fn a_clear_deafens_nobody() {
    let house = House::fast().await;
    house.alice_says("one");
    let before = house.take_updates().await;
    let offset = before[0]["update_id"].as_i64().unwrap() + 1;
    let message = before[0]["message"]["message_id"].as_i64().unwrap();
    let cleared = house.mock.clear(TOKEN, Some(CHAT)).unwrap();
    assert_eq!((cleared.deleted_messages, cleared.deleted_updates), (1, 1));
    house.alice_says("two");
    let after = house.ok("getUpdates", json!({"offset": offset, "timeout": 50})).await;
    assert_eq!(after[0]["message"]["text"], json!("two"));
    assert_eq!(after[0]["message"]["message_id"], json!(message + 1));
}

#[tokio::test]
async fn old_updates_are_forgotten() {
    // A day is 86 microseconds here: everything is old at once.
    let house = House::with(MockConfig { time_scale: 1e-9, ..MockConfig::default() }).await;
    house.alice_says("hi");
    assert_eq!(house.ok("getUpdates", json!({})).await, json!([]));
}
