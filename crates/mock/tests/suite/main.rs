//! The mock seen from outside: through HTTP as bots and the page see it, and through its controls.
#![expect(clippy::unwrap_used, reason = "the helpers below are test code, but no `#[test]` functions")]

mod controls;
mod delivery;
mod encodings;
mod messages;
mod page;
mod places;
mod polling;
mod server;
mod upstream;
mod verdicts;

use std::time::Duration;

use salon_mock::{Mock, MockConfig};
use serde_json::{Value, json};

pub const TOKEN: &str = "mock_token_1";
pub const CHAT: i64 = 1001;
pub const ALICE: i64 = 9001;

/// A mock and the parrot, a bot that talks to it.
pub struct House {
    pub mock: Mock,
    pub http: reqwest::Client,
}

impl House {
    pub async fn new() -> House {
        House::with(MockConfig::default()).await
    }

    /// A house in which the protocol's seconds are milliseconds.
    pub async fn fast() -> House {
        House::with(MockConfig { time_scale: 0.001, ..MockConfig::default() }).await
    }

    pub async fn with(config: MockConfig) -> House {
        let mock = Mock::start(config).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        House { mock, http }
    }

    /// Alice says something to the parrot, which opens the chat.
    pub fn alice_says(&self, text: &str) -> i64 {
        self.mock.says(TOKEN, CHAT, ALICE, text)
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.mock.base_url())
    }

    /// A call of the parrot as JSON: the status and the body.
    pub async fn call(&self, method: &str, params: Value) -> (u16, Value) {
        self.call_as(TOKEN, method, params).await
    }

    pub async fn call_as(&self, token: &str, method: &str, params: Value) -> (u16, Value) {
        let url = self.url(&format!("/bot{token}/{method}"));
        let response = self.http.post(url).json(&params).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The result of a call that must succeed.
    pub async fn ok(&self, method: &str, params: Value) -> Value {
        let (status, body) = self.call(method, params).await;
        assert_eq!((status, body["ok"].as_bool()), (200, Some(true)), "{body}");
        body["result"].clone()
    }

    /// The words of a call that must fail, after a check that status and code agree.
    pub async fn refused(&self, method: &str, params: Value) -> String {
        let (status, body) = self.call(method, params).await;
        assert_eq!(body["ok"], json!(false), "{body}");
        assert_eq!(body["error_code"], json!(status), "{body}");
        format!("{status} {}", body["description"].as_str().unwrap())
    }

    /// A control call with a JSON body.
    pub async fn control(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.http.post(self.url(path)).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn look(&self, path: &str) -> (u16, Value) {
        let response = self.http.get(self.url(path)).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// What the parrot says in Alice's chat; returns the message's id.
    pub async fn parrot_says(&self, text: &str) -> i64 {
        self.ok("sendMessage", json!({"chat_id": CHAT, "text": text})).await["message_id"].as_i64().unwrap()
    }

    /// Fetches what waits and lets it go, as a poller does.
    pub async fn take_updates(&self) -> Vec<Value> {
        let updates = self.ok("getUpdates", json!({"timeout": 0})).await.as_array().unwrap().clone();
        if let Some(last) = updates.last().and_then(|update| update["update_id"].as_i64()) {
            self.ok("getUpdates", json!({"offset": last + 1, "timeout": 0})).await;
        }
        updates
    }
}

/// Fails a wait that would never end.
pub async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("this should have happened")
}
