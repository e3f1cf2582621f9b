//! Providers' keys: one's own, and for admins those that their organisation shares.
//!
//! They can be entered, replaced, tried and removed, and never read.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use salon::access::Caller;
use salon::catalog::{KeyPlace, Tried};
use salon::relay::{Kind, Refused};
use salon::vault::{Listed, Origin, Secret, VaultError, check_provider};
use salon_core::Owner;
use salon_core::people::Role;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{No, Said, bytes, caller, parse, query, split, told};
use crate::Web;

/// Providers that are asked at once whether they know a key.
static TRIES: Semaphore = Semaphore::const_new(4);

/// Whose keys a route is about.
#[derive(Clone, Copy)]
enum Whose {
    Own,
    Shared,
}

impl Whose {
    fn word(self) -> &'static str {
        match self {
            Whose::Own => "own",
            Whose::Shared => "shared",
        }
    }

    /// The caller and whose keys they may look after here.
    async fn admit(self, web: &Web, head: &Parts) -> Result<(Arc<Caller>, Owner), No> {
        match self {
            Whose::Own => {
                let caller = caller(web, head, "/api/provider-keys", Role::User).await?;
                let owner = Owner::User(caller.user.clone());
                Ok((caller, owner))
            }
            Whose::Shared => {
                let caller = caller(web, head, "/api/admin/provider-keys", Role::Admin).await?;
                let owner = Owner::Org(caller.org.clone());
                Ok((caller, owner))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entered {
    key: String,
    /// Where the provider is. The key is bound to scheme, host and port of it.
    base_url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    base_url: Option<String>,
}

pub(super) async fn list_own(State(web): State<Web>, request: Request) -> Response {
    list(web, Whose::Own, request).await
}

pub(super) async fn list_shared(State(web): State<Web>, request: Request) -> Response {
    list(web, Whose::Shared, request).await
}

/// `GET /api/provider-keys`, `/api/admin/provider-keys`. Beside one's own stands for which providers there are shared
/// ones.
async fn list(web: Web, whose: Whose, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said =
        async {
            let (caller, owner) = whose.admit(&web, &head).await?;
            let keys = web.salon.vault.list_keys(Some(&owner)).await.map_err(no)?;
            let mut keys: Vec<Value> = keys.iter().map(|key| shown(key, whose)).collect();
            if let Whose::Own = whose {
                let shared = web.salon.vault.list_keys(Some(&Owner::Org(caller.org.clone()))).await.map_err(no)?;
                keys.extend(shared.iter().map(
                    |key| json!({ "provider": key.provider, "origin": key.origin, "owner": "shared", "set": true }),
                ));
            }
            Ok(Json(json!({ "provider_keys": keys })).into_response())
        }
        .await;
    told(said, &id)
}

pub(super) async fn find_own(State(web): State<Web>, Path(provider): Path<String>, request: Request) -> Response {
    find(web, Whose::Own, provider, request).await
}

pub(super) async fn find_shared(State(web): State<Web>, Path(provider): Path<String>, request: Request) -> Response {
    find(web, Whose::Shared, provider, request).await
}

/// `GET …/{provider}`: whether there is a key, and where it may be shown.
async fn find(web: Web, whose: Whose, provider: String, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let (_, owner) = whose.admit(&web, &head).await?;
        let provider = named(&provider);
        check_provider(provider).map_err(no)?;
        let keys = web.salon.vault.list_keys(Some(&owner)).await.map_err(no)?;
        let keys: Vec<Value> =
            keys.iter().filter(|key| key.provider == provider).map(|key| shown(key, whose)).collect();
        Ok(Json(json!({ "provider": provider, "set": !keys.is_empty(), "keys": keys })).into_response())
    }
    .await;
    told(said, &id)
}

pub(super) async fn put_own(State(web): State<Web>, Path(provider): Path<String>, request: Request) -> Response {
    put(web, Whose::Own, provider, request).await
}

pub(super) async fn put_shared(State(web): State<Web>, Path(provider): Path<String>, request: Request) -> Response {
    put(web, Whose::Shared, provider, request).await
}

/// `PUT …/{provider}`: in the place of the one for the same address.
async fn put(web: Web, whose: Whose, provider: String, request: Request) -> Response {
    let (id, head, body) = split(request);
    let said: Said = async {
        let (caller, owner) = whose.admit(&web, &head).await?;
        let entered: Entered = parse(&bytes(&head, body).await?)?;
        let provider = named(&provider);
        let origin = place(&web, &caller, provider, entered.base_url.as_deref())?.origin;
        let secret = Secret::new(entered.key.trim());
        let pen = web.salon.pen(&*caller);
        let key = web.salon.vault.put_key(&owner, provider, &origin, secret, &pen).await.map_err(no)?;
        let keys = web.salon.vault.list_keys(Some(&owner)).await.map_err(no)?;
        // Somebody may have replaced it in this moment.
        let kept = keys.iter().find(|listed| listed.id == key).ok_or_else(|| No::missing("key"))?;
        Ok(Json(shown(kept, whose)).into_response())
    }
    .await;
    told(said, &id)
}

pub(super) async fn remove_own(State(web): State<Web>, Path(provider): Path<String>, request: Request) -> Response {
    remove(web, Whose::Own, provider, request).await
}

pub(super) async fn remove_shared(State(web): State<Web>, Path(provider): Path<String>, request: Request) -> Response {
    remove(web, Whose::Shared, provider, request).await
}

/// `DELETE …/{provider}`: the one for `base_url`, or all for this provider.
async fn remove(web: Web, whose: Whose, provider: String, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let (caller, owner) = whose.admit(&web, &head).await?;
        let pen = web.salon.pen(&*caller);
        let asked: Asked = query(&head)?;
        let provider = named(&provider);
        let origin = match &asked.base_url {
            Some(base) => Some(Origin::parse(base).map_err(|error| No::bad(error.to_string()))?),
            None => None,
        };
        let keys = web.salon.vault.list_keys(Some(&owner)).await.map_err(no)?;
        let meant = keys.iter().filter(|key| {
            key.provider == provider && origin.as_ref().is_none_or(|origin| origin.as_str() == key.origin)
        });
        let mut removed = false;
        for key in meant {
            removed |= web.salon.vault.remove_key(&owner, &key.id, &pen).await.map_err(no)?;
        }
        if removed { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(No::missing("key")) }
    }
    .await;
    told(said, &id)
}

pub(super) async fn test_own(State(web): State<Web>, Path(provider): Path<String>, request: Request) -> Response {
    test(web, Whose::Own, provider, request).await
}

pub(super) async fn test_shared(State(web): State<Web>, Path(provider): Path<String>, request: Request) -> Response {
    test(web, Whose::Shared, provider, request).await
}

/// `POST …/{provider}/test`: asks the provider for its models with the key.
async fn test(web: Web, whose: Whose, provider: String, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let (caller, owner) = whose.admit(&web, &head).await?;
        let asked: Asked = query(&head)?;
        let provider = named(&provider);
        let place = place(&web, &caller, provider, asked.base_url.as_deref())?;
        let found = web.salon.vault.owners_key(owner.clone(), provider, &place.origin).await.map_err(no)?;
        let found = found.ok_or_else(|| No::missing("key"))?;
        let _turn = TRIES.try_acquire().map_err(|_| {
            let refused = Refused::new(Kind::RateLimit, "Many keys are being tried. Please try again in a moment.");
            refused.with_retry_after(Some(Duration::from_secs(2)))
        })?;
        let tried = web.relay.catalog.try_key(provider, &place, &owner, &caller.org, &found.secret).await;
        let (result, models) = match tried {
            Tried::Good(models) => ("ok", Some(models)),
            Tried::Refused => ("refused", None),
            Tried::Limited => ("limited", None),
            Tried::Unclear => ("unclear", None),
            Tried::Unreachable => ("unreachable", None),
        };
        let body = json!({
            "provider": provider, "origin": place.origin.as_str(), "owner": whose.word(), "result": result,
            "models": models,
        });
        Ok(Json(body).into_response())
    }
    .await;
    told(said, &id)
}

/// A provider by the name that upstreams have.
fn named(provider: &str) -> &str {
    if provider == "gemini" { "google" } else { provider }
}

fn place(web: &Web, caller: &Caller, provider: &str, base: Option<&str>) -> Result<KeyPlace, No> {
    let place = web.relay.catalog.find_key_place(provider, base, &caller.org);
    place.map_err(|error| No::bad(error.to_string()))
}

fn shown(key: &Listed, whose: Whose) -> Value {
    json!({
        "id": key.id.as_str(), "provider": key.provider, "origin": key.origin, "owner": whose.word(), "set": true,
        "hint": key.hint, "created_at_ms": key.created_at.0,
    })
}

fn no(error: VaultError) -> No {
    match error {
        VaultError::Store(error) => No::Store(error),
        VaultError::BadProvider(_) | VaultError::BadSecret => No::bad(error.to_string()),
        VaultError::Busy => No::Said(StatusCode::CONFLICT, error.to_string()),
        VaultError::Unsealable { .. } | VaultError::BadDek { .. } | VaultError::MissingMaster(_) => {
            No::Said(StatusCode::CONFLICT, "The stored key cannot be opened; please enter it anew.".to_owned())
        }
    }
}
