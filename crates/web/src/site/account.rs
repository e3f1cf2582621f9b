//! One's account: the password, the browsers that are open, the language.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use salon::logins::{NotIn, Visit};
use salon_core::Lang;
use salon_store::{Login, Taste};
use serde::Deserialize;

use super::chat::{engines, usual_of_house};
use super::door::Nothing;
use super::shell::{Field, Place, Shell, page_as};
use super::visitor::{Filled, Visitor, welcome};
use super::{broken, missing, see};
use crate::Web;

#[derive(Template)]
#[template(path = "site/account.html")]
struct AccountPage {
    shell: Shell,
    email: String,
    logins: Vec<Login>,
    /// The one that looks at this page.
    this: String,
    old: Field,
    new: Field,
    has_password: bool,
    lang: Option<String>,
    /// Whom they chose to begin conversations, who could, and who does where they choose nobody.
    engine: String,
    engines: Vec<String>,
    usual: String,
}

impl AccountPage {
    fn chose(&self, tag: &str) -> bool {
        self.lang.as_deref().unwrap_or_default() == tag
    }
}

/// What the address may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Said {
    pub done: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordForm {
    #[serde(rename = "seal")]
    _seal: String,
    old: String,
    new: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TasteForm {
    #[serde(rename = "seal")]
    _seal: String,
    lang: String,
    engine: Option<String>,
}

pub(super) fn shell_of(web: &Web, visit: &Visit, headers: &HeaderMap) -> Shell {
    Shell::visiting(web, visit, headers, Place::Account)
}

pub(crate) async fn page(
    State(web): State<Web>,
    Query(said): Query<Said>,
    headers: HeaderMap,
    Visitor(visit): Visitor,
) -> Response {
    let shell = shell_of(&web, &visit, &headers).noticing(said.done.as_deref());
    show(&web, shell, &visit, StatusCode::OK, (Field::default(), Field::default())).await
}

async fn show(web: &Web, shell: Shell, visit: &Visit, status: StatusCode, fields: (Field, Field)) -> Response {
    let logins = async { web.salon.store.read().await?.list_logins(&visit.account.user.id).await };
    let logins = match logins.await {
        Ok(logins) => logins,
        Err(error) => return broken(&shell, &error),
    };
    let (old, new) = fields;
    let account = &visit.account;
    let engines = engines(web, visit).await;
    page_as(
        status,
        &AccountPage {
            shell,
            email: account.login.clone().or_else(|| account.user.email.clone()).unwrap_or_default(),
            logins,
            this: visit.login.id.clone(),
            old,
            new,
            has_password: account.password.is_some(),
            lang: account.taste.lang.clone(),
            engine: account.taste.engine.clone().unwrap_or_default(),
            usual: usual_of_house(web, visit, &engines).await.unwrap_or_default(),
            engines,
        },
    )
}

/// Takes another password. Every browser has to come in anew; this one is let in at once, by another cookie.
pub(crate) async fn password(
    State(web): State<Web>,
    headers: HeaderMap,
    Filled(Visitor(visit), form): Filled<Visitor, PasswordForm>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let not = match web.salon.change_password(&visit.account, &form.old, &form.new).await {
        Ok(()) => {
            let found = async { web.salon.store.read().await?.find_account(&visit.account.user.id).await };
            let account = match found.await {
                Ok(Some(account)) => account,
                Ok(None) => return see("/login"),
                Err(error) => return broken(&shell, &error),
            };
            let browser = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            return match web.salon.let_in(&account, visit.login.realm, browser).await {
                Ok(entered) => welcome(&web, &entered, see("/account?done=password")),
                Err(_) => see("/login"),
            };
        }
        Err(not) => not,
    };
    let why = match &not {
        NotIn::Store(error) => return broken(&shell, error),
        NotIn::Wrong => shell.wrong("wrong_password"),
        NotIn::TooMany { retry_after } => shell.t1("wrong.too_many", "seconds", retry_after.as_secs().max(1)),
        not => shell.wrong(not.code()),
    };
    let (mut old, mut new) = (Field::default(), Field::default());
    match not {
        NotIn::WeakPassword => new.wrong = Some(why),
        _ => old.wrong = Some(why),
    }
    let status = match not {
        NotIn::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    show(&web, shell, &visit, status, (old, new)).await
}

pub(crate) async fn taste(
    State(web): State<Web>,
    headers: HeaderMap,
    Filled(Visitor(visit), form): Filled<Visitor, TasteForm>,
) -> Response {
    let lang = Lang::PEOPLE.iter().find(|lang| lang.tag() == form.lang).map(|lang| lang.tag().to_owned());
    let mut taste = Taste { lang, ..visit.account.taste.clone() };
    if let Some(engine) = form.engine {
        // One that is gone stays chosen until another one is.
        let known = taste.engine.as_deref() == Some(engine.as_str());
        if known || engine.is_empty() || engines(&web, &visit).await.contains(&engine) {
            taste.engine = Some(engine).filter(|engine| !engine.is_empty());
        }
    }
    match web.salon.set_taste(&visit.account.user.id, taste).await {
        Ok(()) => see("/account?done=saved"),
        Err(error) => broken(&shell_of(&web, &visit, &headers), &error),
    }
}

pub(crate) async fn end_login(
    State(web): State<Web>,
    Path(login): Path<String>,
    headers: HeaderMap,
    Filled(Visitor(visit), _): Filled<Visitor, Nothing>,
) -> Response {
    match web.salon.log_out(&visit.account.user.id, &login).await {
        Ok(true) => see("/account?done=ended"),
        Ok(false) => missing(&shell_of(&web, &visit, &headers)),
        Err(error) => broken(&shell_of(&web, &visit, &headers), &error),
    }
}
