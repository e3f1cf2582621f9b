//! How many wrong keys an address may try.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use salon_core::Time;

use super::Denied;

/// So many at once; then one every [`PAUSE`].
const BURST: i64 = 20;
const PAUSE: Duration = Duration::from_secs(3);
const ADDRESSES: usize = 10_000;

/// Failed attempts by address. A whole /64 counts as one address: whoever has one has all of it.
#[derive(Default)]
pub(super) struct Failures {
    /// When each address is clean again.
    clean_at: Mutex<HashMap<IpAddr, Time>>,
}

impl Failures {
    /// Whether the address may try a credential that is not known to be right.
    pub(super) fn allow(&self, peer: IpAddr, now: Time) -> Result<(), Denied> {
        let clean_at = self.clean_at.lock().unwrap_or_else(PoisonError::into_inner);
        let debt = clean_at.get(&site(peer)).map_or(Duration::ZERO, |at| at.since(now));
        let full = PAUSE * (BURST as u32);
        if debt < full { Ok(()) } else { Err(Denied::TooMany { retry_after: debt - full + PAUSE }) }
    }

    pub(super) fn note(&self, peer: IpAddr, now: Time) {
        let mut clean_at = self.clean_at.lock().unwrap_or_else(PoisonError::into_inner);
        if clean_at.len() >= ADDRESSES {
            clean_at.retain(|_, at| *at > now);
            if clean_at.len() >= ADDRESSES {
                // Somebody has ten thousand networks; counting each of them helps nobody.
                clean_at.clear();
            }
        }
        let at = clean_at.entry(site(peer)).or_insert(now);
        *at = (*at).max(now) + PAUSE;
    }
}

fn site(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn after_a_burst_one_failure_is_forgiven_every_few_seconds() {
        let (failures, alice, now) = (Failures::default(), peer("192.0.2.1"), Time(1_000_000));
        for _ in 0..BURST {
            assert_eq!(failures.allow(alice, now), Ok(()));
            failures.note(alice, now);
        }
        assert_eq!(failures.allow(alice, now), Err(Denied::TooMany { retry_after: PAUSE }));
        assert_eq!(failures.allow(peer("192.0.2.2"), now), Ok(()));
        assert_eq!(failures.allow(alice, now + PAUSE + Duration::from_millis(1)), Ok(()));
        assert_eq!(failures.allow(alice, now + PAUSE * 40), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (failures, now) = (Failures::default(), Time(1_000_000));
        for at in 0..BURST {
            failures.note(peer(&format!("2001:db8:0:1::{at:x}")), now);
        }
        assert!(failures.allow(peer("2001:db8:0:1:ffff::9"), now).is_err());
        assert!(failures.allow(peer("2001:db8:0:2::9"), now).is_ok());
    }

    #[test]
    fn the_table_stays_small() {
        let (failures, now) = (Failures::default(), Time(1_000_000));
        for at in 0..3 * ADDRESSES as u32 {
            failures.note(IpAddr::V4(at.into()), now);
        }
        assert!(failures.clean_at.lock().expect("a table").len() <= ADDRESSES);
    }
}
