//! The control API over HTTP: what people do, in the shapes the page and the scripts know.

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::{ALICE, CHAT, House, TOKEN, soon};

#[tokio::test]
async fn a_message_appears_in_threads_messages_and_state() {
    let house = House::new().await;
    let say = json!({
        "token": TOKEN, "chat_id": "1001", "user_id": 9001, "text": "/start now", "first_name": "Alice",
        "language_code": "ko",
    });
    let (status, sent) = house.control("/_mock/send", say).await;
    assert_eq!(status, 200);
    let keys: Vec<_> = sent["result"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["update_id", "message_id", "delivery_mode", "delivered_via_webhook", "webhook_error"]);
    assert_eq!(sent["result"]["delivery_mode"], json!("polling"));
    let (_, threads) = house.look("/_mock/threads").await;
    let thread = &threads["result"][0];
    assert_eq!(
        (&thread["token"], &thread["chat_id"], &thread["message_count"]),
        (&json!(TOKEN), &json!(CHAT), &json!(1))
    );
    assert_eq!(thread["webhook_enabled"], json!(false));
    let (_, shown) = house.look("/_mock/messages?token=mock_token_1&chat_id=1001&limit=5").await;
    let message = &shown["result"]["messages"][0];
    assert_eq!(
        (&message["direction"], &message["text"], &message["document"]),
        (&json!("user"), &json!("/start now"), &json!(null))
    );
    let update = &shown["result"]["updates"][0];
    assert_eq!((&update["delivery_mode"], &update["delivered"]), (&json!("polling"), &json!(false)));
    let (_, state) = house.look("/_mock/state").await;
    assert_eq!(state["result"]["allow_get_updates_with_webhook"], json!(false));
    let counts = &state["result"]["state"];
    assert_eq!(
        (&counts["updates_total"], &counts["updates_undelivered"], &counts["messages_total"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(counts["bots"][0]["webhook_url"], json!(null));
    let update = &house.take_updates().await[0]["message"];
    assert_eq!(update["entities"], json!([{"type": "bot_command", "offset": 0, "length": 6}]));
    assert_eq!((&update["from"]["language_code"], &update["from"]["first_name"]), (&json!("ko"), &json!("Alice")));
}

#[tokio::test]
async fn controls_refuse_in_their_own_shape() {
    let house = House::new().await;
    for (path, body) in [
        ("/_mock/send", json!({"token": TOKEN, "chat_id": CHAT, "text": ""})),
        ("/_mock/send", json!({"token": TOKEN, "chat_id": 0, "text": "x"})),
        ("/_mock/send", json!({"token": "123", "chat_id": CHAT, "text": "x"})),
        ("/_mock/send", json!({"token": TOKEN, "chat_id": CHAT, "text": "x".repeat(4097)})),
        ("/_mock/send", json!({"token": TOKEN, "chat_id": CHAT, "text": "x", "chat_type": "group"})),
        ("/_mock/send", json!({"token": TOKEN, "text": "x"})),
        ("/_mock/send", json!([])),
        ("/_mock/rate_limit", json!({"token": TOKEN, "method": "getMe", "count": 101})),
        ("/_mock/rate_limit", json!({"token": TOKEN, "method": "getMe", "count": 1, "retry_after": 0})),
        ("/_mock/fault", json!({"mode": "explode"})),
        ("/_mock/fault", json!({"mode": "rst", "metod": "getMe"})),
        ("/_mock/messages/clear", json!({"token": ""})),
        ("/_mock/inject", json!({"token": TOKEN, "update": []})),
        ("/_mock/groups", json!({"token": TOKEN, "chat_id": 5})),
    ] {
        let (status, answer) = house.control(path, body.clone()).await;
        assert_eq!((status, &answer["ok"]), (400, &json!(false)), "{path} {body} {answer}");
        assert!(answer["description"].is_string());
    }
    assert_eq!(house.look("/_mock/messages?token=x&limit=1001").await.0, 400);
    assert_eq!(house.look("/_mock/messages?token=x&limit=y").await.0, 400);
    assert_eq!(house.look("/_mock/nothing").await, (404, json!({"ok": false, "description": "Not Found"})));
    assert_eq!(house.look("/_mock/send").await.0, 405);
    let press = json!({"token": TOKEN, "chat_id": CHAT, "message_id": 1, "callback_data": "x"});
    assert_eq!(house.control("/_mock/press", press).await.0, 404);
}

#[tokio::test]
async fn people_edit_reply_and_send_files() {
    let house = House::new().await;
    house.alice_says("one");
    let edit = json!({"token": TOKEN, "chat_id": CHAT, "user_id": ALICE, "message_id": 1, "text": "two"});
    assert_eq!(house.control("/_mock/edit", edit).await.0, 200);
    let reply = json!({"token": TOKEN, "chat_id": CHAT, "user_id": ALICE, "text": "and this", "reply_to": 1});
    assert_eq!(house.control("/_mock/send", reply).await.0, 200);
    let png = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[0, 0, 0, 3, 0, 0, 0, 4]].concat();
    let form = |part: &'static str, bytes: &[u8], name: &'static str| {
        let form =
            Form::new().text("token", TOKEN).text("chat_id", CHAT.to_string()).text("user_id", ALICE.to_string());
        form.text("caption", "look").part(part, Part::bytes(bytes.to_vec()).file_name(name))
    };
    for form in [form("file", &png, "p.png"), form("document", &png, "p.png"), form("voice", b"OggS...", "v.ogg")] {
        let sent = house.http.post(house.url("/_mock/upload")).multipart(form).send().await.unwrap();
        assert_eq!(sent.status(), 200);
    }
    let updates = house.take_updates().await;
    assert_eq!(updates[1]["edited_message"]["text"], json!("two"));
    assert!(updates[1]["edited_message"]["edit_date"].is_i64());
    assert_eq!(updates[2]["message"]["reply_to_message"]["text"], json!("two"));
    let photo = &updates[3]["message"];
    assert_eq!((&photo["caption"], &photo["photo"][0]["width"]), (&json!("look"), &json!(3)));
    assert!(photo.get("document").is_none());
    assert_eq!(updates[4]["message"]["document"]["mime_type"], json!("image/png"));
    let voice = updates[5]["message"]["voice"]["file_id"].clone();
    let path = house.ok("getFile", json!({"file_id": voice})).await["file_path"].as_str().unwrap().to_owned();
    let bytes =
        house.http.get(house.url(&format!("/file/bot{TOKEN}/{path}"))).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(&bytes[..], b"OggS...");
    let nothing = Form::new().text("token", TOKEN).text("chat_id", "1001");
    assert_eq!(house.http.post(house.url("/_mock/upload")).multipart(nothing).send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_group_has_several_people_and_strange_senders() {
    let house = House::new().await;
    let group = json!({
        "token": TOKEN, "chat_id": -100, "title": "Birds", "type": "supergroup",
        "users": [{"id": 9001, "first_name": "Alice"}, {"id": 9002, "first_name": "Bob", "username": "bob"}],
    });
    assert_eq!(house.control("/_mock/groups", group).await.0, 200);
    house.mock.says(TOKEN, -100, 9002, "hi @parrot_bot");
    let channel = json!({"id": -200, "type": "channel", "title": "News"});
    let odd =
        json!({"token": TOKEN, "chat_id": -100, "user_id": 5, "text": "x", "sender_chat": channel, "is_bot": true});
    assert_eq!(house.control("/_mock/send", odd).await.0, 200);
    let updates = house.take_updates().await;
    let first = &updates[0]["message"];
    assert_eq!((&first["chat"]["title"], &first["chat"]["type"]), (&json!("Birds"), &json!("supergroup")));
    assert_eq!((&first["from"]["username"], &first["entities"][0]["type"]), (&json!("bob"), &json!("mention")));
    let second = &updates[1]["message"];
    assert_eq!((&second["sender_chat"]["id"], &second["from"]["is_bot"]), (&json!(-200), &json!(true)));
}

#[tokio::test]
async fn an_injected_update_comes_as_it_is() {
    let house = House::fast().await;
    let normal = house.alice_says("hi");
    let poison = json!({"token": TOKEN, "update": {"update_id": 5, "message": "not an object"}});
    assert_eq!(house.control("/_mock/inject", poison).await.1["result"]["update_id"], json!(5));
    let fresh = json!({"token": TOKEN, "update": {"brand_new_kind": {}}});
    let (_, fresh) = house.control("/_mock/inject", fresh).await;
    assert_eq!(fresh["result"]["update_id"], json!(normal + 1));
    let updates = house.ok("getUpdates", json!({})).await;
    assert_eq!(updates[1], json!({"update_id": 5, "message": "not an object"}));
    assert_eq!(updates[2], json!({"brand_new_kind": {}, "update_id": normal + 1}));
}

#[tokio::test]
async fn the_rate_limit_rule_hits_the_next_calls_of_one_method() {
    let house = House::new().await;
    let rule = json!({"token": TOKEN, "method": "getMe", "count": 2, "retry_after": 3});
    assert_eq!(house.control("/_mock/rate_limit", rule).await.1, json!({"ok": true, "result": true}));
    assert_eq!(house.call_as("other_token", "getMe", json!({})).await.0, 200);
    for _ in 0..2 {
        let (status, body) = house.call("getMe", json!({})).await;
        assert_eq!((status, &body["parameters"]["retry_after"]), (429, &json!(3)));
        assert_eq!(body["description"], json!("Too Many Requests: retry after 3"));
    }
    assert_eq!(house.call("getMe", json!({})).await.0, 200);
    house.control("/_mock/fault", json!({"method": "getMe", "mode": "status:500", "p": 1.0, "seed": 7})).await;
    assert_eq!(house.look("/_mock/faults").await.1["result"].as_array().unwrap().len(), 1);
    let removed = house.http.delete(house.url("/_mock/faults")).send().await.unwrap();
    assert_eq!(removed.json::<Value>().await.unwrap()["result"]["removed"], json!(1));
    assert_eq!(house.call("getMe", json!({})).await.0, 200);
    let limits = json!({"enabled": true, "chat_per_second": 0.001, "chat_burst": 1});
    assert_eq!(house.control("/_mock/limits", limits).await.0, 200);
    house.alice_says("hi");
    house.parrot_says("one").await;
    assert_eq!(house.call("sendMessage", json!({"chat_id": CHAT, "text": "two"})).await.0, 429);
    assert_eq!(house.control("/_mock/limits", json!({"enabled": false})).await.0, 200);
    house.parrot_says("two").await;
}

#[tokio::test]
async fn the_ledger_tells_every_call() {
    let house = House::new().await;
    house.alice_says("hi");
    house.parrot_says("one").await;
    house.refused("sendMessage", json!({"chat_id": 5, "text": "x"})).await;
    house.call_as("other_token", "getMe", json!({})).await;
    let (_, ledger) = house.look(&format!("/_mock/ledger?token={TOKEN}")).await;
    let calls = ledger["result"]["calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    assert_eq!(
        (&calls[0]["method"], &calls[0]["status"], &calls[0]["applied"]),
        (&json!("sendmessage"), &json!(200), &json!(true))
    );
    assert_eq!((&calls[0]["chat_id"], &calls[0]["message_id"]), (&json!(CHAT), &json!(2)));
    assert_eq!(calls[0]["body"].as_str().unwrap().len(), 16);
    assert_eq!((&calls[1]["status"], &calls[1]["error"]), (&json!(400), &json!("Bad Request: chat not found")));
    let (_, rest) = house.look("/_mock/ledger?after=2").await;
    assert_eq!(rest["result"]["calls"][0]["token"], json!("other_token"));
}

#[tokio::test]
async fn news_come_as_events() {
    let house = House::new().await;
    let mut events = house.http.get(house.url(&format!("/_mock/events?token={TOKEN}"))).send().await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let mut heard = String::new();
    soon(async {
        while !heard.contains("hello") {
            heard.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
        }
        house.mock.says("other_token", 7, 7, "not for us");
        house.alice_says("hi");
        while !heard.contains("timeline") {
            heard.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
        }
    })
    .await;
    assert!(heard.contains(r#"data: {"kind":"timeline","token":"mock_token_1","chat_id":1001}"#), "{heard}");
    assert!(!heard.contains("other_token"), "{heard}");
}
