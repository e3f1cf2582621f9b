//! An HTTP/1.1 connection, driven by whoever uses it.
//!
//! A library reads the heads; the rest is spoken here, for the sake of what waits. An answer's time is nearly all spent on
//! waiting for its next piece, and a connection that waits has no buffer here, neither for reading nor for writing.

mod head;
mod rest;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::buf::Chain;
use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Request, response};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;

use super::dial::{Stream, Waiting};
use crate::upstream::{Fault, MAX_HEADERS};

pub(super) use rest::Rest;

/// As much is read at once; a record of TLS has no more.
const PIECE: usize = 16 << 10;

/// A connection that answers one request at a time. Nothing happens on it unless somebody polls it.
pub(super) struct One {
    stream: Stream,
    /// What is still to be written of a request: of its head and its body.
    unsent: Chain<Bytes, Bytes>,
    /// All of it was taken, and may still wait to be encrypted.
    unflushed: bool,
    /// What has come of an answer, and was not passed on.
    heard: Bytes,
    /// Whether another request may follow.
    keeps: bool,
    /// Since when nobody uses it.
    pub(super) idle_since: Instant,
}

/// Why a request was not answered.
pub(super) enum Unanswered {
    /// Not a byte of it was written; here it is.
    Unsent(Box<Request<Bytes>>),
    Failed(Fault),
}

impl One {
    pub(super) fn new(stream: Stream) -> One {
        One {
            stream,
            unsent: Bytes::new().chain(Bytes::new()),
            unflushed: false,
            heard: Bytes::new(),
            keeps: true,
            idle_since: Instant::now(),
        }
    }

    /// Whether it is worth keeping, once an answer was read to its end: neither side wants to close it, and both have
    /// said everything and nothing more.
    pub(super) fn keeps(&self) -> bool {
        self.keeps && !self.unsent.has_remaining() && !self.unflushed && self.heard.is_empty()
    }

    /// Whether it can take a request: the other side has not closed it, as far as this machine has heard.
    pub(super) fn is_ready(&mut self) -> bool {
        match (self.stream.waiting(), &self.stream) {
            (Waiting::Nothing, _) => true,
            // It may be the protocol's own business, which is done by trying to read.
            (Waiting::Bytes, Stream::Tls(_)) => {
                read(&mut self.stream, &mut Context::from_waker(Waker::noop()), |_| ()).is_pending()
            }
            // Nothing is due: it would be taken for the next answer.
            (Waiting::Bytes | Waiting::End, _) => false,
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn ask(&mut self, request: Request<Bytes>) -> Result<(response::Parts, Rest), Unanswered> {
        self.unsent = head::write(&request).chain(request.body().clone());
        let whole = self.unsent.remaining();
        let mut came = BytesMut::new();
        let answered = std::future::poll_fn(|cx| {
            if self.poll_send(cx).is_err() && self.unsent.remaining() == whole {
                return Poll::Ready(None);
            }
            poll_head(&mut self.stream, &mut came, cx).map(Some)
        });
        let head = match answered.await {
            Some(head) => head.map_err(Unanswered::Failed)?,
            None => return Err(Unanswered::Unsent(Box::new(request))),
        };
        let is_head = request.method() == Method::HEAD;
        let rest = if is_head { Rest::Nothing } else { Rest::of(&head).map_err(Unanswered::Failed)? };
        self.keeps &= head::keeps(&head) && rest != Rest::UntilEnd;
        if !came.is_empty() {
            self.heard = came.freeze();
        }
        Ok((head, rest))
    }

    /// The next piece of the answer's body, of which there is this rest; `None` at its end.
    pub(super) fn poll_piece(&mut self, rest: &mut Rest, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        // Some answer before they have heard everything.
        self.poll_send(cx).ok();
        loop {
            match rest.take(&mut self.heard) {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(None) if rest.is_over() => return Poll::Ready(None),
                Ok(None) => {}
                Err(fault) => return Poll::Ready(Some(Err(fault))),
            }
            match ready!(read(&mut self.stream, cx, |bytes| self.heard = Bytes::copy_from_slice(bytes))) {
                Ok(0) if *rest == Rest::UntilEnd => *rest = Rest::Nothing,
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(Fault::Cut))),
                Ok(_) => {}
            }
        }
    }

    /// Writes as much of the request as can be written now. Whoever reads no more of it may still answer, so a failure is
    /// none of the answer.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let sent = self.try_send(cx);
        self.keeps &= sent.is_ok();
        sent
    }

    fn try_send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.keeps && self.unsent.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 2];
            let count = self.unsent.chunks_vectored(&mut slices);
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.unsent.advance(written),
                Poll::Pending => return Ok(()),
            }
            self.unflushed = true;
        }
        self.unflushed = self.unflushed && Pin::new(&mut self.stream).poll_flush(cx)?.is_pending();
        Ok(())
    }
}

/// Reads until the head of an answer is there. What comes behind it is left.
fn poll_head(stream: &mut Stream, came: &mut BytesMut, cx: &mut Context<'_>) -> Poll<Result<response::Parts, Fault>> {
    loop {
        match head::take(came) {
            // Nobody asked for another protocol.
            Ok(Some(head)) if head.status.as_u16() == 101 => return Poll::Ready(Err(Fault::Garbled)),
            // The answer is still to come.
            Ok(Some(head)) if head.status.is_informational() => continue,
            Ok(Some(head)) => return Poll::Ready(Ok(head)),
            Ok(None) if came.len() <= MAX_HEADERS as usize => {}
            Ok(None) | Err(_) => return Poll::Ready(Err(Fault::Garbled)),
        }
        match ready!(read(stream, cx, |bytes| came.extend_from_slice(bytes))) {
            Ok(0) | Err(_) => return Poll::Ready(Err(Fault::Cut)),
            Ok(_) => {}
        }
    }
}

/// Reads what there is, and tells how much it was: nothing at the end.
fn read(stream: &mut Stream, cx: &mut Context<'_>, take: impl FnOnce(&[u8])) -> Poll<io::Result<usize>> {
    let mut room = [const { MaybeUninit::uninit() }; PIECE];
    let mut buffer = ReadBuf::uninit(&mut room);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    take(buffer.filled());
    Poll::Ready(Ok(buffer.filled().len()))
}
