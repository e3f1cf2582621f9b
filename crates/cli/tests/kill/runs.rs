//! `kill -9` at random times while people ask and Telegram stumbles (F01, F28, F29; G1, G5).

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::crowd::Crowd;
use crate::judge::{Damage, Traces, judge};
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
    let given = variable("SALON_SEED").and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| rand::random_range(0..1 << 32));
    let long = if is_long() { " --long" } else { "" };
    println!(
        "seed {seed}; again: SALON_SEED={seed} cargo xtask test --only rust{long} -- -p salon-cli --test kill {test}"
    );
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
    check("kills_lose_nothing_on_sqlite_behind_a_webhook", Database::Sqlite, Intake::Webhook).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_on_postgres_with_polling() {
    check("kills_lose_nothing_on_postgres_with_polling", Database::Postgres, Intake::Polling).await;
}

async fn check(name: &str, database: Database, intake: Intake) {
    let outcome = kill_at_random(name, seed(name), database, intake, measure(), None).await;
    let Outcome { damage, traces, settled, log } = &outcome;
    assert!(settled, "work is left: {damage:?}\n{log}");
    assert!(damage.none(), "{damage:?}\n{log}");
    assert!(traces.ambiguous > 0, "no answer was lost on purpose, so nothing was tried");
    assert_eq!(traces.unexcused, 0, "a placeholder was left without a reason: {traces:?}\n{log}");
    assert!(traces.orphans <= traces.listed, "the outbox does not know every orphan: {traces:?}");
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub damage: Damage,
    pub traces: Traces,
    pub settled: bool,
    /// The end of what the program said.
    pub log: String,
}

/// Lets a crowd ask, kills the program again and again, and judges what is there when nothing is left to do.
///
/// `sabotage` is a rule that the program is to break.
pub async fn kill_at_random(
    name: &str,
    seed: u64,
    database: Database,
    intake: Intake,
    measure: Measure,
    sabotage: Option<&str>,
) -> Outcome {
    let mut dice = StdRng::seed_from_u64(seed);
    let begun = Instant::now();
    let stage = Stage::set(database, intake).await;
    let start = sabotage.iter().fold(stage.one(), |start, rule| start.with("SALON_SABOTAGE", rule));
    let mut crowd = Crowd::new(&stage, measure.chats, WINDOW);
    let mut program = open(&start, stage.port).await;
    stage.add_faults(seed);
    for kill in 0..measure.kills {
        let dies_at = Instant::now() + Duration::from_millis(dice.random_range(150..700));
        // A share of the questions for each life, so that there is work to be interrupted up to the last one.
        let share = measure.questions * (kill + 1) / (measure.kills + 1);
        while Instant::now() < dies_at {
            crowd.ask_until(share);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stage.kill(program).await;
        program = start.spawn();
    }
    let killed = begun.elapsed();
    let settled = crowd.ask_all(&[stage.port], measure.questions, long_patience()).await;
    program.signal(Signal::TERM);
    let ended = program.ended(Duration::from_secs(25)).await;
    let log = tail(&start.said());
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{log}");
    let (damage, traces) = judge(&stage, &crowd).await;
    println!("{name}: {measure:?}, killed for {killed:?}, {:?} in all; {traces:?}", begun.elapsed());
    Outcome { damage, traces, settled, log }
}

/// How long a crowd waits until it has its answers.
pub fn long_patience() -> Duration {
    Duration::from_secs(if is_long() { 1_800 } else { 150 })
}
