//! The session API from outside: a program opens a session, asks in it, goes away and comes back.

use salon::Actor;
use salon::people::{DEFAULT_ORG, NewUser, UserChange, add_user, set_user};
use salon_core::people::Role;
use salon_core::scopes::Allowed;
use salon_core::{OrgId, Scopes, Time};
use salon_mock::upstream::Trouble;
use salon_mock::{Mock, MockConfig};
use serde_json::{Value, json};

use crate::stage::Stage;

async fn stage() -> Stage {
    Stage::with(|config| {
        config.sessions.engine = "gpt".to_owned();
        config.origins = vec!["https://chat.example".to_owned()];
    })
    .await
}

impl Stage {
    async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.key).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    async fn said(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.post(path, &body).await;
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    async fn session(&self) -> String {
        let (status, session) = self.said("/api/sessions", json!({})).await;
        assert_eq!(status, 201, "{session}");
        session["session_id"].as_str().unwrap().to_owned()
    }

    /// The key of somebody else in the same organisation.
    async fn key_of_bob(&self) -> String {
        let salon = &self.house.salon;
        let org = OrgId::new(DEFAULT_ORG);
        let new = NewUser { org, name: "Bob".to_owned(), email: None, role: Role::User, telegram: None };
        let bob = add_user(&salon.store, &salon.clock, &salon.pen(Actor::Operator), new).await.unwrap().id;
        self.key_for(&bob, Scopes::default()).await
    }
}

/// The data of a stream's frames, with their ids.
fn frames(text: &str) -> Vec<(Option<String>, String)> {
    let frame = |frame: &str| {
        let line = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        Some((line("id: "), line("data: ")?))
    };
    text.split("\n\n").filter_map(frame).collect()
}

fn kinds(text: &str) -> Vec<String> {
    let kind = |(_, data): &(Option<String>, String)| match serde_json::from_str::<Value>(data) {
        Ok(frame) => frame["type"].as_str().unwrap_or("?").to_owned(),
        Err(_) => data.clone(),
    };
    let mut kinds: Vec<String> = frames(text).iter().map(kind).collect();
    kinds.dedup();
    kinds
}

fn words(text: &str, kind: &str) -> String {
    let said = frames(text).into_iter().filter_map(|(_, data)| serde_json::from_str::<Value>(&data).ok());
    said.filter(|frame| frame["type"] == kind).map(|frame| frame["content"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_opened_found_listed_and_deleted_by_its_owner_alone() {
    let stage = stage().await;
    // Without a body as well.
    let bare = stage.http.post(format!("{}/api/v1/sessions", stage.base)).bearer_auth(&stage.key).send().await.unwrap();
    assert_eq!(bare.status(), 201);
    let (status, session) = stage.said("/api/sessions", json!({ "metadata": { "page": 7 } })).await;
    assert_eq!((status, &session["metadata"]), (201, &json!({ "page": 7 })));
    let id = session["session_id"].as_str().unwrap();
    let path = format!("/api/sessions/{id}");
    let (status, found) = stage.get(&path).await;
    assert_eq!((status, &found["created_at"]), (200, &session["created_at"]));
    assert!(found["last_accessed"].as_str().unwrap().ends_with("+00:00"), "{found}");
    let (_, listed) = stage.get("/api/sessions?limit=1").await;
    assert_eq!((&listed["sessions"][0]["session_id"], &listed["total_count"]), (&json!(id), &json!(1)));
    let next = listed["next"].as_str().unwrap();
    let (_, rest) = stage.get(&format!("/api/sessions?before={next}")).await;
    assert_eq!((rest["sessions"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));

    let bob = stage.key_of_bob().await;
    let missing = json!({ "detail": format!("Session {id} not found") });
    for (method, path) in [
        ("GET", path.clone()),
        ("DELETE", path.clone()),
        ("GET", format!("{path}/messages")),
        ("GET", format!("{path}/stream")),
        ("DELETE", format!("{path}/run")),
        ("POST", format!("{path}/steer")),
    ] {
        let request = stage.http.request(method.parse().unwrap(), format!("{}{path}", stage.base)).bearer_auth(&bob);
        let request = if method == "POST" { request.json(&json!({ "message": "hi" })) } else { request };
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 404, "{method} {path}");
        assert_eq!(response.json::<Value>().await.unwrap(), missing, "{method} {path}");
    }
    let asked = stage.http.post(format!("{}/api/chat", stage.base)).bearer_auth(&bob);
    let asked = asked.json(&json!({ "session_id": id, "message": "hi" })).send().await.unwrap();
    assert_eq!((asked.status().as_u16(), asked.json::<Value>().await.unwrap()), (404, missing.clone()));

    let delete = || stage.http.delete(format!("{}{path}", stage.base)).bearer_auth(&stage.key).send();
    let deleted = delete().await.unwrap();
    assert_eq!((deleted.status().as_u16(), deleted.text().await.unwrap()), (204, String::new()));
    assert_eq!(delete().await.unwrap().status(), 404);
    assert_eq!(stage.get(&path).await, (404, missing));
    let nobody = stage.http.get(format!("{}{path}", stage.base)).send().await.unwrap();
    assert_eq!(nobody.status(), 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_answered_remembered_and_charged() {
    let stage = stage().await;
    let id = stage.session().await;
    let ask = |message: &str| json!({ "session_id": id, "message": message, "max_new_tokens": 50, "temperature": 0.5 });
    let (status, answer) = stage.said("/api/chat", ask("[[say:two storks]]")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["role"], &answer["content"]), (&json!("assistant"), &json!("two storks")));
    let usage = &answer["token_usage"];
    let sum = usage["prompt_tokens"].as_i64().unwrap() + usage["completion_tokens"].as_i64().unwrap();
    assert_eq!(usage["total_tokens"], json!(sum));
    let (_, second) = stage.said("/api/chat", ask("[[echo]]")).await;
    let heard: Value = serde_json::from_str(second["content"].as_str().unwrap()).unwrap();
    let heard: Vec<&str> = heard.as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!(heard, ["[[say:two storks]]", "two storks", "[[echo]]"], "what was said before is known");

    let (_, all) = stage.get(&format!("/api/sessions/{id}/messages")).await;
    let roles: Vec<&str> = all["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!((roles, &all["total_count"]), (vec!["user", "assistant", "user", "assistant"], &json!(4)));
    assert_eq!(all["messages"][1]["message_id"], answer["message_id"]);
    let (_, newest) = stage.get(&format!("/api/v1/sessions/{id}/messages?limit=1")).await;
    assert_eq!(newest["messages"][0], all["messages"][3], "the newest, not the oldest");

    let calls = stage.upstream.calls();
    assert_eq!(calls.len(), 2);
    let used = stage.used().await;
    assert_eq!(used.calls, 2);
    assert!(used.micros > 0, "{used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_the_frames_that_its_clients_know_and_can_be_taken_up_again() {
    let stage = stage().await;
    let id = stage.session().await;
    let ask = |message: &str| json!({ "session_id": id, "message": message });
    let response = stage.post("/api/chat/stream", &ask("[[words=40]] [[pace=20]]")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-cache");
    let text = response.text().await.unwrap();
    assert_eq!(kinds(&text), ["start", "token", "complete", "[DONE]"]);
    let whole = words(&text, "token");
    let (_, messages) = stage.get(&format!("/api/sessions/{id}/messages?limit=1")).await;
    assert_eq!(messages["messages"][0]["content"], json!(whole), "no word is lost on the way");

    // From the first words on, as a browser asks that lost its connection.
    let known = frames(&text).into_iter().find_map(|(id, data)| id.filter(|_| data.contains("token"))).unwrap();
    let again = stage.http.get(format!("{}/api/sessions/{id}/stream", stage.base)).bearer_auth(&stage.key);
    let again = again.header("last-event-id", &known).send().await.unwrap().text().await.unwrap();
    let first = words(&text, "token").len() - words(&again, "token").len();
    assert_eq!(format!("{}{}", &whole[..first], words(&again, "token")), whole);
    assert!(!kinds(&again).contains(&"start".to_owned()) && first > 0, "{again}");

    let old = stage.post("/api/chat/stream?frames=chunk", &ask("[[say:two storks]]")).await.text().await.unwrap();
    assert_eq!(kinds(&old), ["start", "chunk", "complete", "[DONE]"]);
    assert!(old.contains(r#""accumulated":"two storks""#) && old.contains(r#""full_response":"two storks""#), "{old}");
    assert_eq!(stage.said("/api/chat/stream?frames=x", ask("hi")).await.0, 422);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_for_sessions_alone_hears_an_answer_to_its_end() {
    let stage = stage().await;
    let id = stage.session().await;
    let narrow = stage.key_of(Scopes { routes: Allowed::parse("/api/sessions").unwrap(), ..Scopes::default() }).await;
    let asked = json!({ "session_id": id, "message": "[[words=40]] [[pace=60]]" });
    let (asked, heard) = tokio::join!(stage.post("/api/chat", &asked), async {
        let path = format!("{}/api/sessions/{id}/stream", stage.base);
        loop {
            let heard = stage.http.get(&path).bearer_auth(&narrow).send().await.unwrap();
            // There is no turn yet.
            if heard.status() != 404 {
                return heard.text().await.unwrap();
            }
        }
    });
    assert_eq!(asked.status(), 200);
    assert_eq!(kinds(&heard), ["start", "token", "complete", "[DONE]"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_as_this_family_says_it() {
    let stage = stage().await;
    let id = stage.session().await;
    let (status, wrong) = stage.said("/api/chat", json!({ "message": 7, "max_new_tokens": 0 })).await;
    assert_eq!(status, 422);
    let places: Vec<&Value> = wrong["detail"].as_array().unwrap().iter().map(|one| &one["loc"][1]).collect();
    assert_eq!(places, [&json!("session_id"), &json!("message"), &json!("max_new_tokens")]);
    assert_eq!(stage.said("/api/chat/stream", json!({})).await.0, 422);
    assert_eq!(stage.said("/api/sessions", json!({ "metadata": [] })).await.0, 422);
    assert_eq!(stage.said("/api/sessions", json!({ "engine": "nobody" })).await.0, 422);
    let lost = stage.post("/api/chat/stream", &json!({ "session_id": "nope", "message": "hi" })).await;
    assert_eq!(lost.status(), 200, "streams' clients read nothing but the stream");
    assert_eq!(frames(&lost.text().await.unwrap())[0].1, r#"{"type":"error","message":"Session nope not found"}"#);

    let hot = json!({ "session_id": id, "message": "hi", "model": "anthropic:mock-claude", "temperature": 1.5 });
    let (status, refused) = stage.said("/api/chat", hot).await;
    assert_eq!(status, 422, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("cannot be carried to this model"), "{refused}");

    let ask = |message: &str| json!({ "session_id": id, "message": message });
    // What becomes of a turn whose model fails, in all the ways in which models do.
    for (mode, begun) in [
        ("status:400", false),
        ("status:401", false),
        ("html", false),
        ("garbage", false),
        ("cut:3", true),
        ("half:3", true),
        ("error:3", true),
    ] {
        stage.upstream.add_trouble(Trouble::new(mode)).unwrap();
        let (status, failed) = stage.said("/api/chat", ask("it fails")).await;
        assert_eq!(status, 500, "{mode}: {failed}");
        let words = failed["detail"].as_str().unwrap();
        assert!(words.starts_with("Chat processing failed: The ") && words.ends_with('.'), "{mode}: {failed}");
        assert!(!failed.to_string().contains(crate::stage::PROVIDER_KEY), "{mode}: {failed}");
        let broken = stage.post("/api/chat/stream", &ask("it fails")).await.text().await.unwrap();
        let told = if begun { vec!["start", "token", "error", "[DONE]"] } else { vec!["start", "error", "[DONE]"] };
        assert_eq!(kinds(&broken), told, "{mode}: {broken}");
        stage.upstream.clear_troubles();
        // Too many failures in a row, and it would be left alone for a while.
        assert_eq!(stage.said("/api/chat", ask("[[say:hi]]")).await.0, 200, "{mode}");
    }
    for odd in ["crlf", "bom", "no_space", "comments", "split_utf8", "no_done", "done_twice"] {
        stage.upstream.add_trouble(Trouble::new(odd)).unwrap();
        let (status, answer) = stage.said("/api/chat", ask("[[say:два аиста]]")).await;
        assert_eq!((status, &answer["content"]), (200, &json!("два аиста")), "{odd}: {answer}");
        stage.upstream.clear_troubles();
    }
    let (_, after) = stage.said("/api/chat", ask("[[echo]]")).await;
    let heard: Vec<Value> = serde_json::from_str(after["content"].as_str().unwrap()).unwrap();
    let fails = |message: &&Value| message["role"] == "user" && message["content"] == "it fails";
    assert_eq!(heard.iter().find(fails), None, "what failed is no part of the talk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_a_key_is_asked_once() {
    let stage = stage().await;
    let id = stage.session().await;
    let ask = async |path: &str, key: &str, message: &str| {
        let request = stage.http.post(format!("{}{path}", stage.base)).bearer_auth(&stage.key);
        let body = json!({ "session_id": id, "message": message });
        let response = request.header("idempotency-key", key).json(&body).send().await.unwrap();
        let replayed = response.headers().contains_key("idempotent-replayed");
        (response.status().as_u16(), response.text().await.unwrap(), replayed)
    };
    let first = ask("/api/chat", "a", "[[words=9]]").await;
    assert!(!first.2);
    assert_eq!(ask("/api/chat", "a", "[[words=9]]").await, (first.0, first.1.clone(), true));
    let (_, streamed, replayed) = ask("/api/chat/stream", "a", "[[words=9]]").await;
    assert!(replayed);
    let answer: Value = serde_json::from_str(&first.1).unwrap();
    assert_eq!(words(&streamed, "token"), answer["content"].as_str().unwrap(), "the same turn, told as a stream");
    assert_eq!(ask("/api/chat", "a", "something else").await.0, 422);
    let twice = tokio::join!(ask("/api/chat", "b", "[[words=8]]"), ask("/api/chat", "b", "[[words=8]]"));
    assert_eq!((twice.0.0, twice.0.1), (twice.1.0, twice.1.1));
    assert!(twice.0.2 != twice.1.2, "one of them was the second");
    assert_eq!(stage.upstream.calls().len(), 2);

    let open = async || {
        let request = stage.http.post(format!("{}/api/sessions", stage.base)).bearer_auth(&stage.key);
        request.header("idempotency-key", "open").json(&json!({})).send().await.unwrap().text().await.unwrap()
    };
    assert_eq!(open().await, open().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hangs_up_finds_the_whole_answer_later() {
    let stage = stage().await;
    let id = stage.session().await;
    let mut response =
        stage.post("/api/chat/stream", &json!({ "session_id": id, "message": "[[words=60]] [[pace=10]]" })).await;
    response.chunk().await.unwrap();
    drop(response);
    let follow = stage.http.get(format!("{}/api/sessions/{id}/stream", stage.base)).bearer_auth(&stage.key);
    let text = follow.send().await.unwrap().text().await.unwrap();
    assert_eq!(words(&text, "token").split_whitespace().count(), 60);
    assert_eq!(stage.upstream.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_answered_can_be_stopped_and_deleted() {
    let stage = stage().await;
    let id = stage.session().await;
    let path = format!("{}/api/sessions/{id}", stage.base);
    let mut response =
        stage.post("/api/chat/stream", &json!({ "session_id": id, "message": "[[words=5000]] [[pace=10]]" })).await;
    while !String::from_utf8_lossy(&response.chunk().await.unwrap().unwrap()).contains("token") {}
    let stopped = stage.http.delete(format!("{path}/run")).bearer_auth(&stage.key).send().await.unwrap();
    assert_eq!(stopped.status(), 204);
    let rest = response.text().await.unwrap();
    assert!(kinds(&rest).ends_with(&["stopped".to_owned(), "[DONE]".to_owned()]), "{rest}");
    let nothing = stage.http.delete(format!("{path}/run")).bearer_auth(&stage.key).send().await.unwrap();
    assert_eq!(nothing.status(), 404);
    let (_, messages) = stage.get(&format!("/api/sessions/{id}/messages")).await;
    assert_eq!(messages["total_count"], 2, "what was said until then stays: {messages}");

    let ask = json!({ "session_id": id, "message": "[[words=5000]] [[pace=10]]" });
    let stop = async {
        let run = format!("{path}/run");
        let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while stage.http.delete(&run).bearer_auth(&stage.key).send().await.unwrap().status() != 204 {
            assert!(tokio::time::Instant::now() < patience, "it never begins");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let ((status, answer), ()) = tokio::join!(stage.said("/api/chat", ask), stop);
    assert_eq!((status, &answer["stopped"]), (200, &json!(true)), "half an answer is not a whole one: {answer}");

    let mut response =
        stage.post("/api/chat/stream", &json!({ "session_id": id, "message": "[[words=5000]] [[pace=10]]" })).await;
    while !String::from_utf8_lossy(&response.chunk().await.unwrap().unwrap()).contains("token") {}
    assert_eq!(stage.http.delete(&path).bearer_auth(&stage.key).send().await.unwrap().status(), 204);
    response.text().await.unwrap();
    // Its rows go once nobody works on them.
    let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while stage.house.salon.sweep_sessions(None).await.unwrap() == 0 {
        assert!(tokio::time::Instant::now() < patience, "it is never purged");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(stage.get(&format!("/api/sessions/{id}")).await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_expires_when_nobody_looks_at_it() {
    let stage = stage().await;
    let (old, new) = (stage.session().await, stage.session().await);
    let salon = &stage.house.salon;
    stage.said("/api/chat", json!({ "session_id": old, "message": "[[say:hi]]" })).await;
    salon.sweep_sessions(Some(Time(salon.clock.now().0 - 60_000))).await.unwrap();
    assert_eq!(stage.get(&format!("/api/sessions/{old}")).await.0, 200, "not yet");
    salon.sweep_sessions(Some(Time(salon.clock.now().0 + 1))).await.unwrap();
    for id in [old, new] {
        assert_eq!(stage.get(&format!("/api/sessions/{id}")).await.0, 404);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_for_sessions_and_says_so() {
    let stage = stage().await;
    let id = stage.session().await;
    let limit = json!({ "scope": "user", "measure": "requests", "period": "day", "amount": 1, "policy": "block" });
    assert_eq!(stage.said("/api/admin/usage/limits", limit).await.0, 201);
    let ask = json!({ "session_id": id, "message": "[[say:hi]]" });
    assert_eq!(stage.said("/api/chat", ask.clone()).await.0, 200);
    let over = stage.post("/api/chat", &ask).await;
    assert_eq!(over.status(), 429);
    let wait: u64 = over.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait), "{wait}");
    assert_eq!(over.headers()["x-ratelimit-limit-requests"], "1");
    assert_eq!(over.headers()["x-ratelimit-scope-requests"], "user");
    let over: Value = over.json().await.unwrap();
    let said = "This does not fit into the user's limit of 1 requests a day; 0 requests are left. It begins anew on ";
    assert!(over["detail"].as_str().unwrap().starts_with(said), "{over}");
    let stream = stage.post("/api/chat/stream", &ask).await.text().await.unwrap();
    assert!(stream.contains(said), "{stream}");
    // What was said of a question stays so under its name, and that it is told again is said.
    for replayed in [false, true] {
        let named = [("idempotency-key", "a")];
        let over = stage.post_as(&stage.key, "/api/chat", &ask, &named).await;
        assert_eq!((over.status().as_u16(), over.headers().contains_key("idempotent-replayed")), (429, replayed));
    }
    assert_eq!(stage.upstream.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_money_is_gone_says_so_in_dollars() {
    let stage = stage().await;
    let id = stage.session().await;
    let limit =
        json!({ "scope": "user", "measure": "micros", "period": "month", "amount": "0.0004", "policy": "hard" });
    assert_eq!(stage.said("/api/admin/usage/limits", limit).await.0, 201);
    let over = stage.post("/api/chat", &json!({ "session_id": id, "message": "hi" })).await;
    assert_eq!(over.status(), 402, "to come back does not help");
    assert_eq!(over.headers()["x-salon-budget-limit"], "0.0004");
    assert_eq!(over.headers()["x-salon-budget-scope"], "user");
    assert!(!over.headers().contains_key("retry-after"));
    let over: Value = over.json().await.unwrap();
    let said = over["detail"].as_str().unwrap();
    assert!(said.contains("the user's limit of $0.0004 a month; $0.0004 are left"), "{said}");
    assert_eq!(stage.upstream.calls().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_for_other_models_opens_no_way_around_itself() {
    let stage = stage().await;
    let id = stage.session().await;
    let narrow = stage.key_of(Scopes { models: Allowed::parse("mock-c*").unwrap(), ..Scopes::default() }).await;
    let post = async |path: &str, body: Value| {
        let request = stage.http.post(format!("{}{path}", stage.base)).bearer_auth(&narrow);
        request.json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(post("/api/sessions", json!({})).await, 403, "gpt answers there");
    assert_eq!(post("/api/chat", json!({ "session_id": id, "message": "hi" })).await, 403);
    let other = json!({ "session_id": id, "message": "hi", "model": "anthropic:mock-claude" });
    assert_eq!(post("/api/chat", other).await, 200, "in the same session, by a model that it is for");
    assert_eq!(stage.upstream.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_listed_origins_may_read_and_no_others() {
    let stage = stage().await;
    let ask = async |origin: &str| {
        let request = stage.http.request("OPTIONS".parse().unwrap(), format!("{}/api/chat", stage.base));
        let request = request.header("origin", origin).header("access-control-request-method", "POST");
        let response = request.header("access-control-request-headers", "authorization").send().await.unwrap();
        let allowed = response.headers().get("access-control-allow-origin").cloned();
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
        allowed.map(|origin| origin.to_str().unwrap().to_owned())
    };
    assert_eq!(ask("https://chat.example").await.as_deref(), Some("https://chat.example"));
    let read = stage.http.get(format!("{}/api/health", stage.base)).header("origin", "https://chat.example");
    let read = read.send().await.unwrap();
    let shown = read.headers()["access-control-expose-headers"].to_str().unwrap();
    for header in ["x-ratelimit-remaining-requests", "x-salon-budget-warning", "x-salon-cache", "retry-after"] {
        assert!(shown.split(',').any(|known| known.trim() == header), "{header} is not shown: {shown}");
    }
    for origin in ["https://evil.example", "null", "https://chat.example.evil", "http://chat.example"] {
        assert_eq!(ask(origin).await, None, "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_seen_from_telegram_and_goes_on_there() {
    const TOKEN: &str = "1001:parrot-token";
    const ALICE: i64 = 9001;
    let mock = Mock::start(MockConfig::default()).await.unwrap();
    let telegram = mock.base_url().to_owned();
    let stage = Stage::with(|config| {
        config.sessions.engine = "gpt".to_owned();
        config.around.api_base = telegram;
        config.around.open = true;
        let list = format!("bots:\n  - bot_id: parrot\n    adapter: parrot\n    telegram_token: \"{TOKEN}\"\n");
        std::fs::write(&config.bots_file, list).unwrap();
    })
    .await;
    let salon = &stage.house.salon;
    let change = UserChange { telegram: Some(Some(ALICE)), ..UserChange::default() };
    set_user(&salon.store, &salon.pen(Actor::Operator), &stage.user, change).await.unwrap();
    let hears = async |wanted: &str| {
        let said = mock.wait_for_texts(TOKEN, ALICE, |texts| texts.iter().any(|text| text.contains(wanted)));
        let heard = tokio::time::timeout(std::time::Duration::from_secs(20), said).await;
        assert!(heard.is_ok(), "{wanted}: {:?}", mock.bot_texts(TOKEN, ALICE));
    };
    let id = stage.session().await;
    stage.said("/api/chat", json!({ "session_id": id, "message": "[[say:Storks fly south.]]" })).await;
    mock.says(TOKEN, ALICE, ALICE, "hello");
    hears("hello").await;
    let (_, listed) = stage.get("/api/sessions").await;
    let channels: Vec<&Value> = listed["sessions"].as_array().unwrap().iter().map(|one| &one["channel"]).collect();
    assert_eq!(channels, ["telegram", "api"], "the chat's dialog is seen from here: {listed}");

    mock.says(TOKEN, ALICE, ALICE, "/dialogs");
    hears("2. [[say:Storks fly south.]] — API, gpt").await;
    mock.says(TOKEN, ALICE, ALICE, "/dialogs 2");
    hears("We go on with: [[say:Storks fly south.]]").await;
    mock.says(TOKEN, ALICE, ALICE, "[[echo]]");
    hears("Storks fly south.\"},").await;
    let (_, messages) = stage.get(&format!("/api/sessions/{id}/messages")).await;
    assert_eq!(messages["total_count"], 4, "one dialog, two places: {messages}");
    mock.says(TOKEN, ALICE, ALICE, "/dialogs 9");
    hears("There is no dialog 9").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_told_more_at_work_is_not_and_says_why() {
    let stage = stage().await;
    let id = stage.session().await;
    let path = format!("/api/sessions/{id}/steer");
    let hi = json!({ "message": "And south?" });
    assert_eq!(
        stage.said(&path, hi.clone()).await,
        (409, json!({ "detail": "Nothing is being answered in this session" }))
    );
    for wrong in [json!({}), json!({ "message": "  " }), json!({ "message": 7 })] {
        assert_eq!(stage.said(&path, wrong.clone()).await.0, 422, "{wrong}");
    }
    // A model tells its story to the end.
    let ask = json!({ "session_id": id, "message": "tell me a story", "model": "storyteller" });
    let mut story = stage.post("/api/chat/stream", &ask).await;
    assert!(story.chunk().await.unwrap().is_some(), "it has begun");
    let (status, refused) = stage.said(&path, hi).await;
    let why = "Whoever answers cannot be told more while at work; ask when it has ended";
    assert_eq!((status, refused), (409, json!({ "detail": why })));
    stage.http.delete(format!("{}/api/sessions/{id}/run", stage.base)).bearer_auth(&stage.key).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_told_and_nobody_heard_is_asked_once() {
    let stage = stage().await;
    let (_, session) = stage.said("/api/sessions", json!({ "engine": "parrot" })).await;
    let id = session["session_id"].as_str().unwrap();
    let (_, first) = stage.said("/api/chat", json!({ "session_id": id, "message": "north" })).await;
    let salon = &stage.house.salon;
    let dialog = salon_core::DialogId::new(id);
    let turn = salon.store.read().await.unwrap().find_latest_turn(&dialog).await.unwrap().expect("a turn");
    // As a run leaves it that ended before it heard.
    let job = salon_store::NewJob {
        id: salon_core::JobId::new(salon.clock.id()),
        key: None,
        queue: salon::QUEUE_CHAT,
        kind: salon::KIND_STEER,
        lane: salon::say::lane(&dialog),
        bot: None,
        payload: json!({ "turn": turn.as_str(), "text": "and south", "user": stage.user.as_str() }).to_string(),
        now: salon.clock.now(),
        room: None,
    };
    salon.store.write(job, |tx, job| Box::pin(tx.enqueue(job))).await.unwrap();
    let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let told = loop {
        let (_, told) = stage.get(&format!("/api/sessions/{id}/messages")).await;
        if told["total_count"] == 4 {
            break told;
        }
        assert!(tokio::time::Instant::now() < patience, "it is not asked: {first} {told}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let contents: Vec<_> = told["messages"].as_array().unwrap().iter().map(|said| said["content"].clone()).collect();
    assert_eq!(contents, ["north", "north", "and south", "and south"]);
}
