//! One person: who they are, what they may do, what they have open, what they used.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use salon::access::issue::{IssueError, Maker, revoke_key};
use salon::logins::NotIn;
use salon::people::{PeopleError, UserChange, remove_user, set_reach, set_user};
use salon_core::scopes::{Allowed, Pattern};
use salon_core::{KeyId, UserId};
use salon_store::ledger::{ModelUsage, UsageFilter};
use salon_store::{Account, ApiKey, Link, Login, Person, Plan};
use serde::Deserialize;

use super::Said;
use super::clerk::Desk;
use super::people::{is_self, month, read_role};
use crate::Web;
use crate::site::door::Nothing;
use crate::site::see;
use crate::site::shell::{Field, Shell, page as shown, page_as};
use crate::site::visitor::Filled;

const MODELS: i64 = 20;

#[derive(Template)]
#[template(path = "desk/person.html")]
struct PersonPage {
    shell: Shell,
    person: Person,
    is_self: bool,
    links: Vec<Link>,
    logins: Vec<Login>,
    keys: Vec<ApiKey>,
    models: Vec<ModelUsage>,
    name: Field,
    email: Field,
    role: String,
    role_wrong: Option<String>,
    until: Field,
    allowed: Field,
    can_log_in: bool,
    plans: Vec<Plan>,
    fresh: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeForm {
    #[serde(rename = "seal")]
    _seal: String,
    name: String,
    email: String,
    role: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReachForm {
    #[serde(rename = "seal")]
    _seal: String,
    until: String,
    models: String,
}

/// Somebody of the organisation that is looked after. Others are not there.
async fn find(web: &Web, desk: &Desk, id: &str) -> Result<(Person, Account), Response> {
    let id = UserId::new(id);
    let found = async {
        let mut tx = web.salon.store.read().await?;
        let Some(person) = tx.find_person(&desk.org.id, &id, month(desk)).await? else { return Ok(None) };
        Ok(tx.find_account(&id).await?.map(|account| (person, account)))
    };
    let found: Result<_, salon_store::Error> = found.await;
    found.map_err(|error| desk.broken(&error))?.ok_or_else(|| desk.missing())
}

fn path(person: &Person) -> String {
    format!("/admin/users/{}", person.id)
}

pub(crate) async fn page(
    State(web): State<Web>,
    Path(id): Path<String>,
    Query(told): Query<super::overview::Told>,
    desk: Desk,
) -> Said {
    let (person, account) = find(&web, &desk, &id).await?;
    let shell = desk.noticing("users", told.done.as_deref());
    Ok(shown(&look(&web, &desk, shell, person, account).await?))
}

async fn look(web: &Web, desk: &Desk, shell: Shell, person: Person, account: Account) -> Result<PersonPage, Response> {
    let mut filter = UsageFilter::of(desk.org.id.clone(), month(desk), desk.now);
    filter.user = Some(person.id.clone());
    let looked = async {
        let mut tx = web.relay.book.read().await?;
        let links = tx.list_links(&person.id).await?;
        let logins = tx.list_logins(&person.id).await?;
        let mut keys = tx.list_api_keys(Some(&person.id)).await?;
        keys.retain(|key| key.revoked_at.is_none());
        let models = tx.usage_by_model(&filter, MODELS).await?;
        let plans = tx.list_plans(&desk.org.id).await?;
        Ok((links, logins, keys, models, plans))
    };
    let looked: Result<_, salon_store::Error> = looked.await;
    let (links, logins, keys, models, plans) = looked.map_err(|error| desk.broken(&error))?;
    Ok(PersonPage {
        is_self: is_self(&desk.visit, person.id.as_str()),
        links,
        logins,
        keys,
        models,
        plans,
        name: Field::of(person.name.clone()),
        email: Field::of(person.email.clone().unwrap_or_default()),
        role: person.role.to_string(),
        role_wrong: None,
        until: Field::of(person.until.map_or_else(String::new, |at| shell.zone.day(at))),
        allowed: Field::of(account.models.clone().unwrap_or_default()),
        can_log_in: account.password.is_some(),
        fresh: None,
        person,
        shell,
    })
}

/// Shows the page again with what is wrong.
async fn again(
    web: &Web,
    desk: &Desk,
    person: Person,
    account: Account,
    fill: impl FnOnce(&Shell, &mut PersonPage),
) -> Said {
    let shell = desk.shell("users");
    let mut page = look(web, desk, shell.clone(), person, account).await?;
    fill(&shell, &mut page);
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

pub(crate) async fn change(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, form): Filled<Desk, ChangeForm>,
) -> Said {
    desk.admin()?;
    let (person, account) = find(&web, &desk, &id).await?;
    let role = read_role(&desk, &form.role)?;
    if role != person.role {
        desk.proven(&path(&person))?;
    }
    let email = form.email.trim();
    let change = UserChange {
        name: Some(form.name.clone()),
        email: Some(Some(email.to_owned()).filter(|email| !email.is_empty())),
        role: Some(role),
        ..UserChange::default()
    };
    let error = match set_user(&web.salon.store, &desk.pen(&web), &person.id, change).await {
        Ok(_) => return Ok(see(&format!("{}?done=saved", path(&person)))),
        Err(PeopleError::Store(error)) => return Err(desk.broken(&error)),
        Err(error) => error,
    };
    again(&web, &desk, person, account, |shell, page| {
        page.name = Field::of(form.name);
        page.email = Field::of(form.email);
        page.role = form.role;
        match error {
            PeopleError::BadName => page.name.wrong = Some(shell.wrong("bad_name")),
            PeopleError::BadEmail(_) => page.email.wrong = Some(shell.wrong("bad_email")),
            PeopleError::LastAdmin => page.role_wrong = Some(shell.t("desk.wrong.last_admin")),
            _ => page.role_wrong = Some(shell.wrong("other")),
        }
    })
    .await
}

/// Blocks somebody, or lets them in again. What they have open ends at once.
pub(crate) async fn toggle(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    desk.admin()?;
    let (person, account) = find(&web, &desk, &id).await?;
    let change = UserChange { active: Some(!person.active), ..UserChange::default() };
    let done = if person.active { "blocked" } else { "unblocked" };
    match set_user(&web.salon.store, &desk.pen(&web), &person.id, change).await {
        Ok(_) => Ok(see(&format!("{}?done={done}", path(&person)))),
        Err(PeopleError::Store(error)) => Err(desk.broken(&error)),
        Err(_) => {
            again(&web, &desk, person, account, |shell, page| {
                page.role_wrong = Some(shell.t("desk.wrong.last_admin"));
            })
            .await
        }
    }
}

/// Sets until when somebody may do anything, and by which models they are answered.
pub(crate) async fn reach(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, form): Filled<Desk, ReachForm>,
) -> Said {
    desk.admin()?;
    let (person, account) = find(&web, &desk, &id).await?;
    let until = match form.until.trim() {
        "" => Ok(None),
        text => desk.caller.zone.moment(text, desk.now).map(Some).ok_or(()),
    };
    let models = match form.models.trim() {
        "" => Ok(None),
        text => Allowed::<Pattern>::parse(text).map(|_| Some(text.to_owned())).map_err(drop),
    };
    let (Ok(until), Ok(models)) = (&until, &models) else {
        let (bad_until, bad_models) = (until.is_err(), models.is_err());
        return again(&web, &desk, person, account, |shell, page| {
            page.until = Field { value: form.until, wrong: bad_until.then(|| shell.wrong("expires")) };
            page.allowed = Field { value: form.models, wrong: bad_models.then(|| shell.wrong("models")) };
        })
        .await;
    };
    match set_reach(&web.salon.store, &desk.pen(&web), &person.id, *until, models.as_deref()).await {
        Ok(()) => Ok(see(&format!("{}?done=saved", path(&person)))),
        Err(PeopleError::Store(error)) => Err(desk.broken(&error)),
        Err(_) => Err(desk.missing()),
    }
}

/// Gives somebody another password, which stands on this page and nowhere again.
pub(crate) async fn password(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    desk.admin()?;
    let (person, account) = find(&web, &desk, &id).await?;
    desk.proven(&path(&person))?;
    match web.salon.new_password(&desk.pen(&web), &account.user).await {
        Ok(fresh) if is_self(&desk.visit, &id) => {
            // Their own login has ended with it, so there is no page to show it on but this one.
            let mut page = look(&web, &desk, desk.shell("users"), person, account).await?;
            page.fresh = Some(fresh);
            Ok(page_as(StatusCode::CREATED, &page))
        }
        Ok(fresh) => {
            let (person, account) = find(&web, &desk, &id).await?;
            let mut page = look(&web, &desk, desk.shell("users"), person, account).await?;
            page.fresh = Some(fresh);
            Ok(page_as(StatusCode::CREATED, &page))
        }
        Err(NotIn::Store(error)) => Err(desk.broken(&error)),
        Err(not) => {
            again(&web, &desk, person, account, |shell, page| page.email.wrong = Some(shell.wrong(not.code()))).await
        }
    }
}

/// Removes somebody with their keys and secrets. What they spent stays in the ledger, under no name.
pub(crate) async fn remove(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    desk.admin()?;
    let (person, account) = find(&web, &desk, &id).await?;
    desk.proven(&path(&person))?;
    match remove_user(&web.salon.store, &desk.pen(&web), &person.id).await {
        Ok(()) => Ok(see("/admin/users?done=removed")),
        Err(PeopleError::Store(error)) => Err(desk.broken(&error)),
        Err(PeopleError::Nobody(_)) => Err(desk.missing()),
        Err(_) => {
            again(&web, &desk, person, account, |shell, page| {
                page.role_wrong = Some(shell.t("desk.wrong.last_admin"));
            })
            .await
        }
    }
}

pub(crate) async fn end_login(
    State(web): State<Web>,
    Path((id, login)): Path<(String, String)>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    desk.admin()?;
    let (person, _) = find(&web, &desk, &id).await?;
    match web.salon.log_out(&person.id, &login).await {
        Ok(true) => Ok(see(&format!("{}?done=ended", path(&person)))),
        Ok(false) => Err(desk.missing()),
        Err(error) => Err(desk.broken(&error)),
    }
}

pub(crate) async fn revoke(
    State(web): State<Web>,
    Path((id, key)): Path<(String, String)>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    desk.admin()?;
    let (person, _) = find(&web, &desk, &id).await?;
    let key = KeyId::new(key);
    let known = async { web.salon.store.read().await?.find_api_key(&key).await };
    let known = known.await.map_err(|error| desk.broken(&error))?;
    if known.is_none_or(|known| known.user != person.id) {
        return Err(desk.missing());
    }
    match revoke_key(&web.salon.store, &web.salon.clock, &web.salon.keys, Maker::Caller(&desk.caller), &key).await {
        Ok(()) => Ok(see(&format!("{}?done=revoked", path(&person)))),
        Err(IssueError::Store(error)) => Err(desk.broken(&error)),
        Err(_) => Err(desk.missing()),
    }
}
