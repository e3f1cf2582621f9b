//! What can go wrong between us and a database.

use salon_core::Refusal;
use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;
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

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let known = match &error {
            // The two databases' codes overlap as text: 42501 is "not allowed" here and nothing at all there.
            sqlx::Error::Database(database) => match database.try_downcast_ref::<SqliteError>() {
                Some(sqlite) => sqlite.code().and_then(|code| of_sqlite(code.parse().ok()?, sqlite.message())),
                None => database.code().and_then(|code| of_postgres(&code)),
            },
            sqlx::Error::Io(_) => Some(unavailable("the connection was lost")),
            sqlx::Error::PoolTimedOut => Some(unavailable("no connection became free in time")),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Some(unavailable("closed")),
            _ => None,
        };
        known.unwrap_or_else(|| Error::Fault(anyhow::Error::new(error)))
    }
}

/// Reads an extended result code; its low byte is the primary one.
fn of_sqlite(code: u32, message: &str) -> Option<Error> {
    const FULL: u32 = 13;
    const WRITE: u32 = 778;
    const FSYNC: u32 = 1034;
    const FSYNC_FOLDER: u32 = 1290;
    const SHARED_INDEX: u32 = 4874;
    match code {
        // The kernel may have thrown the unwritten pages away, and a second try would succeed without them.
        FSYNC | FSYNC_FOLDER => {
            tracing::error!(code, message, "the disk did not keep what it was given, ending at once");
            std::process::abort();
        }
        // Beside a full disk these are an exhausted quota, a file-size limit, and no room for the shared index.
        FULL | WRITE | SHARED_INDEX => return Some(Error::Full),
        _ => {}
    }
    match code & 0xff {
        5 | 6 | 15 => Some(unavailable("locked by another process")),
        8 => Some(Error::Fault(anyhow::anyhow!("the database file is read-only"))),
        // Nothing of this transaction was written, and a restart would change nothing: people must look.
        11 | 26 => {
            tracing::error!(code, message, "the database file is damaged");
            Some(Error::Fault(anyhow::anyhow!(
                "the database file is damaged ({message}); `salon doctor` tells what is wrong with it"
            )))
        }
        _ => None,
    }
}

fn of_postgres(code: &str) -> Option<Error> {
    match code {
        "53100" => Some(Error::Full),
        "55P03" | "57014" => Some(unavailable("the database is busy")),
        "40001" | "40P01" => Some(unavailable("two transactions met")),
        "57P01" | "57P02" | "57P03" | "25P03" => Some(unavailable("the connection was lost")),
        // After a fail-over an old connection may still lead to what is now a standby.
        "25006" => Some(unavailable("the database takes no writes now")),
        _ if code.starts_with("08") => Some(unavailable("the connection was lost")),
        _ if code.starts_with("53") => Some(unavailable("the database is out of resources")),
        _ => None,
    }
}

pub(crate) fn unavailable(why: &str) -> Error {
    Error::Unavailable(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_several_codes() {
        for code in [13, 778, 4874] {
            assert!(matches!(of_sqlite(code, ""), Some(Error::Full)), "{code}");
        }
        assert!(matches!(of_postgres("53100"), Some(Error::Full)));
    }

    #[test]
    fn waiting_helps_against_locks_and_lost_connections() {
        for code in [5, 6, 261, 517] {
            assert!(matches!(of_sqlite(code, ""), Some(Error::Unavailable(_))), "{code}");
        }
        for code in ["40001", "40P01", "57P01", "57P03", "08006", "53300", "55P03", "57014"] {
            assert!(matches!(of_postgres(code), Some(Error::Unavailable(_))), "{code}");
        }
    }

    #[test]
    fn mistakes_are_faults_and_are_not_tried_again() {
        // As numbers, the first two end in the bytes of "busy", the third in that of "I/O error".
        for code in ["42501", "22021", "22026", "23505", "42P01"] {
            assert!(of_postgres(code).is_none(), "{code}");
        }
        for code in [1, 19, 787, 2067] {
            assert!(of_sqlite(code, "").is_none(), "{code}");
        }
    }

    #[test]
    fn a_damaged_file_is_said_to_be_damaged() {
        for code in [11, 267, 26] {
            let error = of_sqlite(code, "database disk image is malformed").expect("known");
            assert!(error.to_string().contains("damaged"), "{error}");
        }
    }
}
