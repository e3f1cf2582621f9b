//! Asks, and looks at what comes back. It shares the machine with what is measured, so it does little.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::upstream::Model;
use super::wire::{head_end, header, length};

/// Streams that are opened at once, where many are held.
const OPENED_AT_ONCE: usize = 64;
/// The longest time an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How a stream of ours ends.
const END: &[u8] = b"\r\n0\r\n\r\n";

/// What is asked, and of whom.
#[derive(Clone, Debug)]
pub struct Question {
    address: SocketAddr,
    bytes: Arc<Vec<u8>>,
}

impl Question {
    pub fn new(address: SocketAddr, key: &str, model: Model, prompt: &str) -> Question {
        let mut body = json!({
            "model": model.name(),
            "max_tokens": 1000,
            "messages": [{ "role": "user", "content": prompt }],
        });
        if !matches!(model, Model::Whole | Model::Long) {
            body["stream"] = json!(true);
            body["stream_options"] = json!({ "include_usage": true });
        }
        let body = body.to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Question { address, bytes: Arc::new((head + &body).into_bytes()) }
    }

    /// Asks `count` times over `at_once` connections. Answers how long each answer took.
    pub async fn ask(&self, count: usize, at_once: usize) -> Result<Vec<Duration>> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut askers = JoinSet::new();
        for _ in 0..at_once {
            let (question, next) = (self.clone(), next.clone());
            askers.spawn(async move {
                let mut times = Vec::with_capacity(count / at_once + 1);
                let mut line = Line::open(question.address).await?;
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let began = Instant::now();
                    tokio::time::timeout(PATIENCE, line.ask(&question.bytes)).await.context("no answer")??;
                    times.push(began.elapsed());
                }
                anyhow::Ok(times)
            });
        }
        let mut times = Vec::with_capacity(count);
        while let Some(asked) = askers.join_next().await {
            times.extend(asked??);
        }
        Ok(times)
    }

    /// Asks for one stream on each of so many connections, and answers the longest time without news in any of them.
    pub async fn longest_gap(&self, streams: usize) -> Result<Duration> {
        let mut listeners = JoinSet::new();
        for _ in 0..streams {
            let question = self.clone();
            listeners.spawn(async move { Line::open(question.address).await?.listen(&question.bytes).await });
        }
        let mut longest = Duration::ZERO;
        while let Some(gap) = listeners.join_next().await {
            longest = longest.max(gap??);
        }
        Ok(longest)
    }

    /// Opens so many streams, and holds them once the first piece of each is there.
    pub async fn hold(&self, streams: usize) -> Result<Held> {
        let turns = Arc::new(Semaphore::new(OPENED_AT_ONCE));
        let mut opening = JoinSet::new();
        for _ in 0..streams {
            let (question, turns) = (self.clone(), turns.clone());
            opening.spawn(async move {
                let _turn = turns.acquire_owned().await?;
                let mut line = Line::open(question.address).await?;
                tokio::time::timeout(PATIENCE, line.begin(&question.bytes))
                    .await
                    .context("a stream does not begin")??;
                // What was read is not kept: the bench needs its memory for the other side of as many streams.
                anyhow::Ok(line.stream)
            });
        }
        let mut held = Vec::with_capacity(streams);
        while let Some(line) = opening.join_next().await {
            held.push(line??);
        }
        Ok(Held { _lines: held })
    }
}

/// Open streams. Dropping it hangs up.
pub struct Held {
    _lines: Vec<TcpStream>,
}

/// A connection on which one question is asked after the other.
struct Line {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Line {
    async fn open(address: SocketAddr) -> Result<Line> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Line { stream, heard: Vec::new() })
    }

    /// Asks, and reads the answer to its end.
    async fn ask(&mut self, question: &[u8]) -> Result<()> {
        let body = self.begin(question).await?;
        match body.length {
            Some(length) => {
                while self.heard.len() < body.begins + length {
                    self.read().await?;
                }
            }
            // The pieces are the bench's own, and none of them looks like the end.
            None => {
                while !self.heard.ends_with(END) {
                    self.read().await?;
                }
            }
        }
        Ok(())
    }

    /// The same for a stream, with an eye on the clock: from its first piece to its end.
    async fn listen(&mut self, question: &[u8]) -> Result<Duration> {
        self.begin(question).await?;
        let mut longest = Duration::ZERO;
        let mut last = Instant::now();
        while !self.heard.ends_with(END) {
            self.read().await?;
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        Ok(longest)
    }

    /// Asks, and reads until something of the body is there.
    async fn begin(&mut self, question: &[u8]) -> Result<Body> {
        self.heard.clear();
        self.stream.write_all(question).await?;
        let begins = loop {
            self.read().await?;
            if let Some(end) = head_end(&self.heard) {
                break end;
            }
        };
        let head = &self.heard[..begins];
        let body = Body { begins, length: length(head) };
        let chunked = header(head, "transfer-encoding").is_some();
        if !head.starts_with(b"HTTP/1.1 200") || (body.length.is_none() && !chunked) {
            bail!("an answer that is none: {}", String::from_utf8_lossy(&self.heard));
        }
        while self.heard.len() == begins {
            self.read().await?;
        }
        Ok(body)
    }

    async fn read(&mut self) -> Result<()> {
        ensure!(self.stream.read_buf(&mut self.heard).await? > 0, "an answer broke off");
        Ok(())
    }
}

/// Where a body begins in what was heard, and how long it is, if that was said.
struct Body {
    begins: usize,
    length: Option<usize>,
}
