//! The listener: HTTP/1 and HTTP/2 with deadlines and counts on everything that a stranger can hold open.
//!
//! `axum::serve` has no time-out for headers: a silent socket stays for ever. So connections are served by hyper-util's
//! builder with a timer, behind a limit on connections in all and from one address.

mod unread;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const CONNECTIONS: usize = 8_000;
const CONNECTIONS_OF_ONE: usize = 256;
/// For a whole request head, and for the time between two requests.
pub(crate) const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// How long open requests are waited for once we are closing.
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);

/// Who is at the other end of the connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Serves until `closing`, then lets open requests end.
pub async fn serve(listener: TcpListener, router: Router, closing: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let crowd = Arc::new(Crowd::default());
    let graceful = GracefulShutdown::new();
    let [http1, http2] = [builder().http1_only(), builder().http2_only()].map(Arc::new);
    loop {
        // A slot first: when all are taken, new connections wait in the kernel and cost nothing here.
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: those that are open go on, and this does not spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = crowd.enter(peer.ip()) else { continue };
        stream.set_nodelay(true).ok();
        let router = router.clone();
        let asked = CancellationToken::new();
        let mute = mute(asked.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            asked.cancel();
            request.extensions_mut().insert(Peer(peer));
            let (request, unread) = unread::lend(request);
            let answering = router.clone().oneshot(request);
            async move {
                let mut response = answering.await?;
                if let Some(unread) = unread {
                    unread.settle(&mut response).await;
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let (http1, http2, watcher, closing) = (http1.clone(), http2.clone(), graceful.watcher(), closing.clone());
        tokio::spawn(async move {
            let served = async {
                let builder = tokio::select! {
                    is_http2 = begins_http2(&stream) => if is_http2 { http2 } else { http1 },
                    () = closing.cancelled() => return,
                };
                // A client that goes away in the middle is his business.
                watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await.ok();
            };
            tokio::select! {
                () = served => {}
                () = mute => {}
            }
            drop((slot, place));
        });
    }
    drop(listener);
    tokio::time::timeout(CLOSING_PATIENCE, graceful.shutdown()).await.ok();
}

/// Whether somebody who connected begins to speak HTTP/2. Nothing is read: the builder that finds it out by itself reads the
/// first bytes apart from the rest, and the whole connection has a buffer of twice the size for it.
async fn begins_http2(stream: &TcpStream) -> bool {
    // The methods of HTTP/1 differ from it here at the latest.
    const BEGINNING: &[u8] = b"PRI ";
    const LOOK_AGAIN: Duration = Duration::from_millis(10);
    let mut begins = [0; BEGINNING.len()];
    loop {
        match stream.peek(&mut begins).await {
            Ok(count) if count == BEGINNING.len() => return begins == BEGINNING,
            Ok(count) if count > 0 && begins[..count] == BEGINNING[..count] => tokio::time::sleep(LOOK_AGAIN).await,
            // Whatever is wrong shows when it is read.
            Ok(_) | Err(_) => return false,
        }
    }
}

/// Resolves if nothing is asked in time. The builder's own deadlines begin once it knows which HTTP is spoken, and a caller
/// who says nothing at all would keep it guessing for ever.
async fn mute(asked: CancellationToken) {
    if tokio::time::timeout(HEADER_DEADLINE, asked.cancelled()).await.is_ok() {
        std::future::pending().await
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(32 * 1024)
        .max_headers(64);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(32 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// How many connections each address holds.
#[derive(Default)]
struct Crowd {
    here: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place in the crowd; dropping it leaves.
struct Place {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Crowd {
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let count = here.entry(address).or_default();
        // Everything behind a proxy on this machine is one address; the proxy counts for itself.
        if *count >= CONNECTIONS_OF_ONE && !address.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Place { crowd: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut here = self.crowd.here.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = here.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                here.remove(&self.address);
            }
        }
    }
}
