//! Making and revoking keys.

use salon_core::limit::{Limit, Measure, Period, Scope};
use salon_core::people::Role;
use salon_core::{KeyId, LimitId, OrgId, Scopes, Time, UserId};
use salon_engine::Secret;
use salon_store::{ApiKey, Store, Terms};
use serde_json::json;
use thiserror::Error;

use super::{Caller, token};
use crate::audit::{Action, Actor, Deed, Pen, note};
use crate::clock::Clock;
use crate::keys::Keys;

/// Keys that somebody may have at once.
const MOST_KEYS: usize = 200;
const LONGEST_NAME: usize = 100;
/// Limits of its own that a key may be made with.
const MOST_LIMITS: usize = 12;

/// Who makes or revokes a key.
#[derive(Clone, Copy, Debug)]
pub enum Maker<'a> {
    /// Whoever has the machine.
    Operator,
    Caller(&'a Caller),
}

impl From<Maker<'_>> for Actor {
    fn from(maker: Maker<'_>) -> Actor {
        match maker {
            Maker::Operator => Actor::Operator,
            Maker::Caller(caller) => caller.into(),
        }
    }
}

/// A key to be made. It becomes what is asked for, as far as its user and its maker reach.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// For whom it speaks.
    pub user: UserId,
    pub name: String,
    /// The user's if nothing is said.
    pub role: Option<Role>,
    pub scopes: Scopes,
    pub expires_at: Option<Time>,
    /// What it may take by itself, whatever else its user does.
    pub limits: Vec<OwnLimit>,
}

/// A limit of a key that is yet to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnLimit {
    pub measure: Measure,
    pub period: Period,
    pub terms: Terms,
}

/// A new key. This is the only moment at which it can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    pub key: ApiKey,
    pub limits: Vec<Limit>,
    pub secret: Secret,
}

#[derive(Debug, Error)]
pub enum IssueError {
    #[error("There is nobody with the id {0}, or the account is switched off.")]
    Nobody(UserId),
    #[error("A key's name has 1 to {LONGEST_NAME} characters, without line breaks.")]
    BadName,
    #[error("A key that could do nothing is not made: what is asked for lies outside of what its maker may do.")]
    Nothing,
    #[error("{0:?} is no route: it begins with a slash, such as /v1/chat/completions or /v1/*.")]
    BadRoute(String),
    #[error("A key cannot expire in the past.")]
    Past,
    #[error("There are {MOST_KEYS} keys already. Revoke some first.")]
    TooMany,
    #[error("This is no limit: {0}.")]
    BadLimit(&'static str),
    /// What the new key takes would not count against the old one.
    #[error("A key with limits of its own cannot make others. Use a key without them, or ask an administrator.")]
    Limited,
    #[error("Keys are made with a key, or by somebody who is logged in.")]
    Anonymous,
    #[error("Only an administrator may look after other people's keys.")]
    NotYours,
    #[error("There is no key {0} that could be revoked.")]
    NoKey(KeyId),
    #[error(transparent)]
    Store(#[from] salon_store::Error),
}

/// Whether a pattern can be a door's path, or all of them. Any other would open nothing.
fn is_path(pattern: &str) -> bool {
    pattern.starts_with('/') || pattern == "*"
}

/// Makes a key, with its limits or not at all.
///
/// A [`Book`](crate::ledger::Book) learns of the limits by itself, within a moment, or when it is told to look.
pub async fn make_key(
    store: &Store,
    clock: &Clock,
    keys: &Keys,
    maker: Maker<'_>,
    new: NewKey,
) -> Result<Issued, IssueError> {
    let now = clock.now();
    let name = new.name.trim().to_owned();
    if !(1..=LONGEST_NAME).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(IssueError::BadName);
    }
    let mut tx = store.read().await?;
    let user = tx.find_user(&new.user).await?.filter(|user| user.active);
    let user = user.ok_or_else(|| IssueError::Nobody(new.user.clone()))?;
    let mut role = new.role.unwrap_or(user.role).min(user.role);
    let (mut scopes, mut expires_at, mut own) = (new.scopes, new.expires_at, new.limits);
    let (mut by, mut parent) = (user.id.clone(), None);
    if let Maker::Caller(caller) = maker {
        let theirs = caller.user == user.id || (caller.role == Role::Admin && caller.org == user.org);
        if !theirs {
            return Err(IssueError::NotYours);
        }
        // They are let in because of where they stand, and a key would be good anywhere.
        if caller.is_anybody() {
            return Err(IssueError::Anonymous);
        }
        role = role.min(caller.role);
        scopes = scopes.within(&caller.scopes);
        by = caller.user.clone();
        let mut of_keys = tx.list_limits(&user.org).await?;
        of_keys.retain(|limit| limit.scope == Scope::Key);
        if caller.role < Role::Admin {
            own.iter_mut().for_each(|own| narrow(own, &of_keys));
        }
        if let Some(key) = &caller.key {
            let key = tx.find_api_key(key).await?.ok_or_else(|| IssueError::NoKey(key.clone()))?;
            expires_at = [expires_at, key.expires_at].into_iter().flatten().min();
            let about = |limit: &Limit| limit.subject.as_deref().is_none_or(|subject| subject == key.id.as_str());
            if of_keys.iter().any(|limit| limit.policy.caps() && about(limit)) {
                return Err(IssueError::Limited);
            }
            parent = Some(key.id);
        }
    }
    if scopes.allow_nothing() {
        return Err(IssueError::Nothing);
    }
    if let Some(route) =
        scopes.routes.text().and_then(|text| text.split(',').find(|route| !is_path(route)).map(str::to_owned))
    {
        return Err(IssueError::BadRoute(route));
    }
    if expires_at.is_some_and(|at| at <= now) {
        return Err(IssueError::Past);
    }
    let kept = tx.list_api_keys(Some(&user.id)).await?;
    drop(tx);
    if kept.iter().filter(|key| key.revoked_at.is_none()).count() >= MOST_KEYS {
        return Err(IssueError::TooMany);
    }
    let secret = token::make();
    let key = ApiKey {
        id: KeyId::new(clock.id()),
        name,
        hint: token::hint(secret.expose()),
        user: user.id.clone(),
        maker: by,
        parent,
        role,
        routes: scopes.routes.text(),
        models: scopes.models.text(),
        networks: scopes.networks.text(),
        created_at: now,
        expires_at,
        last_used_at: None,
        revoked_at: None,
    };
    let limits = own.into_iter().map(|own| Limit {
        id: LimitId::new(clock.id()),
        org: user.org.clone(),
        scope: Scope::Key,
        subject: Some(key.id.to_string()),
        measure: own.measure,
        period: own.period,
        amount: own.terms.amount,
        policy: own.terms.policy,
        thresholds: own.terms.thresholds,
    });
    let limits: Vec<Limit> = limits.collect();
    if limits.len() > MOST_LIMITS {
        return Err(IssueError::BadLimit("a key has at most twelve of its own"));
    }
    if let Some(fault) = limits.iter().find_map(Limit::fault) {
        return Err(IssueError::BadLimit(fault));
    }
    let deed = Deed::new(Action::ApiKeyMade, &user.org, &key.id).with(json!({
        "user": key.user.as_str(), "hint": key.hint, "role": key.role.as_str(), "made_with": key.parent.as_ref().map(KeyId::as_str),
        "routes": key.routes, "models": key.models, "networks": key.networks, "expires_at_ms": key.expires_at.map(|at| at.0),
        "limits": limits.len(),
    }));
    let pen = Pen::new(keys, clock, maker);
    let args = (key.clone(), keys.token_hash(secret.expose()), limits.clone(), pen, deed);
    let write = store.write(args, |tx, (key, hash, limits, pen, deed)| {
        Box::pin(async move {
            let mut added = tx.add_api_key(key, hash).await?;
            for limit in limits.iter() {
                added &= tx.add_limit(limit, key.created_at).await?;
            }
            // Of 256 random bits no two are alike.
            if added {
                note(tx, pen, deed.clone()).await
            } else {
                Err(anyhow::anyhow!("the source of randomness is broken").into())
            }
        })
    });
    write.await?;
    Ok(Issued { key, limits, secret })
}

/// A key's own limit takes the place of what is said of every key for the same measure and period, so it must not allow
/// more.
fn narrow(own: &mut OwnLimit, of_keys: &[Limit]) {
    let each = of_keys.iter().filter(|limit| limit.subject.is_none() && limit.policy.caps());
    for each in each.filter(|each| (each.measure, each.period) == (own.measure, own.period)) {
        own.terms.amount = own.terms.amount.min(each.amount);
        own.terms.policy = each.policy;
    }
}

/// Revokes a key and those that were made with it. Whoever shows one of them is turned away from the next call on.
pub async fn revoke_key(
    store: &Store,
    clock: &Clock,
    keys: &Keys,
    by: Maker<'_>,
    id: &KeyId,
) -> Result<(), IssueError> {
    let no_key = || IssueError::NoKey(id.clone());
    let mut tx = store.read().await?;
    let key = tx.find_api_key(id).await?.ok_or_else(no_key)?;
    let owner = tx.find_user(&key.user).await?;
    drop(tx);
    let org = owner.map(|owner| owner.org);
    if let Maker::Caller(caller) = by
        && caller.user != key.user
        && !(caller.role == Role::Admin && Some(&caller.org) == org.as_ref())
    {
        return Err(no_key());
    }
    let org = org.unwrap_or_else(|| OrgId::new(""));
    let deed = Deed::new(Action::ApiKeyRevoked, &org, id).with(json!({ "user": key.user.as_str(), "hint": key.hint }));
    let args = (id.clone(), Pen::new(keys, clock, by), deed);
    let revoked = store.write(args, |tx, (id, pen, deed)| {
        Box::pin(async move {
            let revoked = tx.revoke_api_key(id, pen.at()).await?;
            if revoked {
                note(tx, pen, deed.clone()).await?;
            }
            Ok(revoked)
        })
    });
    if revoked.await? { Ok(()) } else { Err(no_key()) }
}
