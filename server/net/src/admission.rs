//! Counting limits with a share per key, so that no single address or identity can use up the total.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Handshakes in progress from one network: it has shown no certificate yet, so this is all that it can hold.
pub const HANDSHAKES_PER_ADDRESS: usize = 16;

/// Handshakes in progress in all: each costs one signature, so this bounds the queue on the processor.
pub const HANDSHAKES: usize = 64;

/// Bits of an IPv6 address that name a network; a host has all addresses of its network to choose from (RFC 4291).
const NETWORK_BITS: u32 = 64;

/// What limits count callers by: an IPv4 address, also one that comes as IPv6, or the network of an IPv6 address.
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (Ipv6Addr::BITS - NETWORK_BITS);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
        v4 => v4,
    }
}

/// Grants up to `total` permits at once, of which up to `per_key` to one key.
#[derive(Debug)]
pub struct Admission<K> {
    per_key: usize,
    total: usize,
    held: Mutex<HashMap<K, usize>>,
}

/// One granted place; returned on drop.
pub struct Permit<K: Eq + Hash> {
    admission: Arc<Admission<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Admission<K> {
    /// Room for `total` permits, of which one key has `per_key` at most.
    #[must_use]
    pub fn new(per_key: usize, total: usize) -> Arc<Self> {
        Arc::new(Self { per_key, total, held: Mutex::new(HashMap::new()) })
    }

    /// A permit for `key`, or none when the key's or the total limit is reached.
    #[must_use]
    pub fn admit(self: &Arc<Self>, key: K) -> Option<Permit<K>> {
        let mut held = self.lock();
        // At most `total` keys are held, so that the sum is short work.
        let in_all: usize = held.values().sum();
        let count = held.get(&key).copied().unwrap_or(0);
        if in_all >= self.total || count >= self.per_key {
            return None;
        }
        held.insert(key.clone(), count + 1);
        Some(Permit { admission: self.clone(), key })
    }
}

impl<K> Admission<K> {
    /// A panic while the lock is held cannot leave a count half changed, so a poisoned lock is still sound.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut held = self.admission.lock();
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

impl<K: Eq + Hash> fmt::Debug for Permit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2:ffff::1"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }

    #[test]
    fn one_key_cannot_starve_another() {
        let admission = Admission::new(2, 3);
        let first = [admission.admit("a").unwrap(), admission.admit("a").unwrap()];
        assert!(admission.admit("a").is_none(), "per key");
        let other = admission.admit("b").unwrap();
        assert!(admission.admit("c").is_none(), "total");
        drop((first, other));
        assert!(admission.lock().is_empty(), "nothing is remembered of those who left");
        assert!(admission.admit("a").is_some());
    }
}
