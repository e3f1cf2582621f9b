//! Plans: sets of limits by a name, such as free and paid, that are given to people.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use salon::access::issue::OwnLimit;
use salon::plans::{self, PlanError};
use salon_core::limit::{Measure, Period, Policy, THRESHOLDS};
use salon_core::{Micros, UserId};
use salon_store::{Plan, Terms};
use serde::Deserialize;

use super::Said;
use super::clerk::Desk;
use super::overview::Told;
use crate::Web;
use crate::site::door::Nothing;
use crate::site::see;
use crate::site::shell::{Field, Shell, page as shown, page_as};
use crate::site::visitor::Filled;

#[derive(Template)]
#[template(path = "desk/plans.html")]
struct PlansPage {
    shell: Shell,
    plans: Vec<Kept>,
    name: Field,
    limits: Field,
    wrong: Option<String>,
}

/// A plan, its limits as they are entered, and how many have it.
struct Kept {
    plan: Plan,
    limits: String,
    people: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanForm {
    #[serde(rename = "seal")]
    _seal: String,
    name: String,
    limits: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GiveForm {
    #[serde(rename = "seal")]
    _seal: String,
    #[serde(default)]
    plan: String,
}

/// Reads limits, one a line, such as `micros:month:5`, `tokens:day:100000` or `requests:day:50:warn`.
fn read(text: &str) -> Option<Vec<OwnLimit>> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(read_one).collect()
}

fn read_one(line: &str) -> Option<OwnLimit> {
    let mut parts = line.split(':').map(str::trim);
    let measure = Measure::parse(parts.next()?)?;
    let period = Period::parse(parts.next()?)?;
    let amount = measure.parse_amount(parts.next()?)?;
    let policy = parts.next().map_or(Some(Policy::Block), Policy::parse)?;
    let terms = Terms { amount, policy, thresholds: THRESHOLDS.to_vec() };
    parts.next().is_none().then_some(OwnLimit { measure, period, terms })
}

fn write(limit: &OwnLimit) -> String {
    let amount = match limit.measure {
        Measure::Micros => Micros(limit.terms.amount).to_string(),
        Measure::Tokens | Measure::Requests => limit.terms.amount.to_string(),
    };
    let line = format!("{}:{}:{amount}", limit.measure.as_str(), limit.period.as_str());
    match limit.terms.policy {
        Policy::Block => line,
        policy => format!("{line}:{}", policy.as_str()),
    }
}

async fn look(web: &Web, desk: &Desk, shell: Shell) -> Result<PlansPage, Response> {
    let found = async {
        let mut tx = web.salon.store.read().await?;
        let mut kept = Vec::new();
        for plan in tx.list_plans(&desk.org.id).await? {
            let people = tx.list_users_of_plan(&plan.id).await?.len();
            let limits: Vec<String> = plans::limits_of(&plan)?.iter().map(write).collect();
            kept.push(Kept { limits: limits.join("\n"), people, plan });
        }
        Ok(kept)
    };
    let found: Result<_, salon_store::Error> = found.await;
    let plans = found.map_err(|error| desk.broken(&error))?;
    Ok(PlansPage { shell, plans, name: Field::default(), limits: Field::default(), wrong: None })
}

/// What was wrong, in a sentence, and whether the name is to blame.
fn blame(desk: &Desk, shell: &Shell, error: PlanError) -> Result<(String, bool), Response> {
    match error {
        PlanError::Store(error) => Err(desk.broken(&error)),
        PlanError::NoPlan(_) | PlanError::Nobody => Err(desk.missing()),
        PlanError::Taken(_) => Ok((shell.t("desk.wrong.plan_taken"), true)),
        PlanError::BadName => Ok((shell.wrong("bad_name"), true)),
        PlanError::TooMany => Ok((shell.t("desk.wrong.plans"), true)),
        PlanError::BadLimit(_) => Ok((shell.t("desk.wrong.plan_limits"), false)),
    }
}

pub(crate) async fn page(State(web): State<Web>, Query(told): Query<Told>, desk: Desk) -> Said {
    let shell = desk.noticing("plans", told.done.as_deref());
    Ok(shown(&look(&web, &desk, shell).await?))
}

pub(crate) async fn add(State(web): State<Web>, Filled(desk, form): Filled<Desk, PlanForm>) -> Said {
    desk.admin()?;
    let shell = desk.shell("plans");
    let salon = &web.salon;
    let (why, at_name) = match read(&form.limits) {
        None => (shell.t("desk.wrong.plan_limits"), false),
        Some(limits) => {
            let pen = desk.pen(&web);
            match plans::add_plan(&salon.store, &salon.clock, &pen, &desk.org.id, &form.name, &limits).await {
                Ok(_) => return Ok(see("/admin/plans?done=saved")),
                Err(error) => blame(&desk, &shell, error)?,
            }
        }
    };
    let mut page = look(&web, &desk, shell).await?;
    page.name = Field { value: form.name, wrong: Some(why.clone()).filter(|_| at_name) };
    page.limits = Field { value: form.limits, wrong: Some(why).filter(|_| !at_name) };
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

/// One of the organisation's plans by its id. Others are not there.
async fn find(web: &Web, desk: &Desk, id: &str) -> Result<Plan, Response> {
    let found = async { web.salon.store.read().await?.find_plan(&desk.org.id, id).await };
    found.await.map_err(|error| desk.broken(&error))?.ok_or_else(|| desk.missing())
}

pub(crate) async fn change(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, form): Filled<Desk, PlanForm>,
) -> Said {
    desk.admin()?;
    let plan = find(&web, &desk, &id).await?;
    let shell = desk.shell("plans");
    let salon = &web.salon;
    let (why, _) = match read(&form.limits) {
        None => (shell.t("desk.wrong.plan_limits"), false),
        Some(limits) => {
            let (pen, name) = (desk.pen(&web), Some(form.name.as_str()));
            let set = plans::set_plan(&salon.store, &salon.clock, &pen, &desk.org.id, &plan.id, name, Some(&limits));
            match set.await {
                Ok(_) => return Ok(see("/admin/plans?done=saved")),
                Err(error) => blame(&desk, &shell, error)?,
            }
        }
    };
    let mut page = look(&web, &desk, shell).await?;
    page.wrong = Some(format!("{}: {why}", form.name));
    if let Some(kept) = page.plans.iter_mut().find(|kept| kept.plan.id == plan.id) {
        kept.limits = form.limits;
    }
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

pub(crate) async fn remove(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    desk.admin()?;
    let plan = find(&web, &desk, &id).await?;
    match plans::remove_plan(&web.salon.store, &desk.pen(&web), &desk.org.id, &plan.id).await {
        Ok(_) => Ok(see("/admin/plans?done=removed")),
        Err(PlanError::Store(error)) => Err(desk.broken(&error)),
        Err(_) => Err(desk.missing()),
    }
}

/// Gives somebody a plan, in the place of the one that they had; or takes it away.
pub(crate) async fn give(
    State(web): State<Web>,
    Path(user): Path<String>,
    Filled(desk, form): Filled<Desk, GiveForm>,
) -> Said {
    desk.admin()?;
    let id = UserId::new(user);
    let found = async { web.salon.store.read().await?.find_account(&id).await };
    let account = found.await.map_err(|error| desk.broken(&error))?;
    let account = account.filter(|account| account.user.org == desk.org.id).ok_or_else(|| desk.missing())?;
    let word = match form.plan.as_str() {
        "" => None,
        plan => Some(find(&web, &desk, plan).await?.id),
    };
    let salon = &web.salon;
    match plans::give_plan(&salon.store, &salon.clock, &desk.pen(&web), &account.user, word.as_deref()).await {
        Ok(_) => Ok(see(&format!("/admin/users/{id}?done=saved"))),
        Err(PlanError::Store(error)) => Err(desk.broken(&error)),
        Err(_) => Err(desk.missing()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_they_are_read() {
        let text = "micros:month:12.50\ntokens:day:100000\nrequests:day:50:warn";
        let limits = read(text).expect("limits");
        assert_eq!(limits.iter().map(write).collect::<Vec<_>>().join("\n"), text);
        for bad in ["micros", "money:month:5", "micros:month:x", "micros:month:5:never", "micros:month:5:warn:x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read(" \n"), Some(Vec::new()));
    }
}
