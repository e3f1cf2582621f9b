//! The relay's doors: the three protocols' routes, and what a call looks like from outside.
//!
//! A door knows whose protocol it is, where the credential stands, and how a refusal is worded there. Everything else is
//! [`salon::relay`]'s.

pub(crate) mod body;
mod models;
pub(crate) mod once;

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use salon::access::{Caller, Credential};
use salon::agents::Pass;
use salon::crowd::Place;
use salon::relay::{Answer, Ask, Count, Kind, Outside, Refused, Told, WAITED, Wire};
use salon_core::CallId;
use std::sync::Arc;

use crate::serve::Peer;
use crate::table::Table;
use crate::{RequestId, Web, crowd, error};

/// Where each protocol is found. OpenAI's clients may leave out `/v1`; the prefixes are other gateways' habit.
pub(crate) fn routes() -> Table {
    let talk = |wire: Wire| move |State(web): State<Web>, request: Request| call(web, wire, request);
    let mut table = Table::default();
    for prefix in ["/v1", "", "/openai/v1", "/openai"] {
        let at = |path: &str| format!("{prefix}{path}");
        table = table
            .post(&at("/chat/completions"), talk(Wire::Chat))
            .post(&at("/completions"), talk(Wire::Completions))
            .post(&at("/responses"), talk(Wire::Responses))
            .get(&at("/responses"), no_socket)
            .post(&at("/embeddings"), talk(Wire::Embeddings))
            .get(&at("/models"), models::list)
            .get(&at("/models/{*model}"), models::one)
            // Gemini's newer clients say `/v1` where the older ones say `/v1beta`.
            .post(&at("/models/{*model}"), gemini);
    }
    for prefix in ["/v1", "/anthropic/v1"] {
        table = table
            .post(&format!("{prefix}/messages"), talk(Wire::Messages))
            .post(&format!("{prefix}/messages/count_tokens"), count_messages);
    }
    table = table.get("/anthropic/v1/models", models::list).get("/anthropic/v1/models/{*model}", models::one);
    for prefix in ["/v1beta", "/genai/v1beta", "/genai/v1"] {
        let one = format!("{prefix}/models/{{*call}}");
        table = table
            .get(&format!("{prefix}/models"), models::gemini_list)
            .get(&one, models::gemini_one)
            .post(&one, gemini);
    }
    table
        .get("/health/liveliness", alive)
        .get("/health/liveness", alive)
        .any("/health/readiness", crate::health::readyz)
        .map(|router| router.method_not_allowed_fallback(wrong_method))
}

/// Whoever asks a door in another way than it is asked hears so in the door's own words.
async fn wrong_method(request: Request) -> Response {
    let (id, path) = (RequestId::of(&request), request.uri().path());
    let wire = door_of(&request).unwrap_or(Wire::Chat);
    let words = format!("This is not asked by {}; the header Allow says how it is.", request.method());
    let refused = Refused::new(Kind::InvalidRequest, words).with_code("method_not_supported").with_status(405);
    let mut told = refusal(wire, &id, &refused);
    // A model is looked at, and its methods are called: the two have one route, whose methods would all be told.
    if path.contains("/models/") {
        let allowed = if is_call(path) { "POST" } else { "GET,HEAD" };
        told.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    told
}

/// Whose door a request stands at, or would stand at if there were one.
fn door_of(request: &Request) -> Option<Wire> {
    let (path, begins) = (request.uri().path(), |prefix: &str| request.uri().path().starts_with(prefix));
    match path {
        _ if begins("/v1beta/") || begins("/genai/") || is_call(path) => Some(Wire::Generate),
        _ if begins("/v1/messages") || begins("/anthropic/") => Some(Wire::Messages),
        _ if begins("/v1/") => Some(models::wire_of(request)),
        _ if begins("/openai/") => Some(Wire::Chat),
        _ => None,
    }
}

/// The answer for whatever is not there: below a door's path in the door's own words.
pub(crate) async fn lost(request: Request) -> Response {
    let Some(wire) = door_of(&request) else { return error::not_found() };
    let words = "There is no such path here; /openapi.json lists those that are there.";
    refusal(wire, &RequestId::of(&request), &Refused::new(Kind::NotFound, words))
}

/// Some clients try a socket first; 426 sends them to the plain way at once, where 404 would make them insist.
async fn no_socket() -> Response {
    let mut response = StatusCode::UPGRADE_REQUIRED.into_response();
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("HTTP/1.1"));
    response
}

async fn alive(State(web): State<Web>) -> Response {
    match web.closing.is_cancelled() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "closing").into_response(),
        false => axum::Json("I'm alive!").into_response(),
    }
}

/// `POST /v1beta/models/{model}:{method}`, and the same below `/v1`
async fn gemini(State(web): State<Web>, request: Request) -> Response {
    match method_of(request.uri().path()) {
        Some("generateContent" | "streamGenerateContent") => call(web, Wire::Generate, request).await,
        Some("countTokens") => count(web, Wire::Generate, request).await,
        _ => {
            let id = RequestId::of(&request);
            refusal(Wire::Generate, &id, &Refused::new(Kind::NotFound, "There is no such method here."))
        }
    }
}

/// What stands behind the last colon of a path.
fn method_of(path: &str) -> Option<&str> {
    path.rsplit_once(':').map(|(_, method)| method)
}

fn is_call(path: &str) -> bool {
    matches!(method_of(path), Some("generateContent" | "streamGenerateContent" | "countTokens"))
}

async fn count_messages(State(web): State<Web>, request: Request) -> Response {
    count(web, Wire::Messages, request).await
}

/// One call, in whichever protocol.
async fn call(web: Web, wire: Wire, request: Request) -> Response {
    let id = RequestId::of(&request);
    let pass = request.extensions().get::<Arc<Pass>>().cloned();
    let response = call_as(&web, wire, request, &id).await;
    if let (Some(pass), Some(Dearth(words))) = (pass, response.extensions().get()) {
        pass.tell(words);
    }
    response
}

/// Marks an answer that says that there is no money for it.
#[derive(Clone)]
struct Dearth(String);

async fn call_as(web: &Web, wire: Wire, request: Request, id: &RequestId) -> Response {
    match read(web, wire, request, id).await {
        Ok((ask, place)) => {
            let answer = once::answer(web, ask, route(wire), id).await;
            numbered(crowd::keeping(place, answer), wire, id)
        }
        Err(refused) => refusal(wire, id, &refused),
    }
}

/// Anthropic's clients look for the request's number under a name of their own.
fn numbered(mut response: Response, wire: Wire, id: &RequestId) -> Response {
    if wire == Wire::Messages
        && let Ok(value) = HeaderValue::from_str(id.as_str())
    {
        response.headers_mut().insert(HeaderName::from_static("request-id"), value);
    }
    response
}

async fn count(web: Web, wire: Wire, request: Request) -> Response {
    let id = RequestId::of(&request);
    let counted = async {
        let (ask, _place) = read(&web, wire, request, &id).await?;
        web.relay.count(ask).await
    };
    match counted.await {
        Ok(Count { body }) => numbered(([(header::CONTENT_TYPE, "application/json")], body).into_response(), wire, &id),
        Err(refused) => refusal(wire, &id, &refused),
    }
}

/// Takes in a call: who, then what. A body is not read for somebody who may not call.
async fn read(web: &Web, wire: Wire, request: Request, id: &RequestId) -> Result<(Ask, Place), Refused> {
    let (head, body) = request.into_parts();
    let pass = head.extensions.get::<Arc<Pass>>().cloned();
    let caller = caller(web, &head, route(wire)).await?;
    if web.closing.is_cancelled() {
        let mut refused = Refused::new(Kind::Overloaded, "This server is closing; please ask again in a moment.");
        refused.retry_after = Some(Duration::from_secs(2));
        return Err(refused);
    }
    let place = crowd::call(web, &caller)?;
    let outside = outside(wire, head.uri.path(), head.uri.query());
    let body = body::read(body, &head.headers, web.relay.settings().max_body).await?;
    let call = number_of(&head.headers, id);
    let turn = pass.map(|pass| pass.asking.clone());
    Ok((Ask { id: call, wire, caller, outside, headers: head.headers, body, turn, share: None }, place))
}

/// Who calls. The one way in for every protocol, so that every header meets the same checks.
pub(crate) async fn caller(web: &Web, head: &axum::http::request::Parts, door: &str) -> Result<Arc<Caller>, Refused> {
    let peer = head.extensions.get::<Peer>().map(|peer| peer.0.ip());
    let credential = Credential::read(&head.headers, head.uri.query()).map_err(Refused::from)?;
    if let Some(pass) = head.extensions.get::<Arc<Pass>>() {
        return pass.admit(credential.as_ref());
    }
    web.relay.admit(credential, peer, is_of_this_machine(head), door).await
}

/// Whether a request looks like one that a program of this machine makes for itself, and not like one that a page of
/// somebody else makes a browser send, or that a proxy passes on.
fn is_of_this_machine(head: &axum::http::request::Parts) -> bool {
    let said = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    if ["x-forwarded-for", "forwarded", "x-real-ip"].iter().any(|name| head.headers.contains_key(*name)) {
        return false;
    }
    let host = head.uri.host().or_else(|| said("host")).unwrap_or_default();
    let at_home = |host: &str| {
        let host = host
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
            .map_or_else(|| host.rsplit_once(':').map_or(host, |(host, _)| host), |(address, _)| address);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let origin = said("origin").is_none_or(|origin| origin.split_once("://").is_some_and(|(_, host)| at_home(host)));
    let site = said("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    at_home(host) && origin && site
}

/// The number of a call: its own if it waited for an admin and is made again, and the request's otherwise.
pub(crate) fn number_of(headers: &HeaderMap, id: &RequestId) -> CallId {
    let waited = headers.get(WAITED).and_then(|number| number.to_str().ok());
    let plain = |number: &&str| number.len() == 26 && number.bytes().all(|byte| byte.is_ascii_alphanumeric());
    waited.filter(plain).map_or_else(|| id.call(), CallId::new)
}

/// What of a request's headers is for us, where nothing of them goes on to an upstream.
pub(crate) fn for_us(headers: &HeaderMap) -> HeaderMap {
    const NAMES: [HeaderName; 3] = [HeaderName::from_static("idempotency-key"), header::CACHE_CONTROL, WAITED];
    let mut ours = HeaderMap::new();
    for name in NAMES {
        ours.extend(headers.get_all(&name).iter().map(|value| (name.clone(), value.clone())));
    }
    ours
}

/// A door's path as the documentation has it, whatever spelling the caller used: scopes of keys are written against it.
fn route(wire: Wire) -> &'static str {
    match wire {
        Wire::Chat => "/v1/chat/completions",
        Wire::Completions => "/v1/completions",
        Wire::Responses => "/v1/responses",
        Wire::Embeddings => "/v1/embeddings",
        Wire::Messages => "/v1/messages",
        Wire::Generate => "/v1beta/models",
        Wire::Midm => "/chat",
    }
}

/// What Gemini says in its path: which model, and whether to stream.
fn outside(wire: Wire, path: &str, query: Option<&str>) -> Outside {
    if wire != Wire::Generate {
        return Outside::default();
    }
    let named = path.split_once("/models/").and_then(|(_, rest)| rest.rsplit_once(':'));
    let Some((model, method)) = named else { return Outside::default() };
    let events = query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
    Outside { model: Some(percent_decoded(model)), stream: method == "streamGenerateContent", events }
}

/// A model's name may hold a slash, which clients write as `%2F`.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tell(answer: Answer) -> Response {
    let body = match answer.told {
        Told::Whole(bytes) => Body::from(bytes),
        Told::Stream(passing) => Body::new(*passing),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

/// A refusal in the words of the caller's protocol.
pub(crate) fn refusal(wire: Wire, id: &RequestId, refused: &Refused) -> Response {
    let status = StatusCode::from_u16(refused.status_on(wire)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = refused.body(wire, id.as_str());
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if matches!(refused.kind, Kind::OverBudget | Kind::Unpaid) {
        response.extensions_mut().insert(Dearth(refused.message.clone()));
    }
    let headers = response.headers_mut();
    for (name, value) in refused.headers() {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    if refused.kind == Kind::Authentication {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    numbered(response, wire, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gemini_names_its_model_in_the_path() {
        let path = "/v1beta/models/openai%2Fgpt-4o:streamGenerateContent";
        let outside = outside(Wire::Generate, path, Some("alt=sse"));
        assert_eq!(outside.model.as_deref(), Some("openai/gpt-4o"));
        assert!(outside.stream && outside.events);
        assert_eq!(percent_decoded("a%2"), "a%2");
        assert_eq!(percent_decoded("%zz%41"), "%zzA");
    }
}
