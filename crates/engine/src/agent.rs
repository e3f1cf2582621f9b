//! Coding agents: programs of other people that work in a folder, and say in lines of JSON what they do.
//!
//! Everything here is words: what to start ([`Launch`]), what to tell it and what its lines mean ([`Talk`]). Who starts
//! the process, and in what cell, is the business of [`crate::sandbox`]; so all of this can be tested without one.
//!
//! ```text
//! Errand ─► Maker::launch ─► Launch ─► (a process in a cell) ─► line ─► Talk::hear ─► Step, Step …
//!                                              ▲                                        │
//!                                              └──────────── Step::Write ◄──────────────┘
//! ```

pub mod acp;
#[cfg(test)]
mod asking;
pub mod claude;
pub mod claude_asks;
pub mod codex;
pub mod codex_server;
mod ending;
pub mod gemini;
mod names;
mod prompt;
mod questions;
mod rpc;
mod telling;
mod words;

use std::fmt;
use std::path::PathBuf;

use salon_core::{AskLine, Note, Usage};

use crate::{EngineError, Secret};

pub use acp::Acp;
pub use claude::Claude;
pub use claude_asks::ClaudeAsks;
pub use codex::Codex;
pub use codex_server::CodexServer;
pub use gemini::Gemini;

/// Where an agent finds itself: its home, the folder that it works in, and where it leaves what people shall get.
pub const HOME: &str = "/home/agent";
pub const WORKSPACE: &str = "/workspace";
pub const OUT: &str = "/workspace/out";

/// What is asked of an agent.
#[derive(Clone, Debug)]
pub struct Errand {
    /// Travels on standard input, or within a line of JSON; never as an argument.
    pub prompt: String,
    /// The agent's own thread to go on with.
    pub thread: Option<String>,
    pub model: Option<String>,
    pub policy: Policy,
    /// Whether there are walls around it that hold it to the policy where it may only look.
    pub held: bool,
    pub door: Door,
}

/// What an agent may do by itself. The cell holds whatever this says; it is about what people want to be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Somebody is asked before a command is run or a file is changed.
    #[default]
    Ask,
    /// It may look and think.
    ReadOnly,
    /// It may run commands and change what is in its workspace.
    Workspace,
    /// It is not held back by itself; the cell still is around it.
    Full,
}

impl Policy {
    /// Those that a list or a configuration may name. The last one is an admin's to give, and never for long.
    pub const NAMED: [Policy; 3] = [Policy::Ask, Policy::ReadOnly, Policy::Workspace];

    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Ask => "ask",
            Policy::ReadOnly => "read-only",
            Policy::Workspace => "workspace",
            Policy::Full => "full",
        }
    }

    /// Reads one that may be named.
    pub fn parse(text: &str) -> Option<Policy> {
        Policy::NAMED.into_iter().find(|policy| policy.as_str() == text)
    }
}

/// The way to the models, as it is seen from inside: `http://127.0.0.1:{port}`, with a key that is good for this run.
#[derive(Clone, Debug)]
pub struct Door {
    pub port: u16,
    pub key: Secret,
}

/// How an agent is started. All of it is made of fixed words and of what was checked; nothing in it is a person's text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Launch {
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Files in its home, by their paths in there.
    pub files: Vec<(PathBuf, String)>,
}

/// One of the variables is the door's key.
impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Launch").field("args", &self.args).field("env", &names).field("files", &self.files).finish()
    }
}

/// An agent's kind: how it is started, and how it talks.
pub trait Maker: Send + Sync {
    /// How it is started for an errand. Refuses names of models and threads that are none.
    fn launch(&self, errand: &Errand) -> Result<Launch, EngineError>;

    /// A conversation with the process that [`Maker::launch`] describes.
    fn talk(&self, errand: &Errand) -> Box<dyn Talk>;

    /// Whether it can be told more while it is at work.
    fn steers(&self) -> bool {
        false
    }

    /// Whether somebody is asked, where the policy says so. Others are not run under that policy.
    fn asks(&self) -> bool {
        false
    }
}

/// A conversation with a running agent, from its first line to its last. It never fails: a line that it does not know is
/// kept as it is.
pub trait Talk: Send {
    /// What to tell it first.
    fn open(&mut self) -> Vec<Step>;

    /// What one line of its standard output means, without the line's end.
    fn hear(&mut self, line: &str) -> Vec<Step>;

    /// Somebody answered what it asked.
    fn decide(&mut self, ask: &str, verdict: Verdict) -> Vec<Step>;

    /// Whether it can be told more now.
    fn can_steer(&self) -> bool {
        false
    }

    /// Tells it more while it is at work. Whether it heard is a [`Step::Steered`] of this name, sooner or later; none comes
    /// where it ends first, and nothing happens where it cannot be told.
    fn steer(&mut self, _steer: &str, _text: &str) -> Vec<Step> {
        Vec::new()
    }

    /// Asks it to stop by itself. Nothing if it can only be ended.
    fn stop(&mut self) -> Vec<Step> {
        Vec::new()
    }

    /// How the errand went, once the process has ended: `code` is `None` if a signal ended it, `errors` is the end of its
    /// standard error. What was said decides, not the code alone.
    fn ended(&mut self, code: Option<i32>, errors: &str) -> Result<(), EngineError>;
}

/// What follows from a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A line for its standard input.
    Write(String),
    /// Nothing more will be written.
    CloseInput,
    Text(String),
    Note(Note),
    Thread(String),
    Usage(Usage),
    /// It wants to do something, and waits for [`Talk::decide`].
    Ask(Ask),
    /// What became of something that it was told while it was at work, by the name that [`Talk::steer`] gave it.
    Steered {
        steer: String,
        heard: bool,
    },
    /// It has said everything; the process may be ended if it does not end by itself.
    Finished,
}

/// Something that an agent wants to be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The agent's name for the question.
    pub id: String,
    /// What it wants, in a line: a command, the name of a file.
    pub title: String,
    /// The whole of it: a command with its folder, a diff.
    pub detail: String,
    /// The same in lines that can be said in another language; none where it is too long.
    pub lines: Vec<AskLine>,
    /// What is to be allowed for the rest of the thread, if it is; equal texts are the same permission.
    pub what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Once,
    /// And whatever is the same, as long as this run lasts.
    Session,
    Deny,
}
