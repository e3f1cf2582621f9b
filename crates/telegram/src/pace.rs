//! When the next call may go: Telegram's unwritten limits, kept before they are hit.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Calls of one bot in a second.
const BOT: Limit = Limit { calls: 30, span: Duration::from_secs(1) };
/// Messages and edits in one group in a minute.
const GROUP: Limit = Limit { calls: 20, span: Duration::from_secs(60) };
/// Messages that a chat takes at once; one more each second after that.
const BURST: u32 = 3;
const REFILL: Duration = Duration::from_secs(1);
/// Between two edits of a stream. Telegram counts 20 a minute in groups; five of them are left for answers.
const EDIT_PRIVATE: Duration = Duration::from_secs(1);
const EDIT_GROUP: Duration = Duration::from_secs(4);
/// How many chats may be remembered before the idle ones are looked for.
const SWEEP_AT: usize = 256;

/// What a call does to its chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// A new message, a document or a photo.
    Send,
    /// An edit of a stream, which a later one replaces.
    Edit,
    /// The edit that must arrive; it does not wait for the spacing of the stream.
    FinalEdit,
    /// Anything that leaves no mark in the chat: an answer to a button, "typing", a deletion.
    Other,
}

/// Keeps one bot within its limits. It never sleeps: it says how long, and the caller does something else.
///
/// The lock is held for a few comparisons and never across an `await`.
pub struct Pacer {
    limited: bool,
    state: Mutex<State>,
}

impl Pacer {
    pub fn new() -> Self {
        Pacer { limited: true, state: Mutex::default() }
    }

    /// For servers of one's own, which have no limits. Pauses still count.
    pub fn unlimited() -> Self {
        Pacer { limited: false, state: Mutex::default() }
    }

    /// Zero if the call may go now, and then the budget is taken. Otherwise how long until it is worth asking
    /// again, and nothing is taken.
    pub fn wait(&self, chat: i64, what: Act) -> Duration {
        let now = Instant::now();
        let mut state = self.lock();
        let mut at = state.paused.map_or(now, |until| until.max(now));
        if let Some(chat) = state.chats.get(&chat) {
            at = chat.paused.map_or(at, |until| until.max(at));
        }
        if self.limited {
            at = at.max(state.calls.free_at(BOT, now));
            if let Some(seen) = state.chats.get_mut(&chat) {
                at = at.max(seen.free_at(is_group(chat), what, now));
            }
        }
        let wait = at.saturating_duration_since(now);
        if wait.is_zero() && self.limited {
            state.calls.take(now);
            if what != Act::Other {
                state.sweep(now);
                state.chats.entry(chat).or_default().take(is_group(chat), what, now);
            }
        }
        wait
    }

    /// Holds every call to the chat, as its `retry_after` asked.
    pub fn pause_chat(&self, chat: i64, pause: Duration) {
        let until = Instant::now() + jittered(pause);
        let mut state = self.lock();
        state.sweep(Instant::now());
        let paused = &mut state.chats.entry(chat).or_default().paused;
        *paused = Some(paused.map_or(until, |before| before.max(until)));
    }

    /// Holds every call of the bot.
    pub fn pause_bot(&self, pause: Duration) {
        let until = Instant::now() + jittered(pause);
        let paused = &mut self.lock().paused;
        *paused = Some(paused.map_or(until, |before| before.max(until)));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is a whole one, so a state left by a panicking thread is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Pacer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Pacer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacer").field("limited", &self.limited).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    paused: Option<Instant>,
    calls: Window,
    chats: HashMap<i64, Chat>,
    /// How many chats were left after the last sweep.
    kept: usize,
}

impl State {
    /// Forgets the chats that are as good as new. Looking costs as much as there are chats, so it waits until
    /// their number has doubled.
    fn sweep(&mut self, now: Instant) {
        if self.chats.len() < SWEEP_AT.max(2 * self.kept) {
            return;
        }
        self.chats.retain(|&id, chat| !chat.is_idle(is_group(id), now));
        self.kept = self.chats.len();
    }
}

#[derive(Default)]
struct Chat {
    paused: Option<Instant>,
    /// When the burst will be whole again. A call may go while that is less than the burst away.
    whole: Option<Instant>,
    /// Only groups count their minute.
    minute: Window,
    edited: Option<Instant>,
}

impl Chat {
    /// When the limits of this chat allow the call.
    fn free_at(&mut self, group: bool, what: Act, now: Instant) -> Instant {
        if what == Act::Other {
            return now;
        }
        let mut at = now;
        if let Some(whole) = self.whole {
            at += whole.saturating_duration_since(now + REFILL * (BURST - 1));
        }
        if group {
            at = at.max(self.minute.free_at(GROUP, now));
        }
        if let (Act::Edit, Some(edited)) = (what, self.edited) {
            at = at.max(edited + if group { EDIT_GROUP } else { EDIT_PRIVATE });
        }
        at
    }

    fn take(&mut self, group: bool, what: Act, now: Instant) {
        self.whole = Some(self.whole.map_or(now, |whole| whole.max(now)) + REFILL);
        if group {
            self.minute.take(now);
        }
        if matches!(what, Act::Edit | Act::FinalEdit) {
            self.edited = Some(now);
        }
    }

    fn is_idle(&mut self, group: bool, now: Instant) -> bool {
        self.minute.forget(GROUP, now);
        self.paused.is_none_or(|until| until <= now)
            && self.whole.is_none_or(|whole| whole <= now)
            && self.minute.taken.is_empty()
            && self.edited.is_none_or(|edited| edited + if group { EDIT_GROUP } else { EDIT_PRIVATE } <= now)
    }
}

/// At most `calls` in any `span`.
#[derive(Clone, Copy)]
struct Limit {
    calls: usize,
    span: Duration,
}

/// The calls of the last span, oldest first. It never holds more than the limit.
#[derive(Default)]
struct Window {
    taken: VecDeque<Instant>,
}

impl Window {
    fn free_at(&mut self, limit: Limit, now: Instant) -> Instant {
        self.forget(limit, now);
        match self.taken.front() {
            Some(&oldest) if self.taken.len() >= limit.calls => oldest + limit.span,
            _ => now,
        }
    }

    fn take(&mut self, now: Instant) {
        self.taken.push_back(now);
    }

    fn forget(&mut self, limit: Limit, now: Instant) {
        while self.taken.front().is_some_and(|&oldest| oldest + limit.span <= now) {
            self.taken.pop_front();
        }
    }
}

/// Telegram gives groups and channels negative ids.
fn is_group(chat: i64) -> bool {
    chat < 0
}

/// Up to a tenth more, so that what was held together does not come back together.
fn jittered(pause: Duration) -> Duration {
    pause.min(Duration::from_secs(24 * 3600)).mul_f64(1.0 + rand::random::<f64>() / 10.0)
}
