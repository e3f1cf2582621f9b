//! How each agent is started.

use proptest::prelude::*;
use salon_engine::EngineError;
use salon_engine::agent::acp::{Acp, Entry};
use salon_engine::agent::{Errand, Launch, Maker as _, Policy, Step};

use crate::{errand, maker};

const AGENTS: [&str; 3] = ["codex", "claude", "gemini"];
const POLICIES: [Policy; 4] = [Policy::Ask, Policy::ReadOnly, Policy::Workspace, Policy::Full];

fn launch(agent: &str, errand: &Errand) -> Launch {
    maker(agent).launch(errand).unwrap()
}

/// The arguments in one line, for an errand with a model that goes on with a thread, and for one with neither.
fn args(agent: &str, policy: Policy) -> [String; 2] {
    let bare = Errand { policy, ..errand("say hello") };
    let full = Errand { thread: Some("thread-1".into()), model: Some("gpt-5.5".into()), ..bare.clone() };
    [full, bare].map(|errand| launch(agent, &errand).args.join(" "))
}

#[test]
fn codex_is_started_for_each_policy() {
    let [full, bare] = args("codex", Policy::Workspace);
    let start = "exec --json --skip-git-repo-check -C /workspace -s danger-full-access";
    assert_eq!(full, format!("{start} -m gpt-5.5 resume thread-1 -"));
    assert_eq!(bare, format!("{start} -"));
    assert_eq!(args("codex", Policy::Full), args("codex", Policy::Workspace));
    assert_eq!(args("codex", Policy::ReadOnly)[1], "exec --json --skip-git-repo-check -C /workspace -s read-only -");
    // Where the cell holds it to looking, it may look by commands.
    let held = launch("codex", &Errand { held: true, ..errand("say hello") });
    assert_eq!(held.args.join(" "), format!("{start} -"));
}

#[test]
fn claude_is_started_for_each_policy() {
    let [full, bare] = args("claude", Policy::Full);
    let start = "-p --verbose --output-format stream-json --include-partial-messages --setting-sources user --strict-mcp-config";
    let end = "--permission-mode bypassPermissions";
    assert_eq!(full, format!("{start} --model gpt-5.5 --resume thread-1 {end}"));
    assert_eq!(bare, format!("{start} {end}"));
    let end = "--permission-mode acceptEdits --allowedTools Bash Read Glob Grep";
    assert_eq!(args("claude", Policy::Workspace)[1], format!("{start} {end}"));
    let end = "--permission-mode dontAsk --allowedTools Read Glob Grep";
    assert_eq!(args("claude", Policy::ReadOnly)[1], format!("{start} {end}"));
}

#[test]
fn gemini_is_started_for_each_policy() {
    let [full, bare] = args("gemini", Policy::Workspace);
    let start = "-o stream-json --skip-trust --approval-mode";
    assert_eq!(full, format!("{start} yolo -m gpt-5.5 --resume thread-1"));
    assert_eq!(bare, format!("{start} yolo"));
    assert_eq!(args("gemini", Policy::Full), args("gemini", Policy::Workspace));
    assert_eq!(args("gemini", Policy::ReadOnly)[1], format!("{start} default"));
}

#[test]
fn who_cannot_ask_says_so_and_would_at_most_look() {
    for agent in AGENTS {
        assert!(!maker(agent).asks());
        let [asking, looking] =
            [Policy::Ask, Policy::ReadOnly].map(|policy| launch(agent, &Errand { policy, ..errand("hi") }));
        assert_eq!(asking, looking, "{agent}");
    }
    assert!(Acp::new(Entry::default()).asks());
    assert!(!Acp::new(Entry { silent: true, ..Entry::default() }).asks());
}

#[test]
fn a_policy_is_read_as_it_is_written_and_the_last_one_is_not_named() {
    for policy in Policy::NAMED {
        assert_eq!(Policy::parse(policy.as_str()), Some(policy));
    }
    assert_eq!(Policy::parse(Policy::Full.as_str()), None);
}

#[test]
fn models_are_asked_at_the_door_with_its_key_alone() {
    for (agent, key, address) in [
        ("codex", "SALON_DOOR_KEY", "base_url = \"http://127.0.0.1:4300/v1\"\nenv_key = \"SALON_DOOR_KEY\"\n"),
        ("claude", "ANTHROPIC_API_KEY", "http://127.0.0.1:4300"),
        ("gemini", "GEMINI_API_KEY", "http://127.0.0.1:4300"),
    ] {
        let Launch { args, env, files } = launch(agent, &errand("hi"));
        let keys: Vec<_> = env.iter().filter(|(_, value)| value == "key-of-this-run").map(|(name, _)| name).collect();
        assert_eq!(keys, [key]);
        let texts: Vec<_> = env.iter().map(|(_, value)| value).chain(files.iter().map(|(_, text)| text)).collect();
        assert!(texts.iter().any(|text| text.contains(address)), "{agent}");
        assert!(!format!("{:?}", launch(agent, &errand("hi"))).contains("key-of-this-run"));
        let elsewhere = args.join(" ") + &files.iter().map(|(_, text)| text.as_str()).collect::<String>();
        assert!(!elsewhere.contains("key-of-this-run"), "{agent}: arguments can be seen by others, files stay");
    }
}

#[test]
fn nothing_about_a_start_is_left_to_chance_and_files_stay_at_home() {
    for agent in AGENTS {
        for policy in POLICIES {
            let errand = Errand { policy, ..errand("hi") };
            assert_eq!(launch(agent, &errand), launch(agent, &errand));
            for (path, _) in launch(agent, &errand).files {
                assert!(path.is_relative() && path.components().all(|part| part.as_os_str() != ".."), "{path:?}");
            }
        }
    }
    let settings = &launch("gemini", &errand("hi")).files[0].1;
    let settings: serde_json::Value = serde_json::from_str(settings).unwrap();
    assert_eq!(settings["security"]["auth"]["selectedType"], "gemini-api-key");
    let [(path, settings)] = &launch("claude", &errand("hi")).files[..] else { panic!("one file") };
    assert_eq!(path.to_str(), Some(".claude/settings.json"), "no hook outlives its run");
    assert_eq!(settings, "{ \"cleanupPeriodDays\": 3650 }\n");
}

#[test]
fn names_that_are_none_are_refused() {
    for agent in AGENTS {
        for name in ["", "-m", "--dangerously-skip-permissions", "a b", "a\0", "$(id)", "모델", "a\"\nb = 1"] {
            let model = Errand { model: Some(name.into()), ..errand("hi") };
            let thread = Errand { thread: Some(name.into()), ..errand("hi") };
            for errand in [model, thread] {
                let Err(EngineError::Failed { code, message }) = maker(agent).launch(&errand) else { panic!("{name}") };
                assert!(["agent_model_name", "agent_thread_name"].contains(&code), "{code}");
                assert!(name.is_empty() || !message.contains(name));
            }
        }
        let latest = Errand { thread: Some("latest".into()), ..errand("hi") };
        assert!(maker(agent).launch(&latest).is_err());
    }
}

#[test]
fn a_prompt_is_no_command_of_the_agent() {
    for (agent, first) in
        [("codex", "/status"), ("claude", "[User Message]\n/status"), ("gemini", "[User Message]\n/status")]
    {
        let steps = maker(agent).talk(&errand("/status")).open();
        assert_eq!(steps, [Step::Write(first.into()), Step::CloseInput]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_prompt_changes_nothing_about_a_start(prompt in prop_oneof![
        Just("--dangerously-bypass-approvals-and-sandbox x".to_owned()),
        Just("resume".to_owned()),
        Just("--version".to_owned()),
        "(?s).{0,200}",
    ]) {
        for agent in AGENTS {
            for policy in POLICIES {
                let given = launch(agent, &Errand { policy, ..errand(&prompt) });
                prop_assert_eq!(given, launch(agent, &Errand { policy, ..errand("") }));
            }
            let steps = maker(agent).talk(&errand(&prompt)).open();
            let [Step::Write(written), Step::CloseInput] = &steps[..] else { panic!("{steps:?}") };
            prop_assert!(written.ends_with(&prompt));
        }
    }
}
