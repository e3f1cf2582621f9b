//! Reservations that let groups go by, because their calls may have ended before they are written.

use std::collections::{HashMap, VecDeque};

use salon_core::CallId;
use tokio::time::Instant;

use super::keeper::Task;

/// In the order in which they came, and found by their calls.
#[derive(Default)]
pub(super) struct Later {
    queue: VecDeque<Option<(Instant, Task)>>,
    /// How many have left the queue at its front.
    left: usize,
    /// Places in the queue, counted from the very first that ever was there.
    places: HashMap<CallId, usize>,
}

impl Later {
    pub fn push(&mut self, call: CallId, task: Task) {
        self.places.insert(call, self.left + self.queue.len());
        self.queue.push_back(Some((Instant::now(), task)));
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Takes a call's reservation out.
    pub fn call_up(&mut self, call: &CallId) -> Option<Task> {
        let place = self.places.remove(call)?;
        let (_, task) = self.queue.get_mut(place - self.left)?.take()?;
        self.close_up();
        Some(task)
    }

    /// Since when the first one waits.
    pub fn since(&self) -> Option<Instant> {
        self.queue.front()?.as_ref().map(|(since, _)| *since)
    }

    /// Takes those out that came no later than then.
    pub fn until(&mut self, then: Instant) -> Vec<Task> {
        let mut ripe = Vec::new();
        while self.since().is_some_and(|since| since <= then)
            && let Some(Some((_, task))) = self.queue.pop_front()
        {
            self.left += 1;
            if let Some(call) = task.call() {
                self.places.remove(call);
            }
            ripe.push(task);
            self.close_up();
        }
        ripe
    }

    /// Keeps one at the front, as long as there are any.
    fn close_up(&mut self) {
        while let Some(None) = self.queue.front() {
            self.queue.pop_front();
            self.left += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keeper::Tell;
    use super::super::post::Step;
    use super::*;

    fn task(call: &str) -> Task {
        let step = Step::Release { call: CallId::new(call), why: String::new() };
        Task { step: Some(step), tell: Tell::Nobody, leaf: None }
    }

    fn calls(tasks: &[Task]) -> Vec<&str> {
        tasks.iter().filter_map(|task| task.call().map(CallId::as_str)).collect()
    }

    #[test]
    fn each_is_found_once_by_its_call_and_the_rest_come_in_their_order() {
        let mut later = Later::default();
        for call in ["a", "b", "c", "d", "e"] {
            later.push(CallId::new(call), task(call));
        }
        for call in ["b", "a", "d"] {
            assert!(later.call_up(&CallId::new(call)).is_some(), "{call}");
            assert!(later.call_up(&CallId::new(call)).is_none(), "{call}");
        }
        later.push(CallId::new("f"), task("f"));
        assert_eq!(later.len(), 3);
        let since = later.since().expect("c waits");
        assert_eq!(calls(&later.until(since)), ["c"]);
        assert_eq!(calls(&later.until(Instant::now())), ["e", "f"]);
        assert!(later.is_empty() && later.since().is_none());
        later.push(CallId::new("a"), task("a"));
        assert!(later.call_up(&CallId::new("a")).is_some());
    }
}
