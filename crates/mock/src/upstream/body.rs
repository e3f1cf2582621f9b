//! How an answer goes out: whole or in pieces, at its pace, and broken where trouble was ordered.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::trouble::{Ending, Mode, Odd};
use super::wires::Told;
use super::{Reset, Shared};

/// A streamed answer, in frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pub head: Vec<String>,
    /// What is said, one piece each. A piece may bring the frames that frame it.
    pub pieces: Vec<String>,
    pub tail: Vec<String>,
    /// The terminal marker, where the wire has one of its own.
    pub done: Option<String>,
    /// What the wire says when something goes wrong in the middle.
    pub error: String,
}

/// How often a slow upstream drips a byte.
const DRIP: Duration = Duration::from_secs(5);

pub(crate) fn send(shared: Arc<Shared>, number: u64, told: Told, mode: Option<Mode>, reset: Reset) -> Response {
    let watch = Watch { shared, number, pieces: 0, finished: false };
    if !told.question.stream {
        let mut watch = watch;
        watch.pieces = told.choices().map(|(_, said)| said.pieces.len()).sum();
        let bytes = told.whole().to_string().into_bytes();
        let cut = matches!(mode, Some(Mode::Cut(..)));
        let steps = match mode {
            Some(Mode::Cut(_, ending)) => vec![Step::Bytes(bytes[..bytes.len() / 2].to_vec(), 0), Step::End(ending)],
            Some(Mode::Drip) => drip(&bytes),
            _ => vec![Step::Bytes(bytes.clone(), 0), Step::Finished],
        };
        let mut response = Body::from_stream(play(steps, watch, reset)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        if !cut && mode != Some(Mode::Drip) {
            response.headers_mut().insert(header::CONTENT_LENGTH, header::HeaderValue::from(bytes.len()));
        }
        return response;
    }
    let pace = told.said.pace;
    let steps = script(told.frames(), pace, mode);
    let kind = if told.question.array { "application/json" } else { "text/event-stream; charset=utf-8" };
    let head = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    (head, Body::from_stream(play(steps, watch, reset))).into_response()
}

/// What a body does next.
enum Step {
    /// Sends bytes that hold so many pieces of what is said.
    Bytes(Vec<u8>, usize),
    Pause(Duration),
    End(Ending),
    Finished,
}

fn script(frames: Frames, pace: Duration, mode: Option<Mode>) -> Vec<Step> {
    let odd = if let Some(Mode::Shape(odd)) = mode { Some(odd) } else { None };
    let dress = |text: String| dressed(text, odd);
    let mut steps = Vec::new();
    if odd == Some(Odd::Bom) {
        steps.push(Step::Bytes(b"\xef\xbb\xbf".to_vec(), 0));
    }
    steps.extend(frames.head.into_iter().map(|frame| Step::Bytes(dress(frame), 0)));
    for (at, piece) in frames.pieces.into_iter().enumerate() {
        if let Some(Mode::Cut(after, ending)) = mode
            && at == after
        {
            return broken(steps, &piece, &frames.error, ending);
        }
        if at > 0 && !pace.is_zero() {
            steps.push(Step::Pause(pace));
        }
        if odd == Some(Odd::BadFrame) && at == 1 {
            steps.push(Step::Bytes(b"data: {\"this\": is no json\n\n".to_vec(), 0));
        }
        steps.push(Step::Bytes(dress(piece), 1));
    }
    if let Some(Mode::Cut(_, ending)) = mode {
        let tail = frames.tail.concat();
        return broken(steps, &tail, &frames.error, ending);
    }
    let mut tail = frames.tail.concat();
    match odd {
        Some(Odd::NoDone) => {}
        Some(Odd::DoneTwice) => (0..2).for_each(|_| tail.push_str(frames.done.as_deref().unwrap_or_default())),
        Some(Odd::AfterDone) => {
            tail.push_str(frames.done.as_deref().unwrap_or_default());
            tail.push_str("data: {\"late\": true}\n\n");
        }
        _ => tail.push_str(frames.done.as_deref().unwrap_or_default()),
    }
    if odd == Some(Odd::NoBlankLine) {
        tail.truncate(tail.trim_end().len());
    }
    steps.push(Step::Bytes(dress(tail), 0));
    if mode == Some(Mode::Drip) {
        let bytes: Vec<u8> = steps
            .iter()
            .filter_map(|step| if let Step::Bytes(bytes, _) = step { Some(bytes.clone()) } else { None })
            .flatten()
            .collect();
        return drip(&bytes);
    }
    if odd == Some(Odd::SplitUtf8) {
        let mut split = Vec::new();
        for step in steps {
            match step {
                Step::Bytes(bytes, pieces) => {
                    split.extend(bytes.iter().map(|byte| Step::Bytes(vec![*byte], 0)));
                    split.push(Step::Bytes(Vec::new(), pieces));
                }
                other => split.push(other),
            }
        }
        steps = split;
    }
    steps.push(Step::Finished);
    steps
}

fn broken(mut steps: Vec<Step>, next: &str, error: &str, ending: Ending) -> Vec<Step> {
    match ending {
        Ending::Half => {
            let half = (next.len() / 2..next.len()).find(|at| next.is_char_boundary(*at)).unwrap_or(next.len());
            steps.push(Step::Bytes(next.as_bytes()[..half].to_vec(), 0));
            steps.push(Step::End(Ending::Close));
        }
        Ending::Error => {
            steps.push(Step::Bytes(error.as_bytes().to_vec(), 0));
            steps.push(Step::Finished);
        }
        ending => steps.push(Step::End(ending)),
    }
    steps
}

fn drip(bytes: &[u8]) -> Vec<Step> {
    let drops = bytes.iter().flat_map(|byte| [Step::Bytes(vec![*byte], 0), Step::Pause(DRIP)]);
    drops.chain([Step::Finished]).collect()
}

/// A frame in the odd shape that was ordered.
fn dressed(text: String, odd: Option<Odd>) -> Vec<u8> {
    match odd {
        Some(Odd::Crlf) => text.replace('\n', "\r\n").into_bytes(),
        Some(Odd::NoSpace) => text.replace("data: ", "data:").replace("event: ", "event:").into_bytes(),
        Some(Odd::Comments) => format!(": a comment\n\n{text}").into_bytes(),
        Some(Odd::BadUtf8) => {
            let mut bytes = text.into_bytes();
            if let Some(at) = bytes.iter().position(|byte| *byte == b' ') {
                bytes[at] = 0xff;
            }
            bytes
        }
        _ => text.into_bytes(),
    }
}

/// Tells the ledger how far the body came, whoever ends it.
struct Watch {
    shared: Arc<Shared>,
    number: u64,
    pieces: usize,
    finished: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let (pieces, finished) = (self.pieces, self.finished);
        self.shared.state().calls.change(self.number, |call| {
            call.pieces = pieces;
            call.finished = finished;
            call.abandoned = !finished && call.trouble.is_none();
        });
    }
}

fn play(
    steps: Vec<Step>,
    watch: Watch,
    reset: Reset,
) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
    stream::unfold((steps.into_iter(), watch, reset), |(mut steps, mut watch, reset)| async move {
        loop {
            match steps.next()? {
                Step::Bytes(bytes, pieces) => {
                    watch.pieces += pieces;
                    // A body whose length is known is not asked for its end.
                    watch.finished = matches!(steps.as_slice(), [Step::Finished]);
                    if bytes.is_empty() {
                        continue;
                    }
                    return Some((Ok(Bytes::from(bytes)), (steps, watch, reset)));
                }
                Step::Pause(pause) => tokio::time::sleep(pause).await,
                Step::Finished => return None,
                Step::End(Ending::Stall) => {
                    watch.shared.stop.clone().cancelled().await;
                    return None;
                }
                Step::End(ending) => {
                    // What was said so far goes out first: with the error at once, all of it would be dropped.
                    tokio::task::yield_now().await;
                    if ending == Ending::Reset {
                        reset.order();
                    }
                    return Some((Err(std::io::Error::other("cut on purpose")), (steps, watch, reset)));
                }
            }
        }
    })
}
