//! What can go wrong between us and a database.

use salon_core::Refusal;
use thiserror::Error;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Error)]
pub enum Error {
    /// Somebody else holds the lease by now. Nothing was written; stop working.
    #[error("the lease was lost")]
    Fenced,
    /// The operation said no; its transaction was rolled back.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The disk is full. Reads go on; writes succeed again once there is room.
    #[error("the disk is full")]
    Full,
    /// The database is away, locked or out of connections; trying again later is right.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The schema was written by a newer Salon.
    #[error("the database has schema version {found}, this program knows {known}; use the newer program")]
    NewerSchema { found: i64, known: i64 },
    #[error(transparent)]
    Fault(#[from] anyhow::Error),
}

impl Error {
    /// Whether running the same transaction again at once may succeed.
    pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
        match error {
            sqlx::Error::Database(database) => database.code().is_some_and(|code| {
                matches!(code.as_ref(), "40001" | "40P01" | "57P01" | "57P02" | "57P03") || code.starts_with("08")
            }),
            sqlx::Error::Io(_) => true,
            _ => false,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Database(database) = &error
            && let Some(code) = database.code()
        {
            // SQLite's primary result codes are the low byte: 5 busy, 6 locked, 10 I/O, 11 corrupt, 13 full.
            match code.parse::<u32>().map(|number| number & 0xff) {
                Ok(13) => return Error::Full,
                Ok(5 | 6) => return Error::Unavailable("locked by another process".to_owned()),
                Ok(10 | 11) => {
                    // What is on the disk is no longer known. Going on could acknowledge what was never stored.
                    tracing::error!(code = %code, "the database file cannot be trusted, ending at once");
                    std::process::abort();
                }
                _ => {}
            }
            // PostgreSQL: 53100 disk full, 53xxx resources, 55P03 lock, 57014 statement time-out.
            match code.as_ref() {
                "53100" => return Error::Full,
                "55P03" | "57014" => return Error::Unavailable("the database is busy".to_owned()),
                other if other.len() == 5 && other.starts_with("53") => {
                    return Error::Unavailable("the database is out of resources".to_owned());
                }
                _ => {}
            }
        }
        match error {
            error if Error::is_transient(&error) => Error::Unavailable("the connection was lost".to_owned()),
            sqlx::Error::PoolTimedOut => Error::Unavailable("no connection became free in time".to_owned()),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Error::Unavailable("closed".to_owned()),
            error => Error::Fault(anyhow::Error::new(error)),
        }
    }
}
