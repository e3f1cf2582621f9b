//! `claude -p --output-format stream-json`: one errand for each process, from standard input to `result`.

mod lines;
mod tools;

use super::{Door, Errand, HOME, Launch, Maker, Policy, Step, Talk, Verdict, names, prompt};
use crate::EngineError;

pub(super) use lines::Lines;

pub struct Claude;

impl Maker for Claude {
    fn launch(&self, errand: &Errand) -> Result<Launch, EngineError> {
        let mut args = args(errand)?;
        args.extend(permissions(errand.policy).iter().map(|arg| (*arg).to_owned()));
        Ok(Launch { args, env: env(errand), files: files() })
    }

    fn talk(&self, errand: &Errand) -> Box<dyn Talk> {
        Box::new(ClaudeTalk { prompt: prompt::plain(&errand.prompt), lines: Lines::new(errand) })
    }
}

/// What every way of talking to it has in common. Its lines come only with `--verbose`.
pub(super) fn args(errand: &Errand) -> Result<Vec<String>, EngineError> {
    let (model, thread) = (names::model(errand)?, names::thread(errand)?);
    // Settings and servers that lie in the workspace would be obeyed before anybody trusted them.
    let mut args = [
        "-p",
        "--verbose",
        "--output-format",
        "stream-json",
        "--include-partial-messages",
        "--setting-sources",
        "user",
        "--strict-mcp-config",
    ]
    .map(str::to_owned)
    .to_vec();
    if let Some(model) = model {
        args.extend(["--model".to_owned(), model.to_owned()]);
    }
    if let Some(thread) = thread {
        args.extend(["--resume".to_owned(), thread.to_owned()]);
    }
    Ok(args)
}

/// What it may do without asking. `--allowedTools` takes all arguments up to the next flag, so it comes last.
fn permissions(policy: Policy) -> &'static [&'static str] {
    match policy {
        // What was not allowed beforehand is denied at once. `plan` would look no further either, but answers with a plan.
        Policy::Ask | Policy::ReadOnly => &["--permission-mode", "dontAsk", "--allowedTools", "Read", "Glob", "Grep"],
        Policy::Workspace => &["--permission-mode", "acceptEdits", "--allowedTools", "Bash", "Read", "Glob", "Grep"],
        Policy::Full => &["--permission-mode", "bypassPermissions"],
    }
}

pub(super) fn env(errand: &Errand) -> Vec<(String, String)> {
    let Door { port, key } = &errand.door;
    let mut env = vec![
        ("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{port}")),
        ("ANTHROPIC_API_KEY", key.expose().to_owned()),
        ("CLAUDE_CONFIG_DIR", format!("{HOME}/.claude")),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
        ("DISABLE_TELEMETRY", "1".to_owned()),
        ("DISABLE_ERROR_REPORTING", "1".to_owned()),
        ("DISABLE_AUTOUPDATER", "1".to_owned()),
        // The relay behind the door tries again by itself; the ten attempts of old take minutes to say no.
        ("CLAUDE_CODE_MAX_RETRIES", "2".to_owned()),
    ];
    if errand.policy == Policy::Full {
        // In the cell it may be root, and lets nobody bypass anything as root, unless it knows that it is in one.
        env.push(("IS_SANDBOX", "1".to_owned()));
    }
    if let Some(model) = &errand.model {
        // What it does on the side would ask for a small model of its maker's, which the relay may not have.
        env.push(("ANTHROPIC_DEFAULT_HAIKU_MODEL", model.clone()));
        env.push(("CLAUDE_CODE_SUBAGENT_MODEL", model.clone()));
    }
    env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Its home lives on from run to run, so that threads can; what an agent wrote into its own settings, hooks for example,
/// does not. It forgets threads after so many days, and after thirty if nothing is said.
pub(super) fn files() -> Vec<(std::path::PathBuf, String)> {
    vec![(".claude/settings.json".into(), "{ \"cleanupPeriodDays\": 3650 }\n".to_owned())]
}

struct ClaudeTalk {
    prompt: String,
    lines: Lines,
}

impl Talk for ClaudeTalk {
    fn open(&mut self) -> Vec<Step> {
        vec![Step::Write(std::mem::take(&mut self.prompt)), Step::CloseInput]
    }

    fn hear(&mut self, line: &str) -> Vec<Step> {
        self.lines.hear(line)
    }

    fn decide(&mut self, _ask: &str, _verdict: Verdict) -> Vec<Step> {
        Vec::new()
    }

    fn ended(&mut self, code: Option<i32>, errors: &str) -> Result<(), EngineError> {
        self.lines.ended(code, errors)
    }
}
