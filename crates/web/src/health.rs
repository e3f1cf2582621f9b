//! Watching it: `/healthz` says the process lives, `/readyz` whether it can do its work, `/metrics` how much it did.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use salon::Salon;
use salon::catalog::{KeyFrom, Upstream};
use salon::engines::Answers;
use salon::keys::KeyError;
use salon::relay::Fault;
use salon_store::JobCounts;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::{self, not_found};
use crate::serve::Peer;
use crate::{Disk, Web};

const PROBE_DEADLINE: Duration = Duration::from_secs(1);
/// How often the usual model's server is looked at, and for how long.
const SERVED_EVERY: Duration = Duration::from_secs(5);
const SERVED_DEADLINE: Duration = Duration::from_secs(2);
const PROBE_EVERY: Duration = Duration::from_millis(500);

pub async fn healthz() -> Response {
    Json(json!({ "ok": true })).into_response()
}

/// `GET /health`, as the older systems had it: a word for those who want text, and `ok` for the others.
pub async fn health(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match accept.starts_with("text/plain") {
        true => "ok".into_response(),
        false => Json(json!({ "status": "ok" })).into_response(),
    }
}

/// The last probe, shared by all who ask: the store is tried at most once a second, however many do.
#[derive(Clone, Default)]
pub struct Probed {
    last: Arc<Mutex<Option<(Instant, Verdict)>>>,
    /// Whether the usual model's server is there.
    served: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Web {
    /// The model that answers where nobody names one; `None` if none is configured.
    pub(crate) async fn usual_model(&self) -> Option<Result<String, Fault>> {
        let engine = self.salon.engines.find(&self.sessions.engine)?;
        match engine.answers {
            Answers::Model(choice) => Some(self.relay.name_of(&choice).await),
            Answers::Panel(name) => Some(Ok(format!("{}{name}", salon::panels::AS_MODEL))),
            // Some engines of this house are models as well.
            Answers::Agent(_) => None,
            Answers::Engine(_) => self.relay.catalog.snapshot().knows(&engine.name).then_some(Ok(engine.name)),
        }
    }

    /// Whether the usual model could be asked. Servers of one's own are looked at every few seconds, if somebody asks.
    pub(crate) async fn serves(&self) -> bool {
        let mut served = self.probed.served.lock().await;
        if let Some((at, served)) = *served
            && at.elapsed() < SERVED_EVERY
        {
            return served;
        }
        let found = tokio::time::timeout(SERVED_DEADLINE, self.look_for_model()).await.unwrap_or(false);
        *served = Some((Instant::now(), found));
        found
    }

    async fn look_for_model(&self) -> bool {
        let Some(Ok(model)) = self.usual_model().await else { return false };
        let places = self.places_of(&model);
        if places.is_empty() || places.iter().any(|upstream| !matches!(upstream.key, KeyFrom::Nowhere)) {
            return true;
        }
        for own in places {
            if matches!(self.relay.catalog.check(&own.name).await, Some(Ok(_))) {
                return true;
            }
        }
        false
    }

    /// Who serves a model, by whichever of its names.
    pub(crate) fn places_of(&self, model: &str) -> Vec<Arc<Upstream>> {
        let found = self.relay.catalog.snapshot().find_model(model, None);
        found.map_or_else(Vec::new, |model| model.deployments.iter().map(|place| place.upstream.clone()).collect())
    }
}

/// What the store said; `ok`, or why not.
#[derive(Clone)]
struct Verdict {
    store: String,
    key: String,
}

impl Probed {
    /// Whether a write would succeed now.
    pub(crate) async fn store_is_well(&self, salon: &Salon) -> bool {
        self.verdict(salon).await.store == "ok"
    }

    async fn verdict(&self, salon: &Salon) -> Verdict {
        let mut last = self.last.lock().await;
        if let Some((at, verdict)) = &*last
            && at.elapsed() < PROBE_EVERY
        {
            return verdict.clone();
        }
        let asked = async { (salon.store.probe().await, salon.keys.fits(&salon.store).await) };
        let verdict = match tokio::time::timeout(PROBE_DEADLINE, asked).await {
            Ok((store, key)) => Verdict {
                store: store.map_or_else(|error| error.to_string(), |()| "ok".to_owned()),
                key: match key {
                    Ok(true) => "ok".to_owned(),
                    Ok(false) => KeyError::Wrong.to_string(),
                    Err(error) => error.to_string(),
                },
            },
            Err(_) => {
                let late = "it takes longer than a second".to_owned();
                Verdict { store: late.clone(), key: late }
            }
        };
        *last = Some((Instant::now(), verdict.clone()));
        verdict
    }
}

/// 200 only if a write would succeed now, the master key fits the data, there is room on the disk, and we are not closing.
/// Bots are shown to those who may watch, but one bot's trouble does not take the others out of service.
pub async fn readyz(State(web): State<Web>, peer: Option<Extension<Peer>>, headers: HeaderMap) -> Response {
    let Verdict { store, key } = web.probed.verdict(&web.salon).await;
    let disk = web.doors.disk();
    let roomy = disk.is_none_or(Disk::has_room);
    let closing = web.closing.is_cancelled();
    let ok = store == "ok" && key == "ok" && roomy && !closing;
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !may_watch(&web, peer.map(|Extension(peer)| peer), &headers) {
        return (status, Json(json!({ "ok": ok }))).into_response();
    }
    let bots: Vec<_> = web
        .doors
        .bots()
        .into_iter()
        .map(|bot| {
            json!({
                "bot_id": bot.id, "name": bot.name, "intake": bot.intake, "receiving": bot.receiving,
                "username": bot.username, "error": bot.error,
            })
        })
        .collect();
    let body = json!({
        "ok": ok,
        "store": store,
        "key": key,
        "disk": disk.map(|disk| json!({ "free_bytes": disk.free, "total_bytes": disk.total, "ok": disk.has_room() })),
        "closing": closing,
        "bots": bots,
        "agents": web.salon.agents.get().map_or("not run", |agents| agents.walls()),
    });
    (status, Json(body)).into_response()
}

#[derive(Deserialize)]
pub struct Asked {
    /// Counts of this bot alone, as the bridge's processes gave them.
    bot: Option<String>,
}

/// Prometheus text, or the bridge's JSON for those who ask for JSON. For this machine and for bearers of the token; to
/// everybody else nothing is here, in whichever way they ask.
pub async fn metrics(
    State(web): State<Web>,
    method: Method,
    peer: Option<Extension<Peer>>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    if !may_watch(&web, peer.map(|Extension(peer)| peer), &headers) {
        return not_found();
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        return ([(header::ALLOW, "GET,HEAD")], error::method_not_allowed().await).into_response();
    }
    let counts = async {
        let mut tx = web.salon.store.read().await?;
        Ok::<_, salon_store::Error>((
            tx.count_jobs().await?,
            tx.count_turns().await?,
            tx.count_parts().await?,
            tx.count_parked().await?,
        ))
    };
    let (jobs, turns, parts, parked) = match counts.await {
        Ok(counts) => counts,
        Err(error) => {
            tracing::warn!(%error, "the metrics cannot be counted");
            return error::unavailable(5);
        }
    };
    let counters = web.salon.metrics.all();
    let wants_json = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"));
    if wants_json {
        return Json(bridge_form(&jobs, &turns, &counters, asked.bot.as_deref())).into_response();
    }
    let mut text = String::new();
    gauge(&mut text, "salon_jobs", "Jobs by kind, bot and state, in the bridge's words.");
    for ((kind, bot, state), count) in queue_states(&jobs, &turns) {
        let _ = writeln!(text, "salon_jobs{{kind=\"{kind}\",bot=\"{bot}\",state=\"{state}\"}} {count}");
    }
    gauge(&mut text, "salon_turns", "Turns by bot and state.");
    for (bot, state, count) in &turns {
        let _ = writeln!(text, "salon_turns{{bot=\"{bot}\",state=\"{state}\"}} {count}");
    }
    gauge(&mut text, "salon_outbox_parts", "Messages by state; an orphan is a placeholder nobody edits.");
    for (state, count) in &parts {
        let _ = writeln!(text, "salon_outbox_parts{{state=\"{state}\"}} {count}");
    }
    gauge(&mut text, "salon_chats_parked", "Chats that take no messages.");
    let _ = writeln!(text, "salon_chats_parked {parked}");
    let _ = writeln!(text, "# HELP salon_events_total What happened since the start, by bot and kind.");
    let _ = writeln!(text, "# TYPE salon_events_total counter");
    for ((bot, name), value) in &counters {
        let _ = writeln!(text, "salon_events_total{{bot=\"{bot}\",event=\"{name}\"}} {value}");
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn gauge(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}");
    let _ = writeln!(text, "# TYPE {name} gauge");
}

/// A process on this machine, unless it speaks for somebody else; or whoever shows the token.
pub(crate) fn may_watch(web: &Web, peer: Option<Peer>, headers: &HeaderMap) -> bool {
    let forwarded = headers.contains_key("x-forwarded-for") || headers.contains_key("forwarded");
    if !forwarded && peer.is_some_and(|Peer(address)| address.ip().is_loopback()) {
        return true;
    }
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    match (&web.metrics_token, shown) {
        (Some(known), Some(shown)) => Sha256::digest(known) == Sha256::digest(shown),
        _ => false,
    }
}

/// Counts by (kind, bot, state) in the bridge's words: `queued leased in_flight completed failed cancelled`.
fn queue_states(jobs: &[JobCounts], turns: &[(String, String, i64)]) -> BTreeMap<(String, String, &'static str), i64> {
    let mut states = BTreeMap::new();
    for job in jobs {
        let bot = job.bot.clone().unwrap_or_default();
        let state = match job.state.as_str() {
            "queued" => "queued",
            "running" => "leased",
            "done" => "completed",
            "stopped" => "cancelled",
            _ => "failed",
        };
        *states.entry((job.kind.clone(), bot, state)).or_default() += job.count;
    }
    // A leased run whose turn has begun to be answered is in flight.
    for (bot, state, count) in turns {
        if state == "running" {
            let leased = states.entry(("run".to_owned(), bot.clone(), "leased")).or_default();
            let flying = (*count).min(*leased);
            *leased -= flying;
            *states.entry(("run".to_owned(), bot.clone(), "in_flight")).or_default() += flying;
        }
        // A run whose turn failed ended as it should; the bridge called the run failed.
        if state == "failed" {
            let completed = states.entry(("run".to_owned(), bot.clone(), "completed")).or_default();
            let failed = (*count).min(*completed);
            *completed -= failed;
            *states.entry(("run".to_owned(), bot.clone(), "failed")).or_default() += failed;
        }
    }
    states.retain(|_, count| *count > 0);
    states
}

/// The shape that the bridge's scripts read. States and counters that are zero are left out.
fn bridge_form(
    jobs: &[JobCounts],
    turns: &[(String, String, i64)],
    counters: &BTreeMap<(String, String), u64>,
    only: Option<&str>,
) -> Value {
    let states = queue_states(jobs, turns);
    let of = |wanted: &str| {
        let mut by_state: BTreeMap<&str, i64> = BTreeMap::new();
        for ((kind, bot, state), count) in &states {
            if kind == wanted && only.is_none_or(|only| only == bot) {
                *by_state.entry(state).or_default() += count;
            }
        }
        by_state
    };
    let (updates, runs) = (of("update"), of("run"));
    let mut runtime = Map::new();
    for ((bot, name), value) in counters {
        let counts = bot.is_empty() || bot == "__global__" || only.is_none_or(|only| only == bot);
        if counts {
            let sum = runtime.get(name).and_then(Value::as_u64).unwrap_or(0) + value;
            runtime.insert(name.clone(), sum.into());
        }
    }
    if let Some(beats) = runtime.remove("worker_heartbeat") {
        runtime.insert("worker_heartbeat.run_worker".to_owned(), beats.clone());
        runtime.insert("worker_heartbeat.update_worker".to_owned(), beats);
    }
    let in_flight = runs.get("leased").unwrap_or(&0) + runs.get("in_flight").unwrap_or(&0);
    json!({
        "telegram_update_jobs": updates.values().sum::<i64>(),
        "cli_run_jobs": runs.values().sum::<i64>(),
        "in_flight_runs": in_flight,
        "telegram_updates_total": updates.values().sum::<i64>(),
        "telegram_update_jobs_by_status": updates,
        "cli_run_jobs_by_status": runs,
        "runtime_counters": runtime,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(kind: &str, state: &str, count: i64) -> JobCounts {
        JobCounts { kind: kind.into(), bot: Some("parrot".into()), state: state.into(), count }
    }

    #[test]
    fn the_bridges_words_for_states() {
        let list = [jobs("update", "done", 3), jobs("run", "running", 2), jobs("run", "done", 2)];
        let turns = [("parrot".to_owned(), "running".to_owned(), 1), ("parrot".to_owned(), "failed".to_owned(), 1)];
        let form = bridge_form(&list, &turns, &BTreeMap::new(), Some("parrot"));
        assert_eq!(form["telegram_update_jobs_by_status"], json!({ "completed": 3 }));
        assert_eq!(form["cli_run_jobs_by_status"], json!({ "completed": 1, "failed": 1, "in_flight": 1, "leased": 1 }));
        assert_eq!(form["in_flight_runs"], 2);
    }
}
