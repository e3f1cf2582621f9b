//! API keys: one's own, and for admins those of their organisation.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use salon::access::Caller;
use salon::access::issue::{IssueError, Maker, NewKey, make_key, revoke_key};
use salon_core::people::Role;
use salon_core::scopes::{Allowed, Entry};
use salon_core::{KeyId, Scopes, UserId};
use salon_store::ApiKey;
use salon_store::ledger::LimitUse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Done, No, Said, bytes, caller, limits, once, parse, query, split, told};
use crate::Web;

const ROUTE: &str = "/api/keys";

/// A key as it is asked for. It becomes that as far as its person and its maker reach.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entered {
    name: String,
    /// For whom it speaks; the caller, if nothing is said.
    user_id: Option<String>,
    role: Option<String>,
    routes: Option<Vec<String>>,
    models: Option<Vec<String>>,
    networks: Option<Vec<String>>,
    /// A day, or a while from now.
    expires: Option<String>,
    limits: Option<Vec<limits::EnteredOfKey>>,
}

/// Whose keys are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    user_id: Option<String>,
    /// Those, too, that were revoked.
    all: bool,
}

/// `GET /api/keys`
pub(super) async fn list(State(web): State<Web>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, ROUTE, Role::User).await?;
        let asked: Asked = query(&head)?;
        let user = whose(&web, &caller, asked.user_id).await?;
        let mut tx = web.salon.store.read().await?;
        let keys = tx.list_api_keys(Some(&user)).await?;
        let uses = tx.list_limit_uses(&caller.org, web.salon.clock.now(), 1).await?;
        let kept = keys.iter().filter(|key| asked.all || key.revoked_at.is_none());
        let keys: Vec<Value> = kept.map(|key| shown(key, &uses)).collect();
        Ok(Json(json!({ "keys": keys })).into_response())
    }
    .await;
    told(said, &id)
}

/// `POST /api/keys`: the answer has the key itself, this once.
pub(super) async fn add(State(web): State<Web>, request: Request) -> Response {
    let (id, head, body) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, ROUTE, Role::User).await?;
        let body = bytes(&head, body).await?;
        let entered: Entered = parse(&body)?;
        let role = match entered.role.as_deref() {
            Some(word) => Some(Role::parse(word).ok_or_else(|| No::bad("role is user, manager or admin"))?),
            None => None,
        };
        let expires_at = match &entered.expires {
            Some(text) => {
                let at = caller.zone.moment(text, web.salon.clock.now());
                Some(at.ok_or_else(|| No::bad("expires is a day such as 2027-01-31, or 12h, 30d or 8w"))?)
            }
            None => None,
        };
        let limits = entered.limits.unwrap_or_default().into_iter().map(limits::EnteredOfKey::read);
        let new = NewKey {
            user: whose(&web, &caller, entered.user_id).await?,
            name: entered.name,
            role,
            scopes: Scopes {
                routes: allowed(entered.routes)?,
                models: allowed(entered.models)?,
                networks: allowed(entered.networks)?,
            },
            expires_at,
            limits: limits.collect::<Result<_, _>>()?,
        };
        let work = async {
            let salon = &web.salon;
            let issued = make_key(&salon.store, &salon.clock, &salon.keys, Maker::Caller(&caller), new).await;
            let issued = issued.map_err(refused)?;
            // The key may be used as soon as it is seen. It is made, whatever comes of this; the book looks by itself, too.
            if !issued.limits.is_empty()
                && let Err(error) = web.relay.book.look().await
            {
                tracing::warn!(%error, "the limits of a new key are not known yet");
            }
            let mut again = shown(&issued.key, &[]);
            again["limits"] = issued.limits.iter().map(limits::shown).collect();
            let mut body = again.clone();
            body["key"] = json!(issued.secret.expose());
            again["key"] = Value::Null;
            Ok(Done { again: Some(again), ..Done::created(body) })
        };
        once(&web, &head, &caller, "POST /api/keys", &body, work).await
    }
    .await;
    told(said, &id)
}

/// `DELETE /api/keys/{id}`: it is turned away at once, and so are those that were made with it.
pub(super) async fn revoke(State(web): State<Web>, Path(key): Path<String>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, "/api/keys/{id}", Role::User).await?;
        let key = KeyId::new(key);
        let salon = &web.salon;
        let revoked = revoke_key(&salon.store, &salon.clock, &salon.keys, Maker::Caller(&caller), &key).await;
        revoked.map_err(refused)?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }
    .await;
    told(said, &id)
}

/// The person that is meant. Others are the admins' business, and somebody of another organisation is nobody here.
async fn whose(web: &Web, caller: &Caller, user: Option<String>) -> Result<UserId, No> {
    let user = user.map_or_else(|| caller.user.clone(), UserId::new);
    if user == caller.user {
        return Ok(user);
    }
    caller.may_act_as(Role::Admin).map_err(salon::relay::Refused::from)?;
    let known = web.salon.store.read().await?.find_user(&user).await?;
    known.filter(|known| known.org == caller.org).map(|known| known.id).ok_or_else(|| No::missing("person"))
}

fn allowed<T: Entry>(entries: Option<Vec<String>>) -> Result<Allowed<T>, No> {
    match entries {
        Some(entries) => Allowed::of(entries.iter().map(String::as_str)).map_err(|error| No::bad(error.to_string())),
        None => Ok(Allowed::All),
    }
}

fn refused(error: IssueError) -> No {
    match error {
        IssueError::Store(error) => No::Store(error),
        IssueError::NoKey(_) => No::missing("key"),
        IssueError::Nobody(_) | IssueError::NotYours => No::missing("person"),
        IssueError::Limited | IssueError::Anonymous => No::Said(StatusCode::FORBIDDEN, error.to_string()),
        IssueError::TooMany => No::Said(StatusCode::CONFLICT, error.to_string()),
        IssueError::BadName
        | IssueError::Nothing
        | IssueError::BadRoute(_)
        | IssueError::Past
        | IssueError::BadLimit(_) => No::bad(error.to_string()),
    }
}

fn shown(key: &ApiKey, uses: &[LimitUse]) -> Value {
    json!({
        "id": key.id.as_str(), "name": key.name, "hint": key.hint, "user_id": key.user.as_str(),
        "made_by": key.maker.as_str(), "made_with": key.parent.as_ref().map(KeyId::as_str),
        "role": key.role.as_str(), "routes": entries(key.routes.as_deref()), "models": entries(key.models.as_deref()),
        "networks": entries(key.networks.as_deref()), "created_at_ms": key.created_at.0,
        "expires_at_ms": key.expires_at.map(|at| at.0), "last_used_at_ms": key.last_used_at.map(|at| at.0),
        "revoked_at_ms": key.revoked_at.map(|at| at.0), "limits": limits::of_key(uses, &key.id),
    })
}

/// A list as its column has it.
fn entries(text: Option<&str>) -> Option<Vec<&str>> {
    text.map(|text| text.split(',').collect())
}
