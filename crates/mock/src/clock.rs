//! The mock's time: Unix milliseconds that never step back, so that an adjusted system clock cannot reorder a timeline.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Unix milliseconds, read once from the system and continued by the monotonic clock, which tests can pause.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started_at: i64,
    started: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the mock stands outside the program and has no `salon::Clock`")]
    pub fn start() -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Clock { started_at: millis(since_epoch), started: Instant::now() }
    }

    pub fn now(&self) -> i64 {
        self.started_at + millis(self.started.elapsed())
    }

    /// When `at` will be, for `sleep_until`; a time in the past is now.
    pub fn instant(&self, at: i64) -> Instant {
        self.started + Duration::from_millis(u64::try_from(at - self.started_at).unwrap_or(0))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
