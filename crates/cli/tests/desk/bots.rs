//! Bots, added and started and paused in a browser.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stage::{OTHER_TOKEN, PATIENCE, Stage, TOKEN, ask};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bots_are_added_started_stopped_and_paused() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let mut seen = Vec::new();
    seen.push(admin.get("/admin/bots").await.body);
    let form = |token: &'static str| {
        [("id", "heron"), ("name", "Heron"), ("token", token), ("engine", "parrot"), ("owner", "7"), ("allow", "8, 9")]
    };
    admin.post("/admin/bots", &form("")).await.is(422).says("e-token");
    let added = admin.post("/admin/bots", &form(OTHER_TOKEN)).await;
    added.leads_to("/admin/bots/heron?done=bot_added");
    assert!(stage.bots().contains(OTHER_TOKEN) && stage.bots().starts_with("# Ours."));
    let again = admin.post("/admin/bots", &form(OTHER_TOKEN)).await;
    again.is(422).says("e-id").says("value=\"heron\"");
    seen.push(again.body);
    let twin = [("id", "stork"), ("token", TOKEN), ("engine", "parrot")];
    admin.post("/admin/bots", &twin).await.is(422).says("Another bot has this token");
    seen.push(admin.get("/admin/bots/heron").await.is(200).says("8, 9").body.clone());
    let change = [("name", "Grey heron"), ("token", ""), ("engine", "storyteller"), ("owner", "7"), ("allow", "x")];
    admin.post("/admin/bots/heron", &change).await.is(422).says("e-allow");
    // What agents may do for it stands in the list, is shown, and survives what is changed here.
    admin.get("/admin/bots/heron").await.says("keep to their own policies");
    let list = stage.bots().replacen("  - bot_id: \"heron\"\n", "  - bot_id: \"heron\"\n    policy: read-only\n", 1);
    stage.write_bots(&list);
    admin.get("/admin/bots/heron").await.says("may look, and change nothing");
    let change = [("name", "Grey heron"), ("token", ""), ("engine", "storyteller"), ("owner", "7"), ("everyone", "on")];
    admin.post("/admin/bots/heron", &change).await.leads_to("/admin/bots/heron?done=saved");
    assert!(stage.bots().contains("Grey heron") && stage.bots().contains(OTHER_TOKEN));
    admin.get("/admin/bots/heron").await.says("may look, and change nothing");

    admin.post("/admin/bots/heron/hook", &[("url", "http://salon.example")]).await.is(422).says("e-url");
    admin.post("/admin/bots/heron/stop", &[]).await.leads_to("/admin/bots/heron?done=bot_stopped");
    assert_eq!(stage.house.fleet.all().iter().filter(|bot| bot.id().as_str() == "heron").count(), 1);
    seen.push(admin.get("/admin/bots/heron").await.body);
    admin.post("/admin/bots/heron/poll", &[]).await.leads_to("/admin/bots/heron?done=bot_polls");
    admin
        .post("/admin/bots/heron/hook", &[("url", "https://salon.example")])
        .await
        .leads_to("/admin/bots/heron?done=bot_hooked");
    let hooked = admin.get("/admin/bots/heron").await;
    hooked.says("https://salon.example");
    let secret = stage.bots().split("path_secret: \"").nth(1).expect("a secret")[..32].to_owned();
    seen.push(hooked.body);

    // The same for programs.
    for path in ["start-polling", "stop", "start-polling"] {
        let said = admin.json(&format!("/admin/api/bot/{path}"), &json!({"bot": "heron"})).await;
        assert_eq!(said.is(200).json(), json!({"status": "ok"}));
    }
    let refused = admin.json("/admin/api/bot/start-webhook", &json!({"bot": "heron"})).await;
    assert_eq!(refused.is(400).json()["status"], "error");
    let hooked =
        admin.json("/admin/api/bot/start-webhook", &json!({"bot": "heron", "url": "https://salon.example"})).await;
    assert_eq!(hooked.is(200).json()["status"], "ok");
    seen.push(hooked.body);
    admin.json("/admin/api/bot/stop", &json!({"bot": "stranger"})).await.is(400);
    for paused in [true, false] {
        let said = admin.json("/admin/api/bot/toggle-pause", &Value::Null).await;
        assert_eq!(said.status, 422, "null is no object");
        let said = admin.json("/admin/api/bot/toggle-pause", &json!({"bot": "heron"})).await;
        assert_eq!(said.is(200).json(), json!({"status": "ok", "paused": paused}));
    }
    let stranger = "Sec-Fetch-Site: same-origin\r\n";
    let said = ask(stage.address, "POST", "/admin/api/bot/stop", stranger, "").await;
    assert_eq!(said.is(401).json()["status"], "error");

    let head = format!("Cookie: {}\r\n", admin.cookie);
    let said = ask(stage.address, "GET", "/admin/api/settings", &head, "").await;
    assert_eq!(said.is(200).json()["telegram_bot_token"]["set"], true);
    assert_eq!(said.json()["registration"], "invited");
    seen.push(said.body);
    let set = json!({"registration": "open", "bot_pause_message": "Back at noon."});
    admin.json("/admin/api/settings", &set).await.is(200);
    admin.get("/admin/settings").await.is(200).says("Back at noon.");
    for bad in [
        json!({"registration": "anything"}),
        json!({"telegram_token": "1:x"}),
        json!({"registration": "closed", "x": "y"}),
    ] {
        admin.json("/admin/api/settings", &bad).await.is(422);
    }
    let said = ask(stage.address, "GET", "/admin/api/settings", &head, "").await;
    assert_eq!(said.json()["registration"], "open");
    admin.post("/admin/settings", &[("registration", "anything"), ("bot_pause_message", "")]).await.is(422);
    admin
        .post("/admin/settings", &[("registration", "closed"), ("bot_pause_message", "")])
        .await
        .leads_to("/admin/settings?done=saved");

    admin.post("/admin/bots/heron/remove", &[]).await.leads_to("/admin/bots?done=removed");
    assert!(!stage.bots().contains("heron") && stage.bots().contains("bot_id: parrot # says it back"));
    admin.get("/admin/bots/heron").await.is(404);
    // A token is in no page, nor are the secrets of a webhook.
    for page in seen {
        for secret in ["canary-token", &secret] {
            assert!(!page.contains(secret), "{secret} in {page}");
        }
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_bot_says_so_once_and_does_nothing_else() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let say = async |text: &str| stage.say(7007, text).await;
    let shown = async || stage.chat(7007).await;
    let until = async |words: &str| stage.chat_says(7007, words).await;
    admin
        .post("/admin/bots/parrot/pause", &[("text", "Back at noon.")])
        .await
        .leads_to("/admin/bots/parrot?done=bot_paused");
    admin.get("/admin/bots").await.says("paused");
    say("first words").await;
    until("Back at noon.").await;
    say("second words").await;
    admin.post("/admin/bots/parrot/resume", &[]).await.leads_to("/admin/bots/parrot?done=bot_resumed");
    say("third words").await;
    // The parrot says back what it hears: what was said meanwhile it either never answers, or was read when it went on.
    let answered = tokio::time::timeout(PATIENCE, async {
        while shown().await.matches("third words").count() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    answered.await.expect("an answer in time");
    let all = shown().await;
    assert_eq!(all.matches("first words").count(), 1, "{all}");
    assert_eq!(all.matches("Back at noon.").count(), 1, "{all}");
    stage.close().await;
}
