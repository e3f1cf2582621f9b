//! Keys over HTTP: those that are shown to us, and those that we show to providers.

use reqwest::Method;
use salon::Actor;
use salon::access::issue::{Maker, NewKey, make_key};
use salon::people::{NewUser, add_org, add_user};
use salon_core::people::Role;
use salon_core::{OrgId, Scopes, UserId};
use serde_json::{Value, json};

use crate::stage::{PROVIDER_KEY, Stage, question};

/// Somebody who calls: with a key of theirs.
struct Person {
    id: UserId,
    key: String,
}

async fn person(stage: &Stage, org: &OrgId, name: &str, role: Role) -> Person {
    let salon = &stage.house.salon;
    let new = NewUser { org: org.clone(), name: name.to_owned(), email: None, role, telegram: None };
    let user = add_user(&salon.store, &salon.clock, &salon.pen(Actor::Operator), new).await.unwrap();
    let new = NewKey {
        user: user.id.clone(),
        name: "first".to_owned(),
        role: None,
        scopes: Scopes::default(),
        expires_at: None,
        limits: Vec::new(),
    };
    let issued = make_key(&salon.store, &salon.clock, &salon.keys, Maker::Operator, new).await.unwrap();
    Person { id: user.id, key: issued.secret.expose().to_owned() }
}

struct Told {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }
}

async fn ask(stage: &Stage, key: &str, method: Method, path: &str, body: Option<Value>, once: Option<&str>) -> Told {
    let mut request = stage.http.request(method, format!("{}{path}", stage.base)).bearer_auth(key);
    if let Some(body) = body {
        request = request.json(&body);
    }
    if let Some(once) = once {
        request = request.header("idempotency-key", once);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Told { status, headers, text: response.text().await.unwrap() }
}

async fn default_org(stage: &Stage) -> OrgId {
    stage.house.salon.store.read().await.unwrap().find_user(&stage.user).await.unwrap().unwrap().org
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_made_shown_once_used_and_revoked() {
    let stage = Stage::open().await;
    let bob = person(&stage, &default_org(&stage).await, "bob", Role::User).await;
    let wanted = json!({
        "name": "ci", "role": "admin", "models": ["gp*"], "routes": ["/v1/*", "/api/usage"], "expires": "30d",
        "limits": [{ "measure": "requests", "period": "total", "amount": 1, "policy": "hard" }],
    });
    let made = ask(&stage, &bob.key, Method::POST, "/api/keys", Some(wanted.clone()), Some("make-ci")).await;
    assert_eq!((made.status, made.headers["cache-control"].to_str().unwrap()), (201, "no-store"), "{}", made.text);
    let shown = made.json();
    let key = shown["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("salon_") && shown["role"] == "user", "{shown}");
    // Who asks again makes no second one, and does not see the first one again.
    let again = ask(&stage, &bob.key, Method::POST, "/api/keys", Some(wanted), Some("make-ci")).await;
    assert_eq!((again.status, again.headers["idempotent-replayed"].to_str().unwrap()), (201, "true"));
    assert_eq!((&again.json()["id"], &again.json()["key"]), (&shown["id"], &Value::Null));
    let other = Some(json!({ "name": "other" }));
    assert_eq!(ask(&stage, &bob.key, Method::POST, "/api/keys", other, Some("make-ci")).await.status, 422);
    let list = ask(&stage, &bob.key, Method::GET, "/api/v1/keys", None, None).await;
    assert!(!list.text.contains(&key[6..40]), "{}", list.text);
    let listed = list.json();
    assert_eq!(listed["keys"].as_array().map(Vec::len), Some(2), "{listed}");
    assert_eq!((&listed["keys"][1]["models"], &listed["keys"][1]["limits"][0]["amount"]), (&json!(["gp*"]), &json!(1)));
    // It does what it is for, once, and nothing else.
    let (path, body) = question("chat", "gpt", "[[say:two storks]]", false);
    assert_eq!(ask(&stage, &key, Method::POST, &path, Some(body.clone()), None).await.status, 200);
    assert_eq!(ask(&stage, &key, Method::POST, &path, Some(body), None).await.status, 402);
    let (path, body) = question("chat", "claude", "hi", false);
    assert_eq!(ask(&stage, &key, Method::POST, &path, Some(body), None).await.status, 403);
    assert_eq!(ask(&stage, &key, Method::GET, "/api/keys", None, None).await.status, 403);
    let one = format!("/api/keys/{}", shown["id"].as_str().unwrap());
    assert_eq!(ask(&stage, &bob.key, Method::DELETE, &one, None, None).await.status, 204);
    assert_eq!(ask(&stage, &key, Method::GET, "/api/usage", None, None).await.status, 401);
    for bad in [
        json!({}),
        json!({ "name": "x", "models": [] }),
        json!({ "name": "x", "models": ["gpt-4o,claude-*"] }),
        json!(["x", null, null, null, null, null, null, null]),
        json!({ "name": "x", "maker_id": "alice" }),
        json!({ "name": "x", "expires": "soon" }),
        json!({ "name": "x", "limits": [{ "measure": "micros", "period": "day", "amount": 1.5 }] }),
        json!({ "name": "x", "limits": [{ "measure": "micros", "period": "day", "amount": "-1" }] }),
    ] {
        let told = ask(&stage, &bob.key, Method::POST, "/api/keys", Some(bad.clone()), None).await;
        assert_eq!(told.status, 422, "{bad}: {}", told.text);
    }
    let list = ask(&stage, &bob.key, Method::GET, "/api/keys", None, None).await;
    assert_eq!(list.json()["keys"].as_array().map(Vec::len), Some(1), "what is refused leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_peoples_keys_are_the_admins_of_their_organisation() {
    let stage = Stage::open().await;
    let salon = &stage.house.salon;
    let birds = default_org(&stage).await;
    let fish = add_org(&salon.store, &salon.clock, &salon.pen(Actor::Operator), "fish", "UTC").await.unwrap().id;
    let bob = person(&stage, &birds, "bob", Role::User).await;
    let finn = person(&stage, &fish, "finn", Role::Admin).await;
    let of = |person: &Person| json!({ "name": "for you", "user_id": person.id.as_str() });
    // Alice is the admin of the birds.
    let made = ask(&stage, &stage.key, Method::POST, "/api/keys", Some(of(&bob)), None).await;
    assert_eq!((made.status, &made.json()["user_id"]), (201, &json!(bob.id.as_str())), "{}", made.text);
    let path = format!("/api/keys?user_id={}", bob.id);
    let list = ask(&stage, &stage.key, Method::GET, &path, None, None).await.json();
    assert_eq!(list["keys"].as_array().map(Vec::len), Some(2), "{list}");
    let bobs = format!("/api/keys/{}", list["keys"][0]["id"].as_str().unwrap());
    // Somebody of another organisation looks like nobody, byte for byte.
    for (method, foreign, missing) in [
        (Method::GET, path.clone(), "/api/keys?user_id=nobody".to_owned()),
        (Method::DELETE, bobs.clone(), "/api/keys/nothing".to_owned()),
    ] {
        let foreign = ask(&stage, &finn.key, method.clone(), &foreign, None, None).await;
        let missing = ask(&stage, &finn.key, method, &missing, None, None).await;
        assert_eq!((foreign.status, &foreign.text), (404, &missing.text));
    }
    assert_eq!(ask(&stage, &finn.key, Method::POST, "/api/keys", Some(of(&bob)), None).await.status, 404);
    // Who is no admin is told the same whether there is somebody or not.
    for path in [format!("/api/keys?user_id={}", finn.id), "/api/keys?user_id=nobody".to_owned()] {
        assert_eq!(ask(&stage, &bob.key, Method::GET, &path, None, None).await.status, 403);
    }
    assert_eq!(ask(&stage, &stage.key, Method::DELETE, &bobs, None, None).await.status, 204);
    assert_eq!(ask(&stage, &bob.key, Method::GET, "/api/usage", None, None).await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_providers_key_is_entered_tried_used_and_never_seen() {
    let stage = Stage::open().await;
    let bob = person(&stage, &default_org(&stage).await, "bob", Role::User).await;
    let own = "/api/provider-keys/openai";
    assert_eq!(ask(&stage, &bob.key, Method::GET, own, None, None).await.json()["set"], false);
    let put = ask(&stage, &bob.key, Method::PUT, own, Some(json!({ "key": PROVIDER_KEY })), None).await;
    assert_eq!(put.status, 200, "{}", put.text);
    let shown = put.json();
    // Without an address it is for where the house's upstream of this provider is.
    assert_eq!(
        (&shown["set"], &shown["hint"], &shown["owner"]),
        (&json!(true), &json!("6789"), &json!("own")),
        "{shown}"
    );
    assert!(stage.upstream.base_url().starts_with(shown["origin"].as_str().unwrap()), "{shown}");
    let tried = ask(&stage, &bob.key, Method::POST, &format!("{own}/test"), None, None).await.json();
    assert!(tried["result"] == "ok" && tried["models"].as_i64() > Some(0), "{tried}");
    let (path, body) = question("chat", "gpt", "[[say:two storks]]", false);
    let answer = ask(&stage, &bob.key, Method::POST, &path, Some(body.clone()), None).await;
    assert_eq!(answer.headers["x-salon-key"], "own");
    // The organisation's are the admins' to enter, and everybody's to use.
    let shared = "/api/admin/provider-keys/openai";
    let entered = || Some(json!({ "key": PROVIDER_KEY, "base_url": stage.upstream.base_url() }));
    assert_eq!(ask(&stage, &bob.key, Method::PUT, shared, entered(), None).await.status, 403);
    assert_eq!(ask(&stage, &stage.key, Method::PUT, shared, entered(), None).await.status, 200);
    assert_eq!(ask(&stage, &bob.key, Method::DELETE, own, None, None).await.status, 204);
    assert_eq!(ask(&stage, &bob.key, Method::DELETE, own, None, None).await.status, 404);
    let answer = ask(&stage, &bob.key, Method::POST, &path, Some(body), None).await;
    assert_eq!(answer.headers["x-salon-key"], "shared");
    let list = ask(&stage, &bob.key, Method::GET, "/api/provider-keys", None, None).await;
    assert_eq!(list.json()["provider_keys"][0]["owner"], "shared");
    for path in ["/api/admin/provider-keys", shared, "/api/keys"] {
        let told = ask(&stage, &stage.key, Method::GET, path, None, None).await;
        assert!(!list.text.contains("canary") && !told.text.contains("canary"), "{path}: {}", told.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_providers_key_goes_to_no_address_that_leads_inside() {
    let stage = Stage::open().await;
    let put = async |provider: &str, base: &str| {
        let entered = Some(json!({ "key": PROVIDER_KEY, "base_url": base }));
        ask(&stage, &stage.key, Method::PUT, &format!("/api/provider-keys/{provider}"), entered, None).await
    };
    let upstream = stage.upstream.base_url();
    // The operator's address counts for the provider it was written down for, and for no other.
    assert_eq!(put("openai", &upstream).await.status, 200);
    for base in [
        upstream.as_str(),
        "https://127.0.0.1/v1",
        "http://api.example.com/v1",
        "https://[::ffff:169.254.169.254]/",
        "https://2130706433/",
        "https://localhost/v1",
        "https://a@api.example.com/",
        "https://api.example.com:22/",
        "file:///etc/passwd",
        "no address",
    ] {
        let told = put("mine", base).await;
        assert_eq!(told.status, 422, "{base}: {}", told.text);
        assert!(!told.text.contains("canary"), "{}", told.text);
    }
    let told = ask(&stage, &stage.key, Method::PUT, "/api/provider-keys/mine", Some(json!({ "key": "k" })), None).await;
    assert_eq!(told.status, 422, "nobody knows where that is");
    assert_eq!(put("mine", "https://llm.example.com/v1").await.status, 200);
    let calls = stage.upstream.calls().len();
    // A name that resolves to nothing public, or to nothing at all, is not reached.
    let path = "/api/provider-keys/mine/test?base_url=https://llm.example.com/v1";
    let tried = ask(&stage, &stage.key, Method::POST, path, None, None).await.json();
    assert_eq!(tried["result"], "unreachable", "{tried}");
    assert_eq!(stage.upstream.calls().len(), calls);
}
