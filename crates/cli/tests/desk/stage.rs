//! A house with people of two organisations, and browsers to stand at its desk.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use salon::access::issue::{Maker, NewKey, make_key};
use salon::audit::Actor;
use salon::desk::Hire;
use salon::people::{DEFAULT_ORG, add_org};
use salon_cli::config::Config;
use salon_cli::house::House;
use salon_core::people::Role;
use salon_core::{OrgId, Scopes, Time, UserId};
use salon_mock::{Mock, MockConfig};
use salon_store::{Link, Place, Realm};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house;

pub const TOKEN: &str = "1001:canary-token-of-the-parrot";
pub const OTHER_TOKEN: &str = "1002:canary-token-of-the-heron";
pub const PASSWORD: &str = "an old heron stands in water";
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A house with a bot, and people of two organisations.
pub struct Stage {
    pub house: House,
    pub address: SocketAddr,
    pub mock: Mock,
    pub other: OrgId,
    folder: TempDir,
}

/// Somebody in a browser.
#[derive(Clone)]
pub struct Browser {
    pub address: SocketAddr,
    pub user: UserId,
    pub cookie: String,
    pub seal: String,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn location(&self) -> &str {
        self.headers.get("location").map_or("", String::as_str)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    #[track_caller]
    pub fn leads_to(&self, place: &str) {
        assert_eq!((self.status, self.location()), (303, place), "{}", self.body);
    }

    #[track_caller]
    pub fn is(&self, status: u16) -> &Answer {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    #[track_caller]
    pub fn says(&self, words: &str) -> &Answer {
        assert!(self.body.contains(words), "no {words:?} in {}", self.body);
        self
    }
}

impl Stage {
    pub async fn open() -> Stage {
        Stage::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Stage {
        let folder = tempfile::tempdir().expect("a folder");
        let mock = Mock::start(MockConfig::default()).await.expect("a mock");
        let mut config = house::config(folder.path(), Place::Folder(folder.path().join("data")), mock.base_url());
        config.house.secure_cookies = false;
        change(&mut config);
        let list = format!(
            "# Ours.\nbots:\n  - bot_id: parrot # says it back\n    telegram_token: \"{TOKEN}\"\n    adapter: parrot\n    allow: everyone\n"
        );
        std::fs::write(&config.bots_file, list).expect("a list of bots");
        let house = House::open(&config).await.expect("a house");
        let address = house.address.expect("a listener");
        let pen = house.salon.pen(Actor::Operator);
        let org =
            add_org(&house.salon.store, &house.salon.clock, &pen, "Fishes", "UTC").await.expect("an organisation");
        Stage { house, address, mock, other: org.id, folder }
    }

    /// Somebody who came in, with what stands in their forms.
    pub async fn enter(&self, org: &str, name: &str, role: Role, realm: Realm) -> Browser {
        let salon = &self.house.salon;
        let email = format!("{}@birds.example", name.to_lowercase());
        let known = salon.store.read().await.expect("a reader").find_account_of_login(&email).await.expect("a look");
        let user = match known {
            Some(account) => account.user,
            None => {
                let hire = Hire {
                    org: OrgId::new(org),
                    name: name.to_owned(),
                    email,
                    role,
                    password: Some(PASSWORD.to_owned()),
                };
                salon.hire(&salon.pen(Actor::Operator), hire).await.expect("somebody").0
            }
        };
        let account = salon.store.read().await.expect("a reader").find_account(&user.id).await.expect("a look");
        let entered = salon.let_in(&account.expect("an account"), realm, "Firefox").await.expect("a login");
        let visit = salon.visit(&entered.cookie, realm).await.expect("a look").expect("a visit");
        let name = if realm == Realm::Desk { "desk" } else { "sid" };
        Browser { address: self.address, user: user.id, cookie: format!("{name}={}", entered.cookie), seal: visit.seal }
    }

    /// A key that may do whatever they may.
    pub async fn key_of(&self, user: &UserId) -> String {
        let salon = &self.house.salon;
        let new = NewKey {
            user: user.clone(),
            name: "laptop".to_owned(),
            role: None,
            scopes: Scopes::default(),
            expires_at: None,
            limits: Vec::new(),
        };
        let made = make_key(&salon.store, &salon.clock, &salon.keys, Maker::Operator, new).await;
        made.expect("a key").secret.expose().to_owned()
    }

    /// Says something to a bot, in a private chat.
    pub async fn say(&self, telegram: i64, text: &str) {
        let body = json!({"token": TOKEN, "chat_id": telegram, "user_id": telegram, "text": text}).to_string();
        let head = "Content-Type: application/json\r\n";
        let said = ask(self.mock.address(), "POST", "/_mock/send", head, &body).await;
        assert_eq!(said.status, 200, "{}", said.body);
    }

    /// Everything in a chat with the parrot.
    pub async fn chat(&self, telegram: i64) -> String {
        let path = format!("/_mock/messages?token={}&chat_id={telegram}", coded(TOKEN));
        ask(self.mock.address(), "GET", &path, "", "").await.body
    }

    pub async fn chat_says(&self, telegram: i64, words: &str) {
        let seen = tokio::time::timeout(PATIENCE * 2, async {
            while !self.chat(telegram).await.contains(words) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        if seen.await.is_err() {
            panic!("nobody said {words}: {}", self.chat(telegram).await);
        }
    }

    /// Once by who said it, and once by the parrot.
    pub async fn chat_says_twice(&self, telegram: i64, words: &str) {
        let seen = tokio::time::timeout(PATIENCE, async {
            while self.chat(telegram).await.matches(words).count() < 2 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        seen.await.expect("an answer in time");
    }

    /// Somebody of Telegram is this person, and has written to the parrot.
    pub async fn link(&self, browser: &Browser, telegram: i64) {
        let link =
            Link { telegram, user: browser.user.clone(), name: "Chat".to_owned(), linked_at: Time(1), was: None };
        let store = &self.house.salon.store;
        assert!(store.write(link, |tx, link| Box::pin(tx.add_link(link))).await.expect("a link"));
        self.say(telegram, "good morning").await;
        self.chat_says(telegram, "good morning").await;
    }

    /// The one call that waits for an administrator.
    pub async fn waits_for_a_yes(&self) -> String {
        let held = tokio::time::timeout(PATIENCE, async {
            loop {
                let mut tx = self.house.salon.store.read().await.expect("a reader");
                let held = tx.list_held(&OrgId::new(DEFAULT_ORG), None, 10).await.expect("calls");
                if let [call] = held.as_slice() {
                    return call.id.to_string();
                }
                drop(tx);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        held.await.expect("a call that waits")
    }

    pub async fn admin(&self) -> Browser {
        self.enter(DEFAULT_ORG, "Alice", Role::Admin, Realm::Desk).await
    }

    pub fn bots(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("bots.yaml")).expect("a list of bots")
    }

    /// As somebody with an editor would.
    pub fn write_bots(&self, list: &str) {
        std::fs::write(self.folder.path().join("bots.yaml"), list).expect("a list of bots");
        self.house.fleet.reload();
    }

    pub async fn close(self) {
        self.house.close().await;
        self.mock.shutdown().await.expect("the mock ends");
    }
}

impl Browser {
    pub async fn get(&self, path: &str) -> Answer {
        let head = format!("Accept: text/html\r\nCookie: {}\r\n", self.cookie);
        ask(self.address, "GET", path, &head, "").await
    }

    /// Sends a form as one of our own pages would.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(path, "Sec-Fetch-Site: same-origin\r\n", Some(&self.seal), fields).await
    }

    pub async fn send(&self, path: &str, site: &str, seal: Option<&str>, fields: &[(&str, &str)]) -> Answer {
        let head = format!(
            "Accept: text/html\r\nCookie: {}\r\n{site}Content-Type: application/x-www-form-urlencoded\r\n",
            self.cookie
        );
        let seal = seal.map(|seal| ("seal", seal));
        let body: Vec<String> =
            seal.iter().chain(fields).map(|(name, value)| format!("{name}={}", coded(value))).collect();
        ask(self.address, "POST", path, &head, &body.join("&")).await
    }

    pub async fn json(&self, path: &str, body: &Value) -> Answer {
        let head =
            format!("Cookie: {}\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\n", self.cookie);
        ask(self.address, "POST", path, &head, &body.to_string()).await
    }
}

pub fn coded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

pub async fn ask(address: SocketAddr, method: &str, path: &str, head: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("the door is open");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{head}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer in time");
    read.expect("an answer");
    let text = String::from_utf8(bytes).expect("an answer is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> =
        headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let body = match headers.get("transfer-encoding") {
        Some(_) => unchunked(body),
        None => body.to_owned(),
    };
    Answer { status, headers, body }
}

pub fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        if length == 0 {
            break;
        }
        whole.push_str(&rest[..length]);
        body = &rest[length + 2..];
    }
    whole
}
