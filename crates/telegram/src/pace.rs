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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::advance;

    use super::*;

    const ALICE: i64 = 42;
    const BOB: i64 = 43;
    const GROUP_CHAT: i64 = -100;
    const NOW: Duration = Duration::ZERO;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// How many calls go before one has to wait.
    fn burst(pacer: &Pacer, chat: i64, what: Act) -> usize {
        (0..1000).take_while(|_| pacer.wait(chat, what).is_zero()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_private_chat_takes_three_at_once_and_then_one_a_second() {
        let pacer = Pacer::new();
        assert_eq!(burst(&pacer, ALICE, Act::Send), 3);
        assert_eq!(pacer.wait(ALICE, Act::Send), seconds(1));
        advance(seconds(1)).await;
        assert_eq!(burst(&pacer, ALICE, Act::Send), 1);
        advance(seconds(10)).await;
        assert_eq!(burst(&pacer, ALICE, Act::Send), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn asking_takes_nothing_and_the_answer_is_true() {
        let pacer = Pacer::new();
        assert_eq!(burst(&pacer, ALICE, Act::Send), 3);
        for _ in 0..5 {
            assert_eq!(pacer.wait(ALICE, Act::Send), seconds(1));
        }
        let wait = pacer.wait(ALICE, Act::Send);
        advance(wait).await;
        assert_eq!(pacer.wait(ALICE, Act::Send), NOW);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_edits_once_a_second_and_its_end_does_not_wait_for_that() {
        let pacer = Pacer::new();
        assert_eq!(pacer.wait(ALICE, Act::Edit), NOW);
        assert_eq!(pacer.wait(ALICE, Act::Edit), seconds(1));
        assert_eq!(pacer.wait(ALICE, Act::FinalEdit), NOW);
        // The last edit counts for the spacing of the next stream.
        advance(Duration::from_millis(400)).await;
        assert_eq!(pacer.wait(ALICE, Act::Edit), Duration::from_millis(600));
    }

    #[tokio::test(start_paused = true)]
    async fn edits_and_messages_share_one_budget() {
        let pacer = Pacer::new();
        assert_eq!(pacer.wait(ALICE, Act::Send), NOW);
        assert_eq!(pacer.wait(ALICE, Act::Edit), NOW);
        assert_eq!(pacer.wait(ALICE, Act::FinalEdit), NOW);
        assert_eq!(pacer.wait(ALICE, Act::Send), seconds(1));
        assert_eq!(pacer.wait(ALICE, Act::FinalEdit), seconds(1));
        // What leaves no mark in the chat waits for nothing in it.
        assert_eq!(pacer.wait(ALICE, Act::Other), NOW);
        assert_eq!(pacer.wait(BOB, Act::Send), NOW);
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_takes_twenty_a_minute() {
        let pacer = Pacer::new();
        let mut sent = 0;
        let mut passed = NOW;
        while passed < seconds(60) {
            let wait = pacer.wait(GROUP_CHAT, Act::Send);
            sent += usize::from(wait.is_zero());
            advance(wait).await;
            passed += wait;
        }
        assert_eq!(sent, 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_in_a_group_leaves_room_for_answers() {
        let pacer = Pacer::new();
        let mut edits = 0;
        for _ in 0..60 {
            edits += usize::from(pacer.wait(GROUP_CHAT, Act::Edit).is_zero());
            advance(seconds(1)).await;
        }
        assert_eq!(edits, 15);
        assert_eq!(burst(&pacer, GROUP_CHAT, Act::Send), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bot_makes_thirty_calls_a_second() {
        let pacer = Pacer::new();
        let went = (1..=100).filter(|&chat| pacer.wait(chat, Act::Send).is_zero()).count();
        assert_eq!(went, 30);
        assert_eq!(pacer.wait(500, Act::Other), seconds(1));
        advance(seconds(1)).await;
        assert_eq!(burst(&pacer, ALICE, Act::Other), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everything_in_its_chat_and_nothing_elsewhere() {
        let pacer = Pacer::new();
        pacer.pause_chat(ALICE, seconds(10));
        for what in [Act::Send, Act::Edit, Act::FinalEdit, Act::Other] {
            let wait = pacer.wait(ALICE, what);
            assert!(wait >= seconds(10) && wait <= seconds(11), "{wait:?}");
        }
        assert_eq!(pacer.wait(BOB, Act::Send), NOW);
        // A shorter one does not end it early.
        pacer.pause_chat(ALICE, seconds(1));
        assert!(pacer.wait(ALICE, Act::Send) >= seconds(10));
        advance(seconds(11)).await;
        assert_eq!(pacer.wait(ALICE, Act::Send), NOW);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_bot_holds_every_chat_even_without_limits() {
        for pacer in [Pacer::new(), Pacer::unlimited()] {
            pacer.pause_bot(seconds(5));
            assert!(pacer.wait(ALICE, Act::FinalEdit) >= seconds(5));
            assert!(pacer.wait(GROUP_CHAT, Act::Other) >= seconds(5));
            advance(Duration::from_millis(5_500)).await;
            assert_eq!(pacer.wait(ALICE, Act::Send), NOW);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unlimited_server_takes_what_comes() {
        let pacer = Pacer::unlimited();
        assert_eq!(burst(&pacer, ALICE, Act::Edit), 1000);
        assert!(pacer.lock().chats.is_empty());
        pacer.pause_chat(ALICE, seconds(1));
        assert!(pacer.wait(ALICE, Act::Edit) >= seconds(1));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_chats_are_forgotten() {
        let pacer = Pacer::new();
        pacer.pause_chat(7, seconds(100_000));
        for chat in 1000..20_000 {
            pacer.pause_chat(chat, seconds(1));
            assert_eq!(pacer.wait(-chat, Act::Send), NOW);
            advance(seconds(1)).await;
        }
        let state = pacer.lock();
        assert!(state.chats.len() <= SWEEP_AT, "{} chats", state.chats.len());
        assert!(state.chats.contains_key(&7), "one that is paused is not idle");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn no_window_ever_has_too_many(calls in prop::collection::vec((0..4i64, 0..4usize, 0..1500u64), 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let went = runtime.expect("a runtime").block_on(async {
                let pacer = Pacer::new();
                let mut went = Vec::new();
                let start = Instant::now();
                for (chat, what, pause_ms) in calls {
                    // Two people and two groups.
                    let chat = chat - 2 + i64::from(chat >= 2);
                    let what = [Act::Send, Act::Edit, Act::FinalEdit, Act::Other][what];
                    advance(Duration::from_millis(pause_ms)).await;
                    if pacer.wait(chat, what).is_zero() {
                        went.push((chat, what, start.elapsed()));
                    }
                }
                went
            });
            let most = |span: u64, counts: &dyn Fn(i64, Act) -> bool| {
                let times: Vec<_> = went.iter().filter(|&&(chat, what, _)| counts(chat, what)).map(|call| call.2).collect();
                times.iter().map(|&from| times.iter().filter(|&&at| from <= at && at < from + seconds(span)).count()).max()
            };
            prop_assert!(most(1, &|_, _| true) <= Some(30));
            for chat in [-2, -1, 1, 2] {
                prop_assert!(most(10, &|c, what| c == chat && what != Act::Other) <= Some(13));
                prop_assert!(most(1, &|c, what| c == chat && what == Act::Edit) <= Some(1));
                if chat < 0 {
                    prop_assert!(most(60, &|c, what| c == chat && what != Act::Other) <= Some(20));
                    prop_assert!(most(60, &|c, what| c == chat && what == Act::Edit) <= Some(15));
                }
            }
        }
    }
}
