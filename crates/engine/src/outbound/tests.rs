use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use http::{Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::dial::Network;
use super::*;
use crate::guard::tests::BLOCKED;
use crate::upstream::Fault;

const SECOND: Duration = Duration::from_secs(1);

/// A server of one's own making: each connection is given to the test.
struct Server {
    listener: TcpListener,
    base: Url,
}

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}/", listener.local_addr().expect("an address"));
        Server { listener, base: Url::parse(&base).expect("a URL") }
    }

    async fn accept(&self) -> Conversation {
        // Whoever waits for a connection that does not come has failed; this only says so.
        let accepted = tokio::time::timeout(10 * SECOND, self.listener.accept()).await;
        let (stream, _) = accepted.expect("a connection in time").expect("a connection");
        Conversation { stream: BufReader::new(stream) }
    }
}

struct Conversation {
    stream: BufReader<TcpStream>,
}

impl Conversation {
    /// Reads a request: its head's lines in small letters, and its body.
    async fn hear(&mut self) -> (Vec<String>, Vec<u8>) {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).await.expect("a line") > 0, "the request breaks off");
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_lowercase()),
            }
        }
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
        self.stream.read_exact(&mut body).await.expect("the body");
        (head, body)
    }

    async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("written");
    }

    async fn answer(&mut self, body: &str) {
        self.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    }

    /// Waits until the other side hangs up.
    async fn gone(&mut self) {
        let mut rest = [0; 1];
        assert!(matches!(self.stream.read(&mut rest).await, Ok(0) | Err(_)), "the other side still speaks");
    }
}

fn ask(path: &str, body: &str) -> Ask {
    let uri = format!("http://elsewhere.test{path}").parse().expect("an address");
    Ask { method: Method::POST, uri, headers: HeaderMap::new(), body: Bytes::from(body.to_owned()) }
}

fn deadlines() -> Deadlines {
    Deadlines { connect: 5 * SECOND, head: 20 * SECOND, idle: 20 * SECOND, total: Instant::now() + 60 * SECOND }
}

fn line(server: &Server) -> Arc<Line> {
    Outbound::new().line(&server.base, None, &Reach::Operator)
}

async fn whole(line: &Arc<Line>, path: &str) -> Result<Bytes, Fault> {
    line.send(ask(path, "{}"), &deadlines()).await?.into_body().collect(1 << 20).await
}

/// Begins to ask, and gives the answer to whoever waits for it.
fn asking(line: &Arc<Line>) -> tokio::task::JoinHandle<Result<Bytes, Fault>> {
    let line = line.clone();
    tokio::spawn(async move { whole(&line, "/").await })
}

#[tokio::test]
async fn a_request_arrives_as_it_was_meant_without_what_belongs_to_other_connections() {
    let server = Server::start().await;
    let mut asked = ask("/v1/chat?a=b", "{\"x\": 1}");
    for (name, value) in [
        ("host", "evil.test"),
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("content-length", "9999"),
        ("accept-encoding", "gzip, br"),
        ("x-kept", "yes"),
    ] {
        asked.headers.insert(name, value.parse().expect("a value"));
    }
    let line = line(&server);
    let answer = tokio::spawn(async move { line.send(asked, &deadlines()).await });
    let mut conversation = server.accept().await;
    let (mut head, body) = conversation.hear().await;
    conversation.say("HTTP/1.1 201 Made\r\nx-shown: a\r\nconnection: x-own\r\nx-own: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    assert_eq!(head.remove(0), "post /v1/chat?a=b http/1.1");
    head.sort();
    let host = server.base.authority();
    let user = concat!("user-agent: salon/", env!("CARGO_PKG_VERSION"));
    assert_eq!(head, ["accept-encoding: identity", "content-length: 8", &format!("host: {host}"), user, "x-kept: yes"]);
    assert_eq!(body, b"{\"x\": 1}");
    let answer = answer.await.expect("a task").expect("an answer");
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers().keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["x-shown"]);
    assert_eq!(answer.into_body().collect(10).await.expect("a body"), "ok");
}

#[tokio::test]
async fn a_connection_is_used_again_when_its_answer_was_read() {
    let server = Server::start().await;
    let line = line(&server);
    let first = asking(&line);
    let mut conversation = server.accept().await;
    conversation.hear().await;
    conversation.answer("0").await;
    assert_eq!(first.await.expect("a task").expect("an answer"), "0");
    for (said, expected) in [
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n", "1"),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 500 Oops\r\ncontent-length: 1\r\n\r\n3", "3"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
    ] {
        let next = asking(&line);
        conversation.hear().await;
        conversation.say(said).await;
        assert_eq!(next.await.expect("a task").expect("an answer"), expected);
    }
}

#[tokio::test]
async fn tenants_share_no_connection() {
    let server = Server::start().await;
    let outbound = Outbound::new();
    let house = outbound.line(&server.base, None, &Reach::Operator);
    let alice = outbound.line(&server.base, Some("alice"), &Reach::Operator);
    assert!(Arc::ptr_eq(&house, &outbound.line(&server.base, None, &Reach::Operator)));
    let mut conversations = Vec::new();
    for line in [&house, &alice] {
        let asked = asking(line);
        let mut conversation = server.accept().await;
        conversation.hear().await;
        conversation.answer("hi").await;
        assert_eq!(asked.await.expect("a task").expect("an answer"), "hi");
        conversations.push(conversation);
    }
    // Each goes on with its own.
    for (line, conversation) in [&house, &alice].into_iter().zip(&mut conversations) {
        let asked = asking(line);
        conversation.hear().await;
        conversation.answer("again").await;
        assert_eq!(asked.await.expect("a task").expect("an answer"), "again");
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_in_silence() {
    let server = Server::start().await;
    let line = line(&server);
    for _ in 0..3 {
        let asked = asking(&line);
        let mut conversation = server.accept().await;
        conversation.hear().await;
        conversation.answer("hi").await;
        assert_eq!(asked.await.expect("a task").expect("an answer"), "hi");
        drop(conversation);
    }
}

#[tokio::test]
async fn a_request_that_was_written_is_not_written_twice() {
    let server = Server::start().await;
    let line = line(&server);
    let first = asking(&line);
    let mut conversation = server.accept().await;
    conversation.hear().await;
    conversation.answer("hi").await;
    first.await.expect("a task").expect("an answer");
    let second = asking(&line);
    conversation.hear().await;
    drop(conversation);
    assert_eq!(second.await.expect("a task"), Err(Fault::Cut));
    let third = asking(&line);
    let mut conversation = server.accept().await;
    conversation.hear().await;
    conversation.answer("third").await;
    assert_eq!(third.await.expect("a task").expect("an answer"), "third", "nobody asked in between");
}

#[tokio::test]
async fn dropping_an_answer_hangs_up() {
    let server = Server::start().await;
    let line = line(&server);
    let asked = tokio::spawn({
        let line = line.clone();
        async move { line.send(ask("/", ""), &deadlines()).await }
    });
    let mut conversation = server.accept().await;
    conversation.hear().await;
    conversation.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
    let mut body = asked.await.expect("a task").expect("an answer").into_body();
    assert_eq!(body.next().await.expect("a piece").expect("no fault"), "one");
    drop(body);
    conversation.gone().await;
}

#[tokio::test]
async fn dropping_a_question_hangs_up() {
    let server = Server::start().await;
    let asked = asking(&line(&server));
    let mut conversation = server.accept().await;
    conversation.hear().await;
    asked.abort();
    conversation.gone().await;
}

#[tokio::test]
async fn silence_ends_an_answer_and_so_does_the_last_deadline() {
    let server = Server::start().await;
    let line = line(&server);
    let tight = |idle, total| Deadlines { idle, total: Instant::now() + total, ..deadlines() };
    for (deadlines, expect_by) in [
        (tight(Duration::from_millis(20), 60 * SECOND), None),
        (tight(60 * SECOND, Duration::from_millis(200)), None),
        (tight(60 * SECOND, 60 * SECOND), Some(Duration::from_millis(20))),
    ] {
        let asked = tokio::spawn({
            let line = line.clone();
            async move { line.send(ask("/", ""), &deadlines).await }
        });
        let mut conversation = server.accept().await;
        conversation.hear().await;
        conversation.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
        let mut body = asked.await.expect("a task").expect("an answer").into_body();
        assert_eq!(body.next().await.expect("a piece").expect("no fault"), "one");
        if let Some(pause) = expect_by {
            body.expect_by(Instant::now() + pause);
        }
        assert_eq!(body.next().await, Some(Err(Fault::Timeout)));
        assert_eq!(body.next().await, None, "once is enough");
        conversation.gone().await;
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let server = Server::start().await;
    let patience = Deadlines { head: Duration::from_millis(20), ..deadlines() };
    assert_eq!(line(&server).send(ask("/", ""), &patience).await.map(drop), Err(Fault::Timeout));
}

#[tokio::test]
async fn what_is_no_answer_is_a_fault_of_its_kind() {
    let server = Server::start().await;
    let line = line(&server);
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(70 << 10));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: a\r\n".repeat(200));
    for (said, fault) in [
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", Fault::Garbled),
        (long.as_str(), Fault::Garbled),
        (many.as_str(), Fault::Garbled),
        ("", Fault::Cut),
        ("HTTP/1.1 200 OK\r\nx: a", Fault::Cut),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", Fault::Cut),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhell\r\n", Fault::Cut),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nhell\r\n", Fault::Cut),
    ] {
        let asked = asking(&line);
        let mut conversation = server.accept().await;
        conversation.hear().await;
        // It may have heard enough before all of it is said.
        conversation.stream.write_all(said.as_bytes()).await.ok();
        drop(conversation);
        assert_eq!(asked.await.expect("a task"), Err(fault), "{:?}", &said[..said.len().min(60)]);
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let server = Server::start().await;
    let line = line(&server);
    drop(server);
    assert_eq!(whole(&line, "/").await, Err(Fault::Unreachable));
}

#[tokio::test]
async fn a_connection_that_is_to_be_closed_is_not_kept() {
    let server = Server::start().await;
    let line = line(&server);
    for _ in 0..2 {
        let asked = asking(&line);
        let mut conversation = server.accept().await;
        conversation.hear().await;
        conversation.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi").await;
        assert_eq!(asked.await.expect("a task").expect("an answer"), "hi");
        conversation.gone().await;
    }
}

#[tokio::test]
async fn a_body_is_collected_up_to_its_cap() {
    let server = Server::start().await;
    let line = line(&server);
    for (said, most, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", 5, Ok("hello")),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", 4, Err(Fault::Garbled)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", 5, Ok("hello")),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            4,
            Err(Fault::Garbled),
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 0, Ok("")),
    ] {
        let line = line.clone();
        let asked =
            tokio::spawn(async move { line.send(ask("/", ""), &deadlines()).await?.into_body().collect(most).await });
        let mut conversation = server.accept().await;
        conversation.hear().await;
        conversation.say(said).await;
        conversation.say("").await;
        let collected = asked.await.expect("a task");
        assert_eq!(collected.as_deref(), expected.map(str::as_bytes).as_deref(), "{said:?}");
        // A new connection for each: what was kept is closed.
        drop(conversation);
    }
}

#[tokio::test]
async fn a_peek_takes_what_it_was_told_and_no_more() {
    let server = Server::start().await;
    let line = line(&server);
    for (most, expected) in [(3, "hel"), (100, "hello")] {
        let line = line.clone();
        let asked = tokio::spawn(async move {
            let answer = line.send(ask("/", ""), &deadlines()).await.expect("an answer");
            answer.into_body().peek(most).await
        });
        let mut conversation = server.accept().await;
        conversation.hear().await;
        conversation.answer("hello").await;
        assert_eq!(asked.await.expect("a task"), expected);
        drop(conversation);
    }
}

#[tokio::test]
async fn a_long_body_is_sent_while_the_answer_is_awaited() {
    let server = Server::start().await;
    let line = line(&server);
    let long = "a".repeat(8 << 20);
    let asked = tokio::spawn(async move {
        let answer = line.send(ask("/", &long), &deadlines()).await.expect("an answer");
        answer.into_body().collect(10).await
    });
    let mut conversation = server.accept().await;
    let (_, body) = conversation.hear().await;
    conversation.answer(&body.len().to_string()).await;
    assert_eq!(asked.await.expect("a task").expect("an answer"), (8 << 20).to_string());
}

#[tokio::test]
async fn an_answer_may_come_before_the_question_was_heard() {
    let server = Server::start().await;
    let line = line(&server);
    let asked = tokio::spawn({
        let line = line.clone();
        async move {
            let answer = line.send(ask("/", &"a".repeat(32 << 20)), &deadlines()).await.expect("an answer");
            (answer.status(), answer.into_body().collect(10).await)
        }
    });
    let mut conversation = server.accept().await;
    conversation.say("HTTP/1.1 413 Too Long\r\ncontent-length: 2\r\n\r\nno").await;
    let (status, body) = asked.await.expect("a task");
    assert_eq!((status, body.as_deref()), (StatusCode::PAYLOAD_TOO_LARGE, Ok(&b"no"[..])));
    // What was not said of the one question must not be taken for the next.
    let next = asking(&line);
    let mut another = server.accept().await;
    another.hear().await;
    another.answer("hi").await;
    assert_eq!(next.await.expect("a task").expect("an answer"), "hi");
}

#[tokio::test]
async fn what_comes_before_an_answer_or_ends_it_without_a_word_is_understood() {
    let server = Server::start().await;
    let line = line(&server);
    for (said, expected) in [
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx: y\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello",
            Ok("hello"),
        ),
        ("HTTP/1.0 200 OK\r\n\r\n", Ok("")),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", Err(Fault::Garbled)),
        ("HTTP/1.1 100 Continue\r\n\r\n", Err(Fault::Cut)),
    ] {
        let asked = asking(&line);
        let mut conversation = server.accept().await;
        conversation.hear().await;
        conversation.say(said).await;
        drop(conversation);
        assert_eq!(asked.await.expect("a task"), expected.map(Bytes::from), "{said:?}");
    }
}

#[tokio::test]
async fn what_follows_an_answer_is_not_taken_for_the_next() {
    let server = Server::start().await;
    let line = line(&server);
    for _ in 0..2 {
        let asked = asking(&line);
        let mut conversation = server.accept().await;
        conversation.hear().await;
        conversation
            .say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad")
            .await;
        assert_eq!(asked.await.expect("a task").expect("an answer"), "hi");
        conversation.gone().await;
    }
}

#[tokio::test]
async fn redirects_are_answers_like_any_other() {
    let (server, canary) = (Server::start().await, Canary::start().await);
    let asked = tokio::spawn({
        let line = line(&server);
        async move { line.send(ask("/", ""), &deadlines()).await }
    });
    let mut conversation = server.accept().await;
    conversation.hear().await;
    let there = canary.address;
    conversation.say(&format!("HTTP/1.1 302 Found\r\nlocation: http://{there}/\r\ncontent-length: 0\r\n\r\n")).await;
    assert_eq!(asked.await.expect("a task").expect("an answer").status(), StatusCode::FOUND);
    assert_eq!(canary.hits(), 0);
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let server = Server::start().await;
    let outbound = Outbound::new();
    let line = outbound.line(&server.base, None, &Reach::Operator);
    let asked = asking(&line);
    let mut conversation = server.accept().await;
    conversation.hear().await;
    conversation.answer("hi").await;
    asked.await.expect("a task").expect("an answer");
    drop(line);
    // From here on time passes by itself when there is nothing else to do.
    tokio::time::pause();
    conversation.gone().await;
    tokio::time::sleep(2 * SWEEP_EVERY).await;
    assert_eq!(outbound.lines().open.len(), 0, "nobody holds the line any more");
}

/// Somebody who must never be called.
struct Canary {
    address: SocketAddr,
    heard: Arc<AtomicUsize>,
}

impl Canary {
    async fn start() -> Canary {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let canary = Canary { address: listener.local_addr().expect("an address"), heard: Arc::default() };
        let heard = canary.heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                heard.fetch_add(1, Ordering::SeqCst);
                drop(stream);
            }
        });
        canary
    }

    fn hits(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }
}

/// A network in which every address and every port is the canary's, and which remembers who was called.
struct Trap {
    canary: SocketAddr,
    called: Mutex<HashSet<IpAddr>>,
}

#[async_trait]
impl Network for Trap {
    async fn reach(&self, addresses: &[IpAddr], _port: u16) -> io::Result<TcpStream> {
        self.called.lock().expect("the calls").extend(addresses);
        TcpStream::connect(self.canary).await
    }
}

/// Says one thing and then the other, for every name.
struct Fickle {
    says: [Vec<IpAddr>; 2],
    asked: AtomicUsize,
}

#[async_trait]
impl Resolve for Fickle {
    async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.says[self.asked.fetch_add(1, Ordering::SeqCst) % 2].clone())
    }
}

fn fickle(first: &[&str], second: &[&str]) -> Arc<Fickle> {
    let read = |all: &[&str]| all.iter().map(|text| text.parse().expect("an address")).collect();
    Arc::new(Fickle { says: [read(first), read(second)], asked: AtomicUsize::new(0) })
}

async fn trap(resolver: Arc<Fickle>) -> (Outbound, Arc<Trap>, Canary) {
    let canary = Canary::start().await;
    let trap = Arc::new(Trap { canary: canary.address, called: Mutex::default() });
    let dialer = Dialer { resolver, network: Some(trap.clone()), ..Dialer::new() };
    (Outbound::with(dialer), trap, canary)
}

#[tokio::test(start_paused = true)]
async fn no_spelling_of_a_near_address_reaches_anybody() {
    let (outbound, trap, canary) = trap(fickle(&["127.0.0.1"], &["::1"])).await;
    let reach = Reach::Guarded(Arc::default());
    let mut called = 0;
    for text in BLOCKED {
        // Even if nobody judged the text before.
        let Ok(url) = Url::parse(text) else { continue };
        let line = outbound.line(&url, Some("alice"), &reach);
        let fault = whole(&line, "/").await.expect_err(text);
        assert_eq!(fault, Fault::Blocked, "{text}");
        called += 1;
    }
    assert!(called > 100, "{called} could be read as addresses");
    assert_eq!((canary.hits(), trap.called.lock().expect("the calls").len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_changes_its_mind_reaches_nobody_near() {
    let public = "93.184.216.34";
    let (outbound, trap, canary) = trap(fickle(&[public], &["127.0.0.1"])).await;
    let url = Url::parse("https://rebind.example.com").expect("a URL");
    let line = outbound.line(&url, Some("alice"), &Reach::Guarded(Arc::default()));
    for turn in 0..1000 {
        let began = Instant::now();
        // The public address is called, and whoever answers there instead is found out before a byte is said.
        assert_eq!(whole(&line, "/").await, Err(Fault::Blocked), "{turn}");
        assert!(began.elapsed() >= SECOND, "how it was found out is not to be read off a clock");
    }
    let called: Vec<IpAddr> = trap.called.lock().expect("the calls").iter().copied().collect();
    assert_eq!(called, [public.parse::<IpAddr>().expect("an address")]);
    // Connections that the trap led astray were closed unused.
    assert!(canary.hits() <= 500, "{}", canary.hits());
}

#[tokio::test(start_paused = true)]
async fn one_bad_address_among_good_ones_is_enough() {
    let mixed = ["93.184.216.34", "169.254.169.254"];
    let (outbound, trap, canary) = trap(fickle(&mixed, &mixed)).await;
    let url = Url::parse("https://mixed.example.com").expect("a URL");
    let line = outbound.line(&url, Some("alice"), &Reach::Guarded(Arc::default()));
    assert_eq!(whole(&line, "/").await, Err(Fault::Blocked));
    assert_eq!((canary.hits(), trap.called.lock().expect("the calls").len()), (0, 0));
}

#[tokio::test]
async fn what_an_administrator_named_is_called_and_its_redirects_are_not_followed() {
    let (server, canary) = (Server::start().await, Canary::start().await);
    let rules = Arc::new(Rules::new([server.base.authority()]).expect("rules"));
    let line = Outbound::new().line(&server.base, Some("alice"), &Reach::Guarded(rules));
    let asked = tokio::spawn(async move { line.send(ask("/", ""), &deadlines()).await });
    let mut conversation = server.accept().await;
    conversation.hear().await;
    let there = canary.address;
    conversation.say(&format!("HTTP/1.1 307 Go\r\nlocation: http://{there}/\r\ncontent-length: 0\r\n\r\n")).await;
    assert_eq!(asked.await.expect("a task").expect("an answer").status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(canary.hits(), 0);
}

#[tokio::test]
async fn an_operator_may_call_this_machine_by_name() {
    let server = Server::start().await;
    let resolver = fickle(&["127.0.0.1"], &["127.0.0.1"]);
    let port = server.base.port().expect("a port");
    let url = Url::parse(&format!("http://parrot.test:{port}/")).expect("a URL");
    let asked = asking(&Outbound::resolving(resolver).line(&url, None, &Reach::Operator));
    let mut conversation = server.accept().await;
    let (head, _) = conversation.hear().await;
    assert!(head.contains(&format!("host: parrot.test:{port}")), "{head:?}");
    conversation.answer("hi").await;
    assert_eq!(asked.await.expect("a task").expect("an answer"), "hi");
}

#[tokio::test]
async fn the_other_family_of_addresses_is_tried_when_the_first_does_not_answer() {
    let server = Server::start().await;
    // Nobody listens on this port of IPv6's loopback.
    let both = ["::1", "127.0.0.1"];
    let port = server.base.port().expect("a port");
    let url = Url::parse(&format!("http://parrot.test:{port}/")).expect("a URL");
    let asked = asking(&Outbound::resolving(fickle(&both, &both)).line(&url, None, &Reach::Operator));
    let mut conversation = server.accept().await;
    conversation.hear().await;
    conversation.answer("hi").await;
    assert_eq!(asked.await.expect("a task").expect("an answer"), "hi");
}

/// A server with a certificate, which tells of its connections and never ends the answers to `/hold`.
struct Encrypted {
    port: u16,
    connections: Arc<AtomicUsize>,
    /// One for each answer that was given up by whoever asked.
    dropped: mpsc::Receiver<()>,
}

struct Held {
    first: Option<Bytes>,
    dropped: mpsc::Sender<()>,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        match self.first.take() {
            Some(first) => std::task::Poll::Ready(Some(Ok(http_body::Frame::data(first)))),
            None => std::task::Poll::Pending,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.dropped.try_send(()).ok();
    }
}

const CA: &[u8] = include_bytes!("../../tests/fixtures/tls/ca.der");
const CERTIFICATE: &[u8] = include_bytes!("../../tests/fixtures/tls/parrot.der");
const KEY: &[u8] = include_bytes!("../../tests/fixtures/tls/parrot.key.der");

impl Encrypted {
    async fn start(protocols: &[&[u8]]) -> Encrypted {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::try_from(KEY.to_vec()).expect("a key");
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![CERTIFICATE.into()], key)
            .expect("a certificate");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, dropped) = mpsc::channel(1000);
        let connections = Arc::<AtomicUsize>::default();
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let version = format!("{:?} {}", request.version(), request.uri().path());
                        let body = match request.uri().path() {
                            "/hold" => Either::Left(Held { first: Some(version.into()), dropped: sender.clone() }),
                            "/empty" => Either::Right(Full::default()),
                            _ => Either::Right(Full::new(Bytes::from(version))),
                        };
                        async move { Ok::<_, Infallible>(Response::new(body)) }
                    });
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    server.serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        Encrypted { port, connections, dropped }
    }

    /// Trusts the tests' own authority.
    fn line(&self, host: &str) -> Arc<Line> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CA.into()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tls = OnceLock::from(Some(Arc::new(config)));
        let dialer = Dialer { resolver: fickle(&["127.0.0.1"], &["127.0.0.1"]), tls, ..Dialer::new() };
        let url = Url::parse(&format!("https://{host}:{}/", self.port)).expect("a URL");
        Outbound::with(dialer).line(&url, None, &Reach::Operator)
    }
}

#[tokio::test]
async fn many_answers_share_one_connection_where_both_speak_http_2() {
    let mut server = Encrypted::start(&[b"h2", b"http/1.1"]).await;
    let line = server.line("parrot.test");
    assert_eq!(whole(&line, "/a?b=c").await.expect("an answer"), "HTTP/2.0 /a");
    assert_eq!(whole(&line, "/empty").await.expect("an answer"), "");
    let mut held = Vec::new();
    for _ in 0..50 {
        let mut body = line.send(ask("/hold", "{}"), &deadlines()).await.expect("an answer").into_body();
        assert_eq!(body.next().await.expect("a piece").expect("no fault"), "HTTP/2.0 /hold");
        held.push(body);
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    // Giving up some of them is told to the other side, and the rest goes on.
    drop(held.split_off(1));
    for _ in 0..49 {
        server.dropped.recv().await.expect("a server");
    }
    assert_eq!(whole(&line, "/b").await.expect("an answer"), "HTTP/2.0 /b");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn more_answers_than_a_connection_carries_get_another_one() {
    let server = Encrypted::start(&[b"h2"]).await;
    let line = server.line("parrot.test");
    let mut held = Vec::new();
    for _ in 0..120 {
        held.push(line.send(ask("/hold", "{}"), &deadlines()).await.expect("an answer"));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn http_1_is_spoken_where_that_is_what_both_know() {
    let server = Encrypted::start(&[b"http/1.1"]).await;
    let line = server.line("parrot.test");
    for _ in 0..3 {
        assert_eq!(whole(&line, "/a").await.expect("an answer"), "HTTP/1.1 /a");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_not_accepted() {
    let server = Encrypted::start(&[b"h2", b"http/1.1"]).await;
    assert_eq!(whole(&server.line("stork.test"), "/").await, Err(Fault::Unreachable));
    assert_eq!(whole(&server.line("127.0.0.1"), "/").await.expect("an address can have one"), "HTTP/2.0 /");
}
