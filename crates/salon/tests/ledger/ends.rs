//! How calls end, and what is charged for them.

use salon::Clock;
use salon::ledger::{AttemptState, Book, BookSettings, Failed, NotReserved, Unknown};
use salon_core::{CallId, Limit, Measure, Period, Policy, Scope, Time};
use salon_store::ledger::EntryKind;
use salon_store::testing::{Scratch, end_connections};
use salon_store::{Place, Store, on_both_databases};

use crate::cast::*;

on_both_databases! {
    a_call_is_charged_once_however_often_it_is_settled
    a_whole_answer_is_settled_with_its_reservation
    a_whole_answer_that_was_refused_after_all_is_not_charged
    a_call_that_ends_at_once_is_written_once
    a_settlement_may_exceed_its_reservation_and_the_account_says_by_how_much
    a_late_settlement_goes_to_the_window_of_its_reservation
    a_call_that_nobody_came_back_for_is_given_up_after_its_deadline
    a_call_that_was_never_sent_is_released_after_its_deadline
    the_strict_books_the_upper_bound_and_gives_it_back
    a_settlement_after_the_reaper_still_counts_once
    a_released_call_takes_nothing
    a_dropped_reservation_is_given_back
    a_caller_who_went_away_leaves_nothing_reserved
    attempts_are_written_before_they_are_made
    an_account_that_disagrees_is_stopped_until_somebody_looks
    a_closed_book_has_written_everything
    a_book_without_a_database_refuses_and_forgets_nothing
    names_may_hold_anything
}

async fn under_a_limit(store: &Store) -> Book {
    let (book, _) = open(store).await;
    add(&book, limit("mine", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    book
}

async fn settled(book: &Book, call: &str, micros: i64) {
    book.settle(&CallId::new(call), spent(micros)).await;
    book.flush().await.expect("flush");
}

async fn a_call_is_charged_once_however_often_it_is_settled(Scratch { store, .. }: Scratch) {
    let book = under_a_limit(&store).await;
    reserve(&book, "1", 10).await.expect("reserved").keep();
    for micros in [7, 7, 9] {
        book.settle(&CallId::new("1"), spent(micros)).await;
    }
    book.flush().await.expect("flush");
    settled(&book, "1", 8).await;
    let entries = entries(&store).await;
    assert_eq!((entries.len(), entries[0].amounts.micros, entries[0].kind), (1, 7, EntryKind::Settle));
    assert_eq!((entries[0].upstream_model.as_str(), entries[0].amounts.tokens), ("parrot-1-0201", 5));
    assert_eq!(balance(&store, NOON).await, (0, 7));
    book.settle(&CallId::new("none"), spent(1)).await;
    book.flush().await.expect("flush");
    assert_eq!(balance(&store, NOON).await, (0, 7), "what was never reserved is nobody's");
}

async fn a_whole_answer_is_settled_with_its_reservation(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    let mut reserved = book.reserve(quote("1", alice(), 10)).await.expect("let through");
    assert!(!reserved.is_durable());
    reserved.settle_durable(spent(7)).await.expect("granted");
    // Nothing comes later: the call has ended when this is told.
    let call = call(&store, "1").await;
    assert_eq!((call.state.as_str(), call.ended_at), ("settled", Some(NOON)));
    let attempts = read(&store).await.list_attempts(&CallId::new("1")).await.expect("attempts");
    assert_eq!((attempts.len(), attempts[0].state, attempts[0].ended_at), (1, AttemptState::Ok, Some(NOON)));
    drop(reserved);
    settled(&book, "1", 8).await;
    assert_eq!(entries(&store).await.iter().map(|entry| entry.amounts.micros).collect::<Vec<_>>(), [7]);
    // An account that is opened later counts it.
    add(&book, limit("mine", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    let mut next = reserve(&book, "2", 20).await.expect("reserved");
    assert_eq!(balance(&store, NOON).await, (20, 7));
    next.settle_durable(spent(5)).await.expect("it is durable");
    book.flush().await.expect("flush");
    assert_eq!(balance(&store, NOON).await, (0, 12));
    assert_eq!(book.check().await.expect("check"), []);
}

async fn a_whole_answer_that_was_refused_after_all_is_not_charged(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    reserve(&book, "1", 10).await.expect("reserved").keep();
    // Somebody else's number: his call is not settled by it.
    let mut twice = book.reserve(quote("1", alice(), 10)).await.expect("let through");
    assert_eq!(twice.settle_durable(spent(7)).await, Err(NotReserved::Duplicate));
    book.flush().await.expect("flush");
    assert_eq!(call(&store, "1").await.state.as_str(), "reserved");
    // A limit that another process has added.
    let args = (limit("mine", Scope::User, Measure::Micros, 10, Policy::Block), NOON);
    let write = store.write(args, |tx, (limit, now)| Box::pin(async move { tx.add_limit(limit, *now).await }));
    write.await.expect("added behind the book's back");
    let mut refused = book.reserve(quote("2", alice(), 30)).await.expect("let through, not knowing better");
    let Err(NotReserved::Over(_)) = refused.settle_durable(spent(7)).await else { panic!("found out") };
    drop(refused);
    book.flush().await.expect("flush");
    assert_eq!(call(&store, "2").await.state.as_str(), "unknown");
    assert_eq!(entries(&store).await, []);
}

async fn a_call_that_ends_at_once_is_written_once(Scratch { store, .. }: Scratch) {
    let settings = BookSettings { linger: HOUR, ..calm() };
    let book = Book::open(store.clone(), Clock::wound_to(NOON), settings).await.expect("a book");
    let mut first = book.reserve(quote("1", alice(), 10)).await.expect("let through");
    let mut second = book.reserve(quote("2", alice(), 10)).await.expect("let through");
    first.settle_durable(spent(7)).await.expect("granted");
    assert_eq!(call(&store, "1").await.state.as_str(), "settled");
    assert!(find_call(&store, "2").await.is_none(), "it may still end before anything need be written");
    second.durable().await.expect("whoever passes something on waits for it");
    assert_eq!(call(&store, "2").await.state.as_str(), "reserved");
    let third = book.reserve(quote("3", alice(), 10)).await.expect("let through");
    book.flush().await.expect("flush");
    assert_eq!(call(&store, "3").await.state.as_str(), "reserved");
    drop((first, second.keep(), third.keep()));
}

async fn a_settlement_may_exceed_its_reservation_and_the_account_says_by_how_much(Scratch { store, .. }: Scratch) {
    let book = under_a_limit(&store).await;
    reserve(&book, "1", 95).await.expect("reserved").settle(spent(103)).await;
    book.flush().await.expect("flush");
    let account = &accounts(&store, NOON).await[0];
    assert_eq!((account.cap, account.spent, account.grace), (Some(100), 103, 3));
    assert_eq!(refused_by(reserve(&book, "2", 0).await), "mine");
    assert_eq!(book.check().await.expect("check"), []);
}

async fn a_late_settlement_goes_to_the_window_of_its_reservation(Scratch { store, .. }: Scratch) {
    let (book, clock) = open(&store).await;
    add(&book, Limit { period: Period::Day, ..limit("day", Scope::User, Measure::Micros, 10, Policy::Block) }).await;
    let late = reserve(&book, "1", 10).await.expect("reserved");
    clock.wind(DAY);
    let now = clock.now();
    let today = reserve(&book, "2", 10).await.expect("a new day");
    late.settle(spent(8)).await;
    book.flush().await.expect("flush");
    assert_eq!(balance(&store, NOON).await, (0, 8));
    assert_eq!(balance(&store, now).await, (10, 0));
    let entry = &entries(&store).await[0];
    assert_eq!((entry.at, entry.settled_at), (NOON, now));
    today.keep();
}

async fn overdue(book: &Book, call: &str, sent: bool) {
    let mut quote = quote(call, alice(), 10);
    quote.deadline = NOON + HOUR;
    if !sent {
        quote.first = None;
    }
    book.reserve(quote).await.expect("reserved").keep();
}

async fn a_call_that_nobody_came_back_for_is_given_up_after_its_deadline(Scratch { store, .. }: Scratch) {
    let (book, clock) = open(&store).await;
    add(&book, limit("mine", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    overdue(&book, "1", true).await;
    clock.wind(HOUR);
    assert_eq!(book.reap().await.expect("reap"), 0, "there is time until it has passed");
    clock.wind(HOUR);
    assert_eq!(book.reap().await.expect("reap"), 1);
    assert_eq!(book.reap().await.expect("reap"), 0);
    assert_eq!(call(&store, "1").await.state.as_str(), "unknown");
    let attempts = read(&store).await.list_attempts(&CallId::new("1")).await.expect("attempts");
    assert_eq!(attempts[0].state, AttemptState::Unknown);
    assert_eq!(balance(&store, NOON).await, (0, 0));
    let extra = read(&store).await.possible_extra(&birds(), (Time(0), clock.now()), None).await.expect("extra");
    assert_eq!(extra, (1, 10), "and the report names it");
    for (model, expected) in [("parrot-1", (1, 10)), ("heron-2", (0, 0))] {
        let whole = (Time(0), clock.now());
        let extra = read(&store).await.possible_extra(&birds(), whole, Some(model)).await.expect("extra");
        assert_eq!(extra, expected, "a report on {model}");
    }
}

async fn a_call_that_was_never_sent_is_released_after_its_deadline(Scratch { store, .. }: Scratch) {
    let (book, clock) = open(&store).await;
    add(&book, limit("mine", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    overdue(&book, "1", false).await;
    clock.wind(HOUR * 2);
    assert_eq!(book.reap().await.expect("reap"), 1);
    assert_eq!(call(&store, "1").await.state.as_str(), "released");
    assert_eq!(balance(&store, NOON).await, (0, 0));
    let extra = read(&store).await.possible_extra(&birds(), (Time(0), clock.now()), None).await.expect("extra");
    assert_eq!(extra, (0, 0));
}

async fn the_strict_books_the_upper_bound_and_gives_it_back(Scratch { store, .. }: Scratch) {
    let clock = salon::Clock::wound_to(NOON);
    let strict = BookSettings { unknown: Unknown::UpperBound, ..calm() };
    let book = Book::open(store.clone(), clock.clone(), strict).await.expect("a book");
    add(&book, limit("mine", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    overdue(&book, "1", true).await;
    clock.wind(HOUR * 2);
    assert_eq!(book.reap().await.expect("reap"), 1);
    assert_eq!(balance(&store, NOON).await, (0, 10));
    assert_eq!(entries(&store).await[0].kind, EntryKind::Adjust);
    let extra = read(&store).await.possible_extra(&birds(), (Time(0), clock.now()), None).await.expect("extra");
    assert_eq!(extra, (0, 0), "what is booked is no extra");
    for _ in 0..2 {
        settled(&book, "1", 4).await;
    }
    assert_eq!(balance(&store, NOON).await, (0, 4));
    let sum: i64 = entries(&store).await.iter().map(|entry| entry.amounts.micros).sum();
    let requests: i64 = entries(&store).await.iter().map(|entry| entry.amounts.requests).sum();
    assert_eq!((entries(&store).await.len(), sum, requests), (3, 4, 1));
    let of_call = read(&store).await.list_entries_of_call(&CallId::new("1")).await.expect("entries");
    assert_eq!(of_call.len(), 3);
    assert_eq!(book.check().await.expect("check"), []);
}

async fn a_settlement_after_the_reaper_still_counts_once(Scratch { store, .. }: Scratch) {
    let (book, clock) = open(&store).await;
    add(&book, limit("mine", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    overdue(&book, "1", true).await;
    overdue(&book, "2", false).await;
    clock.wind(HOUR * 2);
    assert_eq!(book.reap().await.expect("reap"), 2);
    for call in ["1", "2", "1", "2"] {
        settled(&book, call, 6).await;
    }
    assert_eq!(balance(&store, NOON).await, (0, 12));
    assert_eq!(entries(&store).await.len(), 2);
    let attempts = read(&store).await.list_attempts(&CallId::new("1")).await.expect("attempts");
    assert_eq!(attempts[0].state, AttemptState::Ok, "it is known after all");
}

async fn a_released_call_takes_nothing(Scratch { store, .. }: Scratch) {
    let book = under_a_limit(&store).await;
    reserve(&book, "1", 10).await.expect("reserved").release("nobody answered").await;
    book.flush().await.expect("flush");
    assert_eq!(balance(&store, NOON).await, (0, 0));
    let attempts = read(&store).await.list_attempts(&CallId::new("1")).await.expect("attempts");
    assert_eq!(attempts[0].state, AttemptState::Failed);
    assert_eq!(reserve(&book, "1", 10).await.expect_err("ids are used once"), NotReserved::Duplicate);
    assert_eq!(entries(&store).await, []);
}

async fn a_dropped_reservation_is_given_back(Scratch { store, .. }: Scratch) {
    let book = under_a_limit(&store).await;
    drop(reserve(&book, "1", 10).await.expect("reserved"));
    let mut unsent = quote("2", alice(), 10);
    unsent.first = None;
    drop(book.reserve(unsent).await.expect("reserved"));
    book.flush().await.expect("flush");
    assert_eq!(call(&store, "1").await.state.as_str(), "unknown", "it may have been sent");
    assert_eq!(call(&store, "2").await.state.as_str(), "released");
    assert_eq!(balance(&store, NOON).await, (0, 0));
}

async fn a_caller_who_went_away_leaves_nothing_reserved(Scratch { store, .. }: Scratch) {
    let book = under_a_limit(&store).await;
    for n in 0..20 {
        let quote = quote(&n.to_string(), alice(), 100);
        let mut waiting = Box::pin(book.reserve(quote));
        // Far enough to be in line, not far enough to be told.
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::future::Future::poll(waiting.as_mut(), context).is_ready())
        })
        .await;
    }
    book.flush().await.expect("flush");
    // What was told to nobody is given back behind that.
    book.flush().await.expect("flush");
    assert_eq!(balance(&store, NOON).await, (0, 0));
    reserve(&book, "next", 100).await.expect("there is room").keep();
}

async fn attempts_are_written_before_they_are_made(Scratch { store, .. }: Scratch) {
    let book = under_a_limit(&store).await;
    let reserved = reserve(&book, "1", 10).await.expect("reserved");
    for (n, unknown) in [(1, false), (2, true)] {
        let failed = Failed { n, unknown, note: "529".to_owned() };
        reserved.attempt(Some(failed), attempt(n + 1)).await.expect("written");
    }
    let states = async || {
        let attempts = read(&store).await.list_attempts(&CallId::new("1")).await.expect("attempts");
        attempts.iter().map(|row| (row.attempt.n, row.state.as_str())).collect::<Vec<_>>()
    };
    assert_eq!(states().await, [(1, "failed"), (2, "unknown"), (3, "started")]);
    let mut spent = spent(5);
    spent.attempt = Some(3);
    reserved.settle(spent).await;
    book.flush().await.expect("flush");
    assert_eq!(states().await, [(1, "failed"), (2, "unknown"), (3, "ok")]);
}

async fn an_account_that_disagrees_is_stopped_until_somebody_looks(Scratch { store, .. }: Scratch) {
    let (book, clock) = open(&store).await;
    add(&book, limit("mine", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    reserve(&book, "1", 10).await.expect("reserved").settle(spent(10)).await;
    book.flush().await.expect("flush");
    let account = accounts(&store, NOON).await.remove(0);
    let tampered = salon_store::ledger::Account { spent: 3, ..account.clone() };
    store
        .write(tampered, |tx, account| Box::pin(async move { tx.write_accounts(&[account]).await }))
        .await
        .expect("somebody meddles");
    assert_eq!(book.check().await.expect("check"), [], "not yet due");
    clock.wind(DAY * 2);
    let found = book.check().await.expect("check");
    assert_eq!((found.len(), found[0].spent, found[0].spent_by_entries), (1, 3, 10));
    let refused = reserve(&book, "2", 1).await.expect_err("stopped");
    assert_eq!(refused, NotReserved::Stopped { account: account.id.clone() });
    assert!(!book.resume(&salon_core::OrgId::new("fish"), &account.id).await.expect("resume"));
    assert!(book.resume(&birds(), &account.id).await.expect("resume"));
    assert_eq!(balance(&store, NOON).await, (0, 10));
    reserve(&book, "3", 1).await.expect("reserved").keep();
}

async fn a_closed_book_has_written_everything(Scratch { store, .. }: Scratch) {
    let book = under_a_limit(&store).await;
    for n in 0..300 {
        reserve(&book, &n.to_string(), 0).await.expect("reserved").settle(spent(0)).await;
    }
    let other = book.clone();
    let (a, b) = tokio::join!(book.close(), other.close());
    assert_eq!((a, b), ((), ()));
    assert_eq!(entries(&store).await.len(), 300);
    let refused = reserve(&book, "late", 0).await.expect_err("closed");
    assert!(matches!(refused, NotReserved::Unavailable(_)), "{refused:?}");
}

/// PostgreSQL loses its connections; SQLite's file is closed for good.
async fn a_book_without_a_database_refuses_and_forgets_nothing(Scratch { store, place, .. }: Scratch) {
    let book = under_a_limit(&store).await;
    match place {
        Place::Postgres(url) => {
            for n in 0..30 {
                let call = format!("call {n}");
                reserve(&book, &call, 1).await.expect("reserved").keep();
                end_connections(&url).await;
                book.settle(&CallId::new(call), spent(1)).await;
            }
            book.flush().await.expect("flush");
            assert_eq!(entries(&store).await.len(), 30);
            assert_eq!(balance(&store, NOON).await, (0, 30));
            assert_eq!(book.check().await.expect("check"), []);
        }
        Place::Folder(_) => {
            store.close().await;
            let refused = reserve(&book, "1", 1).await.expect_err("refused");
            assert!(matches!(refused, NotReserved::Unavailable(_)), "{refused:?}");
        }
    }
}

async fn names_may_hold_anything(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, limit("chat", Scope::Chat, Measure::Micros, 100, Policy::Block)).await;
    let mut payer = alice();
    payer.chat = Some("'; DROP TABLE calls; --\"\u{0}\\/ё".to_owned());
    let mut quote = quote("1", payer, 10);
    quote.model = "\"},{\u{0}".to_owned();
    book.reserve(quote).await.expect("reserved").settle(spent(4)).await;
    book.flush().await.expect("flush");
    let entry = entries(&store).await.remove(0);
    assert_eq!(entry.model, "\"},{\u{fffd}");
    assert_eq!(book.check().await.expect("check"), []);
    let accounts = read(&store).await.list_open_accounts(&birds(), NOON, 10).await.expect("accounts");
    assert_eq!((accounts.len(), accounts[0].spent, accounts[0].reserved), (1, 4, 0));
}
