//! The program under test, as a child process that never outlives its test.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Processes that share a database share the key.
pub const MASTER_KEY: &str = "UXJ5336N9s620W-YhDpm7l2yY1tCnhvoy0roU64OdIQ";

/// How to start it.
#[derive(Clone, Debug)]
pub struct Start {
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Where it is started, so that it finds no `.env` and no `salon.toml` of ours.
    pub folder: PathBuf,
    /// Where what it says is appended.
    pub log: PathBuf,
}

impl Start {
    pub fn with(mut self, name: &str, value: &str) -> Start {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn spawn(&self) -> Program {
        let log = || -> File { OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file") };
        #[expect(clippy::disallowed_methods, reason = "this test is about the program as a process")]
        let mut command = Command::new(env!("CARGO_BIN_EXE_salon"));
        command
            .args(&self.args)
            .env_clear()
            .env("MASTER_KEY", MASTER_KEY)
            .envs(self.env.iter().cloned())
            .current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(log()).stderr(log()).kill_on_drop(true);
        let child = command.spawn().expect("the program starts");
        Program { child }
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// A running child. Dropping it kills it, so nothing is left when a test panics.
pub struct Program {
    child: Child,
}

impl Program {
    /// `kill -9`, and waits until it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a child that was started can be killed");
    }

    pub fn signal(&self, signal: Signal) {
        // The number is ours until the child was waited for, which only `self` can do.
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).expect("it still runs");
        kill_process(pid, signal).expect("a signal can be sent to a child");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be looked after").is_none()
    }

    /// Waits for the program's own end. `None` if it has not come by then.
    pub async fn ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        let ended = tokio::time::timeout(patience, self.child.wait()).await.ok()?;
        Some(ended.expect("a child can be waited for"))
    }
}

/// An answer of the program's listener.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Asks the program something over HTTP; `None` if nobody answers.
pub async fn ask(port: u16, request: &str, body: &str) -> Option<Answer> {
    let asking = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let length = body.len();
        let text =
            format!("{request}\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
    };
    tokio::time::timeout(Duration::from_secs(5), asking).await.ok()?
}

pub fn text(path: &Path) -> String {
    path.to_str().expect("temporary folders have plain names").to_owned()
}
