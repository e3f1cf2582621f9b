//! The keeper: takes what waits, writes it as one transaction, and tells those who asked.
//!
//! While one group is being written the next one gathers, so groups grow with the load by themselves. What nobody waits
//! for lingers a few milliseconds for company; a reservation that was passed lets groups go by for so long, because the
//! call may have ended meanwhile, and then it is written once instead of twice. A group that the database does not take
//! is tried again without those who were told so; only a reservation that was passed, and what ends a call, stay.
//!
//! Where there is a journal, its lines are taken together, before anything else that is said of the same calls.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use salon_core::CallId;
use salon_store::{Error, Operation, fail_point};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::journal::{HEAP, Journal, Leaf};
use super::later::Later;
use super::post::{Outcome, Passage, Post, Posted, Step, post, whole};
use super::{Granted, NotReserved, Shared};

/// Orders in one transaction.
const GROUP: usize = 256;
/// Reservations that were passed and may let groups go by.
const LATER: usize = 4096;
/// How often accounts are opened for one group: a window may end meanwhile, and then another is needed.
const OPENINGS: usize = 4;
/// How often all others get their turn before a group is written that expects company: a few microseconds each if there
/// is nothing to do, and then as much as it takes to hear more answers. Groups become twice as large by it where answers
/// come at once, and the disk is asked half as often.
const YIELDS: u32 = 16;
/// But no longer than this: on a busy machine each turn of the others takes as long as they want.
const COMPANY: Duration = Duration::from_micros(300);
/// Between two tries of what must be written.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often what must be written is tried after the book was closed.
const LAST_TRIES: usize = 10;

pub(super) type Answer = oneshot::Sender<Result<Granted, NotReserved>>;

pub(super) enum Order {
    Do(Task),
    Flush(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// Who is to be told of a step.
pub(super) enum Tell {
    /// `passed`: the caller goes on without waiting, because no limit was known to apply.
    Reserve {
        call: CallId,
        passed: bool,
        tell: Answer,
    },
    Attempt(oneshot::Sender<Result<(), Error>>),
    Reap(oneshot::Sender<()>),
    Flush(oneshot::Sender<()>),
    Nobody,
}

pub(super) struct Task {
    /// None where somebody only wants to know when the others are done.
    pub step: Option<Step>,
    pub tell: Tell,
    /// Where the step stands in the journal, if it does.
    pub leaf: Option<Leaf>,
}

impl Task {
    pub fn call(&self) -> Option<&CallId> {
        self.step.as_ref().map(Step::call)
    }
}

/// A group that need not be looked at: its steps, the places of those that belong together, and how many calls go into one
/// statement.
type Wholes = (Arc<Post>, Vec<(usize, usize)>, usize);

/// A task whose step stands among the group's.
struct Told {
    /// Its place there.
    at: Option<usize>,
    tell: Tell,
    leaf: Option<Leaf>,
}

pub(super) async fn keep(shared: Arc<Shared>, mut orders: mpsc::Receiver<Order>) {
    let mut keeper = Keeper {
        shared,
        tasks: Vec::new(),
        since: None,
        heaped: None,
        later: Later::default(),
        urgent: false,
        all: false,
        closers: Vec::new(),
        pause: None,
        failures: 0,
    };
    loop {
        let open = keeper.gather(&mut orders).await;
        if !keeper.closers.is_empty() {
            orders.close();
        }
        if !keeper.tasks.is_empty() {
            keeper.write().await;
        } else if !open {
            break;
        }
    }
    if let Some(journal) = &keeper.shared.journal {
        journal.close();
    }
    for tell in keeper.closers {
        tell.send(()).ok();
    }
}

struct Keeper {
    shared: Arc<Shared>,
    /// The group, in the order in which it was asked for.
    tasks: Vec<Task>,
    /// Since when the first of the group waits.
    since: Option<Instant>,
    /// Since when the first line waits in the journal.
    heaped: Option<Instant>,
    /// Reservations that were passed, until something else is said of their calls.
    later: Later,
    /// Somebody stands still until the group is written.
    urgent: bool,
    /// Nothing is to be left for later.
    all: bool,
    closers: Vec<oneshot::Sender<()>>,
    /// Set while the database does not take what must be written.
    pause: Option<Duration>,
    /// Failures since the book was closed.
    failures: usize,
}

impl Keeper {
    /// Fills the group. `false` once nothing will come any more.
    async fn gather(&mut self, orders: &mut mpsc::Receiver<Order>) -> bool {
        if let Some(pause) = self.pause {
            // New reservations are told soon that the database is away, rather than made to wait for the pause.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Some(order) = orders.recv(), if self.tasks.len() < GROUP => self.take(order),
            }
        }
        let shared = self.shared.clone();
        let mut yields = 0;
        let mut company_until = None;
        loop {
            // Before the orders are taken: whoever hurries has placed his.
            self.all |= shared.hurry.notified().now_or_never().is_some();
            let open = self.take_waiting(orders);
            self.all |= !open;
            let heap = self.heap();
            let ready = self.urgent || self.all || self.pause.is_some() || self.tasks.len() >= GROUP || heap >= HEAP;
            let due = self.due();
            if self.urgent
                && self.expects_company()
                && yields < YIELDS
                && Instant::now() < *company_until.get_or_insert_with(|| Instant::now() + COMPANY)
            {
                yields += 1;
                tokio::task::yield_now().await;
                continue;
            }
            if ready || due.is_some_and(|due| due <= Instant::now()) {
                // Where there was no room for all that waits, whoever hurries may be among the rest.
                let full = self.tasks.len() >= GROUP;
                self.take_lines();
                self.ripen();
                self.all &= full;
                return open;
            }
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.take(order),
                    None => self.all = true,
                },
                () = shared.hurry.notified() => self.all = true,
                () = heaped(&shared) => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// Whether others may be about to say that their calls have ended.
    fn expects_company(&self) -> bool {
        self.shared.journal.is_none()
            && !self.later.is_empty()
            && !self.all
            && self.pause.is_none()
            && self.tasks.len() < GROUP
    }

    /// Takes what waits, as much as there is room for. `false` once nothing will come any more.
    fn take_waiting(&mut self, orders: &mut mpsc::Receiver<Order>) -> bool {
        while self.tasks.len() < GROUP {
            match orders.try_recv() {
                Ok(order) => self.take(order),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        true
    }

    /// How many lines wait in the journal.
    fn heap(&mut self) -> usize {
        let lines = self.shared.journal.as_ref().map_or(0, Journal::len);
        self.heaped = if lines > 0 { self.heaped.or_else(|| Some(Instant::now())) } else { None };
        lines
    }

    /// When the first of those will have lingered for long enough for whom nobody waits.
    fn due(&self) -> Option<Instant> {
        let since = [self.since, self.heaped, self.later.since()].into_iter().flatten().min()?;
        Some(since + self.shared.settings.linger)
    }

    /// Takes what was put down.
    fn take_lines(&mut self) {
        self.heaped = None;
        let lines = self.shared.journal.as_ref().map(Journal::take).unwrap_or_default();
        for (leaf, step) in lines {
            self.take_task(Task { step: Some(step), tell: Tell::Nobody, leaf: Some(leaf) });
        }
    }

    /// Puts those into the group that have let others go by for long enough.
    fn ripen(&mut self) {
        let now = Instant::now();
        let then = if self.all { Some(now) } else { now.checked_sub(self.shared.settings.linger) };
        self.tasks.extend(then.map(|then| self.later.until(then)).unwrap_or_default());
    }

    /// Puts an order into the group, or keeps it for later.
    fn take(&mut self, order: Order) {
        match order {
            Order::Do(task) => {
                // What was put down of the same call goes first.
                self.take_lines();
                self.take_task(task);
            }
            Order::Flush(tell) => {
                // What was told before is written before.
                self.take_lines();
                self.tasks.extend(self.later.until(Instant::now()));
                self.urgent = true;
                self.take_task(Task { step: None, tell: Tell::Flush(tell), leaf: None });
            }
            Order::Close(tell) => {
                self.all = true;
                self.closers.push(tell);
            }
        }
    }

    fn take_task(&mut self, task: Task) {
        let reserved = task.call().and_then(|call| self.later.call_up(call));
        let called_up = reserved.is_some();
        self.tasks.extend(reserved);
        match &task.step {
            Some(Step::Reserve { passage: Passage::Passed | Passage::Noted, .. }) if self.later.len() < LATER => {
                if let Some(call) = task.call().cloned() {
                    self.later.push(call, task);
                }
                return;
            }
            Some(Step::Reserve { passage, .. }) => self.urgent |= *passage == Passage::Waits,
            Some(Step::Attempt { .. }) => self.urgent = true,
            // If the reservation is on its way already, it is not this that is waited for.
            Some(Step::Settle { nonce, .. }) => self.urgent |= called_up && nonce.is_some() && task.leaf.is_none(),
            Some(Step::Reap { .. }) => self.urgent |= matches!(task.tell, Tell::Reap(_)),
            Some(Step::Release { .. }) | None => {}
        }
        self.since.get_or_insert_with(Instant::now);
        self.tasks.push(task);
    }

    /// Writes what has gathered: first what somebody waits for and what has to be looked at, then the calls that need no
    /// looking, and then those are told who wait for all of it.
    async fn write(&mut self) {
        (self.since, self.urgent) = (None, false);
        let tasks = mem::take(&mut self.tasks);
        let mut groups = self.sort(tasks).into_iter();
        while let Some(group) = groups.next() {
            self.write_group(group).await;
            if self.pause.is_some() {
                // The others would have to wait for the same.
                self.tasks.extend(groups.flatten());
                return;
            }
        }
    }

    fn sort(&self, tasks: Vec<Task>) -> Vec<Vec<Task>> {
        let pairs = match self.shared.store.most_wholes() {
            0 => Vec::new(),
            _ => whole::pairs(tasks.iter().map(|task| task.step.as_ref()), &self.shared.limits()),
        };
        let mut tasks: Vec<Option<Task>> = tasks.into_iter().map(Some).collect();
        let both = pairs.iter().flat_map(|(reserved, settled)| [*reserved, *settled]);
        let wholes: Vec<Task> = both.filter_map(|at| tasks.get_mut(at).and_then(Option::take)).collect();
        let (looked_at, waiters) = tasks.into_iter().flatten().partition(|task: &Task| task.step.is_some());
        let mut groups = vec![looked_at, wholes, waiters];
        groups.retain(|group| !group.is_empty());
        groups
    }

    async fn write_group(&mut self, tasks: Vec<Task>) {
        let mut steps = Vec::with_capacity(tasks.len());
        let mut told = Vec::with_capacity(tasks.len());
        for Task { step, tell, leaf } in tasks {
            told.push(Told { at: step.is_some().then_some(steps.len()), tell, leaf });
            steps.extend(step);
        }
        if steps.is_empty() {
            self.tell(told, &[]);
            return;
        }
        match self.try_write(steps).await {
            Ok(outcomes) => {
                self.pause = None;
                self.tell(told, &outcomes);
            }
            Err((steps, error)) => self.put_back(steps, told, &error).await,
        }
    }

    /// Writes steps, opening accounts for them if need be. On an error the steps come back.
    async fn try_write(&self, steps: Vec<Step>) -> Result<Vec<Outcome>, (Vec<Step>, Error)> {
        let store = &self.shared.store;
        let reserves = steps.iter().any(|step| matches!(step, Step::Reserve { .. }));
        let settles = steps.iter().any(|step| matches!(step, Step::Settle { .. }));
        if reserves {
            fail_point!("ledger.before_reserve");
        }
        if settles {
            fail_point!("ledger.before_settle");
        }
        let mut request = Arc::new(self.shared.post(steps));
        let pairs = whole::pairs(request.steps.iter().map(Some), &request.limits);
        let written = match pairs.len() * 2 == request.steps.len() && store.most_wholes() > 0 {
            true => self.write_whole(request.clone(), pairs).await,
            false => Ok(None),
        };
        match written {
            Ok(Some(outcomes)) => {
                fail_point!("ledger.after_reserve");
                fail_point!("ledger.after_settle");
                return Ok(outcomes);
            }
            Ok(None) => {}
            Err(error) => return Err((regain(request), error)),
        }
        for _ in 0..OPENINGS {
            let posted = store.write_urgently(request.clone(), |tx, request| Box::pin(post(tx, request))).await;
            let missing = match posted {
                Ok(Posted::Done { outcomes, limits }) => {
                    if let Some(limits) = limits {
                        self.shared.learn(limits);
                    }
                    if reserves {
                        fail_point!("ledger.after_reserve");
                    }
                    if settles {
                        fail_point!("ledger.after_settle");
                    }
                    return Ok(outcomes);
                }
                Ok(Posted::Missing(missing)) => missing,
                Err(error) => return Err((regain(request), error)),
            };
            let args = (missing, request.now);
            let opened = store
                .write(args, |tx, (missing, now)| Box::pin(async move { tx.open_accounts(missing, *now).await }))
                .await;
            if let Err(error) = opened {
                return Err((regain(request), error));
            }
            // The transaction has let go of it by now, but its task may not have ended.
            if let Some(request) = Arc::get_mut(&mut request) {
                request.limits = self.shared.limits();
            }
        }
        Err((regain(request), Error::Unavailable("limits change all the time".to_owned())))
    }

    /// Writes a group that need not be looked at. `None`, and nothing is written, if it must be after all.
    async fn write_whole(&self, request: Arc<Post>, pairs: Vec<(usize, usize)>) -> Result<Option<Vec<Outcome>>, Error> {
        let store = &self.shared.store;
        let most = store.most_wholes();
        let args = (request, pairs, most);
        let write: Operation<Wholes, _> =
            |tx, (request, pairs, most)| Box::pin(whole::write(tx, request, pairs, *most));
        store.write_urgently(args, write).await
    }

    /// After a failure: tells those who can be told, and keeps what must be written.
    async fn put_back(&mut self, steps: Vec<Step>, told: Vec<Told>, error: &Error) {
        let alone = steps.len() == 1;
        // A mistake in one order must not keep the others from being written. One by one, only that one fails.
        let fault = matches!(error, Error::Fault(_));
        let mut steps: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
        let mut tasks = Vec::new();
        for Told { at, tell, leaf } in told {
            let step = at.and_then(|at| steps.get_mut(at)).and_then(Option::take);
            match (step, tell) {
                (Some(step), tell) if fault && !alone => tasks.push(Task { step: Some(step), tell, leaf }),
                (Some(step), tell) if fault => {
                    tracing::error!(%error, call.id = %step.call(), "an order of the ledger cannot be written");
                    self.throw_away([leaf]);
                    refuse(tell, error);
                }
                (Some(step), tell @ (Tell::Nobody | Tell::Reserve { passed: true, .. })) => {
                    tasks.push(Task { step: Some(step), tell, leaf });
                }
                (Some(_), tell) => refuse(tell, error),
                (None, tell) => tasks.push(Task { step: None, tell, leaf }),
            }
        }
        if fault && !alone {
            tracing::warn!(%error, orders = tasks.len(), "orders cannot be written together, and are written one by one");
            for task in tasks {
                self.tasks.push(task);
                Box::pin(self.write()).await;
            }
            return;
        }
        let must = tasks.iter().filter(|task| task.step.is_some()).count();
        if must == 0 {
            // Who asks when everything is written is told so at once.
            self.urgent |= !tasks.is_empty();
            self.tasks.extend(tasks);
            return;
        }
        if !self.closers.is_empty() {
            self.failures += 1;
            if self.failures > LAST_TRIES {
                tracing::error!(%error, orders = must, "the ledger is closed with orders that could not be written");
                return;
            }
        }
        let pause = self.pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
        tracing::warn!(%error, orders = must, "the ledger could not be written, trying again");
        self.pause = Some(pause);
        self.tasks.extend(tasks);
    }

    fn tell(&mut self, told: Vec<Told>, outcomes: &[Outcome]) {
        self.throw_away(told.iter().map(|told| told.leaf));
        for Told { at, tell, .. } in told {
            match (tell, at.and_then(|at| outcomes.get(at))) {
                (Tell::Reserve { call, passed, tell }, Some(Outcome::Reserve(outcome))) => {
                    let reserved = outcome.is_ok();
                    // Whoever went away before he was told will not come back for it.
                    if tell.send(outcome.clone()).is_err() && reserved && !passed {
                        let step = Step::Release { call, why: "nobody waited for it".to_owned() };
                        self.tasks.push(Task { step: Some(step), tell: Tell::Nobody, leaf: None });
                        self.since.get_or_insert_with(Instant::now);
                    }
                }
                (Tell::Attempt(tell), _) => drop(tell.send(Ok(()))),
                (Tell::Reap(tell) | Tell::Flush(tell), _) => drop(tell.send(())),
                (Tell::Reserve { .. } | Tell::Nobody, _) => {}
            }
        }
    }

    /// These lines of the journal are written, or never will be.
    fn throw_away(&self, leaves: impl IntoIterator<Item = Option<Leaf>>) {
        let Some(journal) = &self.shared.journal else { return };
        let mut lines: BTreeMap<Leaf, usize> = BTreeMap::new();
        for leaf in leaves.into_iter().flatten() {
            *lines.entry(leaf).or_default() += 1;
        }
        for (leaf, lines) in lines {
            journal.done(leaf, lines);
        }
    }
}

/// Lines wait in the journal.
async fn heaped(shared: &Shared) {
    match &shared.journal {
        Some(journal) => journal.heaped.notified().await,
        None => std::future::pending().await,
    }
}

fn regain(request: Arc<Post>) -> Vec<Step> {
    match Arc::try_unwrap(request) {
        Ok(request) => request.steps,
        Err(request) => request.steps.clone(),
    }
}

fn refuse(tell: Tell, error: &Error) {
    let reason = match error {
        Error::Unavailable(reason) => reason.clone(),
        error => error.to_string(),
    };
    match tell {
        Tell::Reserve { tell, .. } => drop(tell.send(Err(NotReserved::Unavailable(reason)))),
        Tell::Attempt(tell) => drop(tell.send(Err(Error::Unavailable(reason)))),
        Tell::Reap(_) | Tell::Flush(_) | Tell::Nobody => {}
    }
}
