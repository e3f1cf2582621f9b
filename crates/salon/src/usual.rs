//! Who begins a conversation in which nobody has said who answers: what administrators choose while everything runs.
//!
//! ```text
//!  the person's own ─► the organisation's ─► the house's ─► the configuration's
//! ```
//! Whatever is gone by then, or is not for this person, is passed over as if it had not been said. It stays said, and
//! counts again when it is back.

use salon_core::OrgId;
use salon_store::{Result, Tx};

use crate::Salon;
use crate::access::Caller;
use crate::engines::{Answers, Choice};

/// The setting that says it for the whole house. Empty is what the configuration says.
pub const USUAL_ENGINE: &str = "default_engine";

/// The setting that says it for an organisation.
pub fn usual_of(org: &OrgId) -> String {
    format!("{USUAL_ENGINE}.{org}")
}

/// What administrators chose for an organisation, the nearest first.
pub async fn list_chosen(tx: &mut Tx, org: &OrgId) -> Result<Vec<String>> {
    let mut chosen = Vec::new();
    for name in [usual_of(org), USUAL_ENGINE.to_owned()] {
        chosen.extend(tx.find_setting(&name).await?.filter(|engine| !engine.is_empty()));
    }
    Ok(chosen)
}

impl Salon {
    /// Who could be chosen for everybody of an organisation; without one, for everybody.
    pub fn list_choices(&self, org: Option<&OrgId>) -> Vec<String> {
        let engines = self.engines.all().iter().filter(|engine| engine.selectable && engine.installed);
        let mut names: Vec<String> = engines.map(|engine| engine.name.clone()).collect();
        for model in self.engines.models(org) {
            if !names.contains(&model) {
                names.push(model);
            }
        }
        names.extend(self.engines.panels().iter().map(|panel| format!("panel:{}", panel.name)));
        names
    }

    /// Who begins a conversation of the caller's, if administrators chose somebody who can.
    pub async fn find_usual_engine(&self, caller: &Caller) -> Result<Option<String>> {
        let chosen = list_chosen(&mut self.store.read().await?, &caller.org).await?;
        Ok(chosen.into_iter().find(|name| self.can_answer(caller, name)))
    }

    fn can_answer(&self, caller: &Caller, name: &str) -> bool {
        let there = self.engines.find(name).is_some_and(|engine| {
            let open = match &engine.answers {
                // Of the catalog, where each team sees its own.
                Answers::Model(Choice::Named(model)) if model == name => self.engines.knows_model(name, &caller.org),
                _ => true,
            };
            engine.selectable && engine.installed && open
        });
        there && self.may_ask(caller, name).is_ok()
    }
}
