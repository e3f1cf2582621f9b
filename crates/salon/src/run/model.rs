//! A turn that a model of the catalog answers, by way of the relay: its keys, retries, fallbacks, limits and its bill are
//! those of any other call.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use salon_core::{Brief, Note, Usage};
use salon_engine::upstream::{Fault, fault_of_status};
use salon_engine::wire::carry::{Quirks, Reader, Terms, write_ask};
use salon_engine::wire::talk::{self, Piece};
use salon_engine::{Emitter, Engine, EngineError, estimate};
use salon_store::Result;
use tokio::time::Instant;

use super::fare::{Asker, Boarding};
use crate::engines::Choice;
use crate::relay::{Ask, Begun, Kind, NotBegun, Outside, Passing, Refused, Relay, Told, Wire};

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
            quirks: Quirks { max_completion_tokens: relay.counts_completion(&name), ..Quirks::default() },
        };
        let body = match write_ask(Wire::Chat, &mut talk::Ask::of(brief), &terms) {
            Ok(body) => Bytes::from(body),
            Err(cannot) => return Ok(Boarding::Refused(EngineError::failed("bad_question", cannot.message))),
        };
        let id = asker.call.to_string();
        let ask = Ask {
            id: asker.call,
            wire: Wire::Chat,
            caller: asker.caller,
            outside: Outside::default(),
            headers: HeaderMap::new(),
            body,
            turn: Some(asker.asking),
        };
        match relay.begin(ask).await {
            Ok(begun) => Ok(Boarding::Granted(Model { name, id, begun: Mutex::new(Some(begun)) })),
            Err(NotBegun::Unpaid(not)) => Boarding::not(not),
            Err(NotBegun::Refused(refused)) => Ok(Boarding::Refused(error_of(*refused))),
        }
    }

    async fn listen(&self, mut passing: Box<Passing>, brief: &Brief, out: &mut Emitter) -> Result<(), EngineError> {
        let mut ear = Ear { reader: None, id: &self.id, pieces: Vec::new(), thoughts: String::new(), due: None };
        let mut said = estimate::Count::default();
        let outcome = loop {
            let next = std::future::poll_fn(|context| Pin::new(&mut *passing).poll_frame(context));
            let heard = tokio::select! {
                biased;
                () = out.stopped() => break Err(EngineError::Stopped),
                frame = next => match frame {
                    Some(Ok(frame)) => ear.hear(frame.into_data().unwrap_or_default()),
                    None => ear.end(),
                },
                () = until(ear.due) => Vec::new(),
            };
            match ear.tell(heard, out, &mut said).await {
                Ok(None) => {}
                Ok(Some(end)) => break end.map_or_else(|fault| Err(fault.into()), Ok),
                Err(stopped) => break Err(stopped),
            }
        };
        let model = Some(self.name.clone());
        let usage = match &outcome {
            Ok(Some(tokens)) => {
                let tokens_in = tokens.total() - tokens.written();
                Usage { model, tokens_in, tokens_out: tokens.written(), estimated: false, suspect: false }
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
        match answer.told {
            Told::Stream(passing) => self.listen(passing, brief, out).await,
            // Only a refusal comes whole where a stream is asked for.
            Told::Whole(_) if answer.status != StatusCode::OK => Err(fault_of_status(answer.status).into()),
            Told::Whole(_) => Err(Fault::Garbled.into()),
        }
    }
}

/// Hears an answer in chat's words, streamed or not: some servers answer whole whatever they are asked.
struct Ear<'a> {
    reader: Option<Reader>,
    id: &'a str,
    pieces: Vec<Piece>,
    thoughts: String,
    /// When the thoughts are to be told.
    due: Option<Instant>,
}

/// How an answer ended: with its usage if that was told.
type End = Result<Option<salon_core::Tokens>, Fault>;

impl Ear<'_> {
    fn hear(&mut self, bytes: Bytes) -> Vec<Piece> {
        if self.reader.is_none() {
            let Some(first) = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) else { return Vec::new() };
            self.reader = Some(Reader::new(Wire::Chat, *first != b'{', self.id));
        }
        if let Some(reader) = &mut self.reader {
            reader.push(&bytes, &mut self.pieces);
        }
        std::mem::take(&mut self.pieces)
    }

    fn end(&mut self) -> Vec<Piece> {
        let Some(reader) = &mut self.reader else { return vec![Piece::Broken(Fault::Silent)] };
        reader.end(&mut self.pieces);
        match std::mem::take(&mut self.pieces) {
            // It had ended before, and that was told.
            pieces if pieces.is_empty() => vec![Piece::Broken(Fault::Cut)],
            pieces => pieces,
        }
    }

    async fn tell(
        &mut self,
        pieces: Vec<Piece>,
        out: &mut Emitter,
        said: &mut estimate::Count,
    ) -> Result<Option<End>, EngineError> {
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.tell_thoughts(out).await?;
        }
        for piece in pieces {
            match piece {
                Piece::Text(text) | Piece::Refusal(text) => {
                    self.tell_thoughts(out).await?;
                    said.add(&text);
                    out.text(text).await?;
                }
                Piece::Thought(text) => {
                    said.add(&text);
                    self.thoughts.push_str(&text);
                    self.due.get_or_insert_with(|| Instant::now() + THOUGHTS_EVERY);
                    if self.thoughts.len() >= THOUGHTS_BYTES {
                        self.tell_thoughts(out).await?;
                    }
                }
                Piece::End { finish: talk::Finish::Filtered, .. } => {
                    self.tell_thoughts(out).await?;
                    return Ok(Some(Err(Fault::Filtered)));
                }
                Piece::End { tokens, .. } => {
                    self.tell_thoughts(out).await?;
                    return Ok(Some(Ok(tokens)));
                }
                Piece::Broken(fault) => {
                    self.tell_thoughts(out).await?;
                    return Ok(Some(Err(fault)));
                }
                // A turn offers no tools.
                Piece::Begin { .. } | Piece::Call { .. } | Piece::Arguments { .. } | Piece::CallDone { .. } => {}
            }
        }
        Ok(None)
    }

    async fn tell_thoughts(&mut self, out: &mut Emitter) -> Result<(), EngineError> {
        self.due = None;
        match std::mem::take(&mut self.thoughts) {
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
fn error_of(refused: Refused) -> EngineError {
    let code = match refused.code {
        Cow::Borrowed(code) => code,
        Cow::Owned(_) if refused.kind == Kind::Upstream => "upstream_error",
        Cow::Owned(_) => "refused",
    };
    EngineError::failed(code, refused.message)
}
