//! The configured engines, by the names that people use.

use std::sync::Arc;

use salon_core::Rates;
use salon_engine::Engine;

/// One name that a bot or `/mode` may choose.
#[derive(Clone)]
pub struct Configured {
    pub name: String,
    pub engine: Arc<dyn Engine>,
    /// The model behind it, if it is one.
    pub model: Option<String>,
    /// What its tokens cost.
    pub rates: Rates,
    /// Whether it can answer here and now.
    pub installed: bool,
    /// Why not, in a few words for the person who runs Salon.
    pub why_not: Option<String>,
    /// Whether people may switch to it by `/mode`.
    pub selectable: bool,
}

#[derive(Clone, Default)]
pub struct Engines {
    list: Vec<Configured>,
}

impl Engines {
    pub fn new(list: Vec<Configured>) -> Engines {
        Engines { list }
    }

    pub fn find(&self, name: &str) -> Option<&Configured> {
        self.list.iter().find(|engine| engine.name == name)
    }

    pub fn all(&self) -> &[Configured] {
        &self.list
    }
}
