//! What the tests of this crate share.

use salon_core::{Brief, Event, TurnId};
use tokio_util::sync::CancellationToken;

use crate::{Emitter, Engine, EngineError};

/// All that an engine emitted, and how it ended.
#[derive(Debug)]
pub(crate) struct Heard {
    pub events: Vec<Event>,
    pub outcome: Result<(), EngineError>,
}

pub(crate) fn brief(question: &str) -> Brief {
    Brief {
        turn: TurnId::new("turn-1"),
        instructions: String::new(),
        history: Vec::new(),
        question: question.to_owned(),
        pictures: Vec::new(),
        thread: None,
        wishes: salon_core::Wishes::default(),
    }
}

pub(crate) async fn ask(engine: &dyn Engine, question: &str) -> Heard {
    let (mut out, mut receiver) = Emitter::channel(4, CancellationToken::new());
    let brief = brief(question);
    let listen = async {
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            events.push(event);
        }
        events
    };
    let answer = async {
        let outcome = engine.answer(&brief, &mut out).await;
        drop(out);
        outcome
    };
    let (outcome, events) = tokio::join!(answer, listen);
    Heard { events, outcome }
}

pub(crate) fn text_of(events: &[Event]) -> String {
    let text = |event: &Event| match event {
        Event::Text { text } => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}
