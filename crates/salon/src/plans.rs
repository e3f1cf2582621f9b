//! Plans: sets of limits that are given to people, such as free and paid.
//!
//! A plan's limits become limits of whoever has it, so nothing that reserves has to know of plans. Changing a plan changes
//! them for everybody who has it, in the same transaction; what was used of them stays used.

use salon_core::limit::{Limit, Measure, Period, Policy, Scope};
use salon_core::{LimitId, OrgId, Time, User, UserId};
use salon_store::{Error, Plan, Store, Terms, Tx};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error as ThisError;

use crate::access::issue::OwnLimit;
use crate::audit::{Action, Deed, Pen, note};
use crate::clock::Clock;
use crate::people::{self, PeopleError};

/// Limits that a plan may have.
const MOST_LIMITS: usize = 12;
const MOST_PLANS: usize = 100;

#[derive(Debug, ThisError)]
pub enum PlanError {
    #[error("There is no plan {0}.")]
    NoPlan(String),
    #[error("There is a plan called {0}.")]
    Taken(String),
    #[error("A plan's name has 1 to 200 characters, without line breaks.")]
    BadName,
    #[error("This is no limit: {0}.")]
    BadLimit(&'static str),
    #[error("There are {MOST_PLANS} plans already. Remove some first.")]
    TooMany,
    #[error("There is nobody of this id.")]
    Nobody,
    #[error(transparent)]
    Store(#[from] Error),
}

impl From<PeopleError> for PlanError {
    fn from(error: PeopleError) -> PlanError {
        match error {
            PeopleError::Store(error) => PlanError::Store(error),
            _ => PlanError::BadName,
        }
    }
}

/// A limit as it stands in a plan's body.
#[derive(Serialize, Deserialize)]
struct Written {
    measure: String,
    period: String,
    amount: i64,
    policy: String,
    thresholds: Vec<i64>,
}

/// What a plan limits.
pub fn limits_of(plan: &Plan) -> Result<Vec<OwnLimit>, Error> {
    let unknown = || Error::from(anyhow::anyhow!("the plan {} says what this program does not know", plan.id));
    let written: Vec<Written> = serde_json::from_str(&plan.body).map_err(|_| unknown())?;
    let read = written.into_iter().map(|written| {
        Some(OwnLimit {
            measure: Measure::parse(&written.measure)?,
            period: Period::parse(&written.period)?,
            terms: Terms {
                amount: written.amount,
                policy: Policy::parse(&written.policy)?,
                thresholds: written.thresholds,
            },
        })
    });
    read.collect::<Option<Vec<OwnLimit>>>().ok_or_else(unknown)
}

fn body(limits: &[OwnLimit]) -> Result<String, PlanError> {
    if limits.len() > MOST_LIMITS {
        return Err(PlanError::BadLimit("a plan has at most twelve"));
    }
    for (at, limit) in limits.iter().enumerate() {
        if let Some(fault) = salon_core::limit::fault_of(limit.terms.amount, &limit.terms.thresholds) {
            return Err(PlanError::BadLimit(fault));
        }
        if limits[..at].iter().any(|other| (other.measure, other.period) == (limit.measure, limit.period)) {
            return Err(PlanError::BadLimit("there are two for the same measure and period"));
        }
    }
    let written = limits.iter().map(|limit| Written {
        measure: limit.measure.as_str().to_owned(),
        period: limit.period.as_str().to_owned(),
        amount: limit.terms.amount,
        policy: limit.terms.policy.as_str().to_owned(),
        thresholds: limit.terms.thresholds.clone(),
    });
    let text = serde_json::to_string(&written.collect::<Vec<_>>()).map_err(anyhow::Error::new);
    Ok(text.map_err(Error::from)?)
}

pub async fn add_plan(
    store: &Store,
    clock: &Clock,
    pen: &Pen,
    org: &OrgId,
    name: &str,
    limits: &[OwnLimit],
) -> Result<Plan, PlanError> {
    let now = clock.now();
    let plan = Plan {
        id: clock.id(),
        org: org.clone(),
        name: people::name(name)?,
        body: body(limits)?,
        created_at: now,
        changed_at: now,
    };
    if store.read().await?.list_plans(org).await?.len() >= MOST_PLANS {
        return Err(PlanError::TooMany);
    }
    let added = store.write((plan.clone(), pen.clone()), |tx, (plan, pen)| {
        Box::pin(async move {
            let added = tx.add_plan(plan).await?;
            if added {
                note(tx, pen, deed(Action::PlanAdded, plan)).await?;
            }
            Ok(added)
        })
    });
    if added.await? { Ok(plan) } else { Err(PlanError::Taken(plan.name)) }
}

/// Changes a plan, for everybody who has it at once. What is `None` stays.
pub async fn set_plan(
    store: &Store,
    clock: &Clock,
    pen: &Pen,
    org: &OrgId,
    word: &str,
    name: Option<&str>,
    limits: Option<&[OwnLimit]>,
) -> Result<Plan, PlanError> {
    let mut plan = find_plan(store, org, word).await?;
    if let Some(text) = name {
        plan.name = people::name(text)?;
    }
    if let Some(limits) = limits {
        plan.body = body(limits)?;
    }
    plan.changed_at = clock.now();
    let own = limits_of(&plan)?;
    let args = (plan.clone(), own, clock.id(), pen.clone());
    let set = store.write(args, |tx, (plan, own, seed, pen)| {
        Box::pin(async move {
            // Before anybody is given it, or loses it.
            tx.hold_plans().await?;
            if !tx.set_plan(plan).await? {
                return Ok(false);
            }
            let users = tx.list_users_of_plan(&plan.id).await?;
            for (n, user) in users.iter().enumerate() {
                let seed = format!("{seed}-{n}");
                become_like(tx, &plan.org, user, Some((plan.id.as_str(), own)), &seed, plan.changed_at).await?;
            }
            note(tx, pen, deed(Action::PlanChanged, plan)).await?;
            Ok(true)
        })
    });
    if set.await? { Ok(plan) } else { Err(PlanError::Taken(plan.name)) }
}

/// Removes a plan. Those who had it have no plan, and none of its limits.
pub async fn remove_plan(store: &Store, pen: &Pen, org: &OrgId, word: &str) -> Result<Plan, PlanError> {
    let plan = find_plan(store, org, word).await?;
    let removed = store.write((plan.clone(), pen.clone()), |tx, (plan, pen)| {
        Box::pin(async move {
            tx.hold_plans().await?;
            if !tx.remove_plan(&plan.org, &plan.id).await? {
                return Ok(false);
            }
            for user in tx.list_users_of_plan(&plan.id).await? {
                become_like(tx, &plan.org, &user, None, "", pen.at()).await?;
                tx.set_plan_of_user(&user, None).await?;
            }
            note(tx, pen, deed(Action::PlanRemoved, plan)).await?;
            Ok(true)
        })
    });
    if removed.await? { Ok(plan) } else { Err(PlanError::NoPlan(word.to_owned())) }
}

/// Gives somebody a plan of their organisation, in the place of the one that they had; or takes it away.
pub async fn give_plan(
    store: &Store,
    clock: &Clock,
    pen: &Pen,
    user: &User,
    word: Option<&str>,
) -> Result<Option<Plan>, PlanError> {
    let plan = match word {
        Some(word) => Some(find_plan(store, &user.org, word).await?),
        None => None,
    };
    let args = (user.id.clone(), plan.clone(), clock.id(), pen.clone());
    let given = store.write(args, |tx, (user, plan, seed, pen)| Box::pin(give(tx, user, plan.as_ref(), seed, pen)));
    given.await??;
    Ok(plan)
}

async fn give(
    tx: &mut Tx,
    user: &UserId,
    plan: Option<&Plan>,
    seed: &str,
    pen: &Pen,
) -> salon_store::Result<Result<(), PlanError>> {
    tx.hold_plans().await?;
    let Some(known) = tx.find_account(user).await? else { return Ok(Err(PlanError::Nobody)) };
    let org = &known.user.org;
    // As it stands now: it may have been changed, or removed, since it was looked at.
    let plan = match plan {
        Some(plan) => match tx.find_plan(org, &plan.id).await? {
            Some(plan) => Some(plan),
            None => return Ok(Err(PlanError::NoPlan(plan.name.clone()))),
        },
        None => None,
    };
    let own = plan.as_ref().map(limits_of).transpose()?;
    let wanted = plan.as_ref().map(|plan| plan.id.as_str()).zip(own.as_deref());
    become_like(tx, org, user, wanted, seed, pen.at()).await?;
    let id = plan.as_ref().map(|plan| plan.id.as_str());
    tx.set_plan_of_user(user, id).await?;
    if known.plan.as_deref() != id {
        note(tx, pen, Deed::new(Action::PlanGiven, org, user).with(json!({ "plan": [known.plan, id] }))).await?;
    }
    Ok(Ok(()))
}

/// Takes somebody's plan away who leaves its organisation. In the caller's transaction.
pub(crate) async fn leave(tx: &mut Tx, org: &OrgId, user: &UserId, now: Time) -> salon_store::Result<()> {
    tx.hold_plans().await?;
    become_like(tx, org, user, None, "", now).await?;
    tx.set_plan_of_user(user, None).await?;
    Ok(())
}

/// Makes the limits that plans gave somebody those of this plan. What is the same stays, with what was used of it.
async fn become_like(
    tx: &mut Tx,
    org: &OrgId,
    user: &UserId,
    plan: Option<(&str, &[OwnLimit])>,
    seed: &str,
    now: Time,
) -> salon_store::Result<()> {
    let (id, wanted) = plan.unwrap_or(("", &[]));
    let mut left: Vec<&OwnLimit> = wanted.iter().collect();
    for known in tx.list_limits_by_plan(org, user).await? {
        let at = left.iter().position(|own| (own.measure, own.period) == (known.measure, known.period));
        match at.map(|at| left.swap_remove(at)) {
            None => drop(tx.remove_limit(org, &known.id, now).await?),
            Some(own) => {
                let terms = Terms { amount: known.amount, policy: known.policy, thresholds: known.thresholds };
                if terms != own.terms {
                    tx.change_limit(org, &known.id, &own.terms, now).await?;
                }
                tx.set_plan_of_limit(&known.id, id).await?;
            }
        }
    }
    for (n, own) in left.into_iter().enumerate() {
        let limit = Limit {
            id: LimitId::new(format!("{seed}-{n}")),
            org: org.clone(),
            scope: Scope::User,
            subject: Some(user.to_string()),
            measure: own.measure,
            period: own.period,
            amount: own.terms.amount,
            policy: own.terms.policy,
            thresholds: own.terms.thresholds.clone(),
        };
        tx.add_limit(&limit, now).await?;
        tx.set_plan_of_limit(&limit.id, id).await?;
    }
    Ok(())
}

/// A plan of an organisation by id or name.
pub async fn find_plan(store: &Store, org: &OrgId, word: &str) -> Result<Plan, PlanError> {
    let plans = store.read().await?.list_plans(org).await?;
    let by_id = plans.iter().find(|plan| plan.id.eq_ignore_ascii_case(word));
    let found = by_id.or_else(|| plans.iter().find(|plan| plan.name == word));
    found.cloned().ok_or_else(|| PlanError::NoPlan(word.to_owned()))
}

fn deed(action: Action, plan: &Plan) -> Deed {
    let limits: serde_json::Value = serde_json::from_str(&plan.body).unwrap_or_default();
    Deed::new(action, &plan.org, &plan.id).with(json!({ "name": plan.name, "limits": limits }))
}
