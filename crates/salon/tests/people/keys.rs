use std::time::Duration;

use salon::Actor;
use salon::access::issue::{IssueError, Maker, NewKey, OwnLimit, make_key, revoke_key};
use salon::people::{UserChange, add_org, remove_user, set_reach, set_user};
use salon::{Credential, Denied};
use salon_core::limit::{Measure, Period, Policy, Scope};
use salon_core::people::Role;
use salon_core::scopes::Allowed;
use salon_core::{Limit, LimitId, OrgId, Scopes};
use salon_store::testing::Scratch;
use salon_store::{Terms, on_both_databases};
use tokio_util::sync::CancellationToken;

use crate::cast::*;

on_both_databases! {
    a_key_lets_its_user_in
    a_key_is_stored_as_its_hash_alone
    scopes_say_where_and_from_where_a_key_works
    a_revoked_key_is_turned_away_from_the_next_call_on
    a_key_that_another_process_revoked_is_turned_away_soon
    whoever_is_switched_off_has_no_keys
    a_key_never_exceeds_its_user_nor_its_maker
    what_its_maker_may_no_longer_ask_a_key_may_not_either
    keys_of_keys_go_with_them
    a_key_is_made_with_its_limits_or_not_at_all
    a_key_keeps_its_limits_in_another_organisation
    an_expired_key_is_turned_away
    the_last_use_is_written_down_later_and_once_a_minute
    wrong_keys_are_not_looked_up_for_ever
}

async fn a_key_lets_its_user_in(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = person(&salon, "alice", Role::Manager).await;
    let issued = key(&salon, &alice).await;
    for _ in 0..2 {
        let caller = admit(&salon, &issued).await.expect("let in");
        assert_eq!((&caller.user, &caller.org, caller.role), (&alice.id, &alice.org, Role::Manager));
        assert_eq!(caller.key.as_ref(), Some(&issued.key.id));
        assert_eq!(caller.may_use("gpt-4o"), Ok(()));
        assert_eq!(caller.may_act_as(Role::Admin), Err(Denied::Role));
    }
    let other = Credential::Foreign;
    assert_eq!(salon.access.admit(&other, peer(), ROUTE, NOON).await, Err(Denied::Unknown));
}

async fn a_key_is_stored_as_its_hash_alone(Scratch { store, folder, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = person(&salon, "alice", Role::User).await;
    let issued = key(&salon, &alice).await;
    let shown = issued.secret.expose().to_owned();
    assert!(shown.starts_with("salon_") && shown.ends_with(&issued.key.hint) && issued.key.hint.len() == 4);
    assert!(!format!("{issued:?}").contains(&shown[6..40]));
    store.checkpoint().await.expect("a checkpoint");
    // The middle of the key, because its end is kept on purpose.
    for file in std::fs::read_dir(folder.path().join("data")).into_iter().flatten() {
        let bytes = std::fs::read(file.expect("a file").path()).expect("bytes");
        assert!(memchr_in(&bytes, &shown.as_bytes()[6..40]).is_none());
    }
}

fn memchr_in(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

async fn scopes_say_where_and_from_where_a_key_works(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = person(&salon, "alice", Role::User).await;
    let scopes = Scopes {
        routes: Allowed::parse("/v1/chat/*").expect("routes"),
        models: Allowed::parse("gpt-4o*").expect("models"),
        networks: Allowed::parse("192.0.2.0/24, 2001:db8::/32").expect("networks"),
    };
    let issued = key_with(&salon, &alice, scopes).await;
    let caller = admit(&salon, &issued).await.expect("let in");
    assert_eq!(caller.may_use("gpt-4o-mini"), Ok(()));
    assert_eq!(caller.may_use("claude-opus"), Err(Denied::Model));
    assert_eq!(admit_at(&salon, &issued, peer(), "/v1/embeddings").await, Err(Denied::Route));
    let far = "198.51.100.7".parse().expect("an address");
    assert_eq!(admit_at(&salon, &issued, far, ROUTE).await, Err(Denied::Peer));
    assert!(admit_at(&salon, &issued, "2001:db8::9".parse().expect("an address"), ROUTE).await.is_ok());
    assert_eq!(Denied::Peer.status(), 403);
}

async fn a_revoked_key_is_turned_away_from_the_next_call_on(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = person(&salon, "alice", Role::User).await;
    let (one, other) = (key(&salon, &alice).await, key(&salon, &alice).await);
    assert!(admit(&salon, &one).await.is_ok() && admit(&salon, &other).await.is_ok());
    revoke_key(&store, &salon.clock, &salon.keys, Maker::Operator, &one.key.id).await.expect("revoked");
    assert_eq!(admit(&salon, &one).await, Err(Denied::Revoked));
    assert!(admit(&salon, &other).await.is_ok());
    let again = revoke_key(&store, &salon.clock, &salon.keys, Maker::Operator, &one.key.id).await;
    assert!(matches!(again, Err(IssueError::NoKey(_))));
}

async fn a_key_that_another_process_revoked_is_turned_away_soon(scratch: Scratch) {
    let store = scratch.store.clone();
    let here = salon(&store).await;
    let alice = person(&here, "alice", Role::User).await;
    let issued = key(&here, &alice).await;
    assert!(admit(&here, &issued).await.is_ok());
    let salon_store::Place::Postgres(_) = &scratch.place else {
        // A SQLite file has one process.
        return;
    };
    let closing = CancellationToken::new();
    let (access, stop) = (here.access.clone(), closing.clone());
    let watching = tokio::spawn(async move { access.keep(stop).await });
    let elsewhere = salon_store::Store::open(&scratch.place, "elsewhere").await.expect("another process");
    revoke_key(&elsewhere, &here.clock, &here.keys, Maker::Operator, &issued.key.id).await.expect("revoked");
    let turned_away = async {
        while admit(&here, &issued).await != Err(Denied::Revoked) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), turned_away).await.expect("it is noticed");
    closing.cancel();
    watching.await.expect("it ends");
    elsewhere.close().await;
}

async fn whoever_is_switched_off_has_no_keys(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    person(&salon, "carol", Role::Admin).await;
    let alice = person(&salon, "alice", Role::User).await;
    let issued = key(&salon, &alice).await;
    assert!(admit(&salon, &issued).await.is_ok());
    let off = UserChange { active: Some(false), ..UserChange::default() };
    set_user(&store, &salon.pen(Actor::Operator), &alice.id, off).await.expect("off");
    assert_eq!(admit(&salon, &issued).await, Err(Denied::Inactive));
    let on = UserChange { active: Some(true), ..UserChange::default() };
    set_user(&store, &salon.pen(Actor::Operator), &alice.id, on).await.expect("on");
    assert!(admit(&salon, &issued).await.is_ok());
    remove_user(&store, &salon.pen(Actor::Operator), &alice.id).await.expect("removed");
    assert_eq!(admit(&salon, &issued).await, Err(Denied::Revoked));
}

async fn a_key_never_exceeds_its_user_nor_its_maker(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let (carol, alice) = (person(&salon, "carol", Role::Admin).await, person(&salon, "alice", Role::User).await);
    person(&salon, "dave", Role::Admin).await;
    let scopes = |models: &str| Scopes { models: Allowed::parse(models).expect("models"), ..Scopes::default() };
    let new = |user: &salon_core::User, models: &str| NewKey {
        user: user.id.clone(),
        name: "made".to_owned(),
        role: Some(Role::Admin),
        scopes: scopes(models),
        expires_at: None,
        limits: Vec::new(),
    };
    let make = |caller: salon::Caller, new: NewKey| {
        let salon = salon.clone();
        async move { make_key(&salon.store, &salon.clock, &salon.keys, Maker::Caller(&caller), new).await }
    };
    // A key of alice is never an admin's, whoever makes it.
    let issued = make(caller(&carol), new(&alice, "*")).await.expect("made");
    assert_eq!(admit(&salon, &issued).await.expect("let in").role, Role::User);
    // Somebody who came by a narrow key makes keys that are narrower still.
    let narrow = salon::Caller { scopes: scopes("gpt-4o*"), ..caller(&carol) };
    let issued = make(narrow.clone(), new(&carol, "gpt-4o-mini, claude-*")).await.expect("made");
    let admitted = admit(&salon, &issued).await.expect("let in");
    assert_eq!((admitted.role, admitted.may_use("gpt-4o-mini")), (Role::Admin, Ok(())));
    assert_eq!(admitted.may_use("claude-opus"), Err(Denied::Model));
    assert!(matches!(make(narrow, new(&carol, "claude-*")).await, Err(IssueError::Nothing)));
    // Alice makes keys for nobody else.
    assert!(matches!(make(caller(&alice), new(&carol, "*")).await, Err(IssueError::NotYours)));
    // What its maker loses, the key loses.
    let demoted = UserChange { role: Some(Role::Manager), ..UserChange::default() };
    set_user(&store, &salon.pen(Actor::Operator), &carol.id, demoted).await.expect("demoted");
    assert_eq!(admit(&salon, &issued).await.expect("let in").role, Role::Manager);
    let off = UserChange { active: Some(false), ..UserChange::default() };
    set_user(&store, &salon.pen(Actor::Operator), &carol.id, off).await.expect("off");
    assert_eq!(admit(&salon, &issued).await, Err(Denied::Inactive));
}

async fn what_its_maker_may_no_longer_ask_a_key_may_not_either(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let (carol, alice) = (person(&salon, "carol", Role::Admin).await, person(&salon, "alice", Role::User).await);
    let new = NewKey {
        user: alice.id.clone(),
        name: "made".to_owned(),
        role: None,
        scopes: Scopes { models: Allowed::parse("gpt-4o, claude-*").expect("models"), ..Scopes::default() },
        expires_at: None,
        limits: Vec::new(),
    };
    let issued = make_key(&store, &salon.clock, &salon.keys, Maker::Caller(&caller(&carol)), new).await.expect("made");
    assert_eq!(admit(&salon, &issued).await.expect("let in").may_use("claude-opus"), Ok(()));
    let soon = salon.clock.now() + Duration::from_secs(60);
    let pen = salon.pen(Actor::Operator);
    set_reach(&store, &pen, &carol.id, Some(soon), Some("gpt-*")).await.expect("held to less");
    let admitted = admit(&salon, &issued).await.expect("let in");
    assert_eq!((admitted.may_use("gpt-4o"), admitted.may_use("claude-opus")), (Ok(()), Err(Denied::Model)));
    // Alice has more time of her own; it is the lesser that counts.
    let later = soon + Duration::from_secs(60);
    set_reach(&store, &pen, &alice.id, Some(later), None).await.expect("held to less");
    salon.clock.wind(Duration::from_secs(60));
    assert_eq!(admit(&salon, &issued).await, Err(Denied::Expired));
}

async fn keys_of_keys_go_with_them(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = person(&salon, "alice", Role::User).await;
    let first = key(&salon, &alice).await;
    let mut issued = vec![first];
    for _ in 0..2 {
        let maker = admit(&salon, issued.last().expect("a key")).await.expect("let in");
        let new = NewKey {
            user: alice.id.clone(),
            name: "child".to_owned(),
            role: None,
            scopes: Scopes::default(),
            expires_at: None,
            limits: Vec::new(),
        };
        let child = make_key(&store, &salon.clock, &salon.keys, Maker::Caller(&maker), new).await;
        issued.push(child.expect("a key of a key"));
    }
    let bystander = key(&salon, &alice).await;
    revoke_key(&store, &salon.clock, &salon.keys, Maker::Operator, &issued[0].key.id).await.expect("revoked");
    for issued in &issued {
        assert_eq!(admit(&salon, issued).await, Err(Denied::Revoked));
    }
    assert!(admit(&salon, &bystander).await.is_ok());
}

async fn a_key_is_made_with_its_limits_or_not_at_all(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = person(&salon, "alice", Role::User).await;
    let own = |amount| OwnLimit {
        measure: Measure::Micros,
        period: Period::Month,
        terms: Terms { amount, policy: Policy::Block, thresholds: vec![80] },
    };
    let new = |limits| NewKey {
        user: alice.id.clone(),
        name: "metered".to_owned(),
        role: None,
        scopes: Scopes::default(),
        expires_at: None,
        limits,
    };
    let make = |maker, new| make_key(&store, &salon.clock, &salon.keys, maker, new);
    let issued = make(Maker::Operator, new(vec![own(5_000_000)])).await.expect("a key");
    let kept = store.read().await.expect("a connection").list_limits(&alice.org).await.expect("limits");
    assert_eq!(kept, issued.limits);
    assert_eq!((kept[0].scope, kept[0].subject.as_deref()), (Scope::Key, Some(issued.key.id.as_str())));
    // What its keys would take would not count against it.
    let caller = admit(&salon, &issued).await.expect("let in");
    assert!(matches!(make(Maker::Caller(&caller), new(Vec::new())).await, Err(IssueError::Limited)));
    // Half of it is none of it.
    assert!(matches!(make(Maker::Operator, new(vec![own(1), own(-1)])).await, Err(IssueError::BadLimit(_))));
    let mut tx = store.read().await.expect("a connection");
    assert_eq!(tx.list_api_keys(Some(&alice.id)).await.expect("keys").len(), 1);
    assert_eq!(tx.list_limits(&alice.org).await.expect("limits").len(), 1);
    drop(tx);
    // What is said of every key holds for it, too.
    let each = Limit {
        id: LimitId::new(salon.clock.id()),
        subject: None,
        amount: 2_000_000,
        policy: Policy::Hard,
        ..kept[0].clone()
    };
    store.write((each, NOON), |tx, (each, now)| Box::pin(tx.add_limit(each, *now))).await.expect("a limit");
    let by_token = salon::Caller { key: None, ..caller.as_ref().clone() };
    let wide = make(Maker::Caller(&by_token), new(vec![own(5_000_000)])).await.expect("a key");
    let narrowed = &wide.limits[0];
    assert_eq!((narrowed.amount, narrowed.policy), (2_000_000, Policy::Hard));
}

async fn a_key_keeps_its_limits_in_another_organisation(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = person(&salon, "alice", Role::User).await;
    let issued = metered_key(&salon, &alice.id).await;
    let pen = salon.pen(Actor::Operator);
    let fish = add_org(&store, &salon.clock, &pen, "fish", "UTC").await.expect("an organisation");
    let limits = async |org: &OrgId| {
        let limits = store.read().await.expect("a connection").list_limits(org).await.expect("limits");
        let shown = |limit: &Limit| (limit.scope, limit.subject.clone(), limit.measure, limit.period, limit.amount);
        limits.iter().map(shown).collect::<Vec<_>>()
    };
    let own = [(Scope::Key, Some(issued.key.id.to_string()), Measure::Requests, Period::Day, 3)];
    // There and back, and there again.
    for (there, left) in [(&fish.id, &alice.org), (&alice.org, &fish.id), (&fish.id, &alice.org)] {
        let change = UserChange { org: Some(there.clone()), ..UserChange::default() };
        set_user(&store, &pen, &alice.id, change).await.expect("moved");
        assert_eq!((limits(there).await, limits(left).await), (own.to_vec(), Vec::new()));
    }
}

async fn an_expired_key_is_turned_away(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = person(&salon, "alice", Role::User).await;
    let new = |expires_at| NewKey {
        user: alice.id.clone(),
        name: "short".to_owned(),
        role: None,
        scopes: Scopes::default(),
        expires_at: Some(expires_at),
        limits: Vec::new(),
    };
    let make = |new| make_key(&store, &salon.clock, &salon.keys, Maker::Operator, new);
    let issued = make(new(NOON + Duration::from_secs(60))).await.expect("a key");
    assert!(admit(&salon, &issued).await.is_ok());
    salon.clock.wind(Duration::from_secs(59));
    assert!(admit(&salon, &issued).await.is_ok());
    salon.clock.wind(Duration::from_secs(1));
    assert_eq!(admit(&salon, &issued).await, Err(Denied::Expired));
    assert!(matches!(make(new(NOON)).await, Err(IssueError::Past)));
}

async fn the_last_use_is_written_down_later_and_once_a_minute(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = person(&salon, "alice", Role::User).await;
    let issued = key(&salon, &alice).await;
    let last_use = || async {
        let mut tx = store.read().await.expect("a connection");
        tx.find_api_key(&issued.key.id).await.expect("find").expect("a key").last_used_at
    };
    let write = || async {
        let closing = CancellationToken::new();
        closing.cancel();
        salon.access.keep(closing).await;
    };
    admit(&salon, &issued).await.expect("let in");
    assert_eq!(last_use().await, None);
    write().await;
    assert_eq!(last_use().await, Some(NOON));
    salon.clock.wind(Duration::from_secs(59));
    admit(&salon, &issued).await.expect("let in");
    write().await;
    assert_eq!(last_use().await, Some(NOON));
    salon.clock.wind(Duration::from_secs(1));
    admit(&salon, &issued).await.expect("let in");
    write().await;
    assert_eq!(last_use().await, Some(NOON + Duration::from_secs(60)));
}

async fn wrong_keys_are_not_looked_up_for_ever(Scratch { store, .. }: Scratch) {
    let salon = salon(&store).await;
    let alice = person(&salon, "alice", Role::User).await;
    let right = key(&salon, &alice).await;
    admit(&salon, &right).await.expect("let in");
    // Keys that were made for other data: their form is right.
    let elsewhere = Scratch::sqlite().await;
    let others = crate::cast::salon(&elsewhere.store).await;
    let mallory = person(&others, "mallory", Role::User).await;
    let mut denied = Vec::new();
    for _ in 0..25 {
        denied.push(admit(&salon, &key(&others, &mallory).await).await.expect_err("denied"));
    }
    assert!(denied[..20].iter().all(|denied| *denied == Denied::Unknown), "{denied:?}");
    assert!(matches!(denied[24], Denied::TooMany { retry_after } if retry_after > Duration::ZERO));
    assert_eq!(denied[24].status(), 429);
    // Whoever came before is not held up, not even when everything has to be looked up anew.
    let bob = person(&salon, "bob", Role::User).await;
    let fresh = key(&salon, &bob).await;
    assert!(admit(&salon, &right).await.is_ok());
    assert!(matches!(admit(&salon, &fresh).await, Err(Denied::TooMany { .. })));
    assert!(admit_at(&salon, &fresh, [192, 0, 2, 9].into(), ROUTE).await.is_ok());
    salon.clock.wind(Duration::from_secs(60));
    assert!(admit(&salon, &fresh).await.is_ok());
    let counted = salon.metrics.all();
    assert_eq!(counted.get(&(String::new(), "access_denied.unknown_key".to_owned())), Some(&20));
}
