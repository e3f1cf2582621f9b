//! The scripted upstream seen from outside.

use std::time::Duration;

use salon_mock::upstream::{Trouble, Upstream, UpstreamConfig};
use serde_json::{Value, json};

async fn start() -> (Upstream, reqwest::Client) {
    rustls::crypto::ring::default_provider().install_default().ok();
    let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
    (Upstream::start(UpstreamConfig::default()).await.unwrap(), http)
}

/// A path and a body for each kind of question, saying `text`.
fn questions(text: &str, stream: bool) -> Vec<(String, Value)> {
    let messages = json!([{ "role": "user", "content": text }]);
    let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    let midm = if stream { "/chat/stream" } else { "/chat" };
    let options = json!({ "include_usage": true });
    vec![
        (
            "/v1/chat/completions".into(),
            json!({ "model": "m", "messages": messages, "stream": stream, "stream_options": options }),
        ),
        (
            "/v1/completions".into(),
            json!({ "model": "m", "prompt": text, "stream": stream, "stream_options": options }),
        ),
        ("/v1/responses".into(), json!({ "model": "m", "input": messages, "stream": stream })),
        ("/v1/messages".into(), json!({ "model": "m", "messages": messages, "stream": stream, "max_tokens": 100 })),
        (
            format!("/v1beta/models/m:{method}"),
            json!({ "contents": [{ "role": "user", "parts": [{ "text": text }] }] }),
        ),
        (midm.into(), json!({ "messages": messages })),
    ]
}

#[tokio::test]
async fn each_protocol_says_the_text_and_the_same_usage_whole_and_streamed() {
    let (upstream, http) = start().await;
    for stream in [false, true] {
        for (path, body) in questions("[[say:two storks]]", stream) {
            let response = http.post(upstream.base_url() + &path).json(&body).send().await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            let text = response.text().await.unwrap();
            let said = text.contains("two storks") || (text.contains("two") && text.contains(" storks"));
            assert!(said, "{path}: {text}");
            let counted = text.contains("\":3") || text.contains("total_tokens\":2");
            assert!(counted, "{path} tells its usage: {text}");
        }
    }
    let calls = upstream.calls();
    assert_eq!(calls.len(), 12);
    for call in calls {
        assert!(call.finished && !call.abandoned && call.status == 200, "{call:?}");
        assert_eq!((call.usage.input, call.usage.output), (9, 3), "{}", call.path);
    }
}

#[tokio::test]
async fn a_tool_is_called_as_ordered_or_with_a_sample_of_its_schema() {
    let (upstream, http) = start().await;
    let parameters =
        json!({ "type": "object", "properties": { "city": { "type": "string" }, "days": { "type": "integer" } } });
    let tools = json!([{ "type": "function", "function": { "name": "weather", "parameters": parameters } }]);
    let ask = |text: &str, choice: &str| json!({ "model": "m", "messages": [{ "role": "user", "content": text }], "tools": tools, "tool_choice": choice });
    let url = upstream.base_url() + "/v1/chat/completions";
    let two = ask(r#"[[call:weather {"city":"Oslo"}]] [[call:weather {"city":"Rome"}]]"#, "auto");
    let two: Value = http.post(&url).json(&two).send().await.unwrap().json().await.unwrap();
    let calls = &two["choices"][0]["message"]["tool_calls"];
    assert_eq!(calls[1]["function"]["arguments"], r#"{"city":"Rome"}"#);
    assert_eq!(two["choices"][0]["finish_reason"], "tool_calls");
    let forced: Value = http.post(&url).json(&ask("hi", "required")).send().await.unwrap().json().await.unwrap();
    let arguments = forced["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert_eq!(arguments, r#"{"city":"storks","days":7}"#);
}

#[tokio::test]
async fn trouble_comes_by_rule_and_is_told_by_the_ledger() {
    let (upstream, http) = start().await;
    let url = upstream.base_url() + "/v1/chat/completions";
    let ask = |stream: bool| json!({ "model": "m", "messages": [{ "role": "user", "content": "[[words=9]]" }], "stream": stream });
    let post = async |stream: bool| http.post(&url).bearer_auth("sk-one").json(&ask(stream)).send().await;

    upstream.add_trouble(Trouble::new("429:7").times(1)).unwrap();
    let busy = post(false).await.unwrap();
    assert_eq!((busy.status().as_u16(), busy.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(post(false).await.unwrap().status(), 200, "once");

    upstream.clear_troubles();
    upstream.add_trouble(Trouble::new("cut:3").on_key("sk-one").times(1)).unwrap();
    let mut cut = post(true).await.unwrap();
    let mut heard = String::new();
    while let Ok(Some(chunk)) = cut.chunk().await {
        heard.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(!heard.contains("[DONE]") && heard.matches("\"content\":\" ").count() <= 3, "{heard}");

    upstream.add_trouble(Trouble::new("drop").times(1)).unwrap();
    assert!(post(false).await.is_err());
    upstream.add_trouble(Trouble::new("usage:-5").times(1)).unwrap();
    let lie: Value = post(false).await.unwrap().json().await.unwrap();
    assert_eq!(lie["usage"]["prompt_tokens"], -5);
    assert!(upstream.add_trouble(Trouble::new("tea")).is_err());

    let calls = upstream.calls();
    let troubles: Vec<_> = calls.iter().map(|call| call.trouble.as_deref().unwrap_or("-")).collect();
    assert_eq!(troubles, ["429:7", "-", "cut:3", "drop", "usage:-5"]);
    assert_eq!(calls[2].pieces, 3);
    assert!(calls.iter().all(|call| call.key.as_deref() == Some("sk-one")));
}

#[tokio::test]
async fn a_caller_who_goes_away_is_seen() {
    let (upstream, http) = start().await;
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "[[hold]]" }], "stream": true });
    let mut response = http.post(upstream.base_url() + "/v1/chat/completions").json(&body).send().await.unwrap();
    response.chunk().await.unwrap();
    drop(response);
    let patience = tokio::time::Instant::now() + Duration::from_secs(10);
    while !upstream.calls()[0].abandoned {
        assert!(tokio::time::Instant::now() < patience, "the upstream does not notice");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn as_many_choices_are_told_as_were_asked_for_and_all_of_them_are_counted() {
    let (upstream, http) = start().await;
    for (path, mut body) in questions("hi", false).into_iter().take(2) {
        let url = upstream.base_url() + &path;
        let said = |choice: &Value| {
            let text = [&choice["message"]["content"], &choice["delta"]["content"], &choice["text"]];
            text.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned()
        };
        body["n"] = json!(3);
        let whole: Value = http.post(&url).json(&body).send().await.unwrap().json().await.unwrap();
        let choices = whole["choices"].as_array().unwrap();
        let texts: Vec<String> = choices.iter().map(&said).collect();
        assert_eq!(choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(texts[0] != texts[1] && texts[1] != texts[2], "{texts:?}");
        let written: i64 = texts.iter().map(|text| (text.len() as i64 + 3) / 4).sum();
        assert_eq!(whole["usage"]["completion_tokens"], written);

        body["stream"] = json!(true);
        let stream = http.post(&url).json(&body).send().await.unwrap().text().await.unwrap();
        let (mut streamed, mut ends, mut usage) = (vec![String::new(); 3], 0, Value::Null);
        for chunk in stream.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        {
            for choice in chunk["choices"].as_array().unwrap() {
                streamed[choice["index"].as_u64().unwrap() as usize] += &said(choice);
                ends += usize::from(choice["finish_reason"] == "stop");
            }
            usage = chunk["usage"].clone();
        }
        assert_eq!((streamed, ends), (texts, 3), "{path}");
        assert_eq!(usage, whole["usage"], "{path}");
        let calls = upstream.calls();
        assert!(calls[calls.len() - 2..].iter().all(|call| call.usage.output == written), "{calls:?}");

        for wrong in [0, -1, 129] {
            body["n"] = json!(wrong);
            assert_eq!(http.post(&url).json(&body).send().await.unwrap().status(), 400, "{wrong}");
        }
    }
}
