//! The first page: chats that are linked, what was used, and where to go from here.

use std::time::Duration;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use qrcodegen::{QrCode, QrCodeEcc};
use salon::logins::Visit;
use salon::logins::passes::{Names, unlink as unlinked};
use salon_core::Time;
use salon_store::ledger::{Usage, UsageFilter};
use salon_store::{Link, Session};

use super::account::Said;
use super::door::Nothing;
use super::shell::{Place, Shell, page as shown, page_as};
use super::usage::{Asked, used_by_day};
use super::visitor::{Filled, Visitor};
use super::{broken, missing, see};
use crate::Web;

const DAYS: u64 = 14;
const NEWEST: i64 = 5;

#[derive(Template)]
#[template(path = "site/start.html")]
struct HomePage {
    shell: Shell,
    links: Vec<Link>,
    dialogs: Vec<(String, Session)>,
    used: Usage,
    chart: String,
    limits: Vec<super::usage::Left>,
    has_keys: bool,
}

#[derive(Template)]
#[template(path = "site/link.html")]
struct LinkPage {
    shell: Shell,
    /// In groups of four, as people read it.
    code: String,
    expires_at: Time,
    /// Deep links, one for each bot that said its name, with a picture for a phone's camera.
    doors: Vec<Door>,
}

struct Door {
    name: String,
    url: String,
    picture: String,
}

fn shell_of(web: &Web, visit: &Visit, headers: &HeaderMap) -> Shell {
    Shell::visiting(web, visit, headers, Place::Home)
}

pub(crate) async fn page(
    State(web): State<Web>,
    Query(said): Query<Said>,
    headers: HeaderMap,
    Visitor(visit): Visitor,
) -> Response {
    let shell = shell_of(&web, &visit, &headers).noticing(said.done.as_deref());
    let refused = shell.clone();
    match look(&web, &visit, shell).await {
        Ok(page) => shown(&page),
        Err(error) => broken(&refused, &error),
    }
}

async fn look(web: &Web, visit: &Visit, shell: Shell) -> salon_store::Result<HomePage> {
    let (user, zone, now) = (&visit.account.user.id, &visit.caller.zone, shell.now);
    let from = Time(now.0 - (Duration::from_secs(DAYS * 24 * 60 * 60).as_millis() as i64));
    let mut filter = UsageFilter::of(visit.account.user.org.clone(), from, now + Duration::from_secs(1));
    filter.user = Some(user.clone());
    let newest = web.salon.list_sessions(&visit.caller, (Time(i64::MAX), ""), NEWEST).await?;
    let mut dialogs = Vec::new();
    let mut tx = web.relay.book.read().await?;
    for session in newest {
        dialogs.push((super::dialogs::title(&mut tx, &shell, &session.dialog).await?, session));
    }
    let used = tx.usage(&filter).await?;
    let by_day = tx.usage_by_day(&filter, zone).await?;
    let links = tx.list_links(user).await?;
    drop(tx);
    let asked = Asked { days: Some(DAYS.to_string()), ..Asked::default() };
    let chart = used_by_day(&by_day, &asked.span(zone, now), zone, &shell.t("home.chart"));
    let owner = salon_core::Owner::User(user.clone());
    let keys = web.salon.vault.list_keys(Some(&owner)).await.unwrap_or_default();
    Ok(HomePage {
        limits: super::usage::left(web, visit).await?,
        has_keys: !keys.is_empty(),
        links,
        dialogs,
        used,
        chart,
        shell,
    })
}

/// Makes a code by which a chat becomes this person's. It is shown on this page and nowhere again.
pub(crate) async fn make_code(
    State(web): State<Web>,
    headers: HeaderMap,
    Filled(Visitor(visit), _): Filled<Visitor, Nothing>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let fresh = match web.salon.make_code(&visit.account.user.id).await {
        Ok(fresh) => fresh,
        Err(error) => return broken(&shell, &error),
    };
    let doors = web.doors.bots().into_iter().filter_map(|bot| {
        let url = format!("https://t.me/{}?start={}", bot.username?, fresh.word);
        Some(Door { name: bot.name, picture: picture(&url)?, url })
    });
    let letters: Vec<char> = fresh.word.chars().collect();
    let code = letters.chunks(4).map(|four| four.iter().collect::<String>()).collect::<Vec<_>>().join(" ");
    page_as(StatusCode::OK, &LinkPage { doors: doors.collect(), code, expires_at: fresh.expires_at, shell })
}

pub(crate) async fn unlink(
    State(web): State<Web>,
    Path(telegram): Path<i64>,
    headers: HeaderMap,
    Filled(Visitor(visit), _): Filled<Visitor, Nothing>,
) -> Response {
    let args = (web.salon.pen(&visit), visit.account.user.id.clone(), telegram, Names::new(&web.salon.clock));
    let removed = web
        .salon
        .store
        .write(args, |tx, (pen, user, telegram, names)| Box::pin(unlinked(tx, pen, user, *telegram, names)));
    match removed.await {
        Ok(true) => see("/start?done=unlinked"),
        Ok(false) => missing(&shell_of(&web, &visit, &headers)),
        Err(error) => broken(&shell_of(&web, &visit, &headers), &error),
    }
}

/// A text as a picture for a camera: the path of an SVG whose unit is a module. `None` if it is too long for one.
pub(super) fn picture(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let mut path = String::new();
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            path.push_str(&format!("M{},{}h1v1h-1z", x + 4, y + 4));
        }
    }
    let size = code.size() + 8;
    // Black on white whatever the theme: cameras want it so.
    Some(format!(
        "<svg class=\"qr\" viewBox=\"0 0 {size} {size}\" aria-hidden=\"true\"><rect width=\"{size}\" height=\"{size}\" \
         fill=\"#fff\"/><path d=\"{path}\" fill=\"#000\"/></svg>"
    ))
}
