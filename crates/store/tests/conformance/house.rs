use salon_core::people::Role;
use salon_core::{BotId, Channel, ChatId, Chosen, Dialog, DialogId, FileId, OrgId, Time, TurnId, User, UserId};
use salon_store::testing::Scratch;
use salon_store::{Keeper, Link, Login, NewTurn, Pass, Realm, Session, Store, StoredFile, Words, on_both_databases};

on_both_databases! {
    a_login_is_one_persons
    a_cookie_belongs_to_one_realm_and_goes_with_its_epoch
    a_step_of_the_second_factor_is_used_once
    another_role_ends_what_is_open_and_another_name_does_not
    a_removed_person_has_no_way_in
    somebody_of_telegram_is_whom_they_were_linked_to
    a_new_code_makes_the_old_one_worthless
    a_shelf_has_ones_own_dialogs_and_those_of_linked_chats
    words_are_looked_for_in_titles_questions_and_answers
    what_a_person_keeps_does_not_expire
    a_branch_begins_like_the_other_one
    what_was_brought_is_kept_apart_from_what_was_left
}

fn user(id: &str) -> User {
    User {
        id: UserId::new(id),
        org: OrgId::new("default"),
        name: id.to_owned(),
        email: Some(format!("{id}@birds.example")),
        role: Role::User,
        active: true,
        telegram: None,
        subject: None,
        created_at: Time(1_000),
    }
}

async fn person(store: &Store, id: &str) -> UserId {
    store.write(user(id), |tx, user| Box::pin(tx.add_user(user))).await.expect("somebody");
    UserId::new(id)
}

fn login(id: &str, user: &UserId, realm: Realm, epoch: i64) -> Login {
    Login {
        id: id.to_owned(),
        user: user.clone(),
        realm,
        epoch,
        browser: "Firefox, Linux".to_owned(),
        created_at: Time(2_000),
        seen_at: Time(2_000),
        expires_at: Time(9_000),
        proved_at: Time(2_000),
    }
}

async fn let_in(store: &Store, login: &Login) {
    let args = (login.clone(), format!("hash of {}", login.id));
    store.write(args, |tx, (login, hash)| Box::pin(tx.add_login(login, hash))).await.expect("a login");
}

async fn a_login_is_one_persons(scratch: Scratch) {
    let store = &scratch.store;
    let (alice, bob) = (person(store, "alice").await, person(store, "bob").await);
    let set = async |id: &UserId, login: &str| {
        let args = (id.clone(), login.to_owned());
        store.write(args, |tx, (id, login)| Box::pin(tx.set_login(id, login))).await.expect("an answer")
    };
    assert!(set(&alice, "alice@birds.example").await);
    assert!(!set(&bob, "alice@birds.example").await, "it is hers");
    assert!(set(&alice, "alice@birds.example").await, "and stays hers");
    assert!(!set(&UserId::new("nobody"), "nobody@birds.example").await);
    let mut tx = store.read().await.expect("a reader");
    let found = tx.find_account_of_login("alice@birds.example").await.expect("a look").expect("alice");
    assert_eq!((found.user.id, found.password, found.epoch), (alice, None, 0));
    assert_eq!(tx.find_account_of_login("bob@birds.example").await.expect("a look"), None);
}

async fn a_cookie_belongs_to_one_realm_and_goes_with_its_epoch(scratch: Scratch) {
    let store = &scratch.store;
    let alice = person(store, "alice").await;
    let house = login("l1", &alice, Realm::House, 0);
    let_in(store, &house).await;
    let_in(store, &login("l2", &alice, Realm::Desk, 0)).await;
    let mut tx = store.read().await.expect("a reader");
    assert_eq!(tx.find_login("hash of l1", Realm::House).await.expect("a look"), Some(house));
    assert_eq!(tx.find_login("hash of l1", Realm::Desk).await.expect("a look"), None);
    assert_eq!(tx.list_logins(&alice).await.expect("a list").len(), 2);
    drop(tx);
    let args = (UserId::new("bob"), "l1".to_owned());
    let ended = store.write(args, |tx, (user, id)| Box::pin(async move { tx.end_login(user, id).await }));
    assert!(!ended.await.expect("an answer"), "it is not bob's");
    store.write(alice.clone(), |tx, alice| Box::pin(tx.set_password(alice, "$argon2id$x"))).await.expect("a password");
    let mut tx = store.read().await.expect("a reader");
    assert_eq!(tx.list_logins(&alice).await.expect("a list"), []);
    let account = tx.find_account(&alice).await.expect("a look").expect("alice");
    assert_eq!((account.epoch, account.password.as_deref()), (1, Some("$argon2id$x")));
    drop(tx);
    let_in(store, &login("l3", &alice, Realm::House, 1)).await;
    let swept = store.write((), |tx, ()| Box::pin(tx.sweep_logins(Time(9_001)))).await.expect("a sweep");
    assert_eq!(swept, 1);
}

async fn a_step_of_the_second_factor_is_used_once(scratch: Scratch) {
    let store = &scratch.store;
    let alice = person(store, "alice").await;
    let used = async |step: i64| {
        let args = (alice.clone(), step);
        store.write(args, |tx, (id, step)| Box::pin(tx.use_factor_step(id, *step))).await.expect("an answer")
    };
    assert!(used(7).await);
    assert!(!used(7).await, "once");
    assert!(!used(6).await, "and none before it");
    assert!(used(8).await);
}

async fn another_role_ends_what_is_open_and_another_name_does_not(scratch: Scratch) {
    let store = &scratch.store;
    let alice = person(store, "alice").await;
    let set = async |change: fn(&mut User)| {
        let mut user = user("alice");
        change(&mut user);
        store.write(user, |tx, user| Box::pin(tx.set_user(user))).await.expect("a change");
        store.read().await.expect("a reader").find_account(&alice).await.expect("a look").expect("alice").epoch
    };
    assert_eq!(set(|user| user.name = "Alice".to_owned()).await, 0);
    assert_eq!(set(|user| user.role = Role::Admin).await, 1);
    assert_eq!(set(|user| (user.role, user.active) = (Role::Admin, false)).await, 2);
    let keyholder = store.read().await.expect("a reader").has_keyholder().await.expect("a look");
    assert!(!keyholder, "she is switched off, and has no login");
}

async fn a_removed_person_has_no_way_in(scratch: Scratch) {
    let store = &scratch.store;
    let alice = person(store, "alice").await;
    let_in(store, &login("l1", &alice, Realm::House, 0)).await;
    let joined = store.write(alice.clone(), |tx, alice| {
        Box::pin(async move {
            tx.set_login(alice, "alice@birds.example").await?;
            tx.add_identity("https://id.example", "1", alice, Time(1)).await?;
            let name = "Alice".to_owned();
            tx.add_link(&Link { telegram: 1001, user: alice.clone(), name, linked_at: Time(1), was: None }).await
        })
    });
    assert!(joined.await.expect("a link"));
    store.write(alice.clone(), |tx, alice| Box::pin(tx.remove_user(alice, Time(5)))).await.expect("a removal");
    let mut tx = store.read().await.expect("a reader");
    assert_eq!(tx.find_login("hash of l1", Realm::House).await.expect("a look"), None);
    assert_eq!(tx.find_account_of_login("alice@birds.example").await.expect("a look"), None);
    assert_eq!(tx.find_link(1001).await.expect("a look"), None);
    assert_eq!(tx.find_user_of_identity("https://id.example", "1").await.expect("a look"), None);
}

async fn somebody_of_telegram_is_whom_they_were_linked_to(scratch: Scratch) {
    let store = &scratch.store;
    let alice = person(store, "alice").await;
    let chat = User { telegram: Some(1001), ..user("chat") };
    store.write(chat, |tx, user| Box::pin(tx.add_user(user))).await.expect("somebody");
    let found = async || {
        let mut tx = store.read().await.expect("a reader");
        tx.find_user_of_telegram(1001).await.expect("a look").map(|user| user.id.to_string())
    };
    assert_eq!(found().await.as_deref(), Some("chat"));
    let link = Link { telegram: 1001, user: alice.clone(), name: "Alice\0".to_owned(), linked_at: Time(3), was: None };
    let add = async || store.write(link.clone(), |tx, link| Box::pin(tx.add_link(link))).await.expect("an answer");
    assert!(add().await);
    assert!(!add().await, "once");
    assert_eq!(found().await.as_deref(), Some("alice"), "the link comes first");
    let links = store.read().await.expect("a reader").list_links(&alice).await.expect("a list");
    assert_eq!(links.len(), 1);
    let removed = async |user: &str| {
        let args = (UserId::new(user), 1001);
        store.write(args, |tx, (user, id)| Box::pin(tx.remove_link(user, *id))).await.expect("an answer")
    };
    assert!(!removed("bob").await, "it is not bob's");
    assert!(removed("alice").await);
    assert_eq!(found().await.as_deref(), Some("chat"));
}

async fn a_new_code_makes_the_old_one_worthless(scratch: Scratch) {
    let store = &scratch.store;
    let alice = person(store, "alice").await;
    let pass = |hash: &str, account: Option<&UserId>| Pass {
        hash: hash.to_owned(),
        kind: "link".to_owned(),
        account: account.cloned(),
        text: Some("words".to_owned()),
        expires_at: Time(5_000),
        used: false,
    };
    let add = async |pass: Pass| {
        store.write(pass, |tx, pass| Box::pin(tx.add_pass(pass, Time(1_000)))).await.expect("a pass")
    };
    add(pass("one", Some(&alice))).await;
    add(pass("free", None)).await;
    let dropped = store.write(alice.clone(), |tx, alice| Box::pin(tx.drop_passes("link", Some(alice))));
    dropped.await.expect("a drop");
    add(pass("two", Some(&alice))).await;
    let find = async |hash: &str, kind: &str| {
        store.read().await.expect("a reader").find_pass(hash, kind).await.expect("a look")
    };
    assert_eq!(find("one", "link").await, None);
    assert_eq!(find("two", "link").await, Some(pass("two", Some(&alice))));
    assert_eq!(find("free", "link").await, Some(pass("free", None)));
    assert_eq!(find("two", "invite").await, None, "it is good for one thing");
    let use_it =
        async || store.write((), |tx, ()| Box::pin(tx.use_token("two", Time(2_000)))).await.expect("an answer");
    assert!(use_it().await);
    assert!(!use_it().await, "once");
    assert!(find("two", "link").await.expect("it stays to say so").used);
}

fn keeper(user: &str, telegram: Option<i64>) -> Keeper {
    Keeper { user: UserId::new(user), telegram }
}

fn dialog(id: &str, channel: Channel, owner: Option<&str>, at: i64) -> Session {
    let dialog = Dialog {
        id: DialogId::new(id),
        channel,
        owner: owner.map(UserId::new),
        engine: "parrot".to_owned(),
        view: None,
        thread: None,
        summary: "so far".to_owned(),
        window_from: 1,
        turns: 0,
        active: true,
        chosen: Chosen::default(),
        created_at: Time(at),
        updated_at: Time(at),
    };
    Session { dialog, metadata: "{}".to_owned(), seen_at: Time(at) }
}

async fn open(store: &Store, session: Session) {
    store.write(session, |tx, session| Box::pin(tx.add_session(session))).await.expect("a dialog");
}

async fn ask(store: &Store, dialog: &str, turn: &str, question: &str, at: i64) {
    let turn = NewTurn {
        id: TurnId::new(turn),
        dialog: DialogId::new(dialog),
        user: None,
        question: question.to_owned(),
        engine: "parrot".to_owned(),
        source_message: None,
        request: None,
        now: Time(at),
    };
    store.write(turn, |tx, turn| Box::pin(tx.add_turn(turn))).await.expect("a turn");
}

async fn shelf(store: &Store, keeper: &Keeper, words: &str) -> Vec<(String, Option<String>)> {
    let mut tx = store.read().await.expect("a reader");
    let words = Words::new(words);
    let found = tx.list_shelf(keeper, words.as_ref(), (Time(i64::MAX), ""), 50).await.expect("a shelf");
    found.into_iter().map(|shelved| (shelved.dialog.id.to_string(), shelved.title)).collect()
}

async fn a_shelf_has_ones_own_dialogs_and_those_of_linked_chats(scratch: Scratch) {
    let store = &scratch.store;
    let alice = person(store, "alice").await;
    person(store, "bob").await;
    let chat = |chat: i64| Channel::Telegram { bot: BotId::new("parrot"), chat: ChatId(chat) };
    open(store, dialog("hers", Channel::Api, Some("alice"), 1_000)).await;
    open(store, dialog("his", Channel::Api, Some("bob"), 1_100)).await;
    open(store, dialog("linked", chat(1001), None, 1_200)).await;
    open(store, dialog("strange", chat(1002), None, 1_300)).await;
    let ids = async |keeper: &Keeper| shelf(store, keeper, "").await.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids(&keeper("alice", None)).await, ["hers"]);
    let link = Link { telegram: 1001, user: alice, name: "Alice".to_owned(), linked_at: Time(3), was: None };
    store.write(link, |tx, link| Box::pin(tx.add_link(link))).await.expect("a link");
    assert_eq!(ids(&keeper("alice", None)).await, ["linked", "hers"]);
    assert_eq!(ids(&keeper("alice", Some(1002))).await, ["strange", "linked", "hers"]);
    assert_eq!(ids(&keeper("bob", None)).await, ["his"]);
    let mut tx = store.read().await.expect("a reader");
    let find = async |tx: &mut salon_store::Tx, who: &str, id: &str| {
        tx.find_shelved(&keeper(who, None), &DialogId::new(id)).await.expect("a look").is_some()
    };
    assert!(find(&mut tx, "alice", "linked").await && !find(&mut tx, "bob", "linked").await);
    assert!(!find(&mut tx, "alice", "his").await && !find(&mut tx, "alice", "none").await);
    let sessions = tx.list_sessions(&keeper("alice", None), (Time(i64::MAX), ""), 9).await.expect("sessions");
    assert_eq!(sessions.len(), 2, "the API shows the same");
}

async fn words_are_looked_for_in_titles_questions_and_answers(scratch: Scratch) {
    let store = &scratch.store;
    person(store, "alice").await;
    let alice = &keeper("alice", None);
    for (at, id) in ["a", "b", "c"].into_iter().enumerate() {
        open(store, dialog(id, Channel::Api, Some("alice"), at as i64)).await;
    }
    ask(store, "a", "a1", "Why do storks fly 100% south?", 10).await;
    ask(store, "b", "b1", "Почему Аист летит на юг?", 20).await;
    let named =
        store.write((), |tx, ()| Box::pin(async move { tx.set_title(&DialogId::new("c"), Some("황새")).await }));
    named.await.expect("a title");
    let ids = async |words: &str| shelf(store, alice, words).await.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids("storks").await, ["a"]);
    assert_eq!(ids("100%").await, ["a"], "a sign of patterns is a sign");
    assert_eq!(ids("_").await, [""; 0]);
    assert_eq!(ids("аист").await, ["b"], "whatever its capitals");
    assert_eq!(ids("황새").await, ["c"]);
    assert_eq!(ids("' OR 1=1 --").await, [""; 0]);
    let titles: Vec<_> = shelf(store, alice, "").await.into_iter().map(|(_, title)| title).collect();
    let question = Some("Почему Аист летит на юг?".to_owned());
    assert_eq!(titles[0], question, "it is called as it began");
    assert_eq!(titles[2], Some("황새".to_owned()));
}

async fn what_a_person_keeps_does_not_expire(scratch: Scratch) {
    let store = &scratch.store;
    person(store, "alice").await;
    open(store, dialog("kept", Channel::Api, Some("alice"), 1_000)).await;
    open(store, dialog("lent", Channel::Api, Some("alice"), 1_000)).await;
    let kept = store.write((), |tx, ()| Box::pin(async move { tx.keep_dialog(&DialogId::new("kept")).await }));
    kept.await.expect("a dialog to keep");
    let expired = store.write((), |tx, ()| Box::pin(tx.expire_sessions(Time(5_000), Time(6_000))));
    assert_eq!(expired.await.expect("a sweep"), 1);
    assert_eq!(shelf(store, &keeper("alice", None), "").await, [("kept".to_owned(), None)]);
}

async fn a_branch_begins_like_the_other_one(scratch: Scratch) {
    let store = &scratch.store;
    person(store, "alice").await;
    open(store, dialog("old", Channel::Api, Some("alice"), 1_000)).await;
    open(store, dialog("new", Channel::Api, Some("alice"), 2_000)).await;
    for n in 1..=3 {
        ask(store, "old", &format!("t{n}"), &format!("question {n}"), 1_000 + n).await;
    }
    let copied = store.write((), |tx, ()| {
        Box::pin(async move {
            let ids = [TurnId::new("n1"), TurnId::new("n2")];
            tx.copy_turns(&DialogId::new("old"), 3, &DialogId::new("new"), &ids).await
        })
    });
    copied.await.expect("copies");
    ask(store, "new", "n3", "another question", 3_000).await;
    let mut tx = store.read().await.expect("a reader");
    let turns = tx.list_turns_before(&DialogId::new("new"), i64::MAX, 9).await.expect("turns");
    let said: Vec<_> = turns.iter().map(|turn| (turn.number, turn.question.as_str())).collect();
    assert_eq!(said, [(1, "question 1"), (2, "question 2"), (3, "another question")]);
    assert_eq!(tx.list_turns_before(&DialogId::new("old"), i64::MAX, 9).await.expect("turns").len(), 3);
    assert_eq!(tx.costs_of_dialog(&DialogId::new("new")).await.expect("costs"), []);
}

async fn what_was_brought_is_kept_apart_from_what_was_left(scratch: Scratch) {
    let store = &scratch.store;
    person(store, "alice").await;
    open(store, dialog("d", Channel::Api, Some("alice"), 1_000)).await;
    ask(store, "d", "t1", "look", 1_001).await;
    let file = |id: &str, name: &str| StoredFile {
        id: FileId::new(id),
        turn: TurnId::new("t1"),
        name: name.to_owned(),
        media: "image/png".to_owned(),
        data: b"bytes".to_vec(),
    };
    let (left, second, first) = (file("f1", "left.png"), file("f2", "b.png"), file("f3", "a.png"));
    let args = (left, second.clone(), first.clone());
    let kept = store.write(args, |tx, (left, second, first)| {
        Box::pin(async move {
            tx.add_file(left, Time(2_000)).await?;
            tx.add_brought(second, Time(2_000)).await?;
            tx.add_brought(first, Time(2_000)).await
        })
    });
    kept.await.expect("files");
    let mut tx = store.read().await.expect("a reader");
    assert_eq!(tx.list_brought(&TurnId::new("t1")).await.expect("files"), [first, second]);
    let listed = tx.list_brought_to(&DialogId::new("d")).await.expect("names");
    let names: Vec<_> = listed.iter().map(|(turn, file, name)| (turn.as_str(), file.as_str(), name.as_str())).collect();
    assert_eq!(names, [("t1", "f3", "a.png"), ("t1", "f2", "b.png")]);
}
