//! What stands around a cell: bubblewrap's arguments, and the same paths once more for Landlock.
//!
//! No secret and nothing that changes what an agent is told is among the arguments, because everybody on the machine
//! can read those.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::cell::outside;
use super::order::{Bounds, Order, Paths};
use super::ready::Ready;
use super::{Mode, Settings};
use crate::agent::{HOME, WORKSPACE};

/// Where the shim and the door are inside.
pub(super) const SHIM: &str = "/run/salon/shim";
const DOOR: &str = "/run/salon/door.sock";

/// Who the agent is inside, where it has a user namespace.
pub(super) const AGENT: u32 = 1000;

/// What a program needs of `/etc` beside what we generate, as far as this machine has it. Private keys lie in
/// `/etc/ssl/private`, so only the certificates are shown.
const ETC: [&str; 10] = [
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/mime.types",
];

/// What stands beside `/usr`: links into it, or folders on older systems.
const ROOTS: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

pub(super) fn args(mode: Mode, settings: &Settings, cell: &Ready) -> Vec<String> {
    let mut args = Args::default();
    match mode {
        Mode::Namespace => args.add(["--unshare-user", "--uid", &AGENT.to_string(), "--gid", &AGENT.to_string()]),
        // The shim needs these two to become somebody else, and loses them by it.
        _ => args.add(["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]),
    }
    if mode == Mode::Namespace {
        args.add(["--cap-drop", "ALL"]);
    }
    args.add(["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--unshare-cgroup-try"]);
    args.add(["--hostname", "cell", "--die-with-parent", "--new-session"]);
    // The shim is the cell's first process: when it ends, the kernel ends all others, and nobody inside can end it.
    args.add(["--as-pid-1"]);

    args.add(["--ro-bind", "/usr", "/usr"]);
    args.made.extend(["/usr", "/proc", "/dev", "/tmp"].map(PathBuf::from));
    for root in ROOTS {
        match fs::read_link(root) {
            Ok(target) => args.add(["--symlink", &target.to_string_lossy(), root]),
            Err(_) if Path::new(root).is_dir() => args.add(["--ro-bind", root, root]),
            Err(_) => {}
        }
    }
    for path in ETC {
        args.above(Path::new(path));
        args.add(["--ro-bind-try", path, path]);
    }
    for name in super::ready::ETC {
        args.bind("--ro-bind", &cell.etc.join(name), &Path::new("/etc").join(name));
    }

    let tmp_bytes = cell.cell.limits.tmp_bytes.to_string();
    args.add(["--proc", "/proc", "--dev", "/dev"]);
    args.add(["--size", &tmp_bytes, "--perms", "1777", "--tmpfs", "/dev/shm"]);
    args.add(["--size", &tmp_bytes, "--perms", "1777", "--tmpfs", "/tmp"]);
    args.above(Path::new(SHIM));
    args.bind("--ro-bind", &settings.shim, Path::new(SHIM));
    if let Some((socket, _)) = &cell.cell.door {
        args.bind("--bind", socket, Path::new(DOOR));
    }
    args.above(Path::new(HOME));
    args.bind("--bind", &cell.cell.home, Path::new(HOME));
    let work = if cell.cell.looks { "--ro-bind" } else { "--bind" };
    args.bind(work, &cell.cell.workspace, Path::new(WORKSPACE));
    // As a mount of its own `.git` cannot be renamed, and with it what must not be changed in there.
    for name in &cell.kept {
        let kind = if name == Path::new(".git") { work } else { "--ro-bind" };
        args.bind(kind, &cell.cell.workspace.join(name), &Path::new(WORKSPACE).join(name));
    }
    for (name, is_folder) in &cell.masked {
        let nothing = if *is_folder { &cell.empty_folder } else { &cell.empty_file };
        args.bind("--ro-bind", nothing, &Path::new(WORKSPACE).join(name));
    }
    for show in &cell.cell.shows {
        args.above(&show.at);
        args.bind("--ro-bind", &show.from, &show.at);
    }
    // Both are memory, and everything in them was made by now.
    args.add(["--remount-ro", "/dev", "--remount-ro", "/"]);
    args.add(["--chdir", "/", "--", SHIM, super::SHIM]);
    if let Some(user) = cell.user {
        args.add(["--user", &user.to_string()]);
    }
    args.words
}

pub(super) fn order(mode: Mode, cell: &Ready) -> Order {
    let Ready { cell, masked, .. } = cell;
    let limits = &cell.limits;
    let bounds = Bounds {
        processes: limits.processes,
        files: limits.files,
        file_bytes: limits.file_bytes,
        data_bytes: limits.data_bytes,
    };
    if mode == Mode::None {
        return Order {
            program: cell.program.clone(),
            args: cell.args.iter().map(|arg| outside(arg, cell)).collect(),
            env: cell.env.iter().map(|(name, value)| (name.clone(), outside(value, cell))).collect(),
            folder: cell.workspace.clone(),
            door: cell.door.as_ref().map(|(socket, port)| (*port, socket.clone())),
            bounds,
            walls: None,
        };
    }
    let mut read: Vec<PathBuf> = ["/usr", "/etc", "/proc", SHIM].map(PathBuf::from).to_vec();
    read.extend(ROOTS.map(PathBuf::from));
    read.extend(cell.shows.iter().map(|show| show.at.clone()));
    let mut write = ["/dev/shm", "/tmp", HOME].map(PathBuf::from).to_vec();
    if cell.looks { &mut read } else { &mut write }.push(WORKSPACE.into());
    Order {
        program: cell.program.clone(),
        args: cell.args.clone(),
        env: cell.env.clone(),
        folder: WORKSPACE.into(),
        door: cell.door.as_ref().map(|(_, port)| (*port, DOOR.into())),
        bounds,
        walls: Some(Paths {
            read,
            write,
            masks: masked.iter().map(|(name, _)| Path::new(WORKSPACE).join(name)).collect(),
        }),
    }
}

#[derive(Default)]
struct Args {
    words: Vec<String>,
    /// The folders that were made.
    made: BTreeSet<PathBuf>,
}

impl Args {
    fn add<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.words.extend(words.into_iter().map(str::to_owned));
    }

    /// Makes the folders above a path. Left to itself, bubblewrap makes some for their owner alone.
    fn above(&mut self, path: &Path) {
        let Some(parent) = path.parent().filter(|parent| *parent != Path::new("/")) else { return };
        self.above(parent);
        if self.made.insert(parent.to_owned()) {
            self.add(["--perms", "0755", "--dir", &parent.to_string_lossy()]);
        }
    }

    fn bind(&mut self, how: &str, from: &Path, at: &Path) {
        self.add([how, &from.to_string_lossy(), &at.to_string_lossy()]);
    }
}
