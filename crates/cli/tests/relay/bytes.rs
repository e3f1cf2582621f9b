//! What passes as it is, compared as bytes: through the real listener, to a server that writes down what it is sent.
//!
//! The texts are those of `crates/engine/tests/fixtures/passing`, which have in them whatever a program that parses and
//! writes again would change or lose, and the questions of today's command-line agents.

use serde_json::{Value, json};

use crate::raw::{Raw, Script};
use crate::stage::{PROVIDER_KEY, Stage};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../engine/tests/fixtures/", $name))
    };
}

/// A question, and what a server answers to it.
struct Case {
    /// Where it is asked; `%` is the model, where the path names it.
    door: &'static str,
    question: &'static str,
    whole: &'static str,
    stream: Option<&'static str>,
}

const CASES: [Case; 9] = [
    Case {
        door: "/v1/chat/completions",
        question: fixture!("passing/chat.request.json"),
        whole: fixture!("passing/chat.answer.json"),
        stream: Some(fixture!("passing/chat.sse")),
    },
    Case {
        door: "/v1/chat/completions",
        question: fixture!("carry/agents/qwen-code.json"),
        whole: fixture!("passing/chat.answer.json"),
        stream: Some(fixture!("azure.sse")),
    },
    Case {
        door: "/v1/completions",
        question: fixture!("passing/completions.request.json"),
        whole: fixture!("passing/completions.answer.json"),
        stream: Some(fixture!("passing/completions.sse")),
    },
    Case {
        door: "/v1/responses",
        question: fixture!("passing/responses.request.json"),
        whole: fixture!("passing/responses.answer.json"),
        stream: Some(fixture!("passing/responses.sse")),
    },
    Case {
        door: "/v1/responses",
        question: fixture!("carry/agents/codex-code-mode.json"),
        whole: fixture!("passing/responses.answer.json"),
        stream: Some(fixture!("passing/responses.sse")),
    },
    Case {
        door: "/v1/messages",
        question: fixture!("passing/messages.request.json"),
        whole: fixture!("passing/messages.answer.json"),
        stream: Some(fixture!("passing/messages.sse")),
    },
    Case {
        door: "/v1/messages?beta=true",
        question: fixture!("carry/agents/claude-code.json"),
        whole: fixture!("passing/messages.answer.json"),
        stream: Some(fixture!("passing/messages.sse")),
    },
    Case {
        door: "/v1beta/models/%",
        question: fixture!("passing/generate.request.json"),
        whole: fixture!("passing/generate.answer.json"),
        stream: Some(fixture!("passing/generate.sse")),
    },
    Case {
        door: "/v1/embeddings",
        question: fixture!("passing/embeddings.request.json"),
        whole: fixture!("passing/embeddings.answer.json"),
        stream: None,
    },
];

/// How the model is called at the server, and nowhere else.
const THERE: &str = "its/own-name";
/// The model of those questions that do not name one.
const HERE: &str = "parrot";

impl Case {
    fn model(&self) -> String {
        let question: Value =
            serde_json::from_str(self.question.replace("1e400", "1").replace("\\ud83e", "").as_str()).unwrap();
        question["model"].as_str().unwrap_or(HERE).to_owned()
    }

    fn path(&self, stream: bool) -> String {
        let call = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        self.door.replace('%', &format!("{HERE}:{call}"))
    }

    /// The question, for an answer that is streamed or whole. Nothing but this one word is another.
    fn question(&self, stream: bool) -> String {
        let mut question = self.question.to_owned();
        if !stream {
            for spelt in ["\"stream\":true", "\"stream\": true", "\"stream\" : true"] {
                question = question.replacen(spelt, &spelt.replace("true", "false"), 1);
            }
        }
        question
    }

    /// What the server has to be sent: the same, with the model's name there, and asked for the usage where it would
    /// not say it by itself.
    fn sent(&self, stream: bool) -> String {
        let (question, model) = (self.question(stream), format!("\"{}\"", self.model()));
        let mut sent = question.replacen(&model, &format!("\"{THERE}\""), usize::from(!self.door.contains('%')));
        let can_ask = self.door.contains("completions") && !question.contains("\"include_usage\"");
        if stream && can_ask {
            let (at, asked) = match question.contains("\"stream_options\"") {
                true => ("\"stream_options\": {", "\"include_usage\":true,"),
                false => ("{", "\"stream_options\":{\"include_usage\":true},"),
            };
            assert!(sent.contains(at), "{sent}");
            sent = sent.replacen(at, &format!("{at}{asked}"), 1);
        }
        sent
    }

    /// What the client has to hear of a stream: all of it, but for the statement of usage that it did not ask for.
    fn heard(&self, stream: &str) -> String {
        let hidden = self.door.contains("completions") && !self.question.contains("\"include_usage\": true");
        let end = if stream.contains("\r\n") { "\r\n\r\n" } else { "\n\n" };
        let states_usage = |event: &&str| event.contains("\"choices\":[],\"") && event.contains("\"usage\":{");
        let (hid, kept): (Vec<&str>, Vec<&str>) =
            stream.split_inclusive(end).partition(|event| hidden && states_usage(event));
        assert_eq!(hid.len(), usize::from(hidden), "{}: {hid:?}", self.door);
        kept.concat()
    }
}

async fn with_a_raw_upstream() -> (Raw, Stage) {
    let raw = Raw::start().await;
    let base = format!("http://{}", raw.address);
    let stage = Stage::with(|config| {
        let mut written = String::new();
        for (kind, path) in [("openai", "/v1"), ("anthropic", ""), ("gemini", "")] {
            written += &format!(
                "[upstreams.raw-{kind}]\nkind = \"{kind}\"\nbase_url = \"{base}{path}\"\nkey_env = \"OPENAI_API_KEY\"\n\
                 patience.tries = 1\npatience.breaker_failures = 100\n"
            );
        }
        let mut models: Vec<(String, &str)> = CASES.iter().map(|case| (case.model(), kind_of(case))).collect();
        models.sort_unstable();
        models.dedup();
        for (model, kind) in models {
            written += &format!(
                "[models.\"{model}\"]\nupstream = \"raw-{kind}\"\nmodel = \"{THERE}\"\nrates = {{ input = \"1\", output = \
                 \"2\" }}\n"
            );
        }
        let more: salon::catalog::Spec = toml::from_str(&written).unwrap();
        config.sources.file.upstreams.extend(more.upstreams);
        config.sources.file.models.extend(more.models);
    })
    .await;
    (raw, stage)
}

fn kind_of(case: &Case) -> &'static str {
    match case.door {
        door if door.contains("messages") => "anthropic",
        door if door.contains('%') => "gemini",
        _ => "openai",
    }
}

async fn ask(stage: &Stage, path: &str, question: String) -> reqwest::Response {
    let request = stage.http.post(format!("{}{path}", stage.base)).bearer_auth(&stage.key).body(question);
    let request = request.header("content-type", "application/json").header("accept-encoding", "gzip, br, zstd");
    let request = request.header("cookie", "session=canary-cookie").header("anthropic-beta", "tomorrow-2027-01-01");
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_and_answers_of_one_protocol_pass_byte_for_byte() {
    let (raw, stage) = with_a_raw_upstream().await;
    for case in &CASES {
        let mut answers = vec![(false, case.whole.to_owned())];
        if let Some(stream) = case.stream {
            let lf = stream.replace("\r\n", "\n");
            answers.extend([(true, lf.replace('\n', "\r\n")), (true, lf)]);
        }
        for (stream, answer) in answers {
            let expected = if stream { case.heard(&answer) } else { answer.clone() };
            // All at once, byte by byte, and in lengths that fall into the middle of everything.
            for pieces in [&[usize::MAX][..], &[1], &[2, 7, 1, 61, 3]] {
                let script = if stream { Script::stream(answer.as_bytes()) } else { Script::json(answer.as_bytes()) };
                raw.say(script.in_pieces(pieces));
                let response = ask(&stage, &case.path(stream), case.question(stream)).await;
                let what = format!("{}, stream {stream}, pieces {pieces:?}", case.door);
                assert_eq!(response.status(), 200, "{what}");
                assert!(!response.headers().contains_key("content-encoding"), "{what}");
                let got = response.text().await.unwrap();
                assert!(got == expected, "{what}: the answer is another:\n{got}\n--- and not ---\n{expected}");
                let heard = raw.heard();
                assert_eq!(heard.len(), 1, "{what}: asked once");
                let sent = String::from_utf8(heard[0].body.clone()).unwrap();
                let wanted = case.sent(stream);
                assert!(sent == wanted, "{what}: the question is another:\n{sent}\n--- and not ---\n{wanted}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_caller_s_headers_credentials_and_cookies_stay_here() {
    let (raw, stage) = with_a_raw_upstream().await;
    for case in &CASES {
        raw.say(Script::json(case.whole.as_bytes()));
        ask(&stage, &case.path(false), case.question(false)).await;
        let heard = raw.heard().remove(0);
        let key = match kind_of(case) {
            "anthropic" => heard.header("x-api-key"),
            "gemini" => heard.header("x-goog-api-key"),
            _ => heard.header("authorization").and_then(|value| value.strip_prefix("Bearer ")),
        };
        assert_eq!(key, Some(PROVIDER_KEY), "{heard:?}");
        assert_eq!(heard.header("accept-encoding"), Some("identity"), "what is compressed cannot be listened to");
        assert_eq!(heard.header("anthropic-beta"), Some("tomorrow-2027-01-01"), "what speaks of the protocol goes on");
        let all = format!("{} {:?}", heard.line, heard.headers);
        for ours in [stage.key.as_str(), "canary-cookie", "cookie", "forwarded", "x-salon"] {
            assert!(!all.contains(ours), "{ours} was sent on: {all}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_in_a_coding_that_nobody_asked_for_is_no_answer() {
    let (raw, stage) = with_a_raw_upstream().await;
    for stream in [false, true] {
        let body = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        raw.say(Script::stream(&body).header("content-encoding: gzip"));
        let response = ask(&stage, "/v1/messages", CASES[5].question(stream)).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, 502, "{text}");
        assert!(serde_json::from_str::<Value>(&text).unwrap()["error"]["message"].is_string(), "{text}");
    }
    assert_eq!(stage.used().await.micros, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_the_place_of_an_answer_is_told_as_one_and_costs_nothing() {
    let (raw, stage) = with_a_raw_upstream().await;
    let said = format!(r#"{{"error":{{"message":"no {PROVIDER_KEY}","code":503}}}}"#);
    for case in CASES.iter().filter(|case| case.stream.is_some()) {
        raw.say(Script::json(said.as_bytes()));
        assert_eq!(ask(&stage, &case.path(false), case.question(false)).await.status().as_u16() / 100, 5);
        for pieces in [&[usize::MAX][..], &[1], &[40]] {
            raw.say(Script::stream(format!("data: {said}\n\n").as_bytes()).in_pieces(pieces));
            let streamed = ask(&stage, &case.path(true), case.question(true)).await;
            assert_eq!(streamed.status().as_u16() / 100, 5, "{}: nothing was passed on yet", case.door);
        }
        raw.say(Script::json(said.as_bytes()).status("422 Unprocessable"));
        let refused = ask(&stage, &case.path(false), case.question(false)).await;
        assert_eq!(refused.status(), 422, "{}: what is about the question is the upstream's to say", case.door);
        let text = refused.text().await.unwrap();
        assert!(text.contains("no [key]") && !text.contains(PROVIDER_KEY), "{text}");
    }
    assert_eq!(stage.used().await.calls, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_that_an_upstream_repeats_in_the_middle_of_an_answer_is_told_to_nobody() {
    let (raw, stage) = with_a_raw_upstream().await;
    let said = format!(r#"{{"error":{{"message":"no {PROVIDER_KEY}","code":503}}}}"#);
    let mut told_so = 0;
    for case in &CASES {
        let Some(stream) = case.stream else { continue };
        // Where something was said by then, nobody else can be asked.
        let events: Vec<&str> = stream.split_inclusive("\n\n").collect();
        let told = format!("{}data: {said}\n\n", events[..events.len() / 2].concat());
        let within = told.find(PROVIDER_KEY).expect("it is there") + PROVIDER_KEY.len();
        for pieces in [&[usize::MAX][..], &[1], &[within - 3, 1, 1], &[within]] {
            raw.say(Script::stream(told.as_bytes()).in_pieces(pieces));
            let streamed = ask(&stage, &case.path(true), case.question(true)).await;
            let begun = streamed.status() == 200;
            let text = streamed.text().await.unwrap();
            assert!(text.contains("no [key]") == begun && !text.contains(PROVIDER_KEY), "{pieces:?}: {text}");
            told_so += usize::from(begun);
        }
    }
    assert!(told_so > 20, "most of them had said something: {told_so}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gemini_s_stream_that_is_an_array_passes_byte_for_byte_too() {
    let (raw, stage) = with_a_raw_upstream().await;
    let case = &CASES[7];
    let answer = format!("[{0}\n,\r\n{0}\n]\n", case.whole.trim_end());
    for pieces in [&[usize::MAX][..], &[1], &[2, 7, 1, 61, 3]] {
        raw.say(Script::json(answer.as_bytes()).in_pieces(pieces));
        let path = case.path(true).replace("?alt=sse", "");
        let response = ask(&stage, &path, case.question(true)).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.text().await.unwrap(), answer, "{pieces:?}");
        let heard = raw.heard().remove(0);
        assert!(heard.line.contains(":streamGenerateContent HTTP"), "not asked for events: {}", heard.line);
        assert_eq!(String::from_utf8(heard.body).unwrap(), case.sent(true));
    }
    assert!(stage.used().await.micros > 0, "what it costs was heard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_answer_is_not_passed_on_and_nobody_reads_it() {
    let (raw, stage) = with_a_raw_upstream().await;
    let page = "<html>the canary of nginx at 10.0.0.1</html>";
    for case in CASES.iter().filter(|case| case.stream.is_some()) {
        for body in [page, "\r\n \n<html>canary</html>", "canary: gone", "null", "12", "\"canary\"", "[\"canary\"]"] {
            raw.say(Script::json(body.as_bytes()).in_pieces(&[1]));
            let whole = ask(&stage, &case.path(false), case.question(false)).await;
            raw.say(Script::stream(body.as_bytes()).in_pieces(&[1]));
            // A stream may be an array.
            let streamed = match body.starts_with('[') {
                true => None,
                false => Some(ask(&stage, &case.path(true), case.question(true)).await),
            };
            for answer in [Some(whole), streamed].into_iter().flatten() {
                let status = answer.status();
                let text = answer.text().await.unwrap();
                assert_eq!(status, 502, "{} of {body:?}: {text}", case.door);
                assert!(!text.contains("canary") && text.contains("cannot be read"), "{text}");
            }
        }
        // White space is still no answer when it ends.
        raw.say(Script::stream(b"\r\n\r\n"));
        assert_eq!(ask(&stage, &case.path(true), case.question(true)).await.status(), 502);
    }
    assert_eq!(stage.used().await.micros, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_no_answer_in_its_protocol_is_not_passed_on_either() {
    let (raw, stage) = with_a_raw_upstream().await;
    for case in &CASES {
        for body in [
            r#"{"canary":"of somebody else"}"#,
            r#"{"object":"error","message":"canary"}"#,
            r#"{"choices":null,"content":null,"candidates":null,"output":null,"data":null,"x":"canary"}"#,
        ] {
            for pieces in [&[usize::MAX][..], &[1]] {
                raw.say(Script::json(body.as_bytes()).in_pieces(pieces));
                let mut answers = vec![ask(&stage, &case.path(false), case.question(false)).await];
                if case.stream.is_some() {
                    raw.say(Script::json(body.as_bytes()).in_pieces(pieces));
                    answers.push(ask(&stage, &case.path(true), case.question(true)).await);
                }
                for answer in answers {
                    let status = answer.status();
                    let text = answer.text().await.unwrap();
                    assert_eq!(status, 502, "{} of {body:?}: {text}", case.door);
                    assert!(!text.contains("canary") && text.contains("cannot be read"), "{text}");
                }
            }
        }
        // Whoever answers whole when a stream was asked for is heard all the same, byte for byte.
        if case.stream.is_some() {
            for pieces in [&[usize::MAX][..], &[1]] {
                raw.say(Script::json(case.whole.as_bytes()).in_pieces(pieces));
                let answer = ask(&stage, &case.path(true), case.question(true)).await;
                assert_eq!(
                    (answer.status().as_u16(), answer.headers()["content-type"].as_bytes()),
                    (200, &b"application/json"[..])
                );
                assert_eq!(answer.text().await.unwrap(), case.whole, "{}", case.door);
            }
        }
    }
    // The same where it would have been translated.
    for stream in [false, true] {
        raw.say(Script::json(b"{\"canary\":1}"));
        let body = json!({
            "model": CASES[0].model(), "max_tokens": 9, "stream": stream,
            "messages": [{ "role": "user", "content": "hi" }],
        });
        let answer = ask(&stage, "/v1/messages", body.to_string()).await;
        assert_eq!(answer.status(), 502, "stream {stream}");
        assert!(!answer.text().await.unwrap().contains("canary"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_an_upstream_is_not_said_to_be_the_caller_s_fault() {
    let (raw, stage) = with_a_raw_upstream().await;
    let error = br#"{"error":{"message":"canary","type":"invalid_request_error"}}"#;
    for (status, body) in [
        ("302 Found", &b"<html>canary</html>"[..]),
        ("304 Not Modified", b""),
        ("400 Bad Request", b"<html>canary</html>"),
        ("404 Not Found", b"<html>canary</html>"),
        ("405 Method Not Allowed", error),
        ("409 Conflict", error),
        ("415 Unsupported Media Type", error),
        ("418 I am a teapot", error),
        ("600 Whatever", b"canary"),
    ] {
        for case in CASES.iter() {
            raw.say(Script::json(body).status(status));
            let answer = ask(&stage, &case.path(false), case.question(false)).await;
            let (told, text) = (answer.status(), answer.text().await.unwrap());
            assert_eq!(told, 502, "{status} at {}: {text}", case.door);
            assert!(!text.contains("canary") && !text.contains("invalid_request"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_translated_stream_says_once_that_it_failed() {
    let (raw, stage) = with_a_raw_upstream().await;
    let said = r#"data: {"choices":[{"index":0,"delta":{"content":"so"},"finish_reason":null}]}

"#;
    for end in [
        // An end that gives no reason, an error with and without an end behind it, and no end.
        "data: [DONE]\n\n",
        "data: {\"error\":{\"code\":500}}\n\n",
        "data: {\"error\":{\"code\":500}}\n\ndata: [DONE]\n\n",
        "",
    ] {
        for pieces in [&[usize::MAX][..], &[40]] {
            raw.say(Script::stream(format!("{said}{end}").as_bytes()).in_pieces(pieces));
            let body = json!({
                "model": CASES[0].model(), "max_tokens": 9, "stream": true,
                "messages": [{ "role": "user", "content": "hi" }],
            });
            let text = ask(&stage, "/v1/messages", body.to_string()).await.text().await.unwrap();
            assert!(text.contains("\"so\""), "{text}");
            assert_eq!(text.matches("event: error\n").count(), 1, "{end:?} in {pieces:?}: {text}");
        }
    }
}
