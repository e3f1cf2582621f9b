//! Long polling, as a job that never ends: its lease is the right to poll with a token.
//!
//! Two processes on one database cannot both hold it, and a poller that dies is taken up by whoever sees its lease run
//! out. The offset is stored with the batch it passes, so nothing is dropped and nothing stored twice.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use salon::arrive::Arrival;
use salon::{Job, Next, Salon, Work};
use salon_store::{Error, Seat};
use salon_telegram::types::ALLOWED_UPDATES;
use salon_telegram::{CallError, Class, RawUpdate};
use tokio::time::Instant;

use crate::fleet::{Bot, Fleet};
use crate::roster::Intake;

pub const KIND: &str = "poll";

const LONG_POLL_S: u32 = 25;
const BATCH: u32 = 100;
/// Fighting with another poller helps nobody; look again after this.
const CONFLICT_PAUSE: Duration = Duration::from_secs(30);

pub struct Poll {
    pub fleet: Arc<Fleet>,
}

#[async_trait]
impl Job for Poll {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn endless(&self) -> bool {
        true
    }

    async fn run(&self, salon: &Arc<Salon>, work: &Work) -> Result<Next, Error> {
        let bot = work.job.bot.as_ref().and_then(|id| self.fleet.find(id));
        let Some(bot) = bot.filter(|bot| bot.config.intake == Intake::Polling) else {
            // Whoever has the bot queues its poller again.
            return Ok(Next::Finish);
        };
        if bot.poll_lane() != work.job.lane {
            return Ok(Next::Finish);
        }
        tokio::select! {
            outcome = poll(salon, work, &bot) => outcome.map(|()| Next::Finish),
            () = work.lease.lost.cancelled() => Err(Error::Fenced),
            () = work.lease.closing.cancelled() => Ok(Next::Snooze(Duration::ZERO)),
            () = bot.gone.cancelled() => Ok(Next::Finish),
        }
    }
}

async fn poll(salon: &Salon, work: &Work, bot: &Bot) -> Result<(), Error> {
    let hash = bot.config.token.fingerprint();
    let mut offset = salon.store.read().await?.find_offset(bot.id(), &hash).await?;
    let mut trouble = Trouble::default();
    // A webhook of an earlier life would keep every update from us. Nothing that waits is dropped.
    while let Err(error) = bot.client.delete_webhook().await {
        trouble.pause(bot, &error).await;
    }
    bot.well();
    loop {
        work.lease.check()?;
        let asked = Instant::now();
        let updates = match bot.client.get_updates(offset, BATCH, LONG_POLL_S, ALLOWED_UPDATES).await {
            Ok(updates) => updates,
            Err(error) => {
                salon.metrics.count(bot.id().as_str(), "poll_failed");
                trouble.pause(bot, &error).await;
                continue;
            }
        };
        trouble = Trouble::default();
        bot.well();
        let Some(last) = updates.last() else {
            // A server that does not know how to wait is not asked a thousand times a second.
            if asked.elapsed() < Duration::from_secs(1) {
                tokio::time::sleep(salon.settings.poll_interval).await;
            }
            continue;
        };
        let next = last.update_id + 1;
        let seat = Seat { bot: bot.id().clone(), token_hash: hash.clone(), offset: next };
        let arrivals = read(salon, bot, &updates);
        match salon.arrive_batch(&work.lease.ticket, seat, &arrivals).await {
            Ok(()) => {
                salon.metrics.add(bot.id().as_str(), "poll_accept_total", arrivals.len() as u64);
                offset = Some(next);
            }
            // The offset stays, so Telegram hands out the same batch again.
            Err(error @ (Error::Unavailable(_) | Error::Full)) => {
                tracing::warn!(bot.name = %bot.id(), %error, "updates cannot be stored now");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What can be stored of a batch. An update that cannot even be read is counted and passed by: asking for it again
/// would bring it again.
fn read(salon: &Salon, bot: &Bot, updates: &[RawUpdate]) -> Vec<Arrival> {
    let mut arrivals = Vec::with_capacity(updates.len());
    for update in updates {
        match Arrival::read(bot.id(), update.json.as_bytes()) {
            Ok(arrival) => arrivals.push(arrival),
            Err(error) => {
                tracing::warn!(bot.name = %bot.id(), update.id = update.update_id, %error, "an update is unreadable");
                salon.metrics.count(bot.id().as_str(), "dead_letters");
            }
        }
    }
    arrivals
}

/// Growing pauses between failures.
#[derive(Default)]
struct Trouble {
    failures: u32,
}

impl Trouble {
    async fn pause(&mut self, bot: &Bot, error: &CallError) {
        bot.unwell(error);
        self.failures += 1;
        let growing = Duration::from_secs(1 << self.failures.min(5)).min(Duration::from_secs(30));
        let pause = match error.class() {
            Class::RateLimited(wait) => wait,
            // On this machine the other one is a person at the page, who does not want to wait.
            Class::Conflict if bot.config.is_local() => Duration::from_secs(2),
            Class::Conflict => CONFLICT_PAUSE,
            _ => growing,
        };
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.9..1.1))).await;
    }
}
