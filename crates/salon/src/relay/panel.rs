//! A panel that is called as a model: `salon/<panel>`, at every door.
//!
//! The panel makes calls of its own, one for each voice, which pay for themselves; the call at the door costs nothing.
//! The answer is told in the caller's protocol, with what the voices say as thoughts before it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use salon_core::panel::Panel;
use salon_core::{Brief, Event, Micros, Note, Reply, Stamped, Time, Tokens};
use salon_engine::wire::carry::{Door, Quirks, Terms, Writer, read_ask};
use salon_engine::wire::talk::{Finish, Piece};
use salon_engine::wire::{Head, Kind, Refused, Wire};
use salon_engine::{Emitter, Engine, EngineError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::passing::{Passing, Waiting};
use super::{Answer, Ask, NotBegun, Relay, Told, WAITED, house, put, refuse};
use crate::access::Caller;
use crate::catalog::{Ability, Listed, Model};
use crate::engines::{Answers, Choice, USUAL_MODEL};
use crate::panels::{self, AS_MODEL};
use crate::people::mask_of;
use crate::run::panel::{Asker, Sitting};

/// Pieces that may wait for a slow reader.
const WAITING: usize = 64;

/// A panel that may answer.
pub(super) struct Sat {
    relay: Arc<Relay>,
    sitting: Sitting,
    brief: Brief,
    writer: Writer,
    wire: Wire,
    id: String,
    stream: bool,
    array: bool,
    model: String,
}

/// The panel that a call means, if it means one.
pub(super) fn named(head: &Head) -> Option<&str> {
    head.model.strip_prefix(AS_MODEL)
}

/// The panels that the caller can ask: every voice has a model whose upstream is among the `keyed`.
pub(super) async fn list(relay: &Relay, caller: &Caller, keyed: &HashSet<String>) -> Result<Vec<Listed>, Refused> {
    let found = panels::list(&relay.salon, caller).await.map_err(|error| {
        tracing::warn!(%error, "panels cannot be read");
        refuse::ledger_away()
    })?;
    let snapshot = relay.catalog.snapshot();
    let usable = |model: &String| {
        let model = snapshot.find_model(model, Some(&caller.org));
        model.is_some_and(|model| model.deployments.iter().any(|place| keyed.contains(&place.upstream.name)))
    };
    let usual = match relay.salon.engines.find(USUAL_MODEL).map(|engine| engine.answers) {
        // Which model it is, its server says when it is asked.
        Some(Answers::Model(Choice::FirstOf(upstream))) => keyed.contains(&upstream),
        Some(Answers::Model(Choice::Named(model))) => usable(&model),
        _ => false,
    };
    let can_sit = |panel: &Panel| {
        let solver = panel.solvers().first().and_then(|at| panel.voices[*at].model.as_ref());
        panel.voices.iter().all(|voice| voice.model.as_ref().or(solver).map_or(usual, usable))
    };
    let panels = found.into_iter().map(|found| found.panel).filter(can_sit);
    let listed = panels.map(|panel| {
        let model = Arc::new(Model::of_several(&format!("{AS_MODEL}{}", panel.name)));
        Listed { model, provider: "salon".to_owned(), priced: None }
    });
    Ok(listed.collect())
}

/// Lets a panel sit down to a call.
pub(super) async fn begin(relay: &Arc<Relay>, ask: &Ask, head: &Head) -> Result<Sat, NotBegun> {
    let name = named(head).unwrap_or_default();
    let found = panels::find(&relay.salon, &ask.caller, name).await.map_err(|error| {
        tracing::warn!(%error, "a panel cannot be read");
        refuse::ledger_away()
    })?;
    let Some(panel) = found else { return Err(Refused::unknown_model(&head.model, &[]).into()) };
    let talk = matches!(ask.wire, Wire::Chat | Wire::Completions | Wire::Responses | Wire::Messages | Wire::Generate);
    if !talk {
        let words = format!("The panel {name} is not served over this protocol.");
        return Err(Refused::new(Kind::InvalidRequest, words)
            .with_code("unsupported_model")
            .with_param("model")
            .into());
    }
    let wants = [
        (head.has_tools, Ability::Tools, "tools"),
        (head.has_images, Ability::Images, "messages"),
        (head.has_audio, Ability::Audio, "messages"),
        (head.has_schema, Ability::Schema, "response_format"),
    ];
    if let Some((_, ability, param)) = wants.into_iter().find(|(wants, ..)| *wants) {
        return Err(refuse::unable(&head.model, ability, param).into());
    }
    let read = read_ask(ask.wire, &ask.body).map_err(refuse::cannot)?;
    let terms = Terms {
        model: &head.model,
        shown_model: &head.model,
        stream: head.stream,
        id: ask.id.as_str(),
        now: relay.salon.clock.now(),
        max_output: None,
        quirks: Quirks::default(),
    };
    let mut brief = house::brief(&read, ask.id.as_str());
    brief.wishes.max_output = read.max_output;
    brief.wishes.temperature = read.sampling.temperature.as_ref().and_then(serde_json::Number::as_f64);
    let array = ask.wire == Wire::Generate && head.stream && !ask.outside.events;
    let writer = Writer::new(Door { array, ..Door::new(ask.wire, read, &terms) });
    let mask = mask_of(&relay.salon.store, &ask.caller.org).await.map_err(|error| {
        tracing::warn!(%error, "an organisation's mask cannot be read");
        refuse::ledger_away()
    })?;
    let asked = ask.headers.contains_key(&WAITED).then(|| ask.id.to_string());
    let asker = Asker { caller: ask.caller.clone(), asking: ask.turn.clone(), call: ask.id.clone(), asked, mask };
    let sitting = Sitting::begin(relay, asker, panel, &brief).await?;
    Ok(Sat {
        relay: relay.clone(),
        sitting,
        brief,
        writer,
        wire: ask.wire,
        id: ask.id.to_string(),
        stream: head.stream,
        array,
        model: head.model.clone(),
    })
}

impl Sat {
    /// Lets the panel talk. Nothing is answered before somebody has said something, so that what goes wrong until then is
    /// told as a refusal.
    pub(super) async fn answer(self) -> Result<Answer, Refused> {
        let Sat { relay, sitting, brief, writer, wire, id, stream, array, model } = self;
        let spent = sitting.spent();
        let (told, mut spoken) = mpsc::channel(WAITING);
        let (ended, end) = oneshot::channel();
        tokio::spawn(async move {
            let outcome = tell(sitting, brief, writer, told).await;
            // Whoever has heard enough does not wait for it.
            ended.send(outcome).ok();
        });
        let mut headers = HeaderMap::with_capacity(4);
        put(&mut headers, "x-salon-model", &model);
        let Some(first) = spoken.recv().await else {
            return Err(match end.await {
                Ok(Err(error)) => refusal(error),
                _ => Refused::new(Kind::Upstream, "The panel said nothing."),
            });
        };
        if stream {
            let kind = if array { "application/json" } else { "text/event-stream; charset=utf-8" };
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
            let silence = (!array).then_some(relay.settings.silence);
            let waiting = Waiting { patience: std::time::Duration::ZERO, silence };
            let passing = Passing::unbilled(spoken, first, wire, &id, waiting);
            return Ok(Answer { status: StatusCode::OK, headers, told: Told::Stream(Box::new(passing)) });
        }
        let mut whole = Vec::from(first);
        while let Some(more) = spoken.recv().await {
            whole.extend_from_slice(&more);
        }
        if let Ok(Err(error)) = end.await {
            return Err(refusal(error));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        put(&mut headers, "x-salon-cost", &cost(&spent));
        Ok(Answer { status: StatusCode::OK, headers, told: Told::Whole(whole.into()) })
    }
}

fn cost(spent: &AtomicI64) -> String {
    Micros(spent.load(Ordering::Relaxed)).to_string()
}

fn refusal(error: EngineError) -> Refused {
    match error {
        EngineError::Stopped => Refused::new(Kind::Upstream, "The panel was stopped."),
        EngineError::Failed { code, message } => Refused::new(Kind::Upstream, message).with_code(code),
    }
}

/// Tells what a panel says in a caller's words. An error was told already if anything was.
async fn tell(
    sitting: Sitting,
    brief: Brief,
    mut writer: Writer,
    told: mpsc::Sender<Bytes>,
) -> Result<(), EngineError> {
    let stop = CancellationToken::new();
    // Whoever hangs up ends the panel, and the calls that it has made.
    let _stops = stop.clone().drop_guard();
    let (mut emitter, mut events) = Emitter::channel(WAITING, stop);
    let mut answering = tokio::spawn(async move { sitting.answer(&brief, &mut emitter).await });
    let mut tokens = None;
    let mut begun = false;
    let mut reply = Reply::default();
    loop {
        let event = tokio::select! {
            () = told.closed() => return Err(EngineError::Stopped),
            event = events.recv() => event,
        };
        let Some(event) = event else { break };
        let seq = reply.seq + 1;
        reply.push(&Stamped { seq, attempt: 1, at: Time(0), event: event.clone() });
        let piece = match event {
            Event::Text { text } => Piece::Text(text),
            // Those who speak at once would be heard in pieces, so each is told when it has ended.
            Event::Note(Note::VoiceEnded { speaker, round, answers: false, .. }) => {
                let voice = reply.voices.iter().rev().find(|voice| voice.speaker == speaker && voice.round == round);
                match voice.filter(|voice| !voice.text.trim().is_empty()) {
                    Some(voice) => Piece::Thought(format!("{speaker}: {}\n\n", voice.text.trim())),
                    None => continue,
                }
            }
            Event::Usage(usage) => {
                tokens = Some(Tokens::new(usage.tokens_in, usage.tokens_out));
                continue;
            }
            _ => continue,
        };
        if !begun {
            begun = true;
            say(&mut writer, Piece::Begin { tokens: None }, &told).await?;
        }
        say(&mut writer, piece, &told).await?;
    }
    let ended = (&mut answering).await.unwrap_or_else(|panic| {
        tracing::error!(error = %panic, "a panel panicked");
        Err(EngineError::failed("engine_fault", "The engine broke down."))
    });
    match &ended {
        Ok(()) => {
            if !begun {
                say(&mut writer, Piece::Begin { tokens: None }, &told).await?;
            }
            say(&mut writer, Piece::End { finish: Finish::Stop, tokens }, &told).await?;
        }
        Err(_) if begun => say(&mut writer, Piece::Broken(salon_engine::upstream::Fault::Cut), &told).await?,
        Err(_) => {}
    }
    ended
}

async fn say(writer: &mut Writer, piece: Piece, told: &mpsc::Sender<Bytes>) -> Result<(), EngineError> {
    let mut out = Vec::new();
    // A broken answer is told as such; what is left of it is for nobody.
    let written = writer.write(piece, &mut out);
    if !out.is_empty() && told.send(out.into()).await.is_err() {
        return Err(EngineError::Stopped);
    }
    written.map_err(|garbled| EngineError::from(garbled.0))
}
