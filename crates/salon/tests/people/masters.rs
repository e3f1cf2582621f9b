use salon::keys::KeyError;
use salon::{Clock, Keys, MasterKeys};
use salon_store::testing::Scratch;
use salon_store::{Store, on_both_databases};

use crate::cast::*;

on_both_databases! {
    data_knows_its_master_key
    a_wrong_key_changes_nothing
    of_two_first_keys_one_wins
    a_second_key_may_stand_beside_the_first
    a_name_stays_with_its_key
    tokens_from_before_there_was_a_vault_stay_good
}

async fn open(store: &Store, masters: &str) -> Result<Keys, KeyError> {
    Keys::open(MasterKeys::parse(masters).expect("master keys"), store, &Clock::wound_to(NOON)).await
}

async fn settings(store: &Store) -> Vec<(String, String)> {
    store.read().await.expect("a connection").list_settings("").await.expect("settings")
}

async fn data_knows_its_master_key(Scratch { store, .. }: Scratch) {
    let keys = open(&store, &master(1)).await.expect("the first key");
    assert!(keys.fits(&store).await.expect("an answer"));
    let again = open(&store, &master(1)).await.expect("the same key");
    assert_eq!(keys.token_hash("t"), again.token_hash("t"));
    assert_ne!(keys.token_hash("t"), keys.token_hash("u"));
    assert!(!format!("{keys:?} {:?}", keys.master()).contains(&master(1)[..10]));
}

async fn a_wrong_key_changes_nothing(Scratch { store, .. }: Scratch) {
    open(&store, &master(1)).await.expect("the first key");
    let before = settings(&store).await;
    for wrong in [master(2), format!("{}\n{}", master(2), master(3))] {
        assert!(matches!(open(&store, &wrong).await, Err(KeyError::Wrong)));
    }
    assert_eq!(settings(&store).await, before);
}

async fn of_two_first_keys_one_wins(Scratch { store, .. }: Scratch) {
    let tasks: Vec<_> = (1..=4)
        .map(|seed| {
            let store = store.clone();
            tokio::spawn(async move { open(&store, &master(seed)).await.is_ok() })
        })
        .collect();
    let mut opened = 0;
    for task in tasks {
        opened += usize::from(task.await.expect("a task"));
    }
    assert_eq!(opened, 1);
    // The losers left nothing.
    let canaries = settings(&store).await.into_iter().filter(|(name, _)| name.starts_with("master_key_canary:"));
    assert_eq!(canaries.count(), 1);
}

async fn a_second_key_may_stand_beside_the_first(Scratch { store, .. }: Scratch) {
    let keys = open(&store, &master(1)).await.expect("the first key");
    let both = format!("spring:{}\n{}", master(2), master(1));
    keys.take(MasterKeys::parse(&both).expect("two keys"), &store, &Clock::wound_to(NOON)).await.expect("taken in");
    assert_eq!(keys.master().primary(), "spring");
    // Something is still sealed under the first one, so the second alone will not do.
    assert!(matches!(
        open(&store, &format!("spring:{}", master(2))).await,
        Err(KeyError::Wrong | KeyError::Missing(_))
    ));
    assert_eq!(open(&store, &both).await.expect("both").token_hash("t"), keys.token_hash("t"));
}

async fn a_name_stays_with_its_key(Scratch { store, .. }: Scratch) {
    open(&store, &format!("a:{}\nb:{}", master(1), master(2))).await.expect("two keys");
    let swapped = format!("a:{}\nb:{}", master(1), master(3));
    assert!(matches!(open(&store, &swapped).await, Err(KeyError::Wrong)));
}

async fn tokens_from_before_there_was_a_vault_stay_good(Scratch { store, .. }: Scratch) {
    // What the version before this one wrote for the same master key, and what it hashed a token to.
    let canary = "972af4d3ccaf20734e0d101e62cafea8d54c8bf3dd5ac14ed90d5f8fa136584d";
    let hash = "9eebf30c69c03214023f28ec899114340894335bbd05aaa80f479f6c27e95332";
    let written =
        store.write(canary, |tx, canary| Box::pin(async move { tx.add_setting("master_key_canary", canary).await }));
    assert!(written.await.expect("written"));
    assert!(matches!(open(&store, &master(2)).await, Err(KeyError::Wrong)));
    // Even if a newer master key stands first already.
    let both = format!("{}\n{}", master(2), master(1));
    assert_eq!(open(&store, &both).await.expect("keys that fit").token_hash("t"), hash);
}

#[test]
fn a_key_that_somebody_thought_up_is_refused() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let read = |bytes: [u8; 32]| MasterKeys::parse(&URL_SAFE_NO_PAD.encode(bytes)).map(drop);
    let counted = std::array::from_fn(|at| at as u8);
    let in_sevens = std::array::from_fn(|at| (at * 7) as u8);
    let backwards = std::array::from_fn(|at| 200 - at as u8);
    let twice = std::array::from_fn(|at| [9, 200, 3, 77, 140, 5, 66, 31, 250, 18, 99, 171, 42, 222, 60, 115][at % 16]);
    let words = *b"this is my very secret password!";
    for weak in [[0; 32], counted, in_sevens, backwards, twice, words] {
        assert!(matches!(read(weak), Err(KeyError::Weak)), "{weak:?}");
    }
    for _ in 0..1000 {
        assert!(MasterKeys::parse(&MasterKeys::generate()).is_ok());
    }
}
