//! Who is asking, and may they: from what a request shows to a [`Caller`].
//!
//! ```text
//!  headers ─► Credential::read ─► Access::admit ─► remembered? ─► active, not expired, door and address in scope ─► Caller
//!                                                      │ no
//!                                                      ▼
//!                                          too many failures of this peer? ─► the database, or the sister's signature
//! ```
//!
//! What was looked up is remembered by its hash for as long as the [`Revision`] stands, so the usual call costs one hash
//! and one look into a table. When people, keys or scopes change here, the next call sees it; in other processes within a
//! second.

mod credential;
mod failures;
pub mod issue;
pub mod jwt;
pub(crate) mod token;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use salon_core::limit::Zone;
use salon_core::people::Role;
use salon_core::scopes::Allowed;
use salon_core::{KeyId, OrgId, Scopes, Time, UserId};
use salon_store::{Shown, Store};
use subtle::ConstantTimeEq;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::keys::{Keys, hex};
use crate::metrics::Metrics;
use crate::revision::Revision;
use crate::sessions::ANYBODY;
use failures::Failures;
use jwt::Jwt;

pub use credential::{BadCredential, Credential};

/// How many credentials are remembered: those in use, and as many that no longer are.
const REMEMBERED: usize = 10_000;
/// How many that were wrong are remembered.
const WRONG_REMEMBERED: usize = 4_096;
/// What was right is looked up anew now and then, whatever was heard of changes.
const BELIEVE: Duration = Duration::from_secs(300);
const BELIEVE_WRONG: Duration = Duration::from_secs(5);
/// A key's last use is written down at most this often.
const NOTE_EVERY: Duration = Duration::from_secs(60);
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// Somebody who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub org: OrgId,
    /// The organisation's, in which days and months of limits begin.
    pub zone: Zone,
    pub user: UserId,
    /// What they may do here at most; a key may hold less than its user.
    pub role: Role,
    /// The key they came by, if it was one of ours.
    pub key: Option<KeyId>,
    pub scopes: Scopes,
}

impl Caller {
    /// Whether the model may be used, by the name that the caller gives it.
    pub fn may_use(&self, model: &str) -> Result<(), Denied> {
        if self.scopes.allow_model(model) { Ok(()) } else { Err(Denied::Model) }
    }

    /// Whether they did not say who they are, which only programs on this machine may do.
    pub fn is_anybody(&self) -> bool {
        self.key.is_none() && self.user.as_str() == ANYBODY
    }

    pub fn may_act_as(&self, role: Role) -> Result<(), Denied> {
        if self.role >= role { Ok(()) } else { Err(Denied::Role) }
    }
}

/// Why somebody is not let in. The sentences are for them; they tell nothing that they do not know.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    #[error("This key is not known here.")]
    Unknown,
    #[error("This key has expired.")]
    Expired,
    #[error("This key was revoked.")]
    Revoked,
    #[error("This account is switched off.")]
    Inactive,
    #[error("This token cannot be trusted: {0}.")]
    BadToken(&'static str),
    #[error("This key may not be used here.")]
    Route,
    #[error("This key may not be used for this model.")]
    Model,
    #[error("This key may not be used from this address.")]
    Peer,
    #[error("Your role does not allow this.")]
    Role,
    #[error("Too many failed attempts from this address. Try again later.")]
    TooMany { retry_after: Duration },
    #[error("Keys cannot be looked up now. Try again later.")]
    Unavailable,
}

impl Denied {
    pub fn status(&self) -> u16 {
        match self {
            Denied::Unknown | Denied::Expired | Denied::Revoked | Denied::Inactive | Denied::BadToken(_) => 401,
            Denied::Route | Denied::Model | Denied::Peer | Denied::Role => 403,
            Denied::TooMany { .. } => 429,
            Denied::Unavailable => 503,
        }
    }

    /// A stable machine-readable name.
    pub fn code(&self) -> &'static str {
        match self {
            Denied::Unknown => "unknown_key",
            Denied::Expired => "expired_key",
            Denied::Revoked => "revoked_key",
            Denied::Inactive => "inactive_account",
            Denied::BadToken(_) => "bad_token",
            Denied::Route => "route_not_allowed",
            Denied::Model => "model_not_allowed",
            Denied::Peer => "address_not_allowed",
            Denied::Role => "role_not_allowed",
            Denied::TooMany { .. } => "too_many_attempts",
            Denied::Unavailable => "keys_unavailable",
        }
    }

    /// Whether it was a wrong guess, as opposed to somebody known who may not do this.
    fn is_failure(&self) -> bool {
        self.status() == 401
    }
}

/// What access and vault share with the rest of the house.
pub(crate) type Parts = (Store, Clock, Keys, Arc<Metrics>, Arc<Revision>);

/// Lets callers in. One per process.
pub struct Access {
    store: Store,
    clock: Clock,
    keys: Keys,
    metrics: Arc<Metrics>,
    revision: Arc<Revision>,
    remembered: Mutex<Remembered>,
    failures: Failures,
    /// Last uses that are not written down yet. As many as there are keys at most.
    uses: Mutex<HashMap<KeyId, Time>>,
    jwt: OnceLock<Jwt>,
}

impl Access {
    pub(crate) fn new((store, clock, keys, metrics, revision): Parts) -> Access {
        Access {
            store,
            clock,
            keys,
            metrics,
            revision,
            remembered: Mutex::default(),
            failures: Failures::default(),
            uses: Mutex::default(),
            jwt: OnceLock::new(),
        }
    }

    /// Trusts the tokens of a sister backend from now on. To be called once, before work begins.
    pub fn trust(&self, jwt: Jwt) {
        self.jwt.set(jwt).ok();
    }

    /// Lets the credential's holder in, at this door and from this address.
    ///
    /// `route` is the door's path as the documentation has it, whatever spelling the caller used: scopes are written
    /// against it.
    pub async fn admit(
        &self,
        credential: &Credential,
        peer: IpAddr,
        route: &str,
        now: Time,
    ) -> Result<Arc<Caller>, Denied> {
        let admitted = self.caller(credential, peer, now).await.and_then(|caller| {
            if !caller.scopes.allow_peer(peer) {
                return Err(Denied::Peer);
            }
            if caller.scopes.allow_route(route) { Ok(caller) } else { Err(Denied::Route) }
        });
        if let Err(denied) = &admitted {
            self.metrics.count("", &format!("access_denied.{}", denied.code()));
            if denied.is_failure() {
                self.failures.note(peer, now);
            }
        }
        admitted
    }

    async fn caller(&self, credential: &Credential, peer: IpAddr, now: Time) -> Result<Arc<Caller>, Denied> {
        let (Credential::Key(secret) | Credential::Jwt(secret)) = credential else {
            return self.failures.allow(peer, now).and(Err(Denied::Unknown));
        };
        let hash = self.keys.token_mac(secret.expose());
        let generation = self.revision.generation(&self.clock);
        let known = locked(&self.remembered).find(&hash);
        match &known {
            Some(Known::Right(entry)) if entry.holds(generation, now) => return self.use_entry(entry, now),
            // Whoever was let in before is not held up by a neighbour's failures.
            Some(Known::Right(_)) => {}
            Some(Known::Wrong(entry)) if entry.holds(generation, now) => {
                return self.failures.allow(peer, now).and(Err(entry.denied.clone()));
            }
            _ => self.failures.allow(peer, now)?,
        }
        let found = match credential {
            Credential::Key(_) => self.look_up(&hash).await,
            _ => self.prove(secret.expose(), now).await,
        };
        let entry = match found {
            Ok(entry) => entry,
            Err(denied) => {
                if denied.is_failure()
                    && let Some(generation) = generation
                {
                    let wrong = Wrong { denied: denied.clone(), generation, until: now + BELIEVE_WRONG };
                    locked(&self.remembered).keep_wrong(hash, wrong);
                }
                return Err(denied);
            }
        };
        let entry = Arc::new(Entry { generation: generation.unwrap_or(0), until: now + BELIEVE, ..entry });
        locked(&self.remembered).keep(hash, entry.clone());
        self.use_entry(&entry, now)
    }

    fn use_entry(&self, entry: &Entry, now: Time) -> Result<Arc<Caller>, Denied> {
        if entry.expires_at.is_some_and(|at| at <= now) {
            return Err(Denied::Expired);
        }
        if let Some(key) = &entry.caller.key {
            let noted = entry.noted_at.load(Ordering::Relaxed);
            let due = now.0.saturating_sub(noted) >= NOTE_EVERY.as_millis() as i64;
            // Of several that meet here, one writes.
            if due && entry.noted_at.compare_exchange(noted, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                locked(&self.uses).insert(key.clone(), now);
            }
        }
        Ok(entry.caller.clone())
    }

    /// Asks the database for a key of ours.
    async fn look_up(&self, mac: &[u8; 32]) -> Result<Entry, Denied> {
        let hash = hex(mac);
        let found = async { self.store.read().await?.find_shown_key(&hash).await };
        let shown = found.await.map_err(|error| unavailable(&error))?;
        let Some(shown) = shown.filter(|shown| bool::from(shown.hash.as_bytes().ct_eq(hash.as_bytes()))) else {
            return Err(Denied::Unknown);
        };
        if shown.key.revoked_at.is_some() {
            return Err(Denied::Revoked);
        }
        if !shown.active {
            return Err(Denied::Inactive);
        }
        Ok(Entry::of_key(shown))
    }

    /// Proves a sister backend's token, and finds or makes whom it is about.
    async fn prove(&self, token: &str, now: Time) -> Result<Entry, Denied> {
        let Some(jwt) = self.jwt.get() else { return Err(Denied::Unknown) };
        let claims = jwt.prove(token, now).await?;
        let expires_at = claims.expires_at;
        let found = crate::people::person_of_claims(&self.store, &self.clock, &self.keys, claims).await;
        let Some((org, user)) = found.map_err(|error| unavailable(&error))? else { return Err(Denied::Inactive) };
        // What the administrators here allow somebody counts, whatever the sister signs.
        let account = async { self.store.read().await?.find_account(&user.id).await };
        let account = account.await.map_err(|error| unavailable(&error))?.ok_or(Denied::Inactive)?;
        let caller = Caller {
            org: org.id,
            zone: zone(&org.zone),
            user: user.id,
            role: user.role,
            key: None,
            scopes: crate::logins::reach(&account),
        };
        Ok(Entry::new(caller, [Some(expires_at), account.until].into_iter().flatten().min(), None))
    }

    /// Watches for changes of other processes and writes down when keys were used, until Salon closes.
    pub async fn keep(&self, closing: CancellationToken) {
        tokio::join!(self.revision.watch(&self.store, &self.clock, &closing), self.write_uses_regularly(&closing));
        if let Err(error) = self.write_uses().await {
            tracing::warn!(%error, "the last uses of some keys were not written down");
        }
    }

    async fn write_uses_regularly(&self, closing: &CancellationToken) {
        let mut every = tokio::time::interval(WRITE_EVERY);
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                _ = every.tick() => if let Err(error) = self.write_uses().await {
                    tracing::debug!(%error, "the uses of keys will be written down later");
                },
            }
        }
    }

    /// Writes down what was used since the last time. What fails stays for the next one.
    pub(crate) async fn write_uses(&self) -> salon_store::Result<()> {
        let mut uses: Vec<_> = std::mem::take(&mut *locked(&self.uses)).into_iter().collect();
        if uses.is_empty() {
            return Ok(());
        }
        // One order for everybody, or two processes could lock each other's rows.
        uses.sort();
        let written = self.store.write(uses.clone(), |tx, uses| Box::pin(tx.note_key_uses(uses))).await;
        if written.is_err() {
            let mut waiting = locked(&self.uses);
            for (key, at) in uses {
                waiting.entry(key).and_modify(|later| *later = at.max(*later)).or_insert(at);
            }
        }
        written
    }
}

/// Somebody who was let in, as it is remembered.
struct Entry {
    caller: Arc<Caller>,
    expires_at: Option<Time>,
    /// When its use was written down last.
    noted_at: AtomicI64,
    generation: u64,
    until: Time,
}

impl Entry {
    fn new(caller: Caller, expires_at: Option<Time>, noted_at: Option<Time>) -> Entry {
        let noted_at = AtomicI64::new(noted_at.map_or(0, |at| at.0));
        Entry { caller: Arc::new(caller), expires_at, noted_at, generation: 0, until: Time(0) }
    }

    fn of_key(shown: Shown) -> Entry {
        let key = shown.key;
        let own = scopes(key.routes.as_deref(), key.models.as_deref(), key.networks.as_deref());
        let of = |models: &Option<String>| scopes(None, models.as_deref(), None);
        let caller = Caller {
            org: shown.org,
            zone: zone(&shown.zone),
            user: key.user,
            role: key.role.min(shown.role),
            key: Some(key.id),
            scopes: own.within(&of(&shown.user_models)).within(&of(&shown.maker_models)),
        };
        let expires_at = [key.expires_at, shown.until].into_iter().flatten().min();
        Entry::new(caller, expires_at, key.last_used_at)
    }

    fn holds(&self, generation: Option<u64>, now: Time) -> bool {
        generation == Some(self.generation) && now < self.until
    }
}

/// Scopes as their columns have them. What cannot be read allows nothing.
pub(crate) fn scopes(routes: Option<&str>, models: Option<&str>, networks: Option<&str>) -> Scopes {
    fn read<T: salon_core::scopes::Entry>(column: Option<&str>) -> Allowed<T> {
        column.map_or(Allowed::All, |text| Allowed::parse(text).unwrap_or(Allowed::Only(Vec::new())))
    }
    Scopes { routes: read(routes), models: read(models), networks: read(networks) }
}

pub(crate) fn zone(name: &str) -> Zone {
    Zone::find(name).unwrap_or_else(Zone::utc)
}

fn unavailable(error: &salon_store::Error) -> Denied {
    tracing::warn!(%error, "a key could not be looked up");
    Denied::Unavailable
}

/// A credential that was wrong.
struct Wrong {
    denied: Denied,
    generation: u64,
    until: Time,
}

impl Wrong {
    fn holds(&self, generation: Option<u64>, now: Time) -> bool {
        generation == Some(self.generation) && now < self.until
    }
}

enum Known {
    Right(Arc<Entry>),
    Wrong(Arc<Wrong>),
}

/// What was looked up, by the hash of what was shown. Bounded: when the young half is full it becomes the old one, and
/// what was not used meanwhile is forgotten. Wrong ones are kept apart, so that nobody is pushed out by nonsense.
#[derive(Default)]
struct Remembered {
    young: HashMap<[u8; 32], Arc<Entry>>,
    old: HashMap<[u8; 32], Arc<Entry>>,
    wrong: HashMap<[u8; 32], Arc<Wrong>>,
}

impl Remembered {
    fn find(&mut self, hash: &[u8; 32]) -> Option<Known> {
        if let Some(entry) = self.young.get(hash) {
            return Some(Known::Right(entry.clone()));
        }
        if let Some(entry) = self.old.remove(hash) {
            self.keep(*hash, entry.clone());
            return Some(Known::Right(entry));
        }
        self.wrong.get(hash).cloned().map(Known::Wrong)
    }

    fn keep(&mut self, hash: [u8; 32], entry: Arc<Entry>) {
        self.wrong.remove(&hash);
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, entry);
    }

    fn keep_wrong(&mut self, hash: [u8; 32], wrong: Wrong) {
        self.young.remove(&hash);
        self.old.remove(&hash);
        if self.wrong.len() >= WRONG_REMEMBERED {
            self.wrong.clear();
        }
        self.wrong.insert(hash, Arc::new(wrong));
    }
}

/// The maps hold no invariant that a panic could break.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
