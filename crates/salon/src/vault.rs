//! The vault: secrets that we must show to others, such as a person's key at a provider.
//!
//! ```text
//!  master key ──wraps──► data key, one per owner ──seals──► secret, bound to its row, owner, provider and origin
//! ```
//!
//! The database has only what is sealed. A blob opens where it was sealed and nowhere else: copied into another row, or
//! under a record whose provider or address was changed, it stays shut. That is not passed over: it is an error with a
//! name, a count and a line in the log.
//!
//! [`rotate`] moves everything to another master key, or to new data keys, while work goes on.

pub mod rotate;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Url;
use salon_core::{OrgId, Owner, SecretId, Time, UserId};
use salon_store::{Dek, Sealed, Store};
use serde_json::json;
use thiserror::Error;
use ulid::Ulid;
use zeroize::Zeroizing;

use crate::access::{Caller, Parts, token};
use crate::audit::{Action, Deed, Pen, note};
use crate::clock::Clock;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::revision::Revision;
use crate::seal::{Blob, Broken, Key, seal};

pub use salon_engine::Secret;

/// How many opened keys are remembered, and how long at most.
const REMEMBERED: usize = 4_096;
const BELIEVE: Duration = Duration::from_secs(300);
const LONGEST_SECRET: usize = 8 * 1024;
/// Keys that are shorter than this get no hint: four letters would be much of them.
const HINTED: usize = 16;
/// What Salon keeps for itself. No provider has a colon in its name.
const OURS: &str = "salon:";
const FACTOR: &str = "salon:factor";

#[derive(Debug, Error)]
pub enum VaultError {
    /// What is in the row is not what was sealed for it.
    #[error("the secret {id} cannot be opened: {why}; enter it anew")]
    Unsealable { id: SecretId, why: Broken },
    /// The key that the secrets of an owner are sealed by.
    #[error(
        "the data key {id} of {owner} cannot be opened: {why}; restore a backup, or enter that owner's secrets anew"
    )]
    BadDek { id: String, owner: String, why: Broken },
    #[error("the master key {0} is not at hand; bring it back")]
    MissingMaster(String),
    #[error("{0:?} is no provider: up to 64 letters, digits, '-', '_' and '.'")]
    BadProvider(String),
    #[error("a provider's key has 1 to {LONGEST_SECRET} printable ASCII characters and no blanks")]
    BadSecret,
    #[error("others change this owner's keys at this moment; try again")]
    Busy,
    #[error(transparent)]
    Store(#[from] salon_store::Error),
}

/// Scheme, host and port of an address: where a secret may be shown, and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no base address, such as https://api.openai.com/v1")]
pub struct BadOrigin(String);

impl Origin {
    /// The origin of a base address. The path does not matter; a user name or a fragment is an error.
    pub fn parse(text: &str) -> Result<Origin, BadOrigin> {
        let bad = || BadOrigin(text.chars().take(200).collect());
        Origin::of(&Url::parse(text.trim()).map_err(|_| bad())?).ok_or_else(bad)
    }

    /// The origin of an address that was read before; `None` if nothing can be sent there.
    pub fn of(url: &Url) -> Option<Origin> {
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        let web = matches!(url.scheme(), "https" | "http") && url.host().is_some();
        (plain && web).then(|| Origin(url.origin().ascii_serialization()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A provider's key, and whose it is: who pays for what it opens is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub secret: Secret,
    pub owner: Owner,
    pub id: SecretId,
}

/// What may be seen of a stored key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: SecretId,
    pub owner: String,
    pub provider: String,
    pub origin: String,
    /// The last letters, if the key is long.
    pub hint: String,
    pub created_at: Time,
}

/// Seals and unseals. One per process.
pub struct Vault {
    store: Store,
    clock: Clock,
    keys: Keys,
    metrics: Arc<Metrics>,
    revision: Arc<Revision>,
    deks: Mutex<HashMap<String, Arc<Opened>>>,
    found: Mutex<HashMap<Place, Remembered>>,
}

/// A data key with the owner it was wrapped for.
struct Opened {
    owner: String,
    key: Key,
}

/// Where a secret belongs.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    owner: Owner,
    provider: String,
    origin: Origin,
}

struct Remembered {
    found: Option<Found>,
    generation: u64,
    until: Time,
}

impl Vault {
    pub(crate) fn new((store, clock, keys, metrics, revision): Parts) -> Vault {
        Vault { store, clock, keys, metrics, revision, deks: Mutex::default(), found: Mutex::default() }
    }

    /// Stores an owner's key for a provider at an origin, in the place of the one that was there.
    pub async fn put_key(
        &self,
        owner: &Owner,
        provider: &str,
        origin: &Origin,
        secret: Secret,
        pen: &Pen,
    ) -> Result<SecretId, VaultError> {
        check_provider(provider)?;
        let plain = secret.expose();
        if plain.is_empty() || plain.len() > LONGEST_SECRET || !plain.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(VaultError::BadSecret);
        }
        let hint = if plain.len() < HINTED { String::new() } else { token::hint(plain) };
        self.put(owner, provider, origin.as_str(), &secret, &hint, Some(pen)).await
    }

    /// Stores the secret of somebody's second factor, in the place of the one that was there. It is sealed as a provider's
    /// key is, under a name that no provider can have, and listed nowhere.
    pub(crate) async fn put_factor(&self, user: &UserId, secret: &Secret) -> Result<SecretId, VaultError> {
        self.put(&Owner::User(user.clone()), FACTOR, OURS, secret, "", None).await
    }

    /// The secret of somebody's second factor, and its id.
    pub(crate) async fn find_factor(&self, user: &UserId) -> Result<Option<(SecretId, Secret)>, VaultError> {
        let owner = Owner::User(user.clone()).to_string();
        let found = self.store.read().await?.find_secret(&owner, FACTOR, OURS).await?;
        match found {
            Some(sealed) => Ok(Some((sealed.id.clone(), self.unseal(&sealed).await?))),
            None => Ok(None),
        }
    }

    async fn put(
        &self,
        owner: &Owner,
        provider: &str,
        origin: &str,
        secret: &Secret,
        hint: &str,
        pen: Option<&Pen>,
    ) -> Result<SecretId, VaultError> {
        // The data key may be replaced between the look at it and the write.
        for _ in 0..3 {
            let (dek, key) = self.active_dek(&owner.to_string()).await?;
            let mut sealed = Sealed {
                id: SecretId::new(self.clock.id()),
                owner: owner.to_string(),
                provider: provider.to_owned(),
                origin: origin.to_owned(),
                dek: dek.to_string(),
                blob: Vec::new(),
                hint: hint.to_owned(),
                created_at: self.clock.now(),
            };
            sealed.blob = seal(&key.key, "", dek, &bound(&sealed, &dek.to_bytes()), secret.expose().as_bytes());
            let id = sealed.id.clone();
            let args = (sealed, self.org_of(owner).await?, pen.cloned());
            let put = self.store.write(args, |tx, (sealed, org, pen)| {
                Box::pin(async move {
                    let put = tx.put_secret(sealed).await?;
                    if let Some(pen) = pen.as_ref().filter(|_| put) {
                        note(tx, pen, told(Action::ProviderKeyPut, org, sealed)).await?;
                    }
                    Ok(put)
                })
            });
            if put.await? {
                return Ok(id);
            }
            locked(&self.deks).remove(&dek.to_string());
        }
        Err(VaultError::Busy)
    }

    /// The key with which the caller may call this provider at this origin: their own, or else their organisation's.
    ///
    /// An own key that cannot be opened is an error; the shared one does not stand in for it, because somebody else would
    /// pay.
    pub async fn provider_key(
        &self,
        caller: &Caller,
        provider: &str,
        origin: &Origin,
    ) -> Result<Option<Found>, VaultError> {
        let own = self.owners_key(Owner::User(caller.user.clone()), provider, origin).await?;
        match own {
            Some(found) => Ok(Some(found)),
            None => self.owners_key(Owner::Org(caller.org.clone()), provider, origin).await,
        }
    }

    /// The key of exactly this owner.
    pub async fn owners_key(&self, owner: Owner, provider: &str, origin: &Origin) -> Result<Option<Found>, VaultError> {
        let place = Place { owner, provider: provider.to_owned(), origin: origin.clone() };
        let (generation, now) = (self.revision.generation(&self.clock), self.clock.now());
        if let Some(known) = locked(&self.found).get(&place)
            && generation == Some(known.generation)
            && now < known.until
        {
            return Ok(known.found.clone());
        }
        let owner = place.owner.to_string();
        let sealed = self.store.read().await?.find_secret(&owner, provider, origin.as_str()).await?;
        let found = match sealed {
            None => None,
            Some(sealed) => {
                let secret = self.unseal(&sealed).await?;
                Some(Found { secret, owner: place.owner.clone(), id: sealed.id })
            }
        };
        if let Some(generation) = generation {
            let mut known = locked(&self.found);
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(place, Remembered { found: found.clone(), generation, until: now + BELIEVE });
        }
        Ok(found)
    }

    /// What may be seen of an owner's keys, or of everybody's.
    pub async fn list_keys(&self, owner: Option<&Owner>) -> Result<Vec<Listed>, VaultError> {
        let owner = owner.map(Owner::to_string);
        let mut tx = self.store.read().await?;
        let (mut listed, mut after) = (Vec::new(), String::new());
        loop {
            let some = tx.list_secrets(owner.as_deref(), &after, 500).await?;
            let Some(last) = some.last() else { return Ok(listed) };
            after = last.id.to_string();
            let keys = some.into_iter().filter(|sealed| !sealed.provider.starts_with(OURS));
            listed.extend(keys.map(|sealed| Listed {
                id: sealed.id,
                owner: sealed.owner,
                provider: sealed.provider,
                origin: sealed.origin,
                hint: sealed.hint,
                created_at: sealed.created_at,
            }));
        }
    }

    /// Takes an owner's key away. `false` if the owner has none with that id.
    pub async fn remove_key(&self, owner: &Owner, id: &SecretId, pen: &Pen) -> Result<bool, VaultError> {
        let theirs = self.list_keys(Some(owner)).await?;
        let Some(listed) = theirs.into_iter().find(|listed| listed.id == *id) else { return Ok(false) };
        let detail = json!({
            "owner": listed.owner, "provider": listed.provider, "origin": listed.origin, "hint": listed.hint,
        });
        let deed = Deed::new(Action::ProviderKeyRemoved, &self.org_of(owner).await?, id).with(detail);
        let removed = self.store.write((id.clone(), pen.clone(), deed), |tx, (id, pen, deed)| {
            Box::pin(async move {
                let removed = tx.remove_secret(id).await?;
                if removed {
                    note(tx, pen, deed.clone()).await?;
                }
                Ok(removed)
            })
        });
        Ok(removed.await?)
    }

    /// The organisation in whose audit an owner's keys stand.
    async fn org_of(&self, owner: &Owner) -> Result<OrgId, VaultError> {
        match owner {
            Owner::Org(org) => Ok(org.clone()),
            Owner::User(user) => {
                let user = self.store.read().await?.find_user(user).await?;
                Ok(user.map_or_else(|| OrgId::new(""), |user| user.org))
            }
        }
    }

    /// Opens a row. What does not open is counted and logged here, whoever asked.
    async fn unseal(&self, sealed: &Sealed) -> Result<Secret, VaultError> {
        let opened = self.try_unseal(sealed).await;
        if let Err(error @ (VaultError::Unsealable { .. } | VaultError::BadDek { .. } | VaultError::MissingMaster(_))) =
            &opened
        {
            self.metrics.count("", "vault_unsealable");
            tracing::error!(secret.id = %sealed.id, owner = sealed.owner, provider = sealed.provider, %error,
                "a stored key cannot be opened");
        }
        opened
    }

    async fn try_unseal(&self, sealed: &Sealed) -> Result<Secret, VaultError> {
        let unsealable = |why| VaultError::Unsealable { id: sealed.id.clone(), why };
        let blob = Blob::parse(&sealed.blob).map_err(unsealable)?;
        if !blob.kid.is_empty() || blob.dek.to_string() != sealed.dek {
            return Err(unsealable(Broken::Seal));
        }
        let dek = self.dek(&sealed.dek).await?;
        // Another owner's data key would open what was sealed for that owner.
        let dek = dek.filter(|dek| dek.owner == sealed.owner).ok_or_else(|| unsealable(Broken::Seal))?;
        let plain = blob.open(&dek.key, &bound(sealed, &blob.dek.to_bytes())).map_err(unsealable)?;
        let text = std::str::from_utf8(&plain).map_err(|_| unsealable(Broken::Shape))?;
        Ok(Secret::new(text))
    }

    /// The data key by its id, if there is one.
    async fn dek(&self, id: &str) -> Result<Option<Arc<Opened>>, VaultError> {
        if let Some(opened) = locked(&self.deks).get(id) {
            return Ok(Some(opened.clone()));
        }
        match self.store.read().await?.find_dek(id).await? {
            Some(dek) => self.open_dek(&dek).map(Some),
            None => Ok(None),
        }
    }

    /// The data key that seals what is new of this owner; made when it is needed first.
    async fn active_dek(&self, owner: &str) -> Result<(Ulid, Arc<Opened>), VaultError> {
        let mut found = self.store.read().await?.find_active_dek(owner).await?;
        if found.is_none() {
            let (id, key) = self.new_dek();
            let dek = self.keys.master().wrap(owner, id, &key, &self.clock);
            self.store.write(dek, |tx, dek| Box::pin(tx.add_dek(dek))).await?;
            // Somebody else may have been faster; then theirs is the one.
            found = self.store.read().await?.find_active_dek(owner).await?;
        }
        let dek = found.ok_or(VaultError::Busy)?;
        let opened = self.open_dek(&dek)?;
        let bad = |_| VaultError::BadDek { id: dek.id.clone(), owner: dek.owner.clone(), why: Broken::Shape };
        Ok((Ulid::from_string(&dek.id).map_err(bad)?, opened))
    }

    fn new_dek(&self) -> (Ulid, Key) {
        let ms = u64::try_from(self.clock.now().0).unwrap_or(0);
        (Ulid::from_parts(ms, rand::random()), Zeroizing::new(rand::random()))
    }

    fn open_dek(&self, dek: &Dek) -> Result<Arc<Opened>, VaultError> {
        let opened = self.keys.master().unwrap(dek).ok_or_else(|| VaultError::MissingMaster(dek.kid.clone()))?;
        let key = opened.map_err(|why| VaultError::BadDek { id: dek.id.clone(), owner: dek.owner.clone(), why })?;
        let opened = Arc::new(Opened { owner: dek.owner.clone(), key });
        let mut known = locked(&self.deks);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(dek.id.clone(), opened.clone());
        Ok(opened)
    }
}

/// What a secret is bound to, beside its data key.
fn bound<'a>(sealed: &'a Sealed, dek: &'a [u8; 16]) -> [&'a [u8]; 8] {
    [
        b"salon.v1",
        b"secrets",
        b"sealed",
        sealed.id.as_str().as_bytes(),
        sealed.owner.as_bytes(),
        sealed.provider.as_bytes(),
        sealed.origin.as_bytes(),
        dek,
    ]
}

/// What is told of a key: whose it is and what it is for, and of itself no more than its hint.
fn told(action: Action, org: &OrgId, sealed: &Sealed) -> Deed {
    Deed::new(action, org, &sealed.id).with(json!({
        "owner": sealed.owner, "provider": sealed.provider, "origin": sealed.origin, "hint": sealed.hint,
    }))
}

/// Refuses what no provider is called.
pub fn check_provider(provider: &str) -> Result<(), VaultError> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let good = !provider.is_empty() && provider.len() <= 64 && provider.bytes().all(known);
    if good { Ok(()) } else { Err(VaultError::BadProvider(provider.chars().take(64).collect())) }
}

/// The maps hold no invariant that a panic could break.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
