//! What becomes of a voice's words while it speaks.

use std::time::Duration;

use salon_core::Note;
use salon_core::panel::{HELD_CHARS, UNSURE, doubts, unmarked};
use salon_engine::{Emitter, EngineError};
use tokio::time::Instant;

/// Words of voices are told in bundles: after this time or this many bytes.
const BUNDLE_EVERY: Duration = Duration::from_millis(200);
const BUNDLE_BYTES: usize = 512;

/// What becomes of somebody's words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Heed {
    /// They stand beside the answer.
    Voice,
    /// They are the answer.
    Answer,
    /// They are the answer unless they are not sure of themselves.
    Perhaps,
}

/// Listens to one voice, and tells what it says where it belongs.
pub(super) struct Ear {
    speaker: String,
    round: i64,
    heed: Heed,
    /// What is not told yet.
    held: String,
    pub(super) due: Option<Instant>,
    /// Something of it is in the answer.
    pub(super) answered: bool,
}

impl Ear {
    pub(super) fn new(speaker: &str, round: i64, heed: Heed) -> Ear {
        Ear { speaker: speaker.to_owned(), round, heed, held: String::new(), due: None, answered: false }
    }

    pub(super) async fn hear(&mut self, text: &str, out: &mut Emitter) -> Result<(), EngineError> {
        if self.answered {
            return out.text(text).await;
        }
        self.held.push_str(text);
        match self.heed {
            Heed::Voice => {
                self.due.get_or_insert_with(|| Instant::now() + BUNDLE_EVERY);
                if self.held.len() >= BUNDLE_BYTES { self.tell(out).await } else { Ok(()) }
            }
            Heed::Perhaps if self.held.chars().nth(HELD_CHARS).is_some() => self.judge(out).await,
            Heed::Answer if self.held.len() > UNSURE.len() + 2 => self.judge(out).await,
            Heed::Answer | Heed::Perhaps => Ok(()),
        }
    }

    /// Decides what the beginning of an answer is.
    async fn judge(&mut self, out: &mut Emitter) -> Result<(), EngineError> {
        if self.heed == Heed::Perhaps && doubts(&self.held) {
            self.heed = Heed::Voice;
            return self.tell(out).await;
        }
        let held = std::mem::take(&mut self.held);
        let text = unmarked(&held);
        self.answered = !text.is_empty();
        out.text(text).await
    }

    pub(super) async fn tell(&mut self, out: &mut Emitter) -> Result<(), EngineError> {
        self.due = None;
        if self.heed != Heed::Voice || self.held.is_empty() {
            return Ok(());
        }
        let (speaker, text) = (self.speaker.clone(), std::mem::take(&mut self.held));
        out.note(Note::VoiceText { speaker, round: self.round, text }).await
    }

    pub(super) async fn end(&mut self, out: &mut Emitter) -> Result<(), EngineError> {
        match self.heed {
            Heed::Voice => self.tell(out).await,
            Heed::Answer | Heed::Perhaps if self.answered || self.held.is_empty() => Ok(()),
            Heed::Answer | Heed::Perhaps => self.judge(out).await,
        }
    }
}
