//! Who answers. An [`Engine`] reads a [`Brief`] and writes events through an [`Emitter`]; it knows neither the store
//! nor who listens.

pub mod emitter;

use async_trait::async_trait;
use salon_core::Brief;
use thiserror::Error;

pub use emitter::Emitter;

#[async_trait]
pub trait Engine: Send + Sync {
    /// Answers one brief by writing events; returns when there is no more to say.
    ///
    /// `Started`, `Done`, `Failed` and `Stopped` are written by whoever runs the engine: it says how it ended by its
    /// return value. Everything emitted before an error has been shown and stays.
    async fn answer(&self, brief: &Brief, out: &mut Emitter) -> Result<(), EngineError>;

    /// The name that the engine gives a new thread at once, if it has one: part of the `started` event.
    fn thread(&self, brief: &Brief) -> Option<String> {
        brief.thread.clone()
    }
}

/// Why an engine did not finish.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The emitter asked it to stop.
    #[error("stopped")]
    Stopped,
    /// It cannot answer; `message` is a sentence for people, without addresses, keys or bodies.
    #[error("{code}: {message}")]
    Failed { code: &'static str, message: String },
}

impl EngineError {
    pub fn failed(code: &'static str, message: impl Into<String>) -> EngineError {
        EngineError::Failed { code, message: message.into() }
    }
}
