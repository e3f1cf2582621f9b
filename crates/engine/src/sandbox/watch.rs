//! What no limit of the kernel's counts for a whole cell, looked at while it runs: memory and disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::beneath::Folder;
use super::cell::Limits;
use super::confined::How;
use super::tree;

const TICK: Duration = Duration::from_millis(250);
/// How often everything is measured, however little seems to happen. Longer, if the measuring itself takes long.
const WALK: Duration = Duration::from_secs(5);
/// With less than this the machine is about to choose whom to end by itself.
const LAST_MEMORY: u64 = 192 << 20;

/// Adds up what a cell's processes hold.
pub(super) async fn memory(process: u32, most: u64, complain: mpsc::Sender<How>) {
    loop {
        tokio::time::sleep(TICK).await;
        let held = tokio::task::spawn_blocking(move || {
            let held: u64 = tree::below(process).into_iter().map(tree::held_bytes).sum();
            (held, available())
        });
        let Ok((held, available)) = held.await else { return };
        if held > most || available.is_some_and(|bytes| bytes < LAST_MEMORY) {
            complain.try_send(How::Memory).ok();
            return;
        }
    }
}

/// What the machine could still give out.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Measures workspace and home. Between two measurements it watches how much the disk loses, which costs next to nothing,
/// and measures again when the rest could be used up.
pub(super) async fn disk(workspace: PathBuf, home: PathBuf, limits: Limits, complain: mpsc::Sender<How>) {
    loop {
        let begun = Instant::now();
        let free = free(&workspace);
        let measured = tokio::task::spawn_blocking({
            let (workspace, home) = (workspace.clone(), home.clone());
            let limits = limits.clone();
            move || measure(&[&workspace, &home], limits.disk_bytes, limits.disk_files)
        });
        let Ok(size) = measured.await else { return };
        if size.bytes > limits.disk_bytes || size.files > limits.disk_files {
            complain.try_send(How::Disk).ok();
            return;
        }
        let enough = Size { bytes: (limits.disk_bytes - size.bytes) / 2, files: (limits.disk_files - size.files) / 2 };
        let pause = WALK.max(begun.elapsed() * 10);
        let until = Instant::now() + pause;
        while Instant::now() < until {
            tokio::time::sleep(TICK).await;
            let now = self::free(&workspace);
            if free.bytes.saturating_sub(now.bytes) > enough.bytes
                || free.files.saturating_sub(now.files) > enough.files
            {
                break;
            }
        }
    }
}

/// What the disk has left. Of files some disks know no number.
fn free(folder: &Path) -> Size {
    match rustix::fs::statvfs(folder) {
        Ok(disk) => Size { bytes: disk.f_bavail * disk.f_frsize, files: disk.f_favail },
        Err(_) => Size::default(),
    }
}

#[derive(Debug, Default)]
struct Size {
    bytes: u64,
    files: u64,
}

/// What folders take on the disk; no further than to more than is allowed.
fn measure(folders: &[&Path], most_bytes: u64, most_files: u64) -> Size {
    let mut size = Size::default();
    for folder in folders {
        let Ok(folder) = Folder::open(folder) else { continue };
        let walked = folder.walk(&mut |_, entry| {
            size.bytes += u64::try_from(entry.stat.st_blocks).unwrap_or(0) * 512;
            size.files += 1;
            Ok(size.bytes <= most_bytes && size.files <= most_files)
        });
        // Folders in folders without end are a way to hide something, too.
        if walked.is_err() {
            size.files = u64::MAX;
        }
    }
    size
}
