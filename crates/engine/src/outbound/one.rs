//! An HTTP/1.1 connection, driven by whoever uses it.

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body::Frame;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::dial::{Socket, Stream, Waiting};
use crate::upstream::{Fault, MAX_HEADERS};

/// The most headers of an answer.
const HEADERS: usize = 100;

type Driven = Pin<Box<Connection<TokioIo<Stream>, Full<Bytes>>>>;

/// A connection that answers one request at a time. Nothing happens on it unless somebody polls it.
pub(super) struct One {
    sender: SendRequest<Full<Bytes>>,
    socket: Socket,
    encrypted: bool,
    /// `None` when it has ended.
    connection: Option<Driven>,
    /// Since when nobody uses it.
    pub(super) idle_since: Instant,
}

/// Why a request was not answered.
pub(super) enum Unanswered {
    /// Not a byte of it was written; here it is.
    Unsent(Box<Request<Full<Bytes>>>),
    Failed(Fault),
}

impl One {
    pub(super) async fn open(stream: Stream) -> Result<One, Fault> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEADERS as usize).max_headers(HEADERS);
        let (socket, encrypted) = (stream.socket(), matches!(stream, Stream::Tls(_)));
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|_| Fault::Unreachable)?;
        Ok(One { sender, socket, encrypted, connection: Some(Box::pin(connection)), idle_since: Instant::now() })
    }

    /// Whether it can take a request: the other side has not closed it, as far as this machine has heard.
    pub(super) fn is_ready(&mut self) -> bool {
        match self.socket.waiting() {
            Waiting::End => return false,
            // Nothing is due: it would be taken for the next answer. Under TLS it may be the protocol's own business.
            Waiting::Bytes if !self.encrypted => return false,
            Waiting::Bytes | Waiting::Nothing => {}
        }
        // Whoever uses it next will ask to be woken; until then there is nobody to wake.
        let mut nobody = Context::from_waker(Waker::noop());
        self.drive(&mut nobody);
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Unanswered> {
        let sent = self.sender.try_send_request(request);
        let connection = &mut self.connection;
        let mut sent = pin!(sent);
        let answered = std::future::poll_fn(|cx| {
            // The answer comes from the connection alone, and that is polled right here: it need not wake us as well.
            let mut unheard = Context::from_waker(Waker::noop());
            drive(connection, cx);
            match sent.as_mut().poll(&mut unheard) {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                Poll::Pending if connection.is_none() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        match answered.await {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut failed)) => match failed.take_message() {
                Some(request) => Err(Unanswered::Unsent(Box::new(request))),
                None => Err(Unanswered::Failed(fault_of(failed.error()))),
            },
            None => Err(Unanswered::Failed(Fault::Cut)),
        }
    }

    /// The next piece of the answer's body.
    pub(super) fn poll_frame(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let mut unheard = Context::from_waker(Waker::noop());
        let mut frame = Pin::new(&mut *incoming).poll_frame(&mut unheard);
        if frame.is_pending() {
            self.drive(cx);
            frame = Pin::new(&mut *incoming).poll_frame(&mut unheard);
        }
        match frame {
            Poll::Pending if self.connection.is_none() => Poll::Ready(Some(Err(Fault::Cut))),
            frame => frame.map_err(|error| fault_of(&error)),
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.connection, cx);
    }
}

fn drive(connection: &mut Option<Driven>, cx: &mut Context<'_>) {
    if let Some(open) = connection
        && open.as_mut().poll(cx).is_ready()
    {
        *connection = None;
    }
}

/// Sorts what went wrong with an answer. What it says is not passed on.
pub(super) fn fault_of(error: &hyper::Error) -> Fault {
    if error.is_parse() { Fault::Garbled } else { Fault::Cut }
}
