//! Whom to ask next: the deployments of a model, then those of the models that stand in for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::health::{Condition, pause_before};
use super::{Budget, Fault, Health, Settings, Trouble, Try};

/// How long it takes to see whether a server is back, more or less.
const PROBE: Duration = Duration::from_secs(1);

/// One way to an answer.
#[derive(Clone, Debug)]
pub struct Way<T> {
    pub what: T,
    /// Ways of the same stage stand in for each other at once; a later stage is asked when the earlier ones are done
    /// with. They come in the order in which they are to be tried.
    pub stage: usize,
    pub health: Arc<Health>,
    pub room: Arc<Room>,
}

/// How many may be under way at once.
#[derive(Debug, Default)]
pub struct Room {
    cap: Option<u32>,
    taken: AtomicU32,
}

impl Room {
    pub fn new(cap: Option<u32>) -> Room {
        Room { cap, taken: AtomicU32::new(0) }
    }

    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes a place, if one is free.
    pub fn take(self: &Arc<Self>) -> Option<Seat> {
        let cap = self.cap.unwrap_or(u32::MAX);
        let take = |taken: u32| (taken < cap).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Seat { room: self.clone() })
    }
}

/// A place in a [`Room`]; dropping it gives it back.
#[derive(Debug)]
pub struct Seat {
    room: Arc<Room>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The tries of one question.
///
/// ```text
/// loop {
///     let mut turn = turns.next()?;
///     match one_try(&turn).await {
///         Ok(answer) => { turn.succeeded(); return Ok(answer) }
///         Err(trouble) => match turns.failed(turn, &trouble, anything_shown) {
///             Some(pause) => sleep(pause).await,
///             None => return Err(trouble),
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Turns<T> {
    ways: Vec<(Way<T>, State)>,
    settings: Settings,
    deadline: Instant,
    budget: Arc<Budget>,
    /// The way that was chosen to be asked once more.
    again: Option<usize>,
    last: Option<Trouble>,
    number: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    tries: u32,
    /// Asking it again would not help.
    done: bool,
}

/// One try. Hold it until the answer has ended: it is what the breaker and the counts know of it.
#[derive(Debug)]
pub struct Turn<T> {
    pub what: T,
    /// From 1.
    pub number: u32,
    way: usize,
    under_way: Try,
    _seat: Seat,
}

impl<T> Turn<T> {
    /// The head of a good answer is here.
    pub fn began(&mut self) {
        self.under_way.began();
    }

    pub fn succeeded(&mut self) {
        self.under_way.succeeded();
    }

    /// Several questions were asked in one call, and another one's turn says how it went.
    pub fn joined(&mut self) {
        self.under_way.joined();
    }

    /// The answer failed after something of it was passed on, so nothing follows.
    pub fn broke(&mut self, fault: Fault) {
        self.under_way.failed(fault);
    }
}

impl<T: Clone> Turns<T> {
    /// Begins a question: its total deadline runs from now.
    pub fn new(ways: Vec<Way<T>>, settings: Settings, budget: Arc<Budget>) -> Turns<T> {
        budget.count_call();
        let deadline = Instant::now() + settings.total;
        let ways = ways.into_iter().map(|way| (way, State::default())).collect();
        Turns { ways, settings, deadline, budget, again: None, last: None, number: 0 }
    }

    /// When the whole question has to be over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The next try, at the first way that takes it. Where none does, what went wrong last, or why none would.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not say why there is nobody left")]
    pub fn next(&mut self) -> Result<Turn<T>, Trouble> {
        self.next_that(|_| true).map_err(|last| last.unwrap_or(Fault::Resting.into()))
    }

    /// The same, at the first way that can be asked this at all. `None` where nobody can.
    pub fn next_that(&mut self, mut can: impl FnMut(&T) -> bool) -> Result<Turn<T>, Option<Trouble>> {
        loop {
            let Some(at) = self.again.take().or_else(|| self.first_untried(0)) else {
                return Err(self.last);
            };
            let (way, state) = &mut self.ways[at];
            let refused = match (way.room.take(), way.health.would_admit()) {
                (None, _) => Fault::Busy.into(),
                (Some(_), true) if !can(&way.what) => {
                    state.done = true;
                    continue;
                }
                (Some(seat), true) => match way.health.admit() {
                    Ok(under_way) => {
                        state.tries += 1;
                        self.number += 1;
                        return Ok(Turn {
                            what: way.what.clone(),
                            number: self.number,
                            way: at,
                            under_way,
                            _seat: seat,
                        });
                    }
                    Err(_) => resting(&way.health),
                },
                (Some(_), false) => resting(&way.health),
            };
            // It was not asked, so nothing of the budget is spent; what was really answered before tells more.
            state.done = true;
            self.last = Some(match self.last {
                Some(last) if (last.fault, refused.fault) == (Fault::Resting, Fault::Resting) => sooner(last, refused),
                Some(last) => last,
                None => refused,
            });
        }
    }

    /// Passes over those of the ways that were not asked yet which cannot be asked this.
    pub fn retain(&mut self, can: impl Fn(&T) -> bool) {
        for (way, state) in self.ways.iter_mut().filter(|(_, state)| state.tries == 0 && !state.done) {
            state.done = !can(&way.what);
        }
    }

    /// Puts a way that is well first in line again: it is to be asked once more, in other words. The budget of retries has
    /// nothing to do with that.
    pub fn once_more(&mut self, mut turn: Turn<T>) {
        turn.succeeded();
        self.again = Some(turn.way);
    }

    /// Takes note of a failed try. Answers how long to pause before the next one, or `None` if there should be none.
    ///
    /// `shown` is whether anybody has seen part of this answer: then there is no second one.
    pub fn failed(&mut self, mut turn: Turn<T>, trouble: &Trouble, shown: bool) -> Option<Duration> {
        turn.under_way.failed(trouble.fault);
        // It may have been counted on while it was part of a call for several.
        self.number = self.number.max(turn.number);
        let at = turn.way;
        drop(turn);
        self.last = Some(*trouble);
        if shown || !trouble.fault.is_curable_elsewhere() || Instant::now() >= self.deadline {
            return None;
        }
        let stage = self.ways[at].0.stage;
        if !trouble.fault.is_passing() {
            self.ways[at].1.done = true;
        }
        // Somebody else with the same model can answer at once.
        let sibling = self.first_untried(stage).filter(|other| self.ways[*other].0.stage == stage);
        if sibling.is_some() && self.budget.take_retry() {
            return Some(Duration::ZERO);
        }
        if sibling.is_none() {
            let tries = self.ways.iter().filter(|(way, _)| way.stage == stage).map(|(_, state)| state.tries).sum();
            if let Some(pause) = pause_before(tries, trouble, &self.settings, self.deadline, &self.budget) {
                self.again = Some(at);
                return Some(pause);
            }
        }
        for (way, state) in &mut self.ways {
            state.done |= way.stage <= stage;
        }
        self.first_untried(stage + 1).map(|_| Duration::ZERO)
    }

    /// The first way of this stage or a later one that was not asked yet and may be.
    fn first_untried(&self, stage: usize) -> Option<usize> {
        self.ways.iter().position(|(way, state)| way.stage >= stage && state.tries == 0 && !state.done)
    }
}

/// That it is left alone, and for how much longer.
fn resting(health: &Health) -> Trouble {
    let retry_after = match health.view().condition {
        Condition::Resting(rest) => rest,
        // Somebody is seeing whether it is back.
        Condition::Probing | Condition::Well => PROBE,
    };
    Trouble { fault: Fault::Resting, retry_after: Some(retry_after) }
}

/// Of two that are left alone, the one that is asked again first.
fn sooner(one: Trouble, other: Trouble) -> Trouble {
    if other.retry_after < one.retry_after { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` and `b` serve the same model, `c` one that stands in for it.
    fn turns(settings: &Settings, budget: &Arc<Budget>, healths: &[Arc<Health>]) -> Turns<&'static str> {
        let ways = [("a", 0), ("b", 0), ("c", 1)].into_iter().zip(healths).map(|((what, stage), health)| Way {
            what,
            stage,
            health: health.clone(),
            room: Arc::default(),
        });
        Turns::new(ways.collect(), settings.clone(), budget.clone())
    }

    fn healths(settings: &Settings) -> Vec<Arc<Health>> {
        (0..3).map(|_| Arc::new(Health::new(settings))).collect()
    }

    /// Whom a question is asked, if each says the same, and how long the pauses are in all.
    fn asked(mut turns: Turns<&'static str>, trouble: Trouble) -> (Vec<&'static str>, Duration) {
        let (mut asked, mut paused) = (Vec::new(), Duration::ZERO);
        while let Ok(turn) = turns.next() {
            asked.push(turn.what);
            match turns.failed(turn, &trouble, false) {
                Some(pause) => paused += pause,
                None => break,
            }
        }
        (asked, paused)
    }

    #[tokio::test(start_paused = true)]
    async fn siblings_come_first_then_patience_then_the_stand_in() {
        let settings = Settings::default();
        let budget = Arc::new(Budget::new(6));
        let (asked, paused) = asked(turns(&settings, &budget, &healths(&settings)), Fault::Busy.into());
        assert_eq!(asked, ["a", "b", "b", "c", "c", "c"]);
        assert!(paused > Duration::ZERO, "the same one is not asked again at once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_with_one_way_is_not_asked_of_it_again() {
        let settings = Settings::default();
        for (fault, expected) in [
            (Fault::Auth, vec!["a", "b", "c"]),
            (Fault::Spent, vec!["a", "b", "c"]),
            (Fault::NotFound, vec!["a", "b", "c"]),
            (Fault::Timeout, vec!["a", "b", "c"]),
            (Fault::Refused, vec!["a"]),
            (Fault::TooLong, vec!["a"]),
            (Fault::Filtered, vec!["a"]),
            (Fault::Garbled, vec!["a", "b", "c"]),
            (Fault::Silent, vec!["a", "b", "c"]),
        ] {
            let budget = Arc::new(Budget::new(6));
            let (asked, paused) = asked(turns(&settings, &budget, &healths(&settings)), fault.into());
            assert_eq!((asked, paused), (expected, Duration::ZERO), "{fault:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_to_wait_too_long_sends_the_question_elsewhere() {
        let settings = Settings::default();
        let trouble = Trouble { fault: Fault::Limit, retry_after: Some(Duration::from_secs(60)) };
        let (asked, paused) = asked(turns(&settings, &Arc::new(Budget::new(6)), &healths(&settings)), trouble);
        assert_eq!((asked, paused), (vec!["a", "b", "c"], Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_cannot_be_asked_is_passed_over_and_costs_nothing() {
        let settings = Settings::default();
        let (budget, healths) = (Arc::new(Budget::new(6)), healths(&settings));
        let mut all = turns(&settings, &budget, &healths);
        let turn = all.next_that(|what| *what == "b").expect("a turn");
        assert_eq!((turn.what, turn.number), ("b", 1));
        assert_eq!(healths[0].view().tries, 0);
        assert_eq!(turns(&settings, &budget, &healths).next_that(|_| false).expect_err("nobody"), None);
        // It is no sibling either: who can be asked is asked once more.
        let mut all = turns(&settings, &budget, &healths);
        let mut asked = Vec::new();
        while let Ok(turn) = all.next() {
            asked.push(turn.what);
            all.retain(|what| *what == "a");
            if all.failed(turn, &Fault::Busy.into(), false).is_none() {
                break;
            }
        }
        assert_eq!(asked, ["a", "a", "a"]);
        // Who could be asked, but rests, may be back when the question comes again.
        let healths = self::healths(&settings);
        for _ in 0..settings.breaker_failures {
            healths[0].admit().expect("closed").failed(Fault::Unreachable);
        }
        let last = turns(&settings, &budget, &healths).next_that(|_| false).expect_err("nobody");
        assert_eq!(last.map(|trouble| trouble.fault), Some(Fault::Resting));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_asked_again_once_something_was_shown() {
        let settings = Settings::default();
        let mut turns = turns(&settings, &Arc::new(Budget::new(6)), &healths(&settings));
        let turn = turns.next().expect("a turn");
        assert_eq!(turns.failed(turn, &Fault::Cut.into(), true), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_costs_no_call_and_nothing_of_the_budget() {
        let settings = Settings::default();
        let (budget, healths) = (Arc::new(Budget::new(0)), healths(&settings));
        for health in &healths[..2] {
            for _ in 0..settings.breaker_failures {
                health.admit().expect("closed").failed(Fault::Unreachable);
            }
        }
        let mut turns = turns(&settings, &budget, &healths);
        assert_eq!(turns.next().expect("the stand-in").what, "c");
        assert_eq!(turns.next().expect_err("nobody is left").fault, Fault::Resting);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_while_all_rest_is_told_when_the_first_of_them_is_asked_again() {
        let settings = Settings::default();
        let (budget, healths) = (Arc::new(Budget::new(6)), healths(&settings));
        let second = Duration::from_secs(1);
        for health in [&healths[1], &healths[0], &healths[2]] {
            for _ in 0..settings.breaker_failures {
                health.admit().expect("closed").failed(Fault::Unreachable);
            }
            tokio::time::advance(second).await;
        }
        let resting = |rest| Trouble { fault: Fault::Resting, retry_after: Some(rest) };
        let told = turns(&settings, &budget, &healths).next().expect_err("all rest");
        assert_eq!(told, resting(settings.breaker_rest - 3 * second));
        tokio::time::advance(settings.breaker_rest - 3 * second).await;
        let probe = turns(&settings, &budget, &healths).next().expect("the first is back, perhaps");
        assert_eq!(probe.what, "b");
        assert_eq!(turns(&settings, &budget, &healths).next().expect_err("a probe is enough"), resting(PROBE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_budget_leaves_the_stand_in_alone() {
        let settings = Settings::default();
        let (asked, _) = asked(turns(&settings, &Arc::new(Budget::new(0)), &healths(&settings)), Fault::Busy.into());
        assert_eq!(asked, ["a", "c"], "one call each, and no more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_room_sends_the_question_elsewhere_until_a_place_is_free() {
        let settings = Settings::default();
        let room = Arc::new(Room::new(Some(1)));
        let ask = |room: &Arc<Room>| {
            let health = Arc::new(Health::new(&settings));
            let way = Way { what: "a", stage: 0, health, room: room.clone() };
            Turns::new(vec![way], settings.clone(), Arc::new(Budget::new(6)))
        };
        let turn = ask(&room).next().expect("a place");
        assert_eq!(ask(&room).next().expect_err("no place"), Fault::Busy.into());
        assert_eq!(room.taken(), 1);
        drop(turn);
        assert!(ask(&room).next().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_for_several_fails_once_and_is_counted_on() {
        let settings = Settings { breaker_failures: 2, ..Settings::default() };
        let (budget, healths) = (Arc::new(Budget::new(6)), healths(&settings));
        let mut all: Vec<_> = (0..5).map(|_| turns(&settings, &budget, &healths)).collect();
        let mut tried: Vec<_> = all.iter_mut().map(|turns| turns.next().expect("a turn")).collect();
        tried.iter_mut().skip(1).for_each(Turn::joined);
        for (turns, mut turn) in all.iter_mut().zip(tried) {
            turn.number += 1;
            turns.failed(turn, &Fault::Busy.into(), false);
            assert_eq!(turns.next().expect("the sibling").number, 3);
        }
        let view = healths[0].view();
        assert_eq!((view.failures, view.in_flight, view.faults), (1, 0, 1), "one of them told of it");
    }

    #[tokio::test(start_paused = true)]
    async fn no_try_begins_after_the_deadline() {
        let settings = Settings { total: Duration::from_secs(5), ..Settings::default() };
        let mut turns = turns(&settings, &Arc::new(Budget::new(6)), &healths(&settings));
        let turn = turns.next().expect("a turn");
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(turns.failed(turn, &Fault::Busy.into(), false), None);
    }
}
