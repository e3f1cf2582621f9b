//! The house: everything wired together, opened and closed in order.

mod doors;

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use salon::agents::{Agents, Installed, Pass, Porter, mark};
use salon::audit::anchors::Anchors;
use salon::catalog::Catalog;
use salon::crowd::Crowd;
use salon::engines::{Answers, Choice};
use salon::idempotency::Requests;
use salon::ledger::{Book, BookSettings};
use salon::logins::oidc::SignOn;
use salon::relay::{Batches, Cache, Relay, RelaySettings};
use salon::run::RunTurn;
use salon::vault::rotate::SHOW_EVERY;
use salon::youtube::YouTube;
use salon::{Clock, Configured, Crew, Engines, Queue, Salon};
use salon_bots::{Fleet, Source};
use salon_core::Tariff;
use salon_engine::agent::acp::{Acp, Entry};
use salon_engine::agent::claude::Claude;
use salon_engine::agent::claude_asks::ClaudeAsks;
use salon_engine::agent::codex::Codex;
use salon_engine::agent::codex_server::CodexServer;
use salon_engine::agent::gemini::Gemini;
use salon_engine::agent::{Maker, Policy};
use salon_engine::outbound::Outbound;
use salon_engine::sandbox::{Sandbox, Settings};
use salon_engine::{Missing, Spec, build};
use salon_store::{Dialect, Place, Worker};
use salon_web::{Disk, Probed, Shared, Web};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use doors::FrontDoors;

use crate::config::{AcpConfig, AgentConfig, Config, EngineConfig, MODEL, WorkspacesConfig};
use crate::master::{self, MasterSource};
use crate::office::{Desk, Room, open_data};

/// The folder of the ledger's journal, beside the database that it is in front of.
const JOURNAL: &str = "journal";
const STORY_PACE: Duration = Duration::from_millis(30);
/// Jobs of each queue that may run at once in this process.
const UPDATES_AT_ONCE: usize = 32;
const SHOWN_AT_ONCE: usize = 256;
const POLLERS: usize = 256;
/// Keys of updates are kept this long; Telegram repeats for a day.
const KEEP_JOBS: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often it is looked for sessions that have expired or were deleted.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const CLOCK_EVERY: Duration = Duration::from_secs(60);

/// A running Salon.
pub struct House {
    pub salon: Arc<Salon>,
    pub relay: Arc<Relay>,
    pub fleet: Arc<Fleet>,
    /// Where the listener is, if this process has one.
    pub address: Option<SocketAddr>,
    /// Where the LLM server's own routes are.
    pub llm_address: Option<SocketAddr>,
    crew: Arc<Crew>,
    tasks: JoinSet<()>,
    /// The front doors close first, the rest when the work is done.
    closing: CancellationToken,
    _instance: Option<File>,
}

/// What a test puts in the place of the world: its own time, and engines that do as they are told.
#[derive(Clone, Default)]
pub struct Staged {
    pub clock: Clock,
    /// Beside those of the configuration.
    pub engines: Vec<Configured>,
}

impl House {
    /// Opens everything; when this returns, updates are taken in and answered.
    pub async fn open(config: &Config) -> Result<House> {
        House::open_staged(config, Staged::default()).await
    }

    /// The same with a test's time and engines.
    pub async fn open_staged(config: &Config, staged: Staged) -> Result<House> {
        let (owner, instance) = instance(&config.data, &config.place).await?;
        let clock = staged.clock;
        let (store, keys) = open_data(config, &owner, &clock).await?;
        let jwt = config.jwt.open(&clock).await?;
        let database = mark::name_of(&store, &clock.id()).await?;
        let sandbox = sandbox(config, Some(&database)).await;
        let engines = Engines::new([engines(config, &sandbox)?.all(), &staged.engines].concat());
        let worker = Worker { owner, boot: clock.id(), only: config.only.clone() };
        let salon = Salon::new(store, clock, engines, keys, config.settings.clone(), worker);
        if let Some(jwt) = jwt {
            salon.access.trust(jwt);
        }
        let catalog =
            Catalog::open(salon.store.clone(), salon.clock.clone(), Outbound::new(), config.sources.clone()).await?;
        salon.engines.join(catalog.clone());
        salon.engines.seat(config.panels.clone());
        let fleet = Fleet::new(
            salon.clone(),
            Source {
                path: config.bots_file.clone(),
                around: config.around.clone(),
                only: config.only.clone(),
                intake: config.roles.poll,
            },
        )?;
        if let Some(only) = &config.only
            && fleet.find(only).is_none()
        {
            bail!("there is no bot {only} in {}", config.bots_file.display());
        }
        for bot in fleet.all() {
            if salon.engines.find(&bot.config.engine).is_none() {
                bail!("bot {}: there is no engine {}; see `salon doctor`", bot.id(), bot.config.engine);
            }
        }
        // Whoever has a folder has it for himself.
        let settings = match &config.place {
            Place::Folder(folder) => BookSettings::journaled(folder.join(JOURNAL)),
            Place::Postgres(_) => BookSettings::default(),
        };
        let book = Book::open(salon.store.clone(), salon.clock.clone(), settings).await?;
        let requests = Requests::new(salon.store.clone(), salon.clock.clone(), salon.worker.clone());
        requests.reclaim().await?;
        let anonymous = match config.anonymous {
            true => Some(Arc::new(salon::sessions::anybody(&salon).await?)),
            false => None,
        };
        let settings = RelaySettings { anonymous, ..config.relay.clone() };
        let cache = Cache::open(&salon, settings.cache.clone()).await?;
        let batches = Batches::default();
        // The listener's own bound is the one for all of them.
        let calls = Crowd::new(settings.calls_per_user, usize::MAX);
        let relay = Arc::new(Relay { salon: salon.clone(), catalog, book, requests, cache, batches, calls, settings });
        let crew = Crew::new(salon.clone(), jobs(&fleet, &relay, config)?, queues(config));
        let closing = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let mut llm_address = None;
        let web = Web::from(Shared {
            salon: salon.clone(),
            relay: relay.clone(),
            doors: Arc::new(FrontDoors::new(salon.clone(), fleet.clone(), config)),
            metrics_token: config.metrics_token.clone(),
            messenger: config.messenger.clone(),
            closing: closing.clone(),
            probed: Probed::default(),
            sessions: config.sessions.clone(),
            origins: salon_web::origins(&config.origins)?,
            house: config.house.clone(),
        });
        salon.sign_on.set(SignOn::new(config.providers.clone())).ok();
        let agents = Agents::new(
            config.workspaces.folder.clone(),
            database,
            config.workspaces.projects.clone(),
            doors_of_runs(&salon.worker.boot),
            sandbox.ok(),
        );
        agents.employ(Arc::new(HousePorter { web: web.clone() }));
        salon.agents.set(Arc::new(agents)).ok();
        fleet.tell_agents();
        let address = if config.roles.http {
            let listener = listen_at(config.listen).await?;
            let address = listener.local_addr().context("the listener has no address")?;
            if let Some(listen) = config.llm_listen {
                let listener = listen_at(listen).await?;
                llm_address = Some(listener.local_addr().context("the listener has no address")?);
                tasks.spawn(salon_web::serve::serve(listener, salon_web::llm_router(web.clone()), closing.clone()));
            }
            tasks.spawn(salon_web::serve::serve(listener, salon_web::router(web), closing.clone()));
            Some(address)
        } else {
            None
        };
        let working = crew.clone();
        tasks.spawn(async move { working.work().await });
        tasks.spawn(fleet.clone().supervise(closing.clone()));
        if config.roles.work {
            tasks.spawn(salon_bots::alert::keep(fleet.clone(), salon.clone(), closing.clone()));
        }
        tasks.spawn(keep_house(salon.clone(), relay.clone(), config.sessions.timeout, closing.clone()));
        tasks.spawn(relay.catalog.clone().watch(salon.hub.clone(), closing.clone()));
        let anchors =
            Anchors::open(salon.clone(), config.data.clone()).context("the audit's anchors cannot be read")?;
        tasks.spawn(anchors.keep(closing.clone()));
        tasks.spawn(keep_keys(salon.clone(), config.master.clone(), closing.clone()));
        tasks.spawn({
            let (access, closing) = (salon.access.clone(), closing.clone());
            async move { access.keep(closing).await }
        });
        if let Place::Folder(folder) = &config.place {
            match Desk::open(
                folder,
                Room {
                    salon: salon.clone(),
                    catalog: relay.catalog.clone(),
                    master: config.master.clone(),
                    data: config.data.clone(),
                },
                relay.book.clone(),
            ) {
                Ok(desk) => drop(tasks.spawn(desk.serve(closing.clone()))),
                // The rest of the house works; commands that need the database want it to be closed.
                Err(error) => tracing::warn!(error = format!("{error:#}"), "commands cannot be taken in while we run"),
            }
        }
        Ok(House { salon, relay, fleet, address, llm_address, crew, tasks, closing, _instance: instance })
    }

    /// The address by which the first administrator comes in, once; `None` if there is one, or nobody can come in here.
    pub async fn first_door(&self, config: &Config) -> Result<Option<String>> {
        let Some(address) = self.address else { return Ok(None) };
        let Some(fresh) = self.salon.first_invitation().await? else { return Ok(None) };
        let here = || format!("http://{address}");
        Ok(Some(format!("{}/join/{}", config.house.public_url.clone().unwrap_or_else(here), fresh.word)))
    }

    /// Resolves when a part of the house has ended by itself, which none of them should: better no process than one that
    /// looks alive and hears nothing.
    pub async fn broken(&mut self) {
        match self.tasks.join_next().await {
            Some(Err(error)) => tracing::error!(%error, "a part of the house broke down"),
            Some(Ok(())) => tracing::error!("a part of the house ended by itself"),
            None => std::future::pending().await,
        }
    }

    /// Closes in order: doors, claims, running work, leases, files. Nothing that was accepted is lost.
    pub async fn close(mut self) {
        self.closing.cancel();
        let patience = self.salon.settings.drain + Duration::from_secs(2);
        let left = self.crew.close(patience).await;
        if left > 0 {
            tracing::warn!(jobs = left, "some work did not end in time; its leases will run out");
        }
        tokio::time::timeout(Duration::from_secs(6), async { while self.tasks.join_next().await.is_some() {} })
            .await
            .ok();
        // What calls have cost is written before the store is closed.
        self.relay.book.close().await;
        self.salon.store.clone().close().await;
    }
}

async fn listen_at(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}; is another program there?"))
}

/// This process's lasting name, kept beside the data. A restart under it takes up at once what it left, so no two
/// processes may have the same.
async fn instance(data: &Path, place: &Place) -> Result<(String, Option<File>)> {
    let folder = || format!("the data folder {} cannot be used", data.display());
    make_private_folder(data).with_context(folder)?;
    let path = data.join("instance");
    // SQLite's file has a lock of its own.
    let lock = match place {
        Place::Folder(_) => None,
        Place::Postgres(_) => {
            let file = File::options().create(true).truncate(false).write(true).open(data.join("instance.lock"));
            let file = file.with_context(folder)?;
            // The process before this one may be at its very end: whoever restarts a service does not wait for that.
            let began = Instant::now();
            while file.try_lock().is_err() {
                if began.elapsed() < LOCK_PATIENCE {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                bail!(
                    "another Salon is using the data folder {}; processes that share a database each need their own, \
                     see --data",
                    data.display()
                );
            }
            Some(file)
        }
    };
    let known = std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
    if !known.is_empty() {
        return Ok((known, lock));
    }
    let name = Clock::default().id();
    let mut file = File::create(&path).with_context(folder)?;
    file.write_all(name.as_bytes()).with_context(folder)?;
    Ok((name, lock))
}

fn jobs(fleet: &Arc<Fleet>, relay: &Arc<Relay>, config: &Config) -> Result<Vec<Arc<dyn salon::Job>>> {
    let youtube = YouTube::new(&config.youtube_search, &config.youtube_fallback)?;
    let mut jobs = salon_bots::jobs(fleet, youtube);
    jobs.push(Arc::new(RunTurn { relay: relay.clone() }));
    Ok(jobs)
}

fn queues(config: &Config) -> Vec<Queue> {
    let mut queues = Vec::new();
    if config.roles.work {
        queues.push(Queue { name: salon::QUEUE_CHAT, slots: UPDATES_AT_ONCE });
        queues.push(Queue { name: salon::QUEUE_RUN, slots: config.runs.clamp(1, 1024) });
        queues.push(Queue { name: salon::QUEUE_OUT, slots: SHOWN_AT_ONCE });
    }
    if config.roles.poll {
        queues.push(Queue { name: salon::QUEUE_POLL, slots: POLLERS });
    }
    queues
}

/// Opens doors of runs, at which the relay answers.
struct HousePorter {
    web: Web,
}

#[async_trait]
impl Porter for HousePorter {
    async fn open(&self, path: &Path, pass: Arc<Pass>, closing: CancellationToken) -> std::io::Result<()> {
        salon_web::door::keep(self.web.clone(), path, pass, closing).await
    }
}

/// Where the doors of this process's runs are: in a short path, because a socket's name has room for a hundred bytes.
fn doors_of_runs(boot: &str) -> PathBuf {
    std::env::temp_dir().join(format!("salon-{boot}"))
}

/// Who can answer. Offline engines are always there; the others say why they are not.
pub fn engines(config: &Config, sandbox: &Result<Arc<Sandbox>, String>) -> Result<Engines> {
    let offline = |name: &str, spec: Spec, selectable: bool| Configured {
        name: name.to_owned(),
        answers: Answers::Engine(build(&spec)),
        model: None,
        rates: Tariff::default(),
        installed: true,
        why_not: None,
        selectable,
    };
    let mut list = vec![
        offline("echo", Spec::Echo { prefix: "echo: ".to_owned() }, false),
        offline("parrot", Spec::Echo { prefix: String::new() }, true),
        offline("storyteller", Spec::Storyteller { pace: STORY_PACE }, true),
    ];
    for engine in &config.engines {
        let built_in = list.iter().any(|known| known.name == engine.name)
            || config.agents.iter().any(|agent| agent.name == engine.name);
        ensure!(!built_in, "[engines.{}]: that name is taken by an engine that is always there", engine.name);
        list.push(model(engine));
    }
    if !config.engines.iter().any(|engine| engine.name == MODEL) {
        let message = "No model is configured. Set OPENAI_API_KEY (and OPENAI_BASE_URL for another server), or \
                       LLM_SERVER_URL for one of your own, and start Salon again. Until then /mode storyteller answers.";
        list.push(Configured {
            name: MODEL.to_owned(),
            answers: Answers::Engine(build(&Spec::Missing { code: "no_model", message: message.to_owned() })),
            model: None,
            rates: Tariff::default(),
            installed: false,
            why_not: Some("no model is configured".to_owned()),
            selectable: true,
        });
    }
    for agent in &config.agents {
        list.push(agent_engine(agent, &config.workspaces, sandbox));
    }
    Ok(Engines::new(list))
}

/// A model of the catalog under the name that the configuration gives it.
fn model(engine: &EngineConfig) -> Configured {
    let model = match &engine.choice {
        Choice::Named(name) => Some(name.clone()),
        Choice::FirstOf(_) => None,
    };
    Configured {
        name: engine.name.clone(),
        answers: Answers::Model(engine.choice.clone()),
        model,
        rates: Tariff::default(),
        installed: true,
        why_not: None,
        selectable: true,
    }
}

/// The cell that agents are run in, or why there is none. Without the name of a database nobody asks whose folder it is.
pub async fn sandbox(config: &Config, database: Option<&str>) -> Result<Arc<Sandbox>, String> {
    if config.agents.iter().all(|agent| agent.program.is_none()) {
        return Err("no agent is installed".to_owned());
    }
    let folder = &config.workspaces.folder;
    match database.map_or(Ok(true), |database| mark::claim(folder, database)) {
        Ok(true) => {}
        Ok(false) => {
            let lack = format!(
                "the folder {} is used by a Salon with another database; name one of your own, see [workspaces]",
                folder.display()
            );
            tracing::error!(lack, "agents are not run");
            return Err(lack);
        }
        Err(error) => return Err(format!("the folder {} cannot be used: {error}", folder.display())),
    }
    let settings = Settings {
        bwrap: config.workspaces.bwrap.clone(),
        shim: config.workspaces.shim.clone(),
        folder: config.workspaces.folder.join(".cells"),
    };
    if config.workspaces.bare {
        tracing::warn!("agents are run WITHOUT A SANDBOX, as the configuration says: they can do whatever we can");
        return Ok(Arc::new(Sandbox::none(settings)));
    }
    match Sandbox::probe(settings).await {
        Ok(sandbox) => Ok(Arc::new(sandbox)),
        Err(lack) => {
            tracing::warn!(%lack, "agents are not run, because there is no sandbox for them");
            Err(lack.to_string())
        }
    }
}

/// A coding agent. It is run in a sandbox, or not at all unless somebody says so.
fn agent_engine(
    agent: &AgentConfig,
    workspaces: &WorkspacesConfig,
    sandbox: &Result<Arc<Sandbox>, String>,
) -> Configured {
    let name = &agent.name;
    let configured = |answers: Answers, installed: bool, why_not: Option<String>| Configured {
        name: name.clone(),
        answers,
        model: agent.model.clone(),
        rates: Tariff::default(),
        installed,
        why_not,
        selectable: true,
    };
    let missing = |missing: Missing, why: Option<String>| {
        let installed = why.is_some();
        configured(Answers::Engine(Arc::new(missing)), installed, why)
    };
    let Some(program) = &agent.program else { return missing(Missing::executable(name), None) };
    if let Err(lack) = sandbox {
        let message = format!("provider={name} is installed but is not run without a sandbox: {lack}");
        return missing(Missing { code: "no_sandbox", message }, Some(format!("not run: {lack}")));
    }
    let installed = match Installed::find(program, &workspaces.path) {
        Ok(installed) => installed,
        Err(error) => {
            let message = format!("provider={name} cannot be run: {error}");
            return missing(Missing { code: "agent_unusable", message }, Some(format!("not run: {error}")));
        }
    };
    let found = salon::agents::Agent {
        name: name.clone(),
        maker: maker(agent, Policy::Workspace),
        asking: maker(agent, Policy::Ask),
        program: installed.program,
        before: installed.before,
        show: [installed.show, agent.show.clone()].concat(),
        model: agent.model.clone(),
        policy: agent.policy,
        hosts: agent.hosts.clone(),
        steer: agent.steer,
    };
    let bare = workspaces.bare.then(|| "runs WITHOUT A SANDBOX".to_owned());
    configured(Answers::Agent(Arc::new(found)), true, bare)
}

/// How an agent is talked to under a policy. Those that can ask, or be told more, are talked to in another way where they are
/// to.
pub(crate) fn maker(agent: &AgentConfig, policy: Policy) -> Arc<dyn Maker> {
    let asks = policy == Policy::Ask;
    let talks = asks || agent.steer;
    if let Some(acp) = &agent.acp {
        let AcpConfig { args, model_args, env, ask_mode: ask, read_only_mode: read_only, silent } = acp.clone();
        return Arc::new(Acp::new(Entry { args, model_args, env, ask, read_only, silent, ..Entry::default() }));
    }
    match agent.name.as_str() {
        "codex" if talks => Arc::new(CodexServer),
        "codex" => Arc::new(Codex),
        "claude" if talks => Arc::new(ClaudeAsks),
        "claude" => Arc::new(Claude),
        "gemini" if asks => Arc::new(Acp::gemini()),
        "gemini" => Arc::new(Gemini),
        "goose" => Arc::new(Acp::goose()),
        "opencode" => Arc::new(Acp::opencode()),
        _ => Arc::new(Acp::qwen()),
    }
}

/// Takes in master keys that are added to the file, and tells the other processes which ones we have.
async fn keep_keys(salon: Arc<Salon>, source: MasterSource, closing: CancellationToken) {
    let mut every = tokio::time::interval(SHOW_EVERY);
    let me = salon.worker.owner.clone();
    // A SQLite file has one process.
    let shared = salon.store.dialect() == Dialect::Postgres;
    loop {
        tokio::select! {
            () = closing.cancelled() => break,
            _ = every.tick() => {}
        }
        if let MasterSource::File { path, .. } = &source {
            match master::read_file(path) {
                Ok(masters) if masters.kids() == salon.keys.master().kids() => {}
                Ok(masters) => match salon.keys.take(masters, &salon.store, &salon.clock).await {
                    Ok(()) => tracing::info!(keys = ?salon.keys.master(), "took in other master keys"),
                    Err(error) => {
                        tracing::error!(%error, "the master keys were changed and do not fit; keeping the old ones")
                    }
                },
                Err(error) => tracing::error!(error = format!("{error:#}"), "the master keys cannot be read again"),
            }
        }
        if shared && let Err(error) = salon.vault.show_keyring(&me).await {
            tracing::debug!(%error, "could not tell which master keys are here");
        }
    }
    if shared && let Err(error) = salon.vault.hide_keyring(&me).await {
        tracing::debug!(%error, "could not tell that this process ends");
    }
}

/// Sweeps what is too old to matter, and keeps step with the database's clock.
async fn keep_house(salon: Arc<Salon>, relay: Arc<Relay>, sessions: Option<Duration>, closing: CancellationToken) {
    let mut clock = tokio::time::interval(CLOCK_EVERY);
    let mut expire = tokio::time::interval(EXPIRE_EVERY);
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            _ = clock.tick() => match salon.store.clock_ms().await {
                Ok(theirs) => salon.clock.follow(theirs.unwrap_or(salon.clock.wall().0), salon.settings.lease / 3),
                Err(error) => tracing::debug!(%error, "the database's clock could not be read"),
            },
            _ = expire.tick() => {
                let before = sessions.map(|timeout| salon.clock.now() - timeout);
                if let Err(error) = salon.sweep_sessions(before).await {
                    tracing::debug!(%error, "old sessions could not be swept");
                }
            }
            _ = sweep.tick() => {
                if let Err(error) = forget_logins(&salon).await {
                    tracing::warn!(%error, "old logins could not be swept");
                }
                match forget_answers(&relay).await.and(swept(&salon).await) {
                    Ok((0, 0, 0)) => {}
                    Ok((jobs, tokens, parts)) => tracing::info!(jobs, tokens, parts, "swept what was too old"),
                    Err(error) => tracing::warn!(%error, "not everything could be swept"),
                }
                if let Some(agents) = salon.agents.get()
                    && let Err(error) = agents.sweep(&salon.store).await
                {
                    tracing::warn!(%error, "the folders of agents could not be swept");
                }
            }
            () = closing.cancelled() => return,
        }
    }
}

/// Forgets browsers whose time is over.
async fn forget_logins(salon: &Salon) -> salon_store::Result<u64> {
    salon.store.write(salon.clock.now(), |tx, now| Box::pin(tx.sweep_logins(*now))).await
}

/// Forgets what was answered to requests that can no longer be repeated.
async fn forget_answers(relay: &Relay) -> Result<()> {
    relay.requests.sweep().await?;
    Ok(())
}

/// Sweeps in small pieces until nothing is left that is too old.
async fn swept(salon: &Salon) -> Result<(u64, u64, u64)> {
    let now = salon.clock.now();
    let mut all = (0, 0, 0);
    loop {
        let some = salon.store.write((now - KEEP_JOBS, now), |tx, (before, now)| {
            Box::pin(async move {
                Ok((tx.sweep_jobs(*before).await?, tx.sweep_tokens(*now).await?, tx.sweep_outbox(*before).await?))
            })
        });
        let some = some.await?;
        if some == (0, 0, 0) {
            return Ok(all);
        }
        all = (all.0 + some.0, all.1 + some.1, all.2 + some.2);
    }
}

/// Makes a folder for data, for its owner's eyes only. One that exists stays as it is.
pub fn make_private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The room on the disk that holds `path`.
pub fn disk(path: &Path) -> Option<Disk> {
    let figures = rustix::fs::statvfs(path).ok()?;
    Some(Disk { free: figures.f_bavail * figures.f_frsize, total: figures.f_blocks * figures.f_frsize })
}
