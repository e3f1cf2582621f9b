//! Reading the ledger.

use salon::ledger::{Book, Payer, Spent};
use salon_core::{Limit, Measure, Micros, Org, Period, Policy, Scope, Time, Tokens, UserId, Zone};
use salon_store::ledger::{CallFilter, UsageFilter};
use salon_store::testing::Scratch;
use salon_store::{Store, on_both_databases};

use crate::cast::*;

on_both_databases! {
    use_is_added_up_by_person_model_and_day
    somebody_sees_his_own_use_alone
    entries_come_in_pages
    a_limit_is_listed_with_what_is_taken_of_it
    where_the_zone_was_changed_the_window_that_decides_is_listed
}

async fn use_up(book: &Book, call: &str, payer: Payer, model: &str, micros: i64) {
    let mut quote = quote(call, payer, micros);
    quote.model = model.to_owned();
    let tokens = Tokens { cache_read: 7, reasoning: 1, ..Tokens::new(micros, 2) };
    let spent = Spent { tokens, micros: Micros(micros), estimated: micros % 2 == 1, ..spent(0) };
    book.reserve(quote).await.expect("reserved").settle(spent).await;
}

/// Alice on two days, bob on one, and somebody of another organisation.
async fn some_days(store: &Store) -> (Book, Time) {
    let (book, clock) = open(store).await;
    use_up(&book, "1", alice(), "parrot-1", 10).await;
    use_up(&book, "2", payer("bob"), "heron-2", 25).await;
    let mut fish = payer("fish");
    fish.org = salon_core::OrgId::new("fish");
    use_up(&book, "3", fish, "parrot-1", 1_000).await;
    // 15:00 in Greenwich: the next day in Seoul.
    clock.wind(HOUR * 3);
    use_up(&book, "4", alice(), "heron-2", 11).await;
    let mut chatting = alice();
    chatting.chat = Some("aviary".to_owned());
    use_up(&book, "5", chatting, "parrot-1", 4).await;
    book.flush().await.expect("flush");
    (book, clock.now() + HOUR)
}

fn everything(to: Time) -> UsageFilter {
    UsageFilter::of(birds(), Time(0), to)
}

async fn use_is_added_up_by_person_model_and_day(Scratch { store, .. }: Scratch) {
    let (_, now) = some_days(&store).await;
    let mut tx = read(&store).await;
    let sum = tx.usage(&everything(now)).await.expect("usage");
    assert_eq!((sum.calls, sum.micros, sum.estimated), (4, 50, 2));
    assert_eq!(sum.tokens, Tokens { cache_read: 28, reasoning: 4, ..Tokens::new(50, 8) });
    let people = tx.usage_by_user(&everything(now), 10).await.expect("people");
    let people: Vec<_> = people.iter().map(|row| (row.user.as_str(), row.usage.micros, row.usage.calls)).collect();
    assert_eq!(people, [("alice", 25, 3), ("bob", 25, 1)]);
    assert_eq!(tx.usage_by_user(&everything(now), 1).await.expect("people").len(), 1);
    let models = tx.usage_by_model(&everything(now), 10).await.expect("models");
    let models: Vec<_> = models.iter().map(|row| (row.model.as_str(), row.usage.micros)).collect();
    assert_eq!(models, [("heron-2", 36), ("parrot-1", 14)]);
    for (zone, expected) in
        [("UTC", vec![("2026-02-01", 50)]), ("Asia/Seoul", vec![("2026-02-01", 35), ("2026-02-02", 15)])]
    {
        let days = tx.usage_by_day(&everything(now), &Zone::find(zone).expect("a zone")).await.expect("days");
        let days: Vec<_> = days.iter().map(|row| (row.day.as_str(), row.usage.micros)).collect();
        assert_eq!(days, expected, "{zone}");
    }
    let nothing = tx.usage(&UsageFilter::of(birds(), now, now)).await.expect("usage");
    assert_eq!((nothing.calls, nothing.micros), (0, 0));
    let early = tx.usage(&UsageFilter::of(birds(), NOON, NOON + HOUR)).await.expect("usage");
    assert_eq!(early.micros, 35);
}

async fn somebody_sees_his_own_use_alone(Scratch { store, .. }: Scratch) {
    let (_, now) = some_days(&store).await;
    let mut tx = read(&store).await;
    let mine = UsageFilter { user: Some(UserId::new("alice")), ..everything(now) };
    assert_eq!(tx.usage(&mine).await.expect("usage").micros, 25);
    assert_eq!(tx.usage_by_model(&mine, 10).await.expect("models").len(), 2);
    assert_eq!(tx.usage_by_user(&mine, 10).await.expect("people").len(), 1);
    assert_eq!(tx.usage_by_day(&mine, &Zone::utc()).await.expect("days")[0].usage.micros, 25);
    for (narrow, micros) in [
        (UsageFilter { model: Some("parrot-1".to_owned()), ..mine.clone() }, 14),
        (UsageFilter { chat: Some("aviary".to_owned()), ..mine.clone() }, 4),
        (UsageFilter { key: Some(salon_core::KeyId::new("key of alice")), ..mine.clone() }, 25),
        (UsageFilter { key: Some(salon_core::KeyId::new("key of bob")), ..mine.clone() }, 0),
        (UsageFilter { org: salon_core::OrgId::new("fish"), ..mine.clone() }, 0),
    ] {
        assert_eq!(tx.usage(&narrow).await.expect("usage").micros, micros, "{narrow:?}");
    }
}

async fn entries_come_in_pages(Scratch { store, .. }: Scratch) {
    let (_, now) = some_days(&store).await;
    let mut tx = read(&store).await;
    let mut filter = CallFilter { usage: everything(now), before: None, limit: 3 };
    let first = tx.list_entries(&filter).await.expect("entries");
    let ids = |page: &[salon_store::ledger::Entry]| page.iter().map(|e| e.call.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&first), ["5", "4", "2"]);
    let last = first.last().expect("three");
    filter.before = Some((last.at, last.key.clone()));
    assert_eq!(ids(&tx.list_entries(&filter).await.expect("entries")), ["1"]);
}

async fn a_limit_is_listed_with_what_is_taken_of_it(Scratch { store, .. }: Scratch) {
    let (book, now) = some_days(&store).await;
    add(&book, limit("each", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    add(&book, limit("pool", Scope::Org, Measure::Micros, 100, Policy::Block)).await;
    let own = limit("own", Scope::User, Measure::Micros, 30, Policy::Block);
    add(&book, Limit { subject: Some("bob".to_owned()), ..own }).await;
    for (call, who) in [("6", "alice"), ("7", "bob"), ("8", "carol")] {
        book.reserve(quote(call, payer(who), 5)).await.expect("reserved").keep();
    }
    let uses = read(&store).await.list_limit_uses(&birds(), now - HOUR, 10).await.expect("limits");
    let found: Vec<_> = uses
        .iter()
        .map(|use_| {
            let accounts = use_.accounts.iter().map(|a| (a.key.holder.subject.as_str(), a.reserved, a.spent));
            (use_.limit.id.as_str(), accounts.collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(
        found,
        [
            ("each", vec![("alice", 5, 25), ("carol", 5, 0)]),
            ("own", vec![("bob", 5, 25)]),
            ("pool", vec![("birds", 15, 50)]),
        ]
    );
}

async fn where_the_zone_was_changed_the_window_that_decides_is_listed(Scratch { store, .. }: Scratch) {
    let (book, clock) = open(&store).await;
    let each = Limit { period: Period::Day, ..limit("each", Scope::User, Measure::Requests, 2, Policy::Block) };
    add(&book, each).await;
    let asked = async |call: &str, zone: &str| {
        let payer = Payer { zone: zone.to_owned(), ..payer("alice") };
        book.reserve(quote(call, payer, 1)).await.expect("reserved").settle(spent(1)).await;
        book.flush().await.expect("flush");
    };
    asked("1", "UTC").await;
    // Four in the afternoon in Greenwich is tomorrow in Seoul.
    clock.wind(4 * HOUR);
    asked("2", "UTC").await;
    let (id, name, zone) = (birds(), "birds".to_owned(), "Asia/Seoul".to_owned());
    let org = Org { id, name, zone, subject: None, created_at: NOON };
    store.write(org, |tx, org| Box::pin(async move { tx.add_org(org).await })).await.expect("an organisation");
    asked("3", "Asia/Seoul").await;

    let mut tx = read(&store).await;
    let now = clock.now();
    let uses = tx.list_limit_uses(&birds(), now, 10).await.expect("limits");
    let of_limit: Vec<i64> = uses[0].accounts.iter().map(|account| account.spent).collect();
    let accounts = tx.list_accounts_of(&birds(), (Scope::User, "alice"), now).await.expect("accounts");
    let of_alice: Vec<i64> = accounts.iter().map(|account| account.spent).collect();
    assert_eq!((of_limit, of_alice), (vec![2], vec![2]), "what was used since midnight in Seoul, and nothing beside");
}
