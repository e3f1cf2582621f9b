//! What the server and the shim say to each other, in lines of JSON over the shim's standard input.
//!
//! It is a socket, and therefore works both ways, tells each of them when the other is gone, and keeps the agent's
//! environment out of every argument list and every file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// To the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Tell {
    /// The first thing that is said.
    Start(Box<Order>),
    /// For the agent's standard input.
    Write(String),
    CloseInput,
    Interrupt,
    Terminate,
}

/// From the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// The agent runs.
    Started,
    /// It does not, for this reason.
    Refused(String),
    /// It does not, because a wall is missing.
    Loose(String),
    Exit(i32),
    Signal(i32),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub folder: PathBuf,
    /// The port on 127.0.0.1, and the socket that it leads to.
    pub door: Option<(u16, PathBuf)>,
    pub bounds: Bounds,
    /// `None` only where there is no cell.
    pub walls: Option<Paths>,
}

/// Limits that a process gives itself, and its children with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Bounds {
    pub processes: u64,
    pub files: u64,
    pub file_bytes: u64,
    pub data_bytes: u64,
}

/// What Landlock lets through, and what must not be a link.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Paths {
    pub read: Vec<PathBuf>,
    pub write: Vec<PathBuf>,
    pub masks: Vec<PathBuf>,
}
