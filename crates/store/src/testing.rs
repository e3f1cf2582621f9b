//! Scratch databases for tests: a SQLite file in a temporary folder, and a database of its own on a real PostgreSQL.

use std::path::Path;

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;

use crate::{Place, Store, Tx};

/// A fresh, migrated database that goes with the test.
pub struct Scratch {
    pub store: Store,
    pub place: Place,
    /// For files that a test wants beside its database.
    pub folder: TempDir,
}

impl Scratch {
    pub async fn sqlite() -> Scratch {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Scratch::open(Place::Folder(folder.path().join("data")), folder).await
    }

    /// `SALON_TEST_POSTGRES` names a server on which databases may be made; `cargo xtask test` starts one.
    pub async fn postgres() -> Scratch {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Scratch::open(Place::Postgres(postgres_database().await), folder).await
    }

    async fn open(place: Place, folder: TempDir) -> Scratch {
        let store = Store::open(&place, "test").await.expect("a scratch database opens");
        Scratch { store, place, folder }
    }
}

/// Makes an empty PostgreSQL database and answers its URL.
pub async fn postgres_database() -> String {
    #[expect(clippy::disallowed_methods, reason = "tests learn of the server from the test command")]
    let server = std::env::var("SALON_TEST_POSTGRES")
        .expect("SALON_TEST_POSTGRES names no PostgreSQL; run the tests by `cargo xtask test`, which starts one");
    let name = format!("salon_{}", ulid::Ulid::generate().to_string().to_lowercase());
    let mut connection = PgConnection::connect(&server).await.expect("the PostgreSQL of the tests answers");
    #[expect(clippy::disallowed_methods, reason = "a name made two lines above, and no way to bind it")]
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    connection.execute(create).await.expect("a database can be made");
    connection.close().await.ok();
    let (base, _) = server.rsplit_once('/').expect("the URL names a database");
    format!("{base}/{name}")
}

/// Drops the database of a test that has passed; one that has failed may be looked at.
pub async fn drop_database(place: &Place) {
    let Place::Postgres(url) = place else { return };
    let (base, name) = url.rsplit_once('/').expect("the URL names a database");
    let mut connection =
        PgConnection::connect(&format!("{base}/postgres")).await.expect("the PostgreSQL of the tests answers");
    #[expect(clippy::disallowed_methods, reason = "a name made by us, and no way to bind it")]
    let drop = sqlx::AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
    connection.execute(drop).await.expect("a database can be dropped");
    connection.close().await.ok();
}

/// Ends every other connection to a PostgreSQL database, whatever it is in the middle of, and says how many there were.
pub async fn end_connections(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.expect("the PostgreSQL of the tests answers");
    let ended: i64 = sqlx::query_scalar(
        // Chosen first, or the planner is free to end us and the neighbours before it looks who we are.
        "WITH others AS MATERIALIZED ( \
           SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()) \
         SELECT COUNT(*) FROM others WHERE pg_terminate_backend(pid)",
    )
    .fetch_one(&mut connection)
    .await
    .expect("connections can be ended");
    connection.close().await.ok();
    ended
}

/// Makes a SQLite file look as if a newer program had migrated it.
pub async fn pretend_newer(folder: &Path) {
    let options = SqliteConnectOptions::new().filename(folder.join("salon.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.expect("the file opens");
    connection
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             SELECT 9000 + version, 'from the future', success, checksum, 1 FROM _sqlx_migrations WHERE version = 1",
        )
        .await
        .expect("a row");
    connection.close().await.expect("close");
}

/// Whether what people said is kept anywhere with these words in it: in a job, a turn or its log.
pub async fn keeps(tx: &mut Tx, words: &str) -> bool {
    let rows = sqlx::query(
        "SELECT id FROM jobs WHERE payload LIKE '%' || $1 || '%' \
         UNION ALL SELECT id FROM turns WHERE question LIKE '%' || $1 || '%' OR answer LIKE '%' || $1 || '%' \
         UNION ALL SELECT turn_id FROM events WHERE body LIKE '%' || $1 || '%'",
    );
    !rows.bind(words).fetch_all(tx.connection()).await.expect("what is kept").is_empty()
}

/// Does to the database what somebody could who has nothing but the database. Statements are separated by semicolons.
pub async fn tamper(place: &Place, statements: &'static str) -> Result<(), String> {
    let outcome = match place {
        Place::Folder(folder) => {
            let options = SqliteConnectOptions::new().filename(folder.join("salon.db"));
            let mut connection = SqliteConnection::connect_with(&options).await.expect("the file opens");
            let outcome = connection.execute(sqlx::raw_sql(statements)).await;
            connection.close().await.ok();
            outcome.map(drop)
        }
        Place::Postgres(url) => {
            let mut connection = PgConnection::connect(url).await.expect("the PostgreSQL of the tests answers");
            let outcome = connection.execute(sqlx::raw_sql(statements)).await;
            connection.close().await.ok();
            outcome.map(drop)
        }
    };
    outcome.map_err(|error| error.to_string())
}

/// How SQLite would find the rows of a statement, a line each.
pub async fn plan(tx: &mut Tx, text: &'static str) -> Vec<String> {
    #[expect(clippy::disallowed_methods, reason = "a static text behind three words")]
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"));
    let rows = sqlx::raw_sql(explain).fetch_all(tx.connection()).await.expect("a plan");
    rows.iter().map(|row| row.get("detail")).collect()
}

/// Makes a test of each function on each database: `async fn name(scratch: Scratch)`.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::testing::Scratch::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let scratch = $crate::testing::Scratch::postgres().await;
                let place = scratch.place.clone();
                super::$name(scratch).await;
                $crate::testing::drop_database(&place).await;
            })*
        }
    };
}
