//! What was let through and is not in the database yet, put down where it outlives the process.
//!
//! A line is a [`Step`], and it is put down by the caller himself, in microseconds: nobody waits for the disk. What a
//! *process* leaves behind is then never less than what it did. A *machine* that loses its power may lose the lines of the
//! last moments, until the keeper has written them; so no limit ever depends on a line here.
//!
//! The keeper takes the same lines from memory, many at a time, and writes them to the database. They stand on leaves,
//! files that are begun anew when they are long; once everything on a leaf is in the database, it is thrown away. A line
//! that is in the database and not yet thrown away is found there, and does nothing twice.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::mem;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use salon_store::fail_point;
use tokio::sync::{Notify, Semaphore};

use super::post::Step;

/// Bytes of a leaf, after which another is begun.
const LONG: u64 = 4 << 20;
/// Bytes that a leaf of which everything is written may keep: to cut it takes about as long as to put a line down.
const SHORT: u64 = 256 << 10;
/// Lines that the keeper is told of at once, instead of when the first has waited for long enough.
pub(super) const HEAP: usize = 1024;
/// Reservations that may wait for the keeper.
const WAITING: usize = 4096;
/// What leaves are called, behind their number.
const SUFFIX: &str = ".steps";

/// The number of a leaf.
pub(super) type Leaf = u64;

pub(super) struct Journal {
    folder: PathBuf,
    open: Mutex<Open>,
    /// There are lines where there were none, or more than should wait.
    pub heaped: Notify,
    /// For reservations. The keeper closes it.
    pub room: Semaphore,
}

struct Open {
    file: File,
    leaf: Leaf,
    /// Bytes on it.
    length: u64,
    /// What the keeper has not taken yet.
    lines: Vec<(Leaf, Step)>,
    /// Lines of each leaf that are not known to be in the database.
    waiting: BTreeMap<Leaf, usize>,
}

impl Journal {
    /// Opens the journal in a folder of its own. The lines that the last process left are the first to be taken.
    pub fn open(folder: &Path) -> io::Result<Journal> {
        fs::create_dir_all(folder)?;
        let (mut waiting, mut lines) = (BTreeMap::new(), Vec::new());
        let mut last = 0;
        for leaf in leaves(folder)? {
            last = leaf;
            let steps = read(&path(folder, leaf))?;
            if steps.is_empty() {
                fs::remove_file(path(folder, leaf))?;
                continue;
            }
            waiting.insert(leaf, steps.len());
            lines.extend(steps.into_iter().map(|step| (leaf, step)));
        }
        let leaf = last + 1;
        let open = Mutex::new(Open { file: begin(folder, leaf)?, leaf, length: 0, lines, waiting });
        Ok(Journal { folder: folder.to_owned(), open, heaped: Notify::new(), room: Semaphore::new(WAITING) })
    }

    /// Puts a line down, for the keeper as well. Where there is no room on the disk, the step comes back.
    pub fn note(&self, step: Step) -> Result<(), (Step, io::Error)> {
        let mut line = Vec::with_capacity(1024);
        if let Err(error) = serde_json::to_writer(&mut line, &step) {
            return Err((step, error.into()));
        }
        line.push(b'\n');
        fail_point!("journal.before_line");
        let mut open = self.lock();
        let leaf = match open.write(&self.folder, &line) {
            Ok(leaf) => leaf,
            Err(error) => return Err((step, error)),
        };
        open.lines.push((leaf, step));
        let heaped = open.lines.len();
        drop(open);
        fail_point!("journal.after_line");
        if heaped == 1 || heaped == HEAP {
            self.heaped.notify_one();
        }
        Ok(())
    }

    /// Lines that the keeper has not taken yet.
    pub fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// Takes them. Each is to be told to [`Journal::done`] once it is in the database.
    pub fn take(&self) -> Vec<(Leaf, Step)> {
        let lines = mem::take(&mut self.lock().lines);
        let reserved = lines.iter().filter(|(_, step)| matches!(step, Step::Reserve { .. })).count();
        self.room.add_permits(reserved.min(WAITING.saturating_sub(self.room.available_permits())));
        lines
    }

    /// Lines of a leaf are in the database.
    pub fn done(&self, leaf: Leaf, lines: usize) {
        let mut open = self.lock();
        let Some(waiting) = open.waiting.get_mut(&leaf) else { return };
        *waiting = waiting.saturating_sub(lines);
        if *waiting > 0 {
            return;
        }
        open.waiting.remove(&leaf);
        let cleared = match leaf == open.leaf {
            false => fs::remove_file(path(&self.folder, leaf)),
            true if open.length >= SHORT => open.file.set_len(0).map(|()| open.length = 0),
            true => Ok(()),
        };
        if let Err(error) = cleared {
            tracing::warn!(%error, leaf, "a leaf of the journal stays, though everything on it is written");
        }
    }

    /// Lets nobody put anything down any more for whom nobody would write it, and throws the last leaf away if everything
    /// on it is in the database.
    pub fn close(&self) {
        self.room.close();
        let open = self.lock();
        if !open.waiting.contains_key(&open.leaf) {
            fs::remove_file(path(&self.folder, open.leaf)).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn write(&mut self, folder: &Path, line: &[u8]) -> io::Result<Leaf> {
        if self.length >= LONG {
            let leaf = self.leaf + 1;
            (self.file, self.leaf, self.length) = (begin(folder, leaf)?, leaf, 0);
        }
        if let Err(error) = self.file.write_all(line) {
            // What there was room for is no line, and the next one must not hang on to it.
            self.file.set_len(self.length).ok();
            return Err(error);
        }
        self.length += line.len() as u64;
        *self.waiting.entry(self.leaf).or_default() += 1;
        Ok(self.leaf)
    }
}

/// The numbers of the leaves that there are, in their order.
fn leaves(folder: &Path) -> io::Result<Vec<Leaf>> {
    let mut leaves = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        leaves.extend(name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse::<Leaf>().ok()));
    }
    leaves.sort_unstable();
    Ok(leaves)
}

fn path(folder: &Path, leaf: Leaf) -> PathBuf {
    folder.join(format!("{leaf:08}{SUFFIX}"))
}

fn begin(folder: &Path, leaf: Leaf) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(path(folder, leaf))
}

/// The lines of a leaf. The last may have been cut off by what ended its writer; it was told to nobody.
fn read(path: &Path) -> io::Result<Vec<Step>> {
    let bytes = fs::read(path)?;
    let mut steps = Vec::new();
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        match serde_json::from_slice(line) {
            Ok(step) if line.ends_with(b"\n") => steps.push(step),
            Ok(_) | Err(_) if lines.peek().is_none() => {
                tracing::warn!(path = %path.display(), "the last line of the journal was not ended, and is left out");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(path = %path.display(), %error, "a line of the journal cannot be read"),
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use salon_core::CallId;

    use super::*;

    fn step(call: &str) -> Step {
        Step::Release { call: CallId::new(call), why: "it failed".to_owned() }
    }

    fn open(folder: &Path) -> Journal {
        Journal::open(folder).expect("a journal")
    }

    fn note(journal: &Journal, call: &str) {
        journal.note(step(call)).expect("room");
    }

    fn calls(journal: &Journal) -> Vec<String> {
        journal.take().iter().map(|(_, step)| step.call().to_string()).collect()
    }

    #[test]
    fn what_is_not_done_is_found_by_the_next_one_in_its_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        assert_eq!((journal.len(), journal.take().len()), (0, 0));
        note(&journal, "a");
        note(&journal, "b");
        assert_eq!(calls(&journal), ["a", "b"]);
        journal.done(1, 1);
        let second = open(folder.path());
        // What of a leaf is done is known to its writer alone; it does no harm twice.
        assert_eq!(calls(&second), ["a", "b"]);
        note(&second, "c");
        let third = open(folder.path());
        let left = third.take();
        assert_eq!(left.len(), 3);
        for (leaf, _) in left {
            third.done(leaf, 1);
        }
        third.close();
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn long_leaves_are_followed_by_others_and_thrown_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        let long = "x".repeat(LONG as usize / 4);
        (0..10).for_each(|_| note(&journal, &long));
        let noted: Vec<Leaf> = journal.take().into_iter().map(|(leaf, _)| leaf).collect();
        let count = |leaf| noted.iter().filter(|noted| **noted == leaf).count();
        assert_eq!(noted.last(), Some(&3));
        journal.done(1, count(1));
        assert_eq!(leaves(folder.path()).expect("a folder"), [2, 3]);
        journal.done(3, count(3));
        assert_eq!(leaves(folder.path()).expect("a folder"), [2, 3]);
        assert_eq!(fs::metadata(path(folder.path(), 3)).expect("a file").len(), 0);
        note(&journal, "y");
        assert_eq!(journal.take().last().map(|(leaf, _)| *leaf), Some(3));
        assert_eq!(open(folder.path()).len(), count(2) + 1);
    }

    #[test]
    fn a_line_that_was_cut_off_takes_no_other_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        note(&open(folder.path()), "a");
        let leaf = path(folder.path(), 1);
        for rubbish in [&b"\0\0\0\n"[..], b"{\"settle\":{\"call\":\"b\""] {
            let mut file = OpenOptions::new().append(true).open(&leaf).expect("a file");
            file.write_all(rubbish).expect("room");
            assert_eq!(calls(&open(folder.path())), ["a"]);
        }
    }

    #[test]
    fn reservations_have_room_again_once_they_are_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path());
        journal.room.forget_permits(WAITING);
        note(&journal, "a");
        journal.take();
        assert_eq!(journal.room.available_permits(), 0, "an end of a call takes no room");
    }
}
