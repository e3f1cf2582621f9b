//! Embeddings: by whichever server, together and alone.

use serde_json::{Value, json};

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
}
