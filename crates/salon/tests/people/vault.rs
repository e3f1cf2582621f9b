use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use salon::Actor;
use salon::vault::{Origin, VaultError};
use salon::{Caller, Salon};
use salon_core::people::Role;
use salon_core::{Owner, SecretId};
use salon_engine::Secret;
use salon_store::testing::Scratch;
use salon_store::{Sealed, on_both_databases};

use crate::cast::*;

const CANARY: &str = "sk-CANARY-vault-0123456789abcdef";

on_both_databases! {
    a_key_comes_back_to_its_owner
    the_own_key_comes_before_the_shared_one
    a_key_goes_to_its_provider_and_origin_alone
    a_new_key_takes_the_place_of_the_old_one
    a_removed_key_is_gone_at_once
    a_blob_in_another_row_stays_shut
    whatever_field_is_changed_the_blob_stays_shut
    what_cannot_be_opened_is_counted_and_not_passed_over
    nothing_shows_a_secret
    what_is_no_key_is_refused
}

fn openai() -> Origin {
    Origin::parse("https://api.openai.com/v1").expect("an origin")
}

async fn put(salon: &Salon, owner: &Owner, text: &str) -> SecretId {
    salon
        .vault
        .put_key(owner, "openai", &openai(), Secret::new(text), &salon.pen(Actor::Operator))
        .await
        .expect("stored")
}

async fn find(salon: &Salon, caller: &Caller) -> Option<(String, Owner)> {
    let found = salon.vault.provider_key(caller, "openai", &openai()).await.expect("an answer");
    found.map(|found| (found.secret.expose().to_owned(), found.owner))
}

async fn rows(salon: &Salon) -> Vec<Sealed> {
    salon.store.read().await.expect("a connection").list_secrets(None, "", 100).await.expect("rows")
}

/// Writes a row as somebody with the database in hand would.
async fn tamper(salon: &Salon, row: Sealed) {
    let written = salon.store.write(row, |tx, row| {
        Box::pin(async move {
            tx.remove_secret(&row.id).await?;
            tx.put_secret(row).await
        })
    });
    assert!(written.await.expect("written"), "the row's data key is active");
}

async fn a_key_comes_back_to_its_owner(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = caller(&person(&salon, "alice", Role::User).await);
    assert_eq!(find(&salon, &alice).await, None);
    let owner = Owner::User(alice.user.clone());
    put(&salon, &owner, CANARY).await;
    for _ in 0..2 {
        assert_eq!(find(&salon, &alice).await, Some((CANARY.to_owned(), owner.clone())));
    }
    // Another process opens it too, and nobody else's caller does.
    let other = crate::cast::salon(&store).await;
    assert_eq!(find(&other, &alice).await, Some((CANARY.to_owned(), owner)));
    let bob = caller(&person(&salon, "bob", Role::Admin).await);
    assert_eq!(find(&salon, &bob).await, None);
}

async fn the_own_key_comes_before_the_shared_one(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = caller(&person(&salon, "alice", Role::User).await);
    let (own, shared) = (Owner::User(alice.user.clone()), Owner::Org(alice.org.clone()));
    put(&salon, &shared, "sk-shared").await;
    assert_eq!(find(&salon, &alice).await, Some(("sk-shared".to_owned(), shared.clone())));
    let id = put(&salon, &own, "sk-own").await;
    assert_eq!(find(&salon, &alice).await, Some(("sk-own".to_owned(), own.clone())));
    assert!(salon.vault.remove_key(&own, &id, &salon.pen(Actor::Operator)).await.expect("removed"));
    assert_eq!(find(&salon, &alice).await, Some(("sk-shared".to_owned(), shared)));
}

async fn a_key_goes_to_its_provider_and_origin_alone(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = caller(&person(&salon, "alice", Role::User).await);
    put(&salon, &Owner::User(alice.user.clone()), CANARY).await;
    let others = [
        ("anthropic", "https://api.openai.com"),
        ("openai", "https://api.openai.com.evil.example"),
        ("openai", "http://api.openai.com"),
        ("openai", "https://api.openai.com:8443"),
    ];
    for (provider, origin) in others {
        let origin = Origin::parse(origin).expect("an origin");
        let found = salon.vault.provider_key(&alice, provider, &origin).await.expect("an answer");
        assert_eq!(found, None, "{provider} at {origin}");
    }
    // The path does not matter, and neither does how the host is spelt.
    let same = Origin::parse("https://API.openai.com:443/v1/chat?x=y").expect("an origin");
    assert!(salon.vault.provider_key(&alice, "openai", &same).await.expect("an answer").is_some());
    for bad in ["", "api.openai.com", "ftp://a.example", "https://user@a.example", "https://a.example/#f", "data:,x"] {
        assert!(Origin::parse(bad).is_err(), "{bad}");
    }
}

async fn a_new_key_takes_the_place_of_the_old_one(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = caller(&person(&salon, "alice", Role::User).await);
    let owner = Owner::User(alice.user.clone());
    put(&salon, &owner, "sk-old-0123456789").await;
    find(&salon, &alice).await;
    put(&salon, &owner, "sk-new-0123456abcd").await;
    assert_eq!(find(&salon, &alice).await.expect("a key").0, "sk-new-0123456abcd");
    let listed = salon.vault.list_keys(Some(&owner)).await.expect("a list");
    assert_eq!(listed.iter().map(|key| key.hint.as_str()).collect::<Vec<_>>(), ["abcd"]);
    assert_eq!(listed[0].origin, "https://api.openai.com");
}

async fn a_removed_key_is_gone_at_once(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let (alice, bob) = (person(&salon, "alice", Role::User).await, person(&salon, "bob", Role::User).await);
    let (owner, other) = (Owner::User(alice.id.clone()), Owner::User(bob.id));
    let id = put(&salon, &owner, CANARY).await;
    let alice = caller(&alice);
    assert!(find(&salon, &alice).await.is_some());
    assert!(
        !salon.vault.remove_key(&other, &id, &salon.pen(Actor::Operator)).await.expect("an answer"),
        "it is not bob's"
    );
    assert!(salon.vault.remove_key(&owner, &id, &salon.pen(Actor::Operator)).await.expect("an answer"));
    assert_eq!(find(&salon, &alice).await, None);
}

async fn a_blob_in_another_row_stays_shut(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let (alice, bob) = (person(&salon, "alice", Role::User).await, person(&salon, "bob", Role::User).await);
    put(&salon, &Owner::User(alice.id.clone()), CANARY).await;
    let id = put(&salon, &Owner::User(bob.id.clone()), "sk-of-bob").await;
    let all = rows(&salon).await;
    let hers = all.iter().find(|row| row.id != id).expect("hers");
    let his = all.iter().find(|row| row.id == id).expect("his");
    // With her blob alone, and with her data key's name as well.
    for row in [Sealed { blob: hers.blob.clone(), ..his.clone() }] {
        tamper(&salon, row).await;
        let opened = salon.vault.provider_key(&caller(&bob), "openai", &openai()).await;
        assert!(matches!(opened, Err(VaultError::Unsealable { .. })), "{opened:?}");
    }
}

async fn whatever_field_is_changed_the_blob_stays_shut(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = person(&salon, "alice", Role::User).await;
    let owner = Owner::User(alice.id.clone());
    put(&salon, &owner, CANARY).await;
    let row = rows(&salon).await.remove(0);
    let (runtime, mut runner) = (tokio::runtime::Handle::current(), TestRunner::new(Config::with_cases(40)));
    let changes = (0..5usize, "[a-z0-9]{1,12}", any::<prop::sample::Index>(), 1u8..);
    let judged = tokio::task::spawn_blocking(move || {
        runner.run(&changes, |(field, text, at, flip)| {
            let mut changed = row.clone();
            match field {
                0 => changed.id = SecretId::new(text),
                1 => changed.provider = text,
                2 => changed.origin = format!("https://{text}.example"),
                // The other owner has the same data key's row, as if that was changed too.
                3 => changed.blob.truncate(at.index(changed.blob.len())),
                _ => {
                    let at = at.index(changed.blob.len());
                    changed.blob[at] ^= flip;
                }
            }
            let origin = Origin::parse(&changed.origin).expect("an origin");
            let opened = runtime.block_on(async {
                let old = rows(&salon).await.remove(0).id;
                salon.store.write(old, |tx, old| Box::pin(tx.remove_secret(old))).await.expect("removed");
                tamper(&salon, changed.clone()).await;
                salon.vault.owners_key(owner.clone(), &changed.provider, &origin).await
            });
            prop_assert!(matches!(opened, Err(VaultError::Unsealable { .. })), "{:?}", opened.is_ok());
            Ok(())
        })
    });
    judged.await.expect("a thread").expect("every change is noticed");
}

async fn what_cannot_be_opened_is_counted_and_not_passed_over(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = caller(&person(&salon, "alice", Role::User).await);
    let (own, shared) = (Owner::User(alice.user.clone()), Owner::Org(alice.org.clone()));
    put(&salon, &shared, "sk-shared").await;
    let id = put(&salon, &own, CANARY).await;
    let mut row = rows(&salon).await.into_iter().find(|row| row.id == id).expect("the row");
    *row.blob.last_mut().expect("bytes") ^= 1;
    tamper(&salon, row).await;
    // The shared key does not stand in for it.
    let opened = salon.vault.provider_key(&alice, "openai", &openai()).await;
    assert!(matches!(opened, Err(VaultError::Unsealable { id: named, .. }) if named == id));
    assert_eq!(salon.metrics.all().get(&(String::new(), "vault_unsealable".to_owned())), Some(&1));
    let check = salon.vault.check().await.expect("a check");
    assert_eq!((check.secrets, check.broken.len()), (2, 1));
}

async fn nothing_shows_a_secret(Scratch { store, folder, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = caller(&person(&salon, "alice", Role::User).await);
    let owner = Owner::User(alice.user.clone());
    put(&salon, &owner, CANARY).await;
    let found = salon.vault.provider_key(&alice, "openai", &openai()).await;
    let listed = salon.vault.list_keys(None).await;
    let refused = salon
        .vault
        .put_key(&owner, "openai", &openai(), Secret::new(format!("{CANARY}\n")), &salon.pen(Actor::Operator))
        .await;
    let shown = format!("{found:?} {listed:?} {refused:?} {}", refused.as_ref().expect_err("refused"));
    assert!(!shown.contains("CANARY"), "{shown}");
    store.checkpoint().await.expect("a checkpoint");
    for file in std::fs::read_dir(folder.path().join("data")).into_iter().flatten() {
        let bytes = std::fs::read(file.expect("a file").path()).expect("bytes");
        assert!(!bytes.windows(6).any(|window| window == b"CANARY"));
    }
}

async fn what_is_no_key_is_refused(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let owner = Owner::Org(person(&salon, "alice", Role::User).await.org);
    for text in ["", "two words", "line\nbreak", "ключ", &"x".repeat(9000)] {
        let refused =
            salon.vault.put_key(&owner, "openai", &openai(), Secret::new(text), &salon.pen(Actor::Operator)).await;
        assert!(matches!(refused, Err(VaultError::BadSecret)), "{text:.20}");
    }
    for provider in ["", "open ai", "a/b", &"x".repeat(65)] {
        let refused =
            salon.vault.put_key(&owner, provider, &openai(), Secret::new("sk"), &salon.pen(Actor::Operator)).await;
        assert!(matches!(refused, Err(VaultError::BadProvider(_))), "{provider}");
    }
}
