//! Settings that are changed while it runs: of the whole house, and of the organisation that is looked after.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use salon::audit::Pen;
use salon::desk::{ERROR_NOTICES, PAUSE_MESSAGE};
use salon::logins::{REGISTRATION, Registration};
use salon::people::DEFAULT_ORG;
use salon::usual::{USUAL_ENGINE, usual_of};
use salon_core::OrgId;
use serde::Deserialize;

use super::Said;
use super::clerk::Desk;
use super::overview::Told;
use crate::Web;
use crate::site::see;
use crate::site::shell::{Field, Shell, page as shown, page_as};
use crate::site::visitor::Filled;

const LONGEST_MESSAGE: usize = 2_000;

/// A setting by its name, what it is if nobody said anything, and what it may be.
struct Known {
    name: &'static str,
    usual: &'static str,
    fits: fn(&Web, &str) -> bool,
}

const KNOWN: [Known; 4] = [
    Known { name: REGISTRATION, usual: "invited", fits: |_, value| Registration::parse(value).is_some() },
    Known { name: PAUSE_MESSAGE, usual: "", fits: |_, value| value.chars().count() <= LONGEST_MESSAGE },
    Known { name: ERROR_NOTICES, usual: "off", fits: |_, value| matches!(value, "on" | "off") },
    Known { name: USUAL_ENGINE, usual: "", fits: |web, value| may_begin(web, None, value) },
];

/// Whether conversations may begin with this. Nothing is what is said further up.
fn may_begin(web: &Web, org: Option<&OrgId>, engine: &str) -> bool {
    engine.is_empty() || web.salon.list_choices(org).iter().any(|known| known == engine)
}

/// Why a setting was not set.
#[derive(Debug)]
pub(super) enum Unfit {
    Unknown(String),
    Value(String),
    Store(salon_store::Error),
}

/// Every setting with its value; what organisations chose, as far as they did.
pub(super) async fn read(web: &Web) -> salon_store::Result<Vec<(String, String)>> {
    let mut tx = web.salon.store.read().await?;
    let mut all = Vec::new();
    for known in &KNOWN {
        let value = tx.find_setting(known.name).await?;
        all.push((known.name.to_owned(), value.unwrap_or_else(|| known.usual.to_owned())));
    }
    all.extend(tx.list_settings(&format!("{USUAL_ENGINE}.")).await?.into_iter().filter(|(_, value)| !value.is_empty()));
    Ok(all)
}

/// Sets them, all or none.
pub(super) async fn write(web: &Web, pen: &Pen, values: Vec<(String, String)>) -> Result<(), Unfit> {
    let mut fit = Vec::new();
    for (name, value) in values {
        let value = value.trim().to_owned();
        let fits = match KNOWN.iter().find(|known| known.name == name) {
            Some(known) => (known.fits)(web, &value),
            None => {
                let org = find_org(web, &name).await.map_err(Unfit::Store)?;
                let Some(org) = org else { return Err(Unfit::Unknown(name)) };
                may_begin(web, Some(&org), &value)
            }
        };
        if !fits {
            return Err(Unfit::Value(name));
        }
        fit.push((name, value));
    }
    web.salon.set_settings(pen, &OrgId::new(DEFAULT_ORG), fit).await.map_err(Unfit::Store)
}

/// The organisation whose setting this is, if there is one.
async fn find_org(web: &Web, name: &str) -> salon_store::Result<Option<OrgId>> {
    let orgs = web.salon.store.read().await?.list_orgs().await?;
    Ok(orgs.into_iter().map(|org| org.id).find(|org| usual_of(org) == name))
}

#[derive(Template)]
#[template(path = "desk/settings.html")]
struct SettingsPage {
    shell: Shell,
    registration: Field,
    pause: Field,
    error_notices: bool,
    public_url: Option<String>,
    /// Who begins conversations, here and in the organisation that is looked after.
    house: Beginning,
    org: Beginning,
    org_name: String,
}

/// Who begins conversations, and who could.
struct Beginning {
    chosen: Field,
    choices: Vec<String>,
}

impl Beginning {
    /// What was chosen and is not there any more: the next one up counts meanwhile.
    fn gone(&self) -> Option<&str> {
        let chosen = self.chosen.value.as_str();
        (!chosen.is_empty() && !self.choices.iter().any(|known| known == chosen)).then_some(chosen)
    }
}

impl SettingsPage {
    fn registrations(&self) -> [&'static str; 3] {
        Registration::ALL.map(Registration::as_str)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsForm {
    #[serde(rename = "seal")]
    _seal: String,
    registration: String,
    #[serde(default)]
    bot_pause_message: String,
    #[serde(default)]
    error_notices: String,
    #[serde(default)]
    default_engine: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrgForm {
    #[serde(rename = "seal")]
    _seal: String,
    default_engine: String,
}

async fn look(web: &Web, desk: &Desk, shell: Shell) -> Result<SettingsPage, axum::response::Response> {
    let values = read(web).await.map_err(|error| desk.broken(&error))?;
    let value = |name: &str| {
        Field::of(values.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap_or_default())
    };
    let org = &desk.org.id;
    Ok(SettingsPage {
        registration: value(REGISTRATION),
        pause: value(PAUSE_MESSAGE),
        error_notices: value(ERROR_NOTICES).value == "on",
        public_url: web.house.public_url.clone(),
        house: Beginning { chosen: value(USUAL_ENGINE), choices: web.salon.list_choices(None) },
        org: Beginning { chosen: value(&usual_of(org)), choices: web.salon.list_choices(Some(org)) },
        org_name: desk.org.name.clone(),
        shell,
    })
}

pub(crate) async fn page(State(web): State<Web>, Query(told): Query<Told>, desk: Desk) -> Said {
    let shell = desk.noticing("settings", told.done.as_deref());
    Ok(shown(&look(&web, &desk, shell).await?))
}

pub(crate) async fn save(State(web): State<Web>, Filled(desk, form): Filled<Desk, SettingsForm>) -> Said {
    desk.wide()?;
    desk.proven("/admin/settings")?;
    // A box that is not ticked is not sent.
    let error_notices = if form.error_notices == "on" { "on" } else { "off" };
    let values = vec![
        (ERROR_NOTICES.to_owned(), error_notices.to_owned()),
        (REGISTRATION.to_owned(), form.registration.clone()),
        (PAUSE_MESSAGE.to_owned(), form.bot_pause_message.clone()),
        (USUAL_ENGINE.to_owned(), form.default_engine.clone()),
    ];
    let name = match write(&web, &desk.pen(&web), values).await {
        Ok(()) => return Ok(see("/admin/settings?done=saved")),
        Err(Unfit::Store(error)) => return Err(desk.broken(&error)),
        Err(Unfit::Value(name) | Unfit::Unknown(name)) => name,
    };
    let shell = desk.shell("settings");
    let field =
        |value: String, this: &str, code: &str| Field { value, wrong: (name == this).then(|| shell.wrong(code)) };
    let mut page = look(&web, &desk, shell.clone()).await?;
    page.registration = field(form.registration, REGISTRATION, "other");
    page.error_notices = error_notices == "on";
    page.pause = field(form.bot_pause_message, PAUSE_MESSAGE, "too_long");
    page.house.chosen = field(form.default_engine, USUAL_ENGINE, "no_engine");
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

/// What an organisation chooses for itself.
pub(crate) async fn save_org(State(web): State<Web>, Filled(desk, form): Filled<Desk, OrgForm>) -> Said {
    desk.admin()?;
    desk.proven("/admin/settings")?;
    let (org, engine) = (&desk.org.id, form.default_engine.trim());
    if may_begin(&web, Some(org), engine) {
        let values = vec![(usual_of(org), engine.to_owned())];
        let set = web.salon.set_settings(&desk.pen(&web), org, values).await;
        set.map_err(|error| desk.broken(&error))?;
        return Ok(see("/admin/settings?done=saved"));
    }
    let shell = desk.shell("settings");
    let mut page = look(&web, &desk, shell.clone()).await?;
    page.org.chosen = Field { wrong: Some(shell.wrong("no_engine")), value: form.default_engine };
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}
