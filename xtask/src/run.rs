//! Starts programs. Everything xtask does to the outside world passes through here.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail};

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ lies in the root of the checkout")
}

/// Where xtask keeps what it may throw away.
pub fn scratch() -> PathBuf {
    root().join("target/xtask")
}

#[expect(clippy::disallowed_methods, reason = "starting programs is what xtask is for, and this is its one door")]
pub fn program(name: impl AsRef<OsStr>) -> Command {
    Command::new(name)
}

/// The cargo that runs us.
///
/// `cargo run` describes xtask itself in the environment, and some build scripts (ring's) ask to be
/// run again when those variables change. Without them we share the build cache with a bare `cargo test`.
pub fn cargo() -> Command {
    let mut command = program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Builds Salon and says where it is: it lies where xtask itself was built.
pub fn build_salon() -> Result<PathBuf> {
    run(cargo().args(["build", "-p", "salon-cli", "--locked"]))?;
    let file = std::env::current_exe()?.with_file_name("salon");
    if is_program(&file) { Ok(file) } else { bail!("cargo did not build {}", file.display()) }
}

/// Runs a program to its end in front of the reader's eyes.
pub fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", line(command));
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    if status.success() { Ok(()) } else { Err(Failed { line: line(command), status }.into()) }
}

/// Runs a program quietly and returns what it printed; its complaint becomes the error.
pub fn read(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", line(command)))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return Err(Failed { line: line(command), status: output.status }).context(complaint);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Finds a program the way a shell would.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_program(file))
}

pub fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Whether we are root; read off a folder that every process owns.
pub fn is_root() -> Result<bool> {
    match Path::new("/proc/self").metadata() {
        Ok(meta) => Ok(meta.uid() == 0),
        Err(_) => Ok(read(program("id").arg("-u"))?.trim() == "0"),
    }
}

/// Installs Debian packages when we are allowed to; otherwise says what to install, in one line.
pub fn install(what: &str, packages: &[&str]) -> Result<()> {
    if !is_root()? || !Path::new("/etc/debian_version").exists() || on_path("apt-get").is_none() {
        bail!("{what} is missing: install it (on Debian: `apt-get install {}`)", packages.join(" "));
    }
    println!("{what} is missing: installing it.");
    let apt = || {
        let mut command = program("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let install = || run(apt().args(["install", "-y", "--no-install-recommends"]).args(packages));
    // The package lists of a fresh machine are empty and those of an old one point nowhere: only then fetch them.
    install().or_else(|_| run(apt().arg("update")).and_then(|()| install()))
}

/// The exit code that a failure asks for: that of the program which failed.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let failed = error.chain().find_map(|cause| cause.downcast_ref::<Failed>());
    failed.and_then(|failed| failed.status.code()).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[derive(Debug)]
struct Failed {
    line: String,
    status: ExitStatus,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with {}", self.line, self.status)
    }
}

impl std::error::Error for Failed {}

/// A command line to read: the program by its last name, since its folder says nothing.
fn line(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_the_exit_code_and_the_complaint() {
        let error = read(program("sh").args(["-c", "echo no storks >&2; exit 7"])).unwrap_err();
        assert_eq!(exit_code(&error), 7);
        assert!(format!("{error:#}").starts_with("no storks: `sh -c "), "{error:#}");
    }

    #[test]
    fn a_program_that_was_killed_still_fails() {
        let error = read(program("sh").args(["-c", "kill -9 $$"])).unwrap_err();
        assert_eq!(exit_code(&error), 1);
    }

    #[test]
    fn programs_are_found_by_name_and_folders_are_not_programs() {
        assert!(on_path("sh").is_some_and(|file| is_program(&file)));
        assert_eq!(on_path("no-such-parrot"), None);
        assert!(!is_program(root()));
    }
}
