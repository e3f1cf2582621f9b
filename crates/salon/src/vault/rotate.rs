//! Moving to another master key, or to new data keys, while work goes on.
//!
//! Every step is a batch in one transaction with its cursor, and each row is changed only if it still is what was read.
//! So the process may be killed anywhere and begin again; what is done is done, and everything opens at every moment.

use std::time::Duration;

use salon_core::{OrgId, Time};
use salon_store::{Dek, Keyring, Sealed, Tx};
use serde_json::json;
use ulid::Ulid;

use super::{Vault, VaultError, bound, locked};
use crate::audit::{Action, Actor, Deed, Pen, note};
use crate::keys::{ANCHOR, CANARIES};
use crate::seal::seal;

const BATCH: i64 = 100;
/// Where moving to the master key stands: its name, a colon, and the last data key that was looked at.
const CURSOR: &str = "rotation_cursor";
/// When renewing the data keys began, a colon, and the last one that was looked at.
const RENEWAL: &str = "data_key_renewal";
/// A process that was not seen for longer is gone.
const SEEN: Duration = Duration::from_secs(60);
/// How often a process says which master keys it has.
pub const SHOW_EVERY: Duration = Duration::from_secs(10);

/// What a look at everything found.
#[derive(Debug, Default)]
pub struct Check {
    pub deks: u64,
    pub secrets: u64,
    /// How many data keys each master key wraps.
    pub by_kid: Vec<(String, i64)>,
    pub broken: Vec<VaultError>,
}

/// How far a step went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub rows: u64,
    /// Nothing is left to do.
    pub done: bool,
}

impl Vault {
    /// Opens everything there is, and says what does not.
    pub async fn check(&self) -> Result<Check, VaultError> {
        let mut check = Check { by_kid: self.store.read().await?.count_deks().await?, ..Check::default() };
        let mut after = String::new();
        loop {
            let deks = self.store.read().await?.list_deks(&after, BATCH).await?;
            let Some(last) = deks.last() else { break };
            after.clone_from(&last.id);
            for dek in deks {
                check.deks += 1;
                check.broken.extend(self.open_dek(&dek).err());
            }
        }
        after.clear();
        loop {
            let secrets = self.store.read().await?.list_secrets(None, &after, BATCH).await?;
            let Some(last) = secrets.last() else { return Ok(check) };
            after = last.id.to_string();
            for sealed in secrets {
                check.secrets += 1;
                match self.unseal(&sealed).await {
                    Ok(_) => {}
                    Err(VaultError::Store(error)) => return Err(error.into()),
                    // A data key that does not open was told already.
                    Err(VaultError::BadDek { .. } | VaultError::MissingMaster(_)) => {}
                    Err(error) => check.broken.push(error),
                }
            }
        }
    }

    /// Says which master keys this process has at hand.
    pub async fn show_keyring(&self, instance: &str) -> salon_store::Result<()> {
        let now = self.clock.now();
        let kids = self.keys.master().kids().into_iter().map(str::to_owned).collect();
        let keyring = Keyring { instance: instance.to_owned(), kids, seen_at: now };
        self.store.write((keyring, now - SEEN), |tx, (keyring, gone)| Box::pin(tx.show_keyring(keyring, *gone))).await
    }

    /// Says that this process ends.
    pub async fn hide_keyring(&self, instance: &str) -> salon_store::Result<()> {
        self.store.write(instance.to_owned(), |tx, instance| Box::pin(tx.drop_keyring(instance))).await
    }

    /// The living processes, with the master keys that each has at hand.
    pub async fn keyrings(&self) -> salon_store::Result<Vec<Keyring>> {
        self.store.read().await?.list_keyrings(self.clock.now() - SEEN).await
    }

    /// Wraps the next data keys under the master key that encrypts. The first call lets the data be known by that key.
    pub async fn rewrap_some(&self) -> Result<Moved, VaultError> {
        let master = self.keys.master();
        let kid = master.primary().to_owned();
        let after = self.cursor(CURSOR, &kid).await?;
        let deks = self.store.read().await?.list_deks_beside(&kid, &after, BATCH).await?;
        let mut batch = Rewrap {
            cursor: format!("{kid}:{}", deks.last().map_or("", |dek| dek.id.as_str())),
            canary: master.canary(&kid).unwrap_or_default().to_owned(),
            kid,
            rows: Vec::new(),
            pen: self.pen(),
        };
        for old in deks {
            let id = Ulid::from_string(&old.id).map_err(|_| VaultError::BadDek {
                id: old.id.clone(),
                owner: old.owner.clone(),
                why: crate::seal::Broken::Shape,
            })?;
            let opened = self.open_dek(&old)?;
            let new = master.wrap(&old.owner, id, &opened.key, &self.clock);
            batch.rows.push((old, new));
        }
        Ok(self.store.write(batch, |tx, batch| Box::pin(rewrap(tx, batch))).await?)
    }

    /// Only whoever has the machine moves keys.
    fn pen(&self) -> Pen {
        Pen::new(&self.keys, &self.clock, Actor::Operator)
    }

    /// Wraps every data key under the master key that encrypts, beginning where it was left.
    pub async fn rewrap(&self) -> Result<u64, VaultError> {
        let mut rows = 0;
        loop {
            let moved = self.rewrap_some().await?;
            rows += moved.rows;
            if moved.done {
                return Ok(rows);
            }
        }
    }

    /// Forgets a master key that nothing needs any more. `false` if something does.
    pub async fn forget_master(&self, kid: &str) -> Result<bool, VaultError> {
        let master = self.keys.master();
        let canary = master.canary(kid).unwrap_or_default().to_owned();
        let args = (kid.to_owned(), canary, self.pen());
        let forgotten = self.store.write(args, |tx, (kid, canary, pen)| {
            Box::pin(async move {
                let needed = tx.count_deks().await?.iter().any(|(needed, _)| needed == kid);
                if needed || tx.find_setting(ANCHOR).await?.as_ref() == Some(canary) {
                    return Ok(false);
                }
                tx.remove_setting(&format!("{CANARIES}{kid}")).await?;
                note(tx, pen, Deed::new(Action::MasterKeyForgotten, &everywhere(), kid)).await?;
                Ok(true)
            })
        });
        Ok(forgotten.await?)
    }

    /// Gives the next owners new data keys, or seals the next secrets anew under them.
    pub async fn renew_some(&self) -> Result<Moved, VaultError> {
        let began = self.renewal().await?;
        let after = self.cursor(RENEWAL, &began.0.to_string()).await?;
        let older = self.store.read().await?.list_older_deks(began, &after, BATCH).await?;
        if let Some(last) = older.last() {
            let cursor = format!("{began}:{}", last.id);
            let master = self.keys.master();
            let mut rows = Vec::new();
            for old in older {
                let (id, key) = self.new_dek();
                rows.push((old.id, master.wrap(&old.owner, id, &key, &self.clock)));
            }
            return Ok(self
                .store
                .write((cursor, rows), |tx, (cursor, rows)| Box::pin(replace(tx, cursor, rows)))
                .await?);
        }
        let stale = self.store.read().await?.list_stale_secrets("", BATCH).await?;
        if stale.is_empty() {
            self.finish_renewal().await?;
            return Ok(Moved { rows: 0, done: true });
        }
        let mut rows = Vec::new();
        for old in stale {
            let secret = self.unseal(&old).await?;
            let (dek, opened) = self.active_dek(&old.owner).await?;
            let mut new = Sealed { dek: dek.to_string(), blob: Vec::new(), ..old.clone() };
            new.blob = seal(&opened.key, "", dek, &bound(&new, &dek.to_bytes()), secret.expose().as_bytes());
            rows.push((old, new));
        }
        Ok(self.store.write(rows, |tx, rows| Box::pin(reseal(tx, rows))).await?)
    }

    /// Seals everything anew under new data keys, beginning where it was left.
    pub async fn renew(&self) -> Result<u64, VaultError> {
        let mut rows = 0;
        loop {
            let moved = self.renew_some().await?;
            rows += moved.rows;
            if moved.done {
                return Ok(rows);
            }
        }
    }

    /// When the renewal began that is under way, or now.
    async fn renewal(&self) -> Result<Time, VaultError> {
        let start = format!("{}:", self.clock.now());
        let row = self.store.write(start, |tx, start| {
            Box::pin(async move {
                tx.add_setting(RENEWAL, start).await?;
                tx.find_setting(RENEWAL).await
            })
        });
        let began = row.await?.and_then(|row| row.split(':').next()?.parse().ok());
        Ok(Time(began.unwrap_or(self.clock.now().0)))
    }

    async fn finish_renewal(&self) -> Result<(), VaultError> {
        let finished = self.store.write(self.pen(), |tx, pen| {
            Box::pin(async move {
                tx.drop_retired_deks().await?;
                tx.remove_setting(RENEWAL).await?;
                note(tx, pen, Deed::new(Action::DataKeysRenewed, &everywhere(), "data_keys")).await
            })
        });
        finished.await?;
        // Keys that are gone are not kept in memory either.
        locked(&self.deks).clear();
        Ok(())
    }

    /// How far a rotation of this name came.
    async fn cursor(&self, setting: &str, name: &str) -> Result<String, VaultError> {
        let row = self.store.read().await?.find_setting(setting).await?;
        let at = row.as_deref().and_then(|row| row.split_once(':')).filter(|(of, _)| *of == name);
        Ok(at.map_or(String::new(), |(_, after)| after.to_owned()))
    }
}

struct Rewrap {
    kid: String,
    canary: String,
    cursor: String,
    rows: Vec<(Dek, Dek)>,
    pen: Pen,
}

/// The organisation of what concerns them all.
fn everywhere() -> OrgId {
    OrgId::new("")
}

async fn rewrap(tx: &mut Tx, batch: &Rewrap) -> salon_store::Result<Moved> {
    // A process that has only the old key must not start from now on.
    tx.set_setting(ANCHOR, &batch.canary).await?;
    let mut rows = 0;
    for (old, new) in &batch.rows {
        rows += u64::from(tx.rewrap_dek(&old.id, &old.wrapped, &new.kid, &new.wrapped).await?);
    }
    if !batch.rows.is_empty() {
        tx.set_setting(CURSOR, &batch.cursor).await?;
        let deed = Deed::new(Action::MasterKeyMoved, &everywhere(), &batch.kid);
        note(tx, &batch.pen, deed.with(json!({ "data_keys": rows }))).await?;
        return Ok(Moved { rows, done: false });
    }
    // The end of the list: done if nobody wrapped one under another key behind our back.
    tx.remove_setting(CURSOR).await?;
    let done = tx.list_deks_beside(&batch.kid, "", 1).await?.is_empty();
    Ok(Moved { rows, done })
}

async fn replace(tx: &mut Tx, cursor: &str, rows: &[(String, Dek)]) -> salon_store::Result<Moved> {
    let mut moved = Moved::default();
    for (old, new) in rows {
        moved.rows += u64::from(tx.replace_dek(old, new).await?);
    }
    tx.set_setting(RENEWAL, cursor).await?;
    Ok(moved)
}

async fn reseal(tx: &mut Tx, rows: &[(Sealed, Sealed)]) -> salon_store::Result<Moved> {
    let mut moved = Moved::default();
    for (old, new) in rows {
        moved.rows += u64::from(tx.reseal_secret(&old.id, &old.blob, &new.dek, &new.blob).await?);
    }
    Ok(moved)
}
