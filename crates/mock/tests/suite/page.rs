//! The page, its documents, the catalog and the diagnostics.

use axum::Router;
use axum::routing::get;
use reqwest::multipart::{Form, Part};
use salon_mock::MockConfig;
use serde_json::{Value, json};

use crate::{CHAT, House, TOKEN};

#[tokio::test]
async fn the_root_leads_to_the_page_and_the_page_is_locked_down() {
    let house = House::new().await;
    let direct = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let home = direct.get(house.url("/")).send().await.unwrap();
    assert_eq!((home.status().as_u16(), home.headers()["location"].to_str().unwrap()), (307, "/_mock/ui"));
    let page = house.http.get(house.url("/_mock/ui")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    assert_eq!(page.headers()["cache-control"], "no-store");
    for (path, media_type) in [
        ("/_mock/ui/app.js", "text/javascript; charset=utf-8"),
        ("/_mock/ui/styles.css", "text/css; charset=utf-8"),
        ("/_mock/ui/favicon.svg", "image/svg+xml"),
        ("/favicon.svg", "image/svg+xml"),
    ] {
        let asset = house.http.get(house.url(path)).send().await.unwrap();
        assert_eq!((asset.status().as_u16(), asset.headers()["content-type"].to_str().unwrap()), (200, media_type));
    }
    for path in ["/_mock/ui/..%2fCargo.toml", "/_mock/ui/nothing.js", "/_mock/ui/.html", "/_mock/ui/x"] {
        assert_eq!(house.http.get(house.url(path)).send().await.unwrap().status(), 404, "{path}");
    }
    assert_eq!(house.look("/healthz").await, (200, json!({"ok": true})));
}

#[tokio::test]
async fn documents_are_harmless() {
    let house = House::new().await;
    house.alice_says("hi");
    let send = async |name: &'static str, bytes: &'static [u8]| {
        let form = Form::new().text("chat_id", CHAT.to_string()).part("document", Part::bytes(bytes).file_name(name));
        let url = house.url(&format!("/bot{TOKEN}/sendDocument"));
        house.http.post(url).multipart(form).send().await.unwrap();
        let (_, shown) = house.look(&format!("/_mock/messages?token={TOKEN}&chat_id={CHAT}")).await;
        shown["result"]["messages"].as_array().unwrap().last().unwrap()["document"].clone()
    };
    for (name, bytes, is_image, is_html, disposition) in [
        ("a.html", &b"<script>alert(1)</script>"[..], false, true, "inline"),
        ("a.svg", b"<svg onload='alert(1)'/>", true, false, "inline"),
        ("a.exe", b"MZ", false, false, "attachment"),
        ("a.txt", b"<script>", false, false, "attachment"),
    ] {
        let document = send(name, bytes).await;
        assert_eq!(document["filename"], json!(name));
        assert_eq!((&document["is_image"], &document["is_html"]), (&json!(is_image), &json!(is_html)));
        let url = document["url"].as_str().unwrap();
        assert!(url.starts_with("/_mock/document/") && url.ends_with("?token=mock_token_1"));
        let shown = house.http.get(house.url(url)).send().await.unwrap();
        let header = |name: &str| shown.headers()[name].to_str().unwrap().to_owned();
        assert!(header("content-security-policy").starts_with("sandbox; default-src 'none'"), "{name}");
        assert!(header("content-disposition").starts_with(disposition), "{name}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        if disposition == "attachment" {
            assert_eq!(header("content-type"), "application/octet-stream");
        }
        assert_eq!(shown.bytes().await.unwrap(), bytes);
    }
    for path in ["/_mock/document/1?token=other_token", "/_mock/document/999?token=mock_token_1", "/_mock/document/x"] {
        assert_eq!(house.look(path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn bots_are_added_to_and_deleted_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bots.yaml");
    std::fs::write(
        &path,
        "# birds\nsurprise: {kept: true}\nbots:\n  - bot_id: parrot\n    telegram_token: \"\"\n    adapter: echo\n    \
         extra: 7\n    codex: {model: gpt-5}\n  - telegram_token: 123456:ABCDEFGH\n    mode: gateway\n",
    )
    .unwrap();
    let config = MockConfig {
        bots_config: Some(path.clone()),
        embedded_url: Some("http://127.0.0.1:8080".to_owned()),
        ..MockConfig::default()
    };
    let house = House::with(config).await;
    let (_, listed) = house.look("/_mock/bot_catalog").await;
    let bots = &listed["result"]["bots"];
    assert_eq!(
        (&bots[0]["bot_id"], &bots[0]["token"], &bots[0]["name"]),
        (&json!("parrot"), &json!("mock_token_1"), &json!("Bot 1"))
    );
    assert_eq!((&bots[0]["default_adapter"], &bots[0]["default_models"]["codex"]), (&json!("echo"), &json!("gpt-5")));
    assert_eq!(bots[0]["embedded_url"], json!("http://127.0.0.1:8080"));
    assert_eq!(
        bots[0]["webhook"],
        json!({"path_secret": "parrot-path", "secret_token": "parrot-secret", "public_url": null})
    );
    assert_eq!((&bots[1]["bot_id"], &bots[1]["token_masked"]), (&json!("bot-2"), &json!("1234***EFGH")));
    assert_eq!((&bots[1]["default_adapter"], &bots[1]["embedded_url"]), (&json!("gemini"), &json!(null)));

    let (_, added) =
        house.control("/_mock/bot_catalog/add", json!({"adapter": "storyteller", "bot_id": "parrot"})).await;
    let bot = &added["result"]["bot"];
    assert_eq!((&bot["bot_id"], &bot["token"]), (&json!("bot-1"), &json!("mock_token_2")), "taken names are replaced");
    assert_eq!(added["result"]["total_bots"], json!(3));
    let (_, named) = house
        .control("/_mock/bot_catalog/add", json!({"bot_id": "owl", "name": "Owl: \"wise\"", "adapter": "echo"}))
        .await;
    assert_eq!(named["result"]["bot"]["name"], json!("Owl: \"wise\""));
    assert_eq!(house.control("/_mock/bot_catalog/add", json!({"adapter": "stork"})).await.0, 400);
    let (status, deleted) = house.control("/_mock/bot_catalog/delete", json!({"bot_id": "bot-2"})).await;
    assert_eq!((status, &deleted["result"]["total_bots"]), (200, &json!(3)));
    assert_eq!(house.control("/_mock/bot_catalog/delete", json!({"bot_id": "bot-2"})).await.0, 404);
    assert_eq!(house.control("/_mock/bot_catalog/delete", json!({"bot_id": "nobody"})).await.0, 404);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("kept: true") && text.contains("extra: 7"), "{text}");
    let (_, listed) = house.look("/_mock/bot_catalog").await;
    let ids: Vec<_> = listed["result"]["bots"].as_array().unwrap().iter().map(|bot| bot["bot_id"].clone()).collect();
    assert_eq!(ids, ["parrot", "bot-1", "owl"]);

    std::fs::write(&path, "bots: [").unwrap();
    assert_eq!(house.look("/_mock/bot_catalog").await.1["result"]["bots"], json!([]));
    assert_eq!(house.control("/_mock/bot_catalog/add", json!({})).await.0, 400);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "bots: [", "what is not understood is not overwritten");
    assert_eq!(House::new().await.look("/_mock/bot_catalog").await, (200, json!({"ok": true, "result": {"bots": []}})));
}

#[tokio::test]
async fn diagnostics_show_health_metrics_and_the_session() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let embedded_url = format!("http://{}", listener.local_addr().unwrap());
    let metrics = json!({"in_flight_runs": 2, "runtime_counters": {"worker_heartbeat.run_worker": 12}});
    let app = Router::new()
        .route("/healthz", get(async || axum::Json(json!({"ok": true}))))
        .route("/metrics", get(async move || axum::Json(metrics)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bots.yaml");
    std::fs::write(&path, "bots:\n  - {bot_id: parrot, telegram_token: mock_token_1, adapter: codex}\n").unwrap();
    let config = MockConfig { bots_config: Some(path), embedded_url: Some(embedded_url), ..MockConfig::default() };
    let house = House::with(config).await;
    house.alice_says("hi");
    house.parrot_says("Queued turn: t-1\nsession=s-1\nagent=codex").await;
    house
        .parrot_says("[1][10:00:00][thread_started] {\"thread_id\": \"x-1\"}\n[2][10:00:00][error] it timed out")
        .await;
    let (status, body) =
        house.look(&format!("/_mock/bot_diagnostics?bot_id=parrot&token={TOKEN}&chat_id={CHAT}")).await;
    assert_eq!(status, 200);
    let seen: &Value = &body["result"];
    assert_eq!((&seen["health"]["bot"]["ok"], &seen["health"]["bot"]["status_code"]), (&json!(true), &json!(200)));
    assert_eq!(seen["metrics"]["in_flight_runs"], json!(2));
    assert_eq!(seen["metrics"]["worker_heartbeat"], json!({"run_worker": 12, "update_worker": null}));
    assert_eq!(
        seen["session"],
        json!({
            "current_agent": "codex", "session_id": "s-1", "thread_id": "x-1", "run_status": "error",
            "summary_preview": null,
        })
    );
    assert_eq!((&seen["threads_top10"][0]["chat_id"], &seen["last_error_tag"]), (&json!(CHAT), &json!("timeout")));
    assert_eq!(house.look("/_mock/bot_diagnostics?bot_id=nobody").await.0, 404);
    assert_eq!(house.look("/_mock/bot_diagnostics?bot_id=parrot&token=other").await.0, 400);
    assert_eq!(house.look("/_mock/bot_diagnostics?bot_id=parrot&limit=301").await.0, 400);
}
