//! Memory of tile keys, used again. Tens of megabytes fresh from the system cost more in page faults than making the
//! key in them. So the memory of a dropped key is wiped and kept for the next one.
//!
//! Large keys are mapped, not allocated. An allocator keeps what it was given, and cannot return locked memory from the
//! middle of its heap. So the bytes counted here are the bytes that the process holds for keys.

use std::{
    hint::black_box,
    io, mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use memmap2::{Advice, MmapMut};
use suf_gate::secret::SecretMemory;

/// Memory below this is left to the allocator.
const LEAST_MAPPED_BYTES: usize = 1 << 20;

/// Most idle memory that is kept: both keys of two tiles of the largest gate.
const MOST_IDLE_BYTES: usize = 160 << 20;

/// Mappings are whole pages of the smallest size.
const PAGE_BYTES: usize = 4096;

/// The pool of this process.
static POOL: Pool = Pool::new();

/// Zeros to be overwritten by a key; wiped when dropped.
pub struct KeyMemory {
    bytes: Storage,
    len: usize,
    pool: &'static Pool,
}

enum Storage {
    Heap(Vec<u8>),
    /// Emptied by drop alone.
    Mapped(Option<MmapMut>),
}

/// Mapped memory: what keys use, and what waits for the next one.
#[derive(Debug)]
struct Pool(Mutex<Bytes>);

#[derive(Debug)]
struct Bytes {
    /// Wiped; what was wiped last at the end.
    idle: Vec<MmapMut>,
    in_use: usize,
    /// Bound on idle memory and memory in use together.
    most: usize,
}

impl KeyMemory {
    /// `len` zero bytes.
    ///
    /// # Errors
    /// When the system has no memory.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        Self::zeroed_in(&POOL, len)
    }

    /// Bounds the mapped memory of this process. Idle memory is given back to the system before it and the memory in
    /// use exceed `bytes`. The bound on the memory in use is the caller's: it asks for no more than `bytes` at a time.
    pub fn bound(bytes: u64) {
        POOL.bound(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    fn zeroed_in(pool: &'static Pool, len: usize) -> io::Result<Self> {
        let bytes = if len < LEAST_MAPPED_BYTES {
            Storage::Heap(vec![0; len])
        } else {
            Storage::Mapped(Some(pool.take(len.next_multiple_of(PAGE_BYTES))?))
        };
        Ok(Self { bytes, len, pool })
    }
}

impl Pool {
    const fn new() -> Self {
        Self(Mutex::new(Bytes { idle: Vec::new(), in_use: 0, most: usize::MAX }))
    }

    fn bound(&self, most: usize) {
        let surplus = {
            let mut bytes = self.bytes();
            bytes.most = most;
            bytes.surplus(0)
        };
        drop(surplus);
    }

    /// `len` zero bytes, a multiple of the page size.
    fn take(&self, len: usize) -> io::Result<MmapMut> {
        let surplus = {
            let mut bytes = self.bytes();
            bytes.in_use += len;
            if let Some(at) = bytes.idle.iter().rposition(|idle| idle.len() == len) {
                return Ok(bytes.idle.remove(at));
            }
            bytes.surplus(0)
        };
        // Given back first, so that the process never holds more than the bound.
        drop(surplus);
        let mapped = MmapMut::map_anon(len).inspect_err(|_| self.bytes().in_use -= len)?;
        // Where the system has no large pages, it takes more faults.
        let _ = mapped.advise(Advice::HugePage);
        Ok(mapped)
    }

    /// Takes wiped memory back.
    fn give_back(&self, memory: MmapMut) {
        let surplus = {
            let mut bytes = self.bytes();
            bytes.in_use -= memory.len();
            let surplus = bytes.surplus(memory.len());
            if memory.len() <= MOST_IDLE_BYTES {
                bytes.idle.push(memory);
            }
            surplus
        };
        drop(surplus);
    }

    fn bytes(&self) -> MutexGuard<'_, Bytes> {
        // Sums and lists of wiped memory are whole whatever happened to their last user.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bytes {
    /// Idle memory that has to go so that there is room for `more` idle bytes. The longest idle goes first: the memory
    /// of a gate that is no longer dealt.
    fn surplus(&mut self, more: usize) -> Vec<MmapMut> {
        let mut idle: usize = more + self.idle.iter().map(|idle| idle.len()).sum::<usize>();
        let mut goes = 0;
        while goes < self.idle.len()
            && (idle > MOST_IDLE_BYTES || self.in_use.saturating_add(idle) > self.most)
        {
            idle -= self.idle[goes].len();
            goes += 1;
        }
        self.idle.drain(..goes).collect()
    }
}

impl AsRef<[u8]> for KeyMemory {
    fn as_ref(&self) -> &[u8] {
        match &self.bytes {
            Storage::Heap(bytes) => bytes,
            Storage::Mapped(bytes) => &bytes.as_ref().expect("mapped until drop")[..self.len],
        }
    }
}

impl AsMut<[u8]> for KeyMemory {
    fn as_mut(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Storage::Heap(bytes) => bytes,
            Storage::Mapped(bytes) => &mut bytes.as_mut().expect("mapped until drop")[..self.len],
        }
    }
}

impl SecretMemory for KeyMemory {}

impl Drop for KeyMemory {
    fn drop(&mut self) {
        // A fill at memory speed, which must not be taken for a dead store.
        self.as_mut().fill(0);
        black_box(self.as_ref().as_ptr());
        if let Storage::Mapped(bytes) = &mut self.bytes
            && let Some(memory) = mem::take(bytes)
        {
            self.pool.give_back(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(most: usize) -> &'static Pool {
        let pool = Box::leak(Box::new(Pool::new()));
        pool.bound(most);
        pool
    }

    fn memory(pool: &'static Pool, len: usize) -> KeyMemory {
        KeyMemory::zeroed_in(pool, len).expect("the system has memory")
    }

    /// Bytes in use, idle.
    fn held(pool: &Pool) -> (usize, usize) {
        let bytes = pool.bytes();
        (bytes.in_use, bytes.idle.iter().map(|idle| idle.len()).sum())
    }

    #[test]
    fn memory_comes_back_wiped() {
        let pool = pool(usize::MAX);
        let len = LEAST_MAPPED_BYTES + 12_345;
        let pages = len.next_multiple_of(PAGE_BYTES);
        for _ in 0..3 {
            let mut memory = memory(pool, len);
            assert!(memory.as_ref().len() == len && memory.as_ref().iter().all(|byte| *byte == 0));
            memory.as_mut().fill(0xAB);
            assert_eq!(held(pool), (pages, 0));
        }
        assert_eq!(held(pool), (0, pages), "the same memory each time");
        // Longer than before, in the same memory.
        assert!(memory(pool, len + 7).as_ref().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn idle_memory_gives_way_before_the_bound_is_passed() {
        let (mib, pool) = (1 << 20, pool(8 << 20));
        drop([1, 2, 3].map(|size| memory(pool, size * mib)));
        assert_eq!(held(pool), (0, 6 * mib));
        let large = memory(pool, 4 * mib);
        let (in_use, idle) = held(pool);
        assert!(in_use == 4 * mib && idle <= 4 * mib, "{in_use} in use, {idle} idle");
        let rest = memory(pool, 4 * mib);
        assert_eq!(held(pool), (8 * mib, 0));
        drop((large, rest));
        assert_eq!(held(pool), (0, 8 * mib));
        pool.bound(3 * mib);
        assert_eq!(held(pool), (0, 0));
    }

    #[test]
    fn idle_memory_is_bounded_without_a_bound() {
        let pool = pool(usize::MAX);
        let third = MOST_IDLE_BYTES / 3;
        drop([third; 5].map(|len| memory(pool, len)));
        let (in_use, idle) = held(pool);
        assert!(in_use == 0 && (third..=MOST_IDLE_BYTES).contains(&idle), "{in_use} in use, {idle} idle");
        drop(memory(pool, MOST_IDLE_BYTES + 1));
        assert_eq!(held(pool).0, 0);
        assert!(held(pool).1 <= MOST_IDLE_BYTES, "what is larger than all that is kept is not kept");
    }

    #[test]
    fn threads_that_stay_within_the_bound_together_never_make_the_pool_exceed_it() {
        let (threads, mib) = (4, 1 << 20);
        let pool = pool(threads * 4 * mib);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    for round in 0..200 {
                        let held_here = memory(pool, (1 + (round + thread) % 4) * mib);
                        let (in_use, idle) = held(pool);
                        assert!(in_use + idle <= threads * 4 * mib, "{in_use} in use, {idle} idle");
                        drop(held_here);
                    }
                });
            }
        });
        assert_eq!(held(pool).0, 0);
    }
}
