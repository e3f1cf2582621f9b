//! The people who ask: so many chats, so many questions, and never too many at once in one chat.

use std::time::Duration;

use salon_mock::Controls;
use tokio::time::Instant;

use crate::stage::{Stage, TOKEN, open_jobs};

const FIRST_CHAT: i64 = 1001;

pub struct Crowd {
    mock: Controls,
    /// How many questions each chat has asked.
    asked: Vec<usize>,
    /// Questions that a chat may wait for.
    window: usize,
    next: usize,
}

impl Crowd {
    pub fn new(stage: &Stage, chats: usize, window: usize) -> Crowd {
        Crowd { mock: stage.mock.controls(), asked: vec![0; chats], window, next: 0 }
    }

    pub fn asked(&self) -> usize {
        self.asked.iter().sum()
    }

    /// Chats, and how many questions each has asked.
    pub fn chats(&self) -> impl Iterator<Item = (i64, usize)> {
        self.asked.iter().enumerate().map(|(at, asked)| (FIRST_CHAT + at as i64, *asked))
    }

    /// Asks in every chat that waits for less than its window, until `limit` questions were asked in all.
    pub fn ask_until(&mut self, limit: usize) {
        for at in 0..self.asked.len() {
            let chat = FIRST_CHAT + at as i64;
            let answered = || self.mock.bot_texts(TOKEN, chat).iter().filter(|text| text.starts_with("q ")).count();
            let mut room = (answered() + self.window).saturating_sub(self.asked[at]);
            while room > 0 && self.asked() < limit {
                self.mock.says(TOKEN, chat, chat, &format!("q {}", self.next));
                self.next += 1;
                self.asked[at] += 1;
                room -= 1;
            }
        }
    }

    /// Asks until `limit` questions were asked in all, and waits until everything is settled. Says whether that came in
    /// time.
    pub async fn ask_all(&mut self, ports: &[u16], limit: usize, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            self.ask_until(limit);
            // Lost answers would keep a chat's window shut for ever.
            if self.is_settled(ports).await {
                if self.asked() == limit {
                    return true;
                }
                self.window += 1;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// Whether everything was taken in and nothing is left to do: what is missing then is lost.
    pub async fn is_settled(&self, ports: &[u16]) -> bool {
        if self.mock.undelivered(TOKEN) > 0 {
            return false;
        }
        for port in ports {
            if open_jobs(*port).await != Some(0) {
                return false;
            }
        }
        true
    }
}
