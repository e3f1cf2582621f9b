//! The listener: whom it serves, what faults do to a connection, and what outlives a restart.

use salon_mock::{Calls, Fault, Mock, MockConfig, Timeline, Verify};
use serde_json::json;

use crate::{CHAT, House, TOKEN, soon};

#[tokio::test]
async fn an_address_others_could_reach_is_refused() {
    let config = MockConfig { listen: "0.0.0.0:0".parse().unwrap(), ..MockConfig::default() };
    let error = Mock::start(config).await.unwrap_err();
    assert_eq!(error.to_string(), "the mock Telegram listens on loopback addresses only, not on 0.0.0.0");
}

#[tokio::test]
async fn a_rebound_name_and_a_foreign_page_are_refused() {
    let house = House::new().await;
    let rebound = house.http.get(house.url("/_mock/state")).header("host", "evil.example");
    assert_eq!(rebound.send().await.unwrap().status(), 403);
    let foreign = house.http.post(house.url("/_mock/send")).header("origin", "https://evil.example").json(&json!({}));
    let response = foreign.send().await.unwrap();
    assert_eq!(response.status(), 403);
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body, json!({"ok": false, "description": "requests from other origins are refused"}));
    let own = house.http.post(house.url("/_mock/send")).header("origin", house.mock.base_url());
    let say = json!({"token": TOKEN, "chat_id": CHAT, "text": "hi"});
    assert_eq!(own.json(&say).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn each_fault_has_its_own_way_to_spoil_an_answer() {
    let house = House::new().await;
    house.alice_says("hi");
    let send = |text: &'static str| {
        let url = house.url(&format!("/bot{TOKEN}/sendMessage"));
        let request = house.http.post(url).json(&json!({"chat_id": CHAT, "text": text}));
        async move { request.send().await }
    };
    let fault = |mode: &str| {
        house.mock.add_fault(Fault::new("sendMessage", mode).times(1)).unwrap();
    };
    fault("drop_before");
    assert!(send("never").await.is_err());
    fault("rst");
    assert!(send("never").await.is_err());
    assert_eq!(house.mock.bot_texts(TOKEN, CHAT), Vec::<String>::new());
    fault("apply_then_drop");
    assert!(send("sent all the same").await.is_err());
    assert_eq!(house.mock.bot_texts(TOKEN, CHAT), ["sent all the same"]);
    fault("status:502");
    let response = send("never").await.unwrap();
    assert_eq!(response.status(), 502);
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body, json!({"ok": false, "error_code": 502, "description": "Bad Gateway"}));
    fault("429:7");
    let response = send("never").await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    for (mode, body) in [("empty", ""), ("not_ok", "{\"ok\":false}")] {
        fault(mode);
        let response = send("never").await.unwrap();
        assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, body));
    }
    fault("html");
    assert_eq!(send("never").await.unwrap().headers()["content-type"], "text/html");
    fault("garbage");
    let garbage = send("never").await.unwrap().bytes().await.unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&garbage).is_err());
    fault("huge");
    let mut huge = send("never").await.unwrap();
    let mut read = 0;
    while let Some(chunk) = huge.chunk().await.unwrap() {
        read += chunk.len();
    }
    assert!(read > 100 << 20, "{read}");
    fault("delay:1");
    assert_eq!(send("late").await.unwrap().status(), 200);
    assert_eq!(house.mock.bot_texts(TOKEN, CHAT), ["sent all the same", "late"]);
    house.mock.add_fault(Fault { apply: Some(true), ..Fault::new("*", "status:500").times(1) }).unwrap();
    assert_eq!(send("although").await.unwrap().status(), 500);
    assert_eq!(house.mock.bot_texts(TOKEN, CHAT).len(), 3);

    let calls = house.mock.calls(TOKEN, "sendMessage");
    let seen: Vec<_> = calls.iter().map(|call| (call.fault.as_deref().unwrap(), call.status, call.applied)).collect();
    assert_eq!(
        seen,
        [
            ("drop_before", 0, false),
            ("rst", 0, false),
            ("apply_then_drop", 0, true),
            ("status:502", 502, false),
            ("429:7", 429, false),
            ("empty", 200, false),
            ("not_ok", 200, false),
            ("html", 200, false),
            ("garbage", 200, false),
            ("huge", 200, false),
            ("delay:1", 200, true),
            ("status:500", 500, true),
        ]
    );
}

#[tokio::test]
async fn a_fault_can_hit_a_poll_without_losing_an_update() {
    let house = House::fast().await;
    let id = house.alice_says("hi");
    house.mock.add_fault(Fault { apply: Some(true), ..Fault::new("getUpdates", "drop_before").times(1) }).unwrap();
    let poll = house.http.post(house.url(&format!("/bot{TOKEN}/getUpdates")));
    assert!(poll.send().await.is_err());
    assert_eq!(house.ok("getUpdates", json!({})).await[0]["update_id"], json!(id));
}

#[tokio::test]
async fn timelines_ids_and_waiting_updates_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = || MockConfig { state_file: Some(folder.path().join("mock.json")), ..MockConfig::default() };
    let house = House::with(config()).await;
    house.alice_says("one");
    house.take_updates().await;
    house.parrot_says("one").await;
    let upload = reqwest::multipart::Form::new()
        .text("chat_id", CHAT.to_string())
        .part("document", reqwest::multipart::Part::bytes(&b"contents"[..]).file_name("a.txt"));
    let url = house.url(&format!("/bot{TOKEN}/sendDocument"));
    house.http.post(url).multipart(upload).send().await.unwrap();
    let waiting = house.alice_says("two");
    let before = house.mock.messages(&Timeline::of(TOKEN, CHAT)).unwrap();
    house.mock.shutdown().await.unwrap();

    let house = House::with(config()).await;
    assert_eq!(house.mock.messages(&Timeline::of(TOKEN, CHAT)).unwrap(), before);
    let updates = house.take_updates().await;
    assert_eq!(updates.iter().map(|update| update["update_id"].as_i64().unwrap()).collect::<Vec<_>>(), [waiting]);
    let document = before["messages"][2]["document"]["url"].as_str().unwrap();
    assert_eq!(house.http.get(house.url(document)).send().await.unwrap().text().await.unwrap(), "contents");
    house.mock.clear(TOKEN, None).unwrap();
    house.mock.shutdown().await.unwrap();

    let house = House::with(config()).await;
    assert!(house.alice_says("three") > waiting);
    assert_eq!(house.parrot_says("x").await, 6, "message ids go on too");
    assert_eq!(std::fs::read_dir(folder.path().join("mock.json.files")).unwrap().count(), 0);
}

#[tokio::test]
async fn ids_that_a_crash_kept_from_the_file_do_not_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mock.json");
    let config = || MockConfig { state_file: Some(path.clone()), ..MockConfig::default() };
    let house = House::with(config()).await;
    house.alice_says("saved");
    house.mock.shutdown().await.unwrap();
    let saved = std::fs::read_to_string(&path).unwrap();
    let house = House::with(config()).await;
    let (update, message) = (house.alice_says("not saved"), house.parrot_says("not saved").await);
    house.mock.shutdown().await.unwrap();
    std::fs::write(&path, saved.replace("\"clean\":true", "\"clean\":false")).unwrap();

    let house = House::with(config()).await;
    assert!(house.alice_says("after the crash") > update);
    assert!(house.parrot_says("after the crash").await > message);
}

#[tokio::test]
async fn a_killed_poller_leaves_neither_a_conflict_nor_a_gap() {
    use tokio::io::AsyncWriteExt;
    let house = House::fast().await;
    house.ok("getMe", json!({})).await;
    let mut killed = tokio::net::TcpStream::connect(house.mock.address()).await.unwrap();
    let request = format!("GET /bot{TOKEN}/getUpdates?timeout=50 HTTP/1.1\r\nhost: {}\r\n\r\n", house.mock.address());
    killed.write_all(request.as_bytes()).await.unwrap();
    until_polled(&house, 1).await;
    drop(killed);
    let id = house.alice_says("hi");
    assert_eq!(house.ok("getUpdates", json!({"timeout": 50})).await[0]["update_id"], json!(id));
    let statuses: Vec<u16> = house.mock.calls(TOKEN, "getUpdates").iter().map(|call| call.status).collect();
    assert!(!statuses.contains(&409), "{statuses:?}");
}

#[tokio::test]
async fn a_shutdown_ends_what_waits_and_frees_the_port() {
    let house = House::new().await;
    house.ok("getMe", json!({})).await;
    let url = house.url(&format!("/bot{TOKEN}/getUpdates?timeout=50"));
    let poll = tokio::spawn(house.http.get(url).send());
    until_polled(&house, 1).await;
    let address = house.mock.address();
    soon(house.mock.shutdown()).await.unwrap();
    // With an empty answer or with none: either way it waits no longer.
    let _ = soon(poll).await.unwrap();
    Mock::start(MockConfig { listen: address, ..MockConfig::default() }).await.unwrap();
}

/// Waits until so many polls have come in.
async fn until_polled(house: &House, count: usize) {
    soon(async {
        while house.mock.calls(TOKEN, "getUpdates").len() < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_broken_state_file_is_no_reason_to_forget_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mock.json");
    std::fs::write(&path, "{").unwrap();
    let config = MockConfig { state_file: Some(path.clone()), ..MockConfig::default() };
    let error = Mock::start(config).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{} is no state file", path.display()));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{");
}

#[tokio::test]
async fn nothing_grows_without_an_end() {
    let config = MockConfig { messages_per_chat: 5, ledger_calls: 3, file_bytes: 10, ..MockConfig::default() };
    let house = House::with(config).await;
    house.alice_says("hi");
    for n in 0..6 {
        house.parrot_says(&format!("{n}")).await;
    }
    assert_eq!(house.mock.bot_texts(TOKEN, CHAT), ["1", "2", "3", "4", "5"]);
    let ledger = house.mock.ledger(&Calls::default());
    assert_eq!((ledger["total"].clone(), ledger["calls"].as_array().unwrap().len()), (json!(6), 3));
    assert!(!house.mock.verify(&Verify::default()).unwrap().complete, "whoever counts is told");
    let mut file_ids = Vec::new();
    for _ in 0..2 {
        let part = reqwest::multipart::Part::bytes(&b"12345678"[..]).file_name("a.txt");
        let form = reqwest::multipart::Form::new().text("chat_id", CHAT.to_string()).part("document", part);
        let url = house.url(&format!("/bot{TOKEN}/sendDocument"));
        let sent: serde_json::Value = house.http.post(url).multipart(form).send().await.unwrap().json().await.unwrap();
        file_ids.push(sent["result"]["document"]["file_id"].clone());
    }
    assert_eq!(
        house.refused("getFile", json!({"file_id": file_ids[0]})).await,
        "400 Bad Request: wrong file_id or the file is temporarily unavailable"
    );
    house.ok("getFile", json!({"file_id": file_ids[1]})).await;
}

#[tokio::test]
async fn a_too_large_request_is_refused() {
    let house = House::new().await;
    let body = vec![b' '; (52 << 20) + 1];
    let request = house.http.post(house.url(&format!("/bot{TOKEN}/sendMessage"))).body(body);
    assert_eq!(request.send().await.unwrap().status(), 413);
}
