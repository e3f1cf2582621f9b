//! Who answers. An [`Engine`] reads a [`Brief`] and writes events through an [`Emitter`]; it knows neither the store
//! nor who listens.
//!
//! A tour, from the outside in:
//!
//! - [`build`] makes an engine from a [`Spec`], which is what a configuration says about it.
//! - [`Echo`] and [`Storyteller`] need no key and no network; [`Missing`] says why nobody answers.
//! - [`Scripted`] does as a test tells it.
//! - [`estimate`] counts tokens where nobody else does. [`Secret`] keeps keys out of logs.
//!
//! How an answer ends is the engine's return value: `Ok` is done, [`EngineError`] is stopped or failed. The codes of
//! failures are stable; the `upstream_…` ones are listed in [`upstream`].

pub mod agent;
pub mod echo;
pub mod emitter;
pub mod estimate;
pub mod guard;
pub mod missing;
pub mod outbound;
pub mod sandbox;
pub mod scripted;
pub mod secret;
pub mod sse;
pub mod storyteller;
#[cfg(test)]
mod testing;
pub mod upstream;
pub mod wire;
pub mod workspace;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use salon_core::Brief;
use thiserror::Error;

pub use echo::Echo;
pub use emitter::Emitter;
pub use missing::Missing;
pub use scripted::{Scripted, Signal, Step};
pub use secret::Secret;
pub use storyteller::Storyteller;

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

/// What a configuration says about an engine.
#[derive(Clone, Debug)]
pub enum Spec {
    Echo {
        prefix: String,
    },
    Storyteller {
        /// The time between two pieces.
        pace: Duration,
    },
    Missing {
        code: &'static str,
        message: String,
    },
}

/// Makes an engine that needs nobody else.
pub fn build(spec: &Spec) -> Arc<dyn Engine> {
    match spec {
        Spec::Echo { prefix } => Arc::new(Echo { prefix: prefix.clone() }),
        Spec::Storyteller { pace } => Arc::new(Storyteller { pace: *pace }),
        Spec::Missing { code, message } => Arc::new(Missing { code, message: message.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ask, text_of};

    #[tokio::test(start_paused = true)]
    async fn each_spec_becomes_the_engine_that_it_describes() {
        let echo = build(&Spec::Echo { prefix: "parrot: ".into() });
        assert_eq!(text_of(&ask(echo.as_ref(), "hi").await.events), "parrot: hi");
        let storyteller = build(&Spec::Storyteller { pace: Duration::ZERO });
        assert_eq!(text_of(&ask(storyteller.as_ref(), "hi").await.events), storyteller::tell("hi"));
        let missing = build(&Spec::Missing { code: "away", message: "Gone fishing.".into() });
        assert_eq!(ask(missing.as_ref(), "hi").await.outcome, Err(EngineError::failed("away", "Gone fishing.")));
    }
}
