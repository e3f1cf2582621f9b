//! Every method of the store, on both databases.

use salon_core::{JobId, Time};
use salon_store::testing::Scratch;
use salon_store::{Enqueued, NewJob, on_both_databases};

on_both_databases! {
    a_key_is_enqueued_once
}

fn job(id: &str, key: &str, lane: &str) -> NewJob {
    NewJob {
        id: JobId::new(id),
        key: Some(key.to_owned()),
        queue: "chat",
        kind: "update",
        lane: lane.to_owned(),
        bot: None,
        payload: "{}".to_owned(),
        now: Time(1_000),
        room: None,
    }
}

async fn a_key_is_enqueued_once(scratch: Scratch) {
    for (id, expected) in [("1", Enqueued::New), ("2", Enqueued::Duplicate)] {
        let outcome = scratch.store.write(job(id, "update:parrot:7", "chat:parrot:1"), |tx, job| {
            Box::pin(async move { tx.enqueue(job).await })
        });
        assert_eq!(outcome.await.expect("enqueue"), expected);
    }
}
