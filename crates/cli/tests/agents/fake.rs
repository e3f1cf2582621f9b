//! Programs of nobody, which do what real ones do seldom: they cannot ask, or they have changed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use salon::agents::Hosts;
use salon_cli::config::{AcpConfig, AgentConfig};
use salon_engine::agent::Policy;

/// A program that is this script, in a folder of the test's.
pub fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let program = folder.join(name);
    std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// An agent of the configuration that does what it wants without asking.
pub fn silent(name: &str, program: PathBuf) -> AgentConfig {
    AgentConfig {
        name: name.to_owned(),
        program: Some(program),
        model: None,
        policy: Policy::Workspace,
        show: Vec::new(),
        hosts: Hosts::default(),
        steer: true,
        acp: Some(AcpConfig { args: Vec::new(), model_args: Vec::new(), env: Vec::new(), silent: true }),
    }
}
