//! Two processes on one PostgreSQL that are stopped for longer than their lease, or killed (F12; G3).
//!
//! A stopped process wakes up in the middle of work that the other has taken over. Whatever it then writes must have no
//! effect.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::crowd::Crowd;
use crate::judge::judge;
use crate::program::{Program, Start, ask};
use crate::runs::{Measure, Outcome, WINDOW, is_long, long_patience, seed};
use crate::stage::{BOT, Database, Intake, Stage, TOKEN, count_jobs, free_port, open, tail};

const LEASE_MS: &str = "1500";
/// Longer than the lease.
const SLEEP: Duration = Duration::from_millis(2_200);
/// What a process says when a write of its was refused because somebody else has the job.
const FENCED: &str = "somebody else has the job by now";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_the_one_that_overslept_does_no_harm() {
    let name = "of_two_processes_the_one_that_overslept_does_no_harm";
    let kills = if is_long() { 100 } else { 16 };
    let measure = Measure { questions: kills * 60, chats: 40, kills };
    let outcome = two(name, seed(name), measure, None).await;
    let Pair { outcome: Outcome { damage, traces, settled, log }, fenced, conflicts, pollers } = &outcome;
    assert!(settled, "work is left: {damage:?}\n{log}");
    assert!(damage.none(), "{damage:?}\n{log}");
    assert!(traces.orphans <= traces.listed, "the outbox does not know every orphan: {traces:?}");
    assert!(*fenced > 0, "no stale write was refused, so nothing was tried\n{log}");
    assert_eq!(*pollers, Some(1), "one of the two polls");
    // Only one that was stopped or killed may still have been waiting when its heir came.
    assert!(*conflicts <= measure.kills, "two polled at once {conflicts} times\n{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_hears_and_another_answers() {
    let stage = Stage::set(Database::Postgres, Intake::Polling).await;
    let mut front = stage.start("front", stage.port);
    front.args.extend(["--roles", "http,poll"].map(str::to_owned));
    let deaf_port = free_port();
    let mut back = stage.start("back", deaf_port);
    back.args.extend(["--roles", "work"].map(str::to_owned));
    let mut hearing = open(&front, stage.port).await;
    let working = back.spawn();
    let mut crowd = Crowd::new(&stage, 10, WINDOW);
    let ports = [stage.port];
    assert!(crowd.ask_all(&ports, 40, long_patience()).await, "{}", tail(&back.said()));
    assert!(ask(deaf_port, "GET /healthz HTTP/1.1", "").await.is_none(), "only one of the two listens");
    // Nobody answers, and what is said is heard and kept all the same.
    stage.kill(working).await;
    asking(&mut crowd, 60, Duration::from_secs(1)).await;
    let waits = |line: &str| line.contains("kind=\"update\"") && line.contains("state=\"queued\"");
    let until = Instant::now() + long_patience();
    while count_jobs(stage.port, waits).await.is_none_or(|waiting| waiting < 20) {
        assert!(Instant::now() < until, "{:?}\n{}", count_jobs(stage.port, waits).await, tail(&front.said()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ready = ask(stage.port, "GET /readyz HTTP/1.1", "").await.expect("an answer");
    assert!(ready.status == 200 && ready.body.contains(BOT), "{}", ready.body);
    let mut working = back.spawn();
    assert!(crowd.ask_all(&ports, 80, long_patience()).await, "{}", tail(&back.said()));
    for (program, start) in [(&mut hearing, &front), (&mut working, &back)] {
        program.signal(Signal::TERM);
        let ended = program.ended(Duration::from_secs(25)).await;
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", tail(&start.said()));
    }
    let (damage, _) = judge(&stage, &crowd).await;
    assert!(damage.none(), "{damage:?}\n{}", tail(&back.said()));
}

/// How two processes got on with each other.
#[derive(Debug)]
pub struct Pair {
    pub outcome: Outcome,
    /// Writes of a process that no longer had the lease.
    pub fenced: usize,
    /// Polls that Telegram ended because there was another.
    pub conflicts: usize,
    /// Leases to poll in the end; the database does not answer if there is none.
    pub pollers: Option<i64>,
}

/// Lets a crowd ask two processes, and puts to sleep or kills now one, now the other.
pub async fn two(name: &str, seed: u64, measure: Measure, sabotage: Option<&str>) -> Pair {
    let mut dice = StdRng::seed_from_u64(seed);
    let begun = Instant::now();
    let stage = Stage::set(Database::Postgres, Intake::Polling).await;
    let ports = [stage.port, free_port()];
    let starts: Vec<Start> = ["one", "two"]
        .iter()
        .zip(ports)
        .map(|(name, port)| {
            let start = stage.start(name, port).with("JOB_LEASE_MS", LEASE_MS);
            sabotage.iter().fold(start, |start, rule| start.with("SALON_SABOTAGE", rule))
        })
        .collect();
    let mut programs: Vec<Program> = Vec::new();
    for (start, port) in starts.iter().zip(ports) {
        programs.push(open(start, port).await);
    }
    stage.add_faults(seed);
    let mut crowd = Crowd::new(&stage, measure.chats, WINDOW);
    for round in 0..measure.kills {
        let share = measure.questions * (round + 1) / (measure.kills + 1);
        asking(&mut crowd, share, Duration::from_millis(dice.random_range(200..600))).await;
        let at = dice.random_range(0..2);
        if dice.random_bool(0.7) {
            programs[at].signal(Signal::STOP);
            asking(&mut crowd, share, SLEEP).await;
            programs[at].signal(Signal::CONT);
        } else {
            // Dead before the next one starts: two processes never share a folder.
            stage.kill(programs.remove(at)).await;
            programs.insert(at, starts[at].spawn());
        }
    }
    let settled = crowd.ask_all(&ports, measure.questions, long_patience()).await;
    let pollers =
        count_jobs(ports[0], |line| line.contains("kind=\"poll\"") && line.contains("state=\"leased\"")).await;
    for program in &programs {
        program.signal(Signal::TERM);
    }
    for (program, start) in programs.iter_mut().zip(&starts) {
        let ended = program.ended(Duration::from_secs(25)).await;
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", tail(&start.said()));
    }
    let log: String = starts.iter().map(Start::said).collect();
    let (damage, traces) = judge(&stage, &crowd).await;
    let polls = stage.mock.calls(TOKEN, "getUpdates");
    let conflicts = polls.iter().filter(|poll| poll.status == 409).count();
    let fenced = log.matches(FENCED).count();
    println!("{name}: {measure:?}, {:?} in all; {fenced} fenced, {conflicts} conflicts, {traces:?}", begun.elapsed());
    Pair { outcome: Outcome { damage, traces, settled, log: tail(&log) }, fenced, conflicts, pollers }
}

/// Keeps asking for a while.
async fn asking(crowd: &mut Crowd, limit: usize, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        crowd.ask_until(limit);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
