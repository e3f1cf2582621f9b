//! The API over the ledger: reports, limits, and calls that wait for a yes.

use reqwest::Method;
use salon::Actor;
use salon::people::{DEFAULT_ORG, UserChange, add_org, find_user, remove_user, set_user};
use salon_core::OrgId;
use serde_json::{Value, json};

use crate::stage::{Stage, question};

async fn ask(stage: &Stage, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = stage.http.request(method, format!("{}{path}", stage.base)).bearer_auth(&stage.key);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_used_can_be_read_by_oneself_and_by_those_who_manage() {
    let stage = Stage::open().await;
    for model in ["gpt", "gpt", "claude"] {
        let (path, body) = question("chat", model, "[[say:two storks]]", false);
        stage.post(&path, &body).await;
    }
    // Nobody waits for the ledger: what was answered is in the report.
    let (status, own) = ask(&stage, Method::GET, "/api/usage?period=day", None).await;
    assert_eq!(status, 200, "{own}");
    assert_eq!(own["total"]["calls"], 3, "{own}");
    assert_eq!(own["total"]["cost_micros"], 15 + 15 + 9 * 3 + 3 * 15, "{own}");
    assert_eq!(own["models"].as_array().map(Vec::len), Some(2));
    let (_, all) = ask(&stage, Method::GET, "/api/v1/admin/usage/statistics", None).await;
    assert_eq!(all["top_users"][0]["name"], "Alice", "{all}");
    assert_eq!(all["days"].as_array().map(Vec::len), Some(1), "{all}");
    let user = all["top_users"][0]["user_id"].as_str().unwrap();
    let (_, one) = ask(&stage, Method::GET, &format!("/api/admin/usage/users/{user}"), None).await;
    assert_eq!(one["calls"].as_array().map(Vec::len), Some(3), "{one}");
    let (_, users) = ask(&stage, Method::GET, "/api/admin/usage/users?from=2020-01-01&to=2020-01-02", None).await;
    assert_eq!(users["users"], json!([]), "nobody was here then");
    for (path, status) in [
        ("/api/admin/usage/users/nobody", 404),
        ("/api/usage?period=eon", 422),
        ("/api/usage?from=tomorrow", 422),
        ("/api/usage?from=2026-02-01T18:00", 422),
        ("/api/usage?x=1", 422),
    ] {
        let (got, words) = ask(&stage, Method::GET, path, None).await;
        assert_eq!(got, status, "{path}: {words}");
        assert!(words["detail"].is_string(), "{path}: {words}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_adds_up_while_calls_go_on() {
    let stage = Stage::open().await;
    let (path, body) = question("chat", "gpt", "[[say:hi]]", false);
    let calls = async {
        for _ in 0..100 {
            tokio::join!(stage.post(&path, &body), stage.post(&path, &body), stage.post(&path, &body));
        }
    };
    let reports = async {
        for _ in 0..40 {
            let (_, all) = ask(&stage, Method::GET, "/api/admin/usage/statistics", None).await;
            for part in ["models", "days", "top_users"] {
                let calls = all[part].as_array().unwrap().iter().map(|line| line["calls"].as_i64().unwrap());
                assert_eq!(calls.sum::<i64>(), all["total"]["calls"].as_i64().unwrap(), "{part}: {all}");
            }
        }
    };
    tokio::join!(calls, reports);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_set_seen_changed_and_removed() {
    let stage = Stage::open().await;
    let path = "/api/admin/usage/limits";
    let entered = json!({ "scope": "user", "measure": "micros", "period": "month", "amount": "0.004" });
    let (status, limit) = ask(&stage, Method::POST, path, Some(entered)).await;
    assert_eq!((status, limit["amount"].as_str()), (201, Some("0.004")), "{limit}");
    let (call, body) = question("chat", "gpt", "[[say:two storks]]", false);
    let answer = stage.post(&call, &body).await;
    assert_eq!(answer.headers()["x-salon-budget-limit"], "0.004");
    assert_eq!(answer.headers()["x-salon-budget-scope"], "user");
    let (_, list) = ask(&stage, Method::GET, path, None).await;
    assert_eq!(list["limits"][0]["accounts"][0]["spent"], "0.000015", "{list}");
    let (_, own) = ask(&stage, Method::GET, "/api/usage", None).await;
    assert_eq!(own["limits"][0]["use"]["level"], "green", "{own}");
    let one = format!("{path}/{}", limit["id"].as_str().unwrap());
    let (status, _) = ask(&stage, Method::PUT, &one, Some(json!({ "amount": "0.00", "policy": "hard" }))).await;
    assert_eq!(status, 200);
    assert_eq!(stage.post(&call, &body).await.status(), 402);
    assert_eq!(ask(&stage, Method::DELETE, &one, None).await.0, 204);
    assert_eq!(stage.post(&call, &body).await.status(), 200);
    for bad in [
        json!({}),
        json!({ "scope": "moon", "measure": "micros", "period": "day", "amount": "1" }),
        json!({ "scope": "org", "measure": "micros", "period": "day", "amount": 1.5 }),
    ] {
        let (status, words) = ask(&stage, Method::POST, path, Some(bad)).await;
        assert_eq!(status, 422, "{words}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_found_by_period_and_are_about_somebody_who_is_there() {
    let stage = Stage::open().await;
    let path = "/api/admin/usage/limits";
    for period in ["day", "month"] {
        let entered = json!({ "scope": "user", "measure": "tokens", "period": period, "amount": 1000 });
        assert_eq!(ask(&stage, Method::POST, path, Some(entered)).await.0, 201);
    }
    let entered = json!({ "scope": "org", "measure": "tokens", "period": "day", "amount": 1000 });
    assert_eq!(ask(&stage, Method::POST, path, Some(entered)).await.0, 201);
    for (query, found) in [("", 3), ("?period=day", 2), ("?period=day&scope=org", 1), ("?subject=alice", 0)] {
        let (_, list) = ask(&stage, Method::GET, &format!("{path}{query}"), None).await;
        assert_eq!(list["limits"].as_array().unwrap().len(), found, "{query}: {list}");
    }
    for query in ["?period=eon", "?scope=moon", "?model=gpt"] {
        assert_eq!(ask(&stage, Method::GET, &format!("{path}{query}"), None).await.0, 422, "{query}");
    }
    for scope in ["user", "key"] {
        let nobody =
            json!({ "scope": scope, "subject": "alice", "measure": "tokens", "period": "day", "amount": 1000 });
        assert_eq!(ask(&stage, Method::POST, path, Some(nobody)).await.0, 404, "that is her name, and not her id");
    }
    let hers = json!({
        "scope": "user", "subject": stage.user.as_str(), "measure": "tokens", "period": "day", "amount": 7_000,
    });
    assert_eq!(ask(&stage, Method::POST, path, Some(hers)).await.0, 201);
    let (_, own) = ask(&stage, Method::GET, "/api/usage", None).await;
    let amounts: Vec<_> = own["limits"].as_array().unwrap().iter().map(|limit| limit["amount"].as_i64()).collect();
    assert_eq!(amounts, [Some(7_000), Some(1000)], "her own has taken the place of everybody's: {own}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_used_little_sees_how_little() {
    let stage = Stage::open().await;
    let entered = json!({ "scope": "user", "measure": "tokens", "period": "day", "amount": 100_000 });
    assert_eq!(ask(&stage, Method::POST, "/api/admin/usage/limits", Some(entered)).await.0, 201);
    let (path, much) = question("chat", "gpt", "[[words=9]]", false);
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"] {
        let key = stage.key_of_somebody(&OrgId::new(DEFAULT_ORG), name).await;
        assert_eq!(stage.post_as(&key, &path, &much, &[]).await.status(), 200);
    }
    let (path, little) = question("chat", "gpt", "[[say:hi]]", false);
    assert_eq!(stage.post(&path, &little).await.status(), 200);
    let (_, own) = ask(&stage, Method::GET, "/api/usage", None).await;
    assert!(own["limits"][0]["use"]["spent"].as_i64().is_some_and(|spent| spent > 0), "{own}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_a_report_lists_can_be_looked_at() {
    let stage = Stage::open().await;
    let salon = &stage.house.salon;
    let (path, body) = question("chat", "gpt", "[[say:hi]]", false);
    let pen = salon.pen(Actor::Operator);
    let elsewhere = add_org(&salon.store, &salon.clock, &pen, "Fish", "UTC").await.unwrap();
    for name in ["moved", "removed"] {
        let key = stage.key_of_somebody(&OrgId::new(DEFAULT_ORG), name).await;
        assert_eq!(stage.post_as(&key, &path, &body, &[]).await.status(), 200);
        let user = find_user(&salon.store, name).await.unwrap().id;
        match name {
            "removed" => remove_user(&salon.store, &pen, &user).await.unwrap(),
            _ => {
                let change = UserChange { org: Some(elsewhere.id.clone()), ..UserChange::default() };
                set_user(&salon.store, &pen, &user, change).await.unwrap();
            }
        }
    }
    let (_, all) = ask(&stage, Method::GET, "/api/admin/usage/users", None).await;
    let users = all["users"].as_array().unwrap();
    assert_eq!(users.len(), 2, "{all}");
    for listed in users {
        let path = format!("/api/admin/usage/users/{}", listed["user_id"].as_str().unwrap());
        let (status, one) = ask(&stage, Method::GET, &path, None).await;
        assert_eq!((status, &one["name"]), (200, &Value::Null), "{one}");
        assert_eq!((&one["total"]["calls"], one["calls"].as_array().map(Vec::len)), (&json!(1), Some(1)), "{one}");
    }
    // Whoever used nothing here is nobody here.
    stage.key_of_somebody(&elsewhere.id, "stranger").await;
    let stranger = find_user(&salon.store, "stranger").await.unwrap().id;
    assert_eq!(ask(&stage, Method::GET, &format!("/api/admin/usage/users/{stranger}"), None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_beyond_a_limit_can_wait_for_a_yes() {
    let stage = Stage::open().await;
    let entered = json!({ "scope": "org", "measure": "requests", "period": "day", "amount": 0, "policy": "ask" });
    assert_eq!(ask(&stage, Method::POST, "/api/admin/usage/limits", Some(entered)).await.0, 201);
    let (path, body) = question("chat", "gpt", "hi", false);
    let answer = stage.post(&path, &body).await;
    assert_eq!(answer.status(), 429);
    let words: Value = answer.json().await.unwrap();
    assert_eq!(words["error"]["code"], "approval_required", "{words}");
    let (_, held) = ask(&stage, Method::GET, "/api/admin/usage/held", None).await;
    let call = held["held"][0]["call_id"].as_str().unwrap().to_owned();
    let (status, _) = ask(&stage, Method::POST, &format!("/api/admin/usage/held/{call}/approve"), None).await;
    assert_eq!(status, 200);
    let again = async |body: &Value| {
        let request = stage.http.post(format!("{}{path}", stage.base)).bearer_auth(&stage.key);
        request.header("x-salon-call", &call).json(body).send().await.unwrap().status().as_u16()
    };
    let (_, other) = question("chat", "claude", "hi", false);
    let (_, longer) = question("chat", "gpt", &"hi ".repeat(5_000), false);
    for dearer in [other, longer] {
        assert_eq!(again(&dearer).await, 403, "the yes was to another call");
    }
    assert_eq!(again(&body).await, 200);
    assert_ne!(again(&body).await, 200, "a yes is good for once");
    assert_eq!(stage.upstream.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_with_an_idempotency_key_is_made_and_paid_once() {
    let stage = Stage::open().await;
    for stream in [false, true] {
        let (path, body) = question("chat", "gpt", "[[words=20]]", stream);
        let ask = async |key: &str, body: &Value| {
            let request = stage.http.post(format!("{}{path}", stage.base)).bearer_auth(&stage.key);
            request.header("idempotency-key", key).json(body).send().await.unwrap()
        };
        let key = format!("key-{stream}");
        let first = ask(&key, &body).await.text().await.unwrap();
        stage.used().await;
        // A stream is written down a moment after its end.
        let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        let again = loop {
            let again = ask(&key, &body).await;
            if again.status() != 409 {
                break again;
            }
            assert!(tokio::time::Instant::now() < patience, "it is never done");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        assert_eq!(again.headers()["idempotent-replayed"], "true");
        assert_eq!(again.text().await.unwrap(), first);
        let mut other = body.clone();
        other["temperature"] = json!(0.5);
        assert_eq!(ask(&key, &other).await.status(), 422, "another question");
        // What was refused may be corrected.
        let wrong = json!({ "model": "no-such-model", "messages": [] });
        assert_eq!(ask("wrong", &wrong).await.status(), 404);
        let corrected = ask(&format!("wrong-{stream}"), &body).await;
        assert_eq!(corrected.status(), 200);
        // Heard to its end, so that it is settled.
        corrected.text().await.unwrap();
    }
    assert_eq!(stage.upstream.calls().len(), 4);
    assert_eq!(stage.used().await.calls, 4);
}
