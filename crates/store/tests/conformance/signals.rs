use std::sync::Arc;
use std::time::Duration;

use salon_core::{Event, JobId, Refusal, Time};
use salon_store::testing::Scratch;
use salon_store::{Append, NewJob, Signal, Store, on_both_databases};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::{Semaphore, mpsc};

use crate::cast::*;

on_both_databases! {
    a_signal_is_told_only_after_the_commit
    what_was_rolled_back_is_never_told
    each_kind_of_change_is_told
}

/// Long enough for any machine; nobody waits for it unless the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that `store` tells from now on.
fn listen(store: &Store) -> Receiver<Signal> {
    let (tell, heard) = channel(1_000);
    store.listen(move |signal| tell.try_send(signal.clone()).expect("room for one more"));
    heard
}

async fn next(heard: &mut mpsc::Receiver<Signal>) -> Signal {
    tokio::time::timeout(PATIENCE, heard.recv()).await.expect("a signal in time").expect("the store lives")
}

fn work(queue: &str) -> Signal {
    Signal::Work(queue.to_owned())
}

async fn a_signal_is_told_only_after_the_commit(Scratch { store, .. }: Scratch) {
    let mut heard = listen(&store);
    let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let writing = tokio::spawn({
        let (store, args) = (store.clone(), (begun.clone(), gate.clone()));
        async move {
            transact!(store, args, |tx, (begun, gate)| {
                tx.enqueue(&job("1", "lane")).await?;
                begun.add_permits(1);
                gate.acquire().await.expect("the gate stays").forget();
                Ok(())
            })
        }
    });
    begun.acquire().await.expect("it begins").forget();
    assert!(heard.try_recv().is_err(), "told before the commit");
    gate.add_permits(1);
    assert_eq!(next(&mut heard).await, work(QUEUE));
    assert_eq!(read(&store).await.count_open("lane").await.expect("count"), 1, "told before it can be seen");
    writing.await.expect("no panic").expect("committed");
}

async fn what_was_rolled_back_is_never_told(Scratch { store, .. }: Scratch) {
    let mut heard = listen(&store);
    let outcomes = at_once(&store, 9, |store, n| async move {
        let job = NewJob { queue: if n % 3 == 0 { "kept" } else { "refused" }, ..job(format!("{n}"), &n.to_string()) };
        transact!(store, job, |tx, job| {
            tx.enqueue(job).await?;
            if job.queue == "kept" { Ok(()) } else { Err(Refusal::NotFound.into()) }
        })
    });
    assert_eq!(outcomes.await.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    // Signals come in the order of commits: when the last is there, nothing more is under way.
    enqueue(&store, NewJob { queue: "last", ..job("last", "lane") }).await;
    loop {
        match next(&mut heard).await {
            Signal::Work(queue) if queue == "last" => break,
            other => assert_eq!(other, work("kept")),
        }
    }
}

async fn each_kind_of_change_is_told(Scratch { store, .. }: Scratch) {
    let (turn, ticket) = turn_in_progress(&store, "t").await;
    enqueue(&store, job("waiting", "lane")).await;
    let mut heard = listen(&store);

    let args = (ticket.clone(), turn);
    transact!(store, args, |tx, (ticket, turn)| {
        let held = tx.hold(ticket, Time(90_000)).await?;
        tx.append(&held, turn, &[]).await?;
        let bundle = [Event::Done, Event::Done].map(|event| Append { at: Time(1), event });
        tx.append(&held, turn, &bundle).await
    })
    .expect("append");
    assert_eq!(next(&mut heard).await, Signal::Turn("t".to_owned()));

    assert!(transact!(store, ticket.job.clone(), |tx, job| tx.request_stop(job).await).expect("ask"));
    assert_eq!(next(&mut heard).await, Signal::Stop("run of t".to_owned()));

    finish(&store, &ticket, Time(2_000)).await.expect("finish");
    assert_eq!(next(&mut heard).await, work(QUEUE), "the next of the lane may go");

    let stopped =
        transact!(store, JobId::new("waiting"), |tx, job| Ok(tx.stop_unclaimed(job, Time(1)).await?.is_some()));
    assert!(stopped.expect("stop"));
    assert_eq!(next(&mut heard).await, work(QUEUE));
    assert!(heard.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_reach_the_other_processes_on_the_same_postgres() {
    let Scratch { store: here, place, folder } = Scratch::postgres().await;
    // The same name on purpose: people copy configurations.
    let there = Store::open(&place, "test").await.expect("a second process");
    let (mut heard_here, mut heard_there) = (listen(&here), listen(&there));

    // Listening begins some time after opening, so speak until somebody answers.
    for (from, heard, queue) in [(&here, &mut heard_there, "from here"), (&there, &mut heard_here, "from there")] {
        let hearing = async {
            for n in 0.. {
                enqueue(from, NewJob { queue, ..job(format!("{queue} {n}"), &format!("{queue} {n}")) }).await;
                while let Ok(Some(signal)) = tokio::time::timeout(Duration::from_millis(200), heard.recv()).await {
                    if signal == work(queue) {
                        return;
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, hearing).await.expect("the other process hears");
    }

    // Nobody hears himself by this way: what comes after "once" and before "end" would be an echo.
    while heard_here.try_recv().is_ok() {}
    enqueue(&here, NewJob { queue: "once", ..job("once", "once") }).await;
    while next(&mut heard_there).await != work("once") {}
    enqueue(&there, NewJob { queue: "end", ..job("end", "end") }).await;
    let mut once = 0;
    loop {
        let signal = next(&mut heard_here).await;
        once += usize::from(signal == work("once"));
        if signal == work("end") {
            break;
        }
    }
    assert_eq!(once, 1);
    there.close().await;
    drop(folder);
}
