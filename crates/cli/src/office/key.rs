//! `salon key`.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use salon::access::issue::{Issued, Maker, NewKey, make_key, revoke_key};
use salon::people::{self, DEFAULT_ORG, NewUser};
use salon_core::people::Role;
use salon_core::scopes::{Allowed, Entry};
use salon_core::{KeyId, OrgId, Scopes, Time, User, UserId, Zone};
use salon_store::ApiKey;

use super::{Room, Told, day};
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
            KeyCommand::Add { name, user, role, routes, models, from, expires, quiet, .. } => {
                let (user, made) = holder(room, user.as_deref()).await?;
                let org = people::find_org(&salon.store, user.org.as_str()).await?;
                let zone = Zone::find(&org.zone).unwrap_or_else(Zone::utc);
                let expires_at = expires.map(|text| moment(&text, salon.clock.now(), &zone)).transpose()?;
                let scopes = Scopes {
                    routes: routes.unwrap_or_default(),
                    models: models.unwrap_or_default(),
                    networks: from.unwrap_or_default(),
                };
                let new = NewKey { user: user.id.clone(), name, role, scopes, expires_at };
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
                let names: HashMap<UserId, String> = users.map(|user| (user.id, user.name)).collect();
                let now = salon.clock.now();
                let kept = keys.iter().filter(|key| all || key.revoked_at.is_none());
                let lines = kept.map(|key| shown(key, names.get(&key.user), now)).collect();
                Ok(Told::lines(lines, "No key yet. Make one: salon key add NAME"))
            }
            KeyCommand::Revoke { id, .. } => {
                let id = KeyId::new(id.to_uppercase());
                revoke_key(&salon.store, &salon.clock, Maker::Operator, &id).await?;
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
    let users = salon.store.read().await?.list_users(None).await?;
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
            Ok((people::add_user(&salon.store, &salon.clock, new).await?, true))
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

fn shown(key: &ApiKey, user: Option<&String>, now: Time) -> String {
    let nobody = "(removed)".to_owned();
    let mut line = format!("{}  {}  …{}  {}  {}", key.id, key.name, key.hint, user.unwrap_or(&nobody), key.role);
    let scopes = [("routes", &key.routes), ("models", &key.models), ("from", &key.networks)];
    for (what, list) in scopes {
        if let Some(list) = list {
            line.push_str(&format!("  {what} {list}"));
        }
    }
    line.push_str(&match key.last_used_at {
        Some(at) => format!("  used {}", day(at)),
        None => "  never used".to_owned(),
    });
    match (key.revoked_at, key.expires_at) {
        (Some(at), _) => line.push_str(&format!("  revoked {}", day(at))),
        (None, Some(at)) if at <= now => line.push_str(&format!("  expired {}", day(at))),
        (None, Some(at)) => line.push_str(&format!("  until {}", day(at))),
        (None, None) => {}
    }
    line
}

fn allowed<T: Entry>(text: &str) -> Result<Allowed<T>> {
    let allowed = Allowed::parse(text)?;
    ensure!(allowed != Allowed::Only(Vec::new()), "an empty list would allow nothing");
    Ok(allowed)
}

/// A day, which begins at midnight of the zone, or a time from now.
fn moment(text: &str, now: Time, zone: &Zone) -> Result<Time> {
    if let Some(at) = zone.midnight(text) {
        return Ok(at);
    }
    let hours = |digits: &str, hours: u64| {
        let count = digits.parse::<u32>().ok().filter(|count| (1..=100_000).contains(count))?;
        Some(now + Duration::from_secs(u64::from(count) * hours * 3600))
    };
    let at = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((digits, "h")) => hours(digits, 1),
        Some((digits, "d")) => hours(digits, 24),
        Some((digits, "w")) => hours(digits, 7 * 24),
        _ => None,
    };
    at.with_context(|| format!("{text:?} is no time; say a day such as 2027-01-31, or 12h, 30d or 8w"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_key_is_a_day_or_a_while_from_now() {
        let (now, zone) = (Time(1_769_947_200_000), Zone::find("Asia/Seoul").expect("a zone"));
        let at = |text: &str| moment(text, now, &zone).map(|at| at.since(now).as_secs() / 3600);
        assert_eq!(at("12h").expect("hours"), 12);
        assert_eq!(at("30d").expect("days"), 720);
        assert_eq!(at("2w").expect("weeks"), 336);
        // Midnight in Seoul is three in the afternoon of the day before.
        assert_eq!(at("2026-02-03").expect("a day"), 27);
        for bad in ["", "d", "0d", "-1d", "1y", "2026-02-30", "soon", "é"] {
            assert!(moment(bad, now, &zone).is_err(), "{bad}");
        }
    }
}
