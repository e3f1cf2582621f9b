//! Telegram's pace: about one message a second in a chat, twenty a minute in a group, thirty a second for a bot.
//!
//! Off unless the configuration or `POST /_mock/limits` switches it on.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// How much a bot may send. Each limit is a bucket that fills at a steady rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pace {
    pub chat_per_second: f64,
    /// Messages a chat takes at once before the rate counts.
    pub chat_burst: f64,
    pub group_per_minute: f64,
    pub bot_per_second: f64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { chat_per_second: 1.0, chat_burst: 3.0, group_per_minute: 20.0, bot_per_second: 30.0 }
    }
}

#[derive(Default)]
pub struct Buckets {
    pub pace: Option<Pace>,
    levels: HashMap<(String, Option<i64>), Level>,
}

#[derive(Clone, Copy)]
struct Level {
    tokens: f64,
    at: i64,
}

impl Buckets {
    /// Full buckets, or none without a pace.
    pub fn new(pace: Option<Pace>) -> Buckets {
        Buckets { pace, levels: HashMap::new() }
    }

    /// Takes one message from the buckets, or says for how many seconds to wait. A refused call costs nothing.
    pub fn take(&mut self, token: &str, chat_id: i64, now: i64) -> Option<u64> {
        let pace = self.pace.clone()?;
        let in_chat = if chat_id < 0 {
            (pace.group_per_minute / 60.0, pace.group_per_minute)
        } else {
            (pace.chat_per_second, pace.chat_burst)
        };
        let limits = [(Some(chat_id), in_chat), (None, (pace.bot_per_second, pace.bot_per_second))];
        if self.levels.len() > 100_000 {
            self.levels.clear();
        }
        let mut wait = 0f64;
        for (chat, (rate, size)) in limits {
            let level = self.levels.entry((token.to_owned(), chat)).or_insert(Level { tokens: size.max(1.0), at: now });
            let filled = level.tokens + rate * ((now - level.at) as f64) / 1000.0;
            *level = Level { tokens: filled.min(size.max(1.0)), at: now };
            if level.tokens < 1.0 {
                wait = wait.max((1.0 - level.tokens) / rate.max(0.001));
            }
        }
        if wait > 0.0 {
            return Some((wait.ceil() as u64).max(1));
        }
        for (chat, _) in limits {
            if let Some(level) = self.levels.get_mut(&(token.to_owned(), chat)) {
                level.tokens -= 1.0;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_takes_a_burst_and_then_one_a_second() {
        let mut buckets = Buckets::new(Some(Pace::default()));
        let taken: Vec<_> = (0..4).map(|_| buckets.take("t", 1, 0)).collect();
        assert_eq!(taken, [None, None, None, Some(1)]);
        assert_eq!(buckets.take("t", 2, 0), None, "another chat has its own bucket");
        assert_eq!(buckets.take("t", 1, 1000), None);
        assert_eq!(buckets.take("t", 1, 1500), Some(1));
    }

    #[test]
    fn a_group_takes_twenty_a_minute_and_a_bot_thirty_a_second() {
        let mut buckets = Buckets::new(Some(Pace::default()));
        assert_eq!((0..20).filter(|_| buckets.take("t", -1, 0).is_none()).count(), 20);
        assert_eq!(buckets.take("t", -1, 0), Some(3));
        assert_eq!((0..20).filter(|n| buckets.take("t", 100 + n, 0).is_none()).count(), 10);
        assert_eq!(buckets.take("other", 1, 0), None);
    }

    #[test]
    fn without_a_pace_everything_goes() {
        let mut buckets = Buckets::default();
        assert!((0..1000).all(|_| buckets.take("t", 1, 0).is_none()));
    }
}
