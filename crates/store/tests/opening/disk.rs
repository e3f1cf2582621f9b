use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use salon_store::testing::Scratch;
use salon_store::{Error, Place, Store};
use sqlx::Executor;

use crate::child;
use crate::{count, enqueue, enqueue_with, raw};

/// A way to run out of room in a process of its own, whose end takes everything with it.
#[derive(Clone, Copy)]
enum Narrow {
    /// A file system of three megabytes that only the process sees.
    Mount,
    /// No file may grow any further. Anyone can do this to himself.
    Limit,
}

impl Narrow {
    const MOUNT: &str = r#"mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@""#;
    const LIMIT: &str = r#"trap "" XFSZ; exec "$@""#;

    /// The best way that this machine allows.
    fn best(folder: &str) -> (Narrow, Vec<&str>) {
        let mounts: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--user", "--map-root-user", "--mount"]];
        for unshare in mounts {
            let wrapper: Vec<_> = unshare.iter().copied().chain(["sh", "-c", Narrow::MOUNT, folder]).collect();
            let mut trial = child::program_of(wrapper[0]);
            if trial.args(&wrapper[1..]).arg("true").output().is_ok_and(|output| output.status.success()) {
                return (Narrow::Mount, wrapper);
            }
        }
        (Narrow::Limit, vec!["sh", "-c", Narrow::LIMIT, "sh"])
    }

    fn name(self) -> &'static str {
        match self {
            Narrow::Mount => "mount",
            Narrow::Limit => "limit",
        }
    }

    /// Takes away all the room there is.
    fn fill(self, folder: &Path) {
        match self {
            Narrow::Mount => {
                let mut ballast = fs::File::create(folder.join("ballast")).expect("a file");
                while ballast.write_all(&[1; 4096]).is_ok() {}
                while ballast.write_all(&[1]).is_ok() {}
            }
            Narrow::Limit => {
                let files = ["salon.db", "salon.db-wal"].map(|name| folder.join("data").join(name));
                let sizes = files.iter().filter_map(|file| file.metadata().ok()).map(|file| file.len());
                limit(&sizes.max().expect("a database").to_string());
            }
        }
    }

    fn free(self, folder: &Path) {
        match self {
            Narrow::Mount => fs::remove_file(folder.join("ballast")).expect("the ballast"),
            Narrow::Limit => limit("unlimited"),
        }
    }
}

fn limit(bytes: &str) {
    let mut prlimit = child::program_of("prlimit");
    prlimit.arg("--pid").arg(std::process::id().to_string()).arg(format!("--fsize={bytes}:"));
    child::run(prlimit);
}

#[test]
fn a_full_disk_refuses_writes_keeps_reading_and_is_survived() {
    let test = "disk::a_full_disk_refuses_writes_keeps_reading_and_is_survived";
    if let Some(role) = child::role() {
        let narrow = if role == "mount" { Narrow::Mount } else { Narrow::Limit };
        let folder = PathBuf::from(child::variable("SALON_TEST_FOLDER").expect("a folder"));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(run_out_of_room(narrow, &folder));
    }
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().to_str().expect("text");
    let (narrow, wrapper) = Narrow::best(folder);
    let limit = (Narrow::Limit, vec!["sh", "-c", Narrow::LIMIT, "sh"]);
    // The second way is always there, and another error of SQLite's.
    for (narrow, wrapper) in [(narrow, wrapper), limit] {
        let mut command = child::command(&wrapper, test, narrow.name());
        command.env("SALON_TEST_FOLDER", folder);
        child::run(command);
    }
}

async fn run_out_of_room(narrow: Narrow, folder: &Path) {
    let place = Place::Folder(folder.join("data"));
    let store = Store::open(&place, "test").await.expect("open");
    let mut written = 0;
    let mut n = 0;
    for _ in 0..3 {
        for _ in 0..5 {
            enqueue(&store, n).await.expect("there is room");
            (written, n) = (written + 1, n + 1);
        }
        narrow.fill(folder);

        // What fits into pages that the log has already may still be written; then no more.
        let mut refused = 0;
        for _ in 0..200 {
            match enqueue_with(&store, n, "word ".repeat(2_000)).await {
                Ok(_) => written += 1,
                Err(Error::Full) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
            n += 1;
            if refused >= 5 {
                break;
            }
        }
        assert!(refused >= 5, "the disk never got full");
        // Many at once share their transaction, and its end.
        let tasks: Vec<_> = (n..n + 50)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move { enqueue_with(&store, n, "word ".repeat(2_000)).await })
            })
            .collect();
        n += 50;
        for task in tasks {
            match task.await.expect("no panic") {
                Ok(_) => written += 1,
                Err(Error::Full) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(count(&store).await.expect("reading goes on"), written);

        narrow.free(folder);
        store.probe().await.expect("there is room again");
    }
    assert_eq!(store.check().await.expect("check"), Vec::<String>::new());
    store.close().await;
    let again = Store::open(&place, "test").await.expect("open");
    assert_eq!(count(&again).await.expect("count"), written);
    again.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_somebody_else_locks_is_waited_for_in_vain_but_not_for_long() {
    let Scratch { store, place, folder } = Scratch::sqlite().await;
    let mut raw = raw(&place).await;
    raw.execute("BEGIN IMMEDIATE").await.expect("a lock");
    // More than one group: each would wait for the lock anew.
    let tasks: Vec<_> = (0..400)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { enqueue(&store, n).await })
        })
        .collect();
    assert_eq!(count(&store).await.expect("reading goes on"), 0);
    let outcomes = tokio::time::timeout(Duration::from_secs(60), async {
        let mut outcomes = Vec::new();
        for task in tasks {
            outcomes.push(task.await.expect("no panic"));
        }
        outcomes
    });
    for outcome in outcomes.await.expect("an answer for everyone") {
        assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
    }
    raw.execute("ROLLBACK").await.expect("no lock");
    enqueue(&store, 1).await.expect("the file is free");
    assert_eq!(count(&store).await.expect("count"), 1);
    drop(folder);
}
