//! Answers that are made in this process, told in whichever protocol was asked in.

use bytes::Bytes;
use salon_core::{Brief, Event, Message, Note, Role, Tokens, TurnId, Wishes};
use salon_engine::upstream::Fault;
use salon_engine::wire::carry::{Door, Terms, Writer, read_ask};
use salon_engine::wire::talk::{self, Ask, Finish, Piece};
use salon_engine::wire::{Kind as Refusal, Refused, Wire};
use salon_engine::{Echo, Emitter, Engine, Storyteller};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::refuse;
use crate::catalog::{Destination, Kind};

/// Pieces that may wait for a slow reader.
const WAITING: usize = 64;

/// Begins to answer. Whoever lets go of the receiver ends the engine.
pub(super) fn speak(
    to: &Destination,
    wire: Wire,
    body: &[u8],
    terms: &Terms<'_>,
    array: bool,
) -> Result<mpsc::Receiver<Bytes>, Refused> {
    let ask = read_ask(wire, body).map_err(refuse::cannot)?;
    let engine: Box<dyn Engine> = match to.upstream().kind {
        Kind::Echo => Box::new(Echo::verbatim()),
        Kind::Storyteller => Box::new(Storyteller::default()),
        _ => return Err(Refused::new(Refusal::Upstream, "This model has no address.")),
    };
    let brief = brief(&ask, terms.id);
    let writer = Writer::new(Door { array, ..Door::new(wire, ask, terms) });
    let (told, spoken) = mpsc::channel(WAITING);
    tokio::spawn(tell(engine, brief, writer, told));
    Ok(spoken)
}

/// What an engine is told of a question. It knows neither tools nor pictures.
pub(super) fn brief(ask: &Ask, id: &str) -> Brief {
    let mut instructions = Vec::new();
    let mut history = Vec::new();
    for message in &ask.messages {
        let text = message.parts.iter().filter_map(|part| match part {
            talk::Part::Text(text) => Some(text.as_str()),
            _ => None,
        });
        let text = text.collect::<Vec<_>>().join("\n");
        match message.role {
            talk::Role::System | talk::Role::Developer => instructions.push(text),
            talk::Role::User => history.push(Message { role: Role::User, text }),
            talk::Role::Assistant => history.push(Message { role: Role::Assistant, text }),
        }
    }
    history.pop_if(|last| last.role == Role::User);
    let (instructions, question) = (instructions.join("\n"), ask.question());
    Brief {
        turn: TurnId::new(id),
        instructions,
        history,
        question,
        pictures: Vec::new(),
        thread: None,
        wishes: Wishes::default(),
    }
}

async fn tell(engine: Box<dyn Engine>, brief: Brief, mut writer: Writer, told: mpsc::Sender<Bytes>) {
    let stop = CancellationToken::new();
    let (mut emitter, mut events) = Emitter::channel(WAITING, stop.clone());
    let answering = tokio::spawn(async move { engine.answer(&brief, &mut emitter).await });
    let mut tokens = None;
    let mut said = async |piece: Piece| {
        let mut out = Vec::new();
        writer.write(piece, &mut out).is_ok() && (out.is_empty() || told.send(out.into()).await.is_ok())
    };
    let mut heard = said(Piece::Begin { tokens: None }).await;
    while heard && let Some(event) = events.recv().await {
        heard = match event {
            Event::Text { text } => said(Piece::Text(text)).await,
            Event::Note(Note::Reasoning { text }) => said(Piece::Thought(text)).await,
            Event::Usage(usage) => {
                tokens = Some(Tokens::new(usage.tokens_in, usage.tokens_out));
                true
            }
            _ => true,
        };
    }
    if !heard {
        stop.cancel();
        return;
    }
    let end = match answering.await {
        Ok(Ok(())) => Piece::End { finish: Finish::Stop, tokens },
        _ => Piece::Broken(Fault::Cut),
    };
    said(end).await;
}
