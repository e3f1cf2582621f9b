//! Errors that administrators are told of, if they want to be: somebody who serves models is left alone because of
//! failures, a bot takes in nothing any more, a task of an agent is given up because it ends the server.
//!
//! Of each only that it began is told, and once an hour at most, whatever process sees it: when it was told last stands in
//! a setting, which is written in the transaction that tells. What is said are names that administrators gave, no words
//! of people, and nothing that a server answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use salon::Salon;
use salon::desk::ERROR_NOTICES;
use salon::people::DEFAULT_ORG;
use salon_core::people::Role;
use salon_core::{BotId, OrgId, Time};
use salon_store::{NewJob, Result};

use super::{notice, places_of};
use crate::fleet::Fleet;

const ONCE_IN: Duration = Duration::from_secs(60 * 60);
/// Looks after which a bot is believed to be in trouble: what is over by itself in ten seconds is told to nobody.
const SURE_AFTER: u32 = 5;

/// What is in trouble.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Upstream(String),
    Bot(BotId),
    Agent(String),
}

impl Subject {
    fn kind(&self) -> &'static str {
        match self {
            Subject::Upstream(_) => "upstream",
            Subject::Bot(_) => "bot",
            Subject::Agent(_) => "agent",
        }
    }

    fn name(&self) -> &str {
        match self {
            Subject::Upstream(name) | Subject::Agent(name) => name,
            Subject::Bot(id) => id.as_str(),
        }
    }

    /// The page of the desk that shows more of it.
    fn page(&self) -> &'static str {
        match self {
            Subject::Upstream(_) => "/admin/models",
            Subject::Bot(_) => "/admin/bots",
            Subject::Agent(_) => "/admin/logs?state=failed",
        }
    }

    /// The setting that says when it was told last.
    fn told(&self) -> String {
        format!("error_told.{}.{}", self.kind(), self.name())
    }
}

/// What this process saw.
#[derive(Default)]
pub(super) struct Watch {
    /// What was in trouble when we looked last.
    known: BTreeSet<Subject>,
    /// What is to be told.
    fresh: BTreeSet<Subject>,
    /// How often in a row each bot was seen in trouble.
    ailing: BTreeMap<BotId, u32>,
}

impl Watch {
    /// Looks what is in trouble, and tells what is new of it.
    pub async fn look(&mut self, fleet: &Fleet, salon: &Salon) -> Result<()> {
        let mut now: BTreeSet<Subject> = salon.engines.list_resting().into_iter().map(Subject::Upstream).collect();
        now.extend(self.stopped(fleet).into_iter().map(Subject::Bot));
        self.fresh.extend(now.difference(&self.known).cloned());
        self.fresh.extend(salon.troubles.take_agents().into_iter().map(Subject::Agent));
        self.known = now;
        if self.fresh.is_empty() {
            return Ok(());
        }
        let wanted = salon.store.read().await?.find_setting(ERROR_NOTICES).await?;
        if wanted.as_deref() != Some("on") {
            self.fresh.clear();
            return Ok(());
        }
        // By those who still hear from Telegram first.
        let mut bots: Vec<BotId> = fleet.all().iter().map(|bot| bot.id().clone()).collect();
        bots.sort_by_key(|bot| self.ailing.contains_key(bot));
        while let Some(subject) = self.fresh.first().cloned() {
            tell(salon, &bots, &subject).await?;
            self.fresh.remove(&subject);
        }
        Ok(())
    }

    /// Bots that take in nothing because of an error, and have not for a while.
    fn stopped(&mut self, fleet: &Fleet) -> Vec<BotId> {
        let stopped = |bot: &crate::fleet::Bot| {
            let status = bot.status();
            status.error.is_some() && !status.receiving
        };
        let ailing = fleet.all().into_iter().filter(|bot| stopped(bot)).map(|bot| bot.id().clone());
        self.ailing = ailing
            .map(|bot| {
                let looks = self.ailing.get(&bot).map_or(1, |looks| looks.saturating_add(1));
                (bot, looks)
            })
            .collect();
        self.ailing.iter().filter(|(_, looks)| **looks >= SURE_AFTER).map(|(bot, _)| bot.clone()).collect()
    }
}

struct Telling {
    /// The setting that says when this was told last, and what it said when we looked.
    told: String,
    last: Option<String>,
    jobs: Vec<NewJob>,
}

/// Tells the house's administrators, as far as they have a chat of theirs.
async fn tell(salon: &Salon, bots: &[BotId], subject: &Subject) -> Result<()> {
    let now = salon.clock.now();
    let mut tx = salon.store.read().await?;
    let told = subject.told();
    let last = tx.find_setting(&told).await?;
    let at = last.as_deref().and_then(|at| at.parse().ok()).map(Time);
    if at.is_some_and(|at| now.since(at) < ONCE_IN) {
        return Ok(());
    }
    let mut jobs = Vec::new();
    let admins = tx.list_users(Some(&OrgId::new(DEFAULT_ORG))).await?.into_iter();
    for admin in admins.filter(|user| user.active && user.role == Role::Admin) {
        for place in places_of(&mut tx, bots, &admin).await? {
            let at = salon.settings.place_of(subject.page());
            let holes = [("name", subject.name()), ("at", at.as_str())];
            let text = place.lang.say(&format!("trouble.{}", subject.kind()), &holes);
            let last = last.as_deref().unwrap_or("never");
            // Two processes that see the same at once make the same key.
            let key = format!("error:{}:{}:{last}:{}", subject.kind(), subject.name(), place.telegram);
            jobs.push(notice(salon, key, place, text)?);
        }
    }
    drop(tx);
    if jobs.is_empty() {
        tracing::info!(kind = subject.kind(), name = subject.name(), "an error, told to no administrator");
        return Ok(());
    }
    let args = (Telling { told, last, jobs }, now);
    let telling = salon.store.write(args, |tx, (telling, now)| {
        Box::pin(async move {
            // Another process may have been faster.
            if tx.find_setting(&telling.told).await? != telling.last {
                return Ok(());
            }
            tx.set_setting(&telling.told, &now.0.to_string()).await?;
            for job in &telling.jobs {
                tx.enqueue(job).await?;
            }
            Ok(())
        })
    });
    telling.await
}
