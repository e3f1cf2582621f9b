//! A turn's answer as a stream of frames: read from its log, live to its end, from any place on.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use salon::sessions::Frames as Dialect;
use salon_core::overrun::Overrun;
use salon_core::{Event, Note, Reply, Seat, Stamped, TurnId};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::{Web, relay};

/// Frames that may wait for a slow reader.
const WAITING: usize = 64;
/// How long nothing may pass before a comment says that somebody is still there.
const SILENCE: Duration = Duration::from_secs(15);
/// How often it is asked whether the reader may still read.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A stream that is older than this ends, and its reader may come again.
const LONGEST: Duration = Duration::from_secs(30 * 60);
const DONE: &[u8] = b"data: [DONE]\n\n";

/// A place in a turn's log, as frames bear it in their `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub turn: TurnId,
    /// The last event that is known.
    pub seq: i64,
}

impl Place {
    pub fn parse(text: &str) -> Option<Place> {
        let (turn, seq) = text.trim().rsplit_once('-')?;
        Some(Place { turn: TurnId::new(turn), seq: seq.parse().ok().filter(|seq| *seq >= 0)? })
    }
}

/// Streams what comes after a place, to somebody who was let in at this door.
pub(super) fn follow(web: Web, head: Parts, door: &'static str, place: Place, dialect: Dialect) -> Response {
    let (said, heard) = mpsc::channel(WAITING);
    tokio::spawn(tell(web, (head, door), place, dialect, said));
    response(Body::new(Frames(heard)))
}

/// A stream that says one thing that went wrong before anything began.
pub(super) fn lament(why: &str) -> Response {
    response(Body::from(plain(&json!({ "type": "error", "message": why }))))
}

pub(crate) fn response(body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

async fn tell(
    web: Web,
    (head, door): (Parts, &'static str),
    place: Place,
    dialect: Dialect,
    said: mpsc::Sender<Bytes>,
) {
    let mut teller = Teller::new(place, dialect);
    if teller.after == 0 && said.send(plain(&started()).into()).await.is_err() {
        return;
    }
    // From the beginning, because what comes next depends on what came before; what the reader knows is not said again.
    let mut follow = web.salon.follow(&teller.turn, 0);
    let (began, mut spoke) = (Instant::now(), Instant::now());
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let events = tokio::select! {
            events = follow.next() => events,
            () = said.closed() => return,
            _ = look.tick() => {
                let may_read = relay::caller(&web, &head, door).await.is_ok();
                if !may_read || began.elapsed() > LONGEST {
                    return;
                }
                if spoke.elapsed() >= SILENCE {
                    spoke = Instant::now();
                    if said.send(Bytes::from_static(b": still there\n\n")).await.is_err() {
                        return;
                    }
                }
                continue;
            }
        };
        let frames = match events {
            Ok(Some(events)) => events.iter().flat_map(|event| teller.frames(event)).collect::<Vec<u8>>(),
            Ok(None) => {
                said.send(Bytes::from_static(DONE)).await.ok();
                return;
            }
            Err(error) => {
                tracing::warn!(%error, turn.id = %teller.turn, "a turn cannot be followed");
                said.send(plain(&json!({ "type": "error", "message": "The answer cannot be read now." })).into())
                    .await
                    .ok();
                return;
            }
        };
        if !frames.is_empty() {
            spoke = Instant::now();
            if said.send(frames.into()).await.is_err() {
                return;
            }
        }
    }
}

fn started() -> Value {
    json!({ "type": "start", "message": "Stream started" })
}

fn plain(data: &Value) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

/// From events to frames. Pure, so that each dialect is a test.
struct Teller {
    turn: TurnId,
    /// Events up to this one are known to the reader.
    after: i64,
    dialect: Dialect,
    reply: Reply,
    pieces: i64,
}

impl Teller {
    fn new(place: Place, dialect: Dialect) -> Teller {
        Teller { turn: place.turn, after: place.seq, dialect, reply: Reply::default(), pieces: 0 }
    }

    fn frames(&mut self, stamped: &Stamped) -> Vec<u8> {
        let older = stamped.attempt < self.reply.attempt || self.reply.is_final();
        let had_said = !self.reply.text.is_empty();
        self.reply.push(stamped);
        if older {
            return Vec::new();
        }
        let frame = match &stamped.event {
            Event::Started { .. } => {
                self.pieces = 0;
                // Another attempt begins afresh; without this word the reader would append it to the first one.
                had_said.then(|| json!({ "type": "restart", "message": "The answer begins anew" }))
            }
            Event::Text { text } => {
                self.pieces += 1;
                Some(self.piece(text))
            }
            Event::Done => Some(self.complete()),
            Event::Failed { message, .. } => {
                let overrun = Overrun::parse(message).map(|overrun| overrun.sentence());
                Some(json!({ "type": "error", "message": overrun.as_ref().unwrap_or(message) }))
            }
            Event::Stopped => Some(json!({ "type": "stopped", "message": "The answer was stopped" })),
            Event::File(file) => Some(json!({
                "type": "file", "id": file.id, "name": file.name, "media": file.media, "size": file.size,
            })),
            Event::Note(Note::KeptBack { files, more }) => {
                let files: Vec<_> = files.iter().map(|file| json!({ "name": file.name, "why": file.why })).collect();
                Some(json!({ "type": "kept_back", "files": files, "more": more }))
            }
            Event::Note(Note::CommandStarted { command, .. }) => Some(json!({ "type": "tool", "title": command })),
            Event::Note(Note::Asked { ask, title, detail, until_ms, .. }) => Some(json!({
                "type": "ask", "ask": ask, "title": title, "detail": detail, "until_ms": until_ms,
            })),
            Event::Note(Note::Answered { ask, verdict, .. }) => {
                Some(json!({ "type": "answered", "ask": ask, "verdict": verdict }))
            }
            Event::Note(Note::Steered { steer, text }) => {
                Some(json!({ "type": "steered", "steer": steer, "text": text }))
            }
            Event::Note(note) => self.of_panel(note),
            Event::Thread { .. } | Event::Usage(_) => None,
        };
        match frame.filter(|_| stamped.seq > self.after) {
            Some(frame) => format!("id: {}-{}\ndata: {frame}\n\n", self.turn, stamped.seq).into_bytes(),
            None => Vec::new(),
        }
    }

    /// What a panel tells beside its answer. The clients that read chunks are the oldest, and are told what they know.
    fn of_panel(&self, note: &Note) -> Option<Value> {
        if self.dialect == Dialect::Chunk {
            return None;
        }
        Some(match note {
            Note::Seated { panel, seats, most_micros, ceiling_micros } => json!({
                "type": "seated", "panel": panel, "most_micros": most_micros, "ceiling_micros": ceiling_micros,
                "seats": seats.iter().map(|Seat { speaker, part, model }| {
                    json!({ "speaker": speaker, "part": part, "model": model })
                }).collect::<Vec<_>>(),
            }),
            Note::Gate { several, why } => json!({ "type": "gate", "several": several, "why": why }),
            Note::VoiceBegan { speaker, round, model } => {
                json!({ "type": "voice_began", "speaker": speaker, "round": round, "model": model })
            }
            Note::VoiceText { speaker, round, text } => {
                json!({ "type": "voice_text", "speaker": speaker, "round": round, "content": text })
            }
            Note::VoiceEnded { speaker, round, tokens_in, tokens_out, micros, answers, failed } => json!({
                "type": "voice_ended", "speaker": speaker, "round": round, "tokens_in": tokens_in,
                "tokens_out": tokens_out, "micros": micros, "answers": answers, "failed": failed,
            }),
            Note::CutShort { why } => json!({ "type": "cut_short", "why": why }),
            _ => return None,
        })
    }

    fn piece(&self, text: &str) -> Value {
        match self.dialect {
            Dialect::Token => json!({ "type": "token", "content": text, "token_count": self.pieces }),
            Dialect::Chunk => json!({
                "type": "chunk", "content": text, "accumulated": self.reply.text, "token_count": self.pieces,
            }),
        }
    }

    fn complete(&self) -> Value {
        let written = self.reply.usage.tokens_out;
        let tokens = if written > 0 { written } else { self.pieces };
        let text = &self.reply.text;
        match self.dialect {
            Dialect::Token => json!({
                "type": "complete", "total_tokens": tokens, "rag_context": null, "full_response": text,
            }),
            Dialect::Chunk => json!({ "type": "complete", "full_response": text, "total_tokens": tokens }),
        }
    }
}

/// The reader's half. Dropping it ends the task that tells.
pub(crate) struct Frames(pub mpsc::Receiver<Bytes>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salon_core::{Time, Usage};

    fn told(after: i64, dialect: Dialect, events: &[(i64, Event)]) -> Vec<String> {
        let mut teller = Teller::new(Place { turn: TurnId::new("t"), seq: after }, dialect);
        let mut all = Vec::new();
        for (at, (attempt, event)) in events.iter().enumerate() {
            let seq = at as i64 + 1;
            let stamped = Stamped { seq, attempt: *attempt, at: Time(seq), event: event.clone() };
            all.extend(teller.frames(&stamped));
        }
        let text = String::from_utf8(all).expect("text");
        text.split("\n\n").filter(|frame| !frame.is_empty()).map(|frame| frame.replace('\n', " ")).collect()
    }

    fn text(text: &str) -> Event {
        Event::Text { text: text.to_owned() }
    }

    fn started() -> Event {
        Event::Started { engine: "model".to_owned(), thread: None }
    }

    #[test]
    fn each_dialect_has_its_frames() {
        let usage = Usage { tokens_in: 3, tokens_out: 7, ..Usage::default() };
        let log = [(1, started()), (1, text("two ")), (1, text("storks")), (1, Event::Usage(usage)), (1, Event::Done)];
        assert_eq!(
            told(0, Dialect::Token, &log),
            [
                r#"id: t-2 data: {"type":"token","content":"two ","token_count":1}"#,
                r#"id: t-3 data: {"type":"token","content":"storks","token_count":2}"#,
                r#"id: t-5 data: {"type":"complete","total_tokens":7,"rag_context":null,"full_response":"two storks"}"#,
            ]
        );
        assert_eq!(
            told(2, Dialect::Chunk, &log),
            [
                r#"id: t-3 data: {"type":"chunk","content":"storks","accumulated":"two storks","token_count":2}"#,
                r#"id: t-5 data: {"type":"complete","full_response":"two storks","total_tokens":7}"#,
            ]
        );
    }

    #[test]
    fn a_second_attempt_is_announced_and_the_first_is_not_heard_again() {
        let log = [
            (1, started()),
            (1, text("half")),
            (2, started()),
            (1, text("late")),
            (2, text("whole")),
            (2, Event::Done),
        ];
        assert_eq!(
            told(0, Dialect::Token, &log),
            [
                r#"id: t-2 data: {"type":"token","content":"half","token_count":1}"#,
                r#"id: t-3 data: {"type":"restart","message":"The answer begins anew"}"#,
                r#"id: t-5 data: {"type":"token","content":"whole","token_count":1}"#,
                r#"id: t-6 data: {"type":"complete","total_tokens":1,"rag_context":null,"full_response":"whole"}"#,
            ]
        );
    }

    #[test]
    fn what_a_model_says_cannot_become_a_frame() {
        let log = [(1, started()), (1, text("a\r\n\r\nevent: admin\ndata: x"))];
        assert_eq!(
            told(0, Dialect::Token, &log),
            [r#"id: t-2 data: {"type":"token","content":"a\r\n\r\nevent: admin\ndata: x","token_count":1}"#]
        );
    }

    #[test]
    fn what_an_agent_was_told_on_the_way_is_a_frame_with_its_name() {
        let steered = Event::Note(Note::Steered { steer: "01J".to_owned(), text: "and south".to_owned() });
        assert_eq!(
            told(0, Dialect::Token, &[(1, started()), (1, steered)]),
            [r#"id: t-2 data: {"type":"steered","steer":"01J","text":"and south"}"#]
        );
    }

    #[test]
    fn voices_are_frames_of_their_own_and_the_oldest_clients_have_none() {
        let speaker = || "Critic".to_owned();
        let seats = vec![Seat { speaker: speaker(), part: "critic".to_owned(), model: "claude".to_owned() }];
        let notes = [
            Note::Seated { panel: "council".to_owned(), seats, most_micros: 9, ceiling_micros: 20 },
            Note::Gate { several: true, why: "risk".to_owned() },
            Note::VoiceBegan { speaker: speaker(), round: 1, model: "claude".to_owned() },
            Note::VoiceText { speaker: speaker(), round: 1, text: "no\n\ndata: x".to_owned() },
            Note::VoiceEnded {
                speaker: speaker(),
                round: 1,
                tokens_in: 3,
                tokens_out: 4,
                micros: 5,
                answers: false,
                failed: None,
            },
            Note::CutShort { why: "ceiling".to_owned() },
        ];
        let mut log = vec![(1, started())];
        log.extend(notes.map(|note| (1, Event::Note(note))));
        log.extend([(1, text("two")), (1, Event::Done)]);
        let told_to_others = told(0, Dialect::Token, &log);
        assert_eq!(
            told_to_others[..6],
            [
                r#"id: t-2 data: {"type":"seated","panel":"council","most_micros":9,"ceiling_micros":20,"seats":[{"speaker":"Critic","part":"critic","model":"claude"}]}"#,
                r#"id: t-3 data: {"type":"gate","several":true,"why":"risk"}"#,
                r#"id: t-4 data: {"type":"voice_began","speaker":"Critic","round":1,"model":"claude"}"#,
                r#"id: t-5 data: {"type":"voice_text","speaker":"Critic","round":1,"content":"no\n\ndata: x"}"#,
                r#"id: t-6 data: {"type":"voice_ended","speaker":"Critic","round":1,"tokens_in":3,"tokens_out":4,"micros":5,"answers":false,"failed":null}"#,
                r#"id: t-7 data: {"type":"cut_short","why":"ceiling"}"#,
            ]
        );
        assert_eq!(told_to_others.len(), 8);
        assert_eq!(
            told(0, Dialect::Chunk, &log),
            [
                r#"id: t-8 data: {"type":"chunk","content":"two","accumulated":"two","token_count":1}"#,
                r#"id: t-9 data: {"type":"complete","full_response":"two","total_tokens":1}"#,
            ]
        );
        assert_eq!(told(6, Dialect::Token, &log)[0], told_to_others[5], "whoever comes back is not told again");
    }

    #[test]
    fn places_are_read_as_they_are_written() {
        assert_eq!(Place::parse("01J-5"), Some(Place { turn: TurnId::new("01J"), seq: 5 }));
        for bad in ["", "01J", "01J-", "01J-x", "01J--1"] {
            assert!(Place::parse(bad).is_none_or(|place| place.seq >= 0), "{bad}");
        }
        assert_eq!(Place::parse("01J-x"), None);
    }
}
