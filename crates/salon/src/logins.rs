//! Coming in by a browser: registering, logging in, and what a cookie is good for.
//!
//! A cookie is a random word of which only a hash is kept. It is good for one realm, for as long as the *epoch* of its
//! person stands: whatever must end what somebody has open (another password, another role, a block) raises that number,
//! and every page and every open stream looks at it again.

pub mod backoff;
pub mod factor;
pub mod oidc;
pub mod passes;
pub mod password;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use salon_core::people::Role;
use salon_core::{OrgId, Scopes, Time, User, UserId};
use salon_store::{Account, Login, Realm, Taste};
use serde_json::json;
use thiserror::Error;

use crate::access::{scopes, zone};
use crate::audit::{self, Action, Actor, Deed, Pen, note};
use crate::people::{DEFAULT_ORG, PeopleError};
use crate::{Caller, Salon};
use passes::Invited;

/// How long a browser may be away before it has to come in again, and how long a login lasts at most.
const IDLE: Duration = Duration::from_secs(12 * 60 * 60);
const LASTS: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The same at the desk.
const IDLE_AT_DESK: Duration = Duration::from_secs(60 * 60);
const LASTS_AT_DESK: Duration = Duration::from_secs(12 * 60 * 60);
/// Dangerous things want that somebody proved who they are within this time.
const PROVEN: Duration = Duration::from_secs(10 * 60);
/// How often it is written down that a browser is still there.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// Browsers that one person may have open; the one that was seen least lately makes room.
const MOST_LOGINS: usize = 50;

/// Who may become somebody here by themselves. An administrator chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    Open,
    /// Only whoever was invited.
    #[default]
    Invited,
    Closed,
}

impl Registration {
    pub const ALL: [Registration; 3] = [Registration::Open, Registration::Invited, Registration::Closed];

    pub fn as_str(self) -> &'static str {
        match self {
            Registration::Open => "open",
            Registration::Invited => "invited",
            Registration::Closed => "closed",
        }
    }

    pub fn parse(text: &str) -> Option<Registration> {
        Registration::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// The setting that keeps the administrator's choice.
pub const REGISTRATION: &str = "registration";

/// Why somebody does not come in. The sentences are found in `locales/` by [`code`](NotIn::code).
#[derive(Debug, Error)]
pub enum NotIn {
    /// Nobody learns which of the two was wrong, or whether there is such a person.
    #[error("the address or the password is wrong")]
    Wrong,
    #[error("too many attempts")]
    TooMany { retry_after: Duration },
    /// The password was right, and a code of the second factor is wanted.
    #[error("a code is wanted")]
    CodeWanted,
    #[error("there is a second factor already")]
    FactorOn,
    #[error("there is no second factor")]
    NoFactor,
    #[error("the account is switched off")]
    Inactive,
    #[error("the role does not allow this")]
    Role,
    #[error("nobody may register by themselves")]
    Closed,
    #[error("the invitation is not good")]
    BadPass,
    #[error("somebody registered with this address")]
    Taken,
    #[error("this is no address")]
    BadEmail,
    #[error("this is no name")]
    BadName,
    #[error("the password is too short, or too easy to guess")]
    WeakPassword,
    #[error(transparent)]
    Store(#[from] salon_store::Error),
}

impl NotIn {
    pub fn code(&self) -> &'static str {
        match self {
            NotIn::Wrong => "wrong",
            NotIn::TooMany { .. } => "too_many",
            NotIn::CodeWanted => "code_wanted",
            NotIn::FactorOn => "factor_on",
            NotIn::NoFactor => "no_factor",
            NotIn::Inactive => "inactive",
            NotIn::Role => "role",
            NotIn::Closed => "closed",
            NotIn::BadPass => "bad_pass",
            NotIn::Taken => "taken",
            NotIn::BadEmail => "bad_email",
            NotIn::BadName => "bad_name",
            NotIn::WeakPassword => "weak_password",
            NotIn::Store(_) => "unavailable",
        }
    }
}

impl From<PeopleError> for NotIn {
    fn from(error: PeopleError) -> NotIn {
        match error {
            PeopleError::BadEmail(_) => NotIn::BadEmail,
            PeopleError::Store(error) => NotIn::Store(error),
            _ => NotIn::BadName,
        }
    }
}

/// Somebody who wants to become somebody here.
#[derive(Clone, Debug)]
pub struct Newcomer {
    pub name: String,
    pub email: String,
    pub password: String,
    pub lang: Option<String>,
    /// What they were invited by.
    pub pass: Option<String>,
}

/// What somebody shows to come in.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    pub login: &'a str,
    pub password: &'a str,
    /// Of the second factor.
    pub code: Option<&'a str>,
    pub peer: Option<IpAddr>,
    /// What the browser says of itself.
    pub browser: &'a str,
    pub realm: Realm,
}

/// A browser that was let in: this is the only moment at which its cookie can be seen.
#[derive(Clone, Debug)]
pub struct Entered {
    pub cookie: String,
    pub login: Login,
}

/// Somebody who is here, by a cookie.
#[derive(Clone, Debug)]
pub struct Visit {
    pub login: Login,
    pub account: Account,
    pub caller: Arc<Caller>,
    /// Stands in every form, so that only our own pages can send one.
    pub seal: String,
}

impl Visit {
    /// Whether they proved lately who they are.
    pub fn is_proven(&self, now: Time) -> bool {
        now.since(self.login.proved_at) < PROVEN
    }
}

impl Salon {
    /// Who may register.
    pub async fn registration(&self) -> salon_store::Result<Registration> {
        let chosen = self.store.read().await?.find_setting(REGISTRATION).await?;
        Ok(chosen.and_then(|text| Registration::parse(&text)).unwrap_or_default())
    }

    /// Chooses who may register.
    pub async fn set_registration(&self, pen: &Pen, chosen: Registration) -> salon_store::Result<()> {
        self.store
            .write((chosen, pen.clone()), |tx, (chosen, pen)| {
                Box::pin(async move {
                    tx.set_setting(REGISTRATION, chosen.as_str()).await?;
                    let deed = Deed::new(Action::SettingChanged, &OrgId::new(""), REGISTRATION);
                    note(tx, pen, deed.with(json!({ "to": chosen.as_str() }))).await
                })
            })
            .await
    }

    /// Makes somebody who wants to be one, with an address and a password to come in by.
    pub async fn register(&self, new: Newcomer) -> Result<User, NotIn> {
        let name = crate::people::name(&new.name)?;
        let email = crate::people::email(&new.email)?;
        password::check(&new.password, &[&email, &name]).map_err(|password::Weak| NotIn::WeakPassword)?;
        let invited = match &new.pass {
            Some(pass) => Some(self.find_invitation(pass).await?.ok_or(NotIn::BadPass)?),
            None if self.registration().await? == Registration::Open => None,
            None => return Err(NotIn::Closed),
        };
        let hash = self.passwords.hash(&new.password).await;
        let (role, org) = match &invited {
            Some(invited) => (invited.role, invited.org.clone()),
            None => (Role::User, OrgId::new(DEFAULT_ORG)),
        };
        let user = User {
            id: UserId::new(self.clock.id()),
            org,
            name,
            email: Some(email.clone()),
            role,
            active: true,
            telegram: None,
            subject: None,
            created_at: self.clock.now(),
        };
        let pen = self.pen(&user.id);
        let args = Joining { user: user.clone(), login: email.to_lowercase(), hash, invited, lang: new.lang, pen };
        self.store.write(args, |tx, joining| Box::pin(join(tx, joining))).await?.map(|()| user)
    }

    /// Lets a browser in by an address, a password, and if there is one, the second factor.
    pub async fn log_in(&self, shown: Shown<'_>) -> Result<Entered, NotIn> {
        let login = shown.login.trim().to_lowercase();
        self.may_try(&login, shown.peer)?;
        let account = self.store.read().await?.find_account_of_login(&login).await?;
        let turn = self.passwords.turn().await;
        // Of many who came at once some may have failed meanwhile.
        self.may_try(&login, shown.peer)?;
        let known = account.clone();
        let password = account.as_ref().and_then(|account| account.password.as_deref());
        // Also where there is no such person, so that nobody learns it by the clock.
        let right = self.passwords.verify(&turn, shown.password, password).await;
        let Some(account) = account.filter(|_| right) else {
            self.backoff.note(&login, shown.peer, self.clock.now());
            drop(turn);
            self.turned_away(known.as_ref(), &shown, "wrong").await?;
            return Err(NotIn::Wrong);
        };
        if let Err(error) = self.check_factor(&account, shown.code).await {
            if matches!(error, NotIn::Wrong) {
                self.backoff.note(&login, shown.peer, self.clock.now());
                self.turned_away(Some(&account), &shown, "wrong_code").await?;
            }
            return Err(error);
        }
        drop(turn);
        self.backoff.forget(&login);
        let entered = self.let_in(&account, shown.realm, shown.browser).await;
        if let Err(error @ (NotIn::Inactive | NotIn::Role)) = &entered {
            self.turned_away(Some(&account), &shown, error.code()).await?;
        }
        entered
    }

    fn may_try(&self, login: &str, peer: Option<IpAddr>) -> Result<(), NotIn> {
        let allowed = self.backoff.allow(login, peer, self.clock.now());
        allowed.map_err(|retry_after| NotIn::TooMany { retry_after })
    }

    /// Writes down that somebody did not come in. What they typed is not told: people mistake one field for another.
    async fn turned_away(
        &self,
        account: Option<&Account>,
        shown: &Shown<'_>,
        why: &'static str,
    ) -> salon_store::Result<()> {
        let detail = json!({
            "realm": shown.realm.as_str(), "browser": browser_family(shown.browser),
            "peer": shown.peer.map(|peer| peer.to_string()),
        });
        let nowhere = OrgId::new("");
        let deed = match account {
            Some(account) => Deed::new(Action::LogIn, &account.user.org, &account.user.id),
            None => Deed::new(Action::LogIn, &nowhere, ""),
        };
        audit::note_alone(&self.store, self.pen(Actor::Guest), deed.ended(why).with(detail)).await
    }

    /// Lets somebody in who proved otherwise who they are.
    pub async fn let_in(&self, account: &Account, realm: Realm, browser: &str) -> Result<Entered, NotIn> {
        let now = self.clock.now();
        if !account.may_enter(now) {
            return Err(NotIn::Inactive);
        }
        if realm == Realm::Desk && account.role() < Role::Manager {
            return Err(NotIn::Role);
        }
        let cookie = passes::word();
        let lasts = if realm == Realm::Desk { LASTS_AT_DESK } else { LASTS };
        let login = Login {
            id: self.clock.id(),
            user: account.user.id.clone(),
            realm,
            epoch: account.epoch,
            browser: browser_family(browser),
            created_at: now,
            seen_at: now,
            expires_at: now + lasts,
            proved_at: now,
        };
        let deed = Deed::new(Action::LogIn, &account.user.org, &login.user)
            .with(json!({ "realm": realm.as_str(), "browser": login.browser, "login": login.id }));
        let args = (login.clone(), self.keys.token_hash(&cookie), self.pen(&login.user), deed);
        self.store
            .write(args, |tx, (login, hash, pen, deed)| {
                Box::pin(async move {
                    for old in tx.list_logins(&login.user).await?.iter().skip(MOST_LOGINS - 1) {
                        tx.end_login(&login.user, &old.id).await?;
                    }
                    tx.add_login(login, hash).await?;
                    note(tx, pen, deed.clone()).await
                })
            })
            .await?;
        Ok(Entered { cookie, login })
    }

    /// Who a cookie stands for, if it is good now. Nothing is believed that was looked up before.
    pub async fn visit(&self, cookie: &str, realm: Realm) -> salon_store::Result<Option<Visit>> {
        if cookie.len() != passes::WORD {
            return Ok(None);
        }
        let hash = self.keys.token_hash(cookie);
        let now = self.clock.now();
        let mut tx = self.store.read().await?;
        let Some(login) = tx.find_login(&hash, realm).await? else { return Ok(None) };
        let idle = if realm == Realm::Desk { IDLE_AT_DESK } else { IDLE };
        if login.expires_at <= now || now.since(login.seen_at) >= idle {
            return Ok(None);
        }
        let Some(account) = tx.find_account(&login.user).await? else { return Ok(None) };
        let may_stay = account.epoch == login.epoch && account.may_enter(now);
        if !may_stay || (realm == Realm::Desk && account.role() < Role::Manager) {
            return Ok(None);
        }
        let org = tx.find_org(&account.user.org).await?;
        drop(tx);
        if now.since(login.seen_at) >= NOTE_EVERY {
            let args = (login.id.clone(), now);
            self.store.write(args, |tx, (id, now)| Box::pin(async move { tx.see_login(id, *now).await })).await?;
        }
        let caller = Caller {
            org: account.user.org.clone(),
            zone: org.map_or_else(salon_core::limit::Zone::utc, |org| zone(&org.zone)),
            user: account.user.id.clone(),
            role: account.role(),
            key: None,
            scopes: reach(&account),
        };
        let seal = self.keys.token_hash(&format!("seal of {hash}"));
        Ok(Some(Visit { login, account, caller: Arc::new(caller), seal }))
    }

    /// Ends one of somebody's logins.
    pub async fn log_out(&self, user: &UserId, login: &str) -> salon_store::Result<bool> {
        let args = (user.clone(), login.to_owned(), self.pen(user));
        self.store
            .write(args, |tx, (user, login, pen)| {
                Box::pin(async move {
                    let ended = tx.end_login(user, login).await?;
                    if ended {
                        let deed = of(tx, Action::LogOut, user).await?;
                        note(tx, pen, deed.with(json!({ "login": login }))).await?;
                    }
                    Ok(ended)
                })
            })
            .await
    }

    /// Takes another password, if the old one was right. Whatever they had open ends.
    pub async fn change_password(&self, account: &Account, old: &str, new: &str) -> Result<(), NotIn> {
        self.prove(account, old).await?;
        let email = account.user.email.as_deref().unwrap_or_default();
        password::check(new, &[email, &account.user.name]).map_err(|password::Weak| NotIn::WeakPassword)?;
        self.set_password(&self.pen(&account.user.id), &account.user.id, new).await
    }

    /// Sets a password, whoever asks for it.
    pub async fn set_password(&self, pen: &Pen, user: &UserId, new: &str) -> Result<(), NotIn> {
        password::check(new, &[]).map_err(|password::Weak| NotIn::WeakPassword)?;
        let args = (user.clone(), self.passwords.hash(new).await, pen.clone());
        let set = self.store.write(args, |tx, (user, hash, pen)| {
            Box::pin(async move {
                tx.set_password(user, hash).await?;
                let deed = of(tx, Action::PasswordSet, user).await?;
                note(tx, pen, deed).await
            })
        });
        Ok(set.await?)
    }

    /// Whether this is somebody's password; wrong ones count as at the door.
    pub async fn prove(&self, account: &Account, password: &str) -> Result<(), NotIn> {
        let login = account.login.as_deref().unwrap_or(account.user.id.as_str());
        self.may_try(login, None)?;
        let turn = self.passwords.turn().await;
        self.may_try(login, None)?;
        if self.passwords.verify(&turn, password, account.password.as_deref()).await {
            self.backoff.forget(login);
            return Ok(());
        }
        self.backoff.note(login, None, self.clock.now());
        Err(NotIn::Wrong)
    }

    pub async fn set_taste(&self, user: &UserId, taste: Taste) -> salon_store::Result<()> {
        self.store.write((user.clone(), taste), |tx, (user, taste)| Box::pin(tx.set_taste(user, taste))).await
    }
}

/// Whether two words are the same, in a time that does not tell how far they agree.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    use subtle::ConstantTimeEq;
    bool::from(one.ct_eq(other))
}

/// What the administrators allow somebody.
pub(crate) fn reach(account: &Account) -> Scopes {
    scopes(None, account.models.as_deref(), None)
}

/// A deed that is about somebody, in their organisation.
async fn of(tx: &mut salon_store::Tx, action: Action, user: &UserId) -> salon_store::Result<Deed> {
    let org = tx.find_user(user).await?.map_or_else(|| OrgId::new(""), |user| user.org);
    Ok(Deed::new(action, &org, user))
}

struct Joining {
    user: User,
    login: String,
    hash: String,
    invited: Option<Invited>,
    lang: Option<String>,
    pen: Pen,
}

async fn join(tx: &mut salon_store::Tx, joining: &Joining) -> salon_store::Result<Result<(), NotIn>> {
    let user = &joining.user;
    if tx.find_account_of_login(&joining.login).await?.is_some() {
        return Ok(Err(NotIn::Taken));
    }
    if let Some(invited) = &joining.invited
        && !tx.use_token(&invited.hash, user.created_at).await?
    {
        return Ok(Err(NotIn::BadPass));
    }
    tx.add_user(user).await?;
    if !tx.set_login(&user.id, &joining.login).await? {
        // Somebody else was faster, and this is taken back.
        return Err(salon_store::Error::Unavailable("two people registered with one address".to_owned()));
    }
    tx.set_password(&user.id, &joining.hash).await?;
    let taste = Taste { lang: joining.lang.clone(), ..Taste::default() };
    tx.set_taste(&user.id, &taste).await?;
    let detail = json!({ "role": user.role.as_str(), "invited": joining.invited.is_some() });
    note(tx, &joining.pen, Deed::new(Action::UserAdded, &user.org, &user.id).with(detail)).await?;
    Ok(Ok(()))
}

/// A browser in a few words, such as "Firefox, Linux". What it says of itself is long and changes every month.
fn browser_family(says: &str) -> String {
    let of =
        |known: &[(&str, &str)]| known.iter().find(|(mark, _)| says.contains(mark)).map(|(_, name)| (*name).to_owned());
    // Each of these also says the names of those below it.
    let browser = of(&[
        ("Firefox/", "Firefox"),
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ]);
    let system = of(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser}, {system}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_apart() {
        let chrome =
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
        assert_eq!(browser_family(chrome), "Chrome, Linux");
        let safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1";
        assert_eq!(browser_family(safari), "Safari, iPhone");
        assert_eq!(browser_family(""), "?");
    }
}
