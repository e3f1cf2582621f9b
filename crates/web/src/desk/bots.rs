//! The bots: how they are doing, how they take in what is said, and what they say while they are paused.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use salon::audit::{Action, Deed, Pen, note_alone};
use salon::desk::PAUSE_MESSAGE;
use salon::people::DEFAULT_ORG;
use salon_core::{BotId, OrgId};
use serde::Deserialize;
use serde_json::json;

use super::Said;
use super::clerk::Desk;
use super::overview::Told;
use crate::site::door::Nothing;
use crate::site::see;
use crate::site::shell::{Field, Shell, page as shown, page_as};
use crate::site::visitor::Filled;
use crate::{BotDeed, BotEntry, BotFault, BotTerms, Web};

const LONGEST_PAUSE: usize = 2_000;

#[derive(Template)]
#[template(path = "desk/bots.html")]
struct BotsPage {
    shell: Shell,
    bots: Vec<Kept>,
    form: BotFields,
    wrong: Option<String>,
}

#[derive(Template)]
#[template(path = "desk/bot.html")]
struct BotPage {
    shell: Shell,
    bot: Kept,
    form: BotFields,
    hook: Field,
    pause: Field,
    wrong: Option<String>,
}

/// A bot and whether it is paused.
pub(super) struct Kept {
    pub entry: BotEntry,
    pub paused: Option<String>,
}

impl Kept {
    /// The word for how it is doing, and the colour of its tag.
    pub fn state(&self) -> (&'static str, &'static str) {
        let health = &self.entry.health;
        match (self.paused.is_some(), health.error.is_some(), health.intake.as_str(), health.receiving) {
            (true, ..) => ("paused", "idle"),
            (_, _, "off", _) => ("off", "idle"),
            (_, true, ..) => ("trouble", "bad"),
            (_, _, "polling", true) => ("polling", ""),
            (_, _, _, true) => ("webhook", ""),
            _ => ("waiting", "idle"),
        }
    }

    /// The word for what agents may do for it.
    pub fn policy(&self) -> &str {
        self.entry.policy.as_deref().unwrap_or("none")
    }
}

/// What a form about a bot holds, and what is wrong with it.
#[derive(Default)]
struct BotFields {
    id: Field,
    name: Field,
    token: Field,
    engine: Field,
    owner: Field,
    allow: Field,
    everyone: bool,
    engines: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BotForm {
    #[serde(rename = "seal")]
    _seal: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    token: String,
    engine: String,
    #[serde(default)]
    owner: String,
    #[serde(default)]
    allow: String,
    #[serde(default)]
    everyone: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HookForm {
    #[serde(rename = "seal")]
    _seal: String,
    #[serde(default)]
    url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PauseForm {
    #[serde(rename = "seal")]
    _seal: String,
    #[serde(default)]
    text: String,
}

/// Why nothing was done to a bot, or nothing noted of it.
pub(super) enum NotTended {
    Fault(BotFault),
    Store(salon_store::Error),
}

/// Does something to a bot and writes it down.
pub(super) async fn tend_noting(web: &Web, pen: Pen, id: &str, deed: BotDeed) -> Result<Option<String>, NotTended> {
    let (action, word) = match &deed {
        BotDeed::Add(_) => (Action::BotAdded, "added"),
        BotDeed::Change(_) => (Action::BotChanged, "changed"),
        BotDeed::Remove => (Action::BotRemoved, "removed"),
        BotDeed::Poll => (Action::BotChanged, "polling"),
        BotDeed::Hook(_) => (Action::BotChanged, "webhook"),
        BotDeed::Stop => (Action::BotChanged, "off"),
    };
    let done = web.doors.tend_bot(id, deed).await.map_err(NotTended::Fault)?;
    let deed = Deed::new(action, &OrgId::new(DEFAULT_ORG), id).with(json!({ "to": word }));
    note_alone(&web.salon.store, pen, deed).await.map_err(NotTended::Store)?;
    Ok(done)
}

impl Desk {
    /// The same for a form: what went wrong with the bot is given back, anything else is a page.
    async fn tend(&self, web: &Web, id: &str, deed: BotDeed) -> Result<Result<(), BotFault>, Response> {
        match tend_noting(web, self.pen(web), id, deed).await {
            Ok(_) => Ok(Ok(())),
            Err(NotTended::Fault(fault)) => Ok(Err(fault)),
            Err(NotTended::Store(error)) => Err(self.broken(&error)),
        }
    }
}

/// Every bot, with whether it is paused.
pub(super) async fn list(web: &Web) -> salon_store::Result<Vec<Kept>> {
    let mut bots = Vec::new();
    for entry in web.doors.bot_entries() {
        let paused = web.salon.find_pause(&BotId::new(entry.health.id.as_str())).await?;
        bots.push(Kept { entry, paused });
    }
    Ok(bots)
}

async fn find(web: &Web, desk: &Desk, id: &str) -> Result<Kept, Response> {
    let entry = web.doors.bot_entries().into_iter().find(|entry| entry.health.id == id);
    let entry = entry.ok_or_else(|| desk.missing())?;
    let paused = web.salon.find_pause(&BotId::new(id)).await.map_err(|error| desk.broken(&error))?;
    Ok(Kept { entry, paused })
}

fn engines(web: &Web) -> Vec<String> {
    web.salon.engines.all().iter().map(|engine| engine.name.clone()).collect()
}

pub(crate) async fn page(State(web): State<Web>, Query(told): Query<Told>, desk: Desk) -> Said {
    desk.house()?;
    let shell = desk.noticing("bots", told.done.as_deref());
    let bots = list(&web).await.map_err(|error| desk.broken(&error))?;
    let form = BotFields { engines: engines(&web), engine: Field::of("model"), ..BotFields::default() };
    Ok(shown(&BotsPage { shell, bots, form, wrong: None }))
}

pub(crate) async fn add(State(web): State<Web>, Filled(desk, form): Filled<Desk, BotForm>) -> Said {
    desk.wide()?;
    desk.proven("/admin/bots")?;
    let shell = desk.shell("bots");
    let id = form.id.trim().to_owned();
    let (fields, wrong) = match terms(&shell, &form) {
        Ok(terms) => match desk.tend(&web, &id, BotDeed::Add(terms)).await? {
            Ok(()) => return Ok(see(&format!("/admin/bots/{id}?done=bot_added"))),
            Err(fault) => blamed(&shell, &form, &fault),
        },
        Err(fields) => (fields, None),
    };
    let bots = list(&web).await.map_err(|error| desk.broken(&error))?;
    let form = BotFields { engines: engines(&web), ..fields };
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &BotsPage { shell, bots, form, wrong }))
}

pub(crate) async fn bot_page(
    State(web): State<Web>,
    Path(id): Path<String>,
    Query(told): Query<Told>,
    desk: Desk,
) -> Said {
    desk.house()?;
    let shell = desk.noticing("bots", told.done.as_deref());
    let bot = find(&web, &desk, &id).await?;
    Ok(shown(&compose(&web, &desk, shell, bot).await?))
}

async fn compose(web: &Web, desk: &Desk, shell: Shell, bot: Kept) -> Result<BotPage, Response> {
    let said = async { web.salon.store.read().await?.find_setting(PAUSE_MESSAGE).await };
    let said = said.await.map_err(|error| desk.broken(&error))?.unwrap_or_default();
    let entry = &bot.entry;
    let allow: Vec<String> = entry.allow.iter().map(i64::to_string).collect();
    let form = BotFields {
        id: Field::of(entry.health.id.clone()),
        name: Field::of(entry.health.name.clone()),
        token: Field::default(),
        engine: Field::of(entry.engine.clone()),
        owner: Field::of(entry.owner.map_or_else(String::new, |owner| owner.to_string())),
        allow: Field::of(allow.join(", ")),
        everyone: entry.everyone,
        engines: engines(web),
    };
    let hook = Field::of(entry.public_url.clone().unwrap_or_else(|| web.house.public_url.clone().unwrap_or_default()));
    let pause = Field::of(bot.paused.clone().filter(|text| !text.is_empty()).unwrap_or(said));
    Ok(BotPage { shell, form, hook, pause, wrong: None, bot })
}

pub(crate) async fn change(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, form): Filled<Desk, BotForm>,
) -> Said {
    desk.wide()?;
    let bot = find(&web, &desk, &id).await?;
    desk.proven(&format!("/admin/bots/{id}"))?;
    let shell = desk.shell("bots");
    let (fields, wrong) = match terms(&shell, &form) {
        Ok(terms) => match desk.tend(&web, &id, BotDeed::Change(terms)).await? {
            Ok(()) => return Ok(see(&format!("/admin/bots/{id}?done=saved"))),
            Err(fault) => blamed(&shell, &form, &fault),
        },
        Err(fields) => (fields, None),
    };
    let mut page = compose(&web, &desk, shell, bot).await?;
    page.form = BotFields { engines: engines(&web), ..fields };
    page.wrong = wrong;
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

pub(crate) async fn poll(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    tend(&web, &desk, &id, BotDeed::Poll, "bot_polls").await
}

pub(crate) async fn stop(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    tend(&web, &desk, &id, BotDeed::Stop, "bot_stopped").await
}

pub(crate) async fn hook(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, form): Filled<Desk, HookForm>,
) -> Said {
    let url = match form.url.trim() {
        "" => web.house.public_url.clone().unwrap_or_default(),
        url => url.to_owned(),
    };
    tend(&web, &desk, &id, BotDeed::Hook(url), "bot_hooked").await
}

/// Does it, or shows the bot's page with the reason.
async fn tend(web: &Web, desk: &Desk, id: &str, deed: BotDeed, done: &str) -> Said {
    desk.wide()?;
    let bot = find(web, desk, id).await?;
    let at_hook = match &deed {
        BotDeed::Hook(url) => Some(url.clone()),
        _ => None,
    };
    let fault = match desk.tend(web, id, deed).await? {
        Ok(()) => return Ok(see(&format!("/admin/bots/{id}?done={done}"))),
        Err(fault) => fault,
    };
    let shell = desk.shell("bots");
    let why = shell.t(&format!("desk.wrong.bot.{}", fault.code()));
    let mut page = compose(web, desk, shell, bot).await?;
    match at_hook {
        Some(value) => page.hook = Field { value, wrong: Some(why) },
        None => page.wrong = Some(why),
    }
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

/// Pauses a bot: whatever it is told, it says this text, once an hour in each chat.
pub(crate) async fn pause(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, form): Filled<Desk, PauseForm>,
) -> Said {
    desk.wide()?;
    let bot = find(&web, &desk, &id).await?;
    let text = form.text.trim();
    if text.chars().count() > LONGEST_PAUSE {
        let shell = desk.shell("bots");
        let wrong = Some(shell.wrong("too_long"));
        let mut page = compose(&web, &desk, shell, bot).await?;
        page.pause = Field { value: text.to_owned(), wrong };
        return Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    web.salon
        .pause_bot(&desk.pen(&web), &BotId::new(id.as_str()), Some(text))
        .await
        .map_err(|error| desk.broken(&error))?;
    Ok(see(&format!("/admin/bots/{id}?done=bot_paused")))
}

pub(crate) async fn resume(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    desk.wide()?;
    find(&web, &desk, &id).await?;
    web.salon.pause_bot(&desk.pen(&web), &BotId::new(id.as_str()), None).await.map_err(|error| desk.broken(&error))?;
    Ok(see(&format!("/admin/bots/{id}?done=bot_resumed")))
}

pub(crate) async fn remove(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    desk.wide()?;
    let bot = find(&web, &desk, &id).await?;
    desk.proven(&format!("/admin/bots/{id}"))?;
    match desk.tend(&web, &id, BotDeed::Remove).await? {
        Ok(()) => Ok(see("/admin/bots?done=removed")),
        Err(fault) => {
            let shell = desk.shell("bots");
            let wrong = Some(shell.t(&format!("desk.wrong.bot.{}", fault.code())));
            let mut page = compose(&web, &desk, shell, bot).await?;
            page.wrong = wrong;
            Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
    }
}

/// Reads a form; or gives it back with what is wrong.
fn terms(shell: &Shell, form: &BotForm) -> Result<BotTerms, BotFields> {
    let owner = match form.owner.trim() {
        "" => Ok(None),
        text => text.parse::<i64>().map(Some),
    };
    let people = form.allow.split([',', ' ', '\n', '\r']).filter(|id| !id.is_empty());
    let allow: Result<Vec<i64>, _> = people.map(str::parse).collect();
    let name = form.name.trim();
    let good_name = name.chars().count() <= 200 && !name.chars().any(char::is_control);
    match (owner, allow, good_name) {
        (Ok(owner), Ok(allow), true) => Ok(BotTerms {
            name: name.to_owned(),
            token: Some(form.token.trim().to_owned()).filter(|token| !token.is_empty()),
            engine: form.engine.trim().to_owned(),
            owner,
            allow,
            everyone: form.everyone == "on",
        }),
        (owner, allow, good_name) => {
            let mut fields = filled(form);
            let number = |bad: bool| bad.then(|| shell.t("desk.wrong.telegram_ids"));
            fields.owner.wrong = number(owner.is_err());
            fields.allow.wrong = number(allow.is_err());
            fields.name.wrong = (!good_name).then(|| shell.wrong("bad_name"));
            Err(fields)
        }
    }
}

/// What was entered. A token is never shown again.
fn filled(form: &BotForm) -> BotFields {
    BotFields {
        id: Field::of(form.id.clone()),
        name: Field::of(form.name.clone()),
        token: Field::default(),
        engine: Field::of(form.engine.clone()),
        owner: Field::of(form.owner.clone()),
        allow: Field::of(form.allow.clone()),
        everyone: form.everyone == "on",
        engines: Vec::new(),
    }
}

/// The form with the sentence beside the field that is to blame, or above all of them.
fn blamed(shell: &Shell, form: &BotForm, fault: &BotFault) -> (BotFields, Option<String>) {
    let why = shell.t(&format!("desk.wrong.bot.{}", fault.code()));
    let mut fields = filled(form);
    match fault {
        BotFault::BadId | BotFault::Taken => fields.id.wrong = Some(why),
        BotFault::BadToken | BotFault::TokenTaken | BotFault::Unreachable => fields.token.wrong = Some(why),
        BotFault::Engine => fields.engine.wrong = Some(why),
        _ => return (fields, Some(why)),
    }
    (fields, None)
}
