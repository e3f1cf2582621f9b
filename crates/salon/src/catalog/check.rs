//! Asking upstreams about themselves: which kind they are, and which models they have.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;
use salon_engine::Secret;
use salon_engine::outbound::{Ask, Deadlines, Outbound, Reach};
use salon_engine::upstream::{Fault, fault_of_status};
use serde_json::Value;
use tokio::time::Instant;

use super::spec::{Kind, UpstreamSpec};
use super::upstream::{Errand, Upstream};

/// For one question about a server itself.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_BYTES: usize = 8 << 20;

/// Kinds that servers were found to be, by their base URLs.
pub(super) type Decided = BTreeMap<String, Kind>;

/// Fills in the kind of an upstream that says only where it is: what it was found to be, else what most servers are.
pub(super) fn with_kind(spec: &UpstreamSpec, decided: &Decided) -> UpstreamSpec {
    let mut spec = spec.clone();
    let Some(base) = undecided(&spec).map(str::to_owned) else { return spec };
    let kind = decided.get(&base).copied().unwrap_or(Kind::Compatible);
    spec.kind = Some(kind);
    if kind == Kind::Compatible {
        spec.base_url = Some(with_version(&base));
    }
    spec
}

/// Where a server is of which nobody has said what it is. Teams' servers are not asked.
pub(super) fn undecided(spec: &UpstreamSpec) -> Option<&str> {
    let base = spec.base_url.as_deref().filter(|_| spec.kind.is_none() && spec.org.is_none() && !spec.off)?;
    Some(base.trim_end_matches('/'))
}

fn with_version(base: &str) -> String {
    if base.ends_with("/v1") { base.to_owned() } else { format!("{base}/v1") }
}

/// Asks a server what it is; `None` while it does not answer.
pub(super) async fn probe(outbound: &Outbound, base: &str) -> Option<Kind> {
    let ask = async |path: &str| {
        let url = Url::parse(&format!("{base}{path}")).ok()?;
        let line = outbound.line(&url, None, &Reach::Operator);
        get(&line, url.as_str(), HeaderMap::new()).await.ok()
    };
    let (status, body) = ask("/health").await?;
    let health = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    if status.is_success() && health.get("model_loaded").is_some_and(Value::is_boolean) {
        return Some(Kind::Midm);
    }
    // Whoever answers at all and is not that one is one of the many.
    ask("/v1/models").await.map(|_| Kind::Compatible)
}

/// Which models an upstream says it has, in its own order. It is asked with the house's key or with one that is given,
/// and then over connections of whose it is.
pub(super) async fn list_models(
    upstream: &Upstream,
    key: Option<&Secret>,
    tenant: Option<&str>,
) -> Result<Vec<String>, Fault> {
    if upstream.kind.is_in_house() {
        return Ok(vec![upstream.kind.as_str().to_owned()]);
    }
    let (Some((_, uri)), Some(line)) = (upstream.address(Errand::List), upstream.line_for(tenant)) else {
        return Err(Fault::NotFound);
    };
    let mut headers = HeaderMap::new();
    upstream.dress(&mut headers, key).map_err(|_| Fault::Auth)?;
    let (status, body) = get(&line, &uri.to_string(), headers).await?;
    if !status.is_success() {
        return Err(fault_of_status(status));
    }
    let body: Value = serde_json::from_slice(&body).map_err(|_| Fault::Garbled)?;
    if upstream.kind == Kind::Midm {
        let loaded = body["model_loaded"].as_bool().ok_or(Fault::Garbled)?;
        return Ok(if loaded { vec![Kind::Midm.as_str().to_owned()] } else { Vec::new() });
    }
    let list = body["data"].as_array().or(body["models"].as_array()).ok_or(Fault::Garbled)?;
    let name = |model: &Value| {
        let name = model["id"].as_str().or(model["name"].as_str())?;
        Some(name.strip_prefix("models/").unwrap_or(name).to_owned())
    };
    Ok(list.iter().filter_map(name).collect())
}

async fn get(
    line: &std::sync::Arc<salon_engine::outbound::Line>,
    uri: &str,
    headers: HeaderMap,
) -> Result<(StatusCode, Bytes), Fault> {
    let uri = uri.parse().map_err(|_| Fault::Refused)?;
    let deadlines = Deadlines { connect: PATIENCE, head: PATIENCE, idle: PATIENCE, total: Instant::now() + PATIENCE };
    let answer = line.send(Ask { method: Method::GET, uri, headers, body: Bytes::new() }, &deadlines).await?;
    let status = answer.status();
    Ok((status, answer.into_body().collect(MOST_BYTES).await?))
}
