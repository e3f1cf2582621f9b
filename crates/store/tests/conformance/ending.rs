use salon_core::{JobId, Time};
use salon_store::testing::Scratch;
use salon_store::{NewJob, Ticket, on_both_databases};

use crate::cast::*;

on_both_databases! {
    a_retried_job_keeps_its_place_and_counts_its_attempts
    a_snoozed_job_counts_no_attempt
    a_buried_job_frees_its_lane
    what_has_ended_never_opens_again
    a_job_that_nobody_runs_is_stopped_at_once
    a_running_job_is_only_asked_to_stop
    a_stop_request_survives_a_takeover
    of_a_stop_and_a_claim_one_comes_first
    stopping_goes_well_together_with_finishing
    what_a_stranger_said_is_forgotten
    sweeping_takes_only_what_ended_long_ago
}

async fn a_retried_job_keeps_its_place_and_counts_its_attempts(Scratch { store, .. }: Scratch) {
    enqueue(&store, job("1", "a")).await;
    enqueue(&store, job("2", "a")).await;
    for attempt in 1..=3 {
        let claimed = claim_one(&store, &worker("w"), Time(1_000)).await;
        assert_eq!((claimed.ticket.job.as_str(), claimed.attempts, claimed.ticket.epoch), ("1", attempt, attempt));
        retry(&store, &claimed.ticket, Time(1_000), Time(1_000)).await.expect("retry");
    }
}

async fn a_snoozed_job_counts_no_attempt(Scratch { store, .. }: Scratch) {
    let ticket = running(&store, "1").await;
    transact!(store, ticket.clone(), |tx, ticket| {
        let held = tx.hold(ticket, Time(9_000)).await?;
        tx.snooze(held, Time(5_000)).await
    })
    .expect("snooze");
    assert!(is_fenced(&hold(&store, &ticket, Time(2_000)).await));
    assert!(claim(&store, &worker("w"), Time(4_999)).await.is_empty());
    let again = claim_one(&store, &worker("w"), Time(5_000)).await;
    assert_eq!((again.attempts, again.ticket.epoch), (1, 2));
}

async fn a_buried_job_frees_its_lane(Scratch { store, .. }: Scratch) {
    enqueue(&store, job("1", "a")).await;
    enqueue(&store, job("2", "a")).await;
    let first = claim_one(&store, &worker("w"), Time(1_000)).await;
    transact!(store, first.ticket, |tx, ticket| {
        let held = tx.hold(ticket, Time(9_000)).await?;
        tx.bury(held, "nobody \0 understands it", Time(1_000)).await
    })
    .expect("bury");
    assert_eq!(ids(&claim(&store, &worker("w"), Time(1_000)).await), ["2"]);
    assert_eq!(count(&store, "dead").await, 1);
}

async fn what_has_ended_never_opens_again(Scratch { store, .. }: Scratch) {
    let done = running(&store, "done").await;
    finish(&store, &done, Time(1_000)).await.expect("finish");
    let stopped = running(&store, "stopped").await;
    transact!(store, stopped.clone(), |tx, ticket| {
        let held = tx.hold(ticket, Time(9_000)).await?;
        tx.finish_stopped(held, Time(1_000)).await
    })
    .expect("stop");
    let dead = running(&store, "dead").await;
    transact!(store, dead.clone(), |tx, ticket| {
        let held = tx.hold(ticket, Time(9_000)).await?;
        tx.bury(held, "no", Time(1_000)).await
    })
    .expect("bury");

    for ticket in [&done, &stopped, &dead] {
        // Not even under the epoch that a next claim would have had.
        for epoch in [ticket.epoch, ticket.epoch + 1] {
            let ticket = Ticket { epoch, ..ticket.clone() };
            assert!(is_fenced(&hold(&store, &ticket, Time(2_000)).await));
        }
        let job = ticket.job.clone();
        assert!(!transact!(store, job.clone(), |tx, job| tx.request_stop(job).await).expect("ask"));
        let held = transact!(store, job, |tx, job| Ok(tx.stop_unclaimed(job, Time(1_000)).await?.is_some()));
        assert!(!held.expect("stop"));
    }
    let reclaimed = transact!(store, worker("w"), |tx, _| {
        let reborn = salon_store::Worker { owner: "w".to_owned(), boot: "2".to_owned(), only: None };
        tx.reclaim(&reborn).await
    });
    assert_eq!(reclaimed.expect("reclaim"), 0);
    assert!(claim(&store, &worker("w"), Time(9_000_000)).await.is_empty());
    for state in ["done", "stopped", "dead"] {
        assert_eq!(count(&store, state).await, 1, "{state}");
    }
}

async fn a_job_that_nobody_runs_is_stopped_at_once(Scratch { store, .. }: Scratch) {
    enqueue(&store, job("1", "a")).await;
    enqueue(&store, job("2", "a")).await;
    let held = transact!(store, JobId::new("1"), |tx, job| {
        let held = tx.stop_unclaimed(job, Time(1_500)).await?;
        // The proof is good for the rest of the transaction, but nothing reopens the job.
        let held = held.expect("nobody runs it");
        let epoch = held.epoch();
        tx.finish(held, Time(1_500)).await?;
        Ok(epoch)
    });
    assert_eq!(held.expect("stop"), 1);
    assert_eq!((count(&store, "stopped").await, count(&store, "done").await), (1, 0));
    assert_eq!(ids(&claim(&store, &worker("w"), Time(2_000)).await), ["2"]);
    assert!(
        transact!(store, JobId::new("none"), |tx, job| Ok(tx.stop_unclaimed(job, Time(1)).await?.is_none()))
            .expect("stop")
    );
}

async fn a_running_job_is_only_asked_to_stop(Scratch { store, .. }: Scratch) {
    let ticket = running(&store, "1").await;
    let stopped =
        transact!(store, ticket.job.clone(), |tx, job| Ok(tx.stop_unclaimed(job, Time(1_500)).await?.is_some()));
    assert!(!stopped.expect("stop"));
    assert!(read(&store).await.list_stop_requests(&worker("w")).await.expect("list").is_empty());

    assert!(transact!(store, ticket.job.clone(), |tx, job| tx.request_stop(job).await).expect("ask"));
    let asked = read(&store).await.list_stop_requests(&worker("w")).await.expect("list");
    assert_eq!(asked, std::slice::from_ref(&ticket.job));
    assert!(read(&store).await.list_stop_requests(&worker("other")).await.expect("list").is_empty());
    hold(&store, &ticket, Time(2_000)).await.expect("the lease goes on until its holder ends it");
}

async fn a_stop_request_survives_a_takeover(Scratch { store, .. }: Scratch) {
    let ticket = running(&store, "1").await;
    assert!(transact!(store, ticket.job.clone(), |tx, job| tx.request_stop(job).await).expect("ask"));
    let again = claim_one(&store, &worker("two"), Time(1_000) + LEASE * 2).await;
    assert!(again.stop_requested);
}

async fn of_a_stop_and_a_claim_one_comes_first(Scratch { store, .. }: Scratch) {
    for round in 0..20 {
        let id = format!("{round}");
        enqueue(&store, job(&id, &id)).await;
        let outcomes = at_once(&store, 2, move |store, n| {
            let id = JobId::new(round.to_string());
            async move {
                match n {
                    0 => !claim(&store, &worker("w"), Time(1_000)).await.is_empty(),
                    _ => transact!(store, id, |tx, id| Ok(tx.stop_unclaimed(id, Time(1_000)).await?.is_some()))
                        .expect("stop"),
                }
            }
        });
        let outcomes = outcomes.await;
        // On PostgreSQL a claim passes over a row that somebody else is just stopping, so exactly one has it.
        assert_ne!(outcomes[0], outcomes[1], "round {round}");
    }
    assert_eq!(count(&store, "queued").await, 0);
    assert_eq!(count(&store, "running").await + count(&store, "stopped").await, 20);
}

async fn stopping_goes_well_together_with_finishing(Scratch { store, .. }: Scratch) {
    for round in 0..10 {
        let ticket = running(&store, &format!("{round}")).await;
        let asked = at_once(&store, 2, move |store, n| {
            let ticket = ticket.clone();
            async move {
                match n {
                    0 => finish(&store, &ticket, Time(2_000)).await.map(|()| true).expect("finish"),
                    _ => transact!(store, ticket.job, |tx, job| tx.request_stop(job).await).expect("ask"),
                }
            }
        });
        assert!(asked.await[0], "who holds the lease decides");
    }
    assert_eq!(count(&store, "done").await, 10);
}

async fn sweeping_takes_only_what_ended_long_ago(Scratch { store, .. }: Scratch) {
    for (id, at) in [("old", 1_000), ("new", 5_000)] {
        let ticket = running(&store, id).await;
        finish(&store, &ticket, Time(at)).await.expect("finish");
    }
    running(&store, "open").await;
    enqueue(&store, NewJob { now: Time(1), ..job("waiting", "lane") }).await;
    let swept = transact!(store, Time(5_000), |tx, before| tx.sweep_jobs(*before).await).expect("sweep");
    assert_eq!(swept, 1);
    assert_eq!((count(&store, "done").await, count(&store, "running").await, count(&store, "queued").await), (1, 1, 1));
}

async fn what_a_stranger_said_is_forgotten(Scratch { store, .. }: Scratch) {
    enqueue(&store, NewJob { payload: r#"{"text":"psst"}"#.to_owned(), ..job("1", "lane") }).await;
    let ticket = claim_up_to(&store, &worker("w"), Time(1_000), 1).await.remove(0).ticket;
    transact!(store, ticket, |tx, ticket| {
        let held = tx.hold(ticket, Time(90_000)).await?;
        tx.forget_payload(&held).await
    })
    .expect("forget");
    assert_eq!(read(&store).await.list_open("lane").await.expect("list")[0].payload, "{}");
}
