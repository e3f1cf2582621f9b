//! `salon bench relay`: what the relay costs beside a bare reverse proxy, in the same run.
//!
//! Proxy and Salon are children; the server that they ask and the load are in this process. All share the machine, so
//! the sides take turns, round by round, and the ratios say more than the figures.

mod load;
mod process;
pub mod proxy;
mod upstream;
mod wire;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, StatusCode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use load::Question;
use process::{Process, Salon};
use upstream::{Model, PACE};

const PROMPT: &str = "hello there, please answer";
/// A long prompt is this, again and again.
const WORD: &str = "word ";
/// How long held streams are left alone before memory is looked at.
const SETTLING: Duration = Duration::from_secs(1);
/// Files that are open in any process beside the streams that it holds.
const OTHER_FILES: u64 = 200;
/// Streams whose gaps are looked at.
const GAP_STREAMS: usize = 4;
/// How often memory is looked at during many calls.
const LOOKS: usize = 4;

/// What `salon bench relay` was told.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Measure on this PostgreSQL, which must be empty; otherwise on SQLite in --data
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// A folder on the disk to be measured; it must be empty or missing
    #[arg(long, value_name = "FOLDER", default_value = "data/bench")]
    data: PathBuf,
    /// Rounds in which the sides take turns; medians are shown
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Questions that are under way at once
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// Calls of each side in a round
    #[arg(long, default_value_t = 20_000)]
    calls: usize,
    /// Streamed calls of each side in a round
    #[arg(long, default_value_t = 1_000)]
    streams: usize,
    /// Pieces of a stream
    #[arg(long, default_value_t = 100)]
    chunks: usize,
    /// Calls with a long prompt of each side in a round
    #[arg(long, default_value_t = 5_000)]
    long_calls: usize,
    /// The length of a long prompt
    #[arg(long, default_value_t = 64)]
    prompt_kib: usize,
    /// Streams that are held open without news, to see what memory they take
    #[arg(long, default_value_t = 5_000)]
    idle: usize,
    /// Calls during which memory is looked at
    #[arg(long, default_value_t = 20_000)]
    many: usize,
    /// Another build of Salon that takes its turn in every round; on SQLite alone
    #[arg(long, value_name = "PROGRAM", conflicts_with = "database_url")]
    beside: Option<PathBuf>,
    /// The one core that the proxy and the relay may run on; `taskset -c` keeps the bench itself on another
    #[arg(long, value_parser = clap::value_parser!(u16).range(..1_024))]
    core: Option<u16>,
}

pub async fn relay(options: &Options) -> Result<()> {
    let empty = std::fs::read_dir(&options.data).map_or(true, |mut entries| entries.next().is_none());
    ensure!(empty, "{} is not empty; name another folder with --data", options.data.display());
    ensure!(options.at_once > 0 && options.rounds > 0 && options.chunks > 0, "nothing can be measured with none of it");
    open_files(options.idle)?;
    let bench = Bench::prepare(options).await?;
    println!(
        "salon bench relay on {}, {} at once, {} rounds of {} calls and {} streams of {} pieces",
        if options.database_url.is_some() { "PostgreSQL" } else { "SQLite, synchronous=FULL" },
        options.at_once,
        options.rounds,
        options.calls,
        options.streams,
        options.chunks
    );
    if cfg!(debug_assertions) {
        println!("This is a debug build: believe none of it.");
    }
    bench.costs().await?;
    bench.gaps().await?;
    bench.memory().await
}

/// Each stream is two files in each process. The children inherit what is allowed here.
fn open_files(streams: usize) -> Result<()> {
    let wanted = streams as u64 * 2 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|most| most < wanted) {
        bail!("{streams} idle streams take {wanted} open files, and only {limit:?} are allowed; see --idle");
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })?;
    Ok(())
}

/// One that answers questions, and is measured.
struct Side {
    name: String,
    /// Whose processor time and memory count.
    process: usize,
    address: SocketAddr,
    key: String,
}

impl Side {
    fn question(&self, model: Model, prompt: &str) -> Question {
        Question::new(self.address, &self.key, model, prompt)
    }
}

/// What one side did in one round.
#[derive(Clone, Copy)]
struct Seen {
    /// Seconds per 1 000 calls.
    cpu: f64,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

struct Bench<'a> {
    options: &'a Options,
    http: Client,
    upstream: SocketAddr,
    itself: PathBuf,
    salons: Vec<Salon>,
    processes: Vec<Process>,
    /// The bare proxy is the first.
    sides: Vec<Side>,
}

impl<'a> Bench<'a> {
    async fn prepare(options: &'a Options) -> Result<Bench<'a>> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = Client::builder().tls_certs_only([]).no_proxy().build()?;
        let upstream = upstream::start(options.chunks, long_words(options)).await?;
        let itself = std::env::current_exe().context("where is this program?")?;
        let (process, address) = process::proxy(&itself, upstream, options.core)?;
        let proxy = Side { name: "proxy".to_owned(), process: 0, address, key: String::new() };
        let mut bench = Bench {
            options,
            http,
            upstream,
            itself: itself.clone(),
            salons: Vec::new(),
            processes: vec![process],
            sides: vec![proxy],
        };
        bench.add_salon("relay", &itself, options.database_url.clone()).await?;
        if let Some(program) = &options.beside {
            bench.add_salon("other", program, None).await?;
        }
        Ok(bench)
    }

    /// Starts a Salon and gives it two teams: one without limits, and one with three.
    async fn add_salon(&mut self, name: &str, program: &Path, database_url: Option<String>) -> Result<()> {
        let folder = std::path::absolute(self.options.data.join(name))?;
        let salon = Salon { program: program.to_owned(), folder, database_url, core: self.options.core };
        salon.configure(self.upstream, &Model::ALL.map(Model::name))?;
        let (process, address) = salon.start(&self.http).await?;
        let free = salon.says(&["key", "add", "free", "--quiet"])?;
        let team = salon.says(&["org", "add", "limited"])?;
        let team = team.split_whitespace().next().context("no team was added")?;
        salon.says(&["user", "add", "bob", "--org", team, "--role", "admin"])?;
        let limited = salon.says(&["key", "add", "limited", "--user", "bob", "--quiet"])?;
        for (scope, measure, period, amount) in [
            ("key", "requests", "day", json!(1_000_000_000)),
            ("user", "tokens", "day", json!(1_000_000_000_000_i64)),
            ("org", "micros", "month", json!("1000000")),
        ] {
            let limit = json!({ "scope": scope, "measure": measure, "period": period, "amount": amount });
            let url = format!("http://{address}/api/admin/usage/limits");
            let added = self.http.post(url).bearer_auth(&limited).json(&limit).send().await?;
            ensure!(added.status() == StatusCode::CREATED, "a limit was not added: {}", added.text().await?);
        }
        let process_at = self.processes.len();
        self.processes.push(process);
        self.salons.push(salon);
        for (name, key) in [(name.to_owned(), free), (format!("{name}, three limits"), limited)] {
            self.sides.push(Side { name, process: process_at, address, key });
        }
        Ok(())
    }

    /// Processor time, throughput and latency of every side with every kind of call.
    async fn costs(&self) -> Result<()> {
        let long = WORD.repeat(long_words(self.options));
        let prompt = format!("{} KiB prompt", self.options.prompt_kib);
        let kinds = [
            ("call", Model::Whole, PROMPT, self.options.calls),
            ("stream", Model::Stream, PROMPT, self.options.streams),
            (prompt.as_str(), Model::Long, long.as_str(), self.options.long_calls),
        ];
        let mut seen = vec![vec![Vec::new(); self.sides.len()]; kinds.len()];
        // The first round is not looked at: connections are made in it, and caches filled.
        for round in 0..=self.options.rounds {
            for (kind, (_, model, prompt, count)) in kinds.iter().enumerate() {
                for turn in 0..self.sides.len() {
                    // Nobody always comes first.
                    let at = (turn + round) % self.sides.len();
                    let count = if round == 0 { count.div_ceil(10) } else { *count };
                    let one = self.measure(&self.sides[at], *model, prompt, count).await?;
                    if round > 0 {
                        seen[kind][at].push(one);
                    }
                }
            }
        }
        println!(
            "{:<34} {:>9} {:>9} {:>9} {:>8} {:>8} {:>9} {:>9}",
            "", "CPU s/1k", "of proxy", "per s", "p50 ms", "p99 ms", "added p50", "added p99"
        );
        for (kind, (name, ..)) in kinds.iter().enumerate() {
            let proxy = &seen[kind][0];
            for (side, seen) in self.sides.iter().zip(&seen[kind]) {
                let of = |figure: fn(&Seen) -> f64| median(seen.iter().map(figure));
                let beside =
                    |figure: fn(&Seen, &Seen) -> f64| median(seen.iter().zip(proxy).map(|(a, b)| figure(a, b)));
                println!(
                    "{:<34} {:>9.4} {:>9.2} {:>9.0} {:>8.2} {:>8.2} {:>9.2} {:>9.2}",
                    format!("{name}: {}", side.name),
                    of(|seen| seen.cpu),
                    beside(|seen, proxy| seen.cpu / proxy.cpu.max(f64::MIN_POSITIVE)),
                    of(|seen| seen.per_second),
                    of(|seen| seen.p50_ms),
                    of(|seen| seen.p99_ms),
                    beside(|seen, proxy| seen.p50_ms - proxy.p50_ms),
                    beside(|seen, proxy| seen.p99_ms - proxy.p99_ms),
                );
            }
        }
        for (at, side) in self.sides.iter().enumerate() {
            let ratios =
                seen[2][at].iter().zip(&seen[0][at]).map(|(long, short)| long.cpu / short.cpu.max(f64::MIN_POSITIVE));
            println!("{:<52} {:>9.2}", format!("{prompt} to a short one: {}", side.name), median(ratios));
        }
        Ok(())
    }

    async fn measure(&self, side: &Side, model: Model, prompt: &str, count: usize) -> Result<Seen> {
        let question = side.question(model, prompt);
        let process = &self.processes[side.process];
        let (began, before) = (tokio::time::Instant::now(), process.cpu()?);
        let mut times = question.ask(count, self.options.at_once).await.with_context(|| side.name.clone())?;
        let (took, cpu) = (began.elapsed().as_secs_f64(), process.cpu()? - before);
        times.sort();
        let at = |share: usize| times.get(times.len() * share / 100).map_or(0.0, |time| time.as_secs_f64() * 1_000.0);
        let count = count as f64;
        Ok(Seen { cpu: cpu * 1_000.0 / count, per_second: count / took, p50_ms: at(50), p99_ms: at(99) })
    }

    /// The longest silence in streams whose pieces come at a pace: what is held up on its way comes late.
    async fn gaps(&self) -> Result<()> {
        for side in &self.sides {
            let gap = side.question(Model::Paced, PROMPT).longest_gap(GAP_STREAMS).await?;
            let name = format!("longest gap (ms), sent at {}: {}", PACE.as_millis(), side.name);
            println!("{name:<52} {:>9.1}", gap.as_secs_f64() * 1_000.0);
        }
        Ok(())
    }

    /// Starts the process of a side anew, so that what was done before is not in its memory. Asks it a little, so that
    /// what every process needs is there.
    async fn anew(&self, side: &Side) -> Result<(Process, Side)> {
        let (process, address) = match side.process.checked_sub(1) {
            None => process::proxy(&self.itself, self.upstream, self.options.core)?,
            Some(salon) => self.salons[salon].start(&self.http).await?,
        };
        let side = Side { name: side.name.clone(), process: side.process, address, key: side.key.clone() };
        for model in [Model::Whole, Model::Stream] {
            side.question(model, PROMPT).ask(self.options.at_once * 4, self.options.at_once).await?;
        }
        Ok((process, side))
    }

    /// Memory of each process: of streams that are held, and over many calls.
    async fn memory(mut self) -> Result<()> {
        // A folder has one Salon at a time.
        self.processes.clear();
        let mut seen = BTreeSet::new();
        for side in self.sides.iter().filter(|side| seen.insert(side.process)) {
            let (process, side) = self.anew(side).await?;
            let before = process.resident_kib()?;
            let held = side.question(Model::Idle, PROMPT).hold(self.options.idle).await?;
            tokio::time::sleep(SETTLING).await;
            let each = (process.resident_kib()? - before) / (self.options.idle as f64).max(1.0);
            let name = format!("KiB for each of {} idle streams: {}", self.options.idle, side.name);
            println!("{name:<52} {each:>9.1}");
            drop(held);
        }
        for side in self.sides.iter().filter(|side| side.process > 0) {
            let (process, side) = self.anew(side).await?;
            let mut resident = vec![process.resident_kib()?];
            for _ in 0..LOOKS {
                side.question(Model::Whole, PROMPT).ask(self.options.many / LOOKS, self.options.at_once).await?;
                resident.push(process.resident_kib()?);
            }
            let name = format!("MiB resident during {} calls: {}", self.options.many, side.name);
            let shown: Vec<String> = resident.iter().map(|kib| format!("{:.1}", kib / 1024.0)).collect();
            println!("{name:<52} {}", shown.join("  "));
        }
        Ok(())
    }
}

fn long_words(options: &Options) -> usize {
    options.prompt_kib * 1024 / WORD.len()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
