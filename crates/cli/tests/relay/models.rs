//! What the catalog knows of a model's abilities and manners has an effect.

use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::Stage;

const MODELS: &str = r#"
    [models.plain]
    upstream = "openai"
    model = "mock-plain"
    rates = { input = "1", output = "2" }
    abilities = ["reasoning"]
    quirks = ["max_completion_tokens", "no_temperature", "no_stream_options", "developer_role"]

    [models.aliased]
    upstream = "openai"
    model = "mock-aliased"
    rates = { input = "1", output = "2" }
    aliases = ["quick"]

    [models.helped]
    upstream = "nowhere"
    rates = { input = "1", output = "2" }
    abilities = ["images", "tools"]
    fallback = ["plain", "gpt"]

    [models.embedding]
    upstream = "openai"
    model = "mock-embedding"
    rates = { input = "1", output = "0" }
    abilities = ["embeddings"]

    [upstreams.nowhere]
    kind = "compatible"
    base_url = "http://127.0.0.1:9/v1"
    patience = { tries = 1, connect_ms = 500 }
"#;

async fn stage() -> Stage {
    Stage::with(|config| {
        let more: salon::catalog::Spec = toml::from_str(MODELS).unwrap();
        config.sources.file.upstreams.extend(more.upstreams);
        config.sources.file.models.extend(more.models);
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_model_lacks_is_refused_by_name_before_anything_is_reserved() {
    let stage = stage().await;
    let talk = json!([{ "role": "user", "content": "hi" }]);
    let seen = json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "https://x/y" } }] }]);
    let heard = json!([{ "role": "user", "content": [
        { "type": "input_audio", "input_audio": { "data": "UklGRg==", "format": "wav" } },
    ] }]);
    let tool = json!([{ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }]);
    let schema = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": { "type": "object" } } });
    for (path, body, param, why) in [
        ("/v1/chat/completions", json!({ "model": "plain", "messages": seen }), "messages", "see images"),
        ("/v1/chat/completions", json!({ "model": "plain", "messages": heard }), "messages", "hear audio"),
        ("/v1/chat/completions", json!({ "model": "plain", "messages": talk, "tools": tool }), "tools", "call tools"),
        (
            "/v1/chat/completions",
            json!({ "model": "plain", "messages": talk, "response_format": schema }),
            "response_format",
            "keep to a JSON schema",
        ),
        ("/v1/embeddings", json!({ "model": "plain", "input": "hi" }), "model", "makes no embeddings"),
    ] {
        let answer = stage.post(path, &body).await;
        assert_eq!(answer.status(), 400, "{why}");
        let error = answer.json::<Value>().await.unwrap()["error"].clone();
        assert_eq!(
            (error["code"].as_str(), error["param"].as_str()),
            (Some("model_lacks_ability"), Some(param)),
            "{error}"
        );
        assert!(
            error["message"].as_str().unwrap().contains(why) && error["message"].as_str().unwrap().contains("`plain`")
        );
    }
    assert!(stage.upstream.calls().is_empty());
    assert_eq!(stage.used().await.calls, 0);
    // Whoever stands in is passed over for the same reason; one of whom nothing is known is asked.
    let body = json!({ "model": "helped", "messages": seen, "tools": tool });
    let answer = stage.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(stage.upstream.calls().iter().map(|call| call.model.as_str()).collect::<Vec<_>>(), ["mock-gpt"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_asked_in_its_own_manner() {
    let stage = stage().await;
    // The upstream speaks chat alone to whoever comes by another door than OpenAI's.
    let body = json!({
        "model": "plain", "max_tokens": 9, "temperature": 0.5, "stream": true, "system": "Be brief.",
        "messages": [{ "role": "user", "content": "[[say:two storks]]" }],
    });
    let request = stage.http.request(Method::POST, format!("{}/v1/messages", stage.base)).bearer_auth(&stage.key);
    let answer = request.json(&body).send().await.unwrap();
    assert_eq!(answer.headers()["x-salon-left-out"], "temperature");
    assert!(answer.text().await.unwrap().contains("storks"));
    let sent: Value = serde_json::from_str(&stage.upstream.calls().remove(0).body).unwrap();
    assert_eq!(sent["max_completion_tokens"], 9, "{sent}");
    assert_eq!(sent["messages"][0], json!({ "role": "developer", "content": "Be brief." }));
    for unknown in ["max_tokens", "temperature", "stream_options"] {
        assert!(sent.get(unknown).is_none(), "{unknown}: {sent}");
    }
    // What passes as it is gets nothing added.
    let body =
        json!({ "model": "plain", "stream": true, "messages": [{ "role": "user", "content": "[[say:two storks]]" }] });
    let answer = stage.post("/v1/chat/completions", &body).await;
    assert!(answer.text().await.unwrap().contains("storks"));
    let sent: Value = serde_json::from_str(&stage.upstream.calls().remove(1).body).unwrap();
    assert_eq!(sent, json!({ "model": "mock-plain", "stream": true, "messages": body["messages"] }));
    let used = stage.used().await;
    assert_eq!((used.calls, used.estimated), (2, 2), "the upstream was not asked for the usage: {used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_told_what_it_thought_where_it_wants_that() {
    let stage = Stage::with(|config| {
        let more = r#"
            [models.deep]
            upstream = "openai"
            model = "mock-deep"
            rates = { input = "1", output = "2" }
            quirks = ["thoughts_back", "head_only"]
        "#;
        let more: salon::catalog::Spec = toml::from_str(more).unwrap();
        config.sources.file.models.extend(more.models);
    })
    .await;
    for (model, thoughts) in [("deep", json!("Hm.")), ("gpt", Value::Null)] {
        let body = json!({
            "model": model, "max_tokens": 9, "system": "Be brief.",
            "messages": [
                { "role": "user", "content": "look" },
                { "role": "assistant", "content": [
                    { "type": "thinking", "thinking": "Hm.", "signature": "" },
                    { "type": "tool_use", "id": "a", "name": "f", "input": {} },
                ] },
                { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a", "content": "so" }] },
                { "role": "system", "content": "And be kind." },
            ],
            "tools": [{ "name": "f", "input_schema": { "type": "object" } }],
        });
        assert_eq!(stage.post("/v1/messages", &body).await.status(), 200);
        let sent: Value = serde_json::from_str(&stage.upstream.calls().pop().unwrap().body).unwrap();
        let said = sent["messages"].as_array().unwrap();
        let answered = said.iter().find(|message| message["role"] == "assistant").unwrap();
        assert_eq!(answered["reasoning_content"], thoughts, "{sent}");
        let instructions = said.iter().filter(|message| message["role"] == "system").count();
        assert_eq!(instructions, if model == "deep" { 1 } else { 2 }, "{sent}");
    }
}

/// A server that knows none of the options which we put into a question ourselves, and says so one by one.
async fn picky() -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use axum::response::IntoResponse;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let answer = move |axum::Json(body): axum::Json<Value>| {
        let count = count.clone();
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            for (name, why) in [
                ("stream_options", "Extra inputs are not permitted: stream_options"),
                ("max_tokens", "Unsupported parameter: use 'max_completion_tokens' instead."),
                ("temperature", "Unsupported value: 'temperature' does not support 0.5."),
            ] {
                if body.get(name).is_some() {
                    let wrong = json!({ "error": { "message": why, "type": "invalid_request_error" } });
                    return (axum::http::StatusCode::BAD_REQUEST, axum::Json(wrong)).into_response();
                }
            }
            let said = json!({ "choices": [{ "index": 0, "delta": { "content": "well" }, "finish_reason": "stop" }] });
            ([("content-type", "text/event-stream")], format!("data: {said}\n\ndata: [DONE]\n\n")).into_response()
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/v1/chat/completions", axum::routing::post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (base, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_know_an_option_is_asked_without_it_and_remembered() {
    let (base, asked) = picky().await;
    let stage = Stage::with(|config| {
        let more =
            format!("[upstreams.picky]\nkind = \"compatible\"\nbase_url = \"{base}\"\nunknown_price = \"free\"\n");
        let more: salon::catalog::Spec = toml::from_str(&more).unwrap();
        config.sources.file.upstreams.extend(more.upstreams);
        config.sessions.engine = "picky:some-model".to_owned();
    })
    .await;
    let session: Value = stage.post("/api/sessions", &json!({})).await.json().await.unwrap();
    let ask = json!({
        "session_id": session["session_id"], "message": "hi", "max_new_tokens": 9, "temperature": 0.5,
    });
    let answer: Value = stage.post("/api/chat", &ask).await.json().await.unwrap();
    assert_eq!(answer["content"], "well", "{answer}");
    let tries = asked.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(tries, 4, "each lesson is learnt once");
    stage.post("/api/chat", &ask).await.text().await.unwrap();
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), tries + 1, "and remembered");
    // What a client asks for himself is his own affair.
    let own =
        json!({ "model": "picky:some-model", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    assert_eq!(stage.post("/v1/chat/completions", &own).await.status(), 400);
    assert_eq!(stage.used().await.calls, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_found_by_every_name_that_it_is_called_by_and_else_the_nearest_are_told() {
    let stage = stage().await;
    let find = async |path: &str, headers: &[(&str, &str)]| {
        let mut request = stage.http.get(format!("{}{path}", stage.base)).bearer_auth(&stage.key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    const ANTHROPIC: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];
    const GOOGLE: &[(&str, &str)] = &[("x-goog-api-client", "x")];
    for (asked, named) in [
        ("gpt", "gpt"),
        ("quick", "aliased"),
        ("openai/tuned", "openai/tuned"),
        ("openai:tuned", "openai:tuned"),
        ("openai%2Ftuned", "openai/tuned"),
    ] {
        let (status, model) = find(&format!("/v1/models/{asked}"), &[]).await;
        assert_eq!((status, &model["id"], &model["object"]), (200, &json!(named), &json!("model")), "{model}");
        for (path, headers) in [("/v1/models", ANTHROPIC), ("/anthropic/v1/models", &[])] {
            let (status, model) = find(&format!("{path}/{asked}"), headers).await;
            assert_eq!((status, &model["id"], &model["type"]), (200, &json!(named), &json!("model")), "{model}");
        }
        for (path, headers) in [("/v1/models", GOOGLE), ("/v1beta/models", &[])] {
            let (status, model) = find(&format!("{path}/{asked}"), headers).await;
            assert_eq!((status, &model["name"]), (200, &json!(format!("models/{named}"))), "{model}");
        }
    }
    assert_eq!(find("/anthropic/v1/models", &[]).await.1["has_more"], false, "in Anthropic's shape");
    for (path, headers) in [("/v1/models", &[][..]), ("/anthropic/v1/models", &[]), ("/v1beta/models", &[])] {
        let (status, told) = find(&format!("{path}/claud"), headers).await;
        assert_eq!(status, 404, "{told}");
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.contains("`claud`") && message.contains("`claude`"), "{message}");
    }
    // Whose key may use some of them finds those.
    let models = salon_core::scopes::Allowed::parse("gpt").unwrap();
    let scopes = salon_core::Scopes { models, ..salon_core::Scopes::default() };
    let narrow = stage.key_of(scopes).await;
    for (model, status) in [("gpt", 200), ("quick", 404), ("openai/tuned", 404)] {
        let path = format!("{}/v1/models/{model}", stage.base);
        assert_eq!(stage.http.get(path).bearer_auth(&narrow).send().await.unwrap().status(), status, "{model}");
    }
    // What is a method of a model is called, and not looked at.
    for path in ["/v1beta/models/gemini:generateContent", "/v1/models/gemini:countTokens"] {
        let answer = stage.http.get(format!("{}{path}", stage.base)).bearer_auth(&stage.key).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["allow"].as_bytes()), (405, &b"POST"[..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_gemini_is_told_of_the_methods_that_a_model_has() {
    let stage = stage().await;
    let answer = stage.http.get(format!("{}/v1beta/models", stage.base)).bearer_auth(&stage.key).send().await.unwrap();
    let listed: Value = answer.json().await.unwrap();
    let all = json!(["generateContent", "streamGenerateContent", "countTokens"]);
    for (model, methods) in [("gemini", &all), ("plain", &all), ("embedding", &json!(["countTokens"]))] {
        let name = json!(format!("models/{model}"));
        let shown = listed["models"].as_array().unwrap().iter().find(|shown| shown["name"] == name).unwrap();
        assert_eq!(&shown["supportedGenerationMethods"], methods, "{model}");
    }
    // Of what is told, everything is there.
    let body = json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }] });
    assert_eq!(stage.post("/v1beta/models/embedding:countTokens", &body).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_be_asked_a_question_is_passed_over_and_not_to_blame() {
    const MODELS: &str = r#"
        [models.chain]
        upstream = "nowhere"
        rates = { input = "1", output = "2" }
        fallback = ["claude", "gpt"]

        [models.short]
        upstream = "nowhere"
        rates = { input = "1", output = "2" }
        fallback = ["claude"]

        [models.mixed]
        rates = { input = "1", output = "2" }
        deployments = [{ upstream = "anthropic", model = "mock-claude" }, { upstream = "openai", model = "mock-gpt" }]

        [upstreams.nowhere]
        kind = "compatible"
        base_url = "http://127.0.0.1:9/v1"
        patience = { tries = 1, connect_ms = 500, breaker_failures = 100 }
    "#;
    let stage = Stage::with(|config| {
        let more: salon::catalog::Spec = toml::from_str(MODELS).unwrap();
        config.sources.file.upstreams.extend(more.upstreams);
        config.sources.file.models.extend(more.models);
    })
    .await;
    // Several answers are nothing that Anthropic has.
    let body = |model: &str| json!({ "model": model, "n": 2, "messages": [{ "role": "user", "content": "hi" }] });
    for model in ["chain", "mixed", "mixed", "mixed"] {
        let answer = stage.post("/v1/chat/completions", &body(model)).await;
        let (status, told) = (answer.status(), answer.json::<Value>().await.unwrap());
        assert_eq!(status, 200, "{model}: {told}");
        assert_eq!(told["choices"].as_array().unwrap().len(), 2);
    }
    let asked = stage.upstream.calls();
    assert!(asked.iter().all(|call| call.model == "mock-gpt") && asked.len() == 4, "{asked:?}");
    // Where nobody else is left, the client hears of what went wrong, which may pass.
    let answer = stage.post("/v1/chat/completions", &body("short")).await;
    let (status, told) = (answer.status(), answer.json::<Value>().await.unwrap());
    assert_eq!((status.as_u16(), told["error"]["code"].as_str()), (502, Some("upstream_unreachable")), "{told}");
    // And where nobody was there to begin with, of what cannot be asked.
    let answer = stage.post("/v1/chat/completions", &body("claude")).await;
    let (status, told) = (answer.status(), answer.json::<Value>().await.unwrap());
    assert_eq!((status.as_u16(), told["error"]["param"].as_str()), (400, Some("n")), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_its_server_does_not_know_is_stood_in_for() {
    const MODELS: &str = r#"
        [models.retired]
        upstream = "openai"
        model = "unknown-since-november"
        rates = { input = "1", output = "2" }
        fallback = ["claude"]

        [models.gone]
        upstream = "openai"
        model = "unknown-since-november"
        rates = { input = "1", output = "2" }
    "#;
    let stage = Stage::with(|config| {
        let more: salon::catalog::Spec = toml::from_str(MODELS).unwrap();
        config.sources.file.models.extend(more.models);
    })
    .await;
    for (path, more) in [("/v1/chat/completions", "messages"), ("/v1/responses", "input"), ("/v1/messages", "messages")]
    {
        for stream in [false, true] {
            let body = |model: &str| json!({ "model": model, "max_tokens": 9, "stream": stream, more: [{ "role": "user", "content": "hi" }] });
            let answer = stage.post(path, &body("retired")).await;
            assert_eq!(answer.status(), 200, "{path}");
            assert_eq!(answer.headers()["x-salon-model"], "claude");
            answer.text().await.unwrap();
            // Where nobody stands in, it is said as the server says it.
            let answer = stage.post(path, &body("gone")).await;
            let (status, told) = (answer.status(), answer.text().await.unwrap());
            assert!(status == 404 && told.contains("unknown-since-november"), "{path}: {status} {told}");
        }
    }
    let used = stage.used().await;
    assert_eq!(used.calls, 6, "what was refused is no call");
}
