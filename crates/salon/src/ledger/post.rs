//! One transaction of the ledger: decides a group of steps one after the other, and writes what came of them.
//!
//! Everything that decides is read here, under locks. The same steps may be run again after a commit whose outcome was
//! not known: each finds what it wrote, and changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use salon_core::limit::{Balance, Headroom, Verdict, crossed, judge};
use salon_core::{Amounts, CallId, Limit, Limits, Time, Tokens, Zone};
use salon_store::ledger::{
    Account, AccountKey, AttemptEnd, AttemptRow, AttemptState, Call, CallState, Crossing, Entry, EntryKind, Holder,
    Payer, Reach,
};
use salon_store::{Result, Tx};

use super::{Attempt, Failed, Granted, NotReserved, Quote, Spent, Standing, Unknown};

/// Held calls of one person that are looked through for the same question.
const HELD: i64 = 50;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Reserve { quote: Box<Quote>, at: Time, passed: bool, nonce: i64 },
    Attempt { call: CallId, failed: Option<Failed>, next: Box<Attempt>, at: Time },
    Settle { call: CallId, spent: Box<Spent>, at: Time },
    Release { call: CallId, why: String },
    Reap { call: CallId },
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

/// A reservation that is asked for.
struct Asked<'q> {
    quote: &'q Quote,
    at: Time,
    nonce: i64,
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
        let ids: BTreeSet<&CallId> = post.steps.iter().filter(|step| !is_attempt(step)).map(Step::call).collect();
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
                    *cap = lower(*cap, limit);
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
            Step::Reserve { quote, at, passed, nonce } => {
                let asked = Asked { quote, at: *at, nonce: *nonce };
                return Ok(Outcome::Reserve(self.reserve(tx, &asked, *passed).await?));
            }
            Step::Attempt { call, failed, next, at } => self.attempt(call, failed.as_ref(), next, *at),
            Step::Settle { call, spent, at } => self.settle(call, spent, *at),
            Step::Release { call, why } => self.release(call, why),
            Step::Reap { call } => self.give_up(call),
        }
        Ok(Outcome::Other)
    }

    async fn reserve(
        &mut self,
        tx: &mut Tx,
        asked: &Asked<'_>,
        passed: bool,
    ) -> Result<std::result::Result<Granted, NotReserved>> {
        let Asked { quote, at, nonce } = *asked;
        let limits = self.limits.clone();
        let applying = self.applying(&limits, &quote.payer, at);
        let mut approved = false;
        if let Some(Known { call, .. }) = self.calls.get(&quote.call) {
            let same = call.payer.org == quote.payer.org && call.payer.user == quote.payer.user;
            match call.state {
                // This very step was run before.
                CallState::Reserved if call.nonce == nonce => return Ok(Ok(self.granted(&applying, at))),
                CallState::Approved if same => approved = true,
                CallState::Held if same => {
                    return Ok(Err(NotReserved::Held { call: call.id.clone(), limit: call.limit.clone() }));
                }
                CallState::Denied if same => return Ok(Err(NotReserved::Denied)),
                _ => return Ok(Err(NotReserved::Duplicate)),
            }
        }
        let deciding: Vec<(&Limit, usize)> =
            applying.iter().filter_map(|(limit, key)| Some((*limit, self.find(key)?))).collect();
        self.set_caps(&deciding, &quote.payer, at);

        let stopped = deciding.iter().map(|(_, account)| &self.accounts[*account]).find(|a| a.stopped.is_some());
        let mut refusal = stopped.map(|account| NotReserved::Stopped { account: account.id.clone() });
        if refusal.is_none() {
            let over = deciding.iter().enumerate().filter_map(|(n, (limit, account))| {
                let account = &self.accounts[*account];
                let fits = balance(account).has_room(quote.most.of(limit.measure), limit.amount);
                (!fits).then_some((n, limit.policy, account.key.window))
            });
            refusal = match judge(over, approved) {
                Verdict::Pass => None,
                Verdict::Ask(n) => {
                    let limit = deciding[n].0;
                    let call = self.hold(tx, asked, limit).await?;
                    Some(NotReserved::Held { call, limit: Some(limit.id.clone()) })
                }
                Verdict::Refuse(n) => {
                    let (limit, account) = deciding[n];
                    Some(NotReserved::Over(Box::new(self.standing(limit, account, at))))
                }
            };
        }
        if let Some(refusal) = refusal {
            if passed {
                self.note_passed(asked, &refusal);
            }
            return Ok(Err(refusal));
        }
        for account in self.accounts_of(&quote.payer, at) {
            let more = quote.most.of(self.accounts[account].key.measure).max(0);
            self.change(account, |account| account.reserved = account.reserved.saturating_add(more));
            if approved {
                self.excuse(account);
            }
        }
        self.add_call(asked, CallState::Reserved, quote.deadline, None);
        if let Some(first) = &quote.first {
            self.attempt(&quote.call, None, first, at);
        }
        Ok(Ok(self.granted(&applying, at)))
    }

    /// The cap of an account is the lowest amount of the limits that speak of it. Where the organisation's zone was
    /// changed, there may be other windows beside; nothing is decided by those any more.
    fn set_caps(&mut self, deciding: &[(&Limit, usize)], payer: &Payer, at: Time) {
        let mut caps: BTreeMap<usize, Option<i64>> =
            self.accounts_of(payer, at).into_iter().map(|account| (account, None)).collect();
        for (limit, account) in deciding {
            let cap = caps.entry(*account).or_default();
            *cap = lower(*cap, limit);
        }
        for (account, cap) in caps {
            if self.accounts[account].cap != cap {
                self.change(account, |account| account.cap = cap);
                self.excuse(account);
            }
        }
    }

    /// Writes a call down that waits for an admin, unless the same one waits already: whoever tries again and again does
    /// not fill the admin's list.
    async fn hold(&mut self, tx: &mut Tx, asked: &Asked<'_>, limit: &Limit) -> Result<CallId> {
        let Asked { quote, at, .. } = *asked;
        let payer = &quote.payer;
        let same = |call: &Call| {
            let (a, b) = (&call.payer, payer);
            (&a.org, &a.user, &a.key, &a.chat, &a.turn) == (&b.org, &b.user, &b.key, &b.chat, &b.turn)
                && call.model == quote.model
                && call.state == CallState::Held
        };
        if let Some(known) = self.calls.values().find(|known| same(&known.call)) {
            return Ok(known.call.id.clone());
        }
        let held = tx.list_held(&payer.org, Some(&payer.user), HELD).await?;
        if let Some(call) = held.into_iter().find(same) {
            return Ok(call.id);
        }
        self.add_call(asked, CallState::Held, at + self.post.held, Some(limit));
        Ok(quote.call.clone())
    }

    /// A call that was let through before its limit was known here, and is refused now: it may have been sent, so it is
    /// written down all the same.
    fn note_passed(&mut self, asked: &Asked<'_>, refusal: &NotReserved) {
        let Asked { quote, at, .. } = *asked;
        let Some(first) = &quote.first else { return };
        if let NotReserved::Held { call, .. } = refusal
            && *call == quote.call
        {
            self.attempt(&quote.call, None, first, at);
            self.close_attempts(&quote.call, AttemptState::Unknown);
            return;
        }
        self.add_call(asked, CallState::Unknown, quote.deadline, None);
        self.attempt(&quote.call, None, first, at);
        self.close_attempts(&quote.call, AttemptState::Unknown);
    }

    fn add_call(&mut self, asked: &Asked<'_>, state: CallState, deadline: Time, limit: Option<&Limit>) {
        let Asked { quote, at, nonce } = *asked;
        let call = Call {
            id: quote.call.clone(),
            state,
            payer: quote.payer.clone(),
            door: quote.door.clone(),
            model: quote.model.clone(),
            most: Amounts {
                micros: quote.most.micros.max(0),
                tokens: quote.most.tokens.max(0),
                requests: quote.most.requests.max(0),
            },
            at,
            deadline,
            ended_at: (state == CallState::Unknown).then_some(self.post.now),
            limit: limit.map(|limit| limit.id.clone()),
            nonce,
        };
        self.calls.insert(quote.call.clone(), Known { call, fresh: true, ended: false });
    }

    fn attempt(&mut self, call: &CallId, failed: Option<&Failed>, next: &Attempt, at: Time) {
        if let Some(failed) = failed {
            let state = if failed.unknown { AttemptState::Unknown } else { AttemptState::Failed };
            self.end_attempt(call, failed.n, state, Some(failed.note.clone()));
        }
        let row = AttemptRow {
            call: call.clone(),
            attempt: next.clone(),
            state: AttemptState::Started,
            started_at: at,
            ended_at: None,
            note: None,
        };
        self.attempts.entry((call.clone(), next.n)).or_insert(row);
    }

    fn end_attempt(&mut self, call: &CallId, n: i64, state: AttemptState, note: Option<String>) {
        match self.attempts.get_mut(&(call.clone(), n)) {
            Some(row) => (row.state, row.note, row.ended_at) = (state, note, Some(self.post.now)),
            None => self.attempt_ends.push(AttemptEnd { call: call.clone(), n, state, note }),
        }
    }

    /// Ends the attempts of a call that have not ended, those of earlier transactions included.
    fn close_attempts(&mut self, call: &CallId, state: AttemptState) {
        let now = self.post.now;
        let rows = self.attempts.range_mut((call.clone(), i64::MIN)..=(call.clone(), i64::MAX));
        for (_, row) in rows.filter(|(_, row)| row.state == AttemptState::Started) {
            (row.state, row.ended_at) = (state, Some(now));
        }
        self.closed.insert(call.clone(), state);
    }

    fn settle(&mut self, id: &CallId, spent: &Spent, at: Time) {
        let Some(known) = self.calls.get_mut(id) else {
            tracing::error!(call.id = %id, "a call that was never reserved cannot be settled");
            return;
        };
        let before = known.call.state;
        match before {
            CallState::Settled => return,
            CallState::Held | CallState::Approved | CallState::Denied => {
                tracing::error!(call.id = %id, state = before.as_str(), "a call that may not be made cannot be settled");
                return;
            }
            CallState::Reserved | CallState::Released | CallState::Unknown => {}
        }
        (known.call.state, known.call.ended_at, known.ended) = (CallState::Settled, Some(self.post.now), true);
        let call = known.call.clone();
        let amounts = spent.amounts();
        let returned = self.adjusted.remove(id);
        for account in self.accounts_of(&call.payer, call.at) {
            let measure = self.accounts[account].key.measure;
            let taken = self.accounts[account].spent;
            self.change(account, |account| {
                if before == CallState::Reserved {
                    account.give_back(call.most.of(measure));
                }
                account.spent = account.spent.saturating_add(amounts.of(measure));
                if let Some(returned) = &returned {
                    account.spent = (account.spent - returned.of(measure)).max(0);
                }
            });
            self.excuse(account);
            self.note_crossings(account, taken);
        }
        if let Some(returned) = returned {
            let back = Amounts { micros: -returned.micros, tokens: -returned.tokens, requests: -returned.requests };
            self.entries.push(adjustment(&call, "return", back, at));
        }
        if let Some(n) = spent.attempt {
            self.end_attempt(id, n, AttemptState::Ok, None);
        }
        // An earlier attempt may have been given up without a word.
        self.close_earlier_attempts(id);
        self.entries.push(Entry {
            key: format!("settle:{id}"),
            kind: EntryKind::Settle,
            payer: call.payer,
            door: call.door,
            model: call.model,
            upstream: spent.upstream.clone(),
            upstream_model: spent.upstream_model.clone(),
            whose: spent.whose.clone(),
            tokens: spent.tokens,
            amounts,
            estimated: spent.estimated,
            suspect: spent.suspect,
            cache_hit: spent.cache_hit,
            call: call.id,
            at: call.at,
            settled_at: at,
        });
    }

    fn close_earlier_attempts(&mut self, id: &CallId) {
        let now = self.post.now;
        let rows = self.attempts.range_mut((id.clone(), i64::MIN)..=(id.clone(), i64::MAX));
        for (_, row) in rows.filter(|(_, row)| row.state == AttemptState::Started) {
            (row.state, row.ended_at) = (AttemptState::Unknown, Some(now));
        }
        self.closed.insert(id.clone(), AttemptState::Unknown);
    }

    fn release(&mut self, id: &CallId, why: &str) {
        tracing::debug!(call.id = %id, why, "a call is released");
        if self.end_reserved(id, CallState::Released).is_some() {
            self.close_attempts(id, AttemptState::Failed);
        }
    }

    /// Ends a call that nobody came back for.
    fn give_up(&mut self, id: &CallId) {
        let sent = self.attempted.contains(id)
            || self.attempts.range((id.clone(), i64::MIN)..=(id.clone(), i64::MAX)).next().is_some();
        if !sent {
            self.end_reserved(id, CallState::Released);
            return;
        }
        let Some(call) = self.end_reserved(id, CallState::Unknown) else { return };
        self.close_attempts(id, AttemptState::Unknown);
        if self.post.unknown == Unknown::UpperBound {
            for account in self.accounts_of(&call.payer, call.at) {
                let (measure, taken) = (self.accounts[account].key.measure, self.accounts[account].spent);
                self.change(account, |account| {
                    account.spent = account.spent.saturating_add(call.most.of(measure));
                });
                self.excuse(account);
                self.note_crossings(account, taken);
            }
            self.entries.push(adjustment(&call, "adjust", call.most, self.post.now));
        }
    }

    /// Gives back what is reserved for a call. `None` if nothing is.
    fn end_reserved(&mut self, id: &CallId, to: CallState) -> Option<Call> {
        let known = self.calls.get_mut(id).filter(|known| known.call.state == CallState::Reserved)?;
        (known.call.state, known.call.ended_at, known.ended) = (to, Some(self.post.now), true);
        let call = known.call.clone();
        for account in self.accounts_of(&call.payer, call.at) {
            let measure = self.accounts[account].key.measure;
            self.change(account, |account| account.give_back(call.most.of(measure)));
            self.excuse(account);
        }
        Some(call)
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

    fn note_crossings(&mut self, account: usize, before: i64) {
        let account = &self.accounts[account];
        let key = &account.key;
        let limits = self.limits.on(&key.holder.org, key.holder.scope, &key.holder.subject);
        for limit in limits.filter(|limit| (limit.measure, limit.period) == (key.measure, key.period)) {
            for threshold in crossed(before, account.spent, limit.amount, &limit.thresholds) {
                let (limit, account) = (limit.id.clone(), account.id.clone());
                self.crossings.push(Crossing { limit, account, threshold, at: self.post.now });
            }
        }
    }

    fn granted(&self, applying: &[(&Limit, AccountKey)], at: Time) -> Granted {
        let mut granted = Granted::default();
        for (limit, key) in applying {
            let Some(account) = self.find(key) else { continue };
            if !balance(&self.accounts[account]).has_room(0, limit.amount) {
                granted.warnings.push(limit.id.clone());
            }
            granted.standings.push(self.standing(limit, account, at));
        }
        granted
    }

    fn standing(&self, limit: &Limit, account: usize, at: Time) -> Standing {
        let account = &self.accounts[account];
        Standing {
            limit: limit.id.clone(),
            scope: limit.scope,
            measure: limit.measure,
            policy: limit.policy,
            headroom: Headroom::new(limit.amount, balance(account), account.key.window, at),
        }
    }

    async fn write(self, tx: &mut Tx) -> Result<()> {
        let changed = self.accounts.iter().zip(&self.changed).filter(|(_, changed)| **changed);
        tx.write_accounts(&changed.map(|(account, _)| account).collect::<Vec<_>>()).await?;
        let (fresh, known): (Vec<Known>, Vec<Known>) = self.calls.into_values().partition(|known| known.fresh);
        let mut fresh: Vec<Call> = fresh.into_iter().map(|known| known.call).collect();
        // In their order, for the sake of the index and of other processes.
        fresh.sort_by(|a, b| a.id.cmp(&b.id));
        tx.add_calls(&fresh).await?;
        let rows: Vec<AttemptRow> = self.attempts.into_values().collect();
        tx.add_attempts(&rows).await?;
        tx.add_entries(&self.entries).await?;
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

/// The lowest of the amounts that refuse.
fn lower(cap: Option<i64>, limit: &Limit) -> Option<i64> {
    match (cap, limit.policy.caps()) {
        (cap, false) => cap,
        (None, true) => Some(limit.amount),
        (Some(cap), true) => Some(cap.min(limit.amount)),
    }
}

fn balance(account: &Account) -> Balance {
    Balance { reserved: account.reserved, spent: account.spent }
}

fn adjustment(call: &Call, word: &str, amounts: Amounts, at: Time) -> Entry {
    Entry {
        key: format!("{word}:{}", call.id),
        kind: EntryKind::Adjust,
        call: call.id.clone(),
        payer: call.payer.clone(),
        door: call.door.clone(),
        model: call.model.clone(),
        upstream: String::new(),
        upstream_model: String::new(),
        whose: String::new(),
        tokens: Tokens::default(),
        amounts,
        estimated: true,
        suspect: false,
        cache_hit: false,
        at: call.at,
        settled_at: at,
    }
}
