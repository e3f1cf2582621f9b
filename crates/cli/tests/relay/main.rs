//! The relay seen from outside: a real listener, a real ledger, and a scripted upstream in every protocol.
#![expect(clippy::unwrap_used, reason = "test code outside of `#[test]` functions")]

mod bytes;
mod cache;
mod cache_redis;
mod calls;
mod crowds;
mod embeddings;
mod health;
mod hostile;
#[path = "../house/mod.rs"]
mod house;
mod keys;
mod limits;
mod models;
mod panels;
mod raw;
mod sessions;
mod stage;
mod stateless;
mod tiers;
mod turns;
mod usage;
