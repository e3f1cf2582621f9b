//! The ledger: what calls may take is reserved before, and what they took is settled after.
//!
//! ```text
//! reserve ─► (first attempt) ─► upstream ─► settle        every call once, however it ends
//!               └─ attempt 2 …           └► release       it never reached an upstream
//!                                        └► (reaper)      nobody came back: released, or unknown
//! ```
//! One task per process, the *keeper*, takes what waits and writes it as one transaction ([`post`]), so that many calls
//! share a commit and a handful of statements. Balances are read, and locked, inside that transaction alone: what this
//! process remembers are the limits, to know whether a call has to wait, and their revision is compared again in there.
//! So any number of processes may share a database.
//!
//! A call to which no limit applies is let through at once; [`Reserved::durable`] is awaited before anything of the
//! answer is passed on, or [`Reserved::settle_durable`] if it is whole by then. A limit that another process added a
//! moment ago is found by the transaction, and told there.
//!
//! Where this process has the data for itself, such a call, and the end of every call, is first put down in a [`journal`]
//! beside it: then nobody has to wait for the database, and what was put down is written there in large groups, or by the
//! next process if this one dies.

mod journal;
mod keeper;
mod later;
mod post;
mod tab;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use salon_core::limit::Headroom;
use salon_core::overrun::Overrun;
use salon_core::{
    Amounts, CallId, Limit, LimitId, Limits, Measure, Micros, OrgId, Period, Policy, Scope, Time, Tokens, UserId,
};
use salon_store::ledger::{CallState, Difference};
use salon_store::{Error, Store, Terms, Tx};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error as ThisError;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::Clock;
use crate::audit::{Action, Deed, Pen, note};
use journal::Journal;
use keeper::{Order, Task, Tell};
use post::{Passage, Post, Step};
use tab::Slip;

pub use salon_store::ledger::{Attempt, AttemptState, Payer};
pub use tab::{Charges, Posting, Tab};

/// Orders that may wait for the keeper.
const WAITING: usize = 4096;
/// How long a caller waits for a place among them, and for the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a reader waits for what is to be written yet.
const CATCH_UP: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct BookSettings {
    /// The folder of the journal. No other process may change limits, or have the same one.
    pub journal: Option<PathBuf>,
    /// How long a settlement waits for others to share its commit, if nobody is waiting for it.
    pub linger: Duration,
    pub unknown: Unknown,
    /// How long a call that needs an admin's consent is kept, and how long the consent is good.
    pub held: Duration,
    pub reap_every: Duration,
    /// How often this process looks whether others have changed limits.
    pub look_every: Duration,
    /// How often each account is counted anew.
    pub check_every: Duration,
}

impl Default for BookSettings {
    fn default() -> Self {
        BookSettings {
            journal: None,
            linger: Duration::from_millis(5),
            unknown: Unknown::Report,
            held: Duration::from_secs(24 * 3600),
            reap_every: Duration::from_secs(30),
            look_every: Duration::from_millis(500),
            check_every: Duration::from_secs(24 * 3600),
        }
    }
}

impl BookSettings {
    /// With a journal: what nobody waits for may gather for longer.
    pub fn journaled(folder: PathBuf) -> BookSettings {
        BookSettings { journal: Some(folder), linger: Duration::from_millis(50), ..BookSettings::default() }
    }
}

/// What is done about a call whose end nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing is charged, and reports name what it may have cost.
    Report,
    /// The most that it may have cost is charged; if its end becomes known after all, that is given back.
    UpperBound,
}

/// A call that somebody wants to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// A new id; or that of a call that was held, and is approved by now.
    pub call: CallId,
    /// The id was made for this call a moment ago, so that nothing can be known of it yet.
    pub fresh: bool,
    pub payer: Payer,
    /// Where it came in, such as `messages`.
    pub door: String,
    /// The model that is asked for.
    pub model: String,
    /// The most that it may take.
    pub most: Amounts,
    /// By when it has ended; after that nobody is believed to be at it.
    pub deadline: Time,
    /// What will be asked first. It is written down in the same commit, so that there is one before the first byte.
    pub first: Option<Attempt>,
    /// What it is a share of, if several calls are agreed to as one.
    #[serde(default)]
    pub share: Option<Box<Share>>,
}

/// A call's place among several to which an administrator agrees, or not, as to one: those of a panel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// It is the first. Where somebody has to agree, it is to all of them, under a number of their own.
    First { of: CallId, model: String, most: Amounts },
    /// A later one. It takes from what is set aside for all of them, if something is. Nobody is asked about it alone.
    Of(CallId),
}

impl Share {
    fn of(&self) -> &CallId {
        match self {
            Share::First { of, .. } | Share::Of(of) => of,
        }
    }
}

/// What a call took in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The attempt that was answered; `None` if none was needed.
    pub attempt: Option<i64>,
    pub upstream: String,
    /// The upstream's name for the model that answered.
    pub upstream_model: String,
    /// Whose provider key was used.
    pub whose: String,
    pub tokens: Tokens,
    pub micros: Micros,
    /// Counted by us; the upstream did not say.
    pub estimated: bool,
    /// The upstream's figures could not be true.
    pub suspect: bool,
    pub cache_hit: bool,
}

impl Spent {
    fn amounts(&self) -> Amounts {
        Amounts { micros: self.micros.0.max(0), tokens: self.tokens.total().max(0), requests: 1 }
    }
}

/// Where a limit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub limit: LimitId,
    pub scope: Scope,
    pub measure: Measure,
    pub period: Period,
    pub policy: Policy,
    pub headroom: Headroom,
}

impl Standing {
    /// That it has no room, with the day on which it begins anew and the zone of that day, if that is to be told.
    pub fn overrun(&self, anew: Option<(String, String)>) -> Overrun {
        Overrun {
            scope: self.scope,
            measure: self.measure,
            period: self.period,
            policy: self.policy,
            limit: self.headroom.limit,
            remaining: self.headroom.remaining,
            anew,
        }
    }
}

/// What was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// The limits that apply, the narrowest first, as they stand with this call reserved.
    pub standings: Vec<Standing>,
    /// Those of them that only warn, and are exceeded.
    pub warnings: Vec<LimitId>,
}

/// Why a call may not be made.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum NotReserved {
    /// A limit has no room for it.
    #[error("the limit {} has no room", .0.limit)]
    Over(Box<Standing>),
    /// An admin has to agree first; then it may be reserved again with this id.
    #[error("the call {call} waits for an admin")]
    Held { call: CallId, limit: Option<LimitId> },
    /// An admin said no, or nobody said anything for too long, or the yes was to another call than this.
    #[error("the call was denied")]
    Denied,
    /// There was a call of this id already.
    #[error("the call was made already")]
    Duplicate,
    /// An account disagrees with its entries; until somebody has looked, nothing is paid from it.
    #[error("the account {account} is stopped")]
    Stopped { account: String },
    /// The database is away. Nothing was reserved; trying again later is right.
    #[error("the ledger is not available: {0}")]
    Unavailable(String),
}

/// The ledger of one process. Cheap to clone; when the last one goes, what waits is written and the tasks end.
#[derive(Clone)]
pub struct Book {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

/// What the book's tasks know.
struct Shared {
    store: Store,
    clock: Clock,
    settings: BookSettings,
    limits: RwLock<Arc<Limits>>,
    journal: Option<Journal>,
    /// Somebody waits for what lingers.
    hurry: Notify,
}

impl Shared {
    fn limits(&self) -> Arc<Limits> {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers limits, unless newer ones are known.
    fn learn(&self, limits: Arc<Limits>) {
        let mut known = self.limits.write().unwrap_or_else(PoisonError::into_inner);
        if known.revision < limits.revision {
            *known = limits;
        }
    }

    /// These steps, to be posted with what this process knows.
    fn post(&self, steps: Vec<Step>) -> Post {
        Post {
            steps,
            limits: self.limits(),
            unknown: self.settings.unknown,
            held: self.settings.held,
            now: self.clock.now(),
        }
    }

    async fn load(&self) -> Result<(), Error> {
        let limits = self.store.read().await?.load_limits().await?;
        self.learn(Arc::new(limits));
        Ok(())
    }
}

impl Book {
    /// Reads the limits, writes what the last process left in its journal, and starts the keeper, the reaper and the watch
    /// over limits and accounts.
    pub async fn open(store: Store, clock: Clock, settings: BookSettings) -> Result<Book, Error> {
        let limits = store.read().await?.load_limits().await?;
        let journal = settings.journal.as_deref().map(Journal::open).transpose();
        let journal = journal.context("the ledger's journal cannot be opened")?;
        let left = journal.as_ref().map_or(0, Journal::len);
        let limits = RwLock::new(Arc::new(limits));
        let shared = Arc::new(Shared { store, clock, settings, limits, journal, hurry: Notify::new() });
        let (orders, waiting) = mpsc::channel(WAITING);
        tokio::spawn(keeper::keep(shared.clone(), waiting));
        tokio::spawn(watch::reap(shared.clone(), orders.downgrade()));
        tokio::spawn(watch::look(shared.clone(), orders.downgrade()));
        tokio::spawn(watch::check(shared.clone(), orders.downgrade()));
        let book = Book { shared, orders };
        if left > 0 {
            // What is in the database already is found there, and not written again.
            book.flush().await?;
            tracing::info!(lines = left, "the ledger was brought up to its journal");
        }
        Ok(book)
    }

    /// Reserves what a call may take, from every limit that applies or from none.
    ///
    /// Where a limit applies, the reservation and the first attempt are on the disk when this returns; where none does,
    /// they will be soon: see [`Reserved::durable`].
    pub async fn reserve(&self, quote: Quote) -> Result<Reserved, NotReserved> {
        let waits = self.applies(&quote.payer);
        let call = quote.call.clone();
        let (nonce, at) = (rand::random(), self.shared.clock.now());
        let reserved = |told: Option<oneshot::Receiver<_>>, begun| {
            let (granted, book) = (Granted::default(), Some(self.clone()));
            Reserved { call: call.clone(), nonce, noted: told.is_none(), told, granted, book, begun, tab: None }
        };
        if let Some(journal) = self.shared.journal.as_ref().filter(|_| !waits && quote.fresh) {
            within_patience(journal.room.acquire()).await?.forget();
            let step = Step::Reserve { quote: Box::new(quote), at, passage: Passage::Noted, nonce };
            journal
                .note(step)
                .map_err(|(_, error)| NotReserved::Unavailable(format!("the journal cannot be written: {error}")))?;
            return Ok(reserved(None, true));
        }
        let place = within_patience(self.orders.reserve()).await?;
        let (tell, told) = oneshot::channel();
        let passage = if waits { Passage::Waits } else { Passage::Passed };
        let step = Step::Reserve { quote: Box::new(quote), at, passage, nonce };
        let tell = Tell::Reserve { call: call.clone(), passed: !waits, tell };
        place.send(Order::Do(Task { step: Some(step), tell, leaf: None }));
        let mut reserved = reserved(Some(told), !waits);
        if waits {
            reserved.durable().await?;
            reserved.begun = true;
        }
        Ok(reserved)
    }

    /// Whether a limit applies to this payer, as far as this process knows.
    pub fn applies(&self, payer: &Payer) -> bool {
        let limits = self.shared.limits();
        limits.know(&payer.org)
            && payer.subjects().any(|(scope, subject)| limits.on(&payer.org, scope, subject).next().is_some())
    }

    /// Writes down that another upstream will be asked, and how the attempt before ended. On the disk when this returns.
    pub async fn attempt(&self, call: &CallId, failed: Option<Failed>, next: Attempt) -> Result<(), Error> {
        let (tell, told) = oneshot::channel();
        let at = self.shared.clock.now();
        let step = Step::Attempt { call: call.clone(), failed, next: Box::new(next), at };
        let task = Task { step: Some(step), tell: Tell::Attempt(tell), leaf: None };
        self.orders.send(Order::Do(task)).await.map_err(|_| closed())?;
        tokio::time::timeout(PATIENCE, told).await.map_err(|_| behind())?.map_err(|_| closed())?
    }

    /// Charges a call. It counts once, however often and however late it is told. Returns as soon as it is in line;
    /// what is in line is written within milliseconds, or as soon as the database can be had.
    pub async fn settle(&self, call: &CallId, spent: Spent) {
        self.settle_reserved(call, spent, None).await;
    }

    async fn settle_reserved(&self, call: &CallId, spent: Spent, nonce: Option<i64>) {
        let at = self.shared.clock.now();
        let step = Step::Settle { call: call.clone(), spent: Box::new(spent), at, nonce };
        if !self.end(step).await {
            tracing::error!(call.id = %call, "a call could not be settled, because the ledger is closed");
        }
    }

    /// Puts the end of a call down, or in line where that cannot be. `false` if there is no line any more.
    async fn end(&self, mut step: Step) -> bool {
        if let Some(journal) = &self.shared.journal {
            match journal.note(step) {
                Ok(()) => return true,
                Err((back, error)) => {
                    tracing::warn!(%error, call.id = %back.call(), "the journal cannot be written");
                    step = back;
                }
            }
        }
        self.orders.send(Order::Do(Task { step: Some(step), tell: Tell::Nobody, leaf: None })).await.is_ok()
    }

    /// Gives back what was reserved for a call that certainly cost nothing: it reached no upstream, or only such that
    /// failed at once.
    pub async fn release(&self, call: &CallId, why: &str) {
        // The reaper does it otherwise.
        self.end(Step::Release { call: call.clone(), why: why.to_owned() }).await;
    }

    /// Lets a held call through: it may be reserved once more with its id. `false` if it does not wait.
    pub async fn approve(&self, org: &OrgId, call: &CallId, pen: &Pen) -> Result<bool, Error> {
        self.decide(org, call, CallState::Approved, pen).await
    }

    /// Refuses a held call. `false` if it does not wait.
    pub async fn deny(&self, org: &OrgId, call: &CallId, pen: &Pen) -> Result<bool, Error> {
        self.decide(org, call, CallState::Denied, pen).await
    }

    async fn decide(&self, org: &OrgId, call: &CallId, to: CallState, pen: &Pen) -> Result<bool, Error> {
        let deadline = self.shared.clock.now() + self.shared.settings.held;
        let args = (org.clone(), call.clone(), to, pen.clone(), deadline);
        self.shared
            .store
            .write(args, |tx, (org, call, to, pen, deadline)| {
                Box::pin(async move {
                    let by = UserId::new(pen.actor().to_string());
                    let decided = tx.decide_call(org, call, *to, &by, *deadline).await?;
                    if decided {
                        let yes = *to == CallState::Approved;
                        let action = if yes { Action::CallApproved } else { Action::CallDenied };
                        note(tx, pen, Deed::new(action, org, call)).await?;
                    }
                    Ok(decided)
                })
            })
            .await
    }

    /// Adds a limit, which holds at once here and with the next call everywhere else. `false` if there is one of this id.
    pub async fn add_limit(&self, limit: Limit, pen: &Pen) -> Result<bool, Error> {
        if let Some(fault) = limit.fault() {
            return Err(anyhow::anyhow!("not a limit: {fault}").into());
        }
        let args = (limit, self.shared.clock.now(), pen.clone());
        let write = self.shared.store.write(args, |tx, (limit, now, pen)| {
            Box::pin(async move {
                let added = tx.add_limit(limit, *now).await?;
                if added {
                    let detail = json!({
                        "scope": limit.scope.as_str(), "subject": limit.subject, "measure": limit.measure.as_str(),
                        "period": limit.period.as_str(), "amount": limit.amount, "policy": limit.policy.as_str(),
                    });
                    note(tx, pen, Deed::new(Action::LimitAdded, &limit.org, &limit.id).with(detail)).await?;
                }
                Ok(added)
            })
        });
        self.learn_after(write.await?).await
    }

    /// Changes how much a limit allows, and what happens beyond. `false` if there is no such limit.
    pub async fn change_limit(&self, org: &OrgId, id: &LimitId, terms: Terms, pen: &Pen) -> Result<bool, Error> {
        if let Some(fault) = salon_core::limit::fault_of(terms.amount, &terms.thresholds) {
            return Err(anyhow::anyhow!("not a limit: {fault}").into());
        }
        let args = (org.clone(), id.clone(), terms, self.shared.clock.now(), pen.clone());
        let write = self.shared.store.write(args, |tx, (org, id, terms, now, pen)| {
            Box::pin(async move {
                let changed = tx.change_limit(org, id, terms, *now).await?;
                if changed {
                    let detail = json!({ "amount": terms.amount, "policy": terms.policy.as_str() });
                    note(tx, pen, Deed::new(Action::LimitChanged, org, id).with(detail)).await?;
                }
                Ok(changed)
            })
        });
        self.learn_after(write.await?).await
    }

    /// Takes a limit away. `false` if there is no such limit.
    pub async fn remove_limit(&self, org: &OrgId, id: &LimitId, pen: &Pen) -> Result<bool, Error> {
        let args = (org.clone(), id.clone(), self.shared.clock.now(), pen.clone());
        let write = self.shared.store.write(args, |tx, (org, id, now, pen)| {
            Box::pin(async move {
                let removed = tx.remove_limit(org, id, *now).await?;
                if removed {
                    note(tx, pen, Deed::new(Action::LimitRemoved, org, id)).await?;
                }
                Ok(removed)
            })
        });
        self.learn_after(write.await?).await
    }

    /// Looks whether limits were changed by somebody else. Done by itself twice a second.
    pub async fn look(&self) -> Result<(), Error> {
        self.shared.load().await
    }

    async fn learn_after(&self, changed: bool) -> Result<bool, Error> {
        if changed {
            self.shared.load().await?;
        }
        Ok(changed)
    }

    /// Ends the calls whose deadline has passed: those that were never sent are released, of the others nobody knows.
    /// Answers how many there were. Done by itself every half minute.
    pub async fn reap(&self) -> Result<usize, Error> {
        watch::reap_once(&self.shared, &self.orders).await
    }

    /// Counts every account anew that was not counted for a day. One that disagrees with its entries is stopped, and
    /// named here. Done by itself now and then.
    pub async fn check(&self) -> Result<Vec<Difference>, Error> {
        watch::check_once(&self.shared, self.shared.clock.now() - self.shared.settings.check_every).await
    }

    /// Lets a stopped account be paid from again, with what its entries say. `false` if there is no such account.
    pub async fn resume(&self, org: &OrgId, account: &str) -> Result<bool, Error> {
        let args = (org.clone(), account.to_owned(), self.shared.clock.now());
        self.shared
            .store
            .write(args, |tx, (org, account, now)| {
                Box::pin(async move { tx.restate_account(org, account, *now).await })
            })
            .await
    }

    /// Waits until everything that was told is on the disk.
    pub async fn flush(&self) -> Result<(), Error> {
        let (tell, told) = oneshot::channel();
        self.orders.send(Order::Flush(tell)).await.map_err(|_| closed())?;
        told.await.map_err(|_| closed())
    }

    /// Reads the database as it is with everything that was told of calls: whoever was answered finds what it took. While
    /// it takes nothing, it is read as it stands.
    pub async fn read(&self) -> Result<Tx, Error> {
        self.catch_up().await;
        self.shared.store.read().await
    }

    /// The same for a report, whose figures are all of one moment.
    pub async fn report(&self) -> Result<Tx, Error> {
        self.catch_up().await;
        self.shared.store.snapshot().await
    }

    async fn catch_up(&self) {
        if tokio::time::timeout(CATCH_UP, self.flush()).await.is_err() {
            tracing::debug!("the ledger is read while something is to be written yet");
        }
    }

    /// Takes no more orders, and writes those that wait.
    pub async fn close(&self) {
        let (tell, told) = oneshot::channel();
        // Closed already if either fails.
        if self.orders.send(Order::Close(tell)).await.is_ok() {
            told.await.ok();
        }
    }
}

/// How an attempt failed, after which another is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub n: i64,
    /// Whether it may have been answered, and paid for, all the same.
    pub unknown: bool,
    /// Why, in a word.
    pub note: String,
}

/// A call that may be made. Dropping it says that nobody will come back: what was reserved is given back, and the call's
/// end is unknown if it may have been sent.
pub struct Reserved {
    call: CallId,
    /// Tells this reservation from others of its call.
    nonce: i64,
    /// It was put down, and is granted whatever the database will find.
    noted: bool,
    told: Option<oneshot::Receiver<Result<Granted, NotReserved>>>,
    granted: Granted,
    book: Option<Book>,
    /// Whether anybody was told that it may be made.
    begun: bool,
    /// What it takes is charged with the turn that it is made for.
    tab: Option<Tab>,
}

impl std::fmt::Debug for Reserved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reserved").field("call", &self.call).finish_non_exhaustive()
    }
}

impl Reserved {
    pub fn call(&self) -> &CallId {
        &self.call
    }

    /// Whether the reservation is known to be on the disk, or put down to be written there.
    pub fn is_durable(&self) -> bool {
        self.told.is_none()
    }

    /// Waits until the reservation and its first attempt are on the disk. To be awaited before anything of the answer is
    /// passed on. A refusal here means that the call must not have been made: end it, and tell nobody what it said.
    pub async fn durable(&mut self) -> Result<&Granted, NotReserved> {
        if self.told.is_some()
            && let Some(book) = &self.book
        {
            book.shared.hurry.notify_one();
        }
        self.hear().await
    }

    /// Waits until the keeper has told.
    async fn hear(&mut self) -> Result<&Granted, NotReserved> {
        if let Some(told) = &mut self.told {
            let told = tokio::time::timeout(PATIENCE, told).await;
            let answer = match told {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(NotReserved::Unavailable("the ledger is closed".to_owned())),
                Err(_) => Err(NotReserved::Unavailable("the ledger is behind".to_owned())),
            };
            self.told = None;
            match answer {
                Ok(granted) => self.granted = granted,
                Err(refusal) => {
                    // After a time-out it may still be written; then it is given back as for a drop.
                    if !matches!(refusal, NotReserved::Unavailable(_)) {
                        self.book = None;
                    }
                    return Err(refusal);
                }
            }
        }
        Ok(&self.granted)
    }

    /// What was granted, as far as it is known.
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// See [`Book::attempt`].
    pub async fn attempt(&self, failed: Option<Failed>, next: Attempt) -> Result<(), Error> {
        match &self.book {
            Some(book) => book.attempt(&self.call, failed, next).await,
            None => Err(closed()),
        }
    }

    /// Has the call charged by whoever closes the tab, if it has ended by then.
    pub fn charged_to(mut self, tab: &Tab) -> Reserved {
        self.tab = Some(tab.clone());
        self
    }

    /// See [`Book::settle`].
    pub async fn settle(mut self, mut spent: Spent) {
        if let (Some(tab), Some(book)) = (self.tab.take(), &self.book) {
            let at = book.shared.clock.now();
            match tab.put(Slip { reserved: self, spent, at }) {
                Ok(()) => return,
                Err(slip) => (self, spent) = (slip.reserved, slip.spent),
            }
        }
        if let Some(book) = self.book.take() {
            book.settle_reserved(&self.call, spent, self.noted.then_some(self.nonce)).await;
        }
    }

    /// Charges a call whose answer is whole before its reservation is known to be on the disk, and then waits as
    /// [`Reserved::durable`] does. Both are written at once, as one row that has ended, instead of one after the other.
    ///
    /// A call that is refused after all is not charged. One that is refused because the database was away too long may be
    /// charged once it is back: its answer was made, as for somebody who hung up.
    pub async fn settle_durable(&mut self, spent: Spent) -> Result<(), NotReserved> {
        if let Some(book) = self.book.clone() {
            let nonce = (self.noted || !self.is_durable()).then_some(self.nonce);
            book.settle_reserved(&self.call, spent, nonce).await;
        }
        // The settlement has called the reservation up; others may let groups go by.
        let told = self.hear().await.map(|_| ());
        // It is in line to be settled, so nobody need come back for it.
        self.book = None;
        told
    }

    /// See [`Book::release`].
    pub async fn release(mut self, why: &str) {
        if let Some(book) = self.book.take() {
            book.release(&self.call, why).await;
        }
    }

    /// Leaves the call to somebody who knows its id.
    pub fn keep(mut self) -> CallId {
        self.book = None;
        self.call.clone()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(book) = self.book.take() {
            let call = self.call.clone();
            let step = match self.begun {
                true => Step::Reap { call },
                false => Step::Release { call, why: "nobody waited for it".to_owned() },
            };
            // If there is no place, the reaper does it after the deadline.
            book.orders.try_send(Order::Do(Task { step: Some(step), tell: Tell::Nobody, leaf: None })).ok();
        }
    }
}

fn closed() -> Error {
    Error::Unavailable("the ledger is closed".to_owned())
}

/// Waits for a place: where many wait, the database is behind, and sets the pace.
async fn within_patience<T, E>(place: impl Future<Output = Result<T, E>>) -> Result<T, NotReserved> {
    match tokio::time::timeout(PATIENCE, place).await {
        Ok(Ok(place)) => Ok(place),
        Ok(Err(_)) => Err(NotReserved::Unavailable("the ledger is closed".to_owned())),
        Err(_) => Err(NotReserved::Unavailable("too many calls are waiting".to_owned())),
    }
}

fn behind() -> Error {
    Error::Unavailable("the ledger is behind".to_owned())
}
