//! What a cell is made of.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agent;

/// A program, and everything that it will have.
///
/// Paths on this machine come from the configuration or are made by us; nothing here is a person's text.
#[derive(Clone, Debug)]
pub struct Cell {
    /// By its whole path inside.
    pub program: PathBuf,
    pub args: Vec<String>,
    /// All of it: nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Files for its home, by their paths in there; written anew for each run.
    pub files: Vec<(PathBuf, String)>,
    /// Its home, kept between runs: [`agent::HOME`] inside.
    pub home: PathBuf,
    /// [`agent::WORKSPACE`] inside; the out folder is in it.
    pub workspace: PathBuf,
    /// Whether the workspace can only be read. Without walls it can be written to all the same.
    pub looks: bool,
    /// What else it may read: where it is installed.
    pub shows: Vec<Show>,
    /// The socket that 127.0.0.1 leads to, and the port that it is on inside.
    pub door: Option<(PathBuf, u16)>,
    pub hush: Hush,
    pub limits: Limits,
}

impl Cell {
    pub fn new(program: &Path, home: PathBuf, workspace: PathBuf) -> Cell {
        Cell {
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            files: Vec::new(),
            home,
            workspace,
            looks: false,
            shows: Vec::new(),
            door: None,
            hush: Hush::default(),
            limits: Limits::default(),
        }
    }

    /// What is laid over with nothing where it exists: settings of agents that come with a workspace could make them
    /// run something before anybody trusted it, and `.env` could send them to another server.
    pub(super) const MASKED: [&str; 5] = [".claude", ".codex", ".gemini", ".mcp.json", ".env"];

    /// What can be read and not changed: git would run it when a person works in the same folder, outside of the cell.
    pub(super) const KEPT: [&str; 2] = [".git/hooks", ".git/config"];
}

/// A file or a folder of this machine, and where it is to be seen inside. It can only be read there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Show {
    pub from: PathBuf,
    pub at: PathBuf,
}

impl Show {
    /// At the same place.
    pub fn there(path: impl Into<PathBuf>) -> Show {
        let path = path.into();
        Show { from: path.clone(), at: path }
    }
}

/// How an agent is asked to stop before it is ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hush {
    #[default]
    Terminate,
    /// As Ctrl-C does; some then say what they had, and what it cost.
    Interrupt,
}

/// What a cell can use up. Reaching a time or a size ends the run, and its end says which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads at once.
    pub processes: u64,
    /// Open files of each process.
    pub files: u64,
    /// The size of each file.
    pub file_bytes: u64,
    /// What one process may have asked for. What it reserves without writing does not count, of which V8 and Bun do a
    /// lot; a limit on the address space would keep them from starting.
    pub data_bytes: u64,
    /// What all its processes really hold.
    pub memory_bytes: u64,
    /// What fits into `/tmp`, and again into `/dev/shm`; both are memory.
    pub tmp_bytes: u64,
    /// What fits into workspace and home.
    pub disk_bytes: u64,
    pub disk_files: u64,
    pub wall: Duration,
    /// How long nothing may come from it.
    pub idle: Duration,
    /// Between asking it to stop and ending it.
    pub grace: Duration,
    /// All of its standard output.
    pub output_bytes: usize,
    pub line_bytes: usize,
    /// How much of the end of its standard error is kept.
    pub error_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        const MIB: u64 = 1024 * 1024;
        Limits {
            processes: 256,
            files: 512,
            file_bytes: 256 * MIB,
            data_bytes: 6144 * MIB,
            memory_bytes: 2048 * MIB,
            tmp_bytes: 256 * MIB,
            disk_bytes: 2048 * MIB,
            disk_files: 200_000,
            wall: Duration::from_secs(15 * 60),
            idle: Duration::from_secs(5 * 60),
            grace: Duration::from_secs(3),
            output_bytes: 32 << 20,
            line_bytes: 1 << 20,
            error_bytes: 64 << 10,
        }
    }
}

/// Where the inside of a cell is, if there are no walls: our own paths in fixed words are put in place of those inside.
pub(super) fn outside(text: &str, cell: &Cell) -> String {
    text.replace(agent::HOME, &cell.home.to_string_lossy()).replace(agent::WORKSPACE, &cell.workspace.to_string_lossy())
}
