//! Hosts beyond the models that an administrator lets an agent reach, by name and port.

use std::net::{IpAddr, SocketAddr};

use salon_engine::guard::is_global;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};

/// The port of a host that is named without one.
const HTTPS: u16 = 443;

/// The list of one agent or bot. Empty, which is usual, it lets nothing through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<(String, u16)>);

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0} is no host, such as packages.example.org or 10.0.0.5:8443")]
pub struct NoHost(String);

#[derive(Debug, Error)]
pub enum NotReached {
    #[error("nobody has allowed this host")]
    NotListed,
    /// A name that leads into somebody's own network. Whoever means that writes the address down.
    #[error("the name leads to an address that is not public")]
    NotPublic,
    #[error("the host does not answer: {0}")]
    Io(#[from] std::io::Error),
}

impl Hosts {
    pub fn parse(listed: &[String]) -> Result<Hosts, NoHost> {
        let parsed = listed.iter().map(|text| place(text, Some(HTTPS)).ok_or_else(|| NoHost(text.clone())));
        parsed.collect::<Result<_, _>>().map(Hosts)
    }

    /// These and others.
    pub fn with(&self, others: &Hosts) -> Hosts {
        let new = others.0.iter().filter(|host| !self.0.contains(host));
        Hosts(self.0.iter().chain(new).cloned().collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Connects to `authority`, which is a host and a port, if it is in the list word for word.
    pub async fn connect(&self, authority: &str) -> Result<TcpStream, NotReached> {
        let wanted = place(authority, None).ok_or(NotReached::NotListed)?;
        if !self.0.contains(&wanted) {
            return Err(NotReached::NotListed);
        }
        let (host, port) = wanted;
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let addresses: Vec<SocketAddr> = match literal {
            Some(address) => vec![(address, port).into()],
            None => lookup_host((host.as_str(), port)).await?.collect(),
        };
        // All or nothing: of a name that leads both ways nobody knows which one is meant.
        if literal.is_none() && !addresses.iter().all(|address| is_global(address.ip())) {
            return Err(NotReached::NotPublic);
        }
        Ok(TcpStream::connect(&*addresses).await?)
    }
}

/// A host and its port, in lower case.
fn place(text: &str, usual: Option<u16>) -> Option<(String, u16)> {
    let colon = text.rfind(':').filter(|at| text.rfind(']').is_none_or(|bracket| bracket < *at));
    let (host, port) = match colon {
        Some(at) => (&text[..at], text[at + 1..].parse().ok()?),
        None => (text, usual?),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '[' | ']' | ':');
    let named = !host.is_empty() && host.len() <= 253 && host.chars().all(plain);
    named.then(|| (host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(listed: &[&str]) -> Result<Hosts, NoHost> {
        Hosts::parse(&listed.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_a_port_or_without() {
        let known = hosts(&["Packages.example.org", "10.0.0.5:8443", "[fd00::1]:81"]).expect("hosts");
        let expected = [("packages.example.org", 443), ("10.0.0.5", 8443), ("[fd00::1]", 81)];
        assert_eq!(known.0, expected.map(|(host, port)| (host.to_owned(), port)));
        for bad in ["", "https://a.test", "a b", "a:x", "a:99999", "a/b", "*.test"] {
            assert!(hosts(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_lists_are_one_without_repetitions() {
        let (one, other) =
            (hosts(&["a.test", "b.test:81"]).expect("hosts"), hosts(&["b.test:81", "c.test"]).expect("hosts"));
        assert_eq!(one.with(&other), hosts(&["a.test", "b.test:81", "c.test"]).expect("hosts"));
        assert_eq!(Hosts::default().with(&Hosts::default()), Hosts::default());
    }

    #[tokio::test]
    async fn only_what_is_listed_is_reached_and_a_name_only_where_it_is_public() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let known = hosts(&[&format!("127.0.0.1:{port}"), &format!("localhost:{port}")]).expect("hosts");
        assert!(known.connect(&format!("127.0.0.1:{port}")).await.is_ok());
        let by_name = known.connect(&format!("localhost:{port}")).await;
        assert!(matches!(by_name, Err(NotReached::NotPublic)), "{by_name:?}");
        for other in [format!("127.0.0.2:{port}"), format!("127.0.0.1:{}", port ^ 1), "127.0.0.1".to_owned()] {
            assert!(matches!(known.connect(&other).await, Err(NotReached::NotListed)), "{other}");
        }
    }
}
