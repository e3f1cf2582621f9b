//! What today's command lines send, and how they are answered by models that speak otherwise. The requests are recorded
//! ones, with long texts shortened.

use salon_engine::wire::Wire;
use salon_engine::wire::carry::{Carrier, carry_ask};
use serde_json::{Value, json};

use crate::cast::*;

const CODEX: &str = include_str!("../fixtures/carry/agents/codex.json");
const CODE_MODE: &str = include_str!("../fixtures/carry/agents/codex-code-mode.json");
const CLAUDE: &str = include_str!("../fixtures/carry/agents/claude-code.json");
const GEMINI: &str = include_str!("../fixtures/carry/agents/gemini-cli.json");
const ROUTER: &str = include_str!("../fixtures/carry/agents/gemini-cli-router.json");
const QWEN: &str = include_str!("../fixtures/carry/agents/qwen-code.json");

struct Sent {
    body: Value,
    left_out: Vec<String>,
    carrier: Carrier,
}

fn send(from: Wire, to: Wire, body: &str) -> Sent {
    let carried = carry_ask(from, to, body.as_bytes(), &terms(true)).unwrap_or_else(|error| panic!("{error}"));
    Sent {
        body: parse(std::str::from_utf8(&carried.body).expect("text")),
        left_out: carried.left_out,
        carrier: Carrier::new(&carried.back),
    }
}

impl Sent {
    fn hears(mut self, stream: &str) -> Vec<Value> {
        let mut out = Vec::new();
        self.carrier.push(stream.as_bytes(), &mut out).expect("readable");
        self.carrier.end(&mut out).expect("whole");
        let out = String::from_utf8(out).expect("text");
        out.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]").map(parse).collect()
    }
}

/// A chat stream in which one tool is called.
fn chat_call(name: &str, arguments: &Value) -> String {
    let call = json!({ "index": 0, "id": "call_1", "type": "function",
                       "function": { "name": name, "arguments": arguments.to_string() } });
    let chunk = |delta: Value, finish: Value| {
        format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] }))
    };
    let usage =
        json!({ "choices": [], "usage": { "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120 } });
    [
        chunk(json!({ "role": "assistant", "tool_calls": [call] }), Value::Null),
        chunk(json!({}), json!("tool_calls")),
        format!("data: {usage}\n\ndata: [DONE]\n\n"),
    ]
    .concat()
}

fn names(body: &Value, tools: &str, name: &str) -> Vec<String> {
    let tools = body.pointer(tools).and_then(Value::as_array).expect("tools");
    tools.iter().map(|tool| tool.pointer(name).and_then(Value::as_str).expect("a name").to_owned()).collect()
}

#[test]
fn codex_offers_its_tools_as_functions() {
    let sent = send(Wire::Responses, Wire::Chat, CODEX);
    assert_eq!(sent.left_out, ["tools.tool_search", "tools.web_search"]);
    let known = ["exec_command", "write_stdin", "apply_patch", "multi_agent_v1__spawn_agent"];
    assert_eq!(names(&sent.body, "/tools", "/function/name"), known);
    let patch = &sent.body["tools"][2]["function"];
    assert!(patch["description"].as_str().expect("text").contains("lark grammar:\nstart: begin hunk+ end"));
    assert_eq!(patch["parameters"]["required"], json!(["input"]));
    let messages = sent.body["messages"].as_array().expect("a list");
    let roles: Vec<&str> = messages.iter().map(|message| message["role"].as_str().expect("a role")).collect();
    assert_eq!(roles, ["system", "user", "user", "assistant", "tool"]);
    assert_eq!(messages[3]["tool_calls"][0]["function"]["name"], "exec_command");
    assert_eq!(messages[4]["tool_call_id"], messages[3]["tool_calls"][0]["id"]);
    assert!(!sent.body.to_string().contains("gAAAAB-sealed"), "sealed thoughts do not travel");
    assert_eq!((&sent.body["reasoning_effort"], &sent.body["verbosity"]), (&json!("medium"), &json!("low")));
}

#[test]
fn codex_gets_its_custom_calls_back_as_custom_calls() {
    let patch = "*** Begin Patch\n*** End Patch";
    let events = send(Wire::Responses, Wire::Chat, CODEX).hears(&chat_call("apply_patch", &json!({ "input": patch })));
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.custom_tool_call_input.delta",
            "response.custom_tool_call_input.done",
            "response.output_item.done",
            "response.completed"
        ]
    );
    let item = json!({
        "id": "ctc_01CALL_0", "type": "custom_tool_call", "status": "completed", "input": patch,
        "call_id": "call_1", "name": "apply_patch"
    });
    assert_eq!(events[5]["item"], item);
    let response = &events[6]["response"];
    assert_eq!(response["output"], json!([item]));
    assert_eq!(response["usage"]["total_tokens"], 120);
    // It repeats what was asked, as the real one does.
    assert_eq!(response["tools"], parse(CODEX)["tools"]);
    assert_eq!((&response["store"], &response["reasoning"]), (&json!(false), &json!({ "effort": "medium" })));
}

#[test]
fn codex_in_code_mode_keeps_its_namespaces() {
    let sent = send(Wire::Responses, Wire::Messages, CODE_MODE);
    let known = ["exec", "wait", "clock__sleep", "collaboration__followup_task", "collaboration__interrupt_agent"];
    assert_eq!(names(&sent.body, "/tools", "/name"), known);
    let call = &sent.body["messages"][1]["content"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("tool_use"), &json!("exec")));
    assert!(call["input"]["input"].as_str().expect("text").starts_with("const r = await tools.exec_command"));
    let result = &sent.body["messages"][2]["content"][0];
    assert_eq!((&result["type"], &result["tool_use_id"]), (&json!("tool_result"), &call["id"]));

    let called = |name: &str, input: &str| {
        let sent = send(Wire::Responses, Wire::Chat, CODE_MODE);
        let events = sent.hears(&chat_call(name, &parse(input)));
        let done = events.iter().find(|event| event["type"] == "response.output_item.done").expect("an item").clone();
        let item = &done["item"];
        json!([item["type"], item["namespace"], item["name"], item["input"], item["arguments"]])
    };
    assert_eq!(called("exec", r#"{"input":"1 + 1"}"#), json!(["custom_tool_call", "functions", "exec", "1 + 1", null]));
    assert_eq!(
        called("clock__sleep", r#"{"duration_ms":5}"#),
        json!(["function_call", "clock", "sleep", null, "{\"duration_ms\":5}"])
    );
}

#[test]
fn claude_code_talks_to_a_chat_model() {
    let sent = send(Wire::Messages, Wire::Chat, CLAUDE);
    assert_eq!(sent.left_out, ["context_management"]);
    let messages = sent.body["messages"].as_array().expect("a list");
    let roles: Vec<&str> = messages.iter().map(|message| message["role"].as_str().expect("a role")).collect();
    // Its environment comes in the midst, and stays there.
    assert_eq!(roles, ["system", "user", "system", "assistant", "tool"]);
    assert_eq!(sent.body["reasoning_effort"], "medium");
    assert_eq!(sent.body["max_tokens"], 128_000);
    let events = sent.hears(&chat_call("Bash", &json!({ "command": "ls" })));
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    assert_eq!(
        kinds,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert_eq!(events[1]["content_block"], json!({ "type": "tool_use", "id": "call_1", "name": "Bash", "input": {} }));
    assert_eq!(events[4]["delta"]["stop_reason"], "tool_use");
    assert_eq!(events[4]["usage"]["output_tokens"], 20);
}

#[test]
fn claude_code_talks_to_gemini_and_to_responses() {
    let sent = send(Wire::Messages, Wire::Generate, CLAUDE);
    assert_eq!(sent.body["systemInstruction"]["parts"].as_array().map(Vec::len), Some(4));
    let call = &sent.body["contents"][1]["parts"][0];
    assert_eq!(call["thoughtSignature"], "skip_thought_signature_validator");
    assert_eq!(sent.body["contents"][2]["parts"][0]["functionResponse"]["name"], "Bash");
    assert_eq!(
        sent.body["generationConfig"]["thinkingConfig"],
        json!({ "thinkingBudget": 8192, "includeThoughts": true })
    );
    let sent = send(Wire::Messages, Wire::Responses, CLAUDE);
    assert_eq!(sent.body["reasoning"], json!({ "effort": "medium", "summary": "auto" }));
    assert_eq!(sent.body["store"], false);
}

#[test]
fn gemini_cli_talks_to_everybody() {
    for to in [Wire::Chat, Wire::Responses, Wire::Messages] {
        let sent = send(Wire::Generate, to, GEMINI);
        assert!(
            sent.left_out.iter().all(|name| name == "generationConfig.topK" || name == "generationConfig.topP"),
            "{:?}",
            sent.left_out
        );
        let pointer = if to == Wire::Chat { "/function/name" } else { "/name" };
        assert_eq!(names(&sent.body, "/tools", pointer), ["update_topic", "list_directory"]);
    }
    let sent = send(Wire::Generate, Wire::Chat, GEMINI);
    let chunks = sent.hears(&chat_call("list_directory", &json!({ "dir_path": "." })));
    let call = &chunks[0]["candidates"][0]["content"]["parts"][0]["functionCall"];
    assert_eq!(*call, json!({ "id": "call_1", "name": "list_directory", "args": { "dir_path": "." } }));
    let last = chunks.last().expect("an end");
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    assert_eq!(last["usageMetadata"]["totalTokenCount"], 120);
}

#[test]
fn geminis_router_gets_its_json_from_everybody() {
    let schema = json!({
        "type": "object",
        "properties": {
            "complexity_reasoning": { "type": "string", "description": "Brief explanation for the score." },
            "complexity_score": { "type": "integer", "description": "Complexity score from 1-100." }
        },
        "required": ["complexity_reasoning", "complexity_score"]
    });
    let sent = send(Wire::Generate, Wire::Chat, ROUTER);
    let format = &sent.body["response_format"]["json_schema"];
    assert_eq!((&format["schema"], &format["strict"]), (&schema, &json!(false)));
    let sent = send(Wire::Generate, Wire::Messages, ROUTER);
    let mut closed = schema;
    closed["additionalProperties"] = json!(false);
    assert_eq!(sent.body["output_config"]["format"]["schema"], closed);
}

#[test]
fn qwen_code_talks_to_claude() {
    let sent = send(Wire::Chat, Wire::Messages, QWEN);
    assert!(sent.left_out.is_empty(), "{:?}", sent.left_out);
    assert_eq!(sent.body["max_tokens"], 32_000);
    assert_eq!(sent.body["messages"][2]["content"][0]["type"], "tool_result");
    // A function without arguments has some all the same.
    let bare =
        parse(QWEN)["tools"].as_array().expect("tools").iter().any(|tool| tool["function"].get("parameters").is_none());
    let schemas: Vec<&Value> =
        sent.body["tools"].as_array().expect("tools").iter().map(|tool| &tool["input_schema"]).collect();
    assert!(schemas.iter().all(|schema| schema["type"] == "object"), "{bare}: {schemas:?}");
}
