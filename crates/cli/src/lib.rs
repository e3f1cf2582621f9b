//! The command line: configuration, wiring, commands.
//!
//! [`config`] reads what is set; [`house`] opens everything and closes it in order. The rest is one module for each
//! command of `salon --help`.

pub mod bench;
pub mod bot;
pub mod common;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod house;
pub mod master;
pub mod office;
pub mod serve;
pub mod webhook;
