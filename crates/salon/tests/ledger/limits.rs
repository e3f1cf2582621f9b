//! What limits mean.

use salon::ledger::{Book, NotReserved, Payer, Quote, Share};
use salon_core::limit::Headroom;
use salon_core::{Amounts, CallId, Limit, LimitId, Measure, OrgId, Period, Policy, Scope, TurnId};
use salon_store::testing::Scratch;
use salon_store::{Terms, on_both_databases};

use crate::cast::*;

on_both_databases! {
    a_call_without_a_limit_does_not_wait_for_the_disk
    a_call_is_reserved_from_every_limit_or_from_none
    a_refusal_says_which_limit_and_when_it_begins_anew
    a_limit_that_only_warns_lets_everything_pass
    a_limit_counts_what_was_used_before_it
    a_lowered_limit_holds_at_once
    a_limit_that_names_somebody_takes_the_place_of_the_one_for_each
    a_limit_that_is_removed_and_added_again_has_forgotten_nothing
    days_end_with_the_days_of_the_organisation
    a_call_that_needs_consent_is_held_and_may_be_made_once
    the_same_question_is_held_once
    what_waits_goes_on_once_there_is_room
    a_denied_call_is_refused
    a_turn_finds_what_was_decided_about_it
    several_are_agreed_to_as_one_and_share_what_was_set_aside
    a_share_is_no_more_than_was_agreed_to
    consent_does_not_help_against_another_limit
    consent_ends_after_its_time
    a_limit_of_another_process_is_found_by_the_transaction
    thresholds_are_crossed_once_in_a_window
    a_run_has_a_limit_of_its_own
    a_limit_that_makes_no_sense_is_not_added
}

async fn a_call_without_a_limit_does_not_wait_for_the_disk(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    let mut reserved = book.reserve(quote("1", alice(), 5)).await.expect("reserved");
    assert!(!reserved.is_durable());
    reserved.durable().await.expect("on the disk");
    assert!(reserved.is_durable());
    assert_eq!(call(&store, "1").await.state.as_str(), "reserved");
    let attempts = read(&store).await.list_attempts(&CallId::new("1")).await.expect("attempts");
    assert_eq!((attempts.len(), attempts[0].state.as_str()), (1, "started"));
    assert_eq!(accounts(&store, NOON).await, []);
    reserved.settle(spent(3)).await;
    book.flush().await.expect("flush");
    assert_eq!(call(&store, "1").await.state.as_str(), "settled");
    assert_eq!(entries(&store).await[0].amounts.micros, 3);
}

async fn a_call_is_reserved_from_every_limit_or_from_none(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, limit("mine", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    add(&book, limit("pool", Scope::Org, Measure::Micros, 50, Policy::Hard)).await;
    let reserved = reserve(&book, "1", 40).await.expect("fits both");
    assert!(reserved.is_durable());
    assert_eq!(refused_by(reserve(&book, "2", 20).await), "pool");
    let taken: Vec<i64> = accounts(&store, NOON).await.iter().map(|account| account.reserved).collect();
    assert_eq!(taken, [40, 40]);
    assert!(find_call(&store, "2").await.is_none(), "a refusal leaves nothing behind");
    reserved.release("it was not sent").await;
    let reserved = reserve(&book, "3", 50).await.expect("there is room again");
    reserved.keep();
}

async fn a_refusal_says_which_limit_and_when_it_begins_anew(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, Limit { period: Period::Day, ..limit("day", Scope::User, Measure::Requests, 1, Policy::Block) }).await;
    let granted = reserve(&book, "1", 5).await.expect("reserved");
    let room = granted.granted().standings[0].headroom;
    assert_eq!(room, Headroom { limit: 1, remaining: 0, reset_secs: Some(12 * 3600) });
    let Err(NotReserved::Over(standing)) = reserve(&book, "2", 5).await else { panic!("refused") };
    assert_eq!((standing.scope, standing.measure, standing.policy), (Scope::User, Measure::Requests, Policy::Block));
    assert_eq!(standing.headroom.reset_secs, Some(12 * 3600));
}

async fn a_limit_that_only_warns_lets_everything_pass(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, limit("soft", Scope::User, Measure::Micros, 10, Policy::Warn)).await;
    let first = reserve(&book, "1", 10).await.expect("reserved");
    assert_eq!(first.granted().warnings, []);
    let second = reserve(&book, "2", 10).await.expect("reserved");
    assert_eq!(second.granted().warnings, [LimitId::new("soft")]);
    assert_eq!(accounts(&store, NOON).await[0].cap, None);
    first.keep();
}

async fn a_limit_counts_what_was_used_before_it(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    reserve(&book, "1", 5).await.expect("reserved").settle(spent(5)).await;
    let open = reserve(&book, "2", 3).await.expect("reserved");
    book.flush().await.expect("flush");
    add(&book, limit("late", Scope::User, Measure::Micros, 10, Policy::Block)).await;
    assert_eq!(refused_by(reserve(&book, "3", 3).await), "late");
    assert_eq!(balance(&store, NOON).await, (3, 5));
    open.settle(spent(1)).await;
    reserve(&book, "4", 4).await.expect("5 + 1 + 4").keep();
    assert_eq!(balance(&store, NOON).await, (4, 6));
}

async fn a_lowered_limit_holds_at_once(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, limit("mine", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    reserve(&book, "1", 60).await.expect("reserved").keep();
    let lower = Terms { amount: 50, policy: Policy::Block, thresholds: vec![100] };
    assert!(
        book.change_limit(&birds(), &LimitId::new("mine"), lower.clone(), &pen("boss").await).await.expect("change")
    );
    assert!(!book.change_limit(&birds(), &LimitId::new("none"), lower, &pen("boss").await).await.expect("change"));
    assert_eq!(refused_by(reserve(&book, "2", 1).await), "mine");
    book.settle(&CallId::new("1"), spent(60)).await;
    book.flush().await.expect("flush");
    let account = &accounts(&store, NOON).await[0];
    assert_eq!((account.spent, account.reserved), (60, 0));
    assert!(account.spent <= account.cap.expect("a cap") + account.grace);
    let higher = Terms { amount: 61, policy: Policy::Block, thresholds: vec![100] };
    assert!(book.change_limit(&birds(), &LimitId::new("mine"), higher, &pen("boss").await).await.expect("change"));
    reserve(&book, "3", 1).await.expect("reserved").keep();
    assert_eq!(accounts(&store, NOON).await[0].grace, 0);
}

async fn a_limit_that_names_somebody_takes_the_place_of_the_one_for_each(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, limit("each", Scope::User, Measure::Micros, 5, Policy::Block)).await;
    let own = limit("alice", Scope::User, Measure::Micros, 20, Policy::Block);
    add(&book, Limit { subject: Some("alice".to_owned()), ..own }).await;
    reserve(&book, "1", 20).await.expect("alice has more").keep();
    assert_eq!(refused_by(book.reserve(quote("2", payer("bob"), 6)).await), "each");
    assert!(book.remove_limit(&birds(), &LimitId::new("alice"), &pen("boss").await).await.expect("remove"));
    assert_eq!(refused_by(reserve(&book, "3", 1).await), "each");
}

async fn a_limit_that_is_removed_and_added_again_has_forgotten_nothing(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    let mine = limit("mine", Scope::User, Measure::Micros, 10, Policy::Block);
    add(&book, mine.clone()).await;
    reserve(&book, "1", 4).await.expect("reserved").settle(spent(4)).await;
    assert!(book.remove_limit(&birds(), &mine.id, &pen("boss").await).await.expect("remove"));
    assert!(!book.remove_limit(&birds(), &mine.id, &pen("boss").await).await.expect("remove"));
    let free = reserve(&book, "2", 50).await.expect("no limit");
    free.settle(spent(5)).await;
    book.flush().await.expect("flush");
    add(&book, Limit { id: LimitId::new("again"), ..mine }).await;
    assert_eq!(refused_by(reserve(&book, "3", 2).await), "again");
    reserve(&book, "4", 1).await.expect("4 + 5 + 1").keep();
    assert_eq!(book.check().await.expect("check"), []);
}

async fn days_end_with_the_days_of_the_organisation(Scratch { store, .. }: Scratch) {
    let (book, clock) = open(&store).await;
    add(&book, Limit { period: Period::Day, ..limit("day", Scope::User, Measure::Requests, 1, Policy::Block) }).await;
    let seoul = |call: &str| {
        let mut payer = alice();
        payer.zone = "Asia/Seoul".to_owned();
        book.reserve(quote(call, payer, 1))
    };
    seoul("1").await.expect("today").keep();
    clock.wind(2 * HOUR);
    assert_eq!(refused_by(seoul("2").await), "day");
    clock.wind(HOUR);
    seoul("3").await.expect("15:00 in Greenwich is midnight in Seoul").keep();
}

fn ask(amount: i64) -> Limit {
    limit("ask", Scope::User, Measure::Micros, amount, Policy::Ask)
}

async fn a_call_that_needs_consent_is_held_and_may_be_made_once(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, ask(10)).await;
    let held = reserve(&book, "1", 30).await.expect_err("held");
    assert_eq!(held, NotReserved::Held { call: CallId::new("1"), limit: Some(LimitId::new("ask")) });
    assert_eq!(reserve(&book, "1", 30).await.expect_err("still held"), held);
    let waiting = read(&store).await.list_held(&birds(), None, 10).await.expect("held");
    assert_eq!((waiting.len(), waiting[0].most.micros, waiting[0].model.as_str()), (1, 30, "parrot-1"));
    assert!(book.approve(&birds(), &CallId::new("1"), &pen("boss").await).await.expect("approve"));
    assert!(!book.approve(&birds(), &CallId::new("1"), &pen("boss").await).await.expect("approve"), "decided already");
    let reserved = reserve(&book, "1", 30).await.expect("approved");
    let account = &accounts(&store, NOON).await[0];
    assert_eq!((account.cap, account.reserved, account.grace), (Some(10), 30, 20));
    assert_eq!(reserve(&book, "1", 30).await.expect_err("once"), NotReserved::Duplicate);
    reserved.settle(spent(4)).await;
    book.flush().await.expect("flush");
    let account = &accounts(&store, NOON).await[0];
    assert_eq!((account.reserved, account.spent, account.grace), (0, 4, 0));
    assert_eq!(reserve(&book, "1", 30).await.expect_err("once"), NotReserved::Duplicate);
}

async fn the_same_question_is_held_once(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, ask(10)).await;
    let held = |call: &str| NotReserved::Held { call: CallId::new(call), limit: Some(LimitId::new("ask")) };
    assert_eq!(reserve(&book, "1", 30).await.expect_err("held"), held("1"));
    assert_eq!(reserve(&book, "2", 30).await.expect_err("held"), held("1"));
    let other = Quote { model: "heron-2".to_owned(), ..quote("3", alice(), 30) };
    assert_eq!(book.reserve(other).await.expect_err("held"), held("3"));
    // A yes to the first would not be good for more, so more is asked about by itself.
    assert_eq!(reserve(&book, "4", 40).await.expect_err("held"), held("4"));
    assert_eq!(reserve(&book, "5", 40).await.expect_err("held"), held("4"));
    assert_eq!(read(&store).await.list_held(&birds(), None, 10).await.expect("held").len(), 3);
    assert!(book.approve(&birds(), &CallId::new("4"), &pen("boss").await).await.expect("approve"));
    reserve(&book, "4", 40).await.expect("what was approved").keep();
}

async fn what_waits_goes_on_once_there_is_room(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, ask(10)).await;
    let held = |call: &str| NotReserved::Held { call: CallId::new(call), limit: Some(LimitId::new("ask")) };
    for call in ["1", "2"] {
        let other = Quote { model: format!("heron-{call}"), ..quote(call, alice(), 30) };
        assert_eq!(book.reserve(other).await.expect_err("held"), held(call));
    }
    let again = |call: &str, model: &str, micros| Quote { model: model.to_owned(), ..quote(call, alice(), micros) };
    assert_eq!(book.reserve(again("1", "heron-1", 30)).await.expect_err("no room yet"), held("1"));
    let terms = Terms { amount: 40, policy: Policy::Ask, thresholds: Vec::new() };
    assert!(book.change_limit(&birds(), &LimitId::new("ask"), terms, &pen("boss").await).await.expect("changed"));
    assert_eq!(book.reserve(again("1", "eagle", 30)).await.expect_err("something else"), held("1"));
    assert_eq!(book.reserve(again("1", "heron-1", 31)).await.expect_err("more than that"), held("1"));
    let mut first = book.reserve(again("1", "heron-1", 30)).await.expect("there is room");
    first.durable().await.expect("on the disk");
    assert_eq!((call(&store, "1").await.state.as_str(), balance(&store, NOON).await), ("reserved", (30, 0)));
    assert_eq!(book.reserve(again("2", "heron-2", 30)).await.expect_err("the first has taken it"), held("2"));
    assert!(book.remove_limit(&birds(), &LimitId::new("ask"), &pen("boss").await).await.expect("removed"));
    let mut second = book.reserve(again("2", "heron-2", 30)).await.expect("no limit");
    second.durable().await.expect("on the disk");
    assert_eq!(call(&store, "2").await.state.as_str(), "reserved");
    assert!(read(&store).await.list_held(&birds(), None, 10).await.expect("held").is_empty());
}

async fn a_denied_call_is_refused(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, ask(10)).await;
    reserve(&book, "1", 30).await.expect_err("held");
    assert!(book.deny(&birds(), &CallId::new("1"), &pen("boss").await).await.expect("deny"));
    assert_eq!(reserve(&book, "1", 30).await.expect_err("denied"), NotReserved::Denied);
    assert_eq!(balance(&store, NOON).await, (0, 0));
}

async fn a_turn_finds_what_was_decided_about_it(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, ask(10)).await;
    let of = |call: &str, turn: &str| Quote {
        payer: Payer { turn: Some(TurnId::new(turn)), ..alice() },
        ..quote(call, alice(), 30)
    };
    let decided = async |turn: &str| read(&store).await.list_decided(&TurnId::new(turn)).await.expect("calls");
    assert_eq!(decided("t").await, []);
    book.reserve(of("t", "t")).await.expect_err("held");
    book.reserve(of("u", "u")).await.expect_err("held");
    assert_eq!(decided("t").await, [CallId::new("t")]);
    assert!(book.approve(&birds(), &CallId::new("t"), &pen("boss").await).await.expect("approve"));
    assert_eq!(decided("t").await, [CallId::new("t")]);
    let reserved = book.reserve(of("t", "t")).await.expect("approved");
    assert_eq!(decided("t").await, [], "what is being made is decided about no more");
    reserved.release("enough").await;
    assert!(book.deny(&birds(), &CallId::new("u"), &pen("boss").await).await.expect("deny"));
    assert_eq!(decided("u").await, [CallId::new("u")]);
}

/// The first of several that take ten each, thirty together.
fn first_of(all: &str) -> Quote {
    let most = Amounts { micros: 30, tokens: 30, requests: 3 };
    let share = Share::First { of: CallId::new(all), model: "salon/nest".to_owned(), most };
    Quote { share: Some(Box::new(share)), ..quote(all, alice(), 10) }
}

fn share_of(call: &str, all: &str, micros: i64) -> Quote {
    Quote { share: Some(Box::new(Share::Of(CallId::new(all)))), ..quote(call, alice(), micros) }
}

/// All of them, once somebody agreed.
fn all(all: &str) -> Quote {
    let most = Amounts { micros: 30, tokens: 30, requests: 3 };
    Quote { model: "salon/nest".to_owned(), most, first: None, fresh: false, ..quote(all, alice(), 30) }
}

async fn several_are_agreed_to_as_one_and_share_what_was_set_aside(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, ask(20)).await;
    // There is room for the first, and none for all of them.
    let held = NotReserved::Held { call: CallId::new("1"), limit: Some(LimitId::new("ask")) };
    assert_eq!(book.reserve(first_of("1")).await.expect_err("held"), held);
    let waiting = read(&store).await.list_held(&birds(), None, 10).await.expect("held");
    let [call] = waiting.as_slice() else { panic!("{waiting:?}") };
    assert_eq!((call.model.as_str(), call.most.micros, call.most.requests), ("salon/nest", 30, 3));
    assert_eq!(book.reserve(all("1")).await.expect_err("still held"), held);
    assert!(book.approve(&birds(), &CallId::new("1"), &pen("boss").await).await.expect("approve"));
    let agreed = book.reserve(all("1")).await.expect("agreed to");
    assert_eq!(balance(&store, NOON).await, (30, 0));
    let mut shares = Vec::new();
    for share in ["1.v1", "1.v2"] {
        shares.push(book.reserve(share_of(share, "1", 10)).await.expect("a share"));
        assert_eq!(balance(&store, NOON).await, (30, 0), "nothing more is set aside for it");
    }
    let rest = self::call(&store, "1").await;
    assert_eq!((rest.most.micros, rest.most.requests), (10, 1));
    for share in shares {
        share.settle(spent(4)).await;
    }
    book.flush().await.expect("flush");
    assert_eq!(balance(&store, NOON).await, (10, 8));
    agreed.release("nobody has more to say").await;
    book.flush().await.expect("flush");
    assert_eq!(balance(&store, NOON).await, (0, 8));
    assert_eq!(self::call(&store, "1").await.state.as_str(), "released");
    assert_eq!(book.reserve(all("1")).await.expect_err("it is used up"), NotReserved::Duplicate);
}

async fn a_share_is_no_more_than_was_agreed_to(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, ask(20)).await;
    book.reserve(first_of("1")).await.expect_err("held");
    assert!(book.approve(&birds(), &CallId::new("1"), &pen("boss").await).await.expect("approve"));
    let agreed = book.reserve(all("1")).await.expect("agreed to");
    // Too much of it, and somebody else's: neither is held, because nobody waits for a yes in its middle.
    assert_eq!(refused_by(book.reserve(share_of("1.v1", "1", 31)).await), "ask");
    let bobs = Quote { payer: payer("bob"), ..share_of("1.v2", "1", 30) };
    assert_eq!(refused_by(book.reserve(bobs).await), "ask");
    assert_eq!(read(&store).await.list_held(&birds(), None, 10).await.expect("held"), []);
    drop(agreed);
    book.flush().await.expect("flush");
    assert_eq!(self::call(&store, "1").await.state.as_str(), "released", "nobody came back, and nothing was sent");
    assert_eq!(refused_by(book.reserve(share_of("1.v3", "1", 30)).await), "ask");
    // Without a yes shares are calls like others, as long as there is room.
    book.reserve(share_of("1.v4", "1", 10)).await.expect("there is room").release("enough").await;
}

async fn consent_does_not_help_against_another_limit(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, ask(10)).await;
    reserve(&book, "1", 30).await.expect_err("held");
    assert!(book.approve(&birds(), &CallId::new("1"), &pen("boss").await).await.expect("approve"));
    add(&book, limit("hard", Scope::Org, Measure::Micros, 20, Policy::Hard)).await;
    assert_eq!(refused_by(reserve(&book, "1", 30).await), "hard");
    assert_eq!(call(&store, "1").await.state.as_str(), "approved", "the consent is not used up by that");
}

async fn consent_ends_after_its_time(Scratch { store, .. }: Scratch) {
    let (book, clock) = open(&store).await;
    add(&book, ask(10)).await;
    reserve(&book, "1", 30).await.expect_err("held");
    assert!(book.approve(&birds(), &CallId::new("1"), &pen("boss").await).await.expect("approve"));
    clock.wind(DAY + HOUR);
    assert_eq!(book.reap().await.expect("reap"), 0);
    assert_eq!(reserve(&book, "1", 30).await.expect_err("too late"), NotReserved::Denied);
}

async fn a_limit_of_another_process_is_found_by_the_transaction(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    let mine = limit("mine", Scope::User, Measure::Micros, 10, Policy::Block);
    let args = (mine, NOON);
    store
        .write(args, |tx, (limit, now)| Box::pin(async move { tx.add_limit(limit, *now).await }))
        .await
        .expect("added behind the book's back");
    assert!(!book.applies(&alice()));
    let mut passed = book.reserve(quote("1", alice(), 30)).await.expect("let through, not knowing better");
    let Err(NotReserved::Over(standing)) = passed.durable().await.cloned() else { panic!("found out") };
    assert_eq!(standing.limit, LimitId::new("mine"));
    // It may have been sent, so there is a trace of it, but nothing is taken.
    assert_eq!(call(&store, "1").await.state.as_str(), "unknown");
    let attempts = read(&store).await.list_attempts(&CallId::new("1")).await.expect("attempts");
    assert_eq!(attempts[0].state.as_str(), "unknown");
    assert_eq!(balance(&store, NOON).await, (0, 0));
    assert!(book.applies(&alice()), "and now it is known");
}

async fn crossings(book: &Book, scratch: &salon_store::Store) -> Vec<i64> {
    book.flush().await.expect("flush");
    let crossings = read(scratch).await.list_untold_crossings(100).await.expect("crossings");
    crossings.iter().map(|crossing| crossing.threshold).collect()
}

async fn thresholds_are_crossed_once_in_a_window(Scratch { store, .. }: Scratch) {
    let (book, clock) = open(&store).await;
    add(&book, limit("mine", Scope::User, Measure::Micros, 100, Policy::Block)).await;
    reserve(&book, "1", 79).await.expect("reserved").settle(spent(79)).await;
    assert_eq!(crossings(&book, &store).await, [0; 0]);
    reserve(&book, "2", 21).await.expect("reserved").settle(spent(21)).await;
    assert_eq!(crossings(&book, &store).await, [80, 100]);
    let first = read(&store).await.list_untold_crossings(1).await.expect("crossings").remove(0);
    for told in [true, false] {
        let args = (first.clone(), NOON);
        let write =
            store.write(args, |tx, (crossing, now)| Box::pin(async move { tx.tell_crossing(crossing, *now).await }));
        assert_eq!(write.await.expect("told"), told);
    }
    assert_eq!(crossings(&book, &store).await, [100]);
    clock.wind(DAY * 31);
    reserve(&book, "3", 100).await.expect("a new month").settle(spent(100)).await;
    assert_eq!(crossings(&book, &store).await, [100, 80, 100]);
    let untold = read(&store).await.list_untold_alerts(NOON, 10).await.expect("alerts");
    assert_eq!(untold.iter().map(|alert| alert.threshold).collect::<Vec<_>>(), [100, 80, 100]);
    assert!(untold.iter().all(|alert| alert.told_at.is_none() && alert.taken > 0 && alert.until > alert.at));
    let alerts = read(&store).await.list_alerts(&birds(), NOON, 10).await.expect("alerts");
    assert_eq!(alerts.len(), 4, "also what was told");
    assert_eq!(read(&store).await.list_alerts(&OrgId::new("fish"), NOON, 10).await.expect("alerts"), []);
    let later = untold[2].at + DAY;
    assert_eq!(read(&store).await.list_untold_alerts(later, 10).await.expect("alerts"), []);
}

async fn a_run_has_a_limit_of_its_own(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    add(&book, Limit { period: Period::Total, ..limit("run", Scope::Run, Measure::Tokens, 25, Policy::Hard) }).await;
    let of = |call: &str, run: &str| {
        let mut payer = alice();
        payer.run = Some(run.to_owned());
        book.reserve(quote(call, payer, 1))
    };
    of("1", "a").await.expect("ten").keep();
    of("2", "a").await.expect("twenty").keep();
    assert_eq!(refused_by(of("3", "a").await), "run");
    of("4", "b").await.expect("another run").keep();
    reserve(&book, "5", 1).await.expect("no run").keep();
}

async fn a_limit_that_makes_no_sense_is_not_added(Scratch { store, .. }: Scratch) {
    let (book, _) = open(&store).await;
    let good = limit("mine", Scope::User, Measure::Micros, 100, Policy::Block);
    for bad in [
        Limit { amount: -1, ..good.clone() },
        Limit { thresholds: vec![0], ..good.clone() },
        Limit { scope: Scope::Org, subject: Some("fish".to_owned()), ..good.clone() },
    ] {
        book.add_limit(bad, &pen("boss").await).await.expect_err("refused");
    }
    add(&book, good.clone()).await;
    assert!(!book.add_limit(good, &pen("boss").await).await.expect("known already"));
    assert_eq!(read(&store).await.list_limits(&birds()).await.expect("limits").len(), 1);
}
