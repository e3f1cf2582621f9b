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
}
