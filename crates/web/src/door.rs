//! The door of a run: a socket in the file system at which the relay answers one agent, and nobody else.
//!
//! Nothing but the relay is behind it, and the hosts that an administrator has listed; and nothing is let in but the key of that very run. When the run ends, the
//! socket goes and the key is good for nothing.

mod tunnel;

use std::io;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Method;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use salon::agents::Pass;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::serve::HEADER_DEADLINE;
use crate::watch::Watch;
use crate::{Web, error, relay};

/// What one agent may hold open at once.
const CONNECTIONS: usize = 64;

/// Opens the door at `path` and answers until `closing`. Calls that are under way then are cut: who made them is gone.
pub async fn keep(web: Web, path: &Path, pass: Arc<Pass>, closing: CancellationToken) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    let (router, _) = relay::routes().map(|router| router.fallback(async || error::not_found())).into_parts();
    let router = router.layer(Watch(web.clone())).with_state(web);
    tokio::spawn(answer(listener, router, pass, closing));
    Ok(())
}

async fn answer(listener: UnixListener, router: Router, pass: Arc<Pass>, closing: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let allowance = Arc::new(tunnel::Allowance::default());
    // Dropping the set cuts what is left.
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "an agent's connection could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = closing.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        let (router, pass, allowance) = (router.clone(), pass.clone(), allowance.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let (router, pass, allowance) = (router.clone(), pass.clone(), allowance.clone());
            async move {
                if request.method() == Method::CONNECT {
                    return Ok(tunnel::open(request, &pass, allowance).await);
                }
                request.extensions_mut().insert(pass);
                router.oneshot(request.map(Body::new)).await
            }
        });
        connections.spawn(async move {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE).max_headers(64);
            // A client that goes away in the middle is its own business.
            builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await.ok();
            drop(slot);
        });
    }
}
