//! The judge: what the chats show, laid beside what the database says.

use std::collections::{HashMap, HashSet};

use salon_core::{BotId, ChatId, OrgId, Time, Turn, TurnState};
use salon_mock::{Call, Timeline, Verify};
use salon_store::ledger::{CallFilter, UsageFilter};
use salon_store::{Store, Tx};

use crate::crowd::Crowd;
use crate::stage::{BOT, Stage, TOKEN};

const PLACEHOLDER: &str = "…";
const ORG: &str = "default";

/// What is wrong. All zeros is what every run is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    pub lost: usize,
    pub duplicates: usize,
    pub disorder: usize,
    /// What the bot did that no bot may do.
    pub violations: Vec<String>,
    /// What the database says otherwise than it should.
    pub stored: Vec<String>,
}

/// What a run leaves behind beside damage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traces {
    /// Placeholders that nobody will ever fill.
    pub orphans: usize,
    /// Those that the outbox knows of.
    pub listed: usize,
    /// Sends that were applied and whose answer was lost on purpose.
    pub ambiguous: usize,
    /// Orphans for which there is no excuse; see [`unexcused`].
    pub unexcused: usize,
}

impl Damage {
    pub fn none(&self) -> bool {
        *self == Damage::default()
    }
}

/// Judges the chats and the database. To be called when the program has ended.
pub async fn judge(stage: &Stage, crowd: &Crowd) -> (Damage, Traces) {
    let verify = Verify { prefix: "q ".to_owned(), ..Verify::default() };
    let verdict = stage.mock.verify(&verify).expect("a verdict");
    assert!(verdict.complete, "the mock remembers everything");
    assert_eq!(verdict.questions, crowd.asked(), "the mock counts what the crowd asked");
    for (what, cases) in
        [("lost", &verdict.lost), ("duplicate", &verdict.duplicates), ("out of order", &verdict.disorder)]
    {
        for case in cases.iter().take(5) {
            println!("  {what}: {} in chat {}, answers {:?}", case.text, case.chat_id, case.answers);
        }
    }
    let mut damage = Damage {
        // What was not even taken in when everything has settled is as lost as the rest.
        lost: verdict.lost.len() + verdict.pending.len(),
        duplicates: verdict.duplicates.len(),
        disorder: verdict.disorder.len(),
        violations: verdict.violations.iter().map(|case| format!("{}: {}", case.kind, case.detail)).collect(),
        stored: Vec::new(),
    };
    let store = Store::open(&stage.place(), "judge").await.expect("the database opens");
    damage.stored = stored(&store, stage, crowd).await.expect("the database can be read");
    let listed = store.read().await.expect("a reader").count_parts().await.expect("parts");
    let listed = listed.iter().filter(|(state, _)| state == "orphan").map(|(_, count)| *count as usize).sum();
    store.close().await;
    let sends = stage.mock.calls(TOKEN, "sendMessage");
    let orphans = orphans(stage, crowd);
    let traces = Traces {
        orphans: orphans.len(),
        listed,
        ambiguous: sends.iter().filter(|send| was_swallowed(send)).count(),
        unexcused: unexcused(stage, &sends, &orphans),
    };
    (damage, traces)
}

/// Placeholders that still stand: chat and message.
fn orphans(stage: &Stage, crowd: &Crowd) -> HashSet<(i64, i64)> {
    let placeholders = |(chat, _): (i64, usize)| {
        let texts = texts(stage, chat).into_iter().filter(|(_, text)| text == PLACEHOLDER);
        texts.map(move |(message, _)| (chat, message)).collect::<Vec<_>>()
    };
    crowd.chats().flat_map(placeholders).collect()
}

/// Counts orphans that nothing excuses.
///
/// A lost answer excuses one. So does the death of a process, for each lane in which the chat was spoken to: a lane
/// has one message on its way at a time, and whatever it had placed before that was written down.
fn unexcused(stage: &Stage, sends: &[Call], orphans: &HashSet<(i64, i64)>) -> usize {
    const LANES_OF_A_CHAT: usize = 2;
    let deaths = stage.deaths();
    let mut by_life: HashMap<(i64, usize), usize> = HashMap::new();
    let mut unexcused = 0;
    for send in sends.iter().filter(|send| !was_swallowed(send)) {
        let Some(place) = send.chat_id.zip(send.message_id).filter(|place| orphans.contains(place)) else { continue };
        let life = deaths.partition_point(|&death| death < send.n);
        let here = by_life.entry((place.0, life)).or_default();
        *here += 1;
        if life == deaths.len() || *here > LANES_OF_A_CHAT {
            unexcused += 1;
        }
    }
    unexcused
}

fn was_swallowed(send: &Call) -> bool {
    send.applied && send.status != 200
}

/// Every turn is done, numbered without a gap and answered with its question; no job is left, none was given up.
async fn stored(store: &Store, stage: &Stage, crowd: &Crowd) -> salon_store::Result<Vec<String>> {
    let mut wrong: Vec<String> = store.check().await?.into_iter().map(|damage| format!("check: {damage}")).collect();
    let mut tx = store.read().await?;
    for jobs in tx.count_jobs().await? {
        let may_stay = jobs.kind == "poll" || jobs.state == "done";
        if jobs.count > 0 && !may_stay {
            wrong.push(format!("{} {} jobs are {}", jobs.count, jobs.kind, jobs.state));
        }
    }
    for (state, count) in tx.count_parts().await? {
        if state == "open" {
            wrong.push(format!("{count} parts are {state}"));
        }
    }
    for (chat, asked) in crowd.chats().filter(|(_, asked)| *asked > 0) {
        let Some(dialog) = tx.find_active_dialog(&BotId::new(BOT), ChatId(chat)).await? else {
            wrong.push(format!("chat {chat} has no dialog"));
            continue;
        };
        let turns = tx.list_turns_before(&dialog.id, i64::MAX, i64::MAX).await?;
        let pressed = crowd.presses(chat);
        if turns.len() != asked + pressed {
            wrong.push(format!("chat {chat} asked {asked} times, pressed {pressed}, and has {} turns", turns.len()));
        }
        for (turn, number) in turns.iter().zip(1..) {
            if turn.number != number {
                wrong.push(format!("chat {chat}: turn {} stands at place {number}", turn.number));
            }
            if turn.state != TurnState::Done || turn.answer.as_deref() != Some(&turn.question) {
                wrong.push(format!(
                    "chat {chat}: turn {number} is {:?}, {:?}, {:?}",
                    turn.state, turn.answer, turn.error
                ));
            }
        }
        wrong.extend(shown(&mut tx, stage, chat, &turns).await?);
        wrong.extend(charged_otherwise(&mut tx, &turns).await?);
        let numbers = |text: &str| text.strip_prefix("q ").and_then(|number| number.parse::<usize>().ok());
        // What a button asks for has no number.
        let questions: Vec<_> = turns.iter().filter_map(|turn| numbers(&turn.question)).collect();
        if questions.len() != asked {
            wrong.push(format!("chat {chat}: {asked} questions were asked and {} heard", questions.len()));
        }
        if !questions.is_sorted() {
            wrong.push(format!("chat {chat}: the questions stand in another order than they were asked"));
        }
    }
    Ok(wrong)
}

/// Turns that have ended without their charge, and charges of turns that have not ended, or of two answers to one. At any
/// moment there are none, because one transaction writes both.
pub async fn charged_otherwise(tx: &mut Tx, turns: &[Turn]) -> salon_store::Result<Vec<String>> {
    let usage = UsageFilter::of(OrgId::new(ORG), Time(0), Time(i64::MAX));
    let entries = tx.list_entries(&CallFilter { usage, before: None, limit: i64::MAX }).await?;
    let wrong = turns.iter().filter_map(|turn| {
        let charges = entries.iter().filter(|entry| entry.payer.turn.as_ref() == Some(&turn.id)).count();
        let right = usize::from(turn.state.is_final());
        (charges != right).then(|| format!("turn {} is {:?} and charged {charges} times", turn.id, turn.state))
    });
    Ok(wrong.collect())
}

/// Every turn has its messages in the chat, they show something, and they stand in the order of the turns. What an earlier
/// attempt said too much is gone.
pub async fn shown(tx: &mut Tx, stage: &Stage, chat: i64, turns: &[Turn]) -> salon_store::Result<Vec<String>> {
    let mut wrong = Vec::new();
    let texts = texts(stage, chat);
    let mut highest = 0;
    for turn in turns {
        let parts = tx.list_parts(turn.id.as_str()).await?;
        let shown = tx.list_shown(turn.id.as_str()).await?;
        if shown.is_empty() {
            wrong.push(format!("chat {chat}: turn {} stands nowhere", turn.number));
        }
        for part in parts {
            let message = part.message.unwrap_or_default();
            let text = texts.get(&message).map(String::as_str);
            if !shown.contains(&part.part) {
                if text.is_some() {
                    wrong.push(format!("chat {chat}: turn {} has left {text:?} in message {message}", turn.number));
                }
                continue;
            }
            if text.is_none_or(|text| text.is_empty() || text == PLACEHOLDER) {
                wrong.push(format!("chat {chat}: turn {} shows {text:?} in message {message}", turn.number));
            }
            if message <= highest {
                wrong.push(format!("chat {chat}: turn {} stands above the one before it", turn.number));
            }
            highest = highest.max(message);
        }
    }
    Ok(wrong)
}

/// What a chat shows, by message.
pub fn texts(stage: &Stage, chat: i64) -> HashMap<i64, String> {
    let seen = stage.mock.messages(&Timeline::of(TOKEN, chat)).expect("a timeline");
    let messages = seen["messages"].as_array().expect("a list");
    let text = |message: &serde_json::Value| {
        (message["message_id"].as_i64().expect("a number"), message["text"].as_str().unwrap_or_default().to_owned())
    };
    // A draft is no message yet.
    messages.iter().filter(|message| message["is_draft"] != true).map(text).collect()
}
