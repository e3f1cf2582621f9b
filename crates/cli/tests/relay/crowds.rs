//! Nobody takes the place of all others: calls in flight and open streams are counted for each person.

use std::time::Duration;

use salon_core::OrgId;
use serde_json::{Value, json};

use crate::stage::Stage;

fn question(words: &str) -> Value {
    json!({ "model": "gpt", "stream": true, "messages": [{ "role": "user", "content": words }] })
}

/// What is answered, as soon as it is the one that is waited for: whoever hung up is noticed in a moment.
async fn until(mut status: impl AsyncFnMut() -> u16, wanted: u16) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let found = status().await;
        if found == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < patience, "{found} instead of {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_person_so_many_calls_are_in_flight_and_no_more() {
    let stage = Stage::with(|config| config.relay.calls_per_user = 2).await;
    let bob = stage.key_of_somebody(&OrgId::new("default"), "bob").await;
    let slow = question("[[say:two storks]] [[pace=30000]]");
    let first = stage.post("/v1/chat/completions", &slow).await;
    // By another key of the same person, and at another door.
    let laptop = stage.key_of(salon_core::Scopes::default()).await;
    let second = stage.post_as(&laptop, "/v1/chat/completions", &slow, &[]).await;
    assert_eq!((first.status(), second.status()), (200.try_into().unwrap(), 200.try_into().unwrap()));
    let told = stage.post("/v1/chat/completions", &question("hi")).await;
    assert_eq!((told.status().as_u16(), told.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    let body: Value = told.json().await.unwrap();
    assert_eq!(body["error"]["code"], "too_many_calls", "{body}");
    // Each door says it in its own words.
    let messages =
        json!({ "model": "anthropic:mock-claude", "max_tokens": 5, "messages": [{ "role": "user", "content": "hi" }] });
    let told = stage.post("/v1/messages", &messages).await;
    assert_eq!(told.status(), 429);
    let body: Value = told.json().await.unwrap();
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("rate_limit_error")), "{body}");
    let own = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    assert_eq!(stage.post("/api/chat/completions", &own).await.status(), 429);
    let theirs = stage.post_as(&bob, "/v1/chat/completions", &question("hi"), &[]).await;
    assert_eq!(theirs.status(), 200, "it is nothing to bob");
    drop(theirs);
    drop(first);
    until(async || stage.post("/v1/chat/completions", &question("hi")).await.status().as_u16(), 200).await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_person_eight_streams_are_open_and_no_more() {
    let stage = Stage::with(|config| config.sessions.engine = "gpt".to_owned()).await;
    let session: Value = stage.post("/api/sessions", &json!({})).await.json().await.unwrap();
    let id = session["session_id"].as_str().unwrap();
    let ask = json!({ "session_id": id, "message": "[[say:two storks]] [[pace=30000]]" });
    let mut open = vec![stage.post("/api/chat/stream", &ask).await];
    let again = || async {
        let url = format!("{}/api/sessions/{id}/stream", stage.base);
        stage.http.get(url).bearer_auth(&stage.key).send().await.unwrap()
    };
    for _ in 0..7 {
        open.push(again().await);
    }
    assert!(open.iter().all(|stream| stream.status() == 200));
    let told = again().await;
    assert_eq!((told.status().as_u16(), told.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    // A question whose answer nobody could read is not asked.
    let asked = stage.upstream.calls().len();
    assert_eq!(stage.post("/api/chat/stream", &ask).await.status(), 429);
    assert_eq!(stage.upstream.calls().len(), asked);
    open.pop();
    until(async || again().await.status().as_u16(), 200).await;
    drop(open);
    let streams = &stage.house.salon.streams;
    until(async || u16::try_from(streams.count()).unwrap(), 0).await;
}
