//! How an engine writes events.

use salon_core::{Event, Note, Usage};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::EngineError;

/// The sending half of a run. The receiving half batches the events and writes them to the log.
///
/// The channel is bounded: an engine that is faster than the store waits here. Every call answers
/// [`EngineError::Stopped`] once the run was asked to stop or its reader is gone, so `?` ends the engine.
#[derive(Debug)]
pub struct Emitter {
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
}

impl Emitter {
    /// `capacity` is the number of events that may wait to be written.
    pub fn channel(capacity: usize, stop: CancellationToken) -> (Emitter, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(capacity);
        (Emitter { events, stop }, receiver)
    }

    /// Adds to the answer. Empty text is nothing.
    pub async fn text(&mut self, text: impl Into<String>) -> Result<(), EngineError> {
        let text = text.into();
        if text.is_empty() {
            return Ok(());
        }
        self.emit(Event::Text { text }).await
    }

    pub async fn note(&mut self, note: Note) -> Result<(), EngineError> {
        self.emit(Event::Note(note)).await
    }

    pub async fn thread(&mut self, id: impl Into<String>) -> Result<(), EngineError> {
        self.emit(Event::Thread { id: id.into() }).await
    }

    pub async fn usage(&mut self, usage: Usage) -> Result<(), EngineError> {
        self.emit(Event::Usage(usage)).await
    }

    /// Resolves when the run is asked to stop. Engines that wait for something else `select!` on it.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    async fn emit(&mut self, event: Event) -> Result<(), EngineError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(EngineError::Stopped),
            sent = self.events.send(event) => sent.map_err(|_| EngineError::Stopped),
        }
    }
}
