//! How many connections each address has.
//!
//! Bounded by the connections themselves: an address leaves with its last one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bits of an IPv6 address that a site shares: whoever has one address there has all of them.
const SITE: u128 = !0 << 64;

/// The counts.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    most: usize,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that is counted.
#[derive(Debug)]
pub(super) struct Place {
    from: IpAddr,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Addresses {
    /// With at most so many from each; 0 is no limit.
    pub(super) fn new(most: usize) -> Self {
        Self { most, counts: Arc::default() }
    }

    /// Counts one, until what is returned is dropped. `None` when there are too many.
    pub(super) fn enter(&self, from: IpAddr) -> Option<Place> {
        let from = site(from);
        let mut counts = lock(&self.counts);
        let count = counts.entry(from).or_default();
        if self.most > 0 && *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { from, counts: Arc::clone(&self.counts) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

fn lock(counts: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & SITE).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_count_and_leaves_with_its_last() {
        let addresses = Addresses::new(2);
        let first = addresses.enter(ip("192.0.2.1")).unwrap();
        let _second = addresses.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert!(addresses.enter(ip("192.0.2.1")).is_none());
        let other = addresses.enter(ip("192.0.2.2")).unwrap();
        drop((first, other));
        assert_eq!(lock(&addresses.counts).len(), 1);
        assert!(addresses.enter(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn a_site_of_ipv6_is_one_address() {
        let addresses = Addresses::new(1);
        let _one = addresses.enter(ip("2001:db8:1:2::1")).unwrap();
        assert!(addresses.enter(ip("2001:db8:1:2:ffff::9")).is_none());
        assert!(addresses.enter(ip("2001:db8:1:3::1")).is_some());
    }

    #[test]
    fn zero_is_no_limit() {
        let addresses = Addresses::new(0);
        let places: Vec<_> = (0..100).map(|_| addresses.enter(ip("192.0.2.1")).unwrap()).collect();
        assert_eq!(lock(&addresses.counts).values().sum::<usize>(), places.len());
    }
}
