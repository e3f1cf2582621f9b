//! Carrying between wires, seen from outside.

mod agents;
mod answers;
mod asks;
mod broken;
mod bytes;
mod cast;
mod matrix;
mod order;
