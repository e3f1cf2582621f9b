//! To be written in the next commits.

use serde_json::Value;

#[allow(unused_imports, reason = "for the moment")]
use super::carry::{
    Door, Terms,
    fields::Fields,
    reader::Hear,
    writer::{Tell, Whole},
};
use super::talk::{Ask, CannotCarry, Piece};
use crate::upstream::Fault;

pub(super) fn read_ask(_fields: Fields) -> Result<Ask, CannotCarry> {
    Err(CannotCarry::new("", "This cannot be carried yet."))
}

#[allow(dead_code, reason = "for the moment")]
pub(super) fn write_ask(_ask: &mut Ask, _terms: &Terms<'_>) -> Result<Value, CannotCarry> {
    Err(CannotCarry::new("", "This cannot be carried yet."))
}

pub(super) fn answer(_door: &Door, _whole: Whole) -> Result<Value, Fault> {
    Err(Fault::Garbled)
}

pub(super) struct Answer;
impl Answer {
    pub(super) fn new(_id: &str) -> Answer {
        Answer
    }
}

impl Hear for Answer {
    fn frame(&mut self, _: Option<&str>, _: Value, _: &mut Vec<Piece>) -> Result<(), Fault> {
        Err(Fault::Garbled)
    }

    fn whole(&mut self, _: Value, _: &mut Vec<Piece>) -> Result<(), Fault> {
        Err(Fault::Garbled)
    }

    fn end(&mut self, _: &mut Vec<Piece>) -> Result<(), Fault> {
        Err(Fault::Cut)
    }
}

pub(super) struct Stream;
impl Stream {
    pub(super) fn new(_door: Door) -> Stream {
        Stream
    }
}

impl Tell for Stream {
    fn tell(&mut self, _: Piece, _: &mut Vec<u8>) -> Result<(), Fault> {
        Err(Fault::Garbled)
    }
}
