//! The cast of the tests: the organisation birds, its members alice and bob, and the limits they live under.

use std::time::Duration;

use salon::ledger::{Attempt, Book, BookSettings, NotReserved, Payer, Quote, Reserved, Spent};
use salon::{Actor, Clock, Keys, MasterKeys, Pen};
use salon_core::{
    Amounts, CallId, KeyId, Limit, LimitId, Measure, Micros, OrgId, Period, Policy, Scope, Time, Tokens, UserId,
};
use salon_store::ledger::{Account, Call, Entry, Holder, Reach, UsageFilter};
use salon_store::testing::Scratch;
use salon_store::{Store, Tx};
use tokio::sync::OnceCell;

/// 2026-02-01T12:00:00Z, a Sunday.
pub const NOON: Time = Time(1_769_947_200_000);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// Nothing happens by itself: a test that wants the reaper calls it.
pub fn calm() -> BookSettings {
    BookSettings { reap_every: DAY, look_every: DAY, ..BookSettings::default() }
}

pub async fn open(store: &Store) -> (Book, Clock) {
    let clock = Clock::wound_to(NOON);
    let book = Book::open(store.clone(), clock.clone(), calm()).await.expect("a book");
    (book, clock)
}

/// Whose hand writes the audit; the key is nobody's.
pub async fn pen(who: &str) -> Pen {
    static PEN: OnceCell<Pen> = OnceCell::const_new();
    let made = PEN.get_or_init(|| async {
        let scratch = Scratch::sqlite().await;
        let clock = Clock::wound_to(NOON);
        let masters = MasterKeys::parse(&MasterKeys::generate()).expect("a master key");
        let keys = Keys::open(masters, &scratch.store, &clock).await.expect("keys");
        Pen::new(&keys, &clock, Actor::Operator)
    });
    made.await.held_by(&UserId::new(who))
}

pub fn birds() -> OrgId {
    OrgId::new("birds")
}

pub fn alice() -> Payer {
    payer("alice")
}

pub fn payer(user: &str) -> Payer {
    Payer {
        org: birds(),
        zone: "UTC".to_owned(),
        user: UserId::new(user),
        key: Some(KeyId::new(format!("key of {user}"))),
        chat: None,
        turn: None,
        run: None,
    }
}

pub fn limit(id: &str, scope: Scope, measure: Measure, amount: i64, policy: Policy) -> Limit {
    Limit {
        id: LimitId::new(id),
        org: birds(),
        scope,
        subject: None,
        measure,
        period: Period::Month,
        amount,
        policy,
        thresholds: vec![80, 100],
    }
}

pub async fn add(book: &Book, limit: Limit) {
    assert!(book.add_limit(limit, &pen("boss").await).await.expect("a limit"));
}

/// A call that may take so many millionths of a dollar, and ten tokens.
pub fn quote(call: &str, payer: Payer, micros: i64) -> Quote {
    Quote {
        call: CallId::new(call),
        fresh: true,
        payer,
        door: "chat".to_owned(),
        model: "parrot-1".to_owned(),
        most: Amounts { micros, tokens: 10, requests: 1 },
        deadline: Time(i64::MAX),
        first: Some(attempt(1)),
        share: None,
    }
}

pub fn attempt(n: i64) -> Attempt {
    Attempt {
        n,
        upstream: "aviary".to_owned(),
        model: "parrot-1-0201".to_owned(),
        whose: "org".to_owned(),
        secret: None,
    }
}

pub fn spent(micros: i64) -> Spent {
    Spent {
        attempt: Some(1),
        upstream: "aviary".to_owned(),
        upstream_model: "parrot-1-0201".to_owned(),
        whose: "org".to_owned(),
        tokens: Tokens::new(3, 2),
        micros: Micros(micros),
        ..Spent::default()
    }
}

pub async fn reserve(book: &Book, call: &str, micros: i64) -> Result<Reserved, NotReserved> {
    let mut reserved = book.reserve(quote(call, alice(), micros)).await?;
    reserved.durable().await?;
    Ok(reserved)
}

/// The limit by which a call was refused.
pub fn refused_by(outcome: Result<Reserved, NotReserved>) -> String {
    match outcome {
        Err(NotReserved::Over(standing)) => standing.limit.as_str().to_owned(),
        other => panic!("{other:?}"),
    }
}

pub async fn read(store: &Store) -> Tx {
    store.read().await.expect("a reading connection")
}

pub async fn call(store: &Store, id: &str) -> Call {
    find_call(store, id).await.expect("a call")
}

pub async fn find_call(store: &Store, id: &str) -> Option<Call> {
    read(store).await.find_call(&birds(), &CallId::new(id)).await.expect("find")
}

/// The accounts of alice, of her key and of the pool, open at `at`.
pub async fn accounts(store: &Store, at: Time) -> Vec<Account> {
    let holders = [
        Holder::new(Scope::User, &birds(), "alice"),
        Holder::new(Scope::Key, &birds(), "key of alice"),
        Holder::new(Scope::Org, &birds(), "birds"),
    ];
    let reaches: Vec<Reach> = holders.into_iter().map(|holder| Reach { holder, from: at, to: at }).collect();
    read(store).await.list_accounts(&reaches).await.expect("accounts")
}

/// Reserved and spent of the only account.
pub async fn balance(store: &Store, at: Time) -> (i64, i64) {
    let accounts = accounts(store, at).await;
    assert_eq!(accounts.len(), 1, "{accounts:?}");
    (accounts[0].reserved, accounts[0].spent)
}

pub async fn entries(store: &Store) -> Vec<Entry> {
    let usage = UsageFilter::of(birds(), Time(0), Time(i64::MAX));
    let filter = salon_store::ledger::CallFilter { usage, before: None, limit: 100_000 };
    read(store).await.list_entries(&filter).await.expect("entries")
}
