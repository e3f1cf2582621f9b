//! The desk of those who run the place: people, bots, models, limits, what was said, what it cost.
//!
//! Managers look, administrators change. Everybody sees one organisation, their own; administrators of the first one, which
//! the bots belong to, also see what belongs to the whole house, and may look after another organisation for a while.

mod audit;
mod bots;
mod catalog;
mod clerk;
mod commands;
mod door;
mod kept;
mod keys;
mod limits;
mod logs;
mod orgs;
mod overview;
mod people;
mod person;
mod plans;
mod prices;
mod settings;
mod stats;
mod twins;

use axum::middleware;
use axum::response::Response;

use crate::Web;
use crate::site::visitor;
use crate::table::Table;

/// A page, or why there is another one.
type Said = Result<Response, Response>;

pub(crate) fn routes(web: &Web) -> Table {
    let web = web.clone();
    pages().map(move |router| router.layer(middleware::from_fn_with_state(web, visitor::own_pages_only)))
}

fn pages() -> Table {
    Table::default()
        .get("/admin", overview::page)
        .get("/admin/", overview::page)
        .get("/admin/login", door::login_page)
        .post("/admin/login", door::log_in)
        .post("/admin/logout", door::log_out)
        .get("/admin/prove", door::prove_page)
        .post("/admin/prove", door::prove)
        .get("/admin/users", people::page)
        .post("/admin/users", people::create)
        .post("/admin/users/invite", people::invite)
        .get("/admin/users/{user}", person::page)
        .post("/admin/users/{user}", person::change)
        .post("/admin/users/{user}/toggle", person::toggle)
        .post("/admin/users/{user}/reach", person::reach)
        .post("/admin/users/{user}/password", person::password)
        .post("/admin/users/{user}/remove", person::remove)
        .post("/admin/users/{user}/logins/{login}/end", person::end_login)
        .post("/admin/users/{user}/keys/{key}/revoke", person::revoke)
        .get("/admin/bots", bots::page)
        .post("/admin/bots", bots::add)
        .get("/admin/bots/{bot}", bots::bot_page)
        .post("/admin/bots/{bot}", bots::change)
        .post("/admin/bots/{bot}/poll", bots::poll)
        .post("/admin/bots/{bot}/hook", bots::hook)
        .post("/admin/bots/{bot}/stop", bots::stop)
        .post("/admin/bots/{bot}/pause", bots::pause)
        .post("/admin/bots/{bot}/resume", bots::resume)
        .post("/admin/bots/{bot}/remove", bots::remove)
        .get("/admin/logs", logs::page)
        .get("/admin/logs/dialogs", logs::dialogs_page)
        .get("/admin/logs/export", logs::export)
        .get("/admin/dialogs/{dialog}", logs::dialog_page)
        .post("/admin/dialogs/{dialog}/close", logs::close)
        .get("/admin/stats", stats::page)
        .get("/admin/limits", limits::page)
        .post("/admin/limits", limits::add)
        .post("/admin/limits/{limit}", limits::change)
        .post("/admin/limits/{limit}/remove", limits::remove)
        .get("/admin/held", limits::held_page)
        .post("/admin/held/{call}/approve", limits::approve)
        .post("/admin/held/{call}/deny", limits::deny)
        .get("/admin/models", catalog::page)
        .post("/admin/models/upstream", catalog::set_upstream)
        .post("/admin/models/upstream/remove", catalog::remove_upstream)
        .post("/admin/models/model", catalog::set_model)
        .post("/admin/models/model/remove", catalog::remove_model)
        .post("/admin/models/price", prices::set)
        .post("/admin/models/price/remove", prices::remove)
        .post("/admin/models/test", catalog::test)
        .get("/admin/keys", keys::page)
        .post("/admin/keys", keys::put)
        .post("/admin/keys/{key}/remove", keys::remove)
        .get("/admin/plans", plans::page)
        .post("/admin/plans", plans::add)
        .post("/admin/plans/{plan}", plans::change)
        .post("/admin/plans/{plan}/remove", plans::remove)
        .post("/admin/users/{user}/plan", plans::give)
        .get("/admin/commands", commands::page)
        .post("/admin/commands", commands::put)
        .post("/admin/commands/remove", commands::remove)
        .get("/admin/orgs", orgs::page)
        .post("/admin/orgs", orgs::add)
        .post("/admin/orgs/{org}", orgs::change)
        .post("/admin/orgs/{org}/tend", orgs::tend)
        .get("/admin/audit", audit::page)
        .post("/admin/audit/verify", audit::verify)
        .get("/admin/settings", settings::page)
        .post("/admin/settings", settings::save)
        .post("/admin/settings/org", settings::save_org)
        .merge(twins())
}

/// What of it programs call.
pub(crate) fn twins() -> Table {
    Table::default()
        .get("/admin/api/settings", twins::settings)
        .post("/admin/api/settings", twins::set_settings)
        .post("/admin/api/bot/start-polling", twins::start_polling)
        .post("/admin/api/bot/start-webhook", twins::start_webhook)
        .post("/admin/api/bot/stop", twins::stop)
        .post("/admin/api/bot/toggle-pause", twins::toggle_pause)
}
