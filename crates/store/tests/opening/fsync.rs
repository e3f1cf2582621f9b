//! A disk that says once that it could not keep what it was given.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use salon_store::{Place, Store};

use crate::child;
use crate::{count, enqueue};

/// Laid between the process and the C library: as soon as the file `SICK` is there, syncing files whose names end in
/// `SICK_FILE` fails. SQLite's own test doubles are not part of what people run.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int sick(int fd) {
    const char *marker = getenv("SICK"), *suffix = getenv("SICK_FILE");
    char link[64], name[4096];
    if (!marker || !suffix || access(marker, F_OK)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name);
    size_t wanted = strlen(suffix);
    return length >= (ssize_t)wanted && !memcmp(name + length - wanted, suffix, wanted);
}

int fsync(int fd) {
    if (sick(fd)) { errno = EIO; return -1; }
    return syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    if (sick(fd)) { errno = EIO; return -1; }
    return syscall(SYS_fdatasync, fd);
}
"#;

async fn live(folder: PathBuf, marker: &Path) {
    let store = Store::open(&Place::Folder(folder), "victim").await.expect("open");
    enqueue(&store, 0).await.expect("the disk is well");
    println!("wrote 0");
    fs::write(marker, "").expect("a marker");
    for n in 1..1_000 {
        if enqueue(&store, n).await.is_ok() {
            println!("wrote {n}");
        }
    }
}

#[tokio::test]
async fn kill_ourselves_rather_than_trust_a_disk_that_lost_something() {
    if let Some(folder) = child::role() {
        let marker = child::variable("SICK").expect("a marker");
        return live(PathBuf::from(folder), Path::new(&marker)).await;
    }
    let scratch = tempfile::tempdir().expect("a folder");
    let (source, shim) = (scratch.path().join("shim.c"), scratch.path().join("shim.so"));
    fs::write(&source, SHIM).expect("the source");
    let mut compiler = child::program_of("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(&source);
    child::run(compiler);

    // The log is synced by every commit, the main file only by a checkpoint, whose errors SQLite would keep to itself.
    for (sick, least) in [("salon.db-wal", 1), ("salon.db", 2)] {
        let folder = scratch.path().join(format!("{sick} is sick"));
        let test = "fsync::kill_ourselves_rather_than_trust_a_disk_that_lost_something";
        let mut command = child::command(&[], test, folder.to_str().expect("text"));
        command.env("LD_PRELOAD", &shim).env("SICK", folder.join("marker")).env("SICK_FILE", format!("/{sick}"));
        let output = command.output().expect("a process");
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(6), "{sick}: it went on\n{said}\n{errors}");

        let written = said.lines().filter(|line| line.contains("wrote ")).count();
        assert!(written >= least && written < 1_000, "{sick}: {written}");
        let store = Store::open(&Place::Folder(folder), "heir").await.expect("the next one opens it");
        let found = count(&store).await.expect("count");
        assert!(found == written || found == written + 1, "{sick}: {written} were acknowledged, {found} are there");
        assert_eq!(store.check().await.expect("check"), Vec::<String>::new());
        store.close().await;
    }
}
