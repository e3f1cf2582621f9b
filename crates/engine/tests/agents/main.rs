//! Coding agents: how each is started, and what is made of its lines.
//!
//! The lines are recordings of real programs (`tests/fixtures/agents`); beside each stands what is told of it, in words.
#![expect(clippy::unwrap_used, reason = "the helpers below are test code, but no `#[test]` functions")]

mod damage;
mod launch;
mod lines;
mod recordings;
mod told;

use salon_engine::Secret;
use salon_engine::agent::{Claude, Codex, Door, Errand, Gemini, Maker, Policy};

fn errand(prompt: &str) -> Errand {
    Errand {
        prompt: prompt.into(),
        thread: None,
        model: None,
        policy: Policy::ReadOnly,
        held: false,
        door: Door { port: 4300, key: Secret::new("key-of-this-run") },
    }
}

/// The maker whose name a recording's name begins with.
fn maker(recording: &str) -> &'static dyn Maker {
    match recording {
        name if name.starts_with("codex") => &Codex,
        name if name.starts_with("gemini") => &Gemini,
        _ => &Claude,
    }
}
