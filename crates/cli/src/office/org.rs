//! `salon org`.

use anyhow::{Result, ensure};
use clap::Subcommand;
use salon::people::{self, OrgChange};
use salon_core::Org;
use salon_core::mask::Mask;

use super::{Room, Told};
use crate::common::Common;

#[derive(Subcommand, Debug)]
pub enum OrgCommand {
    /// Add an organisation
    Add {
        #[command(flatten)]
        common: Common,
        /// What it is called
        name: String,
        /// Where its days and months begin, such as Europe/Berlin
        #[arg(long, default_value = "UTC")]
        zone: String,
    },
    /// Show the organisations
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Change an organisation's name, time zone or mask
    Set {
        #[command(flatten)]
        common: Common,
        /// Which one, by id or name; the first one has the id default
        org: String,
        #[arg(long)]
        name: Option<String>,
        /// Where its days and months begin, such as Europe/Berlin
        #[arg(long)]
        zone: Option<String>,
        /// Who reads texts without e-mail addresses, phones, cards and national numbers: off, logs or all
        #[arg(long, value_parser = mask)]
        mask: Option<Mask>,
    },
}

fn mask(text: &str) -> Result<Mask, String> {
    Mask::parse(text).ok_or_else(|| "a mask is off, logs or all".to_owned())
}

impl OrgCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            OrgCommand::Add { common, .. } | OrgCommand::List { common } | OrgCommand::Set { common, .. } => common,
        }
    }

    pub(super) async fn perform(self, room: &Room) -> Result<Told> {
        let (store, clock) = (&room.salon.store, &room.salon.clock);
        match self {
            OrgCommand::Add { name, zone, .. } => {
                Ok(Told::text(shown(&people::add_org(store, clock, &room.pen(), &name, &zone).await?)))
            }
            OrgCommand::List { .. } => {
                let orgs = store.read().await?.list_orgs().await?;
                Ok(Told::lines(orgs.iter().map(shown).collect(), ""))
            }
            OrgCommand::Set { org, name, zone, mask, .. } => {
                let says = name.is_some() || zone.is_some() || mask.is_some();
                ensure!(says, "say what to change: --name, --zone or --mask");
                let change = OrgChange { name: name.as_deref(), zone: zone.as_deref(), mask };
                let set = people::set_org(store, &room.pen(), &org, change).await?;
                let mask = people::mask_of(store, &set.id).await?;
                Ok(Told::text(format!("{}  mask {}", shown(&set), mask.as_str())))
            }
        }
    }
}

fn shown(org: &Org) -> String {
    let subject = org.subject.as_ref().map_or(String::new(), |subject| format!("  {subject}"));
    format!("{}  {}  {}{subject}", org.id, org.name, org.zone)
}
