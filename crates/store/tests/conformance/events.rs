use salon_core::{Event, Note, Time, TurnId, Usage};
use salon_store::testing::Scratch;
use salon_store::{Append, Result, Store, Ticket, on_both_databases};

use crate::cast::*;

on_both_databases! {
    events_come_back_as_they_were_written
    numbers_go_on_without_gaps_from_bundle_to_bundle
    a_successor_goes_on_where_the_lost_run_stopped
    who_lost_the_lease_appends_nothing
    a_log_is_read_from_where_one_stopped
    a_log_needs_its_turn
}

fn text(text: &str) -> Append {
    Append { at: Time(3_000), event: Event::Text { text: text.to_owned() } }
}

async fn append(store: &Store, ticket: &Ticket, turn: &TurnId, events: Vec<Append>) -> Result<()> {
    let args = (ticket.clone(), turn.clone(), events);
    transact!(store, args, |tx, (ticket, turn, events)| {
        let held = tx.hold(ticket, Time(2_000) + LEASE).await?;
        tx.append(&held, turn, events).await
    })
}

/// The log as (number, attempt, event).
async fn log(store: &Store, turn: &TurnId) -> Vec<(i64, i64, Event)> {
    let events = read(store).await.list_events(turn, 0, 1_000).await.expect("list");
    events.into_iter().map(|stamped| (stamped.seq, stamped.attempt, stamped.event)).collect()
}

async fn events_come_back_as_they_were_written(Scratch { store, .. }: Scratch) {
    let (turn, ticket) = turn_in_progress(&store, "t").await;
    let written = vec![
        Event::Started { engine: "storyteller".to_owned(), thread: Some("one".to_owned()) },
        Event::Text { text: "Нет,\0 \"никогда\" 🦜\n".to_owned() },
        Event::Note(Note::CommandCompleted {
            command: "ls".to_owned(),
            exit_code: Some(-1),
            output: "\u{1b}[0m".to_owned(),
            tool: None,
            failed: false,
        }),
        Event::Usage(Usage { tokens_out: i64::MAX, ..Usage::default() }),
        Event::Failed { code: "x".to_owned(), message: "y".to_owned() },
    ];
    let events = written.iter().cloned().map(|event| Append { at: Time(3_000), event }).collect();
    append(&store, &ticket, &turn, events).await.expect("append");
    let found = read(&store).await.list_events(&turn, 0, 10).await.expect("list");
    assert!(found.iter().all(|stamped| stamped.at == Time(3_000) && stamped.attempt == 1));
    assert_eq!(found.into_iter().map(|stamped| stamped.event).collect::<Vec<_>>(), written);
}

async fn numbers_go_on_without_gaps_from_bundle_to_bundle(Scratch { store, .. }: Scratch) {
    let (turn, ticket) = turn_in_progress(&store, "t").await;
    // All at once: the lease makes them follow one another.
    at_once(&store, 20, move |store, n| {
        let (turn, ticket) = (turn.clone(), ticket.clone());
        async move {
            let bundle = (0..n % 4).map(|m| text(&format!("{n}.{m}"))).collect();
            append(&store, &ticket, &turn, bundle).await.expect("append");
        }
    })
    .await;
    let log = log(&store, &TurnId::new("t")).await;
    assert_eq!(log.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(), (1..=30).collect::<Vec<_>>());
    assert_eq!(store.check().await.expect("check"), Vec::<String>::new());
}

async fn a_successor_goes_on_where_the_lost_run_stopped(Scratch { store, .. }: Scratch) {
    let (turn, first) = turn_in_progress(&store, "t").await;
    append(&store, &first, &turn, vec![text("half an ans")]).await.expect("append");
    let second = claim_one(&store, &worker("two"), Time(2_000) + LEASE * 2).await.ticket;
    append(&store, &second, &turn, vec![text("whole"), text("answer")]).await.expect("append");
    let numbers: Vec<_> = log(&store, &turn).await.into_iter().map(|(seq, attempt, _)| (seq, attempt)).collect();
    assert_eq!(numbers, [(1, 1), (2, 2), (3, 2)]);
}

async fn who_lost_the_lease_appends_nothing(Scratch { store, .. }: Scratch) {
    let (turn, stale) = turn_in_progress(&store, "t").await;
    claim_one(&store, &worker("two"), Time(2_000) + LEASE * 2).await;
    assert!(is_fenced(&append(&store, &stale, &turn, vec![text("too late")]).await));
    assert!(log(&store, &turn).await.is_empty());
}

async fn a_log_is_read_from_where_one_stopped(Scratch { store, .. }: Scratch) {
    let (turn, ticket) = turn_in_progress(&store, "t").await;
    append(&store, &ticket, &turn, (0..10).map(|n| text(&n.to_string())).collect()).await.expect("append");
    let mut tx = read(&store).await;
    let numbers = |events: Vec<salon_core::Stamped>| events.into_iter().map(|event| event.seq).collect::<Vec<_>>();
    assert_eq!(numbers(tx.list_events(&turn, 4, 3).await.expect("list")), [5, 6, 7]);
    assert_eq!(numbers(tx.list_events(&turn, 8, 100).await.expect("list")), [9, 10]);
    assert!(tx.list_events(&turn, 10, 100).await.expect("list").is_empty());
    assert!(tx.list_events(&TurnId::new("none"), 0, 100).await.expect("list").is_empty());
}

async fn a_log_needs_its_turn(Scratch { store, .. }: Scratch) {
    let ticket = running(&store, "1").await;
    let outcome = append(&store, &ticket, &TurnId::new("none"), vec![text("lost")]).await;
    assert!(matches!(outcome, Err(salon_store::Error::Fault(_))), "{outcome:?}");
}
