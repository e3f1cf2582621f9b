//! The judge: what the chats show, laid beside what the database says.

use salon_core::{BotId, ChatId, TurnState};
use salon_mock::{Call, Verify};
use salon_store::Store;

use crate::crowd::Crowd;
use crate::stage::{BOT, Stage, TOKEN};

const PLACEHOLDER: &str = "…";

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
    damage.stored = stored(&store, crowd).await.expect("the database can be read");
    let listed = store.read().await.expect("a reader").count_parts().await.expect("parts");
    let listed = listed.iter().filter(|(state, _)| state == "orphan").map(|(_, count)| *count as usize).sum();
    store.close().await;
    let texts = crowd.chats().flat_map(|(chat, _)| stage.mock.bot_texts(TOKEN, chat));
    let orphans = texts.filter(|text| text == PLACEHOLDER).count();
    let swallowed = |call: &&Call| call.applied && call.status != 200;
    let ambiguous = stage.mock.calls(TOKEN, "sendMessage").iter().filter(swallowed).count();
    (damage, Traces { orphans, listed, ambiguous })
}

/// Every turn is done, numbered without a gap and answered with its question; no job is left, none was given up.
async fn stored(store: &Store, crowd: &Crowd) -> salon_store::Result<Vec<String>> {
    let mut wrong: Vec<String> = store.check().await?.into_iter().map(|damage| format!("check: {damage}")).collect();
    let mut tx = store.read().await?;
    for jobs in tx.count_jobs().await? {
        let may_stay = jobs.kind == "poll" || jobs.state == "done";
        if jobs.count > 0 && !may_stay {
            wrong.push(format!("{} {} jobs are {}", jobs.count, jobs.kind, jobs.state));
        }
    }
    for (state, count) in tx.count_parts().await? {
        if !matches!(state.as_str(), "shown" | "orphan") {
            wrong.push(format!("{count} parts are {state}"));
        }
    }
    for (chat, asked) in crowd.chats().filter(|(_, asked)| *asked > 0) {
        let Some(dialog) = tx.find_active_dialog(&BotId::new(BOT), ChatId(chat)).await? else {
            wrong.push(format!("chat {chat} has no dialog"));
            continue;
        };
        let turns = tx.list_turns_before(&dialog.id, i64::MAX, i64::MAX).await?;
        if turns.len() != asked {
            wrong.push(format!("chat {chat} asked {asked} times and has {} turns", turns.len()));
        }
        for (turn, number) in turns.iter().zip(1..) {
            if turn.number != number {
                wrong.push(format!("chat {chat}: turn {} stands at place {number}", turn.number));
            }
            if turn.state != TurnState::Done || turn.answer.as_deref() != Some(&turn.question) {
                wrong.push(format!("chat {chat}: turn {number} is {:?}, {:?}", turn.state, turn.answer));
            }
        }
        let numbers = |text: &str| text.strip_prefix("q ").and_then(|number| number.parse::<usize>().ok());
        let questions: Vec<_> = turns.iter().map(|turn| numbers(&turn.question)).collect();
        if !questions.is_sorted() {
            wrong.push(format!("chat {chat}: the questions stand in another order than they were asked"));
        }
    }
    Ok(wrong)
}
