//! `salon bench`: how fast the path is, measured from outside on this machine. [`relay`] does the same for the second
//! path, and [`events`] for the words of an agent.
//!
//! A mock Telegram runs in this process, and the real program as a child, on the database that is asked for. What is
//! printed is what was seen; nothing here passes or fails. Both share the machine's cores, so the figures are a floor.

mod events;
mod relay;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, StatusCode};
use salon_mock::{Mock, MockConfig};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bot::{secret, write_private};

const TOKEN: &str = "mock_token_1";
const STORY_TOKEN: &str = "mock_token_2";
const CHATS: usize = 100;
/// Webhook calls under way at once, as Telegram's `max_connections` is by default.
const AT_ONCE: usize = 40;
const RATE: f64 = 200.0;

/// What is measured: the path of bots, or the relay.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    path: Options,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Part {
    /// Measure the relay beside a bare reverse proxy: processor time, latency, memory
    Relay(relay::Options),
    /// Measure how long a line of an agent takes to a chat, and to a program's stream
    Events(events::Options),
    /// The agent, as `events` has it started
    #[command(hide = true)]
    Agent(events::Says),
    /// The bare reverse proxy, as `relay` starts it
    #[command(hide = true)]
    Proxy {
        #[arg(long)]
        upstream: SocketAddr,
    },
}

pub async fn bench(bench: &Bench) -> Result<()> {
    match &bench.part {
        Some(Part::Relay(options)) => relay::relay(options).await,
        Some(Part::Events(options)) => events::events(options).await,
        Some(Part::Agent(says)) => events::agent(says),
        Some(Part::Proxy { upstream }) => relay::proxy::proxy(*upstream).await,
        None => path(&bench.path).await,
    }
}

/// What `salon bench` was told about the path of bots.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Measure on this PostgreSQL, which must be empty; otherwise on SQLite in --data
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// A folder on the disk to be measured; it must be empty or missing
    #[arg(long, value_name = "FOLDER", default_value = "data/bench")]
    pub data: PathBuf,
    /// Updates of the end-to-end run
    #[arg(long, default_value_t = 5_000)]
    pub updates: usize,
    /// Starts, and restarts in the middle of an answer
    #[arg(long, default_value_t = 20)]
    pub starts: usize,
}

async fn path(options: &Options) -> Result<()> {
    let empty = std::fs::read_dir(&options.data).map_or(true, |mut entries| entries.next().is_none());
    ensure!(empty, "{} is not empty; name another folder with --data", options.data.display());
    std::fs::create_dir_all(&options.data)?;
    let ledger_calls = options.updates * 6 + 40_000;
    let mock = Mock::start(MockConfig { ledger_calls, ..MockConfig::default() }).await?;
    let bench = Stage::prepare(options, &mock).await?;
    println!("salon bench on {}, {} updates over {CHATS} chats", bench.database(), options.updates);
    println!("{:<34} {:>12} {:>12} {:>12}", "", "min", "median", "max");
    bench.starts(options.starts).await?;
    bench.end_to_end(options.updates, &mock).await?;
    bench.acknowledgements(&mock).await?;
    bench.restarts(options.starts, &mock).await?;
    mock.shutdown().await
}

struct Stage {
    http: Client,
    address: String,
    folder: PathBuf,
    database_url: Option<String>,
    api_base: String,
    path: String,
    header: String,
    next_update: AtomicUsize,
}

impl Stage {
    async fn prepare(options: &Options, mock: &Mock) -> Result<Arc<Stage>> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = Client::builder().tls_certs_only([]).no_proxy().pool_max_idle_per_host(AT_ONCE).build()?;
        let (path, header) = (secret(), secret());
        let list = format!(
            "bots:\n  - bot_id: parrot\n    adapter: parrot\n    telegram_token: {TOKEN}\n    allow: everyone\n    \
             webhook:\n      path_secret: {path}\n      secret_token: {header}\n  - bot_id: storyteller\n    \
             adapter: storyteller\n    telegram_token: {STORY_TOKEN}\n    allow: everyone\n"
        );
        write_private(&options.data.join("bots.yaml"), &list)?;
        let free = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        Ok(Arc::new(Stage {
            http,
            address: free.to_string(),
            folder: options.data.clone(),
            database_url: options.database_url.clone(),
            api_base: mock.base_url().to_owned(),
            path,
            header,
            next_update: AtomicUsize::new(1),
        }))
    }

    fn database(&self) -> &'static str {
        if self.database_url.is_some() { "PostgreSQL" } else { "SQLite, synchronous=FULL" }
    }

    /// Starts the program and waits until it is ready; answers it and how long that took.
    async fn start(&self) -> Result<(Program, Duration)> {
        let began = Instant::now();
        let program = Program::start(self)?;
        let ready = format!("http://{}/readyz", self.address);
        loop {
            if let Ok(response) = self.http.get(&ready).send().await
                && response.status() == StatusCode::OK
            {
                return Ok((program, began.elapsed()));
            }
            ensure!(began.elapsed() < Duration::from_secs(20), "the program does not become ready");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn starts(&self, count: usize) -> Result<()> {
        // The first start makes the schema; it is not what people wait for every day.
        let (first, made) = self.start().await?;
        drop(first);
        row("first start to ready (ms)", &[ms(made)]);
        let (mut times, mut memory) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (program, time) = self.start().await?;
            times.push(ms(time));
            if memory.len() < 3 {
                tokio::time::sleep(Duration::from_secs(2)).await;
                memory.push(program.resident_mib()?);
            }
        }
        row("start to ready (ms)", &times);
        row("idle memory (MiB resident)", &memory);
        Ok(())
    }

    async fn post(&self, chat: usize) -> Result<StatusCode> {
        let id = self.next_update.fetch_add(1, Ordering::Relaxed);
        let chat = 1000 + chat;
        let update = json!({
            "update_id": id,
            "message": {
                "message_id": id, "date": 1_700_000_000, "chat": { "id": chat, "type": "private" },
                "from": { "id": chat, "is_bot": false, "first_name": "Alice" }, "text": format!("q {id}"),
            },
        });
        let url = format!("http://{}/telegram/webhook/parrot/{}", self.address, self.path);
        let header = ("x-telegram-bot-api-secret-token", self.header.as_str());
        let response = self.http.post(url).header(header.0, header.1).json(&update).send().await?;
        let status = response.status();
        response.bytes().await?;
        Ok(status)
    }

    /// As many updates as fit, each until its answer stands in the chat.
    async fn end_to_end(self: &Arc<Self>, updates: usize, mock: &Mock) -> Result<()> {
        // A chat exists at Telegram once somebody has written in it.
        for chat in 0..CHATS {
            let chat = 1000 + chat as i64;
            mock.says(TOKEN, chat, chat, "/echo warm");
        }
        let (program, _) = self.start().await?;
        let shown = || mock.calls(TOKEN, "editMessageText").iter().filter(|call| call.applied).count();
        until(Duration::from_secs(60), || shown() >= CHATS).await.context("warming up")?;
        let before = shown();
        let began = Instant::now();
        let mut posts = JoinSet::new();
        for worker in 0..AT_ONCE {
            let bench = self.clone();
            posts.spawn(async move {
                for update in (worker..updates).step_by(AT_ONCE) {
                    let status = bench.post(update % CHATS).await?;
                    ensure!(status == StatusCode::OK, "the webhook answered {status}");
                }
                Ok(())
            });
        }
        while let Some(done) = posts.join_next().await {
            done??;
        }
        let taken_in = began.elapsed();
        until(Duration::from_secs(300), || shown() - before >= updates).await.context("waiting for the answers")?;
        let answered = began.elapsed();
        row("updates taken in, per second", &[updates as f64 / taken_in.as_secs_f64()]);
        row("updates answered, per second", &[updates as f64 / answered.as_secs_f64()]);
        row("memory after that (MiB resident)", &[program.resident_mib()?]);
        Ok(())
    }

    /// Webhook calls at a steady rate, whatever becomes of the earlier ones.
    async fn acknowledgements(self: &Arc<Self>, mock: &Mock) -> Result<()> {
        let (_program, _) = self.start().await?;
        let shown = || mock.calls(TOKEN, "editMessageText").iter().filter(|call| call.applied).count();
        let before = shown();
        let mut calls = JoinSet::new();
        let began = Instant::now();
        for n in 0..(RATE * 10.0) as usize {
            tokio::time::sleep_until(began + Duration::from_secs_f64(n as f64 / RATE)).await;
            let bench = self.clone();
            calls.spawn(async move {
                let began = Instant::now();
                let status = bench.post(n % CHATS).await?;
                ensure!(status == StatusCode::OK, "the webhook answered {status}");
                Ok(ms(began.elapsed()))
            });
        }
        let mut times = Vec::new();
        while let Some(time) = calls.join_next().await {
            times.push(time??);
        }
        // What comes next is measured without this backlog.
        until(Duration::from_secs(120), || shown() - before >= times.len()).await.context("waiting for the answers")?;
        row("acknowledged at 200/s (ms)", &times);
        times.sort_by(f64::total_cmp);
        row("  its 99th percentile (ms)", &[times[times.len() * 99 / 100]]);
        Ok(())
    }

    /// Killed in the middle of an answer: from the next start to the first sign of the work taken up again.
    async fn restarts(&self, count: usize, mock: &Mock) -> Result<()> {
        let mut times = Vec::new();
        for n in 0..count {
            let chat = 50_000 + n as i64;
            let (program, _) = self.start().await?;
            mock.says(STORY_TOKEN, chat, chat, "a long story, please");
            let edits =
                || mock.calls(STORY_TOKEN, "editMessageText").iter().filter(|c| c.chat_id == Some(chat)).count();
            until(Duration::from_secs(20), || edits() >= 1).await.context("waiting for a story to begin")?;
            drop(program);
            let before = edits();
            let began = Instant::now();
            let program = Program::start(self)?;
            until(Duration::from_secs(30), || edits() > before).await.context("waiting for the story to go on")?;
            times.push(ms(began.elapsed()));
            drop(program);
        }
        row("restart to work taken up (ms)", &times);
        Ok(())
    }
}

/// The program as a child; dropping it kills it.
struct Program(Child);

impl Program {
    fn start(bench: &Stage) -> Result<Program> {
        let itself = std::env::current_exe().context("where is this program?")?;
        #[expect(clippy::disallowed_methods, reason = "a benchmark starts the program that it measures: itself")]
        let mut command = Command::new(itself);
        command
            .arg("serve")
            .args(["--listen", &bench.address])
            .arg("--data")
            .arg(bench.folder.join("data"))
            .arg("--bots")
            .arg(bench.folder.join("bots.yaml"))
            .env("TELEGRAM_API_BASE_URL", &bench.api_base)
            .env("LOG_LEVEL", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        match &bench.database_url {
            Some(url) => command.args(["--database-url", url]),
            None => command.env_remove("DATABASE_URL"),
        };
        Ok(Program(command.spawn().context("the program cannot be started")?))
    }

    fn resident_mib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(Path::new("/proc").join(self.0.id().to_string()).join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?.parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

async fn until(patience: Duration, true_now: impl Fn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !true_now() {
        if began.elapsed() > patience {
            bail!("nothing came of it in {} s", patience.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn row(name: &str, values: &[f64]) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [] => {}
        [one] => println!("{name:<34} {:>12} {one:>12.1}", ""),
        [first, .., last] => println!("{name:<34} {first:>12.1} {:>12.1} {last:>12.1}", sorted[sorted.len() / 2]),
    }
}
