//! Making and revoking keys.

use salon_core::people::Role;
use salon_core::{KeyId, Scopes, Time, UserId};
use salon_engine::Secret;
use salon_store::{ApiKey, Store};
use thiserror::Error;

use super::{Caller, token};
use crate::clock::Clock;
use crate::keys::Keys;

/// Keys that somebody may have at once.
const MOST_KEYS: usize = 200;
const LONGEST_NAME: usize = 100;

/// Who makes or revokes a key.
#[derive(Clone, Copy, Debug)]
pub enum Maker<'a> {
    /// Whoever has the machine.
    Operator,
    Caller(&'a Caller),
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
}

/// A new key. This is the only moment at which it can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    pub key: ApiKey,
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
    #[error("A key cannot expire in the past.")]
    Past,
    #[error("There are {MOST_KEYS} keys already. Revoke some first.")]
    TooMany,
    #[error("Only an administrator may look after other people's keys.")]
    NotYours,
    #[error("There is no key {0} that could be revoked.")]
    NoKey(KeyId),
    #[error(transparent)]
    Store(#[from] salon_store::Error),
}

/// Makes a key.
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
    let (mut scopes, mut expires_at) = (new.scopes, new.expires_at);
    let (mut by, mut parent) = (user.id.clone(), None);
    if let Maker::Caller(caller) = maker {
        let theirs = caller.user == user.id || (caller.role == Role::Admin && caller.org == user.org);
        if !theirs {
            return Err(IssueError::NotYours);
        }
        role = role.min(caller.role);
        scopes = scopes.within(&caller.scopes);
        by = caller.user.clone();
        if let Some(key) = &caller.key {
            let key = tx.find_api_key(key).await?.ok_or_else(|| IssueError::NoKey(key.clone()))?;
            expires_at = [expires_at, key.expires_at].into_iter().flatten().min();
            parent = Some(key.id);
        }
    }
    if scopes.allow_nothing() {
        return Err(IssueError::Nothing);
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
        user: user.id,
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
    let args = (key.clone(), keys.token_hash(secret.expose()));
    let added = store.write(args, |tx, (key, hash)| Box::pin(tx.add_api_key(key, hash))).await?;
    if !added {
        // Of 256 random bits no two are alike.
        return Err(salon_store::Error::from(anyhow::anyhow!("the source of randomness is broken")).into());
    }
    Ok(Issued { key, secret })
}

/// Revokes a key and those that were made with it. Whoever shows one of them is turned away from the next call on.
pub async fn revoke_key(store: &Store, clock: &Clock, by: Maker<'_>, id: &KeyId) -> Result<(), IssueError> {
    let no_key = || IssueError::NoKey(id.clone());
    let mut tx = store.read().await?;
    let key = tx.find_api_key(id).await?.ok_or_else(no_key)?;
    if let Maker::Caller(caller) = by
        && caller.user != key.user
    {
        let owner = tx.find_user(&key.user).await?;
        let theirs = owner.is_some_and(|owner| caller.role == Role::Admin && caller.org == owner.org);
        if !theirs {
            return Err(no_key());
        }
    }
    drop(tx);
    let revoked = store.write((id.clone(), clock.now()), |tx, (id, now)| Box::pin(tx.revoke_api_key(id, *now))).await?;
    if revoked { Ok(()) } else { Err(no_key()) }
}
