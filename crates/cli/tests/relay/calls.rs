//! Calls through every door, and what the ledger says of them.

use salon_core::Scopes;
use salon_core::scopes::Allowed;
use serde_json::Value;

use crate::stage::{PROVIDER_KEY, Stage, question};

const DOORS: [&str; 5] = ["chat", "completions", "responses", "messages", "generate"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_door_is_answered_by_every_upstream_whole_and_streamed() {
    let stage = Stage::open().await;
    let mut broken = Vec::new();
    for door in DOORS {
        for model in ["gpt", "claude", "gemini", "midm", "echo"] {
            for stream in [false, true] {
                let (path, body) = question(door, model, "[[say:two storks]]", stream);
                let response = stage.post(&path, &body).await;
                let status = response.status();
                let text = response.text().await.unwrap();
                let said = text.contains("two storks") || (text.contains("two") && text.contains(" storks"));
                if status != 200 || !said {
                    broken.push(format!("{door} -> {model}, stream {stream}: {status} {text}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
    let used = stage.used().await;
    assert_eq!(used.calls, 50, "every call is in the ledger: {used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_costs_what_the_upstream_counted() {
    let stage = Stage::open().await;
    for stream in [false, true] {
        let (path, body) = question("chat", "gpt", "[[say:two storks]]", stream);
        let response = stage.post(&path, &body).await;
        let cost = response.headers().get("x-salon-cost").cloned();
        let text = response.text().await.unwrap();
        assert!(!text.contains("\"choices\":[]"), "nobody asked for the usage: {text}");
        // Nine tokens in at one dollar a million, three out at two.
        assert_eq!(cost.is_some(), !stream);
        if let Some(cost) = cost {
            assert_eq!(cost.to_str().unwrap(), "0.000015");
        }
    }
    let used = stage.used().await;
    assert_eq!((used.calls, used.micros), (2, 30), "{used:?}");
    let calls = stage.upstream.calls();
    assert!(calls.iter().all(|call| call.model == "mock-gpt" && call.key.as_deref() == Some(PROVIDER_KEY)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_reads_very_much_is_charged_and_reserved_at_the_prices_for_it() {
    let stage = Stage::with(|config| {
        let long = r#"
            upstream = "openai"
            model = "mock-gpt"
            output = 1000
            rates = { input = "1", output = "2", long = { above = 1000, input = "3", output = "4" } }
        "#;
        config.sources.file.models.insert("tiered".to_owned(), toml::from_str(long).unwrap());
    })
    .await;
    let cost = async |words: usize| {
        let (path, body) = question("chat", "tiered", &format!("{} [[say:two storks]]", "word ".repeat(words)), false);
        let answer = stage.post(&path, &body).await;
        let micros = salon_core::Micros::parse(answer.headers()["x-salon-cost"].to_str().unwrap()).unwrap();
        let usage = answer.json::<Value>().await.unwrap()["usage"].clone();
        (micros.0, usage["prompt_tokens"].as_i64().unwrap(), usage["completion_tokens"].as_i64().unwrap())
    };
    let (micros, read, written) = cost(10).await;
    assert!(read < 1000 && micros == read + 2 * written, "{micros} {read} {written}");
    let (micros, read, written) = cost(1000).await;
    assert!(read > 1000 && micros == 3 * read + 4 * written, "{micros} {read} {written}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_comes_in_without_a_key_or_with_two() {
    let stage = Stage::open().await;
    let (path, body) = question("chat", "gpt", "hi", false);
    let url = format!("{}{path}", stage.base);
    let ask = async |headers: &[(&str, &str)], query: &str| {
        let mut request = stage.http.post(format!("{url}{query}")).json(&body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let key = stage.key.as_str();
    for header in ["x-api-key", "x-goog-api-key", "api-key", "x-litellm-api-key"] {
        assert_eq!(ask(&[(header, key)], "").await.0, 200, "{header}");
    }
    let (status, answer) = ask(&[], "").await;
    assert_eq!((status, answer["error"]["code"].as_str()), (401, Some("missing_api_key")), "{answer}");
    let (status, answer) = ask(&[("x-api-key", key), ("api-key", key)], "").await;
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("two_credentials")), "{answer}");
    let (status, answer) = ask(&[], &format!("?key={key}")).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (401, Some("key_in_query")), "{answer}");
    let last = if key.ends_with('x') { 'y' } else { 'x' };
    let wrong = format!("{}{last}", &key[..key.len() - 1]);
    assert_eq!(ask(&[("x-api-key", &wrong)], "").await.0, 401);
    let narrow = stage.key_of(Scopes { models: Allowed::parse("claude*").unwrap(), ..Scopes::default() }).await;
    let (status, answer) = ask(&[("x-api-key", &narrow)], "").await;
    assert_eq!((status, answer["error"]["code"].as_str()), (403, Some("model_not_allowed")), "{answer}");
    assert_eq!(stage.upstream.calls().len(), 4);
    assert_eq!(stage.used().await.calls, 4, "nothing is stored for a refused request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silence_is_bridged_where_there_is_a_way_to_do_that() {
    let stage = Stage::with(|config| config.relay.silence = std::time::Duration::from_millis(20)).await;
    for (model, door) in [("gpt", "chat"), ("claude", "chat"), ("gemini", "generate"), ("gpt", "messages")] {
        let (path, body) = question(door, model, "[[words=6]] [[pace=90]]", true);
        let text = stage.post(&path, &body).await.text().await.unwrap();
        // Anthropic has an event for it, which some of its clients wait for.
        let ping = text.contains("\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n");
        assert_eq!((ping, text.contains("\n: still there\n\n")), (door == "messages", door != "messages"), "{text}");
        // Comments stand between events, and not within them.
        let events = text.replace("\r\n", "\n");
        for event in events.split("\n\n").filter(|event| event.contains(": still there")) {
            assert_eq!(event, ": still there", "{door} of {model}: {text}");
        }
    }
    // The elements of an array have nothing like it.
    for model in ["gpt", "gemini", "echo"] {
        let (path, body) = question("generate", model, "[[words=6]] [[pace=90]]", true);
        let array = stage.post(path.trim_end_matches("?alt=sse"), &body).await.text().await.unwrap();
        let elements: Result<Vec<Value>, _> = serde_json::from_str(&array);
        assert!(elements.is_ok_and(|elements| !elements.is_empty()), "{model}: {array}");
    }
}
