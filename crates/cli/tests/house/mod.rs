//! What tests of the whole house share: a configuration that reaches nothing outside.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use salon::agents::Hosts;
use salon_bots::Surroundings;
use salon_cli::config::{AgentConfig, Config, Flags, JwtConfig, Log, LogForm, Roles, WorkspacesConfig};
use salon_cli::master::MasterSource;
use salon_engine::agent::Policy;
use salon_store::Place;

/// A house on this machine whose bots are in `bots.yaml` beside the data, and whose Telegram is at `telegram`.
pub fn config(folder: &Path, place: Place, telegram: &str) -> Config {
    Config {
        data: folder.join("data"),
        place,
        listen: ([127, 0, 0, 1], 0).into(),
        roles: Roles::ALL,
        bots_file: folder.join("bots.yaml"),
        around: Surroundings { api_base: telegram.to_owned(), engine: "parrot".to_owned(), ..Surroundings::default() },
        only: None,
        engines: Vec::new(),
        // As on a machine where somebody has installed one agent of three.
        agents: [("claude", Some("/usr/bin/claude")), ("codex", None), ("gemini", None)].map(agent).into(),
        // And nothing to put it into.
        workspaces: WorkspacesConfig {
            folder: folder.join("agents"),
            projects: BTreeMap::new(),
            bare: false,
            bwrap: None,
            shim: env!("CARGO_BIN_EXE_salon").into(),
            path: String::new(),
        },
        panels: Vec::new(),
        settings: salon::Settings {
            poll_interval: Duration::from_millis(50),
            drain: Duration::from_millis(200),
            longest_backoff: Duration::from_secs(1),
            ..salon::Settings::default()
        },
        runs: 16,
        metrics_token: None,
        master: MasterSource::File { path: folder.join("data").join("master.key"), make: true },
        jwt: JwtConfig::default(),
        // Nobody answers there.
        youtube_search: "http://127.0.0.1:9".to_owned(),
        youtube_fallback: "http://127.0.0.1:9".to_owned(),
        messenger: None,
        sources: salon::catalog::Sources::default(),
        relay: salon::relay::RelaySettings::default(),
        sessions: salon::sessions::SessionSettings::default(),
        anonymous: false,
        llm_listen: None,
        origins: Vec::new(),
        house: salon_web::HouseSettings::default(),
        providers: Vec::new(),
        flags: Flags::default(),
        log: Log { form: LogForm::Text, filter: "info".to_owned() },
        old_names: Vec::new(),
    }
}

fn agent((name, program): (&str, Option<&str>)) -> AgentConfig {
    AgentConfig {
        name: name.to_owned(),
        program: program.map(Into::into),
        model: None,
        policy: Policy::Ask,
        show: Vec::new(),
        hosts: Hosts::default(),
        steer: true,
        acp: None,
    }
}
