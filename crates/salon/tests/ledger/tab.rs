//! A turn's calls are charged by the transaction that ends the turn, or by nobody.

use anyhow::anyhow;
use salon::ledger::{AttemptState, Book, Charges, Tab};
use salon_core::{CallId, Measure, Policy, Scope};
use salon_store::testing::Scratch;
use salon_store::{Store, on_both_databases};

use crate::cast::*;

on_both_databases! {
    what_is_on_the_tab_is_charged_by_the_transaction_that_takes_it
    without_the_transaction_nobody_knows_the_calls_ends
    without_the_turns_end_nobody_knows_the_calls_ends
    what_ends_after_the_tab_was_closed_is_charged_by_itself
    what_is_released_was_never_on_the_tab
}

/// A call on the tab that may take ten, and took so many.
async fn ended_on(tab: &Tab, book: &Book, call: &str, micros: i64) {
    let reserved = book.reserve(quote(call, alice(), 10)).await.expect("reserved");
    reserved.charged_to(tab).settle(spent(micros)).await;
}

async fn end_turn(store: &Store, charges: &Charges, goes_well: bool) -> Result<(), salon_store::Error> {
    let args = (charges.posting(), goes_well);
    let write = store.write(args, |tx, (charges, goes_well)| {
        Box::pin(async move {
            charges.write(tx).await?;
            if *goes_well { Ok(()) } else { Err(anyhow!("the turn is somebody else's by now").into()) }
        })
    });
    write.await
}

async fn a_limit(store: &Store) -> Book {
    let (book, _) = open(store).await;
    add(&book, limit("mine", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    book
}

async fn what_is_on_the_tab_is_charged_by_the_transaction_that_takes_it(Scratch { store, .. }: Scratch) {
    // Without a limit the reservation may be on its way when the turn ends already.
    for limited in [false, true] {
        let (book, _) = open(&store).await;
        if limited {
            add(&book, limit("mine", Scope::User, Measure::Micros, 100, Policy::Block)).await;
        }
        let (before, names) = (entries(&store).await.len(), [format!("a {limited}"), format!("b {limited}")]);
        let tab = Tab::default();
        for name in &names {
            ended_on(&tab, &book, name, 7).await;
        }
        book.flush().await.expect("flush");
        assert_eq!(entries(&store).await.len(), before, "a reply that nobody has read is not charged");
        let charges = tab.close().await;
        end_turn(&store, &charges, true).await.expect("the turn ends");
        charges.written();
        assert_eq!(entries(&store).await.len(), before + 2);
        for name in &names {
            assert_eq!(call(&store, name).await.state.as_str(), "settled");
            let attempts = read(&store).await.list_attempts(&CallId::new(name.as_str())).await.expect("attempts");
            assert_eq!((attempts.len(), attempts[0].state), (1, AttemptState::Ok));
        }
        book.close().await;
    }
    // The account was opened when two calls had been charged.
    assert_eq!(balance(&store, NOON).await, (0, 28));
}

async fn without_the_transaction_nobody_knows_the_calls_ends(Scratch { store, .. }: Scratch) {
    let book = a_limit(&store).await;
    let tab = Tab::default();
    ended_on(&tab, &book, "1", 7).await;
    let charges = tab.close().await;
    end_turn(&store, &charges, false).await.expect_err("the turn is lost");
    assert_eq!((entries(&store).await.len(), balance(&store, NOON).await), (0, (10, 0)), "all of it is taken back");
    drop(charges);
    book.flush().await.expect("flush");
    assert_eq!((call(&store, "1").await.state.as_str(), balance(&store, NOON).await), ("unknown", (0, 0)));
    assert!(entries(&store).await.is_empty());
}

async fn without_the_turns_end_nobody_knows_the_calls_ends(Scratch { store, .. }: Scratch) {
    let book = a_limit(&store).await;
    let tab = Tab::default();
    ended_on(&tab, &book, "1", 7).await;
    drop(tab);
    book.flush().await.expect("flush");
    assert_eq!((call(&store, "1").await.state.as_str(), balance(&store, NOON).await), ("unknown", (0, 0)));
    assert!(entries(&store).await.is_empty());
}

async fn what_ends_after_the_tab_was_closed_is_charged_by_itself(Scratch { store, .. }: Scratch) {
    let book = a_limit(&store).await;
    let tab = Tab::default();
    let reserved = book.reserve(quote("1", alice(), 10)).await.expect("reserved").charged_to(&tab);
    let charges = tab.close().await;
    end_turn(&store, &charges, true).await.expect("nothing to charge");
    charges.written();
    reserved.settle(spent(7)).await;
    book.flush().await.expect("flush");
    assert_eq!((call(&store, "1").await.state.as_str(), balance(&store, NOON).await), ("settled", (0, 7)));
}

async fn what_is_released_was_never_on_the_tab(Scratch { store, .. }: Scratch) {
    let book = a_limit(&store).await;
    let tab = Tab::default();
    book.reserve(quote("1", alice(), 10)).await.expect("reserved").charged_to(&tab).release("it failed").await;
    book.flush().await.expect("flush");
    let charges = tab.close().await;
    end_turn(&store, &charges, true).await.expect("nothing to charge");
    charges.written();
    assert_eq!((call(&store, "1").await.state.as_str(), balance(&store, NOON).await), ("released", (0, 0)));
}
