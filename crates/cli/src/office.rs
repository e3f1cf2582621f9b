//! The office: commands that look after people, their keys and their secrets.
//!
//! They work on the database. Where that is a file, which only one process can have, and a Salon is open, they are passed
//! on to it through a socket beside the data, and do the same there: so keys can be made while everybody works.

mod audit;
mod desk;
mod key;
mod keys;
mod model;
mod org;
mod plan;
mod secret;
mod upstream;
mod user;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use salon::catalog::Catalog;
use salon::{Actor, Clock, Engines, Keys, Pen, Salon, Settings};
use salon_engine::Secret;
use salon_engine::outbound::Outbound;
use salon_store::{Place, Store, Worker};
use serde::{Deserialize, Serialize};

use crate::common::Common;
use crate::config::Config;
use crate::master::{self, MasterSource};

pub use desk::{Desk, SOCKET};

/// The commands of the office.
#[derive(Subcommand, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them, and it is read once")]
pub enum Office {
    /// Look after the people who may use Salon
    User {
        #[command(subcommand)]
        command: user::UserCommand,
    },
    /// Look at what was done here, and whether it is whole
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Look after organisations: who shares limits, keys and a time zone
    Org {
        #[command(subcommand)]
        command: org::OrgCommand,
    },
    /// Make, list and revoke the API keys that people call Salon with
    Key {
        #[command(subcommand)]
        command: key::KeyCommand,
    },
    /// Look after the master keys, under which all secrets are sealed
    Keys {
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    /// Look after plans: sets of limits that are given to people
    Plan {
        #[command(subcommand)]
        command: plan::PlanCommand,
    },
    /// Store providers' keys, sealed, for an organisation or for one person
    Secret {
        #[command(subcommand)]
        command: secret::SecretCommand,
    },
    /// Look after the models that can be called, their places and prices
    Model {
        #[command(subcommand)]
        command: model::ModelCommand,
    },
    /// Look after the servers that models are at
    Upstream {
        #[command(subcommand)]
        command: upstream::UpstreamCommand,
    },
}

/// A command as it is passed on.
#[derive(Parser, Debug)]
#[command(name = "salon", no_binary_name = true)]
struct Forwarded {
    #[command(subcommand)]
    command: Office,
}

/// Where commands do their work.
pub struct Room {
    pub salon: Arc<Salon>,
    pub catalog: Arc<Catalog>,
    pub master: MasterSource,
    /// The data folder.
    pub data: PathBuf,
}

/// What a command has to say.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// For standard output.
    pub text: String,
    /// For people, beside it.
    pub note: String,
    /// Not all is well.
    pub trouble: bool,
}

impl Told {
    fn text(text: impl Into<String>) -> Told {
        Told { text: text.into(), ..Told::default() }
    }

    fn lines(lines: Vec<String>, nothing: &str) -> Told {
        if lines.is_empty() {
            Told { note: nothing.to_owned(), ..Told::default() }
        } else {
            Told::text(lines.join("\n"))
        }
    }
}

impl Office {
    /// Runs the command here, or in the Salon that has the data. `words` are the command as it was typed.
    pub async fn run(self, words: Vec<String>) -> Result<Told> {
        let config = Config::read(&self.common().clone().flags())?;
        let input = self.input()?;
        if let Place::Folder(folder) = &config.place
            && let Some(told) = desk::ask(folder, &words, input.as_ref()).await?
        {
            return Ok(told);
        }
        if let Office::Upstream { command: upstream::UpstreamCommand::Health { .. } } = self {
            bail!(
                "no Salon has this data folder open, and only a running one knows; with PostgreSQL, ask it by GET \
                 /api/admin/upstreams"
            );
        }
        let room = Room::open(&config).await?;
        let told = self.perform(&room, input).await;
        room.salon.store.clone().close().await;
        told
    }

    /// Does what the command says.
    async fn perform(self, room: &Room, input: Option<Secret>) -> Result<Told> {
        match self {
            Office::User { command } => command.perform(room).await,
            Office::Audit { command } => command.perform(room).await,
            Office::Plan { command } => command.perform(room).await,
            Office::Org { command } => command.perform(room).await,
            Office::Key { command } => command.perform(room).await,
            Office::Keys { command } => command.perform(room).await,
            Office::Secret { command } => command.perform(room, input).await,
            Office::Model { command } => command.perform(room).await,
            Office::Upstream { command } => command.perform(room).await,
        }
    }

    fn common(&self) -> &Common {
        match self {
            Office::User { command } => command.common(),
            Office::Audit { command } => command.common(),
            Office::Plan { command } => command.common(),
            Office::Org { command } => command.common(),
            Office::Key { command } => command.common(),
            Office::Keys { command } => command.common(),
            Office::Secret { command } => command.common(),
            Office::Model { command } => command.common(),
            Office::Upstream { command } => command.common(),
        }
    }

    /// What must not stand on a command line, asked for or read from standard input.
    fn input(&self) -> Result<Option<Secret>> {
        match self {
            Office::Secret { command } => command.input(),
            _ => Ok(None),
        }
    }
}

impl Room {
    /// What is done here is done by whoever has the machine.
    fn pen(&self) -> Pen {
        self.salon.pen(Actor::Operator)
    }

    async fn open(config: &Config) -> Result<Room> {
        let clock = Clock::default();
        let (store, keys) = open_data(config, "office", &clock).await?;
        let worker = Worker { owner: "office".to_owned(), boot: clock.id(), only: None };
        let salon = Salon::new(store, clock, Engines::new(Vec::new()), keys, Settings::default(), worker);
        let sources = config.sources.clone();
        let catalog = Catalog::open(salon.store.clone(), salon.clock.clone(), Outbound::new(), sources).await?;
        Ok(Room { salon, catalog, master: config.master.clone(), data: config.data.clone() })
    }
}

/// Opens the database with its keys, and takes over its clock. A master key that was made for data which has another one
/// already is taken away again: it is of no use to anybody.
pub async fn open_data(config: &Config, owner: &str, clock: &Clock) -> Result<(Store, Keys)> {
    let (masters, made) = master::read(config, clock).await?;
    let store = Store::open(&config.place, owner).await?;
    if let Some(ms) = store.clock_ms().await? {
        clock.set(ms);
    }
    match Keys::open(masters, &store, clock).await {
        Ok(keys) => Ok((store, keys)),
        Err(error) => {
            if let (salon::keys::KeyError::Wrong, Some(path)) = (&error, made) {
                std::fs::remove_file(path).ok();
            }
            Err(error.into())
        }
    }
}

/// A day as people read it, in UTC.
fn day(at: salon_core::Time) -> String {
    salon_core::Zone::utc().day(at)
}

/// Makes the folder in which a socket or a file of ours may stand.
fn private_folder(path: &Path) -> Result<()> {
    crate::house::make_private_folder(path)
        .with_context(|| format!("the data folder {} cannot be used", path.display()))
}
