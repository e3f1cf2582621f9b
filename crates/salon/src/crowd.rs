//! How much one person may have going at once, and everybody together: so that nobody takes the place of all others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use salon_core::UserId;
use thiserror::Error;

/// Things that go on at once, counted. Clones count together.
#[derive(Clone, Debug)]
pub struct Crowd {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    each: usize,
    all: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// Nobody who has nothing going stands here.
    each: HashMap<UserId, usize>,
}

/// Why nothing more may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Full {
    #[error("{0} are going on for this person already")]
    Person(usize),
    #[error("{0} are going on already")]
    Everybody(usize),
}

/// One of a crowd. Dropping it makes room.
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Inner>,
    user: UserId,
}

impl Crowd {
    /// So many for each person, and so many for all of them.
    pub fn new(each: usize, all: usize) -> Crowd {
        Crowd { inner: Arc::new(Inner { each, all, counts: Mutex::default() }) }
    }

    pub fn enter(&self, user: &UserId) -> Result<Place, Full> {
        let mut counts = self.inner.counts();
        if counts.all >= self.inner.all {
            return Err(Full::Everybody(self.inner.all));
        }
        let theirs = counts.each.entry(user.clone()).or_default();
        if *theirs >= self.inner.each {
            let full = Full::Person(self.inner.each);
            if self.inner.each == 0 {
                counts.each.remove(user);
            }
            return Err(full);
        }
        *theirs += 1;
        counts.all += 1;
        Ok(Place { crowd: self.inner.clone(), user: user.clone() })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.inner.counts().all
    }
}

impl Inner {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts();
        counts.all = counts.all.saturating_sub(1);
        if let Some(theirs) = counts.each.get_mut(&self.user) {
            *theirs -= 1;
            if *theirs == 0 {
                counts.each.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_room_and_all_have() {
        let crowd = Crowd::new(2, 3);
        let (alice, bob, carol) = (UserId::new("alice"), UserId::new("bob"), UserId::new("carol"));
        let first = crowd.enter(&alice).expect("room");
        let _second = crowd.enter(&alice).expect("room");
        assert_eq!(crowd.enter(&alice).expect_err("full"), Full::Person(2));
        let third = crowd.enter(&bob).expect("room");
        assert_eq!(crowd.enter(&carol).expect_err("full"), Full::Everybody(3));
        drop(first);
        let _fourth = crowd.enter(&alice).expect("room again");
        drop(third);
        assert_eq!(crowd.count(), 2);
        assert_eq!(crowd.inner.counts().each.len(), 1, "who has nothing going is forgotten");
    }
}
