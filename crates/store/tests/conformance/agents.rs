use salon_core::{AskId, ChatId, Chosen, DialogId, FileId, JobId, Time, TurnId, TurnState, Usage};
use salon_store::testing::Scratch;
use salon_store::{AskState, Error, Finished, Store, StoredFile, Thread, Ticket, on_both_databases};

use crate::cast::*;

on_both_databases! {
    of_several_answers_to_a_question_one_counts
    a_question_is_not_answered_when_its_time_is_over
    a_question_is_not_answered_when_nobody_waits_any_more
    a_file_comes_back_byte_for_byte
    threads_of_a_chat_are_listed_with_the_newest_first
    what_an_agent_was_told_waits_until_it_has_heard
    what_was_chosen_for_an_agent_stays_until_another_is_chosen
}

async fn answer(store: &Store, id: &str, state: AskState, now: i64) -> bool {
    let ask = read(store).await.find_ask(&AskId::new(id)).await.expect("find").expect("a question");
    transact!(store, (ask, state, Time(now)), |tx, (ask, state, now)| {
        tx.answer_ask(ask, *state, Some("alice"), *now).await
    })
    .expect("answer")
}

async fn ask(store: &Store, turn: &TurnId, id: &str) {
    let args = (AskId::new(id), turn.clone());
    transact!(store, args, |tx, (id, turn)| tx.add_ask(id, turn, Time(1_000), Time(5_000)).await).expect("ask");
}

async fn of_several_answers_to_a_question_one_counts(Scratch { store, .. }: Scratch) {
    let (turn, _) = turn_in_progress(&store, "t").await;
    ask(&store, &turn, "a").await;
    let states = [AskState::Once, AskState::Deny];
    let counted = at_once(&store, 10, move |store, at| async move { answer(&store, "a", states[at % 2], 2_000).await });
    assert_eq!(counted.await.into_iter().filter(|counted| *counted).count(), 1);
    let found = read(&store).await.find_ask(&AskId::new("a")).await.expect("find").expect("a question");
    assert!(states.contains(&found.state) && found.by.as_deref() == Some("alice"), "{found:?}");
    // Asking again does not open it again.
    ask(&store, &turn, "a").await;
    assert!(!answer(&store, "a", AskState::Session, 3_000).await);
}

async fn a_question_is_not_answered_when_its_time_is_over(Scratch { store, .. }: Scratch) {
    let (turn, _) = turn_in_progress(&store, "t").await;
    ask(&store, &turn, "a").await;
    assert!(!answer(&store, "a", AskState::Once, 5_000).await);
    assert!(answer(&store, "a", AskState::Expired, 5_000).await);
    let found = read(&store).await.find_ask(&AskId::new("a")).await.expect("find").expect("a question");
    assert_eq!(found.state, AskState::Expired);
}

async fn a_question_is_not_answered_when_nobody_waits_any_more(Scratch { store, .. }: Scratch) {
    let (turn, ticket) = turn_in_progress(&store, "t").await;
    for id in ["a", "b"] {
        ask(&store, &turn, id).await;
    }
    assert!(answer(&store, "a", AskState::Deny, 2_000).await);
    transact!(store, turn.clone(), |tx, turn| tx.close_asks(turn, Time(2_500)).await).expect("close");
    assert!(!answer(&store, "b", AskState::Once, 3_000).await, "another attempt asks anew");
    let found = read(&store).await.find_ask(&AskId::new("a")).await.expect("find").expect("a question");
    assert_eq!(found.state, AskState::Deny, "what was answered stays");
    ask(&store, &turn, "c").await;
    transact!(&store, (ticket, turn), |tx, (ticket, turn)| {
        let held = tx.hold(ticket, Time(60_000)).await?;
        let (turn, answer, usage, error, now) = (turn.clone(), String::new(), Usage::default(), None, Time(2_600));
        tx.finish_turn(&held, &Finished { turn, state: TurnState::Stopped, answer, usage, error, now }).await
    })
    .expect("finish");
    assert!(!answer(&store, "c", AskState::Once, 3_000).await, "its turn has ended");
}

async fn a_file_comes_back_byte_for_byte(Scratch { store, .. }: Scratch) {
    let (turn, _) = turn_in_progress(&store, "t").await;
    let file = StoredFile {
        id: FileId::new("f"),
        turn,
        name: "새 그림.png".to_owned(),
        media: "image/png".to_owned(),
        data: (0..=255).collect(),
    };
    transact!(store, file.clone(), |tx, file| tx.add_file(file, Time(1)).await).expect("add");
    assert_eq!(read(&store).await.find_file(&file.id).await.expect("find"), Some(file));
    assert_eq!(read(&store).await.find_file(&FileId::new("none")).await.expect("find"), None);
}

async fn threads_of_a_chat_are_listed_with_the_newest_first(Scratch { store, .. }: Scratch) {
    let (turn, ticket) = turn_in_progress(&store, "t").await;
    let dialog = read(&store).await.find_turn(&turn).await.expect("find").expect("a turn").dialog;
    let found = read(&store).await.find_dialog(&dialog).await.expect("find").expect("a dialog");
    let salon_core::Channel::Telegram { bot, chat } = found.channel else { panic!("it is in a chat") };
    for (thread, title, at) in [("one", "first", 1), ("two", "second", 2), ("one", "later", 3)] {
        let thread = Thread { thread: thread.to_owned(), title: title.to_owned(), used_at: Time(at) };
        let args = (ticket.clone(), dialog.clone(), thread);
        transact!(store, args, |tx, (ticket, dialog, thread)| {
            let held = tx.hold(ticket, Time(60_000)).await?;
            tx.note_thread(&held, dialog, "codex", thread).await
        })
        .expect("note");
    }
    let listed = read(&store).await.list_threads(&bot, chat, "codex", 10).await.expect("list");
    let listed: Vec<_> = listed.iter().map(|thread| (thread.thread.as_str(), thread.title.as_str())).collect();
    assert_eq!(listed, [("one", "first"), ("two", "second")]);
    assert_eq!(read(&store).await.list_threads(&bot, chat, "claude", 10).await.expect("list"), []);
    assert_eq!(read(&store).await.list_threads(&bot, ChatId(9), "codex", 10).await.expect("list"), []);
}

async fn what_an_agent_was_told_waits_until_it_has_heard(Scratch { store, .. }: Scratch) {
    let (_, ticket) = turn_in_progress(&store, "t").await;
    enqueue(&store, job("told", "lane of t")).await;
    let hear = async |ticket: &Ticket| {
        let args = (ticket.clone(), JobId::new("told"));
        transact!(&store, args, |tx, (ticket, told)| {
            let held = tx.hold(ticket, Time(60_000)).await?;
            tx.finish_unclaimed(&held, told, Time(3_000)).await
        })
    };
    // Whoever lost the run has heard nothing.
    let stale = Ticket { epoch: ticket.epoch - 1, ..ticket.clone() };
    assert!(matches!(hear(&stale).await, Err(Error::Fenced)));
    assert_eq!(read(&store).await.list_open("lane of t").await.expect("list").len(), 2);
    assert!(hear(&ticket).await.expect("hear"));
    assert!(!hear(&ticket).await.expect("hear"));
    assert_eq!(read(&store).await.list_open("lane of t").await.expect("list").len(), 1);
}

async fn what_was_chosen_for_an_agent_stays_until_another_is_chosen(Scratch { store, .. }: Scratch) {
    let chosen = Chosen {
        model: Some("gpt-5.5".to_owned()),
        project: Some("site".to_owned()),
        trusted_until: Some(Time(9_000)),
    };
    assert!(add_dialog(&store, dialog("d", ALICE)).await);
    let id = DialogId::new("d");
    let args = (id.clone(), chosen.clone());
    transact!(store, args, |tx, (id, chosen)| tx.choose(id, chosen, false, Time(2_000)).await).expect("choose");
    let find = async || read(&store).await.find_dialog(&id).await.expect("find").expect("a dialog");
    assert_eq!(find().await.chosen, chosen);
    transact!(store, id.clone(), |tx, id| tx.switch_engine(id, "claude", Time(3_000)).await).expect("switch");
    assert_eq!(find().await.chosen, Chosen { project: Some("site".to_owned()), ..Chosen::default() });
    transact!(store, id.clone(), |tx, id| tx.set_thread(id, Some("t-1"), Time(4_000)).await).expect("set");
    assert_eq!(find().await.thread.as_deref(), Some("t-1"));
}
