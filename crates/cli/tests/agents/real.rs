//! What each of the three does in a house.

use std::path::PathBuf;
use std::time::Duration;

use salon_cli::config::{AgentConfig, Config};
use salon_engine::agent::Policy;
use serde_json::{Value, json};

use crate::stage::Stage;

/// Where the agents are installed.
fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("SALON_TEST_AGENTS").expect("SALON_TEST_AGENTS: see `cargo xtask test`");
    let packages = PathBuf::from(folder).join("node_modules");
    if name != "claude" {
        return packages.join(".bin").join(name);
    }
    // A script of its package would put the program there; it is taken from where it came in.
    let mut makers = packages.join("@anthropic-ai").read_dir().expect("the packages").flatten();
    let native = makers.find(|maker| maker.file_name().to_string_lossy().starts_with("claude-code-"));
    native.expect("a claude for this machine").path().join("claude")
}

fn on_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("a path");
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(name));
    found.find(|program| program.is_file()).unwrap_or_else(|| panic!("{name} is not on the path"))
}

/// An agent, and the model of the stage that it thinks with.
const AGENTS: [(&str, &str); 3] = [("codex", "gpt"), ("claude", "claude"), ("gemini", "gemini")];

async fn stage(policy: Policy) -> Stage {
    Stage::with(|config: &mut Config| {
        config.agents = AGENTS
            .map(|(name, model)| AgentConfig {
                name: name.to_owned(),
                program: Some(program(name)),
                model: Some(model.to_owned()),
                policy,
                show: Vec::new(),
                acp: None,
            })
            .into();
        config.workspaces.bwrap = Some(on_path("bwrap"));
        config.workspaces.path = std::env::var_os("PATH").expect("a path").into_string().expect("in Unicode");
    })
    .await
}

/// A conversation with an agent, as a program holds it.
struct Talk<'a> {
    stage: &'a Stage,
    session: String,
}

impl<'a> Talk<'a> {
    async fn open(stage: &'a Stage, engine: &str) -> Talk<'a> {
        let opened = stage.post("/api/sessions", &json!({ "engine": engine })).await;
        let opened: Value = opened.json().await.unwrap();
        let session = opened["session_id"].as_str().unwrap_or_else(|| panic!("no session: {opened}")).to_owned();
        Talk { stage, session }
    }

    /// The frames of the answer.
    async fn ask(&self, text: &str) -> Vec<Value> {
        let body = json!({ "session_id": self.session, "message": text });
        let answer = self.stage.post("/api/chat/stream", &body).await;
        let text = tokio::time::timeout(Duration::from_secs(120), answer.text()).await.expect("in time").unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
    }
}

fn last(frames: &[Value]) -> &Value {
    frames.last().unwrap_or_else(|| panic!("no frames"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_says_what_its_model_says_and_the_ledger_has_it() {
    let stage = stage(Policy::Workspace).await;
    for (agent, _) in AGENTS {
        let talk = Talk::open(&stage, agent).await;
        let frames = talk.ask("[[say:Good morning from the other side.]]").await;
        let end = last(&frames);
        assert_eq!(end["type"], "complete", "{agent}: {frames:#?}");
        assert!(end["full_response"].as_str().unwrap().contains("Good morning from the other side."), "{agent}: {end}");
    }
    let calls: Value = stage
        .http
        .get(format!("{}/_mock/upstream/calls", stage.upstream.base_url()))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    eprintln!("{}", serde_json::to_string_pretty(&calls["by_key"]).unwrap());
    let used = stage.used().await;
    eprintln!("{used:?}");
}
