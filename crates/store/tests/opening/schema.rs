use std::fs;

use salon_store::testing::Scratch;
use salon_store::{Error, Place, Store, on_both_databases};
use sqlx::{Connection, Executor};

use crate::{count, enqueue, raw};

on_both_databases! {
    an_open_database_opens_again_as_it_was
    a_newer_schema_is_refused_and_left_alone
    a_half_done_migration_is_named
    a_migration_that_is_not_ours_is_named
}

async fn an_open_database_opens_again_as_it_was(Scratch { store, place, folder }: Scratch) {
    enqueue(&store, 1).await.expect("enqueue");
    let version = store.schema_version().await.expect("a version");
    store.close().await;
    let again = Store::open(&place, "test").await.expect("open");
    assert_eq!(again.schema_version().await.expect("a version"), version);
    assert_eq!(count(&again).await.expect("count"), 1);
    drop(folder);
}

/// The bytes of the database's one file; nothing on PostgreSQL.
fn bytes(place: &Place) -> Option<Vec<u8>> {
    match place {
        Place::Folder(folder) => Some(fs::read(folder.join("salon.db")).expect("the file")),
        Place::Postgres(_) => None,
    }
}

async fn tamper(place: &Place, sql: &'static str) {
    let mut raw = raw(place).await;
    raw.execute(sql).await.expect("tampering");
    raw.close().await.expect("close");
}

async fn a_newer_schema_is_refused_and_left_alone(Scratch { store, place, folder }: Scratch) {
    enqueue(&store, 1).await.expect("enqueue");
    let known = store.schema_version().await.expect("a version");
    store.close().await;
    tamper(
        &place,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT 9000 + version, 'from the future', success, checksum, 1 FROM _sqlx_migrations WHERE version = 1 \
         UNION ALL SELECT 9001 + version, 'and more', success, checksum, 1 FROM _sqlx_migrations WHERE version = 1",
    )
    .await;
    let before = bytes(&place);
    let refused = Store::open(&place, "test").await.err().expect("refused");
    assert!(matches!(refused, Error::NewerSchema { found: 9002, known: ours } if ours == known), "{refused:?}");
    assert_eq!(refused.to_string().lines().count(), 1);
    assert_eq!(bytes(&place), before, "the file is as it was");
    drop(folder);
}

async fn a_half_done_migration_is_named(Scratch { store, place, folder }: Scratch) {
    store.close().await;
    tamper(&place, "UPDATE _sqlx_migrations SET success = FALSE WHERE version = 1").await;
    let refused = Store::open(&place, "test").await.err().expect("refused");
    let line = format!("{refused:#}");
    assert!(line.contains("migration 1 is marked as half done") && line.lines().count() == 1, "{line}");
    // No lock of the migration is left behind.
    tamper(&place, "UPDATE _sqlx_migrations SET success = TRUE WHERE version = 1").await;
    Store::open(&place, "test").await.expect("repaired");
    drop(folder);
}

async fn a_migration_that_is_not_ours_is_named(Scratch { store, place, folder }: Scratch) {
    store.close().await;
    let other = match place {
        Place::Folder(_) => "UPDATE _sqlx_migrations SET checksum = x'00'",
        Place::Postgres(_) => "UPDATE _sqlx_migrations SET checksum = '\\x00'",
    };
    tamper(&place, other).await;
    let line = format!("{:#}", Store::open(&place, "test").await.err().expect("refused"));
    assert!(line.contains("migration 1 was made by a program that is not quite this one"), "{line}");
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_may_migrate_the_same_postgres_at_once() {
    let empty = salon_store::testing::postgres_database().await;
    let tasks: Vec<_> = (0..4)
        .map(|n| {
            let place = Place::Postgres(empty.clone());
            tokio::spawn(async move {
                let store = Store::open(&place, &format!("process {n}")).await.expect("open");
                enqueue(&store, n).await.expect("enqueue");
                store
            })
        })
        .collect();
    for task in tasks {
        let store = task.await.expect("no panic");
        assert_eq!(store.check().await.expect("check"), Vec::<String>::new());
    }
}
