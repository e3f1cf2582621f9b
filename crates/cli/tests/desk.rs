//! The administrators' desk, asked as browsers and strangers ask it.

mod house;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use salon::access::issue::{Maker, NewKey, make_key};
use salon::audit::Actor;
use salon::catalog::{Kind, ModelSpec, Patience, UpstreamSpec};
use salon::desk::Hire;
use salon::people::{DEFAULT_ORG, add_org};
use salon::vault::{Origin, Secret};
use salon_cli::config::Config;
use salon_cli::house::House;
use salon_core::people::Role;
use salon_core::{OrgId, Owner, Scopes, Time, UserId};
use salon_mock::{Mock, MockConfig};
use salon_store::ledger::UsageFilter;
use salon_store::{AuditFilter, Link, Place, Realm, Taste};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TOKEN: &str = "1001:canary-token-of-the-parrot";
const OTHER_TOKEN: &str = "1002:canary-token-of-the-heron";
const PASSWORD: &str = "an old heron stands in water";
const PATIENCE: Duration = Duration::from_secs(20);

/// A house with a bot, and people of two organisations.
struct Stage {
    house: House,
    address: SocketAddr,
    mock: Mock,
    other: OrgId,
    _folder: TempDir,
}

/// Somebody in a browser.
#[derive(Clone)]
struct Browser {
    address: SocketAddr,
    user: UserId,
    cookie: String,
    seal: String,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn location(&self) -> &str {
        self.headers.get("location").map_or("", String::as_str)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    #[track_caller]
    fn leads_to(&self, place: &str) {
        assert_eq!((self.status, self.location()), (303, place), "{}", self.body);
    }

    #[track_caller]
    fn is(&self, status: u16) -> &Answer {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    #[track_caller]
    fn says(&self, words: &str) -> &Answer {
        assert!(self.body.contains(words), "no {words:?} in {}", self.body);
        self
    }
}

impl Stage {
    async fn open() -> Stage {
        Stage::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Stage {
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
        Stage { house, address, mock, other: org.id, _folder: folder }
    }

    /// Somebody who came in, with what stands in their forms.
    async fn enter(&self, org: &str, name: &str, role: Role, realm: Realm) -> Browser {
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
    async fn key_of(&self, user: &UserId) -> String {
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
    async fn say(&self, telegram: i64, text: &str) {
        let body = json!({"token": TOKEN, "chat_id": telegram, "user_id": telegram, "text": text}).to_string();
        let head = "Content-Type: application/json\r\n";
        let said = ask(self.mock.address(), "POST", "/_mock/send", head, &body).await;
        assert_eq!(said.status, 200, "{}", said.body);
    }

    /// Everything in a chat with the parrot.
    async fn chat(&self, telegram: i64) -> String {
        let path = format!("/_mock/messages?token={}&chat_id={telegram}", coded(TOKEN));
        ask(self.mock.address(), "GET", &path, "", "").await.body
    }

    async fn chat_says(&self, telegram: i64, words: &str) {
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
    async fn chat_says_twice(&self, telegram: i64, words: &str) {
        let seen = tokio::time::timeout(PATIENCE, async {
            while self.chat(telegram).await.matches(words).count() < 2 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        seen.await.expect("an answer in time");
    }

    /// Somebody of Telegram is this person, and has written to the parrot.
    async fn link(&self, browser: &Browser, telegram: i64) {
        let link = Link { telegram, user: browser.user.clone(), name: "Chat".to_owned(), linked_at: Time(1) };
        let store = &self.house.salon.store;
        assert!(store.write(link, |tx, link| Box::pin(tx.add_link(link))).await.expect("a link"));
        self.say(telegram, "good morning").await;
        self.chat_says(telegram, "good morning").await;
    }

    /// The one call that waits for an administrator.
    async fn waits_for_a_yes(&self) -> String {
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

    async fn admin(&self) -> Browser {
        self.enter(DEFAULT_ORG, "Alice", Role::Admin, Realm::Desk).await
    }

    fn bots(&self) -> String {
        std::fs::read_to_string(self._folder.path().join("bots.yaml")).expect("a list of bots")
    }

    async fn close(self) {
        self.house.close().await;
        self.mock.shutdown().await.expect("the mock ends");
    }
}

impl Browser {
    async fn get(&self, path: &str) -> Answer {
        let head = format!("Accept: text/html\r\nCookie: {}\r\n", self.cookie);
        ask(self.address, "GET", path, &head, "").await
    }

    /// Sends a form as one of our own pages would.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(path, "Sec-Fetch-Site: same-origin\r\n", Some(&self.seal), fields).await
    }

    async fn send(&self, path: &str, site: &str, seal: Option<&str>, fields: &[(&str, &str)]) -> Answer {
        let head = format!(
            "Accept: text/html\r\nCookie: {}\r\n{site}Content-Type: application/x-www-form-urlencoded\r\n",
            self.cookie
        );
        let seal = seal.map(|seal| ("seal", seal));
        let body: Vec<String> =
            seal.iter().chain(fields).map(|(name, value)| format!("{name}={}", coded(value))).collect();
        ask(self.address, "POST", path, &head, &body.join("&")).await
    }

    async fn json(&self, path: &str, body: &Value) -> Answer {
        let head =
            format!("Cookie: {}\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\n", self.cookie);
        ask(self.address, "POST", path, &head, &body.to_string()).await
    }
}

fn coded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

async fn ask(address: SocketAddr, method: &str, path: &str, head: &str, body: &str) -> Answer {
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

fn unchunked(mut body: &str) -> String {
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

/// Every page of the desk that is only looked at.
const PAGES: &[&str] = &[
    "/admin",
    "/admin/users",
    "/admin/logs",
    "/admin/logs/dialogs",
    "/admin/stats",
    "/admin/limits",
    "/admin/plans",
    "/admin/held",
    "/admin/keys",
    "/admin/models",
    "/admin/bots",
    "/admin/commands",
    "/admin/settings",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_for_those_who_came_in_at_the_desk() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let manager = stage.enter(DEFAULT_ORG, "Mona", Role::Manager, Realm::Desk).await;
    let visitor = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    for page in PAGES {
        admin.get(page).await.is(200).says("/admin/logout");
        manager.get(page).await.is(200);
        let stranger = ask(stage.address, "GET", page, "Accept: text/html\r\n", "").await;
        assert!(stranger.location().starts_with("/admin/login"), "{page}: {stranger:?}");
        // The other pages' cookie opens nothing here, whatever it is called.
        assert!(visitor.get(page).await.location().starts_with("/admin/login"));
        let renamed = Browser { cookie: visitor.cookie.replace("sid=", "desk="), ..visitor.clone() };
        assert!(renamed.get(page).await.location().starts_with("/admin/login"));
    }
    // Managers look and change nothing.
    manager.post("/admin/users", &[("name", "Eve"), ("email", "eve@birds.example"), ("role", "admin")]).await.is(403);
    manager.post(&format!("/admin/users/{}/toggle", visitor.user), &[]).await.is(403);
    manager.post("/admin/bots/parrot/stop", &[]).await.is(403);
    manager.json("/admin/api/bot/stop", &json!({})).await.is(403);
    assert!(!manager.get("/admin/users").await.body.contains("name=\"password\""));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_desk_is_entered_by_a_password_and_left_by_a_button() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let head =
        "Accept: text/html\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let form =
        |password: &str| format!("email=alice%40birds.example&password={}&next=%2Fadmin%2Fusers", coded(password));
    ask(stage.address, "POST", "/admin/login", head, &form("something else")).await.is(401).says("alice@birds.example");
    let entered = ask(stage.address, "POST", "/admin/login", head, &form(PASSWORD)).await;
    entered.leads_to("/admin/users");
    let cookie = entered.headers.get("set-cookie").expect("a cookie");
    assert!(
        cookie.starts_with("desk=") && cookie.contains("SameSite=Strict") && cookie.contains("HttpOnly"),
        "{cookie}"
    );
    stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let bob = form(PASSWORD).replace("alice", "bob");
    ask(stage.address, "POST", "/admin/login", head, &bob).await.is(403);
    for evil in ["https://evil.example", "//evil.example", "/admin/../evil", "/\\evil.example"] {
        let form = form(PASSWORD).replace("%2Fadmin%2Fusers", &coded(evil));
        ask(stage.address, "POST", "/admin/login", head, &form).await.leads_to("/admin");
    }
    admin.post("/admin/logout", &[]).await.leads_to("/admin/login");
    assert!(admin.get("/admin").await.location().starts_with("/admin/login"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_are_taken_from_our_own_pages_alone() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let path = format!("/admin/users/{}/toggle", bob.user);
    for site in ["cross-site", "same-site", "none"] {
        let said = admin.send(&path, &format!("Sec-Fetch-Site: {site}\r\n"), Some(&admin.seal), &[]).await;
        said.is(403);
        let head = format!("Cookie: {}\r\nSec-Fetch-Site: {site}\r\n", admin.cookie);
        ask(stage.address, "POST", "/admin/api/bot/stop", &head, "").await.is(403);
    }
    admin.send(&path, "Origin: null\r\n", Some(&admin.seal), &[]).await.is(403);
    admin.send(&path, "", Some(&admin.seal), &[]).await.is(403);
    let site = "Sec-Fetch-Site: same-origin\r\n";
    admin.send(&path, site, None, &[]).await.is(403);
    admin.send(&path, site, Some(&bob.seal), &[]).await.is(403);
    // And looking changes nothing.
    assert!(admin.get(&path).await.status >= 400);
    let account =
        stage.house.salon.store.read().await.expect("a reader").find_account(&bob.user).await.expect("a look");
    assert!(account.expect("an account").user.active);
    // What a form does not have is refused, and nothing of it is done.
    let change = format!("/admin/users/{}", bob.user);
    let fields = [("name", "Bob"), ("email", ""), ("role", "user"), ("org_id", "default"), ("active", "0")];
    admin.post(&change, &fields).await.is(422);
    admin.post(&path, &[("role", "admin")]).await.is(422);
    admin.json("/admin/api/bot/stop", &json!({"bot": "parrot", "token": "x"})).await.is(422);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_made_changed_blocked_and_removed() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let new = [("name", "Carol"), ("email", "carol@birds.example"), ("role", "manager"), ("password", "")];
    let made = admin.post("/admin/users", &new).await;
    made.is(201).says("Carol comes in with this password");
    // A form that is not right comes again as it was filled in.
    admin.post("/admin/users", &new).await.is(422).says("carol@birds.example").says("e-email");
    let weak = [("name", "Dan"), ("email", "dan@birds.example"), ("role", "user"), ("password", "short")];
    admin.post("/admin/users", &weak).await.is(422).says("e-password").says("value=\"Dan\"");
    let invited = admin.post("/admin/users/invite", &[("role", "user")]).await;
    let at = invited.is(201).body.find("/join/").expect("an address");
    let word = &invited.body[at..at + "/join/".len() + 43];
    ask(stage.address, "GET", word, "Accept: text/html\r\n", "").await.is(200);
    assert!(!admin.get("/admin/users").await.body.contains("/join/"));

    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let page = format!("/admin/users/{}", bob.user);
    admin.get(&page).await.is(200).says("bob@birds.example");
    admin.get("/admin/users?q=BOB").await.is(200).says("Bob");
    assert!(!admin.get("/admin/users?q=nobody").await.body.contains("bob@birds.example"));
    bob.get("/start").await.is(200);
    admin.post(&format!("{page}/toggle"), &[]).await.leads_to(&format!("{page}?done=blocked"));
    assert!(bob.get("/start").await.location().starts_with("/login"));
    admin.post(&format!("{page}/toggle"), &[]).await.leads_to(&format!("{page}?done=unblocked"));
    // What was open stays closed.
    assert!(bob.get("/start").await.location().starts_with("/login"));

    let reach = format!("{page}/reach");
    admin.post(&reach, &[("until", "2020-01-31"), ("models", "gpt-*")]).await.leads_to(&format!("{page}?done=saved"));
    let account =
        stage.house.salon.store.read().await.expect("a reader").find_account(&bob.user).await.expect("a look");
    let account = account.expect("an account");
    assert!(!account.may_enter(stage.house.salon.clock.now()) && account.models.as_deref() == Some("gpt-*"));
    admin.post(&reach, &[("until", "whenever"), ("models", "a b")]).await.is(422).says("e-until").says("whenever");
    admin.post(&reach, &[("until", ""), ("models", "")]).await.leads_to(&format!("{page}?done=saved"));

    let again = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let logins = stage.house.salon.store.read().await.expect("a reader").list_logins(&bob.user).await.expect("logins");
    let end = format!("{page}/logins/{}/end", logins[0].id);
    admin.post(&end, &[]).await.leads_to(&format!("{page}?done=ended"));
    assert!(again.get("/start").await.location().starts_with("/login"));
    admin.post(&end, &[]).await.is(404);

    // The last administrator stays one.
    let own = format!("/admin/users/{}", admin.user);
    admin.post(&own, &[("name", "Alice"), ("email", ""), ("role", "user")]).await.is(422).says("last administrator");
    admin.post(&format!("{own}/toggle"), &[]).await.is(422);
    admin.post(&format!("{own}/remove"), &[]).await.is(422);
    admin.post(&format!("{page}/remove"), &[]).await.leads_to("/admin/users?done=removed");
    admin.get(&page).await.is(404);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dangerous_wants_the_password_again() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    // As if they had come in long ago.
    let logins =
        stage.house.salon.store.read().await.expect("a reader").list_logins(&admin.user).await.expect("logins");
    let args = (logins[0].id.clone(), salon_core::Time(1));
    let proved = stage.house.salon.store.write(args, |tx, (id, at)| {
        Box::pin(async move {
            tx.prove_login(id, *at).await?;
            let now = salon::Clock::default().now();
            tx.see_login(id, now).await
        })
    });
    proved.await.expect("a change");
    let page = format!("/admin/users/{}", bob.user);
    let prove = format!("/admin/prove?next={page}");
    // What was sent is kept in the form that asks, without what is secret.
    let removes = admin.post(&format!("{page}/remove"), &[]).await;
    removes.is(403).says("type=\"password\"").says(&format!("name=\"again\" value=\"{page}/remove\""));
    let heron =
        [("id", "heron"), ("token", OTHER_TOKEN), ("engine", "parrot"), ("everyone", "on"), ("owner", "7\"><b>")];
    let asked = admin.post("/admin/bots", &heron).await;
    asked.is(403).says("name=\"again\" value=\"/admin/bots\"");
    assert!(!asked.body.contains("canary") && !asked.body.contains("<b>"), "{}", asked.body);
    let kept = asked.body.split("name=\"kept\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let kept = kept
        .expect("what was sent")
        .replace("&#34;", "\"")
        .replace("&#62;", ">")
        .replace("&#60;", "<")
        .replace("&#38;", "&");
    let again = |password: &'static str| {
        [("password", password), ("next", "/admin/bots"), ("again", "/admin/bots"), ("kept", kept.as_str())]
    };
    admin.post("/admin/prove", &again("wrong")).await.is(422).says("e-password").says("value=\"/admin/bots\"");
    let promote = [("name", "Bob"), ("email", ""), ("role", "admin")];
    admin.post(&page, &promote).await.is(403);
    admin.get(&page).await.is(200);
    admin.get(&prove).await.is(200).says(&page);
    assert!(!stage.bots().contains("heron"));
    // Nobody else's page can send it, nor does the proof do anything by itself.
    admin.send("/admin/prove", "cross-site", Some(&admin.seal), &again(PASSWORD)).await.is(403);
    admin.send("/admin/prove", "same-origin", Some("another"), &again(PASSWORD)).await.is(403);
    let back = admin.post("/admin/prove", &again(PASSWORD)).await;
    back.is(200).says("action=\"/admin/bots\"").says("name=\"id\" value=\"heron\"");
    back.says("name=\"everyone\" value=\"on\" checked").says("name=\"token\" type=\"password\"").says(&admin.seal);
    assert!(!back.body.contains("canary") && !back.body.contains("<b>"), "{}", back.body);
    assert!(!stage.bots().contains("heron"));
    admin.post("/admin/bots", &heron[..4]).await.is(303);
    assert!(stage.bots().contains("heron"));
    // Elsewhere nothing is sent to.
    let elsewhere = [("password", PASSWORD), ("next", &page), ("again", "//evil.example/x"), ("kept", "a=b")];
    admin.post("/admin/prove", &elsewhere).await.leads_to(&page);
    admin.post(&page, &promote).await.leads_to(&format!("{page}?done=saved"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_organisations_are_not_there() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;
    fish.get("/admin").await.is(200).says("Fishes");
    assert!(!fish.get("/admin/users").await.body.contains("bob@birds.example"));
    let absent = fish.get("/admin/users/00000000000000000000000000").await;
    let foreign = fish.get(&format!("/admin/users/{}", bob.user)).await;
    assert_eq!((foreign.status, &foreign.body), (404, &absent.body));
    for path in ["toggle", "remove", "password"] {
        fish.post(&format!("/admin/users/{}/{path}", bob.user), &[]).await.is(404);
        admin.post(&format!("/admin/users/{}/{path}", fish.user), &[]).await.is(404);
    }
    fish.post(&format!("/admin/users/{}/reach", bob.user), &[("until", ""), ("models", "x")]).await.is(404);
    let fields = [("name", "Bob"), ("email", ""), ("role", "admin")];
    fish.post(&format!("/admin/users/{}", bob.user), &fields).await.is(404);
    // A login of bob's is not found through somebody else.
    let logins = stage.house.salon.store.read().await.expect("a reader").list_logins(&bob.user).await.expect("logins");
    fish.post(&format!("/admin/users/{}/logins/{}/end", fish.user, logins[0].id), &[]).await.is(404);
    bob.get("/start").await.is(200);
    // What belongs to the whole house is not theirs.
    for page in ["/admin/bots", "/admin/bots/parrot"] {
        fish.get(page).await.is(404);
    }
    assert!(!fish.get("/admin/settings").await.is(200).body.contains("name=\"registration\""));
    for path in ["stop", "poll", "resume", "remove"] {
        fish.post(&format!("/admin/bots/parrot/{path}"), &[]).await.is(404);
    }
    fish.json("/admin/api/bot/stop", &json!({})).await.is(404);
    fish.post("/admin/settings", &[("registration", "open")]).await.is(404);
    assert!(stage.bots().contains("parrot") && !stage.bots().contains("off"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bots_are_added_started_stopped_and_paused() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let mut seen = Vec::new();
    seen.push(admin.get("/admin/bots").await.body);
    let form = |token: &'static str| {
        [("id", "heron"), ("name", "Heron"), ("token", token), ("engine", "parrot"), ("owner", "7"), ("allow", "8, 9")]
    };
    admin.post("/admin/bots", &form("")).await.is(422).says("e-token");
    let added = admin.post("/admin/bots", &form(OTHER_TOKEN)).await;
    added.leads_to("/admin/bots/heron?done=bot_added");
    assert!(stage.bots().contains(OTHER_TOKEN) && stage.bots().starts_with("# Ours."));
    let again = admin.post("/admin/bots", &form(OTHER_TOKEN)).await;
    again.is(422).says("e-id").says("value=\"heron\"");
    seen.push(again.body);
    let twin = [("id", "stork"), ("token", TOKEN), ("engine", "parrot")];
    admin.post("/admin/bots", &twin).await.is(422).says("Another bot has this token");
    seen.push(admin.get("/admin/bots/heron").await.is(200).says("8, 9").body.clone());
    let change = [("name", "Grey heron"), ("token", ""), ("engine", "storyteller"), ("owner", "7"), ("allow", "x")];
    admin.post("/admin/bots/heron", &change).await.is(422).says("e-allow");
    // What agents may do for it stands in the list, is shown, and survives what is changed here.
    admin.get("/admin/bots/heron").await.says("keep to their own policies");
    let list = stage.bots().replacen("  - bot_id: \"heron\"\n", "  - bot_id: \"heron\"\n    policy: read-only\n", 1);
    std::fs::write(stage._folder.path().join("bots.yaml"), list).expect("a list of bots");
    stage.house.fleet.reload();
    admin.get("/admin/bots/heron").await.says("may look, and change nothing");
    let change = [("name", "Grey heron"), ("token", ""), ("engine", "storyteller"), ("owner", "7"), ("everyone", "on")];
    admin.post("/admin/bots/heron", &change).await.leads_to("/admin/bots/heron?done=saved");
    assert!(stage.bots().contains("Grey heron") && stage.bots().contains(OTHER_TOKEN));
    admin.get("/admin/bots/heron").await.says("may look, and change nothing");

    admin.post("/admin/bots/heron/hook", &[("url", "http://salon.example")]).await.is(422).says("e-url");
    admin.post("/admin/bots/heron/stop", &[]).await.leads_to("/admin/bots/heron?done=bot_stopped");
    assert_eq!(stage.house.fleet.all().iter().filter(|bot| bot.id().as_str() == "heron").count(), 1);
    seen.push(admin.get("/admin/bots/heron").await.body);
    admin.post("/admin/bots/heron/poll", &[]).await.leads_to("/admin/bots/heron?done=bot_polls");
    admin
        .post("/admin/bots/heron/hook", &[("url", "https://salon.example")])
        .await
        .leads_to("/admin/bots/heron?done=bot_hooked");
    let hooked = admin.get("/admin/bots/heron").await;
    hooked.says("https://salon.example");
    let secret = stage.bots().split("path_secret: \"").nth(1).expect("a secret")[..32].to_owned();
    seen.push(hooked.body);

    // The same for programs.
    for path in ["start-polling", "stop", "start-polling"] {
        let said = admin.json(&format!("/admin/api/bot/{path}"), &json!({"bot": "heron"})).await;
        assert_eq!(said.is(200).json(), json!({"status": "ok"}));
    }
    let refused = admin.json("/admin/api/bot/start-webhook", &json!({"bot": "heron"})).await;
    assert_eq!(refused.is(400).json()["status"], "error");
    let hooked =
        admin.json("/admin/api/bot/start-webhook", &json!({"bot": "heron", "url": "https://salon.example"})).await;
    assert_eq!(hooked.is(200).json()["status"], "ok");
    seen.push(hooked.body);
    admin.json("/admin/api/bot/stop", &json!({"bot": "stranger"})).await.is(400);
    for paused in [true, false] {
        let said = admin.json("/admin/api/bot/toggle-pause", &Value::Null).await;
        assert_eq!(said.status, 422, "null is no object");
        let said = admin.json("/admin/api/bot/toggle-pause", &json!({"bot": "heron"})).await;
        assert_eq!(said.is(200).json(), json!({"status": "ok", "paused": paused}));
    }
    let stranger = "Sec-Fetch-Site: same-origin\r\n";
    let said = ask(stage.address, "POST", "/admin/api/bot/stop", stranger, "").await;
    assert_eq!(said.is(401).json()["status"], "error");

    let head = format!("Cookie: {}\r\n", admin.cookie);
    let said = ask(stage.address, "GET", "/admin/api/settings", &head, "").await;
    assert_eq!(said.is(200).json()["telegram_bot_token"]["set"], true);
    assert_eq!(said.json()["registration"], "invited");
    seen.push(said.body);
    let set = json!({"registration": "open", "bot_pause_message": "Back at noon."});
    admin.json("/admin/api/settings", &set).await.is(200);
    admin.get("/admin/settings").await.is(200).says("Back at noon.");
    for bad in [
        json!({"registration": "anything"}),
        json!({"telegram_token": "1:x"}),
        json!({"registration": "closed", "x": "y"}),
    ] {
        admin.json("/admin/api/settings", &bad).await.is(422);
    }
    let said = ask(stage.address, "GET", "/admin/api/settings", &head, "").await;
    assert_eq!(said.json()["registration"], "open");
    admin.post("/admin/settings", &[("registration", "anything"), ("bot_pause_message", "")]).await.is(422);
    admin
        .post("/admin/settings", &[("registration", "closed"), ("bot_pause_message", "")])
        .await
        .leads_to("/admin/settings?done=saved");

    admin.post("/admin/bots/heron/remove", &[]).await.leads_to("/admin/bots?done=removed");
    assert!(!stage.bots().contains("heron") && stage.bots().contains("bot_id: parrot # says it back"));
    admin.get("/admin/bots/heron").await.is(404);
    // A token is in no page, nor are the secrets of a webhook.
    for page in seen {
        for secret in ["canary-token", &secret] {
            assert!(!page.contains(secret), "{secret} in {page}");
        }
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_plans_models_and_commands_are_changed_by_forms() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;

    let limit = |subject: &'static str, amount: &'static str| {
        [
            ("scope", "org"),
            ("subject", subject),
            ("measure", "micros"),
            ("period", "month"),
            ("amount", amount),
            ("policy", "ask"),
        ]
    };
    admin.post("/admin/limits", &limit("", "much")).await.is(422).says("e-amount").says("value=\"much\"");
    admin.post("/admin/limits", &limit("", "12.50")).await.leads_to("/admin/limits?done=limit_added");
    let of_bob = [
        ("scope", "user"),
        ("subject", bob.user.as_str()),
        ("measure", "requests"),
        ("period", "day"),
        ("amount", "5"),
        ("policy", "block"),
    ];
    admin.post("/admin/limits", &of_bob).await.leads_to("/admin/limits?done=limit_added");
    // Of somebody who is not theirs there is no limit.
    fish.post("/admin/limits", &of_bob).await.is(422).says("e-subject");
    admin.get("/admin/limits").await.is(200).says("$12.5").says("Bob");
    let limits = stage.house.salon.store.read().await.expect("a reader").list_limits(&OrgId::new(DEFAULT_ORG)).await;
    let id = limits.expect("limits")[0].id.to_string();
    fish.post(&format!("/admin/limits/{id}"), &[("amount", "1"), ("policy", "block")]).await.is(404);
    fish.post(&format!("/admin/limits/{id}/remove"), &[]).await.is(404);
    admin
        .post(&format!("/admin/limits/{id}"), &[("amount", "x"), ("policy", "block")])
        .await
        .is(422)
        .says("role=\"alert\"");
    admin
        .post(&format!("/admin/limits/{id}"), &[("amount", "20"), ("policy", "warn")])
        .await
        .leads_to("/admin/limits?done=saved");
    admin.post(&format!("/admin/limits/{id}/remove"), &[]).await.leads_to("/admin/limits?done=removed");

    admin.post("/admin/plans", &[("name", "free"), ("limits", "money:month:5")]).await.is(422).says("e-limits");
    admin
        .post("/admin/plans", &[("name", "free"), ("limits", "micros:month:5\nrequests:day:50:warn")])
        .await
        .leads_to("/admin/plans?done=saved");
    let plans = stage.house.salon.store.read().await.expect("a reader").list_plans(&OrgId::new(DEFAULT_ORG)).await;
    let plan = plans.expect("plans").remove(0).id;
    fish.post(&format!("/admin/plans/{plan}"), &[("name", "mine"), ("limits", "")]).await.is(404);
    fish.post(&format!("/admin/plans/{plan}/remove"), &[]).await.is(404);
    fish.post(&format!("/admin/users/{}/plan", fish.user), &[("plan", &plan)]).await.is(404);
    fish.post(&format!("/admin/users/{}/plan", bob.user), &[("plan", "")]).await.is(404);
    let page = format!("/admin/users/{}", bob.user);
    admin.post(&format!("{page}/plan"), &[("plan", &plan)]).await.leads_to(&format!("{page}?done=saved"));
    admin.get("/admin/plans").await.says("people: 1").says("requests:day:50:warn");

    let upstream = [("name", "hub"), ("kind", "compatible"), ("base_url", "http://127.0.0.1:9/v1"), ("key", "none")];
    admin
        .post("/admin/models/upstream", &[("name", "a b"), ("kind", "compatible"), ("base_url", ""), ("key", "none")])
        .await
        .is(422)
        .says("role=\"alert\"");
    admin.post("/admin/models/upstream", &upstream).await.leads_to("/admin/models?done=saved");
    admin.post("/admin/models/model", &[("name", "small"), ("at", "")]).await.is(422).says("value=\"small\"");
    let model =
        [("name", "small"), ("at", "hub/tiny"), ("input_price", "1"), ("output_price", "2"), ("context", "8000")];
    admin.post("/admin/models/model", &model).await.leads_to("/admin/models?done=saved");
    admin.get("/admin/models?model=small").await.is(200).says("hub/tiny").says("$1.00 / $2.00").says("value=\"8000\"");
    prices_are_shown_and_changed(&admin, &fish).await;
    // What cannot be used is told in the reader's language.
    let nowhere = [("name", "other"), ("at", "nowhere/x")];
    admin.post("/admin/models/model", &nowhere).await.is(422).says("Nobody called nowhere serves models here.");
    let salon = &stage.house.salon;
    let speaks = async |lang: &str| {
        let taste = Taste { lang: Some(lang.to_owned()), ..Taste::default() };
        salon.set_taste(&admin.user, taste).await.expect("a language");
    };
    speaks("ru").await;
    admin.post("/admin/models/model", &nowhere).await.is(422).says("Никто с именем nowhere не отдаёт здесь модели.");
    speaks("en").await;
    admin.post("/admin/models/test", &[("name", "hub")]).await.is(200).says("hub: ");
    admin.post("/admin/models/test", &[("name", "nobody")]).await.is(404);
    fish.post("/admin/models/model", &model).await.is(404);
    fish.get("/admin/models").await.is(404);
    admin.post("/admin/models/model/remove", &[("name", "small")]).await.leads_to("/admin/models?done=removed");
    admin.post("/admin/models/upstream/remove", &[("name", "hub")]).await.leads_to("/admin/models?done=removed");

    let command = [("bot", ""), ("name", "/Rules"), ("text", "Be **kind**.")];
    admin.post("/admin/commands", &command).await.leads_to("/admin/commands?done=saved");
    admin.post("/admin/commands", &[("bot", ""), ("name", "two words"), ("text", "x")]).await.is(422).says("e-name");
    admin.post("/admin/commands", &[("bot", "stranger"), ("name", "x"), ("text", "x")]).await.is(404);
    admin.get("/admin/commands").await.is(200).says("/rules").says("Be **kind**.");
    fish.post("/admin/commands", &command).await.is(404);
    admin
        .post("/admin/commands/remove", &[("bot", ""), ("name", "rules")])
        .await
        .leads_to("/admin/commands?done=removed");

    admin.post("/admin/keys", &[("provider", "nobody"), ("key", "sk-canary-key")]).await.is(422).says("e-base");
    assert!(!admin.get("/admin/keys").await.body.contains("canary"));

    let org = [("name", "Otters"), ("zone", "Mars/North")];
    admin.post("/admin/orgs", &org).await.is(422).says("e-zone").says("value=\"Otters\"");
    admin.post("/admin/orgs", &[("name", "Otters"), ("zone", "Asia/Seoul")]).await.leads_to("/admin/orgs?done=saved");
    fish.get("/admin/orgs").await.is(404);
    fish.post(&format!("/admin/orgs/{DEFAULT_ORG}/tend"), &[]).await.is(404);
    let tended = admin.post(&format!("/admin/orgs/{}/tend", stage.other), &[]).await;
    tended.leads_to("/admin");
    let chosen = tended.headers["set-cookie"].split(';').next().expect("a cookie").to_owned();
    let tending = Browser { cookie: format!("{}; {chosen}", admin.cookie), ..admin.clone() };
    tending.get("/admin/users").await.is(200).says("Finn");
    tending.get(&page).await.is(404);
    // The same cookie gives nothing to whoever has no right to it.
    let forged = format!("{}; desk-org={DEFAULT_ORG}", fish.cookie);
    let forged = Browser { cookie: forged, ..fish.clone() };
    assert!(!forged.get("/admin/users").await.body.contains("bob@birds.example"));

    admin
        .get("/admin/audit")
        .await
        .is(200)
        .says("plan.given")
        .says("limit.added")
        .says("upstream.set")
        .says("upstream.removed")
        .says("model.set")
        .says("model.removed");
    admin.post("/admin/audit/verify", &[]).await.is(200).says("lines, whole");
    fish.get("/admin/audit").await.is(200);
    fish.post("/admin/audit/verify", &[]).await.is(404);
    stage.close().await;
}

/// Every class, from a day on, with the border beyond which others count.
async fn prices_are_shown_and_changed(admin: &Browser, fish: &Browser) {
    let whose = [("provider", "hub"), ("model", "tiny"), ("valid_from", "2026-01-31")];
    let rates = [
        ("input_price", "1.25"),
        ("output_price", "10"),
        ("cache_read", "0.1251"),
        ("cache_write_5m", "1.5602"),
        ("cache_write_1h", "2.5003"),
        ("reasoning", "11.0004"),
        ("audio_in", "3.0005"),
        ("audio_out", "12.0006"),
        ("long_above", "200001"),
        ("long_input", "2.5007"),
        ("long_output", "15.0008"),
        ("long_cache_read", "0.2509"),
    ];
    let said = [&whose[..], &rates].concat();
    let with = |name: &str, value: &'static str| -> Vec<(&str, &str)> {
        said.iter().map(|(known, old)| (*known, if *known == name { value } else { *old })).collect()
    };
    fish.post("/admin/models/price", &said).await.is(404);
    for (name, value) in
        [("valid_from", "tomorrow"), ("output_price", ""), ("long_output", ""), ("audio_in", "-1"), ("long_above", "x")]
    {
        let answer = admin.post("/admin/models/price", &with(name, value)).await;
        answer.is(422).says("role=\"alert\"").says("value=\"12.0006\"");
    }
    admin.post("/admin/models/price", &[&said[..], &[("longer", "1")]].concat()).await.is(422);
    admin.post("/admin/models/price", &said).await.leads_to("/admin/models?done=saved");
    let page = admin.get("/admin/models?provider=hub&priced=tiny&from=2026-01-31").await;
    page.is(200).says("hub/tiny").says("2026-01-31").says("<td class=\"n\">10.00</td>");
    for (name, value) in &rates {
        page.says(&format!("name=\"{name}\"")).says(&format!("value=\"{value}"));
    }
    for shown in ["0.1251", "1.5602", "2.5003", "11.0004", "3.0005", "12.0006", "2.5007", "15.0008", "0.2509"] {
        page.says(&format!("<td class=\"n\">{shown}</td>"));
    }
    // A model's own price has all of it, too.
    let own = [&[("name", "small"), ("at", "hub/tiny"), ("context", "8000")], &rates[..]].concat();
    admin.post("/admin/models/model", &own).await.leads_to("/admin/models?done=saved");
    admin.get("/admin/models?model=small").await.says("value=\"2.5003\"").says("value=\"200001\"");
    admin.post("/admin/models/model", &own[..3]).await.leads_to("/admin/models?done=saved");
    assert!(!admin.get("/admin/models?model=small").await.body.contains("value=\"2.5003\""), "empty is none");
    fish.post("/admin/models/price/remove", &whose).await.is(404);
    admin.post("/admin/models/price/remove", &whose).await.leads_to("/admin/models?done=removed");
    admin.post("/admin/models/price/remove", &whose).await.is(404);
    admin.get("/admin/audit").await.says("price.set").says("price.removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_choose_who_begins_a_conversation() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let manager = stage.enter(DEFAULT_ORG, "Mona", Role::Manager, Realm::Desk).await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;
    let gill = stage.enter(stage.other.as_str(), "Gill", Role::User, Realm::House).await;
    let chosen = |engine: &str| format!(" selected>{engine}</option>");
    let house = |engine: &'static str| [("registration", "invited"), ("default_engine", engine)];

    admin.post("/admin/settings", &house("nobody")).await.is(422).says("role=\"alert\"");
    admin.post("/admin/settings", &house("storyteller")).await.leads_to("/admin/settings?done=saved");
    for browser in [&bob, &gill] {
        browser.get("/dialogs/new").await.is(200).says(&chosen("storyteller"));
    }
    // An organisation's own goes before, a person's before that.
    fish.get("/admin/settings").await.is(200).says("Fishes");
    fish.post("/admin/settings", &house("parrot")).await.is(404);
    manager.post("/admin/settings/org", &[("default_engine", "parrot")]).await.is(403);
    fish.post("/admin/settings/org", &[("default_engine", "nobody")]).await.is(422).says("role=\"alert\"");
    fish.post("/admin/settings/org", &[("default_engine", "parrot")]).await.leads_to("/admin/settings?done=saved");
    gill.get("/dialogs/new").await.says(&chosen("parrot"));
    bob.get("/dialogs/new").await.says(&chosen("storyteller"));
    gill.post("/account/taste", &[("lang", ""), ("engine", "storyteller")]).await.leads_to("/account?done=saved");
    gill.get("/account").await.says(&chosen("storyteller"));
    gill.get("/dialogs/new").await.says(&chosen("storyteller"));
    gill.post("/account/taste", &[("lang", ""), ("engine", "")]).await.leads_to("/account?done=saved");
    gill.get("/dialogs/new").await.says(&chosen("parrot"));
    fish.get("/admin/audit").await.says(&format!("default_engine.{}", stage.other));

    // The same for scripts, all or nothing.
    let name = format!("default_engine.{}", stage.other);
    let head = format!("Cookie: {}\r\n", admin.cookie);
    let said = ask(stage.address, "GET", "/admin/api/settings", &head, "").await.json();
    assert_eq!((&said["default_engine"], &said[&name]), (&json!("storyteller"), &json!("parrot")));
    for bad in [
        json!({"default_engine": "nobody"}),
        json!({"default_engine.nobody": "parrot"}),
        json!({"default_engine": "parrot", (&name): "nobody"}),
    ] {
        admin.json("/admin/api/settings", &bad).await.is(422);
    }
    manager.json("/admin/api/settings", &json!({"default_engine": "parrot"})).await.is(403);
    fish.json("/admin/api/settings", &json!({"default_engine": "parrot"})).await.is(404);
    bob.get("/dialogs/new").await.says(&chosen("storyteller"));

    // A model that is gone is passed over, and counts again when it is back.
    let salon = &stage.house.salon;
    let catalog = &stage.house.relay.catalog;
    let small = ModelSpec { upstream: Some("echo".to_owned()), ..ModelSpec::default() };
    catalog.set_model(&salon.pen(Actor::Operator), "small", &small).await.expect("a model");
    admin.json("/admin/api/settings", &json!({(&name): "small"})).await.is(200);
    gill.get("/dialogs/new").await.says(&chosen("small"));
    catalog.remove_model(&salon.pen(Actor::Operator), "small").await.expect("removed");
    gill.get("/dialogs/new").await.says(&chosen("storyteller"));
    fish.get("/admin/settings").await.says(&chosen("small")).says("role=\"status\"");
    catalog.set_model(&salon.pen(Actor::Operator), "small", &small).await.expect("a model");
    gill.get("/dialogs/new").await.says(&chosen("small"));
    admin.json("/admin/api/settings", &json!({(&name): ""})).await.is(200);
    gill.get("/dialogs/new").await.says(&chosen("storyteller"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_decided_by_ones_own_administrators() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let manager = stage.enter(DEFAULT_ORG, "Mona", Role::Manager, Realm::Desk).await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;
    let limit = [("scope", "org"), ("measure", "requests"), ("period", "day"), ("amount", "0"), ("policy", "ask")];
    admin.post("/admin/limits", &limit).await.leads_to("/admin/limits?done=limit_added");
    let key_of = async |browser: &Browser| stage.key_of(&browser.user).await;
    let keys = (key_of(&admin).await, key_of(&manager).await, key_of(&bob).await, key_of(&fish).await);
    let twin = async |key: &str, method: &str, path: &str| {
        let head = format!("Authorization: Bearer {key}\r\n");
        ask(stage.address, method, &format!("/api/admin/usage/held{path}"), &head, "").await
    };

    for (words, yes) in [("first words", true), ("second words", false)] {
        let said = bob.post("/dialogs", &[("text", words), ("engine", "parrot")]).await;
        let place = said.location().split('#').next().expect("a place").to_owned();
        let call = stage.waits_for_a_yes().await;
        admin.get("/admin/held").await.is(200).says("Bob").says(&format!("/admin/held/{call}/approve"));
        assert_eq!(twin(&keys.0, "GET", "").await.json()["held"][0]["call_id"], json!(call));
        // Managers see what waits, and decide nothing.
        let page = manager.get("/admin/held").await;
        assert!(page.is(200).says("Bob").body.matches("/admin/held/").count() == 0, "{}", page.body);
        // To other organisations there is no such call.
        assert!(!fish.get("/admin/held").await.is(200).body.contains("Bob"));
        assert_eq!(twin(&keys.3, "GET", "").await.json()["held"], json!([]));
        for deed in ["approve", "deny"] {
            let (form, path) = (format!("/admin/held/{call}/{deed}"), format!("/{call}/{deed}"));
            manager.post(&form, &[]).await.is(403);
            fish.post(&form, &[]).await.is(404);
            assert!(bob.post(&form, &[]).await.location().starts_with("/admin/login"));
            admin.send(&form, "cross-site", Some(&admin.seal), &[]).await.is(403);
            admin.send(&form, "same-origin", None, &[]).await.is(403);
            twin(&keys.1, "POST", &path).await.is(403);
            twin(&keys.2, "POST", &path).await.is(403);
            twin(&keys.3, "POST", &path).await.is(404);
            ask(stage.address, "POST", &format!("/api/admin/usage/held{path}"), "", "").await.is(401);
        }
        assert_eq!(stage.waits_for_a_yes().await, call, "nobody decided yet");
        // One is decided on the page, the other by a program; either once.
        if yes {
            let form = format!("/admin/held/{call}/approve");
            admin.post(&form, &[]).await.leads_to("/admin/held?done=approved");
        } else {
            let said = twin(&keys.0, "POST", &format!("/{call}/deny")).await;
            assert_eq!(said.is(200).json(), json!({"call_id": call, "state": "denied"}));
        }
        for deed in ["approve", "deny"] {
            admin.post(&format!("/admin/held/{call}/{deed}"), &[]).await.is(404);
            twin(&keys.0, "POST", &format!("/{call}/{deed}")).await.is(404);
        }

        let ended = if yes {
            format!("<div class=\"block\"><p>{words}")
        } else {
            "An administrator has to agree to this".to_owned()
        };
        let told = tokio::time::timeout(PATIENCE, async {
            loop {
                let page = bob.get(&place).await.is(200).body.clone();
                if page.contains(&ended) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        if told.await.is_err() {
            panic!("{words}: {}", bob.get(&place).await.body);
        }
    }
    let mut tx = stage.house.salon.store.read().await.expect("a reader");
    let lines = tx.list_audit(&AuditFilter::default(), 100).await.expect("lines");
    let of = |action: &str| lines.iter().filter(|line| line.action == action).map(|line| line.actor.as_str()).collect();
    let told: (Vec<_>, Vec<_>) = (of("call.approved"), of("call.denied"));
    assert_eq!(told, (vec![admin.user.as_str()], vec![admin.user.as_str()]));
    drop(tx);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_hear_of_errors_if_they_want_to() {
    let stage = Stage::with(|config| config.settings.public_url = Some("https://salon.test".to_owned())).await;
    let admin = stage.admin().await;
    let manager = stage.enter(DEFAULT_ORG, "Mona", Role::Manager, Realm::Desk).await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;
    for (browser, telegram) in [(&admin, 7001), (&manager, 7002), (&bob, 7003), (&fish, 7004)] {
        stage.link(browser, telegram).await;
    }
    let salon = &stage.house.salon;
    let fails = async |name: &str| {
        let upstream = UpstreamSpec {
            kind: Some(Kind::Compatible),
            base_url: Some("http://127.0.0.1:9/v1".to_owned()),
            patience: Patience { tries: Some(1), breaker_failures: Some(1), ..Patience::default() },
            ..UpstreamSpec::default()
        };
        let catalog = &stage.house.relay.catalog;
        catalog.set_upstream(&salon.pen(Actor::Operator), name, &upstream).await.expect("set");
        let model = ModelSpec { upstream: Some(name.to_owned()), ..ModelSpec::default() };
        catalog.set_model(&salon.pen(Actor::Operator), &format!("of-{name}"), &model).await.expect("set");
        let engine = format!("of-{name}");
        let said = bob.post("/dialogs", &[("text", "canary words"), ("engine", &engine)]).await;
        assert_eq!(said.status, 303, "{}", said.body);
        let rests = tokio::time::timeout(PATIENCE, async {
            while !salon.engines.list_resting().contains(name) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        rests.await.expect("it is left alone");
    };

    // Nobody is told unless they want to be; what began before is not told afterwards.
    fails("early").await;
    salon.troubles.quarantined("early");
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!stage.chat(7001).await.contains("early"));
    }
    admin.json("/admin/api/settings", &json!({"error_notices": "perhaps"})).await.is(422);
    admin
        .post("/admin/settings", &[("registration", "invited"), ("error_notices", "on")])
        .await
        .leads_to("/admin/settings?done=saved");
    admin.get("/admin/settings").await.says("name=\"error_notices\" value=\"on\" checked");

    fails("late").await;
    stage.chat_says(7001, "late, which serves models").await;
    stage.chat_says(7001, "https://salon.test/admin/models").await;
    salon.troubles.quarantined("claude");
    stage.chat_says(7001, "the agent claude").await;
    // Of one and the same once an hour.
    salon.troubles.quarantined("claude");
    salon.troubles.quarantined("codex");
    stage.chat_says(7001, "the agent codex").await;
    let said = stage.chat(7001).await;
    assert_eq!((said.matches("the agent claude").count(), said.matches("late, which").count()), (1, 1), "{said}");

    // A bot that takes in nothing is told of by another one.
    let heron = [("id", "heron"), ("token", OTHER_TOKEN), ("engine", "parrot"), ("everyone", "on")];
    admin.post("/admin/bots", &heron).await.is(303);
    let fault = json!({"method": "getUpdates", "token": OTHER_TOKEN, "mode": "status:500"}).to_string();
    ask(stage.mock.address(), "POST", "/_mock/fault", "Content-Type: application/json\r\n", &fault).await.is(200);
    stage.chat_says(7001, "The bot heron takes in nothing").await;
    let said = stage.chat(7001).await;
    for word in ["early", "canary words", "Internal", "127.0.0.1:9"] {
        assert!(!said.contains(word), "{word} in {said}");
    }
    for other in [7002, 7003, 7004] {
        let said = stage.chat(other).await;
        assert!(!said.contains("late") && !said.contains("heron"), "{said}");
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_before_a_link_is_theirs_afterwards() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let limit = [("scope", "user"), ("measure", "requests"), ("period", "day"), ("amount", "3"), ("policy", "block")];
    admin.post("/admin/limits", &limit).await.leads_to("/admin/limits?done=limit_added");
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    for words in ["storks fly", "herons stand"] {
        stage.say(7005, words).await;
        // The parrot says it back.
        stage.chat_says_twice(7005, words).await;
    }
    let salon = &stage.house.salon;
    let used = async |user: &UserId| {
        let filter = UsageFilter {
            user: Some(user.clone()),
            ..UsageFilter::of(OrgId::new(DEFAULT_ORG), Time(0), Time(i64::MAX))
        };
        stage.house.relay.book.flush().await.expect("flush");
        salon.store.read().await.expect("a reader").usage(&filter).await.expect("usage").calls
    };
    let before = salon.store.read().await.expect("a reader").find_user_of_telegram(7005).await.expect("a look");
    let before = before.expect("they are known by what they said").id;
    assert_eq!((used(&before).await, used(&bob.user).await), (2, 0));
    assert!(!bob.get("/dialogs").await.body.contains("storks fly"));

    let code = salon.make_code(&bob.user).await.expect("a code").word;
    stage.say(7005, &code).await;
    stage.chat_says(7005, "Here you are Bob from now on").await;
    bob.get("/dialogs").await.is(200).says("storks fly");
    assert_eq!((used(&before).await, used(&bob.user).await), (0, 2));
    admin.get(&format!("/admin/logs?user={}", bob.user)).await.says("storks fly").says("herons stand");
    admin.get("/admin/audit").await.says(before.as_str());
    // What was used counts: one more is left, here and there together.
    stage.say(7005, "parrots talk").await;
    stage.chat_says_twice(7005, "parrots talk").await;
    stage.say(7005, "nobody sings").await;
    stage.chat_says(7005, "limit of 3 requests").await;
    assert_eq!((used(&before).await, used(&bob.user).await), (0, 3));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_is_looked_through_exported_and_closed() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let said = bob.post("/dialogs", &[("text", "=cmd() <script>alert(1)</script> heron"), ("engine", "parrot")]).await;
    assert_eq!(said.status, 303, "{}", said.body);
    let place = said.location().to_owned();
    let id = place.trim_start_matches("/dialogs/").split(['#', '?']).next().expect("an id").to_owned();
    tokio::time::timeout(PATIENCE, async {
        while !admin.get("/admin/logs").await.body.contains("desk.state")
            && !admin.get("/admin/logs?state=done").await.body.contains("heron")
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("an answer in time");
    let page = admin.get("/admin/logs?q=HERON").await;
    page.is(200).says("Bob").says("&#60;script&#62;");
    assert!(!page.body.contains("<script>alert"));
    for nothing in ["q=stork", "engine=storyteller", "state=failed", "to=2020-01-01", "user=nobody"] {
        admin.get(&format!("/admin/logs?{nothing}")).await.is(200).says("Nothing of that kind was said");
    }
    admin.get(&format!("/admin/logs?user={}&from=2020-01-01", bob.user)).await.says("heron");
    admin.get("/admin/logs/dialogs?q=heron").await.is(200).says(&format!("/admin/dialogs/{id}"));
    let whole = admin.get(&format!("/admin/dialogs/{id}")).await;
    whole.is(200).says("&#60;script&#62;");
    assert!(!whole.body.contains("<script>alert"));

    let table = admin.get("/admin/logs/export?q=heron").await;
    assert!(
        table.headers["content-type"].starts_with("text/csv")
            && table.headers["content-disposition"].starts_with("attachment")
    );
    let body = table.is(200).body.clone();
    assert!(body.starts_with('\u{feff}') && body.lines().count() == 2, "{body}");
    assert!(body.contains("\"'=cmd() <script>") && !body.contains(",\"=cmd"), "{body}");

    // Another organisation sees none of it, by whatever way.
    for page in ["/admin/logs?q=heron", "/admin/logs/dialogs?q=heron", "/admin/stats"] {
        assert!(!fish.get(page).await.is(200).body.contains("cmd()"), "{page}");
    }
    assert_eq!(fish.get("/admin/logs/export").await.body.lines().count(), 1);
    let absent = fish.get("/admin/dialogs/00000000000000000000000000").await;
    assert_eq!(fish.get(&format!("/admin/dialogs/{id}")).await.is(404).body, absent.body);
    fish.post(&format!("/admin/dialogs/{id}/close"), &[]).await.is(404);
    admin
        .post(&format!("/admin/dialogs/{id}/close"), &[])
        .await
        .leads_to(&format!("/admin/dialogs/{id}?done=dialog_closed"));
    admin.get(&format!("/admin/dialogs/{id}")).await.says("closed");
    admin.get("/admin?days=7").await.is(200).says("<svg");
    admin.get("/admin?start=2030-01-01&end=2020-01-01").await.is(200);
    admin.get("/admin?days=many").await.is(200);
    admin.get("/admin/stats?period=day").await.is(200);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_ends_what_is_open() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let said = bob.post("/dialogs", &[("text", "Tell me a long story."), ("engine", "storyteller")]).await;
    let place = said.location().split('#').next().expect("a place").to_owned();
    let page = bob.get(&place).await;
    let stream =
        page.body.split("data-stream=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a stream").to_owned();
    let mut open = TcpStream::connect(stage.address).await.expect("the door is open");
    let request = format!("GET {stream} HTTP/1.1\r\nHost: salon.test\r\nCookie: {}\r\n\r\n", bob.cookie);
    open.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut first = [0; 64];
    let read = open.read(&mut first).await.expect("an answer");
    assert!(first[..read].starts_with(b"HTTP/1.1 200"));
    admin.post(&format!("/admin/users/{}/toggle", bob.user), &[]).await.is(303);
    // The stream ends while its answer is still written: the last chunk comes, and no frame that it is whole.
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(2), async {
        while !rest.ends_with(b"0\r\n\r\n") && open.read_buf(&mut rest).await.expect("a stream") > 0 {}
    });
    ended.await.expect("the stream ends within two seconds");
    assert!(!String::from_utf8_lossy(&rest).contains("event: whole"), "{}", String::from_utf8_lossy(&rest));
    assert!(bob.get("/start").await.location().starts_with("/login"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_bot_says_so_once_and_does_nothing_else() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let say = async |text: &str| stage.say(7007, text).await;
    let shown = async || stage.chat(7007).await;
    let until = async |words: &str| stage.chat_says(7007, words).await;
    admin
        .post("/admin/bots/parrot/pause", &[("text", "Back at noon.")])
        .await
        .leads_to("/admin/bots/parrot?done=bot_paused");
    admin.get("/admin/bots").await.says("paused");
    say("first words").await;
    until("Back at noon.").await;
    say("second words").await;
    admin.post("/admin/bots/parrot/resume", &[]).await.leads_to("/admin/bots/parrot?done=bot_resumed");
    say("third words").await;
    // The parrot says back what it hears: what was said meanwhile it either never answers, or was read when it went on.
    let answered = tokio::time::timeout(PATIENCE, async {
        while shown().await.matches("third words").count() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    answered.await.expect("an answer in time");
    let all = shown().await;
    assert_eq!(all.matches("first words").count(), 1, "{all}");
    assert_eq!(all.matches("Back at noon.").count(), 1, "{all}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_has_an_id_is_there_for_its_own_organisation_alone() {
    let stage = Stage::open().await;
    let salon = &stage.house.salon;
    let admin = stage.admin().await;
    let manager = stage.enter(DEFAULT_ORG, "Mona", Role::Manager, Realm::Desk).await;
    let user = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;
    let pen = salon.pen(Actor::Operator);

    // Something of each kind that belongs to the birds.
    let new = NewKey {
        user: user.user.clone(),
        name: "laptop".to_owned(),
        role: None,
        scopes: Scopes::default(),
        expires_at: None,
        limits: Vec::new(),
    };
    let key = make_key(&salon.store, &salon.clock, &salon.keys, Maker::Operator, new).await.expect("a key").key.id;
    let owner = Owner::Org(OrgId::new(DEFAULT_ORG));
    let origin = Origin::parse("https://api.openai.com/v1").expect("an origin");
    let secret = Secret::new("sk-canary-of-the-birds-0123456789".to_owned());
    let shared = salon.vault.put_key(&owner, "openai", &origin, secret, &pen).await.expect("a shared key");
    let limit = [("scope", "org"), ("measure", "requests"), ("period", "day"), ("amount", "5"), ("policy", "warn")];
    admin.post("/admin/limits", &limit).await.leads_to("/admin/limits?done=limit_added");
    admin.post("/admin/plans", &[("name", "free"), ("limits", "")]).await.leads_to("/admin/plans?done=saved");
    let said = user.post("/dialogs", &[("text", "hello"), ("engine", "parrot")]).await;
    let dialog = said.location().trim_start_matches("/dialogs/").split(['#', '?']).next().expect("an id").to_owned();
    let birds = OrgId::new(DEFAULT_ORG);
    let mut tx = salon.store.read().await.expect("a reader");
    let limit = tx.list_limits(&birds).await.expect("limits").remove(0).id.to_string();
    let plan = tx.list_plans(&birds).await.expect("plans").remove(0).id;
    let login = tx.list_logins(&user.user).await.expect("logins").remove(0).id;
    drop(tx);

    let (bob, absent) = (user.user.as_str(), "00000000000000000000000000");
    let no: &[(&str, &str)] = &[];
    let forms: &[(String, &[(&str, &str)])] = &[
        (format!("/admin/users/{bob}"), &[("name", "Bob"), ("email", ""), ("role", "user")]),
        (format!("/admin/users/{bob}/toggle"), no),
        (format!("/admin/users/{bob}/reach"), &[("until", ""), ("models", "")]),
        (format!("/admin/users/{bob}/password"), no),
        (format!("/admin/users/{bob}/plan"), &[("plan", "")]),
        (format!("/admin/users/{bob}/remove"), no),
        (format!("/admin/users/{bob}/logins/{login}/end"), no),
        (format!("/admin/users/{bob}/keys/{key}/revoke"), no),
        (format!("/admin/dialogs/{dialog}/close"), no),
        (format!("/admin/limits/{limit}"), &[("amount", "9"), ("policy", "warn")]),
        (format!("/admin/limits/{limit}/remove"), no),
        (format!("/admin/plans/{plan}"), &[("name", "mine"), ("limits", "")]),
        (format!("/admin/plans/{plan}/remove"), no),
        (format!("/admin/keys/{shared}/remove"), no),
        (format!("/admin/orgs/{DEFAULT_ORG}"), &[("name", "Mine"), ("zone", "UTC")]),
        (format!("/admin/orgs/{DEFAULT_ORG}/tend"), no),
        ("/admin/bots/parrot".to_owned(), &[("engine", "parrot")]),
        ("/admin/bots/parrot/stop".to_owned(), no),
        ("/admin/bots/parrot/pause".to_owned(), no),
        ("/admin/bots/parrot/remove".to_owned(), no),
    ];
    for (path, fields) in forms {
        let named = path.split('/').nth(3).expect("an id");
        let nowhere = fish.post(&path.replace(named, absent), fields).await;
        let foreign = fish.post(path, fields).await;
        assert_eq!((foreign.status, &foreign.body), (404, &nowhere.body), "{path}");
        assert!([403, 404].contains(&manager.post(path, fields).await.status), "{path}");
        assert!(user.post(path, fields).await.location().starts_with("/admin/login"), "{path}");
        let head = "Accept: text/html\r\nSec-Fetch-Site: same-origin\r\n";
        let stranger = ask(stage.address, "POST", path, head, "").await;
        assert!(stranger.location().starts_with("/admin/login"), "{path}: {stranger:?}");
    }
    // A child is found through its own parent alone.
    for child in [format!("logins/{login}/end"), format!("keys/{key}/revoke")] {
        admin.post(&format!("/admin/users/{}/{child}", admin.user), no).await.is(404);
        fish.post(&format!("/admin/users/{}/{child}", fish.user), no).await.is(404);
    }
    for path in [format!("/admin/users/{bob}"), format!("/admin/dialogs/{dialog}"), "/admin/bots/parrot".to_owned()] {
        let named = path.split('/').nth(3).expect("an id");
        let (nowhere, foreign) = (fish.get(&path.replace(named, absent)).await, fish.get(&path).await);
        assert_eq!((foreign.status, foreign.body), (404, nowhere.body), "{path}");
        admin.get(&path).await.is(200);
        manager.get(&path).await.is(200);
    }
    // Nothing of it happened.
    let mut tx = salon.store.read().await.expect("a reader");
    assert!(tx.find_account(&user.user).await.expect("a look").expect("bob").user.active);
    assert_eq!(tx.list_limits(&birds).await.expect("limits")[0].amount, 5);
    assert_eq!(tx.list_plans(&birds).await.expect("plans")[0].name, "free");
    assert!(tx.find_api_key(&key).await.expect("a look").expect("a key").revoked_at.is_none());
    drop(tx);
    assert_eq!(salon.vault.list_keys(Some(&owner)).await.expect("keys").len(), 1);
    for page in PAGES {
        let body = admin.get(page).await.body;
        assert!(!body.contains("canary"), "{page}");
    }
    assert!(stage.bots().contains("parrot") && !stage.bots().contains("mode"));
    stage.close().await;
}
