//! What stands around the program: the mock Telegram, a scratch database, the list of bots, a port.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use salon_mock::{Calls, Fault, Mock, MockConfig};
use salon_store::Place;
use salon_store::testing::postgres_database;
use tempfile::TempDir;

use crate::program::{Answer, Program, Start, ask, text};

pub const TOKEN: &str = "mock_token_1";
pub const BOT: &str = "parrot";
pub const PATH_SECRET: &str = "a-path-that-nobody-guesses-0123456789";
pub const HEADER_SECRET: &str = "a-header-that-nobody-guesses-01234567";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    Postgres,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    Webhook,
    Polling,
}

pub struct Stage {
    pub mock: Mock,
    pub intake: Intake,
    pub port: u16,
    pub folder: TempDir,
    pub place: Option<String>,
    /// How many calls the mock had seen when each process died.
    deaths: Mutex<Vec<u64>>,
}

impl Stage {
    pub async fn set(database: Database, intake: Intake) -> Stage {
        let place = match database {
            Database::Sqlite => None,
            Database::Postgres => Some(postgres_database().await),
        };
        let config = MockConfig { time_scale: 0.05, ledger_calls: 1_000_000, ..MockConfig::default() };
        let mock = Mock::start(config).await.expect("the mock starts");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stage = Stage { mock, intake, port: free_port(), folder, place, deaths: Mutex::default() };
        stage.write_bots("parrot");
        stage
    }

    /// Writes the list of bots anew, with this engine.
    pub fn write_bots(&self, engine: &str) {
        self.write_bots_with(engine, "");
    }

    /// The same with more lines for the bot.
    pub fn write_bots_with(&self, engine: &str, more: &str) {
        let mut text = format!(
            "bots:\n  - bot_id: {BOT}\n    name: Parrot\n    adapter: {engine}\n    telegram_token: {TOKEN}\n    \
             allow: everyone\n    paced: false\n    telegram_api_base_url: {}\n",
            self.mock.base_url()
        );
        if self.intake == Intake::Webhook {
            text.push_str(&format!(
                "    webhook:\n      path_secret: {PATH_SECRET}\n      secret_token: {HEADER_SECRET}\n      \
                 public_url: http://127.0.0.1:{}\n",
                self.port
            ));
        }
        text.push_str(more);
        fs::write(self.bots(), text).expect("the list of bots can be written");
    }

    pub fn bots(&self) -> PathBuf {
        self.folder.path().join("bots.yaml")
    }

    /// The process of this name, on a data folder of its own.
    pub fn start(&self, name: &str, port: u16) -> Start {
        let folder = self.folder.path();
        let mut args: Vec<String> = vec!["serve".into()];
        let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
        flag("--data", text(&folder.join(name)));
        flag("--bots", text(&self.bots()));
        flag("--listen", format!("127.0.0.1:{port}"));
        if let Some(url) = &self.place {
            flag("--database-url", url.clone());
        }
        let env = vec![("RUST_LOG".to_owned(), "info".to_owned())];
        Start { args, env, folder: folder.to_owned(), log: folder.join(format!("{name}.log")) }
    }

    pub fn one(&self) -> Start {
        self.start("one", self.port)
    }

    /// Kills a process and writes down when, by the mock's count.
    pub async fn kill(&self, program: Program) {
        program.kill().await;
        self.note_death().await;
    }

    /// To be called when a process has just died without being asked. What it said last may still be on its way to the
    /// mock, so this looks until nothing more comes; another process that goes on speaking is not waited for for long.
    pub async fn note_death(&self) {
        const QUIET: usize = 5;
        const LOOKS: usize = 50;
        let count = || {
            let total = self.mock.ledger(&Calls { limit: Some(1), ..Calls::default() })["total"].as_u64();
            total.expect("a number")
        };
        let (mut seen, mut quiet) = (count(), 0);
        for _ in 0..LOOKS {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = count();
            quiet = if now == seen { quiet + 1 } else { 0 };
            seen = now;
            if quiet == QUIET {
                break;
            }
        }
        self.deaths.lock().expect("a lock").push(seen);
    }

    pub fn deaths(&self) -> Vec<u64> {
        self.deaths.lock().expect("a lock").clone()
    }

    /// Where the data of a single process is.
    pub fn place(&self) -> Place {
        match &self.place {
            Some(url) => Place::Postgres(url.clone()),
            None => Place::Folder(self.folder.path().join("one")),
        }
    }

    /// Spoils one call in twenty, in every way that the network and Telegram know.
    pub fn add_faults(&self, seed: u64) {
        let faults = [
            ("apply_then_drop", 0.015),
            ("drop_before", 0.010),
            ("status:500", 0.005),
            ("status:502", 0.005),
            ("429:1", 0.004),
            ("rst", 0.005),
            ("garbage", 0.003),
            ("empty", 0.001),
            ("html", 0.001),
            ("not_ok", 0.001),
        ];
        for (at, (mode, p)) in faults.into_iter().enumerate() {
            let seed = seed.wrapping_add(at as u64);
            self.mock.add_fault(Fault { p, seed, ..Fault::new("*", mode) }).expect("a fault");
        }
    }
}

/// Starts the program and waits until its listener answers.
pub async fn open(start: &Start, port: u16) -> Program {
    let mut program = start.spawn();
    let answering = async {
        while ask(port, "GET /healthz HTTP/1.1", "").await.is_none_or(|answer| answer.status != 200) {
            assert!(program.is_running(), "the program ended at its start:\n{}", tail(&start.said()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let opened = tokio::time::timeout(Duration::from_secs(60), answering).await;
    assert!(opened.is_ok(), "the program does not answer:\n{}", tail(&start.said()));
    program
}

/// Jobs that are not done, without the pollers, which never are. `None` if the program does not answer.
pub async fn open_jobs(port: u16) -> Option<i64> {
    const OPEN: [&str; 3] = ["state=\"queued\"", "state=\"leased\"", "state=\"in_flight\""];
    count_jobs(port, |line| OPEN.iter().any(|open| line.contains(open)) && !line.contains("kind=\"poll\"")).await
}

/// Jobs by what the line says that counts them in the program's metrics.
pub async fn count_jobs(port: u16, wanted: impl Fn(&str) -> bool) -> Option<i64> {
    let Answer { status: 200, body, .. } = ask(port, "GET /metrics HTTP/1.1", "").await? else { return None };
    let jobs = body.lines().filter(|line| line.starts_with("salon_jobs{") && wanted(line));
    Some(jobs.filter_map(|line| line.rsplit(' ').next()?.parse::<i64>().ok()).sum())
}

/// How many ports are given out: those from 15 000 on that no system takes for outgoing connections.
const PORTS: u16 = 17_000;

/// A port that no connection takes by chance while the program is down: below those that the kernel gives out.
pub fn free_port() -> u16 {
    // Given out one after the other: of two that are set up at the same moment, or whose program is just being restarted,
    // chance would now and then give both the same.
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random_range(0..PORTS)));
    loop {
        let port = 15_000 + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The last lines of a log, for a failure's message.
pub fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
