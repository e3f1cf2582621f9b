//! What a test has: folders, a runtime, and a sandbox that was probed.

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use salon_engine::sandbox::{Cell, Confined, Sandbox, Settings, Show};

pub struct House {
    folder: PathBuf,
    /// Removes it in the end, if it is ours.
    _owned: Option<tempfile::TempDir>,
    runtime: tokio::runtime::Runtime,
}

/// Where the test program itself is in a cell.
pub const AGENT: &str = "/opt/agent/cell";

impl House {
    pub fn open(name: &str) -> House {
        let folder = tempfile::Builder::new().prefix(&format!("cell-{}-", name.replace("::", "-"))).tempdir().unwrap();
        let path = folder.path().to_owned();
        let house = House { _owned: Some(folder), ..House::at(path) };
        for name in ["home", "workspace", "sandbox"] {
            std::fs::create_dir(house.path(name)).unwrap();
            std::fs::set_permissions(house.path(name), std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        house
    }

    /// Somebody else's, again.
    pub fn at(folder: PathBuf) -> House {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        House { folder, _owned: None, runtime }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(120), work).await.expect("a test ends within two minutes")
        })
    }

    pub fn settings(&self) -> Settings {
        Settings { bwrap: bwrap(), shim: std::env::current_exe().unwrap(), folder: self.path("sandbox") }
    }

    pub async fn sandbox(&self) -> Sandbox {
        match Sandbox::probe(self.settings()).await {
            Ok(sandbox) => sandbox,
            Err(lack) => panic!(
                "the sandbox cannot be tried: {lack}; install bubblewrap, or set SALON_NO_BWRAP=1 to leave it unproved"
            ),
        }
    }

    /// A cell in which this program does something.
    pub fn cell(&self, args: &[&str]) -> Cell {
        let mut cell = Cell::new(Path::new(AGENT), self.path("home"), self.path("workspace"));
        cell.args = ["evil"].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        cell.env = vec![("PATH".into(), "/usr/bin:/bin".into()), ("HOME".into(), salon_engine::agent::HOME.into())];
        cell.shows = vec![Show { from: std::env::current_exe().unwrap(), at: AGENT.into() }];
        cell
    }

    /// What is in the arguments of everybody who belongs to this test.
    pub fn mark(&self) -> String {
        self.folder.file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// Who of them is there, after they had a moment to go.
    pub async fn left(&self) -> Vec<String> {
        let mark = self.mark();
        for _ in 0..100 {
            if everybody(&mark).is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        everybody(&mark)
    }

    #[expect(clippy::disallowed_methods, reason = "a neighbour of the cell, for the test to watch over")]
    pub fn program(&self, name: &str, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(name);
        command.args(args);
        command
    }

    pub async fn start(&self, args: &[&str]) -> Confined {
        self.sandbox().await.start(self.cell(args)).await.unwrap()
    }
}

/// The processes of this machine that have a mark in their arguments.
pub fn everybody(mark: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| *entry.file_name() != *own);
    let lines = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(mark)).map(|line| line.replace('\0', " ")).collect()
}

pub fn bwrap() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("bwrap")).find(|file| file.is_file())
}

pub async fn all_lines(confined: &mut Confined) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(line) = confined.next().await {
        lines.push(line.text);
    }
    lines
}
