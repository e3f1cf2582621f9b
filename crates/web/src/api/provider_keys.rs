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
pub(super) trait Whose: 'static {
    const WORD: &'static str;
    /// The route as keys are let in to it.
    const ROUTE: &'static str;
    /// Who may look after them.
    const ROLE: Role;

    fn owner(caller: &Caller) -> Owner;
}

/// One's own keys.
pub(super) struct Own;

/// Those that the organisation shares.
pub(super) struct Shared;

impl Whose for Own {
    const WORD: &'static str = "own";
    const ROUTE: &'static str = "/api/provider-keys";
    const ROLE: Role = Role::User;

    fn owner(caller: &Caller) -> Owner {
        Owner::User(caller.user.clone())
    }
}

impl Whose for Shared {
    const WORD: &'static str = "shared";
    const ROUTE: &'static str = "/api/admin/provider-keys";
    const ROLE: Role = Role::Admin;

    fn owner(caller: &Caller) -> Owner {
        Owner::Org(caller.org.clone())
    }
}

async fn admit<W: Whose>(web: &Web, head: &Parts) -> Result<(Arc<Caller>, Owner), No> {
    let caller = caller(web, head, W::ROUTE, W::ROLE).await?;
    let owner = W::owner(&caller);
    Ok((caller, owner))
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

/// `GET /api/provider-keys`, `/api/admin/provider-keys`. Beside one's own stands for which providers there are shared
/// ones.
pub(super) async fn list<W: Whose>(State(web): State<Web>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let (caller, owner) = admit::<W>(&web, &head).await?;
        let keys = web.salon.vault.list_keys(Some(&owner)).await.map_err(no)?;
        let mut keys: Vec<Value> = keys.iter().map(|key| shown::<W>(key)).collect();
        if let Owner::User(_) = owner {
            let shared = web.salon.vault.list_keys(Some(&Owner::Org(caller.org.clone()))).await.map_err(no)?;
            keys.extend(shared.iter().map(
                |key| json!({ "provider": key.provider, "origin": key.origin, "owner": Shared::WORD, "set": true }),
            ));
        }
        Ok(Json(json!({ "provider_keys": keys })).into_response())
    }
    .await;
    told(said, &id)
}

/// `GET …/{provider}`: whether there is a key, and where it may be shown.
pub(super) async fn find<W: Whose>(State(web): State<Web>, Path(provider): Path<String>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let (_, owner) = admit::<W>(&web, &head).await?;
        let provider = named(&provider);
        check_provider(provider).map_err(no)?;
        let keys = web.salon.vault.list_keys(Some(&owner)).await.map_err(no)?;
        let keys: Vec<Value> = keys.iter().filter(|key| key.provider == provider).map(|key| shown::<W>(key)).collect();
        Ok(Json(json!({ "provider": provider, "set": !keys.is_empty(), "keys": keys })).into_response())
    }
    .await;
    told(said, &id)
}

/// `PUT …/{provider}`: in the place of the one for the same address.
pub(super) async fn put<W: Whose>(State(web): State<Web>, Path(provider): Path<String>, request: Request) -> Response {
    let (id, head, body) = split(request);
    let said: Said = async {
        let (caller, owner) = admit::<W>(&web, &head).await?;
        let entered: Entered = parse(&bytes(&head, body).await?)?;
        let provider = named(&provider);
        let origin = place(&web, &caller, provider, entered.base_url.as_deref())?.origin;
        let secret = Secret::new(entered.key.trim());
        let pen = web.salon.pen(&*caller);
        let key = web.salon.vault.put_key(&owner, provider, &origin, secret, &pen).await.map_err(no)?;
        let keys = web.salon.vault.list_keys(Some(&owner)).await.map_err(no)?;
        // Somebody may have replaced it in this moment.
        let kept = keys.iter().find(|listed| listed.id == key).ok_or_else(|| No::missing("key"))?;
        Ok(Json(shown::<W>(kept)).into_response())
    }
    .await;
    told(said, &id)
}

/// `DELETE …/{provider}`: the one for `base_url`, or all for this provider.
pub(super) async fn remove<W: Whose>(
    State(web): State<Web>,
    Path(provider): Path<String>,
    request: Request,
) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let (caller, owner) = admit::<W>(&web, &head).await?;
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

/// `POST …/{provider}/test`: asks the provider for its models with the key.
pub(super) async fn test<W: Whose>(State(web): State<Web>, Path(provider): Path<String>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let (caller, owner) = admit::<W>(&web, &head).await?;
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
            "provider": provider, "origin": place.origin.as_str(), "owner": W::WORD, "result": result,
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

fn shown<W: Whose>(key: &Listed) -> Value {
    json!({
        "id": key.id.as_str(), "provider": key.provider, "origin": key.origin, "owner": W::WORD, "set": true,
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
