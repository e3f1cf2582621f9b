//! Forums and groups that move: what the real server does to a bot that does not look where it speaks.

use salon_mock::{Group, Say};
use serde_json::{Value, json};

use crate::{ALICE, House, TOKEN};

const FORUM: i64 = -100_700;
const GROUP: i64 = -700;

fn group(house: &House, chat_id: i64, kind: &str) {
    let (token, title) = (TOKEN.to_owned(), "Birds".to_owned());
    let kind = Some(kind.to_owned());
    house.mock.add_group(Group { token, chat_id, title, kind, users: Vec::new(), migrated_to: None }).unwrap();
}

async fn topic(house: &House, change: Value) -> Result<i64, String> {
    let mut body = json!({"token": TOKEN, "chat_id": FORUM});
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let (status, answer) = house.control("/_mock/topics", body).await;
    if status == 200 { Ok(answer["result"]["topic"].as_i64().unwrap()) } else { Err(answer["description"].to_string()) }
}

fn said(house: &House, chat_id: i64, topic: Option<i64>, reply_to: Option<i64>) -> i64 {
    let say = Say { topic, reply_to, ..Say::new(TOKEN, chat_id, ALICE, "hi") };
    house.mock.send(say).unwrap().message_id
}

#[tokio::test]
async fn a_message_stands_in_its_topic_and_unknown_topics_are_refused() {
    let house = House::new().await;
    group(&house, FORUM, "supergroup");
    let send = |more: Value| {
        let mut params = json!({"chat_id": FORUM, "text": "x"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let unknown = "400 Bad Request: message thread not found";
    // Without topics there is none to name, and not the thread of replies either.
    let asked = said(&house, FORUM, None, None);
    let reply = house.ok("sendMessage", send(json!({"reply_parameters": {"message_id": asked}}))).await;
    assert_eq!((&reply["message_thread_id"], &reply["is_topic_message"]), (&json!(asked), &Value::Null));
    assert_eq!(house.refused("sendMessage", send(json!({"message_thread_id": asked}))).await, unknown);

    let nests = topic(&house, json!({"name": "Nests"})).await.unwrap();
    let answer = house.ok("sendMessage", send(json!({"message_thread_id": nests}))).await;
    assert_eq!((&answer["message_thread_id"], &answer["is_topic_message"]), (&json!(nests), &json!(true)));
    assert_eq!(answer["chat"]["is_forum"], json!(true));
    for id in [1, nests + 1, -nests] {
        assert_eq!(house.refused("sendMessage", send(json!({"message_thread_id": id}))).await, unknown, "{id}");
    }
    // The general topic has no number.
    assert_eq!(house.ok("sendMessage", send(json!({}))).await["message_thread_id"], Value::Null);

    house.take_updates().await;
    let asked = said(&house, FORUM, Some(nests), None);
    let update = &house.take_updates().await[0]["message"];
    assert_eq!((&update["message_thread_id"], &update["is_topic_message"]), (&json!(nests), &json!(true)));
    let reply = house.ok("sendMessage", send(json!({"reply_parameters": {"message_id": asked}}))).await;
    assert_eq!(reply["message_thread_id"], json!(nests), "an answer stands where the question does");
}

#[tokio::test]
async fn a_closed_topic_takes_no_messages_and_a_deleted_one_is_unknown() {
    let house = House::new().await;
    group(&house, FORUM, "supergroup");
    let nests = topic(&house, json!({"name": "Nests"})).await.unwrap();
    let asked = said(&house, FORUM, Some(nests), None);
    let named = json!({"chat_id": FORUM, "text": "x", "message_thread_id": nests});
    let answering = json!({
        "chat_id": FORUM, "text": "x",
        "reply_parameters": {"message_id": asked, "allow_sending_without_reply": true},
    });
    let mine = house.ok("sendMessage", named.clone()).await["message_id"].clone();
    topic(&house, json!({"topic": nests, "state": "closed"})).await.unwrap();
    assert_eq!(house.refused("sendMessage", named.clone()).await, "400 Bad Request: TOPIC_CLOSED");
    assert_eq!(house.refused("sendMessage", answering.clone()).await, "400 Bad Request: TOPIC_CLOSED");
    house.ok("editMessageText", json!({"chat_id": FORUM, "message_id": mine, "text": "y"})).await;
    let say = Say { topic: Some(nests), ..Say::new(TOKEN, FORUM, ALICE, "hello?") };
    assert_eq!(house.mock.send(say).unwrap_err().description, "this topic is closed");

    topic(&house, json!({"topic": nests, "state": "open"})).await.unwrap();
    house.ok("sendMessage", named.clone()).await;
    topic(&house, json!({"topic": nests, "state": "deleted"})).await.unwrap();
    assert_eq!(house.refused("sendMessage", named).await, "400 Bad Request: message thread not found");
    let edit = json!({"chat_id": FORUM, "message_id": mine, "text": "z"});
    assert_eq!(house.refused("editMessageText", edit).await, "400 Bad Request: message to edit not found");
    assert_eq!(house.ok("sendMessage", answering).await["message_thread_id"], Value::Null);
    let updates = house.take_updates().await;
    let kinds: Vec<_> = ["forum_topic_created", "text", "forum_topic_closed", "forum_topic_reopened"]
        .into_iter()
        .zip(&updates)
        .map(|(kind, update)| !update["message"][kind].is_null())
        .collect();
    assert_eq!((kinds, updates.len()), (vec![true; 4], 4));
}

#[tokio::test]
async fn topics_are_changed_only_where_they_can_be() {
    let house = House::new().await;
    assert!(topic(&house, json!({})).await.unwrap_err().contains("unknown"));
    house.alice_says("hi");
    assert!(topic(&house, json!({})).await.unwrap_err().contains("unknown chat"));
    group(&house, FORUM, "group");
    assert!(topic(&house, json!({})).await.unwrap_err().contains("only a supergroup"));
    group(&house, FORUM, "supergroup");
    assert!(topic(&house, json!({"state": "ajar"})).await.unwrap_err().contains("state is"));
    assert!(topic(&house, json!({"state": "closed"})).await.unwrap_err().contains("a new topic is open"));
    assert!(topic(&house, json!({"topic": 7})).await.unwrap_err().contains("no such topic"));
}

#[tokio::test]
async fn a_group_that_moved_is_told_of_in_both_places_and_takes_nothing_more() {
    let house = House::new().await;
    group(&house, GROUP, "group");
    said(&house, GROUP, None, None);
    let mine = house.ok("sendMessage", json!({"chat_id": GROUP, "text": "x"})).await["message_id"].clone();
    house.take_updates().await;
    let migrate = |to: i64| json!({"token": TOKEN, "chat_id": GROUP, "to": to});
    assert_eq!(house.control("/_mock/migrate", migrate(7)).await.0, 400);
    assert_eq!(house.control("/_mock/migrate", migrate(FORUM)).await.0, 200);
    assert_eq!(house.control("/_mock/migrate", migrate(FORUM - 1)).await.0, 400, "a group moves once");
    let updates = house.take_updates().await;
    let told: Vec<_> = updates.iter().map(|update| &update["message"]).collect();
    assert_eq!((&told[0]["chat"]["id"], &told[0]["migrate_to_chat_id"]), (&json!(GROUP), &json!(FORUM)));
    assert_eq!((&told[1]["chat"]["id"], &told[1]["migrate_from_chat_id"]), (&json!(FORUM), &json!(GROUP)));
    assert_eq!((&told[1]["chat"]["type"], &told[1]["text"]), (&json!("supergroup"), &Value::Null));
    for (method, params) in [
        ("sendMessage", json!({"chat_id": GROUP, "text": "y"})),
        ("editMessageText", json!({"chat_id": GROUP, "message_id": mine, "text": "y"})),
        ("deleteMessage", json!({"chat_id": GROUP, "message_id": mine})),
    ] {
        let (status, body) = house.call(method, params).await;
        assert_eq!((status, &body["parameters"]["migrate_to_chat_id"]), (400, &json!(FORUM)), "{method}");
    }
    assert!(house.mock.send(Say::new(TOKEN, GROUP, ALICE, "anybody?")).is_err());
    // The service messages are shown, and are no questions.
    let (_, shown) = house.look(&format!("/_mock/messages?token={TOKEN}&chat_id={FORUM}")).await;
    assert_eq!(shown["result"]["messages"][0]["text"], json!("This supergroup was the group -700."));
    let (_, verdict) = house.look(&format!("/_mock/verify?token={TOKEN}&chat_id={FORUM}")).await;
    assert_eq!(verdict["result"]["questions"], json!(0));
    house.ok("sendMessage", json!({"chat_id": FORUM, "text": "here"})).await;
}
