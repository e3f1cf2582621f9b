//! The configured engines, by the names that people use, and the catalog's models beside them.

use std::sync::{Arc, OnceLock};

use salon_core::Tariff;
use salon_engine::Engine;

use crate::agents::Agent;
use crate::catalog::Catalog;

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

/// Who it is that answers.
#[derive(Clone)]
pub enum Answers {
    Engine(Arc<dyn Engine>),
    /// A model of the catalog, which is asked by way of the relay: with its keys, its retries and its bill.
    Model(Choice),
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
}

impl Engines {
    pub fn new(list: Vec<Configured>) -> Engines {
        Engines { list, catalog: OnceLock::new() }
    }

    /// Lets models of the catalog answer under their own names, too. The first call counts.
    pub fn join(&self, catalog: Arc<Catalog>) {
        self.catalog.set(catalog).ok();
    }

    /// An engine by its name; else a model of the catalog that is known by that name.
    pub fn find(&self, name: &str) -> Option<Configured> {
        let configured = self.list.iter().find(|engine| engine.name == name).cloned();
        configured.or_else(|| self.catalog.get()?.snapshot().knows(name).then(|| of_catalog(name)))
    }

    /// Whether the engine of this name is a program that works in a folder.
    pub fn is_agent(&self, name: &str) -> bool {
        self.list.iter().any(|engine| engine.name == name && matches!(engine.answers, Answers::Agent(_)))
    }

    /// Those that are configured by name, without the catalog's models.
    pub fn all(&self) -> &[Configured] {
        &self.list
    }
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
