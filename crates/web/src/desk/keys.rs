//! The organisation's keys for providers, which everybody in it is answered by who has none of their own.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use salon::catalog::Tried;
use salon::vault::{Listed, Secret, VaultError};
use salon_core::{Owner, SecretId};
use serde::Deserialize;

use super::Said;
use super::clerk::Desk;
use super::overview::Told;
use crate::Web;
use crate::site::door::Nothing;
use crate::site::see;
use crate::site::shell::{Field, Shell, page as shown, page_as};
use crate::site::visitor::Filled;

#[derive(Template)]
#[template(path = "desk/keys.html")]
struct KeysPage {
    shell: Shell,
    keys: Vec<Listed>,
    providers: Vec<String>,
    provider: Field,
    base_url: Field,
    key_wrong: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyForm {
    #[serde(rename = "seal")]
    _seal: String,
    provider: String,
    key: String,
    #[serde(default)]
    base_url: String,
}

async fn look(web: &Web, desk: &Desk, shell: Shell) -> Result<KeysPage, axum::response::Response> {
    let keys = match web.salon.vault.list_keys(Some(&Owner::Org(desk.org.id.clone()))).await {
        Ok(keys) => keys,
        Err(VaultError::Store(error)) => return Err(desk.broken(&error)),
        Err(_) => Vec::new(),
    };
    let snapshot = web.relay.catalog.snapshot();
    let mut providers: Vec<String> = snapshot
        .upstreams()
        .filter(|upstream| upstream.is_open_to(Some(&desk.org.id)))
        .map(|upstream| upstream.provider.clone())
        .chain(["openai", "anthropic", "google"].map(str::to_owned))
        .collect();
    providers.sort_unstable();
    providers.dedup();
    let (provider, base_url) = Default::default();
    Ok(KeysPage { shell, keys, providers, provider, base_url, key_wrong: None })
}

pub(crate) async fn page(State(web): State<Web>, Query(told): Query<Told>, desk: Desk) -> Said {
    let shell = desk.noticing("keys", told.done.as_deref());
    Ok(shown(&look(&web, &desk, shell).await?))
}

/// Takes in a key after its provider said that it knows it. One that cannot be asked about now is kept, and said so.
pub(crate) async fn put(State(web): State<Web>, Filled(desk, form): Filled<Desk, KeyForm>) -> Said {
    desk.admin()?;
    desk.proven("/admin/keys")?;
    let shell = desk.shell("keys");
    let provider = match form.provider.trim().to_lowercase().as_str() {
        "gemini" => "google".to_owned(),
        provider => provider.to_owned(),
    };
    let base = Some(form.base_url.trim()).filter(|base| !base.is_empty());
    let owner = Owner::Org(desk.org.id.clone());
    let refuse = async |code: &str, at_base: bool| {
        let mut page = look(&web, &desk, shell.clone()).await?;
        let why = Some(shell.wrong(code));
        page.provider = Field::of(form.provider.clone());
        page.base_url = Field { value: form.base_url.clone(), wrong: why.clone().filter(|_| at_base) };
        page.key_wrong = why.filter(|_| !at_base);
        Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
    };
    let Ok(place) = web.relay.catalog.find_key_place(&provider, base, &desk.org.id) else {
        return refuse("provider", true).await;
    };
    let secret = Secret::new(form.key.trim().to_owned());
    let tried = web.relay.catalog.try_key(&provider, &place, &owner, &desk.org.id, &secret).await;
    if matches!(tried, Tried::Refused) {
        return refuse("key_refused", false).await;
    }
    match web.salon.vault.put_key(&owner, &provider, &place.origin, secret, &desk.pen(&web)).await {
        Ok(_) if matches!(tried, Tried::Good(_)) => Ok(see("/admin/keys?done=key_good")),
        Ok(_) => Ok(see("/admin/keys?done=key_kept")),
        Err(VaultError::BadSecret) => refuse("key_shape", false).await,
        Err(VaultError::Store(error)) => Err(desk.broken(&error)),
        Err(error) => {
            tracing::warn!(%error, "a provider's key could not be kept");
            refuse("unavailable", false).await
        }
    }
}

pub(crate) async fn remove(
    State(web): State<Web>,
    Path(id): Path<String>,
    Filled(desk, _): Filled<Desk, Nothing>,
) -> Said {
    desk.admin()?;
    let owner = Owner::Org(desk.org.id.clone());
    match web.salon.vault.remove_key(&owner, &SecretId::new(id), &desk.pen(&web)).await {
        Ok(true) => Ok(see("/admin/keys?done=removed")),
        Err(VaultError::Store(error)) => Err(desk.broken(&error)),
        Ok(false) | Err(_) => Err(desk.missing()),
    }
}
