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

use super::line::{Line, Stake};
use super::one::{One, fault_of};
use crate::upstream::Fault;

/// The rest of an answer, as it comes. It is also an [`http_body::Body`]. Dropping it hangs up.
pub struct Body {
    incoming: Incoming,
    carrier: Carrier,
    /// The time allowed between two pieces; `None` once somebody else decides.
    idle: Option<Duration>,
    /// When the next piece has to be here.
    until: Instant,
    total: Instant,
    /// Set for `until` as it was at the time; looked at again when it rings.
    alarm: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

/// What an answer comes on.
pub(super) enum Carrier {
    /// A connection of its own, which goes back to its line at the end.
    One(One, Arc<Line>),
    /// A place on a shared one.
    Shared(#[expect(dead_code, reason = "it is held, and given back by being dropped")] Stake),
    /// Nothing: it was complete from the start, or has ended.
    Nothing,
}

impl Body {
    pub(super) fn new(incoming: Incoming, carrier: Carrier, idle: Duration, total: Instant) -> Body {
        let until = total.min(Instant::now() + idle);
        let mut body = Body { incoming, carrier, idle: Some(idle), until, total, alarm: None, ended: false };
        if http_body::Body::is_end_stream(&body.incoming) {
            body.end();
        }
        body
    }

    /// The next piece; `None` at the end. [`Fault::Timeout`] if it is too long in coming, [`Fault::Cut`] if the
    /// connection broke off.
    pub async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        loop {
            let frame = std::future::poll_fn(|cx| self.poll(cx)).await?;
            match frame.map(Frame::into_data) {
                Ok(Ok(bytes)) if bytes.is_empty() => {}
                Ok(Ok(bytes)) => return Some(Ok(bytes)),
                // Nobody told us what trailers mean.
                Ok(Err(_)) => {}
                Err(fault) => return Some(Err(fault)),
            }
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
        if http_body::Body::size_hint(&self.incoming).lower() > most as u64 {
            return Err(Fault::Garbled);
        }
        let Some(first) = self.next().await.transpose()? else { return Ok(Bytes::new()) };
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

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = match &mut self.carrier {
            Carrier::One(one, _) => one.poll_frame(&mut self.incoming, cx),
            Carrier::Shared(_) | Carrier::Nothing => {
                http_body::Body::poll_frame(Pin::new(&mut self.incoming), cx).map_err(|error| fault_of(&error))
            }
        };
        match frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(idle) = self.idle {
                    self.until = self.total.min(Instant::now() + idle);
                }
                if http_body::Body::is_end_stream(&self.incoming) {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
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
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
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
        if let Carrier::One(one, line) = std::mem::replace(&mut self.carrier, Carrier::Nothing) {
            line.keep(one);
        }
    }

    /// Nothing more will come, and nobody uses this connection again.
    fn fail(&mut self, fault: Fault) -> Fault {
        self.ended = true;
        self.alarm = None;
        self.carrier = Carrier::Nothing;
        fault
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.get_mut().poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.incoming)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("ended", &self.ended).finish_non_exhaustive()
    }
}
