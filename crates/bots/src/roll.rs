//! The roll: which bots there were when somebody looked last. The list is a file that anybody with the machine may edit, so
//! what became of it is written into the audit when it is noticed, also if Salon did not run meanwhile.

use std::collections::BTreeMap;

use salon::audit::{self, Action, Actor, Deed, Pen};
use salon::people::DEFAULT_ORG;
use salon::{Keys, Salon};
use salon_core::OrgId;
use salon_store::{Result, Tx};

use crate::roster::BotConfig;

/// The setting that keeps the roll: JSON, a bot's id and what stands for its configuration.
const ROLL: &str = "bots_roll";

/// Writes down what has changed since somebody looked last, here or in another process.
pub async fn call(salon: &Salon, bots: impl Iterator<Item = &BotConfig>) -> Result<()> {
    let now: BTreeMap<String, String> = bots.map(|bot| (bot.id.to_string(), mark(&salon.keys, bot))).collect();
    salon.store.write((now, salon.pen(Actor::Operator)), |tx, (now, pen)| Box::pin(compare(tx, now, pen))).await
}

async fn compare(tx: &mut Tx, now: &BTreeMap<String, String>, pen: &Pen) -> Result<()> {
    // Held first, so that of two processes that look at once one tells it.
    tx.hold_audit().await?;
    let known = tx.find_setting(ROLL).await?.unwrap_or_default();
    let before: BTreeMap<String, String> = serde_json::from_str(&known).unwrap_or_default();
    if before == *now {
        return Ok(());
    }
    tx.set_setting(ROLL, &serde_json::to_string(now).map_err(anyhow::Error::new)?).await?;
    let org = OrgId::new(DEFAULT_ORG);
    for (id, mark) in now {
        let action = match before.get(id) {
            None => Action::BotAdded,
            Some(old) if old != mark => Action::BotChanged,
            Some(_) => continue,
        };
        audit::note(tx, pen, Deed::new(action, &org, id)).await?;
    }
    for id in before.keys().filter(|id| !now.contains_key(*id)) {
        audit::note(tx, pen, Deed::new(Action::BotRemoved, &org, id)).await?;
    }
    Ok(())
}

/// What stands for a bot's configuration. It is made with a key, because there are secrets in it.
fn mark(keys: &Keys, bot: &BotConfig) -> String {
    let secrets = bot.secrets.as_ref().map(|secrets| (secrets.path.as_str(), secrets.header.as_str()));
    let mut all = format!(
        "bot {:?}",
        (
            (&bot.name, bot.token.expose(), bot.owner, &bot.access, &bot.engine, bot.view.as_str()),
            (&bot.intake, secrets, &bot.api_base, bot.drafts, bot.paced),
        )
    );
    // Only where there are some, so that the marks of all others stay what they were.
    if !bot.hosts.is_empty() || bot.policy.is_some() {
        all.push_str(&format!(" {:?}", (&bot.hosts, bot.policy)));
    }
    keys.token_hash(&all)
}
