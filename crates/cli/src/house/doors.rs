//! What the listener may know of the bots and the machine, and what the desk does to the list of bots.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use salon::Salon;
use salon::arrive::Rejected;
use salon::audit::anchors::{self, Anchor};
use salon_bots::fleet::Bot;
use salon_bots::roster::{Access, BotConfig, Intake};
use salon_bots::{Fleet, Surroundings, fleet};
use salon_core::BotId;
use salon_telegram::Class;
use salon_web::{BotDeed, BotEntry, BotFault, BotHealth, BotTerms, Disk, Doors};
use tokio::sync::Mutex;

use crate::bot::{self, Add, quoted, secret};
use crate::config::Config;

/// How long Telegram is waited for while somebody looks at a page.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct FrontDoors {
    salon: Arc<Salon>,
    fleet: Arc<Fleet>,
    data: PathBuf,
    list: PathBuf,
    around: Surroundings,
    /// One change of the list at a time.
    tending: Mutex<()>,
}

impl FrontDoors {
    pub(super) fn new(salon: Arc<Salon>, fleet: Arc<Fleet>, config: &Config) -> FrontDoors {
        FrontDoors {
            salon,
            fleet,
            data: config.data.clone(),
            list: config.bots_file.clone(),
            around: config.around.clone(),
            tending: Mutex::default(),
        }
    }

    fn find(&self, id: &str) -> Option<Arc<Bot>> {
        self.fleet.all().into_iter().find(|bot| bot.id().as_str() == id)
    }

    /// The list with other fields of one entry. A bot that only the environment knows gets an entry first.
    fn edited(&self, id: &str, fields: &[(&str, Option<String>)]) -> Result<String, BotFault> {
        let old = bot::read(&self.list).map_err(broken)?;
        let old = match self.find(id) {
            Some(known) if bot::is_empty(&old) => {
                let add = Add {
                    id: id.to_owned(),
                    token: None,
                    name: Some(known.config.name.clone()),
                    owner: None,
                    allow: Vec::new(),
                    engine: known.config.engine.clone(),
                    public_url: None,
                };
                bot::with_entry(&old, &add, &bot::around(&self.around)).map_err(broken)?
            }
            Some(_) => old,
            None => return Err(BotFault::Missing),
        };
        bot::with_fields(&old, id, fields).ok_or(BotFault::Entry)
    }

    /// Takes a new list in.
    fn put(&self, text: &str) -> Result<(), BotFault> {
        bot::replace(&self.list, &self.around, text).map_err(broken)?;
        self.fleet.reload();
        Ok(())
    }

    /// What a bot would be by a new list. Its token is shown to Telegram if it is another one.
    async fn tried(&self, text: &str, id: &str, token: Option<&str>) -> Result<BotConfig, BotFault> {
        let bots = bot::judged(&self.around, text).map_err(|error| match error.downcast_ref() {
            Some(salon_bots::roster::RosterError::SameToken(..)) => BotFault::TokenTaken,
            _ => broken(error),
        })?;
        let found = bots.into_iter().find(|bot| bot.id.as_str() == id).ok_or(BotFault::Missing)?;
        if token.is_some() {
            let client = fleet::client(&found).map_err(|_| BotFault::BadToken)?;
            let asked = tokio::time::timeout(PATIENCE, client.get_me()).await.map_err(|_| BotFault::Unreachable)?;
            asked.map_err(|error| match error.class() {
                Class::Unauthorized | Class::BadRequest | Class::Blocked => BotFault::BadToken,
                _ => BotFault::Unreachable,
            })?;
        }
        Ok(found)
    }

    async fn add(&self, id: &str, terms: BotTerms) -> Result<(), BotFault> {
        if !BotId::is_valid(id) {
            return Err(BotFault::BadId);
        }
        if self.find(id).is_some() {
            return Err(BotFault::Taken);
        }
        self.check(&terms)?;
        let token = terms.token.clone().ok_or(BotFault::BadToken)?;
        let add = Add {
            id: id.to_owned(),
            token: Some(token.clone()),
            name: Some(terms.name.clone()).filter(|name| !name.is_empty()),
            owner: terms.owner,
            allow: terms.allow.clone(),
            engine: terms.engine.clone(),
            public_url: None,
        };
        let old = bot::read(&self.list).map_err(broken)?;
        let text = bot::with_entry(&old, &add, &bot::around(&self.around)).map_err(broken)?;
        let text = match terms.everyone {
            true => bot::with_fields(&text, id, &[("allow", Some("everyone".to_owned()))]).ok_or(BotFault::Entry)?,
            false => text,
        };
        self.tried(&text, id, Some(&token)).await?;
        self.put(&text)
    }

    async fn change(&self, id: &str, terms: BotTerms) -> Result<(), BotFault> {
        self.check(&terms)?;
        let allow = match (terms.everyone, terms.allow.as_slice()) {
            (true, _) => Some("everyone".to_owned()),
            (false, []) => None,
            (false, people) => {
                let people: Vec<String> = people.iter().map(i64::to_string).collect();
                Some(format!("[{}]", people.join(", ")))
            }
        };
        let text = |text: &str| quoted(text).map(Some).map_err(broken);
        let mut fields = vec![
            ("adapter", text(&terms.engine)?),
            ("owner_user_id", terms.owner.map(|owner| owner.to_string())),
            ("allow", allow),
        ];
        if !terms.name.is_empty() {
            fields.push(("name", text(&terms.name)?));
        }
        if let Some(token) = &terms.token {
            fields.push(("telegram_token", text(token)?));
        }
        let new = self.edited(id, &fields)?;
        self.tried(&new, id, terms.token.as_deref()).await?;
        self.put(&new)
    }

    fn check(&self, terms: &BotTerms) -> Result<(), BotFault> {
        if self.salon.engines.find(&terms.engine).is_some() { Ok(()) } else { Err(BotFault::Engine) }
    }

    fn remove(&self, id: &str) -> Result<(), BotFault> {
        if self.find(id).is_none() {
            return Err(BotFault::Missing);
        }
        let old = bot::read(&self.list).map_err(broken)?;
        let new = bot::without(&old, id).ok_or(BotFault::Entry)?;
        // The last one leaves a list that is meant to be empty.
        let none =
            bot::judged(&Surroundings { token: None, ..self.around.clone() }, &new).is_ok_and(|bots| bots.is_empty());
        self.put(if none || new.trim() == "bots:" { "bots: []\n" } else { &new })
    }

    async fn hook(&self, id: &str, url: &str) -> Result<String, BotFault> {
        let known = self.find(id).ok_or(BotFault::Missing)?;
        let url = url.trim().trim_end_matches('/');
        let local = known.config.is_local() && url.starts_with("http://127.0.0.1");
        if !url.starts_with("https://") && !local {
            return Err(BotFault::NotHttps);
        }
        let (path, header) = (secret(), secret());
        let url_said = quoted(url).map_err(broken)?;
        let hook = format!("{{public_url: {url_said}, path_secret: \"{path}\", secret_token: \"{header}\"}}");
        let new = self.edited(id, &[("mode", Some("webhook".to_owned())), ("webhook", Some(hook))])?;
        self.put(&new)?;
        // The rest of the address is a secret.
        Ok(format!("{url}/telegram/webhook/{id}/…"))
    }

    async fn stop(&self, id: &str) -> Result<(), BotFault> {
        let known = self.find(id).ok_or(BotFault::Missing)?;
        let new = self.edited(id, &[("mode", Some("\"off\"".to_owned())), ("webhook", None)])?;
        self.put(&new)?;
        if matches!(known.config.intake, Intake::Webhook { .. }) {
            // If Telegram does not hear it, it brings updates to a door that is not there, and keeps them.
            tokio::time::timeout(PATIENCE, known.client.delete_webhook()).await.ok();
        }
        Ok(())
    }
}

/// What went wrong is for the log: a sentence of the list's reader may quote what stands in it.
fn broken(error: anyhow::Error) -> BotFault {
    tracing::warn!(error = format!("{error:#}"), "the list of bots was not changed");
    BotFault::Broken
}

#[async_trait]
impl Doors for FrontDoors {
    fn admit(&self, bot: &str, path: &str, header: Option<&str>) -> Result<BotId, Rejected> {
        self.fleet.admit(bot, path, header)
    }

    fn admit_default(&self, path: &str, header: Option<&str>) -> Result<BotId, Rejected> {
        self.fleet.admit_default(path, header)
    }

    fn bots(&self) -> Vec<BotHealth> {
        self.fleet.all().iter().map(|bot| health(bot)).collect()
    }

    fn bot_entries(&self) -> Vec<BotEntry> {
        let entry = |bot: &Arc<Bot>| {
            let config = &bot.config;
            let (allow, everyone) = match &config.access {
                Access::Nobody => (Vec::new(), false),
                Access::People(people) => {
                    (people.iter().filter(|id| Some(**id) != config.owner).copied().collect(), false)
                }
                Access::Everyone => (Vec::new(), true),
            };
            BotEntry {
                health: health(bot),
                engine: config.engine.clone(),
                owner: config.owner,
                allow,
                everyone,
                token_hint: config.token.to_string(),
                public_url: match &config.intake {
                    Intake::Webhook { public_url } => Some(public_url.clone()),
                    Intake::Polling | Intake::Off => None,
                },
                policy: config.policy.map(|policy| policy.as_str().to_owned()),
            }
        };
        self.fleet.all().iter().map(entry).collect()
    }

    async fn tend_bot(&self, id: &str, deed: BotDeed) -> Result<Option<String>, BotFault> {
        let _alone = self.tending.lock().await;
        match deed {
            BotDeed::Add(terms) => self.add(id, terms).await.map(|()| None),
            BotDeed::Change(terms) => self.change(id, terms).await.map(|()| None),
            BotDeed::Remove => self.remove(id).map(|()| None),
            BotDeed::Poll => {
                let new = self.edited(id, &[("mode", Some("polling".to_owned())), ("webhook", None)])?;
                self.put(&new).map(|()| None)
            }
            BotDeed::Hook(url) => self.hook(id, &url).await.map(Some),
            BotDeed::Stop => self.stop(id).await.map(|()| None),
        }
    }

    fn anchors(&self) -> std::io::Result<Vec<Anchor>> {
        anchors::read(&self.data).map(|(anchors, _)| anchors)
    }

    fn disk(&self) -> Option<Disk> {
        super::disk(&self.data)
    }
}

fn health(bot: &Bot) -> BotHealth {
    let status = bot.status();
    let intake = match bot.config.intake {
        Intake::Polling => "polling",
        Intake::Webhook { .. } => "webhook",
        Intake::Off => "off",
    };
    BotHealth {
        id: bot.id().to_string(),
        name: bot.config.name.clone(),
        intake: intake.to_owned(),
        receiving: status.receiving,
        username: status.username,
        error: status.error,
    }
}
