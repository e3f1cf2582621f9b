//! Many at once, in one process and in two.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use salon::ledger::{Book, NotReserved};
use salon_core::{CallId, Limit, LimitId, Measure, Period, Policy, Scope};
use salon_store::testing::{Scratch, drop_database};
use salon_store::{Store, Terms, on_both_databases};
use tokio::task::JoinHandle;

use crate::cast::*;

on_both_databases! {
    a_thousand_at_once_over_a_cap_of_ten_are_ten
}

/// Looks at the accounts all the time, until told to stop; answers how often it looked.
fn sampler(store: &Store) -> (Arc<AtomicBool>, JoinHandle<usize>) {
    let (store, stop) = (store.clone(), Arc::new(AtomicBool::new(false)));
    let told = stop.clone();
    let task = tokio::spawn(async move {
        let mut looks = 0;
        while !told.load(Ordering::SeqCst) {
            for account in accounts(&store, NOON).await {
                let cap = account.cap.expect("a cap");
                assert!(account.reserved + account.spent <= cap, "{account:?}");
                assert_eq!(account.grace, 0, "{account:?}");
            }
            looks += 1;
            tokio::task::yield_now().await;
        }
        looks
    });
    (stop, task)
}

/// Makes `count` calls at once, and settles those that were let through; answers how many those were.
async fn rush(books: &[Book], name: &str, count: usize) -> usize {
    let calls: Vec<JoinHandle<bool>> = (0..count)
        .map(|n| {
            let (book, call) = (books[n % books.len()].clone(), format!("{name} {n}"));
            tokio::spawn(async move {
                match book.reserve(quote(&call, alice(), 1)).await {
                    Ok(reserved) => {
                        assert!(reserved.is_durable());
                        reserved.settle(spent(1)).await;
                        true
                    }
                    Err(NotReserved::Over(_)) => false,
                    Err(other) => panic!("{other:?}"),
                }
            })
        })
        .collect();
    let mut passed = 0;
    for call in calls {
        passed += usize::from(call.await.expect("no call panics"));
    }
    for book in books {
        book.flush().await.expect("flush");
    }
    passed
}

async fn a_thousand_at_once_over_a_cap_of_ten_are_ten(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, limit("ten", Scope::User, Measure::Requests, 10, Policy::Block)).await;
    add(&book, limit("money", Scope::Org, Measure::Micros, 1_000, Policy::Hard)).await;
    rush_and_look(&store, &[book]).await;
}

/// Two processes that know of each other only through the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_two_processes_are_ten() {
    let Scratch { store, place, .. } = Scratch::postgres().await;
    let other = Store::open(&place, "other").await.expect("a second process");
    let (book, _) = open(&store).await;
    add(&book, limit("ten", Scope::User, Measure::Requests, 10, Policy::Block)).await;
    add(&book, limit("money", Scope::Org, Measure::Micros, 1_000, Policy::Hard)).await;
    let (second, _) = open(&other).await;
    rush_and_look(&store, &[book, second]).await;
    other.close().await;
    drop_database(&place).await;
}

async fn rush_and_look(store: &Store, books: &[Book]) {
    let (stop, looking) = sampler(store);
    assert_eq!(rush(books, "first", 1_000).await, 10);
    assert_eq!(rush(books, "second", 1_000).await, 0);
    stop.store(true, Ordering::SeqCst);
    assert!(looking.await.expect("the sampler saw nothing wrong") > 0);
    assert_eq!(entries(store).await.len(), 10);
    let spent: Vec<(i64, i64)> = accounts(store, NOON).await.iter().map(|a| (a.reserved, a.spent)).collect();
    assert_eq!(spent, [(0, 10), (0, 10)]);
    assert_eq!(books[0].check().await.expect("check"), []);
}

/// Limits come, go and change while everybody calls; whoever opens accounts and whoever settles must not miss each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_agree_while_limits_change() {
    let Scratch { store, place, .. } = Scratch::postgres().await;
    let other = Store::open(&place, "other").await.expect("a second process");
    let books = [open(&store).await.0, open(&other).await.0];
    let people = ["alice", "bob", "carol", "dave"];
    let callers: Vec<JoinHandle<i64>> = (0..8)
        .map(|caller: usize| {
            let book = books[caller % 2].clone();
            tokio::spawn(async move {
                let mut spent_here = 0;
                for n in 0..60 {
                    let payer = payer(people[(caller + n) % people.len()]);
                    let call = format!("call {caller} {n}");
                    let Ok(mut reserved) = book.reserve(quote(&call, payer, 3)).await else { continue };
                    // A limit that the other process added a moment ago may have no room; what was passed is settled
                    // all the same here, as if it had been too late.
                    if reserved.durable().await.is_err() {
                        book.settle(&CallId::new(call), spent(2)).await;
                        continue;
                    }
                    spent_here += 2;
                    reserved.settle(spent(2)).await;
                }
                spent_here
            })
        })
        .collect();
    for n in 0..20_i64 {
        let book = &books[n as usize % 2];
        let id = format!("limit {n}");
        let scope = [Scope::User, Scope::Org, Scope::Key][n as usize % 3];
        let new = limit(&id, scope, Measure::Micros, 200 + n, Policy::Block);
        add(book, Limit { period: [Period::Day, Period::Month, Period::Total][n as usize % 3], ..new }).await;
        let terms = Terms { amount: 400, policy: Policy::Warn, thresholds: Vec::new() };
        assert!(book.change_limit(&birds(), &LimitId::new(id), terms, &pen("boss").await).await.expect("change"));
    }
    let mut sum = 0;
    for caller in callers {
        sum += caller.await.expect("no caller panics");
    }
    for book in &books {
        book.flush().await.expect("flush");
    }
    let entries = entries(&store).await;
    let booked: i64 = entries.iter().map(|entry| entry.amounts.micros).sum();
    assert!(booked >= sum, "{booked} of {sum}");
    // Every account that came to be on the way agrees with the entries.
    let clock = salon::Clock::wound_to(NOON + DAY * 2);
    let judge = Book::open(store.clone(), clock, calm()).await.expect("a book");
    assert!(!read(&store).await.list_open_accounts(&birds(), NOON, 100).await.expect("accounts").is_empty());
    assert_eq!(judge.check().await.expect("check"), []);
    other.close().await;
    drop_database(&place).await;
}
