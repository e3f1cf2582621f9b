//! Somebody who used things before they were known here, and turns out to be somebody who is.

use salon::ledger::{Book, NotReserved, Payer};
use salon_core::{CallId, LimitId, Measure, OrgId, Policy, Scope, UserId};
use salon_store::ledger::UsageFilter;
use salon_store::testing::Scratch;
use salon_store::{Store, on_both_databases};

use crate::cast::*;

on_both_databases! {
    what_was_used_counts_where_it_is_taken_over
    what_is_under_way_is_settled_where_it_is_taken_over
    a_limit_of_ones_own_comes_along
    another_organisation_keeps_what_it_paid
    what_was_used_is_carried_to_whoever_parts
}

async fn take_over(store: &Store, org: &OrgId, plan: bool) {
    let args = (org.clone(), UserId::new("bob"), UserId::new("alice"), plan);
    let taken = store.write(args, |tx, (org, from, to, plan)| Box::pin(tx.take_over(org, from, to, *plan, NOON)));
    taken.await.expect("taken over");
}

async fn used_by(store: &Store, user: &str) -> i64 {
    let filter = UsageFilter { user: Some(UserId::new(user)), ..UsageFilter::of(birds(), NOON - HOUR, NOON + HOUR) };
    read(store).await.usage(&filter).await.expect("usage").micros
}

async fn use_up(book: &Book, call: &str, who: &str, micros: i64) {
    let mut reserved = book.reserve(quote(call, payer(who), micros)).await.expect("reserved");
    reserved.durable().await.expect("durable");
    reserved.settle(spent(micros)).await;
    book.flush().await.expect("flush");
}

/// What is reserved and spent of somebody's own account.
async fn balance_of(store: &Store, who: &str) -> Vec<(i64, i64)> {
    let accounts = read(store).await.list_accounts_of(&birds(), (Scope::User, who), NOON).await.expect("accounts");
    accounts.iter().map(|account| (account.reserved, account.spent)).collect()
}

/// The accounts say what their entries and calls say.
async fn adds_up(store: &Store) {
    let mut tx = read(store).await;
    let mut accounts = tx.list_accounts_of(&birds(), (Scope::User, "alice"), NOON).await.expect("accounts");
    accounts.extend(tx.list_accounts_of(&birds(), (Scope::User, "bob"), NOON).await.expect("accounts"));
    drop(tx);
    for account in accounts {
        let checked = store.write(account.id, |tx, id| Box::pin(tx.check_account(id, NOON))).await;
        assert_eq!(checked.expect("checked"), None);
    }
}

async fn what_was_used_counts_where_it_is_taken_over(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, limit("each", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    use_up(&book, "1", "bob", 60).await;
    use_up(&book, "2", "alice", 30).await;
    for _ in 0..2 {
        // Once more changes nothing.
        take_over(&store, &birds(), false).await;
        assert_eq!((used_by(&store, "bob").await, used_by(&store, "alice").await), (0, 90));
        assert_eq!((balance_of(&store, "bob").await, balance_of(&store, "alice").await), (vec![(0, 0)], vec![(0, 90)]));
    }
    adds_up(&store).await;
    assert_eq!(refused_by(book.reserve(quote("3", alice(), 11)).await), "each");
    use_up(&book, "4", "alice", 10).await;
    // Who had more than is allowed together is refused, and nothing breaks.
    use_up(&book, "5", "bob", 100).await;
    take_over(&store, &birds(), false).await;
    assert_eq!(balance_of(&store, "alice").await, [(0, 200)]);
    assert_eq!(refused_by(book.reserve(quote("6", alice(), 1)).await), "each");
    adds_up(&store).await;
}

async fn what_is_under_way_is_settled_where_it_is_taken_over(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, limit("each", Scope::User, Measure::Micros, 100, Policy::Ask)).await;
    let mut reserved = book.reserve(quote("1", payer("bob"), 70)).await.expect("reserved");
    reserved.durable().await.expect("durable");
    let held = book.reserve(quote("2", payer("bob"), 90)).await.expect_err("held");
    assert_eq!(held, NotReserved::Held { call: CallId::new("2"), limit: Some(LimitId::new("each")) });
    take_over(&store, &birds(), false).await;
    assert_eq!(balance_of(&store, "bob").await, [(0, 0)]);
    reserved.settle(spent(50)).await;
    book.flush().await.expect("flush");
    assert_eq!((used_by(&store, "bob").await, used_by(&store, "alice").await), (0, 50));
    let waiting = read(&store).await.list_held(&birds(), Some(&UserId::new("alice")), 10).await.expect("held");
    assert_eq!(waiting.iter().map(|call| call.id.as_str()).collect::<Vec<_>>(), ["2"]);
    book.reserve(quote("3", alice(), 51)).await.expect_err("50 of 100 are used");
    assert_eq!(balance_of(&store, "alice").await, [(0, 50)]);
    adds_up(&store).await;
}

async fn a_limit_of_ones_own_comes_along(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    let own = |id: &str, who: &str, measure: Measure, amount: i64| salon_core::Limit {
        subject: Some(who.to_owned()),
        ..limit(id, Scope::User, measure, amount, Policy::Block)
    };
    add(&book, own("hers", "alice", Measure::Micros, 50)).await;
    add(&book, own("his", "bob", Measure::Micros, 10)).await;
    add(&book, own("calls", "bob", Measure::Requests, 1)).await;
    use_up(&book, "1", "bob", 9).await;
    take_over(&store, &birds(), false).await;
    let limits = read(&store).await.list_limits(&birds()).await.expect("limits");
    let mut of: Vec<_> = limits.iter().map(|limit| (limit.id.as_str(), limit.subject.as_deref())).collect();
    of.sort_unstable();
    // Hers stays what an administrator made it.
    assert_eq!(of, [("calls", Some("alice")), ("hers", Some("alice")), ("his", Some("bob"))]);
    assert_eq!(refused_by(book.reserve(quote("2", alice(), 1)).await), "calls", "it counts at once");
}

async fn another_organisation_keeps_what_it_paid(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    let elsewhere = Payer { org: OrgId::new("fish"), ..payer("bob") };
    book.reserve(quote("1", elsewhere, 5)).await.expect("reserved").settle(spent(5)).await;
    use_up(&book, "2", "bob", 7).await;
    take_over(&store, &birds(), false).await;
    assert_eq!(used_by(&store, "alice").await, 7);
    let fish = UsageFilter::of(OrgId::new("fish"), NOON - HOUR, NOON + HOUR);
    let usage = read(&store).await.usage_by_user(&fish, 10).await.expect("usage");
    assert_eq!(usage.iter().map(|used| used.user.as_str()).collect::<Vec<_>>(), ["bob"]);
}

async fn what_was_used_is_carried_to_whoever_parts(Scratch { store, .. }: Scratch) {
    let (book, clock) = open(&store).await;
    add(&book, limit("each", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    use_up(&book, "1", "alice", 60).await;
    let mut under_way = book.reserve(quote("2", alice(), 25)).await.expect("reserved");
    under_way.durable().await.expect("durable");
    let carry = async || {
        let args = (birds(), UserId::new("alice"), UserId::new("bob"));
        let carried = store.write(args, |tx, (org, from, to)| Box::pin(tx.carry(org, from, to, NOON)));
        carried.await.expect("carried")
    };
    for _ in 0..2 {
        // Once more counts once.
        assert!(carry().await);
    }
    assert_eq!(refused_by(book.reserve(quote("3", payer("bob"), 16)).await), "each");
    use_up(&book, "4", "bob", 10).await;
    assert_eq!((balance_of(&store, "alice").await, balance_of(&store, "bob").await), (vec![(25, 60)], vec![(0, 95)]));
    assert_eq!((used_by(&store, "alice").await, used_by(&store, "bob").await), (60, 10), "it is in no report");
    under_way.settle(spent(5)).await;
    book.flush().await.expect("flush");
    adds_up(&store).await;
    // As one again they have used what both used.
    take_over(&store, &birds(), false).await;
    assert_eq!((balance_of(&store, "bob").await, balance_of(&store, "alice").await), (vec![(0, 0)], vec![(0, 75)]));
    adds_up(&store).await;
    // In the next month nothing of it counts.
    carry().await;
    clock.wind(DAY * 30);
    use_up(&book, "5", "bob", 100).await;
}
