use salon_core::{BotId, ChatId, Time, TurnId};
use salon_store::testing::Scratch;
use salon_store::{NewToken, Store, on_both_databases};

use crate::cast::*;

on_both_databases! {
    a_token_is_used_once_by_twenty_who_press_at_once
    a_token_is_found_only_where_it_belongs
    a_token_for_anyone_is_still_bound_to_its_chat
    an_expired_token_cannot_be_used
    only_expired_tokens_are_swept
}

fn token(hash: &str) -> NewToken {
    NewToken {
        hash: hash.to_owned(),
        kind: "action:stop".to_owned(),
        bot: parrot(),
        chat: ALICE,
        user: Some(42),
        turn: Some(TurnId::new("t")),
        text: None,
        now: Time(1_000),
        expires_at: Time(5_000),
    }
}

async fn add(store: &Store, token: NewToken) {
    transact!(store, token, |tx, token| tx.add_token(token).await).expect("add");
}

async fn spend(store: &Store, hash: &str, now: i64) -> bool {
    let args = (hash.to_owned(), Time(now));
    transact!(store, args, |tx, (hash, now)| tx.use_token(hash, *now).await).expect("use")
}

async fn a_token_is_used_once_by_twenty_who_press_at_once(Scratch { store, .. }: Scratch) {
    add(&store, token("h")).await;
    let used = at_once(&store, 20, |store, _| async move { spend(&store, "h", 2_000).await }).await;
    assert_eq!(used.into_iter().filter(|used| *used).count(), 1);
    let found = read(&store).await.find_token("h", &parrot(), ALICE, 42).await.expect("find").expect("a token");
    assert!(found.used);
    // Adding it again does not make it new.
    add(&store, token("h")).await;
    assert!(!spend(&store, "h", 2_000).await);
}

async fn a_token_is_found_only_where_it_belongs(Scratch { store, .. }: Scratch) {
    add(&store, token("h")).await;
    let mut tx = read(&store).await;
    let found = tx.find_token("h", &parrot(), ALICE, 42).await.expect("find").expect("a token");
    assert_eq!(
        (found.kind.as_str(), found.turn, found.expires_at, found.used),
        ("action:stop", Some(TurnId::new("t")), Time(5_000), false)
    );
    for (hash, bot, chat, user) in [
        ("x", parrot(), ALICE, 42),
        ("h", BotId::new("heron"), ALICE, 42),
        ("h", parrot(), ChatId(1002), 42),
        ("h", parrot(), ALICE, 43),
    ] {
        assert_eq!(tx.find_token(hash, &bot, chat, user).await.expect("find"), None, "{hash} {bot} {chat} {user}");
    }
}

async fn a_token_for_anyone_is_still_bound_to_its_chat(Scratch { store, .. }: Scratch) {
    add(&store, NewToken { user: None, turn: None, ..token("h") }).await;
    let mut tx = read(&store).await;
    assert!(tx.find_token("h", &parrot(), ALICE, 7).await.expect("find").is_some_and(|token| token.turn.is_none()));
    assert_eq!(tx.find_token("h", &parrot(), ChatId(1002), 7).await.expect("find"), None);
}

async fn an_expired_token_cannot_be_used(Scratch { store, .. }: Scratch) {
    add(&store, token("h")).await;
    assert!(!spend(&store, "h", 5_000).await);
    assert!(!spend(&store, "none", 1_000).await);
    assert!(spend(&store, "h", 4_999).await);
}

async fn only_expired_tokens_are_swept(Scratch { store, .. }: Scratch) {
    add(&store, token("old")).await;
    add(&store, NewToken { expires_at: Time(9_000), ..token("new") }).await;
    let swept = transact!(store, (), |tx, ()| tx.sweep_tokens(Time(6_000)).await).expect("sweep");
    assert_eq!(swept, 1);
    assert!(!spend(&store, "old", 1_000).await);
    assert!(spend(&store, "new", 1_000).await);
}
