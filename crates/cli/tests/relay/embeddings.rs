//! Embeddings: by whichever server, together and alone.

use std::time::Duration;

use futures_util::future::join_all;
use salon::Actor;
use salon::people::DEFAULT_ORG;
use salon::vault::Origin;
use salon_core::{CallId, OrgId, Owner};
use salon_engine::Secret;
use salon_mock::upstream::Trouble;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::stage::Stage;

const PATH: &str = "/v1/embeddings";

/// The vectors of an answer, in their order.
fn vectors(answer: &Value) -> Vec<Value> {
    let data = answer["data"].as_array().unwrap_or_else(|| panic!("no list: {answer}"));
    for (number, vector) in data.iter().enumerate() {
        assert_eq!((&vector["object"], &vector["index"]), (&json!("embedding"), &json!(number)), "{answer}");
    }
    data.iter().map(|vector| vector["embedding"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_midm_server_answers_openai_s_clients_with_the_same_vectors() {
    let stage = Stage::open().await;
    let ask = async |body: Value| {
        let response = stage.post(PATH, &body).await;
        let (status, head) = (response.status().as_u16(), response.headers().clone());
        (status, head, response.json::<Value>().await.unwrap())
    };
    for encoding in ["float", "base64"] {
        for input in [json!("one stork"), json!(["one stork", "두 마리 황새"])] {
            let body = |model: &str| json!({ "model": model, "input": input, "encoding_format": encoding });
            let (_, _, plain) = ask(body("vectors")).await;
            let (status, head, told) = ask(body("sroberta")).await;
            assert_eq!((status, &vectors(&told)), (200, &vectors(&plain)), "{told}");
            assert_eq!((&told["object"], &told["model"]), (&json!("list"), &json!("sroberta")));
            assert_eq!(told["usage"], plain["usage"], "{told}");
            assert!(head.contains_key("x-salon-cost"), "{head:?}");
        }
    }
    let used = stage.used().await;
    let read: i64 = stage.upstream.calls().iter().map(|call| call.usage.input).sum();
    assert_eq!((used.calls, used.tokens.input, used.micros), (8, read, read), "{used:?}");
    let asked = stage.upstream.calls().into_iter().find(|call| call.path == "/embeddings").unwrap();
    assert_eq!(asked.body, r#"{"texts":["one stork"],"model":"ko-sroberta"}"#);

    let (status, _, words) = ask(json!({ "model": "sroberta", "input": "one", "dimensions": 4 })).await;
    assert_eq!((status, words["error"]["param"].as_str()), (400, Some("dimensions")), "{words}");
    let (_, head, _) = ask(json!({ "model": "sroberta", "input": "one", "input_type": "query" })).await;
    assert_eq!(head["x-salon-left-out"], "input_type");
    // Together as well, once for all of them.
    until_they_meet(
        &stage,
        "sroberta",
        || {},
        async |answers| {
            for heard in &answers {
                let (_, _, plain) = ask(json!({ "model": "vectors", "input": heard.text })).await;
                assert_eq!(vectors(&heard.answer), vectors(&plain), "{heard:?}");
            }
            counted(&stage, "relay_batches") > 0
        },
    )
    .await;
}

fn counted(stage: &Stage, name: &str) -> u64 {
    stage.house.salon.metrics.all().get(&(String::new(), name.to_owned())).copied().unwrap_or(0)
}

fn with_tokens(tokens: i64) -> Value {
    json!({ "prompt_tokens": tokens, "total_tokens": tokens })
}

/// What came of a request.
#[derive(Debug)]
struct Heard {
    text: String,
    status: u16,
    call: CallId,
    answer: Value,
}

/// How many attempts were written down for these calls.
async fn attempts(stage: &Stage, answers: &[Heard]) -> usize {
    stage.used().await;
    let mut tx = stage.house.salon.store.read().await.unwrap();
    let mut all = 0;
    for heard in answers {
        all += tx.list_attempts(&heard.call).await.unwrap().len();
    }
    all
}

/// Asks three at once, again and again until they have met on the way: what is asked at the same moment usually does.
async fn until_they_meet(stage: &Stage, model: &str, before: impl Fn(), mut then: impl AsyncFnMut(Vec<Heard>) -> bool) {
    for round in 0..100 {
        stage.upstream.clear_troubles();
        before();
        let asked = (0..3).map(|one| async move {
            let text = format!("stork {round} {one}");
            let answer = stage.post(PATH, &json!({ "model": model, "input": text })).await;
            let call = CallId::new(answer.headers()["x-request-id"].to_str().unwrap());
            Heard { text, status: answer.status().as_u16(), call, answer: answer.json().await.unwrap() }
        });
        stage.upstream.forget_calls();
        if then(join_all(asked).await).await {
            return;
        }
    }
    panic!("they never met");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_at_the_same_moment_is_asked_once_and_told_apart() {
    const EACH: usize = 20;
    let stage = Stage::with(|config| {
        let mut alone = config.sources.file.models["vectors"].clone();
        alone.batch = Some(0);
        config.sources.file.models.insert("alone".to_owned(), alone);
    })
    .await;
    let bob = stage.key_of_somebody(&OrgId::new(DEFAULT_ORG), "Bob").await;
    let carol = stage.key_of_somebody(&OrgId::new(DEFAULT_ORG), "Carol").await;
    let origin = Origin::parse(&stage.upstream.base_url()).unwrap();
    let salon = &stage.house.salon;
    // Alice brings a key of her own, Bob and Carol ask with the house's.
    let own = Secret::new("sk-alices-own-0123456789");
    salon
        .vault
        .put_key(&Owner::User(stage.user.clone()), "openai", &origin, own, &salon.pen(Actor::Operator))
        .await
        .unwrap();
    let mut asked = Vec::new();
    for number in 0..EACH {
        for (who, key) in [("alice", &stage.key), ("bob", &bob), ("carol", &carol)] {
            let encoding = if number % 2 == 0 { "float" } else { "base64" };
            let input = match number % 3 {
                0 => json!([format!("{who} {number}"), "and \"another\", [with] marks"]),
                _ => json!(format!("{who} {number}")),
            };
            asked.push((key, json!({ "model": "vectors", "input": input, "encoding_format": encoding })));
        }
    }
    let answers = join_all(asked.iter().map(|(key, body)| async {
        let answer = stage.post_as(key, PATH, body, &[]).await;
        assert_eq!(answer.status(), 200);
        answer.json::<Value>().await.unwrap()
    }));
    let answers = answers.await;
    let calls = stage.upstream.calls();
    assert!(calls.len() <= asked.len() / 2, "{} calls for {} requests", calls.len(), asked.len());
    for call in &calls {
        let is_own = call.key.as_deref() == Some("sk-alices-own-0123456789");
        let is_alices = call.body.contains("alice");
        assert!(
            is_own == is_alices && !(is_own && (call.body.contains("bob") || call.body.contains("carol"))),
            "{call:?}"
        );
    }
    let used = stage.used().await;
    let read: i64 = calls.iter().map(|call| call.usage.input).sum();
    let told: i64 = answers.iter().map(|answer| answer["usage"]["total_tokens"].as_i64().unwrap()).sum();
    assert_eq!(
        (used.calls, used.tokens.input, used.micros, told),
        (asked.len() as i64, read, read, read),
        "to the token"
    );
    assert_eq!((used.suspect, used.estimated), (0, 0), "{used:?}");
    stage.upstream.forget_calls();
    for ((key, body), answer) in asked.iter().zip(&answers) {
        let mut body = body.clone();
        body["model"] = json!("alone");
        let alone: Value = stage.post_as(key, PATH, &body, &[]).await.json().await.unwrap();
        assert_eq!(vectors(&alone), vectors(answer), "{body}");
        assert_eq!((&alone["model"], &alone["object"]), (&answer["model"], &answer["object"]));
    }
    assert_eq!(stage.upstream.calls().len(), asked.len(), "batch = 0 asks for each by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_alone_is_asked_for_as_they_asked() {
    let stage = Stage::open().await;
    let said = r#" {"input" : "one  stork", "model":"vectors","user": "x" } "#;
    let request = stage.http.post(format!("{}{PATH}", stage.base)).bearer_auth(&stage.key);
    let answer = request.header("content-type", "application/json").body(said).send().await.unwrap();
    assert_eq!(answer.headers()["x-salon-cost"], "0.000003");
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["usage"], with_tokens(3));
    let calls = stage.upstream.calls();
    assert_eq!((calls.len(), calls[0].body.as_str()), (1, said.replace("\"vectors\"", "\"mock-embedding\"").as_str()));
    // What is large goes by itself, at once.
    let long = "stork ".repeat(4_000);
    let answers =
        join_all((0..3).map(|_| async {
            stage.post(PATH, &json!({ "model": "vectors", "input": long })).await.status().as_u16()
        }));
    assert_eq!(answers.await, [200, 200, 200]);
    assert_eq!((stage.upstream.calls().len(), counted(&stage, "relay_batches")), (4, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_refused_for_what_somebody_else_asked() {
    let stage = Stage::open().await;
    // The first call is refused; if it was for several, each is asked for again.
    let refuse = || stage.upstream.add_trouble(Trouble::new("status:400").times(1)).unwrap();
    until_they_meet(&stage, "vectors", refuse, async |answers| {
        let met = counted(&stage, "relay_batches_apart") > 0;
        assert!(!met || answers.iter().all(|heard| heard.status == 200), "{answers:?}");
        assert!(stage.upstream.calls().len() <= attempts(&stage, &answers).await, "a call without an attempt");
        met
    })
    .await;
    stage.upstream.clear_troubles();
    // One that asks for something odd spoils nobody's answer, whether they meet or not.
    let before = counted(&stage, "relay_batches_apart");
    let patience = Instant::now() + Duration::from_secs(20);
    while counted(&stage, "relay_batches_apart") == before {
        assert!(Instant::now() < patience, "they never met");
        let odd = json!({ "model": "vectors", "input": ["one", {}] });
        let plain = json!({ "model": "vectors", "input": ["two storks"] });
        let (odd, plain) = tokio::join!(stage.post(PATH, &odd), stage.post(PATH, &plain));
        assert_eq!((odd.status().as_u16(), plain.status().as_u16()), (200, 200));
        let plain: Value = plain.json().await.unwrap();
        assert_eq!((vectors(&plain).len(), &plain["usage"]), (1, &with_tokens(3)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_together_is_tried_again_together_and_whoever_goes_early_pays() {
    let stage = Stage::open().await;
    let busy = || stage.upstream.add_trouble(Trouble::new("status:503").times(1)).unwrap();
    until_they_meet(&stage, "vectors", busy, async |answers| {
        assert!(answers.iter().all(|heard| heard.status == 200), "{answers:?}");
        let calls = stage.upstream.calls();
        assert!(calls.len() <= attempts(&stage, &answers).await, "a call without an attempt");
        let all = calls[0].body.matches("stork").count() == 3;
        assert!(!all || calls.len() == 2, "once more, and for all of them: {calls:?}");
        all
    })
    .await;
    // With two that fail, each is left to itself, and hears of it in the usual words.
    let down = || stage.upstream.add_trouble(Trouble::new("status:401")).unwrap();
    let batches = counted(&stage, "relay_batches");
    until_they_meet(&stage, "vectors", down, async |answers| {
        assert!(answers.iter().all(|heard| heard.status == 502 && heard.answer["error"].is_object()), "{answers:?}");
        counted(&stage, "relay_batches") > batches
    })
    .await;
    stage.upstream.clear_troubles();
    stage.upstream.add_trouble(Trouble::new("delay:300")).unwrap();
    let (before, mut read) = (stage.used().await, 0);
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < patience, "they never met");
        stage.upstream.forget_calls();
        let one = |text: &'static str| {
            let request = stage.http.post(format!("{}{PATH}", stage.base)).bearer_auth(&stage.key);
            tokio::spawn(request.json(&json!({ "model": "vectors", "input": text })).send())
        };
        let (stays, goes) = (one("a stork that stays"), one("a stork that flies on"));
        while stage.upstream.calls().is_empty() {
            tokio::task::yield_now().await;
        }
        let together =
            stage.upstream.calls()[0].body.contains("stays") && stage.upstream.calls()[0].body.contains("flies");
        if together {
            goes.abort();
            assert_eq!(stays.await.unwrap().unwrap().status(), 200);
            read += stage.upstream.calls()[0].usage.input;
            break;
        }
        for asked in [stays, goes] {
            assert_eq!(asked.await.unwrap().unwrap().status(), 200);
        }
        read += stage.upstream.calls().iter().map(|call| call.usage.input).sum::<i64>();
    }
    // Nobody waits for the bill of the one who left.
    while stage.used().await.tokens.input < before.tokens.input + read {
        assert!(Instant::now() < patience, "whoever left was never charged");
    }
    let used = stage.used().await;
    assert_eq!(used.tokens.input - before.tokens.input, read, "both have been answered: {used:?}");
}
