//! The database stays and every connection to it is cut, again and again (F15).

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use salon_store::testing::end_connections;
use tokio::time::Instant;

use crate::crowd::Crowd;
use crate::judge::judge;
use crate::runs::{WINDOW, is_long, long_patience, seed};
use crate::stage::{Database, Intake, Stage, open, tail};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_lose_nothing() {
    let seed = seed("connections_that_are_cut_lose_nothing");
    let mut dice = StdRng::seed_from_u64(seed);
    let cuts = if is_long() { 200 } else { 30 };
    let questions = cuts * 20;
    let stage = Stage::set(Database::Postgres, Intake::Polling).await;
    let url = stage.place.clone().expect("a PostgreSQL");
    let mut program = open(&stage.one(), stage.port).await;
    stage.add_faults(seed);
    let mut crowd = Crowd::new(&stage, 30, WINDOW);
    let mut cut = 0;
    for round in 0..cuts {
        let until = Instant::now() + Duration::from_millis(dice.random_range(50..500));
        while Instant::now() < until {
            crowd.ask_until(questions * (round + 1) / (cuts + 1));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cut += end_connections(&url).await;
    }
    let settled = crowd.ask_all(&[stage.port], questions, long_patience()).await;
    assert!(program.is_running(), "the program did not survive\n{}", tail(&stage.one().said()));
    program.signal(Signal::TERM);
    let ended = program.ended(Duration::from_secs(25)).await;
    let log = tail(&stage.one().said());
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{log}");
    let (damage, traces) = judge(&stage, &crowd).await;
    println!("{cut} connections were cut; {traces:?}");
    assert!(settled, "work is left: {damage:?}\n{log}");
    assert!(damage.none(), "{damage:?}\n{log}");
    assert!(cut >= cuts as i64, "the program had hardly a connection to cut: {cut}");
    assert!(traces.orphans <= traces.listed, "the outbox does not know every orphan: {traces:?}");
}
