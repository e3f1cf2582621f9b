//! `kill -9` at random times while people ask and Telegram stumbles (F01, F28, F29; G1, G5).

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::crowd::Crowd;
use crate::judge::judge;
use crate::stage::{Database, Intake, Stage, open, tail};

/// How much is asked, and how often is killed.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    pub questions: usize,
    pub chats: usize,
    pub kills: usize,
}

pub fn measure() -> Measure {
    if is_long() {
        Measure { questions: 10_000, chats: 200, kills: 200 }
    } else {
        Measure { questions: 2_000, chats: 50, kills: 40 }
    }
}

pub fn is_long() -> bool {
    variable("SALON_LONG").is_some_and(|value| value != "0")
}

/// The seed of this run, said aloud together with the way to repeat it.
pub fn seed(test: &str) -> u64 {
    let seed = variable("SALON_SEED").and_then(|text| text.parse().ok()).unwrap_or_else(|| rand::random_range(0..1 << 32));
    let long = if is_long() { " SALON_LONG=1" } else { "" };
    println!("seed {seed}; again: SALON_SEED={seed}{long} cargo xtask test --only rust -- -p salon-cli --test kill {test}");
    seed
}

fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, not of the program")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Questions that a chat asks without waiting for the answers.
pub const WINDOW: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_on_sqlite_behind_a_webhook() {
    kill_run("kills_lose_nothing_on_sqlite_behind_a_webhook", Database::Sqlite, Intake::Webhook).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_on_postgres_with_polling() {
    kill_run("kills_lose_nothing_on_postgres_with_polling", Database::Postgres, Intake::Polling).await;
}

async fn kill_run(name: &str, database: Database, intake: Intake) {
    let seed = seed(name);
    let mut dice = StdRng::seed_from_u64(seed);
    let measure = measure();
    let begun = Instant::now();
    let stage = Stage::set(database, intake).await;
    let mut crowd = Crowd::new(&stage, measure.chats, WINDOW);
    let mut program = open(&stage.one(), stage.port).await;
    stage.add_faults(seed);
    for kill in 0..measure.kills {
        let dies_at = Instant::now() + Duration::from_millis(dice.random_range(150..700));
        // A share of the questions for each life, so that there is work to be interrupted up to the last one.
        let share = measure.questions * (kill + 1) / (measure.kills + 1);
        while Instant::now() < dies_at {
            crowd.ask_until(share);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        program.kill().await;
        program = stage.one().spawn();
    }
    let killed = begun.elapsed();
    let deadline = Instant::now() + Duration::from_secs(if is_long() { 1_800 } else { 120 });
    while (crowd.asked() < measure.questions || crowd.unanswered() > 0) && Instant::now() < deadline {
        crowd.ask_until(measure.questions);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answered = begun.elapsed();
    let settled = crowd.settled(&[stage.port], Duration::from_secs(60)).await;
    program.signal(Signal::TERM);
    let ended = program.ended(Duration::from_secs(25)).await;
    let (damage, traces) = judge(&stage, &crowd).await;
    println!(
        "{name}: {measure:?}, kills over after {killed:?}, answered after {answered:?}, {:?} in all; {traces:?}",
        begun.elapsed()
    );
    let log = stage.one().said();
    assert!(settled, "work is left; {damage:?}\n{}", tail(&log));
    assert_eq!(crowd.asked(), measure.questions);
    assert!(damage.none(), "{damage:?}\n{}", tail(&log));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", tail(&log));
    assert!(traces.orphans <= measure.kills + traces.ambiguous, "{traces:?}");
    assert!(traces.orphans <= traces.listed, "the outbox does not know every orphan: {traces:?}");
}
