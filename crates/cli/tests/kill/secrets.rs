//! Secrets that are planted everywhere and must be found nowhere (I10; T13, T26 to T28): not in an answer, not in a log at
//! its most talkative, not in what a command prints, not in a chat, not in the database's files or its dump.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use salon_mock::Fault;
use salon_mock::upstream::{Trouble, Upstream, UpstreamConfig};
use tokio::time::Instant;

use crate::program::{MASTER_KEY, Start, ask, text};
use crate::raw::{Raw, Script};
use crate::runs::long_patience;
use crate::stage::{BOT, Database, HEADER_SECRET, Intake, PATH_SECRET, Stage, TOKEN, open, tail};

const CHAT: i64 = 4001;
/// Keys that look like nobody's, so that no pattern hides them by luck.
const HOUSE_KEY: &str = "canary.house.key.1f7e2b90";
const VAULT_KEY: &str = "canary.vault.key.77ac03d1";
const JWT_SECRET: &str = "canary.jwt.b6405c2e9d1f48aa7c3e51d20f";
const METRICS_TOKEN: &str = "canary.metrics.token.90ab";
const DATABASE_PASSWORD: &str = "canary.database.password";
/// What people say: it may be in the database and in answers, but in no log.
const WORDS: &str = "canary words of a conversation";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_told_logged_or_stored_on_sqlite() {
    look_everywhere(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_told_logged_or_stored_on_postgres() {
    look_everywhere(Database::Postgres).await;
}

/// Everything that was seen, by where.
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, what: impl Into<Vec<u8>>) {
        self.0.push((place.into(), what.into()));
    }

    /// Where these are found, though they should not be.
    fn find(&self, secrets: &[&str], in_place: impl Fn(&str) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        for (place, bytes) in self.0.iter().filter(|(place, _)| in_place(place)) {
            for secret in secrets {
                let at = memchr_find(bytes, secret.as_bytes());
                found.extend(at.map(|at| {
                    let around = &bytes[at.saturating_sub(200)..(at + 60).min(bytes.len())];
                    format!("{secret} in {place}: …{}…", String::from_utf8_lossy(around))
                }));
            }
        }
        found
    }
}

fn memchr_find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

async fn look_everywhere(database: Database) {
    let mut stage = Stage::set(database, Intake::Webhook).await;
    let password = stage.place.as_mut().map_or_else(|| DATABASE_PASSWORD.to_owned(), password_of);
    let upstream = Upstream::start(UpstreamConfig::default()).await.expect("an upstream");
    let echo = Raw::start().await;
    write_catalog(&stage, &upstream, &echo);
    stage.write_bots("model");
    let mut seen = Seen(Vec::new());
    let base = upstream.base_url();
    let mut start = stage.one();
    start.env.clear();
    for (name, value) in [
        ("RUST_LOG", "trace"),
        ("HOUSE_API_KEY", HOUSE_KEY),
        ("OPENAI_API_KEY", HOUSE_KEY),
        ("OPENAI_BASE_URL", &format!("{base}/v1")),
        ("OPENAI_MODEL", "mock-small"),
        ("JWT_SECRET_KEY", JWT_SECRET),
        ("METRICS_TOKEN", METRICS_TOKEN),
    ] {
        start = start.with(name, value);
    }
    let run = |words: &str, input: &str| run(&stage, &start, words, input);
    let user = run("user add alice --role admin", "");
    let said = run("key add laptop --user alice --quiet", "");
    let key = said.lines().find(|line| line.starts_with("salon_"));
    let key = key.unwrap_or_else(|| panic!("there is no key: {user}\n{said}")).trim().to_owned();
    let stored = run(&format!("secret add vaulted --origin http://{}", echo.address), VAULT_KEY);
    seen.add("salon secret add", stored);

    let mut program = open(&start, stage.port).await;
    call_all_doors(&mut seen, stage.port, &key, &upstream, &echo).await;
    knock_everywhere(&mut seen, stage.port, &key).await;
    talk(&mut seen, &stage, &upstream).await;
    for words in [
        "doctor",
        "upstream list",
        "upstream check",
        "upstream health",
        "model list",
        "key list --all",
        "secret list",
        "keys list",
        "keys check",
        "user list",
        "org list",
        "bot list",
        "secret add vaulted --origin http://x:y@[",
        "upstream set house --key canary",
        "key revoke nobody",
    ] {
        seen.add(format!("salon {words}"), run(words, "canary-unused"));
    }
    program.signal(Signal::TERM);
    let ended = program.ended(Duration::from_secs(30)).await;
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", tail(&start.said()));
    seen.add("the log", start.said());
    dump(&mut seen, &stage, &start);

    // Whoever looks in vain must have been able to find something.
    let spoke = |place: &str, what: &str| !seen.find(&[what], |known| known.starts_with(place)).is_empty();
    assert!(spoke("the log", "TRACE"), "the log says all that it can");
    assert!(spoke("a chat", WORDS), "the chat was had: {}", tail(&start.said()));
    assert!(spoke("the database", WORDS), "the database is looked into");
    assert!(spoke("salon secret list", "vaulted"), "the commands were run");
    let used = echo.heard().into_iter().find(|heard| heard.line.starts_with("POST")).expect("somebody asked");
    assert!(
        used.header("authorization").is_some_and(|key| key.contains(VAULT_KEY)),
        "the vault's key is used: {used:?}"
    );
    assert!(String::from_utf8_lossy(&used.body).contains(WORDS));

    let secrets = [
        HOUSE_KEY,
        VAULT_KEY,
        JWT_SECRET,
        METRICS_TOKEN,
        password.as_str(),
        MASTER_KEY,
        HEADER_SECRET,
        PATH_SECRET,
        TOKEN,
        key.as_str(),
    ];
    let found = seen.find(&secrets, |_| true);
    assert!(found.is_empty(), "{database:?}: {} times:\n{}", found.len(), found.join("\n"));
    let found = seen.find(&[WORDS], |place| place == "the log" || place.starts_with("salon "));
    assert!(found.is_empty(), "{database:?}: what people say is logged:\n{}", found.join("\n"));
}

/// The password in a database's address. A server that asks for none believes any, so it gets one.
fn password_of(place: &mut String) -> String {
    let (who, where_) = place.split_once('@').expect("an address with a user");
    if let Some((_, password)) = who.split_once("://").and_then(|(_, who)| who.split_once(':')) {
        return password.to_owned();
    }
    *place = format!("{who}:{DATABASE_PASSWORD}@{where_}");
    DATABASE_PASSWORD.to_owned()
}

/// A server with the house's key, and one with a key of the vault's.
fn write_catalog(stage: &Stage, upstream: &Upstream, echo: &Raw) {
    let (good, echo) = (upstream.base_url(), echo.address);
    let catalog = format!(
        "[upstreams.house]\nkind = \"openai\"\nbase_url = \"{good}/v1\"\nkey_env = \"HOUSE_API_KEY\"\npatience.tries = 1\n\n\
         [upstreams.echoes]\nkind = \"compatible\"\nprovider = \"vaulted\"\nbase_url = \"http://{echo}/v1\"\nkey = \"vault\"\n\
         patience.tries = 1\npatience.breaker_failures = 1000\n\n\
         [models.good]\nupstream = \"house\"\nmodel = \"mock-small\"\nrates = {{ input = \"1\", output = \"2\" }}\n\n\
         [models.echoing]\nupstream = \"echoes\"\nmodel = \"m\"\nrates = {{ input = \"1\", output = \"2\" }}\n"
    );
    std::fs::write(stage.folder.path().join("salon.toml"), catalog).expect("a catalog");
}

/// What a command prints, however it ends.
fn run(stage: &Stage, start: &Start, words: &str, input: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "this test is about the program as a process")]
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_salon"));
    command.args(words.split(' ')).arg("--data").arg(text(&stage.folder.path().join("one")));
    if words == "doctor" || words.starts_with("bot") {
        command.arg("--bots").arg(text(&stage.bots()));
    }
    if let Some(url) = &stage.place {
        command.args(["--database-url", url]);
    }
    command.env_clear().env("MASTER_KEY", MASTER_KEY).envs(start.env.iter().cloned()).current_dir(&start.folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    child.stdin.take().expect("an input").write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().expect("it ends");
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn call(seen: &mut Seen, port: u16, what: &str, head: &str, body: &str) -> u16 {
    let answer = ask(port, head, body).await.unwrap_or_else(|| panic!("{what}: no answer"));
    seen.add(format!("the answer to {what}"), format!("{}\n\n{}", answer.head, answer.body));
    answer.status
}

/// A question in the words of each door.
fn questions(model: &str, stream: bool) -> [(String, String); 6] {
    let messages = format!(r#"[{{"role":"user","content":"{WORDS}"}}]"#);
    let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    [
        (
            "/v1/chat/completions".to_owned(),
            format!(r#"{{"model":"{model}","stream":{stream},"messages":{messages}}}"#),
        ),
        ("/v1/completions".to_owned(), format!(r#"{{"model":"{model}","stream":{stream},"prompt":"{WORDS}"}}"#)),
        ("/v1/responses".to_owned(), format!(r#"{{"model":"{model}","stream":{stream},"input":"{WORDS}"}}"#)),
        (
            "/v1/messages".to_owned(),
            format!(r#"{{"model":"{model}","stream":{stream},"max_tokens":9,"messages":{messages}}}"#),
        ),
        (
            format!("/v1beta/models/{model}:{method}"),
            format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"{WORDS}"}}]}}]}}"#),
        ),
        ("/v1/embeddings".to_owned(), format!(r#"{{"model":"{model}","input":"{WORDS}"}}"#)),
    ]
}

/// Through every door, to an upstream that answers, one that fails in every way, and one that says back its key.
async fn call_all_doors(seen: &mut Seen, port: u16, key: &str, upstream: &Upstream, echo: &Raw) {
    let mut answered = 0;
    for trouble in ["", "status:401", "status:400", "status:500", "garbage", "html", "bad_frame", "cut:1", "error:1"] {
        upstream.clear_troubles();
        if !trouble.is_empty() {
            upstream.add_trouble(Trouble::new(trouble)).expect("a trouble");
        }
        for stream in [false, true] {
            for (path, body) in questions("good", stream) {
                let head = format!("POST {path} HTTP/1.1\r\nauthorization: Bearer {key}");
                let status = call(seen, port, &format!("{path} with {trouble}"), &head, &body).await;
                answered += usize::from(status == 200 && trouble.is_empty());
            }
        }
    }
    assert_eq!(answered, 12, "every door answers while all is well");
    upstream.clear_troubles();
    let said = format!(
        r#"{{"error":{{"message":"Header Authorization: {VAULT_KEY} is wrong","type":"x","param":"{VAULT_KEY}"}}}}"#
    );
    for status in ["400 Bad Request", "401 Unauthorized", "404 Not Found", "422 Unprocessable", "500 Oops", "200 OK"] {
        for stream in [false, true] {
            for (path, body) in questions("echoing", stream) {
                let script = match stream {
                    true => Script::stream(format!("data: {said}\n\n").as_bytes()).in_pieces(&[40]),
                    false => Script::json(said.as_bytes()),
                };
                echo.say(script.status(status).header(&format!("x-echo: {VAULT_KEY}")));
                let head = format!("POST {path} HTTP/1.1\r\nauthorization: Bearer {key}");
                call(seen, port, &format!("{path} from one who answers {status}"), &head, &body).await;
            }
        }
    }
}

/// Every other route, and what is wrong with requests.
async fn knock_everywhere(seen: &mut Seen, port: u16, key: &str) {
    let mut heads: Vec<String> = Vec::new();
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/models",
        "/v1/models/good",
        "/v1beta/models",
        "/health/readiness",
        "/api/usage",
        "/api/admin/usage/statistics",
        "/api/admin/usage/users",
        "/api/admin/usage/limits",
        "/api/admin/usage/held",
        "/api/admin/upstreams",
        "/api/admin/usage/users/nobody",
        "/no/such/route",
    ] {
        heads.push(format!("GET {path} HTTP/1.1\r\nauthorization: Bearer {key}"));
        heads.push(format!("GET {path} HTTP/1.1\r\nauthorization: Bearer {METRICS_TOKEN}"));
        heads.push(format!("GET {path}?key={key} HTTP/1.1"));
        heads.push(format!("GET {path} HTTP/1.1\r\norigin: https://evil.example"));
    }
    let chat = "POST /v1/chat/completions HTTP/1.1";
    heads.push(format!("{chat}\r\nauthorization: Bearer {key}x"));
    heads.push(format!("{chat}\r\nauthorization: Bearer {key}\r\nx-api-key: {key}"));
    heads.push(format!("{chat}\r\nauthorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.{JWT_SECRET}"));
    heads.push(format!("{chat}\r\nauthorization: Basic {JWT_SECRET}"));
    heads.push(format!("POST /telegram/webhook/{BOT}/{PATH_SECRET} HTTP/1.1"));
    heads.push(format!(
        "POST /telegram/webhook/nobody/{PATH_SECRET} HTTP/1.1\r\nx-telegram-bot-api-secret-token: {HEADER_SECRET}"
    ));
    heads.push(format!("POST /tg/{PATH_SECRET} HTTP/1.1\r\nx-telegram-bot-api-secret-token: {HEADER_SECRET}"));
    for head in heads {
        // What was sent is known to whoever sent it: only what is beside it is of interest.
        let what = format!("request {}", seen.0.len());
        let body = if head.starts_with("POST") { format!(r#"{{"{WORDS}": ["#) } else { String::new() };
        call(seen, port, &what, &head, &body).await;
        let allowed =
            seen.0.last().is_some_and(|(_, said)| memchr_find(said, b"access-control-allow-origin").is_some());
        assert!(!allowed, "{what}: no other site may read this");
    }
}

/// A question in Telegram, one whose model fails, and a Telegram that fails itself.
async fn talk(seen: &mut Seen, stage: &Stage, upstream: &Upstream) {
    let said = |text: &str| stage.mock.says(TOKEN, CHAT, CHAT, text);
    let wait = async |what: &str, found: &(dyn Fn(&str) -> bool + Sync)| {
        let texts = stage.mock.wait_for_texts(TOKEN, CHAT, |texts| texts.iter().any(|text| found(text)));
        let waited = tokio::time::timeout(long_patience(), texts).await;
        assert!(waited.is_ok(), "{what} never comes: {:?}", stage.mock.bot_texts(TOKEN, CHAT));
    };
    said(&format!("[[say:{WORDS}]]"));
    wait("an answer", &|text| text == WORDS).await;
    upstream.add_trouble(Trouble::new("status:401")).expect("a trouble");
    said(WORDS);
    wait("a failure", &|text| text.contains("key")).await;
    upstream.clear_troubles();
    for mode in ["status:500", "status:404", "garbage", "rst", "html"] {
        stage.mock.add_fault(Fault { count: Some(1), ..Fault::new("editMessageText", mode) }).expect("a fault");
    }
    let before = stage.mock.bot_texts(TOKEN, CHAT).iter().filter(|text| *text == WORDS).count();
    said(&format!("[[say:{WORDS}]]"));
    let deadline = Instant::now() + long_patience();
    while stage.mock.bot_texts(TOKEN, CHAT).iter().filter(|text| *text == WORDS).count() == before {
        assert!(Instant::now() < deadline, "no answer in spite of faults: {:?}", stage.mock.bot_texts(TOKEN, CHAT));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    seen.add("a chat", stage.mock.bot_texts(TOKEN, CHAT).join("\n"));
}

/// Everything that the database keeps: its files, or what `pg_dump` says.
fn dump(seen: &mut Seen, stage: &Stage, start: &Start) {
    if let Some(url) = &stage.place {
        #[expect(clippy::disallowed_methods, reason = "the server's own tool")]
        let mut command = std::process::Command::new("pg_dump");
        let output = command.args(["--inserts", "-d", url]).current_dir(&start.folder).output().expect("pg_dump runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        seen.add("the database", output.stdout);
    }
    files(seen, &stage.folder.path().join("one"));
}

fn files(seen: &mut Seen, folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a file").path();
        if path.is_dir() {
            files(seen, &path);
        } else if path.is_file() {
            seen.add(format!("the database's file {}", path.display()), std::fs::read(&path).expect("bytes"));
        }
    }
}
