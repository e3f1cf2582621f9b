//! The administrators' desk, asked as browsers and strangers ask it.

#[path = "../house/mod.rs"]
mod house;

mod bots;
mod doors;
mod kept;
mod people;
mod stage;
mod talk;
