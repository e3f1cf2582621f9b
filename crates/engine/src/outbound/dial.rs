//! New connections: names, addresses, TCP and TLS.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use rustix::net::RecvFlags;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::line::Origin;
use crate::guard;
use crate::upstream::Fault;

/// How long one family of addresses has to itself before the other is tried as well.
const OTHER_FAMILY_AFTER: Duration = Duration::from_millis(250);
/// How long it takes at least to be told that an address is blocked: what was found out about it should not be read off
/// a clock.
const BLOCKED_AFTER: Duration = Duration::from_secs(1);

/// Who knows the addresses of names.
#[async_trait]
pub trait Resolve: Send + Sync {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The machine's own resolver.
struct System;

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Makes connections.
pub(super) struct Dialer {
    pub(super) resolver: Arc<dyn Resolve>,
    /// Made when it is first needed: reading a machine's certificates takes a while.
    pub(super) tls: OnceLock<Option<Arc<ClientConfig>>>,
    /// What tests put in the place of the network.
    #[cfg(test)]
    pub(super) network: Option<Arc<dyn Network>>,
}

#[cfg(test)]
#[async_trait]
pub(super) trait Network: Send + Sync {
    async fn reach(&self, addresses: &[IpAddr], port: u16) -> io::Result<TcpStream>;
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialer")
    }
}

impl Dialer {
    pub(super) fn new() -> Dialer {
        Dialer {
            resolver: Arc::new(System),
            tls: OnceLock::new(),
            #[cfg(test)]
            network: None,
        }
    }

    /// Connects, within `patience`.
    pub(super) async fn dial(&self, origin: &Origin, patience: Duration) -> Result<Stream, Fault> {
        let began = Instant::now();
        let dialled = tokio::time::timeout(patience, self.connect(origin)).await;
        match dialled.unwrap_or(Err(Refusal::Unreachable)) {
            Ok(stream) => Ok(stream),
            Err(Refusal::Unreachable) => Err(Fault::Unreachable),
            Err(Refusal::Blocked) => {
                tracing::warn!("an address that a user gave leads where it must not");
                tokio::time::sleep_until(began + BLOCKED_AFTER).await;
                Err(Fault::Blocked)
            }
        }
    }

    async fn connect(&self, origin: &Origin) -> Result<Stream, Refusal> {
        let addresses = self.addresses(origin).await?;
        let tcp = self.reach(&addresses, origin.port).await.map_err(|_| Refusal::Unreachable)?;
        if origin.guarded.is_some() {
            let peer = tcp.peer_addr().map_err(|_| Refusal::Unreachable)?;
            if !addresses.contains(&peer.ip()) {
                return Err(Refusal::Blocked);
            }
        }
        // Without it a request that is written in two pieces waits for the acknowledgement of the first: 40 ms.
        tcp.set_nodelay(true).map_err(|_| Refusal::Unreachable)?;
        if !origin.tls {
            return Ok(Stream::Plain(tcp));
        }
        let config = self.tls.get_or_init(tls).clone().ok_or(Refusal::Unreachable)?;
        let name = match origin.literal {
            Some(address) => ServerName::IpAddress(address.into()),
            None => ServerName::try_from(origin.host.clone()).map_err(|_| Refusal::Unreachable)?,
        };
        match TlsConnector::from(config).connect(name, tcp).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => {
                tracing::debug!(%error, "a TLS connection was not made");
                Err(Refusal::Unreachable)
            }
        }
    }

    async fn reach(&self, addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
        #[cfg(test)]
        if let Some(network) = &self.network {
            return network.reach(addresses, port).await;
        }
        reach(addresses, port).await
    }

    /// Where the origin is, as far as it may be there. Looked up once: what was judged is what is called.
    async fn addresses(&self, origin: &Origin) -> Result<Vec<IpAddr>, Refusal> {
        let near = match &origin.guarded {
            Some(rules) => Some(guard::judge_parsed(&origin.url, rules).map_err(|_| Refusal::Blocked)?),
            None => None,
        };
        if let Some(address) = origin.literal {
            // The guard has seen it: a literal is only let through by name.
            return Ok(vec![address]);
        }
        let addresses = self.resolver.resolve(&origin.host).await.map_err(|_| Refusal::Unreachable)?;
        if let Some(near) = near {
            guard::vet(&addresses, near).map_err(|_| Refusal::Blocked)?;
        }
        Ok(addresses)
    }
}

enum Refusal {
    Unreachable,
    Blocked,
}

/// The TLS of this house: the machine's certificates, ring, and the two protocols that are spoken.
fn tls() -> Option<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = Verifier::new(provider.clone()).and_then(|verifier| {
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
    });
    match made {
        Ok(mut config) => {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Some(Arc::new(config))
        }
        Err(error) => {
            tracing::warn!(%error, "https addresses cannot be reached: are there CA certificates here?");
            None
        }
    }
}

/// Connects to the first address that answers. The family of the first address begins; the other joins in if that takes
/// long, and takes over if it fails.
async fn reach(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let first_family = addresses.first().is_some_and(IpAddr::is_ipv4);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|address| address.is_ipv4() == first_family);
    if second.is_empty() {
        return one_after_the_other(&first, port).await;
    }
    let preferred = one_after_the_other(&first, port);
    let other = async {
        tokio::time::sleep(OTHER_FAMILY_AFTER).await;
        one_after_the_other(&second, port).await
    };
    tokio::pin!(preferred, other);
    tokio::select! {
        connected = &mut preferred => match connected {
            Ok(stream) => Ok(stream),
            Err(_) => one_after_the_other(&second, port).await,
        },
        connected = &mut other => match connected {
            Ok(stream) => Ok(stream),
            Err(_) => preferred.await,
        },
    }
}

async fn one_after_the_other(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(*address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Nothing,
    Bytes,
    End,
}

/// A connection, encrypted or not.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// What waits to be read, asked of the kernel: the runtime may not have been told yet.
    pub(super) fn waiting(&self) -> Waiting {
        let socket = match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        let mut one = [0; 1];
        match rustix::net::recv(socket, &mut one, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((0, _)) => Waiting::End,
            Ok(_) => Waiting::Bytes,
            Err(rustix::io::Errno::WOULDBLOCK) => Waiting::Nothing,
            Err(_) => Waiting::End,
        }
    }

    /// Whether both sides agreed on HTTP/2.
    pub(super) fn is_h2(&self) -> bool {
        matches!(self, Stream::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2"))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
