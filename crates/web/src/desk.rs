//! The desk of those who run the place: people, bots, models, limits, what was said, what it cost.
//!
//! Managers look, administrators change. Everybody sees one organisation, their own; administrators of the first one, which
//! the bots belong to, also see what belongs to the whole house, and may look after another organisation for a while.

mod clerk;
mod door;
mod overview;
mod people;
mod person;

use axum::middleware;
use axum::response::Response;

use crate::Web;
use crate::site::visitor;
use crate::table::Table;

/// A page, or why there is another one.
type Said = Result<Response, Response>;

pub(crate) fn routes(web: &Web) -> Table {
    let web = web.clone();
    names().map(move |router| router.layer(middleware::from_fn_with_state(web, visitor::own_pages_only)))
}

/// The same without what is around them.
pub(crate) fn names() -> Table {
    Table::default()
        .get("/admin", overview::page)
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
}
