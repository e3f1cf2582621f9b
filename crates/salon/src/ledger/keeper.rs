//! The keeper: takes what waits, writes it as one transaction, and tells those who asked.
//!
//! While one group is being written the next one gathers, so groups grow with the load by themselves. What nobody waits
//! for lingers a few milliseconds for company. A group that the database does not take is tried again without those who
//! were told so; only a reservation that was passed, and what ends a call, stay.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use salon_core::{CallId, Time};
use salon_store::{Error, fail_point};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::post::{Outcome, Post, Posted, Step, post};
use super::{Attempt, Failed, Granted, NotReserved, Quote, Shared, Spent};

/// Orders in one transaction.
const GROUP: usize = 256;
/// How often accounts are opened for one group: a window may end meanwhile, and then another is needed.
const OPENINGS: usize = 4;
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
    /// Whether somebody stands still until this is written.
    fn is_urgent(&self) -> bool {
        match self {
            Order::Reserve { passed, .. } => !passed,
            Order::Reap { tell, .. } => tell.is_some(),
            Order::Attempt { .. } | Order::Flush(_) | Order::Close(_) => true,
            Order::Settle { .. } | Order::Release { .. } => false,
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
    let mut keeper = Keeper { shared, tasks: Vec::new(), closers: Vec::new(), pause: None, failures: 0 };
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
    tasks: Vec<Task>,
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
                Some(order) = orders.recv(), if self.tasks.len() < GROUP => { self.take(order); }
            }
        } else if self.tasks.is_empty() {
            let Some(order) = orders.recv().await else { return false };
            if !self.take(order) {
                self.linger(orders).await;
            }
        }
        while self.tasks.len() < GROUP {
            match orders.try_recv() {
                Ok(order) => drop(self.take(order)),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        true
    }

    /// Waits for company, but not when somebody waits for us.
    async fn linger(&mut self, orders: &mut mpsc::Receiver<Order>) {
        let until = Instant::now() + self.shared.settings.linger;
        while self.tasks.len() < GROUP {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => if self.take(order) { return },
                    None => return,
                },
                () = self.shared.hurry.notified() => return,
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    /// Puts an order into the group, and answers whether it is urgent.
    fn take(&mut self, order: Order) -> bool {
        let urgent = order.is_urgent();
        let (step, tell) = match order {
            Order::Reserve { quote, at, passed, nonce, tell } => {
                let call = quote.call.clone();
                (Some(Step::Reserve { quote, at, passed, nonce }), Tell::Reserve { call, passed, tell })
            }
            Order::Attempt { call, failed, next, at, tell } => {
                (Some(Step::Attempt { call, failed, next, at }), Tell::Attempt(tell))
            }
            Order::Settle { call, spent, at, nonce } => (Some(Step::Settle { call, spent, at, nonce }), Tell::Nobody),
            Order::Release { call, why } => (Some(Step::Release { call, why }), Tell::Nobody),
            Order::Reap { call, tell } => (Some(Step::Reap { call }), Tell::Reap(tell)),
            Order::Flush(tell) => (None, Tell::Flush(tell)),
            Order::Close(tell) => {
                self.closers.push(tell);
                return true;
            }
        };
        self.tasks.push(Task { step, tell });
        urgent
    }

    async fn write(&mut self) {
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
                    }
                }
                (Tell::Attempt(tell), _) => drop(tell.send(Ok(()))),
                (Tell::Reap(Some(tell)) | Tell::Flush(tell), _) => drop(tell.send(())),
                (Tell::Reserve { .. } | Tell::Reap(None) | Tell::Nobody, _) => {}
            }
        }
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
