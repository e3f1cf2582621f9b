//! Limits of the organisation and how full they are, and the calls that wait for a yes because of one.

use std::collections::HashMap;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use salon_core::limit::{Limit, Measure, Period, Policy, Scope, THRESHOLDS, percent};
use salon_core::{CallId, LimitId, UserId};
use salon_store::Terms;
use salon_store::ledger::{Call, LimitUse};
use serde::Deserialize;

use super::Said;
use super::clerk::Desk;
use crate::Web;
use crate::site::chart::meter;
use crate::site::door::Nothing;
use crate::site::shell::{Field, Shell, page as shown, page_as};
use crate::site::usage::quantity;
use crate::site::visitor::Filled;
use crate::site::{refuse, see};

/// Accounts that are shown of a limit for each: the fullest.
const FULLEST: i64 = 5;
const HELD: i64 = 200;

#[derive(Template)]
#[template(path = "desk/limits.html")]
struct LimitsPage {
    shell: Shell,
    limits: Vec<Kept>,
    people: Vec<(UserId, String)>,
    form: LimitFields,
}

#[derive(Template)]
#[template(path = "desk/held.html")]
struct HeldPage {
    shell: Shell,
    held: Vec<(Call, Option<String>)>,
}

/// A limit as the list shows it.
struct Kept {
    limit: Limit,
    /// Whom it is about.
    subject: Option<String>,
    amount: String,
    /// The amount as it is entered.
    entered: Field,
    accounts: Vec<Full>,
}

/// How full a limit is for one of those whom it is about.
struct Full {
    who: String,
    taken: String,
    percent: i64,
    meter: String,
}

#[derive(Default)]
struct LimitFields {
    scope: String,
    subject: Field,
    measure: String,
    period: String,
    amount: Field,
    policy: String,
}

impl LimitsPage {
    fn scopes(&self) -> [&'static str; 5] {
        ["org", "user", "chat", "key", "run"]
    }

    fn measures(&self) -> [&'static str; 3] {
        Measure::ALL.map(Measure::as_str)
    }

    fn periods(&self) -> [&'static str; 4] {
        ["day", "week", "month", "total"]
    }

    fn policies(&self) -> [&'static str; 4] {
        POLICIES
    }
}

const POLICIES: [&str; 4] = ["block", "warn", "ask", "hard"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    subject: String,
    done: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitForm {
    #[serde(rename = "seal")]
    _seal: String,
    scope: String,
    #[serde(default)]
    subject: String,
    measure: String,
    period: String,
    amount: String,
    policy: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TermsForm {
    #[serde(rename = "seal")]
    _seal: String,
    amount: String,
    policy: String,
}

pub(crate) async fn page(State(web): State<Web>, Query(asked): Query<Asked>, desk: Desk) -> Said {
    let shell = desk.noticing("limits", asked.done.as_deref());
    let form = LimitFields {
        scope: if asked.subject.is_empty() { "org" } else { "user" }.to_owned(),
        subject: Field::of(asked.subject.clone()),
        measure: "micros".to_owned(),
        period: "month".to_owned(),
        policy: "block".to_owned(),
        amount: Field::default(),
    };
    let about = Some(asked.subject.as_str()).filter(|subject| !subject.is_empty());
    Ok(shown(&look(&web, &desk, shell, form, about).await?))
}

async fn look(
    web: &Web,
    desk: &Desk,
    shell: Shell,
    form: LimitFields,
    about: Option<&str>,
) -> Result<LimitsPage, Response> {
    let looked = async {
        let mut tx = web.relay.book.read().await?;
        Ok((tx.list_limit_uses(&desk.org.id, desk.now, FULLEST).await?, tx.names_of(&desk.org.id).await?))
    };
    let looked: Result<_, salon_store::Error> = looked.await;
    let (uses, people) = looked.map_err(|error| desk.broken(&error))?;
    let names: HashMap<&str, &str> = people.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
    let is_about = |used: &&LimitUse| {
        about.is_none_or(|about| {
            used.limit.scope == Scope::User && used.limit.subject.as_deref().is_none_or(|subject| subject == about)
        })
    };
    let limits = uses.iter().filter(is_about).map(|used| kept(used, &names)).collect();
    Ok(LimitsPage { shell, limits, form, people })
}

fn kept(used: &LimitUse, names: &HashMap<&str, &str>) -> Kept {
    let limit = &used.limit;
    let called = |subject: &str| names.get(subject).map_or_else(|| subject.to_owned(), |name| (*name).to_owned());
    let account = |account: &salon_store::ledger::Account| {
        let taken = account.reserved.saturating_add(account.spent);
        let shown = quantity(limit.measure, taken);
        Full {
            who: called(&account.key.holder.subject),
            percent: percent(taken, limit.amount),
            meter: meter(taken as f64 / limit.amount.max(1) as f64, &shown),
            taken: shown,
        }
    };
    Kept {
        subject: limit.subject.as_deref().map(called),
        amount: quantity(limit.measure, limit.amount),
        entered: Field::of(match limit.measure {
            Measure::Micros => salon_core::Micros(limit.amount).to_string(),
            Measure::Tokens | Measure::Requests => limit.amount.to_string(),
        }),
        accounts: used.accounts.iter().map(account).collect(),
        limit: limit.clone(),
    }
}

/// A word that our own forms do not offer.
fn strange(desk: &Desk) -> Response {
    refuse(&desk.shell("limits"), StatusCode::UNPROCESSABLE_ENTITY, "other")
}

pub(crate) async fn add(State(web): State<Web>, Filled(desk, form): Filled<Desk, LimitForm>) -> Said {
    desk.admin()?;
    let scope = Scope::parse(&form.scope).ok_or_else(|| strange(&desk))?;
    let measure = Measure::parse(&form.measure).ok_or_else(|| strange(&desk))?;
    let period = Period::parse(&form.period).ok_or_else(|| strange(&desk))?;
    let policy = Policy::parse(&form.policy).ok_or_else(|| strange(&desk))?;
    let subject = Some(form.subject.trim().to_owned()).filter(|subject| !subject.is_empty() && scope != Scope::Org);
    let amount = measure.parse_amount(form.amount.trim()).filter(|amount| *amount >= 0);
    // Of people it must be one of theirs: somebody else's is not there.
    let is_theirs = match (&subject, scope) {
        (Some(subject), Scope::User) => {
            let found = async {
                web.salon.store.read().await?.find_person(&desk.org.id, &UserId::new(subject.as_str()), desk.now).await
            };
            found.await.map_err(|error| desk.broken(&error))?.is_some()
        }
        _ => true,
    };
    let mut bad_subject = !is_theirs;
    if let (Some(amount), true) = (amount, is_theirs) {
        let limit = Limit {
            id: LimitId::new(web.salon.clock.id()),
            org: desk.org.id.clone(),
            scope,
            subject,
            measure,
            period,
            amount,
            policy,
            thresholds: THRESHOLDS.to_vec(),
        };
        if limit.fault().is_none() {
            web.relay.book.add_limit(limit, &desk.pen(&web)).await.map_err(|error| desk.broken(&error))?;
            return Ok(see("/admin/limits?done=limit_added"));
        }
        bad_subject = true;
    }
    let shell = desk.shell("limits");
    let fields = LimitFields {
        scope: form.scope,
        subject: Field { value: form.subject, wrong: bad_subject.then(|| shell.t("desk.wrong.subject")) },
        measure: form.measure,
        period: form.period,
        amount: Field { value: form.amount, wrong: amount.is_none().then(|| shell.t("desk.wrong.amount")) },
        policy: form.policy,
    };
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &look(&web, &desk, shell, fields, None).await?))
}

pub(crate) async fn change(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, form): Filled<Desk, TermsForm>,
) -> Said {
    desk.admin()?;
    let id = LimitId::new(id);
    let known = async { web.salon.store.read().await?.find_limit(&desk.org.id, &id).await };
    let known = known.await.map_err(|error| desk.broken(&error))?.ok_or_else(|| desk.missing())?;
    let policy = Policy::parse(&form.policy).ok_or_else(|| strange(&desk))?;
    let Some(amount) = known.measure.parse_amount(form.amount.trim()).filter(|amount| *amount >= 0) else {
        let shell = desk.shell("limits");
        let wrong = Some(shell.t("desk.wrong.amount"));
        let mut page = look(&web, &desk, shell, LimitFields::default(), None).await?;
        if let Some(kept) = page.limits.iter_mut().find(|kept| kept.limit.id == id) {
            kept.entered = Field { value: form.amount, wrong };
        }
        return Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page));
    };
    let terms = Terms { amount, policy, thresholds: known.thresholds };
    let changed = web.relay.book.change_limit(&desk.org.id, &id, terms, &desk.pen(&web)).await;
    match changed.map_err(|error| desk.broken(&error))? {
        true => Ok(see("/admin/limits?done=saved")),
        false => Err(desk.missing()),
    }
}

pub(crate) async fn remove(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    desk.admin()?;
    let removed = web.relay.book.remove_limit(&desk.org.id, &LimitId::new(id), &desk.pen(&web)).await;
    match removed.map_err(|error| desk.broken(&error))? {
        true => Ok(see("/admin/limits?done=removed")),
        false => Err(desk.missing()),
    }
}

pub(crate) async fn held_page(State(web): State<Web>, Query(asked): Query<Asked>, desk: Desk) -> Said {
    let shell = desk.noticing("held", asked.done.as_deref());
    let looked = async {
        let mut tx = web.salon.store.read().await?;
        Ok((tx.list_held(&desk.org.id, None, HELD).await?, tx.names_of(&desk.org.id).await?))
    };
    let looked: Result<_, salon_store::Error> = looked.await;
    let (held, names) = looked.map_err(|error| desk.broken(&error))?;
    let names: HashMap<UserId, String> = names.into_iter().collect();
    let held = held.into_iter().map(|call| {
        let name = names.get(&call.payer.user).cloned();
        (call, name)
    });
    Ok(shown(&HeldPage { held: held.collect(), shell }))
}

pub(crate) async fn approve(
    State(web): State<Web>,
    Path(call): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    desk.admin()?;
    let decided = web.relay.book.approve(&desk.org.id, &CallId::new(call), &desk.pen(&web)).await;
    match decided.map_err(|error| desk.broken(&error))? {
        true => Ok(see("/admin/held?done=approved")),
        false => Err(desk.missing()),
    }
}

pub(crate) async fn deny(
    State(web): State<Web>,
    Path(call): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    desk.admin()?;
    let decided = web.relay.book.deny(&desk.org.id, &CallId::new(call), &desk.pen(&web)).await;
    match decided.map_err(|error| desk.broken(&error))? {
        true => Ok(see("/admin/held?done=denied")),
        false => Err(desk.missing()),
    }
}
