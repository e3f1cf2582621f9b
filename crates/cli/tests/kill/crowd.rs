//! The people who ask: so many chats, so many questions, and never too many at once in one chat.

use std::time::Duration;

use salon_mock::{Controls, Press, Timeline};
use serde_json::Value;
use tokio::time::Instant;

use crate::stage::{Stage, TOKEN, open_jobs};

const FIRST_CHAT: i64 = 1001;

pub struct Crowd {
    mock: Controls,
    /// How many questions each chat has asked.
    asked: Vec<usize>,
    /// Which chats have pressed a button.
    pressed: Vec<bool>,
    /// Questions that a chat may wait for.
    window: usize,
    next: usize,
}

impl Crowd {
    pub fn new(stage: &Stage, chats: usize, window: usize) -> Crowd {
        Crowd { mock: stage.mock.controls(), asked: vec![0; chats], pressed: vec![false; chats], window, next: 0 }
    }

    pub fn asked(&self) -> usize {
        self.asked.iter().sum()
    }

    /// Chats, and how many questions each has asked.
    pub fn chats(&self) -> impl Iterator<Item = (i64, usize)> {
        self.asked.iter().enumerate().map(|(at, asked)| (FIRST_CHAT + at as i64, *asked))
    }

    /// Presses a button below the first whole answer of every chat that has not done so: one that asks for another one.
    pub fn press(&mut self) {
        for at in 0..self.asked.len() {
            let chat = FIRST_CHAT + at as i64;
            if !self.pressed[at]
                && let Some((message_id, callback_data)) = self.find_button(chat)
            {
                let press = Press { token: TOKEN.to_owned(), chat_id: chat, message_id, user_id: chat, callback_data };
                // A keyboard that is just being changed is pressed the next time.
                self.pressed[at] = self.mock.press(press).is_ok();
            }
        }
    }

    fn find_button(&self, chat: i64) -> Option<(i64, String)> {
        let seen = self.mock.messages(&Timeline::of(TOKEN, chat)).expect("a timeline");
        let find = |message: &Value| {
            // While an answer is written there is one button, and it stops.
            let button = message["reply_markup"]["inline_keyboard"][0][1]["callback_data"].as_str()?;
            Some((message["message_id"].as_i64()?, button.to_owned()))
        };
        seen["messages"].as_array().expect("a list").iter().find_map(find)
    }

    /// Whether a button was pressed in every chat.
    pub fn has_pressed(&self) -> bool {
        self.pressed.iter().all(|pressed| *pressed)
    }

    /// How many buttons were pressed in a chat.
    pub fn presses(&self, chat: i64) -> usize {
        usize::from(self.pressed[(chat - FIRST_CHAT) as usize])
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
