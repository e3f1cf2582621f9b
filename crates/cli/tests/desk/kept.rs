//! What belongs to the whole house: limits, plans, models, prices, commands, and who hears of errors.

use std::time::Duration;

use salon::audit::Actor;
use salon::catalog::{Kind, ModelSpec, Patience, UpstreamSpec};
use salon::people::DEFAULT_ORG;
use salon_core::OrgId;
use salon_core::people::Role;
use salon_store::{Realm, Taste};
use serde_json::json;

use crate::stage::{Browser, OTHER_TOKEN, PATIENCE, Stage, ask};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_plans_models_and_commands_are_changed_by_forms() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;

    let limit = |subject: &'static str, amount: &'static str| {
        [
            ("scope", "org"),
            ("subject", subject),
            ("measure", "micros"),
            ("period", "month"),
            ("amount", amount),
            ("policy", "ask"),
        ]
    };
    admin.post("/admin/limits", &limit("", "much")).await.is(422).says("e-amount").says("value=\"much\"");
    admin.post("/admin/limits", &limit("", "12.50")).await.leads_to("/admin/limits?done=limit_added");
    let of_bob = [
        ("scope", "user"),
        ("subject", bob.user.as_str()),
        ("measure", "requests"),
        ("period", "day"),
        ("amount", "5"),
        ("policy", "block"),
    ];
    admin.post("/admin/limits", &of_bob).await.leads_to("/admin/limits?done=limit_added");
    // Of somebody who is not theirs there is no limit.
    fish.post("/admin/limits", &of_bob).await.is(422).says("e-subject");
    admin.get("/admin/limits").await.is(200).says("$12.5").says("Bob");
    let limits = stage.house.salon.store.read().await.expect("a reader").list_limits(&OrgId::new(DEFAULT_ORG)).await;
    let id = limits.expect("limits")[0].id.to_string();
    fish.post(&format!("/admin/limits/{id}"), &[("amount", "1"), ("policy", "block")]).await.is(404);
    fish.post(&format!("/admin/limits/{id}/remove"), &[]).await.is(404);
    admin
        .post(&format!("/admin/limits/{id}"), &[("amount", "x"), ("policy", "block")])
        .await
        .is(422)
        .says("role=\"alert\"");
    admin
        .post(&format!("/admin/limits/{id}"), &[("amount", "20"), ("policy", "warn")])
        .await
        .leads_to("/admin/limits?done=saved");
    admin.post(&format!("/admin/limits/{id}/remove"), &[]).await.leads_to("/admin/limits?done=removed");

    admin.post("/admin/plans", &[("name", "free"), ("limits", "money:month:5")]).await.is(422).says("e-limits");
    admin
        .post("/admin/plans", &[("name", "free"), ("limits", "micros:month:5\nrequests:day:50:warn")])
        .await
        .leads_to("/admin/plans?done=saved");
    let plans = stage.house.salon.store.read().await.expect("a reader").list_plans(&OrgId::new(DEFAULT_ORG)).await;
    let plan = plans.expect("plans").remove(0).id;
    fish.post(&format!("/admin/plans/{plan}"), &[("name", "mine"), ("limits", "")]).await.is(404);
    fish.post(&format!("/admin/plans/{plan}/remove"), &[]).await.is(404);
    fish.post(&format!("/admin/users/{}/plan", fish.user), &[("plan", &plan)]).await.is(404);
    fish.post(&format!("/admin/users/{}/plan", bob.user), &[("plan", "")]).await.is(404);
    let page = format!("/admin/users/{}", bob.user);
    admin.post(&format!("{page}/plan"), &[("plan", &plan)]).await.leads_to(&format!("{page}?done=saved"));
    admin.get("/admin/plans").await.says("people: 1").says("requests:day:50:warn");

    let upstream = [("name", "hub"), ("kind", "compatible"), ("base_url", "http://127.0.0.1:9/v1"), ("key", "none")];
    admin
        .post("/admin/models/upstream", &[("name", "a b"), ("kind", "compatible"), ("base_url", ""), ("key", "none")])
        .await
        .is(422)
        .says("role=\"alert\"");
    admin.post("/admin/models/upstream", &upstream).await.leads_to("/admin/models?done=saved");
    admin.post("/admin/models/model", &[("name", "small"), ("at", "")]).await.is(422).says("value=\"small\"");
    let model =
        [("name", "small"), ("at", "hub/tiny"), ("input_price", "1"), ("output_price", "2"), ("context", "8000")];
    admin.post("/admin/models/model", &model).await.leads_to("/admin/models?done=saved");
    admin.get("/admin/models?model=small").await.is(200).says("hub/tiny").says("$1.00 / $2.00").says("value=\"8000\"");
    prices_are_shown_and_changed(&admin, &fish).await;
    // What cannot be used is told in the reader's language.
    let nowhere = [("name", "other"), ("at", "nowhere/x")];
    admin.post("/admin/models/model", &nowhere).await.is(422).says("Nobody called nowhere serves models here.");
    let salon = &stage.house.salon;
    let speaks = async |lang: &str| {
        let taste = Taste { lang: Some(lang.to_owned()), ..Taste::default() };
        salon.set_taste(&admin.user, taste).await.expect("a language");
    };
    speaks("ru").await;
    admin.post("/admin/models/model", &nowhere).await.is(422).says("Никто с именем nowhere не отдаёт здесь модели.");
    speaks("en").await;
    admin.post("/admin/models/test", &[("name", "hub")]).await.is(200).says("hub: ");
    admin.post("/admin/models/test", &[("name", "nobody")]).await.is(404);
    fish.post("/admin/models/model", &model).await.is(404);
    fish.get("/admin/models").await.is(404);
    admin.post("/admin/models/model/remove", &[("name", "small")]).await.leads_to("/admin/models?done=removed");
    admin.post("/admin/models/upstream/remove", &[("name", "hub")]).await.leads_to("/admin/models?done=removed");

    let command = [("bot", ""), ("name", "/Rules"), ("text", "Be **kind**.")];
    admin.post("/admin/commands", &command).await.leads_to("/admin/commands?done=saved");
    admin.post("/admin/commands", &[("bot", ""), ("name", "two words"), ("text", "x")]).await.is(422).says("e-name");
    admin.post("/admin/commands", &[("bot", "stranger"), ("name", "x"), ("text", "x")]).await.is(404);
    admin.get("/admin/commands").await.is(200).says("/rules").says("Be **kind**.");
    fish.post("/admin/commands", &command).await.is(404);
    admin
        .post("/admin/commands/remove", &[("bot", ""), ("name", "rules")])
        .await
        .leads_to("/admin/commands?done=removed");

    admin.post("/admin/keys", &[("provider", "nobody"), ("key", "sk-canary-key")]).await.is(422).says("e-base");
    assert!(!admin.get("/admin/keys").await.body.contains("canary"));

    let org = [("name", "Otters"), ("zone", "Mars/North")];
    admin.post("/admin/orgs", &org).await.is(422).says("e-zone").says("value=\"Otters\"");
    admin.post("/admin/orgs", &[("name", "Otters"), ("zone", "Asia/Seoul")]).await.leads_to("/admin/orgs?done=saved");
    fish.get("/admin/orgs").await.is(404);
    fish.post(&format!("/admin/orgs/{DEFAULT_ORG}/tend"), &[]).await.is(404);
    let tended = admin.post(&format!("/admin/orgs/{}/tend", stage.other), &[]).await;
    tended.leads_to("/admin");
    let chosen = tended.headers["set-cookie"].split(';').next().expect("a cookie").to_owned();
    let tending = Browser { cookie: format!("{}; {chosen}", admin.cookie), ..admin.clone() };
    tending.get("/admin/users").await.is(200).says("Finn");
    tending.get(&page).await.is(404);
    // The same cookie gives nothing to whoever has no right to it.
    let forged = format!("{}; desk-org={DEFAULT_ORG}", fish.cookie);
    let forged = Browser { cookie: forged, ..fish.clone() };
    assert!(!forged.get("/admin/users").await.body.contains("bob@birds.example"));

    admin
        .get("/admin/audit")
        .await
        .is(200)
        .says("plan.given")
        .says("limit.added")
        .says("upstream.set")
        .says("upstream.removed")
        .says("model.set")
        .says("model.removed");
    admin.post("/admin/audit/verify", &[]).await.is(200).says("lines, whole");
    fish.get("/admin/audit").await.is(200);
    fish.post("/admin/audit/verify", &[]).await.is(404);
    stage.close().await;
}

/// Every class, from a day on, with the border beyond which others count.
async fn prices_are_shown_and_changed(admin: &Browser, fish: &Browser) {
    let whose = [("provider", "hub"), ("model", "tiny"), ("valid_from", "2026-01-31")];
    let rates = [
        ("input_price", "1.25"),
        ("output_price", "10"),
        ("cache_read", "0.1251"),
        ("cache_write_5m", "1.5602"),
        ("cache_write_1h", "2.5003"),
        ("reasoning", "11.0004"),
        ("audio_in", "3.0005"),
        ("audio_out", "12.0006"),
        ("long_above", "200001"),
        ("long_input", "2.5007"),
        ("long_output", "15.0008"),
        ("long_cache_read", "0.2509"),
    ];
    let said = [&whose[..], &rates].concat();
    let with = |name: &str, value: &'static str| -> Vec<(&str, &str)> {
        said.iter().map(|(known, old)| (*known, if *known == name { value } else { *old })).collect()
    };
    fish.post("/admin/models/price", &said).await.is(404);
    for (name, value) in
        [("valid_from", "tomorrow"), ("output_price", ""), ("long_output", ""), ("audio_in", "-1"), ("long_above", "x")]
    {
        let answer = admin.post("/admin/models/price", &with(name, value)).await;
        answer.is(422).says("role=\"alert\"").says("value=\"12.0006\"");
    }
    admin.post("/admin/models/price", &[&said[..], &[("longer", "1")]].concat()).await.is(422);
    admin.post("/admin/models/price", &said).await.leads_to("/admin/models?done=saved");
    let page = admin.get("/admin/models?provider=hub&priced=tiny&from=2026-01-31").await;
    page.is(200).says("hub/tiny").says("2026-01-31").says("<td class=\"n\">10.00</td>");
    for (name, value) in &rates {
        page.says(&format!("name=\"{name}\"")).says(&format!("value=\"{value}"));
    }
    for shown in ["0.1251", "1.5602", "2.5003", "11.0004", "3.0005", "12.0006", "2.5007", "15.0008", "0.2509"] {
        page.says(&format!("<td class=\"n\">{shown}</td>"));
    }
    // A model's own price has all of it, too.
    let own = [&[("name", "small"), ("at", "hub/tiny"), ("context", "8000")], &rates[..]].concat();
    admin.post("/admin/models/model", &own).await.leads_to("/admin/models?done=saved");
    admin.get("/admin/models?model=small").await.says("value=\"2.5003\"").says("value=\"200001\"");
    admin.post("/admin/models/model", &own[..3]).await.leads_to("/admin/models?done=saved");
    assert!(!admin.get("/admin/models?model=small").await.body.contains("value=\"2.5003\""), "empty is none");
    fish.post("/admin/models/price/remove", &whose).await.is(404);
    admin.post("/admin/models/price/remove", &whose).await.leads_to("/admin/models?done=removed");
    admin.post("/admin/models/price/remove", &whose).await.is(404);
    admin.get("/admin/audit").await.says("price.set").says("price.removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_choose_who_begins_a_conversation() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let manager = stage.enter(DEFAULT_ORG, "Mona", Role::Manager, Realm::Desk).await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;
    let gill = stage.enter(stage.other.as_str(), "Gill", Role::User, Realm::House).await;
    let chosen = |engine: &str| format!(" selected>{engine}</option>");
    let house = |engine: &'static str| [("registration", "invited"), ("default_engine", engine)];

    admin.post("/admin/settings", &house("nobody")).await.is(422).says("role=\"alert\"");
    admin.post("/admin/settings", &house("storyteller")).await.leads_to("/admin/settings?done=saved");
    for browser in [&bob, &gill] {
        browser.get("/dialogs/new").await.is(200).says(&chosen("storyteller"));
    }
    // An organisation's own goes before, a person's before that.
    fish.get("/admin/settings").await.is(200).says("Fishes");
    fish.post("/admin/settings", &house("parrot")).await.is(404);
    manager.post("/admin/settings/org", &[("default_engine", "parrot")]).await.is(403);
    fish.post("/admin/settings/org", &[("default_engine", "nobody")]).await.is(422).says("role=\"alert\"");
    fish.post("/admin/settings/org", &[("default_engine", "parrot")]).await.leads_to("/admin/settings?done=saved");
    gill.get("/dialogs/new").await.says(&chosen("parrot"));
    bob.get("/dialogs/new").await.says(&chosen("storyteller"));
    gill.post("/account/taste", &[("lang", ""), ("engine", "storyteller")]).await.leads_to("/account?done=saved");
    gill.get("/account").await.says(&chosen("storyteller"));
    gill.get("/dialogs/new").await.says(&chosen("storyteller"));
    gill.post("/account/taste", &[("lang", ""), ("engine", "")]).await.leads_to("/account?done=saved");
    gill.get("/dialogs/new").await.says(&chosen("parrot"));
    fish.get("/admin/audit").await.says(&format!("default_engine.{}", stage.other));

    // The same for scripts, all or nothing.
    let name = format!("default_engine.{}", stage.other);
    let head = format!("Cookie: {}\r\n", admin.cookie);
    let said = ask(stage.address, "GET", "/admin/api/settings", &head, "").await.json();
    assert_eq!((&said["default_engine"], &said[&name]), (&json!("storyteller"), &json!("parrot")));
    for bad in [
        json!({"default_engine": "nobody"}),
        json!({"default_engine.nobody": "parrot"}),
        json!({"default_engine": "parrot", (&name): "nobody"}),
    ] {
        admin.json("/admin/api/settings", &bad).await.is(422);
    }
    manager.json("/admin/api/settings", &json!({"default_engine": "parrot"})).await.is(403);
    fish.json("/admin/api/settings", &json!({"default_engine": "parrot"})).await.is(404);
    bob.get("/dialogs/new").await.says(&chosen("storyteller"));

    // A model that is gone is passed over, and counts again when it is back.
    let salon = &stage.house.salon;
    let catalog = &stage.house.relay.catalog;
    let small = ModelSpec { upstream: Some("echo".to_owned()), ..ModelSpec::default() };
    catalog.set_model(&salon.pen(Actor::Operator), "small", &small).await.expect("a model");
    admin.json("/admin/api/settings", &json!({(&name): "small"})).await.is(200);
    gill.get("/dialogs/new").await.says(&chosen("small"));
    catalog.remove_model(&salon.pen(Actor::Operator), "small").await.expect("removed");
    gill.get("/dialogs/new").await.says(&chosen("storyteller"));
    fish.get("/admin/settings").await.says(&chosen("small")).says("role=\"status\"");
    catalog.set_model(&salon.pen(Actor::Operator), "small", &small).await.expect("a model");
    gill.get("/dialogs/new").await.says(&chosen("small"));
    admin.json("/admin/api/settings", &json!({(&name): ""})).await.is(200);
    gill.get("/dialogs/new").await.says(&chosen("storyteller"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_hear_of_errors_if_they_want_to() {
    let stage = Stage::with(|config| config.settings.public_url = Some("https://salon.test".to_owned())).await;
    let admin = stage.admin().await;
    let manager = stage.enter(DEFAULT_ORG, "Mona", Role::Manager, Realm::Desk).await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;
    for (browser, telegram) in [(&admin, 7001), (&manager, 7002), (&bob, 7003), (&fish, 7004)] {
        stage.link(browser, telegram).await;
    }
    let salon = &stage.house.salon;
    let fails = async |name: &str| {
        let upstream = UpstreamSpec {
            kind: Some(Kind::Compatible),
            base_url: Some("http://127.0.0.1:9/v1".to_owned()),
            patience: Patience { tries: Some(1), breaker_failures: Some(1), ..Patience::default() },
            ..UpstreamSpec::default()
        };
        let catalog = &stage.house.relay.catalog;
        catalog.set_upstream(&salon.pen(Actor::Operator), name, &upstream).await.expect("set");
        let model = ModelSpec { upstream: Some(name.to_owned()), ..ModelSpec::default() };
        catalog.set_model(&salon.pen(Actor::Operator), &format!("of-{name}"), &model).await.expect("set");
        let engine = format!("of-{name}");
        let said = bob.post("/dialogs", &[("text", "canary words"), ("engine", &engine)]).await;
        assert_eq!(said.status, 303, "{}", said.body);
        let rests = tokio::time::timeout(PATIENCE, async {
            while !salon.engines.list_resting().contains(name) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        rests.await.expect("it is left alone");
    };

    // Nobody is told unless they want to be; what began before is not told afterwards.
    fails("early").await;
    salon.troubles.quarantined("early");
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!stage.chat(7001).await.contains("early"));
    }
    admin.json("/admin/api/settings", &json!({"error_notices": "perhaps"})).await.is(422);
    admin
        .post("/admin/settings", &[("registration", "invited"), ("error_notices", "on")])
        .await
        .leads_to("/admin/settings?done=saved");
    admin.get("/admin/settings").await.says("name=\"error_notices\" value=\"on\" checked");

    fails("late").await;
    stage.chat_says(7001, "late, which serves models").await;
    stage.chat_says(7001, "https://salon.test/admin/models").await;
    salon.troubles.quarantined("claude");
    stage.chat_says(7001, "the agent claude").await;
    // Of one and the same once an hour.
    salon.troubles.quarantined("claude");
    salon.troubles.quarantined("codex");
    stage.chat_says(7001, "the agent codex").await;
    let said = stage.chat(7001).await;
    assert_eq!((said.matches("the agent claude").count(), said.matches("late, which").count()), (1, 1), "{said}");

    // A bot that takes in nothing is told of by another one.
    let heron = [("id", "heron"), ("token", OTHER_TOKEN), ("engine", "parrot"), ("everyone", "on")];
    admin.post("/admin/bots", &heron).await.is(303);
    let fault = json!({"method": "getUpdates", "token": OTHER_TOKEN, "mode": "status:500"}).to_string();
    ask(stage.mock.address(), "POST", "/_mock/fault", "Content-Type: application/json\r\n", &fault).await.is(200);
    stage.chat_says(7001, "The bot heron takes in nothing").await;
    let said = stage.chat(7001).await;
    for word in ["early", "canary words", "Internal", "127.0.0.1:9"] {
        assert!(!said.contains(word), "{word} in {said}");
    }
    for other in [7002, 7003, 7004] {
        let said = stage.chat(other).await;
        assert!(!said.contains("late") && !said.contains("heron"), "{said}");
    }
    stage.close().await;
}
