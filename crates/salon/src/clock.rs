//! The one place that reads the time and makes ids.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use salon_core::Time;
use ulid::Ulid;

/// Tells the time. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// The machine's clock, corrected by what the shared database said.
    System { offset_ms: Arc<AtomicI64> },
    /// A clock that only moves when it is wound.
    Wound(Arc<AtomicI64>),
    /// The machine's clock, as far ahead as it was wound.
    Ahead(Arc<AtomicI64>),
}

impl Default for Clock {
    fn default() -> Self {
        Clock { source: Source::System { offset_ms: Arc::new(AtomicI64::new(0)) } }
    }
}

impl Clock {
    /// A clock for tests.
    pub fn wound_to(now: Time) -> Clock {
        Clock { source: Source::Wound(Arc::new(AtomicI64::new(now.0))) }
    }

    /// A clock for tests of everything together: it runs by itself and can be wound besides.
    pub fn running() -> Clock {
        Clock { source: Source::Ahead(Arc::default()) }
    }

    pub fn now(&self) -> Time {
        match &self.source {
            Source::System { offset_ms } => Time(system_ms() + offset_ms.load(Ordering::Relaxed)),
            Source::Wound(now) => Time(now.load(Ordering::SeqCst)),
            Source::Ahead(by) => Time(system_ms() + by.load(Ordering::SeqCst)),
        }
    }

    /// Moves a test's clock on. The system's clock is not ours to move.
    pub fn wind(&self, by: Duration) {
        if let Source::Wound(ms) | Source::Ahead(ms) = &self.source {
            ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }

    /// Follows the clock of the database that several processes share, so that they agree about leases.
    pub fn follow(&self, database_ms: i64) {
        if let Source::System { offset_ms } = &self.source {
            offset_ms.store(database_ms - system_ms(), Ordering::Relaxed);
        }
    }

    /// A new sortable id.
    pub fn id(&self) -> String {
        let ms = u64::try_from(self.now().0).unwrap_or(0);
        Ulid::from_parts(ms, rand::random()).to_string()
    }
}

fn system_ms() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}
