//! Bad input at every door: answered in the door's own words, with nothing reserved, stored or asked.

use serde_json::{Value, json};

use crate::stage::{Stage, question};

const DOORS: [&str; 6] = ["chat", "completions", "responses", "messages", "generate", "embeddings"];

fn good(door: &str, model: &str) -> (String, Value) {
    match door {
        "embeddings" => ("/v1/embeddings".to_owned(), json!({ "model": model, "input": "hi" })),
        door => question(door, model, "hi", false),
    }
}

/// Whether this is how the door's protocol tells an error. Answers its kind, its code if the protocol has codes, and its
/// sentence.
fn envelope(door: &str, status: u16, body: &Value) -> Option<(String, Option<String>, String)> {
    let error = &body["error"];
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let message = text(&error["message"])?;
    match door {
        "messages" => (body["type"] == "error" && body["request_id"].is_string())
            .then(|| Some((text(&error["type"])?, None, message)))
            .flatten(),
        "generate" => {
            let reason = error["details"][0]["reason"].as_str().map(str::to_lowercase);
            (error["code"] == status).then(|| Some((text(&error["status"])?, reason, message))).flatten()
        }
        _ => error.get("param").and_then(|_| Some((text(&error["type"])?, text(&error["code"]), message))),
    }
}

/// What is wrong with a body, and the status that it gets.
fn wrong_bodies(door: &str, path: &str, good: &Value) -> Vec<(String, Vec<u8>, u16)> {
    let text = good.to_string();
    let open = &text[..text.len() - 1];
    let mut wrong: Vec<(String, Vec<u8>, u16)> = Vec::new();
    for body in ["", "null", "[]", "\"x\"", "{", "{\"a\":}", "{\"a\":01}", "{\"a\":NaN}", "{} {}", "\u{feff}{}", "\0\0"]
    {
        wrong.push((format!("{body:?}"), body.as_bytes().to_vec(), 400));
    }
    wrong.push((
        "too deep".to_owned(),
        format!("{open},\"x\":{}1{}}}", "[".repeat(70), "]".repeat(70)).into_bytes(),
        400,
    ));
    wrong.push(("never closed".to_owned(), "[".repeat(100_000).into_bytes(), 400));
    if !path.contains("/models/") {
        for twice in ["\"model\":\"claude\"", "\"Model\":\"claude\"", "\"m\\u006fdel\":\"claude\""] {
            wrong.push((format!("{twice} too"), format!("{open},{twice}}}").into_bytes(), 400));
        }
        for (model, status) in [
            (json!(null), 400),
            (json!(5), 400),
            (json!(""), 400),
            (json!("gpt\r\nx: y"), 400),
            (json!("x".repeat(100_000)), 400),
            (json!("gpt/../../v1/files?x="), 422),
            (json!("\u{202e}gpt"), 422),
            (json!("' OR 1=1--"), 422),
            (json!("gpt-evil"), 404),
            (json!("nobody/x"), 404),
        ] {
            let mut body = good.clone();
            body["model"] = model.clone();
            wrong.push((model.to_string().chars().take(40).collect(), body.to_string().into_bytes(), status));
        }
    }
    if matches!(door, "chat" | "completions" | "responses" | "messages") {
        let stream = text.replace("\"stream\":false", "\"stream\":\"yes\"");
        wrong.push(("stream is no flag".to_owned(), stream.into_bytes(), 400));
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_in_the_door_s_own_words_and_nothing_comes_of_it() {
    let stage = Stage::open().await;
    let mut broken = Vec::new();
    let mut asked = 0;
    for door in DOORS {
        // One that speaks the same, so that it would pass, and one to which it is translated.
        let models = match door {
            "messages" => ["claude", "gpt"],
            "generate" => ["gemini", "claude"],
            _ => ["gpt", if door == "embeddings" { "vectors" } else { "gemini" }],
        };
        for model in models {
            let (path, good) = good(door, model);
            let mut cases = Vec::new();
            for (what, body, status) in wrong_bodies(door, &path, &good) {
                cases.push((what, reqwest::Method::POST, path.clone(), body, status));
            }
            cases.push(("by PUT".to_owned(), reqwest::Method::PUT, path.clone(), Vec::new(), 405));
            let large = vec![b' '; (32 << 20) + 1];
            cases.push(("too large".to_owned(), reqwest::Method::POST, path.clone(), large, 413));
            if door == "generate" {
                for (path, status) in [
                    ("/v1beta/models/gemini:nope", 404),
                    ("/v1beta/models/:generateContent", 400),
                    ("/v1beta/models/a%0d%0ab:generateContent", 400),
                    ("/v1beta/models/..%2f..%2fx:generateContent", 422),
                    ("/v1beta/models/gemimi:generateContent", 404),
                ] {
                    let body = good.to_string().into_bytes();
                    cases.push((path.to_owned(), reqwest::Method::POST, path.to_owned(), body, status));
                }
            }
            for (what, method, path, body, expected) in cases {
                asked += 1;
                let request = stage.http.request(method, format!("{}{path}", stage.base)).bearer_auth(&stage.key);
                let answer = request.header("content-type", "application/json").body(body).send().await;
                let answer = answer.unwrap_or_else(|error| panic!("{door}, {what}: {error:?}"));
                let status = answer.status().as_u16();
                let text = answer.text().await.unwrap();
                let told = serde_json::from_str(&text).ok().and_then(|body: Value| envelope(door, status, &body));
                if status != expected || told.is_none() {
                    broken.push(format!("{door} for {model}, {what}: {status} and not {expected}: {text}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{} of {asked}:\n{}", broken.len(), broken.join("\n"));
    assert!(asked > 250, "{asked}");
    assert!(stage.upstream.calls().is_empty(), "{:?}", stage.upstream.calls());
    assert_eq!(stage.used().await.calls, 0);
    let salon = &stage.house.salon;
    let held = salon.store.read().await.unwrap().list_overdue(salon_core::Time(i64::MAX), 10).await.unwrap();
    assert!(held.is_empty(), "something was reserved: {held:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_name_is_answered_with_the_nearest_ones_in_every_protocol() {
    let stage = Stage::open().await;
    for (door, kind, code) in [
        ("chat", "invalid_request_error", Some("model_not_found")),
        ("completions", "invalid_request_error", Some("model_not_found")),
        ("responses", "invalid_request_error", Some("model_not_found")),
        ("embeddings", "invalid_request_error", Some("model_not_found")),
        ("messages", "not_found_error", None),
        ("generate", "NOT_FOUND", Some("model_not_found")),
    ] {
        let (path, body) = good(door, "claud");
        let answer = stage.post(&path, &body).await;
        assert_eq!(answer.status(), 404, "{door}");
        let body: Value = answer.json().await.unwrap();
        let (told, coded, message) = envelope(door, 404, &body).unwrap_or_else(|| panic!("{door}: {body}"));
        assert_eq!((told.as_str(), coded.as_deref()), (kind, code), "{body}");
        assert!(message.contains("`claud`") && message.contains("`claude`"), "{message}");
    }
    assert!(stage.upstream.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_not_there_is_refused_in_the_words_of_the_doors_beside_it() {
    let stage = Stage::open().await;
    for (path, door) in [
        ("/v1/audio/speech", "chat"),
        ("/v1/moderations", "chat"),
        ("/openai/v1/files", "chat"),
        ("/v1/chat/completions/", "chat"),
        ("/v1/messages/batches", "messages"),
        ("/anthropic/v1/complete", "messages"),
        ("/v1beta/cachedContents", "generate"),
        ("/v1beta/tunedModels/x:generateContent", "generate"),
        ("/genai/v1beta/files", "generate"),
    ] {
        for key in [stage.key.as_str(), "nobody's"] {
            let answer = stage.post_as(key, path, &json!({}), &[]).await;
            assert_eq!(answer.status(), 404, "{path}");
            let body: Value = answer.json().await.unwrap();
            assert!(envelope(door, 404, &body).is_some(), "{path}: {body}");
        }
    }
    let google = stage.post_as(&stage.key, "/v1/files", &json!({}), &[("x-goog-api-client", "x")]).await;
    assert!(envelope("generate", 404, &google.json().await.unwrap()).is_some());
    let elsewhere = stage.post("/nothing", &json!({})).await;
    assert_eq!(elsewhere.text().await.unwrap(), r#"{"detail":"Not Found"}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_to_be_plain_is_not_taken_for_compressed() {
    let stage = Stage::open().await;
    let (path, body) = question("chat", "gpt", "hi", false);
    for (coding, status) in [("identity", 200), ("gzip", 415), ("identity, gzip", 415)] {
        let answer = stage.post_as(&stage.key, &path, &body, &[("content-encoding", coding)]).await;
        assert_eq!(answer.status(), status, "{coding}");
    }
}
