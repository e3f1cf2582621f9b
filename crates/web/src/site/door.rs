//! The door: logging in and out, registering, and the page that an invitation leads to.

use askama::Template;
use axum::Form;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use salon::logins::{Newcomer, NotIn, Registration, Shown};
use salon_core::people::Role;
use salon_store::Realm;
use serde::Deserialize;

use super::shell::{Field, Shell, page, page_as};
use super::visitor::{Filled, Guest, Visitor, goodbye, next_page, welcome};
use super::{broken, see, ways};
use crate::Web;
use crate::serve::Peer;

#[derive(Template)]
#[template(path = "site/login.html")]
struct LoginPage {
    shell: Shell,
    /// Where the form goes.
    action: &'static str,
    email: Field,
    next: String,
    /// Whether a code of the second factor is wanted.
    wants_code: bool,
    wrong: Option<String>,
    may_register: bool,
    /// Where else one may sign on: names and labels.
    providers: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "site/register.html")]
struct RegisterPage {
    shell: Shell,
    name: Field,
    email: Field,
    password: Field,
    /// What they were invited by.
    pass: String,
    is_admin: bool,
    wrong: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wish {
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginForm {
    email: String,
    password: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegisterForm {
    #[serde(default)]
    name: String,
    email: String,
    password: String,
    #[serde(default)]
    pass: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {
    #[serde(rename = "seal")]
    _seal: String,
}

pub(crate) async fn login_page(State(web): State<Web>, Query(wish): Query<Wish>, guest: Guest) -> Response {
    if guest.visit.is_some() {
        return see(&next_page(wish.next.as_deref(), "/start"));
    }
    let shell = Shell::outside(&guest, web.salon.clock.now());
    let registration = match web.salon.registration().await {
        Ok(registration) => registration,
        Err(error) => return broken(&shell, &error),
    };
    page(&LoginPage {
        shell,
        action: "/login",
        email: Field::default(),
        next: next_page(wish.next.as_deref(), "/start"),
        wants_code: false,
        wrong: None,
        may_register: registration == Registration::Open,
        providers: ways::providers(&web),
    })
}

pub(crate) async fn log_in(
    State(web): State<Web>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    guest: Guest,
    Form(form): Form<LoginForm>,
) -> Response {
    enter(&web, Realm::House, peer, &headers, guest, form).await
}

/// Lets somebody in to either realm, or shows the form again.
pub(crate) async fn enter(
    web: &Web,
    realm: Realm,
    peer: Option<Extension<Peer>>,
    headers: &HeaderMap,
    guest: Guest,
    form: LoginForm,
) -> Response {
    let (action, home) = match realm {
        Realm::House => ("/login", "/start"),
        Realm::Desk => ("/admin/login", "/admin"),
    };
    let browser = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let code = form.code.trim();
    let shown = Shown {
        login: &form.email,
        password: &form.password,
        code: (!code.is_empty()).then_some(code),
        peer: peer.map(|Extension(peer)| peer.0.ip()),
        browser,
        realm,
    };
    let not = match web.salon.log_in(shown).await {
        Ok(entered) => return welcome(web, &entered, see(&next_page(Some(&form.next), home))),
        Err(not) => not,
    };
    let shell = Shell::outside(&guest, web.salon.clock.now());
    if let NotIn::Store(error) = &not {
        return broken(&shell, error);
    }
    let status = status(&not);
    let wants_code = matches!(not, NotIn::CodeWanted) || !form.code.is_empty();
    let wrong = match &not {
        // The form says by itself what it wants.
        NotIn::CodeWanted => None,
        NotIn::TooMany { retry_after } => Some(shell.t1("wrong.too_many", "seconds", retry_after.as_secs().max(1))),
        not => Some(shell.wrong(not.code())),
    };
    let again = LoginPage {
        action,
        email: Field::of(form.email),
        next: next_page(Some(&form.next), home),
        wants_code,
        wrong,
        may_register: false,
        // The desk wants a password.
        providers: if realm == Realm::House { ways::providers(web) } else { Vec::new() },
        shell,
    };
    waiting(page_as(status, &again), &not)
}

/// Shows the same form to those who come to the desk.
pub(crate) fn desk_login_page(web: &Web, guest: &Guest, next: Option<&str>) -> Response {
    page(&LoginPage {
        shell: Shell::outside(guest, web.salon.clock.now()),
        action: "/admin/login",
        email: Field::default(),
        next: next_page(next, "/admin"),
        wants_code: false,
        wrong: None,
        may_register: false,
        providers: Vec::new(),
    })
}

fn status(not: &NotIn) -> StatusCode {
    match not {
        NotIn::Wrong | NotIn::CodeWanted => StatusCode::UNAUTHORIZED,
        NotIn::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        NotIn::Inactive | NotIn::Role | NotIn::Closed | NotIn::BadPass => StatusCode::FORBIDDEN,
        NotIn::Taken => StatusCode::CONFLICT,
        NotIn::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

fn waiting(mut response: Response, not: &NotIn) -> Response {
    if let NotIn::TooMany { retry_after } = not {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
    }
    response
}

pub(crate) async fn log_out(State(web): State<Web>, Filled(visitor, _): Filled<Visitor, Nothing>) -> Response {
    let login = &visitor.0.login;
    if let Err(error) = web.salon.log_out(&login.user, &login.id).await {
        tracing::warn!(%error, "a login could not be ended");
        return crate::error::unavailable(2);
    }
    goodbye(&web, Realm::House, see("/login"))
}

pub(crate) async fn register_page(State(web): State<Web>, guest: Guest) -> Response {
    registering(&web, &guest, String::new()).await
}

/// `GET /join/{word}`: the page that an invitation leads to. Looking at it does not use it up.
pub(crate) async fn join_page(State(web): State<Web>, Path(word): Path<String>, guest: Guest) -> Response {
    registering(&web, &guest, word).await
}

async fn registering(web: &Web, guest: &Guest, pass: String) -> Response {
    let shell = Shell::outside(guest, web.salon.clock.now());
    let wrong = |code: &str| Some(shell.wrong(code));
    let mut is_admin = false;
    let closed = if pass.is_empty() {
        match web.salon.registration().await {
            Ok(Registration::Open) => None,
            Ok(Registration::Invited) => wrong("invited_only"),
            Ok(Registration::Closed) => wrong("closed"),
            Err(error) => return broken(&shell, &error),
        }
    } else {
        match web.salon.find_invitation(&pass).await {
            Ok(Some(invited)) => {
                is_admin = invited.role == Role::Admin;
                None
            }
            Ok(None) => wrong("bad_pass"),
            Err(error) => return broken(&shell, &error),
        }
    };
    let status = if closed.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let (name, email, password) = Default::default();
    page_as(status, &RegisterPage { name, email, password, pass, is_admin, wrong: closed, shell })
}

pub(crate) async fn register(
    State(web): State<Web>,
    headers: HeaderMap,
    guest: Guest,
    Form(form): Form<RegisterForm>,
) -> Response {
    let lang = guest.lang;
    // The first of these systems asked for no name.
    let name = match form.name.trim() {
        "" => form.email.split('@').next().unwrap_or_default().to_owned(),
        name => name.to_owned(),
    };
    let new = Newcomer {
        name,
        email: form.email.clone(),
        password: form.password.clone(),
        lang: guest.visit.is_none().then(|| lang.tag().to_owned()),
        pass: Some(form.pass.clone()).filter(|pass| !pass.is_empty()),
    };
    let browser = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let entered = async {
        let user = web.salon.register(new).await?;
        let account = web.salon.store.read().await?.find_account(&user.id).await?;
        web.salon.let_in(&account.ok_or(NotIn::Inactive)?, Realm::House, browser).await
    };
    let not = match entered.await {
        Ok(entered) => return welcome(&web, &entered, see("/start")),
        Err(not) => not,
    };
    let shell = Shell::outside(&guest, web.salon.clock.now());
    if let NotIn::Store(error) = &not {
        return broken(&shell, error);
    }
    let invited = web.salon.find_invitation(&form.pass).await.ok().flatten();
    let why = Some(shell.wrong(not.code()));
    let field = |value: &str, here: bool| Field { value: value.to_owned(), wrong: why.clone().filter(|_| here) };
    let again = RegisterPage {
        name: field(&form.name, matches!(not, NotIn::BadName)),
        email: field(&form.email, matches!(not, NotIn::BadEmail | NotIn::Taken)),
        password: field("", matches!(not, NotIn::WeakPassword)),
        pass: form.pass,
        is_admin: invited.is_some_and(|invited| invited.role == Role::Admin),
        wrong: why.clone().filter(|_| matches!(not, NotIn::Closed | NotIn::BadPass)),
        shell,
    };
    page_as(status(&not), &again).into_response()
}
