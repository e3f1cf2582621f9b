//! The keeper: takes what waits, writes it as one transaction, and tells those who asked.
//!
//! While one group is being written the next one gathers, so groups grow with the load by themselves. What nobody waits
//! for lingers a few milliseconds for company; a reservation that was passed lets groups go by for so long, because the
//! call may have ended meanwhile, and then it is written once instead of twice. A group that the database does not take
//! is tried again without those who were told so; only a reservation that was passed, and what ends a call, stay.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use salon_core::{CallId, Time};
use salon_store::{Error, fail_point};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::post::{Outcome, Post, Posted, Step, post, whole};
use super::{Attempt, Failed, Granted, NotReserved, Quote, Shared, Spent};

/// Orders in one transaction.
const GROUP: usize = 256;
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
    /// `passed`: the caller goes on without waiting, because no limit was known to apply.
    Reserve {
        quote: Box<Quote>,
        at: Time,
        passed: bool,
        nonce: i64,
        tell: Answer,
    },
    Attempt {
        call: CallId,
        failed: Option<Failed>,
        next: Box<Attempt>,
        at: Time,
        tell: oneshot::Sender<Result<(), Error>>,
    },
    Settle {
        call: CallId,
        spent: Box<Spent>,
        at: Time,
        /// The reservation that it belongs to, where that may still be refused.
        nonce: Option<i64>,
    },
    Release {
        call: CallId,
        why: String,
    },
    Reap {
        call: CallId,
        tell: Option<oneshot::Sender<()>>,
    },
    Flush(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

impl Order {
    fn call(&self) -> Option<&CallId> {
        match self {
            Order::Reserve { quote, .. } => Some(&quote.call),
            Order::Attempt { call, .. }
            | Order::Settle { call, .. }
            | Order::Release { call, .. }
            | Order::Reap { call, .. } => Some(call),
            Order::Flush(_) | Order::Close(_) => None,
        }
    }
}

/// Who is to be told of a step.
enum Tell {
    Reserve { call: CallId, passed: bool, tell: Answer },
    Attempt(oneshot::Sender<Result<(), Error>>),
    Reap(Option<oneshot::Sender<()>>),
    Flush(oneshot::Sender<()>),
    Nobody,
}

struct Task {
    step: Option<Step>,
    tell: Tell,
}

/// Each with the place of its step among the group's.
type Tells = Vec<(Option<usize>, Tell)>;

pub(super) async fn keep(shared: Arc<Shared>, mut orders: mpsc::Receiver<Order>) {
    let mut keeper = Keeper {
        shared,
        tasks: Vec::new(),
        since: None,
        later: VecDeque::new(),
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
    /// Reservations that were passed, the oldest first, until something else is said of their calls.
    later: VecDeque<(Instant, Task)>,
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
            let ready = self.urgent || self.all || self.pause.is_some() || self.tasks.len() >= GROUP;
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
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// Whether others may be about to say that their calls have ended.
    fn expects_company(&self) -> bool {
        !self.later.is_empty() && !self.all && self.pause.is_none() && self.tasks.len() < GROUP
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

    /// When the first of those will have lingered for long enough for whom nobody waits.
    fn due(&self) -> Option<Instant> {
        let first = self.later.front().map(|(since, _)| *since);
        let since = [self.since, first].into_iter().flatten().min()?;
        Some(since + self.shared.settings.linger)
    }

    /// Puts those into the group that have let others go by for long enough.
    fn ripen(&mut self) {
        let now = Instant::now();
        let linger = self.shared.settings.linger;
        while self.later.front().is_some_and(|(since, _)| self.all || *since + linger <= now) {
            self.tasks.extend(self.later.pop_front().map(|(_, task)| task));
        }
    }

    /// Puts an order into the group, or keeps it for later.
    fn take(&mut self, order: Order) {
        let called_up = order.call().is_some_and(|call| call_up(&mut self.later, call, &mut self.tasks));
        if called_up {
            self.since.get_or_insert_with(Instant::now);
        }
        let (step, tell) = match order {
            Order::Reserve { quote, at, passed, nonce, tell } => {
                let call = quote.call.clone();
                let task = Task {
                    step: Some(Step::Reserve { quote, at, passed, nonce }),
                    tell: Tell::Reserve { call, passed, tell },
                };
                if passed && self.later.len() < GROUP {
                    self.later.push_back((Instant::now(), task));
                    return;
                }
                self.urgent |= !passed;
                (task.step, task.tell)
            }
            Order::Attempt { call, failed, next, at, tell } => {
                self.urgent = true;
                (Some(Step::Attempt { call, failed, next, at }), Tell::Attempt(tell))
            }
            Order::Settle { call, spent, at, nonce } => {
                // If the reservation is on its way already, it is not this that is waited for.
                self.urgent |= called_up && nonce.is_some();
                (Some(Step::Settle { call, spent, at, nonce }), Tell::Nobody)
            }
            Order::Release { call, why } => (Some(Step::Release { call, why }), Tell::Nobody),
            Order::Reap { call, tell } => {
                self.urgent |= tell.is_some();
                (Some(Step::Reap { call }), Tell::Reap(tell))
            }
            Order::Flush(tell) => {
                // What was told before is written before.
                self.tasks.extend(self.later.drain(..).map(|(_, task)| task));
                self.urgent = true;
                (None, Tell::Flush(tell))
            }
            Order::Close(tell) => {
                self.all = true;
                self.closers.push(tell);
                return;
            }
        };
        self.since.get_or_insert_with(Instant::now);
        self.tasks.push(Task { step, tell });
    }

    async fn write(&mut self) {
        (self.since, self.urgent) = (None, false);
        let tasks = mem::take(&mut self.tasks);
        let mut steps = Vec::with_capacity(tasks.len());
        let mut tells = Vec::with_capacity(tasks.len());
        for task in tasks {
            tells.push((task.step.is_some().then_some(steps.len()), task.tell));
            steps.extend(task.step);
        }
        if steps.is_empty() {
            self.tell(tells, &[]);
            return;
        }
        match self.try_write(steps).await {
            Ok(outcomes) => {
                self.pause = None;
                self.tell(tells, &outcomes);
            }
            Err((steps, error)) => self.put_back(steps, tells, &error).await,
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
        let settings = &self.shared.settings;
        let mut request = Arc::new(Post {
            steps,
            limits: self.shared.limits(),
            unknown: settings.unknown,
            held: settings.held,
            now: self.shared.clock.now(),
        });
        let pairs = whole::pairs(&request.steps, &request.limits, store.most_wholes());
        let written = match pairs {
            Some(pairs) => self.write_whole(request.clone(), pairs).await,
            None => Ok(None),
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
        let args = (request, pairs);
        store.write_statement(args, |tx, (request, pairs)| Box::pin(whole::write(tx, request, pairs))).await
    }

    /// After a failure: tells those who can be told, and keeps what must be written.
    async fn put_back(&mut self, steps: Vec<Step>, tells: Tells, error: &Error) {
        let alone = steps.len() == 1;
        // A mistake in one order must not keep the others from being written. One by one, only that one fails.
        let fault = matches!(error, Error::Fault(_));
        let mut steps: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
        let mut tasks = Vec::new();
        for (at, tell) in tells {
            let step = at.and_then(|at| steps.get_mut(at)).and_then(Option::take);
            match (step, tell) {
                (Some(step), tell) if fault && !alone => tasks.push(Task { step: Some(step), tell }),
                (Some(step), tell) if fault => {
                    tracing::error!(%error, call.id = %step.call(), "an order of the ledger cannot be written");
                    refuse(tell, error);
                }
                (Some(step), tell @ (Tell::Nobody | Tell::Reserve { passed: true, .. })) => {
                    tasks.push(Task { step: Some(step), tell });
                }
                (Some(_), tell) => refuse(tell, error),
                (None, tell) => tasks.push(Task { step: None, tell }),
            }
        }
        if fault && !alone {
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

    fn tell(&mut self, tells: Tells, outcomes: &[Outcome]) {
        for (at, tell) in tells {
            match (tell, at.and_then(|at| outcomes.get(at))) {
                (Tell::Reserve { call, passed, tell }, Some(Outcome::Reserve(outcome))) => {
                    let reserved = outcome.is_ok();
                    // Whoever went away before he was told will not come back for it.
                    if tell.send(outcome.clone()).is_err() && reserved && !passed {
                        let step = Step::Release { call, why: "nobody waited for it".to_owned() };
                        self.tasks.push(Task { step: Some(step), tell: Tell::Nobody });
                        self.since.get_or_insert_with(Instant::now);
                    }
                }
                (Tell::Attempt(tell), _) => drop(tell.send(Ok(()))),
                (Tell::Reap(Some(tell)) | Tell::Flush(tell), _) => drop(tell.send(())),
                (Tell::Reserve { .. } | Tell::Reap(None) | Tell::Nobody, _) => {}
            }
        }
    }
}

/// Puts a reservation into the group because something is said of its call, and answers whether there was one.
fn call_up(later: &mut VecDeque<(Instant, Task)>, call: &CallId, tasks: &mut Vec<Task>) -> bool {
    let found = later.iter().position(|(_, task)| task.step.as_ref().is_some_and(|step| step.call() == call));
    let Some((_, task)) = found.and_then(|at| later.remove(at)) else { return false };
    tasks.push(task);
    true
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
