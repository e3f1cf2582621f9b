//! What those who run the place do to people.

use salon_core::people::Role;
use salon_core::{BotId, OrgId, User, UserId};
use serde_json::json;

use crate::Salon;
use crate::audit::{Action, Deed, Pen, note};
use crate::logins::{NotIn, passes, password};
use crate::people::DEFAULT_ORG;

/// Somebody who is made at the desk.
#[derive(Clone, Debug)]
pub struct Hire {
    pub org: OrgId,
    pub name: String,
    pub email: String,
    pub role: Role,
    /// To come in by at first; one is made up if there is none.
    pub password: Option<String>,
}

/// What a bot says to everybody while it is paused; empty is what it would say by itself.
pub const PAUSE_MESSAGE: &str = "bot_pause_message";

/// Whether administrators are told of errors in Telegram: `on` or `off`.
pub const ERROR_NOTICES: &str = "error_notices";

fn pause_of(bot: &BotId) -> String {
    format!("bot_paused.{bot}")
}

impl Salon {
    /// What a bot says instead of anything else, if it is paused.
    pub async fn find_pause(&self, bot: &BotId) -> salon_store::Result<Option<String>> {
        self.store.read().await?.find_setting(&pause_of(bot)).await
    }

    /// Pauses a bot with a text, or lets it go on. An empty text is what the bot would say by itself.
    pub async fn pause_bot(&self, pen: &Pen, bot: &BotId, text: Option<&str>) -> salon_store::Result<()> {
        let deed = Deed::new(Action::BotChanged, &OrgId::new(DEFAULT_ORG), bot);
        let deed = deed.with(json!({ "paused": text.is_some() }));
        let args = (pause_of(bot), text.map(str::to_owned), pen.clone(), deed);
        self.store
            .write(args, |tx, (name, text, pen, deed)| {
                Box::pin(async move {
                    match text {
                        Some(text) => tx.set_setting(name, text).await?,
                        None => drop(tx.remove_setting(name).await?),
                    }
                    note(tx, pen, deed.clone()).await
                })
            })
            .await
    }

    /// Sets settings, all or none. The names are ours; what they are set to is not noted.
    pub async fn set_settings(&self, pen: &Pen, org: &OrgId, values: Vec<(String, String)>) -> salon_store::Result<()> {
        self.store
            .write((values, org.clone(), pen.clone()), |tx, (values, org, pen)| {
                Box::pin(async move {
                    let mut changed = Vec::new();
                    for (name, value) in values {
                        let known = tx.find_setting(name).await?;
                        if known.as_ref() != Some(value) && (known.is_some() || !value.is_empty()) {
                            tx.set_setting(name, value).await?;
                            changed.push(name.as_str());
                        }
                    }
                    if changed.is_empty() {
                        return Ok(());
                    }
                    note(tx, pen, Deed::new(Action::SettingChanged, org, changed.join(","))).await
                })
            })
            .await
    }

    /// Makes somebody who can come in at once, and tells by which password.
    pub async fn hire(&self, pen: &Pen, hire: Hire) -> Result<(User, String), NotIn> {
        let name = crate::people::name(&hire.name)?;
        let email = crate::people::email(&hire.email)?;
        let password = hire.password.unwrap_or_else(passes::word);
        password::check(&password, &[&email, &name]).map_err(|password::Weak| NotIn::WeakPassword)?;
        let user = User {
            id: UserId::new(self.clock.id()),
            org: hire.org,
            name,
            email: Some(email.clone()),
            role: hire.role,
            active: true,
            telegram: None,
            subject: None,
            created_at: self.clock.now(),
        };
        let args = (user.clone(), email.to_lowercase(), self.passwords.hash(&password).await, pen.clone());
        let taken = self.store.write(args, |tx, (user, login, hash, pen)| {
            Box::pin(async move {
                if tx.find_account_of_login(login).await?.is_some() {
                    return Ok(true);
                }
                tx.add_user(user).await?;
                if !tx.set_login(&user.id, login).await? {
                    // Somebody else was faster, and this is taken back.
                    return Err(salon_store::Error::Unavailable("two people got one address".to_owned()));
                }
                tx.set_password(&user.id, hash).await?;
                let deed = Deed::new(Action::UserAdded, &user.org, &user.id);
                note(tx, pen, deed.with(json!({ "role": user.role.as_str() }))).await?;
                Ok(false)
            })
        });
        if taken.await? { Err(NotIn::Taken) } else { Ok((user, password)) }
    }

    /// Gives somebody another password, which is told this once. Whatever they have open ends, and whoever had no way to
    /// come in by a password gets one by their address.
    pub async fn new_password(&self, pen: &Pen, user: &User) -> Result<String, NotIn> {
        let email = user.email.as_deref().ok_or(NotIn::BadEmail)?;
        let password = passes::word();
        let args = (user.clone(), email.to_lowercase(), self.passwords.hash(&password).await, pen.clone());
        let set = self.store.write(args, |tx, (user, login, hash, pen)| {
            Box::pin(async move {
                let known = tx.find_account(&user.id).await?.is_some_and(|account| account.login.is_some());
                if !known && !tx.set_login(&user.id, login).await? {
                    return Ok(false);
                }
                tx.set_password(&user.id, hash).await?;
                note(tx, pen, Deed::new(Action::PasswordSet, &user.org, &user.id)).await?;
                Ok(true)
            })
        });
        if set.await? { Ok(password) } else { Err(NotIn::Taken) }
    }
}
