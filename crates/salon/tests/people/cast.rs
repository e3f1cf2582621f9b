//! The cast of the tests: the organisation birds, its members alice and bob, and a Salon of their own.

use std::net::IpAddr;
use std::sync::Arc;

use salon::access::issue::{Issued, Maker, NewKey, OwnLimit, make_key};
use salon::people::{self, NewUser};
use salon::{Actor, Caller, Clock, Credential, Denied, Engines, Keys, MasterKeys, Salon, Settings};
use salon_core::people::Role;
use salon_core::{Measure, OrgId, Period, Policy, Scopes, Time, User, UserId};
use salon_store::{Store, Terms, Worker};

/// 2026-02-01T12:00:00Z.
pub const NOON: Time = Time(1_769_947_200_000);
pub const ROUTE: &str = "/v1/chat/completions";

/// A key that is long and different from the others, and the same in each run.
pub fn master(seed: u8) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // The last letter of 43 has two bits that must be zero.
    (0..42).map(|at| char::from(LETTERS[(at * 11 + usize::from(seed) * 7 + 3) % 64])).chain(['A']).collect()
}

pub async fn salon(store: &Store) -> Arc<Salon> {
    salon_with(store, &master(1)).await
}

pub async fn salon_with(store: &Store, masters: &str) -> Arc<Salon> {
    let clock = Clock::wound_to(NOON);
    let masters = MasterKeys::parse(masters).expect("master keys");
    let keys = Keys::open(masters, store, &clock).await.expect("keys that fit");
    let worker = Worker { owner: "w".to_owned(), boot: "1".to_owned(), only: None };
    Salon::new(store.clone(), clock, Engines::new(Vec::new()), keys, Settings::default(), worker)
}

pub async fn person(salon: &Salon, name: &str, role: Role) -> User {
    let new = NewUser {
        org: OrgId::new(people::DEFAULT_ORG),
        name: name.to_owned(),
        email: Some(format!("{name}@birds.example")),
        role,
        telegram: None,
    };
    people::add_user(&salon.store, &salon.clock, &salon.pen(Actor::Operator), new).await.expect("a person")
}

pub async fn key(salon: &Salon, user: &User) -> Issued {
    key_with(salon, user, Scopes::default()).await
}

pub async fn key_with(salon: &Salon, user: &User, scopes: Scopes) -> Issued {
    let new = NewKey {
        user: user.id.clone(),
        name: "laptop".to_owned(),
        role: None,
        scopes,
        expires_at: None,
        limits: Vec::new(),
    };
    make_key(&salon.store, &salon.clock, &salon.keys, Maker::Operator, new).await.expect("a key")
}

/// A key with a limit of its own: three calls a day.
pub async fn metered_key(salon: &Salon, user: &UserId) -> Issued {
    let terms = Terms { amount: 3, policy: Policy::Block, thresholds: vec![80] };
    let new = NewKey {
        user: user.clone(),
        name: "metered".to_owned(),
        role: None,
        scopes: Scopes::default(),
        expires_at: None,
        limits: vec![OwnLimit { measure: Measure::Requests, period: Period::Day, terms }],
    };
    make_key(&salon.store, &salon.clock, &salon.keys, Maker::Operator, new).await.expect("a key")
}

pub fn peer() -> IpAddr {
    [192, 0, 2, 1].into()
}

pub async fn admit(salon: &Salon, issued: &Issued) -> Result<Arc<Caller>, Denied> {
    admit_at(salon, issued, peer(), ROUTE).await
}

pub async fn admit_at(salon: &Salon, issued: &Issued, peer: IpAddr, route: &str) -> Result<Arc<Caller>, Denied> {
    let credential = Credential::Key(issued.secret.clone());
    salon.access.admit(&credential, peer, route, salon.clock.now()).await
}

pub fn caller(user: &User) -> Caller {
    Caller {
        org: user.org.clone(),
        zone: salon_core::Zone::utc(),
        user: user.id.clone(),
        role: user.role,
        key: None,
        scopes: Scopes::default(),
    }
}
