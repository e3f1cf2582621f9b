//! `salon user`.

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use salon::people::{self, DEFAULT_ORG, NewUser, UserChange};
use salon::plans;
use salon_core::people::Role;
use salon_core::{OrgId, User};

use super::{Room, Told};
use crate::common::Common;

#[derive(Subcommand, Debug)]
pub enum UserCommand {
    /// Add somebody
    Add {
        #[command(flatten)]
        common: Common,
        /// What they are called
        name: String,
        /// Their e-mail address
        #[arg(long)]
        email: Option<String>,
        /// What they may do: user, manager (sees what the team uses), admin (looks after people and limits)
        #[arg(long, default_value = "user", value_parser = role)]
        role: Role,
        /// Their organisation, by id or name
        #[arg(long, default_value = DEFAULT_ORG)]
        org: String,
        /// Their user id in Telegram, so that what they ask there is theirs
        #[arg(long, value_name = "ID")]
        telegram: Option<i64>,
    },
    /// Show who there is
    List {
        #[command(flatten)]
        common: Common,
        /// Only this organisation, by id or name
        #[arg(long)]
        org: Option<String>,
    },
    /// Change somebody; their keys follow at once
    Set {
        #[command(flatten)]
        common: Common,
        /// Whom, by id, e-mail address or name
        user: String,
        #[arg(long)]
        name: Option<String>,
        /// An empty one forgets it
        #[arg(long)]
        email: Option<String>,
        #[arg(long, value_parser = role)]
        role: Option<Role>,
        /// Their organisation, by id or name
        #[arg(long)]
        org: Option<String>,
        /// Their user id in Telegram; 0 forgets it
        #[arg(long, value_name = "ID")]
        telegram: Option<i64>,
        /// Whether they may do anything at all
        #[arg(long, value_name = "true|false")]
        active: Option<bool>,
        /// Take their second factor away, which they have lost
        #[arg(long)]
        no_factor: bool,
        /// The plan whose limits they have, by id or name; an empty one takes it away
        #[arg(long)]
        plan: Option<String>,
    },
    /// Remove somebody with all keys and secrets; the ledger keeps what they spent, under no name
    Remove {
        #[command(flatten)]
        common: Common,
        /// Whom, by id, e-mail address or name
        user: String,
    },
}

impl UserCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            UserCommand::Add { common, .. }
            | UserCommand::List { common, .. }
            | UserCommand::Set { common, .. }
            | UserCommand::Remove { common, .. } => common,
        }
    }

    pub(super) async fn perform(self, room: &Room) -> Result<Told> {
        let (store, clock) = (&room.salon.store, &room.salon.clock);
        match self {
            UserCommand::Add { name, email, role, org, telegram, .. } => {
                let org = people::find_org(store, &org).await?.id;
                let user =
                    people::add_user(store, clock, &room.pen(), NewUser { org, name, email, role, telegram }).await?;
                let note = format!("A key for them: salon key add NAME --user {}", user.id);
                Ok(Told { text: shown(&user), note, trouble: false })
            }
            UserCommand::List { org, .. } => {
                let org = match org {
                    Some(org) => Some(people::find_org(store, &org).await?.id),
                    None => None,
                };
                let users = store.read().await?.list_users(org.as_ref()).await?;
                Ok(Told::lines(users.iter().map(shown).collect(), "Nobody yet. Add somebody: salon user add NAME"))
            }
            UserCommand::Set { user, name, email, role, org, telegram, active, no_factor, plan, .. } => {
                let change = UserChange {
                    org: org.map(OrgId::new),
                    name,
                    email: email.map(|email| Some(email).filter(|email| !email.trim().is_empty())),
                    role,
                    active,
                    telegram: telegram.map(|id| Some(id).filter(|id| *id != 0)),
                };
                let user = people::find_user(store, &user).await?;
                if no_factor {
                    let account = store.read().await?.find_account(&user.id).await?;
                    let account = account.with_context(|| format!("{} is not there any more", user.name))?;
                    room.salon.take_factor_away(&room.pen(), &account).await?;
                }
                let user = people::set_user(store, &room.pen(), &user.id, change).await?;
                if let Some(plan) = plan {
                    let plan = Some(plan.as_str()).filter(|plan| !plan.trim().is_empty());
                    plans::give_plan(store, clock, &room.pen(), &user, plan).await?;
                }
                Ok(Told::text(shown(&user)))
            }
            UserCommand::Remove { user, .. } => {
                let user = people::find_user(store, &user).await?;
                people::remove_user(store, &room.pen(), &user.id).await?;
                Ok(Told::text(format!("Removed {}, with all keys and secrets.", user.name)))
            }
        }
    }
}

pub(super) fn role(text: &str) -> Result<Role> {
    match Role::parse(text) {
        Some(role) => Ok(role),
        None => bail!("the roles are user, manager and admin"),
    }
}

fn shown(user: &User) -> String {
    let mut line = format!("{}  {}  {}  {}", user.id, user.name, user.role, user.org);
    if let Some(email) = &user.email {
        line.push_str(&format!("  {email}"));
    }
    if let Some(telegram) = user.telegram {
        line.push_str(&format!("  telegram {telegram}"));
    }
    if let Some(subject) = &user.subject {
        line.push_str(&format!("  {subject}"));
    }
    if !user.active {
        line.push_str("  switched off");
    }
    line
}
