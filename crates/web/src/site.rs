//! The pages of everybody: coming in, conversations, keys, and what was used.
//!
//! Pages are rendered here and work without a script: a form is sent, and its answer is another page. The scripts in
//! `assets/` only make the same faster. [`desk`](crate::desk) has the pages of those who run the place.

mod account;
pub(crate) mod assets;
pub(crate) mod chart;
pub(crate) mod chat;
pub(crate) mod dialogs;
pub(crate) mod door;
mod keys;
pub(crate) mod markdown;
mod panels;
pub(crate) mod shell;
mod start;
pub(crate) mod usage;
pub(crate) mod visitor;
mod ways;

use askama::Template;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};

use crate::Web;
use crate::table::Table;
use shell::{Shell, page_as};

/// How the pages behave.
#[derive(Clone, Debug)]
pub struct HouseSettings {
    /// Whether cookies want TLS. Browsers take `127.0.0.1` and `localhost` for safe without.
    pub secure_cookies: bool,
    /// Where people find us, such as `https://salon.example.com`.
    pub public_url: Option<String>,
}

impl Default for HouseSettings {
    fn default() -> Self {
        HouseSettings { secure_cookies: true, public_url: None }
    }
}

pub(crate) fn routes(web: &Web) -> Table {
    let web = web.clone();
    pages().map(move |router| {
        router
            .layer(DefaultBodyLimit::max(chat::LONGEST_FORM))
            .layer(middleware::from_fn_with_state(web, visitor::own_pages_only))
    })
}

fn pages() -> Table {
    Table::default()
        .get("/assets/{hash}/{name}", assets::serve)
        .get("/login", door::login_page)
        .post("/login", door::log_in)
        .post("/logout", door::log_out)
        .get("/register", door::register_page)
        .post("/register", door::register)
        .get("/join/{word}", door::join_page)
        .get("/start", start::page)
        .post("/start/code", start::make_code)
        .post("/start/links/{telegram}/remove", start::unlink)
        .get("/dialogs", dialogs::page)
        .post("/dialogs", chat::begin)
        .get("/dialogs/new", chat::new_page)
        .get("/dialogs/{dialog}", chat::page)
        .get("/dialogs/{dialog}/export", dialogs::export)
        .post("/dialogs/{dialog}/delete", dialogs::delete)
        .post("/dialogs/{dialog}/title", chat::rename)
        .post("/dialogs/{dialog}/engine", chat::choose)
        .post("/dialogs/{dialog}/stop", chat::stop)
        .post("/dialogs/{dialog}/turns", chat::say)
        .post("/dialogs/{dialog}/suggestions", chat::suggest::suggest)
        .get("/dialogs/{dialog}/turns/{turn}/stream", chat::stream::stream)
        .post("/dialogs/{dialog}/turns/{turn}/again", chat::again)
        .post("/dialogs/{dialog}/turns/{turn}/instead", chat::instead)
        .post("/dialogs/{dialog}/turns/{turn}/branch", chat::branch)
        .post("/dialogs/{dialog}/asks/{ask}", chat::answer)
        .get("/dialogs/{dialog}/files/{file}", chat::file)
        .get("/panels", panels::page)
        .post("/panels", panels::save)
        .get("/panels/new", panels::new_page)
        .get("/panels/{panel}", panels::edit_page)
        .post("/panels/{panel}/remove", panels::remove)
        .get("/keys", keys::page)
        .post("/keys", keys::put)
        .post("/keys/{key}/remove", keys::remove)
        .post("/keys/own", keys::make)
        .post("/keys/own/{key}/revoke", keys::revoke)
        .get("/usage", usage::page)
        .get("/account", account::page)
        .post("/account/password", account::password)
        .post("/account/taste", account::taste)
        .post("/account/logins/{login}/end", account::end_login)
        .get("/account/ways", ways::page)
        .post("/account/factor", ways::begin_factor)
        .post("/account/factor/confirm", ways::confirm_factor)
        .post("/account/factor/end", ways::end_factor)
        .post("/account/identities/link/{name}", ways::link)
        .post("/account/identities/remove", ways::unlink)
        .get("/login/oidc/{name}", ways::leave)
        .get("/login/oidc/{name}/callback", ways::come_back)
}

/// Another page, by GET.
pub(crate) fn see(path: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(path) else { return crate::error::not_found() };
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

#[derive(Template)]
#[template(path = "site/refused.html")]
struct RefusedPage<'a> {
    shell: &'a Shell,
    status: u16,
    why: String,
}

/// A page that says no.
pub(crate) fn refuse(shell: &Shell, status: StatusCode, code: &str) -> Response {
    page_as(status, &RefusedPage { shell, status: status.as_u16(), why: shell.wrong(code) })
}

/// What is not there, or somebody else's.
pub(crate) fn missing(shell: &Shell) -> Response {
    refuse(shell, StatusCode::NOT_FOUND, "missing")
}

/// What the store could not do.
pub(crate) fn broken(shell: &Shell, error: &salon_store::Error) -> Response {
    match error {
        salon_store::Error::Unavailable(_) | salon_store::Error::Full => {
            refuse(shell, StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        }
        error => {
            tracing::error!(%error, "a page could not be made");
            refuse(shell, StatusCode::INTERNAL_SERVER_ERROR, "broken")
        }
    }
}
