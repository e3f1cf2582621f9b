//! What a test has: folders, a runtime, and a sandbox that was probed.

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use salon_engine::sandbox::{Cell, Confined, Sandbox, Settings, Show};

pub struct House {
    pub folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

/// Where the test program itself is in a cell.
pub const AGENT: &str = "/opt/agent/cell";

impl House {
    pub fn open(name: &str) -> House {
        let folder = tempfile::Builder::new().prefix(&format!("cell-{}-", name.replace("::", "-"))).tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let house = House { folder, runtime };
        for name in ["home", "workspace", "sandbox"] {
            std::fs::create_dir(house.path(name)).unwrap();
            std::fs::set_permissions(house.path(name), std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        house
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
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

    pub async fn start(&self, args: &[&str]) -> Confined {
        self.sandbox().await.start(self.cell(args)).await.unwrap()
    }
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
