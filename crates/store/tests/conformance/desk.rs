use salon_core::people::Role;
use salon_core::{Channel, ChatId, Dialog, DialogId, Org, OrgId, Time, TurnState, User, UserId};
use salon_store::testing::Scratch;
use salon_store::{Link, LogFilter, Login, NewTurn, Realm, Session, Store, Words, on_both_databases};

use crate::cast::*;

on_both_databases! {
    people_are_listed_by_name_and_searched
    what_was_said_is_seen_by_its_own_organisation_alone
    pages_of_the_log_follow_each_other
    a_login_is_proved_again
}

const EVER: (Time, Time) = (Time(0), Time(i64::MAX));

async fn add_user(store: &Store, id: &str, org: &str, telegram: Option<i64>) {
    let user = User {
        id: UserId::new(id),
        org: OrgId::new(org),
        name: id.to_owned(),
        email: Some(format!("{id}@birds.example")),
        role: Role::User,
        active: true,
        telegram,
        subject: None,
        created_at: Time(1_000),
    };
    assert!(transact!(store, user, |tx, user| tx.add_user(user).await).expect("somebody"));
}

async fn add_org(store: &Store, id: &str) {
    let org =
        Org { id: OrgId::new(id), name: id.to_owned(), zone: "UTC".to_owned(), subject: None, created_at: Time(1_000) };
    assert!(transact!(store, org, |tx, org| tx.add_org(org).await).expect("an organisation"));
}

/// Alice and bob of the birds, one by Telegram and one in a browser; finn of the fishes, who linked a chat.
async fn stage(store: &Store) {
    add_org(store, "fishes").await;
    add_user(store, "alice", "default", Some(ALICE.0)).await;
    add_user(store, "bob", "default", None).await;
    add_user(store, "finn", "fishes", None).await;
    let link =
        Link { telegram: 3003, user: UserId::new("finn"), name: "Finn".to_owned(), linked_at: Time(1_000), was: None };
    assert!(transact!(store, link, |tx, link| tx.add_link(link).await).expect("a link"));
    assert!(add_dialog(store, dialog("of alice", ALICE)).await);
    assert!(add_dialog(store, dialog("of finn", ChatId(3003))).await);
    assert!(add_dialog(store, dialog("of a group", ChatId(-7))).await);
    let of_bob = Dialog {
        id: DialogId::new("of bob"),
        channel: Channel::Api,
        owner: Some(UserId::new("bob")),
        ..dialog("of bob", ChatId(1))
    };
    let session = Session { dialog: of_bob, metadata: "{}".to_owned(), seen_at: Time(1_000) };
    assert!(transact!(store, session, |tx, session| tx.add_session(session).await).expect("a session"));
    for (id, dialog, user, at) in [
        ("t1", "of alice", Some(ALICE.0), 1_000),
        ("t2", "of finn", Some(3003), 2_000),
        ("t3", "of a group", Some(ALICE.0), 3_000),
        ("t4", "of bob", None, 4_000),
    ] {
        let question = format!("what is a Heron, {id}?");
        add_turn(store, NewTurn { user, question, now: Time(at), ..turn(id, dialog) }).await;
    }
}

fn filter(org: &str) -> LogFilter {
    LogFilter {
        org: OrgId::new(org),
        bots_org: OrgId::new("default"),
        user: None,
        dialog: None,
        engine: None,
        state: None,
        words: None,
        from: EVER.0,
        to: EVER.1,
        before: (Time(i64::MAX), String::new()),
        limit: 100,
    }
}

async fn turns(store: &Store, filter: &LogFilter) -> Vec<String> {
    let turns = read(store).await.list_logged_turns(filter).await.expect("turns");
    turns.iter().map(|turn| turn.id.to_string()).collect()
}

async fn people_are_listed_by_name_and_searched(scratch: Scratch) {
    let store = &scratch.store;
    stage(store).await;
    let mut tx = read(store).await;
    let birds = OrgId::new("default");
    let names = |people: Vec<salon_store::Person>| people.into_iter().map(|person| person.name).collect::<Vec<_>>();
    let all = tx.list_people(&birds, None, Time(0), ("", ""), 10).await.expect("people");
    assert_eq!(names(all), ["alice", "bob"]);
    let rest = tx.list_people(&birds, None, Time(0), ("alice", "alice"), 10).await.expect("people");
    assert_eq!(names(rest), ["bob"]);
    let words = Words::new("BOB@birds");
    let found = tx.list_people(&birds, words.as_ref(), Time(0), ("", ""), 10).await.expect("people");
    assert_eq!(names(found), ["bob"]);
    let bob = tx.find_person(&birds, &UserId::new("bob"), Time(0)).await.expect("a look").expect("bob");
    assert_eq!((bob.calls, bob.micros, bob.seen_at), (0, 0, None));
    assert_eq!(tx.find_person(&birds, &UserId::new("finn"), Time(0)).await.expect("a look"), None);
    assert_eq!(tx.names_of(&OrgId::new("fishes")).await.expect("names"), [(UserId::new("finn"), "finn".to_owned())]);
}

async fn what_was_said_is_seen_by_its_own_organisation_alone(scratch: Scratch) {
    let store = &scratch.store;
    stage(store).await;
    let birds = filter("default");
    assert_eq!(turns(store, &birds).await, ["t4", "t3", "t1"]);
    assert_eq!(turns(store, &filter("fishes")).await, ["t2"]);
    assert_eq!(turns(store, &filter("nobody")).await, [""; 0]);
    let of_alice = LogFilter { user: Some(UserId::new("alice")), ..birds.clone() };
    assert_eq!(turns(store, &of_alice).await, ["t3", "t1"]);
    assert_eq!(turns(store, &LogFilter { words: Words::new("HERON, T3"), ..birds.clone() }).await, ["t3"]);
    assert_eq!(turns(store, &LogFilter { words: Words::new("heron, t3"), ..birds.clone() }).await, ["t3"]);
    assert_eq!(turns(store, &LogFilter { state: Some(TurnState::Done), ..birds.clone() }).await, [""; 0]);
    assert_eq!(turns(store, &LogFilter { from: Time(2_000), to: Time(4_000), ..birds.clone() }).await, ["t3"]);
    let foreign = LogFilter { dialog: Some(DialogId::new("of finn")), ..birds.clone() };
    assert_eq!(turns(store, &foreign).await, [""; 0]);

    let mut tx = read(store).await;
    let dialogs = tx.list_logged_dialogs(&LogFilter { words: Words::new("heron"), ..birds.clone() }).await;
    let mut ids: Vec<String> = dialogs.expect("dialogs").iter().map(|dialog| dialog.id.to_string()).collect();
    ids.sort();
    assert_eq!(ids, ["of a group", "of alice", "of bob"]);
    assert_eq!(tx.list_logged_dialogs(&foreign).await.expect("dialogs"), []);
    let (birds, fishes) = (OrgId::new("default"), OrgId::new("fishes"));
    let counts = tx.count_desk(&birds, &birds, EVER.0, EVER.1).await.expect("counts");
    assert_eq!((counts.people, counts.active, counts.questions, counts.open_dialogs), (2, 2, 3, 3));
    let counts = tx.count_desk(&fishes, &birds, Time(3_000), EVER.1).await.expect("counts");
    assert_eq!((counts.people, counts.active, counts.questions, counts.open_dialogs), (1, 0, 0, 1));
}

async fn pages_of_the_log_follow_each_other(scratch: Scratch) {
    let store = &scratch.store;
    stage(store).await;
    for id in ["u1", "u2", "u3"] {
        add_turn(store, NewTurn { now: Time(4_000), ..turn(id, "of bob") }).await;
    }
    let mut filter = LogFilter { limit: 2, ..filter("default") };
    let mut seen = Vec::new();
    loop {
        let page = read(store).await.list_logged_turns(&filter).await.expect("turns");
        let Some(last) = page.last() else { break };
        filter.before = (last.asked_at, last.id.to_string());
        seen.extend(page.iter().map(|turn| turn.id.to_string()));
    }
    assert_eq!(seen, ["u3", "u2", "u1", "t4", "t3", "t1"]);
}

async fn a_login_is_proved_again(scratch: Scratch) {
    let store = &scratch.store;
    stage(store).await;
    let login = Login {
        id: "l1".to_owned(),
        user: UserId::new("alice"),
        realm: Realm::Desk,
        epoch: 0,
        browser: "Firefox".to_owned(),
        created_at: Time(2_000),
        seen_at: Time(2_000),
        expires_at: Time(9_000),
        proved_at: Time(2_000),
    };
    transact!(store, login, |tx, login| tx.add_login(login, "hash").await).expect("a login");
    assert!(transact!(store, (), |tx, ()| tx.prove_login("l1", Time(5_000)).await).expect("a change"));
    assert!(!transact!(store, (), |tx, ()| tx.prove_login("l2", Time(5_000)).await).expect("a change"));
    let found = read(store).await.find_login("hash", Realm::Desk).await.expect("a look").expect("a login");
    assert_eq!((found.proved_at, found.seen_at), (Time(5_000), Time(5_000)));
}
