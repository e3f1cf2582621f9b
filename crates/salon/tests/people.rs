//! People, their keys and their secrets: who is let in, and what opens.

#[path = "people/cast.rs"]
mod cast;
#[path = "people/keys.rs"]
mod keys;
#[path = "people/masters.rs"]
mod masters;
#[path = "people/persons.rs"]
mod persons;
#[path = "people/rotation.rs"]
mod rotation;
#[path = "people/sisters.rs"]
mod sisters;
#[path = "people/vault.rs"]
mod vault;
