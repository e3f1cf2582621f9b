use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::poll;
use salon_core::{BotId, JobId, Refusal, Time};
use salon_store::testing::Scratch;
use salon_store::{Dialect, Enqueued, Error, NewJob, Place, Result, Store, on_both_databases};

use sqlx::{AnyConnection, Connection, Executor};
use tokio::sync::Semaphore;

use crate::cast::*;

on_both_databases! {
    a_refused_operation_leaves_nothing_and_its_neighbours_commit
    a_failed_statement_leaves_nothing_and_its_neighbours_commit
    a_panic_ends_only_its_own_operation
    an_operation_runs_to_its_end_when_its_caller_has_gone
    what_is_urgent_goes_first_but_not_for_ever
    what_is_urgent_is_done_while_everything_else_waits
    a_reading_connection_changes_nothing
    what_is_written_is_read_at_once
    a_probe_writes_and_may_be_repeated
    the_schema_has_a_version
    only_a_shared_database_has_a_clock_of_its_own
    a_checkpoint_may_come_at_any_time
    closing_finishes_what_waits_and_takes_nothing_more
    a_healthy_database_checks_out
    contradictions_are_named
}

/// Keeps the SQLite writer busy until the permit comes, so that what is sent meanwhile is one group.
async fn with_the_writer_held<T>(store: &Store, during: impl AsyncFnOnce() -> T) -> T {
    let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let holder = tokio::spawn({
        let (store, args) = (store.clone(), (begun.clone(), gate.clone()));
        async move {
            transact!(store, args, |_tx, (begun, gate)| {
                begun.add_permits(1);
                // Once open it stays open: like every operation this one may be run again.
                drop(gate.acquire().await.expect("the gate stays"));
                Ok(())
            })
        }
    });
    begun.acquire().await.expect("the holder stays").forget();
    let out = during().await;
    gate.add_permits(1);
    holder.await.expect("the holder ends").expect("and is committed");
    out
}

/// Enqueues job `n`; every third then fails in its own way.
async fn thirty_of_which_ten_fail(store: &Store, fail: salon_store::Operation<NewJob, ()>) -> Vec<Result<()>> {
    let tasks = with_the_writer_held(store, async || {
        let mut tasks = Vec::new();
        for n in 0..30 {
            let (store, job) = (store.clone(), job(format!("{n:02}"), &format!("lane {}", n % 4)));
            tasks.push(tokio::spawn(async move {
                match n % 3 {
                    0 => store.write(job, fail).await,
                    _ => transact!(store, job, |tx, job| tx.enqueue(job).await.map(drop)),
                }
            }));
        }
        tokio::task::yield_now().await;
        tasks
    })
    .await;
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.expect("no caller panics"));
    }
    outcomes
}

async fn expect_the_other_twenty(store: &Store, outcomes: &[Result<()>]) {
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_ok(), n % 3 != 0, "{n}: {outcome:?}");
    }
    assert_eq!(count(store, "queued").await, 20);
    let mut open = Vec::new();
    for lane in 0..4 {
        open.extend(read(store).await.list_open(&format!("lane {lane}")).await.expect("list"));
    }
    assert!(open.iter().all(|job| job.ticket.job.as_str().parse::<usize>().expect("a number") % 3 != 0));
    // Taken-back jobs have cost no number.
    assert_eq!(store.check().await.expect("check"), Vec::<String>::new());
}

async fn a_refused_operation_leaves_nothing_and_its_neighbours_commit(Scratch { store, .. }: Scratch) {
    let outcomes = thirty_of_which_ten_fail(&store, |tx, job| {
        Box::pin(async move {
            tx.enqueue(job).await?;
            Err(Refusal::NotFound.into())
        })
    });
    let outcomes = outcomes.await;
    assert!(matches!(outcomes[0], Err(Error::Refused(Refusal::NotFound))), "{:?}", outcomes[0]);
    expect_the_other_twenty(&store, &outcomes).await;
}

async fn a_failed_statement_leaves_nothing_and_its_neighbours_commit(Scratch { store, .. }: Scratch) {
    let outcomes = thirty_of_which_ten_fail(&store, |tx, job| {
        Box::pin(async move {
            tx.enqueue(job).await?;
            tx.add_turn(&turn("t", "a dialog that is not there")).await.map(drop)
        })
    });
    let outcomes = outcomes.await;
    assert!(matches!(outcomes[0], Err(Error::Fault(_))), "{:?}", outcomes[0]);
    expect_the_other_twenty(&store, &outcomes).await;
}

async fn a_panic_ends_only_its_own_operation(Scratch { store, .. }: Scratch) {
    let outcomes = thirty_of_which_ten_fail(&store, |tx, job| {
        Box::pin(async move {
            tx.enqueue(job).await?;
            panic!("an operation that panics, as this test wants it");
        })
    });
    let outcomes = outcomes.await;
    assert!(matches!(outcomes[0], Err(Error::Fault(_))), "{:?}", outcomes[0]);
    expect_the_other_twenty(&store, &outcomes).await;
    assert_eq!(enqueue(&store, job("afterwards", "lane")).await, Enqueued::New);
}

async fn an_operation_runs_to_its_end_when_its_caller_has_gone(Scratch { store, .. }: Scratch) {
    let (begun, gate, ended) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let caller = tokio::spawn({
        let (store, args) = (store.clone(), (begun.clone(), gate.clone(), ended.clone()));
        async move {
            transact!(store, args, |tx, (begun, gate, ended)| {
                begun.add_permits(1);
                gate.acquire().await.expect("the gate stays").forget();
                tx.enqueue(&job("1", "lane")).await?;
                ended.add_permits(1);
                Ok(())
            })
        }
    });
    begun.acquire().await.expect("it begins").forget();
    caller.abort();
    assert!(caller.await.expect_err("aborted").is_cancelled());
    gate.add_permits(1);
    ended.acquire().await.expect("it ends").forget();
    // The same key waits for the first to be committed, on either database.
    assert_eq!(enqueue(&store, job("1", "lane")).await, Enqueued::Duplicate);
}

type Write<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Hands every write over, in this order; none is done yet.
async fn hand_over<T>(writes: &mut [Write<'_, T>]) {
    for write in writes {
        assert!(poll!(write.as_mut()).is_pending());
    }
}

/// Only where writes stand in a queue is there an order to look at.
async fn what_is_urgent_goes_first_but_not_for_ever(Scratch { store, .. }: Scratch) {
    if store.dialect() == Dialect::Postgres {
        return;
    }
    let waiting = with_the_writer_held(&store, async || {
        let usual = (0..10).map(|n| -> Write<'_, Enqueued> {
            Box::pin(store.write(job(format!("usual {n}"), "lane"), |tx, job| Box::pin(tx.enqueue(job))))
        });
        let urgent = (0..10).map(|n| -> Write<'_, Enqueued> {
            Box::pin(store.write_urgently(job(format!("urgent {n}"), "lane"), |tx, job| Box::pin(tx.enqueue(job))))
        });
        let mut writes: Vec<_> = usual.chain(urgent).collect();
        hand_over(&mut writes).await;
        writes
    });
    for outcome in join_all(waiting.await).await {
        assert_eq!(outcome.expect("a write"), Enqueued::New);
    }
    let open = read(&store).await.list_open("lane").await.expect("list");
    let order: String = ids(&open).iter().map(|id| if id.starts_with("urgent") { '!' } else { '.' }).collect();
    assert_eq!(order, "!!!!.!!!!.!!........");
}

/// Only a server works on several transactions at once.
async fn what_is_urgent_is_done_while_everything_else_waits(Scratch { store, .. }: Scratch) {
    if store.dialect() == Dialect::Sqlite {
        return;
    }
    let gate = Arc::new(Semaphore::new(0));
    let wait = |gate: Arc<Semaphore>| -> Write<'_, ()> {
        Box::pin(store.write(gate, |_tx, gate| {
            Box::pin(async move {
                drop(gate.acquire().await.expect("the gate stays"));
                Ok(())
            })
        }))
    };
    let mut waiting: Vec<_> = (0..40).map(|_| wait(gate.clone())).collect();
    hand_over(&mut waiting).await;
    let urgent = store.write_urgently(job("urgent", "lane"), |tx, job| Box::pin(tx.enqueue(job))).await;
    assert_eq!(urgent.expect("a write"), Enqueued::New);
    hand_over(&mut waiting).await;
    gate.add_permits(1);
    for outcome in join_all(waiting).await {
        outcome.expect("a write");
    }
}

async fn a_reading_connection_changes_nothing(Scratch { store, .. }: Scratch) {
    let outcome = read(&store).await.enqueue(&job("1", "lane")).await;
    assert!(outcome.is_err(), "{outcome:?}");
    assert_eq!(enqueue(&store, job("2", "lane")).await, Enqueued::New);
    assert_eq!(ids(&read(&store).await.list_open("lane").await.expect("list")), ["2"]);
}

async fn what_is_written_is_read_at_once(Scratch { store, .. }: Scratch) {
    let mut reader = read(&store).await;
    for n in 1..=20 {
        enqueue(&store, job(format!("{n}"), "lane")).await;
        assert_eq!(reader.count_open("lane").await.expect("count"), n);
    }
}

async fn a_probe_writes_and_may_be_repeated(Scratch { store, .. }: Scratch) {
    for _ in 0..3 {
        store.probe().await.expect("a healthy database takes a write");
    }
    assert_eq!(store.check().await.expect("check"), Vec::<String>::new());
}

async fn the_schema_has_a_version(Scratch { store, .. }: Scratch) {
    assert!(store.schema_version().await.expect("a version") >= 1);
}

async fn only_a_shared_database_has_a_clock_of_its_own(Scratch { store, .. }: Scratch) {
    let clock = store.clock_ms().await.expect("a clock");
    match store.dialect() {
        Dialect::Sqlite => assert_eq!(clock, None),
        // Some time after this was written, and well before it is history.
        Dialect::Postgres => assert!((1_700_000_000_000..9_000_000_000_000).contains(&clock.expect("a time"))),
    }
}

async fn a_checkpoint_may_come_at_any_time(Scratch { store, .. }: Scratch) {
    store.checkpoint().await.expect("with nothing to do");
    at_once(&store, 20, |store, n| async move {
        enqueue(&store, job(format!("{n}"), "lane")).await;
        store.checkpoint().await.expect("a checkpoint");
    })
    .await;
    assert_eq!(count(&store, "queued").await, 20);
}

async fn closing_finishes_what_waits_and_takes_nothing_more(Scratch { store, place, folder }: Scratch) {
    let waiting: Vec<_> = with_the_writer_held(&store, async || {
        let tasks = (0..20).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { transact!(store, job(format!("{n}"), "lane"), |tx, job| tx.enqueue(job).await) })
        });
        tasks.collect()
    })
    .await;
    let (clone, another) = (store.clone(), store.clone());
    tokio::join!(store.close(), another.close());
    let mut kept = 0;
    for task in waiting {
        match task.await.expect("no caller panics") {
            Ok(_) => kept += 1,
            Err(Error::Unavailable(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    let refused = transact!(clone, job("late", "lane"), |tx, job| tx.enqueue(job).await);
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(matches!(clone.read().await, Err(Error::Unavailable(_))));
    assert!(matches!(clone.checkpoint().await, Ok(()) | Err(Error::Unavailable(_))));
    if let Place::Folder(folder) = &place {
        assert!(!folder.join("salon.db-wal").exists(), "everything is in the one file");
    }
    let again = Store::open(&place, "again").await.expect("what was closed opens, though a clone is still there");
    assert_eq!(count(&again, "queued").await, kept, "what was acknowledged is there, and nothing else");
    drop((clone, folder));
}

async fn a_healthy_database_checks_out(Scratch { store, .. }: Scratch) {
    let (turn, ticket) = turn_in_progress(&store, "t").await;
    transact!(store, (ticket, turn), |tx, (ticket, turn)| {
        let held = tx.hold(ticket, Time(90_000)).await?;
        let event = salon_core::Event::Done;
        tx.append(&held, turn, &[salon_store::Append { at: Time(1), event }]).await
    })
    .expect("append");
    enqueue(&store, NewJob { bot: Some(BotId::new("heron")), ..job("2", "lane") }).await;
    assert_eq!(store.check().await.expect("check"), Vec::<String>::new());
}

/// A connection past the store, to do what the store never does.
async fn raw(place: &Place) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let url = match place {
        Place::Folder(folder) => format!("sqlite://{}", folder.join("salon.db").display()),
        Place::Postgres(url) => url.clone(),
    };
    AnyConnection::connect(&url).await.expect("a connection past the store")
}

async fn contradictions_are_named(Scratch { store, place, folder }: Scratch) {
    let (_, ticket) = turn_in_progress(&store, "t").await;
    enqueue(&store, job("elsewhere", "other lane")).await;
    let mut raw = raw(&place).await;
    for (sabotage, repair, said) in [
        (
            "UPDATE jobs SET state = 'dead', finished_at = 1 WHERE id = 'run of t'",
            "UPDATE jobs SET state = 'running', finished_at = NULL WHERE id = 'run of t'",
            "open turns that no open job will answer: 1, such as t",
        ),
        (
            "UPDATE jobs SET lease_until = NULL WHERE id = 'run of t'",
            "UPDATE jobs SET lease_until = 5 WHERE id = 'run of t'",
            "running jobs that nobody holds: 1, such as run of t",
        ),
        (
            "UPDATE jobs SET finished_at = 5 WHERE id = 'elsewhere'",
            "UPDATE jobs SET finished_at = NULL WHERE id = 'elsewhere'",
            "jobs that have ended without a time, or have a time without having ended: 1, such as elsewhere",
        ),
        (
            "DELETE FROM lanes WHERE lane = 'other lane'",
            "INSERT INTO lanes (lane, next_seq) VALUES ('other lane', 2)",
            "open jobs whose lane does not know their number: 1, such as elsewhere",
        ),
        (
            "UPDATE dialogs SET turns = 3",
            "UPDATE dialogs SET turns = 1",
            "dialogs whose turns have gaps: 1, such as dialog of t",
        ),
        (
            "INSERT INTO events (turn_id, seq, attempt, at, body) VALUES ('t', 2, 1, 1, '{}')",
            "DELETE FROM events",
            "turns whose events have gaps: 1, such as t",
        ),
        (
            "UPDATE turns SET answered_at = 5",
            "UPDATE turns SET answered_at = NULL",
            "turns that have ended without a time, or have a time without having ended: 1, such as t",
        ),
    ] {
        raw.execute(sabotage).await.expect("sabotage");
        assert_eq!(store.check().await.expect("check"), [said]);
        raw.execute(repair).await.expect("repair");
        assert_eq!(store.check().await.expect("check"), Vec::<String>::new(), "{repair}");
    }
    // Two jobs of a lane under one number, of which both run.
    raw.execute(
        "UPDATE jobs SET lane = 'lane of t', seq = 1, state = 'running', lease_until = 5, owner = 'w', boot = '1'",
    )
    .await
    .expect("sabotage");
    let said = ["lanes in which two open jobs have the same number", "lanes in which two jobs run at once"];
    let said = said.map(|what| format!("{what}: 1, such as lane of t"));
    assert_eq!(store.check().await.expect("check"), said);
    assert_eq!(ticket.job, JobId::new("run of t"));
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_cannot_even_wait_is_refused() {
    let Scratch { store, folder, .. } = Scratch::sqlite().await;
    let tasks = with_the_writer_held(&store, async || {
        // The queue holds 1024, and of those that wait to get into it nobody gets in.
        let tasks: Vec<_> = (0..1_100)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(
                    async move { transact!(store, job(format!("{n}"), "lane"), |tx, job| tx.enqueue(job).await) },
                )
            })
            .collect();
        let refused = async {
            while tasks.iter().filter(|task| task.is_finished()).count() < 1_100 - 1_024 {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), refused).await.expect("the rest is refused");
        tasks
    })
    .await;
    let mut refused = 0;
    for task in tasks {
        match task.await.expect("no caller panics") {
            Ok(Enqueued::New) => {}
            Err(Error::Unavailable(_)) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, 1_100 - 1_024);
    assert_eq!(count(&store, "queued").await, 1_024);
    drop(folder);
}
