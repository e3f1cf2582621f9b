//! Our own API: sessions and chats, keys, what was used, what may be used, who waits for a yes, and how the upstreams have been doing.
//!
//! Every route is there below `/api` and below `/api/v1`. Errors are the family's `{"detail": …}`.

mod agents;
mod chat;
mod form;
pub(crate) mod frames;
mod keys;
mod limits;
pub(crate) mod llm;
mod provider_keys;
mod sessions;
pub(crate) mod stateless;
mod upstreams;
mod usage;

pub(crate) use agents::sent as sent_file;

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use salon::access::Caller;
use salon::idempotency::Route;
use salon::relay::{Refused, Wire};
use salon_core::people::Role;
use salon_store::Error;
use serde::Deserialize;
use serde_json::{Value, json};

use self::provider_keys::{Own, Shared};
use crate::once::{self, Begin};
use crate::relay::body;
use crate::table::Table;
use crate::{RequestId, Web, error, relay};

pub(crate) fn routes() -> Table {
    let mut table = Table::default();
    for prefix in ["/api", "/api/v1"] {
        let at = |path: &str| format!("{prefix}{path}");
        table = table
            .get(&at("/sessions"), sessions::list)
            .post(&at("/sessions"), sessions::open)
            .get(&at("/sessions/{session}"), sessions::find)
            .delete(&at("/sessions/{session}"), sessions::delete)
            .get(&at("/sessions/{session}/messages"), sessions::messages)
            .get(&at("/sessions/{session}/stream"), chat::again)
            .delete(&at("/sessions/{session}/run"), sessions::stop)
            .get(&at("/sessions/{session}/files/{file}"), agents::file)
            .post(&at("/sessions/{session}/asks/{ask}"), agents::answer)
            .post(&at("/sessions/{session}/steer"), agents::steer)
            .post(&at("/chat"), chat::whole)
            .post(&at("/chat/stream"), chat::stream)
            .post(&at("/chat/completions"), stateless::completions)
            .get(&at("/models"), stateless::models)
            .get(&at("/models/default"), stateless::default_model)
            .get(&at("/health"), chat::health)
            .get(&at("/keys"), keys::list)
            .post(&at("/keys"), keys::add)
            .delete(&at("/keys/{key}"), keys::revoke)
            .get(&at("/provider-keys"), provider_keys::list::<Own>)
            .get(&at("/provider-keys/{provider}"), provider_keys::find::<Own>)
            .put(&at("/provider-keys/{provider}"), provider_keys::put::<Own>)
            .delete(&at("/provider-keys/{provider}"), provider_keys::remove::<Own>)
            .post(&at("/provider-keys/{provider}/test"), provider_keys::test::<Own>)
            .get(&at("/admin/provider-keys"), provider_keys::list::<Shared>)
            .get(&at("/admin/provider-keys/{provider}"), provider_keys::find::<Shared>)
            .put(&at("/admin/provider-keys/{provider}"), provider_keys::put::<Shared>)
            .delete(&at("/admin/provider-keys/{provider}"), provider_keys::remove::<Shared>)
            .post(&at("/admin/provider-keys/{provider}/test"), provider_keys::test::<Shared>)
            .get(&at("/usage"), usage::own)
            .get(&at("/admin/usage/statistics"), usage::statistics)
            .get(&at("/admin/usage/users"), usage::users)
            .get(&at("/admin/usage/users/{user}"), usage::user)
            .get(&at("/admin/usage/limits"), limits::list)
            .post(&at("/admin/usage/limits"), limits::add)
            .put(&at("/admin/usage/limits/{limit}"), limits::change)
            .delete(&at("/admin/usage/limits/{limit}"), limits::remove)
            .get(&at("/admin/upstreams"), upstreams::list)
            .get(&at("/admin/usage/held"), limits::held)
            .post(&at("/admin/usage/held/{call}/approve"), limits::approve)
            .post(&at("/admin/usage/held/{call}/deny"), limits::deny);
    }
    table
}

/// Why a call of this API is not answered.
enum No {
    Refused(Box<Refused>),
    Said(StatusCode, String),
    /// What is wrong with which field.
    Listed(StatusCode, Vec<Value>),
    /// Not now, but in a moment.
    Later(String),
    Store(Error),
}

impl No {
    fn bad(why: impl Into<String>) -> No {
        No::Said(StatusCode::UNPROCESSABLE_ENTITY, why.into())
    }

    fn missing(what: &str) -> No {
        No::Said(StatusCode::NOT_FOUND, format!("There is no such {what}."))
    }
}

impl From<Refused> for No {
    fn from(refused: Refused) -> No {
        No::Refused(Box::new(refused))
    }
}

impl From<Error> for No {
    fn from(error: Error) -> No {
        No::Store(error)
    }
}

impl No {
    fn tell(self, id: &RequestId) -> Response {
        match self {
            No::Refused(refused) => relay::refusal(Wire::Midm, id, &refused),
            No::Said(status, why) => error::plain(status, &why),
            No::Listed(status, wrong) => (status, Json(json!({ "detail": wrong }))).into_response(),
            No::Later(why) => {
                let mut response = error::plain(StatusCode::TOO_MANY_REQUESTS, &why);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
            No::Store(Error::Unavailable(_) | Error::Full) => error::unavailable(1),
            No::Store(error) => error::fault(&error),
        }
    }
}

type Said = Result<Response, No>;

fn told(said: Said, id: &RequestId) -> Response {
    said.unwrap_or_else(|no| no.tell(id)).into_response()
}

/// Who calls, if they may act in this role.
async fn caller(web: &Web, head: &Parts, route: &str, role: Role) -> Result<Arc<Caller>, No> {
    let caller = relay::caller(web, head, route).await?;
    caller.may_act_as(role).map_err(Refused::from)?;
    Ok(caller)
}

/// A request in its two halves, with its number.
fn split(request: Request) -> (RequestId, Parts, Body) {
    let id = RequestId::of(&request);
    let (head, body) = request.into_parts();
    (id, head, body)
}

/// The longest body of this API.
const LONGEST: usize = 64 << 10;

/// Takes in a body. It is read after its sender was let in.
async fn bytes(head: &Parts, body: Body) -> Result<Bytes, No> {
    Ok(body::read(body, &head.headers, LONGEST).await?)
}

/// Takes in a body that may hold a whole conversation.
async fn long_bytes(web: &Web, head: &Parts, body: Body) -> Result<Bytes, No> {
    Ok(body::read(body, &head.headers, web.relay.settings().max_body).await?)
}

/// What a body says. What is in it and unknown is refused: it was meant to do something.
fn parse<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, No> {
    if !is_object(bytes) {
        return Err(No::bad("the body is not a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| No::bad(format!("the body cannot be understood: {error}")))
}

/// Whether JSON begins as an object does. A list of the fields' values would be taken for one, too.
pub(crate) fn is_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'{')
}

/// What stands behind the `?`.
fn query<T: for<'a> Deserialize<'a>>(head: &Parts) -> Result<T, No> {
    let asked = Query::<T>::try_from_uri(&head.uri);
    asked.map(|Query(asked)| asked).map_err(|error| No::bad(error.body_text()))
}

/// What was done.
struct Done {
    status: StatusCode,
    body: Value,
    /// What those hear who ask again, if not the same: a secret is not kept for them.
    again: Option<Value>,
}

impl Done {
    fn created(body: Value) -> Done {
        Done { status: StatusCode::CREATED, body, again: None }
    }
}

/// Does something, and if it carries an `Idempotency-Key`, does it once. `route` names method, door and what of the path
/// is variable.
async fn once(
    web: &Web,
    head: &Parts,
    caller: &Caller,
    route: &str,
    body: &[u8],
    work: impl Future<Output = Result<Done, No>>,
) -> Said {
    let place = Route { org: &caller.org, user: &caller.user, route };
    let kept = match once::begin(web, &head.headers, place, body).await? {
        Begin::Free => None,
        Begin::New(kept) => Some(kept),
        Begin::Again(replay) => return Ok(once::again(replay)?),
    };
    let done = work.await;
    let Some(kept) = kept else { return done.map(|done| (done.status, Json(done.body)).into_response()) };
    match done {
        Ok(done) => {
            let response = (done.status, Json(&done.body)).into_response();
            let again = done.again.as_ref().unwrap_or(&done.body).to_string();
            let headers = once::kept(response.headers()).into_iter().filter(|(name, _)| name != "content-length");
            let headers = headers.collect();
            once::note(kept.finish(done.status.as_u16(), &headers, again.as_bytes()).await);
            Ok(response)
        }
        // Nothing was done, and it may be tried again.
        Err(no) => {
            once::note(kept.forget().await);
            Err(no)
        }
    }
}
