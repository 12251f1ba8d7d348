//! Counting limits with a share per key, so that no single address or identity can use up the total.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Grants up to `total` permits at once, of which up to `per_key` to one key.
#[derive(Debug)]
pub(crate) struct Admission<K> {
    per_key: usize,
    total: usize,
    held: Mutex<HashMap<K, usize>>,
}

/// One granted place; returned on drop.
pub(crate) struct Permit<K: Eq + Hash> {
    admission: Arc<Admission<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Admission<K> {
    pub(crate) fn new(per_key: usize, total: usize) -> Arc<Self> {
        Arc::new(Self { per_key, total, held: Mutex::new(HashMap::new()) })
    }

    /// A permit for `key`, or none when the key's or the total limit is reached.
    pub(crate) fn admit(self: &Arc<Self>, key: K) -> Option<Permit<K>> {
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
