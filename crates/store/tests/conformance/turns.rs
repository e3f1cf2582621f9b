use salon_core::{ChatId, DialogId, Time, TurnId, TurnState, Usage};
use salon_store::testing::Scratch;
use salon_store::{Finished, NewTurn, Store, Ticket, on_both_databases};

use crate::cast::*;

on_both_databases! {
    a_turn_comes_back_as_it_was_given
    turns_have_numbers_without_gaps_or_twins
    a_refused_turn_costs_no_number
    a_turn_needs_its_dialog
    earlier_turns_are_listed_oldest_first
    a_turn_runs_and_is_answered
    a_turn_that_has_ended_stays_as_it_is
    the_latest_answer_is_that_of_the_newest_done_turn
    an_edited_message_corrects_its_question
    turns_are_counted_by_bot_and_state
}

fn finished(turn: &TurnId, state: TurnState, answer: &str) -> Finished {
    let usage = Usage {
        model: Some("model-1".to_owned()),
        tokens_in: 12,
        tokens_out: 5_000_000_000,
        estimated: true,
        suspect: false,
    };
    Finished { turn: turn.clone(), state, answer: answer.to_owned(), usage, error: None, now: Time(3_000) }
}

async fn end(store: &Store, ticket: &Ticket, finished: Finished) {
    let args = (ticket.clone(), finished);
    transact!(store, args, |tx, (ticket, finished)| {
        let held = tx.hold(ticket, Time(90_000)).await?;
        tx.finish_turn(&held, finished).await
    })
    .expect("finish");
}

async fn find(store: &Store, id: &TurnId) -> salon_core::Turn {
    read(store).await.find_turn(id).await.expect("find").expect("a turn")
}

async fn a_turn_comes_back_as_it_was_given(Scratch { store, .. }: Scratch) {
    add_dialog(&store, dialog("d", ALICE)).await;
    let given = NewTurn { user: None, question: "Есть ли\0 зубы? 🦜".to_owned(), ..turn("t", "d") };
    assert_eq!(add_turn(&store, given).await, 1);
    let found = find(&store, &TurnId::new("t")).await;
    assert_eq!((found.dialog.as_str(), found.number, found.user), ("d", 1, None));
    assert_eq!(found.question, "Есть ли\u{fffd} зубы? 🦜");
    assert_eq!((found.asked_at, found.answered_at, found.answer), (Time(2_000), None, None));
    assert_eq!(
        (found.state, found.engine.as_str(), found.model, found.error),
        (TurnState::Queued, "storyteller", None, None)
    );
    assert_eq!(found.usage, Usage::default());
    assert_eq!(read(&store).await.find_turn(&TurnId::new("none")).await.expect("find"), None);
}

async fn turns_have_numbers_without_gaps_or_twins(Scratch { store, .. }: Scratch) {
    add_dialog(&store, dialog("d", ALICE)).await;
    let mut numbers =
        at_once(&store, 20, |store, n| async move { add_turn(&store, turn(format!("{n}"), "d")).await }).await;
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    let dialog = read(&store).await.find_dialog(&DialogId::new("d")).await.expect("find").expect("a dialog");
    assert_eq!(dialog.turns, 20);
}

async fn a_refused_turn_costs_no_number(Scratch { store, .. }: Scratch) {
    add_dialog(&store, dialog("d", ALICE)).await;
    let refused = transact!(store, turn("refused", "d"), |tx, turn| {
        tx.add_turn(turn).await?;
        Err::<(), _>(salon_core::Refusal::QueueFull { limit: 20 }.into())
    });
    assert!(matches!(refused, Err(salon_store::Error::Refused(_))));
    assert_eq!(add_turn(&store, turn("taken", "d")).await, 1);
}

async fn a_turn_needs_its_dialog(Scratch { store, .. }: Scratch) {
    let outcome = transact!(store, turn("t", "none"), |tx, turn| tx.add_turn(turn).await);
    assert!(matches!(outcome, Err(salon_store::Error::Fault(_))), "{outcome:?}");
}

async fn earlier_turns_are_listed_oldest_first(Scratch { store, .. }: Scratch) {
    add_dialog(&store, dialog("d", ALICE)).await;
    add_dialog(&store, dialog("other", ChatId(5))).await;
    add_turn(&store, turn("elsewhere", "other")).await;
    for n in 1..=5 {
        add_turn(&store, turn(format!("{n}"), "d")).await;
    }
    let list = |number: i64, limit: i64| {
        let store = store.clone();
        async move {
            let turns = read(&store).await.list_turns_before(&DialogId::new("d"), number, limit).await.expect("list");
            turns.into_iter().map(|turn| turn.number).collect::<Vec<_>>()
        }
    };
    assert_eq!(list(5, 3).await, [2, 3, 4]);
    assert_eq!(list(3, 10).await, [1, 2]);
    assert!(list(1, 10).await.is_empty());
}

async fn a_turn_runs_and_is_answered(Scratch { store, .. }: Scratch) {
    let (id, ticket) = turn_in_progress(&store, "t").await;
    for _ in 0..2 {
        // A second time after a takeover.
        transact!(store, (ticket.clone(), id.clone()), |tx, (ticket, id)| {
            let held = tx.hold(ticket, Time(90_000)).await?;
            tx.start_turn(&held, id).await
        })
        .expect("start");
        assert_eq!(find(&store, &id).await.state, TurnState::Running);
    }
    end(&store, &ticket, finished(&id, TurnState::Done, "No\0.")).await;
    let found = find(&store, &id).await;
    assert_eq!(
        (found.state, found.answer.as_deref(), found.answered_at),
        (TurnState::Done, Some("No\u{fffd}."), Some(Time(3_000)))
    );
    assert_eq!(found.model.as_deref(), Some("model-1"));
    assert_eq!(found.usage, finished(&id, TurnState::Done, "").usage);
}

async fn a_turn_that_has_ended_stays_as_it_is(Scratch { store, .. }: Scratch) {
    let (id, ticket) = turn_in_progress(&store, "t").await;
    let failed = Finished { error: Some("the engine \0 broke".to_owned()), ..finished(&id, TurnState::Failed, "") };
    end(&store, &ticket, failed).await;
    end(&store, &ticket, finished(&id, TurnState::Done, "too late")).await;
    transact!(store, (ticket, id.clone()), |tx, (ticket, id)| {
        let held = tx.hold(ticket, Time(90_000)).await?;
        tx.start_turn(&held, id).await
    })
    .expect("start");
    let found = find(&store, &id).await;
    assert_eq!((found.state, found.answer.as_deref()), (TurnState::Failed, Some("")));
    assert_eq!(found.error.as_deref(), Some("the engine \u{fffd} broke"));
}

async fn the_latest_answer_is_that_of_the_newest_done_turn(Scratch { store, .. }: Scratch) {
    let (first, ticket) = turn_in_progress(&store, "1").await;
    let dialog = DialogId::new("dialog of 1");
    assert_eq!(read(&store).await.find_latest_answered(&dialog).await.expect("find"), None);
    for id in ["2", "3", "4"] {
        add_turn(&store, turn(id, dialog.as_str())).await;
    }
    end(&store, &ticket, finished(&first, TurnState::Done, "one")).await;
    end(&store, &ticket, finished(&TurnId::new("2"), TurnState::Done, "two")).await;
    end(&store, &ticket, finished(&TurnId::new("3"), TurnState::Failed, "")).await;
    let latest = read(&store).await.find_latest_answered(&dialog).await.expect("find").expect("a turn");
    assert_eq!(latest.answer.as_deref(), Some("two"));
}

async fn an_edited_message_corrects_its_question(Scratch { store, .. }: Scratch) {
    add_dialog(&store, dialog("d", ALICE)).await;
    add_dialog(&store, dialog("other", ChatId(5))).await;
    for (id, in_dialog) in [("t", "d"), ("same number elsewhere", "other")] {
        add_turn(&store, turn(id, in_dialog)).await;
    }
    let amend = |message: i64, chat: ChatId| {
        let store = store.clone();
        async move {
            transact!(store, (message, chat), |tx, (message, chat)| {
                tx.amend_question(&parrot(), *chat, *message, "Do herons?\0").await
            })
            .expect("amend")
        }
    };
    assert!(amend(7, ALICE).await);
    assert!(!amend(8, ALICE).await);
    assert!(!amend(7, ChatId(6)).await);
    assert_eq!(find(&store, &TurnId::new("t")).await.question, "Do herons?\u{fffd}");
    assert_eq!(find(&store, &TurnId::new("same number elsewhere")).await.question, "Do storks have teeth?");
}

async fn turns_are_counted_by_bot_and_state(Scratch { store, .. }: Scratch) {
    let (id, ticket) = turn_in_progress(&store, "1").await;
    add_turn(&store, turn("2", "dialog of 1")).await;
    add_turn(&store, turn("3", "dialog of 1")).await;
    end(&store, &ticket, finished(&id, TurnState::Done, "yes")).await;
    let counts = read(&store).await.count_turns().await.expect("count");
    let count = |state: &str, count: i64| ("parrot".to_owned(), state.to_owned(), count);
    assert_eq!(counts, [count("done", 1), count("queued", 2)]);
}
