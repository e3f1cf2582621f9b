//! Who is there: bots and the list of them, and people with their accounts.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use salon::Configured;
use salon::audit::Actor;
use salon::engines::Answers;
use salon::people::{DEFAULT_ORG, NewUser, add_user};
use salon_cli::house::{House, Staged};
use salon_core::people::Role;
use salon_core::{BotId, Limit, LimitId, Measure, OrgId, Period, Policy, Scope, UserId};
use salon_store::testing;

use super::{GROUPS, PEOPLE, Stage, capital, ready, span};

impl Stage {
    /// Puts a bot on the list, changes it there, or takes it off; a running house takes that in by itself.
    pub(super) async fn cast(&mut self, id: &str, yaml: Option<Vec<String>>) -> Result<()> {
        let number = self.number_of(id);
        match yaml {
            Some(yaml) => self.roster.insert(number, yaml),
            None => self.roster.remove(&number),
        };
        if self.house.is_none() {
            return Ok(());
        }
        let before = self.house()?.fleet.find(&BotId::new(id));
        self.write_roster()?;
        let fleet = self.house()?.fleet.clone();
        let wanted = self.roster.contains_key(&number);
        let taken_in = async || match (fleet.find(&BotId::new(id)), &before) {
            (None, _) => (!wanted).then_some(()),
            (Some(bot), Some(before)) if Arc::ptr_eq(&bot, before) => None,
            (Some(bot), _) => ready(&bot).then_some(()),
        };
        self.until(|| "the list of bots was not taken in".to_owned(), taken_in).await
    }

    pub(super) async fn open(&mut self) -> Result<()> {
        if self.house.is_some() {
            return Ok(());
        }
        if self.roster.values().flatten().any(|line| line.contains("{house}")) && self.config.listen.port() == 0 {
            // Telegram must know the address before there is one: any free one.
            let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            self.config.listen = free.local_addr()?;
        }
        self.write_roster()?;
        let engine = Configured {
            rates: salon_core::Tariff::default(),
            name: "script".to_owned(),
            answers: Answers::Engine(self.desk.clone()),
            model: None,
            installed: true,
            why_not: None,
            selectable: true,
        };
        let staged = Staged { clock: self.clock.clone(), engines: vec![engine] };
        let house = House::open_staged(&self.config, staged).await?;
        let fleet = house.fleet.clone();
        self.house = Some(house);
        // Until then a bot does not know what it is called.
        let all_ready = async || fleet.all().iter().all(ready).then_some(());
        self.until(|| "a bot was not introduced to Telegram".to_owned(), all_ready).await
    }

    pub(super) fn write_roster(&self) -> Result<()> {
        let mut text = String::from("bots:\n");
        for (number, yaml) in &self.roster {
            let id = &self.bots[*number];
            writeln!(text, "  - bot_id: {id}")?;
            writeln!(text, "    telegram_token: \"{}\"", self.token(id))?;
            let says = |key: &str| yaml.iter().any(|line| line.starts_with(key));
            if !says("name:") {
                writeln!(text, "    name: {}", capital(id))?;
            }
            if !says("allow:") && !says("owner_user_id:") {
                writeln!(text, "    allow: everyone")?;
            }
            for line in yaml {
                writeln!(text, "    {}", self.filled(line))?;
            }
        }
        // In one step: a half-written list would be a broken one.
        let beside = self.folder.path().join("bots.new");
        std::fs::write(&beside, text)?;
        std::fs::rename(beside, &self.config.bots_file)?;
        Ok(())
    }

    pub(super) fn house(&self) -> Result<&House> {
        self.house.as_ref().context("nothing has happened yet")
    }

    pub(super) fn number_of(&mut self, id: &str) -> usize {
        let known = self.bots.iter().position(|known| known == id);
        known.unwrap_or_else(|| {
            self.bots.push(id.to_owned());
            self.bots.len() - 1
        })
    }

    pub(super) fn token(&self, id: &str) -> String {
        let number = self.bots.iter().position(|known| known == id).unwrap_or(self.bots.len());
        format!("{}:{id}-token", 1001 + number)
    }

    /// Fills in ids of people, names of bots and the address of the house.
    pub(super) fn filled(&self, text: &str) -> String {
        let mut text = text.replace("{house}", &format!("http://{}", self.config.listen));
        for (name, code) in &self.codes {
            text = text.replace(&format!("{{code of {name}}}"), code);
        }
        for (name, id, _) in PEOPLE {
            text = text.replace(&format!("{{{name}}}"), &id.to_string());
        }
        for (name, id) in GROUPS {
            text = text.replace(&format!("{{{name}}}"), &id.to_string());
        }
        for (number, id) in self.bots.iter().enumerate() {
            text = text.replace(&format!("{{@{id}}}"), &format!("@mock{}_bot", 1001 + number));
        }
        text
    }

    // Accounts.

    /// What people have on the web page, and what administrators do there; `false` if the line is about neither.
    pub(super) async fn of_accounts(&mut self, text: &str) -> Result<bool> {
        if text.contains(['<', '>', '~']) {
            return Ok(false);
        }
        let house = self.house()?;
        let (salon, now) = (house.salon.clone(), self.clock.now());
        if let Some(who) = text.strip_suffix(" has an account") {
            let (org, name) = (OrgId::new(DEFAULT_ORG), capital(who));
            let new = NewUser { org, name, email: None, role: Role::User, telegram: None };
            let user = add_user(&salon.store, &salon.clock, &salon.pen(Actor::Operator), new).await?;
            let login = format!("{who}@example.org");
            let args = (user.id.clone(), login);
            salon.store.write(args, |tx, (id, login)| Box::pin(async move { tx.set_login(id, login).await })).await?;
            self.accounts.insert(who.to_owned(), user.id);
        } else if let Some(who) = text.strip_suffix(" makes a code") {
            let user = self.account(who)?;
            let code = salon.make_code(&user).await?.word;
            self.codes.insert(who.to_owned(), code);
        } else if let Some(who) = text.strip_suffix(" is switched off") {
            self.change(who, |user| user.active = false).await?;
        } else if let Some(who) = text.strip_suffix(" is switched on") {
            self.change(who, |user| user.active = true).await?;
        } else if let Some((who, end)) = text.split_once(" may stay for ") {
            let args = (self.account(who)?, now + span(end)?);
            salon
                .store
                .write(args, |tx, (id, until)| Box::pin(async move { tx.set_reach(id, Some(*until), None).await }))
                .await?;
        } else if let Some((who, models)) = text.split_once(" may be answered by ") {
            let args = (self.account(who)?, models.to_owned());
            salon
                .store
                .write(args, |tx, (id, models)| Box::pin(async move { tx.set_reach(id, None, Some(models)).await }))
                .await?;
        } else if let Some((who, amount)) = text.split_once(" may take ") {
            let (amount, period) = amount.split_once(" tokens a ").context("<who> may take <n> tokens a <period>")?;
            let limit = Limit {
                id: LimitId::new(salon.clock.id()),
                org: OrgId::new(DEFAULT_ORG),
                scope: Scope::User,
                subject: Some(self.account(who)?.to_string()),
                measure: Measure::Tokens,
                period: Period::parse(period).context("a period")?,
                amount: amount.parse()?,
                policy: Policy::Hard,
                thresholds: Vec::new(),
            };
            ensure!(
                house.relay.book.add_limit(limit, &house.salon.pen(Actor::Operator)).await?,
                "there is such a limit"
            );
        } else if let Some((bot, reply)) = text.split_once(" answers ") {
            let bot = Some(bot).filter(|bot| *bot != "every bot").map(BotId::new);
            match reply.split_once(" with ") {
                Some((name, words)) => {
                    salon::replies::put(&salon.store, bot, name, words, now).await?;
                }
                None => {
                    let name = reply.strip_suffix(" no more").context("answers /<name> with <text>, or no more")?;
                    ensure!(salon::replies::remove(&salon.store, bot, name).await?, "there is no such reply");
                }
            }
        } else if text == "no code is kept" {
            for code in self.codes.values() {
                let kept = testing::keeps(&mut salon.store.read().await?, code).await;
                ensure!(!kept, "a code is kept");
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    pub(super) fn account(&self, who: &str) -> Result<UserId> {
        self.accounts.get(who).cloned().with_context(|| format!("{who} has no account"))
    }

    pub(super) async fn change(&self, who: &str, change: impl FnOnce(&mut salon_core::User)) -> Result<()> {
        let store = &self.house()?.salon.store;
        let mut user = store.read().await?.find_user(&self.account(who)?).await?.context("they are gone")?;
        change(&mut user);
        store.write(user, |tx, user| Box::pin(async move { tx.set_user(user).await })).await?;
        Ok(())
    }

    // What people do.
}
