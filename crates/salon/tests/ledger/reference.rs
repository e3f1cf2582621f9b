//! Random histories against a ledger that is so simple that it must be right: it keeps a list of calls and adds them up.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use salon::Clock;
use salon::ledger::{Book, NotReserved, Payer, Quote, Unknown};
use salon_core::limit::{Limit, Measure, Period, Policy, Scope, Zone};
use salon_core::{Amounts, CallId, KeyId, LimitId, OrgId, Time, Tokens, UserId};
use salon_store::ledger::{CallFilter, UsageFilter};
use salon_store::testing::Scratch;
use salon_store::{Store, Terms, on_both_databases};

use crate::cast::{DAY, HOUR, NOON, calm, pen, spent};

on_both_databases! {
    the_ledger_does_what_the_reference_does
}

#[derive(Clone, Debug)]
enum Step {
    AddLimit {
        scope: Scope,
        own: bool,
        measure: Measure,
        period: Period,
        amount: i64,
        policy: Policy,
    },
    ChangeLimit(prop::sample::Index, i64, Policy),
    RemoveLimit(prop::sample::Index),
    Reserve {
        payer: usize,
        micros: i64,
        tokens: i64,
        sent: bool,
        minutes: u64,
    },
    /// What follows is done with one of the calls so far, whatever has become of it.
    Settle(prop::sample::Index, i64),
    Release(prop::sample::Index),
    Approve(prop::sample::Index),
    Deny(prop::sample::Index),
    Again(prop::sample::Index),
    Wait(u64),
    Reap,
    /// The process dies without a word, and another takes its place.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let scope = || prop::sample::select(Scope::ALL.to_vec());
    let measure = || prop::sample::select(Measure::ALL.to_vec());
    let period = || prop::sample::select(vec![Period::Day, Period::Month, Period::Total]);
    let policy = || prop::sample::select(Policy::ALL.to_vec());
    let step = prop_oneof![
        3 => (scope(), any::<bool>(), measure(), period(), 0..60_i64, policy()).prop_map(
            |(scope, own, measure, period, amount, policy)| Step::AddLimit { scope, own, measure, period, amount, policy }
        ),
        1 => (index(), 0..80_i64, policy()).prop_map(|(limit, amount, policy)| Step::ChangeLimit(limit, amount, policy)),
        1 => index().prop_map(Step::RemoveLimit),
        12 => (0..6_usize, 0..30_i64, 0..30_i64, any::<bool>(), 0..120_u64).prop_map(
            |(payer, micros, tokens, sent, minutes)| Step::Reserve { payer, micros, tokens, sent, minutes }
        ),
        7 => (index(), 0..45_i64).prop_map(|(call, micros)| Step::Settle(call, micros)),
        2 => index().prop_map(Step::Release),
        2 => index().prop_map(Step::Approve),
        1 => index().prop_map(Step::Deny),
        3 => index().prop_map(Step::Again),
        2 => (1..600_u64).prop_map(Step::Wait),
        2 => Just(Step::Reap),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..45)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Held,
    Approved,
    Denied,
    Reserved,
    Settled,
    Released,
    Unknown,
}

#[derive(Clone, Debug)]
struct ModelCall {
    id: String,
    quote: Quote,
    at: Time,
    deadline: Time,
    state: State,
    /// What the entries of it add up to.
    booked: Amounts,
}

struct Model {
    org: OrgId,
    unknown: Unknown,
    limits: Vec<Limit>,
    calls: Vec<ModelCall>,
}

fn subject(payer: &Payer, scope: Scope) -> Option<String> {
    payer.subjects().find(|(found, _)| *found == scope).map(|(_, subject)| subject.to_owned())
}

impl Model {
    /// Promised to calls that are under way, and booked: by one holder, in one window.
    fn taken(&self, scope: Scope, holder: &str, measure: Measure, within: impl Fn(Time) -> bool) -> (i64, i64) {
        let calls = self.calls.iter().filter(|call| subject(&call.quote.payer, scope).as_deref() == Some(holder));
        calls.filter(|call| within(call.at)).fold((0, 0), |(reserved, spent), call| {
            let more = if call.state == State::Reserved { call.quote.most.of(measure) } else { 0 };
            (reserved + more, spent + call.booked.of(measure))
        })
    }

    fn applying(&self, payer: &Payer) -> Vec<&Limit> {
        let on = |limit: &Limit| match (&limit.subject, subject(payer, limit.scope)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(own), Some(subject)) => *own == subject,
        };
        let applying: Vec<&Limit> = self.limits.iter().filter(|limit| on(limit)).collect();
        let replaced = |limit: &&Limit| {
            limit.subject.is_none()
                && applying.iter().any(|other| {
                    other.subject.is_some()
                        && (other.scope, other.measure, other.period) == (limit.scope, limit.measure, limit.period)
                })
        };
        applying.iter().filter(|limit| !replaced(limit)).copied().collect()
    }

    /// The strictest policy of the limits that a call does not fit into.
    fn judge(&self, quote: &Quote, at: Time, approved: bool) -> Option<Policy> {
        let zone = Zone::find(&quote.payer.zone).expect("a zone");
        let over = self.applying(&quote.payer).into_iter().filter(|limit| {
            let window = limit.period.window(&zone, at);
            let holder = subject(&quote.payer, limit.scope).expect("a subject");
            let (reserved, spent) = self.taken(limit.scope, &holder, limit.measure, |at| window.contains(at));
            reserved + spent + quote.most.of(limit.measure) > limit.amount
        });
        over.map(|limit| limit.policy)
            .filter(|policy| *policy > Policy::Ask || (*policy == Policy::Ask && !approved))
            .max()
    }

    fn waits(&self, id: &str) -> bool {
        self.calls.iter().any(|call| call.id == id && matches!(call.state, State::Held | State::Approved))
    }

    fn find(&mut self, id: &str) -> Option<&mut ModelCall> {
        self.calls.iter_mut().find(|call| call.id == id)
    }

    fn reserve(&mut self, quote: &Quote, at: Time) -> Result<(), &'static str> {
        let id = quote.call.as_str().to_owned();
        let before = self.find(&id).map(|call| (call.state, quote.most.fits_in(&call.quote.most)));
        let before = before.filter(|before| *before != (State::Held, true)).map(|(state, _)| state);
        let approved = match before {
            // What waits is judged as if it came for the first time: there may be room by now, or somebody refuses it.
            None => false,
            Some(State::Approved) => true,
            Some(State::Held) => return Err("held"),
            Some(State::Denied) => return Err("denied"),
            Some(_) => return Err("duplicate"),
        };
        let (state, answer) = match self.judge(quote, at, approved) {
            None => (State::Reserved, Ok(())),
            Some(Policy::Ask) => {
                let same = |call: &ModelCall| {
                    let held = call.state == State::Held && call.quote.payer == quote.payer;
                    held && quote.most.fits_in(&call.quote.most)
                };
                if self.calls.iter().any(same) {
                    return Err("held");
                }
                (State::Held, Err("held"))
            }
            Some(_) => return Err("over"),
        };
        let deadline = if state == State::Held { at + DAY } else { quote.deadline };
        let call = ModelCall { id: id.clone(), quote: quote.clone(), at, deadline, state, booked: Amounts::default() };
        match self.find(&id) {
            Some(known) => *known = call,
            None => self.calls.push(call),
        }
        answer
    }

    fn settle(&mut self, id: &str, amounts: Amounts) {
        if let Some(call) = self.find(id)
            && matches!(call.state, State::Reserved | State::Released | State::Unknown)
        {
            (call.state, call.booked) = (State::Settled, amounts);
        }
    }

    fn reap(&mut self, now: Time) {
        let unknown = self.unknown;
        for call in &mut self.calls {
            if call.deadline >= now {
                continue;
            }
            match (call.state, &call.quote.first) {
                (State::Reserved, None) => call.state = State::Released,
                (State::Reserved, Some(_)) => {
                    call.state = State::Unknown;
                    if unknown == Unknown::UpperBound {
                        call.booked = call.quote.most;
                    }
                }
                (State::Held | State::Approved, _) => call.state = State::Denied,
                _ => {}
            }
        }
    }
}

fn said(outcome: &Result<(), NotReserved>) -> Result<(), &'static str> {
    match outcome {
        Ok(()) => Ok(()),
        Err(NotReserved::Over(_)) => Err("over"),
        Err(NotReserved::Held { .. }) => Err("held"),
        Err(NotReserved::Denied) => Err("denied"),
        Err(NotReserved::Duplicate) => Err("duplicate"),
        Err(other) => panic!("{other:?}"),
    }
}

fn payers(org: &OrgId) -> Vec<Payer> {
    // People, keys, chats and runs that overlap in every way.
    (0..6)
        .map(|n| Payer {
            org: org.clone(),
            zone: "Asia/Seoul".to_owned(),
            user: UserId::new(format!("{org} user {}", n % 3)),
            key: (n % 2 == 0).then(|| KeyId::new(format!("{org} key {}", n % 4))),
            chat: (n > 2).then(|| "parrot:1001".to_owned()),
            turn: None,
            run: (n == 5).then(|| format!("{org} run")),
        })
        .collect()
}

async fn play(store: &Store, org: OrgId, unknown: Unknown, journaled: bool, steps: Vec<Step>) {
    let clock = Clock::wound_to(NOON);
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journaled.then(|| folder.path().to_owned());
    let settings = salon::ledger::BookSettings { unknown, journal, ..calm() };
    let mut book = Book::open(store.clone(), clock.clone(), settings.clone()).await.expect("a book");
    let payers = payers(&org);
    let mut model = Model { org: org.clone(), unknown, limits: Vec::new(), calls: Vec::new() };
    for (n, step) in steps.into_iter().enumerate() {
        let now = clock.now();
        let picked = |index: &prop::sample::Index| {
            (!model.calls.is_empty()).then(|| CallId::new(index.get(&model.calls).id.clone()))
        };
        match step {
            Step::AddLimit { scope, own, measure, period, amount, policy } => {
                let subject = (own && scope != Scope::Org).then(|| subject(&payers[5], scope)).flatten();
                let id = LimitId::new(format!("{org} limit {n:03}"));
                let thresholds = vec![50, 100];
                let limit = Limit { id, org: org.clone(), scope, subject, measure, period, amount, policy, thresholds };
                assert!(book.add_limit(limit.clone(), &pen("boss").await).await.expect("a limit"));
                model.limits.push(limit);
            }
            Step::ChangeLimit(index, amount, policy) => {
                if model.limits.is_empty() {
                    continue;
                }
                let at = index.index(model.limits.len());
                let limit = &mut model.limits[at];
                (limit.amount, limit.policy) = (amount, policy);
                let terms = Terms { amount, policy, thresholds: limit.thresholds.clone() };
                assert!(book.change_limit(&org, &limit.id, terms, &pen("boss").await).await.expect("change"));
            }
            Step::RemoveLimit(index) => {
                if model.limits.is_empty() {
                    continue;
                }
                let limit = model.limits.remove(index.index(model.limits.len()));
                assert!(book.remove_limit(&org, &limit.id, &pen("boss").await).await.expect("remove"));
            }
            Step::Reserve { payer, micros, tokens, sent, minutes } => {
                let mut quote = crate::cast::quote(&format!("{org} call {n:03}"), payers[payer].clone(), micros);
                quote.most.tokens = tokens;
                quote.deadline = now + Duration::from_secs(60 * minutes);
                quote.first = quote.first.filter(|_| sent);
                reserve(&book, &mut model, quote, now).await;
            }
            Step::Again(index) => {
                let Some(call) = picked(&index) else { continue };
                let mut quote = model.find(call.as_str()).expect("a call").quote.clone();
                (quote.deadline, quote.fresh) = (now + HOUR, false);
                reserve(&book, &mut model, quote, now).await;
            }
            // Of what waits nobody holds a reservation. Were its end put down all the same, the next process would find it
            // when somebody does.
            Step::Settle(index, _) | Step::Release(index)
                if journaled && picked(&index).is_some_and(|call| model.waits(call.as_str())) => {}
            Step::Settle(index, micros) => {
                let Some(call) = picked(&index) else { continue };
                let mut spent = spent(micros);
                spent.tokens = Tokens::new(micros / 2, 1);
                let amounts = Amounts { micros, tokens: micros / 2 + 1, requests: 1 };
                book.settle(&call, spent).await;
                book.flush().await.expect("flush");
                model.settle(call.as_str(), amounts);
            }
            Step::Release(index) => {
                let Some(call) = picked(&index) else { continue };
                book.release(&call, "it failed").await;
                book.flush().await.expect("flush");
                let call = model.find(call.as_str()).expect("a call");
                if call.state == State::Reserved {
                    call.state = State::Released;
                }
            }
            Step::Approve(index) => {
                let Some(call) = picked(&index) else { continue };
                let done = book.approve(&org, &call, &pen("boss").await).await.expect("approve");
                let call = model.find(call.as_str()).expect("a call");
                assert_eq!(done, call.state == State::Held);
                if done {
                    (call.state, call.deadline) = (State::Approved, now + DAY);
                }
            }
            Step::Deny(index) => {
                let Some(call) = picked(&index) else { continue };
                let done = book.deny(&org, &call, &pen("boss").await).await.expect("deny");
                let call = model.find(call.as_str()).expect("a call");
                assert_eq!(done, call.state == State::Held);
                if done {
                    call.state = State::Denied;
                }
            }
            Step::Wait(minutes) => clock.wind(Duration::from_secs(60 * minutes)),
            Step::Reap => {
                book.reap().await.expect("reap");
                model.reap(now);
            }
            Step::Crash => {
                book = Book::open(store.clone(), clock.clone(), settings.clone()).await.expect("a book");
            }
        }
        book.flush().await.expect("flush");
        compare(store, &model, clock.now()).await;
    }
    clock.wind(DAY * 2);
    assert_eq!(book.check().await.expect("check"), []);
    assert_eq!(store.check().await.expect("check"), Vec::<String>::new());
}

async fn reserve(book: &Book, model: &mut Model, quote: Quote, now: Time) {
    let real = match book.reserve(quote.clone()).await {
        Ok(mut reserved) => match reserved.durable().await.map(drop) {
            Ok(()) => {
                reserved.keep();
                Ok(())
            }
            Err(refusal) => Err(refusal),
        },
        Err(refusal) => Err(refusal),
    };
    let expected = model.reserve(&quote, now);
    assert_eq!(said(&real), expected, "{quote:?}: {real:?}");
}

/// The database against the model.
async fn compare(store: &Store, model: &Model, now: Time) {
    let mut tx = store.read().await.expect("a reading connection");
    for account in tx.list_open_accounts(&model.org, now, 1_000).await.expect("accounts") {
        let key = &account.key;
        let taken = model.taken(key.holder.scope, &key.holder.subject, key.measure, |at| key.window.contains(at));
        assert_eq!((account.reserved, account.spent), taken, "{account:?}");
        if let Some(cap) = account.cap {
            assert!(account.reserved + account.spent <= cap + account.grace, "{account:?}");
            assert!(account.grace == 0 || account.reserved + account.spent == cap + account.grace, "{account:?}");
        }
    }
    let usage = UsageFilter::of(model.org.clone(), Time(0), Time(i64::MAX));
    let entries = tx.list_entries(&CallFilter { usage, before: None, limit: 1_000 }).await.expect("entries");
    let mut settled: BTreeMap<&CallId, i64> = BTreeMap::new();
    let mut booked: BTreeMap<&CallId, i64> = BTreeMap::new();
    for entry in &entries {
        *settled.entry(&entry.call).or_default() += i64::from(entry.key.starts_with("settle:"));
        *booked.entry(&entry.call).or_default() += entry.amounts.micros;
    }
    assert!(settled.values().all(|times| *times <= 1), "{settled:?}");
    for call in &model.calls {
        let id = CallId::new(call.id.clone());
        let real = tx.find_call(&model.org, &id).await.expect("find").expect("a call");
        assert_eq!(real.state.as_str(), format!("{:?}", call.state).to_lowercase(), "{call:?}");
        assert_eq!(booked.get(&id).copied().unwrap_or_default(), call.booked.micros, "{call:?}");
    }
}

/// Each history plays in an organisation of its own.
async fn the_ledger_does_what_the_reference_does(Scratch { store, .. }: Scratch) {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        let mut runner = TestRunner::new(Config { cases: 48, ..Config::default() });
        let played = std::cell::Cell::new(0);
        let outcome = runner.run(&(steps(), any::<bool>(), any::<bool>()), |(steps, strict, journaled)| {
            played.set(played.get() + 1);
            let org = OrgId::new(format!("org {}", played.get()));
            let unknown = if strict { Unknown::UpperBound } else { Unknown::Report };
            runtime.block_on(play(&store, org, unknown, journaled, steps));
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{error}");
        }
    });
}
