//! What is put down in front of the database.

use std::path::Path;

use salon::Clock;
use salon::ledger::{AttemptState, Book, BookSettings, NotReserved, Quote};
use salon_core::{CallId, Measure, Policy, Scope};
use salon_store::testing::Scratch;
use salon_store::{Store, on_both_databases};
use tempfile::TempDir;

use crate::cast::*;

on_both_databases! {
    a_call_that_is_put_down_waits_for_nothing
    what_a_dead_process_put_down_is_written_by_the_next
    what_was_let_through_counts_in_a_limit_that_came_too_late
    an_id_that_may_be_known_is_looked_up
    a_journal_that_cannot_be_read_is_told_at_once
}

/// A book that writes nothing by itself.
async fn open(store: &Store, journal: &Path) -> Book {
    let settings = BookSettings { journal: Some(journal.to_owned()), linger: HOUR, ..calm() };
    Book::open(store.clone(), Clock::wound_to(NOON), settings).await.expect("a book")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

async fn state(store: &Store, id: &str) -> Option<&'static str> {
    find_call(store, id).await.map(|call| call.state.as_str())
}

async fn a_call_that_is_put_down_waits_for_nothing(Scratch { store, .. }: Scratch) {
    let journal = folder();
    let book = open(&store, journal.path()).await;
    let mut whole = book.reserve(quote("1", alice(), 10)).await.expect("let through");
    assert!(whole.is_durable());
    whole.settle_durable(spent(7)).await.expect("granted");
    book.reserve(quote("2", alice(), 10)).await.expect("let through").settle(spent(5)).await;
    book.reserve(quote("3", alice(), 10)).await.expect("let through").release("it failed").await;
    let open = book.reserve(quote("4", alice(), 10)).await.expect("let through").keep();
    for id in ["1", "2", "3", "4"] {
        assert_eq!(state(&store, id).await, None, "{id}");
    }
    book.close().await;
    let states = [("1", "settled"), ("2", "settled"), ("3", "released"), ("4", "reserved")];
    for (id, expected) in states {
        assert_eq!(state(&store, id).await, Some(expected), "{id}");
    }
    let attempts = read(&store).await.list_attempts(&open).await.expect("attempts");
    assert_eq!((attempts.len(), attempts[0].state), (1, AttemptState::Started));
    let mut charged: Vec<i64> = entries(&store).await.iter().map(|entry| entry.amounts.micros).collect();
    charged.sort_unstable();
    assert_eq!(charged, [5, 7]);
    let left = std::fs::read_dir(journal.path()).expect("a folder").count();
    assert_eq!(left, 0, "nothing is left of a journal that was written");
}

async fn what_a_dead_process_put_down_is_written_by_the_next(Scratch { store, .. }: Scratch) {
    let journal = folder();
    let dead = open(&store, journal.path()).await;
    let mut whole = dead.reserve(quote("1", alice(), 10)).await.expect("let through");
    whole.settle_durable(spent(7)).await.expect("granted");
    // Its end was heard while its beginning was in the database.
    let known = dead.reserve(quote("2", alice(), 10)).await.expect("let through");
    dead.flush().await.expect("flush");
    known.settle(spent(5)).await;
    dead.reserve(quote("3", alice(), 10)).await.expect("let through").keep();
    assert_eq!([state(&store, "2").await, state(&store, "3").await], [Some("reserved"), None]);

    let book = open(&store, journal.path()).await;
    let states = [state(&store, "1").await, state(&store, "2").await, state(&store, "3").await];
    assert_eq!(states, [Some("settled"), Some("settled"), Some("reserved")]);
    assert_eq!(entries(&store).await.len(), 2);
    // The dead one was only slow: what it writes now is there already.
    dead.close().await;
    assert_eq!(entries(&store).await.len(), 2);
    book.settle(&CallId::new("3"), spent(1)).await;
    book.close().await;
    assert_eq!(entries(&store).await.len(), 3);
    assert_eq!(store.check().await.expect("check"), Vec::<String>::new());
}

async fn what_was_let_through_counts_in_a_limit_that_came_too_late(Scratch { store, .. }: Scratch) {
    let journal = folder();
    let book = open(&store, journal.path()).await;
    let mut early = book.reserve(quote("1", alice(), 30)).await.expect("let through");
    let open = book.reserve(quote("2", alice(), 30)).await.expect("let through");
    let args = (limit("mine", Scope::User, Measure::Micros, 10, Policy::Block), NOON);
    let write = store.write(args, |tx, (limit, now)| Box::pin(async move { tx.add_limit(limit, *now).await }));
    write.await.expect("added behind the book's back");
    early.settle_durable(spent(25)).await.expect("nobody can take it back");
    book.flush().await.expect("flush");
    assert_eq!(balance(&store, NOON).await, (30, 25));
    open.settle(spent(4)).await;
    book.flush().await.expect("flush");
    let account = &accounts(&store, NOON).await[0];
    assert_eq!((account.reserved, account.spent, account.cap, account.grace), (0, 29, Some(10), 19));
    assert_eq!(refused_by(reserve(&book, "3", 1).await), "mine");
    assert_eq!(book.check().await.expect("check"), []);
}

async fn an_id_that_may_be_known_is_looked_up(Scratch { store, .. }: Scratch) {
    let journal = folder();
    let book = open(&store, journal.path()).await;
    book.reserve(quote("1", alice(), 10)).await.expect("let through").settle(spent(7)).await;
    let again = Quote { fresh: false, ..quote("1", alice(), 10) };
    let mut again = book.reserve(again).await.expect("let through, not knowing better");
    assert!(!again.is_durable());
    assert_eq!(again.durable().await.cloned(), Err(NotReserved::Duplicate));
}

async fn a_journal_that_cannot_be_read_is_told_at_once(Scratch { store, .. }: Scratch) {
    let journal = folder();
    std::fs::write(journal.path().join("00000001.steps"), "no step\n").expect("a leaf");
    std::fs::create_dir(journal.path().join("00000002.steps")).expect("a folder in its place");
    let settings = BookSettings { journal: Some(journal.path().to_owned()), ..calm() };
    let opened = Book::open(store, Clock::wound_to(NOON), settings).await;
    let error = opened.err().expect("it says so at once").to_string();
    assert!(error.contains("journal"), "{error}");
}
