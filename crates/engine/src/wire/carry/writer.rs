//! An answer, written: pieces become bytes of any wire.

use salon_core::Tokens;

use super::order::Order;
use super::{Door, Garbled};
use crate::upstream::Fault;
use crate::wire::talk::{Call, Finish, Part, Piece};
use crate::wire::{Wire, chat, completions, generate, messages, midm, responses};

/// One wire's way of being told an answer as it comes. Pieces arrive in order: see [`Order::take`].
pub(in crate::wire) trait Tell: Send {
    fn tell(&mut self, piece: Piece, out: &mut Vec<u8>) -> Result<(), Fault>;
}

/// An answer, all of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::wire) struct Whole {
    /// Text, thoughts, refusals and calls; neighbours of a kind are one.
    pub parts: Vec<Part>,
    pub finish: Finish,
    pub tokens: Option<Tokens>,
}

/// Writes an answer, at once or as it comes.
pub struct Writer {
    form: Form,
    order: Order,
    steps: Vec<Piece>,
    /// How it ended, once it has.
    over: Option<Result<(), Garbled>>,
}

enum Form {
    Stream(Box<dyn Tell>),
    Whole(Box<(Door, Whole)>),
}

impl Writer {
    pub fn new(door: Door) -> Writer {
        let form = if !door.stream {
            Form::Whole(Box::new((door, Whole::default())))
        } else {
            Form::Stream(match door.wire {
                Wire::Chat => Box::new(chat::Stream::new(door)),
                Wire::Completions => Box::new(completions::Stream::new(door)),
                Wire::Responses => Box::new(responses::Stream::new(door)),
                Wire::Messages => Box::new(messages::Stream::new(door)),
                Wire::Generate => Box::new(generate::Stream::new(door)),
                Wire::Midm => Box::new(midm::Stream::default()),
                Wire::Embeddings => Box::new(Nothing),
            })
        };
        Writer { form, order: Order::default(), steps: Vec::new(), over: None }
    }

    /// Appends what there is to say about `piece`. An answer that is not a stream is written with its end.
    ///
    /// An error has been said on the stream already; without a stream nothing has, and a refusal can be the answer. It is
    /// repeated for everything that comes after.
    pub fn write(&mut self, piece: Piece, out: &mut Vec<u8>) -> Result<(), Garbled> {
        if let Some(outcome) = self.over {
            return outcome;
        }
        let mut steps = std::mem::take(&mut self.steps);
        let taken = self.order.take(piece, &mut steps);
        let told = steps.drain(..).try_for_each(|step| self.step(step, out)).and(taken);
        self.steps = steps;
        if let Err(fault) = told {
            self.over = Some(Err(Garbled(fault)));
            if let Form::Stream(tell) = &mut self.form {
                // It is broken already; that the breaking breaks as well is no news.
                let _ = tell.tell(Piece::Broken(fault), out);
            }
        }
        self.outcome()
    }

    /// How it ended; all is well as long as it has not.
    pub fn outcome(&self) -> Result<(), Garbled> {
        self.over.unwrap_or(Ok(()))
    }

    pub fn finished(&self) -> bool {
        self.over.is_some()
    }

    fn step(&mut self, step: Piece, out: &mut Vec<u8>) -> Result<(), Fault> {
        if let Piece::Broken(fault) = step {
            return Err(fault);
        }
        let ends = matches!(step, Piece::End { .. });
        match &mut self.form {
            Form::Stream(tell) => tell.tell(step, out)?,
            Form::Whole(form) => {
                let (door, whole) = form.as_mut();
                whole.add(step);
                if ends {
                    let body = match door.wire {
                        Wire::Chat => chat::answer(door, std::mem::take(whole)),
                        Wire::Completions => completions::answer(door, std::mem::take(whole)),
                        Wire::Responses => responses::answer(door, std::mem::take(whole)),
                        Wire::Messages => messages::answer(door, std::mem::take(whole)),
                        Wire::Generate => generate::answer(door, std::mem::take(whole)),
                        Wire::Midm => midm::answer(std::mem::take(whole)),
                        Wire::Embeddings => Err(Fault::Garbled),
                    }?;
                    super::frames::json(out, &body);
                }
            }
        }
        if ends {
            self.over = Some(Ok(()));
        }
        Ok(())
    }
}

impl Whole {
    fn add(&mut self, piece: Piece) {
        match (piece, self.parts.last_mut()) {
            (Piece::Text(more), Some(Part::Text(text)))
            | (Piece::Thought(more), Some(Part::Thought(text)))
            | (Piece::Refusal(more), Some(Part::Refusal(text))) => text.push_str(&more),
            (Piece::Text(text), _) => self.parts.push(Part::Text(text)),
            (Piece::Thought(text), _) => self.parts.push(Part::Thought(text)),
            (Piece::Refusal(text), _) => self.parts.push(Part::Refusal(text)),
            (Piece::Call { id, name, .. }, _) => {
                self.parts.push(Part::Call(Call { id, name, arguments: String::new() }));
            }
            (Piece::Arguments { json, .. }, Some(Part::Call(call))) => call.arguments.push_str(&json),
            (Piece::End { finish, tokens }, _) => {
                self.finish = finish;
                self.tokens = tokens;
            }
            _ => {}
        }
    }

    /// Everything of one kind in one text; `None` if there is nothing of it.
    pub(in crate::wire) fn joined(&self, pick: impl Fn(&Part) -> Option<&str>) -> Option<String> {
        let mut texts = self.parts.iter().filter_map(pick).peekable();
        texts.peek()?;
        Some(texts.collect())
    }

    pub(in crate::wire) fn text(&self) -> Option<String> {
        self.joined(|part| if let Part::Text(text) = part { Some(text) } else { None })
    }

    pub(in crate::wire) fn thought(&self) -> Option<String> {
        self.joined(|part| if let Part::Thought(text) = part { Some(text) } else { None })
    }

    pub(in crate::wire) fn refusal(&self) -> Option<String> {
        self.joined(|part| if let Part::Refusal(text) = part { Some(text) } else { None })
    }
}

struct Nothing;

impl Tell for Nothing {
    fn tell(&mut self, _: Piece, _: &mut Vec<u8>) -> Result<(), Fault> {
        Err(Fault::Garbled)
    }
}
