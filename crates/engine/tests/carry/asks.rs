//! Single points of questions: what is refused, what is left out and told, what becomes of it.

use salon_core::{Brief, Message as Said, Role as Speaker, TurnId, Wishes};
use salon_engine::wire::Wire;
use salon_engine::wire::carry::{CannotCarry, HINTS, Quirks, Terms, carry_ask, read_ask, write_ask};
use salon_engine::wire::talk::{Ask, Part, Role};
use serde_json::{Value, json};

use crate::cast::*;

/// The least that each wire asks, with `more` added to it.
fn least(wire: Wire, more: Value) -> Value {
    let mut body = match wire {
        Wire::Chat | Wire::Midm => json!({ "messages": [{ "role": "user", "content": "hi" }] }),
        Wire::Messages => json!({ "max_tokens": 100, "messages": [{ "role": "user", "content": "hi" }] }),
        Wire::Responses => json!({ "input": "hi" }),
        Wire::Generate => json!({ "contents": [{ "parts": [{ "text": "hi" }] }] }),
        _ => json!({ "prompt": "hi" }),
    };
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    body
}

fn carry_with(from: Wire, to: Wire, body: &Value, terms: &Terms<'_>) -> Result<(Value, Vec<String>), CannotCarry> {
    let carried = carry_ask(from, to, body.to_string().as_bytes(), terms)?;
    Ok((parse(std::str::from_utf8(&carried.body).expect("text")), carried.left_out))
}

fn carry(from: Wire, to: Wire, body: &Value) -> Result<(Value, Vec<String>), CannotCarry> {
    carry_with(from, to, body, &terms(false))
}

#[track_caller]
fn refused(from: Wire, to: Wire, more: Value, param: &str, words: &str) {
    let error = carry(from, to, &least(from, more.clone())).expect_err(&format!("{more} is refused"));
    assert_eq!(error.param, param, "{error}");
    assert!(error.message.contains(words), "{error}");
    assert!(error.message.ends_with('.'), "a sentence: {error}");
}

#[track_caller]
fn told(from: Wire, to: Wire, more: Value, left_out: &[&str]) {
    let (_, mut told) = carry(from, to, &least(from, more)).expect("carried");
    told.sort();
    assert_eq!(told, left_out);
}

#[test]
fn the_least_of_every_wire_reaches_every_upstream() {
    for from in DOORS {
        for to in UPSTREAMS {
            let (body, left_out) = carry(from, to, &least(from, json!({}))).expect("carried");
            assert!(left_out.is_empty(), "{from:?} to {to:?}: {left_out:?}");
            let ask = read_ask(to, body.to_string().as_bytes()).expect("readable");
            assert_eq!(ask.question(), "hi", "{from:?} to {to:?}");
        }
    }
}

#[test]
fn what_would_change_the_answer_is_refused_by_name() {
    use Wire::*;
    refused(Chat, Messages, json!({ "n": 2 }), "n", "one answer");
    refused(Chat, Generate, json!({ "logprobs": true }), "logprobs", "probabilities");
    refused(Chat, Messages, json!({ "logit_bias": { "50256": -100 } }), "logit_bias", "tokens");
    refused(Chat, Messages, json!({ "seed": 7 }), "seed", "repeated");
    refused(Chat, Responses, json!({ "seed": 7 }), "seed", "repeated");
    refused(Chat, Responses, json!({ "stop": "x" }), "stop", "stop sequences");
    refused(Chat, Messages, json!({ "stop": ["x", "\n\n"] }), "stop", "white space");
    refused(Chat, Messages, json!({ "temperature": 1.5 }), "temperature", "0 to 1");
    refused(Chat, Messages, json!({ "presence_penalty": 0.5 }), "presence_penalty", "penalties");
    refused(Chat, Responses, json!({ "frequency_penalty": 0.5 }), "frequency_penalty", "penalties");
    refused(Chat, Messages, json!({ "functions": [{ "name": "f" }] }), "functions", "`tools`");
    refused(Chat, Messages, json!({ "modalities": ["text", "audio"] }), "modalities", "text");
    refused(Messages, Chat, json!({ "stop_sequences": ["1", "2", "3", "4", "5"] }), "stop_sequences", "at most 4");
    let many = json!({ "stop_sequences": ["1", "2", "3", "4", "5", "6"] });
    refused(Messages, Generate, many, "stop_sequences", "at most 5");
    refused(Messages, Chat, json!({ "container": "c_1" }), "container", "containers");
    refused(Responses, Chat, json!({ "previous_response_id": "resp_1" }), "previous_response_id", "`input`");
    refused(Responses, Chat, json!({ "conversation": "conv_1" }), "conversation", "`input`");
    refused(Responses, Chat, json!({ "background": true }), "background", "at once");
    refused(Responses, Chat, json!({ "prompt": { "id": "p" } }), "prompt", "template");
    refused(Responses, Chat, json!({ "include": ["message.output_text.logprobs"] }), "include", "probabilities");
    refused(Responses, Chat, json!({ "input": [{ "type": "item_reference", "id": "x" }] }), "input[0].id", "kept");
    let compacted = json!({ "input": [{ "type": "compaction", "encrypted_content": "g" }] });
    refused(Responses, Chat, compacted, "input[0].type", "compacted");
    refused(Generate, Chat, json!({ "cachedContent": "cachedContents/1" }), "cachedContent", "content itself");
    let config = |config: Value| json!({ "generationConfig": config });
    refused(Generate, Chat, config(json!({ "candidateCount": 2 })), "generationConfig.candidateCount", "one answer");
    let images = config(json!({ "response_modalities": ["IMAGE"] }));
    refused(Generate, Chat, images, "generationConfig.responseModalities", "text");
    refused(Completions, Chat, json!({ "suffix": "end" }), "suffix", "end");
    refused(Completions, Chat, json!({ "echo": true }), "echo", "repeat");
    refused(Completions, Chat, json!({ "logprobs": 0 }), "logprobs", "probabilities");
    refused(Completions, Chat, json!({ "best_of": 3 }), "best_of", "one answer");
    refused(Completions, Chat, json!({ "prompt": ["a", "b"] }), "prompt", "one prompt");
    refused(Completions, Chat, json!({ "prompt": [1, 2] }), "prompt", "send text");
    refused(Chat, Midm, json!({ "tools": [{ "type": "function", "function": { "name": "f" } }] }), "tools", "no tools");
    refused(Chat, Midm, json!({ "response_format": { "type": "json_object" } }), "response_format", "text");
}

#[test]
fn whoever_asks_reads_the_names_of_the_own_protocol() {
    use Wire::*;
    let config = |config: Value| json!({ "generationConfig": config });
    refused(Generate, Responses, config(json!({ "stopSequences": ["x"] })), "generationConfig.stopSequences", "`gen");
    refused(Generate, Messages, config(json!({ "seed": 7 })), "generationConfig.seed", "`generationConfig.seed`");
    refused(Generate, Messages, config(json!({ "temperature": 1.5 })), "generationConfig.temperature", "0 to 1");
    refused(Messages, Responses, json!({ "stop_sequences": ["x"] }), "stop_sequences", "`stop_sequences`");
    refused(Responses, Chat, json!({ "input": [] }), "input", "nothing to answer");
    refused(Generate, Chat, json!({ "contents": [] }), "contents", "nothing to answer");
    refused(Responses, Chat, json!({ "max_output_tokens": 0 }), "max_output_tokens", "at least 1");
    told(Generate, Chat, config(json!({ "topK": 4 })), &["generationConfig.topK"]);
    let form = config(json!({ "responseMimeType": "application/json" }));
    told(Generate, Messages, form, &["generationConfig.responseMimeType"]);
    told(Responses, Messages, json!({ "text": { "verbosity": "low" } }), &["text.verbosity"]);
    let alone = json!({
        "tools": [{ "name": "f", "input_schema": {} }],
        "tool_choice": { "type": "auto", "disable_parallel_tool_use": true }
    });
    told(Messages, Generate, alone, &["tool_choice.disable_parallel_tool_use"]);
}

#[test]
fn that_a_tool_failed_is_told_or_said_not_to_be() {
    use Wire::*;
    let failed = json!({ "messages": [
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "t", "name": "f", "input": {} }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t", "is_error": true, "content": "no" }] },
    ] });
    for to in [Chat, Responses] {
        told(Messages, to, failed.clone(), &["messages.is_error"]);
    }
    told(Messages, Generate, failed, &[]);
    let failed = json!({ "contents": [
        { "role": "model", "parts": [{ "functionCall": { "name": "f" } }] },
        { "role": "user", "parts": [{ "functionResponse": { "name": "f", "response": { "error": "no" } } }] },
    ] });
    told(Generate, Chat, failed.clone(), &["contents.functionResponse.response.error"]);
    told(Generate, Messages, failed, &[]);
}

#[test]
fn what_is_wrong_has_a_code_that_says_how() {
    use Wire::*;
    for (more, code) in [
        (json!({ "messages": "hi" }), "invalid_value"),
        (json!({ "messages": [] }), "invalid_value"),
        (json!({ "messages": [{ "role": "bird" }] }), "invalid_value"),
        (json!({ "tools": [{ "type": "function" }] }), "missing_required_parameter"),
        (json!({ "n": 2 }), "unsupported_parameter"),
    ] {
        let error = carry(Chat, Messages, &least(Chat, more.clone())).expect_err("refused");
        assert_eq!(error.code, code, "{more}: {error}");
    }
    let half = br#"{"messages":[{"role":"user","content":"\ud800"}]}"#;
    assert_eq!(carry_ask(Chat, Messages, half, &terms(false)).expect_err("half a character").code, "invalid_json");
}

#[test]
fn what_is_wrong_in_its_own_words_is_refused_by_its_path() {
    use Wire::*;
    refused(Chat, Messages, json!({ "messages": "hi" }), "messages", "a list");
    refused(Chat, Messages, json!({ "messages": [] }), "messages", "nothing to answer");
    refused(Chat, Messages, json!({ "messages": [{ "role": "bird" }] }), "messages[0].role", "one of");
    let part = json!({ "messages": [{ "role": "user", "content": [{ "type": "hologram" }] }] });
    refused(Chat, Messages, part, "messages[0].content[0].type", "not known");
    refused(Chat, Messages, json!({ "max_tokens": "many" }), "max_tokens", "number");
    refused(Chat, Messages, json!({ "max_tokens": 0 }), "max_tokens", "at least 1");
    refused(Chat, Messages, json!({ "tool_choice": "maybe" }), "tool_choice", "one of");
    refused(Messages, Chat, json!({ "tools": [{ "description": "x" }] }), "tools[0].name", "missing");
    refused(Responses, Chat, json!({ "reasoning": { "effort": "heroic" } }), "reasoning.effort", "one of");
    let orphan = json!({ "contents": [{ "parts": [{ "functionResponse": { "name": "f", "response": {} } }] }] });
    refused(Generate, Chat, orphan, "contents[0].parts[0].functionResponse.name", "was not made");
    let call = json!({ "messages": [{ "role": "assistant", "tool_calls": [
        { "id": "c", "type": "function", "function": { "name": "f", "arguments": "{\"half" } }
    ] }] });
    refused(Chat, Messages, call.clone(), "messages[0]", "no JSON object");
    refused(Chat, Generate, call, "messages[0]", "no JSON object");
    let result = json!({ "messages": [{ "role": "tool", "tool_call_id": "c", "content": "x" }] });
    refused(Chat, Generate, result, "messages[0]", "was not made");
    for body in [&b"[]"[..], b"{", b"", b"\xff\xfe", b"null"] {
        assert_eq!(carry_ask(Chat, Messages, body, &terms(false)).expect_err("no object").param, "");
    }
    let deep = format!("{{\"messages\":{}", "[".repeat(100_000));
    assert!(carry_ask(Chat, Messages, deep.as_bytes(), &terms(false)).is_err());
}

#[test]
fn what_the_asker_can_do_without_is_left_out_and_told() {
    use Wire::*;
    told(Chat, Messages, json!({ "service_tier": "priority", "store": true }), &["service_tier", "store"]);
    told(Chat, Messages, json!({ "service_tier": "auto", "store": false }), &[]);
    told(Chat, Responses, json!({ "top_k": 40 }), &["top_k"]);
    told(Chat, Messages, json!({ "top_k": 40 }), &[]);
    told(Chat, Messages, json!({ "brand_new": { "x": 1 }, "nothing": null }), &["brand_new"]);
    told(Chat, Messages, json!({ "response_format": { "type": "json_object" } }), &["response_format"]);
    told(Chat, Messages, json!({ "web_search_options": {} }), &["web_search_options"]);
    told(
        Responses,
        Chat,
        json!({ "tools": [{ "type": "web_search" }, { "type": "mcp" }] }),
        &["tools.mcp", "tools.web_search"],
    );
    told(Responses, Chat, json!({ "truncation": "auto", "max_tool_calls": 3 }), &["max_tool_calls", "truncation"]);
    told(
        Messages,
        Chat,
        json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }),
        &["tools.web_search_20250305"],
    );
    told(Messages, Chat, json!({ "context_management": { "edits": [] } }), &["context_management"]);
    told(
        Generate,
        Chat,
        json!({ "tools": [{ "googleSearch": {} }], "safetySettings": [{}] }),
        &["safetySettings", "tools.googleSearch"],
    );
    let thinking = json!({ "thinking": { "type": "adaptive" }, "temperature": 0.2, "top_p": 0.5, "top_k": 4 });
    let thinking = carry(Messages, Generate, &least(Messages, thinking)).expect("carried");
    assert!(thinking.1.is_empty());
    let forced = json!({
        "reasoning_effort": "high", "tool_choice": "required",
        "tools": [{ "type": "function", "function": { "name": "f" } }]
    });
    told(Chat, Messages, forced, &["reasoning_effort"]);
    for hint in HINTS {
        for from in [Chat, Responses, Messages, Generate, Completions] {
            told(from, if from == Chat { Messages } else { Chat }, json!({ *hint: { "a": "b" } }), &[]);
        }
    }
}

#[test]
fn a_name_that_is_left_out_is_fit_for_a_header() {
    let evil = json!({ "x\r\nset-cookie: a=b": 1, "tools": [{ "type": "ключ\r\n" }] });
    told(Wire::Responses, Wire::Chat, evil, &["tools.", "xset-cookieab"]);
    let many: serde_json::Map<String, Value> = (0..100).map(|n| (format!("x{n}"), json!(1))).collect();
    let (_, told) = carry(Wire::Chat, Wire::Messages, &least(Wire::Chat, Value::Object(many))).expect("carried");
    assert_eq!(told.len(), 32);
}

#[test]
fn the_manners_of_a_model_are_respected() {
    let asked = least(
        Wire::Chat,
        json!({
            "max_tokens": 9_000, "reasoning_effort": "high", "temperature": 0.1, "top_p": 0.2
        }),
    );
    let quirks = |quirks| Terms { quirks, max_output: Some(1_000), ..terms(false) };
    let (body, left_out) = carry_with(
        Wire::Chat,
        Wire::Messages,
        &asked,
        &quirks(Quirks { no_thinking: true, no_sampling: true, ..Quirks::default() }),
    )
    .expect("carried");
    let expected = json!({
        "model": "parrot-9b", "max_tokens": 1_000, "messages": [{ "role": "user", "content": "hi" }]
    });
    assert_eq!(body, expected);
    assert_eq!(left_out, ["reasoning_effort", "temperature", "top_p"]);

    let asked = least(
        Wire::Messages,
        json!({ "system": "Be brief.", "messages": [
        { "role": "user", "content": "hi" },
        { "role": "system", "content": "It is late." },
        { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "Hm.", "signature": "x" }, { "type": "text", "text": "ho" }
        ] },
        { "role": "user", "content": "so" }
    ] }),
    );
    let older = Quirks { head_only: true, thoughts_back: true, ..Quirks::default() };
    let (body, _) = carry_with(Wire::Messages, Wire::Chat, &asked, &quirks(older)).expect("carried");
    let expected = json!({
        "model": "parrot-9b",
        "messages": [
            { "role": "system", "content": "Be brief.\n\nIt is late." },
            { "role": "user", "content": "hi" },
            { "role": "assistant", "content": "ho", "reasoning_content": "Hm." },
            { "role": "user", "content": "so" }
        ],
        "max_tokens": 100
    });
    assert_eq!(body, expected);
    let newer = Quirks { max_completion_tokens: true, ..Quirks::default() };
    let (body, _) = carry_with(Wire::Messages, Wire::Chat, &asked, &quirks(newer)).expect("carried");
    assert_eq!(body["max_completion_tokens"], 100);
    assert_eq!(body["messages"][2], json!({ "role": "system", "content": "It is late." }));
    assert_eq!(body["messages"][3], json!({ "role": "assistant", "content": "ho" }));
}

fn media(wire: Wire, part: Value) -> Value {
    match wire {
        Wire::Responses => json!({ "input": [{ "role": "user", "content": [part] }] }),
        Wire::Generate => json!({ "contents": [{ "parts": [part] }] }),
        _ => json!({ "messages": [{ "role": "user", "content": [part] }] }),
    }
}

#[test]
fn pictures_and_documents_travel_where_both_sides_know_them() {
    use Wire::*;
    let carried = |from, to, part: Value| {
        let (body, _) = carry(from, to, &least(from, media(from, part))).expect("carried");
        match to {
            Responses => body["input"][0]["content"][0].clone(),
            Generate => body["contents"][0]["parts"][0].clone(),
            _ => body["messages"][0]["content"][0].clone(),
        }
    };
    let url = "https://example.com/cat.png";
    let picture = json!({ "type": "image_url", "image_url": { "url": url, "detail": "low" } });
    assert_eq!(
        carried(Chat, Messages, picture.clone()),
        json!({ "type": "image", "source": { "type": "url", "url": url } })
    );
    assert_eq!(
        carried(Chat, Responses, picture.clone()),
        json!({ "type": "input_image", "image_url": url, "detail": "low" })
    );
    refused(Chat, Generate, media(Chat, picture), "messages[0]", "base64 only");
    let stored = json!({ "type": "image", "source": { "type": "file", "file_id": "f" } });
    refused(Messages, Chat, media(Messages, stored), "messages[0].content[0].source.type", "another provider");
    let stored = json!({ "fileData": { "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x" } });
    refused(Generate, Chat, media(Generate, stored), "contents[0].parts[0].fileData.fileUri", "send its content");

    let pdf = json!({ "type": "document", "title": "A", "source": {
        "type": "base64", "media_type": "application/pdf", "data": "JVBERi0=" } });
    let file =
        json!({ "type": "file", "file": { "filename": "A", "file_data": "data:application/pdf;base64,JVBERi0=" } });
    assert_eq!(carried(Messages, Chat, pdf.clone()), file);
    assert_eq!(carried(Chat, Messages, file), pdf);
    assert_eq!(
        carried(Messages, Generate, pdf.clone()),
        json!({ "inlineData": { "mimeType": "application/pdf", "data": "JVBERi0=" } })
    );
    let text = json!({ "inlineData": { "mimeType": "text/plain", "data": "aGk=" } });
    assert_eq!(
        carried(Generate, Messages, text),
        json!({ "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "hi" } })
    );
    let word = json!({ "type": "file", "file": { "file_data": "data:application/msword;base64,AAAA" } });
    refused(Chat, Messages, media(Chat, word), "messages[0]", "PDF or text");
    let far = json!({ "type": "document", "source": { "type": "url", "url": "https://example.com/a.pdf" } });
    refused(Messages, Chat, media(Messages, far.clone()), "messages[0]", "base64 only");
    assert_eq!(
        carried(Messages, Responses, far),
        json!({ "type": "input_file", "file_url": "https://example.com/a.pdf" })
    );

    let sound = json!({ "type": "input_audio", "input_audio": { "data": "UklGRg==", "format": "wav" } });
    let blob = json!({ "inlineData": { "mimeType": "audio/wav", "data": "UklGRg==" } });
    assert_eq!(carried(Chat, Generate, sound.clone()), blob);
    assert_eq!(carried(Generate, Chat, blob), sound);
    refused(Chat, Messages, media(Chat, sound.clone()), "messages[0]", "recordings");
    refused(Chat, Responses, media(Chat, sound), "messages[0]", "recordings");
    let film = json!({ "inlineData": { "mimeType": "video/mp4", "data": "AAAA" } });
    refused(Generate, Chat, media(Generate, film), "contents[0]", "videos");
}

#[test]
fn what_a_tool_saw_is_shown_beside_what_it_said() {
    let seen = json!({ "messages": [
        { "role": "user", "content": "look" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "toolu_1", "name": "look", "input": {} }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "toolu_1", "is_error": true, "content": [
            { "type": "text", "text": "half a cat" },
            { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "iVBO" } }
        ] }] }
    ] });
    let asked = least(Wire::Messages, seen);
    let (body, _) = carry(Wire::Messages, Wire::Chat, &asked).expect("carried");
    let expected = json!([
        { "role": "user", "content": "look" },
        { "role": "assistant", "content": null, "tool_calls": [
            { "id": "toolu_1", "type": "function", "function": { "name": "look", "arguments": "{}" } }
        ] },
        { "role": "tool", "tool_call_id": "toolu_1", "content": "half a cat" },
        { "role": "user", "content": [
            { "type": "text", "text": "The result of the call toolu_1 contains this:" },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBO" } }
        ] }
    ]);
    assert_eq!(body["messages"], expected);
    let (body, _) = carry(Wire::Messages, Wire::Responses, &asked).expect("carried");
    let expected = json!({ "type": "function_call_output", "call_id": "toolu_1", "output": [
        { "type": "input_text", "text": "half a cat" },
        { "type": "input_image", "image_url": "data:image/png;base64,iVBO", "detail": "auto" }
    ] });
    assert_eq!(body["input"][2], expected);
    let (body, _) = carry(Wire::Messages, Wire::Generate, &asked).expect("carried");
    let expected = json!({ "role": "user", "parts": [
        { "functionResponse": { "id": "toolu_1", "name": "look", "response": { "error": "half a cat" } } },
        { "inlineData": { "mimeType": "image/png", "data": "iVBO" } }
    ] });
    assert_eq!(body["contents"][2], expected);
    // And the failure comes back as one.
    let (back, _) = carry(Wire::Generate, Wire::Messages, &body).expect("carried");
    assert_eq!(back["messages"][2]["content"][0]["is_error"], true);
}

#[test]
fn results_without_an_id_belong_to_the_oldest_call_of_their_name() {
    let call = |name: &str| json!({ "functionCall": { "name": name, "args": {} } });
    let result =
        |name: &str, said: &str| json!({ "functionResponse": { "name": name, "response": { "result": said } } });
    let asked = json!({ "contents": [
        { "parts": [{ "text": "go" }] },
        { "role": "model", "parts": [call("f"), call("g"), call("f")] },
        { "role": "function", "parts": [result("f", "1"), result("f", "3"), result("g", "2")] }
    ] });
    let (body, _) = carry(Wire::Generate, Wire::Chat, &asked).expect("carried");
    let results: Vec<(&str, &str)> = body["messages"].as_array().expect("a list")[2..]
        .iter()
        .map(|message| (message["tool_call_id"].as_str().expect("id"), message["content"].as_str().expect("text")))
        .collect();
    assert_eq!(results, [("call_0", "1"), ("call_2", "3"), ("call_1", "2")]);
}

#[test]
fn ids_that_do_not_fit_elsewhere_are_made_to_and_still_match() {
    let id = "functions.look:0/with a very long tail that no other provider would take";
    let asked = least(
        Wire::Chat,
        json!({ "messages": [
        { "role": "user", "content": "look" },
        { "role": "assistant", "tool_calls": [{ "id": id, "function": { "name": "look", "arguments": "" } }] },
        { "role": "tool", "tool_call_id": id, "content": "a cat" }
    ] }),
    );
    let (body, _) = carry(Wire::Chat, Wire::Messages, &asked).expect("carried");
    let called = body["messages"][1]["content"][0]["id"].as_str().expect("an id");
    assert_ne!(called, id);
    assert_eq!(body["messages"][2]["content"][0]["tool_use_id"], called);
    let (body, _) = carry(Wire::Chat, Wire::Generate, &asked).expect("carried");
    assert_eq!(body["contents"][2]["parts"][0]["functionResponse"]["name"], "look");
}

#[test]
fn a_conversation_fits_the_rules_of_the_side_it_goes_to() {
    // It begins with the assistant, ends with half an answer, and has nothing in the midst.
    let asked = least(
        Wire::Chat,
        json!({ "messages": [
        { "role": "assistant", "content": "Welcome!" },
        { "role": "user", "content": "" },
        { "role": "user", "content": "Count." },
        { "role": "assistant", "content": "One, two, \n" }
    ] }),
    );
    let (body, _) = carry(Wire::Chat, Wire::Messages, &asked).expect("carried");
    let expected = json!([
        { "role": "user", "content": "Begin." },
        { "role": "assistant", "content": "Welcome!" },
        { "role": "user", "content": "Count." },
        { "role": "assistant", "content": "One, two," }
    ]);
    assert_eq!(body["messages"], expected);
    // Nothing but instructions: the last of them is the question.
    let asked = least(
        Wire::Chat,
        json!({ "messages": [
        { "role": "system", "content": "Be brief." }, { "role": "system", "content": "Name a bird." }
    ] }),
    );
    let (body, _) = carry(Wire::Chat, Wire::Messages, &asked).expect("carried");
    assert_eq!(
        (&body["system"], &body["messages"]),
        (&json!("Be brief."), &json!([{ "role": "user", "content": "Name a bird." }]))
    );
    let (body, _) = carry(Wire::Chat, Wire::Generate, &asked).expect("carried");
    assert_eq!(body["contents"], json!([{ "role": "user", "parts": [{ "text": "Name a bird." }] }]));
    let (body, _) = carry(Wire::Chat, Wire::Responses, &asked).expect("carried");
    assert_eq!(
        (&body["instructions"], &body["input"]),
        (&json!("Be brief."), &json!([{ "role": "user", "content": "Name a bird." }]))
    );
}

#[test]
fn allowed_tools_are_the_only_ones_on_offer() {
    let tool = |name: &str| json!({ "type": "function", "name": name });
    let tools = [tool("a"), tool("b"), tool("c")];
    let choice = json!({ "type": "allowed_tools", "mode": "required", "tools": [tool("a"), tool("c")] });
    let asked = least(Wire::Responses, json!({ "tools": tools, "tool_choice": choice }));
    let (body, _) = carry(Wire::Responses, Wire::Messages, &asked).expect("carried");
    let names: Vec<&Value> = body["tools"].as_array().expect("tools").iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["a", "c"]);
    assert_eq!(body["tool_choice"], json!({ "type": "any" }));
    let asked = least(
        Wire::Chat,
        json!({
            "tools": [{ "type": "function", "function": { "name": "a" } }],
            "tool_choice": { "type": "function", "function": { "name": "a" } },
            "parallel_tool_calls": false
        }),
    );
    let (body, _) = carry(Wire::Chat, Wire::Messages, &asked).expect("carried");
    assert_eq!(body["tool_choice"], json!({ "type": "tool", "name": "a", "disable_parallel_tool_use": true }));
    let (body, left_out) = carry(Wire::Chat, Wire::Generate, &asked).expect("carried");
    let expected = json!({ "functionCallingConfig": { "mode": "ANY", "allowedFunctionNames": ["a"] } });
    assert_eq!((&body["toolConfig"], left_out), (&expected, vec!["parallel_tool_calls".to_owned()]));
    let (body, _) = carry(Wire::Generate, Wire::Chat, &body).expect("carried");
    assert_eq!(body["tool_choice"], json!({ "type": "function", "function": { "name": "a" } }));
}

#[test]
fn midm_is_asked_and_answered_as_its_server_has_it() {
    let asked = least(
        Wire::Chat,
        json!({
            "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "hi" }],
            "max_tokens": 50, "temperature": 0.7
        }),
    );
    let (body, _) = carry(Wire::Chat, Wire::Midm, &asked).expect("carried");
    let expected = json!({
        "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "hi" }],
        "max_new_tokens": 50, "do_sample": true, "temperature": 0.7
    });
    assert_eq!(body, expected);
    let (body, _) = carry(Wire::Chat, Wire::Midm, &least(Wire::Chat, json!({ "temperature": 0 }))).expect("carried");
    assert_eq!((&body["max_new_tokens"], &body["do_sample"]), (&json!(1_024), &json!(false)));
    assert_eq!(body.get("temperature"), None);

    let (body, _) = carry(Wire::Midm, Wire::Chat, &least(Wire::Midm, json!({ "temperature": 0.3 }))).expect("carried");
    assert_eq!((&body["max_tokens"], body.get("temperature")), (&json!(128), None));
    let asked = least(
        Wire::Midm,
        json!({
            "messages": [
                { "role": "user", "content": "Who?" }, { "role": "assistant", "content": "?" },
                { "role": "user", "content": "Who?" }
            ],
            "temperature": 0.3, "do_sample": true, "context": ["A parrot.", "A crow."], "use_rag_prompt": true
        }),
    );
    let (body, _) = carry(Wire::Midm, Wire::Chat, &asked).expect("carried");
    assert_eq!(body["temperature"], 0.3);
    for message in [0, 2] {
        let prompt = body["messages"][message]["content"].as_str().expect("text");
        for words in ["[Document 1]\nA parrot.", "[Document 2]\nA crow.", "Question: Who?"] {
            assert!(prompt.contains(words), "{prompt}");
        }
    }
}

#[test]
fn a_bots_turn_is_asked_in_any_wire() {
    let brief = Brief {
        turn: TurnId::new("t"),
        instructions: "Be brief.".to_owned(),
        history: vec![
            Said { role: Speaker::User, text: "hi".to_owned() },
            Said { role: Speaker::Assistant, text: "ho".to_owned() },
        ],
        question: "so?".to_owned(),
        pictures: Vec::new(),
        thread: None,
        wishes: Wishes { max_output: Some(300), temperature: Some(0.5) },
    };
    for wire in UPSTREAMS {
        let body = write_ask(wire, &mut Ask::of(&brief), &terms(true)).expect("written");
        let ask = read_ask(wire, &body).expect("readable");
        let said: Vec<(Role, &Part)> =
            ask.messages.iter().flat_map(|message| message.parts.iter().map(|part| (message.role, part))).collect();
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(
            said,
            [
                (Role::System, &text("Be brief.")),
                (Role::User, &text("hi")),
                (Role::Assistant, &text("ho")),
                (Role::User, &text("so?"))
            ],
            "{wire:?}"
        );
    }
    for wire in [Wire::Completions, Wire::Embeddings] {
        assert!(write_ask(wire, &mut Ask::of(&brief), &terms(true)).is_err(), "{wire:?}");
    }
}

#[test]
fn to_stop_at_nothing_is_not_to_stop() {
    for to in [Wire::Responses, Wire::Messages, Wire::Generate, Wire::Midm] {
        for stop in [json!(""), json!([""]), json!([])] {
            let (body, left_out) = carry(Wire::Chat, to, &least(Wire::Chat, json!({ "stop": stop }))).expect("carried");
            assert!(
                !body.to_string().contains("top_sequences") && !body.to_string().contains("stopSequences"),
                "{body}"
            );
            assert!(left_out.is_empty());
        }
    }
}

#[test]
fn one_thing_is_a_list_of_it_as_googles_examples_have_it() {
    let one = json!({
        "system_instruction": { "parts": { "text": "You are a cat." } },
        "contents": { "parts": { "text": "Hello there" } },
        "tools": { "functionDeclarations": { "name": "purr" } },
    });
    let list = json!({
        "system_instruction": { "parts": [{ "text": "You are a cat." }] },
        "contents": [{ "parts": [{ "text": "Hello there" }] }],
        "tools": [{ "functionDeclarations": [{ "name": "purr" }] }],
    });
    for to in [Wire::Chat, Wire::Responses, Wire::Messages] {
        assert_eq!(carry(Wire::Generate, to, &one), carry(Wire::Generate, to, &list));
    }
}
