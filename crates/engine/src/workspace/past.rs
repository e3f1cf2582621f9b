//! Snapshots: how they are made, and how everything comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::changes::{self, Change};
use crate::sandbox::beneath::{Folder, Kind};

/// What there was, by its path. Folders come before what is in them.
pub(super) type Tree = BTreeMap<PathBuf, Thing>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Thing {
    Folder {
        mode: u32,
    },
    File {
        mode: u32,
        hash: String,
        stamp: Stamp,
    },
    Link {
        target: Text,
    },
    /// A pipe, a socket, a device: it has no contents, and cannot be put back.
    Odd,
}

impl Thing {
    /// Whether both are the same to somebody who looks; when something was written is not seen.
    pub fn is(&self, other: &Thing) -> bool {
        match (self, other) {
            (Thing::File { mode, hash, .. }, Thing::File { mode: other_mode, hash: other_hash, .. }) => {
                (mode, hash) == (other_mode, other_hash)
            }
            _ => self == other,
        }
    }
}

/// By what a file is known not to have changed. The last time belongs to the kernel, and nobody can set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp(u64, i64, i64, i64, i64, u64);

impl Stamp {
    fn of(stat: &Stat) -> Stamp {
        let (size, part) = (stat.st_size.unsigned_abs(), |nanos: u64| i64::try_from(nanos).unwrap_or_default());
        Stamp(size, stat.st_mtime, part(stat.st_mtime_nsec), stat.st_ctime, part(stat.st_ctime_nsec), stat.st_ino)
    }

    pub fn bytes(&self) -> u64 {
        self.0
    }
}

/// A name of the file system, which may be no text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Text {
    Plain(String),
    Bytes(Vec<u8>),
}

impl Text {
    pub fn of(path: &Path) -> Text {
        match path.to_str() {
            Some(text) => Text::Plain(text.to_owned()),
            None => Text::Bytes(path.as_os_str().as_bytes().to_vec()),
        }
    }

    pub fn path(&self) -> PathBuf {
        match self {
            Text::Plain(text) => PathBuf::from(text),
            Text::Bytes(bytes) => PathBuf::from(std::ffi::OsString::from_vec(bytes.clone())),
        }
    }
}

/// What a folder may hold to be looked at. A file's holes count: they are nothing on the disk, and take as long to read and
/// as much to store as anything else. It is twice what a run is ended for, which is noticed a little late.
const MOST_BYTES: u64 = 4 << 30;
/// What all snapshots together hold of contents, at most; the last one is kept whatever it holds.
const PAST_BYTES: u64 = 4 << 30;

/// What is done about contents that were not known before.
#[derive(Clone, Copy)]
pub(super) enum Contents<'a> {
    /// They are stored here.
    Keep(&'a Path),
    Hash,
    /// They are looked at where they may be what they were before, and not otherwise.
    Compare,
}

pub(super) fn snapshot(work: &Path, past: &Path, keep: usize) -> io::Result<()> {
    let numbers = numbers(past)?;
    let before = numbers.last().map_or(Ok(Tree::new()), |number| read(past, *number))?;
    let tree = look(work, &before, Contents::Keep(past))?;
    let number = numbers.last().map_or(1, |number| number + 1);
    let list: Vec<(Text, &Thing)> = tree.iter().map(|(path, thing)| (Text::of(path), thing)).collect();
    write(&file_of(past, number), &serde_json::to_vec(&list)?)?;
    forget(past, keep, PAST_BYTES)
}

pub(super) fn undo(work: &Path, past: &Path) -> io::Result<Option<Vec<Change>>> {
    let Some(number) = numbers(past)?.pop() else { return Ok(None) };
    let before = read(past, number)?;
    let now = look(work, &before, Contents::Compare)?;
    let folder = Folder::open(work)?;
    // Out of a folder that may not be written to nothing can be removed.
    for (path, _) in now.iter().filter(|(_, thing)| matches!(thing, Thing::Folder { .. })) {
        folder.set_mode(path, 0o700)?;
    }
    for path in now.keys().rev().filter(|path| !before.contains_key(*path)) {
        folder.remove(path)?;
    }
    for (path, thing) in &before {
        if now.get(path).is_some_and(|now| now.is(thing)) && !matches!(thing, Thing::Folder { .. }) {
            continue;
        }
        match thing {
            // Open for as long as we work in it.
            Thing::Folder { .. } => {
                folder.make(path)?;
                folder.set_mode(path, 0o700)?;
            }
            Thing::File { mode, hash, .. } => folder.put(path, *mode, &mut File::open(blob(past, hash))?)?,
            Thing::Link { target } => folder.link(&target.path(), path)?,
            Thing::Odd => folder.remove(path)?,
        }
    }
    for (path, thing) in before.iter().rev() {
        if let Thing::Folder { mode } = thing {
            folder.set_mode(path, *mode)?;
        }
    }
    let owner = folder.owner()?;
    if owner != rustix::process::geteuid().as_raw() {
        folder.give_all(owner)?;
    }
    fs::remove_file(file_of(past, number))?;
    Ok(Some(changes::between(&before, &now)))
}

/// Reads the last snapshot, if there is one.
pub(super) fn last(past: &Path) -> io::Result<Option<Tree>> {
    numbers(past)?.pop().map(|number| read(past, number)).transpose()
}

/// Looks at everything in a folder. What is as it was `before` is not read.
pub(super) fn look(work: &Path, before: &Tree, how: Contents<'_>) -> io::Result<Tree> {
    let folder = Folder::open(work)?;
    // How much it is, is known before anything of it is read.
    let (mut entries, mut bytes) = (Vec::new(), 0_u64);
    folder.walk(&mut |_, entry| {
        if entry.kind == Kind::File {
            bytes = bytes.saturating_add(entry.stat.st_size.unsigned_abs());
        }
        entries.push(entry.clone());
        Ok(true)
    })?;
    if bytes > MOST_BYTES && !matches!(how, Contents::Compare) {
        return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the folder holds too much"));
    }
    let mut tree = Tree::new();
    for entry in entries {
        let mode = entry.stat.st_mode & 0o7777;
        let thing = match entry.kind {
            Kind::Folder => Thing::Folder { mode },
            Kind::Link => Thing::Link { target: Text::of(&folder.read_link(&entry.path)?) },
            Kind::File => {
                let stamp = Stamp::of(&entry.stat);
                let hash = match (before.get(&entry.path), how) {
                    (Some(Thing::File { hash, stamp: old, .. }), _) if *old == stamp => hash.clone(),
                    (_, Contents::Keep(past)) => contents(&folder, &entry.path, mode, Some(past))?,
                    (_, Contents::Hash) => contents(&folder, &entry.path, mode, None)?,
                    (Some(Thing::File { stamp: old, .. }), Contents::Compare) if old.bytes() == stamp.bytes() => {
                        contents(&folder, &entry.path, mode, None)?
                    }
                    (_, Contents::Compare) => String::new(),
                };
                // Reading may have changed its mode for a moment, and with it the kernel's time.
                let stamp = folder.stat(&entry.path)?.map_or(stamp, |stat| Stamp::of(&stat));
                Thing::File { mode, hash, stamp }
            }
            Kind::Other => Thing::Odd,
        };
        tree.insert(entry.path, thing);
    }
    Ok(tree)
}

/// The hash of what is in a file; stored if there is a place for it.
fn contents(folder: &Folder, path: &Path, mode: u32, past: Option<&Path>) -> io::Result<String> {
    let opened = match folder.file(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            folder.set_mode(path, mode | 0o400)?;
            let opened = folder.file(path);
            folder.set_mode(path, mode)?;
            opened
        }
        opened => opened,
    };
    let (mut file, _) = opened?;
    let mut hash = Sha256::new();
    let mut copy = past.map(|past| -> io::Result<_> {
        fs::create_dir_all(past.join("blobs"))?;
        let path = past.join(format!("new-{:016x}", rand::random::<u64>()));
        Ok((File::create_new(&path)?, path))
    });
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut bytes)?;
        if read == 0 {
            break;
        }
        hash.update(&bytes[..read]);
        if let Some(Ok((copy, _))) = &mut copy {
            copy.write_all(&bytes[..read])?;
        }
    }
    let hash = hex(&hash.finalize());
    if let (Some(copy), Some(past)) = (copy, past) {
        let (_, path) = copy?;
        fs::rename(path, blob(past, &hash))?;
    }
    Ok(hash)
}

pub(super) fn hash_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn blob(past: &Path, hash: &str) -> PathBuf {
    past.join("blobs").join(hash)
}

fn file_of(past: &Path, number: u64) -> PathBuf {
    past.join(format!("{number}.json"))
}

/// The snapshots that there are, the oldest first.
fn numbers(past: &Path) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = fs::read_dir(past)?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn read(past: &Path, number: u64) -> io::Result<Tree> {
    let list: Vec<(Text, Thing)> = serde_json::from_slice(&fs::read(file_of(past, number))?)?;
    Ok(list.into_iter().map(|(path, thing)| (path.path(), thing)).collect())
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, path)
}

/// Forgets the oldest snapshots until there are few enough and they hold little enough, and the contents that no other
/// needs.
pub(super) fn forget(past: &Path, keep: usize, most_bytes: u64) -> io::Result<()> {
    // What a crash left behind.
    for entry in fs::read_dir(past)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("new-") {
            fs::remove_file(entry.path())?;
        }
    }
    let numbers = numbers(past)?;
    let blobs = || fs::read_dir(past.join("blobs")).into_iter().flatten().flatten();
    let held: u64 = blobs().filter_map(|blob| blob.metadata().ok()).map(|meta| meta.len()).sum();
    if numbers.len() <= keep && held <= most_bytes {
        return Ok(());
    }
    let mut needed = BTreeSet::new();
    let (mut kept, mut bytes) = (0, 0_u64);
    for number in numbers.iter().rev() {
        let files = read(past, *number)?.into_values().filter_map(|thing| match thing {
            Thing::File { hash, stamp, .. } => Some((hash, stamp.bytes())),
            _ => None,
        });
        let more: BTreeMap<String, u64> = files.filter(|(hash, _)| !needed.contains(hash)).collect();
        bytes = more.values().fold(bytes, |sum, more| sum.saturating_add(*more));
        if kept > 0 && (kept >= keep || bytes > most_bytes) {
            break;
        }
        kept += 1;
        needed.extend(more.into_keys());
    }
    for number in &numbers[..numbers.len() - kept] {
        fs::remove_file(file_of(past, *number))?;
    }
    for blob in blobs() {
        if !blob.file_name().to_str().is_some_and(|name| needed.contains(name)) {
            fs::remove_file(blob.path())?;
        }
    }
    Ok(())
}
