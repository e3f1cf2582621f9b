//! One conversation with everything in it, asked at every door of every upstream.

use salon_engine::wire::Wire;
use salon_engine::wire::carry::{carry_ask, read_ask};
use salon_engine::wire::talk::{
    Ask, Call, Choice, Effort, Format, Kind, Media, Message, Outcome, Part, Role, Schema, Source, Tool, text_of,
};
use serde_json::{Value, json};

use crate::cast::*;

const PIXEL: &str = "iVBORw0KGgo=";

fn weather() -> Value {
    json!({
        "type": "object",
        "properties": { "city": { "type": "string", "description": "Where." } },
        "required": ["city"],
        "additionalProperties": false
    })
}

fn form() -> Value {
    json!({
        "type": "object",
        "properties": { "degrees": { "type": "number" } },
        "required": ["degrees"],
        "additionalProperties": false
    })
}

/// The conversation as a client of each protocol sends it.
fn asked(wire: Wire) -> Value {
    match wire {
        Wire::Chat => json!({
            "model": "house/parrot",
            "messages": [
                { "role": "system", "content": "Be brief." },
                { "role": "user", "content": [
                    { "type": "text", "text": "Where is this, and how warm is it there and in Busan?" },
                    { "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{PIXEL}") } }
                ] },
                { "role": "assistant", "content": "Seoul. Let me look.", "tool_calls": [
                    { "id": "call_a", "type": "function",
                      "function": { "name": "get_weather", "arguments": "{\"city\":\"Seoul\"}" } },
                    { "id": "call_b", "type": "function",
                      "function": { "name": "get_weather", "arguments": "{\"city\":\"Busan\"}" } }
                ] },
                { "role": "tool", "tool_call_id": "call_a", "content": "3 degrees" },
                { "role": "tool", "tool_call_id": "call_b", "content": "7 degrees" },
                { "role": "user", "content": "So?" }
            ],
            "max_tokens": 500, "temperature": 0.5, "stream": true,
            "tools": [{ "type": "function", "function": {
                "name": "get_weather", "description": "Tells the weather.", "parameters": weather()
            } }],
            "tool_choice": "required", "parallel_tool_calls": true,
            "response_format": { "type": "json_schema", "json_schema": { "name": "answer", "schema": form() } }
        }),
        Wire::Responses => json!({
            "model": "house/parrot",
            "instructions": "Be brief.",
            "input": [
                { "role": "user", "content": [
                    { "type": "input_text", "text": "Where is this, and how warm is it there and in Busan?" },
                    { "type": "input_image", "image_url": format!("data:image/png;base64,{PIXEL}"), "detail": "auto" }
                ] },
                { "type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [
                    { "type": "output_text", "text": "Seoul. Let me look.", "annotations": [] }
                ] },
                { "type": "function_call", "call_id": "call_a", "name": "get_weather",
                  "arguments": "{\"city\":\"Seoul\"}" },
                { "type": "function_call", "call_id": "call_b", "name": "get_weather",
                  "arguments": "{\"city\":\"Busan\"}" },
                { "type": "function_call_output", "call_id": "call_a", "output": "3 degrees" },
                { "type": "function_call_output", "call_id": "call_b",
                  "output": [{ "type": "input_text", "text": "7 degrees" }] },
                { "role": "user", "content": "So?" }
            ],
            "max_output_tokens": 500, "temperature": 0.5, "stream": true, "store": false,
            "tools": [{ "type": "function", "name": "get_weather", "description": "Tells the weather.",
                        "parameters": weather() }],
            "tool_choice": "required", "parallel_tool_calls": true,
            "text": { "format": { "type": "json_schema", "name": "answer", "schema": form() } }
        }),
        Wire::Messages => json!({
            "model": "house/parrot",
            "system": [{ "type": "text", "text": "Be brief.", "cache_control": { "type": "ephemeral" } }],
            "messages": [
                { "role": "user", "content": [
                    { "type": "text", "text": "Where is this, and how warm is it there and in Busan?" },
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": PIXEL } }
                ] },
                { "role": "assistant", "content": [
                    { "type": "thinking", "thinking": "Hm.", "signature": "EqQBCg==" },
                    { "type": "text", "text": "Seoul. Let me look." },
                    { "type": "tool_use", "id": "call_a", "name": "get_weather", "input": { "city": "Seoul" } },
                    { "type": "tool_use", "id": "call_b", "name": "get_weather", "input": { "city": "Busan" } }
                ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "call_a", "content": "3 degrees" },
                    { "type": "tool_result", "tool_use_id": "call_b",
                      "content": [{ "type": "text", "text": "7 degrees" }] },
                    { "type": "text", "text": "So?" }
                ] }
            ],
            "max_tokens": 500, "temperature": 0.5, "stream": true,
            "tools": [{ "name": "get_weather", "description": "Tells the weather.", "input_schema": weather() }],
            "tool_choice": { "type": "any", "disable_parallel_tool_use": false },
            "output_config": { "format": { "type": "json_schema", "schema": form() } }
        }),
        // As litellm writes it: in both manners at once.
        Wire::Generate => json!({
            "system_instruction": { "parts": [{ "text": "Be brief." }] },
            "contents": [
                { "role": "user", "parts": [
                    { "text": "Where is this, and how warm is it there and in Busan?" },
                    { "inline_data": { "mime_type": "image/png", "data": PIXEL } }
                ] },
                { "role": "model", "parts": [
                    { "text": "Hm.", "thought": true },
                    { "text": "Seoul. Let me look." },
                    { "functionCall": { "id": "call_a", "name": "get_weather", "args": { "city": "Seoul" } },
                      "thoughtSignature": "CiQB" },
                    { "function_call": { "id": "call_b", "name": "get_weather", "args": { "city": "Busan" } } }
                ] },
                { "role": "user", "parts": [
                    { "functionResponse": { "id": "call_a", "name": "get_weather",
                                            "response": { "output": "3 degrees" } } },
                    { "function_response": { "id": "call_b", "name": "get_weather",
                                             "response": { "result": "7 degrees" } } },
                    { "text": "So?" }
                ] }
            ],
            "tools": [{ "function_declarations": [{
                "name": "get_weather", "description": "Tells the weather.",
                "parameters": {
                    "type": "OBJECT",
                    "properties": { "city": { "type": "STRING", "description": "Where." } },
                    "required": ["city"],
                    "additionalProperties": false
                }
            }] }],
            "tool_config": { "function_calling_config": { "mode": "ANY" } },
            "generationConfig": {
                "maxOutputTokens": 500, "temperature": 0.5,
                "response_mime_type": "application/json", "response_json_schema": form()
            }
        }),
        _ => panic!("{wire:?} has no tools"),
    }
}

/// What it means.
fn meant() -> Ask {
    let call = |id: &str, city: &str| {
        Part::Call(Call {
            id: id.to_owned(),
            name: "get_weather".to_owned(),
            arguments: json!({ "city": city }).to_string(),
        })
    };
    let outcome = |id: &str, text: &str| {
        let parts = vec![Part::Text(text.to_owned())];
        Part::Outcome(Outcome { call: id.to_owned(), name: None, parts, failed: false })
    };
    let picture = Part::Media(Media {
        kind: Kind::Image,
        mime: Some("image/png".to_owned()),
        source: Source::Base64(PIXEL.to_owned()),
        name: None,
        detail: None,
    });
    let question = "Where is this, and how warm is it there and in Busan?";
    Ask {
        messages: vec![
            Message::text(Role::System, "Be brief."),
            Message::new(Role::User, vec![Part::Text(question.to_owned()), picture], ""),
            Message::new(
                Role::Assistant,
                vec![Part::Text("Seoul. Let me look.".to_owned()), call("call_a", "Seoul"), call("call_b", "Busan")],
                "",
            ),
            Message::new(
                Role::User,
                vec![outcome("call_a", "3 degrees"), outcome("call_b", "7 degrees"), Part::Text("So?".to_owned())],
                "",
            ),
        ],
        tools: vec![Tool {
            name: "get_weather".to_owned(),
            description: Some("Tells the weather.".to_owned()),
            schema: Some(weather()),
            strict: None,
            disguise: None,
        }],
        choice: Choice::Required,
        format: Format::Schema(Schema { name: None, description: None, schema: form(), strict: None }),
        max_output: Some(500),
        sampling: salon_engine::wire::talk::Sampling {
            temperature: json!(0.5).as_number().cloned(),
            ..Default::default()
        },
        ..Ask::default()
    }
}

/// Takes away what a wire may say or not without meaning anything by it.
pub fn plain(mut ask: Ask) -> Ask {
    ask.model.clear();
    ask.stream = false;
    ask.usage_asked = false;
    ask.echo.clear();
    ask.parallel = ask.parallel.filter(|parallel| !parallel);
    if let Format::Schema(schema) = &mut ask.format {
        *schema = Schema { name: None, description: None, strict: None, schema: schema.schema.clone() };
    }
    ask.tools.iter_mut().for_each(|tool| tool.strict = tool.strict.filter(|strict| *strict));
    let mut messages: Vec<Message> = Vec::new();
    for mut message in ask.messages {
        message.parts.retain(|part| !matches!(part, Part::Thought(_)));
        for part in &mut message.parts {
            match part {
                Part::Media(media) => media.detail = None,
                Part::Outcome(outcome) => outcome.name = None,
                Part::Call(call) => call.arguments = parse(&call.arguments).to_string(),
                _ => {}
            }
        }
        if message.role == Role::Developer {
            message.role = Role::System;
        }
        match messages.last_mut() {
            Some(last) if last.role == message.role => last.parts.append(&mut message.parts),
            _ => messages.push(message),
        }
    }
    ask.messages = messages;
    ask
}

#[test]
fn every_door_understands_the_conversation() {
    for door in WIRES {
        let ask = read_ask(door, asked(door).to_string().as_bytes()).expect("readable");
        assert_eq!(ask.left_out, Vec::<String>::new(), "{door:?}");
        assert_eq!(plain(ask), meant(), "{door:?}");
    }
}

#[test]
fn it_means_the_same_at_every_upstream() {
    for door in WIRES {
        for upstream in WIRES {
            let carried = carry_ask(door, upstream, asked(door).to_string().as_bytes(), &terms(true));
            let carried = carried.unwrap_or_else(|error| panic!("{door:?} to {upstream:?}: {error}"));
            assert_eq!(carried.left_out, Vec::<String>::new(), "{door:?} to {upstream:?}");
            let body = String::from_utf8(carried.body.clone()).expect("text");
            let ask = read_ask(upstream, &carried.body).expect("readable");
            if upstream != Wire::Generate {
                assert_eq!((ask.model.as_str(), ask.stream), ("parrot-9b", true), "{body}");
            }
            assert_eq!(plain(ask), meant(), "{door:?} to {upstream:?}: {body}");
        }
    }
}

#[test]
fn thoughts_and_wishes_about_them_find_their_words_everywhere() {
    for door in WIRES {
        let mut asked = asked(door);
        let body = asked.as_object_mut().expect("an object");
        for name in ["tool_choice", "tool_config", "temperature"] {
            body.remove(name);
        }
        match door {
            Wire::Chat => asked["reasoning_effort"] = json!("medium"),
            Wire::Responses => asked["reasoning"] = json!({ "effort": "medium", "summary": "auto" }),
            Wire::Messages => {
                asked["thinking"] = json!({ "type": "adaptive", "display": "updates" });
                asked["output_config"]["effort"] = json!("medium");
            }
            _ => {
                asked["generationConfig"]["thinkingConfig"] =
                    json!({ "thinkingLevel": "MEDIUM", "includeThoughts": true });
                asked["generationConfig"]["temperature"] = Value::Null;
            }
        }
        for upstream in WIRES {
            let carried = carry_ask(door, upstream, asked.to_string().as_bytes(), &terms(true)).expect("carried");
            let ask = read_ask(upstream, &carried.body).expect("readable");
            let amount = ask.thinking.amount;
            use salon_engine::wire::talk::Amount;
            let effort = match amount {
                Amount::Effort(effort) => effort,
                Amount::Budget(tokens) => Effort::of_budget(tokens),
                other => panic!("{door:?} to {upstream:?}: {other:?}"),
            };
            assert_eq!(effort, Effort::Medium, "{door:?} to {upstream:?}");
            let shows = upstream != Wire::Chat && door != Wire::Chat;
            if shows {
                assert_eq!(ask.thinking.show, Some(true), "{door:?} to {upstream:?}");
            }
            let thoughts = ask.messages.iter().flat_map(|message| &message.parts);
            assert!(thoughts.clone().all(|part| !matches!(part, Part::Thought(_))), "no earlier thought travels");
            assert!(!text_of(&thoughts.cloned().collect::<Vec<_>>()).contains("Hm."));
        }
    }
}

#[test]
fn what_goes_there_and_comes_back_is_what_it_was() {
    let mut asked = asked(Wire::Chat);
    asked["model"] = json!("parrot-9b");
    asked["stop"] = json!(["END"]);
    asked["top_p"] = json!(0.9);
    asked.as_object_mut().expect("an object").remove("temperature");
    for middle in [Wire::Messages, Wire::Generate] {
        let there = carry_ask(Wire::Chat, middle, asked.to_string().as_bytes(), &terms(true)).expect("carried");
        assert!(there.left_out.is_empty(), "{:?}", there.left_out);
        let back = carry_ask(middle, Wire::Chat, &there.body, &terms(true)).expect("carried");
        let mut expected = asked.clone();
        expected["stream_options"] = json!({ "include_usage": true });
        expected["response_format"]["json_schema"]["strict"] = json!(true);
        let body = expected.as_object_mut().expect("an object");
        body.remove("parallel_tool_calls");
        // Neighbours of one side are one message over there.
        let came: Value = parse(std::str::from_utf8(&back.body).expect("text"));
        assert_eq!(came, Value::Object(body.clone()), "over {middle:?}");
    }
}
