//! One transaction of the ledger: decides a group of steps one after the other, and writes what came of them.
//!
//! Everything that decides is read here, under locks. The same steps may be run again after a commit whose outcome was
//! not known: each finds what it wrote, and changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use salon_core::{Amounts, CallId, Limit, Limits, Time, Zone};
use salon_store::ledger::{
    Account, AccountKey, AttemptEnd, AttemptRow, AttemptState, Call, CallState, Crossing, Entry, Holder, Payer, Reach,
};
use salon_store::{Result, Tx};
use serde::{Deserialize, Serialize};

mod ends;
mod reserve;
pub(super) mod whole;

use super::{Attempt, Failed, Granted, NotReserved, Quote, Share, Spent, Standing, Unknown};

/// Held calls of one person that are looked through for the same question.
const HELD: i64 = 50;

/// How a reservation goes by the limits that this process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Passage {
    /// One applies: somebody stands still until it is decided.
    Waits,
    /// None does: the caller goes on, and asks again before anything is passed on.
    Passed,
    /// None does, and that it was let through is put down: nothing can refuse it any more.
    Noted,
}

/// What is told of a call, and what a line of the journal holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    Reserve {
        quote: Box<Quote>,
        at: Time,
        passage: Passage,
        nonce: i64,
    },
    Attempt {
        call: CallId,
        failed: Option<Failed>,
        next: Box<Attempt>,
        at: Time,
    },
    /// With a nonce it is that reservation's, and nothing happens if it was not granted.
    Settle {
        call: CallId,
        spent: Box<Spent>,
        at: Time,
        nonce: Option<i64>,
    },
    Release {
        call: CallId,
        why: String,
    },
    Reap {
        call: CallId,
    },
}

impl Step {
    pub(super) fn call(&self) -> &CallId {
        match self {
            Step::Reserve { quote, .. } => &quote.call,
            Step::Attempt { call, .. }
            | Step::Settle { call, .. }
            | Step::Release { call, .. }
            | Step::Reap { call } => call,
        }
    }

    /// All of what it reserves a share of.
    fn of(&self) -> Option<&CallId> {
        match self {
            Step::Reserve { quote, .. } => quote.share.as_deref().map(Share::of),
            _ => None,
        }
    }
}

pub(super) struct Post {
    pub steps: Vec<Step>,
    /// What this process remembers; if it is old, the transaction reads them anew.
    pub limits: Arc<Limits>,
    pub unknown: Unknown,
    pub held: Duration,
    pub now: Time,
}

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Reserve(std::result::Result<Granted, NotReserved>),
    Other,
}

pub(super) enum Posted {
    /// Everything is written. With the limits, if they had changed.
    Done { outcomes: Vec<Outcome>, limits: Option<Arc<Limits>> },
    /// Nothing is written: these accounts have to be opened first, with these caps.
    Missing(Vec<(AccountKey, Option<i64>)>),
}

pub(super) async fn post(tx: &mut Tx, post: &Post) -> Result<Posted> {
    let revision = tx.hold_limits().await?;
    let newer = match revision == post.limits.revision {
        true => None,
        false => Some(Arc::new(tx.load_limits().await?)),
    };
    let limits = newer.clone().unwrap_or_else(|| post.limits.clone());

    let mut group = Group::read(tx, post, limits).await?;
    let missing = group.missing();
    if !missing.is_empty() {
        return Ok(Posted::Missing(missing));
    }
    let mut outcomes = Vec::with_capacity(post.steps.len());
    for step in &post.steps {
        outcomes.push(group.take(tx, step).await?);
    }
    group.write(tx).await?;
    Ok(Posted::Done { outcomes, limits: newer })
}

/// What a transaction knows, and what it is going to write.
struct Group<'a> {
    post: &'a Post,
    limits: Arc<Limits>,
    accounts: Vec<Account>,
    /// Which of them were changed.
    changed: Vec<bool>,
    by_holder: HashMap<Holder, Vec<usize>>,
    calls: HashMap<CallId, Known>,
    /// Of the calls that may be given up: those that may have reached an upstream.
    attempted: BTreeSet<CallId>,
    /// What was booked for calls whose ends were unknown.
    adjusted: HashMap<CallId, Amounts>,
    zones: HashMap<String, Zone>,
    attempts: BTreeMap<(CallId, i64), AttemptRow>,
    attempt_ends: Vec<AttemptEnd>,
    /// Calls whose attempts all end with them.
    closed: BTreeMap<CallId, AttemptState>,
    entries: Vec<Entry>,
    crossings: Vec<Crossing>,
}

struct Known {
    call: Call,
    /// To be written as a whole.
    fresh: bool,
    /// Has ended in this transaction.
    ended: bool,
}

impl<'a> Group<'a> {
    async fn read(tx: &mut Tx, post: &'a Post, limits: Arc<Limits>) -> Result<Group<'a>> {
        let steps = post.steps.iter().filter(|step| !is_attempt(step));
        let ids: BTreeSet<&CallId> = steps.flat_map(|step| std::iter::once(step.call()).chain(step.of())).collect();
        let ids: Vec<&CallId> = ids.into_iter().collect();
        let calls = tx.lock_calls(&ids).await?;
        let given_up: BTreeSet<&CallId> = post.steps.iter().filter_map(reaped).collect();
        let attempted = tx.calls_attempted(&given_up.into_iter().collect::<Vec<_>>()).await?;
        let unknown: Vec<&CallId> =
            calls.iter().filter(|call| call.state == CallState::Unknown).map(|call| &call.id).collect();
        let adjusted = tx.list_adjusted(&unknown).await?;

        let mut group = Group {
            post,
            limits,
            accounts: Vec::new(),
            changed: Vec::new(),
            by_holder: HashMap::new(),
            calls: calls
                .into_iter()
                .map(|call| (call.id.clone(), Known { call, fresh: false, ended: false }))
                .collect(),
            attempted: attempted.into_iter().collect(),
            adjusted: adjusted.into_iter().collect(),
            zones: HashMap::new(),
            attempts: BTreeMap::new(),
            attempt_ends: Vec::new(),
            closed: BTreeMap::new(),
            entries: Vec::new(),
            crossings: Vec::new(),
        };
        group.accounts = tx.lock_accounts(&group.reaches()).await?;
        group.changed = vec![false; group.accounts.len()];
        for (at, account) in group.accounts.iter().enumerate() {
            group.by_holder.entry(account.key.holder.clone()).or_default().push(at);
        }
        Ok(group)
    }

    /// Which accounts the steps may touch.
    fn reaches(&self) -> Vec<Reach> {
        let mut spans: BTreeMap<Holder, (Time, Time)> = BTreeMap::new();
        let mut add = |payer: &Payer, at: Time| {
            if !self.limits.know(&payer.org) {
                return;
            }
            for (scope, subject) in payer.subjects() {
                let span = spans.entry(Holder::new(scope, &payer.org, subject)).or_insert((at, at));
                *span = (span.0.min(at), span.1.max(at));
            }
        };
        for step in &self.post.steps {
            if let Step::Reserve { quote, at, .. } = step {
                add(&quote.payer, *at);
            }
        }
        self.calls.values().for_each(|known| add(&known.call.payer, known.call.at));
        spans.into_iter().map(|(holder, (from, to))| Reach { holder, from, to }).collect()
    }

    /// The accounts that limits ask for and that are not there yet.
    fn missing(&mut self) -> Vec<(AccountKey, Option<i64>)> {
        let mut missing = BTreeMap::new();
        let post = self.post;
        for step in &post.steps {
            let Step::Reserve { quote, at, .. } = step else { continue };
            let limits = self.limits.clone();
            for (limit, key) in self.applying(&limits, &quote.payer, *at) {
                if self.find(&key).is_none() {
                    let cap: &mut Option<i64> = missing.entry(key).or_default();
                    *cap = reserve::lower(*cap, limit);
                }
            }
        }
        missing.into_iter().collect()
    }

    /// The limits that apply to a payer, in their order, with the accounts they speak of.
    fn applying<'l>(&mut self, limits: &'l Limits, payer: &Payer, at: Time) -> Vec<(&'l Limit, AccountKey)> {
        if !limits.know(&payer.org) {
            return Vec::new();
        }
        let zone = self.zone(&payer.zone);
        let key = |scope, subject, limit: &Limit| AccountKey {
            holder: Holder::new(scope, &payer.org, subject),
            measure: limit.measure,
            period: limit.period,
            window: limit.period.window(&zone, at),
        };
        payer
            .subjects()
            .flat_map(|(scope, subject)| {
                limits.on(&payer.org, scope, subject).map(move |limit| (scope, subject, limit))
            })
            .map(|(scope, subject, limit)| (limit, key(scope, subject, limit)))
            .collect()
    }

    fn zone(&mut self, name: &str) -> Zone {
        if let Some(zone) = self.zones.get(name) {
            return zone.clone();
        }
        let zone = Zone::find(name).unwrap_or_else(|| {
            tracing::error!(zone = name, "there is no such time zone, counting days in UTC");
            Zone::utc()
        });
        self.zones.insert(name.to_owned(), zone.clone());
        zone
    }

    fn find(&self, key: &AccountKey) -> Option<usize> {
        let accounts = self.by_holder.get(&key.holder)?;
        accounts.iter().copied().find(|at| self.accounts[*at].key == *key)
    }

    /// The accounts that a call counts in: all of its holders' whose windows it lies in, whatever limits say today.
    fn accounts_of(&self, payer: &Payer, at: Time) -> Vec<usize> {
        if !self.limits.know(&payer.org) {
            return Vec::new();
        }
        payer
            .subjects()
            .filter_map(|(scope, subject)| self.by_holder.get(&Holder::new(scope, &payer.org, subject)))
            .flatten()
            .copied()
            .filter(|account| self.accounts[*account].key.window.contains(at))
            .collect()
    }

    async fn take(&mut self, tx: &mut Tx, step: &Step) -> Result<Outcome> {
        match step {
            Step::Reserve { quote, at, passage, nonce } => {
                let asked = reserve::Asked { quote, at: *at, passage: *passage, nonce: *nonce };
                return Ok(Outcome::Reserve(self.reserve(tx, &asked).await?));
            }
            Step::Attempt { call, failed, next, at } => self.attempt(call, failed.as_ref(), next, *at),
            Step::Settle { call, spent, at, nonce } => self.settle(call, spent, *at, *nonce),
            Step::Release { call, why } => self.release(call, why),
            Step::Reap { call } => self.give_up(call),
        }
        Ok(Outcome::Other)
    }

    fn change(&mut self, account: usize, change: impl FnOnce(&mut Account)) {
        change(&mut self.accounts[account]);
        self.changed[account] = true;
    }

    /// Sets the grace to what lies beyond the cap just now. Never called for a reservation, unless an admin let it
    /// through: so a reservation beyond the cap is refused by the database itself.
    fn excuse(&mut self, account: usize) {
        let account = &mut self.accounts[account];
        let taken = account.reserved.saturating_add(account.spent);
        account.grace = account.cap.map_or(0, |cap| (taken - cap).max(0));
    }

    async fn write(self, tx: &mut Tx) -> Result<()> {
        let changed = self.accounts.iter().zip(&self.changed).filter(|(_, changed)| **changed);
        tx.write_accounts(&changed.map(|(account, _)| account).collect::<Vec<_>>()).await?;
        let (fresh, known): (Vec<Known>, Vec<Known>) = self.calls.into_values().partition(|known| known.fresh);
        let mut fresh: Vec<Call> = fresh.into_iter().map(|known| known.call).collect();
        // In their order, for the sake of the index and of other processes.
        fresh.sort_by(|a, b| a.id.cmp(&b.id));
        let rows: Vec<AttemptRow> = self.attempts.into_values().collect();
        tx.add_rows(&fresh, &rows, &self.entries).await?;
        let ended: Vec<(&CallId, CallState)> =
            known.iter().filter(|known| known.ended).map(|known| (&known.call.id, known.call.state)).collect();
        tx.end_calls(&ended, self.post.now).await?;
        tx.end_attempts(&self.attempt_ends, self.post.now).await?;
        let closed: Vec<(&CallId, AttemptState)> = self.closed.iter().map(|(call, state)| (call, *state)).collect();
        tx.close_attempts(&closed, self.post.now).await?;
        tx.add_crossings(&self.crossings).await
    }
}

fn is_attempt(step: &Step) -> bool {
    matches!(step, Step::Attempt { .. })
}

fn reaped(step: &Step) -> Option<&CallId> {
    match step {
        Step::Reap { call } => Some(call),
        _ => None,
    }
}
