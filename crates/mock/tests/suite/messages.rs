//! Sending, editing, deleting, drafts, buttons and files: what works, and the words of every refusal.

use reqwest::multipart::{Form, Part};
use salon_mock::{Block, Group, MockConfig, Pace, Press, Timeline};
use serde_json::{Value, json};

use crate::{ALICE, CHAT, House, TOKEN, soon};

#[tokio::test]
async fn a_message_is_sent_and_shown() {
    let house = House::new().await;
    house.alice_says("hi");
    let sent = house.ok("sendMessage", json!({"chat_id": CHAT, "text": "<b>hello</b>", "parse_mode": "HTML"})).await;
    assert_eq!(sent["message_id"], json!(2));
    assert_eq!(sent["text"], json!("hello"));
    assert_eq!(sent["entities"], json!([{"type": "bold", "offset": 0, "length": 5}]));
    assert_eq!(sent["chat"]["type"], json!("private"));
    assert_eq!(sent["from"]["is_bot"], json!(true));
    let shown = house.mock.messages(&Timeline::of(TOKEN, CHAT)).unwrap();
    let rows = shown["messages"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[1]["direction"], &rows[1]["text"]), (&json!("bot"), &json!("hello")));
    assert_eq!(rows[1]["is_draft"], json!(false));
}

#[tokio::test]
async fn messages_are_refused_in_telegrams_words() {
    let house = House::new().await;
    house.alice_says("hi");
    for (params, words) in [
        (json!({"text": "x"}), "400 Bad Request: chat_id is empty"),
        (json!({"chat_id": 5, "text": "x"}), "400 Bad Request: chat not found"),
        (json!({"chat_id": "@nobody", "text": "x"}), "400 Bad Request: chat not found"),
        (json!({"chat_id": CHAT}), "400 Bad Request: message text is empty"),
        (json!({"chat_id": CHAT, "text": " \n\t"}), "400 Bad Request: message text is empty"),
        (json!({"chat_id": CHAT, "text": "x".repeat(4097)}), "400 Bad Request: message is too long"),
        (json!({"chat_id": CHAT, "text": "🐦".repeat(2049)}), "400 Bad Request: message is too long"),
        (json!({"chat_id": CHAT, "text": "x".repeat(32769)}), "400 Bad Request: text is too long"),
        (json!({"chat_id": CHAT, "text": "x", "parse_mode": "BBCode"}), "400 Bad Request: unsupported parse_mode"),
        (
            json!({"chat_id": CHAT, "text": "a<br>b", "parse_mode": "HTML"}),
            "400 Bad Request: can't parse entities: Unsupported start tag \"br\" at byte offset 1",
        ),
        (
            json!({"chat_id": CHAT, "text": "a.b", "parse_mode": "MarkdownV2"}),
            "400 Bad Request: can't parse entities: Character '.' is reserved and must be escaped with the preceding '\\'",
        ),
        (
            json!({"chat_id": CHAT, "text": "ab", "entities": [{"type": "bold", "offset": 1, "length": 5}]}),
            "400 Bad Request: entity beginning at UTF-16 offset 1 ends after the end of the text at UTF-16 offset 6",
        ),
        (
            json!({"chat_id": CHAT, "text": "x", "reply_parameters": {"message_id": 99}}),
            "400 Bad Request: message to be replied not found",
        ),
        (
            json!({"chat_id": CHAT, "text": "x", "reply_markup": {"inline_keyboard": [[{"text": "x"}]]}}),
            "400 Bad Request: can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard",
        ),
        (
            json!({"chat_id": CHAT, "text": "x", "link_preview_options": "{"}),
            "400 Bad Request: can't parse link preview options JSON object",
        ),
    ] {
        assert_eq!(house.refused("sendMessage", params).await, words);
    }
    assert_eq!(house.mock.bot_texts(TOKEN, CHAT), Vec::<String>::new());
    house.parrot_says(&"x".repeat(4096)).await;
    house.parrot_says(&"🐦".repeat(2048)).await;
    let optional =
        json!({"chat_id": CHAT, "text": "x", "reply_to_message_id": 99, "allow_sending_without_reply": true});
    assert!(house.ok("sendMessage", optional).await.get("reply_to_message").is_none());
    let reply = json!({"chat_id": CHAT, "text": "x", "reply_parameters": {"message_id": 1}});
    assert_eq!(house.ok("sendMessage", reply).await["reply_to_message"]["text"], json!("hi"));
}

#[tokio::test]
async fn an_edit_changes_the_text_and_an_equal_one_is_refused() {
    let house = House::new().await;
    house.alice_says("hi");
    let id = house.parrot_says("one").await;
    let edit = |text: &str| json!({"chat_id": CHAT, "message_id": id, "text": text});
    let edited = house.ok("editMessageText", edit("two")).await;
    assert_eq!((&edited["text"], edited["edit_date"].is_i64()), (&json!("two"), true));
    assert_eq!(
        house.refused("editMessageText", edit("two")).await,
        "400 Bad Request: message is not modified: specified new message content and reply markup are exactly the same \
         as a current content and reply markup of the message"
    );
    assert_eq!(
        house.refused("editMessageText", json!({"chat_id": CHAT, "message_id": 77, "text": "x"})).await,
        "400 Bad Request: message to edit not found"
    );
    assert_eq!(
        house.refused("editMessageText", json!({"chat_id": CHAT, "message_id": 1, "text": "x"})).await,
        "400 Bad Request: message can't be edited"
    );
    assert_eq!(
        house.refused("editMessageText", json!({"text": "x"})).await,
        "400 Bad Request: message identifier is not specified"
    );
    assert_eq!(house.refused("editMessageText", edit(&"x".repeat(4097))).await, "400 Bad Request: message is too long");
    assert_eq!(
        house.refused("editMessageCaption", json!({"chat_id": CHAT, "message_id": id, "caption": "x"})).await,
        "400 Bad Request: there is no caption in the message to edit"
    );
    let shown = house.mock.messages(&Timeline::of(TOKEN, CHAT)).unwrap();
    assert_eq!(shown["messages"][1]["edited"], json!(1));
}

#[tokio::test]
async fn buttons_stay_until_an_edit_leaves_them_out() {
    let house = House::new().await;
    house.alice_says("hi");
    let keyboard = json!({"inline_keyboard": [[{"text": "Stop", "callback_data": "act:1"}]]});
    let sent = house.ok("sendMessage", json!({"chat_id": CHAT, "text": "x", "reply_markup": keyboard})).await;
    assert_eq!(sent["reply_markup"], keyboard);
    let id = sent["message_id"].clone();
    let same = json!({"chat_id": CHAT, "message_id": id, "text": "x", "reply_markup": keyboard});
    assert!(house.refused("editMessageText", same).await.contains("message is not modified"));
    let without = json!({"chat_id": CHAT, "message_id": id, "text": "x"});
    assert!(house.ok("editMessageText", without).await.get("reply_markup").is_none());
    let only_markup = json!({"chat_id": CHAT, "message_id": id, "reply_markup": keyboard.to_string()});
    assert_eq!(house.ok("editMessageReplyMarkup", only_markup).await["reply_markup"], keyboard);
    let reply_keyboard = json!({"chat_id": CHAT, "message_id": id, "reply_markup": {"keyboard": [["x"]]}});
    assert_eq!(
        house.refused("editMessageReplyMarkup", reply_keyboard).await,
        "400 Bad Request: inline keyboard expected"
    );
}

#[tokio::test]
async fn a_press_reaches_the_bot_and_its_answer_the_timeline() {
    let house = House::new().await;
    house.alice_says("hi");
    house.take_updates().await;
    let keyboard = json!({"inline_keyboard": [[{"text": "Stop", "callback_data": "act:1"}]]});
    let sent = house.ok("sendMessage", json!({"chat_id": CHAT, "text": "x", "reply_markup": keyboard})).await;
    let press = |data: &str| Press {
        token: TOKEN.to_owned(),
        chat_id: CHAT,
        message_id: sent["message_id"].as_i64().unwrap(),
        user_id: ALICE,
        callback_data: data.to_owned(),
    };
    assert_eq!(house.mock.press(press("act:2")).unwrap_err().description, "the message has no such button");
    house.mock.press(press("act:1")).unwrap();
    let updates = house.take_updates().await;
    let query = &updates[0]["callback_query"];
    assert_eq!((&query["data"], &query["from"]["id"]), (&json!("act:1"), &json!(ALICE)));
    assert_eq!(query["message"]["message_id"], sent["message_id"]);
    let answer = json!({"callback_query_id": query["id"], "text": "Stopping..."});
    assert_eq!(house.ok("answerCallbackQuery", answer).await, json!(true));
    let shown = house.mock.messages(&Timeline::of(TOKEN, CHAT)).unwrap();
    assert_eq!(shown["callback_answers"][0]["text"], json!("Stopping..."));
    assert_eq!(
        house.refused("answerCallbackQuery", json!({"callback_query_id": "1"})).await,
        "400 Bad Request: query is too old and response timeout expired or query ID is invalid"
    );
}

#[tokio::test]
async fn own_messages_and_private_ones_can_be_deleted_but_not_a_groups() {
    let house = House::new().await;
    house.alice_says("hi");
    let id = house.parrot_says("one").await;
    let delete = |chat_id: i64, message_id: i64| json!({"chat_id": chat_id, "message_id": message_id});
    assert_eq!(house.ok("deleteMessage", delete(CHAT, id)).await, json!(true));
    assert_eq!(house.ok("deleteMessage", delete(CHAT, 1)).await, json!(true));
    assert_eq!(house.refused("deleteMessage", delete(CHAT, id)).await, "400 Bad Request: message to delete not found");
    house.mock.says(TOKEN, -5, ALICE, "in the group");
    assert_eq!(house.refused("deleteMessage", delete(-5, 1)).await, "400 Bad Request: message can't be deleted");
    // Ids go on after a deletion.
    assert_eq!(house.parrot_says("two").await, id + 1);
}

#[tokio::test]
async fn a_draft_is_shown_and_vanishes() {
    let house = House::fast().await;
    house.alice_says("hi");
    let draft = |text: &str| json!({"chat_id": CHAT, "draft_id": 7, "text": text});
    let drafts = |house: &House| {
        let shown = house.mock.messages(&Timeline::of(TOKEN, CHAT)).unwrap();
        let rows = shown["messages"].as_array().unwrap().clone();
        rows.into_iter().filter(|row| row["is_draft"] == json!(true)).collect::<Vec<Value>>()
    };
    let mut news = house.mock.watch();
    assert_eq!(house.ok("sendMessageDraft", draft("thinking about it")).await, json!(true));
    soon(async {
        // Two pieces of news: it came, and it went.
        for _ in 0..2 {
            while news.recv().await.unwrap().kind != "draft" {}
        }
    })
    .await;
    assert!(drafts(&house).is_empty());

    let slow = House::new().await;
    slow.alice_says("hi");
    slow.ok("sendMessageDraft", draft("")).await;
    slow.ok("sendMessageDraft", draft("thinking about it")).await;
    assert_eq!(drafts(&slow).iter().map(|row| &row["text"]).collect::<Vec<_>>(), ["thinking about it"]);
    slow.parrot_says("done").await;
    assert!(drafts(&slow).is_empty(), "a message ends the drafts");
    let zero = json!({"chat_id": CHAT, "draft_id": 0, "text": "x"});
    assert_eq!(slow.refused("sendMessageDraft", zero).await, "400 Bad Request: RANDOM_ID_INVALID");
    slow.mock.says(TOKEN, -5, ALICE, "in the group");
    let group = json!({"chat_id": -5, "draft_id": 1, "text": "x"});
    assert_eq!(slow.refused("sendMessageDraft", group).await, "400 Bad Request: private chat not found");
}

#[tokio::test]
async fn a_barred_bot_is_told_why() {
    let house = House::new().await;
    house.alice_says("hi");
    let send = |chat_id: i64| json!({"chat_id": chat_id, "text": "x"});
    let block = |chat_id: i64, blocked: bool, reason: Option<&str>| {
        let block = Block { token: TOKEN.to_owned(), chat_id, blocked, reason: reason.map(str::to_owned) };
        house.mock.block(block).unwrap();
    };
    block(CHAT, true, None);
    assert_eq!(house.refused("sendMessage", send(CHAT)).await, "403 Forbidden: bot was blocked by the user");
    block(CHAT, true, Some("deactivated"));
    assert_eq!(house.refused("sendMessage", send(CHAT)).await, "403 Forbidden: user is deactivated");
    block(CHAT, false, None);
    house.ok("sendMessage", send(CHAT)).await;
    let group = |chat_id: i64, migrated_to: Option<i64>| {
        let group = Group {
            token: TOKEN.to_owned(),
            chat_id,
            title: "Birds".to_owned(),
            kind: Some("supergroup".to_owned()),
            users: Vec::new(),
            migrated_to,
        };
        house.mock.add_group(group).unwrap();
    };
    group(-100, None);
    assert_eq!(house.ok("getChat", json!({"chat_id": -100})).await["title"], json!("Birds"));
    block(-100, true, None);
    assert_eq!(
        house.refused("sendMessage", send(-100)).await,
        "403 Forbidden: bot was kicked from the supergroup chat"
    );
    group(-7, Some(-100));
    let (status, body) = house.call("sendMessage", send(-7)).await;
    assert_eq!((status, &body["parameters"]), (400, &json!({"migrate_to_chat_id": -100})));
    let updates = house.take_updates().await;
    let kinds: Vec<bool> = updates.iter().map(|update| update.get("my_chat_member").is_some()).collect();
    assert_eq!(kinds, [false, true, true, true]);
}

#[tokio::test]
async fn documents_and_photos_are_sent_and_fetched() {
    let house = House::new().await;
    house.alice_says("hi");
    let png = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[0, 0, 0, 3, 0, 0, 0, 4]].concat();
    let send = |method: &str, form: Form| {
        let request = house.http.post(house.url(&format!("/bot{TOKEN}/{method}"))).multipart(form);
        async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    let form = Form::new().text("chat_id", CHAT.to_string()).text("caption", "[artifact:html] a.html");
    let sent = send("sendDocument", form.part("document", Part::bytes(&b"<html>"[..]).file_name("a.html"))).await;
    assert_eq!(sent["result"]["document"]["file_name"], json!("a.html"));
    assert_eq!(sent["result"]["document"]["file_unique_id"], json!(format!("mock-{TOKEN}-2")));
    assert_eq!(sent["result"]["caption"], json!("[artifact:html] a.html"));
    let form = Form::new().text("chat_id", CHAT.to_string()).text("photo", "attach://the_file");
    let sent = send("sendPhoto", form.part("the_file", Part::bytes(png.clone()).file_name("p.png"))).await;
    assert_eq!((&sent["result"]["photo"][0]["width"], &sent["result"]["photo"][0]["height"]), (&json!(3), &json!(4)));
    assert_eq!(sent["result"]["document"]["file_size"], json!(png.len()));
    let file_id = sent["result"]["photo"][0]["file_id"].clone();
    let again = house.ok("sendPhoto", json!({"chat_id": CHAT, "photo": file_id})).await;
    assert_eq!(again["photo"][0]["file_id"], file_id);
    let file = house.ok("getFile", json!({"file_id": file_id})).await;
    let url = house.url(&format!("/file/bot{TOKEN}/{}", file["file_path"].as_str().unwrap()));
    assert_eq!(house.http.get(url).send().await.unwrap().bytes().await.unwrap(), png);
    let other = house.url(&format!("/file/botother_token/{}", file["file_path"].as_str().unwrap()));
    assert_eq!(house.http.get(other).send().await.unwrap().status(), 404);

    let no_picture =
        Form::new().text("chat_id", CHAT.to_string()).part("photo", Part::bytes(&b"text"[..]).file_name("p.png"));
    assert_eq!(send("sendPhoto", no_picture).await["description"], json!("Bad Request: IMAGE_PROCESS_FAILED"));
    let empty = Form::new().text("chat_id", CHAT.to_string()).part("document", Part::bytes(&b""[..]).file_name("a"));
    assert_eq!(send("sendDocument", empty).await["description"], json!("Bad Request: file must be non-empty"));
    assert_eq!(
        house.refused("sendDocument", json!({"chat_id": CHAT})).await,
        "400 Bad Request: there is no document in the request"
    );
    assert_eq!(house.refused("getFile", json!({"file_id": "x"})).await, "400 Bad Request: invalid file_id");
    assert_eq!(house.refused("getFile", json!({})).await, "400 Bad Request: file_id not specified");
    let long = Form::new().text("chat_id", CHAT.to_string()).text("caption", "x".repeat(1025));
    let long = send("sendDocument", long.part("document", Part::bytes(&b"x"[..]).file_name("a"))).await;
    assert_eq!(long["description"], json!("Bad Request: message caption is too long"));
}

#[tokio::test]
async fn small_methods_answer_and_refuse() {
    let house = House::new().await;
    house.alice_says("hi");
    let me = house.ok("getMe", json!({})).await;
    assert_eq!((&me["is_bot"], me["username"].as_str().unwrap().ends_with("_bot")), (&json!(true), true));
    assert_eq!(house.call_as("123456:ABC-def", "getMe", json!({})).await.1["result"]["id"], json!(123_456));
    assert_eq!(house.ok("sendChatAction", json!({"chat_id": CHAT, "action": "typing"})).await, json!(true));
    assert_eq!(
        house.refused("sendChatAction", json!({"chat_id": CHAT, "action": "sleeping"})).await,
        "400 Bad Request: wrong parameter action in request"
    );
    let commands = json!([{"command": "start", "description": "Begin"}]);
    assert_eq!(house.ok("setMyCommands", json!({"commands": commands})).await, json!(true));
    assert_eq!(house.ok("getMyCommands", json!({})).await, commands);
    assert_eq!(house.ok("getMyCommands", json!({"language_code": "ko"})).await, json!([]));
    assert_eq!(house.ok("deleteMyCommands", json!({})).await, json!(true));
    assert_eq!(house.ok("getMyCommands", json!({})).await, json!([]));
    let bad = json!({"commands": [{"command": "Start!", "description": "Begin"}]});
    assert_eq!(house.refused("setMyCommands", bad).await, "400 Bad Request: BOT_COMMAND_INVALID");
    let react =
        |emoji: &str| json!({"chat_id": CHAT, "message_id": 1, "reaction": [{"type": "emoji", "emoji": emoji}]});
    assert_eq!(house.ok("setMessageReaction", react("👍")).await, json!(true));
    assert_eq!(house.refused("setMessageReaction", react("x")).await, "400 Bad Request: REACTION_INVALID");
    assert_eq!(house.refused("flyAway", json!({})).await, "404 Not Found: method not found");
    assert_eq!(house.ok("close", json!({})).await, json!(true));
    assert_eq!(house.ok("logOut", json!({})).await, json!(true));
    assert_eq!(house.refused("getMe", json!({})).await, "400 Bad Request: logged out");
}

#[tokio::test]
async fn the_pace_is_kept_when_it_is_switched_on() {
    let pace = Pace { chat_per_second: 0.001, chat_burst: 2.0, ..Pace::default() };
    let house = House::with(MockConfig { limits: Some(pace), ..MockConfig::default() }).await;
    house.alice_says("hi");
    house.parrot_says("one").await;
    let id = house.parrot_says("two").await;
    let response = house
        .http
        .post(house.url(&format!("/bot{TOKEN}/editMessageText")))
        .json(&json!({"chat_id": CHAT, "message_id": id, "text": "three"}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 429);
    let header: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["parameters"]["retry_after"], json!(header));
    assert_eq!(body["description"], json!(format!("Too Many Requests: retry after {header}")));
    house.mock.set_limits(None);
    house.parrot_says("four").await;
}
