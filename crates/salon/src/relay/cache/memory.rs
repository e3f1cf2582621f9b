//! Answers in this process's own memory: so many bytes, and what was not asked for the longest goes first.

use std::collections::{BTreeMap, HashMap};

use salon_core::Time;

use super::{Kept, Name};

/// What an answer takes beside its bytes, roughly.
const FRAME: usize = 512;

pub(super) struct Memory {
    most: usize,
    taken: usize,
    shelved: HashMap<Name, Shelved>,
    /// By when they were asked for last; each number is given once.
    order: BTreeMap<u64, Name>,
    number: u64,
}

struct Shelved {
    kept: Kept,
    until: Time,
    number: u64,
}

impl Memory {
    pub(super) fn new(most: usize) -> Memory {
        Memory { most, taken: 0, shelved: HashMap::new(), order: BTreeMap::new(), number: 0 }
    }

    pub(super) fn find(&mut self, name: &Name, now: Time) -> Option<Kept> {
        if self.shelved.get(name)?.until <= now {
            self.remove(name);
            return None;
        }
        let number = self.next();
        let shelved = self.shelved.get_mut(name)?;
        self.order.remove(&shelved.number);
        self.order.insert(number, *name);
        shelved.number = number;
        Some(shelved.kept.clone())
    }

    /// Takes an answer in. One that has room for no other beside it is not worth it.
    pub(super) fn keep(&mut self, name: Name, kept: Kept, until: Time) {
        self.remove(&name);
        let size = size(&kept);
        if size > self.most / 2 {
            return;
        }
        while self.taken + size > self.most {
            let Some((_, oldest)) = self.order.first_key_value() else { break };
            let oldest = *oldest;
            self.remove(&oldest);
        }
        let number = self.next();
        self.taken += size;
        self.order.insert(number, name);
        self.shelved.insert(name, Shelved { kept, until, number });
    }

    fn remove(&mut self, name: &Name) {
        if let Some(gone) = self.shelved.remove(name) {
            self.order.remove(&gone.number);
            self.taken -= size(&gone.kept);
        }
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

fn size(kept: &Kept) -> usize {
    kept.body.len() + kept.about.left_out.len() + FRAME
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::About;
    use super::*;

    fn kept(bytes: usize) -> Kept {
        Kept { at: Time(0), about: About::default(), body: vec![b'x'; bytes].into() }
    }

    fn memory_of(answers: usize) -> Memory {
        Memory::new(answers * (1_000 + FRAME))
    }

    const LATER: Time = Time(1_000_000);

    #[test]
    fn what_was_not_asked_for_the_longest_goes_first() {
        let mut memory = memory_of(3);
        for name in [1, 2, 3] {
            memory.keep([name; 32], kept(1_000), LATER);
        }
        assert!(memory.find(&[1; 32], Time(0)).is_some());
        memory.keep([4; 32], kept(1_000), LATER);
        let there: Vec<u8> = (1..=4).filter(|name| memory.shelved.contains_key(&[*name; 32])).collect();
        assert_eq!(there, [1, 3, 4]);
        assert_eq!((memory.taken, memory.order.len()), (memory.most, 3));
    }

    #[test]
    fn it_never_takes_more_than_it_may() {
        let mut memory = memory_of(4);
        for number in 0..200_u32 {
            let mut name = [0; 32];
            name[..4].copy_from_slice(&(number % 37).to_be_bytes());
            memory.keep(name, kept((number as usize * 97) % 4_000), LATER);
            let sum: usize = memory.shelved.values().map(|shelved| size(&shelved.kept)).sum();
            assert_eq!((memory.taken, memory.order.len()), (sum, memory.shelved.len()));
            assert!(memory.taken <= memory.most);
        }
        memory.keep([9; 32], kept(memory.most), LATER);
        assert!(memory.find(&[9; 32], Time(0)).is_none(), "it would have been alone");
    }

    #[test]
    fn what_is_too_old_is_gone() {
        let mut memory = memory_of(3);
        memory.keep([1; 32], kept(1_000), Time(0) + Duration::from_secs(60));
        assert!(memory.find(&[1; 32], Time(59_999)).is_some());
        assert!(memory.find(&[1; 32], Time(60_000)).is_none());
        assert_eq!((memory.taken, memory.order.len()), (0, 0));
    }
}
