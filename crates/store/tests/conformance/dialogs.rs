use salon_core::{ChatId, Dialog, DialogId, Time, View};
use salon_store::testing::Scratch;
use salon_store::{Store, on_both_databases};

use crate::cast::*;

on_both_databases! {
    a_dialog_comes_back_as_it_was_given
    a_chat_has_one_active_dialog
    a_chat_has_one_active_dialog_under_concurrency
    leaving_keeps_the_summary_unless_it_is_to_be_forgotten
    the_latest_dialog_is_the_active_one_or_else_the_last_left
    another_engine_starts_a_new_thread_and_window
    a_thread_is_remembered_only_for_the_engine_that_named_it
    a_view_is_kept_for_the_dialog
}

async fn find(store: &Store, id: &str) -> Dialog {
    read(store).await.find_dialog(&DialogId::new(id)).await.expect("find").expect("a dialog")
}

async fn active(store: &Store, chat: ChatId) -> Option<Dialog> {
    read(store).await.find_active_dialog(&parrot(), chat).await.expect("find")
}

async fn close(store: &Store, id: &str, forget: bool, now: i64) {
    let args = (DialogId::new(id), forget, Time(now));
    transact!(store, args, |tx, (id, forget, now)| tx.close_dialog(id, *forget, *now).await).expect("close");
}

async fn a_dialog_comes_back_as_it_was_given(Scratch { store, .. }: Scratch) {
    let given = Dialog {
        view: Some(View::Events),
        thread: Some("thread-9".to_owned()),
        summary: "- storks\n- 앵무새".to_owned(),
        window_from: 3,
        turns: 0,
        updated_at: Time(5_000),
        ..dialog("d", ChatId(-100_123_456_789))
    };
    assert!(add_dialog(&store, given.clone()).await);
    assert_eq!(find(&store, "d").await, given);
    assert_eq!(active(&store, ChatId(-100_123_456_789)).await, Some(given));
    assert_eq!(active(&store, ChatId(1)).await, None);
    assert_eq!(read(&store).await.find_dialog(&DialogId::new("none")).await.expect("find"), None);
    let summary = Dialog { summary: "with a \0 in it".to_owned(), ..dialog("e", ALICE) };
    assert!(add_dialog(&store, summary).await);
    assert_eq!(find(&store, "e").await.summary, "with a \u{fffd} in it");
}

async fn a_chat_has_one_active_dialog(Scratch { store, .. }: Scratch) {
    assert!(add_dialog(&store, dialog("1", ALICE)).await);
    assert!(!add_dialog(&store, dialog("2", ALICE)).await);
    assert!(add_dialog(&store, dialog("3", ChatId(1002))).await);
    close(&store, "1", false, 2_000).await;
    assert_eq!(active(&store, ALICE).await, None);
    assert!(add_dialog(&store, dialog("4", ALICE)).await);
    assert_eq!(active(&store, ALICE).await.expect("a dialog").id.as_str(), "4");
}

async fn a_chat_has_one_active_dialog_under_concurrency(Scratch { store, .. }: Scratch) {
    let added =
        at_once(&store, 20, |store, n| async move { add_dialog(&store, dialog(&format!("{n}"), ALICE)).await }).await;
    assert_eq!(added.into_iter().filter(|added| *added).count(), 1);
    assert!(active(&store, ALICE).await.is_some());
}

async fn leaving_keeps_the_summary_unless_it_is_to_be_forgotten(Scratch { store, .. }: Scratch) {
    for (id, chat, forget, left) in [("kept", 1, false, "what was said"), ("forgotten", 2, true, "")] {
        let full =
            Dialog { summary: "what was said".to_owned(), thread: Some("t".to_owned()), ..dialog(id, ChatId(chat)) };
        add_dialog(&store, full).await;
        close(&store, id, forget, 2_000).await;
        let closed = find(&store, id).await;
        assert_eq!((closed.active, closed.thread, closed.updated_at), (false, None, Time(2_000)));
        assert_eq!(closed.summary, left);
    }
}

async fn the_latest_dialog_is_the_active_one_or_else_the_last_left(Scratch { store, .. }: Scratch) {
    let latest = || async {
        let found = read(&store).await.find_latest_dialog(&parrot(), ALICE).await.expect("find");
        found.map(|dialog| dialog.id.as_str().to_owned())
    };
    assert_eq!(latest().await, None);
    add_dialog(&store, dialog("1", ALICE)).await;
    close(&store, "1", false, 9_000).await;
    add_dialog(&store, dialog("2", ALICE)).await;
    assert_eq!(latest().await.as_deref(), Some("2"));
    close(&store, "2", false, 8_000).await;
    assert_eq!(latest().await.as_deref(), Some("1"));
}

async fn another_engine_starts_a_new_thread_and_window(Scratch { store, .. }: Scratch) {
    let given = Dialog { thread: Some("t".to_owned()), summary: "storks".to_owned(), ..dialog("d", ALICE) };
    add_dialog(&store, given).await;
    for n in 1..=3 {
        add_turn(&store, turn(format!("{n}"), "d")).await;
    }
    transact!(store, (), |tx, ()| tx.switch_engine(&DialogId::new("d"), "echo", Time(3_000)).await).expect("switch");
    let found = find(&store, "d").await;
    assert_eq!((found.engine.as_str(), found.thread, found.window_from, found.turns), ("echo", None, 4, 3));
    assert_eq!((found.summary.as_str(), found.active, found.updated_at), ("storks", true, Time(3_000)));
}

async fn a_thread_is_remembered_only_for_the_engine_that_named_it(Scratch { store, .. }: Scratch) {
    let remember = |summary: &str, engine: &str, thread: Option<&str>| {
        let args = (summary.to_owned(), engine.to_owned(), thread.map(str::to_owned));
        let store = store.clone();
        async move {
            transact!(store, args, |tx, (summary, engine, thread)| {
                tx.remember(&DialogId::new("d"), summary, engine, thread.as_deref(), Time(4_000)).await
            })
            .expect("remember");
            let found = find(&store, "d").await;
            (found.summary, found.thread)
        }
    };
    add_dialog(&store, dialog("d", ALICE)).await;
    let thread = |name: &str| Some(name.to_owned());
    assert_eq!(remember("a", "storyteller", Some("one")).await, ("a".to_owned(), thread("one")));
    // An engine that says nothing of its thread leaves it.
    assert_eq!(remember("b", "storyteller", None).await, ("b".to_owned(), thread("one")));
    // A run of the engine that was switched away from ends late.
    assert_eq!(remember("c", "echo", Some("two")).await, ("c".to_owned(), thread("one")));
    close(&store, "d", false, 5_000).await;
    assert_eq!(remember("d", "storyteller", Some("three")).await, ("d".to_owned(), None));
}

async fn a_view_is_kept_for_the_dialog(Scratch { store, .. }: Scratch) {
    add_dialog(&store, dialog("d", ALICE)).await;
    assert_eq!(find(&store, "d").await.view, None);
    for view in [View::Events, View::Answer] {
        transact!(store, view, |tx, view| tx.set_view(&DialogId::new("d"), *view).await).expect("set");
        assert_eq!(find(&store, "d").await.view, Some(view));
    }
}
