use std::sync::Arc;
use std::time::Duration;

use salon::Actor;
use salon::keys::KeyError;
use salon::vault::Origin;
use salon::{Clock, Keys, MasterKeys, Salon};
use salon_core::{Owner, UserId};
use salon_engine::Secret;
use salon_store::on_both_databases;
use salon_store::testing::Scratch;

use crate::cast::*;

on_both_databases! {
    everything_moves_to_another_master_key
    a_rotation_goes_on_where_it_was_killed
    two_rotations_at_once_lose_nothing
    a_secret_may_be_stored_while_everything_moves
    data_keys_are_renewed_and_the_old_ones_go
    a_renewal_goes_on_where_it_was_killed
    processes_say_which_keys_they_have
}

const OWNERS: usize = 250;

fn origin() -> Origin {
    Origin::parse("https://api.openai.com").expect("an origin")
}

fn owner(n: usize) -> Owner {
    Owner::User(UserId::new(format!("user-{n}")))
}

async fn furnish(salon: &Salon) {
    let put = async |n: usize| {
        let secret = Secret::new(format!("sk-of-{n}"));
        salon.vault.put_key(&owner(n), "openai", &origin(), secret, &salon.pen(Actor::Operator)).await.expect("stored");
    };
    // At once, so that they share their commits.
    futures_util::future::join_all((0..OWNERS).map(put)).await;
}

async fn everything_opens(salon: &Arc<Salon>) {
    for n in 0..OWNERS {
        let found =
            salon.vault.owners_key(owner(n), "openai", &origin()).await.expect("it opens").expect("it is there");
        assert_eq!(found.secret.expose(), format!("sk-of-{n}"));
    }
    let check = salon.vault.check().await.expect("a check");
    assert!(check.broken.is_empty(), "{:?}", check.broken);
}

fn both() -> String {
    format!("new:{}\nold:{}", master(2), master(1))
}

/// Another life of the process: nothing is remembered.
async fn restarted(salon: &Salon, masters: &str) -> Arc<Salon> {
    salon_with(&salon.store, masters).await
}

async fn everything_moves_to_another_master_key(Scratch { store, .. }: Scratch) {
    let old = salon_with(&store, &format!("old:{}", master(1))).await;
    furnish(&old).await;
    let token = old.keys.token_hash("t");
    let masters = MasterKeys::parse(&both()).expect("two keys");
    old.keys.take(masters, &store, &old.clock).await.expect("taken in");
    assert!(!old.vault.forget_master("old").await.expect("an answer"), "it is needed");
    // One data key for each owner, and the one for tokens.
    assert_eq!(old.vault.rewrap().await.expect("moved"), OWNERS as u64 + 1);
    assert_eq!(old.vault.check().await.expect("a check").by_kid, [("new".to_owned(), OWNERS as i64 + 1)]);
    everything_opens(&old).await;
    assert!(old.vault.forget_master("old").await.expect("an answer"));
    // The old key can go, and alone it opens nothing any more.
    let new = restarted(&old, &format!("new:{}", master(2))).await;
    everything_opens(&new).await;
    assert_eq!(new.keys.token_hash("t"), token, "keys that were given out stay good");
    let alone = MasterKeys::parse(&format!("old:{}", master(1))).expect("a key");
    let refused = Keys::open(alone, &store, &Clock::wound_to(NOON)).await;
    assert!(matches!(refused, Err(KeyError::Wrong)));
}

async fn a_rotation_goes_on_where_it_was_killed(Scratch { store, .. }: Scratch) {
    let mut salon = salon_with(&store, &format!("old:{}", master(1))).await;
    furnish(&salon).await;
    let (mut rows, mut lives) = (0, 0);
    loop {
        // Each life does one batch and is gone.
        salon = restarted(&salon, &both()).await;
        let moved = salon.vault.rewrap_some().await.expect("a batch");
        rows += moved.rows;
        lives += 1;
        everything_opens(&salon).await;
        if moved.done {
            break;
        }
    }
    assert_eq!((rows, lives), (OWNERS as u64 + 1, 4));
    everything_opens(&restarted(&salon, &format!("new:{}", master(2))).await).await;
}

async fn two_rotations_at_once_lose_nothing(Scratch { store, .. }: Scratch) {
    let salon = salon_with(&store, &format!("old:{}", master(1))).await;
    furnish(&salon).await;
    let (one, other) = (restarted(&salon, &both()).await, restarted(&salon, &both()).await);
    let (a, b) = tokio::join!(one.vault.rewrap(), other.vault.rewrap());
    assert_eq!(a.expect("moved") + b.expect("moved"), OWNERS as u64 + 1);
    everything_opens(&restarted(&salon, &format!("new:{}", master(2))).await).await;
}

async fn a_secret_may_be_stored_while_everything_moves(Scratch { store, .. }: Scratch) {
    let old = salon_with(&store, &format!("old:{}", master(1))).await;
    furnish(&old).await;
    let new = restarted(&old, &both()).await;
    new.vault.rewrap_some().await.expect("a batch");
    // A process that has not heard of the new key yet makes a data key under the old one.
    let late = owner(OWNERS);
    old.vault
        .put_key(&late, "openai", &origin(), Secret::new("sk-late"), &old.pen(Actor::Operator))
        .await
        .expect("stored");
    new.vault.rewrap().await.expect("moved");
    let alone = restarted(&old, &format!("new:{}", master(2))).await;
    everything_opens(&alone).await;
    let found = alone.vault.owners_key(late, "openai", &origin()).await.expect("it opens").expect("it is there");
    assert_eq!(found.secret.expose(), "sk-late");
}

async fn data_keys_are_renewed_and_the_old_ones_go(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    furnish(&salon).await;
    let ids = async || {
        let deks = store.read().await.expect("a connection").list_deks("", 10_000).await.expect("data keys");
        deks.into_iter().filter(|dek| dek.owner != "salon").map(|dek| dek.id).collect::<Vec<_>>()
    };
    let before = ids().await;
    salon.clock.wind(Duration::from_secs(60));
    assert_eq!(salon.vault.renew().await.expect("renewed"), 2 * OWNERS as u64);
    let after = ids().await;
    assert_eq!((before.len(), after.len()), (OWNERS, OWNERS));
    assert!(before.iter().all(|id| !after.contains(id)));
    everything_opens(&salon).await;
    everything_opens(&restarted(&salon, &master(1)).await).await;
}

async fn a_renewal_goes_on_where_it_was_killed(Scratch { store, .. }: Scratch) {
    let mut salon = salon(&store).await;
    furnish(&salon).await;
    let mut rows = 0;
    for life in 1.. {
        salon = restarted(&salon, &master(1)).await;
        salon.clock.wind(Duration::from_secs(60) * life);
        let moved = salon.vault.renew_some().await.expect("a batch");
        rows += moved.rows;
        everything_opens(&salon).await;
        // Whoever stores a key in between is not forgotten.
        salon
            .vault
            .put_key(&owner(7), "openai", &origin(), Secret::new("sk-of-7"), &salon.pen(Actor::Operator))
            .await
            .expect("stored");
        if moved.done {
            break;
        }
        assert!(life < 20, "it does not end");
    }
    assert!(rows >= 2 * OWNERS as u64 - 1, "{rows}");
    let mut tx = store.read().await.expect("a connection");
    assert_eq!(tx.list_stale_secrets("", 10).await.expect("rows"), []);
    assert_eq!(tx.list_deks("", 10_000).await.expect("data keys").len(), OWNERS + 1);
}

async fn processes_say_which_keys_they_have(Scratch { store, .. }: Scratch) {
    let salon = salon_with(&store, &both()).await;
    salon.vault.show_keyring("one").await.expect("shown");
    salon.clock.wind(Duration::from_secs(40));
    salon.vault.show_keyring("other").await.expect("shown");
    let seen = async || {
        let keyrings = salon.vault.keyrings().await.expect("keyrings");
        keyrings.into_iter().map(|ring| format!("{}: {}", ring.instance, ring.kids.join(","))).collect::<Vec<_>>()
    };
    assert_eq!(seen().await, ["one: new,old", "other: new,old"]);
    salon.clock.wind(Duration::from_secs(40));
    assert_eq!(seen().await, ["other: new,old"]);
    salon.vault.hide_keyring("other").await.expect("hidden");
    assert_eq!(seen().await, [""; 0]);
}
