//! Who comes in at the desk, and what is not there for whom.

use salon::access::issue::{Maker, NewKey, make_key};
use salon::audit::Actor;
use salon::people::DEFAULT_ORG;
use salon::vault::{Origin, Secret};
use salon_core::people::Role;
use salon_core::{OrgId, Owner, Scopes};
use salon_store::Realm;
use serde_json::json;

use crate::stage::{Browser, OTHER_TOKEN, PASSWORD, Stage, ask, coded};

/// Every page of the desk that is only looked at.
const PAGES: &[&str] = &[
    "/admin",
    "/admin/users",
    "/admin/logs",
    "/admin/logs/dialogs",
    "/admin/stats",
    "/admin/limits",
    "/admin/plans",
    "/admin/held",
    "/admin/keys",
    "/admin/models",
    "/admin/bots",
    "/admin/commands",
    "/admin/settings",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_for_those_who_came_in_at_the_desk() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let manager = stage.enter(DEFAULT_ORG, "Mona", Role::Manager, Realm::Desk).await;
    let visitor = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    for page in PAGES {
        admin.get(page).await.is(200).says("/admin/logout");
        manager.get(page).await.is(200);
        let stranger = ask(stage.address, "GET", page, "Accept: text/html\r\n", "").await;
        assert!(stranger.location().starts_with("/admin/login"), "{page}: {stranger:?}");
        // The other pages' cookie opens nothing here, whatever it is called.
        assert!(visitor.get(page).await.location().starts_with("/admin/login"));
        let renamed = Browser { cookie: visitor.cookie.replace("sid=", "desk="), ..visitor.clone() };
        assert!(renamed.get(page).await.location().starts_with("/admin/login"));
    }
    // Managers look and change nothing.
    manager.post("/admin/users", &[("name", "Eve"), ("email", "eve@birds.example"), ("role", "admin")]).await.is(403);
    manager.post(&format!("/admin/users/{}/toggle", visitor.user), &[]).await.is(403);
    manager.post("/admin/bots/parrot/stop", &[]).await.is(403);
    manager.json("/admin/api/bot/stop", &json!({})).await.is(403);
    assert!(!manager.get("/admin/users").await.body.contains("name=\"password\""));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_desk_is_entered_by_a_password_and_left_by_a_button() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let head =
        "Accept: text/html\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let form =
        |password: &str| format!("email=alice%40birds.example&password={}&next=%2Fadmin%2Fusers", coded(password));
    ask(stage.address, "POST", "/admin/login", head, &form("something else")).await.is(401).says("alice@birds.example");
    let entered = ask(stage.address, "POST", "/admin/login", head, &form(PASSWORD)).await;
    entered.leads_to("/admin/users");
    let cookie = entered.headers.get("set-cookie").expect("a cookie");
    assert!(
        cookie.starts_with("desk=") && cookie.contains("SameSite=Strict") && cookie.contains("HttpOnly"),
        "{cookie}"
    );
    stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let bob = form(PASSWORD).replace("alice", "bob");
    ask(stage.address, "POST", "/admin/login", head, &bob).await.is(403);
    for evil in ["https://evil.example", "//evil.example", "/admin/../evil", "/\\evil.example"] {
        let form = form(PASSWORD).replace("%2Fadmin%2Fusers", &coded(evil));
        ask(stage.address, "POST", "/admin/login", head, &form).await.leads_to("/admin");
    }
    admin.post("/admin/logout", &[]).await.leads_to("/admin/login");
    assert!(admin.get("/admin").await.location().starts_with("/admin/login"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_are_taken_from_our_own_pages_alone() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let path = format!("/admin/users/{}/toggle", bob.user);
    for site in ["cross-site", "same-site", "none"] {
        let said = admin.send(&path, &format!("Sec-Fetch-Site: {site}\r\n"), Some(&admin.seal), &[]).await;
        said.is(403);
        let head = format!("Cookie: {}\r\nSec-Fetch-Site: {site}\r\n", admin.cookie);
        ask(stage.address, "POST", "/admin/api/bot/stop", &head, "").await.is(403);
    }
    admin.send(&path, "Origin: null\r\n", Some(&admin.seal), &[]).await.is(403);
    admin.send(&path, "", Some(&admin.seal), &[]).await.is(403);
    let site = "Sec-Fetch-Site: same-origin\r\n";
    admin.send(&path, site, None, &[]).await.is(403);
    admin.send(&path, site, Some(&bob.seal), &[]).await.is(403);
    // And looking changes nothing.
    assert!(admin.get(&path).await.status >= 400);
    let account =
        stage.house.salon.store.read().await.expect("a reader").find_account(&bob.user).await.expect("a look");
    assert!(account.expect("an account").user.active);
    // What a form does not have is refused, and nothing of it is done.
    let change = format!("/admin/users/{}", bob.user);
    let fields = [("name", "Bob"), ("email", ""), ("role", "user"), ("org_id", "default"), ("active", "0")];
    admin.post(&change, &fields).await.is(422);
    admin.post(&path, &[("role", "admin")]).await.is(422);
    admin.json("/admin/api/bot/stop", &json!({"bot": "parrot", "token": "x"})).await.is(422);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dangerous_wants_the_password_again() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    // As if they had come in long ago.
    let logins =
        stage.house.salon.store.read().await.expect("a reader").list_logins(&admin.user).await.expect("logins");
    let args = (logins[0].id.clone(), salon_core::Time(1));
    let proved = stage.house.salon.store.write(args, |tx, (id, at)| {
        Box::pin(async move {
            tx.prove_login(id, *at).await?;
            let now = salon::Clock::default().now();
            tx.see_login(id, now).await
        })
    });
    proved.await.expect("a change");
    let page = format!("/admin/users/{}", bob.user);
    let prove = format!("/admin/prove?next={page}");
    // What was sent is kept in the form that asks, without what is secret.
    let removes = admin.post(&format!("{page}/remove"), &[]).await;
    removes.is(403).says("type=\"password\"").says(&format!("name=\"again\" value=\"{page}/remove\""));
    let heron =
        [("id", "heron"), ("token", OTHER_TOKEN), ("engine", "parrot"), ("everyone", "on"), ("owner", "7\"><b>")];
    let asked = admin.post("/admin/bots", &heron).await;
    asked.is(403).says("name=\"again\" value=\"/admin/bots\"");
    assert!(!asked.body.contains("canary") && !asked.body.contains("<b>"), "{}", asked.body);
    let kept = asked.body.split("name=\"kept\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let kept = kept
        .expect("what was sent")
        .replace("&#34;", "\"")
        .replace("&#62;", ">")
        .replace("&#60;", "<")
        .replace("&#38;", "&");
    let again = |password: &'static str| {
        [("password", password), ("next", "/admin/bots"), ("again", "/admin/bots"), ("kept", kept.as_str())]
    };
    admin.post("/admin/prove", &again("wrong")).await.is(422).says("e-password").says("value=\"/admin/bots\"");
    let promote = [("name", "Bob"), ("email", ""), ("role", "admin")];
    admin.post(&page, &promote).await.is(403);
    admin.get(&page).await.is(200);
    admin.get(&prove).await.is(200).says(&page);
    assert!(!stage.bots().contains("heron"));
    // Nobody else's page can send it, nor does the proof do anything by itself.
    admin.send("/admin/prove", "cross-site", Some(&admin.seal), &again(PASSWORD)).await.is(403);
    admin.send("/admin/prove", "same-origin", Some("another"), &again(PASSWORD)).await.is(403);
    let back = admin.post("/admin/prove", &again(PASSWORD)).await;
    back.is(200).says("action=\"/admin/bots\"").says("name=\"id\" value=\"heron\"");
    back.says("name=\"everyone\" value=\"on\" checked").says("name=\"token\" type=\"password\"").says(&admin.seal);
    assert!(!back.body.contains("canary") && !back.body.contains("<b>"), "{}", back.body);
    assert!(!stage.bots().contains("heron"));
    admin.post("/admin/bots", &heron[..4]).await.is(303);
    assert!(stage.bots().contains("heron"));
    // Elsewhere nothing is sent to.
    let elsewhere = [("password", PASSWORD), ("next", &page), ("again", "//evil.example/x"), ("kept", "a=b")];
    admin.post("/admin/prove", &elsewhere).await.leads_to(&page);
    admin.post(&page, &promote).await.leads_to(&format!("{page}?done=saved"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_organisations_are_not_there() {
    let stage = Stage::open().await;
    let admin = stage.admin().await;
    let bob = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;
    fish.get("/admin").await.is(200).says("Fishes");
    assert!(!fish.get("/admin/users").await.body.contains("bob@birds.example"));
    let absent = fish.get("/admin/users/00000000000000000000000000").await;
    let foreign = fish.get(&format!("/admin/users/{}", bob.user)).await;
    assert_eq!((foreign.status, &foreign.body), (404, &absent.body));
    for path in ["toggle", "remove", "password"] {
        fish.post(&format!("/admin/users/{}/{path}", bob.user), &[]).await.is(404);
        admin.post(&format!("/admin/users/{}/{path}", fish.user), &[]).await.is(404);
    }
    fish.post(&format!("/admin/users/{}/reach", bob.user), &[("until", ""), ("models", "x")]).await.is(404);
    let fields = [("name", "Bob"), ("email", ""), ("role", "admin")];
    fish.post(&format!("/admin/users/{}", bob.user), &fields).await.is(404);
    // A login of bob's is not found through somebody else.
    let logins = stage.house.salon.store.read().await.expect("a reader").list_logins(&bob.user).await.expect("logins");
    fish.post(&format!("/admin/users/{}/logins/{}/end", fish.user, logins[0].id), &[]).await.is(404);
    bob.get("/start").await.is(200);
    // What belongs to the whole house is not theirs.
    for page in ["/admin/bots", "/admin/bots/parrot"] {
        fish.get(page).await.is(404);
    }
    assert!(!fish.get("/admin/settings").await.is(200).body.contains("name=\"registration\""));
    for path in ["stop", "poll", "resume", "remove"] {
        fish.post(&format!("/admin/bots/parrot/{path}"), &[]).await.is(404);
    }
    fish.json("/admin/api/bot/stop", &json!({})).await.is(404);
    fish.post("/admin/settings", &[("registration", "open")]).await.is(404);
    assert!(stage.bots().contains("parrot") && !stage.bots().contains("off"));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_has_an_id_is_there_for_its_own_organisation_alone() {
    let stage = Stage::open().await;
    let salon = &stage.house.salon;
    let admin = stage.admin().await;
    let manager = stage.enter(DEFAULT_ORG, "Mona", Role::Manager, Realm::Desk).await;
    let user = stage.enter(DEFAULT_ORG, "Bob", Role::User, Realm::House).await;
    let fish = stage.enter(stage.other.as_str(), "Finn", Role::Admin, Realm::Desk).await;
    let pen = salon.pen(Actor::Operator);

    // Something of each kind that belongs to the birds.
    let new = NewKey {
        user: user.user.clone(),
        name: "laptop".to_owned(),
        role: None,
        scopes: Scopes::default(),
        expires_at: None,
        limits: Vec::new(),
    };
    let key = make_key(&salon.store, &salon.clock, &salon.keys, Maker::Operator, new).await.expect("a key").key.id;
    let owner = Owner::Org(OrgId::new(DEFAULT_ORG));
    let origin = Origin::parse("https://api.openai.com/v1").expect("an origin");
    let secret = Secret::new("sk-canary-of-the-birds-0123456789".to_owned());
    let shared = salon.vault.put_key(&owner, "openai", &origin, secret, &pen).await.expect("a shared key");
    let limit = [("scope", "org"), ("measure", "requests"), ("period", "day"), ("amount", "5"), ("policy", "warn")];
    admin.post("/admin/limits", &limit).await.leads_to("/admin/limits?done=limit_added");
    admin.post("/admin/plans", &[("name", "free"), ("limits", "")]).await.leads_to("/admin/plans?done=saved");
    let said = user.post("/dialogs", &[("text", "hello"), ("engine", "parrot")]).await;
    let dialog = said.location().trim_start_matches("/dialogs/").split(['#', '?']).next().expect("an id").to_owned();
    let birds = OrgId::new(DEFAULT_ORG);
    let mut tx = salon.store.read().await.expect("a reader");
    let limit = tx.list_limits(&birds).await.expect("limits").remove(0).id.to_string();
    let plan = tx.list_plans(&birds).await.expect("plans").remove(0).id;
    let login = tx.list_logins(&user.user).await.expect("logins").remove(0).id;
    drop(tx);

    let (bob, absent) = (user.user.as_str(), "00000000000000000000000000");
    let no: &[(&str, &str)] = &[];
    let forms: &[(String, &[(&str, &str)])] = &[
        (format!("/admin/users/{bob}"), &[("name", "Bob"), ("email", ""), ("role", "user")]),
        (format!("/admin/users/{bob}/toggle"), no),
        (format!("/admin/users/{bob}/reach"), &[("until", ""), ("models", "")]),
        (format!("/admin/users/{bob}/password"), no),
        (format!("/admin/users/{bob}/plan"), &[("plan", "")]),
        (format!("/admin/users/{bob}/remove"), no),
        (format!("/admin/users/{bob}/logins/{login}/end"), no),
        (format!("/admin/users/{bob}/keys/{key}/revoke"), no),
        (format!("/admin/dialogs/{dialog}/close"), no),
        (format!("/admin/limits/{limit}"), &[("amount", "9"), ("policy", "warn")]),
        (format!("/admin/limits/{limit}/remove"), no),
        (format!("/admin/plans/{plan}"), &[("name", "mine"), ("limits", "")]),
        (format!("/admin/plans/{plan}/remove"), no),
        (format!("/admin/keys/{shared}/remove"), no),
        (format!("/admin/orgs/{DEFAULT_ORG}"), &[("name", "Mine"), ("zone", "UTC")]),
        (format!("/admin/orgs/{DEFAULT_ORG}/tend"), no),
        ("/admin/bots/parrot".to_owned(), &[("engine", "parrot")]),
        ("/admin/bots/parrot/stop".to_owned(), no),
        ("/admin/bots/parrot/pause".to_owned(), no),
        ("/admin/bots/parrot/remove".to_owned(), no),
    ];
    for (path, fields) in forms {
        let named = path.split('/').nth(3).expect("an id");
        let nowhere = fish.post(&path.replace(named, absent), fields).await;
        let foreign = fish.post(path, fields).await;
        assert_eq!((foreign.status, &foreign.body), (404, &nowhere.body), "{path}");
        assert!([403, 404].contains(&manager.post(path, fields).await.status), "{path}");
        assert!(user.post(path, fields).await.location().starts_with("/admin/login"), "{path}");
        let head = "Accept: text/html\r\nSec-Fetch-Site: same-origin\r\n";
        let stranger = ask(stage.address, "POST", path, head, "").await;
        assert!(stranger.location().starts_with("/admin/login"), "{path}: {stranger:?}");
    }
    // A child is found through its own parent alone.
    for child in [format!("logins/{login}/end"), format!("keys/{key}/revoke")] {
        admin.post(&format!("/admin/users/{}/{child}", admin.user), no).await.is(404);
        fish.post(&format!("/admin/users/{}/{child}", fish.user), no).await.is(404);
    }
    for path in [format!("/admin/users/{bob}"), format!("/admin/dialogs/{dialog}"), "/admin/bots/parrot".to_owned()] {
        let named = path.split('/').nth(3).expect("an id");
        let (nowhere, foreign) = (fish.get(&path.replace(named, absent)).await, fish.get(&path).await);
        assert_eq!((foreign.status, foreign.body), (404, nowhere.body), "{path}");
        admin.get(&path).await.is(200);
        manager.get(&path).await.is(200);
    }
    // Nothing of it happened.
    let mut tx = salon.store.read().await.expect("a reader");
    assert!(tx.find_account(&user.user).await.expect("a look").expect("bob").user.active);
    assert_eq!(tx.list_limits(&birds).await.expect("limits")[0].amount, 5);
    assert_eq!(tx.list_plans(&birds).await.expect("plans")[0].name, "free");
    assert!(tx.find_api_key(&key).await.expect("a look").expect("a key").revoked_at.is_none());
    drop(tx);
    assert_eq!(salon.vault.list_keys(Some(&owner)).await.expect("keys").len(), 1);
    for page in PAGES {
        let body = admin.get(page).await.body;
        assert!(!body.contains("canary"), "{page}");
    }
    assert!(stage.bots().contains("parrot") && !stage.bots().contains("mode"));
    stage.close().await;
}
