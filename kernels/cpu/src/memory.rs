//! Memory of chunk keys, used again. Tens of megabytes fresh from the system cost more in page faults than the key that is
//! made in them, so what a dropped key occupied is wiped and kept for the next one.

use std::{
    hint::black_box,
    sync::{Mutex, MutexGuard, PoisonError},
};

use suf_gate::secret::SecretMemory;

/// Memory below this is left to the allocator, which keeps it anyway.
const LEAST_KEPT_BYTES: usize = 1 << 20;

/// Most memory that is kept: both keys of two chunks of the largest gate.
const MOST_KEPT_BYTES: usize = 160 << 20;

/// Wiped memory, what was wiped last at the end.
static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Zeros to be overwritten by a key; wiped when dropped.
pub(crate) struct KeyMemory(Vec<u8>);

impl KeyMemory {
    /// `len` zero bytes.
    pub(crate) fn zeroed(len: usize) -> Self {
        let fitting = {
            let mut kept = kept();
            // More than twice what is needed is better kept for another gate.
            let fits = |bytes: &Vec<u8>| (len..=2 * len).contains(&bytes.capacity());
            kept.iter().position(fits).map(|i| kept.remove(i))
        };
        match fitting {
            Some(mut bytes) => {
                bytes.resize(len, 0);
                Self(bytes)
            }
            None => Self(vec![0; len]),
        }
    }
}

impl AsRef<[u8]> for KeyMemory {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for KeyMemory {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl SecretMemory for KeyMemory {}

impl Drop for KeyMemory {
    fn drop(&mut self) {
        // A fill at memory speed, which must not be taken for a dead store.
        self.0.fill(0);
        black_box(self.0.as_ptr());
        let bytes = std::mem::take(&mut self.0);
        if !(LEAST_KEPT_BYTES..=MOST_KEPT_BYTES).contains(&bytes.capacity()) {
            return;
        }
        let mut kept = kept();
        // Room is made at the cost of what has waited longest: the memory of a gate that is no longer dealt.
        while kept.iter().map(Vec::capacity).sum::<usize>() + bytes.capacity() > MOST_KEPT_BYTES {
            kept.remove(0);
        }
        kept.push(bytes);
    }
}

fn kept() -> MutexGuard<'static, Vec<Vec<u8>>> {
    // A list of wiped buffers is whole whatever happened to its last user.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_wiped() {
        let len = LEAST_KEPT_BYTES + 12_345;
        for _ in 0..3 {
            let mut memory = KeyMemory::zeroed(len);
            assert!(memory.as_ref().len() == len && memory.as_ref().iter().all(|byte| *byte == 0));
            memory.as_mut().fill(0xAB);
        }
        // Longer than before, in the same memory.
        assert!(KeyMemory::zeroed(len + 7).as_ref().iter().all(|byte| *byte == 0));
    }
}
