//! Plans: limits that are given to people by a name.

#[path = "people/cast.rs"]
#[expect(dead_code, reason = "this file needs a part of the cast")]
mod cast;

use std::sync::Arc;

use salon::access::issue::OwnLimit;
use salon::logins::passes::{self, Linking};
use salon::people::{self, DEFAULT_ORG, UserChange, add_org};
use salon::plans::{PlanError, add_plan, find_plan, give_plan, limits_of, remove_plan, set_plan};
use salon::{Actor, Pen, Salon};
use salon_core::people::Role;
use salon_core::{Limit, Measure, OrgId, Period, Policy, User, UserId};
use salon_store::testing::Scratch;
use salon_store::{AuditFilter, Store, Terms, on_both_databases};

use cast::{person, salon};

on_both_databases! {
    whoever_has_a_plan_has_its_limits
    a_changed_plan_is_changed_for_everybody_at_once
    another_plan_takes_the_place_of_the_first
    a_removed_plan_limits_nobody
    a_plan_stays_in_its_organisation
    a_plan_comes_along_where_a_chat_is_linked
    a_plan_that_says_nonsense_is_refused
    plans_stand_in_the_audit
}

fn own(measure: Measure, period: Period, amount: i64) -> OwnLimit {
    OwnLimit { measure, period, terms: Terms { amount, policy: Policy::Block, thresholds: vec![80, 100] } }
}

fn org() -> OrgId {
    OrgId::new(DEFAULT_ORG)
}

struct Birds {
    salon: Arc<Salon>,
    alice: User,
    bob: User,
}

impl Birds {
    async fn with_a_free_plan(store: &Store) -> Birds {
        let salon = salon(store).await;
        let (alice, bob) = (person(&salon, "alice", Role::User).await, person(&salon, "bob", Role::User).await);
        let birds = Birds { salon, alice, bob };
        let free = [own(Measure::Requests, Period::Day, 20), own(Measure::Micros, Period::Month, 1_000_000)];
        birds.add("free", &free).await.expect("a plan");
        birds
    }

    fn pen(&self) -> Pen {
        self.salon.pen(Actor::Operator)
    }

    async fn add(&self, name: &str, limits: &[OwnLimit]) -> Result<salon_store::Plan, PlanError> {
        add_plan(&self.salon.store, &self.salon.clock, &self.pen(), &org(), name, limits).await
    }

    async fn give(&self, user: &User, plan: Option<&str>) -> Result<Option<salon_store::Plan>, PlanError> {
        give_plan(&self.salon.store, &self.salon.clock, &self.pen(), user, plan).await
    }

    async fn set(&self, plan: &str, limits: &[OwnLimit]) -> Result<salon_store::Plan, PlanError> {
        set_plan(&self.salon.store, &self.salon.clock, &self.pen(), &org(), plan, None, Some(limits)).await
    }

    /// The limits that are about somebody, in words.
    async fn limits(&self, user: &User) -> Vec<String> {
        let limits = self.salon.store.read().await.expect("read").list_limits(&org()).await.expect("limits");
        let theirs = limits.iter().filter(|limit| limit.subject.as_deref() == Some(user.id.as_str()));
        let mut said: Vec<_> = theirs.map(said).collect();
        said.sort();
        said
    }
}

fn said(limit: &Limit) -> String {
    assert_eq!(limit.scope.as_str(), "user");
    format!("{}:{}:{}:{}", limit.measure.as_str(), limit.period.as_str(), limit.amount, limit.policy.as_str())
}

async fn whoever_has_a_plan_has_its_limits(Scratch { store, .. }: Scratch) {
    let birds = Birds::with_a_free_plan(&store).await;
    birds.give(&birds.alice, Some("free")).await.expect("given");
    assert_eq!(birds.limits(&birds.alice).await, ["micros:month:1000000:block", "requests:day:20:block"]);
    assert!(birds.limits(&birds.bob).await.is_empty());
    let account = store.read().await.expect("read").find_account(&birds.alice.id).await.expect("found").expect("alice");
    let free = find_plan(&store, &org(), "free").await.expect("free");
    assert_eq!(account.plan.as_ref(), Some(&free.id));
    assert_eq!(limits_of(&free).expect("limits").len(), 2);
    // Given once more, nothing changes.
    let before = store.read().await.expect("read").limits_revision().await.expect("a revision");
    birds.give(&birds.alice, Some("free")).await.expect("given again");
    assert_eq!(store.read().await.expect("read").limits_revision().await.expect("a revision"), before);
    birds.give(&birds.alice, None).await.expect("taken away");
    assert!(birds.limits(&birds.alice).await.is_empty());
    birds.give(&birds.alice, Some("free")).await.expect("given again after that");
    assert_eq!(birds.limits(&birds.alice).await.len(), 2);
    let nobody = birds.give(&birds.alice, Some("gold")).await;
    assert!(matches!(nobody, Err(PlanError::NoPlan(_))));
}

async fn a_changed_plan_is_changed_for_everybody_at_once(Scratch { store, .. }: Scratch) {
    let birds = Birds::with_a_free_plan(&store).await;
    for user in [&birds.alice, &birds.bob] {
        birds.give(user, Some("free")).await.expect("given");
    }
    let ids = |limits: Vec<Limit>| {
        let mut ids: Vec<_> =
            limits.into_iter().filter(|l| l.measure == Measure::Requests).map(|l| l.id.to_string()).collect();
        ids.sort();
        ids
    };
    let before = ids(store.read().await.expect("read").list_limits(&org()).await.expect("limits"));
    let new = [own(Measure::Requests, Period::Day, 30), own(Measure::Tokens, Period::Week, 9)];
    birds.set("free", &new).await.expect("changed");
    for user in [&birds.alice, &birds.bob] {
        assert_eq!(birds.limits(user).await, ["requests:day:30:block", "tokens:week:9:block"]);
    }
    let after = ids(store.read().await.expect("read").list_limits(&org()).await.expect("limits"));
    assert_eq!(before, after, "a limit that is raised is the same limit, with what was used of it");
}

async fn another_plan_takes_the_place_of_the_first(Scratch { store, .. }: Scratch) {
    let birds = Birds::with_a_free_plan(&store).await;
    birds.add("paid", &[own(Measure::Micros, Period::Month, 20_000_000)]).await.expect("a plan");
    assert!(matches!(birds.add("paid", &[]).await, Err(PlanError::Taken(_))));
    birds.give(&birds.alice, Some("free")).await.expect("given");
    birds.give(&birds.bob, Some("free")).await.expect("given");
    birds.give(&birds.alice, Some("paid")).await.expect("given");
    assert_eq!(birds.limits(&birds.alice).await, ["micros:month:20000000:block"]);
    // What becomes of the free plan is nothing to her from now on.
    birds.set("free", &[own(Measure::Micros, Period::Month, 5)]).await.expect("changed");
    assert_eq!(birds.limits(&birds.alice).await, ["micros:month:20000000:block"]);
    assert_eq!(birds.limits(&birds.bob).await, ["micros:month:5:block"]);
}

async fn a_removed_plan_limits_nobody(Scratch { store, .. }: Scratch) {
    let birds = Birds::with_a_free_plan(&store).await;
    for user in [&birds.alice, &birds.bob] {
        birds.give(user, Some("free")).await.expect("given");
    }
    remove_plan(&store, &birds.pen(), &org(), "free").await.expect("removed");
    for user in [&birds.alice, &birds.bob] {
        assert!(birds.limits(user).await.is_empty());
        let account = store.read().await.expect("read").find_account(&user.id).await.expect("found").expect("somebody");
        assert_eq!(account.plan, None);
    }
    let again = remove_plan(&store, &birds.pen(), &org(), "free").await;
    assert!(matches!(again, Err(PlanError::NoPlan(_))));
}

async fn a_plan_stays_in_its_organisation(Scratch { store, .. }: Scratch) {
    let birds = Birds::with_a_free_plan(&store).await;
    birds.give(&birds.alice, Some("free")).await.expect("given");
    let fish = add_org(&store, &birds.salon.clock, &birds.pen(), "Fish", "UTC").await.expect("an organisation").id;
    let change = UserChange { org: Some(fish.clone()), ..UserChange::default() };
    let alice = people::set_user(&store, &birds.pen(), &birds.alice.id, change).await.expect("moved");
    assert!(birds.limits(&alice).await.is_empty(), "the birds' plan is nothing to a fish");
    let theirs = birds.give(&alice, Some("free")).await;
    assert!(matches!(theirs, Err(PlanError::NoPlan(_))));
    let account = store.read().await.expect("read").find_account(&alice.id).await.expect("found").expect("alice");
    assert_eq!(account.plan, None);
}

async fn a_plan_comes_along_where_a_chat_is_linked(Scratch { store, .. }: Scratch) {
    let birds = Birds::with_a_free_plan(&store).await;
    birds.add("gold", &[own(Measure::Requests, Period::Day, 99)]).await.expect("a plan");
    let salon = &birds.salon;
    // Whoever only ever spoke in Telegram, and what is made of them by a code of somebody's.
    let speaks = async |telegram: i64| {
        let args = (telegram, UserId::new(salon.clock.id()), salon.pen(Actor::Salon));
        let made = store.write(args, |tx, (telegram, id, pen)| {
            Box::pin(async move { people::person_of_telegram(tx, pen, *telegram, "Chat", id, pen.at()).await })
        });
        made.await.expect("somebody")
    };
    let links = async |user: &User, telegram: i64| {
        let code = salon.make_code(&user.id).await.expect("a code").word;
        let hash = salon.code_hash(&code).expect("a code");
        let args = (salon.pen(Actor::Guest), hash, telegram, salon.clock.now());
        let linked = store.write(args, |tx, (pen, hash, telegram, now)| {
            Box::pin(passes::link(tx, pen, hash, *telegram, "Chat", *now))
        });
        assert_eq!(linked.await.expect("linking"), Linking::Linked(user.id.clone()));
    };
    let plan_of = async |user: &User| {
        let account = store.read().await.expect("read").find_account(&user.id).await.expect("found").expect("somebody");
        account.plan
    };
    let (free, gold) = (
        find_plan(&store, &org(), "free").await.expect("free").id,
        find_plan(&store, &org(), "gold").await.expect("gold").id,
    );
    let (one, two) = (speaks(7).await, speaks(8).await);
    for chat in [&one, &two] {
        birds.give(chat, Some("free")).await.expect("given");
    }
    birds.give(&birds.alice, Some("gold")).await.expect("given");
    links(&birds.bob, 7).await;
    assert_eq!((plan_of(&birds.bob).await, plan_of(&one).await), (Some(free.clone()), None));
    assert_eq!(birds.limits(&birds.bob).await, ["micros:month:1000000:block", "requests:day:20:block"]);
    assert!(birds.limits(&one).await.is_empty());
    // Who has a plan keeps it.
    links(&birds.alice, 8).await;
    assert_eq!(plan_of(&birds.alice).await, Some(gold));
    assert_eq!(birds.limits(&birds.alice).await, ["requests:day:99:block"]);
    // What came along is changed and taken away like any plan's.
    birds.give(&birds.bob, None).await.expect("taken away");
    assert!(birds.limits(&birds.bob).await.is_empty());
}

async fn a_plan_that_says_nonsense_is_refused(Scratch { store, .. }: Scratch) {
    let birds = Birds::with_a_free_plan(&store).await;
    for limits in [
        vec![own(Measure::Micros, Period::Month, -1)],
        vec![own(Measure::Micros, Period::Month, 1), own(Measure::Micros, Period::Month, 2)],
        vec![own(Measure::Micros, Period::Month, 1); 13],
    ] {
        assert!(matches!(birds.add("odd", &limits).await, Err(PlanError::BadLimit(_))), "{limits:?}");
    }
    assert!(matches!(birds.add(" \n", &[]).await, Err(PlanError::BadName)));
}

async fn plans_stand_in_the_audit(Scratch { store, .. }: Scratch) {
    let birds = Birds::with_a_free_plan(&store).await;
    birds.give(&birds.alice, Some("free")).await.expect("given");
    birds.give(&birds.alice, Some("free")).await.expect("given again");
    birds.set("free", &[]).await.expect("changed");
    remove_plan(&store, &birds.pen(), &org(), "free").await.expect("removed");
    let lines = store.read().await.expect("read").list_audit(&AuditFilter::default(), 100).await.expect("lines");
    let told: Vec<_> =
        lines.iter().rev().map(|line| line.action.as_str()).filter(|action| action.starts_with("plan")).collect();
    assert_eq!(told, ["plan.added", "plan.given", "plan.changed", "plan.removed"]);
}
