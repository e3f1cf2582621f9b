//! What a real claude said and was told.

use serde_json::Value;

use super::ClaudeAsks;
use crate::agent::asking::{damage, errand, replay};
use crate::agent::{Errand, Maker, Policy};

macro_rules! transcript {
    ($name:literal) => {
        include_str!(concat!("../../../tests/fixtures/agents/asking/claude-", $name, ".txt"))
    };
}

const CALL: &str = r#"[[call:Bash {"command":"touch made.txt && echo made","description":"Make a file"}]]"#;
const WRITE: &str = r#"[[call:Write {"file_path":"/workspace/new.txt","content":"one\ntwo\n"}]]"#;
const EDIT: &str = r#"[[call:Edit {"file_path":"/workspace/new.txt","old_string":"two","new_string":"three"}]]"#;
const ELSEWHERE: &str = r#"[[call:Write {"file_path":"/srv/elsewhere.txt","content":"x"}]]"#;

fn claude(prompt: &str) -> Errand {
    Errand { model: Some("sonnet".into()), ..errand(prompt) }
}

#[test]
fn it_is_asked_and_answers() {
    replay(&ClaudeAsks, &claude("hello"), transcript!("hello"));
    replay(&ClaudeAsks, &claude("[[words=3]] again"), transcript!("resume"));
}

#[test]
fn a_command_is_run_once_it_is_allowed() {
    replay(&ClaudeAsks, &claude(CALL), transcript!("once"));
    replay(&ClaudeAsks, &claude(CALL), transcript!("deny"));
}

#[test]
fn what_is_allowed_for_the_run_is_asked_once() {
    replay(&ClaudeAsks, &claude(&format!("{CALL} {CALL}")), transcript!("session"));
}

#[test]
fn a_change_is_shown_before_it_is_made() {
    replay(&ClaudeAsks, &claude(WRITE), transcript!("write"));
    replay(&ClaudeAsks, &claude(EDIT), transcript!("edit-denied"));
    replay(&ClaudeAsks, &claude(ELSEWHERE), transcript!("elsewhere"));
}

#[test]
fn where_nobody_is_asked_nobody_is() {
    for (policy, transcript) in [
        (Policy::ReadOnly, transcript!("read")),
        (Policy::Workspace, transcript!("workspace")),
        (Policy::Full, transcript!("full")),
    ] {
        replay(&ClaudeAsks, &Errand { policy, ..claude(CALL) }, transcript);
    }
}

#[test]
fn it_stops_and_an_open_question_is_a_no() {
    replay(&ClaudeAsks, &claude("[[words=200]][[pace=100]] long"), transcript!("stop"));
    replay(&ClaudeAsks, &claude(CALL), transcript!("stop-asked"));
}

#[test]
fn what_it_is_told_meanwhile_has_its_turn_before_it_is_done() {
    replay(&ClaudeAsks, &claude("[[words=10]][[pace=100]] long"), transcript!("steer"));
    replay(&ClaudeAsks, &claude(CALL), transcript!("steer-tool"));
}

#[test]
fn it_says_why_it_failed() {
    replay(&ClaudeAsks, &claude("[[words=2]] busy"), transcript!("429-once"));
    replay(&ClaudeAsks, &claude("[[words=2]] busy"), transcript!("500"));
    replay(&ClaudeAsks, &claude("x"), transcript!("thread-unknown"));
}

#[test]
fn nothing_that_is_damaged_is_allowed() {
    let allows = |value: &Value| value["response"]["response"]["behavior"] == "allow";
    for transcript in [transcript!("once"), transcript!("session"), transcript!("write"), transcript!("edit-denied")] {
        damage(&ClaudeAsks, &claude(CALL), transcript, allows, 300);
    }
}

#[test]
fn its_command_line_has_nothing_of_a_person_in_it() {
    let evil = Errand { thread: Some("thread-1".into()), ..claude("--dangerously-skip-permissions x") };
    let launch = ClaudeAsks.launch(&evil).expect("a launch");
    assert!(!launch.args.iter().any(|arg| arg.contains("skip-permissions")), "{:?}", launch.args);
    assert!(launch.args.windows(2).any(|pair| pair == ["--permission-prompt-tool", "stdio"]));
    assert!(launch.args.windows(2).any(|pair| pair == ["--permission-mode", "manual"]));
    for name in ["", "-c", "a b", "../x"] {
        assert!(ClaudeAsks.launch(&Errand { thread: Some(name.into()), ..claude("hi") }).is_err());
        assert!(ClaudeAsks.launch(&Errand { model: Some(name.into()), ..claude("hi") }).is_err());
    }
}

fn ask(policy: Policy, request: &str) -> String {
    let mut talk = ClaudeAsks.talk(&Errand { policy, ..claude("hi") });
    talk.open();
    format!("{:?}", talk.hear(&format!(r#"{{"type":"control_request","request_id":"r1","request":{request}}}"#)))
}

#[test]
fn a_wish_for_more_is_told_and_no_part_of_what_may_be_done_in_a_workspace() {
    let outside = r#"{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"cat /etc/passwd"},"blocked_path":"/etc/passwd","decision_reason":"\u001b[31mIt is elsewhere.","decision_reason_type":"workingDir"}"#;
    let told = ask(Policy::Ask, outside);
    assert!(told.contains("outside the workspace") && told.contains(r"It asks because: It is elsewhere.\n"), "{told}");
    assert!(ask(Policy::Workspace, outside).contains("deny"));
    assert!(ask(Policy::Full, outside).contains("allow"));
    let fetch = r#"{"subtype":"can_use_tool","tool_name":"WebFetch","input":{"url":"http://example.org"}}"#;
    assert!(ask(Policy::Workspace, fetch).contains("deny"));
    assert!(ask(Policy::Ask, fetch).contains(r#"title: "fetch http://example.org""#));
}

#[test]
fn what_does_not_say_what_it_wants_is_denied() {
    for request in [
        r#"{"subtype":"can_use_tool","tool_name":"Bash"}"#,
        r#"{"subtype":"can_use_tool","tool_name":"Bash","input":{}}"#,
        r#"{"subtype":"can_use_tool","input":{"command":"x"}}"#,
        r#"{"subtype":"can_use_tool","tool_name":"Write","input":{"file_path":" ","content":""}}"#,
        r#"{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[]}}"#,
    ] {
        let told = ask(Policy::Full, request);
        assert!(told.contains("deny") && !told.contains("Ask(") && !told.contains("allow\\\""), "{told}");
    }
    assert!(ask(Policy::Full, r#"{"subtype":"mcp_message"}"#).contains("not supported"));
}
