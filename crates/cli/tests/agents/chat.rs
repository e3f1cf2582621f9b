//! An agent in a chat: what it asks is a button, what is said meanwhile waits, and what it leaves arrives.

use std::path::PathBuf;
use std::time::Duration;

use salon_cli::config::Config;
use salon_core::{BotId, ChatId};
use salon_engine::agent::Policy;
use salon_mock::{Fault, Mock, MockConfig, Press, Say};
use serde_json::Value;

use crate::real::{command, fetch, running, stage_with};
use crate::stage::Stage;

pub const TOKEN: &str = "1001:parrot-token";
const CHAT: i64 = 1001;
pub const ALICE: i64 = 9001;

/// Somebody in a chat with a bot.
pub struct Person<'a> {
    pub mock: &'a Mock,
}

/// A chat with a bot behind which claude sits.
pub struct Chat {
    mock: Mock,
    pub stage: Stage,
}

impl Chat {
    async fn open(policy: Policy) -> Chat {
        Chat::open_with(policy, "claude", "").await
    }

    /// A chat with a bot behind which `agent` sits, with more lines in the list of bots.
    pub async fn open_with(policy: Policy, agent: &str, more: &str) -> Chat {
        Chat::open_on(policy, agent, more, |_| {}).await
    }

    pub async fn open_on(policy: Policy, agent: &str, more: &str, change: impl FnOnce(&mut Config)) -> Chat {
        let mock = Mock::start(MockConfig::default()).await.unwrap();
        let telegram = mock.base_url().to_owned();
        let stage = stage_with(policy, |config| {
            config.around.api_base = telegram;
            let list = format!(
                "bots:\n  - bot_id: parrot\n    adapter: {agent}\n    telegram_token: \"{TOKEN}\"\n    owner_user_id: {ALICE}\n{more}"
            );
            std::fs::write(&config.bots_file, list).unwrap();
            change(config);
        })
        .await;
        Chat { mock, stage }
    }

    pub fn workspace(&self) -> PathBuf {
        let agents = self.stage.house.salon.agents.get().unwrap();
        agents.folder.join("default").join("parrot").join(CHAT.to_string()).join("work")
    }

    pub fn person(&self) -> Person<'_> {
        Person { mock: &self.mock }
    }

    /// What the newest turn's log has of files that nobody gets: their names, and why.
    async fn kept_back(&self) -> Vec<(String, String)> {
        let mut tx = self.stage.house.salon.store.read().await.unwrap();
        let dialog = tx.find_active_dialog(&BotId::new("parrot"), ChatId(CHAT)).await.unwrap().unwrap();
        let turn = tx.find_latest_answered(&dialog.id).await.unwrap().unwrap();
        let events = tx.list_events(&turn.id, 0, 1000).await.unwrap();
        let reply = salon_core::Reply::fold(&events);
        reply.kept_back.files.into_iter().map(|file| (file.name, file.why)).collect()
    }

    /// What the audit has of refused files, the newest first.
    async fn refusals(&self) -> Vec<Value> {
        let filter = salon_store::AuditFilter { action: Some("agent.files_refused".to_owned()), ..Default::default() };
        let lines = self.stage.house.salon.store.read().await.unwrap().list_audit(&filter, 10).await.unwrap();
        lines.iter().map(|line| serde_json::from_str(&line.detail).unwrap()).collect()
    }

    /// How many questions of the chat's dialog have not ended.
    pub async fn waiting(&self) -> i64 {
        let mut tx = self.stage.house.salon.store.read().await.unwrap();
        let dialog = tx.find_active_dialog(&BotId::new("parrot"), ChatId(CHAT)).await.unwrap().unwrap();
        tx.count_open(&salon::say::lane(&dialog.id)).await.unwrap()
    }

    /// How many questions the chat's dialog has had.
    async fn turns(&self) -> i64 {
        let mut tx = self.stage.house.salon.store.read().await.unwrap();
        tx.find_active_dialog(&BotId::new("parrot"), ChatId(CHAT)).await.unwrap().unwrap().turns
    }
}

impl Person<'_> {
    pub fn says(&self, text: &str) {
        self.mock.says(TOKEN, CHAT, ALICE, text);
    }

    /// The same in a program that is set to another language.
    fn says_in(&self, lang: &str, text: &str) {
        let say = Say { language_code: Some(lang.to_owned()), ..Say::new(TOKEN, CHAT, ALICE, text) };
        self.mock.controls().send(say).unwrap();
    }

    pub async fn messages(&self) -> Vec<Value> {
        let url = format!("{}/_mock/messages?token={TOKEN}&chat_id={CHAT}", self.mock.base_url());
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let page: Value = http.get(url).send().await.unwrap().json().await.unwrap();
        page["result"]["messages"].as_array().unwrap().clone()
    }

    /// Waits for a message of the bot that has this in it.
    pub async fn hears(&self, words: &str) -> Value {
        let patience = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let messages = self.messages().await;
            let found = messages.iter().rev().find(|message| {
                message["direction"] == "bot" && message["text"].as_str().is_some_and(|text| text.contains(words))
            });
            if let Some(found) = found {
                return found.clone();
            }
            let texts: Vec<_> = messages.iter().map(|message| &message["text"]).collect();
            assert!(tokio::time::Instant::now() < patience, "nobody said {words}: {texts:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn message(&self, number: i64) -> Value {
        let messages = self.messages().await;
        messages.into_iter().find(|message| message["message_id"] == number).unwrap()
    }

    /// Waits for files of the bot, at least so many.
    pub async fn files(&self, count: usize) -> Vec<Value> {
        let patience = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let messages = self.messages().await;
            let files = messages.iter().map(|message| message["document"].clone()).filter(|file| !file.is_null());
            let files: Vec<_> = files.collect();
            if files.len() >= count {
                return files;
            }
            assert!(tokio::time::Instant::now() < patience, "there are no {count} files: {messages:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Presses a button of the newest message that has this in it.
    pub async fn presses(&self, words: &str, button: &str) {
        let press = self.finds(words, button).await;
        self.mock.controls().press(press).unwrap();
    }

    /// Waits for a button under the newest message that has this in it.
    pub async fn finds(&self, words: &str, button: &str) -> Press {
        let patience = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let message = self.hears(words).await;
            let rows = message["reply_markup"]["inline_keyboard"].as_array().cloned().unwrap_or_default();
            let mut buttons = rows.iter().flat_map(|row| row.as_array().cloned().unwrap_or_default());
            if let Some(found) = buttons.find(|found| found["text"] == button) {
                return Press {
                    token: TOKEN.to_owned(),
                    chat_id: CHAT,
                    message_id: message["message_id"].as_i64().unwrap(),
                    user_id: ALICE,
                    callback_data: found["callback_data"].as_str().unwrap().to_owned(),
                };
            }
            assert!(tokio::time::Instant::now() < patience, "there is no [{button}] under {words}: {message:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_asks_is_a_button_and_what_is_said_meanwhile_may_wait() {
    let chat = Chat::open_with(Policy::Ask, "claude", "    steer: false\n").await;
    let alice = chat.person();
    alice.says(&command("claude", "echo eggs > nest.txt; cat nest.txt"));
    let asked = alice.hears("🔐").await;
    assert!(asked["text"].as_str().unwrap().contains("echo eggs > nest.txt"), "{asked:#}");
    alice.says("[[say:I waited for this.]]");
    alice.presses("An agent is at work here.", "Queue it").await;
    alice.presses("🔐", "Allow once").await;
    alice.hears("I waited for this.").await;
    alice.says("/resume");
    let threads = alice.hears("Threads of claude").await;
    assert!(threads["text"].as_str().unwrap().contains("←"), "{threads:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_while_an_agent_works_is_told_to_it() {
    for agent in ["claude", "codex"] {
        let chat = Chat::open_with(Policy::Ask, agent, "").await;
        let alice = chat.person();
        alice.says(&command(agent, "echo eggs > nest.txt; cat nest.txt"));
        alice.finds("🔐", "Allow once").await;
        alice.says("[[say:And I heard you on the way.]]");
        alice.hears("The agent is told this").await;
        if agent == "codex" {
            // It says at once that it has it; the other one when it takes it up.
            alice.hears("↪️ Heard: [[say:And I heard").await;
        }
        alice.presses("🔐", "Allow once").await;
        let answer = alice.finds("And I heard you on the way.", "What next?").await;
        let answer = alice.message(answer.message_id).await;
        assert!(answer["text"].as_str().unwrap().contains("↪️ Heard: [[say:And I heard"), "{agent}: {answer:#}");
        // It was told, and is not asked as well.
        assert_eq!(chat.turns().await, 1, "{agent}");
        alice.says("[[say:That was all.]]");
        alice.finds("That was all.", "What next?").await;
        assert_eq!(chat.turns().await, 2, "{agent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_agent_heard_in_time_is_asked_when_the_run_is_over() {
    let chat = Chat::open(Policy::Ask).await;
    let alice = chat.person();
    alice.says(&command("claude", "echo eggs > nest.txt"));
    alice.finds("🔐", "Allow once").await;
    // It takes up what it is told when the tool has run, which it never does.
    alice.says("[[say:I waited for this.]]");
    alice.hears("The agent is told this").await;
    alice.presses("🔐", "Stop").await;
    alice.hears("I waited for this.").await;
    alice.finds("I waited for this.", "What next?").await;
    assert_eq!(chat.turns().await, 2);
    assert!(!chat.workspace().join("nest.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_a_bot_lists_is_reached_for_that_bot() {
    let nest = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = nest.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = nest.accept().await {
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"two storks\n").await.ok();
        }
    });
    for listed in [true, false] {
        // With no list at all there is no proxy either; the other bot has one, of another host.
        let hosts = if listed { format!("    hosts: ['{host}']\n") } else { "    hosts: ['127.0.0.2:1']\n".to_owned() };
        let chat = Chat::open_with(Policy::Workspace, "claude", &hosts).await;
        let alice = chat.person();
        alice.says(&command("claude", &fetch(&host, "seen.txt")));
        alice.finds("The tool said", "What next?").await;
        let seen = std::fs::read_to_string(chat.workspace().join("seen.txt")).unwrap();
        assert_eq!(seen.contains("two storks"), listed, "{seen}");
        assert_eq!(seen.contains("403"), !listed, "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_choose_what_an_agent_thinks_with_and_that_it_need_not_ask() {
    let chat = Chat::open(Policy::Ask).await;
    let alice = chat.person();
    alice.says("/model");
    alice.hears("model=claude").await;
    alice.says("/model --dangerous");
    alice.hears("That is not the name of a model.").await;
    alice.says("/model anthropic:another-claude");
    alice.hears("model=anthropic:another-claude").await;
    alice.says("/unsafe 31");
    alice.hears("at most 30").await;
    alice.says("/unsafe 5");
    alice.hears("For 5 minutes").await;
    alice.says(&command("claude", "echo eggs > nest.txt"));
    let nest = chat.workspace().join("nest.txt");
    // It has ended when one may ask what is next.
    alice.finds("The tool said", "What next?").await;
    assert_eq!(std::fs::read_to_string(nest).unwrap(), "eggs\n");
    alice.says("-v --help [[say:It was only a text.]]");
    alice.hears("It was only a text.").await;
}

/// The smallest picture: one pixel.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_leaves_arrives_once_and_what_it_changed_can_be_taken_back() {
    let chat = Chat::open(Policy::Workspace).await;
    let alice = chat.person();
    alice.says(&command("claude", "echo eggs > nest.txt"));
    alice.finds("The tool said", "What next?").await;
    let leave = format!(
        "mkdir -p out; echo {PICTURE} | base64 -d > out/egg.png; echo '<h1>Eggs</h1>' > out/eggs.html; \
         ln -s /etc/passwd out/secrets.txt; echo more eggs >> nest.txt"
    );
    alice.says(&command("claude", &leave));
    let files = alice.files(2).await;
    let names: Vec<_> = files.iter().map(|file| file["filename"].as_str().unwrap()).collect();
    assert_eq!(names, ["egg.png", "eggs.html"], "{files:#?}");
    assert_eq!((&files[0]["is_image"], &files[1]["is_html"]), (&true.into(), &true.into()), "{files:#?}");

    alice.says("/diff");
    let shown = alice.hears("+more eggs").await;
    assert!(shown["text"].as_str().unwrap().contains("out/eggs.html"), "{shown:#}");
    alice.says("/undo");
    alice.hears("Taken back").await;
    let workspace = chat.workspace();
    assert_eq!(std::fs::read_to_string(workspace.join("nest.txt")).unwrap(), "eggs\n");
    assert!(!workspace.join("out/eggs.html").exists());
    // What was delivered once is not delivered with the next answer again.
    alice.says("[[say:That was all.]]");
    alice.finds("That was all.", "What next?").await;
    assert_eq!(alice.files(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_names_arrives_and_nothing_from_outside_does() {
    let chat = Chat::open(Policy::Workspace).await;
    let alice = chat.person();
    let make =
        "mkdir deep; echo eggs > deep/eggs.txt; echo old > old.txt; echo KEY=secret > .env; ln -s /etc/passwd p.txt";
    alice.says(&command("claude", make));
    alice.finds("The tool said", "What next?").await;
    assert!(chat.workspace().join("deep/eggs.txt").exists());
    // Nothing of this was changed by this run, so that a link only points at it.
    let answer = "[[say:Here: ![eggs](deep/eggs.txt), [old](old.txt), ![a](/etc/passwd), ![b](../home/x), ![c](p.txt), \
                  ![d](.env), [gone](gone.txt). That is all.]]";
    alice.says(answer);
    alice.finds("That is all.", "What next?").await;
    let files = alice.files(1).await;
    let names: Vec<_> = files.iter().map(|file| file["filename"].as_str().unwrap()).collect();
    assert_eq!(names, ["eggs.txt"], "{files:#?}");
    let kept = chat.kept_back().await;
    let expected = [("passwd", "outside"), ("x", "outside"), ("p.txt", "link"), (".env", "hidden")];
    assert_eq!(kept, expected.map(|(name, why)| (name.to_owned(), why.to_owned())));
    let told = "📎 Not delivered: passwd (it leads out of the folder), x (it leads out of the folder), \
                p.txt (it is a link), .env (it is hidden from agents)";
    let answer = alice.hears("That is all.").await;
    assert!(answer["text"].as_str().unwrap().ends_with(&format!("\n\n{told}")), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_files_that_nobody_gets_people_hear_in_their_language_and_the_audit_has_their_number() {
    let chat = Chat::open(Policy::Workspace).await;
    let alice = chat.person();
    let leave = "mkdir -p out; ln -s /etc/passwd out/a.png; echo two > nest.txt; ln nest.txt out/b.txt; mkfifo out/c; \
                 truncate -s 200M out/d.bin; echo eggs > out/e.txt";
    let show = "[[say:Here it is: ![x](/etc/passwd.png)]]";
    alice.says_in("ko", &format!("{} {show}", command("claude", leave)));
    let told = alice.hears("📎").await;
    let told = told["text"].as_str().unwrap();
    let line = "📎 전달하지 않은 파일: a.png (링크입니다), b.txt (다른 파일과 같은 파일입니다), c (일반 파일이 아닙니다), \
                d.bin (너무 큽니다), passwd.png (폴더 밖을 가리킵니다)";
    assert!(told.ends_with(line), "{told}");
    let names: Vec<_> = alice.files(1).await.iter().map(|file| file["filename"].clone()).collect();
    assert_eq!(names, ["e.txt"]);
    let refusals = chat.refusals().await;
    let noted = serde_json::json!({
        "engine": "claude", "files": 5,
        "link": 1, "second_name": 1, "not_a_file": 1, "too_large": 1, "outside": 1,
    });
    assert_eq!(refusals, [noted]);

    // What lies there from before is not told of again, and takes no new file's place.
    let many = "for egg in 01 02 03 04 05 06 07 08 09 10 11; do echo $egg > out/z$egg.txt; done";
    alice.says_in("ru", &command("claude", many));
    alice.hears("📎 Не доставлено: z11.txt (файлов слишком много)").await;
    assert_eq!(alice.files(11).await.len(), 11);
    alice.says_in("en", "[[say:That was all.]]");
    let last = alice.finds("That was all.", "What next?").await;
    assert_eq!(alice.message(last.message_id).await["text"], "That was all.");
    assert_eq!(alice.files(11).await.len(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_telegram_will_not_have_is_told_of() {
    let chat = Chat::open(Policy::Workspace).await;
    let alice = chat.person();
    chat.mock.add_fault(Fault::new("sendDocument", "status:400")).unwrap();
    alice.says(&command("claude", "mkdir -p out; echo eggs > out/eggs.txt"));
    alice.hears("📎 Not delivered: eggs.txt (Telegram does not take it)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_for_the_run_is_asked_once_and_the_next_run_asks_again() {
    let chat = Chat::open(Policy::Ask).await;
    let alice = chat.person();
    let lay = command("claude", "echo egg >> nest.txt");
    let nest = chat.workspace().join("nest.txt");
    alice.says(&format!("{lay} {lay}"));
    alice.presses("🔐", "Allow for this run").await;
    alice.finds("The tool said", "What next?").await;
    assert_eq!(std::fs::read_to_string(&nest).unwrap(), "egg\negg\n");
    alice.says(&lay);
    alice.presses("🔐", "Deny").await;
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while chat.waiting().await > 0 {
        assert!(tokio::time::Instant::now() < patience, "it does not end: {:#?}", alice.messages().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(std::fs::read_to_string(&nest).unwrap(), "egg\negg\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_works_in_the_folder_that_was_chosen_from_the_list() {
    let site = tempfile::tempdir().unwrap();
    std::fs::write(site.path().join("index.html"), "<h1>Storks</h1>\n").unwrap();
    let listed = site.path().to_owned();
    let chat = Chat::open_on(Policy::Workspace, "claude", "", |config| {
        config.workspaces.projects.insert("site".to_owned(), listed);
    })
    .await;
    let alice = chat.person();
    alice.says("/project ../etc");
    alice.hears("There is no folder ../etc in the list: site").await;
    alice.says("/project site");
    alice.hears("project=site").await;
    alice.says(&command("claude", "cp index.html copy.html"));
    alice.finds("The tool said", "What next?").await;
    assert_eq!(std::fs::read_to_string(site.path().join("copy.html")).unwrap(), "<h1>Storks</h1>\n");
    alice.says("/undo");
    alice.hears("Taken back").await;
    assert!(!site.path().join("copy.html").exists() && site.path().join("index.html").exists());
    alice.says("/project off");
    alice.hears("project=off").await;
    alice.says(&command("claude", "echo eggs > nest.txt; echo It is done in here."));
    alice.finds("It is done in here.", "What next?").await;
    assert!(chat.workspace().join("nest.txt").exists() && !site.path().join("nest.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_folder_where_somebody_works_nobody_else_does_and_one_that_is_gone_is_told_of() {
    let site = tempfile::tempdir().unwrap();
    std::fs::write(site.path().join("index.html"), "<h1>Storks</h1>\n").unwrap();
    let listed = site.path().to_owned();
    let chat = Chat::open_on(Policy::Workspace, "claude", "", |config| {
        config.workspaces.projects.insert("site".to_owned(), listed);
    })
    .await;
    let alice = chat.person();
    alice.says("/project site");
    alice.hears("project=site").await;
    alice.says(&command("claude", "echo '<p>Eggs</p>' >> index.html; echo It is done in here."));
    alice.finds("It is done in here.", "What next?").await;
    // As another conversation's agent has it while it works.
    let held = std::fs::File::open(site.path()).unwrap();
    held.lock().unwrap();
    let busy = "Another agent is at work in this folder.";
    alice.says("/undo");
    let told = alice.hears(busy).await;
    assert!(std::fs::read_to_string(site.path().join("index.html")).unwrap().contains("Eggs"));
    alice.says("[[say:I wrote over it.]]");
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while alice.hears(busy).await["message_id"] == told["message_id"] {
        assert!(tokio::time::Instant::now() < patience, "{:#?}", alice.messages().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(held);
    alice.says("/undo");
    alice.hears("Taken back").await;
    assert_eq!(std::fs::read_to_string(site.path().join("index.html")).unwrap(), "<h1>Storks</h1>\n");
    std::fs::remove_dir_all(site.path()).unwrap();
    alice.says("hello");
    alice.hears("⚠️ The folder that was chosen is not there any more. /project chooses another one.").await;
    alice.says("/diff");
    alice.hears("The folder cannot be looked at just now.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_need_not_ask_is_ended_when_that_is_taken_back() {
    let chat = Chat::open(Policy::Ask).await;
    let alice = chat.person();
    alice.says("/unsafe 5");
    alice.hears("For 5 minutes").await;
    alice.says(&command("claude", "echo eggs > nest.txt; sleep 66.5"));
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while running("66.5").is_empty() {
        assert!(tokio::time::Instant::now() < patience, "it does not run: {:#?}", alice.messages().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What is undone under an agent's hands is nobody's to know.
    alice.says("/undo");
    alice.hears("Use /stop first").await;
    alice.says("/unsafe off");
    alice.hears("⚠️ The time in which the agent need not ask is over").await;
    assert_eq!(running("66.5"), Vec::<String>::new());
    assert!(chat.workspace().join("nest.txt").exists());
    alice.says(&command("claude", "echo more > nest.txt"));
    alice.presses("🔐", "Deny").await;
}
