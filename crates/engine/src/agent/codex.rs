//! `codex exec --json`: one errand for each process, from standard input to `turn.completed`.

mod talk;

use std::path::PathBuf;

use super::{Door, Errand, HOME, Launch, Maker, Policy, Talk, WORKSPACE, names};
use crate::EngineError;

/// The variable that our provider in the configuration reads its key from.
const KEY: &str = "SALON_DOOR_KEY";

pub struct Codex;

impl Maker for Codex {
    fn launch(&self, errand: &Errand) -> Result<Launch, EngineError> {
        let (model, thread) = (names::model(errand)?, names::thread(errand)?);
        let mut args =
            ["exec", "--json", "--skip-git-repo-check", "-C", WORKSPACE, "-s", sandbox(errand.policy, errand.held)]
                .map(str::to_owned)
                .to_vec();
        if let Some(model) = model {
            args.extend(["-m".to_owned(), model.to_owned()]);
        }
        // These belong to `exec`; `resume` knows none of the flags before it.
        if let Some(thread) = thread {
            args.extend(["resume".to_owned(), thread.to_owned()]);
        }
        // The prompt is on standard input.
        args.push("-".to_owned());
        Ok(Launch { args, env: env(&errand.door), files: files(&errand.door) })
    }

    fn talk(&self, errand: &Errand) -> Box<dyn Talk> {
        Box::new(talk::CodexTalk::new(errand))
    }
}

/// What codex holds its own commands to. Its sandbox is made of the very thing that our cell is made of, and within a cell
/// nobody can make another one: then no command runs at all. So the cell alone is around them, and where it may only look
/// the workspace cannot be written to in there. Where no cell holds it, its own sandbox is the only thing that does.
pub(super) fn sandbox(policy: Policy, held: bool) -> &'static str {
    match policy {
        // Nobody can be asked in this mode.
        Policy::Ask | Policy::ReadOnly if !held => "read-only",
        Policy::Ask | Policy::ReadOnly | Policy::Workspace | Policy::Full => "danger-full-access",
    }
}

pub(super) fn env(door: &Door) -> Vec<(String, String)> {
    vec![("CODEX_HOME".into(), format!("{HOME}/.codex")), (KEY.into(), door.key.expose().to_owned())]
}

/// Its configuration: the models are behind the door, and nothing else is asked of anybody. A provider of our own, because
/// the built-in one tries a WebSocket first, and chat's wire is none of codex's any more.
///
/// The relay behind the door tries again by itself, so codex tries little; and it would wait for a network for ever if it
/// were not told that its retries have an end. Commands do not get the door's key into their environment.
pub(super) fn files(door: &Door) -> Vec<(PathBuf, String)> {
    let config = format!(
        r#"model_provider = "salon"
model_reasoning_summary = "auto"
approval_policy = "never"
check_for_update_on_startup = false

[analytics]
enabled = false

[feedback]
enabled = false

[features]
plugins = false
unbounded_connection_retries = false

[shell_environment_policy]
inherit = "core"
ignore_default_excludes = false

[model_providers.salon]
name = "Salon"
base_url = "http://127.0.0.1:{}/v1"
env_key = "{KEY}"
wire_api = "responses"
request_max_retries = 1
stream_max_retries = 1
"#,
        door.port
    );
    vec![(".codex/config.toml".into(), config)]
}
