//! Webhooks: order per chat, retries, secrets, and answers that are calls.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use salon_mock::{MockConfig, Press, Verify};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use crate::{ALICE, CHAT, House, TOKEN, soon};

/// Where webhooks go: it answers from a script, then with 200, and shows what came.
struct Endpoint {
    url: String,
    script: Script,
    came: mpsc::Receiver<(Value, Option<String>)>,
    /// Closed while the endpoint shall not answer.
    gate: Arc<Semaphore>,
}

#[derive(Clone, Default)]
struct Script(Arc<Mutex<VecDeque<Reply>>>);

type Reply = (u16, Vec<(&'static str, &'static str)>, String);

impl Script {
    fn add(&self, status: u16, headers: &[(&'static str, &'static str)], body: &str) {
        self.0.lock().unwrap().push_back((status, headers.to_vec(), body.to_owned()));
    }
}

type Shared = (Script, mpsc::Sender<(Value, Option<String>)>, Arc<Semaphore>);

impl Endpoint {
    async fn open() -> Endpoint {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (sender, came) = mpsc::channel(1000);
        let (script, gate) = (Script::default(), Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)));
        let app = Router::new().fallback(Endpoint::take).with_state((script.clone(), sender, gate.clone()));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Endpoint { url, script, came, gate }
    }

    async fn take(
        State((script, sender, gate)): State<Shared>,
        headers: HeaderMap,
        body: axum::body::Bytes,
    ) -> Response {
        let secret = headers.get("x-telegram-bot-api-secret-token").map(|value| value.to_str().unwrap().to_owned());
        sender.send((serde_json::from_slice(&body).unwrap(), secret)).await.unwrap();
        let _ = gate.acquire().await.unwrap();
        let reply = script.0.lock().unwrap().pop_front();
        let (status, headers, body) = reply.unwrap_or((200, Vec::new(), String::new()));
        let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    }

    async fn next(&mut self) -> Value {
        soon(self.came.recv()).await.unwrap().0
    }

    async fn next_text(&mut self) -> String {
        self.next().await["message"]["text"].as_str().unwrap().to_owned()
    }
}

/// Waits until nothing is left to deliver.
async fn until_delivered(house: &House) {
    let mut news = house.mock.watch();
    soon(async {
        while house.mock.undelivered(TOKEN) > 0 {
            let _ = news.recv().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_update_is_posted_with_its_secret() {
    let (house, mut endpoint) = (House::fast().await, Endpoint::open().await);
    let (status, body) =
        house.call("setWebhook", json!({"url": endpoint.url, "secret_token": "s-1", "max_connections": "7"})).await;
    assert_eq!((status, &body["description"]), (200, &json!("Webhook was set")));
    let (_, sent) = house.control("/_mock/send", json!({"token": TOKEN, "chat_id": CHAT, "text": "hi"})).await;
    assert_eq!(sent["result"]["delivery_mode"], json!("webhook"));
    assert_eq!(sent["result"]["delivered_via_webhook"], json!(true));
    assert_eq!(sent["result"]["webhook_error"], json!(null));
    let (update, secret) = endpoint.came.recv().await.unwrap();
    assert_eq!((&update["update_id"], secret.as_deref()), (&sent["result"]["update_id"], Some("s-1")));
    let info = house.ok("getWebhookInfo", json!({})).await;
    assert_eq!((&info["url"], &info["pending_update_count"]), (&json!(endpoint.url), &json!(0)));
    assert_eq!(info["max_connections"], json!(7));
}

#[tokio::test]
async fn a_failure_is_retried_in_order_and_other_chats_go_on() {
    let (house, mut endpoint) = (House::fast().await, Endpoint::open().await);
    house.ok("setWebhook", json!({"url": endpoint.url})).await;
    for _ in 0..4 {
        endpoint.script.add(500, &[], "");
    }
    house.alice_says("one");
    house.alice_says("two");
    for _ in 0..5 {
        assert_eq!(endpoint.next_text().await, "one", "the first blocks its chat");
    }
    assert_eq!(endpoint.next_text().await, "two");
    until_delivered(&house).await;
    let info = house.ok("getWebhookInfo", json!({})).await;
    assert_eq!(info["last_error_message"], json!("Wrong response from the webhook: 500 Internal Server Error"));
    assert!(info["last_error_date"].is_i64());

    // While one chat waits for its answer, another is served.
    endpoint.gate.forget_permits(Semaphore::MAX_PERMITS);
    house.alice_says("three");
    house.alice_says("four");
    house.mock.says(TOKEN, 2002, 2002, "from bob");
    let mut seen = [endpoint.next_text().await, endpoint.next_text().await];
    seen.sort();
    assert_eq!(seen, ["from bob", "three"]);
    endpoint.gate.add_permits(100);
    assert_eq!(endpoint.next_text().await, "four");
}

#[tokio::test]
async fn a_press_does_not_wait_behind_a_message() {
    let (house, mut endpoint) = (House::fast().await, Endpoint::open().await);
    house.ok("setWebhook", json!({"url": endpoint.url})).await;
    house.alice_says("hi");
    endpoint.next().await;
    let keyboard = json!({"inline_keyboard": [[{"text": "Stop", "callback_data": "act:1"}]]});
    let sent = house.ok("sendMessage", json!({"chat_id": CHAT, "text": "x", "reply_markup": keyboard})).await;
    endpoint.gate.forget_permits(Semaphore::MAX_PERMITS);
    house.alice_says("blocked");
    assert_eq!(endpoint.next_text().await, "blocked");
    let press = Press {
        token: TOKEN.to_owned(),
        chat_id: CHAT,
        message_id: sent["message_id"].as_i64().unwrap(),
        user_id: ALICE,
        callback_data: "act:1".to_owned(),
    };
    house.mock.press(press).unwrap();
    assert_eq!(endpoint.next().await["callback_query"]["data"], json!("act:1"));
}

#[tokio::test]
async fn a_retry_after_beyond_the_end_of_an_update_drops_it() {
    // A press lasts 150 seconds. Without the header it would be tried again at once.
    let (house, mut endpoint) = (House::new().await, Endpoint::open().await);
    house.ok("setWebhook", json!({"url": endpoint.url})).await;
    house.alice_says("hi");
    endpoint.next().await;
    let keyboard = json!({"inline_keyboard": [[{"text": "Stop", "callback_data": "act:1"}]]});
    let sent = house.ok("sendMessage", json!({"chat_id": CHAT, "text": "x", "reply_markup": keyboard})).await;
    endpoint.script.add(503, &[("retry-after", "200")], "");
    let press = Press {
        token: TOKEN.to_owned(),
        chat_id: CHAT,
        message_id: sent["message_id"].as_i64().unwrap(),
        user_id: ALICE,
        callback_data: "act:1".to_owned(),
    };
    house.mock.press(press).unwrap();
    assert!(endpoint.next().await.get("callback_query").is_some());
    until_delivered(&house).await;
    house.alice_says("later");
    assert_eq!(endpoint.next_text().await, "later");
}

#[tokio::test]
async fn an_answer_with_a_method_is_carried_out() {
    let (house, mut endpoint) = (House::fast().await, Endpoint::open().await);
    house.ok("setWebhook", json!({"url": endpoint.url})).await;
    let json_type = [("content-type", "application/json")];
    let answer = json!({"method": "sendMessage", "chat_id": CHAT, "text": "at once"}).to_string();
    endpoint.script.add(200, &json_type, &answer);
    endpoint.script.add(200, &json_type, &json!({"method": "deleteWebhook"}).to_string());
    endpoint.script.add(
        201,
        &[("content-type", "application/x-www-form-urlencoded")],
        "method=sendMessage&chat_id=1001&text=form",
    );
    for text in ["one", "two", "three"] {
        house.alice_says(text);
        endpoint.next().await;
    }
    let texts = soon(house.mock.wait_for_texts(TOKEN, CHAT, |texts| texts.len() == 2)).await;
    assert_eq!(texts, ["at once", "form"]);
    assert_eq!(house.ok("getWebhookInfo", json!({})).await["url"], json!(endpoint.url), "get rid of it yourself");
    let calls = house.mock.calls(TOKEN, "sendMessage");
    assert_eq!(calls.iter().map(|call| (call.via, call.applied)).collect::<Vec<_>>(), [("webhook", true); 2]);
}

#[tokio::test]
async fn a_redirect_is_a_failure() {
    let (house, mut endpoint) = (House::fast().await, Endpoint::open().await);
    house.ok("setWebhook", json!({"url": endpoint.url})).await;
    endpoint.script.add(302, &[("location", "/elsewhere")], "");
    house.alice_says("one");
    assert_eq!(endpoint.next_text().await, "one");
    assert_eq!(endpoint.next_text().await, "one");
    until_delivered(&house).await;
    let info = house.ok("getWebhookInfo", json!({})).await;
    assert_eq!(info["last_error_message"], json!("Wrong response from the webhook: 302 Found"));
}

#[tokio::test]
async fn a_closed_door_is_reported_and_old_updates_are_dropped() {
    // A day is 86 milliseconds here.
    let house = House::with(MockConfig { time_scale: 1e-6, ..MockConfig::default() }).await;
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    house.ok("setWebhook", json!({"url": format!("http://127.0.0.1:{port}/")})).await;
    let (_, sent) = house.control("/_mock/send", json!({"token": TOKEN, "chat_id": CHAT, "text": "hi"})).await;
    assert_eq!(sent["result"]["delivered_via_webhook"], json!(false));
    assert_eq!(sent["result"]["webhook_error"], json!("Connection refused"));
    until_delivered(&house).await;
    let verdict = house.mock.verify(&Verify::default()).unwrap();
    assert_eq!((verdict.lost.len(), verdict.pending.len()), (0, 1), "what was dropped was never taken");
}

#[tokio::test]
async fn a_webhook_is_checked_before_it_is_set() {
    let house = House::new().await;
    for (params, words) in [
        (json!({"url": "not a url"}), "400 Bad Request: invalid webhook URL specified"),
        (json!({"url": "ftp://example.com"}), "400 Bad Request: invalid webhook URL specified"),
        (
            json!({"url": "http://127.0.0.1:9/", "secret_token": "a b"}),
            "400 Bad Request: secret token contains unallowed characters",
        ),
        (
            json!({"url": "http://127.0.0.1:9/", "secret_token": "x".repeat(257)}),
            "400 Bad Request: secret token is too long",
        ),
    ] {
        assert_eq!(house.refused("setWebhook", params).await, words);
    }
    let set = || house.call("setWebhook", json!({"url": "http://127.0.0.1:9/"}));
    assert_eq!(set().await.1["description"], json!("Webhook was set"));
    assert_eq!(set().await.1["description"], json!("Too Many Requests: retry after 1"));
    let fast = House::fast().await;
    fast.ok("setWebhook", json!({"url": "http://127.0.0.1:9/"})).await;
    let delete = fast.call("deleteWebhook", json!({"drop_pending_updates": false})).await;
    assert_eq!(delete.1["description"], json!("Webhook was deleted"));
    assert_eq!(fast.call("deleteWebhook", json!({})).await.1["description"], json!("Webhook is already deleted"));
    assert_eq!(fast.ok("getWebhookInfo", json!({})).await["url"], json!(""));
    fast.alice_says("hi");
    fast.ok("deleteWebhook", json!({"drop_pending_updates": "True"})).await;
    assert_eq!(fast.ok("getWebhookInfo", json!({})).await["pending_update_count"], json!(0));
    let kinds: Vec<_> = fast.mock.verify(&Verify::default()).unwrap().violations.iter().map(|case| case.kind).collect();
    assert_eq!(kinds, ["drop_pending_updates"]);
}

#[tokio::test]
async fn waiting_updates_go_to_a_new_webhook_and_a_new_one_replaces_the_old() {
    let (house, mut first, mut second) = (House::fast().await, Endpoint::open().await, Endpoint::open().await);
    house.alice_says("early");
    house.ok("setWebhook", json!({"url": first.url})).await;
    assert_eq!(first.next_text().await, "early");
    until_delivered(&house).await;
    first.gate.forget_permits(Semaphore::MAX_PERMITS);
    house.alice_says("in between");
    assert_eq!(first.next_text().await, "in between");
    soon(async {
        while house.call("setWebhook", json!({"url": second.url})).await.0 != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(second.next_text().await, "in between", "it was not taken, so it comes again");
    first.gate.add_permits(100);
    until_delivered(&house).await;
    house.alice_says("late");
    assert_eq!(second.next_text().await, "late");
    assert!(first.came.try_recv().is_err());
}
