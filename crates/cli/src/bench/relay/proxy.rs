//! The bare reverse proxy that the relay is measured beside: it passes bytes on and knows nothing.
//!
//! It runs as a process of its own on the same runtime as Salon, so that what differs is what a relay does and a proxy
//! does not: keys, models, usage, limits, the ledger.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use http_body_util::{Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// Connections to the upstream that are kept.
const MOST_IDLE: usize = 4_096;

type Out = Response<Either<Incoming, Empty<Bytes>>>;

/// Serves until it is killed. The first line on standard output is where it listens.
pub async fn proxy(upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> =
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(MOST_IDLE).build(connector);
    loop {
        let (stream, _) = listener.accept().await.context("a connection could not be accepted")?;
        stream.set_nodelay(true).ok();
        let client = client.clone();
        tokio::spawn(async move {
            let pass = service_fn(move |request| pass(request, upstream, client.clone()));
            // A client that goes away in the middle is his business.
            http1::Builder::new().serve_connection(TokioIo::new(stream), pass).await.ok();
        });
    }
}

async fn pass(
    request: Request<Incoming>,
    upstream: SocketAddr,
    client: Client<HttpConnector, Incoming>,
) -> Result<Out, Infallible> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let answered = match format!("http://{upstream}{path}").parse::<Uri>() {
        Ok(uri) => {
            head.uri = uri;
            head.headers.remove(HOST);
            client.request(Request::from_parts(head, body)).await.ok()
        }
        Err(_) => None,
    };
    Ok(match answered {
        Some(response) => response.map(Either::Left),
        None => {
            let mut response = Response::new(Either::Right(Empty::new()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    })
}
