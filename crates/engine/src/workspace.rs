//! Where agents work: a folder for each chat of each bot of each organisation, and what it was like before.
//!
//! ```text
//! ROOT/ORG/BOT/CHAT/work      the workspace, seen inside as /workspace
//!                   home      the agent's home, kept between runs
//!                   past      snapshots: NUMBER.json lists what there was, blobs/ has the contents
//! ```
//!
//! Snapshots are our own and not git's: a user's repository is not touched, nothing in a workspace can make us run
//! something, and what git would leave out (ignored files, empty folders, modes) comes back, too. Contents are stored once
//! by their hash, and what has not changed since the last snapshot is not read again.

mod changes;
mod past;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

pub use changes::{Change, Diff};

/// How many snapshots are kept; as often can one undo.
const KEPT: usize = 20;

/// All workspaces of this machine.
#[derive(Clone, Debug)]
pub struct Workspaces {
    root: PathBuf,
}

impl Workspaces {
    /// Below a folder that belongs to nothing else. It is made where it is missing.
    pub fn open(root: &Path) -> io::Result<Workspaces> {
        make(root)?;
        Ok(Workspaces { root: fs::canonicalize(root)? })
    }

    /// The workspace of a chat. It is made where it is missing.
    pub fn place(&self, org: &str, bot: &str, chat: &str) -> io::Result<Workspace> {
        let folder = [org, bot, chat].iter().fold(self.root.clone(), |folder, name| folder.join(plain(name)));
        let workspace = Workspace { work: folder.join("work"), home: folder.join("home"), past: folder.join("past") };
        [&workspace.work, &workspace.home, &workspace.past].into_iter().try_for_each(|folder| make(folder))?;
        Ok(workspace)
    }
}

/// A folder to work in, with its home and its past. Everything here reads and writes files, so it is for threads that may
/// wait. Whoever changes it, or remembers how it is, holds it meanwhile; chats may share one that an administrator listed.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub work: PathBuf,
    pub home: PathBuf,
    past: PathBuf,
}

impl Workspace {
    /// The same chat at work in a folder that an administrator listed; the past is kept for each folder.
    pub fn in_project(&self, project: &Path) -> io::Result<Workspace> {
        let work = fs::canonicalize(project)?;
        let past = self.past.join(format!("in-{}", past::hash_of(work.as_os_str().as_encoded_bytes())));
        make(&past)?;
        Ok(Workspace { work, past, home: self.home.clone() })
    }

    /// Keeps everybody else from working in the folder or taking something back there, in any process of this machine and
    /// until it is dropped. `None` if somebody else holds it.
    pub fn hold(&self) -> io::Result<Option<Hold>> {
        let folder = fs::File::open(&self.work)?;
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Hold { _folder: folder })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Remembers everything as it is. To be called before each run.
    pub fn snapshot(&self) -> io::Result<()> {
        past::snapshot(&self.work, &self.past, KEPT)
    }

    /// Which files changed since the last snapshot.
    pub fn changed(&self) -> io::Result<Vec<Change>> {
        changes::changed(&self.work, &self.past)
    }

    /// What changed since the last snapshot; nothing if there is none.
    pub fn diff(&self) -> io::Result<Diff> {
        changes::diff(&self.work, &self.past)
    }

    /// Puts everything back as it was at the last snapshot and forgets that one, so that the next undo goes further back.
    /// What it changed; `None` if there is no snapshot.
    pub fn undo(&self) -> io::Result<Option<Vec<Change>>> {
        past::undo(&self.work, &self.past)
    }

    /// Removes the workspace's files, home and past. Not those of a project.
    pub fn clear(&self) -> io::Result<()> {
        for folder in [&self.home, &self.past] {
            empty(folder)?;
        }
        let ours = self.work.parent() == self.home.parent();
        if ours { empty(&self.work) } else { Ok(()) }
    }
}

/// A folder that nobody else works in. It is free again when this is dropped, or its process is gone.
#[derive(Debug)]
pub struct Hold {
    _folder: fs::File,
}

fn empty(folder: &Path) -> io::Result<()> {
    let folder = crate::sandbox::beneath::Folder::open(folder)?;
    folder.list()?.iter().try_for_each(|entry| folder.remove(&entry.path))
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A name as a folder's: itself where that is safe, and otherwise a hash of it. No name is mistaken for another's hash.
fn plain(name: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 64 && name.chars().all(safe) {
        name.to_owned()
    } else {
        format!("{}.name", &past::hash_of(name.as_bytes())[..32])
    }
}

#[cfg(test)]
mod tests;
