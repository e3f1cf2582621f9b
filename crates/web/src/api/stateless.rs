//! Chats without a session: the caller brings the whole conversation, and it is relayed like any other call.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use salon::access::Caller;
use salon::catalog::Ability;
use salon::relay::{Answer, Ask, Heard, Hearing, Kind, Listed, Outside, Refused, Told, Wire};
use salon_core::Rates;
use salon_core::people::Role;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::form::Form;
use super::frames::{self, Frames};
use super::{No, Said, caller, long_bytes, split, told};
use crate::relay::once::{self as relay_once, Kept};
use crate::{RequestId, Web, crowd, relay};

const ROUTE: &str = "/api/chat/completions";
const ROUTE_STREAM: &str = "/api/chat/stream";
const WAITING: usize = 64;

/// `POST /api/chat/completions`
pub(super) async fn completions(State(web): State<Web>, request: Request) -> Response {
    let (id, head, body) = split(request);
    let said = async {
        let caller = caller(&web, &head, ROUTE, Role::User).await?;
        let _place = crowd::call(&web, &caller)?;
        let body = long_bytes(&web, &head, body).await?;
        let ask = ask(&web, &head, caller, &body, &id, false).await?;
        match relay_once::begin(&web, &ask, ROUTE).await? {
            Kept::Again(response) => Ok(response),
            Kept::Free => Ok(whole(web.relay.call(ask).await?)),
            Kept::New(work) => {
                Ok(relay_once::keep_whole(web.relay.call(ask).await, work, Wire::Midm, &id, whole).await)
            }
        }
    };
    told(said.await, &id)
}

/// An answer with what it cost in its usage.
fn whole(answer: Answer) -> Response {
    let Told::Whole(bytes) = answer.told else { return StatusCode::BAD_GATEWAY.into_response() };
    if answer.status != StatusCode::OK {
        let words = serde_json::from_slice::<Value>(&bytes).ok();
        let words = words.as_ref().and_then(|body| body["error"]["message"].as_str());
        let detail = words.unwrap_or("The model's provider refused the request.");
        return (answer.status, answer.headers, Json(json!({ "detail": detail }))).into_response();
    }
    let cost = answer.headers.get("x-salon-cost").and_then(|cost| cost.to_str().ok()?.parse::<f64>().ok());
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(mut body)) => {
            if let (Some(Value::Object(usage)), Some(cost)) = (body.get_mut("usage"), cost) {
                usage.insert("estimated_cost".to_owned(), json!(cost));
            }
            (answer.headers, Json(Value::Object(body))).into_response()
        }
        _ => (answer.headers, bytes).into_response(),
    }
}

/// The half of `POST /api/chat/stream` that brings its own messages.
pub(super) async fn stream(web: &Web, head: &Parts, caller: Arc<Caller>, body: &[u8], id: &RequestId) -> Said {
    let place = crowd::call(web, &caller)?;
    let ask = ask(web, head, caller, body, id, true).await?;
    let call = ask.id.to_string();
    let kept = match relay_once::begin(web, &ask, ROUTE_STREAM).await? {
        Kept::Again(response) => return Ok(response),
        Kept::Free => None,
        Kept::New(work) => Some(work),
    };
    let answer = match web.relay.call(ask).await {
        Ok(answer) => answer,
        Err(refused) => {
            if let Some(work) = kept {
                return Ok(relay_once::keep_whole(Err(refused), work, Wire::Midm, id, whole).await);
            }
            return Err(refused.into());
        }
    };
    let (status, mut headers) = (answer.status, answer.headers.clone());
    if status != StatusCode::OK {
        return Ok(whole(answer));
    }
    let (said, heard) = mpsc::channel(WAITING);
    tokio::spawn(tell(Hearing::new(answer.told, call), said));
    for (name, value) in frames::response(Body::empty()).headers() {
        headers.insert(name.clone(), value.clone());
    }
    let body = match kept {
        Some(work) => relay_once::recorded(Frames(heard), work, &headers),
        None => Body::new(Frames(heard)),
    };
    Ok(crowd::keeping(place, (status, headers, body).into_response()))
}

/// Tells what comes in this family's short frames. That the reader goes away ends it: hanging up is paid for.
async fn tell(mut hearing: Hearing, said: mpsc::Sender<Bytes>) {
    loop {
        let heard = tokio::select! {
            heard = hearing.next() => heard,
            () = said.closed() => return,
        };
        let Some(heard) = heard else { return };
        let frames: Vec<u8> = heard.into_iter().flat_map(frame).collect();
        if !frames.is_empty() && said.send(frames.into()).await.is_err() {
            return;
        }
    }
}

fn frame(heard: Heard) -> Vec<u8> {
    match heard {
        Heard::Text(text) => short(&json!({ "content": text })),
        Heard::Thought(_) => Vec::new(),
        Heard::End(_) => b"data: [DONE]\n\n".to_vec(),
        Heard::Broken(fault) => short(&json!({ "error": fault.sentence() })),
    }
}

fn short(data: &Value) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

/// The call that a body means. The model and what is wished of the answer have defaults; everything else goes on as it is.
async fn ask(
    web: &Web,
    head: &Parts,
    caller: Arc<Caller>,
    body: &[u8],
    id: &RequestId,
    stream: bool,
) -> Result<Ask, No> {
    let mut form = Form::read(body)?;
    let model = form.text("model");
    let max_output = form.count("max_tokens", 1).or(web.sessions.wishes.max_output);
    let temperature = form.number("temperature").or(web.sessions.wishes.temperature);
    form.needed_messages("messages");
    let mut fields = form.finish()?;
    let model = match model.filter(|model| !model.is_empty()) {
        Some(model) => model,
        None => usual_model(web).await?,
    };
    fields.retain(|name, value| !value.is_null() && name != "stream");
    fields.insert("model".to_owned(), model.into());
    put(&mut fields, "max_tokens", max_output.map(Into::into));
    put(&mut fields, "temperature", temperature.map(Into::into));
    fields.insert("stream".to_owned(), stream.into());
    let mut headers = relay::for_us(&head.headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Ask {
        id: relay::number_of(&head.headers, id),
        wire: Wire::Chat,
        caller,
        outside: Outside::default(),
        headers,
        body: Value::Object(fields).to_string().into(),
        turn: None,
        share: None,
    })
}

fn put(fields: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value);
    }
}

/// The model that answers where nobody names one.
pub(crate) async fn usual_model(web: &Web) -> Result<String, Refused> {
    match web.usual_model().await {
        Some(Ok(model)) => Ok(model),
        Some(Err(fault)) => Err(Refused::new(Kind::Upstream, fault.sentence())),
        None => {
            let words = "No model is configured here; name one that `GET /v1/models` lists.";
            Err(Refused::new(Kind::NotFound, words).with_code("no_model"))
        }
    }
}

/// `GET /api/models`
pub(super) async fn models(State(web): State<Web>, request: Request) -> Response {
    let (id, head, _) = split(request);
    told(async { Ok(Json(list(&web, &head).await?).into_response()) }.await, &id)
}

/// `GET /api/models/default`
pub(super) async fn default_model(State(web): State<Web>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said = async {
        let first = list(&web, &head).await?.into_iter().next();
        Ok(Json(first.ok_or_else(|| No::missing("model"))?).into_response())
    };
    told(said.await, &id)
}

/// The models that the caller can use, the usual one first.
async fn list(web: &Web, head: &Parts) -> Result<Vec<Value>, No> {
    let caller = caller(web, head, "/api/models", Role::User).await?;
    let mut models = web.relay.list(&caller).await?;
    let usual = web.usual_model().await.and_then(Result::ok).unwrap_or_default();
    let bare = usual.split_once(':').map_or(usual.as_str(), |(_, model)| model);
    models.sort_by_key(|listed| listed.model.name != usual && listed.model.name != bare);
    Ok(models.iter().map(info).collect())
}

fn info(listed: &Listed) -> Value {
    let model = &listed.model;
    let abilities: Vec<&str> = model.abilities.iter().map(|ability: &Ability| ability.as_str()).collect();
    let capabilities = if abilities.is_empty() { vec!["chat"] } else { abilities };
    let rates = listed.priced.map(|priced| priced.rates.usual).unwrap_or_default();
    json!({
        "id": model.name,
        "name": model.name,
        "description": format!("{} by {}", model.name, listed.provider),
        "max_tokens": model.context.or(model.most_output).or(model.output),
        "pricing": { "prompt": per_thousand(&rates, true), "completion": per_thousand(&rates, false) },
        "capabilities": capabilities,
    })
}

/// Dollars for a thousand tokens, as this list has always had them: for people to look at, and not for sums.
fn per_thousand(rates: &Rates, input: bool) -> f64 {
    let micros = if input { rates.input } else { rates.output };
    micros as f64 / 1e9
}
