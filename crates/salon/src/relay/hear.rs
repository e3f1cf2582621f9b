//! Hearing a chat's answer as what it says, for those who do not pass on its bytes: turns, and doors with frames of their
//! own.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use salon_core::{Micros, Tokens};
use salon_engine::upstream::Fault;
use salon_engine::wire::Wire;
use salon_engine::wire::carry::Reader;
use salon_engine::wire::talk::{Finish, Piece};

use super::Told;

/// How long the end of the bytes is waited for once the answer has ended.
const TAIL: Duration = Duration::from_millis(20);

/// Something that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Text(String),
    Thought(String),
    /// The last thing: with the usage, if that was told.
    End(Option<Tokens>),
    /// The last thing, too: it ended badly.
    Broken(Fault),
}

/// An answer in chat's words, streamed or not: some servers answer whole whatever they are asked.
pub struct Hearing {
    told: Told,
    id: String,
    reader: Option<Reader>,
    pieces: Vec<Piece>,
    /// The end, while the last bytes are taken in.
    last: Option<Vec<Heard>>,
    over: bool,
}

impl Hearing {
    /// `id` is the call's.
    pub fn new(told: Told, id: impl Into<String>) -> Hearing {
        Hearing { told, id: id.into(), reader: None, pieces: Vec::new(), last: None, over: false }
    }

    /// What comes next; perhaps nothing yet. `None` after the end. Dropping the future loses nothing; dropping this hangs up.
    pub async fn next(&mut self) -> Option<Vec<Heard>> {
        if self.over {
            // Whoever let go of the future in which it ended has not heard it yet.
            return self.last.take();
        }
        match self.bytes().await {
            Some(bytes) => {
                if self.reader.is_none() {
                    // What it is shows by its first letter; white space before that says nothing.
                    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
                    self.reader = first.map(|first| Reader::new(Wire::Chat, *first != b'{', &self.id));
                }
                if let Some(reader) = &mut self.reader {
                    reader.push(&bytes, &mut self.pieces);
                }
            }
            None => {
                match &mut self.reader {
                    Some(reader) => reader.end(&mut self.pieces),
                    None => self.pieces.push(Piece::Broken(Fault::Silent)),
                }
                if self.pieces.is_empty() {
                    self.pieces.push(Piece::Broken(Fault::Cut));
                }
            }
        }
        let heard: Vec<Heard> = self.pieces.drain(..).filter_map(heard).collect();
        if matches!(heard.last(), Some(Heard::End(_) | Heard::Broken(_))) {
            self.over = true;
            self.last = Some(heard);
            self.hear_out().await;
            return self.last.take();
        }
        Some(heard)
    }

    /// What the answer cost, once it has ended. What is told again costs nothing.
    pub fn cost(&mut self) -> Micros {
        match &mut self.told {
            Told::Whole(_) => Micros::ZERO,
            Told::Stream(passing) => passing.conclude(),
        }
    }

    async fn bytes(&mut self) -> Option<Bytes> {
        match &mut self.told {
            // It was told before, and is there as a whole.
            Told::Whole(bytes) => Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()),
            Told::Stream(passing) => {
                let next = std::future::poll_fn(|context| Pin::new(&mut **passing).poll_frame(context)).await?;
                Some(next.map_or_else(|never| match never {}, |frame| frame.into_data().unwrap_or_default()))
            }
        }
    }

    /// Takes in the last bytes, so that the call ends as one that was heard to its end.
    async fn hear_out(&mut self) {
        let rest = async { while self.bytes().await.is_some() {} };
        tokio::time::timeout(TAIL, rest).await.ok();
    }
}

fn heard(piece: Piece) -> Option<Heard> {
    Some(match piece {
        // A refusal is the answer, in the model's own words.
        Piece::Text(text) | Piece::Refusal(text) => Heard::Text(text),
        Piece::Thought(text) => Heard::Thought(text),
        Piece::End { finish: Finish::Filtered, .. } => Heard::Broken(Fault::Filtered),
        Piece::End { tokens, .. } => Heard::End(tokens),
        Piece::Broken(fault) => Heard::Broken(fault),
        // Nobody who listens here has offered tools.
        Piece::Begin { .. } | Piece::Call { .. } | Piece::Arguments { .. } | Piece::CallDone { .. } => return None,
    })
}
