use salon::Actor;
use salon::people::{
    DEFAULT_ORG, NewUser, OrgChange, PeopleError, UserChange, add_org, add_user, find_org, find_user,
    person_of_telegram, remove_user, set_org, set_user,
};
use salon_core::people::Role;
use salon_core::{OrgId, UserId};
use salon_store::on_both_databases;
use salon_store::testing::Scratch;

use crate::cast::*;

on_both_databases! {
    there_is_an_organisation_from_the_first_start
    people_are_found_by_what_they_are_called
    whoever_speaks_in_telegram_is_somebody
    of_two_first_words_one_makes_the_person
    what_cannot_be_is_refused
    the_last_admin_stays
    whoever_is_removed_leaves_no_name
    zones_are_checked
}

async fn there_is_an_organisation_from_the_first_start(Scratch { store, .. }: Scratch) {
    let org = find_org(&store, DEFAULT_ORG).await.expect("an organisation");
    assert_eq!((org.name.as_str(), org.zone.as_str()), ("Default", "UTC"));
    assert_eq!(find_org(&store, "Default").await.expect("by name"), org);
}

async fn people_are_found_by_what_they_are_called(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let (alice, bob) = (person(&salon, "alice", Role::User).await, person(&salon, "bob", Role::User).await);
    for word in [alice.id.as_str(), "alice", "alice@birds.example", &alice.id.as_str().to_lowercase()] {
        assert_eq!(find_user(&store, word).await.expect(word), alice);
    }
    assert!(matches!(find_user(&store, "eve").await, Err(PeopleError::Nobody(_))));
    let change = UserChange { name: Some("alice".to_owned()), ..UserChange::default() };
    set_user(&store, &salon.pen(Actor::Operator), &bob.id, change).await.expect("renamed");
    assert!(matches!(find_user(&store, "alice").await, Err(PeopleError::Several(_))));
}

async fn whoever_speaks_in_telegram_is_somebody(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let speak = |id: &'static str, telegram: i64, name: &'static str| {
        let (store, pen) = (store.clone(), salon.pen(Actor::Salon));
        async move {
            let said = store.write((id, telegram, name, pen), |tx, (id, telegram, name, pen)| {
                Box::pin(async move { person_of_telegram(tx, pen, *telegram, name, &UserId::new(*id), NOON).await })
            });
            said.await.expect("somebody")
        }
    };
    let alice = speak("U1", 1001, "Alice").await;
    assert_eq!((alice.org.as_str(), alice.role, alice.telegram), (DEFAULT_ORG, Role::User, Some(1001)));
    assert_eq!(speak("U2", 1001, "Alice again").await, alice);
    let nameless = speak("U3", 1002, " \u{7}\n ").await;
    assert_eq!(nameless.name, "Telegram 1002");
    assert_eq!(speak("U4", 1003, "ab\0").await.name, "ab");
}

async fn of_two_first_words_one_makes_the_person(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let speak = |n: usize| {
        let (store, pen) = (store.clone(), salon.pen(Actor::Salon));
        tokio::spawn(async move {
            let id = UserId::new(format!("U{n}"));
            let said = store.write((id, pen), |tx, (id, pen)| {
                Box::pin(async move { person_of_telegram(tx, pen, 1001, "Alice", id, NOON).await })
            });
            said.await.expect("somebody").id
        })
    };
    let tasks: Vec<_> = (0..8).map(speak).collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.expect("a task"));
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

async fn what_cannot_be_is_refused(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let new = |name: &str| NewUser {
        org: OrgId::new(DEFAULT_ORG),
        name: name.to_owned(),
        email: None,
        role: Role::User,
        telegram: Some(7),
    };
    let pen = salon.pen(Actor::Operator);
    let add = |new| add_user(&store, &salon.clock, &pen, new);
    assert!(matches!(add(new(" ")).await, Err(PeopleError::BadName)));
    assert!(matches!(add(new("a\nb")).await, Err(PeopleError::BadName)));
    let email = Some("nobody".to_owned());
    assert!(matches!(add(NewUser { email, ..new("a") }).await, Err(PeopleError::BadEmail(_))));
    let org = OrgId::new("fish");
    assert!(matches!(add(NewUser { org, ..new("a") }).await, Err(PeopleError::NoOrg(_))));
    add(new("a")).await.expect("the first one");
    assert!(matches!(add(new("b")).await, Err(PeopleError::TelegramTaken)));
    let c = add(NewUser { telegram: None, ..new("c") }).await.expect("another");
    let change = UserChange { telegram: Some(Some(7)), ..UserChange::default() };
    assert!(matches!(
        set_user(&store, &salon.pen(Actor::Operator), &c.id, change).await,
        Err(PeopleError::TelegramTaken)
    ));
}

async fn the_last_admin_stays(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let carol = person(&salon, "carol", Role::Admin).await;
    person(&salon, "alice", Role::User).await;
    let demoted = || UserChange { role: Some(Role::User), ..UserChange::default() };
    assert!(matches!(
        set_user(&store, &salon.pen(Actor::Operator), &carol.id, demoted()).await,
        Err(PeopleError::LastAdmin)
    ));
    assert!(matches!(remove_user(&store, &salon.pen(Actor::Operator), &carol.id).await, Err(PeopleError::LastAdmin)));
    person(&salon, "dave", Role::Admin).await;
    set_user(&store, &salon.pen(Actor::Operator), &carol.id, demoted()).await.expect("there is another one");
}

async fn whoever_is_removed_leaves_no_name(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = person(&salon, "alice", Role::User).await;
    remove_user(&store, &salon.pen(Actor::Operator), &alice.id).await.expect("removed");
    assert!(matches!(find_user(&store, alice.id.as_str()).await, Err(PeopleError::Nobody(_))));
    assert!(matches!(remove_user(&store, &salon.pen(Actor::Operator), &alice.id).await, Err(PeopleError::Nobody(_))));
    let mut tx = store.read().await.expect("a connection");
    assert_eq!(tx.list_users(None).await.expect("people"), []);
    // Somebody new may be called the same.
    person(&salon, "alice", Role::User).await;
}

async fn zones_are_checked(Scratch { store, .. }: Scratch) {
    let to = |zone| OrgChange { zone: Some(zone), ..OrgChange::default() };
    let salon = salon(&store).await;
    let birds = add_org(&store, &salon.clock, &salon.pen(Actor::Operator), "Birds", "Asia/Seoul")
        .await
        .expect("an organisation");
    assert!(matches!(
        set_org(&store, &salon.pen(Actor::Operator), "Birds", to("Mars/Base")).await,
        Err(PeopleError::NoZone(_))
    ));
    let moved =
        set_org(&store, &salon.pen(Actor::Operator), birds.id.as_str(), to("Europe/Berlin")).await.expect("moved");
    assert_eq!((moved.name.as_str(), moved.zone.as_str()), ("Birds", "Europe/Berlin"));
    assert!(matches!(
        set_org(&store, &salon.pen(Actor::Operator), "fish", OrgChange::default()).await,
        Err(PeopleError::NoOrg(_))
    ));
}
