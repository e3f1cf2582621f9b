//! The OpenAI engine against real HTTP on loopback: servers as they are documented, and servers as they misbehave.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response, StatusCode};
use axum::serve::ListenerExt;
use bytes::Bytes;
use salon_core::{Brief, Event, Message, Note, Role, TurnId, Usage};
use salon_engine::upstream::Settings;
use salon_engine::{Emitter, Engine, EngineError, OpenAi, OpenAiSpec, Secret, Spec, build};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

const FIXTURES: [(&str, &str); 10] = [
    ("openai", include_str!("fixtures/openai.sse")),
    ("openai-refusal", include_str!("fixtures/openai-refusal.sse")),
    ("vllm", include_str!("fixtures/vllm.sse")),
    ("ollama", include_str!("fixtures/ollama.sse")),
    ("openrouter", include_str!("fixtures/openrouter.sse")),
    ("openrouter-error", include_str!("fixtures/openrouter-error.sse")),
    ("deepseek", include_str!("fixtures/deepseek.sse")),
    ("azure", include_str!("fixtures/azure.sse")),
    ("llamacpp", include_str!("fixtures/llamacpp.sse")),
    ("mistral", include_str!("fixtures/mistral.sse")),
];

fn fixture(name: &str) -> &'static str {
    FIXTURES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text).expect("a fixture")
}

// ---- the server ----

/// One response, in the order of what happens.
#[derive(Clone, Debug)]
struct Play {
    status: u16,
    headers: Vec<(&'static str, String)>,
    pieces: VecDeque<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Bytes(Bytes),
    /// Waits until the test opens the gate.
    Gate(Gate),
    /// The same bytes every few milliseconds, for ever.
    Drip(&'static str),
    /// Never anything again.
    Hang,
    /// The connection breaks.
    Cut,
}

#[derive(Clone, Debug)]
struct Gate(Arc<Semaphore>);

impl Gate {
    fn new() -> Gate {
        Gate(Arc::new(Semaphore::new(0)))
    }

    fn open(&self) {
        self.0.add_permits(1);
    }

    async fn pass(&self) {
        self.0.acquire().await.expect("gates are never closed").forget();
    }
}

impl Play {
    fn new(pieces: impl IntoIterator<Item = Piece>) -> Play {
        let headers = vec![("content-type", "text/event-stream".to_owned())];
        Play { status: 200, headers, pieces: pieces.into_iter().collect() }
    }

    fn stream(body: impl Into<Bytes>) -> Play {
        Play::new([Piece::Bytes(body.into())])
    }

    /// The body in pieces of `size` bytes.
    fn chunked(body: &str, size: usize) -> Play {
        Play::new(body.as_bytes().chunks(size).map(|chunk| Piece::Bytes(Bytes::copy_from_slice(chunk))))
    }

    fn status(status: u16, body: &str) -> Play {
        let headers = vec![("content-type", "application/json".to_owned())];
        Play { status, headers, pieces: [Piece::Bytes(Bytes::copy_from_slice(body.as_bytes()))].into() }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Play {
        self.headers.push((name, value.into()));
        self
    }
}

#[derive(Debug)]
struct Seen {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Value,
}

/// Plays its plays in order, one to a request, and remembers what it was asked.
struct Server {
    base_url: String,
    stage: Arc<Stage>,
    serving: tokio::task::JoinHandle<io::Result<()>>,
}

struct Stage {
    plays: Mutex<VecDeque<Play>>,
    seen: Mutex<Vec<Seen>>,
    /// A permit for each response body that the client let go of or read to its end.
    left: Semaphore,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    async fn start(plays: impl IntoIterator<Item = Play>) -> Server {
        Server::start_with(plays, |_| {}).await
    }

    /// A server whose connections end in RST and not in FIN.
    async fn start_rude(plays: impl IntoIterator<Item = Play>) -> Server {
        Server::start_with(plays, |io| io.set_zero_linger().expect("a socket option")).await
    }

    async fn start_with(
        plays: impl IntoIterator<Item = Play>,
        tap: impl FnMut(&mut tokio::net::TcpStream) + Send + 'static,
    ) -> Server {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let stage = Arc::new(Stage {
            plays: Mutex::new(plays.into_iter().collect()),
            seen: Mutex::new(Vec::new()),
            left: Semaphore::new(0),
        });
        let router = Router::new().fallback(play).with_state(stage.clone());
        let serving = tokio::spawn(axum::serve(listener.tap_io(tap), router).into_future());
        Server { base_url, stage, serving }
    }

    fn spec(&self) -> OpenAiSpec {
        OpenAiSpec { model: Some("tiny".into()), settings: quick(), ..OpenAiSpec::new(&self.base_url) }
    }

    fn engine(&self) -> OpenAi {
        OpenAi::new(self.spec()).expect("a good spec")
    }

    fn requests(&self) -> usize {
        self.stage.seen.lock().expect("no panic").len()
    }

    fn bodies(&self) -> Vec<Value> {
        self.stage.seen.lock().expect("no panic").iter().map(|seen| seen.body.clone()).collect()
    }

    async fn left(&self) {
        self.stage.left.acquire().await.expect("never closed").forget();
    }
}

async fn play(State(stage): State<Arc<Stage>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let seen = Seen { method: parts.method, path: parts.uri.to_string(), headers: parts.headers, body };
    stage.seen.lock().expect("no panic").push(seen);
    let next = stage.plays.lock().expect("no panic").pop_front();
    let Some(play) = next else {
        return Response::builder().status(StatusCode::IM_A_TEAPOT).body(Body::empty()).expect("a response");
    };
    let mut response = Response::builder().status(play.status);
    for (name, value) in &play.headers {
        response = response.header(*name, value);
    }
    let performance = Performance { pieces: play.pieces, stage };
    let stream = futures_util::stream::unfold(performance, |mut performance| async move {
        Some((performance.next().await?, performance))
    });
    response.body(Body::from_stream(stream)).expect("a response")
}

struct Performance {
    pieces: VecDeque<Piece>,
    stage: Arc<Stage>,
}

impl Drop for Performance {
    fn drop(&mut self) {
        self.stage.left.add_permits(1);
    }
}

impl Performance {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            match self.pieces.pop_front()? {
                Piece::Bytes(bytes) => return Some(Ok(bytes)),
                Piece::Gate(gate) => gate.pass().await,
                Piece::Drip(drop) => {
                    self.pieces.push_front(Piece::Drip(drop));
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    return Some(Ok(Bytes::from_static(drop.as_bytes())));
                }
                Piece::Hang => match std::future::pending::<Infallible>().await {},
                Piece::Cut => return Some(Err(io::Error::other("cut"))),
            }
        }
    }
}

// ---- asking ----

/// Patience for tests: long enough for a busy machine, short enough to wait for.
fn quick() -> Settings {
    Settings {
        connect: Duration::from_secs(2),
        first_event: Duration::from_secs(10),
        idle: Duration::from_secs(10),
        total: Duration::from_secs(20),
        back_off: Duration::from_millis(2),
        ..Settings::default()
    }
}

fn brief() -> Brief {
    Brief {
        turn: TurnId::new("01JTURN"),
        instructions: "Be brief.".into(),
        history: vec![
            Message { role: Role::User, text: "Hello".into() },
            Message { role: Role::Assistant, text: "Hi!".into() },
        ],
        question: "Why do storks stand on one leg?".into(),
        thread: None,
    }
}

/// What a listener heard, in a form that can be compared.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    text: String,
    reasoning: String,
    usage: Option<Usage>,
    outcome: Result<(), EngineError>,
}

impl Heard {
    fn code(&self) -> &'static str {
        match &self.outcome {
            Ok(()) => "ok",
            Err(EngineError::Stopped) => "stopped",
            Err(EngineError::Failed { code, .. }) => code,
        }
    }

    /// `text | reasoning | in/out flags | code`
    fn line(&self) -> String {
        let usage = self.usage.as_ref().map_or("-".to_owned(), |usage| {
            let flags = [("estimated", usage.estimated), ("suspect", usage.suspect)];
            let flags = flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| format!(" {name}"));
            format!("{}/{}{}", usage.tokens_in, usage.tokens_out, flags.collect::<String>())
        });
        format!("{} | {} | {usage} | {}", self.text, self.reasoning, self.code())
    }
}

async fn ask(engine: &dyn Engine) -> Heard {
    ask_until(engine, usize::MAX, || {}).await
}

/// Calls `reached` once `events` texts and notes were heard.
async fn ask_until(engine: &dyn Engine, events: usize, reached: impl FnOnce()) -> Heard {
    let (mut out, receiver) = Emitter::channel(256, CancellationToken::new());
    let brief = brief();
    let answer = async {
        let outcome = engine.answer(&brief, &mut out).await;
        drop(out);
        outcome
    };
    let (outcome, mut heard) = tokio::join!(answer, listen(receiver, events, reached));
    heard.outcome = outcome;
    heard
}

async fn listen(mut receiver: mpsc::Receiver<Event>, events: usize, reached: impl FnOnce()) -> Heard {
    let mut heard = Heard { text: String::new(), reasoning: String::new(), usage: None, outcome: Ok(()) };
    let mut reached = Some(reached);
    let mut count = 0;
    loop {
        if count == events
            && let Some(reached) = reached.take()
        {
            reached();
        }
        match receiver.recv().await {
            Some(Event::Text { text }) => heard.text.push_str(&text),
            Some(Event::Note(Note::Reasoning { text })) => heard.reasoning.push_str(&text),
            Some(Event::Usage(usage)) => heard.usage = Some(usage),
            Some(other) => panic!("an unexpected event: {other:?}"),
            None => return heard,
        }
        count += 1;
    }
}

fn delta(text: &str) -> String {
    format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] }))
}

fn end() -> String {
    format!(
        "data: {}\n\ndata: [DONE]\n\n",
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] })
    )
}

fn usage(claim: Value) -> String {
    format!("data: {}\n\n", json!({ "choices": [], "usage": claim }))
}

fn piece(text: impl Into<String>) -> Piece {
    Piece::Bytes(Bytes::from(text.into()))
}

async fn answers(play: Play) -> String {
    let server = Server::start([play]).await;
    ask(&server.engine()).await.line()
}

// ---- servers as they are ----

#[tokio::test]
async fn every_known_server_is_understood() {
    for (name, expected) in [
        ("openai", "Storks stand on one leg to keep warm. |  | 34/10 | ok"),
        ("openai-refusal", "I'm sorry, I can't help with that. |  | 34/9 | ok"),
        ("vllm", "황새는 체온을 지키려고 한쪽 다리로 서요. |  | 35/10 | ok"),
        ("ollama", "They are saving heat, mostly. |  | 33/8 | ok"),
        ("openrouter", "Аисты так греют лапы. | A stork question. Easy. | 36/17 | ok"),
        ("openrouter-error", "Storks are |  | 30/3 estimated | upstream_busy"),
        ("deepseek", "One leg loses less heat than two. | The user asks about storks. Heat loss. | 32/18 | ok"),
        ("azure", "Because two legs would be |  | 34/5 | ok"),
        ("llamacpp", "Balance, and warmth. |  | 37/6 | ok"),
        ("mistral", "To rest the other. | Birds again. | 33/9 | ok"),
    ] {
        assert_eq!(answers(Play::stream(fixture(name))).await, expected, "{name}");
    }
}

#[tokio::test]
async fn how_a_server_cuts_its_bytes_makes_no_difference() {
    for (name, body) in FIXTURES {
        let whole = answers(Play::stream(body)).await;
        for size in [1, 7, 64, 1000] {
            assert_eq!(answers(Play::chunked(body, size)).await, whole, "{name} in pieces of {size}");
        }
    }
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood_whatever_it_calls_its_body() {
    let body = include_str!("fixtures/whole.json");
    for play in [Play::status(200, body), Play::stream(format!("\n  {body}")), Play::chunked(body, 5)] {
        assert_eq!(answers(play).await, "For warmth. | Hm. | 34/4 | ok");
    }
    // And the other way round: a stream that calls itself JSON.
    assert_eq!(answers(Play::status(200, fixture("openai"))).await, answers(Play::stream(fixture("openai"))).await);
}

#[tokio::test]
async fn the_question_is_sent_with_its_history_key_and_turn() {
    let server = Server::start([Play::stream(fixture("openai"))]).await;
    let spec = OpenAiSpec {
        api_key: Some(Secret::new("sk-parrot")),
        temperature: Some(0.5),
        max_tokens: Some(256),
        ..server.spec()
    };
    let engine = build(&Spec::OpenAi(spec)).expect("a good spec");
    assert_eq!(ask(engine.as_ref()).await.outcome, Ok(()));
    let seen = server.stage.seen.lock().expect("no panic");
    let [seen] = seen.as_slice() else { panic!("one request") };
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(seen.headers["authorization"], "Bearer sk-parrot");
    assert_eq!(seen.headers["idempotency-key"], "01JTURN");
    assert_eq!(seen.headers["content-type"], "application/json");
    assert_eq!(
        seen.body,
        json!({
            "model": "tiny",
            "messages": [
                { "role": "system", "content": "Be brief." },
                { "role": "user", "content": "Hello" },
                { "role": "assistant", "content": "Hi!" },
                { "role": "user", "content": "Why do storks stand on one leg?" },
            ],
            "stream": true,
            "stream_options": { "include_usage": true },
            "temperature": 0.5,
            "max_tokens": 256,
        }),
    );
}

#[tokio::test]
async fn without_a_key_none_is_sent_and_a_base_url_keeps_its_query() {
    let server = Server::start([Play::stream(fixture("azure"))]).await;
    let base_url = format!("{}/deployments/a%2Fb/?api-version=1", server.base_url);
    let engine = OpenAi::new(OpenAiSpec { base_url, api_key: Some(Secret::new("")), ..server.spec() }).expect("a spec");
    ask(&engine).await;
    let seen = server.stage.seen.lock().expect("no panic");
    assert_eq!(seen[0].path, "/v1/deployments/a%2Fb/chat/completions?api-version=1");
    assert!(!seen[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_server_that_does_not_know_an_option_is_asked_without_it_and_remembered() {
    let refusal = |param: &str| {
        let message = format!("Unsupported parameter: '{param}' is not supported with this model.");
        Play::status(400, &json!({ "error": { "message": message, "param": param } }).to_string())
    };
    let server = Server::start([
        refusal("stream_options"),
        refusal("max_completion_tokens"),
        refusal("temperature"),
        Play::stream(fixture("ollama")),
        Play::stream(fixture("ollama")),
    ])
    .await;
    let spec = OpenAiSpec { temperature: Some(0.0), max_tokens: Some(64), ..server.spec() };
    let engine = OpenAi::new(spec).expect("a good spec");
    assert_eq!(ask(&engine).await.outcome, Ok(()));
    assert_eq!(ask(&engine).await.outcome, Ok(()));
    let keys = |body: &Value| {
        let names = ["stream_options", "temperature", "max_tokens", "max_completion_tokens"];
        names.into_iter().filter(|name| body.get(name).is_some()).collect::<Vec<_>>().join(" ")
    };
    let sent: Vec<_> = server.bodies().iter().map(keys).collect();
    assert_eq!(
        sent,
        [
            "stream_options temperature max_tokens",
            "temperature max_tokens",
            "temperature max_completion_tokens",
            "max_completion_tokens",
            "max_completion_tokens",
        ],
    );
}

#[tokio::test]
async fn a_server_that_complains_about_an_option_twice_is_believed_once() {
    let refusal = Play::status(400, r#"{"error":"stream_options: unknown field"}"#);
    let server = Server::start([refusal.clone(), refusal]).await;
    assert_eq!(ask(&server.engine()).await.code(), "upstream_refused");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn without_a_model_the_first_that_the_server_lists_is_asked() {
    let list = r#"{"object":"list","data":[{"id":"first","object":"model"},{"id":"second","object":"model"}]}"#;
    let server =
        Server::start([Play::status(200, list), Play::stream(fixture("openai")), Play::stream(fixture("openai"))])
            .await;
    let engine = OpenAi::new(OpenAiSpec { model: None, ..server.spec() }).expect("a good spec");
    let heard = ask(&engine).await;
    assert_eq!(heard.usage.and_then(|usage| usage.model), Some("first".to_owned()));
    assert_eq!(ask(&engine).await.outcome, Ok(()));
    let seen = server.stage.seen.lock().expect("no panic");
    let paths: Vec<_> = seen.iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
    assert_eq!(paths, ["GET /v1/models", "POST /v1/chat/completions", "POST /v1/chat/completions"]);
    assert_eq!(seen[2].body["model"], "first");
}

#[tokio::test]
async fn models_are_listed_and_faults_on_the_way_are_typed() {
    let list = r#"{"data":[{"id":"b"},{"id":"a"},{"object":"model"}]}"#;
    let server = Server::start([
        Play::status(503, ""),
        Play::status(200, list),
        Play::status(200, r#"{"data":[]}"#),
        Play::status(200, "<html>"),
        Play::status(401, ""),
    ])
    .await;
    let engine = OpenAi::new(OpenAiSpec { model: None, ..server.spec() }).expect("a good spec");
    assert_eq!(engine.list_models().await, Ok(vec!["b".to_owned(), "a".to_owned()]));
    assert_eq!(ask(&engine).await.line(), " |  | - | upstream_refused");
    let code = |outcome: Result<_, EngineError>| match outcome {
        Err(EngineError::Failed { code, .. }) => code,
        _ => "ok",
    };
    assert_eq!(code(engine.list_models().await), "upstream_garbled");
    assert_eq!(code(engine.list_models().await), "upstream_auth");
}

#[test]
fn what_cannot_be_a_base_url_or_a_key_is_refused_without_repeating_it() {
    for base_url in ["", "localhost:8000", "ftp://example.invalid", "http://user:hunter2@example.invalid/v1", "http://"]
    {
        let error = OpenAi::new(OpenAiSpec::new(base_url)).expect_err(base_url);
        assert!(!format!("{error:#}").contains("hunter2"));
    }
    let spec = OpenAiSpec { api_key: Some(Secret::new("line\nbreak")), ..OpenAiSpec::new("http://127.0.0.1:1") };
    let error = OpenAi::new(spec.clone()).expect_err("no key has a line break");
    assert!(!format!("{error:?}{spec:?}").contains("break\""), "{error:?} {spec:?}");
}

// ---- statuses and retries ----

#[tokio::test]
async fn a_status_that_will_not_change_is_reported_at_once() {
    for (status, body, code) in [
        (401, "{}", "upstream_auth"),
        (403, "{}", "upstream_auth"),
        (400, "{}", "upstream_refused"),
        (404, "{}", "upstream_refused"),
        (422, "not json", "upstream_refused"),
        (400, r#"{"error":{"code":"context_length_exceeded"}}"#, "upstream_refused"),
        (429, r#"{"error":{"code":"insufficient_quota"}}"#, "upstream_limit"),
    ] {
        let server = Server::start([Play::status(status, body)]).await;
        let heard = ask(&server.engine()).await;
        assert_eq!(heard.line(), format!(" |  | - | {code}"), "{status} {body}");
        assert_eq!(server.requests(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_passing_status_is_tried_again() {
    for status in [429, 500, 502, 503, 504, 529] {
        let server = Server::start([Play::status(status, "{}"), Play::stream(fixture("openai"))]).await;
        assert_eq!(ask(&server.engine()).await.code(), "ok", "{status}");
        assert_eq!(server.requests(), 2);
        let seen = server.stage.seen.lock().expect("no panic");
        assert!(seen.iter().all(|seen| seen.headers["idempotency-key"] == "01JTURN"), "every try is the same turn");
    }
}

#[tokio::test]
async fn a_retry_waits_as_long_as_it_was_asked_to() {
    let busy = Play::status(429, "{}").header("retry-after", "0.15");
    let server = Server::start([busy, Play::stream(fixture("openai"))]).await;
    let began = tokio::time::Instant::now();
    assert_eq!(ask(&server.engine()).await.code(), "ok");
    // The clock can only be late, so this holds on any machine.
    assert!(began.elapsed() >= Duration::from_millis(150));
    let patience = Play::status(429, "{}").header("retry-after", "3600");
    let server = Server::start([patience]).await;
    assert_eq!(ask(&server.engine()).await.line(), " |  | - | upstream_limit");
    assert_eq!(server.requests(), 1, "nobody waits for an hour");
}

#[tokio::test]
async fn three_tries_are_all_and_five_failures_in_a_row_are_enough() {
    let server = Server::start(std::iter::repeat_n(Play::status(500, "{}"), 9)).await;
    let engine = server.engine();
    assert_eq!(ask(&engine).await.line(), " |  | - | upstream_busy");
    assert_eq!(server.requests(), 3);
    assert_eq!(ask(&engine).await.code(), "upstream_busy");
    assert_eq!(server.requests(), 5, "the fifth opened the breaker");
    let heard = ask(&engine).await;
    assert_eq!(heard.outcome, Err(salon_engine::upstream::Fault::Resting.into()));
    assert_eq!(server.requests(), 5, "it is left alone");
}

#[tokio::test]
async fn an_upstream_that_is_not_there_cannot_be_reached() {
    let server = Server::start([]).await;
    let engine = server.engine();
    let address = server.base_url["http://".len()..].trim_end_matches("/v1").to_owned();
    drop(server);
    // Wait until the port is closed for good.
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let heard = ask(&engine).await;
    assert_eq!(heard.line(), " |  | - | upstream_unreachable");
    let Err(error) = heard.outcome else { panic!("it failed") };
    assert!(!error.to_string().contains("127.0.0.1"), "no addresses: {error}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = Server::start([Play::stream(fixture("openai"))]).await;
    let server =
        Server::start([Play::status(307, "").header("location", format!("{}/chat/completions", target.base_url))])
            .await;
    assert_eq!(ask(&server.engine()).await.code(), "upstream_refused");
    assert_eq!(target.requests(), 0);
}

// ---- deadlines ----

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = format!("http://{}", listener.local_addr().expect("an address"));
    let settings = Settings { first_event: Duration::from_millis(150), ..quick() };
    let spec = OpenAiSpec { model: Some("tiny".into()), settings, ..OpenAiSpec::new(base_url) };
    let heard = ask(&OpenAi::new(spec).expect("a good spec")).await;
    assert_eq!(heard.line(), " |  | 30/0 estimated | upstream_timeout", "the prompt may have to be paid for");
}

#[tokio::test]
async fn a_silence_is_measured_by_events_and_not_by_bytes() {
    let first = Settings { first_event: Duration::from_millis(150), ..quick() };
    let idle = Settings { idle: Duration::from_millis(150), ..quick() };
    let total = Settings { total: Duration::from_millis(700), ..quick() };
    let hello = delta("Hello");
    for (settings, pieces, text) in [
        (&first, vec![Piece::Hang], ""),
        (&first, vec![Piece::Drip("x")], ""),
        (&first, vec![Piece::Drip(" ")], ""),
        (&first, vec![piece("{"), Piece::Drip(" ")], ""),
        (&idle, vec![piece(hello.as_str()), Piece::Hang], "Hello"),
        (&idle, vec![piece(hello.as_str()), Piece::Drip("data: x")], "Hello"),
        (&idle, vec![piece(hello.as_str()), Piece::Drip(": still here\n\n")], "Hello"),
        (&idle, vec![piece(hello.as_str()), Piece::Drip("\n")], "Hello"),
        // Events keep coming, but not for ever.
        (&total, vec![piece(hello.as_str()), Piece::Drip("data: {}\n\n")], "Hello"),
        // A comment before the first event says that the question is waiting; even that ends.
        (&total, vec![Piece::Drip(": queued\n\n")], ""),
    ] {
        let server = Server::start([Play::new(pieces.clone())]).await;
        let settings = Settings { tries: 1, ..settings.clone() };
        let settings = match pieces.first() {
            Some(Piece::Bytes(bytes)) if bytes.as_ref() == b"{" => Settings { idle: settings.first_event, ..settings },
            _ => settings,
        };
        let engine = OpenAi::new(OpenAiSpec { settings, ..server.spec() }).expect("a good spec");
        let heard = ask(&engine).await;
        assert_eq!((heard.code(), heard.text.as_str()), ("upstream_timeout", text), "{pieces:?}");
        assert!(heard.usage.is_some_and(|usage| usage.estimated), "{pieces:?}");
        server.left().await;
    }
}

#[tokio::test]
async fn comments_before_the_first_event_keep_a_question_alive() {
    let gate = Gate::new();
    let pieces = [piece(": OPENROUTER PROCESSING\n\n"), Piece::Gate(gate.clone()), piece(delta("Hi") + &end())];
    let server = Server::start([Play::new(pieces)]).await;
    gate.open();
    assert_eq!(ask(&server.engine()).await.line(), "Hi |  | 30/1 estimated | ok");
}

#[tokio::test]
async fn an_answer_that_is_complete_does_not_wait_for_an_end_that_never_comes() {
    let done = delta("Hi") + &end();
    let finished = done.replace("data: [DONE]\n\n", "");
    let settings = Settings { idle: Duration::from_millis(150), ..quick() };
    for (body, end) in [
        (&done, vec![Piece::Hang]),
        (&done, vec![Piece::Cut]),
        (&finished, vec![Piece::Hang]),
        (&finished, vec![Piece::Cut]),
        (&finished, vec![]),
        (&delta("Hi"), vec![piece("data: [DONE]\n\n")]),
    ] {
        let gate = Gate::new();
        let pieces = [piece(body.as_str()), Piece::Gate(gate.clone())].into_iter().chain(end.clone());
        let server = Server::start([Play::new(pieces)]).await;
        let engine = OpenAi::new(OpenAiSpec { settings: settings.clone(), ..server.spec() }).expect("a good spec");
        let heard = ask_until(&engine, 1, || gate.open()).await;
        assert_eq!(heard.line(), "Hi |  | 30/1 estimated | ok", "{body:?} {end:?}");
        server.left().await;
    }
}

// ---- cuts ----

#[tokio::test]
async fn a_cut_keeps_what_was_shown_and_is_not_asked_again() {
    let words: Vec<_> = (0..12).map(|n| format!("w{n} ")).collect();
    for rude in [false, true] {
        for after in [1, 10, words.len()] {
            let mut pieces = Vec::new();
            // Each word is an event of its own: the next one is sent only when the one before was heard.
            let gates: Vec<_> = (0..after).map(|_| Gate::new()).collect();
            for (word, gate) in words.iter().zip(&gates) {
                pieces.extend([piece(delta(word)), Piece::Gate(gate.clone())]);
            }
            pieces.extend([piece("data: {\"choi"), Piece::Cut]);
            gates[..after - 1].iter().for_each(Gate::open);
            let plays = [Play::new(pieces), Play::stream(fixture("openai"))];
            let server = if rude { Server::start_rude(plays).await } else { Server::start(plays).await };
            let last = gates[after - 1].clone();
            let heard = ask_until(&server.engine(), 1, move || last.open()).await;
            assert_eq!(heard.code(), "upstream_cut", "rude: {rude}, after {after}");
            assert!(words[..after].concat().starts_with(&heard.text) && !heard.text.is_empty(), "{}", heard.text);
            if !rude {
                assert_eq!(heard.text, words[..after].concat());
            }
            let usage = heard.usage.expect("something was written");
            assert!(usage.estimated && usage.tokens_out > 0, "{usage:?}");
            assert_eq!(server.requests(), 1);
        }
    }
}

#[tokio::test]
async fn a_cut_before_anything_was_shown_is_tried_again() {
    for rude in [false, true] {
        for before in ["", ": hello\n\n", "data: {\"choi"] {
            let plays = [Play::new([piece(before), Piece::Cut]), Play::stream(fixture("openai"))];
            let server = if rude { Server::start_rude(plays).await } else { Server::start(plays).await };
            let heard = ask(&server.engine()).await;
            assert_eq!(heard.text, "Storks stand on one leg to keep warm.", "rude: {rude}, {before:?}");
            assert_eq!(server.requests(), 2);
        }
    }
}

#[tokio::test]
async fn a_stream_that_ends_too_early_is_cut_even_if_the_connection_ends_well() {
    for (body, text) in [
        (String::new(), ""),
        (delta("Sto"), "Sto"),
        (delta("Sto") + "data: {\"choices\":[{\"del", "Sto"),
        (delta("Sto").trim_end().to_owned(), "Sto"),
    ] {
        let server = Server::start(std::iter::repeat_n(Play::stream(body.clone()), 3)).await;
        let heard = ask(&server.engine()).await;
        assert_eq!((heard.code(), heard.text.as_str()), ("upstream_cut", text), "{body:?}");
    }
}

// ---- garbage ----

#[tokio::test]
async fn garbage_is_typed_and_what_came_before_it_stays() {
    let hello = delta("Hello");
    for (name, rest) in [
        ("json", "data: {\"choices\": [}\n\n".to_owned() + &end()),
        ("no object", "data: [1]\n\n".to_owned()),
        ("a long line", format!("data: {}\n\n", "x".repeat(10 << 20))),
        ("plain text", "data: service unavailable\n\n".to_owned()),
    ] {
        let server = Server::start([Play::stream(hello.clone() + &rest)]).await;
        let heard = ask(&server.engine()).await;
        assert_eq!(heard.line(), "Hello |  | 30/2 estimated | upstream_garbled", "{name}");
        assert_eq!(server.requests(), 1);
        server.left().await;
    }
}

#[tokio::test]
async fn a_page_of_html_and_an_empty_answer_are_garbage_too() {
    assert_eq!(answers(Play::status(200, "<!doctype html><p>Log in")).await, " |  | 30/0 estimated | upstream_garbled");
    assert_eq!(answers(Play::status(200, "{\"choices\":")).await, " |  | 30/0 estimated | upstream_garbled");
    assert_eq!(answers(Play::stream(end())).await, " |  | 30/0 estimated | upstream_garbled");
}

#[tokio::test]
async fn bytes_that_are_no_text_do_not_end_an_answer() {
    let mut body = delta("한글 ab").into_bytes();
    let ab = body.windows(2).position(|pair| pair == b"ab").expect("there it is");
    body[ab] = 0xff;
    body.extend(end().into_bytes());
    let pieces = body.chunks(3).map(|chunk| Piece::Bytes(Bytes::copy_from_slice(chunk)));
    let server = Server::start([Play::new(pieces)]).await;
    assert_eq!(ask(&server.engine()).await.text, "한글 \u{fffd}b");
}

#[tokio::test]
async fn a_stream_is_read_whatever_its_line_ends_and_its_done_are() {
    let plain = delta("Hi") + &end();
    for body in [
        plain.replace('\n', "\r\n"),
        plain.replace('\n', "\r"),
        format!("\u{feff}{plain}"),
        plain.replace("data: ", "data:"),
        plain.replace("\n\n", "\n"),
        plain.trim_end().to_owned(),
        format!("{plain}data: [DONE]\n\n"),
        format!("{plain}{}data: nonsense\n\n", delta("never heard")),
        format!("event: message\nid: 1\nretry: 5\n{plain}"),
        format!("event: ping\ndata: pong\n\nevent: ping\ndata: {{}}\n\n{plain}"),
        plain.replace("data: [DONE]\n\n", ""),
    ] {
        let server = Server::start([Play::stream(body.clone())]).await;
        assert_eq!(ask(&server.engine()).await.line(), "Hi |  | 30/1 estimated | ok", "{body:?}");
    }
}

#[tokio::test]
async fn an_error_in_the_stream_ends_the_answer_and_its_words_stay_inside() {
    for (error, code) in [
        (json!({ "error": { "message": "secret words", "code": 429 } }), "upstream_limit"),
        (json!({ "error": { "message": "secret words", "type": "server_error" } }), "upstream_busy"),
        (json!({ "error": "secret words" }), "upstream_busy"),
        (json!({ "choices": [{ "delta": {}, "finish_reason": "content_filter" }] }), "upstream_refused"),
    ] {
        let server =
            Server::start([Play::stream(delta("Hello") + &format!("data: {error}\n\ndata: [DONE]\n\n"))]).await;
        let heard = ask(&server.engine()).await;
        assert_eq!(heard.line(), format!("Hello |  | 30/2 estimated | {code}"));
        assert!(!format!("{:?}", heard.outcome).contains("secret"));
        assert_eq!(server.requests(), 1, "it was shown, so it is not asked again");
    }
}

// ---- usage ----

#[tokio::test]
async fn an_upstream_that_lies_about_usage_is_corrected_and_marked() {
    for (claim, expected) in [
        (json!({ "prompt_tokens": 30, "completion_tokens": 3 }), "30/3"),
        (json!({ "prompt_tokens": 0, "completion_tokens": 0 }), "15/1 suspect"),
        (json!({ "prompt_tokens": 30, "completion_tokens": -7 }), "30/1 suspect"),
        (json!({ "prompt_tokens": 9_223_372_036_854_775_808_u64, "completion_tokens": 3 }), "4156/3 suspect"),
        (json!({ "prompt_tokens": 30, "completion_tokens": 105 }), "30/104 suspect"),
        (json!(null), "30/2 estimated"),
    ] {
        let server = Server::start([Play::stream(delta("Hello") + &usage(claim.clone()) + &end())]).await;
        let engine = OpenAi::new(OpenAiSpec { max_tokens: Some(100), ..server.spec() }).expect("a good spec");
        assert_eq!(ask(&engine).await.line(), format!("Hello |  | {expected} | ok"), "{claim}");
    }
}

// ---- stopping ----

#[tokio::test]
async fn stopping_ends_the_request_at_once_and_says_what_it_cost() {
    for pieces in [vec![Piece::Hang], vec![piece(delta("Hello")), Piece::Hang]] {
        let said = pieces.len() == 2;
        let server = Server::start([Play::new(pieces)]).await;
        let engine = server.engine();
        let stop = CancellationToken::new();
        let (mut out, receiver) = Emitter::channel(256, stop.clone());
        let brief = brief();
        let answer = async {
            let outcome = engine.answer(&brief, &mut out).await;
            drop(out);
            outcome
        };
        let stopping = async {
            if !said {
                while server.requests() == 0 {
                    tokio::task::yield_now().await;
                }
                stop.cancel();
            }
        };
        let (outcome, heard, ()) =
            tokio::join!(answer, listen(receiver, if said { 1 } else { usize::MAX }, || stop.cancel()), stopping,);
        assert_eq!(outcome, Err(EngineError::Stopped));
        assert!(heard.usage.is_some_and(|usage| usage.estimated && usage.tokens_in == 30));
        // Resolves only once the server has noticed that nobody listens any more.
        server.left().await;
    }
}

#[tokio::test]
async fn dropping_the_answer_ends_the_request() {
    let server = Server::start([Play::new([piece(delta("Hello")), Piece::Hang])]).await;
    let engine = Arc::new(server.engine());
    let (mut out, mut receiver) = Emitter::channel(256, CancellationToken::new());
    let answering = tokio::spawn(async move { engine.answer(&brief(), &mut out).await });
    assert_eq!(receiver.recv().await, Some(Event::Text { text: "Hello".into() }));
    answering.abort();
    server.left().await;
}

#[tokio::test]
async fn a_stop_is_heard_while_it_waits_for_the_next_try() {
    let server = Server::start([Play::status(429, "{}").header("retry-after", "15")]).await;
    let engine = server.engine();
    let stop = CancellationToken::new();
    let (mut out, receiver) = Emitter::channel(256, stop.clone());
    let brief = brief();
    let answer = async {
        let outcome = engine.answer(&brief, &mut out).await;
        drop(out);
        outcome
    };
    let stopping = async {
        server.left().await;
        stop.cancel();
    };
    let (outcome, heard, ()) = tokio::join!(answer, listen(receiver, usize::MAX, || {}), stopping);
    assert_eq!(outcome, Err(EngineError::Stopped));
    assert_eq!(heard.text, "");
    assert_eq!(server.requests(), 1);
}

// ---- thoughts ----

#[tokio::test]
async fn thoughts_are_told_in_bundles_and_before_the_words_that_follow_them() {
    let thought = |text: &str| format!("data: {}\n\n", json!({ "choices": [{ "delta": { "reasoning": text } }] }));
    let many: String = (0..400).map(|_| thought("thinking. ")).collect();
    let body = many + &delta("So.") + &thought("One more.") + &delta(" Yes.") + &end();
    let server = Server::start([Play::stream(body)]).await;
    let (mut out, mut receiver) = Emitter::channel(1024, CancellationToken::new());
    server.engine().answer(&brief(), &mut out).await.expect("a good answer");
    drop(out);
    let mut told = Vec::new();
    while let Some(event) = receiver.recv().await {
        told.push(match event {
            Event::Note(Note::Reasoning { text }) if text.len() > 20 => {
                assert!(text.len() <= 1034, "{}", text.len());
                "bundle"
            }
            Event::Note(Note::Reasoning { .. }) => "thought",
            Event::Text { .. } => "text",
            _ => "other",
        });
    }
    let bundles = told.iter().filter(|kind| **kind == "bundle").count();
    assert!((4..40).contains(&bundles), "4000 bytes of thoughts in {bundles} bundles");
    let rest: Vec<_> = told.into_iter().filter(|kind| *kind != "bundle").collect();
    assert_eq!(rest, ["text", "thought", "text", "other"]);
}

#[tokio::test]
async fn a_thought_is_told_even_if_nothing_follows_it_for_a_while() {
    let gate = Gate::new();
    let thought = format!("data: {}\n\n", json!({ "choices": [{ "delta": { "reasoning_content": "Hm." } }] }));
    let pieces = [piece(thought), Piece::Gate(gate.clone()), piece(delta("So.") + &end())];
    let server = Server::start([Play::new(pieces)]).await;
    let heard = ask_until(&server.engine(), 1, || gate.open()).await;
    assert_eq!((heard.reasoning.as_str(), heard.text.as_str(), heard.code()), ("Hm.", "So.", "ok"));
}
