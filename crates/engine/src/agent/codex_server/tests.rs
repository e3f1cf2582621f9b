//! What a real server of codex's said and was told.

use serde_json::Value;

use super::CodexServer;
use crate::agent::asking::{damage, errand, replay};
use crate::agent::{Errand, Maker, Policy};

macro_rules! transcript {
    ($name:literal) => {
        include_str!(concat!("../../../tests/fixtures/agents/asking/codex-", $name, ".txt"))
    };
}

const CALL: &str = r#"[[call:exec_command {"cmd":"touch made.txt && echo made"}]]"#;
const ADD: &str = r#"[[call:exec_command {"cmd": "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: new.txt\n+one\n+two\n*** End Patch\nEOF"}]]"#;
const UPDATE: &str = r#"[[call:exec_command {"cmd": "apply_patch <<'EOF'\n*** Begin Patch\n*** Update File: new.txt\n@@\n one\n-two\n+three\n*** End Patch\nEOF"}]]"#;

fn codex(prompt: &str) -> Errand {
    Errand { model: Some("gpt-5.5".into()), ..errand(prompt) }
}

#[test]
fn a_greeting_is_answered_and_the_thread_goes_on() {
    replay(&CodexServer, &codex("[[words=4]] hello"), transcript!("hello"));
    let again = Errand { thread: thread(transcript!("resume")), ..codex("[[words=3]] again") };
    replay(&CodexServer, &again, transcript!("resume"));
}

/// The thread that a transcript goes on with.
fn thread(transcript: &str) -> Option<String> {
    let rest = transcript.split_once("\"threadId\":\"")?.1;
    Some(rest.split('"').next()?.to_owned())
}

#[test]
fn a_command_is_run_once_it_is_allowed() {
    replay(&CodexServer, &codex(CALL), transcript!("once"));
    replay(&CodexServer, &codex(CALL), transcript!("deny"));
}

#[test]
fn what_is_allowed_for_the_run_is_asked_once() {
    replay(&CodexServer, &codex(&format!("{CALL} {CALL}")), transcript!("session"));
}

#[test]
fn a_change_is_shown_before_it_is_made() {
    replay(&CodexServer, &codex(ADD), transcript!("change"));
    replay(&CodexServer, &codex(UPDATE), transcript!("change-denied"));
}

#[test]
fn where_nobody_is_asked_nobody_is() {
    replay(&CodexServer, &Errand { policy: Policy::ReadOnly, ..codex(CALL) }, transcript!("read"));
    replay(&CodexServer, &Errand { policy: Policy::Workspace, ..codex(CALL) }, transcript!("workspace"));
}

#[test]
fn it_stops_and_an_open_question_is_a_no() {
    replay(&CodexServer, &codex("[[words=200]][[pace=100]] long"), transcript!("stop"));
    replay(&CodexServer, &codex(CALL), transcript!("stop-asked"));
}

#[test]
fn it_is_told_more_while_it_is_at_work() {
    replay(&CodexServer, &codex("[[words=40]][[pace=100]] long"), transcript!("steer"));
}

#[test]
fn it_says_why_it_failed() {
    replay(&CodexServer, &codex("[[words=2]] busy"), transcript!("429-once"));
    replay(&CodexServer, &codex("[[words=2]] busy"), transcript!("429"));
    let unknown = Errand { thread: thread(transcript!("thread-unknown")), ..codex("x") };
    replay(&CodexServer, &unknown, transcript!("thread-unknown"));
}

#[test]
fn nothing_that_is_damaged_is_allowed() {
    let allows = |value: &Value| value["result"]["decision"] == "accept" || value["result"]["scope"] == "session";
    for transcript in [transcript!("once"), transcript!("session"), transcript!("change"), transcript!("change-denied")]
    {
        damage(&CodexServer, &codex(CALL), transcript, allows, 300);
    }
}

#[test]
fn its_command_line_has_nothing_of_a_person_in_it() {
    let evil = Errand { thread: Some("thread-1".into()), ..codex("--dangerously-bypass-approvals-and-sandbox x") };
    let launch = CodexServer.launch(&evil).expect("a launch");
    assert_eq!(launch.args, ["app-server"]);
    for name in ["", "-c", "a b", "../x"] {
        assert!(CodexServer.launch(&Errand { thread: Some(name.into()), ..codex("hi") }).is_err());
        assert!(CodexServer.launch(&Errand { model: Some(name.into()), ..codex("hi") }).is_err());
    }
}

fn ask(line: &str) -> String {
    let mut talk = CodexServer.talk(&codex("hi"));
    talk.open();
    talk.hear(r#"{"id":1,"result":{}}"#);
    talk.hear(r#"{"id":2,"result":{"thread":{"id":"thread-1"}}}"#);
    format!("{:?}", talk.hear(line))
}

#[test]
fn a_wish_for_more_is_told() {
    let escalated = r#"{"id":7,"method":"item/commandExecution/requestApproval","params":{"kind":"command","threadId":"thread-1","command":"/bin/bash -lc 'make \u001b[1mall'","cwd":"/tmp","reason":"It writes outside."}}"#;
    let told = ask(escalated);
    assert!(told.contains(r#"title: "make all""#), "{told}");
    assert!(told.contains(r#"in /tmp\nIts reason: It writes outside."#), "{told}");
    let network = r#"{"id":"n","method":"item/commandExecution/requestApproval","params":{"threadId":"thread-1","command":"curl x","networkApprovalContext":{"host":"example.org","protocol":"https"}}}"#;
    assert!(ask(network).contains(r#"title: "reach example.org (https)""#));
    let permissions = r#"{"id":8,"method":"item/permissions/requestApproval","params":{"threadId":"thread-1","cwd":"/workspace","permissions":{"network":{"enabled":true},"fileSystem":null}}}"#;
    assert!(ask(permissions).contains(r#"title: "more permissions: network""#));
}

#[test]
fn what_does_not_say_what_it_wants_is_denied() {
    for line in [
        r#"{"id":7,"method":"item/commandExecution/requestApproval","params":{"threadId":"thread-1"}}"#,
        r#"{"id":7,"method":"item/commandExecution/requestApproval","params":{"kind":"other","command":"x"}}"#,
        r#"{"id":7,"method":"item/fileChange/requestApproval","params":{"threadId":"thread-1","itemId":"unheard"}}"#,
    ] {
        let told = ask(line);
        assert!(told.contains("decline") && !told.contains("Ask"), "{told}");
    }
    assert!(ask(r#"{"id":7,"method":"anything/else","params":{}}"#).contains("-32601"));
}
