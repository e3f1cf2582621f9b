//! An agent that is nothing but an entry of the configuration: a real one that speaks the Agent Client Protocol.

use salon::agents::Hosts;
use salon_cli::config::{AcpConfig, AgentConfig, Config};
use salon_engine::agent::Policy;
use serde_json::json;

use crate::chat::Chat;
use crate::real::program;

/// The adapter for codex as docs/guide/agents.md has it.
fn entry(ask_mode: &str) -> AgentConfig {
    let codex = json!({
        "model": "{model}",
        "model_provider": "salon",
        "model_providers": { "salon": {
            "name": "Salon", "base_url": "{url}/v1", "env_key": "SALON_DOOR_KEY", "wire_api": "responses",
        } },
    });
    let codex = codex.to_string();
    let env = [("CODEX_CONFIG", codex.as_str()), ("SALON_DOOR_KEY", "{key}"), ("NO_BROWSER", "1")];
    AgentConfig {
        name: "codex-acp".to_owned(),
        program: Some(program("codex-acp")),
        model: Some("gpt".to_owned()),
        policy: Policy::Ask,
        show: Vec::new(),
        hosts: Hosts::default(),
        steer: true,
        acp: Some(AcpConfig {
            args: Vec::new(),
            model_args: Vec::new(),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ask_mode: Some(ask_mode.to_owned()),
            read_only_mode: Some("read-only".to_owned()),
            silent: false,
        }),
    }
}

/// What makes its model want a command. Its own sandbox cannot be made within a cell, so it asks to do without.
fn command(command: &str) -> String {
    let call =
        json!({ "cmd": command, "sandbox_permissions": "require_escalated", "justification": "It was asked for" });
    format!("[[call:exec_command {call}]]")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_is_only_configured_greets_asks_and_goes_on() {
    let add = |config: &mut Config| config.agents.push(entry("read-only"));
    let chat = Chat::open_on(Policy::Ask, "codex-acp", "", add).await;
    let alice = chat.person();
    alice.says("[[say:Good morning from the other side.]]");
    alice.finds("Good morning from the other side.", "What next?").await;
    for (button, made) in [("Deny", false), ("Allow once", true)] {
        alice.says(&command("touch made.txt; echo It is done in here."));
        let asked = alice.hears("🔐").await;
        assert!(asked["text"].as_str().unwrap().contains("touch made.txt"), "{asked:#}");
        assert!(!chat.workspace().join("made.txt").exists(), "it did not wait");
        alice.presses("🔐", button).await;
        alice.finds(if made { "It is done in here." } else { "⏹" }, "Try again").await;
        assert_eq!(chat.workspace().join("made.txt").exists(), made, "{button}");
    }
    alice.says("/resume");
    let threads = alice.hears("Threads of codex-acp").await;
    assert!(threads["text"].as_str().unwrap().contains("1. ") && !threads["text"].as_str().unwrap().contains("2. "));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_without_the_mode_in_which_it_would_ask_is_asked_nothing() {
    let add = |config: &mut Config| config.agents.push(entry("always-ask"));
    let chat = Chat::open_on(Policy::Ask, "codex-acp", "", add).await;
    let alice = chat.person();
    alice.says(&command("touch made.txt"));
    alice.hears("This agent cannot ask before it acts, and agents must ask here.").await;
    assert_eq!(chat.waiting().await, 0);
    assert!(!chat.workspace().join("made.txt").exists() && chat.stage.upstream.calls().is_empty());
}
