//! From a model's name to the places that are asked, one after the other.

use std::fmt::Write as _;
use std::sync::Arc;

use http::HeaderMap;
use salon_core::{Micros, OrgId, Tariff, Tier, Time};
use salon_engine::Secret;
use salon_engine::outbound::{Ask, Deadlines, Line};
use salon_engine::upstream::{Settings, Turns, View, Way};
use salon_engine::wire::Wire;
use thiserror::Error;
use tokio::time::Instant;

use super::snapshot::{Deployment, Model, Priced, Snapshot};
use super::spec::Quirk;
use super::upstream::{Errand, Upstream};
use super::{Wrong, is_name};

/// Why a model cannot be called.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoRoute {
    #[error("A model's name has letters, digits, '.', '_', ':', '/', '@' and '-', at most 128 of them.")]
    NotAName,
    #[error("{}", unknown(.name, .nearest))]
    Unknown { name: String, nearest: Vec<String> },
    #[error("The model {name} is not served over this protocol.")]
    NotSpoken { name: String },
    #[error("The model {name} has no known price, and is not called without one.")]
    Unpriced { name: String },
    #[error("What the model {name} costs at the tier {tier} is not known, and it is not called without that.")]
    UnpricedTier { name: String, tier: String },
    #[error("There is no key for the model {name}. Its provider is {}.", .providers.join(" or "))]
    NoKey { name: String, providers: Vec<String> },
}

fn unknown(name: &str, nearest: &[String]) -> String {
    match nearest {
        [] => format!("There is no model {name}."),
        nearest => format!("There is no model {name}. Did you mean {}?", nearest.join(" or ")),
    }
}

/// Where a model is served, and what stands in for it, in stages.
#[derive(Clone, Debug)]
pub struct Route {
    /// What was asked for.
    pub model: Arc<Model>,
    wanted: Wire,
    /// How soon the call is to be served, if it says so.
    tier: Option<Tier>,
    keeps_long: bool,
    stages: Vec<(Arc<Model>, Vec<Place>)>,
    now: Time,
}

#[derive(Clone, Debug)]
struct Place {
    /// Its place among the model's deployments.
    at: usize,
    wire: Wire,
    priced: Priced,
    /// What the tier costs at most that is asked for, if its price is not known.
    at_most: Option<Tariff>,
}

/// What a call goes out with: the key that was found for an upstream.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub key: Option<Secret>,
    /// The key's name, for the breaker and the views: the vault's id of it, or `house`. Never the key itself.
    pub tag: String,
    /// Whose connections it uses; `None` for the house's. Somebody's own key does not travel with others.
    pub tenant: Option<String>,
    /// The connections, if the key is for another address than the upstream's own.
    pub line: Option<Arc<Line>>,
}

impl Access {
    /// With the house's own key, or with none.
    pub fn house(key: Option<Secret>) -> Access {
        Access { key, tag: "house".to_owned(), ..Access::default() }
    }
}

/// One place to ask, with everything that is needed for it.
#[derive(Debug)]
pub struct Destination {
    /// The model whose deployment it is: the one that was asked for, or one that stands in for it.
    pub model: Arc<Model>,
    pub deployment: Arc<Deployment>,
    /// The protocol that is spoken there.
    pub wire: Wire,
    pub access: Access,
    pub rates: Tariff,
    /// Whether the price is somebody's knowledge, and no upper bound.
    pub price_known: bool,
    /// How soon the call is to be served, if it says so and is told so here.
    tier: Option<Tier>,
    at_most: Option<Tariff>,
    /// What is written to a cache is to stay there for long.
    pub keeps_long: bool,
    /// `None` where answers are made in this process.
    pub line: Option<Arc<Line>>,
}

/// How a deployment has been doing with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub upstream: String,
    /// Its name there.
    pub model: String,
    pub key: String,
    pub view: View,
}

impl Snapshot {
    /// Who is asked for this model by somebody of this team who speaks `wanted`.
    pub fn route(&self, name: &str, wanted: Wire, org: Option<&OrgId>, now: Time) -> Result<Route, NoRoute> {
        if !is_name(name) {
            return Err(NoRoute::NotAName);
        }
        let Some(model) = self.find_model(name, org) else {
            return Err(NoRoute::Unknown { name: name.to_owned(), nearest: self.nearest(name, org) });
        };
        let mut stages = vec![(model.clone(), places(&model, wanted, org, now)?)];
        for other in &model.fallback {
            let Some(other) = self.find_model(other, org) else { continue };
            let known = stages.iter().any(|(model, _)| model.name == other.name);
            if let (false, Ok(places)) = (known, places(&other, wanted, org, now)) {
                stages.push((other, places));
            }
        }
        Ok(Route { model, wanted, tier: None, keeps_long: false, stages, now })
    }

    /// How everybody has been doing who was asked lately.
    pub fn health(&self) -> Vec<Standing> {
        let mut seen: Vec<Standing> = Vec::new();
        for deployment in self.models().flat_map(|model| &model.deployments) {
            for (key, health) in deployment.healths() {
                let standing = Standing {
                    upstream: deployment.upstream.name.clone(),
                    model: deployment.model.clone(),
                    key,
                    view: health.view(),
                };
                if !seen.iter().any(|other| {
                    (&other.upstream, &other.model, &other.key) == (&standing.upstream, &standing.model, &standing.key)
                }) {
                    seen.push(standing);
                }
            }
        }
        seen
    }
}

fn places(model: &Model, wanted: Wire, org: Option<&OrgId>, now: Time) -> Result<Vec<Place>, NoRoute> {
    let mut spoken = false;
    let mut places = Vec::new();
    for (at, deployment) in model.deployments.iter().enumerate() {
        if !deployment.upstream.is_open_to(org) {
            continue;
        }
        let Some(wire) = deployment.upstream.tongue(wanted) else { continue };
        spoken = true;
        if let Some(priced) = deployment.priced(now) {
            places.push(Place { at, wire, priced, at_most: None });
        }
    }
    match (places.is_empty(), spoken) {
        (false, _) => Ok(places),
        (true, true) => Err(NoRoute::Unpriced { name: model.name.clone() }),
        (true, false) => Err(NoRoute::NotSpoken { name: model.name.clone() }),
    }
}

impl Place {
    fn is_priced(&self) -> bool {
        self.priced.known && self.at_most.is_none()
    }
}

impl Route {
    /// The protocol that was asked in.
    pub fn wanted(&self) -> Wire {
        self.wanted
    }

    /// Every upstream that may be asked, each once: those whose keys have to be found.
    pub fn upstreams(&self) -> Vec<Arc<Upstream>> {
        let mut upstreams: Vec<Arc<Upstream>> = Vec::new();
        for (_, deployment) in self.deployments() {
            if !upstreams.iter().any(|known| known.name == deployment.upstream.name) {
                upstreams.push(deployment.upstream.clone());
            }
        }
        upstreams
    }

    /// Keeps of the models that stand in only those for which `fits` says so.
    pub fn retain(&mut self, fits: impl Fn(&Model) -> bool) {
        let asked = self.model.clone();
        self.stages.retain(|(model, _)| Arc::ptr_eq(model, &asked) || fits(model));
    }

    /// Takes into account how soon the call is to be served, by the name that it has for that, and whether something is to
    /// be kept for long. Leaves out who would ask for that nobody knows what.
    pub fn serve(&mut self, tier: Option<&str>, keeps_long: bool) -> Result<(), NoRoute> {
        self.keeps_long = keeps_long;
        let Some((asked, name)) = tier.and_then(|name| Some((Tier::read(name)?, name))) else { return Ok(()) };
        self.tier = Some(asked);
        let (wanted, now) = (self.wanted, self.now);
        for (model, places) in &mut self.stages {
            places.retain_mut(|place| {
                let rates = &place.priced.rates;
                if place.wire == wanted && rates.at(asked).is_none() {
                    place.at_most = model.deployments[place.at].at_most(rates, now);
                    return place.at_most.is_some();
                }
                true
            });
        }
        if self.stages.first().is_some_and(|(_, places)| places.is_empty()) {
            return Err(NoRoute::UnpricedTier { name: self.model.name.clone(), tier: name.to_owned() });
        }
        self.stages.retain(|(_, places)| !places.is_empty());
        Ok(())
    }

    /// The most that one answer can cost that reads and writes so many tokens, wherever it comes from and however soon it
    /// may be served.
    pub fn most(&self, input: i64, output: i64) -> Micros {
        let places = self.stages.iter().flat_map(|(model, places)| places.iter().map(move |place| (model, place)));
        let most = places.flat_map(|(model, place)| {
            let rates = &place.priced.rates;
            let known = |tier| rates.at(tier).or(place.at_most).unwrap_or_else(|| rates.dearest());
            let mut tariffs = vec![*rates];
            match self.tier_at(place) {
                // Who has no room for it serves it as usual.
                Some(tier) => tariffs.push(known(tier)),
                None => tariffs.extend(model.deployments[place.at].served().map(known)),
            }
            // With OpenAI nothing is kept for long that is not asked for.
            let shortly = matches!(place.wire, Wire::Chat | Wire::Responses) && !self.keeps_long_at(place);
            tariffs.into_iter().map(move |tariff| {
                let tariff = if shortly { tariff.kept_shortly() } else { tariff };
                tariff.most(input, output)
            })
        });
        most.max().unwrap_or(Micros::ZERO)
    }

    /// In other protocols nothing is said of it.
    fn tier_at(&self, place: &Place) -> Option<Tier> {
        self.tier.filter(|_| place.wire == self.wanted)
    }

    fn keeps_long_at(&self, place: &Place) -> bool {
        self.keeps_long && place.wire == self.wanted
    }

    /// Whether every price is somebody's knowledge, and no upper bound.
    pub fn is_priced(&self) -> bool {
        self.stages.iter().flat_map(|(_, places)| places).all(Place::is_priced)
    }

    /// Begins to ask. `access` finds the key for an upstream; without one its deployments are passed over.
    pub fn turns(
        &self,
        mut access: impl FnMut(&Arc<Upstream>) -> Option<Access>,
    ) -> Result<Turns<Arc<Destination>>, NoRoute> {
        let mut settings: Option<Settings> = None;
        let mut ways = Vec::new();
        for (stage, (model, places)) in self.stages.iter().enumerate() {
            let mut found = Vec::with_capacity(places.len());
            for place in places {
                let deployment = &model.deployments[place.at];
                let Some(access) = access(&deployment.upstream) else { continue };
                let health = deployment.health(&access.tag);
                let line = access.line.clone().or_else(|| deployment.upstream.line_for(access.tenant.as_deref()));
                settings.get_or_insert_with(|| deployment.upstream.settings.clone());
                let what = Arc::new(Destination {
                    model: model.clone(),
                    deployment: deployment.clone(),
                    wire: place.wire,
                    access,
                    rates: place.priced.rates,
                    price_known: place.is_priced(),
                    tier: self.tier_at(place),
                    at_most: place.at_most,
                    keeps_long: self.keeps_long_at(place),
                    line,
                });
                found.push((place.at, Way { what, stage, health, room: deployment.upstream.room.clone() }));
            }
            ways.extend(in_order(model, found));
        }
        match settings {
            Some(settings) => Ok(Turns::new(ways, settings, self.model.budget.clone())),
            None => {
                let mut providers: Vec<_> =
                    self.deployments().map(|(_, deployment)| deployment.upstream.provider.clone()).collect();
                providers.sort_unstable();
                providers.dedup();
                Err(NoRoute::NoKey { name: self.model.name.clone(), providers })
            }
        }
    }

    /// All that the catalog adds to a question, in words that change with it: where it may go, and how it is bent there.
    pub fn edition(&self) -> String {
        let mut edition = String::new();
        for (model, deployment) in self.deployments() {
            let (upstream, base) = (&deployment.upstream, deployment.upstream.base.as_ref().map(reqwest::Url::as_str));
            let place = (&upstream.name, upstream.kind.as_str(), base, &deployment.model);
            let manners = (&model.quirks, &model.abilities, model.output, model.most_output);
            let _ = writeln!(edition, "{:?}", (&model.name, place, manners));
        }
        edition
    }

    fn deployments(&self) -> impl Iterator<Item = (&Arc<Model>, &Arc<Deployment>)> {
        self.stages
            .iter()
            .flat_map(|(model, places)| places.iter().map(move |place| (model, &model.deployments[place.at])))
    }
}

/// Whoever's turn it is comes first, then the others who are well, then those who are not.
fn in_order<T>(model: &Model, mut found: Vec<(usize, Way<T>)>) -> impl Iterator<Item = Way<T>> {
    if found.len() > 1 {
        let well: Vec<usize> = found.iter().filter(|(_, way)| way.health.would_admit()).map(|(at, _)| *at).collect();
        let first = model.first_of(&well);
        let weight = |at: usize| std::cmp::Reverse(model.deployments[at].weight);
        found.sort_by_key(|(at, _)| (Some(*at) != first, !well.contains(at), weight(*at)));
    }
    found.into_iter().map(|(_, way)| way)
}

impl Destination {
    /// Whether it has this quirk, by what is written or by what its server said.
    pub fn bends(&self, quirk: Quirk) -> bool {
        self.model.quirks.contains(&quirk) || self.deployment.has_learnt(quirk)
    }

    pub fn upstream(&self) -> &Upstream {
        &self.deployment.upstream
    }

    /// What an answer costs that says it was served like this; of one that does not say so, what it was asked for. A tier
    /// that nobody asked for and nobody knows costs as much as the dearest that is known.
    pub fn charge(&self, served: Option<Tier>) -> Tariff {
        if let (None, Some(served)) = (self.tier, served) {
            self.deployment.note_served(served);
        }
        let tier = served.or(self.tier).unwrap_or(Tier::Usual);
        self.rates.at(tier).or(self.at_most).unwrap_or_else(|| self.rates.dearest())
    }

    /// The deadlines of a try that is part of a question.
    pub fn deadlines(&self, total: Instant) -> Deadlines {
        let settings = &self.deployment.upstream.settings;
        Deadlines { connect: settings.connect, head: settings.first_event, idle: settings.idle, total }
    }

    /// What is sent for an answer: `headers` are the caller's that may be passed on, `body` is in this destination's
    /// wire and names its model. `array` is how Gemini streams where it is not asked for events. `None` where nothing is
    /// sent, because answers are made in this process.
    pub fn ask(
        &self,
        stream: bool,
        array: bool,
        mut headers: HeaderMap,
        body: bytes::Bytes,
    ) -> Option<Result<Ask, Wrong>> {
        let upstream = self.upstream();
        let errand = Errand::Ask { wire: self.wire, model: &self.deployment.model, stream, array };
        let (method, uri) = upstream.address(errand)?;
        let dressed = upstream.dress(&mut headers, self.access.key.as_ref());
        Some(dressed.map(|()| Ask { method, uri, headers, body }))
    }
}
