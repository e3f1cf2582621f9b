//! Runs of agents that misbehave. What they report is believed only where it is bad; the rest is looked at from outside.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use salon_engine::sandbox::artifacts::{Caps, collect};
use salon_engine::sandbox::{Confined, Ended, How};
use tokio::time::Instant;

use crate::Test;
use crate::house::{House, all_lines};

pub const TESTS: &[Test] = &[
    ("deeds::nothing_is_found_by_reading_everything", nothing_is_found_by_reading_everything),
    ("deeds::nobody_is_reached_at_two_hundred_places", nobody_is_reached_at_two_hundred_places),
    ("deeds::nothing_is_changed_outside_and_no_wall_is_climbed", nothing_is_changed_outside_and_no_wall_is_climbed),
    ("deeds::nobody_is_signalled", nobody_is_signalled),
    ("deeds::what_is_left_for_people_is_what_it_seems", what_is_left_for_people_is_what_it_seems),
    ("deeds::daemons_go_with_their_agent", daemons_go_with_their_agent),
    ("deeds::what_is_said_without_end_is_not_heard_without_end", what_is_said_without_end_is_not_heard_without_end),
    ("deeds::what_is_taken_is_limited", what_is_taken_is_limited),
    ("deeds::the_house_answers_while_agents_rage", the_house_answers_while_agents_rage),
];

/// What must not come out.
const SECRET: &str = "CANARY-7f3a9c";

/// Runs a misdeed to its end.
async fn run(house: &House, args: &[&str]) -> (Vec<String>, Ended) {
    let mut confined = house.start(args).await;
    let lines = all_lines(&mut confined).await;
    (lines, confined.ended().await)
}

/// Judges a report: nothing broke, and this many were tried.
fn judge(lines: &[String], ended: &Ended, at_least: usize) {
    let broke: Vec<_> = lines.iter().filter(|line| line.starts_with("BROKE")).collect();
    assert!(broke.is_empty(), "{broke:#?}");
    let held = lines.iter().filter(|line| line.starts_with("held")).count();
    println!("  {held} misdeeds held");
    assert_eq!(ended.how, How::Exit(0), "{}\n{}", ended.errors, lines.join("\n"));
    assert!(held >= at_least, "{held} were tried:\n{}", lines.join("\n"));
    assert!(!lines.iter().any(|line| line.contains(SECRET)), "a secret is in what it said");
    assert!(!ended.errors.contains(SECRET));
}

/// Hides a secret wherever one could be, and says where.
fn hide(house: &House) -> Vec<String> {
    let mut places = Vec::new();
    for name in [
        "salon/.ssh/id_ed25519",
        "salon/.codex/auth.json",
        "data/salon.db",
        "data/master.key",
        "other/workspace/plan.md",
        "sandbox/run",
    ] {
        let file = house.path(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        places.push(file);
    }
    for folder in ["/tmp", "/dev/shm", "/var/tmp"] {
        let file = Path::new(folder).join(format!("{}-secret", house.mark()));
        std::fs::write(&file, SECRET).unwrap();
        places.push(file);
    }
    places.iter().map(|place| place.to_str().unwrap().to_owned()).collect()
}

fn nothing_is_found_by_reading_everything(house: &House) {
    house.run(async {
        // One of us has it in its environment, as a server may.
        let mut keeper = house.program("sleep", &["60"]).env("MASTER_KEY", SECRET).spawn().unwrap();
        let places = hide(house);
        let args: Vec<&str> = ["snoop"].into_iter().chain(places.iter().map(String::as_str)).collect();
        let (lines, ended) = run(house, &args).await;
        judge(&lines, &ended, 30);
        let environment = lines.iter().find(|line| line.starts_with("environment ")).unwrap();
        assert_eq!(environment, "environment HOME=/home/agent PATH=/usr/bin:/bin");
        keeper.kill().unwrap();
        keeper.wait().unwrap();
        for place in places {
            std::fs::remove_file(place).unwrap();
        }
    });
}

fn nobody_is_reached_at_two_hundred_places(house: &House) {
    house.run(async {
        let reached = Arc::new(AtomicUsize::new(0));
        let mut places = listening();
        let (tcp, udp) = (TcpListener::bind("0.0.0.0:0").unwrap(), UdpSocket::bind("0.0.0.0:0").unwrap());
        places.push(tcp.local_addr().unwrap().port().to_string());
        places.push(udp.local_addr().unwrap().port().to_string());
        let name = format!("{}-abstract", house.mark());
        let unnamed = UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name).unwrap()).unwrap();
        let path = house.path("data.sock");
        let named = UnixListener::bind(&path).unwrap();
        places.extend([
            format!("@{name}"),
            path.to_str().unwrap().to_owned(),
            "/run/docker.sock".into(),
            "/run/dbus/system_bus_socket".into(),
            "/run/systemd/private".into(),
        ]);
        for accept in [
            Box::new(move || tcp.accept().map(drop)) as Box<dyn Fn() -> std::io::Result<()> + Send>,
            Box::new(move || unnamed.accept().map(drop)),
            Box::new(move || named.accept().map(drop)),
            Box::new(move || udp.recv(&mut [0; 16]).map(drop)),
        ] {
            let reached = Arc::clone(&reached);
            std::thread::spawn(move || {
                while accept().is_ok() {
                    reached.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let args: Vec<&str> = ["network"].into_iter().chain(places.iter().map(String::as_str)).collect();
        let (lines, ended) = run(house, &args).await;
        judge(&lines, &ended, 200);
        assert_eq!(reached.load(Ordering::Relaxed), 0);
    });
}

/// The ports on which somebody listens on this machine.
fn listening() -> Vec<String> {
    let mut ports: Vec<u16> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|file| {
            std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let port = words.get(1)?.rsplit(':').next()?;
            (words.get(3) == Some(&"0A")).then(|| u16::from_str_radix(port, 16).ok())?
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports.truncate(30);
    ports.iter().map(u16::to_string).collect()
}

fn nothing_is_changed_outside_and_no_wall_is_climbed(house: &House) {
    house.run(async {
        let workspace = house.path("workspace");
        let write = |name: &str, text: &str| {
            let file = workspace.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        write(".claude/settings.json", r#"{"hooks":{"SessionStart":"touch PWNED"}}"#);
        write(".mcp.json", r#"{"mcpServers":{}}"#);
        write(".env", "ANTHROPIC_BASE_URL=http://evil.example\n");
        write(".git/HEAD", "ref: refs/heads/main\n");
        write(".git/config", "[core]\n");
        write(".git/hooks/post-commit", "#!/bin/sh\n");
        write("elsewhere/config.toml", "mine\n");
        std::os::unix::fs::symlink("elsewhere", workspace.join(".codex")).unwrap();
        let places = hide(house);
        let before = everything(house);
        let args: Vec<&str> = ["outside"].into_iter().chain(places.iter().map(String::as_str)).collect();
        let (lines, ended) = run(house, &args).await;
        // The link was put aside for as long as it ran, so in its place there was nothing, and something new could be made.
        let link = ["BROKE rename .codex", "BROKE remove .codex", "BROKE write .codex"];
        let lines: Vec<_> = lines.into_iter().filter(|line| !link.iter().any(|link| line.starts_with(link))).collect();
        judge(&lines, &ended, 100);
        let mut after = everything(house);
        assert_eq!(
            after.remove(&workspace.join(".git/HEAD")),
            Some("ref: refs/heads/ours\n".into()),
            "git works in there"
        );
        let mut before = before;
        before.remove(&workspace.join(".git/HEAD"));
        before.retain(|path, _| !path.starts_with(house.path("sandbox")));
        after.retain(|path, _| !path.starts_with(house.path("sandbox")));
        assert_eq!(before, after);
        assert_eq!(std::fs::read_link(workspace.join(".codex")).unwrap(), Path::new("elsewhere"));
        for place in places {
            std::fs::remove_file(place).unwrap();
        }
    });
}

/// All files of a test, with their texts.
fn everything(house: &House) -> std::collections::BTreeMap<PathBuf, String> {
    let mut found = std::collections::BTreeMap::new();
    let mut folders = vec![house.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.insert(entry.path(), String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned());
            } else if kind.is_symlink() {
                found.insert(entry.path(), std::fs::read_link(entry.path()).unwrap().display().to_string());
            }
        }
    }
    found
}

fn nobody_is_signalled(house: &House) {
    house.run(async {
        let mut neighbour = house.program("sleep", &["60"]).spawn().unwrap();
        let other = house.start(&["wait"]).await;
        let (lines, ended) = run(house, &["signals"]).await;
        judge(&lines, &ended, 3);
        assert_eq!(lines.last().unwrap(), "still here");
        assert!(neighbour.try_wait().unwrap().is_none(), "a process outside was ended");
        let mut other = other;
        assert_eq!(other.next().await.unwrap().text, "waiting");
        assert_eq!(other.stop().await.how, How::Stopped);
        neighbour.kill().unwrap();
        neighbour.wait().unwrap();
    });
}

fn what_is_left_for_people_is_what_it_seems(house: &House) {
    house.run(async {
        let places = hide(house);
        let (lines, ended) = run(house, &["artifacts", &places[0]]).await;
        assert_eq!((lines.last().unwrap().as_str(), ended.how), ("left", How::Exit(0)));
        let mut left = collect(&house.path("workspace"), &|_| true, &["out/stolen".into()], Caps::default()).unwrap();
        let names: Vec<_> = left.artifacts.iter().map(|artifact| (artifact.name.as_str(), artifact.media)).collect();
        assert_eq!(names, [("deep/er/picture.png", "image/png"), ("report.txt", "text/plain")]);
        let refused: Vec<_> =
            left.refused.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "hard").collect();
        assert_eq!(refused, ["everything", "large", "passwd", "pipe", "socket", "stolen"]);
        for artifact in &mut left.artifacts {
            assert!(!String::from_utf8_lossy(&artifact.read().unwrap()).contains(SECRET));
        }
        for place in places {
            std::fs::remove_file(place).unwrap();
        }
    });
}

fn daemons_go_with_their_agent(house: &House) {
    house.run(async {
        let mark = house.mark();
        let begun = Instant::now();
        let (lines, ended) = run(house, &["daemons", &mark]).await;
        assert_eq!((lines.join(" ").as_str(), ended.how), ("gone", How::Exit(0)));
        assert_eq!(house.left().await, [""; 0], "somebody stayed behind");
        assert!(begun.elapsed() < Duration::from_secs(10));

        // The same in the middle of a run.
        let mut confined = house.start(&["forks", &mark]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = Instant::now();
        assert_eq!(confined.stop().await.how, How::Stopped);
        assert_eq!(house.left().await, [""; 0], "somebody stayed behind");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

        // And when nobody wants it any more.
        let confined = house.start(&["forks", &mark]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(confined);
        assert_eq!(house.left().await, [""; 0], "somebody stayed behind");
    });
}

fn what_is_said_without_end_is_not_heard_without_end(house: &House) {
    house.run(async {
        let sandbox = house.sandbox().await;
        let mut cell = house.cell(&["lines"]);
        cell.limits.output_bytes = 1 << 20;
        let mut confined = sandbox.start(cell).await.unwrap();
        let lines = all_lines(&mut confined).await;
        assert_eq!(confined.ended().await.how, How::Flood);
        assert!(lines.len() <= 1 << 19 && lines.len() > 1 << 18, "{}", lines.len());

        // Nobody listens at all: it has to wait, and can be stopped.
        let mut confined = sandbox.start(house.cell(&["lines"])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(confined.stop().await.how, How::Stopped);

        let mut confined = sandbox.start(house.cell(&["line"])).await.unwrap();
        let line = confined.next().await.unwrap();
        assert_eq!((line.text.len(), line.cut), (1 << 20, true));
        assert_eq!(confined.next().await.unwrap().text, "after");
        assert_eq!(confined.ended().await.how, How::Exit(0));

        let mut confined = sandbox.start(house.cell(&["errors"])).await.unwrap();
        assert_eq!(confined.next().await.unwrap().text, "done");
        let ended = confined.ended().await;
        assert_eq!((ended.how, ended.errors.len()), (How::Exit(0), 64 << 10));
        assert!(ended.errors.ends_with("trouble number 199999\n"));

        let mut confined = sandbox.start(house.cell(&["bytes"])).await.unwrap();
        assert_eq!(confined.next().await.unwrap().text, "a\u{fffd}\u{fffd}\0\u{1b}]52;c;x\u{7}b");
        assert_eq!(confined.ended().await.how, How::Exit(0));
    });
}

fn what_is_taken_is_limited(house: &House) {
    house.run(async {
        let sandbox = house.sandbox().await;
        let begin = |args: &[&str], limit: &dyn Fn(&mut salon_engine::sandbox::Limits)| {
            let mut cell = house.cell(args);
            limit(&mut cell.limits);
            let sandbox = sandbox.clone();
            async move { sandbox.start(cell).await.unwrap() }
        };
        let end = async |mut confined: Confined| {
            let begun = Instant::now();
            let lines = all_lines(&mut confined).await;
            let how = confined.ended().await.how;
            println!("  {how} after {:?}", begun.elapsed());
            (lines, how)
        };
        const MIB: u64 = 1 << 20;
        let (_, how) = end(begin(&["memory"], &|limits| limits.memory_bytes = 256 * MIB).await).await;
        assert_eq!(how, How::Memory);
        let (_, how) = end(begin(&["memory"], &|limits| limits.data_bytes = 128 * MIB).await).await;
        assert_eq!(how, How::Signal(6), "who gets no more memory ends itself");
        let (lines, how) = end(begin(&["large"], &|_| ()).await).await;
        assert_eq!((lines.join(" ").as_str(), how), ("held a terabyte", How::Exit(0)));
        let (lines, how) = end(begin(&["shared"], &|limits| limits.tmp_bytes = 16 * MIB).await).await;
        assert_eq!((lines.last().unwrap().starts_with("full after"), how), (true, How::Exit(0)), "{lines:?}");
        let (lines, how) = end(begin(&["files"], &|_| ()).await).await;
        assert_eq!(how, How::Exit(0));
        assert!(lines[0].trim_end_matches(" files").parse::<u32>().unwrap() < 512, "{lines:?}");
        let (lines, how) = end(begin(&["threads"], &|_| ()).await).await;
        assert_eq!(how, How::Exit(0));
        assert!(lines[0].trim_end_matches(" threads").parse::<u32>().unwrap() < 256, "{lines:?}");
        let (lines, how) = end(begin(&["file"], &|limits| limits.file_bytes = 8 * MIB).await).await;
        assert!(how == How::Signal(25) || lines == ["at 8388608"], "{how:?} {lines:?}");
        std::fs::remove_file(house.path("workspace/one")).unwrap();

        let (_, how) = end(begin(&["disk"], &|limits| {
            limits.disk_bytes = 64 * MIB;
            limits.file_bytes = 8 * MIB
        })
        .await)
        .await;
        assert_eq!(how, How::Disk);
        clear(&house.path("workspace"));
        let (_, how) = end(begin(&["names"], &|limits| limits.disk_files = 500).await).await;
        assert_eq!(how, How::Disk);
        clear(&house.path("workspace"));

        let (_, how) = end(begin(&["wait"], &|limits| limits.wall = Duration::from_millis(500)).await).await;
        assert_eq!(how, How::TimedOut);
        let (_, how) = end(begin(&["wait"], &|limits| limits.idle = Duration::from_millis(500)).await).await;
        assert_eq!(how, How::Idle);
        assert_eq!(house.left().await, [""; 0]);
    });
}

fn clear(folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::create_dir(folder).unwrap();
}

fn the_house_answers_while_agents_rage(house: &House) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut request = [0; 256];
            let asked = stream.read(&mut request).unwrap_or(0);
            assert!(asked > 0);
            stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").ok();
        }
    });
    house.run(async {
        let sandbox = house.sandbox().await;
        let mark = house.mark();
        let mut raging = Vec::new();
        for (at, args) in
            [vec!["forks", &mark], vec!["cpu"], vec!["disk"], vec!["lines"], vec!["memory"], vec!["forks", &mark]]
                .iter()
                .enumerate()
        {
            let mut cell = house.cell(args);
            for folder in [&mut cell.home, &mut cell.workspace] {
                *folder = house.path(&format!("{}-{at}", folder.file_name().unwrap().display()));
                std::fs::create_dir(folder).unwrap();
            }
            cell.limits.memory_bytes = 128 << 20;
            cell.limits.disk_bytes = 128 << 20;
            raging.push(sandbox.start(cell).await.unwrap());
        }
        let asked = tokio::task::spawn_blocking(move || {
            let mut took = Vec::new();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(4) {
                let asked = Instant::now();
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                took.push(asked.elapsed());
                std::thread::sleep(Duration::from_millis(5));
            }
            took.sort();
            took
        });
        let took = asked.await.unwrap();
        let p95 = took[took.len() * 95 / 100];
        println!("  {} answers, p95 {p95:?}, worst {:?}", took.len(), took[took.len() - 1]);
        let begun = Instant::now();
        for confined in &raging {
            confined.ask_to_stop();
        }
        for confined in &mut raging {
            confined.ended().await;
        }
        assert_eq!(house.left().await, [""; 0], "somebody stayed behind");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(p95 < Duration::from_millis(300), "p95 {p95:?}");
    });
}
