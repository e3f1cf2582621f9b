//! Opening a store, and what happens to it when the world around it fails.

#[path = "opening/child.rs"]
mod child;
#[path = "opening/disk.rs"]
mod disk;
#[path = "opening/folder.rs"]
mod folder;
#[path = "opening/fsync.rs"]
mod fsync;
#[path = "opening/kill.rs"]
mod kill;
#[path = "opening/outage.rs"]
mod outage;
#[path = "opening/schema.rs"]
mod schema;
#[path = "opening/server.rs"]
mod server;

use salon_core::{JobId, Time};
use salon_store::{Enqueued, NewJob, Place, Result, Store};
use sqlx::{AnyConnection, Connection};

/// Enqueues a job with this number as its key.
async fn enqueue(store: &Store, n: usize) -> Result<Enqueued> {
    enqueue_with(store, n, "{}".to_owned()).await
}

async fn enqueue_with(store: &Store, n: usize, payload: String) -> Result<Enqueued> {
    let job = NewJob {
        id: JobId::new(format!("{n:06}")),
        key: Some(format!("key {n}")),
        queue: "chat",
        kind: "update",
        lane: format!("lane {}", n % 4),
        bot: None,
        payload,
        now: Time(1_000),
        room: None,
    };
    store.write(job, |tx, job| Box::pin(tx.enqueue(job))).await
}

async fn count(store: &Store) -> Result<usize> {
    let counts = store.read().await?.count_jobs().await?;
    Ok(counts.iter().map(|count| usize::try_from(count.count).expect("not negative")).sum())
}

/// A connection past the store, to do what the store never does.
async fn raw(place: &Place) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let url = match place {
        Place::Folder(folder) => format!("sqlite://{}", folder.join("salon.db").display()),
        Place::Postgres(url) => url.clone(),
    };
    AnyConnection::connect(&url).await.expect("a connection past the store")
}
