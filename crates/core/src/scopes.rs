//! What a key may be used for: which doors, which models, from where.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

/// The scopes of a key. The default allows everything; what is allowed can only shrink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// Doors by their path, such as `/v1/chat/completions` or `/v1/*`.
    pub routes: Allowed<Pattern>,
    /// Models by the names that callers use, such as `gpt-4o` or `claude-*`.
    pub models: Allowed<Pattern>,
    /// Where a caller may stand.
    pub networks: Allowed<Network>,
}

impl Scopes {
    pub fn allow_route(&self, path: &str) -> bool {
        self.routes.any(|pattern| pattern.fits(path))
    }

    pub fn allow_model(&self, name: &str) -> bool {
        self.models.any(|pattern| pattern.fits(name))
    }

    pub fn allow_peer(&self, peer: IpAddr) -> bool {
        self.networks.any(|network| network.has(peer))
    }

    /// What both allow.
    #[must_use]
    pub fn within(&self, other: &Scopes) -> Scopes {
        Scopes {
            routes: self.routes.within(&other.routes),
            models: self.models.within(&other.models),
            networks: self.networks.within(&other.networks),
        }
    }

    /// Whether nothing at all can be done with them.
    pub fn allow_nothing(&self) -> bool {
        self.routes.is_empty() || self.models.is_empty() || self.networks.is_empty()
    }
}

/// Everything, or what one of these fits. A list without entries allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Allowed<T> {
    #[default]
    All,
    Only(Vec<T>),
}

/// Something of which a list may be made.
pub trait Entry: Sized + Clone + PartialEq + fmt::Display {
    fn parse(text: &str) -> Result<Self, BadScope>;
    /// What both allow, if it is anything.
    fn within(&self, other: &Self) -> Option<Self>;
}

impl<T: Entry> Allowed<T> {
    /// Reads entries between commas. Nothing but blanks is a list without entries, which allows nothing.
    pub fn parse(text: &str) -> Result<Allowed<T>, BadScope> {
        Allowed::of(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()))
    }

    /// Reads entries one by one. None at all is a list that allows nothing.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Allowed<T>, BadScope> {
        let entries: Vec<T> = entries.into_iter().map(T::parse).collect::<Result<_, _>>()?;
        if entries.len() > MAX_ENTRIES {
            return Err(BadScope::TooMany);
        }
        Ok(Allowed::Only(entries))
    }

    /// What [`parse`](Allowed::parse) reads; `None` if everything is allowed.
    pub fn text(&self) -> Option<String> {
        match self {
            Allowed::All => None,
            Allowed::Only(entries) => Some(entries.iter().map(T::to_string).collect::<Vec<_>>().join(",")),
        }
    }

    fn any(&self, fits: impl Fn(&T) -> bool) -> bool {
        match self {
            Allowed::All => true,
            Allowed::Only(entries) => entries.iter().any(fits),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Allowed::Only(entries) if entries.is_empty())
    }

    fn within(&self, other: &Allowed<T>) -> Allowed<T> {
        match (self, other) {
            (Allowed::All, some) | (some, Allowed::All) => some.clone(),
            (Allowed::Only(ours), Allowed::Only(theirs)) => {
                let mut both: Vec<T> = Vec::new();
                for entry in ours.iter().flat_map(|our| theirs.iter().filter_map(|their| our.within(their))) {
                    if !both.contains(&entry) {
                        both.push(entry);
                    }
                }
                Allowed::Only(both)
            }
        }
    }
}

const MAX_ENTRIES: usize = 100;
const MAX_PATTERN: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadScope {
    #[error("{0:?} is no pattern: letters, digits and . _ : / @ + - , with a * at the end if need be")]
    Pattern(String),
    #[error("{0:?} is no network, such as 192.0.2.0/24 or 2001:db8::/32")]
    Network(String),
    #[error("a list of scopes has at most {MAX_ENTRIES} entries")]
    TooMany,
}

/// A name, or the beginning of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    open: bool,
}

impl Pattern {
    pub fn fits(&self, name: &str) -> bool {
        if self.open { name.starts_with(&self.text) } else { name == self.text }
    }
}

impl Entry for Pattern {
    fn parse(text: &str) -> Result<Pattern, BadScope> {
        let (name, open) = text.strip_suffix('*').map_or((text, false), |name| (name, true));
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte);
        if (name.is_empty() && !open) || name.len() > MAX_PATTERN || !name.bytes().all(known) {
            return Err(BadScope::Pattern(text.chars().take(MAX_PATTERN).collect()));
        }
        Ok(Pattern { text: name.to_owned(), open })
    }

    fn within(&self, other: &Pattern) -> Option<Pattern> {
        match (self.open, other.open) {
            (false, _) => other.fits(&self.text).then(|| self.clone()),
            (true, false) => self.fits(&other.text).then(|| other.clone()),
            (true, true) if self.text.starts_with(&other.text) => Some(self.clone()),
            (true, true) => other.text.starts_with(&self.text).then(|| other.clone()),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.open { "*" } else { "" })
    }
}

/// A range of addresses in the notation of CIDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Without the bits below the prefix.
    base: IpAddr,
    prefix: u8,
}

impl Network {
    pub fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && cut(address, self.prefix) == self.base
    }
}

impl Entry for Network {
    /// A single address is a network of its own. An IPv4 address in IPv6 clothes counts as what it is.
    fn parse(text: &str) -> Result<Network, BadScope> {
        let bad = || BadScope::Network(text.chars().take(MAX_PATTERN).collect());
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let widest = width(address);
        let prefix = match prefix {
            None => widest,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().map_err(|_| bad())?,
            Some(_) => return Err(bad()),
        };
        if prefix > widest {
            return Err(bad());
        }
        let plain = address.to_canonical();
        let prefix =
            if plain.is_ipv4() == address.is_ipv4() { prefix } else { prefix.checked_sub(96).ok_or_else(bad)? };
        Ok(Network { base: cut(plain, prefix), prefix })
    }

    fn within(&self, other: &Network) -> Option<Network> {
        let (narrow, wide) = if self.prefix >= other.prefix { (self, other) } else { (other, self) };
        wide.has(narrow.base).then_some(*narrow)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Clears every bit below the prefix.
fn cut(address: IpAddr, prefix: u8) -> IpAddr {
    let below = u32::from(width(address).saturating_sub(prefix));
    match address {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() & u32::MAX.checked_shl(below).unwrap_or(0)).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & u128::MAX.checked_shl(below).unwrap_or(0)).into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scopes(routes: &str, models: &str, networks: &str) -> Scopes {
        Scopes {
            routes: Allowed::parse(routes).expect("routes"),
            models: Allowed::parse(models).expect("models"),
            networks: Allowed::parse(networks).expect("networks"),
        }
    }

    #[test]
    fn a_star_stands_for_any_end() {
        let scopes = scopes("/v1/chat/*, /v1/models", "gpt-4o, claude-*", "10.0.0.0/8");
        assert!(scopes.allow_route("/v1/chat/completions") && scopes.allow_route("/v1/models"));
        assert!(!scopes.allow_route("/v1/models/gpt-4o") && !scopes.allow_route("/v1/chat"));
        assert!(scopes.allow_model("gpt-4o") && scopes.allow_model("claude-opus"));
        assert!(!scopes.allow_model("gpt-4o-mini") && !scopes.allow_model("GPT-4o"));
        assert!(Scopes::default().allow_model("anything") && !Scopes::default().allow_nothing());
    }

    #[test]
    fn what_comes_as_a_list_is_not_cut_again() {
        let of = |entries: &[&str]| Allowed::<Pattern>::of(entries.iter().copied());
        assert_eq!(of(&["gpt-4o", "claude-*"]), Allowed::parse(" gpt-4o, claude-*"));
        for bad in ["", " ", "gpt-4o,claude-*", " gpt-4o"] {
            assert_eq!(of(&[bad]), Err(BadScope::Pattern(bad.to_owned())));
        }
        assert_eq!(of(&["a"; MAX_ENTRIES + 1]), Err(BadScope::TooMany));
    }

    #[test]
    fn networks_are_told_by_their_bits() {
        let has = |network: &str, address: &str| {
            Network::parse(network).expect("a network").has(address.parse().expect("an address"))
        };
        assert!(has("192.0.2.0/24", "192.0.2.255") && !has("192.0.2.0/24", "192.0.3.0"));
        assert!(has("0.0.0.0/0", "8.8.8.8") && !has("0.0.0.0/0", "::1"));
        assert!(has("::/0", "2001:db8::1") && !has("::/0", "8.8.8.8"));
        assert!(has("192.0.2.7", "::ffff:192.0.2.7"), "an IPv4 address that came through an IPv6 socket");
        assert!(has("::ffff:192.0.2.0/120", "192.0.2.9"));
        assert!(has("2001:db8:1::/48", "2001:db8:1:ffff::") && !has("2001:db8:1::/48", "2001:db8:2::"));
        assert_eq!(Network::parse("192.0.2.77/24").expect("a network").to_string(), "192.0.2.0/24");
        for bad in
            ["", "192.0.2.0/33", "::/129", "192.0.2/24", "example.org", "10.0.0.0/", "10.0.0.0/+8", "::ffff:1.2.3.4/8"]
        {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nonsense_is_no_scope() {
        for bad in ["gpt 4", "a*b", "*a", "м", "a\"b", "<x>"] {
            assert!(Allowed::<Pattern>::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Allowed::<Pattern>::parse(&"a,".repeat(101)), Err(BadScope::TooMany));
    }

    #[test]
    fn an_empty_list_allows_nothing_and_is_not_everything() {
        let nothing = scopes("", "*", "::/0");
        assert!(nothing.allow_nothing() && !nothing.allow_route("/v1/models"));
        assert_eq!(Allowed::<Pattern>::parse(&nothing.routes.text().expect("a list")), Ok(nothing.routes));
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        ("[ab]{0,3}", any::<bool>())
            .prop_filter("names have letters", |(text, open)| *open || !text.is_empty())
            .prop_map(|(text, open)| Pattern { text, open })
    }

    fn network() -> impl Strategy<Value = Network> {
        let v4 = (any::<u32>(), 0..=32u8).prop_map(|(bits, prefix)| (IpAddr::V4((bits & 0x0300_0003).into()), prefix));
        let v6 =
            (any::<u128>(), 0..=128u8).prop_map(|(bits, prefix)| (IpAddr::V6((bits & (3 | 3 << 96)).into()), prefix));
        prop_oneof![v4, v6].prop_map(|(base, prefix)| Network { base: cut(base, prefix), prefix })
    }

    proptest! {
        #[test]
        fn what_both_allow_is_what_each_allows(
            ours in prop::collection::vec(pattern(), 0..4),
            theirs in prop::collection::vec(pattern(), 0..4),
            name in "[ab]{0,4}",
        ) {
            let (ours, theirs) = (Allowed::Only(ours), Allowed::Only(theirs));
            let fits = |allowed: &Allowed<Pattern>| allowed.any(|pattern| pattern.fits(&name));
            prop_assert_eq!(fits(&ours.within(&theirs)), fits(&ours) && fits(&theirs));
        }

        #[test]
        fn networks_meet_where_both_are(
            ours in prop::collection::vec(network(), 0..3),
            theirs in prop::collection::vec(network(), 0..3),
            v4 in any::<u32>(),
            v6 in any::<u128>(),
        ) {
            let (ours, theirs) = (Allowed::Only(ours), Allowed::Only(theirs));
            for address in [IpAddr::V4((v4 & 0x0300_0003).into()), IpAddr::V6((v6 & (3 | 3 << 96)).into())] {
                let has = |allowed: &Allowed<Network>| allowed.any(|network| network.has(address));
                prop_assert_eq!(has(&ours.within(&theirs)), has(&ours) && has(&theirs));
            }
        }

        #[test]
        fn a_list_is_read_as_it_is_written(entries in prop::collection::vec(network(), 0..5)) {
            let allowed = Allowed::Only(entries);
            prop_assert_eq!(Allowed::parse(&allowed.text().expect("a list")), Ok(allowed));
        }
    }
}
