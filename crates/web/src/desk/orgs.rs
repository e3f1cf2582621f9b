//! Organisations: which there are, and which one is looked after. Only those see them who look after the whole house.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use salon::people::{OrgChange, PeopleError, add_org, set_org};
use salon_core::mask::Mask;
use salon_core::{Org, OrgId};
use serde::Deserialize;

use super::Said;
use super::clerk::{Desk, org_cookie};
use super::overview::Told;
use crate::Web;
use crate::site::door::Nothing;
use crate::site::see;
use crate::site::shell::{Field, Shell, page as shown, page_as};
use crate::site::visitor::Filled;

#[derive(Template)]
#[template(path = "desk/orgs.html")]
struct OrgsPage {
    shell: Shell,
    orgs: Vec<(Org, Mask)>,
    /// The one that is looked after.
    here: OrgId,
    name: Field,
    zone: Field,
    /// Which one the sentence above the list is about.
    wrong: Option<String>,
}

impl OrgsPage {
    fn masks(&self) -> [&'static str; 3] {
        MASKS
    }
}

const MASKS: [&str; 3] = ["off", "logs", "all"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrgForm {
    #[serde(rename = "seal")]
    _seal: String,
    name: String,
    zone: String,
    #[serde(default)]
    mask: String,
}

async fn look(web: &Web, desk: &Desk, shell: Shell) -> Result<OrgsPage, Response> {
    let found = async {
        let mut tx = web.salon.store.read().await?;
        let mut orgs = Vec::new();
        for org in tx.list_orgs().await? {
            let mask = tx.find_mask(&org.id).await?.and_then(|mask| Mask::parse(&mask)).unwrap_or_default();
            orgs.push((org, mask));
        }
        Ok(orgs)
    };
    let found: Result<_, salon_store::Error> = found.await;
    let orgs = found.map_err(|error| desk.broken(&error))?;
    let name = Field::default();
    Ok(OrgsPage { shell, orgs, here: desk.org.id.clone(), name, zone: Field::of("UTC"), wrong: None })
}

/// Only for those who look after the whole house; for others there is no such page.
fn keeper(desk: &Desk) -> Result<(), Response> {
    if desk.shell("orgs").wide { Ok(()) } else { Err(desk.missing()) }
}

pub(crate) async fn page(State(web): State<Web>, Query(told): Query<Told>, desk: Desk) -> Said {
    keeper(&desk)?;
    let shell = desk.noticing("orgs", told.done.as_deref());
    Ok(shown(&look(&web, &desk, shell).await?))
}

pub(crate) async fn add(State(web): State<Web>, Filled(desk, form): Filled<Desk, OrgForm>) -> Said {
    keeper(&desk)?;
    desk.proven("/admin/orgs")?;
    let salon = &web.salon;
    let not = match add_org(&salon.store, &salon.clock, &desk.pen(&web), &form.name, form.zone.trim()).await {
        Ok(_) => return Ok(see("/admin/orgs?done=saved")),
        Err(PeopleError::Store(error)) => return Err(desk.broken(&error)),
        Err(not) => not,
    };
    let shell = desk.shell("orgs");
    let mut page = look(&web, &desk, shell.clone()).await?;
    page.name = Field::of(form.name);
    page.zone = Field::of(form.zone);
    match not {
        PeopleError::NoZone(_) => page.zone.wrong = Some(shell.t("desk.wrong.zone")),
        _ => page.name.wrong = Some(shell.wrong("bad_name")),
    }
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

pub(crate) async fn change(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, form): Filled<Desk, OrgForm>,
) -> Said {
    keeper(&desk)?;
    find(&web, &desk, &id).await?;
    let shell = desk.shell("orgs");
    let change = OrgChange { name: Some(&form.name), zone: Some(form.zone.trim()), mask: Mask::parse(&form.mask) };
    let wrong = match set_org(&web.salon.store, &desk.pen(&web), &id, change).await {
        Ok(_) => return Ok(see("/admin/orgs?done=saved")),
        Err(PeopleError::Store(error)) => return Err(desk.broken(&error)),
        Err(PeopleError::NoZone(_)) => shell.t("desk.wrong.zone"),
        Err(_) => shell.wrong("bad_name"),
    };
    let mut page = look(&web, &desk, shell).await?;
    page.wrong = Some(format!("{}: {wrong}", form.name));
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

async fn find(web: &Web, desk: &Desk, id: &str) -> Result<Org, Response> {
    let id = OrgId::new(id);
    let found = async { web.salon.store.read().await?.find_org(&id).await };
    found.await.map_err(|error| desk.broken(&error))?.ok_or_else(|| desk.missing())
}

/// Looks after an organisation from now on, in this browser.
pub(crate) async fn tend(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    keeper(&desk)?;
    let org = find(&web, &desk, &id).await?;
    let secure = if web.house.secure_cookies { "; Secure" } else { "" };
    let mut response = see("/admin");
    let text = format!("{}={}; Path=/{secure}; HttpOnly; SameSite=Strict", org_cookie(&web), org.id);
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    Ok(response)
}
