//! `salon bench events`: how long a line of an agent takes until it stands in a chat, and until a program's stream has it.
//!
//! The agent is this program once more: it speaks the Agent Client Protocol, and what it says is what time it is. It is run
//! in its cell like any other, by the real program, whose Telegram is the mock in this process.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, StatusCode};
use salon::Clock;
use salon_mock::{Mock, MockConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::{Program, TOKEN};
use crate::bot::write_private;

/// How long one answer may take beyond its lines.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the chat is looked at where nothing tells of news.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What `salon bench events` was told.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Measure on this PostgreSQL, which must be empty; otherwise on SQLite in --data
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// A folder on the disk to be measured; it must be empty or missing
    #[arg(long, value_name = "FOLDER", default_value = "data/bench")]
    data: PathBuf,
    /// Answers that are measured, in the chat and in the stream each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    says: Says,
}

/// What the agent says.
#[derive(Clone, Debug, clap::Args)]
pub struct Says {
    /// Lines of each answer
    #[arg(long, default_value_t = 100)]
    lines: usize,
    /// Milliseconds between two lines
    #[arg(long, default_value_t = 100)]
    pause_ms: u64,
}

pub async fn events(options: &Options) -> Result<()> {
    let empty = std::fs::read_dir(&options.data).map_or(true, |mut entries| entries.next().is_none());
    ensure!(empty, "{} is not empty; name another folder with --data", options.data.display());
    std::fs::create_dir_all(&options.data)?;
    rustls::crypto::ring::default_provider().install_default().ok();
    let mock = Mock::start(MockConfig::default()).await?;
    let http = Client::builder().tls_certs_only([]).no_proxy().build()?;
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string();
    let _program = start(options, &mock, &address)?;
    let base = format!("http://{address}");
    let began = Instant::now();
    while !http.get(format!("{base}/readyz")).send().await.is_ok_and(|answer| answer.status() == StatusCode::OK) {
        ensure!(began.elapsed() < PATIENCE, "the program does not become ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let Says { lines, pause_ms } = options.says;
    let database = if options.database_url.is_some() { "PostgreSQL" } else { "SQLite, synchronous=FULL" };
    println!("salon bench events on {database}, {} answers of {lines} lines, {pause_ms} ms apart", options.rounds);
    println!("load of the machine before: {}", load());
    println!("{:<34} {:>10} {:>10} {:>10} {:>10}", "from a line of the agent (ms)", "min", "median", "p95", "max");
    let (mut chat, mut stream) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        stream.extend(in_stream(&http, &base, &options.says).await.context("in the stream")?);
        chat.extend(in_chat(&mock, 1000 + round as i64, &options.says).await.context("in the chat")?);
    }
    row("to the stream of a program", stream);
    row("to the chat, one edit a second", chat);
    println!("load of the machine after: {}", load());
    mock.shutdown().await
}

fn start(options: &Options, mock: &Mock, address: &str) -> Result<Program> {
    let itself = std::env::current_exe().context("where is this program?")?;
    let Says { lines, pause_ms } = options.says;
    let config = format!(
        "[agents.clock]\nprogram = {program}\nacp = [\"bench\", \"agent\", \"--lines\", \"{lines}\", \"--pause-ms\", \
         \"{pause_ms}\"]\npolicy = \"workspace\"\n",
        program = json!(itself.to_str().context("this program's path is not Unicode")?),
    );
    write_private(&options.data.join("salon.toml"), &config)?;
    // With the pace that Telegram wants, which a server on this machine would not be kept to.
    let bots = format!(
        "bots:\n  - bot_id: parrot\n    adapter: clock\n    telegram_token: {TOKEN}\n    allow: everyone\n    paced: true\n"
    );
    write_private(&options.data.join("bots.yaml"), &bots)?;
    #[expect(clippy::disallowed_methods, reason = "a benchmark starts the program that it measures: itself")]
    let mut command = Command::new(itself);
    command
        .args(["serve", "--listen", address, "--data"])
        .arg(options.data.join("data"))
        .arg("--bots")
        .arg(options.data.join("bots.yaml"))
        .env("SALON_CONFIG", options.data.join("salon.toml"))
        .env("TELEGRAM_API_BASE_URL", mock.base_url())
        .env("SALON_ANONYMOUS", "true")
        .env("LOG_LEVEL", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    match &options.database_url {
        Some(url) => command.args(["--database-url", url]),
        None => command.env_remove("DATABASE_URL"),
    };
    Ok(Program(command.spawn().context("the program cannot be started")?))
}

/// What each line took until the message in the chat had it.
async fn in_chat(mock: &Mock, chat: i64, says: &Says) -> Result<Vec<f64>> {
    let (clock, controls) = (Clock::default(), mock.controls());
    let mut news = controls.watch();
    controls.says(TOKEN, chat, chat, "what time is it?");
    let mut seen = Seen::default();
    let end = Instant::now() + PATIENCE + says.lasts();
    while seen.count() < says.lines {
        if Instant::now() > end {
            bail!("only {} of {} lines came: {:?}", seen.count(), says.lines, controls.bot_texts(TOKEN, chat).last());
        }
        // Lagging behind is no harm: the texts are read as they are now.
        tokio::time::timeout(LOOK_EVERY, news.recv()).await.ok();
        let now = clock.wall().0;
        for text in controls.bot_texts(TOKEN, chat) {
            seen.take(&text, now);
        }
    }
    Ok(seen.times)
}

/// What each line took until the stream of a program had it.
async fn in_stream(http: &Client, base: &str, says: &Says) -> Result<Vec<f64>> {
    let clock = Clock::default();
    let opened = http.post(format!("{base}/api/sessions")).json(&json!({ "engine": "clock" })).send().await?;
    let opened: Value = opened.json().await?;
    let session = opened["session_id"].as_str().with_context(|| format!("no session: {opened}"))?;
    let body = json!({ "session_id": session, "message": "what time is it?" });
    let mut answer = http.post(format!("{base}/api/chat/stream")).json(&body).send().await?;
    let mut seen = Seen::default();
    let mut rest = String::new();
    let end = Instant::now() + PATIENCE + says.lasts();
    while let Some(chunk) = tokio::time::timeout_at(end, answer.chunk()).await.context("the stream does not end")?? {
        let now = clock.wall().0;
        rest.push_str(&String::from_utf8_lossy(&chunk));
        while let Some((frame, more)) = rest.split_once("\n\n") {
            let data = frame.lines().find_map(|line| line.strip_prefix("data: "));
            let frame: Value = data.and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
            seen.take(frame["content"].as_str().unwrap_or_default(), now);
            rest = more.to_owned();
        }
    }
    ensure!(seen.count() == says.lines, "only {} of {} lines came", seen.count(), says.lines);
    Ok(seen.times)
}

impl Says {
    fn lasts(&self) -> Duration {
        Duration::from_millis(self.pause_ms * self.lines as u64)
    }
}

/// The lines that were seen, and how late each was.
#[derive(Default)]
struct Seen {
    numbers: BTreeSet<usize>,
    times: Vec<f64>,
}

impl Seen {
    fn take(&mut self, text: &str, now_ms: i64) {
        for word in text.split_whitespace() {
            let Some((number, at)) = word.split_once('@') else { continue };
            if let (Ok(number), Ok(at)) = (number.parse::<usize>(), at.parse::<i64>())
                && self.numbers.insert(number)
            {
                self.times.push((now_ms - at) as f64);
            }
        }
    }

    fn count(&self) -> usize {
        self.numbers.len()
    }
}

fn row(name: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1))).copied();
    if let (Some(min), Some(median), Some(p95), Some(max)) = (at(0), at(50), at(95), at(100)) {
        println!("{name:<34} {min:>10.0} {median:>10.0} {p95:>10.0} {max:>10.0}");
    }
}

/// How many wanted a processor in the last minute: figures of a busy machine are others.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// The agent: whatever it is asked, it says what time it is, again and again.
pub fn agent(says: &Says) -> Result<()> {
    let clock = Clock::default();
    let mut out = std::io::stdout().lock();
    let mut tell = |message: &Value| {
        writeln!(out, "{message}")?;
        out.flush()
    };
    for line in std::io::stdin().lines() {
        let question: Value = serde_json::from_str(&line?).unwrap_or_default();
        let Some(id) = question.get("id") else { continue };
        let result = match question["method"].as_str().unwrap_or_default() {
            "initialize" => json!({ "protocolVersion": 1, "agentCapabilities": {}, "authMethods": [] }),
            "session/new" => json!({ "sessionId": "bench" }),
            "session/prompt" => {
                for number in 0..says.lines {
                    std::thread::sleep(Duration::from_millis(says.pause_ms));
                    let content = json!({ "type": "text", "text": format!("{number}@{}\n", clock.wall().0) });
                    let update = json!({ "sessionUpdate": "agent_message_chunk", "content": content });
                    let params = json!({ "sessionId": "bench", "update": update });
                    tell(&json!({ "jsonrpc": "2.0", "method": "session/update", "params": params }))?;
                }
                json!({ "stopReason": "end_turn" })
            }
            _ => json!({}),
        };
        tell(&json!({ "jsonrpc": "2.0", "id": id, "result": result }))?;
    }
    Ok(())
}
