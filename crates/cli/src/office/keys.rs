//! `salon keys`: the master keys.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use salon::MasterKeys;
use salon_store::Keyring;

use super::{Room, Told, day};
use crate::common::Common;
use crate::master::{self, MasterSource};

/// The master key to which everything is being moved.
const TARGET: &str = "rotation_target";

#[derive(Subcommand, Debug)]
pub enum KeysCommand {
    /// Show the master keys and what each of them still wraps
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Open everything that is sealed, and say what does not open
    Check {
        #[command(flatten)]
        common: Common,
    },
    /// Move everything to a new master key, or go on where an earlier move was interrupted
    Rotate {
        #[command(flatten)]
        common: Common,
        /// The key to move to, which is made if there is none of that name; called by the date if nothing is said
        #[arg(long, value_name = "NAME")]
        new_kid: Option<String>,
        /// Renew the data keys instead, and seal every secret anew
        #[arg(long, conflicts_with_all = ["new_kid", "drop"])]
        data_keys: bool,
        /// Take this old master key out of the file, if nothing needs it any more
        #[arg(long, value_name = "NAME", conflicts_with = "new_kid")]
        drop: Option<String>,
    },
}

impl KeysCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            KeysCommand::List { common } | KeysCommand::Check { common } | KeysCommand::Rotate { common, .. } => common,
        }
    }

    pub(super) async fn perform(self, room: &Room) -> Result<Told> {
        match self {
            KeysCommand::List { .. } => list(room).await,
            KeysCommand::Check { .. } => check(room).await,
            KeysCommand::Rotate { data_keys: true, .. } => {
                let rows = room.salon.vault.renew().await?;
                Ok(Told::text(format!("Renewed the data keys: {rows} keys and secrets were written anew.")))
            }
            KeysCommand::Rotate { drop: Some(kid), .. } => drop_key(room, &kid).await,
            KeysCommand::Rotate { new_kid, .. } => rotate(room, new_kid).await,
        }
    }
}

async fn list(room: &Room) -> Result<Told> {
    let master = room.salon.keys.master();
    let counts = room.salon.store.read().await?.count_deks().await?;
    let mut lines = Vec::new();
    for kid in master.kids() {
        let wraps = counts.iter().find(|(of, _)| of == kid).map_or(0, |(_, count)| *count);
        let use_ = if kid == master.primary() { "encrypts and decrypts" } else { "decrypts" };
        lines.push(format!("{kid}  {use_}  wraps {wraps} data keys"));
    }
    for Keyring { instance, kids, .. } in others(room).await? {
        lines.push(format!("process {instance} has {}", kids.join(", ")));
    }
    Ok(Told::text(lines.join("\n")))
}

async fn check(room: &Room) -> Result<Told> {
    let check = room.salon.vault.check().await?;
    let mut lines: Vec<String> = check.broken.iter().map(|error| format!("BAD  {error}")).collect();
    lines.push(format!(
        "{} data keys and {} secrets were opened, {} do not open.",
        check.deks,
        check.secrets,
        check.broken.len()
    ));
    Ok(Told { text: lines.join("\n"), note: String::new(), trouble: !check.broken.is_empty() })
}

/// Moves everything to another master key. Each phase looks where things stand, so it may be killed and run again.
async fn rotate(room: &Room, new_kid: Option<String>) -> Result<Told> {
    let path = match file(room) {
        Ok(path) => path,
        // Where we cannot add a key, somebody else may have put a new one first.
        Err(_) if new_kid.is_none() && is_behind(room).await? => {
            return Ok(moved(room, room.salon.vault.rewrap().await?));
        }
        Err(error) => return Err(error),
    };
    let target = target(room, new_kid).await?;
    // Phase 1: the new key is there, and every process can open what it will seal.
    if !master::read_file(&path)?.has(&target) {
        master::add_last(&path, &target)?;
    }
    take(room, &path).await?;
    let late = without(room, &target).await?;
    if !late.is_empty() {
        let note = format!(
            "These processes do not have the new master key {target} yet: {}. Copy its line from {} into their files, \
             behind their first key. They take it in within ten seconds; then run this again.",
            late.join(", "),
            path.display()
        );
        return Ok(Told { text: String::new(), note, trouble: true });
    }
    // Phase 2: what is new is sealed by it.
    master::put_first(&path, &target)?;
    take(room, &path).await?;
    // Phases 3 and 4: what is old is wrapped anew, until nothing is left.
    let rows = room.salon.vault.rewrap().await?;
    let ended = room.salon.store.write((), |tx, ()| Box::pin(async move { tx.remove_setting(TARGET).await }));
    ended.await?;
    Ok(moved(room, rows))
}

fn moved(room: &Room, rows: u64) -> Told {
    let master = room.salon.keys.master();
    let primary = master.primary();
    let mut text = format!("Everything is under the master key {primary}; {rows} data keys were wrapped anew.");
    for kid in master.kids().into_iter().skip(1) {
        text.push_str(&format!("\nNothing here needs {kid} any more. Backups from before do."));
        if file(room).is_ok() {
            text.push_str(&format!(" Take it away: salon keys rotate --drop {kid}"));
        }
    }
    Told::text(text)
}

/// Whether something is wrapped by another key than the one that encrypts.
async fn is_behind(room: &Room) -> Result<bool> {
    let master = room.salon.keys.master();
    let counts = room.salon.store.read().await?.count_deks().await?;
    Ok(counts.iter().any(|(kid, _)| kid != master.primary()))
}

/// The key to move to: the one that a move was begun to, or a new one.
async fn target(room: &Room, new_kid: Option<String>) -> Result<String> {
    let salon = &room.salon;
    let mut tx = salon.store.read().await?;
    if let Some(target) = tx.find_setting(TARGET).await? {
        let same = new_kid.as_ref().is_none_or(|kid| *kid == target);
        ensure!(same, "a move to {target} was begun and is to be finished first: salon keys rotate");
        return Ok(target);
    }
    let master = salon.keys.master();
    let kid = match new_kid {
        // Somebody has put a new key first by hand, and it has not been moved to.
        None if is_behind(room).await? => master.primary().to_owned(),
        None => fresh(&master, &day(salon.clock.now())),
        // One that is there already may be moved to, or the whole command is run again.
        Some(kid) => {
            ensure!(MasterKeys::is_valid_kid(&kid), "{kid:?} is no name: up to 32 letters, digits, '-', '_' and '.'");
            kid
        }
    };
    drop(tx);
    let begun = salon.store.write(kid, |tx, kid| {
        Box::pin(async move {
            tx.add_setting(TARGET, kid).await?;
            tx.find_setting(TARGET).await
        })
    });
    begun.await?.context("the move could not be written down")
}

/// A name that no key has.
fn fresh(master: &MasterKeys, today: &str) -> String {
    let taken = master.kids();
    let names = (1..).map(|n| if n == 1 { today.to_owned() } else { format!("{today}.{n}") });
    names.into_iter().find(|name| !taken.contains(&name.as_str())).expect("there are more numbers than keys")
}

/// Takes an old key away, in the data first: a process that still has it does no harm, one that lacks it cannot start.
async fn drop_key(room: &Room, kid: &str) -> Result<Told> {
    let path = file(room)?;
    let master = room.salon.keys.master();
    ensure!(master.kids().contains(&kid), "there is no master key {kid}; salon keys list shows which there are");
    ensure!(kid != master.primary(), "{kid} is the key that encrypts; move to another one first: salon keys rotate");
    for Keyring { instance, kids, .. } in others(room).await? {
        let first = kids.first().is_some_and(|first| first == kid);
        ensure!(!first, "the process {instance} still encrypts with {kid}; put another key first in its file");
    }
    if !room.salon.vault.forget_master(kid).await? {
        bail!("something is still wrapped by {kid}; run: salon keys rotate");
    }
    master::remove(&path, kid)?;
    take(room, &path).await?;
    Ok(Told::text(format!("Took {kid} out of {}.", path.display())))
}

fn file(room: &Room) -> Result<PathBuf> {
    match &room.master {
        MasterSource::File { path, .. } => Ok(path.clone()),
        MasterSource::Given(_) => bail!(
            "MASTER_KEY holds one key and cannot be added to: write it into a file, a line for each key, set \
             MASTER_KEY_FILE to that file instead, and run this again"
        ),
        MasterSource::Kms(_) => bail!(
            "what KMS wraps is one key and cannot be added to from here: have KMS wrap a text with both keys, the new \
             one first, a line for each; start with that, and run this again"
        ),
    }
}

async fn take(room: &Room, path: &Path) -> Result<()> {
    let salon = &room.salon;
    Ok(salon.keys.take(master::read_file(path)?, &salon.store, &salon.clock).await?)
}

/// Which other processes are alive and do not have this master key.
async fn without(room: &Room, kid: &str) -> Result<Vec<String>> {
    let lacks = |ring: &Keyring| !ring.kids.iter().any(|known| known == kid);
    Ok(others(room).await?.into_iter().filter(lacks).map(|ring| ring.instance).collect())
}

async fn others(room: &Room) -> Result<Vec<Keyring>> {
    let us = &room.salon.worker.owner;
    Ok(room.salon.vault.keyrings().await?.into_iter().filter(|ring| ring.instance != *us).collect())
}
