use salon_core::people::Role;
use salon_core::{BotId, DialogId, OrgId, Time, User, UserId};
use salon_store::testing::Scratch;
use salon_store::{Link, Pass, Store, StoredReply, Taste, on_both_databases};

use crate::cast::*;

on_both_databases! {
    a_bots_own_reply_comes_before_that_of_every_bot
    each_change_of_a_reply_raises_the_revision
    a_dialog_has_a_style_once_somebody_chose_one
    somebody_of_telegram_is_found_with_their_account
    a_pass_is_found_by_its_kind_and_a_new_one_makes_the_old_one_worthless
}

fn reply(bot: Option<&str>, name: &str, text: &str) -> StoredReply {
    StoredReply { bot: bot.map(BotId::new), name: name.to_owned(), text: text.to_owned(), updated_at: Time(1_000) }
}

async fn put(store: &Store, reply: StoredReply) {
    transact!(store, reply, |tx, reply| tx.put_reply(reply).await).expect("put");
}

async fn remove(store: &Store, bot: Option<BotId>, name: &'static str) -> bool {
    transact!(store, (bot, name), |tx, (bot, name)| tx.remove_reply(bot.as_ref(), name).await).expect("remove")
}

async fn find(store: &Store, bot: &BotId, name: &str) -> Option<String> {
    read(store).await.find_reply(bot, name).await.expect("find")
}

async fn a_bots_own_reply_comes_before_that_of_every_bot(Scratch { store, .. }: Scratch) {
    put(&store, reply(None, "rules", "Be kind.")).await;
    put(&store, reply(Some("parrot"), "rules", "Be kind to **parrots**.")).await;
    put(&store, reply(Some("stork"), "menu", "Frogs.")).await;
    let stork = BotId::new("stork");
    assert_eq!(find(&store, &parrot(), "rules").await.as_deref(), Some("Be kind to **parrots**."));
    assert_eq!(find(&store, &stork, "rules").await.as_deref(), Some("Be kind."));
    assert_eq!(find(&store, &parrot(), "menu").await, None);
    assert_eq!(find(&store, &parrot(), "Rules").await, None);
    let listed = read(&store).await.list_replies().await.expect("list");
    let names: Vec<_> =
        listed.iter().map(|reply| (reply.bot.as_ref().map_or("", BotId::as_str), reply.name.as_str())).collect();
    assert_eq!(names, [("", "rules"), ("parrot", "rules"), ("stork", "menu")]);
    assert!(remove(&store, Some(parrot()), "rules").await);
    assert!(!remove(&store, Some(parrot()), "rules").await);
    assert_eq!(find(&store, &parrot(), "rules").await.as_deref(), Some("Be kind."));
}

async fn each_change_of_a_reply_raises_the_revision(Scratch { store, .. }: Scratch) {
    assert_eq!(read(&store).await.replies_revision().await.expect("a revision"), 0);
    put(&store, reply(None, "rules", "Be kind.")).await;
    put(&store, reply(None, "rules", "Be very kind.")).await;
    assert_eq!(find(&store, &parrot(), "rules").await.as_deref(), Some("Be very kind."));
    remove(&store, None, "rules").await;
    assert_eq!(read(&store).await.replies_revision().await.expect("a revision"), 3);
}

async fn a_dialog_has_a_style_once_somebody_chose_one(Scratch { store, .. }: Scratch) {
    let dialog = dialog("d", ALICE);
    let id = dialog.id.clone();
    transact!(store, dialog, |tx, dialog| tx.add_dialog(dialog).await).expect("add");
    assert_eq!(read(&store).await.find_style(&id).await.expect("find"), None);
    assert_eq!(read(&store).await.find_title(&id).await.expect("find"), None);
    transact!(store, id.clone(), |tx, id| tx.set_style(id, Some("brief")).await).expect("set");
    assert_eq!(read(&store).await.find_style(&id).await.expect("find").as_deref(), Some("brief"));
    transact!(store, id.clone(), |tx, id| tx.set_style(id, None).await).expect("set");
    assert_eq!(read(&store).await.find_style(&id).await.expect("find"), None);
    assert_eq!(read(&store).await.find_style(&DialogId::new("none")).await.expect("find"), None);
}

fn user(id: &str, telegram: Option<i64>) -> User {
    User {
        id: UserId::new(id),
        org: OrgId::new("default"),
        name: id.to_owned(),
        email: None,
        role: Role::User,
        active: true,
        telegram,
        subject: None,
        created_at: Time(1_000),
    }
}

async fn somebody_of_telegram_is_found_with_their_account(Scratch { store, .. }: Scratch) {
    transact!(store, user("alice", None), |tx, user| tx.add_user(user).await).expect("add");
    transact!(store, user("bob", Some(42)), |tx, user| tx.add_user(user).await).expect("add");
    let known = async |telegram: i64| {
        let found = read(&store).await.find_account_of_telegram(telegram).await.expect("find");
        found.map(|(account, linked)| (account.user.id.to_string(), linked))
    };
    assert_eq!(known(7).await, None);
    assert_eq!(known(42).await, Some(("bob".to_owned(), false)));
    let taste = Taste { lang: Some("ko".to_owned()), engine: None, style: Some("brief".to_owned()) };
    let args = (UserId::new("alice"), taste.clone());
    transact!(store, args, |tx, (id, taste)| tx.set_taste(id, taste).await).expect("set");
    let link = Link {
        telegram: 7,
        user: UserId::new("alice"),
        name: "Alice".to_owned(),
        linked_at: Time(2_000),
        was: Some(UserId::new("carol")),
    };
    assert!(transact!(store, link.clone(), |tx, link| tx.add_link(link).await).expect("link"));
    assert!(!transact!(store, link.clone(), |tx, link| tx.add_link(link).await).expect("link"), "once");
    assert_eq!(known(7).await, Some(("alice".to_owned(), true)));
    let found = read(&store).await.find_account_of_telegram(7).await.expect("find").expect("an account");
    assert_eq!(found.0.taste, taste);
    assert_eq!(read(&store).await.find_link(7).await.expect("find"), Some(link.clone()));
    assert_eq!(read(&store).await.list_links(&link.user).await.expect("list"), [link]);
    // A link says more than an id that somebody is known by.
    let (name, linked_at) = ("Bob".to_owned(), Time(3_000));
    let other = Link { telegram: 42, user: UserId::new("alice"), name, linked_at, was: None };
    assert!(transact!(store, other, |tx, link| tx.add_link(link).await).expect("link"));
    assert_eq!(known(42).await, Some(("alice".to_owned(), true)));
    let unlink = |telegram: i64| {
        let store = store.clone();
        async move {
            let args = (UserId::new("alice"), telegram);
            transact!(store, args, |tx, (id, telegram)| tx.remove_link(id, *telegram).await).expect("unlink")
        }
    };
    assert!(unlink(42).await);
    assert!(!unlink(42).await);
    assert_eq!(known(42).await, Some(("bob".to_owned(), false)));
}

async fn a_pass_is_found_by_its_kind_and_a_new_one_makes_the_old_one_worthless(Scratch { store, .. }: Scratch) {
    transact!(store, user("alice", None), |tx, user| tx.add_user(user).await).expect("add");
    let pass = |hash: &str| Pass {
        hash: hash.to_owned(),
        kind: "link".to_owned(),
        account: Some(UserId::new("alice")),
        text: None,
        expires_at: Time(9_000),
        used: false,
    };
    let add = async |pass: Pass| {
        transact!(store, pass, |tx, pass| {
            tx.drop_passes("link", pass.account.as_ref()).await?;
            tx.add_pass(pass, Time(1_000)).await
        })
        .expect("add");
    };
    let find = async |hash: &str, kind: &str| read(&store).await.find_pass(hash, kind).await.expect("find");
    add(pass("one")).await;
    assert_eq!(find("one", "link").await, Some(pass("one")));
    assert_eq!(find("one", "invite").await, None);
    add(pass("two")).await;
    assert_eq!(find("one", "link").await, None);
    let used = transact!(store, "two", |tx, hash| tx.use_token(hash, Time(2_000)).await).expect("use");
    assert!(used);
    // What was used is remembered, so that its second use can be told from a guess.
    add(pass("three")).await;
    assert!(find("two", "link").await.expect("a pass").used);
}
