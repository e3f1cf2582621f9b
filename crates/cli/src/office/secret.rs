//! `salon secret`.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use salon::people::{self, DEFAULT_ORG};
use salon::vault::Origin;
use salon_core::{Owner, SecretId};
use salon_engine::Secret;

use super::{Room, Told, day};
use crate::common::Common;

const LONGEST: u64 = 16 * 1024;

/// Providers whose address everybody knows.
const KNOWN: &[(&str, &str)] = &[
    ("openai", "https://api.openai.com"),
    ("anthropic", "https://api.anthropic.com"),
    ("google", "https://generativelanguage.googleapis.com"),
];

#[derive(Subcommand, Debug)]
pub enum SecretCommand {
    /// Store a provider's key; it is asked for, or read from standard input
    Add {
        #[command(flatten)]
        common: Common,
        /// The provider as the upstream names it, such as openai, anthropic or google
        provider: String,
        /// The provider's base address: the only place to which the key is ever sent
        #[arg(long, value_name = "URL")]
        origin: Option<String>,
        /// For this person alone, by id, e-mail address or name; comes before the organisation's
        #[arg(long, conflicts_with = "org")]
        user: Option<String>,
        /// For everybody in this organisation, by id or name
        #[arg(long)]
        org: Option<String>,
    },
    /// Show whose keys for which providers there are, never the keys themselves
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Take a provider's key away
    Remove {
        #[command(flatten)]
        common: Common,
        /// The secret's id, as `salon secret list` shows it
        id: String,
    },
}

impl SecretCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            SecretCommand::Add { common, .. }
            | SecretCommand::List { common }
            | SecretCommand::Remove { common, .. } => common,
        }
    }

    /// The key itself: what stands on a command line can be read by everybody on the machine.
    pub(super) fn input(&self) -> Result<Option<Secret>> {
        let SecretCommand::Add { provider, .. } = self else { return Ok(None) };
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return prompt(&format!("Key for {provider} (not shown): ")).map(Some);
        }
        let mut text = zeroize::Zeroizing::new(String::new());
        stdin.lock().take(LONGEST).read_to_string(&mut text).context("reading the key")?;
        Ok(Some(Secret::new(text.trim())))
    }

    pub(super) async fn perform(self, room: &Room, input: Option<Secret>) -> Result<Told> {
        let (store, vault) = (&room.salon.store, &room.salon.vault);
        match self {
            SecretCommand::Add { provider, origin, user, org, .. } => {
                let secret = input.filter(|secret| !secret.is_empty()).context("no key was given on standard input")?;
                let owner = match (user, org) {
                    (Some(user), _) => Owner::User(people::find_user(store, &user).await?.id),
                    (None, org) => Owner::Org(people::find_org(store, org.as_deref().unwrap_or(DEFAULT_ORG)).await?.id),
                };
                let (provider, origin) = place(&provider, origin.as_deref())?;
                let id = vault.put_key(&owner, &provider, &origin, secret, &room.pen()).await?;
                Ok(Told::text(format!("{id}  {owner}  {provider}  {origin}")))
            }
            SecretCommand::List { .. } => {
                let mut lines = Vec::new();
                for key in vault.list_keys(None).await? {
                    let hint = if key.hint.is_empty() { String::new() } else { format!("  …{}", key.hint) };
                    let (id, owner, provider, origin) = (key.id, key.owner, key.provider, key.origin);
                    lines.push(format!("{id}  {owner}  {provider}  {origin}{hint}  {}", day(key.created_at)));
                }
                Ok(Told::lines(lines, "No secret yet. Store one: salon secret add PROVIDER"))
            }
            SecretCommand::Remove { id, .. } => {
                let id = SecretId::new(id.to_uppercase());
                let listed = vault.list_keys(None).await?.into_iter().find(|key| key.id == id);
                let owner = listed.and_then(|key| Owner::parse(&key.owner));
                let removed = match owner {
                    Some(owner) => vault.remove_key(&owner, &id, &room.pen()).await?,
                    None => false,
                };
                ensure!(removed, "there is no secret {id}; salon secret list shows which there are");
                Ok(Told::text(format!("Removed {id}.")))
            }
        }
    }
}

/// The provider as upstreams name it, and where it is.
fn place(provider: &str, origin: Option<&str>) -> Result<(String, Origin)> {
    let provider = if provider == "gemini" { "google" } else { provider };
    let known = KNOWN.iter().find(|(name, _)| *name == provider).map(|(_, origin)| *origin);
    let Some(origin) = origin.or(known) else {
        bail!("say where {provider} is: --origin https://…, as the upstream has it");
    };
    Ok((provider.to_owned(), Origin::parse(origin)?))
}

/// Asks on the terminal without showing what is typed.
fn prompt(question: &str) -> Result<Secret> {
    let stdin = std::io::stdin();
    eprint!("{question}");
    std::io::stderr().flush().ok();
    let before = tcgetattr(&stdin).context("the terminal cannot be told to be silent")?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let mut line = zeroize::Zeroizing::new(String::new());
    let read = stdin.lock().take(LONGEST).read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Now, &before)?;
    eprintln!();
    read.context("reading the key")?;
    Ok(Secret::new(line.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_that_everybody_knows_need_no_address() {
        let at = |provider, origin| place(provider, origin).map(|(name, origin)| format!("{name} {origin}"));
        assert_eq!(at("openai", None).expect("known"), "openai https://api.openai.com");
        assert_eq!(at("gemini", None).expect("known"), "google https://generativelanguage.googleapis.com");
        assert_eq!(
            at("openai", Some("https://eu.api.openai.com/v1")).expect("said"),
            "openai https://eu.api.openai.com"
        );
        assert!(at("mine", None).is_err() && at("mine", Some("mine")).is_err());
    }
}
