//! Settings of the whole house that are changed while it runs.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use salon::audit::Pen;
use salon::desk::PAUSE_MESSAGE;
use salon::logins::{REGISTRATION, Registration};
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
    fits: fn(&str) -> bool,
}

const KNOWN: [Known; 2] = [
    Known { name: REGISTRATION, usual: "invited", fits: |value| Registration::parse(value).is_some() },
    Known { name: PAUSE_MESSAGE, usual: "", fits: |value| value.chars().count() <= LONGEST_MESSAGE },
];

/// Why a setting was not set.
#[derive(Debug)]
pub(super) enum Unfit {
    Unknown(String),
    Value(&'static str),
    Store(salon_store::Error),
}

/// Every setting with its value.
pub(super) async fn read(web: &Web) -> salon_store::Result<Vec<(&'static str, String)>> {
    let mut tx = web.salon.store.read().await?;
    let mut all = Vec::new();
    for known in &KNOWN {
        let value = tx.find_setting(known.name).await?;
        all.push((known.name, value.unwrap_or_else(|| known.usual.to_owned())));
    }
    Ok(all)
}

/// Sets them, all or none.
pub(super) async fn write(web: &Web, pen: &Pen, values: Vec<(String, String)>) -> Result<(), Unfit> {
    let mut fit = Vec::new();
    for (name, value) in values {
        let known = KNOWN.iter().find(|known| known.name == name).ok_or(Unfit::Unknown(name))?;
        let value = value.trim().to_owned();
        if !(known.fits)(&value) {
            return Err(Unfit::Value(known.name));
        }
        fit.push((known.name, value));
    }
    web.salon.set_settings(pen, fit).await.map_err(Unfit::Store)
}

#[derive(Template)]
#[template(path = "desk/settings.html")]
struct SettingsPage {
    shell: Shell,
    registration: Field,
    pause: Field,
    public_url: Option<String>,
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
}

pub(crate) async fn page(State(web): State<Web>, Query(told): Query<Told>, desk: Desk) -> Said {
    desk.house()?;
    let shell = desk.noticing("settings", told.done.as_deref());
    let values = read(&web).await.map_err(|error| desk.broken(&error))?;
    let value = |name: &str| {
        Field::of(values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()).unwrap_or_default())
    };
    let public_url = web.house.public_url.clone();
    Ok(shown(&SettingsPage { registration: value(REGISTRATION), pause: value(PAUSE_MESSAGE), public_url, shell }))
}

pub(crate) async fn save(State(web): State<Web>, Filled(desk, form): Filled<Desk, SettingsForm>) -> Said {
    desk.wide()?;
    desk.proven("/admin/settings")?;
    let values = vec![
        (REGISTRATION.to_owned(), form.registration.clone()),
        (PAUSE_MESSAGE.to_owned(), form.bot_pause_message.clone()),
    ];
    let name = match write(&web, &desk.pen(&web), values).await {
        Ok(()) => return Ok(see("/admin/settings?done=saved")),
        Err(Unfit::Store(error)) => return Err(desk.broken(&error)),
        Err(Unfit::Value(name)) => name,
        Err(Unfit::Unknown(_)) => "",
    };
    let shell = desk.shell("settings");
    let field =
        |value: String, this: &str, code: &str| Field { value, wrong: (name == this).then(|| shell.wrong(code)) };
    let page = SettingsPage {
        registration: field(form.registration, REGISTRATION, "other"),
        pause: field(form.bot_pause_message, PAUSE_MESSAGE, "too_long"),
        public_url: web.house.public_url.clone(),
        shell: shell.clone(),
    };
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}
