//! `salon key`.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use salon::access::issue::{Issued, Maker, NewKey, OwnLimit, make_key, revoke_key};
use salon::people::{self, DEFAULT_ORG, NewUser};
use salon::sessions::ANYBODY;
use salon_core::limit::{Limits, Measure, Period, Policy, Scope, THRESHOLDS};
use salon_core::people::Role;
use salon_core::scopes::{Allowed, Entry};
use salon_core::{KeyId, Micros, OrgId, Scopes, Time, User, UserId, Zone};
use salon_store::{ApiKey, Terms};

use super::{Room, Told};
use crate::common::Common;

#[derive(Subcommand, Debug)]
pub enum KeyCommand {
    /// Make a key and show it, this once
    Add {
        #[command(flatten)]
        common: Common,
        /// What the key is called, such as the machine it is for
        name: String,
        /// For whom it speaks, by id, e-mail address or name; the administrator if there is one
        #[arg(long)]
        user: Option<String>,
        /// What it may do at most: user, manager or admin; as much as its user if nothing is said
        #[arg(long, value_parser = super::user::role)]
        role: Option<Role>,
        /// The doors it opens, separated by commas, such as /v1/chat/completions or /v1/*
        #[arg(long, value_name = "PATHS", value_parser = allowed::<salon_core::scopes::Pattern>)]
        routes: Option<Allowed<salon_core::scopes::Pattern>>,
        /// The models it may use, separated by commas, such as gpt-4o or claude-*
        #[arg(long, value_name = "NAMES", value_parser = allowed::<salon_core::scopes::Pattern>)]
        models: Option<Allowed<salon_core::scopes::Pattern>>,
        /// Where it may be used from, separated by commas, such as 192.0.2.0/24 or 2001:db8::/32
        #[arg(long, value_name = "NETWORKS", value_parser = allowed::<salon_core::scopes::Network>)]
        from: Option<Allowed<salon_core::scopes::Network>>,
        /// When it ends: a day such as 2027-01-31, or after 12h, 30d or 8w
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        /// What it may take by itself, such as micros:month:5 (dollars), tokens:day:100000 or requests:total:50; several
        /// times if need be
        #[arg(long = "limit", value_name = "LIMIT", value_parser = limit)]
        limits: Vec<OwnLimit>,
        /// Print the key and nothing else
        #[arg(long)]
        quiet: bool,
    },
    /// Show the keys: what they are called and may do, never the keys themselves
    List {
        #[command(flatten)]
        common: Common,
        /// Only those of this person, by id, e-mail address or name
        #[arg(long)]
        user: Option<String>,
        /// Also those that were revoked
        #[arg(long)]
        all: bool,
    },
    /// Revoke a key, with the keys that were made by it; it is turned away at once
    Revoke {
        #[command(flatten)]
        common: Common,
        /// The key's id, as `salon key list` shows it
        id: String,
    },
}

impl KeyCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            KeyCommand::Add { common, .. } | KeyCommand::List { common, .. } | KeyCommand::Revoke { common, .. } => {
                common
            }
        }
    }

    pub(super) async fn perform(self, room: &Room) -> Result<Told> {
        let salon = &room.salon;
        match self {
            KeyCommand::Add { name, user, role, routes, models, from, expires, limits, quiet, .. } => {
                let (user, made) = holder(room, user.as_deref()).await?;
                let org = people::find_org(&salon.store, user.org.as_str()).await?;
                let zone = Zone::find(&org.zone).unwrap_or_else(Zone::utc);
                let moment = |text: String| {
                    let at = zone.moment(&text, salon.clock.now());
                    at.with_context(|| format!("{text:?} is no time; say a day such as 2027-01-31, or 12h, 30d or 8w"))
                };
                let expires_at = expires.map(moment).transpose()?;
                let scopes = Scopes {
                    routes: routes.unwrap_or_default(),
                    models: models.unwrap_or_default(),
                    networks: from.unwrap_or_default(),
                };
                let new = NewKey { user: user.id.clone(), name, role, scopes, expires_at, limits };
                let issued = make_key(&salon.store, &salon.clock, &salon.keys, Maker::Operator, new).await?;
                Ok(handed_over(&issued, &user, made, quiet))
            }
            KeyCommand::List { user, all, .. } => {
                let user = match user {
                    Some(user) => Some(people::find_user(&salon.store, &user).await?.id),
                    None => None,
                };
                let mut tx = salon.store.read().await?;
                let keys = tx.list_api_keys(user.as_ref()).await?;
                let users = tx.list_users(None).await?.into_iter();
                let users: HashMap<UserId, User> = users.map(|user| (user.id.clone(), user)).collect();
                let limits = tx.load_limits().await?;
                let now = salon.clock.now();
                let kept = keys.iter().filter(|key| all || key.revoked_at.is_none());
                let lines = kept.map(|key| shown(key, users.get(&key.user), &limits, now)).collect();
                Ok(Told::lines(lines, "No key yet. Make one: salon key add NAME"))
            }
            KeyCommand::Revoke { id, .. } => {
                let id = KeyId::new(id.to_uppercase());
                revoke_key(&salon.store, &salon.clock, &salon.keys, Maker::Operator, &id).await?;
                Ok(Told::text(format!("Revoked {id}, and the keys that were made by it.")))
            }
        }
    }
}

/// For whom a key is: whoever is named, or the one administrator, who is made if there is nobody at all.
async fn holder(room: &Room, word: Option<&str>) -> Result<(User, bool)> {
    let salon = &room.salon;
    if let Some(word) = word {
        return Ok((people::find_user(&salon.store, word).await?, false));
    }
    let mut users = salon.store.read().await?.list_users(None).await?;
    users.retain(|user| user.id.as_str() != ANYBODY);
    let mut admins = users.iter().filter(|user| user.active && user.role == Role::Admin);
    match (admins.next(), admins.next()) {
        (Some(admin), None) => Ok((admin.clone(), false)),
        (None, _) if users.is_empty() => {
            let new = NewUser {
                org: OrgId::new(DEFAULT_ORG),
                name: "admin".to_owned(),
                email: None,
                role: Role::Admin,
                telegram: None,
            };
            Ok((people::add_user(&salon.store, &salon.clock, &room.pen(), new).await?, true))
        }
        _ => bail!("say for whom the key is: --user NAME; salon user list shows who there is"),
    }
}

fn handed_over(issued: &Issued, user: &User, made: bool, quiet: bool) -> Told {
    let text = issued.secret.expose().to_owned();
    if quiet {
        return Told::text(text);
    }
    let mut note = String::new();
    if made {
        note.push_str(&format!("There was nobody yet, so {} ({}) was added, an administrator.\n", user.name, user.id));
    }
    note.push_str(&format!(
        "This is the key {} of {}. It is shown this once; keep it as you keep a password.",
        issued.key.id, user.name
    ));
    Told { text, note, trouble: false }
}

fn shown(key: &ApiKey, user: Option<&User>, limits: &Limits, now: Time) -> String {
    let name = user.map_or("(removed)", |user| &user.name);
    let mut line = format!("{}  {}  …{}  {name}  {}", key.id, key.name, key.hint, key.role);
    let scopes = [("routes", &key.routes), ("models", &key.models), ("from", &key.networks)];
    for (what, list) in scopes {
        if let Some(list) = list {
            line.push_str(&format!("  {what} {list}"));
        }
    }
    for limit in user.iter().flat_map(|user| limits.on(&user.org, Scope::Key, key.id.as_str())) {
        let amount = match limit.measure {
            Measure::Micros => Micros(limit.amount).to_string(),
            Measure::Tokens | Measure::Requests => limit.amount.to_string(),
        };
        line.push_str(&format!(
            "  {}:{}:{amount}:{}",
            limit.measure.as_str(),
            limit.period.as_str(),
            limit.policy.as_str()
        ));
    }
    line.push_str(&match key.last_used_at {
        Some(at) => format!("  used {}", stamp(at)),
        None => "  never used".to_owned(),
    });
    match (key.revoked_at, key.expires_at) {
        (Some(at), _) => line.push_str(&format!("  revoked {}", stamp(at))),
        (None, Some(at)) if at <= now => line.push_str(&format!("  expired {}", stamp(at))),
        (None, Some(at)) => line.push_str(&format!("  until {}", stamp(at))),
        (None, None) => {}
    }
    line
}

/// To the minute, in UTC: a day would hide when a key of twelve hours ends, and differ from the organisation's.
fn stamp(at: Time) -> String {
    format!("{} UTC", Zone::utc().stamp(at))
}

fn allowed<T: Entry>(text: &str) -> Result<Allowed<T>> {
    let allowed = Allowed::parse(text)?;
    ensure!(allowed != Allowed::Only(Vec::new()), "an empty list would allow nothing");
    Ok(allowed)
}

/// A limit in the words of the API, such as `micros:month:5`, `tokens:day:100000` or `requests:total:50:hard`.
pub(super) fn limit(text: &str) -> Result<OwnLimit> {
    let words: Vec<&str> = text.split(':').collect();
    let [measure, period, amount, policy @ ..] = words.as_slice() else {
        bail!("{text:?} is no limit; say what, for how long and how much, such as micros:month:5");
    };
    let measure = Measure::parse(measure).context("the first word is micros, tokens or requests")?;
    let period = Period::parse(period).context("the second word is day, week, month or total")?;
    let amount = measure.parse_amount(amount).context("the third word is dollars such as 12.50, or a whole number")?;
    let policy = match policy {
        [] => Policy::Block,
        [policy] => Policy::parse(policy).context("the fourth word is warn, ask, block or hard")?,
        _ => bail!("{text:?} has more words than a limit"),
    };
    Ok(OwnLimit { measure, period, terms: Terms { amount, policy, thresholds: THRESHOLDS.to_vec() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_said_in_three_words_or_four() {
        let read = |text: &str| limit(text).map(|own| (own.measure.as_str(), own.terms.amount, own.terms.policy));
        assert_eq!(read("micros:month:5").expect("dollars"), ("micros", 5_000_000, Policy::Block));
        assert_eq!(read("requests:total:50:hard").expect("a policy"), ("requests", 50, Policy::Hard));
        for bad in ["", "micros", "micros:month", "money:month:5", "tokens:eon:5", "tokens:day:5.5", "tokens:day:5:x:y"]
        {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }
}
