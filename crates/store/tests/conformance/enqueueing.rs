use salon_core::{JobId, Time};
use salon_store::testing::Scratch;
use salon_store::{Enqueued, JobCounts, NewJob, Store, on_both_databases};

use crate::cast::*;

on_both_databases! {
    a_key_is_enqueued_once
    a_key_is_enqueued_once_by_fifty_at_once
    a_key_is_spent_even_after_its_job_has_ended
    jobs_without_keys_never_meet
    numbers_have_no_gaps_and_no_twins_under_concurrency
    a_lane_takes_no_more_than_it_has_room_for
    a_full_lane_still_knows_what_it_has
    a_job_comes_back_as_it_was_given
    open_jobs_are_listed_in_order
    a_lane_goes_on_in_another_in_its_order
    a_job_that_runs_stays_in_its_lane_if_there_is_work_in_the_other
    jobs_are_counted_by_kind_bot_and_state
}

async fn a_key_is_enqueued_once(Scratch { store, .. }: Scratch) {
    let keyed = |id: &str| NewJob { key: Some("update:parrot:7".to_owned()), ..job(id, "a") };
    assert_eq!(enqueue(&store, keyed("1")).await, Enqueued::New);
    assert_eq!(enqueue(&store, keyed("2")).await, Enqueued::Duplicate);
    assert_eq!(ids(&claim(&store, &worker("w"), Time(1_000)).await), ["1"]);
}

async fn a_key_is_enqueued_once_by_fifty_at_once(Scratch { store, .. }: Scratch) {
    // Half of them in another lane, where the lane's row does not make them wait for each other.
    let outcomes = at_once(&store, 50, |store, n| async move {
        let lane = if n % 2 == 0 { "even" } else { "odd" };
        enqueue(&store, NewJob { key: Some("update:parrot:7".to_owned()), ..job(format!("{n}"), lane) }).await
    });
    let outcomes = outcomes.await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Enqueued::New).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Enqueued::Duplicate).count(), 49, "{outcomes:?}");
    assert_eq!(count(&store, "queued").await, 1);
}

async fn a_key_is_spent_even_after_its_job_has_ended(Scratch { store, .. }: Scratch) {
    let keyed = |id: &str| NewJob { key: Some("report:2026-W07".to_owned()), ..job(id, "a") };
    enqueue(&store, keyed("1")).await;
    let claimed = claim_one(&store, &worker("w"), Time(1_000)).await;
    finish(&store, &claimed.ticket, Time(2_000)).await.expect("finish");
    assert_eq!(enqueue(&store, keyed("2")).await, Enqueued::Duplicate);

    let swept = transact!(store, Time(3_000), |tx, before| tx.sweep_jobs(*before).await).expect("sweep");
    assert_eq!(swept, 1);
    assert_eq!(enqueue(&store, keyed("3")).await, Enqueued::New);
}

async fn jobs_without_keys_never_meet(Scratch { store, .. }: Scratch) {
    assert_eq!(enqueue(&store, job("1", "a")).await, Enqueued::New);
    assert_eq!(enqueue(&store, job("2", "a")).await, Enqueued::New);
    // The same job again is what a transaction that is run a second time brings.
    assert_eq!(enqueue(&store, job("2", "a")).await, Enqueued::Duplicate);
    assert_eq!(count(&store, "queued").await, 2);
}

async fn numbers_have_no_gaps_and_no_twins_under_concurrency(Scratch { store, .. }: Scratch) {
    // Every third is a duplicate and every tenth a refusal; neither may cost a number.
    at_once(&store, 40, |store, n| async move {
        let key = if n % 3 == 0 { "same".to_owned() } else { format!("key {n}") };
        let room = if n % 10 == 9 { Some(0) } else { None };
        enqueue(&store, NewJob { key: Some(key), room, ..job(format!("{n}"), "a") }).await
    })
    .await;
    let open = read(&store).await.list_open("a").await.expect("list");
    let numbers: Vec<_> = open.iter().map(|job| job.seq).collect();
    assert!(numbers.len() > 20, "{numbers:?}");
    assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
}

async fn a_lane_takes_no_more_than_it_has_room_for(Scratch { store, .. }: Scratch) {
    let outcomes = at_once(&store, 30, |store, n| async move {
        enqueue(&store, NewJob { room: Some(20), ..job(format!("{n}"), "a") }).await
    });
    let full = outcomes.await.into_iter().filter(|outcome| *outcome == Enqueued::LaneFull).count();
    assert_eq!(full, 10);
    assert_eq!(read(&store).await.count_open("a").await.expect("count"), 20);
    // Another lane is another matter, and so is a lane in which one has ended.
    assert_eq!(enqueue(&store, NewJob { room: Some(1), ..job("other", "b") }).await, Enqueued::New);
    let claimed = claim_up_to(&store, &worker("w"), Time(1_000), 1).await.remove(0);
    finish(&store, &claimed.ticket, Time(1_000)).await.expect("finish");
    assert_eq!(enqueue(&store, NewJob { room: Some(20), ..job("last", &claimed.lane) }).await, Enqueued::New);
}

async fn a_full_lane_still_knows_what_it_has(Scratch { store, .. }: Scratch) {
    let keyed = |id: &str| NewJob { key: Some("update:parrot:7".to_owned()), room: Some(1), ..job(id, "a") };
    assert_eq!(enqueue(&store, keyed("1")).await, Enqueued::New);
    assert_eq!(enqueue(&store, keyed("2")).await, Enqueued::Duplicate);
    assert_eq!(enqueue(&store, NewJob { room: Some(1), ..job("3", "a") }).await, Enqueued::LaneFull);
}

async fn a_job_comes_back_as_it_was_given(Scratch { store, .. }: Scratch) {
    enqueue(&store, NewJob { bot: None, payload: "{\"тест\":\"🦜\"}".to_owned(), ..job("1", "a") }).await;
    let claimed = claim_one(&store, &worker("w"), Time(5_000)).await;
    assert_eq!(claimed.ticket.job, JobId::new("1"));
    assert_eq!(claimed.ticket.epoch, 1);
    assert_eq!((claimed.kind.as_str(), claimed.lane.as_str(), claimed.seq), ("update", "a", 1));
    assert_eq!(claimed.bot, None);
    assert_eq!(claimed.payload, "{\"тест\":\"🦜\"}");
    assert_eq!((claimed.attempts, claimed.stop_requested, claimed.created_at), (1, false, Time(1_000)));
}

async fn open_jobs_are_listed_in_order(Scratch { store, .. }: Scratch) {
    for id in ["b", "a", "c"] {
        enqueue(&store, job(id, "lane")).await;
    }
    enqueue(&store, job("elsewhere", "other lane")).await;
    claim(&store, &worker("w"), Time(1_000)).await;
    let open = read(&store).await.list_open("lane").await.expect("list");
    assert_eq!(ids(&open), ["b", "a", "c"]);
    assert_eq!(read(&store).await.count_open("lane").await.expect("count"), 3);
    assert_eq!(read(&store).await.count_open("nowhere").await.expect("count"), 0);
}

async fn move_lane(store: &Store) {
    transact!(store, (), |tx, ()| tx.move_lane("before", "after").await).expect("move");
}

async fn a_lane_goes_on_in_another_in_its_order(Scratch { store, .. }: Scratch) {
    // Its numbers do not begin with one.
    for id in ["done", "1", "2"] {
        enqueue(&store, job(id, "before")).await;
    }
    let w = worker("w");
    let done = claim_one(&store, &w, Time(1_000)).await;
    finish(&store, &done.ticket, Time(1_000)).await.expect("finish");
    let running = claim_one(&store, &w, Time(1_000)).await;
    for _ in 0..2 {
        move_lane(&store).await;
        assert_eq!(ids(&read(&store).await.list_open("after").await.expect("list")), ["1", "2"]);
        assert_eq!(read(&store).await.count_open("before").await.expect("count"), 0);
    }
    enqueue(&store, job("3", "after")).await;
    assert!(claim(&store, &w, Time(1_000)).await.is_empty(), "one of them runs");
    finish(&store, &running.ticket, Time(1_000)).await.expect("the lease is as good as before");
    for id in ["2", "3"] {
        let next = claim_one(&store, &w, Time(1_000)).await;
        assert_eq!(next.ticket.job, JobId::new(id));
        finish(&store, &next.ticket, Time(1_000)).await.expect("finish");
    }
    enqueue(&store, job("late", "before")).await;
    move_lane(&store).await;
    enqueue(&store, job("later", "after")).await;
    assert_eq!(ids(&read(&store).await.list_open("after").await.expect("list")), ["late", "later"]);
    assert_eq!(store.check().await.expect("check"), Vec::<String>::new());
}

async fn a_job_that_runs_stays_in_its_lane_if_there_is_work_in_the_other(Scratch { store, .. }: Scratch) {
    for (id, lane) in [("1", "before"), ("2", "before"), ("there", "after")] {
        enqueue(&store, job(id, lane)).await;
    }
    let w = worker("w");
    assert_eq!(ids(&claim(&store, &w, Time(1_000)).await), ["1", "there"]);
    move_lane(&store).await;
    assert_eq!(ids(&read(&store).await.list_open("before").await.expect("list")), ["1"]);
    assert_eq!(ids(&read(&store).await.list_open("after").await.expect("list")), ["there", "2"]);
    assert!(claim(&store, &w, Time(1_000)).await.is_empty());
    assert_eq!(store.check().await.expect("check"), Vec::<String>::new());
}

async fn jobs_are_counted_by_kind_bot_and_state(Scratch { store, .. }: Scratch) {
    enqueue(&store, job("1", "a")).await;
    enqueue(&store, job("2", "a")).await;
    enqueue(&store, NewJob { kind: "sweep", bot: None, queue: "other", ..job("3", "b") }).await;
    claim(&store, &worker("w"), Time(1_000)).await;
    let mut counts = read(&store).await.count_jobs().await.expect("count");
    counts.sort_by(|a, b| (&a.kind, &a.state).cmp(&(&b.kind, &b.state)));
    let count = |kind: &str, bot: Option<&str>, state: &str| JobCounts {
        kind: kind.to_owned(),
        bot: bot.map(str::to_owned),
        state: state.to_owned(),
        count: 1,
    };
    let expected = [
        count("sweep", None, "queued"),
        count("update", Some("parrot"), "queued"),
        count("update", Some("parrot"), "running"),
    ];
    assert_eq!(counts, expected);
}
