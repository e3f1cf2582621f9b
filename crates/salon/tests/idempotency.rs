//! The same request twice is carried out once.

use std::time::Duration;

use salon::Clock;
use salon::idempotency::{Begun, Key, LONGEST_BODY, Replay, Requests, Route, Work};
use salon_core::{OrgId, Time, UserId};
use salon_store::testing::Scratch;
use salon_store::{Error, Store, Worker, on_both_databases};

on_both_databases! {
    what_was_answered_is_answered_again
    of_twenty_at_once_one_works
    another_question_under_the_same_key_is_a_mistake
    a_key_belongs_to_who_uses_it_and_where
    a_refused_request_may_be_corrected
    what_a_dead_process_began_is_taken_over
    a_restart_takes_over_at_once
    an_answer_that_is_too_long_is_not_repeated_and_not_carried_out_again
    answers_are_forgotten_after_a_day
}

fn requests(store: &Store, boot: &str) -> (Requests, Clock) {
    let clock = Clock::wound_to(Time(1_000_000));
    let worker = Worker { owner: "house".to_owned(), boot: boot.to_owned(), only: None };
    (Requests::new(store.clone(), clock.clone(), worker), clock)
}

fn key() -> Key {
    Key::parse("a key").expect("a key")
}

async fn begin_as(requests: &Requests, user: &str, route: &str, body: &str) -> Begun {
    let (org, user) = (OrgId::new("birds"), UserId::new(user));
    let route = Route { org: &org, user: &user, route };
    requests.begin(route, &key(), body.as_bytes()).await.expect("begin")
}

async fn begin(requests: &Requests, body: &str) -> Begun {
    begin_as(requests, "alice", "POST /v1/chat/completions", body).await
}

fn new(begun: Begun) -> Work {
    match begun {
        Begun::New(work) => work,
        other => panic!("{other:?}"),
    }
}

async fn what_was_answered_is_answered_again(Scratch { store, .. }: Scratch) {
    let (requests, _) = requests(&store, "1");
    let work = new(begin(&requests, "hello").await);
    assert!(matches!(begin(&requests, "hello").await, Begun::InProgress));
    let headers = vec![("content-type".to_owned(), "text/event-stream; \"x\"".to_owned())];
    work.finish(503, &headers, &[0, 159, 146, 150]).await.expect("finish");
    for _ in 0..2 {
        let Begun::Replay(replay) = begin(&requests, "hello").await else { panic!("replayed") };
        assert_eq!(replay, Replay { status: 503, headers: headers.clone(), body: Some(vec![0, 159, 146, 150]) });
    }
}

async fn of_twenty_at_once_one_works(Scratch { store, .. }: Scratch) {
    let (requests, _) = requests(&store, "1");
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let requests = requests.clone();
            tokio::spawn(async move { begin(&requests, "hello").await })
        })
        .collect();
    let mut works = Vec::new();
    for task in tasks {
        match task.await.expect("no task panics") {
            Begun::New(work) => works.push(work),
            Begun::InProgress => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(works.len(), 1);
}

async fn another_question_under_the_same_key_is_a_mistake(Scratch { store, .. }: Scratch) {
    let (requests, _) = requests(&store, "1");
    let work = new(begin(&requests, "hello").await);
    assert!(matches!(begin(&requests, "hello!").await, Begun::Mismatch));
    work.finish(200, &Vec::new(), b"hi").await.expect("finish");
    assert!(matches!(begin(&requests, "hello!").await, Begun::Mismatch));
}

async fn a_key_belongs_to_who_uses_it_and_where(Scratch { store, .. }: Scratch) {
    let (requests, _) = requests(&store, "1");
    let _works = [
        new(begin_as(&requests, "alice", "POST /a", "hello").await),
        new(begin_as(&requests, "bob", "POST /a", "hello").await),
        new(begin_as(&requests, "alice", "POST /b", "other").await),
    ];
}

async fn a_refused_request_may_be_corrected(Scratch { store, .. }: Scratch) {
    let (requests, _) = requests(&store, "1");
    new(begin(&requests, "helo").await).forget().await.expect("forget");
    new(begin(&requests, "hello").await).finish(200, &Vec::new(), b"hi").await.expect("finish");
}

async fn what_a_dead_process_began_is_taken_over(Scratch { store, .. }: Scratch) {
    let (requests, clock) = requests(&store, "1");
    let slow = new(begin(&requests, "hello").await);
    clock.wind(Duration::from_secs(14));
    assert!(matches!(begin(&requests, "hello").await, Begun::InProgress));
    clock.wind(Duration::from_secs(1));
    let second = new(begin(&requests, "hello").await);
    assert!(matches!(begin(&requests, "hello").await, Begun::InProgress));
    let late = slow.finish(200, &Vec::new(), b"late").await;
    assert!(matches!(late, Err(Error::Fenced)), "{late:?}");
    second.finish(200, &Vec::new(), b"hi").await.expect("finish");
    let Begun::Replay(replay) = begin(&requests, "hello").await else { panic!("replayed") };
    assert_eq!(replay.body.as_deref(), Some(&b"hi"[..]));
}

async fn a_restart_takes_over_at_once(Scratch { store, .. }: Scratch) {
    let (before, _) = requests(&store, "1");
    drop(new(begin(&before, "hello").await));
    let (after, _) = requests(&store, "2");
    assert!(matches!(begin(&after, "hello").await, Begun::InProgress));
    assert_eq!(after.reclaim().await.expect("reclaim"), 1);
    let work = new(begin(&after, "hello").await);
    assert_eq!(after.reclaim().await.expect("reclaim"), 0, "our own stay ours");
    work.finish(200, &Vec::new(), b"hi").await.expect("finish");
}

async fn an_answer_that_is_too_long_is_not_repeated_and_not_carried_out_again(Scratch { store, .. }: Scratch) {
    let (requests, _) = requests(&store, "1");
    let long = vec![b'x'; LONGEST_BODY + 1];
    new(begin(&requests, "hello").await).finish(200, &Vec::new(), &long).await.expect("finish");
    let Begun::Replay(replay) = begin(&requests, "hello").await else { panic!("replayed") };
    assert_eq!((replay.status, replay.body), (200, None));
}

async fn answers_are_forgotten_after_a_day(Scratch { store, .. }: Scratch) {
    let (requests, clock) = requests(&store, "1");
    new(begin(&requests, "hello").await).finish(200, &Vec::new(), b"hi").await.expect("finish");
    clock.wind(Duration::from_secs(24 * 3600));
    assert_eq!(requests.sweep().await.expect("sweep"), 0);
    let running = new(begin_as(&requests, "bob", "POST /a", "hello").await);
    clock.wind(Duration::from_secs(1));
    assert_eq!(requests.sweep().await.expect("sweep"), 1);
    new(begin(&requests, "hello").await);
    clock.wind(Duration::from_secs(24 * 3600 + 1));
    assert_eq!(requests.sweep().await.expect("sweep"), 2, "and what nobody ever finished");
    drop(running);
}
