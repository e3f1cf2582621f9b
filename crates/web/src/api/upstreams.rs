//! How the upstreams have been doing, as far as this process knows.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use salon::catalog::{Condition, View};
use salon_core::people::Role;
use serde_json::{Value, json};

use super::{Said, caller, split, told};
use crate::Web;

/// `GET /api/admin/upstreams`: those that the caller's organisation may use, each with what was asked there lately.
pub(super) async fn list(State(web): State<Web>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, "/api/admin/upstreams", Role::Manager).await?;
        let snapshot = web.relay.catalog.snapshot();
        // By the model's name there, then by whose key: people's own keys are counted, and not told apart.
        let mut asked: BTreeMap<String, BTreeMap<(String, String), Vec<View>>> = BTreeMap::new();
        for standing in snapshot.health() {
            let whose = standing.key.split(':').next().unwrap_or_default().to_owned();
            let of_upstream = asked.entry(standing.upstream).or_default();
            of_upstream.entry((standing.model, whose)).or_default().push(standing.view);
        }
        let open = snapshot.upstreams().filter(|upstream| upstream.is_open_to(Some(&caller.org)));
        let list: Vec<Value> = open
            .map(|upstream| {
                let ways = asked.remove(&upstream.name).unwrap_or_default();
                let ways: Vec<Value> = ways.iter().map(|((model, whose), views)| way(model, whose, views)).collect();
                json!({
                    "name": upstream.name,
                    "kind": upstream.kind.as_str(),
                    "provider": upstream.provider,
                    "asked": ways,
                })
            })
            .collect();
        Ok(Json(json!({ "upstreams": list })).into_response())
    }
    .await;
    told(said, &id)
}

/// One model there with one kind of key: the worst of them, and the sums.
fn way(model: &str, whose: &str, views: &[View]) -> Value {
    let worst = views.iter().max_by_key(|view| (rank(view.condition), view.failures));
    let rest = worst.and_then(|view| match view.condition {
        Condition::Resting(rest) => Some(rest.as_secs() + u64::from(rest.subsec_nanos() > 0)),
        Condition::Well | Condition::Probing => None,
    });
    json!({
        "model": model,
        "key": whose,
        "keys": views.len(),
        "condition": worst.map(|view| view.condition.as_str()),
        "rests_s": rest,
        "failures": worst.map(|view| view.failures),
        "last_fault": worst.and_then(|view| view.last).map(|fault| fault.code()),
        "in_flight": views.iter().map(|view| u64::from(view.in_flight)).sum::<u64>(),
        "tries": views.iter().map(|view| view.tries).sum::<u64>(),
        "faults": views.iter().map(|view| view.faults).sum::<u64>(),
    })
}

fn rank(condition: Condition) -> (u8, u128) {
    match condition {
        Condition::Well => (0, 0),
        Condition::Probing => (1, 0),
        Condition::Resting(rest) => (2, rest.as_millis()),
    }
}
