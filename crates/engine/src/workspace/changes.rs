//! What changed between a snapshot and now, for people to read.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use similar::TextDiff;

use super::past::{Contents, Thing, Tree, blob, last, look};
use crate::sandbox::artifacts;
use crate::sandbox::beneath::{Folder, read_up_to};

/// Larger files are named and not shown.
const FILE_BYTES: u64 = 1 << 20;
/// How much of a diff is made; nobody reads more in a chat.
const DIFF_BYTES: usize = 256 << 10;

/// One file that changed, by its path in the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Added(PathBuf),
    Changed(PathBuf),
    Removed(PathBuf),
}

impl Change {
    pub fn path(&self) -> &Path {
        match self {
            Change::Added(path) | Change::Changed(path) | Change::Removed(path) => path,
        }
    }

    /// The path as it can be shown, in one line.
    pub fn name(&self) -> String {
        artifacts::shown(self.path().as_os_str())
    }
}

/// Everything that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Without folders, and without what git keeps for itself.
    pub changes: Vec<Change>,
    /// A unified diff; what is no text is named in a line.
    pub text: String,
    /// There is more than `text` shows.
    pub cut: bool,
}

/// Which files changed, without showing how.
pub(super) fn changed(work: &Path, past: &Path) -> io::Result<Vec<Change>> {
    match last(past)? {
        Some(before) => Ok(between(&before, &look(work, &before, Contents::Hash)?)),
        None => Ok(Vec::new()),
    }
}

pub(super) fn diff(work: &Path, past: &Path) -> io::Result<Diff> {
    let Some(before) = last(past)? else { return Ok(Diff::default()) };
    let now = look(work, &before, Contents::Hash)?;
    let folder = Folder::open(work)?;
    let mut diff = Diff { changes: between(&before, &now), ..Diff::default() };
    for change in &diff.changes {
        if diff.text.len() >= DIFF_BYTES {
            diff.cut = true;
            break;
        }
        let path = change.path();
        // Where a file was there may be a folder now, which has no lines.
        let is_file = |thing: &&Thing| !matches!(thing, Thing::Folder { .. });
        let old = before
            .get(path)
            .filter(is_file)
            .map(|thing| side(thing, |hash| File::open(blob(past, hash))))
            .transpose()?;
        let new = now.get(path).filter(is_file).map(|thing| side(thing, |_| Ok(folder.file(path)?.0))).transpose()?;
        diff.text.push_str(&shown(path, old, new));
    }
    if diff.text.len() > DIFF_BYTES {
        let end = (0..=DIFF_BYTES).rev().find(|at| diff.text.is_char_boundary(*at)).unwrap_or_default();
        diff.text.truncate(end);
        diff.cut = true;
    }
    Ok(diff)
}

/// The files that differ, in the order of their paths.
pub(super) fn between(before: &Tree, now: &Tree) -> Vec<Change> {
    let is_shown = |path: &&PathBuf| !path.starts_with(".git");
    let is_file = |thing: &Thing| !matches!(thing, Thing::Folder { .. });
    let mut changes: Vec<Change> = before
        .iter()
        .filter(|(path, thing)| is_shown(path) && is_file(thing))
        .filter_map(|(path, thing)| match now.get(path) {
            Some(new) if new.is(thing) => None,
            Some(new) if is_file(new) => Some(Change::Changed(path.clone())),
            _ => Some(Change::Removed(path.clone())),
        })
        .collect();
    let is_new = |path: &PathBuf| !before.get(path).is_some_and(is_file);
    let added = now.iter().filter(|(path, thing)| is_shown(path) && is_file(thing) && is_new(path));
    changes.extend(added.map(|(path, _)| Change::Added(path.clone())));
    changes.sort_by(|a, b| a.path().cmp(b.path()));
    changes
}

/// One side of a diff.
enum Side {
    Text(u32, String),
    Binary(u32, u64),
    /// A pipe, a socket, a device.
    Odd,
}

impl Side {
    fn mode(&self) -> Option<u32> {
        match self {
            Side::Text(mode, _) | Side::Binary(mode, _) => Some(*mode),
            Side::Odd => None,
        }
    }
}

fn side(thing: &Thing, open: impl FnOnce(&str) -> io::Result<File>) -> io::Result<Side> {
    match thing {
        Thing::Folder { mode } => Ok(Side::Text(*mode, String::new())),
        Thing::Odd => Ok(Side::Odd),
        // As git shows a link.
        Thing::Link { target } => {
            Ok(Side::Text(0o120_000, format!("{}\n", artifacts::shown(target.path().as_os_str()))))
        }
        Thing::File { mode, stamp, .. } if stamp.bytes() > FILE_BYTES => Ok(Side::Binary(*mode, stamp.bytes())),
        Thing::File { mode, hash, stamp } => {
            let bytes = match open(hash) {
                Ok(mut file) => read_up_to(&mut file, FILE_BYTES)?,
                // It was made unreadable, which its mode shows.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Ok(Side::Binary(*mode, stamp.bytes()));
                }
                Err(error) => return Err(error),
            };
            match String::from_utf8(bytes) {
                Ok(text) if !text.contains('\0') => Ok(Side::Text(*mode, plain(text))),
                _ => Ok(Side::Binary(*mode, stamp.bytes())),
            }
        }
    }
}

/// A text in which a line reads as it is written: nothing steers a terminal, and nothing turns the writing around.
fn plain(text: String) -> String {
    let evil = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\t' | '\r')
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(evil) { text.replace(evil, "\u{fffd}") } else { text }
}

fn shown(path: &Path, old: Option<Side>, new: Option<Side>) -> String {
    let name = artifacts::shown(path.as_os_str());
    let mode = |side: &Option<Side>| side.as_ref().and_then(Side::mode);
    let mut text = match (mode(&old), mode(&new)) {
        (Some(old), Some(new)) if old != new => format!("mode of {name}: {old:o} to {new:o}\n"),
        _ => String::new(),
    };
    let header = |side: &Option<Side>, letter: char| match side {
        Some(_) => format!("{letter}/{name}"),
        None => "/dev/null".to_owned(),
    };
    let (from, to) = (header(&old, 'a'), header(&new, 'b'));
    let lines = |side: &Option<Side>| match side {
        None => Some(String::new()),
        Some(Side::Text(_, text)) => Some(text.clone()),
        Some(Side::Binary(..) | Side::Odd) => None,
    };
    match (lines(&old), lines(&new)) {
        (Some(old), Some(new)) => {
            if old.is_empty() && new.is_empty() {
                text.push_str(&format!("--- {from}\n+++ {to}\n"));
            } else {
                let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(&old, &new);
                text.push_str(&diff.unified_diff().context_radius(3).header(&from, &to).to_string());
            }
        }
        _ => {
            let size = |side: &Option<Side>| match side {
                None => "nothing".to_owned(),
                Some(Side::Text(_, text)) => format!("{} bytes", text.len()),
                Some(Side::Binary(_, bytes)) => format!("{bytes} bytes"),
                Some(Side::Odd) => "no file".to_owned(),
            };
            text.push_str(&format!("binary {name}: {} to {}\n", size(&old), size(&new)));
        }
    }
    text
}

/// How long a diff may take to be small; after that it is only right.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);
