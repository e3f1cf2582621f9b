//! The processes below a process, as the kernel lists them.
//!
//! In a cell this is everybody: who loses its parent there gets the cell's first process for one.

use std::fs;

/// The children of a process, in the order in which the kernel names them.
pub(super) fn children(process: u32) -> Vec<u32> {
    // Each thread has children of its own.
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()).collect()
}

/// All that are below a process, parents before their children.
pub(super) fn below(process: u32) -> Vec<u32> {
    let mut found = children(process);
    let mut at = 0;
    while at < found.len() {
        found.extend(children(found[at]));
        at += 1;
    }
    found
}

/// What a process holds in memory that nobody else could give back: its own pages and what it shares, not what is
/// mapped from files. Zero if it is gone.
pub(super) fn held_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    (kib("RssAnon").unwrap_or(0) + kib("RssShmem").unwrap_or(0)) * 1024
}
