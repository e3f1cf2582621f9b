//! What people said, and what waits for a yes.

use std::time::Duration;

use salon::people::DEFAULT_ORG;
use salon_core::people::Role;
use salon_store::{AuditFilter, Realm};
use serde_json::json;

use crate::stage::{Browser, PATIENCE, Stage, ask};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_decided_by_ones_own_administrators() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let manager = stage.enter(DEFAULT_ORG, "Mona", Role::Manager, Realm::Desk).await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;
    let limit = [("scope", "org"), ("measure", "requests"), ("period", "day"), ("amount", "0"), ("policy", "ask")];
    admin.post("/admin/limits", &limit).await.leads_to("/admin/limits?done=limit_added");
    let key_of = async |browser: &Browser| stage.key_of(&browser.user).await;
    let keys = (key_of(&admin).await, key_of(&manager).await, key_of(&bob).await, key_of(&fish).await);
    let twin = async |key: &str, method: &str, path: &str| {
        let head = format!("Authorization: Bearer {key}\r\n");
        ask(stage.address, method, &format!("/api/admin/usage/held{path}"), &head, "").await
    };

    for (words, yes) in [("first words", true), ("second words", false)] {
        let said = bob.post("/dialogs", &[("text", words), ("engine", "parrot")]).await;
        let place = said.location().split('#').next().expect("a place").to_owned();
        let call = stage.waits_for_a_yes().await;
        admin.get("/admin/held").await.is(200).says("Bob").says(&format!("/admin/held/{call}/approve"));
        assert_eq!(twin(&keys.0, "GET", "").await.json()["held"][0]["call_id"], json!(call));
        // Managers see what waits, and decide nothing.
        let page = manager.get("/admin/held").await;
        assert!(page.is(200).says("Bob").body.matches("/admin/held/").count() == 0, "{}", page.body);
        // To other organisations there is no such call.
        assert!(!fish.get("/admin/held").await.is(200).body.contains("Bob"));
        assert_eq!(twin(&keys.3, "GET", "").await.json()["held"], json!([]));
        for deed in ["approve", "deny"] {
            let (form, path) = (format!("/admin/held/{call}/{deed}"), format!("/{call}/{deed}"));
            manager.post(&form, &[]).await.is(403);
            fish.post(&form, &[]).await.is(404);
            assert!(bob.post(&form, &[]).await.location().starts_with("/admin/login"));
            admin.send(&form, "cross-site", Some(&admin.seal), &[]).await.is(403);
            admin.send(&form, "same-origin", None, &[]).await.is(403);
            twin(&keys.1, "POST", &path).await.is(403);
            twin(&keys.2, "POST", &path).await.is(403);
            twin(&keys.3, "POST", &path).await.is(404);
            ask(stage.address, "POST", &format!("/api/admin/usage/held{path}"), "", "").await.is(401);
        }
        assert_eq!(stage.waits_for_a_yes().await, call, "nobody decided yet");
        // One is decided on the page, the other by a program; either once.
        if yes {
            let form = format!("/admin/held/{call}/approve");
            admin.post(&form, &[]).await.leads_to("/admin/held?done=approved");
        } else {
            let said = twin(&keys.0, "POST", &format!("/{call}/deny")).await;
            assert_eq!(said.is(200).json(), json!({"call_id": call, "state": "denied"}));
        }
        for deed in ["approve", "deny"] {
            admin.post(&format!("/admin/held/{call}/{deed}"), &[]).await.is(404);
            twin(&keys.0, "POST", &format!("/{call}/{deed}")).await.is(404);
        }

        let ended = if yes {
            format!("<div class=\"block\"><p>{words}")
        } else {
            "An administrator has to agree to this".to_owned()
        };
        let told = tokio::time::timeout(PATIENCE, async {
            loop {
                let page = bob.get(&place).await.is(200).body.clone();
                if page.contains(&ended) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        if told.await.is_err() {
            panic!("{words}: {}", bob.get(&place).await.body);
        }
    }
    let mut tx = stage.house.salon.store.read().await.expect("a reader");
    let lines = tx.list_audit(&AuditFilter::default(), 100).await.expect("lines");
    let of = |action: &str| lines.iter().filter(|line| line.action == action).map(|line| line.actor.as_str()).collect();
    let told: (Vec<_>, Vec<_>) = (of("call.approved"), of("call.denied"));
    assert_eq!(told, (vec![admin.user.as_str()], vec![admin.user.as_str()]));
    drop(tx);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_is_looked_through_exported_and_closed() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let said = bob.post("/dialogs", &[("text", "=cmd() <script>alert(1)</script> heron"), ("engine", "parrot")]).await;
    assert_eq!(said.status, 303, "{}", said.body);
    let place = said.location().to_owned();
    let id = place.trim_start_matches("/dialogs/").split(['#', '?']).next().expect("an id").to_owned();
    tokio::time::timeout(PATIENCE, async {
        while !admin.get("/admin/logs").await.body.contains("desk.state")
            && !admin.get("/admin/logs?state=done").await.body.contains("heron")
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("an answer in time");
    let page = admin.get("/admin/logs?q=HERON").await;
    page.is(200).says("Bob").says("&#60;script&#62;");
    assert!(!page.body.contains("<script>alert"));
    for nothing in ["q=stork", "engine=storyteller", "state=failed", "to=2020-01-01", "user=nobody"] {
        admin.get(&format!("/admin/logs?{nothing}")).await.is(200).says("Nothing of that kind was said");
    }
    admin.get(&format!("/admin/logs?user={}&from=2020-01-01", bob.user)).await.says("heron");
    admin.get("/admin/logs/dialogs?q=heron").await.is(200).says(&format!("/admin/dialogs/{id}"));
    let whole = admin.get(&format!("/admin/dialogs/{id}")).await;
    whole.is(200).says("&#60;script&#62;");
    assert!(!whole.body.contains("<script>alert"));

    let table = admin.get("/admin/logs/export?q=heron").await;
    assert!(
        table.headers["content-type"].starts_with("text/csv")
            && table.headers["content-disposition"].starts_with("attachment")
    );
    let body = table.is(200).body.clone();
    assert!(body.starts_with('\u{feff}') && body.lines().count() == 2, "{body}");
    assert!(body.contains("\"'=cmd() <script>") && !body.contains(",\"=cmd"), "{body}");

    // Another organisation sees none of it, by whatever way.
    for page in ["/admin/logs?q=heron", "/admin/logs/dialogs?q=heron", "/admin/stats"] {
        assert!(!fish.get(page).await.is(200).body.contains("cmd()"), "{page}");
    }
    assert_eq!(fish.get("/admin/logs/export").await.body.lines().count(), 1);
    let absent = fish.get("/admin/dialogs/00000000000000000000000000").await;
    assert_eq!(fish.get(&format!("/admin/dialogs/{id}")).await.is(404).body, absent.body);
    fish.post(&format!("/admin/dialogs/{id}/close"), &[]).await.is(404);
    admin
        .post(&format!("/admin/dialogs/{id}/close"), &[])
        .await
        .leads_to(&format!("/admin/dialogs/{id}?done=dialog_closed"));
    admin.get(&format!("/admin/dialogs/{id}")).await.says("closed");
    admin.get("/admin?days=7").await.is(200).says("<svg");
    admin.get("/admin?start=2030-01-01&end=2020-01-01").await.is(200);
    admin.get("/admin?days=many").await.is(200);
    admin.get("/admin/stats?period=day").await.is(200);
    admin.get("/admin").await.is(200).says("<h1>Overview of ");
    stage.close().await;
}
