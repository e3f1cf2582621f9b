//! The browser tests: builds Salon, finds Node, Chromium and the coding agents, and runs what
//! `e2e/package.json` calls `test`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::clients;
use crate::node;
use crate::run::{self, program, read};

pub fn test(long: bool) -> Result<()> {
    let salon = run::build_salon()?;
    let chromium = chromium()?;
    let agents = clients::install_agents()?;
    let node = node::find()?;
    println!("{} and {}", read(program(&node).arg("--version"))?.trim(), chromium.display());
    let mut tests = node::npm_with_packages(&node, &run::root().join("e2e"))?;
    tests.arg("test").env("SALON_BIN", salon).env("CHROMIUM", chromium).env("SALON_TEST_AGENTS", agents);
    if long {
        tests.env("SALON_LONG", "1");
    }
    run::run(&mut tests)
}

fn chromium() -> Result<PathBuf> {
    if let Some(asked) = std::env::var_os("CHROMIUM") {
        let file = PathBuf::from(asked);
        return if run::is_program(&file) { Ok(file) } else { bail!("CHROMIUM is not a program: {}", file.display()) };
    }
    let find = || ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(run::on_path);
    if let Some(found) = find() {
        return Ok(found);
    }
    run::install("Chromium", &["chromium"])?;
    find().context("the package `chromium` brought no program of that name")
}
