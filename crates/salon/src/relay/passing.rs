//! A streamed answer on its way through: from the upstream to whoever asked, listened to but not touched.
//!
//! Every way out of here ends in the ledger, once: the end of the answer, a failure in the middle of it, and a client
//! who hangs up.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use salon_core::Micros;
use salon_engine::outbound;
use salon_engine::upstream::{Fault, Trouble};
use salon_engine::wire::carry::{Carrier, Garbled};
use salon_engine::wire::{Refused, Tap, Tapped, Unasked, Veil, Wire};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::cache::Keeping;
use super::charge::{Bill, Ending};

/// A comment that keeps proxies and clients patient while an upstream thinks, and the event that Anthropic has for that:
/// some of its clients count events.
const STILL_THERE: &[u8] = b": still there\n\n";
const PING: &[u8] = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";

/// Where an answer's bytes come from.
pub(super) enum Source {
    Upstream(Box<outbound::Body>),
    /// An engine of the house, which writes the client's protocol.
    House(mpsc::Receiver<Bytes>),
}

/// How an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// How long an upstream is heard to its end after its client has gone.
    pub patience: Duration,
    /// How long nothing may pass before it is said that somebody is still there; `None` where a comment has no place.
    pub silence: Option<Duration>,
}

/// What is done to them.
pub(super) enum Manner {
    Untouched,
    /// The usage, which the client did not ask for, is left out.
    Hiding(Unasked),
    /// It is told in another protocol.
    Carried(Box<Carrier>),
}

/// A stream that somebody reads. It is an [`http_body::Body`]; dropping it is hanging up.
pub struct Passing {
    source: Option<Source>,
    /// What has come already.
    first: Option<Bytes>,
    manner: Manner,
    tap: Tap,
    veil: Veil,
    /// Gone once it is settled.
    bill: Option<Box<Bill>>,
    wire: Wire,
    id: String,
    waiting: Waiting,
    silence: Option<Pin<Box<Sleep>>>,
    passed: Instant,
    cost: Micros,
    /// Nothing was passed on since an event ended, so that a comment may stand here.
    between: bool,
    /// Listens to what is passed on, to keep it if it comes whole.
    keeping: Option<Keeping>,
}

impl Passing {
    pub(super) fn new(
        source: Source,
        first: Option<Bytes>,
        manner: Manner,
        tap: Tap,
        bill: Box<Bill>,
        wire: Wire,
        id: &str,
        waiting: Waiting,
    ) -> Passing {
        let silence = waiting.silence.map(|silence| Box::pin(tokio::time::sleep(silence)));
        Passing {
            source: Some(source),
            first,
            manner,
            tap,
            veil: Veil::default(),
            bill: Some(bill),
            wire,
            id: id.to_owned(),
            waiting,
            silence,
            passed: Instant::now(),
            cost: Micros::ZERO,
            between: false,
            keeping: None,
        }
    }

    /// An answer that is made in this process and paid for elsewhere.
    pub(super) fn unbilled(
        spoken: mpsc::Receiver<Bytes>,
        first: Bytes,
        wire: Wire,
        id: &str,
        waiting: Waiting,
    ) -> Passing {
        let silence = waiting.silence.map(|silence| Box::pin(tokio::time::sleep(silence)));
        Passing {
            source: Some(Source::House(spoken)),
            first: Some(first),
            manner: Manner::Untouched,
            tap: Tap::new(wire),
            veil: Veil::default(),
            bill: None,
            wire,
            id: id.to_owned(),
            waiting,
            silence,
            passed: Instant::now(),
            cost: Micros::ZERO,
            between: false,
            keeping: None,
        }
    }

    /// An upstream may repeat the key that it was asked with, as some do where they say what went wrong.
    fn discreet(&mut self, bytes: Bytes) -> Bytes {
        match self.bill.as_ref().and_then(|bill| bill.turn.what.access.key.as_ref()) {
            Some(key) => self.veil.push(bytes, key),
            None => bytes,
        }
    }

    /// The same, and what is passed on is kept if it comes whole.
    pub(super) fn kept(mut self, keeping: Option<Keeping>) -> Passing {
        self.keeping = keeping;
        self
    }

    /// What of these bytes goes on to the client.
    fn pass(&mut self, bytes: Bytes) -> Result<Bytes, Garbled> {
        match &mut self.manner {
            Manner::Untouched => Ok(bytes),
            Manner::Hiding(unasked) => Ok(unasked.push(bytes)),
            Manner::Carried(carrier) => {
                let mut out = Vec::new();
                carrier.push(&bytes, &mut out).map(|()| out.into())
            }
        }
    }

    /// The last bytes of an answer whose upstream has ended.
    fn rest(&mut self) -> Result<Bytes, Garbled> {
        match std::mem::replace(&mut self.manner, Manner::Untouched) {
            Manner::Untouched => Ok(Bytes::new()),
            Manner::Hiding(unasked) => Ok(unasked.finish()),
            // How it ended, well or not, was told when it did.
            Manner::Carried(carrier) if carrier.finished() => Ok(Bytes::new()),
            Manner::Carried(mut carrier) => {
                let mut out = Vec::new();
                let told = carrier.end(&mut out);
                // What could not be told well has been told as a failure, unless there was nothing to tell it to.
                if out.is_empty() {
                    told?;
                }
                Ok(out.into())
            }
        }
    }

    /// How the client is told that there is no more of it.
    fn lament(&mut self, fault: Fault, heard: &Tapped) -> Bytes {
        if let Manner::Carried(carrier) = &mut self.manner {
            let mut out = Vec::new();
            if !carrier.finished() {
                carrier.fail(fault, &mut out);
            }
            return out.into();
        }
        Refused::from(Trouble::from(fault)).frame(self.wire, &self.id, heard).into()
    }

    /// Ends the answer: pays for it, and says what there is still to say.
    fn end(&mut self, outcome: Result<(), Fault>) -> Bytes {
        self.source = None;
        let heard = std::mem::replace(&mut self.tap, Tap::new(self.wire)).finish();
        // After its end, or its own word for what went wrong, nothing that happens to the connection matters.
        let fault = match outcome {
            _ if heard.finished || heard.error.is_some() => heard.error.filter(|_| !heard.finished),
            Ok(()) => Some(Fault::Cut),
            Err(fault) => Some(fault),
        };
        let told = if heard.finished || heard.error.is_some() { self.rest() } else { Err(Garbled(Fault::Cut)) };
        let last: Bytes = match told {
            Ok(bytes) => [self.discreet(bytes), self.veil.finish()].concat().into(),
            Err(Garbled(garbled)) => {
                [self.veil.finish(), self.lament(fault.unwrap_or(garbled), &heard)].concat().into()
            }
        };
        if let Some(mut keeping) = self.keeping.take()
            && heard.finished
            && fault.is_none()
            && outcome.is_ok()
        {
            keeping.hear(&last);
            keeping.keep(self.wire);
        }
        if let Some(bill) = self.bill.take() {
            let cost = bill.settle(heard, fault.map_or(Ending::Whole, Ending::Broken));
            self.cost = cost;
        }
        last
    }

    /// Ends an answer that says no more, whether or not its connection has ended, and answers what it cost.
    pub(super) fn conclude(&mut self) -> Micros {
        if self.bill.is_some() {
            self.end(Err(Fault::Cut));
        }
        self.cost
    }

    /// Reads the answer to its end, for a client who wants it whole. Also says what it cost.
    pub(super) async fn collect(mut self) -> (Bytes, Micros) {
        let mut whole = BytesMut::new();
        while let Some(Ok(frame)) = std::future::poll_fn(|context| Pin::new(&mut self).poll_frame(context)).await {
            if let Ok(bytes) = frame.into_data() {
                whole.extend_from_slice(&bytes);
            }
        }
        (whole.freeze(), self.cost)
    }
}

impl http_body::Body for Passing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        loop {
            let polled = match &mut this.source {
                _ if this.first.is_some() => Poll::Ready(this.first.take().map(Ok)),
                None => return Poll::Ready(None),
                Some(Source::Upstream(body)) => match Pin::new(&mut **body).poll_frame(context) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(bytes) => Poll::Ready(Some(Ok(bytes))),
                        // Trailers say nothing that we pass on.
                        Err(_) => continue,
                    },
                    Poll::Ready(Some(Err(fault))) => Poll::Ready(Some(Err(fault))),
                    Poll::Ready(None) => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                },
                Some(Source::House(pieces)) => pieces.poll_recv(context).map(|piece| piece.map(Ok)),
            };
            let passed = match polled {
                Poll::Ready(Some(Ok(bytes))) => {
                    this.tap.push(&bytes);
                    match this.pass(bytes) {
                        Ok(bytes) => {
                            let bytes = this.discreet(bytes);
                            if let Some(keeping) = &mut this.keeping {
                                keeping.hear(&bytes);
                            }
                            bytes
                        }
                        Err(Garbled(fault)) => this.end(Err(fault)),
                    }
                }
                Poll::Ready(Some(Err(fault))) => this.end(Err(fault)),
                Poll::Ready(None) => this.end(Ok(())),
                Poll::Pending => {
                    let (Some(silence), Some(longest)) = (&mut this.silence, this.waiting.silence) else {
                        return Poll::Pending;
                    };
                    ready!(silence.as_mut().poll(context));
                    let due = this.passed + longest;
                    let now = Instant::now();
                    silence.as_mut().reset(if due > now { due } else { now + longest });
                    if due > now || !this.between {
                        continue;
                    }
                    Bytes::from_static(if this.wire == Wire::Messages { PING } else { STILL_THERE })
                }
            };
            if !passed.is_empty() {
                // What the client has, and not what came: it may be told in another form.
                this.between = passed.ends_with(b"\n\n") || passed.ends_with(b"\r\n\r\n");
                if this.silence.is_some() {
                    this.passed = Instant::now();
                }
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for Passing {
    /// The client has gone. What he got is paid for; what the upstream says until it is hung up on is worth hearing,
    /// because the last thing it says is what it costs.
    fn drop(&mut self) {
        let Some(bill) = self.bill.take() else { return };
        let mut tap = std::mem::replace(&mut self.tap, Tap::new(self.wire));
        match self.source.take() {
            Some(Source::Upstream(mut body)) if !self.waiting.patience.is_zero() => {
                let until = Instant::now() + self.waiting.patience;
                let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
                runtime.spawn(async move {
                    let heard = async {
                        while let Some(Ok(bytes)) = body.next().await {
                            tap.push(&bytes);
                        }
                    };
                    // Late or not: what was heard until then counts.
                    tokio::time::timeout_at(until, heard).await.ok();
                    bill.settle(tap.finish(), Ending::Abandoned);
                });
            }
            _ => {
                bill.settle(tap.finish(), Ending::Abandoned);
            }
        }
    }
}
