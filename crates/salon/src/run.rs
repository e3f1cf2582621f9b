//! Run: the brief, the engine, the events, the end.
//!
//! The engine runs in a task of its own and writes into a bounded channel; this side bundles what comes out and writes
//! it to the turn's log. Every write is fenced by the lease. The end of the turn, its last events, what it is charged, the
//! dialog's new summary and the end of the job are one transaction, so a reply is never final without all of them.

pub(crate) mod agent;
mod fare;
mod model;
mod named;
pub(crate) mod panel;
pub mod suggest;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use salon_core::brief::Picture;
use salon_core::style::Style;
use salon_core::summary::{Happened, roll};
use salon_core::{Brief, Dialog, Event, JobId, Note, Reply, Stamped, Turn, TurnId, TurnState, UserId, Wishes, brief};
use salon_engine::{Emitter, Engine, EngineError};
use salon_store::{Append, Error, Finished, Held, Thread, Tx, fail_point};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::agent::{Errands, Remains};
use self::fare::{Asker, Boarding, Fare};
use self::model::Model;
use self::panel::Sitting;
use crate::Salon;
use crate::engines::Answers;
use crate::job::{Job, Next, Work};
use crate::ledger::{Posting, Tab};
use crate::panels;
use crate::people::mask_of;
use crate::relay::{NotBegun, Relay};
use crate::say::RunPayload;

/// Events that an engine may be ahead of the store.
const WAITING_EVENTS: usize = 256;
/// A bundle is written after this time or this much text, whatever comes first.
const BUNDLE_EVERY: Duration = Duration::from_millis(80);
const BUNDLE_CHARS: usize = 256;
/// How long an engine may take to end once it was told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Events of a log that are looked through for what an agent did.
const LOG: i64 = 10_000;

/// Characters of a question that name its thread.
const TITLE_CHARS: usize = 80;

/// How often a turn that waits for an admin looks whether there is an answer.
const LOOK_FOR_CONSENT: Duration = Duration::from_secs(5);

/// Attempts at a turn of an agent that died with their process. More are not made.
const DEATHS: i64 = 2;

/// Answers one turn, and charges it.
pub struct RunTurn {
    pub relay: Arc<Relay>,
}

#[async_trait]
impl Job for RunTurn {
    fn kind(&self) -> &'static str {
        crate::KIND_RUN
    }

    async fn run(&self, salon: &Arc<Salon>, work: &Work) -> Result<Next, Error> {
        let payload = payload_of(work)?;
        let Some((turn, dialog, mut brief, last)) = prepare(salon, work, &payload).await? else {
            return Ok(Next::Finish);
        };
        if turn.state.is_final() {
            return Ok(Next::Finish);
        }
        fail_point!("run.before_start");
        let mut run = Run::new(salon, work, turn, dialog, last);
        let name = run.turn.engine.clone();
        let Some(configured) = salon.engines.find(&name) else {
            let error = EngineError::failed("unknown_engine", format!("There is no engine {name} here."));
            run.push(Event::Started { engine: name, thread: None });
            return run.finish(Err(error), None).await;
        };
        // Where nobody is installed nobody starts: the log is the error alone, and programs match it so.
        if let (Answers::Engine(engine), false) = (&configured.answers, configured.installed) {
            return run.answer(engine.clone(), brief, None).await;
        }
        let epoch = work.lease.ticket.epoch;
        if let Answers::Agent(_) = &configured.answers
            && epoch > 1
        {
            // Whoever asked something is gone with its attempt, so that nobody's yes is taken for an answer.
            let args = (run.turn.id.clone(), salon.clock.now());
            salon.store.write(args, |tx, (turn, now)| Box::pin(async move { tx.close_asks(turn, *now).await })).await?;
            // What an agent did is not done again unasked.
            let remains = Remains::of(&salon.store.read().await?.list_events(&run.turn.id, 0, LOG).await?);
            let error = match remains.acted {
                true => Some(EngineError::failed("interrupted", "The server went away while this was being done.")),
                false if epoch > DEATHS => {
                    salon.troubles.quarantined(&name);
                    Some(EngineError::failed("quarantined", "This ended the server twice and is not tried again."))
                }
                false => None,
            };
            if let Some(error) = error {
                run.push(Event::Started { engine: name, thread: remains.thread });
                return run.finish(Err(error), None).await;
            }
            // What an earlier attempt was told on the way is not told again by anybody else.
            for text in remains.heard {
                brief.question = format!("{}\n\n{text}", brief.question);
            }
        }
        let asker = Asker::of(salon, work, &payload, &run.turn, &run.dialog).await?;
        let boarding: Boarding<(Arc<dyn Engine>, Option<Fare>)> = match &configured.answers {
            Answers::Engine(engine) => {
                let fare = Fare::reserve(&self.relay.book, salon, &asker, &configured, &brief, &run.tab).await?;
                fare.map(|fare| (engine.clone(), Some(fare)))
            }
            Answers::Model(choice) => {
                let mask = mask_of(&salon.store, &asker.caller.org).await?;
                let asker = asker.for_engine(salon, &name);
                let model = Model::begin(&self.relay, asker, choice, &panel::masked(mask, &brief)).await?;
                model.map(|model| (Arc::new(model.charged_to(&run.tab)) as Arc<dyn Engine>, None))
            }
            Answers::Panel(name) => match panels::find(salon, &asker.caller, name).await? {
                Some(found) => {
                    let mask = mask_of(&salon.store, &asker.caller.org).await?;
                    let Asker { caller, asking, call, asked } = asker;
                    let zone = caller.zone.clone();
                    // What an earlier attempt asked has its numbers already.
                    let asked = asked.then(|| format!("{}.{epoch}", run.turn.id));
                    let asker = panel::Asker { caller, asking: Some(asking), call, asked, mask };
                    match Sitting::begin(&self.relay, asker, found, &brief).await {
                        Ok(sitting) => Boarding::Granted((Arc::new(sitting) as Arc<dyn Engine>, None)),
                        Err(NotBegun::Unpaid(not)) => Boarding::not(not, &zone, salon.clock.now())?,
                        Err(NotBegun::Refused(refused)) => Boarding::Refused(model::error_of(*refused)),
                    }
                }
                None => {
                    Boarding::Refused(EngineError::failed("unknown_panel", format!("There is no panel {name} here.")))
                }
            },
            // What it asks of models is charged call by call, at its door.
            Answers::Agent(agent) => match salon.agents.get() {
                Some(agents) => {
                    let errands = Errands::new(salon, agents, agent, &self.relay.book, asker, &run.dialog, epoch);
                    Boarding::Granted((Arc::new(errands) as Arc<dyn Engine>, None))
                }
                None => {
                    let words = "Agents cannot be run in this process.";
                    Boarding::Refused(EngineError::failed("agent_unavailable", words))
                }
            },
        };
        match boarding {
            Boarding::Granted((engine, fare)) => {
                run.push(Event::Started { engine: name, thread: engine.thread(&brief) });
                run.answer(engine, brief, fare).await
            }
            Boarding::Held => Ok(Next::Snooze(LOOK_FOR_CONSENT)),
            Boarding::Refused(error) => {
                run.push(Event::Started { engine: name, thread: None });
                run.finish(Err(error), None).await
            }
        }
    }

    async fn give_up(&self, salon: &Arc<Salon>, work: &Work, error: &str) -> Result<(), Error> {
        let turn = TurnId::new(payload_of(work)?.turn);
        let now = salon.clock.now();
        let event = Event::Failed {
            code: "gave_up".to_owned(),
            message: "This question could not be answered after several tries.".to_owned(),
        };
        let finished = Finished {
            turn,
            state: TurnState::Failed,
            answer: String::new(),
            usage: salon_core::Usage::default(),
            error: Some(error.to_owned()),
            now,
        };
        let args = (work.lease.ticket.clone(), work.lease.until(salon), finished, event, error.to_owned());
        salon
            .store
            .write(args, |tx, (ticket, until, finished, event, error)| {
                Box::pin(async move {
                    let held = tx.hold(ticket, *until).await?;
                    let last = Append { at: finished.now, event: event.clone() };
                    tx.append(&held, &finished.turn, &[last]).await?;
                    tx.finish_turn(&held, finished).await?;
                    tx.bury(held, error, finished.now).await
                })
            })
            .await
    }
}

fn payload_of(work: &Work) -> Result<RunPayload, Error> {
    Ok(serde_json::from_str(&work.job.payload).map_err(|error| anyhow::anyhow!("a run without a turn: {error}"))?)
}

/// `None` if the dialog was deleted. The last number is the number of the last event in the log. Nobody adds to it any
/// more: earlier attempts lost their lease when this one was claimed.
async fn prepare(
    salon: &Salon,
    work: &Work,
    payload: &RunPayload,
) -> Result<Option<(Turn, Dialog, Brief, i64)>, Error> {
    let id = TurnId::new(payload.turn.as_str());
    let mut tx = salon.store.read().await?;
    let turn = tx.find_turn(&id).await?.ok_or_else(|| anyhow::anyhow!("the turn {id} is gone"))?;
    let Some(dialog) = tx.find_dialog(&turn.dialog).await? else { return Ok(None) };
    // Failed turns take up places in the window, so look a little further back.
    let limit = salon.settings.window.messages as i64 + 10;
    let earlier = tx.list_turns_before(&dialog.id, turn.number, limit).await?;
    let style = style_of(&mut tx, payload, &turn, &dialog).await?;
    let instruction = style.told_after(&salon.settings.instruction);
    let brief = brief::compose(&instruction, &dialog, &earlier, &turn, salon.settings.window);
    let (said, otherwise) = (payload.wishes(), salon.engines.temper(&turn.engine, style.wishes()));
    let wishes = Wishes {
        max_output: said.max_output.or(otherwise.max_output),
        temperature: said.temperature.or(otherwise.temperature),
    };
    let pictures = tx.list_brought(&id).await?.into_iter();
    let pictures = pictures.map(|file| Picture { name: file.name, media: file.media, data: file.data }).collect();
    let brief = Brief { wishes, pictures, ..brief };
    // Nobody wrote before the first who may.
    let last = if work.lease.ticket.epoch == 1 { 0 } else { tx.last_event(&id).await? };
    Ok(Some((turn, dialog, brief, last)))
}

/// How the dialog is answered: in the style that was chosen for it, or else in the one that whoever asks likes.
async fn style_of(tx: &mut Tx, payload: &RunPayload, turn: &Turn, dialog: &Dialog) -> Result<Style, Error> {
    let mut chosen = tx.find_style(&dialog.id).await?;
    if chosen.is_none() {
        let account = match (&payload.user, turn.user) {
            (Some(user), _) => tx.find_account(&UserId::new(user.as_str())).await?,
            (None, Some(telegram)) => tx.find_account_of_telegram(telegram).await?.map(|(account, _)| account),
            (None, None) => None,
        };
        chosen = account.and_then(|account| account.taste.style);
    }
    Ok(chosen.as_deref().and_then(Style::parse).unwrap_or_default())
}

/// One attempt at a turn, on the writing side.
struct Run<'a> {
    salon: &'a Arc<Salon>,
    work: &'a Work,
    turn: Turn,
    dialog: Dialog,
    /// The number of the last event that is in the log.
    last: i64,
    /// Events that are not in the log yet.
    bundle: Vec<Append>,
    bundle_chars: usize,
    bundle_since: Option<Instant>,
    /// What a reader of this attempt will see, for the turn's answer.
    reply: Reply,
    commands: Vec<String>,
    /// What this attempt is charged for.
    tab: Tab,
}

impl<'a> Run<'a> {
    fn new(salon: &'a Arc<Salon>, work: &'a Work, turn: Turn, dialog: Dialog, last: i64) -> Self {
        Run {
            salon,
            work,
            turn,
            dialog,
            last,
            bundle: Vec::new(),
            bundle_chars: 0,
            bundle_since: None,
            reply: Reply::default(),
            commands: Vec::new(),
            tab: Tab::default(),
        }
    }

    async fn answer(mut self, engine: Arc<dyn Engine>, brief: Brief, fare: Option<Fare>) -> Result<Next, Error> {
        let stop = self.work.lease.stop.child_token();
        let (mut emitter, mut events) = Emitter::channel(WAITING_EVENTS, stop.clone());
        let mut running = Engaged(tokio::spawn(async move { engine.answer(&brief, &mut emitter).await }));
        let outcome = match self.listen(&mut events, &mut running.0, &stop).await? {
            Heard::Ended(outcome) => outcome,
            // Put back as it is: the next attempt starts afresh, and readers see that it did.
            Heard::Closing => return Ok(Next::Snooze(Duration::ZERO)),
        };
        self.finish(outcome, fare).await
    }

    /// Writes down what the engine emits until it ends, whatever ends it.
    async fn listen(
        &mut self,
        events: &mut mpsc::Receiver<Event>,
        running: &mut JoinHandle<Result<(), EngineError>>,
        stop: &CancellationToken,
    ) -> Result<Heard, Error> {
        let lease = &self.work.lease;
        let deadline = Instant::now() + self.salon.settings.run_deadline;
        let mut patience = None;
        let mut closing_at = None;
        let mut open = true;
        loop {
            let flush_at = self.bundle_since.map(|since| since + BUNDLE_EVERY);
            tokio::select! {
                event = events.recv(), if open => match event {
                    Some(event) => {
                        self.push(event);
                        if self.bundle_chars >= BUNDLE_CHARS {
                            self.flush().await?;
                        }
                    }
                    None => open = false,
                },
                // Only once the channel is empty and closed: what was emitted before the end is part of the answer.
                ended = &mut *running, if !open => {
                    let outcome = ended.unwrap_or_else(|panic| {
                        tracing::error!(turn.id = %self.turn.id, error = %panic, "an engine panicked");
                        Err(EngineError::failed("engine_fault", "The engine broke down."))
                    });
                    return Ok(Heard::Ended(outcome));
                }
                () = until(flush_at) => {
                    self.flush().await?;
                    fail_point!("run.after_start");
                }
                () = lease.lost.cancelled() => return Err(Error::Fenced),
                () = lease.stop.cancelled(), if patience.is_none() => patience = Some(Instant::now() + STOP_PATIENCE),
                () = until(patience) => return Ok(Heard::Ended(Err(EngineError::Stopped))),
                () = lease.closing.cancelled(), if closing_at.is_none() => {
                    closing_at = Some(Instant::now() + self.salon.settings.drain);
                }
                () = until(closing_at) => return Ok(Heard::Closing),
                () = tokio::time::sleep_until(deadline) => {
                    stop.cancel();
                    return Ok(Heard::Ended(Err(EngineError::failed("timeout", "The answer took too long."))));
                }
            }
        }
    }

    fn push(&mut self, event: Event) {
        let at = self.salon.clock.now();
        let seq = self.reply.seq + 1;
        self.reply.push(&Stamped { seq, attempt: self.work.lease.ticket.epoch, at, event: event.clone() });
        if let Event::Note(Note::CommandCompleted { command, .. }) = &event {
            self.commands.push(command.clone());
        }
        self.bundle_since.get_or_insert_with(Instant::now);
        match (&event, self.bundle.last_mut()) {
            (Event::Text { text }, Some(Append { event: Event::Text { text: last }, .. })) => {
                self.bundle_chars += text.len();
                last.push_str(text);
            }
            _ => {
                if let Event::Text { text } = &event {
                    self.bundle_chars += text.len();
                }
                self.bundle.push(Append { at, event });
            }
        }
    }

    /// Writes the bundle.
    async fn flush(&mut self) -> Result<(), Error> {
        if self.bundle.is_empty() {
            return Ok(());
        }
        let bundle = std::mem::take(&mut self.bundle);
        let written = bundle.len();
        let lease = &self.work.lease;
        let args = (lease.ticket.clone(), lease.until(self.salon), self.turn.id.clone(), self.last, bundle);
        self.work
            .write(self.salon, args, |tx, (ticket, until, turn, last, bundle)| {
                Box::pin(async move {
                    let held = tx.hold(ticket, *until).await?;
                    tx.start_turn(&held, turn).await?;
                    hear(tx, &held, bundle).await?;
                    tx.append_after(&held, turn, *last, bundle).await
                })
            })
            .await?;
        self.last += written as i64;
        self.bundle_chars = 0;
        self.bundle_since = None;
        Ok(())
    }

    async fn finish(mut self, outcome: Result<(), EngineError>, fare: Option<Fare>) -> Result<Next, Error> {
        let (terminal, state, error) = match outcome {
            Ok(()) => (Event::Done, TurnState::Done, None),
            Err(EngineError::Stopped) => (Event::Stopped, TurnState::Stopped, None),
            Err(EngineError::Failed { code, message }) => {
                self.salon.metrics.count(
                    self.work.job.bot.as_ref().map_or("", |bot| bot.as_str()),
                    &format!("provider_run_failed.{}", self.turn.engine),
                );
                (Event::Failed { code: code.to_owned(), message: message.clone() }, TurnState::Failed, Some(message))
            }
        };
        self.push(terminal);
        if let Some(fare) = fare {
            fare.settle(&self.reply.usage).await;
        }
        let charges = self.tab.close().await;
        let now = self.salon.clock.now();
        let happened = Happened {
            question: &self.turn.question,
            answer: &self.reply.text,
            error: error.as_deref(),
            commands: &self.commands,
        };
        let summary = match state {
            TurnState::Stopped => self.dialog.summary.clone(),
            _ => roll(&self.dialog.summary, happened),
        };
        let end = End {
            finished: Finished {
                turn: self.turn.id.clone(),
                state,
                answer: std::mem::take(&mut self.reply.text),
                usage: self.reply.usage.clone(),
                error,
                now,
            },
            bundle: std::mem::take(&mut self.bundle),
            dialog: self.dialog.clone(),
            summary,
            engine: self.turn.engine.clone(),
            thread: self.reply.thread.clone(),
            noted: self.reply.thread.clone().map(|thread| Thread {
                thread,
                title: self.turn.question.chars().take(TITLE_CHARS).collect(),
                used_at: now,
            }),
            last: self.last,
            charges: charges.posting(),
        };
        fail_point!("run.before_finish");
        let args = (self.work.lease.ticket.clone(), self.work.lease.until(self.salon), end);
        self.work
            .write(self.salon, args, |tx, (ticket, until, end)| {
                Box::pin(async move {
                    let held = tx.hold(ticket, *until).await?;
                    let now = end.finished.now;
                    hear(tx, &held, &end.bundle).await?;
                    tx.append_after(&held, &end.finished.turn, end.last, &end.bundle).await?;
                    tx.finish_turn(&held, &end.finished).await?;
                    tx.remember(&end.dialog.id, &end.summary, &end.engine, end.thread.as_deref(), now).await?;
                    if let Some(thread) = &end.noted {
                        tx.note_thread(&held, &end.dialog.id, &end.engine, thread).await?;
                    }
                    // Behind what only this turn's writers touch: everybody's accounts are locked from here on.
                    end.charges.write(tx).await?;
                    match end.finished.state {
                        TurnState::Stopped => tx.finish_stopped(held, now).await,
                        _ => tx.finish(held, now).await,
                    }
                })
            })
            .await?;
        charges.written();
        fail_point!("run.after_finish");
        Ok(Next::Ended)
    }
}

/// What the engine was told and heard waits no more.
async fn hear(tx: &mut Tx, held: &Held, bundle: &[Append]) -> Result<(), Error> {
    for Append { at, event } in bundle {
        if let Event::Note(Note::Steered { steer, .. }) = event {
            tx.finish_unclaimed(held, &JobId::new(steer.as_str()), *at).await?;
        }
    }
    Ok(())
}

/// What the last transaction of a run writes.
#[derive(Clone)]
struct End {
    finished: Finished,
    bundle: Vec<Append>,
    dialog: Dialog,
    summary: String,
    engine: String,
    thread: Option<String>,
    /// The same for those who look for it later.
    noted: Option<Thread>,
    last: i64,
    charges: Posting,
}

enum Heard {
    Ended(Result<(), EngineError>),
    /// The process wants to end, and the engine was not ready in time.
    Closing,
}

/// An engine's task; dropping this ends it.
struct Engaged(JoinHandle<Result<(), EngineError>>);

impl Drop for Engaged {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
