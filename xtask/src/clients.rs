//! The bots of other libraries in `e2e/clients/`, the official SDKs in `e2e/sdks/`, and schemathesis in `e2e/schema/`:
//! builds Salon, finds Node and Python, fetches the libraries, and runs what `package.json` there calls `test`, or
//! `run.py`.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::node;
use crate::run::{self, program, read};

/// The minor versions of Python 3 that all the libraries of the `requirements.txt` run on.
const PYTHON_3: RangeInclusive<u32> = 11..=14;

pub fn test() -> Result<()> {
    let folder = run::root().join("e2e/clients");
    let salon = run::build_salon()?;
    let node = node::find()?;
    let python = python_with_packages("clients-venv", &folder.join("requirements.txt"))?;
    println!(
        "{} and {}",
        read(program(&node).arg("--version"))?.trim(),
        read(program(&python).arg("--version"))?.trim()
    );
    let mut tests = node::npm_with_packages(&node, &folder)?;
    run::run(tests.arg("test").env("SALON_BIN", salon).env("CLIENTS_PYTHON", python))
}

/// The official SDKs in `e2e/sdks/`, against the real program.
pub fn test_sdks() -> Result<()> {
    let folder = run::root().join("e2e/sdks");
    let salon = run::build_salon()?;
    let node = node::find()?;
    let python = python_with_packages("sdks-venv", &folder.join("requirements.txt"))?;
    let litellm = python_with_packages("sdks-litellm-venv", &folder.join("litellm/requirements.txt"))?;
    let mut tests = node::npm_with_packages(&node, &folder)?;
    tests.arg("test").env("SALON_BIN", salon).env("SDKS_PYTHON", python).env("SDKS_LITELLM_PYTHON", litellm);
    run::run(&mut tests)
}

/// The description of the API against the real program, as each role, in `e2e/schema/`.
pub fn test_schema(long: bool) -> Result<()> {
    let folder = run::root().join("e2e/schema");
    let salon = run::build_salon()?;
    let python = python_with_packages("schema-venv", &folder.join("requirements.txt"))?;
    let mut tests = program(&python);
    tests.arg(folder.join("run.py")).env("SALON_BIN", salon);
    if long {
        tests.arg("--long");
    }
    run::run(&mut tests)
}

/// Signing on at the OpenID provider in `e2e/oidc/`, by the real program.
pub fn test_oidc() -> Result<()> {
    let folder = run::root().join("e2e/oidc");
    let salon = run::build_salon()?;
    let mut tests = node::npm_with_packages(&node::find()?, &folder)?;
    run::run(tests.arg("test").env("SALON_BIN", salon))
}

/// The coding agents that the tests run, and the folder in which they are. The claude package copies its program into
/// place by a script, which would not be run here; the program is found where it came in.
pub fn install_agents() -> Result<PathBuf> {
    // They are run in a cell or not at all, and the tests try the real one.
    if run::on_path("bwrap").is_none() {
        run::install("bubblewrap", &["bubblewrap"])?;
    }
    let folder = run::root().join("e2e/agents");
    node::npm_with_packages(&node::find()?, &folder)?;
    Ok(folder)
}

/// A Python of our own in `target/`, with exactly these packages. It is made anew when the list changes.
fn python_with_packages(name: &str, requirements: &Path) -> Result<PathBuf> {
    let folder = run::root().join("target").join(name);
    let python = folder.join("bin/python");
    // The note is written last, so that a half-made folder is never taken for a whole one.
    let note = folder.join("made-from.txt");
    let wanted = fs::read_to_string(requirements)?;
    if is_made_from(&note, &wanted) && read(program(&python).arg("--version")).is_ok() {
        return Ok(python);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    run::run(program(find()?).args(["-m", "venv"]).arg(&folder))?;
    // Wheels only, as recorded: nothing that comes along is run while it is installed.
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"];
    let exact = ["--require-hashes", "--only-binary", ":all:", "--requirement"];
    run::run(program(&python).args(install).args(exact).arg(requirements))?;
    fs::write(&note, wanted)?;
    Ok(python)
}

fn is_made_from(note: &Path, wanted: &str) -> bool {
    fs::read_to_string(note).is_ok_and(|text| text == wanted)
}

/// Finds a Python that is new enough and can make such folders, or installs Debian's.
fn find() -> Result<PathBuf> {
    if let Some(found) = usable() {
        return Ok(found);
    }
    let (oldest, newest) = (PYTHON_3.start(), PYTHON_3.end());
    let what = format!("Python 3.{oldest} to 3.{newest} with its module venv");
    run::install(&what, &["python3", "python3-venv"])?;
    usable().with_context(|| format!("{what} is still missing: the system's own Python is not such a one"))
}

fn usable() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = PYTHON_3.rev().map(|minor| format!("python3.{minor}"));
    let names: Vec<String> = std::iter::once("python3".to_owned()).chain(names).collect();
    let files = std::env::split_paths(&path)
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)).collect::<Vec<_>>());
    // Debian ships `venv` without the `ensurepip` that it needs, in another package: ask for both.
    let is_usable = |file: &PathBuf| {
        let version = read(program(file).args(["-c", "import ensurepip, sys, venv; print(*sys.version_info[:2])"]));
        version.is_ok_and(|version| minor(&version).is_some_and(|minor| PYTHON_3.contains(&minor)))
    };
    files.filter(|file| run::is_program(file)).find(is_usable)
}

/// The 11 of "3 11", and nothing of another Python than 3.
fn minor(version: &str) -> Option<u32> {
    version.trim().strip_prefix("3 ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_python_prints() {
        assert_eq!(minor("3 11\n"), Some(11));
        assert_eq!(minor("2 7\n"), None);
        assert_eq!(minor("30 1\n"), None);
        assert_eq!(minor(""), None);
    }

    #[test]
    fn packages_are_fetched_again_when_the_list_has_changed_or_the_last_time_broke_off() {
        let note = std::env::temp_dir().join(format!("xtask-clients-{}", std::process::id()));
        assert!(!is_made_from(&note, "a==1\n"));
        fs::write(&note, "a==1\n").unwrap();
        assert!(is_made_from(&note, "a==1\n"));
        assert!(!is_made_from(&note, "a==2\n"));
        fs::remove_file(&note).unwrap();
    }
}
