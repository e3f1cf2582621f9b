//! `gemini -o stream-json`: one errand for each process, from standard input to `result`.

mod talk;

use super::{Door, Errand, Launch, Maker, Policy, Talk, names, prompt};
use crate::EngineError;

pub struct Gemini;

impl Maker for Gemini {
    fn launch(&self, errand: &Errand) -> Result<Launch, EngineError> {
        let (model, thread) = (names::model(errand)?, names::thread(errand)?);
        // The workspace is what was asked for; a folder that is not trusted would end the run with code 55. What is
        // configured within it is masked by the cell.
        let mut args = ["-o", "stream-json", "--skip-trust", "--approval-mode", approval(errand.policy)]
            .map(str::to_owned)
            .to_vec();
        if let Some(model) = model {
            args.extend(["-m".to_owned(), model.to_owned()]);
        }
        if let Some(thread) = thread {
            args.extend(["--resume".to_owned(), thread.to_owned()]);
        }
        let files = vec![(".gemini/settings.json".into(), SETTINGS.to_owned())];
        Ok(Launch { args, env: env(&errand.door), files })
    }

    fn talk(&self, errand: &Errand) -> Box<dyn Talk> {
        Box::new(talk::GeminiTalk::new(errand))
    }
}

/// Without anybody to ask, `default` takes the tools that change something out of what the model is offered at all, which
/// is to look and think. `auto_edit` would leave commands out of what may be done in a workspace.
fn approval(policy: Policy) -> &'static str {
    match policy {
        Policy::Ask | Policy::ReadOnly => "default",
        Policy::Workspace | Policy::Full => "yolo",
    }
}

pub(super) fn env(door: &Door) -> Vec<(String, String)> {
    vec![
        ("GOOGLE_GEMINI_BASE_URL".into(), format!("http://127.0.0.1:{}", door.port)),
        ("GEMINI_API_KEY".into(), door.key.expose().to_owned()),
        // Otherwise it starts itself once more, and that child goes on when its parent is told to stop.
        ("GEMINI_CLI_NO_RELAUNCH".into(), "true".into()),
        ("GEMINI_TELEMETRY_ENABLED".into(), "false".into()),
        ("NO_COLOR".into(), "1".into()),
    ]
}

/// With a base URL and no chosen way to prove itself it would choose a gateway's, and end with code 41. The relay behind
/// the door tries again by itself; gemini's own attempts are five seconds apart at least. Commands do not get the door's
/// key into their environment. What it calls old sessions it would remove, among them the one that it goes on with.
pub(super) const SETTINGS: &str = r#"{
  "security": {
    "auth": { "selectedType": "gemini-api-key" },
    "environmentVariableRedaction": { "enabled": true }
  },
  "privacy": { "usageStatisticsEnabled": false },
  "telemetry": { "enabled": false },
  "general": {
    "disableAutoUpdate": true,
    "disableUpdateNag": true,
    "maxAttempts": 2,
    "sessionRetention": { "enabled": false }
  }
}
"#;

/// What is told it first.
fn opening(errand: &Errand) -> String {
    prompt::plain(&errand.prompt)
}
