//! Real agents in real cells, whose models are the scripted upstream, by way of the relay.
//!
//! They are installed from `e2e/agents`; `cargo xtask test` does that, and says where in `SALON_TEST_AGENTS`.

#![expect(clippy::unwrap_used, reason = "test code outside of `#[test]` functions")]

mod acp;
mod chat;
mod crash;
mod fake;
#[path = "../house/mod.rs"]
mod house;
mod policy;
#[expect(dead_code, reason = "it is the tests' that kill, and this needs less of it")]
#[path = "../kill/program.rs"]
mod program;
mod real;
#[expect(dead_code, reason = "it is the relay's, and this needs less of it")]
#[path = "../relay/stage.rs"]
mod stage;
