//! A turn that a model of the catalog answers, by way of the relay: its keys, retries, fallbacks, limits and its bill are
//! those of any other call.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use salon_core::{Brief, Note, Tokens, Usage};
use salon_engine::upstream::fault_of_status;
use salon_engine::wire::carry::{Quirks, Terms, write_ask};
use salon_engine::wire::talk;
use salon_engine::{Emitter, Engine, EngineError, estimate};
use salon_store::Result;
use tokio::time::Instant;

use super::fare::{Asker, Boarding};
use crate::engines::Choice;
use crate::ledger::Tab;
use crate::relay::{Ask, Begun, Fault, Heard, Hearing, Kind, NotBegun, Outside, Refused, Relay, Wire};

/// Thoughts are told in bundles: after this time or this many bytes, whatever comes first.
const THOUGHTS_EVERY: Duration = Duration::from_millis(200);
const THOUGHTS_BYTES: usize = 1024;

/// The engine of one turn.
pub(super) struct Model {
    name: String,
    id: String,
    begun: Mutex<Option<Begun>>,
}

impl Model {
    /// Sets aside what the answer can take. Nobody is asked yet.
    pub async fn begin(relay: &Arc<Relay>, asker: Asker, choice: &Choice, brief: &Brief) -> Result<Boarding<Model>> {
        let name = match relay.name_of(choice).await {
            Ok(name) => name,
            Err(fault) => return Ok(Boarding::Refused(fault.into())),
        };
        let terms = Terms {
            model: &name,
            shown_model: &name,
            stream: true,
            id: asker.call.as_str(),
            now: relay.salon.clock.now(),
            max_output: None,
            // Those of whoever is asked in the end are heeded there.
            quirks: Quirks::default(),
        };
        let body = match write_ask(Wire::Chat, &mut talk::Ask::of(brief), &terms) {
            Ok(body) => Bytes::from(body),
            Err(cannot) => return Ok(Boarding::Refused(EngineError::failed("bad_question", cannot.message))),
        };
        let id = asker.call.to_string();
        let zone = asker.caller.zone.clone();
        let ask = Ask {
            id: asker.call,
            wire: Wire::Chat,
            caller: asker.caller,
            outside: Outside::default(),
            headers: HeaderMap::new(),
            body,
            turn: Some(asker.asking),
            share: None,
        };
        match relay.begin(ask).await {
            Ok(begun) => Ok(Boarding::Granted(Model { name, id, begun: Mutex::new(Some(begun)) })),
            Err(NotBegun::Unpaid(not)) => Boarding::not(not, &zone, relay.salon.clock.now()),
            Err(NotBegun::Refused(refused)) => Ok(Boarding::Refused(error_of(*refused))),
        }
    }

    /// Has the answer charged by whoever closes the tab.
    pub fn charged_to(self, tab: &Tab) -> Model {
        let begun = self.begun.into_inner().unwrap_or_else(PoisonError::into_inner);
        Model { begun: Mutex::new(begun.map(|begun| begun.charged_to(tab))), ..self }
    }

    async fn listen(&self, mut hearing: Hearing, brief: &Brief, out: &mut Emitter) -> Result<(), EngineError> {
        let mut said = estimate::Count::default();
        let mut thoughts = Thoughts::default();
        let outcome = loop {
            let heard = tokio::select! {
                biased;
                () = out.stopped() => break Err(EngineError::Stopped),
                heard = hearing.next() => heard.unwrap_or_else(|| vec![Heard::Broken(Fault::Cut)]),
                () = until(thoughts.due) => Vec::new(),
            };
            match tell(heard, &mut thoughts, &mut said, out).await {
                Ok(None) => {}
                Ok(Some(end)) => break end.map_err(EngineError::from),
                Err(stopped) => break Err(stopped),
            }
        };
        if !matches!(outcome, Err(EngineError::Stopped)) {
            // Whether or not its connection has ended: the turn's end is not to come before the charge.
            hearing.cost();
        }
        let model = Some(self.name.clone());
        let usage = match &outcome {
            Ok(Some(tokens)) => {
                let (tokens_in, tokens_out) = (tokens.read(), tokens.written());
                Usage { model, tokens_in, tokens_out, estimated: false, suspect: false }
            }
            // The ledger knows better what it costs; readers are told what they have seen.
            _ => estimate::usage(model, brief, said.tokens()),
        };
        outcome.map(drop).and(out.usage(usage).await)
    }
}

#[async_trait]
impl Engine for Model {
    async fn answer(&self, brief: &Brief, out: &mut Emitter) -> Result<(), EngineError> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A turn is answered once by each attempt, and each makes its own call.
        let Some(begun) = begun else { return Err(EngineError::failed("engine_fault", "The engine broke down.")) };
        let answer = tokio::select! {
            biased;
            () = out.stopped() => return Err(EngineError::Stopped),
            answer = begun.answer() => answer.map_err(error_of)?,
        };
        match answer.status {
            StatusCode::OK => self.listen(Hearing::new(answer.told, self.id.as_str()), brief, out).await,
            refused => Err(fault_of_status(refused).into()),
        }
    }
}

/// How an answer ended: with its usage if that was told.
type End = Result<Option<Tokens>, Fault>;

async fn tell(
    heard: Vec<Heard>,
    thoughts: &mut Thoughts,
    said: &mut estimate::Count,
    out: &mut Emitter,
) -> Result<Option<End>, EngineError> {
    if thoughts.due.is_some_and(|due| due <= Instant::now()) {
        thoughts.tell(out).await?;
    }
    for heard in heard {
        match heard {
            Heard::Text(text) => {
                thoughts.tell(out).await?;
                said.add(&text);
                out.text(text).await?;
            }
            Heard::Thought(text) => {
                said.add(&text);
                thoughts.add(&text);
                if thoughts.text.len() >= THOUGHTS_BYTES {
                    thoughts.tell(out).await?;
                }
            }
            Heard::End(tokens) => {
                thoughts.tell(out).await?;
                return Ok(Some(Ok(tokens)));
            }
            Heard::Broken(fault) => {
                thoughts.tell(out).await?;
                return Ok(Some(Err(fault)));
            }
        }
    }
    Ok(None)
}

/// Thoughts that are not told yet.
#[derive(Default)]
struct Thoughts {
    text: String,
    due: Option<Instant>,
}

impl Thoughts {
    fn add(&mut self, text: &str) {
        self.text.push_str(text);
        self.due.get_or_insert_with(|| Instant::now() + THOUGHTS_EVERY);
    }

    async fn tell(&mut self, out: &mut Emitter) -> Result<(), EngineError> {
        self.due = None;
        match std::mem::take(&mut self.text) {
            text if text.is_empty() => Ok(()),
            text => out.note(Note::Reasoning { text }).await,
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// What a refused call is to the people who read the turn.
pub(super) fn error_of(refused: Refused) -> EngineError {
    let code = match refused.code {
        Cow::Borrowed(code) => code,
        Cow::Owned(_) if refused.kind == Kind::Upstream => "upstream_error",
        Cow::Owned(_) => "refused",
    };
    EngineError::failed(code, refused.message)
}
