//! The agents of the house: which there are, where they work, and how one is let out to the models.

mod hosts;
mod installed;
pub mod mark;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use salon_core::{BotId, Channel, Dialog, DialogId, TurnId};
use salon_engine::Secret;
use salon_engine::agent::Maker;
use salon_engine::sandbox::Sandbox;
use salon_engine::wire::{Kind, Refused};
use salon_engine::workspace::{Workspace, Workspaces};
use salon_store::Store;
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::access::{Caller, Credential, token};
use crate::relay::Asking;
use crate::run::agent::Socket;

pub use hosts::{Hosts, NoHost, NotReached};
pub use installed::Installed;
pub use salon_engine::agent::Policy;
pub use salon_engine::workspace::{Change, Diff};

/// Where the folders of sessions are, among those of bots.
const API: &str = "api";
/// Characters of a session's id, of which no number of a chat has as many.
const ID_CHARS: usize = 26;

/// The name under which a run's key is a proxy's password.
const PROXY_USER: &str = "run";

/// What every agent finds in its environment, if it is not told otherwise.
pub const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("HOME", salon_engine::agent::HOME),
    ("LANG", "C.UTF-8"),
    ("TERM", "dumb"),
];

/// An agent as it is configured.
#[derive(Clone)]
pub struct Agent {
    pub name: String,
    /// How it is talked to where it need not ask.
    pub maker: Arc<dyn Maker>,
    /// How it is talked to where it must.
    pub asking: Arc<dyn Maker>,
    /// The program, as the host has it.
    pub program: PathBuf,
    /// What of the host it needs to run: where it is installed. It is shown to it, and cannot be changed by it.
    pub show: Vec<PathBuf>,
    /// Arguments in front of its own, where the program is an interpreter.
    pub before: Vec<String>,
    pub model: Option<String>,
    /// What it may do for whoever has no policy of their own.
    pub policy: Policy,
    /// Where it may go besides.
    pub hosts: Hosts,
    /// Whether people may tell it more while it is at work.
    pub steer: bool,
}

impl Agent {
    pub(crate) fn steers(&self) -> bool {
        self.steer && self.maker.steers()
    }

    pub(crate) fn maker(&self, policy: Policy) -> &Arc<dyn Maker> {
        if policy == Policy::Ask { &self.asking } else { &self.maker }
    }

    /// Whether it keeps to a policy. Who cannot ask is not run where it must.
    pub fn keeps(&self, policy: Policy) -> bool {
        policy != Policy::Ask || self.asking.asks()
    }
}

/// What a run shows at its door.
pub struct Pass {
    key: Secret,
    caller: Arc<Caller>,
    pub asking: Asking,
    pub hosts: Hosts,
    /// The key as a proxy's name and password.
    basic: Secret,
    /// Hears why the run cannot be paid for any more.
    dearth: mpsc::Sender<String>,
}

impl Pass {
    /// A pass with a key of its own, and what is heard when there is no money left.
    pub fn new(caller: Arc<Caller>, asking: Asking, hosts: Hosts) -> (Pass, mpsc::Receiver<String>) {
        let (dearth, heard) = mpsc::channel(1);
        // In the form of any key of ours, and in no table of them.
        let key = token::make();
        let basic = STANDARD.encode(format!("{PROXY_USER}:{}", key.expose()));
        (Pass { key, caller, asking, hosts, basic: Secret::new(format!("Basic {basic}")), dearth }, heard)
    }

    pub fn key(&self) -> &Secret {
        &self.key
    }

    /// Lets the run in, by its key alone.
    pub fn admit(&self, credential: Option<&Credential>) -> Result<Arc<Caller>, Refused> {
        let shown = match credential {
            Some(Credential::Key(secret) | Credential::Jwt(secret)) => secret.expose(),
            Some(Credential::Foreign) | None => "",
        };
        match bool::from(shown.as_bytes().ct_eq(self.key.expose().as_bytes())) {
            true => Ok(self.caller.clone()),
            false => Err(Refused::new(Kind::Authentication, "This door is another's.").with_code("unknown_key")),
        }
    }

    /// Whether the header of somebody who wants to go elsewhere shows the key.
    pub fn is_shown_by(&self, header: &str) -> bool {
        header.as_bytes().ct_eq(self.basic.expose().as_bytes()).into()
    }

    /// Where an agent finds the way to other hosts, if there are any for it.
    pub(crate) fn proxy(&self, port: u16) -> Vec<(String, String)> {
        if self.hosts.is_empty() {
            return Vec::new();
        }
        let address = format!("http://{PROXY_USER}:{}@127.0.0.1:{port}", self.key.expose());
        let here = "127.0.0.1,localhost".to_owned();
        let names = [("HTTPS_PROXY", &address), ("https_proxy", &address), ("NO_PROXY", &here), ("no_proxy", &here)];
        names.map(|(name, value)| (name.to_owned(), value.clone())).into()
    }

    /// Says that there is no money for what the run wants.
    pub fn tell(&self, words: &str) {
        // Once is enough.
        self.dearth.try_send(words.to_owned()).ok();
    }
}

/// Who opens the doors of runs.
#[async_trait]
pub trait Porter: Send + Sync {
    /// Answers at a socket at `path` whoever shows the pass's key, until `closing`.
    async fn open(&self, path: &Path, pass: Arc<Pass>, closing: CancellationToken) -> io::Result<()>;
}

/// Where agents work, and what they share.
pub struct Agents {
    /// A folder of ours that holds a folder for each chat.
    pub folder: PathBuf,
    /// The name of the database that knows them.
    database: String,
    /// Folders that an administrator has listed, by their names.
    pub projects: BTreeMap<String, PathBuf>,
    /// Where doors are: a short path, because a socket's name has room for a hundred bytes.
    doors: PathBuf,
    sandbox: Option<Arc<Sandbox>>,
    porter: OnceLock<Arc<dyn Porter>>,
    /// What the list of bots says now of the runs of each.
    of_bots: RwLock<BTreeMap<BotId, OfBot>>,
}

/// What a bot's runs may do, whichever agent makes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfBot {
    /// Where they may go besides.
    pub hosts: Hosts,
    /// What they may do, if not what the agent may do otherwise.
    pub policy: Option<Policy>,
    /// Whether nothing more is told to them while they work.
    pub deaf: bool,
}

impl Agents {
    /// Without a sandbox there are no agents.
    pub fn new(
        folder: PathBuf,
        database: String,
        projects: BTreeMap<String, PathBuf>,
        doors: PathBuf,
        sandbox: Option<Arc<Sandbox>>,
    ) -> Agents {
        Agents { folder, database, projects, doors, sandbox, porter: OnceLock::new(), of_bots: RwLock::default() }
    }

    /// Takes in what the runs of each bot may do; what was so before is forgotten.
    pub fn heed(&self, of_bots: BTreeMap<BotId, OfBot>) {
        *self.of_bots.write().unwrap_or_else(PoisonError::into_inner) = of_bots;
    }

    /// What the bot that a dialog is with says of its runs.
    fn of_bot(&self, dialog: &Dialog) -> OfBot {
        let of_bots = self.of_bots.read().unwrap_or_else(PoisonError::into_inner);
        match &dialog.channel {
            Channel::Telegram { bot, .. } => of_bots.get(bot).cloned().unwrap_or_default(),
            Channel::Api => OfBot::default(),
        }
    }

    /// Where an agent may go for a dialog: its own list, and that of the bot that is asked.
    pub(crate) fn hosts(&self, agent: &Agent, dialog: &Dialog) -> Hosts {
        agent.hosts.with(&self.of_bot(dialog).hosts)
    }

    /// What an agent may do for a dialog: the bot's word counts, and where it has none the agent's.
    pub(crate) fn policy(&self, agent: &Agent, dialog: &Dialog) -> Policy {
        self.of_bot(dialog).policy.unwrap_or(agent.policy)
    }

    /// Whether an agent that works for a dialog is told nothing more, because the bot says so.
    pub(crate) fn is_deaf(&self, dialog: &Dialog) -> bool {
        self.of_bot(dialog).deaf
    }

    pub(crate) fn sandbox(&self) -> Option<&Arc<Sandbox>> {
        self.sandbox.as_ref()
    }

    /// What stands around agents, in a word for those who look.
    pub fn walls(&self) -> &'static str {
        match &self.sandbox {
            None => "not run",
            Some(sandbox) if sandbox.is_tight() => "in a sandbox",
            Some(_) => "WITHOUT A SANDBOX",
        }
    }

    /// A free path for the door of a run.
    pub(crate) fn socket(&self, turn: &TurnId, attempt: i64) -> io::Result<Socket> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.doors)?;
        let path = self.doors.join(format!("{turn}.{attempt}"));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Socket(path)),
        }
    }

    /// Says who opens doors. The first call counts.
    pub fn employ(&self, porter: Arc<dyn Porter>) {
        self.porter.set(porter).ok();
    }

    pub(crate) fn porter(&self) -> Option<&Arc<dyn Porter>> {
        self.porter.get()
    }

    /// Removes the folders of sessions that are gone. Those of chats stay.
    pub async fn sweep(&self, store: &Store) -> anyhow::Result<usize> {
        let (root, database) = (self.folder.clone(), self.database.clone());
        let listed = tokio::task::spawn_blocking(move || match mark::is_of(&root, &database)? {
            true => sessions_below(&root),
            // What is in there is known to somebody else.
            false => Ok(Vec::new()),
        });
        let listed = listed.await??;
        let mut swept = 0;
        for folder in listed {
            // A bot may be called as sessions are, and its chats are not gone because no session bears their numbers.
            let id = folder.file_name().and_then(|name| name.to_str()).filter(|name| name.len() == ID_CHARS);
            let Some(id) = id else { continue };
            if store.read().await?.find_dialog(&DialogId::new(id)).await?.is_some() {
                continue;
            }
            // Links in it are removed, and not followed.
            tokio::task::spawn_blocking(move || std::fs::remove_dir_all(folder)).await??;
            swept += 1;
        }
        Ok(swept)
    }

    /// Where a dialog's agent works: a folder for each chat, and for each dialog that began in none. Reads and writes
    /// files, so it is for threads that may wait.
    pub fn place(&self, org: &str, dialog: &Dialog) -> io::Result<Workspace> {
        let workspaces = Workspaces::open(&self.folder)?;
        let place = match &dialog.channel {
            Channel::Telegram { bot, chat } => workspaces.place(org, bot.as_str(), &chat.to_string()),
            Channel::Api => workspaces.place(org, API, dialog.id.as_str()),
        }?;
        match &dialog.chosen.project {
            Some(name) => match self.projects.get(name) {
                Some(folder) => place.in_project(folder),
                None => {
                    Err(io::Error::new(io::ErrorKind::NotFound, format!("the project {name} is not listed any more")))
                }
            },
            None => Ok(place),
        }
    }
}

/// The folders of sessions, of every organisation.
fn sessions_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let orgs = match root.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        orgs => orgs?,
    };
    for org in orgs {
        match org?.path().join(API).read_dir() {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            sessions => found.extend(sessions?.flatten().map(|session| session.path())),
        }
    }
    Ok(found)
}
