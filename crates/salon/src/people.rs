//! Who may speak and who pays: making, finding and changing people and their organisations.

use salon_core::limit::{Limit, Scope, Zone};
use salon_core::mask::Mask;
use salon_core::people::Role;
use salon_core::{LimitId, Org, OrgId, Time, User, UserId};
use salon_store::{Error, Store, Tx};
use serde_json::json;
use thiserror::Error as ThisError;

use crate::access::jwt::Claims;
use crate::audit::{Action, Actor, Deed, Pen, note};
use crate::clock::Clock;
use crate::keys::Keys;
use crate::sessions::ANYBODY;

/// Everybody who is not said to belong elsewhere belongs here. It is there from the first start.
pub const DEFAULT_ORG: &str = "default";

const LONGEST_NAME: usize = 200;

#[derive(Debug, ThisError)]
pub enum PeopleError {
    #[error("There is no organisation {0}.")]
    NoOrg(String),
    #[error("There is nobody called {0}.")]
    Nobody(String),
    #[error("There are several people called {0}; say whom you mean by id.")]
    Several(String),
    #[error("There is no time zone {0}. Use an IANA name such as Europe/Berlin or Asia/Seoul.")]
    NoZone(String),
    #[error("A name has 1 to {LONGEST_NAME} characters, without line breaks.")]
    BadName,
    #[error("{0} is no e-mail address.")]
    BadEmail(String),
    #[error("Somebody else has that Telegram id.")]
    TelegramTaken,
    #[error("The last active administrator cannot be taken away.")]
    LastAdmin,
    #[error(transparent)]
    Store(#[from] Error),
}

/// Somebody to be added.
#[derive(Clone, Debug)]
pub struct NewUser {
    pub org: OrgId,
    pub name: String,
    pub email: Option<String>,
    pub role: Role,
    pub telegram: Option<i64>,
}

/// What is to change; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    pub org: Option<OrgId>,
    pub name: Option<String>,
    /// `Some(None)` forgets it, here and below.
    pub email: Option<Option<String>>,
    pub role: Option<Role>,
    pub active: Option<bool>,
    pub telegram: Option<Option<i64>>,
}

pub async fn add_user(store: &Store, clock: &Clock, pen: &Pen, new: NewUser) -> Result<User, PeopleError> {
    let user = User {
        id: UserId::new(clock.id()),
        org: find_org(store, new.org.as_str()).await?.id,
        name: name(&new.name)?,
        email: new.email.as_deref().map(email).transpose()?,
        role: new.role,
        active: true,
        telegram: new.telegram,
        subject: None,
        created_at: clock.now(),
    };
    let added = store.write((user.clone(), pen.clone()), |tx, (user, pen)| {
        Box::pin(async move {
            let added = tx.add_user(user).await?;
            if added {
                note(tx, pen, deed(Action::UserAdded, user)).await?;
            }
            Ok(added)
        })
    });
    if added.await? { Ok(user) } else { Err(PeopleError::TelegramTaken) }
}

/// Changes somebody. Their keys and tokens follow at once.
pub async fn set_user(store: &Store, pen: &Pen, id: &UserId, change: UserChange) -> Result<User, PeopleError> {
    let mut user = store.read().await?.find_user(id).await?.ok_or_else(|| PeopleError::Nobody(id.to_string()))?;
    let before = user.clone();
    let was_admin = user.role == Role::Admin && user.active;
    if let Some(org) = change.org {
        user.org = find_org(store, org.as_str()).await?.id;
    }
    if let Some(text) = change.name {
        user.name = name(&text)?;
    }
    if let Some(text) = change.email {
        user.email = text.as_deref().map(email).transpose()?;
    }
    user.role = change.role.unwrap_or(user.role);
    user.active = change.active.unwrap_or(user.active);
    user.telegram = change.telegram.unwrap_or(user.telegram);
    if was_admin && !(user.role == Role::Admin && user.active) {
        keep_an_admin(store, &user.id).await?;
    }
    let set = store.write((before, user.clone(), pen.clone()), |tx, (before, user, pen)| {
        Box::pin(async move {
            let set = tx.set_user(user).await?;
            if set && before.org != user.org {
                change_org(tx, &before.org, user, pen.at()).await?;
            }
            if set && before != user {
                note(tx, pen, deed(Action::UserChanged, user).with(changes(before, user))).await?;
            }
            Ok(set)
        })
    });
    if set.await? { Ok(user) } else { Err(PeopleError::TelegramTaken) }
}

/// Takes along what goes with somebody who comes to another organisation, and leaves what does not: their keys keep the
/// limits that they were made with, and the plan stays behind. In the transaction that writes where they are.
async fn change_org(tx: &mut Tx, from: &OrgId, user: &User, now: Time) -> salon_store::Result<()> {
    crate::plans::leave(tx, from, &user.id, now).await?;
    let keys = tx.list_api_keys(Some(&user.id)).await?;
    let of_theirs = |limit: &Limit| {
        limit.scope == Scope::Key && keys.iter().any(|key| limit.subject.as_deref() == Some(key.id.as_str()))
    };
    for limit in tx.list_limits(from).await?.into_iter().filter(of_theirs) {
        tx.remove_limit(from, &limit.id, now).await?;
        let id = LimitId::new(format!("{}-{}", limit.id, user.org));
        tx.add_limit(&Limit { id, org: user.org.clone(), ..limit }, now).await?;
    }
    Ok(())
}

/// Removes somebody with all their keys and secrets. The ledger keeps what they spent, under no name.
pub async fn remove_user(store: &Store, pen: &Pen, id: &UserId) -> Result<(), PeopleError> {
    let nobody = || PeopleError::Nobody(id.to_string());
    let user = store.read().await?.find_user(id).await?.ok_or_else(nobody)?;
    if user.role == Role::Admin && user.active {
        keep_an_admin(store, id).await?;
    }
    let removed = store.write((user, pen.clone()), |tx, (user, pen)| {
        Box::pin(async move {
            let removed = tx.remove_user(&user.id, pen.at()).await?;
            if removed {
                // Under no name: what stands here cannot be forgotten later.
                note(tx, pen, Deed::new(Action::UserRemoved, &user.org, &user.id)).await?;
            }
            Ok(removed)
        })
    });
    if removed.await? { Ok(()) } else { Err(nobody()) }
}

/// What is told of somebody: never a name or an address, because a line of the audit cannot be forgotten.
fn deed(action: Action, user: &User) -> Deed {
    Deed::new(action, &user.org, &user.id).with(json!({ "role": user.role.as_str(), "active": user.active }))
}

/// What of somebody was changed, from what to what where it says what they may do.
fn changes(before: &User, after: &User) -> serde_json::Value {
    let mut changes = serde_json::Map::new();
    let mut told = |name: &str, old: &str, new: &str| {
        if old != new {
            changes.insert(name.to_owned(), json!([old, new]));
        }
    };
    told("role", before.role.as_str(), after.role.as_str());
    told("active", &before.active.to_string(), &after.active.to_string());
    told("org", before.org.as_str(), after.org.as_str());
    let rest = [
        ("name", before.name != after.name),
        ("email", before.email != after.email),
        ("telegram", before.telegram != after.telegram),
    ];
    changes.extend(rest.into_iter().filter(|(_, other)| *other).map(|(name, _)| (name.to_owned(), json!("changed"))));
    changes.into()
}

/// Refuses to lose the last one who could undo it, if there are others who would be left alone.
async fn keep_an_admin(store: &Store, except: &UserId) -> Result<(), PeopleError> {
    let users = store.read().await?.list_users(None).await?;
    let is_somebody = |user: &&User| user.id != *except && user.active && user.id.as_str() != ANYBODY;
    let mut others = users.iter().filter(is_somebody).peekable();
    if others.peek().is_none() || others.any(|user| user.role == Role::Admin) {
        return Ok(());
    }
    Err(PeopleError::LastAdmin)
}

/// Sets until when somebody may do anything, and by which models they may be answered.
pub async fn set_reach(
    store: &Store,
    pen: &Pen,
    id: &UserId,
    until: Option<Time>,
    models: Option<&str>,
) -> Result<(), PeopleError> {
    let user = store.read().await?.find_user(id).await?.ok_or_else(|| PeopleError::Nobody(id.to_string()))?;
    let detail = json!({ "until_ms": until.map(|until| until.0), "models": models });
    let deed = Deed::new(Action::UserChanged, &user.org, id).with(detail);
    let args = (id.clone(), until, models.map(str::to_owned), pen.clone(), deed);
    let set = store.write(args, |tx, (id, until, models, pen, deed)| {
        Box::pin(async move {
            tx.set_reach(id, *until, models.as_deref()).await?;
            note(tx, pen, deed.clone()).await
        })
    });
    Ok(set.await?)
}

/// Somebody by id, e-mail address or name.
pub async fn find_user(store: &Store, word: &str) -> Result<User, PeopleError> {
    let users = store.read().await?.list_users(None).await?;
    if let Some(user) = users.iter().find(|user| user.id.as_str().eq_ignore_ascii_case(word)) {
        return Ok(user.clone());
    }
    let mut called = users.into_iter().filter(|user| user.name == word || user.email.as_deref() == Some(word));
    match (called.next(), called.next()) {
        (Some(user), None) => Ok(user),
        (None, _) => Err(PeopleError::Nobody(word.to_owned())),
        (Some(_), Some(_)) => Err(PeopleError::Several(word.to_owned())),
    }
}

pub async fn add_org(store: &Store, clock: &Clock, pen: &Pen, text: &str, zone: &str) -> Result<Org, PeopleError> {
    check_zone(zone)?;
    let org = Org {
        id: OrgId::new(clock.id()),
        name: name(text)?,
        zone: zone.to_owned(),
        subject: None,
        created_at: clock.now(),
    };
    let added = store.write((org.clone(), pen.clone()), |tx, (org, pen)| {
        Box::pin(async move {
            tx.add_org(org).await?;
            note(tx, pen, Deed::new(Action::OrgAdded, &org.id, &org.id)).await
        })
    });
    added.await?;
    Ok(org)
}

/// What is to change about an organisation.
#[derive(Clone, Copy, Debug, Default)]
pub struct OrgChange<'a> {
    pub name: Option<&'a str>,
    pub zone: Option<&'a str>,
    /// Who reads its texts masked.
    pub mask: Option<Mask>,
}

/// Changes an organisation, all of it or nothing. Windows of limits that have begun end as the new zone has it.
pub async fn set_org(store: &Store, pen: &Pen, word: &str, change: OrgChange<'_>) -> Result<Org, PeopleError> {
    let mut org = find_org(store, word).await?;
    if let Some(text) = change.name {
        org.name = name(text)?;
    }
    if let Some(zone) = change.zone {
        check_zone(zone)?;
        org.zone = zone.to_owned();
    }
    let set = store.write((org.clone(), change.mask, pen.clone()), |tx, (org, mask, pen)| {
        Box::pin(async move {
            if !tx.set_org(org).await? {
                return Ok(false);
            }
            let mut detail = json!({ "name": org.name, "zone": org.zone });
            if let Some(mask) = mask {
                let before = tx.find_mask(&org.id).await?;
                tx.set_mask(&org.id, mask.as_str()).await?;
                detail["mask"] = json!({ "from": before, "to": mask.as_str() });
            }
            note(tx, pen, Deed::new(Action::OrgChanged, &org.id, &org.id).with(detail)).await?;
            Ok(true)
        })
    });
    if set.await? { Ok(org) } else { Err(PeopleError::NoOrg(word.to_owned())) }
}

/// Who reads the texts of an organisation masked; nobody where there is no such organisation.
///
/// Whoever shows a turn's texts to somebody else than its author shows them by [`Mask::for_readers`].
pub async fn mask_of(store: &Store, org: &OrgId) -> Result<Mask, Error> {
    let mask = store.read().await?.find_mask(org).await?;
    Ok(mask.and_then(|mask| Mask::parse(&mask)).unwrap_or_default())
}

/// An organisation by id or name.
pub async fn find_org(store: &Store, word: &str) -> Result<Org, PeopleError> {
    let orgs = store.read().await?.list_orgs().await?;
    let by_id = orgs.iter().find(|org| org.id.as_str().eq_ignore_ascii_case(word));
    let found = by_id.or_else(|| orgs.iter().find(|org| org.name == word));
    found.cloned().ok_or_else(|| PeopleError::NoOrg(word.to_owned()))
}

/// Whoever speaks in Telegram, as somebody of the bots' organisation; made when they first do.
///
/// To be called where a question is stored, in its transaction. `id` is used if they are new.
pub async fn person_of_telegram(
    tx: &mut Tx,
    pen: &Pen,
    telegram: i64,
    text: &str,
    id: &UserId,
    now: Time,
) -> salon_store::Result<User> {
    if let Some(user) = tx.find_user_of_telegram(telegram).await? {
        return Ok(user);
    }
    let user = User {
        id: id.clone(),
        org: OrgId::new(DEFAULT_ORG),
        name: shortened(text, || format!("Telegram {telegram}")),
        email: None,
        role: Role::User,
        active: true,
        telegram: Some(telegram),
        subject: None,
        created_at: now,
    };
    if tx.add_user(&user).await? {
        note(tx, pen, deed(Action::UserAdded, &user)).await?;
        return Ok(user);
    }
    // Somebody else was faster in between.
    let user = tx.find_user_of_telegram(telegram).await?;
    user.ok_or_else(|| Error::Unavailable("two transactions met".to_owned()))
}

/// Whom a sister backend's token is about, with their organisation; made or brought up to date if need be. `None` if we
/// have switched that person off: the sister says who somebody is, and not whether they may come in.
pub(crate) async fn person_of_claims(
    store: &Store,
    clock: &Clock,
    keys: &Keys,
    claims: Claims,
) -> salon_store::Result<Option<(Org, User)>> {
    let mut tx = store.read().await?;
    let user = tx.find_user_of_subject(&claims.user).await?;
    let org = match &claims.org {
        Some(subject) => tx.find_org_of_subject(subject).await?,
        None => tx.find_org(&OrgId::new(DEFAULT_ORG)).await?,
    };
    drop(tx);
    if let (Some(user), Some(org)) = (user, org)
        && claims.agree(&user, &org)
    {
        return Ok(user.active.then_some((org, user)));
    }
    let now = clock.now();
    let pen = Pen::new(keys, clock, Actor::Salon);
    let new = Newcomer { claims, user: UserId::new(clock.id()), org: OrgId::new(clock.id()), now, pen };
    let (org, user) = store.write(new, |tx, new| Box::pin(welcome(tx, new))).await?;
    Ok(user.active.then_some((org, user)))
}

struct Newcomer {
    claims: Claims,
    /// Used if they are new.
    user: UserId,
    org: OrgId,
    now: Time,
    pen: Pen,
}

async fn welcome(tx: &mut Tx, new: &Newcomer) -> salon_store::Result<(Org, User)> {
    let claims = &new.claims;
    let met = || Error::Unavailable("two transactions met".to_owned());
    let org = match &claims.org {
        None => tx.find_org(&OrgId::new(DEFAULT_ORG)).await?.ok_or_else(met)?,
        Some(subject) => match tx.find_org_of_subject(subject).await? {
            Some(org) => org,
            None => {
                let org = Org {
                    id: new.org.clone(),
                    name: shortened(subject.trim_start_matches(SISTER), || subject.clone()),
                    zone: "UTC".to_owned(),
                    subject: Some(subject.clone()),
                    created_at: new.now,
                };
                if tx.add_org(&org).await? { org } else { tx.find_org_of_subject(subject).await?.ok_or_else(met)? }
            }
        },
    };
    let known = tx.find_user_of_subject(&claims.user).await?;
    let before = known.clone();
    let mut user = known.unwrap_or_else(|| User {
        id: new.user.clone(),
        org: org.id.clone(),
        name: String::new(),
        email: None,
        role: Role::User,
        active: true,
        telegram: None,
        subject: Some(claims.user.clone()),
        created_at: new.now,
    });
    user.org = org.id.clone();
    user.name = claims.shown_name();
    user.email.clone_from(&claims.email);
    user.role = claims.role;
    if let Some(before) = before {
        tx.set_user(&user).await?;
        if before.org != user.org {
            change_org(tx, &before.org, &user, new.now).await?;
        }
        if before != user {
            note(tx, &new.pen, deed(Action::UserChanged, &user).with(changes(&before, &user))).await?;
        }
        return Ok((org, user));
    }
    if tx.add_user(&user).await? {
        note(tx, &new.pen, deed(Action::UserAdded, &user)).await?;
        return Ok((org, user));
    }
    Ok((org, tx.find_user_of_subject(&claims.user).await?.ok_or_else(met)?))
}

/// Stands before what a sister backend calls somebody.
pub(crate) const SISTER: &str = "jwt:";

impl Claims {
    fn shown_name(&self) -> String {
        shortened(&self.name, || self.user.trim_start_matches(SISTER).to_owned())
    }

    fn agree(&self, user: &User, org: &Org) -> bool {
        user.org == org.id && user.role == self.role && user.email == self.email && user.name == self.shown_name()
    }
}

pub(crate) fn name(text: &str) -> Result<String, PeopleError> {
    let text = text.trim();
    let good = (1..=LONGEST_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if good { Ok(text.to_owned()) } else { Err(PeopleError::BadName) }
}

/// A name that somebody else gave, made one that we show.
fn shortened(text: &str, otherwise: impl FnOnce() -> String) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    let plain = plain.trim();
    if plain.is_empty() { otherwise() } else { plain.to_owned() }
}

pub(crate) fn email(text: &str) -> Result<String, PeopleError> {
    let text = text.trim();
    let whole = text.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.is_empty());
    let good = whole && text.len() <= 254 && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if good { Ok(text.to_owned()) } else { Err(PeopleError::BadEmail(text.chars().take(80).collect())) }
}

fn check_zone(zone: &str) -> Result<(), PeopleError> {
    Zone::find(zone).map(drop).ok_or_else(|| PeopleError::NoZone(zone.to_owned()))
}
