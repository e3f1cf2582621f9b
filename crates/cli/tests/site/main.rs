//! The pages as browsers ask for them, without a script: coming in, conversations, keys, and what strangers must not get.

#[path = "../house/mod.rs"]
mod house;
mod suggest;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{ACCEPT, CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use salon::audit::Actor;
use salon::logins::passes::{Linking, link};
use salon::logins::{REGISTRATION, Shown};
use salon::people::{UserChange, set_user};
use salon_cli::config::Config;
use salon_cli::house::House;
use salon_core::{Time, UserId};
use salon_store::{Place, Realm};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

const PASSWORD: &str = "storks fly south";
const PATIENCE: Duration = Duration::from_secs(20);

struct Stage {
    house: House,
    base: String,
    http: reqwest::Client,
    _folder: TempDir,
}

impl Stage {
    async fn open() -> Stage {
        Stage::with(|_| {}).await
    }

    /// A house with changes to its configuration.
    async fn with(change: impl FnOnce(&mut Config)) -> Stage {
        rustls::crypto::ring::default_provider().install_default().ok();
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place::Folder(folder.path().join("data"));
        let mut config = house::config(folder.path(), place, "http://127.0.0.1:9");
        config.sessions.engine = "parrot".to_owned();
        change(&mut config);
        let house = House::open(&config).await.expect("a house");
        let base = format!("http://{}", house.address.expect("a listener"));
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().redirect(Policy::none()).build();
        Stage { house, base, http: http.expect("a client"), _folder: folder }
    }

    fn browser(&self) -> Browser<'_> {
        Browser { stage: self, cookies: BTreeMap::new(), seal: String::new() }
    }

    /// The first administrator, come in by the link.
    async fn alice(&self) -> Browser<'_> {
        let fresh = self.house.salon.first_invitation().await.expect("an answer").expect("nobody is here");
        let mut browser = self.browser();
        let page = browser.get(&format!("/join/{}", fresh.word)).await;
        assert_eq!(page.status, 200);
        let form = [("name", "Alice"), ("email", "Alice@birds.example"), ("password", PASSWORD), ("pass", &fresh.word)];
        let page = browser.post("/register", &form).await;
        assert_eq!((page.status, page.location()), (303, "/start"), "{}", page.body);
        browser.get("/start").await;
        browser
    }

    /// Somebody else, where anybody may register.
    async fn bob(&self) -> Browser<'_> {
        self.set("open").await;
        let mut browser = self.browser();
        let form = [("name", "Bob"), ("email", "bob@birds.example"), ("password", PASSWORD)];
        assert_eq!(browser.post("/register", &form).await.status, 303);
        browser.get("/start").await;
        browser
    }

    async fn set(&self, registration: &'static str) {
        let store = &self.house.salon.store;
        let set = store.write(registration, |tx, word| Box::pin(tx.set_setting(REGISTRATION, word)));
        set.await.expect("a setting");
    }

    async fn user(&self, login: &str) -> UserId {
        let mut tx = self.house.salon.store.read().await.expect("a reader");
        tx.find_account_of_login(login).await.expect("a look").expect("somebody").user.id
    }

    async fn close(self) {
        self.house.close().await;
    }
}

/// A browser without a script.
struct Browser<'a> {
    stage: &'a Stage,
    cookies: BTreeMap<String, String>,
    /// Of the last page that had one.
    seal: String,
}

struct Page {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Page {
    fn location(&self) -> &str {
        self.headers.get(LOCATION).map_or("", |value| value.to_str().expect("ASCII"))
    }
}

impl Browser<'_> {
    async fn get(&mut self, path: &str) -> Page {
        let request = self.stage.http.get(format!("{}{path}", self.stage.base)).header(ACCEPT, "text/html");
        self.send(request).await
    }

    /// Sends a form from a page of ours, with its seal.
    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let mut fields = fields.to_vec();
        let seal = self.seal.clone();
        if !seal.is_empty() && path != "/login" && path != "/register" {
            fields.push(("seal", &seal));
        }
        self.post_as(path, &fields, &[("sec-fetch-site", "same-origin")]).await
    }

    async fn post_as(&mut self, path: &str, fields: &[(&str, &str)], headers: &[(&'static str, &str)]) -> Page {
        let body = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        let body = body.collect::<Vec<_>>().join("&");
        let request = self.stage.http.post(format!("{}{path}", self.stage.base)).body(body);
        let mut request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    /// Another window of the same browser.
    fn again(&self) -> Self {
        Browser { stage: self.stage, cookies: self.cookies.clone(), seal: self.seal.clone() }
    }

    fn cookie(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Page {
        let request = if self.cookies.is_empty() { request } else { request.header(COOKIE, self.cookie()) };
        let response = request.send().await.expect("an answer");
        for cookie in response.headers().get_all(SET_COOKIE) {
            let (pair, _) = cookie.to_str().expect("ASCII").split_once(';').expect("attributes");
            let (name, value) = pair.split_once('=').expect("a value");
            match value {
                "" => self.cookies.remove(name),
                value => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let page = Page { status, headers, body: response.text().await.expect("a body") };
        if let Some((_, rest)) = page.body.split_once("name=\"seal\" value=\"") {
            self.seal = rest.split('"').next().expect("an end").to_owned();
        }
        page
    }

    /// Begins a conversation and waits for its answer. Answers the dialog's path.
    async fn says(&mut self, text: &str) -> String {
        let page = self.post("/dialogs", &[("text", text), ("engine", "parrot")]).await;
        assert_eq!(page.status, 303, "{}", page.body);
        let path = page.location().split('#').next().expect("a path").to_owned();
        self.answered(&path).await;
        path
    }

    async fn answered(&mut self, path: &str) -> String {
        let began = Instant::now();
        loop {
            let page = self.get(path).await;
            assert_eq!(page.status, 200, "{}", page.body);
            if !page.body.contains("aria-busy") {
                return page.body;
            }
            assert!(began.elapsed() < PATIENCE, "no answer came");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_visitor_becomes_the_administrator_once() {
    let stage = Stage::open().await;
    let word = stage.house.salon.first_invitation().await.expect("an answer").expect("nobody is here").word;
    let mut alice = stage.alice().await;
    assert!(alice.get("/start").await.body.contains("Hello, Alice"));
    assert!(stage.house.salon.first_invitation().await.expect("an answer").is_none(), "somebody is here");
    // Whoever finds another link that was printed and not used is still invited; one that was used is worthless.
    let mut mallory = stage.browser();
    assert_eq!(mallory.get("/register").await.status, 403, "nobody registers uninvited");
    let form = [("name", "M"), ("email", "m@evil.example"), ("password", PASSWORD), ("pass", "x")];
    assert_eq!(mallory.post("/register", &form).await.status, 403);
    let form = [("name", "C"), ("email", "carol@birds.example"), ("password", PASSWORD), ("pass", &word)];
    assert_eq!(mallory.post("/register", &form).await.status, 303);
    let form = [("name", "D"), ("email", "dave@birds.example"), ("password", PASSWORD), ("pass", &word)];
    assert_eq!(stage.browser().post("/register", &form).await.status, 403, "once");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_comes_again_filled_in_and_says_what_is_wrong() {
    let stage = Stage::open().await;
    stage.set("open").await;
    let mut browser = stage.browser();
    let cases = [
        (
            [("name", "B\u{7}b"), ("email", "b@birds.example"), ("password", PASSWORD)],
            422,
            "A name has 1 to 200 characters",
        ),
        ([("name", "Bob"), ("email", "nonsense"), ("password", PASSWORD)], 422, "This is no e-mail address"),
        ([("name", "Bob"), ("email", "b@birds.example"), ("password", "password1234")], 422, "too easy to guess"),
    ];
    for (form, status, why) in cases {
        let page = browser.post("/register", &form).await;
        assert_eq!(page.status, status, "{}", page.body);
        assert!(page.body.contains(why) && page.body.contains(form[1].1), "{}", page.body);
        assert!(!page.body.contains(form[2].1), "a password is not shown again");
    }
    let extra =
        [("name", "Bob"), ("email", "b@birds.example"), ("password", PASSWORD), ("role", "admin"), ("org_id", "x")];
    assert_eq!(browser.post("/register", &extra).await.status, 422, "nothing else can be set");
    let good = [("name", "Bob"), ("email", "b@birds.example"), ("password", PASSWORD)];
    assert_eq!(browser.post("/register", &good).await.status, 303);
    let again = stage.browser().post("/register", &good).await;
    assert_eq!(again.status, 409);
    assert!(again.body.contains("registered with this address"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_is_slow_and_tells_nothing() {
    let stage = Stage::open().await;
    stage.alice().await;
    let mut browser = stage.browser();
    let mut wrong = async |email: &str| browser.post("/login", &[("email", email), ("password", "wrong")]).await;
    let known = wrong("alice@birds.example").await;
    let unknown = wrong("nobody@birds.example").await;
    assert_eq!((known.status, unknown.status), (401, 401));
    assert_eq!(known.body.replace("alice@", "nobody@"), unknown.body, "nobody learns who is here");
    let mut status = 401;
    for _ in 0..9 {
        status = wrong("alice@birds.example").await.status;
    }
    assert_eq!(status, 429);
    let right = browser.post("/login", &[("email", "alice@birds.example"), ("password", PASSWORD)]).await;
    assert_eq!(right.status, 429, "not even the right one now");
    assert!(right.headers.contains_key("retry-after"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_guesses_at_once_are_no_more_than_one_after_the_other() {
    let stage = Stage::open().await;
    stage.alice().await;
    let before = stage.house.salon.passwords.computed();
    let guess = async || {
        let form = [("email", "alice@birds.example"), ("password", "wrong")];
        stage.browser().post("/login", &form).await.status
    };
    let statuses = futures_util::future::join_all((0..200).map(|_| guess())).await;
    let count = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert_eq!(count(401) + count(429), 200, "{statuses:?}");
    // Two are compared at once, so that one may be under way when the fifth is found wrong.
    assert!((5..=6).contains(&count(401)), "{}", count(401));
    assert_eq!(stage.house.salon.passwords.computed() - before, count(401) as u64, "nothing else was computed");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_is_new_at_every_login_and_dies_with_the_password() {
    let stage = Stage::open().await;
    let mut alice = stage.alice().await;
    let first = alice.cookies.clone();
    // Somebody put a cookie there before.
    let mut other = stage.browser();
    other.cookies.insert("__Host-sid".to_owned(), "attacker".to_owned());
    let page = other.post("/login", &[("email", "alice@birds.example"), ("password", PASSWORD)]).await;
    assert_eq!(page.status, 303);
    let cookie = page.headers.get(SET_COOKIE).expect("a cookie").to_str().expect("ASCII");
    assert!(cookie.contains("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
    assert_ne!(other.cookies["__Host-sid"], "attacker");
    assert_ne!(other.cookies, first);
    alice.get("/account").await;
    let weak = alice.post("/account/password", &[("old", PASSWORD), ("new", "password")]).await;
    assert_eq!(weak.status, 422);
    let wrong = alice.post("/account/password", &[("old", "not this one"), ("new", "cranes fly north")]).await;
    assert!(wrong.status == 422 && wrong.body.contains("not your present password"));
    let changed = alice.post("/account/password", &[("old", PASSWORD), ("new", "cranes fly north")]).await;
    assert_eq!((changed.status, changed.location()), (303, "/account?done=password"));
    assert_eq!(alice.get("/account").await.status, 200, "this browser is let in by another cookie");
    assert_eq!(other.get("/account").await.location(), "/login?next=/account");
    let mut old = stage.browser();
    old.cookies = first;
    assert_eq!(old.get("/account").await.status, 303, "the old cookie is worthless");
    assert!(alice.post("/logout", &[]).await.status == 303 && alice.cookies.is_empty());
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_of_other_sites_do_nothing() {
    let stage = Stage::open().await;
    let mut alice = stage.alice().await;
    let dialog = alice.says("hello").await;
    let seal = alice.seal.clone();
    let delete = format!("{dialog}/delete");
    let fields = [("seal", seal.as_str())];
    let foreign: [&[(&'static str, &str)]; 6] = [
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("origin", "null")],
        &[("origin", "https://evil.example")],
        &[],
    ];
    for headers in foreign {
        assert_eq!(alice.post_as(&delete, &fields, headers).await.status, 403, "{headers:?}");
    }
    let ours = [("sec-fetch-site", "same-origin")];
    for seal in ["", "0", &"0".repeat(seal.len())] {
        assert_eq!(alice.post_as(&delete, &[("seal", seal)], &ours).await.status, 403, "another login's form");
    }
    assert_eq!(alice.get(&dialog).await.status, 200, "it is still there");
    assert_eq!(alice.get("/logout").await.status, 405, "looking changes nothing");
    let origin = stage.base.clone();
    assert_eq!(alice.post_as(&delete, &fields, &[("origin", &origin)]).await.status, 303, "an older browser of hers");
    assert_eq!(alice.get(&dialog).await.status, 404);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_is_had_found_saved_and_deleted() {
    let stage = Stage::open().await;
    let mut alice = stage.alice().await;
    let dialog = alice.says("**storks** <script>alert(1)</script> [x](javascript:alert(1))").await;
    let page = alice.get(&dialog).await.body;
    assert!(page.contains("<strong>storks</strong>"), "{page}");
    assert!(!page.contains("<script>alert") && !page.contains("href=\"javascript"), "{page}");
    let turns = format!("{dialog}/turns");
    let form = [("text", "and cranes?"), ("request", "01J00000000000000000000001")];
    assert_eq!(alice.post(&turns, &form).await.status, 303);
    assert_eq!(alice.post(&turns, &form).await.status, 303, "the same form sent twice asks once");
    let page = alice.answered(&dialog).await;
    assert_eq!(page.matches("class=\"turn\"").count(), 2);
    assert_eq!(alice.post(&format!("{dialog}/turns"), &[("text", "  ")]).await.status, 422);
    assert!(alice.get("/dialogs?q=CRANES").await.body.contains(&dialog), "found by its words");
    assert!(!alice.get("/dialogs?q=penguins").await.body.contains(&dialog));
    let saved = alice.get(&format!("{dialog}/export?as=md")).await;
    assert!(saved.body.contains("> and cranes?") && saved.body.starts_with("# **storks**"), "{}", saved.body);
    assert!(saved.headers["content-disposition"].to_str().expect("ASCII").starts_with("attachment"));
    let json: serde_json::Value =
        serde_json::from_str(&alice.get(&format!("{dialog}/export?as=json")).await.body).expect("JSON");
    assert_eq!(json["turns"][1]["answer"], "and cranes?");
    let title = alice.post(&format!("{dialog}/title"), &[("title", "Birds")]).await;
    assert_eq!(title.status, 303);
    assert!(alice.get("/dialogs").await.body.contains("<strong>Birds</strong>"));
    let engine = alice.post(&format!("{dialog}/engine"), &[("engine", "storyteller"), ("style", "brief")]).await;
    assert_eq!(engine.status, 303);
    assert_eq!(alice.post(&format!("{dialog}/engine"), &[("engine", "nobody")]).await.status, 422);
    let turn = page.split("id=\"t-").nth(2).expect("a second turn").split('"').next().expect("an id").to_owned();
    let branch = alice.post(&format!("{dialog}/turns/{turn}/branch"), &[("text", "and herons?")]).await;
    let other = branch.location().split('#').next().expect("a path").to_owned();
    assert!(branch.status == 303 && other != dialog);
    let page = alice.answered(&other).await;
    assert!(page.contains("and herons?") && page.contains("storks") && !page.contains("cranes"), "{page}");
    let deleted = alice.post(&format!("{dialog}/delete"), &[]).await;
    assert_eq!(deleted.location(), "/dialogs?done=deleted");
    assert_eq!(alice.get(&dialog).await.status, 404);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_stands_behind_an_engine_a_button_asks_somebody_else_the_same() {
    let stage = Stage::open().await;
    let mut alice = stage.alice().await;
    // It is installed here, and not run for want of a sandbox.
    let page = alice.post("/dialogs", &[("text", "Where do storks fly?"), ("engine", "claude")]).await;
    let path = page.location().split('#').next().expect("a path").to_owned();
    let turn = page.location().split_once("#t-").expect("a turn").1.to_owned();
    let shown = alice.answered(&path).await;
    assert!(shown.contains("it is not run without a sandbox"), "{shown}");
    let instead = format!("{path}/turns/{turn}/instead");
    assert!(shown.contains(&format!("action=\"{instead}\"")), "{shown}");
    assert!(shown.contains("<button name=\"engine\" value=\"parrot\">Ask parrot</button>"), "{shown}");
    for absent in ["claude", "codex", "gemini", "model"] {
        assert!(!shown.contains(&format!("<button name=\"engine\" value=\"{absent}\">")), "{absent} does not stand");
    }
    assert_eq!(alice.post(&instead, &[("engine", "nobody")]).await.status, 422);
    let mut bob = stage.bob().await;
    assert_eq!(bob.post(&instead, &[("engine", "parrot")]).await.status, 404, "it is somebody else's");
    let asked = alice.post(&instead, &[("engine", "parrot")]).await;
    assert_eq!(asked.status, 303, "{}", asked.body);
    let shown = alice.answered(&path).await;
    assert_eq!(shown.matches("<p>Where do storks fly?</p>").count(), 3, "asked twice, and answered once: {shown}");
    assert!(shown.contains("<option selected>parrot</option>"), "{shown}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_before_its_page_is_made_is_told_in_ones_language() {
    let stage = Stage::open().await;
    let mut alice = stage.alice().await;
    let path = alice.says("hello").await;
    assert_eq!(alice.post(&format!("{path}/engine"), &[("engine", "claude")]).await.status, 303);
    let turns = format!("{path}/turns");
    let form = [("text", "Where do storks fly?"), ("request", "01J00000000000000000000001")];
    assert_eq!(alice.post(&turns, &form).await.status, 303);
    alice.answered(&path).await;
    // The script sends it once more, and is given the turn that has failed meanwhile.
    let seal = alice.seal.clone();
    let form = [form[0], form[1], ("seal", &seal)];
    let part = [("sec-fetch-site", "same-origin"), ("x-salon-part", "1")];
    for (lang, word) in [("ru", "песочницы"), ("ko", "샌드박스"), ("en", "not run without a sandbox")] {
        assert_eq!(alice.post("/account/taste", &[("lang", lang)]).await.status, 303);
        let part = alice.post_as(&turns, &form, &part).await;
        assert_eq!(part.status, 200, "{}", part.body);
        assert!(part.body.contains(word), "{lang}: {}", part.body);
        assert_eq!(part.body.contains("installed"), lang == "en", "{lang}: {}", part.body);
        assert!(part.body.contains("value=\"parrot\""), "somebody else can be asked: {}", part.body);
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_somebody_elses_looks_like_nothing() {
    let stage = Stage::open().await;
    let mut alice = stage.alice().await;
    let hers = alice.says("a secret of storks").await;
    let turn = alice.get(&hers).await.body;
    let turn = turn.split("id=\"t-").nth(1).expect("a turn").split('"').next().expect("an id").to_owned();
    alice.post("/keys/own", &[("name", "laptop")]).await;
    let key = alice.get("/keys").await.body;
    let key = key.split("/keys/own/").nth(1).expect("a key").split('/').next().expect("an id").to_owned();
    let mut bob = stage.bob().await;
    let his = bob.says("about cranes").await;
    let random = "01J00000000000000000000000";
    let pairs = [
        (hers.clone(), format!("/dialogs/{random}")),
        (format!("{hers}/export"), format!("/dialogs/{random}/export")),
        (format!("{hers}/turns/{turn}/stream"), format!("/dialogs/{random}/turns/{random}/stream")),
        (format!("{his}/turns/{turn}/stream"), format!("{his}/turns/{random}/stream")),
        (format!("{hers}/files/{random}"), format!("/dialogs/{random}/files/{random}")),
    ];
    for (foreign, absent) in &pairs {
        let (foreign_page, absent_page) = (bob.get(foreign).await, bob.get(absent).await);
        assert_eq!((foreign_page.status, &foreign_page.body), (404, &absent_page.body), "{foreign}");
        assert!(stage.browser().get(foreign).await.location().starts_with("/login"), "{foreign}");
    }
    let actions: [(String, &[(&str, &str)]); 9] = [
        (format!("{hers}/delete"), &[]),
        (format!("{hers}/stop"), &[]),
        (format!("{hers}/title"), &[("title", "x")]),
        (format!("{hers}/engine"), &[("engine", "parrot")]),
        (format!("{hers}/turns"), &[("text", "x")]),
        (format!("{hers}/turns/{turn}/again"), &[]),
        (format!("{his}/turns/{turn}/again"), &[]),
        (format!("{his}/turns/{turn}/branch"), &[("text", "x")]),
        (format!("/keys/own/{key}/revoke"), &[]),
    ];
    for (path, fields) in &actions {
        let page = bob.post(path, fields).await;
        assert_eq!(page.status, 404, "{path}: {}", page.body);
        assert!(!page.body.contains("secret"), "{path}");
        assert_eq!(stage.browser().post(path, fields).await.location(), "/login", "{path}");
    }
    let mine: Vec<_> = alice.get("/account").await.body.split("/account/logins/").skip(1).map(str::to_owned).collect();
    assert!(mine.is_empty(), "a browser does not end itself");
    assert!(!bob.get("/dialogs?q=secret").await.body.contains("storks"));
    let page = alice.get(&hers).await.body;
    assert!(
        page.contains("a secret of storks") && page.matches("class=\"turn\"").count() == 1,
        "nothing happened to it"
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_stream_ends_when_its_reader_is_blocked() {
    let stage = Stage::open().await;
    stage.alice().await;
    let mut bob = stage.bob().await;
    let page = bob.post("/dialogs", &[("text", "a long story"), ("engine", "storyteller")]).await;
    let path = page.location().split('#').next().expect("a path").to_owned();
    let shown = bob.get(&path).await.body;
    let stream = shown.split("data-stream=\"").nth(1).expect("it is being written").split('"').next().expect("a path");
    let request = stage.http.get(format!("{}{stream}", stage.base)).header(COOKIE, bob.cookie());
    let response = request.send().await.expect("a stream");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut bytes = response.bytes_stream();
    let first = timeout(PATIENCE, bytes.next()).await.expect("in time").expect("a frame").expect("bytes");
    assert!(first.starts_with(b"event: "), "{first:?}");
    let salon = &stage.house.salon;
    let id = stage.user("bob@birds.example").await;
    let change = UserChange { active: Some(false), ..UserChange::default() };
    set_user(&salon.store, &salon.pen(Actor::Operator), &id, change).await.expect("a block");
    let ended = timeout(Duration::from_secs(2), async {
        let mut all = Vec::new();
        while let Some(Ok(more)) = bytes.next().await {
            all.extend_from_slice(&more);
        }
        String::from_utf8(all).expect("text")
    });
    let rest = ended.await.expect("the stream ends within two seconds");
    assert!(!rest.contains("event: whole"), "it ended because of the block");
    assert_eq!(bob.get(&path).await.status, 303);
    let again = stage.browser().post("/login", &[("email", "bob@birds.example"), ("password", PASSWORD)]).await;
    assert_eq!(again.status, 403);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_links_a_chat_once() {
    let stage = Stage::open().await;
    let mut alice = stage.alice().await;
    let page = alice.post("/start/code", &[]).await;
    assert_eq!(page.status, 200);
    let code = page.body.split("id=\"code\">").nth(1).expect("a code").split('<').next().expect("an end").to_owned();
    let letters = code.chars().filter(|c| !c.is_whitespace()).count();
    assert_eq!(letters, 16, "80 bits");
    let salon = &stage.house.salon;
    let hash = salon.code_hash(&code.to_lowercase()).expect("typed as people type");
    let link_as = async |telegram: i64| {
        let args = (salon.pen(Actor::Guest), hash.clone(), telegram, salon.clock.now());
        salon
            .store
            .write(args, |tx, (pen, hash, id, now)| Box::pin(link(tx, pen, hash, *id, "Alice", *now)))
            .await
            .expect("linking")
    };
    let user = stage.user("alice@birds.example").await;
    assert_eq!(link_as(1001).await, Linking::Linked(user.clone()));
    assert_eq!(link_as(1002).await, Linking::Used);
    let mut tx = salon.store.read().await.expect("a reader");
    assert_eq!(tx.find_user_of_telegram(1001).await.expect("a look").map(|user| user.id), Some(user));
    drop(tx);
    assert!(alice.get("/start").await.body.contains("/start/links/1001/remove"));
    assert_eq!(alice.post("/start/links/1002/remove", &[]).await.status, 404);
    assert_eq!(alice.post("/start/links/1001/remove", &[]).await.status, 303);
    let late = salon.make_code(&stage.user("alice@birds.example").await).await.expect("a code");
    let args = (salon.pen(Actor::Guest), salon.code_hash(&late.word).expect("a code"), Time(late.expires_at.0 + 1));
    let late = salon.store.write(args, |tx, (pen, hash, now)| Box::pin(link(tx, pen, hash, 1003, "A", *now))).await;
    assert_eq!(late.expect("linking"), Linking::Expired);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_shown_once_and_provider_keys_never() {
    let stage = Stage::open().await;
    let mut alice = stage.alice().await;
    let page = alice.post("/keys/own", &[("name", "laptop"), ("models", "parrot, echo"), ("expires", "30d")]).await;
    assert_eq!(page.status, 201);
    let key = page.body.split("id=\"fresh\">").nth(1).expect("a key").split('<').next().expect("an end").to_owned();
    assert!(key.starts_with("salon_"));
    let asked =
        stage.http.get(format!("{}/api/sessions", stage.base)).bearer_auth(&key).send().await.expect("an answer");
    assert_eq!(asked.status(), 200);
    let page = alice.get("/keys").await;
    assert!(!page.body.contains(&key) && page.body.contains("laptop"));
    for bad in [("expires", "yesterday"), ("networks", "everywhere"), ("name", "")] {
        let mut form = vec![("name", "laptop")];
        form.retain(|(name, _)| *name != bad.0);
        form.push(bad);
        assert_eq!(alice.post("/keys/own", &form).await.status, 422, "{bad:?}");
    }
    let id = page.body.split("/keys/own/").nth(1).expect("a key").split('/').next().expect("an id").to_owned();
    assert_eq!(alice.post(&format!("/keys/own/{id}/revoke"), &[]).await.status, 303);
    let asked =
        stage.http.get(format!("{}/api/sessions", stage.base)).bearer_auth(&key).send().await.expect("an answer");
    assert_eq!(asked.status(), 401);
    // An address that leads inside is refused, and what was entered is not shown again.
    let canary = "sk-canary-0123456789abcdef";
    let form = [("provider", "local"), ("key", canary), ("base_url", "http://127.0.0.1:9/v1")];
    let page = alice.post("/keys", &form).await;
    assert!(page.status == 422 && !page.body.contains(canary), "{}", page.body);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_carries_the_headers_and_none_is_kept() {
    let stage = Stage::open().await;
    let mut alice = stage.alice().await;
    let dialog = alice.says("hello").await;
    let pages = [
        "/",
        "/login",
        "/start",
        "/dialogs",
        "/dialogs/new",
        &dialog,
        "/keys",
        "/usage",
        "/account",
        "/nothing",
        "/dialogs/x",
    ];
    for path in pages {
        let page = alice.get(path).await;
        for header in [
            "content-security-policy",
            "x-content-type-options",
            "referrer-policy",
            "cross-origin-opener-policy",
            "cross-origin-resource-policy",
            "permissions-policy",
            "x-frame-options",
        ] {
            assert!(page.headers.contains_key(header), "{path} has no {header}");
        }
        assert_eq!(page.headers["cache-control"], "no-store", "{path}");
        assert!(!page.headers["content-security-policy"].to_str().expect("ASCII").contains("unsafe"), "{path}");
        assert!(page.body.len() < 100 << 10, "{path} is heavy");
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_sent_elsewhere_after_coming_in() {
    let stage = Stage::open().await;
    stage.alice().await;
    for next in ["//evil.example", "/\\evil.example", "https://evil.example/start", "/%09/evil.example", "javascript:x"]
    {
        let form = [("email", "alice@birds.example"), ("password", PASSWORD), ("next", next)];
        assert_eq!(stage.browser().post("/login", &form).await.location(), "/start", "{next}");
    }
    let form = [("email", "alice@birds.example"), ("password", PASSWORD), ("next", "/usage?period=week")];
    assert_eq!(stage.browser().post("/login", &form).await.location(), "/usage?period=week");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_takes_as_long_where_there_is_nobody() {
    let stage = Stage::open().await;
    stage.alice().await;
    let salon = &stage.house.salon;
    let shown = |login: &'static str| Shown {
        login,
        password: "wrong",
        code: None,
        peer: None,
        browser: "",
        realm: Realm::House,
    };
    // What is compared is the work, which is the same; times of this machine prove nothing.
    assert!(salon.log_in(shown("alice@birds.example")).await.is_err());
    assert!(salon.log_in(shown("nobody@birds.example")).await.is_err());
    assert_eq!(salon.passwords.computed(), 3, "one at registering, one for each attempt");
    stage.close().await;
}

/// A form with files, as a browser writes it.
fn multipart(fields: &[(&str, &str)], files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let head = format!("--edge\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(head.as_bytes());
    }
    for (name, bytes) in files {
        let head = format!(
            "--edge\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             content-type: text/html\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--edge--\r\n");
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_come_with_a_question_as_what_their_bytes_say() {
    let stage = Stage::open().await;
    let mut alice = stage.alice().await;
    let seal = alice.seal.clone();
    let send = async |browser: &mut Browser<'_>, path: &str, seal: &str, files: &[(&str, &[u8])]| {
        let fields = [("seal", seal), ("text", "look at this"), ("engine", "parrot"), ("style", ""), ("request", "")];
        let request = stage.http.post(format!("{}{path}", stage.base)).body(multipart(&fields, files));
        let request = request.header(CONTENT_TYPE, "multipart/form-data; boundary=edge");
        browser.send(request.header("sec-fetch-site", "same-origin")).await
    };
    const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n and the rest";
    let files: [(&str, &[u8]); 2] = [("stork.html", PICTURE), ("note.txt", b"<b>storks</b> fly south")];
    let page = send(&mut alice, "/dialogs", &seal, &files).await;
    assert_eq!(page.status, 303, "{}", page.body);
    let path = page.location().split('#').next().expect("a path").to_owned();
    let page = alice.answered(&path).await;
    assert!(page.contains("&lt;b&gt;storks&lt;/b&gt; fly south"), "the text stands in the question: {page}");
    let file = page.split("<img src=\"").nth(1).expect("a picture").split('"').next().expect("an end").to_owned();
    let shown = stage.http.get(format!("{}{file}", stage.base)).header(COOKIE, alice.cookie()).send().await;
    let shown = shown.expect("an answer");
    assert_eq!(shown.headers()["content-type"], "image/png", "whatever it was called");
    assert!(shown.headers()["content-security-policy"].to_str().expect("ASCII").starts_with("sandbox"));
    assert_eq!(shown.bytes().await.expect("bytes"), PICTURE);
    let mut bob = stage.bob().await;
    assert_eq!(bob.get(&file).await.status, 404, "it is not his");
    let turns = format!("{path}/turns");
    let odd = send(&mut alice, &turns, &seal, &[("a.txt", &[0, 159, 146, 150])]).await;
    assert!(odd.status == 422 && odd.body.contains("“a.txt” is neither"), "{}", odd.body);
    let many: Vec<(&str, &[u8])> = vec![("a.gif", b"GIF89a"); 5];
    assert_eq!(send(&mut alice, &turns, &seal, &many).await.status, 413);
    assert_eq!(send(&mut alice, &turns, "", &files).await.status, 403, "not from a page of hers");
    let page = alice.answered(&path).await;
    assert_eq!(page.matches("class=\"turn\"").count(), 1, "what was refused was not asked");
    stage.close().await;
}
