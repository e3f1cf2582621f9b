//! The configured engines, by the names that people use, and the catalog's models beside them.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use salon_core::panel::Panel;
use salon_core::{OrgId, Tariff, Wishes};
use salon_engine::Engine;
use salon_engine::wire::Wire;

use crate::agents::Agent;
use crate::catalog::{Catalog, Condition, Quirk, Upstream};
use crate::panels;

/// The engine that answers where nobody chose another one.
pub const USUAL_MODEL: &str = "model";

/// One name that a bot, a session or `/mode` may choose.
#[derive(Clone)]
pub struct Configured {
    pub name: String,
    pub answers: Answers,
    /// The model behind it, if it is one.
    pub model: Option<String>,
    /// What its tokens cost, if it is an engine of its own. What a model costs is known to the catalog.
    pub rates: Tariff,
    /// Whether it can answer here and now.
    pub installed: bool,
    /// Why not, in a few words for the person who runs Salon.
    pub why_not: Option<String>,
    /// Whether people may switch to it by `/mode`.
    pub selectable: bool,
}

impl Configured {
    /// Whether somebody stands behind the name. Of an agent that is missing, or not run, only the reason does.
    pub fn stands(&self) -> bool {
        self.installed && (self.why_not.is_none() || !matches!(self.answers, Answers::Engine(_)))
    }
}

/// How an answer fails behind whose engine nobody stands: asking again helps only if somebody else is asked.
const ABSENT: [&str; 4] = ["binary_missing", "no_sandbox", "agent_unusable", "agent_cannot_ask"];

/// Whether a failure of this code means that somebody else has to be asked.
pub fn is_absence(code: &str) -> bool {
    ABSENT.contains(&code)
}

/// Who it is that answers.
#[derive(Clone)]
pub enum Answers {
    Engine(Arc<dyn Engine>),
    /// A model of the catalog, which is asked by way of the relay: with its keys, its retries and its bill.
    Model(Choice),
    /// Several models together, by the panel's name. Whether the person who asks has such a panel is seen when it is asked.
    Panel(String),
    /// A program of somebody else, in a cell.
    Agent(Arc<Agent>),
}

/// Which model is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// By a name that the catalog knows.
    Named(String),
    /// The first that this upstream says it has.
    FirstOf(String),
}

#[derive(Clone, Default)]
pub struct Engines {
    list: Vec<Configured>,
    catalog: OnceLock<Arc<Catalog>>,
    panels: OnceLock<Vec<Panel>>,
}

impl Engines {
    pub fn new(list: Vec<Configured>) -> Engines {
        Engines { list, ..Engines::default() }
    }

    /// Lets models of the catalog answer under their own names, too. The first call counts.
    pub fn join(&self, catalog: Arc<Catalog>) {
        self.catalog.set(catalog).ok();
    }

    /// Lets the panels of the configuration sit down. The first call counts.
    pub fn seat(&self, panels: Vec<Panel>) {
        self.panels.set(panels).ok();
    }

    /// The panels of the configuration.
    pub fn panels(&self) -> &[Panel] {
        self.panels.get().map_or(&[], Vec::as_slice)
    }

    /// Whether people of this organisation can ask a model of this name.
    pub fn knows_model(&self, name: &str, org: &OrgId) -> bool {
        self.catalog.get().is_some_and(|catalog| catalog.snapshot().find_model(name, Some(org)).is_some())
    }

    /// An engine by its name; else a panel; else a model of the catalog that is known by that name.
    pub fn find(&self, name: &str) -> Option<Configured> {
        let configured = self.list.iter().find(|engine| engine.name == name).cloned();
        let configured = configured.or_else(|| panels::named(name).map(|panel| of_panel(name, panel)));
        configured.or_else(|| self.catalog.get()?.snapshot().knows(name).then(|| of_catalog(name)))
    }

    /// Whether the engine of this name is a program that works in a folder.
    pub fn is_agent(&self, name: &str) -> bool {
        self.list.iter().any(|engine| engine.name == name && matches!(engine.answers, Answers::Agent(_)))
    }

    /// Whether the engine of this name can be told more while it is at work.
    pub fn steers(&self, name: &str) -> bool {
        let named = self.list.iter().find(|engine| engine.name == name);
        named.is_some_and(|engine| matches!(&engine.answers, Answers::Agent(agent) if agent.steers()))
    }

    /// What a style wishes, as far as the engine of this name takes it: some servers refuse a temperature above 1, and a
    /// model that takes none thinks within its longest answer and would have no room left to speak.
    pub fn temper(&self, name: &str, wishes: Wishes) -> Wishes {
        let (Some(configured), Some(catalog)) = (self.find(name), self.catalog.get()) else { return wishes };
        let snapshot = catalog.snapshot();
        let cool =
            |upstream: &Upstream| upstream.speaks.contains(&Wire::Messages) && !upstream.speaks.contains(&Wire::Chat);
        let (cool, thinks) = match &configured.answers {
            Answers::Model(Choice::Named(name)) => match snapshot.find_model(name, None) {
                Some(model) => (
                    model.deployments.iter().any(|deployment| cool(&deployment.upstream)),
                    model.quirks.contains(&Quirk::NoTemperature),
                ),
                None => (false, false),
            },
            Answers::Model(Choice::FirstOf(upstream)) => {
                (snapshot.find_upstream(upstream).is_some_and(|upstream| cool(upstream)), false)
            }
            Answers::Engine(_) | Answers::Agent(_) | Answers::Panel(_) => (false, false),
        };
        Wishes {
            max_output: wishes.max_output.filter(|_| !thinks),
            temperature: wishes.temperature.map(|degree| if cool { degree.min(1.0) } else { degree }),
        }
    }

    /// The catalog's models that a team may choose by name, in the order of their names, without those that lists leave
    /// out.
    pub fn models(&self, org: Option<&OrgId>) -> Vec<String> {
        let Some(catalog) = self.catalog.get() else { return Vec::new() };
        let snapshot = catalog.snapshot();
        let open = snapshot.models().filter(|model| !model.hidden && model.is_open_to(org));
        // What everybody may not use cannot be chosen by its bare name.
        open.map(|model| model.name.clone()).filter(|name| snapshot.knows(name)).collect()
    }

    /// Who could answer instead of the engine of this name: other agents first, because one was wanted, and what only
    /// repeats or tells stories last.
    pub fn others(&self, than: &str) -> Vec<&Configured> {
        let mut others: Vec<_> = self.list.iter().filter(|one| one.name != than).collect();
        others.retain(|one| one.selectable && one.stands());
        others.sort_by_key(|one| match one.answers {
            Answers::Agent(_) => 0,
            Answers::Model(_) | Answers::Panel(_) => 1,
            Answers::Engine(_) => 2,
        });
        others
    }

    /// Those who serve models and are left alone for a while, because they failed again and again.
    pub fn list_resting(&self) -> BTreeSet<String> {
        let Some(catalog) = self.catalog.get() else { return BTreeSet::new() };
        let health = catalog.snapshot().health().into_iter();
        // A probe under way says nothing yet.
        health.filter(|standing| standing.view.condition != Condition::Well).map(|standing| standing.upstream).collect()
    }

    /// Those that are configured by name, without the catalog's models.
    pub fn all(&self) -> &[Configured] {
        &self.list
    }
}

fn of_panel(name: &str, panel: &str) -> Configured {
    Configured { model: None, answers: Answers::Panel(panel.to_owned()), ..of_catalog(name) }
}

fn of_catalog(name: &str) -> Configured {
    Configured {
        name: name.to_owned(),
        answers: Answers::Model(Choice::Named(name.to_owned())),
        model: Some(name.to_owned()),
        rates: Tariff::default(),
        installed: true,
        why_not: None,
        selectable: true,
    }
}
