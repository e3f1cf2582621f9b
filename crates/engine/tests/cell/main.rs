//! Cells, with the real bubblewrap around them.
//!
//! This program is three: the tests; the shim, as Salon itself is; and, inside, whoever misbehaves ([`evil`]). So nothing
//! is needed in a cell but what every cell has, and the tests list and run themselves as cargo and nextest expect.
//!
//! Without bubblewrap they fail: a sandbox that was not tried is none. `SALON_NO_BWRAP=1` is for machines where it cannot
//! be had, and says aloud what is not proved there.

#![expect(clippy::unwrap_used, reason = "all of this is a test, which clippy does not see without the usual harness")]

mod deeds;
mod evil;
mod house;
mod runs;

use std::process::ExitCode;

use house::House;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some(salon_engine::sandbox::SHIM) => salon_engine::sandbox::shim::run(&words[1..]),
        Some("evil") => evil::run(&words[1..]),
        Some("keeper") => runs::keeper(),
        Some("server") => runs::server(&words[1]),
        _ => test(&words),
    }
}

type Test = (&'static str, fn(&House));

fn test(words: &[String]) -> ExitCode {
    let tests = [runs::TESTS, deeds::TESTS].concat();
    let flag = |name: &str| words.iter().any(|word| word == name);
    let mut names = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--format" | "--color" | "--test-threads" | "--logfile" | "--skip" => drop(rest.next()),
            word if word.starts_with('-') => {}
            name => names.push(name),
        }
    }
    let fits = |test: &str| names.iter().any(|name| if flag("--exact") { *name == test } else { test.contains(name) });
    // No test is ever ignored.
    let chosen = tests.into_iter().filter(|(name, _)| !flag("--ignored") && (names.is_empty() || fits(name)));
    if flag("--list") {
        chosen.for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if std::env::var_os("SALON_NO_BWRAP").is_some() {
        println!("NOT PROVED: SALON_NO_BWRAP is set, so nothing about the sandbox was tried.");
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, test) in chosen {
        let house = House::open(name);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&house)));
        println!("test {name} ... {}", if ran.is_ok() { "ok" } else { "FAILED" });
        failed += usize::from(ran.is_err());
    }
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
