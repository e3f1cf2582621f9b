//! PostgreSQL goes away, is locked, or has no more connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use salon_core::ChatId;
use salon_store::testing::Scratch;
use salon_store::{Error, Place, Result, Signal, Store};
use sqlx::Executor;
use tokio::sync::{Semaphore, mpsc};

use crate::server::Server;
use crate::{count, enqueue, raw};

/// Long enough for any machine; nobody waits for it unless the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn is_unavailable<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::Unavailable(_)))
}

async fn many(store: &Store, numbers: std::ops::Range<usize>) -> Vec<Result<salon_store::Enqueued>> {
    let tasks: Vec<_> = numbers
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { enqueue(&store, n).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(tokio::time::timeout(PATIENCE, task).await.expect("an answer").expect("no panic"));
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_postgres_and_the_same_store_goes_on_when_it_is_back() {
    let server = Server::start_new().await;
    let place = Place::Postgres(server.url.clone());
    let store = Store::open(&place, "one").await.expect("open");
    let other = Store::open(&place, "two").await.expect("open");
    let (tell, mut heard) = mpsc::channel(10_000);
    other.listen(move |signal| drop(tell.try_send(signal.clone())));

    let mut next = 0;
    for _ in 0..3 {
        // Somebody writes all the time, also while the server dies.
        let stop = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn({
            let (store, stop, first) = (store.clone(), stop.clone(), next + 1_000);
            async move {
                let mut acknowledged = Vec::new();
                for n in first.. {
                    match enqueue(&store, n).await {
                        Ok(_) => acknowledged.push(n),
                        Err(Error::Unavailable(_)) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                }
                acknowledged
            }
        });
        assert!(many(&store, next..next + 20).await.iter().all(Result::is_ok));
        tokio::task::block_in_place(|| server.stop_immediately());

        let outcome = tokio::time::timeout(PATIENCE, enqueue(&store, next + 999)).await.expect("an answer");
        assert!(is_unavailable(&outcome), "{outcome:?}");
        let outcome = tokio::time::timeout(PATIENCE, count(&store)).await.expect("an answer");
        assert!(is_unavailable(&outcome), "{outcome:?}");
        let outcome = Store::open(&place, "three").await.err().expect("nobody answers");
        assert!(matches!(&outcome, Error::Unavailable(_)), "{outcome:?}");

        tokio::task::block_in_place(|| server.start());
        for outcome in many(&store, next + 20..next + 60).await {
            outcome.expect("the first write after the return succeeds");
        }
        count(&store).await.expect("and so does a read");
        stop.store(true, Ordering::SeqCst);
        for n in writing.await.expect("no panic") {
            let again = enqueue(&store, n).await.expect("enqueue");
            assert_eq!(again, salon_store::Enqueued::Duplicate, "{n} was acknowledged and is lost");
        }
        next += 1_000_000;
    }
    assert_eq!(store.check().await.expect("check"), Vec::<String>::new());

    // Signals find their way again, too.
    while heard.try_recv().is_ok() {}
    let hearing = async {
        for n in next.. {
            enqueue(&store, n).await.expect("enqueue");
            if let Ok(signal) = tokio::time::timeout(Duration::from_millis(200), heard.recv()).await {
                assert_eq!(signal, Some(Signal::Work("chat".to_owned())));
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, hearing).await.expect("a signal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_cost_nothing_but_time() {
    let Scratch { store, place, folder } = Scratch::postgres().await;
    let mut cutter = raw(&place).await;
    let done = Arc::new(AtomicBool::new(false));
    let cutting = tokio::spawn({
        let done = done.clone();
        async move {
            let mut cuts = 0;
            while !done.load(Ordering::SeqCst) || cuts == 0 {
                let cut = "SELECT CAST(COUNT(pg_terminate_backend(pid)) AS BIGINT) FROM pg_stat_activity \
                           WHERE datname = current_database() AND pid <> pg_backend_pid()";
                cutter.execute(cut).await.expect("cut");
                cuts += 1;
                // A connection needs a moment to be made and used before it is worth cutting.
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        }
    });
    let writers: Vec<_> = (0..6)
        .map(|w| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..40 {
                    loop {
                        match enqueue(&store, w * 1_000 + n).await {
                            Ok(_) => break,
                            Err(Error::Unavailable(_)) => {}
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        tokio::time::timeout(PATIENCE, writer).await.expect("in time").expect("no panic");
    }
    done.store(true, Ordering::SeqCst);
    cutting.await.expect("no panic");
    let open = async {
        let mut numbers = Vec::new();
        for lane in 0..4 {
            let open = store.read().await?.list_open(&format!("lane {lane}")).await?;
            numbers.push(open.iter().map(|job| job.seq).collect::<Vec<_>>());
        }
        Ok::<_, Error>(numbers)
    };
    let lanes = open.await.expect("read");
    assert_eq!(lanes.iter().map(Vec::len).sum::<usize>(), 240);
    for numbers in lanes {
        assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
    }
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_is_waited_for_only_so_long() {
    let Scratch { store, place, folder } = Scratch::postgres().await;
    let mut raw = raw(&place).await;
    raw.execute("BEGIN").await.expect("begin");
    raw.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE").await.expect("lock");
    // More than there are connections.
    for outcome in many(&store, 0..40).await {
        assert!(is_unavailable(&outcome), "{outcome:?}");
    }
    let outcome = count(&store).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
    let chat = store.read().await.expect("a connection").find_chat(&salon_core::BotId::new("b"), ChatId(1)).await;
    chat.expect("other tables can be read");

    raw.execute("ROLLBACK").await.expect("unlock");
    assert!(many(&store, 0..40).await.iter().all(Result::is_ok));
    assert_eq!(count(&store).await.expect("count"), 40);
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_free_connection_the_answer_comes_all_the_same() {
    let Scratch { store, folder, .. } = Scratch::postgres().await;
    let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    // All the connections that write; those that are not urgent would not be given all of them.
    let holders: Vec<_> = (0..16)
        .map(|_| {
            let (store, args) = (store.clone(), (begun.clone(), gate.clone()));
            tokio::spawn(async move {
                store
                    .write_urgently(args, |_tx, (begun, gate)| {
                        Box::pin(async move {
                            begun.add_permits(1);
                            gate.acquire().await.expect("the gate stays").forget();
                            Ok(())
                        })
                    })
                    .await
            })
        })
        .collect();
    begun.acquire_many(16).await.expect("all begin").forget();
    for outcome in many(&store, 0..30).await {
        assert!(is_unavailable(&outcome), "{outcome:?}");
    }
    assert_eq!(count(&store).await.expect("reading has its own"), 0);
    gate.add_permits(16);
    for holder in holders {
        holder.await.expect("no panic").expect("committed");
    }
    assert!(many(&store, 0..30).await.iter().all(Result::is_ok));
    drop(folder);
}
