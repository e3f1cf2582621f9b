//! `verify` sees what a careless bot did: a lost, a doubled, a swapped answer.

use salon_mock::{MockConfig, Verdict, Verify};
use serde_json::json;

use crate::{ALICE, CHAT, House, TOKEN};

fn verdict(house: &House) -> Verdict {
    house.mock.verify(&Verify::default()).unwrap()
}

async fn asked(count: usize) -> House {
    let house = House::fast().await;
    for n in 0..count {
        house.alice_says(&format!("q {n}"));
    }
    house
}

#[tokio::test]
async fn careful_answers_are_ok() {
    let house = asked(3).await;
    house.take_updates().await;
    house.parrot_says("working on it").await;
    for n in 0..3 {
        let id = house.parrot_says("…").await;
        house.ok("editMessageText", json!({"chat_id": CHAT, "message_id": id, "text": format!("q {n}")})).await;
    }
    let verdict = verdict(&house);
    assert!(verdict.ok, "{verdict:?}");
    assert_eq!((verdict.questions, verdict.answered, verdict.other_messages), (3, 3, 1));
}

#[tokio::test]
async fn a_lost_answer_is_told_from_one_that_is_still_to_come() {
    let house = asked(2).await;
    let waiting = verdict(&house);
    assert_eq!((waiting.pending.len(), waiting.lost.len(), waiting.ok), (2, 0, true));
    house.take_updates().await;
    house.parrot_says("q 1").await;
    let verdict = verdict(&house);
    assert_eq!(verdict.lost.iter().map(|case| case.text.as_str()).collect::<Vec<_>>(), ["q 0"]);
    assert!(!verdict.ok && verdict.pending.is_empty());
}

#[tokio::test]
async fn a_doubled_answer_is_found_even_after_an_edit() {
    let house = asked(1).await;
    house.take_updates().await;
    let first = house.parrot_says("q 0").await;
    let second = house.parrot_says("…").await;
    assert!(verdict(&house).ok);
    house.ok("editMessageText", json!({"chat_id": CHAT, "message_id": second, "text": "q 0"})).await;
    let doubled = verdict(&house);
    assert_eq!(doubled.duplicates[0].answers, [first, second]);
    assert!(!doubled.ok);
    house.ok("deleteMessage", json!({"chat_id": CHAT, "message_id": second})).await;
    assert!(verdict(&house).ok, "what is gone does not count");
}

#[tokio::test]
async fn swapped_answers_are_found() {
    let house = asked(2).await;
    house.take_updates().await;
    let late = house.parrot_says("q 1").await;
    let early = house.parrot_says("q 0").await;
    let verdict = verdict(&house);
    assert_eq!(verdict.disorder.len(), 1);
    assert_eq!((verdict.disorder[0].text.as_str(), &verdict.disorder[0].answers), ("q 1", &vec![early, late]));
}

#[tokio::test]
async fn equal_questions_need_as_many_answers() {
    let house = House::fast().await;
    house.alice_says("again");
    house.alice_says("again");
    house.take_updates().await;
    house.parrot_says("again").await;
    assert_eq!(verdict(&house).lost.len(), 1);
    house.parrot_says("again").await;
    assert!(verdict(&house).ok);
    house.parrot_says("again").await;
    assert_eq!(verdict(&house).duplicates.len(), 1);
}

#[tokio::test]
async fn the_answer_can_be_a_part_of_the_text_and_questions_can_be_chosen() {
    let house = asked(2).await;
    house.alice_says("small talk");
    house.alice_says("/start");
    house.mock.says(TOKEN, 2002, 2002, "q 0");
    house.take_updates().await;
    house.parrot_says("[3][10:00:00][assistant_message] echo: q 1\n[4][10:00:01][assistant_message] echo: q 0").await;
    let ask = |extra: &str| format!("/_mock/verify?template=echo:%20%7Btext%7D&match=contains&prefix=q%20{extra}");
    let (status, body) = house.look(&ask("&chat_id=1001")).await;
    assert_eq!((status, &body["result"]["ok"], &body["result"]["questions"]), (200, &json!(true), &json!(2)));
    let (_, body) = house.look(&ask(&format!("&token={TOKEN}"))).await;
    assert_eq!(body["result"]["lost"][0]["chat_id"], json!(2002));
    assert_eq!(house.look("/_mock/verify?match=maybe").await.0, 400);
    assert_eq!(house.look("/_mock/verify?template=x").await.0, 400);
}

#[tokio::test]
async fn messages_a_bot_never_got_are_no_questions() {
    let house = House::with(MockConfig { time_scale: 0.001, ..MockConfig::default() }).await;
    house.ok("getUpdates", json!({"allowed_updates": ["callback_query"]})).await;
    house.mock.send(salon_mock::Say::new(TOKEN, CHAT, ALICE, "hi")).unwrap();
    assert_eq!(verdict(&house).questions, 0);
}
