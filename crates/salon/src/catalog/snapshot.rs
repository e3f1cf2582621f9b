//! One state of the catalog, built whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use salon_core::{OrgId, Tariff, Tier, Time};
use salon_engine::outbound::Outbound;
use salon_engine::upstream::{Budget, Health, Settings};
use salon_store::CatalogRows;

use super::check::{Decided, with_kind};
use super::price::Prices;
use super::spec::{Ability, CacheFor, DeploymentSpec, Kind, ModelSpec, Quirk, RatesSpec, UnknownPrice, UpstreamSpec};
use super::upstream::{KeyFrom, Upstream};
use super::{Sources, Wrong, is_name};

/// Names that are passed on although nobody listed them are remembered, up to this many.
const PASSED_ON: usize = 1_024;
/// Nothing is given again after this long.
const LONGEST_CACHE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Texts that are asked for in one call, if nothing is said, and the most that OpenAI takes.
const USUAL_BATCH: usize = 128;
const MOST_BATCH: usize = 2_048;
/// Keys of one deployment whose health is remembered.
const KEYS: usize = 4_096;

/// Which models there are and who serves them, at one moment.
pub struct Snapshot {
    /// The database's part of it.
    pub revision: i64,
    pub prices: Arc<Prices>,
    /// Entries that cannot be used, and why.
    pub problems: Vec<String>,
    upstreams: BTreeMap<String, Arc<Upstream>>,
    /// By their own names, in the order of these.
    models: BTreeMap<String, Arc<Model>>,
    aliases: HashMap<String, String>,
    passed_on: Mutex<HashMap<String, Arc<Model>>>,
    terms: Terms,
    keeper: Arc<Keeper>,
}

/// What is asked for, by its public name.
#[derive(Debug)]
pub struct Model {
    pub name: String,
    pub deployments: Vec<Arc<Deployment>>,
    /// Names of models that are asked when none of the deployments answers.
    pub fallback: Vec<String>,
    /// Tokens that fit in, question and answer together.
    pub context: Option<i64>,
    /// The longest answer in tokens, if the caller says nothing.
    pub output: Option<i64>,
    /// The longest answer in tokens that a caller may ask for.
    pub most_output: Option<i64>,
    pub abilities: BTreeSet<Ability>,
    pub quirks: BTreeSet<Quirk>,
    /// How the same answer is given to the same question, if it is.
    pub cache: Option<Caching>,
    /// How many texts of several small requests for embeddings are asked for in one call; below two, each by itself.
    pub batch: usize,
    /// The teams that may use it; without any, all may.
    pub orgs: Vec<OrgId>,
    /// Whether it is left out of lists.
    pub hidden: bool,
    pub(super) budget: Arc<Budget>,
    /// Whose turn it is, by smooth weighted round robin.
    wheel: Mutex<Vec<i64>>,
}

/// How long, and to whom, an answer is given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caching {
    pub ttl: Duration,
    pub share: CacheFor,
    /// Also what somebody's own key paid for.
    pub own_keys: bool,
}

/// One place where a model is served.
#[derive(Debug)]
pub struct Deployment {
    pub upstream: Arc<Upstream>,
    /// Its name there.
    pub model: String,
    pub weight: u32,
    /// In the place of the list's price.
    rates: Option<Tariff>,
    unknown_price: UnknownPrice,
    upper_bound: Option<Tariff>,
    prices: Arc<Prices>,
    keys: Arc<Keys>,
}

fn bit(quirk: Quirk) -> u8 {
    1 << quirk as u8
}

/// Tiers that cost more than the usual one.
const HURRIED: [Tier; 3] = [Tier::Fast, Tier::Ultrafast, Tier::Other];

/// What a token costs at a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priced {
    pub rates: Tariff,
    /// Whether somebody knows it; otherwise it is an upper bound, or nothing for a server of one's own.
    pub known: bool,
}

/// A line of a list of models.
#[derive(Clone, Debug)]
pub struct Listed {
    pub model: Arc<Model>,
    /// Whose it is.
    pub provider: String,
    /// What it costs at the first of its deployments.
    pub priced: Option<Priced>,
}

#[derive(Clone, Copy, Debug)]
struct Terms {
    unknown_price: UnknownPrice,
    upper_bound: Option<Tariff>,
}

/// What outlives a snapshot: how everybody has been doing.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    keys: Mutex<HashMap<String, Arc<Keys>>>,
    budgets: Mutex<HashMap<String, Arc<Budget>>>,
}

/// The health of one deployment, by the key that is used there: another key may have credit left.
#[derive(Debug)]
pub(super) struct Keys {
    settings: Settings,
    /// Quirks that nobody wrote down and that its server told of: a bit for each.
    learnt: AtomicU8,
    /// Of [`HURRIED`] those at which calls were served that had asked for none: a bit for each.
    served: AtomicU8,
    known: Mutex<HashMap<String, Arc<Health>>>,
}

impl Keys {
    pub(super) fn health(&self, tag: &str) -> Arc<Health> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(health) = known.get(tag) {
            return health.clone();
        }
        if known.len() >= KEYS {
            // Those of whom nothing has to be remembered.
            known.retain(|_, health| health.view().in_flight > 0 || !health.would_admit());
        }
        known.entry(tag.to_owned()).or_insert_with(|| Arc::new(Health::new(&self.settings))).clone()
    }

    pub(super) fn all(&self) -> Vec<(String, Arc<Health>)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known.iter().map(|(tag, health)| (tag.clone(), health.clone())).collect();
        all.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        all
    }
}

impl Keeper {
    fn keys(&self, deployment: &str, settings: &Settings) -> Arc<Keys> {
        let mut all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(deployment).filter(|keys| keys.settings == *settings).cloned();
        known.unwrap_or_else(|| {
            let keys = Arc::new(Keys {
                settings: settings.clone(),
                learnt: AtomicU8::new(0),
                served: AtomicU8::new(0),
                known: Mutex::default(),
            });
            all.insert(deployment.to_owned(), keys.clone());
            keys
        })
    }

    fn budget(&self, model: &str, free: u32) -> Arc<Budget> {
        let mut all = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(model.to_owned()).or_insert_with(|| Arc::new(Budget::new(free))).clone()
    }

    /// Forgets those that nothing refers to any more.
    pub(super) fn sweep(&self) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, keys| Arc::strong_count(keys) > 1);
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, budget| Arc::strong_count(budget) > 1);
    }
}

impl Snapshot {
    /// Puts together what the file, the environment and the database say; the database wins.
    pub(super) fn build(
        sources: &Sources,
        rows: &CatalogRows,
        outbound: &Outbound,
        keeper: &Arc<Keeper>,
        decided: &Decided,
        now: Time,
    ) -> Snapshot {
        let mut problems = Vec::new();
        let mut prices = sources.prices.clone();
        for row in &rows.prices {
            let rates = serde_json::from_str::<RatesSpec>(&row.body).map_err(|error| error.to_string());
            let set = rates.and_then(|rates| {
                prices.set(&row.provider, &row.model, &row.valid_from, &rates).map_err(|error| error.to_string())
            });
            if let Err(why) = set {
                problems.push(format!("price of {}/{}: {why}", row.provider, row.model));
            }
        }
        let prices = Arc::new(prices);
        let mut upstreams = BTreeMap::new();
        let written = merged(&sources.file.upstreams, &rows.upstreams, "upstream", &mut problems);
        for (name, spec) in written.iter().filter(|(_, spec)| !spec.off) {
            let spec = with_kind(spec, decided);
            match Upstream::build(name, &spec, &sources.environment, &sources.rules, outbound) {
                Ok(upstream) => {
                    if let KeyFrom::Environment { name: variable, key: None } = &upstream.key {
                        problems.push(format!("upstream {name}: it wants its key in {variable}, which is not set"));
                    }
                    upstreams.insert(name.clone(), Arc::new(upstream));
                }
                Err(why) => problems.push(format!("upstream {name}: {why}")),
            }
        }
        let mut snapshot = Snapshot {
            revision: rows.revision,
            prices,
            problems,
            upstreams,
            models: BTreeMap::new(),
            aliases: HashMap::new(),
            passed_on: Mutex::default(),
            terms: Terms { unknown_price: sources.unknown_price, upper_bound: sources.upper_bound },
            keeper: keeper.clone(),
        };
        let mut problems = std::mem::take(&mut snapshot.problems);
        let written = merged(&sources.file.models, &rows.models, "model", &mut problems);
        for (name, spec) in &written {
            if spec.off {
                continue;
            }
            match snapshot.model(name, spec, &mut problems) {
                Ok(model) => drop(snapshot.models.insert(name.clone(), Arc::new(model))),
                Err(why) => problems.push(format!("model {name}: {why}")),
            }
        }
        let off: BTreeSet<&String> = written.iter().filter(|(_, spec)| spec.off).map(|(name, _)| name).collect();
        snapshot.add_unwritten(&off, now);
        for (name, spec) in written.iter().filter(|(_, spec)| !spec.off) {
            for alias in &spec.aliases {
                if !is_name(alias) || snapshot.models.contains_key(alias) || snapshot.aliases.contains_key(alias) {
                    problems.push(format!("model {name}: the alias {alias} is taken, or no name"));
                } else if snapshot.models.contains_key(name) {
                    snapshot.aliases.insert(alias.clone(), name.clone());
                }
            }
            for other in &spec.fallback {
                if !is_name(other) {
                    problems.push(format!("model {name}: the fallback {other} is no name"));
                }
            }
        }
        snapshot.problems = problems;
        snapshot
    }

    pub fn find_upstream(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams.get(name)
    }

    /// In the order of their names.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.values()
    }

    /// Every model that is known by name, in the order of these, whoever may use it.
    pub fn models(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.values()
    }

    /// What a team may call, in the order of the names. `has_key` says whether there is a key for an upstream: what
    /// nobody could call is not offered.
    pub fn list(&self, org: Option<&OrgId>, now: Time, mut has_key: impl FnMut(&Upstream) -> bool) -> Vec<Listed> {
        let shown = self.models.values().filter(|model| !model.hidden && model.is_open_to(org));
        shown.filter_map(|model| listed(model, org, now, &mut has_key)).collect()
    }

    /// The model that a team may call by this name, whether or not it is on the list. With who serves it, as there.
    pub fn find_listed(
        &self,
        name: &str,
        org: Option<&OrgId>,
        now: Time,
        mut has_key: impl FnMut(&Upstream) -> bool,
    ) -> Option<Listed> {
        let model = is_name(name).then(|| self.find_model(name, org))??;
        listed(&model, org, now, &mut has_key)
    }

    /// The model of this name, if the team may use it. A name may begin with an upstream or a provider, as in
    /// `openai:gpt-4o` and `openai/gpt-4o`.
    pub fn find_model(&self, name: &str, org: Option<&OrgId>) -> Option<Arc<Model>> {
        let known = self.find_known(name, org);
        if known.is_some() || self.hides(name) {
            return known;
        }
        let catch_all = |upstream: &&Arc<Upstream>| upstream.catch_all && upstream.is_open_to(org);
        let places: Vec<_> = self.upstreams.values().filter(catch_all).cloned().collect();
        (!places.is_empty()).then(|| self.passed_on(name, name, &places))
    }

    /// Whether everybody may use a model by this name that somebody has written down, or whose upstream is named in it.
    pub fn knows(&self, name: &str) -> bool {
        is_name(name) && self.find_known(name, None).is_some()
    }

    /// Whether there is a model of this name, for whomever.
    fn hides(&self, name: &str) -> bool {
        self.models.contains_key(self.aliases.get(name).map_or(name, String::as_str))
    }

    fn find_known(&self, name: &str, org: Option<&OrgId>) -> Option<Arc<Model>> {
        let own = self.models.get(self.aliases.get(name).map_or(name, String::as_str));
        if let Some(model) = own {
            return model.is_open_to(org).then(|| model.clone());
        }
        let split = name.find([':', '/']).map(|at| (&name[..at], &name[at + 1..]));
        if let Some((prefix, rest)) = split.filter(|(_, rest)| is_name(rest)) {
            let places = self.places(prefix, rest, org);
            if !places.is_empty() {
                return Some(self.passed_on(name, rest, &places));
            }
        }
        None
    }

    /// The names that a team may use, for whoever mistyped one.
    pub fn nearest(&self, name: &str, org: Option<&OrgId>) -> Vec<String> {
        let open = |(_, model): &(&String, &Arc<Model>)| !model.hidden && model.is_open_to(org);
        super::nearest::nearest(name, self.models.iter().filter(open).map(|(name, _)| name.as_str()))
    }

    /// Who serves a model under a name that begins with `prefix`: an upstream, else everybody of a provider.
    fn places(&self, prefix: &str, model: &str, org: Option<&OrgId>) -> Vec<Arc<Upstream>> {
        let serves = |upstream: &Arc<Upstream>| {
            upstream.is_open_to(org)
                && (upstream.any_model || self.models.get(model).is_some_and(|model| model.is_served_by(upstream)))
        };
        if let Some(upstream) = self.upstreams.get(prefix) {
            return if serves(upstream) { vec![upstream.clone()] } else { Vec::new() };
        }
        let of_provider = |upstream: &&Arc<Upstream>| is_of_provider(upstream, prefix) && serves(upstream);
        self.upstreams.values().filter(of_provider).cloned().collect()
    }

    /// A model that nobody listed under this name. What is known of it from elsewhere counts here, too.
    fn passed_on(&self, name: &str, model: &str, places: &[Arc<Upstream>]) -> Arc<Model> {
        // Two teams may mean two things by one name.
        let key = places.iter().fold(name.to_owned(), |key, place| key + "\n" + &place.name);
        let mut passed_on = self.passed_on.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = passed_on.get(&key) {
            return model.clone();
        }
        let known = self.models.get(model);
        let served = |place: &Arc<Upstream>| {
            let listed = known.and_then(|known| known.deployments.iter().find(|one| one.upstream.name == place.name));
            listed.cloned().unwrap_or_else(|| Arc::new(self.deployment(place, model, 1, None, None, false)))
        };
        let deployments: Vec<_> = places.iter().map(served).collect();
        let mut made = Model::new(name, deployments, self.keeper.budget(&key, Settings::default().free_retries));
        if let Some(known) = known {
            made.context = known.context;
            made.output = known.output;
            made.most_output = known.most_output;
            made.abilities.clone_from(&known.abilities);
            made.quirks.clone_from(&known.quirks);
            made.cache = known.cache;
            made.batch = known.batch;
        }
        let made = Arc::new(made);
        if passed_on.len() >= PASSED_ON {
            passed_on.clear();
        }
        passed_on.insert(key, made.clone());
        made
    }

    fn model(&self, name: &str, spec: &ModelSpec, problems: &mut Vec<String>) -> Result<Model, Wrong> {
        if !is_name(name) {
            return Err(Wrong::new("name", "a name has letters, digits, '.', '_', ':', '/', '@' and '-'"));
        }
        let rates = match &spec.rates {
            Some(rates) => {
                Some(rates.tariff().ok_or_else(|| Wrong::new("price", "a price is in dollars, like \"2.50\""))?)
            }
            None => None,
        };
        for count in [spec.context, spec.output, spec.most_output].into_iter().flatten() {
            if count <= 0 {
                return Err(Wrong::new("tokens", "a number of tokens is above zero"));
            }
        }
        let mut written = spec.deployments.clone();
        if let Some(upstream) = &spec.upstream {
            written.push(DeploymentSpec { upstream: upstream.clone(), model: spec.model.clone(), weight: None });
        }
        let mut deployments = Vec::new();
        for place in &written {
            let model = place.model.as_deref().or(spec.model.as_deref()).unwrap_or(name);
            if !is_name(model) {
                return Err(Wrong::new("name_there", "its name at the upstream is no name"));
            }
            let Some(upstream) = self.upstreams.get(&place.upstream) else {
                problems.push(format!("model {name}: there is no upstream {}", place.upstream));
                continue;
            };
            let weight = place.weight.unwrap_or(1).min(10_000);
            let deployment = self.deployment(upstream, model, weight, rates, spec.unknown_price, true);
            deployments.push(Arc::new(deployment));
        }
        if deployments.is_empty() {
            return Err(Wrong::new("unserved", "no upstream serves it"));
        }
        let mut model = Model::new(name, deployments, self.keeper.budget(name, Settings::default().free_retries));
        model.fallback.clone_from(&spec.fallback);
        model.context = spec.context;
        model.output = spec.output;
        model.most_output = spec.most_output;
        model.abilities = spec.abilities.iter().copied().collect();
        model.quirks = spec.quirks.iter().copied().collect();
        model.cache = caching(spec);
        model.batch = spec.batch.map_or(USUAL_BATCH, |batch| batch as usize).min(MOST_BATCH);
        model.orgs = spec.orgs.iter().map(|org| OrgId::new(org.as_str())).collect();
        model.hidden = spec.hidden;
        Ok(model)
    }

    /// Whether an entry could be used, without using it.
    pub(super) fn check_model(&self, name: &str, spec: &ModelSpec) -> Result<(), Wrong> {
        let mut problems = Vec::new();
        // Of an upstream that is missing it is said which one, and not only that there is none.
        if let Err(wrong) = self.model(name, spec, &mut problems)
            && problems.is_empty()
        {
            return Err(wrong);
        }
        let asked = spec.deployments.iter().map(|place| &place.upstream).chain(&spec.upstream);
        if let Some(missing) = asked.into_iter().find(|upstream| !self.upstreams.contains_key(*upstream)) {
            return Err(Wrong::about("no_upstream", missing, format!("there is no upstream {missing}")));
        }
        let taken = |alias: &&String| {
            let other = self.aliases.get(*alias).is_some_and(|known| known != name);
            !is_name(alias) || other || self.models.contains_key(*alias)
        };
        if let Some(alias) = spec.aliases.iter().find(taken) {
            return Err(Wrong::about("alias", alias, format!("the alias {alias} is taken, or no name")));
        }
        match spec.fallback.iter().find(|other| !is_name(other)) {
            Some(other) => Err(Wrong::about("name_of", other, format!("{other} is no name"))),
            None => Ok(()),
        }
    }

    /// Adds what nobody wrote down but everybody expects: the models whose price is known, at the upstreams of their
    /// provider, and those that answer in this process.
    fn add_unwritten(&mut self, off: &BTreeSet<&String>, now: Time) {
        let mut found: BTreeMap<String, Vec<Arc<Upstream>>> = BTreeMap::new();
        for upstream in self.upstreams.values().filter(|upstream| upstream.org.is_none() && upstream.any_model) {
            if upstream.kind.is_in_house() || upstream.kind == Kind::Midm {
                found.entry(upstream.kind.as_str().to_owned()).or_default().push(upstream.clone());
            }
            for (model, _) in self.prices.list(&upstream.provider, now) {
                found.entry(model.to_owned()).or_default().push(upstream.clone());
            }
        }
        for (name, places) in found {
            if self.models.contains_key(&name) || off.contains(&name) || self.begins_with_somebody(&name) {
                continue;
            }
            let place = |place: &Arc<Upstream>| Arc::new(self.deployment(place, &name, 1, None, None, true));
            let deployments = places.iter().map(place).collect();
            let budget = self.keeper.budget(&name, Settings::default().free_retries);
            self.models.insert(name.clone(), Arc::new(Model::new(&name, deployments, budget)));
        }
    }

    /// Whether a name says whose model it is. Some providers call their models like this, too (`openai/gpt-oss-20b` is
    /// Groq's): who has named an upstream `openai` means that one, and must not be served by another.
    fn begins_with_somebody(&self, name: &str) -> bool {
        let Some(at) = name.find([':', '/']) else { return false };
        let prefix = &name[..at];
        self.upstreams.contains_key(prefix) || self.upstreams.values().any(|upstream| is_of_provider(upstream, prefix))
    }

    fn deployment(
        &self,
        upstream: &Arc<Upstream>,
        model: &str,
        weight: u32,
        rates: Option<Tariff>,
        unknown_price: Option<UnknownPrice>,
        listed: bool,
    ) -> Deployment {
        // Of names that callers make up only the upstream's health as a whole is kept.
        let id = if listed { format!("{}/{model}", upstream.name) } else { format!("{}/*", upstream.name) };
        Deployment {
            upstream: upstream.clone(),
            model: model.to_owned(),
            weight,
            rates,
            unknown_price: unknown_price.or(upstream.unknown_price).unwrap_or(self.terms.unknown_price),
            upper_bound: self.terms.upper_bound,
            prices: self.prices.clone(),
            keys: self.keeper.keys(&id, &upstream.settings),
        }
    }
}

/// Whether a prefix means this upstream's provider, by its own name or by that of its kind.
fn is_of_provider(upstream: &Upstream, prefix: &str) -> bool {
    upstream.provider == prefix || upstream.kind.provider().is_some() && upstream.kind.as_str() == prefix
}

fn caching(spec: &ModelSpec) -> Option<Caching> {
    let ttl = spec.cache_s.filter(|seconds| *seconds > 0).map(Duration::from_secs)?.min(LONGEST_CACHE);
    Some(Caching { ttl, share: spec.cache_for.unwrap_or_default(), own_keys: spec.cache_own_keys })
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("revision", &self.revision)
            .field("upstreams", &self.upstreams.keys())
            .field("models", &self.models.keys())
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}

impl Model {
    /// What several are called by as one, in lists. It is served nowhere itself.
    pub(crate) fn of_several(name: &str) -> Model {
        Model::new(name, Vec::new(), Arc::new(Budget::new(0)))
    }

    fn new(name: &str, deployments: Vec<Arc<Deployment>>, budget: Arc<Budget>) -> Model {
        let wheel = Mutex::new(vec![0; deployments.len()]);
        Model {
            name: name.to_owned(),
            deployments,
            fallback: Vec::new(),
            context: None,
            output: None,
            most_output: None,
            abilities: BTreeSet::new(),
            quirks: BTreeSet::new(),
            cache: None,
            batch: USUAL_BATCH,
            orgs: Vec::new(),
            hidden: false,
            budget,
            wheel,
        }
    }

    /// Whether this team may use it, at one of its upstreams at least.
    pub fn is_open_to(&self, org: Option<&OrgId>) -> bool {
        (self.orgs.is_empty() || org.is_some_and(|org| self.orgs.contains(org)))
            && self.deployments.iter().any(|deployment| deployment.upstream.is_open_to(org))
    }

    fn is_served_by(&self, upstream: &Upstream) -> bool {
        self.deployments.iter().any(|deployment| deployment.upstream.name == upstream.name)
    }

    /// Turns the wheel: who of `open` (places in `deployments`) comes first this time. Over time each gets its weight's
    /// share, and evenly so; a weight of zero is asked only if there is nobody else.
    pub(super) fn first_of(&self, open: &[usize]) -> Option<usize> {
        if open.len() <= 1 {
            return open.first().copied();
        }
        let mut wheel = self.wheel.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        for at in open {
            let weight = i64::from(self.deployments[*at].weight);
            wheel[*at] += weight;
            total += weight;
        }
        let weighty = |at: &&usize| self.deployments[**at].weight > 0;
        let first = open.iter().filter(weighty).reduce(|best, at| if wheel[*at] > wheel[*best] { at } else { best });
        let first = *first.or(open.first())?;
        wheel[first] -= total;
        Some(first)
    }
}

impl Deployment {
    /// Whether its server has said that it has this quirk.
    pub fn has_learnt(&self, quirk: Quirk) -> bool {
        self.keys.learnt.load(Ordering::Relaxed) & bit(quirk) != 0
    }

    /// Takes note of a quirk that its server told of; `false` if that is no news.
    pub fn learn(&self, quirk: Quirk) -> bool {
        self.keys.learnt.fetch_or(bit(quirk), Ordering::Relaxed) & bit(quirk) == 0
    }

    /// The tiers at which calls were served here that had asked for none: a project may have another usual one.
    pub(super) fn served(&self) -> impl Iterator<Item = Tier> + use<> {
        let served = self.keys.served.load(Ordering::Relaxed);
        HURRIED.into_iter().enumerate().filter(move |(at, _)| served & (1 << at) != 0).map(|(_, tier)| tier)
    }

    /// Takes note of the tier at which a call was served that had asked for none.
    pub fn note_served(&self, tier: Tier) {
        if let Some(at) = HURRIED.iter().position(|hurried| *hurried == tier) {
            self.keys.served.fetch_or(1 << at, Ordering::Relaxed);
        }
    }

    /// What a token costs here now; `None` if nobody knows and the policy is to refuse.
    pub fn priced(&self, now: Time) -> Option<Priced> {
        let known = |rates| Priced { rates, known: true };
        if let Some(rates) = self.rates.or_else(|| self.prices.find(&self.upstream.provider, &self.model, now)) {
            return Some(known(rates));
        }
        Some(Priced { rates: self.unknown(now)?, known: false })
    }

    /// What a token costs here at most that is served at a tier of which these prices know nothing; `None` if the policy
    /// is to refuse. It is no less than what they know.
    pub(super) fn at_most(&self, rates: &Tariff, now: Time) -> Option<Tariff> {
        Some(self.unknown(now)?.dearest().dearer(&rates.dearest()))
    }

    fn unknown(&self, now: Time) -> Option<Tariff> {
        match self.unknown_price {
            UnknownPrice::Deny => None,
            UnknownPrice::Free => Some(Tariff::default()),
            UnknownPrice::UpperBound => self.upper_bound.or_else(|| self.prices.dearest(&self.upstream.provider, now)),
        }
    }

    /// How it has been doing with one of its keys.
    pub(super) fn health(&self, tag: &str) -> Arc<Health> {
        self.keys.health(tag)
    }

    pub(super) fn healths(&self) -> Vec<(String, Arc<Health>)> {
        self.keys.all()
    }
}

trait Body: serde::de::DeserializeOwned + Clone {}
impl Body for UpstreamSpec {}
impl Body for ModelSpec {}

/// The file's entries and the database's; of the same name, the database's.
fn merged<S: Body>(
    file: &BTreeMap<String, S>,
    rows: &[salon_store::Entry],
    what: &str,
    problems: &mut Vec<String>,
) -> BTreeMap<String, S> {
    let mut all = file.clone();
    for row in rows {
        match serde_json::from_str(&row.body) {
            Ok(spec) => drop(all.insert(row.name.clone(), spec)),
            Err(error) => problems.push(format!("{what} {}: {error}", row.name)),
        }
    }
    all
}

/// Kinds that need nothing, so that there is always somebody to ask.
pub(super) fn in_house() -> [(&'static str, UpstreamSpec); 2] {
    [Kind::Echo, Kind::Storyteller]
        .map(|kind| (kind.as_str(), UpstreamSpec { kind: Some(kind), ..UpstreamSpec::default() }))
}

/// A model with who serves it first of those whom a team can ask.
fn listed(
    model: &Arc<Model>,
    org: Option<&OrgId>,
    now: Time,
    has_key: &mut impl FnMut(&Upstream) -> bool,
) -> Option<Listed> {
    let usable = |deployment: &&Arc<Deployment>| deployment.upstream.is_open_to(org) && has_key(&deployment.upstream);
    let first = model.deployments.iter().find(usable)?;
    Some(Listed { model: model.clone(), provider: first.upstream.provider.clone(), priced: first.priced(now) })
}
