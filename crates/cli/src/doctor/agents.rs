//! Whether agents are what we take them for: each is asked for its version and its help, in the cell it would work in, and
//! every flag that we would give it has to be in that help.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use salon::Clock;
use salon::agents::{ENVIRONMENT, Installed, Policy, mark};
use salon_bots::roster;
use salon_engine::Secret;
use salon_engine::agent::{Door, Errand, Launch};
use salon_engine::sandbox::{Cell, Limits, Sandbox, Show};
use salon_store::Store;

use super::Sheet;
use crate::config::{AgentConfig, Config};
use crate::house;

/// How long an agent may take to say what it can.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks at every agent. `closely` starts each of them.
pub(super) async fn agents(config: &Config, closely: bool, sheet: &mut Sheet) {
    // A database that is in use cannot be asked for its name; whoever uses it has looked.
    let database = match Store::open(&config.place, "doctor").await {
        Ok(store) => {
            let name = mark::name_of(&store, &Clock::default().id()).await.ok();
            store.close().await;
            name
        }
        Err(_) => None,
    };
    let sandbox = house::sandbox(config, database.as_deref()).await;
    // What is wrong with the list is told where it is looked at.
    let bots = roster::read(&config.bots_file, &config.around).unwrap_or_default();
    let of_bots: Vec<Policy> = bots.iter().filter_map(|bot| bot.policy).collect();
    for agent in &config.agents {
        let name = &agent.name;
        match (&agent.program, &sandbox) {
            (None, _) => sheet.note(&format!("agent {name} is not installed")),
            (Some(program), Err(lack)) => {
                let text = format!("agent {name} is at {}, and is not run: {lack}", program.display());
                let mend = match lack.contains("bwrap") {
                    true => "install bubblewrap (Debian: apt install bubblewrap), or see docs/guide/agents.md",
                    false => "see docs/guide/agents.md",
                };
                sheet.bad(&text, mend);
            }
            (Some(program), Ok(sandbox)) if closely => match look(config, agent, &of_bots, program, sandbox).await {
                Ok(Seen { version, missing }) if missing.is_empty() => {
                    sheet.good(&format!("agent {name} is {version} and knows every flag that it is given"));
                }
                Ok(Seen { version, missing }) => {
                    let text = format!("agent {name} is {version} and does not know {}", missing.join(", "));
                    sheet.bad(&text, "install the version that docs/guide/agents.md names");
                }
                Err(error) => {
                    sheet.bad(&format!("agent {name} does not answer: {error:#}"), "install it anew");
                }
            },
            (Some(program), Ok(_)) => sheet.good(&format!("agent {name} is at {}", program.display())),
        }
        if let (Some(_), Ok(sandbox)) = (&agent.program, &sandbox)
            && !sandbox.is_tight()
        {
            sheet.bad(&format!("agent {name} is run WITHOUT A SANDBOX"), "say sandbox = \"required\" in [workspaces]");
        }
    }
}

struct Seen {
    version: String,
    /// Flags that its help does not name.
    missing: Vec<String>,
}

/// Looks at an agent under its own policy, and under those that bots have.
async fn look(
    config: &Config,
    agent: &AgentConfig,
    of_bots: &[Policy],
    program: &Path,
    sandbox: &Sandbox,
) -> Result<Seen> {
    let own = look_under(agent.policy, config, agent, program, sandbox).await?;
    let mut missing = own.missing;
    for policy in Policy::NAMED.into_iter().filter(|policy| of_bots.contains(policy) && *policy != agent.policy) {
        let more = look_under(policy, config, agent, program, sandbox).await?.missing;
        let new: Vec<String> = more.into_iter().filter(|flag| !missing.contains(flag)).collect();
        missing.extend(new);
    }
    Ok(Seen { version: own.version, missing })
}

async fn look_under(
    policy: Policy,
    config: &Config,
    agent: &AgentConfig,
    program: &Path,
    sandbox: &Sandbox,
) -> Result<Seen> {
    let installed = Installed::find(program, &config.workspaces.path)?;
    let errand = Errand {
        prompt: String::new(),
        thread: Some("00000000-0000-0000-0000-000000000000".to_owned()),
        model: Some(agent.model.clone().unwrap_or_else(|| "model".to_owned())),
        policy,
        held: sandbox.is_tight(),
        door: Door { port: sandbox.door_port(), key: Secret::new("none") },
    };
    let launch = house::maker(agent, policy).launch(&errand)?;
    let version = ask(config, agent, &installed, &launch, &["--version".to_owned()], sandbox).await?;
    let version = version.lines().find(|line| !line.trim().is_empty()).context("it says no version")?.trim().to_owned();
    // Words in front of the flags are commands, which have a help of their own.
    let commands: Vec<String> = launch.args.iter().take_while(|arg| !arg.starts_with('-')).cloned().collect();
    let mut help = ask(config, agent, &installed, &launch, &["--help".to_owned()], sandbox).await?;
    if !commands.is_empty() {
        let words = [commands, vec!["--help".to_owned()]].concat();
        help.push_str(&ask(config, agent, &installed, &launch, &words, sandbox).await?);
    }
    Ok(Seen { version, missing: missing(&launch.args, &help) })
}

/// The flags among these arguments that a help page does not name.
fn missing(args: &[String], help: &str) -> Vec<String> {
    let named: BTreeSet<&str> =
        help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).filter(|word| word.starts_with('-')).collect();
    let flags = args.iter().filter(|arg| arg.starts_with('-') && arg.len() > 1);
    flags
        .map(|flag| flag.split_once('=').map_or(flag.as_str(), |(flag, _)| flag))
        .filter(|flag| !named.contains(flag))
        .map(str::to_owned)
        .collect()
}

/// What the program says to these words.
async fn ask(
    config: &Config,
    agent: &AgentConfig,
    installed: &Installed,
    launch: &Launch,
    words: &[String],
    sandbox: &Sandbox,
) -> Result<String> {
    let folder = config.workspaces.folder.join(".doctor");
    let (home, work) = (folder.join("home"), folder.join("work"));
    for folder in [&home, &work] {
        house::make_private_folder(folder)?;
    }
    let mut env = launch.env.clone();
    for (name, value) in ENVIRONMENT {
        if !env.iter().any(|(known, _)| known == name) {
            env.push((name.to_owned(), value.to_owned()));
        }
    }
    let shows = installed.show.iter().chain(&agent.show).cloned().map(Show::there).collect();
    let cell = Cell {
        args: installed.before.iter().chain(words).cloned().collect(),
        env,
        files: launch.files.clone(),
        shows,
        limits: Limits { wall: PATIENCE, ..Limits::default() },
        ..Cell::new(&installed.program, home, work)
    };
    let mut confined = sandbox.start(cell).await?;
    confined.close_input().await;
    let mut said = String::new();
    while let Some(line) = confined.next().await {
        said.push_str(&line.text);
        said.push('\n');
    }
    let ended = confined.ended().await;
    std::fs::remove_dir_all(&folder).ok();
    // Some say their help on standard error.
    said.push_str(&ended.errors);
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_has_to_be_named_as_it_is_given() {
        let help = "  -o, --output-format <FORMAT>\n  --model=NAME  which\n";
        let args = ["exec", "--json", "-o", "stream", "--model", "--output-format=x", "--out", "-"].map(str::to_owned);
        assert_eq!(missing(&args, help), ["--json", "--out"]);
    }
}
