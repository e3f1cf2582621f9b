//! How upstreams have been doing, for those who manage.

use salon::access::issue::{Maker, NewKey, make_key};
use salon_core::Scopes;
use salon_core::people::Role;
use salon_mock::upstream::Trouble;
use serde_json::Value;

use crate::stage::{Stage, question};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fails_again_and_again_is_seen_resting_and_who_is_well_is_seen_well() {
    let stage = Stage::open().await;
    let (path, body) = question("chat", "gemini", "hi", false);
    assert_eq!(stage.post(&path, &body).await.status(), 200);
    stage.upstream.add_trouble(Trouble::new("status:503").on_model("mock-gpt")).unwrap();
    let (path, body) = question("chat", "gpt", "hi", false);
    // Five failures in a row open the breaker, whichever calls they belong to.
    while stage.upstream.calls().iter().filter(|call| call.model == "mock-gpt").count() < 5 {
        assert_eq!(stage.post(&path, &body).await.status(), 503);
    }
    let ask = async |key: &str| {
        let request = stage.http.get(format!("{}/api/admin/upstreams", stage.base)).bearer_auth(key);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, seen) = ask(&stage.key).await;
    assert_eq!(status, 200, "{seen}");
    let find = |name: &str| {
        let all = seen["upstreams"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {seen}"))["asked"].clone()
    };
    let ill = &find("openai")[0];
    assert_eq!((ill["model"].as_str(), ill["key"].as_str()), (Some("mock-gpt"), Some("house")), "{seen}");
    assert_eq!((ill["condition"].as_str(), ill["last_fault"].as_str()), (Some("resting"), Some("upstream_busy")));
    assert_eq!(
        (ill["failures"].as_u64(), ill["faults"].as_u64(), ill["in_flight"].as_u64()),
        (Some(5), Some(5), Some(0))
    );
    assert!((1..=30).contains(&ill["rests_s"].as_u64().unwrap()), "{seen}");
    let well = &find("gemini")[0];
    assert_eq!((well["condition"].as_str(), well["tries"].as_u64()), (Some("well"), Some(1)), "{seen}");
    assert_eq!(find("anthropic"), Value::Array(Vec::new()), "nobody asked it");

    let salon = &stage.house.salon;
    let new = NewKey {
        user: stage.user.clone(),
        name: "a user's".to_owned(),
        role: Some(Role::User),
        scopes: Scopes::default(),
        expires_at: None,
        limits: Vec::new(),
    };
    let key = make_key(&salon.store, &salon.clock, &salon.keys, Maker::Operator, new).await.unwrap();
    assert_eq!(ask(key.secret.expose()).await.0, 403, "it is for those who manage");
}
