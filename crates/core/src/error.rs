//! The ways we say no.

use thiserror::Error;

/// A *no* that a person can understand, as opposed to a fault, which is an *oops* and travels as `anyhow::Error`.
///
/// The sentences here are the English ones; `locale` has them in every language under `refusal.<code>`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("There are already {limit} questions waiting here. Please wait for an answer.")]
    QueueFull { limit: i64 },
    #[error("There is no such thing here.")]
    NotFound,
}

impl Refusal {
    /// A stable machine-readable name.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::QueueFull { .. } => "queue_full",
            Refusal::NotFound => "not_found",
        }
    }
}
