use salon_core::people::Role;
use salon_core::{KeyId, Org, OrgId, SecretId, Time, User, UserId};
use salon_store::testing::Scratch;
use salon_store::{ApiKey, Dek, Keyring, Sealed, Signal, Store, on_both_databases};

use crate::cast::*;

on_both_databases! {
    organisations_are_added_once_and_changed
    a_telegram_id_and_a_subject_belong_to_one_person
    people_are_listed_by_organisation
    a_removed_person_is_forgotten_with_keys_and_secrets
    a_key_is_found_by_its_hash_with_what_it_depends_on
    a_hash_belongs_to_one_key
    revoking_takes_the_whole_family
    uses_only_move_on
    an_owner_has_one_active_data_key
    rewrapping_meets_nothing_that_was_changed
    secrets_are_one_for_each_place
    a_secret_is_not_stored_under_a_retired_data_key
    resealing_meets_nothing_that_was_changed
    data_keys_go_when_nothing_is_sealed_by_them
    keyrings_are_seen_until_they_are_old
    every_change_of_rights_raises_the_revision
    settings_change_and_go
}

fn org(id: &str) -> Org {
    Org {
        id: OrgId::new(id),
        name: id.to_owned(),
        zone: "UTC".to_owned(),
        subject: Some(format!("jwt:{id}")),
        created_at: Time(1_000),
    }
}

fn user(id: &str) -> User {
    User {
        id: UserId::new(id),
        org: OrgId::new("default"),
        name: format!("{id}\0"),
        email: Some(format!("{id}@birds.example")),
        role: Role::Manager,
        active: true,
        telegram: None,
        subject: None,
        created_at: Time(1_000),
    }
}

fn key(id: &str, user: &str) -> ApiKey {
    ApiKey {
        id: KeyId::new(id),
        name: "laptop".to_owned(),
        hint: "abcd".to_owned(),
        user: UserId::new(user),
        maker: UserId::new(user),
        parent: None,
        role: Role::Manager,
        routes: Some("/v1/*".to_owned()),
        models: Some(String::new()),
        networks: None,
        created_at: Time(1_000),
        expires_at: Some(Time(9_000)),
        last_used_at: None,
        revoked_at: None,
    }
}

fn dek(id: &str, owner: &str) -> Dek {
    let wrapped = [id.as_bytes(), &[0, 1, 0xff]].concat();
    Dek { id: id.to_owned(), owner: owner.to_owned(), kid: "old".to_owned(), wrapped, created_at: Time(1_000) }
}

fn secret(id: &str, owner: &str, dek: &str) -> Sealed {
    Sealed {
        id: SecretId::new(id),
        owner: owner.to_owned(),
        provider: "openai".to_owned(),
        origin: "https://api.openai.com".to_owned(),
        dek: dek.to_owned(),
        blob: vec![1, 0, 0xff, 0x80],
        hint: "abcd".to_owned(),
        created_at: Time(1_000),
    }
}

async fn add_user(store: &Store, user: User) -> bool {
    transact!(store, user, |tx, user| tx.add_user(user).await).expect("add a user")
}

async fn add_key(store: &Store, key: ApiKey, hash: &'static str) -> bool {
    transact!(store, (key, hash), |tx, (key, hash)| tx.add_api_key(key, hash).await).expect("add a key")
}

async fn add_dek(store: &Store, dek: Dek) -> bool {
    transact!(store, dek, |tx, dek| tx.add_dek(dek).await).expect("add a data key")
}

async fn put(store: &Store, secret: Sealed) -> bool {
    transact!(store, secret, |tx, secret| tx.put_secret(secret).await).expect("put a secret")
}

async fn organisations_are_added_once_and_changed(Scratch { store, .. }: Scratch) {
    let first = read(&store).await.list_orgs().await.expect("list");
    assert_eq!(first.iter().map(|org| org.id.as_str()).collect::<Vec<_>>(), ["default"]);
    for (new, expected) in [(org("birds"), true), (Org { id: OrgId::new("other"), ..org("birds") }, false)] {
        let added = transact!(store, new, |tx, new| tx.add_org(new).await);
        assert_eq!(added.expect("add"), expected);
    }
    let changed = Org { name: "Birds".to_owned(), zone: "Asia/Seoul".to_owned(), ..org("birds") };
    assert!(transact!(store, changed.clone(), |tx, org| tx.set_org(org).await).expect("set"));
    assert!(!transact!(store, org("fish"), |tx, org| tx.set_org(org).await).expect("set"));
    let mut tx = read(&store).await;
    assert_eq!(tx.find_org(&OrgId::new("birds")).await.expect("find"), Some(changed.clone()));
    assert_eq!(tx.find_org_of_subject("jwt:birds").await.expect("find"), Some(changed));
    assert_eq!(tx.find_org_of_subject("jwt:fish").await.expect("find"), None);
}

async fn a_telegram_id_and_a_subject_belong_to_one_person(Scratch { store, .. }: Scratch) {
    let alice = User { telegram: Some(1001), subject: Some("jwt:1".to_owned()), ..user("alice") };
    assert!(add_user(&store, alice.clone()).await);
    assert!(!add_user(&store, User { telegram: Some(1001), ..user("bob") }).await);
    assert!(!add_user(&store, User { subject: Some("jwt:1".to_owned()), ..user("bob") }).await);
    assert!(add_user(&store, user("bob")).await);
    let taken = User { telegram: Some(1001), ..user("bob") };
    assert!(!transact!(store, taken, |tx, user| tx.set_user(user).await).expect("set"));
    let mut tx = read(&store).await;
    // What no database can store is shown for what it was.
    let stored = User { name: "alice\u{fffd}".to_owned(), ..alice };
    assert_eq!(tx.find_user_of_telegram(1001).await.expect("find"), Some(stored.clone()));
    assert_eq!(tx.find_user_of_subject("jwt:1").await.expect("find"), Some(stored));
    assert_eq!(tx.find_user_of_telegram(7).await.expect("find"), None);
}

async fn people_are_listed_by_organisation(Scratch { store, .. }: Scratch) {
    transact!(store, org("birds"), |tx, org| tx.add_org(org).await).expect("add");
    add_user(&store, User { created_at: Time(3_000), ..user("alice") }).await;
    add_user(&store, User { org: OrgId::new("birds"), ..user("bob") }).await;
    let mut tx = read(&store).await;
    let mut ids = async |org: Option<&str>| {
        let org = org.map(OrgId::new);
        let users = tx.list_users(org.as_ref()).await.expect("list");
        users.into_iter().map(|user| user.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(None).await, ["bob", "alice"]);
    assert_eq!(ids(Some("birds")).await, ["bob"]);
    assert_eq!(ids(Some("fish")).await, [""; 0]);
}

async fn a_removed_person_is_forgotten_with_keys_and_secrets(Scratch { store, .. }: Scratch) {
    add_user(&store, User { telegram: Some(1001), ..user("alice") }).await;
    add_user(&store, user("bob")).await;
    add_key(&store, key("K1", "alice"), "h1").await;
    add_key(&store, ApiKey { maker: UserId::new("alice"), ..key("K2", "bob") }, "h2").await;
    add_key(&store, key("K3", "bob"), "h3").await;
    add_dek(&store, dek("D1", "user:alice")).await;
    add_dek(&store, dek("D2", "user:bob")).await;
    put(&store, secret("S1", "user:alice", "D1")).await;
    put(&store, secret("S2", "user:bob", "D2")).await;
    let removal = (UserId::new("alice"), Time(5_000));
    for expected in [true, false] {
        let removed = transact!(store, removal.clone(), |tx, (id, now)| tx.remove_user(id, *now).await);
        assert_eq!(removed.expect("remove"), expected);
    }
    let mut tx = read(&store).await;
    assert_eq!(tx.find_user(&UserId::new("alice")).await.expect("find"), None);
    assert_eq!(tx.find_user_of_telegram(1001).await.expect("find"), None);
    let keys = tx.list_api_keys(None).await.expect("list");
    let revoked: Vec<_> = keys.iter().map(|key| key.revoked_at.is_some()).collect();
    assert_eq!(revoked, [true, true, false]);
    let secrets = tx.list_secrets(None, "", 10).await.expect("list");
    assert_eq!(secrets, [secret("S2", "user:bob", "D2")]);
    assert_eq!(tx.find_dek("D1").await.expect("find"), None);
    drop(tx);
    assert!(add_user(&store, User { telegram: Some(1001), ..user("alice again") }).await);
}

async fn a_key_is_found_by_its_hash_with_what_it_depends_on(Scratch { store, .. }: Scratch) {
    add_user(&store, user("alice")).await;
    add_user(&store, User { role: Role::User, ..user("carol") }).await;
    let made = ApiKey { maker: UserId::new("carol"), ..key("K1", "alice") };
    add_key(&store, made.clone(), "h1").await;
    let shown = read(&store).await.find_shown_key("h1").await.expect("find").expect("a key");
    assert_eq!((shown.key, shown.hash.as_str(), shown.zone.as_str()), (made, "h1", "UTC"));
    assert_eq!((shown.org.as_str(), shown.role, shown.active), ("default", Role::User, true));
    let off = User { active: false, ..user("carol") };
    transact!(store, off, |tx, user| tx.set_user(user).await).expect("set");
    let shown = read(&store).await.find_shown_key("h1").await.expect("find").expect("a key");
    assert!(!shown.active);
    assert_eq!(read(&store).await.find_shown_key("h2").await.expect("find"), None);
}

async fn a_hash_belongs_to_one_key(Scratch { store, .. }: Scratch) {
    add_user(&store, user("alice")).await;
    assert!(add_key(&store, key("K1", "alice"), "h1").await);
    assert!(!add_key(&store, key("K2", "alice"), "h1").await);
    assert_eq!(read(&store).await.find_api_key(&KeyId::new("K1")).await.expect("find"), Some(key("K1", "alice")));
    let listed = read(&store).await.list_api_keys(Some(&UserId::new("alice"))).await.expect("list");
    assert_eq!(listed, [key("K1", "alice")]);
    assert_eq!(read(&store).await.list_api_keys(Some(&UserId::new("bob"))).await.expect("list"), []);
}

async fn revoking_takes_the_whole_family(Scratch { store, .. }: Scratch) {
    add_user(&store, user("alice")).await;
    let child = |id: &str, parent: &str| ApiKey { parent: Some(KeyId::new(parent)), ..key(id, "alice") };
    add_key(&store, key("K1", "alice"), "h1").await;
    add_key(&store, child("K2", "K1"), "h2").await;
    add_key(&store, child("K3", "K2"), "h3").await;
    add_key(&store, key("K4", "alice"), "h4").await;
    for (id, expected) in [("K2", true), ("K2", false), ("K9", false), ("K1", true)] {
        let args = (KeyId::new(id), Time(5_000));
        let revoked = transact!(store, args, |tx, (id, now)| tx.revoke_api_key(id, *now).await);
        assert_eq!(revoked.expect("revoke"), expected, "{id}");
    }
    let keys = read(&store).await.list_api_keys(None).await.expect("list");
    let revoked: Vec<_> = keys.iter().map(|key| key.revoked_at.is_some()).collect();
    assert_eq!(revoked, [true, true, true, false]);
}

async fn uses_only_move_on(Scratch { store, .. }: Scratch) {
    add_user(&store, user("alice")).await;
    add_key(&store, key("K1", "alice"), "h1").await;
    for (at, expected) in [(5_000, 5_000), (4_000, 5_000), (6_000, 6_000)] {
        let uses = vec![(KeyId::new("K1"), Time(at)), (KeyId::new("gone"), Time(at))];
        transact!(store, uses, |tx, uses| tx.note_key_uses(uses).await).expect("note");
        let key = read(&store).await.find_api_key(&KeyId::new("K1")).await.expect("find").expect("a key");
        assert_eq!(key.last_used_at, Some(Time(expected)));
    }
}

async fn an_owner_has_one_active_data_key(Scratch { store, .. }: Scratch) {
    assert!(add_dek(&store, dek("D1", "org:birds")).await);
    assert!(!add_dek(&store, dek("D2", "org:birds")).await);
    assert_eq!(read(&store).await.find_active_dek("org:birds").await.expect("find"), Some(dek("D1", "org:birds")));
    for expected in [true, false] {
        let args = ("D1", dek("D2", "org:birds"));
        let replaced = transact!(store, args, |tx, (old, new)| tx.replace_dek(old, new).await);
        assert_eq!(replaced.expect("replace"), expected);
    }
    let mut tx = read(&store).await;
    assert_eq!(tx.find_active_dek("org:birds").await.expect("find"), Some(dek("D2", "org:birds")));
    assert_eq!(tx.find_dek("D1").await.expect("find"), Some(dek("D1", "org:birds")));
    assert_eq!(tx.list_deks("D1", 10).await.expect("list"), [dek("D2", "org:birds")]);
    assert_eq!(tx.list_older_deks(Time(1_000), "", 10).await.expect("list"), []);
    assert_eq!(tx.list_older_deks(Time(1_001), "", 10).await.expect("list"), [dek("D2", "org:birds")]);
}

async fn rewrapping_meets_nothing_that_was_changed(Scratch { store, .. }: Scratch) {
    let old = dek("D1", "org:birds");
    add_dek(&store, old.clone()).await;
    for (wrapped, expected) in [(vec![9, 9], true), (vec![8, 8], false)] {
        let args = (old.clone(), wrapped);
        let moved = transact!(store, args, |tx, (old, new)| tx.rewrap_dek(&old.id, &old.wrapped, "new", new).await);
        assert_eq!(moved.expect("rewrap"), expected);
    }
    let mut tx = read(&store).await;
    assert_eq!(tx.count_deks().await.expect("count"), [("new".to_owned(), 1)]);
    assert_eq!(tx.list_deks_beside("new", "", 10).await.expect("list"), []);
    let moved = Dek { kid: "new".to_owned(), wrapped: vec![9, 9], ..old };
    assert_eq!(tx.list_deks_beside("old", "", 10).await.expect("list"), [moved]);
}

async fn secrets_are_one_for_each_place(Scratch { store, .. }: Scratch) {
    add_dek(&store, dek("D1", "org:birds")).await;
    assert!(put(&store, secret("S1", "org:birds", "D1")).await);
    let second = Sealed { blob: vec![2; 40], created_at: Time(2_000), ..secret("S2", "org:birds", "D1") };
    assert!(put(&store, second.clone()).await);
    assert!(put(&store, Sealed { provider: "groq".to_owned(), ..secret("S3", "org:birds", "D1") }).await);
    let mut tx = read(&store).await;
    let found = tx.find_secret("org:birds", "openai", "https://api.openai.com").await.expect("find");
    assert_eq!(found, Some(second));
    assert_eq!(tx.list_secrets(Some("org:birds"), "S2", 10).await.expect("list").len(), 1);
    assert_eq!(tx.list_secrets(Some("org:fish"), "", 10).await.expect("list"), []);
    assert_eq!(tx.find_secret("org:birds", "openai", "https://evil.example").await.expect("find"), None);
    drop(tx);
    for expected in [true, false] {
        let removed = transact!(store, SecretId::new("S2"), |tx, id| tx.remove_secret(id).await);
        assert_eq!(removed.expect("remove"), expected);
    }
}

async fn a_secret_is_not_stored_under_a_retired_data_key(Scratch { store, .. }: Scratch) {
    add_dek(&store, dek("D1", "org:birds")).await;
    assert!(!put(&store, secret("S1", "org:fish", "D1")).await, "it is another owner's");
    let args = ("D1", dek("D2", "org:birds"));
    transact!(store, args, |tx, (old, new)| tx.replace_dek(old, new).await).expect("replace");
    assert!(!put(&store, secret("S1", "org:birds", "D1")).await);
    assert!(put(&store, secret("S1", "org:birds", "D2")).await);
}

async fn resealing_meets_nothing_that_was_changed(Scratch { store, .. }: Scratch) {
    add_dek(&store, dek("D1", "org:birds")).await;
    let old = secret("S1", "org:birds", "D1");
    put(&store, old.clone()).await;
    let args = ("D1", dek("D2", "org:birds"));
    transact!(store, args, |tx, (old, new)| tx.replace_dek(old, new).await).expect("replace");
    assert_eq!(read(&store).await.list_stale_secrets("", 10).await.expect("list"), std::slice::from_ref(&old));
    for (blob, expected) in [(vec![9, 9], true), (vec![8, 8], false)] {
        let args = (old.clone(), blob);
        let moved = transact!(store, args, |tx, (old, new)| tx.reseal_secret(&old.id, &old.blob, "D2", new).await);
        assert_eq!(moved.expect("reseal"), expected);
    }
    let mut tx = read(&store).await;
    assert_eq!(tx.list_stale_secrets("", 10).await.expect("list"), []);
    let moved = Sealed { dek: "D2".to_owned(), blob: vec![9, 9], ..old };
    assert_eq!(tx.list_secrets(None, "", 10).await.expect("list"), [moved]);
}

async fn data_keys_go_when_nothing_is_sealed_by_them(Scratch { store, .. }: Scratch) {
    for (id, owner) in [("D1", "org:birds"), ("D2", "org:fish")] {
        add_dek(&store, dek(id, owner)).await;
        put(&store, secret(&format!("S{id}"), owner, id)).await;
        let args = (id, dek(&format!("{id}+"), owner));
        transact!(store, args, |tx, (old, new)| tx.replace_dek(old, new).await).expect("replace");
    }
    transact!(store, SecretId::new("SD1"), |tx, id| tx.remove_secret(id).await).expect("remove");
    let dropped = transact!(store, (), |tx, ()| tx.drop_retired_deks().await);
    assert_eq!(dropped.expect("drop"), 1);
    let left = read(&store).await.list_deks("", 10).await.expect("list");
    assert_eq!(left.iter().map(|dek| dek.id.as_str()).collect::<Vec<_>>(), ["D1+", "D2", "D2+"]);
}

async fn keyrings_are_seen_until_they_are_old(Scratch { store, .. }: Scratch) {
    let ring = |instance: &str, at: i64| Keyring {
        instance: instance.to_owned(),
        kids: vec!["new".to_owned(), "old".to_owned()],
        seen_at: Time(at),
    };
    for (ring, forget) in
        [(ring("a", 1_000), 0), (ring("b", 2_000), 0), (ring("b", 3_000), 0), (ring("c", 9_000), 2_500)]
    {
        let args = (ring, Time(forget));
        transact!(store, args, |tx, (ring, forget)| tx.show_keyring(ring, *forget).await).expect("show");
    }
    assert_eq!(read(&store).await.list_keyrings(Time(0)).await.expect("list"), [ring("b", 3_000), ring("c", 9_000)]);
    assert_eq!(read(&store).await.list_keyrings(Time(3_001)).await.expect("list"), [ring("c", 9_000)]);
    transact!(store, "c", |tx, instance| tx.drop_keyring(instance).await).expect("drop");
    assert_eq!(read(&store).await.list_keyrings(Time(3_001)).await.expect("list"), []);
}

async fn every_change_of_rights_raises_the_revision(Scratch { store, .. }: Scratch) {
    let (told, mut heard) = tokio::sync::mpsc::channel(100);
    store.listen(move |signal| told.try_send(signal.clone()).expect("room"));
    add_user(&store, user("alice")).await;
    assert_eq!(read(&store).await.people_revision().await.expect("a number"), 0, "nobody remembers a newcomer");
    add_key(&store, key("K1", "alice"), "h1").await;
    transact!(store, user("alice"), |tx, user| tx.set_user(user).await).expect("set");
    transact!(store, KeyId::new("K1"), |tx, id| tx.revoke_api_key(id, Time(5)).await).expect("revoke");
    transact!(store, UserId::new("alice"), |tx, id| tx.remove_user(id, Time(5)).await).expect("remove");
    add_dek(&store, dek("D1", "org:birds")).await;
    put(&store, secret("S1", "org:birds", "D1")).await;
    transact!(store, SecretId::new("S1"), |tx, id| tx.remove_secret(id).await).expect("remove");
    assert_eq!(read(&store).await.people_revision().await.expect("a number"), 6);
    for _ in 0..6 {
        assert_eq!(heard.recv().await, Some(Signal::Revision("people".to_owned())));
    }
}

async fn settings_change_and_go(Scratch { store, .. }: Scratch) {
    for value in ["green", "blue"] {
        transact!(store, value, |tx, value| tx.set_setting("colour", value).await).expect("set");
        assert_eq!(read(&store).await.find_setting("colour").await.expect("find").as_deref(), Some(value));
    }
    transact!(store, (), |tx, ()| tx.set_setting("colours", "many").await).expect("set");
    let listed = read(&store).await.list_settings("colou").await.expect("list");
    assert_eq!(listed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["colour", "colours"]);
    assert_eq!(read(&store).await.list_settings("col_ur").await.expect("list"), []);
    for expected in [true, false] {
        let removed = transact!(store, (), |tx, ()| tx.remove_setting("colour").await);
        assert_eq!(removed.expect("remove"), expected);
    }
}
