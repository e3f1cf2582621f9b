//! The one place that reads the time and makes ids.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use salon_core::Time;
use ulid::Ulid;

/// Tells the time. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// The machine's steady clock, counted from what the time was at `began_ms`. A step of the wall clock moves nothing:
    /// leases and pauses are measured against this, and must not all end at once.
    Steady { began: Instant, began_ms: Arc<AtomicI64> },
    /// A clock that only moves when it is wound.
    Wound(Arc<AtomicI64>),
}

impl Default for Clock {
    fn default() -> Self {
        Clock { source: Source::Steady { began: steady(), began_ms: Arc::new(AtomicI64::new(wall_ms())) } }
    }
}

impl Clock {
    /// A clock for tests.
    pub fn wound_to(now: Time) -> Clock {
        Clock { source: Source::Wound(Arc::new(AtomicI64::new(now.0))) }
    }

    pub fn now(&self) -> Time {
        match &self.source {
            Source::Steady { began, began_ms } => {
                let elapsed = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
                Time(began_ms.load(Ordering::SeqCst).saturating_add(elapsed))
            }
            Source::Wound(now) => Time(now.load(Ordering::SeqCst)),
        }
    }

    /// Moves a test's clock on, whether it runs by itself or not.
    pub fn wind(&self, by: Duration) {
        self.shift(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }

    /// Takes over the time of the database that several processes share. To be called once, before work begins.
    pub fn set(&self, database_ms: i64) {
        self.shift(database_ms - self.now().0);
    }

    /// Follows another clock, the database's or the wall's, by at most `step` at a time: a clock that was set an hour
    /// forward is caught up with in small steps, and no lease ends early by it.
    pub fn follow(&self, other_ms: i64, step: Duration) {
        let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        self.shift((other_ms - self.now().0).clamp(-step, step));
    }

    fn shift(&self, by_ms: i64) {
        match &self.source {
            Source::Steady { began_ms: ms, .. } | Source::Wound(ms) => ms.fetch_add(by_ms, Ordering::SeqCst),
        };
    }

    /// What the machine's wall shows, which people may have set.
    pub fn wall(&self) -> Time {
        match &self.source {
            Source::Steady { .. } => Time(wall_ms()),
            Source::Wound(_) => self.now(),
        }
    }

    /// A new sortable id.
    pub fn id(&self) -> String {
        let ms = u64::try_from(self.now().0).unwrap_or(0);
        Ulid::from_parts(ms, rand::random()).to_string()
    }
}

fn wall_ms() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

fn steady() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    Instant::now()
}

#[cfg(test)]
mod tests {
    use salon_core::JobId;
    use salon_store::testing::Scratch;
    use salon_store::{Claimed, NewJob, Store, Worker};

    use super::*;

    #[test]
    fn a_step_of_another_clock_is_followed_in_small_steps() {
        let clock = Clock::default();
        let before = clock.now();
        clock.follow(before.0 + 3_600_000, Duration::from_secs(5));
        assert!(clock.now().since(before) < Duration::from_secs(10));
        clock.follow(before.0 - 7_200_000, Duration::from_secs(5));
        assert!(clock.now() >= before);
        clock.set(before.0 + 3_600_000);
        assert!(clock.now().since(before) >= Duration::from_secs(3_600));
    }

    #[test]
    fn the_wall_is_read_at_the_start_and_not_again() {
        let clock = Clock::default();
        assert!((clock.now().0 - clock.wall().0).abs() < 60_000);
        // As if somebody had set the wall's clock by half a century since.
        clock.set(1_000_000);
        assert!((1_000_000..1_060_000).contains(&clock.now().0), "{:?}", clock.now());
        assert!(clock.wall().0 > 1_700_000_000_000, "what the wall shows is still told");
    }

    /// A worker that renews its lease in time keeps it, whatever is done to the clock that ours follows, and nobody who
    /// looks for work takes its job. Renewed late, at half its length; followed as the house does, by a third of it.
    #[tokio::test]
    async fn a_jump_of_the_hosts_clock_reclaims_nothing() {
        const LEASE: Duration = Duration::from_secs(15);
        const HALF: Duration = Duration::from_millis(7_500);
        let scratch = Scratch::sqlite().await;
        for (number, jump_ms) in
            [3_600_000, -3_600_000, 86_400_000, -86_400_000, 10_000, -10_000].into_iter().enumerate()
        {
            let clock = Clock::wound_to(Time(1_000_000_000));
            let job = NewJob {
                id: JobId::new(format!("job {number}")),
                key: None,
                queue: "run",
                kind: "run",
                lane: format!("lane {number}"),
                bot: None,
                payload: "{}".to_owned(),
                now: clock.now(),
                room: None,
            };
            scratch.store.write(job, |tx, job| Box::pin(tx.enqueue(job))).await.expect("a job");
            let claimed = claim(&scratch.store, "one", clock.now(), LEASE).await;
            let [job] = claimed.as_slice() else { panic!("{claimed:?}") };
            let mut wall = clock.now().0 + jump_ms;
            for beat in 1..=16 {
                clock.wind(HALF);
                wall += i64::try_from(HALF.as_millis()).expect("a short time");
                if beat % 8 == 0 {
                    clock.follow(wall, LEASE / 3);
                }
                let taken = claim(&scratch.store, "another", clock.now(), LEASE).await;
                assert!(taken.is_empty(), "after a jump of {jump_ms} ms, at beat {beat}");
                let args = (job.ticket.clone(), clock.now() + LEASE);
                let held = scratch.store.write(args, |tx, (ticket, until)| {
                    Box::pin(async move { tx.hold(ticket, *until).await.map(drop) })
                });
                held.await.expect("it is held");
            }
            let args = (job.ticket.clone(), clock.now());
            let ended = scratch.store.write(args, |tx, (ticket, now)| {
                Box::pin(async move {
                    let held = tx.hold(ticket, *now + LEASE).await?;
                    tx.finish(held, *now).await
                })
            });
            ended.await.expect("it ends");
        }
    }

    async fn claim(store: &Store, owner: &str, now: Time, lease: Duration) -> Vec<Claimed> {
        let worker = Worker { owner: owner.to_owned(), boot: "1".to_owned(), only: None };
        let claimed = store.write((worker, now, lease), |tx, (worker, now, lease)| {
            Box::pin(tx.claim("run", worker, *now, *now + *lease, *now + *lease * 3, 10))
        });
        claimed.await.expect("a claim")
    }
}
