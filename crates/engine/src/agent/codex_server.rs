//! `codex app-server`: codex as an editor has it beside it, which asks before it does something.
//!
//! It speaks JSON-RPC (the program prints its protocol itself: `codex app-server generate-json-schema`). A process is
//! kept for one turn: `initialize`, a thread, a turn, and the end of input when the turn is complete.

mod talk;

use super::{Errand, Launch, Maker, Policy, Talk, codex, names};
use crate::EngineError;

pub struct CodexServer;

impl Maker for CodexServer {
    fn launch(&self, errand: &Errand) -> Result<Launch, EngineError> {
        // Their names travel within JSON, but a name that is none is nobody's model and nobody's thread.
        names::model(errand)?;
        names::thread(errand)?;
        Ok(Launch { args: vec!["app-server".into()], env: codex::env(&errand.door), files: codex::files(&errand.door) })
    }

    fn talk(&self, errand: &Errand) -> Box<dyn Talk> {
        Box::new(talk::ServerTalk::new(errand))
    }

    fn asks(&self) -> bool {
        true
    }

    fn steers(&self) -> bool {
        true
    }
}

/// When codex asks. `untrusted` is before every command and every change of a file.
fn approvals(policy: Policy) -> &'static str {
    match policy {
        Policy::Ask => "untrusted",
        Policy::ReadOnly | Policy::Workspace | Policy::Full => "never",
    }
}

/// What codex holds its commands to. Where somebody is asked about each of them, the cell is enough around those that
/// were allowed; a second sandbox within it would only break them ([`codex::sandbox`]).
fn sandbox(policy: Policy, held: bool) -> &'static str {
    match policy {
        Policy::Ask => "danger-full-access",
        policy => codex::sandbox(policy, held),
    }
}

#[cfg(test)]
mod tests;
