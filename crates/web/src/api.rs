//! Our own API: what was used, what may be used, and who waits for a yes.
//!
//! Every route is there below `/api` and below `/api/v1`. Errors are the family's `{"detail": …}`.

mod limits;
mod usage;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use salon::access::Caller;
use salon::relay::{Refused, Wire};
use salon_core::people::Role;
use salon_store::Error;

use crate::{RequestId, Web, error, relay};

pub(crate) fn routes() -> Router<Web> {
    let mut router = Router::new();
    for prefix in ["/api", "/api/v1"] {
        let at = |path: &str| format!("{prefix}{path}");
        router = router
            .route(&at("/usage"), get(usage::own))
            .route(&at("/admin/usage/statistics"), get(usage::statistics))
            .route(&at("/admin/usage/users"), get(usage::users))
            .route(&at("/admin/usage/users/{user}"), get(usage::user))
            .route(&at("/admin/usage/limits"), get(limits::list).post(limits::add))
            .route(&at("/admin/usage/limits/{limit}"), put(limits::change).delete(limits::remove))
            .route(&at("/admin/usage/held"), get(limits::held))
            .route(&at("/admin/usage/held/{call}/approve"), post(limits::approve))
            .route(&at("/admin/usage/held/{call}/deny"), post(limits::deny));
    }
    router
}

/// Why a call of this API is not answered.
enum No {
    Refused(Box<Refused>),
    Said(StatusCode, String),
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
fn split(request: Request) -> (RequestId, Parts, axum::body::Body) {
    let id = RequestId::of(&request);
    let (head, body) = request.into_parts();
    (id, head, body)
}
