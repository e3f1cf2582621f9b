//! Judges addresses that users give, before anything of ours goes there.
//!
//! An address of the operator's own configuration may be anything. One that a user or a team typed could be this
//! machine, the network behind it, or the cloud's metadata service in one of a hundred spellings. Three walls stand
//! between them: [`judge`] reads the text once and decides what it can see; [`vet`] decides about what a name resolves
//! to, all or nothing; and whoever connects compares the peer with what was vetted.
//!
//! There is no switch that opens loopback for tests: a test names its listener as an administrator would ([`Rules`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;
use thiserror::Error;

/// The longest address.
const LONGEST: usize = 2_048;
/// Ports of the public internet that may be called.
const PORTS: [u16; 2] = [443, 8443];
/// Names under these belong to somebody's own network, whatever they resolve to.
const PRIVATE_NAMES: [&str; 11] =
    ["localhost", "localdomain", "local", "internal", "intranet", "private", "corp", "home", "lan", "arpa", "onion"];

/// What an administrator allows beyond the public internet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    lan_allow: Vec<Exception>,
}

/// A host of the local network that may be called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Exception {
    /// As it stands in an address.
    host: String,
    /// Without one, every port.
    port: Option<u16>,
}

impl Rules {
    /// Reads `host`, `host:port`, `10.1.2.3`, `[fd00::1]:8000`: each a host as it would stand in the address.
    pub fn new<I: IntoIterator<Item: AsRef<str>>>(lan_allow: I) -> Result<Rules, BadRule> {
        let lan_allow = lan_allow.into_iter().map(|text| Exception::parse(text.as_ref())).collect::<Result<_, _>>()?;
        Ok(Rules { lan_allow })
    }

    /// Whether the administrator named this very host and port.
    fn names(&self, host: &str, port: u16) -> bool {
        self.lan_allow.iter().any(|known| known.host == host && known.port.is_none_or(|only| only == port))
    }
}

impl Exception {
    fn parse(text: &str) -> Result<Exception, BadRule> {
        let bad = || BadRule(text.to_owned());
        // A colon inside brackets is the address's own.
        let colon = text.rfind(':').filter(|at| text.rfind(']').is_none_or(|bracket| bracket < *at));
        let (host, port) = match colon {
            Some(at) => (&text[..at], Some(text[at + 1..].parse::<u16>().map_err(|_| bad())?)),
            None => (text, None),
        };
        let url = Url::parse(&format!("http://{host}/")).map_err(|_| bad())?;
        let shown = url.host_str().unwrap_or_default();
        // Anything but a host would have become another part of the address.
        let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
        if shown.is_empty() || !plain || url.path() != "/" || port == Some(0) {
            return Err(bad());
        }
        Ok(Exception { host: shown.to_owned(), port })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0} is no host, such as ollama.lan or 10.1.2.3:8000")]
pub struct BadRule(String);

/// Why an address is not called. The sentence is all that anybody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("This address cannot be used: it has to be https, name a public host, and use port 443 or 8443.")]
pub struct Blocked;

/// An address that was judged. What was judged is what is called: nobody parses the text again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub url: Url,
    pub near: Near,
}

/// How near an address may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Near {
    /// On the public internet.
    Public,
    /// In the local network, since an administrator named this host.
    Network,
    /// On this machine, since an administrator named it.
    Machine,
}

/// Reads and judges an address that a user gave.
pub fn judge(text: &str, rules: &Rules) -> Result<Judged, Blocked> {
    // What a parser passes over in silence is how two parsers come to differ.
    let odd = |letter: char| letter.is_control() || letter.is_whitespace() || letter == '\\';
    if text.len() > LONGEST || text.contains(odd) {
        return Err(Blocked);
    }
    let after = text.split_once("://").ok_or(Blocked)?.1;
    let authority = after.split(['/', '?', '#']).next().unwrap_or_default();
    // An empty user name leaves no trace in what was parsed.
    if authority.contains('@') || text.contains('#') {
        return Err(Blocked);
    }
    let url = Url::parse(text).map_err(|_| Blocked)?;
    let near = judge_parsed(&url, rules)?;
    Ok(Judged { url, near })
}

/// Judges an address that was read before. This is what whoever connects asks again, however it came by the address.
pub fn judge_parsed(url: &Url, rules: &Rules) -> Result<Near, Blocked> {
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(Blocked);
    }
    let (host, port) = (url.host_str().ok_or(Blocked)?, url.port_or_known_default().ok_or(Blocked)?);
    if !matches!(url.scheme(), "https" | "http") || host.len() > 253 {
        return Err(Blocked);
    }
    let literal = literal(host);
    if rules.names(host, port) {
        return match literal {
            Some(address) if is_nobody(address) => Err(Blocked),
            Some(address) if address.to_canonical().is_loopback() => Ok(Near::Machine),
            None if host == "localhost" => Ok(Near::Machine),
            Some(_) | None => Ok(Near::Network),
        };
    }
    // A literal never reaches a resolver, so it is decided here; whoever serves models to the world has a name.
    if url.scheme() != "https" || literal.is_some() || !PORTS.contains(&port) || !is_public_name(host) {
        return Err(Blocked);
    }
    Ok(Near::Public)
}

/// Judges what a name resolved to: all of it, or nothing.
pub fn vet(addresses: &[IpAddr], near: Near) -> Result<(), Blocked> {
    let fits = |address: &IpAddr| {
        is_global(*address)
            || near >= Near::Network && is_private(*address)
            || near == Near::Machine && address.to_canonical().is_loopback()
    };
    if !addresses.is_empty() && addresses.iter().all(fits) { Ok(()) } else { Err(Blocked) }
}

/// The address that a host is written as. The parser has brought every spelling of it to one.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_public_name(host: &str) -> bool {
    // With a dot at the end it is the same name to a resolver and another one to everybody else.
    let last = host.rsplit('.').next().unwrap_or_default();
    host.contains('.')
        && !last.is_empty()
        && !PRIVATE_NAMES.contains(&last)
        && host.split('.').all(|label| (1..=63).contains(&label.len()))
        && host.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-'))
}

/// Whether an address is one of the public internet's, and of nobody's own network.
///
/// IPv6 addresses that carry an IPv4 address inside lead there, so that one is judged.
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224.., ..)
    )
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match s {
        // Compatible and mapped: `::a.b.c.d`, `::ffff:a.b.c.d`. Nothing and loopback are among them.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => is_global_v4(v4(high, low)),
        // Translated by NAT64.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_global_v4(v4(high, low)),
        // Teredo: its server, and the client behind it in disguise.
        [0x2001, 0, s1, s2, _, _, c1, c2] => is_global_v4(v4(s1, s2)) && is_global_v4(v4(!c1, !c2)),
        // 6to4.
        [0x2002, high, low, ..] => is_global_v4(v4(high, low)),
        // Documentation; benchmarks, overlays and other things of the registry's own.
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] | [0x2001, 0..=0x1ff, ..] => false,
        // Everything else that was given out so far.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Networks that belong to whoever runs them.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_private() || (a == 100 && (64..=127).contains(&b))
        }
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

/// Addresses at which nobody can be meant, whoever names them.
fn is_nobody(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    link_local || address.is_unspecified() || address.is_multicast()
}

#[cfg(test)]
pub(crate) mod tests;
