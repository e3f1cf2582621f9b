//! A test may need a process of its own: to be killed, or to live in a smaller world. It starts this binary anew, for
//! the same test alone, which then finds its role in the environment.

use std::process::{Command, Output, Stdio};

const ROLE: &str = "SALON_TEST_ROLE";

/// What the parent asked of this process; `None` in the parent.
pub fn role() -> Option<String> {
    variable(ROLE)
}

pub fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a test process reads what its parent left for it")]
    std::env::var(name).ok()
}

/// A command that runs `test` in `role`, behind `wrapper`, a program that runs the program it is given.
pub fn command(wrapper: &[&str], test: &str, role: &str) -> Command {
    let me = std::env::current_exe().expect("the test's own binary");
    let me = me.to_str().expect("a path that is text");
    let (program, arguments) = wrapper.split_first().unwrap_or((&me, &[]));
    let mut command = program_of(program);
    command.args(arguments);
    if !wrapper.is_empty() {
        command.arg(me);
    }
    command.args(["--exact", test, "--nocapture"]).env(ROLE, role).stdin(Stdio::null());
    command
}

pub fn program_of(name: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "tests start what they test against")]
    Command::new(name)
}

/// Runs a command to its end, which must be a good one.
pub fn run(mut command: Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    output
}

pub fn is_root() -> bool {
    run({
        let mut id = program_of("id");
        id.arg("-u");
        id
    })
    .stdout
    .trim_ascii()
        == b"0"
}
