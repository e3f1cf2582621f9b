//! The agents of the house: which there are, where they work, and how one is let out to the models.

mod installed;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use salon_core::{Dialog, TurnId};
use salon_engine::Secret;
use salon_engine::agent::{Maker, Policy};
use salon_engine::sandbox::Sandbox;
use salon_engine::wire::{Kind, Refused};
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::access::{Caller, Credential, token};
use crate::relay::Asking;
use crate::run::agent::Socket;

pub use installed::Installed;

/// An agent as it is configured.
#[derive(Clone)]
pub struct Agent {
    pub name: String,
    pub maker: Arc<dyn Maker>,
    /// The program, as the host has it.
    pub program: PathBuf,
    /// What of the host it needs to run: where it is installed. It is shown to it, and cannot be changed by it.
    pub show: Vec<PathBuf>,
    /// Arguments in front of its own, where the program is an interpreter.
    pub before: Vec<String>,
    pub model: Option<String>,
    pub policy: Policy,
}

/// What a run shows at its door.
pub struct Pass {
    key: Secret,
    caller: Arc<Caller>,
    pub asking: Asking,
    /// Hears why the run cannot be paid for any more.
    dearth: mpsc::Sender<String>,
}

impl Pass {
    /// A pass with a key of its own, and what is heard when there is no money left.
    pub fn new(caller: Arc<Caller>, asking: Asking) -> (Pass, mpsc::Receiver<String>) {
        let (dearth, heard) = mpsc::channel(1);
        // In the form of any key of ours, and in no table of them.
        (Pass { key: token::make(), caller, asking, dearth }, heard)
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
    /// Folders that an administrator has listed, by their names.
    pub projects: BTreeMap<String, PathBuf>,
    /// Where doors are: a short path, because a socket's name has room for a hundred bytes.
    doors: PathBuf,
    sandbox: Option<Arc<Sandbox>>,
    porter: OnceLock<Arc<dyn Porter>>,
}

/// The folders of one dialog's agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it works.
    pub workspace: PathBuf,
    /// Where it keeps what it knows of its threads.
    pub home: PathBuf,
    /// Where snapshots of the workspace are.
    pub snapshots: PathBuf,
}

impl Place {
    /// Makes the folders that are ours.
    pub(crate) fn make(&self) -> io::Result<()> {
        for folder in [&self.home, &self.workspace, &self.snapshots] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        Ok(())
    }
}

impl Agents {
    /// Without a sandbox there are no agents.
    pub fn new(
        folder: PathBuf,
        projects: BTreeMap<String, PathBuf>,
        doors: PathBuf,
        sandbox: Option<Arc<Sandbox>>,
    ) -> Agents {
        Agents { folder, projects, doors, sandbox, porter: OnceLock::new() }
    }

    pub(crate) fn sandbox(&self) -> Option<&Arc<Sandbox>> {
        self.sandbox.as_ref()
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

    /// The folders of a dialog: one for each chat, and one for each dialog that began in none.
    pub fn place(&self, org: &str, dialog: &Dialog, agent: &str) -> Place {
        let whose = match &dialog.channel {
            salon_core::Channel::Telegram { bot, chat } => {
                self.folder.join(folder_name(org)).join(folder_name(bot.as_str())).join(chat.0.to_string())
            }
            salon_core::Channel::Api => {
                self.folder.join(folder_name(org)).join("api").join(folder_name(dialog.id.as_str()))
            }
        };
        let project = dialog.chosen.project.as_ref().and_then(|name| self.projects.get(name).map(|path| (name, path)));
        let (workspace, snapshots) = match project {
            Some((name, path)) => (path.clone(), whose.join("snapshots").join(folder_name(name))),
            None => (whose.join("workspace"), whose.join("snapshots").join("workspace")),
        };
        Place { workspace, snapshots, home: whose.join("home").join(folder_name(agent)) }
    }
}

/// A name as a folder can have it. Ids are made of such letters; whatever else comes along cannot lead anywhere.
fn folder_name(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name: String = text.chars().map(|c| if plain(c) { c } else { '_' }).take(80).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere() {
        for (text, name) in [("..", "__"), ("a/../b", "a____b"), ("", "_"), ("bot-1", "bot-1"), ("\0", "_")] {
            assert_eq!(folder_name(text), name);
        }
    }
}
