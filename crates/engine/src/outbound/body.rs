//! The rest of an answer, as it comes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::line::{Line, Stake, fault_of};
use super::one::{One, Rest};
use crate::upstream::Fault;

/// The rest of an answer, as it comes. It is also an [`http_body::Body`]. Dropping it hangs up.
pub struct Body {
    source: Source,
    /// The time allowed between two pieces; `None` once somebody else decides.
    idle: Option<Duration>,
    /// When the next piece has to be here.
    until: Instant,
    total: Instant,
    /// Set for `until` as it was at the time; looked at again when it rings.
    alarm: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

/// Where an answer comes from.
pub(super) enum Source {
    /// A connection of its own, on which there is this rest of it. It goes back to its line at the end.
    One(One, Rest, Arc<Line>),
    /// A shared one, and a place on it.
    Shared(Incoming, #[expect(dead_code, reason = "it is held, and given back by being dropped")] Stake),
    /// There is nothing left of it.
    Nothing,
}

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        match self {
            Source::One(one, rest, _) => one.poll_piece(rest, cx),
            Source::Shared(incoming, _) => loop {
                let frame = std::task::ready!(http_body::Body::poll_frame(Pin::new(&mut *incoming), cx));
                match frame.map(|frame| frame.map(Frame::into_data)) {
                    Some(Ok(Ok(bytes))) => return Poll::Ready(Some(Ok(bytes))),
                    // Nobody told us what trailers mean.
                    Some(Ok(Err(_))) => {}
                    Some(Err(error)) => return Poll::Ready(Some(Err(fault_of(&error)))),
                    None => return Poll::Ready(None),
                }
            },
            Source::Nothing => Poll::Ready(None),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Source::One(_, rest, _) => rest.is_over(),
            Source::Shared(incoming, _) => http_body::Body::is_end_stream(incoming),
            Source::Nothing => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Source::One(_, rest, _) => rest.length().map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::Shared(incoming, _) => http_body::Body::size_hint(incoming),
            Source::Nothing => SizeHint::with_exact(0),
        }
    }
}

impl Body {
    pub(super) fn new(source: Source, idle: Duration, total: Instant) -> Body {
        let until = total.min(Instant::now() + idle);
        let mut body = Body { source, idle: Some(idle), until, total, alarm: None, ended: false };
        if body.source.is_over() {
            body.end();
        }
        body
    }

    /// The next piece; `None` at the end. [`Fault::Timeout`] if it is too long in coming, [`Fault::Cut`] if the
    /// connection broke off.
    pub async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        loop {
            let piece = std::future::poll_fn(|cx| self.poll(cx)).await?;
            if piece.as_ref().is_ok_and(Bytes::is_empty) {
                continue;
            }
            return Some(piece);
        }
    }

    /// Sets until when the next piece has to come, in the place of the usual idle time after each piece: for whoever
    /// reads events, and does not count bytes that complete none.
    pub fn expect_by(&mut self, until: Instant) {
        self.idle = None;
        self.until = until.min(self.total);
    }

    /// The whole rest, [`Fault::Garbled`] if it is longer than `most` bytes.
    pub async fn collect(mut self, most: usize) -> Result<Bytes, Fault> {
        if self.source.size_hint().lower() > most as u64 {
            return Err(Fault::Garbled);
        }
        let Some(first) = self.next().await.transpose()? else { return Ok(Bytes::new()) };
        self.rest_of(first, most).await
    }

    /// All of what begins with this first piece, [`Fault::Garbled`] if it is longer than `most` bytes.
    pub async fn rest_of(&mut self, first: Bytes, most: usize) -> Result<Bytes, Fault> {
        // Most answers come in one piece, which need not be copied.
        let mut all = BytesMut::new();
        let mut whole = Some(first);
        while let Some(piece) = self.next().await.transpose()? {
            if let Some(first) = whole.take() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&piece);
            if all.len() > most {
                return Err(Fault::Garbled);
            }
        }
        let whole = whole.unwrap_or_else(|| all.freeze());
        if whole.len() > most { Err(Fault::Garbled) } else { Ok(whole) }
    }

    /// The first `most` bytes of the rest, as far as they come in time: for a look at why something was refused. A rest
    /// that is longer is not waited for.
    pub async fn peek(mut self, most: usize) -> Bytes {
        let mut all = BytesMut::new();
        while all.len() < most
            && let Some(Ok(piece)) = self.next().await
        {
            all.extend_from_slice(&piece[..piece.len().min(most - all.len())]);
        }
        // One more look, so that a connection whose answer was complete can be used again.
        if !self.ended && all.len() < most {
            drop(self.next().await);
        }
        all.freeze()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.source.poll(cx) {
            Poll::Ready(Some(Ok(piece))) => {
                if let Some(idle) = self.idle {
                    self.until = self.total.min(Instant::now() + idle);
                }
                if self.source.is_over() {
                    self.end();
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(Some(Err(fault))) => Poll::Ready(Some(Err(self.fail(fault)))),
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_alarm(cx),
        }
    }

    /// Whether it has been too long. The alarm is not set anew for every piece: when it rings, it is asked whether it
    /// still should.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let until = self.until;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if alarm.deadline() > until {
            alarm.as_mut().reset(until);
        }
        while alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(Some(Err(self.fail(Fault::Timeout))));
            }
            alarm.as_mut().reset(until);
        }
        Poll::Pending
    }

    /// Everything was read. The connection can be used again, if both sides want to.
    fn end(&mut self) {
        self.ended = true;
        self.alarm = None;
        if let Source::One(one, _, line) = std::mem::replace(&mut self.source, Source::Nothing) {
            line.keep(one);
        }
    }

    /// Nothing more will come, and nobody uses this connection again.
    fn fail(&mut self, fault: Fault) -> Fault {
        self.ended = true;
        self.alarm = None;
        self.source = Source::Nothing;
        fault
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.get_mut().poll(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("ended", &self.ended).finish_non_exhaustive()
    }
}
