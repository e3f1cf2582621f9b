//! Chats without a session, the LLM server's own routes, and who may call without a key.

use serde_json::{Value, json};

use crate::stage::Stage;

async fn stage() -> Stage {
    Stage::with(|config| {
        config.sessions.engine = "gpt".to_owned();
        config.sessions.embedder = Some("vectors".to_owned());
        config.llm_listen = Some(([127, 0, 0, 1], 0).into());
    })
    .await
}

fn ask(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": text }] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_without_a_session_is_relayed() {
    let stage = stage().await;
    let response = stage.post("/api/v1/chat/completions", &ask("[[say:two storks]]")).await;
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["choices"][0]["message"]["content"], "two storks");
    assert!(answer["usage"]["estimated_cost"].as_f64().unwrap() > 0.0, "{answer}");
    let text = stage.post("/api/chat/stream", &ask("[[say:two storks]]")).await.text().await.unwrap();
    let mut said = String::new();
    let mut done = false;
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        match serde_json::from_str::<Value>(data) {
            Ok(frame) => said.push_str(frame["content"].as_str().unwrap()),
            Err(_) => done = data == "[DONE]",
        }
    }
    assert_eq!((said.as_str(), done), ("two storks", true), "{text}");
    let used = stage.used().await;
    assert_eq!(used.calls, 2);

    for (body, status) in [
        (json!({}), 422),
        (json!({ "messages": [] }), 422),
        (json!({ "messages": [{ "role": "user", "content": "hi" }], "model": "no-such-model" }), 404),
    ] {
        let response = stage.post("/api/chat/completions", &body).await;
        assert_eq!(response.status(), status, "{body}");
        assert!(response.json::<Value>().await.unwrap()["detail"].is_string() || status == 422);
    }
    assert_eq!(stage.used().await.calls, 2, "nothing is reserved for what is refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_with_an_idempotency_key_is_relayed_once() {
    let stage = stage().await;
    for path in ["/api/chat/completions", "/api/chat/stream"] {
        let again = async || {
            let request = stage.http.post(format!("{}{path}", stage.base)).bearer_auth(&stage.key);
            let response = request.header("idempotency-key", "k").json(&ask("[[words=9]]")).send().await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        };
        let first = again().await;
        let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        let second = loop {
            let second = again().await;
            if second.0 != 409 {
                break second;
            }
            assert!(tokio::time::Instant::now() < patience, "it is never kept");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        assert_eq!(first, second, "{path}");
    }
    assert_eq!(stage.upstream.calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waited_for_a_yes_can_be_made_at_each_door() {
    let stage = stage().await;
    let limits = format!("{}/api/admin/usage/limits", stage.base);
    let none = json!({ "scope": "org", "measure": "requests", "period": "day", "amount": 0, "policy": "ask" });
    assert_eq!(stage.http.post(&limits).bearer_auth(&stage.key).json(&none).send().await.unwrap().status(), 201);
    let (here, llm) = (stage.base.clone(), format!("http://{}", stage.house.llm_address.unwrap()));
    let doors = [
        (&here, "/api/chat/completions", ask("hi")),
        (&here, "/api/chat/stream", ask("hi")),
        (&llm, "/chat", ask("hi")),
        (&llm, "/chat/stream", ask("hi")),
        (&llm, "/embeddings", json!({ "texts": ["a"] })),
    ];
    for (base, path, body) in doors {
        let post = async |call: Option<&str>| {
            let request = stage.http.post(format!("{base}{path}")).bearer_auth(&stage.key).json(&body);
            let request = call.into_iter().fold(request, |request, call| request.header("x-salon-call", call));
            request.send().await.unwrap().status().as_u16()
        };
        assert_eq!(post(None).await, 429, "{path}");
        let held = stage.http.get(format!("{here}/api/admin/usage/held")).bearer_auth(&stage.key);
        let held: Value = held.send().await.unwrap().json().await.unwrap();
        let call = held["held"][0]["call_id"].as_str().unwrap().to_owned();
        let yes = format!("{here}/api/admin/usage/held/{call}/approve");
        assert_eq!(stage.http.post(yes).bearer_auth(&stage.key).send().await.unwrap().status(), 200);
        assert_eq!(post(Some(&call)).await, 200, "{path}");
        assert_eq!(post(Some(&call)).await, 409, "{path}: a yes is good for once");
    }
    assert_eq!(stage.upstream.calls().len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_session_says_what_it_takes_of_what_was_kept() {
    let stage = Stage::with(|config| {
        config.sessions.engine = "gpt".to_owned();
        config.sources.file.models.get_mut("gpt").unwrap().cache_s = Some(60);
    })
    .await;
    for (words, shown) in [("private", "miss"), ("private", "hit"), ("no-cache", "miss"), ("no-store", "")] {
        let named = [("cache-control", words)];
        let answer = stage.post_as(&stage.key, "/api/chat/completions", &ask("hi"), &named).await;
        let told = answer.headers().get("x-salon-cache").map_or("", |value| value.to_str().unwrap());
        assert_eq!((answer.status().as_u16(), told), (200, shown), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_are_listed_with_the_usual_one_first() {
    let stage = stage().await;
    let get = async |path: &str| {
        let response = stage.http.get(format!("{}{path}", stage.base)).bearer_auth(&stage.key).send().await.unwrap();
        response.json::<Value>().await.unwrap()
    };
    let models = get("/api/models").await;
    assert_eq!(models[0]["id"], "gpt");
    assert_eq!(models[0]["pricing"], json!({ "prompt": 0.001, "completion": 0.002 }));
    assert_eq!(get("/api/v1/models/default").await, models[0]);
    let health = get("/api/health").await;
    assert_eq!((&health["status"], &health["database_connected"]), (&json!("healthy"), &json!(true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_llm_server_can_be_pointed_here() {
    let stage = stage().await;
    let base = format!("http://{}", stage.house.llm_address.unwrap());
    let post = async |path: &str, body: &Value| {
        stage.http.post(format!("{base}{path}")).bearer_auth(&stage.key).json(body).send().await.unwrap()
    };
    let health: Value = stage.http.get(format!("{base}/health")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&health["status"], &health["model_loaded"]), (&json!("healthy"), &json!(true)));
    let answer: Value = post("/chat", &ask("[[say:two storks]]")).await.json().await.unwrap();
    assert_eq!(answer["response"], "two storks");
    assert!(answer["usage"]["total_tokens"].as_i64().unwrap() > 0, "{answer}");
    let text = post("/chat/stream", &ask("[[say:two storks]]")).await.text().await.unwrap();
    let frames: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    assert_eq!(frames[0], json!({ "type": "start", "message": "Stream started" }));
    let last = frames.last().unwrap();
    assert_eq!((&last["type"], &last["full_response"]), (&json!("complete"), &json!("two storks")));
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let vectors: Value = post("/embeddings", &json!({ "texts": ["a", "b"] })).await.json().await.unwrap();
    assert_eq!(vectors["embeddings"].as_array().unwrap().len(), 2, "{vectors}");
    assert_eq!(vectors["embeddings"][0].as_array().unwrap().len() as i64, vectors["dimensions"].as_i64().unwrap());
    assert_eq!(vectors["usage"]["total_texts"], 2);
    assert_eq!(post("/embeddings", &json!({ "texts": [] })).await.status(), 422);
    assert_eq!(post("/chat", &json!({})).await.status(), 422);
    let nobody = stage.http.post(format!("{base}/chat")).json(&ask("hi")).send().await.unwrap();
    assert_eq!(nobody.status(), 401);
    assert_eq!(stage.used().await.calls, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embeddings_come_from_where_the_usual_model_is() {
    let stage = |engine: &str| {
        let engine = engine.to_owned();
        Stage::with(move |config| {
            config.sessions.engine = engine;
            config.llm_listen = Some(([127, 0, 0, 1], 0).into());
        })
    };
    for (engine, there) in [("midm", true), ("claude", false)] {
        let stage = stage(engine).await;
        let base = format!("http://{}", stage.house.llm_address.unwrap());
        let get = async |path: &str| stage.http.get(format!("{base}{path}")).send().await.unwrap();
        for path in ["/", "/health"] {
            let told: Value = get(path).await.json().await.unwrap();
            assert_eq!(told["embedding_model_loaded"], there, "{engine}{path}: {told}");
        }
        let front: Value = get("/").await.json().await.unwrap();
        assert_eq!(get(front["endpoints"]["docs"].as_str().unwrap()).await.status(), 200);
        let asked = stage.http.post(format!("{base}/embeddings")).bearer_auth(&stage.key);
        let answer = asked.json(&json!({ "texts": ["a"] })).send().await.unwrap();
        let status = answer.status();
        let told: Value = answer.json().await.unwrap();
        if there {
            assert_eq!((status.as_u16(), &told["model"]), (200, &json!("jhgan/ko-sroberta-multitask")), "{told}");
        } else {
            assert_eq!(status, 404, "{told}");
            assert!(told["detail"].as_str().unwrap().contains("EMBEDDING_MODEL"), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_server_that_is_away_is_told_of_under_whatever_name_its_model_has() {
    let stage = Stage::with(|config| {
        let away = r#"{"upstreams": {"away": {"kind": "compatible", "base_url": "http://127.0.0.1:9/v1", "key": "none"}},
                       "models": {"fast": {"upstream": "away", "model": "m"}}}"#;
        config.sources.file = serde_json::from_str(away).unwrap();
        config.sessions.engine = "fast".to_owned();
    })
    .await;
    let health = stage.http.get(format!("{}/api/health", stage.base)).send().await.unwrap();
    let health: Value = health.json().await.unwrap();
    let told = (&health["status"], &health["llm_server_available"]);
    assert_eq!(told, (&json!("degraded"), &json!(false)), "{health}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_that_is_none_is_refused_before_anybody_is_asked() {
    let stage = stage().await;
    let none = json!({ "messages": [{ "role": "user" }, "hi", { "content": "hi" }, { "role": "user", "content": 5 }] });
    for path in ["/api/chat/completions", "/api/chat/stream"] {
        let answer = stage.post(path, &none).await;
        assert_eq!(answer.status(), 422);
        let told: Value = answer.json().await.unwrap();
        let places: Vec<_> = told["detail"].as_array().unwrap().iter().map(|wrong| wrong["loc"].clone()).collect();
        let expected = [
            json!(["body", "messages", 0, "content"]),
            json!(["body", "messages", 1]),
            json!(["body", "messages", 2, "role"]),
            json!(["body", "messages", 3, "content"]),
        ];
        assert_eq!(places, expected, "{told}");
    }
    let long = json!({ "metadata": { "a": "x".repeat(80 << 10) } });
    let answer = stage.post("/api/sessions", &long).await;
    assert_eq!(answer.status(), 413);
    let told: Value = answer.json().await.unwrap();
    assert_eq!(told["detail"], "The request's body is larger than 64 KiB.");
    assert_eq!(stage.upstream.calls().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_of_this_machine_may_call_without_a_key_where_that_is_switched_on() {
    let closed = stage().await;
    let refused = closed.http.post(format!("{}/api/sessions", closed.base)).json(&json!({})).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let stage = Stage::with(|config| {
        config.sessions.engine = "gpt".to_owned();
        config.anonymous = true;
    })
    .await;
    let open = async |headers: &[(&str, &str)]| {
        let mut request = stage.http.post(format!("{}/api/sessions", stage.base)).body("{}");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(open(&[]).await, 201);
    assert_eq!(open(&[("authorization", "Bearer sk-anything")]).await, 201, "clients that must send some key send any");
    // A page that is open in this machine's browser is not this machine.
    for headers in [
        [("origin", "https://evil.example")],
        [("origin", "null")],
        [("sec-fetch-site", "cross-site")],
        [("host", "evil.example")],
        [("x-forwarded-for", "203.0.113.7")],
    ] {
        assert_eq!(open(&headers).await, 401, "{headers:?}");
    }
    let admin = stage.http.get(format!("{}/api/admin/usage/statistics", stage.base)).send().await.unwrap();
    assert_eq!(admin.status(), 403);
    // A key would be good from everywhere, and longer than this is switched on.
    let key = stage.http.post(format!("{}/api/keys", stage.base)).json(&json!({ "name": "out" })).send().await.unwrap();
    assert_eq!(key.status(), 403);
}
