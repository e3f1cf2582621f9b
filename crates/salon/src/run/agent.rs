//! A turn that a coding agent answers: a process in a cell, whose calls of models come to the relay by a door of its own.
//!
//! ```text
//!  errand ─► cell ─► line ─► steps ─► events             the agent's words become the turn's log
//!             │ ▲                └──► ask ─► a person    what it wants to be allowed waits for an answer
//!             │ └──── line ◄─────────────────┘
//!             └─► door ─► relay ─► ledger                what it asks of models is a call like any other
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use salon_core::brief::Role;
use salon_core::failure;
use salon_core::{AskId, Brief, Dialog, Event, FileId, KeptFile, LeftFile, Note, OrgId, Stamped, TurnId, Usage};
use salon_engine::agent::{Ask, Door, Errand, Maker, Policy, Step, Talk, Verdict, WORKSPACE};
use salon_engine::sandbox::artifacts::{Caps, Refused, collect};
use salon_engine::sandbox::{Cell, Confined, How, Show};
use salon_engine::workspace::{Hold, Workspace};
use salon_engine::{Emitter, Engine, EngineError};
use salon_store::{AskState, Result, StoredFile};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::fare::Asker;
use super::named::{Named, named};
use crate::Salon;
use crate::agents::{Agent, Agents, ENVIRONMENT, Pass};
use crate::audit::{self, Action, Actor, Deed};
use crate::ledger::Book;
use crate::steer::Steer;

/// How long somebody may think about what an agent wants.
const THINKING: Duration = Duration::from_secs(10 * 60);
/// What is delivered of one run.
const CAPS: Caps = Caps { files: 10, file_bytes: 20 << 20, all_bytes: 100 << 20 };
/// How often a folder is asked for in which somebody else is at work, and how many times.
const HOLD_EVERY: Duration = Duration::from_millis(500);
const HOLDS: usize = 20;
/// Files whose names the log keeps of those that are not delivered.
const KEPT_BACK: usize = 20;
/// How often an answer, or something that the agent is to be told, is looked for that nobody told us of.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Tokens by which an agent's count and the ledger's may differ without a word.
const SLACK: i64 = 20_000;
/// How long an agent that has said everything may take to end.
const FAREWELL: Duration = Duration::from_secs(5);
/// What an earlier attempt left behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Remains {
    /// Whether something was done that must not be done again unasked.
    pub acted: bool,
    /// The thread that it was in.
    pub thread: Option<String>,
    /// What it was told on the way, and heard.
    pub heard: Vec<String>,
}

impl Remains {
    pub fn of(log: &[Stamped]) -> Remains {
        let mut remains = Remains::default();
        for stamped in log {
            match &stamped.event {
                Event::Note(Note::CommandStarted { .. } | Note::CommandCompleted { .. } | Note::FileChanged { .. }) => {
                    remains.acted = true;
                }
                Event::Note(Note::Steered { text, .. }) => remains.heard.push(text.clone()),
                Event::Started { thread: Some(thread), .. } | Event::Thread { id: thread } => {
                    remains.thread = Some(thread.clone());
                }
                _ => {}
            }
        }
        remains
    }
}

/// The engine of one turn.
pub(super) struct Errands {
    salon: Arc<Salon>,
    agents: Arc<Agents>,
    agent: Arc<Agent>,
    turn: TurnId,
    attempt: i64,
    org: String,
    dialog: Dialog,
    maker: Arc<dyn Maker>,
    policy: Policy,
    /// Whether it does not ask because somebody said so, which is never for long.
    trusted: bool,
    model: Option<String>,
    book: Book,
    asker: Mutex<Option<Asker>>,
}

impl Errands {
    pub fn new(
        salon: &Arc<Salon>,
        agents: &Arc<Agents>,
        agent: &Arc<Agent>,
        book: &Book,
        asker: Asker,
        dialog: &Dialog,
        attempt: i64,
    ) -> Errands {
        let policy = agents.policy(agent, dialog);
        let trusted = dialog.chosen.trusted_until.is_some_and(|until| until > salon.clock.now());
        Errands {
            salon: salon.clone(),
            agents: agents.clone(),
            agent: agent.clone(),
            turn: asker.asking.turn.clone(),
            attempt,
            org: asker.caller.org.to_string(),
            dialog: dialog.clone(),
            maker: agent.maker(policy).clone(),
            policy: if trusted { Policy::Full } else { policy },
            trusted,
            model: dialog.chosen.model.clone().or_else(|| agent.model.clone()),
            book: book.clone(),
            asker: Mutex::new(Some(asker)),
        }
    }

    /// Where it works, remembered as it is before anything is done there.
    async fn place(&self, out: &Emitter) -> std::result::Result<(Workspace, Hold), EngineError> {
        for _ in 0..HOLDS {
            let (agents, org, dialog) = (self.agents.clone(), self.org.clone(), self.dialog.clone());
            let placed = tokio::task::spawn_blocking(move || {
                let place = agents.place(&org, &dialog)?;
                let Some(hold) = place.hold()? else { return Ok(None) };
                place.snapshot()?;
                Ok::<_, io::Error>(Some((place, hold)))
            });
            match placed.await.map_err(|_| broken())? {
                Ok(Some(placed)) => return Ok(placed),
                Ok(None) => {}
                Err(error) => return Err(self.unplaced(&error)),
            }
            tokio::select! {
                () = out.stopped() => return Err(EngineError::Stopped),
                () = tokio::time::sleep(HOLD_EVERY) => {}
            }
        }
        Err(EngineError::failed("agent_folder_busy", failure::written("agent_folder_busy", "")))
    }

    /// Why there is no place to work in.
    fn unplaced(&self, error: &io::Error) -> EngineError {
        let code = match (error.kind(), &self.dialog.chosen.project) {
            (io::ErrorKind::QuotaExceeded, _) => "agent_folder_full",
            (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, Some(_)) => "agent_folder_gone",
            _ => return away(error),
        };
        tracing::warn!(turn.id = %self.turn, %error, "an agent has no folder to work in");
        EngineError::failed(code, failure::written(code, ""))
    }

    /// Whether it still need not ask: its time may be over, or somebody may have taken the word back.
    async fn is_trusted(&self) -> std::result::Result<bool, EngineError> {
        let found = async { self.salon.store.read().await?.find_dialog(&self.dialog.id).await };
        let found = found.await.map_err(|error| away(&error))?;
        let until = found.and_then(|dialog| dialog.chosen.trusted_until);
        Ok(until.is_some_and(|until| until > self.salon.clock.now()))
    }

    /// Opens the door and starts the process.
    async fn start(&self, brief: &Brief, place: &Workspace) -> std::result::Result<Begun, EngineError> {
        if !self.agent.keeps(self.policy) {
            return Err(EngineError::failed("agent_cannot_ask", failure::written("agent_cannot_ask", "")));
        }
        let asker = self.asker.lock().unwrap_or_else(PoisonError::into_inner).take();
        let asker = asker.ok_or_else(broken)?;
        let porter = self.agents.porter().ok_or_else(broken)?;
        let sandbox = self.agents.sandbox().ok_or_else(broken)?;
        let asking = crate::relay::Asking { run: true, ..asker.asking };
        let (pass, dearth) = Pass::new(asker.caller, asking, self.agents.hosts(&self.agent, &self.dialog));
        let port = sandbox.door_port();
        let door = Door { port, key: pass.key().clone() };
        let looks = self.policy == Policy::ReadOnly;
        let errand = Errand {
            prompt: prompt(brief),
            thread: brief.thread.clone(),
            model: self.model.clone(),
            policy: self.policy,
            held: looks && sandbox.is_tight(),
            door,
        };
        let launch = self.maker.launch(&errand)?;
        let socket = self.agents.socket(&self.turn, self.attempt).map_err(|error| away(&error))?;
        let closing = CancellationToken::new();
        let proxy = pass.proxy(port);
        let opened = porter.open(&socket.0, Arc::new(pass), closing.clone()).await;
        opened.map_err(|error| away(&error))?;
        let mut env = [launch.env, proxy].concat();
        for (name, value) in ENVIRONMENT {
            if !env.iter().any(|(known, _)| known == name) {
                env.push((name.to_owned(), value.to_owned()));
            }
        }
        let cell = Cell {
            args: self.agent.before.iter().cloned().chain(launch.args).collect(),
            env,
            files: launch.files,
            shows: self.agent.show.iter().cloned().map(Show::there).collect(),
            door: Some((socket.0.clone(), port)),
            looks,
            ..Cell::new(&self.agent.program, place.home.clone(), place.work.clone())
        };
        let confined = sandbox.start(cell).await.map_err(|error| away(&error))?;
        let talk = self.maker.talk(&errand);
        Ok(Begun { confined, talk, dearth, _socket: socket, _closing: closing.drop_guard() })
    }

    /// Answers what was said, and what it took by the agent's own count.
    async fn work(&self, mut run: Begun, out: &mut Emitter) -> std::result::Result<Said, EngineError> {
        let mut state = AtWork {
            errands: self,
            asks: BTreeMap::new(),
            allowed: HashSet::new(),
            told: BTreeMap::new(),
            said: Said::default(),
            finished: None,
        };
        let steers = self.agent.steers();
        let mut woken = self.salon.hub.turn(&self.turn);
        let mut looked_for = None;
        let first = run.talk.open();
        state.take(first, &mut run, out).await?;
        loop {
            // It stays where it is while lines come: an agent that talks on must not keep an answer from being found.
            let look_at = match state.asks.is_empty() && !steers && !self.trusted {
                true => None,
                false => Some(*looked_for.get_or_insert_with(|| Instant::now() + LOOK_EVERY)),
            };
            tokio::select! {
                biased;
                () = out.stopped() => {
                    let last = run.talk.stop();
                    for step in last {
                        if let Step::Write(line) = step {
                            run.confined.write(&line).await;
                        }
                    }
                    run.confined.stop().await;
                    return Err(EngineError::Stopped);
                }
                Some(words) = run.dearth.recv() => {
                    run.confined.stop().await;
                    return Err(EngineError::failed("over_limit", words));
                }
                () = wait(look_at) => {
                    looked_for = None;
                    state.look(&mut run, out).await?;
                }
                line = run.confined.next() => match line {
                    Some(line) => {
                        let steps = run.talk.hear(&line.text);
                        state.take(steps, &mut run, out).await?;
                    }
                    None => break,
                },
                () = wait(state.finished) => {
                    run.confined.stop().await;
                    break;
                }
                Ok(()) = woken.changed(), if look_at.is_some() => state.look(&mut run, out).await?,
            }
        }
        let ended = run.confined.ended().await;
        match ended.how {
            How::Exit(_) | How::Signal(_) | How::Stopped => {
                run.talk.ended(ended.code, &ended.errors).map(|()| state.said)
            }
            how => Err(EngineError::failed("agent_ended", failure::written("agent_ended", &how.to_string()))),
        }
    }

    /// Hands over what the agent left for people: what is new or changed in its out folder, and what its answer names.
    async fn deliver(&self, place: Workspace, said: String, out: &mut Emitter) -> std::result::Result<(), EngineError> {
        let gathered = match tokio::task::spawn_blocking(move || gather(&place, &named(&said))).await {
            Ok(Ok(gathered)) => gathered,
            Ok(Err(error)) => {
                tracing::warn!(turn.id = %self.turn, %error, "an agent's files could not be gathered");
                let why = if error.kind() == io::ErrorKind::QuotaExceeded { "too_large" } else { "unreadable" };
                let out_folder = KeptFile { name: "out".to_owned(), why: why.to_owned() };
                return self.keep_back(vec![out_folder], 0, out).await;
            }
            Err(_) => return Err(broken()),
        };
        let Gathered { files, refused, more } = gathered;
        self.account(&refused).await;
        let kept = |name: String, why: &str| KeptFile { name, why: why.to_owned() };
        let mut kept_back: Vec<KeptFile> = refused.into_iter().map(|(name, why)| kept(name, why.as_str())).collect();
        for (name, media, data) in files {
            let id = FileId::new(self.salon.clock.id());
            let (size, media) = (data.len() as i64, media.to_owned());
            let left = LeftFile { id: id.to_string(), name: name.clone(), media: media.clone(), size };
            let stored = StoredFile { id, turn: self.turn.clone(), name, media, data };
            let args = (stored, self.salon.clock.now());
            let written = self
                .salon
                .store
                .write(args, |tx, (file, now)| Box::pin(async move { tx.add_file(file, *now).await }))
                .await;
            match written {
                Ok(()) => out.file(left).await?,
                Err(error) => {
                    tracing::warn!(turn.id = %self.turn, %error, "an agent's file could not be kept");
                    kept_back.push(kept(left.name, "not_stored"));
                }
            }
        }
        self.keep_back(kept_back, more, out).await
    }

    /// Tells of files that nobody gets, if there are any.
    async fn keep_back(
        &self,
        mut files: Vec<KeptFile>,
        more: usize,
        out: &mut Emitter,
    ) -> std::result::Result<(), EngineError> {
        let more = (more + files.len().saturating_sub(KEPT_BACK)) as i64;
        files.truncate(KEPT_BACK);
        match files.is_empty() && more == 0 {
            true => Ok(()),
            false => out.note(Note::KeptBack { files, more }).await,
        }
    }

    /// Writes down how many files were refused, and why. What is merely not there was not refused.
    async fn account(&self, refused: &[(String, Refused)]) {
        let refused: Vec<Refused> =
            refused.iter().map(|(_, why)| *why).filter(|why| *why != Refused::Missing).collect();
        if refused.is_empty() {
            return;
        }
        let mut detail = json!({ "engine": self.agent.name, "files": refused.len() });
        for why in refused.iter().collect::<BTreeSet<_>>() {
            detail[why.as_str()] = Value::from(refused.iter().filter(|other| *other == why).count());
        }
        let deed = Deed::new(Action::FilesRefused, &OrgId::new(self.org.as_str()), &self.turn);
        let args = (self.salon.pen(Actor::Salon), deed.with(detail).ended("refused"));
        let noted = self
            .salon
            .store
            .write(args, |tx, (pen, deed)| Box::pin(async move { audit::note(tx, pen, deed.clone()).await }));
        if let Err(error) = noted.await {
            tracing::error!(turn.id = %self.turn, %error, "it cannot be written down that files were refused");
        }
    }

    /// What the run took of models, by the ledger.
    async fn usage(&self) -> Option<Usage> {
        self.book.flush().await.ok();
        let used = async { self.salon.store.read().await?.usage_of_run(self.turn.as_str()).await };
        match used.await {
            Ok(used) if used.calls > 0 => Some(Usage {
                model: self.model.clone().or_else(|| Some(self.agent.name.clone())),
                tokens_in: used.tokens.read(),
                tokens_out: used.tokens.written(),
                estimated: used.estimated > 0,
                suspect: used.suspect > 0,
            }),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(turn.id = %self.turn, %error, "what a run took cannot be read");
                None
            }
        }
    }
}

#[async_trait]
impl Engine for Errands {
    async fn answer(&self, brief: &Brief, out: &mut Emitter) -> std::result::Result<(), EngineError> {
        let (place, _hold) = self.place(out).await?;
        let run = self.start(brief, &place).await?;
        let worked = self.work(run, out).await;
        // Whatever became of it, what it asked of models is paid for.
        let usage = self.usage().await;
        if let Some(usage) = &usage {
            out.usage(usage.clone()).await?;
        }
        let Said { text, took } = worked?;
        if let (Some(took), Some(usage)) = (took, usage)
            && differ(&took, &usage)
        {
            tracing::warn!(
                turn.id = %self.turn, agent = self.agent.name,
                agent.tokens_in = took.tokens_in, agent.tokens_out = took.tokens_out,
                tokens_in = usage.tokens_in, tokens_out = usage.tokens_out,
                "an agent counts what it took quite otherwise than the ledger"
            );
        }
        self.deliver(place, text, out).await
    }
}

/// What came of a run.
#[derive(Default)]
struct Said {
    text: String,
    took: Option<Usage>,
}

/// Whether two counts are too far from each other: what an agent asks on the side, it may or may not count.
fn differ(one: &Usage, other: &Usage) -> bool {
    let far = |one: i64, other: i64| {
        let (less, more) = (one.min(other), one.max(other));
        more > less.saturating_mul(2).saturating_add(SLACK)
    };
    let known = !one.suspect && !other.suspect && !other.estimated;
    known && (far(one.tokens_in, other.tokens_in) || far(one.tokens_out, other.tokens_out))
}

/// What is to be delivered of a run: each file with its name, its media type and its bytes; and what is not.
struct Gathered {
    files: Vec<(String, &'static str, Vec<u8>)>,
    refused: Vec<(String, Refused)>,
    more: usize,
}

fn gather(place: &Workspace, named: &[Named]) -> io::Result<Gathered> {
    let changed: HashSet<PathBuf> = place.changed()?.iter().map(|change| change.path().to_owned()).collect();
    let inside = |path: &Path| path.strip_prefix(WORKSPACE).unwrap_or(path).to_owned();
    // A link may point at what was always there; a file is sent when the run made it, or says that it is to be shown.
    let named: Vec<PathBuf> = named
        .iter()
        .map(|named| (inside(&named.path), named.shown))
        .filter(|(path, shown)| *shown || changed.contains(path))
        .map(|(path, _)| path)
        .collect();
    let left = collect(&place.work, &|path| changed.contains(path), &named, CAPS)?;
    let mut gathered = Gathered { files: Vec::new(), refused: left.refused, more: left.more };
    for mut artifact in left.artifacts {
        match artifact.read() {
            Ok(data) => gathered.files.push((artifact.name, artifact.media, data)),
            Err(_) => gathered.refused.push((artifact.name, Refused::Unreadable)),
        }
    }
    Ok(gathered)
}

/// A run under way. Dropping it ends the process and closes the door.
struct Begun {
    confined: Confined,
    talk: Box<dyn Talk>,
    dearth: mpsc::Receiver<String>,
    _socket: Socket,
    _closing: DropGuard,
}

/// A socket's path; dropping it removes the socket.
pub(crate) struct Socket(pub PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// What a run waits for.
struct AtWork<'a> {
    errands: &'a Errands,
    /// The agent's questions that nobody has answered, by our names for them.
    asks: BTreeMap<String, Ask>,
    /// What was allowed for the rest of the run.
    allowed: HashSet<String>,
    /// What the agent was told while it was at work, heard or not, by the names of the jobs that brought it.
    told: BTreeMap<String, String>,
    said: Said,
    /// When an agent that has said everything is ended.
    finished: Option<Instant>,
}

impl AtWork<'_> {
    async fn take(
        &mut self,
        steps: Vec<Step>,
        run: &mut Begun,
        out: &mut Emitter,
    ) -> std::result::Result<(), EngineError> {
        let mut steps = std::collections::VecDeque::from(steps);
        while let Some(step) = steps.pop_front() {
            match step {
                // A process that has ended reads nothing; how it ended is told elsewhere.
                Step::Write(line) => run.confined.write(&line).await,
                Step::CloseInput => run.confined.close_input().await,
                Step::Text(text) => {
                    self.said.text.push_str(&text);
                    out.text(text).await?;
                }
                Step::Note(note) => out.note(note).await?,
                Step::Thread(id) => out.thread(id).await?,
                // What it took is known better here than there; only if the two differ much, somebody should look.
                Step::Usage(took) => self.said.took = Some(took),
                Step::Ask(ask) if self.allowed.contains(&ask.what) => {
                    steps.extend(run.talk.decide(&ask.id, Verdict::Session));
                }
                Step::Ask(ask) => self.ask(ask, run, out).await?,
                Step::Steered { steer, heard: true } => {
                    let text = self.told.get(&steer).cloned().unwrap_or_default();
                    out.note(Note::Steered { steer, text }).await?;
                }
                // It waits where it is, and is asked when the run is over.
                Step::Steered { heard: false, .. } => {}
                Step::Finished => self.finished = self.finished.or(Some(Instant::now() + FAREWELL)),
            }
        }
        Ok(())
    }

    /// Puts a question to people.
    async fn ask(&mut self, ask: Ask, run: &mut Begun, out: &mut Emitter) -> std::result::Result<(), EngineError> {
        let salon = &self.errands.salon;
        let (id, now) = (AskId::new(salon.clock.id()), salon.clock.now());
        let until = now + THINKING;
        let args = (id.clone(), self.errands.turn.clone(), now, until);
        salon
            .store
            .write(args, |tx, (id, turn, now, until)| Box::pin(async move { tx.add_ask(id, turn, *now, *until).await }))
            .await
            .map_err(|error| away(&error))?;
        let (title, detail, lines) = (ask.title.clone(), ask.detail.clone(), ask.lines.clone());
        self.asks.insert(id.to_string(), ask);
        run.confined.hold(true);
        out.note(Note::Asked { ask: id.to_string(), title, detail, until_ms: Some(until.0), lines }).await
    }

    /// Looks for what people said: answers to what was asked, and what the agent is to be told.
    async fn look(&mut self, run: &mut Begun, out: &mut Emitter) -> std::result::Result<(), EngineError> {
        if !self.asks.is_empty() {
            self.answers(run, out).await?;
        }
        if self.errands.trusted && !self.errands.is_trusted().await? {
            run.confined.stop().await;
            return Err(EngineError::failed("agent_trust_over", failure::written("agent_trust_over", "")));
        }
        if !self.errands.agent.steers() || !run.talk.can_steer() {
            return Ok(());
        }
        let waiting = async {
            let mut tx = self.errands.salon.store.read().await?;
            tx.list_open(&crate::say::lane(&self.errands.dialog.id)).await
        };
        for job in waiting.await.map_err(|error| away(&error))? {
            let Some(Steer { text, .. }) = Steer::of(&job, &self.errands.turn) else { continue };
            let name = job.ticket.job.to_string();
            if self.told.contains_key(&name) || !run.talk.can_steer() {
                continue;
            }
            self.told.insert(name.clone(), text.clone());
            let steps = run.talk.steer(&name, &text);
            self.take(steps, run, out).await?;
        }
        Ok(())
    }

    /// Looks which questions were answered, and tells the agent.
    async fn answers(&mut self, run: &mut Begun, out: &mut Emitter) -> std::result::Result<(), EngineError> {
        let salon = &self.errands.salon;
        let ids: Vec<String> = self.asks.keys().cloned().collect();
        for id in ids {
            let found = look(salon, &AskId::new(id.as_str())).await.map_err(|error| away(&error))?;
            let Some((state, by)) = found else { continue };
            let Some(ask) = self.asks.remove(&id) else { continue };
            run.confined.hold(!self.asks.is_empty());
            let verdict = match state {
                AskState::Once => Verdict::Once,
                AskState::Session => Verdict::Session,
                AskState::Open | AskState::Deny | AskState::Expired => Verdict::Deny,
            };
            if verdict == Verdict::Session {
                self.allowed.insert(ask.what.clone());
            }
            out.note(Note::Answered { ask: id, verdict: state.as_str().to_owned(), by }).await?;
            let steps = run.talk.decide(&ask.id, verdict);
            self.take(steps, run, out).await?;
        }
        Ok(())
    }
}

/// How a question was answered; `None` as long as it was not and there is time. Silence becomes no here.
async fn look(salon: &Salon, id: &AskId) -> Result<Option<(AskState, Option<String>)>> {
    let Some(ask) = salon.store.read().await?.find_ask(id).await? else {
        return Ok(Some((AskState::Expired, None)));
    };
    let now = salon.clock.now();
    match ask.state {
        AskState::Open if ask.expires_at > now => Ok(None),
        AskState::Open => {
            let args = (ask, now);
            let expired = salon.store.write(args, |tx, (ask, now)| {
                Box::pin(async move { tx.answer_ask(ask, AskState::Expired, None, *now).await })
            });
            // Somebody may have been faster by a hair; then the next look finds it.
            Ok(expired.await?.then_some((AskState::Expired, None)))
        }
        state => Ok(Some((state, ask.by))),
    }
}

/// What the agent is told: its own thread knows what was said before, and without one the summary does.
fn prompt(brief: &Brief) -> String {
    let mut parts = Vec::new();
    if !brief.instructions.is_empty() {
        parts.push(brief.instructions.clone());
    }
    if brief.thread.is_none() && !brief.history.is_empty() {
        let mut earlier = "[Earlier in this conversation]".to_owned();
        for message in &brief.history {
            let who = match message.role {
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            earlier.push_str(&format!("\n{who}: {}", message.text));
        }
        parts.push(earlier);
    }
    if parts.is_empty() {
        return brief.question.clone();
    }
    parts.push(format!("[User Message]\n{}", brief.question));
    parts.join("\n\n")
}

fn broken() -> EngineError {
    EngineError::failed("engine_fault", "The engine broke down.")
}

fn away(error: &dyn std::fmt::Display) -> EngineError {
    tracing::error!(%error, "an agent cannot be run");
    EngineError::failed("agent_unavailable", "The agent cannot be started here now.")
}

async fn wait(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use salon_core::Lang;

    use super::*;

    #[test]
    fn how_an_agent_was_ended_is_said_in_every_language() {
        for how in [How::TimedOut, How::Idle, How::Flood, How::Memory, How::Disk, How::Lost, How::Signal(9)] {
            let written = failure::written("agent_ended", &how.to_string());
            assert_eq!(failure::said(Lang::En, "agent_ended", &written), written);
            for lang in [Lang::Ko, Lang::Ru] {
                let told = failure::said(lang, "agent_ended", &written);
                assert!(!told.chars().any(|c| c.is_ascii_alphabetic()), "{how}: {told}");
            }
        }
    }

    #[test]
    fn counts_differ_when_one_is_more_than_twice_the_other_and_then_some() {
        let took = |tokens_in, tokens_out| Usage { tokens_in, tokens_out, ..Usage::default() };
        assert!(!differ(&took(100, 10), &took(15_000, 900)));
        assert!(!differ(&took(100_000, 10), &took(190_000, 10)));
        assert!(differ(&took(100_000, 10), &took(500_000, 10)) && differ(&took(1, 90_000), &took(1, 10)));
        assert!(!differ(&took(i64::MAX, 1), &took(i64::MAX, 1)));
        let suspect = Usage { suspect: true, ..took(500_000, 10) };
        assert!(!differ(&took(1, 1), &suspect));
    }
}
