//! What a real gemini said and was told, and what others may say.

use serde_json::Value;

use super::{Acp, Entry};
use crate::EngineError;
use crate::agent::asking::{damage, errand, replay};
use crate::agent::{Errand, Maker, Policy, Step, Talk, Verdict};

macro_rules! transcript {
    ($name:literal) => {
        of!("gemini-", $name)
    };
}

macro_rules! of {
    ($agent:literal, $name:literal) => {
        include_str!(concat!("../../../tests/fixtures/agents/asking/", $agent, $name, ".txt"))
    };
}

const CALL: &str =
    r#"[[call:run_shell_command {"command":"touch made.txt && echo made","description":"Make a file"}]]"#;
const WRITE: &str = r#"[[call:write_file {"file_path":"/workspace/new.txt","content":"one\ntwo\n"}]]"#;
const REPLACE: &str = r#"[[call:replace {"file_path":"/workspace/new.txt","old_string":"two","new_string":"three","instruction":"count"}]]"#;

fn gemini(prompt: &str) -> Errand {
    Errand { model: Some("gemini-2.5-pro".into()), ..errand(prompt) }
}

fn again(prompt: &str, transcript: &str) -> Errand {
    let thread = transcript.split_once("\"sessionId\":\" ").map(|(_, rest)| rest[..36].to_owned());
    Errand { thread, ..gemini(prompt) }
}

#[test]
fn it_is_asked_and_answers() {
    replay(&Acp::gemini(), &gemini("[[words=4]] hello"), transcript!("hello"));
    replay(&Acp::gemini(), &gemini("[[think]][[words=2]] hm"), transcript!("think"));
}

#[test]
fn what_it_repeats_of_a_thread_is_no_answer_even_if_it_comes_late() {
    let transcript = transcript!("resume");
    replay(&Acp::gemini(), &again("[[words=3]] again", transcript), transcript);
    let transcript = transcript!("resume-2");
    replay(&Acp::gemini(), &again("[[words=2]] and again", transcript), transcript);
}

#[test]
fn a_command_is_run_once_it_is_allowed() {
    replay(&Acp::gemini(), &gemini(CALL), transcript!("once"));
    replay(&Acp::gemini(), &gemini(CALL), transcript!("deny"));
}

#[test]
fn what_is_allowed_for_the_run_is_asked_once() {
    replay(&Acp::gemini(), &gemini(&format!("{CALL} {CALL}")), transcript!("session"));
}

#[test]
fn a_change_is_shown_before_it_is_made() {
    replay(&Acp::gemini(), &gemini(WRITE), transcript!("write"));
    replay(&Acp::gemini(), &gemini(REPLACE), transcript!("replace-denied"));
}

#[test]
fn where_nobody_is_asked_nobody_is() {
    replay(&Acp::gemini(), &Errand { policy: Policy::ReadOnly, ..gemini(CALL) }, transcript!("read"));
    replay(&Acp::gemini(), &Errand { policy: Policy::Workspace, ..gemini(CALL) }, transcript!("workspace"));
}

#[test]
fn it_stops_and_an_open_question_is_a_no() {
    replay(&Acp::gemini(), &gemini("[[words=200]][[pace=100]] long"), transcript!("stop"));
    replay(&Acp::gemini(), &gemini(CALL), transcript!("stop-asked"));
}

#[test]
fn it_says_why_it_failed() {
    replay(&Acp::gemini(), &gemini("[[words=2]] x"), transcript!("400"));
    replay(&Acp::gemini(), &gemini("[[words=2]] busy"), transcript!("429"));
    let transcript = transcript!("thread-unknown");
    replay(&Acp::gemini(), &again("x", transcript), transcript);
}

#[test]
fn a_person_s_words_are_no_command() {
    replay(&Acp::gemini(), &gemini("/memory show"), transcript!("slash"));
}

#[test]
fn others_speak_the_same() {
    let errand = |prompt: &str| Errand { model: Some("glm-5".into()), ..errand(prompt) };
    let bash = r#"[[call:bash {"command":"touch made.txt && echo made","description":"Make a file"}]]"#;
    replay(&Acp::opencode(), &errand(bash), of!("opencode-", "once"));
    let write = r#"[[call:write {"filePath":"/workspace/new.txt","content":"one\ntwo\n"}]]"#;
    replay(&Acp::opencode(), &errand(write), of!("opencode-", "write"));
    let transcript = of!("opencode-", "resume");
    let thread = transcript.split_once("\"sessionId\":\"").and_then(|(_, rest)| rest.split('"').next());
    let again = Errand { thread: thread.map(str::to_owned), ..errand("[[words=3]] again") };
    replay(&Acp::opencode(), &again, transcript);
    let shell = r#"[[call:run_shell_command {"command":"touch made.txt && echo made","description":"Make a file","is_background":false}]]"#;
    replay(&Acp::qwen(), &errand(shell), of!("qwen-", "once"));
    let write = r#"[[call:write_file {"file_path":"/workspace/new.txt","content":"one\ntwo\n"}]]"#;
    replay(&Acp::qwen(), &errand(write), of!("qwen-", "write"));
}

#[test]
fn nothing_that_is_damaged_is_allowed() {
    let allows = |value: &Value| {
        value["result"]["outcome"]["optionId"].as_str().is_some_and(|option| option.starts_with("proceed"))
    };
    for transcript in [transcript!("once"), transcript!("session"), transcript!("write"), transcript!("replace-denied")]
    {
        damage(&Acp::gemini(), &gemini(CALL), transcript, allows, 300);
    }
}

/// An agent of nobody in particular, up to its turn.
fn agent(policy: Policy, abilities: &str) -> (Box<dyn Talk>, String) {
    let errand = Errand { policy, ..gemini("hi") };
    let mut talk = Acp::new(Entry::default()).talk(&errand);
    talk.open();
    let mut told =
        hear(talk.as_mut(), &format!(r#"{{"id":1,"result":{{"protocolVersion":1,"agentCapabilities":{abilities}}}}}"#));
    told += &hear(talk.as_mut(), r#"{"id":3,"result":{"sessionId":"ses_1"}}"#);
    (talk, told)
}

fn hear(talk: &mut dyn Talk, line: &str) -> String {
    format!("{:?}", talk.hear(line))
}

fn update(talk: &mut dyn Talk, update: &str) -> String {
    hear(talk, &format!(r#"{{"method":"session/update","params":{{"sessionId":"ses_1","update":{update}}}}}"#))
}

fn permission(options: &str, call: &str) -> String {
    let params = format!(r#"{{"sessionId":"ses_1","options":{options},"toolCall":{call}}}"#);
    format!(r#"{{"id":"q1","method":"session/request_permission","params":{params}}}"#)
}

const OPTIONS: &str = r#"[{"optionId":"y","kind":"allow_once"},{"optionId":"a","kind":"allow_always"},{"optionId":"n","kind":"reject_once"}]"#;

#[test]
fn messages_thoughts_plans_and_tools_are_told() {
    let (mut talk, _) = agent(Policy::Ask, "{}");
    let talk = talk.as_mut();
    let text = |id: &str, text: &str| {
        format!(
            r#"{{"sessionUpdate":"agent_message_chunk","messageId":"{id}","content":{{"type":"text","text":"{text}"}}}}"#
        )
    };
    assert_eq!(update(talk, &text("1", "one")), r#"[Text("one")]"#);
    assert_eq!(update(talk, &text("1", " more")), r#"[Text(" more")]"#);
    let thought = r#"{"sessionUpdate":"agent_thought_chunk","content":{"type":"text","text":"hm"}}"#;
    assert_eq!(update(talk, thought), "[]");
    assert_eq!(update(talk, &text("2", "two")), r#"[Note(Reasoning { text: "hm" }), Text("\n\ntwo")]"#);
    let plan = r#"{"sessionUpdate":"plan","entries":[{"content":"look","status":"completed"},{"content":"write","status":"pending"}]}"#;
    assert_eq!(update(talk, plan), r#"[Note(Reasoning { text: "[x] look\n[ ] write" })]"#);
    assert_eq!(update(talk, plan), "[]");
    let began = r#"{"sessionUpdate":"tool_call","toolCallId":"t","title":"edit","kind":"edit","status":"pending"}"#;
    assert_eq!(update(talk, began), "[]");
    let began = r#"{"sessionUpdate":"tool_call_update","toolCallId":"t","title":"Edit a.rs","status":"in_progress"}"#;
    assert_eq!(update(talk, began), r#"[Note(CommandStarted { command: "Edit a.rs", tool: Some("edit") })]"#);
    let ended = r#"{"sessionUpdate":"tool_call_update","toolCallId":"t","status":"completed","content":[{"type":"diff","path":"/workspace/a.rs","oldText":"a","newText":"b"},{"type":"diff","path":"/workspace/../b","newText":"b"},{"type":"terminal","terminalId":"x"}]}"#;
    let told = update(talk, ended);
    assert!(told.contains(r#"FileChanged { path: "a.rs", change: Changed }"#) && !told.contains(".."), "{told}");
    assert_eq!(update(talk, ended), "[]");
    assert!(update(talk, r#"{"sessionUpdate":"something_new"}"#).starts_with("[Note(Raw"));
    assert!(hear(talk, r#"{"method":"_their/own","params":{}}"#).starts_with("[Note(Raw"));
}

#[test]
fn neither_files_nor_a_terminal_are_offered() {
    let (mut talk, _) = agent(Policy::Full, "{}");
    for method in ["fs/read_text_file", "fs/write_text_file", "terminal/create", "elicitation/create"] {
        let told =
            hear(talk.as_mut(), &format!(r#"{{"id":9,"method":"{method}","params":{{"path":"/workspace/a"}}}}"#));
        assert!(told.contains("-32601"), "{told}");
    }
}

#[test]
fn more_than_the_workspace_is_not_part_of_it() {
    let call = r#"{"toolCallId":"t","title":"Fetch https://example.org","kind":"fetch"}"#;
    let outside = r#"{"toolCallId":"u","title":"Write","kind":"edit","locations":[{"path":"/srv/profile"}]}"#;
    let near = r#"{"toolCallId":"v","title":"Write","kind":"edit","locations":[{"path":"/tmp/a"},{"path":"b/c"}]}"#;
    for (call, allowed) in [(call, false), (outside, false), (near, true)] {
        let (mut talk, _) = agent(Policy::Workspace, "{}");
        let told = hear(talk.as_mut(), &permission(OPTIONS, call));
        assert_eq!(told.contains(r#"\"optionId\":\"y\""#), allowed, "{told}");
    }
}

#[test]
fn no_permission_is_wider_than_what_somebody_said() {
    let call = r#"{"toolCallId":"t","title":"make","kind":"execute"}"#;
    let chosen = |options: &str, verdict: Verdict| {
        let (mut talk, _) = agent(Policy::Ask, "{}");
        talk.hear(&permission(options, call));
        let steps = talk.decide("q1", verdict);
        let Some(Step::Write(line)) = steps.last() else { panic!("{steps:?}") };
        let value: Value = serde_json::from_str(line).expect("JSON");
        value["result"]["outcome"]["optionId"].as_str().map(str::to_owned)
    };
    assert_eq!(chosen(OPTIONS, Verdict::Once).as_deref(), Some("y"));
    assert_eq!(chosen(OPTIONS, Verdict::Session).as_deref(), Some("y"));
    assert_eq!(chosen(OPTIONS, Verdict::Deny).as_deref(), Some("n"));
    let always = r#"[{"optionId":"a","kind":"allow_always"}]"#;
    assert_eq!(chosen(always, Verdict::Once), None);
    assert_eq!(chosen(always, Verdict::Session).as_deref(), Some("a"));
    assert_eq!(chosen(always, Verdict::Deny), None);
    let both = r#"[{"optionId":"y","kind":"allow_once"},{"optionId":"y","kind":"reject_once"}]"#;
    assert_eq!(chosen(both, Verdict::Deny), None);
}

#[test]
fn what_does_not_say_what_it_wants_is_denied() {
    for (options, call) in [
        (OPTIONS, r#"{"toolCallId":"t"}"#),
        (OPTIONS, r#"{"title":"make"}"#),
        (OPTIONS, "null"),
        (r#"[{"optionId":"n","kind":"reject_once"}]"#, r#"{"toolCallId":"t","title":"make"}"#),
        ("null", r#"{"toolCallId":"t","title":"make"}"#),
    ] {
        for policy in [Policy::Ask, Policy::Full] {
            let (mut talk, _) = agent(policy, "{}");
            let told = hear(talk.as_mut(), &permission(options, call));
            let denied = told.contains("cancelled") || told.contains(r#"\"n\""#);
            assert!(denied && !told.contains("Ask("), "{told}");
        }
    }
}

#[test]
fn a_thread_goes_on_in_the_way_that_the_agent_knows() {
    for (abilities, method) in [
        (r#"{"loadSession":true}"#, "session/load"),
        (r#"{"loadSession":true,"sessionCapabilities":{"resume":{}}}"#, "session/resume"),
        ("{}", "Finished"),
    ] {
        let mut talk = Acp::new(Entry::default()).talk(&Errand { thread: Some("ses_1".into()), ..gemini("hi") });
        talk.open();
        let line = format!(r#"{{"id":1,"result":{{"protocolVersion":1,"agentCapabilities":{abilities}}}}}"#);
        let told = hear(talk.as_mut(), &line);
        assert!(told.contains(method), "{told}");
    }
}

#[test]
fn an_agent_of_another_time_is_told_from_one_that_fails() {
    let mut talk = Acp::new(Entry::default()).talk(&gemini("hi"));
    talk.open();
    talk.hear(r#"{"id":1,"result":{"protocolVersion":7}}"#);
    let Err(EngineError::Failed { message, .. }) = talk.ended(Some(0), "") else { panic!("done") };
    assert_eq!(message, "The agent failed: it speaks version 7 of the protocol");
    let (mut talk, _) = agent(Policy::Ask, "{}");
    talk.hear(r#"{"id":5,"error":{"code":-32000,"message":"Authentication required"}}"#);
    let Err(EngineError::Failed { code, .. }) = talk.ended(Some(0), "") else { panic!("done") };
    assert_eq!(code, "agent_unauthorized");
}

#[test]
fn an_entry_is_filled_with_the_door_and_the_model() {
    for acp in [Acp::opencode(), Acp::qwen(), Acp::goose()] {
        assert!(acp.launch(&errand("hi")).is_err(), "it has to be told a model");
        let launch = acp.launch(&Errand { model: Some("glm-5:free".into()), ..errand("--yolo") }).expect("a launch");
        let all = format!("{:?} {:?} {:?}", launch.args, launch.env, launch.files);
        assert!(all.contains("127.0.0.1:9090") && all.contains("k-fake-door-key-1") && all.contains("glm-5:free"));
        assert!(!all.contains("--yolo") && !all.contains("{url}") && !all.contains("{model}"), "{all}");
        // Every process can read another's arguments, and files are kept for the next run.
        assert!(!format!("{:?} {:?}", launch.args, launch.files).contains("k-fake"));
        for (path, text) in &launch.files {
            assert!(path.is_relative());
            serde_json::from_str::<Value>(text).expect("a configuration is JSON");
        }
    }
    let launch = Acp::gemini().launch(&gemini("hi")).expect("a launch");
    assert_eq!(launch.args, ["--acp", "--skip-trust", "--approval-mode", "default", "-m", "gemini-2.5-pro"]);
    assert!(launch.files[0].1.contains("sessionRetention"));
    assert!(Acp::gemini().launch(&Errand { model: Some("a\",\"b".into()), ..errand("hi") }).is_err());
}

/// What is done once an agent has told its modes, and once it has answered when it was put into one.
fn begun(ask: Option<&str>, policy: Policy, modes: &str, answer: &str) -> (Vec<String>, Result<(), EngineError>) {
    let acp = Acp::new(Entry { ask: ask.map(str::to_owned), ..Entry::default() });
    let mut talk = acp.talk(&Errand { policy, ..errand("hello") });
    let mut steps = talk.open();
    for line in [
        r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1}}"#.to_owned(),
        format!(r#"{{"jsonrpc":"2.0","id":3,"result":{{"sessionId":"s-1","modes":{modes}}}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":4,{answer}}}"#),
        r#"{"jsonrpc":"2.0","id":6,"result":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":7,"result":{}}"#.to_owned(),
    ] {
        steps.extend(talk.hear(&line));
    }
    let asked = steps.into_iter().filter_map(|step| match step {
        Step::Write(line) => serde_json::from_str::<Value>(&line).ok(),
        _ => None,
    });
    let told = asked.filter_map(|line| match line["method"].as_str()? {
        "session/set_mode" => Some(format!("mode {}", line["params"]["modeId"].as_str()?)),
        "session/prompt" => Some("prompt".to_owned()),
        _ => None,
    });
    (told.collect(), talk.ended(Some(0), ""))
}

#[test]
fn an_agent_that_must_ask_is_put_into_the_mode_in_which_it_does_or_asked_nothing() {
    let modes = |current: &str, offered: &[&str]| {
        let offered: Vec<Value> = offered.iter().map(|id| serde_json::json!({ "id": id, "name": id })).collect();
        serde_json::json!({ "currentModeId": current, "availableModes": offered }).to_string()
    };
    let (done, refused) = (r#""result":{}"#, r#""error":{"code":-32603,"message":"no"}"#);
    let claude = modes("auto", &["default", "acceptEdits", "plan", "auto"]);
    let ask = |ask, modes: &str, answer| begun(ask, Policy::Ask, modes, answer).0;
    assert_eq!(ask(None, &claude, done), ["mode default", "prompt"]);
    assert_eq!(ask(Some("default"), &claude, done), ["mode default", "prompt"]);
    assert_eq!(ask(None, &modes("default", &["default", "yolo"]), done), ["prompt"]);
    assert_eq!(ask(None, &modes("build", &["build", "plan"]), done), ["prompt"], "its configuration makes it ask");
    assert_eq!(ask(None, "null", done), ["prompt"]);
    assert_eq!(begun(None, Policy::Workspace, &claude, done).0, ["prompt"], "it need not ask");
    for (wanted, modes, answer) in [
        (Some("default"), claude.as_str(), refused),
        (Some("always"), &claude, done),
        (None, &modes("full-access", &["read-only", "auto", "full-access"]), done),
    ] {
        let (told, ended) = begun(wanted, Policy::Ask, modes, answer);
        assert!(!told.contains(&"prompt".to_owned()), "{modes}: {told:?}");
        assert!(matches!(&ended, Err(EngineError::Failed { code, .. }) if *code == "agent_cannot_ask"), "{ended:?}");
    }
    // A thread that is gone on with may tell no modes.
    assert_eq!(ask(Some("default"), "null", done), ["mode default", "prompt"]);
}

#[test]
fn an_argument_may_say_where_the_models_are_and_never_the_key() {
    let args = vec!["-c".to_owned(), "url={url}/v1".to_owned(), "key={key}".to_owned()];
    let launch = Acp::new(Entry { args, ..Entry::default() }).launch(&errand("hello")).expect("it can be started");
    assert_eq!(launch.args, ["-c", "url=http://127.0.0.1:9090/v1", "key={key}"]);
}
