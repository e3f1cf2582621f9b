//! The engine that does as it is told, for the tests of everyone who runs engines.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use salon_core::{Brief, Note, Usage};
use tokio::sync::Semaphore;

use crate::{Emitter, Engine, EngineError};

/// Plays the same steps for every brief, and counts how often it was asked.
#[derive(Debug, Default)]
pub struct Scripted {
    steps: Vec<Step>,
    thread: Option<String>,
    asked: AtomicUsize,
}

/// One thing that a [`Scripted`] engine does.
#[derive(Clone, Debug)]
pub enum Step {
    Text(String),
    /// Says the question.
    Question,
    Note(Note),
    Thread(String),
    Usage(Usage),
    /// Waits until the test gives this signal; stopping ends the wait.
    Wait(Signal),
    /// Waits in `tokio::time`, which a test can pause; stopping ends the wait.
    Pause(Duration),
    /// Ends with [`EngineError::Failed`].
    Fail {
        code: &'static str,
        message: String,
    },
    /// Waits for ever and hears no request to stop, as a hung engine does.
    Hang,
    /// Breaks down.
    Panic,
}

impl Scripted {
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Scripted {
        Scripted { steps: steps.into_iter().collect(), ..Scripted::default() }
    }

    /// Says one text and ends.
    pub fn says(text: impl Into<String>) -> Scripted {
        Scripted::new([Step::text(text)])
    }

    /// Ends with this failure before it says anything.
    pub fn fails(code: &'static str, message: impl Into<String>) -> Scripted {
        Scripted::new([Step::fail(code, message)])
    }

    /// Names its thread at once.
    pub fn with_thread(mut self, thread: impl Into<String>) -> Scripted {
        self.thread = Some(thread.into());
        self
    }

    /// How many briefs it has begun to answer.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Step {
    pub fn text(text: impl Into<String>) -> Step {
        Step::Text(text.into())
    }

    pub fn fail(code: &'static str, message: impl Into<String>) -> Step {
        Step::Fail { code, message: message.into() }
    }
}

#[async_trait]
impl Engine for Scripted {
    async fn answer(&self, brief: &Brief, out: &mut Emitter) -> Result<(), EngineError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        for step in &self.steps {
            match step {
                Step::Text(text) => out.text(text.clone()).await?,
                Step::Question => out.text(brief.question.clone()).await?,
                Step::Note(note) => out.note(note.clone()).await?,
                Step::Thread(id) => out.thread(id.clone()).await?,
                Step::Usage(usage) => out.usage(usage.clone()).await?,
                Step::Wait(signal) => tokio::select! {
                    biased;
                    () = out.stopped() => return Err(EngineError::Stopped),
                    () = signal.heard() => {}
                },
                Step::Pause(pause) => tokio::select! {
                    biased;
                    () = out.stopped() => return Err(EngineError::Stopped),
                    () = tokio::time::sleep(*pause) => {}
                },
                Step::Fail { code, message } => return Err(EngineError::failed(code, message.clone())),
                Step::Hang => std::future::pending().await,
                Step::Panic => panic!("the script says so"),
            }
        }
        Ok(())
    }

    fn thread(&self, brief: &Brief) -> Option<String> {
        self.thread.clone().or_else(|| brief.thread.clone())
    }
}

/// Something a script waits for. Each [`give`](Signal::give) lets one wait pass, whether it has begun or not.
#[derive(Clone, Debug)]
pub struct Signal(Arc<Signals>);

#[derive(Debug)]
struct Signals {
    given: Semaphore,
    reached: Semaphore,
}

impl Default for Signal {
    fn default() -> Self {
        Signal(Arc::new(Signals { given: Semaphore::new(0), reached: Semaphore::new(0) }))
    }
}

impl Signal {
    pub fn new() -> Signal {
        Signal::default()
    }

    pub fn give(&self) {
        self.0.given.add_permits(1);
    }

    /// Resolves once the script has come to a wait for this signal; once per wait.
    pub async fn reached(&self) {
        take(&self.0.reached).await;
    }

    async fn heard(&self) {
        self.0.reached.add_permits(1);
        take(&self.0.given).await;
    }
}

async fn take(semaphore: &Semaphore) {
    semaphore.acquire().await.expect("these semaphores are never closed").forget();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ask, brief, text_of};
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn it_plays_its_steps_in_order() {
        let engine = Scripted::new([Step::text("You said "), Step::Question, Step::fail("tired", "I am tired.")]);
        let heard = ask(&engine, "hi").await;
        assert_eq!(text_of(&heard.events), "You said hi");
        assert_eq!(heard.outcome, Err(EngineError::failed("tired", "I am tired.")));
        assert_eq!(engine.asked(), 1);
    }

    #[tokio::test]
    async fn it_waits_for_its_signal() {
        let signal = Signal::new();
        let engine = Arc::new(Scripted::new([Step::Wait(signal.clone()), Step::text("at last")]));
        let (mut out, mut events) = Emitter::channel(8, CancellationToken::new());
        let answering = tokio::spawn({
            let engine = engine.clone();
            async move { engine.answer(&brief("hi"), &mut out).await }
        });
        signal.reached().await;
        assert!(events.try_recv().is_err(), "nothing is said before the signal");
        signal.give();
        assert_eq!(events.recv().await, Some(salon_core::Event::Text { text: "at last".into() }));
        assert_eq!(answering.await.expect("no panic"), Ok(()));
    }

    #[tokio::test]
    async fn a_wait_ends_when_it_is_asked_to_stop() {
        let stop = CancellationToken::new();
        let signal = Signal::new();
        let engine = Scripted::new([Step::Wait(signal.clone())]);
        let (mut out, _events) = Emitter::channel(8, stop.clone());
        let told = brief("hi");
        let (outcome, ()) = tokio::join!(engine.answer(&told, &mut out), async {
            signal.reached().await;
            stop.cancel();
        });
        assert_eq!(outcome, Err(EngineError::Stopped));
    }
}
