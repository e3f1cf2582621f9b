//! The processes that are measured: this program or another build of it, as children.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, StatusCode};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::config::upstreams::MOST_CALLS;

/// The kernel counts processor time in these, for whoever asks in /proc.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a process may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A child; dropping it kills it.
pub struct Process(Child);

impl Process {
    /// Processor time so far, of all its threads, in seconds.
    pub fn cpu(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(self.file("stat"))?;
        // The name may hold anything, and ends with the last parenthesis.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace()).context("no fields")?;
        let ticks: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
    }

    /// Memory that is resident, in KiB.
    pub fn resident_kib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(self.file("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?.parse()?)
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.0.id().to_string()).join(name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A command of a program.
fn command(program: &Path) -> Command {
    #[expect(clippy::disallowed_methods, reason = "a benchmark starts the programs that it measures")]
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Starts what is measured, on one core alone if that is wanted: a child may run where the thread may that starts it.
fn start(command: &mut Command, core: Option<u16>) -> Result<Child> {
    let Some(core) = core else { return Ok(command.spawn()?) };
    let (mut alone, before) = (CpuSet::new(), sched_getaffinity(None)?);
    alone.set(usize::from(core));
    sched_setaffinity(None, &alone).with_context(|| format!("there is no core {core}"))?;
    let child = command.spawn();
    sched_setaffinity(None, &before)?;
    Ok(child?)
}

/// Starts the bare proxy.
pub fn proxy(program: &Path, upstream: SocketAddr, core: Option<u16>) -> Result<(Process, SocketAddr)> {
    let mut command = command(program);
    command.args(["bench", "proxy", "--upstream"]).arg(upstream.to_string()).stdout(Stdio::piped());
    let mut child = start(&mut command, core).context("the proxy cannot be started")?;
    let output = child.stdout.take();
    let process = Process(child);
    let mut line = String::new();
    BufReader::new(output.context("the proxy has no output")?).read_line(&mut line)?;
    let address = line.trim().parse().context("the proxy does not say where it listens")?;
    Ok((process, address))
}

/// A Salon on a folder of its own.
pub struct Salon {
    pub program: PathBuf,
    pub folder: PathBuf,
    pub database_url: Option<String>,
    /// The core that it is started on, if it is to have no other.
    pub core: Option<u16>,
}

impl Salon {
    /// Writes down whom it asks for the models.
    pub fn configure(&self, upstream: SocketAddr, models: &[&str]) -> Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        // All that is asked is asked in the name of two people.
        let mut text = format!(
            "[relay]\ncalls_per_user = {MOST_CALLS}\n\n[upstreams.bench]\nkind = \"compatible\"\nbase_url = \"http://{upstream}/v1\"\nkey_env = \"BENCH_KEY\"\n"
        );
        for model in models {
            text.push_str(&format!(
                "\n[models.{model}]\nupstream = \"bench\"\nmodel = \"{model}\"\n\
                 rates = {{ input = \"1\", output = \"2\" }}\noutput = 1000\n"
            ));
        }
        std::fs::write(self.folder.join("salon.toml"), text)?;
        std::fs::write(self.folder.join("bots.yaml"), "bots: []\n")?;
        Ok(())
    }

    /// A command on its data.
    fn on_data(&self, words: &[&str]) -> Command {
        let mut command = command(&self.program);
        command.args(words).arg("--config").arg(self.folder.join("salon.toml"));
        command.arg("--data").arg(self.folder.join("data")).arg("--bots").arg(self.folder.join("bots.yaml"));
        command.env("BENCH_KEY", "sk-bench").env("LOG_LEVEL", "warn");
        match &self.database_url {
            Some(url) => command.args(["--database-url", url]),
            None => command.env_remove("DATABASE_URL"),
        };
        command
    }

    /// Starts it, and waits until it answers. Whether it thinks itself ready does not matter: a disk that others have
    /// nearly filled is no reason not to measure.
    pub async fn start(&self, http: &Client) -> Result<(Process, SocketAddr)> {
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let mut command = self.on_data(&["serve", "--listen", &address.to_string()]);
        let process = Process(start(command.stdout(Stdio::null()), self.core).context("Salon cannot be started")?);
        let alive = format!("http://{address}/healthz");
        let began = Instant::now();
        loop {
            if http.get(&alive).send().await.is_ok_and(|response| response.status() == StatusCode::OK) {
                return Ok((process, address));
            }
            ensure!(began.elapsed() < PATIENCE, "Salon does not answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What a command of the office prints.
    pub fn says(&self, words: &[&str]) -> Result<String> {
        let output = self.on_data(words).output()?;
        let trouble = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "salon {}: {trouble}", words.join(" "));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}
