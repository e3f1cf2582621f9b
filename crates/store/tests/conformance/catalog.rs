use salon_core::Time;
use salon_store::testing::Scratch;
use salon_store::{CATALOG, CatalogRows, Entry, PriceRow, Signal, Store, on_both_databases};

use crate::cast::*;

on_both_databases! {
    what_is_set_is_read_and_what_is_set_again_replaces_it
    every_change_raises_the_revision_and_nothing_else_does
    a_price_belongs_to_a_model_and_a_day
    a_change_that_is_taken_back_raises_nothing
    a_change_wakes_the_catalog
    what_two_change_at_once_counts_twice
}

fn entry(name: &str, body: &str) -> Entry {
    Entry { name: name.to_owned(), body: body.to_owned() }
}

fn price(model: &str, valid_from: &str, body: &str) -> PriceRow {
    PriceRow {
        provider: "openai".to_owned(),
        model: model.to_owned(),
        valid_from: valid_from.to_owned(),
        body: body.to_owned(),
    }
}

async fn rows(store: &Store) -> CatalogRows {
    store.read_catalog().await.expect("the catalog")
}

async fn set_upstream(store: &Store, name: &str, body: &str) {
    let done = transact!(store, entry(name, body), |tx, entry| tx.set_upstream(entry, Time(1)).await);
    done.expect("set");
}

async fn set_model(store: &Store, name: &str, body: &str) {
    let done = transact!(store, entry(name, body), |tx, entry| tx.set_model(entry, Time(1)).await);
    done.expect("set");
}

async fn set_price(store: &Store, row: PriceRow) {
    transact!(store, row, |tx, row| tx.set_price(row, Time(1)).await).expect("set");
}

async fn what_is_set_is_read_and_what_is_set_again_replaces_it(Scratch { store, .. }: Scratch) {
    for (name, body) in [("stork", "1"), ("parrot", "2"), ("a.b", "3"), ("a-b", "4"), ("stork", "5"), ("B", "\0")] {
        set_upstream(&store, name, body).await;
        set_model(&store, name, body).await;
    }
    let expected =
        [entry("B", "\u{fffd}"), entry("a-b", "4"), entry("a.b", "3"), entry("parrot", "2"), entry("stork", "5")];
    let read = rows(&store).await;
    assert_eq!((read.upstreams.as_slice(), read.models.as_slice()), (&expected[..], &expected[..]));
    let removed = transact!(store, (), |tx, _args| Ok((
        tx.remove_upstream("stork").await?,
        tx.remove_model("parrot").await?,
        tx.remove_model("heron").await?
    )));
    assert_eq!(removed.expect("remove"), (true, true, false));
    let read = rows(&store).await;
    assert_eq!(read.upstreams, expected[..4]);
    assert_eq!(read.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["B", "a-b", "a.b", "stork"]);
}

async fn every_change_raises_the_revision_and_nothing_else_does(Scratch { store, .. }: Scratch) {
    let begin = rows(&store).await.revision;
    set_upstream(&store, "a", "1").await;
    set_model(&store, "a", "1").await;
    set_price(&store, price("a", "2026-01-01", "1")).await;
    assert_eq!(rows(&store).await.revision, begin + 3);
    let nothing = transact!(store, (), |tx, _args| Ok((
        tx.remove_upstream("x").await?,
        tx.remove_model("x").await?,
        tx.remove_price("openai", "a", "2026-01-02").await?
    )));
    assert_eq!(nothing.expect("remove"), (false, false, false));
    assert_eq!(rows(&store).await.revision, begin + 3);
}

async fn a_price_belongs_to_a_model_and_a_day(Scratch { store, .. }: Scratch) {
    set_price(&store, price("b", "2026-01-01", "1")).await;
    set_price(&store, price("a", "2026-06-01", "2")).await;
    set_price(&store, price("a", "2026-01-01", "3")).await;
    set_price(&store, price("a", "2026-06-01", "4")).await;
    let expected = [price("a", "2026-01-01", "3"), price("a", "2026-06-01", "4"), price("b", "2026-01-01", "1")];
    assert_eq!(rows(&store).await.prices, expected);
    let removed = transact!(store, (), |tx, _args| tx.remove_price("openai", "a", "2026-01-01").await);
    assert!(removed.expect("remove"));
    assert_eq!(rows(&store).await.prices, expected[1..]);
}

async fn a_change_that_is_taken_back_raises_nothing(Scratch { store, .. }: Scratch) {
    let begin = rows(&store).await;
    let failed: salon_store::Result<()> = transact!(store, entry("a", "1"), |tx, entry| {
        tx.set_upstream(entry, Time(1)).await?;
        Err(salon_store::Error::Fenced)
    });
    assert!(is_fenced(&failed));
    assert_eq!(rows(&store).await, begin);
}

async fn a_change_wakes_the_catalog(Scratch { store, .. }: Scratch) {
    let (sender, mut heard) = tokio::sync::mpsc::channel(8);
    store.listen(move |signal| drop(sender.try_send(signal.clone())));
    set_model(&store, "a", "1").await;
    assert_eq!(heard.recv().await, Some(Signal::Work(CATALOG.to_owned())));
}

async fn what_two_change_at_once_counts_twice(Scratch { store, .. }: Scratch) {
    let begin = rows(&store).await.revision;
    let set = |name: &'static str| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                set_model(&store, name, "1").await;
            }
        })
    };
    let (one, other) = (set("a"), set("b"));
    one.await.expect("a task");
    other.await.expect("a task");
    assert_eq!(rows(&store).await.revision, begin + 40);
}
