//! Runs of agents that behave: they are started, heard, told something, and end.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use salon_engine::sandbox::{How, Lack, Sandbox, Settings};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::Test;
use crate::house::{House, all_lines};

pub const TESTS: &[Test] = &[
    ("runs::an_agent_is_told_and_heard", an_agent_is_told_and_heard),
    ("runs::a_stop_is_heard_and_leaves_nobody", a_stop_is_heard_and_leaves_nobody),
    ("runs::what_does_not_stop_is_ended", what_does_not_stop_is_ended),
    ("runs::without_bubblewrap_nothing_runs", without_bubblewrap_nothing_runs),
    ("runs::a_start_takes_little", a_start_takes_little),
    ("runs::an_agent_costs_the_server_little", an_agent_costs_the_server_little),
    ("runs::the_door_leads_to_the_socket", the_door_leads_to_the_socket),
    ("runs::how_it_ended_is_told", how_it_ended_is_told),
    (
        "runs::files_are_laid_into_its_home_and_links_are_not_followed",
        files_are_laid_into_its_home_and_links_are_not_followed,
    ),
    ("runs::git_works_inside", git_works_inside),
    ("runs::who_may_only_look_changes_nothing", who_may_only_look_changes_nothing),
    ("runs::who_is_being_asked_may_wait", who_is_being_asked_may_wait),
    ("runs::nobody_looks_into_who_holds_keys", nobody_looks_into_who_holds_keys),
    ("runs::nobody_survives_the_server", nobody_survives_the_server),
    ("runs::without_a_cell_there_are_limits_and_an_end", without_a_cell_there_are_limits_and_an_end),
    ("runs::an_ordinary_user_has_the_same_walls", an_ordinary_user_has_the_same_walls),
];

fn an_agent_is_told_and_heard(house: &House) {
    house.run(async {
        let mut confined = house.start(&["echo", "7"]).await;
        confined.write("alice").await;
        confined.write("bob \u{1F99C}").await;
        assert_eq!(confined.next().await.unwrap().text, "heard alice");
        assert_eq!(confined.next().await.unwrap().text, "heard bob \u{1F99C}");
        confined.close_input().await;
        let ended = confined.ended().await;
        assert_eq!((ended.how, ended.code), (How::Exit(7), Some(7)));
        assert_eq!(ended.errors, "that was all\n");
        assert!(confined.next().await.is_none());
    });
}

fn a_stop_is_heard_and_leaves_nobody(house: &House) {
    house.run(async {
        let mut confined = house.start(&["wait"]).await;
        assert_eq!(confined.next().await.unwrap().text, "waiting");
        let ended = confined.stop().await;
        assert_eq!(ended.how, How::Stopped);
    });
}

fn what_does_not_stop_is_ended(house: &House) {
    house.run(async {
        let mut cell = house.cell(&["deaf"]);
        cell.limits.grace = Duration::from_millis(300);
        let mut confined = house.sandbox().await.start(cell).await.unwrap();
        assert_eq!(confined.next().await.unwrap().text, "waiting");
        let begun = tokio::time::Instant::now();
        let ended = confined.stop().await;
        assert_eq!(ended.how, How::Stopped);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    });
}

fn without_bubblewrap_nothing_runs(house: &House) {
    house.run(async {
        let settings = Settings { bwrap: None, ..house.settings() };
        assert_eq!(Sandbox::probe(settings).await.unwrap_err(), Lack::NoBubblewrap);
        let settings = Settings { bwrap: Some("/usr/bin/false".into()), ..house.settings() };
        assert!(matches!(Sandbox::probe(settings).await, Err(Lack::Silent(_))));
    });
}

fn a_start_takes_little(house: &House) {
    house.run(async {
        let sandbox = house.sandbox().await;
        let mut took = Vec::new();
        for _ in 0..20 {
            let begun = tokio::time::Instant::now();
            let mut confined = sandbox.start(house.cell(&["hello"])).await.unwrap();
            assert_eq!(all_lines(&mut confined).await, ["hello"]);
            took.push(begun.elapsed());
            assert_eq!(confined.ended().await.how, How::Exit(0));
        }
        took.sort();
        println!("start to first line and end: median {:?}, worst {:?}", took[10], took[19]);
        assert!(took[10] < Duration::from_millis(1000), "{took:?}");
    });
}

fn an_agent_costs_the_server_little(house: &House) {
    const AGENTS: u64 = 20;
    let held = |process: &str| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    house.run(async {
        let sandbox = house.sandbox().await;
        let before = held("self");
        let mut agents = Vec::new();
        for _ in 0..AGENTS {
            let mut confined = sandbox.start(house.cell(&["wait"])).await.unwrap();
            assert_eq!(confined.next().await.unwrap().text, "waiting");
            agents.push(confined);
        }
        let each = held("self").saturating_sub(before) / AGENTS;
        let bwrap = agents[0].process().to_string();
        let shim = std::fs::read_to_string(format!("/proc/{bwrap}/task/{bwrap}/children")).unwrap();
        let (bwrap, shim) = (held(&bwrap), held(shim.trim()));
        println!("memory for an agent: {each} KiB in the server, {bwrap} in bubblewrap, {shim} in the shim");
        assert!(each < 2048, "{each} KiB");
        for confined in &mut agents {
            assert_eq!(confined.stop().await.how, How::Stopped);
        }
    });
}

fn the_door_leads_to_the_socket(house: &House) {
    house.run(async {
        let socket = house.path("door.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 256]).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nwho is there?").await.unwrap();
            }
        });
        let sandbox = house.sandbox().await;
        let port = sandbox.door_port();
        let mut cell = house.cell(&["ask", &port.to_string()]);
        cell.door = Some((socket, port));
        let mut confined = sandbox.start(cell).await.unwrap();
        assert_eq!(all_lines(&mut confined).await, ["who is there?"]);
        assert_eq!(confined.ended().await.how, How::Exit(0));
    });
}

fn how_it_ended_is_told(house: &House) {
    house.run(async {
        let mut confined = house.start(&["die"]).await;
        assert_eq!(confined.ended().await.how, How::Signal(6));
        // Some agents end with the number of an HTTP status, which looks like a signal and is none.
        let mut confined = house.start(&["echo", "145"]).await;
        confined.close_input().await;
        assert_eq!(confined.ended().await.how, How::Exit(145));
        let mut cell = house.cell(&[]);
        cell.program = "/opt/agent/nobody".into();
        let lack = house.sandbox().await.start(cell).await.unwrap_err();
        assert!(matches!(&lack, Lack::Refused(why) if why.contains("/opt/agent/nobody")), "{lack}");
        let mut cell = house.cell(&[]);
        cell.program = "agent".into();
        assert!(matches!(house.sandbox().await.start(cell).await, Err(Lack::NoFolder(_))));
    });
}

fn files_are_laid_into_its_home_and_links_are_not_followed(house: &House) {
    house.run(async {
        let (victim, workspace, home) = (house.path("victim"), house.path("workspace"), house.path("home"));
        std::fs::create_dir(&victim).unwrap();
        // An earlier run could have left these.
        std::os::unix::fs::symlink(&victim, home.join(".agent")).unwrap();
        std::os::unix::fs::symlink(&victim, workspace.join("out")).unwrap();
        std::os::unix::fs::symlink(victim.join("made"), home.join("plain")).unwrap();
        let mut cell = house.cell(&["hello"]);
        cell.files = vec![(".agent/config/settings.toml".into(), "mine".into()), ("plain".into(), "words".into())];
        let mut confined = house.sandbox().await.start(cell).await.unwrap();
        assert_eq!(confined.ended().await.how, How::Exit(0));
        assert_eq!(std::fs::read_to_string(home.join(".agent/config/settings.toml")).unwrap(), "mine");
        assert_eq!(std::fs::read_to_string(home.join("plain")).unwrap(), "words");
        assert!(!home.join(".agent").is_symlink() && !workspace.join("out").is_symlink());
        assert_eq!(std::fs::read_dir(victim).unwrap().count(), 0);

        let mut cell = house.cell(&["hello"]);
        cell.files = vec![("../escaped".into(), "x".into())];
        assert!(matches!(house.sandbox().await.start(cell).await, Err(Lack::NoFolder(_))));
        assert!(!house.path("escaped").exists());
    });
}

fn who_may_only_look_changes_nothing(house: &House) {
    std::fs::write(house.path("workspace").join("note.txt"), "storks\n").unwrap();
    std::fs::create_dir_all(house.path("workspace").join(".git/hooks")).unwrap();
    house.run(async {
        let mut cell = house.cell(&[]);
        cell.program = "/bin/sh".into();
        let script = "cat note.txt; echo more >> note.txt; rm note.txt; echo new > new.txt; echo new > out/new.txt; \
                      echo new > .git/new; mkdir deep; mv note.txt moved.txt; echo mine > ~/mine.txt && echo home";
        cell.args = vec!["-c".into(), script.into()];
        cell.looks = true;
        let mut confined = house.sandbox().await.start(cell).await.unwrap();
        let lines = all_lines(&mut confined).await;
        assert_eq!(lines, ["storks", "home"]);
        let ended = confined.ended().await;
        assert_eq!(ended.how, How::Exit(0), "{}", ended.errors);
        assert_eq!(ended.errors.lines().count(), 7, "{}", ended.errors);
    });
    let mut names: Vec<_> =
        std::fs::read_dir(house.path("workspace")).unwrap().flatten().map(|e| e.file_name()).collect();
    names.sort();
    assert_eq!(names, [".git", "note.txt", "out"]);
    assert_eq!(std::fs::read_to_string(house.path("workspace").join("note.txt")).unwrap(), "storks\n");
}

fn git_works_inside(house: &House) {
    if !std::path::Path::new("/usr/bin/git").exists() {
        println!("NOT PROVED: this machine has no git.");
        return;
    }
    house.run(async {
        let sandbox = house.sandbox().await;
        let git = async |script: &str| {
            let mut cell = house.cell(&[]);
            cell.program = "/bin/sh".into();
            cell.args = vec!["-ec".into(), script.into()];
            let name = |name: &str| (name.to_owned(), "agent@example.com".to_owned());
            cell.env
                .extend(["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"].map(name));
            let mut confined = sandbox.start(cell).await.unwrap();
            let lines = all_lines(&mut confined).await;
            let ended = confined.ended().await;
            assert_eq!(ended.how, How::Exit(0), "{}", ended.errors);
            lines
        };
        git("git init -q .; echo one > file; git add file; git commit -qm one").await;
        // From now on its hooks and its configuration are kept as they are.
        let script = "echo two > file; git commit -qam two; git checkout -qb other; git stash list; \
                      git merge -q HEAD~1; git gc -q; git log --format=%s; git config a.b c && exit 9; true";
        assert_eq!(git(script).await, ["two", "one"]);
    });
}

fn who_is_being_asked_may_wait(house: &House) {
    house.run(async {
        let mut cell = house.cell(&["wait"]);
        cell.limits.idle = Duration::from_millis(300);
        let mut confined = house.sandbox().await.start(cell).await.unwrap();
        confined.hold(true);
        let waited = tokio::time::timeout(Duration::from_secs(1), confined.ended()).await;
        assert!(waited.is_err(), "{waited:?}");
        confined.hold(false);
        assert_eq!(confined.ended().await.how, How::Idle);
    });
}

/// A server with an agent, for somebody to end without a warning.
pub fn server(folder: &str) -> std::process::ExitCode {
    let house = House::at(folder.into());
    house.run(async {
        let mut cell = house.cell(&["stay", &house.mark()]);
        cell.limits.wall = Duration::from_secs(60);
        let sandbox = if house.path("bare").exists() { Sandbox::none(house.settings()) } else { house.sandbox().await };
        if !sandbox.is_tight() {
            cell.program = std::env::current_exe().unwrap();
        }
        let confined = sandbox.start(cell).await.unwrap();
        println!("started");
        std::future::pending::<()>().await;
        drop(confined);
    });
    std::process::ExitCode::SUCCESS
}

/// A process that holds keys.
pub fn keeper() -> std::process::ExitCode {
    salon_engine::sandbox::protect_ourselves().unwrap();
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    std::process::ExitCode::SUCCESS
}

fn nobody_looks_into_who_holds_keys(house: &House) {
    use std::process::Stdio;
    let own = std::env::current_exe().unwrap();
    let mut keeper = house.program(own.to_str().unwrap(), &["keeper"]);
    let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(keeper.stdout.take().unwrap()), &mut line).unwrap();
    let folder = std::path::PathBuf::from(format!("/proc/{}", keeper.id()));
    let limits = std::fs::read_to_string(folder.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
    // Root sees everything; `an_ordinary_user_has_the_same_walls` asks again as somebody else.
    if !rustix::process::geteuid().is_root() {
        assert!(std::fs::read(folder.join("environ")).is_err());
        assert!(std::fs::File::open(folder.join("mem")).is_err());
    }
    drop(keeper.stdin.take());
    assert!(keeper.wait().unwrap().success());
}

fn nobody_survives_the_server(house: &House) {
    let own = std::env::current_exe().unwrap();
    for bare in [false, true] {
        if bare {
            std::fs::write(house.path("bare"), "").unwrap();
        }
        for pause in [0, 20, 300] {
            let mut server = house.program(own.to_str().unwrap(), &["server", house.folder().to_str().unwrap()]);
            let mut server = server.stdout(std::process::Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(server.stdout.take().unwrap()), &mut line)
                .unwrap();
            assert_eq!(line, "started\n");
            std::thread::sleep(Duration::from_millis(pause));
            server.kill().unwrap();
            let begun = tokio::time::Instant::now();
            server.wait().unwrap();
            assert_eq!(house.run(house.left()), [""; 0], "somebody survived");
            assert!(begun.elapsed() < Duration::from_secs(1), "bare: {bare}, after {pause} ms: {:?}", begun.elapsed());
        }
    }
}

fn without_a_cell_there_are_limits_and_an_end(house: &House) {
    house.run(async {
        let sandbox = Sandbox::none(house.settings());
        assert!(!sandbox.is_tight());
        let bare = |args: &[&str]| {
            let mut cell = house.cell(args);
            cell.program = std::env::current_exe().unwrap();
            cell.limits.processes = 4096;
            cell
        };
        let mut confined = sandbox.start(bare(&["echo", "3"])).await.unwrap();
        confined.write("alice").await;
        confined.close_input().await;
        assert_eq!(all_lines(&mut confined).await, ["heard alice"]);
        assert_eq!(confined.ended().await.how, How::Exit(3));
        let mut confined = sandbox.start(bare(&["files"])).await.unwrap();
        let lines = all_lines(&mut confined).await;
        assert!(lines[0].trim_end_matches(" files").parse::<u32>().unwrap() < 512, "{lines:?}");
        // Where it works and lives is told in its own words.
        let mut cell = bare(&["artifacts", "/etc/hostname"]);
        cell.env.push(("OUT".into(), salon_engine::agent::OUT.into()));
        cell.args = vec!["-c".into(), "echo $HOME $OUT; pwd".into()];
        cell.program = "/bin/sh".into();
        let mut confined = sandbox.start(cell).await.unwrap();
        let (home, workspace) = (house.path("home"), house.path("workspace"));
        let said = [format!("{} {}", home.display(), workspace.join("out").display()), workspace.display().to_string()];
        assert_eq!(all_lines(&mut confined).await, said);

        let mark = house.mark();
        let mut confined = sandbox.start(bare(&["daemons", &mark])).await.unwrap();
        assert_eq!(confined.ended().await.how, How::Exit(0));
        assert_eq!(house.left().await, [""; 0], "somebody stayed behind");
        let mut cell = bare(&["deaf", &mark]);
        cell.limits.grace = Duration::from_millis(200);
        let mut confined = sandbox.start(cell).await.unwrap();
        assert_eq!(confined.stop().await.how, How::Stopped);
        assert_eq!(house.left().await, [""; 0], "somebody stayed behind");
    });
}

/// Root's cell and everybody else's are made in two ways; this tries the other one, too.
fn an_ordinary_user_has_the_same_walls(house: &House) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let open = tempfile::Builder::new().prefix("cell-open-").tempdir().unwrap();
    std::fs::set_permissions(open.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = open.path().join("cell");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let tests = ["runs::", "deeds::"];
    let mut command = house.program(copy.to_str().unwrap(), &tests);
    command.uid(65_534).gid(65_534).current_dir("/").env_remove("TMPDIR");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.lines().filter(|line| line.ends_with("ok")).count() >= 15, "{said}");
}
