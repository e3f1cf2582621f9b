use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::wire::fuzz;

fn read(wire: Wire, body: &str) -> Result<Head, BadAsk> {
    Head::read(wire, body.as_bytes(), Outside { model: None, stream: false })
}

#[track_caller]
fn head(wire: Wire, body: &str) -> Head {
    read(wire, body).expect("readable")
}

/// What stands outside of Gemini's and `midm`'s bodies.
fn outside(wire: Wire) -> Outside<'static> {
    match wire {
        Wire::Generate => Outside { model: Some("gemini-2.5-pro"), stream: true },
        Wire::Midm => Outside { model: Some("midm-2.0-mini"), stream: true },
        _ => Outside::default(),
    }
}

fn request(wire: Wire) -> Bytes {
    let (_, body) = fuzz::REQUESTS.iter().find(|(its, _)| *its == wire).expect("there is one of each");
    Bytes::from_static(body)
}

#[track_caller]
fn rewritten(wire: Wire, body: &str, changes: &Changes<'_>) -> String {
    let body = Bytes::from(body.to_owned());
    let head = Head::read(wire, &body, outside(wire)).expect("readable");
    String::from_utf8(head.rewrite(&body, changes).to_vec()).expect("UTF-8")
}

#[test]
fn requests_of_todays_agents_are_read() {
    let head = |wire| Head::read(wire, &request(wire), outside(wire)).expect("readable");
    let chat = head(Wire::Chat);
    assert_eq!((chat.model.as_str(), chat.stream, chat.usage_asked), ("gpt-5.5", true, false));
    assert_eq!((chat.max_output, chat.n, chat.has_tools, chat.images), (Some(8192), 1, true, 1));
    let completions = head(Wire::Completions);
    assert_eq!((completions.max_output, completions.n), (Some(16), 6), "three of each of two, of which two are shown");
    let responses = head(Wire::Responses);
    assert_eq!((responses.model.as_str(), responses.stream, responses.max_output), ("gpt-6.1-sol", true, None));
    assert!(responses.has_tools && responses.usage_asked && !responses.background);
    assert_eq!(responses.leans_on, None);
    let messages = head(Wire::Messages);
    assert_eq!((messages.model.as_str(), messages.max_output), ("claude-opus-5-5", Some(128_000)));
    assert!(messages.has_tools && messages.stream && messages.usage_asked);
    let generate = head(Wire::Generate);
    assert_eq!((generate.model.as_str(), generate.stream, generate.max_output), ("gemini-2.5-pro", true, Some(4096)));
    assert!(generate.has_tools && generate.has_audio);
    assert!(![chat, responses, messages, generate].iter().any(|head| head.looks_around));
    let embeddings = head(Wire::Embeddings);
    assert_eq!((embeddings.model.as_str(), embeddings.inputs, embeddings.stream), ("text-embedding-3-small", 3, false));
    let midm = head(Wire::Midm);
    assert_eq!((midm.model.as_str(), midm.stream, midm.max_output), ("midm-2.0-mini", true, Some(128)));
}

#[test]
fn null_is_as_good_as_nothing() {
    let body = r#"{"model":"m","stream":null,"stream_options":null,"max_tokens":null,"n":null,"messages":[]}"#;
    let head = head(Wire::Chat, body);
    assert_eq!((head.stream, head.max_output, head.n), (false, None, 1));
    assert_eq!(read(Wire::Chat, r#"{"model":null}"#), Err(BadAsk::Missing("model")));
}

#[test]
fn numbers_are_whole_however_they_are_written() {
    for (written, expected) in [
        ("16", Ok(Some(16))),
        ("16.0", Ok(Some(16))),
        ("1.6e1", Ok(Some(16))),
        ("99999999999999999999", Ok(Some(i64::MAX))),
        ("-1", Ok(None)),
        ("0", Ok(Some(0))),
        ("1.5", Err(BadAsk::Wrong("max_tokens", "a whole number"))),
        ("\"16\"", Err(BadAsk::Wrong("max_tokens", "a whole number"))),
        ("1e400", Err(BadAsk::Wrong("max_tokens", "a whole number"))),
        ("[16]", Err(BadAsk::Wrong("max_tokens", "a whole number"))),
    ] {
        let body = format!(r#"{{"model":"m","max_tokens":{written}}}"#);
        assert_eq!(read(Wire::Messages, &body).map(|head| head.max_output), expected, "{written}");
    }
    let quoted = r#"{"generationConfig":{"maxOutputTokens":"16"}}"#;
    let head = Head::read(Wire::Generate, quoted.as_bytes(), outside(Wire::Generate)).expect("protobuf's JSON");
    assert_eq!(head.max_output, Some(16));
}

#[test]
fn the_greatest_of_two_limits_counts_and_none_is_none() {
    let limits = |fields: &str| head(Wire::Chat, &format!(r#"{{"model":"m",{fields}}}"#)).max_output;
    assert_eq!(limits(r#""max_tokens":5,"max_completion_tokens":7"#), Some(7));
    assert_eq!(limits(r#""max_tokens":9,"max_completion_tokens":7"#), Some(9));
    assert_eq!(limits(r#""max_tokens":9,"max_completion_tokens":-1"#), None);
    assert_eq!(limits(r#""max_output_tokens":9"#), None, "another wire's");
    let two = head(Wire::Chat, r#"{"model":"m","max_tokens":10,"n":3}"#);
    assert_eq!((two.most_output(99), head(Wire::Chat, r#"{"model":"m","n":3}"#).most_output(100)), (30, 300));
}

#[test]
fn what_decides_may_stand_there_once_and_under_its_name() {
    for (wire, body, name) in [
        (Wire::Chat, r#"{"model":"cheap","model":"dear"}"#, "model"),
        (Wire::Chat, r#"{"model":"cheap","mod\u0065l":"dear"}"#, "model"),
        (Wire::Chat, r#"{"model":"cheap","Model":"dear"}"#, "model"),
        (Wire::Chat, r#"{"model":"m","MAX_TOKENS":9}"#, "max_tokens"),
        (Wire::Chat, "{\"model\":\"m\",\"max_to\u{212a}ens\":9}", "max_tokens"),
        (Wire::Chat, "{\"model\":\"m\",\"\u{17f}tream\":true}", "stream"),
        (Wire::Chat, r#"{"model":"m","stream":true,"stream":false}"#, "stream"),
        (Wire::Chat, r#"{"model":"m","stream_options":{"include_usage":true,"include_usage":false}}"#, "include_usage"),
        (Wire::Messages, r#"{"model":"m","max_tokens":1,"max_tokens":1}"#, "max_tokens"),
        (Wire::Generate, r#"{"generationConfig":{},"generation_config":{}}"#, "generation_config"),
        (Wire::Generate, r#"{"generationConfig":{"maxOutputTokens":1,"max_output_tokens":2}}"#, "max_output_tokens"),
    ] {
        let read = Head::read(wire, body.as_bytes(), outside(wire));
        assert_eq!(read, Err(BadAsk::Ambiguous(name)), "{body}");
    }
    let escaped = head(Wire::Chat, r#"{"mod\u0065l":"gpt\u002d5"}"#);
    assert_eq!(escaped.model, "gpt-5");
    let elsewhere = r#"{"model":"m","metadata":{"model":"x","model":"y","stream":1},"messages":[{"n":"?","n":2}]}"#;
    assert_eq!(head(Wire::Chat, elsewhere).model, "m", "what stands deeper decides nothing");
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_name() {
    for (body, error) in [
        ("", BadAsk::NotJson("it breaks off", 0)),
        ("[]", BadAsk::NotObject),
        ("\"model\"", BadAsk::NotObject),
        ("{}", BadAsk::Missing("model")),
        (r#"{"model":7}"#, BadAsk::Wrong("model", "a string")),
        (r#"{"model":"\ud83e"}"#, BadAsk::Wrong("model", "a string")),
        (r#"{"model":""}"#, BadAsk::Wrong("model", "the name of a model")),
        (r#"{"model":"a\nb"}"#, BadAsk::Wrong("model", "the name of a model")),
        (r#"{"model":"m","stream":"true"}"#, BadAsk::Wrong("stream", "true or false")),
        (r#"{"model":"m","stream":1}"#, BadAsk::Wrong("stream", "true or false")),
        (r#"{"model":"m","stream_options":[]}"#, BadAsk::Wrong("stream_options", "an object")),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":1}}"#,
            BadAsk::Wrong("include_usage", "true or false"),
        ),
    ] {
        assert_eq!(read(Wire::Chat, body), Err(error), "{body}");
    }
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(MAX_MODEL + 1));
    assert_eq!(read(Wire::Chat, &long), Err(BadAsk::Wrong("model", "the name of a model")));
    assert_eq!(BadAsk::Missing("model").to_string(), "The request lacks `model`.");
}

#[test]
fn what_is_kept_at_the_provider_is_named() {
    for (wire, body, name) in [
        (Wire::Responses, r#"{"model":"m","previous_response_id":"resp_1"}"#, Some("previous_response_id")),
        (
            Wire::Responses,
            r#"{"model":"m","previous_response_id":null,"conversation":{"id":"c"}}"#,
            Some("conversation"),
        ),
        (Wire::Responses, r#"{"model":"m","prompt":{"id":"pmpt_1"}}"#, Some("prompt")),
        (
            Wire::Responses,
            r#"{"model":"m","input":[{"content":[{"type":"input_file","file_id":"file-1"}]}]}"#,
            Some("file_id"),
        ),
        (
            Wire::Chat,
            r#"{"model":"m","messages":[{"content":[{"type":"file","file":{"file_id":"file-1"}}]}]}"#,
            Some("file_id"),
        ),
        (
            Wire::Messages,
            r#"{"model":"m","messages":[{"content":[{"source":{"type":"file","file_id":"f"}}]}]}"#,
            Some("file_id"),
        ),
        (
            Wire::Messages,
            r#"{"model":"m","messages":[{"content":[{"type":"tool_use","input":{"file_id":"f"}}]}]}"#,
            None,
        ),
        (Wire::Messages, r#"{"model":"m","container":"c"}"#, Some("container")),
        (Wire::Generate, r#"{"cachedContent":"cachedContents/1"}"#, Some("cachedContent")),
        (Wire::Chat, r#"{"model":"m","conversation":"c","prompt":{}}"#, None),
    ] {
        let head = Head::read(wire, body.as_bytes(), outside(wire)).expect("readable");
        assert_eq!(head.leans_on, name, "{body}");
    }
    assert!(head(Wire::Responses, r#"{"model":"m","background":true}"#).background);
}

#[test]
fn how_soon_it_is_to_be_served_is_read_on_each_wire() {
    for (wire, body, tier) in [
        (Wire::Chat, r#"{"model":"m"}"#, None),
        (Wire::Chat, r#"{"model":"m","service_tier":null}"#, None),
        (Wire::Chat, r#"{"model":"m","service_tier":"auto"}"#, None),
        (Wire::Chat, r#"{"model":"m","service_tier":"default"}"#, Some(Tier::Usual)),
        (Wire::Chat, r#"{"model":"m","service_\u0074ier":"prio\u0072ity"}"#, Some(Tier::Fast)),
        (Wire::Completions, r#"{"model":"m","service_tier":"flex"}"#, Some(Tier::Flex)),
        (Wire::Responses, r#"{"model":"m","service_tier":"ultrafast"}"#, Some(Tier::Ultrafast)),
        (Wire::Responses, r#"{"model":"m","service_tier":"warp"}"#, Some(Tier::Other)),
        (Wire::Messages, r#"{"model":"m","service_tier":"standard_only"}"#, Some(Tier::Usual)),
        (Wire::Messages, r#"{"model":"m","speed":"fast"}"#, Some(Tier::Fast)),
        (Wire::Messages, r#"{"model":"m","speed":"fast","service_tier":"standard_only"}"#, Some(Tier::Fast)),
        (Wire::Messages, r#"{"model":"m","speed":"standard","service_tier":"auto"}"#, Some(Tier::Usual)),
        (Wire::Generate, r#"{"serviceTier":"PRIORITY"}"#, Some(Tier::Fast)),
        (Wire::Generate, r#"{"service_tier":"SERVICE_TIER_FLEX"}"#, Some(Tier::Flex)),
        // What is said of it elsewhere is said to nobody.
        (Wire::Chat, r#"{"model":"m","metadata":{"service_tier":"priority"},"speed":"fast"}"#, None),
    ] {
        let head = Head::read(wire, body.as_bytes(), outside(wire)).expect(body);
        assert_eq!(head.asks_for(), tier, "{body}");
    }
    for (wire, body) in [
        (Wire::Generate, r#"{"serviceTier":3}"#),
        (Wire::Generate, r#"{"serviceTier":"flex","service_tier":"priority"}"#),
        (Wire::Chat, r#"{"model":"m","service_tier":["priority"]}"#),
        (Wire::Chat, r#"{"model":"m","service_tier":"default","service_tier":"priority"}"#),
        (Wire::Chat, r#"{"model":"m","Service_Tier":"priority"}"#),
        (Wire::Messages, r#"{"model":"m","speed":{"is":"fast"}}"#),
    ] {
        assert!(Head::read(wire, body.as_bytes(), outside(wire)).is_err(), "{body}");
    }
    let long = "x".repeat(65);
    let body = format!(r#"{{"model":"m","service_tier":"{long}"}}"#);
    let wrong = Head::read(Wire::Chat, body.as_bytes(), Outside::default()).expect_err("no name");
    assert_eq!(wrong.param(), Some("service_tier"));
}

#[test]
fn what_is_kept_for_long_is_noticed() {
    for (body, keeps_long) in [
        (r#"{"model":"m","prompt_cache_options":{"ttl":"12h"}}"#, true),
        (r#"{"model":"m","prompt_cache_options":{"ttl":"30m"}}"#, false),
        (r#"{"model":"m","prompt_cache_options":{"mode":"explicit"},"prompt_cache_retention":"24h"}"#, false),
        (r#"{"model":"m","prompt_cache_options":{"t\u0074l":"12h"}}"#, true),
        (
            r#"{"model":"m","messages":[{"content":[{"text":"a","prompt_cache_breakpoint":{"mode":"explicit","ttl":"12h"}}]}]}"#,
            true,
        ),
        (r#"{"model":"m","messages":[{"content":"ttl 12h"}],"ttl":"12h"}"#, false),
    ] {
        assert_eq!(head(Wire::Chat, body).keeps_long, keeps_long, "{body}");
    }
}

#[test]
fn texts_to_embed_are_counted() {
    for (input, inputs) in [("\"a\"", 1), ("[\"a\",\"b\"]", 2), ("[1,2,3]", 1), ("[[1,2],[3]]", 2), ("[]", 0)] {
        assert_eq!(head(Wire::Embeddings, &format!(r#"{{"model":"m","input":{input}}}"#)).inputs, inputs, "{input}");
    }
    let tokens = head(Wire::Embeddings, &format!(r#"{{"model":"m","input":[{}1]}}"#, "1,".repeat(999)));
    assert!(tokens.input_estimate >= 1_000 && tokens.input_likely >= 1_000, "each is a token");
}

/// The least and the most tokens that a hundred repetitions of a text are in the vocabularies `cl100k_base`, `o200k_base`
/// and that of Claude 2.
const COUNTED: [(&str, i64, i64); 10] = [
    ("The quick brown fox jumps over the lazy dog. ", 1001, 1001),
    ("Съешь же ещё этих мягких французских булок, да выпей чаю. ", 1901, 3901),
    ("앵무새는 무엇을 먹나요? 씨앗과 과일을 먹습니다. ", 2001, 3401),
    ("鹦鹉吃种子和水果。", 1000, 1400),
    ("オウムは種と果物を食べます。", 1300, 1600),
    ("नमस्ते दुनिया, तोते बीज खाते हैं। ", 1202, 3700),
    ("مرحبا بالعالم، الببغاوات تأكل البذور. ", 1501, 3401),
    ("fn main() {\n    println!(\"{}\", 1 + 2);\n}\n", 1400, 1700),
    ("{\"type\":\"object\",\"properties\":{\"command\":{\"type\":\"string\"}}}", 1400, 1400),
    ("🦜🦜🦜 ", 901, 901),
];

#[test]
fn the_estimate_of_ordinary_text_is_above_the_truth_and_the_cautious_one_below_it() {
    for (text, least, most) in COUNTED {
        for escaped in [false, true] {
            let mut body =
                json!({ "model": "m", "messages": [{ "role": "user", "content": text.repeat(100) }] }).to_string();
            if escaped {
                body = body.chars().map(|char| if char.is_ascii() { char.to_string() } else { escape(char) }).collect();
            }
            let head = head(Wire::Chat, &body);
            assert!(head.input_estimate >= most, "{text}: {} < {most}", head.input_estimate);
            assert!(head.input_estimate <= most * 5 / 2, "{text}: {} is far above {most}", head.input_estimate);
            assert!(head.input_likely / 2 < least, "{text}: {} / 2 is not below {least}", head.input_likely);
            assert!(head.input_likely > least / 4, "{text}: {} is far below {least}", head.input_likely);
        }
    }
}

fn escape(char: char) -> String {
    char.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

#[test]
fn pictures_are_counted_by_number_and_not_by_byte() {
    let picture = format!("iVBORw0KGgo{}", "A".repeat(1 << 20));
    for (wire, part) in [
        (
            Wire::Chat,
            json!({ "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{picture}") } }),
        ),
        (Wire::Responses, json!({ "type": "input_image", "image_url": format!("data:image/png;base64,{picture}") })),
        (
            Wire::Messages,
            json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": picture } }),
        ),
        (Wire::Generate, json!({ "inlineData": { "mimeType": "image/png", "data": picture } })),
    ] {
        let talk = match wire {
            Wire::Generate => json!({ "contents": [{ "parts": [part, part] }] }),
            Wire::Responses => json!({ "model": "m", "input": [{ "content": [part, part] }] }),
            _ => json!({ "model": "m", "messages": [{ "content": [part, part] }] }),
        };
        let head = Head::read(wire, talk.to_string().as_bytes(), outside(wire)).expect("readable");
        assert_eq!(head.images, 2, "{wire:?}");
        assert!((9_600..9_800).contains(&head.input_estimate), "{wire:?}: {}", head.input_estimate);
        assert!(head.input_likely < 50, "{wire:?}: {}", head.input_likely);
    }
}

#[test]
fn text_in_the_place_of_a_picture_is_text() {
    let prose = "Parrots eat seeds. ".repeat(10_000);
    let body = json!({ "model": "m", "messages": [{ "content": [{ "source": { "type": "text", "data": prose } }] }] });
    assert!(head(Wire::Messages, &body.to_string()).input_estimate > 60_000);
    let hidden = json!({ "contents": [{ "parts": [{ "inlineData": { "mimeType": "text/plain", "data": "QUJD".repeat(50_000) } }] }] });
    let head = Head::read(Wire::Generate, hidden.to_string().as_bytes(), outside(Wire::Generate)).expect("readable");
    assert!(head.input_estimate > 50_000);
}

#[test]
fn nothing_to_change_changes_nothing() {
    for wire in [Wire::Chat, Wire::Messages, Wire::Responses, Wire::Completions, Wire::Embeddings, Wire::Generate] {
        let body = request(wire);
        let head = Head::read(wire, &body, outside(wire)).expect("readable");
        let changes =
            Changes { model: Some(&head.model.clone()), ask_usage: head.usage_asked, max_output: head.max_output };
        assert_eq!(head.rewrite(&body, &changes).as_ptr(), body.as_ptr(), "{wire:?}");
        assert_eq!(head.rewrite(&body, &Changes::default()).as_ptr(), body.as_ptr(), "{wire:?}");
    }
}

#[test]
fn only_the_named_values_change() {
    let model = Changes { model: Some("a \"b\""), ..Changes::default() };
    assert_eq!(
        rewritten(Wire::Chat, r#"{ "x" : 1.0 , "model" : "m" ,"y":"\u00e9"}"#, &model),
        r#"{ "x" : 1.0 , "model" : "a \"b\"" ,"y":"\u00e9"}"#,
    );
    let usage = Changes { ask_usage: true, ..Changes::default() };
    for (before, after) in [
        (r#"{"model":"m","stream":true}"#, r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#),
        (
            r#"{"model":"m","stream":true,"stream_options":null}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{ }}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true }}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"x":1}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"x":1}}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":false}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (r#"{"model":"m","stream":false}"#, r#"{"model":"m","stream":false}"#),
    ] {
        assert_eq!(rewritten(Wire::Chat, before, &usage), after);
    }
    let most = Changes { max_output: Some(10), ..Changes::default() };
    for (wire, before, after) in [
        (Wire::Chat, r#"{"model":"m"}"#, r#"{"max_completion_tokens":10,"model":"m"}"#),
        (Wire::Chat, r#"{"model":"m","max_tokens":null}"#, r#"{"model":"m","max_tokens":10}"#),
        (
            Wire::Chat,
            r#"{"model":"m","max_tokens":11,"max_completion_tokens":9}"#,
            r#"{"model":"m","max_tokens":10,"max_completion_tokens":9}"#,
        ),
        (Wire::Chat, r#"{"model":"m","max_tokens":-1}"#, r#"{"model":"m","max_tokens":10}"#),
        (Wire::Messages, r#"{"model":"m","max_tokens":1e9}"#, r#"{"model":"m","max_tokens":10}"#),
        (Wire::Responses, r#"{"model":"m"}"#, r#"{"max_output_tokens":10,"model":"m"}"#),
        (Wire::Generate, "{ }", r#"{"generationConfig":{"maxOutputTokens":10} }"#),
        (
            Wire::Generate,
            r#"{"generation_config":{"topK":1}}"#,
            r#"{"generation_config":{"maxOutputTokens":10,"topK":1}}"#,
        ),
        (Wire::Generate, r#"{"generationConfig":null}"#, r#"{"generationConfig":{"maxOutputTokens":10}}"#),
        (
            Wire::Generate,
            r#"{"generationConfig":{"maxOutputTokens":"11"}}"#,
            r#"{"generationConfig":{"maxOutputTokens":10}}"#,
        ),
        (Wire::Midm, "{}", r#"{"max_new_tokens":10}"#),
        (Wire::Embeddings, r#"{"model":"m"}"#, r#"{"model":"m"}"#),
    ] {
        assert_eq!(rewritten(wire, before, &most), after);
    }
}

#[test]
fn a_model_that_stood_outside_is_put_inside_where_the_wire_wants_it() {
    let outside = Outside { model: Some("m"), stream: false };
    let body = Bytes::from_static(b" {} ");
    let head = Head::read(Wire::Chat, &body, outside).expect("readable");
    let changes = Changes { model: Some("x"), max_output: Some(1), ask_usage: true };
    assert_eq!(head.rewrite(&body, &changes), r#" {"model":"x","max_completion_tokens":1} "#);
    let head = Head::read(Wire::Generate, &body, outside).expect("readable");
    assert_eq!(head.rewrite(&body, &Changes { model: Some("x"), ..Changes::default() }), body);
}

/// What the changes make of a parsed request.
fn expected(head: &Head, mut value: Value, changes: &Changes<'_>) -> Value {
    let names_model = !matches!(head.wire, Wire::Generate | Wire::Midm);
    if let (Some(model), true) = (changes.model, names_model) {
        value["model"] = model.into();
    }
    if changes.ask_usage && head.stream && matches!(head.wire, Wire::Chat | Wire::Completions) {
        value["stream_options"]["include_usage"] = true.into();
    }
    if let Some(most) = changes.max_output {
        let (holder, names): (&mut Value, &[&str]) = match head.wire {
            Wire::Chat => (&mut value, &["max_completion_tokens", "max_tokens"]),
            Wire::Completions | Wire::Messages => (&mut value, &["max_tokens"]),
            Wire::Responses => (&mut value, &["max_output_tokens"]),
            Wire::Generate => (&mut value["generationConfig"], &["maxOutputTokens"]),
            Wire::Midm => (&mut value, &["max_new_tokens"]),
            Wire::Embeddings => return value,
        };
        let is_said = |name: &&str| holder.get(name).is_some_and(|value| !value.is_null());
        let mut said: Vec<&str> = names.iter().copied().filter(is_said).collect();
        if said.is_empty() {
            said = names.iter().copied().filter(|name| holder.get(name).is_some()).take(1).collect();
        }
        for name in if said.is_empty() { &names[..1] } else { &said } {
            let quoted = holder[*name].as_str().and_then(|digits| digits.parse().ok());
            let limit = holder[*name].as_f64().or(quoted);
            if !limit.is_some_and(|limit| (0.0..=most as f64).contains(&limit)) {
                holder[*name] = most.into();
            }
        }
    }
    value
}

proptest! {
    #![proptest_config(fuzz::config(100_000))]

    #[test]
    fn a_rewritten_request_means_the_same_but_for_the_changes(
        (wire, body) in fuzz::damaged(fuzz::REQUESTS),
        model in prop::option::of("[a-z\"\\\\é]{1,8}"),
        ask_usage: bool,
        max_output in prop::option::of(0_i64..10_000),
    ) {
        let body = Bytes::from(body);
        // What only JSON's grammar can hold cannot be compared by a parser.
        let comparable = |text: &[u8]| {
            let text = String::from_utf8_lossy(text).replace("1e400", "1").replace("\\ud83e\"", "\"");
            serde_json::from_str::<Value>(&text).ok()
        };
        if let (Ok(head), Some(before)) = (Head::read(wire, &body, outside(wire)), comparable(&body)) {
            let changes = Changes { model: model.as_deref(), ask_usage, max_output };
            let after = head.rewrite(&body, &changes);
            prop_assert_eq!(comparable(&after), Some(expected(&head, before, &changes)));
            let again = Head::read(wire, &after, outside(wire)).expect("still readable");
            prop_assert_eq!(again.rewrite(&after, &changes).as_ptr(), after.as_ptr(), "nothing is left to change");
        }
    }

    #[test]
    fn what_stands_around_a_change_is_the_same_to_the_byte(
        (wire, body) in fuzz::damaged(fuzz::REQUESTS),
        max_output in 0_i64..10_000,
    ) {
        let body = Bytes::from(body);
        if let Ok(head) = Head::read(wire, &body, outside(wire)) {
            let place = |field: Field| head.places[field as usize].map(|(span, _)| span);
            let usage = place(Field::IncludeUsage).or(place(Field::StreamOptions).filter(|span| span.of(&body) == b"null"));
            let limits = [place(Field::MaxOutput), place(Field::MaxTokens)];
            let limit = limits[0].or(limits[1]).or(place(Field::Config).filter(|span| span.of(&body) == b"null"));
            let none = Changes::default();
            for (changes, place) in [
                (Changes { model: Some("~"), ..none }, place(Field::Model)),
                (Changes { ask_usage: true, ..none }, usage),
                (Changes { max_output: Some(max_output).filter(|_| limits[0].is_none() || limits[1].is_none()), ..none }, limit),
            ] {
                let after = head.rewrite(&body, &changes);
                let same = body.iter().zip(&after).take_while(|(before, after)| before == after).count();
                let backwards = body.iter().rev().zip(after.iter().rev());
                let same_end = backwards.take_while(|(before, after)| before == after).count();
                match place {
                    // The value alone.
                    Some(span) => prop_assert!(same >= span.start && same_end >= body.len() - span.end, "{:?}", changes),
                    // Something more, between what was there.
                    None => prop_assert!(same + same_end >= body.len(), "{:?}", changes),
                }
            }
        }
    }
}

/// Prints what reading costs: `cargo test --release -p salon-engine reading_costs -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
fn reading_costs() {
    let prose = "Parrots eat seeds, fruit and now and then an insect. ".repeat(1_200);
    let code = "    let parrot = \"Polly\";\n    println!(\"{parrot}\");\n".repeat(1_200);
    let korean = "앵무새는 씨앗과 과일을 먹습니다. ".repeat(1_400);
    for (name, text) in [("prose", prose), ("code", code), ("korean", korean)] {
        let body =
            json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": text }] }).to_string();
        report(name, Wire::Chat, body.as_bytes());
    }
    for (wire, body) in fuzz::REQUESTS {
        report(wire.as_str(), *wire, body);
    }
}

fn report(name: &str, wire: Wire, body: &[u8]) {
    let cost = fuzz::cost(|| drop(std::hint::black_box(Head::read(wire, std::hint::black_box(body), outside(wire)))));
    println!("{name}: {} bytes in {cost:?}", body.len());
}

#[test]
fn what_a_model_has_to_be_able_to_do_is_seen() {
    let head =
        |wire, body: &str| Head::read(wire, body.as_bytes(), Outside { model: Some("m"), stream: false }).expect(body);
    for (wire, body, images, schema) in [
        (Wire::Chat, r#"{"messages":[],"response_format":{"type":"json_schema","json_schema":{}}}"#, false, true),
        (Wire::Chat, r#"{"messages":[],"response_format":{"type":"json_object"}}"#, false, false),
        (Wire::Chat, r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"x"}}]}]}"#, true, false),
        (
            Wire::Chat,
            r#"{"messages":[{"content":"{\"type\":\"json_schema\"}"}],"tools":[{"format":{"type":"json_schema"}}]}"#,
            false,
            false,
        ),
        (Wire::Responses, r#"{"input":[],"text":{"format":{"type":"json_schema","schema":{}}}}"#, false, true),
        (Wire::Responses, r#"{"input":[{"content":[{"type":"input_image","image_url":"x"}]}]}"#, true, false),
        (
            Wire::Messages,
            r#"{"messages":[],"output_config":{"format":{"type":"json_schema","schema":{}}}}"#,
            false,
            true,
        ),
        (Wire::Messages, r#"{"messages":[{"content":[{"type":"image","source":{"type":"url"}}]}]}"#, true, false),
        (
            Wire::Messages,
            r#"{"messages":[{"content":[{"type":"tool_use","input":{"source":{"a":{"file":{}}}}}]}]}"#,
            false,
            false,
        ),
        (Wire::Generate, r#"{"contents":[],"generationConfig":{"responseJsonSchema":{"type":"object"}}}"#, false, true),
        (Wire::Generate, r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png"}}]}]}"#, true, false),
        (Wire::Generate, r#"{"contents":[{"parts":[{"functionCall":{"args":{"file":{}}}}]}]}"#, false, false),
    ] {
        let head = head(wire, body);
        assert_eq!((head.has_images, head.has_schema), (images, schema), "{wire:?} {body}");
    }
}

#[test]
fn what_sends_a_provider_out_is_seen_wherever_it_is_not_a_text() {
    for field in ["web_search_options", "mcp_servers", "Plugins", "functions", "mcp\\u005fservers"] {
        let body = format!(r#"{{"model":"m","messages":[],"{field}":{{}}}}"#);
        assert!(head(Wire::Chat, &body).looks_around, "{body}");
    }
    let said = r#"{"model":"m","messages":[{"role":"user","content":"\"mcp_servers\"","plugins":[]}]}"#;
    assert!(!head(Wire::Chat, said).looks_around);
}
