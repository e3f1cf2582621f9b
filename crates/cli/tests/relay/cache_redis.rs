//! Answers that lie in a Redis: found after a restart, believed only if they are ours, and never waited for.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::time::Duration;

use salon_engine::Secret;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::stage::{Stage, question};

/// A real Redis in a scratch folder, which ends with us.
struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Server {
    async fn start() -> Server {
        for _ in 0..5 {
            // Somebody may take the port between our look and the server's; then another is as good.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let folder = tempfile::tempdir().unwrap();
            if let Some(child) = run(port, &folder).await {
                return Server { child, port, folder };
            }
        }
        panic!("redis-server does not start");
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn start_again(&mut self) {
        self.child = run(self.port, &self.folder).await.expect("the same port");
    }

    /// Says something to it, as any other program could, and hears what it answers.
    async fn say(&self, words: &[&[u8]]) -> String {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut said = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            said.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            said.extend_from_slice(word);
            said.extend_from_slice(b"\r\n");
        }
        stream.write_all(&said).await.unwrap();
        let mut heard = vec![0; 4096];
        let length = stream.read(&mut heard).await.unwrap();
        String::from_utf8_lossy(&heard[..length]).into_owned()
    }

    /// Everything that lies there, once there are so many.
    async fn keys(&self, wanted: usize) -> Vec<String> {
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let told = self.say(&[b"KEYS", b"*"]).await;
            let keys: Vec<_> = told.lines().filter(|line| line.starts_with("salon:")).map(str::to_owned).collect();
            if keys.len() >= wanted {
                return keys;
            }
            assert!(Instant::now() < patience, "nothing was kept: {told}");
        }
    }
}

/// Starts a server and waits until it says that it is ready; `None` if it ends before.
async fn run(port: u16, folder: &TempDir) -> Option<Child> {
    #[expect(clippy::disallowed_methods, reason = "a real Redis is what the test is about")]
    let mut command = std::process::Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"]);
    command.arg(folder.path()).stdout(Stdio::piped()).stdin(Stdio::null());
    let mut child = command
        .spawn()
        .expect("redis-server is missing: `cargo xtask test` installs it, or apt-get install redis-server");
    let told = tokio::process::ChildStdout::from_std(child.stdout.take().unwrap()).unwrap();
    let mut lines = BufReader::new(told).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.contains("Ready to accept connections") {
            // It goes on talking, and nobody who talks may be left without a listener.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some(child);
        }
    }
    child.wait().ok();
    None
}

async fn stage_with(server: &Server, patience: Option<Duration>) -> Stage {
    Stage::with(|config| {
        config.relay.cache.patience = patience.unwrap_or(config.relay.cache.patience);
        config.sources.file.models.get_mut("gpt").unwrap().cache_s = Some(60);
        config.relay.cache.redis = Some(Secret::new(server.url()));
    })
    .await
}

async fn ask(stage: &Stage, path: &str, body: &Value) -> (String, String) {
    let answer = stage.post(path, body).await;
    assert_eq!(answer.status(), 200);
    let shown = answer.headers()["x-salon-cache"].to_str().unwrap().to_owned();
    (shown, answer.text().await.unwrap())
}

fn counted(stage: &Stage, name: &str) -> u64 {
    stage.house.salon.metrics.all().get(&(String::new(), name.to_owned())).copied().unwrap_or(0)
}

/// Waits until so many answers have been put there: nobody who asks waits for that.
async fn kept(stage: &Stage, times: u64) {
    let patience = Instant::now() + Duration::from_secs(20);
    while counted(stage, "relay_cache_kept") < times {
        assert!(Instant::now() < patience, "an answer is never kept");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_redis_outlives_us_and_is_believed_only_if_it_is_ours() {
    let server = Server::start().await;
    // However busy this machine is, it is what lies there that decides.
    let stage = stage_with(&server, Some(Duration::from_secs(5))).await;
    let (path, body) = question("chat", "gpt", "[[say:two storks]]", true);
    let (shown, told) = ask(&stage, &path, &body).await;
    assert_eq!(shown, "miss");
    let key = server.keys(1).await.remove(0);
    let lies = server.say(&[b"GET", key.as_bytes()]).await;
    assert!(!lies.contains("stork") && !lies.contains("chat.completion"), "it can be read there");
    let left: i64 = server.say(&[b"TTL", key.as_bytes()]).await.trim_start_matches(':').trim().parse().unwrap();
    assert!((1..=60).contains(&left), "{left}");
    let stage = stage.again().await;
    assert_eq!(ask(&stage, &path, &body).await, ("hit".to_owned(), told.clone()));

    // Another answer of ours, moved here: it is sealed to its place.
    let (_, other) = question("chat", "gpt", "[[say:three storks]]", true);
    ask(&stage, &path, &other).await;
    kept(&stage, 1).await;
    let moved = server.keys(2).await.into_iter().find(|other| *other != key).unwrap();
    server.say(&[b"COPY", moved.as_bytes(), key.as_bytes(), b"REPLACE"]).await;
    assert_eq!(ask(&stage, &path, &body).await, ("miss".to_owned(), told.clone()));
    kept(&stage, 2).await;
    assert_eq!(counted(&stage, "relay_cache_foreign"), 1);
    let planted: [&[&[u8]]; 2] = [
        &[b"SET", key.as_bytes(), b"{\"planted\":true}"],
        // More than anybody wants to read.
        &[b"SETRANGE", key.as_bytes(), b"40000000", b"x"],
    ];
    for (times, words) in (2..).zip(planted) {
        server.say(words).await;
        let (shown, heard) = ask(&stage, &path, &body).await;
        assert_eq!((shown.as_str(), &heard), ("miss", &told), "{words:?}");
        assert_eq!(counted(&stage, "relay_cache_foreign"), times);
        kept(&stage, times + 1).await;
    }
    server.say(&[b"DEL", key.as_bytes()]).await;
    server.say(&[b"LPUSH", key.as_bytes(), b"a list"]).await;
    assert_eq!(ask(&stage, &path, &body).await.0, "miss");
    assert!(counted(&stage, "relay_cache_refused") >= 1);
    assert_eq!(counted(&stage, "relay_cache_away"), 0, "it was there all the time");
}

/// Asks until the answer of before is told: a busy machine may be too slow at first.
async fn until_it_is_known(stage: &Stage, path: &str, body: &Value) {
    let patience = Instant::now() + Duration::from_secs(30);
    while ask(stage, path, body).await.0 != "hit" {
        assert!(Instant::now() < patience, "it is there, and nobody calls it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_slow_or_away_holds_nobody_up() {
    let mut server = Server::start().await;
    let stage = stage_with(&server, None).await;
    let (path, body) = question("chat", "gpt", "hi", false);
    assert_eq!(ask(&stage, &path, &body).await.0, "miss");
    until_it_is_known(&stage, &path, &body).await;
    // As if it were busy with something else for half a minute.
    server.say(&[b"CLIENT", b"PAUSE", b"30000", b"ALL"]).await;
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(ask(&stage, &path, &body).await.0, "miss");
    }
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(10), "nobody waits for it: {waited:?}");
    assert!(counted(&stage, "relay_cache_away") >= 20);
    server.stop();
    assert_eq!(ask(&stage, &path, &body).await.0, "miss");
    server.start_again().await;
    until_it_is_known(&stage, &path, &body).await;
    let stage = stage.again().await;
    server.stop();
    drop(stage.again().await);
}
