//! What agents may do by themselves is a bot's to say.

use std::path::PathBuf;

use salon_engine::agent::Policy;

use crate::chat::{ALICE, Chat, TOKEN};
use crate::fake::{script, silent};
use crate::real::command;

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_wants_to_be_asked_is_asked_by_agents_that_need_not_otherwise() {
    for agent in ["codex", "claude"] {
        // Neither of them is talked to in a way in which it could ask, if it were not for this bot.
        let quiet = |config: &mut salon_cli::config::Config| {
            for agent in &mut config.agents {
                agent.steer = false;
            }
        };
        let chat = Chat::open_on(Policy::Workspace, agent, "    policy: ask\n", quiet).await;
        let alice = chat.person();
        alice.says(&command(agent, "echo eggs > nest.txt"));
        alice.finds("🔐", "Allow once").await;
        assert!(!chat.workspace().join("nest.txt").exists(), "{agent} did not wait");
        alice.presses("🔐", "Allow once").await;
        alice.finds("The tool said", "What next?").await;
        assert!(chat.workspace().join("nest.txt").exists(), "{agent}");
        alice.says("/providers");
        let told = alice.hears("Who can answer").await;
        let told = told["text"].as_str().unwrap();
        for (agent, model) in [("codex", "gpt"), ("claude", "claude"), ("gemini", "gemini")] {
            let line = format!("- {agent}: installed=yes, model={model}, policy=ask");
            assert!(told.contains(&line), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_may_let_agents_look_and_nothing_else_or_let_them_work() {
    let chat = Chat::open_with(Policy::Workspace, "codex", "    policy: read-only\n").await;
    let alice = chat.person();
    alice.says(&command("codex", "touch made.txt; touch out/made.txt; echo It is done in here."));
    alice.finds("It is done in here.", "What next?").await;
    assert!(!chat.workspace().join("made.txt").exists() && !chat.workspace().join("out/made.txt").exists());

    let chat = Chat::open_with(Policy::Ask, "claude", "    policy: workspace\n").await;
    let alice = chat.person();
    alice.says(&command("claude", "echo eggs > nest.txt; echo It is done in here."));
    alice.finds("It is done in here.", "What next?").await;
    assert!(chat.workspace().join("nest.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_ask_is_refused_where_it_must_and_is_never_run() {
    let folder = tempfile::tempdir().unwrap();
    let mine = script(folder.path(), "mine", "touch ran.txt; cat > /dev/null");
    let mut list = PathBuf::new();
    let chat = Chat::open_on(Policy::Workspace, "claude", "", |config| {
        config.agents.push(silent("mine", mine));
        list.clone_from(&config.bots_file);
    })
    .await;
    let alice = chat.person();
    alice.says("/mode mine");
    alice.hears("mode switched: claude -> mine").await;
    // The bot wants to be asked from now on; its conversation is with one that cannot.
    let entry = format!(
        "bots:\n  - bot_id: parrot\n    adapter: claude\n    telegram_token: \"{TOKEN}\"\n    owner_user_id: {ALICE}\n    policy: ask\n"
    );
    std::fs::write(&list, entry).unwrap();
    let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while chat.stage.house.fleet.all().iter().all(|bot| bot.config.policy.is_none()) {
        assert!(tokio::time::Instant::now() < patience, "the list is not taken in");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    alice.says("hello");
    alice.hears("This agent cannot ask before it acts, and agents must ask here.").await;
    assert!(!chat.workspace().join("ran.txt").exists());
    alice.says("/providers");
    let told = alice.hears("Who can answer").await;
    assert!(told["text"].as_str().unwrap().contains("policy=ask (not run: it cannot ask)"), "{told:#}");
    alice.says("/mode claude");
    alice.hears("mode switched: mine -> claude").await;
    alice.says("/mode mine");
    alice.hears("mine cannot ask before it acts, and agents must ask here.").await;
}
