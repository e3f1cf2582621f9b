//! The server dies while an agent is at work: nobody is left, nothing is repeated, and people say how it goes on.

use std::time::Duration;

use salon_mock::upstream::{Upstream, UpstreamConfig};
use salon_mock::{Mock, MockConfig};
use salon_store::failpoint::FILE_POINTS;
use tempfile::TempDir;

use crate::chat::{ALICE, Person, TOKEN};
use crate::program::{Program, Start, text};
use crate::real::{command, program, running};

/// A server with claude, its model and its Telegram.
struct Server {
    folder: TempDir,
    mock: Mock,
    upstream: Upstream,
}

impl Server {
    async fn open() -> Server {
        rustls::crypto::ring::default_provider().install_default().ok();
        let upstream = Upstream::start(UpstreamConfig::default()).await.unwrap();
        let mock = Mock::start(MockConfig::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            r#"
            [telegram]
            api_base_url = "{}"

            [upstreams.anthropic]
            kind = "anthropic"
            base_url = "{}"
            key_env = "ANTHROPIC_API_KEY"

            [models.claude]
            upstream = "anthropic"
            model = "mock-claude"
            rates = {{ input = "3", output = "15" }}

            [agents.claude]
            program = "{}"
            model = "claude"
            policy = "workspace"
            "#,
            mock.base_url(),
            upstream.base_url(),
            program("claude").display(),
        );
        std::fs::write(folder.path().join("salon.toml"), config).unwrap();
        let bots = format!(
            "bots:\n  - bot_id: parrot\n    adapter: claude\n    telegram_token: \"{TOKEN}\"\n    owner_user_id: {ALICE}\n"
        );
        std::fs::write(folder.path().join("bots.yaml"), bots).unwrap();
        Server { folder, mock, upstream }
    }

    fn start(&self) -> Program {
        self.starting().spawn()
    }

    fn starting(&self) -> Start {
        let folder = self.folder.path();
        let args = ["serve", "--listen", "127.0.0.1:0", "--bots", "bots.yaml", "--data", "data"];
        let path = std::env::var_os("PATH").expect("a path").into_string().expect("in Unicode");
        let env = [("PATH", path.as_str()), ("ANTHROPIC_API_KEY", "sk-test")];
        Start {
            args: args.map(str::to_owned).into(),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            folder: folder.into(),
            log: text(&folder.join("log")).into(),
        }
    }

    fn person(&self) -> Person<'_> {
        Person { mock: &self.mock }
    }

    fn lines_of(&self, file: &str) -> usize {
        let file = self.folder.path().join("data-agents/default/parrot/1001").join("work").join(file);
        std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_began_is_not_begun_again_unasked() {
    let server = Server::open().await;
    let alice = server.person();
    let first = server.start();
    alice.says(&command("claude", "echo once >> done.txt; sleep 62.5; echo twice >> done.txt"));
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while server.lines_of("done.txt") == 0 || running("62.5").is_empty() {
        assert!(tokio::time::Instant::now() < patience, "the command does not run: {:#?}", alice.messages().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What it does is written down some time after it began to.
    alice.hears("⏳").await;
    first.kill().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(running("62.5"), Vec::<String>::new(), "somebody outlived the server");

    let second = server.start();
    alice.hears("nothing is repeated unasked").await;
    for button in ["Continue", "Start clean", "Drop"] {
        alice.finds("nothing is repeated unasked", button).await;
    }
    assert_eq!(server.lines_of("done.txt"), 1);
    alice.presses("nothing is repeated unasked", "Continue").await;
    // The thread that was interrupted is gone on with, and its model says something.
    alice.finds("", "What next?").await;
    assert_eq!(server.lines_of("done.txt"), 1);
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_interrupted_is_begun_anew_or_dropped_if_somebody_says_so() {
    for button in ["Start clean", "Drop"] {
        let server = Server::open().await;
        let alice = server.person();
        let first = server.start();
        alice.says(&command("claude", "echo once >> done.txt; test $(wc -l < done.txt) = 2 || sleep 64.5"));
        let patience = tokio::time::Instant::now() + Duration::from_secs(60);
        while server.lines_of("done.txt") == 0 {
            assert!(tokio::time::Instant::now() < patience, "the command does not run: {:#?}", alice.messages().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        alice.hears("⏳").await;
        first.kill().await;
        let second = server.start();
        alice.presses("nothing is repeated unasked", button).await;
        if button == "Drop" {
            alice.says("[[say:Something else.]]");
            alice.finds("Something else.", "What next?").await;
            assert_eq!(server.lines_of("done.txt"), 1);
        } else {
            alice.finds("The tool said", "What next?").await;
            assert_eq!(server.lines_of("done.txt"), 2);
            // Another thread, which knows nothing of the first.
            alice.says("/resume");
            let threads = alice.hears("Threads of claude").await;
            assert!(threads["text"].as_str().unwrap().contains("2. "), "{threads:#}");
        }
        second.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_had_not_heard_when_the_server_died_is_asked() {
    let server = Server::open().await;
    let alice = server.person();
    let first = server.start();
    alice.says(&command("claude", "echo once >> done.txt; sleep 63.5"));
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while server.lines_of("done.txt") == 0 {
        assert!(tokio::time::Instant::now() < patience, "the command does not run: {:#?}", alice.messages().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    alice.hears("⏳").await;
    // It would take this up when the command has ended.
    alice.says("[[say:I waited for this.]]");
    alice.hears("The agent is told this").await;
    first.kill().await;
    let second = server.start();
    alice.hears("nothing is repeated unasked").await;
    alice.finds("I waited for this.", "What next?").await;
    let answers = alice.messages().await.into_iter().filter(|message| {
        message["direction"] == "bot"
            && message["text"].as_str().is_some_and(|text| text.contains("I waited for this."))
    });
    assert_eq!((answers.count(), server.lines_of("done.txt")), (1, 1));
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_dies_twice_with_its_server_is_not_tried_again() {
    let server = Server::open().await;
    let alice = server.person();
    alice.says("[[hold]]");
    for _ in 0..2 {
        let known = server.upstream.calls().len();
        let life = server.start();
        let patience = tokio::time::Instant::now() + Duration::from_secs(60);
        // Its model says one word, and no command is run.
        while server.upstream.calls().len() == known {
            assert!(tokio::time::Instant::now() < patience, "nothing is asked: {:#?}", alice.messages().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        life.kill().await;
    }
    let third = server.start();
    alice.hears("is not tried again").await;
    third.kill().await;
}

/// The smallest picture: one pixel.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_left_arrives_wherever_the_server_dies_on_the_way() {
    for point in FILE_POINTS {
        let server = Server::open().await;
        let alice = server.person();
        let mut first = server.starting().with("SALON_FAIL_POINT", point).spawn();
        let leave = format!("mkdir -p out; echo {PICTURE} | base64 -d > out/egg.png; echo eggs > out/eggs.txt");
        alice.says(&command("claude", &leave));
        assert!(first.ended(Duration::from_secs(60)).await.is_some(), "{point} was not passed");
        let second = server.start();
        // A file that arrived and was not written down comes once more; none is missing.
        let repeated = usize::from(point.ends_with(".after"));
        let files = alice.files(2 + repeated).await;
        let mut names: Vec<_> = files.iter().map(|file| file["filename"].as_str().unwrap()).collect();
        assert_eq!(names.len(), 2 + repeated, "{point}: {names:?}");
        names.dedup();
        assert_eq!(names, ["egg.png", "eggs.txt"], "{point}");
        second.kill().await;
    }
}
