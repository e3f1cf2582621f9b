//! What runs first in a cell: the server's hand inside.
//!
//! It gives itself limits, starts the agent behind Landlock and the filter, opens the door on 127.0.0.1, passes on what
//! the server says, and ends everything when the agent ends or the server is gone. It is the first process of its
//! namespace, so nobody inside can end or stop it, and nothing outlives it.
//!
//! Landlock and the filter hold a thread and whatever comes from it. So a thread of its own starts the agent and ends:
//! what the agent does is held, and what the shim does is not.

mod bounds;
mod relay;

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ChildStdin, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::{mpsc, oneshot};

use super::order::{Order, Tell, Told};
use super::{SHIM, tree};

/// How many things may wait for an agent that does not read.
const WAITING: usize = 1024;
/// How often we look for those that have to end.
const ROUNDS: usize = 200;
/// How long the server may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// `salon shim …`: to be called before anything else in a process, by nobody but the sandbox.
pub fn run(args: &[String]) -> ExitCode {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let user = match args[..] {
        // What the probe runs.
        ["nothing"] => return ExitCode::SUCCESS,
        [] => None,
        ["--user", user] => user.parse().ok(),
        _ => return ExitCode::from(2),
    };
    match begin(user) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("salon shim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn begin(user: Option<u32>) -> Result<Infallible> {
    if let Some(user) = user
        && rustix::process::geteuid().is_root()
    {
        let mut again = program(std::env::current_exe()?);
        again.arg(SHIM).args(["--user", &user.to_string()]).uid(user).gid(user);
        // It returns only if it fails.
        return Err(again.exec()).context("cannot become another user");
    }
    // A file that every process may write for itself, as long as its secrets are not protected: hence first.
    std::fs::write("/proc/self/oom_score_adj", "1000").context("/proc/self/oom_score_adj")?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    runtime.block_on(serve(tokio::net::UnixStream::from_std(stream)?))
}

async fn serve(stream: tokio::net::UnixStream) -> Result<Infallible> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("nobody said what to start")??;
    let Tell::Start(order) = serde_json::from_str(&first.context("nobody is there")?)? else {
        bail!("the first word is not what to start");
    };
    let mut agent = match start(*order).await {
        Ok(agent) => agent,
        Err(error) => {
            let why = format!("{error:#}");
            let told = if error.is::<Loose>() { Told::Loose(why) } else { Told::Refused(why) };
            tell(&mut writer, &told).await?;
            end();
        }
    };
    tell(&mut writer, &Told::Started).await?;
    let input = tokio::net::unix::pipe::Sender::from_owned_fd(OwnedFd::from(agent.input))?;
    let (words, waiting) = mpsc::channel(WAITING);
    let mut words = Some(words);
    tokio::spawn(pass_on(waiting, input));
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            status = &mut agent.ended => {
                let status = status?;
                let told = match (status.code(), status.signal()) {
                    (Some(code), _) => Told::Exit(code),
                    (None, signal) => Told::Signal(signal.unwrap_or_default()),
                };
                tell(&mut writer, &told).await?;
                end();
            }
        };
        // The server is gone, or talks nonsense: either way nobody is left to run for.
        let Ok(Some(line)) = line else { end() };
        match serde_json::from_str(&line) {
            Ok(Tell::Write(text)) => {
                let full = words
                    .as_ref()
                    .is_some_and(|words| matches!(words.try_send(text), Err(mpsc::error::TrySendError::Full(_))));
                if full {
                    tell(&mut writer, &Told::Refused("the agent does not read what it is told".into())).await?;
                    end();
                }
            }
            Ok(Tell::CloseInput) => words = None,
            // To its whole group: some start themselves again as a child, and that one has to hear it.
            Ok(Tell::Interrupt) => drop(rustix::process::kill_process_group(agent.process, Signal::INT)),
            Ok(Tell::Terminate) => drop(rustix::process::kill_process_group(agent.process, Signal::TERM)),
            Ok(Tell::Start(_)) | Err(_) => end(),
        }
    }
}

/// A wall that cannot be put up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Loose(String);

struct Agent {
    process: Pid,
    input: ChildStdin,
    ended: oneshot::Receiver<ExitStatus>,
}

async fn start(order: Order) -> Result<Agent> {
    bounds::limit(&order.bounds).context("limits")?;
    if order.walls.is_some() {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    } else {
        // Who loses its parent becomes our child, and is found when everything ends: so we must not go first.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    if let Some((port, socket)) = order.door.clone() {
        relay::open(port, socket).await.context("the door")?;
    }
    // The walls are put up around a thread that ends with the start: none is left through which the agent could reach us.
    let (started, agent) = oneshot::channel();
    std::thread::Builder::new().name("launch".into()).spawn(move || started.send(launch(&order)).ok())?;
    let mut child = agent.await.context("the thread that starts the agent ended")??;
    let process = Pid::from_child(&child);
    let input = child.stdin.take().context("its standard input is a pipe")?;
    let (tell_end, ended) = oneshot::channel();
    std::thread::Builder::new().name("wait".into()).spawn(move || tell_end.send(wait(process)).ok())?;
    Ok(Agent { process, input, ended })
}

/// Waits for the agent's end; and for everybody else's, because the first process of a namespace has to.
fn wait(agent: Pid) -> ExitStatus {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((process, status))) if process == agent => return ExitStatus::from_raw(status.as_raw()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // It is our child until it was seen here, so there is always somebody to wait for.
            Err(error) => unreachable!("no children: {error}"),
        }
    }
}

fn launch(order: &Order) -> Result<std::process::Child> {
    let paths = order.walls.as_ref();
    if let Some(paths) = paths {
        for mask in &paths.masks {
            // Somebody who works in the same folder could have put a link there since the server looked.
            if std::fs::symlink_metadata(mask)?.is_symlink() {
                bail!("{} became a link", mask.display());
            }
        }
        bounds::lock(paths).map_err(|error| Loose(format!("{error:#}")))?;
    }
    let mut agent = program(&order.program);
    agent.args(&order.args).env_clear().envs(order.env.iter().map(|(name, value)| (name, value)));
    agent.current_dir(&order.folder).stdin(Stdio::piped()).process_group(0);
    let name = order.program.display();
    agent.spawn().with_context(|| format!("{name} cannot be started"))
}

#[expect(clippy::disallowed_methods, reason = "the one place that starts agents, inside their cell")]
fn program(path: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
    std::process::Command::new(path)
}

/// Writes to the agent. One that closed its ears is not disturbed by it.
async fn pass_on(mut waiting: mpsc::Receiver<String>, mut input: tokio::net::unix::pipe::Sender) {
    while let Some(text) = waiting.recv().await {
        if input.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn tell(writer: &mut (impl tokio::io::AsyncWrite + Unpin), told: &Told) -> Result<()> {
    let mut line = serde_json::to_string(told)?;
    line.push('\n');
    Ok(writer.write_all(line.as_bytes()).await?)
}

/// Ends everything. In a cell the kernel does, because its first process goes; elsewhere we look for everybody.
fn end() -> ! {
    if rustix::process::getpid() != Pid::INIT {
        let signal = |process: &u32, signal| {
            if let Some(process) = i32::try_from(*process).ok().and_then(Pid::from_raw) {
                rustix::process::kill_process(process, signal).ok();
            }
        };
        // First all are stopped, because who is stopped starts nobody, and then all are ended.
        let mut known = std::collections::BTreeSet::new();
        for _ in 0..ROUNDS {
            let found = tree::below(std::process::id());
            let new: Vec<_> = found.into_iter().filter(|process| known.insert(*process)).collect();
            if new.is_empty() {
                break;
            }
            new.iter().for_each(|process| signal(process, Signal::STOP));
        }
        known.iter().for_each(|process| signal(process, Signal::KILL));
        for _ in 0..ROUNDS {
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            let left = tree::below(std::process::id());
            if left.is_empty() {
                break;
            }
            left.iter().for_each(|process| signal(process, Signal::KILL));
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    std::process::exit(0)
}
