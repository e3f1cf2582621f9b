//! A disk that fills up while people talk, and is emptied again (F19).

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;

use crate::crowd::Crowd;
use crate::judge::judge;
use crate::program::ask;
use crate::runs::long_patience;
use crate::stage::{BOT, Database, HEADER_SECRET, Intake, PATH_SECRET, Stage, open, tail};

const QUESTIONS: usize = 120;

/// A small disk of its own.
struct Disk {
    folder: PathBuf,
}

impl Disk {
    fn mount(folder: &Path) -> Disk {
        fs::create_dir(folder).expect("a folder");
        mount("tmpfs", folder, "tmpfs", MountFlags::empty(), Some(c"size=12m")).expect("root may mount");
        Disk { folder: folder.to_owned() }
    }

    /// Takes all the room there is, down to the last byte.
    fn fill(&self) {
        let mut file = File::create(self.folder.join("filler")).expect("a file");
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.folder.join("filler")).expect("the file goes");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The program may be dying just now and hold it still.
        unmount(&self.folder, UnmountFlags::DETACH).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_out() {
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: only root may mount a small disk; run this test as root to see what a full disk does");
        return;
    }
    let stage = Stage::set(Database::Sqlite, Intake::Webhook).await;
    let disk = Disk::mount(&stage.folder.path().join("one"));
    let mut crowd = Crowd::new(&stage, 5, 3);
    let mut program = open(&stage.one(), stage.port).await;
    for round in 1..=3 {
        let share = QUESTIONS * round / 4;
        assert!(crowd.ask_all(&[stage.port], share, long_patience()).await, "{}", tail(&stage.one().said()));
        disk.fill();
        turned_away(&stage, round).await;
        // These wait at Telegram.
        crowd.ask_until(share + 15);
        ready(&stage, false).await;
        assert_eq!(ask(stage.port, "GET /healthz HTTP/1.1", "").await.map(|answer| answer.status), Some(200));
        assert!(program.is_running());
        disk.free();
        ready(&stage, true).await;
    }
    let settled = crowd.ask_all(&[stage.port], QUESTIONS, long_patience()).await;
    assert!(program.is_running(), "it was not restarted");
    program.signal(Signal::TERM);
    let ended = program.ended(Duration::from_secs(25)).await;
    let log = tail(&stage.one().said());
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{log}");
    let (damage, traces) = judge(&stage, &crowd).await;
    assert!(settled, "work is left: {damage:?}\n{log}");
    assert!(damage.none(), "{damage:?}\n{log}");
    assert!(traces.orphans <= traces.listed, "{traces:?}");
    drop(disk);
}

/// Knocks until an update is turned away: what the log has room for already is still taken.
async fn turned_away(stage: &Stage, round: usize) {
    let request = format!(
        "POST /telegram/webhook/{BOT}/{PATH_SECRET} HTTP/1.1\r\nx-telegram-bot-api-secret-token: {HEADER_SECRET}"
    );
    for knock in 0..2_000 {
        let update = format!(r#"{{"update_id":{},"poll":{{}}}}"#, round * 100_000 + knock);
        let answer = ask(stage.port, &request, &update).await.expect("the program answers");
        if answer.status == 503 {
            assert!(answer.head.contains("retry-after:"), "{}", answer.head);
            return;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    panic!("a full disk stored everything\n{}", tail(&stage.one().said()));
}

/// Waits until the program says that writing succeeds, or fails. So small a disk never counts as roomy, so that the
/// whole answer stays 503.
async fn ready(stage: &Stage, can_write: bool) {
    let waiting = async {
        loop {
            let answer = ask(stage.port, "GET /readyz HTTP/1.1", "").await.expect("the program answers");
            assert_eq!(answer.status, 503, "{answer:?}");
            if answer.body.contains(r#""store":"ok""#) == can_write {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(in_time.is_ok(), "can write: {can_write} was expected\n{}", tail(&stage.one().said()));
}
