use salon_core::{
    Amounts, CallId, Limit, LimitId, Measure, OrgId, Period, Policy, Scope, Time, Tokens, UserId, Window, Zone,
};
use salon_store::ledger::{
    Account, AccountKey, Attempt, AttemptEnd, AttemptRow, AttemptState, Call, CallFilter, CallState, Entry, EntryKind,
    Holder, Payer, Reach, UsageFilter, Whole,
};
use salon_store::testing::Scratch;
use salon_store::{Store, Terms, Tx, on_both_databases};

use crate::cast::*;

on_both_databases! {
    any_number_of_rows_is_written_at_once
    whole_calls_are_written_all_or_none
    what_shares_a_transaction_with_a_refused_statement_stays
    an_account_is_written_only_as_it_was_read
    the_database_itself_refuses_a_reservation_beyond_the_cap
    an_account_is_opened_once_with_what_was_taken_before
    what_one_holder_has_taken_is_found_while_its_window_is_open
    a_report_is_of_one_moment
    limits_belong_to_their_organisation
    every_change_of_a_limit_raises_the_revision
}

fn birds() -> OrgId {
    OrgId::new("birds")
}

fn payer() -> Payer {
    Payer {
        org: birds(),
        zone: String::new(),
        user: UserId::new("alice"),
        key: None,
        chat: Some("aviary".to_owned()),
        turn: None,
        run: None,
    }
}

fn call(n: i64, state: CallState) -> Call {
    Call {
        id: CallId::new(format!("call {n:04}")),
        state,
        payer: payer(),
        door: "chat".to_owned(),
        model: "parrot-1".to_owned(),
        most: Amounts { micros: 3, tokens: 2, requests: 1 },
        at: Time(1_000 + n),
        deadline: Time(9_000),
        ended_at: None,
        limit: None,
        nonce: n,
    }
}

fn attempt(n: i64) -> AttemptRow {
    AttemptRow {
        call: CallId::new(format!("call {n:04}")),
        attempt: Attempt {
            n: 1,
            upstream: "aviary".to_owned(),
            model: "p".to_owned(),
            whose: "org".to_owned(),
            secret: None,
        },
        state: AttemptState::Started,
        started_at: Time(1_000),
        ended_at: None,
        note: None,
    }
}

fn entry(n: i64, micros: i64) -> Entry {
    Entry {
        key: format!("settle:call {n:04}"),
        kind: EntryKind::Settle,
        call: CallId::new(format!("call {n:04}")),
        payer: payer(),
        door: "chat".to_owned(),
        model: "parrot-1".to_owned(),
        upstream: "aviary".to_owned(),
        upstream_model: "p".to_owned(),
        whose: "org".to_owned(),
        tokens: Tokens::new(1, 1),
        amounts: Amounts { micros, tokens: 2, requests: 1 },
        estimated: false,
        suspect: true,
        cache_hit: false,
        at: Time(1_000 + n),
        settled_at: Time(5_000),
    }
}

const MANY: i64 = 203;

async fn write_many(store: &Store) {
    let args = (
        (0..MANY).map(|n| call(n, CallState::Reserved)).collect::<Vec<_>>(),
        (0..MANY).map(attempt).collect::<Vec<_>>(),
        (0..MANY).map(|n| entry(n, n)).collect::<Vec<_>>(),
    );
    // More than once: a transaction may be run again. First with fewer entries than calls, then with as many.
    for entries in [3, MANY as usize, MANY as usize] {
        let args = (args.clone(), entries);
        transact!(store, args, |tx, ((calls, attempts, entries), many)| {
            tx.add_rows(calls, attempts, &entries[..*many]).await
        })
        .expect("written");
    }
}

async fn any_number_of_rows_is_written_at_once(Scratch { store, .. }: Scratch) {
    write_many(&store).await;
    let usage = UsageFilter::of(birds(), Time(0), Time(10_000));
    let mut tx = read(&store).await;
    let sum = tx.usage(&usage).await.expect("usage");
    assert_eq!((sum.calls, sum.micros, sum.suspect), (MANY, (0..MANY).sum(), MANY));
    let entries = tx.list_entries(&CallFilter { usage, before: None, limit: 1 }).await.expect("entries");
    assert_eq!(entries, [entry(MANY - 1, MANY - 1)]);
    drop(tx);
    let ids: Vec<CallId> = (0..MANY).map(|n| call(n, CallState::Reserved).id).collect();
    let ends = ids.clone();
    transact!(store, ends, |tx, ends| {
        let states: Vec<_> = ends.iter().map(|id| (id, CallState::Settled)).collect();
        tx.end_calls(&states, Time(6_000)).await?;
        let ends: Vec<_> = ends
            .iter()
            .map(|id| AttemptEnd { call: id.clone(), n: 1, state: AttemptState::Ok, note: Some("\"'".to_owned()) })
            .collect();
        tx.end_attempts(&ends, Time(6_000)).await
    })
    .expect("ended");
    let found = transact!(store, ids.clone(), |tx, ids| tx.lock_calls(&ids.iter().collect::<Vec<_>>()).await);
    let found = found.expect("calls");
    assert_eq!(found.len() as i64, MANY);
    let expected = Call { ended_at: Some(Time(6_000)), ..call(7, CallState::Settled) };
    assert_eq!(found[7], expected, "in the order of their ids");
    let attempts = read(&store).await.list_attempts(&ids[7]).await.expect("attempts");
    let ended =
        AttemptRow { state: AttemptState::Ok, ended_at: Some(Time(6_000)), note: Some("\"'".to_owned()), ..attempt(7) };
    assert_eq!(attempts, [ended]);
}

/// Calls that have begun and ended, with so many in one statement.
async fn add_wholes(store: &Store, numbers: &[i64], revision: i64) -> bool {
    let rows = |n: &i64| (call(*n, CallState::Settled), attempt(*n), entry(*n, 3));
    let args = (numbers.iter().map(rows).collect::<Vec<_>>(), revision);
    let write = store.write(args, |tx, (rows, revision)| {
        Box::pin(async move {
            let wholes: Vec<Whole<'_>> = rows
                .iter()
                .map(|(call, attempt, entry)| Whole {
                    id: &call.id,
                    payer: &call.payer,
                    door: &call.door,
                    model: &call.model,
                    most: call.most,
                    at: call.at,
                    deadline: call.deadline,
                    nonce: call.nonce,
                    attempt: &attempt.attempt,
                    tokens: entry.tokens,
                    amounts: entry.amounts,
                    estimated: entry.estimated,
                    suspect: entry.suspect,
                    cache_hit: entry.cache_hit,
                    settled_at: entry.settled_at,
                })
                .collect();
            tx.add_wholes(&wholes, *revision, Time(4_000)).await
        })
    });
    write.await.expect("an answer")
}

async fn find_call(store: &Store, n: i64) -> Option<Call> {
    read(store).await.find_call(&birds(), &call(n, CallState::Settled).id).await.expect("read")
}

async fn whole_calls_are_written_all_or_none(Scratch { store, .. }: Scratch) {
    if store.most_wholes() == 0 {
        return;
    }
    let revision = read(&store).await.limits_revision().await.expect("a revision");
    let all: Vec<i64> = (0..5).collect();
    assert!(add_wholes(&store, &all, revision).await);
    for n in all {
        let expected = Call { ended_at: Some(Time(4_000)), ..call(n, CallState::Settled) };
        assert_eq!(find_call(&store, n).await.as_ref(), Some(&expected));
        let mut tx = read(&store).await;
        let ended =
            AttemptRow { state: AttemptState::Ok, started_at: expected.at, ended_at: expected.ended_at, ..attempt(n) };
        assert_eq!(tx.list_attempts(&expected.id).await.expect("attempts"), [ended]);
        assert_eq!(tx.list_entries_of_call(&expected.id).await.expect("entries"), [entry(n, 3)]);
    }
    assert!(!add_wholes(&store, &[5, 2], revision).await, "one of them is known");
    assert_eq!(find_call(&store, 5).await, None);
    assert!(!add_wholes(&store, &[5], revision + 1).await, "limits were changed");
    assert_eq!(find_call(&store, 5).await, None);
    assert!(add_wholes(&store, &(5..69).collect::<Vec<_>>(), revision).await);
    assert!(find_call(&store, 68).await.is_some());
}

async fn what_shares_a_transaction_with_a_refused_statement_stays(Scratch { store, .. }: Scratch) {
    let others = (0..20).map(|n| {
        let (store, call) = (store.clone(), call(n, CallState::Reserved));
        async move { transact!(store, vec![call], |tx, calls| tx.add_calls(calls).await).expect("written") }
    });
    if store.most_wholes() == 0 {
        return;
    }
    // A revision that never was.
    let refused = add_wholes(&store, &[90, 91], -1);
    let (refused, _) = tokio::join!(refused, futures_util::future::join_all(others));
    assert!(!refused);
    for n in 0..20 {
        assert!(find_call(&store, n).await.is_some(), "{n}");
    }
    assert_eq!(find_call(&store, 90).await, None);
}

fn key(measure: Measure) -> AccountKey {
    AccountKey {
        holder: Holder::new(Scope::User, &birds(), "alice"),
        measure,
        period: Period::Day,
        window: Window { start: Time(1_000), end: Time(2_000) },
    }
}

async fn open(store: &Store, cap: Option<i64>) -> Account {
    let keys = vec![(key(Measure::Micros), cap)];
    transact!(store, keys, |tx, keys| tx.open_accounts(keys, Time(1_000)).await).expect("open");
    accounts(store).await.remove(0)
}

async fn accounts(store: &Store) -> Vec<Account> {
    let reach = Reach { holder: key(Measure::Micros).holder, from: Time(1_500), to: Time(1_500) };
    transact!(store, reach, |tx, reach| tx.lock_accounts(std::slice::from_ref(reach)).await).expect("accounts")
}

async fn write(store: &Store, account: Account) -> salon_store::Result<()> {
    transact!(store, account, |tx, account| tx.write_accounts(&[account]).await)
}

async fn what_one_holder_has_taken_is_found_while_its_window_is_open(Scratch { store, .. }: Scratch) {
    let day = Period::Day.window(&Zone::utc(), Time(1_500));
    let today = |measure| AccountKey { window: day, ..key(measure) };
    let bobs = AccountKey { holder: Holder::new(Scope::User, &birds(), "bob"), ..today(Measure::Micros) };
    // As if the day had begun elsewhere before the organisation's zone was changed.
    let elsewhere = key(Measure::Micros);
    let all = vec![(today(Measure::Micros), Some(10)), (today(Measure::Tokens), None), (bobs, None), (elsewhere, None)];
    transact!(store, all, |tx, keys| tx.open_accounts(keys, Time(1_000)).await).expect("open");
    let found = async |scope: Scope, subject: &str, now: i64| {
        let accounts = read(&store).await.list_accounts_of(&birds(), (scope, subject), Time(now)).await.expect("list");
        accounts.into_iter().map(|account| account.key).collect::<Vec<_>>()
    };
    assert_eq!(found(Scope::User, "alice", 1_500).await, [Measure::Micros, Measure::Tokens].map(today));
    assert_eq!(found(Scope::User, "bob", 1_500).await.len(), 1);
    assert!(found(Scope::User, "alice", day.end.0).await.is_empty(), "the next window is another account");
    assert!(found(Scope::Chat, "alice", 1_500).await.is_empty());
}

async fn a_report_is_of_one_moment(Scratch { store, .. }: Scratch) {
    let entries =
        async |tx: &mut Tx| tx.usage(&UsageFilter::of(birds(), Time(0), Time(i64::MAX))).await.expect("usage");
    let mut report = store.snapshot().await.expect("a snapshot");
    assert_eq!(entries(&mut report).await.calls, 0);
    let rows = (vec![call(1, CallState::Settled)], vec![attempt(1)], vec![entry(1, 1)]);
    transact!(store, rows, |tx, (calls, attempts, entries)| tx.add_rows(calls, attempts, entries).await).expect("rows");
    assert_eq!(entries(&mut read(&store).await).await.calls, 1);
    assert_eq!(entries(&mut report).await.calls, 0, "what came later is for the next one");
    drop(report);
    // The connection is as good as before.
    for _ in 0..20 {
        assert_eq!(entries(&mut store.snapshot().await.expect("a snapshot")).await.calls, 1);
        assert_eq!(entries(&mut read(&store).await).await.calls, 1);
    }
}

async fn an_account_is_written_only_as_it_was_read(Scratch { store, .. }: Scratch) {
    let account = open(&store, Some(10)).await;
    write(&store, Account { reserved: 4, ..account.clone() }).await.expect("written");
    write(&store, Account { reserved: 5, ..account }).await.expect_err("somebody else wrote it meanwhile");
    assert_eq!(accounts(&store).await[0].reserved, 4);
}

async fn the_database_itself_refuses_a_reservation_beyond_the_cap(Scratch { store, .. }: Scratch) {
    let account = open(&store, Some(10)).await;
    for wrong in [
        Account { reserved: 11, ..account.clone() },
        Account { reserved: 6, spent: 5, ..account.clone() },
        Account { reserved: -1, ..account.clone() },
        Account { spent: -1, ..account.clone() },
    ] {
        write(&store, wrong).await.expect_err("refused");
    }
    write(&store, Account { reserved: 6, spent: 5, grace: 1, ..account }).await.expect("a reason is given");
}

async fn an_account_is_opened_once_with_what_was_taken_before(Scratch { store, .. }: Scratch) {
    write_many(&store).await;
    let mut late = call(MANY, CallState::Reserved);
    late.at = Time(2_000);
    transact!(store, late, |tx, late| tx.add_calls(std::slice::from_ref(late)).await).expect("outside the window");
    let opened = open(&store, Some(100)).await;
    let spent: i64 = (0..MANY).sum();
    assert_eq!((opened.spent, opened.reserved), (spent, 3 * MANY));
    assert_eq!(opened.grace, spent + 3 * MANY - 100);
    assert_eq!(open(&store, Some(7)).await, opened, "a second opening changes nothing");
    let difference = transact!(store, opened.id.clone(), |tx, id| tx.check_account(id, Time(1_500)).await);
    assert_eq!(difference.expect("check"), None);
}

fn limit(id: &str, org: &str) -> Limit {
    Limit {
        id: LimitId::new(id),
        org: OrgId::new(org),
        scope: Scope::Chat,
        subject: Some("\0'".to_owned()),
        measure: Measure::Tokens,
        period: Period::Week,
        amount: 5,
        policy: Policy::Ask,
        thresholds: vec![80, 90, 100],
    }
}

async fn add(store: &Store, limit: Limit) -> bool {
    transact!(store, limit, |tx, limit| tx.add_limit(limit, Time(1)).await).expect("add")
}

async fn limits_belong_to_their_organisation(Scratch { store, .. }: Scratch) {
    assert!(add(&store, limit("1", "birds")).await);
    assert!(!add(&store, limit("1", "fish")).await);
    let terms = Terms { amount: 9, policy: Policy::Hard, thresholds: Vec::new() };
    for (org, done) in [("fish", false), ("birds", true)] {
        let args = (OrgId::new(org), LimitId::new("1"), terms.clone());
        let changed = transact!(store, args, |tx, (org, id, terms)| tx.change_limit(org, id, terms, Time(2)).await);
        assert_eq!(changed.expect("change"), done);
    }
    let expected = Limit {
        amount: 9,
        policy: Policy::Hard,
        thresholds: Vec::new(),
        subject: Some("\u{fffd}'".to_owned()),
        ..limit("1", "birds")
    };
    let mut tx = read(&store).await;
    assert_eq!(tx.list_limits(&birds()).await.expect("limits"), std::slice::from_ref(&expected));
    assert_eq!(tx.find_limit(&birds(), &expected.id).await.expect("find"), Some(expected.clone()));
    assert_eq!(tx.find_limit(&OrgId::new("fish"), &expected.id).await.expect("find"), None);
    drop(tx);
    for (org, done) in [("fish", false), ("birds", true), ("birds", false)] {
        let args = (OrgId::new(org), LimitId::new("1"));
        let removed = transact!(store, args, |tx, (org, id)| tx.remove_limit(org, id, Time(3)).await);
        assert_eq!(removed.expect("remove"), done);
    }
    let mut tx = read(&store).await;
    assert_eq!(tx.list_limits(&birds()).await.expect("limits"), []);
    let limits = tx.load_limits().await.expect("limits");
    assert!(limits.know(&birds()) && !limits.know(&OrgId::new("fish")));
}

async fn every_change_of_a_limit_raises_the_revision(Scratch { store, .. }: Scratch) {
    let revision = async || read(&store).await.limits_revision().await.expect("revision");
    let first = revision().await;
    add(&store, limit("1", "birds")).await;
    assert_eq!(revision().await, first + 1);
    add(&store, limit("1", "birds")).await;
    assert_eq!(revision().await, first + 1, "nothing was changed");
    let args = (birds(), LimitId::new("1"));
    transact!(store, args, |tx, (org, id)| tx.remove_limit(org, id, Time(3)).await).expect("remove");
    assert_eq!(revision().await, first + 2);
    let held = transact!(store, (), |tx, ()| tx.hold_limits().await).expect("hold");
    assert_eq!(held, first + 2);
}
