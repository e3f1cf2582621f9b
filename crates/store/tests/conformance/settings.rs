use salon_store::on_both_databases;
use salon_store::testing::Scratch;

use crate::cast::*;

on_both_databases! {
    a_setting_is_set_once
    of_two_that_set_at_once_one_wins
}

async fn a_setting_is_set_once(Scratch { store, .. }: Scratch) {
    assert_eq!(read(&store).await.find_setting("colour").await.expect("find"), None);
    for (value, expected) in [("green", true), ("blue", false)] {
        let added = transact!(store, value, |tx, value| tx.add_setting("colour", value).await);
        assert_eq!(added.expect("add"), expected);
    }
    assert_eq!(read(&store).await.find_setting("colour").await.expect("find").as_deref(), Some("green"));
}

async fn of_two_that_set_at_once_one_wins(Scratch { store, .. }: Scratch) {
    let set = |value: &'static str| {
        let store = store.clone();
        tokio::spawn(
            async move { transact!(store, value, |tx, value| tx.add_setting("colour", value).await).expect("add") },
        )
    };
    let (green, blue) = (set("green"), set("blue"));
    let (green, blue) = (green.await.expect("a task"), blue.await.expect("a task"));
    assert!(green ^ blue, "green {green}, blue {blue}");
}
