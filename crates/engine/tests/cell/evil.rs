//! Who is in the cell: it behaves, or it does what an agent might that somebody talked into it.
//!
//! Each misdeed is reported in a line, `held NAME` or `BROKE NAME: what came of it`. Nothing here needs to be secret, so it
//! may try as hard as it can.

mod flood;
mod network;
mod outside;
mod snoop;

use std::fmt::{Debug, Display};
use std::io::{BufRead as _, Write as _};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

pub fn run(words: &[String]) -> ExitCode {
    let rest = words.get(1..).unwrap_or_default();
    match words.first().map(String::as_str) {
        Some("echo") => {
            for line in std::io::stdin().lock().lines() {
                println!("heard {}", line.unwrap());
            }
            eprintln!("that was all");
            return ExitCode::from(rest[0].parse::<u8>().unwrap());
        }
        Some("hello") => println!("hello"),
        Some("wait") => {
            println!("waiting");
            sleep();
        }
        Some("deaf") => deaf(),
        Some("sleep") => sleep(),
        Some("die") => drop(rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::ABORT)),
        Some("ask") => ask(&rest[0]),
        Some("snoop") => snoop::snoop(rest),
        Some("network") => network::network(rest),
        Some("outside") => outside::outside(rest),
        Some("signals") => outside::signals(),
        Some("artifacts") => outside::artifacts(&rest[0]),
        Some("daemons") => daemons(&rest[0]),
        Some("stay") => {
            daemons(&rest[0]);
            sleep();
        }
        Some(other) => flood::flood(other, rest),
        None => return ExitCode::from(99),
    }
    ExitCode::SUCCESS
}

/// Reports a misdeed that should have failed.
pub fn misdeed<T: Debug, E: Display>(name: &str, result: Result<T, E>) {
    match result {
        Ok(what) => println!("BROKE {name}: {what:?}"),
        Err(_) => println!("held {name}"),
    }
}

/// Reports what should not be so.
pub fn never(name: &str, so: bool) {
    misdeed(name, if so { Ok("it is so") } else { Err("no") });
}

#[expect(clippy::disallowed_methods, reason = "an agent starts what it likes")]
pub fn program(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn sleep() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn deaf() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut signals = [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| signal(kind).unwrap());
        println!("waiting");
        let [terminate, interrupt] = &mut signals;
        loop {
            tokio::select! {
                _ = terminate.recv() => println!("no"),
                _ = interrupt.recv() => println!("no"),
            }
        }
    });
}

/// Asks by way of the door, as a client of a model does.
fn ask(port: &str) {
    use std::io::Read as _;
    let mut door = std::net::TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).unwrap();
    door.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    door.read_to_string(&mut answer).unwrap();
    println!("{}", answer.lines().last().unwrap_or_default());
}

/// Leaves as many behind as it can, in every manner, and ends.
fn daemons(mark: &str) {
    let own = std::env::current_exe().unwrap();
    let sleep = format!("{} evil sleep {mark}", own.display());
    for script in [
        format!("setsid {sleep} &"),
        format!("nohup {sleep} >/dev/null 2>&1 &"),
        format!("(({sleep} &) &)"),
        format!("setsid setsid sh -c '{sleep} & {sleep} &' &"),
        format!("trap '' TERM INT HUP; {sleep} &"),
        format!("{sleep} <&- >&- 2>&- &"),
    ] {
        // These keep our standard output open, as a grandchild does that nobody thought of.
        program("/bin/sh", &["-c", &script]).stdout(Stdio::inherit()).status().unwrap();
    }
    println!("gone");
}
