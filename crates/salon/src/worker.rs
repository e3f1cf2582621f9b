//! The worker: claims jobs, keeps their leases alive, and says what becomes of them.
//!
//! One loop per queue claims whatever is due, up to its free slots, and runs each job in a task of its own. A loop is
//! woken by the hub, but not again at once, and looks by itself every poll interval. One more loop renews the leases
//! that are getting old and looks for stop requests that came from other processes. Dropping the future of
//! [`Crew::work`] ends the loops; the jobs end by their leases.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use salon_store::{Claimed, Error, Ticket};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Salon;
use crate::job::{Job, Lease, Next, Work};

/// A claim loop: the queue's name, and how many of its jobs may run at once in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    pub name: &'static str,
    pub slots: usize,
}

/// The jobs that a process knows, and the queues it works on.
pub struct Crew {
    salon: Arc<Salon>,
    jobs: HashMap<&'static str, Arc<dyn Job>>,
    queues: Vec<Queue>,
    /// Leases of jobs that run here, by job.
    live: Mutex<HashMap<Ticket, Arc<Work>>>,
    tasks: TaskTracker,
    /// Cancelled when the process wants to end: no more claims, and running jobs are asked to put themselves back.
    closing: CancellationToken,
}

/// How long a job rests that found the store away.
const STORE_AWAY: Duration = Duration::from_secs(2);
/// Leases that are renewed in one transaction: one row that waits for a lock must not cost all the others.
const RENEWED_AT_ONCE: usize = 16;
/// An endless job forgets how often it was begun: its pauses do not grow with its age.
const ENDLESS_ATTEMPTS: i64 = 4;
const STOP_POLL: Duration = Duration::from_millis(500);
const CLAIM_AT_MOST: usize = 64;
/// The least time between two claims of a queue, and in claims: one that takes long, because the database is busy or
/// many jobs wait behind others, leaves time for the rest. Who comes first is claimed at once; where many come, one
/// claim takes them together.
const CLAIM_PAUSE: Duration = Duration::from_millis(10);
const CLAIM_PAUSES: u32 = 8;

impl Crew {
    pub fn new(salon: Arc<Salon>, jobs: Vec<Arc<dyn Job>>, queues: Vec<Queue>) -> Arc<Crew> {
        Arc::new(Crew {
            salon,
            jobs: jobs.into_iter().map(|job| (job.kind(), job)).collect(),
            queues,
            live: Mutex::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Works until [`Crew::close`].
    pub async fn work(self: &Arc<Self>) {
        self.take_back().await;
        let mut loops = tokio::task::JoinSet::new();
        for queue in self.queues.clone() {
            let crew = self.clone();
            loops.spawn(async move { crew.claim_loop(queue).await });
        }
        let crew = self.clone();
        loops.spawn(async move { crew.keep_leases().await });
        let crew = self.clone();
        loops.spawn(async move { crew.heed_stops().await });
        while let Some(ended) = loops.join_next().await {
            // Dropping the set ends the other loops too, and whoever waits for this one sees that nothing works.
            if let Err(error) = ended {
                tracing::error!(%error, "a loop of the worker broke down");
                return;
            }
        }
    }

    /// Stops claiming and asks running jobs to put themselves back, then waits for them up to `patience`.
    /// Answers how many did not come back.
    pub async fn close(&self, patience: Duration) -> usize {
        self.closing.cancel();
        self.tasks.close();
        tokio::time::timeout(patience, self.tasks.wait()).await.ok();
        self.tasks.len()
    }

    pub fn running(&self) -> usize {
        self.tasks.len()
    }

    /// What an earlier start of this process left is claimable at once.
    async fn take_back(&self) {
        let taken = self.salon.store.write(self.salon.worker.clone(), |tx, worker| {
            Box::pin(async move {
                let endless = tx.reclaim_queue(worker, crate::QUEUE_POLL).await?;
                Ok(endless + tx.reclaim(worker).await?)
            })
        });
        match taken.await {
            Ok(0) => {}
            Ok(jobs) => tracing::info!(jobs, "took up what the last start left"),
            Err(error) => tracing::warn!(%error, "what the last start left waits for its leases"),
        }
    }

    async fn claim_loop(self: Arc<Self>, queue: Queue) {
        let slots = Arc::new(Semaphore::new(queue.slots));
        let wake = self.salon.hub.work(queue.name);
        loop {
            // Register before looking, so that what comes in between is not missed.
            let woken = wake.notified();
            tokio::pin!(woken);
            if woken.as_mut().enable() {
                // Told before we look: that needs no second look.
                woken.set(wake.notified());
                woken.as_mut().enable();
            }

            let Some(free) = self.free_slots(&slots).await else { return };
            let claimed_at = Instant::now();
            let claimed = match self.claim(&queue, free).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::warn!(queue = queue.name, %error, "nothing can be claimed");
                    self.salon.metrics.count("", "claim_failed");
                    self.rest(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let took = claimed_at.elapsed();
            let full = claimed.len() == free;
            for (job, at) in claimed {
                let permit = slots.clone().try_acquire_owned();
                debug_assert!(permit.is_ok(), "only this loop takes permits");
                let crew = self.clone();
                self.tasks.spawn(async move {
                    crew.run(job, at).await;
                    drop(permit);
                });
            }
            if !full {
                tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep(self.salon.settings.poll_interval) => {}
                    () = self.closing.cancelled() => return,
                }
                let pause =
                    (took * CLAIM_PAUSES).clamp(CLAIM_PAUSE, self.salon.settings.poll_interval.max(CLAIM_PAUSE));
                tokio::time::sleep_until(claimed_at + pause).await;
            }
        }
    }

    /// Waits for a free slot and answers how many there are; `None` once the crew is closing.
    async fn free_slots(&self, slots: &Semaphore) -> Option<usize> {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => None,
            permit = slots.acquire() => {
                drop(permit.ok()?);
                Some(slots.available_permits().clamp(1, CLAIM_AT_MOST))
            }
        }
    }

    async fn rest(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.closing.cancelled() => {}
        }
    }

    async fn claim(&self, queue: &Queue, limit: usize) -> Result<Vec<(Claimed, Instant)>, Error> {
        let salon = &self.salon;
        let now = salon.clock.now();
        let lease = salon.settings.lease;
        let at = Instant::now();
        let args = (queue.name, salon.worker.clone(), now, now + lease, now + lease * 3, limit as i64);
        let claimed = salon
            .store
            .write(args, |tx, (queue, worker, now, until, longest, limit)| {
                Box::pin(tx.claim(queue, worker, *now, *until, *longest, *limit))
            })
            .await?;
        Ok(claimed.into_iter().map(|job| (job, at)).collect())
    }

    async fn run(&self, job: Claimed, claimed_at: Instant) {
        let salon = &self.salon;
        let ticket = job.ticket.clone();
        let stop = salon.hub.register_stop(&ticket.job);
        if job.stop_requested {
            stop.cancel();
        }
        let lease = Lease::new(ticket.clone(), salon.settings.lease, stop, self.closing.clone(), claimed_at);
        let work = Arc::new(Work { job, lease });
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(ticket.clone(), work.clone());

        let outcome = self.attempt(&work).await;
        if let Err(error) = self.settle(&work, outcome).await {
            match error {
                Error::Fenced => {
                    salon.metrics.count("", "fenced_writes");
                    tracing::info!(job.id = %ticket.job, job.kind = work.job.kind, "somebody else has the job by now");
                }
                // The lease runs out by itself, and the job is taken up again.
                error => tracing::warn!(job.id = %ticket.job, job.kind = work.job.kind, %error, "a job was left"),
            }
        }
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
        salon.hub.forget_stop(&ticket.job);
    }

    async fn attempt(&self, work: &Arc<Work>) -> Result<Next, Error> {
        let Some(job) = self.jobs.get(work.job.kind.as_str()).cloned() else {
            return Ok(Next::Retry(format!("no job of kind {} is known here", work.job.kind)));
        };
        if work.job.attempts > self.salon.settings.attempts && !job.endless() {
            // It never came to its end: whoever ran it died of it each time.
            job.give_up(&self.salon, work, "it was begun too often and never ended").await?;
            self.salon.metrics.count(work.job.bot.as_ref().map_or("", |b| b.as_str()), "dead_letters");
            return Ok(Next::Ended);
        }
        let (salon, task_work) = (self.salon.clone(), work.clone());
        // A task of its own, so that a panic is one failed attempt and not the end of a loop.
        let running = tokio::spawn(async move { job.run(&salon, &task_work).await });
        match running.await {
            Ok(outcome) => outcome,
            Err(panic) => Ok(Next::Retry(format!("it panicked: {panic}"))),
        }
    }

    async fn settle(&self, work: &Work, outcome: Result<Next, Error>) -> Result<(), Error> {
        let salon = &self.salon;
        let now = salon.clock.now();
        let until = work.lease.until(salon);
        let ticket = work.lease.ticket.clone();
        let next = match outcome {
            Ok(next) => next,
            Err(Error::Fenced) => return Err(Error::Fenced),
            // The store's absence is not the job's failure, and uses up none of its attempts.
            Err(Error::Unavailable(_) | Error::Full) => Next::Snooze(STORE_AWAY),
            Err(Error::Refused(refusal)) => Next::Retry(refusal.to_string()),
            Err(error) => Next::Retry(format!("{error:#}")),
        };
        match next {
            Next::Ended => Ok(()),
            Next::Finish => {
                salon
                    .store
                    .write((ticket, until, now), |tx, (ticket, until, now)| {
                        Box::pin(async move {
                            let held = tx.hold(ticket, *until).await?;
                            tx.finish(held, *now).await
                        })
                    })
                    .await
            }
            Next::Snooze(pause) => {
                salon
                    .store
                    .write((ticket, until, now + pause), |tx, (ticket, until, available_at)| {
                        Box::pin(async move {
                            let held = tx.hold(ticket, *until).await?;
                            tx.snooze(held, *available_at).await
                        })
                    })
                    .await
            }
            Next::Retry(error) => self.retry(work, error).await,
        }
    }

    async fn retry(&self, work: &Work, error: String) -> Result<(), Error> {
        let salon = &self.salon;
        let job = self.jobs.get(work.job.kind.as_str());
        let endless = job.is_some_and(|job| job.endless());
        let bot = work.job.bot.as_ref().map_or("", |bot| bot.as_str());
        tracing::warn!(
            job.id = %work.lease.ticket.job, job.kind = work.job.kind, bot.name = bot, attempts = work.job.attempts,
            error, "a job failed"
        );
        if let Some(job) = job
            && work.job.attempts >= salon.settings.attempts
            && !endless
        {
            job.give_up(salon, work, &clipped(&error)).await?;
            salon.metrics.count(bot, "dead_letters");
            return Ok(());
        }
        let counted = if endless { work.job.attempts.min(ENDLESS_ATTEMPTS) } else { work.job.attempts };
        let pause = backoff(counted, salon.settings.longest_backoff);
        let args = (work.lease.ticket.clone(), work.lease.until(salon), clipped(&error), salon.clock.now() + pause);
        salon
            .store
            .write(args, |tx, (ticket, until, error, available_at)| {
                Box::pin(async move {
                    let held = tx.hold(ticket, *until).await?;
                    tx.retry(held, error, *available_at).await
                })
            })
            .await
    }

    /// Renews leases that are a third of their length old.
    async fn keep_leases(self: Arc<Self>) {
        let lease = self.salon.settings.lease;
        let mut beat = tokio::time::interval(lease / 6);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = self.closed() => return,
            }
            self.salon.metrics.count("", "worker_heartbeat");
            self.salon.hub.sweep();
            let old: Vec<_> = self.live().into_iter().filter(|work| work.lease.age() > lease / 3).collect();
            if old.is_empty() {
                continue;
            }
            for some in old.chunks(RENEWED_AT_ONCE) {
                self.renew(some).await;
            }
        }
    }

    async fn renew(&self, works: &[Arc<Work>]) {
        let at = Instant::now();
        let tickets: Vec<_> = works.iter().map(|work| work.lease.ticket.clone()).collect();
        let until = self.salon.clock.now() + self.salon.settings.lease;
        let lost = self.salon.store.write((tickets, until), |tx, (tickets, until)| {
            Box::pin(async move {
                let mut lost = Vec::new();
                for ticket in tickets {
                    match tx.hold(ticket, *until).await {
                        Ok(_) => {}
                        Err(Error::Fenced) => lost.push(ticket.clone()),
                        Err(error) => return Err(error),
                    }
                }
                Ok(lost)
            })
        });
        match lost.await {
            Ok(lost) => {
                for work in works {
                    if lost.contains(&work.lease.ticket) {
                        work.lease.lost.cancel();
                    } else {
                        work.lease.renewed(at);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "leases could not be renewed");
                for work in works.iter().filter(|work| work.lease.check().is_err()) {
                    work.lease.lost.cancel();
                }
            }
        }
    }

    /// Finds stop requests that were made in other processes; those of this one come through the hub.
    async fn heed_stops(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(STOP_POLL) => {}
                () = self.closed() => return,
            }
            let live = self.live();
            if live.is_empty() {
                continue;
            }
            let asked = async { self.salon.store.read().await?.list_stop_requests(&self.salon.worker).await };
            let Ok(asked) = asked.await else { continue };
            for work in live.iter().filter(|work| asked.contains(&work.lease.ticket.job)) {
                work.lease.stop.cancel();
            }
        }
    }

    /// Resolves when the crew is closing and nothing runs any more.
    async fn closed(&self) {
        self.closing.cancelled().await;
        self.tasks.wait().await;
    }

    fn live(&self) -> Vec<Arc<Work>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Doubles from two seconds up to `longest`, give or take a fifth.
fn backoff(attempts: i64, longest: Duration) -> Duration {
    let exponent = u32::try_from(attempts.clamp(1, 16)).unwrap_or(1);
    let pause = Duration::from_secs(1u64 << exponent).min(longest);
    pause.mul_f64(rand::random_range(0.8..1.2))
}

/// Error texts are for operators; two thousand characters tell enough.
fn clipped(error: &str) -> String {
    error.chars().take(2000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        let longest = Duration::from_secs(300);
        assert!(backoff(1, longest) <= Duration::from_millis(2_400));
        assert!(backoff(3, longest) >= Duration::from_millis(6_400));
        assert!(backoff(1000, longest) <= longest.mul_f64(1.2));
    }
}
