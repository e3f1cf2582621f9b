//! Programs of nobody, which do what real ones do seldom: they cannot ask, or they have changed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use salon::agents::Hosts;
use salon_cli::config::{AcpConfig, AgentConfig, Config};
use salon_engine::agent::Policy;

use crate::chat::Chat;

/// A program that is this script, in a folder of the test's.
pub fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let program = folder.join(name);
    std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// An agent of the configuration that does what it wants without asking.
pub fn silent(name: &str, program: PathBuf) -> AgentConfig {
    AgentConfig {
        name: name.to_owned(),
        program: Some(program),
        model: None,
        policy: Policy::Workspace,
        show: Vec::new(),
        hosts: Hosts::default(),
        steer: true,
        acp: Some(AcpConfig {
            args: Vec::new(),
            model_args: Vec::new(),
            env: Vec::new(),
            ask_mode: None,
            read_only_mode: None,
            silent: true,
        }),
    }
}

/// A program that has lost a flag, and tells more than it should. It says the key that it was given, under all the names
/// that there are for it.
const CHANGED: &str = r#"case "$*" in
*--version*) echo "agent 9.9.9" ;;
*--help*) echo "  -C, --cd <DIR>"; echo "  -s, --sandbox <MODE>"; echo "  --skip-git-repo-check"; echo "  -m, -c" ;;
*)
  echo "reading /srv/agent/config.toml" >&2
  echo "error: unexpected argument '--json' found" >&2
  echo "  key $SALON_DOOR_KEY $ANTHROPIC_API_KEY $GEMINI_API_KEY" >&2
  echo "  tip: try sk-proj-4f9a8b7c6d5e or ghp_0123456789abcdef at https://api.example.org/v1" >&2
  exit 2 ;;
esac"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_has_lost_a_flag_says_so_in_the_chat_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), "agent", CHANGED);
    for policy in [Policy::Workspace, Policy::Ask] {
        for agent in ["codex", "claude", "gemini"] {
            let changed = |config: &mut Config| {
                for agent in &mut config.agents {
                    agent.program = Some(program.clone());
                    agent.steer = false;
                }
            };
            let chat = Chat::open_on(policy, agent, "", changed).await;
            let alice = chat.person();
            alice.says("hello");
            let told = alice.hears("unexpected argument '--json' found").await;
            let told = told["text"].as_str().unwrap();
            assert!(told.starts_with("⚠️ The agent failed: error: unexpected argument"), "{agent}: {told}");
            for secret in ["salon_", "sk-proj", "4f9a8b7c6d5e", "ghp_", "0123456789abcdef", "api.example.org", "/srv"] {
                assert!(!told.contains(secret), "{agent} told {secret}: {told}");
            }
            assert_eq!(chat.waiting().await, 0, "{agent}");
        }
    }
}

#[test]
fn doctor_names_the_flags_that_an_agent_has_lost_and_the_bot_whose_agent_cannot_ask() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), "agent", CHANGED);
    let there = program.display();
    let config = format!(
        "[agents.codex]\nprogram = \"{there}\"\npolicy = \"workspace\"\nsteer = false\n\n\
         [agents.mine]\nprogram = \"{there}\"\nacp = [\"serve\"]\nasks = false\npolicy = \"read-only\"\n"
    );
    std::fs::write(folder.path().join("salon.toml"), config).unwrap();
    let doctor = |adapter: &str| {
        let list = format!(
            "bots:\n  - bot_id: builder\n    telegram_token: '1:a'\n    owner_user_id: 7\n    adapter: {adapter}\n    policy: ask\n    mode: \"off\"\n"
        );
        std::fs::write(folder.path().join("bots.yaml"), list).unwrap();
        #[expect(clippy::disallowed_methods, reason = "this test is about the program as a process")]
        let mut salon = Command::new(env!("CARGO_BIN_EXE_salon"));
        salon.args(["doctor", "--agents"]).current_dir(folder.path()).env_clear();
        salon.env("PATH", std::env::var_os("PATH").unwrap());
        for (name, value) in [("SALON_DATA", "data"), ("SALON_BOTS", "bots.yaml"), ("SALON_CONFIG", "salon.toml")] {
            salon.env(name, folder.path().join(value));
        }
        salon.env("SALON_LISTEN", "127.0.0.1:0").env("TELEGRAM_API_BASE_URL", "http://127.0.0.1:9");
        let told = salon.output().unwrap();
        assert!(!told.status.success());
        // What was opened to be looked at was closed: the next start has nothing to wonder at.
        assert!(folder.path().join("data/salon.db").exists() && !folder.path().join("data/salon.db-wal").exists());
        String::from_utf8(told.stdout).unwrap()
    };
    let told = doctor("codex");
    assert!(told.contains("BAD   agent codex is agent 9.9.9 and does not know --json"), "{told}");
    assert!(!told.contains("cannot ask"), "{told}");
    let told = doctor("mine");
    assert!(told.contains("BAD   bot builder: its policy is ask, and mine cannot ask before it acts"), "{told}");
}
