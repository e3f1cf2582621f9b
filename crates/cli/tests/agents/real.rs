//! What each of the three does in a house.

use std::path::PathBuf;
use std::time::Duration;

use salon::agents::Hosts;
use salon_cli::config::{AgentConfig, Config};
use salon_core::{Chosen, DialogId};
use salon_engine::agent::Policy;
use serde_json::{Value, json};

use crate::stage::{PROVIDER_KEY, Stage};

/// Where the agents are installed.
pub fn program(name: &str) -> PathBuf {
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
    stage_with(policy, |_| {}).await
}

/// A stage on which the three agents are installed.
pub async fn stage_with(policy: Policy, change: impl FnOnce(&mut Config)) -> Stage {
    Stage::with(|config: &mut Config| {
        config.agents = AGENTS
            .map(|(name, model)| AgentConfig {
                name: name.to_owned(),
                program: Some(program(name)),
                model: Some(model.to_owned()),
                policy,
                show: Vec::new(),
                hosts: Hosts::default(),
                steer: true,
                acp: None,
            })
            .into();
        config.workspaces.bwrap = Some(on_path("bwrap"));
        config.workspaces.path = std::env::var_os("PATH").expect("a path").into_string().expect("in Unicode");
        change(config);
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

    /// The frames of the answer, each as it comes.
    async fn begin(&self, text: &str) -> Frames {
        let body = json!({ "session_id": self.session, "message": text });
        Frames { response: self.stage.post("/api/chat/stream", &body).await, rest: String::new() }
    }

    /// All frames of the answer.
    async fn ask(&self, text: &str) -> Vec<Value> {
        self.begin(text).await.all().await
    }

    async fn decide(&self, ask: &Value, verdict: &str) {
        let ask = ask["ask"].as_str().unwrap();
        let path = format!("/api/sessions/{}/asks/{ask}", self.session);
        let answered = self.stage.post(&path, &json!({ "verdict": verdict })).await;
        assert_eq!(answered.status(), 200, "{}", answered.text().await.unwrap());
    }

    fn workspace(&self) -> PathBuf {
        self.stage.house.salon.agents.get().unwrap().folder.join("default/api").join(&self.session).join("work")
    }
}

struct Frames {
    response: reqwest::Response,
    rest: String,
}

impl Frames {
    /// The next frame; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((frame, rest)) = self.rest.split_once("\n\n") {
                let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
                self.rest = rest.to_owned();
                // The last frame of all is a word.
                if let Some(data) = data.filter(|data| data.starts_with('{')) {
                    return Some(serde_json::from_str(&data).unwrap());
                }
                continue;
            }
            let chunk = tokio::time::timeout(Duration::from_secs(90), self.response.chunk()).await.expect("in time");
            self.rest.push_str(std::str::from_utf8(&chunk.unwrap()?).unwrap());
        }
    }

    async fn until(&mut self, kind: &str) -> Value {
        let mut seen = Vec::new();
        while let Some(frame) = self.next().await {
            if frame["type"] == kind {
                return frame;
            }
            seen.push(frame);
        }
        panic!("no {kind} came: {seen:#?}")
    }

    async fn all(mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(frame) = self.next().await {
            all.push(frame);
        }
        all
    }
}

fn end(agent: &str, frames: &[Value]) -> String {
    let last = frames.last().unwrap_or_else(|| panic!("{agent} said nothing"));
    assert_eq!(last["type"], "complete", "{agent}: {frames:#?}");
    last["full_response"].as_str().unwrap().to_owned()
}

/// What makes an agent's model want to run a command.
pub fn command(agent: &str, command: &str) -> String {
    let (tool, call) = match agent {
        "codex" => ("exec_command", json!({ "cmd": command })),
        "claude" => ("Bash", json!({ "command": command, "description": "What was asked for" })),
        _ => ("run_shell_command", json!({ "command": command, "description": "What was asked for" })),
    };
    format!("[[call:{tool} {call}]]")
}

async fn upstream(stage: &Stage, path: &str) -> Value {
    let url = format!("{}/_mock/upstream/{path}", stage.upstream.base_url());
    stage.http.get(url).send().await.unwrap().json().await.unwrap()
}

async fn trouble(stage: &Stage, rule: Value) {
    let url = format!("{}/_mock/upstream/troubles", stage.upstream.base_url());
    let set = stage.http.post(url).json(&rule).send().await.unwrap();
    assert!(set.status().is_success(), "{}", set.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_says_what_its_model_says_and_the_ledger_has_it_all() {
    let stage = stage(Policy::Workspace).await;
    for (agent, _) in AGENTS {
        let talk = Talk::open(&stage, agent).await;
        let said = end(agent, &talk.ask("[[say:Good morning from the other side.]]").await);
        assert!(said.contains("Good morning from the other side."), "{agent}: {said}");
    }
    let calls = upstream(&stage, "calls").await;
    let calls = calls["result"]["calls"].as_array().unwrap_or_else(|| panic!("{calls}"));
    let sum = |name: &str| calls.iter().map(|call| call["usage"][name].as_i64().unwrap_or_default()).sum::<i64>();
    let used = stage.used().await;
    assert_eq!(used.calls, calls.len() as i64);
    assert_eq!((used.tokens.read(), used.tokens.written()), (sum("input"), sum("output")), "{calls:#?}");
    // What an agent shows at its door is no key for anybody else.
    assert!(calls.iter().all(|call| call["key"] == PROVIDER_KEY), "{calls:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_runs_a_command_and_goes_on_with_its_thread() {
    let stage = stage(Policy::Workspace).await;
    for (agent, _) in AGENTS {
        let talk = Talk::open(&stage, agent).await;
        let frames = talk.ask(&command(agent, "echo storks > note.txt && cat note.txt")).await;
        end(agent, &frames);
        assert!(frames.iter().any(|frame| frame["type"] == "tool"), "{agent}: {frames:#?}");
        assert_eq!(std::fs::read_to_string(talk.workspace().join("note.txt")).unwrap(), "storks\n", "{agent}");
        let said = end(agent, &talk.ask("[[say:I remember.]]").await);
        assert!(said.contains("I remember."), "{agent}: {said}");
        let calls = upstream(&stage, "calls").await;
        let mut last = calls["result"]["calls"].as_array().unwrap().iter().map(|call| call["body"].to_string());
        assert!(last.next_back().unwrap().contains("note.txt"), "{agent} began anew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_asks_before_it_does_something_and_hears_the_answer() {
    let stage = stage(Policy::Ask).await;
    for (agent, _) in AGENTS {
        let talk = Talk::open(&stage, agent).await;
        for (verdict, file) in [("deny", false), ("once", true)] {
            let mut frames = talk.begin(&command(agent, "touch made.txt")).await;
            let ask = frames.until("ask").await;
            assert!(ask.to_string().contains("touch made.txt"), "{agent}: {ask}");
            assert!(!talk.workspace().join("made.txt").exists(), "{agent} did not wait");
            talk.decide(&ask, verdict).await;
            let rest = frames.all().await;
            assert!(rest.iter().any(|frame| frame["type"] == "answered"), "{agent}: {rest:#?}");
            assert_eq!(talk.workspace().join("made.txt").exists(), file, "{agent}, {verdict}: {rest:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_stopped_while_it_asks_does_nothing_and_a_later_yes_is_too_late() {
    let stage = stage(Policy::Ask).await;
    for (agent, _) in AGENTS {
        let talk = Talk::open(&stage, agent).await;
        let mut frames = talk.begin(&command(agent, "touch made.txt")).await;
        let ask = frames.until("ask").await;
        let url = format!("{}/api/sessions/{}/run", stage.base, talk.session);
        stage.http.delete(url).bearer_auth(&stage.key).send().await.unwrap();
        frames.until("stopped").await;
        let path = format!("/api/sessions/{}/asks/{}", talk.session, ask["ask"].as_str().unwrap());
        assert_eq!(stage.post(&path, &json!({ "verdict": "once" })).await.status(), 409, "{agent}");
        assert!(!talk.workspace().join("made.txt").exists(), "{agent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_tells_an_agent_more_while_it_works_and_hears_that_it_was_heard() {
    let stage = stage(Policy::Ask).await;
    for agent in ["codex", "claude"] {
        let talk = Talk::open(&stage, agent).await;
        let path = format!("/api/sessions/{}/steer", talk.session);
        let more = json!({ "message": "[[say:And I heard you on the way.]]" });
        assert_eq!(stage.post(&path, &more).await.status(), 409, "{agent}: nobody is at work");
        let mut frames = talk.begin(&command(agent, "echo eggs > nest.txt; cat nest.txt")).await;
        let ask = frames.until("ask").await;
        let told = stage.post(&path, &more).await;
        assert_eq!(told.status(), 202, "{agent}");
        let told: Value = told.json().await.unwrap();
        talk.decide(&ask, "once").await;
        let steered = frames.until("steered").await;
        assert_eq!((&steered["steer"], &steered["text"]), (&told["steer"], &more["message"]), "{agent}");
        let rest = frames.all().await;
        end(agent, &rest);
        // Its model has it, wherever the agent puts what comes on the way.
        let calls = upstream(&stage, "calls").await;
        let last = calls["result"]["calls"].as_array().unwrap().last().unwrap()["body"].to_string();
        assert!(last.contains("And I heard you on the way."), "{agent}: {last}");
        // It was told, and is not asked as well.
        let turns = stage.http.get(format!("{}/api/sessions/{}", stage.base, talk.session)).bearer_auth(&stage.key);
        let session: Value = turns.send().await.unwrap().json().await.unwrap();
        assert_eq!(session["turns"], 1, "{agent}: {session}");
    }
    // This one cannot be told.
    let talk = Talk::open(&stage, "gemini").await;
    let mut frames = talk.begin(&command("gemini", "touch made.txt")).await;
    let ask = frames.until("ask").await;
    let path = format!("/api/sessions/{}/steer", talk.session);
    assert_eq!(stage.post(&path, &json!({ "message": "hello" })).await.status(), 409);
    talk.decide(&ask, "deny").await;
    frames.all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_looks_by_commands_where_it_may_only_look() {
    let stage = stage(Policy::ReadOnly).await;
    let talk = Talk::open(&stage, "codex").await;
    std::fs::create_dir_all(talk.workspace()).unwrap();
    std::fs::write(talk.workspace().join("note.txt"), "storks\n").unwrap();
    let frames = talk.ask(&command("codex", "cat note.txt; touch made.txt; echo more > out/made.txt")).await;
    end("codex", &frames);
    assert!(!talk.workspace().join("made.txt").exists() && !talk.workspace().join("out/made.txt").exists());
    let calls = upstream(&stage, "calls").await;
    let last = calls["result"]["calls"].as_array().unwrap().last().unwrap()["body"].to_string();
    assert!(last.contains("storks") && last.contains("Read-only file system"), "{last}");
    for agent in ["claude", "gemini"] {
        let talk = Talk::open(&stage, agent).await;
        assert!(end(agent, &talk.ask("[[say:I only look.]]").await).contains("I only look."), "{agent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_stopped_in_the_middle_with_all_that_it_started() {
    let stage = stage(Policy::Workspace).await;
    for (agent, _) in AGENTS {
        let talk = Talk::open(&stage, agent).await;
        let mut frames = talk.begin(&command(agent, "sleep 61.5; true")).await;
        frames.until("tool").await;
        let url = format!("{}/api/sessions/{}/run", stage.base, talk.session);
        let stopped = tokio::time::Instant::now();
        stage.http.delete(url).bearer_auth(&stage.key).send().await.unwrap();
        frames.until("stopped").await;
        assert!(stopped.elapsed() < Duration::from_secs(6), "{agent} took {:?}", stopped.elapsed());
        assert_eq!(running("61.5"), Vec::<String>::new(), "{agent}");
    }
}

/// The processes with these words in their command lines.
pub fn running(words: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    lines.map(|line| line.replace('\0', " ")).filter(|line| line.contains(&format!("sleep {words}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_fails_once_is_asked_again_and_one_that_always_fails_is_said_to() {
    let stage = stage(Policy::Workspace).await;
    for mode in ["429:1", "status:500"] {
        for (agent, _) in AGENTS {
            trouble(&stage, json!({ "mode": mode, "count": 1 })).await;
            let said = end(agent, &Talk::open(&stage, agent).await.ask("[[say:Here I am.]]").await);
            assert!(said.contains("Here I am."), "{agent}, {mode}: {said}");
        }
    }
    trouble(&stage, json!({ "mode": "status:500" })).await;
    let frames = Talk::open(&stage, "codex").await.ask("hello").await;
    assert_eq!(frames.last().unwrap()["type"], "error", "{frames:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_at_its_cap_and_says_so() {
    let stage = stage(Policy::Workspace).await;
    let limit = json!({ "scope": "run", "measure": "requests", "period": "day", "amount": 1 });
    let added = stage.post("/api/admin/usage/limits", &limit).await;
    assert_eq!(added.status(), 201, "{}", added.text().await.unwrap());
    for (agent, _) in AGENTS {
        let talk = Talk::open(&stage, agent).await;
        // One call to hear of the command, and another one to tell what came of it, for which there is no room.
        let frames = talk.ask(&command(agent, "echo done > done.txt")).await;
        let last = frames.last().unwrap();
        assert_eq!(last["type"], "error", "{agent}: {frames:#?}");
        assert!(last["message"].as_str().unwrap().contains("run's limit"), "{agent}: {last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialog_may_have_a_model_of_its_own() {
    let stage = stage(Policy::Workspace).await;
    let salon = &stage.house.salon;
    let talk = Talk::open(&stage, "codex").await;
    let chosen = Chosen { model: Some("openai:another-gpt".to_owned()), ..Chosen::default() };
    let args = (DialogId::new(talk.session.as_str()), chosen, salon.clock.now());
    let choose = salon
        .store
        .write(args, |tx, (id, chosen, now)| Box::pin(async move { tx.choose(id, chosen, false, *now).await }));
    choose.await.unwrap();
    talk.ask("[[say:It is me.]]").await;
    let calls = upstream(&stage, "calls").await;
    assert_eq!(calls["result"]["calls"][0]["model"], "another-gpt", "{calls:#?}");
}

/// Goes to a host by way of the door, as programs do that know `HTTPS_PROXY`, and keeps what is said there.
pub fn fetch(authority: &str, file: &str) -> String {
    format!(
        "auth=$(printf %s \"$HTTPS_PROXY\" | sed 's|http://\\(.*\\)@.*|\\1|' | base64 -w0); \
         exec 3<>/dev/tcp/127.0.0.1/${{HTTPS_PROXY##*:}}; \
         printf 'CONNECT {authority} HTTP/1.1\\r\\nhost: {authority}\\r\\nproxy-authorization: Basic %s\\r\\n\\r\\n' \"$auth\" >&3; \
         timeout 5 cat <&3 > {file}; true"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_listed_is_reached_by_the_door_and_no_other() {
    let nest = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (listed, unlisted) = (nest.local_addr().unwrap(), other.local_addr().unwrap());
    for listener in [nest, other] {
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"two storks\n").await.ok();
            }
        });
    }
    let stage = stage_with(Policy::Workspace, |config| {
        for agent in &mut config.agents {
            agent.hosts = Hosts::parse(&[listed.to_string()]).unwrap();
        }
    })
    .await;
    let talk = Talk::open(&stage, "claude").await;
    for (host, file) in [(listed, "listed.txt"), (unlisted, "unlisted.txt")] {
        end("claude", &talk.ask(&command("claude", &fetch(&host.to_string(), file))).await);
    }
    let read = |file: &str| std::fs::read_to_string(talk.workspace().join(file)).unwrap();
    assert!(read("listed.txt").contains("two storks"), "{}", read("listed.txt"));
    assert!(
        read("unlisted.txt").contains("403") && !read("unlisted.txt").contains("storks"),
        "{}",
        read("unlisted.txt")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_a_session_goes_when_the_session_has_gone() {
    let stage = stage(Policy::Workspace).await;
    let (kept, gone) = (Talk::open(&stage, "codex").await, Talk::open(&stage, "codex").await);
    let agents = stage.house.salon.agents.get().unwrap();
    let chat = agents.folder.join("default/api/1001").join("work");
    for folder in [kept.workspace(), gone.workspace(), chat.clone()] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let url = format!("{}/api/sessions/{}", stage.base, gone.session);
    assert_eq!(stage.http.delete(url).bearer_auth(&stage.key).send().await.unwrap().status(), 204);
    assert_eq!(agents.sweep(&stage.house.salon.store).await.unwrap(), 1);
    assert!(kept.workspace().exists() && chat.exists() && !gone.workspace().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_folder_of_another_database_nobody_works_and_nothing_is_removed() {
    let others = tempfile::tempdir().unwrap();
    let folder = others.path().join("agents");
    assert!(salon::agents::mark::claim(&folder, "another").unwrap());
    let session = folder.join("default/api/01ARZ3NDEKTSV4RRFFQ69G5FAV");
    std::fs::create_dir_all(&session).unwrap();
    let stage = stage_with(Policy::Workspace, |config| config.workspaces.folder = folder).await;
    let frames = Talk::open(&stage, "claude").await.ask("hello").await;
    let last = frames.last().unwrap();
    assert!(last["type"] == "error" && last.to_string().contains("with another database"), "{frames:#?}");
    let why = stage.house.salon.engines.find("claude").unwrap().why_not.unwrap();
    assert!(why.contains("with another database"), "{why}");
    assert_eq!(stage.house.salon.agents.get().unwrap().sweep(&stage.house.salon.store).await.unwrap(), 0);
    assert!(session.exists());
}

#[test]
fn a_folder_belongs_to_the_first_database_that_claims_it() {
    use salon::agents::mark::{claim, is_of};
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("agents");
    assert!(!is_of(&folder, "one").unwrap());
    assert!(claim(&folder, "one").unwrap());
    assert!(!claim(&folder, "two").unwrap());
    assert!(claim(&folder, "one").unwrap() && is_of(&folder, "one").unwrap());
    assert_eq!(folder.read_dir().unwrap().count(), 1);
}
