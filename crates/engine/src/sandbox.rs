//! The one place that starts programs of other people: coding agents, in a cell with nothing in it but their folder and
//! one door.
//!
//! ```text
//! Sandbox::probe ─► Sandbox ─► start(Cell) ─► Confined: lines out, lines in, stop, ended
//!                                  │
//!                        bwrap (namespaces, mounts)          the server's side: `walls`, `confined`, `watch`
//!   ───────────────────────────────┼───────────────────────────────────────────────────────────────────
//!                        shim (limits, Landlock, seccomp)    inside: `shim`, with the server on its standard input
//!                                  │
//!                               the agent ── 127.0.0.1 ── shim ── door.sock ── the relay
//! ```
//!
//! Three layers stand around an agent, and each holds without the others: namespaces (it sees no other process, no
//! network and no file that was not put there), Landlock with the same paths, and a filter for system calls by which
//! kernels have been broken. What it can use up is limited, and what it is told is not in anybody's argument list.
//!
//! Nothing is ever run bare because a layer is missing: [`Sandbox::probe`] tries for real, and says in a line what it
//! lacks. Who wants to run agents without a cell on a machine of their own has to say so, with [`Sandbox::none`].

pub mod artifacts;
pub mod beneath;
pub mod cell;
mod confined;
mod order;
mod ready;
pub mod shim;
mod tree;
mod walls;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

pub use cell::{Cell, Hush, Limits, Show};
pub use confined::{Confined, Ended, How, Line};

use confined::Program;

/// Where things are on this machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// bubblewrap, where the caller found it.
    pub bwrap: Option<PathBuf>,
    /// The program that is the shim when it is called with the word [`SHIM`]: Salon itself.
    pub shim: PathBuf,
    /// A folder for what the sandbox generates; it is made where it is missing.
    pub folder: PathBuf,
}

/// The word that makes a program of ours the shim.
pub const SHIM: &str = "shim";

/// Where the door is on, inside. In a cell nobody else can have it.
const DOOR_PORT: u16 = 4000;

/// Who starts agents. There is one for the whole process.
#[derive(Clone, Debug)]
pub struct Sandbox {
    settings: Arc<Settings>,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// No cell: limits, an empty environment and an end to everything that was started, but no walls.
    None,
    /// A user namespace of its own; outside, the agent is who we are.
    Namespace,
    /// We are root, and outside the agent is one of many users that are nobody. A user namespace would leave it root's
    /// rights to files and root's freedom from limits.
    Nobody,
}

/// What is missing for a cell, in a line for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Lack {
    #[error("bubblewrap is not installed: there is no program `bwrap` (on Debian: apt-get install bubblewrap)")]
    NoBubblewrap,
    #[error("this system gives no namespaces to bubblewrap: {0}")]
    NoNamespaces(String),
    #[error("the cell could not be made tight: {0}")]
    Loose(String),
    #[error("the sandbox cannot keep its own files: {0}")]
    NoFolder(String),
    /// The cell is fine, and this program cannot be started in it.
    #[error("it cannot be started: {0}")]
    Refused(String),
    #[error("the sandbox did not answer: {0}")]
    Silent(String),
}

impl Sandbox {
    /// Tries for real: runs nothing, in a cell with all its walls.
    pub async fn probe(settings: Settings) -> Result<Sandbox, Lack> {
        let found = settings.bwrap.as_ref().is_some_and(|bwrap| bwrap.is_file());
        if !found {
            return Err(Lack::NoBubblewrap);
        }
        let mode = if rustix::process::geteuid().is_root() { Mode::Nobody } else { Mode::Namespace };
        let sandbox = Sandbox { settings: Arc::new(settings), mode };
        let folder = sandbox.settings.folder.join("probe");
        let cell = Cell {
            limits: Limits { wall: Duration::from_secs(20), ..Limits::default() },
            ..Cell::new(Path::new(walls::SHIM), folder.join("home"), folder.join("workspace"))
        };
        let cell = Cell { args: vec![SHIM.into(), "nothing".into()], ..cell };
        for folder in [&cell.home, &cell.workspace] {
            std::fs::create_dir_all(folder).map_err(|error| Lack::NoFolder(error.to_string()))?;
        }
        let mut confined = sandbox.start(cell).await?;
        let ended = confined.ended().await;
        std::fs::remove_dir_all(&folder).map_err(|error| Lack::NoFolder(error.to_string()))?;
        match ended.how {
            How::Exit(0) => Ok(sandbox),
            how => Err(Lack::Silent(format!("{how}; {}", last_line(&ended.errors)))),
        }
    }

    /// No cell at all, for one's own machine: an agent may do there whatever its user may. What is left are an empty
    /// environment, limits, and an end to everything that it started.
    pub fn none(settings: Settings) -> Sandbox {
        Sandbox { settings: Arc::new(settings), mode: Mode::None }
    }

    /// Whether there are walls. Where there are none, that is to be said wherever somebody looks.
    pub fn is_tight(&self) -> bool {
        self.mode != Mode::None
    }

    /// The port for a cell's door: the same in every cell, and any that is free where there is none.
    pub fn door_port(&self) -> u16 {
        if self.is_tight() {
            return DOOR_PORT;
        }
        // Somebody could take it before the shim does; then the start is refused, and may be tried again.
        let free = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        free.map_or(DOOR_PORT, |address| address.port())
    }

    /// Starts a program. Returns when it runs, or with what kept it from running.
    pub async fn start(&self, cell: Cell) -> Result<Confined, Lack> {
        let (sandbox, cell) = tokio::task::spawn_blocking({
            let sandbox = self.clone();
            move || ready::ready(&sandbox, cell).map(|cell| (sandbox, cell))
        })
        .await
        .map_err(|error| Lack::Silent(error.to_string()))??;
        let order = walls::order(sandbox.mode, &cell);
        let program = match sandbox.mode {
            Mode::None => Program { path: sandbox.settings.shim.clone(), args: vec![SHIM.into()], tight: false },
            mode => {
                let path = sandbox.settings.bwrap.clone().ok_or(Lack::NoBubblewrap)?;
                let args = walls::args(mode, &sandbox.settings, &cell);
                Program { path, args, tight: true }
            }
        };
        Confined::start(program, order, cell).await
    }
}

/// Keeps other processes of the same user out of our memory and environment, and our memory out of core files. To be called
/// by a process that holds keys, before it reads them; root can still attach a debugger.
pub fn protect_ourselves() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing was said")
}
