//! Pieces in an order that every wire can be written in: one call after the other, and nothing in the midst of a call.
//!
//! Chat streams may weave their calls together and do not say where one ends; Anthropic's and OpenAI's newer streams
//! open and close one after the other. A call is passed on as it grows, until another begins before it is whole: that
//! one waits, and whatever comes after it.

use std::collections::VecDeque;

use super::frames;
use crate::upstream::Fault;
use crate::wire::talk::{Finish, Piece};

const MAX_CALLS: usize = 4_096;
/// The most that one answer may be, in bytes of text and arguments.
const MAX_ANSWER: usize = 32 << 20;

#[derive(Debug, Default)]
pub(super) struct Order {
    begun: bool,
    calls: usize,
    bytes: usize,
    open: Option<Open>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Open {
    call: usize,
    json: String,
}

#[derive(Debug)]
enum Waiting {
    Call { call: usize, id: String, name: String, json: String, done: bool },
    Other(Piece),
}

impl Order {
    /// Appends the steps that are due now that `piece` has come.
    ///
    /// Of them: `Begin` is the first, each `Call` has its `CallDone` before anything else, a call that ended without
    /// arguments has empty ones, and an `End` says `Calls` if there were any, and only then.
    pub(super) fn take(&mut self, piece: Piece, out: &mut Vec<Piece>) -> Result<(), Fault> {
        if !matches!(piece, Piece::Begin { .. } | Piece::Broken(_)) && !std::mem::replace(&mut self.begun, true) {
            out.push(Piece::Begin { tokens: None });
        }
        self.bytes = self.bytes.saturating_add(match &piece {
            Piece::Text(text) | Piece::Thought(text) | Piece::Refusal(text) => text.len(),
            Piece::Arguments { json, .. } => json.len(),
            Piece::Call { id, name, .. } => id.len() + name.len(),
            _ => 0,
        });
        if self.bytes > MAX_ANSWER {
            return Err(Fault::Garbled);
        }
        match piece {
            Piece::Begin { .. } => {
                if !std::mem::replace(&mut self.begun, true) {
                    out.push(piece);
                }
            }
            Piece::Text(text) | Piece::Thought(text) | Piece::Refusal(text) if text.is_empty() => {}
            Piece::Text(_) | Piece::Thought(_) | Piece::Refusal(_) => {
                self.close_if_whole(out);
                match &self.open {
                    None => out.push(piece),
                    Some(_) => self.waiting.push_back(Waiting::Other(piece)),
                }
            }
            Piece::Call { call, id, name } => {
                self.calls += 1;
                if self.calls > MAX_CALLS {
                    return Err(Fault::Garbled);
                }
                self.close_if_whole(out);
                match &self.open {
                    None => {
                        self.open = Some(Open { call, json: String::new() });
                        out.push(Piece::Call { call, id, name });
                    }
                    Some(_) => {
                        self.waiting.push_back(Waiting::Call { call, id, name, json: String::new(), done: false });
                    }
                }
            }
            Piece::Arguments { call: to, json: more } => match &mut self.open {
                _ if more.is_empty() => {}
                Some(open) if open.call == to => {
                    open.json.push_str(&more);
                    out.push(Piece::Arguments { call: to, json: more });
                }
                _ => {
                    let waiting = self.waiting.iter_mut().find_map(|waiting| match waiting {
                        Waiting::Call { call, json, .. } if *call == to => Some(json),
                        _ => None,
                    });
                    // What still comes for a call that was whole can only be white space.
                    if let Some(json) = waiting {
                        json.push_str(&more);
                    }
                }
            },
            Piece::CallDone { call: of } => {
                if self.open.as_ref().is_some_and(|open| open.call == of) {
                    self.close_done(out);
                    self.go_on(out);
                } else {
                    for waiting in &mut self.waiting {
                        if let Waiting::Call { call, done, .. } = waiting
                            && *call == of
                        {
                            *done = true;
                        }
                    }
                }
            }
            Piece::End { finish, tokens } => {
                // What a limit or a filter cut off may have had arguments yet to come.
                let is_whole = matches!(finish, Finish::Stop | Finish::Calls | Finish::Sequence(_));
                while self.open.is_some() {
                    if is_whole {
                        self.close_done(out)
                    } else {
                        self.close(out)
                    }
                    self.go_on(out);
                }
                // A client that is told of calls and finds none would wait for ever, or ask the same again.
                let finish = match finish {
                    Finish::Stop if self.calls > 0 => Finish::Calls,
                    Finish::Calls if self.calls == 0 => Finish::Stop,
                    finish => finish,
                };
                out.push(Piece::End { finish, tokens });
            }
            Piece::Broken(_) => out.push(piece),
        }
        Ok(())
    }

    /// Closes a call of which nothing more comes. Anthropic streams no arguments where there are none, and others want an
    /// object to read.
    fn close_done(&mut self, out: &mut Vec<Piece>) {
        if let Some(open) = self.open.as_ref().filter(|open| open.json.trim().is_empty()) {
            out.push(Piece::Arguments { call: open.call, json: "{}".to_owned() });
        }
        self.close(out);
    }

    fn close(&mut self, out: &mut Vec<Piece>) {
        if let Some(open) = self.open.take() {
            out.push(Piece::CallDone { call: open.call });
        }
    }

    fn close_if_whole(&mut self, out: &mut Vec<Piece>) {
        if self.open.as_ref().is_some_and(|open| open.json.ends_with(['}', ' ', '\n']) && frames::is_whole(&open.json))
        {
            self.close(out);
            self.go_on(out);
        }
    }

    /// Lets go what waited for a call to end, up to the next call that is not done.
    fn go_on(&mut self, out: &mut Vec<Piece>) {
        while self.open.is_none() {
            match self.waiting.pop_front() {
                None => return,
                Some(Waiting::Other(piece)) => out.push(piece),
                Some(Waiting::Call { call, id, name, json, done }) => {
                    out.push(Piece::Call { call, id, name });
                    if !json.is_empty() {
                        out.push(Piece::Arguments { call, json: json.clone() });
                    }
                    self.open = Some(Open { call, json });
                    if done {
                        self.close_done(out);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(call: usize) -> Piece {
        Piece::Call { call, id: format!("c{call}"), name: format!("f{call}") }
    }

    fn arguments(call: usize, json: &str) -> Piece {
        Piece::Arguments { call, json: json.to_owned() }
    }

    fn done(call: usize) -> Piece {
        Piece::CallDone { call }
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn end(finish: Finish) -> Piece {
        Piece::End { finish, tokens: None }
    }

    #[track_caller]
    fn check(pieces: impl IntoIterator<Item = Piece>, expected: impl IntoIterator<Item = Piece>) {
        let mut order = Order::default();
        let mut out = Vec::new();
        for piece in pieces {
            order.take(piece, &mut out).expect("within bounds");
        }
        assert_eq!(out, expected.into_iter().collect::<Vec<_>>());
    }

    fn begin() -> Piece {
        Piece::Begin { tokens: None }
    }

    #[test]
    fn calls_that_come_one_after_the_other_pass_as_they_come() {
        check(
            [
                text("so"),
                call(0),
                arguments(0, "{\"a\":"),
                arguments(0, "1}"),
                call(1),
                arguments(1, "{}"),
                end(Finish::Stop),
            ],
            [
                begin(),
                text("so"),
                call(0),
                arguments(0, "{\"a\":"),
                arguments(0, "1}"),
                done(0),
                call(1),
                arguments(1, "{}"),
                done(1),
                end(Finish::Calls),
            ],
        );
    }

    #[test]
    fn calls_that_are_woven_together_are_told_one_after_the_other() {
        check(
            [
                begin(),
                call(0),
                call(1),
                arguments(1, "{\"b\":"),
                arguments(0, "{\"a\":"),
                text("hm"),
                arguments(1, "2}"),
                arguments(0, "1}"),
                end(Finish::Calls),
            ],
            [
                begin(),
                call(0),
                arguments(0, "{\"a\":"),
                arguments(0, "1}"),
                done(0),
                call(1),
                arguments(1, "{\"b\":2}"),
                done(1),
                text("hm"),
                end(Finish::Calls),
            ],
        );
    }

    #[test]
    fn an_end_that_was_said_lets_the_next_call_go() {
        check(
            [call(0), call(1), arguments(1, "{}"), done(1), done(0), text("so"), end(Finish::Length)],
            [
                begin(),
                call(0),
                arguments(0, "{}"),
                done(0),
                call(1),
                arguments(1, "{}"),
                done(1),
                text("so"),
                end(Finish::Length),
            ],
        );
    }

    #[test]
    fn a_call_without_arguments_has_empty_ones_unless_it_was_cut_off() {
        check([call(0), end(Finish::Stop)], [begin(), call(0), arguments(0, "{}"), done(0), end(Finish::Calls)]);
        check([call(0), end(Finish::Length)], [begin(), call(0), done(0), end(Finish::Length)]);
        check([text("so"), end(Finish::Calls)], [begin(), text("so"), end(Finish::Stop)]);
    }

    #[test]
    fn an_answer_without_a_word_still_begins() {
        check([end(Finish::Stop)], [begin(), end(Finish::Stop)]);
        check([Piece::Broken(Fault::Cut)], [Piece::Broken(Fault::Cut)]);
    }

    #[test]
    fn an_answer_has_a_greatest_length() {
        let mut order = Order::default();
        let mut out = Vec::new();
        let piece = || Piece::Text("x".repeat(16 << 20));
        assert_eq!(order.take(piece(), &mut out), Ok(()));
        assert_eq!(order.take(piece(), &mut out), Ok(()));
        assert_eq!(order.take(text("x"), &mut out), Err(Fault::Garbled));
    }
}
