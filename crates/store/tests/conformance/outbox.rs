use salon_core::{ChatId, Time};
use salon_store::testing::Scratch;
use salon_store::{Part, PartState, Result, Store, Ticket, on_both_databases};

use crate::cast::*;

on_both_databases! {
    parts_are_placed_and_listed_in_order
    a_part_that_lost_its_message_gets_a_new_one
    what_is_shown_is_remembered_until_it_is_placed_anew
    closing_ends_only_what_is_open
    an_orphan_is_recorded_once_for_each_lease
    who_lost_the_lease_places_nothing
}

fn part(part: i64, message: Option<i64>) -> Part {
    Part { owner: "turn-1".to_owned(), part, bot: parrot(), chat: ALICE, message }
}

async fn place(store: &Store, ticket: &Ticket, part: Part) -> Result<()> {
    transact!(store, (ticket.clone(), part), |tx, (ticket, part)| {
        let held = tx.hold(ticket, Time(1_000) + LEASE).await?;
        tx.place_part(&held, part, Time(1_000)).await
    })
}

async fn close(store: &Store, ticket: &Ticket, state: PartState, note: Option<&'static str>) {
    transact!(store, (ticket.clone(), state, note), |tx, (ticket, state, note)| {
        let held = tx.hold(ticket, Time(1_000) + LEASE).await?;
        tx.close_parts(&held, "turn-1", *state, *note, Time(1_000)).await
    })
    .expect("close");
}

async fn orphan(store: &Store, ticket: &Ticket, part: Part) {
    transact!(store, (ticket.clone(), part), |tx, (ticket, part)| {
        let held = tx.hold(ticket, Time(90_000) + LEASE).await?;
        tx.add_orphan(&held, part, "no answer\0", Time(1_000)).await
    })
    .expect("orphan");
}

async fn counts(store: &Store) -> Vec<(String, i64)> {
    read(store).await.count_parts().await.expect("count")
}

async fn parts_are_placed_and_listed_in_order(Scratch { store, .. }: Scratch) {
    let ticket = running(&store, "deliver").await;
    for placed in [part(1, None), part(0, Some(10)), part(2, Some(i64::MAX))] {
        place(&store, &ticket, placed).await.expect("place");
    }
    place(&store, &ticket, Part { owner: "turn-2".to_owned(), ..part(0, Some(9)) }).await.expect("place");
    let parts = read(&store).await.list_parts("turn-1").await.expect("list");
    assert_eq!(parts, [part(0, Some(10)), part(1, None), part(2, Some(i64::MAX))]);
    assert!(read(&store).await.list_parts("turn-3").await.expect("list").is_empty());
    assert_eq!(counts(&store).await, [("open".to_owned(), 4)]);
}

async fn a_part_that_lost_its_message_gets_a_new_one(Scratch { store, .. }: Scratch) {
    let ticket = running(&store, "deliver").await;
    place(&store, &ticket, part(0, Some(10))).await.expect("place");
    close(&store, &ticket, PartState::Shown, None).await;
    place(&store, &ticket, part(0, Some(11))).await.expect("place");
    assert_eq!(read(&store).await.list_parts("turn-1").await.expect("list"), [part(0, Some(11))]);
    assert_eq!(counts(&store).await, [("open".to_owned(), 1)]);
}

async fn what_is_shown_is_remembered_until_it_is_placed_anew(Scratch { store, .. }: Scratch) {
    let ticket = running(&store, "deliver").await;
    for number in 0..3 {
        place(&store, &ticket, part(number, Some(10 + number))).await.expect("place");
    }
    let mark = async |ticket: &Ticket| {
        transact!(store, ticket.clone(), |tx, ticket| {
            let held = tx.hold(ticket, Time(1_000) + LEASE).await?;
            tx.mark_shown(&held, "turn-1", &[0, 2], Time(1_000)).await
        })
    };
    let shown = async || read(&store).await.list_shown("turn-1").await.expect("list");
    assert!(shown().await.is_empty());
    mark(&ticket).await.expect("mark");
    assert_eq!(shown().await, [0, 2]);
    assert_eq!(counts(&store).await, [("open".to_owned(), 1), ("shown".to_owned(), 2)]);
    // Its message was deleted, or its chat moved: it must be said again, wherever it stands now.
    let moved = Part { chat: ChatId(-100), ..part(2, Some(1)) };
    place(&store, &ticket, moved.clone()).await.expect("place");
    assert_eq!(shown().await, [0]);
    assert_eq!(read(&store).await.list_parts("turn-1").await.expect("list")[2], moved);
    close(&store, &ticket, PartState::Dropped, None).await;
    assert_eq!(shown().await, [0], "what is shown stays so");
    claim_one(&store, &worker("two"), Time(60_000)).await;
    assert!(is_fenced(&mark(&ticket).await));
}

async fn closing_ends_only_what_is_open(Scratch { store, .. }: Scratch) {
    let ticket = running(&store, "deliver").await;
    place(&store, &ticket, part(0, Some(10))).await.expect("place");
    place(&store, &ticket, Part { owner: "turn-2".to_owned(), ..part(0, Some(9)) }).await.expect("place");
    close(&store, &ticket, PartState::Shown, None).await;
    place(&store, &ticket, part(1, Some(11))).await.expect("place");
    close(&store, &ticket, PartState::Dropped, Some("the chat is gone\0")).await;
    let count = |state: &str| (state.to_owned(), 1);
    assert_eq!(counts(&store).await, [count("dropped"), count("open"), count("shown")]);
}

async fn an_orphan_is_recorded_once_for_each_lease(Scratch { store, .. }: Scratch) {
    let first = running(&store, "deliver").await;
    for _ in 0..2 {
        orphan(&store, &first, part(0, None)).await;
    }
    let second = claim_one(&store, &worker("two"), Time(200_000)).await.ticket;
    orphan(&store, &second, part(0, None)).await;
    assert_eq!(counts(&store).await, [("orphan".to_owned(), 2)]);
    // An orphan is nothing that one could edit.
    assert!(read(&store).await.list_parts("turn-1").await.expect("list").is_empty());
}

async fn who_lost_the_lease_places_nothing(Scratch { store, .. }: Scratch) {
    let stale = running(&store, "deliver").await;
    claim_one(&store, &worker("two"), Time(60_000)).await;
    assert!(is_fenced(&place(&store, &stale, part(0, Some(10))).await));
    assert!(counts(&store).await.is_empty());
}
