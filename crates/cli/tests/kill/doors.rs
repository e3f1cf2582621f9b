//! Starts that must be refused, each with one line that says why and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use salon_store::Store;
use salon_store::testing::pretend_newer;

use crate::program::Start;
use crate::stage::{Database, HEADER_SECRET, Intake, PATH_SECRET, Stage, free_port, open};

/// How a start ended, and what was said.
async fn refused(start: &Start) -> (ExitStatus, String) {
    fs::write(&start.log, "").expect("an empty log");
    let mut program = start.spawn();
    let ended = program.ended(Duration::from_secs(20)).await.expect("the program ends by itself");
    (ended, start.said())
}

/// The one line on which a start was refused.
async fn line(start: &Start, code: i32) -> String {
    let (ended, said) = refused(start).await;
    assert_eq!(ended.code(), Some(code), "{said}");
    let lines: Vec<_> = said.lines().filter(|line| !line.contains(" INFO ")).collect();
    let [line] = lines[..] else { panic!("one line was expected:\n{said}") };
    assert!(line.starts_with("salon: "), "{line}");
    line.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_folder_is_refused() {
    let stage = Stage::set(Database::Sqlite, Intake::Webhook).await;
    let mut first = open(&stage.one(), stage.port).await;
    let mut second = stage.start("one", free_port());
    second.log = stage.folder.path().join("second.log");
    let line = line(&second, 1).await;
    assert!(line.contains("another Salon is using the data folder"), "{line}");
    assert!(first.is_running());
    first.signal(Signal::TERM);
    assert!(first.ended(Duration::from_secs(25)).await.expect("it ends").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_with_the_same_name_on_one_postgres_is_refused() {
    let stage = Stage::set(Database::Postgres, Intake::Polling).await;
    let mut first = open(&stage.one(), stage.port).await;
    let mut second = stage.start("one", free_port());
    second.log = stage.folder.path().join("second.log");
    let line = line(&second, 1).await;
    assert!(line.contains("processes that share a database each need their own"), "{line}");
    assert!(first.is_running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_named() {
    let stage = Stage::set(Database::Sqlite, Intake::Webhook).await;
    let taken = std::net::TcpListener::bind(("127.0.0.1", stage.port)).expect("the port is free");
    let line = line(&stage.one(), 1).await;
    assert!(line.contains(&format!("cannot listen on 127.0.0.1:{}", stage.port)), "{line}");
    drop(taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_without_good_secrets_is_refused() {
    let stage = Stage::set(Database::Sqlite, Intake::Webhook).await;
    let good = fs::read_to_string(stage.bots()).expect("the list of bots");
    let cases = [
        (format!("      path_secret: {PATH_SECRET}\n"), "", "both path_secret and secret_token"),
        (format!("      secret_token: {HEADER_SECRET}\n"), "", "both path_secret and secret_token"),
        (PATH_SECRET.to_owned(), "short", "32 to 256 characters"),
        (HEADER_SECRET.to_owned(), "short", "32 to 256 characters"),
        (HEADER_SECRET.to_owned(), "parrot-secret", "can be guessed"),
    ];
    for (from, to, why) in cases {
        fs::write(stage.bots(), good.replace(&from, to)).expect("the list of bots");
        let line = line(&stage.one(), 1).await;
        assert!(line.contains(why) && line.contains("bot parrot"), "{line}");
        assert!(!line.contains(PATH_SECRET) && !line.contains(HEADER_SECRET), "a secret was said: {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_a_newer_program_is_refused_and_left_alone() {
    let stage = Stage::set(Database::Sqlite, Intake::Webhook).await;
    Store::open(&stage.place(), "test").await.expect("a database").close().await;
    pretend_newer(&stage.folder.path().join("one")).await;
    let before = fs::read(stage.folder.path().join("one/salon.db")).expect("the file");
    let line = line(&stage.one(), 65).await;
    assert!(line.contains("use the newer program"), "{line}");
    assert!(fs::read(stage.folder.path().join("one/salon.db")).expect("the file") == before, "it was written to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_written_is_named() {
    let stage = Stage::set(Database::Sqlite, Intake::Webhook).await;
    let folder = stage.folder.path().join("one");
    // Root may write anywhere, but nobody can make a folder below a file.
    fs::write(&folder, "not a folder").expect("a file");
    let said = line(&stage.one(), 1).await;
    assert!(said.contains(&folder.display().to_string()), "{said}");

    if rustix::process::geteuid().is_root() {
        return;
    }
    fs::remove_file(&folder).expect("the file goes");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).expect("the folder is closed");
    let said = line(&stage.one(), 1).await;
    assert!(said.contains(&folder.display().to_string()), "{said}");
}
