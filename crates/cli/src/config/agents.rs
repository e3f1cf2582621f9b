//! Coding agents and where they work: from `salon.toml`, and from the names that the bridge used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use salon::agents::Hosts;
use salon_core::BotId;
use salon_engine::agent::Policy;
use serde::Deserialize;

use super::Env;

/// The agents that are known by name, and the variables that say where they are.
pub const KNOWN: [(&str, &str); 3] = [("codex", "CODEX_BIN"), ("gemini", "GEMINI_BIN"), ("claude", "CLAUDE_BIN")];

/// Those that speak the Agent Client Protocol and need nothing but their name.
pub const PRESETS: [&str; 3] = ["goose", "opencode", "qwen"];

/// An agent of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    pub name: String,
    /// Where it is; `None` if it was not found.
    pub program: Option<PathBuf>,
    pub model: Option<String>,
    pub policy: Policy,
    /// Folders of the host that it is shown beside what it is installed in.
    pub show: Vec<PathBuf>,
    /// Hosts that it may reach besides.
    pub hosts: Hosts,
    /// Whether people may tell it more while it is at work, where it can be told.
    pub steer: bool,
    /// How a program is started that speaks the Agent Client Protocol. `None` for those that are known by name.
    pub acp: Option<AcpConfig>,
}

/// `{url}`, `{key}` and `{model}` in it are the way to the models and what is asked of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcpConfig {
    pub args: Vec<String>,
    /// Added where a model is asked for.
    pub model_args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Its modes where it must ask and where it may only look, by its own names for them.
    pub ask_mode: Option<String>,
    pub read_only_mode: Option<String>,
    /// Whether it does what it wants without asking anybody.
    pub silent: bool,
}

impl AgentConfig {
    /// Whether it cannot ask before it acts.
    pub fn is_silent(&self) -> bool {
        self.acp.as_ref().is_some_and(|acp| acp.silent)
    }
}

/// Where agents work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspacesConfig {
    pub folder: PathBuf,
    /// Folders that people may choose, by their names.
    pub projects: BTreeMap<String, PathBuf>,
    /// Whether agents may be run with nothing around them.
    pub bare: bool,
    /// bubblewrap, if it is on the path.
    pub bwrap: Option<PathBuf>,
    /// The program that a cell begins with: this one.
    pub shim: PathBuf,
    /// Where `node` is looked for.
    pub path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FileAgent {
    program: Option<PathBuf>,
    model: Option<String>,
    policy: Option<String>,
    show: Vec<PathBuf>,
    hosts: Vec<String>,
    steer: Option<bool>,
    acp: Option<Vec<String>>,
    asks: Option<bool>,
    model_args: Vec<String>,
    env: BTreeMap<String, String>,
    modes: Option<FileModes>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct FileModes {
    ask: Option<String>,
    read_only: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FileWorkspaces {
    folder: Option<PathBuf>,
    projects: BTreeMap<String, PathBuf>,
    sandbox: Option<String>,
}

pub(super) fn agents(env: &mut Env, mut file: BTreeMap<String, FileAgent>) -> Result<Vec<AgentConfig>> {
    let path = env.any("PATH").unwrap_or_default();
    let on_path = |name: &Path| {
        if name.components().count() > 1 {
            return Some(name.to_owned());
        }
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
    };
    let mut agents = Vec::new();
    for (name, variable) in KNOWN {
        let file = file.remove(name).unwrap_or_default();
        ensure!(file.acp.is_none(), "[agents.{name}] is known by name; give an agent of another name `acp`");
        let named = env.path(variable).or(file.program.clone()).unwrap_or_else(|| name.into());
        agents.push(agent(name.to_owned(), on_path(&named), file)?);
    }
    for (name, file) in file {
        ensure!(BotId::is_valid(&name), "[agents.{name}]: a name has letters, digits, '-', '_' and '.'");
        let preset = PRESETS.contains(&name.as_str());
        ensure!(
            preset || file.acp.is_some(),
            "[agents.{name}] needs `acp`: its arguments to speak the Agent Client Protocol"
        );
        let program = file.program.clone().or_else(|| preset.then(|| name.as_str().into()));
        let program = program.with_context(|| format!("[agents.{name}] needs a program"))?;
        agents.push(agent(name, on_path(&program), file)?);
    }
    agents.sort_by(|a: &AgentConfig, b| a.name.cmp(&b.name));
    Ok(agents)
}

fn agent(name: String, program: Option<PathBuf>, file: FileAgent) -> Result<AgentConfig> {
    let policy = match file.policy.as_deref() {
        None => Policy::default(),
        Some(word) => Policy::parse(word)
            .with_context(|| format!("[agents.{name}] policy is ask, read-only or workspace, not {word}"))?,
    };
    ensure!(file.asks.is_none() || file.acp.is_some(), "[agents.{name}] asks: whether it can is known");
    let silent = file.asks == Some(false);
    ensure!(
        !silent || policy != Policy::Ask,
        "[agents.{name}] cannot ask before it acts; its policy is read-only or workspace"
    );
    let program = program.filter(|program| program.is_file());
    ensure!(file.modes.is_none() || file.acp.is_some(), "[agents.{name}] modes: they are known");
    let (model_args, env) = (file.model_args, file.env.into_iter().collect());
    let FileModes { ask: ask_mode, read_only: read_only_mode } = file.modes.unwrap_or_default();
    let acp = file.acp.map(|args| AcpConfig { args, model_args, env, ask_mode, read_only_mode, silent });
    let hosts = Hosts::parse(&file.hosts).with_context(|| format!("[agents.{name}] hosts"))?;
    Ok(AgentConfig {
        name,
        program,
        model: file.model,
        policy,
        show: file.show,
        hosts,
        steer: file.steer.unwrap_or(true),
        acp,
    })
}

pub(super) fn workspaces(env: &mut Env, data: &Path, file: FileWorkspaces) -> Result<WorkspacesConfig> {
    // Beside the data, not in it: an agent's folder must not lead to the database.
    let usual = || {
        let name = data.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned());
        data.with_file_name(format!("{name}-agents"))
    };
    let folder = env.path("SALON_AGENTS").or(file.folder).unwrap_or_else(usual);
    let folder = std::path::absolute(&folder).with_context(|| format!("{} is no folder", folder.display()))?;
    let bare = match env.text("SALON_SANDBOX").or(file.sandbox).as_deref() {
        None | Some("required") => false,
        Some("none") => true,
        Some(other) => bail!("the sandbox is `required` or `none`, not {other}"),
    };
    for (name, path) in &file.projects {
        ensure!(BotId::is_valid(name), "[workspaces.projects] {name}: a name has letters, digits, '-', '_' and '.'");
        ensure!(path.is_absolute(), "[workspaces.projects] {name}: the folder is written from the root on");
    }
    let path = env.any("PATH").unwrap_or_default();
    let bwrap = std::env::split_paths(&path).map(|folder| folder.join("bwrap")).find(|program| program.is_file());
    let shim = std::env::current_exe().context("where is this program?")?;
    Ok(WorkspacesConfig { folder, projects: file.projects, bare, bwrap, shim, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<AgentConfig>> {
        let file: BTreeMap<String, FileAgent> = toml::from_str(text).expect("a table of agents");
        agents(&mut Env { values: BTreeMap::new(), old_names: Vec::new() }, file)
    }

    fn problem(text: &str) -> String {
        format!("{:#}", read(text).expect_err("a broken agent"))
    }

    #[test]
    fn an_agent_asks_unless_something_else_is_said_and_one_that_cannot_has_to_say_it() {
        let mine = |more: &str| format!("[mine]\nprogram = \"/bin/true\"\nacp = []\n{more}");
        let found = read(&mine("")).expect("agents");
        let found = found.iter().find(|agent| agent.name == "mine").expect("it");
        assert_eq!((found.policy, found.is_silent()), (Policy::Ask, false));
        let silent = read(&mine("asks = false\npolicy = \"workspace\"\n")).expect("agents");
        assert!(silent.iter().any(|agent| agent.name == "mine" && agent.is_silent()));
        for more in ["asks = false\n", "asks = false\npolicy = \"ask\"\n"] {
            let why = "[agents.mine] cannot ask before it acts; its policy is read-only or workspace";
            assert_eq!(problem(&mine(more)), why);
        }
        assert!(problem(&mine("policy = \"full\"\n")).contains("not full"), "that is an admin's to give");
        let modes = "modes = { ask = \"default\", read-only = \"plan\" }\n";
        let found = read(&mine(modes)).expect("agents");
        let acp = found.iter().find_map(|agent| agent.acp.clone()).expect("it");
        assert_eq!((acp.ask_mode.as_deref(), acp.read_only_mode.as_deref()), (Some("default"), Some("plan")));
        assert!(problem(&format!("[codex]\n{modes}")).contains("they are known"));
        assert!(problem("[codex]\nasks = false\n").contains("whether it can is known"));
    }
}
