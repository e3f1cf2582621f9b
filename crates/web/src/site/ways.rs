//! The ways in: signing on at a provider, and one's second factor.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use salon::logins::factor::Enrolling;
use salon::logins::oidc::{Arrived, Back, NoSignOn};
use salon::logins::{NotIn, Visit};
use salon_store::Realm;
use serde::Deserialize;

use super::account::{Said, shell_of};
use super::door::Nothing;
use super::shell::{Shell, page_as};
use super::start::picture;
use super::visitor::{Filled, Guest, Visitor, cookie, next_page, welcome};
use super::{broken, missing, refuse, see};
use crate::Web;

/// Somebody who is known elsewhere.
struct Identity {
    issuer: String,
    subject: String,
}

#[derive(Template)]
#[template(path = "site/ways.html")]
struct WaysPage {
    shell: Shell,
    has_password: bool,
    /// Whether the second factor is on, and how many codes on paper are left.
    factor: Option<i64>,
    /// One that waits for its first code: the secret, and a picture of it.
    begun: Option<(String, String)>,
    /// Codes on paper, this once.
    codes: Vec<String>,
    wrong: Option<String>,
    identities: Vec<Identity>,
    /// Names and labels.
    providers: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "site/leaving.html")]
struct LeavingPage {
    shell: Shell,
    location: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BeginForm {
    #[serde(rename = "seal")]
    _seal: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmForm {
    #[serde(rename = "seal")]
    _seal: String,
    code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndForm {
    #[serde(rename = "seal")]
    _seal: String,
    password: String,
    code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityForm {
    #[serde(rename = "seal")]
    _seal: String,
    issuer: String,
    subject: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wish {
    next: Option<String>,
}

/// What a provider sends somebody back with. It may say more.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Returned {
    state: String,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// Names and labels of the providers.
pub(crate) fn providers(web: &Web) -> Vec<(String, String)> {
    let list = web.salon.sign_on.get().map(|sign_on| sign_on.list());
    list.into_iter().flatten().map(|(name, label)| (name.to_owned(), label.to_owned())).collect()
}

/// `GET /account/ways`
pub(crate) async fn page(
    State(web): State<Web>,
    Query(said): Query<Said>,
    headers: HeaderMap,
    Visitor(visit): Visitor,
) -> Response {
    let shell = shell_of(&web, &visit, &headers).noticing(said.done.as_deref());
    show(&web, shell, &visit, StatusCode::OK, None, Vec::new()).await
}

async fn show(
    web: &Web,
    shell: Shell,
    visit: &Visit,
    status: StatusCode,
    wrong: Option<String>,
    codes: Vec<String>,
) -> Response {
    let found = async {
        let mut tx = web.salon.store.read().await?;
        // Anew: it may have been switched on or off in this very moment.
        let account = tx.find_account(&visit.account.user.id).await?.unwrap_or_else(|| visit.account.clone());
        let identities = tx.list_identities(&account.user.id).await?;
        drop(tx);
        let left = web.salon.count_recovery_codes(&account).await?;
        Ok::<_, salon_store::Error>((account, identities, left))
    };
    let (account, identities, left) = match found.await {
        Ok(found) => found,
        Err(error) => return broken(&shell, &error),
    };
    let begun = match web.salon.begun_factor(&account).await {
        Ok(begun) => begun.and_then(|Enrolling { secret, uri }| {
            let letters: Vec<char> = secret.expose().chars().collect();
            let shown: Vec<String> = letters.chunks(4).map(|four| four.iter().collect()).collect();
            Some((shown.join(" "), picture(uri.expose())?))
        }),
        Err(NotIn::Store(error)) => return broken(&shell, &error),
        Err(_) => None,
    };
    page_as(
        status,
        &WaysPage {
            shell,
            has_password: account.password.is_some(),
            factor: account.factor.as_ref().map(|_| left),
            begun,
            codes,
            wrong,
            identities: identities.into_iter().map(|(issuer, subject)| Identity { issuer, subject }).collect(),
            providers: providers(web),
        },
    )
}

async fn no(web: &Web, shell: Shell, visit: &Visit, not: NotIn) -> Response {
    let (status, why) = match &not {
        NotIn::Store(error) => return broken(&shell, error),
        NotIn::TooMany { retry_after } => {
            let why = shell.t1("wrong.too_many", "seconds", retry_after.as_secs().max(1));
            (StatusCode::TOO_MANY_REQUESTS, why)
        }
        NotIn::Wrong => (StatusCode::UNPROCESSABLE_ENTITY, shell.wrong("factor")),
        not => (StatusCode::UNPROCESSABLE_ENTITY, shell.wrong(not.code())),
    };
    show(web, shell, visit, status, Some(why), Vec::new()).await
}

pub(crate) async fn begin_factor(
    State(web): State<Web>,
    headers: HeaderMap,
    Filled(Visitor(visit), form): Filled<Visitor, BeginForm>,
) -> Response {
    match web.salon.begin_factor(&visit.account, &form.password).await {
        Ok(_) => see("/account/ways"),
        Err(not) => no(&web, shell_of(&web, &visit, &headers), &visit, not).await,
    }
}

/// Switches it on. Every browser has to come in anew; this one is let in at once, by another cookie.
pub(crate) async fn confirm_factor(
    State(web): State<Web>,
    headers: HeaderMap,
    Filled(Visitor(visit), form): Filled<Visitor, ConfirmForm>,
) -> Response {
    match web.salon.confirm_factor(&visit.account, &form.code).await {
        Ok(codes) => {
            let codes = codes.iter().map(|code| code.expose().to_owned()).collect();
            anew(&web, &headers, &visit, codes).await
        }
        Err(not) => no(&web, shell_of(&web, &visit, &headers), &visit, not).await,
    }
}

pub(crate) async fn end_factor(
    State(web): State<Web>,
    headers: HeaderMap,
    Filled(Visitor(visit), form): Filled<Visitor, EndForm>,
) -> Response {
    match web.salon.end_factor(&visit.account, &form.password, &form.code).await {
        Ok(()) => anew(&web, &headers, &visit, Vec::new()).await,
        Err(not) => no(&web, shell_of(&web, &visit, &headers), &visit, not).await,
    }
}

/// Lets this browser in again, whose login has just ended with all others.
async fn anew(web: &Web, headers: &HeaderMap, visit: &Visit, codes: Vec<String>) -> Response {
    let found = async { web.salon.store.read().await?.find_account(&visit.account.user.id).await };
    let account = match found.await {
        Ok(Some(account)) => account,
        Ok(None) => return see("/login"),
        Err(error) => return broken(&shell_of(web, visit, headers), &error),
    };
    let entered = match web.salon.let_in(&account, Realm::House, browser(headers)).await {
        Ok(entered) => entered,
        Err(_) => return see("/login"),
    };
    if codes.is_empty() {
        return welcome(web, &entered, see("/account/ways?done=saved"));
    }
    match web.salon.visit(&entered.cookie, Realm::House).await {
        Ok(Some(visit)) => {
            let shell = shell_of(web, &visit, headers);
            welcome(web, &entered, show(web, shell, &visit, StatusCode::OK, None, codes).await)
        }
        _ => see("/login"),
    }
}

fn browser(headers: &HeaderMap) -> &str {
    headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// `GET /login/oidc/{name}`
pub(crate) async fn leave(
    State(web): State<Web>,
    Path(name): Path<String>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
    guest: Guest,
) -> Response {
    let next = next_page(wish.next.as_deref(), "/start");
    let left = web.salon.leave_for(&name, &redirect(&web, &headers, &name), None, &next).await;
    gone(&web, Shell::outside(&guest, web.salon.clock.now()), left)
}

/// `POST /account/identities/{name}`: the account that is in is to be known by the provider's identity, too.
pub(crate) async fn link(
    State(web): State<Web>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Filled(Visitor(visit), _): Filled<Visitor, Nothing>,
) -> Response {
    let redirect = redirect(&web, &headers, &name);
    let shell = shell_of(&web, &visit, &headers);
    match web.salon.leave_for(&name, &redirect, Some(&visit.account.user.id), "").await {
        Ok(leaving) => {
            // Browsers let no form of ours lead to another site, be it by way of a redirect. So it leads to a page, and
            // that one leads on.
            let page = LeavingPage { shell, location: leaving.location.clone() };
            let mut response = page_as(StatusCode::OK, &page);
            if let Ok(value) = HeaderValue::from_str(&format!("0;url={}", leaving.location)) {
                response.headers_mut().insert(header::REFRESH, value);
            }
            keep(&web, response, &leaving.cookie, leaving.lasts.as_secs())
        }
        Err(error) => failed(&shell, &error),
    }
}

/// `POST /account/identities/remove`
pub(crate) async fn unlink(
    State(web): State<Web>,
    headers: HeaderMap,
    Filled(Visitor(visit), form): Filled<Visitor, IdentityForm>,
) -> Response {
    let pen = web.salon.pen(&visit);
    match web.salon.drop_identity(&pen, &visit.account.user.id, &form.issuer, &form.subject).await {
        Ok(true) => see("/account/ways?done=saved"),
        Ok(false) => missing(&shell_of(&web, &visit, &headers)),
        Err(error) => broken(&shell_of(&web, &visit, &headers), &error),
    }
}

fn gone(web: &Web, shell: Shell, left: Result<salon::logins::oidc::Leaving, NoSignOn>) -> Response {
    match left {
        Ok(leaving) => keep(web, see(&leaving.location), &leaving.cookie, leaving.lasts.as_secs()),
        Err(error) => failed(&shell, &error),
    }
}

/// `GET /login/oidc/{name}/callback`
pub(crate) async fn come_back(
    State(web): State<Web>,
    Path(name): Path<String>,
    Query(returned): Query<Returned>,
    headers: HeaderMap,
    guest: Guest,
) -> Response {
    let redirect = redirect(&web, &headers, &name);
    let back = Back {
        state: &returned.state,
        code: returned.code.as_deref(),
        issuer: returned.iss.as_deref(),
        error: returned.error.as_deref(),
        cookie: cookie(&headers, cookie_name(&web)),
        visitor: guest.visit.as_ref().map(|visit| &visit.account),
        browser: browser(&headers),
        redirect: &redirect,
    };
    let response = match web.salon.return_from(&name, back).await {
        Ok(Arrived::Entered(entered, next)) => welcome(&web, &entered, see(&next_page(Some(&next), "/start"))),
        Ok(Arrived::Linked) => see("/account/ways?done=saved"),
        Err(error) => failed(&Shell::outside(&guest, web.salon.clock.now()), &error),
    };
    // Used up, whatever came of it.
    keep(&web, response, "", 0)
}

fn failed(shell: &Shell, error: &NoSignOn) -> Response {
    let status = match error {
        NoSignOn::NoProvider => return missing(shell),
        NoSignOn::NotIn(NotIn::Store(error)) => return broken(shell, error),
        NoSignOn::Stale => StatusCode::BAD_REQUEST,
        NoSignOn::Broken(_) => StatusCode::BAD_GATEWAY,
        NoSignOn::Taken => StatusCode::CONFLICT,
        NoSignOn::Refused(_) | NoSignOn::Unknown | NoSignOn::NotIn(_) => StatusCode::FORBIDDEN,
    };
    refuse(shell, status, error.code())
}

/// Where the provider sends people back to. It knows the address, and takes no other.
fn redirect(web: &Web, headers: &HeaderMap, name: &str) -> String {
    let base = web.house.public_url.clone().unwrap_or_else(|| {
        let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let scheme = if web.house.secure_cookies { "https" } else { "http" };
        format!("{scheme}://{host}")
    });
    format!("{base}/login/oidc/{name}/callback")
}

fn cookie_name(web: &Web) -> &'static str {
    if web.house.secure_cookies { "__Host-oidc" } else { "oidc" }
}

/// What the browser keeps while its owner is at the provider. Lax, because the way back comes from there.
fn keep(web: &Web, mut response: Response, value: &str, seconds: u64) -> Response {
    let secure = if web.house.secure_cookies { "; Secure" } else { "" };
    let text = format!("{}={value}; Path=/{secure}; HttpOnly; SameSite=Lax; Max-Age={seconds}", cookie_name(web));
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}
