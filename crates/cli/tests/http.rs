//! The public listener, asked as strangers, Telegram, browsers and monitoring ask it: over a socket, byte by byte.

mod house;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use salon_cli::house::House;
use salon_mock::{Fault, Mock, MockConfig};
use salon_store::Place;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATH: &str = "path-secret-0123456789abcdef0123456789";
const HEADER: &str = "header-secret-0123456789abcdef01234567";
const HOOK: &str = "/telegram/webhook/parrot/path-secret-0123456789abcdef0123456789";
const SECRET: (&str, &str) = ("X-Telegram-Bot-Api-Secret-Token", HEADER);
const METRICS_TOKEN: &str = "metrics-token-0123456789";
/// Nothing here should take this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A house with a bot that has a webhook, and one that has none.
struct Door {
    house: House,
    address: SocketAddr,
    // Kept until the end.
    mock: Mock,
    _folder: TempDir,
}

impl Door {
    async fn open() -> Door {
        let folder = tempfile::tempdir().expect("a folder");
        let mock = Mock::start(MockConfig::default()).await.expect("a mock");
        let mut config = house::config(folder.path(), Place::Folder(folder.path().join("data")), mock.base_url());
        config.metrics_token = Some(METRICS_TOKEN.to_owned());
        std::fs::write(&config.bots_file, roster("1001:parrot-token")).expect("a list of bots");
        let house = House::open(&config).await.expect("a house");
        let address = house.address.expect("a listener");
        Door { house, address, mock, _folder: folder }
    }

    async fn ask(&self, asked: &Asked<'_>) -> Answer {
        ask(self.address, asked).await
    }

    /// How many updates were stored.
    async fn updates(&self) -> i64 {
        let counts = self.house.salon.store.read().await.expect("a reader").count_jobs().await.expect("counts");
        counts.iter().filter(|job| job.kind == salon::KIND_UPDATE).map(|job| job.count).sum()
    }

    fn counted(&self, bot: &str, name: &str) -> u64 {
        self.house.salon.metrics.all().get(&(bot.to_owned(), name.to_owned())).copied().unwrap_or(0)
    }

    async fn close(self) {
        self.house.close().await;
        self.mock.shutdown().await.expect("the mock ends");
    }
}

/// Polling is off: what comes in comes through the door.
fn roster(token: &str) -> String {
    format!(
        "bots:\n  - bot_id: parrot\n    name: Parrot <b>\n    mode: \"off\"\n    telegram_token: \"{token}\"\n    allow: everyone\n    adapter: parrot\n    \
         webhook:\n      path_secret: \"{PATH}\"\n      secret_token: \"{HEADER}\"\n  - bot_id: heron\n    \
         mode: \"off\"\n    adapter: parrot\n    telegram_token: \"1002:heron-token\"\n"
    )
}

/// A request.
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
}

fn get<'a>(path: &'a str, headers: &'a [(&'a str, &'a str)]) -> Asked<'a> {
    Asked { method: "GET", path, headers, body: b"" }
}

fn post<'a>(path: &'a str, headers: &'a [(&'a str, &'a str)], body: &'a [u8]) -> Asked<'a> {
    Asked { method: "POST", path, headers, body }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Everything that a stranger could compare: all but the time and the request's number.
    fn comparable(&self) -> (u16, BTreeMap<String, String>, String) {
        let mut headers = self.headers.clone();
        headers.remove("date");
        headers.remove("x-request-id");
        (self.status, headers, self.body.clone())
    }
}

async fn ask(address: SocketAddr, asked: &Asked<'_>) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("the door is open");
    write(&mut stream, asked, "close").await;
    if asked.method == "HEAD" { read_head(&mut stream).await } else { read(&mut stream).await }
}

async fn write(stream: &mut TcpStream, asked: &Asked<'_>, connection: &str) {
    let mut head =
        format!("{} {} HTTP/1.1\r\nHost: salon.test\r\nConnection: {connection}\r\n", asked.method, asked.path);
    for (name, value) in asked.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !asked.body.is_empty() || asked.method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", asked.body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.expect("the head is taken");
    // Whoever is refused may find the door closed before all is said.
    stream.write_all(asked.body).await.ok();
}

/// Reads one answer, and no more of the connection than that.
async fn read(stream: &mut TcpStream) -> Answer {
    tokio::time::timeout(PATIENCE, read_patiently(stream)).await.expect("an answer in time")
}

async fn read_patiently(stream: &mut TcpStream) -> Answer {
    let mut answer = read_head(stream).await;
    let length: usize = answer.headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = std::mem::take(&mut answer.body).into_bytes();
    while body.len() < length {
        let read = stream.read_buf(&mut body).await.expect("a body");
        assert!(read > 0, "the connection ended in the middle of a body");
    }
    Answer { body: String::from_utf8(body).expect("a body is text"), ..answer }
}

/// Reads a head, and what came with it of the body.
async fn read_head(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        let read = stream.read_buf(&mut bytes).await.expect("an answer");
        assert!(read > 0, "the connection ended in the middle of a head: {}", String::from_utf8_lossy(&bytes));
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("an answer is text");
    let head = text(&bytes[..head_end]);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Answer { status, headers, body: text(&bytes[head_end..]) }
}

fn update(id: i64, text: &str) -> Vec<u8> {
    let from = json!({"id": 9001, "is_bot": false, "first_name": "Alice"});
    let chat = json!({"id": 9001, "type": "private", "first_name": "Alice"});
    let message = json!({"message_id": id, "date": 1, "from": from, "chat": chat, "text": text});
    json!({"update_id": id, "message": message}).to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_at_the_webhook_looks_like_a_page_that_is_not_there() {
    let door = Door::open().await;
    let body = update(1, "hello");
    let wrong = [("X-Telegram-Bot-Api-Secret-Token", "header-secret-0123456789abcdef01234568")];
    let empty = [("X-Telegram-Bot-Api-Secret-Token", "")];
    let tg = format!("/tg/{PATH}");
    let almost = format!("{HOOK}x");
    let below = format!("{HOOK}/more");
    let slash = format!("{HOOK}/");
    let mistakes = [
        post("/nothing/of/the/kind", &[], &body),
        post("/telegram/webhook/stranger/path", &[SECRET], &body),
        post("/telegram/webhook/heron/", &[SECRET], &body),
        post("/telegram/webhook/heron/heron-path", &[("X-Telegram-Bot-Api-Secret-Token", "heron-secret")], &body),
        post("/telegram/webhook/parrot/wrong", &[SECRET], &body),
        post(&almost, &[SECRET], &body),
        post(&below, &[SECRET], &body),
        post(&slash, &[SECRET], &body),
        post(HOOK, &[], &body),
        post(HOOK, &wrong, &body),
        post(HOOK, &empty, &body),
        post(HOOK, &wrong, b"not JSON"),
        post(HOOK, &wrong, &[b'['; 100_000]),
        post("/tg/wrong", &[SECRET], &body),
        post(&tg, &wrong, &body),
        post("/telegram/webhook/parrot", &[SECRET], &body),
        get(HOOK, &[SECRET]),
        get(&tg, &[SECRET]),
        Asked { method: "PUT", path: HOOK, headers: &[SECRET], body: &body },
        Asked { method: "DELETE", path: HOOK, headers: &[SECRET], body: b"" },
        Asked { method: "PATCH", path: HOOK, headers: &[], body: &body },
        Asked { method: "OPTIONS", path: HOOK, headers: &[], body: b"" },
        get("/_mock/ui", &[]),
        get("/_mock/state", &[]),
        post("/_mock/send", &[], b"{}"),
        get("/bot1001:parrot-token/getMe", &[]),
    ];
    let nothing = door.ask(&get("/nothing", &[])).await;
    assert_eq!((nothing.status, nothing.body.as_str()), (404, r#"{"detail":"Not Found"}"#));
    for mistake in &mistakes {
        let answer = door.ask(mistake).await;
        assert_eq!(answer.comparable(), nothing.comparable(), "{} {}", mistake.method, mistake.path);
    }
    let head = door.ask(&Asked { method: "HEAD", path: HOOK, headers: &[SECRET], body: b"" }).await;
    assert_eq!((head.status, head.header("allow"), head.body.as_str()), (404, "", ""));
    assert_eq!(door.updates().await, 0);
    assert_eq!(door.counted("parrot", "webhook_reject_invalid_secret_token"), 6);
    assert_eq!(door.counted("__global__", "webhook_reject_unknown_bot"), 1);
    door.close().await;
}

/// What is no secret says how it is asked; what is one for somebody says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_and_asked_in_another_way_says_in_which() {
    let door = Door::open().await;
    let ours = r#"{"detail":"Method Not Allowed"}"#;
    let rows = [
        ("POST", "/healthz", "GET,HEAD", ours),
        ("DELETE", "/", "GET,HEAD", ours),
        ("PUT", "/readyz", "GET,HEAD", ours),
        ("OPTIONS", "/openapi.json", "GET,HEAD", ours),
        ("TRACE", "/docs", "GET,HEAD", ours),
        ("POST", "/metrics", "GET,HEAD", ours),
        ("PATCH", "/api/keys", "GET,HEAD,POST", ours),
        ("GET", "/api/v1/admin/usage/limits/x", "PUT,DELETE", ours),
        ("GET", "/v1/chat/completions", "POST", r#""code":"method_not_supported""#),
        ("DELETE", "/v1/messages", "POST", r#""type":"error""#),
        ("DELETE", "/v1/models/gpt", "GET,HEAD", r#""code":"method_not_supported""#),
        ("PUT", "/v1beta/models/gpt:generateContent", "POST", r#""status":"INVALID_ARGUMENT""#),
        ("PUT", "/v1beta/models/gpt", "GET,HEAD", r#""status":"INVALID_ARGUMENT""#),
    ];
    for (method, path, allow, says) in rows {
        let answer = door.ask(&Asked { method, path, headers: &[], body: b"" }).await;
        assert_eq!((answer.status, answer.header("allow")), (405, allow), "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/json", "{method} {path}");
        assert!(answer.body.contains(says), "{method} {path}: {}", answer.body);
    }
    let stranger = [("X-Forwarded-For", "192.0.2.1")];
    let answer = door.ask(&Asked { method: "POST", path: "/metrics", headers: &stranger, body: b"" }).await;
    assert_eq!((answer.status, answer.header("allow")), (404, ""));
    door.close().await;
}

/// What is posted, its headers and body, and the status and body it is answered by.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_refused_unheard_can_ask_again_on_the_same_connection_or_is_told_otherwise() {
    let door = Door::open().await;
    let body = vec![b'x'; 2_000];
    for (path, status) in [
        ("/v1/chat/completions", 401),
        ("/v1/messages", 401),
        ("/v1/nothing", 404),
        ("/v1/models", 405),
        ("/api/chat", 401),
        ("/telegram/webhook/parrot/nothing", 404),
    ] {
        let mut stream = TcpStream::connect(door.address).await.expect("the door is open");
        for _ in 0..5 {
            write(&mut stream, &Asked { method: "POST", path, headers: &[], body: &body }, "keep-alive").await;
            let answer = read(&mut stream).await;
            assert_eq!((answer.status, answer.headers.get("connection")), (status, None), "{path}");
        }
        // What is longer is not read for nothing.
        let head = format!("POST {path} HTTP/1.1\r\nHost: salon.test\r\nContent-Length: 200000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("the head is taken");
        let answer = read(&mut stream).await;
        assert_eq!(answer.headers.get("connection").map(String::as_str), Some("close"), "{path}");
    }
    door.close().await;
}

/// The webhook's own words, once somebody is let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_let_in_is_judged_by_its_body() {
    let door = Door::open().await;
    let good = update(1, "hello");
    let mut full = update(2, "x");
    full.resize(1 << 20, b' ');
    let mut over = update(3, "x");
    over.resize((1 << 20) + 1, b' ');
    let deep = format!(r#"{{"update_id": 4, "x": {}}}"#, "[".repeat(100_000));
    let nested = format!(r#"{{"update_id": 5, "poll": {}1{}}}"#, "[".repeat(63), "]".repeat(63));
    let too_nested = format!(r#"{{"update_id": 5, "poll": {}1{}}}"#, "[".repeat(64), "]".repeat(64));
    let gzip = [SECRET, ("Content-Encoding", "gzip")];
    let identity = [SECRET, ("Content-Encoding", "identity")];
    let ok = r#"{"ok":true}"#;
    let rows: &[Row] = &[
        ("an update", &[SECRET], &good, 200, ok),
        ("the same again", &[SECRET], &good, 200, ok),
        ("one of exactly a mebibyte", &[SECRET], &full, 200, ok),
        ("one of a byte more", &[SECRET], &over, 413, r#"{"detail":"the body is larger than 1 MiB"}"#),
        ("a compressed one", &gzip, &good, 415, r#"{"detail":"compressed bodies are not taken"}"#),
        ("one that is said to be as it is", &identity, &good, 415, r#"{"detail":"compressed bodies are not taken"}"#),
        ("only brackets", &[SECRET], &[b'['; 100_000], 400, r#"{"detail":"the JSON is nested too deeply"}"#),
        ("a deep one", &[SECRET], deep.as_bytes(), 400, r#"{"detail":"the JSON is nested too deeply"}"#),
        ("64 deep", &[SECRET], nested.as_bytes(), 200, ok),
        ("65 deep", &[SECRET], too_nested.as_bytes(), 400, r#"{"detail":"the JSON is nested too deeply"}"#),
        ("nothing", &[SECRET], b"", 400, r#"{"detail":"the body is not JSON"}"#),
        ("no JSON", &[SECRET], b"update_id=1", 400, r#"{"detail":"the body is not JSON"}"#),
        ("no Unicode", &[SECRET], b"{\"update_id\": 1, \"x\": \"\xff\"}", 400, r#"{"detail":"the body is not JSON"}"#),
        ("half of one", &[SECRET], &good[..good.len() / 2], 400, r#"{"detail":"the body is not JSON"}"#),
        ("a list", &[SECRET], b"[{\"update_id\": 1}]", 422, r#"{"detail":"the body is not a JSON object"}"#),
        ("a text", &[SECRET], b"\"update_id\"", 422, r#"{"detail":"the body is not a JSON object"}"#),
        ("null", &[SECRET], b"null", 422, r#"{"detail":"the body is not a JSON object"}"#),
        ("no id", &[SECRET], b"{}", 400, r#"{"detail":"update_id is required"}"#),
        ("an id that is a text", &[SECRET], br#"{"update_id":"1"}"#, 400, r#"{"detail":"update_id is required"}"#),
        ("an id with a fraction", &[SECRET], br#"{"update_id":1.5}"#, 400, r#"{"detail":"update_id is required"}"#),
        ("an id out of range", &[SECRET], br#"{"update_id":1e30}"#, 400, r#"{"detail":"update_id is required"}"#),
        ("an unknown kind", &[SECRET], br#"{"update_id":6,"news":{}}"#, 200, ok),
    ];
    for (what, headers, body, status, said) in rows {
        let answer = door.ask(&post(HOOK, headers, body)).await;
        assert_eq!((answer.status, answer.body.as_str()), (*status, *said), "{what}");
        assert_eq!(answer.header("content-type"), "application/json", "{what}");
    }
    // Without a length, in pieces, it is no larger.
    let mut stream = TcpStream::connect(door.address).await.expect("the door is open");
    let head =
        format!("POST {HOOK} HTTP/1.1\r\nHost: x\r\n{}: {HEADER}\r\nTransfer-Encoding: chunked\r\n\r\n", SECRET.0);
    stream.write_all(head.as_bytes()).await.expect("the head is taken");
    let piece = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..17 {
        stream.write_all(piece.as_bytes()).await.ok();
    }
    assert_eq!(read(&mut stream).await.status, 413);
    // The first bot also stands at the short route.
    let short = format!("/tg/{PATH}");
    let answer = door.ask(&post(&short, &[SECRET], &update(7, "short"))).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ok));
    assert_eq!(door.updates().await, 5);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_copies_of_an_update_are_one_update() {
    let door = Door::open().await;
    let body = update(1, "hello");
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (address, body) = (door.address, body.clone());
        callers.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("the door is open");
            for _ in 0..20 {
                write(&mut stream, &post(HOOK, &[SECRET], &body), "keep-alive").await;
                let answer = read(&mut stream).await;
                assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"ok":true}"#));
            }
        });
    }
    while let Some(called) = callers.join_next().await {
        called.expect("a caller is answered");
    }
    assert_eq!(door.updates().await, 1);
    assert_eq!(door.counted("parrot", "webhook_accept_total"), 1);
    assert_eq!(door.counted("parrot", "webhook_duplicate_update"), 999);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_dressed_and_numbered() {
    let door = Door::open().await;
    let body = update(1, "hello");
    let asked = [
        get("/", &[("Accept", "text/html")]),
        get("/", &[]),
        get("/assets/front.css", &[]),
        get("/healthz", &[]),
        get("/readyz", &[]),
        get("/metrics", &[]),
        get("/nothing", &[]),
        get("/metrics", &[("X-Forwarded-For", "192.0.2.1")]),
        post("/", &[], b""),
        post(HOOK, &[SECRET], &body),
        post(HOOK, &[SECRET], b"nonsense"),
        post(HOOK, &[SECRET], b"[]"),
        post(HOOK, &[SECRET, ("Content-Encoding", "br")], &body),
        post(HOOK, &[], &body),
    ];
    let mut numbers = BTreeSet::new();
    for asked in &asked {
        let answer = door.ask(asked).await;
        let what = format!("{} {} {}", asked.method, asked.path, answer.status);
        let policy = answer.header("content-security-policy");
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"] {
            assert!(policy.contains(part), "{what}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{what}: {policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(answer.header(name), value, "{what}: {name}");
        }
        assert!(answer.headers.contains_key("permissions-policy"), "{what}");
        let kept = if asked.path.starts_with("/assets/") { "max-age=3600" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), kept, "{what}");
        assert!(!answer.headers.contains_key("server"), "{what}: nobody needs to know what runs here");
        let number = answer.header("x-request-id").to_owned();
        assert_eq!(number.len(), 26, "{what}");
        assert!(numbers.insert(number), "{what}: a number was given twice");
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_front_door_speaks_to_browsers_programs_and_terminals() {
    let door = Door::open().await;
    let page = door.ask(&get("/", &[("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")])).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.body.starts_with("<!doctype html>"), "{}", page.body);
    assert!(page.body.contains("Parrot &lt;b&gt;") && !page.body.contains("Parrot <b>"), "{}", page.body);
    let json = door.ask(&get("/", &[("Accept", "application/json")])).await;
    assert_eq!((json.status, json.json()["name"].as_str()), (200, Some("salon")));
    let text = door.ask(&get("/", &[("Accept", "*/*")])).await;
    assert_eq!((text.status, text.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert!(text.body.starts_with("Salon: ") && text.body.ends_with('\n'));
    for answer in [page, json, text] {
        for secret in [PATH, HEADER, METRICS_TOKEN, "parrot-token"] {
            assert!(!answer.body.contains(secret), "{}", answer.body);
        }
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_said_in_its_shape() {
    let door = Door::open().await;
    let health = door.ask(&get("/healthz", &[])).await;
    assert_eq!((health.status, health.body.as_str()), (200, r#"{"ok":true}"#));
    let ready = door.ask(&get("/readyz", &[])).await;
    let said = ready.json();
    let keys: Vec<_> = said.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["ok", "store", "key", "disk", "closing", "bots", "agents"]);
    assert_eq!(said["agents"], "not run");
    assert_eq!((&said["store"], &said["closing"]), (&json!("ok"), &json!(false)));
    // A machine that is short of room says so, here as anywhere.
    assert_eq!(said["ok"], said["disk"]["ok"]);
    assert_eq!(ready.status, if said["ok"] == true { 200 } else { 503 });
    assert!(said["disk"]["free_bytes"].is_u64() && said["disk"]["total_bytes"].is_u64());
    let bots = said["bots"].as_array().expect("a list");
    assert_eq!(bots.len(), 2);
    let keys: Vec<_> = bots[0].as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["bot_id", "name", "intake", "receiving", "username", "error"]);
    assert_eq!((&bots[0]["bot_id"], &bots[0]["intake"]), (&json!("parrot"), &json!("off")));
    for secret in [PATH, HEADER, METRICS_TOKEN, "parrot-token"] {
        assert!(!ready.body.contains(secret), "{}", ready.body);
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_for_this_machine_and_for_bearers_of_the_token() {
    let door = Door::open().await;
    let bearer = format!("Bearer {METRICS_TOKEN}");
    let shorter = format!("Bearer {}", &METRICS_TOKEN[1..]);
    let basic = format!("Basic {METRICS_TOKEN}");
    let forwarded = ("X-Forwarded-For", "192.0.2.1");
    let rows: &[(&[(&str, &str)], u16)] = &[
        (&[], 200),
        (&[forwarded], 404),
        (&[("Forwarded", "for=192.0.2.1")], 404),
        (&[forwarded, ("Authorization", &bearer)], 200),
        (&[forwarded, ("Authorization", &shorter)], 404),
        (&[forwarded, ("Authorization", &basic)], 404),
        (&[forwarded, ("Authorization", "Bearer ")], 404),
    ];
    for (headers, status) in rows {
        let answer = door.ask(&get("/metrics", headers)).await;
        assert_eq!(answer.status, *status, "{headers:?}");
        if answer.status == 404 {
            assert_eq!(answer.body, r#"{"detail":"Not Found"}"#);
        }
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_told_as_text_and_as_the_bridge_told_them() {
    let door = Door::open().await;
    // Telegram knows the chat of somebody who has written in it.
    door.mock.says("1001:parrot-token", 9001, 9001, "hello");
    door.ask(&post(HOOK, &[SECRET], &update(1, "hello"))).await;
    door.ask(&post(HOOK, &[SECRET], &update(1, "hello"))).await;
    door.ask(&post(HOOK, &[], &update(1, "hello"))).await;
    // The bot is off: it asks for nothing, but answers what comes in.
    let answered = door.mock.wait_for_texts("1001:parrot-token", 9001, |texts| texts == ["hello"]);
    tokio::time::timeout(PATIENCE, answered).await.expect("an answer");
    let text = door.ask(&get("/metrics", &[])).await;
    assert_eq!(text.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let samples = exposition(&text.body);
    let value = |name: &str| samples.get(name).copied().unwrap_or_else(|| panic!("no {name} in {samples:?}"));
    assert_eq!(value(r#"salon_events_total{bot="parrot",event="webhook_accept_total"}"#), 1.0);
    assert_eq!(value(r#"salon_events_total{bot="parrot",event="webhook_duplicate_update"}"#), 1.0);
    assert_eq!(value(r#"salon_events_total{bot="parrot",event="webhook_reject_invalid_secret_token"}"#), 1.0);
    assert_eq!(value(r#"salon_jobs{kind="update",bot="parrot",state="completed"}"#), 1.0);
    assert_eq!(value("salon_chats_parked"), 0.0);

    let json = door.ask(&get("/metrics", &[("Accept", "application/json")])).await.json();
    let keys: Vec<_> = json.as_object().expect("an object").keys().map(String::as_str).collect();
    let bridge = [
        "telegram_update_jobs",
        "cli_run_jobs",
        "in_flight_runs",
        "telegram_updates_total",
        "telegram_update_jobs_by_status",
        "cli_run_jobs_by_status",
        "runtime_counters",
    ];
    assert_eq!(keys, bridge);
    assert_eq!(json["telegram_update_jobs"], 1);
    assert_eq!(json["telegram_update_jobs_by_status"], json!({"completed": 1}));
    assert_eq!(json["runtime_counters"]["webhook_accept_total"], 1);
    assert!(json["runtime_counters"]["worker_heartbeat.run_worker"].is_u64());
    let other = door.ask(&get("/metrics?bot=heron", &[("Accept", "application/json")])).await.json();
    assert_eq!(other["telegram_update_jobs"], 0);
    assert_eq!(other["telegram_update_jobs_by_status"], json!({}));
    assert!(other["runtime_counters"].get("webhook_accept_total").is_none());
    door.close().await;
}

/// Reads Prometheus' text format as strictly as its own tools do, and answers the samples.
fn exposition(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let (mut helped, mut typed) = (BTreeSet::new(), BTreeMap::new());
    assert!(text.ends_with('\n'), "the last line ends");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a help has words");
            assert!(helped.insert(name.to_owned()) && words.ends_with('.'), "{line}");
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type has a name");
            assert!(["gauge", "counter"].contains(&kind) && helped.contains(name), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(typed.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}: twice");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(name.starts_with("salon_") && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'), "{line}");
        assert_eq!(typed.keys().last().map(|_| typed.contains_key(name)), Some(true), "{line}: no type was said");
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            assert!(key.bytes().all(|c| c.is_ascii_lowercase()) && !key.is_empty(), "{line}");
            assert!(value.is_some_and(|value| !value.contains(['"', '\\', '\n'])), "{line}");
        }
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(value >= 0.0, "{line}");
        assert!(samples.insert(series.to_owned(), value).is_none(), "{line}: twice");
    }
    samples
}

/// Whoever holds a connection open and says nothing, too little or too slowly loses it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_callers_are_shown_out() {
    let door = Door::open().await;
    let address = door.address;
    let silent = held(address, b"", None);
    let half_a_line = held(address, b"GET / HT", None);
    let half_a_head = held(address, b"GET / HTTP/1.1\r\nHost: x\r\nX-A", None);
    let half_a_preface = held(address, b"PRI * HTTP/2.0\r\n\r\nS", None);
    let idle = held(address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", None);
    let dribbling_head = held(address, b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", Some(b"x"));
    let head = format!("POST {HOOK} HTTP/1.1\r\nHost: x\r\n{}: {HEADER}\r\nContent-Length: 1000\r\n\r\n{{", SECRET.0);
    let dribbling_body = held(address, head.as_bytes(), Some(b" "));
    // Others are served meanwhile.
    let served = async {
        let answer = door.ask(&get("/healthz", &[])).await;
        assert_eq!(answer.status, 200);
    };
    let (silent, half_a_line, half_a_head, half_a_preface, idle, dribbling_head, dribbling_body, ()) =
        tokio::join!(silent, half_a_line, half_a_head, half_a_preface, idle, dribbling_head, dribbling_body, served);
    assert_eq!(silent.as_deref(), Some(""), "a silent caller");
    assert!(half_a_line.is_some(), "half a line");
    assert!(half_a_head.is_some(), "half a head");
    assert!(half_a_preface.is_some(), "half of HTTP/2's preface");
    assert!(idle.as_deref().is_some_and(|said| said.starts_with("HTTP/1.1 200 ")), "an idle caller: {idle:?}");
    assert!(dribbling_head.is_some(), "a head letter by letter");
    assert!(
        dribbling_body.as_deref().is_some_and(|said| said.starts_with("HTTP/1.1 408 ")),
        "a body letter by letter: {dribbling_body:?}"
    );
    assert_eq!(door.updates().await, 0);
    door.close().await;
}

/// Says `first` and then `again` and again, until the other side hangs up; answers what it said. `None` if it never did.
async fn held(address: SocketAddr, first: &[u8], again: Option<&[u8]>) -> Option<String> {
    let stream = TcpStream::connect(address).await.expect("the door is open");
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(first).await.expect("the first words are taken");
    let dribble = async {
        if let Some(word) = again {
            let mut beat = tokio::time::interval(Duration::from_millis(250));
            while writer.write_all(word).await.is_ok() {
                beat.tick().await;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut said = Vec::new();
    // The longest of the deadlines is fifteen seconds.
    let over = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! {
            // A reset is an end as well.
            ended = reader.read_to_end(&mut said) => drop(ended),
            () = dribble => {}
        }
    });
    over.await.ok()?;
    Some(String::from_utf8_lossy(&said).into_owned())
}

/// What a running Salon writes down at its most talkative holds no secret and nothing of what people said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_keep_secrets_and_conversations_to_themselves() {
    let token = "1001:canary-token-A1b2C3d4E5f6G7h8I9j0K1l2M3n4";
    let words = "canary-words-that-alice-said";
    let folder = tempfile::tempdir().expect("a folder");
    let mock = Mock::start(MockConfig::default()).await.expect("a mock");
    std::fs::write(folder.path().join("bots.yaml"), roster(token).replace("mode: \"off\"", "mode: embedded"))
        .expect("a list of bots");
    let mut child = Child::start(folder.path(), mock.base_url());
    let address = child.address().await;
    let said = |text: &str| {
        let text = text.to_owned();
        mock.wait_for_texts(token, 9001, move |texts| texts.iter().any(|said| said.contains(&text)))
    };
    // Everything that may go wrong on the way to Telegram, one after the other.
    for (n, mode) in ["status:500", "garbage", "html", "rst", "drop_before", "429:1", "status:404"].iter().enumerate() {
        mock.add_fault(Fault::new("editMessageText", mode).times(1)).expect("a fault");
        let question = format!("{words} {n}");
        mock.says(token, 9001, 9001, &question);
        tokio::time::timeout(PATIENCE, said(&question)).await.unwrap_or_else(|_| panic!("no answer after {mode}"));
    }
    let body = update(100, &format!("{words} by webhook"));
    for asked in [
        post(HOOK, &[SECRET], &body),
        post(HOOK, &[("X-Telegram-Bot-Api-Secret-Token", "wrong")], &body),
        post(HOOK, &[SECRET], words.as_bytes()),
        post(&format!("/tg/{PATH}"), &[SECRET], &update(101, words)),
        get(&format!("/nothing/{PATH}?{HEADER}"), &[SECRET]),
    ] {
        ask(address, &asked).await;
    }
    let poison = json!({"update_id": 102, "message": {"message_id": words, "chat": {"id": 9001}, "text": words}});
    assert_eq!(ask(address, &post(HOOK, &[SECRET], poison.to_string().as_bytes())).await.status, 200);
    tokio::time::timeout(PATIENCE, said("by webhook")).await.expect("an answer");
    // And then Telegram is gone altogether.
    mock.shutdown().await.expect("the mock ends");
    child.wrote("Telegram cannot be reached").await;
    let log = child.end().await;
    assert!(log.contains("DEBUG") && log.contains("answered"), "the log is not at its most talkative:\n{log}");
    for secret in [token, "canary-token", PATH, HEADER, "canary-words"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log holds {secret}");
    }
}

/// A Salon in a process of its own.
struct Child {
    process: tokio::process::Child,
    log: std::path::PathBuf,
}

impl Child {
    fn start(folder: &Path, telegram: &str) -> Child {
        let log = folder.join("log");
        let file = std::fs::File::create(&log).expect("a log");
        #[expect(clippy::disallowed_methods, reason = "starts the program that was built")]
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_salon"));
        let process = command
            .args(["serve", "--listen", "127.0.0.1:0", "--bots", "bots.yaml", "--data", "data"])
            .current_dir(folder)
            .env_clear()
            .env("RUST_LOG", "debug")
            .env("TELEGRAM_API_BASE_URL", telegram)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .expect("salon can be started");
        Child { process, log }
    }

    /// Where it listens, once it says so.
    async fn address(&mut self) -> SocketAddr {
        let line = self.wrote("listening address=").await;
        line.rsplit('=').next().and_then(|word| word.trim().parse().ok()).expect("an address")
    }

    /// The first line with these words, once it is written.
    async fn wrote(&mut self, words: &str) -> String {
        let found = async {
            loop {
                let log = std::fs::read_to_string(&self.log).expect("a log");
                if let Some(line) = log.lines().find(|line| line.contains(words)) {
                    return line.to_owned();
                }
                if let Ok(Some(status)) = self.process.try_wait() {
                    panic!("salon ended with {status}:\n{log}");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("salon never wrote: {words}"))
    }

    /// Asks it to end, and answers all it wrote.
    async fn end(mut self) -> String {
        let pid = self.process.id().and_then(|id| rustix::process::Pid::from_raw(id.try_into().ok()?));
        rustix::process::kill_process(pid.expect("it runs"), rustix::process::Signal::TERM).expect("it can be asked");
        let status = tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("it ends").expect("a status");
        assert!(status.success(), "salon ended with {status}");
        std::fs::read_to_string(&self.log).expect("a log")
    }
}
