//! What is loaded for the gates that were used last.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Whose it is: a gate's digest.
type Key = [u8; 32];

/// Values that are loaded when they are first asked for. There are at most so many, and those in use besides: the one whose last
/// use is the longest ago goes first.
pub(crate) struct Recent<V> {
    most: usize,
    inner: Mutex<Inner<V>>,
}

struct Inner<V> {
    places: HashMap<Key, Cached<V>>,
    /// Uses so far: the time by which places age.
    uses: u64,
}

struct Cached<V> {
    loading: Loading<V>,
    used: u64,
}

/// A value, once the first who needs it has loaded it; the others wait.
type Loading<V> = Arc<Mutex<Option<Arc<V>>>>;

impl<V> Recent<V> {
    /// Keeps at most `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, inner: Mutex::new(Inner { places: HashMap::new(), uses: 0 }) }
    }

    /// The value of `key`, which `load` makes if it is not there. It stays as long as it is held.
    pub(crate) fn get<E>(&self, key: Key, load: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let (loading, spare) = {
            let mut inner = self.lock();
            inner.uses += 1;
            let used = inner.uses;
            let place =
                inner.places.entry(key).or_insert_with(|| Cached { loading: Loading::default(), used });
            place.used = used;
            // Held from here on, so that it is in use.
            let loading = Arc::clone(&place.loading);
            (loading, inner.spare(self.most))
        };
        // Giving a value up may take long, and nobody waits for it.
        drop(spare);
        let mut value = loading.lock().unwrap_or_else(PoisonError::into_inner);
        match &*value {
            Some(value) => Ok(Arc::clone(value)),
            None => Ok(Arc::clone(value.insert(Arc::new(load()?)))),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().places.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner<V>> {
        // A map of finished entries stays whole whatever a panicking thread was doing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Inner<V> {
    /// Takes out what is beyond `most` and not in use, the longest unused first.
    fn spare(&mut self, most: usize) -> Vec<Cached<V>> {
        let mut spare = Vec::new();
        while self.places.len() > most {
            let idle = self.places.iter().filter(|(_, place)| place.is_idle());
            let Some(oldest) = idle.min_by_key(|(_, place)| place.used).map(|(key, _)| *key) else { break };
            spare.extend(self.places.remove(&oldest));
        }
        spare
    }
}

impl<V> Cached<V> {
    /// Whether nobody holds the value or waits for it. While the map is locked, nobody can begin to.
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.loading) == 1
            && self
                .loading
                .try_lock()
                .is_ok_and(|value| value.as_ref().is_none_or(|value| Arc::strong_count(value) == 1))
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible};

    use super::*;

    fn key(n: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        key
    }

    #[test]
    fn the_longest_unused_goes_and_what_is_in_use_stays() {
        let recent = Recent::new(3);
        let loads = Cell::new(0);
        let get = |n: usize| {
            let load = || {
                loads.set(loads.get() + 1);
                Ok::<_, Infallible>(n)
            };
            recent.get(key(n), load).expect("it loads")
        };
        let held = get(0);
        (1..3).for_each(|n| assert_eq!(*get(n), n));
        assert_eq!((*get(1), loads.get()), (1, 3), "loaded twice");
        // The first is held, the third was used before the second.
        get(3);
        assert_eq!((recent.len(), loads.get()), (3, 4));
        get(0);
        get(1);
        assert_eq!(loads.get(), 4, "one in use or used lately was given up");
        get(2);
        assert_eq!(loads.get(), 5, "the longest unused was kept");
        // More are in use than are kept.
        let all: Vec<_> = (10..20).map(get).collect();
        assert_eq!(recent.len(), 11);
        drop((all, held));
        get(20);
        assert_eq!(recent.len(), 3);
    }

    #[test]
    fn what_does_not_load_is_not_kept_for_ever() {
        let recent = Recent::<()>::new(2);
        for n in 0..100 {
            assert_eq!(recent.get(key(n), || Err("no compiler")).err(), Some("no compiler"));
        }
        assert!(recent.len() <= 2);
    }
}
