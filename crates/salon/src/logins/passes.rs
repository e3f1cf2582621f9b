//! Passes: words that somebody is shown once and may use once. An invitation, the first administrator's link, the code that
//! links a chat.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use salon_core::people::Role;
use salon_core::{Limit, LimitId, Measure, OrgId, Period, Policy, Scope, Time, User, UserId};
use salon_store::{Account, Link, Pass, Result, Taste, Tx};
use serde_json::json;

use crate::audit::{Action, Actor, Deed, Pen, note};
use crate::people::{DEFAULT_ORG, person_of_telegram};
use crate::{Clock, Salon};

/// The length of a cookie and of an invitation: 256 random bits.
pub(crate) const WORD: usize = 43;
const INVITATION: &str = "invite";
const CODE: &str = "link";
/// How long an invitation is good, if nobody says.
pub const INVITED_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long a code is good.
pub const CODE_FOR: Duration = Duration::from_secs(5 * 60);
/// A code is typed by people: letters that nobody takes for others, 16 of them, which are 80 bits.
pub(super) const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const CODE_LETTERS: usize = 16;

/// A new cookie, or whatever else nobody types.
pub(crate) fn word() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// What an invitation is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    pub hash: String,
    pub org: OrgId,
    pub role: Role,
}

/// Something that can be shown this once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh {
    pub word: String,
    pub expires_at: Time,
}

/// What became of a code that somebody sent from a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linking {
    Linked(UserId),
    /// There is no such code, or it was made for nobody who is here.
    Unknown,
    Used,
    Expired,
    /// This chat's person is somebody here already.
    Already,
}

impl Salon {
    /// Invites somebody to become one of an organisation, in a role.
    pub async fn invite(&self, pen: &Pen, org: &OrgId, role: Role, lasts: Duration) -> Result<Fresh> {
        let (word, now) = (word(), self.clock.now());
        let pass = Pass {
            hash: self.keys.token_hash(&word),
            kind: INVITATION.to_owned(),
            account: None,
            text: Some(format!("{role} {org}")),
            expires_at: now + lasts,
            used: false,
        };
        let expires_at = pass.expires_at;
        let deed = Deed::new(Action::Invited, org, &pass.hash[..12])
            .with(json!({ "role": role.as_str(), "expires_at_ms": expires_at.0 }));
        let made = self.store.write((pass, pen.clone(), deed), |tx, (pass, pen, deed)| {
            Box::pin(async move {
                tx.add_pass(pass, pen.at()).await?;
                note(tx, pen, deed.clone()).await
            })
        });
        made.await?;
        Ok(Fresh { word, expires_at })
    }

    /// The invitation by which the first administrator comes in; `None` once there is one.
    pub async fn first_invitation(&self) -> Result<Option<Fresh>> {
        if self.store.read().await?.has_keyholder().await? {
            return Ok(None);
        }
        let (pen, org) = (self.pen(Actor::Operator), OrgId::new(DEFAULT_ORG));
        self.invite(&pen, &org, Role::Admin, Duration::from_secs(24 * 60 * 60)).await.map(Some)
    }

    /// What an invitation that was shown is good for, if it is.
    pub async fn find_invitation(&self, word: &str) -> Result<Option<Invited>> {
        let hash = self.keys.token_hash(word);
        let pass = self.store.read().await?.find_pass(&hash, INVITATION).await?;
        let good = pass.filter(|pass| !pass.used && pass.expires_at > self.clock.now());
        Ok(good.and_then(|pass| {
            let (role, org) = pass.text.as_deref()?.split_once(' ')?;
            Some(Invited { hash: pass.hash.clone(), org: OrgId::new(org), role: Role::parse(role)? })
        }))
    }

    /// A code by which somebody's chat becomes theirs. One that they had before is worthless from now on.
    pub async fn make_code(&self, user: &UserId) -> Result<Fresh> {
        let random = u128::from_le_bytes(rand::random());
        let letter = |at: usize| char::from(LETTERS[(random >> (5 * at) & 31) as usize]);
        let word: String = (0..CODE_LETTERS).map(letter).collect();
        let now = self.clock.now();
        let pass = Pass {
            hash: self.keys.token_hash(&word),
            kind: CODE.to_owned(),
            account: Some(user.clone()),
            text: None,
            expires_at: now + CODE_FOR,
            used: false,
        };
        let expires_at = pass.expires_at;
        self.store
            .write((pass, now), |tx, (pass, now)| {
                Box::pin(async move {
                    tx.drop_passes(CODE, pass.account.as_ref()).await?;
                    tx.add_pass(pass, *now).await
                })
            })
            .await?;
        Ok(Fresh { word, expires_at })
    }

    /// The hash of a code as people type it: in any case, with blanks and hyphens. `None` if it cannot be one.
    pub fn code_hash(&self, typed: &str) -> Option<String> {
        let known = |c: &char| !c.is_whitespace() && *c != '-';
        let code: String = typed.chars().filter(known).map(|c| c.to_ascii_uppercase()).collect();
        let is_code = code.len() == CODE_LETTERS && code.bytes().all(|byte| LETTERS.contains(&byte));
        is_code.then(|| self.keys.token_hash(&code))
    }
}

/// New names for whoever is unlinked: their own, and those of limits that go with them.
#[derive(Clone, Debug)]
pub struct Names {
    user: UserId,
    limits: Vec<LimitId>,
}

impl Names {
    /// Enough of them: one limit for each measure and period.
    pub fn new(clock: &Clock) -> Names {
        let limits = Measure::ALL.len() * Period::ALL.len();
        Names { user: UserId::new(clock.id()), limits: (0..limits).map(|_| LimitId::new(clock.id())).collect() }
    }
}

/// Takes a chat's person away from who they are here. `false` if they are not linked.
///
/// They are again who they were before, or somebody new, and go on with what was used meanwhile: no limit begins anew
/// because a link is taken back.
pub async fn unlink(tx: &mut Tx, pen: &Pen, user: &UserId, telegram: i64, names: &Names) -> Result<bool> {
    let link = tx.find_link(telegram).await?.filter(|link| link.user == *user);
    let Some(account) = tx.find_account(user).await? else { return Ok(false) };
    let is_known_by_it = account.user.telegram == Some(telegram);
    if link.is_none() && !is_known_by_it {
        return Ok(false);
    }
    tx.remove_link(user, telegram).await?;
    if is_known_by_it {
        tx.set_user(&User { telegram: None, ..account.user.clone() }).await?;
    }
    part(tx, pen, &account.user, (telegram, link), names).await?;
    let deed = super::of(tx, Action::ChatUnlinked, user).await?.with(json!({ "telegram": telegram }));
    note(tx, pen, deed).await?;
    Ok(true)
}

/// Makes two of one: somebody of Telegram is somebody of the bots' organisation by themselves again.
async fn part(tx: &mut Tx, pen: &Pen, from: &User, (telegram, link): (i64, Option<Link>), names: &Names) -> Result<()> {
    let before = match link.as_ref().and_then(|link| link.was.as_ref()) {
        Some(was) => tx.find_user(was).await?.filter(|was| was.telegram.is_none()),
        None => None,
    };
    let own = before.as_ref().map_or(&names.user, |before| &before.id).clone();
    let mut goes_on = before.is_some();
    if from.org.as_str() == DEFAULT_ORG {
        goes_on |= tx.carry(&from.org, &from.id, &own, pen.at()).await?;
        goes_on |= hold_to_limits(tx, from, &own, names, pen.at()).await?;
    }
    if let Some(before) = before {
        tx.set_user(&User { telegram: Some(telegram), ..before }).await?;
    } else if goes_on {
        let name = link.map(|link| link.name).unwrap_or_default();
        person_of_telegram(tx, pen, telegram, &name, &own, pen.at()).await?;
    }
    Ok(())
}

/// Holds somebody to the limits of whoever they were until now, where they would have more without. Answers whether there
/// are such limits.
async fn hold_to_limits(tx: &mut Tx, from: &User, own: &UserId, names: &Names, now: Time) -> Result<bool> {
    let limits = tx.list_limits(&from.org).await?;
    let of = |subject: Option<&UserId>| -> Vec<&Limit> {
        let subject = subject.map(UserId::as_str);
        limits.iter().filter(|limit| limit.scope == Scope::User && limit.subject.as_deref() == subject).collect()
    };
    let (usual, already) = (of(None), of(Some(own)));
    // How much a limit is in the way of whoever has reached it.
    let rank = |limit: &Limit| Policy::ALL.iter().position(|policy| *policy == limit.policy);
    let mut ids = names.limits.iter();
    let mut held = false;
    for limit in of(Some(&from.id)) {
        let like = |other: &Limit| (other.measure, other.period) == (limit.measure, limit.period);
        let is_enough = |usual: &Limit| usual.amount <= limit.amount && rank(usual) >= rank(limit);
        if usual.iter().any(|usual| like(usual) && is_enough(usual)) || already.iter().any(|own| like(own)) {
            continue;
        }
        let Some(id) = ids.next() else { break };
        let limit = Limit { id: id.clone(), subject: Some(own.to_string()), ..limit.clone() };
        held |= tx.add_limit(&limit, now).await?;
    }
    Ok(held)
}

/// Uses a code up: from now on this person of Telegram is who made it. In the caller's transaction, at its end; who holds
/// the pen becomes known only here.
pub async fn link(tx: &mut Tx, pen: &Pen, hash: &str, telegram: i64, name: &str, now: Time) -> Result<Linking> {
    let Some(pass) = tx.find_pass(hash, CODE).await? else { return Ok(Linking::Unknown) };
    let Some(user) = pass.account else { return Ok(Linking::Unknown) };
    if pass.used {
        return Ok(Linking::Used);
    }
    if pass.expires_at <= now {
        return Ok(Linking::Expired);
    }
    if tx.find_link(telegram).await?.is_some() {
        return Ok(Linking::Already);
    }
    let Some(account) = tx.find_account(&user).await? else { return Ok(Linking::Unknown) };
    let mut before = None;
    if let Some(known) = tx.find_user_of_telegram(telegram).await?
        && known.id != user
    {
        // Somebody who only ever spoke in Telegram is this person from now on. Somebody with an account of their own stays.
        let Some(other) = tx.find_account(&known.id).await? else { return Ok(Linking::Already) };
        if other.login.is_some() || other.user.role > Role::User {
            return Ok(Linking::Already);
        }
        before = Some(other);
    }
    if !tx.use_token(hash, now).await? {
        return Ok(Linking::Used);
    }
    let mut detail = json!({ "telegram": telegram });
    let was = before.as_ref().map(|before| before.user.id.clone());
    if let Some(before) = before {
        detail["was"] = json!(before.user.id.as_str());
        take_over(tx, &before, &account, now).await?;
    }
    let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    let link = Link { telegram, user: account.user.id.clone(), name, linked_at: now, was };
    if !tx.add_link(&link).await? {
        // Nothing of this is kept, and the next try finds the link of the one who was faster.
        return Err(salon_store::Error::Unavailable("somebody was linked twice at once".to_owned()));
    }
    let (org, user) = (&account.user.org, &account.user.id);
    note(tx, &pen.held_by(user), Deed::new(Action::ChatLinked, org, user).with(detail)).await?;
    Ok(Linking::Linked(account.user.id))
}

/// Makes an account out of two: what somebody did and used in Telegram before they were linked becomes the account's, so
/// that their dialogs and their usage are in one place, and so that no limit begins anew by a link. In another
/// organisation what was used stays where it was paid; limits there are that organisation's own.
async fn take_over(tx: &mut Tx, before: &Account, account: &Account, now: Time) -> Result<()> {
    let (from, to) = (&before.user, &account.user);
    if from.org == to.org {
        let plan = before.plan.as_deref().filter(|_| account.plan.is_none());
        if plan.is_some() {
            tx.hold_plans().await?;
        }
        tx.take_over(&to.org, &from.id, &to.id, plan.is_some(), now).await?;
        if plan.is_some() {
            tx.set_plan_of_user(&to.id, plan).await?;
            tx.set_plan_of_user(&from.id, None).await?;
        }
        tx.hand_dialogs(&from.id, &to.id).await?;
    }
    let (old, own) = (before.taste.clone(), account.taste.clone());
    let taste =
        Taste { lang: own.lang.or(old.lang), style: own.style.or(old.style), engine: own.engine.or(old.engine) };
    tx.set_taste(&to.id, &taste).await?;
    tx.set_user(&User { telegram: None, ..from.clone() }).await?;
    Ok(())
}
