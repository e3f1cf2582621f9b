//! How an upstream has been doing: its breaker, its retry budget, and how many are being served.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::{Fault, Settings, Trouble};

/// Over what time the share of retries is counted.
pub(super) const BUDGET_WINDOW: Duration = Duration::from_secs(60);

/// How one way to an answer has been doing: a server, or one of its models with one key.
#[derive(Debug)]
pub struct Health {
    breaker: Mutex<Breaker>,
    in_flight: AtomicU32,
    tries: AtomicU64,
    faults: AtomicU64,
}

/// What people may see of a [`Health`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub condition: Condition,
    /// In a row.
    pub failures: u32,
    pub in_flight: u32,
    /// Since the process started.
    pub tries: u64,
    /// Those of them that failed, refusals included.
    pub faults: u64,
    /// What went wrong last, if nothing went well since.
    pub last: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Well,
    /// It is left alone for this long.
    Resting(Duration),
    /// One call is seeing whether it is back.
    Probing,
}

impl Condition {
    /// A stable name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Well => "well",
            Condition::Resting(_) => "resting",
            Condition::Probing => "probing",
        }
    }
}

impl Health {
    pub fn new(settings: &Settings) -> Health {
        Health {
            breaker: Mutex::new(Breaker::new(settings.breaker_failures, settings.breaker_rest)),
            in_flight: AtomicU32::new(0),
            tries: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        }
    }

    /// Begins a try, unless the breaker says no with [`Fault::Resting`].
    pub fn admit(self: &Arc<Self>) -> Result<Try, Fault> {
        let now = Instant::now();
        if !self.breaker().admit(now) {
            return Err(Fault::Resting);
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.tries.fetch_add(1, Ordering::Relaxed);
        Ok(Try { health: self.clone(), since: now, open: true })
    }

    /// Whether [`Health::admit`] would let a try begin now. Takes no place.
    pub fn would_admit(&self) -> bool {
        match self.breaker().state {
            State::Closed => true,
            State::Open { until } => until <= Instant::now(),
            State::Probing { .. } => false,
        }
    }

    pub fn view(&self) -> View {
        let breaker = self.breaker();
        let condition = match breaker.state {
            State::Closed => Condition::Well,
            State::Open { until } => Condition::Resting(until.saturating_duration_since(Instant::now())),
            State::Probing { .. } => Condition::Probing,
        };
        View {
            condition,
            failures: breaker.failures,
            in_flight: self.in_flight.load(Ordering::Relaxed),
            tries: self.tries.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
            last: breaker.last,
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Whatever panicked while it held the lock left counters behind, not broken promises.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One try under way. Dropping it before its end, because someone asked to stop, says nothing about the health.
#[derive(Debug)]
pub struct Try {
    health: Arc<Health>,
    since: Instant,
    open: bool,
}

impl Try {
    /// The answer has begun. A probe makes room for others now, and not only when its long answer has ended; one more
    /// failure closes the door again.
    pub fn began(&mut self) {
        if self.open {
            self.health.breaker().began(self.since);
        }
    }

    pub fn succeeded(&mut self) {
        if std::mem::take(&mut self.open) {
            self.health.breaker().succeeded();
        }
    }

    /// Another try is about the same call, and says how it went.
    pub fn joined(&mut self) {
        self.open = false;
    }

    /// Only what says that the upstream is ill counts against it.
    pub fn failed(&mut self, fault: Fault) {
        if std::mem::take(&mut self.open) {
            self.health.faults.fetch_add(1, Ordering::Relaxed);
            let mut breaker = self.health.breaker();
            if fault.is_illness() {
                breaker.failed(Instant::now());
            } else {
                breaker.succeeded();
            }
            breaker.last = Some(fault);
        }
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        self.health.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.open {
            self.health.breaker().abandoned(self.since);
        }
    }
}

/// Leaves an upstream alone that fails again and again.
#[derive(Debug)]
struct Breaker {
    threshold: u32,
    rest: Duration,
    failures: u32,
    state: State,
    last: Option<Fault>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    /// One call is seeing whether the upstream is back.
    Probing {
        since: Instant,
    },
}

impl Breaker {
    fn new(threshold: u32, rest: Duration) -> Breaker {
        Breaker { threshold, rest, failures: 0, state: State::Closed, last: None }
    }

    fn admit(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } if now < until => false,
            State::Open { .. } => {
                self.state = State::Probing { since: now };
                true
            }
            State::Probing { .. } => false,
        }
    }

    fn began(&mut self, since: Instant) {
        if self.state == (State::Probing { since }) {
            self.state = State::Closed;
            self.failures = self.threshold.saturating_sub(1);
        }
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.state = State::Closed;
        self.last = None;
    }

    fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.threshold || matches!(self.state, State::Probing { .. }) {
            self.state = State::Open { until: now + self.rest };
        }
    }

    /// A probe that was given up leaves the place to the next call.
    fn abandoned(&mut self, since: Instant) {
        if self.state == (State::Probing { since }) {
            self.state = State::Open { until: since };
        }
    }
}

/// Lets retries be a tenth of the calls of the last minute or so, and a few more: when everything fails, asking
/// everything three times makes it worse.
#[derive(Debug)]
pub struct Budget {
    free: u32,
    count: Mutex<Count>,
}

#[derive(Debug)]
struct Count {
    window: Instant,
    calls: u32,
    retries: u32,
}

impl Budget {
    pub fn new(free: u32) -> Budget {
        Budget { free, count: Mutex::new(Count { window: Instant::now(), calls: 0, retries: 0 }) }
    }

    /// A question was asked for the first time.
    pub fn count_call(&self) {
        self.count().calls += 1;
    }

    /// Whether a question may be asked once more; if so, that is counted.
    pub fn take_retry(&self) -> bool {
        let mut count = self.count();
        let allowed = count.retries < self.free.saturating_add(count.calls / 10);
        count.retries += u32::from(allowed);
        allowed
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(count.window) >= BUDGET_WINDOW {
            *count = Count { window: now, calls: 0, retries: 0 };
        }
        count
    }
}

/// How long to pause before the same upstream is asked again; `None` if it should not be: the trouble will not pass, the
/// pause would be too long, the deadline too near, or the budget is spent.
pub(super) fn pause_before(
    tries: u32,
    trouble: &Trouble,
    settings: &Settings,
    deadline: Instant,
    budget: &Budget,
) -> Option<Duration> {
    if !trouble.fault.is_passing() || tries >= settings.tries {
        return None;
    }
    let pause = pause(settings, tries, trouble.retry_after);
    let asked_too_much = trouble.retry_after.is_some_and(|asked| asked > settings.longest_pause);
    if asked_too_much || Instant::now() + pause >= deadline || !budget.take_retry() {
        return None;
    }
    Some(pause)
}

/// The pause after the `tries`th try: doubling, shortened by chance, and no shorter than the upstream asked for.
///
/// What chance takes from the one it adds to the other: everybody was told the same time, and not everybody should
/// come back at it.
fn pause(settings: &Settings, tries: u32, retry_after: Option<Duration>) -> Duration {
    let full = settings.back_off.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(settings.longest_pause);
    let jittered = full.mul_f64(rand::rng().random_range(0.5..=1.0));
    jittered.max(retry_after.map_or(Duration::ZERO, |asked| asked.saturating_add(full - jittered)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_began_to_answer_lets_others_in_and_one_failure_shuts_them_out() {
        let settings = Settings::default();
        let health = Arc::new(Health::new(&settings));
        for _ in 0..5 {
            health.admit().expect("closed").failed(Fault::Busy);
        }
        assert_eq!(health.view().condition, Condition::Resting(Duration::from_secs(30)));
        tokio::time::advance(settings.breaker_rest).await;
        let mut probe = health.admit().expect("the probe");
        assert!(!health.would_admit());
        probe.began();
        let mut second = health.admit().expect("the answer runs, so others may ask");
        second.failed(Fault::Cut);
        assert!(!health.would_admit(), "it is not that well");
        probe.succeeded();
        assert_eq!(health.view().failures, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_view_counts_what_is_under_way_and_what_went_wrong() {
        let health = Arc::new(Health::new(&Settings::default()));
        let mut one = health.admit().expect("closed");
        let two = health.admit().expect("closed");
        assert_eq!(health.view().in_flight, 2);
        one.failed(Fault::Limit);
        drop((one, two));
        let view = health.view();
        assert_eq!((view.in_flight, view.tries, view.faults), (0, 2, 1));
        assert_eq!((view.condition, view.failures, view.last), (Condition::Well, 0, Some(Fault::Limit)));
    }
}
