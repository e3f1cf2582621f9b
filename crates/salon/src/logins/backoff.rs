//! Who guesses passwords waits: each failure of one account or one address makes the next try wait twice as long.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use salon_core::Time;

/// Failures that cost nothing: people mistype.
const FREE_OF_ACCOUNT: u32 = 5;
/// A whole office may be behind one address.
const FREE_OF_PEER: u32 = 20;
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// What is so long ago is forgiven.
const FORGIVEN: Duration = Duration::from_secs(60 * 60);
/// Accounts and addresses that are remembered, each.
const REMEMBERED: usize = 10_000;

#[derive(Default)]
pub struct Backoff {
    accounts: Mutex<Failures<String>>,
    peers: Mutex<Failures<IpAddr>>,
}

impl Backoff {
    /// Whether somebody may try now, or how long they have to wait.
    pub fn allow(&self, login: &str, peer: Option<IpAddr>, now: Time) -> Result<(), Duration> {
        let account = locked(&self.accounts).wait(&login.to_owned(), FREE_OF_ACCOUNT, now);
        let peer = peer.and_then(|peer| locked(&self.peers).wait(&peer, FREE_OF_PEER, now));
        account.max(peer).map_or(Ok(()), Err)
    }

    pub fn note(&self, login: &str, peer: Option<IpAddr>, now: Time) {
        locked(&self.accounts).note(login.to_owned(), now);
        if let Some(peer) = peer {
            locked(&self.peers).note(peer, now);
        }
    }

    /// An account's owner came in. The address keeps what it did to others.
    pub fn forget(&self, login: &str) {
        locked(&self.accounts).known.remove(login);
    }
}

struct Failures<K> {
    known: HashMap<K, (u32, Time)>,
}

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Failures { known: HashMap::new() }
    }
}

impl<K: Hash + Eq> Failures<K> {
    fn wait(&self, key: &K, free: u32, now: Time) -> Option<Duration> {
        let (count, last) = *self.known.get(key)?;
        let beyond = count.checked_sub(free)?;
        let wait = FIRST_WAIT.saturating_mul(1 << beyond.min(10)).min(LONGEST_WAIT);
        wait.checked_sub(now.since(last)).filter(|rest| !rest.is_zero())
    }

    fn note(&mut self, key: K, now: Time) {
        if self.known.len() >= REMEMBERED && !self.known.contains_key(&key) {
            self.known.retain(|_, (_, last)| now.since(*last) < FORGIVEN);
            // Somebody tries very many names: they are forgotten, because what holds him up is his address.
            if self.known.len() >= REMEMBERED {
                self.known.clear();
            }
        }
        let (count, last) = self.known.entry(key).or_insert((0, now));
        *count = if now.since(*last) >= FORGIVEN { 1 } else { count.saturating_add(1) };
        *last = now;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_mistake_costs_time_and_each_one_more_twice_as_much() {
        let backoff = Backoff::default();
        let now = Time(1_000_000);
        for _ in 0..4 {
            backoff.note("alice", None, now);
        }
        assert_eq!(backoff.allow("alice", None, now), Ok(()));
        backoff.note("alice", None, now);
        assert_eq!(backoff.allow("alice", None, now), Err(Duration::from_secs(2)));
        assert_eq!(backoff.allow("alice", None, now + Duration::from_secs(2)), Ok(()));
        backoff.note("alice", None, now);
        assert_eq!(backoff.allow("alice", None, now), Err(Duration::from_secs(4)));
        assert_eq!(backoff.allow("bob", None, now), Ok(()), "others are not held up");
        for _ in 0..40 {
            backoff.note("alice", None, now);
        }
        assert_eq!(backoff.allow("alice", None, now), Err(LONGEST_WAIT));
        backoff.forget("alice");
        assert_eq!(backoff.allow("alice", None, now), Ok(()));
    }

    #[test]
    fn an_address_that_tries_many_names_waits_whoever_it_tries_next() {
        let backoff = Backoff::default();
        let (peer, now) = (Some(IpAddr::from([192, 0, 2, 7])), Time(1_000_000));
        for n in 0..FREE_OF_PEER {
            backoff.note(&format!("name{n}"), peer, now);
        }
        assert!(backoff.allow("alice", peer, now).is_err());
        assert_eq!(backoff.allow("alice", Some(IpAddr::from([192, 0, 2, 8])), now), Ok(()));
    }
}
