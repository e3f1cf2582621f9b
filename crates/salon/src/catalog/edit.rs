//! The catalog as it lives: read, changed, and kept in step with the other processes.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use salon_core::limit::Zone;
use salon_core::money::Tariff;
use salon_core::{OrgId, Time};
use salon_engine::guard::Rules;
use salon_engine::outbound::Outbound;
use salon_engine::upstream::Fault;
use salon_engine::wire::Wire;
use salon_store::{CATALOG, CatalogRows, Entry, Error, PriceRow, Store};
use serde_json::json;
use thiserror::Error as ThisError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::check::{Decided, list_models, probe, undecided, with_kind};
use super::price::BadPrices;
use super::snapshot::{Keeper, Snapshot, in_house};
use super::spec::{ModelSpec, RatesSpec, UpstreamSpec};
use super::upstream::{KeyFrom, Upstream};
use super::{Environment, NoRoute, Route, Sources, Wrong, is_name};
use crate::audit::{Action, Deed, Pen, note};
use crate::clock::Clock;
use crate::hub::Hub;
use crate::people::DEFAULT_ORG;

/// How long a change of another process can go unnoticed, if the word of it is lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a server is asked what it is, while it does not answer.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How long a server's word is good for which model it has.
const BELIEVE_FIRST: Duration = Duration::from_secs(300);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Which models there are. One per process.
pub struct Catalog {
    store: Option<Store>,
    clock: Clock,
    outbound: Outbound,
    now: RwLock<Arc<Snapshot>>,
    parts: Mutex<Parts>,
    keeper: Arc<Keeper>,
    /// What [`Catalog::first_model`] found, and until when that is believed.
    firsts: Mutex<HashMap<String, (String, Instant)>>,
}

/// What the present snapshot was built from.
#[derive(Debug)]
struct Parts {
    sources: Sources,
    rows: CatalogRows,
    /// What servers were found to be that did not say so.
    decided: Decided,
    /// Prices begin and end with days.
    day: i64,
}

/// What a provider's model costs from a day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatedPrice {
    pub provider: String,
    pub model: String,
    /// The day in UTC, as `YYYY-MM-DD`.
    pub valid_from: String,
    pub tariff: Tariff,
    /// It was said here, and can be forgotten here.
    pub said: bool,
    /// It is the one that counts today.
    pub counts: bool,
}

/// Why a change was not made.
#[derive(Debug, ThisError)]
pub enum EditError {
    #[error(transparent)]
    Wrong(#[from] Wrong),
    #[error(transparent)]
    Price(#[from] BadPrices),
    /// It was not added by an edit, so it cannot be removed by one; it can be switched off.
    #[error("{0} stands in the configuration, not in the database; set it with off = true to switch it off")]
    InFile(String),
    #[error("there is no database to keep this in")]
    NoStore,
    #[error(transparent)]
    Store(#[from] Error),
}

impl EditError {
    /// By which pages find the sentence in the reader's language, and what it is about; empty if that is plain.
    pub fn code(&self) -> (&'static str, &str) {
        match self {
            EditError::Wrong(wrong) => (wrong.code, &wrong.about),
            EditError::Price(BadPrices::Wrong { code, model, .. }) => (code, model),
            EditError::Price(BadPrices::Unreadable(_)) | EditError::Store(_) => ("other", ""),
            EditError::InFile(name) => ("in_file", name),
            EditError::NoStore => ("no_store", ""),
        }
    }
}

impl Catalog {
    /// Reads the database's part and puts it together with the rest.
    pub async fn open(store: Store, clock: Clock, outbound: Outbound, sources: Sources) -> Result<Arc<Catalog>, Error> {
        let rows = store.read_catalog().await?;
        Ok(Arc::new(Catalog::build(Some(store), clock, outbound, sources, rows)))
    }

    /// A catalog without a database.
    pub fn of(clock: Clock, outbound: Outbound, sources: Sources) -> Arc<Catalog> {
        Arc::new(Catalog::build(None, clock, outbound, sources, CatalogRows::default()))
    }

    fn build(
        store: Option<Store>,
        clock: Clock,
        outbound: Outbound,
        mut sources: Sources,
        rows: CatalogRows,
    ) -> Catalog {
        add_in_house(&mut sources);
        let keeper = Arc::<Keeper>::default();
        let now = clock.now();
        let decided = Decided::new();
        let snapshot = Snapshot::build(&sources, &rows, &outbound, &keeper, &decided, now);
        tell(&snapshot);
        let parts = Mutex::new(Parts { sources, rows, decided, day: day(now) });
        Catalog {
            store,
            clock,
            outbound,
            now: RwLock::new(Arc::new(snapshot)),
            parts,
            keeper,
            firsts: Mutex::default(),
        }
    }

    /// The present state. A call takes it once and keeps it.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who is asked for this model by somebody of this team who speaks `wanted`.
    pub fn route(&self, name: &str, wanted: Wire, org: Option<&OrgId>) -> Result<Route, NoRoute> {
        self.snapshot().route(name, wanted, org, self.clock.now())
    }

    /// The way out that the upstreams use.
    pub fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// Takes over what the configuration says now.
    pub fn replace(&self, mut sources: Sources) {
        add_in_house(&mut sources);
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.sources = sources;
        self.rebuild(&mut parts);
    }

    /// Looks whether there is anything new; `true` if there was.
    pub async fn refresh(&self) -> Result<bool, Error> {
        let stale_day = self.parts.lock().unwrap_or_else(PoisonError::into_inner).day != day(self.clock.now());
        let rows = match &self.store {
            Some(store) if store.read().await?.find_catalog_revision().await? != self.snapshot().revision => {
                Some(store.read_catalog().await?)
            }
            _ => None,
        };
        if rows.is_none() && !stale_day {
            return Ok(false);
        }
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        match rows {
            // Somebody else may have read a newer state meanwhile.
            Some(rows) if rows.revision > parts.rows.revision => parts.rows = rows,
            Some(_) if !stale_day => return Ok(false),
            _ => {}
        }
        self.rebuild(&mut parts);
        Ok(true)
    }

    /// Keeps in step with the database until `closing`: at once when told, and within a second when not.
    pub async fn watch(self: Arc<Self>, hub: Arc<Hub>, closing: CancellationToken) {
        tokio::select! {
            () = closing.cancelled() => {}
            () = self.follow(&hub) => {}
            () = self.keep_deciding() => {}
        }
    }

    async fn follow(&self, hub: &Hub) {
        let told = hub.work(CATALOG);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = told.notified() => {}
                _ = look.tick() => {}
            }
            match self.refresh().await {
                Ok(true) => tracing::info!("the catalog of models changed"),
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "the catalog of models could not be read"),
            }
        }
    }

    /// What is written about an upstream: in the database, else in the configuration.
    pub fn find_upstream_spec(&self, name: &str) -> Option<UpstreamSpec> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        written(&parts.rows.upstreams, name).or_else(|| parts.sources.file.upstreams.get(name).cloned())
    }

    /// What is written about a model: in the database, else in the configuration.
    pub fn find_model_spec(&self, name: &str) -> Option<ModelSpec> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        written(&parts.rows.models, name).or_else(|| parts.sources.file.models.get(name).cloned())
    }

    /// What providers' models cost, day by day: of providers that somebody here is asked for, and whatever was said here.
    pub fn list_prices(&self) -> Vec<DatedPrice> {
        let (snapshot, now) = (self.snapshot(), self.clock.now());
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let asked: HashSet<&str> = snapshot.upstreams().map(|upstream| upstream.provider.as_str()).collect();
        let said: HashSet<_> = parts
            .rows
            .prices
            .iter()
            .map(|row| (row.provider.as_str(), row.model.as_str(), row.valid_from.as_str()))
            .collect();
        let all = snapshot.prices.all();
        let counts = |at: usize| {
            let (provider, model, from, _) = all[at];
            let next = all.get(at + 1).filter(|next| (next.0, next.1) == (provider, model));
            from <= now && next.is_none_or(|next| next.2 > now)
        };
        let mut list = Vec::new();
        for (at, (provider, model, from, tariff)) in all.iter().enumerate() {
            let valid_from = Zone::utc().day(*from);
            let said = said.contains(&(*provider, *model, valid_from.as_str()));
            if said || asked.contains(provider) {
                let (provider, model) = ((*provider).to_owned(), (*model).to_owned());
                list.push(DatedPrice { provider, model, valid_from, tariff: *tariff, said, counts: counts(at) });
            }
        }
        list
    }

    /// Asks servers what they are that do not say so, until they do.
    async fn keep_deciding(&self) {
        let mut look = tokio::time::interval(ASK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            self.decide().await;
        }
    }

    /// Asks each server once what it is of which nobody has said so.
    pub async fn decide(&self) {
        let mut open: Vec<String> = {
            let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            let written = parts.sources.file.upstreams.values().cloned();
            let added = parts.rows.upstreams.iter().filter_map(|row| serde_json::from_str(&row.body).ok());
            let open = |spec: UpstreamSpec| undecided(&spec).map(str::to_owned);
            written.chain(added).filter_map(open).filter(|base| !parts.decided.contains_key(base)).collect()
        };
        open.sort_unstable();
        open.dedup();
        for base in open {
            if let Some(kind) = probe(&self.outbound, &base).await {
                tracing::info!(kind = kind.as_str(), "a server said what it is");
                let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
                parts.decided.insert(base, kind);
                self.rebuild(&mut parts);
            }
        }
    }

    /// Which models an upstream says it has, asked with the house's key. `None` if there is no such upstream.
    pub async fn check(&self, upstream: &str) -> Option<Result<Vec<String>, Fault>> {
        let upstream = self.snapshot().find_upstream(upstream)?.clone();
        let key = match &upstream.key {
            KeyFrom::Environment { key, .. } => key.clone(),
            KeyFrom::Nowhere | KeyFrom::Vault | KeyFrom::Caller => None,
        };
        Some(list_models(&upstream, key.as_ref(), None).await)
    }

    /// What an upstream is judged by and gets its keys from.
    pub(super) fn surroundings(&self) -> (Environment, Arc<Rules>) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        (parts.sources.environment.clone(), parts.sources.rules.clone())
    }

    /// The first model that an upstream says it has, by a name that can be called. It is asked every few minutes at most.
    pub async fn first_model(&self, upstream: &str) -> Result<String, Fault> {
        let now = Instant::now();
        let known = self.firsts.lock().unwrap_or_else(PoisonError::into_inner).get(upstream).cloned();
        if let Some((name, _)) = known.filter(|(_, until)| now < *until) {
            return Ok(name);
        }
        // Which list it has depends on what it is.
        self.decide().await;
        let models = self.check(upstream).await.ok_or(Fault::NotFound)??;
        let first = models.into_iter().find(|model| is_name(model)).ok_or(Fault::NotFound)?;
        let name = format!("{upstream}:{first}");
        let mut firsts = self.firsts.lock().unwrap_or_else(PoisonError::into_inner);
        firsts.insert(upstream.to_owned(), (name.clone(), now + BELIEVE_FIRST));
        Ok(name)
    }

    /// Adds an upstream or changes one. An entry that could not be used is not taken.
    pub async fn set_upstream(&self, pen: &Pen, name: &str, spec: &UpstreamSpec) -> Result<(), EditError> {
        {
            let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            let sources = &parts.sources;
            let spec = with_kind(spec, &parts.decided);
            Upstream::build(name, &spec, &sources.environment, &sources.rules, &self.outbound)?;
        }
        // Its headers may hold a key, so a line has none of it.
        let deed = deed(Action::UpstreamSet, name).with(json!({ "off": spec.off }));
        let args = (self.entry(name, spec)?, pen.clone(), deed);
        self.store()?
            .write(args, |tx, (entry, pen, deed)| {
                Box::pin(async move {
                    tx.set_upstream(entry, pen.at()).await?;
                    note(tx, pen, deed.clone()).await
                })
            })
            .await?;
        self.refresh().await?;
        Ok(())
    }

    /// `false` if there was no such upstream.
    pub async fn remove_upstream(&self, pen: &Pen, name: &str) -> Result<bool, EditError> {
        let args = (name.to_owned(), pen.clone(), deed(Action::UpstreamRemoved, name));
        let removed = self
            .store()?
            .write(args, |tx, (name, pen, deed)| {
                Box::pin(async move {
                    let removed = tx.remove_upstream(name).await?;
                    if removed {
                        note(tx, pen, deed.clone()).await?;
                    }
                    Ok(removed)
                })
            })
            .await?;
        self.refresh().await?;
        let in_file =
            self.parts.lock().unwrap_or_else(PoisonError::into_inner).sources.file.upstreams.contains_key(name);
        if !removed && in_file { Err(EditError::InFile(name.to_owned())) } else { Ok(removed) }
    }

    /// Adds a model or changes one. An entry that could not be used is not taken.
    pub async fn set_model(&self, pen: &Pen, name: &str, spec: &ModelSpec) -> Result<(), EditError> {
        self.snapshot().check_model(name, spec)?;
        let deed = deed(Action::ModelSet, name).with(json!({ "off": spec.off, "rates": spec.rates }));
        let args = (self.entry(name, spec)?, pen.clone(), deed);
        self.store()?
            .write(args, |tx, (entry, pen, deed)| {
                Box::pin(async move {
                    tx.set_model(entry, pen.at()).await?;
                    note(tx, pen, deed.clone()).await
                })
            })
            .await?;
        self.refresh().await?;
        Ok(())
    }

    /// `false` if there was no such model.
    pub async fn remove_model(&self, pen: &Pen, name: &str) -> Result<bool, EditError> {
        let args = (name.to_owned(), pen.clone(), deed(Action::ModelRemoved, name));
        let removed = self
            .store()?
            .write(args, |tx, (name, pen, deed)| {
                Box::pin(async move {
                    let removed = tx.remove_model(name).await?;
                    if removed {
                        note(tx, pen, deed.clone()).await?;
                    }
                    Ok(removed)
                })
            })
            .await?;
        self.refresh().await?;
        let in_file = self.parts.lock().unwrap_or_else(PoisonError::into_inner).sources.file.models.contains_key(name);
        if !removed && in_file { Err(EditError::InFile(name.to_owned())) } else { Ok(removed) }
    }

    /// Sets what a provider's model costs from a day on, in UTC and as `YYYY-MM-DD`.
    pub async fn set_price(
        &self,
        pen: &Pen,
        provider: &str,
        model: &str,
        valid_from: &str,
        rates: &RatesSpec,
    ) -> Result<(), EditError> {
        super::Prices::default().set(provider, model, valid_from, rates)?;
        let row = PriceRow {
            provider: provider.to_owned(),
            model: model.to_owned(),
            valid_from: valid_from.to_owned(),
            body: self.entry("", rates)?.body,
        };
        let detail = json!({ "from": valid_from, "rates": rates });
        let deed = deed(Action::PriceSet, format_args!("{provider}/{model}")).with(detail);
        let args = (row, pen.clone(), deed);
        self.store()?
            .write(args, |tx, (row, pen, deed)| {
                Box::pin(async move {
                    tx.set_price(row, pen.at()).await?;
                    note(tx, pen, deed.clone()).await
                })
            })
            .await?;
        self.refresh().await?;
        Ok(())
    }

    /// `false` if there was no such price in the database; those that ship with the program stay.
    pub async fn remove_price(
        &self,
        pen: &Pen,
        provider: &str,
        model: &str,
        valid_from: &str,
    ) -> Result<bool, EditError> {
        let deed = deed(Action::PriceRemoved, format_args!("{provider}/{model}")).with(json!({ "from": valid_from }));
        let args = (provider.to_owned(), model.to_owned(), valid_from.to_owned(), pen.clone(), deed);
        let removed = self
            .store()?
            .write(args, |tx, (provider, model, from, pen, deed)| {
                Box::pin(async move {
                    let removed = tx.remove_price(provider, model, from).await?;
                    if removed {
                        note(tx, pen, deed.clone()).await?;
                    }
                    Ok(removed)
                })
            })
            .await?;
        self.refresh().await?;
        Ok(removed)
    }

    fn store(&self) -> Result<&Store, EditError> {
        self.store.as_ref().ok_or(EditError::NoStore)
    }

    fn entry(&self, name: &str, spec: &impl serde::Serialize) -> Result<Entry, EditError> {
        let body = serde_json::to_string(spec).map_err(|error| Wrong::new("other", error.to_string()))?;
        Ok(Entry { name: name.to_owned(), body })
    }

    fn rebuild(&self, parts: &mut Parts) {
        let now = self.clock.now();
        parts.day = day(now);
        let snapshot = Snapshot::build(&parts.sources, &parts.rows, &self.outbound, &self.keeper, &parts.decided, now);
        tell(&snapshot);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        self.keeper.sweep();
    }
}

/// What is done to the catalog belongs to the whole house.
fn deed(action: Action, object: impl fmt::Display) -> Deed {
    Deed::new(action, &OrgId::new(DEFAULT_ORG), object)
}

fn written<S: serde::de::DeserializeOwned>(rows: &[Entry], name: &str) -> Option<S> {
    rows.iter().find(|row| row.name == name).and_then(|row| serde_json::from_str(&row.body).ok())
}

fn day(now: Time) -> i64 {
    now.0.div_euclid(DAY_MS)
}

fn add_in_house(sources: &mut Sources) {
    for (name, spec) in in_house() {
        sources.file.upstreams.entry(name.to_owned()).or_insert(spec);
    }
}

fn tell(snapshot: &Snapshot) {
    for problem in &snapshot.problems {
        tracing::warn!(problem, "an entry of the catalog of models is not used");
    }
}
