//! One's keys: those of providers, by which models are paid for, and our own, by which programs come in.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use salon::access::issue::{IssueError, Maker, NewKey, make_key, revoke_key};
use salon::catalog::Tried;
use salon::logins::Visit;
use salon::vault::{Listed, Secret, VaultError};
use salon_core::scopes::{Allowed, Entry};
use salon_core::{KeyId, Owner, Scopes, SecretId};
use salon_store::ApiKey;
use serde::Deserialize;

use super::account::Said;
use super::door::Nothing;
use super::shell::{Field, Place, Shell, page as shown, page_as};
use super::visitor::{Filled, Visitor};
use super::{broken, missing, see};
use crate::Web;

#[derive(Template)]
#[template(path = "site/keys.html")]
struct KeysPage {
    shell: Shell,
    providers: Vec<String>,
    own: Vec<Listed>,
    shared: Vec<Listed>,
    keys: Vec<ApiKey>,
    provider: Field,
    base_url: Field,
    key_wrong: Option<String>,
    name: Field,
    models: Field,
    networks: Field,
    expires: Field,
    /// A new key, which is shown this once.
    fresh: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderForm {
    #[serde(rename = "seal")]
    _seal: String,
    provider: String,
    #[serde(alias = "api_key")]
    key: String,
    #[serde(default)]
    base_url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyForm {
    #[serde(rename = "seal")]
    _seal: String,
    name: String,
    #[serde(default)]
    models: String,
    #[serde(default)]
    networks: String,
    #[serde(default)]
    expires: String,
}

fn shell_of(web: &Web, visit: &Visit, headers: &HeaderMap) -> Shell {
    Shell::visiting(web, visit, headers, Place::Keys)
}

async fn compose(web: &Web, visit: &Visit, shell: Shell) -> salon_store::Result<KeysPage> {
    let user = &visit.account.user;
    let listed = async |owner: Owner| {
        web.salon.vault.list_keys(Some(&owner)).await.or_else(|error| match error {
            VaultError::Store(error) => Err(error),
            _ => Ok(Vec::new()),
        })
    };
    let own = listed(Owner::User(user.id.clone())).await?;
    let shared = listed(Owner::Org(user.org.clone())).await?;
    let mut keys = web.salon.store.read().await?.list_api_keys(Some(&user.id)).await?;
    keys.retain(|key| key.revoked_at.is_none());
    keys.reverse();
    let snapshot = web.relay.catalog.snapshot();
    let mut providers: Vec<String> = ["openai", "anthropic", "google", "groq", "mistral", "openrouter", "deepseek"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    for upstream in snapshot.upstreams() {
        if !providers.contains(&upstream.provider) {
            providers.push(upstream.provider.clone());
        }
    }
    let (provider, base_url, name, models, networks, expires) = Default::default();
    Ok(KeysPage {
        shell,
        providers,
        own,
        shared,
        keys,
        provider,
        base_url,
        key_wrong: None,
        name,
        models,
        networks,
        expires,
        fresh: None,
    })
}

pub(crate) async fn page(
    State(web): State<Web>,
    Query(said): Query<Said>,
    headers: HeaderMap,
    Visitor(visit): Visitor,
) -> Response {
    let shell = shell_of(&web, &visit, &headers).noticing(said.done.as_deref());
    match compose(&web, &visit, shell.clone()).await {
        Ok(page) => shown(&page),
        Err(error) => broken(&shell, &error),
    }
}

/// Takes in a provider's key, after the provider said that it knows it. One that cannot be asked now is kept, and said so.
pub(crate) async fn put(
    State(web): State<Web>,
    headers: HeaderMap,
    Filled(Visitor(visit), form): Filled<Visitor, ProviderForm>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let provider = form.provider.trim().to_lowercase();
    let base = Some(form.base_url.trim()).filter(|base| !base.is_empty());
    let secret = Secret::new(form.key.trim().to_owned());
    let refuse = async |code: &str, at_base: bool| {
        let page = compose(&web, &visit, shell.clone()).await;
        let mut page = match page {
            Ok(page) => page,
            Err(error) => return broken(&shell, &error),
        };
        let why = shell.wrong(code);
        page.provider = Field::of(form.provider.clone());
        page.base_url = Field::of(form.base_url.clone());
        match at_base {
            true => page.base_url.wrong = Some(why),
            false => page.key_wrong = Some(why),
        }
        page_as(StatusCode::UNPROCESSABLE_ENTITY, &page)
    };
    let provider = if provider == "gemini" { "google".to_owned() } else { provider };
    let place = match web.relay.catalog.find_key_place(&provider, base, &visit.account.user.org) {
        Ok(place) => place,
        Err(_) => return refuse("provider", true).await,
    };
    let owner = Owner::User(visit.account.user.id.clone());
    let tried = web.relay.catalog.try_key(&provider, &place, &owner, &visit.account.user.org, &secret).await;
    if matches!(tried, Tried::Refused) {
        return refuse("key_refused", false).await;
    }
    match web.salon.vault.put_key(&owner, &provider, &place.origin, secret, &web.salon.pen(&visit)).await {
        Ok(_) if matches!(tried, Tried::Good(_)) => see("/keys?done=key_good"),
        Ok(_) => see("/keys?done=key_kept"),
        Err(VaultError::BadSecret) => refuse("key_shape", false).await,
        Err(VaultError::Store(error)) => broken(&shell, &error),
        Err(error) => {
            tracing::warn!(%error, "a provider's key could not be kept");
            refuse("unavailable", false).await
        }
    }
}

pub(crate) async fn remove(
    State(web): State<Web>,
    Path(key): Path<String>,
    headers: HeaderMap,
    Filled(Visitor(visit), _): Filled<Visitor, Nothing>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let owner = Owner::User(visit.account.user.id.clone());
    match web.salon.vault.remove_key(&owner, &SecretId::new(key), &web.salon.pen(&visit)).await {
        Ok(true) => see("/keys?done=removed"),
        Ok(false) => missing(&shell),
        Err(VaultError::Store(error)) => broken(&shell, &error),
        Err(_) => missing(&shell),
    }
}

/// Makes a key for programs. It stands on this page, and nowhere again.
pub(crate) async fn make(
    State(web): State<Web>,
    headers: HeaderMap,
    Filled(Visitor(visit), form): Filled<Visitor, KeyForm>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let mut name = Field::of(form.name.clone());
    let mut models = Field::of(form.models.clone());
    let mut networks = Field::of(form.networks.clone());
    let mut expires = Field::of(form.expires.clone());
    let mut fresh = None;
    let allowed_models = allowed(&form.models);
    let allowed_networks = allowed(&form.networks);
    let expires_at = match form.expires.trim() {
        "" => Ok(None),
        text => visit.caller.zone.moment(text, shell.now).map(Some).ok_or(()),
    };
    models.wrong = allowed_models.is_err().then(|| shell.wrong("models"));
    networks.wrong = allowed_networks.is_err().then(|| shell.wrong("networks"));
    expires.wrong = expires_at.is_err().then(|| shell.wrong("expires"));
    if let (Ok(allowed_models), Ok(allowed_networks), Ok(expires_at)) = (allowed_models, allowed_networks, expires_at) {
        let new = NewKey {
            user: visit.account.user.id.clone(),
            name: form.name.clone(),
            role: None,
            scopes: Scopes { routes: Allowed::All, models: allowed_models, networks: allowed_networks },
            expires_at,
            limits: Vec::new(),
        };
        let salon = &web.salon;
        match make_key(&salon.store, &salon.clock, &salon.keys, Maker::Caller(&visit.caller), new).await {
            Ok(issued) => fresh = Some(issued.secret.expose().to_owned()),
            Err(IssueError::Store(error)) => return broken(&shell, &error),
            Err(IssueError::Past) => expires.wrong = Some(shell.wrong("expires")),
            Err(IssueError::Nothing) => models.wrong = Some(shell.wrong("models")),
            Err(IssueError::TooMany) => name.wrong = Some(shell.wrong("too_many_keys")),
            Err(_) => name.wrong = Some(shell.wrong("bad_name")),
        }
    }
    let mut page = match compose(&web, &visit, shell.clone()).await {
        Ok(page) => page,
        Err(error) => return broken(&shell, &error),
    };
    let status = if fresh.is_some() { StatusCode::CREATED } else { StatusCode::UNPROCESSABLE_ENTITY };
    if fresh.is_none() {
        (page.name, page.models, page.networks, page.expires) = (name, models, networks, expires);
    }
    page.fresh = fresh;
    page_as(status, &page)
}

fn allowed<T: Entry>(text: &str) -> Result<Allowed<T>, ()> {
    match text.trim() {
        "" => Ok(Allowed::All),
        text => Allowed::parse(text).map_err(drop),
    }
}

pub(crate) async fn revoke(
    State(web): State<Web>,
    Path(key): Path<String>,
    headers: HeaderMap,
    Filled(Visitor(visit), _): Filled<Visitor, Nothing>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let salon = &web.salon;
    match revoke_key(&salon.store, &salon.clock, &salon.keys, Maker::Caller(&visit.caller), &KeyId::new(key)).await {
        Ok(()) => see("/keys?done=revoked"),
        Err(IssueError::Store(error)) => broken(&shell, &error),
        Err(_) => missing(&shell),
    }
}
