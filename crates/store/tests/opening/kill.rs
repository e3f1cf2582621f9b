use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use rand::RngExt;
use salon_store::testing::postgres_database;
use salon_store::{Place, Store};

use crate::child;
use crate::{count, enqueue};

/// What the process that is to be killed does: open, and write until then, saying what is on the disk.
async fn live(place: &Place) {
    let store = Store::open(place, "victim").await.expect("open");
    for n in 0.. {
        enqueue(&store, n).await.expect("enqueue");
        println!("wrote {n}");
    }
}

/// Kills a process at a random moment within `longest` and answers how much it said to have written.
fn kill_one(test: &str, place: &str, longest: Duration) -> usize {
    let mut command = child::command(&[], test, place);
    let mut victim = command.stdout(Stdio::piped()).spawn().expect("a process to be killed");
    // Not to wait for anything: the moment is what is tested.
    std::thread::sleep(longest.mul_f64(rand::rng().random_range(0.0..1.0)));
    victim.kill().expect("it can be killed");
    let output = BufReader::new(victim.stdout.take().expect("its words"));
    let written = output.lines().map_while(Result::ok).filter(|line| line.contains("wrote ")).count();
    victim.wait().expect("it is dead");
    written
}

async fn expect_all(place: &Place, written: usize) {
    let store = Store::open(place, "heir").await.expect("what a killed process left opens");
    let found = count(&store).await.expect("count");
    // The last one may have been written and not been said.
    assert!(found == written || found == written + 1, "{written} were acknowledged, {found} are there");
    assert_eq!(store.check().await.expect("check"), Vec::<String>::new());
    store.close().await;
}

#[tokio::test]
async fn kill_while_opening_a_file_and_it_opens_again() {
    if let Some(folder) = child::role() {
        return live(&Place::Folder(folder.into())).await;
    }
    let scratch = tempfile::tempdir().expect("a folder");
    let mut wrote = 0;
    for n in 0..30 {
        let folder = scratch.path().join(format!("{n}"));
        let longest = Duration::from_millis(if n < 25 { 60 } else { 500 });
        let test = "kill::kill_while_opening_a_file_and_it_opens_again";
        let written = kill_one(test, folder.to_str().expect("text"), longest);
        expect_all(&Place::Folder(folder), written).await;
        wrote += written;
    }
    assert!(wrote > 0, "some should live long enough to write");
}

#[tokio::test]
async fn kill_while_opening_a_postgres_database_and_it_opens_again() {
    if let Some(url) = child::role() {
        return live(&Place::Postgres(url)).await;
    }
    let mut wrote = 0;
    for n in 0..10 {
        let url = postgres_database().await;
        let longest = Duration::from_millis(if n < 8 { 250 } else { 1_500 });
        let written = kill_one("kill::kill_while_opening_a_postgres_database_and_it_opens_again", &url, longest);
        expect_all(&Place::Postgres(url), written).await;
        wrote += written;
    }
    assert!(wrote > 0, "some should live long enough to write");
}
