//! Lines that no recording has.

use std::fmt::Write as _;

use salon_core::Note;
use salon_engine::EngineError;
use salon_engine::agent::{Errand, Step};
use serde_json::json;

use crate::told::told;
use crate::{errand, maker};

fn tell(agent: &str, lines: &[serde_json::Value]) -> String {
    let text = lines.iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").unwrap();
        text
    });
    told(maker(agent).talk(&errand("hi")).as_mut(), &text, Some(0), "")
}

#[test]
fn what_nobody_understands_is_kept_short_and_clean() {
    for agent in ["codex", "claude", "gemini"] {
        let mut talk = maker(agent).talk(&errand("hi"));
        for line in [
            "npm warn \u{1b}[31mred\u{1b}[0m\u{7}",
            "{\"type\":\"news\",\"at\":1}",
            "[1,2]",
            "{",
            "{\"type\":3}",
            "null",
        ] {
            let steps = talk.hear(line);
            let [Step::Note(Note::Raw { line: kept })] = &steps[..] else { panic!("{agent} {line}: {steps:?}") };
            assert_eq!(kept, &line.replace("\u{1b}[31m", "").replace("\u{1b}[0m", "").replace('\u{7}', ""));
        }
        let deep = format!("{{\"type\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for long in [deep, "x".repeat(3_000_000)] {
            let steps = talk.hear(&long);
            let [Step::Note(Note::Raw { line })] = &steps[..] else { panic!("{agent}: {} steps", steps.len()) };
            assert!(line.chars().count() < 1_100);
        }
        assert_eq!(talk.hear("  "), []);
    }
}

#[test]
fn an_output_of_megabytes_is_cut_in_the_middle() {
    let output: String = (1..400_000).fold(String::new(), |mut text, number| {
        writeln!(text, "{number}").unwrap();
        text
    });
    let item = json!({ "id": "item_0", "type": "command_execution", "command": "seq", "aggregated_output": output, "exit_code": 0, "status": "completed" });
    let result = json!([{ "type": "tool_result", "tool_use_id": "t", "content": output }]);
    for (agent, line) in [
        ("codex", json!({ "type": "item.completed", "item": item })),
        ("claude", json!({ "type": "user", "message": { "content": result } })),
        ("gemini", json!({ "type": "tool_result", "tool_id": "t", "status": "success", "output": output })),
    ] {
        let steps = maker(agent).talk(&errand("hi")).hear(&line.to_string());
        let [Step::Note(Note::CommandCompleted { output, .. })] = &steps[..] else { panic!("{agent}") };
        assert!(output.starts_with("1\n2\n") && output.ends_with("399999\n") && output.len() < 4_100, "{agent}");
    }
}

#[test]
fn what_codex_says_of_other_tools_is_told_too() {
    let item = |kind: &str, item: serde_json::Value| json!({ "type": kind, "item": item });
    let call = |status: &str, result, error| {
        json!({ "id": "a", "type": "mcp_tool_call", "server": "birds", "tool": "find", "arguments": { "name": "kea" },
                "result": result, "error": error, "status": status })
    };
    let tasks =
        |done: bool| json!({ "id": "t", "type": "todo_list", "items": [{ "text": "look", "completed": done }] });
    let found = json!({ "content": [{ "type": "text", "text": "here" }] });
    let change = |path: &str, status: &str| json!({ "id": "f", "type": "file_change", "status": status, "changes": [{ "path": path, "kind": "update" }] });
    assert_eq!(
        tell(
            "codex",
            &[
                item("item.started", call("in_progress", json!(null), json!(null))),
                item("item.completed", call("completed", found, json!(null))),
                item("item.completed", call("failed", json!(null), json!({ "message": "away" }))),
                item("item.started", tasks(false)),
                item("item.updated", tasks(true)),
                item("item.completed", tasks(true)),
                item("item.completed", json!({ "id": "w", "type": "web_search", "query": "kea" })),
                item("item.completed", change("/workspace/src/a.rs", "completed")),
                item("item.completed", change("/workspace/../etc/passwd", "completed")),
                item("item.completed", change("/workspace/b.rs", "failed")),
                item("item.completed", json!({ "id": "x", "type": "dance" })),
                item("item.completed", json!({ "id": "m", "type": "agent_message", "text": "One." })),
                item("item.completed", json!({ "id": "n", "type": "agent_message", "text": "Two." })),
                item("item.completed", json!({ "id": "n", "type": "agent_message", "text": "Two. And more." })),
            ]
        ),
        "starts [birds.find] {\"name\":\"kea\"}
worked [birds.find] {\"name\":\"kea\"}: here
failed [birds.find] {\"name\":\"kea\"}: away
thought [ ] look
thought [x] look
worked [web_search] kea
file src/a.rs Changed
worked [file_change] update /workspace/../etc/passwd
failed [file_change] update /workspace/b.rs
raw {\"type\":\"item.completed\",\"item\":{\"id\":\"x\",\"type\":\"dance\"}}
text One.|⏎⏎Two.| And more.
= done
"
    );
}

#[test]
fn codex_counts_a_thread_that_it_begins_and_no_other() {
    let done = |read: i64, written: i64| {
        json!({ "type": "turn.completed", "usage": { "input_tokens": read, "output_tokens": written } }).to_string()
    };
    let took = |thread: Option<&str>, line: &str| {
        let mut talk = maker("codex").talk(&Errand { thread: thread.map(str::to_owned), ..errand("hi") });
        talk.hear(line).into_iter().find_map(|step| match step {
            Step::Usage(usage) => Some((usage.tokens_in, usage.tokens_out, usage.suspect)),
            _ => None,
        })
    };
    assert_eq!(took(None, &done(120, 15)), Some((120, 15, false)));
    assert_eq!(took(Some("a"), &done(240, 30)), None, "it tells the sum, and nobody knows what it took before");
    assert_eq!((took(None, &done(-1, 30)), took(None, &done(0, 0))), (None, None));
}

#[test]
fn claude_says_each_word_once_in_whatever_order_it_comes() {
    let piece = |text: &str| {
        json!({ "type": "stream_event", "parent_tool_use_id": null, "api_message_id": "m",
                "event": { "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } } })
    };
    let whole = |text: &str| {
        json!({ "type": "assistant", "parent_tool_use_id": null,
                "message": { "id": "m", "content": [{ "type": "text", "text": text }] } })
    };
    let result = |text: &str| json!({ "type": "result", "subtype": "success", "is_error": false, "result": text });
    let end = "finished\n= done\n";
    let all = [piece("one "), piece("two"), whole("one two"), result("one two")];
    assert_eq!(tell("claude", &all), format!("text one |two\n{end}"));
    let ahead = [whole("one two"), piece("one "), piece("two"), result("one two")];
    assert_eq!(tell("claude", &ahead), format!("text one two\n{end}"));
    let rest_is_lost = [piece("one "), whole("one two"), result("one two")];
    assert_eq!(tell("claude", &rest_is_lost), format!("text one |two\n{end}"));
    let start_is_lost = [piece("two"), whole("one two"), result("one two")];
    assert_eq!(tell("claude", &start_is_lost), format!("text two|⏎⏎one two\n{end}"));
    assert_eq!(tell("claude", &[result("one two")]), format!("text one two\n{end}"));
    assert_eq!(tell("claude", &[piece("one")]), "text one\n= agent_cut: The agent ended before it had finished.\n");
    assert_eq!(tell("claude", &[whole("one")]), "text one\n= done\n");
}

#[test]
fn what_a_subagent_of_claude_writes_is_no_answer() {
    let content = json!([{ "type": "text", "text": "I found it" }, { "type": "tool_use", "id": "t", "name": "Read",
        "input": { "file_path": "/workspace/a.rs" } }]);
    let line = json!({ "type": "assistant", "parent_tool_use_id": "t0", "message": { "id": "m", "content": content } });
    let piece = json!({ "type": "stream_event", "parent_tool_use_id": "t0", "event": { "type": "content_block_delta",
        "delta": { "type": "text_delta", "text": "I found it" } } });
    let told = tell("claude", &[piece, line]);
    assert_eq!(told, "thought I found it\nstarts [Read] a.rs\n= agent_cut: The agent ended before it had finished.\n");
}

#[test]
fn a_message_of_gemini_that_came_whole_needs_no_last_word() {
    let message = |more| json!({ "type": "message", "role": "assistant", "content": "Hi.", "delta": more });
    assert_eq!(tell("gemini", &[message(false)]), "text Hi.\n= done\n");
    assert_eq!(tell("gemini", &[message(true)]), "text Hi.\n= agent_cut: The agent ended before it had finished.\n");
    let error = json!({ "type": "error", "severity": "error", "message": "Loop detected, stopping execution" });
    assert_eq!(
        tell("gemini", &[message(false), error]),
        "text Hi.\ntrouble Loop detected, stopping execution\n= agent_failed: The agent failed: Loop detected, stopping execution\n"
    );
}

#[test]
fn what_gemini_failed_at_is_in_its_exit_code_where_its_words_do_not_say_it() {
    let lines =
        json!({ "type": "result", "status": "error", "error": { "message": "[API Error: not now]" } }).to_string();
    for (exit, code) in
        [(173, "agent_rate_limited"), (145, "agent_unauthorized"), (244, "agent_failed"), (1, "agent_failed")]
    {
        let mut talk = maker("gemini").talk(&errand("hi"));
        let told = told(talk.as_mut(), &lines, Some(exit), "");
        assert!(told.contains(&format!("= {code}: ")) && told.ends_with(": not now\n"), "{told}");
    }
}

#[test]
fn no_failure_tells_a_key_an_address_or_a_path() {
    let errors = "Error: key-of-this-run at http://10.1.2.3:8080/x, see /home/agent/.codex/log/a.txt and sk-abc\n";
    for agent in ["codex", "claude", "gemini"] {
        let mut talk = maker(agent).talk(&errand("hi"));
        let Err(EngineError::Failed { message, .. }) = talk.ended(Some(1), errors) else { panic!("{agent}") };
        assert_eq!(message, "The agent failed: Error: … at …, see … and …");
    }
}

#[test]
fn a_thread_that_could_not_be_passed_back_is_none() {
    for (agent, line) in [
        ("codex", json!({ "type": "thread.started", "thread_id": "--last" })),
        ("claude", json!({ "type": "system", "subtype": "init", "session_id": "--continue" })),
        ("gemini", json!({ "type": "init", "session_id": "latest" })),
    ] {
        let steps = maker(agent).talk(&errand("hi")).hear(&line.to_string());
        assert!(matches!(&steps[..], [Step::Note(Note::Raw { .. })]), "{agent}: {steps:?}");
    }
}
