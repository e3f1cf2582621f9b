//! What chats show, and how long it is waited for.

use std::fmt::Write as _;
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, ensure};
use salon_mock::{Calls, Timeline, Verify};
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;

use super::{At, Expected, FIRST, Head, LOOK_EVERY, PATIENCE, Stage, person};
use crate::desk::text as spelled;
use crate::pattern::{Bound, Pattern};
use crate::script::Line;

const PLACEHOLDER: &str = "…";

/// A message of a bot as the chat shows it.
pub(super) struct Shown {
    pub(super) number: i64,
    text: String,
    pub(super) rows: Vec<Vec<(String, String)>>,
    /// The topic or thread in which it stands.
    thread: Option<i64>,
}

impl Stage {
    pub(super) async fn shows(&mut self, head: &str, text: &str, line: &Line) -> Result<()> {
        let head = Head::read(head)?;
        let bot = match head.who.as_str() {
            "bot" if self.here.0.is_empty() => FIRST.to_owned(),
            "bot" => self.here.0.clone(),
            id => id.to_owned(),
        };
        let token = self.token(&bot);
        let (chat, topic) = match (&head.group, &head.to) {
            (Some(name), _) => self.place(name)?,
            (None, Some(who)) => (person(who)?.0, None),
            (None, None) => (self.here.1, None),
        };
        for n in 1..=head.times {
            let text = self.filled(&text.replace("{i}", &n.to_string()));
            let pattern = Pattern::new(&text);
            let look = async || {
                let mut bound = self.bound.clone();
                let mut untold =
                    self.shown(&token, chat).into_iter().filter(|shown| !self.is_told(&token, chat, shown));
                let fits = |shown: &Shown, bound: &mut Bound| {
                    pattern.fits(&shown.text, bound)
                        && rows_fit(&line.rows, &shown.rows)
                        && topic.is_none_or(|topic| topic == shown.thread)
                };
                let found = if head.has("anywhere") {
                    untold.find(|shown| fits(shown, &mut bound))
                } else {
                    untold.next().filter(|shown| fits(shown, &mut bound))
                };
                found.map(|shown| (shown.number, bound))
            };
            let (number, bound) = self.until(|| "the next message is another one".to_owned(), look).await?;
            self.bound = bound;
            let at = (token.clone(), chat, number);
            self.told.insert(at.clone(), Expected { pattern, rows: line.rows.clone(), left: false });
            if let Some(label) = &head.label {
                self.labels.insert(label.clone(), at.clone());
            }
            self.newest = Some(at);
        }
        Ok(())
    }

    /// A message that was told of says something else now.
    pub(super) async fn becomes(&mut self, head: &str, text: &str, line: &Line) -> Result<()> {
        let (label, left) = match head.strip_suffix(" is left as") {
            Some(label) => (label, true),
            None => (head, false),
        };
        let at = match label {
            "bot" => self.newest.clone().context("no message was told of")?,
            label => self.labelled(label)?,
        };
        let pattern = Pattern::new(&self.filled(text));
        let look = async || {
            let shown = self.shown(&at.0, at.1).into_iter().find(|shown| shown.number == at.2)?;
            let mut bound = self.bound.clone();
            (pattern.fits(&shown.text, &mut bound) && rows_fit(&line.rows, &shown.rows)).then_some(bound)
        };
        self.bound = self.until(|| "the message says something else".to_owned(), look).await?;
        self.told.insert(at, Expected { pattern, rows: line.rows.clone(), left });
        Ok(())
    }

    pub(super) async fn toast(&mut self, text: &str) -> Result<()> {
        let (token, id) = self.pressed.clone().context("nobody has pressed anything")?;
        let answer = async || {
            let rows = self.mock.messages(&Timeline { token: token.clone(), chat_id: None, limit: 1000 }).ok()?;
            let answers = rows["callback_answers"].as_array()?;
            let answer =
                answers.iter().find(|answer| answer["id"] == id.as_str() && !answer["answered_at"].is_null())?;
            answer["text"].as_str().map(str::to_owned)
        };
        let said = self.until(|| "the press was not answered".to_owned(), answer).await?;
        ensure!(Pattern::new(text).fits(&said, &mut self.bound), "the press was answered by: {said}");
        Ok(())
    }

    /// The messages of the chat, put together, hold every line of a range once and in order.
    pub(super) async fn together(&self, range: &str) -> Result<()> {
        let (token, chat) = (self.token(&self.here.0), self.here.1);
        let all: String = self.shown(&token, chat).iter().map(|shown| format!("{}\n", shown.text)).collect();
        let found: Vec<&str> = all.lines().filter(|line| line.starts_with("This is line ")).collect();
        let wanted = spelled(range)?;
        ensure!(found == wanted.lines().collect::<Vec<_>>(), "they say {} lines", found.len());
        Ok(())
    }

    pub(super) async fn last_brief(
        &mut self,
        expected: &str,
        part: impl Fn(&salon_core::Brief) -> String,
    ) -> Result<()> {
        let expected = if expected == "nothing" { "" } else { expected };
        let pattern = Pattern::new(&self.filled(expected));
        let desk = self.desk.clone();
        let part = &part;
        let told = || desk.last_heard().map(|brief| part(&brief)).unwrap_or_default();
        let look = async || {
            let mut bound = self.bound.clone();
            pattern.fits(&told(), &mut bound).then_some(bound)
        };
        self.bound = self.until(|| format!("it was: {}", told()), look).await?;
        Ok(())
    }

    pub(super) async fn turns(&self, whose: &str, wanted: &str) -> Result<()> {
        let store = &self.house()?.salon.store;
        let count = async || {
            let counts = store.read().await.ok()?.count_turns().await.ok()?;
            let words =
                counts.iter().filter(|(bot, ..)| bot == whose).map(|(_, state, count)| format!("{count} {state}"));
            let mut words: Vec<_> = words.collect();
            words.sort();
            Some(words)
        };
        let mut expected: Vec<_> = wanted.split(", ").filter(|word| *word != "none").map(str::to_owned).collect();
        expected.sort();
        let seen = Mutex::new(Vec::new());
        let look = async || {
            let found = count().await?;
            let right = found == expected;
            *seen.lock().expect("a list") = found;
            right.then_some(())
        };
        self.until(|| format!("they are: {}", seen.lock().expect("a list").join(", ")), look).await
    }

    // Waiting and looking.

    /// Every update has been taken, and what it asked for has begun.
    pub(super) async fn all_read(&self) -> Result<()> {
        let tokens: Vec<String> = self.bots.iter().map(|id| self.token(id)).collect();
        let look = async || {
            // In this order: what is not with Telegram any more is a job by now.
            let taken = tokens.iter().all(|token| self.mock.undelivered(token) == 0);
            (taken && self.open_jobs(|kind| kind == salon::KIND_UPDATE).await? == 0).then_some(())
        };
        self.until(|| "updates wait".to_owned(), look).await
    }

    /// What was sent last has been taken up at least once, be it beside the rest of its chat.
    pub(super) async fn newest_heard(&self) -> Result<()> {
        let token = self.token(&self.here.0);
        let lane = format!("control:{}:{}", self.here.0, self.here.1);
        let store = &self.house()?.salon.store;
        let look = async || {
            let taken = self.mock.undelivered(&token) == 0;
            let waiting = store.read().await.ok()?.find_open(&lane, salon::KIND_UPDATE).await.ok()?;
            (taken && waiting.is_none_or(|job| job.ticket.epoch > 0)).then_some(())
        };
        self.until(|| "it was not taken up".to_owned(), look).await
    }

    /// Nothing is left to do.
    pub(super) async fn all_quiet(&self) -> Result<()> {
        self.all_read().await?;
        let look = async || (self.open_jobs(|kind| kind != salon_bots::poll::KIND).await? == 0).then_some(());
        self.until(|| "there are open jobs".to_owned(), look).await
    }

    pub(super) async fn open_jobs(&self, kind: impl Fn(&str) -> bool) -> Option<i64> {
        let counts = self.house().ok()?.salon.store.read().await.ok()?.count_jobs().await.ok()?;
        let open = counts.iter().filter(|job| matches!(job.state.as_str(), "queued" | "running") && kind(&job.kind));
        Some(open.map(|job| job.count).sum())
    }

    /// After the last line: nothing is open, nothing was said that the story does not know, and all of it is final.
    pub(super) async fn look_around(&mut self) -> Result<()> {
        self.open().await?;
        self.all_quiet().await?;
        self.desk.check()?;
        for id in self.bots.clone() {
            let token = self.token(&id);
            for chat in self.chats(&token) {
                for shown in self.shown(&token, chat) {
                    let at = (token.clone(), chat, shown.number);
                    let expected = self.told.get(&at).cloned();
                    let expected = expected
                        .with_context(|| format!("the story does not tell of {id}'s message: {}", shown.text))?;
                    let fits = expected.pattern.fits(&shown.text, &mut self.bound);
                    ensure!(fits, "{id} said {:?} and now says {:?}", expected.pattern.text, shown.text);
                    ensure!(rows_fit(&expected.rows, &shown.rows), "{:?} has other buttons now", shown.text);
                    ensure!(expected.left || shown.text != PLACEHOLDER, "a placeholder of {id} was left");
                }
                ensure!(self.drafts(&token, chat) == 0, "a draft of {id} was left");
            }
        }
        let verdict = self.mock.verify(&Verify::default())?;
        ensure!(verdict.violations.is_empty(), "Telegram complains: {:?}", verdict.violations);
        ensure!(
            verdict.unanswered_callbacks.is_empty(),
            "presses were not answered: {:?}",
            verdict.unanswered_callbacks
        );
        let counts = self.house()?.salon.store.read().await?.count_jobs().await?;
        let dead: i64 = counts.iter().filter(|job| job.state == "dead").map(|job| job.count).sum();
        ensure!(dead == self.dead_letters, "{dead} dead letters, and the story tells of {}", self.dead_letters);
        Ok(())
    }

    /// Waits until `look` finds something. What went wrong is said by `why_not`.
    pub(super) async fn until<T>(
        &self,
        why_not: impl Fn() -> String,
        mut look: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T> {
        let mut news = self.mock.watch();
        let found = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                // The chats tell us when they change; databases and engines do not.
                tokio::select! {
                    heard = news.recv() => if let Err(RecvError::Closed) = heard { std::future::pending().await },
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.map_err(|_| anyhow!("{}", why_not()))
    }

    pub(super) fn is_told(&self, token: &str, chat: i64, shown: &Shown) -> bool {
        self.told.contains_key(&(token.to_owned(), chat, shown.number))
    }

    pub(super) fn labelled(&self, label: &str) -> Result<At> {
        self.labels.get(label).cloned().with_context(|| format!("no message is called {label}"))
    }

    pub(super) fn rows(&self, token: &str, chat: i64) -> Vec<Value> {
        let rows = self.mock.messages(&Timeline::of(token, chat)).expect("a timeline");
        rows["messages"].as_array().cloned().unwrap_or_default()
    }

    pub(super) fn shown(&self, token: &str, chat: i64) -> Vec<Shown> {
        let of_the_bot = |row: &&Value| row["direction"] == "bot" && row["is_draft"] == false;
        let mut shown: Vec<_> = self.rows(token, chat).iter().filter(of_the_bot).map(shown).collect();
        shown.sort_by_key(|shown| shown.number);
        shown
    }

    pub(super) fn drafts(&self, token: &str, chat: i64) -> usize {
        self.rows(token, chat).iter().filter(|row| row["is_draft"] == true).count()
    }

    pub(super) fn chats(&self, token: &str) -> Vec<i64> {
        self.mock.threads(Some(token)).iter().filter_map(|thread| thread["chat_id"].as_i64()).collect()
    }

    /// Everything that can be seen, for whoever looks for a mistake.
    pub(super) fn picture(&self) -> String {
        let mut text = String::new();
        for id in &self.bots {
            let token = self.token(id);
            for chat in self.chats(&token) {
                let _ = writeln!(text, "\n--- {id}, chat {chat}");
                for row in self.rows(&token, chat) {
                    let draft = if row["is_draft"] == true { " (draft)" } else { "" };
                    let who = row["direction"].as_str().unwrap_or_default();
                    let said = row["text"].as_str().unwrap_or_default().replace('\n', "\n      | ");
                    let _ = writeln!(text, "  {:>3} {who}{draft}: {said}", row["message_id"]);
                    for row in &shown(&row).rows {
                        let labels: Vec<_> = row.iter().map(|(label, _)| format!("[{label}]")).collect();
                        let _ = writeln!(text, "      {}", labels.join(" "));
                    }
                }
            }
        }
        let calls = self.mock.ledger(&Calls::default());
        let refused = calls["calls"].as_array().into_iter().flatten().filter(|call| call["status"] != 200);
        for call in refused {
            let _ = writeln!(text, "  Telegram: {} {} {}", call["method"], call["status"], call["error"]);
        }
        text
    }
}

fn shown(row: &Value) -> Shown {
    let keyboard = row["reply_markup"]["inline_keyboard"].as_array().cloned().unwrap_or_default();
    let field = |button: &Value, name: &str| button[name].as_str().unwrap_or_default().to_owned();
    let buttons = |row: &Value| {
        let buttons = row.as_array().into_iter().flatten();
        buttons.map(|button| (field(button, "text"), field(button, "callback_data"))).collect()
    };
    Shown {
        number: row["message_id"].as_i64().unwrap_or(0),
        text: field(row, "text"),
        rows: keyboard.iter().map(buttons).collect(),
        thread: row["message_thread_id"].as_i64(),
    }
}

/// Rows that the story does not tell of may be any; `[no buttons]` are none.
fn rows_fit(expected: &[Vec<String>], shown: &[Vec<(String, String)>]) -> bool {
    let labels: Vec<Vec<&String>> = shown.iter().map(|row| row.iter().map(|(label, _)| label).collect()).collect();
    match expected {
        [] => true,
        [row] if row == &["no buttons"] => shown.is_empty(),
        rows => rows.iter().map(|row| row.iter().collect::<Vec<_>>()).eq(labels),
    }
}
