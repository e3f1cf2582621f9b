//! The office: commands that look after people, keys and secrets, as processes, beside an open Salon and without one.

#[path = "house/mod.rs"]
mod house;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use salon::Actor;
use salon::ledger::Payer;
use salon::vault::Origin;
use salon::{Credential, MasterKeys};
use salon_cli::house::House;
use salon_core::{Owner, UserId};
use salon_engine::Secret;
use salon_store::Place;
use salon_store::testing::{drop_database, postgres_database, tamper};
use tempfile::TempDir;

const CANARY: &str = "sk-CANARY-office-0123456789abcdef";

/// A folder for data, and commands that work on it.
struct Office {
    folder: TempDir,
    place: Place,
}

impl Office {
    fn new() -> Office {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = Place::Folder(folder.path().join("data"));
        Office { folder, place }
    }

    async fn on_postgres() -> Office {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Office { folder, place: Place::Postgres(postgres_database().await) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn master(&self) -> PathBuf {
        self.path().join("data/master.key")
    }

    fn run(&self, words: &str) -> Output {
        self.run_with(words, "", &[])
    }

    fn run_with(&self, words: &str, input: &str, env: &[(&str, String)]) -> Output {
        #[expect(clippy::disallowed_methods, reason = "this test is about the program as a process")]
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_salon"));
        command.args(words.split(' ')).current_dir(self.path()).env_clear().envs(env.iter().cloned());
        if let Place::Postgres(url) = &self.place {
            command.env("DATABASE_URL", url);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        child.stdin.take().expect("an input").write_all(input.as_bytes()).expect("written");
        child.wait_with_output().expect("it ends")
    }

    /// What a command prints that must succeed.
    fn says(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "salon {words}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }

    /// What a command says that must fail.
    fn refuses(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "salon {words}: {}", text(&output.stdout));
        text(&output.stderr).trim().to_owned()
    }

    async fn house(&self) -> House {
        let config = house::config(self.path(), self.place.clone(), "http://127.0.0.1:9");
        House::open(&config).await.expect("a house")
    }

    /// Everything in the folder.
    fn bytes(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.path().join("data")).expect("a folder");
        let files = files.map(|file| file.expect("a file").path()).filter(|path| path.is_file());
        files.flat_map(|path| std::fs::read(path).expect("bytes")).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn id(line: &str) -> &str {
    line.split_whitespace().next().expect("an id")
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

#[test]
fn the_first_key_makes_its_administrator() {
    let office = Office::new();
    let output = office.run("key add laptop");
    let (key, note) = (text(&output.stdout).trim().to_owned(), text(&output.stderr));
    assert!(key.starts_with("salon_") && key.len() == 55, "{key}");
    assert!(note.contains("There was nobody yet") && !note.contains(&key[6..40]), "{note}");
    let listed = office.says("key list");
    assert!(listed.contains("laptop") && listed.contains(&key[51..]) && !listed.contains(&key[6..40]), "{listed}");
    assert!(office.says("user list").contains("admin"));
    assert!(!contains(&office.bytes(), &key[6..40]));
    assert!(office.refuses("key add odd --routes v1/*").contains("begins with a slash"));
    assert!(office.says("key add brief --expires 12h --quiet").starts_with("salon_"));
    let brief = office.says("key list");
    let until = brief.lines().find_map(|line| line.split_once("brief")?.1.split_once("until ")).expect("an end").1;
    assert_eq!(until.len(), "2026-02-01 14:05 UTC".len(), "an end within the day has its hour: {brief}");
    // A second one is for the same person.
    assert_eq!(office.says("key add phone --quiet").lines().count(), 1);
    assert_eq!(office.says("user list").lines().count(), 1);
}

#[test]
fn people_come_change_and_go() {
    let office = Office::new();
    let alice = office.says("user add alice --email alice@birds.example --role admin --telegram 1001");
    office.says("user add bob");
    assert!(office.refuses("user add carol --telegram 1001").contains("Telegram id"));
    assert!(office.refuses("user add carol --role king").contains("user, manager and admin"));
    assert!(office.says("user set bob --role manager --email bob@birds.example").contains("manager"));
    assert!(office.says("user set bob@birds.example --active false").contains("switched off"));
    assert!(office.refuses("key add laptop --user bob").contains("switched off"));
    assert!(office.refuses("user remove nobody").contains("nobody"));
    assert!(office.says(&format!("user remove {}", id(&alice))).contains("alice"));
    assert_eq!(office.says("user list").lines().count(), 1);
    assert!(office.says("org set default --zone Asia/Seoul --name Birds").contains("Asia/Seoul"));
    assert!(office.refuses("org set default --zone Mars/Base").contains("time zone"));
    assert_eq!(office.says("org list").lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_can_be_looked_at_while_salon_runs() {
    let office = Office::new();
    office.says("user add alice --role admin");
    let house = office.house().await;
    office.says("user add bob");
    office.says("user set bob --role manager");
    let listed = office.says("audit list --action user.changed --since 12h");
    assert!(listed.contains("operator  user.changed") && listed.contains(r#"{"role":["user","manager"]}"#), "{listed}");
    let line: serde_json::Value = serde_json::from_str(&office.says("audit list --limit 1 --json")).expect("JSON");
    assert_eq!((&line["actor"], &line["detail"]["role"][1]), (&"operator".into(), &"manager".into()));
    assert!(office.says("audit verify").contains(" lines, whole; 0 anchors agree."));
    house.close().await;
    // A Salon that closes leaves an anchor.
    assert!(office.says("audit verify").contains(" lines, whole; 1 anchors agree."));
    let forged = "DROP TRIGGER audit_keeps_lines; UPDATE audit SET actor = 'salon' WHERE seq = 2";
    tamper(&office.place, forged).await.expect("forged");
    let found = office.run("audit verify");
    assert!(!found.status.success());
    assert!(text(&found.stdout).contains("NOT WHOLE: line 2 is not as it was written"), "{}", text(&found.stdout));
}

#[test]
fn plans_are_given_changed_and_removed() {
    let office = Office::new();
    office.says("user add alice --role admin");
    let added = office.says("plan add free --limit micros:month:5 --limit requests:day:50:warn");
    assert!(added.contains("free  0 people  micros:month:5.00:block  requests:day:50:warn"), "{added}");
    assert!(office.refuses("plan add free").contains("There is a plan called free"));
    office.says("user set alice --plan free");
    assert!(office.says("plan list").contains("free  1 people"));
    let changed = office.says("plan set free --name basic --limit tokens:week:9");
    assert!(changed.contains("basic  1 people  tokens:week:9:block") && !changed.contains("micros"), "{changed}");
    assert!(office.refuses("user set alice --plan free").contains("There is no plan free"));
    assert!(office.says("plan remove basic").contains("Removed the plan basic"));
    assert!(office.says("audit list --action plan.given --json").contains(r#""plan":[null,"#));
}

#[test]
fn keys_have_scopes_and_ends() {
    let office = Office::new();
    office.says("user add alice --role admin");
    let scopes = "--routes /v1/chat/*,/v1/models --models gpt-4o* --from 192.0.2.0/24 --expires 30d";
    office.says(&format!("key add ci {scopes} --limit micros:month:12.5 --limit requests:day:100:warn --quiet"));
    let listed = office.says("key list --user alice");
    for part in ["micros:month:12.50:block", "requests:day:100:warn"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    for part in ["routes /v1/chat/*,/v1/models", "models gpt-4o*", "from 192.0.2.0/24", "until ", "never used"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    for bad in [
        "--expires yesterday",
        "--expires 2020-01-01",
        "--from 10.0.0.0/99",
        "--models ,",
        "--role king",
        "--limit micros:month",
    ] {
        office.refuses(&format!("key add bad {bad}"));
    }
    let revoked = office.says(&format!("key revoke {}", id(&listed)));
    assert!(revoked.starts_with("Revoked"));
    assert!(office.refuses(&format!("key revoke {}", id(&listed))).contains("no key"));
    assert_eq!(office.says("key list"), "");
    assert!(office.says("key list --all").contains("revoked"));
}

#[test]
fn a_providers_key_comes_by_standard_input_and_is_never_seen_again() {
    let office = Office::new();
    let added = office.run_with("secret add openai", &format!("{CANARY}\n"), &[]);
    assert!(added.status.success(), "{}", text(&added.stderr));
    let listed = office.says("secret list");
    assert!(listed.contains("org:default  openai  https://api.openai.com  …cdef"), "{listed}");
    for said in [text(&added.stdout), text(&added.stderr), listed.clone()] {
        assert!(!said.contains("CANARY"), "{said}");
    }
    assert!(!contains(&office.bytes(), "CANARY"));
    assert!(office.refuses("secret add openai").contains("no key was given"));
    let unknown = office.run_with("secret add mine", CANARY, &[]);
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("--origin"));
    assert!(office.says("keys check").contains("1 secrets were opened, 0 do not open"));
    office.says(&format!("secret remove {}", id(&listed)));
    assert_eq!(office.says("secret list"), "");
}

#[test]
fn a_master_key_follows_another() {
    let office = Office::new();
    let added = office.run_with("secret add openai", CANARY, &[]);
    assert!(added.status.success());
    let key = office.says("key add laptop --quiet");
    let old = id(&office.says("keys list")).to_owned();
    let moved = office.says("keys rotate --new-kid spring");
    assert!(moved.contains("under the master key spring") && moved.contains(&format!("--drop {old}")), "{moved}");
    let listed = office.says("keys list");
    assert!(
        listed.contains("spring  encrypts and decrypts  wraps 2") && listed.contains("decrypts  wraps 0"),
        "{listed}"
    );
    assert!(office.refuses("keys rotate --drop spring").contains("encrypts"));
    office.says(&format!("keys rotate --drop {old}"));
    assert_eq!(office.says("keys list").lines().count(), 1);
    assert!(office.says("keys check").contains("0 do not open"));
    assert!(office.says("keys rotate --data-keys").contains("Renewed"));
    assert!(office.says("keys check").contains("0 do not open"));
    assert!(office.says("key list").contains(&key[51..]));
    // The old key alone opens nothing any more, and nothing is changed by trying.
    let before = std::fs::read(office.path().join("data/salon.db")).expect("the database");
    std::fs::write(office.master(), MasterKeys::generate()).expect("another key");
    let output = office.run("keys check");
    assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(office.path().join("data/salon.db")).expect("the database"), before);
}

#[test]
fn a_key_given_by_the_environment_moves_to_a_file() {
    let office = Office::new();
    let first = MasterKeys::generate();
    let env = [("MASTER_KEY", first.clone())];
    assert!(office.run_with("secret add openai", CANARY, &env).status.success());
    let refused = office.run_with("keys rotate", "", &env);
    assert!(text(&refused.stderr).contains("MASTER_KEY_FILE"));
    let file = office.path().join("keys");
    std::fs::write(&file, format!("{first}\n")).expect("a file");
    let env = [("MASTER_KEY_FILE", file.display().to_string())];
    let moved = office.run_with("keys rotate --new-kid spring", "", &env);
    assert!(moved.status.success(), "{}", text(&moved.stderr));
    let both = [("MASTER_KEY", first), ("MASTER_KEY_FILE", file.display().to_string())];
    assert!(text(&office.run_with("keys list", "", &both).stderr).contains("set one of"));
    assert!(!office.master().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_reach_the_salon_that_has_the_data() {
    let office = Office::new();
    let house = office.house().await;
    let (key, said) = tokio::task::block_in_place(|| {
        let key = office.says("key add laptop --quiet");
        assert!(office.run_with("secret add openai", CANARY, &[]).status.success());
        (key, office.says("keys rotate --new-kid spring"))
    });
    assert!(said.contains("under the master key spring"), "{said}");
    let peer = [127, 0, 0, 1].into();
    let credential = Credential::Key(Secret::new(key));
    let admit = || house.salon.access.admit(&credential, peer, "/v1/models", house.salon.clock.now());
    let caller = admit().await.expect("let in");
    let origin = Origin::parse("https://api.openai.com").expect("an origin");
    let found = house.salon.vault.provider_key(&caller, "openai", &origin).await.expect("it opens").expect("a key");
    assert_eq!(found.secret.expose(), CANARY);
    tokio::task::block_in_place(|| {
        let listed = office.says("key list");
        office.says(&format!("key revoke {}", id(&listed)));
        assert!(office.refuses("user remove nobody").contains("nobody"));
        assert!(office.refuses("key revoke 01J").contains("no key"));
    });
    assert!(admit().await.is_err());
    // A key that is made with a limit has it from its first use on.
    let key = tokio::task::block_in_place(|| office.says("key add metered --limit requests:day:1 --quiet"));
    let credential = Credential::Key(Secret::new(key));
    let caller = house.salon.access.admit(&credential, peer, "/v1/models", house.salon.clock.now()).await;
    let caller = caller.expect("let in");
    let payer = Payer {
        org: caller.org.clone(),
        zone: caller.zone.name().to_owned(),
        user: caller.user.clone(),
        key: caller.key.clone(),
        chat: None,
        turn: None,
        run: None,
    };
    assert!(house.relay.book.applies(&payer));
    house.close().await;
    // Closed, the same commands open the database themselves.
    tokio::task::block_in_place(|| assert!(office.says("keys list").contains("spring  encrypts")));
    assert!(!office.path().join("data/salon.sock").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_a_killed_salon_left_is_no_hindrance() {
    let office = Office::new();
    std::fs::create_dir(office.path().join("data")).expect("a folder");
    drop(std::os::unix::net::UnixListener::bind(office.path().join("data/salon.sock")).expect("a socket"));
    tokio::task::block_in_place(|| office.says("key add laptop --quiet"));
    let house = office.house().await;
    tokio::task::block_in_place(|| assert!(office.says("key list").contains("laptop")));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_survives_being_killed_around_every_commit_on_sqlite() {
    killed_again_and_again(Office::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_survives_being_killed_around_every_commit_on_postgres() {
    let office = Office::on_postgres().await;
    let place = office.place.clone();
    killed_again_and_again(office).await;
    drop_database(&place).await;
}

/// Moves to another master key, then renews the data keys; each life of the process gets one commit further and is
/// aborted before or after it. At each restart everything opens.
async fn killed_again_and_again(office: Office) {
    const OWNERS: usize = 120;
    let house = office.house().await;
    let origin = Origin::parse("https://api.openai.com").expect("an origin");
    let vault = &house.salon.vault;
    let put = async |n: usize| {
        let owner = Owner::User(UserId::new(format!("user-{n}")));
        vault
            .put_key(&owner, "openai", &origin, Secret::new(format!("sk-of-{n}")), &house.salon.pen(Actor::Operator))
            .await
            .expect("stored");
    };
    futures_util::future::join_all((0..OWNERS).map(put)).await;
    house.close().await;
    tokio::task::block_in_place(|| {
        let whole = |when: &str| {
            let check = office.says("keys check");
            assert!(check.contains(&format!("{OWNERS} secrets were opened, 0 do not open")), "{when}: {check}");
        };
        let mut kills = 0;
        for command in ["keys rotate --new-kid spring", "keys rotate --data-keys"] {
            for life in 0.. {
                assert!(life < 60, "salon {command} does not end");
                let point = if life % 2 == 0 { "commit.before" } else { "commit.after" };
                // The first lives die at their first commit, later ones get further.
                let plan = format!("{point}@{}", 1 + life / 2);
                let output = office.run_with(command, "", &[("SALON_FAIL_POINT", plan.clone())]);
                if output.status.success() {
                    break;
                }
                assert_eq!(output.status.code(), None, "{command}, {plan}: {}", text(&output.stderr));
                kills += 1;
                whole(&format!("salon {command} killed at {plan}"));
            }
            whole(command);
        }
        assert!(kills >= 6, "{kills} kills");
        let listed = office.says("keys list");
        let lines: Vec<_> = listed.lines().collect();
        assert!(lines.len() == 2 && lines[0].starts_with("spring  encrypts"), "{listed}");
        assert!(lines[1].ends_with("wraps 0 data keys"), "{listed}");
        office.says(&format!("keys rotate --drop {}", id(lines[1])));
        whole("the old key is gone");
    });
}
