//! The five client libraries: how each of them says the same thing.

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::{CHAT, House, TOKEN};

async fn result(response: reqwest::Response) -> Value {
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["ok"], json!(true), "{body}");
    body["result"].clone()
}

#[tokio::test]
async fn a_form_with_json_inside_as_aiogram_and_ptb_send_it() {
    let house = House::new().await;
    house.alice_says("hi");
    let markup = json!({"inline_keyboard": [[{"text": "Stop", "callback_data": "act:1"}]]});
    let form = "chat_id=1001&text=hello+world%21&disable_notification=False&reply_markup=";
    let form = format!("{form}{}", markup.to_string().replace('"', "%22").replace('{', "%7B").replace(' ', "+"));
    let request = house
        .http
        .post(house.url(&format!("/bot{TOKEN}/sendMessage")))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let sent = result(request.send().await.unwrap()).await;
    assert_eq!((&sent["text"], &sent["reply_markup"]), (&json!("hello world!"), &markup));
    // python-telegram-bot deletes the webhook with nothing at all.
    let empty = house.http.post(house.url(&format!("/bot{TOKEN}/deleteWebhook")));
    assert_eq!(result(empty.send().await.unwrap()).await, json!(true));
}

#[tokio::test]
async fn everything_in_the_query_as_pytelegrambotapi_sends_it() {
    let house = House::new().await;
    house.alice_says("hi");
    let get = |path: &str| house.http.get(house.url(&format!("/bot{TOKEN}/{path}")));
    assert_eq!(result(get("getMe").send().await.unwrap()).await["is_bot"], json!(true));
    let updates = result(get("getUpdates?offset=1&timeout=10").send().await.unwrap()).await;
    assert_eq!(updates[0]["message"]["text"], json!("hi"));
    let post = house.http.post(house.url(&format!("/bot{TOKEN}/sendMessage?chat_id=1001&text=%D1%87%D0%B8%D0%B6")));
    assert_eq!(result(post.send().await.unwrap()).await["text"], json!("чиж"));
}

#[tokio::test]
async fn json_in_any_case_as_grammy_and_telegraf_send_it() {
    let house = House::new().await;
    house.alice_says("hi");
    let call = |method: &str, body: Value| house.http.post(house.url(&format!("/bot{TOKEN}/{method}"))).json(&body);
    let sent = result(call("SENDMESSAGE", json!({"chat_id": "1001", "text": 42})).send().await.unwrap()).await;
    assert_eq!(sent["text"], json!("42"));
    let updates = call("getupdates", json!({"timeout": 0, "offset": 1, "allowed_updates": []}));
    assert_eq!(result(updates.send().await.unwrap()).await.as_array().unwrap().len(), 1);
    let edit = json!({"chat_id": CHAT, "message_id": "2", "text": "x", "reply_markup": null, "parse_mode": null});
    assert_eq!(result(call("editMessageText", edit).send().await.unwrap()).await["text"], json!("x"));
    let broken = house
        .http
        .post(house.url(&format!("/bot{TOKEN}/sendMessage")))
        .header("content-type", "application/json")
        .body("{\"chat_id\":");
    assert_eq!(broken.send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn files_as_multipart_with_the_rest_beside_or_in_the_query() {
    let house = House::new().await;
    house.alice_says("hi");
    let part = || Part::bytes(&b"contents"[..]).file_name("note.txt");
    let grammy = Form::new().text("chat_id", "1001").text("document", "attach://abc").part("abc", part());
    let telegraf = Form::new().text("method", "sendDocument").text("chat_id", "1001").part("document", part());
    let telebot = Form::new().part("document", part());
    for (path, form) in [("sendDocument", grammy), ("sendDocument", telegraf), ("sendDocument?chat_id=1001", telebot)] {
        let request = house.http.post(house.url(&format!("/bot{TOKEN}/{path}"))).multipart(form);
        let sent = result(request.send().await.unwrap()).await;
        assert_eq!(sent["document"]["file_name"], json!("note.txt"));
        assert_eq!(sent["document"]["file_size"], json!(8));
    }
}

#[tokio::test]
async fn a_wrong_address_is_answered_like_telegram_does() {
    let house = House::new().await;
    for (path, status, words) in [
        ("/bot123/getMe", 401, "Unauthorized: invalid token specified"),
        ("/botmock_token_1/fly", 404, "Not Found: method not found"),
        ("/botmock_token_1", 404, "Not Found"),
        ("/botmock_token_1/", 404, "Not Found"),
    ] {
        let (got, body) = house.look(path).await;
        assert_eq!((got, &body["error_code"], &body["description"]), (status, &json!(status), &json!(words)), "{path}");
    }
    let (status, body) = house.look("/botmock_token_1/test/getMe").await;
    assert_eq!((status, &body["ok"]), (200, &json!(true)));
    let keys: Vec<String> = house.look("/bot123/getMe").await.1.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["ok", "error_code", "description"]);
}
