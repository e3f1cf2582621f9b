//! Asked politely to end, in the middle of everything (F10, F11).

use std::fs::{self, File};
use std::time::Duration;

use rustix::process::Signal;
use salon_core::{BotId, ChatId, TurnState};
use salon_engine::storyteller::tell;
use salon_store::Store;

use crate::crowd::Crowd;
use crate::judge::{judge, shown, texts};
use crate::program::{Program, ask};
use crate::runs::{WINDOW, is_long, long_patience};
use crate::stage::{BOT, Database, HEADER_SECRET, Intake, PATH_SECRET, Stage, TOKEN, open, tail};

/// Chats that listen to stories.
const LISTENERS: [i64; 3] = [501, 502, 503];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_is_quick_and_loses_nothing() {
    let rounds = if is_long() { 50 } else { 4 };
    let questions = rounds * 30;
    let stage = Stage::set(Database::Sqlite, Intake::Webhook).await;
    let mut crowd = Crowd::new(&stage, 20, WINDOW);
    let mut program = open(&stage.one(), stage.port).await;
    for chat in LISTENERS {
        stage.mock.says(TOKEN, chat, chat, "/mode storyteller");
        stage.mock.wait_for_texts(TOKEN, chat, |texts| texts.iter().any(|text| text.contains("storyteller"))).await;
    }
    let mut turned_away = 0;
    for round in 0..rounds {
        crowd.ask_until(questions * (round + 1) / (rounds + 1));
        for chat in LISTENERS {
            stage.mock.says(TOKEN, chat, chat, &story(round));
        }
        streaming(&stage, LISTENERS[round % LISTENERS.len()], round).await;
        program.signal(Signal::TERM);
        turned_away += knock_until_closed(&stage, &mut program, round).await;
        let ended = program.ended(Duration::from_secs(20)).await;
        let log = stage.one().said();
        assert!(ended.is_some_and(|status| status.success()), "round {round}: {ended:?}\n{}", tail(&log));
        program = open(&stage.one(), stage.port).await;
    }
    assert!(turned_away > 0, "nobody was turned away while the program was closing");
    let settled = crowd.ask_all(&[stage.port], questions, long_patience()).await;
    program.signal(Signal::TERM);
    assert!(program.ended(Duration::from_secs(20)).await.is_some_and(|status| status.success()));
    let log = tail(&stage.one().said());
    let (damage, traces) = judge(&stage, &crowd).await;
    assert!(settled, "work is left: {damage:?}\n{log}");
    assert!(damage.none(), "{damage:?}\n{log}");
    assert_eq!(traces.orphans, 0, "a drain leaves no placeholder behind: {traces:?}\n{log}");
    check_stories(&stage, rounds).await;
}

fn story(round: usize) -> String {
    format!("tale number {round}, please")
}

/// Waits until the story of this round has begun to be told.
async fn streaming(stage: &Stage, chat: i64, round: usize) {
    let begins: String = tell(&story(round)).trim_start_matches(['#', ' ']).chars().take(12).collect();
    let told = stage.mock.wait_for_texts(TOKEN, chat, |texts| {
        texts.iter().filter(|text| text.starts_with(&begins)).count() > 0
            || texts.iter().filter(|text| text.chars().count() > 60).count() > round
    });
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("the story begins");
}

/// Posts updates that mean nothing until nobody opens any more: each is either taken for good, or turned away with the
/// advice to come again. Answers how many were turned away.
async fn knock_until_closed(stage: &Stage, program: &mut Program, round: usize) -> usize {
    let mut turned_away = 0;
    for knock in 0.. {
        if !program.is_running() {
            break;
        }
        let request = format!(
            "POST /telegram/webhook/{BOT}/{PATH_SECRET} HTTP/1.1\r\nx-telegram-bot-api-secret-token: {HEADER_SECRET}"
        );
        let update = format!(r#"{{"update_id":{},"poll":{{}}}}"#, round * 100_000 + knock);
        match ask(stage.port, &request, &update).await {
            None => turned_away += 1,
            Some(answer) if answer.status == 503 => {
                assert!(answer.head.contains("retry-after:"), "{}", answer.head);
                turned_away += 1;
            }
            Some(answer) => assert_eq!(answer.status, 200, "{answer:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    turned_away
}

/// Every story was told once, to its end, in order.
async fn check_stories(stage: &Stage, rounds: usize) {
    let store = Store::open(&stage.place(), "judge").await.expect("the database opens");
    let mut tx = store.read().await.expect("a reader");
    for chat in LISTENERS {
        let dialog = tx.find_active_dialog(&BotId::new(BOT), ChatId(chat)).await.expect("dialogs").expect("a dialog");
        let turns = tx.list_turns_before(&dialog.id, i64::MAX, i64::MAX).await.expect("turns");
        assert_eq!(turns.len(), rounds);
        for (round, turn) in turns.iter().enumerate() {
            assert_eq!(turn.state, TurnState::Done, "chat {chat}, story {round}");
            assert_eq!(turn.answer.as_deref(), Some(tell(&story(round)).as_str()), "chat {chat}, story {round}");
        }
        let wrong = shown(&mut tx, stage, chat, &turns).await.expect("parts");
        assert!(wrong.is_empty(), "{wrong:?}");
        let texts = texts(stage, chat);
        for round in 0..rounds {
            let asked = story(round);
            // A story quotes its question at its beginning and at its end.
            let count = |wanted: &str| texts.values().filter(|text| text.contains(wanted)).count();
            let (begun, ended) = (count(&format!("\n{asked}\n")), count(&format!("you asked: {asked}")));
            assert_eq!((begun, ended), (1, 1), "chat {chat}: story {round} was begun and ended so often");
        }
    }
    drop(tx);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_at_once_and_what_was_stored_stays() {
    let stage = Stage::set(Database::Sqlite, Intake::Webhook).await;
    stage.write_bots("storyteller");
    let mut program = open(&stage.one(), stage.port).await;
    let chat = LISTENERS[0];
    stage.mock.says(TOKEN, chat, chat, &story(0));
    streaming(&stage, chat, 0).await;
    program.signal(Signal::TERM);
    let closing = async {
        while !stage.one().said().contains("a second signal ends at once") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closing).await.expect("it says that it closes");
    program.signal(Signal::TERM);
    let ended = program.ended(Duration::from_secs(20)).await.expect("it ends");
    let log = stage.one().said();
    assert!(log.contains("ended at once"), "{}", tail(&log));
    assert_eq!(ended.code(), Some(0), "{}", tail(&log));
    stage.note_death().await;

    let mut program = open(&stage.one(), stage.port).await;
    let crowd = Crowd::new(&stage, 0, 1);
    let settled = async {
        while !crowd.is_settled(&[stage.port]).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(long_patience(), settled).await.expect("the story is told to its end");
    program.signal(Signal::TERM);
    assert!(program.ended(Duration::from_secs(20)).await.is_some_and(|status| status.success()));
    check_one_story(&stage, chat).await;
}

async fn check_one_story(stage: &Stage, chat: i64) {
    let store = Store::open(&stage.place(), "judge").await.expect("the database opens");
    let mut tx = store.read().await.expect("a reader");
    let dialog = tx.find_active_dialog(&BotId::new(BOT), ChatId(chat)).await.expect("dialogs").expect("a dialog");
    let turns = tx.list_turns_before(&dialog.id, i64::MAX, i64::MAX).await.expect("turns");
    assert_eq!(turns.iter().map(|turn| turn.state).collect::<Vec<_>>(), [TurnState::Done]);
    assert_eq!(turns[0].answer.as_deref(), Some(tell(&story(0)).as_str()));
    let wrong = shown(&mut tx, stage, chat, &turns).await.expect("parts");
    assert!(wrong.is_empty(), "{wrong:?}");
    drop(tx);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reads_the_list_of_bots_again() {
    let stage = Stage::set(Database::Sqlite, Intake::Polling).await;
    let mut program = open(&stage.one(), stage.port).await;
    stage.mock.says(TOKEN, 1, 1, "q 1");
    answered(&stage, TOKEN, "q 1").await;
    // As long and as old as before, so that nothing but the signal tells of the change.
    let old = fs::read_to_string(stage.bots()).expect("the list of bots");
    let written = fs::metadata(stage.bots()).and_then(|metadata| metadata.modified()).expect("a time");
    fs::write(stage.bots(), old.replace(TOKEN, "mock_token_2")).expect("the list of bots");
    File::options().write(true).open(stage.bots()).and_then(|file| file.set_modified(written)).expect("the old time");
    stage.mock.says("mock_token_2", 1, 1, "q 2");
    program.signal(Signal::HUP);
    answered(&stage, "mock_token_2", "q 2").await;

    // A broken list changes nothing and ends nothing.
    fs::write(stage.bots(), "bots: {").expect("a broken list");
    program.signal(Signal::HUP);
    let heard = async {
        while !stage.one().said().contains("nothing was changed") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("the broken list is told of");
    stage.mock.says("mock_token_2", 1, 1, "q 3");
    answered(&stage, "mock_token_2", "q 3").await;
    program.signal(Signal::TERM);
    assert!(program.ended(Duration::from_secs(20)).await.is_some_and(|status| status.success()));
}

async fn answered(stage: &Stage, token: &str, text: &str) {
    let answered = stage.mock.wait_for_texts(token, 1, |texts| texts.iter().any(|said| said == text));
    let in_time = tokio::time::timeout(Duration::from_secs(60), answered).await;
    assert!(in_time.is_ok(), "{text} is not answered\n{}", tail(&stage.one().said()));
}
