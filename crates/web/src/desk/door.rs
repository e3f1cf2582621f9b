//! Coming to the desk, leaving it, and proving again who one is.

use askama::Template;
use axum::Form;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use salon::logins::NotIn;
use salon_store::Realm;
use serde::Deserialize;

use super::Said;
use super::clerk::Desk;
use super::kept::{Kept, Shape};
use crate::Web;
use crate::serve::Peer;
use crate::site::door::{LoginForm, Nothing, desk_login_page, enter};
use crate::site::see;
use crate::site::shell::{Field, Shell, page, page_as};
use crate::site::visitor::{Clerk, Filled, Guest, goodbye, next_page, visit};

#[derive(Template)]
#[template(path = "desk/prove.html")]
struct ProvePage {
    shell: Shell,
    password: Field,
    next: String,
    /// What is sent again after it.
    kept: Option<Kept>,
}

#[derive(Template)]
#[template(path = "desk/again.html")]
struct AgainPage {
    shell: Shell,
    kept: Kept,
    next: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wish {
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProveForm {
    #[serde(rename = "seal")]
    _seal: String,
    password: String,
    #[serde(default)]
    next: String,
    /// Where what waits was sent to, and what it is.
    #[serde(default)]
    again: String,
    #[serde(default)]
    kept: String,
}

pub(crate) async fn login_page(
    State(web): State<Web>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
    guest: Guest,
) -> Said {
    if visit(&web, &headers, Realm::Desk).await?.is_some() {
        return Ok(see(&next_page(wish.next.as_deref(), "/admin")));
    }
    Ok(desk_login_page(&web, &guest, wish.next.as_deref()))
}

pub(crate) async fn log_in(
    State(web): State<Web>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    guest: Guest,
    Form(form): Form<LoginForm>,
) -> Response {
    enter(&web, Realm::Desk, peer, &headers, guest, form).await
}

pub(crate) async fn log_out(State(web): State<Web>, Filled(Clerk(visit), _): Filled<Clerk, Nothing>) -> Response {
    if let Err(error) = web.salon.log_out(&visit.account.user.id, &visit.login.id).await {
        tracing::warn!(%error, "a login could not be ended");
        return crate::error::unavailable(2);
    }
    goodbye(&web, Realm::Desk, see("/admin/login"))
}

pub(crate) async fn prove_page(Query(wish): Query<Wish>, desk: Desk) -> Response {
    let next = next_page(wish.next.as_deref(), "/admin");
    page(&ProvePage { shell: desk.shell("prove"), password: Field::default(), next, kept: None })
}

/// Asks for the password in the place of what was to be done, and keeps what was sent.
pub(super) fn ask_again(shell: Shell, back: &str, kept: Kept) -> Response {
    let (password, next) = (Field::default(), back.to_owned());
    page_as(StatusCode::FORBIDDEN, &ProvePage { shell, password, next, kept: Some(kept) })
}

/// Renews the proof for some minutes. What was sent before comes back, to be sent again.
pub(crate) async fn prove(State(web): State<Web>, Filled(desk, form): Filled<Desk, ProveForm>) -> Said {
    let next = next_page(Some(&form.next), "/admin");
    let kept = Kept::read(&form.again, &form.kept);
    let shell = desk.shell("prove");
    let not = match web.salon.prove(&desk.visit.account, &form.password).await {
        Ok(()) => {
            let args = (desk.visit.login.id.clone(), desk.now);
            let proved = web.salon.store.write(args, |tx, (id, now)| Box::pin(tx.prove_login(id, *now))).await;
            proved.map_err(|error| desk.broken(&error))?;
            return Ok(match kept {
                Some(kept) => page(&AgainPage { shell, kept, next }),
                None => see(&next),
            });
        }
        Err(not) => not,
    };
    let (status, why) = match &not {
        NotIn::Store(error) => return Err(desk.broken(error)),
        NotIn::TooMany { retry_after } => {
            (StatusCode::TOO_MANY_REQUESTS, shell.t1("wrong.too_many", "seconds", retry_after.as_secs().max(1)))
        }
        _ => (StatusCode::UNPROCESSABLE_ENTITY, shell.wrong("wrong_password")),
    };
    let password = Field { value: String::new(), wrong: Some(why) };
    Ok(page_as(status, &ProvePage { shell, password, next, kept }))
}
