use std::time::Duration;

use salon_core::{BotId, Channel, ChatId, DialogId, Lang, Time, TurnId};
use salon_store::testing::Scratch;
use salon_store::{Chat, NewToken, Seat, Store, Ticket, on_both_databases};

use crate::cast::*;

on_both_databases! {
    an_offset_belongs_to_its_token
    an_offset_may_go_back
    an_offset_is_not_moved_by_who_lost_the_lease
    a_chat_is_heard_parked_and_heard_again
    parked_chats_are_counted
    a_stranger_is_refused_at_most_once_an_hour
    a_refusal_leaves_the_rest_of_the_chat_alone
    a_chat_that_moved_takes_its_dialogs_and_buttons_along
    a_dialog_that_was_begun_where_a_chat_moved_stays_the_active_one
}

async fn seat(store: &Store, ticket: &Ticket, token: &str, offset: i64) -> salon_store::Result<()> {
    let seat = Seat { bot: parrot(), token_hash: token.to_owned(), offset };
    transact!(store, (ticket.clone(), seat), |tx, (ticket, seat)| {
        let held = tx.hold(ticket, Time(90_000)).await?;
        tx.set_offset(&held, seat, Time(1_000)).await
    })
}

async fn offset(store: &Store, bot: &str, token: &str) -> Option<i64> {
    read(store).await.find_offset(&BotId::new(bot), token).await.expect("find")
}

async fn an_offset_belongs_to_its_token(Scratch { store, .. }: Scratch) {
    let ticket = running(&store, "poll").await;
    assert_eq!(offset(&store, "parrot", "one").await, None);
    seat(&store, &ticket, "one", 500).await.expect("set");
    assert_eq!(offset(&store, "parrot", "one").await, Some(500));
    assert_eq!(offset(&store, "heron", "one").await, None);
    // A new token is another queue at Telegram.
    assert_eq!(offset(&store, "parrot", "two").await, None);
    seat(&store, &ticket, "two", 7).await.expect("set");
    assert_eq!((offset(&store, "parrot", "one").await, offset(&store, "parrot", "two").await), (None, Some(7)));
}

async fn an_offset_may_go_back(Scratch { store, .. }: Scratch) {
    let ticket = running(&store, "poll").await;
    for value in [900_000_001, 17] {
        seat(&store, &ticket, "one", value).await.expect("set");
        assert_eq!(offset(&store, "parrot", "one").await, Some(value));
    }
}

async fn an_offset_is_not_moved_by_who_lost_the_lease(Scratch { store, .. }: Scratch) {
    let stale = running(&store, "poll").await;
    seat(&store, &stale, "one", 5).await.expect("set");
    claim_one(&store, &worker("two"), Time(200_000)).await;
    assert!(is_fenced(&seat(&store, &stale, "one", 6).await));
    assert_eq!(offset(&store, "parrot", "one").await, Some(5));
}

async fn chat(store: &Store, chat: ChatId) -> Chat {
    read(store).await.find_chat(&parrot(), chat).await.expect("find")
}

async fn hear(store: &Store, chat: ChatId, tag: &'static str) {
    transact!(store, (chat, tag), |tx, (chat, tag)| {
        tx.hear_chat(&parrot(), *chat, Lang::from_tag(Some(tag))).await
    })
    .expect("hear");
}

async fn park(store: &Store, chat: ChatId) {
    transact!(store, chat, |tx, chat| tx
        .park_chat(&parrot(), *chat, "Forbidden: \0 bot was blocked", Time(4_000))
        .await)
    .expect("park");
}

async fn a_chat_is_heard_parked_and_heard_again(Scratch { store, .. }: Scratch) {
    assert_eq!(chat(&store, ALICE).await, Chat::default());
    hear(&store, ALICE, "ru").await;
    assert_eq!(chat(&store, ALICE).await, Chat { lang: Some(Lang::from_tag(Some("ru"))), parked_at: None });
    park(&store, ALICE).await;
    assert_eq!(chat(&store, ALICE).await.parked_at, Some(Time(4_000)));
    hear(&store, ALICE, "ko").await;
    assert_eq!(chat(&store, ALICE).await, Chat { lang: Some(Lang::from_tag(Some("ko"))), parked_at: None });
    // One that was never heard of can be parked as well.
    park(&store, ChatId(-5)).await;
    assert_eq!(chat(&store, ChatId(-5)).await, Chat { lang: None, parked_at: Some(Time(4_000)) });
}

async fn parked_chats_are_counted(Scratch { store, .. }: Scratch) {
    assert_eq!(read(&store).await.count_parked().await.expect("count"), 0);
    for n in [1, 2] {
        park(&store, ChatId(n)).await;
    }
    hear(&store, ChatId(1), "en").await;
    assert_eq!(read(&store).await.count_parked().await.expect("count"), 1);
}

async fn may_refuse(store: &Store, chat: ChatId, now: Time) -> bool {
    transact!(store, (chat, now), |tx, (chat, now)| {
        tx.may_refuse(&parrot(), *chat, *now, *now - Duration::from_secs(3_600)).await
    })
    .expect("refuse")
}

async fn a_stranger_is_refused_at_most_once_an_hour(Scratch { store, .. }: Scratch) {
    let noon = Time(1_700_000_000_000);
    let refused = at_once(&store, 10, move |store, _| async move { may_refuse(&store, ALICE, noon).await }).await;
    assert_eq!(refused.into_iter().filter(|refused| *refused).count(), 1);
    assert!(!may_refuse(&store, ALICE, noon + Duration::from_secs(3_599)).await);
    assert!(may_refuse(&store, ChatId(2), noon).await);
    assert!(may_refuse(&store, ALICE, noon + Duration::from_secs(3_601)).await);
    assert!(!may_refuse(&store, ALICE, noon + Duration::from_secs(3_602)).await);
}

async fn a_refusal_leaves_the_rest_of_the_chat_alone(Scratch { store, .. }: Scratch) {
    hear(&store, ALICE, "ko").await;
    park(&store, ALICE).await;
    let before = chat(&store, ALICE).await;
    assert!(may_refuse(&store, ALICE, Time(1_700_000_000_000)).await);
    assert_eq!(chat(&store, ALICE).await, before);
}

const GROUP: ChatId = ChatId(-7);
const SUPERGROUP: ChatId = ChatId(-100_007);

async fn move_group(store: &Store) {
    transact!(store, (), |tx, ()| tx.move_chat(&parrot(), GROUP, SUPERGROUP).await).expect("move");
}

async fn active(store: &Store, chat: ChatId) -> Option<String> {
    let dialog = read(store).await.find_active_dialog(&parrot(), chat).await.expect("find");
    dialog.map(|dialog| dialog.id.as_str().to_owned())
}

async fn a_chat_that_moved_takes_its_dialogs_and_buttons_along(Scratch { store, .. }: Scratch) {
    add_dialog(&store, dialog("old", GROUP)).await;
    transact!(store, (), |tx, ()| tx.close_dialog(&DialogId::new("old"), false, Time(1_500)).await).expect("close");
    add_dialog(&store, dialog("new", GROUP)).await;
    add_dialog(&store, dialog("of alice", ALICE)).await;
    add_turn(&store, turn("t", "new")).await;
    for (hash, chat) in [("here", GROUP), ("elsewhere", ALICE)] {
        let token = NewToken {
            hash: hash.to_owned(),
            kind: "action:stop".to_owned(),
            bot: parrot(),
            chat,
            user: None,
            turn: Some(TurnId::new("t")),
            text: None,
            now: Time(1_000),
            expires_at: Time(5_000),
        };
        transact!(store, token, |tx, token| tx.add_token(token).await).expect("add");
    }
    transact!(store, (), |tx, ()| {
        tx.hear_chat(&parrot(), GROUP, Lang::Ko).await?;
        tx.park_chat(&parrot(), GROUP, "it moved", Time(1_000)).await
    })
    .expect("a chat");
    for _ in 0..2 {
        move_group(&store).await;
        assert_eq!((active(&store, GROUP).await, active(&store, SUPERGROUP).await), (None, Some("new".to_owned())));
        let mut tx = read(&store).await;
        let left = tx.find_dialog(&DialogId::new("old")).await.expect("find").expect("a dialog");
        assert_eq!(left.channel, Channel::Telegram { bot: parrot(), chat: SUPERGROUP });
        for (hash, chat, is_found) in [("here", SUPERGROUP, true), ("here", GROUP, false), ("elsewhere", ALICE, true)] {
            let found = tx.find_token(hash, &parrot(), chat, 42).await.expect("find");
            assert_eq!(found.is_some(), is_found, "{hash} in {chat}");
        }
        assert_eq!(
            tx.find_chat(&parrot(), SUPERGROUP).await.expect("find"),
            Chat { lang: Some(Lang::Ko), parked_at: None }
        );
        assert_eq!(tx.find_chat(&parrot(), GROUP).await.expect("find"), Chat::default());
        drop(tx);
        assert_eq!(active(&store, ALICE).await.as_deref(), Some("of alice"));
        // Number 7 is another message there.
        let amended = transact!(store, (), |tx, ()| tx.amend_question(&parrot(), SUPERGROUP, 7, "x").await);
        assert!(!amended.expect("amend"));
    }
}

async fn a_dialog_that_was_begun_where_a_chat_moved_stays_the_active_one(Scratch { store, .. }: Scratch) {
    add_dialog(&store, dialog("before", GROUP)).await;
    add_dialog(&store, dialog("after", SUPERGROUP)).await;
    move_group(&store).await;
    assert_eq!((active(&store, GROUP).await, active(&store, SUPERGROUP).await), (None, Some("after".to_owned())));
    transact!(store, (), |tx, ()| tx.move_chat(&parrot(), SUPERGROUP, SUPERGROUP).await).expect("move");
    assert_eq!(active(&store, SUPERGROUP).await.as_deref(), Some("after"), "a chat does not move to itself");
}
