use std::collections::HashSet;
use std::time::Duration;

use salon_core::Time;
use salon_store::testing::Scratch;
use salon_store::{NewJob, Worker, on_both_databases};

use crate::cast::*;

on_both_databases! {
    only_the_head_of_a_lane_is_claimed
    a_job_that_waits_to_be_retried_holds_up_its_lane
    the_oldest_jobs_are_claimed_first_up_to_the_limit
    a_queue_claims_only_its_own_jobs_but_a_lane_may_span_queues
    a_job_is_not_claimed_before_its_time
    two_claimers_never_get_the_same_job
    a_lane_keeps_its_order_with_many_claimers
    an_expired_lease_is_claimed_anew_under_a_higher_epoch
    a_lease_from_before_the_clock_was_set_back_counts_as_expired
    a_stale_ticket_is_fenced_and_changes_nothing
    holding_extends_the_lease
    reclaiming_frees_only_what_earlier_starts_of_us_left
}

async fn only_the_head_of_a_lane_is_claimed(Scratch { store, .. }: Scratch) {
    for id in ["a1", "a2", "a3"] {
        enqueue(&store, job(id, "a")).await;
    }
    enqueue(&store, job("b1", "b")).await;
    let w = worker("w");
    let first = claim(&store, &w, Time(1_000)).await;
    assert_eq!(ids(&first), ["a1", "b1"]);
    assert!(claim(&store, &w, Time(1_000)).await.is_empty());
    finish(&store, &first[0].ticket, Time(1_000)).await.expect("finish");
    assert_eq!(ids(&claim(&store, &w, Time(1_000)).await), ["a2"]);
}

async fn a_job_that_waits_to_be_retried_holds_up_its_lane(Scratch { store, .. }: Scratch) {
    enqueue(&store, job("1", "a")).await;
    enqueue(&store, job("2", "a")).await;
    let w = worker("w");
    let first = claim_one(&store, &w, Time(1_000)).await;
    retry(&store, &first.ticket, Time(1_000), Time(60_000)).await.expect("retry");
    assert!(claim(&store, &w, Time(59_999)).await.is_empty());
    assert_eq!(ids(&claim(&store, &w, Time(60_000)).await), ["1"]);
}

async fn the_oldest_jobs_are_claimed_first_up_to_the_limit(Scratch { store, .. }: Scratch) {
    for (id, now) in [("c", 3_000), ("a", 1_000), ("d", 3_000), ("b", 2_000)] {
        enqueue(&store, NewJob { now: Time(now), ..job(id, id) }).await;
    }
    let w = worker("w");
    assert_eq!(ids(&claim_up_to(&store, &w, Time(9_000), 3).await), ["a", "b", "c"]);
    assert_eq!(ids(&claim_up_to(&store, &w, Time(9_000), 3).await), ["d"]);
}

async fn a_queue_claims_only_its_own_jobs_but_a_lane_may_span_queues(Scratch { store, .. }: Scratch) {
    enqueue(&store, NewJob { queue: "run", ..job("1", "a") }).await;
    enqueue(&store, job("2", "a")).await;
    enqueue(&store, NewJob { queue: "run", ..job("3", "b") }).await;
    // 2 is in our queue, but 1 is the head of its lane.
    assert!(claim(&store, &worker("w"), Time(1_000)).await.is_empty());
}

async fn a_job_is_not_claimed_before_its_time(Scratch { store, .. }: Scratch) {
    enqueue(&store, NewJob { now: Time(5_000), ..job("1", "a") }).await;
    assert!(claim(&store, &worker("w"), Time(4_999)).await.is_empty());
    assert_eq!(claim(&store, &worker("w"), Time(5_000)).await.len(), 1);
}

async fn two_claimers_never_get_the_same_job(Scratch { store, .. }: Scratch) {
    for n in 0..60 {
        enqueue(&store, job(format!("{n:02}"), &format!("lane {n}"))).await;
    }
    let claimed = at_once(&store, 16, |store, n| async move {
        let mut mine = Vec::new();
        loop {
            let jobs = claim_up_to(&store, &worker(&format!("w{n}")), Time(1_000), 3).await;
            // SKIP LOCKED may pass over what another is about to claim, so "nothing" means little until all are held.
            if jobs.is_empty() && count(&store, "queued").await == 0 {
                return mine;
            }
            mine.extend(jobs.into_iter().map(|job| job.ticket.job));
        }
    });
    let claimed: Vec<_> = claimed.await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 60);
    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), 60);
}

async fn a_lane_keeps_its_order_with_many_claimers(Scratch { store, .. }: Scratch) {
    const JOBS: usize = 24;
    for n in 0..JOBS {
        enqueue(&store, job(format!("{n:02}"), if n % 2 == 0 { "even" } else { "odd" })).await;
    }
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = order.clone();
    at_once(&store, 6, move |store, n| {
        let seen = seen.clone();
        async move {
            while count(&store, "queued").await + count(&store, "running").await > 0 {
                for job in claim_up_to(&store, &worker(&format!("w{n}")), Time(1_000), 2).await {
                    // Between claim and finish nobody else may have the next of this lane.
                    seen.lock().expect("a lock").push((job.lane.clone(), job.seq));
                    finish(&store, &job.ticket, Time(1_000)).await.expect("finish");
                }
            }
        }
    })
    .await;
    let order = order.lock().expect("a lock").clone();
    for lane in ["even", "odd"] {
        let numbers: Vec<_> = order.iter().filter(|(in_lane, _)| in_lane == lane).map(|(_, seq)| *seq).collect();
        assert_eq!(numbers, (1..=JOBS as i64 / 2).collect::<Vec<_>>(), "{lane}");
    }
}

async fn an_expired_lease_is_claimed_anew_under_a_higher_epoch(Scratch { store, .. }: Scratch) {
    enqueue(&store, job("1", "a")).await;
    let first = claim_one(&store, &worker("one"), Time(1_000)).await;
    let ends = Time(1_000) + LEASE;
    assert!(claim(&store, &worker("two"), ends).await.is_empty());
    let second = claim_one(&store, &worker("two"), ends + Duration::from_millis(1)).await;
    assert_eq!((first.ticket.epoch, second.ticket.epoch), (1, 2));
    assert_eq!(second.attempts, 2);
    assert!(is_fenced(&hold(&store, &first.ticket, ends).await));
    hold(&store, &second.ticket, ends).await.expect("the new lease counts");
}

async fn a_lease_from_before_the_clock_was_set_back_counts_as_expired(Scratch { store, .. }: Scratch) {
    enqueue(&store, job("1", "a")).await;
    // Claimed by a clock that ran two hours ahead.
    let ahead = Time(1_000) + Duration::from_secs(7_200);
    let first = claim_one(&store, &worker("one"), ahead).await;
    let second = claim_one(&store, &worker("two"), Time(2_000)).await;
    assert_eq!(second.ticket.job, first.ticket.job);
    assert!(is_fenced(&hold(&store, &first.ticket, ahead).await));
}

async fn a_stale_ticket_is_fenced_and_changes_nothing(Scratch { store, .. }: Scratch) {
    let (turn, stale) = turn_in_progress(&store, "t").await;
    let now = Time(2_000) + LEASE * 2;
    let fresh = claim_one(&store, &worker("two"), now).await.ticket;

    let args = (stale.clone(), turn.clone());
    let outcome = transact!(store, args, |tx, (stale, turn)| {
        // What came before the proof must go as well.
        tx.hear_chat(&parrot(), ALICE, salon_core::Lang::from_tag(Some("ru"))).await?;
        let held = tx.hold(stale, Time(9_000_000)).await?;
        tx.start_turn(&held, turn).await
    });
    assert!(is_fenced(&outcome));
    assert!(is_fenced(&finish(&store, &stale, now).await));
    assert!(is_fenced(&retry(&store, &stale, now, now).await));

    assert_eq!(read(&store).await.find_chat(&parrot(), ALICE).await.expect("find").lang, None);
    let found = read(&store).await.find_turn(&turn).await.expect("find").expect("a turn");
    assert_eq!(found.state, salon_core::TurnState::Queued);
    // Had the stale one moved the end of the lease, this would not be claimable.
    let third = claim_one(&store, &worker("three"), now + LEASE * 2).await;
    assert_eq!(third.ticket.epoch, fresh.epoch + 1);
}

async fn holding_extends_the_lease(Scratch { store, .. }: Scratch) {
    let ticket = running(&store, "1").await;
    let later = Time(1_000) + LEASE;
    hold(&store, &ticket, later).await.expect("hold");
    assert!(claim(&store, &worker("two"), later + LEASE).await.is_empty());
    assert_eq!(claim(&store, &worker("two"), later + LEASE + LEASE).await.len(), 1);
}

async fn reclaiming_frees_only_what_earlier_starts_of_us_left(Scratch { store, .. }: Scratch) {
    for id in ["old", "other", "new"] {
        enqueue(&store, job(id, id)).await;
    }
    let reborn = Worker { boot: "2".to_owned(), ..worker("one") };
    let order = [worker("two"), worker("one"), reborn.clone()];
    let mut taken = Vec::new();
    for worker in &order {
        taken.extend(claim_up_to(&store, worker, Time(1_000), 1).await);
    }
    assert_eq!(ids(&taken), ["new", "old", "other"]);

    let freed = transact!(store, reborn.clone(), |tx, worker| tx.reclaim(worker).await).expect("reclaim");
    assert_eq!(freed, 1);
    let again = claim_one(&store, &reborn, Time(1_001)).await;
    assert_eq!(again.ticket.job, taken[1].ticket.job);
    assert_eq!(again.ticket.epoch, 2);
}
