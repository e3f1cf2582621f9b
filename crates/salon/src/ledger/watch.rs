//! What happens by itself: overdue calls are given up, changed limits are noticed, accounts are counted anew.
//!
//! Each task ends when nobody has the book any more.

use std::sync::Arc;
use std::time::Duration;

use salon_core::Time;
use salon_store::Error;
use salon_store::ledger::Difference;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::keeper::{Order, Task, Tell};
use super::post::Step;
use super::{Shared, closed};

/// Calls that are given up, and accounts that are counted, in one go.
const AT_ONCE: i64 = 500;
/// A window that has ended may still get late settlements, so it is counted for some days more.
const STILL_COUNTED: Duration = Duration::from_secs(3 * 24 * 3600);

pub(super) async fn reap(shared: Arc<Shared>, orders: mpsc::WeakSender<Order>) {
    let mut watch = Watch::new(shared.settings.reap_every, orders);
    while let Some(orders) = watch.next().await {
        if let Err(error) = reap_once(&shared, &orders).await {
            tracing::warn!(%error, "overdue calls could not be given up");
        }
    }
}

pub(super) async fn look(shared: Arc<Shared>, orders: mpsc::WeakSender<Order>) {
    let mut watch = Watch::new(shared.settings.look_every, orders);
    while watch.next().await.is_some() {
        if let Err(error) = look_once(&shared).await {
            tracing::warn!(%error, "limits could not be looked at");
        }
    }
}

pub(super) async fn check(shared: Arc<Shared>, orders: mpsc::WeakSender<Order>) {
    // Often, a few at a time; each account only as often as the settings say.
    let every = (shared.settings.check_every / 24).max(Duration::from_secs(1));
    let mut watch = Watch::new(every, orders);
    while watch.next().await.is_some() {
        let before = shared.clock.now() - shared.settings.check_every;
        if let Err(error) = check_once(&shared, before).await {
            tracing::warn!(%error, "accounts could not be counted");
        }
    }
}

/// Now and then, as long as somebody has the book.
struct Watch {
    ticks: Interval,
    orders: mpsc::WeakSender<Order>,
}

impl Watch {
    fn new(every: Duration, orders: mpsc::WeakSender<Order>) -> Watch {
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Watch { ticks, orders }
    }

    /// `None` once the book is gone or closed. The sender is to be held only while at work, or the book would never end.
    async fn next(&mut self) -> Option<mpsc::Sender<Order>> {
        self.ticks.tick().await;
        self.orders.upgrade().filter(|orders| !orders.is_closed())
    }
}

pub(super) async fn reap_once(shared: &Shared, orders: &mpsc::Sender<Order>) -> Result<usize, Error> {
    let now = shared.clock.now();
    let mut count = 0;
    loop {
        let overdue = shared.store.read().await?.list_overdue(now, AT_ONCE).await?;
        let found = overdue.len();
        let mut told = Vec::with_capacity(found);
        for call in overdue {
            let (tell, hear) = oneshot::channel();
            let task = Task { step: Some(Step::Reap { call }), tell: Tell::Reap(tell), leaf: None };
            orders.send(Order::Do(task)).await.map_err(|_| closed())?;
            told.push(hear);
        }
        for hear in told {
            hear.await.map_err(|_| Error::Unavailable("the ledger could not be written".to_owned()))?;
        }
        count += found;
        if found < AT_ONCE as usize {
            break;
        }
    }
    if count > 0 {
        tracing::info!(calls = count, "calls that nobody came back for were given up");
    }
    shared.store.write(now, |tx, now| Box::pin(async move { tx.expire_held(*now).await })).await?;
    Ok(count)
}

async fn look_once(shared: &Shared) -> Result<(), Error> {
    let revision = shared.store.read().await?.limits_revision().await?;
    if revision != shared.limits().revision {
        shared.load().await?;
    }
    Ok(())
}

pub(super) async fn check_once(shared: &Shared, before: Time) -> Result<Vec<Difference>, Error> {
    let now = shared.clock.now();
    let mut found = Vec::new();
    loop {
        let ids = shared.store.read().await?.list_unchecked(before, now - STILL_COUNTED, AT_ONCE).await?;
        let count = ids.len();
        for id in ids {
            let difference = shared
                .store
                .write((id, now), |tx, (id, now)| Box::pin(async move { tx.check_account(id, *now).await }))
                .await?;
            if let Some(difference) = difference {
                tracing::error!(
                    account.id = difference.account,
                    spent = difference.spent,
                    entries = difference.spent_by_entries,
                    reserved = difference.reserved,
                    calls = difference.reserved_by_calls,
                    "an account disagrees with its entries and is stopped"
                );
                found.push(difference);
            }
        }
        if count < AT_ONCE as usize {
            return Ok(found);
        }
    }
}
