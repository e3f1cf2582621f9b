//! How an engine writes events.

use std::time::Duration;

use salon_core::{Event, LeftFile, Note, Usage};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::EngineError;

/// How long the usage of a stopped run waits for room in the channel.
const LAST_WORD: Duration = Duration::from_secs(2);

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

    pub async fn file(&mut self, file: LeftFile) -> Result<(), EngineError> {
        self.emit(Event::File(file)).await
    }

    pub async fn thread(&mut self, id: impl Into<String>) -> Result<(), EngineError> {
        self.emit(Event::Thread { id: id.into() }).await
    }

    /// Says what the answer cost. The one thing that is still heard after a request to stop: it was spent all the same.
    ///
    /// It waits for room even then, but not for ever: the reader may have turned away without closing the channel.
    pub async fn usage(&mut self, usage: Usage) -> Result<(), EngineError> {
        let given_up = async {
            self.stop.cancelled().await;
            tokio::time::sleep(LAST_WORD).await;
        };
        tokio::select! {
            biased;
            sent = self.events.send(Event::Usage(usage)) => sent.map_err(|_| EngineError::Stopped),
            () = given_up => Err(EngineError::Stopped),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stopped_run_may_say_what_it_cost_and_nothing_else() {
        let stop = CancellationToken::new();
        let (mut out, mut events) = Emitter::channel(4, stop.clone());
        stop.cancel();
        assert_eq!(out.text("too late").await, Err(EngineError::Stopped));
        assert_eq!(out.usage(Usage::default()).await, Ok(()));
        assert_eq!(events.recv().await, Some(Event::Usage(Usage::default())));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_word_does_not_wait_for_ever() {
        let stop = CancellationToken::new();
        let (mut out, _nobody_reads) = Emitter::channel(1, stop.clone());
        out.text("fills the channel").await.expect("there is room for one");
        stop.cancel();
        assert_eq!(out.usage(Usage::default()).await, Err(EngineError::Stopped));
    }

    #[tokio::test]
    async fn an_engine_ends_when_its_reader_is_gone() {
        let (mut out, events) = Emitter::channel(4, CancellationToken::new());
        drop(events);
        assert_eq!(out.text("anyone?").await, Err(EngineError::Stopped));
        assert_eq!(out.usage(Usage::default()).await, Err(EngineError::Stopped));
    }

    #[tokio::test]
    async fn empty_text_is_nothing() {
        let (mut out, mut events) = Emitter::channel(4, CancellationToken::new());
        out.text("").await.expect("nothing cannot fail");
        drop(out);
        assert_eq!(events.recv().await, None);
    }
}
