//! Commands of a team's own, which bots answer with a text.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use salon::audit::{Action, Deed, note_alone};
use salon::people::DEFAULT_ORG;
use salon::replies::{self, BadReply};
use salon_core::{BotId, OrgId};
use salon_store::StoredReply;
use serde::Deserialize;
use serde_json::json;

use super::Said;
use super::clerk::Desk;
use super::overview::Told;
use crate::Web;
use crate::site::see;
use crate::site::shell::{Field, Shell, page as shown, page_as};
use crate::site::visitor::Filled;

#[derive(Template)]
#[template(path = "desk/commands.html")]
struct CommandsPage {
    shell: Shell,
    replies: Vec<StoredReply>,
    bots: Vec<String>,
    bot: String,
    name: Field,
    text: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandForm {
    #[serde(rename = "seal")]
    _seal: String,
    #[serde(default)]
    bot: String,
    name: String,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NameForm {
    #[serde(rename = "seal")]
    _seal: String,
    #[serde(default)]
    bot: String,
    name: String,
}

async fn look(web: &Web, desk: &Desk, shell: Shell) -> Result<CommandsPage, Response> {
    let replies = replies::list(&web.salon.store).await.map_err(|error| desk.broken(&error))?;
    let bots = web.doors.bots().into_iter().map(|bot| bot.id).collect();
    Ok(CommandsPage { shell, replies, bots, bot: String::new(), name: Field::default(), text: Field::default() })
}

async fn noted(web: &Web, desk: &Desk, name: &str, word: &str) -> Result<(), Response> {
    let deed = Deed::new(Action::SettingChanged, &OrgId::new(DEFAULT_ORG), format!("command:{name}"));
    let deed = deed.with(json!({ "to": word }));
    note_alone(&web.salon.store, desk.pen(web), deed).await.map_err(|error| desk.broken(&error))
}

pub(crate) async fn page(State(web): State<Web>, Query(told): Query<Told>, desk: Desk) -> Said {
    desk.house()?;
    let shell = desk.noticing("commands", told.done.as_deref());
    Ok(shown(&look(&web, &desk, shell).await?))
}

/// Says what is answered to a command, whatever was answered before.
pub(crate) async fn put(State(web): State<Web>, Filled(desk, form): Filled<Desk, CommandForm>) -> Said {
    desk.wide()?;
    let bot = Some(form.bot.trim()).filter(|bot| !bot.is_empty()).map(BotId::new);
    let bad = match &bot {
        Some(bot) if !web.doors.bots().iter().any(|known| known.id == bot.as_str()) => return Err(desk.missing()),
        _ => match replies::put(&web.salon.store, bot, &form.name, &form.text, desk.now).await {
            Ok(reply) => {
                noted(&web, &desk, &reply.name, "set").await?;
                return Ok(see("/admin/commands?done=saved"));
            }
            Err(BadReply::Store(error)) => return Err(desk.broken(&error)),
            Err(bad) => bad,
        },
    };
    let shell = desk.shell("commands");
    let why = shell.t(&format!("desk.wrong.command.{}", bad.code()));
    let mut page = look(&web, &desk, shell).await?;
    page.bot = form.bot;
    page.name = Field::of(form.name);
    page.text = Field::of(form.text);
    match bad {
        BadReply::Text => page.text.wrong = Some(why),
        _ => page.name.wrong = Some(why),
    }
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

pub(crate) async fn remove(State(web): State<Web>, Filled(desk, form): Filled<Desk, NameForm>) -> Said {
    desk.wide()?;
    let bot = Some(form.bot.trim()).filter(|bot| !bot.is_empty()).map(BotId::new);
    let removed = replies::remove(&web.salon.store, bot, &form.name).await.map_err(|error| desk.broken(&error))?;
    if !removed {
        return Err(desk.missing());
    }
    noted(&web, &desk, &form.name, "removed").await?;
    Ok(see("/admin/commands?done=removed"))
}
